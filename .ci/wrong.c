/* wrong.c - what must not compile: `cc -DWRONG=n` for each n; with WRONG=0 everything is right.
 * The ones marked "in C++" are only there, those marked "in C" only in C. In those marked "by
 * option" no macro of csp is at fault: in C they are warnings or errors as the compiler's options
 * say, whatever csp.h wants for its own macros. wrong.txt has the first line that each compiler
 * says of each. */
#include "csp.h"

typedef struct pair {
    int a, b;
} pair;

csp_task(task, int, n, csp_sender(int), out)
{
    csp_send(out, n);
}

csp_task(simple)
{
}

csp_task(part, int64_t, from, int64_t, to, long, l)
{
    (void)(from + to + l);
}

csp_group_task(work, int, n)
{
    return n;
}

static void plain(void *arg)
{
    (void)arg;
}

static void of_two(void *a, int b)
{
    (void)a, (void)b;
}

#if WRONG == 53 // a task's parameters: nine
csp_task(nine, int, a, int, b, int, c, int, d, int, e, int, f, int, g, int, h, int, i)
{
}
#elif WRONG == 54 // no comma
csp_task(no_comma, int n)
{
}
#elif WRONG == 58 // an array, in C
csp_task(sum_up, int[4], a)
{
    (void)a;
}
#elif WRONG == 56 // types in csp_main
csp_main(int argc, char **argv)
{
    return 0;
}
#endif

#if defined(__cplusplus) && WRONG != 0
struct owner { // of something, as std::string is: its bytes are not all of it
    owner();
    owner(const owner &);
    ~owner();
    char *text;
};
static csp_chan(owner) owners;
static owner one;
#if WRONG == 38 // in C++
csp_task(keeps, owner, o)
{
    (void)o;
}
#elif WRONG == 39 // in C++
csp_task(keeps, int, n, const owner, o)
{
    (void)n, (void)o;
}
#elif WRONG == 40 // in C++
CSP_CHAN_STATIC(owner, mailbox, 1);
#endif
#endif

void use(csp_chan(int) c, csp_sender(int) s, csp_receiver(int) r, csp_chan(pair) pairs,
         csp_chan(char *) strings);

void use(csp_chan(int) c, csp_sender(int) s, csp_receiver(int) r, csp_chan(pair) pairs,
         csp_chan(char *) strings)
{
    int v = 0;
    long l = 0;
    bool ok = false;
    char *text = NULL;
    pair p = {1, 2};
    static csp_waitgroup wg;
    csp_group *group = csp_group_new(NULL);
    csp_send(s, v);
    csp_send(pairs, p);
    csp_send(strings, text);
    csp_send(strings, NULL);
    csp_recv(r, &v);
    csp_close(s);
    csp_go(task, v, s);
    csp_go(simple);
    csp_waitgroup_go(&wg, task, v, s);
    csp_waitgroup_spawn(&wg, plain, NULL);
    csp_group_go(group, work, v);
    csp_defer(plain, text);
    csp_fork(right, task, v, s);
    csp_join(right);
    csp_for(0, v, 0, part, l);
    of_two(text, v);
    csp_select(CSP_RECV(r, &v, &ok), CSP_SEND(s, v), CSP_SEND_PTR(c, &v), CSP_RECV(c, NULL),
               CSP_AFTER(l));
    csp_select(CSP_RECV(r), CSP_AFTER(l));
#if WRONG == 1 // send on a receiver
    csp_send(r, v);
#elif WRONG == 2
    csp_try_send(r, v);
#elif WRONG == 3
    csp_send_until(r, v, CSP_FOREVER);
#elif WRONG == 4 // close of a receiver
    csp_close(r);
#elif WRONG == 5 // receive from a sender
    csp_recv(s, &v);
#elif WRONG == 6
    csp_try_recv(s, &v);
#elif WRONG == 7
    csp_recv_until(s, &v, CSP_FOREVER);
#elif WRONG == 8
    csp_range(x, s) v = x;
#elif WRONG == 9 // widening
    csp_send(csp_send_end(r), v);
#elif WRONG == 10
    csp_recv(csp_recv_end(s), &v);
#elif WRONG == 11 // wrong value
    csp_send(c, p);
#elif WRONG == 12
    csp_send(pairs, v);
#elif WRONG == 13
    csp_try_send(c, &v);
#elif WRONG == 14
    csp_send_until(c, text, CSP_FOREVER);
#elif WRONG == 15 // wrong destination
    csp_recv(c, &l);
#elif WRONG == 16
    csp_try_recv(pairs, &v);
#elif WRONG == 17
    csp_recv_until(c, &text, CSP_FOREVER);
#elif WRONG == 18 // the same in select
    csp_select(CSP_SEND(r, v), CSP_AFTER(l));
#elif WRONG == 19
    csp_select(CSP_RECV(s, &v), CSP_AFTER(l));
#elif WRONG == 20
    csp_select(CSP_SEND(c, p), CSP_AFTER(l));
#elif WRONG == 21
    csp_select_first(CSP_RECV(c, &p), CSP_AFTER(l));
#elif WRONG == 22
    csp_select(CSP_SEND_PTR(r, &v), CSP_AFTER(l));
#elif WRONG == 23
    csp_select(CSP_SEND_PTR(c, &p), CSP_AFTER(l));
#elif WRONG == 24 // a goroutine's arguments
    csp_go(task, p, s);
#elif WRONG == 25
    csp_go(task, v);
#elif WRONG == 26
    csp_go(task, v, s, v);
#elif WRONG == 27
    csp_send(strings, l);
#elif WRONG == 28 // no value
    csp_send(c);
#elif WRONG == 29
    csp_send(strings, &v);
#elif WRONG == 30
    csp_go(task, v, r);
#elif WRONG == 31 // by option
    s = r;
#elif WRONG == 32
    csp_recv(csp_make(long, 0), &v);
#elif WRONG == 33 // by option
    c = csp_make(long, 0);
#elif WRONG == 34
    csp_go(task, text, s);
#elif WRONG == 35
    csp_send(strings, 7);
#elif WRONG == 36
    csp_recv(r, v);
#elif WRONG == 37 // more than there is
    csp_select(CSP_RECV(r, &v, &ok, &l), CSP_AFTER(l));
#elif WRONG == 69 // an operand of CSP_RECV
    csp_select(CSP_RECV(r, &v, &v), CSP_AFTER(l));
#elif WRONG == 70 // functions and options of a wrong type
    csp_spawn(of_two, text);
#elif WRONG == 71
    csp_go_with(&p, simple);
#elif WRONG == 72
    csp_after_func(l, work, text);
#elif WRONG == 73
    csp_waitgroup_go(group, simple);
#elif WRONG == 74 // by option
    v = text;
#elif WRONG == 52 // no task
    csp_go(plain, NULL);
#elif WRONG == 55 // a type in csp_range
    csp_range(int x, r) v = x;
#elif WRONG == 57 // no case
    csp_select(c, CSP_AFTER(l));
#elif WRONG == 59 // go, spawn and groups
    csp_waitgroup_go(&wg, plain, NULL);
#elif WRONG == 60
    csp_waitgroup_spawn(&wg, task, NULL);
#elif WRONG == 61
    csp_group_go(group, task, v, s);
#elif WRONG == 62
    csp_go(work, v);
#elif WRONG == 63 // csp_defer
    csp_defer(csp_mutex_unlock, &v);
#elif WRONG == 64
    csp_defer(of_two, text);
#elif WRONG == 76 // no time
    csp_send_until(c, v);
#elif WRONG == 77 // too many pieces
    csp_send_until(c, (int[]){1, 2, 3, 4, 5, 6, 7, 8, 9}, l);
#elif WRONG == 78 // a channel for its end: says csp_send_end
    csp_go(task, v, c);
#elif WRONG == 79 // says csp_send_end
    csp_fork(piece, task, v, c);
#elif WRONG == 75 // a number
    csp_defer(csp_close_fd, v);
#elif WRONG == 65 // arguments of a task without any
    csp_go(simple, v);
#elif WRONG == 66 // no channel
    csp_recv(v, &v);
#elif WRONG == 67
    csp_group_go(group, work);
#elif WRONG == 68
    csp_group_spawn(group, plain, NULL);
#elif WRONG == 41 // in C++
    csp_make(owner, 1);
#elif WRONG == 42 // in C++
    csp_send(owners, one);
#elif WRONG == 43 // in C++
    csp_recv(owners, &one);
#elif WRONG == 44 // in C++
    csp_recv(owners, NULL);
#elif WRONG == 45 // in C++
    csp_try_send(owners, one);
#elif WRONG == 46 // in C++
    csp_recv_until(owners, &one, CSP_FOREVER);
#elif WRONG == 47 // in C++
    csp_select(CSP_SEND(owners, one), CSP_AFTER(l));
#elif WRONG == 48 // in C++
    csp_select(CSP_SEND_PTR(owners, &one), CSP_AFTER(l));
#elif WRONG == 49 // in C++
    csp_select(CSP_RECV(owners, &one), CSP_AFTER(l));
#elif WRONG == 50 // in C++
    csp_range(o, owners) (void)o;
#elif WRONG == 51 // in C++
    csp_send_end(owners);
#elif WRONG == 90 // csp_fork of no task
    csp_fork(piece, plain, text);
#elif WRONG == 91 // of one that returns something
    csp_fork(piece, work, v);
#elif WRONG == 92 // too few values, too many, wrong ones
    csp_fork(piece, task, v);
#elif WRONG == 93
    csp_fork(piece, task, v, s, v);
#elif WRONG == 94
    csp_fork(piece, task, p, s);
#elif WRONG == 95
    csp_fork(piece, task, v, r); // warning
#elif WRONG == 96 // what is joined is not a fork, or not there
    csp_join(v);
#elif WRONG == 97
    csp_join(piece);
#elif WRONG == 98  // one name twice in a block
    csp_fork(piece, task, v, s);
    csp_fork(piece, task, v, s);
#elif WRONG == 99  // without a block of its own
    if (ok) csp_fork(piece, task, v, s);
    csp_join(piece);
#elif WRONG == 100 // csp_for with a task that takes no part of the range
    csp_for(0, 1, 0, task, s);
#elif WRONG == 101
    csp_for(0, 1, 0, part);
#elif WRONG == 102
    csp_for(0, 1, 0, part, p);
#endif
}
