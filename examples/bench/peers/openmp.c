/* openmp.c - examples/parallel by OpenMP's pragmas, with the same data, pieces and output, for
 * comparison: cc -O2 -fopenmp openmp.c -o openmp; ./openmp sum 100000000 10000, ./openmp matrix
 * 1000, ./openmp quicksort 10000000, ./openmp sort 1000000; and rows of specialists.c: ./openmp fib
 * 30, ./openmp tree 6, ./openmp tree_go 6. OMP_NUM_THREADS says how many threads.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static double milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* A task for each inner call, without a cut-off. */
static int64_t fib_of(int64_t n)
{
    int64_t a, b;
    if (n < 2) return n;
#pragma omp task shared(a)
    a = fib_of(n - 1);
    b = fib_of(n - 2);
#pragma omp taskwait
    return a + b;
}

static void fib(int64_t n)
{
    int64_t result = 0;
    double began = milliseconds();
#pragma omp parallel
#pragma omp single
    result = fib_of(n);
    printf("fib: %.1f ms\n%lld\n", milliseconds() - began, (long long)result);
}

/* Ten children at each node, by a loop over them; and by a task for each. */
static int64_t tree_node(int64_t depth)
{
    int64_t results[10], sum = 1;
    if (depth == 0) return 1;
#pragma omp taskloop grainsize(1) shared(results)
    for (int i = 0; i < 10; i++) results[i] = tree_node(depth - 1);
    for (int i = 0; i < 10; i++) sum += results[i];
    return sum;
}

static int64_t tree_go_node(int64_t depth)
{
    int64_t results[10], sum = 1;
    if (depth == 0) return 1;
    for (int i = 0; i < 10; i++) {
#pragma omp task shared(results)
        results[i] = tree_go_node(depth - 1);
    }
#pragma omp taskwait
    for (int i = 0; i < 10; i++) sum += results[i];
    return sum;
}

static void tree(const char *name, int64_t depth)
{
    int64_t result = 0;
    struct rusage u;
    double began = milliseconds();
#pragma omp parallel
#pragma omp single
    result = strcmp(name, "tree") == 0 ? tree_node(depth) : tree_go_node(depth);
    printf("%s: %.1f ms\n%lld nodes\n", name, milliseconds() - began, (long long)result);
    for (int64_t nodes = 1; depth >= 0; depth--, nodes *= 10) result -= nodes;
    if (result != 0) exit(4);
    getrusage(RUSAGE_SELF, &u);
    printf("%s_rss: %.1f MB\n", name, (double)u.ru_maxrss / 1024);
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

static void quicksorts(int64_t n)
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

/* ---- examples/parallel/sort.h ---- */

typedef struct sort_order {
    size_t size;
    int (*cmp)(const void *, const void *);
} sort_order;

enum { SORT_SMALL = 16, SORT_MERGE = 20000 };

static size_t sort_before(const char *v, size_t n, const char *x, int same, sort_order o)
{
    size_t from = 0;
    while (from < n) {
        size_t middle = from + (n - from) / 2;
        int c = o.cmp(v + middle * o.size, x);
        if (c < 0 || (same && c == 0))
            from = middle + 1;
        else
            n = middle;
    }
    return from;
}

static void sort_merge(const char *a, size_t na, const char *b, size_t nb, char *to, sort_order o)
{
    if (na + nb > SORT_MERGE) {
        size_t ka = na / 2, kb = nb / 2;
        if (na >= nb)
            kb = sort_before(b, nb, a + ka * o.size, 0, o);
        else
            ka = sort_before(a, na, b + kb * o.size, 1, o);
#pragma omp task
        sort_merge(a + ka * o.size, na - ka, b + kb * o.size, nb - kb, to + (ka + kb) * o.size, o);
        sort_merge(a, ka, b, kb, to, o);
#pragma omp taskwait
        return;
    }
    for (; na > 0 && nb > 0; to += o.size) {
        const char **from = o.cmp(b, a) < 0 ? &b : &a;
        memcpy(to, *from, o.size);
        if (from == &a)
            na--;
        else
            nb--;
        *from += o.size;
    }
    memcpy(to, na > 0 ? a : b, (na + nb) * o.size);
}

static void sort_halves(char *v, size_t n, char *other, int there, sort_order o)
{
    size_t half = n / 2;
    if (n <= SORT_SMALL) {
        char *to = there ? other : v;
        if (there) memcpy(other, v, n * o.size);
        for (size_t i = 1; i < n; i++)
            for (size_t k = i; k > 0; k--) {
                char *x = to + k * o.size, *y = x - o.size;
                if (o.cmp(y, x) <= 0) break;
                for (size_t j = 0; j < o.size; j++) {
                    char c = x[j];
                    x[j] = y[j];
                    y[j] = c;
                }
            }
        return;
    }
#pragma omp task
    sort_halves(v + half * o.size, n - half, other + half * o.size, !there, o);
    sort_halves(v, half, other, !there, o);
#pragma omp taskwait
    char *from = there ? v : other;
    sort_merge(from, half, from + half * o.size, n - half, there ? other : v, o);
}

typedef struct person {
    int number, age;
} person;

static int by_age(const void *a, const void *b)
{
    int x = ((const person *)a)->age, y = ((const person *)b)->age;
    return (x > y) - (x < y);
}

static void sorts(int64_t n)
{
    person *people = malloc((size_t)n * sizeof *people);
    uint32_t x = 1;
    if (people == NULL) exit(1);
    for (int64_t i = 0; i < n; i++)
        people[i] = (person){(int)i, (int)((x = x * 1664525u + 1013904223u) >> 16) % 100};
    double began = milliseconds();
    char *other = malloc((size_t)n * sizeof *people);
    if (other == NULL) exit(1);
#pragma omp parallel
#pragma omp single
    sort_halves((char *)people, (size_t)n, other, 0, (sort_order){sizeof *people, by_age});
    free(other);
    printf("sort: %.1f ms\n", milliseconds() - began);
    for (int64_t i = 1; i < n; i++)
        if (people[i - 1].age > people[i].age ||
            (people[i - 1].age == people[i].age && people[i - 1].number > people[i].number))
            exit(3);
    printf("sorted, and those of one age in their order\n");
    free(people);
}

int main(int argc, char **argv)
{
    int64_t n = argc > 2 ? atoll(argv[2]) : 0;
    if (argc > 2 && strcmp(argv[1], "sum") == 0)
        sums(n, argc > 3 ? atoll(argv[3]) : 1000);
    else if (argc > 2 && strcmp(argv[1], "matrix") == 0)
        matrix(n);
    else if (argc > 2 && strcmp(argv[1], "quicksort") == 0)
        quicksorts(n);
    else if (argc > 2 && strcmp(argv[1], "sort") == 0)
        sorts(n);
    else if (argc > 2 && strcmp(argv[1], "fib") == 0)
        fib(n);
    else if (argc > 2 && (strcmp(argv[1], "tree") == 0 || strcmp(argv[1], "tree_go") == 0))
        tree(argv[1], n);
    else
        return fprintf(stderr, "openmp: ROW N; the rows stand above\n"), 1;
    return 0;
}
