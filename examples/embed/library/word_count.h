/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * word_count.h - what the users of the library see: nothing of csp.
 */
#ifndef WORD_COUNT_H
#define WORD_COUNT_H

#include <stddef.h>

/* The words in n texts, counted in parallel. From any thread. -1: a text is NULL. */
long word_count(const char *const *texts, size_t n);

/* Gives back the library's threads and memory; it may be used again afterwards. */
void word_count_end(void);

#endif
