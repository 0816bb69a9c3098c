/* size.c - how much flash and RAM does each part of csp take? Built by `make sizes`, once for each
 * USE, and never run: what one build has more than the one before is what the part costs.
 *
 * What to notice: nobody calls what is left out, so the linker drops it; the feature macros only
 * take away what would be linked in any case (messages, names).
 */
#include <stdint.h>

#include "board.h"
#if USE > 0
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"

static uint64_t memory[64];
static volatile int v;

#if USE >= 8
static int job(void *arg)
{
    return arg != NULL;
}
#endif

static void goroutine(void *arg)
{
    (void)arg;
    for (int i = 0; i < 9; i++) csp_yield();
#if USE >= 2 /* channels */
    csp_chan(int) c = csp_make(int, 1), s = csp_make(int, 1);
    csp_send(c, 1);
    csp_recv(c, NULL);
    csp_try_send(s, 1);
    csp_try_recv(s, NULL);
    csp_isr_send(s, 1);
    csp_close(s);
    csp_unref(c);
#endif
#if USE >= 3 /* select */
    csp_select(CSP_RECV(c, NULL), CSP_SEND(s, v), CSP_DEFAULT);
#endif
#if USE >= 4 /* sleep and deadlines */
    csp_sleep(CSP_MILLISECOND);
    csp_select(CSP_RECV(c, NULL), CSP_AFTER(CSP_MILLISECOND));
    csp_recv_until(c, NULL, csp_now() + CSP_MILLISECOND);
#endif
#if USE >= 5 /* mutex and waitgroup */
    csp_mutex mu = {0};
    csp_waitgroup wg = {0};
    csp_mutex_lock(&mu);
    csp_mutex_unlock(&mu);
    csp_waitgroup_add(&wg, 1);
    csp_waitgroup_done(&wg);
    csp_waitgroup_wait(&wg);
#endif
#if USE >= 6 /* timers and tickers */
    csp_timer *t = csp_timer_new(CSP_MILLISECOND);
    csp_ticker *k = csp_ticker_new(CSP_MILLISECOND);
    csp_timer_stop(t);
    csp_timer_reset(t, CSP_SECOND);
    csp_timer_free(t);
    csp_ticker_free(k);
#endif
#if USE >= 7 /* the rest of sync */
    csp_rwmutex rw = {0};
    csp_cond cond = {0};
    csp_once once = {0};
    csp_sem sem = {0};
    csp_rwmutex_lock(&rw);
    csp_rwmutex_unlock(&rw);
    csp_rwmutex_rlock(&rw);
    csp_rwmutex_runlock(&rw);
    csp_cond_wait(&cond, &mu);
    csp_cond_signal(&cond);
    csp_once_do(&once, goroutine, NULL);
    csp_sem_acquire(&sem, 1);
    csp_sem_release(&sem, 1);
#endif
#if USE >= 8 /* contexts and groups */
    csp_ctx *ctx = csp_ctx_with_timeout(csp_ctx_background(), CSP_SECOND);
    csp_group *g = csp_group_new(ctx);
    csp_select(CSP_DONE(ctx), CSP_DEFAULT);
    csp_group_spawn(g, job, NULL);
    v = csp_group_wait(g);
    csp_group_free(g);
    csp_ctx_cancel(ctx);
    csp_ctx_unref(ctx);
#endif
#if USE >= 9 /* panics that can be caught, the dump */
    {
        csp_try csp_panic("no %d", v);
        csp_catch(p) board_print(p->message);
    }
    csp_dump(board_print);
#endif
}
#endif

int main(void)
{
#if USE > 0
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    csp_init(&config);
    csp_run(goroutine, NULL);
#else /* what every firmware has: the functions of the port */
    csp_port_idle(csp_port_now());
    csp_port_irq_restore(csp_port_irq_save());
    csp_port_fatal("end");
#endif
    return 0;
}
