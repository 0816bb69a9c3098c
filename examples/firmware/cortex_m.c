/* cortex_m.c - what all Cortex-M boards have in common: the way from reset to main, vectors,
 * masking, faults, and the way out of the emulator.
 *
 * main and the goroutines run on the process stack (PSP), interrupt handlers on the main stack
 * (MSP). So a goroutine's stack has to hold one exception frame that the core stacks on entry
 * (32 bytes, 104 when the goroutine uses the FPU), whatever the handlers do and nest.
 *
 * Two other ways, as a vendor's files may have them. MAIN_ON_MSP: main stays on MSP, as after
 * reset; csp moves the goroutines to PSP by itself. VENDOR_STARTUP, from config.h: the same, with
 * the vectors and the way to main in a file of the board's. MASK_PRIORITY, from config.h: csp masks
 * by BASEPRI, and handlers of a higher priority (a smaller number) are never kept waiting, and must
 * not call csp. With guard.h included, by -include for all files, the MPU guards the stacks.
 */
#include "board.h"

#include "config.h"

void csp_preempt(void); // of csp.h, with CSP_PREEMPT
void fault(void);
void fault_report(const uint32_t *frame);
void pended_middle(void);
void pended_low(void);
#pragma weak csp_isr_overflow // a program without csp has none

#ifndef VENDOR_STARTUP
extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[];
extern uint32_t main_stack_low[], main_stack_end[];
extern int main(void);

void reset(void);
void start(void);

typedef union {
    uint32_t *stack;
    void (*handler)(void);
} vector;

#define HANDLER(f)                                                                                 \
    {                                                                                              \
        .handler = f                                                                               \
    }
__attribute__((section(".vectors"), used)) static const vector vectors[16 + IRQS] = {
#ifdef MAIN_ON_MSP
    [0] = {.stack = main_stack_end},
#else
    [0] = {.stack = handler_stack_end}, // what MSP starts with
#endif
    [1] = HANDLER(reset),
    [2] = HANDLER(fault),
    [3] = HANDLER(fault),
    [4] = HANDLER(fault),
    [5] = HANDLER(fault),
    [6] = HANDLER(fault),
    [7] = HANDLER(fault),
    [11] = HANDLER(fault),
#ifdef CSP_PREEMPT
    [14] = HANDLER(csp_preempt), // PendSV
#else
    [14] = HANDLER(fault),
#endif
    [16 + MIDDLE_IRQ] = HANDLER(pended_middle),
    [16 + LOW_IRQ] = HANDLER(pended_low),
    BOARD_VECTORS};

__attribute__((naked)) void reset(void)
{
    __asm__ volatile(
#ifdef __ARM_FP
        "ldr r0, =0xe000ed88\n\t" // CPACR: the FPU is off after reset
        "ldr r1, [r0]\n\t"
        "orr r1, r1, #0xf00000\n\t"
        "str r1, [r0]\n\t"
        "dsb\n\t"
        "isb\n\t"
#endif
#ifdef MAIN_ON_MSP
#if __ARM_ARCH >= 8 && defined __thumb2__
        "ldr r0, =main_stack_low\n\t"
        "msr msplim, r0\n\t"
#endif
#else
        "ldr r0, =main_stack_end\n\t"
        "msr psp, r0\n\t"
        "movs r0, #2\n\t" // thread mode on PSP
        "msr control, r0\n\t"
        "isb\n\t"
#if __ARM_ARCH >= 8 && defined __thumb2__
        "ldr r0, =main_stack_low\n\t" // from here on an overflow is a fault, not a mystery
        "msr psplim, r0\n\t"
        "ldr r0, =handler_stack_low\n\t"
        "msr msplim, r0\n\t"
#endif
#endif
        "ldr r0, =start\n\t"
        "bx r0\n\t"
        ".ltorg");
}

__attribute__((used)) void start(void)
{
    const uint32_t *from = data_load;

    for (uint32_t *to = data_start; to < data_end;) *to++ = *from++;
    for (uint32_t *to = bss_start; to < bss_end;) *to++ = 0;
#ifdef GUARD_H
    guard_start();
#endif
    board_init();
    board_exit(main());
}
#endif

#ifdef MASK_PRIORITY
uintptr_t csp_port_irq_save(void)
{
    uintptr_t was;

    __asm__ volatile("mrs %0, basepri\n\tmsr basepri_max, %1\n\tisb"
                     : "=&r"(was)
                     : "r"(MASK_PRIORITY)
                     : "memory");
    return was;
}

void csp_port_irq_restore(uintptr_t was)
{
    __asm__ volatile("msr basepri, %0\n\tisb" ::"r"(was) : "memory");
}

/* Only with PRIMASK does the architecture promise that an interrupt that is held back ends the WFI.
 * So PRIMASK takes over while BASEPRI lets through what shall end it. */
void board_wait(void)
{
    __asm__ volatile("cpsid i\n\tmsr basepri, %0\n\tdsb\n\twfi\n\t"
                     "msr basepri, %1\n\tisb\n\tcpsie i" ::"r"(0),
                     "r"(MASK_PRIORITY)
                     : "memory");
}
#else
uintptr_t csp_port_irq_save(void)
{
    uintptr_t was;

    __asm__ volatile("mrs %0, primask\n\tcpsid i" : "=r"(was)::"memory");
    return was;
}

void csp_port_irq_restore(uintptr_t was)
{
    __asm__ volatile("msr primask, %0\n\tisb" ::"r"(was) : "memory");
}

void board_wait(void)
{
    __asm__ volatile("dsb\n\twfi" ::: "memory");
}
#endif

/* ---- two interrupts that are raised by software: lines without a device ---- */

#define NVIC_ENABLE (*(volatile uint32_t *)(uintptr_t)0xe000e100)
#define NVIC_PEND (*(volatile uint32_t *)(uintptr_t)0xe000e200)
#define NVIC_PRIORITY ((volatile uint32_t *)(uintptr_t)0xe000e400) // by the word: ARMv6-M
#ifdef MASK_PRIORITY
#define PRIORITY(below) (MASK_PRIORITY + 0x20u * (below))
#else
#define PRIORITY(below) (0x40u * (below)) // ARMv6-M has four
#endif

static void (*pended[2])(void);

void pended_middle(void)
{
    pended[0]();
}

void pended_low(void)
{
    pended[1]();
}

static void prioritize(uint32_t irq, uint32_t priority)
{
    uint32_t shift = irq % 4 * 8;
    NVIC_PRIORITY[irq / 4] = (NVIC_PRIORITY[irq / 4] & ~(255u << shift)) | priority << shift;
}

bool board_nest(void (*middle)(void), void (*low)(void))
{
    pended[0] = middle;
    pended[1] = low;
    prioritize(MIDDLE_IRQ, PRIORITY(1));
    prioritize(LOW_IRQ, PRIORITY(2));
    NVIC_ENABLE = 1u << MIDDLE_IRQ | 1u << LOW_IRQ;
    return true;
}

void board_pend(bool middle, bool low)
{
    NVIC_PEND = (uint32_t)middle << MIDDLE_IRQ | (uint32_t)low << LOW_IRQ;
}

_Noreturn void csp_port_fatal(const char *message)
{
    csp_port_irq_save();
    board_print("fatal: ");
    board_print(message);
    board_print("\n");
    board_exit(3);
}

/* Any fault: finds the frame that the core has stacked, for the pc in it. */
__attribute__((naked)) void fault(void)
{
    __asm__ volatile("mov r0, lr\n\t"
                     "movs r1, #4\n\t"
                     "tst r0, r1\n\t" // EXC_RETURN.SPSEL
                     "beq 1f\n\t"
                     "mrs r0, psp\n\t"
                     "b 2f\n"
                     "1:\tmrs r0, msp\n"
                     "2:\tldr r1, =fault_report\n\t"
                     "bx r1\n\t"
                     ".ltorg");
}

__attribute__((used)) void fault_report(const uint32_t *frame)
{
    char text[] = "fault at 0x........";

#if __ARM_ARCH >= 8 && defined __thumb2__
    if (*(volatile uint32_t *)0xe000ed28 & 1u << 20) { // CFSR.STKOF: nothing was stacked
        if (csp_isr_overflow != NULL) csp_isr_overflow(frame);
        csp_port_fatal("stack overflow");
    }
#endif
#ifdef GUARD_H
    if (guard_hit(frame) != NULL) csp_isr_overflow(guard_hit(frame));
#endif
    for (int i = 0; i < 8; i++) text[11 + i] = "0123456789abcdef"[frame[6] >> (28 - 4 * i) & 15];
    csp_port_fatal(text);
}

uint32_t board_host(uint32_t call, const void *arg)
{
    register uint32_t r0 __asm__("r0") = call;
    register const void *r1 __asm__("r1") = arg;

    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

/* SYS_EXIT_EXTENDED of the semihosting interface. */
_Noreturn void board_exit(int code)
{
    uint32_t block[2] = {0x20026, (uint32_t)code};

    board_host(0x20, block);
    for (;;) continue;
}
