/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * group.c - goroutines that work on one thing: the first error ends the others and is the result.
 *
 * What to notice: each function returns an int, and 0 is success. The first other value cancels
 * the group's context; the functions that listen to it give up, and csp_group_wait returns that
 * value after all of them have ended. With a limit csp_group_go waits until there is room, which
 * bounds the goroutines as well as the work; csp_group_try_go says false instead of waiting.
 */
// check: tsan arm64
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>

enum { PARTS = 10, AT_ONCE = 2, NOT_FOUND = 404 };

/* ---- the first error ends the others ---- */

typedef struct part {
    csp_group *group;
    int number;
    csp_status status; // CSP_CANCELED: given up
} part;

static int fetch(void *arg)
{
    part *p = arg;
    if (p->number == 3) return NOT_FOUND;
    csp_ctx *ctx = csp_group_ctx(p->group);
    csp_select(CSP_DONE(ctx), CSP_AFTER(CSP_HOUR)); // a long download
    p->status = csp_ctx_status(ctx);
    return (int)p->status;
}

static void first_error(void)
{
    part parts[PARTS];
    int given_up = 0;
    csp_group *group = csp_group_new(NULL);
    for (int i = 0; i < PARTS; i++) {
        parts[i] = (part){group, i, CSP_OK};
        csp_group_go(group, fetch, &parts[i]);
    }
    int result = csp_group_wait(group);
    for (int i = 0; i < PARTS; i++) given_up += parts[i].status == CSP_CANCELED;
    printf("result %d, %d of %d parts were given up\n", result, given_up, PARTS);
    csp_group_free(group);
}

/* ---- at most two at once ---- */

static atomic_int running, most, ended;
static csp_chan(bool) gate;

static int work(void *unused)
{
    (void)unused;
    int now = atomic_fetch_add(&running, 1) + 1;
    for (int seen = most; seen < now && !atomic_compare_exchange_weak(&most, &seen, now);) {}
    csp_recv(gate, NULL);
    running--;
    ended++;
    return 0;
}

static void limited(void)
{
    csp_group *group = csp_group_new(NULL);
    gate = csp_make(bool, 0);
    csp_group_set_limit(group, AT_ONCE);
    for (int i = 0; i < AT_ONCE; i++) csp_group_go(group, work, NULL);
    printf("a third at once: %s\n", csp_group_try_go(group, work, NULL) ? "started" : "refused");
    csp_close(gate);
    for (int i = AT_ONCE; i < PARTS; i++) csp_group_go(group, work, NULL); // waits for room
    int result = csp_group_wait(group);
    printf("result %d, %d ended, %s\n", result, ended,
           most <= AT_ONCE ? "never more than two at once" : "too many at once");
    csp_group_free(group);
    csp_unref(gate);
}

csp_main(argc, argv)
{
    first_error();
    limited();
    return 0;
}
