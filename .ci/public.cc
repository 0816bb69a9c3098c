/* public.cc - the public half of csp.h as C++11 and up; the implementation is in a C file beside
 * it. Prints "public: ok". */
#include "csp.h"
#include "csp.h" // any number of times

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                           \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (0)

struct point {
    int x, y;
};

csp_task(nothing) {}

csp_task(count_to, csp_sender(int), out, int, n)
{
    for (int i = 0; i < n; i++) csp_send(out, i);
    csp_close(out);
}

csp_task(square, csp_receiver(int), in, csp_sender(int), out)
{
    csp_range(v, in) csp_send(out, v * v);
    csp_close(out);
}

csp_task_declare(later, csp_sender(int), out);

csp_task(sooner, csp_sender(int), out)
{
    csp_go(later, out);
}

csp_task(later, csp_sender(int), out)
{
    csp_send(out, 8);
}

csp_task(eight, int, a, long, b, char, c, double, d, const char *, e, point, f, bool, g,
         csp_sender(bool), out)
{
    csp_send(out, a == 1 && b == 2 && c == '3' && d > 3.9 && std::strcmp(e, "five") == 0 &&
                      f.y == 6 && g);
}

static void plain(void *arg)
{
    csp_send(*static_cast<csp_chan(int) *>(arg), 7);
}

static void bump(void *counter)
{
    __atomic_add_fetch(static_cast<int *>(counter), 1, __ATOMIC_SEQ_CST);
}

CSP_CHAN_STATIC(int, mailbox, 2);

static void channels()
{
    csp_chan(int) naturals = csp_make(int, 0), squares = csp_make(int, 2);
    int sum = 0, v = 0;
    csp_go(nothing);
    csp_go(count_to, csp_send_end(naturals), 10);
    csp_go(square, csp_recv_end(naturals), csp_send_end(squares));
    csp_range(s, squares) sum += s;
    CHECK(sum == 285 && csp_cap(squares) == 2 && csp_len(squares) == 0);
    csp_unref(naturals);
    csp_unref(squares);

    csp_chan(bool) done = csp_make(bool, 0);
    bool ok = false;
    csp_go(eight, 1, 2, '3', 4.0, "five", (point{5, 6}), true, csp_send_end(done));
    CHECK(csp_recv(done, &ok) && ok);
    csp_unref(done);

    csp_chan(int) c = csp_make(int, 0);
    csp_opts opts = csp_opts();
    opts.name = "named";
    CHECK(csp_spawn(plain, &c) != 0 && csp_recv(c, &v) && v == 7);
    CHECK(csp_spawn_with(&opts, plain, &c) != 0 && csp_recv(c, nullptr));
    csp_go_with(&opts, sooner, csp_send_end(c));
    CHECK(csp_recv(c, &v) && v == 8);
    csp_chan(csp_chan(int)) carrier = csp_make(csp_chan(int), 1);
    csp_chan(int) same = nullptr;
    csp_send(carrier, csp_ref(c));
    CHECK(csp_recv(carrier, &same) && same == c);
    csp_unref(same);
    csp_unref(carrier);
    csp_unref(c);

    csp_chan(point) points = csp_make(point, 1);
    point p = {0, 0};
    CHECK(csp_try_recv(points, &p) == CSP_AGAIN);
    CHECK(csp_try_send(points, (point{1, 2})) == CSP_OK && csp_try_send(points, p) == CSP_AGAIN);
    CHECK(csp_send_until(points, p, csp_now()) == CSP_TIMEOUT);
    CHECK(csp_try_recv(points, &p) == CSP_OK && p.y == 2);
    CHECK(csp_recv_until(points, &p, csp_now() + CSP_MILLISECOND) == CSP_TIMEOUT);
    csp_close(points);
    CHECK(csp_try_recv(points, &p) == CSP_CLOSED && csp_try_send(points, p) == CSP_CLOSED);
    csp_unref(points);
    csp_send(mailbox, 1);
    CHECK(csp_len(mailbox) == 1 && csp_recv(mailbox, &v) && v == 1);
    CHECK(csp_wake_fd(mailbox) >= 0);
}

static void selecting()
{
    csp_chan(int) a = csp_make(int, 1), never = nullptr;
    csp_chan(point) b = csp_make(point, 1);
    int v = 0;
    point p = {0, 0};
    bool ok = false;
    CHECK(csp_select(CSP_RECV(a, &v), CSP_RECV(never, &v), CSP_DEFAULT) == 2);
    CHECK(csp_select(CSP_RECV(a, &v), CSP_AFTER(CSP_MILLISECOND)) == 1);
    CHECK(csp_select(CSP_RECV(a, &v), CSP_UNTIL(csp_now())) == 1);
    CHECK(csp_select(CSP_RECV(a, &v), CSP_SEND(b, (point{5, 6}))) == 1);
    CHECK(csp_select(CSP_RECV(b, &p, &ok), CSP_RECV(a, &v)) == 0 && ok && p.x == 5);
    csp_send(a, 1);
    csp_send(b, p);
    CHECK(csp_select_first(CSP_RECV(b, &p), CSP_RECV(a, &v)) == 0);
    csp_case cases[] = {CSP_RECV(a, &v), CSP_RECV(b, &p), CSP_SEND_PTR(b, &p)};
    CHECK(csp_select_n(cases, 2) == 0 && v == 1 && csp_select_n(cases + 2, 1) == 0);
    CHECK(csp_select(CSP_RECV(never, &v), CSP_FD(1 << 30, CSP_READABLE)) == 1); // no such one
    CHECK(csp_select(CSP_FD(csp_wake_fd(a), CSP_READABLE), CSP_DEFAULT) == 1);
    csp_unref(a);
    csp_unref(b);
}

static void rest()
{
    csp_timer *t = csp_timer_new(CSP_MILLISECOND);
    int64_t fired = 0;
    CHECK(csp_recv(csp_timer_chan(t), &fired) && fired > 0 && !csp_timer_stop(t));
    CHECK(!csp_timer_reset(t, CSP_HOUR) && csp_timer_stop(t));
    csp_timer_free(t);
    csp_ticker *k = csp_ticker_new(CSP_MILLISECOND);
    CHECK(csp_recv(csp_ticker_chan(k), &fired));
    csp_ticker_stop(k);
    csp_ticker_free(k);
    static csp_timer_store store;
    csp_timer_free(csp_timer_new_in(&store, CSP_HOUR));
    csp_ticker_free(csp_ticker_new_in(&store, CSP_HOUR));
    int n = 0;
    csp_timer *f = csp_after_func(0, bump, &n);
    while (__atomic_load_n(&n, __ATOMIC_SEQ_CST) == 0) csp_yield();
    csp_timer_free(f);
    f = csp_timer_call(0, bump, &n);
    while (__atomic_load_n(&n, __ATOMIC_SEQ_CST) == 1) csp_yield();
    csp_timer_free(f);

    csp_chan(int) closed = csp_make(int, 0);
    csp_close(closed);
    bool caught = false;
    {
        csp_try
        {
            csp_send(closed, 1);
        }
        csp_catch(panic)
        {
            caught = std::strstr(panic->message, "send on closed channel") != nullptr;
        }
    }
    CHECK(caught);
    {
        csp_defer(bump, &n);
    }
    CHECK(n == 3);
    {
        csp_defer(csp_unref, csp_ref(closed));
    }
    csp_unref(closed);
    static csp_local local;
    csp_local_set(&local, &n);
    CHECK(csp_local_get(&local) == &n);
    csp_stats s;
    csp_get_stats(&s);
    CHECK(s.goroutines >= 1 && csp_count() >= 1 && csp_id() != 0 && csp_procs(0) >= 1);
    CHECK(std::strcmp(csp_status_name(CSP_TIMEOUT), "timeout") == 0);
}

csp_task(tree, int, n, long *, leaves)
{
    long left = 0, right = 0;
    if (n == 0) {
        *leaves = 1;
        return;
    }
    csp_fork(other, tree, n - 1, &left);
    tree(n - 1, &right);
    csp_join(other);
    *leaves = left + right;
}

csp_task(fills, int64_t, from, int64_t, to, char *, marks)
{
    for (int64_t i = from; i < to; i++) marks[i]++;
}

static void forks()
{
    long leaves = 0;
    char marks[1000] = {0};
    tree(10, &leaves);
    CHECK(leaves == 1024);
    csp_for(0, 1000, 0, fills, marks);
    for (char c : marks) CHECK(c == 1);
    bool caught = false;
    {
        csp_try
        {
            csp_fork(never, tree, 3, &leaves);
            csp_for(1, 0, 0, fills, marks);
        }
        csp_catch(panic)
        {
            caught = std::strstr(panic->message, "csp_for") != nullptr;
        }
    }
    CHECK(caught && leaves == 8);
}

/* What csp_exit, a panic and an exception leave behind: objects, calls of csp_defer and catch
 * blocks write a letter each into `trail`. */
static std::string trail;

struct named {
    const char *name;
    explicit named(const char *n) : name(n) {}
    ~named()
    {
        trail += name;
    }
};

static void note(void *name)
{
    trail += static_cast<const char *>(name);
}

static char B[] = "b", D[] = "d", F[] = "f";
enum how { EXITS, PANICS, THROWS };

static void innermost(how h)
{
    named a("a");
    csp_defer(note, B);
    named c("c");
    csp_yield(); // it may go on with another thread
    if (h == EXITS) csp_exit();
    if (h == PANICS) csp_panic("bad");
    throw std::runtime_error("thrown");
}

static void through_catch(how h)
{
    csp_defer(note, D);
    try {
        named e("e");
        innermost(h);
    } catch (const std::exception &) {
        trail += "X";
        throw;
    } catch (...) { // takes csp_exit and panics, too, and has to throw them on
        trail += ".";
        throw;
    }
}

csp_task(leaves, int, h, csp_waitgroup *, all)
{
    csp_defer(csp_waitgroup_done, all);
    named g("g");
    csp_defer(note, F);
    through_catch(static_cast<how>(h));
}

__attribute__((noinline)) static void swallows()
{
    try {
        innermost(PANICS);
    } catch (...) {
    }
}

static void dies(const char *what)
{
    csp_waitgroup all = csp_waitgroup();
    if (std::strcmp(what, "throws") == 0) {
        csp_waitgroup_add(&all, 1);
        csp_go(leaves, THROWS, &all);
        csp_waitgroup_wait(&all);
    }
    csp_try
    {
        swallows();
    }
    csp_catch(p)
    {
        std::puts(p->message);
    }
}

static void catches_panic(int depth)
{
    named h("h");
    csp_try
    {
        if (depth == 0) through_catch(PANICS);
        catches_panic(depth - 1);
        csp_panic("outer");
    }
    csp_catch(p)
    {
        trail += std::string("[") + p->message + "]";
    }
    trail += depth == 0 ? "0" : "1";
}

static bool ends_with_dump(const std::string &program, const char *what, const char *message)
{
    char line[300];
    bool said = false, dumped = false;
    FILE *f = popen((program + " " + what + " 2>&1").c_str(), "r");
    CHECK(f != nullptr);
    while (std::fgets(line, sizeof line, f) != nullptr) {
        if (std::strstr(line, message) != nullptr) said = true;
        if (std::strncmp(line, "goroutine ", 10) == 0) dumped = true;
    }
    return pclose(f) == 2 << 8 && said && dumped; // exit status 2
}

static inline void inlined()
{
    named a("a");
    csp_defer(note, B);
    named c("c");
    csp_panic("here");
}

static void panics_in_place() // what is destroyed in csp_try's own function
{
    named i("i");
    csp_try
    {
        named l("l");
        {
            named j("j");
        }
        trail = "k";
        inlined();
    }
    csp_catch(p)
    {
        trail += std::string("[") + p->message + "]";
    }
}

static bool trail_is(const char *expected)
{
#if defined(__SANITIZE_ADDRESS__) || CSP_X_HAS(address_sanitizer)
    return trail.size() == std::strlen(expected); // it moves what the defers' order is told from
#else
    return trail == expected;
#endif
}

static void unwinding(const char *program)
{
    csp_waitgroup all = csp_waitgroup();
    for (int i = 0; i < 100; i++) {
        trail = "";
        csp_waitgroup_go(&all, leaves, static_cast<int>(EXITS), &all);
        csp_waitgroup_add(&all, 1);
        csp_waitgroup_wait(&all);
        CHECK(trail_is("cbae.dfg"));
        trail = "";
        catches_panic(0);
        CHECK(trail_is("cbae.d[bad]0h"));
        trail = "";
        catches_panic(1); // one csp_try within another
        CHECK(trail_is("cbae.d[bad]0h[outer]1h"));
        trail = "";
        panics_in_place();
        CHECK(trail_is("kcbal[here]i"));
    }
    CHECK(ends_with_dump(program, "throws",
                         "panic: uncaught C++ exception of type std::runtime_error"));
    CHECK(ends_with_dump(program, "swallows", "catch (...) has caught csp_exit or a panic"));
}

csp_main(argc, argv)
{
    CHECK(argc >= 1 && argv[0] != nullptr);
    if (argc > 1) {
        dies(argv[1]);
        return 0;
    }
    unwinding(argv[0]);
    channels();
    selecting();
    rest();
    forks();
    std::printf("public: ok\n");
    return 0;
}
