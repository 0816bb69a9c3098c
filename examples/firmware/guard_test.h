/* guard_test.h - what guard.c and guard_preempt.c share: a stack with a pattern below it. They
 * include it after csp.h, and say GUARD_SIZE. */
#define STACK (160 * sizeof(void *) + 2 * GUARD_SIZE)
#define PATTERN 0x5a5aa5a5u
static struct {
    uint32_t below[64];
    uint64_t stack[STACK / 8];
} placed;
static char *volatile touched; // the last byte that an overflow has tried to write
static volatile bool digging;

static void check(bool ok, const char *what)
{
    if (ok) return;
    board_print("guard: ");
    csp_port_fatal(what);
}

static void check_below(void)
{
    for (int i = 0; i < 64; i++) check(placed.below[i] == PATTERN, "what lies below was changed");
}

/* csp aligns a stack by two words, the MPU by 32 bytes. */
static char *guard_of(void *stack)
{
#ifdef __riscv
    return (char *)(((uintptr_t)stack + 2 * sizeof(void *) - 1) & ~(2 * sizeof(void *) - 1));
#else
    return (char *)(((uintptr_t)stack + 31) & ~(uintptr_t)31);
#endif
}

static void check_first_store(void *stack)
{
    check(touched == guard_of(stack) + GUARD_SIZE - 1, "not at the first store");
}
