/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * deadlines.c - sends and receives that give up at a time, and a table of cases for many at once.
 *
 * What to notice: csp_send_until and csp_recv_until say CSP_OK, CSP_CLOSED or CSP_TIMEOUT, where a
 * send on a closed channel would panic. Several calls with the same deadline take no longer than
 * one. A value that is ready wins over a deadline that has passed. The last part sends to a number
 * of channels that is known at run time only: its cases are an array for csp_select_n, and
 * CSP_SEND_PTR points at the values, because the array lives longer than one statement. A case
 * that has been taken is set to zero: it is never ready again.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

enum { READERS = 5 };

static void one_channel(void)
{
    csp_chan(int) c = csp_make(int, 1);
    int v = 0;
    int64_t t = csp_now() + 5 * CSP_MILLISECOND;
    printf("empty: %s\n", csp_status_name(csp_recv_until(c, &v, t)));
    printf("room for one: %s\n", csp_status_name(csp_send_until(c, 1, t))); // ready: t is no matter
    printf("full: %s\n", csp_status_name(csp_send_until(c, 2, csp_now() + 500 * CSP_NANOSECOND)));
    csp_close(c);
    printf("closed: %s\n", csp_status_name(csp_send_until(c, 3, CSP_FOREVER)));
    csp_status status = csp_recv_until(c, &v, t);
    printf("closed, with a value: %s, %d\n", csp_status_name(status), v);
    printf("closed, drained: %s\n", csp_status_name(csp_recv_until(c, &v, t)));
    csp_unref(c);
}

csp_task(reader, csp_receiver(int), in, int, number, csp_sender(bool), right)
{
    int v = -1;
    csp_recv(in, &v);
    csp_send(right, v == number * number);
}

static void many_channels(void)
{
    csp_chan(bool) right = csp_make(bool, READERS);
    csp_chan(int) to[READERS];
    csp_case cases[READERS + 1];
    int values[READERS], sent = 0, good = 0;
    for (int i = 0; i < READERS; i++) {
        to[i] = csp_make(int, 0);
        values[i] = i * i;
        cases[i] = CSP_SEND_PTR(to[i], &values[i]);
        csp_go(reader, csp_recv_end(to[i]), i, csp_send_end(right));
    }
    cases[READERS] = CSP_UNTIL(csp_now() + CSP_MINUTE);
    for (int i; sent < READERS && (i = csp_select_n(cases, READERS + 1)) != READERS; sent++)
        cases[i] = (csp_case){0}; // whichever reader was ready first
    for (int i = 0; i < sent; i++) {
        bool ok;
        csp_recv(right, &ok);
        good += ok;
    }
    printf("%d sent, %d right\n", sent, good);
    for (int i = 0; i < READERS; i++) csp_unref(to[i]);
    csp_unref(right);
}

csp_main(argc, argv)
{
    one_channel();
    many_channels();
    return 0;
}
