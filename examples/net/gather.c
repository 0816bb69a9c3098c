/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * gather.c - asks several servers at once, and goes on when all have answered.
 *
 *     build/gather         (the servers are this program's own, on the loopback interface)
 *
 * What to notice: each request is a goroutine that sends what it got, with its status, its error
 * and how long it took, on a channel that has room for all. A collector counts the answers and
 * closes `done` with the last: any number may wait for that. The whole takes as long as the
 * slowest answer, not as long as all together; the server that never answers costs no more than
 * the limit.
 */
#define _GNU_SOURCE // strcasecmp
#define CSP_IMPLEMENTATION
#include "csp.h"
#include "http.h"

enum { REQUESTS = 6 };

typedef struct answer {
    int request, status, error;
    int64_t cost;
    char body[32];
} answer;

static csp_address site;
static csp_chan(bool) released;

static void respond(http_request *r, void *arg)
{
    (void)arg;
    if (strcmp(r->target, "/never") == 0) csp_recv(released, NULL); // not before all is over
    if (strcmp(r->target, "/slow") == 0) csp_sleep(100 * CSP_MILLISECOND);
    http_text(r, strcmp(r->target, "/none") == 0 ? 404 : 200, r->target + 1);
}

csp_task(serve_site, int, listener, csp_receiver(int), stop, csp_sender(bool), stopped)
{
    static const http_limits limits = {CSP_SECOND, CSP_SECOND, CSP_SECOND};
    http_run(listener, &limits, respond, NULL, stop);
    csp_close(stopped);
}

csp_task(ask, int, request, const char *, address, const char *, target, int64_t, limit,
         csp_sender(answer), out)
{
    char *body;
    int64_t t0 = csp_now();
    int n = http_get(address, target, &body, t0 + limit);
    answer a = {request, n < 0 ? 0 : n, n < 0 ? -n : 0, csp_now() - t0, ""};
    if (body != NULL) snprintf(a.body, sizeof a.body, "%s", body);
    free(body);
    csp_send(out, a);
}

csp_task(gather, csp_receiver(answer), in, answer *, all, csp_sender(bool), done)
{
    for (int i = 0; i < REQUESTS; i++) {
        answer a;
        csp_recv(in, &a);
        all[a.request] = a;
    }
    csp_close(done);
}

csp_main(argc, argv)
{
    static const struct {
        const char *target;
        int64_t limit;
    } ask_for[REQUESTS] = {{"/one", CSP_MINUTE},  {"/slow", CSP_MINUTE},
                           {"/none", CSP_MINUTE}, {"/never", 200 * CSP_MILLISECOND},
                           {"/slow", CSP_MINUTE}, {"/x", CSP_MINUTE}};
    int listener = csp_listen("127.0.0.1:0"), good = 0;
    if (listener < 0 || csp_local_address(listener, &site) < 0) return 1;
    released = csp_make(bool, 0);
    csp_chan(int) stop = csp_make(int, 1);
    csp_chan(bool) stopped = csp_make(bool, 0);
    csp_go(serve_site, listener, csp_recv_end(stop), csp_send_end(stopped));

    csp_chan(answer) answers = csp_make(answer, REQUESTS);
    csp_chan(bool) done = csp_make(bool, 0);
    answer all[REQUESTS];
    int64_t t0 = csp_now(), sum = 0;
    csp_go(gather, csp_recv_end(answers), all, csp_send_end(done));
    for (int i = 0; i < REQUESTS; i++) // the last is sent to a port without a server
        csp_go(ask, i, i == REQUESTS - 1 ? "127.0.0.1:1" : site.text, ask_for[i].target,
               ask_for[i].limit, csp_send_end(answers));
    csp_recv(done, NULL);
    int64_t total = csp_now() - t0;

    for (int i = 0; i < REQUESTS; i++) {
        printf("%-6s status %d, error %s, \"%s\"\n", ask_for[i].target, all[i].status,
               all[i].error == 0              ? "none"
               : all[i].error == ETIMEDOUT    ? "timeout"
               : all[i].error == ECONNREFUSED ? "refused"
                                              : strerror(all[i].error),
               all[i].body);
        fprintf(stderr, "%s: %d ms\n", ask_for[i].target, (int)(all[i].cost / CSP_MILLISECOND));
        good += all[i].status == 200;
        sum += all[i].cost;
    }
    printf("%d of %d are good; in less time than all of them took: %s\n", good, REQUESTS,
           total < sum ? "yes" : "no");
    csp_close(released);
    csp_close(stop);
    csp_recv(stopped, NULL);
    csp_unref(stop);
    csp_unref(stopped);
    csp_unref(released);
    csp_unref(answers);
    csp_unref(done);
    return 0;
}
