/* start.S - QEMU's virt machine, AArch64 at EL1: from reset to start(), and the vectors.
 *
 * main and the goroutines use SP_EL0, interrupts switch to SP_EL1 by themselves: nothing is
 * ever stored on a goroutine's stack by an interrupt. The FPU is on. The MMU is off, so all
 * memory is of the device kind and accesses have to be aligned: -mstrict-align. */
    .section .start, "ax", %progbits
    .globl  reset
reset:
    mov     x0, #3 << 20 // CPACR_EL1.FPEN
    msr     cpacr_el1, x0
    ldr     x0, =vectors
    msr     vbar_el1, x0
    isb
    msr     spsel, #1
    ldr     x0, =handler_stack_end
    mov     sp, x0
    msr     spsel, #0
    ldr     x0, =main_stack_end
    mov     sp, x0
    ldr     x0, =bss_start
    ldr     x1, =bss_end
1:  cmp     x0, x1
    b.hs    2f
    stp     xzr, xzr, [x0], #16
    b       1b
2:  mov     x29, xzr
    mov     x30, xzr
    b       start

    .balign 2048
vectors: // four sources times {synchronous, IRQ, FIQ, SError}, 128 bytes each
    .irp    offset, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    .balign 128
    .if     \offset == 1 // an IRQ while SP_EL0 is in use
    b       interrupt
    .else
    b       fault
    .endif
    .endr

// What a C function may spoil: x0-x18 and x30, and of the FPU all but a few halves.
    .macro  all op
    \op     x0, x1, [sp, #0]
    \op     x2, x3, [sp, #16]
    \op     x4, x5, [sp, #32]
    \op     x6, x7, [sp, #48]
    \op     x8, x9, [sp, #64]
    \op     x10, x11, [sp, #80]
    \op     x12, x13, [sp, #96]
    \op     x14, x15, [sp, #112]
    \op     x16, x17, [sp, #128]
    \op     x18, x30, [sp, #144]
    \op     q0, q1, [sp, #160]
    \op     q2, q3, [sp, #192]
    \op     q4, q5, [sp, #224]
    \op     q6, q7, [sp, #256]
    \op     q8, q9, [sp, #288]
    \op     q10, q11, [sp, #320]
    \op     q12, q13, [sp, #352]
    \op     q14, q15, [sp, #384]
    \op     q16, q17, [sp, #416]
    \op     q18, q19, [sp, #448]
    \op     q20, q21, [sp, #480]
    \op     q22, q23, [sp, #512]
    \op     q24, q25, [sp, #544]
    \op     q26, q27, [sp, #576]
    \op     q28, q29, [sp, #608]
    \op     q30, q31, [sp, #640]
    .endm

interrupt:
    sub     sp, sp, #672
    all     stp
    bl      interrupt_handler
    all     ldp
    add     sp, sp, #672
    eret

fault:
    mrs     x0, esr_el1
    mrs     x1, elr_el1
    b       fault_handler
