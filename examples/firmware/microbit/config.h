/* config.h - BBC micro:bit: nRF51822, Cortex-M0 at 16 MHz, 16 KiB of RAM. */
#define NS_PER_COUNT 1000u
#define TIMER0_IRQ 8
#define IRQS 32
#define MIDDLE_IRQ 20 // the chip's SWI0 and SWI1
#define LOW_IRQ 21

void timer_isr(void);
#define BOARD_VECTORS [16 + TIMER0_IRQ] = HANDLER(timer_isr)
