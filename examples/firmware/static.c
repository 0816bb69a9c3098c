/* static.c - a firmware without an allocator: CSP_NO_MEMORY.
 *
 * What to notice: every goroutine, channel, timer and ticker stands in memory that the linker has
 * placed, so its map tells all that will ever be used, and nothing can run out. A call that would
 * take memory does not compile, and csp's allocator is not in the image: `make static` looks.
 */
#define CSP_BARE
#define CSP_NO_MEMORY
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "board.h"

#define CHECK(x) ((x) ? (void)0 : csp_port_fatal("static: " #x))
#define ROUNDS 20u
#ifdef __ARM_FP
#define WORDS 192 // an interrupt puts 26 words there
#else
#define WORDS 160
#endif

typedef struct { // the goroutine's record and stack
    uint64_t bytes[(WORDS * sizeof(void *) + 64) / 8];
} stack;
#define ON(place, label)                                                                           \
    (&(csp_opts){.name = label, .stack = &(place), .stack_size = sizeof(place)})

static stack main_stack[4], sampler_stack, watcher_stack, worker_stacks[2];
static csp_timer_store ticks, watchdog;
static csp_mutex door;
static csp_waitgroup workers;
static uint32_t fed, late, entered;
CSP_CHAN_STATIC(uint32_t, samples, 4);
CSP_CHAN_STATIC(char, done, 1);

static volatile uint32_t sent;
static void tick_isr(void)
{
    if (csp_isr_send(samples, sent) == CSP_OK) sent++;
}

/* Samples come from a handler; the ticker of this goroutine says how many to a period. */
csp_task(sampler)
{
    csp_ticker *ticker = csp_ticker_new_in(&ticks, 4 * CSP_MILLISECOND);
    for (uint32_t next = 0, v, periods = 0; periods < ROUNDS;) {
        switch (csp_select(CSP_RECV(samples, &v), CSP_RECV(csp_ticker_chan(ticker)))) {
        case 0:
            CHECK(v == next);
            next++;
            break;
        case 1:
            periods++;
            fed++;
            break;
        }
    }
    csp_ticker_free(ticker);
    csp_send(done, 1);
}

/* A timer that is set again before it fires. */
csp_task(watcher)
{
    csp_timer *timer = csp_timer_new_in(&watchdog, CSP_SECOND);
    for (uint32_t seen = 0; seen < ROUNDS;) {
        if (csp_recv_until(csp_timer_chan(timer), NULL, csp_now() + CSP_MILLISECOND) == CSP_OK)
            late++;
        if (fed != seen) CHECK(csp_timer_reset(timer, CSP_SECOND));
        seen = fed;
    }
    CHECK(csp_timer_stop(timer) && !csp_timer_stop(timer));
    csp_timer_free(timer);
    csp_send(done, 2);
}

csp_task(worker)
{
    csp_mutex_lock(&door);
    csp_yield();
    entered++;
    csp_mutex_unlock(&door);
    csp_waitgroup_done(&workers);
}

/* Memory of a goroutine is free again when it has ended. */
static void work(void)
{
    for (uint32_t i = 0; i < ROUNDS; i++) {
        csp_waitgroup_add(&workers, 2);
        csp_go_with(ON(worker_stacks[0], "worker"), worker);
        csp_go_with(ON(worker_stacks[1], "worker"), worker);
        csp_waitgroup_wait(&workers);
        while (csp_count() > 3) csp_yield();
    }
    CHECK(entered == 2 * ROUNDS);
}

static void refused(void *unused)
{
    csp_case cases[8] = {{0}};
    (void)unused;
    {
        csp_try csp_go_with(ON(sampler_stack, "second"), worker);
        csp_catch(p) late += p->message[0] == 'a'; // a goroutine lives in this memory already
    }
    {
        csp_try csp_go_with(&(csp_opts){.name = "nowhere"}, worker);
        csp_catch(p) late += p->message[0] == 'o'; // out of memory
    }
    {
        csp_try csp_ticker_new_in(&ticks, CSP_SECOND);
        csp_catch(p) late += p->message[0] == 'a'; // a new timer in memory that holds a timer
    }
    {
        csp_try csp_select_n(cases, 8); // more than fit into its own frame
        csp_catch(p) late += p->message[0] == 'o';
    }
}

static void firmware(void *ms)
{
    csp_stats s;
    csp_go_with(ON(sampler_stack, "sampler"), sampler);
    csp_go_with(ON(watcher_stack, "watcher"), watcher);
    csp_sleep(*(int *)ms * CSP_MILLISECOND);
    work();
    refused(NULL);
    CHECK(late == 4);
    CHECK(csp_recv(done, NULL) && csp_recv(done, NULL));
    csp_get_stats(&s);
    CHECK(s.goroutines <= 3 && s.spawned == 3 + 2 * ROUNDS);
}

int main(void)
{
    int ms = 2;
    board_start_tick(tick_isr);
    CHECK(csp_init(NULL) == CSP_INVALID);
    CHECK(csp_init(&(csp_config){0}) == CSP_OK);
    csp_run_with(ON(main_stack, "firmware"), firmware, &ms);
    board_print("static: ok\n");
    board_exit(0);
    return 0;
}
