/* runtime.c - the functions that compilers call without being asked to. A byte at a time:
 * small, and right for memory that takes no unaligned access. */
#include "board.h"

uint32_t board_tick_ns = 1000000;

/* Of boards whose handlers do not interrupt each other. */
__attribute__((weak)) bool board_nest(void (*middle)(void), void (*low)(void))
{
    (void)middle;
    (void)low;
    return false;
}

__attribute__((weak)) void board_pend(bool middle, bool low)
{
    (void)middle;
    (void)low;
}

void *memcpy(void *restrict to, const void *restrict from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);

__attribute__((used)) void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    char *t = to;

    for (const char *f = from; n > 0; n--) *t++ = *f++;
    return to;
}

__attribute__((used)) void *memmove(void *to, const void *from, size_t n)
{
    char *t = to;
    const char *f = from;

    if (t < f)
        for (; n > 0; n--) *t++ = *f++;
    else
        while (n-- > 0) t[n] = f[n];
    return to;
}

__attribute__((used)) void *memset(void *to, int byte, size_t n)
{
    for (char *t = to; n > 0; n--) *t++ = (char)byte;
    return to;
}

__attribute__((used)) int memcmp(const void *a, const void *b, size_t n)
{
    const unsigned char *p = a, *q = b;

    for (; n > 0; n--, p++, q++)
        if (*p != *q) return *p - *q;
    return 0;
}
