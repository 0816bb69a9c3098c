/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * map_pool.c - a map and a pool that all goroutines may use at once.
 *
 * What to notice: the map needs no lock around it; load_or_store says which caller was first, and
 * compare and swap counts without losing one. Keys have to live as long as their entries. The pool
 * hands out what others have put back before it makes a new one: a thousand uses, a few buffers.
 * Neither of them copies or frees what the program gave it, but for what the pool has too much of.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const rivers[] = {"Amazon", "Danube", "Elbe", "Nile", "Rhine"};
enum { RIVERS = 5, VISITORS = 100 };

/* ---- map ---- */

static atomic_int first;

csp_task(visit, csp_map *, m, int, i, csp_waitgroup *, all)
{
    const char *river = rivers[i % RIVERS];
    void *seen;
    if (!csp_map_load_or_store(m, river, (void *)(intptr_t)1, &seen)) {
        first++;
    } else {
        while (!csp_map_compare_and_swap(m, river, seen, (char *)seen + 1))
            csp_map_load(m, river, &seen);
    }
    csp_waitgroup_done(all);
}

static bool add_up(const void *key, void *value, void *sum)
{
    fprintf(stderr, "%s: %d\n", (const char *)key, (int)(intptr_t)value);
    *(int *)sum += (int)(intptr_t)value;
    return true;
}

static void visits_in_a_map(void)
{
    csp_map *m = csp_map_new(CSP_MAP_STRINGS);
    csp_waitgroup all = {0};
    void *value = NULL;
    int sum = 0;
    csp_waitgroup_add(&all, VISITORS);
    for (int i = 0; i < VISITORS; i++) csp_go(visit, m, i, &all);
    csp_waitgroup_wait(&all);
    csp_map_range(m, add_up, &sum);
    printf("%d rivers, %d were the first there, %d visits\n", (int)csp_map_len(m), first, sum);

    char name[] = "Elbe"; // equal bytes are an equal key
    bool there = csp_map_load_and_delete(m, name, &value);
    printf("Elbe: %s, %d visits\n", there ? "deleted" : "not there", (int)(intptr_t)value);
    printf("Elbe again: %s\n", csp_map_load(m, name, &value) ? "there" : "not there");
    csp_map_free(m);
}

/* ---- pool ---- */

static atomic_int made, freed;

static void *make_buffer(void *arg)
{
    (void)arg;
    made++;
    return malloc(4096);
}

static void free_buffer(void *buffer)
{
    freed++;
    free(buffer);
}

csp_task(format, csp_pool *, buffers, int, i, atomic_llong *, bytes, csp_waitgroup *, all)
{
    for (int k = 0; k < 10; k++) {
        char *text = csp_pool_get(buffers);
        *bytes += snprintf(text, 4096, "%04d", i);
        csp_pool_put(buffers, text);
    }
    csp_waitgroup_done(all);
}

static void buffers_of_a_pool(void)
{
    csp_pool *buffers = csp_pool_new(make_buffer, free_buffer, NULL);
    csp_waitgroup all = {0};
    atomic_llong bytes = 0;
    csp_waitgroup_add(&all, VISITORS);
    for (int i = 0; i < VISITORS; i++) csp_go(format, buffers, i, &bytes, &all);
    csp_waitgroup_wait(&all);
    printf("%d uses, %d bytes, %s\n", 10 * VISITORS, (int)bytes,
           made <= VISITORS ? "no more buffers than users" : "too many buffers");
    fprintf(stderr, "%d buffers\n", made);
    csp_pool_free(buffers);
    printf("all of them are free: %s\n", made == freed ? "yes" : "no");
}

csp_main(argc, argv)
{
    visits_in_a_map();
    buffers_of_a_pool();
    return 0;
}
