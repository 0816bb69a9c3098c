/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * timers.c - a timer that is set again, a timer that is stopped, a ticker that changes its pace.
 *
 * What to notice: a watchdog is one timer that every sign of life sets again; it needs no new
 * timer for each message, and no goroutine. After csp_timer_reset and csp_timer_stop no stale
 * value is in the channel, so nothing has to be drained; both say whether they came in time. A
 * stopped ticker keeps its channel and can be set again: that is how a poll slows down when
 * nothing happens.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

csp_task(speak, csp_sender(int), out, int, times)
{
    for (int i = 1; i <= times; i++) csp_send(out, i);
}

static void watchdog(void)
{
    csp_chan(int) life = csp_make(int, 0);
    csp_timer *silence = csp_timer_new(300 * CSP_MILLISECOND);
    csp_go(speak, csp_send_end(life), 3);
    int v, signs = 0, in_time = 0;
    while (csp_select_first(CSP_RECV(life, &v), CSP_RECV(csp_timer_chan(silence), NULL)) == 0) {
        signs++;
        in_time += csp_timer_reset(silence, 300 * CSP_MILLISECOND);
    }
    printf("%d signs of life, then silence; %s\n", signs,
           in_time == signs ? "each in time" : "not each in time");
    csp_timer_free(silence);
    csp_unref(life);
}

static void stopped(void)
{
    csp_timer *t = csp_timer_new(CSP_HOUR);
    printf("stopped in time: %s\n", csp_timer_stop(t) ? "yes" : "no");
    printf("stopped again: %s\n", csp_timer_stop(t) ? "in time" : "it was not running");
    csp_timer_reset(t, CSP_MILLISECOND);
    csp_recv(csp_timer_chan(t), NULL);
    printf("stopped after its value was received: %s\n",
           csp_timer_stop(t) ? "in time" : "too late");
    csp_timer_free(t);
}

static void pace(void)
{
    csp_ticker *ticker = csp_ticker_new(CSP_MILLISECOND);
    int64_t t;
    csp_recv(csp_ticker_chan(ticker), NULL);
    int64_t t0 = csp_now();
    csp_ticker_reset(ticker, 20 * CSP_MILLISECOND); // nothing happens: less often
    for (int i = 0; i < 2; i++) csp_recv(csp_ticker_chan(ticker), &t);
    printf("slower: %s\n", t - t0 >= 40 * CSP_MILLISECOND ? "yes" : "no");
    csp_ticker_stop(ticker);
    int what = csp_select(CSP_RECV(csp_ticker_chan(ticker), NULL), CSP_AFTER(40 * CSP_MILLISECOND));
    printf("stopped: %s\n", what == 1 ? "no tick" : "a tick");
    csp_ticker_free(ticker);
}

csp_main(argc, argv)
{
    watchdog();
    stopped();
    pace();
    return 0;
}
