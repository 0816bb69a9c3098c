/* mps2.h - the MPS2 boards AN385, AN386 and AN500: the same machine around another core. */
#define NS_PER_COUNT 40u
#define TIMERS_BASE 0x40000000u
#define UART_BASE 0x40004000u
#define TIMER1_IRQ 9
#define IRQS 32
#define MIDDLE_IRQ 30
#define LOW_IRQ 31

void wake_isr(void);
void tick_isr(void);
#define BOARD_VECTORS [15] = HANDLER(tick_isr), [16 + TIMER1_IRQ] = HANDLER(wake_isr)
