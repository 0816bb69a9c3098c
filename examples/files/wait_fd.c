/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * wait_fd.c - a descriptor that other code reads and writes: csp only says when it is ready.
 *
 * What to notice: a library (for TLS, for a database) has a descriptor of its own, calls read(2)
 * and write(2) itself, and says EAGAIN when it cannot go on. csp_wait_fd parks the goroutine until
 * the descriptor is CSP_READABLE or CSP_WRITABLE, and the library is asked again. The descriptor
 * has to be O_NONBLOCK, or the library's call would keep the processor. Ready is a hint: another
 * goroutine may have been faster, so the loop tries again. The deadline bounds the wait and not
 * the work.
 */
// check: arm64
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { TOTAL = 1 << 20 };

/* ---- as a library does it: -EAGAIN, or how many bytes ---- */

static csp_ssize library_write(int fd, const char *bytes, size_t size)
{
    ssize_t n = write(fd, bytes, size);
    return n >= 0 ? n : -errno; // nothing of csp between the call and errno
}

static csp_ssize library_read(int fd, char *bytes, size_t size)
{
    ssize_t n = read(fd, bytes, size);
    return n >= 0 ? n : -errno;
}

/* ---- its user ---- */

csp_task(writer, int, fd, csp_sender(bool), full)
{
    static char bytes[8192];
    memset(bytes, 'x', sizeof bytes);
    for (size_t left = TOTAL; left > 0;) {
        csp_ssize n = library_write(fd, bytes, left < sizeof bytes ? left : sizeof bytes);
        if (n == -EAGAIN) {
            csp_try_send(full, true);
            if (csp_wait_fd(fd, CSP_WRITABLE) < 0) break;
        } else if (n < 0) {
            break;
        } else {
            left -= (size_t)n;
        }
    }
    csp_close_fd(fd);
    csp_close(full);
    csp_unref(full);
}

static size_t read_all(int fd)
{
    static char bytes[4096];
    for (size_t total = 0;;) {
        csp_ssize n = library_read(fd, bytes, sizeof bytes);
        if (n == -EAGAIN)
            n = csp_wait_fd_until(fd, CSP_READABLE, csp_now() + CSP_MINUTE) < 0 ? 0 : -EAGAIN;
        else
            total += n > 0 ? (size_t)n : 0;
        if (n == 0 || (n < 0 && n != -EAGAIN)) return total;
    }
}

csp_main(argc, argv)
{
    int ends[2];
    if (pipe(ends) != 0 || fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0 ||
        fcntl(ends[1], F_SETFL, O_NONBLOCK) != 0)
        return 1;
    int ready = csp_wait_fd_until(ends[0], CSP_READABLE, csp_now() + 5 * CSP_MILLISECOND);
    printf("nothing to read: %s\n", strerror(-ready));
    ready = csp_wait_fd(ends[1], CSP_READABLE | CSP_WRITABLE);
    printf("an empty pipe is writable: %s\n", ready & CSP_WRITABLE ? "yes" : "no");

    csp_chan(bool) full = csp_make(bool, 1);
    csp_go(writer, ends[1], csp_send_end(csp_ref(full)));
    bool waits = csp_recv(full, NULL);
    printf("the writer waits for room: %s\n", waits ? "yes" : "no");
    printf("%zu bytes\n", read_all(ends[0]));
    csp_close_fd(ends[0]);
    csp_unref(full);
    return 0;
}
