/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * simulate.c - four mistakes that tests do not find and the simulator does.
 *
 * What to notice: csp_simulate runs a program many times on one thread and in virtual time, each
 * time in another order, which is drawn from a seed. It stops at the first run that goes wrong;
 * the seed in its report makes that run again, step for step. csp_sim_choose makes a program fail
 * on purpose, drawn from the same seed: here a disk that is full now and then. A run that goes
 * wrong is left as it stands, with what it has allocated. The last program is right, and a
 * thousand orders say so.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>

/* ---- a panic: counting down and looking are two steps, and two goroutines are the last ---- */

static atomic_int left; // each step is atomic, and two steps are not

csp_task(leave, csp_sender(bool), all_gone)
{
    left--;
    csp_yield(); // anything that another goroutine can come between
    if (left == 0) csp_close(all_gone);
}

static void closed_twice(void *unused)
{
    (void)unused;
    csp_chan(bool) all_gone = csp_make(bool, 0);
    left = 2;
    for (int i = 0; i < 2; i++) csp_go(leave, csp_send_end(all_gone));
    csp_recv(all_gone, NULL);
    while (csp_count() > 1) csp_yield();
    csp_unref(all_gone);
}

/* ---- a deadlock: two locks in two orders ---- */

csp_task(move, csp_mutex *, from, csp_mutex *, to, csp_waitgroup *, all)
{
    csp_mutex_lock(from);
    csp_mutex_lock(to);
    csp_mutex_unlock(to);
    csp_mutex_unlock(from);
    csp_waitgroup_done(all);
}

static void two_orders(void *unused)
{
    (void)unused;
    csp_mutex a = {0}, b = {0};
    csp_waitgroup all = {0};
    csp_waitgroup_add(&all, 2);
    csp_go(move, &a, &b, &all);
    csp_go(move, &b, &a, &all);
    csp_waitgroup_wait(&all);
}

/* ---- a leak: the writer is left alone when the disk is full ---- */

csp_task(read_blocks, csp_sender(int), out)
{
    for (int i = 0; i < 3; i++) csp_send(out, i);
}

static void full_disk(void *unused)
{
    (void)unused;
    csp_chan(int) blocks = csp_make(int, 0);
    csp_go(read_blocks, csp_send_end(blocks));
    for (int i = 0, v; i < 3 && csp_recv(blocks, &v); i++)
        if (csp_sim_choose(20) == 0) return; // the disk is full, and the reader waits for ever
    csp_unref(blocks);
}

/* ---- a livelock: both step aside for ever ---- */

csp_task(polite, int, me, int *, turn)
{
    while (*turn != me) csp_yield();
}

static void after_you(void *unused)
{
    (void)unused;
    int turn = 2; // neither's
    csp_go(polite, 0, &turn);
    csp_go(polite, 1, &turn);
    while (csp_count() > 1) csp_yield();
}

/* ---- right ---- */

static void one_order(void *unused)
{
    (void)unused;
    csp_mutex a = {0}, b = {0};
    csp_waitgroup all = {0};
    csp_waitgroup_add(&all, 2);
    for (int i = 0; i < 2; i++) csp_go(move, &a, &b, &all);
    csp_waitgroup_wait(&all);
}

static void simulate(const char *name, void (*program)(void *), csp_sim_outcome expected)
{
    csp_sim sim = {.seed = 1, .runs = 1000, .max_steps = 10000};
    csp_sim_report r = csp_simulate(&sim, program, NULL);
    printf("%s: %s", name, csp_sim_outcome_name(r.outcome));
    if (r.outcome != CSP_SIM_OK) {
        sim.seed = r.seed, sim.runs = 1; // that run again
        csp_sim_report again = csp_simulate(&sim, program, NULL);
        printf(", and %s", again.trace == r.trace ? "again" : "not again");
    }
    printf("%s\n", r.outcome == expected ? "" : ", NOT AS EXPECTED");
    fprintf(stderr, "    seed %d, step %d: %s\n", (int)r.seed, (int)r.steps, r.message);
}

int main(void)
{
    simulate("closed twice", closed_twice, CSP_SIM_PANIC);
    simulate("two orders", two_orders, CSP_SIM_DEADLOCK);
    simulate("full disk", full_disk, CSP_SIM_LEAK);
    simulate("after you", after_you, CSP_SIM_LIVELOCK);
    simulate("one order", one_order, CSP_SIM_OK);
    return 0;
}
