/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * hog.c - broken: a goroutine that waits by asking. The tool: CSP_DEBUG=hogs.
 *
 * The flag is read again and again, and csp is not called meanwhile. The other goroutines go on all
 * the same, because the processor is taken away after 10 ms; but a core is busy with nothing.
 * What to notice: the message names the start of the goroutine.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

static _Atomic bool ready; /* a channel that is closed: mended */

csp_task(wait_for_it, csp_sender(int), done)
{
    while (!ready) continue;
    csp_send(done, 1);
}

csp_main(argc, argv)
{
    csp_chan(int) done = csp_make(int, 0);
    csp_go(wait_for_it, csp_send_end(done));
    csp_sleep(100 * CSP_MILLISECOND);
    ready = true;
    csp_recv(done, NULL);
    csp_unref(done);
    printf("done\n");
    return 0;
}
