/* netduinoplus2.c - STM32F405: TIM2, SysTick and USART1.
 *
 * TIM2 counts microseconds and never stops: it is the clock. SysTick is the one alarm, set to what
 * comes first, the program's tick or the wake-up for idling: QEMU's TIMs raise their interrupt once
 * and no more. The names of registers and bits are those of the manual, RM0090.
 */
#include "board.h"

#include "config.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define CPACR REGISTER(0xe000ed88)
#define VTOR REGISTER(0xe000ed08)
#define NVIC_ISER ((volatile uint32_t *)(uintptr_t)0xe000e100)
#define SYSTICK ((volatile uint32_t *)(uintptr_t)0xe000e010) // control, reload, value
#define RCC_AHB1ENR REGISTER(0x40023830)
#define RCC_APB1ENR REGISTER(0x40023840)
#define RCC_APB2ENR REGISTER(0x40023844)
#define GPIOA_MODER REGISTER(0x40020000)
#define GPIOA_AFRH REGISTER(0x40020024)

typedef struct {
    volatile uint32_t cr1, cr2, smcr, dier, sr, egr, ccmr1, ccmr2, ccer, cnt, psc, arr;
} tim;
#define TIM2 ((tim *)(uintptr_t)0x40000000)
enum { TIM_CEN = 1, TIM_UG = 1 };

typedef struct {
    volatile uint32_t sr, dr, brr, cr1;
} usart;
#define USART1 ((usart *)(uintptr_t)0x40011000)
enum { USART_RXNE = 1 << 5, USART_TXE = 1 << 7 };                  // of sr
enum { USART_RE = 1 << 2, USART_TE = 1 << 3, USART_UE = 1 << 13 }; // of cr1; RXNE enables there

#define LONGEST 90000u // us that SysTick can be set ahead
#define EARLY 0x10000u // the first wrap is 65536 counts away

extern uint32_t g_pfnVectors[];
typedef void (*constructor)(void);
extern const constructor __init_array_start[], __init_array_end[]; // of the linker script
extern void pended_middle(void), pended_low(void);                 // of cortex_m.c

void SystemInit(void);
void __libc_init_array(void);
_Noreturn void exit(int code);
void HardFault_Handler(void);
void SysTick_Handler(void);
void TIM3_IRQHandler(void);
void TIM4_IRQHandler(void);

static void (*tick)(void);
static uint32_t tick_at, wake_at; // counts
static bool wakes;

/* ---- what startup.S calls; a vendor's package and its libc have these ---- */

void SystemInit(void)
{
    CPACR |= 0xfu << 20; // the FPU is off after reset
    __asm__ volatile("dsb\n\tisb");
}

void __libc_init_array(void)
{
    board_init();
    for (const constructor *f = __init_array_start; f != __init_array_end; f++) (*f)();
}

_Noreturn void exit(int code)
{
    board_exit(code);
}

__attribute__((naked)) void HardFault_Handler(void)
{
    __asm__ volatile("b fault");
}

/* ---- the board ---- */

void board_init(void)
{
    RCC_AHB1ENR |= 1;      // GPIOA
    RCC_APB1ENR |= 1;      // TIM2
    RCC_APB2ENR |= 1 << 4; // USART1
    GPIOA_MODER |= 2u << 18 | 2u << 20;
    GPIOA_AFRH |= 7u << 4 | 7u << 8; // PA9 and PA10 are USART1's
    USART1->brr = CORE_HZ / 2 / 115200;
    USART1->cr1 = USART_UE | USART_TE | USART_RE;
    TIM2->psc = TIMER_HZ / 1000000 - 1;
    TIM2->arr = 0xffffffff;
    TIM2->egr = TIM_UG; // takes psc over
    TIM2->cr1 = TIM_CEN;
}

void board_print(const char *text)
{
    for (; *text; text++) {
        while (!(USART1->sr & USART_TXE)) continue;
        USART1->dr = (unsigned char)*text;
    }
}

uint32_t board_counter(void)
{
    return TIM2->cnt - EARLY;
}

/* Masked, or in SysTick's handler, which no other interrupts. */
static void alarm_set(void)
{
    int32_t now = (int32_t)board_counter(), in = (int32_t)LONGEST;

    if (wakes && (int32_t)wake_at - now < in) in = (int32_t)wake_at - now;
    if (tick && (int32_t)tick_at - now < in) in = (int32_t)tick_at - now;
    SYSTICK[1] = (in > 0 ? (uint32_t)in : 1) * (CORE_HZ / 1000000) - 1;
    SYSTICK[2] = 0; // begins anew
    SYSTICK[0] = 7; // the core's clock, interrupt, on
}

void board_wake_in(uint32_t counts)
{
    uintptr_t was = csp_port_irq_save();
    wake_at = board_counter() + counts;
    wakes = true;
    alarm_set();
    csp_port_irq_restore(was);
}

void board_start_tick(void (*isr)(void))
{
    uintptr_t was = csp_port_irq_save();
    tick = isr;
    tick_at = board_counter() + board_tick_ns / 1000;
    alarm_set();
    csp_port_irq_restore(was);
}

void SysTick_Handler(void)
{
    if (wakes && (int32_t)(board_counter() - wake_at) >= 0) {
        wakes = false;
        board_clock_kept(); // sets it again
    }
    while (tick && (int32_t)(board_counter() - tick_at) >= 0) { // perhaps late by several
        tick_at += board_tick_ns / 1000;
        tick();
    }
    alarm_set();
}

void TIM3_IRQHandler(void)
{
    pended_middle();
}

void TIM4_IRQHandler(void)
{
    pended_low();
}
