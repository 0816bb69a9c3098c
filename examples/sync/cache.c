/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * cache.c - a cache for a slow function, in five versions, and what falls out of them.
 *
 * What to notice: twelve goroutines ask for four keys, three each. 1 has no lock, and the
 * simulator finds the schedule in which two goroutines put in the same key. 2 locks all of it:
 * nothing is asked twice, and nothing at the same time. 3 lets go of the lock while it asks: fast,
 * and the same question is asked three times. In 4 the first puts an entry into the table, the
 * others wait for its `ready` channel. 5 does so without a lock, by a goroutine to which the table
 * belongs. The last forgets an entry when its answer is there: questions at the same time share
 * one answer, and nothing is kept.
 */
// check: arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 4, ASKERS = 12, MOST = 2 * ASKERS };

static const char *const keys[KEYS] = {"/a", "/lot", "/of", "/things"};
static atomic_int calls; // of the slow function

static int slow(const char *key)
{
    calls++;
    csp_sleep(100 * CSP_MILLISECOND);
    return (int)strlen(key);
}

typedef struct entry {
    const char *key;
    int value;
    csp_chan(bool) ready; // 4 and later: closed when the value is there
    atomic_int users;     // the last: how many have it in hand
} entry;

typedef struct request {
    const char *key;
    csp_sender(int) answer;
} request;

typedef struct cache {
    csp_mutex mu;
    int n; // guarded by mu, from 2 on
    entry *entries[MOST];
    csp_chan(request) requests; // 5
} cache;

static entry *lookup(cache *m, const char *key)
{
    for (int i = 0; i < m->n; i++)
        if (strcmp(m->entries[i]->key, key) == 0) return m->entries[i];
    return NULL;
}

static entry *insert(cache *m, const char *key, int value)
{
    entry *e = malloc(sizeof *e);
    if (e == NULL || m->n == MOST) csp_panic("no room");
    *e = (entry){key, value, csp_make(bool, 0), 0};
    m->entries[m->n++] = e;
    return e;
}

static void drop(entry *e)
{
    csp_unref(e->ready);
    free(e);
}

/* ---- the versions ---- */

static int unsafe(cache *m, const char *key)
{
    entry *e = lookup(m, key);
    if (e == NULL) e = insert(m, key, slow(key));
    return e->value;
}

static int locked(cache *m, const char *key)
{
    csp_mutex_lock(&m->mu);
    int value = unsafe(m, key);
    csp_mutex_unlock(&m->mu);
    return value;
}

static int locked_twice(cache *m, const char *key)
{
    csp_mutex_lock(&m->mu);
    entry *e = lookup(m, key);
    csp_mutex_unlock(&m->mu);
    if (e != NULL) return e->value;

    int value = slow(key);
    csp_mutex_lock(&m->mu);
    if (lookup(m, key) == NULL) insert(m, key, value); // another may have been faster
    csp_mutex_unlock(&m->mu);
    return value;
}

static int by_entry(cache *m, const char *key)
{
    csp_mutex_lock(&m->mu);
    entry *e = lookup(m, key);
    bool first = e == NULL;
    if (first) e = insert(m, key, 0);
    csp_mutex_unlock(&m->mu);
    if (first) {
        e->value = slow(key);
        csp_close(e->ready);
    } else {
        csp_recv(e->ready, NULL);
    }
    return e->value;
}

csp_task(call, entry *, e)
{
    e->value = slow(e->key);
    csp_close(e->ready);
}

csp_task(deliver, entry *, e, csp_sender(int), answer)
{
    csp_recv(e->ready, NULL);
    csp_send(answer, e->value);
}

csp_task(serve, cache *, m)
{
    csp_range(r, m->requests) {
        entry *e = lookup(m, r.key);
        if (e == NULL) {
            e = insert(m, r.key, 0);
            csp_go(call, e);
        }
        csp_go(deliver, e, r.answer); // the server itself does not wait
    }
}

static int by_monitor(cache *m, const char *key)
{
    int value = 0;
    csp_chan(int) answer = csp_make(int, 0);
    csp_send(m->requests, (request){key, csp_send_end(answer)});
    csp_recv(answer, &value);
    csp_unref(answer);
    return value;
}

static void forget(cache *m, const entry *e)
{
    csp_mutex_lock(&m->mu);
    for (int i = 0; i < m->n; i++)
        if (m->entries[i] == e) m->entries[i] = m->entries[--m->n];
    csp_mutex_unlock(&m->mu);
}

static int single_flight(cache *m, const char *key)
{
    csp_mutex_lock(&m->mu);
    entry *e = lookup(m, key);
    bool first = e == NULL;
    if (first) e = insert(m, key, 0);
    e->users++;
    csp_mutex_unlock(&m->mu);
    if (first) {
        e->value = slow(key);
        forget(m, e);
        csp_close(e->ready);
    } else {
        csp_recv(e->ready, NULL);
    }
    int value = e->value;
    if (--e->users == 0) drop(e);
    return value;
}

/* ---- twelve ask at once, and once more later ---- */

typedef struct play {
    const char *name;
    int (*get)(cache *, const char *);
    bool quiet;
} play;

csp_task(ask, play *, p, cache *, m, int, i, csp_waitgroup *, all)
{
    if (p->get(m, keys[i % KEYS]) != (int)strlen(keys[i % KEYS])) csp_panic("a wrong answer");
    csp_waitgroup_done(all);
}

static void perform(void *arg)
{
    play *p = (play *)arg;
    cache m = {.requests = csp_make(request, 0)};
    csp_waitgroup all = {0};
    int64_t t0 = csp_now(), t;
    calls = 0;
    csp_go(serve, &m);
    csp_waitgroup_add(&all, ASKERS);
    for (int i = 0; i < ASKERS; i++) csp_go(ask, p, &m, i, &all);
    csp_waitgroup_wait(&all);
    t = csp_now() - t0;
    for (int i = 0; i < m.n; i++)
        if (lookup(&m, m.entries[i]->key) != m.entries[i])
            csp_panic("%s is there twice", m.entries[i]->key);
    int before = calls;
    p->get(&m, keys[0]);
    if (!p->quiet)
        printf("%-16s %2d calls, %.1f s; asked again: %d more\n", p->name, before,
               (double)t / CSP_SECOND, calls - before);
    csp_close(m.requests);
    while (csp_count() > 1) csp_yield();
    for (int i = 0; i < m.n; i++) drop(m.entries[i]);
    csp_unref(m.requests);
}

int main(void)
{
    play plays[] = {{"2 locked", locked, false},
                    {"3 locked twice", locked_twice, false},
                    {"4 by entry", by_entry, false},
                    {"5 by monitor", by_monitor, false},
                    {"a single flight", single_flight, false}};
    play wrong = {"1 unsafe", unsafe, false};
    csp_sim_report r = csp_simulate(&(csp_sim){.runs = 100}, perform, &wrong);
    printf("%-16s %s\n", wrong.name, csp_sim_outcome_name(r.outcome));
    for (size_t i = 0; i < sizeof plays / sizeof plays[0]; i++) {
        csp_simulate(&(csp_sim){.file = stderr}, perform, &plays[i]);
        plays[i].quiet = true;
        r = csp_simulate(&(csp_sim){.seed = 1, .runs = 100, .file = stderr}, perform, &plays[i]);
        if (r.outcome != CSP_SIM_OK) return 1;
    }
    return 0;
}
