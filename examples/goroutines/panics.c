/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * panics.c - a panic that is caught, one that is passed on, and what runs on the way.
 *
 * What to notice: a panic runs what has been deferred, innermost first, and ends at the nearest
 * csp_catch. csp's own panics are caught in the same way. A panic ends the whole program when
 * nothing in its goroutine catches it: no other goroutine can. So a server catches in the
 * goroutine of each request, and tells the others by a channel; csp_panic_info is a value that can
 * be sent. What may go wrong in the normal course is better returned as a status.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>
#include <string.h>

static void say(void *text)
{
    printf("deferred: %s\n", (const char *)text);
}

static int divide(int a, int b)
{
    if (b == 0) csp_panic("division of %d by zero", a);
    return a / b;
}

static void caught(void)
{
    csp_try
    {
        csp_defer(say, "on the way out");
        printf("6 / 2 = %d\n", divide(6, 2));
        printf("6 / 0 = %d\n", divide(6, 0));
    }
    csp_catch(p) printf("caught: %s\n", p->message);
}

static void passed_on(void)
{
    csp_try
    {
        csp_try
        {
            divide(1, 0);
        }
        csp_catch(p)
        {
            if (strstr(p->message, "zero") != NULL) csp_panic("cannot go on: %s", p->message);
        }
    }
    csp_catch(p) printf("caught further out: %s\n", p->message);
}

csp_task(request, int, number, csp_sender(csp_panic_info), failed, csp_waitgroup *, all)
{
    csp_chan(int) c = csp_make(int, 1);
    csp_try
    {
        csp_close(c);
        if (number == 2) csp_send(c, number); // a mistake: csp panics
    }
    csp_catch(p) csp_send(failed, *p);
    csp_unref(c);
    csp_waitgroup_done(all);
}

csp_main(argc, argv)
{
    caught();
    passed_on();

    csp_chan(csp_panic_info) failed = csp_make(csp_panic_info, 4);
    csp_waitgroup all = {0};
    csp_waitgroup_add(&all, 4);
    for (int i = 0; i < 4; i++) csp_go(request, i, csp_send_end(failed), &all);
    csp_waitgroup_wait(&all);
    csp_panic_info info;
    while (csp_try_recv(failed, &info) == CSP_OK) printf("a request failed: %s\n", info.message);
    _Static_assert(sizeof info.message == CSP_PANIC_MESSAGE_SIZE, "longer messages are cut");
    printf("the program goes on\n");
    csp_unref(failed);
    return 0;
}
