/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * generators.c - functions that return a channel: a generator, a multiplexer, and a value that
 * belongs to a goroutine.
 *
 * What to notice: a generator is a goroutine that sends what it makes and waits until the next
 * value is wanted; its state is in its local variables, where a C programmer would keep a struct.
 * The multiplexer is a select over two of them. The shared variable has no lock: a goroutine owns
 * it, and others read and write it by two channels. Each ends when its `enough` is closed.
 */
// check: tsan windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

/* ---- generator ---- */

csp_task(fibonacci, csp_sender(int), out, csp_receiver(bool), enough)
{
    for (int a = 0, b = 1; csp_select(CSP_SEND(out, a), CSP_RECV(enough, NULL)) == 0;) {
        int sum = a + b;
        a = b;
        b = sum;
    }
    csp_close(out);
}

csp_task(count, int, step, csp_sender(int), out, csp_receiver(bool), enough)
{
    for (int i = step; csp_select(CSP_SEND(out, i), CSP_RECV(enough, NULL)) == 0; i += step)
        continue;
    csp_close(out);
}

static csp_receiver(int) fibonacci_numbers(csp_receiver(bool) enough)
{
    csp_chan(int) out = csp_make(int, 0);
    csp_go(fibonacci, csp_send_end(out), enough);
    return csp_recv_end(out);
}

static csp_receiver(int) counter(int step, csp_receiver(bool) enough)
{
    csp_chan(int) out = csp_make(int, 0);
    csp_go(count, step, csp_send_end(out), enough);
    return csp_recv_end(out);
}

static void generator(void)
{
    csp_chan(bool) enough = csp_make(bool, 0);
    csp_receiver(int) numbers = fibonacci_numbers(csp_recv_end(enough));
    for (int i = 0, v; i < 20; i++) {
        csp_recv(numbers, &v);
        printf("%d ", v);
    }
    printf("\n");
    csp_close(enough);
    csp_range(v, numbers) (void)v; // until it has closed: then it has no other user
    csp_unref(numbers);
    csp_unref(enough);
}

/* ---- multiplexer: two generators into one channel; frees what it has taken over ---- */

csp_task(merge, csp_receiver(int), a, csp_receiver(int), b, csp_sender(int), out,
         csp_receiver(bool), enough)
{
    for (int v; csp_select(CSP_RECV(a, &v), CSP_RECV(b, &v), CSP_RECV(enough, NULL)) != 2;) {
        if (csp_select(CSP_SEND(out, v), CSP_RECV(enough, NULL)) == 1) break;
    }
    csp_range(v, a) (void)v; // until they have closed
    csp_range(v, b) (void)v;
    csp_unref(a);
    csp_unref(b);
    csp_close(out);
}

static csp_receiver(int) merged(csp_receiver(int) a, csp_receiver(int) b, csp_receiver(bool) enough)
{
    csp_chan(int) out = csp_make(int, 0);
    csp_go(merge, a, b, csp_send_end(out), enough);
    return csp_recv_end(out);
}

static void multiplexer(void)
{
    csp_chan(bool) enough = csp_make(bool, 0);
    csp_receiver(bool) end = csp_recv_end(enough);
    csp_receiver(int) all = merged(counter(1, end), counter(-1, end), end);
    int up = 0, down = 0, v; // the turns are chance; each generator's values are in order
    for (bool in_order = true; in_order && (up < 100 || down > -100);) {
        csp_recv(all, &v);
        in_order = v > 0 ? v == ++up : v == --down;
    }
    printf("two counters in one channel: at least %d and %d\n", up > 100 ? 100 : up,
           down < -100 ? -100 : down);
    csp_close(enough);
    csp_range(w, all) (void)w;
    csp_unref(all);
    csp_unref(enough);
}

/* ---- a value that belongs to a goroutine ---- */

typedef struct variable {
    csp_chan(int) reader, writer;
    csp_chan(bool) enough;
} variable;

csp_task(keep, variable *, v)
{
    for (int value = 0, now = 0; now < 2;)
        now = csp_select(CSP_SEND(v->reader, value), CSP_RECV(v->writer, &value),
                         CSP_RECV(v->enough, NULL));
    csp_close(v->reader);
}

csp_task(write_some, variable *, v, int, from, csp_sender(bool), done)
{
    for (int i = from; i < from + 100; i++) csp_send(v->writer, i);
    csp_send(done, true);
}

static void sharded_variable(void)
{
    variable v = {csp_make(int, 0), csp_make(int, 0), csp_make(bool, 0)};
    csp_chan(bool) done = csp_make(bool, 0);
    csp_go(keep, &v);
    for (int i = 0; i < 10; i++) csp_go(write_some, &v, 100 * i, csp_send_end(done));
    int last = 0, torn = 0;
    for (int finished = 0; finished < 10;) {
        switch (csp_select(CSP_RECV(v.reader, &last), CSP_RECV(done, NULL))) {
        case 0: torn += last < 0 || last >= 1000; break;
        case 1: finished++; break;
        }
    }
    csp_send(v.writer, 2018);
    csp_recv(v.reader, &last);
    printf("after 1000 writes by ten others: %d, %d wrong values on the way\n", last, torn);
    csp_close(v.enough);
    while (csp_recv(v.reader, NULL)) continue;
    csp_unref(v.reader);
    csp_unref(v.writer);
    csp_unref(v.enough);
    csp_unref(done);
}

csp_main(argc, argv)
{
    generator();
    multiplexer();
    sharded_variable();
    return 0;
}
