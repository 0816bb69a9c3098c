/* scale.c - what many cores would wait for, counted: `scale ROW PROCS` does the same work once for
 * each of PROCS processors, side by side, and prints a line of numbers, the columns of scale.sh:
 * how often 1,000 operations do what processors do to each other. Time says nothing of 64
 * processors on a machine with two; counts do. See COUNTS in csp.h.
 */
#define CSP_COUNT 1
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdlib.h>
#include <string.h>

enum { OPERATIONS = 400000 };
static int procs;
static int64_t operations; // atomic

static void did(int64_t n)
{
    __atomic_fetch_add(&operations, n, __ATOMIC_RELAXED);
}

static double per_1000(uint64_t count)
{
    return (double)count * 1000 / (double)operations;
}

typedef void work(int n);
csp_task(works, work *, fn, int, n, csp_waitgroup *, wg)
{
    fn(n);
    csp_waitgroup_done(wg);
}

static void side_by_side(work *fn, int n)
{
    csp_waitgroup wg = {0};
    csp_waitgroup_add(&wg, procs);
    for (int i = 0; i < procs; i++) csp_go(works, fn, n, &wg);
    csp_waitgroup_wait(&wg);
}

csp_task(yields, int, n, csp_waitgroup *, wg)
{
    for (int i = 0; i < n; i++) csp_yield();
    csp_waitgroup_done(wg);
}

static void yield(int n)
{
    csp_waitgroup wg = {0};
    csp_waitgroup_add(&wg, 4);
    for (int i = 0; i < 4; i++) csp_go(yields, n / 4, &wg);
    csp_waitgroup_wait(&wg);
    did(n);
}

csp_task(sends, csp_sender(int), out, int, n, csp_waitgroup *, wg)
{
    for (int i = 0; i < n; i++) csp_send(out, i);
    csp_waitgroup_done(wg);
}

csp_task(receives, csp_receiver(int), in, csp_waitgroup *, wg)
{
    csp_range(v, in) (void)v;
    csp_waitgroup_done(wg);
}

/* Senders and receivers of one channel. */
static void channel(int n, int capacity, int each)
{
    csp_chan(int) c = csp_make(int, capacity);
    csp_waitgroup senders = {0}, receivers = {0};
    csp_waitgroup_add(&senders, each);
    csp_waitgroup_add(&receivers, each);
    for (int i = 0; i < each; i++) csp_go(receives, csp_recv_end(c), &receivers);
    for (int i = 0; i < each; i++) csp_go(sends, csp_send_end(c), n / each, &senders);
    csp_waitgroup_wait(&senders);
    csp_close(c);
    csp_waitgroup_wait(&receivers);
    csp_unref(c);
    did(n);
}

static void ping_pong(int n)
{
    channel(n, 0, 1);
}

static void buffered(int n)
{
    channel(n, 128, 1);
}

static void mpmc(int n)
{
    channel(n, 128, 4);
}

static void select4(int n)
{
    csp_chan(int) c[4];
    csp_waitgroup wg = {0};
    int v = 0;
    csp_waitgroup_add(&wg, 4);
    for (int i = 0; i < 4; i++) {
        c[i] = csp_make(int, 0);
        csp_go(sends, csp_send_end(c[i]), n / 4, &wg);
    }
    for (int i = 0; i < n / 4 * 4; i++)
        csp_select(CSP_RECV(c[0], &v), CSP_RECV(c[1], &v), CSP_RECV(c[2], &v), CSP_RECV(c[3], &v));
    csp_waitgroup_wait(&wg);
    for (int i = 0; i < 4; i++) csp_unref(c[i]);
    did(n);
}

csp_task(trivial, csp_waitgroup *, wg)
{
    csp_waitgroup_done(wg);
}

static void spawn_join(int n)
{
    for (int k = 0; k < n / 100; k++) {
        csp_waitgroup wg = {0};
        csp_waitgroup_add(&wg, 100);
        for (int i = 0; i < 100; i++) csp_go(trivial, &wg);
        csp_waitgroup_wait(&wg);
    }
    did(n);
}

csp_task_declare(node, csp_sender(int64_t), out, int, size);
csp_task(node, csp_sender(int64_t), out, int, size)
{
    int64_t sum = 1, v = 0;
    if (size > 1) {
        csp_chan(int64_t) c = csp_make(int64_t, 0);
        for (int i = 0; i < 10; i++) csp_go(node, csp_send_end(c), size / 10);
        for (int i = 0; i < 10 && csp_recv(c, &v); i++) sum += v;
        csp_unref(c);
    }
    csp_send(out, sum);
}

/* One tree, for all processors. */
static void skynet(int n)
{
    csp_chan(int64_t) c = csp_make(int64_t, 0);
    int64_t sum = 0;
    csp_go(node, csp_send_end(c), n);
    csp_recv(c, &sum);
    csp_unref(c);
    did(sum);
}

static void lock_it(csp_mutex *mu, int n)
{
    for (int i = 0; i < n; i++) {
        csp_mutex_lock(mu);
        csp_mutex_unlock(mu);
    }
}

csp_task(locks, csp_mutex *, mu, int, n, csp_waitgroup *, wg)
{
    lock_it(mu, n);
    csp_waitgroup_done(wg);
}

static void mutex(int n)
{
    csp_mutex mu = {0};
    csp_waitgroup wg = {0};
    csp_waitgroup_add(&wg, 8);
    for (int i = 0; i < 8; i++) csp_go(locks, &mu, n / 8, &wg);
    csp_waitgroup_wait(&wg);
    did(n);
}

csp_task(serves, int, fd)
{
    char buffer[64];
    for (csp_ssize k; (k = csp_read(fd, buffer, sizeof buffer)) > 0;)
        if (csp_write_full(fd, buffer, (size_t)k) < 0) break;
    csp_close_fd(fd);
}

csp_task(accepts, int, listener, int, n)
{
    for (int fd; n > 0 && (fd = csp_accept(listener)) >= 0; n--) csp_go(serves, fd);
}

csp_task(asks, const char *, address, int, n, csp_waitgroup *, wg)
{
    char message[64] = "";
    int fd = csp_dial(address);
    if (fd < 0) csp_panic("dial");
    for (int i = 0; i < n; i++)
        if (csp_write_full(fd, message, sizeof message) < 0 ||
            csp_read_full(fd, message, sizeof message) != sizeof message)
            csp_panic("echo");
    csp_close_fd(fd);
    csp_waitgroup_done(wg);
}

static void echo(int n)
{
    csp_address address;
    csp_waitgroup wg = {0};
    int listener = csp_listen("127.0.0.1:0");
    if (listener < 0 || csp_local_address(listener, &address) != 0) csp_panic("listen");
    csp_waitgroup_add(&wg, 4);
    csp_go(accepts, listener, 4);
    for (int i = 0; i < 4; i++) csp_go(asks, address.text, n / 4, &wg);
    csp_waitgroup_wait(&wg);
    csp_close_fd(listener);
    did(n);
}

static void fires(void *arg)
{
    csp_waitgroup_done(arg);
}

/* Set, and half of them stopped. */
static void timers(int n)
{
    enum { LOT = 100 };
    csp_waitgroup wg = {0};
    for (int k = 0; k < n / LOT; k++) {
        csp_timer *t[LOT];
        csp_waitgroup_add(&wg, LOT);
        for (int i = 0; i < LOT; i++)
            t[i] = csp_after_func((1 + i % 10) * CSP_MILLISECOND, fires, &wg);
        for (int i = 0; i < LOT; i++) {
            if (i % 2 != 0 && csp_timer_stop(t[i])) csp_waitgroup_done(&wg);
            if (i % 2 != 0) csp_timer_free(t[i]);
        }
        csp_waitgroup_wait(&wg);
        for (int i = 0; i < LOT; i += 2) csp_timer_free(t[i]);
    }
    did(n);
}

/* Each processor's goroutine is woken 1,000 times a second, and wakes another one. */
static void idle(int n)
{
    csp_chan(int) c = csp_make(int, 0);
    csp_waitgroup wg = {0};
    csp_waitgroup_add(&wg, 1);
    csp_go(receives, csp_recv_end(c), &wg);
    int64_t next = csp_now();
    for (int i = 0; i < n; i++) {
        csp_sleep_until(next += CSP_MILLISECOND);
        csp_send(c, i);
    }
    csp_close(c);
    csp_waitgroup_wait(&wg);
    csp_unref(c);
    did(n);
}

/* One tree, for all processors. */
csp_task_declare(fib, int, n, int64_t *, result);
csp_task(fib, int, n, int64_t *, result)
{
    int64_t a = 0, b = 0;
    if (n < 2) {
        *result = n;
        return;
    }
    csp_fork(left, fib, n - 1, &a);
    (fib)(n - 2, &b);
    csp_join(left);
    *result = a + b;
}

static void fork_join(int n)
{
    int64_t result = 0;
    csp_fork(all, fib, n, &result);
    csp_join(all);
    did(result * 2);
}

static const struct {
    const char *name;
    work *run;
    int n;      // operations of each, or, where all share one, in all
    bool alone; // once, not for each processor
    bool each;  // n is each processor's: it waits
} rows[] = {
    {"yield", yield, OPERATIONS, false, false},
    {"ping_pong", ping_pong, OPERATIONS, false, false},
    {"buffered", buffered, OPERATIONS, false, false},
    {"mpmc", mpmc, OPERATIONS, false, false},
    {"select4", select4, OPERATIONS, false, false},
    {"spawn_join", spawn_join, OPERATIONS, false, false},
    {"skynet", skynet, OPERATIONS / 4, true, false},
    {"mutex", mutex, 10 * OPERATIONS, false, false},
    {"echo", echo, 8000, false, false},
    {"timers", timers, 32000, false, false},
    {"idle", idle, 500, false, true},
    {"fork_join", fork_join, 30, true, false},
};

csp_main(argc, argv)
{
    size_t i = 0, last = sizeof rows / sizeof rows[0];
    while (argc == 3 && i < last && strcmp(argv[1], rows[i].name) != 0) i++;
    if (argc != 3 || i == last || (procs = atoi(argv[2])) < 1) {
        fprintf(stderr, "scale: ROW PROCS\n");
        return 1;
    }
    csp_procs(procs);
    uint64_t from[CSP__COUNTS];
    csp_stats before, after;
    memcpy(from, csp__counts, sizeof from);
    csp_get_stats(&before);
    int64_t start = csp_now();
    if (rows[i].alone || procs == 1)
        rows[i].run(rows[i].n);
    else
        side_by_side(rows[i].run, rows[i].each ? rows[i].n : rows[i].n / procs);
    double seconds = (double)(csp_now() - start) / 1e9;
    csp_get_stats(&after);
    printf("%s\t%d\t%lld\t%.3f", argv[1], procs, (long long)operations, seconds);
    for (int k = 0; k < CSP__COUNTS; k++)
        printf("\t%.4g", per_1000(csp__relaxed(&csp__counts[k]) - from[k]));
    printf("\t%.4g\t%.0f\n", per_1000(after.steals - before.steals),
           (double)(csp__relaxed(&csp__counts[CSP__COUNT_BARRIER]) - from[CSP__COUNT_BARRIER]) /
               seconds);
    return 0;
}
