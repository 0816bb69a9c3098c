/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * echo_server.c - a server that echoes what its clients shout: loud, as it was, faint.
 *
 *     build/echo_server [-1 | -2 | -3] [ADDRESS [MILLISECONDS]]      and: build/netcat
 *     build/echo_server --simulate
 *
 * What to notice: with -1 a shout waits until the one before has died away. With -2 each echo is a
 * goroutine and they overlap, but when the client has said its last word the server hangs up on
 * the echoes that are still in the air. With -3 it waits for them. The simulation runs the same
 * handler on connections that exist in virtual time only. The time of each echo is exact, and it
 * is the same however slowly bytes travel and in whichever order goroutines run; a hundred
 * schedules are tried.
 */
// check: windows
#define CSP_IMPLEMENTATION
#include "csp.h"
#include "lines.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct shout {
    char text[128];
} shout;

static void say(int client, shout s, int (*how)(int))
{
    char text[sizeof s.text + 2] = "\t";
    size_t n = 1;
    for (const char *c = s.text; *c != 0; c++) text[n++] = (char)how((unsigned char)*c);
    text[n++] = '\n';
    csp_write_full(client, text, n);
}

static int as_it_is(int c)
{
    return c;
}

csp_task(echo, int, client, shout, s, int64_t, delay, csp_waitgroup *, air)
{
    say(client, s, toupper);
    csp_sleep(delay);
    say(client, s, as_it_is);
    csp_sleep(delay);
    say(client, s, tolower);
    csp_waitgroup_done(air);
}

csp_task(serve, int, client, int, version, int64_t, delay)
{
    csp_waitgroup air = {0}; // the echoes that are in it
    lines in = {.fd = client};
    for (shout s; read_line(&in, s.text, sizeof s.text, CSP_FOREVER) >= 0;) {
        csp_waitgroup_add(&air, 1);
        if (version == 1)
            echo(client, s, delay, &air);
        else
            csp_go(echo, client, s, delay, &air);
    }
    // Not csp_close_fd: an echo that wakes later would write to the next owner of the number.
    if (version == 2) csp_close_write(client);
    csp_waitgroup_wait(&air);
    csp_close_fd(client);
}

/* ---- in virtual time ---- */

typedef struct play {
    int version;
    char heard[512];
} play;

csp_task(shouter, int, end)
{
    write_text(end, "Hello?\n");
    csp_sleep(400 * CSP_MILLISECOND);
    write_text(end, "Is there anybody there?\n");
    csp_sleep(700 * CSP_MILLISECOND);
    write_text(end, "Yooo-hooo!\n");
    csp_sleep(200 * CSP_MILLISECOND);
    csp_close_write(end);
}

static void perform(void *arg)
{
    play *p = (play *)arg;
    int ends[2];
    int64_t t0 = csp_now();
    csp_sim_pipe(ends);
    csp_go(serve, ends[0], p->version, CSP_SECOND);
    csp_go(shouter, ends[1]);
    lines in = {.fd = ends[1]};
    size_t at = 0;
    for (char text[128]; read_line(&in, text, sizeof text, CSP_FOREVER) >= 0;) {
        double t = (double)(csp_now() - t0) / CSP_SECOND;
        at += (size_t)snprintf(p->heard + at, sizeof p->heard - at, "%5.1f s%s\n", t, text);
    }
    csp_close_fd(ends[1]);
}

static int simulate(void)
{
    for (int version = 1; version <= 3; version++) {
        play first = {.version = version}, again;
        csp_simulate(&(csp_sim){.file = stderr}, perform, &first);
        printf("version %d\n%s", version, first.heard);
        for (uint64_t seed = 1; seed < 100; seed++) {
            again = (play){.version = version};
            csp_simulate(&(csp_sim){.seed = seed, .file = stderr}, perform, &again);
            if (strcmp(first.heard, again.heard) != 0) {
                printf("with seed %d:\n%s", (int)seed, again.heard);
                return 1;
            }
        }
    }
    return 0;
}

/* ---- in the world ---- */

static int listen_to(const char *address, int version, int64_t delay)
{
    csp_address here;
    int listener = csp_listen(address);
    if (listener < 0 || csp_local_address(listener, &here) < 0) {
        fprintf(stderr, "echo_server: %s: %s\n", address, strerror(-listener));
        return 1;
    }
    fprintf(stderr, "listening on %s\n", here.text);
    for (int client; (client = csp_accept(listener)) >= 0;) csp_go(serve, client, version, delay);
    return 1;
}

static void run(void *arg)
{
    char **argv = (char **)arg;
    int version = 3;
    if (argv[1] != NULL && argv[1][0] == '-') version = argv[1][1] - '0', argv++;
    const char *address = argv[1] != NULL ? argv[1] : "localhost:8000";
    int64_t ms = argv[1] != NULL && argv[2] != NULL ? atoi(argv[2]) : 1000;
    exit(listen_to(address, version, ms * CSP_MILLISECOND));
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--simulate") == 0) return simulate();
    csp_run(run, argv);
}
