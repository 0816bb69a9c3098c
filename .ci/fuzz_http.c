/* fuzz_http.c - a fuzzer (libFuzzer) for examples/net/http.h and httpd.c: requests, answers, names,
 * parts.
 *
 * A head that is accepted is read a second time, by a reader that knows lines and nothing else:
 * were there another way to read it, the two would differ.
 */
#define main httpd_main
#include "examples/net/httpd.c"
#undef main

#include <ctype.h>

#define MUST(x) ((x) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x), abort()))

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* The head of n bytes: lines that end in \r\n, the last empty, no control character in any. Returns
 * how many fields it has of that name; *value is the last one's. */
static int fields(const char *head, size_t n, const char *name, char *value)
{
    int count = 0;
    const size_t length = strlen(name);
    MUST(n >= 4 && memcmp(head + n - 4, "\r\n\r\n", 4) == 0);
    for (size_t at = 0, end; at < n; at = end + 2) {
        for (end = at; head[end] != '\r'; end++)
            MUST(head[end] == '\t' || (unsigned char)head[end] >= ' ');
        MUST(head[end + 1] == '\n' && (end > at || end + 2 == n));
        if (end - at <= length || strncasecmp(head + at, name, length) != 0) continue;
        if (head[at + length] != ':') continue;
        count++;
        size_t from = at + length + 1, to = end;
        while (from < to && (head[from] == ' ' || head[from] == '\t')) from++;
        while (from < to && (head[to - 1] == ' ' || head[to - 1] == '\t')) to--;
        MUST(to - from < HTTP_LINE);
        memcpy(value, head + from, to - from);
        value[to - from] = 0;
    }
    return count;
}

static void check_file(const http_request *r)
{
    static const int64_t sizes[] = {0, 1, 6, INT64_MAX};
    char path[HTTP_LINE + 16];
    if (r->target[0] != '/') return;
    if (decode(r->target, path) == 0) {
        MUST(path[0] != 0 && path[0] != '/' && path[strlen(path) - 1] != '/');
        MUST(path[0] != '.' && strstr(path, "/.") == NULL && strstr(path, "//") == NULL);
        size_t n = 0; // each byte comes from one, or from a whole escape
        for (const char *c = r->target + 1; *c != 0 && *c != '?'; c++, n++) {
            if (*c != '%') continue;
            MUST(isxdigit((unsigned char)c[1]) && isxdigit((unsigned char)c[2]));
            c += 2;
        }
        MUST(strlen(path) == n || strlen(path) == n + strlen("index.html"));
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int64_t from = -1, to = -1;
        int status = part(r->range, sizes[i], &from, &to);
        MUST(status == 200 || status == 206 || status == 416);
        if (status == 206) MUST(from >= 0 && from <= to && to < sizes[i]);
        if (status == 200) MUST(from == 0 && to == sizes[i] - 1);
    }
}

static void check_request(const http_request *r, const char *head, size_t n)
{
    char value[HTTP_LINE];
    while (n > 2 && memcmp(head, "\r\n", 2) == 0) head += 2, n -= 2;
    MUST(fields(head, n, "Transfer-Encoding", value) == 0);
    int lengths = fields(head, n, "Content-Length", value);
    MUST(lengths == 0 ? r->body == 0 : r->body == strtoll(value, NULL, 10));
    MUST(r->body >= 0 && r->body <= HTTP_BODY);
    MUST(fields(head, n, "Host", value) <= 1);
    MUST(strpbrk(r->host, "/ ,@\t") == NULL);
    size_t method = strlen(r->method);
    MUST(method > 0 && memcmp(head, r->method, method) == 0 && head[method] == ' ');
    MUST(r->target[0] == '/' || strcmp(r->target, "*") == 0);
    MUST(strpbrk(r->target, " #\t") == NULL);
    if (fields(head, n, "Connection", value) > 0 && strcasecmp(value, "close") == 0)
        MUST(!r->keep_alive);
    check_file(r);
}

static void requests(const uint8_t *bytes, size_t size)
{
    static const http_limits limits = {0, 0, 0};
    lines in = {.fd = -1, .end = size};
    http_request r = {.in = &in, .limits = &limits};
    memcpy(in.bytes, bytes, size);
    while (in.at < in.end) {
        char rest[100];
        size_t from = in.at;
        if (http_read_request(&r) != 0) break;
        check_request(&r, (const char *)bytes + from, in.at - from);
        r.expects_continue = false; // there is nobody to tell
        while (r.body > 0 && http_read_body(&r, rest, sizeof rest) > 0) continue;
        if (!r.keep_alive) break;
    }
}

static int answer_of(http_response *a, const void *bytes, size_t size)
{
    memset(a, 0, sizeof *a);
    a->in.fd = -1;
    a->in.end = size;
    memcpy(a->in.bytes, bytes, size);
    return http_read_answer(a, 0);
}

static void answers(const uint8_t *bytes, size_t size)
{
    static http_response a;
    char rest[100];
    if (answer_of(&a, bytes, size) != 0) return;
    MUST(a.status >= 200 && a.status <= 599 && a.length >= -1);
    MUST(strpbrk(a.type, "\r\n") == NULL);
    const int64_t length = a.length;
    int64_t all = 0;
    for (csp_ssize n; (n = http_take(&a, rest, sizeof rest, 0)) > 0;) all += n;
    MUST(length < 0 || all <= length);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size > sizeof((lines *)0)->bytes) return -1;
    requests(bytes, size);
    answers(bytes, size);
    return 0;
}

/* What httpd takes for the answer of the server behind it: no test can be that server without being
 * a program of its own. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const struct {
        const char *text;
        int error, status;
        int64_t length;
    } known[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 0, 200, 3},
        {"HTTP/1.0 200 \r\n\r\nabc", 0, 200, -1},
        {"HTTP/1.1 204\r\n\r\n", 0, 204, 0},
        {"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 0, 304, 0},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", 0, 200, 1},
        {"HTTP/1.1 103 Early\r\nContent-Length: 7\r\n\r\nHTTP/1.1 404 No\r\n\r\n", 0, 404, -1},
        {"HTTP/1.1 101 Switching Protocols\r\n\r\n", -EPROTO, 0, 0},
        {"HTTP/1.1 20 OK\r\n\r\n", -EPROTO, 0, 0},
        {"HTTP/1.1 2000 OK\r\n\r\n", -EPROTO, 0, 0},
        {"HTTP/1.1 -20 OK\r\n\r\n", -EPROTO, 0, 0},
        {"HTTP/2 200 OK\r\n\r\n", -EPROTO, 0, 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", -EPROTO, 0, 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc", -EPROTO, 0, 0},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc", -EPROTO, 0, 0},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", -EPROTO, 0, 0},
        {"HTTP/1.1 200 OK\r\nContent-Type: a\rSet-Cookie: b\r\n\r\n", -EBADMSG, 0, 0},
        {"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", -EBADMSG, 0, 0},
        {"HTTP/1.1 200 OK\r\n Content-Length: 3\r\n\r\nabc", -EPROTO, 0, 0},
    };
    static http_response a;
    (void)argc, (void)argv;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        int e = answer_of(&a, known[i].text, strlen(known[i].text));
        if (e == known[i].error &&
            (e != 0 || (a.status == known[i].status && a.length == known[i].length)))
            continue;
        fprintf(stderr, "%s\nis %d, %d, %lld\n", known[i].text, e, a.status, (long long)a.length);
        return abort(), 1;
    }
    return 0;
}
