/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * sort.h - qsort(3) on all processors, and stable: take it along, it needs csp.h alone.
 *
 *     int parallel_sort(void *base, size_t n, size_t size, int (*cmp)(const void *, const void *));
 *
 * 0, or -1 without memory for a second array. Elements that compare as equal stay in their order.
 * A merge sort: both halves are sorted at the same time, and large ones are merged by halves, too.
 */
#ifndef PARALLEL_SORT_H
#define PARALLEL_SORT_H
#include "csp.h"

#include <stdlib.h>
#include <string.h>

typedef struct sort_order {
    size_t size;
    int (*cmp)(const void *, const void *);
} sort_order;

enum { SORT_SMALL = 16, SORT_MERGE = 20000 };

/* How many of v come before x: those that are less, and with `same` those that are equal. */
static size_t sort_before(const char *v, size_t n, const char *x, bool same, sort_order o)
{
    size_t from = 0;
    while (from < n) {
        size_t middle = from + (n - from) / 2;
        int c = o.cmp(v + middle * o.size, x);
        if (c < 0 || (same && c == 0))
            from = middle + 1;
        else
            n = middle;
    }
    return from;
}

csp_task(sort_merge, const char *, a, size_t, na, const char *, b, size_t, nb, char *, to,
         sort_order, o)
{
    if (na + nb > SORT_MERGE) { /* cut the longer one in two, and the other one at the same place */
        size_t ka = na / 2, kb = nb / 2;
        if (na >= nb)
            kb = sort_before(b, nb, a + ka * o.size, false, o);
        else
            ka = sort_before(a, na, b + kb * o.size, true, o);
        csp_fork(rest, sort_merge, a + ka * o.size, na - ka, b + kb * o.size, nb - kb,
                 to + (ka + kb) * o.size, o);
        sort_merge(a, ka, b, kb, to, o);
        csp_join(rest);
        return;
    }
    for (; na > 0 && nb > 0; to += o.size) {
        const char **from = o.cmp(b, a) < 0 ? &b : &a;
        memcpy(to, *from, o.size);
        if (from == &a)
            na--;
        else
            nb--;
        *from += o.size;
    }
    memcpy(to, na > 0 ? a : b, (na + nb) * o.size);
}

/* v is sorted, into `other` if that is asked for; the other one of the two is used up. */
csp_task(sort_halves, char *, v, size_t, n, char *, other, bool, there, sort_order, o)
{
    size_t half = n / 2;
    if (n <= SORT_SMALL) {
        char *to = there ? other : v;
        if (there) memcpy(other, v, n * o.size);
        for (size_t i = 1; i < n; i++)
            for (size_t k = i; k > 0; k--) {
                char *x = to + k * o.size, *y = x - o.size;
                if (o.cmp(y, x) <= 0) break;
                for (size_t j = 0; j < o.size; j++) {
                    char c = x[j];
                    x[j] = y[j];
                    y[j] = c;
                }
            }
        return;
    }
    csp_fork(rest, sort_halves, v + half * o.size, n - half, other + half * o.size, !there, o);
    sort_halves(v, half, other, !there, o);
    csp_join(rest);
    char *from = there ? v : other;
    sort_merge(from, half, from + half * o.size, n - half, there ? other : v, o);
}

static int parallel_sort(void *base, size_t n, size_t size, int (*cmp)(const void *, const void *))
{
    if (n < 2 || size == 0) return 0;
    char *other = (char *)(n <= SIZE_MAX / size ? malloc(n * size) : NULL);
    if (other == NULL) return -1;
    csp_defer(free, other); /* also when cmp panics */
    sort_halves((char *)base, n, other, false, (sort_order){size, cmp});
    return 0;
}
#endif
