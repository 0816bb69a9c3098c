/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * trace_part.c - a trace of the part that matters, started and stopped by the program.
 *
 *     build/trace_part [FILE]        and: load FILE, trace.json by default, into ui.perfetto.dev
 *
 * What to notice: a server that runs for a week is traced for the second in which it is slow.
 * Between csp_trace_start and csp_trace_stop each switch, wake-up, steal and hand-off is written;
 * before and after it nothing is, and nothing costs anything. When stop returns the file is whole.
 * CSP_TRACE=FILE in the environment does the same for the whole run, without a change to the
 * program.
 */
// check: windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

csp_task(stage, csp_receiver(int), in, csp_sender(int), out)
{
    csp_range(v, in) csp_send(out, v + 1);
    csp_close(out);
}

static int three_stages(int n)
{
    csp_chan(int) c[4];
    int sum = 0;
    for (int i = 0; i < 4; i++) c[i] = csp_make(int, 0);
    for (int i = 0; i < 3; i++) csp_go(stage, csp_recv_end(c[i]), csp_send_end(c[i + 1]));
    for (int i = 0, v; i < n; i++) {
        csp_send(c[0], i);
        csp_recv(c[3], &v);
        sum += v;
    }
    csp_close(c[0]);
    csp_recv(c[3], NULL);
    while (csp_count() > 1) csp_yield();
    for (int i = 0; i < 4; i++) csp_unref(c[i]);
    return sum;
}

/* How often text stands in the file. */
static int occurrences(const char *path, const char *text)
{
    char line[4096];
    int n = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) return -1;
    while (fgets(line, sizeof line, file) != NULL) n += strstr(line, text) != NULL;
    fclose(file);
    return n;
}

csp_main(argc, argv)
{
    const char *path = argc > 1 ? argv[1] : "trace.json";
    int sum = three_stages(1000); // not traced
    int error = csp_trace_start(path);
    if (error < 0) {
        fprintf(stderr, "trace_part: %s: %s\n", path, strerror(-error));
        return 1;
    }
    bool busy = csp_trace_start("other.json") == -EBUSY;
    printf("a second trace meanwhile: %s\n", busy ? "refused" : "?");
    sum += three_stages(10);
    csp_trace_stop();
    sum += three_stages(1000); // not traced
    printf("sum %d\n", sum);

    int turns = occurrences(path, "\"stage\"");
    fprintf(stderr, "%d turns\n", turns);
    printf("the three stages had their turns in it: %s\n", turns >= 30 ? "yes" : "no");
    printf("and only those of the part: %s\n", turns < 200 ? "yes" : "no");
    return 0;
}
