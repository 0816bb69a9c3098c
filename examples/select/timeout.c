/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * timeout.c - select: whichever comes first, with a limit, or not at all.
 *
 * What to notice: csp_select evaluates its cases in order, takes one that is ready (a random one
 * of several) or waits, and returns the position of the case it took. CSP_AFTER makes a limit for
 * this wait, CSP_UNTIL one for a whole loop, CSP_DEFAULT makes it a look that never waits, and a
 * NULL channel is a case that is switched off. The server that is too slow does not leak: its
 * channel has room for the answer that is not taken, and the reference that it holds keeps it
 * alive.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

csp_task(server, csp_sender(int), answer, int64_t, takes)
{
    csp_sleep(takes);
    csp_send(answer, 42);
    csp_unref(answer);
}

static void ask(const char *name, int64_t takes, int64_t limit)
{
    int v = 0;
    csp_chan(int) answer = csp_make(int, 1);
    csp_go(server, csp_send_end(csp_ref(answer)), takes);
    switch (csp_select(CSP_RECV(answer, &v), CSP_AFTER(limit))) {
    case 0: printf("%s server: %d\n", name, v); break;
    case 1: printf("%s server: timeout\n", name); break;
    }
    csp_unref(answer);
}

csp_main(argc, argv)
{
    ask("quick", 0, 10 * CSP_SECOND);
    ask("slow", 200 * CSP_MILLISECOND, 20 * CSP_MILLISECOND);

    /* A look without waiting. */
    csp_chan(int) c = csp_make(int, 1);
    int v = 0, taken = 0;
    if (csp_select(CSP_RECV(c, &v), CSP_DEFAULT) == 1) printf("nothing there yet\n");

    /* One buffered channel, both ways: sending and receiving are ready in turns. The deadline is
     * for the whole loop; a ready case wins over it. */
    int64_t end = csp_now() + 10 * CSP_SECOND;
    for (int i = 0; i < 10; i++) {
        switch (csp_select(CSP_RECV(c, &v), CSP_SEND(c, i), CSP_UNTIL(end))) {
        case 0: printf("%d ", v), taken++; break;
        case 1: break;
        default: printf("out of time\n"); return 1;
        }
    }
    printf("- %d taken\n", taken);

    /* A NULL channel is never ready: the tick that is switched off does not come. */
    csp_ticker *ticker = csp_ticker_new(CSP_MILLISECOND);
    csp_receiver(int64_t) tick = csp_ticker_chan(ticker);
    for (int beats = 0; csp_select(CSP_RECV(tick, NULL), CSP_AFTER(50 * CSP_MILLISECOND)) == 0;) {
        printf("tick %d\n", ++beats);
        if (beats == 3) tick = NULL;
    }
    printf("no more ticks\n");
    csp_ticker_free(ticker);
    csp_unref(c);

    while (csp_count() > 1) csp_sleep(CSP_MILLISECOND); // the slow server still lets go of its end
    return 0;
}
