/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * after_func.c - a function that runs later, unless it is stopped: sessions that expire.
 *
 * What to notice: between its start and its end a pending function costs a timer and no goroutine.
 * It runs in a goroutine of its own, at the same time as everything else: what it touches needs a
 * lock. csp_timer_stop says true when the function will not run. When it says false the function
 * has been started, and what it uses may not be freed before it has ended. csp_timer_reset starts
 * the time again.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

typedef struct session {
    const char *name;
    csp_timer *expiry;
    csp_sender(int) expired;
    int number;
} session;

static void expire(void *arg)
{
    session *s = arg;
    csp_send(s->expired, s->number);
}

static void session_start(session *s, const char *name, int number, csp_sender(int) expired,
                          int64_t ns)
{
    *s = (session){.name = name, .number = number, .expired = expired};
    s->expiry = csp_after_func(ns, expire, s); // sees all that was written before
}

csp_main(argc, argv)
{
    csp_chan(int) expired = csp_make(int, 0);
    session s[3];
    int64_t t0 = csp_now();
    session_start(&s[0], "ann", 0, csp_send_end(expired), 10 * CSP_MILLISECOND);
    session_start(&s[1], "bob", 1, csp_send_end(expired), CSP_HOUR);
    session_start(&s[2], "eve", 2, csp_send_end(expired), CSP_HOUR);

    printf("bob logs out: %s\n", csp_timer_stop(s[1].expiry) ? "in time" : "too late");
    printf("eve gets less time: %s\n",
           csp_timer_reset(s[2].expiry, 300 * CSP_MILLISECOND) ? "in time" : "too late");
    for (int i = 0; i < 2; i++) {
        int who;
        csp_recv(expired, &who);
        printf("%s has expired\n", s[who].name);
    }
    printf("not before their time: %s\n", csp_now() - t0 >= 300 * CSP_MILLISECOND ? "yes" : "no");
    printf("ann logs out: %s\n", csp_timer_stop(s[0].expiry) ? "in time" : "too late");

    for (int i = 0; i < 3; i++) csp_timer_free(s[i].expiry);
    csp_unref(expired); // each function has sent: nothing of theirs is left
    return 0;
}
