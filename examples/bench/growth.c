/* growth.c - how the cost of one operation grows with the number of things there are:
 * `growth ROW N` prints "ROW N nanoseconds", the best of some runs. growth.sh runs it over a range.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static void must(bool ok, const char *what)
{
    if (!ok) csp_panic("%s failed", what);
}

static double best = 1e30;

static void took(int64_t start, int64_t ops)
{
    double ns = (double)(csp_now() - start) / (double)ops;
    if (ns < best) best = ns;
}

/* A yield, with n goroutines that do nothing else. */
static int turns;
csp_task(yields, csp_waitgroup *, ready, csp_waitgroup *, done)
{
    csp_waitgroup_done(ready);
    csp_waitgroup_wait(ready);
    for (int i = 0; i < turns; i++) csp_yield();
    csp_waitgroup_done(done);
}

static void goroutines(int n)
{
    csp_waitgroup ready = {0}, done = {0};
    turns = 2000000 / n + 1;
    csp_waitgroup_add(&ready, n + 1);
    csp_waitgroup_add(&done, n);
    for (int i = 0; i < n; i++) csp_go(yields, &ready, &done);
    while (csp_count() < n) csp_yield();
    csp_waitgroup_done(&ready);
    csp_waitgroup_wait(&ready);
    int64_t start = csp_now();
    csp_waitgroup_wait(&done);
    took(start, (int64_t)n * turns);
}

/* A goroutine started and ended while n are parked. */
csp_task(parks, csp_receiver(int), gate, csp_waitgroup *, done)
{
    csp_recv(gate, NULL);
    csp_waitgroup_done(done);
}

csp_task(nothing, csp_waitgroup *, done)
{
    csp_waitgroup_done(done);
}

static void parked(int n)
{
    csp_chan(int) gate = csp_make(int, 0);
    csp_waitgroup done = {0}, batch = {0};
    csp_waitgroup_add(&done, n);
    for (int i = 0; i < n; i++) csp_go(parks, csp_recv_end(gate), &done);
    csp_sleep(CSP_MILLISECOND);
    int64_t start = csp_now();
    for (int i = 0; i < 300; i++) {
        csp_waitgroup_add(&batch, 1000);
        for (int k = 0; k < 1000; k++) csp_go(nothing, &batch);
        csp_waitgroup_wait(&batch);
    }
    took(start, 300000);
    csp_close(gate);
    csp_waitgroup_wait(&done);
    csp_unref(gate);
}

/* An element through a channel that holds n. */
csp_task(feeds, csp_sender(int), out)
{
    for (int i = 0; i < 1000000; i++) csp_send(out, i);
    csp_close(out);
}

static void capacity(int n)
{
    csp_chan(int) c = csp_make(int, n);
    csp_go(feeds, csp_send_end(c));
    int64_t start = csp_now(), sum = 0;
    csp_range(v, c) sum += v;
    took(start, 1000000);
    must(sum == 499999500000, "sum");
    csp_unref(c);
}

/* A select over n channels one of which is ready, and the send that makes it so. */
static void cases(int n)
{
    csp_case *all = malloc((size_t)n * sizeof *all);
    csp_chan(int) *c = malloc((size_t)n * sizeof *c);
    int v = 0, rounds = 2000000 / n + 100;
    for (int i = 0; i < n; i++) {
        c[i] = csp_make(int, 1);
        all[i] = CSP_RECV(c[i], &v);
    }
    int64_t start = csp_now();
    for (int i = 0; i < rounds; i++) {
        csp_send(c[i % n], i);
        csp_select_n(all, n);
    }
    took(start, rounds);
    for (int i = 0; i < n; i++) csp_unref(c[i]);
    free(c);
    free(all);
}

/* A timer set and stopped while n others wait. */
static void timers(int n)
{
    csp_timer **all = malloc((size_t)n * sizeof *all);
    for (int i = 0; i < n; i++) all[i] = csp_timer_new(CSP_HOUR + i * CSP_MILLISECOND);
    int64_t start = csp_now();
    for (int i = 0; i < 200000; i++) {
        csp_timer *t = csp_timer_new(CSP_HOUR + i * 7919 % n * CSP_MILLISECOND);
        csp_timer_free(t);
    }
    took(start, 200000);
    for (int i = 0; i < n; i++) csp_timer_free(all[i]);
    free(all);
}

/* A byte there and back over each of n connections, all at once. */
csp_task(serves, int, fd)
{
    char byte;
    while (csp_read(fd, &byte, 1) == 1) csp_write(fd, &byte, 1);
    csp_close_fd(fd);
}

csp_task(asks, int, fd, int, rounds, csp_waitgroup *, done)
{
    char byte = 0;
    for (int i = 0; i < rounds; i++)
        must(csp_write(fd, &byte, 1) == 1 && csp_read(fd, &byte, 1) == 1, "echo");
    csp_close_fd(fd);
    csp_waitgroup_done(done);
}

static void connections(int n)
{
    struct rlimit files = {(rlim_t)2 * (rlim_t)n + 100, (rlim_t)2 * (rlim_t)n + 100};
    csp_waitgroup done = {0};
    int rounds = 100000 / n, (*fds)[2] = malloc((size_t)n * sizeof *fds);
    must(setrlimit(RLIMIT_NOFILE, &files) == 0, "setrlimit");
    csp_waitgroup_add(&done, n);
    for (int i = 0; i < n; i++) {
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]) == 0, "socketpair");
        csp_go(serves, fds[i][0]);
    }
    int64_t start = csp_now();
    for (int i = 0; i < n; i++) csp_go(asks, fds[i][1], rounds, &done);
    csp_waitgroup_wait(&done);
    took(start, (int64_t)n * rounds);
    free(fds);
}

static const struct {
    const char *name;
    void (*run)(int n);
} rows[] = {
    {"goroutines", goroutines}, {"parked", parked}, {"capacity", capacity},
    {"cases", cases},           {"timers", timers}, {"connections", connections},
};

csp_main(argc, argv)
{
    int n = argc == 3 ? atoi(argv[2]) : 0;
    for (size_t i = 0; n > 0 && i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(argv[1], rows[i].name) == 0) {
            for (int k = 0; k < (n >= 100000 ? 2 : 5); k++) rows[i].run(n);
            printf("%s %d %.1f\n", argv[1], n, best);
            return 0;
        }
    fprintf(stderr, "growth: ROW N\n");
    return 1;
}
