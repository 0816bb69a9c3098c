/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * leaks.c - goroutines that nothing can wake any more, and four ways to find them.
 *
 *     CSP_DEBUG=leaks build/leaks
 *
 * What to notice: a leaked goroutine is no crash. It waits for ever and keeps its memory; a server
 * dies of it after a week. The number of goroutines that grows is the first sign. The dump names
 * them, what they wait for and where they were started. With CSP_DEBUG=leaks the program itself
 * says so at its end. A test ends with csp_assert_no_goroutines, and a simulation with a leak in
 * it has failed.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

csp_task(fetch, int, from, csp_sender(int), out)
{
    csp_send(out, from * 10);
}

/* Wrong: returns with the first answer, and the other two answers have no receiver. */
static int first_of_three(void)
{
    static csp_chan(int) out; // kept, as a collector would keep it: two goroutines still use it
    int answer;
    out = csp_make(int, 0);
    for (int i = 1; i <= 3; i++) csp_go(fetch, i, csp_send_end(out));
    csp_recv(out, &answer);
    return answer;
}

csp_task(fetch_and_let_go, int, from, csp_sender(int), out)
{
    csp_send(out, from * 10);
    csp_unref(out);
}

/* Right: there is room for all of them, and the last to let go of the channel frees it. */
static int first_of_three_mended(void)
{
    csp_chan(int) out = csp_make(int, 3);
    int answer;
    for (int i = 1; i <= 3; i++) csp_go(fetch_and_let_go, i, csp_send_end(csp_ref(out)));
    csp_recv(out, &answer);
    csp_unref(out);
    return answer;
}

static void simulated(void *fn)
{
    (*(int (**)(void))fn)();
}

/* As in a unit test. */
static void tested(void *fn)
{
    csp_try
    {
        (*(int (**)(void))fn)();
        csp_assert_no_goroutines();
        printf("tested: ok\n");
    }
    csp_catch(p) printf("tested: %s\n", p->message);
}

static void hunt(void *unused)
{
    (void)unused;
    int answer = first_of_three();
    while (csp_count() > 3) csp_yield();
    printf("the answer is a multiple of ten: %s\n", answer % 10 == 0 ? "yes" : "no");
    printf("%d goroutines too many\n", (int)csp_count() - 1);
    fflush(stdout);
}

int main(void)
{
    int (*wrong)(void) = first_of_three, (*right)(void) = first_of_three_mended;
    setvbuf(stdout, NULL, _IOLBF, 0); // in step with what csp says on stderr
    csp_sim_report r = csp_simulate(&(csp_sim){.runs = 10}, simulated, &wrong);
    printf("simulated: %s\n", csp_sim_outcome_name(r.outcome));
    r = csp_simulate(&(csp_sim){.runs = 10}, simulated, &right);
    printf("mended: %s\n", csp_sim_outcome_name(r.outcome));
    csp_run(tested, &wrong);
    csp_run(tested, &right);
    csp_run(hunt, NULL);
    return 0;
}
