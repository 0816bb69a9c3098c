/* riscv.c - QEMU's virt machine, RV32 and RV64, in machine mode: CLINT timer, UART, exit.
 *
 * The CLINT compares its clock with one register only. Here the program's tick and the wake-up
 * for idling share it: it always holds the earlier of the two. With HARTS, from board.mk, above 1
 * each hart has a tick, a wake-up and a doorbell of its own.
 */
#include "board.h"

#define NS_PER_COUNT 100 // 10 MHz
#define NEVER UINT64_MAX
#ifndef HARTS
#define HARTS 1
#endif
#if defined CSP_PREEMPT && HARTS > 1
#error "one interrupt serves as the doorbell and for CSP_PREEMPT: this board has either"
#endif
#define CLINT_DOORBELL ((volatile uint32_t *)(uintptr_t)0x02000000) // a word for each hart
#define CLINT_COMPARE ((volatile uint32_t *)(uintptr_t)0x02004000 + 2 * hart())
#define CLINT_TIME ((volatile uint32_t *)(uintptr_t)0x0200bff8)
#define UART ((volatile uint8_t *)(uintptr_t)0x10000000)
#define FINISHER (*(volatile uint32_t *)(uintptr_t)0x00100000)

extern int main(void);
void start(void);
void trap_handler(uintptr_t cause, uintptr_t pc);
#pragma weak csp_isr_overflow // a program without csp has none

static struct { // of each hart; guarded by masking its interrupts
    void (*tick)(void), (*doorbell)(void);
    uint64_t next_tick, wake; // counts
} harts[HARTS];
#define HART harts[hart()]

static inline uintptr_t hart(void)
{
    uintptr_t id = 0;

    if (HARTS > 1) __asm__("csrr %0, mhartid" : "=r"(id));
    return id;
}

void start(void)
{
    HART.next_tick = HART.wake = NEVER;
#ifdef GUARD_H
    guard_start();
#endif
#ifdef CSP_PREEMPT
    __asm__ volatile("csrs mie, %0" ::"r"(0x88)); // the timer's, and the software interrupt
#else
    __asm__ volatile("csrs mie, %0" ::"r"(0x80)); // the timer's
#endif
    __asm__ volatile("csrsi mstatus, 8");
    board_exit(main());
}

static uint64_t counter(void)
{
    uint32_t high, low;

    do {
        high = CLINT_TIME[1];
        low = CLINT_TIME[0];
    } while (high != CLINT_TIME[1]);
    return (uint64_t)high << 32 | low;
}

static void set_compare(void)
{
    uint64_t when = HART.next_tick < HART.wake ? HART.next_tick : HART.wake;

    CLINT_COMPARE[0] = UINT32_MAX; // so that no value in between is in the past
    CLINT_COMPARE[1] = (uint32_t)(when >> 32);
    CLINT_COMPARE[0] = (uint32_t)when;
}

int64_t csp_port_now(void)
{
    return (int64_t)(counter() * NS_PER_COUNT);
}

/* wfi ends when an interrupt is pending, masked or not: one that came after the caller looked
 * for work is not slept through. Its handler runs when the caller unmasks. */
void csp_port_idle(int64_t until)
{
    if (until <= csp_port_now()) return;
    HART.wake = until == INT64_MAX ? NEVER : ((uint64_t)until + NS_PER_COUNT - 1) / NS_PER_COUNT;
    set_compare();
    __asm__ volatile("wfi" ::: "memory");
    HART.wake = NEVER;
    set_compare();
}

uintptr_t csp_port_irq_save(void)
{
    uintptr_t was;

    __asm__ volatile("csrrci %0, mstatus, 8" : "=r"(was)::"memory");
    return was & 8;
}

void csp_port_irq_restore(uintptr_t was)
{
    __asm__ volatile("csrs mstatus, %0" ::"r"(was) : "memory");
}

#ifdef CSP_PREEMPT
/* The software interrupt, whose handler is csp_preempt (riscv_start.S). */
void csp_port_preempt(bool pending)
{
    CLINT_DOORBELL[0] = pending;
}
#endif

_Noreturn void csp_port_fatal(const char *message)
{
    csp_port_irq_save();
    board_print("fatal: ");
    board_print(message);
    board_print("\n");
    board_exit(3);
}

void trap_handler(uintptr_t cause, uintptr_t pc)
{
    char text[] = "trap  . at 0x................";

    if ((intptr_t)cause < 0 && (cause & 15) == 3) { // a doorbell
        CLINT_DOORBELL[hart()] = 0;
        __asm__ volatile("fence iorw, iorw" ::: "memory"); // only then: what was sent
        HART.doorbell();
        return;
    }
    if ((intptr_t)cause < 0) { // else only the timer's is on
        if (counter() >= HART.wake) HART.wake = NEVER;
        while (counter() >= HART.next_tick) { // perhaps late by several
            HART.next_tick += board_tick_ns / NS_PER_COUNT;
            HART.tick();
        }
        set_compare();
        return;
    }
#ifdef GUARD_H
    if (guard_hit(NULL) != NULL) csp_isr_overflow(guard_hit(NULL));
#endif
    text[5] = (char)('0' + cause / 10);
    text[6] = (char)('0' + cause % 10);
    for (int i = 0; i < 16; i++, pc >>= 4) text[28 - i] = "0123456789abcdef"[pc & 15];
    csp_port_fatal(text);
}

void board_start_tick(void (*isr)(void))
{
    uintptr_t was = csp_port_irq_save();

    HART.tick = isr;
    HART.next_tick = counter() + board_tick_ns / NS_PER_COUNT;
    set_compare();
    csp_port_irq_restore(was);
}

#if HARTS > 1
void (*second_main)(void) __attribute__((section(".data"))); // .bss may be cleared later
void start_second(void);

void start_second(void)
{
    HART.next_tick = HART.wake = NEVER;
    CLINT_DOORBELL[hart()] = 0;
    __asm__ volatile("csrw mie, %0" ::"r"(0x80)); // no doorbell yet
    __asm__ volatile("csrsi mstatus, 8");
    second_main();
    for (;;) __asm__ volatile("wfi");
}

void board_start_core(void (*runs)(void))
{
    second_main = runs;
    board_doorbell(1);
}

void board_on_doorbell(void (*isr)(void))
{
    HART.doorbell = isr;
    __asm__ volatile("csrs mie, %0" ::"r"(8));
}

void board_doorbell(unsigned core)
{
    __asm__ volatile("fence iorw, iorw" ::: "memory");
    CLINT_DOORBELL[core] = 1;
}
#endif

void board_print(const char *text)
{
    for (; *text; text++) {
        while (!(UART[5] & 0x20)) continue; // full
        UART[0] = (uint8_t)*text;
    }
}

_Noreturn void board_exit(int code)
{
    FINISHER = code ? (uint32_t)code << 16 | 0x3333 : 0x5555;
    for (;;) continue;
}
