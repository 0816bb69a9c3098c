/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * connection_pool.c - a pool of connections that many share.
 *
 * What to notice: the buffered channel is the pool; its capacity is how many idle connections it
 * keeps. A goroutine that finds none makes one and does not wait; a goroutine that finds no room
 * when it gives one back closes it. Close and release exclude each other by a mutex, or else a
 * connection could be put into a pool that has been closed, and would stay open. Closing twice
 * does no harm.
 */
// check: tsan windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { KEPT = 2, USERS = 25 };

/* ---- the resource ---- */

typedef struct connection {
    int id;
} connection;

static atomic_int made, closed;

static connection *connection_open(void)
{
    connection *c = malloc(sizeof *c);
    if (c == NULL) csp_panic("out of memory");
    c->id = ++made;
    return c;
}

static void connection_close(connection *c)
{
    closed++;
    free(c);
}

/* ---- the pool ---- */

typedef connection *resource;

typedef struct pool {
    csp_mutex mu; // guards closed, and excludes release and close
    bool closed;
    csp_chan(resource) idle;
} pool;

static csp_status pool_init(pool *p, int size)
{
    if (size <= 0) return CSP_INVALID;
    *p = (pool){.idle = csp_make(resource, size)};
    return CSP_OK;
}

static csp_status pool_acquire(pool *p, connection **c)
{
    csp_status status = csp_try_recv(p->idle, c);
    if (status == CSP_AGAIN) *c = connection_open();
    return status == CSP_CLOSED ? status : CSP_OK;
}

static void pool_release(pool *p, connection *c)
{
    csp_mutex_lock(&p->mu);
    bool kept = !p->closed && csp_try_send(p->idle, c) == CSP_OK;
    csp_mutex_unlock(&p->mu);
    if (!kept) connection_close(c);
}

static void pool_close(pool *p)
{
    csp_mutex_lock(&p->mu);
    if (!p->closed) {
        p->closed = true;
        csp_close(p->idle);
        csp_range(c, p->idle) connection_close(c);
    }
    csp_mutex_unlock(&p->mu);
}

/* ---- its users ---- */

csp_task(query, pool *, p, csp_waitgroup *, all_have, csp_waitgroup *, all)
{
    connection *c;
    pool_acquire(p, &c);
    csp_waitgroup_done(all_have);
    csp_waitgroup_wait(all_have); // the rush hour
    pool_release(p, c);
    csp_waitgroup_done(all);
}

csp_main(argc, argv)
{
    pool p;
    csp_waitgroup all_have = {0}, all = {0};
    connection *late, *c;
    printf("a pool of none: %s\n", csp_status_name(pool_init(&p, 0)));
    pool_init(&p, KEPT);

    csp_waitgroup_add(&all_have, USERS);
    csp_waitgroup_add(&all, USERS);
    for (int i = 0; i < USERS; i++) csp_go(query, &p, &all_have, &all);
    csp_waitgroup_wait(&all);
    printf("%d made for %d users, %d kept\n", made, USERS, (int)csp_len(p.idle));
    printf("open connections: %d\n", made - closed);

    pool_acquire(&p, &late);
    pool_close(&p);
    pool_close(&p);
    printf("closed: acquire says %s\n", csp_status_name(pool_acquire(&p, &c)));
    pool_release(&p, late);
    printf("open connections: %d\n", made - closed);
    csp_unref(p.idle);
    return 0;
}
