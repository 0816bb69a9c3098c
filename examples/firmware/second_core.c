/* second_core.c - core 1 of two_cores.c: answers each message, once core 0 has said so. */
#define CSP_BARE
#define CSP_STATIC
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "two_cores.h"

static uint64_t memory[2048 * sizeof(void *) / 8];
CSP_CHAN_STATIC(char, there_wakes, 1);
CSP_CHAN_STATIC(char, back_wakes, 1);
CSP_CHAN_STATIC(char, control_wakes, 1);
CSP_CHAN_STATIC(message, questions, ROOM);
CSP_CHAN_STATIC(message, orders, 1);
CSP_CHAN_STATIC(message, answers, 0);
static link_end from_there = {.ring = &there};
static link_end from_control = {.ring = &control};
static link_end to_back = {.ring = &back};

static void doorbell_isr(void)
{
    link_arrives(&from_there);
    link_arrives(&from_control);
    link_has_room(&to_back);
}

static void firmware(void *arg)
{
    (void)arg;
    csp_go(link_pumps, &from_there);
    csp_go(link_pumps, &from_control);
    csp_go(link_sends, &to_back, csp_recv_end(answers));
    csp_recv(orders, NULL);
    for (uint32_t i = 0;; i++) {
        message m;
        csp_recv(questions, &m);
        if (m.number != i || m.value != i * i) csp_port_fatal("core 1: lost, or out of order");
        csp_send(answers, (message){i, m.value + 1});
    }
}

void second_core(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};

    if (csp_init(&config) != CSP_OK) csp_port_fatal("core 1: csp_init");
    from_there.wakes = there_wakes;
    from_there.to = questions;
    from_control.wakes = control_wakes;
    from_control.to = orders;
    to_back.wakes = back_wakes;
    board_on_doorbell(doorbell_isr);
    board_doorbell(1); // what core 0 has sent until now
    csp_run(firmware, NULL);
}
