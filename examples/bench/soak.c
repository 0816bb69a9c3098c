/* soak.c - everything at once, for long: `soak [SECONDS]` (60) keeps every part of the interface
 * but the simulator under load, each by some goroutines that do turn after turn, while processors
 * come and go. A turn leaves nothing behind. Ten times or more, and every ten seconds at most, all
 * of them stand still between two turns while a line is printed: descriptors, threads, goroutines,
 * resident memory, bytes that malloc has given out. After a warm-up of a fifth none of these may
 * grow: the smallest of the last third is compared with the largest of the first. A turn that
 * takes 20 s is a hang, and dumps the goroutines. After the last line everything is stopped, and
 * descriptors and threads must be as before the first. The exit status is 1 when something was
 * wrong. SEED in the environment repeats the draws, though not the schedule.
 */
#define _GNU_SOURCE
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct turn {
    uint64_t random;
    int id; // of the worker
} turn;

typedef struct part {
    const char *name;
    void (*fn)(turn *t);
    int workers;
    int64_t pause; // after each turn
    int64_t turns; // atomic
} part;

static csp_rwmutex going; // a turn holds it for reading
static csp_waitgroup workers;
static bool over;
static int faults;

#define must(...) ((__VA_ARGS__) ? (void)0 : fault(__LINE__, #__VA_ARGS__, errno))
#define must_be(value, is) must_be_(value, is, __LINE__, #value " is " #is)

/* Says what was wrong, the first twenty times. */
static void fault(int line, const char *what, int64_t value)
{
    if (__atomic_add_fetch(&faults, 1, __ATOMIC_RELAXED) > 20) return;
    fprintf(stderr, "soak.c:%d: not so: %s (%lld)\n", line, what, (long long)value);
}

static void must_be_(int64_t value, int64_t is, int line, const char *what)
{
    if (value != is) fault(line, what, value);
}

static uint32_t below(turn *t, uint32_t n)
{
    t->random = t->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(t->random >> 33) % n;
}

static void compute(int64_t ns)
{
    for (int64_t end = csp_now() + ns; csp_now() < end;) continue;
}

/* ---- goroutines, panics, locals ---- */

static void count_down(void *left)
{
    __atomic_sub_fetch((int *)left, 1, __ATOMIC_RELAXED);
}

static void done_one(void *wg)
{
    csp_waitgroup_done((csp_waitgroup *)wg);
}

static __attribute__((noinline)) void goes_deep(void)
{
    volatile char deep[100000];
    for (size_t i = 0; i < sizeof deep; i += 1000) deep[i] = 1;
}

csp_task(lives, int, how, int *, left, csp_waitgroup *, wg)
{
    csp_defer(done_one, wg);
    csp_defer(count_down, left);
    if (how % 4 == 1) csp_yield();
    if (how % 4 == 2) csp_exit();
    if (how % 64 == 3) goes_deep();
}

static void spawns(turn *t)
{
    static const size_t sizes[] = {0, 4096, 8192, 65536};
    csp_waitgroup wg = {0};
    int left = 200;
    csp_waitgroup_add(&wg, left);
    for (int i = 0; i < 200; i++) {
        int how = (int)below(t, 256);
        csp_opts opts = {.name = "lives", .stack_size = how % 64 == 3 ? 0 : sizes[below(t, 4)]};
        if (i % 2 == 0)
            csp_go_with(&opts, lives, how, &left, &wg);
        else
            csp_go(lives, how, &left, &wg);
    }
    csp_waitgroup_wait(&wg);
    must(__atomic_load_n(&left, __ATOMIC_RELAXED) == 0);
}

static void panics(turn *t)
{
    int left = 1;
    volatile bool caught = false;
    csp_try
    {
        csp_defer(count_down, &left);
        if (below(t, 2) == 0) csp_yield();
        csp_panic("%d", t->id);
    }
    csp_catch(p)
    {
        caught = atoi(p->message) == t->id;
    }
    must(caught && left == 0);
}

static void locals(turn *t)
{
    static csp_local local;
    csp_local_set(&local, t);
    bool locked = below(t, 4) == 0;
    if (locked) csp_lock_thread();
    for (int i = 0; i < 10; i++) {
        csp_yield();
        must(csp_local_get(&local) == t);
    }
    if (locked) csp_unlock_thread();
}

/* ---- channels, select ---- */

csp_task(sends, csp_chan(int), c, int, from, int, n, csp_waitgroup *, wg)
{
    for (int i = 0; i < n; i++) csp_send(c, from + i);
    csp_waitgroup_done(wg);
}

csp_task(closes_after, csp_chan(int), c, csp_waitgroup *, wg)
{
    csp_waitgroup_wait(wg);
    csp_close(c);
    csp_unref(c);
}

static void channels(turn *t)
{
    csp_chan(int) c = csp_make(int, below(t, 2) == 0 ? 0 : below(t, 100));
    csp_waitgroup wg = {0};
    int64_t sum = 0;
    csp_waitgroup_add(&wg, 4);
    for (int i = 0; i < 4; i++) csp_go(sends, c, 100 * i, 100, &wg);
    csp_ref(c);
    csp_go(closes_after, c, &wg);
    csp_range(v, c) sum += v;
    must(sum == 400 * 399 / 2);
    csp_unref(c);
}

static void selects(turn *t)
{
    csp_chan(int) c[4], own = csp_make(int, 1);
    csp_waitgroup wg = {0};
    int64_t sum = 0;
    int v = 0;
    csp_waitgroup_add(&wg, 4);
    for (int i = 0; i < 4; i++) {
        c[i] = csp_make(int, below(t, 3));
        csp_go(sends, c[i], 0, 50, &wg);
    }
    for (int left = 200; left > 0;) {
        int which = (int)below(t, 3), k;
        if (which == 0)
            k = csp_select(CSP_RECV(c[0], &v), CSP_RECV(c[1], &v), CSP_RECV(c[2], &v),
                           CSP_RECV(c[3], &v), CSP_SEND(own, left), CSP_RECV(own, NULL));
        else if (which == 1)
            k = csp_select_first(CSP_RECV(c[0], &v), CSP_RECV(c[1], &v), CSP_RECV(c[2], &v),
                                 CSP_RECV(c[3], &v), CSP_AFTER(10 * CSP_MICROSECOND));
        else
            k = csp_select(CSP_RECV(c[0], &v), CSP_RECV(c[1], &v), CSP_RECV(c[2], &v),
                           CSP_RECV(c[3], &v), CSP_DEFAULT);
        if (k < 4) sum += v, left--;
        if (k == 4 && which == 2) csp_yield();
    }
    must(sum == 4 * 50 * 49 / 2);
    csp_waitgroup_wait(&wg);
    for (int i = 0; i < 4; i++) csp_unref(c[i]);
    csp_unref(own);
}

/* ---- time ---- */

static void send_bool(void *c)
{
    csp_send((csp_chan(bool))c, true);
}

static void timers(turn *t)
{
    csp_chan(bool) done = csp_make(bool, 1);
    csp_timer *timer = csp_timer_new(CSP_MILLISECOND), *after;
    csp_ticker *ticker = csp_ticker_new(100 * CSP_MICROSECOND);
    int64_t at = 0, until = csp_now() + CSP_MILLISECOND;
    must(csp_timer_reset(timer, below(t, 300) * CSP_MICROSECOND));
    if (below(t, 2) == 0) must(csp_recv(csp_timer_chan(timer), &at) && at <= csp_now());
    csp_timer_stop(timer);
    csp_timer_free(timer);
    must(csp_recv(csp_ticker_chan(ticker), &at));
    csp_ticker_reset(ticker, 50 * CSP_MICROSECOND);
    must(csp_recv(csp_ticker_chan(ticker), NULL));
    csp_ticker_free(ticker);
    after = csp_after_func(below(t, 200) * CSP_MICROSECOND, send_bool, done);
    csp_sleep(below(t, 200) * CSP_MICROSECOND);
    if (!csp_timer_stop(after)) must(csp_recv(done, NULL));
    csp_timer_free(after);
    must(csp_recv_until(done, NULL, csp_now() + 20 * CSP_MICROSECOND) == CSP_TIMEOUT);
    must(csp_select(CSP_RECV(done, NULL), CSP_UNTIL(until)) == 1 || csp_now() < until);
    csp_unref(done);
}

/* ---- sync ---- */

typedef struct shared {
    csp_mutex mu;
    csp_rwmutex rw;
    csp_cond cond;
    csp_sem sem;
    csp_once once;
    csp_waitgroup wg;
    int plain, ready, loaded;
} shared;

static void load_once(void *arg)
{
    csp_yield();
    ((shared *)arg)->loaded++;
}

csp_task(shares, shared *, s, int, k)
{
    for (int i = 0; i < 20; i++) {
        csp_once_do(&s->once, load_once, s);
        csp_mutex_lock(&s->mu);
        s->plain++;
        csp_mutex_unlock(&s->mu);
        csp_sem_acquire(&s->sem, 1 + k % 2);
        if (k % 2 == 0) {
            csp_rwmutex_lock(&s->rw);
            s->ready++;
            csp_rwmutex_unlock(&s->rw);
        } else {
            csp_rwmutex_rlock(&s->rw);
            csp_yield();
            csp_rwmutex_runlock(&s->rw);
        }
        csp_sem_release(&s->sem, 1 + k % 2);
    }
    csp_mutex_lock(&s->mu);
    s->plain++;
    csp_cond_signal(&s->cond);
    csp_mutex_unlock(&s->mu);
    csp_waitgroup_done(&s->wg);
}

static void syncs(turn *t)
{
    shared s = {.plain = 0};
    csp_sem_init(&s.sem, 3);
    csp_waitgroup_add(&s.wg, 8);
    for (int i = 0; i < 8; i++) csp_go(shares, &s, i);
    csp_mutex_lock(&s.mu);
    int64_t soon = csp_now() + below(t, 100) * CSP_MICROSECOND;
    must(csp_mutex_lock_until(&s.mu, soon) == CSP_TIMEOUT); // it is ours
    while (s.plain < 8 * 21)
        if (csp_cond_wait_until(&s.cond, &s.mu, csp_now() + 50 * CSP_MICROSECOND) == CSP_OK)
            csp_cond_wait_until(&s.cond, &s.mu, csp_now() + CSP_MILLISECOND);
    csp_mutex_unlock(&s.mu);
    csp_waitgroup_wait(&s.wg);
    must(s.plain == 8 * 21 && s.ready == 4 * 20 && s.loaded == 1);
}

/* ---- contexts, groups, pools, maps ---- */

static int waits_for_end(void *ctx)
{
    csp_select(CSP_DONE((csp_ctx *)ctx));
    return 0;
}

static int fails(void *arg)
{
    (void)arg;
    csp_yield();
    return 7;
}

static void contexts(turn *t)
{
    csp_chan(bool) told = csp_make(bool, 1);
    csp_ctx *root = csp_ctx_with_cancel(csp_ctx_background()), *leaf[20];
    for (int i = 0; i < 20; i++) {
        csp_ctx *parent = i == 0 ? root : leaf[below(t, (uint32_t)i)];
        leaf[i] = i % 3 == 0   ? csp_ctx_with_cancel(parent)
                  : i % 3 == 1 ? csp_ctx_with_timeout(parent, CSP_SECOND + below(t, CSP_SECOND))
                               : csp_ctx_with_value(parent, &going, t);
    }
    uint64_t id = csp_ctx_on_done(leaf[19], send_bool, told);
    bool stopped = below(t, 2) == 0 && csp_ctx_on_done_stop(leaf[19], id);
    csp_group *group = csp_group_new(leaf[5]);
    csp_group_set_limit(group, 4);
    for (int i = 0; i < 3; i++) csp_group_spawn(group, waits_for_end, csp_group_ctx(group));
    csp_group_spawn(group, fails, NULL);
    must(csp_group_wait(group) == 7);
    csp_group_free(group);
    csp_ctx_cancel(root);
    for (int i = 0; i < 20; i++) must(csp_ctx_status(leaf[i]) == CSP_CANCELED);
    if (!stopped) must(csp_recv(told, NULL));
    for (int i = 0; i < 20; i++) csp_ctx_unref(leaf[i]);
    csp_ctx_unref(root);
    csp_unref(told);
}

static csp_map *map;
static csp_pool *pool;

static bool counts(const void *key, void *value, void *n)
{
    ++*(int *)n;
    return key != NULL && value != NULL;
}

static void maps(turn *t)
{
    static char keys[64][64]; // a row for each worker, who alone has these
    char *own = keys[t->id % 64];
    int seen = 0;
    for (int i = 0; i < 64; i++) csp_map_store(map, own + i, t);
    for (int i = 0; i < 64; i++) {
        void *value = NULL;
        must(csp_map_load(map, own + i, &value) && value == t);
        must(csp_map_compare_and_swap(map, own + i, t, own));
        must(csp_map_swap(map, own + i, t, NULL));
    }
    if (below(t, 100) == 0) csp_map_range(map, counts, &seen);
    for (int i = 0; i < 64; i++) must(csp_map_load_and_delete(map, own + i, NULL));
    csp_map *mine = csp_map_new(CSP_MAP_STRINGS);
    must(!csp_map_load_or_store(mine, "key", t, NULL) && csp_map_len(mine) == 1);
    csp_map_clear(mine);
    csp_map_free(mine);
    void *item = csp_pool_get(pool), *other = csp_pool_get(pool);
    must(item != NULL && other != NULL && item != other);
    csp_pool_put(pool, item);
    csp_yield();
    csp_pool_put(pool, other);
}

static void *pool_make(void *arg)
{
    (void)arg;
    return malloc(100);
}

/* ---- descriptors ---- */

/* A number that nobody else is given: a goroutine that reads it late meets EBADF, no stranger. */
static int own_number(int fd, const turn *t)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 500 + 2 * t->id);
    must(own >= 0 && csp_close_fd(fd) == 0);
    return own;
}

csp_task(reads_one, int, fd, csp_chan(csp_ssize), result)
{
    char byte;
    csp_send(result, csp_read(fd, &byte, 1));
}

csp_task(closes, int, fd, csp_waitgroup *, wg)
{
    must_be(csp_close_fd(fd), 0);
    csp_waitgroup_done(wg);
}

static void pipes(turn *t)
{
    int ends[2];
    csp_waitgroup wg = {0};
    char bytes[3] = "ab";
    must(pipe2(ends, O_CLOEXEC) == 0);
    if (below(t, 2) == 0) {
        must(csp_write(ends[1], bytes, 2) == 2 && csp_read_full(ends[0], bytes, 2) == 2);
        csp_ssize n = csp_read_until(ends[0], bytes, 1, csp_now() + 20 * CSP_MICROSECOND);
        must_be(n, -ETIMEDOUT);
    }
    csp_waitgroup_add(&wg, 2);
    csp_go(closes, ends[0], &wg);
    csp_go(closes, ends[1], &wg);
    csp_waitgroup_wait(&wg);
}

static void pipe_waits(turn *t)
{
    int ends[2], how = (int)below(t, 3);
    csp_chan(csp_ssize) result = csp_make(csp_ssize, 1);
    csp_ssize n = 0;
    must(pipe2(ends, O_CLOEXEC) == 0);
    ends[0] = own_number(ends[0], t);
    csp_go(reads_one, ends[0], result);
    csp_sleep(below(t, 50) * CSP_MICROSECOND);
    if (how == 0) must(csp_write(ends[1], "a", 1) == 1);
    if (how == 1) must_be(csp_close_fd(ends[0]), 0);
    if (how == 2) must_be(csp_close_fd(ends[1]), 0);
    csp_recv(result, &n);
    must(n == (how == 0 ? 1 : how == 1 ? -ECANCELED : 0) || (how == 1 && n == -EBADF));
    if (how != 1) must_be(csp_close_fd(ends[0]), 0);
    if (how != 2) must_be(csp_close_fd(ends[1]), 0);
    csp_unref(result);
}

/* ---- sockets ---- */

static csp_address addresses[2]; // tcp, unix

csp_task(echoes, int, fd)
{
    char bytes[256];
    for (csp_ssize n; (n = csp_read(fd, bytes, sizeof bytes)) > 0;)
        if (csp_write_full(fd, bytes, (size_t)n) < 0) break;
    must_be(csp_close_fd(fd), 0);
}

csp_task(accepts, int, listener, csp_waitgroup *, wg)
{
    for (int fd; (fd = csp_accept(listener)) >= 0;) csp_go(echoes, fd);
    csp_waitgroup_done(wg);
}

static void sockets(turn *t)
{
    bool tcp = below(t, 2) == 0;
    char bytes[256] = "";
    int fd = csp_dial_until(addresses[tcp ? 0 : 1].text, csp_now() + 10 * CSP_SECOND);
    must(fd >= 0);
    if (fd < 0) return;
    for (int i = 0; i < 5; i++) {
        must(csp_write_full(fd, bytes, sizeof bytes) == sizeof bytes);
        must(csp_read_full(fd, bytes, sizeof bytes) == sizeof bytes);
    }
    struct linger at_once = {1, 0}; // no TIME_WAIT: ports run out
    if (tcp)
        must(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
    else
        must(csp_close_write(fd) == 0 && csp_read(fd, bytes, 1) == 0);
    must_be(csp_close_fd(fd), 0);
}

static void listeners(turn *t)
{
    static int64_t names;
    csp_address address = {"127.0.0.1:0"};
    char bytes[4];
    csp_waitgroup wg = {0};
    if (below(t, 2) == 0) // a name of its own each time: a child of `forks` may still hold the last
        snprintf(address.text, sizeof address.text, "unix:@soak.%d.%lld", (int)getpid(),
                 (long long)__atomic_add_fetch(&names, 1, __ATOMIC_RELAXED));
    int listener = csp_listen(address.text);
    must(listener >= 0 && csp_local_address(listener, &address) == 0);
    listener = own_number(listener, t);
    csp_waitgroup_add(&wg, 1);
    csp_go(accepts, listener, &wg);
    must_be(csp_close_fd(listener), 0);
    csp_waitgroup_wait(&wg);

    int udp = csp_listen("udp:127.0.0.1:0"), out = -1;
    must(udp >= 0 && csp_local_address(udp, &address) == 0 && (out = csp_dial(address.text)) >= 0);
    must(csp_send_to(out, "abc", 4, NULL) == 4 && csp_recv_from(udp, bytes, 4, &address) == 4);
    must(csp_send_to(udp, "def", 4, address.text) == 4 && csp_recv_from(out, bytes, 4, NULL) == 4);
    must(csp_close_fd(out) == 0 && csp_close_fd(udp) == 0);
}

/* ---- what blocks, computes, and comes from elsewhere ---- */

static void blocks(turn *t)
{
    if (below(t, 2) == 0)
        csp_blocking usleep(below(t, 3000));
    else
        usleep(below(t, 15000)); // says nothing
}

static void computes(turn *t)
{
    compute(below(t, 15) * CSP_MILLISECOND);
}

static void procs(turn *t)
{
    csp_procs(1 + (int)below(t, 8));
}

static void signals(turn *t)
{
    csp_chan(int) c = csp_make(int, 1);
    int signo = 0;
    csp_notify(c, SIGUSR1);
    must(kill(getpid(), SIGUSR1) == 0);
    must(csp_recv_until(c, &signo, csp_now() + 10 * CSP_SECOND) == CSP_OK && signo == SIGUSR1);
    if (below(t, 2) == 0) csp_yield();
    csp_notify_stop(c);
    csp_unref(c);
}

static void bells(turn *t)
{
    csp_chan(int) c = csp_make(int, 4);
    csp_waitgroup wg = {0};
    struct pollfd look = {.fd = csp_wake_fd(c), .events = POLLIN};
    csp_waitgroup_add(&wg, 1);
    csp_go(sends, c, 0, 20, &wg);
    for (int left = 20, v; left > 0;) {
        if (below(t, 2) == 0)
            must(csp_wait_fd_until(look.fd, CSP_READABLE, csp_now() + 10 * CSP_SECOND) ==
                 CSP_READABLE);
        else
            csp_blocking must(poll(&look, 1, 10000) == 1 || errno == EINTR); // SIGUSR1
        while (csp_try_recv(c, &v) == CSP_OK) left--;
    }
    csp_waitgroup_wait(&wg);
    csp_unref(c);
}

typedef struct visit {
    csp_chan(int) in, out;
    csp_mutex *mu;
} visit;

static void *visits(void *arg) // a thread of the program's own
{
    visit *v = arg;
    int n = 0;
    while (csp_recv(v->in, &n)) {
        csp_mutex_lock(v->mu);
        csp_mutex_unlock(v->mu);
        csp_send(v->out, n + 1);
    }
    csp_sleep(10 * CSP_MICROSECOND);
    return NULL;
}

static void threads(turn *t)
{
    static csp_mutex mu;
    visit v = {csp_make(int, 0), csp_make(int, 0), &mu};
    pthread_t thread;
    int n = 0;
    must(pthread_create(&thread, NULL, visits, &v) == 0);
    for (uint32_t i = below(t, 20); i > 0; i--) {
        csp_send(v.in, 5);
        csp_mutex_lock(&mu);
        csp_yield();
        csp_mutex_unlock(&mu);
        must(csp_recv(v.out, &n) && n == 6);
    }
    csp_close(v.in);
    csp_blocking pthread_join(thread, NULL);
    csp_unref(v.in);
    csp_unref(v.out);
}

static void forks(turn *t)
{
    (void)t;
    pid_t child = fork(), got = 0;
    int status = 0;
    if (child == 0) _exit(7);
    csp_blocking got = waitpid(child, &status, 0);
    must(child > 0 && got == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void looks(turn *t)
{
    csp_stats stats;
    FILE *f = fopen("/dev/null", "we");
    csp_get_stats(&stats);
    must(stats.goroutines > 0 && stats.procs > 0 && csp_count() > 0 && f != NULL);
    if (f != NULL) csp_dump(f), fclose(f);
    if (below(t, 20) == 0 && csp_trace_start("/dev/null") == 0) {
        csp_sleep(5 * CSP_MILLISECOND);
        csp_trace_stop();
    }
}

static part parts[] = {
    {"spawns", spawns, 2, 0, 0},
    {"panics", panics, 2, 0, 0},
    {"locals", locals, 4, 0, 0},
    {"channels", channels, 3, 0, 0},
    {"selects", selects, 3, 0, 0},
    {"timers", timers, 20, 0, 0},
    {"syncs", syncs, 2, 0, 0},
    {"contexts", contexts, 3, 0, 0},
    {"maps", maps, 3, 0, 0},
    {"pipes", pipes, 6, 0, 0},
    {"pipe_waits", pipe_waits, 6, 0, 0},
    {"sockets", sockets, 8, CSP_MILLISECOND, 0},
    {"listeners", listeners, 2, CSP_MILLISECOND, 0},
    {"blocks", blocks, 3, 5 * CSP_MILLISECOND, 0},
    {"computes", computes, 1, 30 * CSP_MILLISECOND, 0},
    {"procs", procs, 1, 20 * CSP_MILLISECOND, 0},
    {"signals", signals, 2, CSP_MILLISECOND, 0},
    {"bells", bells, 2, CSP_MILLISECOND, 0},
    {"threads", threads, 2, 2 * CSP_MILLISECOND, 0},
    {"forks", forks, 1, 50 * CSP_MILLISECOND, 0},
    {"looks", looks, 1, 50 * CSP_MILLISECOND, 0},
};
enum { PARTS = sizeof parts / sizeof parts[0] };

/* ---- the course of it ---- */

csp_task(works, part *, p, turn, t)
{
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        csp_rwmutex_rlock(&going);
        p->fn(&t);
        csp_rwmutex_runlock(&going);
        __atomic_fetch_add(&p->turns, 1, __ATOMIC_RELAXED);
        csp_sleep(p->pause);
    }
    csp_waitgroup_done(&workers);
}

/* A thread that nothing in csp can hold up: has each part done a turn lately? */
static void *watches(void *arg)
{
    enum { SECONDS = 20 };
    int64_t seen[PARTS], since[PARTS];
    for (int i = 0; i < PARTS; i++) seen[i] = -1, since[i] = csp_now();
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        usleep(100000);
        for (int i = 0; i < PARTS; i++) {
            int64_t turns = __atomic_load_n(&parts[i].turns, __ATOMIC_RELAXED);
            if (turns != seen[i]) seen[i] = turns, since[i] = csp_now();
            if (csp_now() - since[i] < SECONDS * CSP_SECOND) continue;
            fprintf(stderr, "soak: %s has not moved for %d s\n", parts[i].name, SECONDS);
            csp_dump(stderr);
            abort();
        }
    }
    return arg;
}

/* Sanitizers keep memory and threads of their own, which grow. */
#ifdef __SANITIZE_ADDRESS__
enum { ASAN = 1 };
#else
enum { ASAN = CSP_X_HAS(address_sanitizer) };
#endif
enum { CHECKED = CSP_X_TSAN || ASAN || CSP_X_HAS(memory_sanitizer) };
enum { FDS, THREADS, GOROUTINES, STACKS, RESIDENT, HEAP, KINDS };

/* The slack is for noise, which is larger beside other programs. A leak of a turn is larger still:
 * five seconds have 100,000 turns. The runtime keeps more threads when the system is slow to run
 * them, and each has a cache of malloc's. Stacks are reserved 80 MB at a time. Free stacks keep
 * some pages, by how deep their calls were: 5 to 25 MB of them are resident, by chance. */
static const struct {
    const char *name;
    int64_t slack;
} kinds[KINDS] = {
    {"descriptors", 0},     {"threads", 8},          {"goroutines", 0},
    {"stacks KiB", 131072}, {"resident KiB", 24576}, {"heap KiB", 1024},
};

static int64_t entries(const char *path)
{
    int64_t n = -1; // the directory's own
    DIR *d = opendir(path);
    if (d == NULL) return 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static int64_t resident(void)
{
    long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL || fscanf(f, "%*d %lld", &pages) != 1) pages = 0;
    if (f != NULL) fclose(f);
    return pages * sysconf(_SC_PAGESIZE) / 1024;
}

static int64_t heap(void) // that malloc has given out
{
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 33)
    struct mallinfo2 info = mallinfo2();
    return (int64_t)(info.uordblks + info.hblkhd) / 1024;
#else
    return 0;
#endif
}

static void measure(int64_t *sample)
{
    csp_stats s;
    csp_get_stats(&s);
    sample[FDS] = entries("/proc/self/fd");
    sample[THREADS] = entries("/proc/self/task") + 1;
    sample[GOROUTINES] = csp_count();
    sample[STACKS] = (int64_t)(s.stack_bytes / 1024);
    sample[RESIDENT] = resident();
    sample[HEAP] = heap();
}

static int64_t all_turns(void)
{
    int64_t n = 0;
    for (int i = 0; i < PARTS; i++) n += __atomic_load_n(&parts[i].turns, __ATOMIC_RELAXED);
    return n;
}

/* What goroutines that a turn started do after its end, the last steps of a close for example, is
 * given a moment: the least of some looks. */
static void sample_all(int64_t *sample)
{
    csp_rwmutex_lock(&going);
    measure(sample);
    for (int i = 0; i < 20; i++) {
        int64_t again[KINDS];
        csp_sleep(5 * CSP_MILLISECOND);
        measure(again);
        for (int k = 0; k < KINDS; k++)
            if (again[k] < sample[k]) sample[k] = again[k];
    }
    csp_rwmutex_unlock(&going);
}

static bool grows(int kind, int64_t samples[][KINDS], int n)
{
    int warm = n / 5, third = (n - warm) / 3;
    int64_t first = 0, last = INT64_MAX;
    for (int i = warm; i < warm + third; i++)
        if (samples[i][kind] > first) first = samples[i][kind];
    for (int i = n - third; i < n; i++)
        if (samples[i][kind] < last) last = samples[i][kind];
    if (last <= first + kinds[kind].slack) return false;
    printf("%s grew from %lld to %lld\n", kinds[kind].name, (long long)first, (long long)last);
    return true;
}

enum { SAMPLES = 10000 };
static int64_t samples[SAMPLES][KINDS];

static void observe(int64_t seconds)
{
    int64_t start = csp_now(), every = seconds * CSP_SECOND / 10;
    int n = 0;
    if (every > 10 * CSP_SECOND) every = 10 * CSP_SECOND;
    while (n < SAMPLES && csp_now() + every <= start + seconds * CSP_SECOND + every / 2) {
        csp_sleep_until(start + (n + 1) * every);
        sample_all(samples[n]);
        printf("%5lld s", (long long)((csp_now() - start) / CSP_SECOND));
        for (int k = 0; k < KINDS; k++)
            printf("  %s %lld", kinds[k].name, (long long)samples[n][k]);
        printf("  turns %lld\n", (long long)all_turns());
        fflush(stdout);
        n++;
    }
    for (int k = 0; k < KINDS; k++)
        if (!CHECKED || k == FDS || k == GOROUTINES) faults += grows(k, samples, n);
}

static void soak(void *arg)
{
    char path[64];
    const char *seed = getenv("SEED");
    csp_waitgroup acceptors = {0};
    csp_chan(int) last = csp_make(int, 1); // always there: without it the signal would be deadly
    int listeners_at[2], id = 0;
    csp_notify(last, SIGUSR1);
    map = csp_map_new(CSP_MAP_POINTERS);
    pool = csp_pool_new(pool_make, free, NULL);
    snprintf(path, sizeof path, "unix:@soak.%d", (int)getpid());
    for (int i = 0; i < 2; i++) {
        listeners_at[i] = csp_listen(i == 0 ? "127.0.0.1:0" : path);
        must(listeners_at[i] >= 0 && csp_local_address(listeners_at[i], &addresses[i]) == 0);
        csp_waitgroup_add(&acceptors, 1);
        csp_go(accepts, listeners_at[i], &acceptors);
    }
    for (int i = 0; i < PARTS; i++) {
        csp_waitgroup_add(&workers, parts[i].workers);
        for (int k = 0; k < parts[i].workers; k++, id++) {
            turn t = {(seed != NULL ? strtoul(seed, NULL, 10) : 0) * 1000u + (uint64_t)id, id};
            csp_go_with((&(csp_opts){.name = parts[i].name}), works, &parts[i], t);
        }
    }
    observe(*(int64_t *)arg);
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    csp_waitgroup_wait(&workers);
    for (int i = 0; i < 2; i++) must_be(csp_close_fd(listeners_at[i]), 0);
    csp_waitgroup_wait(&acceptors);
    csp_assert_no_goroutines();
    csp_notify_stop(last);
    csp_unref(last);
    csp_pool_free(pool);
    csp_map_free(map);
}

int main(int argc, char **argv)
{
    int64_t seconds = argc > 1 ? atoi(argv[1]) : 60, before[KINDS], after[KINDS];
    struct rlimit files = {0, 0};
    pthread_t watcher;
    getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < 1000) return fprintf(stderr, "soak: a thousand descriptors, please\n"), 2;
    if (seconds < 1) return fprintf(stderr, "soak [SECONDS]\n"), 2;
    measure(before);
    csp_shutdown();
    must(pthread_create(&watcher, NULL, watches, NULL) == 0);
    csp_run(soak, &seconds);
    pthread_join(watcher, NULL);
    csp_shutdown();
    measure(after);
    for (int k = FDS; k <= (CHECKED ? FDS : THREADS); k++) {
        if (after[k] == before[k]) continue;
        printf("%s: %lld before, %lld after\n", kinds[k].name, (long long)before[k],
               (long long)after[k]);
        faults++;
    }
    for (int i = 0; i < PARTS; i++)
        printf("%s%s %lld", i % 7 == 0 ? "\n" : "  ", parts[i].name, (long long)parts[i].turns);
    printf("\n%s\n", faults == 0 ? "flat" : "NOT FLAT");
    return faults != 0;
}
