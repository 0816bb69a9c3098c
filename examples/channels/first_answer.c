/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * first_answer.c - ask three mirrors, take the first answer: how not to leak the other two.
 *
 * What to notice: the two slow mirrors send an answer that nobody waits for. Where the channel has
 * room for all three they send it and go home. Where it has none they would wait for ever: the
 * number of goroutines says so, and the dump (on stderr here) says which they are, what they wait
 * on, and where they were started. Distance is a channel too: a mirror answers when its turn has
 * come, so that what is printed does not depend on the machine.
 */
// check: windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

typedef const char *text;

csp_task(mirror, text, name, csp_receiver(bool), turn, csp_sender(text), answers)
{
    csp_recv(turn, NULL); // how far away it is
    csp_send(answers, name);
}

static text mirrored_query(csp_chan(text) answers, csp_chan(bool) turns[3])
{
    static const text names[3] = {"Asia", "Europe", "America"};
    text first;
    for (int i = 0; i < 3; i++)
        csp_go(mirror, names[i], csp_recv_end(turns[i]), csp_send_end(answers));
    csp_close(turns[1]); // Europe is near today
    csp_recv(answers, &first);
    csp_close(turns[0]);
    csp_close(turns[2]);
    return first;
}

static void ask(text how, int room)
{
    csp_chan(text) answers = csp_make(text, room);
    csp_chan(bool) turns[3];
    for (int i = 0; i < 3; i++) turns[i] = csp_make(bool, 0);

    printf("%s: %s answered first\n", how, mirrored_query(answers, turns));
    for (int i = 0; i < 100 && csp_count() > 1; i++) csp_sleep(CSP_MILLISECOND);
    printf("%s: %d goroutines are left\n", how, (int)csp_count() - 1);
    if (csp_count() > 1) {
        csp_dump(stderr);
        for (int i = 0; i < 2; i++) csp_recv(answers, NULL); // let them go after all
        while (csp_count() > 1) csp_yield();
    }
    for (int i = 0; i < 3; i++) csp_unref(turns[i]);
    csp_unref(answers);
}

csp_main(argc, argv)
{
    ask("with room for three", 3);
    ask("with room for none", 0);
    return 0;
}
