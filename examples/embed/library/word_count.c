/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * word_count.c - a library that uses csp inside; main.c beside it is its user.
 *
 * What to notice: CSP_STATIC makes every function of csp static in this file, so the library
 * brings no symbol but its own, and fits into a program that has another csp, or functions of
 * these names. The library has no csp_run: the first call starts the runtime, and the caller waits
 * as a thread. A panic would end the program of its user, so the library catches it in each
 * goroutine and returns an error. It ends the runtime only when its user says so.
 */
#define CSP_STATIC
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "word_count.h"

typedef struct result {
    long words; // -1: failed
} result;

static long count(const char *text)
{
    long words = 0;
    if (text == NULL) csp_panic("a text is NULL");
    for (bool in = false; *text != 0; text++) {
        bool letter = *text != ' ' && *text != '\n';
        words += letter && !in;
        in = letter;
    }
    return words;
}

csp_task(count_one, const char *, text, csp_sender(result), results)
{
    volatile long words = -1;
    csp_try words = count(text);
    csp_catch(p) words = -1; // p->message would be for a log
    csp_send(results, (result){words});
}

static long gather(const char *const *texts, size_t n, csp_chan(result) results)
{
    long total = 0;
    for (size_t i = 0; i < n; i++) csp_go(count_one, texts[i], csp_send_end(results));
    for (size_t i = 0; i < n; i++) {
        result r;
        csp_recv(results, &r); // this thread waits, and none of csp's
        total = total < 0 || r.words < 0 ? -1 : total + r.words;
    }
    return total;
}

long word_count(const char *const *texts, size_t n)
{
    csp_chan(result) results = csp_make(result, 0);
    long total = gather(texts, n, results);
    csp_unref(results);
    return total;
}

void word_count_end(void)
{
    csp_shutdown();
}
