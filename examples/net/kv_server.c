/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * kv_server.c - a key-value server: the accept loop, time limits, back-pressure, and a graceful
 * end.
 *
 *     build/kv_server [ADDRESS [IDLE_MILLISECONDS]]      then: printf 'SET a 1\nGET a\n' |
 *     build/netcat
 *
 * A connection is a goroutine. What to notice:
 *   - silence has a limit: each read has a deadline, and so has each write, for clients that do not
 *     read. A semaphore bounds the connections: at the bound no more are accepted, and the next
 *     ones wait in the listener's queue;
 *   - the end is graceful. SIGTERM cancels a context. The descriptors are bound to it, so that
 *     every read that waits ends with -ECANCELED; a request that has been read is answered
 *     before;
 *   - the store is under a mutex, and csp_defer unlocks it on every way out.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"
#include "lines.h"

#include <signal.h>
#include <stdlib.h>

enum { CONNECTIONS = 1000, LINE = 512 };

typedef struct server {
    csp_ctx *ctx;     // its end is the server's
    csp_sem room;     // for connections
    csp_waitgroup wg; // the connections
    csp_mutex mu;     // guards store
    struct item {
        char key[64], value[256];
    } store[256];
    int64_t patience;
} server;

/* The item of a key, the first free one if there is none, or NULL. */
static struct item *find(server *s, const char *key)
{
    for (int i = 0; i < 256; i++)
        if (s->store[i].key[0] == 0 || strcmp(s->store[i].key, key) == 0) return &s->store[i];
    return NULL;
}

static void answer(server *s, const char *line, char *reply, size_t size)
{
    char key[64] = "", value[256] = "";
    csp_mutex_lock(&s->mu);
    csp_defer(csp_mutex_unlock, &s->mu);
    if (sscanf(line, "SET %63s %255[^\n]", key, value) == 2) {
        struct item *i = find(s, key);
        if (i != NULL) {
            strcpy(i->key, key);
            strcpy(i->value, value);
        }
        snprintf(reply, size, i != NULL ? "OK\n" : "FULL\n");
    } else if (sscanf(line, "GET %63s", key) == 1) {
        struct item *i = find(s, key);
        bool there = i != NULL && i->key[0] != 0;
        snprintf(reply, size, "%s\n", there ? i->value : "NONE");
    } else {
        snprintf(reply, size, "WHAT?\n");
    }
}

csp_task(serve, server *, s, int, fd)
{
    char line[LINE], reply[LINE];
    lines in = {.fd = fd};
    int error = csp_bind_fd(fd, s->ctx);
    while (error >= 0 &&
           (error = read_line(&in, line, sizeof line, csp_now() + s->patience)) >= 0) {
        answer(s, line, reply, sizeof reply);
        error = write_until(fd, reply, strlen(reply), csp_now() + 10 * CSP_SECOND);
    }
    if (error == -ETIMEDOUT || error == -ECANCELED) {
        csp_bind_fd(fd, NULL); /* so that these last words can be written */
        strcpy(reply, error == -ETIMEDOUT ? "too quiet\n" : "going down\n");
        write_until(fd, reply, strlen(reply), csp_now() + CSP_SECOND);
    }
    csp_close_fd(fd);
    csp_sem_release(&s->room, 1);
}

csp_task(accept_all, server *, s, int, listener)
{
    int fd = csp_bind_fd(listener, s->ctx);
    while (fd >= 0) {
        csp_sem_acquire(&s->room, 1);
        fd = csp_accept(listener);
        if (fd >= 0) csp_waitgroup_go(&s->wg, serve, s, fd);
    }
    csp_close_fd(listener);
}

csp_main(argc, argv)
{
    static server s;
    csp_address here;
    csp_chan(int) stop = csp_make(int, 1);
    int listener = csp_listen(argc > 1 ? argv[1] : "localhost:8000");
    if (listener < 0) return fprintf(stderr, "kv_server: %s\n", strerror(-listener)), 1;
    csp_local_address(listener, &here);
    fprintf(stderr, "listening on %s\n", here.text);

    s.ctx = csp_ctx_with_cancel(csp_ctx_background());
    s.patience = argc > 2 ? atoi(argv[2]) * CSP_MILLISECOND : CSP_MINUTE;
    csp_sem_init(&s.room, CONNECTIONS);
    csp_notify(stop, SIGTERM, SIGINT);
    csp_waitgroup_go(&s.wg, accept_all, &s, listener);

    csp_recv(stop, NULL);
    csp_ctx_cancel(s.ctx);
    csp_waitgroup_wait(&s.wg);
    csp_ctx_unref(s.ctx);
    csp_notify_stop(stop);
    csp_unref(stop);
    printf("all connections are closed\n");
    return 0;
}
