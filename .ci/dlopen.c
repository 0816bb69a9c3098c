/* For the rows dlopen/... of .ci/check. With -DSHARED: a shared object with csp in it.
 * Without: the program that loads, uses, stops and unloads two of them, given as arguments. */
#ifdef SHARED
#define CSP_IMPLEMENTATION
#include "csp.h"

csp_task(doubles, csp_receiver(int), in, csp_sender(int), out)
{
    csp_range(v, in) csp_send(out, 2 * v);
    csp_close(out);
}

/* Starts the runtime, and makes the calling thread known to it. */
int use(int n)
{
    csp_chan(int) in = csp_make(int, 0), out = csp_make(int, 1);
    int sum = 0, v = 0;
    csp_go(doubles, csp_recv_end(in), csp_send_end(out));
    for (int i = 0; i < n; i++) {
        csp_send(in, i);
        if (csp_recv(out, &v)) sum += v;
    }
    csp_close(in);
    while (csp_recv(out, NULL)) continue;
    csp_unref(in);
    csp_unref(out);
    return sum;
}

static void uses(void *sum)
{
    *(int *)sum = use(100);
}

int run(void)
{
    int sum = 0;
    csp_run(uses, &sum);
    return sum;
}

static csp_chan(int) heard;

void listen_to(int signo)
{
    heard = csp_make(int, 4);
    csp_notify(heard, signo);
}

int has_heard(void)
{
    int signo = 0;
    return csp_recv_until(heard, &signo, csp_now() + 5 * CSP_SECOND) == CSP_OK ? signo : 0;
}

static int deeper(int n)
{
    volatile char room[1024];
    room[n % 1024] = (char)n;
    return n == 0 ? 0 : deeper(n - 1) + room[n % 1024];
}

static void goes_deep(void *arg)
{
    *(int *)arg = deeper(1 << 20);
}

void overflow(void)
{
    int n = 0;
    csp_run(goes_deep, &n);
}

/* A defer from before a shutdown runs after it, and a csp_try catches. */
static void adds_one(void *n)
{
    ++*(int *)n;
}

int stop_within(void)
{
    volatile int n = 0;
    csp_try
    {
        csp_defer(adds_one, (void *)(uintptr_t)&n);
        use(1);
        csp_shutdown();
        use(1);
        csp_shutdown();
        csp_panic("caught?");
    }
    csp_catch(p) n += 10 * (p->message[0] == 'c');
    return n;
}

void stop(void)
{
    csp_shutdown();
}
#else
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(x) ((x) ? (void)0 : (printf("%s:%d: %s\n", __FILE__, __LINE__, #x), exit(1)))
#ifdef __GLIBC__
#define UNLOADS 1
#else
#define UNLOADS 0 /* musl's dlclose does nothing */
#endif

typedef struct object {
    const char *path;
    void *handle;
    int (*use)(int), (*run)(void), (*has_heard)(void), (*stop_within)(void);
    void (*listen_to)(int), (*overflow)(void), (*stop)(void);
} object;

static void *symbol(object *o, const char *name)
{
    void *at = dlsym(o->handle, name);
    CHECK(at != NULL);
    return at;
}

static void load(object *o)
{
    o->handle = dlopen(o->path, RTLD_NOW | RTLD_LOCAL);
    if (o->handle == NULL) printf("%s\n", dlerror());
    CHECK(o->handle != NULL);
    *(void **)&o->use = symbol(o, "use");
    *(void **)&o->run = symbol(o, "run");
    *(void **)&o->has_heard = symbol(o, "has_heard");
    *(void **)&o->stop_within = symbol(o, "stop_within");
    *(void **)&o->listen_to = symbol(o, "listen_to");
    *(void **)&o->overflow = symbol(o, "overflow");
    *(void **)&o->stop = symbol(o, "stop");
}

static void unload(object *o)
{
    o->stop();
    CHECK(dlclose(o->handle) == 0);
}

static int is_loaded(const object *o)
{
    void *handle = dlopen(o->path, RTLD_NOW | RTLD_NOLOAD);
    if (handle != NULL) dlclose(handle);
    return handle != NULL;
}

static int child(void (*fn)(object *), object *o, char *text, size_t size)
{
    int fds[2], status = 0;
    size_t n = 0;
    CHECK(pipe(fds) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        alarm(20);
        dup2(fds[1], 2);
        if (fn != NULL) fn(o);
        _exit(0);
    }
    close(fds[1]);
    for (ssize_t k; n + 1 < size && (k = read(fds[0], text + n, size - 1 - n)) > 0;) n += (size_t)k;
    text[n] = 0;
    close(fds[0]);
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void has_an_overflow(object *o)
{
    o->overflow();
}

static void check_overflow(object *o)
{
    char text[1024];
    int code = child(has_an_overflow, o, text, sizeof text);
    if (code != 2 || strstr(text, "stack overflow") == NULL) printf("%d: %s\n", code, text);
    CHECK(code == 2 && strstr(text, "stack overflow") != NULL);
}

/* The program's own handlers: nothing else may be called when all of csp has gone. */
static volatile sig_atomic_t calls;

static void counts(int signo)
{
    (void)signo;
    calls++;
}

static const int signals[] = {SIGSEGV, SIGBUS, SIGUSR1, SIGUSR2};

static void check_signals(void)
{
    calls = 0;
    for (int i = 0; i < 4; i++) raise(signals[i]);
    CHECK(calls == 4);
    for (int i = 0; UNLOADS && i < 4; i++) {
        char text[64]; // and in a child, which has lost whatever runs in a fork
        CHECK(child(NULL, NULL, text, sizeof text) == 0);
    }
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int used, over;

/* Says that this thread has used csp, and waits for what the main one does about it. */
static void waits_until_over(void)
{
    pthread_mutex_lock(&mutex);
    used++;
    pthread_cond_broadcast(&cond);
    while (!over) pthread_cond_wait(&cond, &mutex);
    pthread_mutex_unlock(&mutex);
}

static void *outlives(void *arg)
{
    object *o = (object *)arg;
    CHECK(o->use(10) == 90);
    waits_until_over();
    return NULL; // and what csp kept for this thread?
}

/* Threads that have used csp end after it has been unloaded. */
static void threads_outlive(object *o)
{
    pthread_t threads[4];
    used = over = 0;
    load(o);
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, outlives, o) == 0);
    pthread_mutex_lock(&mutex);
    while (used < 4) pthread_cond_wait(&cond, &mutex);
    pthread_mutex_unlock(&mutex);
    unload(o);
    if (UNLOADS) CHECK(!is_loaded(o));
    pthread_mutex_lock(&mutex);
    over = 1;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    check_signals();
}

static void *uses_between(void *arg)
{
    object *o = (object *)arg;
    CHECK(o->use(10) == 90);
    waits_until_over();
    CHECK(o->use(10) == 90); // starts the runtime anew
    return NULL;
}

static void a_thread_comes_back_after_a_shutdown(object *o, int rounds)
{
    pthread_t thread;
    used = over = 0;
    load(o);
    CHECK(pthread_create(&thread, NULL, uses_between, o) == 0);
    pthread_mutex_lock(&mutex);
    while (used < 1) pthread_cond_wait(&cond, &mutex);
    pthread_mutex_unlock(&mutex);
    o->stop();
    pthread_mutex_lock(&mutex);
    over = 1;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&mutex);
    pthread_join(thread, NULL);
    CHECK(o->stop_within() == 11);
    for (int i = 0; i < rounds; i++) {
        CHECK(o->use(1) == 0);
        o->stop();
    }
    unload(o);
    check_signals();
}

static void one_after_the_other(object *first, object *second, int same_order)
{
    load(first);
    load(second);
    CHECK(first->use(10) == 90 && second->use(10) == 90);
    first->listen_to(SIGUSR1);
    second->listen_to(SIGUSR1);
    raise(SIGUSR1);
    CHECK(second->has_heard() == SIGUSR1);
    object *goes = same_order ? first : second, *stays = same_order ? second : first;
    unload(goes);
    /* Where a handler of the one that stays keeps the address of one of its own, it stays, too. */
    if (UNLOADS && !same_order) CHECK(!is_loaded(goes));
    if (UNLOADS && same_order) CHECK(is_loaded(goes));
    CHECK(stays->use(10) == 90);
    raise(SIGUSR1);
    CHECK(stays->has_heard() == SIGUSR1);
    check_overflow(stays);
    unload(stays);
    check_signals();
    for (int i = 0; i < 2; i++) { // and all over again
        load(goes);
        CHECK(goes->run() == 9900);
        check_overflow(goes);
        CHECK(goes->use(10) == 90);
        goes->listen_to(SIGUSR1);
        raise(SIGUSR1);
        CHECK(goes->has_heard() == SIGUSR1);
        unload(goes);
        check_signals();
    }
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    alarm(120);
    object a = {.path = argv[1]}, b = {.path = argv[2]};
    for (int i = 0; i < 4; i++) signal(signals[i], counts);
    check_signals();
    for (int i = 0; i < 3; i++) {
        threads_outlive(&a);
        a_thread_comes_back_after_a_shutdown(&b, i == 0 ? 1200 : 10); // more than there are keys
        load(&a);
        CHECK(a.run() == 9900); // csp_run gives everything back by itself
        CHECK(dlclose(a.handle) == 0);
        check_signals();
        one_after_the_other(&a, &b, 0);
        load(&a);
        unload(&a);
        CHECK(!UNLOADS || !is_loaded(&a));
    }
    one_after_the_other(&a, &b, 1);
    one_after_the_other(&b, &a, 1);
    return 0;
}
#endif
