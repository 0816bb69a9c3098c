/* guard.c - the guard of guard.h at work: an overflow stops at the very store.
 *
 *     make -C examples/firmware guard
 *
 * What to notice: what lies below the stack stays as it was. Handlers use more stack than the
 * goroutines have, at the same time, on their own. A hundred goroutines run in the same memory one
 * after the other, and each uses its stack down to the guard. HOW chooses the overflow:
 *   1  the goroutine's own functions
 *   2  the frame that the core stacks for a handler; on RISC-V there is none
 *   3  what csp's functions and a switch save: csp_yield with less and less room
 *   4  main's own functions
 */
#include "guard.h"

#ifndef HOW
#define HOW 1
#endif
#define csp_port_fatal test_fatal
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"
#undef csp_port_fatal

#include "board.h"

#include "guard_test.h"

static uint64_t memory[8 * STACK / 8];
static volatile uint32_t ticks, deepest;

/* Called by the handler of the fault, through csp_isr_overflow. */
void test_fatal(const char *message)
{
    check(digging, message);
    if (HOW == 4)
        check_first_store(main_stack_low);
    else
        check_below();
    if (HOW == 1) check_first_store(placed.stack);
    csp_port_fatal(message);
}

/* Uses n bytes of the handlers' stack. */
static __attribute__((noinline)) uint32_t uses(uint32_t n)
{
    volatile uint32_t room[32];
    for (int i = 0; i < 32; i++) room[i] = n;
    return n < sizeof room ? room[3] : uses(n - (uint32_t)sizeof room) + room[5];
}

static void tick_isr(void)
{
    if (uses(640) > deepest) deepest = uses(640);
    ticks++;
}

static inline void wait(uint32_t handlers)
{
    for (uint32_t until = ticks + handlers; ticks < until;) continue;
}

/* The stack pointer goes down to `to` and a few bytes more, after so many handlers, and so many
 * interrupt it there. Not a call lies below. */
static __attribute__((noinline)) void dig(char *to, uint32_t before, uint32_t there)
{
    char *here = __builtin_alloca(16), *room = here;
    wait(before);
    room = __builtin_alloca((size_t)(here - to));
    touched = here;
    wait(there);
    while (touched > room) { // from the top, as a stack grows
        touched--;
        *(volatile char *)touched = 1;
    }
}

static __attribute__((noinline)) void yields(char *to)
{
    char *here = __builtin_alloca(16);
    volatile char *room = __builtin_alloca((size_t)(here - to));
    room[0] = 1;
    csp_yield();
}

csp_task(digs)
{
    char *end = guard_of(placed.stack) + GUARD_SIZE;
    digging = true;
    if (HOW == 2) dig(end + 8, 0, 3);
    for (int room = 64 * sizeof(void *); HOW == 3 && room > 0; room -= 4) yields(end + room);
    dig(end - 16, 1, 0);
    board_print("went on\n");
}

/* Just not too deep. */
csp_task(digs_well, csp_sender(int), done)
{
    csp_yield();
    dig((char *)__builtin_frame_address(0) - 48 * sizeof(void *), 1, 0);
    csp_send(done, 1);
}

static void firmware(void *arg)
{
    csp_opts there = {.stack = placed.stack, .stack_size = sizeof placed.stack};
    (void)arg;
    for (int i = 0; i < 64; i++) placed.below[i] = PATTERN;
    board_start_tick(tick_isr);
    csp_chan(int) done = csp_make(int, 0);
    for (int i = 0; i < 100; i++) {
        csp_go(digs_well, csp_send_end(done));
        csp_recv(done, NULL);
    }
    while (ticks < 20) csp_sleep(CSP_MILLISECOND);
    check(deepest != 0, "no handler");
    board_print("a hundred goroutines, twenty handlers: ok\n");
    csp_go_with(&there, digs);
    for (;;) csp_yield();
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory, .stack_size = STACK};
    if (csp_init(&config) != CSP_OK) return 1;
    if (HOW == 4) {
        digging = true;
        dig(guard_of(main_stack_low) + GUARD_SIZE - 16, 0, 0);
    }
    csp_run(firmware, NULL);
    board_exit(0);
}
