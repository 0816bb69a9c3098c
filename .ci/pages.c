/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * pages.c - an LD_PRELOAD that makes pages of PAGE_SIZE bytes (65536) of the system's own, for
 * programs that make arenas out of them: what a kernel with larger pages refuses is refused, what
 * it rounds up is rounded up. Not faked: how much a fault brings in, and what madvise gives back.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static uintptr_t page(void)
{
    static uintptr_t size;
    if (size == 0) {
        const char *text = getenv("PAGE_SIZE");
        size = text != NULL ? (uintptr_t)strtoul(text, NULL, 10) : 65536;
    }
    return size;
}

static size_t whole(size_t size)
{
    return (size + page() - 1) & ~(size_t)(page() - 1);
}

/* An address within a page: no call that changes pages takes one. */
static int refused(const char *call, const void *at)
{
    if (((uintptr_t)at & (page() - 1)) == 0) return 0;
    fprintf(stderr, "pages: %s(%p) is not at a page's start\n", call, at);
    errno = EINVAL;
    return 1;
}

static long call(long number, ...)
{
    static long (*next)(long, ...);
    long a[6];
    va_list ap;
    va_start(ap, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(ap, long);
    va_end(ap);
    if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

long syscall(long number, ...)
{
    long a[6];
    va_list ap;
    va_start(ap, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(ap, long);
    va_end(ap);
    const struct iovec *spans = (const struct iovec *)a[1];
    for (long i = 0; number == 440 && i < a[2]; i++)
        if (refused("process_madvise", spans[i].iov_base)) return -1;
    return call(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

long sysconf(int name)
{
    static long (*next)(int);
    if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, "sysconf");
    return name == _SC_PAGESIZE ? (long)page() : next(name);
}

int getpagesize(void)
{
    return (int)page();
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (at != NULL || fd != -1) /* the dynamic linker's, laid out for the system's own pages */
        return (void *)call(SYS_mmap, at, size, protection, flags, fd, offset);
    size = whole(size);
    char *p = (char *)call(SYS_mmap, NULL, size + page(), protection, flags, fd, offset);
    if (p == MAP_FAILED) return p;
    char *start = (char *)whole((uintptr_t)p), *end = p + size + page();
    if (start > p) call(SYS_munmap, p, start - p);
    if (end > start + size) call(SYS_munmap, start + size, end - (start + size));
    return start;
}

int munmap(void *at, size_t size)
{
    return refused("munmap", at) ? -1 : (int)call(SYS_munmap, at, whole(size));
}

int mprotect(void *at, size_t size, int protection)
{
    return refused("mprotect", at) ? -1 : (int)call(SYS_mprotect, at, whole(size), protection);
}

int madvise(void *at, size_t size, int advice)
{
    return refused("madvise", at) ? -1 : (int)call(SYS_madvise, at, whole(size), advice);
}

/* One answer for all pages of the system's in one of ours. */
int mincore(void *at, size_t size, unsigned char *resident)
{
    unsigned char own[64];
    for (char *p = (char *)at; p < (char *)at + size; p += page()) {
        unsigned char any = 0;
        if (call(SYS_mincore, p, page(), own) != 0) return -1;
        for (uintptr_t i = 0; i < page() / 4096; i++) any |= own[i];
        *resident++ = any;
    }
    return 0;
}
