/* config.h - MPS2 AN505: Cortex-M33 at 20 MHz. It starts in the secure state and stays there,
 * so the devices are those at 0x5..., their secure aliases. */
#define NS_PER_COUNT 50u
#define TIMERS_BASE 0x50000000u
#define UART_BASE 0x50200000u
#define TIMER1_IRQ 4
#define IRQS 32
#define MIDDLE_IRQ 30
#define LOW_IRQ 31

void wake_isr(void);
void tick_isr(void);
#define BOARD_VECTORS [15] = HANDLER(tick_isr), [16 + TIMER1_IRQ] = HANDLER(wake_isr)
