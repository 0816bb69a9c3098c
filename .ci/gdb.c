/* For the row gdb/script of .ci/check: goroutines in every state, and a place to look at them. */
#define CSP_IMPLEMENTATION
#include "csp.h"

csp_task(listens_in_vain, csp_chan(int), c)
{
    csp_set_name("listener");
    csp_recv(c, NULL);
}

__attribute__((noinline)) static void two_calls_down(csp_chan(int) c)
{
    csp_select(CSP_RECV(c, NULL), CSP_AFTER(CSP_HOUR));
    __asm__ volatile(""); // no tail call
}

csp_task(selects_in_vain, csp_chan(int), c)
{
    two_calls_down(c);
    csp_send(c, 0);
}

csp_task(is_new, csp_chan(int), c)
{
    csp_recv(c, NULL);
}

__attribute__((noinline)) static void here(void)
{
    __asm__ volatile("");
}

csp_task(runs, csp_chan(int), c)
{
    csp_go(is_new, c);
    here();
    csp_send(c, 0);
}

csp_main(argc, argv)
{
    csp_chan(int) c = csp_make(int, 0);
    csp_go(listens_in_vain, c);
    csp_go(selects_in_vain, c);
    csp_sleep(CSP_MILLISECOND);
    csp_go(runs, c);
    csp_sleep(CSP_MILLISECOND);
    return argc == 0 && argv == NULL;
}
