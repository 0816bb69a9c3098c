/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * pingpong.c - two goroutines pass a ball to and fro; each adds one to it.
 *
 *     build/pingpong [round trips]
 *
 * What to notice: a round trip is two sends, two receives and two switches, and no system call: a
 * goroutine that blocks hands its processor straight to its partner. How long a round trip takes
 * is printed on stderr, the result on stdout. The partner ends when the channel is closed, and
 * says so on a third channel: after that no other goroutine uses the channels, and main may free
 * them.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>
#include <stdlib.h>

csp_task(partner, csp_receiver(long), in, csp_sender(long), out)
{
    csp_range(ball, in) csp_send(out, ball + 1);
    csp_close(out);
}

csp_main(argc, argv)
{
    long n = argc > 1 ? atol(argv[1]) : 200000, ball = 0;
    csp_chan(long) there = csp_make(long, 0), back = csp_make(long, 0);
    csp_go(partner, csp_recv_end(there), csp_send_end(back));

    int64_t start = csp_now();
    for (long i = 0; i < n; i++) {
        csp_send(there, ball + 1);
        csp_recv(back, &ball);
    }
    double ns = (double)(csp_now() - start);
    csp_close(there);
    csp_recv(back, NULL); // false: the partner has closed it, and is done with both

    printf("%ld round trips, the ball says %ld\n", n, ball);
    fprintf(stderr, "%.0f ns per round trip\n", ns / (double)(n > 0 ? n : 1));
    csp_unref(there);
    csp_unref(back);
    return ball != 2 * n;
}
