/* For the rows planted/gcc and planted/clang of .ci/check: programs with a mistake that a sanitizer
 * must report, and without one. The argument says which; the processors are CSP_PROCS. */
#define CSP_IMPLEMENTATION
#include "csp.h"
#include <stdlib.h>
#include <string.h>

static int shared;
static char *volatile keep;

csp_task(adds, csp_chan(int), lock, csp_chan(int), done)
{
    for (int i = 0; i < 100; i++) {
        if (lock != NULL) csp_send(lock, 1);
        shared++;
        if (lock != NULL) csp_recv(lock, NULL);
        csp_yield();
    }
    csp_send(done, 1);
}

static int added; /* atomic, and no edge */

csp_task(adds_once, csp_chan(int), lock)
{
    if (lock != NULL) csp_send(lock, 1);
    shared++;
    if (lock != NULL) csp_recv(lock, NULL);
    __atomic_add_fetch(&added, 1, __ATOMIC_RELAXED);
}

/* One after the other: the second is started when the first has added, and has ended as a rule. */
static void adds_in_turn(csp_chan(int) lock)
{
    for (int i = 1; i <= 2; i++) {
        csp_go(adds_once, lock);
        while (__atomic_load_n(&added, __ATOMIC_RELAXED) < i) csp_yield();
        for (int k = 0; k < 10; k++) csp_yield();
    }
}

csp_task(frees, csp_chan(char *), in, csp_chan(int), done)
{
    char *text = NULL;
    csp_recv(in, &text);
    text[0] = 'b';
    free(text);
    csp_send(done, 1);
}

csp_task(overruns, int, n, csp_chan(int), done)
{
    volatile char room[16];
    csp_yield();
    for (int i = 0; i < n; i++) room[i] = (char)i;
    csp_send(done, room[0] + 1);
}

csp_task(fills, csp_chan(int), out, int, n)
{
    int *box = malloc(8 * sizeof *box);
    keep = (char *)box;
    for (int i = 0; i < n; i++) box[i] = i;
    csp_yield();
    csp_send(out, box[7]);
    free(box);
}

csp_main(argc, argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    int n = 0;
    csp_chan(int) done = csp_make(int, 0), lock = csp_make(int, 1);
    csp_chan(char *) texts = csp_make(char *, 0);
    if (strcmp(what, "race") == 0 || strcmp(what, "lock") == 0) {
        csp_go(adds, *what == 'l' ? lock : NULL, done);
        csp_go(adds, *what == 'l' ? lock : NULL, done);
        csp_recv(done, NULL);
    } else if (strcmp(what, "turns") == 0 || strcmp(what, "lock-turns") == 0) {
        adds_in_turn(*what == 'l' ? lock : NULL);
        return 0;
    } else if (strcmp(what, "use-after-free") == 0 || strcmp(what, "pass-on") == 0) {
        char *text = strcpy(malloc(10), "a");
        csp_go(frees, texts, done);
        csp_send(texts, text);
        if (*what == 'u') csp_recv(done, NULL);
        if (*what == 'u') return text[0];
    } else if (strcmp(what, "overflow") == 0 || strcmp(what, "fit") == 0) {
        csp_go(overruns, *what == 'o' ? 17 : 16, done);
    } else {
        csp_go(fills, done, strcmp(what, "unwritten") == 0 ? 7 : 8);
    }
    csp_recv(done, &n);
    if (n != 8) printf("%d\n", n);
    csp_unref(done);
    csp_unref(lock);
    csp_unref(texts);
    return 0;
}
