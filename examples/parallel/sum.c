/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * sum.c - a sum over a large array, by halves.
 *
 * What to notice: csp_fork offers one half to the other processors, and this one does the other
 * half. What no processor takes is done by csp_join, as a plain call; so the pieces may be small.
 * The results come back by address: each fork writes to a variable of the block that made it.
 * `sum 100000000 10000` says how long it takes, with pieces of 10,000.
 */
// check: tsan windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>
#include <stdlib.h>

static int64_t grain = 1000;

csp_task(sum, const int *, v, int64_t, n, int64_t *, result)
{
    int64_t left = 0, right = 0;
    if (n <= grain) {
        for (int64_t i = 0; i < n; i++) left += v[i];
        *result = left;
        return;
    }
    csp_fork(other, sum, v + n / 2, n - n / 2, &right);
    sum(v, n / 2, &left);
    csp_join(other);
    *result = left + right;
}

csp_main(argc, argv)
{
    int64_t n = argc > 1 ? atoll(argv[1]) : 1000000, result = 0;
    if (argc > 2) grain = atoll(argv[2]);
    int *v = malloc((size_t)n * sizeof *v);
    if (v == NULL) return 1;
    for (int64_t i = 0; i < n; i++) v[i] = (int)(i % 1000);
    int64_t began = csp_now();
    sum(v, n, &result);
    int64_t took = csp_now() - began;
    if (argc > 1) printf("sum: %.1f ms\n", (double)took / 1e6);
    printf("%lld\n", (long long)result);
    free(v);
    return 0;
}
