/* priorities.c - CSP_PRIORITIES: who runs before whom, from a handler too, and who lends to whom.
 *
 * What to notice: nothing is taken away from a goroutine in the middle of its own code. One of
 * higher priority runs at the next call into csp, whichever that is, even one that never waits.
 */
#define CSP_BARE
#define CSP_PRIORITIES 5
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "board.h"

#define CHECK(x) ((x) ? (void)0 : csp_port_fatal("priorities: " #x))
#define GO(level, ...)                                                                             \
    csp_go_with((&(csp_opts){.priority = level, .stack_size = 128 * sizeof(void *)}), __VA_ARGS__)

static uint64_t memory[2560 * sizeof(void *) / 8];
static int order[16], n;

csp_task(notes, int, me, int, times)
{
    for (; times > 0; times--) {
        order[n++] = me;
        csp_yield();
    }
}

/* This goroutine, of the highest priority, starts others and then lets them run. */
static void until_all_ended(int others)
{
    while (csp_count() > others) csp_sleep(CSP_MILLISECOND);
}

/* The highest first, and in turn within a priority. */
static void order_of_runs(void)
{
    static const int expected[] = {4, 4, 2, 3, 2, 3, 1};
    GO(1, notes, 1, 1);
    GO(2, notes, 2, 2);
    GO(2, notes, 3, 2);
    GO(3, notes, 4, 2);
    CHECK(n == 0);
    until_all_ended(2);
    for (int i = 0; i < 7; i++) CHECK(order[i] == expected[i]);
}

/* A handler sends, and the waiting goroutine of higher priority runs at the next call. */
CSP_CHAN_STATIC(uint32_t, ticks, 8);
static volatile uint32_t sent, got, late;
static void tick_isr(void)
{
    if (csp_isr_send(ticks, sent) == CSP_OK) sent++;
}

csp_task(receives)
{
    csp_range(v, ticks) got = v + 1;
}

csp_task(busy, csp_receiver(int), never, uint32_t, until)
{
    while (got < until) {
        uint32_t before = sent;
        csp_try_recv(never, NULL);
        if (got < before) late++;
    }
}

static void handlers_wake_the_higher(void)
{
    csp_chan(int) never = csp_make(int, 0);
    GO(3, receives);
    for (int i = 0; i < 4; i++) GO(1, busy, csp_recv_end(never), 200);
    board_start_tick(tick_isr);
    until_all_ended(3);
    CHECK(got >= 200 && late == 0);
    csp_unref(never);
}

/* INHERITANCE. The lowest has what the highest wants; one in between would keep both away. */
static csp_mutex a, b;
static volatile bool done, kept_away;
static volatile int lent;

csp_task(has_a, int, rounds)
{
    csp_mutex_lock(&a);
    for (; rounds > 0; rounds--) csp_yield();
    csp_mutex_unlock(&a);
}

csp_task(has_b_wants_a)
{
    csp_mutex_lock(&b);
    csp_mutex_lock(&a);
    csp_mutex_unlock(&a);
    csp_mutex_unlock(&b);
}

csp_task(in_between)
{
    for (int i = 0; i < 1000 && !done; i++) csp_yield();
    if (!done) kept_away = true;
}

csp_task(wants, csp_mutex *, mu, int64_t, until)
{
    csp_status status = csp_mutex_lock_until(mu, until);
    if (status == CSP_OK) csp_mutex_unlock(mu);
    lent = (int)status;
    done = true;
}

static void mutexes_lend_priority(void)
{
    GO(0, has_a, 10);
    csp_sleep(CSP_MILLISECOND / 8); /* it has it */
    GO(2, in_between);
    GO(3, wants, &a, CSP_FOREVER);
    until_all_ended(3);
    CHECK(done && lent == CSP_OK && !kept_away);

    done = false, lent = 99; /* through two */
    GO(0, has_a, 2000);
    csp_sleep(CSP_MILLISECOND / 8);
    GO(1, has_b_wants_a);
    csp_sleep(CSP_MILLISECOND / 8);
    GO(2, in_between);
    GO(3, wants, &b, CSP_FOREVER);
    until_all_ended(3);
    CHECK(done && lent == CSP_OK && !kept_away);
}

/* What is lent until a deadline goes back. */
csp_task(has_a_for_long)
{
    csp__g *me = csp__bare.g;
    csp_mutex_lock(&a);
    done = false, lent = 99;
    GO(3, wants, &a, csp_now() + CSP_MILLISECOND);
    csp_yield();
    CHECK(me->level == 3);
    while (!done) csp_yield();
    CHECK(lent == CSP_TIMEOUT && me->level == 1);
    csp_mutex_unlock(&a);
}

csp_task(tests, csp_sender(int), ended)
{
    order_of_runs();
    handlers_wake_the_higher();
    mutexes_lend_priority();
    GO(1, has_a_for_long);
    until_all_ended(3);
    csp_send(ended, 1);
}

static void firmware(void *arg)
{
    csp_chan(int) ended = csp_make(int, 0);
    csp_opts highest = {.priority = CSP_PRIORITIES - 1}, none = {.priority = CSP_PRIORITIES};
    (void)arg;
    csp_go_with(&highest, tests, csp_send_end(ended));
    csp_recv(ended, NULL);
    done = false;
    {
        csp_try csp_spawn_with(&none, firmware, NULL);
        csp_catch(p) done = true;
    }
    CHECK(done);
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    CHECK(csp_init(&config) == CSP_OK);
    csp_run(firmware, NULL);
    board_print("priorities: ok\n");
    board_exit(0);
}
