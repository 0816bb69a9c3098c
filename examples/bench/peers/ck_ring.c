/* ck_ring.c - the row chan_mpmc of bench.c with Concurrency Kit's ring of 128 places, for 127
 * elements: `ck_ring chan_mpmc [N]`. 4 threads put n elements in, 4 others take them out. The ring
 * does not block: a thread that finds it full or empty waits a little longer each time, and in the
 * end lets another one run. */
#include <ck_backoff.h>
#include <ck_ring.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct item {
    int value;
};
CK_RING_PROTOTYPE(item, item)

static ck_ring_t ring;
static struct item items[128];
static int n, from[4] = {0, 1, 2, 3};
static int64_t total;

static void wait_for(ck_backoff_t *backoff)
{
    if (*backoff < 1 << 13)
        ck_backoff_eb(backoff);
    else
        sched_yield();
}

static void *produces(void *arg)
{
    for (int v = *(int *)arg; v < n; v += 4) {
        struct item e = {v};
        ck_backoff_t backoff = CK_BACKOFF_INITIALIZER;
        while (!CK_RING_ENQUEUE_MPMC(item, &ring, items, &e)) wait_for(&backoff);
    }
    return NULL;
}

static void *consumes(void *arg)
{
    int64_t sum = 0;
    (void)arg;
    for (int i = 0; i < n / 4; i++) {
        struct item e;
        ck_backoff_t backoff = CK_BACKOFF_INITIALIZER;
        while (!CK_RING_DEQUEUE_MPMC(item, &ring, items, &e)) wait_for(&backoff);
        sum += e.value;
    }
    __atomic_add_fetch(&total, sum, __ATOMIC_RELAXED);
    return NULL;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    pthread_t t[8];
    n = (argc > 2 ? atoi(argv[2]) : 4000000) / 4 * 4;
    ck_ring_init(&ring, 128);
    double start = now();
    for (int i = 0; i < 8; i++)
        if (pthread_create(&t[i], NULL, i < 4 ? consumes : produces, &from[i % 4]) != 0) return 1;
    for (int i = 0; i < 8; i++) pthread_join(t[i], NULL);
    printf("chan_mpmc %.3f ns/op\n", (now() - start) / n);
    return total == (int64_t)n * (n - 1) / 2 ? 0 : 2;
}
