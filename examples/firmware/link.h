/* link.h - a channel from one core to another: a ring in memory that both see, and a doorbell.
 *
 *     sending core                                       receiving core
 *     channel --> link_sends --> ring, doorbell ~~~~~~~> handler --> csp_isr_send --> channel
 *                (goroutine)                                     \-> link_pumps ----/
 *
 * Each core has a csp of its own: CSP_STATIC makes all of csp private to one source file, so one
 * image holds two. Two images work as well, where both have a `ring` at the same address.
 * Goroutines use the channels at both ends as any others. When the receiving channel is full,
 * link_pumps waits for room in the handler's place, the ring fills, link_sends waits, and so do the
 * goroutines that send to it.
 *
 * What to notice: no lock, and no word that both cores write. Two protocols join the cores. Each
 * side stores, then has a fence, then looks at what the other side stores. So at least one side
 * sees the other's store:
 *
 *   A MESSAGE IS NOT OVERLOOKED                ROOM IS NOT OVERLOOKED
 *   sender               handler               sender                    receiver
 *   1 stores tail        1 clears doorbell     1 stores wants            1 stores head
 *   2 fence              2 fence               2 fence                   2 fence
 *   3 rings doorbell     3 loads tail          3 loads head: full?       3 loads wants: rings?
 *                                                waits for the doorbell
 *
 * On the left a handler that does not see the new tail has cleared the doorbell before it was rung,
 * and is called again. On the right a receiver that does not see `wants` has made room before the
 * sender looks. Without the fences a core may do 3 before 1, and both sides sleep.
 */
#ifndef LINK_H
#define LINK_H
#include <stdatomic.h>

#include "board.h"
#include "csp.h"

typedef struct message { // of at most CSP_ISR_SIZE bytes
    uint32_t number, value;
} message;

enum { LINK_SIZE = 8 }; // messages, a power of two

typedef struct ring {
    _Alignas(64) atomic_uint tail; // the sender's core stores: messages sent, and
    atomic_uint wants;             // whether it waits for room
    _Alignas(64) atomic_uint head; // the receiver's core stores: messages taken
    _Alignas(64) message slots[LINK_SIZE];
} ring;

/* One end. It belongs to its core. */
typedef struct link_end {
    ring *ring;
    unsigned peer;        // the other end's core
    bool pumping;         // receiver: link_pumps takes the messages, the handler leaves them alone
    csp_chan(char) wakes; // of one place: wakes link_sends, or link_pumps
    csp_chan(message) to; // receiver: where messages go
} link_end;

/* ---- the sending end ---- */

static inline bool link_put(link_end *e, message m)
{
    ring *r = e->ring;
    unsigned tail = atomic_load_explicit(&r->tail, memory_order_relaxed); // its only writer is here

    if (tail - atomic_load_explicit(&r->head, memory_order_acquire) == LINK_SIZE) return false;
    r->slots[tail % LINK_SIZE] = m;
    atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
    board_doorbell(e->peer); // has a fence before it
    return true;
}

csp_task(link_sends, link_end *, e, csp_receiver(message), from)
{
    csp_range(m, from) {
        if (link_put(e, m)) continue;
        for (;;) {
            atomic_store_explicit(&e->ring->wants, 1, memory_order_relaxed);
            atomic_thread_fence(memory_order_seq_cst);
            if (link_put(e, m)) break;
            csp_recv(e->wakes, NULL);
        }
        atomic_store_explicit(&e->ring->wants, 0, memory_order_relaxed);
    }
}

/* By the handler of the doorbell. */
static inline void link_has_room(link_end *e)
{
    csp_isr_wake(e->wakes);
}

/* ---- the receiving end ---- */

static inline bool link_peek(link_end *e, message *m)
{
    ring *r = e->ring;
    unsigned head = atomic_load_explicit(&r->head, memory_order_relaxed); // its only writer is here

    if (head == atomic_load_explicit(&r->tail, memory_order_acquire)) return false;
    *m = r->slots[head % LINK_SIZE];
    return true;
}

/* The message that link_peek has shown is in the channel. */
static inline void link_taken(link_end *e)
{
    ring *r = e->ring;
    unsigned head = atomic_load_explicit(&r->head, memory_order_relaxed);

    atomic_store_explicit(&r->head, head + 1, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&r->wants, memory_order_relaxed)) board_doorbell(e->peer);
}

/* By the handler of the doorbell. */
static inline void link_arrives(link_end *e)
{
    for (message m; !e->pumping && link_peek(e, &m);) {
        if (csp_isr_send(e->to, m) == CSP_OK) {
            link_taken(e);
        } else {
            e->pumping = true;
            csp_isr_wake(e->wakes);
        }
    }
}

csp_task(link_pumps, link_end *, e)
{
    while (csp_recv(e->wakes, NULL)) {
        for (message m; link_peek(e, &m); link_taken(e)) csp_send(e->to, m);
        uintptr_t was = csp_port_irq_save();
        e->pumping = false;
        link_arrives(e); // whose doorbell rang since the last link_peek
        csp_port_irq_restore(was);
    }
}
#endif
