/* board_test.c - does a board keep its promises? No csp here: run this one first on a new board.
 *
 * What to notice: an interrupt that is pending already ends an idle at once (else wake-ups get
 * lost), handlers have a stack of their own, and the clock lives through a wrap of the
 * hardware's counter (boards with a 32-bit one start it shortly before).
 */
#include "board.h"

#define MS 1000000
#define CHECK(x) ((x) ? (void)0 : csp_port_fatal("board: " #x))

int main(void);

static volatile uint32_t ticks;
static volatile int64_t last_tick;
static volatile int strays; // handlers that ran on somebody else's stack

static void tick_isr(void)
{
    uint32_t here;

    ticks++;
    last_tick = csp_port_now();
    if (&here < handler_stack_low || &here >= handler_stack_end) strays++;
}

static void idle(int64_t until)
{
    uintptr_t was = csp_port_irq_save();
    csp_port_idle(until);
    csp_port_irq_restore(was);
}

/* Sleeps through what may be several interrupts. */
static void sleep_until(int64_t until)
{
    while (csp_port_now() < until) idle(until);
}

static void clock_goes_forward(void)
{
    int64_t before = csp_port_now(), start = before;

    for (int i = 0; i < 20000 || before < start + 5 * MS; i++) {
        int64_t now = csp_port_now();
        CHECK(now >= before);
        CHECK(now - before < 100 * (int64_t)MS);
        before = now;
    }
}

/* Nothing else interrupts yet: the wake-up is all there is. */
static void idle_ends_in_time(void)
{
    for (int i = 1; i <= 10; i++) {
        int64_t start = csp_port_now(), until = start + i * MS / 2;
        idle(until);
        CHECK(csp_port_now() >= until);
        CHECK(csp_port_now() < until + 50 * (int64_t)MS);
    }
    idle(csp_port_now()); // not in the past either
    idle(csp_port_now() - MS);
    for (int ns = 1; ns < 3000; ns += 7) idle(csp_port_now() + ns);
}

static void ticks_come(void)
{
    board_start_tick(tick_isr);
    int64_t start = csp_port_now();
    sleep_until(start + 50 * (int64_t)MS);
    CHECK(ticks >= 49 && ticks <= 51);
    for (uint32_t first = ticks; ticks < first + 20;) idle(INT64_MAX); // each tick ends one
}

static void pending_interrupt_ends_idle(void)
{
    for (int i = 0; i < 10; i++) {
        uintptr_t was = csp_port_irq_save(), inner = csp_port_irq_save();
        uint32_t before = ticks;
        int64_t start = csp_port_now();
        while (csp_port_now() < start + 2 * MS) continue; // one has come meanwhile
        CHECK(ticks == before);
        start = csp_port_now();
        csp_port_idle(INT64_MAX);
        CHECK(csp_port_now() - start < MS / 2);
        csp_port_irq_restore(inner);
        CHECK(ticks == before); // still masked
        csp_port_irq_restore(was);
        start = csp_port_now();
        while (ticks == before) CHECK(csp_port_now() - start < MS / 2);
    }
}

static void clock_survives_wraps(void)
{
    int64_t start = csp_port_now();

    sleep_until(start + 150 * (int64_t)MS);
    CHECK(csp_port_now() - start < 400 * (int64_t)MS);
    CHECK(csp_port_now() - last_tick < 5 * MS);
    CHECK(ticks >= 150);
}

int main(void)
{
    clock_goes_forward();
    idle_ends_in_time();
    ticks_come();
    pending_interrupt_ends_idle();
    clock_survives_wraps();
    CHECK(strays == 0);
    board_print("board: ok\n");
    return 0;
}
