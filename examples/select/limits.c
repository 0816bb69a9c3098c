/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * limits.c - limits of time, and limits of rate.
 *
 * What to notice: three jobs of one, two and three seconds are given a limit in three ways: the
 * case CSP_AFTER, a tick, a timer of its own. A job that comes too late finds room in its channel
 * and ends. A rate limiter is a channel that a ticker fills: a goroutine that has taken a token
 * may go on, and a limiter that holds a few of them allows bursts. All of it runs in virtual time,
 * where seconds cost nothing and every number below is exact.
 */
// check: arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

static int64_t start;

static double seconds(void)
{
    return (double)(csp_now() - start) / CSP_SECOND;
}

/* ---- of time ---- */

csp_task(job, int64_t, takes, csp_chan(double), done)
{
    csp_sleep(takes);
    csp_send(done, seconds());
    csp_unref(done);
}

static void by_after(csp_receiver(double) done, int64_t limit, double *took)
{
    csp_select(CSP_RECV(done, took), CSP_AFTER(limit));
}

static void by_tick(csp_receiver(double) done, int64_t limit, double *took)
{
    csp_ticker *ticker = csp_ticker_new(limit);
    csp_select(CSP_RECV(done, took), CSP_RECV(csp_ticker_chan(ticker), NULL));
    csp_ticker_free(ticker);
}

static void by_timer(csp_receiver(double) done, int64_t limit, double *took)
{
    csp_timer *timer = csp_timer_new(limit);
    csp_select(CSP_RECV(done, took), CSP_RECV(csp_timer_chan(timer), NULL));
    csp_timer_free(timer);
}

static void limited(const char *how, void (*wait)(csp_receiver(double), int64_t, double *),
                    int64_t takes, int64_t limit)
{
    csp_chan(double) done = csp_make(double, 1);
    double took = 0;
    start = csp_now();
    csp_go(job, takes, csp_ref(done));
    wait(csp_recv_end(done), limit, &took);
    if (took > 0)
        printf("%s: a job took %.1f s\n", how, took);
    else
        printf("%s: timeout after %.1f s\n", how, seconds());
    csp_unref(done);
}

static void time_limits(void *unused)
{
    (void)unused;
    limited("after", by_after, CSP_SECOND, 2 * CSP_SECOND);
    limited("tick", by_tick, 2 * CSP_SECOND, 3 * CSP_SECOND);
    limited("timer", by_timer, 3 * CSP_SECOND, 4 * CSP_SECOND);
    limited("after", by_after, 3 * CSP_SECOND, CSP_SECOND / 2);
}

/* ---- of rate ---- */

csp_task(refill, csp_sender(bool), tokens, int64_t, every, csp_receiver(bool), stop)
{
    csp_ticker *ticker = csp_ticker_new(every);
    while (csp_select(CSP_RECV(csp_ticker_chan(ticker), NULL), CSP_RECV(stop, NULL)) == 0)
        csp_try_send(tokens, true); // full: they do not pile up
    csp_ticker_free(ticker);
    csp_close(tokens);
}

static void rate_limit(void *unused)
{
    csp_chan(bool) tokens = csp_make(bool, 3), stop = csp_make(bool, 0);
    (void)unused;
    start = csp_now();
    for (int i = 0; i < 3; i++) csp_send(tokens, true);
    csp_go(refill, csp_send_end(tokens), 200 * CSP_MILLISECOND, csp_recv_end(stop));
    for (int request = 1; request <= 10; request++) {
        csp_recv(tokens, NULL);
        printf("request %2d at %.1f s\n", request, seconds());
        if (request == 6) csp_sleep(1100 * CSP_MILLISECOND); // three tokens gather, not five
    }
    csp_close(stop);
    csp_range(t, tokens) (void)t;
    csp_unref(tokens);
    csp_unref(stop);
}

int main(void)
{
    csp_simulate(&(csp_sim){.file = stderr}, time_limits, NULL);
    csp_simulate(&(csp_sim){.file = stderr}, rate_limit, NULL);
    return 0;
}
