/* above_mask.c - a handler of a priority that csp's mask does not hold back, which sends: how csp
 * says so, before the queues are torn apart. For the board that masks by BASEPRI.
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "board.h"

#define SYSTICK_PRIORITY (*(volatile uint8_t *)(uintptr_t)0xe000ed23)

static uint64_t memory[1024 * sizeof(void *) / 8];
CSP_CHAN_STATIC(int, c, 4);

static void tick_isr(void)
{
    csp_isr_send(c, 1); /* noticed when it has interrupted a change within csp */
}

csp_task(yields)
{
    for (;;) csp_yield();
}

static void firmware(void *arg)
{
    (void)arg;
    SYSTICK_PRIORITY = 0x40;
    board_tick_ns = 33300;
    board_start_tick(tick_isr);
    csp_go(yields);
    for (;;) csp_recv(c, NULL);
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    if (csp_init(&config) == CSP_OK) csp_run(firmware, NULL);
    board_exit(0);
}
