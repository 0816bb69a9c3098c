/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * https_get.c - fetches several URLs over TLS at the same time.
 *
 * Each host is a goroutine: dial, handshake, request, answer, as a program with one connection
 * would write it. The deadline covers all of it, name look-up and handshake included. What to
 * notice: tls.h waits for sockets outside of OpenSSL, so thousands of connections share a few
 * threads.
 *
 *     https_get HOST:PORT[/PATH] ...     CA=file: a certificate to trust besides the system's
 */
// check: libs openssl
#define CSP_IMPLEMENTATION
#include "csp.h"
#include "tls.h"

typedef struct answer {
    const char *url;
    char status[64];
    long bytes;
    int error;
    char why[160];
} answer;

csp_task(fetch, SSL_CTX *, ctx, answer *, a, csp_sender(answer *), done)
{
    char host[256], request[600], buf[4096];
    const char *path = strchr(a->url, '/');
    int64_t until = csp_now() + 5 * CSP_SECOND;
    size_t n = path == NULL ? strlen(a->url) : (size_t)(path - a->url);
    snprintf(host, sizeof host, "%.*s", (int)n, a->url);
    int fd = csp_dial_until(host, until);
    tls *t = fd < 0 ? NULL : tls_new(ctx, fd);
    *strchr(host, ':') = 0;
    if (fd < 0) {
        a->error = fd;
    } else if (t == NULL) {
        a->error = -ENOMEM;
    } else if ((a->error = tls_connect(t, host, until)) > 0) {
        n = (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n",
                             path == NULL ? "/" : path, host);
        csp_ssize got = tls_write_full_until(t, request, n, until);
        while (got > 0 && (got = tls_read_until(t, buf, sizeof buf - 1, until)) > 0) {
            buf[got] = 0;
            if (a->bytes == 0)
                snprintf(a->status, sizeof a->status, "%.*s", (int)strcspn(buf, "\r\n"), buf);
            a->bytes += got;
        }
        a->error = (int)got;
    }
    if (t != NULL) snprintf(a->why, sizeof a->why, "%s", a->error == -EPROTO ? tls_error(t) : "");
    tls_free(t);
    if (fd >= 0) csp_close_fd(fd);
    csp_send(done, a);
}

csp_main(argc, argv)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_default_verify_paths(ctx);
    if (getenv("CA") != NULL) SSL_CTX_load_verify_locations(ctx, getenv("CA"), NULL);
    csp_chan(answer *) done = csp_make(answer *, argc);
    answer *answers = calloc((size_t)argc, sizeof *answers);
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        if (strchr(argv[i], ':') == NULL)
            return fprintf(stderr, "https_get HOST:PORT[/PATH] ...\n"), 2;
        answers[i].url = argv[i];
        csp_go(fetch, ctx, &answers[i], csp_send_end(done));
    }
    for (int i = 1; i < argc; i++) csp_recv(done, NULL);
    for (int i = 1; i < argc; i++) {
        answer *a = &answers[i];
        if (a->error < 0)
            printf("%s: %s\n", a->url, a->why[0] ? a->why : strerror(-a->error)), failed = 1;
        else
            printf("%s: %s, %ld bytes\n", a->url, a->status, a->bytes);
    }
    free(answers);
    csp_unref(done);
    SSL_CTX_free(ctx);
    return failed;
}
