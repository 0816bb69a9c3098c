/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * leak.c - broken: each answer that comes too late leaves a goroutine behind. The tool:
 * CSP_DEBUG=leaks.
 *
 * The caller gives up after a millisecond, and then no goroutine receives from the channel any
 * more. The program works, and grows. What to notice: the list at the end names the line of the
 * send that waits for ever, once, with a count.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

csp_task(slow, csp_sender(int), answer)
{
    csp_sleep(5 * CSP_MILLISECOND);
    csp_send(answer, 42);
}

static int ask(void)
{
    csp_chan(int) answer = csp_make(int, 0); /* with room for 1 the goroutine ends: mended */
    int v = -1;
    csp_go(slow, csp_send_end(answer));
    csp_select(CSP_RECV(answer, &v), CSP_AFTER(CSP_MILLISECOND));
    return v;
}

csp_main(argc, argv)
{
    int late = 0;
    for (int i = 0; i < 100; i++) late += ask() < 0;
    csp_sleep(20 * CSP_MILLISECOND);
    printf("%d late answers\n", late);
    return 0;
}
