/* mps2.c - Arm's MPS2 boards (AN385, AN386, AN505): CMSDK timers, SysTick and UART.
 *
 * Three timers for three purposes, none of which disturbs another: TIMER0 runs freely and is
 * the clock, TIMER1 is the wake-up for idling, SysTick makes the program's tick.
 */
#include "board.h"

#include "config.h"

typedef struct { // CMSDK APB timer: counts down
    volatile uint32_t control, value, reload, interrupt;
} timer;
enum { ENABLE = 1, INTERRUPT = 8 };

typedef struct { // CMSDK APB UART
    volatile uint32_t data, state, control, interrupt, divider;
} uart;

#define TIMER0 ((timer *)(uintptr_t)TIMERS_BASE)
#define TIMER1 ((timer *)(uintptr_t)(TIMERS_BASE + 0x1000))
#define UART0 ((uart *)(uintptr_t)UART_BASE)
#define SYSTICK ((volatile uint32_t *)(uintptr_t)0xe000e010) // control, reload, value
#define NVIC_PRIORITY ((volatile uint8_t *)(uintptr_t)0xe000e400)
#define SYSTICK_PRIORITY (*(volatile uint8_t *)(uintptr_t)0xe000ed23)
#define NVIC_ENABLE (*(volatile uint32_t *)(uintptr_t)0xe000e100)

static void (*tick)(void);
static int64_t next_tick;

void board_init(void)
{
    UART0->divider = 16;
    UART0->control = 1;
    TIMER0->reload = 0xffffffff;
    TIMER0->value = 0x10000; // the first wrap is 65536 counts away
    TIMER0->control = ENABLE;
    TIMER1->reload = 0; // stops when it gets there
    NVIC_ENABLE = 1u << TIMER1_IRQ;
#ifdef MASK_PRIORITY
    NVIC_PRIORITY[TIMER1_IRQ] = MASK_PRIORITY; // these handlers use csp: not above the mask
    SYSTICK_PRIORITY = MASK_PRIORITY;
#endif
}

void board_print(const char *text)
{
    for (; *text; text++) {
        while (UART0->state & 1) continue; // full
        UART0->data = (unsigned char)*text;
    }
}

uint32_t board_counter(void)
{
    return ~TIMER0->value;
}

void board_wake_in(uint32_t counts)
{
    TIMER1->value = counts;
    TIMER1->control = ENABLE | INTERRUPT;
}

void wake_isr(void)
{
    TIMER1->control = 0;
    TIMER1->interrupt = 1; // clears it
    board_clock_kept();
}

void board_start_tick(void (*isr)(void))
{
    tick = isr;
    next_tick = csp_port_now() + board_tick_ns;
    SYSTICK[1] = board_tick_ns / NS_PER_COUNT - 1;
    SYSTICK[2] = 0;
    SYSTICK[0] = 7; // the core's clock, interrupt, on
}

/* SysTick remembers one tick. If the handlers before this one have taken longer, or an emulator
 * has slept through one, the program still gets as many as periods have passed. */
void tick_isr(void)
{
    int64_t late = csp_port_now() - board_tick_ns / 2;

    do {
        next_tick += board_tick_ns;
        tick();
    } while (next_tick <= late);
}
