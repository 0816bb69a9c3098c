/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * httpd.c - a web server for the files of a directory, and for what another server has.
 *
 *     build/httpd [-q] [ADDRESS [DIRECTORY [IDLE_MILLISECONDS [PREFIX SERVER]]]]   ^C ends it
 *
 * What to notice: an answer is written as if there was only this one request; connections, limits
 * and the end are in http.h. No name leads out of the directory, and no symbolic link is followed.
 * A small file goes out in one call with the head of the answer (csp_writev), the rest of a large
 * one without a copy (csp_send_file). Files stay open for a second, for those who ask for the same
 * one. What begins with PREFIX is asked from the other server, which may be slow, or not there:
 * that is a status, and costs a goroutine. The access log is a goroutine, too: lines come from
 * everywhere, none is torn, and those that have come meanwhile are written together; -q: there is
 * none. What csp counts is at /metrics, as text that Prometheus reads. On SIGINT and SIGTERM,
 * whoever is being answered is answered.
 */
#define _GNU_SOURCE // strcasecmp, openat
#define CSP_IMPLEMENTATION
#include "csp.h"
#include "http.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct record {
    size_t size;
    char text[sizeof(csp_address) + 16 + 99 + 32]; // an address, a method, a target, two numbers
} record;

/* A file that is open, for several requests at a time. */
typedef struct opened {
    int refs; // atomic
    int file;
    int64_t size, since;
    const char *type;
    char path[];
} opened;

/* One of those that were asked for last, for each hash of a path. */
enum { SLOTS = 256 };
typedef struct slot {
    csp_mutex mu;
    opened *is; // or NULL
} slot;

typedef struct site {
    int root;                    // the directory
    const char *prefix, *behind; // what begins so is asked from there; "": nothing
    csp_chan(record) log;        // NULL: nobody writes one
    slot slots[SLOTS];
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

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The file's name from the target: 0, or the status of the refusal. */
static int decode(const char *target, char *path)
{
    size_t n = 0;
    for (const char *s = target + 1; *s != 0 && *s != '?'; s++) {
        path[n++] = *s;
        if (*s != '%') continue;
        int high = hex_digit(s[1]), low = high < 0 ? -1 : hex_digit(s[2]);
        if (low < 0 || 16 * high + low == 0) return 400;
        if (16 * high + low == '/') return 403; // a part of a name, which ours cannot have
        path[n - 1] = (char)(16 * high + low);
        s += 2;
    }
    path[n] = 0;
    for (const char *s = path; *s != 0; s += strcspn(s, "/"), s += *s == '/')
        if (*s == '.' || *s == '/') return 403; // .. and what is hidden, and what is not named
    if (n == 0 || path[n - 1] == '/') strcpy(path + n, "index.html");
    return 0;
}

/* Opens a file by its name, which it cuts up. No symbolic link is followed, since it may lead out
 * of the directory; looking where it leads before would be too early: it may lead elsewhere then.
 */
static int open_beneath(int root, char *path)
{
    const int how = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW;
    int at = root;
    for (char *slash; at >= 0 && (slash = strchr(path, '/')) != NULL; path = slash + 1) {
        *slash = 0;
        int next = openat(at, path, how | O_DIRECTORY);
        if (at != root) close(at);
        at = next;
    }
    int file = at < 0 ? -1 : openat(at, path, how);
    if (at >= 0 && at != root) close(at);
    return file;
}

/* The digits at *text, which it moves behind them: a number, INT64_MAX when it is larger, or -1. */
static int64_t digits(const char **text)
{
    const char *s = *text;
    int64_t n = *s >= '0' && *s <= '9' ? 0 : -1;
    for (; *s >= '0' && *s <= '9'; s++)
        n = n > (INT64_MAX - 9) / 10 ? INT64_MAX : 10 * n + (*s - '0');
    *text = s;
    return n;
}

/* "bytes=2-5", "bytes=2-", "bytes=-4": 206 and the range, 416, or 200 for the whole file. */
static int part(const char *range, int64_t size, int64_t *from, int64_t *to)
{
    *from = 0, *to = size - 1;
    if (strncasecmp(range, "bytes=", 6) != 0) return 200; // none, or none that we understand
    range += 6;
    int64_t a = digits(&range);
    if (*range++ != '-') return 200;
    int64_t b = digits(&range);
    if (*range != 0 || (a < 0 && b < 0) || (a >= 0 && b >= 0 && a > b)) return 200;
    if (a < 0) // the last b bytes
        *from = b < size ? size - b : 0;
    else
        *from = a;
    if (a >= 0 && b >= 0 && b < size) *to = b;
    return *from < size ? 206 : 416;
}

static void send_file(http_request *r, const opened *o)
{
    char fields[256], bytes[HTTP_COPY / 2];
    int64_t from, to;
    int status = part(strcmp(r->method, "GET") == 0 ? r->range : "", o->size, &from, &to);
    char *f = http_put(http_put(fields, "Content-Type: "), o->type);
    f = http_put(f, "\r\nAccept-Ranges: bytes\r\n");
    *f = 0;
    if (status == 206)
        snprintf(f, sizeof fields - (size_t)(f - fields), "Content-Range: bytes %lld-%lld/%lld\r\n",
                 (long long)from, (long long)to, (long long)o->size);
    if (status == 416) {
        snprintf(fields, sizeof fields, "Content-Range: bytes */%lld\r\n", (long long)o->size);
        http_reply(r, 416, fields, "", 0, 0);
        return;
    }
    bool head = strcmp(r->method, "HEAD") == 0;
    int64_t length = to - from + 1;
    size_t want = length < (int64_t)sizeof bytes ? (size_t)length : sizeof bytes;
    csp_ssize got = want == 0 || head ? 0 : pread(o->file, bytes, want, from);
    http_reply(r, status, fields, bytes, got > 0 ? (size_t)got : 0, length);
    if (head || got == length) return;
    if (got <= 0 || !http_send_file(r, o->file, from + got, length - got)) r->keep_alive = false;
}

/* Opens a regular file by its name, which it cuts up: a descriptor, or -1. */
static int open_file(int root, char *path, int64_t *size)
{
    struct stat info;
    int file = open_beneath(root, path);
    if (file >= 0 && fstat(file, &info) == 0 && S_ISREG(info.st_mode)) {
        *size = info.st_size;
        return file;
    }
    if (file >= 0) close(file);
    return -1;
}

static void let_go(opened *o)
{
    if (o == NULL || __atomic_sub_fetch(&o->refs, 1, __ATOMIC_ACQ_REL) != 0) return;
    close(o->file);
    free(o);
}

/* The file of that name, opened a second ago at most; NULL: there is none. */
static opened *look_up(site *s, char *path)
{
    uint32_t hash = 2166136261u;
    for (const char *c = path; *c != 0; c++) hash = (hash ^ (unsigned char)*c) * 16777619u;
    slot *at = &s->slots[hash % SLOTS];
    int64_t now = csp_now();
    size_t n = strlen(path) + 1;
    csp_mutex_lock(&at->mu);
    opened *o = at->is, *old = NULL;
    if (o == NULL || now - o->since > CSP_SECOND || strcmp(o->path, path) != 0) {
        old = o;
        o = (opened *)malloc(sizeof *o + n);
        if (o == NULL) csp_panic("out of memory");
        *o = (opened){.refs = 1, .since = now, .type = type_of(path)};
        memcpy(o->path, path, n);
        o->file = open_file(s->root, path, &o->size);
        if (o->file < 0) free(o), o = NULL;
        at->is = o;
    }
    if (o != NULL) __atomic_add_fetch(&o->refs, 1, __ATOMIC_RELAXED);
    csp_mutex_unlock(&at->mu);
    let_go(old);
    return o;
}

static void serve_file(http_request *r, site *s)
{
    char path[HTTP_LINE + 16];
    int status = decode(r->target, path);
    if (strcmp(r->method, "GET") != 0 && strcmp(r->method, "HEAD") != 0) {
        http_reply(r, 405, "Allow: GET, HEAD\r\n", "", 0, 0);
    } else if (status != 0) {
        http_text(r, status, status == 400 ? "no such escape\n" : "not from here\n");
    } else {
        opened *o = look_up(s, path);
        if (o == NULL)
            http_text(r, 404, "no such file\n");
        else
            send_file(r, o);
        let_go(o);
    }
}

/* ---- what another server answers ---- */

static int ask_behind(http_request *r, site *s, http_response *a, int64_t t)
{
    char head[2 * HTTP_LINE], *body = malloc(HTTP_BODY);
    size_t size = 0;
    csp_ssize n = body == NULL ? -ENOMEM : 1;
    a->in.fd = -1;
    for (; n > 0; size += (size_t)n) n = http_read_body(r, body + size, HTTP_BODY - size);
    if (n == 0)
        n = snprintf(head, sizeof head, "%s %s HTTP/1.0\r\nHost: %s\r\nContent-Length: %zu\r\n\r\n",
                     r->method, r->target, r->host[0] != 0 ? r->host : http_host_of(s->behind),
                     size);
    if (n >= (csp_ssize)sizeof head) n = -EMSGSIZE;
    if (n > 0) n = http_ask(a, s->behind, head, body, size, t);
    free(body);
    return (int)n;
}

static void pass_on(http_request *r, site *s)
{
    http_response a;
    char fields[sizeof a.type + 32], bytes[HTTP_COPY];
    int64_t t = csp_now() + 10 * CSP_SECOND;
    int n = ask_behind(r, s, &a, t);
    if (n < 0) {
        http_text(r, n == -ETIMEDOUT ? 504 : 502, "nobody there\n");
    } else {
        if (a.length < 0) r->keep_alive = false; // only the end tells the end
        snprintf(fields, sizeof fields, "Content-Type: %s\r\n", a.type);
        http_reply(r, a.status, a.type[0] != 0 ? fields : "", "", 0, a.length);
        bool head = strcmp(r->method, "HEAD") == 0;
        while (!head && (n = (int)http_take(&a, bytes, sizeof bytes, t)) > 0)
            if (!http_send(r, bytes, (size_t)n)) break;
        if (n < 0) r->keep_alive = false;
    }
    http_done(&a);
}

/* ---- what csp counts ---- */

static void serve_metrics(http_request *r)
{
    csp_stats n;
    csp_get_stats(&n);
    const struct {
        const char *name, *kind, *help;
        double value;
    } rows[] = {
        {"csp_goroutines", "gauge", "Goroutines that exist.", (double)n.goroutines},
        {"csp_goroutines_runnable", "gauge", "Goroutines that wait for a processor.",
         (double)n.runnable},
        {"csp_processors", "gauge", "Processors that run goroutines.", (double)n.procs},
        {"csp_threads", "gauge", "Threads that run goroutines.", (double)n.threads},
        {"csp_stack_bytes", "gauge", "Address space for stacks.", (double)n.stack_bytes},
        {"csp_goroutines_started_total", "counter", "Goroutines started.", (double)n.spawned},
        {"csp_switches_total", "counter", "Goroutines given a processor.", (double)n.switches},
        {"csp_waits_total", "counter", "Turns that ended in a wait.", (double)n.waits},
        {"csp_timers_total", "counter", "Sleeps and deadlines that came.", (double)n.timers},
        {"csp_polls_total", "counter", "Times that descriptors were ready.", (double)n.polls},
        {"csp_steals_total", "counter", "Times a processor took work from another.",
         (double)n.steals},
        {"csp_handoffs_total", "counter", "Processors taken from goroutines that kept them.",
         (double)n.handoffs},
    };
    char text[4096];
    size_t at = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "# HELP %s %s\n# TYPE %s %s\n%s %.0f\n",
                               rows[i].name, rows[i].help, rows[i].name, rows[i].kind, rows[i].name,
                               rows[i].value);
    http_reply(r, 200, "Content-Type: text/plain; version=0.0.4\r\n", text, at, (int64_t)at);
}

static void answer(http_request *r, void *arg)
{
    site *s = (site *)arg;
    if (strcmp(r->target, "/metrics") == 0)
        serve_metrics(r);
    else if (s->prefix[0] != 0 && strncmp(r->target, s->prefix, strlen(s->prefix)) == 0)
        pass_on(r, s);
    else
        serve_file(r, s);
    if (s->log == NULL) return;

    record line;
    size_t n = strlen(r->target) < 99 ? strlen(r->target) : 99;
    char *t = http_put(http_put(line.text, http_peer(r)), " \"");
    t = http_put(http_put(t, r->method), " ");
    memcpy(t, r->target, n);
    for (char *end = t + n; t < end; t++) *t = *t < ' ' || *t > '~' ? '?' : *t;
    t = http_put_number(http_put(t, "\" "), r->status);
    t = http_put_number(http_put(t, " "), r->sent);
    line.size = (size_t)(t - line.text);
    csp_send(s->log, line);
}

/* ---- all of it ---- */

/* Writes what there is, before it waits for more. */
csp_task(write_log, csp_receiver(record), log, csp_sender(bool), done)
{
    char text[16384];
    size_t n = 0;
    record line;
    while (csp_recv(log, &line)) {
        do {
            memcpy(text + n, line.text, line.size);
            n += line.size;
            text[n++] = '\n';
        } while (n + sizeof line < sizeof text && csp_try_recv(log, &line) == CSP_OK);
        csp_write_full(STDERR_FILENO, text, n);
        n = 0;
    }
    csp_close(done);
}

csp_main(argc, argv)
{
    bool quiet = argc > 1 && strcmp(argv[1], "-q") == 0;
    if (quiet) argc--, argv++;
    const char *address = argc > 1 ? argv[1] : "localhost:8000", *root = argc > 2 ? argv[2] : ".";
    int64_t idle = argc > 3 ? atoi(argv[3]) * CSP_MILLISECOND : 10 * CSP_SECOND;
    http_limits limits = {idle, 10 * CSP_SECOND, 30 * CSP_SECOND};
    csp_address here;
    int listener = csp_listen(address);
    site s = {.root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
              .prefix = argc > 4 ? argv[4] : "",
              .behind = argc > 5 ? argv[5] : "",
              .log = quiet ? NULL : csp_make(record, 64)};
    if (listener < 0 || s.root < 0 || csp_local_address(listener, &here) < 0) {
        fprintf(stderr, "httpd: cannot serve %s on %s\n", root, address);
        return 1;
    }
    csp_chan(int) signals = csp_make(int, 1);
    csp_chan(bool) logged = csp_make(bool, 0);
    csp_notify(signals, SIGINT, SIGTERM);
    if (!quiet) csp_go(write_log, csp_recv_end(s.log), csp_send_end(logged));
    fprintf(stderr, "listening on %s\n", here.text);

    http_run(listener, &limits, answer, &s, csp_recv_end(signals));
    if (!quiet) {
        csp_close(s.log);
        csp_recv(logged, NULL);
    }
    for (int i = 0; i < SLOTS; i++) let_go(s.slots[i].is);
    fprintf(stderr, "closed\n");

    csp_notify_stop(signals);
    csp_unref(signals);
    csp_unref(logged);
    csp_unref(s.log);
    close(s.root);
    return 0;
}
