/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * timer_call.c - timers that call a function: a thousand requests with a limit of time each.
 *
 * What to notice: a timer of csp_timer_call has no goroutine of its own. Its function runs when its
 * time has come, after those that were due before it. It must not block: it may try to send, close,
 * cancel, count down, start a goroutine, and stop, reset or free timers. A call that would wait
 * ends the program with a message. Most requests here are answered in time, and their timers are
 * freed before they fire: then the function does not run.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

enum { REQUESTS = 1000 };

typedef struct request {
    int number, answer;
    csp_timer *limit;
    csp_chan(int) reply; // has room for one: neither side waits
} request;

static void too_late(void *arg)
{
    request *r = arg;
    csp_try_send(r->reply, -1);
}

csp_task(serve, request *, r)
{
    if (r->number % 100 != 0) csp_try_send(r->reply, r->number * 2); // else it is never answered
}

csp_main(argc, argv)
{
    static request r[REQUESTS];
    int answered = 0, late = 0, prevented = 0;
    for (int i = 0; i < REQUESTS; i++) {
        r[i] = (request){.number = i, .reply = csp_make(int, 1)};
        int64_t ns = i % 100 == 0 ? 10 * CSP_MILLISECOND : CSP_HOUR;
        r[i].limit = csp_timer_call(ns, too_late, &r[i]); // sees all that was written before
        csp_go(serve, &r[i]);
    }
    for (int i = 0; i < REQUESTS; i++) {
        csp_recv(r[i].reply, &r[i].answer);
        if (r[i].answer == i * 2)
            answered++;
        else
            late++;
        if (csp_timer_stop(r[i].limit)) prevented++; // true: too_late will not run
        csp_timer_free(r[i].limit);
        csp_unref(r[i].reply); // false: it has run, and sent: nothing of it is left
    }
    printf("%d answered, %d too late\n", answered, late);
    printf("limits that were taken back: %d\n", prevented);
    return 0;
}
