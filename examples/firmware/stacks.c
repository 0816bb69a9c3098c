/* stacks.c - how many bytes of stack does each kind of call need on this core?
 *
 * What to notice: the number is that of csp_dump, for a goroutine that makes the call from its
 * first function and has waited in it. So it is the least that csp_opts.stack_size may be, but for
 * what the firmware's own functions take, and the frame of an interrupt: 32 bytes on Cortex-M, 104
 * where the goroutine uses the FPU. There is no tick here, so no such frame is in the numbers.
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "board.h"

static uint64_t memory[2048 * sizeof(void *) / 8];
CSP_CHAN_STATIC(int, hold, 1);
CSP_CHAN_STATIC(int, never, 1);
static csp_mutex mutex;
static csp_cond cond;
static csp_waitgroup group;
static csp_sem sem;

/* ---- the calls ---- */

#define CALLS(X)                                                                                   \
    X(yields, "csp_yield")                                                                         \
    X(receives, "csp_send, csp_recv")                                                              \
    X(expires, "csp_recv_until")                                                                   \
    X(sleeps, "csp_sleep")                                                                         \
    X(selects_2, "csp_select of 2 cases")                                                          \
    X(selects_6, "csp_select of 6 cases")                                                          \
    X(locks, "csp_mutex_lock, csp_cond_wait")                                                      \
    X(waits, "csp_waitgroup_wait, csp_sem_acquire")                                                \
    X(starts, "csp_go, csp_make")                                                                  \
    X(times, "timers, tickers")                                                                    \
    X(contexts, "contexts, groups")                                                                \
    X(catches, "csp_try, and a panic in it")                                                       \
    X(dumps, "csp_dump")

csp_task(yields)
{
    csp_yield();
    csp_recv(hold, NULL);
}

csp_task(receives)
{
    csp_send(never, 1);
    csp_recv(never, NULL);
    csp_recv(hold, NULL);
}

csp_task(expires)
{
    csp_recv_until(never, NULL, csp_now() + CSP_MICROSECOND);
    csp_recv(hold, NULL);
}

csp_task(sleeps)
{
    csp_sleep(CSP_MICROSECOND);
    csp_recv(hold, NULL);
}

csp_task(selects_2)
{
    csp_select(CSP_RECV(never, NULL), CSP_AFTER(CSP_MICROSECOND));
    csp_recv(hold, NULL);
}

csp_task(selects_6)
{
    int v;
    csp_select(CSP_RECV(never, &v), CSP_RECV(never, &v), CSP_RECV(never, &v), CSP_RECV(never, &v),
               CSP_RECV(never, &v), CSP_AFTER(CSP_MICROSECOND));
    csp_recv(hold, NULL);
}

csp_task(locks)
{
    csp_mutex_lock(&mutex);
    csp_cond_wait(&cond, &mutex);
    csp_mutex_unlock(&mutex);
    csp_recv(hold, NULL);
}

csp_task(waits)
{
    csp_waitgroup_wait(&group);
    csp_sem_acquire(&sem, 1);
    csp_sem_release(&sem, 1);
    csp_recv(hold, NULL);
}

csp_task(nothing) {}

csp_task(starts)
{
    csp_chan(int) c = csp_make(int, 1);
    csp_go(nothing);
    csp_yield();
    csp_unref(c);
    csp_recv(hold, NULL);
}

csp_task(times)
{
    csp_timer *t = csp_timer_new(CSP_MICROSECOND);
    csp_ticker *k = csp_ticker_new(CSP_MICROSECOND);
    csp_recv(csp_timer_chan(t), NULL);
    csp_recv(csp_ticker_chan(k), NULL);
    csp_timer_reset(t, CSP_MICROSECOND);
    csp_timer_free(t);
    csp_ticker_free(k);
    csp_recv(hold, NULL);
}

static int job(void *arg)
{
    return arg != NULL;
}

csp_task(contexts)
{
    csp_ctx *ctx = csp_ctx_with_timeout(csp_ctx_background(), CSP_SECOND);
    csp_group *g = csp_group_new(ctx);
    csp_group_spawn(g, job, NULL);
    csp_group_wait(g);
    csp_group_free(g);
    csp_ctx_cancel(ctx);
    csp_ctx_unref(ctx);
    csp_recv(hold, NULL);
}

csp_task(catches)
{
    volatile bool caught = false;
    csp_try csp_panic("number %d", 1);
    csp_catch(p) caught = p != NULL;
    if (caught) csp_recv(hold, NULL);
}

static void ignore(const char *line)
{
    (void)line;
}

csp_task(dumps)
{
    csp_dump(ignore);
    csp_recv(hold, NULL);
}

/* ---- what csp_dump says of each ---- */

static const char *wanted;
static uint32_t bytes;

/* "goroutine 2 [recv] stack 176 of 1536 NAME" */
static void look(const char *line)
{
    const char *at = line, *name = line;
    uint32_t n = 0;
    for (; *at != 0; at++)
        if (*at == ' ') name = at + 1;
    for (const char *a = name, *b = wanted; *a != 0 || *b != 0; a++, b++)
        if (*a != *b) return;
    for (at = line; *at != ']'; at++) continue;
    for (; *at < '0' || *at > '9'; at++) continue;
    for (; *at >= '0' && *at <= '9'; at++) n = n * 10 + (uint32_t)(*at - '0');
    bytes = n;
}

static void says(const char *what)
{
    char digits[11], *d = digits + 10;
    bytes = 0;
    csp_dump(look);
    *d = 0;
    do *--d = (char)('0' + bytes % 10);
    while ((bytes /= 10) != 0);
    board_print(what);
    board_print(": ");
    board_print(d);
    board_print(" bytes of stack\n");
}

/* What another goroutine has to do, for the call to go on. */
static void help(void)
{
    for (int i = 0; i < 3; i++) csp_sleep(10 * CSP_MICROSECOND);
    csp_mutex_unlock(&mutex);
    csp_sleep(10 * CSP_MICROSECOND);
    csp_cond_signal(&cond);
    csp_waitgroup_done(&group);
    csp_sleep(10 * CSP_MICROSECOND);
    csp_sem_release(&sem, 1);
    csp_sleep(100 * CSP_MICROSECOND);
}

static void all(void *arg)
{
    csp_opts opts = {.stack_size = 384 * sizeof(void *)};
    (void)arg;
#define MEASURE(f, what)                                                                           \
    wanted = #f;                                                                                   \
    csp_mutex_lock(&mutex);                                                                        \
    csp_waitgroup_add(&group, 1);                                                                  \
    csp_sem_acquire(&sem, 1);                                                                      \
    csp_go_with(&opts, f);                                                                         \
    help();                                                                                        \
    says(what);                                                                                    \
    csp_send(hold, 0);                                                                             \
    while (csp_count() > 1) csp_yield();
    CALLS(MEASURE)
}

int main(void)
{
    csp_config config = {.memory = memory,
                         .memory_size = sizeof memory,
                         .stack_size = 384 * sizeof(void *)};
    board_print("stacks:\n");
    csp_sem_init(&sem, 1);
    if (csp_init(&config) == CSP_OK) csp_run(all, NULL);
    board_exit(0);
}
