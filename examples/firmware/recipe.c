/* recipe.c - csp in a firmware of your own, from nothing: this file and csp.h, and no other. For a
 * Cortex-M3 at 25 MHz that has a SysTick and nothing more; in an empty directory:
 *
 *     arm-none-eabi-gcc -mcpu=cortex-m3 -mthumb -Os -ffreestanding -nostdlib -e main \
 *         -Wl,--section-start=.vectors=0 -Ttext=0x40 -Tdata=0x20000000 recipe.c -lgcc -o recipe.elf
 *     qemu-system-arm -M mps2-an385 -nographic -semihosting -kernel recipe.elf
 *
 * What to notice: five functions, a block of memory, and csp_init. What comes first is for
 * any firmware, and yours has it already.
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"

/* ---- what every firmware has: vectors, a stack, two functions that compilers call ---- */

static uint64_t stack[128];
int main(void);
static void tick(void);
__attribute__((section(".vectors"), used)) static const uintptr_t vectors[16] = {
    (uintptr_t)(stack + 128), (uintptr_t)main, [15] = (uintptr_t)tick};

void *memcpy(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i++) ((volatile char *)to)[i] = ((const char *)from)[i];
    return to;
}

void *memset(void *to, int byte, size_t n)
{
    for (size_t i = 0; i < n; i++) ((volatile char *)to)[i] = (char)byte;
    return to;
}

static void semihosting(int what, const void *with)
{
    register int r0 __asm__("r0") = what;
    register const void *r1 __asm__("r1") = with;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

/* ---- the five functions ---- */

static volatile int64_t now; // of the last tick

int64_t csp_port_now(void)
{
    uintptr_t was = csp_port_irq_save(); /* it has two halves */
    int64_t t = now;
    csp_port_irq_restore(was);
    return t;
}

void csp_port_idle(int64_t until)
{
    (void)until; /* a tick comes every millisecond, and to return early does no harm */
    __asm__ volatile("wfi" ::: "memory");
}

uintptr_t csp_port_irq_save(void)
{
    uintptr_t was;
    __asm__ volatile("mrs %0, primask\n\tcpsid i" : "=r"(was)::"memory");
    return was;
}

void csp_port_irq_restore(uintptr_t was)
{
    __asm__ volatile("msr primask, %0" ::"r"(was) : "memory");
}

void csp_port_fatal(const char *message)
{
    semihosting(4, message); /* show it, and stop */
    for (;;) continue;
}

/* ---- the program ---- */

static uint64_t memory[512]; /* all that csp may use */
CSP_CHAN_STATIC(int, ticks, 4);

static void tick(void)
{
    now += CSP_MILLISECOND;
    csp_isr_send(ticks, (int)(now / CSP_MILLISECOND));
}

csp_task(adds, csp_receiver(int), in, csp_sender(int), out)
{
    int sum = 0, v;
    for (int i = 0; i < 10 && csp_recv(in, &v); i++) sum += v;
    csp_send(out, sum);
}

static void firmware(void *arg)
{
    csp_chan(int) sums = csp_make(int, 0);
    int sum = 0;
    (void)arg;
    csp_go(adds, csp_recv_end(ticks), csp_send_end(sums));
    csp_select(CSP_RECV(sums, &sum), CSP_AFTER(CSP_SECOND));
    semihosting(4, sum == 55 ? "recipe: ok\n" : "recipe: no sum\n");
}

int main(void)
{
    volatile uint32_t *systick = (volatile uint32_t *)0xe000e010;
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    systick[1] = 25000 - 1;
    systick[0] = 7;
    csp_init(&config);
    csp_run(firmware, NULL);
    semihosting(0x18, (void *)0x20026); /* leaves the emulator */
    return 0;
}
