/* overflow.c - a goroutine that uses more stack than it has: how csp says so.
 *
 * Cores with a limit register stop at the very instruction; on others the overflow is found when
 * the goroutine next parks, by a word at the stack's end.
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"

extern void board_print(const char *text);
extern void board_exit(int code);

#define STACK (512 * sizeof(void *))
static uint64_t memory[4 * STACK / 8];

static volatile char *down;
static __attribute__((noinline)) void deep(size_t n)
{
    volatile char room[16 * sizeof(void *)];
    for (size_t i = 0; i < sizeof room; i++) room[i] = (char)n;
    down = room;
    if (n > 0) deep(n - 1);
    room[1] = down[0];
}

csp_task(digs, size_t, depth)
{
    deep(depth);
    csp_yield();
    board_print("goes on\n");
}

static void firmware(void *arg)
{
    (void)arg;
    csp_go(digs, 1);
    csp_yield();
    csp_go(digs, 30); /* 30 * 16 words and some, but less than what lies below: main's stack */
    csp_yield();
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory, .stack_size = STACK};
    if (csp_init(&config) == CSP_OK) csp_run(firmware, NULL);
    board_exit(0);
    return 0;
}
