/* urcu.c - the row chan_mpmc of bench.c with liburcu's wfcqueue: `urcu chan_mpmc [N]`. 4 threads
 * put n elements in, 4 others take them out, under the queue's own lock. Its nodes lie in the
 * elements, which exist before. It has no bound, and does not block: a thread that finds it empty
 * lets another one run. */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <urcu/compiler.h>
#include <urcu/wfcqueue.h>

struct element {
    int value;
    struct cds_wfcq_node node;
};

static struct cds_wfcq_head head;
static struct cds_wfcq_tail tail;
static struct element *elements;
static int n, from[4] = {0, 1, 2, 3};
static int64_t total;

static void *produces(void *arg)
{
    for (int v = *(int *)arg; v < n; v += 4) {
        elements[v].value = v;
        cds_wfcq_node_init(&elements[v].node);
        cds_wfcq_enqueue(&head, &tail, &elements[v].node);
    }
    return NULL;
}

static void *consumes(void *arg)
{
    int64_t sum = 0;
    (void)arg;
    for (int i = 0; i < n / 4; i++) {
        struct cds_wfcq_node *node;
        while ((node = cds_wfcq_dequeue_blocking(&head, &tail)) == NULL) sched_yield();
        sum += caa_container_of(node, struct element, node)->value;
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
    elements = malloc((size_t)n * sizeof *elements);
    if (elements == NULL) return 1;
    for (int i = 0; i < n; i++) elements[i].value = -1; /* the pages are there */
    cds_wfcq_init(&head, &tail);
    double start = now();
    for (int i = 0; i < 8; i++)
        if (pthread_create(&t[i], NULL, i < 4 ? consumes : produces, &from[i % 4]) != 0) return 1;
    for (int i = 0; i < 8; i++) pthread_join(t[i], NULL);
    printf("chan_mpmc %.3f ns/op\n", (now() - start) / n);
    cds_wfcq_destroy(&head, &tail);
    free(elements);
    return total == (int64_t)n * (n - 1) / 2 ? 0 : 2;
}
