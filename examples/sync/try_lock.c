/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * try_lock.c - locks that are not waited for, or not for long.
 *
 * What to notice: a call with try in its name never waits and says false; a call with _until gives
 * up at a deadline and says CSP_TIMEOUT. The deadline is a time, not a duration: a loop that tries
 * several locks passes the same one to each. A caller that has given up holds nothing, and does
 * not unlock. csp_waitgroup_spawn counts a goroutine and starts it in one call, and the goroutine
 * is counted off however it ends.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

static csp_mutex mu;
static csp_rwmutex rw;
static csp_sem tokens;
static csp_chan(bool) held, release;

/* Holds the mutex, the rwmutex for reading and two of three tokens, until it is told. */
static void hold(void *unused)
{
    (void)unused;
    csp_mutex_lock(&mu);
    csp_rwmutex_rlock(&rw);
    csp_sem_acquire(&tokens, 2);
    csp_close(held);
    csp_recv(release, NULL);
    csp_sem_release(&tokens, 2);
    csp_rwmutex_runlock(&rw);
    csp_mutex_unlock(&mu);
}

static void say(const char *what, bool got)
{
    printf("%-30s %s\n", what, got ? "yes" : "no");
}

static int64_t soon(void)
{
    return csp_now() + 5 * CSP_MILLISECOND;
}

static void while_held(csp_waitgroup *holder)
{
    say("the mutex", csp_mutex_try_lock(&mu));
    say("the mutex, soon", csp_mutex_lock_until(&mu, soon()) == CSP_OK);
    say("reading beside a reader", csp_rwmutex_try_rlock(&rw));
    csp_rwmutex_runlock(&rw);
    say("reading, soon", csp_rwmutex_rlock_until(&rw, soon()) == CSP_OK);
    csp_rwmutex_runlock(&rw);
    say("writing beside a reader", csp_rwmutex_try_lock(&rw));
    say("writing, soon", csp_rwmutex_lock_until(&rw, soon()) == CSP_OK);
    say("one token", csp_sem_try_acquire(&tokens, 1));
    say("a second, soon", csp_sem_acquire_until(&tokens, 1, soon()) == CSP_OK);
    csp_sem_release(&tokens, 1);
    say("the holder's end, soon", csp_waitgroup_wait_until(holder, soon()) == CSP_OK);
}

static void afterwards(void)
{
    say("the mutex, afterwards", csp_mutex_try_lock(&mu));
    csp_mutex_unlock(&mu);
    say("writing, afterwards", csp_rwmutex_try_lock(&rw));
    csp_rwmutex_unlock(&rw);
    say("all tokens, afterwards", csp_sem_try_acquire(&tokens, 3));
    csp_sem_release(&tokens, 3);
}

csp_main(argc, argv)
{
    csp_waitgroup holder = {0};
    held = csp_make(bool, 0), release = csp_make(bool, 0);
    csp_sem_init(&tokens, 3);
    csp_waitgroup_spawn(&holder, hold, NULL);
    csp_recv(held, NULL);
    while_held(&holder);
    csp_close(release);
    say("the holder's end", csp_waitgroup_wait_until(&holder, csp_now() + CSP_MINUTE) == CSP_OK);
    afterwards();
    csp_unref(held);
    csp_unref(release);
    return 0;
}
