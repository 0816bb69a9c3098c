/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * zlib.c - compresses the parts of a block of data on all processors.
 *
 * zlib computes and keeps everything in its z_stream: nothing is to be known. A goroutine that
 * computes for long loses its processor after 10 ms, so others never starve beside it. deflate
 * needs about 1 KiB of stack; the memory of a stream is on the heap.
 */
// check: libs zlib
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { PART = 1 << 16, PARTS = 16 };

typedef struct part {
    unsigned char in[PART], out[PART + 1024], back[PART];
    uLongf size;
} part;

csp_task(pack, part *, p)
{
    p->size = sizeof p->out;
    if (compress2(p->out, &p->size, p->in, sizeof p->in, 6) != Z_OK) csp_panic("compress");
}

csp_main(argc, argv)
{
    part *parts = calloc(PARTS, sizeof *parts);
    csp_waitgroup wg = {0};
    size_t all = 0;
    for (int i = 0; i < PARTS; i++)
        for (int k = 0; k < PART; k++)
            parts[i].in[k] = (unsigned char)"the quick brown fox "[(k * (i + 1)) % 20];
    for (int i = 0; i < PARTS; i++) csp_waitgroup_go(&wg, pack, &parts[i]);
    csp_waitgroup_wait(&wg);
    for (int i = 0; i < PARTS; i++) {
        uLongf n = sizeof parts[i].back;
        if (uncompress(parts[i].back, &n, parts[i].out, parts[i].size) != Z_OK || n != PART ||
            memcmp(parts[i].back, parts[i].in, PART) != 0)
            return 1;
        all += parts[i].size;
    }
    printf("%d parts, less than a tenth of the size: %s\n", PARTS,
           all < PARTS * PART / 10 ? "yes" : "no");
    free(parts);
    return 0;
}
