/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * traced.c - something to look at: CSP_PROCS=2 CSP_TRACE=trace.json build/traced
 *
 * What to notice: load trace.json into ui.perfetto.dev, or make a picture of it: python3
 * examples/debug/trace_svg.py trace.json >trace.svg. The loader blocks in the kernel and leaves
 * its processor to others meanwhile (hand-off); workers that were woken on one processor are taken
 * over by the other when that has nothing to do (steal); arrows lead from the waker to the turn
 * that follows. The program itself knows nothing of that: it is a pipeline.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>
#include <time.h>

enum { BLOCKS = 6, PIECES = 3 };

typedef struct piece {
    int block;
    unsigned seed;
} piece;

/* As from a slow disk. */
csp_task(loader, csp_sender(piece), out)
{
    for (int i = 0; i < BLOCKS; i++) {
        csp_blocking nanosleep(&(struct timespec){0, 60000}, NULL);
        for (unsigned k = 0; k < PIECES; k++) csp_send(out, (piece){i, (unsigned)i * 31 + k});
    }
    csp_close(out);
}

/* Some ten microseconds of work. */
csp_task(worker, csp_receiver(piece), in, csp_sender(piece), out)
{
    csp_range(p, in) {
        for (int i = 0; i < 20000 + 5000 * (int)(p.seed % 5); i++)
            p.seed = p.seed * 1664525 + 1013904223;
        csp_send(out, p);
    }
}

csp_main(argc, argv)
{
    csp_chan(piece) pieces = csp_make(piece, PIECES), done = csp_make(piece, 0);
    unsigned sums[BLOCKS] = {0};
    piece p;
    csp_go(loader, csp_send_end(pieces));
    for (int i = 0; i < 3; i++) csp_go(worker, csp_recv_end(pieces), csp_send_end(done));
    for (int i = 0; i < BLOCKS * PIECES; i++)
        if (csp_recv(done, &p)) sums[p.block] ^= p.seed;
    for (int i = 0; i < BLOCKS; i++) printf("block %d: %08x\n", i, sums[i]);
    return argc == 0 && argv == NULL;
}
