/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * cancel_tree.c - contexts form a tree: what ends one ends all that is derived from it.
 *
 * What to notice: a request has a context, and each part of the request has one that is derived
 * from it. Cancelling one part leaves the other parts alone; cancelling the request ends them all.
 * A deadline is inherited: a child can make it earlier and never later. A value is found from
 * below: csp_ctx_value asks the nearest ancestor that has the key, and a key is an address, so two
 * libraries cannot choose the same one. A cancel may give its cause, a text that all below it then
 * tell; work that has to go on gets a context without cancel, which has the values and not the end.
 * A context is one reference; the goroutine that keeps it takes another by csp_ctx_ref, and each of
 * them ends with csp_ctx_unref.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

typedef const char *text;

typedef struct report {
    text name;
    csp_status status;
} report;

static int request_id; // only its address is used: the key of a value

csp_task(part, text, name, csp_ctx *, ctx, csp_sender(report), reports)
{
    csp_select(CSP_DONE(ctx), CSP_AFTER(CSP_HOUR)); // an hour of work, as long as it is wanted
    csp_send(reports, (report){name, csp_ctx_status(ctx)});
    csp_ctx_unref(ctx);
}

static void print_one(csp_receiver(report) reports)
{
    report r;
    csp_recv(reports, &r);
    printf("%s: %s\n", r.name, csp_status_name(r.status));
}

static void tree(void)
{
    csp_chan(report) reports = csp_make(report, 0);
    csp_ctx *request = csp_ctx_with_cancel(csp_ctx_background());
    csp_ctx *named = csp_ctx_with_value(request, &request_id, "request 7");
    csp_ctx *page = csp_ctx_with_cancel(named), *picture = csp_ctx_with_cancel(named);
    csp_go(part, "page", csp_ctx_ref(page), csp_send_end(reports));
    csp_go(part, "picture", csp_ctx_ref(picture), csp_send_end(reports));

    csp_ctx_cancel(picture);
    print_one(csp_recv_end(reports));
    printf("the page belongs to %s and goes on: %s\n", (text)csp_ctx_value(page, &request_id),
           csp_status_name(csp_ctx_status(page)));
    csp_ctx *log = csp_ctx_without_cancel(named); // an entry in a log is written nevertheless
    csp_ctx_cancel_cause(request, "the client has left");
    print_one(csp_recv_end(reports));
    printf("the cause: %s\n", csp_ctx_cause(page));
    printf("the log of %s goes on: %s\n", (text)csp_ctx_value(log, &request_id),
           csp_ctx_cause(log) == NULL ? "yes" : "no");
    printf("derived afterwards: ");
    csp_ctx *late = csp_ctx_with_cancel(named);
    printf("%s\n", csp_status_name(csp_ctx_status(late)));

    csp_ctx *all[] = {late, log, picture, page, named, request};
    for (int i = 0; i < 6; i++) csp_ctx_unref(all[i]);
    csp_unref(reports);
}

static void deadlines(void)
{
    int64_t t = csp_now() + CSP_HOUR;
    csp_ctx *hour = csp_ctx_with_deadline(csp_ctx_background(), t);
    csp_ctx *day = csp_ctx_with_timeout(hour, 24 * CSP_HOUR);
    csp_ctx *moment = csp_ctx_with_timeout(hour, 10 * CSP_MILLISECOND);
    printf("a day within an hour is %s\n", csp_ctx_deadline(day) == t ? "an hour" : "a day");
    printf("the background has %s\n",
           csp_ctx_deadline(csp_ctx_background()) == CSP_FOREVER ? "no deadline" : "a deadline");

    csp_recv(csp_ctx_done(moment), NULL); // the channel that is closed at the end
    printf("a moment: %s\n", csp_status_name(csp_ctx_status(moment)));
    printf("the hour: %s\n", csp_status_name(csp_ctx_status(hour)));
    csp_ctx_unref(moment);
    csp_ctx_unref(day);
    csp_ctx_unref(hour);
}

csp_main(argc, argv)
{
    tree();
    deadlines();
    return 0;
}
