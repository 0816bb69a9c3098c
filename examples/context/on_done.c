/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * on_done.c - a function that runs when a context ends: cancellation for a call without contexts.
 *
 * What to notice: csp_read knows nothing of contexts. csp_ctx_on_done registers a function that
 * closes the descriptor when the context is done, and closing it ends the read with -ECANCELED.
 * When the read ends first, csp_ctx_on_done_stop takes the function back. When stop says false the
 * function has been started, in a goroutine of its own: its argument lives on this stack, so the
 * reader has to wait until the function has ended before it may return.
 */
// check: tsan arm64
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct reading {
    int fd;
    csp_waitgroup closing; // 1 until close_it has ended or has been taken back
} reading;

static void close_it(void *arg)
{
    reading *r = arg;
    csp_close_fd(r->fd);
    csp_waitgroup_done(&r->closing);
}

/* csp_read, until ctx is done: -ECANCELED then, and fd is closed. */
static csp_ssize read_while_wanted(csp_ctx *ctx, int fd, void *buffer, size_t size)
{
    reading r = {.fd = fd};
    csp_waitgroup_add(&r.closing, 1);
    uint64_t id = csp_ctx_on_done(ctx, close_it, &r);
    csp_ssize n = csp_read(fd, buffer, size);
    if (csp_ctx_on_done_stop(ctx, id)) return n;
    csp_waitgroup_wait(&r.closing);
    return -ECANCELED;
}

csp_main(argc, argv)
{
    char bytes[16];
    int ends[2];
    if (pipe(ends) != 0) return 1;
    csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background());

    csp_write_full(ends[1], "hello", 5);
    csp_ssize n = read_while_wanted(ctx, ends[0], bytes, sizeof bytes);
    printf("%d bytes: %.*s\n", (int)n, (int)n, bytes);

    csp_ctx *soon = csp_ctx_with_timeout(ctx, 20 * CSP_MILLISECOND);
    n = read_while_wanted(soon, ends[0], bytes, sizeof bytes); // nothing comes
    printf("%s: %s\n", csp_status_name(csp_ctx_status(soon)), strerror((int)-n));
    printf("closed: %s\n", strerror(-csp_close_fd(ends[0])));

    csp_ctx_unref(soon);
    csp_ctx_unref(ctx);
    csp_close_fd(ends[1]);
    return 0;
}
