/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * httpd.c - a web server for the files of a directory.
 *
 *     build/httpd [ADDRESS [DIRECTORY [IDLE_MILLISECONDS]]]      ^C ends it
 *
 * What to notice: a goroutine per connection, and the code of one is a plain loop (http.h). Who is
 * connected is known to one goroutine, which each connection tells when it comes and goes. On
 * SIGINT or SIGTERM that one shuts the reading side of all: whoever waits for a request finds the
 * end of the stream, whoever is answering finishes first, and main waits until the last has left.
 * The access log is a goroutine, too: lines come from everywhere and none is torn.
 */
#define _GNU_SOURCE // strcasecmp, openat
#define CSP_IMPLEMENTATION
#include "csp.h"
#include "http.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct record {
    char text[256];
} record;

typedef struct site {
    int root; // the directory
    http_limits limits;
    csp_chan(int) arriving, leaving;
    csp_chan(bool) closing, empty;
    csp_chan(record) log;
} site;

/* ---- files ---- */

static const char *type_of(const char *path)
{
    static const char *const types[][2] = {{".html", "text/html"}, {".txt", "text/plain"},
                                           {".css", "text/css"},   {".js", "text/javascript"},
                                           {".png", "image/png"},  {".svg", "image/svg+xml"}};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof types / sizeof types[0]; i++)
        if (strcasecmp(dot, types[i][0]) == 0) return types[i][1];
    return "application/octet-stream";
}

/* The file's name from the target; false when it leads out of the directory. */
static bool decode(const char *target, char *path)
{
    size_t n = 0;
    for (const char *s = target + 1; *s != 0 && *s != '?' && *s != '#'; s++) {
        unsigned c = (unsigned char)*s;
        if (c == '%' && (sscanf(s + 1, "%2x", &c) != 1 || c == 0)) return false;
        if (*s == '%') s += 2;
        path[n++] = (char)c;
    }
    path[n] = 0;
    for (const char *s = path; s != NULL; s = strchr(s, '/'), s += s != NULL) {
        size_t k = strcspn(s, "/");
        if (k >= 1 && s[0] == '.') return false; // .. and what is hidden
    }
    if (n == 0 || path[n - 1] == '/') strcpy(path + n, "index.html");
    return path[0] != '/';
}

/* "bytes=2-5", "bytes=2-", "bytes=-4": 206 and the range, 416, or 200 for the whole file. */
static int part(const char *range, int64_t size, int64_t *from, int64_t *to)
{
    long long a, b;
    char more;
    *from = 0, *to = size - 1;
    if (sscanf(range, "bytes=-%lld%c", &b, &more) == 1 && b >= 0)
        *from = b < size ? size - b : 0;
    else if (sscanf(range, "bytes=%lld-%lld%c", &a, &b, &more) == 2 && a <= b)
        *from = a, *to = b < size ? b : size - 1;
    else if (sscanf(range, "bytes=%lld%c%c", &a, &more, &more) == 2 && more == '-')
        *from = a;
    else
        return 200; // none, or none that we understand
    return *from < size ? 206 : 416;
}

static void send_file(http_request *r, int file, int64_t size, const char *type)
{
    char fields[256], bytes[HTTP_COPY];
    int64_t from, to;
    int status = part(r->range, size, &from, &to);
    int n = snprintf(fields, sizeof fields, "Content-Type: %s\r\nAccept-Ranges: bytes\r\n", type);
    if (status == 206)
        snprintf(fields + n, sizeof fields - (size_t)n, "Content-Range: bytes %lld-%lld/%lld\r\n",
                 (long long)from, (long long)to, (long long)size);
    if (status == 416) {
        snprintf(fields, sizeof fields, "Content-Range: bytes */%lld\r\n", (long long)size);
        http_reply(r, 416, fields, "", 0, 0);
        return;
    }
    int64_t length = to - from + 1;
    csp_ssize got = length == 0 ? 0 : pread(file, bytes, sizeof bytes / 2, from);
    if (got > length) got = (csp_ssize)length;
    http_reply(r, status, fields, bytes, got > 0 ? (size_t)got : 0, length);
    if (strcmp(r->method, "HEAD") == 0) return;
    while (got > 0 && (from += got, length -= got) > 0) {
        size_t want = length < (int64_t)sizeof bytes ? (size_t)length : sizeof bytes;
        csp_blocking got = pread(file, bytes, want, from);
        if (got > 0 && !http_send(r, bytes, (size_t)got)) return;
    }
    if (length > 0) r->keep_alive = false; // the file has become shorter
}

static void answer(http_request *r, void *arg)
{
    site *s = (site *)arg;
    char path[HTTP_LINE + 16];
    struct stat info;
    int file = -1;
    if (strcmp(r->method, "GET") != 0 && strcmp(r->method, "HEAD") != 0)
        http_reply(r, 405, "Allow: GET, HEAD\r\n", "", 0, 0);
    else if (!decode(r->target, path))
        http_text(r, 403, "not from here\n");
    else if ((file = openat(s->root, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0 ||
             fstat(file, &info) < 0 || !S_ISREG(info.st_mode))
        http_text(r, 404, "no such file\n");
    else
        send_file(r, file, info.st_size, type_of(path));
    if (file >= 0) close(file);

    char who[CSP_ADDRESS_SIZE] = "?";
    record line;
    csp_peer_address(r->in->fd, who);
    snprintf(line.text, sizeof line.text, "%s \"%s %.99s\" %d %lld", who, r->method, r->target,
             r->status, (long long)r->sent);
    csp_send(s->log, line);
}

/* ---- connections ---- */

csp_task(connection, int, fd, site *, s)
{
    http_serve(fd, &s->limits, answer, s);
    csp_send(s->leaving, fd); // from now on nobody else knows the number
    csp_close_fd(fd);
}

/* Knows who is connected. When it has been told to close, it says when all have left. */
csp_task(keep_list, site *, s)
{
    int *open = NULL, n = 0, room = 0, fd = 0;
    csp_receiver(bool) closing = csp_recv_end(s->closing);
    while (closing != NULL || n > 0) {
        switch (csp_select(CSP_RECV(s->arriving, &fd), CSP_RECV(s->leaving, &fd),
                           CSP_RECV(closing, NULL))) {
        case 0:
            if (n == room &&
                (open = realloc(open, (size_t)(room = 2 * room + 16) * sizeof *open)) == NULL)
                csp_panic("out of memory");
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
    csp_close(s->empty);
}

csp_task(write_log, csp_receiver(record), log, csp_sender(bool), done)
{
    csp_range(line, log) fprintf(stderr, "%s\n", line.text);
    csp_close(done);
}

csp_task(accept_all, int, listener, site *, s)
{
    for (int fd; (fd = csp_accept(listener)) >= 0;) {
        csp_send(s->arriving, fd);
        csp_go(connection, fd, s);
    }
    csp_close(s->closing);
}

csp_main(argc, argv)
{
    const char *address = argc > 1 ? argv[1] : "localhost:8000", *root = argc > 2 ? argv[2] : ".";
    int64_t idle = argc > 3 ? atoi(argv[3]) * CSP_MILLISECOND : 10 * CSP_SECOND;
    char here[CSP_ADDRESS_SIZE];
    int signo = 0, listener = csp_listen(address);
    site s = {.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
              .limits = {idle, 10 * CSP_SECOND, 30 * CSP_SECOND},
              .arriving = csp_make(int, 0),
              .leaving = csp_make(int, 0),
              .closing = csp_make(bool, 0),
              .empty = csp_make(bool, 0),
              .log = csp_make(record, 64)};
    if (listener < 0 || s.root < 0 || csp_local_address(listener, here) < 0) {
        fprintf(stderr, "httpd: cannot serve %s on %s\n", root, address);
        return 1;
    }
    csp_chan(int) signals = csp_make(int, 1);
    csp_chan(bool) logged = csp_make(bool, 0);
    csp_notify(signals, SIGINT, SIGTERM);
    csp_go(write_log, csp_recv_end(s.log), csp_send_end(logged));
    csp_go(keep_list, &s);
    csp_go(accept_all, listener, &s);
    fprintf(stderr, "listening on %s\n", here);

    csp_recv(signals, &signo);
    csp_close_fd(listener); // and accept_all ends
    csp_recv(s.empty, NULL);
    csp_close(s.log);
    csp_recv(logged, NULL);
    fprintf(stderr, "closed by signal %d\n", signo);

    csp_notify_stop(signals);
    csp_unref(signals);
    csp_unref(logged);
    csp_unref(s.arriving);
    csp_unref(s.leaving);
    csp_unref(s.closing);
    csp_unref(s.empty);
    csp_unref(s.log);
    close(s.root);
    return 0;
}
