/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * dispatcher.c - a channel of channels: idle workers queue up, each job goes to the next of them.
 *
 * What to notice: a worker offers its own job channel to say that it is idle. The dispatcher takes
 * the next job, then the next idle worker, and hands one to the other: no worker ever has a queue
 * of its own, and jobs are started in the order of their arrival. Stop is a close as well: of the
 * jobs for the dispatcher, which then waits for each worker to come home and closes its channel.
 */
// check: tsan windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

enum { WORKERS = 3, JOBS = 9 };

typedef struct job {
    int id;
    csp_sender(int) results;
} job;

typedef csp_chan(job) inbox;

csp_task(worker, int, id, csp_sender(inbox), idle)
{
    inbox mine = csp_make(job, 0);
    int n = 0;
    for (job j; csp_send(idle, mine), csp_recv(mine, &j); n++) csp_send(j.results, j.id * j.id);
    fprintf(stderr, "worker %d did %d\n", id, n);
    csp_send(idle, NULL); // the last word: home
    csp_unref(mine);
}

csp_task(dispatcher, csp_receiver(job), jobs, csp_sender(bool), stopped)
{
    csp_chan(inbox) idle = csp_make(inbox, 0);
    inbox next;
    for (int i = 0; i < WORKERS; i++) csp_go(worker, i, csp_send_end(idle));
    csp_range(j, jobs) {
        csp_recv(idle, &next);
        printf("job %d starts\n", j.id);
        csp_send(next, j);
    }
    for (int home = 0; home < WORKERS;) {
        csp_recv(idle, &next);
        if (next == NULL)
            home++;
        else
            csp_close(next);
    }
    csp_unref(idle);
    csp_send(stopped, true);
}

csp_main(argc, argv)
{
    csp_chan(job) jobs = csp_make(job, 4);
    csp_chan(int) results = csp_make(int, JOBS);
    csp_chan(bool) stopped = csp_make(bool, 0);
    csp_go(dispatcher, csp_recv_end(jobs), csp_send_end(stopped));
    for (int i = 1; i <= JOBS; i++) csp_send(jobs, (job){i, csp_send_end(results)});
    csp_close(jobs);
    csp_recv(stopped, NULL);

    int sum = 0, n = 0;
    csp_close(results);
    csp_range(r, results) sum += r, n++;
    printf("%d results, their sum is %d\n", n, sum);
    csp_unref(jobs);
    csp_unref(results);
    csp_unref(stopped);
    return 0;
}
