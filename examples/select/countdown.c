/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * countdown.c - a rocket leaves in ten seconds, unless return is pressed.
 *
 *     build/countdown [-1 | -2 | -3]
 *     build/countdown --simulate
 *
 * What to notice: the first version counts ticks and cannot be stopped. The second waits for the
 * end of ten seconds or for the key, whichever comes first; the third does so at each tick. The
 * key is read by a goroutine that does nothing else. The ticker is stopped when the launch is
 * over. In the simulation the ten seconds take no time, and are exact.
 */
// check: windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>
#include <string.h>

static int64_t start;

static void report(const char *what)
{
    printf("%4.1f s  %s\n", (double)(csp_now() - start) / CSP_SECOND, what);
    fflush(stdout);
}

static void countdown_1(csp_receiver(bool) abort_it)
{
    (void)abort_it;
    csp_ticker *ticker = csp_ticker_new(CSP_SECOND);
    for (int i = 10; i > 0; i--) csp_recv(csp_ticker_chan(ticker), NULL);
    csp_ticker_free(ticker);
    report("lift-off");
}

static void countdown_2(csp_receiver(bool) abort_it)
{
    switch (csp_select(CSP_RECV(abort_it, NULL), CSP_AFTER(10 * CSP_SECOND))) {
    case 0: report("launch aborted"); break;
    case 1: report("lift-off"); break;
    }
}

static void countdown_3(csp_receiver(bool) abort_it)
{
    char text[16];
    csp_ticker *ticker = csp_ticker_new(CSP_SECOND);
    bool go = true;
    for (int i = 10; go && i > 0; i--) {
        snprintf(text, sizeof text, "%d", i);
        report(text);
        go = csp_select(CSP_RECV(abort_it, NULL), CSP_RECV(csp_ticker_chan(ticker), NULL)) == 1;
    }
    csp_ticker_free(ticker);
    report(go ? "lift-off" : "launch aborted");
}

static void (*const countdown[])(csp_receiver(bool)) = {countdown_1, countdown_2, countdown_3};

/* ---- with a key ---- */

csp_task(watch_key, csp_sender(bool), abort_it)
{
    char c;
    if (csp_read(0, &c, 1) == 1) csp_send(abort_it, true);
}

static void launch(void *arg)
{
    static csp_chan(bool) abort_it; // kept: the watcher is still there when we leave
    abort_it = csp_make(bool, 1);
    start = csp_now();
    csp_go(watch_key, csp_send_end(abort_it));
    countdown[*(int *)arg - 1](csp_recv_end(abort_it));
}

/* ---- in virtual time ---- */

typedef struct attempt {
    int version;
    int64_t abort_after; // 0: not at all
} attempt;

csp_task(press_key, csp_sender(bool), abort_it, int64_t, after)
{
    csp_sleep(after);
    csp_send(abort_it, true);
}

static void simulated(void *arg)
{
    attempt *a = (attempt *)arg;
    csp_chan(bool) abort_it = csp_make(bool, 1);
    start = csp_now();
    if (a->abort_after > 0) csp_go(press_key, csp_send_end(abort_it), a->abort_after);
    printf("version %d%s\n", a->version, a->abort_after > 0 ? ", a key is pressed" : "");
    countdown[a->version - 1](csp_recv_end(abort_it));
    csp_unref(abort_it);
}

int main(int argc, char **argv)
{
    static attempt attempts[] = {
        {1, 0}, {2, 0}, {3, 0}, {2, 2500 * CSP_MILLISECOND}, {3, 2500 * CSP_MILLISECOND}};
    int version = argc > 1 && argv[1][0] == '-' ? argv[1][1] - '0' : 3;
    if (argc > 1 && strcmp(argv[1], "--simulate") == 0) {
        for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++)
            csp_simulate(&(csp_sim){.file = stderr}, simulated, &attempts[i]);
    } else if (version >= 1 && version <= 3) {
        csp_run(launch, &version);
    }
    return 0;
}
