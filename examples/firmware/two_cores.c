/* two_cores.c - two cores, each with a csp of its own, and channels between them (link.h). This is
 * core 0; core 1 is second_core.c.
 *
 *     make -C examples/firmware two-cores
 *
 * What to notice: ten thousand messages go there and as many come back, at the same time, and all
 * are in order. At first core 1 takes none. Then exactly as many can be sent as the channel there,
 * the ring and link_sends hold together. The next send waits until core 1 goes on.
 */
#define CSP_BARE
#define CSP_STATIC
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "two_cores.h"

ring there, back, control;

static uint64_t memory[2560 * sizeof(void *) / 8];
CSP_CHAN_STATIC(char, there_wakes, 1);
CSP_CHAN_STATIC(char, back_wakes, 1);
CSP_CHAN_STATIC(char, control_wakes, 1);
CSP_CHAN_STATIC(message, sends, 0);
CSP_CHAN_STATIC(message, orders, 0);
CSP_CHAN_STATIC(message, answers, ROOM);
static link_end to_there = {.ring = &there, .peer = 1};
static link_end to_control = {.ring = &control, .peer = 1};
static link_end from_back = {.ring = &back, .peer = 1};

static void check(bool ok, const char *what)
{
    if (!ok) csp_port_fatal(what);
}

static void doorbell_isr(void)
{
    link_has_room(&to_there);
    link_has_room(&to_control);
    link_arrives(&from_back);
}

csp_task(sends_rest, uint32_t, from)
{
    for (uint32_t i = from; i < MESSAGES; i++) csp_send(sends, (message){i, i * i});
}

static void firmware(void *arg)
{
    const uint32_t fit = ROOM + LINK_SIZE + 1; // one is in the hands of link_sends

    (void)arg;
    csp_go(link_sends, &to_there, csp_recv_end(sends));
    csp_go(link_sends, &to_control, csp_recv_end(orders));
    csp_go(link_pumps, &from_back);
    for (uint32_t i = 0; i < fit; i++) csp_send(sends, (message){i, i * i});
    csp_status full = csp_send_until(sends, ((message){fit, 0}), csp_now() + 20 * CSP_MILLISECOND);
    check(full == CSP_TIMEOUT, "one more than fit was sent");
    board_print("13 fit, the next waits\n");
    csp_send(orders, (message){0, 0});
    csp_go(sends_rest, fit);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        message m;
        csp_recv(answers, &m);
        check(m.number == i && m.value == i * i + 1, "lost, or out of order");
    }
    board_print("10000 there and back, in order\n");
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};

    if (csp_init(&config) != CSP_OK) return 1;
    to_there.wakes = there_wakes;
    to_control.wakes = control_wakes;
    from_back.wakes = back_wakes;
    from_back.to = answers;
    board_on_doorbell(doorbell_isr);
    board_start_core(second_core);
    csp_run(firmware, NULL);
    board_exit(0);
}
