/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * deadline_run.c - runs tasks one after the other, in a limit of time, until an interrupt.
 *
 *     build/deadline_run MILLISECONDS TASK...       a TASK is a name; ^C, or the task "interrupt"
 *
 * What to notice: the tasks run in a goroutine of their own and do not know about the limit; main
 * waits for their end or for the clock, whichever comes first. The signal is a value in a channel:
 * between two tasks the loop looks there, without waiting, and no handler runs in the middle of
 * anything. The exit code says how it ended: 0, 1 after the limit, 2 after an interrupt.
 */
// check: windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum ending { FINISHED, TIMED_OUT, INTERRUPTED } ending;

static void run_task(const char *name, csp_receiver(int) signals)
{
    printf("%s\n", name);
    if (strcmp(name, "interrupt") == 0) { // works on until the signal has been told
        raise(SIGINT);
        while (csp_len(signals) == 0) csp_sleep(CSP_MILLISECOND);
    }
    if (strcmp(name, "sleep") == 0) csp_sleep(CSP_HOUR);
}

csp_task(run_all, char **, names, csp_receiver(int), signals, csp_sender(ending), complete)
{
    for (; *names != NULL; names++) {
        if (csp_try_recv(signals, NULL) == CSP_OK) {
            csp_send(complete, INTERRUPTED);
            return;
        }
        run_task(*names, signals);
    }
    csp_send(complete, FINISHED);
}

csp_main(argc, argv)
{
    static const char *const says[] = {"finished", "timed out", "interrupted"};
    csp_chan(int) signals = csp_make(int, 1);
    csp_chan(ending) complete = csp_make(ending, 1); // has room: main may have given up
    ending end = TIMED_OUT;
    int64_t limit = argc > 1 ? atoi(argv[1]) * CSP_MILLISECOND : 0;

    csp_notify(signals, SIGINT);
    csp_go(run_all, argc > 2 ? argv + 2 : argv + argc, csp_recv_end(signals),
           csp_send_end(complete));
    csp_select(CSP_RECV(complete, &end), CSP_AFTER(limit));
    printf("%s\n", says[end]);
    fflush(stdout);
    exit((int)end); // at once: after a timeout the task is still at it
}
