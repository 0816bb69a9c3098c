/* isr_stress.c - a million values sent by interrupt handlers: none is lost while there is room,
 * and each one that is refused has been counted.
 *
 * What to notice: the handler never blocks; it learns at once that a channel is full. Interrupts
 * strike anywhere: two goroutines that play ping-pong keep the core inside csp, and now and then
 * sleep, so that it idles.
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "board.h"

#define CHECK(x) ((x) ? (void)0 : csp_port_fatal("isr_stress: " #x))
#define HALF 500000u /* to each of two channels */
#define BURST 4
#define REFUSED 20000u

static uint64_t memory[2048 * sizeof(void *) / 8];
CSP_CHAN_STATIC(uint32_t, plain, 64);
CSP_CHAN_STATIC(uint32_t, picked, 64);
CSP_CHAN_STATIC(uint32_t, narrow, 4);

static volatile uint32_t sent, refused, tried;
static volatile bool flood;

static void tick_isr(void)
{
    for (int i = 0; i < BURST && sent < HALF; i++) {
        CHECK(csp_isr_send(plain, sent) == CSP_OK);
        CHECK(csp_isr_send(picked, sent) == CSP_OK);
        sent++;
    }
    for (int i = 0; i < BURST && flood; i++)
        if (csp_isr_send(narrow, tried++) != CSP_OK) refused++;
}

csp_task(receives, csp_sender(uint32_t), done)
{
    for (uint32_t i = 0, v; i < HALF; i++) {
        CHECK(csp_recv(plain, &v));
        CHECK(v == i);
    }
    csp_send(done, 0);
}

csp_task(selects, csp_sender(uint32_t), done)
{
    csp_chan(uint32_t) never = csp_make(uint32_t, 0);
    for (uint32_t i = 0, v; i < HALF;) {
        if (csp_select(CSP_RECV(picked, &v), CSP_RECV(never, NULL), CSP_AFTER(CSP_SECOND)) != 0)
            csp_port_fatal("isr_stress: nothing came");
        CHECK(v == i);
        i++;
    }
    csp_unref(never);
    csp_send(done, 0);
}

csp_task(pongs, csp_receiver(uint32_t), in, csp_sender(uint32_t), out)
{
    csp_range(v, in) csp_send(out, v);
    csp_close(out);
}

csp_task(pings, csp_sender(uint32_t), out, csp_receiver(uint32_t), in)
{
    for (uint32_t i = 0, v; sent < HALF; i++) {
        csp_send(out, i);
        CHECK(csp_recv(in, &v) && v == i);
        if (i % 32 == 0) csp_sleep(70 * CSP_MICROSECOND);
    }
    csp_close(out);
    csp_recv(in, NULL);
}

static void none_is_lost(void)
{
    csp_chan(uint32_t) a = csp_make(uint32_t, 0), b = csp_make(uint32_t, 0);
    csp_chan(uint32_t) done = csp_make(uint32_t, 0);
    csp_go(receives, csp_send_end(done));
    csp_go(selects, csp_send_end(done));
    csp_go(pongs, csp_recv_end(a), csp_send_end(b));
    csp_go(pings, csp_send_end(a), csp_recv_end(b));
    csp_recv(done, NULL);
    csp_recv(done, NULL);
    while (csp_count() > 1) csp_sleep(CSP_MILLISECOND);
    csp_unref(a);
    csp_unref(b);
    csp_unref(done);
}

/* Each value is its own number, so that what is missing shows. */
static void each_refusal_is_counted(void)
{
    uint32_t received = 0, gaps = 0, expected = 0, v;
    flood = true;
    while (refused < REFUSED) {
        csp_sleep(300 * CSP_MICROSECOND);
        while (csp_try_recv(narrow, &v) == CSP_OK) {
            CHECK(v >= expected);
            gaps += v - expected;
            expected = v + 1;
            received++;
        }
    }
    flood = false;
    while (csp_try_recv(narrow, &v) == CSP_OK) {
        gaps += v - expected;
        expected = v + 1;
        received++;
    }
    CHECK(received > 0 && received + refused == tried);
    CHECK(gaps + (tried - expected) == refused);
}

static void firmware(void *arg)
{
    (void)arg;
    board_tick_ns = 100000;
    board_start_tick(tick_isr);
    none_is_lost();
    each_refusal_is_counted();
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    CHECK(csp_init(&config) == CSP_OK);
    csp_run(firmware, NULL);
    board_print("stress: ok\n");
    board_exit(0);
}
