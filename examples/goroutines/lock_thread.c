/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * lock_thread.c - a goroutine that stays on its thread, for a library with thread-local state.
 *
 * What to notice: the library keeps its current colour in a thread-local variable, as OpenGL keeps
 * its context. A goroutine may go on with another thread after any call that blocks, and would
 * find another goroutine's colour there. Between csp_lock_thread and csp_unlock_thread it goes on
 * with its own thread, and that thread runs no other goroutine: the state is the goroutine's. The
 * price is a switch of threads where a switch of goroutines would do; lock for as long as the
 * library needs it.
 */
// check: arm64
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

/* ---- the library ---- */

static _Thread_local int current_colour;

/* noinline: the address of the variable is not to be kept by the caller. */
__attribute__((noinline)) static void set_colour(int colour)
{
    current_colour = colour;
}

__attribute__((noinline)) static int colour(void)
{
    return current_colour;
}

/* ---- its users ---- */

enum { PAINTERS = 8, STROKES = 50 };

static atomic_int right, same_thread;

static void stroke(int number)
{
    csp_lock_thread(); // nests: paint has locked, too
    set_colour(number);
    csp_yield();
    csp_sleep(10 * CSP_MICROSECOND); // the others set theirs
    right += colour() == number;
    csp_unlock_thread();
}

csp_task(paint, int, number, csp_waitgroup *, all)
{
    csp_lock_thread();
    pthread_t mine = pthread_self();
    for (int i = 0; i < STROKES; i++) stroke(number);
    same_thread += pthread_equal(mine, pthread_self()) != 0;
    csp_unlock_thread(); // from here on any thread will do
    csp_waitgroup_done(all);
}

csp_main(argc, argv)
{
    csp_waitgroup all = {0};
    csp_waitgroup_add(&all, PAINTERS);
    for (int i = 1; i <= PAINTERS; i++) csp_go(paint, i, &all);
    csp_waitgroup_wait(&all);
    printf("%d of %d strokes in the right colour\n", right, PAINTERS * STROKES);
    printf("%d of %d painters ended on the thread they began on\n", same_thread, PAINTERS);
    return 0;
}
