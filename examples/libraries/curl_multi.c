/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * curl_multi.c - any number of transfers in one goroutine, by libcurl's multi interface.
 *
 * libcurl says which descriptors it waits for, and when it wants to be called at the latest. The
 * goroutine waits for all of that in one select: CSP_FD for a descriptor, CSP_UNTIL for the time,
 * CSP_RECV for new work. No thread blocks.
 *
 *     curl_multi URL ...
 */
// check: libs libcurl
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <curl/curl.h>

enum { MOST = 64 };

typedef struct loop {
    CURLM *multi;
    int64_t until;
    struct watch {
        curl_socket_t fd;
        int events;
    } watched[MOST];
    int n;
} loop;

static int on_socket(CURL *curl, curl_socket_t fd, int what, void *arg, void *own)
{
    loop *l = arg;
    int i = 0;
    (void)curl;
    (void)own;
    while (i < l->n && l->watched[i].fd != fd) i++;
    if (what == CURL_POLL_REMOVE) {
        if (i < l->n) l->watched[i] = l->watched[--l->n];
        return 0;
    }
    if (i == MOST) return -1;
    if (i == l->n) l->n++;
    l->watched[i].fd = fd;
    l->watched[i].events =
        (what & CURL_POLL_IN ? CSP_READABLE : 0) | (what & CURL_POLL_OUT ? CSP_WRITABLE : 0);
    return 0;
}

static int on_timer(CURLM *multi, long ms, void *arg)
{
    (void)multi;
    ((loop *)arg)->until = ms < 0 ? CSP_FOREVER : csp_now() + ms * CSP_MILLISECOND;
    return 0;
}

static size_t count(char *data, size_t size, size_t n, void *to)
{
    (void)data;
    *(size_t *)to += size * n;
    return size * n;
}

typedef struct result {
    const char *url;
    long status;
    size_t bytes;
    CURLcode code;
} result;

static int ended(loop *l, csp_sender(result *) done)
{
    CURLMsg *message;
    int n = 0, left;
    while ((message = curl_multi_info_read(l->multi, &left)) != NULL) {
        result *r;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &r);
        curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &r->status);
        r->code = message->data.result;
        curl_multi_remove_handle(l->multi, message->easy_handle);
        curl_easy_cleanup(message->easy_handle);
        csp_send(done, r);
        n++;
    }
    return n;
}

csp_task(transfers, csp_receiver(result *), work, csp_sender(result *), done)
{
    loop l = {.multi = curl_multi_init(), .until = CSP_FOREVER};
    int running = 0, left;
    bool more = true;
    curl_multi_setopt(l.multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(l.multi, CURLMOPT_SOCKETDATA, &l);
    curl_multi_setopt(l.multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(l.multi, CURLMOPT_TIMERDATA, &l);
    while (more || running > 0) {
        csp_case cases[MOST + 2];
        result *r;
        int n = 0;
        cases[n++] = more ? CSP_RECV(work, &r, &more) : (csp_case){0};
        cases[n++] = CSP_UNTIL(l.until);
        for (int i = 0; i < l.n; i++) cases[n++] = CSP_FD(l.watched[i].fd, l.watched[i].events);
        int at = csp_select_n(cases, n);
        if (at == 0 && more) {
            CURL *curl = curl_easy_init();
            curl_easy_setopt(curl, CURLOPT_URL, r->url);
            curl_easy_setopt(curl, CURLOPT_PRIVATE, r);
            curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
            curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, count);
            curl_easy_setopt(curl, CURLOPT_WRITEDATA, &r->bytes);
            curl_multi_add_handle(l.multi, curl);
            running++;
        } else if (at == 1) {
            l.until = CSP_FOREVER;
            curl_multi_socket_action(l.multi, CURL_SOCKET_TIMEOUT, 0, &left);
        } else if (at > 1) {
            struct watch *w = &l.watched[at - 2];
            int events = (w->events & CSP_READABLE ? CURL_CSELECT_IN : 0) |
                         (w->events & CSP_WRITABLE ? CURL_CSELECT_OUT : 0);
            curl_multi_socket_action(l.multi, w->fd, events, &left);
        }
        running -= ended(&l, done);
    }
    curl_multi_cleanup(l.multi);
    csp_close(done);
}

csp_main(argc, argv)
{
    result results[MOST] = {{0}};
    csp_chan(result *) work = csp_make(result *, 0), done = csp_make(result *, MOST);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    csp_go(transfers, csp_recv_end(work), csp_send_end(done));
    for (int i = 1; i < argc && i < MOST; i++) {
        results[i].url = argv[i];
        csp_send(work, &results[i]);
    }
    csp_close(work);
    csp_range(r, done) (void)r;
    for (int i = 1; i < argc && i < MOST; i++)
        printf("%s: %s, status %ld, %zu bytes\n", results[i].url,
               curl_easy_strerror(results[i].code), results[i].status, results[i].bytes);
    csp_unref(work);
    csp_unref(done);
    curl_global_cleanup();
    return 0;
}
