/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * select.c - what select chooses: whatever is ready, at random, or in an order of one's own.
 *
 * What to notice: a channel with one slot can be sent on when it is empty and received from when it
 * is full, so a select over both is never stuck and always takes turns. Where several cases are
 * ready, csp_select takes each with the same probability, and a priority has to be made: the
 * well-known loop with defaults spins as long as nothing is there (it counts its rounds here), a
 * loop inside the other case is right and longer, csp_select_first says what is meant.
 */
// check: windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

static void one_slot(void)
{
    csp_chan(int) c = csp_make(int, 1);
    int v;
    for (int i = 0; i < 10; i++) {
        switch (csp_select(CSP_RECV(c, &v), CSP_SEND(c, i))) {
        case 0: printf("%d ", v); break;
        case 1: break; // sent: the next turn receives it
        }
    }
    printf("\n");
    csp_unref(c);
}

/* Both are ready all the time; about half of the answers are 0. */
static void at_random(void)
{
    csp_chan(int) a = csp_make(int, 0), b = csp_make(int, 0);
    csp_close(a);
    csp_close(b); // a closed channel is always ready
    int taken[2] = {0, 0};
    for (int i = 0; i < 10000; i++) taken[csp_select(CSP_RECV(a, NULL), CSP_RECV(b, NULL))]++;
    printf("at random: %s\n", taken[0] > 4000 && taken[1] > 4000 ? "both" : "one is preferred");
    csp_unref(a);
    csp_unref(b);
}

/* ---- priority: everything from `urgent` before anything from `other` ---- */

typedef struct inbox {
    csp_chan(int) urgent, other;
} inbox;

/* Wrong: the right order, but while nothing is there it goes round and round. */
static long spinning(inbox in, int n)
{
    long rounds = 0;
    for (int v; n > 0; rounds++) {
        if (csp_select(CSP_RECV(in.urgent, &v), CSP_DEFAULT) == 0 ||
            csp_select(CSP_RECV(in.other, &v), CSP_DEFAULT) == 0) {
            printf(" %d", v);
            n--;
        }
    }
    return rounds;
}

/* Right: waits for either; when the other one came, the urgent ones that are there go first. */
static long loop_inside(inbox in, int n)
{
    for (int u, v; n > 0; n--) {
        if (csp_select(CSP_RECV(in.urgent, &v), CSP_RECV(in.other, &v)) == 1) {
            for (; csp_try_recv(in.urgent, &u) == CSP_OK; n--) printf(" %d", u);
        }
        printf(" %d", v);
    }
    return n;
}

/* Right, and short. */
static long in_order(inbox in, int n)
{
    for (int v; n > 0; n--) {
        csp_select_first(CSP_RECV(in.urgent, &v), CSP_RECV(in.other, &v));
        printf(" %d", v);
    }
    return n;
}

static void priority(const char *name, long (*receive)(inbox, int))
{
    inbox in = {csp_make(int, 3), csp_make(int, 3)};
    for (int i = 1; i <= 3; i++) csp_send(in.other, -i); // the less urgent come first
    for (int i = 1; i <= 3; i++) csp_send(in.urgent, i);
    printf("%s:", name);
    receive(in, 6);
    printf("\n");
    csp_unref(in.urgent);
    csp_unref(in.other);
}

csp_task(late, csp_sender(int), out)
{
    csp_sleep(5 * CSP_MILLISECOND);
    csp_send(out, 1);
}

static void cost_of_spinning(void)
{
    inbox in = {csp_make(int, 1), csp_make(int, 1)};
    csp_go(late, csp_send_end(in.urgent));
    printf("spinning, for one value:");
    long rounds = spinning(in, 1);
    printf(" after %s rounds\n", rounds > 100 ? "many" : "a few");
    fprintf(stderr, "%ld rounds\n", rounds);
    csp_unref(in.urgent);
    csp_unref(in.other);
}

csp_main(argc, argv)
{
    one_slot();
    at_random();
    priority("spinning", spinning);
    priority("a loop inside", loop_inside);
    priority("in order", in_order);
    cost_of_spinning();
    return 0;
}
