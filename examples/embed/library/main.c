/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * main.c - a program that uses the library and knows nothing of csp.
 *
 *     cc -I. examples/embed/library/main.c examples/embed/library/word_count.c -o library -pthread
 *
 * What to notice: csp_count is this program's own function. It does not clash with the csp_count
 * in the library, because CSP_STATIC keeps that one inside its file. Two threads call the library
 * at the same time; each gets its own answer.
 */
#include "word_count.h"

#include <pthread.h>
#include <stdio.h>

int csp_count(int n); // as if it came from elsewhere

int csp_count(int n)
{
    return n + 1;
}

static const char *const poem[] = {"do not communicate", "by sharing memory", "share memory",
                                   "by communicating"};

static void *thread(void *sum)
{
    for (int i = 0; i < 100; i++) *(long *)sum += word_count(poem, 4);
    return NULL;
}

int main(void)
{
    pthread_t threads[2];
    long sums[2] = {0};
    int started = 0;
    for (int i = 0; i < 2; i++) {
        if (pthread_create(&threads[i], NULL, thread, &sums[i]) != 0) return 1;
        started = csp_count(started);
    }
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    printf("%d threads: %ld and %ld words\n", started, sums[0], sums[1]);
    printf("a text that is NULL: %ld\n", word_count((const char *const[]){"one", NULL}, 2));
    word_count_end();
    printf("again after the end: %ld words\n", word_count(poem, 4));
    word_count_end();
    return 0;
}
