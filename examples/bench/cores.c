/* cores.c - what a second core brings: work divided among goroutines, and a producer beside its
 * consumer. `cores [ROW...]` runs the serial program, csp.h at one processor and csp.h at two in
 * turns (ROUNDS, 7) and reports ratios of the shortest times, which other load disturbs least.
 * peers/gobench does the same in Go.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdlib.h>
#include <string.h>

enum { GRAIN = 10000 };

static void must(bool ok, const char *what)
{
    if (!ok) csp_panic("%s: wrong result", what);
}

/* ---- the sum of a hash of 0 .. 10^8, halved down to the grain ---- */

enum { TERMS = 100000000 };

/* Several cycles an iteration: shorter loops measure how fast the branch predictor learns them anew
 * after every switch (1.2 us where an iteration takes one cycle), whatever is done between them. */
static uint64_t sum_loop(int lo, int hi)
{
    uint64_t sum = 0;
    for (int i = lo; i < hi; i++) {
        uint64_t x = (uint64_t)i;
        x = (x ^ x >> 33) * 0xFF51AFD7ED558CCDu;
        x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53u;
        sum += x ^ x >> 33;
    }
    return sum;
}

/* The same code for everybody: no copy of it made for known bounds. */
static uint64_t (*volatile sum_of)(int lo, int hi) = sum_loop;

static uint64_t sum_fork(int lo, int hi);

csp_task(sum_half, int, lo, int, hi, uint64_t *, out, csp_waitgroup *, wg)
{
    *out = sum_fork(lo, hi);
    csp_waitgroup_done(wg);
}

static uint64_t sum_fork(int lo, int hi)
{
    if (hi - lo < 2 * GRAIN) return sum_of(lo, hi);
    int mid = lo + (hi - lo) / GRAIN / 2 * GRAIN;
    uint64_t right = 0;
    csp_waitgroup wg = {0};
    csp_waitgroup_add(&wg, 1);
    csp_go(sum_half, mid, hi, &right, &wg);
    uint64_t left = sum_fork(lo, mid);
    csp_waitgroup_wait(&wg);
    return left + right;
}

static void sum_run(bool fork)
{
    static uint64_t known;
    uint64_t sum = fork ? sum_fork(0, TERMS) : sum_of(0, TERMS);
    if (known == 0) known = sum;
    must(sum == known, "sum");
}

/* ---- quicksort of 10^7 integers ---- */

enum { KEYS = 10000000 };
static int *keys;

static void keys_shuffle(void)
{
    uint32_t x = 2463534242u;
    if (keys == NULL) keys = malloc(KEYS * sizeof *keys);
    for (int i = 0; i < KEYS; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        keys[i] = (int)(x >> 1);
    }
}

static void swap(int *a, int *b)
{
    int t = *a;
    *a = *b;
    *b = t;
}

static int median(int a, int b, int c)
{
    return a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
}

/* What is at most the pivot comes to the front of a[0..n); returns how many those are. */
static int partition(int *a, int n, int pivot)
{
    int i = 0, j = n - 1;
    for (;;) {
        while (i <= j && a[i] < pivot) i++;
        while (i <= j && a[j] > pivot) j--;
        if (i >= j) return i == j ? i + 1 : i;
        swap(&a[i++], &a[j--]);
    }
}

static int pivot_of(const int *a, int n)
{
    return median(a[0], a[n / 2], a[n - 1]);
}

static void __attribute__((noinline)) sort_loop(int *a, int n)
{
    while (n > 16) {
        int k = partition(a, n, pivot_of(a, n));
        if (k == n) k--; /* the pivot is the largest, and last */
        sort_loop(a, k);
        a += k;
        n -= k;
    }
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && a[j] < a[j - 1]; j--) swap(&a[j], &a[j - 1]);
}

csp_task(part_half, int *, a, int, n, int, pivot, int *, out, csp_waitgroup *, wg)
{
    *out = partition(a, n, pivot);
    csp_waitgroup_done(wg);
}

/* The first partitions would leave the other cores idle: each half has a goroutine, and then what
 * is on the wrong side of the border changes places. */
static int partition_fork(int *a, int n, int pivot)
{
    int half = n / 2, left = 0;
    if (n < KEYS / 8) return partition(a, n, pivot);
    csp_waitgroup wg = {0};
    csp_waitgroup_add(&wg, 1);
    csp_go(part_half, a, half, pivot, &left, &wg);
    int right = partition(a + half, n - half, pivot);
    csp_waitgroup_wait(&wg);
    int wrong = half - left < right ? half - left : right;
    for (int i = 0; i < wrong; i++) swap(&a[left + i], &a[half + right - 1 - i]);
    return left + right;
}

static void sort_fork(int *a, int n);

csp_task(sort_half, int *, a, int, n, csp_waitgroup *, wg)
{
    sort_fork(a, n);
    csp_waitgroup_done(wg);
}

static void sort_fork(int *a, int n)
{
    if (n <= GRAIN) {
        sort_loop(a, n);
        return;
    }
    int k = partition_fork(a, n, pivot_of(a, n));
    if (k == n) {
        sort_loop(a, n);
        return;
    }
    csp_waitgroup wg = {0};
    csp_waitgroup_add(&wg, 1);
    csp_go(sort_half, a + k, n - k, &wg);
    sort_fork(a, k);
    csp_waitgroup_wait(&wg);
}

static void sort_run(bool fork)
{
    if (fork)
        sort_fork(keys, KEYS);
    else
        sort_loop(keys, KEYS);
}

static void sort_check(void)
{
    for (int i = 1; i < KEYS; i++) must(keys[i - 1] <= keys[i], "quicksort");
}

/* ---- a producer and a consumer, two microseconds of work on each item on both sides ---- */

enum { ITEMS = 50000 };

static uint64_t __attribute__((noinline)) work(uint64_t x)
{
    for (int i = 0; i < 1850; i++) x = (x ^ (uint64_t)i) * 0x9E3779B97F4A7C15u;
    return x;
}

csp_task(produce, csp_sender(uint64_t), out)
{
    for (uint64_t i = 0; i < ITEMS; i++) csp_send(out, work(i));
    csp_close(out);
}

static void pipe_run(bool fork, int capacity)
{
    static uint64_t known;
    uint64_t sum = 0;
    if (fork) {
        csp_chan(uint64_t) c = csp_make(uint64_t, capacity);
        csp_go(produce, csp_send_end(c));
        csp_range(v, c) sum += work(v);
        csp_unref(c);
    } else {
        for (uint64_t i = 0; i < ITEMS; i++) sum += work(work(i));
    }
    if (known == 0) known = sum;
    must(sum == known, "pipeline");
}

static void pipe_buffered(bool fork)
{
    pipe_run(fork, 16);
}

static void pipe_unbuffered(bool fork)
{
    pipe_run(fork, 0);
}

/* ---- the rows ---- */

static const struct {
    const char *name;
    void (*before)(void), (*run)(bool fork), (*after)(void);
} rows[] = {
    {"sum", NULL, sum_run, NULL},
    {"quicksort", keys_shuffle, sort_run, sort_check},
    {"pipeline", NULL, pipe_buffered, NULL},
    {"pipeline0", NULL, pipe_unbuffered, NULL},
};

static void row(size_t k, int rounds)
{
    double best[3] = {1e30, 1e30, 1e30};
    for (int i = 0; i < 3 * rounds; i++) {
        csp_procs(i % 3 == 2 ? 2 : 1);
        if (rows[k].before != NULL) rows[k].before();
        int64_t start = csp_now();
        rows[k].run(i % 3 > 0);
        double ms = (double)(csp_now() - start) / 1e6;
        if (rows[k].after != NULL) rows[k].after();
        if (ms < best[i % 3]) best[i % 3] = ms;
    }
    const char *name = rows[k].name;
    printf("%s_serial %.3f ms\n%s_1p %.3f ms\n%s_2p %.3f ms\n", name, best[0], name, best[1], name,
           best[2]);
    printf("%s_overhead %.2f %%\n%s_speedup %.3f x\n", name, (best[1] / best[0] - 1) * 100, name,
           best[0] / best[2]);
}

csp_main(argc, argv)
{
    const char *rounds = getenv("ROUNDS");
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++)
        for (int i = 1; i < (argc < 2 ? 2 : argc); i++)
            if (argc < 2 || strcmp(argv[i], rows[k].name) == 0)
                row(k, rounds != NULL ? atoi(rounds) : 7);
    free(keys);
    return 0;
}
