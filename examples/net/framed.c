/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * framed.c - messages over a stream: each with its length in front.
 *
 * What to notice: a stream has no borders; what was written in one call may be read in several.
 * csp_read_full reads until all bytes of a length or of a message are there, and less only when
 * the stream has ended, so that an end between two messages and an end inside one can be told
 * apart. A length comes from outside and is checked before it is used. csp_accept_until gives up
 * when no client comes.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST = 1000 };

/* 0, or a negative errno. */
static int send_message(int fd, const char *text)
{
    unsigned char head[2];
    size_t n = strlen(text);
    if (n > LONGEST) return -EMSGSIZE;
    head[0] = (unsigned char)(n >> 8), head[1] = (unsigned char)n;
    csp_ssize e = csp_write_full(fd, head, 2);
    if (e >= 0) e = csp_write_full(fd, text, n);
    return e < 0 ? (int)e : 0;
}

/* The message's length, -ENODATA at a proper end, -EPROTO at an end within a message. */
static int receive_message(int fd, char text[LONGEST + 1])
{
    unsigned char head[2];
    csp_ssize n = csp_read_full(fd, head, 2);
    if (n != 2) return n < 0 ? (int)n : n == 0 ? -ENODATA : -EPROTO;
    int length = head[0] << 8 | head[1];
    if (length > LONGEST) return -EMSGSIZE;
    n = csp_read_full(fd, text, (size_t)length);
    if (n != length) return n < 0 ? (int)n : -EPROTO;
    text[length] = 0;
    return length;
}

csp_task(client, const char *, address, bool, breaks_off, csp_sender(int), done)
{
    static const char long_text[] = "a message that is not the first";
    int fd = csp_dial(address), error = fd;
    if (fd >= 0) {
        error = send_message(fd, "hello");
        if (error == 0 && breaks_off)
            csp_write_full(fd, "\0\7half", 6); // 7 bytes are announced, 4 come
        else if (error == 0)
            error = send_message(fd, long_text);
        csp_close_fd(fd);
    }
    csp_send(done, error);
}

static void serve(int fd)
{
    char text[LONGEST + 1];
    int n;
    while ((n = receive_message(fd, text)) >= 0) printf("%d bytes: %s\n", n, text);
    printf("%s\n", n == -ENODATA ? "a proper end" : n == -EPROTO ? "broken off" : strerror(-n));
    csp_close_fd(fd);
}

csp_main(argc, argv)
{
    csp_address address;
    int listener = csp_listen("127.0.0.1:0"), error;
    if (listener < 0 || csp_local_address(listener, &address) < 0) return 1;
    csp_chan(int) done = csp_make(int, 0);
    for (int i = 0; i < 2; i++) {
        csp_go(client, address.text, i == 1, csp_send_end(done));
        int fd = csp_accept_until(listener, csp_now() + CSP_MINUTE);
        if (fd < 0) return 1;
        serve(fd);
        csp_recv(done, &error);
        if (error < 0) return 1;
    }
    int fd = csp_accept_until(listener, csp_now() + 10 * CSP_MILLISECOND);
    printf("no third client: %s\n", strerror(-fd));
    csp_close_fd(listener);
    csp_unref(done);
    return 0;
}
