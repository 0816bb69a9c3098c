/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * http.h - as much of HTTP/1.1 as the examples need: a server, and a client's request.
 *
 * What to notice: a connection is a goroutine that reads a request, answers it and reads the next,
 * as if there was no other. Requests that come before the answer to the one before (pipelining)
 * wait in the buffer, and are answered in order without a line of code. Every wait has a deadline:
 * there is one for the next request to begin, and another, not reset by a trickle of bytes, for the
 * rest of it. Who is connected is known to one goroutine, which each connection tells when it comes
 * and goes, and which ends them all.
 */
#ifndef EXAMPLES_HTTP_H
#define EXAMPLES_HTTP_H

#include "csp.h"
#include "lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

enum { HTTP_LINE = 2048, HTTP_HEADERS = 64, HTTP_BODY = 1 << 20, HTTP_COPY = 16384 };

typedef struct http_limits {
    int64_t idle;    // until a request begins
    int64_t request; // until it has been read
    int64_t reply;   // until it has been written
} http_limits;

typedef struct http_request {
    lines *in;
    int64_t until; // the end of patience with what is being read or written
    char method[16], target[HTTP_LINE], host[128], range[64];
    int64_t body; // bytes of it that have not been read
    bool keep_alive, expects_continue;
    int status; // what was answered, and how much of it
    int64_t sent;
    const http_limits *limits;
} http_request;

static inline const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } known[] = {{200, "OK"},
                 {206, "Partial Content"},
                 {304, "Not Modified"},
                 {400, "Bad Request"},
                 {403, "Forbidden"},
                 {404, "Not Found"},
                 {405, "Method Not Allowed"},
                 {408, "Request Timeout"},
                 {413, "Content Too Large"},
                 {414, "URI Too Long"},
                 {416, "Range Not Satisfiable"},
                 {431, "Request Header Fields Too Large"},
                 {500, "Internal Server Error"},
                 {501, "Not Implemented"},
                 {502, "Bad Gateway"},
                 {504, "Gateway Timeout"},
                 {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].status == status) return known[i].reason;
    return "Unknown";
}

/* Digits and nothing else: their value, or -1. */
static inline int64_t http_number(const char *text)
{
    int64_t n = 0;
    if (*text == 0) return -1;
    for (; *text != 0; text++) {
        if (*text < '0' || *text > '9' || n > INT64_MAX / 10 - 9) return -1;
        n = 10 * n + (*text - '0');
    }
    return n;
}

/* One header field: 0, or the status of the refusal. What could be read in two ways is refused,
 * since somebody else on the way may have read it in the other. */
static inline int http_field(http_request *r, char *line)
{
    char *colon = strchr(line, ':');
    if (colon == NULL || colon == line || strcspn(line, " \t") < (size_t)(colon - line)) return 400;
    *colon = 0;
    char *value = colon + 1 + strspn(colon + 1, " \t");
    for (size_t n = strlen(value); n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'); n--)
        value[n - 1] = 0;
    if (strcasecmp(line, "content-length") == 0) {
        int64_t n = http_number(value);
        if (n < 0 || (r->body >= 0 && r->body != n)) return 400;
        r->body = n;
    } else if (strcasecmp(line, "transfer-encoding") == 0) {
        return 501;
    } else if (strcasecmp(line, "connection") == 0) {
        if (strcasecmp(value, "close") == 0) r->keep_alive = false;
        if (strcasecmp(value, "keep-alive") == 0) r->keep_alive = true;
    } else if (strcasecmp(line, "host") == 0) {
        if (r->host[0] != 0) return 400;
        snprintf(r->host, sizeof r->host, "%s", value);
    } else if (strcasecmp(line, "range") == 0) {
        snprintf(r->range, sizeof r->range, "%s", value);
    } else if (strcasecmp(line, "expect") == 0) {
        r->expects_continue = strcasecmp(value, "100-continue") == 0;
    }
    return 0;
}

/* A line that ends as lines do: what the end of the stream cuts off is none. */
static inline int http_line(lines *in, char *line, size_t size, int64_t t)
{
    int n = read_line(in, line, size, t);
    return n >= 0 && in->at == 0 ? -ENODATA : n; // the end of the stream has emptied the buffer
}

/* 0, a status, or a negative errno when the connection has come to its end. */
static inline int http_read_request(http_request *r)
{
    char line[HTTP_LINE], version[16], more;
    int minor, n = 0;
    r->method[0] = r->target[0] = r->host[0] = r->range[0] = 0;
    r->body = -1;
    r->keep_alive = r->expects_continue = false;
    if (r->in->at == r->in->end && (n = lines_fill(r->in, csp_now() + r->limits->idle)) < 0)
        return n;
    r->until = csp_now() + r->limits->request;
    do { // empty lines before a request are to be ignored
        n = http_line(r->in, line, sizeof line, r->until);
    } while (n == 0);
    if (n < 0) return n == -EMSGSIZE ? 414 : n == -ETIMEDOUT ? 408 : n;
    if (sscanf(line, "%15s %2047s %15s%c", r->method, r->target, version, &more) != 3 ||
        (r->target[0] != '/' && strcmp(r->target, "*") != 0))
        return 400;
    if (sscanf(version, "HTTP/1.%1d%c", &minor, &more) != 1) return 505;
    r->keep_alive = minor > 0;
    for (int headers = 0; (n = http_line(r->in, line, sizeof line, r->until)) != 0; headers++) {
        if (n < 0) return n == -EMSGSIZE ? 431 : n == -ETIMEDOUT ? 408 : n;
        if (headers == HTTP_HEADERS) return 431;
        int refused = http_field(r, line);
        if (refused != 0) return refused;
    }
    if (minor > 0 && r->host[0] == 0) return 400;
    if (r->body < 0) r->body = 0;
    return r->body > HTTP_BODY ? 413 : 0;
}

/* The next bytes of the body: a count, 0 at its end, or a negative errno. */
static inline csp_ssize http_read_body(http_request *r, char *to, size_t size)
{
    lines *in = r->in;
    if (r->body == 0) return 0;
    if (r->expects_continue) {
        r->expects_continue = false;
        int e = write_text(in->fd, "HTTP/1.1 100 Continue\r\n\r\n");
        if (e < 0) return e;
    }
    if (in->at == in->end) {
        int e = lines_fill(in, r->until);
        if (e < 0) return e;
    }
    size_t n = in->end - in->at;
    if (n > size) n = size;
    if ((int64_t)n > r->body) n = (size_t)r->body;
    memcpy(to, in->bytes + in->at, n);
    in->at += n;
    r->body -= (int64_t)n;
    return (csp_ssize)n;
}

/* Answers with as much of the body as there is; the rest, up to `length`, follows by http_send; -1:
 * the end of the connection ends it. `fields` are more header lines, each ended by \r\n. */
static inline void http_reply(http_request *r, int status, const char *fields, const char *body,
                              size_t size, int64_t length)
{
    char head[HTTP_COPY], date[64];
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &utc));
    int n =
        snprintf(head, sizeof head / 2, "HTTP/1.1 %d %s\r\nDate: %s\r\n%s%s", status,
                 http_reason(status), date, fields, r->keep_alive ? "" : "Connection: close\r\n");
    n += length < 0 ? snprintf(head + n, 64, "\r\n")
                    : snprintf(head + n, 64, "Content-Length: %lld\r\n\r\n", (long long)length);
    size_t at = (size_t)n;
    r->status = status;
    r->sent = 0;
    r->until = csp_now() + r->limits->reply;
    if (strcmp(r->method, "HEAD") == 0) size = 0;
    bool small = size <= sizeof head - at; // one write, then
    if (small) memcpy(head + at, body, size), at += size;
    int e = write_until(r->in->fd, head, at, r->until);
    if (e == 0 && !small) e = write_until(r->in->fd, body, size, r->until);
    if (e < 0) r->keep_alive = false;
    r->sent += (int64_t)size;
}

static inline bool http_send(http_request *r, const char *bytes, size_t size)
{
    r->until = csp_now() + r->limits->reply;
    if (write_until(r->in->fd, bytes, size, r->until) < 0) return r->keep_alive = false;
    r->sent += (int64_t)size;
    return true;
}

static inline void http_text(http_request *r, int status, const char *text)
{
    http_reply(r, status, "Content-Type: text/plain\r\n", text, strlen(text),
               (int64_t)strlen(text));
}

/* Serves a connection until its end; does not close it. `handle` answers one request. */
static inline void http_serve(int fd, const http_limits *limits,
                              void (*handle)(http_request *, void *), void *arg)
{
    char rest[1024];
    lines in = {.fd = fd};
    http_request r = {.in = &in, .limits = limits};
    do {
        int status = http_read_request(&r);
        if (status < 0) return;
        if (status > 0) {
            r.keep_alive = false;
            http_text(&r, status, http_reason(status));
        } else {
            handle(&r, arg);
            csp_ssize n = 1; // what the handler did not want of the body
            while (r.keep_alive && n > 0) n = http_read_body(&r, rest, sizeof rest);
            if (n < 0) return;
        }
    } while (r.keep_alive);
    // Closing with bytes unread would take the answer from the client: it reads first, then leaves.
    csp_close_write(fd);
    for (int64_t t = csp_now() + CSP_SECOND; csp_read_until(fd, rest, sizeof rest, t) > 0;)
        continue;
}

/* ---- server ---- */

typedef void http_handler(http_request *r, void *arg);

typedef struct http_server {
    const http_limits *limits;
    http_handler *handle;
    void *arg;
    csp_chan(int) arriving, leaving;
    csp_chan(bool) closing;
} http_server;

csp_task(http_connection, int, fd, http_server *, s)
{
    http_serve(fd, s->limits, s->handle, s->arg);
    csp_send(s->leaving, fd); // from now on nobody else knows the number
    csp_close_fd(fd);
}

csp_task(http_accept, int, listener, http_server *, s)
{
    for (int fd; (fd = csp_accept(listener)) != -ECANCELED && fd != -EBADF;) {
        if (fd < 0) { // too many descriptors, for example: until some have left
            csp_sleep(10 * CSP_MILLISECOND);
            continue;
        }
        csp_send(s->arriving, fd);
        csp_go(http_connection, fd, s);
    }
    csp_close(s->closing);
}

csp_task(http_close_when, csp_receiver(int), stop, int, listener)
{
    csp_recv(stop, NULL);
    csp_close_fd(listener); // and http_accept ends
}

/* Serves until there is a value in stop: from then on nobody is let in, whoever waits for a request
 * finds the end of the stream, and whoever is being answered is answered. */
static inline void http_run(int listener, const http_limits *limits, http_handler *handle,
                            void *arg, csp_receiver(int) stop)
{
    http_server s = {limits, handle, arg, csp_make(int, 0), csp_make(int, 0), csp_make(bool, 0)};
    csp_receiver(bool) closing = csp_recv_end(s.closing);
    int *open = NULL, n = 0, room = 0, fd = 0; // who is connected
    csp_go(http_close_when, stop, listener);
    csp_go(http_accept, listener, &s);
    while (closing != NULL || n > 0) {
        switch (csp_select(CSP_RECV(s.arriving, &fd), CSP_RECV(s.leaving, &fd),
                           CSP_RECV(closing, NULL))) {
        case 0:
            if (n == room)
                open = (int *)realloc(open, (size_t)(room = 2 * room + 16) * sizeof *open);
            if (open == NULL) csp_panic("out of memory");
            open[n++] = fd;
            break;
        case 1:
            for (int i = 0; i < n; i++)
                if (open[i] == fd) open[i] = open[n - 1];
            n--;
            break;
        case 2:
            for (int i = 0; i < n; i++) shutdown(open[i], SHUT_RD);
            closing = NULL; // switches the case off
            break;
        }
    }
    free(open);
    csp_unref(s.arriving);
    csp_unref(s.leaving);
    csp_unref(s.closing);
}

/* ---- client ---- */

typedef struct http_response {
    lines in; // fd < 0: none
    int status;
    int64_t length; // of the body that has not been read; -1: until the end of the stream
    char type[96];
} http_response;

/* Sends a request, and reads the answer up to its body: 0 or a negative errno. */
static inline int http_ask(http_response *a, const char *address, const char *head,
                           const char *body, size_t size, int64_t t)
{
    char line[HTTP_LINE];
    *a = (http_response){.in = {.fd = csp_dial_until(address, t)}, .length = -1};
    if (a->in.fd < 0) return a->in.fd;
    int n = write_until(a->in.fd, head, strlen(head), t);
    if (n == 0) n = write_until(a->in.fd, body, size, t);
    if (n == 0) n = read_line(&a->in, line, sizeof line, t);
    if (n >= 0 && sscanf(line, "HTTP/1.%*d %d", &a->status) != 1) n = -EPROTO;
    while (n >= 0 && (n = read_line(&a->in, line, sizeof line, t)) > 0) {
        const char *value = strchr(line, ':');
        if (value == NULL) return -EPROTO;
        value += 1 + strspn(value + 1, " ");
        if (strncasecmp(line, "content-length:", 15) == 0) a->length = http_number(value);
        if (strncasecmp(line, "content-type:", 13) == 0)
            snprintf(a->type, sizeof a->type, "%s", value);
        if (strncasecmp(line, "transfer-encoding:", 18) == 0) return -EPROTO;
    }
    return n < 0 ? n : 0;
}

/* More of the body: a count, 0 at its end, or a negative errno. */
static inline csp_ssize http_take(http_response *a, char *to, size_t size, int64_t t)
{
    lines *in = &a->in;
    if (a->length == 0) return 0;
    if (in->at == in->end) {
        int e = lines_fill(in, t);
        if (e < 0) return e == -ENODATA && a->length < 0 ? 0 : e;
    }
    size_t n = in->end - in->at;
    if (n > size) n = size;
    if (a->length > 0 && (int64_t)n > a->length) n = (size_t)a->length;
    memcpy(to, in->bytes + in->at, n);
    in->at += n;
    if (a->length > 0) a->length -= (int64_t)n;
    return (csp_ssize)n;
}

static inline void http_done(http_response *a)
{
    if (a->in.fd >= 0) csp_close_fd(a->in.fd);
}

/* Asks for a page: the status, or a negative errno; *body, ended by 0, is to be freed. */
static inline int http_get(const char *address, const char *target, char **body, int64_t t)
{
    char head[HTTP_LINE];
    http_response a;
    size_t at = 0;
    snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target,
             address);
    csp_ssize n = http_ask(&a, address, head, "", 0, t);
    *body = n < 0 ? NULL : (char *)calloc(1, HTTP_BODY + 1);
    if (n == 0) n = *body == NULL ? -ENOMEM : 1;
    for (; n > 0; at += (size_t)n)
        n = at == HTTP_BODY ? -EMSGSIZE : http_take(&a, *body + at, HTTP_BODY - at, t);
    http_done(&a);
    if (n == 0) return a.status;
    free(*body);
    *body = NULL;
    return (int)n;
}

#endif
