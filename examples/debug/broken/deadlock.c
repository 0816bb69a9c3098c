/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * deadlock.c - broken: a total that never comes. The tool: the dump that csp writes by itself.
 *
 * Each worker sends its result, and main receives the results after all workers have ended. The
 * channel has no room, so no worker ends. What to notice: the dump names the line where each
 * goroutine waits, and the line where the channel was made. Its first line for main and the ones
 * for the workers show the circle: main waits for workers that wait for main.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

csp_task(work, int, n, csp_sender(int), results)
{
    csp_send(results, n * n);
}

csp_main(argc, argv)
{
    csp_chan(int) results = csp_make(int, 0); /* with room for 3, or received in between: mended */
    csp_waitgroup wg = {0};
    int sum = 0;
    for (int i = 1; i <= 3; i++) csp_waitgroup_go(&wg, work, i, csp_send_end(results));
    csp_waitgroup_wait(&wg);
    csp_close(results);
    csp_range(v, results) sum += v;
    printf("%d\n", sum);
    return 0;
}
