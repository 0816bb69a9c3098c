/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * hiredis.c - hiredis's connection with csp's waiting: commands of many goroutines, pipelined.
 *
 * hiredis can be told not to block: it then reads and writes what there is. csp_wait_fd waits, so
 * that only the goroutine blocks. One goroutine owns the connection. It appends all commands that
 * are waiting, writes them at once, and hands out the replies in order: fifty goroutines share a
 * connection, and their commands share system calls.
 *
 *     hiredis HOST PORT
 */
// check: libs hiredis
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { ASKERS = 50, PIPELINE = 16 };

typedef struct command {
    char text[64];
    csp_sender(redisReply *) reply;
} command;

static void flush(redisContext *c)
{
    int done = 0;
    while (!done) {
        if (redisBufferWrite(c, &done) != REDIS_OK) csp_panic("redis: %s", c->errstr);
        if (!done) csp_wait_fd(c->fd, CSP_WRITABLE);
    }
}

static redisReply *reply(redisContext *c)
{
    void *r = NULL;
    for (;;) {
        if (redisGetReplyFromReader(c, &r) != REDIS_OK) csp_panic("redis: %s", c->errstr);
        if (r != NULL) return r;
        csp_wait_fd(c->fd, CSP_READABLE);
        if (redisBufferRead(c) != REDIS_OK) csp_panic("redis: %s", c->errstr);
    }
}

csp_task(connection, redisContext *, c, csp_receiver(command), commands)
{
    command under_way[PIPELINE];
    while (csp_recv(commands, &under_way[0])) {
        int n = 1;
        while (n < PIPELINE && csp_try_recv(commands, &under_way[n]) == CSP_OK) n++;
        for (int i = 0; i < n; i++) redisAppendCommand(c, under_way[i].text);
        flush(c);
        for (int i = 0; i < n; i++) csp_send(under_way[i].reply, reply(c));
    }
}

csp_task(ask, int, i, csp_sender(command), commands, csp_sender(long long), results)
{
    csp_chan(redisReply *) answer = csp_make(redisReply *, 1);
    command c = {.reply = csp_send_end(answer)};
    redisReply *r = NULL;
    snprintf(c.text, sizeof c.text, "INCRBY csp:sum %d", i);
    csp_send(commands, c);
    csp_recv(answer, &r);
    csp_send(results, r->type == REDIS_REPLY_INTEGER ? r->integer : -1);
    freeReplyObject(r);
    csp_unref(answer);
}

csp_main(argc, argv)
{
    redisContext *c = NULL;
    long long one, most = 0;
    if (argc != 3) return fprintf(stderr, "hiredis HOST PORT\n"), 2;
    signal(SIGPIPE, SIG_IGN); /* hiredis writes without MSG_NOSIGNAL */
    csp_blocking
    {
        c = redisConnectNonBlock(argv[1], atoi(argv[2]));
    } /* looks the name up */
    if (c == NULL || c->err != 0)
        return fprintf(stderr, "hiredis: %s\n", c == NULL ? "" : c->errstr), 1;
    csp_wait_fd(c->fd, CSP_WRITABLE);
    redisAppendCommand(c, "DEL csp:sum");
    flush(c);
    freeReplyObject(reply(c));
    csp_chan(command) commands = csp_make(command, PIPELINE);
    csp_chan(long long) results = csp_make(long long, 0);
    csp_waitgroup wg = {0};
    csp_waitgroup_go(&wg, connection, c, csp_recv_end(commands));
    for (int i = 1; i <= ASKERS; i++) csp_go(ask, i, csp_send_end(commands), csp_send_end(results));
    for (int i = 0; i < ASKERS; i++) {
        csp_recv(results, &one);
        if (one > most) most = one;
    }
    csp_close(commands);
    csp_waitgroup_wait(&wg);
    csp_unref(commands);
    csp_unref(results);
    redisFree(c);
    printf("%d goroutines, one connection: the sum is %lld\n", ASKERS, most);
    return 0;
}
