/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * workers.c - a pool of four workers takes fifteen tasks from a queue of ten.
 *
 * What to notice: the pool is a channel that several goroutines receive from. An idle worker takes
 * the next task, and a full queue holds the sender back. A task carries the channel for its
 * result. Closing the queue is the order to go home: the workers finish what is there, then say
 * good-bye, and main counts the good-byes before it closes the results. Which worker does what
 * differs from run to run, so the results are put in order before they are printed.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

enum { WORKERS = 4, TASKS = 15 };

typedef struct result {
    int task, worker, steps;
} result;

typedef struct task {
    int id;
    unsigned start;
    csp_sender(result) reply;
} task;

/* The work: how many steps until the number has come down to one. */
static int collatz(unsigned n)
{
    int steps = 0;
    for (; n != 1; steps++) n = n % 2 == 0 ? n / 2 : 3 * n + 1;
    return steps;
}

/* A task of the whole program: this line would stand in a header, for the files that start it. */
csp_task_extern_declare(worker, int, id, csp_receiver(task), queue, csp_sender(int), bye);

csp_task_extern(worker, int, id, csp_receiver(task), queue, csp_sender(int), bye)
{
    csp_range(t, queue) {
        csp_sleep((int64_t)(t.id % 5) * CSP_MILLISECOND); // some take longer
        csp_send(t.reply, (result){.task = t.id, .worker = id, .steps = collatz(t.start)});
    }
    csp_send(bye, id);
}

csp_task(submit, csp_sender(task), queue, csp_sender(result), reply)
{
    for (int i = 0; i < TASKS; i++)
        csp_send(queue, (task){.id = i, .start = 27u + (unsigned)i, .reply = reply});
    csp_close(queue);
}

csp_task(closer, csp_receiver(int), bye, csp_sender(result), results)
{
    for (int i = 0; i < WORKERS; i++) csp_recv(bye, NULL);
    csp_close(results);
}

csp_main(argc, argv)
{
    csp_chan(task) queue = csp_make(task, 10);
    csp_chan(result) results = csp_make(result, 0);
    csp_chan(int) bye = csp_make(int, 0);
    for (int i = 0; i < WORKERS; i++) csp_go(worker, i, csp_recv_end(queue), csp_send_end(bye));
    csp_go(submit, csp_send_end(queue), csp_send_end(results));
    csp_go(closer, csp_recv_end(bye), csp_send_end(results));

    result all[TASKS];
    int n = 0, by[WORKERS] = {0};
    csp_range(r, results) {
        all[r.task] = r;
        by[r.worker]++;
        n++;
    }
    for (int i = 0; i < TASKS; i++) printf("task %2d: %3d steps\n", i, all[i].steps);
    printf("%d tasks completed\n", n);
    for (int i = 0; i < WORKERS; i++) fprintf(stderr, "worker %d did %d\n", i, by[i]);
    csp_unref(queue);
    csp_unref(results);
    csp_unref(bye);
    return n != TASKS;
}
