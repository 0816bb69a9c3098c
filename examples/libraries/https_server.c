/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * https_server.c - an HTTP server over TLS.
 *
 * A connection is a goroutine. A client that does not finish its handshake within five seconds, or
 * its request within thirty, loses its connection: the deadline is a parameter of each call.
 * SIGTERM ends the server, when the connections that are open have had their answers.
 *
 *     https_server ADDRESS CERTIFICATE KEY     prints the address that it listens on
 */
// check: libs openssl
#define CSP_IMPLEMENTATION
#include "csp.h"
#include "tls.h"

#include <signal.h>

static void serve_one(tls *t)
{
    static const char page[] = "Hello over TLS.\n";
    char request[4096], answer[256];
    size_t got = 0;
    int64_t until = csp_now() + 30 * CSP_SECOND;
    do {
        csp_ssize n = tls_read_until(t, request + got, sizeof request - 1 - got, until);
        if (n <= 0) return;
        request[got += (size_t)n] = 0;
    } while (strstr(request, "\r\n\r\n") == NULL && got < sizeof request - 1);
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.0 %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
                     strncmp(request, "GET ", 4) == 0 ? "200 OK" : "501 Not Implemented",
                     sizeof page - 1, page);
    tls_write_full_until(t, answer, (size_t)n, until);
}

csp_task(serve, SSL_CTX *, ctx, int, fd)
{
    tls *t = tls_new(ctx, fd);
    if (t != NULL && tls_accept(t, csp_now() + 5 * CSP_SECOND) > 0) {
        serve_one(t);
        tls_close(t, csp_now() + CSP_SECOND);
    } else {
        tls_free(t);
    }
    csp_close_fd(fd);
}

static csp_waitgroup connections;

csp_task(accept_all, SSL_CTX *, ctx, int, listener)
{
    int fd;
    while ((fd = csp_accept(listener)) >= 0) csp_waitgroup_go(&connections, serve, ctx, fd);
}

csp_main(argc, argv)
{
    csp_address at;
    csp_chan(int) stop = csp_make(int, 1);
    if (argc != 4) return fprintf(stderr, "https_server ADDRESS CERTIFICATE KEY\n"), 2;
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (SSL_CTX_use_certificate_chain_file(ctx, argv[2]) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, argv[3], SSL_FILETYPE_PEM) != 1)
        return fprintf(stderr, "https_server: no certificate and key in these files\n"), 2;
    int listener = csp_listen(argv[1]);
    if (listener < 0) return fprintf(stderr, "%s: %s\n", argv[1], strerror(-listener)), 2;
    csp_notify(stop, SIGTERM, SIGINT);
    csp_local_address(listener, &at);
    printf("%s\n", at.text);
    fflush(stdout);
    csp_go(accept_all, ctx, listener);
    csp_recv(stop, NULL);
    csp_interrupt_fd(listener);
    csp_waitgroup_wait(&connections);
    csp_close_fd(listener);
    SSL_CTX_free(ctx);
    return 0;
}
