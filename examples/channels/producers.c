/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * producers.c - many producers, one channel, one consumer.
 *
 * What to notice: the multiples of three and those of five come mixed, but each producer's own are
 * in order. Only a goroutine that knows that all senders are done may close the channel: here it
 * is close_after, which counts their farewells. In the second part twenty producers succeed or
 * fail by the throw of a die, and say which with the value; a failed one does not stop the rest.
 */
// check: tsan windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

enum { COUNT = 20, PRODUCERS = 20 };

csp_task(multiples, int, factor, csp_sender(int), out, csp_sender(bool), done)
{
    for (int i = 1; i <= COUNT; i++) csp_send(out, i * factor);
    csp_send(done, true);
}

csp_task(close_after, int, n, csp_receiver(bool), done, csp_sender(int), out)
{
    while (n-- > 0) csp_recv(done, NULL);
    csp_close(out);
}

static void two_producers(void)
{
    csp_chan(int) numbers = csp_make(int, 8);
    csp_chan(bool) done = csp_make(bool, 0);
    int next[] = {3, 5}, sum = 0, in_order = 1;
    csp_go(multiples, 3, csp_send_end(numbers), csp_send_end(done));
    csp_go(multiples, 5, csp_send_end(numbers), csp_send_end(done));
    csp_go(close_after, 2, csp_recv_end(done), csp_send_end(numbers));
    csp_range(v, numbers) {
        sum += v;
        // a multiple of fifteen is the one that is due
        int five = v % 3 != 0 || (v % 5 == 0 && next[0] != v);
        in_order = in_order && v == next[five];
        next[five] += five ? 5 : 3;
    }
    printf("threes and fives: sum %d, each %s\n", sum, in_order ? "in order" : "OUT OF ORDER");
    csp_unref(numbers);
    csp_unref(done);
}

typedef struct outcome {
    int producer, die;
    bool ok;
} outcome;

csp_task(try_luck, int, id, csp_sender(outcome), out)
{
    unsigned die = ((unsigned)id * 1664525u + 1013904223u) >> 16;
    csp_send(out, (outcome){id, (int)(die % 6) + 1, die % 6 != 0});
}

static void twenty_producers(void)
{
    csp_chan(outcome) out = csp_make(outcome, 0);
    int good = 0, failed = 0;
    for (int i = 0; i < PRODUCERS; i++) csp_go(try_luck, i, csp_send_end(out));
    for (int i = 0; i < PRODUCERS; i++) {
        outcome o;
        csp_recv(out, &o);
        *(o.ok ? &good : &failed) += 1;
    }
    printf("of %d producers %d succeeded, %d threw a one\n", PRODUCERS, good, failed);
    csp_unref(out);
}

csp_main(argc, argv)
{
    two_producers();
    twenty_producers();
    return 0;
}
