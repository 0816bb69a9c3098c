/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * futures.c - results that come later: a query, a promise with callbacks, and callbacks alone.
 *
 * What to notice: the query is started before its argument is known; it has a channel for the SQL
 * and one for the result. A promise is a result and a channel that is closed when it is there: any
 * number may wait for it, as often as they like, and each callback is a goroutine that waits. The
 * last part gathers results without any channel in sight: each worker calls back, and because
 * workers run at the same time, what the callback touches has to be atomic.
 */
// check: windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ---- a query: execute first, supply the argument later ---- */

typedef struct text {
    char s[64];
} text;

typedef struct query {
    csp_chan(text) sql, result;
} query;

csp_task(execute, query, q)
{
    text sql, result;
    csp_recv(q.sql, &sql);
    snprintf(result.s, sizeof result.s, "%.40s -> %d rows", sql.s, (int)strlen(sql.s));
    csp_send(q.result, result);
}

static void queries(void)
{
    query q = {csp_make(text, 1), csp_make(text, 1)};
    text result;
    csp_go(execute, q);
    csp_send(q.sql, (text){"select * from rivers"});
    csp_recv(q.result, &result);
    printf("%s\n", result.s);
    csp_unref(q.sql);
    csp_unref(q.result);
}

/* ---- a promise ---- */

typedef struct promise {
    int (*work)(int, int *result); // 0, or what went wrong
    int argument, result, error;   // the last two are there when `done` is closed
    csp_chan(bool) done;
    csp_chan(bool) called; // by each callback, when it is over
    int callbacks;
} promise;

csp_task(run, promise *, p)
{
    p->error = p->work(p->argument, &p->result);
    csp_close(p->done);
}

static void promise_start(promise *p, int (*work)(int, int *), int argument)
{
    *p = (promise){work, argument, 0, 0, csp_make(bool, 0), csp_make(bool, 0), 0};
    csp_go(run, p);
}

static int promise_get(promise *p, int *result)
{
    csp_recv(p->done, NULL);
    *result = p->result;
    return p->error;
}

csp_task(call_back, promise *, p, bool, success, bool, failure, void (*)(promise *), fn)
{
    csp_recv(p->done, NULL);
    if (p->error == 0 ? success : failure) fn(p);
    csp_send(p->called, true);
}

static void promise_call(promise *p, bool success, bool failure, void (*fn)(promise *))
{
    p->callbacks++;
    csp_go(call_back, p, success, failure, fn);
}

static void on_success(promise *p, void (*fn)(promise *))
{
    promise_call(p, true, false, fn);
}

static void on_failure(promise *p, void (*fn)(promise *))
{
    promise_call(p, false, true, fn);
}

static void on_complete(promise *p, void (*fn)(promise *))
{
    promise_call(p, true, true, fn);
}

static void promise_end(promise *p) // waits for the callbacks
{
    for (; p->callbacks > 0; p->callbacks--) csp_recv(p->called, NULL);
    csp_unref(p->done);
    csp_unref(p->called);
}

static int root(int n, int *result)
{
    if (n < 0) return 33;
    while (*result * *result < n) ++*result;
    return 0;
}

static atomic_int good, bad, all; // callbacks run at the same time

static void count_good(promise *p)
{
    good += p->result;
}

static void count_bad(promise *p)
{
    bad += p->error;
}

static void count_all(promise *p)
{
    (void)p;
    all++;
}

static void promises(void)
{
    promise p[2];
    int result;
    promise_start(&p[0], root, 144);
    promise_start(&p[1], root, -1);
    for (int i = 0; i < 2; i++) {
        on_success(&p[i], count_good);
        on_failure(&p[i], count_bad);
        on_complete(&p[i], count_all);
    }
    for (int i = 0; i < 2; i++) {
        int error = promise_get(&p[i], &result);
        printf("get: result %d, error %d\n", result, error);
    }
    promise_end(&p[0]);
    promise_end(&p[1]);
    printf("on_success saw %d, on_failure saw %d, on_complete was called %d times\n", good, bad,
           all);
}

/* ---- callbacks instead of channels ---- */

typedef struct sum {
    atomic_int total, results;
} sum;

static void add(sum *s, int value)
{
    s->total += value;
    s->results++; // last: a reader that sees it sees the total
}

csp_task(cube, int, n, void (*)(sum *, int), done, sum *, s)
{
    done(s, n * n * n);
}

static void callbacks(void)
{
    sum s = {0, 0};
    for (int i = 1; i <= 100; i++) csp_go(cube, i, add, &s);
    while (s.results < 100) csp_yield();
    printf("%d cubes, their sum is %d\n", s.results, s.total);
}

csp_main(argc, argv)
{
    queries();
    promises();
    callbacks();
    return 0;
}
