/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * locals.c - what belongs to one goroutine: a value of its own, a name, a number, a stack.
 *
 * What to notice: a csp_local is a key; each goroutine sees its own value under it, NULL until it
 * sets one. A log function finds out which request it works for without an argument for it; a
 * _Thread_local would not do, because a goroutine may change threads and a thread runs many
 * goroutines. The value is forgotten at the goroutine's end and not freed: csp_defer frees it.
 * Names are for the dump and the trace, ids are never given twice. A goroutine that only sends and
 * receives is content with a small stack, and a thousand of them share the pages of a few.
 */
// check: tsan
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REQUESTS = 100 };

static csp_local request; // the key

typedef struct info {
    int number;
    uint64_t goroutine;
} info;

static atomic_int right, strangers;

/* Deep inside, where the request is no argument. */
static void log_line(int number)
{
    info *i = csp_local_get(&request);
    if (i == NULL || i->number != number || i->goroutine != csp_id())
        strangers++;
    else
        right++;
}

csp_task(serve, int, number, csp_waitgroup *, all)
{
    char name[32];
    snprintf(name, sizeof name, "request %d", number);
    csp_set_name(name);
    info *i = malloc(sizeof *i);
    if (i == NULL) csp_panic("out of memory");
    csp_defer(free, i);
    *i = (info){number, csp_id()};
    csp_local_set(&request, i);
    for (int k = 0; k < 10; k++) {
        csp_yield();
        log_line(number);
    }
    csp_waitgroup_done(all);
}

static void ping(void *done)
{
    csp_send(*(csp_chan(bool) *)done, csp_local_get(&request) == NULL);
}

static bool in_dump(const char *name)
{
    char *text = NULL;
    size_t size;
    FILE *file = open_memstream(&text, &size);
    if (file == NULL) return false;
    csp_dump(file);
    fclose(file);
    bool found = strstr(text, name) != NULL;
    free(text);
    return found;
}

csp_main(argc, argv)
{
    csp_waitgroup all = {0};
    csp_waitgroup_add(&all, REQUESTS);
    for (int i = 0; i < REQUESTS; i++) csp_go(serve, i, &all);
    csp_waitgroup_wait(&all);
    printf("%d lines for the right request, %d for another\n", right, strangers);

    csp_chan(bool) done = csp_make(bool, 0);
    bool fresh;
    csp_opts opts = {.name = "a small one", .stack_size = 8192};
    uint64_t id = csp_spawn_with(&opts, ping, &done);
    while (!in_dump("a small one")) csp_yield();
    csp_recv(done, &fresh);
    printf("another id: %s, a value of its own: %s\n", id != csp_id() ? "yes" : "no",
           fresh ? "none yet" : "inherited");
    csp_unref(done);
    return 0;
}
