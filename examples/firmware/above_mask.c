/* above_mask.c - a handler of a priority that csp's mask does not hold back calls csp: how csp
 * says so, before the queues are torn apart. For the board that masks by BASEPRI.
 *
 * The shortest change there is: the goroutines only switch, and the handler finds nothing to take.
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
    int v;
    (void)csp_isr_recv(c, &v); /* noticed when it has interrupted a change within csp */
}

/* In the emulator a tick and a loop of one length could keep step for ever, with no tick within a
 * change. So the loop's length changes. */
csp_task(yields)
{
    for (uint32_t turn = 0;; turn++) {
        for (volatile uint32_t i = 0; i < turn % 16; i++) continue;
        csp_yield();
    }
}

static void firmware(void *arg)
{
    (void)arg;
    SYSTICK_PRIORITY = 0x40;
    board_tick_ns = 33300;
    board_start_tick(tick_isr);
    csp_go(yields);
    csp_go(yields);
    for (;;) csp_yield();
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    if (csp_init(&config) == CSP_OK) csp_run(firmware, NULL);
    board_exit(0);
}
