/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * cancel_io.c - ending what waits on a descriptor, from outside and in time.
 *
 * What to notice: nobody but its owner closes a descriptor. Who wants a reader to stop interrupts
 * it (csp_interrupt_fd), or has bound the descriptor to a context beforehand (csp_bind_fd): the
 * call that waits says -ECANCELED or -ETIMEDOUT, and the owner closes. Closing from outside would
 * hand the number to whoever opens something next, while the reader may be about to read from it.
 * A select waits for descriptors beside channels (CSP_FD), and each call has a form with a
 * deadline.
 */
// check: arm64
#define _POSIX_C_SOURCE 200809L // fileno
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>

/* Two ends of a connection. */
static int connect_both(int ends[2])
{
    csp_address address;
    int listener = csp_listen("127.0.0.1:0");
    if (listener < 0 || csp_local_address(listener, &address) < 0) return -1;
    ends[0] = csp_dial(address.text);
    ends[1] = csp_accept(listener);
    csp_close_fd(listener);
    return ends[0] < 0 || ends[1] < 0 ? -1 : 0;
}

/* The owner of fd: reads to the end, whatever that is, and closes. */
csp_task(reader, int, fd, csp_sender(int), ended)
{
    char bytes[64];
    csp_ssize n;
    while ((n = csp_read(fd, bytes, sizeof bytes)) > 0) printf("read %d bytes\n", (int)n);
    csp_close_fd(fd);
    csp_send(ended, (int)n);
}

static void print_end(const char *what, int result)
{
    printf("%s: %s\n", what, result == 0 ? "the end" : strerror(-result));
}

static void interrupt_and_bind(csp_chan(int) ended)
{
    int ends[2], result = 0;
    if (connect_both(ends) < 0) csp_panic("no connection");
    csp_go(reader, ends[0], csp_send_end(ended));
    csp_interrupt_fd(ends[0]);
    csp_recv(ended, &result);
    print_end("interrupted", result);
    csp_close_fd(ends[1]);

    csp_ctx *ctx = csp_ctx_with_timeout(csp_ctx_background(), 10 * CSP_MILLISECOND);
    if (connect_both(ends) < 0) csp_panic("no connection");
    csp_bind_fd(ends[0], ctx);
    csp_go(reader, ends[0], csp_send_end(ended));
    csp_recv(ended, &result);
    print_end("bound to a context", result);
    csp_close_fd(ends[1]);
    csp_ctx_unref(ctx);
}

/* A line from the connection, or a word from a channel, whichever comes first. */
static void select_both(csp_chan(int) words)
{
    int ends[2], word = 0;
    char bytes[8] = "";
    if (connect_both(ends) < 0) csp_panic("no connection");
    csp_send(words, 7);
    for (int i = 0; i < 2; i++) {
        switch (csp_select(CSP_FD(ends[0], CSP_READABLE), CSP_RECV(words, &word))) {
        case 0:
            csp_read_full_until(ends[0], bytes, 5, csp_now() + CSP_SECOND);
            printf("from the connection: %s\n", bytes);
            break;
        case 1:
            printf("from the channel: %d\n", word);
            csp_write_full_until(ends[1], "hello", 5, csp_now() + CSP_SECOND);
            break;
        }
    }
    csp_close_fd(ends[0]);
    csp_close_fd(ends[1]);
}

/* A head and a file, as a server sends them. */
static void send_parts(csp_chan(int) ended)
{
    int ends[2], result = 0;
    FILE *file = tmpfile();
    if (file == NULL || connect_both(ends) < 0) csp_panic("no file, or no connection");
    fputs("twenty bytes in here", file);
    fflush(file);
    struct iovec parts[2] = {{(void *)(uintptr_t) "head ", 5}, {(void *)(uintptr_t) "body", 4}};
    printf("parts: %d\n", (int)csp_writev_until(ends[1], parts, 2, csp_now() + CSP_SECOND));
    printf("again: %d\n", (int)csp_writev(ends[1], parts, 1));
    printf("file: %d\n", (int)csp_send_file(ends[1], fileno(file), 7, 100));
    printf("more: %d\n", (int)csp_send_file_until(ends[1], fileno(file), 20, 100, CSP_FOREVER));
    fclose(file);
    char all[27];
    printf("arrived: %d\n", (int)csp_read_full(ends[0], all, sizeof all));
    csp_close_fd(ends[1]);
    csp_go(reader, ends[0], csp_send_end(ended));
    csp_recv(ended, &result);
    print_end("closed by the other side", result);
}

static void ask_in_time(void)
{
    csp_address address;
    char bytes[8];
    int fd = csp_listen("udp:127.0.0.1:0");
    if (fd < 0 || csp_local_address(fd, &address) < 0) csp_panic("no socket");
    int64_t soon = csp_now() + 10 * CSP_MILLISECOND;
    print_end("no datagram", (int)csp_recv_from_until(fd, bytes, sizeof bytes, NULL, soon));
    int64_t later = csp_now() + CSP_SECOND;
    printf("sent: %d\n", (int)csp_send_to_until(fd, "hi", 2, address.text, later));
    printf("received: %d\n", (int)csp_recv_from_until(fd, bytes, sizeof bytes, NULL, later));
    csp_close_fd(fd);
}

csp_main(argc, argv)
{
    (void)argc, (void)argv;
    csp_chan(int) ended = csp_make(int, 1);
    interrupt_and_bind(ended);
    select_both(ended);
    send_parts(ended);
    ask_in_time();
    csp_unref(ended);
    return 0;
}
