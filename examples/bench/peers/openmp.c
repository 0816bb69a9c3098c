/* openmp.c - examples/parallel by OpenMP's pragmas, with the same data, pieces and output, for
 * comparison: cc -O2 -fopenmp openmp.c -o openmp; ./openmp sum 100000000 10000, ./openmp matrix
 * 1000, ./openmp quicksort 10000000; OMP_NUM_THREADS says how many threads.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int64_t sum(const int *v, int64_t n, int64_t grain)
{
    int64_t left = 0, right = 0;
    if (n <= grain) {
        for (int64_t i = 0; i < n; i++) left += v[i];
        return left;
    }
#pragma omp task shared(right)
    right = sum(v + n / 2, n - n / 2, grain);
    left = sum(v, n / 2, grain);
#pragma omp taskwait
    return left + right;
}

static void sums(int64_t n, int64_t grain)
{
    int *v = malloc((size_t)n * sizeof *v);
    int64_t result = 0;
    if (v == NULL) exit(1);
    for (int64_t i = 0; i < n; i++) v[i] = (int)(i % 1000);
    double began = milliseconds();
#pragma omp parallel
#pragma omp single
    result = sum(v, n, grain);
    printf("sum: %.1f ms\n%lld\n", milliseconds() - began, (long long)result);
    free(v);
}

static void matrix(int64_t n)
{
    size_t size = (size_t)(n * n) * sizeof(double);
    double *a = malloc(size), *b = malloc(size), *c = malloc(size), trace = 0;
    if (a == NULL || b == NULL || c == NULL) exit(1);
    for (int64_t i = 0; i < n * n; i++) a[i] = (double)(i % 7), b[i] = (double)(i % 5);
    double began = milliseconds();
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < n; i++) {
        double *row = c + i * n;
        for (int64_t j = 0; j < n; j++) row[j] = 0;
        for (int64_t k = 0; k < n; k++)
            for (int64_t j = 0; j < n; j++) row[j] += a[i * n + k] * b[k * n + j];
    }
    double took = milliseconds() - began;
    for (int64_t i = 0; i < n; i++) trace += c[i * n + i];
    printf("matrix: %.1f ms\ntrace %.0f\n", took, trace);
    free(a);
    free(b);
    free(c);
}

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

static int64_t partition(int *v, int64_t n, int pivot)
{
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        int x = v[i];
        v[i] = v[at];
        v[at] = x;
        at += x < pivot;
    }
    return at;
}

static int64_t partition_together(int *v, int64_t n, int pivot)
{
    int64_t half = n / 2, left, right = 0;
#pragma omp task shared(right)
    right = partition(v + half, n - half, pivot);
    left = partition(v, half, pivot);
#pragma omp taskwait
    int64_t wrong = half - left < right ? half - left : right;
    int *a = v + left, *b = v + half + right - wrong;
#pragma omp taskloop
    for (int64_t i = 0; i < wrong; i++) {
        int x = a[i];
        a[i] = b[i];
        b[i] = x;
    }
    return left + right;
}

static void quicksort(int *v, int64_t n)
{
    while (n > SMALL) {
        int pivot = middle_of(v[n / 4], v[n / 2], v[n - n / 4]);
        int64_t below = n >= TOGETHER ? partition_together(v, n, pivot) : partition(v, n, pivot);
        int64_t same = below;
        if (below == 0) {
            for (int64_t i = 0; i < n; i++)
                if (v[i] == pivot) {
                    v[i] = v[same];
                    v[same++] = pivot;
                }
        }
        if (below > SERIAL && n - same > SERIAL) {
#pragma omp task
            quicksort(v, below);
            quicksort(v + same, n - same);
#pragma omp taskwait
            return;
        }
        quicksort(v, below);
        v += same;
        n -= same;
    }
    insertion_sort(v, n);
}

static void sorts(int64_t n)
{
    int *v = malloc((size_t)n * sizeof *v);
    uint32_t x = 1;
    if (v == NULL) exit(1);
    for (int64_t i = 0; i < n; i++) v[i] = (int)((x = x * 1664525u + 1013904223u) >> 1);
    double began = milliseconds();
#pragma omp parallel
#pragma omp single
    quicksort(v, n);
    printf("quicksort: %.1f ms\n", milliseconds() - began);
    for (int64_t i = 1; i < n; i++)
        if (v[i - 1] > v[i]) exit(2);
    printf("sorted\n");
    free(v);
}

int main(int argc, char **argv)
{
    int64_t n = argc > 2 ? atoll(argv[2]) : 0;
    if (argc > 2 && strcmp(argv[1], "sum") == 0)
        sums(n, argc > 3 ? atoll(argv[3]) : 1000);
    else if (argc > 2 && strcmp(argv[1], "matrix") == 0)
        matrix(n);
    else if (argc > 2 && strcmp(argv[1], "quicksort") == 0)
        sorts(n);
    else
        return fprintf(stderr, "openmp: sum N GRAIN, matrix N, quicksort N\n"), 1;
    return 0;
}
