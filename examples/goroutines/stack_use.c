/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * stack_use.c - how much stack common calls need.
 *
 *     cc -I. examples/goroutines/stack_use.c -o stack_use -pthread && ./stack_use
 *
 * What to notice: a stack is painted with a pattern, the call is made, and the deepest byte that
 * has changed says what it took. A goroutine has 256 KiB unless csp_opts.stack_size says
 * otherwise, and pays only for the pages that it touches. The first call of a library's function
 * costs more than the later ones: the dynamic linker runs on the caller's stack.
 * (-DCSP_STACK_PAINT=1 makes csp_dump show the same number for each goroutine.)
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <netdb.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROOM = 96 * 1024 };

#if defined(__SANITIZE_ADDRESS__)
#define BLIND __attribute__((noinline, no_sanitize_address))
#else
#define BLIND __attribute__((noinline))
#endif

/* The bytes below this frame: fills them with the pattern, or counts from the lowest changed. */
BLIND static size_t paint_or_count(bool paint)
{
    volatile unsigned char *room = (volatile unsigned char *)__builtin_frame_address(0) - ROOM;
    size_t i = 0;
    __asm__("" : "+r"(room)); /* the compiler is not to know where this points */
    if (paint)
        for (; i < ROOM - 256; i++) room[i] = 0xA5;
    else
        while (i < ROOM - 256 && room[i] == 0xA5) i++;
    return ROOM - i;
}

static size_t stack_of(void (*call)(void))
{
    paint_or_count(true);
    call();
    return paint_or_count(false);
}

static void nothing(void) {}

static void formats(void)
{
    char text[64];
    snprintf(text, sizeof text, "%d %s %p", 42, "text", (void *)text);
}

static void formats_a_double(void)
{
    char text[64];
    snprintf(text, sizeof text, "%.17g", 0.1);
}

static void allocates(void)
{
    void *volatile p = malloc(100);
    free(p);
}

static void tells_the_time(void)
{
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
}

static int ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void sorts(void)
{
    static int v[100];
    for (int i = 0; i < 100; i++) v[i] = (i * 37) % 100;
    qsort(v, 100, sizeof v[0], ascending);
}

static void compiles_a_pattern(void)
{
    regex_t r;
    if (regcomp(&r, "^([a-z]+)=([0-9]+)$", REG_EXTENDED) == 0) regfree(&r);
}

static void looks_a_name_up(void)
{
    struct addrinfo *found = NULL;
    if (getaddrinfo("localhost", "80", NULL, &found) == 0) freeaddrinfo(found);
}

static void sends_and_receives(void)
{
    csp_chan(int) c = csp_make(int, 1);
    csp_send(c, 1);
    csp_recv(c, NULL);
    csp_unref(c);
}

static void selects(void)
{
    csp_chan(int) c = csp_make(int, 0);
    csp_select(CSP_RECV(c), CSP_AFTER(1));
    csp_unref(c);
}

static void dials(void)
{
    csp_dial_until("127.0.0.1:1", csp_now() + CSP_SECOND); /* no one listens there */
}

csp_main(argc, argv)
{
    static const struct {
        const char *name;
        void (*call)(void);
    } calls[] = {{"a send and a receive", sends_and_receives},
                 {"a select with a time limit", selects},
                 {"csp_dial", dials},
                 {"malloc", allocates},
                 {"snprintf, %d %s %p", formats},
                 {"snprintf, %.17g", formats_a_double},
                 {"localtime_r", tells_the_time},
                 {"qsort of 100", sorts},
                 {"regcomp", compiles_a_pattern},
                 {"getaddrinfo", looks_a_name_up}};
    size_t none = stack_of(nothing), first[10], later[10], most = 0;
    for (int i = 0; i < 10; i++) {
        first[i] = stack_of(calls[i].call);
        later[i] = stack_of(calls[i].call);
        if (first[i] > most) most = first[i];
    }
    if (argc > 1) { /* any argument: the numbers, which differ between systems */
        printf("%-28s %10s %10s\n", "bytes of stack", "first call", "later");
        for (int i = 0; i < 10; i++)
            printf("%-28s %10zu %10zu\n", calls[i].name, first[i], later[i]);
    }
    printf("an empty call takes less than 512 bytes: %s\n", none < 512 ? "yes" : "no");
    printf("all calls fit into 64 KiB: %s\n", most < 64 * 1024 ? "yes" : "no");
    return 0;
}
