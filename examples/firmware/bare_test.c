/* bare_test.c - does csp keep its promises on bare metal? Runs on every board, and once for each
 * feature macro.
 *
 * What to notice: csp_port_fatal is taken over, so that the test sees the last words of what must
 * not go on, and goes on itself.
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#define csp_port_fatal test_fatal
#define CSP_HOOK_SWITCH(i, n) (hooked.switches++, hooked.last = (i), hooked.name = (n))
#define CSP_HOOK_READY(i, n) (hooked.readied++, hooked.ready = (i))
#define CSP_HOOK_HANDLER(c) (hooked.calls++, hooked.call = (c))
#define CSP_HOOK_IDLE(t) (hooked.idles++, hooked.until = (t))
#define CSP_HOOK_FATAL(m) (hooked.words = (m))
#include <stdint.h>
static struct {
    unsigned switches, readied, calls, idles;
    uint32_t last, ready;
    int64_t until;
    const char *name, *call, *words;
} hooked;
#include "csp.h"
#undef csp_port_fatal

extern void board_start_tick(void (*isr)(void));
extern void board_print(const char *text);
extern void board_exit(int code);
extern void csp_port_fatal(const char *message) __attribute__((noreturn));

#ifdef __unix__
#define W (4 * sizeof(void *)) /* the libc's functions want stack */
#else
#define W sizeof(void *)
#endif
#ifdef CSP_PREEMPT
#define LEAST (80 * W)
#else
#define LEAST (64 * W)
#endif
#define STACK (256 * W)               /* with the FPU an interrupt puts 26 words there */
static uint64_t memory[1792 * W / 8]; /* 7 KiB on a 32-bit core */

static void fail(const char *what, int line)
{
    char text[] = "....: ";
    for (int i = 3; i >= 0; i--, line /= 10) text[i] = (char)('0' + line % 10);
    board_print("bare_test.c:");
    board_print(text);
    csp_port_fatal(what);
}
/* Each test has a frame of its own. Inlined into tests(), the locals of all of them would lie in
 * one frame, below which the calls into csp find no room. */
#define TEST __attribute__((noinline))
#define CHECK(x) ((x) ? (void)0 : fail(#x, __LINE__))

static bool same(const char *a, const char *b) /* as far as b goes */
{
    for (; *b != 0; a++, b++)
        if (*a != *b) return false;
    return true;
}

static size_t strlen_of(const char *text)
{
    size_t n = 0;
    while (text[n] != 0) n++;
    return n;
}

static size_t used(void)
{
    csp_stats s;
    while (csp_count() > 1) csp_yield(); /* those that are about to end */
    csp_get_stats(&s);
    CHECK(s.memory_used <= s.memory_peak && s.memory_peak <= s.memory_size);
    return s.memory_used;
}

/* ---- FATAL(message, code): code must end in csp_port_fatal with that message ---- */

#ifdef CSP_NO_PANIC /* nor anything to come back with */
#define CATCHES 0
#define FATAL(message, code) ((void)same)
void test_fatal(const char *message)
{
    csp_port_fatal(message);
}
#else
#define CATCHES 1
static const char *last_words = "";
static csp_x_mark survivor;
void test_fatal(const char *message)
{
    if (last_words != NULL) csp_port_fatal(message);
    last_words = message;
    csp_x_mark_jump(survivor);
}
#define FATAL(message, code)                                                                       \
    do {                                                                                           \
        last_words = NULL;                                                                         \
        if (csp_x_mark_set(survivor) == 0) {                                                       \
            code;                                                                                  \
            fail("goes on: " #code, __LINE__);                                                     \
        }                                                                                          \
        if (!same(last_words, message)) fail(last_words, __LINE__);                                \
    } while (0)
#endif

#ifdef CSP_NO_NAMES
#define CALLED(call, why) "called " why
#else
#define CALLED(call, why) "csp_" call " called " why
#endif

/* ---- channels ---- */

csp_task(echo, csp_receiver(int), in, csp_sender(int), out)
{
    csp_range(v, in) csp_send(out, v + 1);
    csp_close(out);
}

static TEST void ping_pong(void) /* the least stack is enough */
{
    csp_chan(int) a = csp_make(int, 0), b = csp_make(int, 0);
    csp_go_with((&(csp_opts){.name = "echo", .stack_size = LEAST}), echo, csp_recv_end(a),
                csp_send_end(b));
    int v = 0;
    for (int i = 0; i < 100; i++) {
        csp_send(a, v);
        CHECK(csp_recv(b, &v));
    }
    CHECK(v == 100);
    csp_close(a);
    CHECK(!csp_recv(b, &v) && v == 0);
    csp_unref(a);
    csp_unref(b);
}

static TEST void buffers(void)
{
    csp_chan(uint16_t) c = csp_make(uint16_t, 3);
    uint16_t v;
    for (uint16_t i = 0; i < 3; i++) CHECK(csp_try_send(c, i) == CSP_OK);
    CHECK(csp_try_send(c, 9) == CSP_AGAIN && csp_len(c) == 3 && csp_cap(c) == 3);
    for (uint16_t i = 0; i < 3; i++) CHECK(csp_recv(c, &v) && v == i);
    CHECK(csp_try_recv(c, &v) == CSP_AGAIN);
    csp_close(c);
    CHECK(csp_try_send(c, 1) == CSP_CLOSED && csp_try_recv(c, &v) == CSP_CLOSED);
    csp_unref(c);
}

static int turns[3];
csp_task(turn, int, i, csp_sender(int), done)
{
    for (turns[i] = 0; turns[i] < 10; turns[i]++) {
        for (int j = 0; j < 3; j++) CHECK(turns[j] - turns[i] <= 1 && turns[i] - turns[j] <= 1);
        csp_yield();
    }
    csp_send(done, i);
}

static TEST void yields_take_turns(void)
{
    csp_chan(int) done = csp_make(int, 0);
    for (int i = 0; i < 3; i++) csp_go(turn, i, csp_send_end(done));
    for (int i = 0, v = -1; i < 3; i++) CHECK(csp_recv(done, &v) && v == i);
    csp_unref(done);
}

/* What the floating-point registers hold is the goroutine's, whoever runs in between. */
csp_task(floats, float, a, csp_sender(int), done)
{
    float b = a * 2, c = a * 3, d = a * 4;
    double e = (double)a * 5;
    for (int i = 0; i < 50; i++) {
        csp_yield();
        a += 1, b += 2, c += 3, d += 4, e += 0.5;
    }
    CHECK(b == a * 2 && c == a * 3 && d == a * 4);
    csp_send(done, (int)e);
}

static TEST void registers_are_kept(void)
{
    csp_chan(int) done = csp_make(int, 0);
    for (int i = 0; i < 3; i++) csp_go(floats, (float)i, csp_send_end(done));
    for (int i = 0, v; i < 3; i++) CHECK(csp_recv(done, &v) && v == i * 5 + 25);
    csp_unref(done);
}

/* ---- memory ---- */

static void count(void *p)
{
    ++*(int *)p;
}

static uint64_t place[(48 * W + 80 * W) / 8];

static TEST void goroutines_where_the_firmware_wants_them(void)
{
    int n = 0;
    size_t before = used();
    csp_opts opts = {.name = "placed", .stack = place, .stack_size = sizeof place};
    for (int i = 1; i <= 3; i++) {
        csp_stats s;
        CHECK(csp_spawn_with(&opts, count, &n) != 0);
        csp_get_stats(&s);
        CHECK(s.memory_used == before); /* nothing of it comes from the block */
        csp_yield();
        CHECK(n == i);
    }
}

static uint64_t main_stack[(48 * W + 192 * W) / 8];

static void main_place(void *bytes)
{
    csp_stats s;
    char here;
    csp_get_stats(&s);
    CHECK(s.memory_used == 0 && &here > (char *)bytes && &here < (char *)bytes + sizeof main_stack);
    FATAL("panic: csp_run called from a goroutine", csp_run_with(NULL, main_place, bytes));
}

static TEST void memory_comes_back(void)
{
    int n = 0;
    size_t before = used();
    for (int i = 0; i < 200; i++) { /* far more than there is at once */
        CHECK(csp_spawn(count, &n) != 0);
        csp_chan(int) c = csp_make(int, i % 20);
        csp_yield();
        csp_unref(c);
        CHECK(n == i + 1);
    }
    CHECK(used() == before);
    csp_stats s;
    csp_get_stats(&s);
    CHECK(s.goroutines == 1 && s.spawned >= 200 && s.switches > 0);
    csp_spawn(count, &n);
    csp_get_stats(&s);
    /* a record has 64 bytes on a 32-bit core, 80 with priorities */
    CHECK(s.memory_used - before <= STACK + (CSP_PRIORITIES > 1 ? 20 : 16) * sizeof(void *));
    csp_yield();
}

static TEST void exhaustion_is_said(void)
{
    size_t before = used();
#if CATCHES
    volatile int made = 0;
    int n = 0;
    {
        csp_try for (;; made++) csp_spawn(count, &n);
        csp_catch(p) CHECK(same(p->message, "out of memory ("));
    }
    CHECK(made >= 3 && used() == before && n == made);
#endif
    FATAL("panic: out of memory (", csp_make(int, sizeof memory));
    FATAL("panic: out of memory (", csp_make(char, 1 << 20));
    CHECK(used() == before);
}

/* ---- defers and panics ---- */

static int notes;
static void note(void *digit)
{
    notes = notes * 10 + *(int *)digit;
}

csp_task(leaves, int *, one, int *, two)
{
    csp_defer(note, one);
    {
        csp_defer(note, two);
        csp_exit();
    }
}

static TEST void defers(void)
{
    int one = 1, two = 2;
    notes = 0;
    csp_go(leaves, &one, &two);
    csp_yield();
    CHECK(notes == 21);
#if CATCHES
    notes = 0;
    {
        csp_try
        {
            csp_defer(note, &one);
            csp_panic("no %d of %s: %x %u %c%%", -7, "nine", 0xabc, 1u << 31, '!');
        }
        csp_catch(p) CHECK(same(p->message, "no -7 of nine: abc 2147483648 !%"));
    }
    CHECK(notes == 1);
    csp_chan(int) c = csp_make(int, 1);
    csp_close(c);
    {
        csp_try csp_send(c, 1);
        csp_catch(p) CHECK(same(p->message, "send on closed channel"));
    }
    csp_unref(c);
#endif
}

static TEST void misuse_is_fatal(void)
{
    csp_chan(int) c = csp_make(int, 0);
    (void)c;
#ifdef CSP_NO_NAMES
    FATAL("panic: all wrong", csp_panic("all %s", "wrong"));
#else
    FATAL("panic: all wrong [main ", csp_panic("all %s", "wrong"));
#endif
    FATAL("panic: close of nil channel", csp_close((csp_chan(int))NULL));
    FATAL("panic: csp_make: capacity -1 of 4 bytes", csp_make(int, -1));
    FATAL("panic: csp_run called from a goroutine", csp_run(count, NULL));
    csp_unref(c);
}

/* ---- time and select ---- */

#ifndef CSP_NO_TIMERS
csp_task(sleeper, int, ms, csp_sender(int), out)
{
    csp_sleep(ms * CSP_MILLISECOND);
    csp_send(out, ms);
}

static TEST void sleeps_end_in_order(void)
{
    csp_chan(int) c = csp_make(int, 0);
    static const int ms[] = {9, 3, 12, 6};
    int64_t start = csp_now();
    for (int i = 0; i < 4; i++) csp_go(sleeper, ms[i], csp_send_end(c));
    for (int i = 1, v = 0; i <= 4; i++) {
        CHECK(csp_recv(c, &v) && v == 3 * i);
        CHECK(csp_now() - start >= 3 * i * CSP_MILLISECOND);
    }
    int v;
    CHECK(csp_recv_until(c, &v, csp_now() + CSP_MILLISECOND) == CSP_TIMEOUT);
    csp_go(sleeper, 1, csp_send_end(c));
    CHECK(csp_recv_until(c, &v, csp_now() + CSP_HOUR) == CSP_OK && v == 1);
    csp_unref(c);
}

static TEST void timers_where_the_firmware_wants_them(void)
{
    static csp_timer_store store;
    size_t before = used();
    csp_timer *t = csp_timer_new_in(&store, CSP_MILLISECOND);
    int64_t at = 0;
    CHECK((void *)t == (void *)&store);
    FATAL("panic: a new timer in memory that holds a timer", csp_ticker_new_in(&store, 1));
    CHECK(csp_recv(csp_timer_chan(t), &at) && at > 0 && !csp_timer_stop(t));
    csp_timer_reset(t, CSP_HOUR);
    CHECK(csp_timer_stop(t) && used() == before);
    csp_timer_free(t);
    for (int i = 0; i < 3; i++) {
        csp_ticker *k = csp_ticker_new_in(&store, CSP_MILLISECOND);
        CHECK(csp_recv(csp_ticker_chan(k), NULL) && csp_recv(csp_ticker_chan(k), NULL));
        csp_ticker_free(k);
    }
    CHECK(used() == before);
}

static TEST void timers(void)
{
    csp_timer *t = csp_timer_new(CSP_MILLISECOND);
    int64_t at = 0;
    CHECK(csp_recv(csp_timer_chan(t), &at) && at > 0 && !csp_timer_stop(t));
    csp_timer_reset(t, CSP_HOUR);
    CHECK(csp_timer_stop(t));
    csp_timer_free(t);
    csp_ticker *k = csp_ticker_new(CSP_MILLISECOND);
    for (int i = 0; i < 3; i++) CHECK(csp_recv(csp_ticker_chan(k), NULL));
    csp_ticker_free(k);
    timers_where_the_firmware_wants_them();
    int n = 0;
    csp_timer *f = csp_after_func(CSP_MILLISECOND, count, &n);
    while (n == 0) csp_yield(); /* timers fire although somebody can always run */
    csp_timer_free(f);
}
#endif

/* Elements that are too large to be copied with interrupts masked. */
typedef struct {
    char bytes[61];
} large;

csp_task(takes_large, csp_receiver(large), in, csp_sender(int), done)
{
    large v;
    int n = 0;
    for (memset(&v, 1, sizeof v); csp_recv(in, &v); n++) CHECK(v.bytes[0] == n && v.bytes[60] == n);
    CHECK(v.bytes[0] == 0 && v.bytes[60] == 0);
    csp_send(done, n);
}

static TEST void large_values(void)
{
    csp_chan(int) done = csp_make(int, 0);
    CHECK(sizeof(large) > CSP_ISR_SIZE);
    for (int capacity = 0; capacity < 2; capacity++) {
        csp_chan(large) c = csp_make(large, capacity);
        large v;
        int n = 0;
        csp_go(takes_large, csp_recv_end(c), csp_send_end(done));
        for (int i = 0; i < 5; i++) {
            memset(&v, i, sizeof v);
            csp_send(c, v);
        }
        csp_yield();
        csp_close(c); /* it waits, and gets zeros */
        CHECK(csp_recv(done, &n) && n == 5);
        csp_unref(c);
    }
    csp_unref(done);
}

static bool found_ready, found_whole;
static void reads_dump(const char *line)
{
    size_t n = strlen_of(line);
    for (size_t i = 0; i + 7 <= n; i++)
        if (same(line + i, "[ready]")) found_ready = true;
    if (n > 70 && same(line + n - 4, "name")) found_whole = true;
}

static TEST void dump_shows_who_is_ready(void)
{
    csp_chan(int) c = csp_make(int, 0), d = csp_make(int, 0);
    csp_opts opts = {.name = "a goroutine with a somewhat longer name", .stack_size = LEAST};
    csp_go_with(&opts, echo, csp_recv_end(c), csp_send_end(d));
    csp_yield();
    csp_send(c, 1); /* it waits no longer for that */
    found_ready = found_whole = false;
    csp_dump(reads_dump);
    CHECK(found_ready);
#ifndef CSP_NO_NAMES
    CHECK(found_whole);
#endif
    csp_recv(d, NULL);
    csp_close(c);
    csp_recv(d, NULL);
    csp_unref(c);
    csp_unref(d);
}

#ifndef CSP_NO_SELECT
/* Both directions of one channel, and more cases than fit into any fixed room. */
static TEST void selects_of_any_size(void)
{
    csp_chan(int) c = csp_make(int, 0), out = csp_make(int, 0), never = csp_make(int, 0);
    static csp_case cases[20];
    int v = 0, w = 7;
    size_t before = used();
    for (int i = 0; i < 18; i++) cases[i] = CSP_RECV(never, &v);
    cases[18] = CSP_RECV(c, &v);
    cases[19] = CSP_SEND_PTR(c, &w);
    csp_go_with((&(csp_opts){.stack_size = LEAST}), echo, csp_recv_end(c), csp_send_end(out));
    CHECK(csp_select_n(cases, 20) == 19); /* not with itself */
    CHECK(csp_recv(out, &v) && v == 8);
    CHECK(csp_select(CSP_RECV(never, &v), CSP_SEND(c, 3), CSP_RECV(c, &v)) == 1);
    CHECK(csp_recv(out, &v) && v == 4);
    csp_close(c);
    CHECK(!csp_recv(out, NULL));
    CHECK(used() == before);
    csp_unref(c);
    csp_unref(out);
    csp_unref(never);
}

csp_task(sends, csp_sender(int), a, csp_sender(int), b)
{
    for (int i = 0; i < 20; i++) csp_select(CSP_SEND(a, i), CSP_SEND(b, i));
}

static TEST void selects(void)
{
    csp_chan(int) a = csp_make(int, 0), b = csp_make(int, 0);
    int v = -1, seen[2] = {0, 0};
    CHECK(csp_select(CSP_RECV(a, &v), CSP_DEFAULT) == 1);
    csp_go(sends, csp_send_end(a), csp_send_end(b));
    for (int i = 0; i < 20; i++) {
        seen[csp_select(CSP_RECV(a, &v), CSP_RECV(b, &v))]++;
        CHECK(v == i);
    }
    CHECK(seen[0] + seen[1] == 20);
#ifndef CSP_NO_TIMERS
    CHECK(csp_select(CSP_RECV(a, &v), CSP_RECV(b, &v), CSP_AFTER(CSP_MILLISECOND)) == 2);
    CHECK(csp_select(CSP_RECV(a, &v), CSP_UNTIL(csp_now())) == 1);
#endif
    csp_close(a);
    bool ok = true;
    CHECK(csp_select_first(CSP_RECV(a, &v, &ok), CSP_DEFAULT) == 0 && !ok && v == 0);
    csp_unref(a);
    csp_unref(b);
}
#endif

/* ---- turns ---- */

/* Each of these loops could go on for ever: nothing in it ever has to wait. */
static volatile bool stop;
csp_task(never_waits, int, kind)
{
    csp_chan(int) c = csp_make(int, 1);
    csp_mutex mu = {0};
    csp_rwmutex rw = {0};
    csp_sem sem = {0};
    csp_waitgroup wg = {0};
    csp_sem_init(&sem, 1);
    for (stop = false; !stop;) {
        if (kind == 0) csp_send(c, 1), csp_recv(c, NULL);
#ifndef CSP_NO_SELECT
        if (kind == 1) csp_send(c, 1), csp_select(CSP_RECV(c, NULL), CSP_RECV(c, NULL));
#endif
        if (kind == 2) csp_mutex_lock(&mu), csp_mutex_unlock(&mu);
        if (kind == 3) csp_rwmutex_rlock(&rw), csp_rwmutex_runlock(&rw);
        if (kind == 4) csp_rwmutex_lock(&rw), csp_rwmutex_unlock(&rw);
        if (kind == 5) csp_sem_acquire(&sem, 1), csp_sem_release(&sem, 1);
        if (kind == 6) csp_waitgroup_wait(&wg);
#ifdef CSP_NO_SELECT
        if (kind == 1) break;
#endif
    }
    csp_unref(c);
    stop = true;
}

static TEST void a_turn_ends(void)
{
    for (int kind = 0; kind <= 6; kind++) {
        csp_go(never_waits, kind);
        csp_yield(); /* comes back, and lets it go on */
        stop = true;
        while (csp_count() > 1) csp_yield();
    }
#ifndef CSP_NO_TIMERS
    csp_go(never_waits, 0);
    csp_sleep(3 * CSP_MILLISECOND); /* and timers fire */
    stop = true;
    while (csp_count() > 1) csp_yield();
#endif
}

#ifndef CSP_NO_TIMERS
csp_task(yields_each_millisecond, int, times)
{
    for (stop = false; times > 0 && !stop; times--) {
        int64_t end = csp_now() + CSP_MILLISECOND;
        while (csp_now() < end) continue;
        csp_yield();
    }
}

/* No later than one turn of the other. */
static TEST void timers_fire_at_the_next_switch(void)
{
    csp_go(yields_each_millisecond, 100);
    csp_yield();
    int64_t best = CSP_HOUR;
    /* On a board that is a process, others may come in between, and often on a busy host. */
    for (int i = 0; i < 50 && best >= 2 * CSP_MILLISECOND; i++) {
        int64_t due = csp_now() + 100 * CSP_MICROSECOND;
        csp_sleep_until(due);
        if (csp_now() - due < best) best = csp_now() - due;
    }
    stop = true;
    CHECK(best < 2 * CSP_MILLISECOND);
    csp_yield();
    csp_yield();
}

/* The rest of a division by the period, which takes no function of libgcc. */
static TEST void tickers_skip_what_is_late(void)
{
    int64_t start = csp_now(), at = 0;
    csp_ticker *k = csp_ticker_new(2 * CSP_MILLISECOND);
    while (csp_now() - start < 7 * CSP_MILLISECOND) continue;
    csp_yield();
    CHECK(csp_recv(csp_ticker_chan(k), &at) && at - start >= 7 * CSP_MILLISECOND);
    CHECK(csp_recv(csp_ticker_chan(k), &at) && at - start >= 8 * CSP_MILLISECOND);
    csp_ticker_free(k);
}
#endif

/* ---- sync ---- */

static int inside, entered;
static csp_mutex door;
csp_task(enters, csp_waitgroup *, wg)
{
    for (int i = 0; i < 3; i++) {
        csp_mutex_lock(&door);
        CHECK(++inside == 1);
        csp_yield(); /* the others come, and wait */
        entered++;
        inside--;
        csp_mutex_unlock(&door);
    }
    csp_waitgroup_done(wg);
}

static csp_cond changed;
csp_task(waits_for_change, csp_waitgroup *, wg)
{
    csp_mutex_lock(&door);
    while (entered != 100) csp_cond_wait(&changed, &door);
    csp_mutex_unlock(&door);
    csp_waitgroup_done(wg);
}

csp_task(reads, csp_rwmutex *, rw, csp_sem *, sem, csp_waitgroup *, wg)
{
    csp_rwmutex_rlock(rw);
    csp_sem_acquire(sem, 2);
    CHECK(entered == 100);
    csp_sem_release(sem, 2);
    csp_rwmutex_runlock(rw);
    csp_waitgroup_done(wg);
}

static TEST void sync(void)
{
    csp_waitgroup wg = {0};
    csp_once once = {0};
    csp_rwmutex rw = {0};
    csp_sem sem = {0};
    int n = 0;
    entered = 0;
    csp_waitgroup_add(&wg, 3);
    for (int i = 0; i < 3; i++) csp_go(enters, &wg);
    csp_waitgroup_wait(&wg);
    CHECK(entered == 9 && csp_mutex_try_lock(&door) && !csp_mutex_try_lock(&door));
    csp_waitgroup_add(&wg, 2);
    for (int i = 0; i < 2; i++) csp_go(waits_for_change, &wg);
    csp_yield();
    entered = 100;
    csp_cond_broadcast(&changed);
#ifndef CSP_NO_TIMERS
    CHECK(csp_waitgroup_wait_until(&wg, csp_now() + CSP_MILLISECOND) == CSP_TIMEOUT);
    CHECK(csp_mutex_lock_until(&door, csp_now() + CSP_MILLISECOND) == CSP_TIMEOUT);
#endif
    csp_mutex_unlock(&door);
    csp_waitgroup_wait(&wg);
    for (int i = 0; i < 2; i++) csp_once_do(&once, count, &n);
    CHECK(n == 1);
    csp_sem_init(&sem, 3);
    csp_rwmutex_lock(&rw);
    csp_waitgroup_add(&wg, 2);
    for (int i = 0; i < 2; i++) csp_go(reads, &rw, &sem, &wg);
    csp_yield();
    csp_rwmutex_unlock(&rw);
    csp_waitgroup_wait(&wg);
    CHECK(csp_sem_try_acquire(&sem, 3) && !csp_sem_try_acquire(&sem, 1));
    csp_sem_release(&sem, 3);
    FATAL("panic: sync: unlock of unlocked mutex", csp_mutex_unlock(&door));
    FATAL("panic: sync: negative WaitGroup counter", csp_waitgroup_done(&wg));
    CHECK(csp_count() == 1);
}

/* ---- contexts ---- */

#ifndef CSP_NO_CONTEXTS
csp_task(until_done, csp_ctx *, ctx, csp_sender(int), out)
{
#ifdef CSP_NO_SELECT
    csp_recv(csp_ctx_done(ctx), NULL);
#else
    csp_select(CSP_DONE(ctx), CSP_RECV((csp_chan(int))NULL, NULL));
#endif
    csp_send(out, (int)csp_ctx_status(ctx));
}

static int fails(void *arg)
{
    csp_yield();
    return *(int *)arg;
}

static TEST void contexts(void)
{
    size_t before = used();
    csp_chan(int) out = csp_make(int, 1);
    csp_ctx *top = csp_ctx_with_cancel(csp_ctx_background()),
            *below = csp_ctx_with_value(top, &out, &inside);
    int v = 0, seven = 7;
    csp_go(until_done, below, csp_send_end(out));
    csp_yield();
    CHECK(csp_ctx_status(below) == CSP_OK && csp_ctx_value(below, &out) == &inside);
    csp_ctx_cancel(top);
    CHECK(csp_recv(out, &v) && v == CSP_CANCELED);
    csp_ctx_unref(below);
    csp_ctx_unref(top);
#ifndef CSP_NO_TIMERS
    csp_ctx *soon = csp_ctx_with_timeout(csp_ctx_background(), CSP_MILLISECOND);
    csp_go(until_done, soon, csp_send_end(out));
    CHECK(csp_recv(out, &v) && v == CSP_TIMEOUT);
    csp_ctx_unref(soon);
#endif
    csp_group *group = csp_group_new(NULL);
    csp_group_set_limit(group, 1);
    for (int i = 0; i < 3; i++) csp_group_spawn(group, fails, &seven);
    CHECK(csp_group_wait(group) == 7 && csp_ctx_status(csp_group_ctx(group)) == CSP_CANCELED);
    csp_group_free(group);
    csp_unref(out);
    CHECK(used() == before);
}
#endif

/* ---- hooks ---- */

csp_task(says_id, csp_sender(uint32_t), out)
{
    CHECK(hooked.last == (uint32_t)csp_id());
#ifndef CSP_NO_NAMES
    CHECK(same(hooked.name, "says_id"));
#endif
    csp_send(out, (uint32_t)csp_id());
}

static TEST void hooks_tell(void)
{
    csp_stats s;
    uint32_t id = 0;
    csp_chan(uint32_t) out = csp_make(uint32_t, 0);
    unsigned readied = hooked.readied;
    csp_go(says_id, csp_send_end(out));
    CHECK(hooked.readied == readied + 1);
    uint32_t begun = hooked.ready;
    CHECK(csp_recv(out, &id) && id == begun && hooked.last == (uint32_t)csp_id());
    csp_get_stats(&s);
    CHECK(s.switches == hooked.switches);
#ifndef CSP_NO_TIMERS
    unsigned idles = hooked.idles;
    int64_t until;
    do { // a busy host may be late, and the sleep over before it has begun
        until = csp_now() + CSP_MILLISECOND;
        csp_sleep_until(until);
    } while (hooked.idles == idles);
    CHECK(hooked.until == until && hooked.last == (uint32_t)csp_id());
#endif
#ifndef CSP_NO_PANIC
    FATAL("panic: last", csp_panic("last"));
    CHECK(same(hooked.words, "panic: last"));
#endif
    csp_unref(out);
}

/* ---- interrupts ---- */

CSP_CHAN_STATIC(uint32_t, ticks, 4);
CSP_CHAN_STATIC(char, flag, 1);
CSP_CHAN_STATIC(uint32_t, orders, 2);
static volatile uint32_t sent, dropped, taken;
static volatile float level;

/* What is not for handlers says so in each of them; the rest works. */
static volatile bool told;
static const char *own_stack, *own_end;
static csp_waitgroup handlers;
static void misuses(void)
{
    char here;
#ifndef CSP_NO_TIMERS
    CHECK(csp_now() > 0);
#endif
    CHECK(csp_count() >= 1 && csp_len(ticks) >= 0 && csp_cap(ticks) == 4);
    CHECK(&here < own_stack || &here >= own_end); /* a stack of their own */
    FATAL(CALLED("send", "by an interrupt handler"), csp_send(ticks, 1));
    FATAL(CALLED("unref", "by an interrupt handler"), csp_unref(ticks));
    FATAL(CALLED("ref", "by an interrupt handler"), (void)csp_ref(ticks));
    FATAL(CALLED("close", "by an interrupt handler"), csp_close(ticks));
    FATAL(CALLED("try_send", "by an interrupt handler"), (void)csp_try_send(ticks, 1));
    FATAL(CALLED("mutex_lock", "by an interrupt handler"), csp_mutex_lock(&door));
    FATAL(CALLED("mutex_try_lock", "by an interrupt handler"), csp_mutex_try_lock(&door));
    FATAL(CALLED("mutex_unlock", "by an interrupt handler"), csp_mutex_unlock(&door));
    FATAL(CALLED("waitgroup_add", "by an interrupt handler"), csp_waitgroup_add(&handlers, 1));
    FATAL(CALLED("cond_signal", "by an interrupt handler"), csp_cond_signal(&changed));
    FATAL(CALLED("yield", "by an interrupt handler"), csp_yield());
    FATAL(CALLED("spawn", "by an interrupt handler"), csp_spawn(count, NULL));
    FATAL(CALLED("make", "by an interrupt handler"), (void)csp_make(int, 1));
    (void)handlers;
    told = true;
}

static void tick_isr(void)
{
    uint32_t v;
    if (!told) misuses();
    if (csp_isr_send(ticks, sent) == CSP_OK)
        sent++;
    else
        dropped++;
    level = level * 0.5f + 1; /* a handler may calculate, too */
    csp_isr_wake(flag);
    if (csp_isr_recv(orders, &v) == CSP_OK) taken += v;
}

static TEST void interrupts_send(void)
{
    own_stack = (const char *)memory;
    own_end = own_stack + sizeof memory;
    board_start_tick(tick_isr);
    while (!told) csp_recv(flag, NULL);
    for (uint32_t i = 0, v; i < 20; i++) CHECK(csp_recv(ticks, &v) && v == i);
    for (int i = 0; i < 5; i++) CHECK(csp_recv(flag, NULL)); /* at most one is kept */
    for (uint32_t i = 1; i <= 6; i++) csp_send(orders, i);   /* a handler takes them */
    while (taken < 21) csp_recv(flag, NULL);
    CHECK(hooked.calls >= 3 * 21);
#ifndef CSP_NO_NAMES
    CHECK(same(hooked.call, "isr_recv") || same(hooked.call, "isr_send"));
#endif
    while (dropped == 0) csp_recv(flag, NULL);
    for (uint32_t i = 20, v; i < 24; i++) CHECK(csp_recv(ticks, &v) && v == i);
}

csp_task(adds, int *, sum, int, n)
{
    *sum += n;
}

csp_task(adds_part, int64_t, from, int64_t, to, int *, sum)
{
    for (; from < to; from++) *sum += (int)from;
}

/* One core does everything in place, in whatever way the block is left. */
static TEST void forks(void)
{
    int sum = 0;
    {
        csp_fork(one, adds, &sum, 1);
        csp_fork(two, adds, &sum, 20);
        csp_join(one);
        CHECK(sum == 1);
    }
    CHECK(sum == 21);
    csp_for(0, 10, 3, adds_part, &sum);
    csp_for(10, 20, 0, adds_part, &sum);
    csp_for(3, 3, 0, adds_part, &sum);
    CHECK(sum == 21 + 190);
#ifndef CSP_NO_PANIC
    volatile bool caught = false;
    csp_try
    {
        csp_fork(last, adds, &sum, 1000);
        csp_for(1, 0, 0, adds_part, &sum);
    }
    csp_catch(p) caught = same(p->message, "csp_for");
    CHECK(caught && sum == 1211);
#endif
}

static void tests(void *arg)
{
    static csp_local key;
    (void)arg;
    CHECK(csp_id() != 0 && csp_count() == 1);
    csp_local_set(&key, &key);
    ping_pong();
    buffers();
    yields_take_turns();
    registers_are_kept();
    goroutines_where_the_firmware_wants_them();
    memory_comes_back();
    exhaustion_is_said();
    defers();
    forks();
    misuse_is_fatal();
#ifndef CSP_NO_TIMERS
    sleeps_end_in_order();
    timers();
    timers_fire_at_the_next_switch();
    tickers_skip_what_is_late();
#endif
    a_turn_ends();
#ifndef CSP_NO_SELECT
    selects();
    selects_of_any_size();
#endif
    large_values();
    dump_shows_who_is_ready();
    sync();
#ifndef CSP_NO_CONTEXTS
    contexts();
#endif
    hooks_tell();
    interrupts_send();
    CHECK(csp_local_get(&key) == &key);
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory, .stack_size = STACK};
    FATAL(CALLED("yield", "before csp_init"), csp_yield());
    FATAL(CALLED("make", "before csp_init"), (void)csp_make(int, 0));
    CHECK(csp_init(NULL) == CSP_INVALID);
    CHECK(csp_init(&(csp_config){.memory = memory, .memory_size = 8}) == CSP_INVALID);
    for (int i = 0; i < 2; i++) {
        CHECK(csp_init(&config) == CSP_OK && csp_init(&config) == CSP_INVALID);
        csp_chan(int) c = csp_make(int, 1);
        csp_go(echo, csp_recv_end(c), NULL);
        csp_send(c, 1); /* main may call everything, too */
        csp_shutdown();
    }
    CHECK(csp_init(&config) == CSP_OK);
    csp_opts opts = {.name = "main", .stack = main_stack, .stack_size = sizeof main_stack};
    csp_run_with(&opts, main_place, main_stack);
    csp_run(tests, NULL);
    board_print("bare: ok\n");
    board_exit(0);
    return 0;
}
