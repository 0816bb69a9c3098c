/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * memory.c - broken: a goroutine gets the address of a local variable that is gone. The tool:
 * -fsanitize=address (or valgrind).
 *
 * csp_go copies its arguments, but what a pointer points to is not copied. What to notice: the
 * report says "stack-use-after-scope" or "stack-use-after-return" with the line, and the
 * goroutine's frames.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

csp_task(print, const int *, n)
{
    printf("%d\n", *n);
}

csp_main(argc, argv)
{
    csp_waitgroup wg = {0};
    for (int i = 0; i < 3; i++) {
        int n = i * 10;
        csp_waitgroup_go(&wg, print, &n); /* csp_task(print, int, n): mended */
    }
    csp_waitgroup_wait(&wg);
    return 0;
}
