/* guard.h - a stack overflow is found at the very store that makes it, and names the goroutine.
 *
 * A guard, a few bytes that can be read and not written, lies at the low end of the stack in use.
 * CSP_HOOK_STACK moves it at each switch. A store to it is a fault, whose handler asks guard_hit()
 * and calls csp_isr_overflow. This file is all of it: include it before csp.h, call guard_start()
 * before csp_init, and guard_hit() in the handler of faults (see cortex_m.c and riscv.c).
 *
 * What to notice:
 *   - ARMv7-M (M3, M4, M7): the last regions of the MPU, 32 bytes each. A guard has two, or four on
 *     a core with an FPU: the fault itself and handlers make the core stack a frame of 32 bytes, or
 *     of 104 of which it writes the low end. That frame, too, shall not reach below the guard.
 *     Handlers on MSP never touch a goroutine's stack. ARMv8-M needs none of this: it has PSPLIM.
 *   - RISC-V: a core in machine mode ignores the PMP, save for locked entries, and those stay where
 *     they are until the next reset. But with mstatus.MPRV set, loads and stores have the rights of
 *     the mode in mstatus.MPP. So goroutines run with MPRV set and MPP user: they stay in machine
 *     mode, and their data is checked. A trap sets MPP to machine, so a handler is not checked, and
 *     its mret sets MPP to user again. The core must have a user mode.
 *   - The stacks are smaller by GUARD_SIZE, and by up to 24 bytes more for the MPU's alignment.
 *   - A function whose frame is larger than the guard may write below it first. Where that is
 *     likely, more is needed: GUARD_REGIONS (1 to 8, each two instructions a switch), GUARD_SIZE.
 */
#ifndef GUARD_H
#define GUARD_H
#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

extern uint32_t main_stack_low[]; // set by the linker script: where main's stack ends

#define CSP_HOOK_STACK(low) guard_move(low)

#if defined(__ARM_ARCH_7M__) || defined(__ARM_ARCH_7EM__)

#ifndef GUARD_REGIONS
#ifdef __ARM_FP
#define GUARD_REGIONS 4u
#else
#define GUARD_REGIONS 2u
#endif
#endif
#define GUARD_SIZE (32 * GUARD_REGIONS)
#define GUARD_FIRST (8 - GUARD_REGIONS) // of two regions at one address, the higher number counts

#define GUARD_MPU_CONTROL (*(volatile uint32_t *)(uintptr_t)0xe000ed94)
#define GUARD_MPU_NUMBER (*(volatile uint32_t *)(uintptr_t)0xe000ed98)
#define GUARD_MPU_BASE (*(volatile uint32_t *)(uintptr_t)0xe000ed9c)
#define GUARD_MPU_KIND (*(volatile uint32_t *)(uintptr_t)0xe000eda0)
#define GUARD_HANDLERS (*(volatile uint32_t *)(uintptr_t)0xe000ed24) // SHCSR
#define GUARD_FAULT (*(volatile uint32_t *)(uintptr_t)0xe000ed28)    // CFSR
#define GUARD_FAULT_AT (*(volatile uint32_t *)(uintptr_t)0xe000ed34) // MMFAR

/* After the barriers no store of the new stack can miss the guard. */
__attribute__((always_inline)) static inline void guard_move(const void *low)
{
    uintptr_t at = (uintptr_t)(low != NULL ? low : main_stack_low);

    at = ((at + 31) & ~(uintptr_t)31) | 1u << 4 | GUARD_FIRST; // 1 << 4: sets the number, too
    GUARD_MPU_BASE = at;
    for (uint32_t i = 1; i < GUARD_REGIONS; i++) GUARD_MPU_BASE = at += 33;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

/* All else stays as the default map has it for privileged code. The guard is memory of the same
 * kind as the RAM around it (write-back, write-allocate): an M7's cache must not see two kinds. */
static inline void guard_start(void)
{
    for (uint32_t i = GUARD_FIRST; i < 8; i++) {
        GUARD_MPU_NUMBER = i;
        GUARD_MPU_KIND =
            1u << 28 | 6u << 24 | 1u << 19 | 3u << 16 | 4u << 1 | 1; // read only, 32 bytes
    }
    guard_move(NULL);
    GUARD_HANDLERS |= 1u << 16; // MemManage; masked, it is a HardFault, for which the MPU is off
    GUARD_MPU_CONTROL = 5;      // on, with the default map below it
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}

/* Of a fault: the guard's address, if it was hit, else NULL. frame: what the core has stacked. */
static inline const void *guard_hit(const void *frame)
{
    uint32_t why = GUARD_FAULT;
    GUARD_MPU_NUMBER = GUARD_FIRST;
    uintptr_t guard = GUARD_MPU_BASE & ~(uintptr_t)31;

    if ((why & 0x82) == 0x82 && GUARD_FAULT_AT - guard < GUARD_SIZE)
        return (void *)guard;                                            // a store
    if (why & 0x30 && (uintptr_t)frame + 108 - guard < GUARD_SIZE + 108) // the frame itself
        return (void *)guard;
    return NULL;
}

#elif defined(__riscv)

#ifndef GUARD_GRAIN
#define GUARD_GRAIN 4u // bytes that the core's PMP can tell apart; GUARD_SIZE is a multiple of it
#endif
#ifndef GUARD_SIZE /* at least the frame of a switch, which is written at its low end first */
#ifdef __riscv_flen
#define GUARD_SIZE (32 * sizeof(void *))
#else
#define GUARD_SIZE (16 * sizeof(void *))
#endif
#endif

/* Entry 1 is the guard, from the address of entry 0 to its own. The fence is for cores that have
 * paging, and keep what the PMP said of a page. */
__attribute__((always_inline)) static inline void guard_move(const void *low)
{
    uintptr_t at = (uintptr_t)(low != NULL ? low : main_stack_low);

    at = (at + GUARD_GRAIN - 1) & ~(uintptr_t)(GUARD_GRAIN - 1);
    __asm__ volatile("csrw pmpaddr0, %0\n\tcsrw pmpaddr1, %1\n\tsfence.vma" ::"r"(at >> 2),
                     "r"((at + GUARD_SIZE) >> 2)
                     : "memory");
}

/* Entry 2 is all else. Each hart does this for itself. */
static inline void guard_start(void)
{
    __asm__ volatile("csrw pmpaddr2, %0\n\tcsrw pmpcfg0, %1" ::"r"(UINTPTR_MAX),
                     "r"(0x1f << 16 | 0x09 << 8)
                     : "memory"); // read, write, execute; read only
    guard_move(NULL);
    __asm__ volatile("csrc mstatus, %0\n\tcsrs mstatus, %1" ::"r"(3 << 11), "r"(1 << 17)
                     : "memory");
}

static inline const void *guard_hit(const void *frame)
{
    uintptr_t cause, value, guard;

    (void)frame;
    __asm__ volatile("csrr %0, mcause\n\tcsrr %1, mtval\n\tcsrr %2, pmpaddr0"
                     : "=r"(cause), "=r"(value), "=r"(guard));
    guard <<= 2;
    return cause == 7 && value - guard < GUARD_SIZE ? (const void *)guard : NULL;
}

#else
#error "guard.h knows the MPU of ARMv7-M and the PMP of RISC-V"
#endif
#endif
#endif
