/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * simulated.c - the web server's connections (http.h) tested in virtual time, under many schedules.
 *
 * What to notice: the server's code is the one that runs on sockets. Here its connection is a pipe
 * of the simulator, which cuts what is written into pieces and delays them as the seed has it, and
 * deadlines pass only when no goroutine can run: a client that sends a byte a second is cut off
 * after exactly ten of them, and the test takes no time. What a client hears must be the same
 * under each of two hundred seeds; the first that differs is printed, and plays again as
 * CSP_SEED=n.
 */
// check: arm64
#define _GNU_SOURCE // strcasecmp
#define CSP_IMPLEMENTATION
#include "csp.h"
#include "http.h"

typedef struct scene {
    const char *name;
    void (*client)(int end);
    char heard[1024];
} scene;

/* ---- the server: says what it was asked, and how long the body was ---- */

static void tell(http_request *r, void *arg)
{
    char text[HTTP_LINE + 64], bytes[16];
    csp_ssize n, total = 0;
    (void)arg;
    while ((n = http_read_body(r, bytes, sizeof bytes)) > 0) total += n;
    snprintf(text, sizeof text, "%s %s, %d bytes\n", r->method, r->target, (int)total);
    http_text(r, 200, text);
}

csp_task(serve, int, end)
{
    static const http_limits limits = {5 * CSP_SECOND, 10 * CSP_SECOND, 30 * CSP_SECOND};
    http_serve(end, &limits, tell, NULL);
    csp_close_fd(end);
}

/* ---- clients ---- */

static void in_a_row(int end)
{
    write_text(end, "GET /one HTTP/1.1\r\nHost: x\r\n\r\n"
                    "POST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 26\r\n\r\n"
                    "abcdefghijklmnopqrstuvwxyz"
                    "GET /three HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
}

static void silent(int end)
{
    (void)end;
}

static void silent_after_one(int end)
{
    write_text(end, "GET /one HTTP/1.1\r\nHost: x\r\n\r\n");
}

static void slow(int end)
{
    const char *request = "GET /slowly HTTP/1.1\r\nHost: x\r\n\r\n";
    for (; *request != 0 && csp_write(end, request, 1) == 1; request++) csp_sleep(CSP_SECOND);
}

static void gone(int end)
{
    write_text(end, "GET /half HTT");
    csp_close_write(end);
}

/* ---- the stage ---- */

csp_task(speak, scene *, s, int, end, csp_waitgroup *, wg)
{
    s->client(end);
    csp_waitgroup_done(wg);
}

static void perform(void *arg)
{
    scene *s = (scene *)arg;
    int ends[2], n;
    csp_waitgroup wg = {0};
    int64_t t0 = csp_now();
    size_t at = 0;
    csp_sim_pipe(ends);
    csp_go(serve, ends[0]);
    csp_waitgroup_add(&wg, 1);
    csp_go(speak, s, ends[1], &wg);
    lines in = {.fd = ends[1]};
    char text[256];
    while ((n = read_line(&in, text, sizeof text, CSP_FOREVER)) >= 0) {
        if (strncmp(text, "HTTP", 4) == 0 || strstr(text, "bytes") != NULL)
            at += (size_t)snprintf(s->heard + at, sizeof s->heard - at, "    %s\n", text);
    }
    snprintf(s->heard + at, sizeof s->heard - at, "    the end, after %.0f s\n",
             (double)(csp_now() - t0) / CSP_SECOND);
    csp_close_fd(ends[1]);
    csp_waitgroup_wait(&wg);
}

int main(void)
{
    static const scene scenes[] = {{"three in a row", in_a_row, ""},
                                   {"silent", silent, ""},
                                   {"silent after one", silent_after_one, ""},
                                   {"a byte a second", slow, ""},
                                   {"half of one, and gone", gone, ""}};
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++) {
        scene first = scenes[i];
        csp_simulate(&(csp_sim){.file = stderr}, perform, &first);
        printf("%s\n%s", first.name, first.heard);
        for (uint64_t seed = 1; seed < 200; seed++) {
            scene again = scenes[i];
            csp_sim_report r =
                csp_simulate(&(csp_sim){.seed = seed, .file = stderr}, perform, &again);
            if (r.outcome == CSP_SIM_OK && strcmp(first.heard, again.heard) == 0) continue;
            printf("seed %d\n%s", (int)seed, again.heard);
            return 1;
        }
    }
    return 0;
}
