/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * netcat.c - connects stdin and stdout to a server, in three stages.
 *
 *     build/netcat [-1 | -2 | -3] [ADDRESS]
 *
 * What to notice: the first stage only listens. The second reads stdin at the same time, in the
 * main goroutine, and leaves with its end: what the server still has to say is lost. The third
 * closes one direction, which tells the server that no more will come, and waits for the goroutine
 * that copies the other until the server has had its last word.
 */
// check: windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>
#include <string.h>

static void copy(int to, int from)
{
    char bytes[4096];
    for (csp_ssize n; (n = csp_read(from, bytes, sizeof bytes)) > 0;) {
        if (csp_write_full(to, bytes, (size_t)n) < 0) break;
    }
}

csp_task(print, int, connection, csp_sender(bool), done)
{
    copy(1, connection);
    csp_send(done, true);
}

csp_main(argc, argv)
{
    int stage = 3;
    if (argc > 1 && argv[1][0] == '-') stage = argv[1][1] - '0', argc--, argv++;
    const char *address = argc > 1 ? argv[1] : "localhost:8000";
    int connection = csp_dial(address);
    if (connection < 0) {
        fprintf(stderr, "netcat: %s: %s\n", address, csp_error_text(connection));
        return 1;
    }
    if (stage == 1) return copy(1, connection), 0;

    csp_chan(bool) done = csp_make(bool, 1);
    csp_go(print, connection, csp_send_end(done));
    copy(connection, 0);
    if (stage == 2) return 0; // the printer is cut off
    csp_close_write(connection);
    csp_recv(done, NULL);
    csp_unref(done);
    return 0; // closes the connection, too
}
