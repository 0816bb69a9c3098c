/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * threads.c - csp in a program that has a main and threads of its own.
 *
 * What to notice: there is no csp_main and no csp_run here. csp_init starts the runtime with
 * settings (without it the first use does, with the defaults), csp_shutdown ends it, and in
 * between the program's threads use the same calls as goroutines: a thread that sends, receives or
 * locks blocks as a thread and leaves csp's processors alone. A channel, a mutex and a waitgroup
 * serve both sides. Signals, the working directory and the program's own pthread mutexes are
 * untouched.
 */
// check: tsan arm64
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <pthread.h>
#include <stdio.h>

enum { THREADS = 4, REQUESTS = 50 };

typedef struct request {
    int number;
    csp_sender(int) reply;
} request;

static csp_chan(request) requests;
static csp_mutex mu; // guards total, for threads and goroutines
static int total;

/* One goroutine for each request: it may wait for others at no cost. */
csp_task(serve, request, r)
{
    csp_sleep(10 * CSP_MICROSECOND);
    csp_mutex_lock(&mu);
    total += r.number;
    csp_mutex_unlock(&mu);
    csp_send(r.reply, r.number * 2);
}

csp_task(accept_requests, csp_waitgroup *, ended)
{
    csp_range(r, requests) csp_go(serve, r);
    csp_waitgroup_done(ended);
}

/* A thread of the program, as it was before: it asks, and waits for the answer. */
static void *thread(void *arg)
{
    int *right = arg;
    csp_chan(int) reply = csp_make(int, 1);
    for (int i = 1, doubled; i <= REQUESTS; i++) {
        csp_send(requests, (request){i, csp_send_end(reply)});
        csp_recv(reply, &doubled);
        *right += doubled == 2 * i;
    }
    csp_unref(reply);
    return NULL;
}

int main(void)
{
    csp_config config = {.procs = csp_ncpu() > 2 ? 2 : csp_ncpu(), .stack_size = 64 * 1024};
    csp_status status = csp_init(&config);
    if (status == CSP_INVALID || status == CSP_NOMEM) {
        fprintf(stderr, "threads: %s\n", csp_status_name(status));
        return 1;
    }
    csp_max_threads(64); // a panic rather than thousands, when everything blocks
    printf("started a second time: %s\n", csp_status_name(csp_init(&config)));

    pthread_t threads[THREADS];
    int right[THREADS] = {0}, all_right = 0;
    csp_waitgroup ended = {0};
    csp_waitgroup_add(&ended, 1);
    requests = csp_make(request, 0);
    csp_go(accept_requests, &ended);
    for (int i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, thread, &right[i]) != 0) return 1;
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        all_right += right[i];
    }
    csp_close(requests);
    csp_waitgroup_wait(&ended); // main is a thread, too
    printf("%d threads, %d right answers, total %d\n", THREADS, all_right, total);
    csp_unref(requests);
    csp_shutdown();
    return 0;
}
