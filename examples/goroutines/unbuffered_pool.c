/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * unbuffered_pool.c - a pool of workers where submit returns as soon as a worker has the task.
 *
 * What to notice: the channel has no buffer, so a send is a handshake. There is no queue in which
 * a task could be lost or grow old, and a submitter that is faster than the pool is slowed down.
 * Any number of goroutines may submit at once. Shutdown closes the channel and waits: what was
 * submitted is done.
 */
// check: tsan windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>

enum { WORKERS = 2, NAMES = 5, ROUNDS = 20 };

typedef struct task {
    void (*work)(void *arg);
    void *arg;
} task;

typedef struct pool {
    csp_chan(task) tasks;
    csp_chan(bool) done;
    int workers;
} pool;

csp_task(worker, csp_receiver(task), tasks, csp_sender(bool), done)
{
    csp_range(t, tasks) t.work(t.arg);
    csp_send(done, true);
}

static pool pool_new(int workers)
{
    pool p = {csp_make(task, 0), csp_make(bool, 0), workers};
    for (int i = 0; i < workers; i++) csp_go(worker, csp_recv_end(p.tasks), csp_send_end(p.done));
    return p;
}

static void pool_run(pool *p, void (*work)(void *), void *arg)
{
    csp_send(p->tasks, (task){work, arg});
}

static void pool_shutdown(pool *p)
{
    csp_close(p->tasks);
    for (int i = 0; i < p->workers; i++) csp_recv(p->done, NULL);
    csp_unref(p->tasks);
    csp_unref(p->done);
}

/* ---- a hundred tasks, submitted by five at once ---- */

static atomic_int at_work, most;
static struct {
    const char *name;
    atomic_int printed;
} people[NAMES] = {{"ann", 0}, {"bob", 0}, {"eve", 0}, {"ian", 0}, {"tim", 0}};

static void print_name(void *arg)
{
    int n = ++at_work, was = most;
    while (n > was && !atomic_compare_exchange_weak(&most, &was, n)) continue;
    csp_sleep(100 * CSP_MICROSECOND); // the printer is slow
    ++*(atomic_int *)arg;
    at_work--;
}

csp_task(submit, pool *, p, int, who, csp_sender(bool), done)
{
    for (int i = 0; i < ROUNDS; i++) pool_run(p, print_name, &people[who].printed);
    csp_send(done, true);
}

csp_main(argc, argv)
{
    pool p = pool_new(WORKERS);
    csp_chan(bool) done = csp_make(bool, 0);
    for (int i = 0; i < NAMES; i++) csp_go(submit, &p, i, csp_send_end(done));
    for (int i = 0; i < NAMES; i++) csp_recv(done, NULL);
    pool_shutdown(&p);
    for (int i = 0; i < NAMES; i++) printf("%s: %d times\n", people[i].name, people[i].printed);
    printf("never more than %d at once\n", most <= WORKERS ? WORKERS : most);
    csp_unref(done);
    return 0;
}
