/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * udp.c - datagrams: a server that answers to the address that asked, and two kinds of client.
 *
 * What to notice: one call is one datagram. csp_recv_from fills in the sender's address, in the
 * form that csp_send_to takes, so one descriptor serves all clients. A client that has dialled has
 * one partner and gives no address; a client that has not can talk to many. Datagrams may get
 * lost, even here: the client asks again when no answer has come for a while, and the answer
 * carries the question, so a late one does no harm. Closing the descriptor ends the server's
 * receive.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

csp_task(serve, int, fd, csp_sender(int), ended)
{
    csp_address from;
    char bytes[512];
    csp_ssize n;
    while ((n = csp_recv_from(fd, bytes, sizeof bytes, &from)) >= 0) {
        for (csp_ssize i = 0; i < n; i++) bytes[i] = (char)toupper((unsigned char)bytes[i]);
        csp_send_to(fd, bytes, (size_t)n, from.text);
    }
    csp_send(ended, (int)n);
}

/* The answer to a question, asked again every 100 ms: its length, or a negative errno. */
static csp_ssize ask(int fd, const char *question, const char *to, char *answer, size_t size)
{
    size_t length = strlen(question);
    for (int tries = 0; tries < 50; tries++) {
        csp_ssize n = csp_send_to(fd, question, length, to);
        if (n < 0) return n;
        int64_t t = csp_now() + 100 * CSP_MILLISECOND;
        while (csp_wait_fd_until(fd, CSP_READABLE, t) == CSP_READABLE) {
            n = csp_recv_from(fd, answer, size, NULL);
            if (n == (csp_ssize)length && toupper((unsigned char)*question) == *answer) return n;
        }
    }
    return -ETIMEDOUT;
}

static void print_answer(const char *who, int fd, const char *question, const char *to)
{
    char answer[512];
    csp_ssize n = ask(fd, question, to, answer, sizeof answer);
    printf("%s: %.*s\n", who, n < 0 ? 5 : (int)n, n < 0 ? "error" : answer);
}

csp_main(argc, argv)
{
    csp_address address, own;
    int server = csp_listen("udp:127.0.0.1:0"), code = 0;
    if (server < 0 || csp_local_address(server, &address) < 0) return 1;
    csp_chan(int) ended = csp_make(int, 0);
    csp_go(serve, server, csp_send_end(ended));

    int one = csp_dial(address.text), many = csp_listen("udp:127.0.0.1:0");
    if (one < 0 || many < 0 || csp_local_address(one, &own) < 0) return 1;
    print_answer("dialled", one, "hello", NULL);
    print_answer("not dialled", many, "what news?", address.text);
    printf("two clients, two addresses: %s\n", strcmp(address.text, own.text) != 0 ? "yes" : "no");

    csp_close_fd(server);
    csp_recv(ended, &code);
    printf("the server's end: %s\n", strerror(-code));
    csp_close_fd(one);
    csp_close_fd(many);
    csp_unref(ended);
    return 0;
}
