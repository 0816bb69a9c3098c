/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * channels.c - a tour of channels: room, close, NULL, ends, channels of channels, many at once.
 *
 * What to notice: a try_send on a full channel and a try_recv on an empty one return at once and
 * say why. Closing tells every receiver, now and later; what was sent before is still there. A
 * NULL channel is never ready. Handing over one end is a promise that the compiler keeps: take the
 * comment signs from the two lines in `reverse` and it refuses them. A channel is a value like any
 * other, and can be sent. An array of cases selects over a number of channels that is known only
 * at run time.
 */
// check: arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

static void room(void)
{
    csp_chan(char) c = csp_make(char, 3);
    csp_send(c, 'a');
    csp_send(c, 'b');
    printf("%d of %d\n", (int)csp_len(c), (int)csp_cap(c));
    printf("a third: %s\n", csp_status_name(csp_try_send(c, 'c')));
    printf("a fourth: %s\n", csp_status_name(csp_try_send(c, 'd')));
    csp_close(c);
    csp_range(letter, c) printf("%c ", letter);
    char letter = 'x';
    bool more = csp_recv(c, &letter);
    printf("- then %s, and the letter is %d\n", more ? "more" : "no more", letter);
    csp_unref(c);
}

/* ---- close tells everybody ---- */

csp_task(runner, csp_receiver(bool), start, csp_sender(int), out, int, number)
{
    csp_recv(start, NULL); // nothing is sent: the close lets all of them go
    csp_send(out, number);
}

static void starting_gun(void)
{
    csp_chan(bool) start = csp_make(bool, 0);
    csp_chan(int) out = csp_make(int, 0);
    int sum = 0, n;
    for (int i = 1; i <= 10; i++) csp_go(runner, csp_recv_end(start), csp_send_end(out), i);
    printf("on your marks: %s\n",
           csp_try_recv(out, &n) == CSP_AGAIN ? "nobody runs" : "false start");
    csp_close(start);
    for (int i = 0; i < 10; i++) csp_recv(out, &n), sum += n;
    printf("all ten have run: %s\n", sum == 55 ? "yes" : "no");
    csp_unref(start);
    csp_unref(out);
}

/* ---- what is not there, and what must not be done ---- */

static void mistakes(void)
{
    csp_chan(int) never = NULL, closed = csp_make(int, 1);
    int v;
    printf("NULL: %s\n", csp_select(CSP_RECV(never, &v), CSP_SEND(never, 1), CSP_DEFAULT) == 2
                             ? "never ready"
                             : "?");
    csp_close(closed);
    {
        csp_try csp_send(closed, 1);
        csp_catch(p) printf("panic: %s\n", p->message);
    }
    {
        csp_try csp_close(closed);
        csp_catch(p) printf("panic: %s\n", p->message);
    }
    csp_unref(closed);
}

/* ---- ends, and channels that are sent ---- */

typedef csp_sender(int) reply;

csp_task(reverse, csp_receiver(reply), in, csp_sender(int), log)
{
    csp_range(to, in) {
        csp_send(to, -1);
        csp_send(log, 1);
    }
    // csp_send(in, NULL);   cannot send on or close a receive-only channel
    // csp_recv(log, NULL);  cannot receive from a send-only channel
}

static void channels_of_channels(void)
{
    csp_chan(reply) c = csp_make(reply, 0);
    csp_chan(int) log = csp_make(int, 1), mine = csp_make(int, 0);
    int v;
    csp_go(reverse, csp_recv_end(c), csp_send_end(log));
    csp_send(c, csp_send_end(mine));
    csp_recv(mine, &v);
    printf("the answer on the channel that was sent: %d\n", v);
    csp_recv(log, NULL);
    csp_close(c);
    while (csp_count() > 1) csp_yield();
    csp_unref(c);
    csp_unref(log);
    csp_unref(mine);
}

/* ---- any number at once ---- */

static void many(void)
{
    enum { N = 20 };
    csp_chan(int) c[N];
    csp_case cases[N];
    int values[N], taken = 0, sum = 0;
    for (int i = 0; i < N; i++) {
        c[i] = csp_make(int, 1);
        if (i % 2 == 0) csp_send(c[i], i);
        cases[i] = CSP_RECV(c[i], &values[i]);
    }
    for (; taken < N / 2; taken++) {
        int i = csp_select_n(cases, N);
        sum += values[i];
    }
    printf("%d of %d channels had something, together %d\n", taken, N, sum);
    for (int i = 0; i < N; i++) csp_unref(c[i]);
}

csp_main(argc, argv)
{
    room();
    starting_gun();
    mistakes();
    channels_of_channels();
    many();
    return 0;
}
