/* riscv_start.S - from reset to start(), and into the trap handler and back, for RV32 and RV64.
 *
 * mscratch holds the top of the handlers' stack while a goroutine runs. A trap swaps it with
 * sp, so that nothing is ever stored on a goroutine's stack by an interrupt. Traps do not
 * nest: interrupts stay masked until mret.
 *
 * CSP_PREEMPT: traps are vectored, for csp's handler of the software interrupt wants the
 * goroutine's stack and registers as they are. */
#if __riscv_xlen == 64
#define STORE sd
#define LOAD ld
#define W 8
#else
#define STORE sw
#define LOAD lw
#define W 4
#endif
#ifdef __riscv_flen /* handlers may calculate: f0 to f7, f10 to f17, f28 to f31 are theirs to spoil */
#define FRAME (32 * W + 32 * 8)
#if __riscv_flen == 64
#define FSTORE fsd
#define FLOAD fld
#else
#define FSTORE fsw
#define FLOAD flw
#endif
#else
#define FRAME (32 * W)
#endif

    .section .start, "ax", @progbits
    .globl  reset
reset:
    .option push
    .option norelax
    la      gp, __global_pointer$
    .option pop
    li      t0, 0x2000 // mstatus.FS: the FPU, if there is one, is off after reset
    csrs    mstatus, t0
#if defined HARTS && HARTS > 1
    csrr    t0, mhartid
    bnez    t0, second
#endif
    la      sp, main_stack_end
    la      t0, handler_stack_end
    csrw    mscratch, t0
#ifdef CSP_PREEMPT
    la      t0, vectors
    ori     t0, t0, 1
#else
    la      t0, trap
#endif
    csrw    mtvec, t0
    la      t0, bss_start
    la      t1, bss_end
1:  bgeu    t0, t1, 2f
    STORE   zero, (t0)
    addi    t0, t0, W
    j       1b
2:  li      ra, 0
    j       start

#if defined HARTS && HARTS > 1 // sleeps until hart 0 has a function for it and rings
second:
    la      sp, second_stack_end
    la      t0, second_handler_stack_end
    csrw    mscratch, t0
    la      t0, trap
    csrw    mtvec, t0
    li      t0, 8 // mie.MSIE: ends a wfi; mstatus.MIE is still off
    csrw    mie, t0
1:  wfi
    fence   iorw, iorw
    la      t0, second_main
    LOAD    t0, (t0)
    beqz    t0, 1b
    li      ra, 0
    j       start_second
#endif

    .text
#ifdef CSP_PREEMPT
    .balign 64
    .option push
    .option norvc
    .option norelax
vectors:
    .rept   3
    j       trap
    .endr
    j       csp_preempt // 3: software, of machine mode
    .rept   8
    j       trap
    .endr
    .option pop
#endif
    .balign 4
trap:
    csrrw   sp, mscratch, sp
    addi    sp, sp, -FRAME
    .irp    n, 1, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 28, 29, 30, 31
    STORE   x\n, (\n * W)(sp) // what a C function may spoil
    .endr
#ifdef __riscv_flen
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 28, 29, 30, 31
    FSTORE  f\n, (32 * W + \n * 8)(sp)
    .endr
#endif
    csrr    a0, mcause
    csrr    a1, mepc
    call    trap_handler
#ifdef __riscv_flen
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 28, 29, 30, 31
    FLOAD   f\n, (32 * W + \n * 8)(sp)
    .endr
#endif
    .irp    n, 1, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 28, 29, 30, 31
    LOAD    x\n, (\n * W)(sp)
    .endr
    addi    sp, sp, FRAME
    csrrw   sp, mscratch, sp
    mret
