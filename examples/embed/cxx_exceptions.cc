/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * cxx_exceptions.cc - C++ goroutines that throw, and park in the middle of a catch block.
 *
 *     echo '#include "csp.h"' | cc -DCSP_IMPLEMENTATION -c -x c - -o csp.o     (once, as C)
 *     c++ cxx_exceptions.cc csp.o -o cxx_exceptions -pthread
 *
 * What to notice: the exception that a catch block is handling belongs to the goroutine and not to
 * the thread below it. Each worker here catches its own exception, waits inside the catch block
 * while dozens of others are inside theirs, often wakes on another thread, and throws the same
 * exception on: it is still its own. Destructors run as always, those that csp_exit and a panic
 * leave among them. An exception that leaves the goroutine's function ends the program with the
 * dump of a panic.
 */
#include "csp.h"

#include <cstdio>
#include <stdexcept>
#include <string>
#include <sys/syscall.h>
#include <unistd.h>

static long thread_id() // asked of the system: a compiler may remember what pthread_self() said
{
    return syscall(SYS_gettid);
}

struct witness { // counts how many destructors ran
    long *count;
    explicit witness(long *c) : count(c) {}
    ~witness()
    {
        ++*count;
    }
};

struct report {
    long right, wrong, destroyed, moved;
};

static void fail(int id, int round, long *destroyed)
{
    witness w(destroyed);
    throw std::runtime_error(std::to_string(id) + "/" + std::to_string(round));
}

csp_task(worker, int, id, int, rounds, csp_receiver(bool), wake, csp_sender(report), out)
{
    report r = {0, 0, 0, 0};
    for (int i = 0; i < rounds; i++) {
        std::string mine = std::to_string(id) + "/" + std::to_string(i);
        try {
            try {
                fail(id, i, &r.destroyed);
            } catch (const std::exception &) {
                long before = thread_id();
                csp_recv(wake, (bool *)NULL); // parks with the exception in hand
                r.moved += thread_id() != before;
                throw; // which one?
            }
        } catch (const std::exception &e) {
            ++(e.what() == mine ? r.right : r.wrong);
        }
    }
    csp_send(out, r);
}

csp_task(waker, csp_sender(bool), wake, int, n)
{
    for (int i = 0; i < n; i++) {
        csp_send(wake, true);
        if (i % 7 == 0) csp_sleep(20 * CSP_MICROSECOND);
    }
}

static void panics(long *destroyed)
{
    witness w(destroyed);
    csp_panic("out of %s", "luck");
}

csp_task(exits, long *, destroyed, csp_waitgroup *, all)
{
    csp_defer(csp_waitgroup_done, all); // runs after the destructor below it
    witness w(destroyed);
    csp_exit();
}

static void left_early()
{
    long destroyed = 0;
    csp_waitgroup all = csp_waitgroup();
    csp_try
    {
        panics(&destroyed);
    }
    csp_catch(p)
    {
        std::printf("caught \"%s\", %ld destroyed\n", p->message, destroyed);
    }
    csp_waitgroup_add(&all, 1);
    csp_go(exits, &destroyed, &all);
    csp_waitgroup_wait(&all);
    std::printf("after csp_exit %ld destroyed\n", destroyed);
}

csp_main(argc, argv)
{
    left_early();
    const int workers = 64, rounds = 100;
    csp_procs(4); // so that there are threads to move to on a small machine, too
    csp_chan(bool) wake = csp_make(bool, 0);
    csp_chan(report) reports = csp_make(report, 0);
    for (int i = 0; i < workers; i++)
        csp_go(worker, i, rounds, csp_recv_end(wake), csp_send_end(reports));
    for (int i = 0; i < 2; i++) csp_go(waker, csp_send_end(wake), workers * rounds / 2);

    report sum = {0, 0, 0, 0}, r;
    for (int i = 0; i < workers; i++) {
        csp_recv(reports, &r);
        sum.right += r.right;
        sum.wrong += r.wrong;
        sum.destroyed += r.destroyed;
        sum.moved += r.moved;
    }
    std::printf("%ld caught again, %ld mixed up, %ld destroyed\n", sum.right, sum.wrong,
                sum.destroyed);
    std::printf("resumed on another thread: %s\n", sum.moved > 0 ? "yes" : "never");
    std::fprintf(stderr, "%ld times\n", sum.moved);
    csp_unref(wake);
    csp_unref(reports);
    return sum.right == workers * rounds && sum.moved > 0 ? 0 : 1;
}
