/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * squares.c - counter, squarer, printer: the smallest pipeline, four times.
 *
 * What to notice: the first version has no end, so main stops listening and asks the counter to
 * stop. In the second each stage closes its output, and the end runs down the pipeline. The third
 * says in its types which stage may send and which may receive: a squarer that sends on its input
 * does not compile. The fourth has numbers drawn at random, and a stage that looks at them on the
 * way.
 */
// check: windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

/* ---- 1: endless ---- */

csp_task(count_until, csp_chan(int), out, csp_chan(bool), stop)
{
    for (int i = 0;; i++) {
        if (csp_select(CSP_SEND(out, i), CSP_RECV(stop, NULL)) == 1) break;
    }
    csp_close(out);
}

csp_task(square_all, csp_chan(int), in, csp_chan(int), out)
{
    csp_range(v, in) csp_send(out, v * v);
    csp_close(out);
}

static void endless(void)
{
    csp_chan(int) naturals = csp_make(int, 0), squares = csp_make(int, 0);
    csp_chan(bool) stop = csp_make(bool, 0);
    csp_go(count_until, naturals, stop);
    csp_go(square_all, naturals, squares);
    for (int i = 0, v; i < 10; i++) {
        csp_recv(squares, &v);
        printf("%d ", v);
    }
    csp_close(stop);
    csp_range(v, squares) (void)v; // what is still under way
    printf("... and so on\n");
    csp_unref(naturals);
    csp_unref(squares);
    csp_unref(stop);
}

/* ---- 2: closed; main knows the last square by the close ---- */

csp_task(count_to, csp_chan(int), out, int, n)
{
    for (int i = 0; i < n; i++) csp_send(out, i);
    csp_close(out);
}

static void closed(void)
{
    csp_chan(int) naturals = csp_make(int, 0), squares = csp_make(int, 0);
    csp_go(count_to, naturals, 10);
    csp_go(square_all, naturals, squares);
    int v;
    while (csp_recv(squares, &v)) printf("%d ", v);
    printf("closed, and from now on the channel says %d\n", v); // zeroed
    csp_unref(naturals);
    csp_unref(squares);
}

/* ---- 3: one-way ---- */

csp_task(counter, csp_sender(int), out)
{
    for (int i = 0; i < 10; i++) csp_send(out, i);
    csp_close(out);
}

csp_task(squarer, csp_receiver(int), in, csp_sender(int), out)
{
    csp_range(v, in) csp_send(out, v * v);
    csp_close(out);
}

static void printer(csp_receiver(int) in)
{
    csp_range(v, in) printf("%d ", v);
    printf("each end to whom it belongs\n");
}

static void one_way(void)
{
    csp_chan(int) naturals = csp_make(int, 0), squares = csp_make(int, 0);
    csp_go(counter, csp_send_end(naturals));
    csp_go(squarer, csp_recv_end(naturals), csp_send_end(squares));
    printer(csp_recv_end(squares));
    csp_unref(naturals);
    csp_unref(squares);
}

/* ---- 4: ten numbers below thirty, before and after one is added ---- */

typedef struct change {
    int before, after;
} change;

csp_task(draw, csp_sender(int), out, unsigned, seed)
{
    for (int i = 0; i < 10; i++) {
        seed = seed * 1664525u + 1013904223u;
        csp_send(out, (int)(seed >> 16) % 30);
    }
    csp_close(out);
}

csp_task(add_one, csp_receiver(int), in, csp_sender(change), out)
{
    csp_range(v, in) csp_send(out, (change){.before = v, .after = v + 1});
    csp_close(out);
}

static void random_numbers(void)
{
    csp_chan(int) numbers = csp_make(int, 0);
    csp_chan(change) changes = csp_make(change, 0);
    csp_go(draw, csp_send_end(numbers), 2018);
    csp_go(add_one, csp_recv_end(numbers), csp_send_end(changes));
    csp_range(c, changes) printf("%d->%d ", c.before, c.after);
    printf("\n");
    csp_unref(numbers);
    csp_unref(changes);
}

csp_main(argc, argv)
{
    endless();
    closed();
    one_way();
    random_numbers();
    return 0;
}
