/* fairness.c - how long a goroutine waits for its turn beside others: `fairness [ROW...]`. Each row
 * sets the processors that it needs.
 *
 * slices   one P, a pair that computes 300 us a turn beside one that computes 0.3 us: the time that
 *          each pair got, and the factor between them
 * sleeper  one P, how late a sleeping goroutine runs beside such a quick pair, and a slow one
 * watch    four Ps, a goroutine wakes and computes for 60 ms: how late a timer and a pipe are
 *          3 ms later, for which others have waited since before. Three Ps are idle all the time
 * next     two Ps, a goroutine wakes another, or 20, and computes: how long the last of them
 *          waited. `busy` computes without a pause, `rests` sleeps between, and `habit` makes a
 *          thousand quick handovers before each
 * tree     one P, goroutines that start two others and end, for ever, and one that was started
 *          before: how many ran before it did, for each that was there when it came
 */
#define _GNU_SOURCE
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 100000 };
static int64_t late[MOST];
static int noted;
static int64_t until; /* when the others end */

static void note(int64_t ns)
{
    if (noted < MOST) late[noted++] = ns;
}

static int by_size(const void *a, const void *b)
{
    const int64_t *x = (const int64_t *)a, *y = (const int64_t *)b;
    return *x < *y ? -1 : *x > *y;
}

static void report(const char *row)
{
    if (noted == 0) csp_panic("%s: nothing was noted", row);
    qsort(late, (size_t)noted, sizeof late[0], by_size);
    printf("%s p50 %.1f p90 %.1f p99 %.1f most %.1f us of %d\n", row, (double)late[noted / 2] / 1e3,
           (double)late[noted * 9 / 10] / 1e3, (double)late[noted * 99 / 100] / 1e3,
           (double)late[noted - 1] / 1e3, noted);
    noted = 0;
}

static void compute(int64_t ns)
{
    for (int64_t end = csp_now() + ns; csp_now() < end;) continue;
}

/* ---- a pair that passes a value to and fro ---- */

typedef struct pair {
    int64_t work, spent;
    int turns;
    csp_chan(int) there, back;
    csp_waitgroup both;
} pair;

static void turn(pair *p)
{
    int64_t from = csp_now();
    compute(p->work);
    p->spent += csp_now() - from;
    p->turns++;
}

csp_task(ping, pair *, p)
{
    while (csp_now() < until) {
        turn(p);
        csp_send(p->there, 1);
        csp_recv(p->back, NULL);
    }
    csp_close(p->there);
    csp_waitgroup_done(&p->both);
}

csp_task(pong, pair *, p)
{
    while (csp_recv(p->there, NULL)) {
        turn(p);
        csp_send(p->back, 1);
    }
    csp_waitgroup_done(&p->both);
}

static void pair_start(pair *p, int64_t work)
{
    *p = (pair){.work = work, .there = csp_make(int, 0), .back = csp_make(int, 0)};
    csp_waitgroup_add(&p->both, 2);
    csp_go(ping, p);
    csp_go(pong, p);
}

static void pair_end(pair *p)
{
    csp_waitgroup_wait(&p->both);
    csp_unref(p->there);
    csp_unref(p->back);
}

static void slices(void)
{
    pair slow, quick;
    csp_procs(1);
    until = csp_now() + 2 * CSP_SECOND;
    pair_start(&slow, 300 * CSP_MICROSECOND);
    pair_start(&quick, 300);
    pair_end(&slow);
    pair_end(&quick);
    printf("slices slow %.1f ms in %d turns, quick %.1f ms in %d turns, factor %.2f\n",
           (double)slow.spent / 1e6, slow.turns, (double)quick.spent / 1e6, quick.turns,
           (double)slow.spent / (double)quick.spent);
}

static void sleeper_beside(const char *row, int64_t work, int64_t pause)
{
    pair p;
    until = csp_now() + CSP_SECOND;
    pair_start(&p, work);
    while (csp_now() < until - 10 * CSP_MILLISECOND) {
        int64_t at = csp_now() + pause;
        csp_sleep_until(at);
        note(csp_now() - at);
    }
    pair_end(&p);
    report(row);
}

static void sleeper(void)
{
    csp_procs(1);
    sleeper_beside("sleeper_quick", 300, CSP_MILLISECOND);
    sleeper_beside("sleeper_slow", 300 * CSP_MICROSECOND, 5 * CSP_MILLISECOND);
}

/* ---- timers and descriptors beside bursts ---- */

enum { BURST = 60 * CSP_MILLISECOND, INTO = 3 * CSP_MILLISECOND }; /* the event, into the burst */

csp_task(burst, int64_t, at, csp_waitgroup *, done)
{
    csp_sleep_until(at);
    compute(BURST);
    csp_waitgroup_done(done);
}

csp_task(times, int64_t, at, csp_waitgroup *, done)
{
    csp_sleep_until(at + INTO);
    note(csp_now() - at - INTO);
    csp_waitgroup_done(done);
}

csp_task(reads, int, fd, csp_waitgroup *, done)
{
    int64_t sent = 0;
    if (csp_read_full(fd, &sent, sizeof sent) != (csp_ssize)sizeof sent) csp_panic("read failed");
    note(csp_now() - sent);
    csp_waitgroup_done(done);
}

static int64_t write_at; /* atomic; < 0: no more */

static void *writes(void *arg) /* a thread of the program's own */
{
    int fd = *(int *)arg;
    int64_t last = 0;
    for (;;) {
        int64_t at = __atomic_load_n(&write_at, __ATOMIC_ACQUIRE);
        if (at < 0) return NULL;
        struct timespec short_while = {0, 200000}, then = {at / CSP_SECOND, at % CSP_SECOND};
        if (at == last) {
            nanosleep(&short_while, NULL);
            continue;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, NULL);
        int64_t now = csp_now();
        if (write(fd, &now, sizeof now) != (ssize_t)sizeof now) return NULL;
        last = at;
    }
}

static void watch(void)
{
    csp_waitgroup done = {0};
    int ends[2];
    pthread_t t;
    csp_procs(4);
    for (int i = 0; i < 25; i++) {
        int64_t at = csp_now() + 5 * CSP_MILLISECOND;
        csp_waitgroup_add(&done, 2);
        csp_go(times, at, &done);
        csp_go(burst, at, &done);
        csp_waitgroup_wait(&done);
    }
    report("watch_timer");
    if (pipe(ends) != 0) csp_panic("pipe failed");
    if (pthread_create(&t, NULL, writes, &ends[1]) != 0) csp_panic("pthread_create failed");
    for (int i = 0; i < 25; i++) {
        int64_t at = csp_now() + 5 * CSP_MILLISECOND;
        csp_waitgroup_add(&done, 2);
        csp_go(reads, ends[0], &done);
        csp_go(burst, at, &done);
        __atomic_store_n(&write_at, at + INTO, __ATOMIC_RELEASE);
        csp_waitgroup_wait(&done);
    }
    __atomic_store_n(&write_at, -1, __ATOMIC_RELEASE);
    csp_blocking
    {
        pthread_join(t, NULL);
    }
    csp_close_fd(ends[0]);
    close(ends[1]);
    report("watch_pipe");
}

/* ---- who is woken by one that computes ---- */

typedef struct woken {
    int64_t at; /* when it was last woken */
    csp_chan(int) c;
} woken;

static csp_waitgroup served;
static int64_t last_one;

csp_task(wakes, woken *, w)
{
    int what = 0;
    while (csp_recv(w->c, &what)) {
        int64_t now = csp_now();
        if (what == 0) continue;
        if (now > last_one) last_one = now;
        csp_waitgroup_done(&served);
    }
}

static void next_row(const char *row, int n, int quick, int64_t work, int64_t pause)
{
    woken all[20];
    for (int i = 0; i < n; i++) {
        all[i].c = csp_make(int, 0);
        csp_go(wakes, &all[i]);
    }
    until = csp_now() + CSP_SECOND;
    while (csp_now() < until) {
        for (int i = 0; i < quick; i++) csp_send(all[i % n].c, 0);
        csp_sleep(100 * CSP_MICROSECOND); /* all of them wait again */
        last_one = 0;
        csp_waitgroup_add(&served, n);
        int64_t from = csp_now();
        for (int i = 0; i < n; i++) csp_send(all[i].c, 1);
        compute(work);
        csp_waitgroup_wait(&served);
        note(last_one - from);
        if (pause != 0) csp_sleep(pause);
    }
    for (int i = 0; i < n; i++) csp_close(all[i].c);
    csp_sleep(CSP_MILLISECOND);
    for (int i = 0; i < n; i++) csp_unref(all[i].c);
    report(row);
}

/* The same without a sleep: it waits for the answer of the time before only. */
static void next_busy(const char *row, int n, int64_t work)
{
    woken all[20];
    for (int i = 0; i < n; i++) {
        all[i].c = csp_make(int, 1);
        csp_go(wakes, &all[i]);
    }
    csp_yield();
    until = csp_now() + CSP_SECOND;
    while (csp_now() < until) {
        last_one = 0;
        csp_waitgroup_add(&served, n);
        int64_t from = csp_now();
        for (int i = 0; i < n; i++) csp_send(all[i].c, 1);
        compute(work);
        csp_waitgroup_wait(&served);
        note(last_one - from);
    }
    for (int i = 0; i < n; i++) csp_close(all[i].c);
    csp_sleep(CSP_MILLISECOND);
    for (int i = 0; i < n; i++) csp_unref(all[i].c);
    report(row);
}

static void next(void)
{
    csp_procs(2);
    next_busy("next_busy", 1, 500 * CSP_MICROSECOND);
    next_busy("next_busy_2ms", 1, 2 * CSP_MILLISECOND);
    next_busy("next_busy_20", 20, 8 * CSP_MILLISECOND);
    next_row("next_rests", 1, 0, 500 * CSP_MICROSECOND, 5 * CSP_MILLISECOND);
    next_row("next_rests_2ms", 1, 0, 2 * CSP_MILLISECOND, 20 * CSP_MILLISECOND);
    next_row("next_rests_20", 20, 0, 8 * CSP_MILLISECOND, 5 * CSP_MILLISECOND);
    next_row("next_habit", 1, 1000, 500 * CSP_MICROSECOND, 0);
    next_row("next_habit_20", 20, 1000, 8 * CSP_MILLISECOND, 0);
}

/* ---- an endless tree ---- */

static int64_t ran;

csp_task_declare(node, int, depth);
csp_task(node, int, depth)
{
    ran++;
    if (csp_now() >= until) return;
    csp_go(node, depth + 1);
    if (csp_count() < 4000) csp_go(node, depth + 1);
}

csp_task(old_one, int64_t, before, int64_t, count)
{
    note((ran - before) * 1000 / count); /* thousandths, which report prints as microseconds */
}

static void tree(void)
{
    csp_procs(1);
    until = csp_now() + 3 * CSP_SECOND;
    csp_go(node, 0);
    while (csp_now() < until - CSP_SECOND) {
        csp_sleep(20 * CSP_MILLISECOND);
        csp_go(old_one, ran, csp_count());
    }
    csp_sleep(2 * CSP_SECOND);
    report("tree, turns of FIFO instead of");
}

static const struct {
    const char *name;
    void (*run)(void);
} rows[] = {
    {"slices", slices}, {"sleeper", sleeper}, {"watch", watch}, {"next", next}, {"tree", tree},
};

csp_main(argc, argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool wanted = argc < 2;
        for (int k = 1; k < argc; k++) wanted |= strcmp(argv[k], rows[i].name) == 0;
        if (wanted) rows[i].run();
    }
    return 0;
}
