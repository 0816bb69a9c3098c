/* budget.c - single operations for budget.sh, which counts instructions: `budget NAME -n N`. */
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdlib.h>
#include <string.h>

/* Nobody else wants it. */
static void mutex(int n)
{
    csp_mutex mu = {0};
    for (int i = 0; i < n; i++) {
        csp_mutex_lock(&mu);
        csp_mutex_unlock(&mu);
    }
}

static void sem(int n)
{
    csp_sem s;
    csp_sem_init(&s, 1);
    for (int i = 0; i < n; i++) {
        csp_sem_acquire(&s, 1);
        csp_sem_release(&s, 1);
    }
}

/* Of four channels one is ready, and its element comes back. */
static void select_ready(int n)
{
    csp_chan(int) c[4];
    int v = 0;
    for (int i = 0; i < 4; i++) c[i] = csp_make(int, 1);
    csp_send(c[2], 1);
    for (int i = 0; i < n; i++) {
        csp_select(CSP_RECV(c[0], &v), CSP_RECV(c[1], &v), CSP_RECV(c[2], &v), CSP_RECV(c[3], &v));
        csp_send(c[2], v);
    }
    for (int i = 0; i < 4; i++) csp_unref(c[i]);
}

csp_task(counts, int *, n)
{
    ++*n;
}

/* Nobody takes it. */
static void fork_join(int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++) {
        csp_fork(work, counts, &sum);
        csp_join(work);
    }
}

csp_task(counts_from, int, from, int *, n)
{
    *n = from + 1;
}

/* Ten at a time. */
static void waitgroup_go(int n)
{
    int sums[10] = {0};
    for (int i = 0; i < n; i += 10) {
        csp_waitgroup wg = {0};
        for (int k = 0; k < 10; k++) csp_waitgroup_go(&wg, counts_from, sums[k], &sums[k]);
        csp_waitgroup_wait(&wg);
    }
}

/* An uncontended lock for reading. */
static void rwmutex(int n)
{
    csp_rwmutex rw = {0};
    for (int i = 0; i < n; i++) {
        csp_rwmutex_rlock(&rw);
        csp_rwmutex_runlock(&rw);
    }
}

/* Set for later than anybody waits, among a thousand others, and stopped. */
static void does_nothing(void *arg)
{
    (void)arg;
}

static void timer(int n)
{
    enum { OTHERS = 1000 };
    static csp_timer *others[OTHERS];
    for (int i = 0; i < OTHERS; i++)
        others[i] = csp_after_func((1 + i) * CSP_MINUTE, does_nothing, NULL);
    for (int i = 0; i < n; i++) {
        csp_timer *t = csp_after_func((1 + i % OTHERS) * CSP_MINUTE, does_nothing, NULL);
        csp_timer_stop(t);
        csp_timer_free(t);
    }
    for (int i = 0; i < OTHERS; i++) csp_timer_free(others[i]);
}

/* The same for a function without a goroutine. */
static void timer_call(int n)
{
    enum { OTHERS = 1000 };
    static csp_timer *others[OTHERS];
    for (int i = 0; i < OTHERS; i++)
        others[i] = csp_timer_call((1 + i) * CSP_MINUTE, does_nothing, NULL);
    for (int i = 0; i < n; i++) {
        csp_timer *t = csp_timer_call((1 + i % OTHERS) * CSP_MINUTE, does_nothing, NULL);
        csp_timer_free(t);
    }
    for (int i = 0; i < OTHERS; i++) csp_timer_free(others[i]);
}

/* Set, fired, its function run, and freed, a thousand at a time. */
enum { LOT = 1000 };
static struct {
    csp_waitgroup wg;
    int n;
} fired;

static void fires(void *arg)
{
    (void)arg;
    if (++fired.n % LOT == 0) csp_waitgroup_done(&fired.wg);
}

static void timer_fires(int n)
{
    static csp_timer *t[LOT];
    for (int i = 0; i < n / LOT; i++) {
        csp_waitgroup_add(&fired.wg, 1);
        for (int k = 0; k < LOT; k++) t[k] = csp_timer_call(k % 7, fires, NULL);
        csp_waitgroup_wait(&fired.wg);
        for (int k = 0; k < LOT; k++) csp_timer_free(t[k]);
    }
}

static const struct {
    const char *name;
    void (*run)(int n);
} rows[] = {{"mutex", mutex},
            {"timer", timer},
            {"timer_call", timer_call},
            {"timer_fires", timer_fires},
            {"sem", sem},
            {"select_ready", select_ready},
            {"fork_join", fork_join},
            {"waitgroup_go", waitgroup_go},
            {"rwmutex", rwmutex}};

csp_main(argc, argv)
{
    for (size_t i = 0; argc == 4 && i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(argv[1], rows[i].name) == 0) {
            rows[i].run(atoi(argv[3]));
            return 0;
        }
    fprintf(stderr, "budget: NAME -n N\n");
    return 1;
}
