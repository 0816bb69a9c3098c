/* latency.c - how late a sleeping program wakes: `latency [ROW...]` prints the median and the 99th
 * percentile in microseconds, beside the bare call of a plain thread in the same process. The two
 * are measured in turns, so that they meet the same noise.
 *
 * wake_timer    a goroutine that sleeps for a millisecond; bare: clock_nanosleep
 * wake_foreign  a thread of the program's own sends to a goroutine; bare: a futex between threads
 * wake_pipe     a thread writes to a pipe that a goroutine reads; bare: epoll_wait and read
 *
 * In these nobody computes, and both are placed alike: the sleeper on the last CPU, its waker on
 * the first. Left to itself the kernel puts the two bare threads on one CPU, where a wake-up takes
 * half the time, and csp.h's on two.
 *
 * busy_timer, busy_pipe  the same, 7 ms apart, beside HOGS (1) goroutines that compute in bursts
 *                        and sleep in between
 * busy_wake              a goroutine sends to another, then computes for a burst; bare: the
 *                        same two, plain threads with a futex
 *
 * These run at 1, 2, 4 and 8 processors (the name's P), with bursts of 0.5, 5 and 60 ms, on all
 * CPUs, wherever the kernel puts the threads. With one processor the sleeper waits for a hand-over,
 * 10 ms at most; with a processor more than hogs it should be as late as the bare call is.
 */
#define _GNU_SOURCE
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 100000 };

static int64_t late[2][MOST]; // csp.h's, bare
static int used[2];
static int turn_size; // wake-ups in a turn
static int64_t gap;   // between two
static int64_t burst; // that a waker, or a hog, computes

static void note(int who, int64_t since)
{
    if (used[who] < MOST) late[who][used[who]++] = csp_now() - since;
}

static void must(bool ok, const char *what)
{
    if (!ok) csp_panic("%s failed", what);
}

static cpu_set_t all, first, last; // CPUs that we may use
static const cpu_set_t *wakers;    // those of the threads that wake

static void cpus_choose(void)
{
    CPU_ZERO(&first);
    CPU_ZERO(&last);
    must(sched_getaffinity(0, sizeof all, &all) == 0, "sched_getaffinity");
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &all)) continue;
        if (CPU_COUNT(&first) == 0) CPU_SET(i, &first);
        CPU_ZERO(&last);
        CPU_SET(i, &last);
    }
}

static void be_on(const cpu_set_t *cpu)
{
    must(sched_setaffinity(0, sizeof *cpu, cpu) == 0, "sched_setaffinity");
}

static void nap(void) /* of a thread of the program's own */
{
    struct timespec t = {0, gap};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static void compute(int64_t ns)
{
    for (int64_t end = csp_now() + ns; csp_now() < end;) continue;
}

/* Runs a thread that csp.h knows nothing of to its end. */
static void thread_run(void *(*fn)(void *), void *arg)
{
    pthread_t t;
    must(pthread_create(&t, NULL, fn, arg) == 0, "pthread_create");
    csp_blocking
    {
        pthread_join(t, NULL);
    }
}

/* ---- a timer ---- */

static void timer_csp(void)
{
    int64_t t = csp_now();
    for (int i = 0; i < turn_size; i++) {
        csp_sleep_until(t += gap);
        note(0, t);
    }
}

static void *timer_thread(void *arg)
{
    int64_t t = csp_now();
    prctl(PR_SET_TIMERSLACK, 1UL);
    for (int i = 0; i < turn_size; i++) {
        t += gap;
        struct timespec at = {t / CSP_SECOND, t % CSP_SECOND};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        note(1, t);
    }
    return arg;
}

static void timer_bare(void)
{
    thread_run(timer_thread, NULL);
}

/* ---- a thread wakes one that waits for a message ---- */

static void *foreign_thread(void *arg)
{
    be_on(wakers);
    for (int i = 0; i < turn_size; i++) {
        nap();
        csp_send((csp_chan(int64_t))arg, csp_now());
    }
    return NULL;
}

static void foreign_csp(void)
{
    csp_chan(int64_t) c = csp_make(int64_t, 0);
    int64_t sent = 0;
    pthread_t t;
    must(pthread_create(&t, NULL, foreign_thread, c) == 0, "pthread_create");
    for (int i = 0; i < turn_size && csp_recv(c, &sent); i++) note(0, sent);
    csp_blocking
    {
        pthread_join(t, NULL);
    }
    csp_unref(c);
}

static int64_t message; /* 0: none */
static uint32_t bell;

static void *futex_waker(void *arg)
{
    be_on(wakers);
    for (int i = 0; i < turn_size; i++) {
        nap();
        __atomic_store_n(&message, csp_now(), __ATOMIC_RELEASE);
        __atomic_add_fetch(&bell, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &bell, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        compute(burst);
    }
    return arg;
}

static void *futex_waiter(void *arg)
{
    pthread_t t;
    uint32_t seen = __atomic_load_n(&bell, __ATOMIC_ACQUIRE);
    must(pthread_create(&t, NULL, futex_waker, NULL) == 0, "pthread_create");
    for (int i = 0; i < turn_size; i++, seen++) {
        while (__atomic_load_n(&bell, __ATOMIC_ACQUIRE) == seen)
            syscall(SYS_futex, &bell, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        note(1, __atomic_load_n(&message, __ATOMIC_ACQUIRE));
    }
    pthread_join(t, NULL);
    return arg;
}

static void foreign_bare(void)
{
    thread_run(futex_waiter, NULL);
}

/* ---- a pipe becomes readable ---- */

static int ends[2];

static void *pipe_writer(void *arg)
{
    be_on(wakers);
    for (int i = 0; i < turn_size; i++) {
        nap();
        int64_t now = csp_now();
        must(write(ends[1], &now, sizeof now) == sizeof now, "write");
    }
    return arg;
}

static void pipe_csp(void)
{
    int64_t sent = 0;
    pthread_t t;
    must(pipe(ends) == 0, "pipe");
    must(pthread_create(&t, NULL, pipe_writer, NULL) == 0, "pthread_create");
    for (int i = 0; i < turn_size; i++) {
        must(csp_read(ends[0], &sent, sizeof sent) == sizeof sent, "read");
        note(0, sent);
    }
    csp_blocking
    {
        pthread_join(t, NULL);
    }
    csp_close_fd(ends[0]);
    csp_close_fd(ends[1]);
}

static void *pipe_waiter(void *arg)
{
    struct epoll_event event = {.events = EPOLLIN};
    int64_t sent = 0;
    pthread_t t;
    int poller = epoll_create1(0);
    must(pipe(ends) == 0 && epoll_ctl(poller, EPOLL_CTL_ADD, ends[0], &event) == 0, "epoll");
    must(pthread_create(&t, NULL, pipe_writer, NULL) == 0, "pthread_create");
    for (int i = 0; i < turn_size; i++) {
        must(epoll_wait(poller, &event, 1, -1) == 1, "epoll_wait");
        must(read(ends[0], &sent, sizeof sent) == sizeof sent, "read");
        note(1, sent);
    }
    pthread_join(t, NULL);
    close(poller);
    close(ends[0]);
    close(ends[1]);
    return arg;
}

static void pipe_bare(void)
{
    thread_run(pipe_waiter, NULL);
}

/* ---- a goroutine wakes one, and computes ---- */

csp_task(wakes_and_computes, csp_chan(int64_t), c, csp_waitgroup *, wg)
{
    for (int i = 0; i < turn_size; i++) {
        csp_sleep(gap);
        csp_send(c, csp_now());
        compute(burst);
    }
    csp_waitgroup_done(wg);
}

static void neighbour_csp(void)
{
    csp_chan(int64_t) c = csp_make(int64_t, 0);
    csp_waitgroup wg = {0};
    int64_t sent = 0;
    csp_waitgroup_add(&wg, 1);
    csp_go(wakes_and_computes, c, &wg);
    for (int i = 0; i < turn_size && csp_recv(c, &sent); i++) note(0, sent);
    csp_waitgroup_wait(&wg);
    csp_unref(c);
}

/* ---- the rows ---- */

typedef struct row {
    const char *name;
    void (*csp)(void), (*bare)(void);
} row;

static const row calm[] = {
    {"wake_timer", timer_csp, timer_bare},
    {"wake_foreign", foreign_csp, foreign_bare},
    {"wake_pipe", pipe_csp, pipe_bare},
};
static const row beside_hogs[] = {
    {"busy_timer", timer_csp, timer_bare},
    {"busy_pipe", pipe_csp, pipe_bare},
    {"busy_wake", neighbour_csp, foreign_bare}, /* the hog is the waker itself */
};
enum { ROWS = 3 };

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* `turns` of each, or as many as start within `most` nanoseconds. */
static void measure(const row *r, const char *suffix, int turns, int64_t most)
{
    static const char *const who[2] = {"", "_bare"};
    int64_t end = csp_now() + most;
    used[0] = used[1] = 0;
    for (int i = 0; i < turns && (i == 0 || csp_now() < end); i++) {
        r->csp();
        r->bare();
    }
    for (int i = 0; i < 2; i++) {
        qsort(late[i], (size_t)used[i], sizeof **late, by_value);
        printf("%s%s%s_p50 %.1f us\n", r->name, suffix, who[i], (double)late[i][used[i] / 2] / 1e3);
        printf("%s%s%s_p99 %.1f us\n", r->name, suffix, who[i],
               (double)late[i][(int64_t)used[i] * 99 / 100] / 1e3);
    }
    fflush(stdout);
}

static char **names; // of the rows to run, all when there are none; NULL ends them
static int turns = 10, hogs = 1;

static bool wanted(const char *name)
{
    bool found = *names == NULL;
    for (char **n = names; *n != NULL; n++) found |= strcmp(*n, name) == 0;
    return found;
}

static void run_calm(void *arg)
{
    (void)arg;
    turn_size = 100;
    gap = CSP_MILLISECOND;
    for (size_t k = 0; k < ROWS; k++)
        if (wanted(calm[k].name)) measure(&calm[k], "", turns, CSP_MINUTE);
}

csp_task(hog, bool *, over, csp_waitgroup *, wg)
{
    while (!__atomic_load_n(over, __ATOMIC_RELAXED)) {
        compute(burst);
        csp_sleep(burst < CSP_MILLISECOND ? burst : CSP_MILLISECOND);
    }
    csp_waitgroup_done(wg);
}

static void run_busy(void *arg)
{
    char suffix[64];
    bool over = false;
    csp_waitgroup wg = {0};
    turn_size = 20;
    gap = 7 * CSP_MILLISECOND;
    for (size_t k = 0; k < ROWS; k++) {
        int n = strcmp(beside_hogs[k].name, "busy_wake") == 0 ? 0 : hogs;
        if (!wanted(beside_hogs[k].name)) continue;
        over = false;
        csp_waitgroup_add(&wg, n);
        for (int i = 0; i < n; i++) csp_go(hog, &over, &wg);
        snprintf(suffix, sizeof suffix, "_P%d_%gms", *(int *)arg, (double)burst / 1e6);
        measure(&beside_hogs[k], suffix, 10 * turns, CSP_SECOND * turns / 5);
        __atomic_store_n(&over, true, __ATOMIC_RELAXED);
        csp_waitgroup_wait(&wg);
    }
}

int main(int argc, char **argv)
{
    static const int64_t bursts[] = {CSP_MILLISECOND / 2, 5 * CSP_MILLISECOND,
                                     60 * CSP_MILLISECOND};
    if (getenv("TURNS") != NULL) turns = atoi(getenv("TURNS"));
    if (getenv("HOGS") != NULL) hogs = atoi(getenv("HOGS"));
    (void)argc;
    names = argv + 1;
    cpus_choose();
    wakers = &first;
    be_on(&last); /* and so all threads of csp.h */
    csp_init(&(csp_config){.procs = 2});
    csp_run(run_calm, NULL);
    csp_shutdown();
    wakers = &all;
    be_on(&all);
    for (int procs = 1; procs <= 8; procs *= 2)
        for (int i = 0; i < 3; i++) {
            burst = bursts[i];
            csp_init(&(csp_config){.procs = procs});
            csp_run(run_busy, &procs);
            csp_shutdown();
        }
    return 0;
}
