/* measure.c - what csp costs on this core, in instructions. Under -icount shift=10 each instruction
 * takes 1024 ns of the board's time, so that its clock counts them.
 *
 * What to notice: the numbers are of the whole way, with all calls and both sides' bookkeeping, not
 * of the few instructions that swap the registers. `masked` is the longest time that csp keeps
 * interrupts waiting; a select of more cases than the two here takes some instructions more for
 * each, a channel of large values the time to copy one.
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include <stdint.h>
static uintptr_t masks(void);
static void unmasks(uintptr_t was);
static void idles(int64_t until);
#define csp_port_irq_save masks
#define csp_port_irq_restore unmasks
#define csp_port_idle idles
#include "csp.h"
#undef csp_port_irq_save
#undef csp_port_irq_restore
#undef csp_port_idle

#include "board.h"

#define N 64
static uint64_t memory[1024 * sizeof(void *) / 8];
static int64_t start, overhead, spent, best, masked_at, masked;
static bool watch;
static int depth;

static int64_t clock(void)
{
    return csp_port_now() / 1024;
}

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

    watch = true;
    csp_go(woken, csp_send_end(done));
    csp_go(yields, N);
    csp_select(CSP_RECV(done, NULL), CSP_AFTER(CSP_HOUR));
    csp_sleep(1);
    for (int i = 0; i < N; i++) csp_try_send(buffered, 1);
    watch = false;
    best = masked;
    says("interrupts masked, at most:");
    if (masked > 400) csp_port_fatal("that is too long");
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    best = INT64_MAX;
    csp_init(&config);
    csp_run(measure, NULL);
    board_exit(0);
}
