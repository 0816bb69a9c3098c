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
#include <sys/uio.h>
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
    char method[16], target[HTTP_LINE], host[272], range[64];
    int64_t body; // bytes of it that have not been read
    bool keep_alive, expects_continue;
    bool says_keep; // HTTP/1.0 wants to be told that the connection stays
    int status;     // what was answered, and how much of it
    int64_t sent;
    const http_limits *limits;
    // of the connection
    time_t second; // of the date
    char date[40];
    csp_address peer;
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

/* The bytes of a token, which methods and names of fields are (RFC 9110, 5.6.2). */
static inline size_t http_token(const char *text)
{
    static const unsigned char is[256] = {
        ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1,
        ['-'] = 1, ['.'] = 1, ['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1,  ['~'] = 1, ['0'] = 1,
        ['1'] = 1, ['2'] = 1, ['3'] = 1, ['4'] = 1, ['5'] = 1, ['6'] = 1,  ['7'] = 1, ['8'] = 1,
        ['9'] = 1, ['A'] = 1, ['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1,  ['F'] = 1, ['G'] = 1,
        ['H'] = 1, ['I'] = 1, ['J'] = 1, ['K'] = 1, ['L'] = 1, ['M'] = 1,  ['N'] = 1, ['O'] = 1,
        ['P'] = 1, ['Q'] = 1, ['R'] = 1, ['S'] = 1, ['T'] = 1, ['U'] = 1,  ['V'] = 1, ['W'] = 1,
        ['X'] = 1, ['Y'] = 1, ['Z'] = 1, ['a'] = 1, ['b'] = 1, ['c'] = 1,  ['d'] = 1, ['e'] = 1,
        ['f'] = 1, ['g'] = 1, ['h'] = 1, ['i'] = 1, ['j'] = 1, ['k'] = 1,  ['l'] = 1, ['m'] = 1,
        ['n'] = 1, ['o'] = 1, ['p'] = 1, ['q'] = 1, ['r'] = 1, ['s'] = 1,  ['t'] = 1, ['u'] = 1,
        ['v'] = 1, ['w'] = 1, ['x'] = 1, ['y'] = 1, ['z'] = 1};
    size_t n = 0;
    while (is[(unsigned char)text[n]]) n++;
    return n;
}

/* A line of a head, without its \r\n: its length, or a negative errno; -EBADMSG for one that two
 * readers may read as different lines: one that ends without \r, a \r elsewhere, another control
 * character, NUL. What the end of the stream cuts off is no line. */
static inline int http_line(lines *in, char *line, size_t size, int64_t t)
{
    for (size_t n = 0;;) {
        int error = in->at == in->end ? lines_fill(in, t) : 0;
        if (error < 0) return error;
        unsigned char c = (unsigned char)in->bytes[in->at++];
        bool ends = n > 0 && line[n - 1] == '\r';
        if (ends != (c == '\n')) return -EBADMSG;
        if (ends) return line[n - 1] = 0, (int)n - 1;
        if ((c < ' ' && c != '\t' && c != '\r') || c == 0x7f) return -EBADMSG;
        if (n + 1 == size) return -EMSGSIZE;
        line[n++] = (char)c;
    }
}

/* A field's name and value of its line, which ends the name; NULL when it is none. A line that
 * begins with a space would go on with the field before to some, and be one of its own to others.
 */
static inline char *http_value(char *line)
{
    size_t n = http_token(line);
    if (n == 0 || line[n] != ':') return NULL;
    line[n] = 0;
    char *value = line + n + 1 + strspn(line + n + 1, " \t");
    for (n = strlen(value); n > 0 && (value[n - 1] == ' ' || value[n - 1] == '\t'); n--)
        value[n - 1] = 0;
    return value;
}

/* True when a list, as of Connection, has the word among its members. */
static inline bool http_lists(const char *list, const char *word)
{
    for (size_t n; *list != 0; list += n) {
        list += strspn(list, ", \t");
        n = strcspn(list, ",");
        size_t k = n;
        while (k > 0 && (list[k - 1] == ' ' || list[k - 1] == '\t')) k--;
        if (k == strlen(word) && strncasecmp(list, word, k) == 0) return true;
    }
    return false;
}

/* A name, an address or [an address], and a port or none (RFC 9110, 7.2). */
static inline bool http_is_host(const char *host)
{
    size_t n;
    if (*host == '[') {
        n = 1 + strspn(host + 1, "0123456789abcdefABCDEF:.");
        if (n == 1 || host[n++] != ']') return false;
    } else {
        n = strspn(host, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "-._~%!$&'()*+;=");
        if (n == 0) return false;
    }
    if (host[n] == 0) return true;
    return host[n] == ':' && host[n + 1 + strspn(host + n + 1, "0123456789")] == 0;
}

/* What is asked for (RFC 9112, 3.2): false when it is nothing that may be. The host of an absolute
 * target counts instead of the field's. */
static inline bool http_is_target(http_request *r)
{
    char *t = r->target;
    for (const char *c = t; *c != 0; c++)
        if (*c <= ' ' || *c > '~' || *c == '#') return false;
    if (strncasecmp(t, "http://", 7) == 0) {
        size_t n = strcspn(t + 7, "/?");
        char *path = t + 7 + n;
        if (n >= sizeof r->host) return false;
        memcpy(r->host, t + 7, n);
        r->host[n] = 0;
        if (!http_is_host(r->host)) return false;
        if (*path != '/') *--path = '/'; // over the host's last byte
        memmove(t, path, strlen(path) + 1);
    }
    return t[0] == '/' || (strcmp(t, "*") == 0 && strcmp(r->method, "OPTIONS") == 0);
}

/* A method, a target and a version, one space between two: 0, or the status of the refusal. */
static inline int http_request_line(http_request *r, char *line, int *minor)
{
    char *target, *version;
    size_t n = http_token(line);
    if (n == 0 || line[n] != ' ') return 400;
    if (n >= sizeof r->method) return 501;
    memcpy(r->method, line, n);
    r->method[n] = 0;
    target = line + n + 1;
    n = strcspn(target, " ");
    version = target + n + (target[n] != 0);
    if (n == 0 || strncmp(version, "HTTP/", 5) != 0 || version[5] < '0' || version[5] > '9' ||
        version[6] != '.' || version[7] < '0' || version[7] > '9' || version[8] != 0)
        return 400;
    if (version[5] != '1') return 505;
    *minor = version[7] - '0';
    memcpy(r->target, target, n);
    r->target[n] = 0;
    return http_is_target(r) ? 0 : 400;
}

/* What the fields of a head say together. */
typedef struct http_fields {
    bool close, keep, host, range, if_range;
} http_fields;

/* One header field: 0, or the status of the refusal. What could be read in two ways is refused,
 * since somebody else on the way may have read it in the other. */
static inline int http_field(http_request *r, http_fields *f, char *line)
{
    char *value = http_value(line);
    if (value == NULL) return 400;
    if (strcasecmp(line, "content-length") == 0) {
        int64_t n = http_number(value);
        if (n < 0 || (r->body >= 0 && r->body != n)) return 400;
        r->body = n;
    } else if (strcasecmp(line, "transfer-encoding") == 0) {
        return 501;
    } else if (strcasecmp(line, "connection") == 0) {
        f->close = f->close || http_lists(value, "close");
        f->keep = f->keep || http_lists(value, "keep-alive");
    } else if (strcasecmp(line, "host") == 0) {
        if (f->host || strlen(value) >= sizeof r->host || !http_is_host(value)) return 400;
        f->host = true;
        if (r->host[0] == 0) strcpy(r->host, value);
    } else if (strcasecmp(line, "range") == 0) {
        if (f->range) return 400;
        f->range = true; // one that is longer is one that we do not understand: all is sent
        if (strlen(value) < sizeof r->range) strcpy(r->range, value);
    } else if (strcasecmp(line, "if-range") == 0) {
        f->if_range = true; // by something that no answer of ours has had: the condition is false
    } else if (strcasecmp(line, "expect") == 0) {
        r->expects_continue = strcasecmp(value, "100-continue") == 0;
    }
    return 0;
}

/* 0, a status, or a negative errno when the connection has come to its end. */
static inline int http_read_request(http_request *r)
{
    char line[HTTP_LINE];
    int minor = 0, n = 0, refused;
    http_fields f = {.close = false};
    r->method[0] = r->target[0] = r->host[0] = r->range[0] = 0;
    r->body = -1;
    r->keep_alive = r->expects_continue = r->says_keep = false;
    if (r->in->at == r->in->end && (n = lines_fill(r->in, csp_now() + r->limits->idle)) < 0)
        return n;
    r->until = csp_now() + r->limits->request;
    do { // empty lines before a request are to be ignored
        n = http_line(r->in, line, sizeof line, r->until);
    } while (n == 0);
    if (n < 0) return n == -EMSGSIZE ? 414 : n == -ETIMEDOUT ? 408 : n == -EBADMSG ? 400 : n;
    if ((refused = http_request_line(r, line, &minor)) != 0) return refused;
    for (int headers = 0; (n = http_line(r->in, line, sizeof line, r->until)) != 0; headers++) {
        if (n < 0) return n == -EMSGSIZE ? 431 : n == -ETIMEDOUT ? 408 : n == -EBADMSG ? 400 : n;
        if (headers == HTTP_HEADERS) return 431;
        if ((refused = http_field(r, &f, line)) != 0) return refused;
    }
    if (minor > 0 && !f.host) return 400;
    if (minor == 0) r->expects_continue = false;
    if (f.if_range) r->range[0] = 0;
    r->says_keep = minor == 0 && f.keep && !f.close;
    r->keep_alive = !f.close && (minor > 0 || f.keep);
    if (r->body <= 0) r->body = 0, r->expects_continue = false;
    return r->body > HTTP_BODY ? 413 : 0;
}

/* The next bytes of the body: a count, 0 at its end, or a negative errno. */
static inline csp_ssize http_read_body(http_request *r, char *to, size_t size)
{
    lines *in = r->in;
    if (r->body == 0) return 0;
    if (r->expects_continue) {
        r->expects_continue = false;
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        int e = write_until(in->fd, go_on, sizeof go_on - 1, r->until);
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

/* No body comes with these, whatever their fields say. */
static inline bool http_is_bare(int status)
{
    return status < 200 || status == 204 || status == 304;
}

/* Puts text at `to`; returns its end. */
static inline char *http_put(char *to, const char *text)
{
    size_t n = strlen(text);
    memcpy(to, text, n);
    return to + n;
}

static inline char *http_put_number(char *to, int64_t n)
{
    char digits[24], *d = digits + sizeof digits - 1;
    *d = 0;
    do *--d = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    return http_put(to, d);
}

/* The field Date, made once in a second. */
static inline const char *http_date(http_request *r)
{
    time_t now = time(NULL);
    struct tm utc;
    if (now != r->second)
        strftime(r->date, sizeof r->date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n",
                 gmtime_r(&now, &utc));
    r->second = now;
    return r->date;
}

/* Answers with as much of the body as there is; the rest, up to `length`, follows by http_send or
 * http_send_file; -1: the end of the connection ends it. `fields` are more header lines, each ended
 * by \r\n. */
static inline void http_reply(http_request *r, int status, const char *fields, const char *body,
                              size_t size, int64_t length)
{
    char head[1024], *h = head;
    if (strlen(fields) > sizeof head / 2) csp_panic("http_reply: too many fields");
    // Who has not been told to send the body may send it, or the next request: no more is read.
    if (r->expects_continue) r->keep_alive = false;
    h = http_put(http_put_number(http_put(h, "HTTP/1.1 "), status), " ");
    h = http_put(http_put(http_put(h, http_reason(status)), "\r\n"), http_date(r));
    h = http_put(h, fields);
    if (!r->keep_alive) h = http_put(h, "Connection: close\r\n");
    if (r->keep_alive && r->says_keep) h = http_put(h, "Connection: keep-alive\r\n");
    if (length >= 0 && !http_is_bare(status))
        h = http_put(http_put_number(http_put(h, "Content-Length: "), length), "\r\n");
    h = http_put(h, "\r\n");
    r->status = status;
    r->sent = 0;
    r->until = csp_now() + r->limits->reply;
    if (strcmp(r->method, "HEAD") == 0 || http_is_bare(status)) size = 0;
    struct iovec parts[2] = {{head, (size_t)(h - head)}, {(void *)(uintptr_t)body, size}};
    // One call for both. What it leaves, with a client that is slow, goes the usual way.
    csp_ssize n = csp_writev_until(r->in->fd, parts, 2, r->until);
    size_t done = n > 0 ? (size_t)n : 0, first = parts[0].iov_len;
    int e = n < 0 ? (int)n : 0;
    if (e == 0 && done < first) e = write_until(r->in->fd, head + done, first - done, r->until);
    done = done < first ? 0 : done - first;
    if (e == 0 && done < size) e = write_until(r->in->fd, body + done, size - done, r->until);
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

/* n bytes of a file, from `at` on; false when the client is gone or the file has become shorter. */
static inline bool http_send_file(http_request *r, int file, int64_t at, int64_t n)
{
    for (csp_ssize k; n > 0; at += k, n -= k, r->sent += k) {
        r->until = csp_now() + r->limits->reply; // for as much as it takes at once
        k = csp_send_file_until(r->in->fd, file, at, n < 1 << 20 ? (size_t)n : 1 << 20, r->until);
        if (k <= 0) return r->keep_alive = false;
    }
    return true;
}

/* Whom the connection leads to. */
static inline const char *http_peer(http_request *r)
{
    if (r->peer.text[0] == 0 && csp_peer_address(r->in->fd, &r->peer) < 0)
        strcpy(r->peer.text, "?");
    return r->peer.text;
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
    char type[256];
} http_response;

/* Reads an answer up to its body: 0 or a negative errno; -EPROTO for what is none, or one whose end
 * cannot be told. What is said on the way to it (100 to 199) is passed over. */
static inline int http_read_answer(http_response *a, int64_t t)
{
    char line[HTTP_LINE];
    int n, left = HTTP_HEADERS;
    do {
        if ((n = http_line(&a->in, line, sizeof line, t)) < 0) return n;
        if (strncmp(line, "HTTP/1.", 7) != 0 || strspn(line + 7, "0123456789") != 1 ||
            line[8] != ' ' || strspn(line + 9, "0123456789") != 3 ||
            (line[12] != ' ' && line[12] != 0))
            return -EPROTO;
        a->status = (int)strtol(line + 9, NULL, 10);
        if (a->status < 100 || a->status == 101 || a->status > 599) return -EPROTO;
        a->length = -1;
        a->type[0] = 0;
        while ((n = http_line(&a->in, line, sizeof line, t)) > 0) {
            const char *value = http_value(line);
            if (value == NULL || left-- == 0) return -EPROTO;
            if (strcasecmp(line, "content-length") == 0) {
                int64_t length = http_number(value);
                if (length < 0 || (a->length >= 0 && a->length != length)) return -EPROTO;
                a->length = length;
            } else if (strcasecmp(line, "content-type") == 0) {
                if (strlen(value) >= sizeof a->type) return -EMSGSIZE;
                strcpy(a->type, value);
            } else if (strcasecmp(line, "transfer-encoding") == 0) {
                return -EPROTO; // not in an answer to HTTP/1.0
            }
        }
        if (n < 0) return n;
    } while (a->status < 200);
    if (http_is_bare(a->status)) a->length = 0;
    return 0;
}

/* Sends a request, of HTTP/1.0, to which the answer comes in one piece, and reads the answer up to
 * its body: 0 or a negative errno. */
static inline int http_ask(http_response *a, const char *address, const char *head,
                           const char *body, size_t size, int64_t t)
{
    *a = (http_response){.in = {.fd = csp_dial_until(address, t)}, .length = -1};
    if (a->in.fd < 0) return a->in.fd;
    int n = write_until(a->in.fd, head, strlen(head), t);
    if (n == 0) n = write_until(a->in.fd, body, size, t);
    return n == 0 ? http_read_answer(a, t) : n;
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

/* What stands in the field Host for an address that csp_dial takes. */
static inline const char *http_host_of(const char *address)
{
    return http_is_host(address) ? address : "localhost"; // "unix:/path" has none
}

/* Asks for a page: the status, or a negative errno; *body, ended by 0, is to be freed. */
static inline int http_get(const char *address, const char *target, char **body, int64_t t)
{
    char head[HTTP_LINE];
    http_response a;
    size_t at = 0;
    *body = NULL;
    for (const char *c = target; *c != 0; c++)
        if (*c <= ' ' || *c > '~') return -EINVAL; // the rest would be read as something else
    csp_ssize n = snprintf(head, sizeof head, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", target,
                           http_host_of(address));
    if (n >= (csp_ssize)sizeof head) return -EMSGSIZE;
    n = http_ask(&a, address, head, "", 0, t);
    if (n == 0) *body = (char *)calloc(1, HTTP_BODY + 1);
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
