/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * showcase.c - what `make run` shows: a hundred thousand goroutines at work, for eight seconds.
 *
 *     build/showcase [seconds]
 *
 * What to notice: the work comes in four parts, one after the other - sleepers that dream and
 * wake, pairs that play ping-pong, a prime sieve, bursts of short-lived goroutines - and all of it
 * runs on as many threads as there are processors. The picture is drawn by one more goroutine, ten
 * times a second, from csp_get_stats(); it needs no special treatment to be on time. At the end
 * main closes one channel, and every goroutine that selects on it ends. Without a terminal there
 * is a line a second.
 */
#define _GNU_SOURCE // isatty, sigaction
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLEEPERS = 100000, PAIRS = 64, PRIMES = 400, BURST = 1000, WIDTH = 60, HEIGHT = 8 };

static csp_chan(bool) quit; // closed at the end: a receive is then ready for everybody
static struct {
    uint64_t naps, round_trips, primes, joined; // atomic: one more for each, relaxed will do
} done;

static void add(uint64_t *counter, uint64_t n)
{
    __atomic_add_fetch(counter, n, __ATOMIC_RELAXED);
}

static uint64_t get(uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static bool leaving(void)
{
    return csp_try_recv(quit, NULL) == CSP_CLOSED;
}

/* ---- the work ---- */

csp_task(sleeper, unsigned, seed)
{
    while (!leaving()) {
        seed = seed * 1664525u + 1013904223u;
        csp_sleep((100 + (int64_t)(seed >> 23)) * CSP_MILLISECOND); // 0.1 to 0.6 seconds
        add(&done.naps, 1);
    }
}

csp_task(bedtime) // in a goroutine of its own, so that the picture moves while the crowd gathers
{
    csp_opts small = {.stack_size = 16 * 1024}; // many of them: less address space each
    for (unsigned i = 0; i < SLEEPERS && !leaving(); i++)
        csp_go_with(&small, sleeper, i * 2654435761u);
}

csp_task(partner, csp_receiver(int), in, csp_sender(int), out)
{
    csp_range(ball, in) csp_send(out, ball);
    csp_close(out);
}

csp_task(player, int, ball)
{
    csp_chan(int) there = csp_make(int, 0), back = csp_make(int, 0);
    csp_go(partner, csp_recv_end(there), csp_send_end(back));
    while (!leaving()) {
        csp_send(there, ball);
        csp_recv(back, &ball);
        add(&done.round_trips, 1);
    }
    csp_close(there);
    csp_recv(back, NULL);
    csp_unref(there);
    csp_unref(back);
}

csp_task(numbers, csp_sender(int), out, csp_receiver(bool), enough)
{
    for (int i = 2; csp_select(CSP_SEND(out, i), CSP_RECV(enough, NULL)) == 0; i++) continue;
    csp_close(out);
}

csp_task(filter, csp_receiver(int), in, csp_sender(int), out, int, prime)
{
    csp_range(n, in) {
        if (n % prime != 0) csp_send(out, n);
    }
    csp_unref(in);
    csp_close(out);
}

csp_task(sieve)
{
    while (!leaving()) {
        csp_chan(int) c = csp_make(int, 0);
        csp_chan(bool) enough = csp_make(bool, 0);
        csp_go(numbers, csp_send_end(c), csp_recv_end(enough));
        for (int prime, i = 0; i < PRIMES && !leaving(); i++) {
            csp_chan(int) next = csp_make(int, 0);
            csp_recv(c, &prime);
            csp_go(filter, csp_recv_end(c), csp_send_end(next), prime);
            add(&done.primes, 1);
            c = next;
        }
        csp_close(enough);
        csp_range(n, c) (void)n; // what is still in the chain
        csp_unref(c);
        csp_unref(enough);
    }
}

csp_task(leaf, csp_sender(int), out)
{
    csp_send(out, 1);
}

csp_task(bursts)
{
    csp_chan(int) c = csp_make(int, BURST);
    while (!leaving()) {
        for (int i = 0; i < BURST; i++) csp_go(leaf, csp_send_end(c));
        for (int i = 0; i < BURST; i++) csp_recv(c, NULL);
        add(&done.joined, BURST);
    }
    csp_unref(c);
}

static const char *start_part(int part)
{
    switch (part) {
    case 0: csp_go(bedtime); return "100,000 sleepers";
    case 1:
        for (int i = 0; i < PAIRS; i++) csp_go(player, i);
        return "+ 64 pairs playing ping-pong";
    case 2: csp_go(sieve); return "+ a prime sieve";
    default: csp_go(bursts); return "+ bursts of 1000 goroutines";
    }
}

/* ---- the picture ---- */

typedef struct view {
    bool live;
    csp_stats last;
    int64_t last_time;
    double rate[WIDTH]; // switches per second, the oldest first
} view;

static void show_cursor(int signo)
{
    static const char on[] = "\033[?25h\n";
    if (write(1, on, sizeof on - 1) < 0) signo = SIGTERM;
    _exit(128 + signo);
}

static void chart(const view *v)
{
    double top = 1e6;
    for (int i = 0; i < WIDTH; i++) top = v->rate[i] > top ? v->rate[i] : top;
    for (int y = HEIGHT; y > 0; y--) {
        printf("\033[K%8.1f |\033[36m", top * y / HEIGHT / 1e6);
        for (int x = 0; x < WIDTH; x++) {
            double h = v->rate[x] / top * HEIGHT - (y - 1);
            putchar(h >= 0.75 ? '#' : h >= 0.4 ? '+' : h >= 0.1 ? '.' : ' ');
        }
        printf("\033[0m\n");
    }
    printf("\033[K         +");
    for (int x = 0; x < WIDTH; x++) putchar('-');
    printf("\n\033[K          million switches per second, the last six seconds\n");
}

static void draw(view *v, const char *part, double elapsed)
{
    csp_stats s;
    int64_t now = csp_now();
    csp_get_stats(&s);
    double dt = (double)(now - v->last_time) / 1e9;
    double rate = (double)(s.switches - v->last.switches) / dt;
    double steals = (double)(s.steals - v->last.steals) / dt;
    double spawns = (double)(s.spawned - v->last.spawned) / dt;
    memmove(v->rate, v->rate + 1, sizeof v->rate - sizeof v->rate[0]);
    v->rate[WIDTH - 1] = rate;
    v->last = s;
    v->last_time = now;
    if (!v->live) {
        printf("%4.1f s %7lld goroutines %3lld threads %6.2f M switches/s %6.0f steals/s "
               "%7.0f started/s %s\n",
               elapsed, (long long)s.goroutines, (long long)s.threads, rate / 1e6, steals, spawns,
               part);
        fflush(stdout);
        return;
    }
    printf("\033[H\033[K  csp.h " CSP_VERSION "   %4.1f s   %s\n\033[K\n", elapsed, part);
    printf("\033[K  goroutines %9lld     switches/s %8.2f M     steals/s  %9.0f\n",
           (long long)s.goroutines, rate / 1e6, steals);
    printf("\033[K  threads    %9lld     started/s  %8.2f M     hand-offs %9llu\n\033[K\n",
           (long long)s.threads, spawns / 1e6, (unsigned long long)s.handoffs);
    chart(v);
    fflush(stdout);
}

csp_main(argc, argv)
{
    int seconds = argc > 1 && atoi(argv[1]) > 0 ? atoi(argv[1]) : 8;
    view v = {.live = isatty(1) != 0};
    const char *part = "";
    quit = csp_make(bool, 0);
    if (v.live) {
        signal(SIGINT, show_cursor);
        signal(SIGTERM, show_cursor);
        printf("\033[2J\033[?25l");
    }

    csp_ticker *ticker = csp_ticker_new(v.live ? CSP_SECOND / 10 : CSP_SECOND);
    int64_t start = csp_now(), length = seconds * CSP_SECOND, now = start;
    csp_get_stats(&v.last);
    v.last_time = start;
    for (int parts = 0; now - start < length + CSP_SECOND / 20; now = csp_now()) {
        if (parts < 4 && now - start >= length / 4 * parts) part = start_part(parts++);
        csp_recv(csp_ticker_chan(ticker), NULL);
        draw(&v, part, (double)(csp_now() - start) / 1e9);
    }
    csp_ticker_free(ticker);

    csp_close(quit);
    while (csp_count() > 1) csp_sleep(CSP_MILLISECOND); // the sleepers wake up first
    if (v.live) printf("\033[?25h\n");
    printf("naps %llu, round trips %llu, primes %llu, joined %llu; all %llu have gone home\n",
           (unsigned long long)get(&done.naps), (unsigned long long)get(&done.round_trips),
           (unsigned long long)get(&done.primes), (unsigned long long)get(&done.joined),
           (unsigned long long)v.last.spawned);
    csp_unref(quit);
    return 0;
}
