/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * readers_writer.c - many readers or one writer, by a semaphore: a reader takes one token, a
 * writer all of them.
 *
 * What to notice: the semaphore says how many may read at once. A writer asks for all of its
 * tokens and waits until the readers are out; later readers wait behind the writer, so that it has
 * its turn. The readers of the moment are counted and checked. Closing a channel ends them all.
 */
// check: windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>

enum { READERS = 8, AT_ONCE = 4, WRITERS = 2 };

static struct {
    csp_sem tokens;
    csp_waitgroup all;
    atomic_int reading, writing, most, wrong, reads, writes;
    csp_chan(bool) quit;
} s;

static bool quitting(void)
{
    return csp_try_recv(s.quit, NULL) == CSP_CLOSED;
}

csp_task(reader)
{
    while (!quitting()) {
        csp_sem_acquire(&s.tokens, 1);
        int n = ++s.reading, was = s.most;
        while (n > was && !atomic_compare_exchange_weak(&s.most, &was, n)) continue;
        s.wrong += s.writing > 0;
        csp_sleep(100 * CSP_MICROSECOND);
        s.reads++;
        s.reading--;
        csp_sem_release(&s.tokens, 1);
    }
    csp_waitgroup_done(&s.all);
}

csp_task(writer)
{
    while (!quitting()) {
        csp_sem_acquire(&s.tokens, AT_ONCE);
        s.writing++;
        s.wrong += s.writing > 1 || s.reading > 0;
        csp_sleep(100 * CSP_MICROSECOND);
        s.writing--;
        s.writes++;
        csp_sem_release(&s.tokens, AT_ONCE);
        csp_sleep(500 * CSP_MICROSECOND);
    }
    csp_waitgroup_done(&s.all);
}

csp_main(argc, argv)
{
    csp_sem_init(&s.tokens, AT_ONCE);
    s.quit = csp_make(bool, 0);
    csp_waitgroup_add(&s.all, READERS + WRITERS);
    for (int i = 0; i < READERS; i++) csp_go(reader);
    for (int i = 0; i < WRITERS; i++) csp_go(writer);
    while (s.reads < 100 || s.writes < 10) csp_sleep(CSP_MILLISECOND);
    csp_close(s.quit);
    csp_waitgroup_wait(&s.all);

    fprintf(stderr, "%d reads, %d writes, up to %d at once\n", s.reads, s.writes, s.most);
    printf("at least a hundred reads and ten writes, %d of them wrong\n", s.wrong);
    printf("never more than %d readers\n", s.most <= AT_ONCE ? AT_ONCE : s.most);
    csp_unref(s.quit);
    return 0;
}
