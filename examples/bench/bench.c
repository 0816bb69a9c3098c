/* bench.c - what the core costs: `bench NAME [-n N]` prints "NAME value unit" lines, `bench` runs
 * every row. CSP_PROCS sets the processors. peers/gobench does the same work in Go, and compare.sh
 * runs both side by side.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static void report(const char *name, double value, const char *unit)
{
    printf("%s %.3f %s\n", name, value, unit);
}

static void per_op(const char *name, int64_t start, int ops)
{
    report(name, (double)(csp_now() - start) / ops, "ns/op");
}

static void must(bool ok, const char *what)
{
    if (!ok) csp_panic("%s: wrong result", what);
}

/* The last of `left` goroutines to finish says so. */
typedef struct join {
    int left;
    csp_chan(int) done;
} join;

static void join_one(join *j)
{
    if (__atomic_sub_fetch(&j->left, 1, __ATOMIC_ACQ_REL) == 0) csp_send(j->done, 1);
}

static join join_of(int n)
{
    return (join){n, csp_make(int, 1)};
}

static void join_wait(join *j)
{
    csp_recv(j->done, NULL);
    csp_unref(j->done);
}

/* n yields in total, shared by two goroutines. */
csp_task(yields, int, n, join *, j)
{
    for (int i = 0; i < n; i++) csp_yield();
    join_one(j);
}

static void ctx_switch(int n)
{
    join j = join_of(2);
    int64_t start = csp_now();
    for (int i = 0; i < 2; i++) csp_go(yields, n / 2, &j);
    join_wait(&j);
    per_op("ctx_switch", start, n);
}

/* n round trips over two unbuffered channels. */
csp_task(pong, csp_receiver(int), in, csp_sender(int), out)
{
    csp_range(v, in) csp_send(out, v + 1);
    csp_close(out);
}

static void chan_pingpong(int n)
{
    csp_chan(int) a = csp_make(int, 0), b = csp_make(int, 0);
    int v = 0;
    csp_go(pong, csp_recv_end(a), csp_send_end(b));
    int64_t start = csp_now();
    for (int i = 0; i < n; i++) {
        csp_send(a, v);
        csp_recv(b, &v);
    }
    per_op("chan_pingpong", start, n);
    must(v == n, "pingpong");
    csp_close(a);
    csp_recv(b, NULL);
    csp_unref(a);
    csp_unref(b);
}

/* n elements through a buffer of 128. */
csp_task(feeds, csp_sender(int), out, int, from, int, n, int, step)
{
    for (int i = from; i < n; i += step) csp_send(out, i);
    if (step == 1) csp_close(out);
}

static void chan_buffered(int n)
{
    csp_chan(int) c = csp_make(int, 128);
    int64_t sum = 0, start = csp_now();
    csp_go(feeds, csp_send_end(c), 0, n, 1);
    csp_range(v, c) sum += v;
    per_op("chan_buffered", start, n);
    must(sum == (int64_t)n * (n - 1) / 2, "buffered");
    csp_unref(c);
}

/* 4 producers, 4 consumers, one channel of 128, n elements in all. */
csp_task(produces, csp_sender(int), out, int, from, int, n, join *, j)
{
    for (int i = from; i < n; i += 4) csp_send(out, i);
    join_one(j);
}

csp_task(consumes, csp_receiver(int), in, int64_t *, total, join *, j)
{
    int64_t sum = 0;
    csp_range(v, in) sum += v;
    __atomic_add_fetch(total, sum, __ATOMIC_RELAXED);
    join_one(j);
}

static void chan_mpmc(int n)
{
    csp_chan(int) c = csp_make(int, 128);
    join producers = join_of(4), consumers = join_of(4);
    int64_t sum = 0, start = csp_now();
    for (int i = 0; i < 4; i++) csp_go(consumes, csp_recv_end(c), &sum, &consumers);
    for (int i = 0; i < 4; i++) csp_go(produces, csp_send_end(c), i, n, &producers);
    join_wait(&producers);
    csp_close(c);
    join_wait(&consumers);
    per_op("chan_mpmc", start, n);
    must(sum == (int64_t)n * (n - 1) / 2, "mpmc");
    csp_unref(c);
}

/* One receiver selecting over 4 unbuffered channels, each fed by a goroutine. */
static void select4(int n)
{
    csp_chan(int) c[4];
    join j = join_of(4);
    int64_t sum = 0;
    int v = 0;
    for (int i = 0; i < 4; i++) c[i] = csp_make(int, 0);
    int64_t start = csp_now();
    for (int i = 0; i < 4; i++) csp_go(produces, csp_send_end(c[i]), i, n, &j);
    for (int k = 0; k < n; k++) {
        csp_select(CSP_RECV(c[0], &v), CSP_RECV(c[1], &v), CSP_RECV(c[2], &v), CSP_RECV(c[3], &v));
        sum += v;
    }
    per_op("select4", start, n);
    must(sum == (int64_t)n * (n - 1) / 2, "select4");
    join_wait(&j);
    for (int i = 0; i < 4; i++) csp_unref(c[i]);
}

/* Daisy-chained prime sieve, the first n primes. The process ends before its goroutines do. */
csp_task(naturals, csp_sender(int), out)
{
    for (int i = 2;; i++) csp_send(out, i);
}

csp_task(filter, csp_receiver(int), in, csp_sender(int), out, int, prime)
{
    csp_range(i, in)
        if (i % prime != 0) csp_send(out, i);
}

static void sieve(int n)
{
    csp_chan(int) c = csp_make(int, 0);
    int prime = 0;
    int64_t start = csp_now();
    csp_go(naturals, csp_send_end(c));
    for (int i = 0; i < n; i++) {
        csp_chan(int) next = csp_make(int, 0);
        csp_recv(c, &prime);
        csp_go(filter, csp_recv_end(c), csp_send_end(next), prime);
        c = next;
    }
    report("sieve", (double)(csp_now() - start) / 1e6, "ms");
    must(n != 2000 || prime == 17389, "sieve");
}

/* A tree of goroutines, ten at each node, n leaves. */
csp_task_declare(skynet_node, csp_sender(int64_t), out, int64_t, number, int, size);
csp_task(skynet_node, csp_sender(int64_t), out, int64_t, number, int, size)
{
    if (size == 1) {
        csp_send(out, number);
        return;
    }
    csp_chan(int64_t) c = csp_make(int64_t, 0);
    int64_t sum = 0, v = 0;
    for (int i = 0; i < 10; i++)
        csp_go(skynet_node, csp_send_end(c), number + (int64_t)i * (size / 10), size / 10);
    for (int i = 0; i < 10 && csp_recv(c, &v); i++) sum += v;
    csp_unref(c);
    csp_send(out, sum);
}

static void skynet(int n)
{
    csp_chan(int64_t) c = csp_make(int64_t, 0);
    int64_t sum = 0, start = csp_now();
    csp_go(skynet_node, csp_send_end(c), 0, n);
    csp_recv(c, &sum);
    report("skynet", (double)(csp_now() - start) / 1e6, "ms");
    must(sum == (int64_t)n * (n - 1) / 2, "skynet");
    csp_unref(c);
}

/* n trivial goroutines in batches of 1000. */
csp_task(trivial, char *, counter, join *, j)
{
    ++*counter;
    join_one(j);
}

static void spawn_join(int n)
{
    static char counters[1000];
    int64_t start = csp_now();
    for (int b = 0; b < n / 1000; b++) {
        join j = join_of(1000);
        for (int i = 0; i < 1000; i++) csp_go(trivial, &counters[i], &j);
        join_wait(&j);
    }
    per_op("spawn_join", start, n / 1000 * 1000);
}

/* n goroutines, each sleeping 10 times for 1..100 ms. */
static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

csp_task(sleeps, uint32_t, x, join *, j)
{
    x = x * 2654435761u + 1;
    for (int i = 0; i < 10; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        csp_sleep((x % 100 + 1) * CSP_MILLISECOND);
    }
    join_one(j);
}

static void sleepers(int n)
{
    join j = join_of(n);
    double cpu = cpu_seconds();
    int64_t start = csp_now();
    for (int i = 0; i < n; i++) csp_go(sleeps, (uint32_t)i, &j);
    join_wait(&j);
    report("sleepers_cpu", cpu_seconds() - cpu, "s");
    report("sleepers_wall", (double)(csp_now() - start) / 1e9, "s");
}

/* n timers that are due within a second, spread by chance: their start, and the CPU until the last
 * has fired and all are freed. Then n that are due in an hour, freed in no order. */
typedef csp_timer *starts_timer(int64_t ns, void (*fn)(void *), void *arg);

static void timer_done(void *arg)
{
    join_one(arg);
}

static csp_timer *starts_after(int64_t ns, void (*fn)(void *), void *arg)
{
    return csp_after_func(ns, fn, arg);
}

static csp_timer *starts_call(int64_t ns, void (*fn)(void *), void *arg)
{
    return csp_timer_call(ns, fn, arg);
}

static int64_t timers_start(csp_timer **t, int n, int64_t least, join *j, starts_timer *starts)
{
    uint32_t x = 2463534242u;
    int64_t start = csp_now();
    for (int i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        t[i] = starts(least + x % 1000000 * CSP_MICROSECOND, timer_done, j);
    }
    return csp_now() - start;
}

static void timers_of(const char *name, int n, starts_timer *starts)
{
    csp_timer **t = malloc((size_t)n * sizeof(csp_timer *));
    char row[64];
    join j = join_of(n);
    must(t != NULL, "memory");
    memset(t, 0, (size_t)n * sizeof(csp_timer *));
    double cpu = cpu_seconds();
    int64_t ns = timers_start(t, n, 500 * CSP_MILLISECOND, &j, starts);
    join_wait(&j);
    for (int i = 0; i < n; i++) csp_timer_free(t[i]);
    cpu = cpu_seconds() - cpu;
    snprintf(row, sizeof row, "%s_start", name);
    report(row, (double)ns / n, "ns/op");
    snprintf(row, sizeof row, "%s_cpu", name);
    report(row, cpu * 1e6 / n, "us/op");
    timers_start(t, n, CSP_HOUR, &j, starts);
    int64_t start = csp_now();
    for (int i = 0; i < n; i++) csp_timer_free(t[(int64_t)i * 611953 % n]);
    snprintf(row, sizeof row, "%s_cancel", name);
    per_op(row, start, n);
    free(t);
}

static void timers(int n)
{
    timers_of("timers", n, starts_after);
}

static void timer_calls(int n)
{
    timers_of("timer_calls", n, starts_call);
}

/* n goroutines blocked at once; memory counts their page tables. */
static double memory_now(void)
{
    char line[256];
    double sum = 0, kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "VmRSS: %lf", &kib) == 1 || sscanf(line, "VmPTE: %lf", &kib) == 1)
            sum += kib * 1024;
    if (f != NULL) fclose(f);
    return sum;
}

static int started;
csp_task(parks, csp_receiver(int), gate, join *, j)
{
    __atomic_add_fetch(&started, 1, __ATOMIC_RELAXED);
    csp_recv(gate, NULL);
    join_one(j);
}

static void parked(const char *name, int n, size_t stack_size)
{
    csp_opts opts = {.stack_size = stack_size};
    csp_chan(int) gate = csp_make(int, 0);
    join j = join_of(n);
    char row[64];
    double before = memory_now();
    int64_t start = csp_now();
    for (int i = 0; i < n; i++) csp_go_with(&opts, parks, csp_recv_end(gate), &j);
    while (__atomic_load_n(&started, __ATOMIC_RELAXED) < n) csp_yield();
    double spawn = (double)(csp_now() - start) / 1e6;
    csp_sleep(50 * CSP_MILLISECOND);
    snprintf(row, sizeof row, "%s_rss", name);
    report(row, (memory_now() - before) / n, "bytes/goroutine");
    start = csp_now();
    csp_close(gate);
    join_wait(&j);
    double wake = (double)(csp_now() - start) / 1e6;
    snprintf(row, sizeof row, "%s_spawn", name);
    report(row, spawn, "ms");
    snprintf(row, sizeof row, "%s_wake", name);
    report(row, wake, "ms");
    csp_unref(gate);
}

static void mem_1m(int n)
{
    parked("mem_1m", n, 0);
}

static void mem_1m_small(int n)
{
    started = 0;
    parked("mem_1m_small", n, 1024);
}

/* The mutex and its kin: n operations by one goroutine (*_free) or shared by 8. */
static struct {
    csp_mutex mu;
    pthread_mutex_t posix;
    csp_rwmutex rw;
    csp_cond cond;
    csp_once once;
    csp_waitgroup wg;
    csp_sem sem;
    int64_t count, turn;
} both = {.posix = PTHREAD_MUTEX_INITIALIZER};

static void does_nothing(void *arg)
{
    (void)arg;
}

/* An operation is a loop: the call of one would be measured too. */
typedef void operation(int n);
csp_task(repeats, operation *, op, int, n, join *, j)
{
    op(n);
    join_one(j);
}

static void by_one(const char *name, int n, operation *op)
{
    int64_t start = csp_now();
    op(n);
    per_op(name, start, n);
}

static void by_8(const char *name, int n, operation *op)
{
    join j = join_of(8);
    int64_t start = csp_now();
    for (int i = 0; i < 8; i++) csp_go(repeats, op, n / 8, &j);
    join_wait(&j);
    per_op(name, start, n);
}

#define OPERATION(name, ...)                                                                       \
    static void name(int n)                                                                        \
    {                                                                                              \
        for (int i = 0; i < n; i++) {                                                              \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

OPERATION(op_mutex, csp_mutex_lock(&both.mu); both.count++; csp_mutex_unlock(&both.mu);)
OPERATION(op_posix, pthread_mutex_lock(&both.posix); both.count++;
          pthread_mutex_unlock(&both.posix);)
OPERATION(
    op_rw,
    if (i % 1000 == 0) {
        csp_rwmutex_lock(&both.rw);
        both.count++;
        csp_rwmutex_unlock(&both.rw);
    } else {
        csp_rwmutex_rlock(&both.rw);
        must(both.count >= 0, "rw");
        csp_rwmutex_runlock(&both.rw);
    })
OPERATION(op_once, csp_once_do(&both.once, does_nothing, NULL);)
OPERATION(op_wg, csp_waitgroup_add(&both.wg, 1); csp_waitgroup_done(&both.wg);
          csp_waitgroup_wait(&both.wg);)
OPERATION(op_wg_park, csp_waitgroup_spawn(&both.wg, does_nothing, NULL);
          csp_waitgroup_wait(&both.wg);)
OPERATION(op_sem, csp_sem_acquire(&both.sem, 1); both.count++; csp_sem_release(&both.sem, 1);)

static void mutex_free(int n)
{
    by_one("mutex_free", n, op_mutex);
    by_one("mutex_posix", n, op_posix); // the same by pthread_mutex_t
}

static void mutex_8(int n)
{
    by_8("mutex_8", n, op_mutex);
}

static void rw_8(int n)
{
    by_8("rw_8", n, op_rw);
}

static void once_free(int n)
{
    by_one("once_free", n, op_once);
}

static void wg_free(int n)
{
    by_one("wg_free", n, op_wg);
}

static void wg_park(int n)
{
    by_one("wg_park", n, op_wg_park);
}

static void sem_free(int n)
{
    csp_sem_init(&both.sem, 1);
    by_one("sem_free", n, op_sem);
}

static void sem_8(int n)
{
    csp_sem_init(&both.sem, 1);
    by_8("sem_8", n, op_sem);
}

/* Two goroutines wait for their turn, n times in all. */
csp_task(waits_for_turn, int, me, int, n, join *, j)
{
    for (int i = 0; i < n; i++) {
        csp_mutex_lock(&both.mu);
        while (both.turn != me) csp_cond_wait(&both.cond, &both.mu);
        both.turn = 1 - me;
        csp_cond_signal(&both.cond);
        csp_mutex_unlock(&both.mu);
    }
    join_one(j);
}

static void cond_pingpong(int n)
{
    join j = join_of(2);
    int64_t start = csp_now();
    for (int i = 0; i < 2; i++) csp_go(waits_for_turn, i, n / 2, &j);
    join_wait(&j);
    per_op("cond_pingpong", start, n);
}

/* The longest of n waits for a mutex that a hot locker keeps taking. */
static int hot;
csp_task(locks_hot, join *, j)
{
    while (__atomic_load_n(&hot, __ATOMIC_RELAXED)) {
        csp_mutex_lock(&both.mu);
        for (int i = 0; i < 20000; i++) __atomic_store_n(&both.count, i, __ATOMIC_SEQ_CST);
        csp_mutex_unlock(&both.mu);
    }
    join_one(j);
}

static void mutex_fair(int n)
{
    join j = join_of(1);
    int64_t longest = 0;
    hot = 1;
    csp_go(locks_hot, &j);
    for (int i = 0; i < n; i++) {
        csp_sleep(10 * CSP_MICROSECOND);
        int64_t start = csp_now();
        csp_mutex_lock(&both.mu);
        if (csp_now() - start > longest) longest = csp_now() - start;
        csp_mutex_unlock(&both.mu);
    }
    __atomic_store_n(&hot, 0, __ATOMIC_RELAXED);
    join_wait(&j);
    report("mutex_fair", (double)longest / 1e6, "ms");
}

/* n contexts made, cancelled and dropped, each below one that lives. */
static void ctx_cancel(int n)
{
    csp_ctx *parent = csp_ctx_with_cancel(csp_ctx_background());
    int64_t start = csp_now();
    for (int i = 0; i < n; i++) {
        csp_ctx *ctx = csp_ctx_with_cancel(parent);
        csp_ctx_cancel(ctx);
        csp_ctx_unref(ctx);
    }
    per_op("ctx_cancel", start, n);
    csp_ctx_unref(parent);
}

/* A tree of n contexts, ten below each, is cancelled at its root. */
static void ctx_tree(int n)
{
    csp_ctx **tree = malloc((size_t)n * sizeof *tree);
    double best = 1e30;
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < n; i++)
            tree[i] = csp_ctx_with_cancel(i == 0 ? csp_ctx_background() : tree[(i - 1) / 10]);
        int64_t start = csp_now();
        csp_ctx_cancel(tree[0]);
        double ms = (double)(csp_now() - start) / 1e6;
        if (ms < best) best = ms;
        must(csp_ctx_status(tree[n - 1]) == CSP_CANCELED, "ctx_tree");
        for (int i = 0; i < n; i++) csp_ctx_unref(tree[i]);
    }
    report("ctx_tree", best, "ms");
    free(tree);
}

/* n operations on 100,000 string keys by 2 goroutines: 90 % loads, the rest stores. */
enum { MAP_KEYS = 100000 };
static char map_keys[MAP_KEYS][16];

csp_task(uses_map, csp_map *, m, uint32_t, x, int, n, join *, j)
{
    void *v = NULL;
    for (int i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        char *key = map_keys[x % MAP_KEYS];
        if ((x >> 16) % 10 != 0)
            must(csp_map_load(m, key, &v) && v != NULL, "map");
        else
            csp_map_store(m, key, key);
    }
    join_one(j);
}

static void map_mixed(int n)
{
    csp_map *m = csp_map_new(CSP_MAP_STRINGS);
    join j = join_of(2);
    for (int i = 0; i < MAP_KEYS; i++) {
        snprintf(map_keys[i], sizeof map_keys[i], "key-%d", i);
        csp_map_store(m, map_keys[i], map_keys[i]);
    }
    int64_t start = csp_now();
    for (uint32_t i = 0; i < 2; i++) csp_go(uses_map, m, 2463534242u + i * 7919, n / 2, &j);
    join_wait(&j);
    per_op("map_mixed", start, n);
    must(csp_map_len(m) == MAP_KEYS, "map");
    csp_map_free(m);
}

/* n loads of one key by 2 goroutines. */
csp_task(loads_one, csp_map *, m, int, n, join *, j)
{
    for (int i = 0; i < n; i++) must(csp_map_load(m, "the key", NULL), "map");
    join_one(j);
}

static void map_hot(int n)
{
    csp_map *m = csp_map_new(CSP_MAP_STRINGS);
    join j = join_of(2);
    csp_map_store(m, "the key", NULL);
    int64_t start = csp_now();
    for (int i = 0; i < 2; i++) csp_go(loads_one, m, n / 2, &j);
    join_wait(&j);
    per_op("map_hot", start, n);
    csp_map_free(m);
}

/* n items got and put back by one goroutine. */
static void *pool_item(void *arg)
{
    (void)arg;
    return malloc(64);
}

static void pool_get_put(int n)
{
    csp_pool *pool = csp_pool_new(pool_item, free, NULL);
    int64_t start = csp_now();
    for (int i = 0; i < n; i++) csp_pool_put(pool, csp_pool_get(pool));
    per_op("pool_get_put", start, n);
    csp_pool_free(pool);
}

/* n functions in groups of 100. */
static int group_fn(void *arg)
{
    (void)arg;
    return 0;
}

static void group_go(int n)
{
    int64_t start = csp_now();
    for (int i = 0; i < n / 100; i++) {
        csp_group *group = csp_group_new(NULL);
        for (int k = 0; k < 100; k++) csp_group_spawn(group, group_fn, NULL);
        must(csp_group_wait(group) == 0, "group");
        csp_group_free(group);
    }
    per_op("group_go", start, n / 100 * 100);
}

/* An echo server and n clients in this process, for two seconds. */
csp_task(echo_serve, int, fd)
{
    char buffer[512];
    for (csp_ssize k; (k = csp_read(fd, buffer, sizeof buffer)) > 0;)
        if (csp_write_full(fd, buffer, (size_t)k) < 0) break;
    csp_close_fd(fd);
}

csp_task(echo_accept, int, listener)
{
    for (int fd; (fd = csp_accept(listener)) >= 0;) csp_go(echo_serve, fd);
}

static int64_t echo_end, echo_total;

csp_task(echo_ask, int, fd, join *, j)
{
    char out[64] = "", in[64];
    int64_t k = 0;
    while (__atomic_load_n(&echo_end, __ATOMIC_RELAXED) == 0) {
        must(csp_write(fd, out, sizeof out) == sizeof out, "echo");
        must(csp_read_full(fd, in, sizeof in) == sizeof in, "echo");
        k++;
    }
    __atomic_fetch_add(&echo_total, k, __ATOMIC_RELAXED);
    join_one(j);
}

static int echo_dial(const char *address)
{
    int fd = csp_dial(address);
    must(fd >= 0, "dial");
    return fd;
}

static void echo_run(const char *name, const char *address, int n)
{
    join j = join_of(n);
    int *fds = malloc((size_t)n * sizeof *fds);
    echo_end = echo_total = 0;
    for (int i = 0; i < n; i++) fds[i] = echo_dial(address);
    int64_t start = csp_now();
    for (int i = 0; i < n; i++) csp_go(echo_ask, fds[i], &j);
    csp_sleep(2 * CSP_SECOND);
    __atomic_store_n(&echo_end, 1, __ATOMIC_RELAXED);
    join_wait(&j);
    report(name, (double)echo_total * 1e9 / (double)(csp_now() - start), "req/s");
    for (int i = 0; i < n; i++) csp_close_fd(fds[i]);
    free(fds);
}

static int echo_listen(csp_address *address)
{
    int listener = csp_listen("127.0.0.1:0");
    must(listener >= 0 && csp_local_address(listener, address) == 0, "listen");
    csp_go(echo_accept, listener);
    return listener;
}

static void echo(int n)
{
    csp_address address;
    int listener = echo_listen(&address);
    echo_run("echo", address.text, n);
    csp_close_fd(listener);
}

/* The same beside n connections that are idle; what each of them costs. */
static void echo_idle(int n)
{
    csp_address address;
    struct rlimit files = {(rlim_t)2 * (rlim_t)n + 1000, (rlim_t)2 * (rlim_t)n + 1000};
    int listener = echo_listen(&address), *fds = malloc((size_t)n * sizeof *fds);
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) getrlimit(RLIMIT_NOFILE, &files);
    if (2 * (rlim_t)n + 1000 > files.rlim_cur) n = (int)files.rlim_cur / 2 - 500;
    double before = memory_now();
    for (int i = 0; i < n; i++) {
        char byte = 0;
        fds[i] = echo_dial(address.text);
        must(csp_write(fds[i], &byte, 1) == 1 && csp_read(fds[i], &byte, 1) == 1, "echo");
    }
    report("echo_idle_rss", (memory_now() - before) / n, "bytes");
    echo_run("echo_idle", address.text, 64);
    for (int i = 0; i < n; i++) csp_close_fd(fds[i]);
    csp_close_fd(listener);
    free(fds);
}

/* A call that might block, but does not, while nobody waits for the processor. */
static void blocking(int n)
{
    static volatile int calls;
    int64_t start = csp_now();
    for (int i = 0; i < n; i++) csp_blocking calls++;
    per_op("blocking", start, n);
}

/* n goroutines that compute, or sleep in the kernel, for 10 ms at a time: how late is a ticker of
 * 1 ms? */
csp_task(hog, bool, sleeps, join *, j)
{
    for (int i = 0; i < 5; i++) {
        if (sleeps)
            nanosleep(&(struct timespec){0, 10000000}, NULL);
        else
            for (int64_t end = csp_now() + 10 * CSP_MILLISECOND; csp_now() < end;) continue;
        csp_yield();
    }
    join_one(j);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void lateness(const char *name, int n, bool sleeps)
{
    enum { MOST = 100000 };
    static int64_t late[MOST];
    char row[32];
    int k = 0;
    join j = join_of(n);
    for (int i = 0; i < n; i++) csp_go(hog, sleeps, &j);
    while (k < MOST && __atomic_load_n(&j.left, __ATOMIC_ACQUIRE) > 0) {
        int64_t t = csp_now() + CSP_MILLISECOND;
        csp_sleep_until(t);
        late[k++] = csp_now() - t;
    }
    join_wait(&j);
    qsort(late, (size_t)k, sizeof *late, by_value);
    snprintf(row, sizeof row, "%s_p99", name);
    report(row, (double)late[k * 99 / 100] / 1e6, "ms");
    snprintf(row, sizeof row, "%s_max", name);
    report(row, (double)late[k - 1] / 1e6, "ms");
}

static void hogs(int n)
{
    lateness("hogs", n, false);
}

static void hogs_asleep(int n)
{
    lateness("hogs_asleep", n, true);
}

static const struct {
    const char *name;
    void (*run)(int n);
    int n;
} rows[] = {
    {"ctx_switch", ctx_switch, 5000000},
    {"chan_pingpong", chan_pingpong, 2000000},
    {"chan_buffered", chan_buffered, 5000000},
    {"chan_mpmc", chan_mpmc, 4000000},
    {"select4", select4, 2000000},
    {"spawn_join", spawn_join, 1000000},
    {"skynet", skynet, 1000000},
    {"sieve", sieve, 2000},
    {"sleepers", sleepers, 100000},
    {"timers", timers, 100000},
    {"timer_calls", timer_calls, 100000},
    {"mem_1m", mem_1m, 1000000},
    {"mem_1m_small", mem_1m_small, 1000000},
    {"mutex_free", mutex_free, 50000000},
    {"mutex_8", mutex_8, 20000000},
    {"mutex_fair", mutex_fair, 1000},
    {"rw_8", rw_8, 20000000},
    {"once_free", once_free, 100000000},
    {"wg_free", wg_free, 20000000},
    {"wg_park", wg_park, 2000000},
    {"sem_free", sem_free, 20000000},
    {"sem_8", sem_8, 5000000},
    {"cond_pingpong", cond_pingpong, 2000000},
    {"ctx_cancel", ctx_cancel, 5000000},
    {"ctx_tree", ctx_tree, 10000},
    {"map_mixed", map_mixed, 10000000},
    {"map_hot", map_hot, 20000000},
    {"pool_get_put", pool_get_put, 20000000},
    {"group_go", group_go, 1000000},
    {"echo", echo, 64},
    {"echo_idle", echo_idle, 10000},
    {"blocking", blocking, 10000000},
    {"hogs", hogs, 100},
    {"hogs_asleep", hogs_asleep, 100},
};

csp_main(argc, argv)
{
    int n = 0, known = 0;
    if (argc >= 4 && strcmp(argv[2], "-n") == 0) n = atoi(argv[3]);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (argc < 2 || strcmp(argv[1], rows[i].name) == 0) {
            rows[i].run(n > 0 ? n : rows[i].n);
            known++;
        }
    if (known == 0) fprintf(stderr, "bench: no such row; `bench` alone runs them all\n");
    return known == 0;
}
