/* pthreads.c - rows of bench.c with plain threads, mutexes and condition variables, where they can
 * do the job: `pthreads ROW [-n N]`. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void must(int ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static pthread_t start(void *(*fn)(void *), void *arg)
{
    pthread_t t;
    must(pthread_create(&t, NULL, fn, arg) == 0, "pthread_create");
    return t;
}

/* A queue of at most `capacity` elements; closed, it gives what is left and then nothing. */
enum { MOST = 128 };

typedef struct queue {
    pthread_mutex_t mu;
    pthread_cond_t filled, drained;
    int capacity, head, count, closed;
    int buffer[MOST];
} queue;

static void queue_init(queue *q, int capacity)
{
    memset(q, 0, sizeof *q);
    pthread_mutex_init(&q->mu, NULL);
    pthread_cond_init(&q->filled, NULL);
    pthread_cond_init(&q->drained, NULL);
    q->capacity = capacity;
}

static void put(queue *q, int v)
{
    pthread_mutex_lock(&q->mu);
    while (q->count == q->capacity) pthread_cond_wait(&q->drained, &q->mu);
    q->buffer[(q->head + q->count++) % MOST] = v;
    pthread_cond_signal(&q->filled);
    pthread_mutex_unlock(&q->mu);
}

static int get(queue *q, int *v)
{
    pthread_mutex_lock(&q->mu);
    while (q->count == 0 && !q->closed) pthread_cond_wait(&q->filled, &q->mu);
    int ok = q->count > 0;
    if (ok) {
        *v = q->buffer[q->head];
        q->head = (q->head + 1) % MOST;
        q->count--;
        pthread_cond_signal(&q->drained);
    }
    pthread_mutex_unlock(&q->mu);
    return ok;
}

static void finish(queue *q)
{
    pthread_mutex_lock(&q->mu);
    q->closed = 1;
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->mu);
}

static queue qa, qb;
static int count, producers;

static void *pong(void *arg)
{
    for (int v; get(&qa, &v);) put(&qb, v + 1);
    return arg;
}

static void chan_pingpong(int n)
{
    int v = 0;
    queue_init(&qa, 1);
    queue_init(&qb, 1);
    pthread_t t = start(pong, NULL);
    for (int i = 0; i < n; i++) {
        put(&qa, v);
        must(get(&qb, &v), "pingpong");
    }
    finish(&qa);
    pthread_join(t, NULL);
    must(v == n, "pingpong");
}

static void *produce(void *arg)
{
    for (int i = (int)(intptr_t)arg; i < count; i += producers) put(&qa, i);
    return NULL;
}

static void *consume(void *arg)
{
    int64_t sum = 0;
    for (int v; get(&qa, &v);) sum += v;
    *(int64_t *)arg = sum;
    return NULL;
}

static void pass(int n, int threads)
{
    pthread_t from[4], to[4];
    int64_t sums[4] = {0}, sum = 0;
    queue_init(&qa, MOST);
    count = n;
    producers = threads;
    for (int i = 0; i < threads; i++) to[i] = start(consume, &sums[i]);
    for (int i = 0; i < threads; i++) from[i] = start(produce, (void *)(intptr_t)i);
    for (int i = 0; i < threads; i++) pthread_join(from[i], NULL);
    finish(&qa);
    for (int i = 0; i < threads; i++) pthread_join(to[i], NULL);
    for (int i = 0; i < threads; i++) sum += sums[i];
    must(sum == (int64_t)n * (n - 1) / 2, "sum");
}

static void chan_buffered(int n)
{
    pass(n, 1);
}

static void chan_mpmc(int n)
{
    pass(n, 4);
}

static void *trivial(void *arg)
{
    ++*(char *)arg;
    return NULL;
}

static void spawn_join(int n)
{
    static char counters[1000];
    static pthread_t t[1000];
    for (int b = 0; b < n / 1000; b++) {
        for (int i = 0; i < 1000; i++) t[i] = start(trivial, &counters[i]);
        for (int i = 0; i < 1000; i++) pthread_join(t[i], NULL);
    }
}

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static int64_t guarded;

static void *locks(void *arg)
{
    for (int i = 0; i < count; i++) {
        pthread_mutex_lock(&mu);
        guarded++;
        pthread_mutex_unlock(&mu);
    }
    return arg;
}

static void mutex_8(int n)
{
    pthread_t t[8];
    count = n / 8;
    for (int i = 0; i < 8; i++) t[i] = start(locks, NULL);
    for (int i = 0; i < 8; i++) pthread_join(t[i], NULL);
    must(guarded == (int64_t)count * 8, "mutex");
}

static const struct {
    const char *name;
    void (*run)(int n);
    int n;
} rows[] = {
    {"chan_pingpong", chan_pingpong, 50000}, {"chan_buffered", chan_buffered, 1000000},
    {"chan_mpmc", chan_mpmc, 1000000},       {"spawn_join", spawn_join, 10000},
    {"mutex_8", mutex_8, 8000000},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (argc > 1 && strcmp(argv[1], rows[i].name) == 0) {
            int n = argc == 4 ? atoi(argv[3]) : rows[i].n;
            double t = now();
            rows[i].run(n);
            printf("%s %.3f ns/op\n", argv[1], (now() - t) / n);
        }
    return 0;
}
