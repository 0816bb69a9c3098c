/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * csp_test.c - tests of csp.h, in the order of its sections.
 *
 *     ./csp_test              runs everything
 *     ./csp_test chan time    runs these suites
 *     ./csp_test fifo         runs the tests whose name contains this
 *     ./csp_test -l           lists them
 *     ./csp_test -n ...       runs them in this very process, for a debugger
 *
 *     CSP_TEST_SEED=1         the same random choices again
 *     CSP_TEST_SCALE=10       more rounds, or fewer: 0.1
 *     CSP_TEST_TIMEOUT=60     seconds until a test counts as hanging
 *     CSP_TEST_RUNNER=...     what starts a test's child processes, an emulator for example
 *
 * Compiled with -DCSP_TEST_FEW=1 or 2, it has fewer suites and is compiled in less time: for builds
 * of which only some suites are run. Such a program takes names of suites, and refuses others.
 *
 * A TEST's body is the main goroutine of a csp_run, a TEST_PLAIN's runs on the plain thread. They
 * run one after the other in a worker process, so that each starts the runtime that the one before
 * gave back; a test that fails, dies or hangs takes its worker with it and the next one starts in
 * a new worker. What has to end a process, or deserves one to itself, is a CHILD, started with
 * exec.
 */
#define _GNU_SOURCE
#ifdef _WIN32
#include ".ci/windows.h"
#else
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#endif

#ifndef _WIN32
/* FAULTS. What csp.h asks the system for goes through these: the n-th request of some kinds fails,
 * or all from the n-th on. Macros of this file, defined after the system's headers and before the
 * implementation, and gone after it: csp.h itself has nothing for this. See the suite `faults`. */
enum { MEMORY = 1, PAGES = 2, THREADS = 4, DESCRIPTORS = 8, GUARDS = 16 };
static struct {
    unsigned kinds; // atomic; 0: nothing fails
    bool on_and_on;
    int left;   // atomic: requests until the first that fails
    int failed; // atomic
} fault;

static bool fault_hits(unsigned kind)
{
    if (!(__atomic_load_n(&fault.kinds, __ATOMIC_SEQ_CST) & kind)) return false;
    int left = __atomic_sub_fetch(&fault.left, 1, __ATOMIC_SEQ_CST);
    if (left > 0 || (left < 0 && !fault.on_and_on)) return false;
    __atomic_add_fetch(&fault.failed, 1, __ATOMIC_SEQ_CST);
    errno = kind == DESCRIPTORS ? EMFILE : kind == THREADS ? EAGAIN : ENOMEM;
    return true;
}

#ifdef SYS_accept4
#define IS_ACCEPT4(number) ((number) == SYS_accept4)
#else
#define IS_ACCEPT4(number) false
#endif

static int fake_cpus;
#ifdef __linux__
static unsigned fault_kind(long number) // of a system call
{
    return number == SYS_pipe2 || IS_ACCEPT4(number) ? DESCRIPTORS
           : number == 440 /* process_madvise */     ? GUARDS
                                                     : 0;
}

/* sched_getaffinity as a larger machine answers it. */
static long fake_affinity(long number, ...)
{
    va_list ap;
    va_start(ap, number);
    (void)va_arg(ap, int);
    size_t size = va_arg(ap, size_t);
    unsigned char *mask = va_arg(ap, unsigned char *);
    va_end(ap);
    memset(mask, 0, size);
    for (int i = 0; i < fake_cpus && (size_t)i < 8 * size; i++)
        mask[i / 8] = (unsigned char)(mask[i / 8] | 1 << i % 8);
    return (long)size;
}
#endif
#define FAKED(...) (fake_cpus > 0 && FIRST(__VA_ARGS__, 0) == SYS_sched_getaffinity)

#define FAULTY(kind, failure, call) (fault_hits(kind) ? (failure) : call)
#define FIRST(a, ...) a
#define malloc(size) FAULTY(MEMORY, NULL, malloc(size))
#define realloc(p, size) FAULTY(MEMORY, NULL, realloc(p, size))
#define posix_memalign(p, align, size) FAULTY(MEMORY, ENOMEM, posix_memalign(p, align, size))
#define mmap(...) FAULTY(PAGES, MAP_FAILED, mmap(__VA_ARGS__))
#define madvise(p, size, how) FAULTY((how) == 102 ? GUARDS : 0, -1, madvise(p, size, how))
#define mprotect(p, size, how) FAULTY(GUARDS, -1, mprotect(p, size, how))
#define pthread_create(...) FAULTY(THREADS, EAGAIN, pthread_create(__VA_ARGS__))
#define socket(...) FAULTY(DESCRIPTORS, -1, socket(__VA_ARGS__))
#define accept(...) FAULTY(DESCRIPTORS, -1, accept(__VA_ARGS__))
#define pipe(fds) FAULTY(DESCRIPTORS, -1, pipe(fds))
#define open(...) FAULTY(DESCRIPTORS, -1, open(__VA_ARGS__))
#define epoll_create1(flags) FAULTY(DESCRIPTORS, -1, epoll_create1(flags))
#define eventfd(...) FAULTY(DESCRIPTORS, -1, eventfd(__VA_ARGS__))
#define epoll_ctl(...) FAULTY(MEMORY, -1, epoll_ctl(__VA_ARGS__))
#define syscall(...)                                                                               \
    (FAKED(__VA_ARGS__) ? fake_affinity(__VA_ARGS__)                                               \
                        : FAULTY(fault_kind(FIRST(__VA_ARGS__, 0)), -1, syscall(__VA_ARGS__)))

#endif

#ifndef CSP_TEST_FEW
#define CSP_TEST_FEW 0
#endif

#define CSP_IMPLEMENTATION
#include "csp.h"
#include "csp.h" // it may be included any number of times

#undef malloc
#undef realloc
#undef posix_memalign
#undef mmap
#undef madvise
#undef mprotect
#undef pthread_create
#undef socket
#undef accept
#undef pipe
#undef open
#undef epoll_create1
#undef eventfd
#undef epoll_ctl
#undef syscall

#ifdef __GLIBC__
#include <malloc.h>
#if __GLIBC_PREREQ(2, 33)
#define HAVE_MALLINFO2
#endif
#endif

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define ASAN 1
#endif
#if __has_feature(memory_sanitizer)
#define MSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__)
#define ASAN 1
#endif
#ifndef TSAN
#define TSAN 0
#endif
#ifndef ASAN
#define ASAN 0
#endif
#ifndef MSAN
#define MSAN 0
#endif
#define SANITIZED (TSAN || ASAN || MSAN)
#ifdef _WIN32
#define WINDOWS 1
#define ABORTED 3
#define FAULTED ((int)EXCEPTION_ACCESS_VIOLATION)
#else
#define WINDOWS 0
#define ABORTED (128 + SIGABRT)
#define FAULTED (128 + SIGSEGV)
#endif
#ifdef __OPTIMIZE__
#define UNOPTIMIZED 0
#else
#define UNOPTIMIZED 1
#endif

/* ==========================================================================
 * FRAMEWORK
 * ======================================================================== */

enum { PLAIN = 1, IS_CHILD = 2 };

typedef struct test {
    const char *suite, *name;
    int line, flags;
    void (*fn)(void);
    struct test *next;
} test;

/* What the workers and their parent share. */
typedef struct tally {
    int at;      // index of the test that runs
    bool at_end; // the worker has run all of its tests
    int passed, failed, skipped;
} tally;

static test *tests; // sorted by line
static const test *current;
static tally *shared;
static const char *program = "./csp_test", *skipped_because;
static uint64_t seed;
static double scale = 1;
static unsigned time_limit = SANITIZED ? 120 : 30; // seconds per test
static bool in_child; // in a test's child process, whose output the test reads

static void test_add(test *t)
{
    test **at = &tests;
    while (*at != NULL && (*at)->line < t->line) at = &(*at)->next;
    t->next = *at;
    *at = t;
}

#define TEST_(flags, suite, name)                                                                  \
    static void suite##_##name(void);                                                              \
    static test suite##_##name##_test = {#suite, #name, __LINE__, flags, suite##_##name, NULL};    \
    __attribute__((constructor)) static void suite##_##name##_add(void)                            \
    {                                                                                              \
        test_add(&suite##_##name##_test);                                                          \
    }                                                                                              \
    static void suite##_##name(void)

#define TEST(suite, name) TEST_(0, suite, name)
#define TEST_PLAIN(suite, name) TEST_(PLAIN, suite, name)
#define CHILD(name) TEST_(PLAIN | IS_CHILD, child, name)
#define SKIP(reason)                                                                               \
    do {                                                                                           \
        skipped_because = (reason);                                                                \
        return;                                                                                    \
    } while (0)

/* Prints in one piece, past stdio, so that nothing is printed twice after a fork. */
CSP_X_PRINTF(1, 2) static void say(const char *format, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    size_t size = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    while (size > 0 && write(in_child ? 2 : 1, text, (unsigned)size) < 0 && errno == EINTR)
        continue;
}

/* "suite: a name that is a sentence" */
static const char *title(const test *t)
{
    static char text[256];
    snprintf(text, sizeof text, "%s: %s", t->suite, t->name);
    for (char *p = text; *p != 0; p++)
        if (*p == '_') *p = ' ';
    return text;
}

static void say_how_to_rerun(const test *t)
{
    say("    rerun: CSP_TEST_SEED=%llu %s %s\n", (unsigned long long)seed, program, t->name);
}

__attribute__((noreturn, noinline))
CSP_X_PRINTF(3, 4) static void test_fail(const char *file, int line, const char *format, ...)
{
    static int failing;
    char text[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    while (__atomic_exchange_n(&failing, 1, __ATOMIC_SEQ_CST) != 0) pause(); // one is enough
    say("FAIL %s\n    %s:%d: %s\n", title(current), file, line, text);
    if (!in_child) say_how_to_rerun(current);
    _exit(1);
}

#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(x) ((x) ? (void)0 : FAIL("%s", #x))
#define CHECK_EQ(is, should) check_equal(__FILE__, __LINE__, #is, (int64_t)(is), (int64_t)(should))
#define CHECK_HAS(text, part) check_has(__FILE__, __LINE__, text, part)

static void check_equal(const char *file, int line, const char *what, int64_t is, int64_t should)
{
    if (is != should)
        test_fail(file, line, "%s is %lld, should be %lld", what, (long long)is, (long long)should);
}

static void check_has(const char *file, int line, const char *text, const char *part)
{
    if (strstr(text, part) == NULL) test_fail(file, line, "no \"%s\" in: %s", part, text);
}

/* The statements panic, with a message that contains the text. */
#define CHECK_PANICS(text, ...)                                                                    \
    do {                                                                                           \
        volatile bool check_caught = false;                                                        \
        csp_try                                                                                    \
        {                                                                                          \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
        csp_catch(check_panic)                                                                     \
        {                                                                                          \
            check_caught = true;                                                                   \
            CHECK_HAS(check_panic->message, text);                                                 \
        }                                                                                          \
        if (!check_caught) FAIL("no panic \"%s\" from: %s", text, #__VA_ARGS__);                   \
    } while (0)

/* Waits for a condition that others bring about. */
#define EVENTUALLY(x)                                                                              \
    do {                                                                                           \
        int eventually = 0;                                                                        \
        while (!(x)) eventually_wait(&eventually, __FILE__, __LINE__, #x);                         \
    } while (0)

static int64_t clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void busy(int64_t ns)
{
    for (int64_t end = clock_now() + ns; clock_now() < end;) continue;
}

static int64_t cpu_now(void) // what the thread has used
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void eventually_wait(int *round, const char *file, int line, const char *what)
{
    if (++*round > 100)
        csp_sleep(100 * CSP_MICROSECOND);
    else
        csp_yield();
    if (*round > 200000) test_fail(file, line, "never came true: %s", what);
}

/* Round counts follow CSP_TEST_SCALE; sanitizers run a tenth. */
static int rounds(int n)
{
    double r = n * scale * (SANITIZED ? 0.1 : 1);
    return r < 1 ? 1 : r > 2e9 ? 2000000000 : (int)r;
}

/* How many goroutines at once: the thread sanitizer has room for a few thousand. */
static int crowd(int n)
{
    return TSAN && n > 2000 ? 2000 : n;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int below(uint64_t *state, int n)
{
    return (int)(next_random(state) % (uint64_t)n);
}

/* The k-th random stream of the test that runs: the same for the same seed. */
static uint64_t stream(int k)
{
    uint64_t s = seed + (uint64_t)k * 0x632be59bd9b4e019u;
    for (const char *p = current->name; *p != 0; p++) s = s * 31 + (unsigned char)*p;
    next_random(&s);
    return s;
}

#define LOAD(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define STORE(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)
#define ADD(p, v) __atomic_add_fetch(p, v, __ATOMIC_SEQ_CST)

#ifndef _WIN32
static int entries(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    if (d == NULL) return -1;
    for (struct dirent *e; (e = readdir(d)) != NULL;) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}
#endif

static int threads_now(void)
{
#ifdef _WIN32
    return csp__os_threads();
#else
    return entries("/proc/self/task");
#endif
}

/* Of the system's objects that this process has open. */
static int descriptors_now(void)
{
#ifdef _WIN32
    DWORD n = 0;
    return GetProcessHandleCount(GetCurrentProcess(), &n) ? (int)n : -1;
#else
    return entries("/proc/self/fd");
#endif
}

static int threads_at_start; // of the worker, before csp was used

/* The thread sanitizer starts a thread of its own beside a program's first one. */
static int threads_now_and_later(void)
{
    int n = threads_now();
    return TSAN && n < 2 ? 2 : n;
}

/* An emulator (CSP_TEST_RUNNER) shares its address space with the program, and does not tell it how
 * many threads it has. */
static bool emulated(void)
{
    const char *runner = getenv("CSP_TEST_RUNNER");
    return runner != NULL && strncmp(runner, "qemu", 4) == 0;
}

/* Valgrind runs one thread at a time, slowly, and has its own idea of an exit status. */
static bool under_valgrind(void)
{
    const char *loaded = getenv("LD_PRELOAD");
    return loaded != NULL && strstr(loaded, "vgpreload") != NULL;
}

/* Each wait with a limit is the work of wine's one server, which has to come to run first. */
static bool under_wine(void)
{
#ifdef _WIN32
    return GetProcAddress(GetModuleHandleA("ntdll.dll"), "wine_get_version") != NULL;
#else
    return false;
#endif
}

/* Use after free is noticed where no tool watches and the libc keeps the memory mapped. */
static bool freed_memory_can_be_read(void)
{
#ifdef __GLIBC__
    return !SANITIZED && !under_valgrind();
#else
    return false;
#endif
}

/* A joined thread leaves /proc a moment later. */
static bool threads_are_gone(void)
{
    for (int64_t end = clock_now() + 5 * CSP_SECOND; threads_now() > threads_at_start + TSAN;) {
        if (clock_now() > end) return false;
        sched_yield();
    }
    return true;
}

static int thread_id(void)
{
#ifdef __linux__
    return (int)syscall(SYS_gettid);
#else
    return csp__os_tid();
#endif
}

static pthread_t thread_start(void *(*fn)(void *), void *arg)
{
    pthread_t t;
    CHECK(pthread_create(&t, NULL, fn, arg) == 0);
    return t;
}

static void hanging(int signo)
{
    (void)signo; // reset already: the next one kills
    alarm(5);
    say("FAIL %s\n    hangs for %u s\n", title(current), time_limit);
    csp_dump(stderr);
    fflush(stderr);
#ifndef _WIN32
    kill(getpid(), SIGALRM);
#endif
}

static void watch(unsigned seconds)
{
#ifdef _WIN32
    alarm_rings = hanging;
#else
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = hanging;
    sa.sa_flags = (int)(SA_RESETHAND | SA_NODEFER);
    sigaction(SIGALRM, &sa, NULL);
#endif
    alarm(seconds);
}

static void call_test(void *t)
{
    ((const test *)t)->fn();
}

static void run_test(test *t)
{
    int64_t start = clock_now();
    current = t;
    skipped_because = NULL;
    watch(time_limit);
    if (t->flags & PLAIN)
        t->fn();
    else
        csp_run(call_test, t);
    csp_shutdown();
    if (!threads_are_gone()) FAIL("%d threads left", threads_now() - threads_at_start);
    alarm(0);
    if (skipped_because != NULL) {
        say("skip %s (%s)\n", title(t), skipped_because);
        shared->skipped++;
    } else {
        say("ok   %s (%lld ms)\n", title(t), (long long)((clock_now() - start) / 1000000));
        shared->passed++;
    }
}

static bool same_words(const char *name, const char *filter)
{
    size_t n = strlen(filter);
    for (; *name != 0; name++) {
        size_t i = 0;
        while (i < n && name[i] != 0 && name[i] == (filter[i] == ' ' ? '_' : filter[i])) i++;
        if (i == n) return true;
    }
    return n == 0;
}

static bool is_suite(const char *name)
{
    for (test *t = tests; t != NULL; t = t->next)
        if (!(t->flags & IS_CHILD) && strcmp(t->suite, name) == 0) return true;
    return false;
}

static bool is_wanted(const test *t, char **filters)
{
    if (t->flags & IS_CHILD) return false;
    if (*filters == NULL) return true;
    for (; *filters != NULL; filters++)
        if (is_suite(*filters) ? strcmp(t->suite, *filters) == 0 : same_words(t->name, *filters))
            return true;
    return false;
}

/* Runs the tests from shared->at on; of one suite alone, where a worker has no room for all. */
static void work(char **filters, bool one_suite)
{
    const char *suite = NULL;
    int i = 0;
    threads_at_start = threads_now_and_later();
    for (test *t = tests; t != NULL; t = t->next, i++) {
        if (i < shared->at || !is_wanted(t, filters)) continue;
        if (one_suite && suite != NULL && strcmp(suite, t->suite) != 0) break;
        suite = t->suite;
        shared->at = i;
        run_test(t);
    }
    shared->at = i;
    shared->at_end = true;
}

static test *test_that_runs(void) // NULL: all have run
{
    test *t = tests;
    for (int i = 0; t != NULL && i < shared->at; i++) t = t->next;
    return t;
}

#ifdef _WIN32
/* The tally lies in memory that the workers, which are this program anew, find by its name. */
static void find_tally(void)
{
    char name[64];
    const char *given = getenv("CSP_TEST_TALLY");
    snprintf(name, sizeof name, "CSP_TEST_TALLY=csp_test_%d", getpid());
    if (given == NULL) _putenv(name);
    HANDLE h = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL, PAGE_READWRITE, 0, sizeof *shared,
                                  given == NULL ? strchr(name, '=') + 1 : given);
    shared = h == NULL ? NULL : MapViewOfFile(h, FILE_MAP_ALL_ACCESS, 0, 0, sizeof *shared);
    if (shared == NULL) exit(1);
}

static void run_workers(char **filters)
{
    const char *args[32] = {"csp_test", "-n"};
    for (int i = 0; i < 29 && filters[i] != NULL; i++) args[i + 2] = filters[i];
    for (;;) {
        shared->at_end = false;
        intptr_t status = _spawnv(_P_WAIT, program, args);
        test *t = test_that_runs();
        if (status != 0) shared->failed++;
        if (status != 0 && status != 1) {
            bool at_end = shared->at_end || t == NULL;
            say("FAIL %s\n    the worker ended: 0x%x\n", at_end ? "its end" : title(t),
                (unsigned)status);
            if (!at_end) say_how_to_rerun(t);
        }
        if (status != 0 && !shared->at_end) shared->at++;
        if (test_that_runs() == NULL) return;
    }
}
#else
/* A worker ended: which test was at fault? */
static void blame(int status)
{
    test *t = test_that_runs();
    shared->failed++;
    if (shared->at_end) {
        say("FAIL the worker's end: exit status %d (leaks or races, see above)\n",
            WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        return;
    }
    if (t == NULL) return;
    if (WIFSIGNALED(status)) {
        if (WTERMSIG(status) != SIGALRM)
            say("FAIL %s\n    %s\n", title(t), strsignal(WTERMSIG(status)));
        say_how_to_rerun(t);
    } else if (WEXITSTATUS(status) != 1) {
        say("FAIL %s\n    the process ended: exit status %d\n", title(t), WEXITSTATUS(status));
        say_how_to_rerun(t);
    }
    shared->at++;
}

static void run_workers(char **filters)
{
    for (;;) {
        int status = 0;
        shared->at_end = false;
        pid_t pid = fork();
        if (pid == 0) {
            work(filters, TSAN); // gcc's has room for 8,128 threads and stacks in a process, ever
            exit(0);             // with whatever a sanitizer does at exit
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid) {
            perror("csp_test");
            exit(1);
        }
        if (status != 0) blame(status);
        if (test_that_runs() == NULL) return;
    }
}

#endif

/* ---- child processes: CHILD(name) { ... } in this program, started again with exec ---- */

typedef struct outcome {
    int code;           // exit status, or 128 + the signal that ended it
    char text[1 << 16]; // what it wrote to stdout and stderr
} outcome;

#ifdef _WIN32
static outcome *run_child(const char *name, const char *setting)
{
    static outcome o;
    char unset[200];
    int fds[2], was[2] = {_dup(1), _dup(2)}, n;
    size_t size = 0;
    CHECK(_pipe(fds, 65536, O_TEXT | O_NOINHERIT) == 0);
    if (setting != NULL) _putenv(setting);
    for (int i = 1; i <= 2; i++) _dup2(fds[1], i);
    intptr_t child = _spawnl(_P_NOWAIT, program, "csp_test", "--child", name, NULL);
    for (int i = 1; i <= 2; i++) _dup2(was[i - 1], i), _close(was[i - 1]);
    _close(fds[1]);
    CHECK(child != -1);
    for (; size < sizeof o.text - 1; size += (size_t)n)
        if ((n = _read(fds[0], o.text + size, (unsigned)(sizeof o.text - 1 - size))) <= 0) break;
    o.text[size] = 0;
    _close(fds[0]);
    CHECK(_cwait(&o.code, child, 0) == child);
    if (setting != NULL) {
        snprintf(unset, sizeof unset, "%.*s=", (int)strcspn(setting, "="), setting);
        _putenv(unset);
    }
    return &o;
}
#else
static void child_exec(const char *name)
{
    static char self[4096], runner[1024];
    char *argv[16], *save = NULL;
    int argc = 0;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0) _exit(125);
    snprintf(runner, sizeof runner, "%s",
             getenv("CSP_TEST_RUNNER") ? getenv("CSP_TEST_RUNNER") : "");
    for (char *w = strtok_r(runner, " ", &save); w != NULL && argc < 12;
         w = strtok_r(NULL, " ", &save))
        argv[argc++] = w;
    argv[argc++] = self;
    argv[argc++] = (char *)(uintptr_t) "--child";
    argv[argc++] = (char *)(uintptr_t)name;
    argv[argc] = NULL;
    execvp(argv[0], argv);
    _exit(126);
}

/* Runs a CHILD to its end, with NAME=VALUE in its environment when it is given. */
static outcome *run_child(const char *name, const char *setting)
{
    static outcome o;
    int fds[2];
    size_t size = 0;
    CHECK(pipe(fds) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        if (setting != NULL) putenv((char *)(uintptr_t)setting);
        child_exec(name);
    }
    close(fds[1]);
    for (ssize_t n; size < sizeof o.text - 1; size += (size_t)n)
        if ((n = read(fds[0], o.text + size, sizeof o.text - 1 - size)) <= 0) break;
    o.text[size] = 0;
    close(fds[0]);
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    o.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return &o;
}
#endif

#define CHECK_CHILD(o, wanted)                                                                     \
    do {                                                                                           \
        if ((o)->code != (wanted))                                                                 \
            FAIL("the child ended with %d, should be %d; it wrote: %s", (o)->code, (wanted),       \
                 (o)->text);                                                                       \
    } while (0)

static int be_child(const char *name)
{
    in_child = true;
    threads_at_start = threads_now_and_later();
    for (test *t = tests; t != NULL; t = t->next) {
        if (!(t->flags & IS_CHILD) || strcmp(t->name, name) != 0) continue;
        current = t;
        if (!WINDOWS)
            alarm(time_limit - time_limit / 4); // there by a thread, which might wake others
        t->fn();
        return 0;
    }
    say("no child is called %s\n", name);
    return 127;
}

static void settings(void)
{
    const char *s = getenv("CSP_TEST_SEED"), *x = getenv("CSP_TEST_SCALE"),
               *t = getenv("CSP_TEST_TIMEOUT");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    seed = s != NULL ? strtoull(s, NULL, 10)
                     : (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    if (x != NULL && atof(x) > 0) scale = atof(x);
    if (scale > 1) time_limit = (unsigned)(time_limit * scale);
    if (t != NULL && atoi(t) > 0) time_limit = (unsigned)atoi(t);
}

int main(int argc, char **argv)
{
    bool here = false;
    settings();
    if (argc == 3 && strcmp(argv[1], "--child") == 0) return be_child(argv[2]);
    program = argv[0];
    if (argc > 1 && strcmp(argv[1], "-l") == 0) {
        for (test *t = tests; t != NULL; t = t->next)
            if (is_wanted(t, argv + 2)) printf("%s\n", title(t));
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "-n") == 0) here = true;
    for (char **name = argv + (here ? 2 : 1); CSP_TEST_FEW != 0 && name < argv + argc; name++)
        if (!is_suite(*name)) {
            say("FAIL this build has no suite %s\n", *name);
            return 1;
        }
#ifdef _WIN32
    static char path[MAX_PATH], same[40];
    bool worker = getenv("CSP_TEST_TALLY") != NULL;
    GetModuleFileNameA(NULL, path, sizeof path);
    program = path;
    snprintf(same, sizeof same, "CSP_TEST_SEED=%llu", (unsigned long long)seed);
    _putenv(same);
    find_tally();
    alarm(0); // there from now on
#else
    const bool worker = false;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
#endif
    if (!worker) say("csp_test: seed %llu\n", (unsigned long long)seed);
    if (here)
        work(argv + 2, false);
    else
        run_workers(argv + 1);
    if (worker) return 0;
    if (shared->passed + shared->failed + shared->skipped == 0) say("no test matches\n");
    say("%d passed, %d failed, %d skipped\n", shared->passed, shared->failed, shared->skipped);
    return shared->failed != 0 || shared->passed + shared->skipped == 0;
}

/* ---- helpers of several suites ---- */

typedef csp_chan(int) int_chan;

static void collect(int_chan done, int n)
{
    while (n-- > 0) CHECK(csp_recv(done, NULL));
}

/* Runs fn(id, random) on so many goroutines and threads at once, and waits for all. */
static struct {
    void (*fn)(int id, uint64_t r);
    int_chan done;
} party;

csp_task(takes_part, int, id)
{
    party.fn(id, stream(id));
    csp_send(party.done, 1);
}

static void *thread_takes_part(void *id)
{
    takes_part((int)(intptr_t)id);
    return NULL;
}

static void together(void (*fn)(int id, uint64_t r), int goroutines, int threads)
{
    pthread_t t[4] = {0};
    party.fn = fn;
    party.done = csp_make(int, 0);
    for (int i = 0; i < threads; i++)
        t[i] = thread_start(thread_takes_part, (void *)(intptr_t)(goroutines + i));
    for (int i = 0; i < goroutines; i++) csp_go(takes_part, i);
    collect(party.done, goroutines + threads);
    for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
    csp_unref(party.done);
}

/* Is there another waiter in the queue than before? Reads what a lock guards, so that a test can
 * queue waiters in a known order. */
__attribute__((noinline)) CSP__BLIND static void *last_in(const csp_x_queue *q)
{
    return __atomic_load_n(&q->tail, __ATOMIC_SEQ_CST);
}

#define last_receiver(c) last_in(&((const csp_x_chan *)(const void *)(c))->receivers)
#define last_sender(c) last_in(&((const csp_x_chan *)(const void *)(c))->senders)

// Not inline: gcc takes the stream's buffer for a dangling pointer.
static __attribute__((noinline)) char *dump_text(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    CHECK(f != NULL);
    csp_dump(f);
    fclose(f);
    CHECK(text != NULL);
    return text;
}

static bool dump_has(const char *part)
{
    char *text = dump_text();
    bool has = strstr(text, part) != NULL;
    free(text);
    return has;
}

static void nothing(void *arg)
{
    (void)arg;
}

static void bump(void *counter)
{
    ADD((int *)counter, 1);
}

static void block_forever(void *arg)
{
    (void)arg;
    csp_recv((int_chan)NULL, NULL);
}

csp_task(blocks_in_kernel, int, fd, int_chan, done)
{
    char b;
    ssize_t n = read(fd, &b, 1);
    csp_send(done, (int)n);
}

/* ==========================================================================
 * go - goroutines, and the runtime around them
 * ======================================================================== */

typedef struct big {
    char bytes[200];
    double d;
    struct {
        short s;
        const char *p;
    } in;
} big;

csp_task(eight, char, a, int64_t, b, double, c, const char *, d, big, e, int *, f, float, g,
         csp_chan(int), done)
{
    CHECK(a == 'a' && b == INT64_MIN && c > 2.4 && c < 2.6 && strcmp(d, "text") == 0);
    for (int i = 0; i < 200; i++) CHECK(e.bytes[i] == (char)i);
    CHECK(e.d > 0.4 && e.d < 0.6 && e.in.s == -7 && strcmp(e.in.p, "inner") == 0);
    CHECK(g > 8.4f && g < 8.6f);
    *f = 99;
    csp_send(done, 1);
}

TEST(go, a_task_gets_copies_of_all_its_arguments)
{
    int_chan done = csp_make(int, 0);
    int out = 0;
    big e = {.d = 0.5, .in = {-7, "inner"}};
    for (int i = 0; i < 200; i++) e.bytes[i] = (char)i;
    csp_go(eight, 'a', INT64_MIN, 2.5, "text", e, &out, 8.5f, done);
    memset(&e, 0, sizeof e); // the goroutine has its own
    collect(done, 1);
    CHECK_EQ(out, 99);
    csp_unref(done);
}

csp_task(takes_nothing)
{
    csp_exit();
}

csp_task(sends_and_exits, int_chan, c)
{
    csp_send(c, 1);
    csp_exit();
}

/* ThreadSanitizer's record of a stack has room for 65,536 calls. The calls that csp_exit has left
 * must not fill it. */
TEST(go, exits_leave_no_calls_behind)
{
    int_chan c = csp_make(int, 0);
    int n = 1000;
#ifdef __clang__ // gcc's tool takes 97 s for it
    if (TSAN) n = 250000;
#endif
    for (int i = 0; i < n; i++) {
        csp_go(sends_and_exits, c);
        csp_recv(c, NULL);
    }
    csp_unref(c);
}

csp_task(takes_struct, big, b, int_chan, done)
{
    csp_send(done, b.in.s);
}

TEST(go, a_task_can_be_called_like_a_function_too)
{
    int_chan done = csp_make(int, 2);
    big b = {.in = {5, NULL}};
    int v = 0;
    csp_go(takes_nothing);
    takes_struct(b, done);
    csp_go(takes_struct, b, done);
    CHECK(csp_recv(done, &v) && v == 5);
    CHECK(csp_recv(done, &v) && v == 5);
    EVENTUALLY(csp_count() == 1);
    csp_unref(done);
}

csp_task_declare(odd, int, n, int_chan, done);
csp_task(even, int, n, int_chan, done)
{
    if (n == 0)
        csp_send(done, 0);
    else
        csp_go(odd, n - 1, done);
}
csp_task(odd, int, n, int_chan, done)
{
    if (n == 0)
        csp_send(done, 1);
    else
        csp_go(even, n - 1, done);
}

TEST(go, declared_tasks_start_each_other)
{
    int_chan done = csp_make(int, 0);
    int v = -1;
    csp_go(even, 1001, done);
    CHECK(csp_recv(done, &v) && v == 1);
    csp_unref(done);
}

static int order_at;
static int in_order(int expected)
{
    CHECK_EQ(order_at, expected);
    order_at++;
    return expected;
}

csp_task(two, int, a, int_chan, done)
{
    csp_send(done, a);
}

TEST(go, arguments_are_evaluated_once_and_by_the_caller)
{
    int_chan done = csp_make(int, 0);
    uint64_t me = csp_id(), evaluated_by = 0;
    int v = 0;
    order_at = 0;
    csp_go(two, (evaluated_by = csp_id(), in_order(0)), done);
    CHECK(order_at == 1 && evaluated_by == me);
    csp_opts opts = {.name = "x"};
    csp_go_with(&opts, two, in_order(1), done);
    collect(done, 1);
    CHECK(csp_recv(done, &v));
    CHECK_EQ(order_at, 2);
    csp_unref(done);
}

static csp_chan(uint64_t) ids;
static void send_id(void *arg)
{
    (void)arg;
    csp_send(ids, csp_id());
}

TEST(go, spawn_returns_the_id_that_the_goroutine_sees)
{
    enum { N = 100 };
    uint64_t started[N], seen, all = csp_id();
    CHECK(all != 0);
    ids = csp_make(uint64_t, 0);
    for (int i = 0; i < N; i++) {
        started[i] = csp_spawn(send_id, NULL);
        CHECK(started[i] != 0 && started[i] != csp_id());
        for (int k = 0; k < i; k++) CHECK(started[k] != started[i]);
        all += started[i];
    }
    for (int i = 0; i < N; i++) {
        CHECK(csp_recv(ids, &seen));
        all -= seen;
    }
    CHECK(all == csp_id());
    csp_unref(ids);
}

csp_task_extern_declare(sends_id, csp_chan(uint64_t), to);
csp_task_extern_declare(sends_its_id_twice);
csp_task_extern_declare(sends_id, csp_chan(uint64_t), to); // as by a header that is included again

csp_task_extern(sends_id, csp_chan(uint64_t), to)
{
    csp_send(to, csp_id());
}

csp_task_extern(sends_its_id_twice)
{
    csp_send(ids, csp_id());
    sends_id(ids);
}

TEST(go, go_returns_the_id_that_the_goroutine_sees)
{
    uint64_t seen = 0;
    ids = csp_make(uint64_t, 0);
    for (int i = 0; i < 1000; i++) { // by the short way and by the long one
        csp_opts opts = {.name = i % 3 == 1 ? "named" : NULL};
        uint64_t id = i % 3 == 0 ? csp_go(sends_id, ids) : csp_go_with(&opts, sends_id, ids);
        CHECK(csp_recv(ids, &seen));
        CHECK_EQ(seen, id);
        CHECK(id != 0 && id != csp_id());
    }
    uint64_t id = csp_go(sends_its_id_twice);
    for (int i = 0; i < 2; i++) CHECK(csp_recv(ids, &seen) && seen == id);
    csp_unref(ids);
}

TEST(go, count_is_the_number_of_goroutines)
{
    int_chan gate = csp_make(int, 0);
    CHECK_EQ(csp_count(), 1);
    for (int i = 1; i <= 50; i++) {
        csp_go(two, 1, gate);
        CHECK_EQ(csp_count(), 1 + i);
    }
    collect(gate, 50);
    EVENTUALLY(csp_count() == 1);
    csp_unref(gate);
}

static void set_long_name(void *gate)
{
    csp_set_name("0123456789abcdefghijklmnopqrstuvwxyz");
    csp_send(*(int_chan *)gate, 1);
    csp_send(*(int_chan *)gate, 2);
}

TEST(go, names_are_copied_and_cut_at_31_bytes)
{
    int_chan gate = csp_make(int, 0);
    char name[] = "silverfish";
    csp_opts opts = {.name = name};
    csp_go_with(&opts, two, 1, gate);
    memset(name, 'x', sizeof name - 1);
    CHECK(dump_has("silverfish"));
    collect(gate, 1);
    csp_spawn(set_long_name, &gate);
    collect(gate, 1);
    CHECK(dump_has("0123456789abcdefghijklmnopqrstu"));
    CHECK(!dump_has("0123456789abcdefghijklmnopqrstuv"));
    collect(gate, 1);
    csp_set_name("grasshopper");
    CHECK(dump_has("grasshopper"));
    csp_unref(gate);
}

typedef struct yielder {
    int *rounds, self, n, goal;
} yielder;

csp_task(yields, yielder, y, int_chan, done)
{
    while (LOAD(&y.rounds[y.self]) < y.goal) {
        ADD(&y.rounds[y.self], 1);
        csp_yield();
    }
    int least = y.goal;
    for (int i = 0; i < y.n; i++)
        if (LOAD(&y.rounds[i]) < least) least = LOAD(&y.rounds[i]);
    csp_send(done, least);
}

TEST(go, goroutines_that_yield_take_turns)
{
    enum { N = 10, GOAL = 1000 };
    int counts[N] = {0}, least = 0;
    int_chan done = csp_make(int, N);
    csp_procs(1);
    for (int i = 0; i < N; i++) csp_go(yields, (yielder){counts, i, N, GOAL}, done);
    CHECK(csp_recv(done, &least)); // from the fastest: the others cannot be far behind
    CHECK(least > GOAL / 4);
    collect(done, N - 1);
    csp_unref(done);
}

TEST(go, a_yield_is_enough_for_another_goroutine_to_run)
{
    int n = 0;
    csp_procs(1);
    for (int i = 1; i <= 100; i++) {
        csp_spawn(bump, &n);
        for (int k = 0; LOAD(&n) < i; k++) {
            CHECK(k < 1000);
            csp_yield();
        }
    }
}

/* What happened, in order, by one goroutine at a time. */
static char trail[256];

static void mark(void *text)
{
    strncat(trail, (const char *)text, sizeof trail - strlen(trail) - 1);
}

static void send_one(void *c)
{
    csp_send(*(int_chan *)c, 1);
}

static bool now_exit = true;

static void exit_deep(int depth)
{
    csp_defer(mark, depth == 0 ? "3" : depth == 1 ? "2" : "1");
    if (depth > 0)
        exit_deep(depth - 1);
    else if (LOAD(&now_exit))
        csp_exit();
    mark("never");
}

static void exits(void *done)
{
    csp_defer(send_one, done);
    csp_defer(mark, "0");
    csp_try
    {
        exit_deep(2);
    }
    csp_catch(p)
    {
        mark(p != NULL ? "caught" : "?");
    }
    mark("never");
}

TEST(go, exit_runs_the_defers_of_all_frames_and_nothing_else)
{
    int_chan done = csp_make(int, 0);
    trail[0] = 0;
    csp_spawn(exits, &done);
    collect(done, 1);
    if (strcmp(trail, "3210") != 0) FAIL("ran %s", trail);
    csp_unref(done);
}

csp_task(counts, int_chan, gate, int *, n)
{
    csp_recv(gate, NULL);
    ADD(n, 1);
}

TEST(go, a_hundred_thousand_goroutines_wait_at_once)
{
    int_chan gate = csp_make(int, 0);
    int n = 0, all = crowd(rounds(100000));
    for (int i = 0; i < all; i++) csp_go(counts, gate, &n);
    CHECK_EQ(csp_count(), all + 1);
    csp_close(gate);
    EVENTUALLY(csp_count() == 1);
    CHECK_EQ(LOAD(&n), all);
    csp_unref(gate);
}

TEST(go, goroutines_come_and_go_by_the_hundred_thousand)
{
    int n = 0, all = rounds(300000);
    for (int i = 0; i < all; i++) {
        csp_spawn(bump, &n);
        if (i % 1000 == 0) EVENTUALLY(csp_count() < 500);
    }
    EVENTUALLY(csp_count() == 1);
    CHECK_EQ(LOAD(&n), all);
}

static void tree(void *n)
{
    int_chan done = csp_make(int, 0);
    struct {
        int depth;
        int_chan up;
    } *me = n, kids = {me->depth - 1, done};
    if (me->depth > 0) {
        for (int i = 0; i < 10; i++) csp_spawn(tree, &kids);
        collect(done, 10);
    }
    int_chan up = me->up;
    csp_unref(done);
    csp_send(up, 1);
}

TEST(go, goroutines_start_goroutines_that_start_goroutines)
{
    int_chan done = csp_make(int, 0);
    struct {
        int depth;
        int_chan up;
    } root = {SANITIZED ? 3 : 4, done};
    csp_spawn(tree, &root);
    collect(done, 1);
    csp_unref(done);
}

static csp_local first_local, second_local;

csp_task(uses_locals, intptr_t, value, int_chan, done)
{
    CHECK(csp_local_get(&first_local) == NULL && csp_local_get(&second_local) == NULL);
    csp_local_set(&first_local, (void *)value);
    csp_yield();
    CHECK(csp_local_get(&second_local) == NULL);
    csp_local_set(&second_local, (void *)-value);
    for (int i = 0; i < 3; i++) {
        csp_yield();
        CHECK(csp_local_get(&first_local) == (void *)value);
        CHECK(csp_local_get(&second_local) == (void *)-value);
    }
    csp_local_set(&first_local, NULL);
    CHECK(csp_local_get(&first_local) == NULL);
    csp_local_set(&first_local, &done);
    csp_send(done, 1);
}

TEST(go, locals_belong_to_one_goroutine_and_end_with_it)
{
    int_chan done = csp_make(int, 0);
    csp_local_set(&first_local, &done);
    for (int round = 0; round < 20; round++) {
        for (int i = 1; i <= 50; i++) csp_go(uses_locals, i, done);
        collect(done, 50);
    }
    CHECK(csp_local_get(&first_local) == &done && csp_local_get(&second_local) == NULL);
    csp_unref(done);
}

static csp_local many_locals[100];

TEST(go, there_is_room_for_many_locals)
{
    for (int i = 0; i < 100; i++) csp_local_set(&many_locals[i], &many_locals[99 - i]);
    csp_yield();
    for (int i = 0; i < 100; i++) CHECK(csp_local_get(&many_locals[i]) == &many_locals[99 - i]);
}

csp_task(echoes, int_chan, in, int_chan, out)
{
    csp_range(v, in) csp_send(out, v);
    csp_close(out);
}

csp_task(nothing_but_an_answer, int_chan, out)
{
    csp_send(out, 1);
}

csp_task(keeps_off, int *, locked, int *, stop, int_chan, done)
{
    while (!LOAD(stop)) {
        CHECK(LOAD(locked) != thread_id());
        csp_yield();
    }
    csp_send(done, 1);
}

TEST(go, lock_thread_nests_and_keeps_the_goroutine_and_the_thread_to_one_another)
{
    int_chan there = csp_make(int, 0), back = csp_make(int, 0), done = csp_make(int, 0);
    int locked = 0, stop = 0;
    csp_procs(4);
    csp_go(echoes, there, back);
    csp_lock_thread();
    csp_lock_thread();
    csp_unlock_thread();
    STORE(&locked, thread_id());
    for (int i = 0; i < 4; i++) csp_go(keeps_off, &locked, &stop, done);
    for (int i = 0; i < rounds(2000); i++) {
        int v = -1;
        csp_send(there, i);
        CHECK(csp_recv(back, &v) && v == i);
        CHECK(thread_id() == locked);
        if (i % 100 == 0) csp_sleep(10 * CSP_MICROSECOND);
        if (i % 3 == 0) csp_yield();
        CHECK(thread_id() == locked);
    }
    STORE(&locked, 0);
    csp_unlock_thread();
    csp_unlock_thread(); // once too often, which is harmless as in Go
    STORE(&stop, 1);
    collect(done, 4);
    csp_close(there);
    CHECK(!csp_recv(back, NULL));
    csp_unref(there);
    csp_unref(back);
    csp_unref(done);
}

static void ends_locked(void *n)
{
    csp_lock_thread();
    csp_yield();
    ADD((int *)n, 1);
}

TEST(go, a_goroutine_may_end_while_locked_to_its_thread)
{
    int n = 0;
    for (int i = 0; i < 20; i++) csp_spawn(ends_locked, &n);
    EVENTUALLY(csp_count() == 1);
    CHECK_EQ(LOAD(&n), 20);
}

/* Apart, for compilers that keep the address of a thread-local across a call. */
__attribute__((noinline)) static int *count_of_thread(void)
{
    static _Thread_local int count = 40;
    __asm__ volatile("");
    return &count;
}

csp_task(counts_on_its_thread, int_chan, done)
{
    for (int i = 0; i < 5; i++) {
        csp_lock_thread();
        int n = *count_of_thread();
        CHECK(n >= 40);
        for (int k = 1; k <= 3; k++) {
            csp_yield();
            CHECK_EQ(++*count_of_thread(), n + k);
        }
        csp_unlock_thread();
        csp_yield();
    }
    csp_send(done, 1);
}

TEST(go, thread_locals_are_those_of_the_thread_that_is_locked)
{
    int_chan done = csp_make(int, 0);
    csp_procs(4);
    for (int i = 0; i < 20; i++) csp_go(counts_on_its_thread, done);
    collect(done, 20);
    csp_unref(done);
}

csp_task(turns, int *, stop, int_chan, done)
{
    int n = 0;
    while (!LOAD(stop)) {
        csp_yield();
        n++;
    }
    csp_send(done, n);
}

TEST(go, procs_may_change_while_goroutines_run)
{
    int_chan done = csp_make(int, 0), there = csp_make(int, 0), back = csp_make(int, 0);
    uint64_t r = stream(0);
    int stop = 0, n = 0, v = 0, before = csp_procs(0);
    CHECK(before >= 1);
    for (int i = 0; i < 12; i++) csp_go(turns, &stop, done);
    csp_go(echoes, there, back);
    for (int i = 0; i < rounds(500); i++) {
        int want = 1 + below(&r, 8);
        CHECK_EQ(csp_procs(want), before);
        CHECK_EQ(csp_procs(0), want);
        CHECK_EQ(csp_procs(-want), want); // asks, too
        before = want;
        csp_send(there, i);
        CHECK(csp_recv(back, &v) && v == i);
    }
    STORE(&stop, 1);
    for (int i = 0; i < 12; i++) CHECK(csp_recv(done, &n));
    csp_close(there);
    CHECK(!csp_recv(back, NULL));
    csp_unref(there);
    csp_unref(back);
    csp_unref(done);
}

typedef struct bulky {
    char b[4000];
} bulky;

csp_task(naps, int_chan, done)
{
    csp_sleep(10 * CSP_MICROSECOND);
    csp_send(done, 1);
}

csp_task(takes_bulky, bulky, x, int_chan, done)
{
    csp_send(done, x.b[0] + x.b[3999]);
}

#ifndef _WIN32
static void uses_a_large_machine(void *procs)
{
    csp_stats stats;
    int_chan done = csp_make(int, 0);
    *(int *)procs = csp_procs(0);
    for (int i = 0; i < 100; i++) csp_go(two, i, done);
    collect(done, 100);
    csp_get_stats(&stats);
    /* Stacks are promised to processors that have run goroutines, which are a hundred at most. */
    uint64_t keep = 0, slots;
    for (int i = 0; i < csp__nmade(); i++) keep += csp__sched.procs[i]->keeps != 0;
    CHECK(keep <= 101);
    slots = 3 * CSP__ARENA_SLOTS + keep * CSP__STACKS_KEPT;
    CHECK(stats.stack_bytes < slots * (CSP_STACK_SIZE + 128 * 1024));
    csp_unref(done);
}

TEST_PLAIN(go, every_cpu_of_a_large_machine_is_used)
{
    int procs = 0;
    if (getenv("CSP_PROCS") != NULL) SKIP("CSP_PROCS says how many are used");
    fake_cpus = 8192;
    int quota = csp_ncpu(); // of the cgroup; none: 8192
    fake_cpus = 384;
    csp_run(uses_a_large_machine, &procs);
    CHECK_EQ(procs, quota < 384 ? quota : 384);
    fake_cpus = 8192;
    csp_run(uses_a_large_machine, &procs);
    CHECK_EQ(procs, quota < CSP_MAX_PROCS ? quota : CSP_MAX_PROCS);
    fake_cpus = 0;
}
#endif

TEST(go, procs_is_cut_to_what_there_may_be_and_less_than_one_asks)
{
    int_chan done = csp_make(int, 0);
    int before = csp_procs(0);
    CHECK_EQ(csp_procs(-1), before);
    CHECK_EQ(csp_procs(1024), before);
    CHECK_EQ(csp_procs(0), 1024);
    CHECK_EQ(csp_procs(INT32_MAX), 1024);
    CHECK_EQ(csp_procs(INT32_MIN), CSP_MAX_PROCS);
    for (int i = 0; i < 100; i++) csp_go(two, i, done);
    collect(done, 100);
    CHECK_EQ(csp_procs(2), CSP_MAX_PROCS);
    for (int i = 0; i < 100; i++) csp_go(two, i, done);
    collect(done, 100);
    csp_unref(done);
}

/* They lie where an earlier goroutine's frames were, which did not return: the address sanitizer
 * took them for still in use. */
TEST(go, large_arguments_may_lie_where_another_goroutine_has_ended)
{
    int_chan done = csp_make(int, 0);
    bulky x = {{1}};
    x.b[3999] = 2;
    for (int size = 0; size < 32768; size += 16384)
        for (int i = 0, n = 0; i < 20; i++) {
            csp_opts opts = {.stack_size = (size_t)size};
            csp_go_with(&opts, naps, done);
            CHECK(csp_recv(done, NULL));
            EVENTUALLY(csp_count() == 1);
            csp_go_with(&opts, takes_bulky, x, done);
            CHECK(csp_recv(done, &n) && n == 3);
        }
    csp_unref(done);
}

/* ---- registers, errno and stacks ---- */

__attribute__((noinline)) static void set_errno(int e)
{
    errno = e;
    __asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) static int get_errno(void)
{
    __asm__ volatile("" ::: "memory");
    return errno;
}

csp_task(keeps_errno, int, e, int_chan, done)
{
    int_chan in = csp_make(int, 0), out = csp_make(int, 0);
    csp_go(echoes, in, out);
    for (int i = 0; i < 100; i++) {
        set_errno(e + i * 100);
        if (i % 10 == 9)
            csp_sleep(CSP_MICROSECOND);
        else if (i % 3 == 0)
            csp_send(in, i), csp_recv(out, NULL);
        else
            csp_yield();
        CHECK_EQ(get_errno(), e + i * 100);
    }
    csp_close(in);
    csp_recv(out, NULL);
    csp_unref(in);
    csp_unref(out);
    csp_send(done, 1);
}

TEST(go, errno_belongs_to_the_goroutine_across_a_switch)
{
    int_chan done = csp_make(int, 0);
    csp_procs(4);
    for (int i = 1; i <= 30; i++) csp_go(keeps_errno, i, done);
    collect(done, 30);
    csp_unref(done);
}

/* More live values than there are registers, of both kinds. */
csp_task(keeps_registers, uint64_t, r, int_chan, done)
{
    uint64_t a[12];
    double x[12];
    for (int i = 0; i < 12; i++) a[i] = next_random(&r);
    for (int i = 0; i < 12; i++) x[i] = (double)(a[i] >> 40);
    uint64_t sum = 0;
    double all = 0;
    for (int i = 0; i < 12; i++) sum += a[i];
    for (int i = 0; i < 12; i++) all += x[i];
    uint64_t a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3], a4 = a[4], a5 = a[5], a6 = a[6], a7 = a[7],
             a8 = a[8], a9 = a[9], a10 = a[10], a11 = a[11];
    double x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3], x4 = x[4], x5 = x[5], x6 = x[6], x7 = x[7],
           x8 = x[8], x9 = x[9], x10 = x[10], x11 = x[11];
    for (int i = 0; i < 200; i++) {
        csp_yield();
        CHECK(a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11 == sum);
        double now = x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 + x10 + x11;
        CHECK(!(now < all) && !(now > all));
        a0 += 3;
        a11 -= 3;
        x0 += 1;
        x11 -= 1;
    }
    csp_send(done, 1);
}

TEST(go, values_in_registers_survive_switches)
{
    int_chan done = csp_make(int, 0);
    csp_procs(3);
    for (int i = 0; i < 20; i++) csp_go(keeps_registers, stream(i), done);
    collect(done, 20);
    csp_unref(done);
}

/* As many as the richest processor preserves: 18 floating-point registers, 12 vectors. */
typedef uint64_t two_words __attribute__((vector_size(16)));
#define LANES_EACH(X)                                                                              \
    X(0)                                                                                           \
    X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17)
csp_task(keeps_vectors, uint64_t, r, int_chan, done)
{
#define LANES_MAKE(i)                                                                              \
    double x##i = (double)(next_random(&r) >> 40);                                                 \
    two_words v##i = {next_random(&r), next_random(&r)};
#define LANES_CHANGE(i) x##i += 1, v##i += one;
#define LANES_ADD(i) x += x##i, v += v##i;
    LANES_EACH(LANES_MAKE)
    two_words one = {1, 2}, v = {0, 0}, before = {0, 0};
    double x = 0, all = 0;
    LANES_EACH(LANES_ADD)
    before = v, all = x;
    for (int i = 1; i <= 200; i++) {
        csp_yield();
        LANES_EACH(LANES_CHANGE)
        x = 0, v -= v;
        LANES_EACH(LANES_ADD)
        double expected = all + 18 * i;
        CHECK(!(x < expected) && !(x > expected));
        CHECK(v[0] == before[0] + 18 * (uint64_t)i && v[1] == before[1] + 36 * (uint64_t)i);
    }
#undef LANES_MAKE
#undef LANES_CHANGE
#undef LANES_ADD
    csp_send(done, 1);
}

TEST(go, floating_point_and_vector_registers_survive_switches)
{
    int_chan done = csp_make(int, 0);
    csp_procs(3);
    for (int i = 0; i < 20; i++) csp_go(keeps_vectors, stream(i), done);
    collect(done, 20);
    csp_unref(done);
}

__attribute__((noinline)) static int dig(int kib)
{
    volatile char page[1024];
    memset((char *)(uintptr_t)page, kib, sizeof page);
    if (kib % 64 == 0) csp_yield();
    return kib <= 1 ? page[0] : dig(kib - 1) + (page[1023] == (char)kib);
}

csp_task(digs, int, kib, int_chan, done)
{
    for (int i = 0; i < 3; i++) CHECK_EQ(dig(kib), kib);
    csp_send(done, 1);
}

TEST(go, stacks_are_as_large_as_promised)
{
    int_chan done = csp_make(int, 0);
    csp_opts large = {.stack_size = 4 << 20};
    int share = SANITIZED || UNOPTIMIZED ? 3 : 2; // of the stack: frames are larger there
    for (int i = 0; i < 20; i++) csp_go(digs, (int)(CSP_STACK_SIZE / 1024) / share, done);
    collect(done, 20);
    for (int i = 0; i < 4; i++) csp_go_with(&large, digs, 4096 / share, done);
    collect(done, 4);
    csp_unref(done);
}

/* Of the goroutine that calls: from below its arguments down to the canary, if there is one. Part
 * of the runtime, as the sanitizers see it. */
typedef struct measures {
    size_t usable, guard;
    bool packed, aligned;
} measures;

__attribute__((noinline)) CSP__BLIND static measures stack_measures(void)
{
    csp__cb *cb = csp__self()->g->cb;
    size_t word = cb->kind >= CSP__GUARD_CANARY ? sizeof(uint64_t) : 0;
    return (measures){(size_t)(cb->top - cb->low) - word, (size_t)(cb->low - cb->base),
                      cb->kind == CSP__GUARD_PACKED, (uintptr_t)cb->low % csp__os_page() == 0};
}

csp_task(measures_its_stack, size_t, asked, int_chan, done)
{
    measures is = stack_measures();
    if (is.usable < asked) FAIL("%zu bytes of %zu", is.usable, asked);
    CHECK(is.packed || is.aligned);
    CHECK(is.guard >= (asked > 65536 ? 65536 : asked > 16384 ? csp__os_page() : 0));
    csp_send(done, 1);
}

TEST(go, a_stack_has_at_least_the_bytes_that_were_asked_for)
{
    int_chan done = csp_make(int, 0);
    static const size_t sizes[] = {CSP_STACK_MIN, 2048,         4096,           6144,
                                   8192,          15000,        16000,          16384,
                                   16385,         20480,        65536,          65537,
                                   100000,        131072,       CSP_STACK_SIZE, CSP_STACK_SIZE + 1,
                                   1 << 20,       (8 << 20) - 1};
    for (int i = 0; i < (int)(sizeof sizes / sizeof sizes[0]); i++) {
        csp_opts opts = {.stack_size = sizes[i]};
        if (sizes[i] < 16384 && (SANITIZED || UNOPTIMIZED)) continue; // larger frames
        for (int k = 0; k < 40; k++) csp_go_with(&opts, measures_its_stack, sizes[i], done);
        collect(done, 40);
    }
    for (int k = 0; k < 40; k++) csp_go(measures_its_stack, CSP_STACK_SIZE, done);
    collect(done, 40);
    csp_unref(done);
}

static void starts_one(void *size)
{
    int_chan done = csp_make(int, 0);
    for (int i = 0; i < 20; i++) csp_go(measures_its_stack, *(size_t *)size, done);
    collect(done, 20);
    csp_unref(done);
}

TEST_PLAIN(go, init_takes_every_stack_size_from_16_KiB_on)
{
    static size_t sizes[] = {16384, 16385, 65535, 65536, 65537, 300000, 1 << 20};
    for (int i = 0; i < (int)(sizeof sizes / sizeof sizes[0]); i++) {
        CHECK_EQ(csp_init(&(csp_config){.procs = 2, .stack_size = sizes[i]}), CSP_OK);
        csp_run(starts_one, &sizes[i]);
        csp_shutdown();
    }
}

TEST(go, small_stacks_are_enough_for_small_goroutines)
{
    int_chan gate = csp_make(int, 0);
    csp_opts small = {.stack_size = SANITIZED || UNOPTIMIZED ? 16384 : 2048};
    int n = 0, all = crowd(5000);
    for (int i = 0; i < all; i++) csp_go_with(&small, counts, gate, &n);
    CHECK_EQ(csp_count(), all + 1);
    csp_close(gate);
    EVENTUALLY(csp_count() == 1);
    CHECK_EQ(LOAD(&n), all);
    csp_unref(gate);
}

TEST(go, stacks_of_every_size_are_used_again)
{
    int_chan done = csp_make(int, 0);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t sizes[] = {16384, CSP_STACK_SIZE - 2 * page, CSP_STACK_SIZE, 100000, 2000000};
    for (int i = 0; i < (int)(sizeof sizes / sizeof sizes[0]); i++) {
        csp_opts opts = {.stack_size = sizes[i]};
        csp_stats before, after;
        for (int n = 0; n < 300; n++) {
            csp_go_with(&opts, two, n, done);
            collect(done, 1);
            if (n == 99) csp_get_stats(&before);
        }
        csp_get_stats(&after);
        CHECK(after.stack_bytes - before.stack_bytes <= 20 * sizes[i]);
    }
    csp_unref(done);
}

csp_task(digs_deep, unsigned char **, deep)
{
    STORE(deep, (unsigned char *)__builtin_frame_address(0) - (1 << 20));
    dig(4096 / (SANITIZED || UNOPTIMIZED ? 3 : 2));
}

#ifndef _WIN32
static bool is_resident(void *at)
{
    unsigned char resident = 0;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    CHECK_EQ(mincore((void *)((uintptr_t)at & ~(page - 1)), page, (void *)&resident), 0);
    return resident & 1;
}

TEST(go, the_deep_pages_of_a_large_stack_go_back_to_the_system)
{
    csp_opts large = {.stack_size = 4 << 20};
    unsigned char *deep = NULL;
    csp_go_with(&large, digs_deep, &deep);
    EVENTUALLY(csp_count() == 1);
    EVENTUALLY(!is_resident(LOAD(&deep)));
}
#endif

csp_task(does_everything, int_chan, in, int_chan, out, int, i)
{
    int v = 0;
    switch (i % 8) {
    case 0: csp_sleep(1 + i % 64 * CSP_MICROSECOND); break;
    case 1: csp_yield(); break;
    case 2: csp_timer_free(csp_timer_new(CSP_SECOND)); break;
    case 3: csp_spawn(nothing, NULL); break;
    case 4: csp_recv_until(in, &v, csp_now() + i * CSP_MICROSECOND); break;
    case 5: csp_select(CSP_RECV(in, &v), CSP_AFTER(i * CSP_MICROSECOND)); break;
    case 6: csp_unref(csp_make(int, 10)); break;
    case 7: csp_set_name("small"); break;
    }
    csp_send(out, i);
}

/* The first of a process to do each thing, too, which may have to go through the dynamic linker,
 * or to make a heap of timers larger. */
CHILD(does_everything_on_small_stacks)
{
    csp_opts small = {.stack_size = SANITIZED || UNOPTIMIZED ? 16384 : 2048};
    csp_init(NULL);
    int_chan in = csp_make(int, 0), out = csp_make(int, 0);
    for (int i = 0; i < 800; i++) csp_go_with(&small, does_everything, in, out, i);
    collect(out, 800);
    csp_unref(in);
    csp_unref(out);
    csp_shutdown();
    say("done");
}

TEST_PLAIN(go, small_stacks_are_enough_for_all_that_does_not_panic)
{
    outcome *o = run_child("does_everything_on_small_stacks", NULL);
    CHECK_CHILD(o, 0);
    CHECK_HAS(o->text, "done");
}

TEST(go, bad_stack_sizes_panic_with_the_size_and_no_function_too)
{
    csp_opts opts = {.stack_size = 17};
    CHECK_PANICS("go of nil func value", csp_spawn(NULL, NULL));
    CHECK_PANICS("17", csp_spawn_with(&opts, nothing, NULL));
    CHECK_PANICS("stack", csp_spawn_with(&opts, nothing, NULL));
    opts.stack_size = SIZE_MAX;
    CHECK_PANICS("stack", csp_spawn_with(&opts, nothing, NULL));
    opts.stack_size = SIZE_MAX / 2 + 1;
    CHECK_PANICS("stack", csp_spawn_with(&opts, nothing, NULL));
    CHECK_EQ(csp_count(), 1);
    int n = 0;
    csp_spawn(bump, &n);
    EVENTUALLY(LOAD(&n) == 1);
}

/* ---- the runtime's start and end ---- */

static void some_work(void *arg)
{
    int_chan done = csp_make(int, 0), there = csp_make(int, 3), back = csp_make(int, 0);
    (void)arg;
    csp_procs(4);
    csp_go(echoes, there, back);
    for (int i = 0; i < 100; i++) csp_go(two, i, done);
    for (int i = 0; i < 50; i++) {
        csp_send(there, i);
        CHECK(csp_recv(back, NULL));
        csp_sleep(10 * CSP_MICROSECOND);
    }
    collect(done, 100);
    csp_close(there);
    CHECK(!csp_recv(back, NULL));
    EVENTUALLY(csp_count() == 1);
    csp_unref(there);
    csp_unref(back);
    csp_unref(done);
}

static long address_space(void) // in pages
{
    long pages = 0;
#ifdef _WIN32
    MEMORY_BASIC_INFORMATION is;
    for (char *at = NULL; VirtualQuery(at, &is, sizeof is) != 0; at += is.RegionSize)
        if (is.State != MEM_FREE) pages += (long)(is.RegionSize / 4096);
#else
    FILE *f = fopen("/proc/self/statm", "r");
    CHECK(f != NULL && fscanf(f, "%ld", &pages) == 1);
    fclose(f);
#endif
    return pages;
}

static size_t malloced(void)
{
#if defined HAVE_MALLINFO2 && !MSAN // which does not see what it writes
    struct mallinfo2 i = mallinfo2();
    return i.uordblks + i.hblkhd;
#else
    return 0;
#endif
}

CHILD(runs_again_and_again)
{
    for (int i = 0; i < 3; i++) csp_run(some_work, NULL);
    int fds = descriptors_now();
    long pages = address_space();
    size_t size = malloced();
    for (int i = 0; i < rounds(500); i++) {
        csp_run(some_work, NULL);
        CHECK(threads_are_gone());
        CHECK_EQ(descriptors_now(), fds);
    }
    /* The C library keeps threads' stacks, up to 40 MB, and some 200 bytes for each. Ours are
     * mapped by 64 MB. */
    CHECK(malloced() < size + 16384);
    if (SANITIZED || emulated()) return;
    CHECK(address_space() - pages < 50000000 / sysconf(_SC_PAGESIZE));
}

TEST_PLAIN(go, run_gives_back_threads_descriptors_and_memory)
{
    outcome *o = run_child("runs_again_and_again", "MALLOC_ARENA_MAX=1");
    CHECK_CHILD(o, 0);
}

csp_task(has_many_arguments, int *, n, int64_t, a, int64_t, b, int64_t, c)
{
    ADD(n, (int)(a + b + c));
}

static void leaves_others_behind(void *n)
{
    csp_procs(3);
    for (int i = 0; i < 20; i++) {
        csp_spawn(block_forever, NULL);
        csp_go(two, i, NULL);
        csp_spawn(bump, n);
        csp_go(has_many_arguments, n, i, i, i);
    }
}

TEST_PLAIN(go, run_drops_the_goroutines_that_are_left)
{
    int n = 0;
    for (int i = 0; i < 20; i++) csp_run(leaves_others_behind, &n);
    CHECK(threads_are_gone());
}

csp_task(ends_elsewhere, int *, ended)
{
    ADD(ended, 1);
}

static int slabs(void)
{
    int n = 0;
    for (csp__slab *s = csp__acquire(&csp__sched.slabs); s != NULL; s = s->link) n++;
    return n;
}

csp_task(sums_many, int64_t *, sum, char, a, int64_t, b, int16_t, c, int64_t *, d, int64_t, e, char,
         f, int64_t, g)
{
    ADD(sum, a + b + c + *d + e + f + g);
}

typedef struct bulk {
    int64_t n[25];
} bulk;

csp_task(sums_big, int64_t *, sum, bulk, b)
{
    for (int i = 0; i < 25; i++) ADD(sum, b.n[i]);
}

typedef enum start_kind { START_PLAIN, START_MANY, START_STACK, START_KINDS } start_kind;

typedef struct dozen {
    int64_t n[12];
} dozen;

csp_task(ends_elsewhere_with_many, int *, ended, dozen, d)
{
    ADD(ended, (int)d.n[11]);
}

static void starts_in_way(start_kind kind, int *ended)
{
    csp_opts small = {.stack_size = 16384};
    if (kind == START_PLAIN) csp_go(ends_elsewhere, ended);
    if (kind == START_MANY) csp_go(ends_elsewhere_with_many, ended, ((dozen){.n[11] = 1}));
    if (kind == START_STACK) csp_go_with(&small, ends_elsewhere, ended);
}

/* See RECORDS THAT TRAVEL: one of a promise of a stack, some for arguments, one of no promise. */
TEST(go, records_that_become_free_on_another_processor_come_back)
{
    int ended = 0, started = 0;
    csp_procs(2);
    for (int kind = 0; kind < START_KINDS; kind++) {
        int before = slabs();
        for (int i = 0; i < 100 * 200; i++) {
            starts_in_way((start_kind)kind, &ended);
            if (++started % 200 != 0) continue;
            int64_t end = csp_now() + CSP_SECOND;
            while (LOAD(&ended) < started - 20) { // computes, so the other processor takes them
                if (csp_now() < end) continue;
                csp_yield(); // the other one is not given a core
                end = csp_now() + CSP_SECOND;
            }
        }
        /* 12 to 58 when none comes back */
        if (slabs() > before + 4) FAIL("%d slabs more in way %d", slabs() - before, kind);
        EVENTUALLY(csp_count() == 1);
    }
}

enum { SEATS = 500 };

csp_task(frees_elsewhere, csp_timer **, timers, int *, freed)
{
    for (int i = 0; i < SEATS; i++) csp_timer_free(timers[i]);
    STORE(freed, 1);
}

/* A goroutine gives many records back in one turn, and they are shared as soon as they are counted.
 */
TEST(go, records_of_timers_that_are_freed_on_another_processor_come_back)
{
    csp_timer *timers[SEATS];
    csp_procs(2);
    int before = slabs();
    for (int i = 0; i < 100; i++) {
        int freed = 0;
        for (int k = 0; k < SEATS; k++) timers[k] = csp_after_func(CSP_HOUR, nothing, NULL);
        csp_go(frees_elsewhere, timers, &freed);
        int64_t end = csp_now() + CSP_SECOND;
        while (!LOAD(&freed)) // computes, so the other processor runs it
            if (csp_now() >= end) csp_yield();
    }
    /* 25 to 45 where the other processor looks at its gain once in 64 turns alone */
    if (slabs() > before + 10) FAIL("%d slabs more", slabs() - before);
    EVENTUALLY(csp_count() == 1);
}

csp_group_task(sums_in_group, int64_t *, sum, char, a, bulk, b, char, c)
{
    for (int i = 0; i < 25; i++) ADD(sum, b.n[i]);
    ADD(sum, a + c);
    return 0;
}

csp_task(sums_nothing) {}

TEST(go, arguments_of_every_size_arrive)
{
    int64_t sum = 0, d = 1000, all = 0;
    int ended = 0;
    csp_waitgroup wg = {0};
    csp_group *group = csp_group_new(NULL);
    for (int i = 0; i < rounds(300); i++) {
        bulk b;
        for (int k = 0; k < 25; k++) b.n[k] = i * k;
        int64_t bs = 300 * (int64_t)i, many = 1 + i - 2 + d + i + 3 + INT64_C(1) * i;
        csp_waitgroup_go(&wg, sums_many, &sum, 1, i, -2, &d, i, 3, i);
        csp_waitgroup_go(&wg, sums_big, &sum, b);
        csp_waitgroup_go(&wg, sums_nothing);
        csp_waitgroup_go(&wg, ends_elsewhere, &ended);
        csp_group_go(group, sums_in_group, &sum, 5, b, 6);
        csp_go(sums_many, &sum, 1, i, -2, &d, i, 3, i);
        all += 2 * many + 2 * bs + 11;
    }
    csp_waitgroup_wait(&wg);
    CHECK_EQ(csp_group_wait(group), 0);
    csp_group_free(group);
    EVENTUALLY(csp_count() == 1);
    CHECK_EQ(LOAD(&sum), all);
}

static struct {
    csp_ticker *ticker;
    csp_timer *timer, *call, *due;
    csp_ctx *ctx, *child;
    int calls;
} left_over;

static void leaves_timers(void *arg)
{
    (void)arg;
    left_over.calls = 0;
    left_over.ticker = csp_ticker_new(100 * CSP_MICROSECOND);
    left_over.timer = csp_timer_new(CSP_HOUR);
    left_over.call = csp_after_func(CSP_HOUR, bump, &left_over.calls);
    left_over.due = csp_timer_call(CSP_HOUR, bump, &left_over.calls);
    left_over.ctx = csp_ctx_with_timeout(csp_ctx_background(), CSP_HOUR);
    left_over.child = csp_ctx_with_cancel(left_over.ctx);
    csp_ctx_on_done(left_over.child, bump, &left_over.calls);
}

static void uses_timers_that_were_left(void *arg)
{
    (void)arg;
    csp_ticker_reset(left_over.ticker, CSP_MILLISECOND);
    CHECK(csp_recv(csp_ticker_chan(left_over.ticker), NULL));
    CHECK(!csp_timer_reset(left_over.timer, 0) && csp_recv(csp_timer_chan(left_over.timer), NULL));
    CHECK(!csp_timer_reset(left_over.call, 0));
    CHECK(!csp_timer_reset(left_over.due, 0));
    csp_ctx_cancel(left_over.ctx);
    CHECK_EQ(csp_ctx_status(left_over.child), CSP_CANCELED);
    EVENTUALLY(LOAD(&left_over.calls) == 3);
}

TEST_PLAIN(go, timers_and_contexts_may_outlive_the_run_in_which_they_were_made)
{
    for (int i = 0; i < 3; i++) {
        csp_run(leaves_timers, NULL);
        if (i > 0) csp_run(uses_timers_that_were_left, NULL);
        if (i > 1) csp_run(nothing, NULL);
        csp_ticker_free(left_over.ticker);
        csp_timer_free(left_over.timer);
        csp_timer_free(left_over.call);
        csp_timer_free(left_over.due);
        csp_ctx_cancel(left_over.ctx);
        csp_ctx_unref(left_over.child);
        csp_ctx_unref(left_over.ctx);
        csp_shutdown();
    }
}

static int64_t busy_since;
static void computes_past_the_end(void *arg)
{
    (void)arg;
    STORE(&busy_since, clock_now());
    while (!LOAD(&csp__sched.stopping)) continue;
    for (int64_t end = clock_now() + 20 * CSP_MILLISECOND; clock_now() < end;) continue;
    csp_yield();
    FAIL("a goroutine went on after its csp_run");
}

static void leaves_a_busy_one(void *arg)
{
    (void)arg;
    busy_since = 0;
    csp_procs(2);
    csp_spawn(computes_past_the_end, NULL);
    EVENTUALLY(LOAD(&busy_since) != 0);
}

TEST_PLAIN(go, run_ends_while_another_goroutine_computes)
{
    if (under_valgrind()) SKIP("one thread at a time, slowly");
    csp_run(leaves_a_busy_one, NULL);
    CHECK(threads_are_gone());
    csp_run(some_work, NULL);
}

TEST_PLAIN(go, init_takes_settings_and_shutdown_takes_everything_back)
{
    csp_config three = {.procs = 3, .stack_size = 64 << 10}, odd_one = {.procs = -1};
    csp_shutdown(); // harmless before the first use
    CHECK_EQ(csp_init(&odd_one), CSP_INVALID);
    for (int i = 0; i < 10; i++) {
        int n = 0;
        CHECK_EQ(csp_init(&three), CSP_OK);
        CHECK_EQ(csp_init(&three), CSP_INVALID); // runs already
        CHECK_EQ(csp_procs(0), 3);
        csp_spawn(bump, &n);
        csp_spawn(block_forever, NULL);
        EVENTUALLY(LOAD(&n) == 1);
        csp_shutdown();
        csp_shutdown();
        CHECK(threads_are_gone());
    }
    CHECK_EQ(csp_init(NULL), CSP_OK);
    csp_shutdown();
    odd_one = (csp_config){.stack_size = 5};
    CHECK_EQ(csp_init(&odd_one), CSP_INVALID);
    odd_one = (csp_config){.max_threads = -5};
    CHECK_EQ(csp_init(&odd_one), CSP_INVALID);
}

TEST_PLAIN(go, the_first_use_starts_the_runtime_again_after_a_shutdown)
{
    for (int i = 0; i < 10; i++) {
        int_chan c = csp_make(int, 0);
        csp_go(two, i, c);
        int v = -1;
        CHECK(csp_recv(c, &v) && v == i);
        csp_unref(c);
        csp_shutdown();
        CHECK(threads_are_gone());
    }
}

static void only_yields(void *n)
{
    for (int i = 0; i < 10; i++) csp_yield();
    bump(n);
}

TEST_PLAIN(go, a_run_within_a_running_runtime_leaves_it_running)
{
    int_chan there = csp_make(int, 0), back = csp_make(int, 0);
    int n = 0, v = 0;
    CHECK_EQ(csp_init(NULL), CSP_OK);
    csp_go(echoes, there, back);
    for (int i = 1; i <= rounds(300); i++) { // the one that waits is no deadlock between two runs
        csp_run(only_yields, &n);
        CHECK_EQ(LOAD(&n), i);
    }
    csp_send(there, 5);
    CHECK(csp_recv(back, &v) && v == 5);
    csp_close(there);
    CHECK(!csp_recv(back, NULL));
    EVENTUALLY(csp_count() == 0);
    csp_unref(there);
    csp_unref(back);
}

TEST(go, run_and_shutdown_panic_in_a_goroutine)
{
    CHECK_PANICS("", csp_run(nothing, NULL));
    CHECK_PANICS("", csp_shutdown());
    CHECK_EQ(csp_init(NULL), CSP_INVALID);
    csp_yield();
}

static void *runs_a_second_time(void *arg)
{
    CHECK_PANICS("csp_run while another csp_run runs", csp_run(nothing, arg));
    return NULL;
}

static void waits_for_a_second_run(void *arg)
{
    pthread_join(thread_start(runs_a_second_time, arg), NULL);
}

static struct {
    int threads, over;
} shutdowns;

static void *uses_csp_twice(void *arg)
{
    (void)arg;
    csp_run(some_work, NULL);
    csp_yield(); // starts the runtime, and makes this thread known to it
    ADD(&shutdowns.threads, 1);
    while (!LOAD(&shutdowns.over)) sched_yield();
    int_chan done = csp_make(int, 0);
    csp_go(nothing_but_an_answer, done); // and who would run this?
    CHECK(csp_recv_until(done, NULL, csp_now() + 10 * CSP_SECOND) == CSP_OK);
    csp_unref(done);
    return NULL;
}

TEST_PLAIN(go, a_thread_that_has_outlived_a_shutdown_starts_the_runtime_again)
{
    shutdowns.threads = shutdowns.over = 0;
    pthread_t t = thread_start(uses_csp_twice, NULL);
    while (!LOAD(&shutdowns.threads)) sched_yield();
    csp_shutdown();
    STORE(&shutdowns.over, 1);
    pthread_join(t, NULL);
}

static void counts_up(void *n)
{
    ++*(int *)n;
}

TEST_PLAIN(go, defers_and_tries_of_a_thread_outlive_a_shutdown)
{
    volatile int n = 0;
    csp_try
    {
        csp_defer(counts_up, (void *)(uintptr_t)&n);
        csp_yield();
        csp_shutdown();
        csp_yield();
        csp_shutdown();
        csp_panic("after a shutdown");
    }
    csp_catch(p) n += 10;
    CHECK_EQ(n, 11);
}

static volatile sig_atomic_t own_signals;

#ifndef _WIN32
static void counts_own(int signo)
{
    (void)signo;
    own_signals++;
}

/* A program sets a handler after ours and puts ours back later. It then finds its own handler
 * behind ours. */
TEST_PLAIN(go, handlers_given_back_out_of_order_lead_to_the_programs_own)
{
    static const int signals[] = {SIGSEGV, SIGUSR1};
    struct sigaction own = {.sa_handler = counts_own}, was[2], ours[2];
    if (SANITIZED) SKIP("sanitizers have handlers of their own");
    int_chan c = csp_make(int, 1);
    for (int i = 0; i < 2; i++) sigaction(signals[i], &own, &was[i]);
    csp_yield();
    csp_notify(c, SIGUSR1);
    for (int i = 0; i < 2; i++) sigaction(signals[i], &own, &ours[i]); // another's
    csp_shutdown();
    for (int k = 0; k < 2; k++) {
        own_signals = 0;
        for (int i = 0; i < 2; i++) raise(signals[i]);
        CHECK_EQ(own_signals, 2); // the other's are still there
        for (int i = 0; i < 2; i++) sigaction(signals[i], &ours[i], NULL);
    }
    csp_yield();
    csp_notify(c, SIGUSR1);
    raise(SIGUSR1);
    CHECK(csp_recv_until(c, NULL, csp_now() + 10 * CSP_SECOND) == CSP_OK);
    CHECK_EQ(own_signals, 2);
    csp_shutdown();
    raise(SIGSEGV);
    raise(SIGUSR1);
    CHECK_EQ(own_signals, 4);
    for (int i = 0; i < 2; i++) sigaction(signals[i], &was[i], NULL);
    csp_unref(c);
    csp_shutdown();
}
#endif

TEST_PLAIN(go, one_run_at_a_time)
{
    for (int i = 0; i < 3; i++) csp_run(waits_for_a_second_run, NULL);
}

#ifndef _WIN32
TEST_PLAIN(go, a_forked_child_starts_as_if_csp_had_never_run)
{
    if (emulated()) SKIP("an emulator does not count the threads");
    if (under_valgrind()) SKIP("one thread at a time, slowly");
    if (TSAN) SKIP("the thread sanitizer ends such children");
    int_chan there = csp_make(int, 0), back = csp_make(int, 0);
    int v = 0, status = 0;
    csp_go(echoes, there, back);
    csp_send(there, 1);
    CHECK(csp_recv(back, &v) && v == 1);
    for (int i = 0; i < 5; i++) {
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            alarm(10);
            CHECK_EQ(csp_count(), 0);
            csp_run(some_work, NULL);
            _exit(threads_now() <= threads_at_start ? 17 : 18);
        }
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 17);
    }
    csp_send(there, 2); // and here it goes on
    CHECK(csp_recv(back, &v) && v == 2);
    csp_close(there);
    CHECK(!csp_recv(back, NULL));
    csp_unref(there);
    csp_unref(back);
}

/* ---- the child of a fork is its main goroutine ---- */

static const csp_x_site forks_site = {"main", __FILE__, __LINE__, "\0"};
static const char *forks_how;

/* In the parent: ends as the child ended. */
static bool how(const char *word);
static void ends_like(pid_t pid)
{
    int status = 0;
    CHECK(pid > 0);
    while (how("call") && waitpid(pid, &status, 0) != pid) continue;
    if (!how("call")) {
        csp_blocking while (waitpid(pid, &status, 0) != pid) continue;
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static void child_says(void *text)
{
    say("%s\n", (const char *)text);
}

static bool how(const char *word)
{
    return forks_how != NULL && strstr(forks_how, word) != NULL;
}

csp_task(exits_in_time, int, code)
{
    csp_sleep(20 * CSP_MILLISECOND);
    _exit(code);
}

csp_task(sends_squares, csp_sender(int), out, int, n)
{
    for (int i = 0; i < n; i++) {
        csp_send(out, i * i);
        if (i % 16 == 0) csp_sleep(100 * CSP_MICROSECOND);
    }
    csp_close(out);
}

static int goes_deep(int n)
{
    volatile char room[1024];
    room[n % 1024] = (char)n;
    return n == 0 ? 0 : goes_deep(n - 1) + room[n % 1024];
}

static csp_local forks_local;

/* What the child does, from here on the only thing in its process; returns its exit status. */
static int forked(void)
{
    alarm(20);
    if (how("daemon")) {
        setsid();
        pid_t pid = fork();
        if (pid != 0) ends_like(pid);
    }
    if (how("local")) {
        static csp_local fresh;
        CHECK(csp_local_get(&forks_local) == &forks_local);
        csp_local_set(&fresh, &fresh);
        CHECK(csp_local_get(&forks_local) == &forks_local);
    }
    if (how("work")) {
        int sum = 0;
        for (int k = 0; k < 20; k++) {
            csp_chan(int) c = csp_make(int, k % 3);
            csp_go(sends_squares, csp_send_end(c), 100);
            csp_range(v, c) sum += v;
            csp_unref(c);
        }
        CHECK_EQ(sum, 20 * 328350);
        csp_run(some_work, NULL);
        EVENTUALLY(csp_count() == 0);
        for (int64_t end = clock_now() + 50 * CSP_MILLISECOND; clock_now() < end;) sched_yield();
    }
    if (how("overflow")) {
        csp_yield();
        return goes_deep(1 << 20);
    }
    if (how("again")) {
        csp_go(exits_in_time, 5);
        csp_exit();
    }
    if (how("exit")) csp_exit();
    if (how("panic")) csp_panic("in the child of %s", "a fork");
    if (how("asleep")) csp_recv(csp_make(int, 0), NULL);
    if (how("shutdown")) {
        csp_yield();
        csp_shutdown();
    }
    return 7;
}

/* Forks with a defer and, perhaps, a csp_try around it. */
static int forks(void)
{
    volatile int code = 0;
    csp_defer(child_says, (void *)(uintptr_t) "the outer defer");
    csp_local_set(&forks_local, &forks_local);
    csp_try
    {
        csp_defer(child_says, (void *)(uintptr_t) "the inner defer");
        pid_t pid = -1;
        if (how("locked")) csp_lock_thread();
        if (how("blocking"))
            csp_blocking pid = fork();
        else
            pid = fork();
        if (pid != 0) ends_like(pid);
        if (how("uncaught"))
            csp__cb_of(csp__current())->tries = NULL; // as if there were no csp_try
        code = forked();
    }
    csp_catch(p)
    {
        say("caught: %s\n", p->message);
        code = 9;
    }
    say("%d goroutines\n", (int)csp_count());
    return code;
}

csp_task(task_forks, csp_chan(int), c)
{
    int code = forks();
    if (c != NULL && !how("returns")) _exit(code + 20);
}

static void call_forks(void *c)
{
    task_forks((csp_chan(int))c);
}

static void *thread_forks(void *arg)
{
    int code = forks();
    (void)arg;
    exit(code + 40);
}

static void wants_a_fork(void *code)
{
    static csp_chan(int) c;
    static csp_timer *timer;
    c = csp_make(int, 0);
    timer = csp_after_func(CSP_HOUR, child_says, NULL);
    CHECK(timer != NULL);
    if (how("goroutine")) {
        csp_go(task_forks, c);
        csp_recv(c, NULL);
    } else if (how("thread")) {
        thread_start(thread_forks, NULL);
        csp_recv(c, NULL);
    } else if (how("call")) {
        csp_timer_call(0, call_forks, c);
        csp_recv(c, NULL);
    }
    *(int *)code = forks();
}

static int main_wants_a_fork(int argc, char **argv)
{
    int code = 0;
    CHECK(argc == 0 && argv == NULL);
    wants_a_fork(&code);
    return code;
}

static void *runs_what_forks(void *code)
{
    csp_defer(child_says, (void *)(uintptr_t) "the caller's defer");
    csp_run(wants_a_fork, code);
    return NULL;
}

CHILD(forks)
{
    static int code;
    forks_how = getenv("FORKS");
    if (how("csp_main")) {
        code = csp_x_main(&forks_site, 0, NULL, main_wants_a_fork);
        say("csp_main returns\n");
    } else if (how("beside")) { // no csp_run
        csp_go(task_forks, NULL);
        pause();
    } else if (how("posix")) {
        pthread_join(thread_start(runs_what_forks, &code), NULL);
        say("csp_run returns\n");
    } else {
        runs_what_forks(&code);
        say("csp_run returns\n");
        csp_run(some_work, NULL);
    }
    exit(code);
}

/* Runs that child, n times; it must end with the code, and say these and no other lines. */
static void check_fork(const char *words, int code, const char *text)
{
    char setting[128];
    snprintf(setting, sizeof setting, "FORKS=%s", words);
#if ASAN
    char options[512]; // in such children it takes what it does not look through for leaks
    snprintf(options, sizeof options, "%s:detect_leaks=0",
             getenv("ASAN_OPTIONS") != NULL ? getenv("ASAN_OPTIONS") : "");
    setenv("ASAN_OPTIONS", options, 1);
#endif
    for (int i = 0; i < 1 + rounds(10); i++) {
        outcome *o = run_child("forks", setting);
        CHECK_CHILD(o, code);
        if (strstr(text, "...") == NULL ? strcmp(o->text, text) != 0
                                        : strncmp(o->text, text, strlen(text) - 3) != 0)
            FAIL("%s: it wrote: %s", words, o->text);
    }
}

#define FORKS_NEED                                                                                 \
    do {                                                                                           \
        if (emulated()) SKIP("an emulator does not fork well from threads");                       \
        if (under_valgrind()) SKIP("one thread at a time, slowly");                                \
        if (TSAN) SKIP("the thread sanitizer ends such children");                                 \
    } while (0)
#define BOTH_DEFERS "the inner defer\n0 goroutines\nthe outer defer\n"

TEST_PLAIN(fork, a_child_returns_from_csp_main)
{
    FORKS_NEED;
    check_fork("csp_main", 7, BOTH_DEFERS "csp_main returns\n");
    check_fork("csp_main,work", 7, BOTH_DEFERS "csp_main returns\n");
    check_fork("csp_main,locked", 7, BOTH_DEFERS "csp_main returns\n");
    check_fork("csp_main,blocking,work", 7, BOTH_DEFERS "csp_main returns\n");
    check_fork("csp_main,local,shutdown", 7, BOTH_DEFERS "csp_main returns\n");
}

TEST_PLAIN(fork, a_child_returns_from_csp_run)
{
    FORKS_NEED;
    check_fork("csp_run", 7, BOTH_DEFERS "the caller's defer\ncsp_run returns\n");
    check_fork("csp_run,work", 7, BOTH_DEFERS "the caller's defer\ncsp_run returns\n");
    check_fork("csp_run,blocking,local", 7, BOTH_DEFERS "the caller's defer\ncsp_run returns\n");
}

TEST_PLAIN(fork, a_daemon_returns_from_csp_main)
{
    FORKS_NEED;
    check_fork("csp_main,daemon", 7, BOTH_DEFERS "csp_main returns\n");
    check_fork("csp_run,daemon,work", 7, BOTH_DEFERS "the caller's defer\ncsp_run returns\n");
    check_fork("csp_main,goroutine,daemon,work", 27, BOTH_DEFERS);
}

TEST_PLAIN(fork, a_child_of_any_goroutine_is_the_main_one)
{
    FORKS_NEED;
    check_fork("csp_main,goroutine,work", 27, BOTH_DEFERS);
    check_fork("csp_main,goroutine,returns", 0, BOTH_DEFERS "csp_main returns\n");
    check_fork("csp_run,goroutine,locked,returns,work", 0,
               BOTH_DEFERS "the caller's defer\ncsp_run returns\n");
    check_fork("csp_main,call,work", 27, BOTH_DEFERS);
    check_fork("csp_run,call,returns,work", 0, BOTH_DEFERS "the caller's defer\ncsp_run returns\n");
}

TEST_PLAIN(fork, a_child_of_a_thread_keeps_its_defers_and_tries)
{
    FORKS_NEED;
    check_fork("csp_main,thread,work", 47, BOTH_DEFERS);
    check_fork("csp_run,thread,panic", 49,
               "the inner defer\ncaught: in the child of a fork\n0 goroutines\nthe outer defer\n");
    check_fork("csp_run,thread,exit", 2,
               "the inner defer\nthe outer defer\n"
               "fatal: no goroutines (main called csp_exit) - deadlock!\n...");
}

TEST_PLAIN(fork, a_try_from_before_catches_in_the_child)
{
    FORKS_NEED;
    check_fork("csp_main,panic", 9,
               "the inner defer\ncaught: in the child of a fork\n0 goroutines\nthe outer defer\n"
               "csp_main returns\n");
    check_fork("csp_main,goroutine,panic", 29,
               "the inner defer\ncaught: in the child of a fork\n0 goroutines\nthe outer defer\n");
    check_fork(
        "csp_main,uncaught,panic", 2,
        "the inner defer\nthe outer defer\npanic: in the child of a fork\n    at csp_test.c:...");
}

TEST_PLAIN(fork, csp_exit_in_a_child_runs_its_defers_and_the_others_go_on)
{
    FORKS_NEED;
    check_fork("csp_main,again", 5, "the inner defer\nthe outer defer\n");
    check_fork("csp_run,goroutine,again", 5, "the inner defer\nthe outer defer\n");
    check_fork("csp_run,daemon,exit", 2,
               "the inner defer\nthe outer defer\n"
               "fatal: no goroutines (main called csp_exit) - deadlock!\n...");
}

TEST_PLAIN(fork, a_child_that_sleeps_for_good_is_a_deadlock)
{
    FORKS_NEED;
    check_fork("csp_main,asleep", 2, "fatal: all goroutines are asleep - deadlock!\n...");
    check_fork("csp_main,goroutine,work,asleep", 2,
               "fatal: all goroutines are asleep - deadlock!\n...");
}

TEST_PLAIN(fork, a_child_without_a_csp_run_exits_when_it_returns)
{
    FORKS_NEED;
    check_fork("beside", 0, BOTH_DEFERS);
    check_fork("beside,work", 0, BOTH_DEFERS);
    check_fork("beside,again", 5, "the inner defer\nthe outer defer\n");
    check_fork("posix,work", 0, BOTH_DEFERS);
}

static void forks_in_a_simulation(void *arg)
{
    int64_t then = csp_now();
    (void)arg;
    pid_t pid = fork();
    if (pid != 0) ends_like(pid);
    csp_sleep(CSP_MILLISECOND); // in real time
    say("%d\n", csp_now() - then != CSP_MILLISECOND);
}

CHILD(forks_in_a_simulation)
{
    csp_simulate(NULL, forks_in_a_simulation, NULL);
}

TEST_PLAIN(fork, a_child_forked_in_a_simulation_is_not_simulated)
{
    FORKS_NEED;
    outcome *o = run_child("forks_in_a_simulation", NULL);
    CHECK_CHILD(o, 0);
    if (strcmp(o->text, "1\n") != 0) FAIL("it wrote: %s", o->text);
}

TEST_PLAIN(fork, a_stack_overflow_in_a_child_is_reported)
{
    FORKS_NEED;
#if defined(CSP_STACK_GUARD) && CSP_STACK_GUARD == 0
    SKIP("a canary is looked at when the goroutine parks, and this one never does");
#endif
    if (SANITIZED) SKIP("the sanitizers report it in their own way");
    check_fork("csp_main,overflow", 2, "fatal: stack overflow\n...");
    check_fork("csp_main,goroutine,overflow", 2, "fatal: stack overflow\n...");
}
#endif

CHILD(with_csp_procs)
{
    printf("procs %d\n", csp_procs(0));
    fflush(stdout);
}

static int lines(const char *text)
{
    int n = 0;
    for (; *text != 0; text++) n += *text == '\n';
    return n;
}

TEST_PLAIN(go, procs_come_from_the_environment)
{
    outcome *o = run_child("with_csp_procs", "CSP_PROCS=5");
    CHECK_CHILD(o, 0);
    CHECK(strcmp(o->text, "procs 5\n") == 0);
    static const char *const bad[] = {"CSP_PROCS=many", "CSP_PROCS=-3",
                                      "CSP_PROCS=3x",   "CSP_PROCS= 3",
                                      "CSP_PROCS=+3",   "CSP_PROCS=99999999999999999999"};
    char usual[64];
    snprintf(usual, sizeof usual, "procs %d\n", csp_ncpu());
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        o = run_child("with_csp_procs", bad[i]); // a line about it, and the default
        CHECK_CHILD(o, 0);
        CHECK_HAS(o->text, usual);
        CHECK_HAS(o->text, "CSP_PROCS");
        CHECK_EQ(lines(o->text), 2);
    }
}

#if CSP__LINUX
CHILD(on_one_cpu)
{
    cpu_set_t all, one;
    CPU_ZERO(&one);
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &all)) continue;
        CPU_SET(i, &one);
        break;
    }
    if (sched_setaffinity(0, sizeof one, &one) != 0) exit(3);
    CHECK_EQ(csp_ncpu(), 1);
    CHECK_EQ(csp_procs(0), 1);
}

TEST_PLAIN(go, ncpu_counts_the_cpus_that_the_process_may_use)
{
    CHECK(csp_ncpu() >= 1 && csp_ncpu() <= sysconf(_SC_NPROCESSORS_CONF));
    cpu_set_t all;
    if (sched_getaffinity(0, sizeof all, &all) != 0) {
        CHECK_EQ(csp__os_cpus(), csp_ncpu());
        SKIP("the affinity cannot be asked for");
    }
    outcome *o = run_child("on_one_cpu", NULL);
    if (o->code == 3) SKIP("the affinity cannot be set");
    CHECK_CHILD(o, 0);
}
#else
TEST_PLAIN(go, ncpu_counts_the_cpus_that_the_system_has)
{
    CHECK_EQ(csp_ncpu(), sysconf(_SC_NPROCESSORS_ONLN));
}
#endif

TEST(go, max_threads_says_what_it_was)
{
    CHECK_EQ(csp_max_threads(5000), 10000);
    CHECK_EQ(csp_max_threads(0), 5000); // asks
    CHECK_EQ(csp_max_threads(-1), 5000);
    CHECK_EQ(csp_max_threads(10000), 5000);
}

TEST(go, each_status_has_a_name)
{
    for (int i = CSP_OK; i <= CSP_INVALID; i++) {
        CHECK(csp_status_name((csp_status)i)[0] != 0);
        for (int k = CSP_OK; k < i; k++)
            CHECK(strcmp(csp_status_name((csp_status)i), csp_status_name((csp_status)k)) != 0);
    }
    CHECK(strcmp(csp_status_name(CSP_TIMEOUT), "timeout") == 0);
    CHECK(csp_status_name((csp_status)1000) != NULL);
}

/* What a profiler sees that follows frame pointers: the calls, down to csp__start and no further,
 * before and after a switch. */
#ifdef CSP_TEST_FRAMES
__attribute__((noinline)) static int frames(int more, int *after)
{
    if (more > 0) {
        int n = frames(more - 1, after);
        __asm__ volatile("" : "+r"(n)); // a call, not a jump
        return n;
    }
    for (int turn = 0, before = 0;; turn++) {
        void **frame = (void **)__builtin_frame_address(0);
        int n = 0;
        for (; *frame != NULL; frame = (void **)*frame, n++)
            CHECK((void **)*frame > frame && n < 40);
        CHECK((uintptr_t)frame[1] - (uintptr_t)csp__start < 64);
        if (turn == 3) return *after = n;
        if (turn > 0) CHECK_EQ(n, before);
        before = n;
        csp_sleep(turn * CSP_MICROSECOND);
    }
}

csp_task(shows_frames, int, more, int_chan, done)
{
    int n = 0;
    frames(more, &n);
    csp_send(done, n);
}

TEST(go, frame_pointers_lead_to_the_start_of_the_goroutine)
{
    int a = 0, b = 0;
    int_chan done = csp_make(int, 0);
    csp_go(shows_frames, 3, done);
    CHECK(csp_recv(done, &a));
    csp_go(shows_frames, 10, done);
    CHECK(csp_recv(done, &b));
    CHECK_EQ(b - a, 7);
    csp_unref(done);
}
#endif

/* ==========================================================================
 * panic - panic, try, catch, defer
 * ======================================================================== */

TEST(panic, a_try_without_a_panic_skips_the_catch)
{
    volatile int n = 0;
    csp_try
    {
        n++;
    }
    csp_catch(p)
    {
        FAIL("caught %s", p->message);
    }
    CHECK_EQ(n, 1);
}

TEST(panic, the_message_is_formatted)
{
    volatile bool caught = false;
    csp_try
    {
        csp_panic("%s %d %c", "bad", 7, 'x');
    }
    csp_catch(p)
    {
        caught = strcmp(p->message, "bad 7 x") == 0;
    }
    CHECK(caught);
}

TEST(panic, a_long_message_is_cut)
{
    static char text[2000];
    memset(text, 'm', sizeof text - 1);
    volatile size_t n = 0;
    csp_try
    {
        csp_panic("%s", text);
    }
    csp_catch(p)
    {
        n = strlen(p->message);
        CHECK(p->message[0] == 'm');
    }
    CHECK_EQ(n, CSP_PANIC_MESSAGE_SIZE - 1);
}

TEST(panic, the_innermost_try_catches)
{
    volatile int inner = 0, outer = 0;
    csp_try
    {
        csp_try
        {
            csp_panic("in");
        }
        csp_catch(p)
        {
            inner += strcmp(p->message, "in") == 0;
        }
        csp_panic("out");
    }
    csp_catch(p)
    {
        outer += strcmp(p->message, "out") == 0;
    }
    CHECK(inner == 1 && outer == 1);
}

TEST(panic, a_catch_can_panic_again)
{
    volatile int steps = 0;
    csp_try
    {
        csp_try
        {
            csp_try
            {
                csp_panic("first");
            }
            csp_catch(p)
            {
                steps++;
                csp_panic("%s, again", p->message);
            }
        }
        csp_catch(p)
        {
            steps++;
            CHECK(strcmp(p->message, "first, again") == 0);
            csp_panic("third");
        }
        FAIL("went on");
    }
    csp_catch(p)
    {
        steps++;
        CHECK(strcmp(p->message, "third") == 0);
    }
    CHECK_EQ(steps, 3);
}

static int leaves_by_return(void)
{
    csp_try
    {
        return 5;
    }
    csp_catch(p)
    {
        FAIL("caught %s", p->message);
    }
    return 6;
}

static int leaves_by_goto(void)
{
    csp_try
    {
        goto out;
    }
    csp_catch(p)
    {
        FAIL("caught %s", p->message);
    }
    return 6;
out:
    return 7;
}

static int leaves_loop_by_break(void)
{
    volatile int n;
    for (n = 0; n < 10; n++) {
        csp_try
        {
            if (n == 3) break;
        }
        csp_catch(p)
        {
            FAIL("caught %s", p->message);
        }
    }
    return n;
}

static int leaves_turns_by_continue(void)
{
    volatile int n;
    for (n = 0; n < 10; n++) {
        csp_try
        {
            continue;
        }
        csp_catch(p)
        {
            FAIL("caught %s", p->message);
        }
        FAIL("continue went on");
    }
    return n;
}

static int leaves_by_panic(void)
{
    volatile int n = 0;
    csp_try
    {
        csp_panic("inner");
    }
    csp_catch(p)
    {
        n = p->message[0];
    }
    return n;
}

/* After a try block was left in any way, a panic goes to the one around it. */
TEST(panic, a_try_block_can_be_left_in_any_way)
{
    static int (*const ways[])(void) = {leaves_by_return, leaves_by_goto, leaves_loop_by_break,
                                        leaves_turns_by_continue, leaves_by_panic};
    static const int results[] = {5, 7, 3, 10, 'i'};
    volatile int caught = 0;
    for (volatile int i = 0; i < 5; i++) {
        csp_try
        {
            CHECK_EQ(ways[i](), results[i]);
            csp_panic("after %d", i);
        }
        csp_catch(p)
        {
            caught += p->message[6] == '0' + i;
        }
    }
    CHECK_EQ(caught, 5);
}

static int left_in_catch(int how)
{
    for (;;) {
        csp_try
        {
            csp_panic("x");
        }
        csp_catch(p)
        {
            if (how == 0) return p->message[0];
            if (how == 1) goto out;
        }
        return 'y';
    }
out:
    return 'z';
}

TEST(panic, a_catch_block_can_be_left_by_return_and_goto)
{
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(left_in_catch(0), 'x');
        CHECK_EQ(left_in_catch(1), 'z');
        CHECK_EQ(left_in_catch(2), 'y');
    }
    CHECK_PANICS("outer", csp_panic("outer"));
}

TEST(panic, defers_inside_the_try_run_before_the_catch_and_those_outside_after_it)
{
    trail[0] = 0;
    {
        csp_defer(mark, "5");
        csp_try
        {
            csp_defer(mark, "3");
            {
                csp_defer(mark, "2");
                csp_defer(mark, "1");
                csp_panic("x");
            }
        }
        csp_catch(p)
        {
            mark(p->message[0] == 'x' ? "4" : "?");
        }
    }
    if (strcmp(trail, "12345") != 0) FAIL("ran %s", trail);
}

static int defers_left_by(int how)
{
    csp_defer(mark, "r");
    for (int i = 0; i < 3; i++) {
        csp_defer(mark, i == 0 ? "0" : i == 1 ? "1" : "2");
        if (how == 1 && i == 1) break;
        if (how == 2) continue;
        if (how == 3 && i == 1) return 1;
        if (how == 4 && i == 1) goto out;
        mark("b");
    }
    mark("e");
out:
    mark("o");
    return 0;
}

TEST(panic, defers_run_whenever_their_block_is_left)
{
    static const char *const expected[] = {"b0b1b2eor", "b01eor", "012eor", "b01r", "b01or"};
    for (int i = 0; i < 5; i++) {
        trail[0] = 0;
        defers_left_by(i);
        if (strcmp(trail, expected[i]) != 0) FAIL("%d ran %s, not %s", i, trail, expected[i]);
    }
}

static int defers_of_types(csp_mutex *mu, csp_waitgroup *wg, const int *n)
{
    csp_mutex_lock(mu);
    csp_waitgroup_add(wg, 1);
    csp_defer(csp_waitgroup_done, wg);
    csp_defer(csp_mutex_unlock, mu);
    csp_defer(csp_mutex_try_lock, mu); // returns something
    return csp_mutex_try_lock(mu) ? -1 : *n;
}

/* A function of another pointer than void *, and one that returns something. */
TEST(panic, any_function_of_one_pointer_can_be_deferred)
{
    csp_mutex mu = {0};
    csp_waitgroup wg = {0};
    const int n = 7;
    CHECK_EQ(defers_of_types(&mu, &wg, &n), 7);
    CHECK(csp_mutex_try_lock(&mu));
    csp_mutex_unlock(&mu);
    CHECK_EQ(csp_waitgroup_wait_until(&wg, 0), CSP_OK);
    csp_mutex_lock(&mu);
    csp_try
    {
        csp_defer(csp_mutex_unlock, &mu);
        csp_panic("on the way");
    }
    csp_catch(p) CHECK_HAS(p->message, "on the way");
    CHECK(csp_mutex_try_lock(&mu));
}

static void closed_and_dropped(csp_chan(int) c, csp_receiver(int) r)
{
    csp_defer(csp_unref, c);
    csp_defer(csp_unref, r);
    csp_defer(csp_close, c);
    csp_send(c, 7);
}

/* These are macros for the sake of their place, and functions, too. */
TEST(panic, what_ends_a_channel_can_be_deferred)
{
    csp_chan(int) c = csp_make(int, 1);
    int v = 0;
    closed_and_dropped(csp_ref(c), csp_ref(csp_recv_end(c)));
    CHECK(csp_recv(c, &v) && v == 7);
    CHECK(!csp_recv(c, &v)); // closed, and still there
    CHECK_EQ(__atomic_load_n(&((csp_x_chan *)(void *)c)->refs, __ATOMIC_SEQ_CST), 1);
    {
        csp_defer(csp_unref, c);
        csp_chan(int) signals = csp_make(int, 1);
        csp_defer(csp_unref, signals);
        csp_notify(signals, SIGTERM);
        csp_defer(csp_notify_stop, signals);
        raise(SIGTERM);
        CHECK(csp_recv(signals, &v) && v == SIGTERM);
    }
    csp_try
    {
        csp_defer(csp_close, (csp_chan(int))NULL);
    }
    csp_catch(p) CHECK_HAS(p->message, "close of nil channel");
}

static void panics_second(void *text)
{
    mark(text);
    csp_panic("second");
}

TEST(panic, a_panic_in_a_defer_takes_the_place_of_the_first)
{
    trail[0] = 0;
    csp_try
    {
        csp_defer(mark, "c");
        csp_defer(panics_second, "b");
        csp_defer(mark, "a");
        csp_panic("first");
    }
    csp_catch(p)
    {
        CHECK_HAS(p->message, "second");
        mark("!");
    }
    if (strcmp(trail, "abc!") != 0) FAIL("ran %s", trail);
}

static void tries_itself(void *text)
{
    csp_try
    {
        csp_panic("in the defer");
    }
    csp_catch(p)
    {
        CHECK(strcmp(p->message, "in the defer") == 0);
        mark(text);
    }
}

TEST(panic, a_defer_may_catch_a_panic_of_its_own_while_another_goes_on)
{
    trail[0] = 0;
    csp_try
    {
        csp_defer(tries_itself, "t");
        csp_panic("the first");
    }
    csp_catch(p)
    {
        CHECK(strcmp(p->message, "the first") == 0);
        mark("c");
    }
    if (strcmp(trail, "tc") != 0) FAIL("ran %s", trail);
}

static void panics_at_depth(int n, int message)
{
    csp_defer(nothing, NULL);
    if (n % 3 == 0) csp_yield();
    if (n < 0) return;
    if (n == 0) csp_panic("%d", message);
    panics_at_depth(n - 1, message);
    csp_yield(); // not a tail call
}

csp_task(tries_often, int, me, int_chan, done)
{
    for (volatile int i = 0; i < 30; i++) {
        volatile bool caught = false;
        csp_try
        {
            csp_try
            {
                panics_at_depth(10, me * 1000 + i);
            }
            csp_catch(p)
            {
                CHECK_EQ(atoi(p->message), me * 1000 + i);
                csp_yield();
                csp_panic("%d", me * 1000 + i + 500);
            }
        }
        csp_catch(p)
        {
            csp_yield();
            caught = atoi(p->message) == me * 1000 + i + 500;
        }
        CHECK(caught);
    }
    csp_send(done, 1);
}

TEST(panic, each_goroutine_catches_its_own_also_after_it_has_parked)
{
    int_chan done = csp_make(int, 0);
    csp_procs(4);
    for (int i = 0; i < 40; i++) csp_go(tries_often, i, done);
    collect(done, 40);
    csp_unref(done);
}

static int returns_0(void *arg)
{
    (void)arg;
    return 0;
}

// Not within a macro's argument: see CSP_X_QUIETLY.
static void defers(void (*fn)(void *))
{
    csp_defer(fn, NULL);
}

csp_task(does_little, int *, n, int, by)
{
    ADD(n, by);
}

TEST(panic, what_must_not_be_null_panics_with_the_name_of_the_call)
{
    csp_mutex *no_mutex = NULL, mu = {0};
    csp_rwmutex *no_rwmutex = NULL;
    csp_cond *no_cond = NULL, cond = {0};
    csp_once *no_once = NULL, once = {0};
    csp_waitgroup *no_wg = NULL, wg = {0};
    csp_sem *no_sem = NULL;
    csp_local *no_local = NULL;
    void (*no_function)(void *) = NULL;
    csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background());
    csp_group *group = csp_group_new(NULL);
    csp_map *map = csp_map_new(CSP_MAP_STRINGS);
    int_chan c = csp_make(int, 1);
    csp_case sends_nothing = CSP_SEND_PTR(c, (int *)NULL), *no_cases = NULL;
    int64_t t = csp_now() + CSP_SECOND;
    CHECK_PANICS("csp_mutex_lock: nil", csp_mutex_lock(no_mutex));
    CHECK_PANICS("csp_mutex_unlock: nil", csp_mutex_unlock(no_mutex));
    CHECK_PANICS("csp_mutex_try_lock: nil", (void)csp_mutex_try_lock(no_mutex));
    CHECK_PANICS("csp_mutex_lock_until: nil", csp_mutex_lock_until(no_mutex, t));
    CHECK_PANICS("csp_rwmutex_lock: nil", csp_rwmutex_lock(no_rwmutex));
    CHECK_PANICS("csp_rwmutex_try_lock: nil", csp_rwmutex_try_lock(no_rwmutex));
    CHECK_PANICS("csp_rwmutex_lock_until: nil", csp_rwmutex_lock_until(no_rwmutex, t));
    CHECK_PANICS("csp_rwmutex_unlock: nil", csp_rwmutex_unlock(no_rwmutex));
    CHECK_PANICS("csp_rwmutex_rlock: nil", csp_rwmutex_rlock(no_rwmutex));
    CHECK_PANICS("csp_rwmutex_try_rlock: nil", csp_rwmutex_try_rlock(no_rwmutex));
    CHECK_PANICS("csp_rwmutex_rlock_until: nil", csp_rwmutex_rlock_until(no_rwmutex, t));
    CHECK_PANICS("csp_rwmutex_runlock: nil", csp_rwmutex_runlock(no_rwmutex));
    CHECK_PANICS("csp_cond_wait: nil", csp_cond_wait(no_cond, &mu));
    CHECK_PANICS("csp_cond_wait: nil", csp_cond_wait(&cond, no_mutex));
    CHECK_PANICS("csp_cond_wait_until: nil", csp_cond_wait_until(&cond, no_mutex, t));
    CHECK_PANICS("csp_cond_signal: nil", csp_cond_signal(no_cond));
    CHECK_PANICS("csp_cond_broadcast: nil", csp_cond_broadcast(no_cond));
    CHECK_PANICS("csp_once_do: nil", csp_once_do(no_once, nothing, NULL));
    CHECK_PANICS("csp_once_do: nil", csp_once_do(&once, no_function, NULL));
    CHECK_PANICS("csp_waitgroup_add: nil", csp_waitgroup_add(no_wg, 1));
    CHECK_PANICS("csp_waitgroup_done: nil", csp_waitgroup_done(no_wg));
    CHECK_PANICS("csp_waitgroup_wait: nil", csp_waitgroup_wait(no_wg));
    CHECK_PANICS("csp_waitgroup_wait_until: nil", csp_waitgroup_wait_until(no_wg, t));
    CHECK_PANICS("csp_waitgroup_spawn: nil", csp_waitgroup_spawn(no_wg, nothing, NULL));
    CHECK_PANICS("csp_waitgroup_spawn: nil", csp_waitgroup_spawn(&wg, no_function, NULL));
    CHECK_PANICS("csp_waitgroup_go: nil", csp_waitgroup_go(no_wg, does_little, NULL, 1));
    csp_waitgroup_wait(&wg); // it has not been counted
    CHECK_PANICS("csp_sem_init: nil", csp_sem_init(no_sem, 1));
    CHECK_PANICS("csp_sem_acquire: nil", csp_sem_acquire(no_sem, 1));
    CHECK_PANICS("csp_sem_try_acquire: nil", csp_sem_try_acquire(no_sem, 1));
    CHECK_PANICS("csp_sem_acquire_until: nil", csp_sem_acquire_until(no_sem, 1, t));
    CHECK_PANICS("csp_sem_release: nil", csp_sem_release(no_sem, 1));
    CHECK_PANICS("csp_local_get: nil", csp_local_get(no_local));
    CHECK_PANICS("csp_local_set: nil", csp_local_set(no_local, &mu));
    CHECK_PANICS("csp_defer: nil", defers(no_function));
    CHECK_PANICS("csp_run: nil", csp_run(no_function, NULL));
    CHECK_PANICS("csp_ctx_on_done: nil", csp_ctx_on_done(ctx, no_function, NULL));
    CHECK_PANICS("csp_group_spawn: nil", csp_group_spawn(group, (int (*)(void *))NULL, NULL));
    CHECK_PANICS("csp_map_range: nil", csp_map_range(map, NULL, NULL));
    CHECK_PANICS("csp_timer_chan: nil", (void)csp_timer_chan(NULL));
    CHECK_PANICS("csp_timer_stop: nil", csp_timer_stop(NULL));
    CHECK_PANICS("csp_timer_reset: nil", csp_timer_reset(NULL, 1));
    CHECK_PANICS("csp_ticker_chan: nil", (void)csp_ticker_chan(NULL));
    CHECK_PANICS("csp_ticker_stop: nil", csp_ticker_stop(NULL));
    CHECK_PANICS("csp_ticker_reset: nil", csp_ticker_reset(NULL, 1));
    CHECK_PANICS("csp_local_address: nil", csp_local_address(0, NULL));
    CHECK_PANICS("csp_peer_address: nil", csp_peer_address(0, NULL));
    CHECK_PANICS("csp_select_n: nil", csp_select_n(no_cases, 1));
    CHECK_PANICS("csp_select: nil", csp_select_n(&sends_nothing, 1));
    CHECK_PANICS("csp_get_stats: nil", csp_get_stats(NULL));
    CHECK_PANICS("csp_simulate: nil", (void)csp_simulate(NULL, no_function, NULL));
    CHECK_PANICS("csp_sim_pipe: nil", csp_sim_pipe(NULL));
    csp_group_spawn(group, returns_0, NULL);
    CHECK_EQ(csp_group_wait(group), 0);
    csp_group_free(group);
    csp_ctx_unref(ctx);
    csp_map_free(map);
    csp_unref(c);
}

TEST(panic, a_timer_that_has_been_freed_is_noticed)
{
    if (!freed_memory_can_be_read()) SKIP("a tool reports it itself, or the libc unmaps it");
    csp_timer *a = csp_timer_new(CSP_HOUR), *b = csp_after_func(CSP_HOUR, nothing, NULL);
    csp_timer *d = csp_timer_call(CSP_HOUR, nothing, NULL);
    csp_ticker *c = csp_ticker_new(CSP_HOUR);
    csp_timer *volatile freed[] = {a, b, (csp_timer *)(void *)c, d}; // so that no compiler knows it
    csp_timer_free(a);
    csp_timer_free(b);
    csp_timer_free(d);
    csp_ticker_free(c);
    CHECK_PANICS("use of a freed timer", csp_timer_stop(freed[0]));
    CHECK_PANICS("use of a freed timer", csp_timer_reset(freed[1], 1));
    CHECK_PANICS("use of a freed timer", csp_timer_free(freed[0]));
    CHECK_PANICS("use of a freed timer", csp_timer_free(freed[3]));
    CHECK_PANICS("use of a freed timer", csp_ticker_stop((csp_ticker *)(void *)freed[2]));
}

TEST(panic, panics_by_the_hundred_thousand_leave_nothing_behind)
{
    volatile int n = 0;
    for (volatile int i = 0; i < rounds(100000); i++) {
        csp_try
        {
            csp_defer(nothing, NULL);
            csp_panic("%d", i);
        }
        csp_catch(p)
        {
            n += p->message[0] != 0;
        }
    }
    CHECK_EQ(n, rounds(100000));
}

TEST_PLAIN(panic, a_plain_thread_can_try_and_defer_too)
{
    trail[0] = 0;
    csp_try
    {
        csp_defer(mark, "1");
        csp_panic("on a thread");
    }
    csp_catch(p)
    {
        CHECK(strcmp(p->message, "on a thread") == 0);
        mark("2");
    }
    CHECK(strcmp(trail, "12") == 0);
}

static void says_deferred(void *arg)
{
    (void)arg;
    fprintf(stderr, "the defer ran\n");
}

static void panics_uncaught(void *arg)
{
    csp_defer(says_deferred, arg);
    csp_set_name("culprit");
    csp_panic("nobody catches %d", 123);
}

static void spawns_the_culprit(void *arg)
{
    csp_try
    {
        csp_spawn(panics_uncaught, arg);
        csp_recv((int_chan)NULL, NULL);
    }
    csp_catch(p)
    { // of another goroutine: must not get here
        printf("caught %s\n", p->message);
    }
}

CHILD(uncaught_in_main_goroutine)
{
    csp_run(panics_uncaught, NULL);
}
CHILD(uncaught_in_goroutine)
{
    csp_run(spawns_the_culprit, NULL);
}
CHILD(uncaught_on_a_thread)
{
    csp_panic("nobody catches 123");
}
CHILD(uncaught_without_run)
{
    csp_spawn(panics_uncaught, NULL);
    for (;;) csp_sleep(CSP_SECOND);
}

TEST_PLAIN(panic, an_uncaught_one_within_run_exits_with_2_and_a_dump)
{
    static const char *const children[] = {"uncaught_in_main_goroutine", "uncaught_in_goroutine"};
    for (int i = 0; i < 2; i++) {
        outcome *o = run_child(children[i], NULL);
        CHECK_CHILD(o, 2);
        CHECK_HAS(o->text, "nobody catches 123");
        CHECK_HAS(o->text, "culprit");
        if (i == 1) CHECK_HAS(o->text, __FILE__ ":"); // where it was started
        CHECK_HAS(o->text, "the defer ran");
        CHECK(strstr(o->text, "caught nobody") == NULL);
    }
}

// clang-format off
static void panics_somewhere(void *how)
{
    int_chan none = NULL, c = csp_make(int, 1);
    csp_mutex mu = {0};
    csp_waitgroup wg = {0};
    csp_sem sem;
    csp_sem_init(&sem, 1);
    switch (*(const char *)how) {
    case '0': csp_panic("here"); // panic 0
    case '1': csp_close(none); break; // panic 1
    case '2': csp_close(c); csp_send(c, 1); break; // panic 2
    case '3': csp_mutex_unlock(&mu); break; // panic 3
    case '4': csp_waitgroup_done(&wg); break; // panic 4
    case '5': csp_sem_release(&sem, 1); break; // panic 5
    default: csp_mutex_lock((csp_mutex *)none); // panic 6
    }
}
static const int panics_line = __LINE__ - 9; // of the case 0
// clang-format on

#define PANICS_SOMEWHERE(n)                                                                        \
    CHILD(panics_somewhere_##n)                                                                    \
    {                                                                                              \
        csp_run(panics_somewhere, (void *)(uintptr_t) #n);                                         \
    }
PANICS_SOMEWHERE(0)
PANICS_SOMEWHERE(1)
PANICS_SOMEWHERE(2)
PANICS_SOMEWHERE(3)
PANICS_SOMEWHERE(4)
PANICS_SOMEWHERE(5)
PANICS_SOMEWHERE(6)

TEST_PLAIN(panic, an_uncaught_one_names_its_line)
{
    for (int i = 0; i < 7; i++) {
        char child[32], place[512];
        snprintf(child, sizeof child, "panics_somewhere_%d", i);
        snprintf(place, sizeof place, "\n    at %s:%d\n", __FILE__, panics_line + i);
        CHECK_HAS(run_child(child, NULL)->text, place);
    }
}

TEST_PLAIN(panic, an_uncaught_one_elsewhere_aborts)
{
    outcome *o = run_child("uncaught_without_run", NULL);
    CHECK_HAS(o->text, "nobody catches 123");
    CHECK_HAS(o->text, "culprit");
    CHECK_CHILD(o, ABORTED);
    o = run_child("uncaught_on_a_thread", NULL);
    CHECK_HAS(o->text, "nobody catches 123");
    CHECK_CHILD(o, ABORTED);
}

/* ==========================================================================
 * chan - channels
 * ======================================================================== */

csp_task(sends_and_counts, int_chan, c, int, n, int *, completed)
{
    for (int i = 0; i < n; i++) {
        csp_send(c, i);
        STORE(completed, i + 1);
    }
}

TEST(chan, a_send_returns_only_when_it_is_received_or_buffered)
{
    for (int cap = 0; cap <= 5; cap++) {
        int_chan c = csp_make(int, cap);
        int completed = 0, v = -1, n = 500;
        csp_procs(1 + cap % 3);
        csp_go(sends_and_counts, c, n, &completed);
        for (int i = 0; i < n; i++) {
            for (int k = i % 4; k > 0; k--) csp_yield();
            CHECK(LOAD(&completed) <= i + cap);
            CHECK(csp_recv(c, &v) && v == i);
        }
        EVENTUALLY(LOAD(&completed) == n);
        csp_unref(c);
    }
}

TEST(chan, len_and_cap_count_the_buffer)
{
    int_chan c = csp_make(int, 3), u = csp_make(int, 0);
    CHECK(csp_cap(c) == 3 && csp_len(c) == 0 && csp_cap(u) == 0 && csp_len(u) == 0);
    for (int i = 1; i <= 3; i++) {
        csp_send(c, i);
        CHECK_EQ(csp_len(c), i);
    }
    CHECK_EQ(csp_try_send(c, 4), CSP_AGAIN);
    csp_close(c);
    CHECK_EQ(csp_len(c), 3);
    for (int i = 1; i <= 3; i++) {
        int v = 0;
        CHECK(csp_recv(c, &v) && v == i);
        CHECK_EQ(csp_len(c), 3 - i);
    }
    csp_unref(c);
    csp_unref(u);
}

csp_task(sends_all, int_chan, c, int, n)
{
    for (int i = 0; i < n; i++) csp_send(c, i);
    csp_close(c);
}

TEST(chan, values_arrive_in_the_order_they_were_sent)
{
    static const int caps[] = {0, 1, 2, 7, 128};
    for (int i = 0; i < 5; i++) {
        for (int procs = 1; procs <= 3; procs += 2) {
            int_chan c = csp_make(int, caps[i]);
            int n = 0;
            csp_procs(procs);
            csp_go(sends_all, c, rounds(20000));
            csp_range(v, c) CHECK_EQ(v, n++);
            CHECK_EQ(n, rounds(20000));
            csp_unref(c);
        }
    }
}

csp_task(receives_as, int_chan, c, int, me, int_chan, done)
{
    int v = -1;
    CHECK(csp_recv(c, &v));
    CHECK_EQ(v, me);
    csp_send(done, 1);
}

csp_task(selects_as, int_chan, c, int, me, int_chan, done)
{
    int v = -1, w = -1;
    int_chan other = csp_make(int, 0);
    int got = csp_select(CSP_RECV(other, &w), CSP_RECV(c, &v), CSP_AFTER(CSP_HOUR));
    csp_unref(other);
    CHECK_EQ(got, 1);
    CHECK(w == -1 && v == me);
    csp_send(done, 1);
}

static void *thread_receives_0(void *c)
{
    int v = -1;
    CHECK(csp_recv(*(int_chan *)c, &v));
    CHECK_EQ(v, 0);
    return NULL;
}

TEST(chan, receivers_are_served_in_the_order_they_came)
{
    for (int cap = 0; cap <= 2; cap++) {
        int_chan c = csp_make(int, cap), done = csp_make(int, 100);
        void *last = NULL;
        pthread_t t = thread_start(thread_receives_0, &c);
        EVENTUALLY(last_receiver(c) != last);
        for (int i = 1; i < 30; i++) {
            last = last_receiver(c);
            if (i % 3 == 0)
                csp_go(selects_as, c, i, done);
            else
                csp_go(receives_as, c, i, done);
            EVENTUALLY(last_receiver(c) != last);
        }
        for (int i = 0; i < 30; i++) csp_send(c, i);
        collect(done, 29);
        pthread_join(t, NULL);
        csp_unref(c);
        csp_unref(done);
    }
}

csp_task(sends_v, int_chan, c, int, v)
{
    csp_send(c, v);
}
csp_task(selects_v, int_chan, c, int, v)
{
    csp_select(CSP_SEND(c, v), CSP_AFTER(CSP_HOUR));
}

TEST(chan, senders_are_served_in_the_order_they_came)
{
    for (int cap = 0; cap <= 2; cap++) {
        int_chan c = csp_make(int, cap);
        for (int i = 0; i < cap; i++) csp_send(c, i);
        for (int i = cap; i < 40; i++) {
            void *last = last_sender(c);
            if (i % 3 == 0)
                csp_go(selects_v, c, i);
            else
                csp_go(sends_v, c, i);
            EVENTUALLY(last_sender(c) != last);
        }
        for (int i = 0; i < 40; i++) {
            int v = -1;
            CHECK(csp_recv(c, &v));
            CHECK_EQ(v, i);
        }
        csp_unref(c);
    }
}

/* ---- close ---- */

csp_task(finds_closed, int_chan, c, int_chan, done)
{
    int v = 77;
    CHECK(!csp_recv(c, &v));
    CHECK_EQ(v, 0);
    csp_send(done, 1);
}

static void *thread_finds_closed(void *c)
{
    int v = 77;
    CHECK(!csp_recv(*(int_chan *)c, &v));
    CHECK_EQ(v, 0);
    return NULL;
}

TEST(chan, close_wakes_every_blocked_receiver)
{
    int_chan c = csp_make(int, 0), done = csp_make(int, 200);
    pthread_t threads[3];
    for (int i = 0; i < 200; i++) {
        void *last = last_receiver(c);
        csp_go(finds_closed, c, done);
        if (i % 20 == 0) EVENTUALLY(last_receiver(c) != last);
    }
    for (int i = 0; i < 3; i++) threads[i] = thread_start(thread_finds_closed, &c);
    csp_close(c);
    collect(done, 200);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    csp_unref(c);
    csp_unref(done);
}

csp_task(finds_closed_sending, int_chan, c, int, how, int_chan, done)
{
    int v = 1;
    switch (how) {
    case 0: CHECK_PANICS("send on closed channel", csp_send(c, v)); break;
    case 1: CHECK_EQ(csp_send_until(c, v, CSP_FOREVER), CSP_CLOSED); break;
    default:
        CHECK_PANICS("send on closed channel", csp_select(CSP_SEND(c, v), CSP_AFTER(CSP_HOUR)));
    }
    csp_send(done, 1);
}

TEST(chan, close_panics_every_blocked_sender)
{
    for (int cap = 0; cap <= 2; cap += 2) {
        int_chan c = csp_make(int, cap), done = csp_make(int, 60);
        for (int i = 0; i < cap; i++) csp_send(c, 9);
        for (int i = 0; i < 60; i++) {
            void *last = last_sender(c);
            csp_go(finds_closed_sending, c, i % 3, done);
            EVENTUALLY(last_sender(c) != last);
        }
        csp_close(c);
        collect(done, 60);
        for (int i = 0; i < cap; i++) CHECK(csp_recv(c, NULL)); // what was in the buffer stays
        CHECK(!csp_recv(c, NULL));
        csp_unref(c);
        csp_unref(done);
    }
}

TEST(chan, a_closed_channel_is_drained_and_then_gives_zeroes)
{
    csp_chan(big) c = csp_make(big, 2);
    big b, sent = {.d = 1.5};
    sent.bytes[7] = 7;
    csp_send(c, sent);
    csp_close(c);
    CHECK(csp_recv(c, &b) && b.bytes[7] == 7 && b.d > 1.4);
    for (int i = 0; i < 3; i++) {
        memset(&b, 0xff, sizeof b);
        CHECK(!csp_recv(c, &b));
        for (size_t k = 0; k < sizeof b; k++) CHECK(((char *)&b)[k] == 0);
        CHECK(!csp_recv(c, NULL));
        CHECK_EQ(csp_try_recv(c, &b), CSP_CLOSED);
        CHECK_EQ(csp_recv_until(c, &b, CSP_FOREVER), CSP_CLOSED);
        CHECK_EQ(csp_recv_until(c, &b, 0), CSP_CLOSED);
    }
    csp_unref(c);
}

TEST(chan, sending_on_and_closing_a_closed_channel_panic)
{
    int_chan c = csp_make(int, 5), u = csp_make(int, 0), nil = NULL;
    csp_close(c);
    csp_close(u);
    CHECK_PANICS("send on closed channel", csp_send(c, 1));
    CHECK_PANICS("send on closed channel", csp_send(u, 1));
    CHECK_PANICS("send on closed channel", csp_select(CSP_SEND(c, 1), CSP_DEFAULT));
    CHECK_PANICS("close of closed channel", csp_close(c));
    CHECK_PANICS("close of closed channel", csp_close(u));
    CHECK_PANICS("close of nil channel", csp_close(nil));
    CHECK_EQ(csp_try_send(c, 1), CSP_CLOSED);
    CHECK_EQ(csp_send_until(u, 1, CSP_FOREVER), CSP_CLOSED);
    CHECK_EQ(csp_send_until(u, 1, 0), CSP_CLOSED);
    CHECK(csp_len(c) == 0 && !csp_recv(c, NULL));
    csp_unref(c);
    csp_unref(u);
}

/* ---- calls that do not block, or not for long ---- */

TEST(chan, a_null_channel_is_never_ready)
{
    int_chan nil = NULL;
    int v = 5;
    CHECK_EQ(csp_try_send(nil, 1), CSP_AGAIN);
    CHECK_EQ(csp_try_recv(nil, &v), CSP_AGAIN);
    int64_t t = csp_now() + CSP_MILLISECOND;
    CHECK_EQ(csp_send_until(nil, 1, t), CSP_TIMEOUT);
    CHECK(csp_now() >= t);
    t = csp_now() + CSP_MILLISECOND;
    CHECK_EQ(csp_recv_until(nil, &v, t), CSP_TIMEOUT);
    CHECK(csp_now() >= t);
    CHECK(v == 5 && csp_len(nil) == 0 && csp_cap(nil) == 0);
    csp_unref(nil);
    CHECK(csp_ref(nil) == NULL);
}

TEST(chan, try_takes_what_is_ready_and_nothing_else)
{
    int_chan c = csp_make(int, 1), u = csp_make(int, 0), done = csp_make(int, 1);
    int v = 5;
    CHECK_EQ(csp_try_recv(c, &v), CSP_AGAIN);
    CHECK_EQ(csp_try_recv(u, &v), CSP_AGAIN);
    CHECK_EQ(csp_try_send(u, 1), CSP_AGAIN);
    CHECK_EQ(v, 5);
    CHECK_EQ(csp_try_send(c, 1), CSP_OK);
    CHECK_EQ(csp_try_send(c, 2), CSP_AGAIN);
    CHECK(csp_try_recv(c, &v) == CSP_OK && v == 1);
    csp_go(receives_as, u, 3, done);
    EVENTUALLY(csp_try_send(u, 3) == CSP_OK); // a receiver waits there
    collect(done, 1);
    csp_go(sends_v, u, 4);
    EVENTUALLY(csp_try_recv(u, &v) == CSP_OK);
    CHECK_EQ(v, 4);
    csp_go(sends_v, c, 6);
    EVENTUALLY(csp_try_recv(c, NULL) == CSP_OK);
    csp_unref(c);
    csp_unref(u);
    csp_unref(done);
}

struct eight {
    int a, b, c, d, e, f, g, h;
};

TEST(chan, until_ends_at_the_deadline_and_not_before)
{
    int_chan c = csp_make(int, 1), u = csp_make(int, 0);
    uint64_t r = stream(0);
    int v = 5;
    for (int i = 0; i < 20; i++) {
        int64_t t = csp_now() + below(&r, 3000) * CSP_MICROSECOND;
        if (i % 2)
            CHECK_EQ(csp_recv_until(i % 4 == 1 ? c : u, &v, t), CSP_TIMEOUT);
        else
            CHECK_EQ(csp_send_until(u, 1, t), CSP_TIMEOUT);
        CHECK(csp_now() >= t);
    }
    csp_send(c, 7);
    int64_t t = csp_now() + CSP_MILLISECOND;
    CHECK_EQ(csp_send_until(c, 1, t), CSP_TIMEOUT);
    CHECK(csp_now() >= t && v == 5);
    CHECK_EQ(csp_recv_until(u, &v, INT64_MIN), CSP_TIMEOUT);
    CHECK_EQ(csp_send_until(u, 1, -1), CSP_TIMEOUT);
    csp_chan(struct eight) wide = csp_make(struct eight, 1); // a value with commas
    CHECK_EQ(csp_send_until(wide, (struct eight){1, 2, 3, 4, 5, 6, 7, 8}, CSP_FOREVER), CSP_OK);
    CHECK_EQ(csp_send_until(wide, (struct eight){.b = 1, .h = 2}, csp_now()), CSP_TIMEOUT);
    struct eight got;
    CHECK(csp_recv(wide, &got) && got.a == 1 && got.h == 8);
    csp_unref(wide);
    CHECK_EQ(csp_try_send(u, 1), CSP_AGAIN); // no waiter was left behind
    CHECK_EQ(csp_try_recv(u, &v), CSP_AGAIN);
    CHECK(csp_recv(c, &v) && v == 7);
    csp_unref(c);
    csp_unref(u);
}

TEST(chan, what_is_ready_wins_over_a_deadline_that_has_passed)
{
    int_chan c = csp_make(int, 1), u = csp_make(int, 0), done = csp_make(int, 1);
    for (int i = 0; i < 1000; i++) {
        int v = -1;
        int64_t past = i % 2 ? csp_now() : INT64_MIN;
        CHECK_EQ(csp_send_until(c, i, past), CSP_OK);
        CHECK(csp_recv_until(c, &v, past) == CSP_OK && v == i);
    }
    csp_go(receives_as, u, 8, done);
    EVENTUALLY(last_receiver(u) != NULL);
    CHECK_EQ(csp_send_until(u, 8, 0), CSP_OK);
    collect(done, 1);
    csp_unref(c);
    csp_unref(u);
    csp_unref(done);
}

csp_task(sends_in_time, int_chan, c, uint64_t, r, int, n, csp_chan(int64_t), sum)
{
    int64_t sent = 0;
    for (int i = 1; i <= n; i++) {
        int64_t t = csp_now() + below(&r, 20) * CSP_MICROSECOND;
        if (csp_send_until(c, i, t) == CSP_OK) sent += i;
    }
    csp_send(sum, sent);
}

csp_task(receives_in_time, int_chan, c, uint64_t, r, int *, stop, csp_chan(int64_t), sum)
{
    int64_t received = 0;
    int v = 0;
    for (;;) {
        csp_status s = csp_recv_until(c, &v, csp_now() + below(&r, 20) * CSP_MICROSECOND);
        if (s == CSP_OK)
            received += v;
        else if (LOAD(stop))
            break;
    }
    csp_send(sum, received);
}

TEST(chan, no_value_is_lost_or_doubled_when_deadlines_race_with_partners)
{
    for (int cap = 0; cap <= 2; cap++) {
        int_chan c = csp_make(int, cap);
        csp_chan(int64_t) sum = csp_make(int64_t, 0), got = csp_make(int64_t, 0);
        int stop = 0;
        int64_t sent = 0, received = 0, s = 0;
        csp_procs(1 + cap);
        for (int i = 0; i < 4; i++) csp_go(sends_in_time, c, stream(i), rounds(3000), sum);
        for (int i = 4; i < 8; i++) csp_go(receives_in_time, c, stream(i), &stop, got);
        for (int i = 0; i < 4; i++) CHECK(csp_recv(sum, &s)), sent += s;
        EVENTUALLY(csp_len(c) == 0);
        STORE(&stop, 1);
        for (int i = 0; i < 4; i++) CHECK(csp_recv(got, &s)), received += s;
        CHECK_EQ(received, sent);
        csp_unref(c);
        csp_unref(sum);
        csp_unref(got);
    }
}

/* ---- range, references, kinds of channels ---- */

static int times_asked;
static int_chan ask(int_chan c)
{
    times_asked++;
    return c;
}

TEST(chan, range_evaluates_its_channel_once_and_obeys_break_and_continue)
{
    int_chan c = csp_make(int, 10), inner = csp_make(int, 10);
    int sum = 0;
    for (int i = 0; i < 10; i++) csp_send(c, i);
    times_asked = 0;
    csp_range(v, ask(c)) {
        if (v == 2) continue;
        if (v == 5) break;
        sum += v;
    }
    CHECK(sum == 0 + 1 + 3 + 4 && csp_len(c) == 4);
    for (int i = 1; i <= 3; i++) csp_send(inner, i);
    csp_close(inner);
    csp_close(c);
    csp_range(v, c)
        csp_range(w, inner) sum += v * w;
    CHECK_EQ(sum, 8 + 6 * 6);
    csp_range(v, ask(c)) FAIL("received %d", v);
    CHECK_EQ(times_asked, 2);
    csp_receiver(int) end = csp_recv_end(c);
    csp_range(v, end) FAIL("received %d", v);
    csp_unref(c);
    csp_unref(inner);
}

TEST(chan, operands_are_evaluated_once_and_in_order)
{
    csp_chan(big) c = csp_make(big, 3);
    big b;
    order_at = 0;
    csp_send((in_order(0), c), (big){.in = {.s = (short)in_order(1)}, .d = 0.5});
    CHECK_EQ(csp_try_send((in_order(2), c), (big){.in = {.s = (short)in_order(3)}}), CSP_OK);
    CHECK(csp_recv((in_order(4), c), (in_order(5), &b)) && b.in.s == 1);
    CHECK_EQ(csp_recv_until((in_order(6), c), (in_order(7), &b), (in_order(8), 0)), CSP_OK);
    CHECK(b.in.s == 3 && order_at == 9);
    csp_unref(c);
}

TEST(chan, a_channel_lives_until_its_last_reference)
{
    int_chan c = csp_make(int, 1);
    CHECK(csp_ref(c) == c);
    csp_sender(int) s = csp_ref(csp_send_end(c));
    csp_unref(c);
    csp_send(s, 3);
    csp_unref(s);
    int v = 0;
    CHECK(csp_recv(c, &v) && v == 3);
    csp_unref(c);
}

TEST(chan, freeing_a_channel_on_which_a_goroutine_waits_panics)
{
    int_chan c = csp_make(int, 0), done = csp_make(int, 0);
    int v = 0;
    csp_go(receives_as, c, 1, done);
    EVENTUALLY(last_receiver(c) != NULL);
    CHECK_PANICS("while a goroutine waits on it", csp_unref(c));
    csp_send(c, 1); // and it is still whole
    collect(done, 1);
    csp_go(sends_v, c, 2);
    EVENTUALLY(last_sender(c) != NULL);
    CHECK_PANICS("while a goroutine waits on it", csp_unref(c));
    CHECK(csp_recv(c, &v) && v == 2);
    csp_go(selects_as, c, 3, done);
    EVENTUALLY(last_receiver(c) != NULL);
    CHECK_PANICS("while a goroutine waits on it", csp_unref(c));
    csp_send(c, 3);
    collect(done, 1);
    csp_unref(c);
    csp_unref(done);
}

typedef struct raw_job {
    void *c;
    size_t size;
    int n;
} raw_job;

csp_task(sends_raw, raw_job, j)
{
    unsigned char bytes[300];
    for (int i = 0; i < j.n; i++) {
        memset(bytes, i + 1, sizeof bytes);
        csp_x_send(j.c, bytes, "send\0");
    }
    csp_x_close(j.c, NULL);
}

/* Straight through what the macros call, for every size; neighbours stay untouched. */
TEST(chan, values_of_every_size_arrive_whole)
{
    unsigned char bytes[320];
    for (size_t size = 0; size <= 300; size++) {
        for (int cap = 0; cap <= 3; cap += 1 + (cap == 1)) {
            raw_job j = {csp_x_make(size, cap, NULL), size, 7};
            csp_go(sends_raw, j);
            for (int i = 0; i < j.n; i++) {
                memset(bytes, 0xee, sizeof bytes);
                CHECK(csp_x_recv(j.c, bytes + 8, "receive\0"));
                for (size_t k = 0; k < sizeof bytes; k++)
                    CHECK_EQ(bytes[k], k >= 8 && k < 8 + size ? i + 1 : 0xee);
            }
            CHECK(!csp_x_recv(j.c, bytes + 8, "receive\0"));
            for (size_t k = 0; k < sizeof bytes; k++)
                CHECK_EQ(bytes[k], k >= 8 && k < 8 + size ? 0 : k >= 8 + size || k < 8 ? 0xee : 0);
            csp_x_unref(j.c, NULL);
        }
    }
}

typedef struct empty {
    __extension__ int none[0];
} empty;
typedef struct aligned {
    _Alignas(64) char c;
} aligned;
typedef int (*function)(int);
static int add_7(int v)
{
    return v + 7;
}
enum colour { RED, GREEN };

TEST(chan, elements_may_be_of_any_complete_type)
{
    csp_chan(empty) e = csp_make(empty, 2);
    csp_chan(bool) b = csp_make(bool, 1);
    csp_chan(function) f = csp_make(function, 1);
    csp_chan(enum colour) n = csp_make(enum colour, 1);
    csp_chan(const char *) s = csp_make(const char *, 1);
    csp_chan(long double) l = csp_make(long double, 1);
    csp_chan(aligned) a = csp_make(aligned, 1);
    csp_chan(void *) p = csp_make(void *, 1);
    empty none;
    memset(&none, 0, sizeof none);
    csp_send(e, none);
    CHECK(csp_len(e) == 1 && csp_try_send(e, none) == CSP_OK && csp_try_send(e, none) == CSP_AGAIN);
    CHECK(csp_recv(e, &none));
    bool x = false;
    csp_send(b, true);
    CHECK(csp_recv(b, &x) && x);
    function g = NULL;
    csp_send(f, add_7);
    CHECK(csp_recv(f, &g) && g(1) == 8);
    enum colour colour = RED;
    csp_send(n, GREEN);
    CHECK(csp_recv(n, &colour) && colour == GREEN);
    const char *text = NULL;
    csp_send(s, "text");
    CHECK(csp_recv(s, &text) && strcmp(text, "text") == 0);
    long double ld = 0;
    csp_send(l, 1.5L);
    CHECK(csp_recv(l, &ld) && ld > 1.4L);
    aligned al = {0};
    csp_send(a, (aligned){'c'});
    CHECK(csp_recv(a, &al) && al.c == 'c');
    void *q = NULL;
    csp_send(p, &q);
    CHECK(csp_recv(p, &q) && q == &q);
    csp_unref(e), csp_unref(b), csp_unref(f), csp_unref(n);
    csp_unref(s), csp_unref(l), csp_unref(a), csp_unref(p);
}

TEST(chan, channels_travel_through_channels)
{
    csp_chan(csp_chan(csp_sender(int))) outer = csp_make(csp_chan(csp_sender(int)), 1);
    csp_chan(csp_sender(int)) middle = csp_make(csp_sender(int), 1), got = NULL;
    int_chan c = csp_make(int, 1);
    csp_sender(int) s = NULL;
    int v = 0;
    csp_send(middle, csp_send_end(c));
    csp_send(outer, middle);
    CHECK(csp_recv(outer, &got) && got == middle);
    CHECK(csp_recv(got, &s));
    csp_send(s, 6);
    CHECK(csp_recv(c, &v) && v == 6);
    csp_unref(outer);
    csp_unref(middle);
    csp_unref(c);
}

CSP_CHAN_STATIC(int, static_unbuffered, 0);
CSP_CHAN_STATIC(big, static_buffered, 4);

static void sends_to_static(void *count)
{
    int n = *(int *)count; // read once: the receiver of the last value may return
    for (int i = 0; i < n; i++) csp_send(static_unbuffered, i);
}

TEST(chan, static_channels_need_no_make)
{
    CSP_CHAN_STATIC(char, local, 2);
    int n = 100, v = -1;
    char c = 0;
    csp_spawn(sends_to_static, &n);
    for (int i = 0; i < n; i++) CHECK(csp_recv(static_unbuffered, &v) && v == i);
    CHECK(csp_cap(static_buffered) == 4 && csp_cap(static_unbuffered) == 0 && csp_cap(local) == 2);
    big b = {.d = 2.5};
    for (int i = 0; i < 4; i++) CHECK_EQ(csp_try_send(static_buffered, b), CSP_OK);
    CHECK_EQ(csp_try_send(static_buffered, b), CSP_AGAIN);
    for (int i = 0; i < 4; i++) CHECK(csp_recv(static_buffered, &b) && b.d > 2.4);
    csp_send(local, 'a');
    CHECK(csp_select(CSP_RECV(static_unbuffered, &v), CSP_RECV(local, &c)) == 1 && c == 'a');
    csp_close(local);
    CHECK(!csp_recv(local, &c) && c == 0);
}

TEST(chan, sizes_that_cannot_be_panic)
{
    volatile int64_t bad = -5;
    CHECK_PANICS("-5", (void)csp_make(int, bad));
    bad = INT64_MIN;
    CHECK_PANICS("", (void)csp_make(char, bad));
    bad = INT64_MAX;
    CHECK_PANICS("", (void)csp_make(int, bad));
    CHECK_PANICS("", (void)csp_make(char, bad));
    bad = INT64_MAX / 2;
    CHECK_PANICS("", (void)csp_make(big, bad));
    CHECK_PANICS("", (void)csp_x_make(SIZE_MAX, 1, NULL));
    CHECK_PANICS("", (void)csp_x_make(SIZE_MAX / 2, 3, NULL));
    csp_unref(csp_make(empty, 1 << 30));
}

/* ---- the last look: the receiver of the last value or of the close may free at once ---- */

csp_task(sends_last, int_chan, c)
{
    csp_send(c, 1);
}
csp_task(closes_last, int_chan, c)
{
    csp_close(c);
}
csp_task(receives_last, int_chan, c)
{
    csp_recv(c, NULL);
}

TEST(chan, who_gets_the_last_value_may_free_the_channel_at_once)
{
    for (int procs = 1; procs <= 4; procs++) {
        csp_procs(procs);
        for (int i = 0; i < rounds(10000); i++) {
            int_chan c = csp_make(int, i % 2);
            csp_go(sends_last, c);
            if (i % 3 == 0)
                CHECK(csp_select(CSP_RECV(c, NULL), CSP_AFTER(CSP_HOUR)) == 0);
            else if (i % 3 == 1)
                CHECK(csp_recv_until(c, NULL, CSP_FOREVER) == CSP_OK);
            else
                CHECK(csp_recv(c, NULL));
            csp_unref(c);
        }
    }
}

TEST(chan, who_sees_the_close_may_free_the_channel_at_once)
{
    for (int procs = 1; procs <= 4; procs++) {
        csp_procs(procs);
        for (int i = 0; i < rounds(10000); i++) {
            int_chan c = csp_make(int, i % 2);
            csp_go(closes_last, c);
            if (i % 3 == 0)
                CHECK(csp_select(CSP_RECV(c, NULL), CSP_AFTER(CSP_HOUR)) == 0);
            else
                CHECK(!csp_recv(c, NULL));
            csp_unref(c);
        }
    }
}

TEST(chan, who_sent_the_last_value_may_free_an_unbuffered_channel_at_once)
{
    for (int procs = 1; procs <= 4; procs++) {
        csp_procs(procs);
        for (int i = 0; i < rounds(10000); i++) {
            int_chan c = csp_make(int, 0);
            csp_go(receives_last, c);
            if (i % 3 == 0)
                CHECK(csp_select(CSP_SEND(c, 1), CSP_AFTER(CSP_HOUR)) == 0);
            else
                csp_send(c, 1);
            csp_unref(c);
        }
    }
}

static void *thread_sends_last(void *channels)
{
    int_chan c;
    while (csp_recv(*(csp_chan(int_chan) *)channels, &c)) csp_send(c, 1);
    return NULL;
}

TEST(chan, a_channel_may_be_freed_while_a_thread_is_on_its_way_out_of_it)
{
    csp_chan(int_chan) channels = csp_make(int_chan, 0);
    pthread_t t = thread_start(thread_sends_last, &channels);
    for (int i = 0; i < rounds(2000); i++) {
        int_chan c = csp_make(int, i % 2);
        csp_send(channels, c);
        CHECK(csp_recv(c, NULL));
        csp_unref(c);
    }
    csp_close(channels);
    pthread_join(t, NULL);
    csp_unref(channels);
}

/* ---- many at once ---- */

csp_task(sends_range, csp_chan(int64_t), c, int, from, int, n, int_chan, done)
{
    for (int64_t i = from; i < from + n; i++) csp_send(c, i);
    csp_send(done, 1);
}

csp_task(adds_up, csp_chan(int64_t), c, csp_chan(int64_t), sums)
{
    int64_t sum = 0;
    csp_range(v, c) sum += v;
    csp_send(sums, sum);
}

TEST(chan, many_senders_and_receivers_lose_nothing)
{
    static const int caps[] = {0, 1, 128};
    for (int i = 0; i < 3; i++) {
        for (int procs = 1; procs <= 4; procs++) {
            csp_chan(int64_t) c = csp_make(int64_t, caps[i]), sums = csp_make(int64_t, 0);
            int_chan done = csp_make(int, 0);
            int n = rounds(5000);
            int64_t all = 0, sum = 0, last = 4 * n;
            csp_procs(procs);
            for (int k = 0; k < 4; k++) csp_go(sends_range, c, k * n, n, done);
            for (int k = 0; k < 4; k++) csp_go(adds_up, c, sums);
            collect(done, 4);
            csp_close(c);
            for (int k = 0; k < 4; k++) CHECK(csp_recv(sums, &sum)), all += sum;
            CHECK_EQ(all, last * (last - 1) / 2);
            csp_unref(c);
            csp_unref(sums);
            csp_unref(done);
        }
    }
}

csp_task(filters, int_chan, in, int_chan, out, int, prime)
{
    csp_range(v, in)
        if (v % prime != 0) csp_send(out, v);
    csp_close(out);
    csp_unref(in);
}

csp_task(sends_naturals, int_chan, out, int, last)
{
    for (int i = 2; i <= last; i++) csp_send(out, i);
    csp_close(out);
}

TEST(chan, a_sieve_of_channels_finds_the_primes)
{
    int_chan c = csp_make(int, 0);
    int n = 0, prime = 0, last = 0;
    csp_go(sends_naturals, c, 1000);
    while (csp_recv(c, &prime)) {
        int_chan next = csp_make(int, 0);
        csp_go(filters, c, next, prime);
        c = next;
        last = prime;
        n++;
    }
    csp_unref(c);
    CHECK(n == 168 && last == 997);
    EVENTUALLY(csp_count() == 1);
}

/* ==========================================================================
 * select
 * ======================================================================== */

TEST(select, every_kind_of_case_says_its_position)
{
    int_chan a = csp_make(int, 1), b = csp_make(int, 1), nil = NULL;
    int v = 0, w = 0;
    bool ok = false;
    CHECK_EQ(csp_select(CSP_RECV(a, &v), CSP_DEFAULT), 1);
    CHECK_EQ(csp_select(CSP_DEFAULT, CSP_RECV(a, &v)), 0);
    CHECK_EQ(csp_select(CSP_RECV(a, &v), CSP_AFTER(1)), 1);
    CHECK_EQ(csp_select(CSP_UNTIL(csp_now()), CSP_RECV(a, &v)), 0);
    CHECK_EQ(csp_select(CSP_RECV(a, &v), CSP_RECV(nil, &v), CSP_SEND(b, 7)), 2);
    CHECK_EQ(csp_select(CSP_RECV(a, &v), CSP_RECV(b, &w, &ok), CSP_SEND(nil, 7)), 1);
    CHECK(w == 7 && ok && v == 0);
    csp_send(b, 8);
    CHECK_EQ(csp_select(CSP_RECV(a, NULL), CSP_RECV(b, NULL)), 1);
    csp_case cases[3] = {CSP_RECV(a, &v), CSP_RECV(b, &w)};
    v = 11;
    cases[2] = CSP_SEND_PTR(a, &v);
    CHECK_EQ(csp_select_n(cases, 3), 2);
    v = 0;
    CHECK(csp_select_n(cases, 2) == 0 && v == 11);
    CHECK_EQ(csp_select(CSP_SEND(a, 1)), 0);
    CHECK(csp_select(CSP_RECV(csp_recv_end(a), &v)) == 0 && v == 1);
    CHECK_EQ(csp_select(CSP_SEND(csp_send_end(a), 1)), 0);
    CHECK_EQ(csp_select(CSP_DEFAULT), 0);
    csp_unref(a);
    csp_unref(b);
}

/* Names in the macros are csp's own: x, for one, is the user's. */
TEST(select, a_receive_without_destinations_takes_none)
{
    int_chan c = csp_make(int, 2);
    bool taken = false, *x = &taken, *ok = x, *p = x;
    csp_send(c, 1);
    csp_send(c, 2);
    CHECK(csp_select(CSP_RECV(c), CSP_DEFAULT) == 0);
    csp_case one = CSP_RECV(c);
    CHECK(csp_select_n(&one, 1) == 0 && csp_len(c) == 0);
    CHECK(!taken && one.value == NULL && one.ok == NULL);
    CHECK(csp_select(CSP_RECV(c), CSP_DEFAULT) == 1 && !*x && !*ok && !*p);
    csp_unref(c);
}

TEST(select, a_zeroed_case_is_never_ready)
{
    csp_case cases[3];
    memset(cases, 0, sizeof cases);
    cases[1] = CSP_DEFAULT;
    CHECK_EQ(csp_select_n(cases, 3), 1);
    cases[1] = CSP_AFTER(1000);
    CHECK_EQ(csp_select_n(cases, 3), 1);
}

/* With few equally likely outcomes the statistic passes the limit once in some ten million runs. */
static void check_uniform(const int *counts, int k, int draws)
{
    double chi = 0, expected = (double)draws / k, limit = 28 + 5.0 * (k - 1);
    for (int i = 0; i < k; i++) {
        double d = counts[i] - expected;
        chi += d * d / expected;
    }
    if (chi > limit) {
        for (int i = 0; i < k; i++) say("    %d: %d\n", i, counts[i]);
        FAIL("chi-square %.1f over %d draws of %d", chi, draws, k);
    }
}

TEST(select, ready_cases_are_taken_uniformly_at_random)
{
    int_chan c[4];
    int counts[8] = {0}, v = 0, draws = rounds(100000);
    for (int i = 0; i < 4; i++) c[i] = csp_make(int, 1);
    for (int i = 0; i < 4; i++) csp_send(c[i], i);
    for (int i = 0; i < draws; i++) {
        int n = csp_select(CSP_RECV(c[0], &v), CSP_RECV(c[1], &v), CSP_RECV(c[2], &v),
                           CSP_RECV(c[3], &v));
        CHECK_EQ(v, n);
        counts[n]++;
        csp_send(c[n], n);
    }
    check_uniform(counts, 4, draws);
    for (int i = 0; i < 4; i++) csp_unref(c[i]);
}

TEST(select, two_cases_of_the_same_channel_are_equally_likely)
{
    int_chan a = csp_make(int, 2), b = csp_make(int, 1);
    int counts[3] = {0}, u = 0, v = 0, draws = rounds(100000);
    csp_send(a, 1);
    csp_send(b, 2);
    for (int i = 0; i < draws; i++) {
        u = v = 0;
        int n = csp_select(CSP_RECV(a, &u), CSP_RECV(b, NULL), CSP_RECV(a, &v));
        CHECK(u == (n == 0) && v == (n == 2));
        counts[n]++;
        if (n == 1)
            csp_send(b, 2);
        else
            csp_send(a, 1);
    }
    check_uniform(counts, 3, draws);
    csp_unref(a);
    csp_unref(b);
}

TEST(select, sends_and_receives_among_cases_that_are_not_ready_are_equally_likely)
{
    int_chan a = csp_make(int, 1), b = csp_make(int, 1), not_ready = csp_make(int, 0),
             closed = csp_make(int, 0);
    int counts[7] = {0}, ready[3], draws = rounds(100000);
    csp_send(a, 1);
    csp_close(closed);
    for (int i = 0; i < draws; i++) {
        int n = csp_select(CSP_RECV(not_ready, NULL), CSP_RECV(a, NULL), CSP_SEND(not_ready, 1),
                           CSP_SEND(b, 1), CSP_RECV((int_chan)NULL, NULL), CSP_UNTIL(CSP_FOREVER),
                           CSP_RECV(closed, NULL));
        counts[n]++;
        if (n == 1) csp_send(a, 1);
        if (n == 3) CHECK(csp_recv(b, NULL));
    }
    CHECK(counts[0] + counts[2] + counts[4] + counts[5] == 0);
    ready[0] = counts[1], ready[1] = counts[3], ready[2] = counts[6];
    check_uniform(ready, 3, draws);
    csp_unref(a);
    csp_unref(b);
    csp_unref(not_ready);
    csp_unref(closed);
}

TEST(select, first_takes_the_first_ready_case)
{
    int_chan c[3];
    int v = -1;
    for (int i = 0; i < 3; i++) c[i] = csp_make(int, 1000);
    for (int i = 0; i < 1000; i++)
        for (int k = 0; k < 3; k++) csp_send(c[k], k);
    for (int i = 0; i < 3000; i++) {
        int n = csp_select_first(CSP_RECV(c[2], &v), CSP_RECV(c[0], &v), CSP_RECV(c[1], &v),
                                 CSP_DEFAULT);
        CHECK_EQ(n, i / 1000);
        CHECK_EQ(v, n == 0 ? 2 : n == 1 ? 0 : 1);
    }
    CHECK_EQ(csp_select_first(CSP_RECV(c[2], &v), CSP_RECV(c[0], &v), CSP_DEFAULT), 2);
    csp_go(sends_v, c[1], 5);
    CHECK_EQ(csp_select_first(CSP_RECV(c[2], &v), CSP_RECV(c[1], &v), CSP_AFTER(CSP_HOUR)), 1);
    CHECK_EQ(v, 5);
    for (int i = 0; i < 3; i++) csp_unref(c[i]);
}

TEST(select, operands_are_evaluated_once_and_in_order_of_all_cases)
{
    int_chan a = csp_make(int, 1), b = csp_make(int, 1);
    int v = 0;
    bool ok = false;
    csp_send(a, 1);
    order_at = 0;
    CHECK_EQ(csp_select(CSP_RECV((in_order(0), csp_recv_end(a)), (in_order(1), &v),
                                 (in_order(2), &ok)),
                        CSP_SEND((in_order(3), (int_chan)NULL), in_order(4)),
                        CSP_SEND((in_order(5), (int_chan)NULL), in_order(6)),
                        CSP_AFTER((in_order(7), CSP_HOUR)), CSP_UNTIL((in_order(8), CSP_FOREVER))),
             0);
    CHECK(order_at == 9 && v == 1 && ok);
    csp_unref(a);
    csp_unref(b);
}

TEST(select, destinations_of_cases_not_taken_are_untouched)
{
    int_chan c[3], done = csp_make(int, 1);
    int v[3];
    bool ok[3];
    for (int i = 0; i < 3; i++) c[i] = csp_make(int, i % 2);
    for (int i = 0; i < 300; i++) {
        memset(v, 0x55, sizeof v);
        memset(ok, 0, sizeof ok);
        csp_go(sends_v, c[i % 3], i); // sometimes before the select, sometimes after
        if (i % 2) csp_yield();
        int n = csp_select(CSP_RECV(c[0], &v[0], &ok[0]), CSP_RECV(c[1], &v[1], &ok[1]),
                           CSP_RECV(c[2], &v[2], &ok[2]));
        CHECK_EQ(n, i % 3);
        for (int k = 0; k < 3; k++) CHECK(ok[k] == (k == n) && v[k] == (k == n ? i : 0x55555555));
    }
    memset(v, 0x55, sizeof v);
    CHECK_EQ(csp_select(CSP_RECV(c[0], &v[0], &ok[0]), CSP_RECV(c[1], &v[1], &ok[1]),
                        CSP_AFTER(1000)),
             2);
    CHECK(v[0] == 0x55555555 && v[1] == 0x55555555);
    for (int i = 0; i < 3; i++) csp_unref(c[i]);
    csp_unref(done);
}

TEST(select, closed_channels_are_ready)
{
    int_chan c = csp_make(int, 1), never = csp_make(int, 0);
    int v = 5;
    bool ok = true;
    csp_send(c, 3);
    csp_close(c);
    CHECK(csp_select(CSP_RECV(never, NULL), CSP_RECV(c, &v, &ok)) == 1 && ok && v == 3);
    CHECK(csp_select(CSP_RECV(never, NULL), CSP_RECV(c, &v, &ok)) == 1 && !ok && v == 0);
    CHECK_PANICS("send on closed channel", csp_select(CSP_RECV(never, NULL), CSP_SEND(c, 1)));
    csp_unref(c);
    csp_unref(never);
}

csp_task(selects_two, int_chan, a, int_chan, b, int_chan, done)
{
    int v = 9, w = 9;
    bool va = true, wb = true;
    int n = csp_select(CSP_RECV(a, &v, &va), CSP_RECV(b, &w, &wb));
    CHECK(n == 0 ? !va && v == 0 && w == 9 && wb : !wb && w == 0 && v == 9 && va);
    csp_send(done, n);
}

TEST(select, a_waiting_select_wakes_up_when_a_channel_is_closed)
{
    int_chan a = csp_make(int, 0), b = csp_make(int, 0), done = csp_make(int, 50);
    int n = 0;
    for (int i = 0; i < 50; i++) {
        void *last = last_receiver(b);
        csp_go(selects_two, a, b, done);
        EVENTUALLY(last_receiver(b) != last);
    }
    csp_close(b);
    for (int i = 0; i < 50; i++) CHECK(csp_recv(done, &n) && n == 1);
    CHECK_EQ(csp_try_send(a, 1), CSP_AGAIN); // no receiver was left behind there
    csp_unref(a);
    csp_unref(b);
    csp_unref(done);
}

TEST(select, a_null_channel_is_never_ready)
{
    int_chan nil = NULL, c = csp_make(int, 1);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(csp_select(CSP_RECV(nil, NULL), CSP_SEND(nil, 1), CSP_DEFAULT), 2);
        CHECK_EQ(csp_select(CSP_RECV(nil, NULL), CSP_SEND(c, i), CSP_SEND(nil, 1)), 1);
        CHECK_EQ(csp_select(CSP_RECV(nil, NULL), CSP_RECV(c, NULL), CSP_SEND(nil, 1)), 1);
    }
    CHECK_EQ(csp_select(CSP_RECV(nil, NULL), CSP_SEND(nil, 1), CSP_AFTER(1000)), 2);
    csp_unref(c);
}

TEST(select, the_earliest_of_several_deadlines_ends_it_and_not_before_its_time)
{
    int_chan c = csp_make(int, 0);
    for (int i = 0; i < 20; i++) {
        int64_t t = csp_now(), ms = CSP_MILLISECOND;
        CHECK_EQ(csp_select(CSP_AFTER(CSP_HOUR), CSP_RECV(c, NULL), CSP_AFTER(ms),
                            CSP_UNTIL(CSP_FOREVER)),
                 2);
        CHECK(csp_now() >= t + ms);
        t = csp_now() + ms;
        CHECK_EQ(csp_select(CSP_UNTIL(t), CSP_UNTIL(t + CSP_HOUR), CSP_SEND(c, 1)), 0);
        CHECK(csp_now() >= t);
    }
    CHECK_EQ(csp_try_recv(c, NULL), CSP_AGAIN);
    CHECK_EQ(csp_select(CSP_RECV(c, NULL), CSP_AFTER(0)), 1);
    CHECK_EQ(csp_select(CSP_RECV(c, NULL), CSP_AFTER(INT64_MIN)), 1);
    CHECK_EQ(csp_select(CSP_RECV(c, NULL), CSP_UNTIL(INT64_MIN)), 1);
    CHECK_EQ(csp_select(CSP_AFTER(INT64_MAX), CSP_AFTER(1000)), 1);
    csp_unref(c);
}

TEST(select, what_is_ready_wins_over_a_deadline_that_has_passed)
{
    int_chan c = csp_make(int, 1);
    for (int i = 0; i < 2000; i++) {
        CHECK_EQ(csp_select(CSP_UNTIL(csp_now() - 1), CSP_SEND(c, i)), 1);
        CHECK_EQ(csp_select(CSP_AFTER(-5), CSP_RECV(c, NULL), CSP_UNTIL(0)), 1);
    }
    csp_unref(c);
}

TEST(select, a_timed_out_select_leaves_nothing_behind)
{
    int_chan a = csp_make(int, 0), b = csp_make(int, 1);
    csp_send(b, 1);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(csp_select(CSP_RECV(a, NULL), CSP_SEND(a, 1), CSP_SEND(b, 2), CSP_AFTER(10)), 3);
        CHECK_EQ(csp_try_send(a, 1), CSP_AGAIN);
        CHECK_EQ(csp_try_recv(a, NULL), CSP_AGAIN);
    }
    CHECK(csp_recv(b, NULL) && csp_len(b) == 0);
    csp_unref(a);
    csp_unref(b);
}

csp_task(sends_one_of, int_chan *, all, int, n, uint64_t, r, int, times)
{
    for (int i = 0; i < times; i++) {
        int k = below(&r, n);
        csp_send(all[k], k);
    }
}

TEST(select, a_thousand_cases_work_like_four)
{
    enum { N = 1000 };
    static int_chan c[N];
    static csp_case cases[N];
    static int v[N];
    int times = rounds(1000), in_array = 0;
    for (int i = 0; i < N; i++) c[i] = csp_make(int, i % 2);
    csp_go(sends_one_of, c, N, stream(0), times);
    for (int i = 0; i < times; i++) {
        for (int k = 0; k < N; k++) {
            v[k] = -1;
            cases[k] = CSP_RECV(c[k], &v[k]);
        }
        int n = csp_select_n(cases, N);
        CHECK(n >= 0 && n < N && v[n] == n);
        for (int k = 0; k < N; k++) in_array += v[k] != -1;
        CHECK_EQ(in_array, i + 1);
    }
    for (int i = 0; i < N; i++) cases[i] = CSP_RECV(c[7], &v[i]); // all the same channel
    csp_go(sends_v, c[7], 55);
    int n = csp_select_n(cases, N);
    CHECK(n >= 0 && n < N && v[n] == 55);
    for (int i = 0; i < N; i++) csp_unref(c[i]);
}

TEST(select, send_and_receive_on_the_same_channel_do_not_meet_in_one_select)
{
    for (int cap = 0; cap <= 1; cap++) {
        int_chan c = csp_make(int, cap);
        int v = 0;
        for (int i = 0; i < 100 && cap == 0; i++) {
            CHECK_EQ(csp_select(CSP_SEND(c, 1), CSP_RECV(c, &v), CSP_DEFAULT), 2);
            CHECK_EQ(csp_select(CSP_RECV(c, &v), CSP_SEND(c, 1), CSP_RECV(c, &v), CSP_AFTER(10)),
                     3);
        }
        for (int i = 0; i < 100 && cap == 1; i++) {
            CHECK_EQ(csp_select(CSP_RECV(c, &v), CSP_SEND(c, i)), 1);
            CHECK(csp_select(CSP_RECV(c, &v), CSP_SEND(c, -1)) == 0 && v == i);
        }
        csp_unref(c);
    }
}

csp_task(sends_or_receives, int_chan, c, int, n, int *, balance, int_chan, done)
{
    int v = 0;
    for (int i = 1; i <= n; i++) {
        if (csp_select(CSP_SEND(c, i), CSP_RECV(c, &v)) == 0)
            ADD(balance, i);
        else
            ADD(balance, -v);
    }
    csp_send(done, 1);
}

csp_task(sends_one_or_two, int_chan, c, int, n, bool, first)
{
    for (int i = 0; i < n; i++)
        if (first)
            CHECK_EQ(csp_select_first(CSP_SEND(c, 1), CSP_SEND(c, 2)), 0);
        else
            csp_select(CSP_SEND(c, 1), CSP_SEND(c, 2));
}

TEST(select, waiting_to_send_either_of_two_values_sends_both_equally_often)
{
    int_chan c = csp_make(int, 0);
    for (int first = 0; first < 2; first++) {
        int counts[2] = {0}, n = rounds(20000), v;
        csp_go(sends_one_or_two, c, n, first != 0);
        for (int i = 0; i < n; i++) {
            EVENTUALLY(last_sender(c) != NULL);
            csp_recv(c, &v);
            counts[v - 1]++;
        }
        if (!first) check_uniform(counts, 2, n);
    }
    csp_unref(c);
}

csp_task(moves_a_token, int_chan, a, int_chan, b, int *, stop)
{
    for (STORE(stop, 0); !LOAD(stop);) {
        csp_try_send(b, 1); // there is one now
        csp_try_recv(a, NULL);
        csp_try_send(a, 1);
        csp_try_recv(b, NULL);
    }
}

csp_task(finds_it_ready, int_chan, c, int_chan, done)
{
    CHECK_EQ(csp_select(CSP_RECV(c, NULL), CSP_DEFAULT), 0);
    csp_send(done, 1);
}

/* In every moment one of two is ready, and there is time to move between the looks at them. */
TEST(select, the_default_and_a_passed_deadline_are_taken_only_when_nothing_is_ready)
{
    int_chan a = csp_make(int, 2), b = csp_make(int, 2), never = csp_make(int, 0);
    csp_case cases[202];
    int stop = 1, n = rounds(20000);
    csp_procs(2);
    csp_send(a, 1);
    csp_go(moves_a_token, a, b, &stop);
    EVENTUALLY(LOAD(&stop) == 0);
    for (int i = 1; i < 200; i++) cases[i] = CSP_RECV(never, NULL);
    cases[0] = CSP_RECV(a, NULL);
    cases[200] = CSP_RECV(b, NULL);
    for (int i = 0; i < n; i++) {
        cases[201] = i % 2 ? CSP_DEFAULT : CSP_UNTIL(0);
        int at = csp_select_n(cases, 202);
        CHECK(at == 0 || at == 200);
        csp_send(at == 0 ? a : b, 1);
    }
    STORE(&stop, 1);
    EVENTUALLY(csp_count() == 1);
    csp_unref(a);
    csp_unref(b);
    csp_unref(never);
    int_chan done = csp_make(int, 0);
    for (int i = 0; i < n; i++) { // full, then full and closed, then empty and closed
        a = csp_make(int, 1);
        csp_send(a, 1);
        csp_go(finds_it_ready, a, done);
        csp_close(a);
        csp_recv(a, NULL);
        csp_recv(done, NULL);
        csp_unref(a);
    }
    csp_unref(done);
}

/* Two threads begin each round together: each changes something and then looks where the other
 * changes something. What the one does depends on `way` and on which of the two it is. It takes a
 * channel whose words lie in two cache lines to see that a store waits long for its line: so there
 * are some, in all positions. */
typedef struct duel {
    int way, n;
    int_chan c[2], chans[8];
    csp_ctx *ctx[2], *ctxs[8];
    int arrived; // atomic: of both, in all rounds
    bool found[2];
    int seconds; // rounds in which neither found anything
    bool over;   // enough rounds, or enough time on a machine that has no two processors for us
    int64_t until;
} duel;

enum { SELECT_RECV, SELECT_SEND, SELECT_CLOSED, SELECT_DONE, LEN, TRY, STATUS, MIXED, DUELS };

static void duel_meet(duel *d, int round)
{
    int n = 0;
    ADD(&d->arrived, 1);
    while (LOAD(&d->arrived) < 2 * round)
        if (++n % 4096 == 0) sched_yield();
}

static void duel_changes(duel *d, int me)
{
    int v;
    switch (d->way) {
    case SELECT_SEND: CHECK(csp_recv(d->c[me], &v)); break;
    case SELECT_CLOSED: csp_close(d->c[me]); break;
    case SELECT_DONE:
    case STATUS: csp_ctx_cancel(d->ctx[me]); break;
    case MIXED:
        if (me == 1) {
            csp_ctx_cancel(d->ctx[1]);
            break;
        } /* fall through */
    default: csp_send(d->c[me], 1);
    }
}

static bool duel_looks(duel *d, int at)
{
    switch (d->way) {
    case SELECT_SEND: return csp_select(CSP_SEND(d->c[at], 1), CSP_DEFAULT) == 0;
    case SELECT_DONE: return csp_select(CSP_DONE(d->ctx[at]), CSP_DEFAULT) == 0;
    case LEN: return csp_len(d->c[at]) != 0;
    case TRY: return csp_try_recv(d->c[at], NULL) == CSP_OK;
    case STATUS: return csp_ctx_status(d->ctx[at]) != CSP_OK;
    case SELECT_CLOSED: return csp_select(CSP_RECV(d->c[at], NULL), CSP_UNTIL(0)) == 0;
    case MIXED:
        if (at == 1) return csp_ctx_status(d->ctx[1]) != CSP_OK; /* fall through */
    default: return csp_select(CSP_RECV(d->c[at], NULL), CSP_DEFAULT) == 0;
    }
}

static void duel_prepare(duel *d, int round)
{
    for (int i = 0; i < 2; i++) {
        int at = 4 * i + round % 4;
        csp_unref(d->chans[at]);
        csp_ctx_unref(d->ctxs[at]);
        d->c[i] = d->chans[at] = csp_make(int, 1);
        d->ctx[i] = d->ctxs[at] = csp_ctx_with_cancel(csp_ctx_background());
        if (d->way == SELECT_SEND) csp_send(d->c[i], 1);
    }
}

static void duel_fight(duel *d, int me)
{
    uint64_t r = stream(me);
    for (int i = 0;; i++) {
        if (me == 0) {
            if (i > 0 && !d->found[0] && !d->found[1]) d->seconds++;
            d->over = i == d->n || clock_now() > d->until;
            duel_prepare(d, i);
        }
        duel_meet(d, 3 * i + 1);
        if (d->over) break;
        CHECK(!duel_looks(d, 1 - me)); // from now on the second look is a quick one
        duel_meet(d, 3 * i + 2);
        for (volatile int wait = below(&r, 5 + i % 5 * 20); wait > 0; wait--) continue;
        duel_changes(d, me);
        d->found[me] = duel_looks(d, 1 - me);
        duel_meet(d, 3 * i + 3);
    }
}

static void *duel_second(void *d)
{
    duel_fight(d, 1);
    return NULL;
}

TEST(select, of_two_that_change_something_and_then_look_at_the_other_one_finds_something)
{
    for (int way = 0; way < DUELS; way++) {
        duel d = {.way = way, .n = rounds(40000), .until = clock_now() + CSP_SECOND};
        pthread_t t = thread_start(duel_second, &d);
        duel_fight(&d, 0);
        pthread_join(t, NULL);
        if (d.seconds != 0) FAIL("way %d: neither found anything in %d rounds", way, d.seconds);
        for (int i = 0; i < 8; i++) csp_unref(d.chans[i]), csp_ctx_unref(d.ctxs[i]);
    }
}

TEST(select, two_selects_that_both_send_and_receive_find_each_other)
{
    for (int procs = 1; procs <= 4; procs++) {
        int_chan c = csp_make(int, 0), done = csp_make(int, 2);
        int balance = 0;
        csp_procs(procs);
        for (int i = 0; i < 2; i++) csp_go(sends_or_receives, c, rounds(10000), &balance, done);
        collect(done, 2);
        CHECK_EQ(balance, 0);
        csp_unref(c);
        csp_unref(done);
    }
}

TEST(select, waiting_twice_on_the_same_channel_takes_one_value)
{
    int_chan c = csp_make(int, 0);
    for (int i = 1; i < rounds(2000); i++) {
        int u = 0, v = 0, w = 0;
        csp_go(sends_v, c, i);
        if (i % 2) csp_yield();
        int n = csp_select(CSP_RECV(c, &u), CSP_RECV(c, &v), CSP_SEND((int_chan)NULL, 1),
                           CSP_RECV(c, &w));
        CHECK(u == (n == 0 ? i : 0) && v == (n == 1 ? i : 0) && w == (n == 3 ? i : 0));
        CHECK_EQ(csp_try_send(c, 1), CSP_AGAIN);
    }
    csp_unref(c);
}

/* ---- hammer: everybody selects on the same channels, and no value is lost or doubled ---- */

typedef struct hammer {
    int_chan c[4]; // capacities 0, 0, 1, 3
    int_chan quit; // closed when all has been sent and the buffers are empty
    csp_chan(int64_t) sent, received;
    int n;
} hammer;

static int64_t hammer_send(hammer *h, uint64_t r)
{
    int64_t sum = 0;
    for (int i = 1; i <= h->n;) {
        int_chan *c = h->c, nil = NULL;
        switch (below(&r, 4)) {
        case 0: // blocks
            csp_select(CSP_SEND(c[0], i), CSP_SEND(c[1], i), CSP_SEND(c[2], i), CSP_SEND(c[3], i));
            break;
        case 1: // in another order, with the same channel twice
            csp_select(CSP_SEND(c[3], i), CSP_SEND(c[0], i), CSP_SEND(nil, i), CSP_SEND(c[3], i));
            break;
        case 2:
            if (csp_select(CSP_SEND(c[1], i), CSP_SEND(c[2], i), CSP_DEFAULT) == 2) {
                csp_yield();
                continue;
            }
            break;
        default:
            if (csp_select_first(CSP_SEND(c[2], i), CSP_SEND(c[1], i),
                                 CSP_AFTER(below(&r, 20) * CSP_MICROSECOND)) == 2)
                continue;
        }
        sum += i++;
    }
    return sum;
}

static int64_t hammer_receive(hammer *h, uint64_t r)
{
    int64_t sum = 0;
    for (;;) {
        int_chan *c = h->c;
        int v[4] = {0}, n;
        switch (below(&r, 3)) {
        case 0:
            n = csp_select(CSP_RECV(c[0], &v[0]), CSP_RECV(c[1], &v[1]), CSP_RECV(c[2], &v[2]),
                           CSP_RECV(c[3], &v[3]), CSP_RECV(h->quit, NULL));
            if (n == 4) return sum;
            break;
        case 1:
            n = csp_select_first(CSP_RECV(c[3], &v[3]), CSP_RECV(h->quit, NULL),
                                 CSP_RECV(c[0], &v[0]), CSP_RECV(c[3], &v[3]),
                                 CSP_RECV(c[2], &v[2]), CSP_RECV(c[1], &v[1]));
            if (n == 1) return sum;
            break;
        default:
            csp_select(CSP_RECV(c[1], &v[1]), CSP_RECV(c[2], &v[2]),
                       CSP_AFTER(below(&r, 20) * CSP_MICROSECOND));
        }
        for (int i = 0; i < 4; i++) sum += v[i];
    }
}

csp_task(hammer_sender, hammer *, h, uint64_t, r)
{
    csp_send(h->sent, hammer_send(h, r));
}
csp_task(hammer_receiver, hammer *, h, uint64_t, r)
{
    csp_send(h->received, hammer_receive(h, r));
}

typedef struct thread_job {
    hammer *h;
    uint64_t r;
} thread_job;

static void *hammer_sending_thread(void *arg)
{
    thread_job *j = arg;
    csp_send(j->h->sent, hammer_send(j->h, j->r));
    return NULL;
}

static void *hammer_receiving_thread(void *arg)
{
    thread_job *j = arg;
    csp_send(j->h->received, hammer_receive(j->h, j->r));
    return NULL;
}

static void run_hammer(int goroutines, int threads, int n)
{
    hammer h = {{csp_make(int, 0), csp_make(int, 0), csp_make(int, 1), csp_make(int, 3)},
                csp_make(int, 0),
                csp_make(int64_t, 0),
                csp_make(int64_t, 0),
                n};
    pthread_t t[16];
    thread_job jobs[16];
    int64_t sent = 0, received = 0, s = 0;
    for (int i = 0; i < goroutines; i++) {
        csp_go(hammer_sender, &h, stream(2 * i));
        csp_go(hammer_receiver, &h, stream(2 * i + 1));
    }
    for (int i = 0; i < 2 * threads; i++) {
        jobs[i] = (thread_job){&h, stream(1000 + i)};
        t[i] = thread_start(i % 2 ? hammer_sending_thread : hammer_receiving_thread, &jobs[i]);
    }
    for (int i = 0; i < goroutines + threads; i++) CHECK(csp_recv(h.sent, &s)), sent += s;
    EVENTUALLY(csp_len(h.c[2]) + csp_len(h.c[3]) == 0);
    csp_close(h.quit);
    for (int i = 0; i < goroutines + threads; i++) CHECK(csp_recv(h.received, &s)), received += s;
    for (int i = 0; i < 2 * threads; i++) pthread_join(t[i], NULL);
    CHECK_EQ(received, sent);
    CHECK_EQ(sent, (int64_t)(goroutines + threads) * n * (n + 1) / 2);
    for (int i = 0; i < 4; i++) csp_unref(h.c[i]);
    csp_unref(h.quit);
    csp_unref(h.sent);
    csp_unref(h.received);
}

TEST(select, goroutines_hammering_on_shared_channels_lose_nothing)
{
    for (int procs = 1; procs <= 8; procs *= 2) {
        csp_procs(procs);
        run_hammer(16, 0, rounds(1000));
    }
}

TEST(select, goroutines_and_threads_hammering_on_shared_channels_lose_nothing)
{
    for (int procs = 1; procs <= 4; procs++) {
        csp_procs(procs);
        run_hammer(4, 2, rounds(1000));
    }
}

TEST_PLAIN(select, threads_alone_hammering_on_shared_channels_lose_nothing)
{
    run_hammer(0, 3, rounds(1000));
}

/* ==========================================================================
 * sync - mutex, rwmutex, cond, once, waitgroup, semaphore
 * ======================================================================== */

static struct {
    csp_mutex mu;
    csp_rwmutex rw;
    csp_cond cond, room;
    csp_once once;
    csp_waitgroup wg;
    csp_sem sem;
    int64_t count, twin, written, twice; // not atomic: what the locks protect
    int inside, taken, got, stop, size, order[100];
} sync_;

static void sync_clear(void)
{
    memset(&sync_, 0, sizeof sync_); // zeroed is ready
}

/* Waits until there is another waiter in the queue, so that a test knows the order; or until one
 * has got what it waited for, or has given up. */
#define QUEUED(queue, ...)                                                                         \
    do {                                                                                           \
        void *before_ = last_in(&(queue));                                                         \
        int got_ = LOAD(&sync_.got);                                                               \
        __VA_ARGS__;                                                                               \
        EVENTUALLY(last_in(&(queue)) != before_ || LOAD(&sync_.got) != got_);                      \
    } while (0)

static int64_t before_long(uint64_t *r)
{
    return csp_now() + below(r, 50) * CSP_MICROSECOND;
}

static void locks_and_counts(int id, uint64_t r)
{
    for (int n = rounds(4000); n > 0; n--) {
        int how = below(&r, 4);
        bool got = how == 0   ? csp_mutex_try_lock(&sync_.mu)
                   : how == 1 ? csp_mutex_lock_until(&sync_.mu, before_long(&r)) == CSP_OK
                              : (csp_mutex_lock(&sync_.mu), true);
        if (!got) continue;
        ADD(&sync_.got, 1);
        sync_.count++;
        if (below(&r, 20) == 0) csp_yield();
        CHECK_EQ(++sync_.twin, sync_.count);
        CHECK(!csp_mutex_try_lock(&sync_.mu));
        if (id % 2) csp_yield();
        csp_mutex_unlock(&sync_.mu);
    }
}

TEST(sync, a_mutex_lets_one_in_at_a_time)
{
    for (int procs = 2; procs <= 8; procs *= 2) {
        sync_clear();
        csp_procs(procs);
        together(locks_and_counts, 6, 2);
        CHECK_EQ(sync_.count, sync_.got);
        CHECK(csp_mutex_try_lock(&sync_.mu)); // no goroutine is left in it
    }
}

static int round_, met;

static void lingers(int n)
{
    for (; n > 0; n--) LOAD(&met);
}

static void meets_once(uint64_t *r)
{
    lingers(below(r, 64));
    csp_mutex_lock(&sync_.mu);
    lingers(below(r, 512)); // as long as the other needs to find that it has to wait
    csp_mutex_unlock(&sync_.mu);
}

static void *meets_each_round(void *arg)
{
    uint64_t r = stream(1);
    for (int i = 1, n = *(int *)arg; i <= n; i++) {
        for (int k = 1; LOAD(&round_) != i; k++)
            if (k % 1000 == 0) sched_yield();
        meets_once(&r);
        STORE(&met, i);
    }
    return NULL;
}

/* Two threads meet once a round. Now and then the first to leave finds the other one about to
 * sleep. No later thread makes up for a wake-up that it forgot. */
TEST(sync, who_unlocks_sees_who_is_about_to_wait)
{
    int n = rounds(10000);
    uint64_t r = stream(0);
    sync_clear();
    csp_procs(1); // no spinning: the goroutine is not alone on it
    pthread_t t = thread_start(meets_each_round, &n);
    for (int i = 1; i <= n; i++) {
        STORE(&round_, i);
        meets_once(&r);
        EVENTUALLY(LOAD(&met) == i);
    }
    pthread_join(t, NULL);
}

static void unlocks(void *mu)
{
    csp_mutex_unlock(mu);
}

/* Two never leave the mutex alone until the others have had it often enough. */
static void is_hot_or_patient(int id, uint64_t r)
{
    (void)r;
    if (id >= 2) {
        for (int i = 0; i < rounds(id == 2 ? 60 : 10); i++) {
            csp_mutex_lock(&sync_.mu);
            csp_mutex_unlock(&sync_.mu);
        }
        ADD(&sync_.stop, 1);
        return;
    }
    while (LOAD(&sync_.stop) < 3) {
        csp_mutex_lock(&sync_.mu);
        for (int i = 0; i < 500; i++) sync_.count += i;
        csp_mutex_unlock(&sync_.mu);
    }
}

TEST(sync, a_hot_locker_starves_nobody)
{
    sync_clear();
    csp_procs(2);
    together(is_hot_or_patient, 4, 1);
    csp_mutex_lock(&sync_.mu);
    csp_spawn(unlocks, &sync_.mu); // any goroutine may unlock
    csp_mutex_lock(&sync_.mu);
}

static void reads_or_writes(int id, uint64_t r)
{
    for (int n = rounds(4000); n > 0; n--) {
        int how = below(&r, 5);
        bool writes = below(&r, 8) == 0, got = true;
        if (how == 0)
            got = writes ? csp_rwmutex_try_lock(&sync_.rw) : csp_rwmutex_try_rlock(&sync_.rw);
        else if (how == 1)
            got = (writes ? csp_rwmutex_lock_until(&sync_.rw, before_long(&r))
                          : csp_rwmutex_rlock_until(&sync_.rw, before_long(&r))) == CSP_OK;
        else if (writes)
            csp_rwmutex_lock(&sync_.rw);
        else
            csp_rwmutex_rlock(&sync_.rw);
        if (!got) continue;
        int now = ADD(&sync_.inside, writes ? 1000 : 1);
        CHECK(writes ? now == 1000 : now < 1000);
        if (writes) sync_.written++;
        if (below(&r, 10) == 0 || id == 0) csp_yield(); // may go on elsewhere
        if (writes) sync_.twice++;
        CHECK_EQ(sync_.written, sync_.twice);
        ADD(&sync_.inside, writes ? -1000 : -1);
        if (writes) ADD(&sync_.got, 1);
        if (writes)
            csp_rwmutex_unlock(&sync_.rw);
        else
            csp_rwmutex_runlock(&sync_.rw);
    }
}

TEST(sync, a_rwmutex_lets_in_readers_together_or_one_writer)
{
    for (int procs = 2; procs <= 8; procs *= 2) {
        sync_clear();
        csp_procs(procs);
        together(reads_or_writes, 6, 2);
        CHECK_EQ(sync_.written, sync_.got);
        CHECK(csp_rwmutex_try_rlock(&sync_.rw) && csp_rwmutex_try_rlock(&sync_.rw));
        CHECK(!csp_rwmutex_try_lock(&sync_.rw));
        csp_rwmutex_runlock(&sync_.rw);
        csp_rwmutex_runlock(&sync_.rw);
        CHECK(csp_rwmutex_try_lock(&sync_.rw) && !csp_rwmutex_try_rlock(&sync_.rw));
    }
}

/* id 0..1 always read, 2..3 always write; each kind goes on until the other has had enough. */
static void is_one_of_many_readers_or_writers(int id, uint64_t r)
{
    int mine = 0;
    (void)r;
    while (LOAD(&sync_.stop) < 4) {
        if (id < 2)
            csp_rwmutex_rlock(&sync_.rw);
        else
            csp_rwmutex_lock(&sync_.rw);
        csp_yield();
        if (id < 2)
            csp_rwmutex_runlock(&sync_.rw);
        else
            csp_rwmutex_unlock(&sync_.rw);
        if (++mine == rounds(100)) ADD(&sync_.stop, 1);
    }
}

csp_task(reads_once, int_chan, done)
{
    csp_rwmutex_rlock(&sync_.rw);
    csp_rwmutex_runlock(&sync_.rw);
    csp_send(done, 1);
}

CSP__FN CSP__NOINLINE bool reads_in_its_lane(int *beyond)
{
    csp__m *m = csp__enter();
    bool good =
        m->p == NULL || csp__rw_lane() == (uint32_t)m->p->id % CSP_X_RW_SLOTS * CSP__RW_STEP;
    if (m->p != NULL && m->p->id > 0) csp__set(beyond, 1);
    csp__leave(m);
    return good;
}

csp_task(reads_on_several, int *, beyond)
{
    while (LOAD(beyond) == 0) {
        CHECK(reads_in_its_lane(beyond));
        csp_yield();
    }
}

TEST(sync, readers_of_each_processor_have_a_line_of_their_own)
{
    int beyond = 0;
    csp_procs(2);
    for (int i = 0; i < 4; i++) csp_go(reads_on_several, &beyond);
    EVENTUALLY(LOAD(&beyond) == 1 && csp_count() == 1);
}

TEST(sync, neither_readers_nor_writers_starve)
{
    int_chan done = csp_make(int, 0);
    sync_clear();
    csp_procs(2);
    together(is_one_of_many_readers_or_writers, 4, 0);
    csp_rwmutex_rlock(&sync_.rw); // a writer that gives up lets in those behind it
    csp_rwmutex_rlock(&sync_.rw);
    csp_rwmutex_runlock(&sync_.rw);
    CHECK_EQ(csp_rwmutex_lock_until(&sync_.rw, csp_now() + CSP_MILLISECOND), CSP_TIMEOUT);
    csp_go(reads_once, done);
    collect(done, 1);
    csp_rwmutex_runlock(&sync_.rw);
    CHECK(csp_rwmutex_try_lock(&sync_.rw));
    csp_unref(done);
}

csp_task(waits_for_its_turn, int, id)
{
    csp_mutex_lock(&sync_.mu);
    csp_cond_wait(&sync_.cond, &sync_.mu);
    sync_.order[sync_.size] = id;
    ADD(&sync_.size, 1);
    csp_mutex_unlock(&sync_.mu);
}

TEST(sync, signals_wake_in_the_order_of_waiting)
{
    sync_clear();
    csp_procs(3);
    csp_cond_signal(&sync_.cond); // without a waiter
    for (int i = 0; i < 30; i++) QUEUED(sync_.cond.csp_x_waiters, csp_go(waits_for_its_turn, i));
    CHECK_EQ(sync_.size, 0);
    for (int i = 0; i < 20; i++) {
        csp_cond_signal(&sync_.cond);
        EVENTUALLY(LOAD(&sync_.size) == i + 1);
    }
    csp_cond_broadcast(&sync_.cond);
    EVENTUALLY(LOAD(&sync_.size) == 30);
    for (int i = 0; i < 20; i++) CHECK_EQ(sync_.order[i], i);
    csp_mutex_lock(&sync_.mu);
    CHECK_EQ(csp_cond_wait_until(&sync_.cond, &sync_.mu, csp_now() + 1000), CSP_TIMEOUT);
    CHECK_EQ(csp_cond_wait_until(&sync_.cond, &sync_.mu, 0), CSP_TIMEOUT);
    CHECK(!csp_mutex_try_lock(&sync_.mu)); // it is locked again
}

/* A bounded buffer: even ones put, odd ones take, and some look at the clock meanwhile. */
static void puts_or_takes(int id, uint64_t r)
{
    for (int n = rounds(3000); n > 0;) {
        csp_cond *mine = id % 2 ? &sync_.cond : &sync_.room;
        csp_mutex_lock(&sync_.mu);
        while (sync_.size == (id % 2 ? 0 : 3))
            if (below(&r, 2))
                csp_cond_wait(mine, &sync_.mu);
            else if (csp_cond_wait_until(mine, &sync_.mu, before_long(&r)) == CSP_TIMEOUT)
                csp_cond_signal(mine); // had it come just then
        CHECK(sync_.size >= 0 && sync_.size <= 3);
        sync_.size += id % 2 ? -1 : 1;
        csp_mutex_unlock(&sync_.mu);
        csp_cond_signal(id % 2 ? &sync_.room : &sync_.cond);
        n--;
    }
}

TEST(sync, conditions_carry_a_bounded_buffer)
{
    for (int procs = 2; procs <= 8; procs *= 2) {
        sync_clear();
        csp_procs(procs);
        together(puts_or_takes, 6, 2);
        CHECK_EQ(sync_.size, 0);
    }
}

/* The next goroutine that locks finds the waiter in the queue: the waiter gets there before the
 * mutex is unlocked. */
csp_task(takes_each, int *, job, int, n, int_chan, done)
{
    for (int i = 0; i < n; i++) {
        csp_mutex_lock(&sync_.mu);
        while (*job == 0) csp_cond_wait(&sync_.cond, &sync_.mu);
        STORE(job, 0);
        csp_mutex_unlock(&sync_.mu);
    }
    csp_send(done, 1);
}

TEST(sync, a_signal_that_comes_while_a_goroutine_goes_to_sleep_is_not_lost)
{
    int_chan done = csp_make(int, 0);
    int job = 0, n = rounds(20000);
    uint64_t r = stream(0);
    sync_clear();
    csp_procs(2);
    csp_go(takes_each, &job, n, done);
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < 1000 && LOAD(&job) != 0; k++) continue;
        EVENTUALLY(LOAD(&job) == 0);
        for (int k = below(&r, 1000); k > 0; k--) LOAD(&job); // it is about to
        csp_mutex_lock(&sync_.mu);
        STORE(&job, 1);
        csp_mutex_unlock(&sync_.mu);
        csp_cond_signal(&sync_.cond);
    }
    collect(done, 1);
    csp_unref(done);
}

static void counts_slowly(void *how)
{
    for (int i = 0; i < 5; i++) csp_yield();
    sync_.count++;
    if (*(char *)how == 'p') csp_panic("in once");
    if (*(char *)how == 'x') csp_exit();
}

static char how_once;
csp_task(leaves_once)
{
    csp_once_do(&sync_.once, counts_slowly, &how_once);
}

static void calls_once(int id, uint64_t r)
{
    volatile bool caught = false;
    (void)r;
    if (how_once == 'x' && id == 0) csp_go(leaves_once);
    while (how_once == 'x' && LOAD(&sync_.once.csp_x_state) == 0) csp_yield();
    csp_try
    {
        csp_once_do(&sync_.once, counts_slowly, &how_once);
    }
    csp_catch(p)
    {
        caught = true;
        CHECK_HAS(p->message, "in once");
    }
    CHECK_EQ(sync_.count, 1);
    if (caught) ADD(&sync_.got, 1);
}

TEST(sync, once_is_once_also_when_it_panics_or_exits)
{
    csp_procs(4);
    for (int i = 0; i < rounds(300); i++) {
        sync_clear();
        how_once = "npx"[i % 3]; // returns, panics, exits
        together(calls_once, 5, i % 10 == 0);
        CHECK_EQ(sync_.got, how_once == 'p'); // it reached one caller
        EVENTUALLY(csp_count() == 1);
    }
}

csp_task(adds_and_is_done, csp_waitgroup *, wg, int64_t *, sum)
{
    if (csp_id() % 2) csp_yield();
    ADD(sum, 1);
    csp_waitgroup_done(wg);
}

static void exits_at_once(void *sum)
{
    ADD((int64_t *)sum, 1);
    csp_exit();
}

csp_task(waits_for_group, csp_waitgroup *, wg, int64_t *, sum, int64_t, least, int_chan, done)
{
    csp_waitgroup_wait(wg);
    CHECK(LOAD(sum) >= least);
    csp_send(done, 1);
}

/* A waitgroup is used again and again, and freed by a goroutine that has waited. */
static void uses_waitgroups(int id, uint64_t r)
{
    csp_waitgroup *wg = calloc(1, sizeof *wg);
    int_chan done = csp_make(int, 3);
    int64_t sum = 0, all = 0;
    (void)id;
    for (int i = 0; i < rounds(300); i++) {
        int n = 1 + below(&r, 5), waiters = below(&r, 3);
        all += n + 1;
        csp_waitgroup_add(wg, n);
        csp_waitgroup_spawn(wg, exits_at_once, &sum);
        for (int k = 0; k < waiters; k++) csp_go(waits_for_group, wg, &sum, all, done);
        for (int k = 0; k < n; k++) csp_go(adds_and_is_done, wg, &sum);
        while (below(&r, 3) == 0 && csp_waitgroup_wait_until(wg, before_long(&r)) != CSP_OK)
            continue;
        csp_waitgroup_wait(wg);
        CHECK_EQ(LOAD(&sum), all);
        collect(done, waiters);
        if (below(&r, 3) == 0) {
            free(wg);
            wg = calloc(1, sizeof *wg);
        }
    }
    CHECK_EQ(csp_waitgroup_wait_until(wg, 0), CSP_OK);
    csp_waitgroup_add(wg, 1);
    CHECK_EQ(csp_waitgroup_wait_until(wg, csp_now() + 1000), CSP_TIMEOUT);
    free(wg);
    csp_unref(done);
}

TEST(sync, a_waitgroup_can_be_used_again_and_freed_after_the_wait)
{
    for (int procs = 2; procs <= 8; procs *= 2) {
        csp_procs(procs);
        together(uses_waitgroups, 4, 1);
    }
}

typedef struct wide {
    _Alignas(max_align_t) char bytes[300];
} wide;

csp_task(adds_of_wide, int *, sum, long double, x, wide, w, int, how)
{
    CHECK_EQ((uintptr_t)&w % _Alignof(wide), 0);
    CHECK(x > 2.2L && x < 2.3L && w.bytes[0] == 1 && w.bytes[299] == 2);
    ADD(sum, how);
    if (how == 2) csp_exit();
    csp_yield();
    ADD(sum, 10);
}

csp_task(adds_one_more, int *, sum)
{
    ADD(sum, 1);
}

static int counted_by_task;
csp_task(counts_without_arguments)
{
    ADD(&counted_by_task, 1);
}

TEST(sync, a_waitgroup_starts_tasks_with_their_arguments_and_they_are_done_however_they_end)
{
    csp_waitgroup wg = {0};
    wide w = {{0}};
    int sum = 0;
    w.bytes[0] = 1, w.bytes[299] = 2;
    counted_by_task = 0;
    for (int i = 0; i < 100; i++) {
        CHECK(csp_waitgroup_go(&wg, adds_of_wide, &sum, 2.25L, w, 1) != 0);
        csp_waitgroup_go(&wg, adds_of_wide, &sum, 2.25L, w, 2);
        csp_waitgroup_go(&wg, adds_one_more, &sum);
        csp_waitgroup_go(&wg, counts_without_arguments);
        if (i % 10 == 0) csp_waitgroup_wait(&wg);
    }
    csp_waitgroup_wait(&wg);
    CHECK_EQ(sum, 100 * (11 + 2 + 1));
    CHECK_EQ(counted_by_task, 100);
}

enum { TOKENS = 10 };
static void takes_tokens(int id, uint64_t r)
{
    (void)id;
    for (int i = rounds(4000); i > 0; i--) {
        int n = below(&r, 4) ? below(&r, 3) : 1 + below(&r, TOKENS), how = below(&r, 4);
        if (how == 0 && !csp_sem_try_acquire(&sync_.sem, n)) continue;
        if (how == 1 && csp_sem_acquire_until(&sync_.sem, n, before_long(&r)) != CSP_OK) continue;
        if (how > 1) csp_sem_acquire(&sync_.sem, n);
        CHECK(ADD(&sync_.taken, n) <= TOKENS);
        if (below(&r, 10) == 0) csp_yield();
        ADD(&sync_.taken, -n);
        csp_sem_release(&sync_.sem, n);
    }
}

TEST(sync, a_semaphore_loses_and_leaks_no_token)
{
    for (int procs = 2; procs <= 8; procs *= 2) {
        sync_clear();
        csp_sem_init(&sync_.sem, TOKENS);
        csp_procs(procs);
        together(takes_tokens, 6, 2);
        CHECK(csp_sem_try_acquire(&sync_.sem, TOKENS));
        CHECK(!csp_sem_try_acquire(&sync_.sem, 1));
    }
}

csp_task(wants_tokens, int, n, int64_t, ns)
{
    csp_status s = csp_sem_acquire_until(&sync_.sem, n, ns < 0 ? CSP_FOREVER : csp_now() + ns);
    if (s == CSP_OK) sync_.order[ADD(&sync_.size, 1) - 1] = n;
    ADD(&sync_.got, 1);
}

TEST(sync, a_semaphore_serves_in_order_and_passes_over_who_gave_up)
{
    csp_x_queue *q = &sync_.sem.csp_x_waiters;
    sync_clear(); // no token
    csp_sem_release(&sync_.sem, 1);
    QUEUED(*q, csp_go(wants_tokens, 5, -1));
    QUEUED(*q, csp_go(wants_tokens, 1, -1));
    CHECK(!csp_sem_try_acquire(&sync_.sem, 1)); // 5 is first
    CHECK(csp_sem_try_acquire(&sync_.sem, 0) == false);
    csp_sem_release(&sync_.sem, 3);
    for (int i = 0; i < 20; i++) csp_yield();
    CHECK_EQ(LOAD(&sync_.size), 0);
    csp_sem_release(&sync_.sem, 2);
    EVENTUALLY(LOAD(&sync_.got) == 2);
    CHECK(sync_.size == 2 && sync_.order[0] + sync_.order[1] == 6);
    csp_sem_release(&sync_.sem, 3);
    QUEUED(*q, csp_go(wants_tokens, 4, 20 * CSP_MILLISECOND));
    QUEUED(*q, csp_go(wants_tokens, 2, -1));
    QUEUED(*q, csp_go(wants_tokens, 1, -1));
    EVENTUALLY(LOAD(&sync_.got) == 5); // 4 gives up, and lets through those behind
    CHECK_EQ(sync_.size, 4);
    CHECK(!csp_sem_try_acquire(&sync_.sem, 1));
}

TEST(sync, who_wants_more_tokens_than_there_are_holds_nobody_up)
{
    sync_clear();
    csp_sem_init(&sync_.sem, 2);
    csp_go(wants_tokens, 3, -1);
    csp_go(wants_tokens, 3, 20 * CSP_MILLISECOND);
    EVENTUALLY(dump_has("semaphore"));
    for (int i = 0; i < 10; i++) {
        csp_sem_acquire(&sync_.sem, 1 + i % 2);
        csp_sem_release(&sync_.sem, 1 + i % 2);
    }
    EVENTUALLY(LOAD(&sync_.got) == 1);
    CHECK_EQ(sync_.size, 0);
    CHECK(!csp_sem_try_acquire(&sync_.sem, 3));
    CHECK(csp_sem_try_acquire(&sync_.sem, 2));
}

static void uses_everything(int id, uint64_t r)
{
    locks_and_counts(id, r);
    reads_or_writes(id, r);
    takes_tokens(id, r);
}

static void *thread_uses_everything(void *id)
{
    uses_everything(*(int *)id, stream(*(int *)id));
    return NULL;
}

TEST_PLAIN(sync, threads_alone_can_use_them)
{
    int who[] = {0, 1, 2};
    pthread_t t[3];
    sync_clear();
    csp_sem_init(&sync_.sem, TOKENS);
    for (int i = 0; i < 3; i++) t[i] = thread_start(thread_uses_everything, &who[i]);
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
}

static void sync_count_two(void *numbers)
{
    int *n = (int *)numbers;
    sync_.count += n[0] + n[1];
}

/* What is done in place is the same as what is called: the pieces may be mixed. */
TEST(sync, operations_in_place_are_functions_too)
{
    sync_clear();
    void (*lock)(csp_mutex *) = csp_mutex_lock, (*unlock)(csp_mutex *) = csp_mutex_unlock;
    lock(&sync_.mu);
    CHECK(!csp_mutex_try_lock(&sync_.mu));
    csp_mutex_unlock(&sync_.mu);
    csp_mutex_lock(&sync_.mu);
    CHECK(!csp_mutex_try_lock(&sync_.mu));
    unlock(&sync_.mu);
    CHECK(csp_mutex_try_lock(&sync_.mu));
    csp_mutex_unlock(&sync_.mu);
    for (int i = 0; i < 3; i++) csp_once_do(&sync_.once, sync_count_two, ((int[]){i + 1, 1}));
    csp_once_do(&sync_.once, sync_count_two, (int[]){5, 6});
    CHECK(sync_.count == 2);
}

TEST(sync, misuse_panics)
{
    sync_clear();
    CHECK_PANICS("sync: unlock of unlocked mutex", csp_mutex_unlock(&sync_.mu));
    CHECK_PANICS("sync: unlock of unlocked mutex", csp_cond_wait(&sync_.cond, &sync_.mu));
    CHECK_PANICS("sync: Unlock of unlocked RWMutex", csp_rwmutex_unlock(&sync_.rw));
    CHECK_PANICS("sync: RUnlock of unlocked RWMutex", csp_rwmutex_runlock(&sync_.rw));
    csp_rwmutex_rlock(&sync_.rw);
    CHECK_PANICS("sync: Unlock of unlocked RWMutex", csp_rwmutex_unlock(&sync_.rw));
    csp_rwmutex_runlock(&sync_.rw);
    csp_rwmutex_lock(&sync_.rw);
    CHECK_PANICS("sync: RUnlock of unlocked RWMutex", csp_rwmutex_runlock(&sync_.rw));
    csp_rwmutex_unlock(&sync_.rw);
    CHECK_PANICS("sync: negative WaitGroup counter", csp_waitgroup_done(&sync_.wg));
    CHECK_PANICS("sync: WaitGroup counter overflow", csp_waitgroup_add(&sync_.wg, INT32_MAX));
    csp_sem_init(&sync_.sem, 2);
    CHECK_PANICS("semaphore: negative count", csp_sem_acquire(&sync_.sem, -1));
    CHECK_PANICS("semaphore: negative count", csp_sem_release(&sync_.sem, -1));
    CHECK_PANICS("semaphore: released more than held", csp_sem_release(&sync_.sem, 1));
    csp_sem_acquire(&sync_.sem, 2); // they are as they were
    csp_sem_release(&sync_.sem, 2);
    csp_mutex_lock(&sync_.mu);
    csp_waitgroup_add(&sync_.wg, 1);
    csp_waitgroup_done(&sync_.wg);
    csp_waitgroup_wait(&sync_.wg);
}

static void locks_twice(void *arg)
{
    (void)arg;
    csp_mutex_lock(&sync_.mu);
    csp_mutex_lock(&sync_.mu);
}

static void waits_for_nobody(void *arg)
{
    (void)arg;
    csp_waitgroup_add(&sync_.wg, 1);
    csp_waitgroup_wait(&sync_.wg);
}

CHILD(mutex_locked_twice)
{
    csp_run(locks_twice, NULL);
}
CHILD(waitgroup_never_done)
{
    csp_run(waits_for_nobody, NULL);
}

TEST_PLAIN(sync, waiting_in_vain_is_reported_as_a_deadlock)
{
    if (TSAN || emulated()) SKIP("others might still wake a goroutine");
    outcome *o = run_child("waitgroup_never_done", NULL);
    CHECK_CHILD(o, 2);
    CHECK_HAS(o->text, "all goroutines are asleep");
    CHECK_HAS(o->text, "waitgroup");
    o = run_child("mutex_locked_twice", NULL);
    CHECK_CHILD(o, 2);
    CHECK_HAS(o->text, "mutex");
    if (CSP_HOLDERS) CHECK_HAS(o->text, "held by");
}

/* ==========================================================================
 * time - sleep, timers, tickers
 * ======================================================================== */

TEST(time, now_never_goes_back)
{
    int64_t last = csp_now();
    csp_procs(4);
    for (int i = 0; i < 10000; i++) {
        int64_t t = csp_now();
        CHECK(t >= last);
        last = t;
        if (i % 100 == 0) csp_yield();
    }
    CHECK(CSP_SECOND == 1000 * CSP_MILLISECOND && CSP_HOUR == 60 * CSP_MINUTE);
}

csp_task(sleeps, uint64_t, r, int, times, int, most_us, int_chan, done)
{
    for (int i = 0; i < times; i++) {
        int64_t ns = below(&r, most_us) * CSP_MICROSECOND, t = csp_now();
        if (i % 2)
            csp_sleep(ns);
        else
            csp_sleep_until(t + ns);
        CHECK(csp_now() >= t + ns);
    }
    csp_send(done, 1);
}

TEST(time, nobody_wakes_up_early)
{
    int_chan done = csp_make(int, 0);
    csp_procs(3);
    for (int i = 0; i < 200; i++) csp_go(sleeps, stream(i), 20, 5000, done);
    collect(done, 200);
    csp_unref(done);
}

/* Whatever width the libc's time_t has. A time that the system reads in another way has passed at
 * once, and is slept again and again, or it never does. */
TEST_PLAIN(time, the_system_is_given_times_as_it_wants_them)
{
    static const int64_t times[] = {200 * CSP_MILLISECOND, CSP_SECOND + 50 * CSP_MILLISECOND};
    CHECK_EQ(csp__poll_begin(), 0);
    for (int i = 0; i < 2; i++) {
        uint32_t word = 0;
        int64_t end = csp_now() + times[i], left;
        int calls = 0;
        for (; (left = end - csp_now()) > 0; calls++) csp__os_wait(&word, 0, left);
        CHECK(calls < (TSAN ? 60 : 5)); // it may return early
        end = csp_now() + times[i];
        for (calls = 0; (left = end - csp_now()) > 0; calls++) {
            csp__evq_event events[CSP__EVQ_LOT];
            csp__evq_wait(events, left);
        }
        CHECK(calls < 5);
    }
}

TEST(time, ten_thousand_sleepers_all_wake_up)
{
    int_chan done = csp_make(int, 0);
    int all = crowd(rounds(10000));
    int64_t t = csp_now();
    for (int i = 0; i < all; i++) csp_go(sleeps, stream(i), 3, 50000, done);
    collect(done, all);
    CHECK(csp_now() - t < 20 * CSP_SECOND);
    csp_unref(done);
}

/* Its arguments lie where another goroutine, which was switched away from, has its stack pointer.
 * Their values are no goroutine's address. */
csp_task(sleeps_at_once, uintptr_t, nowhere, uintptr_t, nothing, int *, left)
{
    CHECK(nowhere != nothing);
    csp_sleep(100 + (int64_t)(nowhere % 1000)); // long enough to sleep, over before it does
    ADD(left, -1);
}

/* Two kinds of goroutines: those started, without a switch, on the stack of a goroutine that had
 * ended; and those that their timer finds still on their way to park. Only a plain build has
 * either. */
/* As if so many timers had fired since the last measurement, 1 ms ago: how long after the first
 * timer the thread wakes. */
static int64_t crowd_late(uint64_t fired, int64_t from_now)
{
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__sched.crowd_at = csp__clock() - CSP_MILLISECOND;
    csp__sched.crowd_fired = 0;
    for (int i = 0; i < csp__nmade(); i++)
        csp__sched.crowd_fired += csp__relaxed(&csp__sched.procs[i]->timers);
    csp__sched.crowd_fired -= fired;
    int64_t first = csp__clock() + from_now, until = csp__crowd_locked(first);
    csp__unlock(&csp__sched.lock);
    CHECK(until == first || until <= csp__clock() + CSP__CROWD_LATE);
    return until - first;
}

TEST(time, a_thread_sleeps_for_a_while_where_timers_come_in_crowds)
{
    int64_t soon = 10 * CSP_MICROSECOND;
    csp_sleep(CSP_MILLISECOND); // no other timer fires beside the following
    CHECK_EQ(crowd_late(20, soon), 0);
    CHECK(crowd_late(1000000, soon) > 0);
    CHECK_EQ(crowd_late(1000000, CSP_HOUR), 0);
    CHECK_EQ(crowd_late(20, soon), 0);
}

TEST(time, a_goroutine_that_was_never_switched_away_from_may_sleep)
{
    int left = 0, all = rounds(CSP_TORTURE ? 400000 : 4000000);
    csp_procs(8);
    for (int i = 0; i < all; i++) {
        ADD(&left, 1);
        csp_go(sleeps_at_once, UINTPTR_MAX / 2 + (uintptr_t)i, 4095, &left);
        if (i % 64 == 63) EVENTUALLY(LOAD(&left) == 0);
    }
    EVENTUALLY(LOAD(&left) == 0);
}

TEST(time, sleeping_for_no_time_or_less_returns_at_once)
{
    int64_t t = csp_now();
    csp_sleep(0);
    csp_sleep(-1);
    csp_sleep(INT64_MIN);
    csp_sleep_until(0);
    csp_sleep_until(INT64_MIN);
    csp_sleep_until(csp_now());
    CHECK(csp_now() - t < CSP_SECOND);
}

TEST(time, a_sleeper_wakes_up_while_others_compute)
{
    int stop = 0;
    int_chan done = csp_make(int, 0);
    csp_procs(2);
    for (int i = 0; i < 4; i++) csp_go(turns, &stop, done);
    for (int i = 0; i < 20; i++) {
        int64_t t = csp_now();
        csp_sleep(CSP_MILLISECOND);
        CHECK(csp_now() - t < 2 * CSP_SECOND);
    }
    STORE(&stop, 1);
    collect(done, 4);
    csp_unref(done);
}

static void sleeps_forever(void *ns)
{
    csp_sleep(*(int64_t *)ns);
    FAIL("woke up");
}

TEST(time, huge_durations_do_not_overflow)
{
    static int64_t ns[] = {INT64_MAX, INT64_MAX - 1, INT64_MAX / 2 + 5};
    int64_t v = 0;
    for (int i = 0; i < 3; i++) {
        csp_spawn(sleeps_forever, &ns[i]);
        csp_timer *t = csp_timer_new(ns[i]);
        csp_timer *f = csp_after_func(ns[i], sleeps_forever, &ns[i]);
        csp_ticker *k = csp_ticker_new(ns[i]);
        CHECK_EQ(csp_select(CSP_RECV(csp_timer_chan(t), &v), CSP_RECV(csp_ticker_chan(k), &v),
                            CSP_AFTER(ns[i]), CSP_AFTER(CSP_MILLISECOND)),
                 3);
        CHECK(csp_timer_reset(t, ns[i]));
        CHECK_EQ(csp_recv_until(csp_timer_chan(t), &v, csp_now() + 1000), CSP_TIMEOUT);
        CHECK(csp_timer_stop(t) && csp_timer_stop(f));
        CHECK(!csp_timer_reset(t, 1000));
        CHECK(csp_recv(csp_timer_chan(t), &v));
        csp_timer_free(t);
        csp_timer_free(f);
        csp_ticker_free(k);
    }
}

/* ---- timers ---- */

TEST(time, a_timer_fires_once_and_sends_the_time)
{
    int64_t t0 = csp_now(), v = 0;
    csp_timer *t = csp_timer_new(2 * CSP_MILLISECOND);
    CHECK(csp_recv(csp_timer_chan(t), &v));
    CHECK(v >= t0 + 2 * CSP_MILLISECOND && v <= csp_now());
    CHECK_EQ(csp_recv_until(csp_timer_chan(t), &v, csp_now() + 5 * CSP_MILLISECOND), CSP_TIMEOUT);
    csp_timer_free(t);
    csp_timer_free(NULL);
    t = csp_timer_new(-5); // at once
    CHECK(csp_recv(csp_timer_chan(t), &v));
    csp_timer_free(t);
}

/* Waits until a timer of that duration has certainly fired: another, set later, has. */
static void wait_past(int64_t ns)
{
    csp_sleep(ns + CSP_MILLISECOND);
}

TEST(time, stop_says_whether_it_prevented_something_and_leaves_no_stale_value)
{
    int64_t v = 0;
    csp_timer *t = csp_timer_new(CSP_HOUR);
    CHECK(csp_timer_stop(t));
    CHECK(!csp_timer_stop(t));
    CHECK(!csp_timer_reset(t, 1000));
    CHECK(csp_recv(csp_timer_chan(t), &v));
    CHECK(!csp_timer_stop(t)); // it was received
    CHECK(!csp_timer_reset(t, 1000));
    wait_past(1000);
    CHECK(csp_timer_stop(t)); // it has fired, but no receiver will see that
    CHECK_EQ(csp_try_recv(csp_timer_chan(t), &v), CSP_AGAIN);
    CHECK(!csp_timer_stop(t));
    csp_timer_free(t);
}

TEST(time, reset_says_the_same_and_the_old_time_is_forgotten)
{
    int64_t v = 0, t0;
    csp_timer *t = csp_timer_new(CSP_MILLISECOND);
    t0 = csp_now();
    CHECK(csp_timer_reset(t, 4 * CSP_MILLISECOND)); // true also when it has fired meanwhile
    CHECK(csp_recv(csp_timer_chan(t), &v) && v >= t0 + 4 * CSP_MILLISECOND);
    CHECK(!csp_timer_reset(t, 1000));
    wait_past(1000);
    t0 = csp_now();
    CHECK(csp_timer_reset(t, 3 * CSP_MILLISECOND));
    CHECK(csp_recv(csp_timer_chan(t), &v) && v >= t0 + 3 * CSP_MILLISECOND);
    CHECK(!csp_timer_reset(t, CSP_HOUR));
    CHECK(csp_timer_reset(t, 1000)); // sooner
    CHECK(csp_recv(csp_timer_chan(t), &v));
    csp_timer_free(t);
    t = csp_timer_new(1000);
    wait_past(1000);
    csp_timer_free(t); // with a value that was not received
}

TEST(time, no_value_of_an_earlier_setting_is_ever_received)
{
    uint64_t r = stream(0);
    csp_timer *t = csp_timer_new(0);
    csp_procs(3);
    for (int i = 0; i < rounds(10000); i++) {
        int64_t v = 0, ns = below(&r, 30) * CSP_MICROSECOND;
        switch (below(&r, 3)) {
        case 0: csp_timer_stop(t); break;
        case 1: csp_yield(); break;
        default: break;
        }
        int64_t t0 = csp_now();
        csp_timer_reset(t, ns);
        if (below(&r, 2)) {
            CHECK(csp_recv(csp_timer_chan(t), &v));
            CHECK(v >= t0 + ns);
        } else if (below(&r, 2)) {
            csp_timer_stop(t);
            CHECK_EQ(csp_try_recv(csp_timer_chan(t), &v), CSP_AGAIN);
        }
    }
    csp_timer_free(t);
}

/* The other processor fires it, at about the time when it is stopped. */
TEST(time, a_timer_that_is_stopped_while_it_fires_leaves_no_value)
{
    uint64_t r = stream(0);
    csp_timer *t = csp_timer_new(CSP_HOUR);
    csp_procs(2);
    for (int i = 0; i < rounds(5000); i++) {
        csp_timer_reset(t, 10 * CSP_MICROSECOND);
        int64_t end = clock_now() + 8 * CSP_MICROSECOND + below(&r, 30000);
        while (clock_now() < end) continue;
        CHECK(csp_timer_stop(t)); // its value was not received
        CHECK_EQ(csp_len(csp_timer_chan(t)), 0);
        CHECK_EQ(csp_try_recv(csp_timer_chan(t), NULL), CSP_AGAIN);
    }
    csp_timer_free(t);
}

csp_task(stops_or_receives, uint64_t, r, int *, stopped, int *, fired, int_chan, done)
{
    int64_t ns = below(&r, 2000) * CSP_MICROSECOND;
    csp_timer *t = csp_timer_new(ns);
    if (below(&r, 2)) {
        csp_sleep(below(&r, 2000) * CSP_MICROSECOND);
        bool prevented = csp_timer_stop(t);
        if (prevented)
            ADD(stopped, 1);
        else
            FAIL("stop says that a goroutine received the value");
        CHECK_EQ(csp_try_recv(csp_timer_chan(t), NULL), CSP_AGAIN);
    } else {
        CHECK(csp_recv(csp_timer_chan(t), NULL));
        ADD(fired, 1);
    }
    csp_timer_free(t);
    csp_send(done, 1);
}

TEST(time, ten_thousand_timers_fire_or_are_stopped)
{
    int_chan done = csp_make(int, 0);
    int stopped = 0, fired = 0, all = crowd(rounds(10000));
    csp_procs(4);
    for (int i = 0; i < all; i++) csp_go(stops_or_receives, stream(i), &stopped, &fired, done);
    collect(done, all);
    CHECK_EQ(stopped + fired, all);
    csp_unref(done);
}

csp_task(resets_shared, csp_timer *, t, uint64_t, r, int, times, int_chan, done)
{
    for (int i = 0; i < times; i++) {
        switch (below(&r, 4)) {
        case 0: csp_timer_stop(t); break;
        case 1: csp_try_recv(csp_timer_chan(t), NULL); break;
        default: csp_timer_reset(t, below(&r, 20) * CSP_MICROSECOND);
        }
        if (i % 8 == 0) csp_sleep(below(&r, 20) * CSP_MICROSECOND);
    }
    csp_send(done, 1);
}

TEST(time, a_timer_may_be_used_by_many_goroutines)
{
    int_chan done = csp_make(int, 0);
    csp_timer *t = csp_timer_new(1000);
    csp_procs(4);
    for (int i = 0; i < 8; i++) csp_go(resets_shared, t, stream(i), rounds(2000), done);
    collect(done, 8);
    csp_timer_reset(t, 1000);
    CHECK(csp_recv(csp_timer_chan(t), NULL));
    csp_timer_free(t);
    csp_unref(done);
}

TEST(time, timers_of_processors_that_are_taken_away_fire_too)
{
    int_chan done = csp_make(int, 0);
    for (int i = 0; i < 10; i++) {
        csp_procs(8);
        for (int k = 0; k < 100; k++) csp_go(sleeps, stream(k), 2, 10000, done);
        csp_yield();
        csp_procs(1 + i % 2);
        collect(done, 100);
    }
    csp_unref(done);
}

/* Goroutines started so far: read without the calls that would make room for more. */
static uint64_t spawned_so_far(void)
{
    uint64_t n = LOAD(&csp__sched.spawned_foreign);
    for (int i = 0; i < LOAD(&csp__sched.nmade); i++) n += LOAD(&csp__sched.procs[i]->spawned);
    return n;
}

/* A stop that comes later finds that it has fired, without a lock, and the timer may be freed. */
TEST(time, a_timer_whose_function_has_yet_to_start_can_still_be_stopped)
{
    int ran = 0, all = rounds(200);
    csp_procs(2);
    for (int i = 0; i < all; i++) {
        uint64_t before = spawned_so_far();
        csp_timer *t = csp_after_func(10 * CSP_MICROSECOND, bump, &ran);
        while (csp__acquire(&t->t.p) != NULL) continue; // the other processor fires it
        CHECK(spawned_so_far() > before);
        CHECK(!csp_timer_stop(t));
        csp_timer_free(t);
    }
    EVENTUALLY(LOAD(&ran) == all);
}

/* ---- tickers, after_func ---- */

TEST(time, a_ticker_ticks_and_never_early)
{
    int64_t t0 = csp_now(), v = 0, last = 0;
    csp_ticker *k = csp_ticker_new(CSP_MILLISECOND);
    for (int i = 1; i <= 10; i++) {
        CHECK(csp_recv(csp_ticker_chan(k), &v));
        CHECK(v >= t0 + i * CSP_MILLISECOND && v > last);
        last = v;
    }
    t0 = csp_now();
    csp_ticker_reset(k, 3 * CSP_MILLISECOND);
    for (int i = 1; i <= 3; i++) {
        CHECK(csp_recv(csp_ticker_chan(k), &v));
        CHECK(v >= t0 + i * 3 * CSP_MILLISECOND);
    }
    csp_ticker_free(k);
    csp_ticker_free(NULL);
}

csp_task(receives_a_time, csp_receiver(int64_t), in, csp_sender(int), done)
{
    csp_recv(in, NULL);
    csp_send(done, 1);
}

TEST(time, timers_and_tickers_live_in_memory_of_the_callers)
{
    static csp_timer_store stores[3];
    int64_t v = 0, t0 = csp_now();
    csp_timer *t = csp_timer_new_in(&stores[0], 2 * CSP_MILLISECOND);
    CHECK((void *)t == (void *)&stores[0]);
    CHECK(csp_recv(csp_timer_chan(t), &v) && v >= t0 + 2 * CSP_MILLISECOND && !csp_timer_stop(t));
    CHECK(!csp_timer_reset(t, CSP_HOUR) && csp_timer_stop(t));
    csp_timer_reset(t, 0);
    CHECK(csp_recv(csp_timer_chan(t), &v));
    csp_ticker *k = csp_ticker_new_in(&stores[1], CSP_MILLISECOND);
    for (int i = 0; i < 3; i++) CHECK(csp_recv(csp_ticker_chan(k), &v));
    csp_ticker_free(k);
    for (int i = 0; i < 100; i++) { // the memory serves again
        k = csp_ticker_new_in(&stores[i % 2 + 1], 1000);
        CHECK(csp_recv(csp_ticker_chan(k), &v));
        csp_ticker_reset(k, CSP_HOUR);
        csp_ticker_free(k);
    }
    csp_timer_free(t);
    for (int i = 0; i < 3; i++) CHECK(csp_timer_new_in(&stores[i], CSP_HOUR) != NULL);
    csp_sleep(CSP_MILLISECOND); // of the tickers that have been freed none ticks any more
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(csp_try_recv(csp_timer_chan((csp_timer *)(void *)&stores[i]), &v), CSP_AGAIN);
        csp_timer_free((csp_timer *)(void *)&stores[i]);
    }
}

TEST(time, a_timers_memory_holds_one_timer_and_is_not_taken_from_a_receiver)
{
    csp_timer_store store = {{0}, {0}, 0};
    csp_chan(int) done = csp_make(int, 0);
    csp_timer *t = csp_timer_new_in(&store, CSP_HOUR);
    CHECK_PANICS("that holds a timer", csp_timer_new_in(&store, 1));
    CHECK_PANICS("that holds a timer", csp_ticker_new_in(&store, 1));
    CHECK_PANICS("csp_timer_new_in", csp_timer_new_in(NULL, 1));
    CHECK_PANICS("csp_ticker_new_in", csp_ticker_new_in(NULL, 1));
    csp_go(receives_a_time, csp_timer_chan(t), csp_send_end(done));
    EVENTUALLY(last_receiver(csp_timer_chan(t)) != NULL);
    CHECK_PANICS("while a goroutine waits on its channel", csp_timer_free(t));
    csp_timer_reset(t, 0); // it can go on
    CHECK(csp_recv(done, NULL));
    csp_timer_free(t);
    CHECK_PANICS("use of a freed timer", csp_timer_stop(t));
    CHECK_PANICS("non-positive interval", csp_ticker_new_in(&store, 0));
    csp_ticker_free(csp_ticker_new_in(&store, CSP_HOUR));
    csp_unref(done);
}

TEST(time, a_ticker_drops_ticks_for_a_slow_receiver)
{
    int64_t v = 0, period = 20 * CSP_MILLISECOND;
    csp_ticker *k = csp_ticker_new(period);
    csp_sleep(5 * period);
    int64_t t0 = csp_now();
    CHECK(csp_recv(csp_ticker_chan(k), &v));
    int64_t waiting = v <= t0; // a tick was there, one and no more
    while (csp_try_recv(csp_ticker_chan(k), &v) == CSP_OK) waiting++;
    CHECK(waiting <= 1 + (csp_now() - t0) / period + 1);
    csp_ticker_free(k);
}

TEST(time, a_stopped_ticker_ticks_no_more_until_it_is_reset)
{
    int64_t v = 0;
    csp_ticker *k = csp_ticker_new(CSP_MILLISECOND);
    CHECK(csp_recv(csp_ticker_chan(k), &v));
    csp_sleep(3 * CSP_MILLISECOND);
    csp_ticker_stop(k);
    CHECK_EQ(csp_recv_until(csp_ticker_chan(k), &v, csp_now() + 5 * CSP_MILLISECOND), CSP_TIMEOUT);
    csp_ticker_stop(k);
    int64_t t0 = csp_now();
    csp_ticker_reset(k, CSP_MILLISECOND);
    CHECK(csp_recv(csp_ticker_chan(k), &v) && v >= t0 + CSP_MILLISECOND);
    csp_ticker_free(k);
}

TEST(time, a_ticker_that_was_late_keeps_its_beat)
{
    int64_t period = CSP_MILLISECOND;
    csp_procs(1);
    csp_ticker *k = csp_ticker_new(period);
    csp_timer *t = (csp_timer *)k;
    csp_ticker_stop(k);
    csp_ticker_reset(k, period);
    int64_t first = t->t.when;
    for (int i = 0; i < 5; i++) {
        for (int64_t end = clock_now() + period * 13 / 10; clock_now() < end;) continue;
        CHECK(csp_recv(csp_ticker_chan(k), NULL));
    }
    csp_ticker_stop(k); // `when` is still the time of the next tick
    CHECK(t->t.when > first);
    CHECK_EQ((t->t.when - first) % period, 0);
    csp_ticker_free(k);
}

TEST(time, a_ticker_needs_a_period)
{
    csp_ticker *volatile k = csp_ticker_new(CSP_HOUR);
    CHECK_PANICS("non-positive", csp_ticker_new(0));
    CHECK_PANICS("non-positive", csp_ticker_new(INT64_MIN));
    CHECK_PANICS("non-positive", csp_ticker_reset(k, 0));
    CHECK_PANICS("non-positive", csp_ticker_reset(k, -1));
    csp_ticker_free(k);
}

static int_chan func_chan;
static void sends_its_id(void *arg)
{
    CHECK(csp_id() != *(uint64_t *)arg);
    csp_yield(); // it may block
    csp_send(func_chan, 1);
}

csp_task(resets_ticker, csp_ticker *, t, int64_t, period, int_chan, done)
{
    for (int i = 0; i < rounds(200); i++) csp_ticker_reset(t, period);
    csp_send(done, 1);
}

TEST(time, a_ticker_may_be_reset_by_many_while_it_ticks)
{
    csp_ticker *t = csp_ticker_new(10 * CSP_MICROSECOND);
    int_chan done = csp_make(int, 0);
    for (int i = 0; i < 4; i++) csp_go(resets_ticker, t, (i + 1) * 10 * CSP_MICROSECOND, done);
    collect(done, 4);
    CHECK(csp_recv(csp_ticker_chan(t), NULL) && csp_recv(csp_ticker_chan(t), NULL));
    csp_ticker_free(t);
    csp_unref(done);
    CHECK_PANICS("go of nil func value", csp_after_func(1, NULL, NULL));
}

static void waits_for_close(void *c)
{
    csp_recv((int_chan)c, NULL);
}

TEST(time, the_goroutine_of_after_func_is_named_with_the_line_of_the_call)
{
    char text[100];
    int_chan c = csp_make(int, 0);
    int64_t end = csp_now() + 10 * CSP_SECOND;
    csp_timer *t = csp_after_func(0, waits_for_close, c);
    snprintf(text, sizeof text, "waits_for_close, started at %s:%d", __FILE__, __LINE__ - 1);
    while (!dump_has(text) && csp_now() < end) csp_yield();
    CHECK(dump_has(text));
    csp_close(c);
    csp_timer_free(t);
    EVENTUALLY(csp_count() == 1);
    csp_unref(c);
}

TEST(time, after_func_runs_in_a_goroutine_of_its_own)
{
    uint64_t me = csp_id();
    func_chan = csp_make(int, 0);
    csp_timer *t = csp_after_func(CSP_MILLISECOND, sends_its_id, &me);
    collect(func_chan, 1);
    CHECK(!csp_timer_stop(t));
    CHECK(!csp_timer_reset(t, 1000)); // and once more
    collect(func_chan, 1);
    csp_timer_free(t);
    csp_unref(func_chan);
}

TEST(time, after_func_is_prevented_by_stop_and_by_free_or_not_at_all)
{
    uint64_t r = stream(0);
    int ran = 0, prevented = 0, all = rounds(3000);
    csp_procs(3);
    for (int i = 0; i < all; i++) {
        csp_timer *t = csp_after_func(below(&r, 40) * CSP_MICROSECOND, bump, &ran);
        if (i % 2) csp_sleep(below(&r, 40) * CSP_MICROSECOND);
        if (csp_timer_stop(t)) prevented++;
        csp_timer_free(t);
    }
    EVENTUALLY(LOAD(&ran) + prevented == all);
    int before = LOAD(&ran), late = 0;
    for (int i = 0; i < 100; i++) {
        int64_t due = csp_now() + 50 * CSP_MILLISECOND;
        csp_timer_free(csp_after_func(50 * CSP_MILLISECOND, bump, &ran));
        late += csp_now() >= due; // it may have begun
    }
    csp_sleep(60 * CSP_MILLISECOND);
    EVENTUALLY(csp_count() == 1);
    CHECK(LOAD(&ran) - before <= late);
}

/* ---- csp_timer_call ---- */

static struct {
    int n, order[1000];
} called;

static void notes_its_number(void *number)
{
    called.order[called.n] = (int)(intptr_t)number;
    STORE(&called.n, called.n + 1);
}

/* They are set in no order, and all before the first is due. */
TEST(time, calls_run_in_the_order_of_their_times_and_are_no_goroutines)
{
    enum { N = 1000 };
    static csp_timer *t[N];
    static int64_t when[N];
    int64_t first = 0;
    csp_procs(1);
    csp_timer_free(csp_timer_call(CSP_HOUR, nothing, NULL)); // what runs them is there from now on
    for (int64_t lead = 20 * CSP_MILLISECOND; csp_now() >= first; lead *= 2) {
        for (int k = 0; first != 0 && k < N; k++) csp_timer_free(t[k]);
        csp_sleep(CSP_MILLISECOND);
        called.n = 0;
        first = csp_now() + lead;
        for (int i = 0; i < N; i++) {
            int k = i * 389 % N;
            t[k] = csp_timer_call(first + k * CSP_MICROSECOND - csp_now(), notes_its_number,
                                  (void *)(intptr_t)k);
            when[k] = t[k]->t.when;
        }
    }
    uint64_t before = spawned_so_far();
    EVENTUALLY(LOAD(&called.n) == N);
    for (int k = 0; k < N; k++) {
        if (k > 0) CHECK(when[called.order[k]] >= when[called.order[k - 1]]);
        CHECK(!csp_timer_stop(t[k]) && csp_timer_chan(t[k]) == NULL);
    }
    for (int k = 0; k < N; k++) csp_timer_free(t[k]);
    CHECK_EQ(spawned_so_far(), before);
    CHECK_EQ(csp_count(), 1);
    CHECK(!dump_has("timer calls"));
    CHECK_PANICS("csp_timer_call of nil func value", csp_timer_call(1, NULL, NULL));
}

csp_task(calls_and_stops, uint64_t, r, int, times, int *, ran, int *, prevented, int_chan, done)
{
    csp_timer *t[8] = {NULL};
    for (int i = 0; i < times; i++) {
        int k = (int)below(&r, 8);
        if (t[k] != NULL && below(&r, 2)) {
            if (csp_timer_stop(t[k])) ADD(prevented, 1);
        } else if (t[k] != NULL && below(&r, 2)) { // a reset that does not prevent it adds a run
            if (csp_timer_reset(t[k], below(&r, 40) * CSP_MICROSECOND)) ADD(prevented, 1);
            ADD(prevented, -1);
        }
        if (t[k] != NULL && csp_timer_stop(t[k])) ADD(prevented, 1);
        csp_timer_free(t[k]);
        t[k] = csp_timer_call(below(&r, 40) * CSP_MICROSECOND, bump, ran);
        if (below(&r, 4) == 0) csp_sleep(below(&r, 40) * CSP_MICROSECOND);
    }
    for (int k = 0; k < 8; k++) {
        if (t[k] != NULL && csp_timer_stop(t[k])) ADD(prevented, 1);
        csp_timer_free(t[k]);
    }
    csp_send(done, 1);
}

TEST(time, a_call_is_prevented_by_stop_and_by_free_or_not_at_all)
{
    int ran = 0, prevented = 0, each = rounds(3000);
    int_chan done = csp_make(int, 0);
    csp_procs(3);
    for (int i = 0; i < 4; i++) csp_go(calls_and_stops, stream(i), each, &ran, &prevented, done);
    collect(done, 4);
    csp_unref(done);
    EVENTUALLY(LOAD(&ran) + prevented == 4 * each);
    int before = LOAD(&ran), late = 0;
    for (int i = 0; i < 100; i++) {
        int64_t due = csp_now() + 50 * CSP_MILLISECOND;
        csp_timer_free(csp_timer_call(50 * CSP_MILLISECOND, bump, &ran));
        late += csp_now() >= due; // it may have run
    }
    csp_sleep(60 * CSP_MILLISECOND);
    CHECK(LOAD(&ran) - before <= late);
    csp_assert_no_goroutines();
}

static struct {
    int begun, go;
} held_up;

static void holds_up(void *arg)
{
    (void)arg;
    STORE(&held_up.begun, 1);
    while (!LOAD(&held_up.go)) continue;
    STORE(&held_up.begun, 2);
}

/* All of them are due, and one has begun: the others are still pending. */
TEST(time, calls_that_are_due_behind_another_can_be_stopped)
{
    enum { N = 20 };
    csp_timer *t[N];
    int ran = 0, stopped = 0;
    csp_procs(2);
    for (int i = 0; i < rounds(50); i++) {
        held_up.begun = held_up.go = ran = stopped = 0;
        int64_t at = csp_now() + 50 * CSP_MICROSECOND;
        csp_timer *first = csp_timer_call(at - 10 - csp_now(), holds_up, NULL);
        for (int k = 0; k < N; k++) t[k] = csp_timer_call(at - csp_now(), bump, &ran);
        while (!LOAD(&held_up.begun)) csp_yield();
        CHECK(!csp_timer_stop(first));
        for (int k = 0; k < N; k++) /* those that went into the heap of another P may have run */
            stopped += csp_timer_stop(t[(k * 7 + 10) % N]);
        STORE(&held_up.go, 1);
        EVENTUALLY(LOAD(&ran) + stopped == N && LOAD(&held_up.begun) == 2);
        for (int k = 0; k < N; k++) csp_timer_free(t[k]);
        csp_timer_free(first);
    }
}

static struct {
    csp_timer *self, *other, *third;
    csp_chan(int) c;
    csp_waitgroup wg;
    csp_ctx *ctx;
    int runs;
} in_call;

static void uses_what_never_waits(void *arg)
{
    (void)arg;
    CHECK_EQ(csp_count(), 2); // main, and one that waits for the channel
    if (++in_call.runs < 3) {
        CHECK(!csp_timer_reset(in_call.self, CSP_MICROSECOND));
        return;
    }
    CHECK(csp_timer_stop(in_call.other));
    csp_timer_free(in_call.third);
    CHECK_EQ(csp_try_send(in_call.c, 7), CSP_OK);
    csp_close(in_call.c);
    csp_ctx_cancel(in_call.ctx);
    csp_yield();
    csp_try
    {
        csp_panic("caught in it");
    }
    csp_catch(p)
    {
        CHECK_HAS(p->message, "caught in it");
    }
    CHECK_PANICS("csp_blocking in a function of csp_timer_call", { csp_blocking csp_now(); });
    CHECK_PANICS("csp_exit called from a function of csp_timer_call", csp_exit());
    csp_timer_free(in_call.self);
    csp_waitgroup_done(&in_call.wg);
}

csp_task(waits_for_seven, csp_chan(int), c)
{
    int v = 0;
    CHECK(csp_recv(c, &v) && v == 7);
    CHECK(!csp_recv(c, &v));
}

TEST(time, a_call_may_do_all_that_never_waits_and_free_its_own_timer)
{
    in_call.runs = 0;
    in_call.c = csp_make(int, 1);
    in_call.ctx = csp_ctx_with_cancel(csp_ctx_background());
    csp_waitgroup_add(&in_call.wg, 1);
    csp_go(waits_for_seven, in_call.c);
    in_call.other = csp_timer_call(CSP_HOUR, nothing, NULL);
    in_call.third = csp_timer_call(CSP_HOUR, nothing, NULL);
    in_call.self = csp_timer_call(CSP_HOUR, uses_what_never_waits, NULL);
    CHECK(csp_timer_reset(in_call.self, CSP_MILLISECOND));
    csp_waitgroup_wait(&in_call.wg);
    CHECK_EQ(csp_ctx_status(in_call.ctx), CSP_CANCELED);
    EVENTUALLY(csp_count() == 1);
    csp_timer_free(in_call.other);
    csp_ctx_unref(in_call.ctx);
    csp_unref(in_call.c);
}

static csp_local left_in_call;
static void leaves_things(void *n)
{
    CHECK(csp_local_get(&left_in_call) == NULL);
    csp_local_set(&left_in_call, n);
    csp_set_name("bertha");
    csp_lock_thread();
    bump(n);
}

TEST(time, what_a_call_leaves_behind_is_not_found_by_the_next)
{
    csp_timer *t[20];
    int n = 0;
    for (int i = 0; i < 20; i++) t[i] = csp_timer_call(i / 5 * CSP_MICROSECOND, leaves_things, &n);
    EVENTUALLY(LOAD(&n) == 20);
    for (int i = 0; i < 20; i++) csp_timer_free(t[i]);
    CHECK(!dump_has("bertha"));
}

/* ---- the memory of timers ---- */

static int timer_slabs(void)
{
    int n = 0;
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    for (struct csp__timer_slab *s = csp__sched.timer_slabs; s != NULL; s = s->link) n++;
    csp__unlock(&csp__sched.lock);
    return n;
}

/* Each way round: between two processors, from a thread without one, and to it. */
TEST(time, what_one_processor_frees_another_one_takes)
{
    enum { N = 5000, SLABS = 2 * 2 * N * 128 / 65536 + 8 };
    static void *t[N];
    csp__p *p[3] = {(csp__p *)csp__zalloc(sizeof(csp__p)), (csp__p *)csp__zalloc(sizeof(csp__p)),
                    NULL};
    csp_timer_free(csp_timer_call(CSP_HOUR, nothing, NULL)); // asks whether a tool watches
    for (int round = 0; round < rounds(90); round++) {
        int way = round / 15 % 6; // for a while the same
        csp__p *from = p[way % 3], *to = p[(way + 1 + way / 3) % 3];
        for (int k = 0; k < CSP__SPARES; k++) {
            for (int i = 0; i < N; i++) {
                CHECK((t[i] = csp__timer_take(from, k)) != NULL);
                memset(t[i], 255, csp__timer_size(k)); // it is this one's alone
                if (i > 0) CHECK(csp__timers_watched() || ((uintptr_t)t[i] & 63) == 0);
                *(int *)t[i] = i;
            }
            for (int i = 0; i < N; i++) CHECK_EQ(*(int *)t[i], i);
            for (int i = 0; i < N; i++) csp__timer_give(to, t[i * 389 % N], k);
        }
        CHECK(timer_slabs() <= SLABS);
    }
    free(p[0]);
    free(p[1]);
}

static csp_chan(csp_timer *) to_be_freed;
csp_task(starts_timers_for_others, int, n, int_chan, done)
{
    for (int i = 0; i < n; i++) {
        csp_timer *t = i % 3 == 0 ? csp_after_func(CSP_HOUR, nothing, NULL)
                                  : csp_timer_call(CSP_HOUR, nothing, NULL);
        if (i % 3 == 1) csp_timer_stop(t);
        csp_send(to_be_freed, t);
    }
    csp_send(done, 1);
}

static void frees_timers(void *arg)
{
    csp_timer *t;
    (void)arg;
    while (csp_recv(to_be_freed, &t)) csp_timer_free(t);
}

static void *frees_timers_here(void *arg)
{
    frees_timers(arg);
    return NULL;
}

TEST(time, timers_that_others_free_take_no_more_and_more_memory)
{
    int_chan done = csp_make(int, 0);
    to_be_freed = csp_make(csp_timer *, 100);
    csp_procs(4);
    for (int i = 0; i < 4; i++) csp_go(starts_timers_for_others, rounds(60000), done);
    for (int i = 0; i < 2; i++) csp_spawn(frees_timers, NULL);
    pthread_t other = thread_start(frees_timers_here, NULL);
    collect(done, 4);
    csp_close(to_be_freed);
    pthread_join(other, NULL);
    EVENTUALLY(csp_count() == 1);
    csp_unref(to_be_freed);
    csp_unref(done);
    /* Two lots of each size for each of what processors there ever were, and the one on its way. */
    int most = 4;
    for (int k = 0; k < CSP__SPARES; k++)
        most += (int)((size_t)csp__sched.nmade * 3 * 1023 * csp__timer_size(k) / 65536) + 1;
    if (timer_slabs() > most) FAIL("%d slabs, should be %d at most", timer_slabs(), most);
}

static csp_timer *outlives[2];
static void leaves_two_timers(void *arg)
{
    static csp_timer *t[3000];
    (void)arg;
    for (int i = 0; i < 3000; i++)
        t[i] = i % 2 ? csp_timer_call(CSP_HOUR, nothing, NULL) : csp_timer_new(CSP_HOUR);
    for (int i = 2; i < 3000; i++) csp_timer_free(t[i]);
    outlives[0] = t[0];
    outlives[1] = t[1];
}

static void sets_them_again(void *arg)
{
    csp_timer *t[100];
    (void)arg;
    for (int i = 0; i < 100; i++) t[i] = csp_timer_call(CSP_HOUR, nothing, NULL);
    CHECK(!csp_timer_reset(outlives[0], CSP_MICROSECOND));
    CHECK(!csp_timer_reset(outlives[1], CSP_MICROSECOND));
    CHECK(csp_recv(csp_timer_chan(outlives[0]), NULL));
    EVENTUALLY(csp__acquire(&outlives[1]->t.p) == NULL);
    for (int i = 0; i < 100; i++) csp_timer_free(t[i]);
    csp_timer_free(outlives[0]);
}

TEST_PLAIN(time, the_memory_of_timers_is_given_back_at_the_end_but_for_those_that_live_on)
{
    bool watched = SANITIZED && !TSAN;
    int before = timer_slabs();
    csp_run(leaves_two_timers, NULL);
    watched = watched || csp__timers_watched();
    CHECK_EQ(timer_slabs() - before, watched ? 0 : 2);
    csp_run(sets_them_again, NULL);
    CHECK_EQ(timer_slabs() - before, watched ? 0 : 1);
    csp_timer_free(outlives[1]);
    CHECK_EQ(csp__sched.running, 0); // that took no runtime
    csp_run(some_work, NULL);
    CHECK_EQ(timer_slabs() - before, 0);
}

enum { SPENT = 3000 };
static csp_timer *spent[SPENT];
static int spent_counts[SPENT], spent_all, spent_go_on;

static void counts_its_end(void *count)
{
    ADD((int *)count, 1);
    ADD(&spent_all, 1);
}

static void sets_calls(void *arg)
{
    (void)arg;
    memset(spent_counts, 0, sizeof spent_counts);
    STORE(&spent_all, 0);
    for (int i = 0; i < SPENT; i++) spent[i] = csp_timer_call(0, counts_its_end, &spent_counts[i]);
    EVENTUALLY(LOAD(&spent_all) == SPENT);
    for (int i = 0; i < SPENT; i++) CHECK_EQ(LOAD(&spent_counts[i]), 1); // each has its own memory
    STORE(&spent_go_on, 1);
}

static void *frees_calls(void *arg)
{
    (void)arg;
    while (!LOAD(&spent_go_on)) continue;
    for (int i = 0; i < SPENT; i++) csp_timer_free(spent[i]);
    return NULL;
}

TEST_PLAIN(time, a_thread_frees_timers_that_have_fired_while_the_runtime_stops)
{
    for (int i = 0; i < rounds(40); i++) {
        STORE(&spent_go_on, 0);
        pthread_t t = thread_start(frees_calls, NULL);
        csp_run(sets_calls, NULL);
        pthread_join(t, NULL);
    }
    csp_run(some_work, NULL);
}

CHILD(uses_a_freed_timer)
{
    csp_timer *t = getenv("HOW")[0] == 'c' ? csp_timer_call(CSP_HOUR, nothing, NULL)
                                           : csp_after_func(CSP_HOUR, nothing, NULL);
    csp_timer_free(t);
    csp_timer_stop(*(csp_timer *volatile *)&t); // the compiler does not know
}

TEST_PLAIN(time, a_tool_that_watches_memory_finds_the_use_of_a_freed_timer)
{
    if (under_valgrind()) CHECK(csp__timers_watched()); // where a child would run without it
    if (!ASAN) SKIP("AddressSanitizer is not there");
    for (int i = 0; i < 2; i++) {
        outcome *o = run_child("uses_a_freed_timer", i == 0 ? "HOW=call" : "HOW=func");
        CHECK(o->code != 0);
        CHECK_HAS(o->text, "heap-use-after-free");
        CHECK_HAS(o->text, "csp_timer_stop");
    }
}

static csp_mutex held_elsewhere;
static void blocks_in_a_call(void *how)
{
    const char *what = (const char *)how;
    csp_try
    {
        if (strcmp(what, "mutex") == 0) csp_mutex_lock(&held_elsewhere);
        if (strcmp(what, "receive") == 0) csp_recv(csp_make(int, 0), NULL);
        if (strcmp(what, "sleep") == 0) csp_sleep(CSP_SECOND);
        if (strcmp(what, "select") == 0) csp_select(CSP_AFTER(CSP_SECOND));
        if (strcmp(what, "panic") == 0) {
            csp__cb_of(csp__current())->tries = NULL; // as if there were no csp_try
            csp_panic("in a call");
        }
    }
    csp_catch(p) say("caught: %s\n", p->message);
}

static void wants_a_call(void *how)
{
    csp_mutex_lock(&held_elsewhere);
    csp_timer_call(CSP_MICROSECOND, blocks_in_a_call, how);
    csp_sleep(10 * CSP_SECOND);
}

CHILD(blocks_in_a_call)
{
    csp_run(wants_a_call, getenv("HOW"));
}

TEST_PLAIN(time, a_call_that_blocks_ends_the_program_and_says_where)
{
    static const char *const ways[] = {"receive", "mutex", "sleep", "select"};
    char setting[32], text[100];
    for (int i = 0; i < 4; i++) {
        snprintf(setting, sizeof setting, "HOW=%s", ways[i]);
        outcome *o = run_child("blocks_in_a_call", setting);
        snprintf(text, sizeof text,
                 "panic: a function of csp_timer_call must not block: %s\n    at csp_test.c:",
                 ways[i]);
        CHECK_CHILD(o, 2);
        CHECK_HAS(o->text, text);
        CHECK_HAS(o->text, "[blocks_in_a_call], started at csp_test.c:");
        if (strstr(o->text, "caught") != NULL) FAIL("%s", o->text);
    }
    outcome *o = run_child("blocks_in_a_call", "HOW=panic");
    CHECK_CHILD(o, 2);
    CHECK_HAS(o->text, "panic: in a call");
    CHECK_HAS(o->text, "[blocks_in_a_call], started at csp_test.c:");
}

/* ==========================================================================
 * context - the tree of contexts
 * ======================================================================== */

static bool is_done(csp_ctx *ctx)
{
    bool ok = true;
    int at = csp_select(CSP_RECV(csp_ctx_done(ctx), NULL, &ok), CSP_DEFAULT);
    CHECK(at == 1 || !ok); // nothing is ever sent
    if (at == 0) CHECK_EQ(csp_select(CSP_DONE(ctx), CSP_DEFAULT), 0);
    return at == 0;
}

TEST(context, the_background_is_never_done)
{
    csp_ctx *root = csp_ctx_background();
    int n = 0;
    CHECK(root == csp_ctx_background() && csp_ctx_ref(root) == root);
    for (int i = 0; i < 5; i++) csp_ctx_unref(csp_ctx_background());
    CHECK(csp_ctx_done(root) == NULL && csp_ctx_value(root, &root) == NULL);
    CHECK_EQ(csp_ctx_status(root), CSP_OK);
    CHECK_EQ(csp_ctx_deadline(root), CSP_FOREVER);
    CHECK_EQ(csp_select(CSP_DONE(root), CSP_AFTER(CSP_MILLISECOND)), 1);
    uint64_t id = csp_ctx_on_done(root, bump, &n);
    CHECK(!csp_ctx_on_done_stop(root, id + 1) && csp_ctx_on_done_stop(root, id));
    CHECK(!csp_ctx_on_done_stop(root, id));
    csp_ctx_unref(NULL);
}

TEST(context, cancel_ends_all_that_is_derived_and_nothing_else)
{
    enum { N = 200 };
    uint64_t r = stream(0);
    for (int round = 0; round < rounds(30); round++) {
        csp_ctx *all[N];
        int parent[N];
        bool ended[N] = {false};
        for (int i = 0; i < N; i++) {
            parent[i] = i == 0 ? -1 : below(&r, i);
            csp_ctx *from = i == 0 ? csp_ctx_background() : all[parent[i]];
            int kind = below(&r, 3);
            all[i] = kind == 0   ? csp_ctx_with_cancel(from)
                     : kind == 1 ? csp_ctx_with_timeout(from, CSP_HOUR + i)
                                 : csp_ctx_with_value(from, &all[i], NULL);
            if (below(&r, 2)) CHECK(!is_done(all[i])); // with a channel, and without
        }
        for (int k = 0; k < 10; k++) {
            int at = below(&r, N);
            csp_ctx_cancel(all[at]);
            for (int i = 0; i < N; i++) {
                ended[i] = ended[i] || i == at || (i > 0 && ended[parent[i]]);
                CHECK_EQ(csp_ctx_status(all[i]), ended[i] ? CSP_CANCELED : CSP_OK);
                if (below(&r, 2)) CHECK_EQ(is_done(all[i]), ended[i]);
            }
        }
        csp_ctx *late = csp_ctx_with_timeout(all[0], CSP_HOUR);
        CHECK_EQ(csp_ctx_status(late), csp_ctx_status(all[0]));
        csp_ctx_unref(late);
        for (int i = 0; i < N; i++) csp_ctx_unref(all[i]);
    }
}

TEST(context, values_are_those_of_the_nearest_context_with_the_key)
{
    static const char one, two;
    int v[3];
    csp_ctx *a = csp_ctx_with_value(csp_ctx_background(), &one, &v[0]), *b = csp_ctx_with_cancel(a);
    csp_ctx *c = csp_ctx_with_value(b, &two, &v[1]), *d = csp_ctx_with_value(c, &one, &v[2]);
    CHECK(csp_ctx_value(a, &one) == &v[0] && csp_ctx_value(a, &two) == NULL);
    CHECK(csp_ctx_value(b, &one) == &v[0] && csp_ctx_value(c, &one) == &v[0]);
    csp_ctx_unref(a); // d keeps them all
    csp_ctx_unref(b);
    csp_ctx_unref(c);
    CHECK(csp_ctx_value(d, &two) == &v[1] && csp_ctx_value(d, &one) == &v[2]);
    CHECK(csp_ctx_value(d, v) == NULL);
    csp_ctx_unref(d);
}

TEST(context, a_deadline_ends_it_and_what_is_below)
{
    csp_ctx *root = csp_ctx_with_cancel(csp_ctx_background());
    int64_t t = csp_now() + 2 * CSP_MILLISECOND, past[] = {0, -1, INT64_MIN};
    csp_ctx *timed = csp_ctx_with_deadline(root, t), *leaf = csp_ctx_with_cancel(timed);
    csp_ctx *later = csp_ctx_with_timeout(timed, CSP_HOUR); // its parent's is earlier
    CHECK(csp_ctx_deadline(leaf) == t && csp_ctx_deadline(later) == t);
    CHECK_EQ(csp_ctx_deadline(root), CSP_FOREVER);
    CHECK_EQ(csp_select(CSP_DONE(leaf), CSP_AFTER(CSP_HOUR)), 0);
    CHECK(csp_now() >= t);
    csp_recv(csp_ctx_done(later), NULL);
    csp_ctx_cancel(timed); // too late to change what it says
    CHECK_EQ(csp_ctx_status(leaf), CSP_TIMEOUT);
    CHECK_EQ(csp_ctx_status(timed), CSP_TIMEOUT);
    CHECK_EQ(csp_ctx_status(later), CSP_TIMEOUT);
    CHECK_EQ(csp_ctx_status(root), CSP_OK);
    csp_ctx_unref(later);
    csp_ctx_unref(leaf);
    csp_ctx_unref(timed);
    for (int i = 0; i < 3; i++) { // done already
        csp_ctx *a = csp_ctx_with_timeout(root, past[i]), *b = csp_ctx_with_deadline(root, past[i]);
        csp_ctx *c = csp_ctx_with_cancel(a);
        CHECK(is_done(a) && is_done(b) && is_done(c));
        CHECK_EQ(csp_ctx_status(b), CSP_TIMEOUT);
        CHECK_EQ(csp_ctx_status(c), CSP_TIMEOUT);
        csp_ctx_unref(a);
        csp_ctx_unref(b);
        csp_ctx_unref(c);
    }
    csp_ctx *far = csp_ctx_with_timeout(root, INT64_MAX),
            *never = csp_ctx_with_deadline(root, CSP_FOREVER);
    CHECK(!is_done(far) && !is_done(never) && csp_ctx_deadline(never) == CSP_FOREVER);
    csp_ctx_cancel(root);
    CHECK(is_done(far) && is_done(never));
    csp_ctx *both = csp_ctx_with_timeout(root, -1);
    CHECK_EQ(csp_ctx_status(both), CSP_CANCELED); // the parent's
    csp_ctx_unref(both);
    csp_ctx_unref(far);
    csp_ctx_unref(never);
    csp_ctx_unref(root);
}

static bool cause_is(csp_ctx *ctx, const char *text)
{
    return csp_ctx_cause(ctx) != NULL && strcmp(csp_ctx_cause(ctx), text) == 0;
}

TEST(context, the_cause_is_the_text_of_the_cancel_that_ended_it_else_the_status)
{
    static const char left[] = "the client has left", late[] = "too late";
    csp_ctx *root = csp_ctx_with_cancel(csp_ctx_background()), *a = csp_ctx_with_cancel(root);
    csp_ctx *timed = csp_ctx_with_timeout(a, CSP_MILLISECOND), *under = csp_ctx_with_cancel(timed);
    csp_ctx *plain = csp_ctx_with_cancel(a), *below = csp_ctx_with_value(a, left, NULL);
    csp_ctx *none = csp_ctx_with_cancel(root);
    CHECK(csp_ctx_cause(csp_ctx_background()) == NULL);
    CHECK(csp_ctx_cause(root) == NULL && csp_ctx_cause(below) == NULL);
    csp_recv(csp_ctx_done(under), NULL);
    CHECK(cause_is(timed, "timeout") && cause_is(under, "timeout"));
    csp_ctx_cancel(plain);
    CHECK(cause_is(plain, "canceled") && csp_ctx_cause(a) == NULL);
    csp_ctx_cancel_cause(none, NULL);
    CHECK(cause_is(none, "canceled"));
    csp_ctx_cancel_cause(a, left);
    CHECK(csp_ctx_cause(a) == left && csp_ctx_cause(below) == left);
    CHECK(csp_ctx_cause(root) == NULL);
    CHECK(cause_is(plain, "canceled") && cause_is(timed, "timeout")); // done before
    csp_ctx_cancel_cause(a, late);
    csp_ctx_cancel_cause(root, late);
    CHECK(csp_ctx_cause(root) == late && csp_ctx_cause(a) == left && csp_ctx_cause(below) == left);
    csp_ctx *afterwards = csp_ctx_with_timeout(below, -1);
    CHECK(csp_ctx_cause(afterwards) == left && csp_ctx_status(afterwards) == CSP_CANCELED);
    CHECK_PANICS("cancel of the background", csp_ctx_cancel_cause(csp_ctx_background(), left));
    CHECK_PANICS("context is nil", csp_ctx_cancel_cause(NULL, left));
    CHECK_PANICS("context is nil", (void)csp_ctx_cause(NULL));
    csp_ctx *all[] = {afterwards, none, below, plain, under, timed, a, root};
    for (int i = 0; i < 8; i++) csp_ctx_unref(all[i]);
}

TEST(context, one_without_cancel_has_the_values_and_not_the_end)
{
    static const char key;
    int v;
    csp_ctx *root = csp_ctx_with_timeout(csp_ctx_background(), CSP_HOUR);
    csp_ctx *named = csp_ctx_with_value(root, &key, &v), *kept = csp_ctx_without_cancel(named);
    csp_ctx *below = csp_ctx_with_cancel(kept), *timed = csp_ctx_with_timeout(kept, CSP_HOUR);
    CHECK_EQ(csp_ctx_deadline(kept), CSP_FOREVER);
    CHECK(csp_ctx_deadline(timed) > csp_ctx_deadline(root));
    CHECK_EQ(named->refs, 2); // one is kept's
    csp_ctx_cancel_cause(root, "over");
    CHECK(is_done(named) && !is_done(kept) && !is_done(below) && !is_done(timed));
    CHECK(csp_ctx_cause(kept) == NULL && csp_ctx_value(below, &key) == &v);
    csp_ctx *after = csp_ctx_without_cancel(named); // of one that is done
    CHECK(!is_done(after) && csp_ctx_value(after, &key) == &v);
    CHECK_EQ(named->refs, 3);
    csp_ctx_unref(after);
    CHECK_EQ(named->refs, 2);
    csp_ctx_unref(root);
    csp_ctx_unref(named); // kept keeps it
    CHECK(named->refs == 1 && csp_ctx_value(kept, &key) == &v);
    csp_ctx_cancel_cause(kept, "enough"); // it ends as any other
    CHECK(cause_is(kept, "enough") && cause_is(below, "enough") && cause_is(timed, "enough"));
    csp_ctx_unref(kept);
    CHECK_EQ(named->refs, 1);
    csp_ctx_unref(timed);
    csp_ctx_unref(below); // and all of them are freed
    csp_ctx *loose = csp_ctx_without_cancel(csp_ctx_background());
    CHECK(!is_done(loose) && csp_ctx_value(loose, &key) == NULL);
    csp_ctx_unref(loose);
    CHECK_PANICS("cannot create context from nil parent", csp_ctx_without_cancel(NULL));
}

static const char *const causes[] = {"first", "second", NULL};

csp_task(cancels_for, csp_ctx *, ctx, int, which, csp_waitgroup *, wg)
{
    if (causes[which] != NULL) csp_ctx_cancel_cause(ctx, causes[which]);
    if (causes[which] == NULL) csp_ctx_cancel(ctx);
    csp_waitgroup_done(wg);
}

csp_task(asks_for_the_cause, csp_ctx *, ctx, csp_ctx *, kept, csp_waitgroup *, wg)
{
    const char *cause = csp_ctx_cause(ctx);
    if (cause == NULL) {
        csp_recv(csp_ctx_done(ctx), NULL);
        cause = csp_ctx_cause(ctx);
    }
    CHECK(cause == causes[0] || cause == causes[1] ||
          (cause != NULL && strcmp(cause, "canceled") == 0));
    csp_yield();
    CHECK(csp_ctx_cause(ctx) == cause); // for good
    CHECK(csp_ctx_cause(kept) == NULL && csp_ctx_status(kept) == CSP_OK);
    csp_ctx_unref(ctx);
    csp_waitgroup_done(wg);
}

static void cancels_race(void *unused)
{
    csp_waitgroup wg = {0};
    csp_ctx *root = csp_ctx_with_cancel(csp_ctx_background()), *kept = csp_ctx_without_cancel(root);
    (void)unused;
    csp_waitgroup_add(&wg, 6);
    for (int i = 0; i < 3; i++) {
        csp_go(asks_for_the_cause, csp_ctx_with_cancel(root), kept, &wg);
        csp_go(cancels_for, root, i, &wg);
    }
    csp_waitgroup_wait(&wg);
    csp_ctx_unref(kept);
    csp_ctx_unref(root);
}

TEST(context, of_cancels_that_race_one_gives_the_cause_for_good)
{
    csp_procs(3);
    for (int i = 0; i < rounds(2000); i++) cancels_race(NULL);
}

TEST_PLAIN(context, of_cancels_that_race_one_gives_the_cause_in_each_schedule)
{
    csp_sim sim = {.runs = (uint64_t)rounds(2000), .file = stderr};
    CHECK_EQ(csp_simulate(&sim, cancels_race, NULL).outcome, CSP_SIM_OK);
    sim = (csp_sim){.runs = (uint64_t)rounds(2000), .depth = 3, .file = stderr};
    CHECK_EQ(csp_simulate(&sim, cancels_race, NULL).outcome, CSP_SIM_OK);
}

/* Each order of four unrefs and three cancels, where a context is not used after its unref. */
static void each_order(int left, int *order, int at, int *tried)
{
    for (int i = 0; i < 7; i++)
        if (left & 1 << i) order[at] = i, each_order(left & ~(1 << i), order, at + 1, tried);
    if (left != 0) return;
    bool gone[4] = {false};
    int calls = 0;
    csp_ctx *c[4] = {csp_ctx_with_cancel(csp_ctx_background())};
    c[1] = csp_ctx_with_timeout(c[0], CSP_HOUR);
    c[2] = csp_ctx_with_value(c[1], c, NULL);
    c[3] = csp_ctx_with_cancel(c[*tried % 2]); // beside c[2], or above
    uint64_t id = csp_ctx_on_done(c[1], bump, &calls);
    for (int i = 0; i < 7; i++) {
        int k = order[i] % 4;
        if (order[i] < 4) {
            if (k == 1 && csp_ctx_on_done_stop(c[1], id)) ADD(&calls, 1);
            csp_ctx_unref(c[k]);
            gone[k] = true;
        } else if (!gone[k]) {
            csp_ctx_cancel(c[k]);
            CHECK(gone[2] || csp_ctx_status(c[2]) == CSP_CANCELED);
        }
    }
    EVENTUALLY(LOAD(&calls) == 1);
    ++*tried;
}

TEST(context, references_may_be_dropped_and_contexts_cancelled_in_every_order)
{
    int order[7], tried = 0;
    each_order(127, order, 0, &tried);
    CHECK_EQ(tried, 5040);
    EVENTUALLY(csp_count() == 1);
}

csp_task(waits_for_done, csp_ctx *, ctx, int_chan, done)
{
    csp_recv(csp_ctx_done(ctx), NULL);
    CHECK(csp_ctx_status(ctx) != CSP_OK);
    csp_ctx_unref(ctx);
    csp_send(done, 1);
}

csp_task(polls_the_status, csp_ctx *, ctx, int_chan, done)
{
    csp_receiver(bool) c = csp_ctx_done(ctx);
    while (csp_ctx_status(ctx) == CSP_OK) csp_yield();
    CHECK_EQ(csp_try_recv(c, NULL), CSP_CLOSED);
    CHECK(is_done(ctx));
    csp_ctx_unref(ctx);
    csp_send(done, 1);
}

csp_task(cancels, csp_ctx *, ctx, int_chan, done)
{
    csp_ctx_cancel(ctx);
    CHECK(csp_ctx_status(ctx) != CSP_OK);
    csp_ctx_unref(ctx);
    csp_send(done, 1);
}

static void *thread_waits_for_done(void *arg)
{
    csp_ctx *mine = csp_ctx_with_timeout(arg, CSP_HOUR);
    CHECK_EQ(csp_select(CSP_DONE(mine), CSP_AFTER(CSP_HOUR)), 0);
    CHECK(csp_ctx_status(mine) != CSP_OK);
    csp_ctx_unref(mine);
    return NULL;
}

TEST(context, whoever_sees_the_status_or_done_sees_the_other)
{
    int_chan done = csp_make(int, 0);
    csp_procs(4);
    for (int i = 0; i < rounds(1000); i++) {
        csp_ctx *root = csp_ctx_with_cancel(csp_ctx_background());
        csp_ctx *ctx = i % 2 ? csp_ctx_with_cancel(root) : csp_ctx_with_timeout(root, 10000);
        csp_go(waits_for_done, csp_ctx_ref(ctx), done);
        csp_go(polls_the_status, csp_ctx_ref(ctx), done);
        csp_go(cancels, csp_ctx_ref(i % 3 ? root : ctx), done);
        csp_go(cancels, csp_ctx_ref(ctx), done);
        if (i % 5 == 0) csp_ctx_unref(ctx), ctx = NULL;
        collect(done, 4);
        csp_ctx_unref(ctx);
        csp_ctx_unref(root);
    }
    csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background());
    pthread_t t = thread_start(thread_waits_for_done, ctx);
    int n = crowd(rounds(5000));
    for (int i = 0; i < n; i++) csp_go(waits_for_done, csp_ctx_ref(ctx), done);
    for (int i = 0; i < 100; i++) csp_yield();
    csp_ctx_cancel(ctx);
    collect(done, n); // many at once, and a thread
    pthread_join(t, NULL);
    csp_ctx_unref(ctx);
    csp_unref(done);
}

/* Its last reference has gone, and its deadline passes. Part of the runtime, as the sanitizers see
 * it. */
CSP__FN CSP__NOINLINE bool fires_without_references(csp_ctx *ctx)
{
    csp__m *m = csp__enter();
    bool pending = csp__timer_unset(&ctx->timer);
    csp__set(&ctx->refs, 0);
    csp__ctx_fire(&ctx->timer, 0);
    bool left_alone = csp__relaxed(&ctx->refs) == 0;
    csp__set(&ctx->refs, 1);
    csp__leave(m);
    return pending && left_alone;
}

/* Between two steps of another goroutine, which cannot be stopped there: the test takes these steps
 * by hand. */
TEST(context, one_that_is_becoming_done_or_being_freed_says_nothing_yet)
{
    csp_ctx *ctx = csp_ctx_with_timeout(csp_ctx_background(), CSP_HOUR);
    CHECK(!is_done(ctx));
    STORE(&ctx->status, CSP_CANCELED); // done is not closed yet
    CHECK_EQ(csp_ctx_status(ctx), CSP_OK);
    STORE(&ctx->status, CSP_OK);
    CHECK(fires_without_references(ctx));
    csp_ctx_cancel(ctx);
    CHECK_EQ(csp_ctx_status(ctx), CSP_CANCELED);
    csp_ctx_unref(ctx);
    CHECK_EQ(csp_count(), 1);
}

/* All share one root. Each has a tree of its own below it, and so knows which contexts are below
 * which. */
static struct {
    csp_ctx *root;
    int asked, ran;
} woods;

static void grows_a_tree(int id, uint64_t r)
{
    enum { MINE = 30 };
    csp_ctx *mine[MINE] = {csp_ctx_ref(woods.root)};
    int parent[MINE] = {-1};
    bool ended[MINE] = {false};
    for (int n = rounds(2000); n > 0; n--) {
        if (id == 0 && n == 1) csp_ctx_cancel(woods.root);
        int i = 1 + below(&r, MINE - 1), k = below(&r, i), what = below(&r, 6);
        uint64_t call;
        if (mine[i] == NULL && mine[k] != NULL) {
            parent[i] = k;
            ended[i] = ended[k];
            mine[i] = what < 4 ? csp_ctx_with_cancel(mine[k])
                               : csp_ctx_with_timeout(mine[k], below(&r, 300) * CSP_MICROSECOND);
        } else if (mine[i] != NULL && what == 0) {
            is_done(mine[i]);
        } else if (mine[i] != NULL && what == 1) {
            csp_ctx_cancel(mine[i]);
            ended[i] = true;
        } else if (mine[i] != NULL && what == 2) {
            ADD(&woods.asked, 1);
            call = csp_ctx_on_done(mine[i], bump, &woods.ran);
            if (below(&r, 2) && csp_ctx_on_done_stop(mine[i], call)) ADD(&woods.asked, -1);
        } else if (mine[i] != NULL && what == 3) {
            csp_select(CSP_DONE(mine[i]), CSP_AFTER(1000));
        } else if (mine[i] != NULL) {
            csp_ctx_unref(mine[i]);
            mine[i] = NULL;
            for (k = i + 1; k < MINE; k++) // its number may be given to a context elsewhere
                if (parent[k] == i) parent[k] = 0;
        }
        for (i = 1; i < MINE; i++) {
            if (mine[i] == NULL) continue;
            if (parent[i] > 0 && ended[parent[i]]) ended[i] = true;
            if (ended[i]) CHECK(csp_ctx_status(mine[i]) != CSP_OK);
        }
    }
    for (int i = 0; i < MINE; i++) csp_ctx_unref(mine[i]);
}

TEST(context, trees_grow_and_die_under_many_hands)
{
    for (int procs = 2; procs <= 8; procs *= 2) {
        woods.root = csp_ctx_with_cancel(csp_ctx_background());
        woods.asked = woods.ran = 0;
        csp_procs(procs);
        together(grows_a_tree, 6, 2);
        csp_ctx_unref(woods.root);
        EVENTUALLY(LOAD(&woods.ran) == LOAD(&woods.asked)); // what was not stopped ran, once
        EVENTUALLY(csp_count() == 1);
    }
}

csp_task(makes_large_trees, int, n, int_chan, done)
{
    csp_ctx **all = malloc((size_t)n * sizeof *all);
    CHECK(all != NULL);
    for (int how = 0; how < 6; how++) {
        for (int i = 0; i < n; i++) {
            int from = how < 3 ? i - 1 : how % 2 ? 0 : (i - 1) / 3; // a chain, a broom, a tree
            all[i] = csp_ctx_with_cancel(i == 0 ? csp_ctx_background() : all[from]);
            if (i % 16 == 0) csp_ctx_done(all[i]);
        }
        for (int i = 0; how == 1 && i < n - 1; i++) // the last one keeps them
            csp_ctx_unref(all[i]);
        if (how != 2) csp_ctx_cancel(all[how == 1 ? n - 1 : 0]);
        CHECK_EQ(csp_ctx_status(all[n - 1]), how == 2 ? CSP_OK : CSP_CANCELED);
        for (int i = how == 1 ? n - 1 : 0; i < n; i++)
            csp_ctx_unref(all[how == 1 || how % 2 ? i : n - 1 - i]);
    }
    free(all);
    csp_send(done, 1);
}

TEST(context, trees_may_be_as_deep_and_as_wide_as_memory)
{
    int_chan done = csp_make(int, 0);
    csp_opts opts = {.stack_size = ASAN ? 0 : 16384}; // nothing may recurse
    csp_go_with(&opts, makes_large_trees, rounds(100000), done);
    collect(done, 1);
    csp_unref(done);
}

TEST(context, deadlines_race_with_cancels_and_unrefs)
{
    uint64_t r = stream(0);
    int_chan done = csp_make(int, 0);
    csp_procs(3);
    for (int i = 0; i < rounds(2000); i++) {
        int64_t ns = below(&r, 60) * CSP_MICROSECOND;
        csp_ctx *ctx = csp_ctx_with_timeout(csp_ctx_background(), ns);
        csp_ctx *child = csp_ctx_with_timeout(ctx, ns / 2);
        if (i % 4 == 0) csp_go(waits_for_done, csp_ctx_ref(child), done);
        if (i % 3) csp_sleep(below(&r, 60) * CSP_MICROSECOND);
        if (i % 2) {
            csp_ctx_cancel(ctx);
            csp_status s = csp_ctx_status(ctx);
            CHECK(s == CSP_CANCELED || s == CSP_TIMEOUT);
            CHECK(csp_ctx_status(child) != CSP_OK);
            if (i % 5 == 0) csp_sleep(below(&r, 60) * CSP_MICROSECOND);
            CHECK_EQ(csp_ctx_status(ctx), s);
        }
        csp_ctx_unref(ctx);
        csp_ctx_unref(child);
        if (i % 4 == 0) collect(done, 1);
    }
    EVENTUALLY(csp_count() == 1);
    csp_unref(done);
}

static uint64_t ran_in;
static void says_where(void *c)
{
    ran_in = csp_id();
    csp_send(*(int_chan *)c, 1);
}

TEST(context, on_done_runs_in_a_goroutine_of_its_own)
{
    int_chan c = csp_make(int, 0);
    csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background());
    uint64_t id = csp_ctx_on_done(ctx, says_where, &c);
    csp_ctx_cancel(ctx);
    collect(c, 1);
    CHECK(ran_in != csp_id());
    CHECK(!csp_ctx_on_done_stop(ctx, id));
    id = csp_ctx_on_done(ctx, says_where, &c); // done already: at once
    collect(c, 1);
    CHECK(!csp_ctx_on_done_stop(ctx, id));
    csp_ctx_unref(ctx);
    ctx = csp_ctx_with_timeout(csp_ctx_background(), CSP_MILLISECOND);
    csp_ctx_on_done(ctx, says_where, &c);
    csp_ctx_unref(ctx); // it is kept until then
    collect(c, 1);
    csp_unref(c);
}

csp_task(registers_and_stops, csp_ctx *, ctx, int, n, int *, ran, int *, stopped, int_chan, done)
{
    for (int i = 0; i < n; i++) {
        uint64_t id = csp_ctx_on_done(ctx, bump, ran);
        if (i % 2) csp_yield();
        if (csp_ctx_on_done_stop(ctx, id)) ADD(stopped, 1);
    }
    csp_ctx_unref(ctx);
    csp_send(done, 1);
}

TEST(context, stop_prevents_a_call_or_it_happens)
{
    uint64_t r = stream(0), given[500];
    int_chan done = csp_make(int, 0);
    int ran = 0, stopped = 0, all = 500;
    csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background());
    for (int i = 0; i < 500; i++) given[i] = csp_ctx_on_done(ctx, bump, &ran);
    for (int i = 0; i < 400; i++) stopped += csp_ctx_on_done_stop(ctx, given[below(&r, 500)]);
    for (int i = 0; i < 50; i++) stopped += csp_ctx_on_done_stop(ctx, given[i]);
    for (int i = 499; i > 450; i--) stopped += csp_ctx_on_done_stop(ctx, given[i]);
    csp_ctx_cancel(ctx);
    csp_ctx_unref(ctx);
    csp_procs(4);
    for (int i = 0; i < rounds(300); i++, all += 24) {
        ctx = csp_ctx_with_cancel(csp_ctx_background());
        for (int k = 0; k < 3; k++)
            csp_go(registers_and_stops, csp_ctx_ref(ctx), 8, &ran, &stopped, done);
        csp_go(cancels, ctx, done);
        collect(done, 4);
    }
    EVENTUALLY(LOAD(&ran) + LOAD(&stopped) == all && csp_count() == 1);
    csp_unref(done);
}

static void *thread_uses_deadlines(void *arg)
{
    (void)arg;
    for (int i = 0; i < rounds(200); i++) {
        csp_ctx *ctx = csp_ctx_with_timeout(csp_ctx_background(), 200 * CSP_MICROSECOND);
        CHECK(!csp_recv(csp_ctx_done(ctx), NULL));
        CHECK_EQ(csp_ctx_status(ctx), CSP_TIMEOUT);
        csp_ctx_unref(ctx);
    }
    return NULL;
}

TEST_PLAIN(context, threads_alone_can_use_them)
{
    pthread_t t = thread_start(thread_uses_deadlines, NULL);
    thread_uses_deadlines(NULL);
    pthread_join(t, NULL);
}

TEST(context, misuse_panics)
{
    static const char key;
    int_chan done = csp_make(int, 0);
    csp_ctx *root = csp_ctx_background(), *ctx = csp_ctx_with_cancel(root);
    CHECK_PANICS("cannot create context from nil parent", csp_ctx_with_cancel(NULL));
    CHECK_PANICS("cannot create context from nil parent", csp_ctx_with_timeout(NULL, 1));
    CHECK_PANICS("cannot create context from nil parent", csp_ctx_with_deadline(NULL, 1));
    CHECK_PANICS("cannot create context from nil parent", csp_ctx_with_value(NULL, &key, NULL));
    CHECK_PANICS("nil key", csp_ctx_with_value(root, NULL, NULL));
    CHECK_PANICS("context is nil", csp_ctx_cancel(NULL));
    CHECK_PANICS("context is nil", csp_ctx_status(NULL));
    CHECK_PANICS("context is nil", (void)csp_ctx_done(NULL));
    CHECK_PANICS("context is nil", csp_ctx_on_done(NULL, nothing, NULL));
    CHECK_PANICS("context is nil", csp_ctx_ref(NULL));
    CHECK_PANICS("cancel of the background context", csp_ctx_cancel(root));
    void *before = last_receiver(csp_ctx_done(ctx));
    csp_go(waits_for_done, ctx, done);
    EVENTUALLY(last_receiver(csp_ctx_done(ctx)) != before);
    CHECK_PANICS("while a goroutine waits on it", csp_ctx_unref(ctx));
    csp_ctx_cancel(ctx); // it is as it was
    collect(done, 1);
    csp_unref(done);
}

static void uses_a_freed_context(void *arg)
{
    csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background());
    (void)arg;
    csp_ctx_unref(ctx);
    csp_ctx_status(ctx);
}

static void waits_for_a_cancel_that_never_comes(void *arg)
{
    csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background()),
            *gone = csp_ctx_with_timeout(ctx, CSP_HOUR);
    csp_ctx *timed = csp_ctx_with_timeout(ctx, 20 * CSP_MILLISECOND);
    (void)arg;
    csp_ctx_unref(gone); // its timer goes with it
    csp_ctx_cancel(gone = csp_ctx_with_timeout(ctx, CSP_HOUR));
    csp_recv(csp_ctx_done(timed), NULL); // not a deadlock
    say("done\n");
    csp_recv(csp_ctx_done(ctx), NULL);
}

CHILD(freed_context)
{
    csp_run(uses_a_freed_context, NULL);
}
CHILD(context_never_done)
{
    csp_run(waits_for_a_cancel_that_never_comes, NULL);
}

TEST_PLAIN(context, using_a_freed_one_panics_and_waiting_for_none_is_a_deadlock)
{
    outcome *o = run_child("freed_context", NULL);
    CHECK(o->code != 0);
    if (freed_memory_can_be_read()) CHECK_HAS(o->text, "use of a freed context");
    if (TSAN || emulated()) SKIP("others might still wake a goroutine");
    o = run_child("context_never_done", NULL);
    CHECK_CHILD(o, 2);
    CHECK_HAS(o->text, "done\n");
    CHECK_HAS(o->text, "all goroutines are asleep");
}

#if CSP_TEST_FEW < 1

/* ==========================================================================
 * group - goroutines that work on one thing
 * ======================================================================== */

typedef struct crew {
    csp_group *group;
    int running, most, ran;
} crew;

static int works(void *arg)
{
    crew *c = arg;
    int now = ADD(&c->running, 1), most = LOAD(&c->most);
    while (now > most && !__atomic_compare_exchange_n(&c->most, &most, now, false, __ATOMIC_SEQ_CST,
                                                      __ATOMIC_SEQ_CST))
        continue;
    for (int i = 0; i < 3; i++) csp_yield();
    ADD(&c->running, -1);
    ADD(&c->ran, 1);
    return 0;
}

static int exits_early(void *arg)
{
    ADD(&((crew *)arg)->ran, 1);
    csp_exit();
}

static int waits_for_the_end(void *arg)
{
    crew *c = arg;
    csp_recv(csp_ctx_done(csp_group_ctx(c->group)), NULL);
    ADD(&c->ran, 1);
    return 5;
}

static int returns_7(void *arg)
{
    (void)arg;
    return 7;
}

static int starts_more(void *arg)
{
    crew *c = arg;
    csp_yield();
    if (ADD(&c->ran, 1) < 100) csp_group_spawn(c->group, starts_more, c);
    if (LOAD(&c->ran) < 100) csp_group_spawn(c->group, works, c);
    return 0;
}

TEST(group, wait_waits_for_all_and_cancels_the_context)
{
    csp_procs(3);
    for (int i = 0; i < rounds(300); i++) {
        crew c = {.group = csp_group_new(NULL)};
        for (int k = 0; k < i % 30; k++) csp_group_spawn(c.group, works, &c);
        CHECK_EQ(csp_ctx_status(csp_group_ctx(c.group)), CSP_OK);
        CHECK_EQ(csp_group_wait(c.group), 0);
        CHECK_EQ(c.ran, i % 30);
        CHECK_EQ(csp_ctx_status(csp_group_ctx(c.group)), CSP_CANCELED);
        csp_group_free(c.group); // at once
    }
}

TEST(group, the_first_result_other_than_0_counts_and_ends_the_others)
{
    csp_ctx *parent = csp_ctx_with_cancel(csp_ctx_background());
    crew c = {.ran = 0};
    csp_procs(3);
    for (int i = 0; i < rounds(300); i++) {
        c = (crew){.group = csp_group_new(parent)};
        for (int k = 0; k < 5; k++) csp_group_spawn(c.group, waits_for_the_end, &c);
        csp_group_spawn(c.group, returns_7, NULL);
        CHECK_EQ(csp_select(CSP_DONE(csp_group_ctx(c.group)), CSP_AFTER(CSP_HOUR)), 0);
        csp_group_spawn(c.group, works, &c); // runs nevertheless
        CHECK_EQ(csp_group_wait(c.group), 7);
        CHECK_EQ(c.ran, 6);
        csp_group_free(c.group);
    }
    c.group = csp_group_new(parent);
    csp_group_spawn(c.group, returns_7, NULL);
    EVENTUALLY(csp_count() == 1);
    csp_group_free(c.group); // waiting is not required
    c.group = csp_group_new(parent);
    csp_group_spawn(c.group, waits_for_the_end, &c);
    csp_ctx_cancel(parent); // ends the group's too
    CHECK_EQ(csp_group_wait(c.group), 5);
    csp_group_free(c.group);
    csp_ctx_unref(parent);
}

static crew *shared_crew;
static void starts_work(int id, uint64_t r)
{
    (void)id;
    (void)r;
    for (int i = 0; i < rounds(200); i++) {
        csp_group_spawn(shared_crew->group, works, shared_crew);
        if (!csp_group_try_spawn(shared_crew->group, works, shared_crew)) ADD(&shared_crew->ran, 1);
    }
}

static void *thread_waits_for_group(void *arg)
{
    CHECK_EQ(csp_group_wait(((crew *)arg)->group), 0);
    return NULL;
}

TEST(group, goroutines_and_threads_start_and_wait_together_within_the_limit)
{
    csp_procs(3);
    for (int limit = -1; limit < 4; limit++) {
        crew c = {.group = csp_group_new(NULL)};
        shared_crew = &c;
        csp_group_set_limit(c.group, 0);
        CHECK(!csp_group_try_spawn(c.group, works, &c));
        CHECK_EQ(csp_group_spawn_until(c.group, csp_now(), works, &c), CSP_TIMEOUT);
        CHECK_EQ(c.ran, 0);
        csp_group_set_limit(c.group, limit == 0 ? 100 : limit);
        together(starts_work, 3, 1);
        pthread_join(thread_start(thread_waits_for_group, &c), NULL);
        CHECK_EQ(c.ran, 8 * rounds(200));
        CHECK(limit < 1 || c.most <= limit);
        csp_group_free(c.group);
    }
}

TEST(group, functions_may_start_functions_and_leave_by_exit)
{
    crew c = {.group = csp_group_new(NULL)};
    csp_procs(3);
    csp_group_spawn(c.group, starts_more, &c);
    CHECK_EQ(csp_group_wait(c.group), 0);
    CHECK(c.ran >= 100);
    csp_group_free(c.group);
    c = (crew){.group = csp_group_new(NULL)};
    csp_group_set_limit(c.group, 2);
    for (int i = 0; i < 20; i++) csp_group_spawn(c.group, i % 2 ? exits_early : works, &c);
    CHECK_EQ(csp_group_wait(c.group), 0);
    CHECK_EQ(c.ran, 20);
    csp_group_free(c.group);
}

csp_group_task(divides, int, a, int, b, int *, quotient)
{
    csp_yield();
    if (b == 0) return 7;
    ADD(quotient, a / b);
    return 0;
}

csp_group_task(leaves_early, wide, w, int *, n)
{
    ADD(n, w.bytes[299]);
    csp_exit();
}

static csp_chan(bool) group_gate;
csp_group_task(waits_at_the_gate)
{
    csp_recv(group_gate, NULL);
    return 0;
}

TEST(group, tasks_are_started_with_their_arguments)
{
    wide w = {{0}};
    int n = 0;
    w.bytes[299] = 2;
    CHECK_EQ(divides(84, 0, &n), 7); // a function as any other
    csp_group *group = csp_group_new(NULL);
    for (int i = 0; i < 100; i++) {
        csp_group_go(group, divides, 84, 2, &n);
        csp_group_go(group, leaves_early, w, &n);
    }
    CHECK(csp_group_try_go(group, divides, 84, 2, &n));
    CHECK_EQ(csp_group_go_until(group, 0, divides, 84, 2, &n), CSP_OK);
    CHECK_EQ(csp_group_wait(group), 0);
    CHECK_EQ(n, 102 * 42 + 200);
    CHECK_PANICS("csp_group_go after csp_group_wait", csp_group_go(group, divides, 1, 1, &n));
    csp_group_free(group);
    group = csp_group_new(NULL);
    csp_group_go(group, divides, 1, 0, &n);
    CHECK_EQ(csp_group_wait(group), 7);
    CHECK_EQ(csp_ctx_status(csp_group_ctx(group)), CSP_CANCELED);
    csp_group_free(group);
}

/* Goroutines of which each parent waits for its children. */
typedef struct growth {
    int children;    // of each parent
    int grown, most; // atomic: those that have begun and not ended, and the most of them
    int old;         // atomic: the most that began out of turn and had not ended
    int every, made; // not 0: a pause between old ones passes at each of so many, and at no other
} growth;

/* The time between two old ones, of which a busy machine would have too much. csp__sched.old_at is
 * 0 until an old one begins after that, and then so late that no pause passes. */
static void pauses(growth *t)
{
    if (ADD(&t->made, 1) % t->every == 0)
        STORE(&csp__sched.old_at, 0);
    else if (LOAD(&csp__sched.old_at) != 0)
        STORE(&csp__sched.old_at, CSP_FOREVER / 2);
}

static int grows(growth *t, int depth, const char *by);

csp_task(grows_in_waitgroup, growth *, t, int, depth, const char *, by, int *, sum)
{
    *sum = grows(t, depth, by);
}

csp_group_task(grows_in_group, growth *, t, int, depth, const char *, by, int *, sum)
{
    *sum = grows(t, depth, by);
    return 0;
}

static int grows(growth *t, int depth, const char *by)
{
    int sums[10] = {0}, sum = 1, now = ADD(&t->grown, 1), old = (int)LOAD(&csp__sched.nold);
    if (now > LOAD(&t->most)) STORE(&t->most, now);
    if (old > LOAD(&t->old)) STORE(&t->old, old);
    if (t->every != 0) pauses(t);
    if (depth > 0 && by[0] == 'w') {
        csp_waitgroup wg = {0};
        for (int i = 0; i < t->children; i++)
            csp_waitgroup_go(&wg, grows_in_waitgroup, t, depth - 1, by, &sums[i]);
        csp_waitgroup_wait(&wg);
    } else if (depth > 0) {
        csp_group *group = csp_group_new(NULL);
        for (int i = 0; i < t->children; i++)
            csp_group_go(group, grows_in_group, t, depth - 1, by, &sums[i]);
        csp_group_wait(group);
        csp_group_free(group);
    }
    for (int i = 0; i < t->children; i++) sum += sums[i];
    ADD(&t->grown, -1);
    return sum;
}

TEST(group, a_tree_of_goroutines_grows_depth_first)
{
    static const char *const by[] = {"waitgroups", "groups"};
    if (CSP_TORTURE) SKIP("runnable goroutines are shuffled");
    for (int i = 0; i < 2; i++) {
        growth t = {.children = 10};
        CHECK_EQ(grows(&t, 5, by[i]), 111111);
        CHECK_EQ(t.grown, 0);
        CHECK(t.most < 4000); // in breadth all parents, 11,111
    }
}

TEST(group, few_old_ones_join_a_tree_of_parents_that_wait)
{
    if (CSP_TORTURE) SKIP("runnable goroutines are shuffled");
    const int depth = TSAN ? 11 : 16; // gcc's has room for 8,128 stacks
    csp_procs(1);
    for (int i = 0; i < 2; i++) {
        growth t = {.children = 2, .every = i == 0 ? INT32_MAX : 1000};
        STORE(&csp__sched.old_at, CSP_FOREVER / 2);
        CHECK_EQ(grows(&t, depth, "waitgroups"), (2 << depth) - 1);
        if (i == 0) CHECK_EQ(t.old, CSP__OLD_MOST); // 0 without turns for old ones, else 550
        if (i == 1) CHECK(t.old > CSP__OLD_MOST && t.old <= CSP__OLD_MOST + t.made / t.every);
        CHECK(t.most < 3500); // of 65,535 parents; 4,000 when each turn takes the oldest
        CHECK_EQ(LOAD(&csp__sched.nold), 0);
    }
    STORE(&csp__sched.old_at, 0);
}

TEST(group, a_full_group_refuses_or_waits_until_a_time)
{
    csp_group *group = csp_group_new(NULL);
    int result = -1;
    group_gate = csp_make(bool, 0);
    csp_group_set_limit(group, 2);
    for (int i = 0; i < 2; i++) csp_group_go(group, waits_at_the_gate);
    CHECK(!csp_group_try_go(group, waits_at_the_gate));
    CHECK(!csp_group_try_spawn(group, returns_7, NULL));
    int64_t t = csp_now() + CSP_MILLISECOND;
    CHECK_EQ(csp_group_go_until(group, t, waits_at_the_gate), CSP_TIMEOUT);
    CHECK(csp_now() >= t);
    CHECK_EQ(csp_group_spawn_until(group, csp_now(), returns_7, NULL), CSP_TIMEOUT);
    CHECK_EQ(csp_group_wait_until(group, &result, csp_now() + CSP_MILLISECOND), CSP_TIMEOUT);
    CHECK_EQ(result, -1);
    CHECK_EQ(csp_ctx_status(csp_group_ctx(group)), CSP_OK); // as it was
    csp_send(group_gate, true);
    CHECK_EQ(csp_group_spawn_until(group, CSP_FOREVER, returns_7, NULL), CSP_OK);
    csp_close(group_gate);
    CHECK_EQ(csp_group_wait_until(group, &result, CSP_FOREVER), CSP_OK);
    CHECK_EQ(result, 7);
    CHECK_PANICS("csp_group_wait called twice", csp_group_wait(group));
    csp_group_free(group);
    csp_unref(group_gate);
}

TEST(group, misuse_panics)
{
    crew c = {.group = csp_group_new(NULL)};
    CHECK_PANICS("group is nil", csp_group_wait(NULL));
    CHECK_PANICS("group is nil", csp_group_spawn(NULL, works, &c));
    csp_group_spawn(c.group, waits_for_the_end, &c);
    CHECK_PANICS("modify limit while 1 goroutines in the group are still active",
                 csp_group_set_limit(c.group, 3));
    CHECK_PANICS("csp_group_free while 1", csp_group_free(c.group));
    csp_ctx_cancel(csp_group_ctx(c.group));
    CHECK_EQ(csp_group_wait(c.group), 5);
    CHECK_PANICS("csp_group_wait called twice", csp_group_wait(c.group));
    CHECK_PANICS("csp_group_spawn after csp_group_wait", csp_group_spawn(c.group, works, &c));
    CHECK_PANICS("csp_group_spawn after csp_group_wait", csp_group_try_spawn(c.group, works, &c));
    csp_group_free(c.group);
    csp_group_free(NULL);
}

static int panics_in_group(void *arg)
{
    (void)arg;
    csp_panic("nobody catches 456");
}

static void runs_a_panicking_group(void *arg)
{
    csp_group *g = csp_group_new(NULL);
    csp_group_spawn(g, panics_in_group, arg);
    csp_group_wait(g);
    block_forever(NULL);
}

CHILD(panic_in_group)
{
    csp_run(runs_a_panicking_group, NULL);
}

TEST_PLAIN(group, a_panic_in_a_function_ends_the_process)
{
    outcome *o = run_child("panic_in_group", NULL);
    CHECK_CHILD(o, 2);
    CHECK_HAS(o->text, "nobody catches 456");
    CHECK_HAS(o->text, "panics_in_group");
}

/* ==========================================================================
 * pool - items to be used again
 * ======================================================================== */

typedef struct reused {
    int owners, uses; // uses: not atomic; what is put happens before it is got
} reused;

static int items_alive;
static void *item_make(void *arg)
{
    ADD(&items_alive, 1);
    if (arg != NULL) ADD((int *)arg, 1);
    csp_yield(); // may do what a goroutine may do
    return calloc(1, sizeof(reused));
}

static void item_free(void *it)
{
    CHECK_EQ(LOAD(&((reused *)it)->owners), 0);
    ADD(&items_alive, -1);
    free(it);
}

TEST(pool, items_are_used_again_and_what_is_left_is_freed)
{
    enum { N = 1000 };
    int made = 0, back = 0;
    void *got[N];
    csp_pool *pool = csp_pool_new(item_make, item_free, &made);
    for (int i = 0; i < N; i++) CHECK((got[i] = csp_pool_get(pool)) != NULL);
    CHECK_EQ(made, N);
    for (int i = 0; i < N; i++) csp_pool_put(pool, got[i]);
    CHECK(items_alive > 0 && items_alive < N); // bounded
    back = items_alive;
    csp_pool_put(pool, NULL);
    for (int i = 0; i < back; i++) got[i] = csp_pool_get(pool);
    CHECK_EQ(made, N); // wherever they lie, they are found before a new one is made
    for (int i = 0; i < back; i++) csp_pool_put(pool, got[i]);
    csp_pool_free(pool);
    CHECK_EQ(items_alive, 0);
    pool = csp_pool_new(NULL, NULL, NULL);
    CHECK(csp_pool_get(pool) == NULL);
    csp_pool_put(pool, &made);
    CHECK(csp_pool_get(pool) == &made && csp_pool_get(pool) == NULL);
    for (int i = 0; i < N; i++) csp_pool_put(pool, &made);
    csp_pool_free(pool);
    csp_pool_free(NULL);
    CHECK_PANICS("pool is nil", csp_pool_get(NULL));
    CHECK_PANICS("pool is nil", csp_pool_put(NULL, &made));
}

static csp_pool *shared_pool;
static void uses_items(int id, uint64_t r)
{
    (void)id;
    reused *mine[20] = {NULL};
    for (int n = rounds(5000); n > 0; n--) {
        reused **it = &mine[below(&r, 20)];
        if (*it == NULL) {
            *it = csp_pool_get(shared_pool);
            CHECK_EQ(ADD(&(*it)->owners, 1), 1); // no other owner has it
            (*it)->uses++;
        } else {
            CHECK_EQ(ADD(&(*it)->owners, -1), 0);
            csp_pool_put(shared_pool, *it);
            *it = NULL;
        }
        if (below(&r, 10) == 0) csp_yield();
    }
    for (int i = 0; i < 20; i++)
        if (mine[i] != NULL) ADD(&mine[i]->owners, -1), csp_pool_put(shared_pool, mine[i]);
}

TEST(pool, no_item_is_given_to_two_at_once)
{
    shared_pool = csp_pool_new(item_make, item_free, NULL);
    for (int procs = 2; procs <= 8; procs *= 2) { // more than there were at first
        csp_procs(procs);
        together(uses_items, 6, 2);
    }
    csp_pool_free(shared_pool);
    CHECK_EQ(items_alive, 0);
}

/* ==========================================================================
 * map - a table for all goroutines and threads
 * ======================================================================== */

enum { KEYS = 300, PER_KEY = 1 << 20, MAP_USERS = 5 };
static struct {
    csp_map *map;
    void *values[KEYS]; // what should be there, NULL: nothing
} model;

/* A key of one's own: the same text never has the same address twice. */
static char *new_key(int k)
{
    char *key = malloc(32);
    CHECK(key != NULL);
    snprintf(key, 32, k % 3 ? "%d" : "a longer key, number %d", k);
    return key;
}

static void *new_value(int k, uint64_t *r)
{
    return (void *)((uintptr_t)k * PER_KEY + 1 + (uintptr_t)below(r, 5));
}

typedef struct visits {
    char keys[KEYS];
    int n, stop, store;
} visits;

static bool sees(const void *key, void *value, void *arg)
{
    visits *s = arg;
    int k = (int)((uintptr_t)value / PER_KEY);
    CHECK(k >= 0 && k < KEYS && s->keys[k]++ == 0); // at most once
    (void)key;                                      // may have been freed by now
    if (s->store) csp_map_delete(model.map, "nobody's"), csp_yield();
    return ++s->n != s->stop;
}

/* Each goroutine has the keys that are `id` modulo n to itself, reads the others', and compares
 * what it does with a plain table. Keys are freed as soon as their entries are gone. */
static void uses_the_map(int id, uint64_t r)
{
    char *keys[KEYS] = {NULL};
    void *v, **is = model.values;
    for (int n = rounds(6000); n > 0; n--) {
        int k = below(&r, KEYS / MAP_USERS) * MAP_USERS + id, what = below(&r, 20);
        char *key = new_key(k);
        void *value = new_value(k, &r), *was = is[k], *other = new_value(k, &r);
        bool had = was != NULL, same = had && was == other;
        v = key;
        if (what < 3) {
            csp_map_store(model.map, key, is[k] = value);
        } else if (what < 5) {
            CHECK_EQ(csp_map_load_or_store(model.map, key, value, &v), had);
            CHECK(v == (had ? was : value));
            if (!had) is[k] = value;
        } else if (what < 7) {
            CHECK_EQ(csp_map_swap(model.map, key, value, &v), had);
            CHECK(v == was);
            is[k] = value;
        } else if (what < 9) {
            CHECK_EQ(csp_map_compare_and_swap(model.map, key, other, value), same);
            if (same) is[k] = value;
        } else if (what < 11) {
            CHECK_EQ(csp_map_compare_and_delete(model.map, key, other), same);
            if (same) is[k] = NULL;
        } else if (what < 13) {
            CHECK_EQ(csp_map_load_and_delete(model.map, key, &v), had);
            CHECK(v == was);
            is[k] = NULL;
        } else if (what == 13) {
            csp_map_delete(model.map, key);
            is[k] = NULL;
        } else if (what == 14 && n % 8 == 0) {
            visits s = {.stop = below(&r, 3) ? -1 : 10, .store = n % 16 == 0};
            csp_map_range(model.map, sees, &s);
        } else {
            CHECK_EQ(csp_map_load(model.map, key, &v), had);
            CHECK(v == was);
        }
        if (had && is[k] == NULL) {
            memset(keys[k], 0, 32);
            free(keys[k]);
        }
        if (is[k] == NULL || had)
            free(key);
        else
            keys[k] = key;
        key = new_key(k = below(&r, KEYS)); // a key of any writer
        if (csp_map_load(model.map, key, &v)) CHECK_EQ((uintptr_t)v / PER_KEY, k);
        free(key);
    }
    for (int k = 0; k < KEYS; k++)
        if (k % MAP_USERS == id && is[k] != NULL) csp_map_delete(model.map, keys[k]), free(keys[k]);
}

TEST(map, does_what_a_locked_table_does)
{
    for (int procs = 2; procs <= 8; procs *= 2) {
        memset(model.values, 0, sizeof model.values);
        model.map = csp_map_new(CSP_MAP_STRINGS);
        csp_procs(procs);
        together(uses_the_map, MAP_USERS - 1, 1);
        CHECK_EQ(csp_map_len(model.map), 0);
        csp_map_free(model.map);
    }
}

static bool sums(const void *key, void *value, void *arg)
{
    CHECK(key == value);
    *(int64_t *)arg += (int64_t)(uintptr_t)value;
    return true;
}

static void stores_pointers(int id, uint64_t r)
{
    int n = rounds(20000);
    (void)r;
    for (int i = id * n + 1; i <= id * n + n; i++) {
        csp_map_store(model.map, (void *)(uintptr_t)i, (void *)(uintptr_t)i);
        if (i % 100 == 0) csp_yield();
    }
}

TEST(map, grows_is_cleared_and_counts)
{
    int64_t sum = 0, n = rounds(20000);
    model.map = csp_map_new(CSP_MAP_POINTERS);
    csp_procs(3);
    for (int round = 0; round < 3; round++) {
        together(stores_pointers, 3, 1);
        CHECK_EQ(csp_map_len(model.map), 4 * n);
        csp_map_range(model.map, sums, &sum);
        CHECK_EQ(sum, 4 * n * (4 * n + 1) / 2);
        csp_map_clear(model.map);
        CHECK_EQ(csp_map_len(model.map), sum = 0);
        csp_map_range(model.map, sums, &sum);
        CHECK(!csp_map_load(model.map, (void *)1, NULL) && sum == 0);
    }
    csp_map_store(model.map, NULL, NULL); // a pointer as others
    CHECK(csp_map_load(model.map, NULL, NULL) && csp_map_len(model.map) == 1);
    csp_map_free(model.map);
}

/* ---- readers: what they may be looking at is not freed ---- */

typedef struct remover {
    const char *key;
    int done, clears;
} remover;

static void *takes_away(void *arg)
{
    remover *r = (remover *)arg;
    if (r->clears)
        csp_map_clear(model.map);
    else
        csp_map_delete(model.map, r->key);
    STORE(&r->done, 1);
    return NULL;
}

/* Belongs to csp.h for the sanitizers: a reader between its first step and its last, see there,
 * while the key of hash h is taken away. Waits for the end of that, or sees for a while that there
 * is none. */
CSP__FN CSP__NOINLINE void reads_meanwhile(csp__shard *s, uint64_t h, remover *r, bool holds_up)
{
    csp__m *m = csp__enter();
    csp__p *p = m->p;
    csp__release(&p->reading, s);
    csp__release(&p->reading_hash, h);
    csp__seq_set(&p->reads, p->reads + 1);
    pthread_t thread = thread_start(takes_away, r);
    while (LOAD(&s->live) != 0) continue;
    if (holds_up)
        for (int64_t end = clock_now() + CSP_MILLISECOND; clock_now() < end;)
            CHECK(!LOAD(&r->done));
    else
        while (!LOAD(&r->done)) continue;
    csp__release(&p->reads, p->reads + 1);
    csp__leave(m);
    pthread_join(thread, NULL);
}

TEST(map, who_takes_away_waits_for_those_who_may_be_reading_it_and_for_no_others)
{
    model.map = csp_map_new(CSP_MAP_STRINGS);
    for (int i = 0; i < 40; i++) {
        remover r = {.key = "a key", .clears = i % 2};
        uint64_t h = csp__map_hash(model.map, r.key);
        csp__shard *s = csp__map_shard(model.map, h);
        csp_map_store(model.map, r.key, NULL);
        switch (i / 2 % 4) {
        case 0: reads_meanwhile(s, h, &r, true); break;
        case 1: reads_meanwhile(s, h ^ 1, &r, r.clears); break; // another key of the same table
        case 2: reads_meanwhile(&model.map->shards[s == model.map->shards], h, &r, false); break;
        default: takes_away(&r); // without a reader
        }
        csp_map_clear(model.map);
    }
    csp_map_free(model.map);
}

TEST(map, a_goroutine_that_computes_after_a_lookup_does_not_stop_the_others)
{
    int n = 0;
    model.map = csp_map_new(CSP_MAP_POINTERS);
    csp_procs(1);
    for (int i = 1; i <= 3; i++) {
        csp_spawn(bump, &n);
        CHECK(!csp_map_load(model.map, &n, NULL));
        while (LOAD(&n) < i) continue;
    }
    csp_map_free(model.map);
}

TEST(map, misuse_panics)
{
    csp_map *map = csp_map_new(CSP_MAP_STRINGS);
    CHECK_PANICS("map is nil", csp_map_load(NULL, "", NULL));
    CHECK_PANICS("map is nil", csp_map_len(NULL));
    CHECK_PANICS("nil key", csp_map_store(map, NULL, NULL));
    CHECK_PANICS("neither", csp_map_new((csp_map_keys)7));
    csp_map_free(map);
    csp_map_free(NULL);
}

/* ==========================================================================
 * join - work that is forked and joined, and loops made of it
 * ======================================================================== */

csp_task(fork_fib, int, n, long *, result)
{
    long a, b;
    if (n < 2) {
        *result = n;
        return;
    }
    csp_fork(other, fork_fib, n - 1, &a);
    fork_fib(n - 2, &b);
    csp_join(other);
    *result = a + b;
}

TEST(join, a_tree_gives_its_sum_at_any_number_of_processors)
{
    for (int procs = 1; procs <= 4; procs++) {
        long result = 0;
        csp_procs(procs);
        fork_fib(20, &result);
        CHECK_EQ(result, 6765);
    }
}

csp_task(fork_adds, int *, sum, int, n)
{
    ADD(sum, n);
}

static int forks_and_returns(int *sum)
{
    csp_fork(left, fork_adds, sum, 1);
    csp_fork(right, fork_adds, sum, 2);
    return 7;
}

static void forks_and_exits(void *sum)
{
    csp_fork(left, fork_adds, sum, 1);
    {
        csp_fork(right, fork_adds, sum, 2);
        csp_exit();
    }
}

TEST(join, a_block_joins_however_it_is_left)
{
    int sum = 0;
    {
        csp_fork(here, fork_adds, &sum, 1);
    }
    CHECK_EQ(sum, 1);
    CHECK_EQ(forks_and_returns(&sum), 7);
    CHECK_EQ(sum, 4);
    for (int i = 0; i < 3; i++) {
        csp_fork(here, fork_adds, &sum, 1);
        if (i == 0) continue;
        if (i == 1) break;
    }
    CHECK_EQ(sum, 6);
    CHECK_PANICS("left", csp_fork(here, fork_adds, &sum, 1); csp_panic("left"));
    CHECK_EQ(sum, 7);
    csp_waitgroup wg = {0};
    csp_waitgroup_spawn(&wg, forks_and_exits, &sum);
    csp_waitgroup_wait(&wg);
    CHECK_EQ(sum, 10);
}

TEST(join, a_join_of_what_has_been_joined_does_nothing)
{
    int sum = 0;
    csp_fork(once, fork_adds, &sum, 1);
    csp_join(once);
    csp_join(once);
    CHECK_EQ(sum, 1);
}

TEST(join, joins_come_in_any_order)
{
    for (int round = 0; round < rounds(2000); round++) {
        uint64_t s = stream(round);
        int sum = 0;
        unsigned left = 15;
        csp_procs(1 + round % 3);
        csp_fork(a, fork_adds, &sum, 1);
        csp_fork(b, fork_adds, &sum, 10);
        csp_fork(c, fork_adds, &sum, 100);
        csp_fork(d, fork_adds, &sum, 1000);
        while (left != 0) {
            unsigned which = (unsigned)below(&s, 4);
            if (which == 0) csp_join(a);
            if (which == 1) csp_join(b);
            if (which == 2) csp_join(c);
            if (which == 3) csp_join(d);
            left &= ~(1u << which);
            for (unsigned k = 0, n = 1; k < 4; k++, n *= 10)
                if (!(left & 1u << k)) CHECK(LOAD(&sum) / (int)n % 10 == 1);
        }
        CHECK_EQ(sum, 1111);
    }
}

/* ---- thieves ---- */

csp_task(fork_notes, int *, order, int *, turn, int *, go_on)
{
    STORE(order, ADD(turn, 1));
    while (LOAD(go_on) == 0) csp_yield();
}

TEST(join, an_idle_processor_takes_the_oldest_while_the_owner_computes)
{
    int order[3] = {0}, turn = 0, go_on = 0;
    csp_procs(2);
    {
        csp_fork(oldest, fork_notes, &order[0], &turn, &go_on);
        csp_fork(newer, fork_notes, &order[1], &turn, &go_on);
        csp_fork(newest, fork_notes, &order[2], &turn, &go_on);
        int64_t limit = clock_now() + 10 * CSP_SECOND;
        while (LOAD(&order[0]) == 0 && clock_now() < limit) continue; // no call of csp
        CHECK_EQ(LOAD(&order[0]), 1);
        STORE(&go_on, 1);
    }
    CHECK(order[1] != 0 && order[2] != 0);
}

csp_task(fork_sends, csp_sender(int), c, int, v)
{
    csp_send(c, v);
}

TEST(join, what_a_goroutine_that_waits_has_forked_is_taken)
{
    for (int procs = 1; procs <= 3; procs++) {
        int_chan c = csp_make(int, 0);
        int v = 0;
        csp_procs(procs);
        csp_fork(work, fork_sends, csp_send_end(c), 5);
        csp_recv(c, &v); // before the join: with one processor this goroutine's is the thief
        csp_join(work);
        CHECK_EQ(v, 5);
        csp_unref(c);
    }
}

TEST(join, what_a_goroutine_that_waits_has_forked_is_taken_without_a_membarrier)
{
    csp__add(&csp__sched.wanted, 1); // a membarrier is another thread's turn
    for (int procs = 1; procs <= 3; procs++) {
        int_chan c = csp_make(int, 0);
        int v = 0;
        csp_procs(procs);
        csp_fork(work, fork_sends, csp_send_end(c), 5);
        csp_fork(more, fork_sends, csp_send_end(c), 5);
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(csp_recv_until(c, &v, csp_now() + 20 * CSP_SECOND), CSP_OK);
            CHECK_EQ(v, 5);
        }
        csp_join(more);
        csp_join(work);
        csp_unref(c);
    }
    csp__add(&csp__sched.wanted, (uint32_t)-1);
}

csp_task(fork_id, uint64_t *, id)
{
    *id = csp_id();
}

TEST(join, what_nobody_takes_is_a_plain_call)
{
    uint64_t id = 0;
    csp_procs(1);
    csp_fork(work, fork_id, &id);
    csp_join(work);
    CHECK_EQ(id, csp_id());
}

/* Sends, so that the caller can wait until it has been taken. */
csp_task(fork_panics, csp_sender(int), c, int, n)
{
    if (c != NULL) csp_send(c, 1);
    csp_panic("forked %d", n);
}

csp_task(fork_exits, csp_sender(int), c)
{
    if (c != NULL) csp_send(c, 1);
    csp_exit();
}

static void joins_what_exits(void *c)
{
    csp_fork(work, fork_exits, c == NULL ? NULL : csp_send_end(*(int_chan *)c));
    if (c != NULL) csp_recv(*(int_chan *)c, NULL);
    csp_join(work);
    FAIL("the join returned");
}

TEST(join, a_panic_and_an_exit_arrive_at_the_join)
{
    int_chan c = csp_make(int, 0);
    csp_procs(2);
    CHECK_PANICS("forked 1", csp_fork(work, fork_panics, NULL, 1); csp_join(work));
    CHECK_PANICS("forked 2", csp_fork(work, fork_panics, csp_send_end(c), 2); csp_recv(c, NULL);
                 csp_join(work));
    CHECK_PANICS("forked 3", csp_fork(work, fork_panics, csp_send_end(c), 3); csp_recv(c, NULL));
    csp_waitgroup wg = {0};
    csp_waitgroup_spawn(&wg, joins_what_exits, NULL);
    csp_waitgroup_spawn(&wg, joins_what_exits, &c);
    csp_waitgroup_wait(&wg);
    csp_unref(c);
}

static char fork_order[16];
static void fork_letter(void *letter)
{
    size_t n = strlen(fork_order);
    fork_order[n] = *(char *)letter;
}

csp_task(fork_writes, char *, letter)
{
    fork_letter(letter);
}

static void forks_between_defers(bool panics)
{
    char letters[] = "abcde";
    memset(fork_order, 0, sizeof fork_order);
    csp_defer(fork_letter, &letters[0]);
    csp_fork(b, fork_writes, &letters[1]);
    csp_defer(fork_letter, &letters[2]);
    csp_try
    {
        csp_fork(d, fork_writes, &letters[3]);
        csp_defer(fork_letter, &letters[4]);
        if (panics) csp_panic("within");
    }
    csp_catch(p) CHECK_EQ(strlen(fork_order), 2);
    if (panics) csp_panic("outside");
}

TEST(join, joins_and_defers_take_turns_when_blocks_are_left)
{
    csp_procs(1);
    forks_between_defers(false);
    CHECK(strcmp(fork_order, "edcba") == 0);
    CHECK_PANICS("outside", forks_between_defers(true));
    CHECK(strcmp(fork_order, "edcba") == 0);
}

static void fork_unrefs(void *c)
{
    csp_unref((int_chan)c);
}

/* In a function of its own: a local of the caller's could be clobbered by the jump. */
static void forks_a_panic(void)
{
    CHECK_PANICS("forked", csp_fork(bad, fork_panics, NULL, 1); csp_yield());
}

/* A tree whose nodes yield, wait for each other and for time, start goroutines and panic. */
csp_task(fork_tree, uint64_t, r, int, depth, int *, leaves)
{
    uint64_t s = r;
    if (depth == 0) {
        ADD(leaves, 1);
        return;
    }
    int_chan c = csp_make(int, 1);
    csp_defer(fork_unrefs, (void *)c);
    csp_fork(left, fork_tree, csp__random(&s), depth - 1, leaves);
    switch (below(&s, 8)) {
    case 0: csp_yield(); break;
    case 1: csp_sleep(below(&s, 20000)); break;
    case 2: {
        csp_fork(sends, fork_sends, csp_send_end(c), 1);
        csp_recv(c, NULL);
        break;
    }
    case 3:
        csp_go(fork_sends, csp_send_end(c), 1);
        csp_recv(c, NULL);
        break;
    case 4: forks_a_panic(); break;
    default: break;
    }
    csp_fork(right, fork_tree, csp__random(&s), depth - 1, leaves);
    if (below(&s, 2)) csp_join(left);
    if (below(&s, 4) == 0) csp_yield();
}

static void fork_trees(int id, uint64_t r)
{
    for (int i = 0; i < rounds(30); i++) {
        int leaves = 0;
        fork_tree(r + (uint64_t)i, 7, &leaves);
        CHECK_EQ(leaves, 128);
    }
    (void)id;
}

TEST(join, trees_of_many_goroutines_and_threads_that_wait_and_panic_come_out_right)
{
    for (int procs = 1; procs <= 4; procs++) {
        csp_procs(procs);
        together(fork_trees, 4, 2);
    }
}

/* Small pieces: the owner and a thief come to the same record all the time. */
csp_task(fork_counts, int *, n, int, spin)
{
    for (volatile int i = 0; i < spin; i++) continue;
    ADD(n, 1);
}

TEST(join, an_owner_and_a_thief_that_come_to_one_record_agree)
{
    int n = rounds(300000), done = 0;
    uint64_t s = stream(0);
    csp_procs(3);
    for (int i = 0; i < n; i++) {
        csp_fork(outer, fork_counts, &done, (int)below(&s, 60));
        {
            csp_fork(inner, fork_counts, &done, (int)below(&s, 60));
            for (volatile int k = (int)below(&s, 300); k > 0; k--) continue;
        }
        if (i % 64 == 0) // old enough to be taken
            for (int64_t t = clock_now() + 4000 + (int64_t)below(&s, 8000); clock_now() < t;)
                continue;
    }
    CHECK_EQ(done, 2 * n);
}

/* ---- threads, runs, processes ---- */

static void *thread_fibs(void *result)
{
    fork_fib(15, result);
    return NULL;
}

TEST_PLAIN(join, threads_of_the_program_fork_too_and_so_do_runs_one_after_the_other)
{
    for (int i = 0; i < 5; i++) {
        long here = 0, there[2] = {0};
        pthread_t t[2];
        for (int k = 0; k < 2; k++) t[k] = thread_start(thread_fibs, &there[k]);
        fork_fib(15, &here);
        for (int k = 0; k < 2; k++) pthread_join(t[k], NULL);
        CHECK(here == 610 && there[0] == 610 && there[1] == 610);
        csp_shutdown();
    }
}

/* The longest time for which a thread that looks at its clock all the time had no CPU. */
typedef struct no_cpu {
    int64_t last, most;
} no_cpu;

static void no_cpu_look(no_cpu *n)
{
    int64_t now = clock_now();
    if (now - n->last > n->most) n->most = now - n->last;
    n->last = now;
}

csp_task(fork_computes, int *, begun, int *, enough, no_cpu *, n)
{
    n->last = clock_now();
    STORE(begun, 1);
    while (!LOAD(enough)) no_cpu_look(n);
}

csp_task(fork_is_asked, int, listener, int_chan, done)
{
    int fd = csp_accept(listener);
    csp_close_fd(fd);
    csp_send(done, fd);
}

/* Nor does a timer that is not due, or one that waits for a descriptor, cost them theirs. A round
 * counts when neither was without a CPU for so long that it looked like one that blocks. */
TEST(join, an_owner_and_a_thief_that_compute_keep_their_processors)
{
    if (CSP_TORTURE) SKIP("its monitor takes half of them");
    if (under_valgrind() || under_wine()) SKIP("a computing thread does not look like one");
    int counted = 0;
    int_chan done = csp_make(int, 1);
    csp_address here;
    int listener = csp_listen("127.0.0.1:0");
    CHECK(listener >= 0 && csp_local_address(listener, &here) == 0);
    csp_procs(2);
    csp_timer *later = csp_after_func(CSP_HOUR, send_one, &done);
    csp_go(fork_is_asked, listener, done);
    for (int i = 0; i < 20 && counted < 3; i++) {
        int begun = 0, enough = 0;
        no_cpu mine = {0, 0}, other = {0, 0};
        csp_stats before, after;
        csp_fork(work, fork_computes, &begun, &enough, &other);
        while (!LOAD(&begun)) csp_yield();
        mine.last = clock_now();
        csp_get_stats(&before);
        for (int64_t end = mine.last + 60 * CSP_MILLISECOND; mine.last < end;) no_cpu_look(&mine);
        csp_get_stats(&after);
        no_cpu_look(&mine);
        STORE(&enough, 1);
        csp_join(work);
        if (mine.most > 10 * CSP_MILLISECOND || other.most > 10 * CSP_MILLISECOND) continue;
        CHECK_EQ(after.handoffs - before.handoffs, 0);
        counted++;
    }
    int fd = csp_dial(here.text), asked = -1;
    CHECK(fd >= 0 && csp_recv(done, &asked) && asked >= 0);
    csp_close_fd(fd);
    csp_close_fd(listener);
    csp_timer_free(later);
    csp_unref(done);
    if (counted == 0) SKIP("other programs had the CPUs in each round");
}

csp_task(fork_ticks, int *, ticks, int *, stop)
{
    for (; !LOAD(stop); ADD(ticks, 1)) csp_sleep(5 * CSP_MILLISECOND);
}

csp_task(fork_computes_until, int *, ticks, int, enough)
{
    while (LOAD(ticks) < enough) continue;
}

/* Both processors compute until a sleeper has woken often enough. */
TEST(join, a_sleeper_beside_an_owner_and_a_thief_that_compute_wakes_up)
{
    for (int procs = 1; procs <= 2; procs++) {
        int ticks = 0, stop = 0;
        csp_procs(procs);
        csp_go(fork_ticks, &ticks, &stop);
        while (LOAD(&ticks) < 2) csp_yield();
        csp_fork(work, fork_computes_until, &ticks, 20);
        fork_computes_until(&ticks, 20);
        csp_join(work);
        STORE(&stop, 1);
        EVENTUALLY(csp_count() == 1);
    }
}

csp_task(fork_sets, int *, at)
{
    STORE(at, 1);
}

/* The only processor. Without it no other goroutine and no fork would run. */
TEST(join, a_goroutine_that_waits_gets_the_processor_of_an_owner_that_computes)
{
    int ran = 0, other = 0;
    csp_procs(1);
    csp_fork(work, fork_sets, &other);
    csp_go(fork_sets, &ran);
    while (!LOAD(&ran)) continue;
    csp_join(work);
    CHECK_EQ(other, 1);
}

#ifndef _WIN32
csp_task(fork_feeds, int, fd)
{
    CHECK(write(fd, "x", 1) == 1);
}

TEST(join, an_owner_that_blocks_in_the_system_leaves_its_processor_to_its_forks)
{
    int fds[2];
    char byte = 0;
    csp_procs(1);
    CHECK(pipe(fds) == 0);
    {
        csp_fork(work, fork_feeds, fds[1]);
        CHECK(read(fds[0], &byte, 1) == 1);
    }
    CHECK_EQ(byte, 'x');
    close(fds[0]);
    close(fds[1]);
}
#endif

static int_chan fork_went;

csp_task(fork_stays, int *, sum)
{
    ADD(sum, 1);
    csp_send(fork_went, 1);
    csp_recv((int_chan)NULL, NULL);
}

TEST_PLAIN(join, of_what_a_shutdown_has_dropped_panics)
{
    int sum = 0;
    fork_went = csp_make(int, 0);
    csp_procs(1);
    CHECK_PANICS("when the runtime ended", {
        csp_fork(taken, fork_stays, &sum);
        csp_recv(fork_went, NULL);
        csp_fork(left, fork_adds, &sum, 10);
        csp_shutdown();
        csp_join(left);
        CHECK_EQ(sum, 11);
        csp_join(taken);
    });
    csp_shutdown();
}

#ifndef _WIN32
static void forks_twice(void *arg)
{
    long result = 0;
    (void)arg;
    csp_procs(2);
    fork_fib(16, &result);
    int sum = 0, status;
    csp_fork(early, fork_adds, &sum, 1);
    csp_join(early);
    pid_t pid = fork();
    if (pid == 0) {
        fork_fib(16, &result);
        _exit(result == 987 ? 3 : 4);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(WEXITSTATUS(status), 3);
}

CHILD(forks_work_and_a_process)
{
    csp_run(forks_twice, NULL);
}

TEST_PLAIN(join, the_child_of_a_process_forks_work)
{
    if (TSAN) SKIP("the thread sanitizer wants no threads in the child of a fork");
    if (emulated()) SKIP("an emulator does not fork well from threads");
    CHECK_CHILD(run_child("forks_work_and_a_process", NULL), 0);
}
#endif

csp_task(fork_blocks, int, n)
{
    (void)n;
    csp_recv((int_chan)NULL, NULL);
}

static void fork_dead(void *joins)
{
    long result;
    fork_fib(12, &result); // what has been known is not work for ever
    if (joins == NULL) csp_recv((int_chan)NULL, NULL);
    csp_fork(work, fork_blocks, 1);
    csp_join(work);
}

static void fork_dead_bound(void *arg)
{
    csp_lock_thread();
    fork_dead(arg);
}

CHILD(deadlock_after_forks)
{
    csp_run(fork_dead, NULL);
}
CHILD(deadlock_in_a_fork)
{
    csp_run(fork_dead, (void *)1);
}
CHILD(deadlock_after_forks_when_bound)
{
    csp_run(fork_dead_bound, NULL);
}

TEST_PLAIN(join, a_deadlock_is_found_beside_forks)
{
    if (emulated()) SKIP("an emulator does not count the threads");
    if (TSAN) SKIP("the thread sanitizer's own thread might wake a goroutine");
    const char *const children[] = {"deadlock_after_forks", "deadlock_in_a_fork",
                                    "deadlock_after_forks_when_bound"};
    for (int i = 0; i < 3; i++) {
        outcome *o = run_child(children[i], NULL);
        CHECK_CHILD(o, 2);
        CHECK_HAS(o->text, "deadlock");
    }
}

/* ---- loops ---- */

csp_task(loop_marks, int64_t, from, int64_t, to, unsigned char *, marks, int64_t, grain)
{
    CHECK(from < to && (grain == 0 || to - from <= grain));
    for (int64_t i = from; i < to; i++) ADD(&marks[i], 1);
}

TEST(join, a_loop_comes_to_each_item_once)
{
    static unsigned char marks[5000];
    static const int64_t grains[] = {0, 1, 2, 7, 100, 4999, 5000, INT64_MAX};
    for (int procs = 1; procs <= 3; procs++)
        for (size_t k = 0; k < sizeof grains / sizeof *grains; k++)
            for (int64_t n = 0; n <= 5000; n = 3 * n + 1) {
                csp_procs(procs);
                memset(marks, 0, sizeof marks);
                csp_for(0, n, grains[k], loop_marks, marks, grains[k]);
                for (int64_t i = 0; i < 5000; i++) CHECK_EQ(marks[i], i < n);
            }
}

csp_task(loop_counts, int64_t, from, int64_t, to, uint64_t *, n)
{
    ADD(n, (uint64_t)to - (uint64_t)from);
}

csp_task(loop_nests, int64_t, from, int64_t, to, uint64_t *, n)
{
    for (int64_t i = from; i < to; i++) csp_for(i, 1000, 0, loop_counts, n);
}

TEST(join, loops_nest_and_know_no_bounds)
{
    uint64_t n = 0;
    csp_for(0, 1000, 1, loop_nests, &n);
    CHECK_EQ(n, 500500);
    n = 0;
    csp_for(INT64_MIN, INT64_MAX, INT64_MAX / 8, loop_counts, &n);
    CHECK(n == UINT64_MAX);
    n = 0;
    csp_for(-3, -3, 0, loop_counts, &n);
    CHECK_EQ(n, 0);
}

TEST(join, a_loop_that_makes_no_sense_panics)
{
    uint64_t n = 0;
    CHECK_PANICS("csp_for from 2 to 1", csp_for(2, 1, 0, loop_counts, &n));
    CHECK_PANICS("csp_for with a grain of -1", csp_for(1, 2, -1, loop_counts, &n));
    CHECK_EQ(n, 0);
}

csp_task(loop_fails, int64_t, from, int64_t, to, int64_t, bad, int *, parts)
{
    ADD(parts, 1);
    csp_yield();
    if (from <= bad && bad < to) csp_panic("item %lld", (long long)bad);
}

TEST(join, a_panic_ends_a_loop_early)
{
    for (volatile int64_t bad = 0; bad < 100000; bad = 3 * bad + 1) {
        int parts = 0;
        csp_procs(1 + (int)(bad % 3));
        CHECK_PANICS("item", csp_for(0, 1000000000, 1, loop_fails, bad, &parts));
        CHECK(parts < 500000000);
    }
}

csp_task(loop_exits, int64_t, from, int64_t, to, int *, parts)
{
    (void)from, (void)to;
    ADD(parts, 1);
    csp_exit();
}

static void loops_and_exits(void *parts)
{
    csp_for(0, 1000000000, 1, loop_exits, parts);
    FAIL("the loop returned");
}

TEST(join, an_exit_ends_a_loop_and_its_caller)
{
    int parts = 0;
    csp_waitgroup wg = {0};
    csp_waitgroup_spawn(&wg, loops_and_exits, &parts);
    csp_waitgroup_wait(&wg);
    CHECK(parts < 1000);
}

#endif // CSP_TEST_FEW < 1

/* ==========================================================================
 * thread - threads of the program beside goroutines
 * ======================================================================== */

typedef struct lane {
    csp_chan(int64_t) c;
    int from, n;
} lane;

static void *thread_sends_range(void *arg)
{
    lane *l = arg;
    for (int64_t i = l->from; i < l->from + l->n; i++) csp_send(l->c, i);
    return NULL;
}

static void *thread_adds_up(void *arg)
{
    lane *l = arg;
    csp_chan(int64_t) sums = l[1].c;
    int64_t sum = 0;
    csp_range(v, l->c) sum += v;
    csp_send(sums, sum);
    return NULL;
}

TEST(thread, threads_and_goroutines_send_and_receive_together)
{
    for (int cap = 0; cap <= 4; cap += 2) {
        int n = rounds(2000);
        csp_chan(int64_t) c = csp_make(int64_t, cap), sums = csp_make(int64_t, 8);
        int_chan done = csp_make(int, 8);
        lane lanes[4] = {{c, 0, n}, {c, n, n}, {c, 0, 0}, {sums, 0, 0}};
        pthread_t t[4];
        int64_t all = 0, sum = 0, last = 4 * n;
        csp_procs(1 + cap / 2);
        for (int i = 0; i < 4; i++)
            t[i] = thread_start(i < 2 ? thread_sends_range : thread_adds_up, &lanes[i < 2 ? i : 2]);
        csp_go(sends_range, c, 2 * n, n, done);
        csp_go(sends_range, c, 3 * n, n, done);
        csp_go(adds_up, c, sums);
        collect(done, 2);
        pthread_join(t[0], NULL);
        pthread_join(t[1], NULL);
        csp_close(c);
        for (int i = 0; i < 3; i++) CHECK(csp_recv(sums, &sum)), all += sum;
        pthread_join(t[2], NULL);
        pthread_join(t[3], NULL);
        CHECK_EQ(all, last * (last - 1) / 2);
        csp_unref(c);
        csp_unref(sums);
        csp_unref(done);
    }
}

static void *thread_echoes(void *arg)
{
    int_chan *c = arg;
    csp_range(v, c[0]) csp_send(c[1], v);
    csp_close(c[1]);
    return NULL;
}

TEST(thread, a_thread_and_a_goroutine_play_ping_pong)
{
    int_chan c[2] = {csp_make(int, 0), csp_make(int, 0)};
    pthread_t t = thread_start(thread_echoes, c);
    for (int i = 0; i < rounds(5000); i++) {
        int v = -1;
        csp_send(c[0], i);
        CHECK(csp_recv(c[1], &v) && v == i);
    }
    csp_close(c[0]);
    CHECK(!csp_recv(c[1], NULL));
    pthread_join(t, NULL);
    csp_unref(c[0]);
    csp_unref(c[1]);
}

TEST_PLAIN(thread, two_threads_need_no_goroutine)
{
    int_chan c[2] = {csp_make(int, 0), csp_make(int, 1)};
    pthread_t t = thread_start(thread_echoes, c);
    for (int i = 0; i < rounds(5000); i++) {
        int v = -1;
        if (i % 2)
            csp_send(c[0], i);
        else
            CHECK_EQ(csp_select(CSP_SEND(c[0], i), CSP_RECV(c[1], NULL)), 0);
        if (i % 3)
            CHECK(csp_recv(c[1], &v) && v == i);
        else
            CHECK(csp_select(CSP_RECV(c[0], NULL), CSP_RECV(c[1], &v), CSP_AFTER(CSP_HOUR)) == 1 &&
                  v == i);
    }
    csp_close(c[0]);
    CHECK(!csp_recv(c[1], NULL));
    pthread_join(t, NULL);
    csp_unref(c[0]);
    csp_unref(c[1]);
}

static void *thread_spawns(void *n)
{
    for (int i = 0; i < rounds(1000); i++) csp_spawn(bump, n);
    return NULL;
}

TEST(thread, threads_start_goroutines)
{
    int n = 0;
    pthread_t t[8];
    csp_procs(3);
    for (int i = 0; i < 8; i++) t[i] = thread_start(thread_spawns, &n);
    EVENTUALLY(LOAD(&n) == 8 * rounds(1000));
    for (int i = 0; i < 8; i++) pthread_join(t[i], NULL);
    EVENTUALLY(csp_count() == 1);
}

TEST_PLAIN(thread, several_threads_may_be_the_first_to_use_csp)
{
    for (int k = 0; k < 10; k++) {
        int n = 0;
        pthread_t t[4];
        for (int i = 0; i < 4; i++) t[i] = thread_start(thread_spawns, &n);
        for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
        EVENTUALLY(LOAD(&n) == 4 * rounds(1000));
        csp_shutdown();
        CHECK(threads_are_gone());
    }
}

static void *thread_looks_around(void *arg)
{
    int_chan c = *(int_chan *)arg;
    int v = 0;
    uint64_t me = csp_id();
    CHECK(me != 0 && csp_local_get(&first_local) == NULL);
    csp_local_set(&first_local, arg);
    csp_set_name("a thread");
    csp_lock_thread();
    csp_yield();
    csp_unlock_thread();
    int64_t t = csp_now();
    csp_sleep(100 * CSP_MICROSECOND);
    CHECK(csp_now() >= t + 100 * CSP_MICROSECOND);
    t = csp_now() + 100 * CSP_MICROSECOND;
    CHECK_EQ(csp_recv_until((int_chan)NULL, &v, t), CSP_TIMEOUT);
    CHECK(csp_now() >= t);
    CHECK_EQ(csp_select(CSP_RECV((int_chan)NULL, &v), CSP_AFTER(1000)), 1);
    CHECK(csp_local_get(&first_local) == arg && csp_id() == me);
    CHECK_PANICS("x", csp_panic("x"));
    csp_send(c, 1);
    return NULL;
}

TEST(thread, short_lived_threads_may_do_everything)
{
    int_chan c = csp_make(int, 0);
    for (int k = 0; k < rounds(50); k++) {
        pthread_t t[4];
        for (int i = 0; i < 4; i++) t[i] = thread_start(thread_looks_around, &c);
        collect(c, 4);
        for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    }
    CHECK_EQ(csp_count(), 1);
    csp_unref(c);
}

static void *thread_closes(void *c)
{
    csp_close(*(int_chan *)c);
    return NULL;
}

TEST(thread, a_thread_closes_what_goroutines_wait_on)
{
    for (int k = 0; k < rounds(100); k++) {
        int_chan c = csp_make(int, 0), done = csp_make(int, 10);
        for (int i = 0; i < 10; i++) csp_go(finds_closed, c, done);
        pthread_t t = thread_start(thread_closes, &c);
        CHECK(!csp_recv(c, NULL));
        collect(done, 10);
        pthread_join(t, NULL);
        csp_unref(c);
        csp_unref(done);
    }
}

static void *thread_waits_for_a_timer(void *arg)
{
    int64_t v = 0, t0 = csp_now();
    csp_timer *t = csp_timer_new(CSP_MILLISECOND);
    CHECK(csp_recv(csp_timer_chan(t), &v) && v >= t0 + CSP_MILLISECOND);
    csp_timer_reset(t, CSP_HOUR);
    CHECK(csp_timer_stop(t));
    csp_timer_free(t);
    csp_timer *f = csp_after_func(CSP_MILLISECOND, bump, arg);
    EVENTUALLY(LOAD((int *)arg) > 0);
    csp_timer_free(f);
    f = csp_timer_call(CSP_MICROSECOND, bump, arg);
    EVENTUALLY(LOAD((int *)arg) > 1);
    csp_timer_free(f);
    return NULL;
}

TEST_PLAIN(thread, timers_work_for_threads_alone)
{
    int n[4] = {0};
    pthread_t t[4];
    for (int i = 0; i < 4; i++) t[i] = thread_start(thread_waits_for_a_timer, &n[i]);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
}

static void *thread_runs(void *n)
{
    csp_run(only_yields, n);
    return NULL;
}

/* Only the thread that is told will wake up for the timer: no processor runs, and the monitor
 * sleeps. */
TEST_PLAIN(thread, a_timer_set_while_all_sleep_fires)
{
    csp_timer *t = csp_timer_new(30 * CSP_MILLISECOND); // the first call: there are no threads yet
    CHECK(csp_recv(csp_timer_chan(t), NULL));
    for (int i = 0; i < 10; i++) {
        csp_timer *later = i % 2 ? csp_timer_new(CSP_HOUR) : NULL;
        for (bool on = true; on; usleep(1000)) {
            csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
            on = csp__sched.monitor_on || csp__sched.sleeper == NULL;
            csp__unlock(&csp__sched.lock);
        }
        csp_timer_reset(t, CSP_MILLISECOND);
        CHECK(csp_recv(csp_timer_chan(t), NULL));
        csp_timer_free(later);
    }
    csp_timer_free(t);
}

TEST_PLAIN(thread, run_may_be_called_from_any_thread)
{
    int n = 0;
    for (int i = 0; i < 10; i++) pthread_join(thread_start(thread_runs, &n), NULL);
    CHECK_EQ(n, 10);
}

#if CSP_TEST_FEW < 1

/* ==========================================================================
 * sched - which goroutine runs next, and that each does in the end
 * ======================================================================== */

csp_task(passes_on, int_chan, in, int_chan, out)
{
    csp_range(v, in) csp_send(out, v + 1);
    csp_close(out);
}

TEST(sched, a_token_goes_round_and_no_wake_up_is_lost)
{
    enum { N = 16 };
    for (int procs = 2; procs <= 8; procs += 2) {
        int_chan c[N + 1];
        int turns_left = rounds(5000), v = 0;
        csp_procs(procs);
        for (int i = 0; i <= N; i++) c[i] = csp_make(int, i % 3);
        for (int i = 0; i < N; i++) csp_go(passes_on, c[i], c[i + 1]);
        for (int i = 0; i < turns_left; i++) {
            csp_send(c[0], i);
            CHECK(csp_recv(c[N], &v) && v == i + N);
        }
        csp_close(c[0]);
        CHECK(!csp_recv(c[N], NULL));
        EVENTUALLY(csp_count() == 1);
        for (int i = 0; i <= N; i++) csp_unref(c[i]);
    }
}

typedef struct spawner {
    int n, *left;
    uint64_t r;
} spawner;

static void *thread_spawns_on(void *arg)
{
    spawner *s = arg;
    static int ran;
    for (int i = 0; i < s->n; i++) {
        csp_spawn(bump, &ran);
        for (volatile int wait = below(&s->r, 30000); wait > 0; wait--) continue;
    }
    ADD(s->left, -1);
    return NULL;
}

csp_task(hands_on, int_chan, in, int_chan, out, int *, stop, int_chan, done)
{
    int v;
    while (!LOAD(stop) && csp_recv(in, &v)) csp_send(out, v);
    csp_send(done, 1);
}

/* A thread that naps and is given a processor goes on as one that searches; where a searching one
 * is wanted, it counts once. */
TEST(sched, a_napper_keeps_its_place_among_those_that_search)
{
    static csp__m naps; // no thread's: it stands in the lists while they are locked
    if (TSAN) SKIP("the thread sanitizer is not told of the scheduler's lock");
    bool spins[2], napping[2];
    for (int wanted = 0; wanted < 2; wanted++) {
        csp__p p = {.id = 0};
        csp__m *m = csp__enter();
        csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
        csp__m *napper = csp__sched.napper, *idle = csp__sched.idle_m;
        uint32_t was_napping = LOAD(&csp__sched.napping);
        naps = (csp__m){.idle = true};
        csp__sched.idle_m = csp__sched.napper = &naps;
        csp__sched.nidle_m++;
        STORE(&csp__sched.napping, 1);
        ADD(&csp__sched.nspinning,
            1 + (uint32_t)wanted); // the napper's place, and the wanted one's
        csp__m_start_locked(&p, wanted != 0);
        spins[wanted] = naps.spinning;
        napping[wanted] = LOAD(&csp__sched.napping) != 0;
        ADD(&csp__sched.nspinning, (uint32_t)-1); // its search has ended
        csp__sched.idle_m = idle;
        csp__sched.napper = napper;
        STORE(&csp__sched.napping, was_napping);
        csp__unlock(&csp__sched.lock);
        csp__leave(m);
    }
    CHECK(spins[0] && spins[1] && !napping[0] && !napping[1]);
    EVENTUALLY(LOAD(&csp__sched.nspinning) == 0);
}

/* Each value wakes a thread and lets another one sleep; the mutexes are wanted, the blocking calls
 * taken from, and the forks stolen: all that may want a membarrier. */
typedef struct distance {
    csp_mutex mu[4];
    int stop;
    csp_waitgroup wg;
} distance;

csp_task(distance_passes, csp_receiver(int), in, csp_sender(int), out)
{
    csp_lock_thread();
    csp_range(v, in) csp_send(out, v + 1);
    csp_close(out);
    csp_unlock_thread();
}

csp_task(distance_wants, distance *, d, int, i)
{
    while (!LOAD(&d->stop)) {
        csp_mutex_lock(&d->mu[i % 4]);
        csp_yield();
        csp_mutex_unlock(&d->mu[i++ % 4]);
        csp_blocking csp_now();
        csp_sleep(10 * CSP_MICROSECOND);
    }
    csp_waitgroup_done(&d->wg);
}

TEST(sched, membarriers_keep_their_distance)
{
    distance d = {.stop = 0};
    csp_chan(int) a = csp_make(int, 0), b = csp_make(int, 0);
    csp_procs(8);
    csp_go(distance_passes, csp_recv_end(a), csp_send_end(b));
    csp_waitgroup_add(&d.wg, 6);
    for (int i = 0; i < 6; i++) csp_go(distance_wants, &d, i);
    int64_t from = csp_now();
    uint32_t begun = LOAD(&csp__sched.begun);
    for (int i = 0, v = 0, n = rounds(20000); i < n; i++) {
        csp_send(a, i);
        CHECK(csp_recv(b, &v) && v == i + 1);
    }
    uint32_t made = LOAD(&csp__sched.begun) - begun;
    int64_t most = (csp_now() - from) / CSP__BARRIER_PAUSE + 1;
    STORE(&d.stop, 1);
    csp_waitgroup_wait(&d.wg);
    csp_close(a);
    csp_recv(b, NULL);
    csp_unref(a);
    csp_unref(b);
    CHECK(made <= most);
    CHECK(csp__sched.barrier || made == 0);
    EVENTUALLY(LOAD(&csp__sched.wanted) == 0);
}

csp_task(locks_once, csp_mutex *, mu, int_chan, done)
{
    csp_mutex_lock(mu);
    csp_mutex_unlock(mu);
    csp_send(done, 1);
}

/* Others want each next membarrier, so that a mutex's first waiter may not make one. It tries for a
 * while, and then waits with the others. */
TEST(sched, a_first_waiter_that_may_not_make_a_membarrier_waits_in_the_end)
{
    static csp_mutex mu;
    int_chan done = csp_make(int, 0);
    csp_mutex_lock(&mu);
    csp__add(&csp__sched.wanted, 1);
    csp_go(locks_once, &mu, done);
    EVENTUALLY(LOAD(&mu.csp_x_waiters.head) != NULL);
    csp__add(&csp__sched.wanted, (uint32_t)-1);
    csp_mutex_unlock(&mu);
    collect(done, 1);
    csp_unref(done);
}

/* See BARRIERS: the fences begin with a membarrier, and end when nothing needs them. */
TEST(sched, submitters_fence_only_while_searches_end)
{
    if (!csp__sched.barrier) SKIP("there is no membarrier");
    if (!CSP__AT_ONCE) SKIP("they fence for good here");
    csp_procs(1);
    uint32_t ended = LOAD(&csp__sched.ended);
    csp__fence_heavy();
    CHECK(LOAD(&csp__sched.ended) != ended);
    /* The monitor looks every 5 ms while a P is busy, as this one is: a sleep would be a search. */
    for (int64_t end = clock_now() + 60 * CSP_SECOND;
         LOAD(&csp__sched.fenced) != CSP__FENCED_NO && clock_now() < end;)
        csp_yield();
    CHECK_EQ(LOAD(&csp__sched.fenced), CSP__FENCED_NO);
    csp__fence_search(); // and begin again
    CHECK_EQ(LOAD(&csp__sched.fenced), CSP__FENCED_ALL);
    ended = LOAD(&csp__sched.ended);
    for (int i = 0; i < 1000; i++) csp__fence_search();
    CHECK(LOAD(&csp__sched.ended) - ended < 100); // the monitor's
}

/* Goroutines that pass values on keep a short ring, beside which a thread may nap (not in a torture
 * build, where each ring is worth stealing from), while threads make work for all. */
TEST(sched, nobody_is_counted_as_searching_when_all_is_done)
{
    enum { N = 6 };
    int_chan done = csp_make(int, 0), c[N];
    int stop = 0, left = 2;
    spawner s[2] = {{rounds(10000), &left, stream(1)}, {rounds(10000), &left, stream(2)}};
    pthread_t t[2];
    csp_procs(3);
    for (int i = 0; i < N; i++) c[i] = csp_make(int, N);
    for (int i = 0; i < N; i++) csp_go(hands_on, c[i], c[(i + 1) % N], &stop, done);
    for (int i = 0; i < N; i += 2) csp_send(c[i], i);
    for (int i = 0; i < 2; i++) t[i] = thread_start(thread_spawns_on, &s[i]);
    while (LOAD(&left) != 0) csp_sleep(CSP_MILLISECOND);
    STORE(&stop, 1);
    for (int i = 0; i < N; i++) csp_send(c[i], 0);
    collect(done, N);
    for (int i = 0; i < 2; i++) pthread_join(t[i], NULL);
    EVENTUALLY(csp_count() == 1 && LOAD(&csp__sched.nspinning) == 0);
    for (int i = 0; i < N; i++) csp_unref(c[i]);
    csp_unref(done);
}

/* Two that wake one another in every way there is; each round ends only when the other side has
 * woken. */
csp_task(wakes_and_waits, csp_chan(int_chan), in, csp_chan(int_chan), out, uint64_t, r, int, n,
         bool, ends, int_chan, done)
{
    for (int i = 0; i < n; i++) {
        int_chan c = NULL;
        CHECK(csp_recv(in, &c));
        switch (below(&r, 6)) {
        case 0: csp_close(c); break;
        case 1: csp_send(c, i); break;
        case 2: CHECK_EQ(csp_select(CSP_SEND(c, i), CSP_AFTER(CSP_HOUR)), 0); break;
        case 3:
            csp_sleep(CSP_MICROSECOND);
            csp_close(c);
            break;
        case 4: csp_go(sends_last, c); break;
        default: CHECK_EQ(csp_send_until(c, i, CSP_FOREVER), CSP_OK);
        }
        if (ends && i == n - 1) break;
        int_chan mine = csp_make(int, below(&r, 2));
        csp_send(out, mine);
        switch (below(&r, 4)) {
        case 0: csp_select(CSP_RECV(mine, NULL), CSP_AFTER(CSP_HOUR)); break;
        case 1: csp_recv_until(mine, NULL, csp_now() + CSP_HOUR); break;
        default: csp_recv(mine, NULL);
        }
        csp_unref(mine);
    }
    csp_send(done, 1);
}

typedef struct waker {
    csp_chan(int_chan) in, out;
    uint64_t r;
    int n;
    int_chan done;
} waker;

static void *thread_wakes_and_waits(void *arg)
{
    waker *w = arg;
    wakes_and_waits(w->in, w->out, w->r, w->n, true, w->done);
    return NULL;
}

static void wake_each_other(int pairs, int threads, int n)
{
    int_chan done = csp_make(int, 2 * pairs);
    csp_chan(int_chan) c[16][2];
    waker wakers[16];
    pthread_t t[16];
    for (int i = 0; i < pairs; i++) {
        for (int k = 0; k < 2; k++) c[i][k] = csp_make(int_chan, 1);
        int_chan first = csp_make(int, 1);
        csp_send(c[i][0], first);
        csp_go(wakes_and_waits, c[i][0], c[i][1], stream(2 * i), n, false, done);
        wakers[i] = (waker){c[i][1], c[i][0], stream(2 * i + 1), n, done};
        if (i < threads)
            t[i] = thread_start(thread_wakes_and_waits, &wakers[i]);
        else
            csp_go(wakes_and_waits, c[i][1], c[i][0], stream(2 * i + 1), n, true, done);
        csp_recv(first, NULL);
        csp_unref(first);
    }
    collect(done, 2 * pairs);
    for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < pairs; i++)
        for (int k = 0; k < 2; k++) csp_unref(c[i][k]);
    csp_unref(done);
}

TEST(sched, no_wake_up_is_lost_among_sends_closes_timers_and_threads)
{
    for (int procs = 2; procs <= 8; procs++) {
        csp_procs(procs);
        wake_each_other(6, 0, rounds(8000));
        wake_each_other(4, 2, rounds(300));
    }
}

typedef struct rendezvous {
    int there[2], over;
    bool together;
    int64_t give_up;
} rendezvous;

/* Computes until the other one is there too, without a word to csp. */
static bool meet(rendezvous *r, int me, int round)
{
    STORE(&r->there[me], round);
    while (LOAD(&r->there[!me]) < round)
        if (LOAD(&r->over) || clock_now() > r->give_up) return false;
    return true;
}

/* The thread keeps to the n-th CPU that it may use. n < 0: all threads to all CPUs, as at the
 * first call. */
static void keep_to_cpu(int n)
{
#ifdef __linux__
    static cpu_set_t all;
    cpu_set_t one;
    if (CPU_COUNT(&all) == 0 && sched_getaffinity(0, sizeof all, &all) != 0) return;
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && n >= 0; i++)
        if (CPU_ISSET(i, &all) && n-- == 0) CPU_SET(i, &one);
    if (CPU_COUNT(&one) != 0) {
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *d; dir != NULL && (d = readdir(dir)) != NULL;)
        if (d->d_name[0] != '.') sched_setaffinity(atoi(d->d_name), sizeof all, &all);
    if (dir != NULL) closedir(dir);
#else
    (void)n;
#endif
}

/* Until twenty meetings in a row took less than 10 ms. One processor handed to and fro makes one
 * in that time. On two, a loaded machine may leave both threads on one CPU for half a minute: so
 * each keeps to a CPU of its own. */
csp_task(meets, rendezvous *, r, int, me, int_chan, done)
{
    int64_t since = clock_now();
    keep_to_cpu(me);
    for (int i = 1; meet(r, me, i); i++) {
        if (me == 0 && i % 20 == 0) {
            r->together = clock_now() - since < 10 * CSP_MILLISECOND;
            if (r->together) break;
            since = clock_now();
        }
        csp_yield();
        keep_to_cpu(me); // it may be another thread now
    }
    STORE(&r->over, 1);
    csp_send(done, 1);
}

TEST(sched, all_processors_are_used)
{
    if (under_valgrind()) SKIP("one thread at a time, slowly");
    if (csp_ncpu() < 2) SKIP("there is one CPU");
    int_chan done = csp_make(int, 0);
    csp_procs(2);
    rendezvous r = {{0, 0}, 0, false, clock_now() + 25 * CSP_SECOND};
    keep_to_cpu(-1); // now, while one thread asks for all CPUs
    for (int i = 0; i < 2; i++) csp_go(meets, &r, i, done);
    collect(done, 2);
    keep_to_cpu(-1);
    CHECK(r.together);
    csp_unref(done);
}

csp_task(computes_until, int *, flag, int_chan, done)
{
    while (!LOAD(flag)) continue;
    csp_send(done, 1);
}

TEST(sched, goroutines_that_compute_do_not_stop_the_others)
{
    int_chan done = csp_make(int, 0), there = csp_make(int, 0), back = csp_make(int, 0);
    csp_procs(1);
    csp_go(echoes, there, back);
    for (int k = 0; k < 5; k++) {
        int flag = 0;
        int64_t t = clock_now();
        for (int i = 0; i < 3; i++) csp_go(computes_until, &flag, done);
        csp_yield(); // there they go
        for (int i = 0; i < 100; i++) {
            csp_send(there, i);
            CHECK(csp_recv(back, NULL));
        }
        csp_sleep(CSP_MILLISECOND);
        CHECK(clock_now() - t < 10 * CSP_SECOND);
        STORE(&flag, 1);
        collect(done, 3);
    }
    csp_close(there);
    CHECK(!csp_recv(back, NULL));
    csp_unref(there);
    csp_unref(back);
    csp_unref(done);
}

TEST(sched, goroutines_blocked_in_the_kernel_do_not_stop_the_others)
{
    int fds[2], n = 0;
    int_chan done = csp_make(int, 0);
    csp_procs(1);
    CHECK(pipe(fds) == 0);
    for (int i = 0; i < 8; i++) csp_go(blocks_in_kernel, fds[0], done);
    for (int i = 0; i < 8; i++) csp_yield();
    csp_sleep(CSP_MILLISECOND);
    CHECK(write(fds[1], "12345678", 8) == 8);
    for (int i = 0; i < 8; i++) CHECK(csp_recv(done, &n) && n == 1);
    close(fds[0]);
    close(fds[1]);
    csp_unref(done);
}

csp_task(polls, int_chan, c, int_chan, done)
{
    while (csp_try_recv(c, NULL) != CSP_OK) continue;
    csp_send(done, 1);
}

TEST(sched, a_goroutine_that_polls_does_not_stop_the_others)
{
    int_chan c = csp_make(int, 1), done = csp_make(int, 0);
    csp_procs(1);
    csp_go(polls, c, done);
    csp_go(polls, c, done);
    csp_sleep(CSP_MILLISECOND);
    csp_send(c, 1);
    csp_send(c, 1);
    collect(done, 2);
    csp_unref(c);
    csp_unref(done);
}

csp_task(sends_one, int_chan, out)
{
    csp_send(out, 1);
}

TEST(sched, a_goroutine_that_polls_lets_the_one_run_that_it_has_just_started)
{
    int_chan c = csp_make(int, 1);
    csp_procs(1);
    for (int i = 0; i < 30; i++) {
        csp_go(sends_one, c);
        while (csp_try_recv(c, NULL) != CSP_OK) continue;
    }
    csp_unref(c);
}

csp_task(plays, int_chan, mine, int_chan, other, int *, stop, int_chan, done)
{
    while (!LOAD(stop)) {
        if (csp_select(CSP_RECV(mine, NULL), CSP_AFTER(CSP_MILLISECOND)) == 0)
            csp_select(CSP_SEND(other, 1), CSP_AFTER(CSP_MILLISECOND));
    }
    csp_send(done, 1);
}

csp_task(plays_hard, int_chan, in, int_chan, out, int *, stop)
{
    csp_range(v, in) {
        if (LOAD(stop)) {
            csp_close(out);
            break;
        }
        csp_send(out, v);
    }
}

TEST(sched, a_pair_that_wakes_one_another_does_not_starve_the_rest)
{
    int_chan a = csp_make(int, 0), b = csp_make(int, 0);
    int n = 0, stop = 0;
    csp_procs(1);
    csp_go(plays_hard, a, b, &stop); // each puts the other next
    csp_go(plays_hard, b, a, &stop);
    csp_send(a, 1);
    for (int i = 1; i <= 200; i++) {
        csp_spawn(bump, &n);
        while (LOAD(&n) < i) csp_yield();
    }
    csp_sleep(CSP_MILLISECOND);
    STORE(&stop, 1);
    EVENTUALLY(csp_count() == 1);
    csp_unref(a);
    csp_unref(b);
}

static void *spawns_one_by_one(void *arg)
{
    int n = 0;
    for (int i = 1; i <= 50; i++) {
        csp_spawn(bump, &n);
        while (LOAD(&n) < i) sched_yield();
    }
    STORE((int *)arg, 1);
    return NULL;
}

TEST(sched, a_pair_that_wakes_one_another_does_not_starve_what_threads_start)
{
    int_chan a = csp_make(int, 0), b = csp_make(int, 0);
    int stop = 0;
    csp_procs(1);
    csp_go(plays_hard, a, b, &stop);
    csp_go(plays_hard, b, a, &stop);
    csp_send(a, 1);
    pthread_t t = thread_start(spawns_one_by_one, &stop);
    csp_blocking pthread_join(t, NULL); // no timer brings the scheduler in
    EVENTUALLY(csp_count() == 1);
    csp_unref(a);
    csp_unref(b);
}

/* One half of a pair whose halves wake each other and compute between. `due`: the time at which
 * another goroutine should run. `seen`: the first turn of this half after that. */
typedef struct player {
    int64_t work;
    int turns, seen;
    int64_t *due;
    int_chan told; // when it has had 500 turns
} player;

csp_task(computes_and_wakes, player *, h, int_chan, in, int_chan, out, int *, stop)
{
    csp_range(v, in) {
        if (LOAD(stop)) {
            csp_close(out);
            break;
        }
        if (LOAD(&h->seen) == 0 && LOAD(h->due) <= clock_now())
            STORE(&h->seen, LOAD(&h->turns) + 1);
        busy(h->work);
        STORE(&h->turns, LOAD(&h->turns) + 1);
        if (h->told != NULL && LOAD(&h->turns) == 500) csp_send(h->told, 1);
        csp_send(out, v);
    }
}

static void halves_start(player *h, int_chan *c, int *stop)
{
    for (int i = 0; i < 2; i++) c[i] = csp_make(int, 0);
    for (int i = 0; i < 2; i++) csp_go(computes_and_wakes, h, c[i], c[!i], stop);
    csp_send(c[0], 1);
}

TEST(sched, a_quick_pair_beside_a_slow_one_has_its_share_of_the_time)
{
    if (CSP_TORTURE) SKIP("its order is random");
    static player slow, quick; // read to their end
    static int stop;
    static int64_t never = CSP_FOREVER;
    int_chan c[4], told = csp_make(int, 2);
    slow = (player){300 * CSP_MICROSECOND, 0, 1, &never, told};
    quick = (player){0, 0, 1, &never, NULL};
    csp_procs(1);
    halves_start(&slow, c, &stop);
    halves_start(&quick, c + 2, &stop);
    CHECK(csp_recv(told, NULL)); // no timer: that would bring the scheduler in
    CHECK(LOAD(&quick.turns) > 3 * LOAD(&slow.turns)); // a hundred times as many on a fast machine
    STORE(&stop, 1);
    EVENTUALLY(csp_count() == 1);
    for (int i = 0; i < 4; i++) csp_unref(c[i]);
    csp_unref(told);
}

TEST(sched, a_sleeper_beside_a_slow_pair_waits_for_few_of_its_turns)
{
    if (CSP_TORTURE) SKIP("its order is random");
    static player slow; // read to its end
    static int stop;
    static int64_t due = CSP_FOREVER;
    int_chan c[2];
    int few = 0, many = 0;
    slow = (player){300 * CSP_MICROSECOND, 0, 1, &due, NULL};
    csp_procs(1);
    halves_start(&slow, c, &stop);
    for (int i = 0; i < 40; i++) {
        STORE(&due, csp_now() + (3000 + i * 100) * CSP_MICROSECOND);
        STORE(&slow.seen, 0);
        csp_sleep_until(due);
        if (LOAD(&slow.seen) == 0 || LOAD(&slow.turns) - LOAD(&slow.seen) <= 3)
            few++;
        else
            many++;
    }
    CHECK(few > many); // the first ones find out that turns are long
    STORE(&stop, 1);
    EVENTUALLY(csp_count() == 1);
    for (int i = 0; i < 2; i++) csp_unref(c[i]);
}

static int tree_ran, tree_stop; // nodes that ran; 1: no more
static int old_most, old_left;  // the longest wait, in turns of first in, first out; how many wait

csp_task_declare(tree_node, int, depth);
csp_task(tree_node, int, depth)
{
    __atomic_add_fetch(&tree_ran, 1, __ATOMIC_RELAXED);
    if (LOAD(&tree_stop)) return;
    csp_go(tree_node, depth + 1);
    if (csp_count() < 1000) csp_go(tree_node, depth + 1);
}

csp_task(old_one, int, before, int, others)
{
    int waited = (LOAD(&tree_ran) - before) / others;
    if (waited > LOAD(&old_most)) STORE(&old_most, waited);
    STORE(&old_left, LOAD(&old_left) - 1);
}

TEST(sched, a_fresh_goroutine_beside_an_endless_tree_of_newer_ones_has_its_turn)
{
    if (CSP_TORTURE) SKIP("its order is random");
    STORE(&old_most, 0);
    STORE(&tree_stop, 0);
    csp_procs(1);
    csp_go(tree_node, 0);
    while (csp_count() < 900) csp_yield();
    for (int i = 0; i < 20; i++) {
        STORE(&old_left, 1);
        csp_go(old_one, LOAD(&tree_ran), (int)csp_count());
        for (int n = 0; n < 50 + i * 7; n++) csp_yield(); // not always the same part of a lot
        while (LOAD(&old_left) != 0) csp_yield();
    }
    STORE(&tree_stop, 1);
    EVENTUALLY(csp_count() == 1);
    CHECK(LOAD(&old_most) < 100); // 50; 157 when only every 128th turn is for it
}

/* A goroutine in the queues of those that have never run. Counted in turns for the aged: when it
 * came, and when it has to leave. */
typedef struct aged_wait {
    bool in;
    int64_t since, most; // most: 0 until its lot is known
} aged_wait;

/* Fresh goroutines of two stacks of sheds come out once each: for a P its newest shed first, for
 * the others the oldest, and in a shed the oldest first. */
TEST_PLAIN(sched, sheds_are_taken_from_one_end_by_their_processor_and_from_the_other_by_others)
{
    enum { N = 400 };
    csp__p *p = calloc(2, sizeof *p);
    csp__g *records = calloc(N, sizeof *records);
    static int shed_of[N],
        order[2][N]; // order[i]: what p[i] has, the oldest shed's first one first
    uint64_t s = stream(0);
    int count[2] = {0, 0}, sheds = 0, out = 0;
    CHECK(p != NULL && records != NULL);
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    for (int next = 0; out < N;) {
        int i = below(&s, 2), n = 1 + below(&s, 9);
        if (next < N && below(&s, 2) == 0) {
            csp__queue shed = {NULL, NULL, 0};
            if (p[i].nsheds == CSP__SHEDS) { // the two oldest become one, the newer one's first
                int a = 0, b, c;
                while (a < count[i] && shed_of[order[i][a]] == shed_of[order[i][0]]) a++;
                for (b = a; b < count[i] && shed_of[order[i][b]] == shed_of[order[i][a]];) b++;
                int was[N], one = shed_of[order[i][0]];
                memcpy(was, order[i], sizeof was);
                for (c = 0; c < b - a; c++) order[i][c] = was[a + c];
                for (c = 0; c < a; c++) order[i][b - a + c] = was[c];
                for (c = 0; c < b; c++) shed_of[order[i][c]] = one;
            }
            for (; n > 0 && next < N; n--, next++) {
                csp__queue_push(&shed, &records[next]);
                shed_of[next] = sheds;
                order[i][count[i]++] = next;
            }
            csp__shed_push_locked(&p[i], &shed);
            sheds++;
        } else if (p[i].nsheds != 0) {
            bool newest = below(&s, 2) == 0;
            int at = newest ? count[i] - 1 : 0, m = 0;
            while (newest && at > 0 && shed_of[order[i][at - 1]] == shed_of[order[i][at]]) at--;
            csp__queue shed = csp__shed_pop_locked(&p[i], newest, n);
            CHECK(shed.count >= 1 && shed.count <= n);
            for (csp__g *g = shed.head; g != NULL; g = g->link, m++) {
                CHECK(g == &records[order[i][at + m]]);
                CHECK((g == shed.tail) == (g->link == NULL));
            }
            CHECK_EQ(m, shed.count);
            CHECK(m == n || at + m == count[i] || // fewer only where the shed has no more
                  shed_of[order[i][at + m]] != shed_of[order[i][at + m - 1]]);
            memmove(&order[i][at], &order[i][at + m], (size_t)(count[i] - at - m) * sizeof(int));
            count[i] -= m;
            out += m;
        }
        CHECK_EQ(csp__sched.nshed, count[0] + count[1]);
        csp__p *known = csp__sched.sheds; // the list has those that have some
        CHECK_EQ((known == &p[0]) + (known != NULL && known->sheds_next == &p[0]), count[0] != 0);
        CHECK_EQ((known == &p[1]) + (known != NULL && known->sheds_next == &p[1]), count[1] != 0);
    }
    CHECK(csp__sched.sheds == NULL && sheds > CSP__SHEDS);
    csp__unlock(&csp__sched.lock);
    free(p);
    free(records);
}

/* What THE AGED promises of each goroutine, with pushes, batches and turns in random order. */
TEST_PLAIN(sched, the_aged_come_out_once_each_and_in_a_bounded_number_of_turns)
{
    enum { N = 3000, MOST = 128 };
    csp__g *records = calloc(N, sizeof *records);
    aged_wait *waits = calloc(N, sizeof *waits);
    csp__queue *fresh = &csp__sched.fresh, *turning = &csp__sched.turning;
    csp__queue *aged = &csp__sched.aged;
    csp__p *p = calloc(2, sizeof *p); // sheds some
    uint64_t s = stream(0);
    int inside = 0;
    CHECK(records != NULL && waits != NULL && p != NULL);
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    for (int64_t turn = 1; turn < 20000; turn++) {
        bool ends = turn > 14000; // only the aged have turns from here on, until none is left
        for (int n = ends ? 0 : below(&s, 10); n > 0 && inside < N; n--) {
            int i = below(&s, N);
            while (waits[i].in) i = (i + 1) % N;
            waits[i] = (aged_wait){true, turn, 0};
            records[i].state = CSP__G_FRESH;
            inside++;
            if (below(&s, 2) == 0) {
                csp__queue shed = {NULL, NULL, 0};
                csp__queue_push(&shed, &records[i]);
                csp__shed_push_locked(&p[below(&s, 2)], &shed);
                csp__global_count_locked();
            } else {
                csp__global_push_locked(&records[i]);
            }
        }
        if (turning->head == NULL && aged->head == NULL) { // the lot of this turn
            int64_t lot = fresh->count + csp__sched.nshed, older = lot;
            for (csp__g *g = fresh->head; g != NULL; g = g->link, older--)
                waits[g - records].most = turn + older + lot / MOST + 1;
            for (csp__p *of = csp__sched.sheds; of != NULL; of = of->sheds_next)
                for (uint32_t i = of->nsheds; i-- > 0;)
                    for (csp__g *g = csp__shed_at_locked(of, i)->head; g != NULL;
                         g = g->link, older--)
                        waits[g - records].most = turn + older + lot / MOST + 1;
            CHECK_EQ(older, 0);
        }
        for (int n = ends ? 0 : below(&s, 7); n >= 0; n--) {
            if (n != 0 && csp__sched.sheds != NULL && below(&s, 2) == 0) {
                csp__queue shed =
                    csp__shed_pop_locked(csp__sched.sheds, below(&s, 2) == 0, 1 + below(&s, 3));
                for (csp__g *g = shed.head; g != NULL; g = g->link, inside--) {
                    CHECK(waits[g - records].in);
                    waits[g - records].in = false;
                }
                csp__global_count_locked();
                CHECK_EQ(LOAD(&csp__sched.nfresh), inside);
                continue;
            }
            csp__queue *q = n == 0                  ? csp__global_aged_locked()
                            : fresh->head != NULL   ? fresh
                            : turning->head != NULL ? turning
                                                    : aged;
            csp__g *g = csp__queue_pop(q);
            csp__global_count_locked();
            CHECK_EQ(LOAD(&csp__sched.nfresh),
                     fresh->count + csp__sched.nshed + turning->count + aged->count);
            if (g == NULL) continue;
            aged_wait *w = &waits[g - records];
            CHECK(w->in);
            CHECK(w->most == 0 || turn <= w->most);
            w->in = false;
            inside--;
            CHECK_EQ(LOAD(&csp__sched.nfresh), inside);
        }
        for (csp__g *g = fresh->head; g != NULL && turn % 64 == 0; g = g->link)
            CHECK(turn - waits[g - records].since <= 2 * N); // the lot before it ends
    }
    CHECK_EQ(inside, 0);
    csp__unlock(&csp__sched.lock);
    free(p);
    free(records);
    free(waits);
}

static int tree_waits; // nodes that wait

csp_task_declare(tree_parent, csp_receiver(bool), gate);
csp_task(tree_parent, csp_receiver(bool), gate)
{
    if (LOAD(&tree_stop)) return;
    csp_go(tree_parent, gate);
    if (csp_count() < 2000) csp_go(tree_parent, gate);
    if (LOAD(&tree_waits) < 900 && ADD(&tree_waits, 1) <= 900) csp_recv(gate, NULL);
}

TEST(sched, old_goroutines_have_their_turns_although_those_before_them_do_not_end)
{
    if (CSP_TORTURE) SKIP("its order is random");
    csp_chan(bool) gate = csp_make(bool, 0);
    STORE(&tree_stop, 0);
    STORE(&tree_waits, 0);
    csp_procs(1);
    csp_go(tree_parent, csp_recv_end(gate));
    while (csp_count() < 1900) csp_yield();
    CHECK(LOAD(&csp__sched.nold) >= CSP__OLD_MOST);
    STORE(&old_left, 300); // more than the ring holds, and as many newer ones without end
    for (int i = 0; i < 300; i++) csp_go(old_one, 0, 1);
    for (int i = 0; i < 300; i++) csp_go(tree_parent, csp_recv_end(gate));
    EVENTUALLY(LOAD(&old_left) == 0); // in some 0.4 s
    STORE(&tree_stop, 1);
    csp_close(gate);
    EVENTUALLY(csp_count() == 1);
    CHECK_EQ(LOAD(&csp__sched.nold), 0);
    csp_unref(gate);
}

TEST(sched, two_players_with_deadlines_end_when_told)
{
    int_chan a = csp_make(int, 0), b = csp_make(int, 0), done = csp_make(int, 0);
    int stop = 0;
    csp_procs(2);
    csp_go(plays, a, b, &stop, done);
    csp_go(plays, b, a, &stop, done);
    csp_send(a, 1);
    for (int i = 0; i < 1000; i++) csp_yield();
    STORE(&stop, 1);
    collect(done, 2);
    csp_unref(a);
    csp_unref(b);
    csp_unref(done);
}

csp_task(computes_a_while, int *, seen_by, int_chan, done)
{
    int64_t end = clock_now() + CSP_MILLISECOND;
    while (clock_now() < end) continue;
    int me = thread_id(), first = 0;
    if (!__atomic_compare_exchange_n(seen_by, &first, me, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST) &&
        first != me)
        STORE(&seen_by[1], me);
    csp_send(done, 1);
}

TEST(sched, idle_processors_take_work_from_busy_ones)
{
    int_chan done = csp_make(int, 0);
    int seen_by[2] = {0, 0};
    csp_procs(2);
    for (int i = 0; i < 50; i++) csp_go(computes_a_while, seen_by, done); // all on this one's queue
    collect(done, 50);
    CHECK(seen_by[0] != 0 && seen_by[1] != 0);
    csp_unref(done);
}

/* ---- the ring: its owner and its thieves ---- */

enum { ROBBERS = 2 };
typedef struct robbed {
    csp__p *p[1 + ROBBERS]; // the first is the owner's
    unsigned char *seen;    // how often each token has come out
    int turn, stop;
} robbed;

static void token_out(robbed *r, csp__g *token)
{
    if (token != NULL) ADD(&r->seen[(uintptr_t)token / 64 - 1], 1);
}

/* They rob each other, too. */
__attribute__((noinline)) CSP__BLIND static void *robs(void *arg)
{
    robbed *r = (robbed *)arg;
    int me = ADD(&r->turn, 1);
    uint64_t s = stream(me);
    while (!LOAD(&r->stop)) {
        csp__p *victim = r->p[(me + 1 + below(&s, ROBBERS)) % (1 + ROBBERS)];
        if (csp__ring_count(victim) == 0) continue;
        token_out(r, csp__ring_steal(r->p[me], victim));
        for (csp__g *g; (g = csp__ring_pop(r->p[me])) != NULL;) token_out(r, g);
    }
    return NULL;
}

/* The stores into cold memory hold up the stores after them. So an owner that took by plain stores
 * would be seen to do so too late. */
__attribute__((noinline)) CSP__BLIND static void deals(robbed *r, int n)
{
    enum { COLD = 1 << 25 };
    uint64_t s = stream(0);
    char *cold = (char *)calloc(COLD, 1);
    for (int i = 1; i <= n; i++) {
        while (!csp__ring_put(r->p[0], (csp__g *)((uintptr_t)i * 64)))
            token_out(r, csp__ring_pop(r->p[0]));
        for (int k = i % 16 == 0 ? 8 : 0; k > 0; k--) *(volatile char *)&cold[below(&s, COLD)] = 1;
        for (int k = below(&s, 4); k > 0; k--) token_out(r, csp__ring_pop(r->p[0]));
    }
    free(cold);
}

TEST(sched, what_is_in_a_ring_comes_out_once_to_its_owner_or_to_a_thief)
{
    int n = rounds(2000000);
    pthread_t threads[ROBBERS];
    if (under_valgrind()) SKIP("one thread at a time, slowly");
    robbed r = {{NULL}, (unsigned char *)calloc((size_t)n, 1), 0, 0};
    for (int i = 0; i <= ROBBERS; i++) r.p[i] = (csp__p *)csp__zalloc(sizeof(csp__p));
    for (int i = 0; i < ROBBERS; i++) threads[i] = thread_start(robs, &r);
    deals(&r, n);
    while (csp__ring_count(r.p[0]) != 0) token_out(&r, csp__ring_pop(r.p[0]));
    STORE(&r.stop, 1);
    for (int i = 0; i < ROBBERS; i++) pthread_join(threads[i], NULL);
    int wrong = 0;
    for (int i = 0; i < n; i++) wrong += r.seen[i] != 1;
    CHECK_EQ(wrong, 0);
    for (int i = 0; i <= ROBBERS; i++) free(r.p[i]);
    free(r.seen);
}

/* ---- idle: no goroutine runs, no thread is woken ---- */

/* Context switches of all threads but the caller, from /proc. */
static long switches_of_others(void)
{
    long sum = 0;
    DIR *d = opendir("/proc/self/task");
    CHECK(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[300], line[200];
        if (e->d_name[0] == '.' || atoi(e->d_name) == thread_id()) continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
        FILE *f = fopen(path, "r");
        if (f == NULL) continue;
        while (fgets(line, sizeof line, f) != NULL) {
            char *at = strstr(line, "voluntary_ctxt_switches:"); // and nonvoluntary
            if (at != NULL) sum += atol(strchr(line, ':') + 1);
        }
        fclose(f);
    }
    closedir(d);
    return sum;
}

static void *watches_an_idle_program(void *c)
{
    struct timespec tick = {0, 100 * 1000 * 1000};
    long before = -1, now = switches_of_others();
    // Until all have gone to sleep, or ended. A thread that has no CPU switches as little as one
    // that sleeps: only the third look in a row that sees nothing says so.
    for (int i = 0, quiet = 0; i < 100 && quiet < 3; i++) {
        nanosleep(&tick, NULL);
        before = now;
        now = switches_of_others();
        quiet = now == before ? quiet + 1 : 0;
    }
    before = switches_of_others();
    for (int i = 0; i < 10; i++) nanosleep(&tick, NULL);
    now = switches_of_others();
    say("%ld switches\n", now - before);
    if (c != NULL)
        csp_send(*(int_chan *)c, 1);
    else
        exit(0);
    return NULL;
}

static void idles(void *arg)
{
    int_chan c = csp_make(int, 0), done = csp_make(int, 0);
    csp_timer *t = csp_timer_new(CSP_HOUR);
    (void)arg;
    csp_procs(4);
    for (int i = 0; i < 100; i++)
        csp_go(sleeps, stream(i), 10, 1000, done); // wakes all processors up
    collect(done, 100);
    for (int i = 0; i < 10; i++) csp_spawn(block_forever, NULL);
    csp_spawn(sleeps_forever, (int64_t[]){CSP_HOUR});
    pthread_t watcher = thread_start(watches_an_idle_program, &c);
    CHECK(csp_recv(c, NULL));
    pthread_join(watcher, NULL);
    csp_timer_free(t);
    csp_unref(c);
    csp_unref(done);
}

CHILD(idle_in_run)
{
    csp_run(idles, NULL);
}
CHILD(idle_beside_threads)
{
    int n = 0;
    for (int i = 0; i < 100; i++) csp_spawn(bump, &n);
    EVENTUALLY(LOAD(&n) == 100);
    csp_spawn(block_forever, NULL);
    thread_start(watches_an_idle_program, NULL);
    block_forever(NULL); // a plain thread
}

static void forks_and_idles(void *arg)
{
    long result;
    for (int i = 0; i < 100; i++) fork_fib(10, &result);
    idles(arg);
}

CHILD(idle_after_forks)
{
    csp_run(forks_and_idles, NULL);
}

#ifndef _WIN32
csp_task(reads_for_ever, int, fd, int64_t, t)
{
    char b;
    for (;;) csp_read_until(fd, &b, 1, t);
}

static void idles_on_descriptors(void *arg)
{
    csp_procs(4);
    for (int i = 0; i < 20; i++) {
        int fds[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
        csp_go(reads_for_ever, fds[0], i % 2 ? CSP_FOREVER : csp_now() + CSP_HOUR);
        for (int k = 0; k < 100; k++) CHECK_EQ(csp_write(fds[1], "x", 1), 1);
    }
    idles(arg);
}
CHILD(idle_on_descriptors)
{
    csp_run(idles_on_descriptors, NULL);
}
#endif

/* ---- the order of locks, see RANKS in LOCKS: planted mistakes ---- */

static uint32_t two_locks[2];

CHILD(locks_timers_after_the_scheduler)
{
    csp_init(NULL);
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__lock(&csp__sched.procs[0]->heap_lock, CSP__RANK_HEAP);
}

CHILD(locks_two_that_have_one_rank)
{
    csp__lock(&two_locks[0], CSP__RANK_SYNC);
    csp__lock(&two_locks[1], CSP__RANK_SYNC);
}

CHILD(locks_channels_in_falling_order)
{
    csp__lock(&two_locks[1], CSP__RANK_CHAN);
    csp__lock(&two_locks[0], CSP__RANK_CHAN);
}

static void locks_and_yields(void *arg)
{
    (void)arg;
    csp__lock(&two_locks[0], CSP__RANK_CHAN);
    csp_yield();
}

CHILD(keeps_a_lock_across_a_switch)
{
    csp_run(locks_and_yields, NULL);
}

CHILD(unlocks_what_another_has_locked)
{
    two_locks[0] = 1;
    csp__unlock(&two_locks[0]);
}

CHILD(locks_in_order)
{
    csp__lock(&csp__sched.start_lock, CSP__RANK_START);
    csp__lock(&two_locks[0], CSP__RANK_CHAN);
    csp__lock(&two_locks[1], CSP__RANK_CHAN);
    csp__lock(&csp__stacks.lock, CSP__RANK_STACKS);
    csp__unlock(&two_locks[0]); // they may be dropped in any order
    csp__unlock(&csp__stacks.lock);
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__unlock(&two_locks[1]);
    csp__unlock(&csp__sched.lock);
    csp__unlock(&csp__sched.start_lock);
}

TEST_PLAIN(sched, a_torture_build_finds_locks_that_are_taken_in_the_wrong_order)
{
    static const char *const children[][2] = {
        {"locks_timers_after_the_scheduler", ": HEAP while SCHED is held, since csp.h:"},
        {"locks_two_that_have_one_rank", ": SYNC while SYNC is held, since csp.h:"},
        {"locks_channels_in_falling_order", ": CHAN while CHAN is held, since csp.h:"},
        {"keeps_a_lock_across_a_switch", ": a switch, or the end of a call, while CHAN is held"},
        {"unlocks_what_another_has_locked", "a lock is dropped that this thread does not hold"},
    };
    CHECK_CHILD(run_child("locks_in_order", NULL), 0);
    if (!CSP_TORTURE) SKIP("other builds do not look");
    for (size_t i = 0; i < sizeof children / sizeof children[0]; i++) {
        outcome *o = run_child(children[i][0], NULL);
        CHECK_CHILD(o, ABORTED);
        CHECK_HAS(o->text, children[i][1]);
    }
}

TEST_PLAIN(sched, an_idle_program_sleeps)
{
    if (TSAN) SKIP("the thread sanitizer has a thread that does not");
    static const char *const children[] = {"idle_in_run", "idle_beside_threads", "idle_after_forks",
                                           "idle_on_descriptors"};
    for (int i = 0; i < (WINDOWS ? 3 : 4); i++) {
        outcome *o = run_child(children[i], NULL);
        CHECK_CHILD(o, 0);
        if (strcmp(o->text, "0 switches\n") != 0) FAIL("%s", o->text);
    }
}

#endif // CSP_TEST_FEW < 1

/* ==========================================================================
 * handoff - processors are taken from whoever keeps them
 * ======================================================================== */

static int started, links_ended; // goroutines, by the links below

/* Hands each token to the next, and does this and that between. */
csp_task(link_of_chain, int_chan, in, int_chan, out, uint64_t, s)
{
    csp_range(v, in) {
        switch (below(&s, 8)) {
        case 0: csp_blocking busy(below(&s, 2000)); break;
        case 1: csp_yield(); break;
        case 2: csp_sleep(below(&s, 20) * CSP_MICROSECOND); break;
        case 3:
            ADD(&started, 1);
            csp_spawn(bump, &links_ended);
            break;
        default: busy(below(&s, 2000)); break;
        }
        csp_send(out, v + 1);
    }
    csp_close(out);
}

enum { LINKS = 6, CHAINS = 4 };

/* What goes in comes out at the other end of the chain, in the same order. */
csp_task(chain, uint64_t, s, int, n, int_chan, done)
{
    int_chan c[LINKS + 1];
    int sent = 0, v = 0;
    for (int i = 0; i <= LINKS; i++) c[i] = csp_make(int, i % 2);
    for (int i = 0; i < LINKS; i++) csp_go(link_of_chain, c[i], c[i + 1], next_random(&s));
    for (int i = 0; i < n; i++) {
        while (sent < n && sent < i + LINKS / 2) csp_send(c[0], LINKS * sent++);
        CHECK(csp_recv(c[LINKS], &v));
        CHECK_EQ(v, LINKS * (i + 1));
    }
    csp_close(c[0]);
    CHECK(!csp_recv(c[LINKS], NULL));
    for (int i = 0; i <= LINKS; i++) csp_unref(c[i]);
    csp_send(done, 1);
}

typedef struct thief {
    uint64_t s;
    int want, taken; // it ends when it has taken as many as wanted
} thief;

/* The monitor's part of the handshake, without its 10 ms of patience. */
__attribute__((noinline)) CSP__BLIND static void *takes_processors(void *arg)
{
    thief *t = (thief *)arg;
    while (LOAD(&t->taken) < t->want) {
        csp__p *p = csp__sched.procs[below(&t->s, csp__sched.nprocs)];
        csp__m *m = csp__acquire(&p->m);
        if (below(&t->s, 4) == 0) busy(below(&t->s, 3000)); // it may own another by then
        csp__barrier_spin(); // not with the lock, for which all others would wait inside csp
        csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
        if (m != NULL && csp__revoke_p(m, p, 0)) {
            csp__hand_off_locked(p);
            ADD(&t->taken, 1);
        }
        csp__unlock(&csp__sched.lock);
        if (below(&t->s, 4) == 0)
            usleep(10); // beside other programs sched_yield takes 10 ms and more
        else
            busy(below(&t->s, 3000));
    }
    return NULL;
}

static void chains(int n)
{
    int_chan done = csp_make(int, 0);
    for (int i = 0; i < CHAINS; i++) csp_go(chain, stream(i), n, done);
    collect(done, CHAINS);
    EVENTUALLY(LOAD(&links_ended) == LOAD(&started));
    csp_unref(done);
}

/* The handshake of WAKE. A processor with two owners, or with none, loses tokens or crashes. */
TEST(handoff, a_processor_taken_at_any_moment_has_one_owner)
{
    if (under_valgrind()) SKIP("one thread at a time, slowly");
    for (int procs = 1; procs <= 3; procs++) {
        thief t = {stream(100 + procs), rounds(1000), 0};
        csp_procs(procs);
        pthread_t thread = thread_start(takes_processors, &t);
        while (LOAD(&t.taken) < t.want) chains(rounds(100));
        pthread_join(thread, NULL);
    }
}

/* One take after the other, by the owner itself. Blind as csp's own functions are: with
 * no_sanitize("thread") clang goes on to instrument atomics from 16 on, and sees csp__enter before
 * the call that says what was before it. */
__attribute__((noinline)) CSP__BLIND static void is_taken_from(void)
{
    csp__m *m = csp__enter();
    csp__p *p = m->p, *other = csp__sched.procs[0] == p ? csp__sched.procs[1] : csp__sched.procs[0];
    csp__hb_after(&csp__heap_sync); // the monitor has made m
    while (LOAD(&m->revoke) != CSP__REVOKE_YIELD) csp__ask_to_yield(m, CSP__ANY_TURN);
    CHECK(!csp__revoke_p(m, p, 0)); // inside csp
    CHECK_EQ(LOAD(&m->revoke), CSP__REVOKE_YIELD);
    csp__leave(m);
    csp_yield(); // it was asked to
    for (bool taken = false; !taken;) {
        csp__leave(m = csp__enter());
        csp__hb_after(&csp__heap_sync);
        uint64_t epoch = csp__relaxed(&m->epoch);
        p = m->p; // NULL: the monitor was faster
        CHECK(!csp__revoke_p(m, p, epoch + 2) &&
              !csp__revoke_p(m, p, epoch - 2)); // of another call
        CHECK(p == other || !csp__revoke_p(m, other, epoch));
        csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
        taken = p != NULL && csp__revoke_p(m, p, epoch);
        if (taken) csp__hand_off_locked(p);
        csp__unlock(&csp__sched.lock);
    }
    csp_yield(); // and has one again
}

TEST(handoff, a_processor_is_taken_from_the_call_that_was_meant_and_what_was_asked_is_not_forgotten)
{
    for (int i = 0; i < 100; i++) {
        csp_procs(2);
        is_taken_from();
    }
}

/* The monitor sleeps while all processors are idle, and is there when a goroutine keeps one. */
TEST(handoff, a_goroutine_that_computes_after_all_have_slept_does_not_stop_the_others)
{
    int n = 0;
    csp_procs(1);
    for (int i = 1; i <= 5; i++) {
        csp_sleep(20 * CSP_MILLISECOND);
        csp_spawn(bump, &n);
        while (LOAD(&n) < i) continue;
    }
}

/* Its processor has nothing to run yet when it is taken, and the monitor sleeps by then. */
TEST(handoff, a_timer_due_later_fires_beside_a_goroutine_that_computes)
{
    int n = 0;
    csp_procs(1);
    csp_timer *t = csp_after_func(50 * CSP_MILLISECOND, bump, &n);
    while (LOAD(&n) == 0) continue;
    csp_timer_free(t);
}

csp_task(blocks_shortly, uint64_t, s, int *, stop, int_chan, done)
{
    while (!LOAD(stop)) csp_blocking busy(below(&s, 5000));
    csp_send(done, 1);
}

static void *spawns_until(void *arg)
{
    int *stop = (int *)arg, n = 0, k = 0;
    while (!LOAD(stop)) {
        csp_spawn(bump, &n);
        if (++k % 16 == 0)
            while (LOAD(&n) < k) sched_yield();
    }
    while (LOAD(&n) < k) sched_yield();
    return NULL;
}

/* A processor that a thread in csp_blocking has kept is taken by a thread that needs one. */
TEST(handoff, blocking_calls_and_threads_share_the_processors)
{
    if (under_valgrind()) SKIP("one thread at a time, slowly");
    int_chan done = csp_make(int, 0);
    for (int procs = 1; procs <= 3; procs++) {
        int stop = 0;
        csp_procs(procs);
        for (int i = 0; i < procs; i++) csp_go(blocks_shortly, stream(i), &stop, done);
        pthread_t thread = thread_start(spawns_until, &stop);
        chains(rounds(500));
        STORE(&stop, 1);
        collect(done, procs);
        pthread_join(thread, NULL);
    }
    csp_unref(done);
}

csp_task(reads_in_kernel, int, fd, int_chan, go, int_chan, done)
{
    char b;
    csp_range(v, go) {
        (void)v;
        csp_blocking CHECK_EQ(read(fd, &b, 1), 1);
        csp_send(done, 1);
    }
    csp_send(done, 1);
}

/* The monitor would need 10 ms for each. */
TEST(handoff, blocking_gives_the_processor_away_at_once)
{
    enum { N = 200 };
    int fds[2];
    int_chan go = csp_make(int, 0), done = csp_make(int, 1);
    csp_stats before, after;
    csp_procs(1);
    CHECK(pipe(fds) == 0);
    csp_go(reads_in_kernel, fds[0], go, done);
    csp_get_stats(&before);
    for (int i = 0; i < N; i++) {
        csp_send(go, 1);
        csp_yield(); // it reads now, or will
        CHECK(write(fds[1], "x", 1) == 1);
        CHECK(csp_recv(done, NULL));
    }
    csp_get_stats(&after);
    CHECK(after.handoffs - before.handoffs < N / 2);
    csp_close(go);
    collect(done, 1);
    close(fds[0]);
    close(fds[1]);
    csp_unref(go);
    csp_unref(done);
}

typedef struct waker_of_one {
    int fd, rounds, ran;
    uint32_t in_kernel;
} waker_of_one;

static void *spawns_for_the_blocked(void *arg)
{
    waker_of_one *w = arg;
    for (int i = 1; i <= w->rounds; i++) {
        while (LOAD(&w->in_kernel) != (uint32_t)i) sched_yield();
        usleep(100); // it reads now, or will
        csp_spawn(bump, &w->ran);
        while (LOAD(&w->ran) < i) sched_yield();
        CHECK(write(w->fd, "x", 1) == 1);
    }
    return NULL;
}

/* The monitor would need 10 ms for each. */
TEST(handoff, what_a_blocked_thread_has_kept_is_there_for_work_that_comes_later)
{
    char b;
    int fds[2];
    csp_stats before, after;
    csp_procs(1);
    CHECK(pipe(fds) == 0);
    waker_of_one w = {fds[1], 100, 0, 0};
    pthread_t thread = thread_start(spawns_for_the_blocked, &w);
    csp_get_stats(&before);
    for (int i = 1; i <= w.rounds; i++) {
        csp_blocking
        {
            STORE(&w.in_kernel, (uint32_t)i);
            CHECK(read(fds[0], &b, 1) == 1);
        }
    }
    csp_get_stats(&after);
    CHECK(after.handoffs - before.handoffs < (uint64_t)w.rounds / 2);
    pthread_join(thread, NULL);
    close(fds[0]);
    close(fds[1]);
}

static int leaves_blocking(int how)
{
    for (int i = 0; i < 3; i++) {
        csp_blocking
        {
            if (how == 0) return 10;
            if (how == 1) break;
            if (how == 2) continue;
            if (how == 3) goto out;
            csp_blocking csp_yield();
        }
        if (how == 4) return 14;
    }
    return how == 1 ? 11 : 12;
out:
    return 13;
}

TEST(handoff, blocking_may_be_left_in_any_way)
{
    for (int how = 0; how < 5; how++) CHECK_EQ(leaves_blocking(how), 10 + how);
    CHECK_PANICS("within", csp_blocking csp_panic("within"));
    csp_yield();
}

TEST_PLAIN(handoff, blocking_is_nothing_special_for_a_thread)
{
    csp_blocking usleep(1);
    CHECK_EQ(csp_count(), 0);
}

/* ---- no goroutine starves: hogs beside a ticker, and beside a thread for comparison ---- */

csp_task(hogs_until, int *, stop, int, kind, int_chan, done)
{
    while (!LOAD(stop)) {
        if (kind == 0)
            busy(10 * CSP_MILLISECOND);
        else if (kind == 1)
            usleep(10000);
        else
            busy(25 * CSP_MILLISECOND);
        csp_yield();
    }
    csp_send(done, 1);
}

static void *lateness_of_a_thread(void *arg)
{
    int64_t *late = (int64_t *)arg; // the worst, then: stop when not 0
    while (!LOAD(&late[1])) {
        int64_t t = clock_now() + CSP_MILLISECOND;
        usleep(1000);
        if (clock_now() - t > late[0]) late[0] = clock_now() - t;
    }
    return NULL;
}

/* How much later than a plain thread a ticker was at worst. */
static int64_t ticker_is_late(int kind)
{
    int_chan done = csp_make(int, 0);
    int stop = 0;
    int64_t fired = 0, worst = 0, thread[2] = {0, 0};
    csp_procs(1);
    pthread_t other = thread_start(lateness_of_a_thread, thread);
    for (int i = 0; i < 8; i++) csp_go(hogs_until, &stop, kind, done);
    csp_ticker *k = csp_ticker_new(5 * CSP_MILLISECOND);
    int64_t before = csp_now();
    for (int i = 0; i < 20; i++) {
        CHECK(csp_recv(csp_ticker_chan(k), &fired));
        int64_t now = csp_now();
        if (now - before > worst) worst = now - before;
        before = now;
    }
    csp_ticker_free(k);
    STORE(&stop, 1);
    STORE(&thread[1], 1);
    collect(done, 8);
    pthread_join(other, NULL);
    csp_unref(done);
    return worst - 5 * CSP_MILLISECOND - thread[0];
}

TEST(handoff, a_ticker_beside_hogs_is_not_late)
{
    if (under_valgrind() || emulated() || under_wine()) SKIP("about time");
    const int64_t most = (CSP_TORTURE ? 1000 : 100) * CSP_MILLISECOND; // its order is random
    for (int kind = 0; kind < 3; kind++) {
        int64_t late = INT64_MAX; // a loaded machine may be unlucky, but not always
        for (int i = 0; i < 5 && late > most; i++) late = ticker_is_late(kind);
        if (late > most) FAIL("%lld us late", (long long)late / 1000);
    }
}

/* The wait than which a quarter of a set is shorter. The waits of a loaded machine are long at
 * times, those of a runtime without a monitor always. So sets are taken until one passes, five at
 * most. */
enum { SET = 24, SETS = 5 };
static int64_t quarter(const int64_t *waits)
{
    int64_t sorted[SET];
    for (int i = 0, at; i < SET; i++) {
        for (at = i; at > 0 && sorted[at - 1] > waits[i]; at--) sorted[at] = sorted[at - 1];
        sorted[at] = waits[i];
    }
    return sorted[SET / 4];
}

/* A plain thread, which sleeps for a millisecond again and again as the monitor does: how late does
 * the system run it? Beside other programs a thread that is due waits for their slices. */
static struct {
    uint32_t stop;
    int64_t due, worst;
} plain_thread; // atomic

static void *sleeps_plainly(void *arg)
{
    (void)arg;
    while (!LOAD(&plain_thread.stop)) {
        int64_t due = clock_now() + CSP_MILLISECOND;
        STORE(&plain_thread.due, due);
        usleep(1000);
        if (clock_now() - due > LOAD(&plain_thread.worst))
            STORE(&plain_thread.worst, clock_now() - due);
    }
    return NULL;
}

static pthread_t plain_thread_begin(void)
{
    STORE(&plain_thread.stop, 0);
    STORE(&plain_thread.due, clock_now());
    STORE(&plain_thread.worst, 0);
    return thread_start(sleeps_plainly, NULL);
}

static void plain_thread_end(pthread_t t)
{
    STORE(&plain_thread.stop, 1);
    csp_blocking pthread_join(t, NULL);
}

static int64_t plain_thread_is_late(void)
{
    int64_t late = clock_now() - LOAD(&plain_thread.due);
    return late > LOAD(&plain_thread.worst) ? late : LOAD(&plain_thread.worst);
}

static int64_t due_at;  // atomic: when another goroutine has something to do; 0: not yet known
static int64_t woke_at; // atomic: when it ran; 0: not yet

/* Computes until the other goroutine has run, until `end` at most. Returns for how long that one
 * has waited, in time of the CPU that the caller has used since due_at: beside other programs the
 * system gives no thread its time at once, the caller's not either. Two threads must be run before
 * the other goroutine is, the monitor and one for it, so twice the lateness of a plain thread is
 * not counted. */
static int64_t compute_until_woken(int64_t end)
{
    int64_t began = 0, due;
    STORE(&plain_thread.worst, 0);
    while (LOAD(&woke_at) == 0 && clock_now() < end)
        if (began == 0 && (due = LOAD(&due_at)) != 0 && clock_now() >= due) began = cpu_now();
    if (LOAD(&woke_at) == 0) return CSP_SECOND;
    return began == 0 ? 0 : cpu_now() - began - 2 * plain_thread_is_late();
}

csp_task(computes_until_woken, int64_t, at, int_chan, done, int64_t *, waited)
{
    csp_sleep_until(at);
    *waited = compute_until_woken(at + 200 * CSP_MILLISECOND);
    csp_send(done, 1);
}

csp_task(sleeps_beside, int64_t, at, int_chan, done)
{
    csp_sleep_until(at);
    STORE(&woke_at, clock_now());
    csp_send(done, 1);
}

TEST(handoff, a_timer_is_in_time_while_the_thread_that_slept_for_it_computes)
{
    if (under_valgrind() || emulated() || under_wine()) SKIP("about time");
    bool passes = false;
    int64_t late[SET];
    int_chan done = csp_make(int, 0);
    csp_procs(4);
    pthread_t t = plain_thread_begin();
    for (int i = 0; i < SETS * SET && !passes; i++) {
        int64_t at = csp_now() + 2 * CSP_MILLISECOND, then = at + CSP_MILLISECOND;
        STORE(&due_at, then);
        STORE(&woke_at, 0);
        csp_go(computes_until_woken, at, done, &late[i % SET]);
        csp_go(sleeps_beside, then, done);
        collect(done, 2);
        csp_sleep(12 * CSP_MILLISECOND); // the monitor sleeps by then
        passes = i % SET == SET - 1 && quarter(late) < 2 * CSP_MILLISECOND;
    }
    plain_thread_end(t);
    if (!passes) FAIL("%lld us late", (long long)quarter(late) / 1000);
    csp_unref(done);
}

#ifndef _WIN32
csp_task(reads_beside, int, fd, int_chan, done)
{
    char c;
    CHECK_EQ(csp_read(fd, &c, 1), 1);
    STORE(&woke_at, clock_now());
    csp_send(done, 1);
}

static void *writes_in_a_while(void *arg)
{
    usleep(2500);
    STORE(&due_at, clock_now());
    CHECK_EQ(write(*(int *)arg, "x", 1), 1);
    return NULL;
}

TEST(handoff, a_pipe_is_read_in_time_while_the_thread_that_polled_computes)
{
    if (under_valgrind() || emulated()) SKIP("about time");
    bool passes = false;
    int64_t late[SET];
    int fds[2];
    int_chan done = csp_make(int, 0);
    CHECK(pipe(fds) == 0);
    csp_procs(4);
    pthread_t plain_one = plain_thread_begin();
    for (int i = 0; i < SETS * SET && !passes; i++) {
        STORE(&due_at, 0);
        STORE(&woke_at, 0);
        csp_go(reads_beside, fds[0], done);
        csp_go(computes_until_woken, csp_now() + 2 * CSP_MILLISECOND, done, &late[i % SET]);
        pthread_t t = thread_start(writes_in_a_while, &fds[1]);
        collect(done, 2);
        csp_blocking pthread_join(t, NULL);
        passes = i % SET == SET - 1 && quarter(late) < 2 * CSP_MILLISECOND;
    }
    plain_thread_end(plain_one);
    if (!passes) FAIL("%lld us late", (long long)quarter(late) / 1000);
    csp_close_fd(fds[0]);
    csp_close_fd(fds[1]);
    csp_unref(done);
}
#endif

csp_task(notes_when_it_runs, int_chan, in)
{
    csp_range(v, in)
        if (v == 1) STORE(&woke_at, clock_now());
}

TEST(handoff, a_goroutine_woken_by_one_that_computes_runs_on_an_idle_processor)
{
    if (under_valgrind() || emulated() || under_wine()) SKIP("about time");
    bool passes = false;
    int64_t waits[SET];
    int_chan c = csp_make(int, 0);
    csp_procs(2);
    pthread_t t = plain_thread_begin();
    csp_go(notes_when_it_runs, c);
    for (int i = 0; i < SETS * SET && !passes; i++) {
        for (int k = 0; k < 200; k++) csp_send(c, 0); // the habit of one that is quick
        STORE(&woke_at, 0);
        csp_send(c, 1);
        STORE(&due_at, clock_now());
        waits[i % SET] = compute_until_woken(LOAD(&due_at) + 200 * CSP_MILLISECOND);
        passes = i % SET == SET - 1 && quarter(waits) < 4 * CSP_MILLISECOND;
    }
    plain_thread_end(t);
    if (!passes) FAIL("%lld us late", (long long)quarter(waits) / 1000);
    csp_close(c);
    EVENTUALLY(csp_count() == 1);
    csp_unref(c);
}

static void exceeds_threads(void *arg)
{
    int fds[2];
    int_chan done = csp_make(int, 0);
    (void)arg;
    CHECK(pipe(fds) == 0);
    csp_max_threads(4);
    for (int i = 0; i < 10; i++) csp_go(blocks_in_kernel, fds[0], done);
    collect(done, 10);
}
CHILD(exceeds_threads)
{
    csp_run(exceeds_threads, NULL);
}

TEST_PLAIN(handoff, more_blocked_threads_than_allowed_end_the_program_with_a_message)
{
    outcome *o = run_child("exceeds_threads", NULL);
    CHECK_CHILD(o, 2);
    CHECK_HAS(o->text, "thread limit exceeded: all 4 threads are blocked (csp_max_threads)");
}

csp_task(known_hog, int, ms, int_chan, done)
{
    busy(ms * CSP_MILLISECOND);
    csp_send(done, 1);
}
static void hogs_twice(void *arg)
{
    int_chan done = csp_make(int, 0);
    (void)arg;
    csp_procs(1);
    for (int i = 0; i < 2; i++) {
        csp_go(known_hog, 500, done);
        collect(done, 1);
    }
    csp_unref(done);
}
CHILD(hogs_twice)
{
    csp_run(hogs_twice, NULL);
}

TEST_PLAIN(handoff, debug_hogs_names_each_start_site_once)
{
    outcome *o = run_child("hogs_twice", "CSP_DEBUG=hogs");
    CHECK_CHILD(o, 0);
    static const char known[] = "csp: hog: known_hog, started at " __FILE__ ":";
    CHECK_HAS(o->text,
              known); // and main, too, where the machine is so busy that it keeps a CPU away
    CHECK(strstr(strstr(o->text, known) + 1, known) == NULL);
}

TEST(handoff, threads_that_nobody_needs_go_away)
{
    if (!CSP_TORTURE && TSAN) SKIP("they stay, lest the thread sanitizer calls them a leak");
    if (!CSP_TORTURE && scale < 0.5) SKIP("takes seconds but in the torture build");
    int fds[2];
    int_chan done = csp_make(int, 0);
    csp_stats s;
    CHECK(pipe(fds) == 0);
    for (int i = 0; i < 8; i++) csp_go(blocks_in_kernel, fds[0], done);
    EVENTUALLY((csp_get_stats(&s), s.threads > 8));
    CHECK(write(fds[1], "12345678", 8) == 8);
    collect(done, 8);
    EVENTUALLY((csp_get_stats(&s), s.threads <= csp_procs(0) + 2));
    close(fds[0]);
    close(fds[1]);
    csp_unref(done);
}

static pthread_key_t last_words;
static int words_said;

static void says_last_words(void *unused)
{
    (void)unused;
    nanosleep(&(struct timespec){0, 20000000}, NULL); // by now the thread is waited for
    CHECK(csp_id() != 0);
    ADD(&words_said, 1);
}

csp_task(blocks_with_last_words, int, fd, int_chan, done)
{
    char byte;
    csp_blocking
    {
        CHECK(pthread_setspecific(last_words, &words_said) == 0);
        CHECK(read(fd, &byte, 1) == 1);
    }
    csp_send(done, 1);
}

/* The next thread takes the record of one that has left, and first waits for its end. */
TEST(handoff, a_thread_that_leaves_may_call_csp_in_its_last_destructors)
{
    if (!CSP_TORTURE && TSAN) SKIP("they stay, lest the thread sanitizer calls them a leak");
    if (!CSP_TORTURE && scale < 0.5) SKIP("takes seconds but in the torture build");
    int fds[2];
    int_chan done = csp_make(int, 0);
    csp_stats s;
    CHECK(pipe(fds) == 0);
    CHECK(pthread_key_create(&last_words, says_last_words) == 0);
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 8; i++) csp_go(blocks_with_last_words, fds[0], done);
        EVENTUALLY((csp_get_stats(&s), s.threads > 8));
        CHECK(write(fds[1], "12345678", 8) == 8);
        collect(done, 8);
        EVENTUALLY((csp_get_stats(&s), s.threads <= csp_procs(0) + 2));
    }
    EVENTUALLY(LOAD(&words_said) > 0);
    close(fds[0]);
    close(fds[1]);
    csp_unref(done);
}

#ifndef _WIN32
/* ==========================================================================
 * fd - pipes, files, terminals, sockets of others
 * ======================================================================== */

static void socket_pair(int *fds)
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
}

static void close_both(const int *fds)
{
    CHECK_EQ(csp_close_fd(fds[0]), 0);
    CHECK_EQ(csp_close_fd(fds[1]), 0);
}

/* Byte i of every stream below. */
static char byte_at(int64_t i)
{
    return (char)(i * 7 + i / 251);
}

csp_task(sends_bytes, int, fd, int64_t, n, int, piece, uint64_t, s)
{
    char buffer[8192];
    for (int64_t at = 0; at < n;) {
        int k = 1 + below(&s, piece);
        if (k > n - at) k = (int)(n - at);
        for (int i = 0; i < k; i++) buffer[i] = byte_at(at + i);
        CHECK_EQ(csp_write_full(fd, buffer, (size_t)k), k);
        at += k;
        if (below(&s, 8) == 0) csp_sleep(below(&s, 50) * CSP_MICROSECOND);
    }
    CHECK_EQ(csp_close_fd(fd), 0);
}

static int64_t receives_bytes(int fd, int piece, uint64_t s)
{
    char buffer[8192];
    int64_t at = 0, n;
    while ((n = csp_read(fd, buffer, (size_t)(1 + below(&s, piece)))) > 0) {
        for (int64_t i = 0; i < n; i++)
            if (buffer[i] != byte_at(at + i)) FAIL("byte %lld differs", (long long)(at + i));
        at += n;
        if (below(&s, 16) == 0) csp_yield();
    }
    CHECK_EQ(n, 0);
    return at;
}

TEST(fd, pipes_and_socket_pairs_carry_what_is_written_to_the_end)
{
    for (int k = 0; k < 4; k++) {
        int fds[2], piece = k / 2 ? 8192 : 100;
        int64_t n = rounds(k / 2 ? 2000000 : 50000);
        if (k % 2)
            socket_pair(fds);
        else
            CHECK(pipe(fds) == 0);
        csp_go(sends_bytes, fds[1], n, piece, stream(k));
        CHECK_EQ(receives_bytes(fds[0], piece, stream(9 + k)), n);
        CHECK_EQ(csp_close_fd(fds[0]), 0);
    }
}

TEST(fd, a_slow_reader_stops_its_writer_and_nobody_else)
{
    int fds[2], n = 0;
    char buffer[1000];
    CHECK(pipe(fds) == 0);
    csp_procs(1);
    csp_go(sends_bytes, fds[1], (int64_t)100000, 8192, stream(1));
    for (int i = 1; i <= 100; i++) {
        csp_spawn(bump, &n);
        EVENTUALLY(LOAD(&n) == i);
        CHECK_EQ(csp_read_full(fds[0], buffer, sizeof buffer), 1000);
        CHECK_EQ(buffer[0], byte_at((i - 1) * 1000));
    }
    CHECK_EQ(csp_read_full(fds[0], buffer, 1), 0);
    CHECK_EQ(csp_close_fd(fds[0]), 0);
}

csp_task(dribbles, int, fd, int, n, uint64_t, s)
{
    for (int i = 0; i < n; i++) {
        char b = byte_at(i);
        CHECK_EQ(csp_write(fd, &b, 1), 1);
        if (below(&s, 2)) csp_sleep(below(&s, 100) * CSP_MICROSECOND);
    }
}

TEST(fd, deadlines_that_pass_while_data_arrive_lose_none)
{
    int fds[2], n = rounds(3000), timeouts = 0;
    uint64_t s = stream(0);
    char b = 0;
    socket_pair(fds);
    csp_go(dribbles, fds[1], n, stream(1));
    for (int i = 0; i < n;) {
        int64_t t = csp_now() + below(&s, 60) * CSP_MICROSECOND;
        csp_ssize k = below(&s, 4) ? csp_read_until(fds[0], &b, 1, t)
                      : csp_wait_fd_until(fds[0], CSP_READABLE, t) == -ETIMEDOUT
                          ? -ETIMEDOUT
                          : csp_read(fds[0], &b, 1);
        if (k == -ETIMEDOUT) {
            CHECK(csp_now() >= t);
            timeouts++;
            continue;
        }
        CHECK_EQ(k, 1);
        CHECK_EQ(b, byte_at(i));
        i++;
    }
    CHECK(csp_read_until(fds[0], &b, 1, csp_now() - 1) == -ETIMEDOUT);
    CHECK(timeouts > 0 || rounds(1000) < 10);
    EVENTUALLY(csp_count() == 1);
    close_both(fds);
}

csp_task(waits_on, int, fd, int, how, int_chan, result)
{
    static char buffer[1 << 20];
    csp_ssize n = how == 0   ? csp_read(fd, buffer, 1)
                  : how == 1 ? csp_write_full(fd, buffer, sizeof buffer)
                  : how == 2 ? csp_wait_fd(fd, CSP_READABLE)
                  : how == 3
                      ? csp_wait_fd_until(fd, CSP_READABLE | CSP_WRITABLE, csp_now() + CSP_HOUR)
                  : how == 4 ? csp_accept(fd)
                             : csp_recv_from(fd, buffer, 1, NULL);
    csp_send(result, (int)n);
}

/* Each round closes a number at a random moment, that the next one gets again. */
TEST(fd, close_wakes_who_waits_and_the_number_may_be_used_again)
{
    int_chan result = csp_make(int, 4);
    uint64_t s = stream(0);
    csp_wait_fd_until(1, CSP_WRITABLE,
                      csp_now()); // has the poller opened, before any number is reused
    for (int i = 0; i < rounds(500); i++) {
        int fds[2], n = 0, waiters = 1 + below(&s, 3);
        socket_pair(fds);
        for (int k = 0; k < waiters; k++)
            csp_go(waits_on, fds[0], (int[]){0, 2, 5}[below(&s, 3)], result);
        for (int k = below(&s, 6); k > 0; k--) csp_yield();
        if (below(&s, 4) == 0) csp_sleep(50 * CSP_MICROSECOND);
        CHECK_EQ(csp_close_fd(fds[0]), 0);
        for (int k = 0; k < waiters; k++) { // -EBADF: it came too late
            CHECK(csp_recv(result, &n));
            if (n != -ECANCELED && n != -EBADF) FAIL("%d", n);
        }
        CHECK_EQ(csp_close_fd(fds[0]), -EBADF);
        CHECK_EQ(csp_close_fd(fds[1]), 0);
    }
    csp_unref(result);
}

TEST(fd, close_wakes_writers_and_acceptors_too)
{
    int fds[2], n = 0, listener = csp_listen("127.0.0.1:0");
    int_chan result = csp_make(int, 0);
    socket_pair(fds);
    csp_go(waits_on, fds[0], 1, result);
    csp_go(waits_on, listener, 4, result);
    EVENTUALLY(dump_has("write") && dump_has("accept"));
    CHECK_EQ(csp_close_fd(fds[0]), 0);
    CHECK(csp_recv(result, &n) && n == -ECANCELED);
    CHECK_EQ(csp_close_fd(listener), 0);
    CHECK(csp_recv(result, &n) && n == -ECANCELED);
    CHECK_EQ(csp_close_fd(fds[1]), 0);
    csp_unref(result);
}

csp_task(closes_now, int, fd, int_chan, done)
{
    CHECK_EQ(csp_close_fd(fd), 0);
    csp_send(done, 1);
}

/* A number is free from the middle of close(2) on: before the closer is back from it, the next
 * pipe of another thread may have it. */
csp_task(opens_and_closes, int, n, bool, beside_calls, uint64_t, s, int_chan, done)
{
    int_chan result = csp_make(int, 1);
    char b = 0;
    for (int i = 0; i < n; i++) {
        int fds[2], k = 0;
        CHECK(pipe(fds) == 0);
        switch (beside_calls ? below(&s, 4) : 0) {
        case 1: // a call that has to be sent off
            csp_go(waits_on, fds[0], 2 * below(&s, 2), result);
            EVENTUALLY((LOAD(&csp__fd_of(fds[0])->users) & (CSP__FD_AWAITED - 1)) != 0);
            k = 1;
            break;
        case 2:
            k = (int)csp_read_until(fds[0], &b, 1, csp_now() + below(&s, 20000));
            CHECK_EQ(k, -ETIMEDOUT);
            k = 0;
            break;
        case 3:
            CHECK_EQ(csp_write(fds[1], &b, 1), 1);
            CHECK_EQ(csp_read(fds[0], &b, 1), 1);
            break;
        default: break;
        }
        CHECK_EQ(csp_close_fd(fds[0]), 0);
        if (k == 1) {
            CHECK(csp_recv(result, &k));
            CHECK_EQ(k, -ECANCELED);
        }
        CHECK_EQ(csp_close_fd(fds[1]), 0);
    }
    csp_unref(result);
    csp_send(done, 1);
}

typedef struct closing {
    int n;
    uint64_t s;
    int_chan done;
} closing;

static void *thread_opens_and_closes(void *arg)
{
    closing *c = arg;
    opens_and_closes(c->n, true, c->s, c->done);
    return NULL;
}

TEST_PLAIN(fd, numbers_that_several_threads_reuse_at_once_are_closed_once_each)
{
    for (int round = 0; round < 3; round++) {
        closing c = {rounds(round == 0 ? 20000 : 3000), stream(round), csp_make(int, 8)};
        pthread_t t[2];
        for (int i = 0; i < 4; i++)
            csp_go(opens_and_closes, c.n, round > 0, stream(10 + i), c.done);
        for (int i = 0; round == 2 && i < 2; i++) t[i] = thread_start(thread_opens_and_closes, &c);
        collect(c.done, round == 2 ? 6 : 4);
        for (int i = 0; round == 2 && i < 2; i++) pthread_join(t[i], NULL);
        csp_unref(c.done);
    }
    int fds[2];
    CHECK(pipe(fds) == 0); // all numbers are free again
    CHECK(fds[1] < 16);
    close_both(fds);
}

/* Between the try and the wait, where a goroutine cannot be stopped: the test makes these calls by
 * hand. */
TEST(fd, who_is_about_to_wait_when_it_is_closed_does_not_wait)
{
    int fds[2];
    csp__op o, late;
    int_chan done = csp_make(int, 1);
    socket_pair(fds);
    CHECK_EQ(csp__fd_enter(&o, fds[0]), 0);
    csp_go(closes_now, fds[0], done);
    EVENTUALLY(LOAD(&o.d->gen) != o.gen);
    uint32_t seen[2] = {LOAD(&o.d->seq[0]), LOAD(&o.d->seq[1])};
    CHECK_EQ(csp__fd_wait(&o, CSP__EVQ_IN, seen, csp_now() + CSP_SECOND, "read"), -ECANCELED);
    CHECK_EQ(csp__fd_enter(&late, fds[0]), -EBADF); // it is still open, and not for long
    CHECK_EQ(csp_len(done), 0);
    csp__fd_leave(&o);
    collect(done, 1);
    CHECK_EQ(csp_close_fd(fds[1]), 0);
    csp_unref(done);
}

TEST(fd, what_is_ready_wins_over_a_deadline_that_has_passed)
{
    int fds[2];
    char b = 0;
    socket_pair(fds);
    CHECK_EQ(csp_write_until(fds[1], "x", 1, csp_now() - 1), 1);
    CHECK_EQ(csp_read_until(fds[0], &b, 1, csp_now() - 1), 1);
    CHECK_EQ(csp_read_until(fds[0], &b, 1, csp_now() - 1), -ETIMEDOUT);
    close_both(fds);
}

static void *thread_writes_later(void *fd)
{
    usleep(20000);
    CHECK(write(*(int *)fd, "x", 1) == 1);
    return NULL;
}

/* One of the sleeping threads has to be sent to the poller. */
TEST_PLAIN(fd, a_thread_that_waits_while_all_others_sleep_is_woken)
{
    int fds[2], n = 0;
    char b = 0;
    CHECK(pipe(fds) == 0);
    csp_spawn(bump, &n);
    EVENTUALLY(LOAD(&n) == 1);
    usleep(50000);
    pthread_t t = thread_start(thread_writes_later, &fds[1]);
    CHECK_EQ(csp_read(fds[0], &b, 1), 1);
    pthread_join(t, NULL);
    close_both(fds);
}

TEST(fd, wait_fd_says_what_is_ready)
{
    int fds[2];
    char b = 0;
    socket_pair(fds);
    CHECK_EQ(csp_wait_fd_until(fds[0], CSP_READABLE, csp_now() + CSP_MILLISECOND), -ETIMEDOUT);
    CHECK_EQ(csp_wait_fd(fds[0], CSP_READABLE | CSP_WRITABLE), CSP_WRITABLE);
    CHECK_EQ(csp_write(fds[1], "x", 1), 1);
    CHECK_EQ(csp_wait_fd(fds[0], CSP_READABLE | CSP_WRITABLE), 3);
    CHECK_EQ(csp_wait_fd_until(fds[0], CSP_READABLE, csp_now() - 1), CSP_READABLE);
    CHECK_EQ(csp_read(fds[0], &b, 1), 1);
    CHECK_EQ(csp_close_fd(fds[1]), 0);
    CHECK_EQ(csp_wait_fd(fds[0], CSP_READABLE), CSP_READABLE);
    CHECK_EQ(csp_wait_fd(fds[0], 0), -EINVAL);
    CHECK_EQ(csp_wait_fd(fds[0], 4), -EINVAL);
    CHECK_EQ(csp_close_fd(fds[0]), 0);
}

TEST(fd, moving_no_bytes_waits_for_nothing)
{
    int fds[2][2];
    char b[1];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[0]) == 0 && pipe(fds[1]) == 0);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(csp_read(fds[i][0], b, 0), 0);
        CHECK_EQ(csp_read_full(fds[i][0], b, 0), 0);
        CHECK_EQ(csp_write(fds[i][1], b, 0), 0);
        CHECK_EQ(csp_write_full(fds[i][1], b, 0), 0);
        csp_close_fd(fds[i][0]);
        csp_close_fd(fds[i][1]);
        CHECK_EQ(csp_read(fds[i][0], b, 0), -EBADF);
    }
}

TEST(fd, bad_descriptors_are_errors)
{
    csp_address b;
    static const int bad[] = {-1, -1000, 999, 1 << 30};
    for (int i = 0; i < 4; i++) {
        int want = i < 3 ? -EBADF : -EMFILE;
        CHECK_EQ(csp_read(bad[i], b.text, 1), want);
        CHECK_EQ(csp_write(bad[i], b.text, 1), want);
        CHECK_EQ(csp_wait_fd(bad[i], CSP_READABLE), want);
        CHECK_EQ(csp_accept(bad[i]), want);
        CHECK_EQ(csp_close_write(bad[i]), want);
        CHECK_EQ(csp_recv_from(bad[i], b.text, 1, NULL), want);
        CHECK_EQ(csp_send_to(bad[i], b.text, 1, "udp:127.0.0.1:9"), want);
        CHECK_EQ(csp_close_fd(bad[i]), -EBADF);
        CHECK_EQ(csp_local_address(bad[i], &b), -EBADF);
        CHECK_EQ(csp_peer_address(bad[i], &b), -EBADF);
    }
    int fds[2];
    CHECK(pipe(fds) == 0);
    CHECK_EQ(csp_write(fds[0], b.text, 1), -EBADF);
    CHECK_EQ(csp_read(fds[1], b.text, 1), -EBADF);
    CHECK_EQ(csp_accept(fds[0]), -ENOTSOCK);
    CHECK_EQ(csp_close_write(fds[0]), -ENOTSOCK);
    CHECK_EQ(csp_local_address(fds[0], &b), -ENOTSOCK);
    CHECK_EQ(csp_read(fds[0], b.text, 0), 0);
    close_both(fds);
}

TEST(fd, regular_files_are_read_and_written)
{
    char buffer[100];
    FILE *f = tmpfile();
    CHECK(f != NULL);
    int fd = dup(fileno(f));
    fclose(f);
    CHECK_EQ(csp_wait_fd(fd, CSP_READABLE), CSP_READABLE);
    for (int i = 0; i < 100; i++) CHECK_EQ(csp_write(fd, "0123456789", 10), 10);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    for (int i = 0; i < 10; i++) CHECK_EQ(csp_read_full(fd, buffer, 100), 100);
    CHECK(memcmp(buffer + 90, "0123456789", 10) == 0);
    CHECK_EQ(csp_read_until(fd, buffer, 100, csp_now() + CSP_HOUR), 0);
    CHECK_EQ(csp_close_fd(fd), 0);
    fd = open("/", O_RDONLY | O_DIRECTORY);
    CHECK_EQ(csp_read(fd, buffer, 1), -EISDIR);
    CHECK_EQ(csp_close_fd(fd), 0);
}

TEST(fd, a_terminal_is_waited_for_and_left_as_it_was)
{
    char line[16] = "";
    int ours = posix_openpt(O_RDWR | O_NOCTTY);
    if (ours < 0 || grantpt(ours) != 0 || unlockpt(ours) != 0) SKIP("no terminals here");
    int theirs = open(ptsname(ours), O_RDWR | O_NOCTTY);
    CHECK(theirs >= 0);
    CHECK_EQ(csp_read_until(theirs, line, 16, csp_now() + CSP_MILLISECOND), -ETIMEDOUT);
    CHECK_EQ(csp_write(ours, "hello\n", 6), 6);
    CHECK_EQ(csp_read(theirs, line, 16), 6);
    CHECK_EQ(csp_write(theirs, "x", 1), 1);
    CHECK((fcntl(theirs, F_GETFL) & O_NONBLOCK) == 0);
    CHECK_EQ(csp_close_fd(theirs), 0);
    CHECK_EQ(csp_close_fd(ours), 0);
}

TEST(fd, inherited_descriptors_stay_blocking)
{
    int fds[2];
    char b = 0;
    CHECK(pipe(fds) == 0);
    CHECK_EQ(csp_read_until(fds[0], &b, 1, csp_now() + CSP_MILLISECOND), -ETIMEDOUT);
    CHECK_EQ(csp_write(fds[1], "x", 1), 1);
    CHECK_EQ(csp_read(fds[0], &b, 1), 1);
    for (int i = 0; i < 2; i++) CHECK((fcntl(fds[i], F_GETFL) & O_NONBLOCK) == 0);
    fcntl(fds[0], F_SETFL, O_NONBLOCK); // the program's own stays, too
    CHECK_EQ(csp_read_until(fds[0], &b, 1, csp_now() + CSP_MILLISECOND), -ETIMEDOUT);
    CHECK((fcntl(fds[0], F_GETFL) & O_NONBLOCK) != 0);
    close_both(fds);
}

static int sigpipes;

static void on_sigpipe(int signo)
{
    (void)signo;
    sigpipes++;
}

TEST(fd, writing_to_what_nobody_reads_is_an_error_and_no_signal)
{
    struct sigaction now, own = {.sa_handler = on_sigpipe};
    sigset_t mask;
    for (int k = 0; k < 3; k++) {
        int fds[2];
        if (k == 0)
            socket_pair(fds);
        else
            CHECK(pipe(fds) == 0);
        if (k == 2) sigaction(SIGPIPE, &own, NULL);
        CHECK_EQ(csp_close_fd(fds[0]), 0);
        for (int i = 0; i < 10; i++) CHECK_EQ(csp_write(fds[1], "x", 1), -EPIPE);
        CHECK_EQ(csp_close_fd(fds[1]), 0);
        sigaction(SIGPIPE, NULL, &now);
        CHECK(now.sa_handler == (k == 2 ? on_sigpipe : SIG_DFL));
    }
    csp_lock_thread();
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    CHECK(!sigismember(&mask, SIGPIPE));
    raise(SIGPIPE); // the program's own still arrives
    CHECK_EQ(sigpipes, 1);
    csp_unlock_thread();
    signal(SIGPIPE, SIG_DFL);
}

#endif
csp_task(echoes_all, int, fd)
{
    char buffer[4096];
    for (csp_ssize n; (n = csp_read(fd, buffer, sizeof buffer)) > 0;)
        if (csp_write_full(fd, buffer, (size_t)n) < 0) break;
    csp_close_fd(fd);
}

#ifndef _WIN32
static void *asks_from_a_thread(void *arg)
{
    int fd = *(int *)arg;
    char b = 0;
    for (int i = 0; i < rounds(300); i++) {
        char c = byte_at(i);
        CHECK_EQ(csp_write(fd, &c, 1), 1);
        CHECK_EQ(csp_read_until(fd, &b, 1, csp_now() + CSP_HOUR), 1);
        CHECK_EQ(b, c);
    }
    CHECK_EQ(csp_read_until(fd, &b, 1, csp_now() + CSP_MILLISECOND), -ETIMEDOUT);
    csp_close_fd(fd);
    return NULL;
}

TEST_PLAIN(fd, threads_wait_for_descriptors_too)
{
    int fds[3][2];
    pthread_t t[3];
    for (int i = 0; i < 3; i++) {
        socket_pair(fds[i]);
        csp_go(echoes_all, fds[i][0]);
        t[i] = thread_start(asks_from_a_thread, &fds[i][1]);
    }
    for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
}

/* ---- ending the waits from outside ---- */

csp_task(waits_and_tells, int, fd, int, how, csp_sender(int), result)
{
    char b = 0;
    struct iovec part = {&b, 1};
    static char much[1 << 20];
    csp_ssize n = how == 0   ? csp_read(fd, &b, 1)
                  : how == 1 ? csp_write_full(fd, much, sizeof much)
                  : how == 2 ? csp_wait_fd(fd, CSP_READABLE)
                  : how == 3 ? csp_read_until(fd, &b, 1, csp_now() + CSP_HOUR)
                  : how == 4 ? csp_recv_from(fd, &b, 1, NULL)
                  : how == 5 ? csp_read_full(fd, &b, 1)
                  : how == 6 ? csp_accept(fd)
                             : 0;
    while (how == 7 && (n = csp_writev(fd, &part, 1)) > 0) continue;
    csp_send(result, (int)n);
}

/* The waiters that stand at fd now. */
CSP__FN CSP__NOINLINE int waiters_of(int fd) // as csp's own: the thread sanitizer sees no locks
{
    csp__fd *d = csp__fd_of(fd);
    int n = 0;
    csp__lock(&d->lock, CSP__RANK_FD);
    for (csp__waiter *w = d->waiters; w != NULL; w = w->next) n++;
    csp__unlock(&d->lock);
    return n;
}

TEST(fd, an_interrupt_ends_every_kind_of_wait_and_the_descriptor_stays_open)
{
    csp_chan(int) result = csp_make(int, 8);
    int fds[2], n = 0;
    static const int kinds[] = {0, 1, 2, 3, 4, 5};
    socket_pair(fds);
    for (int i = 0; i < 6; i++) csp_go(waits_and_tells, fds[0], kinds[i], csp_send_end(result));
    EVENTUALLY(waiters_of(fds[0]) == 6);
    CHECK_EQ(csp_interrupt_fd(fds[0]), 0);
    for (int i = 0; i < 6; i++) CHECK(csp_recv(result, &n) && n == -ECANCELED);
    CHECK_EQ(csp_interrupt_fd(fds[0]), 0); // again
    CHECK_EQ(csp_wait_fd_until(fds[0], CSP_READABLE, csp_now() - 1), -ECANCELED);
    CHECK_EQ(csp_close_fd(fds[0]), 0);
    CHECK_EQ(csp_close_fd(fds[1]), 0);
    int listener = csp_listen("127.0.0.1:0");
    csp_go(waits_and_tells, listener, 6, csp_send_end(result));
    EVENTUALLY(waiters_of(listener) == 1);
    CHECK_EQ(csp_interrupt_fd(listener), 0);
    CHECK(csp_recv(result, &n) && n == -ECANCELED);
    CHECK_EQ(csp_accept(listener), -ECANCELED);
    CHECK_EQ(csp_close_fd(listener), 0);
    CHECK(pipe(fds) == 0);
    csp_go(waits_and_tells, fds[1], 7, csp_send_end(result));
    EVENTUALLY(waiters_of(fds[1]) == 1);
    CHECK_EQ(csp_interrupt_fd(fds[1]), 0);
    CHECK(csp_recv(result, &n) && n == -ECANCELED);
    close_both(fds);
    csp_unref(result);
}

typedef struct first_calls {
    int fd, there, go_on, over;
} first_calls;

csp_task(calls_at_once, first_calls *, f, csp_sender(int), result)
{
    char b = 0;
    ADD(&f->there, 1);
    for (int i = 1; !LOAD(&f->go_on); i++)
        if (i % 100 == 0) csp_yield();
    int n = (int)csp_read(f->fd, &b, 1);
    ADD(&f->over, 1);
    csp_send(result, n);
}

TEST(fd, several_first_calls_on_a_number_wait_for_the_same_descriptor)
{
    csp_chan(int) result = csp_make(int, 4);
    csp_procs(4);
    for (int i = 0; i < rounds(3000); i++) {
        int fds[2], n = 0;
        socket_pair(fds); // the number of the round before, and another descriptor
        first_calls f = {fds[0], 0, 0, 0};
        for (int k = 0; k < 4; k++) csp_go(calls_at_once, &f, csp_send_end(result));
        EVENTUALLY(LOAD(&f.there) == 4);
        STORE(&f.go_on, 1);
        EVENTUALLY(waiters_of(fds[0]) == 4 || LOAD(&f.over) != 0);
        CHECK_EQ(csp_write(fds[1], "abcd", 4), 4);
        for (int k = 0; k < 4; k++) {
            CHECK(csp_recv(result, &n));
            CHECK_EQ(n, 1);
        }
        close(fds[0]);
        close(fds[1]);
    }
    csp_unref(result);
}

TEST(fd, what_is_there_when_it_is_interrupted_may_still_be_read)
{
    char b[8] = "";
    for (int k = 0; k < 2; k++) {
        int fds[2];
        if (k == 0)
            socket_pair(fds);
        else
            CHECK(pipe(fds) == 0);
        CHECK_EQ(csp_read_until(fds[0], b, 1, csp_now() + 1), -ETIMEDOUT); // it is registered
        CHECK_EQ(csp_write(fds[1], "abcd", 4), 4);
        CHECK_EQ(csp_interrupt_fd(fds[0]), 0);
        CHECK_EQ(csp_wait_fd(fds[0], CSP_READABLE), CSP_READABLE);
        CHECK_EQ(csp_read(fds[0], b, 2), 2);
        CHECK_EQ(csp_read_full(fds[0], b, 2), 2);
        CHECK_EQ(csp_read(fds[0], b, 1), -ECANCELED);
        CHECK_EQ(csp_bind_fd(fds[0], NULL), 0); // does not undo it
        CHECK_EQ(csp_read(fds[0], b, 1), -ECANCELED);
        CHECK_EQ(csp_write(fds[1], "e", 1), 1); // the other side knows nothing of it
        CHECK(csp_read(fds[0], b, 1) == 1 && b[0] == 'e');
        close_both(fds);
        CHECK_EQ(csp_interrupt_fd(fds[0]), -EBADF);
    }
}

/* A TCP socket that is known to be empty is not asked again, unless it is over. */
TEST(fd, what_came_since_the_last_short_read_may_be_read_after_an_interrupt)
{
    csp_address a;
    char b[8];
    for (int i = 0; i < rounds(200); i++) {
        int listener = csp_listen("127.0.0.1:0");
        CHECK_EQ(csp_local_address(listener, &a), 0);
        int fd = csp_dial(a.text), far = csp_accept(listener);
        CHECK_EQ(csp_write(far, "a", 1), 1);
        CHECK_EQ(csp_read(fd, b, 8), 1); // a short one
        CHECK_EQ(csp_write(far, "b", 1), 1);
        CHECK_EQ(csp_interrupt_fd(fd), 0);
        CHECK_EQ(csp_read(fd, b, 8), 1);
        CHECK_EQ(csp_read(fd, b, 8), -ECANCELED);
        csp_close_fd(fd);
        csp_close_fd(far);
        csp_close_fd(listener);
    }
}

csp_task(interrupts, int, fd, int, yields, csp_sender(bool), done)
{
    while (yields-- > 0) csp_yield();
    CHECK_EQ(csp_interrupt_fd(fd), 0);
    csp_send(done, true);
}

static void *thread_interrupts(void *fd)
{
    CHECK_EQ(csp_interrupt_fd(*(int *)fd), 0);
    return NULL;
}

/* Each round interrupts a number at a random moment, closes it, and uses it again at once. */
TEST(fd, an_interrupt_under_load_ends_with_the_descriptor_that_it_meant)
{
    csp_chan(int) result = csp_make(int, 4);
    csp_chan(bool) done = csp_make(bool, 1);
    uint64_t s = stream(0);
    char b = 0;
    for (int i = 0; i < rounds(500); i++) {
        int fds[2], n = 0, waiters = 1 + below(&s, 3);
        pthread_t t = 0;
        bool by_thread = below(&s, 8) == 0;
        if (below(&s, 2))
            socket_pair(fds);
        else
            CHECK(pipe(fds) == 0);
        CHECK_EQ(csp_read_until(fds[0], &b, 1, csp_now() - 1), -ETIMEDOUT); // not the last one's
        if (by_thread)
            t = thread_start(thread_interrupts, &fds[0]);
        else
            csp_go(interrupts, fds[0], below(&s, 8), csp_send_end(done));
        for (int k = 0; k < waiters; k++)
            csp_go(waits_and_tells, fds[0], (int[]){0, 2, 3}[below(&s, 3)], csp_send_end(result));
        for (int k = 0; k < waiters; k++) {
            CHECK(csp_recv(result, &n));
            CHECK_EQ(n, -ECANCELED);
        }
        if (by_thread)
            csp_blocking pthread_join(t, NULL);
        else
            csp_recv(done, NULL);
        CHECK_EQ(csp_read(fds[0], &b, 1), -ECANCELED);
        close_both(fds);
    }
    csp_unref(done);
    csp_unref(result);
}

static void *thread_waits_until_interrupted(void *arg)
{
    char b;
    CHECK_EQ(csp_read(*(int *)arg, &b, 1), -ECANCELED);
    return NULL;
}

TEST_PLAIN(fd, threads_interrupt_and_are_interrupted)
{
    int fds[2];
    socket_pair(fds);
    pthread_t t = thread_start(thread_waits_until_interrupted, &fds[0]);
    EVENTUALLY(waiters_of(fds[0]) == 1);
    CHECK_EQ(csp_interrupt_fd(fds[0]), 0);
    pthread_join(t, NULL);
    csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background());
    CHECK_EQ(csp_bind_fd(fds[1], ctx), 0);
    t = thread_start(thread_waits_until_interrupted, &fds[1]);
    EVENTUALLY(waiters_of(fds[1]) == 1);
    csp_ctx_cancel(ctx);
    pthread_join(t, NULL);
    close_both(fds);
    csp_ctx_unref(ctx);
}

TEST(fd, what_waits_on_a_bound_descriptor_ends_with_its_context)
{
    int fds[2], n = 0;
    char b = 0;
    csp_chan(int) result = csp_make(int, 4);
    csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background());
    csp_ctx *below_it = csp_ctx_with_cancel(ctx),
            *timed = csp_ctx_with_timeout(ctx, CSP_MILLISECOND);
    socket_pair(fds);
    CHECK_EQ(csp_bind_fd(fds[0], timed), 0);
    CHECK_EQ(csp_read(fds[0], &b, 1), -ETIMEDOUT);
    CHECK_EQ(csp_read(fds[0], &b, 1), -ETIMEDOUT);
    CHECK_EQ(csp_bind_fd(fds[0], below_it), 0); // replaces it
    for (int i = 0; i < 3; i++) csp_go(waits_and_tells, fds[0], i, csp_send_end(result));
    EVENTUALLY(waiters_of(fds[0]) == 3);
    csp_ctx_cancel(ctx);
    CHECK_EQ(csp_bind_fd(fds[0], NULL), 0);
    for (int i = 0; i < 3; i++) CHECK(csp_recv(result, &n) && n == -ECANCELED);
    CHECK_EQ(csp_read_until(fds[0], &b, 1, csp_now() + 1), -ETIMEDOUT); // it is unbound
    CHECK_EQ(csp_bind_fd(fds[0], ctx), 0);                              // one that is done already
    CHECK_EQ(csp_read(fds[0], &b, 1), -ECANCELED);
    CHECK_EQ(csp_write(fds[1], "x", 1), 1);
    CHECK_EQ(csp_read(fds[0], &b, 1), 1);
    CHECK_EQ(csp_bind_fd(fds[0], csp_ctx_background()), 0); // never ends
    CHECK_EQ(csp_read_until(fds[0], &b, 1, csp_now() + 1), -ETIMEDOUT);
    close_both(fds);
    CHECK_EQ(csp_bind_fd(fds[0], ctx), -EBADF);
    CHECK_EQ(csp_bind_fd(-1, NULL), -EBADF);
    CHECK(LOAD(&ctx->refs) == 3 && LOAD(&below_it->refs) == 1 && LOAD(&timed->refs) == 1);
    csp_ctx_unref(timed);
    csp_ctx_unref(below_it);
    csp_ctx_unref(ctx);
    if (freed_memory_can_be_read()) CHECK_PANICS("use of a freed context", csp_bind_fd(0, ctx));
    csp_unref(result);
}

csp_task(cancels_it, csp_ctx *, ctx)
{
    csp_ctx_cancel(ctx);
    csp_ctx_unref(ctx);
}

/* The context ends, or is replaced, or the descriptor is closed, all at about the same time. */
csp_task(binds_and_ends, int, n, csp_ctx *, above, uint64_t, s, int_chan, done)
{
    csp_chan(int) result = csp_make(int, 2);
    for (int i = 0; i < n; i++) {
        int fds[2], is = 0, waiters = below(&s, 3);
        csp_ctx *ctx = csp_ctx_with_cancel(above);
        socket_pair(fds);
        CHECK_EQ(csp_bind_fd(fds[0], above), 0);
        CHECK_EQ(csp_bind_fd(fds[0], ctx), 0);
        for (int k = 0; k < waiters; k++)
            csp_go(waits_and_tells, fds[0], 2 * below(&s, 2), csp_send_end(result));
        csp__fd *d = csp__fd_of(fds[0]); // later the number is another's
        EVENTUALLY((int)(LOAD(&d->users) & (CSP__FD_AWAITED - 1)) == waiters);
        for (int k = below(&s, 4); k > 0; k--) csp_yield();
        int how = below(&s, 4);
        if (how == 0) CHECK_EQ(csp_bind_fd(fds[0], NULL), 0);
        if (how == 1) CHECK_EQ(csp_bind_fd(fds[0], above), 0);
        if (how != 2) csp_go(cancels_it, csp_ctx_ref(ctx));
        if (how == 2) csp_ctx_cancel(ctx);
        CHECK_EQ(csp_close_fd(fds[0]), 0);
        for (int k = 0; k < waiters; k++) {
            CHECK(csp_recv(result, &is));
            CHECK_EQ(is, -ECANCELED);
        }
        CHECK_EQ(csp_close_fd(fds[1]), 0);
        csp_ctx_unref(ctx);
    }
    csp_unref(result);
    csp_send(done, 1);
}

TEST(fd, contexts_and_descriptors_that_end_at_the_same_time_leave_nothing_behind)
{
    int_chan done = csp_make(int, 4);
    csp_ctx *above = csp_ctx_with_cancel(csp_ctx_background());
    for (int i = 0; i < 4; i++) csp_go(binds_and_ends, rounds(300), above, stream(i), done);
    collect(done, 4);
    EVENTUALLY(csp_count() == 1);
    CHECK_EQ(LOAD(&above->refs), 1);
    CHECK(above->notices == NULL && above->first == NULL);
    csp_ctx_unref(above);
    csp_unref(done);
}

typedef struct left_bound {
    int fds[2];
    csp_ctx *ctx;
} left_bound;

static void binds_and_leaves(void *arg)
{
    left_bound *u = arg;
    int *fds = u->fds;
    csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background());
    socket_pair(fds);
    CHECK_EQ(csp_bind_fd(fds[0], ctx), 0);
    CHECK_EQ(csp_interrupt_fd(fds[1]), 0);
    pid_t child = TSAN || emulated() ? 1 : fork(); // which these would end
    CHECK(child >= 0);
    if (child == 0) {
        csp_ctx_cancel(ctx); // knows nothing of the descriptor any more
        char b;
        csp_ctx_unref(ctx);
        _exit(csp_read_until(fds[0], &b, 1, csp_now() + 1) == -ETIMEDOUT ? 0 : 1);
    }
    int status = 0;
    if (child != 1) {
        csp_blocking waitpid(child, &status, 0);
    }
    CHECK_EQ(status, 0);
    u->ctx = ctx;
}

TEST_PLAIN(fd, a_binding_ends_with_the_runtime)
{
    left_bound u;
    char b;
    csp_run(binds_and_leaves, &u);
    csp_shutdown();
    csp_ctx *ctx = u.ctx;
    CHECK(ctx->notices == NULL && LOAD(&ctx->refs) == 1);
    csp_ctx_cancel(ctx);
    csp_ctx_unref(ctx);
    CHECK_EQ(csp_read_until(u.fds[0], &b, 1, csp_now() + 1), -ETIMEDOUT);
    CHECK_EQ(csp_read_until(u.fds[1], &b, 1, csp_now() + 1), -ETIMEDOUT);
    close_both(u.fds);
}

static void binds_a_large_number(void *arg)
{
    int fds[2], *large = arg;
    csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background());
    socket_pair(fds);
    *large = fcntl(fds[0], F_DUPFD, 2 * CSP__FDS);
    if (*large >= 0) CHECK_EQ(csp_bind_fd(*large, ctx), 0);
    csp_ctx_unref(ctx);
    close(fds[0]), close(fds[1]);
}

/* Its record is in a chunk of its own, and there are none before it. */
TEST_PLAIN(fd, a_binding_of_a_large_number_ends_with_the_runtime)
{
    int large = -1;
    csp_run(binds_a_large_number, &large);
    csp_shutdown();
    if (large < 0) SKIP("fewer descriptors may be open");
    CHECK_EQ(close(large), 0);
}

TEST(fd, every_call_that_waits_has_a_deadline)
{
    int fds[2];
    char b[8], *much = calloc(1, 1 << 20);
    struct iovec part = {much, 1 << 20};
    socket_pair(fds);
    CHECK(much != NULL);
    int64_t t = csp_now() + CSP_MILLISECOND;
    CHECK_EQ(csp_read_full_until(fds[0], b, 2, t), -ETIMEDOUT);
    CHECK_EQ(csp_write(fds[1], "x", 1), 1);
    CHECK_EQ(csp_read_full_until(fds[0], b, 2, csp_now() + CSP_MILLISECOND), -ETIMEDOUT);
    CHECK_EQ(csp_write_full_until(fds[1], much, 1 << 20, csp_now() + CSP_MILLISECOND), -ETIMEDOUT);
    CHECK_EQ(csp_writev_until(fds[1], &part, 1, csp_now() + CSP_MILLISECOND), -ETIMEDOUT);
    CHECK_EQ(csp_write_full_until(fds[0], "ok", 2, csp_now() + CSP_HOUR), 2);
    CHECK_EQ(csp_read_full_until(fds[1], b, 2, csp_now() + CSP_HOUR), 2);
    close_both(fds);
    int u = csp_listen("udp:127.0.0.1:0");
    csp_address a;
    CHECK_EQ(csp_recv_from_until(u, b, 8, &a, csp_now() + CSP_MILLISECOND), -ETIMEDOUT);
    CHECK_EQ(csp_local_address(u, &a), 0);
    CHECK_EQ(csp_send_to_until(u, "x", 1, a.text, csp_now() + CSP_HOUR), 1);
    CHECK_EQ(csp_recv_from_until(u, b, 8, &a, csp_now() + CSP_HOUR), 1);
    CHECK_EQ(csp_close_fd(u), 0);
    free(much);
}

/* ---- several parts, and files ---- */

TEST(fd, parts_are_written_as_one_stream)
{
    char text[64], got[64];
    for (int i = 0; i < 64; i++) text[i] = byte_at(i);
    for (volatile int k = 0; k < 4; k++) {
        int fds[2];
        struct iovec parts[40];
        if (k == 0)
            socket_pair(fds);
        else
            CHECK(pipe(fds) == 0);
        if (k == 2) fcntl(fds[1], F_SETFL, O_NONBLOCK);
        if (k == 3) { // a file
            close(fds[1]);
            FILE *f = tmpfile();
            fds[1] = dup(fileno(f));
            fclose(f);
        }
        for (int i = 0; i < 40; i++) // every second one is empty
            parts[i] = (struct iovec){text + i, (size_t)(i % 2)};
        for (int i = 0; i < 20; i++) parts[2 * i + 1].iov_base = text + i;
        csp_ssize n = csp_writev(fds[1], parts, 40);
        CHECK(n == 20);
        CHECK_EQ(csp_writev(fds[1], parts, 1), 0); // nothing
        CHECK_EQ(csp_writev(fds[1], NULL, 0), 0);
        CHECK_EQ(csp_writev(fds[1], parts, -1), -EINVAL);
        CHECK_EQ(csp_writev(fds[1], parts, 1025), -EINVAL);
        CHECK_PANICS("csp_writev", csp_writev(fds[1], NULL, 1));
        parts[0].iov_len = parts[1].iov_len = SIZE_MAX / 2 - 8;
        if (!under_valgrind()) CHECK_EQ(csp_writev(fds[1], parts, 2), -EINVAL); // it looks at all
        parts[0].iov_len = 0, parts[1].iov_len = 1;
        if (k == 3)
            CHECK_EQ(pread(fds[1], got, 20, 0), 20);
        else
            CHECK_EQ(csp_read_full(fds[0], got, 20), 20);
        CHECK(memcmp(got, text, 20) == 0);
        CHECK_EQ(csp_close_fd(fds[0]), 0);
        if (k < 3 && !emulated()) // which looks at the pointer to no bytes first
            CHECK_EQ(csp_writev(fds[1], parts + 1, 1), -EPIPE); // and no signal
        CHECK_EQ(csp_close_fd(fds[1]), 0);
        CHECK_EQ(csp_writev(fds[1], parts + 3, 1), -EBADF);
    }
}

csp_task(writes_parts, int, fd, int64_t, n, uint64_t, s)
{
    char bytes[4096];
    for (int64_t at = 0; at < n;) {
        struct iovec parts[20];
        int np = 1 + below(&s, 20), used = 0;
        for (int i = 0; i < np; i++) {
            int k = below(&s, 200);
            if (k > n - at - used) k = (int)(n - at - used);
            parts[i] = (struct iovec){bytes + used, (size_t)k};
            for (int j = 0; j < k; j++) bytes[used + j] = byte_at(at + used + j);
            used += k;
        }
        csp_ssize k = csp_writev(fd, parts, np);
        CHECK(k >= 0 && k <= used);
        at += k;
    }
    CHECK_EQ(csp_close_fd(fd), 0);
}

TEST(fd, parts_that_are_written_in_part_go_on_where_they_stopped)
{
    for (int k = 0; k < 3; k++) {
        int fds[2];
        if (k == 0)
            socket_pair(fds);
        else
            CHECK(pipe(fds) == 0);
        if (k == 2) fcntl(fds[1], F_SETFL, O_NONBLOCK);
        csp_go(writes_parts, fds[1], (int64_t)rounds(1000000), stream(k));
        CHECK_EQ(receives_bytes(fds[0], 8192, stream(9 + k)), rounds(1000000));
        CHECK_EQ(csp_close_fd(fds[0]), 0);
    }
}

static int file_of(int64_t n)
{
    FILE *f = tmpfile();
    CHECK(f != NULL);
    int fd = dup(fileno(f));
    for (int64_t i = 0; i < n; i++) fputc(byte_at(i), f);
    fclose(f);
    return fd;
}

csp_task(sends_file, int, out, int, file, int64_t, n)
{
    csp_ssize k = 1;
    for (int64_t at = 0; (k = csp_send_file(out, file, at, (size_t)(n - at))) > 0;) at += k;
    CHECK_EQ(k, 0);
    CHECK_EQ(csp_close_fd(out), 0);
}

TEST(fd, a_file_is_sent_to_whatever_takes_it)
{
    int64_t n = rounds(1000000);
    int file = file_of(n);
    csp_address a;
    char b[16];
    CHECK_EQ(lseek(file, 5, SEEK_SET), 5);
    for (int k = 0; k < 5; k++) {
        int fds[2];
        if (k < 2) {
            socket_pair(fds);
        } else if (k < 4) {
            CHECK(pipe(fds) == 0);
        } else {
            int listener = csp_listen("127.0.0.1:0");
            CHECK_EQ(csp_local_address(listener, &a), 0);
            fds[1] = csp_dial(a.text);
            fds[0] = csp_accept(listener);
            CHECK_EQ(csp_close_fd(listener), 0);
        }
        if (k % 2) fcntl(fds[1], F_SETFL, O_NONBLOCK);
        csp_go(sends_file, fds[1], file, n);
        CHECK_EQ(receives_bytes(fds[0], 8192, stream(k)), n);
        CHECK_EQ(csp_close_fd(fds[0]), 0);
    }
    CHECK_EQ(lseek(file, 0, SEEK_CUR), 5); // it has not been moved
    int copy = file_of(0);
    for (int64_t at = 0; at < n;) {
        csp_ssize k = csp_send_file(copy, file, at, (size_t)n);
        CHECK(k > 0);
        at += k;
    }
    CHECK(lseek(copy, 0, SEEK_END) == n && pread(copy, b, 3, (off_t)(n - 3)) == 3);
    CHECK(b[2] == byte_at(n - 1));
    CHECK_EQ(csp_close_fd(copy), 0);
    CHECK_EQ(csp_close_fd(file), 0);
}

TEST(fd, what_cannot_be_sent_is_an_error_and_no_signal)
{
    int fds[2], file = file_of(100), dir = open("/", O_RDONLY | O_DIRECTORY);
    for (int k = 0; k < 4; k++) {
        if (k < 2)
            socket_pair(fds);
        else
            CHECK(pipe(fds) == 0);
        if (k % 2) fcntl(fds[1], F_SETFL, O_NONBLOCK);
        CHECK_EQ(csp_send_file(fds[1], file, 0, 0), 0);
        CHECK_EQ(csp_send_file(fds[1], file, 100, 10), 0); // the end
        CHECK_EQ(csp_send_file(fds[1], file, INT64_MAX, 10), -EINVAL);
        CHECK_EQ(csp_send_file(fds[1], file, 95, 10), 5);
        CHECK_EQ(csp_send_file(fds[1], file, -1, 10), -EINVAL);
        CHECK_EQ(csp_send_file(fds[1], dir, 0, 10), -EISDIR);
        CHECK_EQ(csp_send_file(fds[1], fds[0], 0, 10), -ESPIPE);
        CHECK_EQ(csp_send_file(fds[1], -1, 0, 10), -EBADF);
        CHECK_EQ(csp_send_file(-1, file, 0, 10), -EBADF);
        csp_ssize n;
        while ((n = csp_send_file_until(fds[1], file, 0, 100, csp_now() + 1)) > 0) continue;
        CHECK_EQ(n, -ETIMEDOUT); // it is full
        CHECK_EQ(csp_close_fd(fds[0]), 0);
        CHECK_EQ(csp_send_file(fds[1], file, 0, 10), -EPIPE);
        CHECK_EQ(csp_close_fd(fds[1]), 0);
        CHECK_EQ(csp_send_file(fds[1], file, 0, 10), -EBADF);
    }
    close(dir);
    CHECK_EQ(csp_close_fd(file), 0);
}

/* ---- descriptors among the cases ---- */

TEST(select, a_descriptor_is_ready_when_poll_says_so)
{
    int fds[2], v = 0;
    char b = 0;
    int_chan c = csp_make(int, 1);
    socket_pair(fds);
    CHECK_EQ(csp_select(CSP_FD(fds[0], CSP_READABLE), CSP_DEFAULT), 1);
    CHECK_EQ(csp_select(CSP_FD(fds[0], CSP_READABLE), CSP_AFTER(CSP_MILLISECOND)), 1);
    CHECK_EQ(csp_select(CSP_RECV(c, &v), CSP_FD(fds[0], CSP_READABLE | CSP_WRITABLE)), 1);
    CHECK_EQ(csp_select(CSP_FD(fds[0], CSP_READABLE), CSP_FD(fds[0], CSP_WRITABLE)), 1);
    CHECK_EQ(csp_write(fds[1], "x", 1), 1);
    CHECK_EQ(csp_select(CSP_FD(fds[1], CSP_READABLE), CSP_FD(fds[0], CSP_READABLE)), 1);
    CHECK_EQ(csp_select(CSP_FD(fds[0], CSP_READABLE), CSP_UNTIL(csp_now() - 1)), 0);
    csp_send(c, 7);
    CHECK_EQ(csp_select_first(CSP_FD(fds[0], CSP_READABLE), CSP_RECV(c, &v)), 0);
    CHECK_EQ(csp_select_first(CSP_RECV(c, &v), CSP_FD(fds[0], CSP_READABLE)), 0);
    CHECK_EQ(v, 7);
    CHECK_EQ(csp_read(fds[0], &b, 1), 1);
    csp_case many[20] = {CSP_DEFAULT};
    for (int i = 0; i < 20; i++) many[i] = CSP_FD(fds[0], CSP_READABLE);
    many[13] = CSP_RECV(c, &v);
    csp_send(c, 8);
    CHECK(csp_select_n(many, 20) == 13 && v == 8);
    many[13] = CSP_AFTER(CSP_MILLISECOND);
    CHECK_EQ(csp_select_n(many, 20), 13);
    csp_close(c);
    bool ok = true;
    CHECK(csp_select(CSP_FD(fds[0], CSP_READABLE), CSP_RECV(c, &v, &ok)) == 1 && !ok);
    CHECK_PANICS("send on closed channel",
                 csp_select(CSP_FD(fds[0], CSP_READABLE), CSP_SEND(c, 1)));
    CHECK_EQ(LOAD(&csp__fd_of(fds[0])->users), 0); // nothing is left of it
    for (volatile int k = -4; k < 8; k += 4)
        CHECK_PANICS("neither CSP_READABLE nor CSP_WRITABLE", csp_select(CSP_FD(0, k)));
    close_both(fds);
    csp_unref(c);
}

TEST(select, what_cannot_be_waited_for_counts_as_ready)
{
    int fds[2], file = open("/proc/self/exe", O_RDONLY);
    CHECK(pipe(fds) == 0);
    CHECK_EQ(csp_select(CSP_FD(fds[0], CSP_READABLE), CSP_FD(file, CSP_READABLE)), 1);
    close(file);
    CHECK_EQ(csp_select(CSP_FD(fds[0], CSP_READABLE), CSP_FD(-1, CSP_READABLE)), 1);
    CHECK_EQ(csp_select(CSP_FD(fds[0], CSP_READABLE), CSP_FD(1 << 30, CSP_WRITABLE)), 1);
    CHECK_EQ(csp_select(CSP_FD(fds[0], CSP_READABLE), CSP_FD(file, CSP_WRITABLE)), 1);
    CHECK_EQ(csp_interrupt_fd(fds[0]), 0);
    CHECK_EQ(csp_select(CSP_FD(fds[0], CSP_READABLE)), 0);
    close_both(fds);
}

TEST(select, descriptors_and_channels_that_are_ready_are_equally_likely)
{
    int_chan c[2] = {csp_make(int, 1), csp_make(int, 1)};
    int fds[2], counts[8] = {0}, v = 0, draws = rounds(20000);
    socket_pair(fds);
    csp_send(c[0], 0);
    csp_send(c[1], 2);
    CHECK_EQ(csp_write(fds[1], "x", 1), 1);
    for (int i = 0; i < draws; i++) {
        int n = csp_select(CSP_RECV(c[0], &v), CSP_FD(fds[0], CSP_READABLE), CSP_RECV(c[1], &v),
                           CSP_FD(fds[1], CSP_WRITABLE));
        counts[n]++;
        if (n % 2 == 0) csp_send(c[n / 2], n);
    }
    check_uniform(counts, 4, draws);
    close_both(fds);
    csp_unref(c[0]);
    csp_unref(c[1]);
}

csp_task(selects_and_tells, int, fd, int_chan, c, csp_sender(int), result)
{
    int v = 0;
    csp_send(result, csp_select(CSP_RECV(c, &v), CSP_FD(fd, CSP_READABLE)));
}

TEST(select, a_descriptor_wakes_a_select_however_it_ends)
{
    csp_chan(int) result = csp_make(int, 1);
    for (int how = 0; how < 6; how++) {
        int fds[2], n = -1;
        int_chan c = csp_make(int, 0);
        csp_ctx *ctx = csp_ctx_with_cancel(csp_ctx_background());
        socket_pair(fds);
        CHECK_EQ(csp_bind_fd(fds[0], ctx), 0);
        csp_go(selects_and_tells, fds[0], c, csp_send_end(result));
        EVENTUALLY(waiters_of(fds[0]) == 1);
        if (how == 0) csp_send(c, 1);
        if (how == 1) CHECK_EQ(csp_write(fds[1], "x", 1), 1);
        if (how == 2) CHECK_EQ(csp_interrupt_fd(fds[0]), 0);
        if (how == 3) csp_ctx_cancel(ctx);
        if (how == 4) CHECK_EQ(csp_close_fd(fds[0]), 0);
        if (how == 5) CHECK_EQ(csp_close_fd(fds[1]), 0);
        CHECK(csp_recv(result, &n));
        CHECK_EQ(n, how != 0);
        if (how != 4) CHECK_EQ(waiters_of(fds[0]), 0);
        if (how != 4) CHECK_EQ(csp_close_fd(fds[0]), 0);
        if (how != 5) CHECK_EQ(csp_close_fd(fds[1]), 0);
        csp_ctx_unref(ctx);
        csp_unref(c);
    }
    csp_unref(result);
    EVENTUALLY(csp_count() == 1);
    CHECK_EQ(LOAD(&csp__poll.waiters), 0);
}

csp_task(feeds_both, int, fd, int_chan, c, int, n, uint64_t, s)
{
    char b = 'x';
    for (int i = 0; i < n; i++) {
        if (below(&s, 2))
            CHECK_EQ(csp_write(fd, &b, 1), 1);
        else
            csp_send(c, 1);
        if (below(&s, 16) == 0) csp_sleep(below(&s, 30) * CSP_MICROSECOND);
    }
}

static int drains_both(int fd, int_chan c, int_chan stop, uint64_t s)
{
    int got = 0, v = 0;
    char b = 0;
    for (;;) {
        int n = below(&s, 3) == 0
                    ? csp_select(CSP_FD(fd, CSP_READABLE), CSP_RECV(c, &v), CSP_RECV(stop),
                                 CSP_AFTER(below(&s, 50) * CSP_MICROSECOND))
                    : csp_select(CSP_FD(fd, CSP_READABLE), CSP_RECV(c, &v), CSP_RECV(stop));
        if (n == 2) return got;
        if (n == 1) got++;
        if (n != 0) continue;
        csp_ssize k = csp_read_until(fd, &b, 1, 0); // another may have been faster
        CHECK(k == 1 || k == -ETIMEDOUT);
        got += k == 1;
    }
}

typedef struct drain {
    int fd;
    int_chan c, stop;
    csp_chan(int) got;
    uint64_t s;
} drain;

csp_task(goroutine_drains, drain, d)
{
    csp_send(d.got, drains_both(d.fd, d.c, d.stop, d.s));
}

static void *thread_drains(void *arg)
{
    drain *d = arg;
    csp_send(d->got, drains_both(d->fd, d->c, d->stop, d->s));
    return NULL;
}

TEST(select, goroutines_and_threads_that_wait_for_descriptors_and_channels_lose_nothing)
{
    int fds[2], n = rounds(3000), got = 0, all = 0;
    drain d = {.c = csp_make(int, 0), .stop = csp_make(int, 0), .got = csp_make(int, 4)};
    socket_pair(fds);
    d.fd = fds[0];
    d.s = stream(0);
    pthread_t t = thread_start(thread_drains, &d);
    for (int i = 0; i < 3; i++) {
        drain mine = d;
        mine.s = stream(1 + i);
        csp_go(goroutine_drains, mine);
    }
    for (int i = 0; i < 3; i++) csp_go(feeds_both, fds[1], d.c, n, stream(4 + i));
    EVENTUALLY(csp_count() <= 4);
    EVENTUALLY(csp_wait_fd_until(fds[0], CSP_READABLE, 0) == -ETIMEDOUT);
    csp_close(d.stop);
    for (int i = 0; i < 4; i++) CHECK(csp_recv(d.got, &got)), all += got;
    CHECK_EQ(all, 3 * n);
    csp_blocking pthread_join(t, NULL);
    EVENTUALLY(csp_count() == 1);
    CHECK_EQ(LOAD(&csp__poll.waiters), 0);
    close_both(fds);
    csp_unref(d.c);
    csp_unref(d.stop);
    csp_unref(d.got);
}

csp_task(sends_slowly, int_chan, c, int, n, uint64_t, s)
{
    for (int i = 0; i < n; i++) {
        csp_send(c, i);
        if (below(&s, 4) == 0) csp_sleep(below(&s, 100) * CSP_MICROSECOND);
    }
    csp_close(c);
}

TEST_PLAIN(fd, a_foreign_event_loop_waits_for_a_channel_by_wake_fd)
{
    for (int cap = 0; cap < 3; cap++) {
        int_chan c = csp_make(int, cap);
        int v = 0, want = 0, n = rounds(2000);
        csp_status status = CSP_AGAIN;
        struct pollfd p = {csp_wake_fd(c), POLLIN, 0};
        CHECK(p.fd >= 0);
        CHECK_EQ(csp_wake_fd(c), p.fd);
        CHECK_EQ(poll(&p, 1, 0), 0);
        csp_go(sends_slowly, c, n, stream(cap));
        while (status != CSP_CLOSED) {
            CHECK_EQ(poll(&p, 1, 20000), 1);
            while ((status = csp_try_recv(c, &v)) == CSP_OK) CHECK_EQ(v, want++);
        }
        CHECK_EQ(want, n);
        CHECK_EQ(poll(&p, 1, 0), 1); // closed: readable for good
        EVENTUALLY(csp_count() == 0);
        csp_unref(c);
        CHECK_EQ(fcntl(p.fd, F_GETFD), -1);
    }
    CHECK_PANICS("csp_wake_fd: nil channel", csp_wake_fd((int_chan)NULL));
}

/* ---- fork and exec ---- */

typedef struct load {
    int stop;
    int_chan done;
} load;

csp_task(asks_until, int, fd, load *, l)
{
    char b = 0;
    while (!LOAD(&l->stop)) {
        CHECK_EQ(csp_write(fd, "x", 1), 1);
        CHECK_EQ(csp_read_until(fd, &b, 1, csp_now() + CSP_HOUR), 1);
        csp_sleep(10 * CSP_MICROSECOND);
    }
    csp_close_fd(fd);
    csp_send(l->done, 1);
}

static void load_start(load *l, int n)
{
    l->stop = 0;
    l->done = csp_make(int, 0);
    for (int i = 0; i < n; i++) {
        int fds[2];
        socket_pair(fds);
        csp_go(echoes_all, fds[0]);
        csp_go(asks_until, fds[1], l);
    }
}

static void load_stop(load *l, int n)
{
    STORE(&l->stop, 1);
    collect(l->done, n);
    csp_unref(l->done);
}

static void as_in_a_new_program(void *arg)
{
    load l;
    load_start(&l, 2);
    csp_sleep(CSP_MILLISECOND);
    load_stop(&l, 2);
    *(int *)arg = 17;
}

TEST(fd, a_child_forked_by_a_goroutine_under_load_starts_afresh)
{
    if (emulated()) SKIP("an emulator does not fork well from threads");
    if (under_valgrind()) SKIP("one thread at a time, slowly");
    if (TSAN) SKIP("the thread sanitizer ends such children");
    if (CSP__ASAN) SKIP("another thread may hold a lock of the sanitizer's allocator at the fork");
    load l;
    load_start(&l, 4);
    for (int i = 0; i < 10; i++) {
        int status = 0, code = 0;
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
            alarm(20);
            CHECK_EQ(csp_count(), 0);
            csp_run(as_in_a_new_program, &code);
            _exit(code);
        }
        csp_blocking waitpid(pid, &status, 0);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 17) FAIL("status %x", (unsigned)status);
    }
    load_stop(&l, 4);
}

CHILD(is_executed)
{
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    for (int i = 1; i < 32; i++)
        if (sigismember(&mask, i)) printf("signal %d is blocked\n", i);
    printf("%d descriptors\n", descriptors_now());
    fflush(stdout);
}

static void executes(void *arg)
{
    load l;
    int listener = csp_listen("127.0.0.1:0");
    (void)arg;
    CHECK(listener >= 0);
    csp_sleep(CSP_MILLISECOND);
    if (getenv("UNDER_LOAD") == NULL) child_exec("is_executed");
    load_start(&l, 0);
    csp_go(waits_on, listener, 4, l.done);
    csp_sleep(CSP_MILLISECOND);
    child_exec("is_executed");
}
CHILD(executes)
{
    csp_run(executes, NULL);
}

TEST_PLAIN(fd, exec_from_a_goroutine_leaves_nothing_behind)
{
    outcome *o = run_child("is_executed", NULL);
    CHECK_CHILD(o, 0);
    char want[64];
    snprintf(want, sizeof want, "%.63s", o->text);
    for (int i = 0; i < 2; i++) {
        o = run_child("executes", i ? "UNDER_LOAD=1" : NULL);
        CHECK_CHILD(o, 0);
        if (strcmp(o->text, want) != 0) FAIL("%s instead of %s", o->text, want);
    }
}
#endif

#if CSP_TEST_FEW < 2

/* ==========================================================================
 * net - sockets
 * ======================================================================== */

csp_task(accepts, int, listener, int_chan, done)
{
    int fd;
    while ((fd = csp_accept(listener)) >= 0) csp_go(echoes_all, fd);
    CHECK_EQ(fd, -ECANCELED);
    csp_send(done, 1);
}

static int listen_at(const char *where, csp_address *address)
{
    int fd = csp_listen(where);
    if (fd < 0) FAIL("csp_listen(\"%s\"): %s", where, strerror(-fd));
    CHECK_EQ(csp_local_address(fd, address), 0);
    return fd;
}

static int dial(const char *address)
{
    int fd = csp_dial(address);
    if (fd < 0) FAIL("csp_dial(\"%s\"): %s", address, strerror(-fd));
    return fd;
}

/* A connection, both ends. */
static void connected(const char *where, int *fds)
{
    csp_address address;
    int listener = listen_at(where, &address);
    fds[0] = dial(address.text);
    fds[1] = csp_accept(listener);
    CHECK(fds[1] >= 0);
    CHECK_EQ(csp_close_fd(listener), 0);
}

csp_task(asks_for_a_while, char *, address, int, n, uint64_t, s, int_chan, done)
{
    char out[600], in[600];
    int fd = dial(address);
    for (int i = 0; i < n; i++) {
        size_t k = (size_t)(1 + below(&s, 600));
        for (size_t j = 0; j < k; j++) out[j] = (char)next_random(&s);
        CHECK_EQ(csp_write_full(fd, out, k), k);
        CHECK_EQ(csp_read_full(fd, in, k), k);
        CHECK(memcmp(in, out, k) == 0);
        if (below(&s, 4) == 0) csp_sleep(below(&s, 1000) * CSP_MICROSECOND);
    }
    CHECK_EQ(csp_close_fd(fd), 0);
    csp_send(done, 1);
}

static int room_for_descriptors(int n)
{
#ifdef _WIN32
    return n;
#else
    struct rlimit r;
    CHECK(getrlimit(RLIMIT_NOFILE, &r) == 0);
    if (r.rlim_cur < (rlim_t)n) {
        r.rlim_cur = (rlim_t)n < r.rlim_max ? (rlim_t)n : r.rlim_max;
        setrlimit(RLIMIT_NOFILE, &r);
    }
    return (rlim_t)n < r.rlim_cur ? n : (int)r.rlim_cur;
#endif
}

TEST(net, a_thousand_connections_echo_what_they_get)
{
    csp_address address;
    int_chan done = csp_make(int, 0);
    int n = (room_for_descriptors(2 * crowd(rounds(1000)) + 100) - 100) / 2;
    int listener = listen_at("127.0.0.1:0", &address);
    csp_go(accepts, listener, done);
    for (int i = 0; i < n; i++) csp_go(asks_for_a_while, address.text, 10, stream(i), done);
    collect(done, n);
    CHECK_EQ(csp_close_fd(listener), 0);
    collect(done, 1);
    EVENTUALLY(csp_count() == 1);
    csp_unref(done);
}

#ifndef _WIN32
csp_task(counts_and_answers, int, fd)
{
    int64_t n = receives_bytes(fd, 4096, stream(3));
    CHECK_EQ(csp_write_full(fd, &n, sizeof n), sizeof n);
    CHECK_EQ(csp_close_fd(fd), 0);
}

static int plain; // not atomic: the thread sanitizer looks whether it is ordered

csp_task(adds_when_told, int, in, int, out)
{
    char b;
    while (csp_read(in, &b, 1) == 1) {
        plain++;
        CHECK_EQ(csp_write(out, "x", 1), 1);
    }
}

TEST(net, what_comes_before_a_write_comes_before_the_read)
{
    static const char *const where[] = {"127.0.0.1:0", "unix:@csp_test_order", "udp:127.0.0.1:0"};
    for (int k = 0; k < 5; k++) {
        int to[2], from[2], n = rounds(300), listener = -1;
        csp_address address;
        char b;
        if (k < 2) {
            listener = listen_at(where[k], &address);
            to[1] = from[0] = dial(address.text);
            to[0] = from[1] = csp_accept(listener);
        } else if (k == 2) {
            to[0] = listen_at(where[k], &address);
            to[1] = dial(address.text);
            from[0] = listen_at(where[k], &address);
            from[1] = dial(address.text);
        } else if (k == 3) {
            socket_pair(to);
            from[0] = to[1];
            from[1] = to[0];
        } else {
            CHECK(pipe(to) == 0 && pipe(from) == 0);
        }
        csp_go(adds_when_told, to[0], from[1]);
        plain = 0;
        for (int i = 0; i < n; i++) {
            plain++;
            CHECK_EQ(csp_write(to[1], "x", 1), 1);
            CHECK_EQ(csp_read(from[0], &b, 1), 1);
        }
        CHECK_EQ(plain, 2 * n);
        csp_close_fd(to[1]);
        csp_close_fd(to[0]);
        EVENTUALLY(csp_count() == 1);
        if (from[0] != to[1]) csp_close_fd(from[0]);
        if (from[1] != to[0]) csp_close_fd(from[1]);
        if (listener >= 0) csp_close_fd(listener);
    }
}

TEST(net, half_closed_connections_carry_the_answer)
{
    static const char *const where[] = {"127.0.0.1:0", "unix:@csp_test_half"};
    for (int i = 0; i < 2; i++) {
        int fds[2], copy;
        int64_t n = rounds(500000), got = 0;
        connected(where[i], fds);
        csp_go(counts_and_answers, fds[1]);
        copy = dup(fds[0]); // sends_bytes closes what it is given
        csp_go(sends_bytes, copy, n, 8192, stream(i));
        EVENTUALLY(csp_count() == 2); // who counts, and this one
        CHECK_EQ(csp_close_write(fds[0]), 0);
        CHECK_EQ(csp_read_full(fds[0], &got, sizeof got), sizeof got);
        CHECK_EQ(got, n);
        CHECK_EQ(csp_read(fds[0], &got, 1), 0);
        CHECK_EQ(csp_close_fd(fds[0]), 0);
    }
}
#endif

csp_task(has_last_words, int, fd)
{
    csp_sleep(CSP_MILLISECOND); // the other side waits by then, and is told of all of it at once
    CHECK_EQ(csp_write_full(fd, "last words", 10), 10);
    CHECK_EQ(csp_close_write(fd), 0);
}

TEST(net, an_end_that_comes_with_the_last_data_is_told)
{
    char words[64];
    for (int64_t i = rounds(30); i > 0; i--) {
        int fds[2];
        connected("127.0.0.1:0", fds);
        csp_go(has_last_words, fds[0]);
        CHECK_EQ(csp_read(fds[1], words, sizeof words), 10); // a short read, and yet not all
        CHECK_EQ(csp_read_until(fds[1], words, 1, csp_now() + 20 * CSP_SECOND), 0);
        EVENTUALLY(csp_count() == 1);
        CHECK_EQ(csp_close_fd(fds[0]), 0);
        CHECK_EQ(csp_close_fd(fds[1]), 0);
    }
}

csp_task(until_it_breaks, int, fd, int, writes, int_chan, done)
{
    static char buffer[10000];
    csp_ssize n = 1;
    while (n > 0) n = writes ? csp_write(fd, buffer, sizeof buffer) : csp_read(fd, buffer, 100);
    if (n != -ECONNRESET && n != -EPIPE && !(WINDOWS && n == 0)) // wine's poll takes the error
        FAIL("%d", (int)n);
    CHECK_EQ(csp_close_fd(fd), 0);
    csp_send(done, 1);
}

TEST(net, connections_reset_in_the_middle_are_errors_of_their_own)
{
    int_chan done = csp_make(int, 0);
    uint64_t s = stream(0);
    for (int i = 0; i < rounds(200); i++) {
        struct linger now = {1, 0};
        int fds[2];
        connected("127.0.0.1:0", fds);
        csp_go(until_it_breaks, fds[1], i % 2, done);
        if (below(&s, 2)) csp_write(fds[0], "x", 1);
        for (int k = below(&s, 4); k > 0; k--) csp_yield();
        CHECK(setsockopt(fds[0], SOL_SOCKET, SO_LINGER, (const void *)&now, sizeof now) == 0);
        CHECK_EQ(csp_close_fd(fds[0]), 0);
        collect(done, 1);
    }
    csp_unref(done);
}

TEST(net, every_kind_of_address_listens_dials_and_prints)
{
    csp_address address, peer;
    char path[64];
    snprintf(path, sizeof path, "unix:/tmp/csp_test_%d", (int)getpid());
    const char *const where[] = {"127.0.0.1:0", "[::1]:0", ":0",
                                 "localhost:0", path,      "unix:@csp_test"};
    const char *const prints[] = {"127.0.0.1:", "[::1]:", ":", ":", path, "unix:@csp_test"};
    for (int i = 0; i < (WINDOWS ? 4 : 6); i++) {
        char b = 0;
        int listener = csp_listen(where[i]);
        if (i == 1 && listener < 0) continue;        // no IPv6 here
        if (i == 3 && listener == -ENOENT) continue; // no names here
        if (listener < 0) FAIL("%s: %s", where[i], strerror(-listener));
        CHECK_EQ(csp_local_address(listener, &address), 0);
        CHECK_HAS(address.text, prints[i]);
        int to = dial(i == 2 ? strrchr(address.text, ':') : address.text);
        int from = csp_accept(listener);
        CHECK(from >= 0);
        CHECK_EQ(csp_local_address(from, &address), 0);
        CHECK_EQ(csp_peer_address(to, &peer), 0);
        CHECK(strcmp(address.text, peer.text) == 0);
        CHECK_EQ(csp_write(to, "x", 1), 1);
        CHECK_EQ(csp_read(from, &b, 1), 1);
        csp_close_fd(to);
        csp_close_fd(from);
        CHECK_EQ(csp_listen(i == 2 ? strrchr(address.text, ':') : address.text), -EADDRINUSE);
        CHECK_EQ(csp_close_fd(listener), 0);
        if (i == 4) CHECK(access(path + 5, F_OK) != 0);
        listener = csp_listen(where[i]);
        CHECK(listener >= 0);
        CHECK_EQ(csp_close_fd(listener), 0);
    }
}

#ifndef _WIN32
TEST(net, closing_a_listener_removes_its_own_path_and_no_other)
{
    char address[64], moved[80];
    const char *path = address + 5;
    snprintf(address, sizeof address, "unix:/tmp/csp_test_%d", (int)getpid());
    snprintf(moved, sizeof moved, "%s_moved", path);
    int first = csp_listen(address);
    CHECK(first >= 0);
    CHECK(rename(path, moved) == 0);
    int second = csp_listen(address);
    CHECK(second >= 0);
    CHECK_EQ(csp_close_fd(first), 0);
    int to = dial(address), from = csp_accept(second);
    close_both((int[]){to, from});
    CHECK(unlink(path) == 0 && unlink(moved) == 0);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    CHECK_EQ(csp_close_fd(second), 0);
    CHECK(access(path, F_OK) == 0);
    CHECK_EQ(csp_close_fd(fd), 0);
    CHECK(unlink(path) == 0);
}
#endif

TEST(net, bad_addresses_are_errors)
{
    static const char *const bad[] = {"",
                                      "80",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:x",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:-1",
                                      "[::1]",
                                      "[::1:80",
                                      "::1:80",
                                      "[127.0.0.1:80",
                                      "[]:80",
                                      "[nothing]:80",
                                      "unix:",
                                      "udp:",
                                      "udp:1.2.3.4",
                                      ":99999999999999999999",
                                      ":18446744073709551696", // 80 in 64 bits
                                      "127.0.0.1: 80",
                                      "127.0.0.1:+80",
                                      "127.1:80", // what inet_aton takes for addresses
                                      "2130706433:80",
                                      "0x7f000001:80",
                                      "0X7F.1:80",
                                      "0177.0.0.1:80",
                                      "127.0.0.01:80",
                                      "127.0.0.1.:80",
                                      "127.0.0.256:80",
                                      "local host:80",
                                      "localhost\n:80",
                                      "localhost\x7f:80",
                                      "a[::1]:80",
                                      "local%host:80",
                                      "a/b:80",
                                      "[127.0.0.1]:80",
                                      "[::1%nothing]:80",
                                      "[::1%0]:80",
                                      "[::1%]:80",
                                      "[::1%4294967297]:80",
                                      "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0001]:80"};
    char path[300] = "unix:/";
    memset(path + 6, 'x', 290);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (csp_listen(bad[i]) != -EINVAL || csp_dial(bad[i]) != -EINVAL)
            FAIL("\"%s\": %d, %d", bad[i], csp_listen(bad[i]), csp_dial(bad[i]));
    }
    CHECK_EQ(csp_listen(path), -EINVAL);
    CHECK_EQ(csp_dial(NULL), -EINVAL);
    CHECK_EQ(csp_dial("127.0.0.1:1"), -ECONNREFUSED);
    CHECK_EQ(csp_dial("unix:/nowhere/at/all"), WINDOWS ? -EAFNOSUPPORT : -ENOENT);
    int e = csp_dial_until("no-such-name.invalid:80", csp_now() + 100 * CSP_MILLISECOND);
    if (e != -ENOENT && e != -EAGAIN && e != -ETIMEDOUT) FAIL("%d", e); // there may be no network
    csp_address address;
    int listener = listen_at("127.0.0.1:0", &address);
    CHECK_EQ(csp_listen(address.text), -EADDRINUSE);
    CHECK_EQ(csp_accept_until(listener, csp_now() + CSP_MILLISECOND), -ETIMEDOUT);
    csp_close_fd(listener);
}

TEST_PLAIN(net, an_unknown_name_has_a_text_of_its_own)
{
    CHECK_HAS(csp_error_text(-ENOENT), "host");
    CHECK(strcmp(csp_error_text(-ECONNREFUSED), strerror(ECONNREFUSED)) == 0);
    CHECK(strcmp(csp_error_text(7), strerror(0)) == 0);
    CHECK(csp_error_text(PTRDIFF_MIN) != NULL);
}

/* What is printed is what csp_dial takes for the same, or nothing. */
TEST_PLAIN(net, an_address_is_printed_as_what_it_is)
{
    csp_address text;
    csp__address a;
    csp__endpoints to;
    memset(&a, 0, sizeof a);
    a.in6.sin6_family = AF_INET6;
    a.in6.sin6_addr.s6_addr[15] = 1;
    a.in6.sin6_port = htons(80);
    a.in6.sin6_scope_id = 1234567; // no interface, or one that has gone
    CHECK_EQ(csp__address_print(&a, sizeof a.in6, SOCK_STREAM, text.text), 0);
    CHECK(strcmp(text.text, "[::1%1234567]:80") == 0);
    CHECK_EQ(csp__endpoints_parse(text.text, false, &to, 0), 0);
    CHECK(to.count == 1 && memcmp(&to.at[0], &a, sizeof a.in6) == 0);

    const size_t path = offsetof(struct sockaddr_un, sun_path);
    memset(&a, 0, sizeof a);
    a.un.sun_family = AF_UNIX;
    memcpy(a.un.sun_path, "@file", 6);
    CHECK_EQ(csp__address_print(&a, (socklen_t)path + 6, SOCK_STREAM, text.text), 0);
    CHECK(strcmp(text.text, "unix:./@file") == 0);
    memcpy(a.un.sun_path, "\0name", 5);
    CHECK_EQ(csp__address_print(&a, (socklen_t)path + 5, SOCK_STREAM, text.text), 0);
    CHECK(strcmp(text.text, "unix:@name") == 0);
    memcpy(a.un.sun_path, "\0na\0e", 5);
    CHECK_EQ(csp__address_print(&a, (socklen_t)path + 5, SOCK_STREAM, text.text), -EAFNOSUPPORT);
    CHECK(text.text[0] == 0);
}

TEST(net, a_name_that_begins_with_a_digit_is_a_name)
{
    CHECK(csp__is_name("3com") && csp__is_name("4f.example") && csp__is_name("0xen"));
    CHECK(csp__is_name("1.2.3.x") && csp__is_name("localhost.") && csp__is_name("b\xc3\xbc"));
    CHECK(!csp__is_name("1.2.3") && !csp__is_name("example.1") && !csp__is_name("0x"));
}

TEST(net, datagrams_arrive_whole_with_their_sender)
{
    static const char *const where[] = {"udp:127.0.0.1:0", "udp:[::1]:0"};
    for (int i = 0; i < 2; i++) {
        csp_address to, from, mine;
        char b[100];
        int server = csp_listen(where[i]);
        if (i == 1 && server < 0) continue;
        CHECK(server >= 0);
        CHECK_EQ(csp_local_address(server, &to), 0);
        int client = dial(to.text), other = csp_listen(where[i]);
        CHECK_EQ(csp_local_address(client, &mine), 0);
        for (int k = 1; k < 50; k++) {
            CHECK_EQ(csp_send_to(client, "0123456789012345678901234567890123456789012345678",
                                 (size_t)k, NULL),
                     k);
            CHECK_EQ(csp_recv_from(server, b, sizeof b, &from), k);
            CHECK(strcmp(from.text, mine.text) == 0);
            CHECK_EQ(csp_send_to(server, b, (size_t)k, from.text), k);
            CHECK_EQ(csp_read_until(client, b, sizeof b, csp_now() + CSP_HOUR), k);
            CHECK_EQ(csp_send_to(other, b, 1, to.text), 1);
            CHECK_EQ(csp_recv_from(server, b, sizeof b, NULL), 1);
        }
        CHECK_EQ(csp_send_to(server, b, 1, "127.0.0.1:9"), -EINVAL);
        CHECK_EQ(csp_send_to(server, b, 1, "nonsense"), -EINVAL);
        csp_close_fd(server);
        csp_close_fd(client);
        csp_close_fd(other);
    }
}

#ifndef _WIN32
TEST(net, a_process_without_descriptors_left_accepts_again_later)
{
    struct rlimit old, few;
    csp_address address;
    char b = 0;
    if (under_valgrind()) SKIP("it takes the connection, and then says that there is no room");
    int listener = listen_at("127.0.0.1:0", &address), to = dial(address.text);
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    few = old;
    few.rlim_cur = 3;
    CHECK_EQ(csp_wait_fd(listener, CSP_READABLE), CSP_READABLE);
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    for (int i = 0; i < 3; i++) CHECK_EQ(csp_accept(listener), -EMFILE);
    CHECK_EQ(csp_dial(address.text), -EMFILE);
    CHECK_EQ(csp_listen("127.0.0.1:0"), -EMFILE);
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    int from = csp_accept(listener);
    CHECK(from >= 0);
    CHECK_EQ(csp_write(to, "x", 1), 1);
    CHECK_EQ(csp_read(from, &b, 1), 1);
    csp_close_fd(to);
    csp_close_fd(from);
    csp_close_fd(listener);
}
#endif

csp_task(accepts_one, int, listener, int_chan, fds)
{
    csp_send(fds, csp_accept(listener));
}

#ifndef _WIN32
typedef struct lingering {
    int fd;
    bool closed, may_end; // atomic: the close has returned; nothing lets it wait any more
} lingering;

static void closes_slowly(void *arg)
{
    lingering *l = arg;
    CHECK_EQ(csp_close_fd(l->fd), 0);
    STORE(&l->closed, true);
}

csp_task(reads_after_the_close, int, fd, lingering *, l, int_chan, done)
{
    char b;
    CHECK_EQ(csp_read(fd, &b, 1), 1);
    CHECK(LOAD(&l->may_end)); // `closed` may come later: the reader is woken within the close
    csp_send(done, 1);
}

/* The system gives the number on at once, and waits for the other side then. Another socket of
 * csp's own is known to be another; a pipe of the program's might be what is being closed. */
TEST(net, a_close_that_lingers_keeps_no_socket_from_using_its_number)
{
    if (under_valgrind()) SKIP("no other thread runs during its close");
    static char much[1 << 16];
    csp_address address;
    char b = 0;
    int listener = listen_at("127.0.0.1:0", &address), fds[2];
    struct linger seconds = {1, 60};
    int_chan done = csp_make(int, 1);
    csp_procs(4);
    for (int round = 0; round < 2; round++) {
        lingering l = {.fd = dial(address.text)};
        int peer = csp_accept(listener);
        while (csp_write_until(l.fd, much, sizeof much, csp_now()) > 0) continue;
        CHECK(setsockopt(l.fd, SOL_SOCKET, SO_LINGER, &seconds, sizeof seconds) == 0);
        csp_spawn(closes_slowly, &l);
        EVENTUALLY(fcntl(l.fd, F_GETFD) < 0);
        CHECK_EQ(csp_read(l.fd, &b, 1), -EBADF); // a late call
        CHECK_EQ(csp_close_fd(l.fd), -EBADF);
        if (round == 0) {
            int to = dial(address.text), from = csp_accept(listener);
            CHECK_EQ(to, l.fd);
            CHECK_EQ(csp_write(from, "x", 1), 1);
            CHECK_EQ(csp_read(to, &b, 1), 1);
            close_both((int[]){to, from});
        } else {
            CHECK(pipe(fds) == 0);
            CHECK_EQ(fds[0], l.fd);
            CHECK_EQ(csp_write(fds[1], "x", 1), 1);
            csp_go(reads_after_the_close, fds[0], &l, done);
            EVENTUALLY(LOAD(&csp__fd_of(l.fd)->users) & CSP__FD_AWAITED);
        }
        CHECK(!LOAD(&l.closed));
        CHECK_EQ(csp_read(peer, &b, 1), 1);
        STORE(&l.may_end, true);
        /* with data unread: a reset, and nothing is left to wait for */
        CHECK_EQ(csp_close_fd(peer), 0);
        EVENTUALLY(LOAD(&l.closed));
        if (round == 0) continue;
        collect(done, 1);
        close_both(fds);
    }
    CHECK_EQ(csp_close_fd(listener), 0);
    csp_unref(done);
}
#endif

TEST(net, several_may_accept_at_once)
{
    enum { N = 20 };
    csp_address address;
    int_chan fds = csp_make(int, 0);
    int listener = listen_at("127.0.0.1:0", &address), to[N], fd = 0;
    for (int i = 0; i < N; i++) csp_go(accepts_one, listener, fds);
    for (int i = 0; i < N; i++) to[i] = dial(address.text);
    for (int i = 0; i < N; i++) {
        CHECK(csp_recv(fds, &fd) && fd >= 0);
        CHECK_EQ(csp_close_fd(fd), 0);
    }
    for (int i = 0; i < N; i++) CHECK_EQ(csp_close_fd(to[i]), 0);
    csp_close_fd(listener);
    csp_unref(fds);
}

#endif // CSP_TEST_FEW < 2

#if CSP_TEST_FEW < 1

#ifndef _WIN32
/* ==========================================================================
 * signal - signals as values
 * ======================================================================== */

static int handled;

static void on_signal(int signo)
{
    handled = signo;
}

static void notifies_without_descriptors(void *arg)
{
    struct rlimit old, none;
    int_chan c = csp_make(int, 1);
    (void)arg;
    CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
    none = old;
    none.rlim_cur = 3;
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    for (int i = 0; i < 3; i++) CHECK_PANICS("descriptors", csp_notify(c, SIGUSR1));
    CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
    csp_notify(c, SIGUSR1);
    CHECK(raise(SIGUSR1) == 0 && csp_recv(c, NULL));
    csp_notify_stop(c);
    csp_unref(c);
}

/* In a process of its own, where the address sanitizer looks for what is lost. */
CHILD(told_that_there_are_no_descriptors)
{
    csp_run(notifies_without_descriptors, NULL);
}

TEST_PLAIN(signal, a_program_without_descriptors_is_told_and_may_ask_again_later)
{
    if (under_valgrind()) SKIP("it has descriptors of its own");
    CHECK_CHILD(run_child("told_that_there_are_no_descriptors", NULL), 0);
}

TEST(signal, each_channel_gets_what_it_asked_for_until_it_stops)
{
    struct sigaction own = {.sa_handler = on_signal}, now;
    int_chan a = csp_make(int, 4), b = csp_make(int, 4);
    int v = 0;
    sigaction(SIGUSR1, &own, NULL);
    csp_notify(a, SIGUSR1, SIGUSR2);
    csp_notify(b, SIGUSR2);
    kill(getpid(), SIGUSR1);
    CHECK(csp_recv(a, &v) && v == SIGUSR1);
    kill(getpid(), SIGUSR2);
    CHECK(csp_recv(a, &v) && v == SIGUSR2);
    CHECK(csp_recv(b, &v) && v == SIGUSR2);
    CHECK_EQ(csp_len(b), 0);
    csp_notify_stop(a);
    kill(getpid(), SIGUSR2);
    CHECK(csp_recv(b, &v) && v == SIGUSR2);
    CHECK_EQ(csp_len(a), 0);
    CHECK_EQ(handled, 0);
    raise(SIGUSR1); // the program's own again
    EVENTUALLY(LOAD(&handled) == SIGUSR1);
    csp_notify_stop(b);
    csp_notify_stop(b);
    sigaction(SIGUSR2, NULL, &now);
    CHECK(now.sa_handler == SIG_DFL);
    signal(SIGUSR1, SIG_DFL);
    csp_unref(a);
    csp_unref(b);
}

TEST(signal, a_full_channel_drops_and_nobody_waits)
{
    int_chan full = csp_make(int, 1), other = csp_make(int, 1);
    csp_notify(full, SIGUSR1, SIGHUP);
    csp_notify(other, SIGUSR1);
    for (int i = 0; i < 20; i++) {
        raise(SIGUSR1);
        CHECK(csp_recv(other, NULL));
    }
    CHECK_EQ(csp_len(full), 1);
    csp_notify_stop(full);
    csp_notify_stop(other);
    csp_unref(full);
    csp_unref(other);
}

TEST(signal, signals_arrive_under_load)
{
    load l;
    int_chan c = csp_make(int, 1);
    int v = 0;
    load_start(&l, 4);
    csp_notify(c, SIGUSR1, SIGUSR2);
    for (int i = 0; i < rounds(300); i++) {
        int signo = i % 2 ? SIGUSR1 : SIGUSR2;
        kill(getpid(), signo);
        CHECK(csp_recv(c, &v));
        CHECK_EQ(v, signo);
    }
    csp_notify_stop(c);
    load_stop(&l, 4);
    csp_unref(c);
}

static void *signals_process(void *arg)
{
    while (!LOAD((int *)arg)) {
        kill(getpid(), SIGUSR1);
        usleep(50);
    }
    return NULL;
}

TEST(signal, notify_and_stop_race_with_signals)
{
    if (emulated()) SKIP("qemu-user crashes where handlers are swapped under fire");
    int stop = 0;
    signal(SIGUSR1, SIG_IGN);
    pthread_t t = thread_start(signals_process, &stop);
    for (int i = 0; i < rounds(300); i++) {
        int_chan c = csp_make(int, 1);
        csp_notify(c, SIGUSR1);
        if (i % 2) CHECK(csp_recv(c, NULL));
        csp_notify_stop(c);
        csp_unref(c);
    }
    STORE(&stop, 1);
    pthread_join(t, NULL);
    signal(SIGUSR1, SIG_DFL);
}

TEST(signal, a_signal_that_came_before_the_stop_is_received)
{
    for (int i = 0; i < rounds(1000); i++) {
        int_chan c = csp_make(int, 1), d = csp_make(int, 1);
        csp_notify(c, SIGUSR1);
        csp_notify(d, SIGUSR1);
        raise(SIGUSR1);
        csp_notify_stop(d);
        CHECK_EQ(csp_len(d), 1);
        csp_notify_stop(c);
        CHECK_EQ(csp_len(c), 1);
        csp_unref(c);
        csp_unref(d);
    }
}

TEST(signal, what_cannot_be_received_panics)
{
    int_chan c = csp_make(int, 1);
    static const int bad[] = {SIGKILL, SIGSTOP, SIGSEGV, 0, -1, 65, 1000};
    for (int i = 0; i < 7; i++) CHECK_PANICS("cannot be received", csp_notify(c, bad[i]));
    CHECK_PANICS("csp_notify: nil channel", csp_notify((int_chan)NULL, SIGUSR1));
    csp_unref(c);
}
#endif

/* ==========================================================================
 * deadlock - when nobody can ever wake up
 * ======================================================================== */

#define DEADLOCK "fatal: all goroutines are asleep - deadlock!"

static void dead_recv(void *arg)
{
    int_chan c = csp_make(int, 0);
    (void)arg;
    csp_recv(c, NULL);
}

static void dead_send(void *arg)
{
    int_chan c = csp_make(int, 1);
    (void)arg;
    csp_send(c, 1);
    csp_send(c, 2);
}

static void dead_select(void *arg)
{
    int_chan c = csp_make(int, 0);
    (void)arg;
    csp_select(CSP_RECV(c, NULL), CSP_SEND(c, 1), CSP_UNTIL(CSP_FOREVER));
}

static void dead_select_of_none(void *arg)
{
    (void)arg;
    csp_select_n(NULL, 0);
}

csp_task(waits_for_other, int_chan, a, int_chan, b)
{
    csp_set_name("philosopher");
    csp_recv(a, NULL);
    csp_send(b, 1);
}

static void dead_ring(void *arg)
{
    int_chan a = csp_make(int, 0), b = csp_make(int, 0);
    (void)arg;
    csp_procs(4);
    csp_go(waits_for_other, a, b);
    csp_go(waits_for_other, b, a);
    csp_recv((int_chan)NULL, NULL);
}

static void dead_after_work(void *arg)
{
    int_chan done = csp_make(int, 0);
    csp_procs(4);
    for (int i = 0; i < 50; i++) csp_go(sleeps, stream(i), 10, 500, done);
    collect(done, 50);
    csp_timer *t = csp_timer_new(CSP_HOUR); // stopped: it wakes no goroutine
    csp_timer_stop(t);
    dead_recv(arg);
}

/* Timers in several processors' heaps that only fill channels without a receiver. */
csp_task(makes_timers, int_chan, done)
{
    csp_ticker *often = csp_ticker_new(CSP_MILLISECOND);
    csp_recv(csp_ticker_chan(often), NULL);
    csp_ticker_new(CSP_HOUR);
    csp_timer_new(CSP_HOUR);
    csp_timer *full = csp_timer_new(1);
    EVENTUALLY(csp_len(csp_timer_chan(full)) == 1);
    csp_send(done, 1);
}

static void dead_beside_timers(void *arg)
{
    int_chan done = csp_make(int, 0);
    csp_timer *t = csp_timer_new(CSP_HOUR);
    csp_procs(4);
    for (int i = 0; i < 20; i++) csp_go(makes_timers, done);
    CHECK_EQ(csp_select(CSP_RECV(csp_timer_chan(t), NULL), CSP_RECV(done, NULL)), 1);
    collect(done, 19);
    csp_timer_free(csp_after_func(CSP_HOUR, dead_recv, NULL)); // stopped: it wakes no goroutine
    dead_recv(arg);
}

static void dead_beside_a_timer_locked(void *arg)
{
    csp_lock_thread();
    dead_beside_timers(arg);
}

/* A receiver could have come, until the deadline passes. */
static void dead_after_a_deadline(void *arg)
{
    csp_timer *t = csp_timer_new(CSP_HOUR);
    CHECK_EQ(csp_recv_until(csp_timer_chan(t), NULL, csp_now() + 20 * CSP_MILLISECOND),
             CSP_TIMEOUT);
    dead_recv(arg);
}

/* A thread of the program might wake a goroutine until it has ended. It does not tell csp of its
 * end. */
static void *ends_late(void *c)
{
    struct timespec t = {0, 50 * 1000 * 1000};
    if (c != NULL) csp_send(*(int_chan *)c, 1); // csp knows it from here on
    nanosleep(&t, NULL);
    return NULL;
}

static void dead_after_threads(void *arg)
{
    static int_chan c;
    c = csp_make(int, 0);
    pthread_detach(thread_start(ends_late, &c));
    pthread_detach(thread_start(ends_late, NULL));
    csp_recv(c, NULL);
    dead_recv(arg);
}

static void dead_after_a_thread(void *arg)
{
    pthread_detach(thread_start(ends_late, NULL));
    csp_lock_thread();
    dead_recv(arg);
}

static int went_on;

csp_task(goes_on, int, i)
{
    do csp_sleep(CSP_MILLISECOND);
    while (LOAD(&went_on) != i - 1);
    say("%d went on\n", i);
    if (i == 3) exit(7);
    ADD(&went_on, 1);
}

static void says_it_ran(void *arg)
{
    (void)arg;
    say("deferred\n");
}

/* By csp_exit: main has not returned, and the others go on. */
static void main_exits(void *how)
{
    csp_defer(says_it_ran, NULL);
    for (int i = 1; i < 3; i++) csp_go(goes_on, i);
    if (*(char *)how == 'e') csp_go(goes_on, 3);
    if (*(char *)how == 'b') csp_spawn(block_forever, NULL);
    csp_exit();
}

CHILD(dead_recv)
{
    csp_run(dead_recv, NULL);
}
CHILD(dead_send)
{
    csp_run(dead_send, NULL);
}
CHILD(dead_select)
{
    csp_run(dead_select, NULL);
}
CHILD(dead_select_of_none)
{
    csp_run(dead_select_of_none, NULL);
}
CHILD(dead_ring)
{
    csp_run(dead_ring, NULL);
}
CHILD(dead_after_work)
{
    csp_run(dead_after_work, NULL);
}
CHILD(dead_beside_timers)
{
    csp_run(dead_beside_timers, NULL);
}
CHILD(dead_beside_a_timer_locked)
{
    csp_run(dead_beside_a_timer_locked, NULL);
}
CHILD(dead_after_a_deadline)
{
    csp_run(dead_after_a_deadline, NULL);
}
CHILD(dead_after_threads)
{
    csp_run(dead_after_threads, NULL);
}
CHILD(dead_after_a_thread)
{
    csp_run(dead_after_a_thread, NULL);
}
CHILD(main_exits)
{
    csp_run(main_exits, "");
}
CHILD(main_exits_others_block)
{
    csp_run(main_exits, "b");
}
CHILD(main_exits_another_calls_exit)
{
    csp_run(main_exits, "e");
}

TEST_PLAIN(deadlock, is_reported_with_a_dump_and_exit_status_2)
{
    if (emulated()) SKIP("an emulator does not count the threads");
    static const char *const children[] = {"dead_recv",           "dead_send", "dead_select",
                                           "dead_select_of_none", "dead_ring", "dead_after_work"};
    if (TSAN) SKIP("the thread sanitizer's own thread might wake a goroutine");
    for (int i = 0; i < 6; i++) {
        outcome *o = run_child(children[i], NULL);
        CHECK_CHILD(o, 2);
        CHECK_HAS(o->text, DEADLOCK);
        CHECK_HAS(o->text, "goroutine ");
        CHECK_HAS(o->text, "main, started at " __FILE__ ":");
        if (i == 4) CHECK_HAS(o->text, "philosopher");
        if (i == 4) CHECK_HAS(o->text, __FILE__ ":");
    }
}

TEST_PLAIN(deadlock, is_not_hidden_by_timers_to_whose_channels_nobody_listens)
{
    if (emulated()) SKIP("an emulator does not count the threads");
    if (TSAN) SKIP("the thread sanitizer's own thread might wake a goroutine");
    static const char *const children[] = {"dead_beside_timers", "dead_beside_a_timer_locked",
                                           "dead_after_a_deadline"};
    for (int i = 0; i < 3; i++) {
        outcome *o = run_child(children[i], NULL);
        CHECK_CHILD(o, 2);
        CHECK_HAS(o->text, DEADLOCK);
        CHECK_HAS(o->text, "main, started at " __FILE__ ":");
    }
}

TEST_PLAIN(deadlock, is_reported_once_the_threads_that_might_have_helped_have_ended)
{
    if (emulated()) SKIP("an emulator does not count the threads");
    if (TSAN) SKIP("the thread sanitizer's own thread might wake a goroutine");
    outcome *o = run_child("dead_after_threads", NULL);
    CHECK_CHILD(o, 2);
    CHECK_HAS(o->text, DEADLOCK);
    o = run_child("dead_after_a_thread", NULL);
    CHECK_CHILD(o, 2);
    CHECK_HAS(o->text, DEADLOCK);
}

static void *thread_sends_late(void *c)
{
    struct timespec t = {0, 150 * 1000 * 1000};
    nanosleep(&t, NULL);
    csp_send(*(int_chan *)c, 1);
    return NULL;
}

static void saved_by_new_thread(void *arg)
{
    int_chan c = csp_make(int, 0);
    (void)arg;
    pthread_t t = thread_start(thread_sends_late, &c); // csp has not heard of it yet
    CHECK(csp_recv(c, NULL));
    pthread_join(t, NULL);
    csp_unref(c);
}

static void *thread_receives_and_sends(void *arg)
{
    int_chan *c = arg;
    CHECK(csp_recv(c[0], NULL));
    thread_sends_late(&c[1]);
    return NULL;
}

static void saved_by_known_thread(void *arg)
{
    int_chan c[2] = {csp_make(int, 0), csp_make(int, 0)};
    (void)arg;
    pthread_t t = thread_start(thread_receives_and_sends, c);
    csp_send(c[0], 1);
    CHECK(csp_recv(c[1], NULL));
    pthread_join(t, NULL);
    csp_unref(c[0]);
    csp_unref(c[1]);
}

static void saved_by_timer(void *arg)
{
    int_chan c = csp_make(int, 0);
    (void)arg;
    csp_timer *t = csp_after_func(50 * CSP_MILLISECOND, send_one, &c);
    CHECK(csp_recv(c, NULL));
    csp_timer_reset(t, 50 * CSP_MILLISECOND);
    CHECK_EQ(csp_select(CSP_RECV(c, NULL), CSP_UNTIL(CSP_FOREVER)), 0);
    csp_timer_free(t);
    csp_unref(c);
}

static void *thread_sends_at_a_tick(void *c)
{
    csp_timer *t = csp_timer_new(50 * CSP_MILLISECOND);
    CHECK(csp_recv(csp_timer_chan(t), NULL));
    csp_timer_free(t);
    csp_send(*(int_chan *)c, 1);
    return NULL;
}

csp_task(sends_at_a_tick, int_chan, c, int64_t, ns)
{
    csp_ticker *t = csp_ticker_new(ns);
    csp_recv(csp_ticker_chan(t), NULL);
    csp_ticker_free(t);
    csp_send(c, 1);
}

static void saved_by_ticks(void *arg)
{
    int_chan c = csp_make(int, 0);
    csp_ticker *idle[10], *ticker = csp_ticker_new(10 * CSP_MILLISECOND);
    (void)arg;
    for (int i = 0; i < 10; i++) idle[i] = csp_ticker_new(i == 0 ? CSP_MILLISECOND : CSP_HOUR);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(csp_select(CSP_RECV(c, NULL), CSP_RECV(csp_ticker_chan(ticker), NULL)), 1);
    csp_ticker_stop(ticker);
    csp_go(sends_at_a_tick, c, 50 * CSP_MILLISECOND);
    CHECK(csp_recv(c, NULL));
    pthread_t t = thread_start(thread_sends_at_a_tick, &c);
    CHECK(csp_recv(c, NULL));
    pthread_join(t, NULL);
    csp_ctx *ctx = csp_ctx_with_timeout(csp_ctx_background(), 50 * CSP_MILLISECOND);
    csp_recv(csp_ctx_done(ctx), NULL);
    csp_ctx_unref(ctx);
    for (int i = 0; i < 10; i++) csp_ticker_free(idle[i]);
    csp_ticker_free(ticker);
    csp_unref(c);
}

csp_task(sends_late, int_chan, c)
{
    csp_sleep(50 * CSP_MILLISECOND);
    csp_send(c, 1);
}

csp_task(sends_after_computing, int_chan, c)
{
    for (int64_t end = clock_now() + 60 * CSP_MILLISECOND; clock_now() < end;) continue;
    csp_send(c, 1);
}

csp_task(sends_after_a_read, int_chan, c, int, fd)
{
    char b;
    CHECK(read(fd, &b, 1) == 1);
    csp_send(c, 1);
}

csp_task(writes_late, int, fd)
{
    csp_sleep(50 * CSP_MILLISECOND);
    CHECK(write(fd, "x", 1) == 1);
}

static void saved_by_goroutines(void *arg)
{
    int_chan c = csp_make(int, 0);
    int fds[2];
    (void)arg;
    csp_procs(1);
    csp_go(sends_late, c);
    CHECK(csp_recv(c, NULL));
    csp_go(sends_after_computing, c);
    CHECK(csp_recv(c, NULL));
    CHECK(pipe(fds) == 0);
    csp_go(sends_after_a_read, c, fds[0]);
    csp_go(writes_late, fds[1]);
    CHECK(csp_recv(c, NULL));
    csp_lock_thread();
    csp_go(sends_late, c);
    CHECK(csp_recv(c, NULL));
    csp_unref(c);
}

static void locked_and_dead(void *arg)
{
    csp_lock_thread();
    dead_recv(arg);
}

CHILD(saved_by_new_thread)
{
    csp_run(saved_by_new_thread, NULL);
}
CHILD(saved_by_known_thread)
{
    csp_run(saved_by_known_thread, NULL);
}
CHILD(saved_by_timer)
{
    csp_run(saved_by_timer, NULL);
}
CHILD(saved_by_ticks)
{
    csp_run(saved_by_ticks, NULL);
}
CHILD(saved_by_goroutines)
{
    csp_run(saved_by_goroutines, NULL);
}
/* All goroutines are asleep over and over again, and something is about to wake them: a timer, a
 * deadline, an old or a new thread, a thread that blocks in the kernel or is locked to its
 * goroutine. */
static void *thread_sends_back(void *arg)
{
    int_chan *c = arg;
    for (int v; csp_recv(c[0], &v);) csp_send(c[1], v);
    return NULL;
}

csp_task(sends_from_a_locked_thread, int_chan, c)
{
    csp_lock_thread();
    csp_sleep(20 * CSP_MICROSECOND);
    csp_send(c, 1);
}

csp_task(sends_after_blocking, int_chan, c)
{
    struct timespec t = {0, 20000};
    csp_blocking
    {
        nanosleep(&t, NULL);
    }
    csp_send(c, 1);
}

csp_task(comes_and_waits, csp_waitgroup *, come, csp_waitgroup *, gate)
{
    csp_waitgroup_done(come);
    csp_waitgroup_wait(gate);
}

static void keeps_forty_stacks(void *arg)
{
    csp_waitgroup wg = {0}, come = {0}, gate = {0};
    (void)arg;
    csp_waitgroup_add(&come, 40);
    csp_waitgroup_add(&gate, 1);
    for (int i = 0; i < 40; i++) csp_waitgroup_go(&wg, comes_and_waits, &come, &gate);
    csp_waitgroup_wait(&come);
    csp_waitgroup_done(&gate);
    csp_waitgroup_wait(&wg);
}

/* For each stack the thread sanitizer keeps what a thread needs, until it is told. */
TEST_PLAIN(go, runtimes_that_have_stopped_take_no_memory_of_the_thread_sanitizer)
{
#ifdef __clang__
    const int runs = TSAN ? 1000 : 10; // it runs out of mappings
#else
    const int runs = TSAN ? 250 : 10; // it has room for 8,128
#endif
    for (int i = 0; i < runs; i++) csp_run(keeps_forty_stacks, NULL);
}

static void *thread_sends_now(void *c)
{
    csp_send(*(int_chan *)c, 1);
    return NULL;
}

static void often_all_asleep(void *arg)
{
    uint64_t r = stream(*(int *)arg);
    int_chan c[2] = {csp_make(int, 0), csp_make(int, 0)};
    csp_procs(1 + below(&r, 4));
    pthread_t echo = 0, once = 0;
    bool beside = below(&r, 2) == 0; // a thread that csp knows all the time hides the others
    csp_ticker *idle = below(&r, 2) == 0 ? csp_ticker_new(30 * CSP_MICROSECOND) : NULL;
    if (beside) echo = thread_start(thread_sends_back, c);
    for (int i = 0; i < 10; i++) {
        int way = below(&r, 8);
        csp_timer *t = way == 0 ? csp_after_func(CSP_MICROSECOND * 20, send_one, &c[1]) : NULL;
        if (way == 1) csp_recv_until(c[1], NULL, csp_now() + 20 * CSP_MICROSECOND);
        if (way == 2) csp_go(sends_from_a_locked_thread, c[1]);
        if (way == 3) csp_go(sends_after_blocking, c[1]);
        if (way == 4 && beside) csp_send(c[0], i);
        if (way == 5) once = thread_start(thread_sends_now, &c[1]);
        if (way == 6) csp_sleep(20 * CSP_MICROSECOND);
        if (way == 7) csp_go(sends_at_a_tick, c[1], 20 * CSP_MICROSECOND);
        if (way != 1 && way != 6 && (way != 4 || beside)) CHECK(csp_recv(c[1], NULL));
        if (way == 5) pthread_join(once, NULL);
        csp_timer_free(t);
    }
    csp_close(c[0]);
    if (beside) pthread_join(echo, NULL);
    csp_ticker_free(idle);
    for (int i = 0; i < 2; i++) csp_unref(c[i]);
}

CHILD(often_all_asleep)
{
    for (int i = 0; i < rounds(under_wine() ? 100 : 1000); i++) csp_run(often_all_asleep, &i);
}

CHILD(locked_and_dead)
{
    csp_run(locked_and_dead, NULL);
}

TEST_PLAIN(deadlock, of_nobody_is_reported_when_main_has_left_by_exit_and_the_others_have_ended)
{
    if (emulated()) SKIP("an emulator does not count the threads");
    outcome *o = run_child("main_exits", NULL);
    CHECK_CHILD(o, 2);
    CHECK_HAS(o->text, "deferred\n1 went on\n2 went on\n");
    CHECK_HAS(o->text, "fatal: no goroutines (main called csp_exit) - deadlock!");
    o = run_child("main_exits_others_block", NULL);
    CHECK_CHILD(o, 2);
    CHECK_HAS(o->text, DEADLOCK);
    if (CSP_TORTURE && CSP_X_TSAN) return; // a thread that has just left counts as a leak
    o = run_child("main_exits_another_calls_exit", NULL);
    CHECK_CHILD(o, 7);
    CHECK_HAS(o->text, "deferred\n1 went on\n2 went on\n3 went on\n");
}

TEST_PLAIN(deadlock, is_not_reported_while_a_waker_is_left)
{
    static const char *const children[] = {"saved_by_new_thread", "saved_by_known_thread",
                                           "saved_by_timer", "saved_by_ticks",
                                           "saved_by_goroutines"};
    for (int i = 0; i < 5; i++) {
        outcome *o = run_child(children[i], NULL);
        CHECK_CHILD(o, 0);
        if (o->text[0] != 0) FAIL("%s wrote %s", children[i], o->text);
    }
}

TEST_PLAIN(deadlock, is_not_reported_in_a_thousand_runs_that_sleep_most_of_the_time)
{
    outcome *o = run_child("often_all_asleep", NULL);
    CHECK_CHILD(o, 0);
    if (o->text[0] != 0) FAIL("it wrote %s", o->text);
}

TEST_PLAIN(deadlock, is_reported_with_a_goroutine_locked_to_its_thread_too)
{
    if (emulated()) SKIP("an emulator does not count the threads");
    if (TSAN) SKIP("the thread sanitizer's own thread might wake a goroutine");
    outcome *o = run_child("locked_and_dead", NULL);
    CHECK_CHILD(o, 2);
    CHECK_HAS(o->text, DEADLOCK);
}

#endif // CSP_TEST_FEW < 1

/* ==========================================================================
 * overflow - of a stack
 * ======================================================================== */

static volatile int bottom;

__attribute__((noinline)) static int digs_without_end(int n)
{
    volatile char frame[500];
    frame[n % 500] = (char)n;
    int deeper = bottom == 77 ? 0 : digs_without_end(n + 1);
    return deeper + frame[n % 500];
}

static void overflows(void *arg)
{
    (void)arg;
    csp_set_name("bottomless");
    bottom = digs_without_end(0);
}

static void spawns_overflow(void *arg)
{
    csp_spawn(overflows, arg);
    csp_recv((int_chan)NULL, NULL);
}

/* Writes beyond its own small stack, which a guard page may not see at once. */
__attribute__((noinline)) static void takes(size_t size)
{
    volatile char frame[6000];
    for (size_t i = 0; i < size; i++) frame[sizeof frame - 1 - i] = 1;
    bottom = frame[5999];
}

static void overflows_a_bit(void *arg)
{
    (void)arg;
    csp_set_name("bottomless");
    takes(6000);
    csp_yield();
    csp_sleep(CSP_MILLISECOND);
}

static void spawns_small_overflow(void *arg)
{
    csp_opts opts = {.stack_size = 2048};
    csp_spawn_with(&opts, overflows_a_bit, arg);
    csp_recv((int_chan)NULL, NULL); // does nothing meanwhile: what lies below is overwritten
}

/* A frame that begins far beyond the guard page. */
static void overflows_at_once(void *arg)
{
    (void)arg;
    csp_set_name("bottomless");
    volatile char *frame = (volatile char *)__builtin_alloca(
        ((size_t)1 << (sizeof(size_t) > 4 ? 40 : 28)) + (size_t)bottom);
    frame[bottom] = 1;
}

/* As a local array does that is larger than one page: nothing between is touched. */
static void jumps_over_a_page(void *arg)
{
    csp_set_name("bottomless");
    *(volatile char *)(csp__self()->g->cb->low - *(int *)arg) = 1;
    say("survived\n");
}

static void spawns_jump(void *arg)
{
    for (int i = 0; i < 20; i++) csp_spawn(block_forever, NULL); // who lies below, too
    csp_yield();
    csp_spawn(jumps_over_a_page, arg);
    EVENTUALLY(csp_count() == 21);
}

static void faults(void *arg)
{
    (void)arg;
    *(volatile int *)(uintptr_t)(bottom + 8) = 1;
}

static void sends_fault(void *arg)
{
    (void)arg;
    raise(SIGSEGV);
}

static void spawns_fault(void *arg)
{
    csp_spawn(faults, arg);
    csp_recv((int_chan)NULL, NULL);
}

CHILD(overflow_of_main)
{
    csp_run(overflows, NULL);
}
CHILD(overflow_of_goroutine)
{
    csp_run(spawns_overflow, NULL);
}
CHILD(overflow_of_small_stack)
{
    csp_run(spawns_small_overflow, NULL);
}
CHILD(overflow_at_once)
{
    csp_run(overflows_at_once, NULL);
}
CHILD(overflow_by_a_byte)
{
    csp_run(spawns_jump, (int[]){1});
}
CHILD(overflow_by_64_KiB)
{
    csp_run(spawns_jump, (int[]){65536});
}
CHILD(overflow_without_run)
{
    spawns_overflow(NULL);
}
CHILD(fault)
{
    csp_run(spawns_fault, NULL);
}
CHILD(fault_that_was_sent)
{
    csp_run(sends_fault, NULL);
}

TEST_PLAIN(overflow, is_reported_with_the_name_of_the_goroutine)
{
    if (emulated()) SKIP("an emulator has faults of its own");
#if defined(CSP_STACK_GUARD) && CSP_STACK_GUARD == 0
    SKIP("a canary is looked at when the goroutine parks, and this one never does");
#endif
    static const char *const children[] = {"overflow_of_main", "overflow_of_goroutine",
                                           "overflow_without_run", "overflow_at_once",
                                           "overflow_of_small_stack"};
    for (int i = 0; i < (ASAN || MSAN ? 0 : TSAN || WINDOWS ? 4 : 5); i++) {
        outcome *o = run_child(children[i], NULL);
        CHECK_HAS(o->text, "stack overflow");
        if (TSAN && strncmp(o->text, "fatal: ", 7) != 0) FAIL("before that: %s", o->text);
        if (i < 4 ||
            strstr(o->text, "overflows_a_bit") == NULL) // there the name may be overwritten
            CHECK_HAS(o->text, "bottomless");
        CHECK(o->code != 0);
    }
    if (ASAN || MSAN) SKIP("sanitizers report it themselves");
}

TEST_PLAIN(overflow, an_array_that_jumps_over_a_page_meets_the_guard)
{
    if (emulated()) SKIP("an emulator has faults of its own");
#if defined(CSP_STACK_GUARD) && CSP_STACK_GUARD == 0
    SKIP("there is no guard");
#endif
    if (SANITIZED) SKIP("sanitizers report it themselves");
    static const char *const children[] = {"overflow_by_a_byte", "overflow_by_64_KiB"};
    for (int i = 0; i < 2; i++) {
        outcome *o = run_child(children[i], NULL);
        CHECK_CHILD(o, 2);
        CHECK_HAS(o->text, "stack overflow");
        CHECK_HAS(o->text, "bottomless");
        CHECK_HAS(o->text, "-fstack-clash-protection");
    }
}

TEST_PLAIN(overflow, other_faults_are_not_called_one)
{
    if (SANITIZED) SKIP("sanitizers report it themselves");
    outcome *o = run_child("fault", NULL);
    CHECK(strstr(o->text, "stack overflow") == NULL);
    CHECK_CHILD(o, FAULTED);
    o = run_child("fault_that_was_sent", NULL);
    CHECK_CHILD(o, WINDOWS ? ABORTED : FAULTED); // raise: the C library's own
}

#if CSP_TEST_FEW < 2

/* ==========================================================================
 * dump - looking inside: dump, stats
 * ======================================================================== */

TEST(dump, shows_each_goroutine_and_what_it_waits_on)
{
    int_chan c = csp_make(int, 0), u = csp_make(int, 0), done = csp_make(int, 3);
    csp_opts receiver = {.name = "walrus"}, sender = {.name = "narwhal"},
             selecting = {.name = "beluga"}, sleeping = {.name = "manatee"};
    int stop = 0;
    char id[64], site[512];
    csp_set_name("the main one");
    int line = __LINE__ + 1;
    csp_go_with(&receiver, receives_as, c, 1, done);
    csp_go_with(&sender, sends_v, u, 2);
    uint64_t sleeper = csp_spawn_with(&sleeping, sleeps_forever, (int64_t[]){CSP_HOUR});
    EVENTUALLY(last_receiver(c) != NULL && last_sender(u) != NULL);
    void *last = last_receiver(c);
    csp_go_with(&selecting, selects_as, c, 3, done);
    EVENTUALLY(last_receiver(c) != last);
    EVENTUALLY(dump_has("sleep")); // the last thing that it does on its way
    char *text = dump_text();
    snprintf(site, sizeof site, "%s:%d", __FILE__, line);
    snprintf(id, sizeof id, "goroutine %llu ", (unsigned long long)sleeper);
    CHECK_HAS(text, site);
    CHECK_HAS(text, id);
    CHECK_HAS(text, "the main one");
    static const char *const words[][2] = {{"walrus", "receive"},
                                           {"narwhal", "send"},
                                           {"beluga", "select"},
                                           {"manatee", "sleep"}};
    for (int i = 0; i < 4; i++) { // in the same line
        char *name = strstr(text, words[i][0]), *start = name, *end = name;
        CHECK(name != NULL);
        while (start > text && start[-1] != '\n') start--;
        while (*end != 0 && *end != '\n') end++;
        char *what = strstr(start, words[i][1]);
        if (what == NULL || what > end)
            FAIL("no \"%s\" in %.*s", words[i][1], (int)(end - start), start);
    }
    free(text);
    csp_send(c, 1);
    csp_send(c, 3);
    CHECK(csp_recv(u, NULL));
    collect(done, 2);
    STORE(&stop, 1);
    csp_unref(c);
    csp_unref(u);
    csp_unref(done);
}

#ifndef _WIN32 // where which way a goroutine took to park is not known
csp_task(one_of_a_herd, int_chan, c)
{
    csp_recv(c, NULL);
}

/* True when all have begun and wait. (Goroutines that have not begun stand at one place, too.) */
static bool the_herd_waits(void)
{
    char *text = dump_text();
    bool waits = strstr(text, "\n    999 more like it\n") && !strstr(text, " [new") &&
                 !strstr(text, " [runnable");
    free(text);
    return waits;
}

TEST_PLAIN(dump, places_at_the_same_distances_are_two)
{
    for (uintptr_t d = 8; d < 1 << 16; d += 8) {
        csp__looked one = {.site = (csp_x_site *)0x100000, .what = (char *)0x200000};
        csp__looked other = {.site = (csp_x_site *)(0x100000 + d), .what = (char *)(0x200000 + d)};
        CHECK(csp__dump_hash(&one) != csp__dump_hash(&other));
    }
}

TEST(dump, counts_those_that_stand_at_the_same_place)
{
    int_chan c = csp_make(int, 0), other = csp_make(int, 0);
    for (int i = 0; i < 1000; i++) csp_go(one_of_a_herd, i % 2 ? c : other);
    csp_go(one_of_a_herd, c); // started by another line
    EVENTUALLY(the_herd_waits());
    char *text = dump_text();
    int entries = 0;
    for (char *at = text; (at = strstr(at, "one_of_a_herd")) != NULL; at++) entries++;
    CHECK_EQ(entries, 2);
    free(text);
    csp_close(c);
    csp_close(other);
    EVENTUALLY(csp_count() == 1);
    csp_unref(c);
    csp_unref(other);
}
#endif

__attribute__((noinline)) static void three_calls_down(int_chan c)
{
    csp_recv(c, NULL);
    __asm__ volatile(""); // no tail call
}

__attribute__((noinline)) static void two_calls_down(int_chan c)
{
    three_calls_down(c);
    __asm__ volatile("");
}

csp_task(one_call_down, int_chan, c)
{
    two_calls_down(c);
    __asm__ volatile("");
}

/* Which frame of the entry lies in the function: -1 for none. */
static int frame_in(const char *entry, uintptr_t fn)
{
    csp__os_symbols s;
    CHECK(csp__os_symbol(fn, &s));
    for (int i = 0; i < CSP__FRAMES; i++) {
        char mark[32];
        snprintf(mark, sizeof mark, "\n    #%d ", i);
        const char *at = strstr(entry, mark), *end = at == NULL ? NULL : strchr(at + 1, '\n');
        if (end == NULL) break;
        while (end > at && end[-1] != '+') end--;
        uintptr_t offset = (uintptr_t)strtoull(end, NULL, 16);
        if (offset >= s.offset && offset < s.offset + 256) return i;
    }
    return -1;
}

/* Whether the goroutine's entry has calls: it has none while it is on its way to its wait. */
static bool shows_calls(const char *text, const char *whose)
{
    const char *entry = strstr(text, whose),
               *end = entry == NULL ? NULL : strstr(entry, "\ngoroutine");
    const char *call = entry == NULL ? NULL : strstr(entry, "\n    #0 ");
    return call != NULL && (end == NULL || call < end);
}

TEST(dump, shows_the_calls_that_a_goroutine_is_in)
{
    int_chan c = csp_make(int, 0);
    csp_go(one_call_down, c);
    EVENTUALLY(last_receiver(c) != NULL);
    EVENTUALLY(dump_has("one_call_down, started"));
    char *text = NULL;
    EVENTUALLY((free(text), shows_calls(text = dump_text(), "one_call_down, started")));
    bool can = csp__unwind_find(false);
#ifdef CSP_TEST_FRAMES
    can = true;
#endif
    char *entry = strstr(text, "one_call_down, started"), *end = strstr(entry, "\ngoroutine");
    if (end != NULL) end[1] = 0;
    if (can) {
        int deep = frame_in(entry, (uintptr_t)three_calls_down);
        int middle = frame_in(entry, (uintptr_t)two_calls_down);
        if (deep < 0 || middle != deep + 1) FAIL("not in these frames: %s", entry);
    }
    free(text);
    csp_send(c, 1);
    EVENTUALLY(csp_count() == 1);
    csp_unref(c);
    if (!can) SKIP("there is no unwinder, and frames are not chained");
}

#ifndef _WIN32
/* The program's own handler steps over the fault. */
static sigjmp_buf stepped_over;
static void steps_over(int signo)
{
    (void)signo;
    siglongjmp(stepped_over, 1);
}

csp_task(faults_and_goes_on, int_chan, done)
{
    volatile uintptr_t nowhere = 16;
    if (sigsetjmp(stepped_over, 1) == 0) *(volatile int *)nowhere = 1;
    csp_send(done, 1);
}

static void faults_with_a_handler(void *arg)
{
    int_chan done = csp_make(int, 0);
    if (arg != NULL) signal(SIGSEGV, steps_over); // after csp's own
    csp_go(faults_and_goes_on, done);
    csp_recv(done, NULL);
    csp_unref(done);
    say("went on\n");
}

CHILD(fault_with_a_handler_from_before)
{
    signal(SIGSEGV, steps_over);
    csp_run(faults_with_a_handler, NULL);
}
CHILD(fault_with_a_handler_from_after)
{
    csp_run(faults_with_a_handler, "after");
}

#endif

TEST_PLAIN(inside, a_fault_names_its_goroutine_and_dies_of_its_signal)
{
    if (SANITIZED) SKIP("sanitizers report it themselves");
    outcome *o = run_child("fault", NULL);
    CHECK_CHILD(o, FAULTED);
    CHECK_HAS(o->text,
              WINDOWS ? "fatal: access violation at address " : "fatal: SIGSEGV at address ");
    CHECK_HAS(o->text, ", started at " __FILE__ ":");
    o = run_child("fault_that_was_sent", NULL);
    CHECK(strstr(o->text, "fatal:") == NULL);
}

#ifndef _WIN32
TEST_PLAIN(inside, a_fault_for_which_the_program_has_a_handler_is_left_to_it)
{
    if (SANITIZED) SKIP("sanitizers take the signal");
    static const char *const children[] = {"fault_with_a_handler_from_before",
                                           "fault_with_a_handler_from_after"};
    for (int i = 0; i < 2; i++) {
        outcome *o = run_child(children[i], NULL);
        CHECK_CHILD(o, 0);
        CHECK(strcmp(o->text, "went on\n") == 0);
    }
}
#endif

csp_task(forgotten_receiver, int_chan, c)
{
    csp_recv(c, NULL);
}

static int profiled_line;
csp_task(wants_the_mutex, csp_mutex *, mu, int_chan, done)
{
    csp_mutex_lock(mu), profiled_line = __LINE__;
    csp_mutex_unlock(mu);
    csp_send(done, 1);
}

static void is_profiled(void *arg)
{
    static int_chan done; // not a leak: a goroutine waits on it to the end
    done = csp_make(int, 0);
    csp_mutex mu = {0};
    (void)arg;
    csp_mutex_lock(&mu);
    for (int i = 0; i < 3; i++) csp_go(wants_the_mutex, &mu, done);
    EVENTUALLY(dump_has(" [mutex ")); // the first waits, and its time runs
    csp_sleep(30 * CSP_MILLISECOND);
    csp_mutex_unlock(&mu);
    collect(done, 3);
    csp_go(forgotten_receiver, done);
    EVENTUALLY(last_receiver(done) != NULL && dump_has(" [receive "));
    char line[64];
    snprintf(line, sizeof line, "line %d\n", profiled_line);
    say("%s", line);
}

CHILD(is_profiled)
{
    csp_run(is_profiled, NULL);
}

TEST_PLAIN(inside, a_profile_says_where_goroutines_wait_and_for_how_long)
{
    char setting[128], text[4096], place[512];
    snprintf(setting, sizeof setting, "CSP_DEBUG=profile=%s/csp_profile_%d",
             getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp", (int)getpid());
    const char *path = strrchr(setting, '=') + 1;
    outcome *o = run_child("is_profiled", setting);
    CHECK_CHILD(o, 0);
    int line = atoi(strstr(o->text, "line ") + 5);
    FILE *f = fopen(path, "r");
    CHECK(f != NULL);
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    fclose(f);
    unlink(path);
    CHECK_HAS(text, ";sleep;" __FILE__ ":");
    CHECK_HAS(text, "forgotten_receiver (" __FILE__ ":"); // it waits until the end
    snprintf(place, sizeof place, ";mutex;%s:%d, ", __FILE__, line);
    char *at = strstr(text, place);
    if (at == NULL) FAIL("no %s in %s", place, text);
    at += strlen(place);
    // one that is woken and overtaken waits again, so there may be more than three
    int times = strncmp(at, "once", 4) == 0 ? 1 : atoi(at);
    char *us = strstr(at, "s ");
    CHECK(times >= 1 && us != NULL);
    CHECK(atoll(us + 2) >= 25000); // of the first alone; the others had not begun, perhaps
    CHECK_HAS(run_child("leaks_none", "CSP_DEBUG=profile=/no/such/place")->text,
              "the profile could not be written");
}

TEST_PLAIN(inside, abort_ends_a_panic_a_deadlock_and_an_overflow_with_a_core)
{
    if (emulated()) SKIP("an emulator does not count the threads, and has faults of its own");
    static const char *const children[] = {"uncaught_in_main_goroutine", "dead_recv",
                                           "overflow_of_goroutine"};
    for (int i = 0; i < (SANITIZED ? 1 : 3); i++) {
#if defined(CSP_STACK_GUARD) && CSP_STACK_GUARD == 0
        if (i == 2) break; // never looked at
#endif
        CHECK_CHILD(run_child(children[i], NULL), 2);
        CHECK_CHILD(run_child(children[i], "CSP_DEBUG=abort"), ABORTED);
    }
}

/* Each waits in one line, and notes which. */
typedef struct waits_here {
    int lines[10], made[10];
    int_chan c, full;
    csp_mutex mu;
    csp_rwmutex rw;
    csp_cond cond;
    csp_waitgroup wg;
    csp_sem sem;
    int pipe[2];
    int n;
} waits_here;

// clang-format off
csp_task(waits_in_line, waits_here *, w, int, i)
{
    csp_mutex own = {0};
    ADD(&w->n, 1);
    switch (i) {
    case 0: STORE(&w->lines[0], __LINE__); csp_recv(w->c, NULL); break;
    case 1: STORE(&w->lines[1], __LINE__); csp_send(w->full, 1); break;
    case 2: STORE(&w->lines[2], __LINE__); csp_range(v, w->c) (void)v; break;
    case 3: STORE(&w->lines[3], __LINE__); csp_select(CSP_RECV(w->c), CSP_AFTER(CSP_HOUR)); break;
    case 4:
        STORE(&w->made[4], __LINE__), STORE(&w->lines[4], __LINE__); csp_mutex_lock(&w->mu);
        csp_mutex_unlock(&w->mu);
        break;
    case 5:
        STORE(&w->made[5], __LINE__), STORE(&w->lines[5], __LINE__); csp_rwmutex_rlock(&w->rw);
        csp_rwmutex_runlock(&w->rw);
        break;
    case 6:
        csp_mutex_lock(&own);
        STORE(&w->made[6], __LINE__), STORE(&w->lines[6], __LINE__); csp_cond_wait(&w->cond, &own);
        break;
    case 7: STORE(&w->lines[7], __LINE__); csp_waitgroup_wait(&w->wg); break;
    case 8: STORE(&w->lines[8], __LINE__); csp_sem_acquire(&w->sem, 2); break;
    default: STORE(&w->lines[9], __LINE__); csp_read(w->pipe[0], &own, 1); break;
    }
    ADD(&w->n, -1);
}
// clang-format on

TEST(dump, names_the_line_of_each_wait_and_where_its_object_was_made)
{
    static const char *const nouns[] = {"channel made at",     "channel made at",
                                        "channel made at",     "the first channel made at",
                                        "mutex first seen at", "rwmutex first seen at",
                                        "cond first seen at",  "waitgroup first seen at",
                                        "semaphore made at"};
    static const char *const reasons[] = {"[receive", "[send",      "[receive",
                                          "[select",  "[mutex",     "[rwmutex to read",
                                          "[cond",    "[waitgroup", "[semaphore",
                                          "[read"};
    waits_here w;
    memset(&w, 0, sizeof w);
    CHECK(pipe(w.pipe) == 0);
    w.c = csp_make(int, 0), w.made[0] = w.made[2] = w.made[3] = __LINE__;
    w.full = csp_make(int, 0), w.made[1] = __LINE__;
    csp_waitgroup_add(&w.wg, 1), w.made[7] = __LINE__;
    csp_sem_init(&w.sem, 2), w.made[8] = __LINE__;
    csp_sem_acquire(&w.sem, 1);
    csp_mutex_lock(&w.mu);
    csp_rwmutex_lock(&w.rw);
    for (int i = 0; i < (WINDOWS ? 9 : 10); i++) { // its pipes are not waited for
        int was = LOAD(&w.n);
        csp_go(waits_in_line, &w, i);
        char place[512];
        EVENTUALLY(LOAD(&w.n) == was + 1 && LOAD(&w.lines[i]) != 0);
        snprintf(place, sizeof place, "    waits at %s:%d\n", __FILE__, LOAD(&w.lines[i]));
        EVENTUALLY(dump_has(place));
        char *text = dump_text(), *where = strstr(text, place), *start = where - 1;
        while (start > text && start[-1] != '\n') start--;
        CHECK_HAS(start, reasons[i]);
        if (strstr(start, reasons[i]) > where) FAIL("another line has %s: %s", reasons[i], start);
        if (i < 9) {
            snprintf(place, sizeof place, "    %s %s:%d\n", nouns[i], __FILE__, LOAD(&w.made[i]));
            CHECK_HAS(where, place);
        }
        free(text);
    }
    csp_send(w.c, 1);
    csp_send(w.c, 1); // two of receive, range and select, by their arrival
    csp_close(w.c);
    CHECK(csp_recv(w.full, NULL));
    csp_mutex_unlock(&w.mu);
    csp_rwmutex_unlock(&w.rw);
    csp_cond_signal(&w.cond);
    csp_waitgroup_done(&w.wg);
    csp_sem_release(&w.sem, 1);
    CHECK(WINDOWS || csp_write(w.pipe[1], "x", 1) == 1);
    EVENTUALLY(LOAD(&w.n) == 0);
    close(w.pipe[0]), close(w.pipe[1]);
    csp_unref(w.c);
    csp_unref(w.full);
}

csp_task(comes_and_goes, uint64_t, r, int_chan, done)
{
    csp_set_name("mayfly");
    csp_sleep(below(&r, 50) * CSP_MICROSECOND);
    csp_send(done, 1);
}

csp_task(dumps, int *, stop, int_chan, done)
{
    while (!LOAD(stop)) {
        csp_stats s;
        free(dump_text());
        csp_get_stats(&s);
        CHECK(s.goroutines >= 1);
        csp_yield();
    }
    csp_send(done, 1);
}

TEST(dump, can_be_taken_while_everything_runs)
{
    int_chan done = csp_make(int, 0), end = csp_make(int, 0);
    int stop = 0;
    csp_procs(4);
    csp_go(dumps, &stop, end);
    csp_go(dumps, &stop, end);
    for (int i = 0; i < rounds(200); i++) {
        for (int k = 0; k < 20; k++) csp_go(comes_and_goes, stream(k), done);
        collect(done, 20);
    }
    STORE(&stop, 1);
    collect(end, 2);
    csp_unref(done);
    csp_unref(end);
}

TEST_PLAIN(dump, may_be_asked_for_before_the_first_goroutine)
{
    csp_stats s;
    free(dump_text());
    csp_get_stats(&s);
    CHECK_EQ(s.goroutines, 0);
    CHECK_EQ(csp_count(), 0);
}

TEST(dump, stats_count_what_happens)
{
    csp_stats before, after;
    int_chan done = csp_make(int, 0);
    csp_procs(3);
    csp_get_stats(&before);
    CHECK(before.goroutines == 1 && before.procs == 3 && before.threads >= 1);
    for (int i = 0; i < 100; i++) csp_go(two, i, done);
    csp_get_stats(&after);
    CHECK_EQ(after.goroutines, 101);
    CHECK_EQ(after.spawned - before.spawned, 100);
    CHECK(after.stack_bytes > 0);
    collect(done, 100);
    csp_get_stats(&after);
    CHECK(after.switches - before.switches >= 100);
    CHECK(after.steals >= before.steals && after.handoffs >= before.handoffs);
    csp_get_stats(&before);
    for (int i = 0; i < 20; i++) csp_sleep(100 * CSP_MICROSECOND);
#ifndef _WIN32
    int ends[2];
    CHECK(pipe(ends) == 0);
    csp_go(waits_in_line, &(waits_here){.pipe = {ends[0], ends[1]}}, 9);
    EVENTUALLY(waiters_of(ends[0]) == 1);
    CHECK(csp_write(ends[1], "x", 1) == 1);
    EVENTUALLY(csp_count() == 1);
    EVENTUALLY((csp_get_stats(&after), after.polls > before.polls)); // told by the system
    CHECK(after.timers - before.timers >= 20);
    CHECK(after.waits - before.waits >= 20);
    CHECK(after.runnable >= 0 && after.runnable < 100);
    csp_close_fd(ends[0]), csp_close_fd(ends[1]);
#endif
    csp_unref(done);
}

#endif // CSP_TEST_FEW < 2

#if CSP_TEST_FEW < 1

/* ==========================================================================
 * inside - what the environment asks for: leaks, scheduler lines, dumps by signal
 * ======================================================================== */

csp_task(forgotten_select, int_chan, a, int_chan, b)
{
    csp_select(CSP_RECV(a, NULL), CSP_RECV(b, NULL));
}

csp_task(comes_home, int_chan, c)
{
    csp_sleep(5 * CSP_MILLISECOND);
    csp_send(c, 1);
}

static int_chan volatile reachable[3]; // for the tool that looks for leaks of memory
static csp_ticker *volatile unheard;

static void leaks_two(void *sleeper)
{
    static int64_t hour = CSP_HOUR;
    int_chan c = reachable[0] = csp_make(int, 0), d = reachable[1] = csp_make(int, 1);
    csp_go(forgotten_receiver, c);
    csp_go(forgotten_select, c, c);
    csp_go(comes_home, d); // ends, if a little later
    if (sleeper != NULL) csp_spawn(sleeps_forever, &hour);
    if (sleeper == NULL) unheard = csp_ticker_new(10 * CSP_MILLISECOND);
}

static void leaks_none(void *arg)
{
    (void)arg;
    int_chan c = csp_make(int, 0);
    csp_go(comes_home, c);
    csp_recv(c, NULL);
    csp_unref(c);
}

CHILD(leaks_two)
{
    csp_run(leaks_two, NULL);
}
CHILD(leaks_two_beside_a_sleeper)
{
    csp_run(leaks_two, &(int){0});
}
CHILD(leaks_none)
{
    csp_run(leaks_none, NULL);
}

TEST_PLAIN(inside, leaks_are_listed_when_main_returns)
{
    outcome *o = run_child("leaks_two", "CSP_DEBUG=leaks");
    CHECK_CHILD(o, 0);
    CHECK_HAS(o->text, "2 goroutines leaked");
    CHECK_HAS(o->text, "no goroutine, timer or thread left");
    CHECK_HAS(o->text, "[receive 0x");
    CHECK_HAS(o->text, "[select 0x");
    CHECK_HAS(o->text, "forgotten_receiver, started at " __FILE__ ":");
    CHECK(strstr(o->text, "comes_home") == NULL);
    CHECK_EQ(o->text[strlen(o->text) - 1], '\n');
    o = run_child("leaks_two_beside_a_sleeper", "CSP_DEBUG=leaks");
    CHECK_CHILD(o, 0);
    CHECK_HAS(o->text, "2 goroutines leaked");
    CHECK_HAS(o->text, "unless");
    CHECK(strstr(o->text, "sleeps_forever") == NULL);
}

TEST_PLAIN(inside, nothing_is_said_of_leaks_where_there_are_none_or_nobody_asked)
{
    outcome *o = run_child("leaks_none", "CSP_DEBUG=leaks");
    CHECK_CHILD(o, 0);
    CHECK_EQ(o->text[0], 0);
    o = run_child("leaks_two", NULL);
    CHECK_CHILD(o, 0);
    CHECK_EQ(o->text[0], 0);
}

static void asserts_with_one_left(void *arg)
{
    (void)arg;
    int_chan c = csp_make(int, 0);
    csp_go(comes_home, reachable[0] = csp_make(int, 1));
    csp_assert_no_goroutines(); // waits for it
    CHECK_EQ(csp_count(), 1);
    csp_go(forgotten_receiver, c);
    CHECK_PANICS("1 goroutines have not ended", csp_assert_no_goroutines());
    csp_send(c, 1);
    csp_assert_no_goroutines();
    csp_unref(c);
    say("fine\n");
}

CHILD(asserts_with_one_left)
{
    csp_run(asserts_with_one_left, NULL);
}

TEST_PLAIN(inside, assert_no_goroutines_waits_for_those_that_end_and_lists_the_others)
{
    outcome *o = run_child("asserts_with_one_left", NULL);
    CHECK_CHILD(o, 0);
    CHECK_HAS(o->text, "forgotten_receiver, started at " __FILE__ ":");
    CHECK_HAS(o->text, "fine");
}

static void waits_for_lines(void *arg)
{
    (void)arg;
    EVENTUALLY(LOAD(&csp__observer.lines) >= 2);
}

CHILD(waits_for_lines)
{
    csp_run(waits_for_lines, NULL);
}

TEST_PLAIN(inside, debug_sched_writes_lines)
{
    outcome *o = run_child("waits_for_lines", "CSP_DEBUG=sched=10");
    CHECK_CHILD(o, 0);
    CHECK_HAS(o->text, "SCHED ");
    CHECK_HAS(o->text, "ms: procs=");
    CHECK_HAS(o->text, "goroutines=1 ");
}

CHILD(deadlock_beside_the_observer)
{
    csp_run(leaks_none, NULL);
    csp_run(dead_recv, NULL);
}

TEST_PLAIN(inside, the_thread_that_writes_does_not_hide_a_deadlock)
{
    if (emulated()) SKIP("an emulator does not count the threads");
    if (TSAN) SKIP("the thread sanitizer's own thread might wake a goroutine");
    if (emulated()) SKIP("an emulator does not count the threads");
    outcome *o = run_child("deadlock_beside_the_observer", "CSP_DEBUG=sched=60000");
    CHECK_CHILD(o, 2);
    CHECK_HAS(o->text, "deadlock!");
}

#ifndef _WIN32
static void is_signalled(void *arg)
{
    (void)arg;
    int_chan c = csp_make(int, 0);
    csp_go(forgotten_receiver, c);
    EVENTUALLY(last_receiver(c) != NULL && dump_has("receive"));
    kill(getpid(), SIGUSR1);
    EVENTUALLY(LOAD(&csp__observer.dumps) == 1);
    csp_send(c, 1);
    csp_unref(c);
    say("fine\n");
}

CHILD(is_signalled)
{
    csp_run(is_signalled, NULL);
}

TEST_PLAIN(inside, a_signal_writes_the_dump_and_the_program_goes_on)
{
    outcome *o = run_child("is_signalled", "CSP_DUMP_SIGNAL=SIGUSR1");
    CHECK_CHILD(o, 0);
    CHECK_HAS(o->text, "forgotten_receiver, started at " __FILE__ ":");
    CHECK_HAS(o->text, "fine");
    o = run_child("is_signalled", NULL);
    CHECK_EQ(o->code, 128 + SIGUSR1);
}
#endif

TEST_PLAIN(inside, settings_that_mean_nothing_are_named)
{
    CHECK_HAS(run_child("leaks_none", "CSP_DEBUG=leaks,lakes")->text, "\"lakes\"");
    CHECK_HAS(run_child("leaks_none", "CSP_DEBUG=sched=often")->text, "\"sched=often\"");
    CHECK_HAS(run_child("leaks_none", "CSP_DEBUG=sched=10s")->text, "\"sched=10s\"");
    CHECK_HAS(run_child("leaks_none", "CSP_DEBUG=sched=99999999999")->text,
              "\"sched=99999999999\"");
    CHECK_HAS(run_child("leaks_none", "CSP_DUMP_SIGNAL=+10")->text, "+10");
    CHECK_HAS(run_child("leaks_none", "CSP_DUMP_SIGNAL=SIGGY")->text, "SIGGY");
    CHECK_HAS(run_child("leaks_none", "CSP_DUMP_SIGNAL=SIGKILL")->text, "SIGKILL");
}

#if CSP_STACK_PAINT
__attribute__((noinline)) static int uses_stack(int kib)
{
    volatile char page[1024];
    for (size_t i = 0; i < sizeof page; i++) page[i] = (char)kib;
    return kib == 0 ? page[7] : uses_stack(kib - 1) + page[5];
}

csp_task(uses_kib, int, kib, int_chan, done)
{
    csp_send(done, uses_stack(kib));
    csp_recv(done, NULL);
}

TEST(inside, painted_stacks_show_how_much_was_used)
{
    int_chan done = csp_make(int, 0);
    const int kib[] = {100, 2, 40};
    for (int i = 0; i < 3; i++) { // the same stack again for each, most often
        csp_go(uses_kib, kib[i], done);
        collect(done, 1);
        EVENTUALLY(last_receiver(done) != NULL);
        csp__cb *cb = ((csp__waiter *)last_receiver(done))->g->cb;
        int64_t used = cb->top - (char *)csp__stack_mark(cb);
        CHECK(used >= kib[i] * 1024 &&
              used < (SANITIZED || UNOPTIMIZED ? 3 : 2) * kib[i] * 1024 + 16384);
        CHECK(dump_has(" bytes used\n"));
        csp_send(done, 1);
    }
    csp_unref(done);
}
#endif

#ifndef _WIN32
/* ==========================================================================
 * trace - the file that csp_trace_start writes
 * ======================================================================== */

/* An entry of the file: what of it the tests look at. */
typedef struct entry {
    char ph[4], name[64], then[64], go[128];
    double ts, dur, pid, tid, id, g, events;
} entry;

static entry *trace;
static int ntrace, trace_room;
static char *trace_text;

static void json_space(const char **s)
{
    *s += strspn(*s, " \n\t\r");
}

static void json_string(const char **s, char *to, size_t size)
{
    if (*(*s)++ != '"') FAIL("no string at: %.40s", *s - 1);
    for (size_t i = 0; **s != '"'; ++*s) {
        if (**s == '\\') ++*s;
        if ((unsigned char)**s < 32) FAIL("a control character in a string: %.40s", *s);
        if (i + 1 < size) to[i++] = **s, to[i] = 0;
    }
    ++*s;
}

/* A value; those of an entry and of its args go where their key says. */
static void json_value(const char **s, entry *e, const char *key)
{
    const struct {
        const char *key;
        double *number;
        char *text;
        size_t size;
    } fields[] = {{"ph", NULL, e->ph, sizeof e->ph},
                  {"name", NULL, e->name, sizeof e->name},
                  {"then", NULL, e->then, sizeof e->then},
                  {"go", NULL, e->go, sizeof e->go},
                  {"ts", &e->ts, NULL, 0},
                  {"dur", &e->dur, NULL, 0},
                  {"pid", &e->pid, NULL, 0},
                  {"tid", &e->tid, NULL, 0},
                  {"id", &e->id, NULL, 0},
                  {"g", &e->g, NULL, 0},
                  {"events", &e->events, NULL, 0}};
    char text[128] = "";
    double number = 0;
    json_space(s);
    if (**s == '{') {
        for (char next = ','; next == ',';) {
            ++*s;
            json_space(s);
            json_string(s, text, sizeof text);
            json_space(s);
            if (*(*s)++ != ':') FAIL("no colon at: %.40s", *s - 1);
            json_value(s, e, text);
            json_space(s);
            if ((next = **s) != ',' && next != '}') FAIL("no , or } at: %.40s", *s);
        }
        ++*s;
        return;
    }
    if (**s == '"') {
        json_string(s, text, sizeof text);
    } else {
        char *end;
        number = strtod(*s, &end);
        if (end == *s) FAIL("no value at: %.40s", *s);
        *s = end;
    }
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (strcmp(key, fields[i].key) != 0) continue;
        if (fields[i].number != NULL) *fields[i].number = number;
        if (fields[i].text != NULL) snprintf(fields[i].text, fields[i].size, "%s", text);
    }
}

static int by_track(const void *a, const void *b)
{
    const entry *x = (const entry *)a, *y = (const entry *)b;
    double d = x->pid != y->pid   ? x->pid - y->pid
               : x->tid != y->tid ? x->tid - y->tid
               : x->ts != y->ts   ? x->ts - y->ts
                                  : y->dur - x->dur;
    return d < 0 ? -1 : d > 0;
}

#define IS(e, phase) (strcmp((e)->ph, phase) == 0)

/* The slices of a track do not overlap, and an arrow leads from a wake to a later turn. */
static void trace_check(bool whole)
{
    entry *last = NULL;
    qsort(trace, (size_t)ntrace, sizeof *trace, by_track);
    for (entry *e = trace; e < trace + ntrace; e++) {
        if (!IS(e, "X")) continue;
        if (last != NULL && last->pid == e->pid && last->tid == e->tid &&
            last->ts + last->dur > e->ts + 0.0015)
            FAIL("%s (%f us long, then %s) and %s overlap at %f on track %g/%g", last->name,
                 last->dur, last->then, e->name, e->ts, e->pid, e->tid);
        last = e;
    }
    if (!whole) return;
    for (entry *e = trace; e < trace + ntrace; e++) {
        int from = 0, to = 0;
        if (!IS(e, "f")) continue;
        for (entry *o = trace; o < trace + ntrace; o++) {
            if (IS(o, "s") && o->id == e->id && o->ts <= e->ts) from++;
            if (IS(o, "X") && o->pid == e->pid && o->tid == e->tid && o->ts <= e->ts &&
                o->ts + o->dur + 0.0015 >= e->ts && o->g == (double)((uint64_t)e->id >> 16))
                to++;
        }
        if (from != 1 || to != 1) FAIL("an arrow has %d starts and %d ends", from, to);
    }
}

/* The file must be an array of objects. */
static void trace_read(const char *path)
{
    size_t size = 0, room = 1 << 16;
    FILE *f = fopen(path, "r");
    if (f == NULL) FAIL("there is no file %s", path);
    free(trace_text);
    trace_text = (char *)malloc(room);
    for (size_t n; (n = fread(trace_text + size, 1, room - size - 1, f)) > 0;)
        if ((size += n) + 1 == room) trace_text = (char *)realloc(trace_text, room *= 2);
    fclose(f);
    trace_text[size] = 0;
    const char *s = trace_text;
    ntrace = 0;
    json_space(&s);
    CHECK(*s == '[');
    do {
        s++;
        if (ntrace == trace_room) {
            trace_room = 2 * trace_room + 1000;
            trace = (entry *)realloc(trace, (size_t)trace_room * sizeof *trace);
        }
        memset(&trace[ntrace], 0, sizeof *trace);
        json_value(&s, &trace[ntrace++], "");
        json_space(&s);
    } while (*s == ',');
    if (*s != ']') FAIL("no , or ] at: %.40s", s);
    s++;
    json_space(&s);
    if (*s != 0) FAIL("after the end: %.40s", s);
}

/* How many entries: of a phase, a group (0: any), with a name and, unless NULL, what then. */
static int trace_count(const char *ph, int pid, const char *name, const char *then)
{
    int n = 0;
    for (entry *e = trace; e < trace + ntrace; e++)
        n += IS(e, ph) && (pid == 0 || e->pid == pid) && strcmp(e->name, name) == 0 &&
             (then == NULL || strncmp(e->then, then, strlen(then)) == 0);
    return n;
}

static char trace_path[64];

static const char *trace_file(void)
{
    int fd = mkstemp(strcpy(trace_path, "/tmp/csp-trace-XXXXXX"));
    CHECK(fd >= 0);
    close(fd);
    return trace_path;
}

static void trace_end(bool whole)
{
    csp_trace_stop();
    trace_read(trace_path);
    unlink(trace_path);
    trace_check(whole);
}

csp_task(receives, int_chan, c, int, n)
{
    for (int i = 0, v; i < n; i++) CHECK(csp_recv(c, &v) && v == i);
}

csp_task(is_called_strangely, int_chan, done)
{
    csp_set_name("\"quoted\" \\ and\n\x01");
    csp_go(takes_nothing); // a goroutine to yield to
    csp_yield();
    csp_send(done, 1);
}

TEST(trace, shows_each_turn_with_its_name_what_it_waits_for_and_who_woke_it)
{
    csp_opts opts = {.name = "receiver"};
    int_chan c = csp_make(int, 0), done = csp_make(int, 1);
    csp_procs(1);
    CHECK_EQ(csp_trace_start(trace_file()), 0);
    csp_go_with(&opts, receives, c, 10);
    for (int i = 0; i < 10; i++) csp_send(c, i);
    csp_go(is_called_strangely, done);
    collect(done, 1);
    csp_sleep(CSP_MILLISECOND);
    trace_end(true);
    int turns = trace_count("X", 1, "receiver", NULL);
    CHECK(turns >= 5 && (turns <= 11 || CSP_TORTURE));
    CHECK_EQ(trace_count("X", 2, "receiver", NULL), turns); // on the thread's track, too
    CHECK(trace_count("X", 1, "receiver", "receive 0x") >= 5);
    CHECK_EQ(trace_count("X", 1, "receiver", "end"), 1);
    CHECK(trace_count("X", 1, "main", "send 0x") >= 1);
    CHECK_EQ(trace_count("X", 1, "main", "sleep"), 1);
    CHECK_EQ(trace_count("X", 1, "main", "running"), 1);
    CHECK_EQ(trace_count("X", 1, "is_called_strangely", "runnable"), 1);
    CHECK_EQ(trace_count("X", 1, "\"quoted\" \\ and  ", "end"), 1);
    CHECK(trace_count("s", 1, "wake", NULL) >= 5 && trace_count("f", 1, "wake", NULL) >= 5);
    CHECK(trace_count("C", 1, "runnable", NULL) >= 1 && trace_count("C", 2, "threads", NULL) >= 1);
    CHECK_HAS(trace_text, "{\"name\":\"P0\"}");
    CHECK_HAS(trace_text, "{\"name\":\"M ");
    CHECK_HAS(trace_text, "\"go\":\"" __FILE__ ":");
    csp_unref(c);
    csp_unref(done);
}

static void *sends_from_a_thread(void *arg)
{
    int_chan c = *(int_chan *)arg;
    for (int i = 0; i < 3; i++) csp_send(c, i);
    return NULL;
}

TEST(trace, shows_threads_of_the_program)
{
    int_chan c = csp_make(int, 0);
    CHECK_EQ(csp_trace_start(trace_file()), 0);
    pthread_t t = thread_start(sends_from_a_thread, &c);
    for (int i = 0, v; i < 3; i++) CHECK(csp_recv(c, &v) && v == i);
    pthread_join(t, NULL);
    trace_end(true);
    if (strstr(trace_text, "\"wake\",\"bp\"") != NULL && trace_count("X", 2, "wake", NULL) > 0)
        CHECK_HAS(trace_text, "{\"name\":\"a thread of the program's, ");
    csp_unref(c);
}

TEST(trace, shows_steals_and_processors_that_change_hands)
{
    csp_stats s, t;
    int fds[2], n = 0, seen_by[2] = {0, 0};
    int_chan done = csp_make(int, 0);
    CHECK(pipe(fds) == 0);
    CHECK_EQ(csp_trace_start(trace_file()), 0);
    csp_procs(1);
    csp_go(blocks_in_kernel, fds[0], done);
    csp_yield();
    CHECK(write(fds[1], "1", 1) == 1);
    CHECK(csp_recv(done, &n) && n == 1);
    csp_procs(2);
    csp_get_stats(&s);
    do {
        for (int i = 0; i < 50; i++) csp_go(computes_a_while, seen_by, done);
        collect(done, 50);
        csp_get_stats(&t);
    } while (t.steals == s.steals);
    trace_end(false);
    CHECK(trace_count("i", 1, "steal", NULL) >= 1);
    CHECK(trace_count("i", 1, "hand-off", NULL) >= 1);
    CHECK(trace_count("X", 1, "blocks_in_kernel", "hand-off") >= 1);
    CHECK(trace_count("X", 2, "blocks_in_kernel", NULL) >= 1);
    close(fds[0]);
    close(fds[1]);
    csp_unref(done);
}

CSP__FN CSP__NOINLINE csp__tape *own_tape(void)
{
    return csp__self()->tape;
}

TEST(trace, leaves_out_what_comes_too_fast_and_says_so)
{
    csp_procs(1);
    CHECK_EQ(csp_trace_start(trace_file()), 0);
    csp_yield();                         // as long as it is alone, a turn does not end
    csp__lock_slow(&csp__observer.lock); // no reader; held across turns, which no rank allows
    uint32_t tapes = csp__trace.ntapes;
    for (int i = 0; i < CSP__TAPE; i++) csp_spawn(nothing, NULL), csp_yield();
    CHECK(csp__trace.ntapes - tapes < 3);
    csp__release(&csp__observer.lock, 0);
    double n = 0;
    csp__tape *t = own_tape();
    uint32_t full = LOAD(&t->head);
    EVENTUALLY((int32_t)(LOAD(&t->tail) - full) >= 0);
    csp_spawn(nothing, NULL);
    csp_yield();
    trace_end(false);
    for (entry *e = trace; e < trace + ntrace; e++)
        if (strcmp(e->name, "events left out") == 0) n += e->events;
    CHECK(n > CSP__TAPE && n < 10 * CSP__TAPE);
}

csp_task(chatters, int_chan, a, int_chan, b, int *, stop, int *, count)
{
    while (!LOAD(stop)) {
        ADD(count, 1);
        csp_try_send(a, 1);
        csp_select(CSP_RECV(b, NULL), CSP_AFTER(CSP_MICROSECOND));
    }
    csp_send(a, -1);
}

TEST(trace, may_start_and_stop_again_and_again_while_everything_runs)
{
    int stop = 0, count = 0, turns = 0;
    int_chan a = csp_make(int, 20), b = csp_make(int, 20);
    csp_procs(3);
    csp_trace_stop(); // of nothing
    for (int i = 0; i < 4; i++) {
        csp_go(chatters, a, b, &stop, &count);
        csp_go(chatters, b, a, &stop, &count);
    }
    for (int i = 0; i < rounds(10); i++) {
        CHECK_EQ(csp_trace_start(trace_file()), 0);
        CHECK_EQ(csp_trace_start("/tmp/csp-trace-second"), -EBUSY);
        int until = LOAD(&count) + 100;
        EVENTUALLY(LOAD(&count) > until);
        csp_trace_stop();
        trace_end(false);
        CHECK(access("/tmp/csp-trace-second", F_OK) != 0);
        turns += trace_count("X", 1, "chatters", NULL);
    }
    CHECK(turns > 0);
    STORE(&stop, 1);
    while (csp_count() > 1) {
        while (csp_try_recv(a, NULL) == CSP_OK || csp_try_recv(b, NULL) == CSP_OK) continue;
        csp_sleep(100 * CSP_MICROSECOND);
    }
    csp_unref(a);
    csp_unref(b);
}

TEST(trace, a_file_that_cannot_be_written_is_an_error)
{
    CHECK_EQ(csp_trace_start("/nonexistent/x.json"), -ENOENT);
    CHECK_EQ(csp_trace_start(trace_file()), 0); // nothing is in the way
    trace_end(true);
}

static void exits_with_3(void *arg)
{
    (void)arg;
    csp_yield();
    exit(3);
}

CHILD(traced_exit)
{
    csp_run(exits_with_3, NULL);
}

CHILD(traced_twice)
{
    csp_run(leaks_none, NULL);
    csp_run(leaks_none, NULL);
}

static void traced_child(const char *child, int code, const char *suffix)
{
    static char setting[80], path[80];
    snprintf(setting, sizeof setting, "CSP_TRACE=%s", trace_file());
    CHECK_CHILD(run_child(child, setting), code);
    snprintf(path, sizeof path, "%s%s", trace_path, suffix);
    trace_read(path);
    trace_check(true);
    unlink(path);
    unlink(trace_path);
}

TEST_PLAIN(trace, the_environment_asks_for_one_and_it_is_whole_however_the_program_ends)
{
    traced_child("leaks_none", 0, "");
    CHECK(trace_count("X", 1, "comes_home", "end") == 1);
    traced_child("traced_twice", 0, ".2");
    CHECK(trace_count("X", 1, "comes_home", "end") == 1);
    traced_child("traced_exit", 3, "");
    CHECK(trace_count("X", 1, "main", "running") == 1);
    if (!TSAN && !emulated()) traced_child("dead_recv", 2, "");
    traced_child("uncaught_in_goroutine", 2, "");
    outcome *o = run_child("leaks_none", "CSP_TRACE=/nonexistent/x.json");
    CHECK_CHILD(o, 0);
    CHECK_HAS(o->text, "csp: CSP_TRACE=/nonexistent/x.json cannot be written");
    if (access("/dev/full", W_OK) != 0) return;
    o = run_child("leaks_none", "CSP_TRACE=/dev/full");
    CHECK_CHILD(o, 0);
    CHECK_HAS(o->text, "could not be written");
}

static void *thread_reads_once(void *path)
{
    char b;
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && read(fd, &b, 1) == 1 && b == '[');
    close(fd); // what is written now would be SIGPIPE
    return NULL;
}

TEST_PLAIN(trace, a_fifo_wants_a_reader_and_does_not_kill_when_that_goes_away)
{
    static char setting[80], path[64];
    snprintf(path, sizeof path, "%s.fifo", trace_file());
    snprintf(setting, sizeof setting, "CSP_TRACE=%s", path);
    CHECK(mkfifo(path, 0600) == 0);
    outcome *o = run_child("leaks_none", setting); // without a reader
    CHECK_CHILD(o, 0);
    CHECK_HAS(o->text, "cannot be written");
    pthread_t t = thread_start(thread_reads_once, path);
    int error;
    while ((error = csp_trace_start(path)) == -ENXIO) sched_yield();
    CHECK_EQ(error, 0);
    int64_t end = csp_now() + 10 * CSP_SECOND;
    int n = 0;
    for (int sent = 0; !LOAD(&csp__observer.out.failed) && csp_now() < end; sent++) {
        csp_spawn(bump, &n);
        EVENTUALLY(LOAD(&n) > sent);
    }
    CHECK(LOAD(&csp__observer.out.failed));
    pthread_join(t, NULL);
    csp_trace_stop();
    unlink(path);
}

static void *starts_a_child(void *path)
{
    static char setting[80];
    snprintf(setting, sizeof setting, "CSP_TRACE=%s", (char *)path);
    CHECK_CHILD(run_child("leaks_none", setting), 0);
    return NULL;
}

/* By exec and by fork alone. */
TEST_PLAIN(trace, a_child_leaves_its_parents_file_alone_and_writes_one_of_its_own)
{
    FORKS_NEED;
    static char path[64], own[80];
    int status = 0;
    snprintf(path, sizeof path, "%s", trace_file());
    CHECK_EQ(csp_trace_start(path), 0);
    pthread_join(thread_start(starts_a_child, path), NULL);
    int fd = csp__observer.out.fd;
    pid_t pid = fork();
    if (pid == 0) {
        CHECK(fcntl(fd, F_GETFD) < 0); // it keeps neither the file nor the lock
        setenv("CSP_TRACE", path, 1);
        csp_run(leaks_none, NULL);
        unsetenv("CSP_TRACE");
        CHECK_EQ(csp_trace_start(path), -EBUSY);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    csp_trace_stop();
    trace_read(path);
    trace_check(true);
    CHECK_EQ(trace_count("X", 1, "comes_home", "end"), 0);
    snprintf(own, sizeof own, "%s.%d", path, (int)pid);
    trace_read(own);
    trace_check(true);
    CHECK_EQ(trace_count("X", 1, "comes_home", "end"), 1);
    unlink(own);
    glob_t found;
    snprintf(own, sizeof own, "%s.*", path);
    CHECK(glob(own, 0, NULL, &found) == 0);
    CHECK_EQ(found.gl_pathc, 1); // of the child that was executed
    trace_read(found.gl_pathv[0]);
    trace_check(true);
    CHECK_EQ(trace_count("X", 1, "comes_home", "end"), 1);
    unlink(found.gl_pathv[0]);
    globfree(&found);
    unlink(path);
}
#endif

#endif // CSP_TEST_FEW < 1

#if CSP_TEST_FEW < 2

/* ==========================================================================
 * simulate - programs under the simulator: how runs end, replay, virtual time, classic bugs
 * ======================================================================== */

/* Memory that a run leaves behind when it goes wrong stays reachable. */
static void *keep(void *p)
{
    static void **all;
    static size_t n;
    if ((n & (n - 1)) == 0) {
        void *more = realloc(all, (n == 0 ? 1 : 2 * n) * sizeof *all);
        CHECK(more != NULL);
        all = more;
    }
    return all[n++] = p;
}

#define kept(capacity) ((int_chan)keep(csp_make(int, capacity)))

/* ---- the catalogue: each program has a bug unless it is told to be mended ---- */

static int account, published, thing, signalled, readers, pair[2];

typedef struct bench { // what a program works with
    csp_waitgroup wg;
    csp_mutex a, b;
    csp_cond cond;
    csp_once once;
    csp_rwmutex rw;
    bool mended;
} bench;

/* Two or more functions of the bench, in goroutines. */
static void work_at(bench *b, void *mended, void (*const *fns)(void *))
{
    memset(b, 0, sizeof *b);
    b->mended = mended != NULL;
    int *all[] = {&account, &published, &thing, &signalled, &readers, &pair[0], &pair[1]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) STORE(all[i], 0);
    for (; *fns != NULL; fns++) csp_waitgroup_spawn(&b->wg, *fns, b);
    csp_waitgroup_wait(&b->wg);
}

#define WORK(mended, ...)                                                                          \
    do {                                                                                           \
        bench b;                                                                                   \
        work_at(&b, mended, (void (*const[])(void *)){__VA_ARGS__, NULL});                         \
    } while (0)

static void deposits(void *arg)
{
    bench *b = arg;
    if (b->mended) csp_mutex_lock(&b->a);
    int before = LOAD(&account);
    csp_yield();
    STORE(&account, before + 1);
    if (b->mended) csp_mutex_unlock(&b->a);
}

static void lost_update(void *mended)
{
    WORK(mended, deposits, deposits);
    if (LOAD(&account) != 2) csp_panic("an update was lost");
}

static void makes_thing(void *arg)
{
    (void)arg;
    csp_yield(); // it takes a while
    STORE(&thing, 42);
}

static void uses_thing(void *arg)
{
    bench *b = arg;
    if (b->mended) {
        csp_once_do(&b->once, makes_thing, NULL);
    } else if (!LOAD(&published)) {
        csp_mutex_lock(&b->a);
        bool first = !LOAD(&published);
        STORE(&published, 1); // too early
        if (first) makes_thing(NULL);
        csp_mutex_unlock(&b->a);
    }
    if (LOAD(&thing) != 42) csp_panic("used before it was made");
}

static void double_checked_flag(void *mended)
{
    WORK(mended, uses_thing, uses_thing);
}

static void locks_a_and_b(void *arg)
{
    bench *b = arg;
    csp_mutex_lock(&b->a);
    csp_mutex_lock(&b->b);
    csp_mutex_unlock(&b->b);
    csp_mutex_unlock(&b->a);
}

static void locks_b_and_a(void *arg)
{
    bench *b = arg;
    csp_mutex_lock(&b->b);
    csp_mutex_lock(&b->a);
    csp_mutex_unlock(&b->a);
    csp_mutex_unlock(&b->b);
}

static void abba(void *mended)
{
    WORK(mended, locks_a_and_b, mended != NULL ? locks_a_and_b : locks_b_and_a);
}

static void waits_for_signal(void *arg)
{
    bench *b = arg;
    csp_mutex_lock(&b->a);
    if (!LOAD(&signalled)) csp_cond_wait(&b->cond, &b->a);
    csp_mutex_unlock(&b->a);
}

static void signals(void *arg)
{
    bench *b = arg;
    if (b->mended) csp_mutex_lock(&b->a); // not between the other's look and its wait
    STORE(&signalled, 1);
    csp_cond_signal(&b->cond);
    if (b->mended) csp_mutex_unlock(&b->a);
}

static void signal_before_wait(void *mended)
{
    WORK(mended, waits_for_signal, signals);
}

csp_task(responds, int_chan, c, int, i)
{
    csp_sleep(csp_sim_choose(10) * CSP_MILLISECOND);
    csp_send(c, i);
}

static void leaky_first_response(void *mended)
{
    int_chan c = kept(mended != NULL ? 3 : 0);
    for (int i = 0; i < 3; i++) csp_go(responds, c, i);
    csp_recv(c, NULL);
}

csp_task(sends_until_told, int_chan, c, int_chan, quit, bool, closes)
{
    while (csp_select(CSP_SEND(c, 1), CSP_RECV(quit, NULL)) == 0)
        if (!closes) csp_send(c, 2);
    if (closes) csp_close(c);
}

static void close_send_race(void *mended)
{
    int_chan c = kept(4), quit = kept(0);
    csp_go(sends_until_told, c, quit, mended != NULL);
    csp_recv(c, NULL);
    csp_close(quit);
    if (mended == NULL) csp_close(c);
    while (csp_recv(c, NULL)) continue;
}

static void stale_timer(void *mended)
{
    int_chan reply = kept(0);
    csp_timer *t = keep(csp_timer_new(10 * CSP_MILLISECOND));
    for (int i = 0; i < 3; i++) { // each has 10 ms for what never takes so long
        if (mended != NULL) csp_timer_reset(t, 10 * CSP_MILLISECOND);
        csp_go(responds, reply, i);
        if (csp_select(CSP_RECV(reply, NULL), CSP_RECV(csp_timer_chan(t), NULL)) == 1)
            csp_panic("out of time in time");
    }
    csp_timer_stop(t);
}

static void reads_pair(void *arg)
{
    bench *b = arg;
    if (b->mended)
        csp_rwmutex_rlock(&b->rw);
    else if (ADD(&readers, 1) == 1)
        csp_mutex_lock(&b->a); // the second reader does not wait until the first has it
    int first = LOAD(&pair[0]);
    csp_yield();
    if (LOAD(&pair[1]) != first) csp_panic("read while it was written");
    if (b->mended)
        csp_rwmutex_runlock(&b->rw);
    else if (ADD(&readers, -1) == 0)
        csp_mutex_unlock(&b->a);
}

static void writes_pair(void *arg)
{
    bench *b = arg;
    b->mended ? csp_rwmutex_lock(&b->rw) : csp_mutex_lock(&b->a);
    ADD(&pair[0], 1);
    csp_yield();
    ADD(&pair[1], 1);
    b->mended ? csp_rwmutex_unlock(&b->rw) : csp_mutex_unlock(&b->a);
}

static void broken_rwlock(void *mended)
{
    WORK(mended, writes_pair, reads_pair, reads_pair);
}

static const struct classic {
    const char *name;
    void (*fn)(void *mended);
    csp_sim_outcome outcome;
    const char *message;
    uint64_t within; // runs, for either strategy
} classics[] = {
    {"lost update", lost_update, CSP_SIM_PANIC, "an update was lost", 50},
    {"double-checked flag", double_checked_flag, CSP_SIM_PANIC, "used before it was made", 100},
    {"ABBA deadlock", abba, CSP_SIM_DEADLOCK, "all goroutines are asleep: 3", 300},
    {"signal before wait", signal_before_wait, CSP_SIM_DEADLOCK, "asleep: 2", 500},
    {"leaky first response", leaky_first_response, CSP_SIM_LEAK, "had returned: 2", 1},
    {"close/send race", close_send_race, CSP_SIM_PANIC, "send on closed channel", 50},
    {"stale timer", stale_timer, CSP_SIM_PANIC, "out of time in time", 50},
    {"reader-writer lock", broken_rwlock, CSP_SIM_PANIC, "read while it was written", 1000},
};

static bool same_run(const csp_sim_report *a, const csp_sim_report *b)
{
    return a->outcome == b->outcome && a->seed == b->seed && a->steps == b->steps &&
           a->trace == b->trace && a->time == b->time && strcmp(a->message, b->message) == 0;
}

static void receives_one(void *c)
{
    csp_recv((csp_chan(int))c, NULL);
}

static void is_called(void *c)
{
    CHECK_EQ(csp_try_send((csp_chan(int))c, 1), CSP_OK);
}

static void calls_in_a_simulation(void *blocks)
{
    static int_chan c; // reachable after a run that has failed, for the tool that looks for leaks
    static csp_timer *a, *b;
    c = csp_make(int, 2);
    csp_defer(csp_unref, c);
    int64_t from = csp_now();
    a = csp_timer_call(CSP_HOUR, is_called, c);
    b = csp_timer_call(CSP_SECOND, blocks == NULL ? is_called : receives_one, c);
    csp_recv(c, NULL);
    CHECK_EQ(csp_now() - from, CSP_SECOND);
    CHECK(csp_timer_stop(a) && !csp_timer_stop(b));
    csp_timer_free(a);
    csp_timer_free(b);
}

TEST_PLAIN(simulate, runs_calls_of_timers_and_finds_those_that_block)
{
    csp_sim sim = {.seed = 1, .runs = (uint64_t)rounds(100)};
    csp_sim_report r = csp_simulate(&sim, calls_in_a_simulation, NULL);
    if (r.outcome != CSP_SIM_OK) FAIL("%s", r.message);
    r = csp_simulate(&sim, calls_in_a_simulation, &sim);
    CHECK_EQ(r.outcome, CSP_SIM_PANIC);
    CHECK_HAS(r.message, "a function of csp_timer_call must not block: receive");
}

TEST_PLAIN(simulate, finds_each_classic_bug_and_plays_it_again)
{
    for (size_t i = 0; i < sizeof classics / sizeof *classics; i++) {
        const struct classic *k = &classics[i];
        for (uint32_t depth = 0; depth <= 3; depth += 3) {
            csp_sim sim = {.seed = 1, .runs = k->within, .depth = depth};
            csp_sim_report r = csp_simulate(&sim, k->fn, NULL);
            if (r.outcome != k->outcome)
                FAIL("%s, depth %u: %s after %llu runs: %s", k->name, depth,
                     csp_sim_outcome_name(r.outcome), (unsigned long long)r.runs, r.message);
            CHECK_HAS(r.message, k->message);
            sim.seed = r.seed;
            sim.runs = 1;
            csp_sim_report again = csp_simulate(&sim, k->fn, NULL);
            if (!same_run(&r, &again)) FAIL("%s, depth %u: not the same run", k->name, depth);
        }
    }
}

/* Runs fn that many times with each strategy, depths 0 to 3. No run may go wrong. */
static csp_sim_report runs_well(int runs, void (*fn)(void *), void *arg)
{
    csp_sim sim = {.seed = seed, .runs = (uint64_t)rounds(runs), .max_steps = 20000};
    csp_sim_report r;
    for (; sim.depth < 4; sim.depth++) {
        r = csp_simulate(&sim, fn, arg);
        if (r.outcome != CSP_SIM_OK)
            FAIL("depth %u, seed %llu: %s: %s", sim.depth, (unsigned long long)r.seed,
                 csp_sim_outcome_name(r.outcome), r.message);
        CHECK_EQ(r.runs, sim.runs);
    }
    return r;
}

static int fork_taken, fork_in_place, fork_shared;
static uint64_t fork_owner;

csp_task(fork_races, int, n)
{
    if (csp_id() == fork_owner)
        ADD(&fork_in_place, 1);
    else
        ADD(&fork_taken, 1);
    int seen = LOAD(&fork_shared);
    csp_yield();
    STORE(&fork_shared, seen + n);
}

static void sim_races(void *arg)
{
    STORE(&fork_shared, 0);
    fork_owner = csp_id();
    {
        csp_fork(one, fork_races, 1);
        csp_fork(other, fork_races, 2);
        csp_join(one);
    }
    if (arg == NULL && LOAD(&fork_shared) != 3) csp_panic("lost an update");
}

TEST_PLAIN(join, the_seed_of_a_simulation_says_what_is_taken)
{
    csp_sim sim = {.seed = 1, .runs = 200};
    csp_sim_report r = csp_simulate(&sim, sim_races, NULL);
    CHECK_EQ(r.outcome, CSP_SIM_PANIC);
    CHECK_HAS(r.message, "lost an update");
    sim.seed = r.seed;
    sim.runs = 1;
    csp_sim_report again = csp_simulate(&sim, sim_races, NULL);
    CHECK(same_run(&r, &again));
    fork_taken = fork_in_place = 0;
    sim = (csp_sim){.seed = 1, .runs = 50};
    CHECK_EQ(csp_simulate(&sim, sim_races, &sim).outcome, CSP_SIM_OK);
    CHECK(fork_taken > 0 && fork_in_place > 0);
}

#ifndef _WIN32
TEST_PLAIN(simulate, the_programs_alternate_stack_is_the_programs_again)
{
    static char room[1 << 16];
    stack_t own = {.ss_sp = room, .ss_size = sizeof room}, was, now;
    CHECK(sigaltstack(&own, &was) == 0);
    csp_simulate(NULL, some_work, NULL);
    CHECK(sigaltstack(NULL, &now) == 0);
    CHECK(now.ss_sp == room && now.ss_size == sizeof room && now.ss_flags == 0);
    CHECK(sigaltstack(&was, NULL) == 0);
}
#endif

TEST_PLAIN(simulate, finds_nothing_in_what_is_mended)
{
    for (size_t i = 0; i < sizeof classics / sizeof *classics; i++)
        runs_well(250, classics[i].fn, &(int){0});
}

/* ---- strategies ---- */

csp_task(takes_many_steps, int, n, int_chan, done)
{
    for (int i = 0; i < n; i++) csp_len(done);
    if (LOAD(&published) && !LOAD(&thing)) csp_panic("between the two");
    csp_send(done, 1);
}

static void two_orderings(void *arg)
{
    int_chan done = kept(2);
    (void)arg;
    STORE(&published, 0);
    STORE(&thing, 0);
    csp_go(takes_many_steps, 60, done);
    STORE(&published, 1);
    csp_len(done); // here the other goroutine has to make all its steps
    STORE(&thing, 1);
    csp_recv(done, NULL);
}

TEST_PLAIN(simulate, pct_finds_what_uniform_choices_do_not)
{
    csp_sim uniform = {.seed = 1, .runs = 2000}, pct = {.seed = 1, .runs = 2000, .depth = 2};
    CHECK_EQ(csp_simulate(&uniform, two_orderings, NULL).outcome, CSP_SIM_OK);
    csp_sim_report r = csp_simulate(&pct, two_orderings, NULL);
    CHECK_EQ(r.outcome, CSP_SIM_PANIC);
    CHECK_HAS(r.message, "between the two");
    pct.depth = 17;
    CHECK_PANICS("depth above 16", csp_simulate(&pct, two_orderings, NULL));
}

static void sets_flag(void *flag)
{
    csp_yield();
    STORE((int *)flag, 1);
}

static void polls_for_flag(void *arg)
{
    (void)arg;
    STORE(&signalled, 0);
    csp_spawn(sets_flag, &signalled);
    while (!LOAD(&signalled)) csp_now(); // endless if no other goroutine is let run
}

TEST_PLAIN(simulate, who_polls_lets_the_others_run)
{
    runs_well(100, polls_for_flag, NULL);
}

/* ---- how a run ends ---- */

static void panics_in_a_goroutine(void *arg)
{
    csp_try
    {
        csp_panic("caught");
    }
    csp_catch(p)
    {
        CHECK_HAS(p->message, "caught");
    }
    if (arg == NULL) csp_panic("number %d", 5);
}

static void starts_a_panic(void *arg)
{
    (void)arg;
    csp_spawn(panics_in_a_goroutine, NULL);
    csp_sleep(CSP_SECOND);
}

static void yields_for_ever(void *arg)
{
    (void)arg;
    for (;;) csp_yield();
}

static void ticks_for_ever(void *arg)
{
    csp_ticker *t = keep(csp_ticker_new(CSP_SECOND));
    (void)arg;
    while (csp_recv(csp_ticker_chan(t), NULL)) continue;
}

static void blocks_beside_a_ticker(void *arg)
{
    csp_ticker *t = keep(csp_ticker_new(CSP_SECOND));
    csp_timer *never = csp_timer_new(CSP_HOUR);
    CHECK_EQ(csp_select(CSP_RECV(csp_ticker_chan(t), NULL), CSP_RECV(csp_timer_chan(never), NULL)),
             0);
    csp_timer_free(never);
    csp_timer *once = keep(csp_timer_new(CSP_SECOND));
    CHECK_EQ(csp_recv_until(csp_timer_chan(once), NULL, csp_now() + 1), CSP_TIMEOUT);
    csp_sleep(CSP_MINUTE);
    block_forever(arg);
}

static void leaves_one_that_runs(void *arg)
{
    static int64_t hour = CSP_HOUR;
    (void)arg;
    csp_spawn(yields_for_ever, NULL);
    csp_spawn(sleeps_forever, &hour);
}

static void leaves_one_waiting(void *arg)
{
    csp_spawn(block_forever, NULL);
    csp_sleep(1);
    leaves_one_that_runs(arg);
}

static void leaves_by_exit(void *arg)
{
    csp_spawn(nothing, arg);
    csp_exit();
}

TEST_PLAIN(simulate, a_run_ends_in_one_of_five_ways)
{
    static const struct end {
        void (*fn)(void *);
        csp_sim_outcome outcome;
        const char *name, *message;
    } ends[] = {
        {nothing, CSP_SIM_OK, "ok", ""},
        {leaves_one_that_runs, CSP_SIM_OK, "ok", ""},
        {panics_in_a_goroutine, CSP_SIM_PANIC, "panic", "number 5"},
        {starts_a_panic, CSP_SIM_PANIC, "panic", "number 5"},
        {block_forever, CSP_SIM_DEADLOCK, "deadlock", "asleep: 1, the first: 1 main"},
        {leaves_by_exit, CSP_SIM_DEADLOCK, "deadlock", "no goroutines (main called csp_exit)"},
        {leaves_one_waiting, CSP_SIM_LEAK, "leak", "block_forever (csp_test.c:"},
        {yields_for_ever, CSP_SIM_LIVELOCK, "livelock", "no end after 3000 steps"},
        {ticks_for_ever, CSP_SIM_LIVELOCK, "livelock", "no end after 3000 steps"},
        {blocks_beside_a_ticker, CSP_SIM_DEADLOCK, "deadlock", "asleep: 1, the first: 1 main"},
    };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        csp_sim sim = {.seed = seed, .max_steps = 3000};
        for (sim.depth = 0; sim.depth < 3; sim.depth++) {
            csp_sim_report r = csp_simulate(&sim, ends[i].fn, NULL);
            if (r.outcome != ends[i].outcome)
                FAIL("program %d ends with %s", (int)i, csp_sim_outcome_name(r.outcome));
            CHECK(strcmp(csp_sim_outcome_name(r.outcome), ends[i].name) == 0);
            CHECK_HAS(r.message, ends[i].message);
            CHECK_EQ(r.seed, seed);
            CHECK_EQ(r.runs, 1);
        }
    }
    csp_sim sim = {.ignore_leaks = true};
    CHECK_EQ(csp_simulate(&sim, leaves_one_waiting, NULL).outcome, CSP_SIM_OK);
}

/* ---- a program that uses a bit of everything, and depends on the schedule ---- */

typedef struct bustle {
    int_chan c, d;
    csp_ctx *ctx;
    csp_pool *pool;
    csp_map *map;
    uint64_t sum;
    int ids, late;
} bustle;

static int bustles(void *arg)
{
    bustle *b = arg;
    int v = 0, n = 0, id = ADD(&b->ids, 1) - 1;
    for (int i = 0; i < 5; i++) {
        void *tool = csp_pool_get(b->pool), *last = NULL;
        csp_map_store(b->map, "last", (void *)(uintptr_t)(id + 1));
        switch (csp_select(CSP_SEND(b->c, id), CSP_RECV(b->c, &v), CSP_RECV(b->d, &v),
                           CSP_DONE(b->ctx), CSP_AFTER(csp_sim_choose(5) * CSP_MILLISECOND))) {
        case 3: n += 100; break;
        case 4: n += 10000; break;
        default: n += v; break;
        }
        csp_pool_put(b->pool, tool);
        csp_map_load(b->map, "last", &last);
        STORE(&b->sum, LOAD(&b->sum) * 31 + (uint64_t)n + (uintptr_t)last);
        if (id == 0) csp_try_send(b->d, 7);
    }
    return 0;
}

static void is_late(void *b)
{
    ADD(&((bustle *)b)->late, 1);
}

static void *makes_item(void *arg)
{
    (void)arg;
    return malloc(1);
}

static void bustling(void *sum)
{
    bustle b = {csp_make(int, 0), csp_make(int, 1), NULL, NULL, NULL, 0, 0, 0};
    csp_group *group = csp_group_new(NULL);
    b.ctx = csp_ctx_with_timeout(csp_group_ctx(group), 12 * CSP_MILLISECOND);
    b.pool = csp_pool_new(makes_item, free, NULL);
    b.map = csp_map_new(CSP_MAP_STRINGS);
    csp_timer *t = csp_after_func(8 * CSP_MILLISECOND, is_late, &b);
    for (int i = 0; i < 4; i++) csp_group_spawn(group, bustles, &b);
    CHECK_EQ(csp_group_wait(group), 0);
    csp_timer_free(t);
    csp_assert_no_goroutines(); // is_late may be on its way
    *(uint64_t *)sum = b.sum * 31 + (uint64_t)LOAD(&b.late);
    csp_ctx_unref(b.ctx);
    csp_group_free(group);
    csp_pool_free(b.pool);
    csp_map_free(b.map);
    csp_unref(b.c);
    csp_unref(b.d);
}

static void bustle_says(uint64_t from, int n, char *text, size_t size)
{
    for (size_t at = 0; n-- > 0; from++) {
        uint64_t sum = 0;
        csp_sim sim = {.seed = from, .depth = (uint32_t)from % 3};
        csp_sim_report r = csp_simulate(&sim, bustling, &sum);
        at += (size_t)snprintf(text + at, size - at, "%s %llu %llx %lld %llx\n", r.message,
                               (unsigned long long)r.steps, (unsigned long long)r.trace,
                               (long long)r.time, (unsigned long long)sum);
    }
}

CHILD(bustles)
{
    char text[4096];
    bustle_says(1, 20, text, sizeof text);
    say("%s", text);
}

TEST_PLAIN(simulate, the_seed_decides_on_the_run_and_nothing_else_does)
{
    char text[4096], again[4096];
    bustle_says(1, 20, text, sizeof text);
    csp_run(nothing, NULL);
    bustle_says(1, 20, again, sizeof again);
    CHECK(strcmp(text, again) == 0);
    outcome *o = run_child("bustles", NULL); // at other addresses, at another time
    CHECK_CHILD(o, 0);
    CHECK(strcmp(text, o->text) == 0);
    uint64_t traces[20];
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t sum;
        csp_sim_report r = csp_simulate(&(csp_sim){.seed = i}, bustling, &sum);
        CHECK_EQ(r.outcome, CSP_SIM_OK);
        traces[i] = r.trace;
        for (uint64_t j = 0; j < i; j++) CHECK(traces[j] != traces[i]);
    }
}

TEST_PLAIN(simulate, a_run_does_not_depend_on_those_before_it)
{
    csp_sim_report all = csp_simulate(&(csp_sim){.seed = 1, .runs = 1000}, broken_rwlock, NULL);
    CHECK(all.runs > 1);
    csp_sim_report one = csp_simulate(&(csp_sim){.seed = all.seed}, broken_rwlock, NULL);
    CHECK(same_run(&all, &one));
    CHECK_EQ(all.seed, all.runs);
}

/* ---- the seed from outside, and the report ---- */

CHILD(looks_for_the_lost_update)
{
    csp_sim_report r = csp_simulate(&(csp_sim){.seed = 1, .runs = 50}, lost_update, NULL);
    say("found: %llu runs, seed %llu, trace %llx\n", (unsigned long long)r.runs,
        (unsigned long long)r.seed, (unsigned long long)r.trace);
}

TEST_PLAIN(simulate, a_seed_in_the_environment_plays_one_run_and_reports_it)
{
    csp_sim_report r = csp_simulate(&(csp_sim){.seed = 1, .runs = 50}, lost_update, NULL);
    char setting[64], line[128];
    snprintf(setting, sizeof setting, "CSP_SEED=%llu", (unsigned long long)r.seed);
    snprintf(line, sizeof line, "found: 1 runs, seed %llu, trace %llx\n",
             (unsigned long long)r.seed, (unsigned long long)r.trace);
    outcome *o = run_child("looks_for_the_lost_update", setting);
    CHECK_HAS(o->text, "csp_simulate: panic: an update was lost\n");
    CHECK_HAS(o->text, setting);
    CHECK_HAS(o->text, line);
    static const char *const bad[] = {"CSP_SEED=7x",
                                      "CSP_SEED= 7",
                                      "CSP_SEED= -7",
                                      "CSP_SEED=+7",
                                      "CSP_SEED=18446744073709551616",
                                      "CSP_SEED=lost"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        o = run_child("looks_for_the_lost_update", bad[i]);
        snprintf(line, sizeof line, "%s is not a number", bad[i]);
        CHECK_HAS(o->text, line);
    }
    snprintf(line, sizeof line, "seed %llu, trace %llx\n", (unsigned long long)r.seed,
             (unsigned long long)r.trace);
    CHECK_HAS(o->text, line);
    CHECK(strstr(o->text, "csp_simulate:") == NULL); // no report was asked for
}

csp_task(waits_under_a_name, csp_mutex *, a, csp_mutex *, b)
{
    csp_set_name("philosopher");
    csp_sleep(1500 * CSP_MILLISECOND);
    csp_mutex_lock(a);
    csp_mutex_lock(b);
}

static void deadlocks_with_names(void *arg)
{
    csp_mutex a = {0}, b = {0};
    (void)arg;
    csp_go(waits_under_a_name, &a, &b);
    csp_mutex_lock(&b);
    csp_sleep(2 * CSP_SECOND);
    csp_mutex_lock(&a);
}

static char *report_of(const csp_sim *like, void (*fn)(void *))
{
    static char *text;
    static size_t size;
    csp_sim sim = *like;
    sim.file = open_memstream(&text, &size);
    CHECK(sim.file != NULL);
    csp_simulate(&sim, fn, NULL);
    fclose(sim.file);
    return text;
}

TEST_PLAIN(simulate, the_report_can_be_read)
{
    char *text = report_of(&(csp_sim){.seed = 3}, deadlocks_with_names);
    CHECK_HAS(text,
              "csp_simulate: deadlock: all goroutines are asleep: 2, the first: 1 main, mutex\n");
    CHECK_HAS(text, "run 1, CSP_SEED=3 plays it again; random schedule, ");
    CHECK_HAS(text, " steps, 2.000000000 s\n");
    CHECK_HAS(text, "  the last changes of goroutine:\n");
    CHECK_HAS(text, "1.500000000  2 philosopher (csp_test.c:"); // the time, the goroutine
    CHECK_HAS(text, "sleep\n");                                 // until
    CHECK_HAS(text, "the run is over\n");
    CHECK_HAS(text, "  goroutines at the end:\n");
    CHECK_HAS(strstr(text, "at the end"), "mutex #1"); // not on the same
    CHECK_HAS(strstr(text, "at the end"), "mutex #2");
    free(text);
    text = report_of(&(csp_sim){.depth = 2, .max_steps = 500}, yields_for_ever);
    CHECK_HAS(text, "livelock");
    CHECK_HAS(text, "PCT schedule");
    free(text);
    text = report_of(&(csp_sim){.runs = 3}, nothing);
    CHECK_EQ(text[0], 0);
    free(text);
}

static void aborts(void *arg)
{
    (void)arg;
    abort();
}

CHILD(dies_in_a_simulation)
{
    csp_simulate(&(csp_sim){.seed = 77}, aborts, NULL);
}

static void *uses_csp(void *arg)
{
    csp_yield();
    return arg;
}

static void starts_a_thread(void *arg)
{
    (void)arg;
    pthread_join(thread_start(uses_csp, NULL), NULL);
}

CHILD(lets_a_thread_in)
{
    csp_simulate(NULL, starts_a_thread, NULL);
}

TEST_PLAIN(simulate, what_ends_the_process_does_not_lose_the_seed)
{
    CHECK_HAS(run_child("dies_in_a_simulation", NULL)->text,
              WINDOWS ? "signal 22 in a simulation, CSP_SEED=77"
                      : "signal 6 in a simulation, CSP_SEED=77");
    CHECK_HAS(run_child("lets_a_thread_in", NULL)->text, "from another thread while a simulation");
}

/* ---- time ---- */

csp_task(sleeps_exactly, int64_t, ns, int_chan, done)
{
    int64_t start = csp_now();
    csp_sleep(ns);
    CHECK_EQ(csp_now() - start, ns);
    csp_send(done, (int)(ns / CSP_HOUR));
}

static void sleeps_for_days(void *arg)
{
    int_chan done = kept(0);
    int64_t start = csp_now();
    (void)arg;
    for (int i = 0; i < 50; i++) csp_go(sleeps_exactly, (i * 7 % 50) * CSP_HOUR, done);
    for (int i = 0, hours; i < 50; i++) CHECK(csp_recv(done, &hours) && hours == i);
    CHECK_EQ(csp_now() - start, 49 * CSP_HOUR);
    CHECK(csp_recv_until(done, NULL, csp_now() + CSP_MINUTE) == CSP_TIMEOUT);
    csp_ticker *t = csp_ticker_new(CSP_SECOND);
    for (int64_t k = 0, at, before = csp_now(); k < 3; k++)
        CHECK(csp_recv(csp_ticker_chan(t), &at) && at - before == (k + 1) * CSP_SECOND);
    csp_ticker_free(t);
    csp_ctx *ctx = csp_ctx_with_timeout(csp_ctx_background(), CSP_SECOND);
    csp_recv(csp_ctx_done(ctx), NULL);
    CHECK_EQ(csp_ctx_status(ctx), CSP_TIMEOUT);
    csp_ctx_unref(ctx);
    CHECK_EQ(csp_now() - start, 49 * CSP_HOUR + CSP_MINUTE + 4 * CSP_SECOND);
}

TEST_PLAIN(simulate, time_is_virtual_and_exact)
{
    int64_t before = csp_now();
    CHECK_EQ(runs_well(10, sleeps_for_days, NULL).time,
             49 * CSP_HOUR + CSP_MINUTE + 4 * CSP_SECOND);
    CHECK(csp_now() >= before && csp_now() - before < CSP_HOUR);
}

/* ---- choices ---- */

static void draws(void *drawn)
{
    int_chan c = kept(1), d = kept(1);
    csp_send(c, 1);
    csp_send(d, 1);
    *(unsigned *)drawn |= 1u << csp_select(CSP_RECV(c, NULL), CSP_RECV(d, NULL));
    uint32_t n = csp_sim_choose(3);
    CHECK(n < 3 && csp_sim_choose(1) == 0 && csp_sim_choose(0) == 0);
    *(unsigned *)drawn |= 4u << n;
}

TEST_PLAIN(simulate, every_choice_is_drawn)
{
    unsigned drawn = 0;
    csp_simulate(&(csp_sim){.seed = 1, .runs = 100}, draws, &drawn);
    CHECK_EQ(drawn, 31);
    CHECK_EQ(csp_sim_choose(10), 0); // not in a simulation
}

/* ---- locks and the like, with deadlines that pass or do not ---- */

typedef struct shop {
    csp_mutex mu;
    csp_rwmutex rw;
    csp_sem sem;
    csp_cond cond;
    csp_once once;
    csp_waitgroup wg;
    int holds, reads, writes, taken, jobs, opened, timeouts;
} shop;

static int64_t soon(void)
{
    return csp_sim_choose(3) == 0 ? csp_now() + csp_sim_choose(4) * CSP_MICROSECOND : CSP_FOREVER;
}

static void shop_mutex(shop *s)
{
    csp_status status = CSP_OK;
    if (csp_mutex_lock_until(&s->mu, soon()) != CSP_OK) {
        ADD(&s->timeouts, 1);
        return;
    }
    CHECK_EQ(ADD(&s->holds, 1), 1);
    csp_sleep(csp_sim_choose(3) * CSP_MICROSECOND);
    if (csp_sim_choose(2)) {
        ADD(&s->jobs, 1);
        csp_cond_signal(&s->cond);
    } else {
        int64_t t = csp_now() + csp_sim_choose(4) * CSP_MICROSECOND;
        ADD(&s->holds, -1);
        while (status == CSP_OK && LOAD(&s->jobs) == 0)
            status = csp_cond_wait_until(&s->cond, &s->mu, t);
        CHECK_EQ(ADD(&s->holds, 1), 1);
        csp_yield();
        if (LOAD(&s->jobs) > 0) ADD(&s->jobs, -1);
    }
    ADD(&s->holds, -1);
    csp_mutex_unlock(&s->mu);
}

static void shop_rwmutex(shop *s)
{
    bool reads = csp_sim_choose(2);
    int64_t t = soon();
    if ((reads ? csp_rwmutex_rlock_until(&s->rw, t) : csp_rwmutex_lock_until(&s->rw, t)) !=
        CSP_OK) {
        ADD(&s->timeouts, 1);
        return;
    }
    ADD(reads ? &s->reads : &s->writes, 1);
    csp_sleep(csp_sim_choose(3) * CSP_MICROSECOND);
    CHECK(reads ? LOAD(&s->writes) == 0 : LOAD(&s->writes) == 1 && LOAD(&s->reads) == 0);
    ADD(reads ? &s->reads : &s->writes, -1);
    reads ? csp_rwmutex_runlock(&s->rw) : csp_rwmutex_unlock(&s->rw);
}

static void shop_sem(shop *s)
{
    int n = 1 + (int)csp_sim_choose(3);
    if (csp_sem_acquire_until(&s->sem, n, soon()) != CSP_OK) {
        ADD(&s->timeouts, 1);
        return;
    }
    CHECK(ADD(&s->taken, n) <= 3);
    csp_sleep(csp_sim_choose(3) * CSP_MICROSECOND);
    ADD(&s->taken, -n);
    csp_sem_release(&s->sem, n);
}

static void shop_opens(void *opened)
{
    csp_sleep(CSP_MICROSECOND);
    ADD((int *)opened, 1);
}

static void shop_worker(void *arg)
{
    shop *s = arg;
    csp_once_do(&s->once, shop_opens, &s->opened);
    CHECK_EQ(LOAD(&s->opened), 1);
    for (int i = 0; i < 4; i++) {
        switch (csp_sim_choose(3)) {
        case 0: shop_mutex(s); break;
        case 1: shop_rwmutex(s); break;
        default: shop_sem(s); break;
        }
    }
}

static void shops(void *timeouts)
{
    shop s;
    memset(&s, 0, sizeof s);
    csp_sem_init(&s.sem, 3);
    for (int i = 0; i < 4; i++) csp_waitgroup_spawn(&s.wg, shop_worker, &s);
    csp_waitgroup_wait(&s.wg);
    CHECK(csp_mutex_try_lock(&s.mu) && csp_rwmutex_try_lock(&s.rw));
    CHECK(csp_sem_try_acquire(&s.sem, 3)); // all is as it was
    *(int *)timeouts += s.timeouts;
}

TEST_PLAIN(simulate, locks_hold_under_many_schedules_and_deadlines)
{
    int timeouts = 0;
    runs_well(1000, shops, &timeouts);
    CHECK(timeouts > 0 || rounds(1000) < 10);
}

/* ---- a waiter gives up just when it, or the waiters behind it, could be served ---- */

typedef struct givers_up {
    csp_mutex mu;
    csp_rwmutex rw;
    csp_sem sem;
    csp_cond cond;
    csp_waitgroup wg, all;
    int how, took, gave_up;
} givers_up;

csp_task(wants_until, givers_up *, s, int64_t, t)
{
    csp_status status = CSP_OK;
    switch (s->how) {
    case 0: status = csp_mutex_lock_until(&s->mu, t); break;
    case 1: status = csp_sem_acquire_until(&s->sem, t == CSP_FOREVER ? 1 : 2, t); break;
    case 2: status = csp_rwmutex_lock_until(&s->rw, t); break;
    case 3: status = csp_waitgroup_wait_until(&s->wg, t); break;
    default: csp_mutex_lock(&s->mu); status = csp_cond_wait_until(&s->cond, &s->mu, t);
    }
    ADD(status == CSP_OK ? &s->took : &s->gave_up, 1);
    if (s->how == 4 || (s->how == 0 && status == CSP_OK)) csp_mutex_unlock(&s->mu);
    if (s->how == 1 && status == CSP_OK) csp_sem_release(&s->sem, t == CSP_FOREVER ? 1 : 2);
    if (s->how == 2 && status == CSP_OK) csp_rwmutex_unlock(&s->rw);
    csp_waitgroup_done(&s->all);
}

static void gives_up(void *how)
{
    givers_up s;
    memset(&s, 0, sizeof s);
    s.how = *(int *)how;
    csp_sem_init(&s.sem, 2);
    csp_waitgroup_add(&s.wg, 1);
    csp_waitgroup_add(&s.all, 3);
    csp_sem_acquire(&s.sem, 2);
    if (s.how == 0) csp_mutex_lock(&s.mu);
    if (s.how == 2) csp_rwmutex_rlock(&s.rw);
    int64_t t = csp_now() + CSP_MILLISECOND;
    for (int i = 0; i < 3; i++) {
        csp_go(wants_until, &s, i == 0 ? t : CSP_FOREVER);
        csp_sleep(1); // the waiter is in the queue
    }
    csp_sleep_until(t);
    switch (s.how) {
    case 0: csp_mutex_unlock(&s.mu); break;
    case 1: csp_sem_release(&s.sem, 1 + (int)csp_sim_choose(2)); break;
    case 2: csp_rwmutex_runlock(&s.rw); break;
    case 3: csp_waitgroup_done(&s.wg); break;
    default:
        for (int i = 0; i < 2; i++) csp_cond_signal(&s.cond);
        csp_sleep(1);
        if (LOAD(&s.gave_up) == 0) csp_cond_signal(&s.cond);
    }
    csp_waitgroup_wait(&s.all); // each one that did not give up was served
    CHECK(s.took + s.gave_up == 3 && s.gave_up <= 1);
}

TEST_PLAIN(simulate, who_gives_up_takes_nothing_from_those_behind)
{
    for (int how = 0; how < 5; how++) runs_well(200, gives_up, &how);
}

/* ---- a mutex that one goroutine takes again and again ---- */

enum { QUEUERS = 3 };
typedef struct queuers {
    csp_mutex mu;
    int got, order[QUEUERS];
    int64_t worst;
} queuers;

csp_task(queues_once, queuers *, q, int, id)
{
    int64_t since = csp_now();
    csp_mutex_lock(&q->mu);
    if (csp_now() - since > q->worst) q->worst = csp_now() - since;
    q->order[q->got++] = id;
    csp_mutex_unlock(&q->mu);
}

/* Holds the mutex for 0.1 ms at a time, and locks it again at once. */
static void hogs_the_mutex(void *worst)
{
    queuers q;
    memset(&q, 0, sizeof q);
    csp_mutex_lock(&q.mu);
    for (int i = 0; i < QUEUERS; i++) {
        csp_go(queues_once, &q, i);
        csp_sleep(1); // time goes on when no goroutine can run: it is in the queue
    }
    while (q.got < QUEUERS) {
        csp_sleep(CSP_MILLISECOND / 10);
        csp_mutex_unlock(&q.mu);
        csp_mutex_lock(&q.mu);
    }
    for (int i = 0; i < QUEUERS; i++) CHECK_EQ(q.order[i], i);
    csp_mutex_unlock(&q.mu);
    if (q.worst > *(int64_t *)worst) *(int64_t *)worst = q.worst;
}

TEST_PLAIN(simulate, who_waits_for_a_mutex_gets_it_in_turn_and_after_a_millisecond)
{
    int64_t worst = 0;
    runs_well(200, hogs_the_mutex, &worst);
    CHECK(worst <= 2 * CSP_MILLISECOND);
}

/* ---- connections ---- */

csp_task(sim_echoes_bytes, int, fd)
{
    char bytes[100];
    for (csp_ssize n; (n = csp_read(fd, bytes, sizeof bytes)) != 0;)
        CHECK(n > 0 && csp_write_full(fd, bytes, (size_t)n) == n);
    CHECK_EQ(csp_close_fd(fd), 0);
}

csp_task(feeds, int, fd, size_t, size)
{
    char bytes[1000];
    for (size_t at = 0; at < size; at += sizeof bytes) {
        for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)((at + i) * 7 % 251);
        CHECK_EQ(csp_write_full(fd, bytes, sizeof bytes), sizeof bytes);
    }
    CHECK_EQ(csp_close_write(fd), 0);
}

typedef struct traffic {
    int shorter, reads; // reads that got less than asked
} traffic;

static void is_echoed(void *arg)
{
    traffic *t = arg;
    char bytes[333];
    size_t size = 10000, at = 0;
    int ends[2];
    CHECK_EQ(csp_sim_pipe(ends), 0);
    csp_go(sim_echoes_bytes, ends[1]);
    csp_go(feeds, ends[0], size);
    for (csp_ssize n; (n = csp_read(ends[0], bytes, sizeof bytes)) != 0; t->reads++) {
        CHECK(n > 0);
        t->shorter += n < (csp_ssize)sizeof bytes;
        for (csp_ssize i = 0; i < n; i++, at++) CHECK(bytes[i] == (char)(at * 7 % 251));
    }
    CHECK_EQ(at, size);
    CHECK_EQ(csp_read_until(ends[0], bytes, 1, 0), 0); // the end stays the end
    CHECK_EQ(csp_write(ends[0], bytes, 1), -EPIPE);
    CHECK_EQ(csp_close_fd(ends[0]), 0);
    CHECK_EQ(csp_close_fd(ends[0]), -EBADF);
    CHECK_EQ(csp_read(ends[0], bytes, 1), -EBADF);
}

TEST_PLAIN(simulate, connections_lose_nothing_and_move_less_than_asked)
{
    traffic t = {0, 0};
    CHECK(runs_well(50, is_echoed, &t).time > 0);
    CHECK(t.shorter > 0 && t.shorter < t.reads);
}

csp_task(closes_later, int, fd)
{
    csp_sleep(CSP_SECOND);
    CHECK_EQ(csp_close_fd(fd), 0);
}

static void waits_on_connections(void *arg)
{
    int a[2], b[2];
    char bytes[8192] = {0};
    int64_t start = csp_now();
    (void)arg;
    csp_sim_pipe(a);
    csp_sim_pipe(b);
    CHECK_EQ(csp_read_until(a[0], bytes, 1, start + CSP_SECOND), -ETIMEDOUT);
    CHECK_EQ(csp_now() - start, CSP_SECOND);
    CHECK_EQ(csp_wait_fd(a[0], CSP_READABLE | CSP_WRITABLE), CSP_WRITABLE);
    csp_go(closes_later, a[0]);
    CHECK_EQ(csp_read(a[0], bytes, 1), -ECANCELED);
    CHECK_EQ(csp_now() - start, 2 * CSP_SECOND);
    CHECK_EQ(csp_wait_fd_until(a[1], CSP_READABLE | CSP_WRITABLE, 0), CSP_READABLE | CSP_WRITABLE);
    CHECK_EQ(csp_read(a[1], bytes, 1), 0);
    CHECK_EQ(csp_write(a[1], bytes, 1), -EPIPE);
    csp_ssize n = 0, all = 0; // bytes that are not read fill it up
    while ((n = csp_write_until(b[0], bytes, sizeof bytes, csp_now() + CSP_SECOND)) > 0) all += n;
    CHECK_EQ(n, -ETIMEDOUT);
    CHECK_EQ(csp_wait_fd_until(b[0], CSP_WRITABLE, csp_now() + CSP_SECOND), -ETIMEDOUT);
    csp_close_fd(b[0]);
    CHECK_EQ(csp_read_full(b[1], bytes, sizeof bytes), all); // and then the end
}

TEST_PLAIN(simulate, connections_have_deadlines_and_an_end)
{
    runs_well(50, waits_on_connections, NULL);
}

/* ---- calls that start goroutines ---- */

static void starts_one_by_a_waitgroup(void *arg)
{
    int n = 0, *early = (int *)arg;
    csp_waitgroup wg = {0};
    csp_x_waitgroup_spawn(&wg, CSP_X_SITE("bump"), bump, &n);
    *early += LOAD(&n);
    csp_waitgroup_wait(&wg);
    CHECK_EQ(n, 1);
}

static int bumps_for_a_group(void *counter)
{
    bump(counter);
    return 0;
}

static void starts_one_by_a_group(void *arg)
{
    int n = 0, *early = (int *)arg;
    csp_group *group = csp_group_new(NULL);
    CHECK_EQ(csp_x_group_spawn(group, CSP_X_SITE("bumps_for_a_group"), bumps_for_a_group, &n,
                               CSP_FOREVER),
             CSP_OK);
    *early += LOAD(&n);
    CHECK_EQ(csp_group_wait(group), 0);
    CHECK_EQ(n, 1);
    csp_group_free(group);
}

TEST_PLAIN(simulate, what_a_call_has_started_may_run_before_the_call_returns)
{
    void (*const starters[])(void *) = {starts_one_by_a_waitgroup, starts_one_by_a_group};
    for (int i = 0; i < 2; i++) {
        int early = 0;
        csp_sim_report r = csp_simulate(&(csp_sim){.seed = seed, .runs = 100}, starters[i], &early);
        CHECK_EQ(r.outcome, CSP_SIM_OK);
        CHECK(early > 0 && early < 100);
    }
}

csp_task(sim_interrupts, int, fd)
{
    csp_sleep(CSP_SECOND);
    CHECK_EQ(csp_interrupt_fd(fd), 0);
}

csp_task(sim_writes, int, fd)
{
    csp_sleep(CSP_SECOND);
    CHECK_EQ(csp_write(fd, "x", 1), 1);
}

csp_task(sim_sends, csp_sender(int), c)
{
    csp_sleep(CSP_SECOND);
    csp_send(c, 1);
}

static void ends_connections(void *arg)
{
    int a[2], b[2], v = 0;
    char byte = 0;
    struct iovec parts[3] = {{"ab", 2}, {NULL, 0}, {"c", 1}};
    int64_t start = csp_now();
    csp_chan(int) c = csp_make(int, 0);
    (void)arg;
    csp_sim_pipe(a);
    csp_sim_pipe(b);
    csp_ctx *ctx = csp_ctx_with_timeout(csp_ctx_background(), CSP_SECOND);
    CHECK_EQ(csp_bind_fd(a[0], ctx), 0);
    CHECK_EQ(csp_read(a[0], &byte, 1), -ETIMEDOUT);
    CHECK_EQ(csp_now() - start, CSP_SECOND);
    CHECK_EQ(csp_select(CSP_RECV(c, &v), CSP_FD(a[0], CSP_READABLE)), 1);
    CHECK_EQ(csp_bind_fd(a[0], NULL), 0);
    csp_go(sim_interrupts, a[0]);
    CHECK_EQ(csp_select(CSP_RECV(c, &v), CSP_FD(a[0], CSP_READABLE)), 1);
    CHECK_EQ(csp_now() - start, 2 * CSP_SECOND);
    CHECK_EQ(csp_read(a[0], &byte, 1), -ECANCELED);
    CHECK_EQ(csp_read_until(a[1], &byte, 1, 0), -ETIMEDOUT); // only that end
    csp_go(sim_writes, b[1]);
    CHECK_EQ(csp_select(CSP_RECV(c, &v), CSP_FD(b[0], CSP_READABLE)), 1);
    CHECK(csp_now() - start >= 3 * CSP_SECOND);
    CHECK_EQ(csp_read(b[0], &byte, 1), 1);
    csp_go(sim_sends, csp_send_end(c));
    CHECK_EQ(csp_select(CSP_RECV(c, &v), CSP_FD(b[0], CSP_READABLE)), 0);
    CHECK_EQ(csp_select(CSP_FD(b[0], CSP_READABLE), CSP_AFTER(CSP_SECOND)), 1);
    csp_ssize n = csp_writev(b[1], parts, 3);
    CHECK(n >= 1 && n <= 3);
    CHECK_EQ(csp_bind_fd(b[0], ctx), 0); // done already
    csp_ctx_unref(ctx);
    CHECK_EQ(csp_close_fd(b[1]), 0);
    CHECK_EQ(csp_interrupt_fd(b[1]), -EBADF);
    ctx = csp_ctx_with_cancel(csp_ctx_background());
    CHECK_EQ(csp_bind_fd(b[0], ctx), 0); // and is left to the run's end
    CHECK_EQ(csp_bind_fd(a[1], ctx), 0);
    CHECK_EQ(csp_close_fd(a[1]), 0);
    csp_ctx_unref(ctx);
    csp_unref(c);
}

TEST_PLAIN(simulate, connections_are_interrupted_bound_and_selected)
{
    runs_well(50, ends_connections, NULL);
}

csp_task(sim_feeds, int, fd, csp_sender(int), c)
{
    for (int i = 0; i < 5; i++) {
        if (csp_sim_choose(2))
            CHECK_EQ(csp_write(fd, "x", 1), 1);
        else
            csp_send(c, 1);
    }
}

static void selects_over_both(void *arg)
{
    int ends[2], v = 0;
    char byte;
    csp_chan(int) c = csp_make(int, 0);
    (void)arg;
    csp_sim_pipe(ends);
    csp_go(sim_feeds, ends[1], csp_send_end(c));
    for (int got = 0; got < 5; got++)
        if (csp_select(CSP_FD(ends[0], CSP_READABLE), CSP_RECV(c, &v)) == 0)
            CHECK_EQ(csp_read(ends[0], &byte, 1), 1);
    CHECK_EQ(csp_select(CSP_FD(ends[0], CSP_READABLE), CSP_DEFAULT), 1);
    csp_unref(c);
}

TEST_PLAIN(simulate, a_select_of_connections_and_channels_misses_nothing)
{
    runs_well(200, selects_over_both, NULL);
}

/* ---- misuse ---- */

static void simulates(void *arg)
{
    (void)arg;
    csp_simulate(NULL, nothing, NULL);
}

static void misuses(void *arg)
{
    const char *only = "a descriptor that is not from csp_sim_pipe cannot be used in a simulation";
    int_chan c = kept(1);
    char byte = 0;
    (void)arg;
    CHECK_PANICS("csp_simulate called in a simulation", simulates(NULL));
    CHECK_PANICS("csp_run called from a goroutine", csp_run(nothing, NULL));
    CHECK_PANICS(only, csp_read(0, &byte, 1));
    CHECK_PANICS(only, csp_write(1, &byte, 1));
    CHECK_PANICS(only, csp_wait_fd_until(0, CSP_READABLE, 0));
    CHECK_PANICS(only, csp_close_fd(0));
    CHECK_PANICS("an address cannot", csp_listen("127.0.0.1:0"));
    CHECK_PANICS("an address cannot", csp_dial("127.0.0.1:1"));
    CHECK_PANICS("csp_notify cannot be used in a simulation", csp_notify(c, SIGTERM));
}

TEST_PLAIN(simulate, misuse_panics)
{
    int ends[2];
    csp_sim_report r = csp_simulate(NULL, misuses, NULL);
    if (r.outcome != CSP_SIM_OK) FAIL("%s", r.message);
    CHECK_PANICS("csp_sim_pipe outside a simulation", csp_sim_pipe(ends));
}

TEST(simulate, goroutines_may_not_simulate)
{
    CHECK_PANICS("csp_simulate called from a goroutine", simulates(NULL));
}

/* ---- the runtime around it ---- */

static void gives_one(void *c)
{
    csp_send((int_chan)c, 5);
}

TEST_PLAIN(simulate, the_runtime_around_it_goes_on_as_before)
{
    int_chan c = csp_make(int, 1);
    int n = 0, procs = csp_procs(3);
    csp_send(c, 4);
    for (int i = 0; i < 3; i++) {
        csp_spawn(nothing, NULL);
        EVENTUALLY(csp_count() == 0);
        uint64_t id = csp_spawn(nothing, NULL);
        EVENTUALLY(csp_count() == 0);
        errno = 7;
        CHECK_EQ(csp_simulate(&(csp_sim){.runs = 20}, draws, &n).outcome, CSP_SIM_OK);
        CHECK_EQ(errno, 7);
        CHECK_EQ(csp_procs(0), 3);
        CHECK(csp_recv(c, &n) && n == 4 + (i > 0));
        CHECK(csp_spawn(gives_one, c) > id);
        EVENTUALLY(csp_len(c) == 1);
    }
    csp_spawn(block_forever, NULL);
    CHECK_PANICS("csp_simulate called while goroutines exist", simulates(NULL));
    csp_unref(c);
    csp_procs(procs);
}

#endif // CSP_TEST_FEW < 2

#if CSP_TEST_FEW < 1

/* ==========================================================================
 * model - the protocols of csp.h, in every order in which processors may perform their steps
 *
 * A model has two or three threads. Each is a list of steps, and memory is a few small numbers. A
 * thread fetches its steps in program order into a window. It performs them in any order that the
 * processor may choose. It retires the oldest step when that has been performed. There are two
 * processors:
 *   X86: a load may be performed before earlier stores, and sees the thread's own stores. All other
 *     steps are performed in program order. An atomic step (SWAP, CAS, LOCK) is a fence.
 *   ARM: a step may be performed before an earlier one unless something orders the two. That is the
 *     same variable, a fence, an earlier acquire, a later release, or, before a store, the load of
 *     the stored value or a branch. A load may be performed before an earlier branch is known, and
 *     is thrown away where the guess was wrong. A load sees the thread's own store before other
 *     threads do. An atomic step is a load (acquire) and a store (release). Later loads may be
 *     performed between the two, as on AArch64 without LSE; with LSE less is possible. An acquire
 *     may be performed before an earlier release (LDAPR, RISC-V).
 * A store is seen by all other threads at once. A membarrier interrupts the other threads, one by
 * one, each between two steps: all steps before have been performed there, and none after.
 *   The explorer visits all states that can be reached. In none of them may a SURE fail. From each
 * of them all threads must be able to reach their ends.
 *   Each model is also tested for being able to fail. The explorer leaves out the step after a
 * MUST, or puts in the step after a BUG, one at a time. Each time the model has to go wrong on one
 * of the two processors.
 * ======================================================================== */

typedef enum model_op {
    OP_END,
    // not performed: they take effect when they are fetched
    OP_MUST,
    OP_BUG,
    OP_LABEL,
    OP_GOTO,
    OP_CHOOSE,
    // on the register
    OP_IF,
    OP_UNLESS,
    OP_IF_ODD,
    OP_IF_BITS,
    OP_MASK,
    // loads
    OP_GET,
    OP_GET_ACQ,
    OP_GET_SEQ,
    OP_WAIT,
    OP_WAIT_NOT,
    OP_SURE,
    // stores
    OP_SET,
    OP_SET_REL,
    OP_SET_SEQ,
    OP_KEEP,
    OP_KEEP_REL,
    OP_KEEP_SUM,
    OP_GHOST,
    // loads and stores in one
    OP_SWAP,
    OP_ADD,
    OP_CAS,
    OP_CAS_MASK,
    OP_CAS_ADD,
    OP_GRAB,
    OP_LOCK,
    // order
    OP_FENCE,
    OP_FENCE_ACQ,
    OP_FENCE_REL,
    OP_MEMBARRIER,
    OP_SLEEP,
    OP_WAKE,
    OP_OTHERS_END,
    OP_WRONG
} model_op;

typedef struct model_step {
    model_op op;
    int var, x, old, to;
} model_step;

/* Each thread has one register, which holds the value that it read last. Labels are numbers. */
#define DO(op, ...) ((model_step){OP_##op, __VA_ARGS__})
#define END DO(END, 0, 0, 0, 0)
#define MUST DO(MUST, 0, 0, 0, 0)
#define BUG DO(BUG, 0, 0, 0, 0)
#define LABEL(n) DO(LABEL, 0, 0, 0, n)
#define GOTO(n) DO(GOTO, 0, 0, 0, n)
#define IF(v, n) DO(IF, 0, v, 0, n)
#define UNLESS(v, n) DO(UNLESS, 0, v, 0, n)
#define IF_ODD(n) DO(IF_ODD, 0, 0, 0, n)
#define IF_BITS(mask, v, n) DO(IF_BITS, 0, v, mask, n)
#define MASK(keep, set) DO(MASK, 0, set, keep, 0) // changes the register
#define CHOOSE(n) DO(CHOOSE, 0, 0, 0, n)          // either goes on or jumps
#define GET(a) DO(GET, a, 0, 0, 0)                // relaxed
#define GET_ACQ(a) DO(GET_ACQ, a, 0, 0, 0)
#define GET_SEQ(a) DO(GET_SEQ, a, 0, 0, 0)
#define SET(a, v) DO(SET, a, v, 0, 0) // relaxed
#define SET_REL(a, v) DO(SET_REL, a, v, 0, 0)
#define SET_SEQ(a, v) DO(SET_SEQ, a, v, 0, 0)
#define KEEP(a, more) DO(KEEP, a, more, 0, 0) // stores the register plus more
#define KEEP_REL(a, more) DO(KEEP_REL, a, more, 0, 0)
#define SWAP(a, v) DO(SWAP, a, v, 0, 0)
#define FETCH_ADD(a, more) DO(ADD, a, more, 0, 0)
#define CAS(a, was, v, n) DO(CAS, a, v, was, n)                 // jumps to n where it fails
#define CAS_MASK(a, keep, set, n) DO(CAS_MASK, a, set, keep, n) // from the register's value
#define CAS_ADD(a, more, n) DO(CAS_ADD, a, more, 0, n)
#define KEEP_SUM(a) DO(KEEP_SUM, a, 0, 0, 0) // adds the register
#define GRAB(a) DO(GRAB, a, 0, 0, 0)         // waits until bit 0 is clear, reads, sets it
#define LOCK(a) DO(LOCK, a, 0, 0, 0)
#define UNLOCK(a) SET_REL(a, 0)
#define FENCE DO(FENCE, 0, 0, 0, 0)
#define FENCE_ACQ DO(FENCE_ACQ, 0, 0, 0, 0)
#define FENCE_REL DO(FENCE_REL, 0, 0, 0, 0)
#define MEMBARRIER DO(MEMBARRIER, 0, 0, 0, 0)
#define WAIT(a, v) DO(WAIT, a, v, 0, 0) // a load with acquire, as WAIT_NOT
#define WAIT_NOT(a, v) DO(WAIT_NOT, a, v, 0, 0)
#define SLEEP(a, v) DO(SLEEP, a, v, 0, 0) // as a futex does
#define WAKE(a) DO(WAKE, a, 0, 0, 0)
#define OTHERS_END DO(OTHERS_END, 0, 0, 0, 0)
#define GHOST(a, more) DO(GHOST, a, more, 0, 0) // adds in one step, relaxed; not in csp.h
#define SURE(a, v) DO(SURE, a, v, 0, 0)         // a load, relaxed
#define WRONG DO(WRONG, 0, 0, 0, 0)
#define STEPS(name, ...) const model_step name[] = {__VA_ARGS__, END, END}

enum { MODEL_THREADS = 3, MODEL_VARS = 16, MODEL_WINDOW = 6 };
enum { X86, ARM };

/* TODO: not performed. READ: the load has its value; of an atomic step the first half is done. */
enum { TODO, READ, DONE };
typedef struct model_entry {
    uint8_t at, phase,
        value; // the value read; a branch's guess; the threads that a membarrier still misses
} model_entry;

typedef struct model_state {
    uint8_t memory[MODEL_VARS], at[MODEL_THREADS], reg[MODEL_THREADS], asleep[MODEL_THREADS],
        n[MODEL_THREADS];
    model_entry window[MODEL_THREADS][MODEL_WINDOW];
} model_state;

static struct explorer {
    model_state *states;
    bool *can_end;
    uint32_t *table,
        (*edges)[3], nstates, nedges, rooms, room_edges, ntable; // edges: from, to, step
    const model_step *threads[MODEL_THREADS], *changed;
    int nthreads, order, window;
    uint32_t doing; // 2 * step + 1 for an atomic step's second half, and thread * 1024
    bool wrong;
} * explorer;

static uint32_t *model_slot(const model_state *s)
{
    uint64_t h = 14695981039346656037u, word;
    for (size_t i = 0; i < sizeof *s; i += 8) {
        word = 0;
        memcpy(&word, (const char *)s + i, sizeof *s - i < 8 ? sizeof *s - i : 8);
        h = (h ^ word) * 1099511628211u;
        h ^= h >> 29;
    }
    uint32_t *at = &explorer->table[h % explorer->ntable];
    while (*at != 0 && memcmp(&explorer->states[*at], s, sizeof *s) != 0)
        if (++at == &explorer->table[explorer->ntable]) at = explorer->table;
    return at;
}

static void model_grow(struct explorer *e)
{
    if (e->nstates >= e->rooms) {
        e->rooms = e->rooms == 0 ? 4096 : 2 * e->rooms;
        e->states = realloc(e->states, e->rooms * sizeof *e->states);
        e->can_end = realloc(e->can_end, e->rooms * sizeof *e->can_end);
        free(e->table);
        e->ntable = 2 * e->rooms + 1;
        e->table = calloc(e->ntable, sizeof *e->table);
        CHECK(e->states != NULL && e->can_end != NULL && e->table != NULL);
        for (uint32_t i = 1; i < e->nstates; i++) *model_slot(&e->states[i]) = i;
    }
    if (e->nedges >= e->room_edges) {
        e->room_edges = e->room_edges == 0 ? 8192 : 2 * e->room_edges;
        e->edges = realloc(e->edges, e->room_edges * sizeof *e->edges);
        CHECK(e->edges != NULL);
    }
}

static void model_reach(const model_state *s, uint32_t from)
{
    struct explorer *e = explorer;
    model_grow(e);
    uint32_t *at = model_slot(s);
    if (*at == 0) {
        *at = e->nstates++;
        e->states[*at] = *s;
    }
    e->edges[e->nedges][0] = from;
    e->edges[e->nedges][1] = *at;
    e->edges[e->nedges++][2] = e->doing;
}

static int model_label(const model_step *p, int n)
{
    for (int i = 0;; i++)
        if (p[i].op == OP_LABEL && p[i].to == n) return i;
}

static bool model_loads(model_op op)
{
    return op >= OP_GET && op <= OP_SURE;
}

static bool model_stores(model_op op)
{
    return op >= OP_SET && op <= OP_GHOST;
}

static bool model_both(model_op op)
{
    return op >= OP_SWAP && op <= OP_LOCK;
}

static bool model_full(model_op op)
{
    return op == OP_FENCE || (op >= OP_MEMBARRIER && op <= OP_WRONG);
}

static bool model_branches(model_op op)
{
    return op >= OP_IF && op <= OP_IF_BITS;
}

static bool model_acquires(model_op op)
{
    return op == OP_GET_ACQ || op == OP_GET_SEQ || op == OP_WAIT || op == OP_WAIT_NOT;
}

static bool model_releases(model_op op)
{
    return op == OP_SET_REL || op == OP_SET_SEQ || op == OP_KEEP_REL;
}

/* Must the later step j wait until step i has been performed? `phase` and phase_j: how far they
 * are. */
static bool model_ordered(const model_step *i, int phase, const model_step *j, int phase_j)
{
    bool second = model_both(j->op) && phase_j == READ; // j's store
    bool first = model_both(j->op) && !second, j_stores = second || model_stores(j->op);
    if (model_full(i->op) || model_full(j->op)) return true;
    if (explorer->order == X86)
        return !(model_stores(i->op) && i->op != OP_SET_SEQ && model_loads(j->op) &&
                 !(i->var == j->var && (i->op == OP_GHOST || i->op == OP_KEEP_SUM)));
    if (i->op == OP_FENCE_ACQ) return true;
    if (i->op == OP_FENCE_REL) return j_stores;
    if (j->op == OP_FENCE_ACQ) return model_loads(i->op) || (model_both(i->op) && phase == TODO);
    if (j->op == OP_FENCE_REL) return true;
    if (model_branches(i->op)) return j_stores;
    if (i->op == OP_MASK || j->op == OP_MASK || model_branches(j->op)) return false;
    if (model_acquires(i->op) || (model_both(i->op) && phase == TODO)) return true;
    if (second || model_releases(j->op)) return true;
    if (model_both(i->op)) return j_stores || first || i->var == j->var;
    if (i->op == OP_SET_SEQ && (j->op == OP_GET_SEQ || first)) return true;
    if (i->var != j->var) return false;
    return !(model_stores(i->op) && i->op != OP_GHOST && i->op != OP_KEEP_SUM &&
             model_loads(j->op));
}

/* The register's value for the k-th step of the window; -1: not known yet. */
static int model_reg(const model_state *s, int t, int k)
{
    for (int i = k; i-- > 0;) {
        const model_entry *e = &s->window[t][i];
        model_op op = explorer->threads[t][e->at].op;
        if ((model_loads(op) && op != OP_WAIT && op != OP_WAIT_NOT && op != OP_SURE) ||
            op == OP_SWAP || op == OP_ADD || op == OP_CAS || op == OP_GRAB || op == OP_MASK)
            return e->phase == TODO ? -1 : e->value;
    }
    return s->reg[t];
}

static bool model_jumps(const model_step *i, int reg)
{
    return (i->op == OP_IF && reg == i->x) || (i->op == OP_UNLESS && reg != i->x) ||
           (i->op == OP_IF_ODD && reg % 2 != 0) || (i->op == OP_IF_BITS && (reg & i->old) == i->x);
}

static void model_squash(model_state *s, int t, int k, int at)
{
    memset(&s->window[t][k], 0, sizeof s->window[t][0] * (size_t)(s->n[t] - k));
    s->n[t] = (uint8_t)k;
    s->at[t] = (uint8_t)at;
}

/* Can no later step be performed before step i? Then later steps need not be fetched yet. */
static bool model_blocks(const model_step *i, int phase)
{
    if (phase == DONE || i->op == OP_MASK) return false;
    if (explorer->order == X86) return !model_stores(i->op) || i->op == OP_SET_SEQ;
    return model_full(i->op) || i->op == OP_FENCE_ACQ || model_acquires(i->op) ||
           (model_both(i->op) && phase == TODO);
}

/* Thread t decides the branches whose values are known, retires steps and fetches new ones. Then
 * the threads above t do the same. */
static void model_settle(model_state s, int t, uint32_t from)
{
    if (t == explorer->nthreads) {
        model_reach(&s, from);
        return;
    }
    const model_step *p = explorer->threads[t];
    for (int k = 0; k < s.n[t]; k++) {
        model_entry *e = &s.window[t][k];
        const model_step *i = &p[e->at];
        int reg = model_reg(&s, t, k);
        if (reg < 0 || e->phase == DONE) continue;
        if (i->op == OP_MASK) {
            e->value = (uint8_t)((reg & i->old) | i->x);
            e->phase = DONE;
        } else if (model_branches(i->op)) {
            bool jumps = model_jumps(i, reg), wrong = jumps != (e->value != 0);
            e->phase = DONE;
            if (wrong) model_squash(&s, t, k + 1, jumps ? model_label(p, i->to) : e->at + 1);
        }
    }
    while (s.n[t] > 0 && s.window[t][0].phase == DONE) {
        const model_step *i = &p[s.window[t][0].at];
        if ((i->op == OP_SURE && s.window[t][0].value != i->x) || i->op == OP_WRONG)
            explorer->wrong = true;
        s.reg[t] = (uint8_t)model_reg(&s, t, 1);
        memmove(&s.window[t][0], &s.window[t][1], sizeof s.window[t] - sizeof s.window[t][0]);
        memset(&s.window[t][--s.n[t]], 0, sizeof s.window[t][0]);
    }
    for (;;) {
        const model_step *i = &p[s.at[t]];
        for (int k = 0; k < s.n[t]; k++)
            if (model_blocks(&p[s.window[t][k].at], s.window[t][k].phase)) goto fetched;
        switch (i->op) {
        case OP_END: goto fetched;
        case OP_LABEL: s.at[t]++; continue;
        case OP_GOTO: s.at[t] = (uint8_t)model_label(p, i->to); continue;
        case OP_MUST:
        case OP_BUG:
            s.at[t] = (uint8_t)(s.at[t] + 1 + ((i->op == OP_BUG) != (i == explorer->changed)));
            continue;
        case OP_FENCE_ACQ:
        case OP_FENCE_REL:
            if (explorer->order == ARM) break;
            s.at[t]++; // no instruction on x86
            continue;
        case OP_CHOOSE: {
            model_state other = s;
            other.at[t] = (uint8_t)model_label(p, i->to);
            model_settle(other, t, from);
            s.at[t]++;
            continue;
        }
        default: break;
        }
        int reg = model_reg(&s, t, s.n[t]);
        if (model_branches(i->op) && reg >= 0) {
            s.at[t] = (uint8_t)(model_jumps(i, reg) ? model_label(p, i->to) : s.at[t] + 1);
            continue;
        }
        if (s.n[t] == explorer->window) goto fetched;
        s.window[t][s.n[t]++] = (model_entry){s.at[t], TODO, 0};
        if (i->op == OP_MASK && reg >= 0) {
            s.window[t][s.n[t] - 1] =
                (model_entry){s.at[t], DONE, (uint8_t)((reg & i->old) | i->x)};
            if (s.n[t] == 1) {
                s.reg[t] = s.window[t][0].value;
                model_squash(&s, t, 0, s.at[t]);
            }
        }
        if (i->op == OP_MEMBARRIER)
            s.window[t][s.n[t] - 1].value = (uint8_t)(((1 << explorer->nthreads) - 1) & ~(1 << t));
        if (model_branches(i->op)) {
            model_state other = s;
            other.window[t][s.n[t] - 1].value = 1;
            other.at[t] = (uint8_t)model_label(p, i->to);
            model_settle(other, t, from);
        }
        s.at[t]++;
    }
fetched:
    model_settle(s, t + 1, from);
}

/* The variable has been written. Each other thread that has read it for an atomic step begins that
 * step anew. */
static void model_written(model_state *s, int t, int var)
{
    for (int o = 0; o < explorer->nthreads; o++)
        for (int k = 0; k < s->n[o] && o != t; k++) {
            model_entry *e = &s->window[o][k];
            const model_step *i = &explorer->threads[o][e->at];
            if (!model_both(i->op) || e->phase != READ || i->var != var) continue;
            e->phase = TODO;
            e->value = 0;
            model_squash(s, o, k + 1, e->at + 1);
        }
}

/* What the k-th step finds when it loads: the value of the thread's own store that has not been
 * performed yet, or else what is in memory. -1: a value that is not known yet. */
static int model_finds(const model_state *s, int t, int k, int var)
{
    const model_step *p = explorer->threads[t];
    for (int i = k; i-- > 0;) {
        const model_step *w = &p[s->window[t][i].at];
        if (w->var != var || !model_stores(w->op) || s->window[t][i].phase == DONE) continue;
        if (w->op == OP_SET || w->op == OP_SET_REL || w->op == OP_SET_SEQ) return w->x;
        int reg = model_reg(s, t, i);
        return reg < 0 ? -1 : (uint8_t)(reg + w->x);
    }
    return s->memory[var];
}

/* Is t between two steps? Then all steps before have been performed, and none after. */
static bool model_between(const model_state *s, int t)
{
    for (int k = 0; k < s->n[t]; k++) {
        model_op op = explorer->threads[t][s->window[t][k].at].op;
        if (op >= OP_GET && s->window[t][k].phase != TODO) return false;
    }
    return true;
}

/* Performs the k-th step in t's window if it may be performed now. */
static void model_perform(model_state s, int t, int k, uint32_t from)
{
    const model_step *p = explorer->threads[t];
    model_entry *e = &s.window[t][k];
    const model_step *i = &p[e->at];
    uint8_t *var = &s.memory[i->var];
    int reg = model_reg(&s, t, k), value;
    bool second = e->phase == READ;
    if (e->phase == DONE || i->op == OP_MASK || model_branches(i->op)) return;
    for (int o = 0; o < k; o++)
        if (s.window[t][o].phase != DONE &&
            model_ordered(&p[s.window[t][o].at], s.window[t][o].phase, i, e->phase))
            return;
    explorer->doing = (uint32_t)(t * 1024 + 2 * e->at + second);
    if (model_loads(i->op)) {
        value = model_finds(&s, t, k, i->var);
        if (value < 0 || (i->op == OP_WAIT && value != i->x) ||
            (i->op == OP_WAIT_NOT && value == i->x))
            return;
        e->value = (uint8_t)value;
        e->phase = DONE;
    } else if (model_stores(i->op)) {
        bool keeps = i->op == OP_KEEP || i->op == OP_KEEP_REL || i->op == OP_KEEP_SUM;
        if (keeps && reg < 0) return;
        value = keeps ? reg + i->x : i->x;
        if (i->op == OP_GHOST || i->op == OP_KEEP_SUM) value += *var;
        *var = (uint8_t)value;
        e->phase = DONE;
        model_written(&s, t, i->var);
    } else if (model_both(i->op)) {
        bool from_reg = i->op == OP_CAS_MASK || i->op == OP_CAS_ADD;
        if (!second) {
            if (from_reg && reg < 0) return;
            if ((i->op == OP_LOCK && *var != 0) || (i->op == OP_GRAB && *var % 2 != 0)) return;
            e->value = *var;
            bool fails = (i->op == OP_CAS && *var != i->old) || (from_reg && *var != reg);
            e->phase = fails ? DONE : READ;
            if (fails) s.at[t] = (uint8_t)model_label(p, i->to);
        }
        if (second || (e->phase == READ && explorer->order == X86)) {
            *var = (uint8_t)(i->op == OP_CAS_MASK                     ? (*var & i->old) | i->x
                             : i->op == OP_CAS_ADD || i->op == OP_ADD ? *var + i->x
                             : i->op == OP_GRAB || i->op == OP_LOCK   ? *var | 1
                                                                      : i->x);
            e->phase = DONE;
            model_written(&s, t, i->var);
        }
    } else if (i->op == OP_MEMBARRIER) {
        for (int o = 0; o < explorer->nthreads; o++) {
            if ((e->value >> o & 1) == 0 || !model_between(&s, o)) continue;
            model_state after = s;
            after.window[t][k].value = (uint8_t)(e->value & ~(1 << o));
            if (after.window[t][k].value == 0) after.window[t][k].phase = DONE;
            model_settle(after, 0, from);
        }
        return;
    } else if (i->op == OP_SLEEP) {
        if (s.asleep[t] != 0) return;
        if (*var == i->x)
            s.asleep[t] = (uint8_t)(i->var + 1);
        else
            e->phase = DONE;
    } else if (i->op == OP_WAKE) {
        e->phase = DONE;
        for (int o = 0; o < explorer->nthreads; o++)
            if (s.asleep[o] == i->var + 1) s.asleep[o] = 0, s.window[o][0].phase = DONE;
    } else if (i->op == OP_OTHERS_END) {
        for (int o = 0; o < explorer->nthreads; o++)
            if (o != t && (s.n[o] != 0 || explorer->threads[o][s.at[o]].op != OP_END)) return;
        e->phase = DONE;
    } else {
        e->phase = DONE;
    }
    model_settle(s, 0, from);
}

/* Returns a state in which the model goes wrong, or from which it cannot end; 0: there is none. */
static uint32_t model_fails(int order, const model_step *changed)
{
    model_state start;
    struct explorer *e = explorer;
    memset(&start, 0, sizeof start);
    e->order = order;
    e->changed = changed;
    e->wrong = false;
    e->nstates = 1;
    e->nedges = 0;
    model_grow(e);
    memset(e->table, 0, e->ntable * sizeof *e->table);
    model_settle(start, 0, 0);
    for (uint32_t at = 1; at < e->nstates; at++) {
        const model_state s = e->states[at];
        e->can_end[at] = true;
        for (int t = 0; t < e->nthreads; t++) {
            if (s.n[t] != 0 || e->threads[t][s.at[t]].op != OP_END) e->can_end[at] = false;
            for (int k = 0; k < s.n[t]; k++) model_perform(s, t, k, at);
            if (e->wrong) return at;
        }
    }
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = e->nedges; i-- > 0;) {
            const uint32_t *edge = e->edges[i];
            if (edge[0] != 0 && e->can_end[edge[1]] && !e->can_end[edge[0]])
                more = e->can_end[edge[0]] = true;
        }
    }
    for (uint32_t at = 1; at < e->nstates; at++)
        if (!e->can_end[at]) return at;
    return 0;
}

/* One way to the state `to`, as "1.4 2.0 ...": thread and step of each step performed. A "+" marks
 * the store of an atomic step. */
static const char *model_path(uint32_t to)
{
    static char text[1024];
    size_t at = sizeof text - 1;
    while (to > 0 && at > 16) {
        uint32_t(*edge)[3] = explorer->edges;
        while ((*edge)[1] != to) edge++;
        char one[16];
        uint32_t doing = (*edge)[2];
        size_t n = (size_t)snprintf(one, sizeof one, " %u.%u%s", doing / 1024 + 1, doing % 1024 / 2,
                                    doing % 2 ? "+" : "");
        to = (*edge)[0];
        if (to != 0) memcpy(text + (at -= n), one, n);
    }
    return text + at;
}

static void explorer_free(void)
{
    free(explorer->states);
    free(explorer->can_end);
    free(explorer->table);
    free(explorer->edges);
    free(explorer);
}

static void explore_within(int window, const model_step *a, const model_step *b,
                           const model_step *c)
{
    static const char *const orders[] = {"x86", "ARM"};
    const model_step *const threads[MODEL_THREADS] = {a, b, c};
    uint32_t at;
    int changes = 0;
    explorer = calloc(1, sizeof *explorer);
    CHECK(explorer != NULL);
    memcpy(explorer->threads, threads, sizeof threads);
    explorer->nthreads = c == NULL ? 2 : 3;
    explorer->window = window;
    for (int order = X86; order <= ARM; order++) {
        if ((at = model_fails(order, NULL)) != 0)
            FAIL("goes wrong in %s's order:%s", orders[order], model_path(at));
    }
    for (int t = 0; t < explorer->nthreads; t++)
        for (const model_step *i = threads[t]; i->op != OP_END || i[1].op != OP_END; i++) {
            if (i->op != OP_MUST && i->op != OP_BUG) continue;
            changes++;
            if (model_fails(ARM, i) == 0 && model_fails(X86, i) == 0)
                FAIL("fine with step %d.%d changed, too", t + 1, (int)(i - threads[t]));
        }
    CHECK(changes > 0);
    explorer_free();
}

static void explore(const model_step *a, const model_step *b, const model_step *c)
{
    explore_within(MODEL_WINDOW, a, b, c);
}

/* Checks whether a and b go wrong on x86, and whether they do on ARM. */
static void litmus(bool x86, bool arm, const model_step *a, const model_step *b)
{
    explorer = calloc(1, sizeof *explorer);
    CHECK(explorer != NULL);
    explorer->threads[0] = a;
    explorer->threads[1] = b;
    explorer->nthreads = 2;
    explorer->window = MODEL_WINDOW;
    CHECK_EQ(model_fails(X86, NULL) != 0, x86);
    CHECK_EQ(model_fails(ARM, NULL) != 0, arm);
    explorer_free();
}

/* The facts come from the processors' manuals, and from published models of the two. */
TEST_PLAIN(model, the_explorer_orders_steps_as_processors_do)
{
    enum { A, B, SEEN };
    // two threads store, and then load the other one's variable: may both find nothing?
    {
        STEPS(one, SET(A, 1), GET(B), UNLESS(0, 9), FETCH_ADD(SEEN, 1), LABEL(9));
        STEPS(other, SET(B, 1), GET(A), UNLESS(0, 9), FETCH_ADD(SEEN, 1), OTHERS_END, GET(SEEN),
              UNLESS(2, 9), WRONG, LABEL(9));
        litmus(true, true, one, other);
    }
    {
        STEPS(one, SET(A, 1), FENCE, GET(B), UNLESS(0, 9), FETCH_ADD(SEEN, 1), LABEL(9));
        STEPS(other, SET(B, 1), FENCE, GET(A), UNLESS(0, 9), FETCH_ADD(SEEN, 1), OTHERS_END,
              GET(SEEN), UNLESS(2, 9), WRONG, LABEL(9));
        litmus(false, false, one, other);
        STEPS(half, SET(B, 1), GET(A), UNLESS(0, 9), FETCH_ADD(SEEN, 1), OTHERS_END, GET(SEEN),
              UNLESS(2, 9), WRONG, LABEL(9));
        litmus(true, true, one, half);
        STEPS(barrier, SET(A, 1), MEMBARRIER, GET(B), UNLESS(0, 9), FETCH_ADD(SEEN, 1), LABEL(9));
        litmus(false, false, barrier, half);
        STEPS(swaps, SWAP(B, 1), GET(A), UNLESS(0, 9), FETCH_ADD(SEEN, 1), OTHERS_END, GET(SEEN),
              UNLESS(2, 9), WRONG, LABEL(9));
        litmus(false, true, one, swaps); // the swap's store may come after the load
        STEPS(forwards, SET(B, 1), GET_ACQ(B), GET(A), UNLESS(0, 9), FETCH_ADD(SEEN, 1), OTHERS_END,
              GET(SEEN), UNLESS(2, 9), WRONG, LABEL(9));
        litmus(true, true, one, forwards); // a load sees the thread's own store first
        STEPS(releases, SET_REL(B, 1), GET_ACQ(A), UNLESS(0, 9), FETCH_ADD(SEEN, 1), OTHERS_END,
              GET(SEEN), UNLESS(2, 9), WRONG, LABEL(9));
        litmus(true, true, one, releases);
        STEPS(seq, SET_SEQ(B, 1), GET_SEQ(A), UNLESS(0, 9), FETCH_ADD(SEEN, 1), OTHERS_END,
              GET(SEEN), UNLESS(2, 9), WRONG, LABEL(9));
        litmus(false, false, one, seq);
    }
    // a message, and a flag that announces it
    {
        STEPS(stores, SET(A, 1), SET(B, 1));
        STEPS(releases, SET(A, 1), SET_REL(B, 1));
        STEPS(fences, SET(A, 1), FENCE_REL, SET(B, 1));
        STEPS(looks, GET(B), IF(0, 9), SURE(A, 1), LABEL(9));
        STEPS(acquires, GET_ACQ(B), IF(0, 9), SURE(A, 1), LABEL(9));
        STEPS(fenced, GET(B), IF(0, 9), FENCE_ACQ, SURE(A, 1), LABEL(9));
        litmus(false, true, stores, acquires);
        litmus(false, true, releases, looks); // the load comes before the branch is known
        litmus(false, false, releases, acquires);
        litmus(false, false, fences, fenced);
        STEPS(swaps, SET(A, 1), SWAP(B, 1));
        litmus(false, false, swaps, fenced);
        STEPS(after_swap, SWAP(A, 1), SET(B, 1));
        litmus(false, false, after_swap, acquires); // no store passes the swap
    }
    // each thread loads, then stores what the other one loads; and a variable has one order
    {
        STEPS(loads, GET(A), KEEP(SEEN, 0), SET(B, 1));
        STEPS(loads_first, GET(B), IF(0, 9), SET(A, 1), OTHERS_END, SURE(SEEN, 0), LABEL(9));
        litmus(false, true, loads, loads_first);
        STEPS(decides, GET(A), IF(1, 1), LABEL(1), KEEP(SEEN, 0), SET(B, 1));
        litmus(false, false, decides, loads_first);
        STEPS(counts, SET(A, 1), SET(A, 2));
        STEPS(looks_twice, GET(A), UNLESS(2, 9), SURE(A, 2), LABEL(9));
        litmus(false, false, counts, looks_twice);
    }
}

/* See THE HANDSHAKE in WAKE. A processor that was taken stays taken. */
TEST_PLAIN(model, the_handshake_gives_a_processor_to_one_side)
{
    enum { ST, REVOKE, USERS, ASKED = 1, TAKEN };
#define OWNER(...)                                                                                 \
    LABEL(1), SET(ST, 1), LABEL(2), __VA_ARGS__, GET(REVOKE), IF(TAKEN, 9), BUG, GOTO(3),          \
        IF(ASKED, 4), LABEL(3), GHOST(USERS, 1), SURE(USERS, 1), GHOST(USERS, -1), SET_REL(ST, 2), \
        CHOOSE(1), END, LABEL(4), SET_REL(ST, 2), WAIT_NOT(REVOKE, ASKED), SET(ST, 1), GOTO(2),    \
        LABEL(9)
#define TAKER(...)                                                                                 \
    CAS(REVOKE, 0, ASKED, 9), __VA_ARGS__, GET_ACQ(ST), MUST, IF_ODD(1), GHOST(USERS, 1),          \
        SURE(USERS, 1), SET_REL(REVOKE, TAKEN), END, LABEL(1), MUST, SET_REL(REVOKE, 0), LABEL(9)
    STEPS(owner, OWNER(LABEL(0)));
    STEPS(taker, TAKER(MUST, MEMBARRIER));
    explore(owner, taker, NULL);
    STEPS(fenced_owner, OWNER(MUST, FENCE));
    STEPS(fenced_taker, TAKER(FENCE));
    explore(fenced_owner, fenced_taker, NULL);
#undef OWNER
#undef TAKER
}

/* See BLOCKING in WAKE. The owner is in csp_blocking when it begins. */
TEST_PLAIN(model, the_end_of_blocking_and_a_taker_decide_by_one_word)
{
    enum { ST, REVOKE, USERS, BLOCKING = 0, ASKED, TAKEN, NONE };
    STEPS(owner, SET(ST, 1), LABEL(1), GET_ACQ(REVOKE), IF(ASKED, 4), IF(TAKEN, 9), BUG, GOTO(5),
          CAS(REVOKE, BLOCKING, NONE, 1), LABEL(5), GHOST(USERS, 1), SURE(USERS, 1),
          GHOST(USERS, -1), SET_REL(ST, 2), END, LABEL(4), SET_REL(ST, 2), WAIT_NOT(REVOKE, ASKED),
          SET(ST, 1), GOTO(1), LABEL(9));
    STEPS(taker, CAS(REVOKE, BLOCKING, ASKED, 9), GET_ACQ(ST), IF_ODD(1), GHOST(USERS, 1),
          SURE(USERS, 1), SET_REL(REVOKE, TAKEN), END, LABEL(1), SET_REL(REVOKE, BLOCKING),
          LABEL(9));
    explore(owner, taker, NULL);
}

/* See CLOSING in POLLER. NUMBER: 0 the old descriptor's, 1 free, 2 the next owner's. The next owner
 * closes it, too, and no other thread may clear the next owner's marks. It knows nothing of the
 * record (`stranger`), or has just been given the number by csp__fd_made (`maker`). */
TEST_PLAIN(model, a_number_is_its_next_owners_before_the_close_has_returned)
{
    enum { NUMBER, USERS, LOCKED, GEN, TOLD, MARK = 0x80, FINISH = 0xc0, AWAIT = 0xe0 };
#define CLOSES CAS(USERS, 0, MARK | 1, 9), SWAP(USERS, FINISH), SWAP(NUMBER, 1)
#define OWNS SURE(USERS, MARK | 1), SWAP(NUMBER, 1), SWAP(USERS, 0)
#define IS_TOLD_THAT_IT_IS_CLOSED SURE(NUMBER, 1)
    STEPS(closer, CLOSES, SWAP(USERS, 0), IF(FINISH, 9), MUST, WAKE(USERS), LABEL(9));
    STEPS(stranger, LABEL(1), CAS(NUMBER, 1, 2, 1), LABEL(2), GET(USERS), BUG, GOTO(4), MUST,
          IF_BITS(FINISH, FINISH, 3), IF_BITS(MARK, MARK, 9), CAS_ADD(USERS, MARK | 1, 2), GOTO(5),
          LABEL(3), CAS_MASK(USERS, 0xff, AWAIT, 2), SLEEP(USERS, AWAIT), GOTO(2), LABEL(4),
          SWAP(USERS, MARK | 1), LABEL(5), OWNS, END, LABEL(9), IS_TOLD_THAT_IT_IS_CLOSED);
    explore(closer, stranger, NULL);
    STEPS(locks, CLOSES, LOCK(LOCKED), GET(GEN), MUST, IF(1, 8), SWAP(USERS, 0), LABEL(8),
          UNLOCK(LOCKED), LABEL(9));
    STEPS(maker, LABEL(1), CAS(NUMBER, 1, 2, 1), LOCK(LOCKED), MUST, SWAP(USERS, 0), MUST,
          SWAP(GEN, 1), UNLOCK(LOCKED), CAS(USERS, 0, MARK | 1, 9), OWNS, END, LABEL(9),
          IS_TOLD_THAT_IT_IS_CLOSED);
    explore(locks, maker, NULL);
#undef CLOSES
#undef OWNS
#undef IS_TOLD_THAT_IT_IS_CLOSED
    /* A reader comes late, or finishes. A closer that found a reader learns from it what close(2)
     * has returned. A closer that found none calls close(2) itself. */
#define LEAVES(was_not_last)                                                                       \
    LABEL(6), GET(USERS), CAS_ADD(USERS, -1, 6), UNLESS(MARK | 1, was_not_last), SURE(NUMBER, 0),  \
        SWAP(NUMBER, 1), SWAP(TOLD, 1)
    STEPS(reader, BUG, GOTO(4), LABEL(1), GET(USERS), MUST, IF_BITS(MARK, MARK, 9),
          CAS_ADD(USERS, 1, 1), LABEL(2), SURE(NUMBER, 0), LEAVES(9), END, LABEL(4), GET(USERS),
          CAS_ADD(USERS, 1, 4), IF_BITS(MARK, MARK, 6), GOTO(2), LABEL(9));
    STEPS(marks, LABEL(1), GET(USERS), CAS_ADD(USERS, MARK | 1, 1), IF(0, 2), LEAVES(3), LABEL(3),
          WAIT(TOLD, 1), END, LABEL(2), LABEL(4), GET(USERS), CAS_ADD(USERS, -1, 4),
          UNLESS(MARK | 1, 5), SWAP(NUMBER, 1), END, LABEL(5), SURE(NUMBER, 9));
    explore(reader, marks, NULL);
    explore(reader, marks, reader);
#undef LEAVES
}

/* See PARK DANCE in WAKE. CALM: no thread is searching any more. */
TEST_PLAIN(model, work_that_appears_while_a_processor_goes_idle_is_seen)
{
    enum { WORK, IDLE, CALM, POST };
#define SUBMIT(...)                                                                                \
    SET_REL(WORK, 1), __VA_ARGS__, GET(IDLE), IF(0, 9), GET(CALM), IF(0, 9), MUST, SET(POST, 1),   \
        LABEL(9)
    STEPS(submits, SUBMIT(LABEL(0)));
    STEPS(idles, SET(IDLE, 1), MUST, SWAP(CALM, 1), MUST, MEMBARRIER, GET(WORK), MUST, IF(1, 9),
          WAIT(POST, 1), LABEL(9));
    explore(submits, idles, NULL);
    explore(submits, idles, submits);
    STEPS(fenced_submits, SUBMIT(MUST, FENCE));
    STEPS(fenced_idles, SET(IDLE, 1), SWAP(CALM, 1), MUST, FENCE, GET(WORK), MUST, IF(1, 9),
          WAIT(POST, 1), LABEL(9));
    explore(fenced_submits, fenced_idles, NULL);
#undef SUBMIT
}

/* See THE AGED in RUNQ. Two goroutines are pushed, and a P on its aged turn takes at most one.
 * FRESH, AGED: how many are in these queues. COUNT is what nglobal says of them: a P that goes idle
 * sees the other goroutine, or is woken. Or COUNT is nfresh: a P whose ring is never empty sees it.
 */
TEST_PLAIN(model, an_aged_goroutine_is_counted_while_it_is_moved)
{
    enum { LOCKED, FRESH, AGED, COUNT, IDLE, POST };
#define PUSHES(...)                                                                                \
    LOCK(LOCKED), SET(FRESH, 2), MUST, SET(COUNT, 2), UNLOCK(LOCKED), __VA_ARGS__, GET(IDLE),      \
        IF(0, 9), SET(POST, 1), LABEL(9)
    STEPS(pushes, PUSHES(LABEL(0)));
    STEPS(fenced_pushes, PUSHES(MUST, FENCE));
    /* Wrong: a count while one is not where it belongs, and the count without the lock. */
#define TURNS(...)                                                                                 \
    LOCK(LOCKED), GET(FRESH), IF(0, 5), __VA_ARGS__, SET(FRESH, 0), SET(AGED, 1), SET(COUNT, 1),   \
        UNLOCK(LOCKED), END, LABEL(5), BUG, GOTO(6), SET(COUNT, 0), UNLOCK(LOCKED), END, LABEL(6), \
        UNLOCK(LOCKED), SET(COUNT, 0)
    STEPS(turns, TURNS(BUG, SET(COUNT, 0)));
    STEPS(turns_beside_the_busy, TURNS(LABEL(0)));
    /* Wrong: to leave the aged to the turns for them. */
#define TAKES(must)                                                                                \
    LOCK(LOCKED), GET(FRESH), UNLESS(0, 7), must, GET(AGED), UNLESS(0, 7), WRONG, LABEL(7),        \
        UNLOCK(LOCKED)
#define IDLES(must, ...)                                                                           \
    SET(IDLE, 1), MUST, __VA_ARGS__, GET(COUNT), UNLESS(0, 4), WAIT(POST, 1), END, LABEL(4),       \
        TAKES(must)
    STEPS(idles, IDLES(MUST, MEMBARRIER));
    STEPS(fenced_idles, IDLES(LABEL(0), FENCE));
    explore(pushes, idles, turns);
    explore(fenced_pushes, fenced_idles, turns);
    STEPS(is_never_idle, LABEL(1), GET(COUNT), IF(0, 1), TAKES(LABEL(0)));
    explore(pushes, is_never_idle, turns_beside_the_busy);
#undef PUSHES
#undef TURNS
#undef TAKES
#undef IDLES
}

/* See PARK DANCE in WAKE. CALM: no thread is searching any more. */
TEST_PLAIN(model, work_that_appears_while_the_last_search_ends_is_seen)
{
    enum { WORK, IDLE, CALM, POST };
#define SUBMIT(...)                                                                                \
    SET_REL(WORK, 1), __VA_ARGS__, GET(IDLE), IF(0, 9), GET(CALM), IF(0, 9), SET(POST, 1), LABEL(9)
    STEPS(submits, SUBMIT(LABEL(0)));
    STEPS(finds, SWAP(CALM, 1), MUST, FENCE, GET(IDLE), IF(0, 9), MUST, MEMBARRIER, GET(WORK),
          IF(0, 9), MUST, SET(POST, 1), LABEL(9));
    STEPS(idles, SET(IDLE, 1), MUST, MEMBARRIER, GET(WORK), IF(1, 9), WAIT(POST, 1), LABEL(9));
    explore(submits, finds, idles);
    STEPS(fenced_submits, SUBMIT(MUST, FENCE));
    STEPS(fenced_finds, SWAP(CALM, 1), MUST, FENCE, GET(IDLE), IF(0, 9), GET(WORK), IF(0, 9), MUST,
          SET(POST, 1), LABEL(9));
    STEPS(fenced_idles, SET(IDLE, 1), MUST, FENCE, GET(WORK), IF(1, 9), WAIT(POST, 1), LABEL(9));
    explore(fenced_submits, fenced_finds, fenced_idles);
#undef SUBMIT
}

/* See BARRIERS in WAKE: a submitter and a search that ends, while a third thread makes a
 * membarrier, or the monitor ends the submitters' fences, or both. */
TEST_PLAIN(model, submitters_fence_while_searches_end_without_a_membarrier)
{
    enum { WORK, IDLE, FENCED, POST };
#define SUBMIT(no, ...)                                                                            \
    SET_REL(WORK, 1), __VA_ARGS__, IF(no, 1), MUST, FENCE, LABEL(1), GET(IDLE), IF(0, 9), MUST,    \
        SET(POST, 1), LABEL(9)
#define SUBMIT_EITHER(no)                                                                          \
    SUBMIT(no, BUG, GOTO(3), GET_ACQ(FENCED), GOTO(4), LABEL(3), GET(FENCED), LABEL(4))
#define SEARCH(soon, all)                                                                          \
    SET(IDLE, 1), MUST, FENCE, LABEL(2), GET_ACQ(FENCED), IF(soon, 2), IF(all, 5), MEMBARRIER,     \
        LABEL(5), GET(WORK), MUST, IF(1, 9), WAIT(POST, 1), LABEL(9)
#define MAKES(soon, all) SET(FENCED, soon), MUST, MEMBARRIER, SET_REL(FENCED, all)
    {
        enum { NO, SOON, ALL }; // they do not fence when it begins
        STEPS(submits, SUBMIT(NO, GET_ACQ(FENCED)));
        STEPS(searches, SET(IDLE, 1), MUST, FENCE, BUG, GOTO(3), LABEL(2), GET_ACQ(FENCED), BUG,
              IF(SOON, 5), IF(SOON, 2), IF(ALL, 5), GOTO(6), LABEL(3), GET(FENCED), IF(ALL, 5),
              LABEL(6), MUST, MEMBARRIER, LABEL(5), GET(WORK), IF(1, 9), WAIT(POST, 1), LABEL(9));
        STEPS(makes, MAKES(SOON, ALL));
        explore(submits, searches, makes);
        STEPS(makes_and_ends, MAKES(SOON, ALL), SET_REL(FENCED, NO));
        STEPS(searches_well, SEARCH(SOON, ALL));
        explore(submits, searches_well, makes_and_ends);
    }
    {
        enum { ALL, NO, SOON }; // they do
        STEPS(submits, SUBMIT_EITHER(NO));
        STEPS(searches, SEARCH(SOON, ALL));
        STEPS(ends, SET_REL(FENCED, NO));
        explore(submits, searches, ends);
        STEPS(begins_again, SET_REL(FENCED, NO), MAKES(SOON, ALL));
        explore(submits, searches, begins_again);
    }
#undef SUBMIT
#undef SUBMIT_EITHER
#undef SEARCH
#undef MAKES
}

/* See BARRIERS in WAKE. BEGUN, ENDED: the other thread's membarrier. */
TEST_PLAIN(model, a_membarrier_of_another_thread_serves_all_that_wait)
{
    enum { WORK, HELD, BEGUN, ENDED, POST };
    STEPS(light, SET(WORK, 1), GET(HELD), IF(0, 9), SET(POST, 1), LABEL(9));
    STEPS(waits, SET(HELD, 1), MUST, FENCE, GET(BEGUN), BUG, GOTO(2), IF(1, 3), LABEL(2),
          WAIT(ENDED, 1), GOTO(5), LABEL(3), MEMBARRIER, LABEL(5), GET(WORK), IF(1, 9),
          WAIT(POST, 1), LABEL(9));
    STEPS(makes, SET(BEGUN, 1), MUST, MEMBARRIER, SET_REL(ENDED, 1));
    explore(light, waits, makes);
}

/* See OFFERS in GO. One record is forked again and again. REC: 1 while the record is valid. WORK:
 * the number of threads that do the work. */
TEST_PLAIN(model, an_offer_is_done_by_its_owner_or_by_a_thief)
{
    enum { TAIL, LIMIT, LOCKED, TAKEN, REC, WORK };
#define DOES GHOST(WORK, 1), SURE(WORK, 1), SURE(REC, 1)
#define OWNER(...)                                                                                 \
    LABEL(1), SET(REC, 1), SET_REL(TAIL, 1), SET(TAIL, 0), __VA_ARGS__, LABEL(2), DOES,            \
        SET(REC, 0), GHOST(WORK, -1), CHOOSE(1), END, LABEL(4), LOCK(LOCKED), GET(TAKEN),          \
        IF(1, 8), UNLOCK(LOCKED), GOTO(2), LABEL(8), UNLOCK(LOCKED), LABEL(9)
#define THIEF(...)                                                                                 \
    LOCK(LOCKED), GET_ACQ(TAIL), IF(0, 8), __VA_ARGS__, SURE(REC, 1), SET(TAKEN, 1),               \
        UNLOCK(LOCKED), DOES, END, LABEL(7), SET(LIMIT, 0), LABEL(8), UNLOCK(LOCKED)
    STEPS(owner, OWNER(GET(LIMIT), BUG, GOTO(5), IF(1, 4), LABEL(5)));
    STEPS(takes, THIEF(MUST, SET(LIMIT, 1), MUST, MEMBARRIER, GET_ACQ(TAIL), MUST, IF(0, 7)));
    explore(owner, takes, NULL);
    /* Without membarrier the limit stays at its highest value: the owner always takes the lock. */
    STEPS(fenced_owner, OWNER(BUG, GOTO(5), GOTO(4), LABEL(5)));
    STEPS(fenced_takes, THIEF(LABEL(0)));
    explore(fenced_owner, fenced_takes, NULL);
#undef DOES
#undef OWNER
#undef THIEF
}

/* See OFFERS in GO: 5. REC, WORK: as above. LIMIT: 2 is the highest. The owner may wait while the
 * record is offered, and while it does the work itself. */
TEST_PLAIN(model, an_offer_of_an_owner_that_waits_is_taken_without_a_membarrier)
{
    enum { TAIL, LIMIT, LOCKED, TAKEN, REC, WORK };
#define DOES GHOST(WORK, 1), SURE(WORK, 1), SURE(REC, 1)
    STEPS(owner, LABEL(1), SET(REC, 1), SET_REL(TAIL, 1), CHOOSE(3), SET_REL(LIMIT, 2), LABEL(3),
          SET(TAIL, 0), GET(LIMIT), UNLESS(0, 4), LABEL(2), CHOOSE(7), BUG, GOTO(5),
          SET_REL(LIMIT, 2), GOTO(7), LABEL(5), SET(LIMIT, 2), LABEL(7), DOES, SET(REC, 0),
          GHOST(WORK, -1), CHOOSE(1), END, LABEL(4), LOCK(LOCKED), GET(TAKEN), IF(1, 8), BUG,
          GOTO(6), SET(LIMIT, 0), UNLOCK(LOCKED), GOTO(2), LABEL(6), UNLOCK(LOCKED), SET(LIMIT, 0),
          GOTO(2), LABEL(8), UNLOCK(LOCKED));
    STEPS(takes, LOCK(LOCKED), BUG, GOTO(5), GET_ACQ(LIMIT), GOTO(6), LABEL(5), GET(LIMIT),
          LABEL(6), IF(2, 3), GET_ACQ(TAIL), IF(0, 8), MUST, SET(LIMIT, 1), MUST, MEMBARRIER,
          GET_ACQ(TAIL), IF(0, 7), GOTO(4), LABEL(3), GET_ACQ(TAIL), IF(0, 8), LABEL(4),
          SURE(REC, 1), SET(TAKEN, 1), UNLOCK(LOCKED), DOES, END, LABEL(7), SET(LIMIT, 0), LABEL(8),
          UNLOCK(LOCKED));
    explore(owner, takes, NULL);
#undef DOES
}

/* See OFFERS in GO. DONE_: 1 the work is done, 2 the owner waits. When the owner has seen the end,
 * the record is the owner's again, and GONE for the thief. */
TEST_PLAIN(model, a_join_waits_for_a_thief_whose_last_look_at_the_record_is_its_swap)
{
    enum { OUTCOME, DONE_, WOKEN, GONE };
    STEPS(takes, MUST, SET(OUTCOME, 1), SURE(GONE, 0), SWAP(DONE_, 1), IF(0, 9), BUG, GOTO(9),
          SET_REL(WOKEN, 1), LABEL(9));
    STEPS(owner, GET_ACQ(DONE_), IF(1, 8), CAS(DONE_, 0, 2, 8), MUST, WAIT(WOKEN, 1), LABEL(8),
          SURE(OUTCOME, 1), SET(GONE, 1));
    explore(takes, owner, NULL);
}

/* See csp__fd_anew and csp__fd_look in POLLER. Two calls are the first on a new descriptor, whose
 * inode is 1. Wrong: a call that finds the inode known, and waits with generation 0. */
TEST_PLAIN(model, who_finds_the_inode_of_a_descriptor_known_has_its_generation)
{
    enum { GEN, INO, LOCKED };
    STEPS(looks, LABEL(1), GET_ACQ(GEN), IF(1, 5), BUG, GOTO(2), GET_ACQ(INO), GOTO(3), LABEL(2),
          GET(INO), LABEL(3), IF(0, 6), GET(GEN), UNLESS(0, 1), WRONG, LABEL(5), GET_ACQ(INO),
          UNLESS(0, 9), LOCK(LOCKED), SURE(INO, 1), UNLOCK(LOCKED), GOTO(9), LABEL(6), LOCK(LOCKED),
          GET(GEN), IF(1, 7), BUG, GOTO(4), BUG, GOTO(8), SET_REL(GEN, 1), SET_REL(INO, 1),
          UNLOCK(LOCKED), GOTO(9), LABEL(4), SET_REL(GEN, 1), SET(INO, 1), UNLOCK(LOCKED), GOTO(9),
          LABEL(8), SET(INO, 1), SET_REL(GEN, 1), UNLOCK(LOCKED), GOTO(9), LABEL(7), UNLOCK(LOCKED),
          GOTO(1), LABEL(9));
    explore(looks, looks, NULL);
}

/* See KNOWN in GO. HIDDEN: searchers do not know the list. */
TEST_PLAIN(model, a_fork_while_the_last_search_ends_is_seen_or_wakes)
{
    enum { TAIL, HIDDEN, LOCKED, IDLE, POST };
#define FORKS(...)                                                                                 \
    SET_REL(TAIL, 1), __VA_ARGS__, GET(HIDDEN), BUG, GOTO(9), IF(0, 9), LOCK(LOCKED),              \
        SET(HIDDEN, 0), UNLOCK(LOCKED), GET(IDLE), IF(0, 9), SET(POST, 1), LABEL(9)
#define IDLES(...)                                                                                 \
    SET(IDLE, 1), LOCK(LOCKED), SET(HIDDEN, 1), UNLOCK(LOCKED), __VA_ARGS__, LOCK(LOCKED),         \
        GET_ACQ(TAIL), UNLOCK(LOCKED), MUST, IF(1, 9), WAIT(POST, 1), LABEL(9)
    STEPS(forks, FORKS(LABEL(0)));
    STEPS(idles, IDLES(MUST, MEMBARRIER));
    explore(forks, idles, NULL);
    STEPS(fenced_forks, FORKS(MUST, FENCE));
    STEPS(fenced_idles, IDLES(LABEL(0))); // the list's lock fences
    explore(fenced_forks, fenced_idles, NULL);
    /* Another thread, which has not hidden the list, does not take it off either. */
    enum { OFF = POST + 1 };
    STEPS(idles_beside, SET(IDLE, 1), LOCK(LOCKED), SET(HIDDEN, 1), UNLOCK(LOCKED), MEMBARRIER,
          LOCK(LOCKED), GET(OFF), IF(1, 7), GET_ACQ(TAIL), LABEL(7), UNLOCK(LOCKED), IF(0, 8),
          GET(OFF), IF(0, 9), LABEL(8), WAIT(POST, 1), LABEL(9));
    STEPS(looks, BUG, GOTO(1), GOTO(9), LABEL(1), LOCK(LOCKED), GET(HIDDEN), IF(0, 2),
          GET_ACQ(TAIL), IF(1, 2), SET(OFF, 1), LABEL(2), UNLOCK(LOCKED), LABEL(9));
    explore(forks, idles_beside, looks);
#undef FORKS
#undef IDLES
}

/* See csp__sleep_locked in SCHED and csp__timer_set in TIMERS. FIRST, UNTIL: 1 stands for the
 * deadline. */
TEST_PLAIN(model, a_timer_that_is_set_while_a_thread_goes_to_sleep_is_seen)
{
    enum { FIRST, SLEEPER, UNTIL, POKED };
    STEPS(sleeps, SET(SLEEPER, 1), MUST, FENCE, MUST, GET(FIRST), KEEP(UNTIL, 0), IF(1, 9),
          WAIT(POKED, 1), LABEL(9));
    STEPS(sets, SET(FIRST, 1), MUST, FENCE, GET(UNTIL), IF(1, 9), GET(SLEEPER), IF(0, 9), MUST,
          SET(POKED, 1), LABEL(9));
    explore(sleeps, sets, NULL);
}

/* See PARK DANCE in WAKE: a nap counts as a search. An idle P exists all the time. CALM: no thread
 * is searching any more. RUN: a thread that may run the work has seen it. */
TEST_PLAIN(model, work_that_appears_while_a_nap_ends_is_seen)
{
    enum { WORK, CALM, RUN };
#define NAPS(light, heavy)                                                                         \
    CHOOSE(1), SWAP(CALM, 1), MUST, heavy, GET(WORK), IF(0, 9), MUST, SET(RUN, 1), END, LABEL(1),  \
        BUG, GOTO(8), SWAP(CALM, 1), FENCE, GET(WORK), IF(1, 2), heavy, GET(WORK), IF(0, 9),       \
        LABEL(2), MUST, SET(RUN, 1), END, LABEL(8), SWAP(CALM, 1), LABEL(9)
    STEPS(submits, SET_REL(WORK, 1), GET(CALM), IF(0, 9), MUST, SET(RUN, 1), LABEL(9));
    STEPS(naps, NAPS(LABEL(0), MEMBARRIER)); // ended by itself, or with a P for other work
    STEPS(runs, WAIT(RUN, 1));
    explore(submits, naps, runs);
    STEPS(fenced_submits, SET_REL(WORK, 1), MUST, FENCE, GET(CALM), IF(0, 9), MUST, SET(RUN, 1),
          LABEL(9));
    STEPS(fenced_naps, NAPS(FENCE, FENCE));
    explore(fenced_submits, fenced_naps, runs);
#undef NAPS
}

/* See csp__go_idle and csp__sleep_locked in SCHED, csp__wake_slow and csp__m_start_locked in WAKE.
 * A P and its thread go idle while another P makes a goroutine runnable. SPIN: the number of
 * searching threads. */
TEST_PLAIN(model, a_thread_that_goes_to_sleep_is_woken_for_what_it_did_not_see)
{
    enum { LOCKED, IDLE, SPIN, WORK, LISTED, FUTEX, RUN };
    STEPS(submits, SET_REL(WORK, 1), GET(IDLE), IF(0, 9), GET_ACQ(SPIN), UNLESS(0, 9),
          CAS(SPIN, 0, 1, 9), LOCK(LOCKED), GET(IDLE), IF(0, 7), KEEP(IDLE, -1), GET(LISTED),
          IF(0, 6), SET(LISTED, 0), MUST, SET_REL(FUTEX, 1), UNLOCK(LOCKED), MUST, WAKE(FUTEX), END,
          LABEL(6), SET(RUN, 1), UNLOCK(LOCKED), END, // a new thread runs it
          LABEL(7), FETCH_ADD(SPIN, -1), UNLOCK(LOCKED), LABEL(9));
    STEPS(idles, FETCH_ADD(SPIN, 1), GET(WORK), IF(1, 8), LOCK(LOCKED), GET(IDLE), KEEP(IDLE, 1),
          FETCH_ADD(SPIN, -1), UNLOCK(LOCKED), MUST, MEMBARRIER, GET(WORK), MUST, IF(1, 5),
          LOCK(LOCKED), GET(RUN), IF(1, 4), SET(FUTEX, 0), SET(LISTED, 1), UNLOCK(LOCKED), LABEL(2),
          GET_ACQ(FUTEX), IF(1, 8), SLEEP(FUTEX, 0), GOTO(2), LABEL(5), LOCK(LOCKED), GET(IDLE),
          IF(0, 4), KEEP(IDLE, -1), UNLOCK(LOCKED), GOTO(8), LABEL(4), UNLOCK(LOCKED), END,
          LABEL(8), SET_REL(RUN, 1));
    STEPS(stops, WAIT(RUN, 1), LOCK(LOCKED), SET_REL(FUTEX, 1), UNLOCK(LOCKED), WAKE(FUTEX));
    explore(submits, idles, stops);
}

/* See csp__sleep_locked in SCHED and csp__poll_need in POLLER. A thread that has polled until now
 * goes to sleep, while a thread of the program begins to wait. ALONE: no thread polls. */
TEST_PLAIN(model, a_thread_that_waits_for_a_descriptor_while_the_poller_goes_to_sleep_is_seen)
{
    enum { LOCKED, ALONE, WAITS, POST };
    STEPS(sleeps, LOCK(LOCKED), SET(ALONE, 1), MUST, FENCE, GET(WAITS), MUST, IF(1, 8),
          UNLOCK(LOCKED), WAIT(POST, 1), END, LABEL(8), SET(ALONE, 0), UNLOCK(LOCKED));
    STEPS(waits, FETCH_ADD(WAITS, 1), MUST, FENCE, GET(ALONE), IF(0, 9), MUST, SET(POST, 1),
          LABEL(9));
    explore(sleeps, waits, NULL);
}

/* See csp__m_post_locked in WAKE and csp__poller_awake_locked in SCHED. Two threads sleep in the
 * poller. One of them is to be woken, but the system may wake the other one. What it is woken for
 * is taken once. */
TEST_PLAIN(model, what_one_that_polls_is_woken_for_is_taken_by_whom_the_system_wakes)
{
    enum { LOCKED, POSTED, FUTEX, EVENT, TAKEN, OVER };
#define TAKES                                                                                      \
    LABEL(5), LOCK(LOCKED), GET(POSTED), IF(0, 7), MUST, SET(POSTED, 0), SET(FUTEX, 0),            \
        GHOST(TAKEN, 1), SURE(TAKEN, 1), UNLOCK(LOCKED), END, LABEL(7), UNLOCK(LOCKED), GOTO(1),   \
        LABEL(9)
#define POLLS LABEL(2), WAIT_NOT(EVENT, 0), GET_ACQ(OVER), IF(1, 9), CAS(EVENT, 1, 0, 2)
    STEPS(posts, LOCK(LOCKED), MUST, SET(POSTED, 1), SET_REL(FUTEX, 1), FENCE, MUST, SET(EVENT, 1),
          UNLOCK(LOCKED), WAIT(TAKEN, 1), SET(OVER, 1), FENCE, SET(EVENT, 3));
    STEPS(is_posted, LABEL(1), GET_ACQ(FUTEX), IF(1, 5), POLLS, GET_ACQ(POSTED), IF(0, 1), TAKES);
    STEPS(polls, LABEL(1), POLLS, BUG, GOTO(2), GET_ACQ(POSTED), IF(0, 1), TAKES);
    explore(posts, is_posted, polls);
#undef TAKES
#undef POLLS
}

/* See CALLS in TIMERS. A timer becomes due while its caller is about to wait. It is freed without a
 * lock, but not before the caller has read what it runs (FN). */
TEST_PLAIN(model, a_call_that_becomes_due_is_run_and_its_timer_is_not_looked_at_afterwards)
{
    enum { LOCKED, DUE, WAITS, READY, GONE, FN };
    STEPS(fires, LOCK(LOCKED), SET(DUE, 1), GET(WAITS), IF(0, 7), MUST, SET(READY, 1), LABEL(7),
          UNLOCK(LOCKED));
    STEPS(calls, LOCK(LOCKED), GET(DUE), IF(1, 5), MUST, SET(WAITS, 1), UNLOCK(LOCKED),
          WAIT(READY, 1), LOCK(LOCKED), LABEL(5), SURE(DUE, 1), SURE(FN, 0), SET_REL(GONE, 1),
          UNLOCK(LOCKED));
    STEPS(frees, GET_ACQ(GONE), IF(0, 9), SET(FN, 1), LABEL(9));
    explore(fires, calls, frees);
}

/* See csp__nmade in CORE. */
TEST_PLAIN(model, a_processor_that_is_counted_is_there)
{
    enum { P, NMADE };
    STEPS(makes, SET(P, 1), MUST, FENCE_REL, SET(NMADE, 1));
    STEPS(uses, GET(NMADE), IF(0, 9), MUST, FENCE_ACQ, SURE(P, 1), LABEL(9));
    explore(makes, uses, NULL);
}

/* See csp__dump_g and csp__g_stuck in DUMP. A goroutine ends (ID 0, its block is 0). Another one
 * begins in its record (ID 2), and an argument lies where the block was. */
TEST_PLAIN(model, a_dump_uses_no_argument_for_a_block)
{
    enum { ID, BLOCK, ARGUMENT = 9 };
    STEPS(ends, SET(ID, 1), MUST, FENCE_REL, SET(BLOCK, ARGUMENT), SET_REL(ID, 2));
    STEPS(looks, GET_ACQ(ID), UNLESS(0, 9), GET(BLOCK), UNLESS(ARGUMENT, 9), MUST, FENCE_ACQ,
          GET(ID), MUST, UNLESS(0, 9), WRONG, LABEL(9));
    explore(ends, looks, NULL);
}

/* See LOOKS WITHOUT A LOCK in WAKE. */
TEST_PLAIN(model, of_two_that_send_and_then_look_one_finds_something)
{
    enum { LOCK1, LOCK2, SENT1, SENT2, FOUND };
#define SENDS(lock, sent, other, ...)                                                              \
    LOCK(lock), SET(sent, 1), UNLOCK(lock), __VA_ARGS__, GET(other), IF(0, 9), SET(FOUND, 1),      \
        LABEL(9)
    STEPS(one, SENDS(LOCK1, SENT1, SENT2, MUST, FENCE));
    STEPS(another, SENDS(LOCK2, SENT2, SENT1, MUST, FENCE));
    STEPS(one_has_found, OTHERS_END, SURE(FOUND, 1));
    explore(one, another, one_has_found);
    STEPS(another_locked, SENDS(LOCK2, SENT2, SENT1, MUST, LOCK(LOCK1)), UNLOCK(LOCK1));
    STEPS(one_plain, SENDS(LOCK1, SENT1, SENT2, LABEL(0)));
    explore(one_plain, another_locked, one_has_found);
#undef SENDS
}

/* See POLLER in POLLER. SEQ counts the changes that were reported. READY is the kernel's state. */
TEST_PLAIN(model, a_change_of_a_descriptor_is_not_lost_to_who_begins_to_wait)
{
    enum { READY, TOLD, LOCKED, SEQ, QUEUED, WOKEN };
    STEPS(waits, LABEL(1), GET(SEQ), MUST, FENCE_ACQ, IF(1, 5), GET(READY), IF(1, 9), LOCK(LOCKED),
          GET(SEQ), MUST, IF(1, 4), SET(QUEUED, 1), UNLOCK(LOCKED), WAIT(WOKEN, 1), GOTO(5),
          LABEL(4), UNLOCK(LOCKED), GOTO(1), LABEL(5), SURE(READY, 1), LABEL(9));
    STEPS(polls, WAIT(TOLD, 1), LOCK(LOCKED), MUST, SET_REL(SEQ, 1), GET(QUEUED), IF(0, 8),
          SET(QUEUED, 0), UNLOCK(LOCKED), MUST, SET_REL(WOKEN, 1), END, LABEL(8), UNLOCK(LOCKED));
    STEPS(becomes_ready, SET(READY, 1), SET_REL(TOLD, 1));
    explore(waits, polls, becomes_ready);
}

/* See OVER in POLLER. The interrupter has written data before it interrupts. A goroutine that does
 * not wait by then must read them. */
TEST_PLAIN(model, who_begins_to_wait_when_it_is_interrupted_reads_what_is_there_or_is_sent_off)
{
    enum { READY, LOCKED, SEQ, OVER, QUEUED, WOKEN };
#define TRIES LABEL(1), GET(SEQ), MUST, FENCE_ACQ, IF(1, 5), GET(READY), IF(1, 9), LOCK(LOCKED)
#define GOES_ON SET(QUEUED, 1), UNLOCK(LOCKED), WAIT(WOKEN, 1), END
    STEPS(waits, TRIES, GET(SEQ), MUST, IF(1, 4), GET(OVER), IF(1, 6), GOES_ON, LABEL(4),
          UNLOCK(LOCKED), GOTO(1), LABEL(5), SURE(READY, 1), END, LABEL(6), WRONG, LABEL(9));
    STEPS(interrupts, SET(READY, 1), LOCK(LOCKED), SET(OVER, 1), MUST, SET_REL(SEQ, 1), GET(QUEUED),
          IF(0, 8), SET(QUEUED, 0), UNLOCK(LOCKED), MUST, SET_REL(WOKEN, 1), END, LABEL(8),
          UNLOCK(LOCKED));
    explore(waits, interrupts, NULL);
    /* The same without data, also for a descriptor that was interrupted long ago. */
    STEPS(comes, LABEL(1), GET(SEQ), FENCE_ACQ, GET(READY), IF(1, 9), LOCK(LOCKED), GET(OVER), MUST,
          IF(1, 4), SET(QUEUED, 1), UNLOCK(LOCKED), WAIT(WOKEN, 1), END, LABEL(4), UNLOCK(LOCKED),
          LABEL(9));
    STEPS(only_interrupts, LOCK(LOCKED), MUST, SET(OVER, 1), GET(QUEUED), IF(0, 8), SET(QUEUED, 0),
          UNLOCK(LOCKED), MUST, SET_REL(WOKEN, 1), END, LABEL(8), UNLOCK(LOCKED));
    explore(comes, only_interrupts, NULL);
#undef TRIES
#undef GOES_ON
}

/* See OVER in POLLER. A descriptor is bound to a context, the context ends, and the descriptor is
 * closed. */
TEST_PLAIN(model, a_binding_is_freed_once_by_whoever_lets_go_of_it_last)
{
    enum { CTX, ENDED, LISTED, RECORD, BOUND, REFS, FREED };
#define DROPS(n) FETCH_ADD(REFS, -(n)), UNLESS(n, 9), GHOST(FREED, 1), SURE(FREED, 1), GOTO(9)
    STEPS(binds, SET(REFS, 2), LOCK(CTX), GET(ENDED), IF(1, 7), LOCK(RECORD), SET(BOUND, 1),
          UNLOCK(RECORD), BUG, UNLOCK(CTX), SET(LISTED, 1), UNLOCK(CTX), GOTO(9), LABEL(7),
          UNLOCK(CTX), DROPS(2), LABEL(9), OTHERS_END, SURE(FREED, 1), SURE(REFS, 0));
    STEPS(ends, LOCK(CTX), SET(ENDED, 1), GET(LISTED), IF(0, 8), UNLOCK(CTX), SURE(FREED, 0),
          LOCK(RECORD), GET(BOUND), MUST, IF(0, 5), SET(BOUND, 0), UNLOCK(RECORD), DROPS(2),
          LABEL(5), UNLOCK(RECORD), DROPS(1), LABEL(8), UNLOCK(CTX), LABEL(9));
    STEPS(closes, LOCK(RECORD), GET(BOUND), IF(0, 8), MUST, SET(BOUND, 0), UNLOCK(RECORD),
          SURE(FREED, 0), LOCK(CTX), GET(ENDED), MUST, IF(1, 5), SET(LISTED, 0), UNLOCK(CTX),
          DROPS(2), LABEL(5), UNLOCK(CTX), DROPS(1), LABEL(8), UNLOCK(RECORD), LABEL(9));
    explore_within(3, binds, ends, closes);
#undef DROPS
}

/* See DESCRIPTORS IN SELECT. A select that finds in a record that it need not wait claims its own
 * ticket. After that no waker may wake it. A waker that has claimed the ticket before does wake it.
 */
TEST_PLAIN(model, a_select_that_need_not_wait_is_woken_by_those_who_claimed_it_and_no_other)
{
    enum { CHAN, VALUE, INCHAN, RECORD, SEQ, INRECORD, TICKET, WOKEN };
#define WAKES CAS(TICKET, 0, 1, 9), SET_REL(WOKEN, 1)
    STEPS(selects, LOCK(CHAN), GET(VALUE), IF(1, 8), SET(INCHAN, 1), UNLOCK(CHAN), LOCK(RECORD),
          GET(SEQ), IF(1, 4), SET(INRECORD, 1), UNLOCK(RECORD), WAIT(WOKEN, 1), END, LABEL(4),
          UNLOCK(RECORD), BUG, GOTO(5), MUST, CAS(TICKET, 0, 1, 6), LABEL(5), OTHERS_END,
          SURE(WOKEN, 0), END, LABEL(6), WAIT(WOKEN, 1), END, LABEL(8), UNLOCK(CHAN));
    STEPS(sends, LOCK(CHAN), GET(INCHAN), IF(1, 2), SET(VALUE, 1), UNLOCK(CHAN), END, LABEL(2),
          UNLOCK(CHAN), WAKES, LABEL(9));
    STEPS(tells, LOCK(RECORD), SET(SEQ, 1), GET(INRECORD), UNLOCK(RECORD), IF(0, 9), WAKES,
          LABEL(9));
    explore_within(3, selects, sends, tells);
#undef WAKES
}

/* See CORE. A goroutine parks under a ticket, and two wakers want to wake it. One of them runs it,
 * and only after the goroutine's thread has left its stack. */
TEST_PLAIN(model, a_parking_goroutine_is_woken_once_and_runs_on_one_thread)
{
    enum { BUSY, ON_STACK, LOCKED, QUEUED, TIMED, TICKET, RUN };
#define RUNS_IT                                                                                    \
    MUST, WAIT(BUSY, 0), GHOST(ON_STACK, 1), SURE(ON_STACK, 1), GHOST(RUN, 1), SURE(RUN, 1)
    STEPS(parks, GHOST(ON_STACK, 1), SET(BUSY, 1), LOCK(LOCKED), SET(QUEUED, 1), UNLOCK(LOCKED),
          SET_REL(TIMED, 1), BUG, SET_REL(BUSY, 0), GHOST(ON_STACK, -1), MUST, SET_REL(BUSY, 0));
    STEPS(sends, WAIT(QUEUED, 1), LOCK(LOCKED), MUST, CAS(TICKET, 0, 1, 9), SET(QUEUED, 0),
          UNLOCK(LOCKED), RUNS_IT, END, LABEL(9), UNLOCK(LOCKED));
    STEPS(fires, WAIT(TIMED, 1), MUST, CAS(TICKET, 0, 1, 9), RUNS_IT, LABEL(9));
    explore(parks, sends, fires);
#undef RUNS_IT
}

/* See csp__foreign_park in PARK. The deadline may pass at any time. */
TEST_PLAIN(model, a_thread_that_waits_with_a_deadline_is_woken_or_times_out)
{
    enum { SIGNAL, TICKET };
    STEPS(waits, LABEL(1), GET_ACQ(SIGNAL), IF(1, 8), CHOOSE(4), IF(2, 2), CAS(SIGNAL, 0, 2, 1),
          LABEL(2), CHOOSE(1), SLEEP(SIGNAL, 2), GOTO(1), LABEL(4), MUST, CAS(TICKET, 0, 1, 5),
          MUST, SET(SIGNAL, 0), GOTO(9), LABEL(5), GET_ACQ(SIGNAL), IF(1, 8), IF(2, 6),
          CAS(SIGNAL, 0, 2, 5), LABEL(6), SLEEP(SIGNAL, 2), GOTO(5), LABEL(8), MUST, SET(SIGNAL, 0),
          LABEL(9));
    STEPS(wakes, MUST, CAS(TICKET, 0, 1, 9), SWAP(SIGNAL, 1), UNLESS(2, 9), MUST, WAKE(SIGNAL),
          LABEL(9));
    STEPS(nothing_is_left, OTHERS_END, SURE(SIGNAL, 0));
    explore(waits, wakes, nothing_is_left);
}

/* See LOCKS and CHAN. An exchange locks, a plain store unlocks. A sender or receiver unlocks first
 * and wakes afterwards, since the goroutine that it wakes may free the channel. */
TEST_PLAIN(model, the_channels_lock_excludes_and_is_not_looked_at_after_the_last_look)
{
    enum { LOCKED, N, SENDER, RECEIVER, WOKEN, FREED };
    STEPS(counts_up, LABEL(1), MUST, SWAP(LOCKED, 1), UNLESS(0, 1), GET(N), KEEP(N, 1), MUST,
          UNLOCK(LOCKED));
    STEPS(both_counted, OTHERS_END, SURE(N, 2));
    explore(counts_up, counts_up, both_counted);
    STEPS(sends, MUST, LOCK(LOCKED), GET(RECEIVER), IF(1, 1), SET(SENDER, 1), UNLOCK(LOCKED),
          WAIT(WOKEN, 1), END, LABEL(1), SET(RECEIVER, 0), BUG, SET_REL(WOKEN, 1), SURE(FREED, 0),
          UNLOCK(LOCKED), SET_REL(WOKEN, 1));
    STEPS(receives_and_frees, MUST, LOCK(LOCKED), GET(SENDER), IF(1, 1), SET(RECEIVER, 1),
          UNLOCK(LOCKED), WAIT(WOKEN, 1), GHOST(FREED, 1), END, LABEL(1), SET(SENDER, 0),
          UNLOCK(LOCKED), SET_REL(WOKEN, 1));
    explore(sends, receives_and_frees, NULL);
}

/* See LEAVING in SYNC. An unlock without waiters is two plain stores. OWNER is LOCKED at the start.
 * The next owner sees all that the owner before it did inside. */
TEST_PLAIN(model, a_mutex_that_is_being_unlocked_is_waited_for_or_its_unlock_wakes)
{
    enum { OWNER, STATE, QUEUED, WOKEN, INSIDE };
    enum { LEAVING = 1, FREE = 2, LOCKED = 0, WAITED = 4 };
#define UNLOCKS(early, ...)                                                                        \
    SET(INSIDE, 1), MUST, SET(OWNER, LEAVING), __VA_ARGS__, GET(STATE), MUST, UNLESS(0, 1), early, \
        SET(OWNER, FREE), LABEL(6), SET_REL(OWNER, FREE), END, LABEL(1), MUST, SET(OWNER, LOCKED), \
        GRAB(STATE), IF_BITS(WAITED, 0, 2), SET(QUEUED, 0), SET(OWNER, LEAVING),                   \
        SET_REL(STATE, 0), SET_REL(OWNER, FREE), MUST, SET_REL(WOKEN, 1), END, LABEL(2),           \
        SET(OWNER, LEAVING), SET_REL(STATE, 0), SET_REL(OWNER, FREE)
#define LOCKS(...)                                                                                 \
    LABEL(1), CAS(OWNER, FREE, LOCKED, 2), GOTO(9), LABEL(2), GRAB(STATE), UNLESS(0, 3),           \
        __VA_ARGS__, LABEL(3), MUST, WAIT_NOT(OWNER, LEAVING), CAS(OWNER, FREE, LOCKED, 5),        \
        SET_REL(STATE, 0), GOTO(9), LABEL(5), SET(QUEUED, 1), MUST, MASK(0, WAITED),               \
        KEEP_REL(STATE, 0), WAIT(WOKEN, 1), GOTO(1), LABEL(9), SURE(INSIDE, 1)
    STEPS(unlocks, UNLOCKS(BUG, LABEL(0)));
    STEPS(locks, LOCKS(MUST, MEMBARRIER));
    explore(unlocks, locks, NULL);
    STEPS(fenced_unlocks, UNLOCKS(GOTO(6), MUST, FENCE));
    STEPS(fenced_locks, LOCKS(MUST, FENCE));
    explore(fenced_unlocks, fenced_locks, NULL);
#undef UNLOCKS
#undef LOCKS
}

/* See csp_mutex in SYNC. Three threads take the mutex once each. The unlocker chooses: it wakes a
 * waiter, which tries again, or hands the mutex over. IN: in the queue. SIGNAL: 1 woken, to try
 * again; 2 the mutex was handed over. */
TEST_PLAIN(model, a_mutex_that_three_want_loses_no_wake_up)
{
    enum { OWNER, STATE, INSIDE, IN1, IN2, IN3, SIGNAL1, SIGNAL2, SIGNAL3, ALL = 255 };
    enum { LEAVING = 1, LOCKED = 2 };          // values of OWNER
    enum { HELD = 1, WAITED = 4, COMING = 8 }; // bits of STATE
#define TRIES(in, signal, n, clear, must)                                                          \
    LABEL(n), GRAB(STATE), UNLESS(0, n + 1), MEMBARRIER, LABEL(n + 1), WAIT_NOT(OWNER, LEAVING),   \
        CAS(OWNER, 0, LOCKED, n + 2), GET(STATE), MASK(ALL - HELD - (clear), 0),                   \
        KEEP_REL(STATE, 0), GOTO(20), LABEL(n + 2), SET(in, 1), GET(STATE),                        \
        MASK(ALL - HELD, WAITED), must, MASK(ALL - (clear), 0), KEEP_REL(STATE, 0),                \
        WAIT_NOT(signal, 0), GET(signal), SET(signal, 0), IF(2, 20)
#define WAKES(in, signal, other, n)                                                                \
    LABEL(n), SET(in, 0), GET(other), IF(1, n + 1), MASK(0, 0), GOTO(n + 2), LABEL(n + 1),         \
        MASK(0, WAITED), LABEL(n + 2), CHOOSE(n + 3), MASK(ALL, COMING), SET(OWNER, LEAVING),      \
        KEEP_REL(STATE, 0), SET_REL(OWNER, 0), SET_REL(signal, 1), END, LABEL(n + 3),              \
        KEEP_REL(STATE, 0), SET_REL(signal, 2), END
#define USER(in, signal, in_a, signal_a, in_b, signal_b, back, must)                               \
    CAS(OWNER, 0, LOCKED, 1), GOTO(20), TRIES(in, signal, 1, 0, LABEL(0)),                         \
        TRIES(in, signal, 5, COMING, back), GOTO(5), LABEL(20), GHOST(INSIDE, 1), SURE(INSIDE, 1), \
        GHOST(INSIDE, -1), GET(STATE), UNLESS(0, 21), must, SET(OWNER, LEAVING), GET(STATE),       \
        UNLESS(0, 22), SET_REL(OWNER, 0), END, LABEL(22), SET(OWNER, LOCKED), LABEL(21),           \
        GRAB(STATE), IF_BITS(WAITED | COMING, WAITED, 25), SET(OWNER, LEAVING),                    \
        KEEP_REL(STATE, 0), SET_REL(OWNER, 0), END, LABEL(25), GET(in_a), IF(1, 30),               \
        WAKES(in_b, signal_b, in_a, 40), WAKES(in_a, signal_a, in_b, 30)
    STEPS(a, USER(IN1, SIGNAL1, IN2, SIGNAL2, IN3, SIGNAL3, LABEL(0), LABEL(0)));
    STEPS(b, USER(IN2, SIGNAL2, IN3, SIGNAL3, IN1, SIGNAL1, MUST, LABEL(0)));
    STEPS(c, USER(IN3, SIGNAL3, IN1, SIGNAL1, IN2, SIGNAL2, LABEL(0), MUST));
    explore_within(5, a, b, c);
#undef TRIES
#undef WAKES
#undef USER
}

/* See csp_rwmutex in SYNC. There are a writer and two readers, and each reader goes on with another
 * processor. A reader counts as 2, as in the slots. */
TEST_PLAIN(model, a_rwmutex_lets_in_readers_or_a_writer)
{
    if (under_valgrind()) SKIP("takes 20 s there, and nothing of csp.h runs in it");
    enum {
        S0,
        S1,
        LOCKED,
        ACTIVE,
        WRITING,
        QUEUE1,
        QUEUE2,
        QUEUE3,
        GO1,
        GO2,
        GO3,
        READERS,
        WRITERS
    };
#define FREEZE(n, must)                                                                            \
    GET(S0), IF_ODD(n), LABEL(n + 1), GET(S0), must, CAS_MASK(S0, 255, 1, n + 1), KEEP(ACTIVE, 0), \
        LABEL(n + 2), GET(S1), must, CAS_MASK(S1, 255, 1, n + 2), KEEP_SUM(ACTIVE), LABEL(n)
#define THAW_0 GET(ACTIVE), KEEP_REL(S0, 0), SET_REL(S1, 0)
#define THAW_1 SET_REL(S0, 0), GET(ACTIVE), KEEP_REL(S1, 0)
#define LET_IN(queue, go, n)                                                                       \
    GET(queue), IF(0, n), SET(queue, 0), GET(ACTIVE), KEEP(ACTIVE, 2), SET_REL(go, 1), LABEL(n)
#define NEXT(n, here)                                                                              \
    GET(ACTIVE), UNLESS(0, n), GET(QUEUE3), IF(0, n), SET(QUEUE3, 0), SET(WRITING, 1),             \
        UNLOCK(LOCKED), SET_REL(GO3, 1), END, LABEL(n), GET(QUEUE3), IF(1, n + 1),                 \
        LET_IN(QUEUE1, GO1, n + 2), LET_IN(QUEUE2, GO2, n + 3), GET(ACTIVE), IF(0, n + 1),         \
        THAW_##here, LABEL(n + 1), UNLOCK(LOCKED), END
#define LEAVES_BY_ADDING(other)                                                                    \
    GET(other), IF_ODD(8), IF(0, 8), FETCH_ADD(other, -2), MUST, IF_ODD(8), IF(0, 7), END,         \
        LABEL(7), MUST, FETCH_ADD(other, 2), MUST, IF_ODD(15), GOTO(8), LABEL(15), END
#define LEAVES(other) LABEL(7), GET(other), MUST, IF_ODD(8), IF(0, 8), CAS_ADD(other, -2, 7), END
#define READS(slot, other, queue, go, here, there, leaves)                                         \
    FETCH_ADD(slot, 2), MUST, IF_ODD(2), GOTO(6), LABEL(2), LOCK(LOCKED), GET(S0), IF_ODD(4),      \
        LABEL(3), GET(slot), CAS_ADD(slot, 2, 3), UNLOCK(LOCKED), GOTO(6), LABEL(4), GET(WRITING), \
        MUST, IF(1, 5), GET(QUEUE3), IF(1, 5), GET(ACTIVE), KEEP(ACTIVE, 2), THAW_##here,          \
        UNLOCK(LOCKED), GOTO(6), LABEL(5), SET(queue, 1), UNLOCK(LOCKED), WAIT(go, 1), LABEL(6),   \
        GHOST(READERS, 1), SURE(WRITERS, 0), GHOST(READERS, -1), leaves(other), LABEL(8),          \
        GET(slot), IF_ODD(9), IF(0, 9), CAS_ADD(slot, -2, 8), END, LABEL(9), LOCK(LOCKED),         \
        FREEZE(10, LABEL(0)), GET(ACTIVE), UNLESS(0, 13), SURE(LOCKED, 2), LABEL(13),              \
        KEEP(ACTIVE, -2), GET(ACTIVE), IF(0, 14), UNLOCK(LOCKED), END, LABEL(14), NEXT(20, there)
    STEPS(reads, READS(S0, S1, QUEUE1, GO1, 0, 1, LEAVES_BY_ADDING));
    STEPS(reads_too, READS(S1, S0, QUEUE2, GO2, 1, 0, LEAVES));
    STEPS(writes, LOCK(LOCKED), FREEZE(10, MUST), GET(WRITING), IF(1, 1), GET(ACTIVE), MUST,
          UNLESS(0, 1), SET(WRITING, 1), UNLOCK(LOCKED), GOTO(2), LABEL(1), SET(QUEUE3, 1),
          UNLOCK(LOCKED), WAIT(GO3, 1), LABEL(2), GHOST(WRITERS, 1), SURE(READERS, 0),
          GHOST(WRITERS, -1), LOCK(LOCKED), SET(WRITING, 0), LET_IN(QUEUE1, GO1, 13),
          LET_IN(QUEUE2, GO2, 14), NEXT(20, 0));
    explore_within(3, reads, reads_too, writes);
#undef FREEZE
#undef THAW_0
#undef THAW_1
#undef LET_IN
#undef NEXT
#undef LEAVES_BY_ADDING
#undef LEAVES
#undef READS
}

/* See csp_cond in SYNC. Two threads wait, one of them with a deadline that may pass at any time.
 * When the first signal was used, a second one is for the other thread. MU: the mutex. */
TEST_PLAIN(model, a_signal_wakes_one_that_waits_and_not_one_whose_deadline_has_passed)
{
    enum { MU, COND, STATE, QUEUE1, QUEUE2, TICKET, GO1, GO2, END1 };
    enum { WOKEN = 1, NOT_WOKEN };
    STEPS(waits, LOCK(MU), GET(STATE), IF(1, 9), LOCK(COND), SET(QUEUE2, 1), UNLOCK(COND),
          UNLOCK(MU), WAIT(GO2, 1), LOCK(MU), SURE(STATE, 1), LABEL(9), UNLOCK(MU));
    STEPS(waits_a_while, LOCK(MU), GET(STATE), IF(1, 9), BUG, GOTO(7), LOCK(COND), SET(QUEUE1, 1),
          UNLOCK(COND), UNLOCK(MU), LABEL(1), CHOOSE(2), MUST, CAS(TICKET, 0, 1, 1), LOCK(COND),
          SET(QUEUE1, 0), UNLOCK(COND), SET(END1, NOT_WOKEN), END, LABEL(2), WAIT(GO1, 1), LOCK(MU),
          SURE(STATE, 1), UNLOCK(MU), SET(END1, WOKEN), END, LABEL(7), UNLOCK(MU), LOCK(COND),
          SET(QUEUE1, 1), UNLOCK(COND), WAIT(GO1, 1), SET(END1, WOKEN), END, LABEL(9), UNLOCK(MU),
          SET(END1, NOT_WOKEN));
#define SIGNALS(n, must)                                                                           \
    GET(QUEUE1), UNLESS(0, n), GET(QUEUE2), IF(0, n + 3), LABEL(n), LOCK(COND), GET(QUEUE1),       \
        IF(0, n + 1), SET(QUEUE1, 0), must, CAS(TICKET, 0, 1, n + 1), UNLOCK(COND), must,          \
        SET_REL(GO1, 1), GOTO(n + 3), LABEL(n + 1), GET(QUEUE2), IF(0, n + 2), SET(QUEUE2, 0),     \
        UNLOCK(COND), MUST, SET_REL(GO2, 1), GOTO(n + 3), LABEL(n + 2), UNLOCK(COND), LABEL(n + 3)
    STEPS(signals, LOCK(MU), SET(STATE, 1), UNLOCK(MU), SIGNALS(10, MUST), WAIT_NOT(END1, 0),
          GET(END1), IF(NOT_WOKEN, 30), SIGNALS(20, LABEL(0)), LABEL(30));
    explore_within(4, waits, waits_a_while, signals);
#undef SIGNALS
}

/* See csp_sem in SYNC. A token is released while a thread waits for it with a deadline that may
 * pass at any time, and another thread tries to take it. At the end the token is there. */
TEST_PLAIN(model, a_token_of_a_semaphore_is_neither_lost_nor_given_twice)
{
    enum { LOCKED, FREE_ONES, QUEUED, TICKET, WOKEN };
#define NEXT(n) /* csp__sem_next */                                                                \
    GET(QUEUED), IF(0, n), SET(QUEUED, 0), MUST, CAS(TICKET, 0, 1, n), GET(FREE_ONES),             \
        KEEP(FREE_ONES, -1), UNLOCK(LOCKED), MUST, SET_REL(WOKEN, 1), END, LABEL(n),               \
        UNLOCK(LOCKED)
#define RELEASES(n) LOCK(LOCKED), GET(FREE_ONES), KEEP(FREE_ONES, 1), NEXT(n)
    STEPS(releases, RELEASES(1));
    STEPS(acquires, LOCK(LOCKED), GET(FREE_ONES), IF(0, 1), KEEP(FREE_ONES, -1), UNLOCK(LOCKED),
          GOTO(8), LABEL(1), SET(QUEUED, 1), UNLOCK(LOCKED), CHOOSE(3), LABEL(2), WAIT(WOKEN, 1),
          GOTO(8), LABEL(3), MUST, CAS(TICKET, 0, 1, 2), LOCK(LOCKED), SET(QUEUED, 0),
          UNLOCK(LOCKED), END, LABEL(8), LOCK(LOCKED), GET(FREE_ONES), KEEP(FREE_ONES, 1),
          UNLOCK(LOCKED));
    STEPS(one_is_there, OTHERS_END, SURE(FREE_ONES, 1));
    explore(releases, acquires, one_is_there);
#undef NEXT
#undef RELEASES
}

/* See SELECT. Each of two selects sends on one channel and receives from the other. Each looks and
 * queues itself with both channels locked, in one order. Then it unlocks the channels one after the
 * other. So either the second select takes the first, or neither finds the other. */
TEST_PLAIN(model, two_selects_that_send_and_receive_meet_once)
{
    enum { LOCK1, LOCK2, SENDER1, SENDER2, RECEIVER1, RECEIVER2, TICKET1, TICKET2, GO1, GO2, MET };
#define SELECTS(there_recv, there_send, recv, send, ticket, go, his_ticket, his_go)                \
    BUG, GOTO(7), LOCK(LOCK1), LOCK(LOCK2), LABEL(8), GET(there_recv), IF(1, 1), GET(there_send),  \
        IF(1, 1), SET(send, 1), SET(recv, 1), UNLOCK(LOCK1), UNLOCK(LOCK2), LABEL(5), WAIT(go, 1), \
        GOTO(9), LABEL(1), CAS(his_ticket, 0, 1, 2), SET(there_recv, 0), UNLOCK(LOCK1),            \
        UNLOCK(LOCK2), GHOST(MET, 1), MUST, SET_REL(his_go, 1), GOTO(9), LABEL(2), UNLOCK(LOCK1),  \
        UNLOCK(LOCK2), WRONG, LABEL(7), LOCK(LOCK2), LOCK(LOCK1), GOTO(8), LABEL(9)
    STEPS(one, SELECTS(RECEIVER1, SENDER2, RECEIVER2, SENDER1, TICKET1, GO1, TICKET2, GO2));
    STEPS(another, SELECTS(RECEIVER2, SENDER1, RECEIVER1, SENDER2, TICKET2, GO2, TICKET1, GO1));
    STEPS(they_met_once, OTHERS_END, SURE(MET, 1));
    explore(one, another, they_met_once);
#undef SELECTS
}

/* See WAITERS. A select waits on two channels, and leaves its frame when it has been woken. W1 and
 * W2 are the fields `queued`. IN1 and IN2 say whether the waiter is really in the queue. */
TEST_PLAIN(model, a_stale_waiter_is_taken_out_once_and_not_looked_at_afterwards)
{
    enum { STARTED, FRAME, TICKET, WOKEN, LOCK1, IN1, W1, LOCK2, IN2, W2, FREED };
#define CANCEL(lock, in, w, n, must)                                                               \
    LABEL(n), CAS(w, 1, 2, n + 1), LOCK(lock), SURE(FREED, 0), SET(in, 0), UNLOCK(lock),           \
        GOTO(n + 2), LABEL(n + 1), must, IF(3, n), LABEL(n + 2)
#define SELECTS(must)                                                                              \
    GHOST(IN1, 1), GHOST(W1, 1), GHOST(IN2, 1), GHOST(W2, 1), GHOST(FRAME, 1),                     \
        SET_REL(STARTED, 1), MUST, WAIT(WOKEN, 1), CANCEL(LOCK1, IN1, W1, 1, must),                \
        CANCEL(LOCK2, IN2, W2, 4, MUST), GHOST(FRAME, -1)
#define TAKE_OUT(in, w) SURE(FRAME, 1), SET(in, 0), MUST, SET_REL(w, 0)
#define TAKES(lock, in, w, ...)                                                                    \
    WAIT(STARTED, 1), LOCK(lock), GET(in), IF(0, 9), SURE(FRAME, 1), CAS(TICKET, 0, 1, 2),         \
        SET(in, 0), SET_REL(w, 0), UNLOCK(lock), SURE(FRAME, 1), SET_REL(WOKEN, 1), END, LABEL(2), \
        CAS(w, 1, 3, 9), __VA_ARGS__, LABEL(9), UNLOCK(lock)
    STEPS(selects, SELECTS(MUST));
    STEPS(takes1, TAKES(LOCK1, IN1, W1, BUG, SET_REL(W1, 0), TAKE_OUT(IN1, W1)));
    STEPS(takes2, TAKES(LOCK2, IN2, W2, BUG, SET_REL(W2, 0), TAKE_OUT(IN2, W2)));
    explore(selects, takes1, takes2);
    STEPS(selects_too, SELECTS(LABEL(0)));
    STEPS(takes, TAKES(LOCK1, IN1, W1, LABEL(0)));
    STEPS(frees, WAIT(TICKET, 1), LABEL(1), LOCK(LOCK2), GET(IN2), IF(0, 8), SURE(FRAME, 1),
          CAS(W2, 1, 3, 5), BUG, SET_REL(W2, 0), TAKE_OUT(IN2, W2), LABEL(8), UNLOCK(LOCK2),
          GHOST(FREED, 1), END, LABEL(5), BUG, GOTO(8), MUST, UNLOCK(LOCK2), GOTO(1));
    explore(selects_too, takes, frees);
#undef CANCEL
#undef SELECTS
#undef TAKE_OUT
#undef TAKES
}

#ifndef _WIN32
/* ==========================================================================
 * faults - the n-th request to the system fails, once, or from then on
 * ======================================================================== */

static void fail_from(unsigned kinds, int n, bool on_and_on)
{
    STORE(&fault.kinds, 0);
    fault.on_and_on = on_and_on;
    STORE(&fault.left, n);
    STORE(&fault.failed, 0);
    STORE(&fault.kinds, kinds);
}

static int fail_no_more(void) // how many have failed
{
    STORE(&fault.kinds, 0);
    return LOAD(&fault.failed);
}

/* ---- threads ---- */

TEST_PLAIN(faults, a_thread_that_cannot_be_made_now_is_made_later)
{
    for (int n = 2; n < 6; n++) { // the first one is the monitor
        fail_from(THREADS, n, false);
        csp_run(some_work, NULL);
        CHECK(fail_no_more() == 1 || n > 2);
        CHECK(threads_are_gone());
    }
}

static void says_hello(void *arg)
{
    (void)arg;
    say("hello\n");
}

static void locks_the_only_thread(void *arg)
{
    csp_lock_thread();
    csp_spawn(says_hello, arg);
    csp_recv((int_chan)NULL, NULL);
}

CHILD(no_thread_for_main)
{
    fail_from(THREADS, 2, true);
    csp_run(says_hello, NULL);
}

CHILD(no_thread_beside_a_locked_one)
{
    fail_from(THREADS, 3, true);
    csp_run(locks_the_only_thread, NULL);
}

TEST_PLAIN(faults, without_a_thread_the_program_ends_within_a_second_and_says_why)
{
    static const char *const children[] = {"no_thread_for_main", "no_thread_beside_a_locked_one"};
    for (int i = 0; i < 2; i++) {
        int64_t start = clock_now();
        outcome *o = run_child(children[i], NULL);
        int64_t took = clock_now() - start;
        CHECK_CHILD(o, 2);
        CHECK_HAS(o->text, "fatal: no thread can be made");
        CHECK_HAS(o->text, "\ngoroutine ");
        CHECK(strstr(o->text, "hello\n") == NULL);
        if (!SANITIZED && !emulated() && !under_valgrind()) CHECK(took < 2 * CSP_SECOND);
    }
}

/* One thread must do for processors, blocking calls and long computations, as no other can be made.
 */
static void makes_do(void *arg)
{
    int n = 0, fds[2];
    char byte = 0;
    some_work(arg); // takes four processors
    CHECK(pipe(fds) == 0);
    for (int i = 0; i < 3; i++) {
        int64_t until = clock_now() + 25 * CSP_MILLISECOND;
        for (int k = 0; k < 300; k++) csp_spawn(bump, &n);
        if (i == 0)
            while (clock_now() < until) continue; // the monitor takes the processor
        csp_blocking
        {
            CHECK(write(fds[1], &byte, 1) == 1);
            CHECK(read(fds[0], &byte, 1) == 1);
        }
        EVENTUALLY(LOAD(&n) == 300 * (i + 1));
    }
    csp_sleep(10 * CSP_MILLISECOND);
    CHECK(csp_write(fds[1], "x", 1) == 1 && csp_read(fds[0], &byte, 1) == 1 && byte == 'x');
    close(fds[0]);
    close(fds[1]);
}

/* Threads are made again once that is possible. */
static void gets_threads(void *arg)
{
    static int n;
    csp_stats stats;
    (void)arg;
    csp_procs(4);
    EVENTUALLY(
        (csp_spawn(bump, &n), csp_spawn(bump, &n), csp_get_stats(&stats), stats.threads > 1));
    EVENTUALLY(csp_count() == 1);
}

TEST_PLAIN(faults, with_one_thread_all_go_on_that_can)
{
    fail_from(THREADS, 3, true);
    csp_run(makes_do, NULL);
    CHECK(fail_no_more() > 0);
    fail_from(THREADS, 3, true);
    csp_init(NULL);
    csp_run(makes_do, NULL);
    CHECK(fail_no_more() > 0);
    csp_run(gets_threads, NULL);
}

static void *writes_later(void *fd)
{
    nanosleep(&(struct timespec){0, 20000000}, NULL);
    CHECK(write((int)(intptr_t)fd, "x", 1) == 1);
    return NULL;
}

/* No thread sleeps in the poller: the monitor polls itself. */
TEST_PLAIN(faults, without_a_thread_a_plain_thread_waits_for_descriptors)
{
    int fds[2];
    char byte = 0;
    CHECK(pipe(fds) == 0);
    CHECK_EQ(csp_init(NULL), CSP_OK);
    fail_from(THREADS, 1, true);
    pthread_t writer = thread_start(writes_later, (void *)(intptr_t)fds[1]);
    CHECK(csp_read_until(fds[0], &byte, 1, csp_now() + 20 * CSP_SECOND) == 1 && byte == 'x');
    pthread_join(writer, NULL);
    CHECK(fail_no_more() > 0);
    close(fds[0]);
    close(fds[1]);
}

/* ---- the start ---- */

TEST_PLAIN(faults, a_start_that_fails_says_so_and_leaves_everything_as_it_was)
{
    static const unsigned kinds[] = {MEMORY, PAGES, THREADS, MEMORY | PAGES | THREADS};
    csp_run(some_work, NULL); // the libraries allocate what they keep
    CHECK(threads_are_gone());
    for (int i = 0; i < 8; i++) {
        for (int n = 1, failed = 1, more = 0; failed > 0; n += more == 0) {
            struct sigaction before[2], after[2];
            sigset_t mask, left;
            int fds = descriptors_now(), threads = threads_now();
            size_t size = malloced();
            sigaction(SIGSEGV, NULL, &before[0]);
            sigaction(SIGBUS, NULL, &before[1]);
            pthread_sigmask(SIG_SETMASK, NULL, &mask);
            fail_from(kinds[i / 2], n, i % 2);
            csp_status status = csp_init(&(csp_config){.procs = 3});
            failed = fail_no_more();
            if (status == CSP_OK) {
                csp_shutdown();
            } else {
                CHECK_EQ(status, CSP_NOMEM);
                CHECK(failed > 0);
                CHECK_EQ(descriptors_now(), fds);
                if (!emulated()) CHECK_EQ(threads_now(), threads);
            }
            /* The libc counts what it keeps of freed memory, seven blocks of a size, and allocates
             * for a thread where no ended one's is left. What csp loses it loses each time. */
            more = status != CSP_OK && malloced() > size ? more + 1 : 0;
            CHECK(more < 20);
            sigaction(SIGSEGV, NULL, &after[0]);
            sigaction(SIGBUS, NULL, &after[1]);
            pthread_sigmask(SIG_SETMASK, NULL, &left);
            CHECK(after[0].sa_sigaction == before[0].sa_sigaction);
            CHECK(after[1].sa_sigaction == before[1].sa_sigaction);
            CHECK_EQ(sigismember(&left, SIGUSR1), sigismember(&mask, SIGUSR1));
            CHECK_EQ(csp__sched.running, 0);
            if (kinds[i / 2] == THREADS && n == 1) CHECK_EQ(status, CSP_NOMEM);
        }
        csp_run(some_work, NULL);
        CHECK(threads_are_gone());
    }
}

static int fault_kinds, fault_at; // what the children let fail

CHILD(first_call_without_memory)
{
    fail_from(MEMORY, 1, true);
    csp_count();
    csp_yield();
}

CHILD(first_call_of_another_thread_without_memory)
{
    CHECK_EQ(csp_init(NULL), CSP_OK);
    fail_from(MEMORY, 1, true);
    csp_yield();
}

CHILD(run_without_memory)
{
    fault_kinds = atoi(getenv("FAULT_KINDS") != NULL ? getenv("FAULT_KINDS") : "1");
    fault_at = atoi(getenv("FAULT_AT") != NULL ? getenv("FAULT_AT") : "1");
    fail_from((unsigned)fault_kinds, fault_at, true);
    csp_run(nothing, NULL);
    if (fail_no_more() == 0) say("none failed\n");
}

TEST_PLAIN(faults, a_first_call_without_memory_panics_and_says_so)
{
    outcome *o = run_child("first_call_without_memory", NULL);
    CHECK_HAS(o->text, "panic: csp cannot start: out of memory");
    CHECK_CHILD(o, ABORTED);
    o = run_child("first_call_of_another_thread_without_memory", NULL);
    CHECK_HAS(o->text, "panic: out of memory");
    CHECK_CHILD(o, ABORTED);
}

/* Each allocation of the start fails once: the runtime's, the thread's record, the main goroutine's
 * record, its 8 MiB. */
TEST_PLAIN(faults, a_run_without_memory_for_its_main_goroutine_exits_with_2)
{
    char at[32];
    static const char *const kinds[] = {"FAULT_KINDS=1", "FAULT_KINDS=2"};
    for (int k = 0; k < 2; k++) {
        bool all = false;
        putenv((char *)(uintptr_t)kinds[k]);
        for (int n = 1; n < 40 && !all; n++) {
            snprintf(at, sizeof at, "FAULT_AT=%d", n);
            outcome *o = run_child("run_without_memory", at);
            all = strstr(o->text, "none failed") != NULL;
            if (o->code == 0) continue; // the start did without it
            CHECK_CHILD(o, 2);
            if (strstr(o->text, "fatal: no thread can be made") == NULL) {
                CHECK_HAS(o->text, "panic: ");
                CHECK_HAS(o->text, "out of memory");
            }
        }
        CHECK(all);
    }
    unsetenv("FAULT_KINDS");
}

static void catches_a_run(void *arg)
{
    csp_try
    {
        csp_run(nothing, arg);
    }
    csp_catch(p)
    {
        CHECK_HAS(p->message, "out of memory");
    }
}

TEST_PLAIN(faults, a_run_that_cannot_start_can_be_caught_and_the_next_one_runs)
{
    for (int n = 1, failed = 1; failed > 0; n++) {
        csp_init(NULL);
        csp_id();
        fail_from(PAGES, n, true);
        catches_a_run(NULL);
        failed = fail_no_more();
        csp_run(some_work, NULL);
        csp_shutdown();
        if (n == 1) CHECK(failed > 0);
    }
}

/* ---- each call, while the runtime runs ---- */

/* An act makes some calls. It undoes their effects whether it ends by a return or by a panic for
 * want of memory. A call that waits must not panic. */
typedef struct act {
    const char *name;
    unsigned kinds;
    bool must_do;
    void (*fn)(void);
} act;

#define ACT_CROWD (TSAN ? 30 : 150) /* gcc's thread sanitizer has room for 8,000 stacks, ever */
#define ACT_STEP (TSAN || scale < 0.5 ? 4 : 1) /* a quarter of the points, another one each time */

static void act_waits_for(void *wg)
{
    csp_waitgroup_wait((csp_waitgroup *)wg);
}

static void act_unref(void *c)
{
    csp_x_unref(*(void **)c, NULL);
}

static void act_spawn(void)
{
    int n = 0;
    csp_waitgroup wg = {0};
    csp_defer(act_waits_for, &wg);
    for (int i = 0; i < ACT_CROWD; i++) csp_waitgroup_spawn(&wg, bump, &n);
}

csp_task(act_takes_much, big, b, csp_waitgroup *, wg)
{
    (void)b;
    csp_waitgroup_done(wg);
}

static void act_done(void *wg)
{
    csp_waitgroup_done((csp_waitgroup *)wg);
}

static void act_spawn_sized(void)
{
    static const size_t sizes[] = {0, 6144, 20000, 300000, 5 << 20};
    csp_waitgroup wg = {0};
    csp_defer(act_waits_for, &wg);
    for (int i = 0; i < 5; i++) {
        csp_opts opts = {.name = "named", .stack_size = sizes[i]};
        if (i == 1 && (SANITIZED || UNOPTIMIZED)) continue;
        csp_waitgroup_add(&wg, 1);
        volatile bool begun = false;
        csp_try
        {
            if (i % 2)
                csp_spawn_with(&opts, act_done, &wg);
            else
                csp_go_with(&opts, act_takes_much, (big){.d = 1}, &wg);
            begun = true;
        }
        csp_catch(p)
        {
            CHECK_HAS(p->message, "out of memory");
        }
        if (!begun) csp_waitgroup_done(&wg);
    }
}

static void act_channels(void)
{
    int_chan a = NULL;
    csp_chan(big) b = NULL;
    csp_defer(act_unref, &a);
    csp_defer(act_unref, &b);
    a = csp_make(int, 1000);
    b = csp_make(big, 3);
    csp_send(a, 1);
    CHECK(csp_recv(a, NULL));
    csp_case cases[20];
    for (int i = 0; i < 20; i++) cases[i] = CSP_RECV(a, NULL);
    cases[19] = CSP_DEFAULT;
    CHECK_EQ(csp_select_n(cases, 20), 19);
}

static void act_wake_fd(void)
{
    int_chan c = NULL;
    csp_defer(act_unref, &c);
    c = csp_make(int, 1);
    int fd = csp_wake_fd(c);
    CHECK(fd >= 0 || fd == -ENOMEM || fd == -EMFILE);
}

static void act_timer_free(void *t)
{
    csp_timer_free(*(csp_timer **)t);
}

static void act_ticker_free(void *t)
{
    csp_ticker_free(*(csp_ticker **)t);
}

/* Many timers at once make the heap grow. Each timer that could be made fires. */
static void act_timers(void)
{
    csp_timer *t[100] = {NULL}, *f = NULL;
    csp_ticker *k = NULL;
    static int ran;
    STORE(&ran, 0);
    csp_defer(act_timer_free, &f);
    csp_defer(act_ticker_free, &k);
    k = csp_ticker_new(CSP_HOUR);
    csp_ticker_reset(k, CSP_SECOND);
    f = csp_after_func(10 * CSP_MICROSECOND, bump, &ran);
    EVENTUALLY(LOAD(&ran) == 1);
    if (csp_timer_reset(f, CSP_MICROSECOND)) FAIL("it had fired");
    EVENTUALLY(LOAD(&ran) == 2);
    csp_timer *ended = f;
    f = NULL;
    csp_timer_free(ended);
    f = csp_timer_call(10 * CSP_MICROSECOND, bump, &ran);
    EVENTUALLY(LOAD(&ran) == 3);
    if (csp_timer_reset(f, CSP_MICROSECOND)) FAIL("it had been called");
    EVENTUALLY(LOAD(&ran) == 4);
    csp_try
    {
        for (int i = 0; i < 100; i++) t[i] = csp_timer_new(CSP_HOUR);
    }
    csp_catch(p)
    {
        CHECK_HAS(p->message, "out of memory");
    }
    for (int i = 0; i < 100; i++) csp_timer_free(t[i]);
}

static csp_mutex act_mu;
csp_task(act_waits_all_ways, int_chan, never, csp_waitgroup *, wg)
{
    int64_t t = csp_now() + CSP_MILLISECOND;
    csp_cond cond = {0};
    csp_sem sem = {0};
    csp_mutex mu = {0};
    csp_sleep(CSP_MILLISECOND);
    CHECK_EQ(csp_recv_until(never, NULL, t + CSP_MILLISECOND), CSP_TIMEOUT);
    CHECK_EQ(csp_select(CSP_RECV(never, NULL), CSP_AFTER(CSP_MILLISECOND)), 1);
    CHECK_EQ(csp_mutex_lock_until(&act_mu, csp_now() + CSP_MILLISECOND), CSP_TIMEOUT);
    CHECK_EQ(csp_sem_acquire_until(&sem, 1, csp_now() + CSP_MILLISECOND), CSP_TIMEOUT);
    csp_mutex_lock(&mu);
    CHECK_EQ(csp_cond_wait_until(&cond, &mu, csp_now() + CSP_MILLISECOND), CSP_TIMEOUT);
    csp_mutex_unlock(&mu);
    csp_waitgroup_done(wg);
}

static void act_waits(void)
{
    csp_waitgroup wg = {0};
    unsigned kinds = LOAD(&fault.kinds);
    STORE(&fault.kinds, 0);
    int_chan never = csp_make(int, 0);
    csp_waitgroup_add(&wg, ACT_CROWD);
    csp_mutex_lock(&act_mu);
    for (int i = 0; i < ACT_CROWD; i++) csp_go(act_waits_all_ways, never, &wg);
    STORE(&fault.kinds, kinds);
    csp_sleep(CSP_MILLISECOND);
    CHECK_EQ(csp_waitgroup_wait_until(&wg, csp_now() + 60 * CSP_SECOND), CSP_OK);
    csp_mutex_unlock(&act_mu);
    csp_unref(never);
}

static void act_ctx_unref(void *ctx)
{
    csp_ctx *c = *(csp_ctx **)ctx;
    if (c != NULL) csp_ctx_cancel(c); // its functions are called now
    csp_ctx_unref(c);
}

static int act_works(void *n)
{
    ADD((int *)n, 1);
    return 0;
}

static void act_contexts(void)
{
    csp_ctx *a = NULL, *b = NULL, *c = NULL;
    static int key, ran; // of the one before all have run
    STORE(&ran, 0);
    csp_defer(act_ctx_unref, &a);
    csp_defer(act_ctx_unref, &b);
    csp_defer(act_ctx_unref, &c);
    a = csp_ctx_with_cancel(csp_ctx_background());
    b = csp_ctx_with_value(a, &key, &key);
    c = csp_ctx_with_timeout(b, 100 * CSP_MICROSECOND);
    csp_ctx_on_done(c, bump, &ran);
    uint64_t id = csp_ctx_on_done(c, bump, &ran);
    int stopped = csp_ctx_on_done_stop(c, id) ? 1 : 0;
    csp_recv(csp_ctx_done(c), NULL);
    EVENTUALLY(csp_ctx_status(c) == CSP_TIMEOUT);
    EVENTUALLY(LOAD(&ran) == 2 - stopped);
    csp_ctx_on_done(c, bump, &ran); // at once
    EVENTUALLY(LOAD(&ran) == 3 - stopped);
}

static void act_group(void)
{
    int n = 0;
    volatile int begun = 0;
    csp_group *g = csp_group_new(NULL);
    csp_group_set_limit(g, 5);
    csp_try
    {
        for (int i = 0; i < 100; i++) {
            csp_group_spawn(g, act_works, &n);
            begun++;
        }
    }
    csp_catch(p)
    {
        CHECK_HAS(p->message, "out of memory");
    }
    CHECK_EQ(csp_group_wait(g), 0);
    CHECK_EQ(LOAD(&n), begun);
    csp_group_free(g);
}

static void act_map_free(void *map)
{
    csp_map_free(*(csp_map **)map);
}

static void act_pool_free(void *pool)
{
    csp_pool_free(*(csp_pool **)pool);
}

static bool act_counts(const void *key, void *value, void *n)
{
    (void)key;
    (void)value;
    ++*(int *)n;
    return true;
}

static void act_map_and_pool(void)
{
    static char keys[200];
    csp_map *map = NULL;
    csp_pool *pool = NULL;
    int stored = 0, seen = 0;
    csp_defer(act_map_free, &map);
    csp_defer(act_pool_free, &pool);
    map = csp_map_new(CSP_MAP_POINTERS);
    pool = csp_pool_new(NULL, NULL, NULL);
    csp_pool_put(pool, keys);
    CHECK(csp_pool_get(pool) == keys);
    for (int i = 0; i < 200; i++) {
        csp_map_store(map, &keys[i], &keys[i]);
        CHECK_EQ(csp_map_len(map), ++stored);
    }
    csp_map_range(map, act_counts, &seen);
    CHECK_EQ(seen, stored);
}

static void act_has_locals(void *arg)
{
    static csp_local locals[40];
    csp_waitgroup *wg = (csp_waitgroup *)arg;
    csp_defer(act_done, wg);
    csp_try
    {
        for (int i = 0; i < 40; i++) csp_local_set(&locals[i], wg);
    }
    csp_catch(p)
    {
        CHECK_HAS(p->message, "out of memory");
    }
}

static void act_locals(void)
{
    csp_waitgroup wg = {0};
    csp_defer(act_waits_for, &wg);
    csp_waitgroup_add(&wg, 1);
    volatile bool begun = false;
    csp_try
    {
        csp_spawn(act_has_locals, &wg);
        begun = true;
    }
    csp_catch(p)
    {
        CHECK_HAS(p->message, "out of memory");
    }
    if (!begun) csp_waitgroup_done(&wg);
}

static bool act_refused(int64_t result)
{
    return result == -ENOMEM || result == -EMFILE;
}

static void act_pipe(void)
{
    int fds[2];
    char byte = 'a';
    CHECK(pipe(fds) == 0);
    csp_ssize n = csp_write(fds[1], &byte, 1);
    CHECK(n == 1 || act_refused(n));
    csp_ssize k = csp_read_until(fds[0], &byte, 1, csp_now() + CSP_MILLISECOND);
    CHECK(act_refused(k) || k == (n == 1 ? 1 : -ETIMEDOUT));
    int is = csp_wait_fd(fds[1], CSP_WRITABLE);
    CHECK(is == CSP_WRITABLE || act_refused(is));
    csp_close_fd(fds[0]);
    csp_close_fd(fds[1]);
    close(fds[0]); // should they have failed
    close(fds[1]);
}

static void act_close(void *fd)
{
    int i = *(int *)fd;
    if (i >= 0) csp_close_fd(i);
}

static void act_sockets(void)
{
    csp_address address;
    char byte = 'a';
    int listener = -1, client = -1, server = -1;
    csp_defer(act_close, &listener);
    csp_defer(act_close, &client);
    csp_defer(act_close, &server);
    listener = csp_listen("127.0.0.1:0");
    if (listener < 0) {
        CHECK(act_refused(listener));
        return;
    }
    CHECK_EQ(csp_local_address(listener, &address), 0);
    client = csp_dial(address.text);
    CHECK(client >= 0 || act_refused(client));
    server = csp_accept_until(listener, client < 0 ? 0 : csp_now() + CSP_SECOND);
    CHECK(server >= 0 || act_refused(server) || client < 0);
    if (client < 0 || server < 0) return;
    csp_ssize n = csp_write_full(client, &byte, 1), k = 0;
    CHECK(n == 1 || act_refused(n));
    if (n == 1) k = csp_read(server, &byte, 1);
    CHECK(n < 0 || k == 1 || act_refused(k));
}

static void act_notify(void)
{
    int_chan c = NULL;
    csp_defer(act_unref, &c);
    c = csp_make(int, 1);
    csp_notify(c, SIGUSR1);
    csp_notify_stop(c);
}

static void act_trace(void)
{
    int error = csp_trace_start("/dev/null");
    CHECK(error == 0 || (error < 0 && fault.failed > 0));
    csp_yield();
    csp_trace_stop();
}

static const act acts[] = {
    {"spawn", MEMORY, false, act_spawn},
    {"spawn", PAGES, false, act_spawn},
    {"spawn", GUARDS, true, act_spawn},
    {"spawn with sizes", MEMORY, false, act_spawn_sized},
    {"spawn with sizes", PAGES, false, act_spawn_sized},
    {"spawn with sizes", GUARDS, true, act_spawn_sized},
    {"channels", MEMORY, false, act_channels},
    {"wake_fd", MEMORY, false, act_wake_fd},
    {"wake_fd", DESCRIPTORS, true, act_wake_fd},
    {"timers", MEMORY, false, act_timers},
    {"timers", PAGES, false, act_timers},
    {"waits", MEMORY | PAGES, true, act_waits},
    {"contexts", MEMORY, false, act_contexts},
    {"contexts", PAGES, false, act_contexts},
    {"group", MEMORY, false, act_group},
    {"group", PAGES, false, act_group},
    {"map and pool", MEMORY, false, act_map_and_pool},
    {"locals", MEMORY, false, act_locals},
    {"pipe", MEMORY, true, act_pipe},
    {"pipe", DESCRIPTORS, true, act_pipe},
    {"sockets", MEMORY, true, act_sockets},
    {"sockets", DESCRIPTORS, true, act_sockets},
    {"notify", MEMORY, false, act_notify},
    {"notify", DESCRIPTORS, false, act_notify},
    {"trace", MEMORY | PAGES, true, act_trace},
    {"trace", DESCRIPTORS, true, act_trace},
    {"threads", THREADS, true, act_spawn},
};

/* An event that was set up needs no memory when it happens. */
TEST(faults, what_has_been_set_up_fires_without_memory)
{
    int ran = 0;
    csp_ctx *ctx = csp_ctx_with_timeout(csp_ctx_background(), 2 * CSP_MILLISECOND), *c[300];
    csp_timer *t[300];
    for (int i = 0; i < crowd(300); i++) {
        t[i] = csp_after_func(CSP_MILLISECOND, bump, &ran);
        c[i] = csp_ctx_with_cancel(ctx);
        csp_ctx_on_done(c[i], bump, &ran);
    }
    csp_receiver(bool) done = csp_ctx_done(ctx);
    fail_from(MEMORY | PAGES, 1, true);
    CHECK(!csp_recv(done, NULL));
    EVENTUALLY(LOAD(&ran) == 2 * crowd(300));
    fail_no_more();
    for (int i = 0; i < crowd(300); i++) {
        csp_timer_free(t[i]);
        csp_ctx_unref(c[i]);
    }
    csp_ctx_unref(ctx);
}

/* True when the act came to its end. */
static bool act_tried(const act *a)
{
    volatile bool fine = false;
    csp_try
    {
        a->fn();
        fine = true;
    }
    csp_catch(p)
    {
        if (strstr(p->message, "out of memory") == NULL) FAIL("%s: %s", a->name, p->message);
    }
    return fine;
}

/* The n-th request fails, for each n. Afterwards the same act succeeds. The runtime is a new one
 * each time, so that it has kept nothing from earlier acts. */
static const act *acts_on;
static int acts_failed, acts_own; // goroutines that there are meanwhile

static void act_with_fault(void *at)
{
    fail_from(acts_on->kinds, abs(*(int *)at), *(int *)at < 0);
    bool fine = act_tried(acts_on);
    acts_failed = fail_no_more();
    if (!fine && (acts_failed == 0 || acts_on->must_do))
        FAIL("%s: panics although %d failed", acts_on->name, acts_failed);
    EVENTUALLY(csp_count() == acts_own);
    if (!act_tried(acts_on)) FAIL("%s: does not go on", acts_on->name);
    EVENTUALLY(csp_count() == acts_own);
}

static void acts_all(bool goroutine, int from, int to)
{
    int points = 0;
    uint64_t s = stream(0);
    acts_own = goroutine ? 1 : 0;
    for (int i = from; i < to; i++) {
        acts_on = &acts[i];
        int fds = 0;
        for (int on = 0; on < 2; on++) {
            acts_failed = 1;
            for (int n = 1 + (int)below(&s, ACT_STEP); acts_failed > 0; n += ACT_STEP, points++) {
                int at = on ? -n : n;
                if (n > 500) FAIL("%s: no end of faults", acts_on->name);
                if (goroutine) {
                    csp_run(act_with_fault, &at);
                } else {
                    int ran = 0;
                    csp_spawn(bump, &ran); // there is a thread for goroutines
                    EVENTUALLY(LOAD(&ran) == 1);
                    act_with_fault(&at);
                    csp_shutdown();
                }
                if (fds == 0) fds = descriptors_now();
                if (descriptors_now() != fds)
                    FAIL("%s: leaves descriptors open, fault %d", acts_on->name, at);
            }
        }
    }
    CHECK(points > 0);
}

TEST_PLAIN(faults, whatever_fails_in_a_goroutine_is_answered_and_the_program_goes_on)
{
    acts_all(true, 0, (int)(sizeof acts / sizeof acts[0]));
}

TEST_PLAIN(faults, whatever_fails_in_a_thread_is_answered_and_the_program_goes_on)
{
#ifndef __clang__
    if (TSAN) SKIP("the starts of so many runtimes need more fibers than the 8,128 of gcc's tool");
#endif
    acts_all(false, 0, (int)(sizeof acts / sizeof acts[0]));
}

/* ==========================================================================
 * oom - out of memory
 * ======================================================================== */

static void limit_memory(int64_t more)
{
    struct rlimit limit;
    limit.rlim_cur = limit.rlim_max =
        (rlim_t)(address_space() * sysconf(_SC_PAGESIZE)) + (rlim_t)more;
    CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

static void spawns_until_memory_ends(void *arg)
{
    int_chan gate = csp_make(int, 0);
    static int n, ran;
    volatile bool caught = false;
    (void)arg;
    csp_procs(1);
    for (int i = 0; i < 100; i++) csp_spawn(bump, &ran);
    EVENTUALLY(LOAD(&ran) == 100);
    limit_memory(100 << 20);
    for (int round = 0; round < 3; round++) {
        caught = false;
        csp_try
        {
            for (int i = 0; i < 2000000; i++) {
                csp_go(counts, gate, &n);
                ran++;
            }
        }
        csp_catch(p)
        {
            CHECK_HAS(p->message, "out of memory (");
            caught = true;
        }
        CHECK(caught);
        CHECK(ran >= 100 && csp_count() == ran - 100 + 1);
        for (int i = 0; i < 100; i++) // it starts a goroutine that asks for the name
            CHECK_EQ(csp_dial("localhost:9"), -ENOMEM);
        int_chan old = gate;
        for (int i = 100; i < ran; i++) csp_send(gate, 1); // all that were started run to their end
        EVENTUALLY(csp_count() == 1);
        CHECK_EQ(LOAD(&n), ran - 100);
        CHECK(gate == old);
        n = 0;
        ran = 100;
    }
    say("fine\n");
}

static void makes_until_memory_ends(void *arg)
{
    static int_chan c[10000];
    volatile int made = 0;
    int v = 0;
    (void)arg;
    limit_memory(64 << 20);
    CHECK_PANICS("out of memory (",
                 (void)csp_make(char, (int64_t)1 << (sizeof(size_t) > 4 ? 40 : 30)));
    CHECK_PANICS("out of memory (", (void)csp_make(big, 1 << 20));
    csp_try
    {
        while (made < 10000) {
            c[made] = csp_make(int, 1 << 18);
            made++;
        }
    }
    csp_catch(p)
    {
        CHECK_HAS(p->message, "out of memory (");
    }
    CHECK(made > 0 && made < 10000);
    for (int i = 0; i < made; i++) {
        csp_send(c[i], i);
        CHECK(csp_recv(c[i], &v) && v == i);
        csp_unref(c[i]);
    }
    csp_unref(csp_make(int, 1 << 18));
    say("fine\n");
}

/* When told, waits in one of three ways, for which there is always memory. Or makes a timer.
 * Reports whether that succeeded. */
csp_task(waits_a_while, int, way, csp_receiver(int), gate, csp_receiver(int), never,
         csp_sender(bool), fine)
{
    volatile bool waited = false;
    csp_recv(gate, NULL);
    csp_try
    {
        if (way == 0) csp_sleep(20 * CSP_MILLISECOND);
        if (way == 1) csp_recv_until(never, NULL, csp_now() + 20 * CSP_MILLISECOND);
        if (way == 2) csp_select(CSP_RECV(never, NULL), CSP_AFTER(20 * CSP_MILLISECOND));
        if (way == 3) csp_timer_free(csp_timer_new(20 * CSP_MILLISECOND));
        waited = true;
    }
    csp_catch(p)
    {
        CHECK_HAS(p->message, "out of memory (");
        CHECK_EQ(way, 3);
    }
    csp_send(fine, waited);
}

static void waits_without_memory(void *arg)
{
    enum { N = 200 };
    int_chan gate = csp_make(int, 0), never = csp_make(int, 0);
    csp_chan(bool) fine = csp_make(bool, N);
    void *all = NULL;
    int waited = 0;
    bool one;
    (void)arg;
    csp_procs(1);
    for (int i = 0; i < N; i++)
        csp_go(waits_a_while, i % 4, csp_recv_end(gate), csp_recv_end(never), csp_send_end(fine));
    csp_yield();
    csp_sleep(CSP_MILLISECOND); // the first 64 places for timers
    limit_memory(0);
    for (size_t size = 1 << 20; size >= 64; size /= 2)
        for (void **p; (p = (void **)malloc(size)) != NULL; all = p) *p = all;
    for (int i = 0; i < N; i++) csp_send(gate, 1);
    for (int i = 0; i < N; i++) waited += csp_recv(fine, &one) && one;
    for (void *next; all != NULL; all = next) {
        next = *(void **)all;
        free(all);
    }
    if (waited < N * 3 / 4 || waited == N) FAIL("%d of %d waited", waited, N);
    csp_sleep(CSP_MILLISECOND);
    csp_unref(gate);
    csp_unref(never);
    csp_unref(fine);
    say("fine\n");
}

CHILD(oom_in_spawn)
{
    csp_run(spawns_until_memory_ends, NULL);
}
CHILD(oom_in_make)
{
    csp_run(makes_until_memory_ends, NULL);
}

CHILD(oom_in_waits)
{
    csp_run(waits_without_memory, NULL);
}

TEST_PLAIN(oom, spawn_panics_and_what_was_started_goes_on)
{
    if (emulated()) SKIP("an emulator lives in the same address space");
    if (SANITIZED) SKIP("a sanitizer's address space cannot be limited");
    outcome *o = run_child("oom_in_spawn", NULL);
    CHECK_CHILD(o, 0);
    CHECK_HAS(o->text, "fine");
}

TEST_PLAIN(oom, make_panics_and_nothing_is_lost)
{
    if (emulated()) SKIP("an emulator lives in the same address space");
    if (SANITIZED) SKIP("a sanitizer's address space cannot be limited");
    outcome *o = run_child("oom_in_make", NULL);
    CHECK_CHILD(o, 0);
    CHECK_HAS(o->text, "fine");
}

TEST_PLAIN(oom, a_wait_needs_no_memory_and_a_timer_that_gets_none_panics)
{
    if (emulated()) SKIP("an emulator lives in the same address space");
    if (SANITIZED) SKIP("a sanitizer's address space cannot be limited");
    outcome *o = run_child("oom_in_waits", "MALLOC_ARENA_MAX=1");
    CHECK_CHILD(o, 0);
    CHECK_HAS(o->text, "fine");
}
#endif

#endif // CSP_TEST_FEW < 1
