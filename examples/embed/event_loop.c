/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * event_loop.c - goroutines behind an event loop that is not csp's: here poll(2) in main.
 *
 * What to notice: the loop may not block in csp, and must not have to ask now and then.
 * csp_wake_fd makes a descriptor of a channel: readable while the channel has something to
 * receive, or is closed. It joins the loop's other descriptors; when it is readable the loop
 * receives by csp_try_recv until CSP_AGAIN, which is what makes it unreadable again. The way in is
 * csp_try_send, or csp_spawn. A toolkit with a loop of its own (GTK, Qt, libuv) takes the
 * descriptor in the same way. The descriptor belongs to the channel and goes with it.
 */
// check: tsan arm64
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { JOBS = 20, LINES = 3 };

typedef struct answer {
    int job;
    long sum;
} answer;

csp_task(worker, csp_receiver(int), jobs, csp_sender(answer), answers)
{
    csp_range(job, jobs) {
        long sum = 0;
        for (int i = 1; i <= job; i++) sum += i;
        csp_send(answers, (answer){job, sum});
    }
    csp_unref(jobs);
    csp_unref(answers);
}

static void start_worker(csp_chan(int) jobs, csp_chan(answer) answers)
{
    csp_go(worker, csp_recv_end(csp_ref(jobs)), csp_send_end(csp_ref(answers)));
}

/* All answers that are there: how many; what is right is counted. */
static int take_answers(csp_chan(answer) answers, int *right)
{
    answer a;
    int n = 0;
    for (; csp_try_recv(answers, &a) == CSP_OK; n++)
        *right += a.sum == (long)a.job * (a.job + 1) / 2;
    return n;
}

int main(void)
{
    csp_chan(int) jobs = csp_make(int, JOBS);
    csp_chan(answer) answers = csp_make(answer, 4);
    int other[2], come = 0, right = 0, lines = 0;
    if (pipe(other) != 0) return 1;
    for (int i = 0; i < 3; i++) start_worker(jobs, answers); // the first use starts the runtime
    for (int i = 1; i <= JOBS; i++) csp_try_send(jobs, i);   // there is room: no need to wait
    csp_close(jobs);

    struct pollfd fds[] = {{.fd = csp_wake_fd(answers), .events = POLLIN},
                           {.fd = other[0], .events = POLLIN}};
    while (come < JOBS || lines < LINES) {
        if (lines < LINES && write(other[1], "x", 1) != 1) return 1; // the loop's other work
        if (poll(fds, 2, -1) < 0) return 1;
        if (fds[0].revents != 0) come += take_answers(answers, &right);
        if (fds[1].revents != 0) lines += (int)read(other[0], &(char){0}, 1);
    }
    printf("%d answers, %d right, %d other events\n", come, right, lines);
    printf("nothing more: %s\n", poll(fds, 1, 0) == 0 ? "yes" : "no");

    close(other[0]);
    close(other[1]);
    csp_unref(jobs);
    csp_unref(answers);
    csp_shutdown(); // gives back the threads and the memory
    return 0;
}
