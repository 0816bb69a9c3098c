/* preempt.c - CSP_PREEMPT: a handler's send runs the goroutine of higher priority at once, in the
 * middle of the code of the running one, whose registers all stay as they were.
 *
 * What to notice: goroutines of one priority do not interrupt each other, and share `owner` without
 * a lock. What goroutines of two priorities share needs csp or a mask, as between threads.
 *
 * Without CSP_PREEMPT the program only measures: the way from a handler to a goroutine of higher
 * priority, beside four that compute in slices of a millisecond.
 */
#define CSP_BARE
#define CSP_PRIORITIES 4
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "board.h"

#ifndef EVENTS
#define EVENTS 100000u
#endif
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define CHECK(x) ((x) ? (void)0 : csp_port_fatal("preempt.c:" TEXT(__LINE__) ": " #x))
#ifdef __unix__ /* a signal's frame takes some KiB */
#define STACK 32768
#define TICK CSP_SECOND /* its ticks come when the machine has time */
#else
#ifndef GUARD_H
#define GUARD_SIZE 0
#endif
#define STACK (160 * sizeof(void *) + HOLD_SIZE + 2 * GUARD_SIZE)
#define TICK ((int64_t)board_tick_ns)
#endif
#define GO(level, ...)                                                                             \
    csp_go_with((&(csp_opts){.priority = level, .stack_size = STACK}), __VA_ARGS__)

#define UNUSED __attribute__((unused))
static volatile uint32_t dice = 1;

static uint32_t roll(void)
{
    uint32_t x = dice;
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    return dice = x;
}

/* hold(seed, n) fills all registers, counts n down, and checks them. 0: they are the same. */
#if defined(__arm__) && defined(__thumb2__)
#define HOLD_SIZE 128
__attribute__((naked, noinline, unused)) static uint32_t hold(UNUSED uint32_t seed,
                                                              UNUSED uint32_t n)
{
    __asm__ volatile(
        "push {r0, r4-r11, lr}\n\t"
#ifdef __ARM_FP
        "vpush {d8-d15}\n\t"
        ".irp n, "
        "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n\t"
        "add r2, r0, #(\\n + 100)\n\tvmov s\\n, r2\n\t.endr\n\t"
        "and r2, r0, #3\n\tlsl r2, r2, #22\n\tvmsr fpscr, r2\n\t" // the rounding mode
#endif
        ".irp n, 2,3,4,5,6,7,8,9,10,11,12,14\n\tadd r\\n, r0, #\\n\n\t.endr\n"
        "1:\n\t"
        "push {r2-r9, lr}\n\tpop {r2-r9, lr}\n\t" // may be interrupted in the middle
        "cmp r1, r1\n\titttt eq\n\taddeq r2, r2, #1\n\tsubeq r2, r2, #1\n\t"
        "addeq r3, r3, #1\n\tsubeq r3, r3, #1\n\t"
        "subs r1, r1, #1\n\tbne 1b\n\t"
        ".irp n, 2,3,4,5,6,7,8,9,10,11,12,14\n\t"
        "sub r\\n, r\\n, #\\n\n\teor r\\n, r\\n, r0\n\torr r1, r1, r\\n\n\t.endr\n\t"
#ifdef __ARM_FP
        "vmrs r2, fpscr\n\tlsr r2, r2, #22\n\teor r2, r2, r0\n\tand r2, r2, #3\n\torr r1, r1, "
        "r2\n\t"
        "movs r2, #0\n\tvmsr fpscr, r2\n\t"
        ".irp n, "
        "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n\t"
        "vmov r2, s\\n\n\tsub r2, r2, #(\\n + 100)\n\teor r2, r2, r0\n\torr r1, r1, r2\n\t.endr\n\t"
        "vpop {d8-d15}\n\t"
#endif
        "pop {r2, r4-r11, lr}\n\teor r2, r2, r0\n\torr r0, r1, r2\n\tbx lr");
}
#elif defined(__arm__)
#define HOLD_SIZE 64
__attribute__((naked, noinline, unused)) static uint32_t hold(UNUSED uint32_t seed,
                                                              UNUSED uint32_t n)
{
    __asm__ volatile(
        ".syntax unified\n\t"
        "push {r0, r4-r7, lr}\n\tmov r2, r8\n\tmov r3, r9\n\tmov r4, r10\n\tmov r5, r11\n\tpush "
        "{r2-r5}\n\t"
        ".irp n, 8,9,10,11,12\n\tmovs r2, r0\n\tadds r2, #\\n\n\tmov r\\n, r2\n\t.endr\n\t"
        "movs r2, r0\n\tadds r2, #14\n\tmov lr, r2\n\t"
        ".irp n, 2,3,4,5,6,7\n\tadds r\\n, r0, #\\n\n\t.endr\n"
        "1:\n\tpush {r2-r7}\n\tpop {r2-r7}\n\tsubs r1, #1\n\tbne 1b\n\t"
        ".irp n, 2,3,4,5,6,7\n\tsubs r\\n, #\\n\n\teors r\\n, r0\n\torrs r1, r\\n\n\t.endr\n\t"
        ".irp n, 8,9,10,11,12\n\tmov r2, r\\n\n\tsubs r2, #\\n\n\teors r2, r0\n\torrs r1, "
        "r2\n\t.endr\n\t"
        "mov r2, lr\n\tsubs r2, #14\n\teors r2, r0\n\torrs r1, r2\n\t"
        "pop {r2-r5}\n\tmov r8, r2\n\tmov r9, r3\n\tmov r10, r4\n\tmov r11, r5\n\t"
        "pop {r2, r4-r7}\n\teors r2, r0\n\torrs r2, r1\n\tmovs r0, r2\n\tpop {pc}");
}
#elif defined(__riscv)
#define HOLD_SIZE 352
#if __riscv_xlen == 64
#define S "sd "
#define L "ld "
#else
#define S "sw "
#define L "lw "
#endif
#define INTS "1,5,6,7,8,9,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"
#define FLOATS                                                                                     \
    "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"
#define KEPT "8,9,18,19,20,21,22,23,24,25,26,27"
__attribute__((naked, noinline, unused)) static uint32_t hold(UNUSED uint32_t seed,
                                                              UNUSED uint32_t n)
{
    __asm__ volatile(
        "addi sp, sp, -352\n\t" S "ra, 0(sp)\n\t" S "a0, 8(sp)\n\t"
        ".irp n, " KEPT "\n\t" S "x\\n, (8 * (\\n - 6))(sp)\n\t.endr\n\t"
#ifdef __riscv_flen
        ".irp n, " KEPT "\n\tfsd f\\n, (8 * (\\n + 14))(sp)\n\t.endr\n\t"
        ".irp n, " FLOATS "\n\taddi t0, a0, \\n + 100\n\tfmv.d.x f\\n, t0\n\t.endr\n\t"
        "andi t0, a0, 3\n\tfsrm t0\n\t"
#endif
        ".irp n, " INTS "\n\taddi x\\n, a0, \\n\n\t.endr\n"
        "1:\n\taddi a1, a1, -1\n\tbnez a1, 1b\n\t"
        ".irp n, " INTS
        "\n\taddi x\\n, x\\n, -\\n\n\txor x\\n, x\\n, a0\n\tor a1, a1, x\\n\n\t.endr\n\t"
#ifdef __riscv_flen
        "frrm t0\n\txor t0, t0, a0\n\tandi t0, t0, 3\n\tor a1, a1, t0\n\tfsrmi 0\n\t"
        ".irp n, " FLOATS "\n\tfmv.x.d t0, f\\n\n\taddi t0, t0, -\\n - 100\n\txor t0, t0, a0\n\tor "
        "a1, a1, t0\n\t.endr\n\t"
        ".irp n, " KEPT "\n\tfld f\\n, (8 * (\\n + 14))(sp)\n\t.endr\n\t"
#endif
        ".irp n, " KEPT "\n\t" L "x\\n, (8 * (\\n - 6))(sp)\n\t.endr\n\t" L
        "t0, 8(sp)\n\txor t0, t0, a0\n\tor a0, a1, t0\n\t" L
        "ra, 0(sp)\n\taddi sp, sp, 352\n\tret");
}
#else
#define HOLD_SIZE 0
static uint32_t hold(uint32_t seed, uint32_t n)
{
    volatile double d = seed;
    double a = d, b = d + 1, c = d + 2;
    for (volatile uint32_t i = n; i > 0; i--) a += 1, b += 1, c += 1;
    return a != d + n || b != a + 1 || c != a + 2;
}
#endif

static uint64_t memory[(12 * STACK + 512 * sizeof(void *)) / 8];

/* ---- what the handlers do ---- */

CSP_CHAN_STATIC(uint32_t, high, 64);  // of priority 3: when it was sent
CSP_CHAN_STATIC(uint32_t, middle, 8); // of priority 2
CSP_CHAN_STATIC(uint32_t, room, 4);   // priority 3 sends, and waits while it is full
static volatile uint32_t sent, lost, got, taken, worst, middles;
static volatile bool yields, plain;

/* With guard.h: is the guard below the running goroutine's stack, and on? */
static bool guarded(void)
{
    bool ok = true;
#ifdef GUARD_H
    uintptr_t was = csp_port_irq_save(), low = (uintptr_t)csp__low(csp__bare.g);
#ifdef __riscv
    uintptr_t at, status;
    __asm__ volatile("csrr %0, pmpaddr0\n\tcsrr %1, mstatus" : "=r"(at), "=r"(status));
    ok = at << 2 == low && (status >> 17 & 1) == 1 && (status >> 11 & 3) == 0; // MPRV, MPP: user
#else
    GUARD_MPU_NUMBER = GUARD_FIRST;
    ok = (GUARD_MPU_BASE & ~(uintptr_t)31) == ((low + 31) & ~(uintptr_t)31);
#endif
    csp_port_irq_restore(was);
#endif
    return ok;
}

static void print(uint32_t n)
{
    char digits[12], *d = &digits[11];
    for (*d = 0; n > 0 || *d == 0; n /= 10) *--d = (char)('0' + n % 10);
    board_print(d);
}

static uint32_t now(void)
{
    return (uint32_t)csp_now();
}

static void tick_isr(void)
{
    uint32_t what = plain ? 0 : roll(), v;
#ifdef CSP_PREEMPT
    if (yields) csp_isr_yield();
#endif
    for (uint32_t i = what >> 8 & 255; i > 0; i--) __asm__ volatile("");
    if (what % 8 == 1) csp_isr_send(middle, what);
    if (what % 8 == 2 && csp_isr_recv(room, &v) == CSP_OK) {
        if (v != taken) csp_port_fatal("preempt: a value is missing");
        taken++;
    }
    if (csp_isr_send(high, now()) == CSP_OK)
        sent++;
    else
        lost++;
}

csp_task(receives)
{
    csp_range(at, high) {
        uint32_t ns = now() - at;
        if (ns > worst) worst = ns;
        got++;
        if (at % 4 == 0) CHECK(hold(at, 3) == 0);
        CHECK(guarded());
    }
}

static void until_ended(int64_t others)
{
    while (csp_count() > others) csp_sleep(CSP_MILLISECOND);
}

#ifdef CSP_PREEMPT
csp_task(relays)
{
    csp_range(v, middle) {
        middles++;
        CHECK(hold(v, v % 64 + 1) == 0); /* priority 3 interrupts it now and then */
        CHECK(guarded());
    }
}

csp_task(fills)
{
    for (uint32_t i = 0;; i++) csp_send(room, i);
}

/* ---- goroutines of priority 0 and 1 ---- */

static int owner;
static volatile uint32_t computed[4];
static csp_mutex mutex;
static uint32_t locked;

/* All registers, most of the time; and calls, since handlers have to strike inside csp, too. */
csp_task(computes, int, me)
{
    while (got < EVENTS) {
        owner = me;
        for (uint32_t i = 0, seed = roll(); i < 8; i++, seed = roll())
            CHECK(hold(seed, seed % 128 + 1) == 0);
        CHECK(owner == me && csp__bare.inside == 0 && guarded());
        csp_mutex_lock(&mutex);
        locked++;
        CHECK(locked == 1);
        if (roll() % 8 == 0) csp_sleep(10 * CSP_MICROSECOND);
        locked--;
        csp_mutex_unlock(&mutex);
        if (roll() % 4 == 0) {
            volatile bool caught = false;
            csp_try csp_panic("%d", me);
            csp_catch(p) caught = p->message[0] == '0' + me;
            CHECK(caught && csp__bare.inside == 0);
        }
        computed[me]++;
        csp_yield();
    }
}

static void registers_stay(void)
{
    GO(2, relays);
    GO(3, fills);
    for (int i = 0; i < 4; i++) GO(0, computes, i);
    until_ended(4);
    for (int i = 0; i < 4; i++) CHECK(computed[i] > EVENTS / 1000);
    CHECK(middles > EVENTS / 20 && taken > EVENTS / 20 && locked == 0);
}

/* Without a call into csp, unless interrupts are masked: then when they are unmasked. */
static void it_is_at_once(void)
{
    for (int i = 0; i < 100; i++) {
        uint32_t before = got;
        int64_t until = csp_now() + 100 * TICK;
        while (got == before && csp_now() < until) continue;
        CHECK(got != before);
        uintptr_t was = csp_port_irq_save();
        before = got;
        for (until = csp_port_now() + 2 * board_tick_ns; csp_port_now() < until;) continue;
        CHECK(got == before);
        csp_port_irq_restore(was);
        CHECK(got != before);
    }
}

/* What a call itself has made ready runs before the call returns. No handler is on yet. */
static void a_send_gives_way(void)
{
    uint32_t before = got;
    csp_send(high, now());
    CHECK(got == before + 1);
    csp_isr_send(high, now());
    CHECK(got == before + 2);
}

/* Each call into csp ends outside csp: a goroutine that stayed inside would not be preempted. */
#define ENDS(...)                                                                                  \
    do {                                                                                           \
        (void)(__VA_ARGS__);                                                                       \
        if (csp__bare.inside != 0) csp_port_fatal("preempt.c: inside after " #__VA_ARGS__);        \
    } while (0)
static csp_once once;
static csp_local key;
static void nothing(void *arg)
{
    CHECK(csp__bare.inside == 0);
    (void)arg;
}
static int zero(void *arg)
{
    nothing(arg);
    return 0;
}
static void says(const char *line)
{
    (void)line;
}
csp_task(empty)
{
    nothing(NULL);
}
csp_task(exits)
{
    csp_defer(nothing, NULL);
    csp_exit();
}
csp_task(feeds, csp_sender(int), out)
{
    for (int i = 0; i < 8; i++) csp_send(out, i);
}

__attribute__((noinline)) static void calls_end_outside(void)
{
    csp_chan(int) c = NULL, d = NULL;
    csp_mutex mu = {0};
    csp_rwmutex rw = {0};
    csp_cond cond = {0};
    csp_sem sem = {0};
    csp_waitgroup wg = {0};
    csp_stats stats;
    csp_timer_store store = {0};
    csp_timer *t = NULL;
    csp_ticker *tick = NULL;
    csp_ctx *ctx = NULL, *child = NULL;
    csp_group *group = NULL;
    int v = 0;
    int64_t at = 0;
    uint64_t id = 0;
    csp_opts higher = {.priority = 2, .stack_size = STACK};
    ENDS(c = csp_make(int, 2));
    ENDS(d = csp_make(int, 0));
    ENDS(csp_send(c, 1));
    ENDS(csp_recv(c, &v));
    ENDS(csp_try_send(c, 1));
    ENDS(csp_try_recv(c, &v));
    ENDS(csp_try_recv(c, &v));
    ENDS(csp_send_until(c, 1, CSP_FOREVER));
    ENDS(csp_recv_until(c, &v, CSP_FOREVER));
    ENDS(csp_recv_until(c, &v, csp_now() + 1000));
    ENDS(csp_recv_until(c, &v, 0));
    ENDS(csp_isr_send(c, 1));
    ENDS(csp_isr_recv(c, &v));
    ENDS(csp_isr_wake(c));
    ENDS(csp_len(c));
    ENDS(csp_recv(c, &v));
    ENDS(csp_go_with(&higher, feeds, csp_send_end(d)));
    ENDS(csp_recv(d, &v));
    ENDS(csp_try_recv(d, &v));
    ENDS(csp_recv_until(d, &v, CSP_FOREVER));
    ENDS(csp_select(CSP_RECV(d, &v), CSP_RECV(c, &v)));
    ENDS(csp_select(CSP_RECV(c, &v), CSP_AFTER(1000)));
    ENDS(csp_select(CSP_RECV(c, &v), CSP_DEFAULT));
    ENDS(csp_select_first(CSP_SEND(c, 1), CSP_RECV(d, &v)));
    ENDS(csp_isr_recv(d, &v));
    csp_case cases[] = {CSP_RECV(c, &v), CSP_RECV(d, &v), CSP_RECV(c, &v),
                        CSP_RECV(d, &v), CSP_RECV(c, &v), CSP_RECV(d, &v)};
    ENDS(csp_select_n(cases, 6));
    while (csp_recv_until(d, &v, csp_now() + CSP_MILLISECOND) == CSP_OK) continue;
    ENDS(csp_yield());
    ENDS(csp_sleep(1000));
    ENDS(csp_sleep(0));
    ENDS(csp_id());
    ENDS(csp_count());
    ENDS(csp_set_name("calls"));
    ENDS(csp_local_set(&key, &v));
    ENDS(csp_local_get(&key));
    ENDS(csp_get_stats(&stats));
    ENDS(csp_dump(says));
    ENDS(csp_mutex_lock(&mu));
    ENDS(csp_mutex_try_lock(&mu));
    ENDS(csp_mutex_lock_until(&mu, csp_now() + 1000));
    ENDS(csp_mutex_lock_until(&mu, 0));
    ENDS(csp_cond_wait_until(&cond, &mu, csp_now() + 1000));
    ENDS(csp_cond_signal(&cond));
    ENDS(csp_cond_broadcast(&cond));
    ENDS(csp_mutex_unlock(&mu));
    ENDS(csp_rwmutex_lock(&rw));
    ENDS(csp_rwmutex_try_rlock(&rw));
    ENDS(csp_rwmutex_lock_until(&rw, csp_now() + 1000));
    ENDS(csp_rwmutex_rlock_until(&rw, csp_now() + 1000));
    ENDS(csp_rwmutex_unlock(&rw));
    ENDS(csp_rwmutex_rlock(&rw));
    ENDS(csp_rwmutex_try_lock(&rw));
    ENDS(csp_rwmutex_runlock(&rw));
    ENDS(csp_sem_init(&sem, 1));
    ENDS(csp_sem_acquire(&sem, 1));
    ENDS(csp_sem_try_acquire(&sem, 1));
    ENDS(csp_sem_acquire_until(&sem, 1, csp_now() + 1000));
    ENDS(csp_sem_release(&sem, 1));
    ENDS(csp_once_do(&once, nothing, NULL));
    ENDS(csp_once_do(&once, nothing, NULL));
    ENDS(csp_waitgroup_add(&wg, 1));
    ENDS(csp_waitgroup_wait_until(&wg, 0));
    ENDS(csp_waitgroup_wait_until(&wg, csp_now() + 1000));
    ENDS(csp_waitgroup_done(&wg));
    ENDS(csp_waitgroup_go(&wg, empty));
    ENDS(csp_waitgroup_wait(&wg));
    ENDS(csp_waitgroup_spawn(&wg, nothing, NULL));
    ENDS(csp_waitgroup_wait(&wg));
    ENDS(csp_go(exits));
    ENDS(csp_spawn(nothing, NULL));
    until_ended(2);
    ENDS(t = csp_timer_new(1000));
    ENDS(csp_recv(csp_timer_chan(t), &at));
    ENDS(csp_timer_reset(t, CSP_SECOND));
    ENDS(csp_timer_stop(t));
    ENDS(csp_timer_free(t));
    ENDS(t = csp_timer_new_in(&store, 1000));
    ENDS(csp_timer_free(t));
    ENDS(t = csp_after_func(1000, nothing, NULL));
    ENDS(csp_sleep(CSP_MILLISECOND));
    ENDS(csp_timer_free(t));
    ENDS(tick = csp_ticker_new(1000));
    ENDS(csp_recv(csp_ticker_chan(tick), &at));
    ENDS(csp_ticker_reset(tick, 2000));
    ENDS(csp_ticker_stop(tick));
    ENDS(csp_ticker_free(tick));
    ENDS(ctx = csp_ctx_with_timeout(csp_ctx_background(), CSP_SECOND));
    ENDS(child = csp_ctx_with_value(ctx, &key, &v));
    ENDS(csp_ctx_value(child, &key));
    ENDS(csp_ctx_ref(child));
    ENDS(csp_ctx_unref(child));
    ENDS(csp_ctx_done(child));
    ENDS(csp_ctx_done(child));
    ENDS(id = csp_ctx_on_done(child, nothing, NULL));
    ENDS(csp_ctx_on_done_stop(child, id));
    ENDS(csp_ctx_on_done(child, nothing, NULL));
    ENDS(csp_ctx_cancel(ctx));
    ENDS(csp_ctx_status(child));
    ENDS(csp_ctx_unref(child));
    ENDS(csp_ctx_unref(ctx));
    ENDS(group = csp_group_new(NULL));
    ENDS(csp_group_set_limit(group, 1));
    ENDS(csp_group_spawn(group, zero, NULL));
    ENDS(csp_group_wait(group));
    ENDS(csp_group_free(group));
    ENDS(csp_close(c));
    csp_try csp_send(c, 1);
    csp_catch(p) CHECK(csp__bare.inside == 0);
    csp_try csp_mutex_unlock(&mu);
    csp_catch(p) CHECK(csp__bare.inside == 0);
    ENDS(csp_ref(c));
    ENDS(csp_unref(c));
    ENDS(csp_unref(c));
    ENDS(csp_unref(d));
}

/* Each of these calls in its other ways: without a channel, at a deadline, after a wait, to a
 * goroutine that waits, closed, and with a panic. Those of priority 0 run while this one waits,
 * those of priority 2 at once. */
csp_task(gives, csp_sender(int), out)
{
    csp_try csp_send(out, 7);
    csp_catch(p) nothing(NULL);
    nothing(NULL);
}
csp_task(takes, csp_receiver(int), in)
{
    int v;
    csp_recv(in, &v);
    nothing(NULL);
}
csp_task(selects, csp_receiver(int), in)
{
    int v;
    csp_select(CSP_RECV(in, &v), CSP_AFTER(CSP_SECOND));
    nothing(NULL);
}
csp_task(holds, csp_mutex *, mu, csp_sender(int), out)
{
    csp_mutex_lock(mu);
    csp_send(out, 0); /* the receiver has a higher priority: it runs, and waits for the mutex */
    nothing(NULL);
    csp_mutex_unlock(mu);
    nothing(NULL);
}
csp_task(wants, csp_mutex *, mu)
{
    csp_mutex_lock(mu);
    nothing(NULL);
    csp_mutex_unlock(mu);
}
csp_task(ends, csp_waitgroup *, wg)
{
    csp_waitgroup_done(wg);
    nothing(NULL);
}
csp_task(waits, csp_waitgroup *, wg)
{
    csp_waitgroup_wait(wg);
    nothing(NULL);
}

enum { SEND_CLOSED, SELECT_CLOSED, CLOSE_CLOSED, UNREF, DONE, UNLOCK, LOCK, TOO_SMALL, PANICS };
static void panics(int how, csp_chan(int) c, csp_mutex *mu, csp_waitgroup *wg)
{
    csp_opts small = {.stack_size = 8};
    if (how == SEND_CLOSED) csp_send(c, 1);
    if (how == SELECT_CLOSED) csp_select(CSP_SEND(c, 1), CSP_DEFAULT);
    if (how == CLOSE_CLOSED) csp_close(c);
    if (how == UNREF) csp_unref(c);
    if (how == DONE) csp_waitgroup_done(wg);
    if (how == UNLOCK) csp_mutex_unlock(mu);
    if (how == LOCK) csp_mutex_lock(NULL);
    if (how == TOO_SMALL) csp_go_with(&small, empty);
}

__attribute__((noinline)) static bool panics_outside(int how, csp_chan(int) c, csp_mutex *mu,
                                                     csp_waitgroup *wg)
{
    volatile bool outside = false;
    csp_try panics(how, c, mu, wg);
    csp_catch(p) outside = csp__bare.inside == 0 && p->message[0] != 0;
    return outside && csp__bare.inside == 0;
}

__attribute__((noinline)) static void each_way_ends_outside(void)
{
    typedef struct large {
        uint32_t words[3 * CSP_ISR_SIZE / 4];
    } large;
    csp_chan(int) c = csp_make(int, 0), full = csp_make(int, 1), none = NULL;
    csp_chan(large) much = csp_make(large, 1);
    large many = {{1}};
    csp_mutex mu = {0};
    csp_waitgroup wg = {0};
    csp_opts low = {.priority = 0, .stack_size = STACK}, top = {.priority = 2, .stack_size = STACK};
    int v = 0;
    csp_send(full, 1);
    ENDS(csp_try_send(none, 1));
    ENDS(csp_try_recv(none, &v));
    ENDS(csp_isr_send(none, 1));
    ENDS(csp_isr_recv(none, &v));
    ENDS(csp_send_until(none, 1, 0));
    ENDS(csp_recv_until(none, &v, csp_now() + 1000));
    ENDS(csp_select(CSP_RECV(none, &v), CSP_DEFAULT));
    ENDS(csp_select(CSP_RECV(none, &v), CSP_AFTER(1000)));

    ENDS(csp_try_send(full, 2));
    ENDS(csp_isr_send(full, 2));
    ENDS(csp_send_until(full, 2, 0));
    ENDS(csp_send_until(full, 2, csp_now() + 1000));
    ENDS(csp_select(CSP_SEND(full, 2), CSP_UNTIL(0)));
    ENDS(csp_select(CSP_SEND(full, 2), CSP_RECV(c, &v), CSP_AFTER(1000)));
    ENDS(csp_send(much, many));
    ENDS(csp_recv(much, &many));

    csp_go_with(&low, gives, csp_send_end(c));
    ENDS(csp_recv(c, &v));
    csp_go_with(&low, gives, csp_send_end(c));
    ENDS(csp_recv_until(c, &v, csp_now() + CSP_SECOND));
    csp_go_with(&low, gives, csp_send_end(c));
    ENDS(csp_select(CSP_RECV(c, &v), CSP_SEND(full, 2)));
    CHECK(v == 7);
    csp_go_with(&low, takes, csp_recv_end(full));
    ENDS(csp_send(full, 2));
    csp_go_with(&low, takes, csp_recv_end(full));
    ENDS(csp_send_until(full, 2, csp_now() + CSP_SECOND));
    csp_go_with(&low, takes, csp_recv_end(full));
    ENDS(csp_select(CSP_RECV(c, &v), CSP_SEND(full, 2)));

    csp_go_with(&top, takes, csp_recv_end(c));
    ENDS(csp_send(c, 1));
    csp_go_with(&top, takes, csp_recv_end(c));
    ENDS(csp_try_send(c, 1));
    csp_go_with(&top, selects, csp_recv_end(c));
    ENDS(csp_isr_send(c, 1));
    csp_go_with(&top, selects, csp_recv_end(c));
    ENDS(csp_select(CSP_SEND(c, 1), CSP_RECV(none, &v)));
    csp_go_with(&top, gives, csp_send_end(full));
    ENDS(csp_recv(full, &v));
    csp_go_with(&top, gives, csp_send_end(c));
    ENDS(csp_select(CSP_RECV(c, &v), CSP_DEFAULT));

    csp_go_with(&low, holds, &mu, csp_send_end(c));
    csp_recv(c, &v);
    ENDS(csp_mutex_try_lock(&mu));
    ENDS(csp_mutex_lock(&mu));
    csp_go_with(&top, wants, &mu);
    ENDS(csp_mutex_unlock(&mu));
    csp_go_with(&low, holds, &mu, csp_send_end(c));
    csp_recv(c, &v);
    ENDS(csp_mutex_lock_until(&mu, csp_now() + CSP_SECOND));
    ENDS(csp_mutex_unlock(&mu));
    ENDS(csp_waitgroup_add(&wg, 1));
    csp_go_with(&low, ends, &wg);
    ENDS(csp_waitgroup_wait(&wg));
    ENDS(csp_waitgroup_wait(&wg));
    csp_waitgroup_add(&wg, 1);
    csp_go_with(&low, ends, &wg);
    ENDS(csp_waitgroup_wait_until(&wg, csp_now() + CSP_SECOND));
    csp_waitgroup_add(&wg, 1);
    csp_go_with(&top, waits, &wg);
    ENDS(csp_waitgroup_done(&wg));

    csp_go_with(&top, takes, csp_recv_end(c));
    CHECK(panics_outside(UNREF, c, &mu, &wg));
    ENDS(csp_close(c));
    csp_go_with(&top, gives, csp_send_end(full));
    ENDS(csp_close(full));
    ENDS(csp_recv(full, &v));
    ENDS(csp_recv(full, &v));
    ENDS(csp_try_recv(c, &v));
    ENDS(csp_recv_until(c, &v, csp_now() + CSP_SECOND));
    ENDS(csp_isr_send(c, 1));
    ENDS(csp_try_send(c, 1));
    ENDS(csp_select(CSP_RECV(c, &v), CSP_DEFAULT));
    for (int how = 0; how < PANICS; how++)
        if (how != UNREF) CHECK(panics_outside(how, c, &mu, &wg));
    until_ended(2);
    csp_unref(c);
    csp_unref(full);
    csp_unref(much);
}

/* TIME SLICES. Two that compute and never call csp have their turns, and a sleep ends in time. */
static volatile uint32_t turns[2];
static uint32_t stack; // that being preempted has taken
static volatile bool stop;

static const char *deepest[2]; // where their own frames end
static csp__g *them[2];

csp_task(never_calls, int, me)
{
    them[me] = csp__bare.g;
    deepest[me] = (const char *)__builtin_frame_address(0);
#if defined(__arm__) && defined(__ARM_FP)
    __asm__ volatile("vmov s0, %0" ::"r"(me) : "s0"); // a goroutine with the FPU
#endif
    while (!stop) turns[me]++;
}

static void slices_are_given(void)
{
    int64_t others = csp_count();
    for (int i = 0; i < 2; i++) GO(0, never_calls, i);
    plain = yields = true;
    for (int i = 0; i < 20; i++) {
        int64_t until = csp_now() + CSP_MILLISECOND;
        csp_sleep_until(until);
        CHECK(csp_now() - until < 3 * TICK);
    }
    yields = false;
    const uintptr_t *low = csp__low(them[0]);
    while (*low == CSP__CANARY_WORD) low++;
    stack = (uint32_t)(deepest[0] - (const char *)low);
    stop = true;
    CHECK(turns[0] > 100 && turns[1] > 100);
    until_ended(others);
}
#endif

/* ---- from a handler to a goroutine of higher priority, beside four that compute ---- */

csp_task(slices)
{
    while (got < EVENTS) {
        int64_t until = csp_now() + CSP_MILLISECOND;
        while (csp_now() < until) hold(1, 50);
        csp_yield();
    }
}

static void firmware(void *arg)
{
    (void)arg;
    board_tick_ns = 50000;
    GO(3, receives);
#ifdef CSP_PREEMPT
    csp_sleep(CSP_MILLISECOND);
    a_send_gives_way();
    calls_end_outside();
    each_way_ends_outside();
#endif
    board_start_tick(tick_isr);
#ifdef CSP_PREEMPT
    registers_stay();
    it_is_at_once();
    slices_are_given();
#endif
    int64_t others = csp_count();
    plain = true;
    got = lost = 0;
    for (int i = 0; i < 4; i++) GO(0, slices);
    worst = 0;
    until_ended(others);
    CHECK(lost == 0);
#if defined(CSP_PREEMPT) && !defined(__unix__)
    CHECK(worst < 100000); /* ns: no call into csp has made it wait for the end of a slice */
#endif
    board_print("preempt: ok\n");
#ifdef CSP_PREEMPT
    print(stack);
    board_print(" bytes of stack for being preempted\n");
#endif
    print(worst);
    board_print(" ns from handler to goroutine, worst of ");
    print(got);
    board_print("\n");
    board_exit(0);
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    csp_opts opts = {.priority = 1, .stack_size = 4 * STACK};
    CHECK(csp_init(&config) == CSP_OK);
    csp_run_with(&opts, firmware, NULL);
    board_exit(1);
}
