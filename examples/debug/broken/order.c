/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * order.c - broken: a cache that loads a key twice, once in a thousand runs. The tool:
 * csp_simulate.
 *
 * The look and the store are each under the mutex, but a second goroutine may come between them.
 * What to notice: the simulator draws another order in each run, finds the one that fails, and
 * says which seed it was: CSP_SEED=... plays it again, step for step.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

typedef struct cache {
    csp_mutex mu;
    bool there;
    int loads;
} cache;

csp_task(get, cache *, c)
{
    csp_mutex_lock(&c->mu);
    bool there = c->there;
    csp_mutex_unlock(&c->mu); /* one critical section, or csp_once: mended */
    if (there) return;
    csp_mutex_lock(&c->mu);
    c->there = true;
    if (++c->loads > 1) csp_panic("loaded %d times", c->loads);
    csp_mutex_unlock(&c->mu);
}

static void program(void *arg)
{
    cache c = {0};
    csp_waitgroup wg = {0};
    (void)arg;
    for (int i = 0; i < 2; i++) csp_waitgroup_go(&wg, get, &c);
    csp_waitgroup_wait(&wg);
}

int main(void)
{
    csp_sim sim = {.seed = 1, .runs = 1000, .file = stderr};
    csp_sim_report r = csp_simulate(&sim, program, NULL);
    printf("%s: %s\n", csp_sim_outcome_name(r.outcome), r.message);
    return 0;
}
