/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * group.c - goroutines that work on one thing: the first error ends the others and is the result.
 *
 * What to notice: each function returns an int, and 0 is success. The first other value cancels
 * the group's context; the functions that listen to it give up, and csp_group_wait returns that
 * value after all of them have ended. csp_group_go starts what csp_group_task defines, with typed
 * arguments, and csp_group_spawn a function of one pointer. With a limit they wait until there is
 * room, which bounds the goroutines as well as the work; the try forms say false instead of
 * waiting, and the until forms wait only so long.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>

enum { PARTS = 10, AT_ONCE = 2, NOT_FOUND = 404 };

/* ---- the first error ends the others ---- */

csp_group_task(fetch, csp_ctx *, ctx, int, number, csp_status *, status)
{
    if (number == 3) return NOT_FOUND;
    csp_select(CSP_DONE(ctx), CSP_AFTER(CSP_HOUR)); // a long download
    *status = csp_ctx_status(ctx);                  // CSP_CANCELED: given up
    return (int)*status;
}

static void first_error(void)
{
    csp_status status[PARTS] = {CSP_OK};
    int given_up = 0;
    csp_group *group = csp_group_new(NULL);
    for (int i = 0; i < PARTS; i++) csp_group_go(group, fetch, csp_group_ctx(group), i, &status[i]);
    int result = csp_group_wait(group);
    for (int i = 0; i < PARTS; i++) given_up += status[i] == CSP_CANCELED;
    printf("result %d, %d of %d parts were given up\n", result, given_up, PARTS);
    csp_group_free(group);
}

/* ---- at most two at once ---- */

static atomic_int running, most, ended;
static csp_chan(bool) gate;

csp_group_task(work)
{
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
    for (int i = 0; i < AT_ONCE; i++) csp_group_go(group, work);
    printf("a third at once: %s\n", csp_group_try_go(group, work) ? "started" : "refused");
    csp_status late = csp_group_go_until(group, csp_now() + CSP_MILLISECOND, work);
    printf("or within a millisecond: %s\n", csp_status_name(late));
    csp_close(gate);
    for (int i = AT_ONCE; i < PARTS; i++) csp_group_go(group, work); // waits for room
    int result = csp_group_wait(group);
    printf("result %d, %d ended, %s\n", result, ended,
           most <= AT_ONCE ? "never more than two at once" : "too many at once");
    csp_group_free(group);
    csp_unref(gate);
}

/* ---- the same with functions of one pointer ---- */

static int wait_for(void *open)
{
    csp_recv(*(csp_chan(bool) *)open, NULL);
    return 0;
}

static void plain(void)
{
    csp_chan(bool) open = csp_make(bool, 0);
    csp_group *group = csp_group_new(NULL);
    int result = 0;
    csp_group_set_limit(group, 1);
    csp_group_spawn(group, wait_for, &open);
    bool second = csp_group_try_spawn(group, wait_for, &open);
    csp_status third = csp_group_spawn_until(group, csp_now(), wait_for, &open);
    printf("one runs, another: %s, %s\n", second ? "started" : "refused", csp_status_name(third));
    csp_status status = csp_group_wait_until(group, &result, csp_now() + CSP_MILLISECOND);
    printf("the end within a millisecond: %s\n", csp_status_name(status));
    csp_close(open);
    printf("result %d\n", csp_group_wait(group));
    csp_group_free(group);
    csp_unref(open);
}

csp_main(argc, argv)
{
    first_error();
    limited();
    plain();
    return 0;
}
