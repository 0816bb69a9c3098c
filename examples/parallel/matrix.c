/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * matrix.c - the product of two matrices, a loop over the rows.
 *
 * What to notice: csp_for calls a task for parts of a range, on as many processors as are free.
 * The task's first two parameters are its part. With a grain of 0 the parts are found at run time:
 * long enough that nobody pays for them, short enough that the last processor is not waited for.
 * `matrix 1000` says how long it takes.
 */
// check: tsan windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>
#include <stdlib.h>

csp_task(rows, int64_t, from, int64_t, to, const double *, a, const double *, b, double *, c,
         int64_t, n)
{
    for (int64_t i = from; i < to; i++) {
        double *row = c + i * n;
        for (int64_t j = 0; j < n; j++) row[j] = 0;
        for (int64_t k = 0; k < n; k++)
            for (int64_t j = 0; j < n; j++) row[j] += a[i * n + k] * b[k * n + j];
    }
}

csp_main(argc, argv)
{
    int64_t n = argc > 1 ? atoll(argv[1]) : 60;
    size_t size = (size_t)(n * n) * sizeof(double);
    double *a = malloc(size), *b = malloc(size), *c = malloc(size), trace = 0;
    if (a == NULL || b == NULL || c == NULL) return 1;
    for (int64_t i = 0; i < n * n; i++) a[i] = (double)(i % 7), b[i] = (double)(i % 5);
    int64_t began = csp_now();
    csp_for(0, n, 0, rows, a, b, c, n);
    int64_t took = csp_now() - began;
    for (int64_t i = 0; i < n; i++) trace += c[i * n + i];
    if (argc > 1) printf("matrix: %.1f ms\n", (double)took / 1e6);
    printf("trace %.0f\n", trace);
    free(a);
    free(b);
    free(c);
    return 0;
}
