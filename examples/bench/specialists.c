/* specialists.c - csp.h's side of what specialists.sh compares with libraries that do one thing:
 * `specialists ROW [N]` prints "NAME value unit" lines. The rows of messages are bench.c's, and
 * those of loops and sorting are the programs of examples/parallel themselves.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static void must(bool ok, const char *what)
{
    if (!ok) csp_panic("%s: wrong result", what);
}

static void milliseconds(const char *name, int64_t start)
{
    printf("%s %.3f ms\n", name, (double)(csp_now() - start) / 1e6);
}

static struct rusage used(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u;
}

static double cpu_us(void)
{
    struct rusage u = used();
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* ---- recursion: a fork for each inner call, without a cut-off ---- */

csp_task(fib_of, int, n, int64_t *, result)
{
    int64_t a, b;
    if (n < 2) {
        *result = n;
        return;
    }
    csp_fork(other, fib_of, n - 1, &a);
    fib_of(n - 2, &b);
    csp_join(other);
    *result = a + b;
}

static void fib(const char *name, int n)
{
    int64_t result, start = csp_now();
    fib_of(n, &result);
    milliseconds(name, start);
    must(n != 30 || result == 832040, name);
}

/* ---- a tree, ten children at each node, 1,111,111 nodes at depth 6; results by address ---- */

static void tree_sum(const char *name, int n, int64_t count, int64_t start)
{
    char rss[32];
    int64_t expected = 0, nodes = 1;
    for (int i = 0; i <= n; i++, nodes *= 10) expected += nodes;
    milliseconds(name, start);
    snprintf(rss, sizeof rss, "%s_rss", name);
    printf("%s %.1f MB\n", rss, (double)used().ru_maxrss / 1024);
    must(count == expected, name);
}

/* By a loop over the children, in pieces of one. */
csp_task_declare(tree_children, int64_t, from, int64_t, to, int, depth, int64_t *, results);
static int64_t tree_node(int depth)
{
    int64_t results[10], sum = 1;
    if (depth == 0) return 1;
    csp_for(0, 10, 1, tree_children, depth - 1, results);
    for (int i = 0; i < 10; i++) sum += results[i];
    return sum;
}

csp_task(tree_children, int64_t, from, int64_t, to, int, depth, int64_t *, results)
{
    for (int64_t i = from; i < to; i++) results[i] = tree_node(depth);
}

static void tree(const char *name, int n)
{
    int64_t start = csp_now();
    tree_sum(name, n, tree_node(n), start);
}

/* By a goroutine for each child, and a wait group at each node. */
csp_task(tree_go_node, int, depth, int64_t *, result)
{
    int64_t results[10], sum = 1;
    if (depth > 0) {
        csp_waitgroup wg = {0};
        for (int i = 0; i < 10; i++) csp_waitgroup_go(&wg, tree_go_node, depth - 1, &results[i]);
        csp_waitgroup_wait(&wg);
        for (int i = 0; i < 10; i++) sum += results[i];
    }
    *result = sum;
}

static void tree_go(const char *name, int n)
{
    int64_t result, start = csp_now();
    tree_go_node(n, &result);
    tree_sum(name, n, result, start);
}

/* ---- timers: n that fire 1 to 2 s from now; n that are stopped and freed ---- */

static int fired;
static csp_waitgroup all_fired;

static void fires(void *arg)
{
    (void)arg;
    fired++; /* one processor */
    csp_waitgroup_done(&all_fired);
}

static void timers(const char *name, int n)
{
    csp_timer **t = malloc((size_t)n * sizeof *t);
    uint32_t x = 1;
    must(t != NULL, name);
    csp_waitgroup_add(&all_fired, n);
    double cpu = cpu_us();
    int64_t start = csp_now();
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        t[i] = csp_timer_call((1000 + (x >> 16) % 1000) * CSP_MILLISECOND, fires, NULL);
    }
    printf("%s_start %.3f ns\n", name, (double)(csp_now() - start) / n);
    csp_waitgroup_wait(&all_fired);
    for (int i = 0; i < n; i++) csp_timer_free(t[i]);
    printf("%s_cpu %.3f us\n", name, (cpu_us() - cpu) / n);
    must(fired == n, name);
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        t[i] = csp_timer_call(CSP_HOUR + (x >> 16) % 1000 * CSP_MILLISECOND, fires, NULL);
    }
    start = csp_now();
    for (int i = 0; i < n; i++) {
        csp_timer_stop(t[i]);
        csp_timer_free(t[i]);
    }
    printf("%s_cancel %.3f ns\n", name, (double)(csp_now() - start) / n);
    free(t);
}

static const struct {
    const char *name;
    void (*run)(const char *name, int n);
    int n;
} rows[] = {
    {"fib", fib, 30},
    {"tree", tree, 6},
    {"tree_go", tree_go, 6},
    {"timers", timers, 100000},
    {"timers_1m", timers, 1000000},
};

csp_main(argc, argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(argv[1], rows[i].name) == 0) {
            rows[i].run(argv[1], argc > 2 ? atoi(argv[2]) : rows[i].n);
            return 0;
        }
    fprintf(stderr, "specialists: ROW [N]\n");
    return 1;
}
