/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * scheduling.c - the order of goroutines: yield, exit, arguments, and the end of main.
 *
 * What to notice: a yield lets the others go first, and is no promise of an order. A deferred
 * function runs however its goroutine ends, the innermost first; what follows csp_exit does not
 * run. Arguments are copied when csp_go is called, so a loop's variable may be passed. A pointer
 * to it may not: by the time that it is read the loop has gone on. When main returns, the others
 * are cut off: main has to wait for the goroutines that are to finish.
 */
// check: tsan windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ---- two printers that yield to each other ---- */

static char words[8];
static atomic_int said;

static void say(char c)
{
    words[said++] = c;
}

csp_task(world, csp_sender(bool), done)
{
    for (int i = 0; i < 2; i++) say('w'), csp_yield();
    csp_send(done, true);
}

static void two_printers(void *unused)
{
    csp_chan(bool) done = csp_make(bool, 1);
    (void)unused;
    csp_procs(1); // with more the other starts at once, elsewhere
    for (int tries = 0; tries < 100 && strcmp(words, "whwh") != 0; tries++) {
        memset(words, 0, sizeof words);
        said = 0;
        csp_go(world, csp_send_end(done));
        for (int i = 0; i < 2; i++) csp_yield(), say('h');
        csp_recv(done, NULL);
    }
    for (const char *c = words; *c != 0; c++) printf("%s ", *c == 'w' ? "world" : "hello");
    printf("\n");
    csp_unref(done);
}

/* ---- exit ---- */

static void say_text(void *text)
{
    printf("%s\n", (const char *)text);
}

static void let_go(void *done)
{
    csp_send(*(csp_sender(bool) *)done, true);
}

static void inner(void)
{
    csp_defer(say_text, "deferred by the inner function");
    csp_exit();
}

csp_task(leaves_early, csp_sender(bool), done)
{
    csp_defer(let_go, &done);
    csp_defer(say_text, "deferred by the outer function");
    inner();
    printf("never printed\n");
    csp_defer(say_text, "never deferred");
}

static void exit_with_defers(void *unused)
{
    csp_chan(bool) done = csp_make(bool, 1);
    (void)unused;
    csp_go(leaves_early, csp_send_end(done));
    csp_recv(done, NULL);
    csp_unref(done);
}

/* ---- ten workers say A to Z; each got its own number ---- */

typedef struct letter {
    int worker;
    char letter;
} letter;

csp_task(alphabet, int, worker, csp_sender(letter), out)
{
    for (char c = 'A'; c <= 'Z'; c++) {
        csp_send(out, (letter){worker, c});
        csp_yield();
    }
}

static void ten_workers(void *unused)
{
    csp_chan(letter) letters = csp_make(letter, 0);
    char next[10];
    int seen = 0, wrong = 0;
    (void)unused;
    memset(next, 'A', sizeof next);
    for (int i = 0; i < 10; i++) csp_go(alphabet, i, csp_send_end(letters));
    for (letter l; seen < 260; seen++) {
        csp_recv(letters, &l);
        wrong += l.letter != next[l.worker]++;
    }
    printf("%d letters by 10 workers, %d out of order\n", seen, wrong);
    while (csp_count() > 1) csp_yield(); // each is still to say that it has sent its Z
    csp_unref(letters);
}

/* ---- processors ---- */

csp_task(wait_for, csp_receiver(bool), quit)
{
    csp_recv(quit, NULL);
}

static void processors(void *unused)
{
    csp_chan(bool) quit = csp_make(bool, 0);
    (void)unused;
    csp_procs(2);
    int before = csp_procs(3);
    printf("%d processors, then %d\n", before, csp_procs(0));
    for (int i = 0; i < 100; i++) csp_go(wait_for, csp_recv_end(quit));
    printf("%d goroutines, main among them\n", (int)csp_count());
    csp_close(quit);
    while (csp_count() > 1) csp_yield();
    csp_unref(quit);
}

/* ---- the end of main ---- */

static atomic_int finished;

csp_task(work, csp_receiver(bool), start, csp_sender(bool), done)
{
    csp_recv(start, NULL);
    finished++;
    csp_send(done, true);
}

static void main_ends(void *wait)
{
    static csp_chan(bool) start[2], done[2]; // kept: workers may be there when main ends
    int i = wait != NULL;
    start[i] = csp_make(bool, 0), done[i] = csp_make(bool, 0);
    finished = 0;
    for (int k = 0; k < 5; k++) csp_go(work, csp_recv_end(start[i]), csp_send_end(done[i]));
    if (wait == NULL) return;
    csp_close(start[i]);
    for (int k = 0; k < 5; k++) csp_recv(done[i], NULL);
}

int main(void)
{
    int wait;
    csp_run(two_printers, NULL);
    csp_run(exit_with_defers, NULL);
    csp_run(ten_workers, NULL);
    csp_run(processors, NULL);
    csp_run(main_ends, NULL);
    printf("main did not wait: %d of 5 finished\n", finished);
    csp_run(main_ends, &wait);
    printf("main waited: %d of 5 finished\n", finished);
    return 0;
}
