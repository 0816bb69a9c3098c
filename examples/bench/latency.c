/* latency.c - how late a sleeping program wakes: `latency [ROW...]` prints the median and the 99th
 * percentile in microseconds, beside the bare call of a plain thread in the same process. The two
 * are measured in turns of a hundred, so that they meet the same noise, and placed alike: who
 * sleeps on the last CPU, and who wakes it on the first. Left to itself the kernel puts the two
 * bare threads on one CPU, where a wake-up takes half the time, and csp.h's on two.
 *
 * wake_timer    a goroutine that sleeps for a millisecond; bare: clock_nanosleep
 * wake_foreign  a thread of the program's own sends to a goroutine; bare: a futex between threads
 * wake_pipe     a thread writes to a pipe that a goroutine reads; bare: epoll_wait and read
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

enum { TURN = 100, MOST = 100000 };

static int64_t late[2][MOST]; /* csp's, bare */
static int used[2];

static void note(int who, int64_t since)
{
    if (used[who] < MOST) late[who][used[who]++] = csp_now() - since;
}

static void must(bool ok, const char *what)
{
    if (!ok) csp_panic("%s failed", what);
}

static cpu_set_t first, last; /* CPUs that we may use */

static void cpus_choose(void)
{
    cpu_set_t all;
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
    struct timespec t = {0, 1000000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
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
    for (int i = 0; i < TURN; i++) {
        int64_t t = csp_now() + CSP_MILLISECOND;
        csp_sleep_until(t);
        note(0, t);
    }
}

static void *timer_thread(void *arg)
{
    prctl(PR_SET_TIMERSLACK, 1UL);
    for (int i = 0; i < TURN; i++) {
        int64_t t = csp_now() + CSP_MILLISECOND;
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
    be_on(&first);
    for (int i = 0; i < TURN; i++) {
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
    for (int i = 0; i < TURN && csp_recv(c, &sent); i++) note(0, sent);
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
    be_on(&first);
    for (int i = 0; i < TURN; i++) {
        nap();
        __atomic_store_n(&message, csp_now(), __ATOMIC_RELEASE);
        __atomic_add_fetch(&bell, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &bell, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
    return arg;
}

static void *futex_waiter(void *arg)
{
    pthread_t t;
    uint32_t seen = __atomic_load_n(&bell, __ATOMIC_ACQUIRE);
    must(pthread_create(&t, NULL, futex_waker, NULL) == 0, "pthread_create");
    for (int i = 0; i < TURN; i++, seen++) {
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
    be_on(&first);
    for (int i = 0; i < TURN; i++) {
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
    for (int i = 0; i < TURN; i++) {
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
    for (int i = 0; i < TURN; i++) {
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

/* ---- the rows ---- */

static const struct {
    const char *name;
    void (*csp)(void), (*bare)(void);
} rows[] = {
    {"wake_timer", timer_csp, timer_bare},
    {"wake_foreign", foreign_csp, foreign_bare},
    {"wake_pipe", pipe_csp, pipe_bare},
};

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void row(size_t k, int turns)
{
    static const char *const who[2] = {"", "_bare"};
    used[0] = used[1] = 0;
    for (int i = 0; i < turns; i++) {
        rows[k].csp();
        rows[k].bare();
    }
    for (int i = 0; i < 2; i++) {
        qsort(late[i], (size_t)used[i], sizeof **late, by_value);
        printf("%s%s_p50 %.1f us\n", rows[k].name, who[i], (double)late[i][used[i] / 2] / 1e3);
        printf("%s%s_p99 %.1f us\n", rows[k].name, who[i],
               (double)late[i][(int64_t)used[i] * 99 / 100] / 1e3);
    }
}

static char **names; /* of the rows to run, all when there are none; NULL ends them */

static void run(void *turns)
{
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        bool wanted = *names == NULL;
        for (char **name = names; *name != NULL; name++) wanted |= strcmp(*name, rows[k].name) == 0;
        if (wanted) row(k, *(int *)turns);
    }
}

int main(int argc, char **argv)
{
    const char *turns = getenv("TURNS");
    int n = turns != NULL ? atoi(turns) : 10;
    (void)argc;
    names = argv + 1;
    cpus_choose();
    be_on(&last); /* and so all threads of csp.h */
    csp_init(&(csp_config){.procs = 2});
    csp_run(run, &n);
    return 0;
}
