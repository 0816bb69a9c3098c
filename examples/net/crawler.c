/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * crawler.c - follows the links of a small web site, in four versions.
 *
 *     build/crawler        (the site is served by this program, on the loopback interface)
 *
 * What to notice: 1 starts a goroutine for each new link: it asks for all pages at once, which a
 * real server would not like, and does not know when it is done: it has to be told how many pages
 * there are. 2 has tokens: no more than three requests at the same time. 3 counts the lists that
 * are still to come, and so knows the end. 4 has three crawlers that live as long as the crawl,
 * and a main goroutine that gives each page to them only once.
 */
// check: tsan
#define _GNU_SOURCE // strcasecmp
#define CSP_IMPLEMENTATION
#include "csp.h"
#include "http.h"

#include <stdatomic.h>

enum { MOST = 3, LINKS = 8, PAGES = 81 };

typedef struct url {
    char path[32];
} url;

typedef struct links {
    int n;
    url to[LINKS];
} links;

/* ---- the site: each page links to three others; the server counts its visitors ---- */

static csp_address site;
static atomic_int requests, visitors, most;

static void page(http_request *r, void *arg)
{
    char text[256];
    int64_t number = http_number(r->target + 1);
    int n = number < 0 || number > PAGES ? PAGES : (int)number, now = ++visitors, was = most;
    (void)arg;
    while (now > was && !atomic_compare_exchange_weak(&most, &was, now)) continue;
    requests++;
    if (n < PAGES / 2) csp_sleep(5 * CSP_MILLISECOND);
    snprintf(text, sizeof text, "<a href=\"/%d\"> <a href=\"/%d\"> <a href=\"/%d\">", 2 * n + 1,
             2 * n + 2, n / 2);
    visitors--;
    if (n < PAGES / 2)
        http_text(r, 200, text);
    else
        http_text(r, 404, "no such page");
}

csp_task(serve_site, int, listener, csp_receiver(int), stop, csp_sender(bool), stopped)
{
    static const http_limits limits = {10 * CSP_SECOND, 10 * CSP_SECOND, 10 * CSP_SECOND};
    http_run(listener, &limits, page, NULL, stop);
    csp_close(stopped);
}

/* ---- what all versions share ---- */

static links crawl(url u)
{
    char *body;
    links found = {.n = 0};
    int status = http_get(site.text, u.path, &body, csp_now() + 10 * CSP_SECOND);
    for (char *s = body; status == 200 && (s = strstr(s, "href=\"")) != NULL && found.n < LINKS;) {
        s += strlen("href=\"");
        snprintf(found.to[found.n++].path, sizeof u.path, "%.*s", (int)strcspn(s, "\""), s);
    }
    free(body);
    return found;
}

typedef struct seen {
    int n;
    url pages[2 * PAGES];
} seen;

static bool is_new(seen *s, url u)
{
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->pages[i].path, u.path) == 0) return false;
    if (s->n == 2 * PAGES) return false;
    s->pages[s->n++] = u;
    return true;
}

static const links root = {1, {{"/0"}}};

csp_task(crawl_one, url, u, csp_sender(links), worklist, csp_chan(bool), tokens)
{
    csp_send(tokens, true); // waits while there is none
    links found = crawl(u);
    csp_recv(tokens, NULL);
    csp_send(worklist, found);
    csp_unref(worklist); // it has had a reference of its own: main may have gone
    csp_unref(tokens);
}

/* ---- 1 and 2: how many at once; ends after PAGES ---- */

static int unlimited_or_tokens(int at_once)
{
    csp_chan(links) worklist = csp_make(links, PAGES + 1);
    csp_chan(bool) tokens = csp_make(bool, at_once);
    seen s = {.n = 0};
    csp_send(worklist, root);
    csp_range(list, worklist) {
        for (int i = 0; i < list.n; i++) {
            if (is_new(&s, list.to[i]))
                csp_go(crawl_one, list.to[i], csp_send_end(csp_ref(worklist)), csp_ref(tokens));
        }
        if (s.n == PAGES) break;
    }
    while (requests < PAGES) csp_sleep(CSP_MILLISECOND);
    csp_unref(worklist);
    csp_unref(tokens);
    return s.n;
}

/* ---- 3: ends when nothing is outstanding ---- */

static int counting(int at_once)
{
    csp_chan(links) worklist = csp_make(links, 1);
    csp_chan(bool) tokens = csp_make(bool, at_once);
    seen s = {.n = 0};
    csp_send(worklist, root);
    for (int outstanding = 1; outstanding > 0; outstanding--) {
        links list;
        csp_recv(worklist, &list);
        for (int i = 0; i < list.n; i++) {
            if (!is_new(&s, list.to[i])) continue;
            csp_go(crawl_one, list.to[i], csp_send_end(csp_ref(worklist)), csp_ref(tokens));
            outstanding++;
        }
    }
    csp_unref(worklist);
    csp_unref(tokens);
    return s.n;
}

/* ---- 4: a crew that stays ---- */

csp_task(crawler, csp_receiver(url), unseen, csp_sender(links), worklist)
{
    csp_range(u, unseen) csp_send(worklist, crawl(u));
    csp_unref(unseen);
    csp_unref(worklist);
}

static int crew(int at_once)
{
    csp_chan(links) worklist = csp_make(links, 2 * PAGES); // room for all: the crew never waits
    csp_chan(url) unseen = csp_make(url, 0);
    seen s = {.n = 0};
    for (int i = 0; i < at_once; i++)
        csp_go(crawler, csp_recv_end(csp_ref(unseen)), csp_send_end(csp_ref(worklist)));
    csp_send(worklist, root);
    for (int outstanding = 1; outstanding > 0; outstanding--) {
        links list;
        csp_recv(worklist, &list);
        for (int i = 0; i < list.n; i++) {
            if (!is_new(&s, list.to[i])) continue;
            csp_send(unseen, list.to[i]);
            outstanding++;
        }
    }
    csp_close(unseen); // the crew goes home
    csp_unref(unseen);
    csp_unref(worklist);
    return s.n;
}

static void version(const char *name, int (*crawl_all)(int), int at_once)
{
    most = requests = 0;
    int pages = crawl_all(at_once);
    printf("%s: %d pages, %d requests, %s\n", name, pages, requests,
           most > MOST ? "too many at once" : "never more than three at once");
}

csp_main(argc, argv)
{
    int listener = csp_listen("127.0.0.1:0");
    if (listener < 0 || csp_local_address(listener, &site) < 0) return 1;
    csp_chan(int) stop = csp_make(int, 1);
    csp_chan(bool) stopped = csp_make(bool, 0);
    csp_go(serve_site, listener, csp_recv_end(stop), csp_send_end(stopped));
    version("1 unlimited", unlimited_or_tokens, PAGES);
    version("2 tokens", unlimited_or_tokens, MOST);
    version("3 counting", counting, MOST);
    version("4 a crew", crew, MOST);
    csp_close(stop);
    csp_recv(stopped, NULL);
    csp_unref(stop);
    csp_unref(stopped);
    return 0;
}
