/* guard_preempt.c - the guard of guard.h with CSP_PREEMPT: it moves when a handler's send switches
 * from one goroutine to another in the middle of its code.
 *
 *     make -C examples/firmware guard
 *
 * What to notice: what lies below the stack stays as it was. HOW chooses the overflow:
 *   1  the goroutine that preempts another one
 *   2  the goroutine that has been preempted a hundred times
 *   3  what csp saves when it preempts a goroutine
 */
#if defined(__ARM_ARCH_8M_MAIN__) // has PSPLIM: the stack pointer itself may not go lower
#define GUARD_SIZE 0
#define FIRST_STORE false
#else
#include "guard.h"
#define FIRST_STORE true
#endif

#ifndef HOW
#define HOW 1
#endif
#define csp_port_fatal test_fatal
#define CSP_BARE
#ifndef CSP_PREEMPT
#define CSP_PREEMPT // cortex_m.c and riscv_start.S have to know it, too
#endif
#define CSP_PRIORITIES 2
#define CSP_IMPLEMENTATION
#include "csp.h"
#undef csp_port_fatal

#include "board.h"

#include "guard_test.h"

static uint64_t memory[4 * STACK / 8];
static volatile uint32_t wakes;
CSP_CHAN_STATIC(uint32_t, high, 4);

/* Called by the handler of the fault, through csp_isr_overflow. */
void test_fatal(const char *message)
{
    check(digging, message);
    check_below();
    if (HOW != 3 && FIRST_STORE) check_first_store(placed.stack);
    csp_port_fatal(message);
}

static void tick_isr(void)
{
    csp_isr_send(high, wakes);
}

/* Until it has been preempted so many times. */
static inline void wait(uint32_t times)
{
    for (uint32_t until = wakes + times; wakes < until;) continue;
}

/* The stack pointer goes down to `to`, and stays there while handlers and goroutines of higher
 * priority interrupt; then it goes on to the guard. */
static __attribute__((noinline)) void dig(char *to, uint32_t times)
{
    char *here = __builtin_alloca(16), *room = here;
    room = __builtin_alloca((size_t)(here - to));
    touched = here;
    wait(times);
    while (touched > room) { // from the top, as a stack grows
        touched--;
        *(volatile char *)touched = 1;
    }
}

static void overflows(void)
{
    char *end = guard_of(placed.stack) + GUARD_SIZE;
    digging = true;
    if (HOW == 3) dig(end + 48, 3);
    dig(end - 16, 0);
    board_print("went on\n");
}

csp_task(preempts)
{
    csp_range(v, high) {
        wakes++;
        if (HOW == 1 && wakes == 100) overflows();
        (void)v;
    }
}

csp_task(computes)
{
    wait(100);
    if (HOW != 1) overflows();
    for (;;) continue;
}

static void firmware(void *arg)
{
    csp_opts there = {.stack = placed.stack, .stack_size = sizeof placed.stack};
    (void)arg;
    for (int i = 0; i < 64; i++) placed.below[i] = PATTERN;
    there.priority = 1;
    if (HOW == 1)
        csp_go_with(&there, preempts);
    else
        csp_go_with((&(csp_opts){.priority = 1}), preempts);
    board_start_tick(tick_isr);
    there.priority = 0;
    if (HOW == 1)
        csp_go(computes);
    else
        csp_go_with(&there, computes);
    for (;;) csp_sleep(CSP_HOUR);
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory, .stack_size = STACK};
    if (csp_init(&config) != CSP_OK) return 1;
    csp_run(firmware, NULL);
    board_exit(0);
}
