/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * sieve.c - the prime sieve: a chain of goroutines, each of which holds one prime back.
 *
 *     build/sieve [limit]
 *
 * What to notice: main takes the first number that comes out of the chain, which is a prime, and
 * hangs another filter behind it. Every link blocks and wakes millions of times in a long run;
 * that costs what a function call costs in other programs. At the end the close runs down the
 * chain: each filter sees its input closed, closes its output, frees what it alone still knows,
 * and ends.
 */
// check: arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>
#include <stdlib.h>

csp_task(generate, csp_sender(int), out, int, limit)
{
    for (int i = 2; i <= limit; i++) csp_send(out, i);
    csp_close(out);
}

csp_task(filter, csp_receiver(int), in, csp_sender(int), out, int, prime)
{
    csp_range(n, in) {
        if (n % prime != 0) csp_send(out, n);
    }
    csp_unref(in); // its sender closed it as its last act, and has gone
    csp_close(out);
}

csp_main(argc, argv)
{
    int limit = argc > 1 ? atoi(argv[1]) : 200, prime, n = 0;
    csp_chan(int) c = csp_make(int, 0);
    csp_go(generate, csp_send_end(c), limit);
    while (csp_recv(c, &prime)) {
        csp_chan(int) next = csp_make(int, 0);
        csp_go(filter, csp_recv_end(c), csp_send_end(next), prime);
        c = next;
        printf("%d%s", prime, ++n % 10 == 0 ? "\n" : ", ");
    }
    csp_unref(c);
    printf("... %d primes up to %d\n", n, limit);
    return 0;
}
