/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * overflow.c - broken: a recursion without an end. The tool: the report that csp writes by itself.
 *
 * What to notice: the message names the goroutine and its stack's size, where a program with
 * threads would say "segmentation fault". gdb's bt shows the recursion: run it with
 * CSP_DEBUG=abort.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

typedef struct node {
    struct node *next;
    int value;
} node;

static int sum(const node *n)
{
    volatile int value = n->value; /* the compiler is not to turn this into a loop */
    return n->next == NULL ? value : value + sum(n->next);
}

csp_task(add, const node *, list, int *, result)
{
    *result = sum(list);
}

csp_main(argc, argv)
{
    node a = {NULL, 1}, b = {&a, 2};
    csp_waitgroup wg = {0};
    int result = 0;
    a.next = &b; /* the list is a ring */
    csp_waitgroup_go(&wg, add, &a, &result);
    csp_waitgroup_wait(&wg);
    printf("%d\n", result);
    return 0;
}
