/* measure.c - what csp costs on this core, in instructions. Under -icount shift=10 each instruction
 * takes 1024 ns of the board's time, so that its clock counts them.
 *
 * What to notice: the numbers are of the whole way, with all calls and both sides' bookkeeping, not
 * of the few instructions that swap the registers. `masked` is the longest time that csp keeps
 * interrupts waiting, whatever it does: a select of 15 cases, a close or a cancel with 16 waiters,
 * 16 stale waiters in a queue, elements of 256 bytes.
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include <stdint.h>
#ifdef MASKED /* the second of two builds: the wrappers would cost the first one instructions */
static uintptr_t masks(void);
static void unmasks(uintptr_t was);
static void idles(int64_t until);
#define csp_port_irq_save masks
#define csp_port_irq_restore unmasks
#define csp_port_idle idles
#endif
#include "csp.h"
#undef csp_port_irq_save
#undef csp_port_irq_restore
#undef csp_port_idle

#include "board.h"

#define N 64
#define MANY 16
static uint64_t memory[3072 * sizeof(void *) / 8];
static int64_t start, overhead, spent, best;

static int64_t clock(void)
{
    return csp_port_now() / 1024;
}

#ifdef MASKED
static int64_t masked_at, masked;
static bool watch;
static int depth;

/* Every masked stretch, but for idling, is looked at. */
static uintptr_t masks(void)
{
    uintptr_t was = csp_port_irq_save();
    if (watch && depth++ == 0) masked_at = clock();
    return was;
}

static void unmasks(uintptr_t was)
{
    if (watch && --depth == 0) {
        int64_t n = clock() - masked_at - overhead;
        if (masked_at != 0 && n > masked) masked = n;
    }
    csp_port_irq_restore(was);
}

static void idles(int64_t until)
{
    csp_port_idle(until);
    masked_at = 0;
}
#endif

/* Goroutines compare notes on one stretch, the shortest of several: the tick comes in between. */
static void from_here(void)
{
    start = clock();
}

static void to_here(void)
{
    spent = clock() - start - overhead;
    if (spent < best) best = spent;
}

static void says(const char *what)
{
#ifdef MASKED
    if (what[0] != 'i') return;
#endif
    char text[96];
    csp__print(text, sizeof text, "%s %u instructions\n", what, (unsigned)best);
    board_print(text);
    best = INT64_MAX;
}

csp_task(yields, int, n)
{
    for (int i = 0; i < n; i++) {
        to_here();
        csp_yield();
    }
}

csp_task(receives, csp_receiver(int), in)
{
    csp_range(v, in) to_here();
}

CSP_CHAN_STATIC(int, from_handler, 1);
static void tick_isr(void)
{
    from_here();
    csp_isr_send(from_handler, 1);
}

csp_task(woken, csp_sender(int), done)
{
    for (int i = 0; i < N; i++) {
        csp_recv(from_handler, NULL);
        to_here();
    }
    csp_send(done, 1);
}

csp_task(nothing, bool, ok)
{
    if (ok) to_here();
}

#ifdef MASKED
typedef struct {
    uint32_t words[64];
} large;

CSP_CHAN_STATIC(int, first, 0);
CSP_CHAN_STATIC(int, second, 0);
static csp_ctx *ctx;

csp_task(waits_for_first, int, kind)
{
    if (kind == 0) csp_recv(first, NULL);
    if (kind == 1) csp_select(CSP_RECV(first, NULL), CSP_RECV(second, NULL));
    if (kind == 2) csp_recv(csp_ctx_done(ctx), NULL);
}

static void many_wait(int kind)
{
    for (int i = 0; i < MANY; i++)
        csp_go_with((&(csp_opts){.stack_size = 128 * sizeof(void *)}), waits_for_first, kind);
    csp_yield();
}

csp_task(takes_large, csp_receiver(large), in)
{
    static large v;
    while (csp_recv(in, &v)) continue;
}

csp_task(of_fifteen, int, n)
{
    csp_chan(int) never = csp_make(int, 0);
    static csp_case cases[15];
    for (int i = 0; i < 14; i++) cases[i] = CSP_RECV(never, NULL);
    cases[14] = CSP_RECV(first, NULL);
    while (n-- > 0) csp_select_n(cases, 15);
}

/* Everything that has many to look at, wake or copy. */
static void bounds(void)
{
    static large v;
    csp_opts wide = {.stack_size = 160 * sizeof(void *)};
    csp_chan(large) c = csp_make(large, 1);
    csp_go_with(&wide, of_fifteen, 3);
    for (int i = 0; i < 3; i++) csp_send(first, i);
    csp_yield();
    csp_go_with(&wide, takes_large, csp_recv_end(c));
    for (int i = 0; i < 5; i++) csp_send(c, v);
    csp_yield();
    csp_close(c);
    csp_yield();
    csp_unref(c);
    many_wait(
        1); /* all stand in both queues, and are stale in the first once woken by the second */
    for (int i = 0; i < MANY; i++) csp_try_send(second, i);
    csp_try_send(first, 1);
    csp_yield();
    ctx = csp_ctx_with_cancel(csp_ctx_background());
    many_wait(2);
    csp_ctx_cancel(ctx);
    csp_yield();
    many_wait(0);
    csp_close(first);
    csp_yield();
}
#endif

static void measure(void *arg)
{
    csp_chan(int) c = csp_make(int, 0), buffered = csp_make(int, 4), done = csp_make(int, 0);
    (void)arg;
    for (int i = 0; i < N; i++) {
        from_here();
        to_here();
    }
    overhead = best;
    best = INT64_MAX;

    csp_go(yields, N);
    for (int i = 0; i < N; i++) {
        from_here();
        csp_yield();
    }
    says("yield to another goroutine:");

    for (int i = 0; i < N; i++) {
        from_here();
        csp_send(buffered, 1);
        to_here();
        csp_recv(buffered, NULL);
    }
    says("send into a buffer:");

    csp_go(receives, csp_recv_end(c));
    csp_yield();
    for (int i = 0; i < N; i++) {
        from_here();
        csp_send(c, i);
        csp_yield();
    }
    says("send to a goroutine that waits, until it runs:");
    csp_close(c);

    for (int i = 0; i < N; i++) {
        from_here();
        csp_go(nothing, true);
        csp_yield();
    }
    says("start a goroutine, until it runs:");

    csp_go(woken, csp_send_end(done));
    board_tick_ns = 20000 * 1024;
    board_start_tick(tick_isr);
    csp_recv(done, NULL);
    says("handler sends, until the goroutine runs, from idle:");

#ifdef MASKED
    best = INT64_MAX;
    watch = true;
    csp_go(woken, csp_send_end(done));
    csp_go(yields, N);
    csp_select(CSP_RECV(done, NULL), CSP_AFTER(CSP_HOUR));
    csp_sleep(1);
    for (int i = 0; i < N; i++) csp_try_send(buffered, 1);
    bounds();
    watch = false;
    best = masked;
    says("interrupts masked, at most:");
    if (masked > (CSP__ARM ? 150 : 250)) csp_port_fatal("that is too long");
#endif
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    best = INT64_MAX;
    csp_init(&config);
    csp_run(measure, NULL);
    board_exit(0);
}
