/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * tls.h - TLS for goroutines, with OpenSSL 1.1.1 or later: drop it beside csp.h. Link with -lssl
 * -lcrypto.
 *
 *     tls *t = tls_new(ctx, fd);                    // fd: from csp_dial or csp_accept
 *     tls_connect(t, "example.org", until);         // the client's handshake; verifies the name
 *     tls_accept(t, until);                         // the server's
 *     tls_read_until, tls_write_full_until, tls_close
 *
 * They return what csp_read and csp_write_full return: a count, or a negative errno. -EPROTO is a
 * failure of TLS itself; tls_error(t) says which.
 *
 * What is to be known of OpenSSL and goroutines:
 *   - Its error queue belongs to the thread. SSL_get_error looks into that queue: what a
 *     neighbour has left there makes a healthy connection fail. A goroutine may go on with
 *     another thread after any call into csp, but only there. So each operation here clears the
 *     queue first, and reads it before it waits: between those two no call of csp is made, and
 *     the queue is this operation's alone.
 *   - A read or write that parked in the middle of SSL_read would come back on another thread. So
 *     the socket is never waited for inside OpenSSL: the operation returns WANT_READ or
 *     WANT_WRITE, and this code waits outside. (The other right way is csp_lock_thread around
 *     everything that a connection does: its goroutine then keeps a thread for itself, 3 us for
 *     each switch.)
 *   - An SSL object may be used by one goroutine at a time. tls serialises the calls by a mutex,
 *     and lets go of it while it waits: one goroutine may read while another one writes.
 *   - write(2) on a connection that the peer has closed raises SIGPIPE. The socket's methods here
 *     use send with MSG_NOSIGNAL.
 *   - SSL_connect needs 12 KiB of stack: the default of csp is enough, 16 KiB are not.
 */
#ifndef TLS_H
#define TLS_H

#include "csp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

typedef struct tls {
    SSL *ssl;
    csp_mutex mu; // guards ssl
    int fd;
    char error[160]; // of the last -EPROTO
} tls;

static inline int tls_bio_write(BIO *bio, const char *buf, int n)
{
    int fd = (int)(intptr_t)BIO_get_data(bio);
    int r = (int)send(fd, buf, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    BIO_clear_retry_flags(bio);
    if (r < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
    return r;
}

static inline int tls_bio_read(BIO *bio, char *buf, int n)
{
    int fd = (int)(intptr_t)BIO_get_data(bio);
    int r = (int)recv(fd, buf, (size_t)n, MSG_DONTWAIT);
    BIO_clear_retry_flags(bio);
    if (r < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
    return r;
}

static inline long tls_bio_ctrl(BIO *bio, int what, long n, void *p)
{
    (void)bio;
    (void)n;
    (void)p;
    return what == BIO_CTRL_FLUSH;
}

static inline void tls_bio_methods(void *methods)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOCKET, "csp");
    if (m == NULL) return;
    BIO_meth_set_write(m, tls_bio_write);
    BIO_meth_set_read(m, tls_bio_read);
    BIO_meth_set_ctrl(m, tls_bio_ctrl);
    *(BIO_METHOD **)methods = m;
}

/* One step of `ssl`: done (a count or 1), or what to wait for, or an error. Called with the
 * mutex. */
enum { TLS_CONNECT, TLS_ACCEPT, TLS_READ, TLS_WRITE, TLS_SHUTDOWN };
static inline csp_ssize tls_step(tls *t, int what, void *buf, size_t n, int *wait)
{
    int most = n > 1 << 30 ? 1 << 30 : (int)n, r;
    *wait = 0;
    ERR_clear_error();
    errno = 0;
    r = what == TLS_CONNECT  ? SSL_connect(t->ssl)
        : what == TLS_ACCEPT ? SSL_accept(t->ssl)
        : what == TLS_READ   ? SSL_read(t->ssl, buf, most)
        : what == TLS_WRITE  ? SSL_write(t->ssl, buf, most)
                             : SSL_shutdown(t->ssl);
    int system = errno, error = SSL_get_error(t->ssl, r);
    if (r > 0) return r;
    switch (error) {
    case SSL_ERROR_WANT_READ: *wait = CSP_READABLE; return -EAGAIN;
    case SSL_ERROR_WANT_WRITE: *wait = CSP_WRITABLE; return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() == 0)
            return system != 0 ? -system : what == TLS_READ ? -EPROTO : -EPIPE;
        break;
    default: break;
    }
    long verify = SSL_get_verify_result(t->ssl);
    if (verify != X509_V_OK)
        snprintf(t->error, sizeof t->error, "%s", X509_verify_cert_error_string(verify));
    else
        ERR_error_string_n(ERR_get_error(), t->error, sizeof t->error);
    ERR_clear_error(); /* nothing is left for the neighbours */
    return -EPROTO;
}

static inline csp_ssize tls_do(tls *t, int what, void *buf, size_t n, int64_t until)
{
    for (;;) {
        int wait;
        csp_mutex_lock(&t->mu);
        csp_ssize r = tls_step(t, what, buf, n, &wait);
        csp_mutex_unlock(&t->mu);
        if (wait == 0) return r;
        int ready = csp_wait_fd_until(t->fd, wait, until);
        if (ready < 0) return ready;
    }
}

/* What the last -EPROTO was. */
static inline const char *tls_error(const tls *t)
{
    return t->error;
}

/* Frees t without a word to the peer; the descriptor stays the caller's. */
static inline void tls_free(tls *t)
{
    if (t == NULL) return;
    SSL_free(t->ssl);
    free(t);
}

/* NULL when out of memory. The handshake has yet to be made. */
static inline tls *tls_new(SSL_CTX *ctx, int fd)
{
    static csp_once once;
    static BIO_METHOD *methods;
    csp_once_do(&once, tls_bio_methods, &methods);
    tls *t = (tls *)calloc(1, sizeof *t);
    BIO *bio = methods == NULL ? NULL : BIO_new(methods);
    if (t != NULL && bio != NULL && (t->ssl = SSL_new(ctx)) != NULL) {
        t->fd = fd;
        BIO_set_data(bio, (void *)(intptr_t)fd);
        BIO_set_init(bio, 1);
        SSL_set_bio(t->ssl, bio, bio);
        SSL_set_mode(t->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        return t;
    }
    BIO_free(bio);
    free(t);
    return NULL;
}

/* The client's side of a handshake: 1, or a negative errno. The name is verified. */
static inline int tls_connect(tls *t, const char *host, int64_t until)
{
    if (!SSL_set_tlsext_host_name(t->ssl, host) || !SSL_set1_host(t->ssl, host)) return -ENOMEM;
    SSL_set_verify(t->ssl, SSL_VERIFY_PEER, NULL);
    return (int)tls_do(t, TLS_CONNECT, NULL, 0, until);
}

/* The server's side. */
static inline int tls_accept(tls *t, int64_t until)
{
    return (int)tls_do(t, TLS_ACCEPT, NULL, 0, until);
}

/* Up to n bytes; 0 at the end that the peer has announced. An end without a word is -EPROTO: a
 * third party may have cut the connection. */
static inline csp_ssize tls_read_until(tls *t, void *buf, size_t n, int64_t until)
{
    return n == 0 ? 0 : tls_do(t, TLS_READ, buf, n, until);
}

static inline csp_ssize tls_read(tls *t, void *buf, size_t n)
{
    return tls_read_until(t, buf, n, CSP_FOREVER);
}

/* All n bytes: n, or a negative errno. */
static inline csp_ssize tls_write_full_until(tls *t, const void *buf, size_t n, int64_t until)
{
    for (size_t done = 0; done < n;) {
        csp_ssize r = tls_do(t, TLS_WRITE, (char *)(uintptr_t)buf + done, n - done, until);
        if (r <= 0) return r < 0 ? r : -EPIPE;
        done += (size_t)r;
    }
    return (csp_ssize)n;
}

static inline csp_ssize tls_write_full(tls *t, const void *buf, size_t n)
{
    return tls_write_full_until(t, buf, n, CSP_FOREVER);
}

/* Says goodbye to the peer, waits for its answer until the given time, and frees t. */
static inline void tls_close(tls *t, int64_t until)
{
    if (tls_do(t, TLS_SHUTDOWN, NULL, 0, until) == 0) tls_do(t, TLS_SHUTDOWN, NULL, 0, until);
    tls_free(t);
}

#endif
