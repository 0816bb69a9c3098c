/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * hello.c - a goroutine says something, the main goroutine prints it.
 *
 * What to notice: csp_task defines a function that csp_go starts as a goroutine; its arguments are
 * copied at that moment. The channel is a rendezvous (capacity 0), so the two walk in step; closing
 * it ends the csp_range. csp_send_end hands over the end that may only be sent on: receiving from
 * it would not compile.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

typedef const char *text;

csp_task(greet, csp_sender(text), out, text, who)
{
    csp_send(out, "hello");
    csp_send(out, who);
    csp_close(out);
}

csp_main(argc, argv)
{
    csp_chan(text) words = csp_make(text, 0);
    csp_go(greet, csp_send_end(words), argc > 1 ? argv[1] : "world");
    csp_range(word, words) printf("%s\n", word);
    csp_unref(words);
    return 0;
}
