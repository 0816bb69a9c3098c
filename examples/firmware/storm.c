/* storm.c - everything at once: handlers of three priorities that interrupt each other, a select of
 * six cases, a ticker, functions after a time, deadlines, a mutex. EVENTS of each kind, and none of
 * them may be lost or come twice.
 *
 * What to notice: each value is its own number, so that what is missing shows. A handler that finds
 * a channel full sends the same number at its next turn. On boards whose handlers do not nest the
 * tick does the work of all three.
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "board.h"

#ifndef EVENTS
#define EVENTS 100000u
#endif
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define CHECK(x) ((x) ? (void)0 : csp_port_fatal("storm.c:" TEXT(__LINE__) ": " #x))

enum { LOW, MIDDLE, HIGH, LEVELS };
CSP_CHAN_STATIC(uint32_t, low, 4);
CSP_CHAN_STATIC(uint32_t, middle, 4);
CSP_CHAN_STATIC(uint32_t, high, 4);
CSP_CHAN_STATIC(uint32_t, shared, 8); // of all three: the level, and a number of that level
CSP_CHAN_STATIC(uint32_t, orders, 2); // to the middle handler
CSP_CHAN_STATIC(char, flag, 1);
CSP_CHAN_STATIC(char, fired, 1);
CSP_CHAN_STATIC(char, done, 4);
static uint64_t memory[2816 * sizeof(void *) / 8];

/* ---- handlers ---- */

static volatile uint32_t sent[LEVELS], sent_shared[LEVELS], taken, dice = 1;
static volatile uint32_t depth, deepest[LEVELS + 1]; // deepest[n]: how often n handlers were nested
static bool nests;

/* The handlers last differently long, now and then longer than a tick's period: so they interrupt
 * each other anywhere. */
static uint32_t roll(void)
{
    uint32_t x = dice;
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    return dice = x;
}

static void send_both(int level, csp_sender(uint32_t) own)
{
    depth++;
    deepest[depth]++;
    if (sent[level] < EVENTS && csp_isr_send(own, sent[level]) == CSP_OK) sent[level]++;
    for (uint32_t i = roll() % (roll() % 16 == 0 ? 4096 : 64); i > 0; i--) __asm__ volatile("");
    if (sent_shared[level] < EVENTS &&
        csp_isr_send(shared, (uint32_t)level << 28 | sent_shared[level]) == CSP_OK)
        sent_shared[level]++;
    depth--;
}

static void low_isr(void)
{
    csp_isr_wake(flag);
    send_both(LOW, csp_send_end(low));
}

static void middle_isr(void)
{
    uint32_t v;
    while (csp_isr_recv(orders, &v) == CSP_OK) {
        CHECK(v == taken);
        taken = v + 1;
    }
    send_both(MIDDLE, csp_send_end(middle));
}

/* The highest. The other two begin when it ends, the middle one first; or they interrupt what is
 * below them. A tick that comes while one of them runs interrupts that. */
static void tick_isr(void)
{
    uint32_t what = roll() >> 8;
    send_both(HIGH, csp_send_end(high));
    if (nests) {
        board_pend(what % 4 != 0, what % 3 != 0);
    } else {
        if (what % 4 != 0) middle_isr();
        if (what % 3 != 0) low_isr();
    }
}

/* ---- goroutines ---- */

static void ends(void)
{
    csp_send(done, 0);
}

csp_task(chooses)
{
    uint32_t got[LEVELS] = {0}, v[LEVELS], ordered = 0, ticks = 0, late = 0;
    csp_ticker *ticker = csp_ticker_new(150 * CSP_MICROSECOND);
    for (int64_t last = 0, now = 0;;) {
        bool all = got[LOW] + got[MIDDLE] + got[HIGH] == 3 * EVENTS && ticks >= EVENTS;
        if (all && ordered == EVENTS) break;
        csp_sender(uint32_t) order = ordered < EVENTS ? csp_send_end(orders) : NULL;
        int level =
            csp_select(CSP_RECV(low, &v[LOW]), CSP_RECV(middle, &v[MIDDLE]),
                       CSP_RECV(high, &v[HIGH]), CSP_SEND(order, ordered),
                       CSP_RECV(csp_ticker_chan(ticker), &now), CSP_AFTER(50 * CSP_MICROSECOND));
        if (level == 3) {
            ordered++;
        } else if (level == 4) {
            CHECK(now > last);
            last = now;
            ticks++;
        } else if (level == 5) {
            late++;
        } else {
            CHECK(v[level] == got[level]);
            got[level]++;
        }
    }
    csp_ticker_free(ticker);
    (void)late;
    ends();
}

csp_task(shares)
{
    uint32_t got[LEVELS] = {0}, v;
    while (got[LOW] + got[MIDDLE] + got[HIGH] < 3 * EVENTS) {
        csp_status status = csp_recv_until(shared, &v, csp_now() + 30 * CSP_MICROSECOND);
        if (status == CSP_TIMEOUT) continue;
        CHECK(status == CSP_OK && v >> 28 < LEVELS && (v & 0xfffffff) == got[v >> 28]);
        got[v >> 28]++;
    }
    ends();
}

/* Deadlines: some end a wait that nothing else would end, some are in a race with a handler. */
csp_task(expires)
{
    csp_chan(int) never = csp_make(int, 0);
    uint32_t woken = 0;
    for (uint32_t i = 0; i < EVENTS; i++) {
        int64_t until = csp_now() + (int64_t)(roll() % 64) * CSP_MICROSECOND;
        if (i % 2 == 0)
            CHECK(csp_recv_until(never, NULL, until) == CSP_TIMEOUT);
        else
            woken += csp_recv_until(flag, NULL, until) == CSP_OK;
        CHECK(csp_now() >= until || i % 2 == 1);
    }
    CHECK(woken > 0);
    csp_unref(never);
    ends();
}

static csp_mutex mutex;
static uint32_t inside, locked;

csp_task(locks)
{
    while (locked < EVENTS) {
        csp_mutex_lock(&mutex);
        CHECK(inside++ == 0);
        if (locked % 4 == 0) csp_yield();
        locked++;
        CHECK(--inside == 0);
        csp_mutex_unlock(&mutex);
        if (roll() % 8 == 0) csp_yield();
    }
}

static uint32_t ran;
static void fires(void *arg)
{
    ++*(uint32_t *)arg;
    csp_send(fired, 0);
}

/* A function runs once for each time that its timer is set, unless a stop said that it will not. */
csp_task(afters)
{
    csp_timer *t = csp_after_func(10 * CSP_MICROSECOND, fires, &ran);
    uint32_t expected = 0;
    for (uint32_t i = 0; i < EVENTS; i++) {
        if (i > 0) csp_timer_reset(t, (int64_t)(roll() % 32) * CSP_MICROSECOND);
        if (i % 2 == 1) csp_yield();
        if (i % 2 == 1 && csp_timer_stop(t)) continue;
        csp_recv(fired, NULL);
        CHECK(ran == ++expected);
    }
    csp_timer_free(t);
    ends();
}

static void storm(void *arg)
{
    (void)arg;
    nests = board_nest(middle_isr, low_isr);
    board_tick_ns = 50000;
    csp_go(chooses);
    csp_go(shares);
    csp_go(expires);
    csp_go(locks);
    csp_go(locks);
    csp_go(afters);
    board_start_tick(tick_isr);
    for (int i = 0; i < 4; i++) csp_recv(done, NULL);
    while (csp_count() > 1) csp_yield();
    for (int level = 0; level < LEVELS; level++)
        CHECK(sent[level] == EVENTS && sent_shared[level] == EVENTS);
    while (taken < EVENTS) csp_sleep(100 * CSP_MICROSECOND);
    CHECK(taken == EVENTS && locked >= EVENTS);
    if (nests) CHECK(deepest[2] > EVENTS / 100 && deepest[3] > 0);
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
#ifdef GUARD_H /* by -include guard.h; the guard is a part of each stack */
    config.stack_size = 256 * sizeof(void *) + GUARD_SIZE;
#endif
    CHECK(csp_init(&config) == CSP_OK);
    csp_run(storm, NULL);
    board_print("storm: ok\n");
    board_exit(0);
}
