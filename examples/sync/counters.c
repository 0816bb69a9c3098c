/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * counters.c - an atomic counter, and a price board under an rwmutex.
 *
 * What to notice: for one number an atomic of C is enough, with goroutines as with threads. A price
 * and its currency belong together: under the rwmutex ten writers change both while readers format
 * them, and no reader sees the price of one with the name of another. csp_waitgroup_go counts each
 * goroutine before it starts and when it has ended. The third part reads the counter every second,
 * three times, while it grows; in virtual time, what it sees is exact.
 */
// check: tsan windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ---- up to 2018 ---- */

static atomic_int counter;

csp_task(add, int, n)
{
    counter += n;
}

static void atomic_counter(void *unused)
{
    csp_waitgroup all = {0};
    (void)unused;
    for (int i = 1; i <= 3; i++) csp_waitgroup_go(&all, add, 3 * i);
    for (int i = 0; i < 2000; i++) csp_waitgroup_go(&all, add, 1);
    csp_waitgroup_wait(&all);
    printf("the counter is %d\n", counter);
}

/* ---- prices ---- */

typedef struct board {
    csp_rwmutex mu;
    int amount; // guarded by mu, and in step
    char text[32];
} board;

csp_task(change, board *, b, int, from)
{
    for (int i = 0; i < 100; i++) {
        csp_rwmutex_lock(&b->mu);
        b->amount = 100 * from + i;
        snprintf(b->text, sizeof b->text, "%d.%02d euro", b->amount / 100, b->amount % 100);
        csp_rwmutex_unlock(&b->mu);
        csp_yield();
    }
}

csp_task(watch, board *, b, atomic_int *, wrong)
{
    char text[32];
    for (int i = 0; i < 500; i++) {
        csp_rwmutex_rlock(&b->mu);
        snprintf(text, sizeof text, "%d.%02d euro", b->amount / 100, b->amount % 100);
        *wrong += strcmp(text, b->text) != 0;
        csp_rwmutex_runlock(&b->mu);
        csp_yield();
    }
}

static void prices(void *unused)
{
    board b = {.amount = 0, .text = "0.00 euro"};
    csp_waitgroup all = {0};
    atomic_int wrong = 0;
    (void)unused;
    for (int i = 0; i < 10; i++) csp_waitgroup_go(&all, change, &b, i);
    for (int i = 0; i < 4; i++) csp_waitgroup_go(&all, watch, &b, &wrong);
    csp_waitgroup_wait(&all);
    printf("2000 looks at the price, %d of them wrong\n", wrong);
}

/* ---- every second ---- */

csp_task(count_slowly, csp_receiver(bool), enough)
{
    while (csp_select(CSP_AFTER(50 * CSP_MILLISECOND), CSP_RECV(enough, NULL)) == 0) counter++;
}

static void watched(void *unused)
{
    csp_chan(bool) enough = csp_make(bool, 0);
    (void)unused;
    counter = 0;
    csp_go(count_slowly, csp_recv_end(enough));
    csp_sleep(10 * CSP_MILLISECOND); // not at the same moment
    for (int i = 1; i <= 3; i++) {
        csp_sleep(CSP_SECOND);
        printf("after %d s: %d\n", i, counter);
    }
    csp_close(enough);
    while (csp_count() > 1) csp_yield();
    csp_unref(enough);
}

int main(void)
{
    csp_run(atomic_counter, NULL);
    csp_run(prices, NULL);
    csp_simulate(&(csp_sim){.file = stderr}, watched, NULL);
    return 0;
}
