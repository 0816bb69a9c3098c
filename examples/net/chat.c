/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * chat.c - a chat server: lines go to everybody.
 *
 *     build/chat [ADDRESS [IDLE_MILLISECONDS]]        and several: build/netcat
 *
 * What to notice: the set of clients belongs to one goroutine, the broadcaster, and no lock is
 * needed: whoever comes, goes or says something tells it through a channel. A client is a channel
 * too, that of what it is to be told; a goroutine each reads from the client and writes to it. The
 * broadcaster never waits for a client: one whose queue is full misses lines. Silence has a limit,
 * and so has talk: a line costs the broadcaster as much as there are clients, so that one that
 * floods would keep it from the others. Its lines are read as slowly as they may be said; the rest
 * waits where it came from.
 */
// check: windows
#define CSP_IMPLEMENTATION
#include "csp.h"
#include "lines.h"

#include <stdio.h>
#include <stdlib.h>

enum { QUEUE = 64, LINE = 256, CLIENTS = 1000 };
enum { BURST = 30, PACE = 100 }; // lines that may be said at once, and milliseconds for each other

typedef struct message {
    char text[sizeof(csp_address) + LINE];
} message;
typedef csp_chan(message) client;

typedef struct room {
    csp_chan(client) entering, leaving;
    csp_chan(message) messages;
    int64_t patience; // with those who say nothing
} room;

csp_task(broadcast, room *, r)
{
    client clients[CLIENTS], c;
    int n = 0;
    for (message m;;) {
        switch (csp_select(CSP_RECV(r->messages, &m), CSP_RECV(r->entering, &c),
                           CSP_RECV(r->leaving, &c))) {
        case 0:
            for (int i = 0; i < n; i++) csp_try_send(clients[i], m);
            break;
        case 1:
            if (n < CLIENTS)
                clients[n++] = c;
            else
                csp_close(c); // full: it hears nothing
            break;
        case 2:
            for (int i = 0; i < n; i++) {
                if (clients[i] != c) continue;
                clients[i] = clients[--n];
                csp_close(c);
            }
            break;
        }
    }
}

csp_task(tell, int, fd, csp_receiver(message), out, csp_sender(bool), done)
{
    bool hears = true;
    csp_range(m, out) {
        if (hears && write_until(fd, m.text, strlen(m.text), csp_now() + 10 * CSP_SECOND) < 0)
            hears = false;
    }
    csp_send(done, true);
}

static message say(const char *format, const char *who, const char *what)
{
    message m;
    snprintf(m.text, sizeof m.text, format, who, what);
    return m;
}

/* Waits until another line may be said; *until is when all that was said will have been paid. */
static void wait_for_turn(int64_t *until)
{
    const int64_t pace = PACE * CSP_MILLISECOND;
    int64_t now = csp_now();
    *until = (*until > now ? *until : now) + pace;
    csp_sleep_until(*until - BURST * pace);
}

csp_task(serve, int, fd, room *, r)
{
    csp_address address = {"?"};
    const char *who = address.text;
    char line[LINE];
    client me = csp_make(message, QUEUE);
    csp_chan(bool) told = csp_make(bool, 0);
    lines in = {.fd = fd};
    int64_t paid = 0;
    csp_peer_address(fd, &address);
    csp_go(tell, fd, csp_recv_end(me), csp_send_end(told));

    csp_send(me, say("You are %s%s\n", who, ""));
    csp_send(r->messages, say("%s has arrived%s\n", who, ""));
    csp_send(r->entering, me);
    while (read_line(&in, line, sizeof line, csp_now() + r->patience) >= 0) {
        csp_send(r->messages, say("%s: %s\n", who, line));
        wait_for_turn(&paid);
    }
    csp_send(r->leaving, me); // the broadcaster closes it, and tell ends
    csp_send(r->messages, say("%s has left%s\n", who, ""));

    csp_recv(told, NULL);
    csp_close_fd(fd);
    csp_unref(told);
    csp_unref(me);
}

csp_main(argc, argv)
{
    const char *address = argc > 1 ? argv[1] : "localhost:8000";
    room r = {csp_make(client, 0), csp_make(client, 0), csp_make(message, 0),
              argc > 2 ? atoi(argv[2]) * CSP_MILLISECOND : 5 * CSP_MINUTE};
    csp_address here;
    int listener = csp_listen(address);
    if (listener < 0 || csp_local_address(listener, &here) < 0) {
        fprintf(stderr, "chat: %s: %s\n", address, strerror(-listener));
        return 1;
    }
    fprintf(stderr, "listening on %s\n", here.text);
    csp_go(broadcast, &r);
    for (int fd; (fd = csp_accept(listener)) >= 0;) csp_go(serve, fd, &r);
    return 1;
}
