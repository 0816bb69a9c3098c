/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * shutdown.c - how a program ends well: by a closed channel, by main, by a signal.
 *
 *     build/shutdown        and: kill it, or ^C
 *
 * What to notice: closing one channel tells ten workers to go home, and main waits for each. A
 * daemon goroutine is one that main does not wait for: it ends with main, without a word. SIGTERM
 * is a value in a channel; what follows is a clean-up in ordinary code with a deadline of its own:
 * the step that takes too long is given up, and the program says so and ends all the same.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <signal.h>
#include <stdio.h>

enum { WORKERS = 10 };

csp_task(worker, csp_receiver(bool), quit, csp_sender(bool), home)
{
    while (csp_select(CSP_RECV(quit, NULL), CSP_AFTER(100 * CSP_MILLISECOND)) == 1)
        fprintf(stderr, "at work\n");
    csp_send(home, true);
}

csp_task(daemon_task)
{
    for (;;) csp_sleep(CSP_SECOND); // has no end, and needs none
}

csp_task(clean_up, int64_t, takes, csp_ctx *, ctx, csp_sender(csp_status), done)
{
    csp_select(CSP_AFTER(takes), CSP_DONE(ctx));
    csp_send(done, csp_ctx_status(ctx));
}

static void step(const char *name, int64_t takes, csp_ctx *ctx)
{
    csp_chan(csp_status) done = csp_make(csp_status, 0);
    csp_status status;
    csp_go(clean_up, takes, ctx, csp_send_end(done));
    csp_recv(done, &status);
    printf("%s: %s\n", name, csp_status_name(status));
    csp_unref(done);
}

csp_main(argc, argv)
{
    csp_chan(int) signals = csp_make(int, 1);
    csp_chan(bool) quit = csp_make(bool, 0), home = csp_make(bool, 0);
    int signo = 0;
    csp_notify(signals, SIGTERM, SIGINT);
    csp_go(daemon_task);
    for (int i = 0; i < WORKERS; i++) csp_go(worker, csp_recv_end(quit), csp_send_end(home));
    fprintf(stderr, "listening on signals\n");

    csp_recv(signals, &signo);
    printf("signal %d\n", signo);
    csp_close(quit);
    for (int i = 0; i < WORKERS; i++) csp_recv(home, NULL);
    while (csp_count() > 2) csp_yield(); // the last ones are on their way out
    printf("%d workers are home, %d goroutines are left\n", WORKERS, (int)csp_count());

    csp_ctx *ctx = csp_ctx_with_timeout(csp_ctx_background(), 200 * CSP_MILLISECOND);
    step("save the work", 0, ctx);
    step("say good-bye to a server that is down", CSP_HOUR, ctx);
    csp_ctx_unref(ctx);
    csp_notify_stop(signals);
    csp_unref(signals);
    csp_unref(quit);
    csp_unref(home);
    printf("the end, and the daemon's\n");
    return 0;
}
