/* virt_a64.c - QEMU's virt machine, AArch64: generic timers, GICv2, PL011, semihosting.
 *
 * Two timers for two purposes: the virtual one is the wake-up for idling, the physical one
 * makes the program's tick. Both compare with the same 64-bit counter, which is the clock.
 */
#include "../board.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define GIC_ON REGISTER(0x08000000)
#define GIC_ENABLE REGISTER(0x08000100)
#define GIC_CPU_ON REGISTER(0x08010000)
#define GIC_CPU_PRIORITY REGISTER(0x08010004)
#define GIC_TAKE REGISTER(0x0801000c)
#define GIC_DONE REGISTER(0x08010010)
#define UART_DATA REGISTER(0x09000000)
#define UART_FLAGS REGISTER(0x09000018)

enum { WAKE_IRQ = 27, TICK_IRQ = 30 };
#define READ(name)                                                                                 \
    __extension__({                                                                                \
        uint64_t value;                                                                            \
        __asm__ volatile("isb\n\tmrs %0, " name : "=r"(value)::"memory");                          \
        value;                                                                                     \
    })
#define WRITE(name, value)                                                                         \
    __asm__ volatile("msr " name ", %0\n\tisb" ::"r"((uint64_t)(value)) : "memory")

extern int main(void);
void start(void);
void interrupt_handler(void);
void fault_handler(uint64_t syndrome, uint64_t pc);

static void (*tick)(void);
static uint64_t frequency; // Hz

void start(void)
{
    frequency = READ("cntfrq_el0");
    GIC_ENABLE = 1u << WAKE_IRQ | 1u << TICK_IRQ;
    GIC_CPU_PRIORITY = 0xff;
    GIC_CPU_ON = 1;
    GIC_ON = 1;
    __asm__ volatile("msr daifclr, #2");
    board_exit(main());
}

int64_t csp_port_now(void)
{
    uint64_t count = READ("cntvct_el0");

    return (int64_t)(count / frequency * 1000000000 + count % frequency * 1000000000 / frequency);
}

/* wfi ends when an interrupt is pending, masked or not: one that came after the caller looked
 * for work is not slept through. Its handler runs when the caller unmasks. */
void csp_port_idle(int64_t until)
{
    uint64_t ns = (uint64_t)until;

    if (until <= csp_port_now()) return;
    if (until != INT64_MAX) {
        WRITE("cntv_cval_el0",
              ns / 1000000000 * frequency + (ns % 1000000000 * frequency + 999999999) / 1000000000);
        WRITE("cntv_ctl_el0", 1);
    }
    __asm__ volatile("dsb sy\n\twfi" ::: "memory");
    WRITE("cntv_ctl_el0", 0);
}

uintptr_t csp_port_irq_save(void)
{
    uintptr_t was;

    __asm__ volatile("mrs %0, daif\n\tmsr daifset, #2" : "=r"(was)::"memory");
    return was;
}

void csp_port_irq_restore(uintptr_t was)
{
    __asm__ volatile("msr daif, %0" ::"r"(was) : "memory");
}

_Noreturn void csp_port_fatal(const char *message)
{
    csp_port_irq_save();
    board_print("fatal: ");
    board_print(message);
    board_print("\n");
    board_exit(3);
}

void interrupt_handler(void)
{
    uint32_t id = GIC_TAKE;

    if ((id & 1023) == WAKE_IRQ) WRITE("cntv_ctl_el0", 0);
    if ((id & 1023) == TICK_IRQ)
        while (READ("cntpct_el0") >= READ("cntp_cval_el0")) { // perhaps late by several
            WRITE("cntp_cval_el0", READ("cntp_cval_el0") + frequency * board_tick_ns / 1000000000);
            tick();
        }
    GIC_DONE = id;
}

void fault_handler(uint64_t syndrome, uint64_t pc)
{
    char text[] = "fault .. at 0x................";

    text[6] = "0123456789abcdef"[syndrome >> 30 & 3];
    text[7] = "0123456789abcdef"[syndrome >> 26 & 15];
    for (int i = 0; i < 16; i++, pc >>= 4) text[29 - i] = "0123456789abcdef"[pc & 15];
    csp_port_fatal(text);
}

void board_start_tick(void (*isr)(void))
{
    tick = isr;
    WRITE("cntp_cval_el0", READ("cntpct_el0") + frequency * board_tick_ns / 1000000000);
    WRITE("cntp_ctl_el0", 1);
}

void board_print(const char *text)
{
    for (; *text; text++) {
        while (UART_FLAGS & 0x20) continue; // full
        UART_DATA = (unsigned char)*text;
    }
}

/* SYS_EXIT of the semihosting interface. */
_Noreturn void board_exit(int code)
{
    uint64_t block[2] = {0x20026, (uint64_t)(unsigned)code};
    register uint64_t x0 __asm__("x0") = 0x18;
    register uint64_t *x1 __asm__("x1") = block;

    __asm__ volatile("hlt #0xf000" ::"r"(x0), "r"(x1) : "memory");
    for (;;) continue;
}
