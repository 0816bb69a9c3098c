/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * pubsub.c - a publisher, and subscribers to all of it or to a topic.
 *
 * What to notice: the subscribers belong to the publisher's goroutine, and every wish is a message
 * to it: subscribe, evict, publish, close. It writes to all subscribers at once, each from a
 * goroutine with the same deadline, so that the subscribers that do not read cost one timeout
 * together, not one each. What they do not read in time they miss. It runs in virtual time here:
 * the delay is exact.
 */
// check: windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>
#include <string.h>

enum { BUFFER = 2, MAX_SUBSCRIBERS = 8 };

typedef const char *text;
typedef csp_chan(text) subscriber;
typedef bool (*filter)(text);

typedef struct request {
    enum { SUBSCRIBE, EVICT, PUBLISH, CLOSE } what;
    subscriber who;
    filter topic; // NULL: everything
    text message;
    csp_sender(bool) done; // an answer
} request;

typedef csp_chan(request) publisher;

csp_task(deliver, subscriber, to, text, message, int64_t, until, csp_sender(bool), done)
{
    csp_send(done, csp_send_until(to, message, until) == CSP_OK);
}

csp_task(publish_all, csp_receiver(request), requests, int64_t, patience)
{
    subscriber who[MAX_SUBSCRIBERS];
    filter topic[MAX_SUBSCRIBERS];
    csp_chan(bool) delivered = csp_make(bool, MAX_SUBSCRIBERS);
    int n = 0;
    csp_range(r, requests) {
        int sent = 0;
        for (int i = n - 1; i >= 0; i--) {
            if (r.what == PUBLISH && (topic[i] == NULL || topic[i](r.message))) {
                csp_go(deliver, who[i], r.message, csp_now() + patience, csp_send_end(delivered));
                sent++;
            } else if (r.what == CLOSE || (r.what == EVICT && who[i] == r.who)) {
                csp_close(who[i]);
                n--;
                who[i] = who[n], topic[i] = topic[n];
            }
        }
        if (r.what == SUBSCRIBE) who[n] = r.who, topic[n] = r.topic, n++;
        for (; sent > 0; sent--) csp_recv(delivered, NULL);
        csp_send(r.done, true);
    }
    csp_unref(delivered);
}

static void ask(publisher p, request r)
{
    csp_chan(bool) done = csp_make(bool, 0);
    r.done = csp_send_end(done);
    csp_send(p, r);
    csp_recv(done, NULL);
    csp_unref(done);
}

static subscriber subscribe(publisher p, filter topic)
{
    subscriber s = csp_make(text, BUFFER);
    ask(p, (request){.what = SUBSCRIBE, .who = s, .topic = topic});
    return s;
}

static void publish(publisher p, text message)
{
    int64_t t = csp_now();
    ask(p, (request){.what = PUBLISH, .message = message});
    printf("published \"%s\" in %.1f s\n", message, (double)(csp_now() - t) / CSP_SECOND);
}

static void drain(const char *name, subscriber s)
{
    printf("%s:", name);
    csp_range(message, s) printf(" \"%s\"", message);
    printf("\n");
    csp_unref(s);
}

static bool about_go(text message)
{
    return strstr(message, "golang") != NULL;
}

static void session(void *unused)
{
    publisher p = csp_make(request, 0);
    (void)unused;
    csp_go(publish_all, csp_recv_end(p), 100 * CSP_MILLISECOND);
    subscriber all = subscribe(p, NULL), golang = subscribe(p, about_go);
    publish(p, "hello, world!");
    publish(p, "hello, golang!");
    printf("waiting: %d for all, %d about golang\n", (int)csp_len(all), (int)csp_len(golang));

    subscriber lazy = subscribe(p, NULL); // `all` is not read any more, either
    for (int i = 0; i < 2; i++) publish(p, "golang, again");
    publish(p, "that is too much");

    ask(p, (request){.what = EVICT, .who = golang});
    drain("evicted", golang);
    ask(p, (request){.what = CLOSE});
    drain("all", all);
    drain("lazy", lazy);
    csp_close(p);
    while (csp_count() > 1) csp_yield();
    csp_unref(p);
}

int main(void)
{
    csp_simulate(&(csp_sim){.file = stderr}, session, NULL);
    return 0;
}
