/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * quicksort.c - quicksort, whose two sides are sorted at the same time.
 *
 * What to notice: the sides may be of any length, and nothing has to be balanced: a processor that
 * has finished takes the oldest fork, which is the largest piece that is left. Large pieces are
 * partitioned by both halves at once, too: otherwise one processor would go through the whole array
 * before the other had anything to do. `quicksort 10000000` says how long it takes.
 */
// check: tsan windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>
#include <stdlib.h>

enum { SMALL = 32, SERIAL = 2000, TOGETHER = 200000 };

static void insertion_sort(int *v, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        int x = v[i];
        int64_t k = i;
        for (; k > 0 && v[k - 1] > x; k--) v[k] = v[k - 1];
        v[k] = x;
    }
}

static int middle_of(int a, int b, int c)
{
    if (a > b) return middle_of(b, a, c);
    return c < a ? a : c > b ? b : c;
}

/* Those below the pivot to the front; without a branch that a processor would have to guess. */
csp_task(partition, int *, v, int64_t, n, int, pivot, int64_t *, below)
{
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        int x = v[i];
        v[i] = v[at];
        v[at] = x;
        at += x < pivot;
    }
    *below = at;
}

csp_task(swap_ends, int64_t, from, int64_t, to, int *, a, int *, b)
{
    for (int64_t i = from; i < to; i++) {
        int x = a[i];
        a[i] = b[i];
        b[i] = x;
    }
}

/* Each half by itself; then those that stand on the wrong side change places. */
static int64_t partition_together(int *v, int64_t n, int pivot)
{
    int64_t half = n / 2, left = 0, right = 0;
    csp_fork(other, partition, v + half, n - half, pivot, &right);
    partition(v, half, pivot, &left);
    csp_join(other);
    int64_t wrong = half - left < right ? half - left : right;
    csp_for(0, wrong, 0, swap_ends, v + left, v + half + right - wrong);
    return left + right;
}

csp_task(quicksort, int *, v, int64_t, n)
{
    while (n > SMALL) {
        int pivot = middle_of(v[n / 4], v[n / 2], v[n - n / 4]);
        int64_t below = 0, same;
        if (n >= TOGETHER)
            below = partition_together(v, n, pivot);
        else
            partition(v, n, pivot, &below);
        same = below;
        if (below == 0) { /* the pivot is the least there is */
            for (int64_t i = 0; i < n; i++)
                if (v[i] == pivot) {
                    v[i] = v[same];
                    v[same++] = pivot;
                }
        }
        if (below > SERIAL && n - same > SERIAL) {
            csp_fork(front, quicksort, v, below);
            quicksort(v + same, n - same);
            return; /* joins */
        }
        quicksort(v, below);
        v += same;
        n -= same;
    }
    insertion_sort(v, n);
}

csp_main(argc, argv)
{
    int64_t n = argc > 1 ? atoll(argv[1]) : 300000;
    int *v = malloc((size_t)n * sizeof *v);
    uint32_t x = 1;
    if (v == NULL) return 1;
    for (int64_t i = 0; i < n; i++) v[i] = (int)((x = x * 1664525u + 1013904223u) >> 1);
    int64_t began = csp_now();
    quicksort(v, n);
    int64_t took = csp_now() - began;
    if (argc > 1) printf("quicksort: %.1f ms\n", (double)took / 1e6);
    for (int64_t i = 1; i < n; i++)
        if (v[i - 1] > v[i]) return 2;
    printf("sorted\n");
    free(v);
    return 0;
}
