/* firmware.c - csp.h on bare metal: no operating system, no heap, no libc beyond
 * memcpy/memset, one core. Everything lives in memory the firmware owns.
 *
 * Compiled with CSP_BARE for Cortex-M (Thumb-1 and Thumb-2, with and without FPU),
 * AArch64 and RISC-V. The board supplies five functions (csp_port_now, csp_port_idle,
 * csp_port_irq_save, csp_port_irq_restore, csp_port_fatal), and nothing else.
 * On a board (or in an emulator with semihosting) it must print "firmware: ok".
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"

/* what the board supplies */
extern void board_start_tick(void (*isr)(void)); /* calls isr every millisecond */
extern void board_print(const char *text);
extern void board_exit(int code);

/* All that csp may use: 12 KiB on a 32-bit core, 24 KiB on a 64-bit one. */
static uint64_t memory[3 * 1024 * sizeof(void *) / sizeof(uint64_t)];
CSP_CHAN_STATIC(uint32_t, ticks, 4); /* a channel with no allocation at all */

/* Interrupt handlers may send, never block: a full channel says so at once. */
static volatile uint32_t sent, dropped;
static void tick_isr(void)
{
    if (csp_isr_send(ticks, sent) == CSP_OK)
        sent++;
    else
        dropped++;
}

csp_task(blink, csp_receiver(uint32_t), in, csp_sender(uint32_t), out)
{
    uint32_t last = 0;
    for (int i = 0; i < 50; i++) {
        uint32_t t;
        csp_recv(in, &t);
        if (t != last++) csp_panic("a tick was lost");
    }
    csp_send(out, last);
}

csp_task(sleeper, csp_waitgroup *, wg, int, ms)
{
    for (int i = 0; i < 5; i++) csp_sleep(ms * CSP_MILLISECOND);
    csp_waitgroup_done(wg);
}

static void firmware(void *arg)
{
    csp_chan(uint32_t) done = csp_make(uint32_t, 0); /* from the 12 KiB */
    csp_waitgroup wg = {0};
    uint32_t n = 0;
    (void)arg;
    csp_go(blink, csp_recv_end(ticks), csp_send_end(done));
    csp_waitgroup_add(&wg, 3);
    csp_go(sleeper, &wg, 1);
    csp_go(sleeper, &wg, 2);
    csp_go_with((&(csp_opts){.name = "slow", .stack_size = 160 * sizeof(void *)}), sleeper, &wg, 3);
    if (csp_select(CSP_RECV(done, &n), CSP_AFTER(CSP_SECOND)) != 0 || n != 50) {
        board_print("firmware: no blinking\n");
        board_exit(1);
    }
    csp_waitgroup_wait(&wg);
    csp_unref(done);
}

int main(void)
{
    csp_config config = {.memory = memory,
                         .memory_size = sizeof memory,
                         .stack_size = 192 * sizeof(void *)};
    board_start_tick(tick_isr);
    if (csp_init(&config) != CSP_OK) board_exit(2);
    csp_run(firmware, NULL);
    board_print("firmware: ok\n");
    board_exit(0);
    return 0;
}
