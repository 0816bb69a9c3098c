/* beside.c - how long does a handler's event wait for its goroutine while others are busy? 1, 2 and
 * 4 goroutines work for a millisecond each between their calls. Run by `make table`, once with one
 * priority and once with two, where the goroutine that waits has the higher one.
 *
 * What to notice: with one priority the event waits for a round of all; with two, until the running
 * goroutine's next call. The longest of 32 events counts.
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include <stdint.h>

#include "csp.h"

#include "board.h"

static uint64_t memory[2048 * sizeof(void *) / 8];
static volatile int64_t sent_at;
static int64_t longest;
static bool done;

CSP_CHAN_STATIC(int, events, 1);
static void tick_isr(void)
{
    sent_at = csp_port_now();
    csp_isr_send(events, 1);
}

csp_task(works)
{
    while (!done) {
        int64_t until = csp_now() + CSP_MILLISECOND;
        while (csp_now() < until) continue;
        csp_yield();
    }
}

csp_task(woken)
{
    for (int i = 0; i < 32; i++) {
        csp_recv(events, NULL);
        int64_t waited = csp_now() - sent_at;
        if (i > 0 && waited > longest) longest = waited; // the first one may have met nobody
    }
    done = true;
}

static void measures(void *arg)
{
    csp_opts first = {.priority = CSP_PRIORITIES - 1};
    char text[64];
    (void)arg;
    board_tick_ns = 9700000;
    board_start_tick(tick_isr);
    for (int n = 1; n <= 4; n *= 2) {
        done = false;
        longest = 0;
        csp_go_with(&first, woken);
        for (int i = 0; i < n; i++) csp_go(works);
        while (csp_count() > 1) csp_yield();
        csp__print(text, sizeof text, "%d busy: %u us\n", n, (unsigned)(longest / 1000));
        board_print(text);
    }
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    csp_init(&config);
    csp_run(measures, NULL);
    board_exit(0);
}
