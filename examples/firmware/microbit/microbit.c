/* microbit.c - nRF51822: TIMER0 and the UART. This chip has no SysTick.
 *
 * TIMER0 counts microseconds and never stops. Of its four compare registers, 0 is for reading
 * the counter, 1 for the wake-up and 2 for the tick. A compare matches on equality: whoever
 * sets one to a time that has just passed would wait 71 minutes, so after each setting the
 * counter is looked at again.
 */
#include "board.h"

#include "config.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define TIMER0 0x40008000u
#define TIMER_START REGISTER(TIMER0 + 0x000)
#define TIMER_CAPTURE(i) REGISTER(TIMER0 + 0x040 + 4 * (i))
#define TIMER_MATCHED(i) REGISTER(TIMER0 + 0x140 + 4 * (i))
#define TIMER_INTERRUPT_ON REGISTER(TIMER0 + 0x304)
#define TIMER_BITS REGISTER(TIMER0 + 0x508)
#define TIMER_PRESCALER REGISTER(TIMER0 + 0x510)
#define TIMER_COMPARE(i) REGISTER(TIMER0 + 0x540 + 4 * (i))
#define UART0 0x40002000u
#define UART_START REGISTER(UART0 + 0x008)
#define UART_SENT REGISTER(UART0 + 0x11c)
#define UART_ENABLE REGISTER(UART0 + 0x500)
#define UART_PIN REGISTER(UART0 + 0x50c)
#define UART_DATA REGISTER(UART0 + 0x51c)
#define UART_BAUD REGISTER(UART0 + 0x524)
#define NVIC_ENABLE REGISTER(0xe000e100)
#define NVIC_PEND REGISTER(0xe000e200)

enum { READ, WAKE, TICK };
#define INTERRUPT(i) (1u << (16 + (i)))
#define EARLY 0x10000u // the first wrap is 65536 counts away

static void (*tick)(void);

void board_init(void)
{
    UART_PIN = 24;
    UART_BAUD = 0x01d7e000; // 115200
    UART_ENABLE = 4;
    UART_START = 1;
    TIMER_BITS = 3;      // 32
    TIMER_PRESCALER = 4; // 16 MHz / 2^4
    TIMER_START = 1;
    NVIC_ENABLE = 1u << TIMER0_IRQ;
}

void board_print(const char *text)
{
    for (; *text; text++) {
        UART_SENT = 0;
        UART_DATA = (unsigned char)*text;
        while (!UART_SENT) continue;
    }
}

static uint32_t counter(void)
{
    uintptr_t was = csp_port_irq_save(); // one capture register for all
    TIMER_CAPTURE(READ) = 1;
    uint32_t now = TIMER_COMPARE(READ);
    csp_port_irq_restore(was);
    return now;
}

uint32_t board_counter(void)
{
    return counter() - EARLY;
}

void board_wake_in(uint32_t counts)
{
    uint32_t when = counter() + counts;

    TIMER_MATCHED(WAKE) = 0;
    TIMER_COMPARE(WAKE) = when;
    TIMER_INTERRUPT_ON = INTERRUPT(WAKE);
    if ((int32_t)(counter() - when) >= 0) NVIC_PEND = 1u << TIMER0_IRQ;
}

void board_start_tick(void (*isr)(void))
{
    uintptr_t was = csp_port_irq_save();
    tick = isr;
    TIMER_MATCHED(TICK) = 0;
    TIMER_COMPARE(TICK) = counter() + board_tick_ns / 1000;
    TIMER_INTERRUPT_ON = INTERRUPT(TICK);
    csp_port_irq_restore(was);
}

void timer_isr(void)
{
    TIMER_MATCHED(WAKE) = 0;
    TIMER_MATCHED(TICK) = 0;
    board_clock_kept();
    if (!tick) return;
    while ((int32_t)(counter() - TIMER_COMPARE(TICK)) >= 0) { // perhaps late by several
        TIMER_COMPARE(TICK) += board_tick_ns / 1000;
        tick();
    }
}
