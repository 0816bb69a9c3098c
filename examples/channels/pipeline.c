/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * pipeline.c - lines, words, lengths: three stages that run at the same time.
 *
 * What to notice: each stage is a loop over its input that ends by closing its output, and knows
 * nothing of the others. The types say what a stage may do: it gets the receiving end of one
 * channel and the sending end of the next, and sending the wrong way does not compile. Values are
 * copied, structs too; the channels between the stages hold a few, so that the stages need not
 * walk in step.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>
#include <string.h>

typedef const char *text;

typedef struct word {
    char letters[16];
    int line;
} word;

csp_task(read_lines, csp_sender(text), out)
{
    static const text poem[] = {"do not communicate", "by sharing memory", "share memory instead",
                                "by communicating"};
    for (size_t i = 0; i < sizeof poem / sizeof poem[0]; i++) csp_send(out, poem[i]);
    csp_close(out);
}

csp_task(split, csp_receiver(text), in, csp_sender(word), out)
{
    int line = 0;
    csp_range(s, in) {
        line++;
        for (size_t n; *s != 0; s += n + (s[n] == ' ')) {
            word w = {.line = line};
            n = strcspn(s, " ");
            memcpy(w.letters, s, n < sizeof w.letters ? n : sizeof w.letters - 1);
            csp_send(out, w);
        }
    }
    csp_close(out);
}

csp_task(count, csp_receiver(word), in, csp_sender(int), lengths)
{
    csp_range(w, in) {
        printf("line %d: %s\n", w.line, w.letters);
        csp_send(lengths, (int)strlen(w.letters));
    }
    csp_close(lengths);
}

csp_main(argc, argv)
{
    csp_chan(text) lines = csp_make(text, 0);
    csp_chan(word) words = csp_make(word, 4);
    csp_chan(int) lengths = csp_make(int, 4);
    csp_go(read_lines, csp_send_end(lines));
    csp_go(split, csp_recv_end(lines), csp_send_end(words));
    csp_go(count, csp_recv_end(words), csp_send_end(lengths));

    int total = 0, n = 0;
    csp_range(length, lengths) {
        total += length;
        n++;
    }
    printf("%d words, %d letters\n", n, total);
    csp_unref(lines); // the close has come down the whole pipeline: no stage is left
    csp_unref(words);
    csp_unref(lengths);
    return 0;
}
