/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * cond.c - a bounded queue by a mutex and two conditions, and when a channel would not do.
 *
 * What to notice: csp_cond_wait unlocks the mutex, waits, and locks it again; between the signal
 * and the lock another goroutine may have been there, so the condition is tested in a loop. A
 * signal wakes one waiter, a broadcast all of them: the end of the queue concerns everyone. A
 * channel of this capacity is shorter and faster. The condition is for what a channel cannot say:
 * taking two items at once, or none.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>

enum { ROOM = 4, ITEMS = 1000, MAKERS = 3, TAKERS = 2 };

typedef struct queue {
    csp_mutex mu; // guards all of it
    csp_cond not_full, two_there;
    int items[ROOM];
    int count, at;
    bool closed;
} queue;

static void queue_put(queue *q, int item)
{
    csp_mutex_lock(&q->mu);
    while (q->count == ROOM) csp_cond_wait(&q->not_full, &q->mu);
    q->items[(q->at + q->count++) % ROOM] = item;
    if (q->count >= 2) csp_cond_signal(&q->two_there);
    csp_mutex_unlock(&q->mu);
}

/* Two items, the last one alone when the queue is closed: how many; 0: closed and empty. */
static int queue_take_two(queue *q, int pair[2])
{
    int n = 0;
    csp_mutex_lock(&q->mu);
    while (q->count < 2 && !q->closed) csp_cond_wait(&q->two_there, &q->mu);
    for (; n < 2 && q->count > 0; q->count--, q->at = (q->at + 1) % ROOM) {
        pair[n++] = q->items[q->at];
        csp_cond_signal(&q->not_full);
    }
    csp_mutex_unlock(&q->mu);
    return n;
}

static void queue_close(queue *q)
{
    csp_mutex_lock(&q->mu);
    q->closed = true;
    csp_cond_broadcast(&q->two_there);
    csp_mutex_unlock(&q->mu);
}

csp_task(make, queue *, q, int, first, csp_waitgroup *, makers)
{
    for (int i = first; i < ITEMS; i += MAKERS) queue_put(q, i);
    csp_waitgroup_done(makers);
}

csp_task(take, queue *, q, atomic_int *, sum, atomic_int *, singles, csp_waitgroup *, takers)
{
    int pair[2];
    for (int n; (n = queue_take_two(q, pair)) > 0;) {
        *sum += pair[0] + (n == 2 ? pair[1] : 0);
        *singles += n == 1;
    }
    csp_waitgroup_done(takers);
}

csp_main(argc, argv)
{
    queue q = {.closed = false};
    csp_waitgroup makers = {0}, takers = {0};
    atomic_int sum = 0, singles = 0;

    csp_mutex_lock(&q.mu); // nothing is there: the wait ends at its deadline, with mu locked
    csp_status status = csp_cond_wait_until(&q.two_there, &q.mu, csp_now() + CSP_MILLISECOND);
    csp_mutex_unlock(&q.mu);
    printf("an empty queue: %s\n", csp_status_name(status));

    csp_waitgroup_add(&makers, MAKERS);
    csp_waitgroup_add(&takers, TAKERS);
    for (int i = 0; i < MAKERS; i++) csp_go(make, &q, i, &makers);
    for (int i = 0; i < TAKERS; i++) csp_go(take, &q, &sum, &singles, &takers);
    csp_waitgroup_wait(&makers);
    queue_close(&q);
    csp_waitgroup_wait(&takers);
    printf("%d items, sum %d, %s\n", ITEMS, sum, singles <= 1 ? "in pairs" : "not in pairs");
    return 0;
}
