/* in_handler.c - a call that may wait, made by an interrupt handler: how csp says so. */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"

extern void board_start_tick(void (*isr)(void));
extern void board_print(const char *text);
extern void board_exit(int code);

static uint64_t memory[512 * sizeof(void *) / 8];
CSP_CHAN_STATIC(int, c, 0);

static void tick_isr(void)
{
    csp_send(c, 1); /* csp_isr_send is for handlers */
}

static void firmware(void *arg)
{
    (void)arg;
    board_start_tick(tick_isr);
    csp_recv((csp_chan(int))NULL, NULL);
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    if (csp_init(&config) == CSP_OK) csp_run(firmware, NULL);
    board_exit(0);
    return 0;
}
