/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * clock.c - a server that tells each client the time, once a second, until the client leaves.
 *
 *     build/clock [-1] [ADDRESS [MILLISECONDS]]       and: build/netcat -1
 *
 * What to notice: the loop that serves a client is written as if there was only this one. With -1
 * the accepting loop calls it, and the second client waits until the first has gone; without, each
 * client gets a goroutine. That is the whole difference between the two servers.
 */
#define _GNU_SOURCE // localtime_r
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

csp_task(serve, int, client, int64_t, period)
{
    char text[16];
    for (int64_t next = csp_now();; next += period) {
        time_t now = time(NULL);
        struct tm local;
        size_t n = strftime(text, sizeof text, "%H:%M:%S\n", localtime_r(&now, &local));
        if (csp_write_full(client, text, n) < 0) break; // the client has left
        csp_sleep_until(next + period);
    }
    csp_close_fd(client);
}

csp_main(argc, argv)
{
    bool one_at_a_time = argc > 1 && strcmp(argv[1], "-1") == 0;
    if (one_at_a_time) argc--, argv++;
    const char *address = argc > 1 ? argv[1] : "localhost:8000";
    int64_t period = argc > 2 ? atoi(argv[2]) * CSP_MILLISECOND : CSP_SECOND;

    csp_address here;
    int listener = csp_listen(address);
    if (listener < 0 || csp_local_address(listener, &here) < 0) {
        fprintf(stderr, "clock: %s: %s\n", address, strerror(-listener));
        return 1;
    }
    fprintf(stderr, "listening on %s\n", here.text);
    for (int client; (client = csp_accept(listener)) >= 0;) {
        if (one_at_a_time)
            serve(client, period);
        else
            csp_go(serve, client, period);
    }
    return 1;
}
