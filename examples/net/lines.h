/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * lines.h - a connection read and written line by line, for the examples that talk over one.
 */
#ifndef EXAMPLES_LINES_H
#define EXAMPLES_LINES_H

#include "csp.h"

#include <errno.h>
#include <string.h>

typedef struct lines {
    int fd;
    size_t at, end; // what has been read and not been asked for
    char bytes[4096];
} lines;

/* More bytes, by t at the latest: 1, or a negative errno; -ENODATA at the end of the stream. */
static inline int lines_fill(lines *in, int64_t t)
{
    if (in->at == in->end) in->at = in->end = 0;
    csp_ssize n = csp_read_until(in->fd, in->bytes + in->end, sizeof in->bytes - in->end, t);
    if (n > 0) in->end += (size_t)n;
    return n > 0 ? 1 : n == 0 ? -ENODATA : (int)n;
}

/* The next line into text[size], without its \n or \r\n: its length, or a negative errno:
 * -EMSGSIZE when it is longer, -ETIMEDOUT, -ENODATA when there is none. */
static inline int read_line(lines *in, char *text, size_t size, int64_t t)
{
    for (size_t n = 0;;) {
        if (in->at == in->end) {
            int error = lines_fill(in, t);
            if (error == -ENODATA && n > 0) return text[n] = 0, (int)n;
            if (error < 0) return error;
        }
        char c = in->bytes[in->at++];
        if (c == '\n') {
            n -= n > 0 && text[n - 1] == '\r';
            text[n] = 0;
            return (int)n;
        }
        if (n + 1 == size) return -EMSGSIZE;
        text[n++] = c;
    }
}

/* All of it, by t at the latest: 0 or a negative errno. */
static inline int write_until(int fd, const char *bytes, size_t size, int64_t t)
{
    for (csp_ssize n; size > 0; bytes += n, size -= (size_t)n) {
        n = csp_write_until(fd, bytes, size, t);
        if (n < 0) return (int)n;
    }
    return 0;
}

static inline int write_text(int fd, const char *text)
{
    return write_until(fd, text, strlen(text), CSP_FOREVER);
}

#endif
