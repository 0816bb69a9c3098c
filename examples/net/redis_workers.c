/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * redis_workers.c - a worker pool over several processes: jobs travel by a Redis stream.
 *
 *     redis-server --port 6379                                     the broker
 *     build/redis_workers work NAME [ADDRESS [CRASH]]              any number of these, anywhere
 *     build/redis_workers submit N [ADDRESS]                       waits for N results
 *
 * What to notice: inside a process workers are goroutines, each with a connection that is read and
 * written as if it was a file; four wait in the broker at the same time and cost nothing. Between
 * processes a job is given to one worker of the group, and stays on the broker's list until that
 * worker says that it is done: what a process took into its grave is claimed by another after a
 * while. So a job is done at least once, and a result is written under the job's number, where
 * doing it twice makes no difference. CRASH kills a worker in the middle of that job, without a
 * word, to show it. The protocol is simple enough to speak it here.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"
#include "lines.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORKERS = 4, STRINGS = 8, LENGTH = 64 };

/* ---- the broker's protocol ---- */

typedef struct reply { // an answer, its lists flattened
    int64_t number;    // of the last integer
    int n;             // strings
    char strings[STRINGS][LENGTH];
} reply;

static int read_reply(lines *in, reply *r, int64_t t)
{
    char line[128];
    int n = read_line(in, line, sizeof line, t);
    long long k = n > 0 ? atoll(line + 1) : 0;
    if (n < 0) return n;
    switch (line[0]) {
    case '+': return 0;
    case ':': r->number = k; return 0;
    case '$':
        if (k < 0) return 0;
        if (k >= LENGTH || r->n == STRINGS) return -EMSGSIZE;
        n = read_line(in, r->strings[r->n++], LENGTH, t);
        return n < 0 ? n : 0;
    case '*':
        for (n = 0; n == 0 && k > 0; k--) n = read_reply(in, r, t);
        return n;
    default: fprintf(stderr, "redis_workers: %s\n", line); return -EPROTO;
    }
}

/* Sends a command of n words and reads the answer. */
static int command(lines *in, reply *r, int n, const char *const *words)
{
    char text[1024];
    size_t at = (size_t)snprintf(text, sizeof text, "*%d\r\n", n);
    int64_t t = csp_now() + 10 * CSP_SECOND;
    for (int i = 0; i < n && at < sizeof text; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "$%d\r\n%s\r\n", (int)strlen(words[i]),
                               words[i]);
    memset(r, 0, sizeof *r);
    int e = at < sizeof text ? write_until(in->fd, text, at, t) : -EMSGSIZE;
    return e < 0 ? e : read_reply(in, r, t);
}
#define COMMAND(in, r, ...)                                                                        \
    command(in, r, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)),                  \
            (const char *[]){__VA_ARGS__})

/* ---- the pool ---- */

static const char *address = "localhost:6379";

static bool is_prime(int n)
{
    for (int d = 2; d * d <= n; d++)
        if (n % d == 0) return false;
    return n > 1;
}

/* The next job: a new one, or else one whose worker has been silent for a while. */
static bool next_job(lines *broker, reply *r, const char *name)
{
    if (COMMAND(broker, r, "XREADGROUP", "GROUP", "pool", name, "COUNT", "1", "BLOCK", "50",
                "STREAMS", "jobs", ">") < 0)
        return false;
    if (r->n == 4) { // stream, id, "n", number
        memmove(r->strings[0], r->strings[1], 3 * LENGTH);
        return true;
    }
    if (COMMAND(broker, r, "XAUTOCLAIM", "jobs", "pool", name, "200", "0", "COUNT", "1") < 0 ||
        r->n != 4)
        return false;
    memmove(r->strings[0], r->strings[1], 3 * LENGTH); // where to go on, id, "n", number
    return true;
}

csp_task(worker, const char *, name, const char *, crash, csp_ctx *, ctx, csp_waitgroup *, all)
{
    lines broker = {.fd = csp_dial_until(address, csp_now() + 5 * CSP_SECOND)};
    for (reply job, done; broker.fd >= 0 && csp_ctx_status(ctx) == CSP_OK;) {
        if (!next_job(&broker, &job, name)) {
            csp_sleep(10 * CSP_MILLISECOND); // nothing there, or no stream yet
            continue;
        }
        const char *id = job.strings[0], *n = job.strings[2];
        if (strcmp(n, crash) == 0) raise(SIGKILL);
        COMMAND(&broker, &done, "HSET", "results", n, is_prime(atoi(n)) ? "prime" : "not");
        COMMAND(&broker, &done, "XACK", "jobs", "pool", id);
    }
    if (broker.fd >= 0) csp_close_fd(broker.fd);
    csp_waitgroup_done(all);
}

static int work(const char *name, const char *crash)
{
    csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background());
    csp_chan(int) signals = csp_make(int, 1);
    csp_waitgroup all = {0};
    csp_notify(signals, SIGTERM, SIGINT);
    csp_waitgroup_add(&all, WORKERS);
    for (int i = 0; i < WORKERS; i++) csp_go(worker, name, crash, ctx, &all);
    csp_recv(signals, NULL);
    csp_ctx_cancel(ctx);
    csp_waitgroup_wait(&all); // each finishes its job
    csp_notify_stop(signals);
    csp_unref(signals);
    csp_ctx_unref(ctx);
    return 0;
}

static int submit(int n)
{
    lines broker = {.fd = csp_dial_until(address, csp_now() + 5 * CSP_SECOND)};
    reply r;
    char text[16];
    int primes = 0;
    if (broker.fd < 0) return 1;
    COMMAND(&broker, &r, "DEL", "jobs", "results");
    if (COMMAND(&broker, &r, "XGROUP", "CREATE", "jobs", "pool", "0", "MKSTREAM") < 0) return 1;
    for (int i = 1; i <= n; i++) {
        snprintf(text, sizeof text, "%d", i);
        COMMAND(&broker, &r, "XADD", "jobs", "*", "n", text);
    }
    while (COMMAND(&broker, &r, "HLEN", "results") == 0 && r.number < n)
        csp_sleep(10 * CSP_MILLISECOND);
    printf("%d results\n", (int)r.number);
    for (int i = 1; i <= n; i++) {
        snprintf(text, sizeof text, "%d", i);
        COMMAND(&broker, &r, "HGET", "results", text);
        primes += r.n == 1 && strcmp(r.strings[0], "prime") == 0;
    }
    printf("%d primes up to %d\n", primes, n);
    do { // results first, then the acknowledgement
        COMMAND(&broker, &r, "XPENDING", "jobs", "pool");
    } while (r.number > 0 && (csp_sleep(10 * CSP_MILLISECOND), true));
    printf("%d jobs not acknowledged\n", (int)r.number);
    csp_close_fd(broker.fd);
    return 0;
}

csp_main(argc, argv)
{
    if (argc > 3) address = argv[3];
    if (argc > 2 && strcmp(argv[1], "work") == 0) return work(argv[2], argc > 4 ? argv[4] : "");
    if (argc > 2 && strcmp(argv[1], "submit") == 0) return submit(atoi(argv[2]));
    fprintf(stderr,
            "redis_workers work NAME [ADDRESS [CRASH]] | redis_workers submit N [ADDRESS]\n");
    return 2;
}
