/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * race.c - broken: a counter that two goroutines change without a lock. The tool:
 * -fsanitize=thread.
 *
 * The result is wrong now and then. ThreadSanitizer finds it at the first run, also when both
 * goroutines ran on one thread, one after the other. What to notice: the report names both lines.
 * Each goroutine is a thread there, named by its function and the line that has started it.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

static int hits; /* an atomic, or a csp_mutex around it: mended */

csp_task(count, int, n)
{
    for (int i = 0; i < n; i++) hits++;
}

csp_main(argc, argv)
{
    csp_waitgroup wg = {0};
    for (int i = 0; i < 2; i++) csp_waitgroup_go(&wg, count, 100000);
    csp_waitgroup_wait(&wg);
    printf("%s\n", hits == 200000 ? "right this time" : "wrong");
    return 0;
}
