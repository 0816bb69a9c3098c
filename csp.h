/* csp.h - goroutines, channels and select for C: a work-stealing scheduler in one header
 * version 1.0.0, SPDX-License-Identifier: MIT OR Unlicense
 *
 *     #define CSP_IMPLEMENTATION        // in one C file of the program
 *     #include "csp.h"                  // cc -O2 prime.c -pthread
 *
 *     csp_task(generate, csp_sender(int), out)
 *     {
 *         for (int i = 2;; i++) csp_send(out, i);
 *     }
 *
 *     csp_task(filter, csp_receiver(int), in, csp_sender(int), out, int, prime)
 *     {
 *         csp_range(i, in) if (i % prime != 0) csp_send(out, i);
 *     }
 *
 *     csp_main(argc, argv)
 *     {
 *         csp_chan(int) c = csp_make(int, 0);
 *         csp_go(generate, csp_send_end(c));
 *         for (int n = 0, prime = 0; n < 10; n++) {
 *             csp_recv(c, &prime);
 *             printf("%d\n", prime);
 *             csp_chan(int) next = csp_make(int, 0);
 *             csp_go(filter, csp_recv_end(c), csp_send_end(next), prime);
 *             c = next;
 *         }
 *         return 0;
 *     }
 *
 * CONTENTS
 *   INTERFACE       [A] CONFIG  [B] STATUS  [C] RUNTIME and goroutines  [D] CHANNELS  [E] SELECT
 *                   [F] SYNC and context  [G] TIME  [H] DESCRIPTORS and signals
 *                   [I] LOOKING inside  [J] SIMULATOR
 *   GROUND          [1] PLATFORM  [2] BASE  [3] CONTEXT  [4] TOOLS  [5] PROFILE
 *   SYSTEM          [6] SYSTEM  [7] EVENTS
 *   KERNEL          [8] HEAP  [9] LOCKS  [10] CORE  [11] TAPES  [12] STACKS  [13] LIFE  [14] RUNQ
 *                   [15] WAKE  [16] PARK  [17] GO  [18] TIMERS  [19] POLLER  [20] SCHED
 *                   [21] MONITOR  [22] PANIC  [23] BOOT  [24] SELF
 *   BARE            [25] BARE
 *   TALKING         [26] CALLS  [27] WAITERS  [28] WAKEFD  [29] CHAN  [30] SELECT
 *   SHARING         [31] SYNC  [32] TIME  [33] CTX  [34] GROUP  [35] POOL  [36] MAP  [37] FORK
 *   OUTSIDE         [38] FD  [39] ADDRESS  [40] SOCKET  [41] SIGNALS  [42] FORMS
 *   LOOKING         [43] STATS  [44] FRAMES  [45] DUMP  [46] TRACE  [47] SIMULATOR
 *   LICENCE         the full text, at the end
 *   Each room calls only rooms above it. Its banner says what it uses and which locks it takes.
 *   "How to work on csp.h", with a picture of the rooms, ends examples/README.md in the repository.
 *
 * CONFIGURATION, before the #include with CSP_IMPLEMENTATION
 *   macro              default  meaning, range, cost
 *   CSP_STATIC         -        makes every function static: all of csp is in one file, and the
 *                               object file exports no symbol of csp
 *   CSP_IMPLEMENTED    -        says that the implementation is in another object file already:
 *                               CSP_IMPLEMENTATION has no effect here, so nothing is compiled twice
 *   CSP_STACK_SIZE     262144   usable bytes of a stack, at least 16384; 65536 where addresses have
 *                               32 bits. The bytes are reserved; each page is committed when it is
 *                               first touched
 *   CSP_STACK_MIN      1024     the smallest csp_opts.stack_size that is accepted, bytes
 *   CSP_STACK_GUARD    2        what finds an overflow. 2: MADV_GUARD_INSTALL, falling back to 1.
 *                               1: mprotect, falling back to 0. 0: a canary that is checked when
 *                               the goroutine parks. A guard has 64 KiB; below a stack of at most
 *                               64 KiB it has one page
 *   CSP_GUARD_LIMIT    16000    most guards by mprotect: each takes two of the system's 65,530
 *                               mappings
 *   CSP_FPENV          0        1: each goroutine has its own rounding mode and exception masks;
 *                               +2 ns a switch
 *   CSP_MAX_PROCS      1024     most processors; 8 bytes each, touched as they are used
 *   CSP_STACK_PAINT    0        1: stacks start as zeros, and dumps show how much of each was used;
 *                               a microsecond or more for each goroutine
 *   CSP_TORTURE        0        1: tiny queues, random schedules, a new thread at most switches;
 *                               for tests
 *   CSP_HOLDERS        0        1: dumps name the holder of a mutex that a goroutine waits for; on
 *                               under torture
 *   CSP_COUNT          0        1: counts what processors do to each other, an atomic addition each
 *                               time; see examples/bench/scale.c
 *   CSP_NO_MEMBARRIER  -        uses the fenced form of the handshakes; for tests, and for kernels
 *                               whose membarrier(2) succeeds without an effect
 *   CSP_POLLER         -        how descriptors are waited for: 1 epoll, 2 kqueue, 3 poll(2);
 *                               the default is the first of these that the system has
 *   CSP_POSIX          -        on Linux: uses only what other systems have, too; for tests
 *   CSP_BARE           -        selects bare metal, see below. It stands before every #include of
 *                               this file, and so do the macros that follow here
 *   CSP_NO_NAMES       -        bare: goroutines have no names and no start site, and messages do
 *                               not name the call
 *   CSP_NO_PANIC       -        bare: no csp_try; a panic is csp_port_fatal with the bare message
 *   CSP_NO_TIMERS, CSP_NO_SELECT, CSP_NO_CONTEXTS: bare: leave these parts out
 *   CSP_NO_MEMORY      -        bare: csp has no memory of its own, and no allocator is linked.
 *                               Calls that would take some do not compile; implies
 *                               CSP_NO_CONTEXTS
 *   CSP_PRIORITIES     1        bare: levels of csp_opts.priority, 1 to 32; above 1 it costs 8
 *                               bytes of RAM a level, 16 bytes a goroutine and 8 a mutex
 *   CSP_PREEMPT        -        bare, with CSP_PRIORITIES above 1: a handler that makes a goroutine
 *                               of higher priority ready switches to it at its exit, see BARE
 *                               METAL. Cortex-M, RISC-V; elsewhere in a process of a system only
 *   CSP_ISR_SIZE       4 words  bare: the largest element, in bytes, that csp_isr_send and
 *                               csp_isr_recv take; they copy it with interrupts masked
 *   CSP_HOOK_SWITCH, CSP_HOOK_READY, CSP_HOOK_HANDLER, CSP_HOOK_IDLE, CSP_HOOK_FATAL: bare: what
 *                               the firmware does at these moments, see HOOKS
 *
 * ENVIRONMENT, ignored where a program has more rights than the user that starts it (set-user-ID)
 *   CSP_PROCS        processors, 1 to CSP_MAX_PROCS; by default the CPUs that affinity and cgroup
 *                    quota leave
 *   CSP_DEBUG        words with commas between them:
 *                    abort         a panic, a deadlock or an overflow ends by abort(), for a core
 *                    hogs          reports goroutines that keep a processor for 10 ms, one of each
 *                                  start site
 *                    leaks         when main returns, reports the goroutines that no goroutine or
 *                                  thread can wake any more
 *                    profile=FILE  at the end, writes how often and for how many us goroutines
 *                                  waited, by place, folded for flame graphs (excludes a trace)
 *                    sched=MS      writes a line every MS milliseconds
 *   CSP_TRACE        a file for csp_trace_start, from the start of the runtime to its end; a forked
 *                    child that runs beside its parent writes FILE.PID, PID being the child's
 *   CSP_DUMP_SIGNAL  the name or number of a signal, SIGQUIT for example, that writes the dump
 *   CSP_SEED         csp_simulate plays this seed, once, and reports on stderr
 *
 * THE MODEL
 *   Goroutines are spread over csp_procs() processors, and a thread drives each processor. A call
 *   of csp that blocks (a send, a receive, a select, a sleep) blocks the goroutine alone. Code that
 *   blocks or computes outside csp (read(2), a pthread mutex, a long loop) keeps the processor for
 *   10 ms; then the other goroutines go on with another thread. Threads of the program may call
 *   everything; a call that blocks blocks the thread.
 *     A goroutine may go on with another thread after any call into csp. So do not keep the address
 *   of a thread-local or of errno across such a call, and do not hold an OS mutex across it: the
 *   unlock could come from another thread. Code that must do so calls csp_lock_thread() first.
 *   csp_procs(1) is no mutual exclusion: goroutines may still run at the same time.
 *     Fairness: values and waiting goroutines are first in, first out. Select takes a ready case at
 *   random. A ready goroutine runs after finitely many others.
 *     Memory, what happens before what:
 *       a send                                    before the receive of its value returns
 *       a receive on an unbuffered channel        before the send returns
 *       the k-th receive from a channel           before the (k+C)-th send on it returns, C being
 *                                                 its capacity
 *       a close                                   before a receive that returns false
 *       csp_go                                    before the goroutine starts
 *     The last look: a goroutine that has seen the effect of an operation may free the channel,
 *   even while the other side has not returned from its call yet. That call touches the channel no
 *   more.
 *     Errors: an expected failure (closed, timed out, would block) returns a csp_status or a
 *   negative errno. Misuse and exhaustion panic, and csp_try catches a panic. When all goroutines
 *   sleep for good, and the program has no other thread that could wake one, the process reports a
 *   deadlock and exits with status 2.
 *     Stacks: a page is little stack for C. The first call of a library function through a lazily
 *   bound symbol alone takes up to 3 KiB. A program whose goroutines have less than 8 KiB and call
 *   libraries should be linked with -Wl,-z,now, which binds all symbols at the start.
 *     Fork: the child has one goroutine or thread, the caller of fork(2), which becomes the child's
 *   main goroutine. csp starts anew in the child with the first call that needs it.
 *     - It may return, call csp_exit, panic, and run its defers. When its function returns, the
 *       csp_run or csp_main around it returns in the child. The child exits with status 0 instead
 *       where there is no csp_run around it, or a thread other than the program's first called it.
 *     - From before the fork it may use its stack, its csp_locals, memory, and descriptors; calls
 *       of csp work on these descriptors, too.
 *     - It must not use what another goroutine or thread may have been using at the fork. A
 *       channel, mutex or the like with waiters or an operation under way stays in that state:
 *       its waiters do not exist in the child, and no operation there ends.
 *     - Timers, tickers and contexts with a deadline from before the fork never fire, and channels
 *       of csp_notify get no more signals.
 *     Threads: do not use pthread_cancel on threads that call csp. It does not end a thread that is
 *   blocked in a call of csp, and a thread that it ends within a call keeps the locks that it
 *   holds. End a wait by a context, a deadline or a close. A goroutine must not end the thread that
 *   runs it, neither by pthread_cancel nor by pthread_exit.
 *     Shutdown: when csp_run's function or csp_main returns, the other goroutines are dropped in
 *   the middle of what they do, and their defers do not run. A goroutine that computes is dropped
 *   at its next call into csp; the shutdown waits two seconds for that, at most.
 *
 * OWNERSHIP
 *   what                made by                  freed by               who may still hold it
 *   channel             csp_make: one            the last csp_unref;    csp_notify: a reference,
 *                       reference; csp_ref:      panics while a         until csp_notify_stop or
 *                       one more                 goroutine waits on it  the end of the runtime
 *   static channel      CSP_CHAN_STATIC          never: csp_unref does  as for a channel
 *                                                not free it
 *   timer, ticker       csp_timer_new,           csp_timer_free,        its goroutine, once begun:
 *                       csp_after_func,          csp_ticker_free        it does not use the timer
 *                       csp_ticker_new
 *   csp_timer_store     the caller: zeroed       the caller, after      the timer from ..._new_in
 *                       memory                   csp_timer_free         to csp_timer_free
 *   channel of those    with the timer           with the timer         a caller of csp_ref
 *   context             csp_ctx_with_*,          the last               each child its parent;
 *                       csp_ctx_without_cancel:  csp_ctx_unref;         csp_ctx_on_done until fn
 *                       one reference;           panics while a         starts or is stopped;
 *                       csp_ctx_ref: one more    goroutine waits on it  csp_bind_fd until ctx is
 *                                                                       done or fd unbound
 *   csp_ctx_done(ctx)   its first call           with the context       a caller of csp_ref
 *   csp_ctx_background  static                   never                  -
 *   group               csp_group_new            csp_group_free;        its functions: free it
 *                                                panics while a         after csp_group_wait
 *                                                function runs
 *   csp_group_ctx       with the group           with the group         a caller of csp_ctx_ref,
 *                                                                       and derived contexts
 *   pool                csp_pool_new             csp_pool_free, when    -
 *                                                no call uses it
 *   item of a pool      make(arg) in get, or     free_item, when the    the caller from get to
 *                       the caller of put        pool is full or freed  put, the pool from put on
 *   map                 csp_map_new              csp_map_free, when     -
 *                                                no call uses it
 *   key of a map        the caller; not copied   the caller, after the  the map: the key that
 *                                                delete has returned    first stored the entry
 *   value of a map      the caller; not copied   the caller             readers that loaded it
 *   task's arguments    csp_go: a copy of each   the end of the         the caller owns what a
 *                       value on the new stack   goroutine              pointer points to
 *   csp_fork's          a copy in the block      the end of the block   the goroutine that does
 *   arguments           of csp_fork                                     the work, until the join
 *   csp_spawn's arg     the caller; not copied   the caller             the goroutine
 *   csp_opts.name,      copied, cut at 31        the end of the         bare metal copies neither:
 *   csp_set_name        bytes                    goroutine              there they must live as
 *                                                                       long as the goroutine
 *   cause of a cancel   the caller; not copied   the caller, after the  all contexts of the tree
 *                                                contexts of the tree
 *   key, value of a     the caller; not copied   the caller             the context and all that
 *   context                                                             are derived from it
 *   value of CSP_SEND   a copy in the block of   the end of that        -
 *                       the case; in C++ in its  block; in C++ of the
 *                       statement                statement
 *   pointers of a       the caller; not copied   the caller, after the  the select, until it
 *   csp_case                                     select has returned    returns
 *   descriptor          csp_listen, csp_accept,  csp_close_fd           a waiting call: it gets
 *                       csp_dial                                        -ECANCELED
 *   csp_wake_fd(c)      the channel              with the channel       the foreign event loop,
 *                                                                       which must not close it
 *   csp_mutex etc.,     the caller: zeroed       the caller, when no    the last look (THE MODEL)
 *   csp_waitgroup       memory                   goroutine is in a      holds for them, too
 *                                                call on it
 *   value of csp_local  the caller; not copied   the caller: the end    -
 *                                                of the goroutine only
 *                                                forgets it
 *   csp_config.memory,  the caller (bare metal)  the caller, after      csp, until csp_shutdown;
 *   csp_opts.stack                               csp_shutdown or the    the goroutine, until its
 *                                                goroutine's end        end
 *
 * BARE METAL
 *   With CSP_BARE there is one core, no system, no heap, and no libc but memcpy and memset. The
 *   firmware supplies five functions, csp_port_*. csp_init takes the one block of memory from which
 *   goroutines, channels and timers come; CSP_CHAN_STATIC, csp_opts.stack and csp_timer_store need
 *   none of it. With CSP_NO_MEMORY there is no such block, and nothing can run out.
 *   Interrupt handlers send with csp_isr_send and receive with csp_isr_recv. They may also call
 *   csp_isr_wake, csp_now, csp_len, csp_cap and csp_count; any other call in a handler is fatal.
 *   Goroutines take turns where they block or yield, and after eight calls that could have blocked;
 *   see CSP_PRIORITIES. CSP_STACK_SIZE is 256 words there, CSP_STACK_MIN 48; an overflow is found
 *   when the goroutine parks, or at once where the core has PSPLIM. Left out: threads, pools, maps,
 *   descriptors, signals, the simulator. examples/firmware has ten boards and a recipe.
 *     With CSP_PREEMPT a handler that makes a goroutine of higher priority ready switches to it
 *   when the last handler ends. The running goroutine goes on later where it was interrupted, with
 *   all its registers. main is not preempted, as it is no goroutine. While the running goroutine is
 *   in a call into csp, or masks interrupts, the switch waits for the end of that.
 *   Goroutines of one priority do not interrupt each other, and may share variables without a lock;
 *   those of different priorities are to each other what threads are: they share by channels, by a
 *   mutex, or with interrupts masked, and call no function that is not reentrant. A goroutine of
 *   lower priority needs more stack for that, see examples/guide/firmware.md. Timers fire when the
 *   running goroutine calls csp, or when a handler calls csp_isr_yield.
 *
 * SUPPORT
 *   system            processor            compiler          events  how it was tested
 *   ----------------  -------------------  ----------------  ------  ---------------------------
 *   Linux, glibc      x86-64               gcc 12, 14 to 16  epoll   run: all tests; ASan, UBSan,
 *                                          clang 14, 16,             TSan, Valgrind; C11 to C2x,
 *                                          19, 22                    C++11 to C++20
 *   Linux, musl       x86-64               gcc 12            epoll   run
 *   Linux, glibc      i386                 gcc 12            epoll   run
 *   Linux, glibc      AArch64, ARM, RV64,  gcc 12            epoll   run in qemu-user, which leaves
 *                     ppc64le, s390x                                 out forks, faults, deadlocks
 *   Linux, as POSIX   x86-64               gcc 12, clang 14  poll,   run: CSP_POSIX; the kqueue is
 *                                                            kqueue  made of epoll
 *   macOS             arm64, x86-64        clang 17          kqueue  linked: all examples and the
 *                                                                    tests; nothing has run
 *   Linux as Android  x86-64               gcc 12            epoll   run: older calls are refused
 *   Windows           x86-64               gcc 12 (mingw)    poll    run in wine, not on Windows:
 *                                                                    tests but for those of files,
 *                                                                    pipes, signals, faults; echo,
 *                                                                    chat and 43 more examples
 *                     x86-64               clang 14          poll    compiled, also as clang-cl
 *                     ARM64                clang 17          poll    linked: the same examples
 *   FreeBSD, NetBSD,  -                    -                 kqueue  written after their manuals,
 *   OpenBSD, ...                                                     not compiled; they report
 *                                                                    no deadlocks
 *   bare metal        Cortex-M0, M3, M4F,  gcc 12            -       run in qemu
 *                     M7, M33, AArch64,
 *                     RV32, RV64
 *   csp is meant for gcc from 9 on and clang from 11 on; the versions above have been run or
 *   compiled.
 *     Not supported, and refused by an #error: MSVC's cl, which has neither statement expressions
 *   nor cleanup (clang-cl has both); x32, ILP32 on AArch64, and big-endian POWER with the ELFv1
 *   ABI, for which there is no context switch here; -fsanitize=safe-stack and
 *   -fsanitize=shadow-call-stack, whose second stack does not follow a goroutine.
 *     Shadow stacks of the hardware (CET's SHSTK, GCS) are turned off for the threads that run
 *   goroutines. Where the system has locked them on, csp reports that and ends the process.
 *     examples/guide/porting.md in the repository says how to add a system or a processor, and what
 *   a million goroutines take on each.
 *
 * WINDOWS
 *   csp needs Windows 8 or later: cc -O2 prog.c -lws2_32.
 *     A descriptor is a SOCKET, or the HANDLE of a file or pipe, as an int. 0, 1 and 2 are the
 *   standard handles. The C library's own file numbers (open, fileno) are not descriptors. A socket
 *   that is given to csp becomes non-blocking. Files and pipes are read and written within
 *   csp_blocking. Sockets are waited for with WSAPoll. Its cost grows with their number. Before
 *   Windows 10 2004 it does not report a connection that fails.
 *     Signals are SIGINT (Ctrl-C), SIGBREAK (Ctrl-Break) and SIGTERM (close, logoff, shutdown).
 *   CSP_DUMP_SIGNAL=SIGQUIT means SIGBREAK. "unix:" addresses are -EAFNOSUPPORT. There is no fork.
 *     A goroutine takes 8 KiB of the system's commit limit, and half of that as memory once it
 *   runs. It takes more as its stack grows. A million goroutines take 8 GB, by calculation. At the
 *   commit limit a new stack ends the program. Under wine that limit is some 30,000 goroutines, as
 *   each stack takes two of Linux's mappings (vm.max_map_count).
 *     A deadlock is not reported while the process has threads that csp does not know, even where
 *   they are the system's own. Frames in dumps are one deep. csp_exit in C++ runs no destructors.
 *   CSP_TORTURE, CSP_STACK_PAINT and the sanitizers are refused or untested.
 */
#if defined(__cplusplus) && defined(CSP_IMPLEMENTATION)
#error "the implementation of csp.h is C: define CSP_IMPLEMENTATION in a .c file"
#undef CSP_IMPLEMENTATION
#endif
#if defined(CSP_IMPLEMENTATION) && !defined(_GNU_SOURCE) && !defined(CSP_BARE)
#define _GNU_SOURCE
#endif

#ifndef CSP_H_INCLUDED
#define CSP_H_INCLUDED

#define CSP_VERSION "1.0.0"

#if defined(_MSC_VER) && !defined(__clang__)
#error "csp.h needs GNU C, which cl.exe does not compile: use clang-cl (/clang:-std=gnu11)"
#elif (!defined(__GNUC__) && !defined(__clang__)) || defined(__TINYC__)
#error "csp.h needs gcc >= 9 or clang >= 11 (statement expressions, cleanup, inline assembly)"
#endif
#if defined(__cplusplus) ? __cplusplus < 201103L : !defined(__STDC_VERSION__)
#error "csp.h needs C11 or C++11, or what came after them: -std=c11, -std=c++11"
#endif

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#ifndef CSP_BARE
#include <stdio.h>
#include <setjmp.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ==========================================================================
 * [A] CONFIG - see the table in the front matter
 * ======================================================================== */

#ifdef CSP_STATIC
#define CSP_DEF static __attribute__((unused))
#else
#define CSP_DEF extern
#endif

#ifdef _WIN32
#define CSP_X_HIDDEN /* as every symbol that is not exported */
#else
#define CSP_X_HIDDEN __attribute__((visibility("hidden")))
#endif
/* The format that csp prints by. mingw's gcc knows two, and takes the other for printf. */
#if defined(_WIN32) && !defined(__clang__)
#define CSP_X_PRINTF(a, b) __attribute__((format(gnu_printf, a, b)))
#else
#define CSP_X_PRINTF(a, b) __attribute__((format(printf, a, b)))
#endif

#ifdef __has_feature
#define CSP_X_HAS(feature) __has_feature(feature)
#else
#define CSP_X_HAS(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || CSP_X_HAS(thread_sanitizer)
#define CSP_X_TSAN 1
#else
#define CSP_X_TSAN 0
#endif

/* These sanitizers keep a second stack for each thread. Goroutines that run on one thread would
 * share it and overwrite each other's frames. */
#if CSP_X_HAS(safe_stack)
#error "csp.h: goroutines cannot have a second stack each: compile without -fsanitize=safe-stack"
#endif
#if CSP_X_HAS(shadow_call_stack)
#error "csp.h: goroutines cannot have a second stack each: no -fsanitize=shadow-call-stack, please"
#endif

/* CSP_X_STRICT(e) is the expression e, and an error where pointer types in it differ, or where a
 * number stands for a pointer. Compilers such as gcc before 14 only warn of these. So a program
 * could start a task with a receiver for its sender, or send an address on a channel of int. The
 * pragmas hold for e alone: a pragma that stood here by itself would turn warnings in the program's
 * own code into errors. For assignments and calls of its own a program gets the same errors with
 * -Werror=incompatible-pointer-types and -Werror=int-conversion.
 *   The compilers print the line of the macro with the error, so its comment says how the types of
 * channels read: a task that wants `int (*)[1]` and is given `int (*)[3]` wants csp_send_end.
 *   A pragma can stand in a statement expression only. e cannot, because a compound literal in it
 * would end with the statement expression. So the pragmas stand before e and behind it, in operands
 * that are never evaluated. */
#ifdef __cplusplus
#define CSP_X_STRICT(...) (__VA_ARGS__) // [3] csp_chan, [1] csp_send_end(c), [2] csp_recv_end(c)
#else
#define CSP_X_PRAGMAS(...)                                                                         \
    sizeof(__extension__({                                                                         \
        __VA_ARGS__;                                                                               \
        0;                                                                                         \
    }))
#define CSP_X_ERRORS                                                                               \
    _Pragma("GCC diagnostic push")                                                                 \
        _Pragma("GCC diagnostic error \"-Wincompatible-pointer-types\"")                           \
            _Pragma("GCC diagnostic error \"-Wint-conversion\"")
// clang-format off
#define CSP_X_STRICT(...)                                                                          \
    __builtin_choose_expr(CSP_X_PRAGMAS(CSP_X_ERRORS) != 0,                                        \
    __VA_ARGS__, /* [3] is a csp_chan, [1] its csp_send_end(c), [2] its csp_recv_end(c) */         \
                          CSP_X_PRAGMAS(_Pragma("GCC diagnostic pop")))
// clang-format on
#endif

/* CSP_X_NEW(what) is a fresh name for a variable that a macro declares. Without it, a macro in the
 * argument of another one would draw a warning of -Wshadow. From version 22 on clang warns of
 * __COUNTER__ at -pedantic, wherever the macro is used.
 *   Around a declaration, a pragma stops that warning (CSP_X_QUIETLY), so names come from
 * __COUNTER__ and two declarations may stand on one line. Within an expression the pragma has no
 * effect, because the arguments of a macro are expanded before its pragmas apply. So there the name
 * is made from the line and from what the macro does. */
#if defined(__clang__) && __clang_major__ >= 22
#define CSP_X_NEW(what) CSP_X_CAT(csp_x_##what##_, __LINE__)
#define CSP_X_QUIETLY                                                                              \
    _Pragma("clang diagnostic push") _Pragma("clang diagnostic ignored \"-Wc2y-extensions\"")
#define CSP_X_ALOUD _Pragma("clang diagnostic pop")
#else
#define CSP_X_NEW(what) CSP_X_CAT(csp_x_##what##_, __COUNTER__)
#define CSP_X_QUIETLY
#define CSP_X_ALOUD
#endif
#define CSP_X_CAT_(a, b) a##b
#define CSP_X_CAT(a, b) CSP_X_CAT_(a, b)

#if defined(CSP_PREEMPT) && !defined(CSP_BARE)
#error "CSP_PREEMPT is for CSP_BARE: a system preempts threads, and csp moves the other goroutines"
#endif
#if !defined(CSP_BARE) &&                                                                          \
    (defined(CSP_NO_NAMES) || defined(CSP_NO_PANIC) || defined(CSP_NO_TIMERS) ||                   \
     defined(CSP_NO_SELECT) || defined(CSP_NO_CONTEXTS) || defined(CSP_NO_MEMORY))
#error "CSP_NO_NAMES, _PANIC, _TIMERS, _SELECT, _CONTEXTS, _MEMORY leave parts out of CSP_BARE only"
#endif
#if defined(CSP_NO_MEMORY) && !defined(CSP_NO_CONTEXTS)
#define CSP_NO_CONTEXTS // a context and a group are taken from memory
#endif

#ifdef CSP_BARE
#ifndef CSP_PRIORITIES
#define CSP_PRIORITIES 1
#endif
#if CSP_PRIORITIES < 1 || CSP_PRIORITIES > 32
#error "CSP_PRIORITIES is 1 to 32"
#endif
#if defined(CSP_PREEMPT) && CSP_PRIORITIES < 2
#error "CSP_PREEMPT needs priorities: define CSP_PRIORITIES as 2 or more"
#endif
#if defined(CSP_PREEMPT) && !defined(__riscv) && __STDC_HOSTED__ + 0 == 0 &&                       \
    !(defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M')
#error "CSP_PREEMPT is made for Cortex-M and RISC-V; in a process of a system it serves for tests"
#endif
#if defined(CSP_PREEMPT) && (defined(__riscv_vector) || defined(__ARM_FEATURE_SVE))
#error "CSP_PREEMPT does not save vector registers: compile without them"
#endif

/* HOOKS: macros that the firmware may define where it defines CSP_IMPLEMENTATION, as statements. An
 * empty one costs no instruction. A hook may call csp_port_now, and no other function of csp.
 *   CSP_HOOK_SWITCH(id, name)   that goroutine runs next; 0 and "": main, or the scheduler on
 *                               main's stack. On the stack of what ran until now.
 *   CSP_HOOK_READY(id, name)    that goroutine has become runnable. Masked; also in handlers.
 *   CSP_HOOK_HANDLER(call)      an interrupt handler calls csp_isr_send or csp_isr_wake, which
 *                               sends ("isr_send"), csp_isr_recv ("isr_recv") or csp_isr_yield
 *                               ("isr_yield").
 *   CSP_HOOK_IDLE(until)        before csp_port_idle. Masked.
 *   CSP_HOOK_FATAL(message)     before csp calls csp_port_fatal. It may not come back from there.
 * With CSP_NO_NAMES each name and call is "". */
#ifndef CSP_HOOK_SWITCH
#define CSP_HOOK_SWITCH(id, name) ((void)0)
#endif
#ifndef CSP_HOOK_READY
#define CSP_HOOK_READY(id, name) ((void)0)
#endif
#ifndef CSP_HOOK_HANDLER
#define CSP_HOOK_HANDLER(call) ((void)0)
#endif
#ifndef CSP_HOOK_IDLE
#define CSP_HOOK_IDLE(until) ((void)0)
#endif
#ifndef CSP_HOOK_FATAL
#define CSP_HOOK_FATAL(message) ((void)0)
#endif
#endif

/* WHERE. A call that may wait or panic is a macro. It passes what the call does and where it stands
 * to the function, in one string: "receive", a 0, "main.c:19". A dump shows the second half. The
 * string is one constant for each call, which costs the fast paths an instruction or two. Beside
 * such a macro there is a function of the same name without a place, for programs that take its
 * address, and for csp_defer. It takes any channel, where the macro takes one. There is none where
 * types vary or the name of an argument is kept: for sends and receives, for csp_make, and for what
 * starts a goroutine. On bare metal there are no places. */
#ifdef CSP_BARE
#define CSP_X_WHERE(what)
#define CSP_X_PLACE
#define CSP_X_MADE
#else
#define CSP_X_TEXT_(x) #x
#define CSP_X_TEXT(x) CSP_X_TEXT_(x)
#define CSP_X_AT(what) what "\0" __FILE__ ":" CSP_X_TEXT(__LINE__)
#define CSP_X_WHERE(what) , CSP_X_AT(what)
#define CSP_X_PLACE , const char *at
#define CSP_X_MADE , CSP_X_AT("")
#endif

/* Settings for csp_init(), which copies them; a zero means the default. */
typedef struct csp_config {
#ifdef CSP_BARE
#ifndef CSP_NO_MEMORY
    void *memory; // required: goroutines, channels and timers come from it; csp's until shutdown
    size_t memory_size;
#endif
#else
    int procs;       // processors; default: CSP_PROCS in the environment, else usable CPUs
    int max_threads; // most threads that may run goroutines; default 10,000
#endif
    size_t stack_size; // usable bytes of a goroutine's stack; default CSP_STACK_SIZE
} csp_config;

#ifdef CSP_BARE
/* The port: five functions that the firmware supplies.
 *   now      the monotonic time in nanoseconds.
 *   idle     sleeps until an interrupt is pending or the time `until` has come (CSP_FOREVER: it
 *            never comes), and may return early. csp calls it with interrupts masked; the handler
 *            of the pending interrupt runs when csp unmasks them.
 *   save     masks the interrupts whose handlers call csp_isr_*, and returns the state for restore.
 *   restore  brings that state back. Pairs of save and restore nest.
 *   fatal    shows a message and never returns. */
extern int64_t csp_port_now(void);
extern void csp_port_idle(int64_t until);
extern uintptr_t csp_port_irq_save(void);
extern void csp_port_irq_restore(uintptr_t was);
extern void csp_port_fatal(const char *message) __attribute__((noreturn));

#ifdef CSP_PREEMPT
/* The handler by which csp preempts a goroutine. The firmware makes it, untouched and without code
 * before it, the handler of
 *   Cortex-M   PendSV: vector 14. csp_init checks the vector, gives PendSV the lowest priority, and
 *              csp pends it. Vendors' files call it PendSV_Handler: #define csp_preempt
 *              PendSV_Handler before every #include of this file.
 *   RISC-V     the machine software interrupt: cause 3, of the goroutine's stack and registers.
 *              The firmware enables it in mie.
 *   others     an interrupt, which calls it as a function, on the interrupted goroutine's stack,
 *              with the goroutine's registers saved and interrupts on.
 * On all but Cortex-M the port supplies one more function: csp_port_preempt(true) makes that
 * interrupt pending, (false) ends that. csp calls it in handlers and in csp_preempt. */
extern void csp_preempt(void);
#if !defined(__ARM_ARCH_PROFILE)
extern void csp_port_preempt(bool pending);
#endif
#endif
#endif

/* ==========================================================================
 * [B] STATUS
 * ======================================================================== */

/* The result of a call that may fail in the normal course. */
typedef enum csp_status {
    CSP_OK = 0,   // done
    CSP_AGAIN,    // would have blocked
    CSP_CLOSED,   // the channel is closed (and drained)
    CSP_TIMEOUT,  // the deadline passed first
    CSP_CANCELED, // a context was cancelled
    CSP_NOMEM,    // out of memory
    CSP_INVALID   // bad argument
} csp_status;

/* The text of a status: "ok", "would block", "closed", "timeout", ...; never NULL. It is static.
 * Callable from everywhere, before csp_init too. */
CSP_DEF const char *csp_status_name(csp_status status);

typedef ptrdiff_t csp_ssize; // a count, or a negative errno

/* ==========================================================================
 * [C] RUNTIME AND GOROUTINES
 * ======================================================================== */

/* Options for one goroutine, read during the call that starts it; a zero means the default. */
typedef struct csp_opts {
    const char *name; // shown in dumps; copied, cut at 31 bytes; bare metal keeps the pointer
    /* Usable bytes; 0 is the default. Stacks below 15 KiB are packed and have no guard. csp itself
     * needs 2048, a panic 6144, the first call of a library function 4096 (or link with
     * -Wl,-z,now). */
    size_t stack_size;
#ifdef CSP_BARE
    void *stack; // NULL, or stack_size bytes for the goroutine's record and stack; they are the
                 // caller's again when the goroutine has ended. CSP_NO_MEMORY: never NULL, and a
                 // start panics while another goroutine lives there
    /* 0 to CSP_PRIORITIES - 1. A ready goroutine of the highest priority runs, in turn with others
     * of the same priority. A goroutine of lower priority gives way at its next call into csp after
     * a handler or a call has made a higher one ready (CSP_PREEMPT: at once, or at the end of the
     * call that it is in, and keeps its turn). The holder of a csp_mutex has at least the
     * priority of each goroutine that waits for it. */
    int priority;
#endif
} csp_opts;

/* The start site of a goroutine: what was started, and where; csp_go fills it in. */
typedef struct csp_x_site {
    const char *name, *file;
    int line;
#ifndef CSP_BARE
    const char *at; // the two as one, see WHERE
#endif
} csp_x_site;

/* Starts the runtime with the given settings. Without it, the first use of csp starts the runtime
 * with the defaults. CSP_OK; CSP_INVALID: the runtime already runs, or a setting is out of range;
 * CSP_NOMEM. Callable by threads and goroutines. */
CSP_DEF csp_status csp_init(const csp_config *config);

/* Ends the runtime: drops the goroutines that still exist, as the exit of a process does, and gives
 * threads and memory back. csp may be used again afterwards. Without a runtime it does nothing. It
 * panics in a goroutine, and must not run while another thread is in a call of csp. The values that
 * threads have of a csp_local are forgotten.
 *   Afterwards nothing in the process refers to this code any more. So a shared object that
 * contains csp may be unloaded, even while threads that have used it live on, and in any order with
 * other shared objects. If handlers that were installed later keep csp's signal handlers in use,
 * the object stays loaded. Unloading the object without this call, or from a goroutine, crashes the
 * process. */
CSP_DEF void csp_shutdown(void);

/*   void csp_run(void (*fn)(void *), void *arg)
 * Runs fn(arg) as the main goroutine and returns when fn returns. Then the other goroutines are
 * dropped, and threads and memory are given back unless the runtime ran before the call. An object
 * on which a dropped goroutine was waiting must not be used again; all other objects (timers,
 * contexts, channels) may. When every goroutine is asleep for good, csp_run reports a deadlock and
 * exits with status 2. Called by a thread, not by a goroutine, and by one thread at a time. What
 * the caller did before happens before fn; fn happens before csp_run returns. */
#define csp_run(fn, arg) CSP_X_STRICT(csp_x_run(CSP_X_SITE("main"), fn, arg))
CSP_DEF void csp_x_run(const csp_x_site *site, void (*fn)(void *), void *arg);
#ifdef CSP_BARE
/*   void csp_run_with(const csp_opts *opts, void (*fn)(void *), void *arg)
 * The same, with a name, a stack or a priority for the main goroutine. */
#define csp_run_with(opts, fn, arg) CSP_X_STRICT(csp_x_run_with(opts, CSP_X_SITE("main"), fn, arg))
CSP_DEF void csp_x_run_with(const csp_opts *opts, const csp_x_site *site, void (*fn)(void *),
                            void *arg);
#endif

/*   uint64_t csp_spawn(void (*fn)(void *), void *arg)
 *   uint64_t csp_spawn_with(const csp_opts *opts, void (*fn)(void *), void *arg)
 * Starts fn(arg) as a goroutine and returns its id. The pointer is copied, not the object behind
 * it. The call happens before fn starts. Panics when out of memory. Threads and goroutines.
 *   Two words name the two ways to start a goroutine, here and at waitgroups and groups: `go` takes
 * a task and its typed arguments, `spawn` takes a function and one pointer. */
#define csp_spawn(fn, arg) CSP_X_STRICT(csp_x_spawn(NULL, CSP_X_SITE(#fn), fn, arg))
#define csp_spawn_with(opts, fn, arg) CSP_X_STRICT(csp_x_spawn(opts, CSP_X_SITE(#fn), fn, arg))

/* Lets other goroutines run first; Go's runtime.Gosched. In a thread it yields to other threads. */
CSP_DEF void csp_yield(void);
/* Ends this goroutine after running its defers. When the main goroutine calls it, the others go on
 * until one calls exit(3), or until none is left, which is a deadlock. Panics in a thread. */
CSP_DEF void csp_exit(void) __attribute__((noreturn));
CSP_DEF uint64_t csp_id(void);   // id of this goroutine or thread; never 0
CSP_DEF int64_t csp_count(void); // number of goroutines that exist; runtime.NumGoroutine
/* Names the calling goroutine or thread in dumps and traces. The name is copied, cut at 31 bytes;
 * NULL removes it. Bare metal keeps the pointer, so there the text must outlive the goroutine. */
CSP_DEF void csp_set_name(const char *name);
#ifndef CSP_BARE
/* Sets the number of processors, at most CSP_MAX_PROCS or as many as memory allows, and returns the
 * number before. n < 1 changes nothing. Threads and goroutines. */
CSP_DEF int csp_procs(int n);
CSP_DEF int csp_ncpu(void); // number of CPUs that affinity and cgroup quota leave to the process
/* Sets the most threads that may run goroutines, 10,000 at first, and returns the number before.
 * n < 1 changes nothing. Threads and goroutines. */
CSP_DEF int csp_max_threads(int n);
/* Ties the calling goroutine to the thread that it runs on, until csp_unlock_thread has been called
 * as often. No other goroutine runs on that thread meanwhile. In a thread both do nothing. */
CSP_DEF void csp_lock_thread(void);
CSP_DEF void csp_unlock_thread(void);
#endif

/* Goroutine-local storage. A csp_local is a key: a static, zeroed object. Each goroutine and each
 * thread has its own value for a key, NULL at first. The end of the goroutine forgets the value and
 * does not free it. csp_local_set panics when out of memory. */
typedef struct csp_local {
    uint32_t key; // 0: not used yet
} csp_local;
CSP_DEF void *csp_local_get(csp_local *local);
CSP_DEF void csp_local_set(csp_local *local, void *value);

/*   void csp_defer(fn, arg)
 * Runs fn(arg) when control leaves the enclosing block: by its end, return, break, goto, csp_exit
 * or a panic. Defers run last in, first out. fn is any function with one pointer parameter, and arg
 * any pointer that it accepts: csp_defer(csp_mutex_unlock, &mu). The result of fn is dropped. The
 * defer's record is in the block itself, so it allocates nothing. Threads and goroutines.
 *   A number cannot be deferred, because fn is called as a function of a pointer, and some systems
 * pass numbers in another way. csp_defer(csp_close_fd, fd) does not compile: defer a function of
 * your own with &fd, which calls csp_close_fd(*(int *)p). */
typedef struct csp_x_defer {
    struct csp_x_defer *prev;
    void (*fn)(void *);
    void *arg;
} csp_x_defer;
CSP_DEF csp_x_defer *csp_x_defer_push(csp_x_defer *d);
CSP_DEF void csp_x_defer_leave(csp_x_defer *d);
#define csp_defer(fn, arg)                                                                         \
    CSP_X_QUIETLY CSP_X_DEFER(CSP_X_CAT(csp_x_defer_, __COUNTER__), fn, arg) CSP_X_ALOUD
#define CSP_X_DEFER_WHAT "csp_defer takes a pointer: csp_defer(f, &fd), and *(int *)p in f(void *p)"
#ifdef __cplusplus
#define CSP_X_DEFERRED(f, a) csp_x::deferred(f, a)
#else
#define CSP_X_DEFERRED(f, a)                                                                       \
    {                                                                                              \
        NULL,                                                                                      \
            (CSP_X_MUST(__builtin_classify_type(a) == 5, CSP_X_DEFER_WHAT),                        \
             (void)(__typeof__(CSP_X_STRICT((f)(a))) *)0, (void (*)(void *))(void (*)(void))(f)),  \
            (void *)(uintptr_t)(a)                                                                 \
    }
#endif
#define CSP_X_DEFER(d, f, a)                                                                       \
    __attribute__((cleanup(csp_x_defer_leave))) csp_x_defer d = CSP_X_DEFERRED(f, a);              \
    (void)csp_x_defer_push(&d)

/*   void csp_panic(const char *format, ...)
 * Panics with a formatted message, as printf formats it. The defers run, then the innermost csp_try
 * of this goroutine or thread catches the panic. If there is none, the process writes a dump and
 * ends: with exit status 2 within csp_run and csp_main, by abort() elsewhere. Never returns. */
CSP_DEF void csp_panic(const char *format, ...) __attribute__((noreturn)) CSP_X_PRINTF(1, 2);
#ifndef CSP_BARE
CSP_DEF void csp_x_panic(const char *at, const char *format, ...) __attribute__((noreturn))
CSP_X_PRINTF(2, 3);
#define csp_panic(...) csp_x_panic(CSP_X_AT("panic"), __VA_ARGS__)
#endif

#ifdef CSP_BARE
#define CSP_PANIC_MESSAGE_SIZE 64
#else
#define CSP_PANIC_MESSAGE_SIZE 256
#endif
typedef struct csp_panic_info {
    char message[CSP_PANIC_MESSAGE_SIZE]; // cut when longer
} csp_panic_info;

#if defined(CSP_BARE) || defined(_WIN32)
/* A jmp_buf without a libc: the registers that a call preserves, the stack pointer, the pc. Windows
 * takes it, too: longjmp there unwinds frame by frame, on more stack than small goroutines have. */
#if defined(_WIN32) && defined(__x86_64__)
#define CSP_X_MARK_WORDS 31
#elif defined(__x86_64__)
#define CSP_X_MARK_WORDS 8
#elif defined(__aarch64__)
#define CSP_X_MARK_WORDS 22
#elif defined(__powerpc64__)
#define CSP_X_MARK_WORDS 64
#elif defined(__s390x__)
#define CSP_X_MARK_WORDS 18
#endif
#ifdef __arm__
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
#define CSP_X_MARK_WORDS 27
#else
#define CSP_X_MARK_WORDS 10
#endif
#endif
#ifdef __riscv
#if defined(__riscv_32e) || defined(__riscv_64e)
#define CSP_X_MARK_WORDS 4
#elif !defined(__riscv_float_abi_soft)
#define CSP_X_MARK_WORDS (14 + 12 * 64 / __riscv_xlen)
#endif
#endif
#ifndef CSP_X_MARK_WORDS
#define CSP_X_MARK_WORDS 14
#endif
typedef void *csp_x_mark[CSP_X_MARK_WORDS] __attribute__((aligned(8)));
extern int csp_x_mark_set(csp_x_mark mark)
    __attribute__((returns_twice)) CSP_X_HIDDEN; // 0, and 1 after a jump
extern void csp_x_mark_jump(csp_x_mark mark) __attribute__((noreturn)) CSP_X_HIDDEN;
#define CSP_X_SETJMP csp_x_mark_set
#else
typedef jmp_buf csp_x_mark;
#define CSP_X_SETJMP setjmp
#endif

/*   csp_try { ... } csp_catch (p) { ... p->message ... }
 * Runs the first block; a panic in it, or in a function that it calls, ends it and runs the second
 * block. p is a const csp_panic_info * and ends with the catch block. Threads and goroutines.
 *   The two need an enclosing block of their own, because csp_try declares a variable. return,
 * break, continue and goto may leave the try block and have their usual meaning. In the catch
 * block, break and continue end that block. Locals that the try block changes and the catch block
 * reads must be volatile, as with setjmp.
 *   In C++ csp_try and csp_catch are try and catch, with the language's meaning of break, continue
 * and variables. A caught panic and csp_exit run the destructors of the frames that they leave, in
 * order with the defers. A catch (...) on the way must rethrow with `throw;`. A noexcept function
 * on the way ends the program. An exception that leaves a goroutine's function ends the program as
 * a panic does. */
typedef struct csp_x_try {
    struct csp_x_try *prev;
    csp_x_defer outside; // a mark without a function: defers above it belong to the try block
    void *owner;         // the csp__cb of the goroutine or thread
#ifndef CSP_BARE
    void *sp;                              // stack pointer of the frame that contains the block
    void (*raise)(const csp_panic_info *); // C++: throws what csp_catch catches; C: NULL
#endif
    csp_x_mark mark;
    csp_panic_info info;
} csp_x_try;
#ifndef CSP_NO_PANIC
CSP_DEF csp_x_try *csp_x_try_enter(csp_x_try *t);
CSP_DEF void csp_x_try_leave(csp_x_try *t);
CSP_DEF const csp_panic_info *csp_x_try_end(void);
#if defined(__cplusplus) && defined(__EXCEPTIONS) && !defined(CSP_BARE)
/* C++'s own try block: the compiler then destroys the objects of the function around csp_try. */
#define csp_try                                                                                    \
    CSP_X_QUIETLY if (csp_x::trying CSP_X_CAT(csp_x_try_, __COUNTER__){}) CSP_X_ALOUD              \
    try
#define csp_catch(p) catch (const csp_panic_info *p)
#else
#define csp_try CSP_X_QUIETLY CSP_X_TRY(CSP_X_CAT(csp_x_try_, __COUNTER__)) CSP_X_ALOUD
#define CSP_X_TRY(t)                                                                               \
    __attribute__((cleanup(csp_x_try_leave))) csp_x_try t;                                         \
    if (CSP_X_SETJMP(csp_x_try_enter(&t)->mark) == 0)
#define csp_catch(p) for (const csp_panic_info *p = csp_x_try_end(); p != NULL; p = NULL)
#endif
#endif

#ifndef CSP_BARE
/*   csp_main(argc, argv) { ... return code; }
 * Defines main(): the block runs as the main goroutine, and its result is the exit status. argc and
 * argv are names without types, an int and a char **. Otherwise as csp_run. */
CSP_DEF int csp_x_main(const csp_x_site *site, int argc, char **argv, int (*fn)(int, char **));
#define csp_main(argc, argv)                                                                       \
    struct csp_x_named_##argc;                                                                     \
    static int csp_x_user_main(int, char **);                                                      \
    int main(int csp_x_argc, char **csp_x_argv)                                                    \
    {                                                                                              \
        return csp_x_main(CSP_X_SITE("main"), csp_x_argc, csp_x_argv, csp_x_user_main);            \
    }                                                                                              \
    static int csp_x_user_main(int argc __attribute__((unused)),                                   \
                               char **argv __attribute__((unused)))
#endif

/*   csp_task(name, T1, a1, T2, a2, ...) { body }
 *   csp_task_declare(name, T1, a1, ...);
 *   csp_task_extern(name, T1, a1, ...) { body }
 *   csp_task_extern_declare(name, T1, a1, ...);
 *   uint64_t csp_go(name, values...)
 *   uint64_t csp_go_with(const csp_opts *opts, name, values...)
 * csp_task defines a static function without a result and with up to 8 parameters. A program calls
 * it as a function, or starts it as a goroutine with csp_go. csp_task_declare declares it, for
 * tasks that start each other. csp_task_extern defines one with external linkage;
 * csp_task_extern_declare, in a header, declares it for the files that start it.
 *   csp_go evaluates the values, converts them as a call does, and copies them to the goroutine. An
 * object behind a pointer stays the caller's. It returns the goroutine's id. csp_go happens before
 * the task starts. Panics when out of memory. Threads and goroutines. */

/* How a task is started by macros other than csp_go: only the fields that the macro needs are set.
 * It lives in the caller's expression. */
typedef struct csp_x_how {
    const csp_opts *opts;
    struct csp_waitgroup *wg;
    struct csp_group *group;
    uint64_t (*start)(const struct csp_x_how *how, const csp_x_site *site, void (*run)(void *),
                      const void *args, size_t size);
    int64_t until;
} csp_x_how;
CSP_DEF uint64_t csp_x_start(const csp_x_how *how, const csp_x_site *site, void (*run)(void *),
                             const void *args, size_t size);
CSP_DEF uint64_t csp_x_spawn(const csp_opts *opts, const csp_x_site *site, void (*fn)(void *),
                             void *arg);

/* csp_range and csp_main declare the names that they are given. A type before such a name is a
 * common mistake, and the compiler's own messages would not name it. So a name that begins with one
 * of these types expands to an error that does. */
#define CSP_X_TYPED                                                                                \
    _Pragma(                                                                                       \
        "GCC error \"csp_range(v, c) and csp_main(argc, argv) take names, without their types\"")
#define csp_x_named_int CSP_X_TYPED
#define csp_x_named_char CSP_X_TYPED
#define csp_x_named_short CSP_X_TYPED
#define csp_x_named_long CSP_X_TYPED
#define csp_x_named_unsigned CSP_X_TYPED
#define csp_x_named_signed CSP_X_TYPED
#define csp_x_named_float CSP_X_TYPED
#define csp_x_named_double CSP_X_TYPED
#define csp_x_named_bool CSP_X_TYPED
#define csp_x_named_const CSP_X_TYPED
#define csp_x_named_volatile CSP_X_TYPED
#define csp_x_named_struct CSP_X_TYPED
#define csp_x_named_size_t CSP_X_TYPED
#define csp_x_named_int8_t CSP_X_TYPED
#define csp_x_named_int16_t CSP_X_TYPED
#define csp_x_named_int32_t CSP_X_TYPED
#define csp_x_named_int64_t CSP_X_TYPED
#define csp_x_named_uint8_t CSP_X_TYPED
#define csp_x_named_uint16_t CSP_X_TYPED
#define csp_x_named_uint32_t CSP_X_TYPED
#define csp_x_named_uint64_t CSP_X_TYPED

#ifdef CSP_NO_NAMES
#define CSP_X_SITE(name) ((const csp_x_site *)NULL)
#else
#define CSP_X_SITE(name)                                                                           \
    __extension__({                                                                                \
        static const csp_x_site csp_x_here = {name, __FILE__, __LINE__ CSP_X_WHERE("group")};      \
        &csp_x_here;                                                                               \
    })
#endif

#define CSP_X_COUNT(...)                                                                           \
    CSP_X_COUNT_(__VA_ARGS__, 8, x, 7, x, 6, x, 5, x, 4, x, 3, x, 2, x, 1, x, 0, x)
#define CSP_X_COUNT_(n, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p, q, count, ...) count
#define CSP_X_EACH_1(f, s, T, a) f(T, a)
#define CSP_X_EACH_2(f, s, T, a, ...) f(T, a) s() CSP_X_EACH_1(f, s, __VA_ARGS__)
#define CSP_X_EACH_3(f, s, T, a, ...) f(T, a) s() CSP_X_EACH_2(f, s, __VA_ARGS__)
#define CSP_X_EACH_4(f, s, T, a, ...) f(T, a) s() CSP_X_EACH_3(f, s, __VA_ARGS__)
#define CSP_X_EACH_5(f, s, T, a, ...) f(T, a) s() CSP_X_EACH_4(f, s, __VA_ARGS__)
#define CSP_X_EACH_6(f, s, T, a, ...) f(T, a) s() CSP_X_EACH_5(f, s, __VA_ARGS__)
#define CSP_X_EACH_7(f, s, T, a, ...) f(T, a) s() CSP_X_EACH_6(f, s, __VA_ARGS__)
#define CSP_X_EACH_8(f, s, T, a, ...) f(T, a) s() CSP_X_EACH_7(f, s, __VA_ARGS__)
#define CSP_X_COMMA() ,
#define CSP_X_SEMICOLON() ;
#define CSP_X_NOTHING()
#define CSP_X_PAR(n, f, ...) CSP_X_EACH_##n(f, CSP_X_COMMA, __VA_ARGS__)
#define CSP_X_DECL(T, a) __typeof__(T) a
#define CSP_X_VALUE(T, a) a
#define CSP_X_LOAD(T, a) csp_x_args->a

/* Two facts about a task for csp_fork and csp_for: the size and alignment of its arguments, and
 * whether its first two parameters are int64_t (a loop's). The sizes of two extern arrays that are
 * never defined carry them. A struct would not do: csp_task after csp_task_declare would define it
 * a second time, while an array may be declared again. */
#ifdef __cplusplus
} // extern "C"
template <typename... T> struct csp_x_pack;
template <typename T> struct csp_x_pack<T> {
    T first;
};
template <typename T, typename... More> struct csp_x_pack<T, More...> {
    T first;
    csp_x_pack<More...> more;
};
template <typename T, typename U> struct csp_x_same {
    enum { value = 0 };
};
template <typename T> struct csp_x_same<T, T> {
    enum { value = 1 };
};
extern "C" {
#define CSP_X_TYPE(T, a) __typeof__(T)
#define CSP_X_PACK(n, ...) csp_x_pack<CSP_X_PAR(n, CSP_X_TYPE, __VA_ARGS__)>
#define CSP_X_IS_INT64(T) (csp_x_same<__typeof__(T), int64_t>::value != 0)
#else
#define CSP_X_PACK(n, ...)                                                                         \
    struct {                                                                                       \
        CSP_X_EACH_##n(CSP_X_DECL, CSP_X_SEMICOLON, __VA_ARGS__);                                  \
    }
#define CSP_X_IS_INT64(T) __builtin_types_compatible_p(__typeof__(T), int64_t)
#endif
#define CSP_X_LOOP_1(...) 0
#define CSP_X_LOOP_2(T, a, U, b) (CSP_X_IS_INT64(T) && CSP_X_IS_INT64(U))
#define CSP_X_LOOP_MORE(T, a, U, b, ...) (CSP_X_IS_INT64(T) && CSP_X_IS_INT64(U))
#define CSP_X_LOOP_3 CSP_X_LOOP_MORE
#define CSP_X_LOOP_4 CSP_X_LOOP_MORE
#define CSP_X_LOOP_5 CSP_X_LOOP_MORE
#define CSP_X_LOOP_6 CSP_X_LOOP_MORE
#define CSP_X_LOOP_7 CSP_X_LOOP_MORE
#define CSP_X_LOOP_8 CSP_X_LOOP_MORE

/* A csp_x_fork lies in the block of csp_fork and ends with it. The forks of a goroutine are a list:
 * from the oldest by `link.next`, from the newest by `prev`. The protocol is at OFFERS. */
typedef struct csp_x_fork csp_x_fork;
typedef struct csp_x_link {
    csp_x_fork *next;
} csp_x_link;
typedef struct csp_x_forks {
    csp_x_link *top; // link of the newest fork; owner only
    csp_x_link base; // its next is the oldest fork
#ifndef CSP_BARE
    uint32_t tail;  // number of forks; atomic, written by the owner
    uint32_t limit; // forks below it are taken or about to be; atomic, written by thieves
#endif
} csp_x_forks;
struct csp_x_fork {
    csp_x_link link;
    csp_x_link *prev;
    csp_x_forks *of; // NULL: joined
    const csp_x_site *site;
    void (*run)(void *);
    union {
        void *args;
        void *outcome; // once a thief has taken the fork and done it
    };
    csp_x_defer *defers; // the goroutine's defers before this fork
#ifndef CSP_BARE
    uint32_t depth, taken; // depth: forks before this one; taken: guarded by the list's lock
    void *done;            // of a taken fork: atomic, see OFFERS
#endif
};
CSP_DEF void csp_x_fork_offer(csp_x_fork *f);
CSP_DEF bool csp_x_fork_settle(csp_x_fork *f); // true: the caller does the work itself
CSP_DEF void csp_x_fork_end(csp_x_fork *f);
CSP_DEF void csp_x_for(const csp_x_site *site, void (*run)(void *), const void *args, size_t size,
                       int64_t from, int64_t to, int64_t grain);
static inline void csp_x_fork_begin(csp_x_fork *f, const csp_x_site *site, void (*run)(void *),
                                    void *args)
{
    if (f == NULL) return; // csp_for wants only the arguments packed
    f->site = site;
    f->run = run;
    f->args = args;
    csp_x_fork_offer(f);
}
/* The owner's side of OFFERS. True: the fork is the owner's again, and the owner does the work. */
static inline bool csp_x_fork_join(csp_x_fork *f)
{
#ifndef CSP_BARE
    csp_x_forks *of = f->of;
    if (__builtin_expect(of->top == &f->link, 1)) {
        __atomic_store_n(&of->tail, f->depth, __ATOMIC_RELAXED);
        __asm__ volatile("" ::: "memory");
        if (__builtin_expect(__atomic_load_n(&of->limit, __ATOMIC_RELAXED) <= f->depth, 1)) {
            of->top = f->prev;
            f->of = NULL;
            return true;
        }
    }
#endif
    return csp_x_fork_settle(f);
}
static inline void csp_x_fork_leave(csp_x_fork *f)
{
    if (__builtin_expect(f->of != NULL, 0)) csp_x_fork_end(f);
}

#define CSP_X_STATIC __attribute__((unused)) static
#define csp_task(...) CSP_X_TASK(CSP_X_DEFINE, csp_x_task, CSP_X_STATIC, __VA_ARGS__)
#define csp_task_declare(...) CSP_X_TASK(CSP_X_DECLARE, csp_x_task, CSP_X_STATIC, __VA_ARGS__)
#define csp_task_extern(...) CSP_X_TASK(CSP_X_DEFINE, csp_x_task, , __VA_ARGS__)
#define csp_task_extern_declare(...) CSP_X_TASK(CSP_X_DECLARE, csp_x_task, , __VA_ARGS__)
#define CSP_X_TASK(how, what, linkage, ...)                                                        \
    CSP_X_TASK_(how, what, linkage, CSP_X_KIND(__VA_ARGS__), CSP_X_COUNT(__VA_ARGS__), __VA_ARGS__)
#define CSP_X_KIND(...)                                                                            \
    CSP_X_KIND_(__VA_ARGS__, m, m, m, m, m, m, m, m, m, m, m, m, m, m, n, x, n, x, n, x, n, x, n,  \
                x, n, x, n, x, n, x, 0, x)
#define CSP_X_KIND_(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z,  \
                    A, B, C, D, E, kind, ...)                                                      \
    kind
#define CSP_X_TASK_(how, what, linkage, kind, ...)                                                 \
    CSP_X_CAT(CSP_X_TASK_, kind)(how, what, linkage, __VA_ARGS__)
#define CSP_X_TASK_0(how, what, linkage, n, name) how##_0(what, linkage, name)
#define CSP_X_TASK_n(how, ...) how(__VA_ARGS__)
#define CSP_X_TASK_x(how, what, linkage, n, name, ...)                                             \
    /* the common mistake: (name, int n) instead of (name, int, n) */                              \
    CSP_X_ASSERT(0, "csp_task: name, type, parameter, type, parameter: a comma between each");     \
    static CSP_X_RESULT_##what name(void)
#define CSP_X_TASK_m(how, what, linkage, n, name, ...)                                             \
    CSP_X_ASSERT(0, "csp_task: eight parameters at most; more of them go into a struct");          \
    static CSP_X_RESULT_##what name(void)

#ifdef __cplusplus
#define CSP_X_ASSERT static_assert
#define CSP_X_NO_ARRAY(T, a)
#define CSP_X_IS_BYTES(T) __is_trivially_copyable(T)
#define CSP_X_HOW(...) csp_x::how_of(csp_x_how{__VA_ARGS__})
#else
#define CSP_X_ASSERT _Static_assert
/* Refuses an array as a parameter: the comma operator turns an array, and only an array, into
 * another type, a pointer. */
#define CSP_X_NO_ARRAY(T, a)                                                                       \
    CSP_X_ASSERT(__builtin_types_compatible_p(__typeof__(T),                                       \
                                              __typeof__((void)0, *(__typeof__(T) *)0)),           \
                 "csp_task: an array cannot be a parameter; a pointer or a struct can");
#define CSP_X_IS_BYTES(T) 1
#define CSP_X_HOW(...) (&(const csp_x_how){__VA_ARGS__})
#endif
/* The differences between csp_task and csp_group_task: result type, return, and start function. */
#define CSP_X_RESULT_csp_x_task void
#define CSP_X_RETURN_csp_x_task
#define CSP_X_START_csp_x_task csp_x_start
#define CSP_X_RESULT_csp_x_group_task int
#define CSP_X_RETURN_csp_x_group_task return
#define CSP_X_START_csp_x_group_task csp_x_group_go
/* For csp_fork: the function that packs the arguments into the caller's block. */
#define CSP_X_FORK_DECLARE_0_csp_x_task(linkage, name)                                             \
    extern char csp_x_size_##name[1], csp_x_loop_##name[1];                                        \
    linkage void csp_x_forked_##name(const csp_x_site *csp_x_site_, void *csp_x_p,                 \
                                     csp_x_fork *csp_x_f)
#define CSP_X_FORK_DECLARE_csp_x_task(linkage, n, name, ...)                                       \
    extern char csp_x_size_##name[sizeof(CSP_X_PACK(n, __VA_ARGS__))]                              \
        __attribute__((aligned(__alignof__(CSP_X_PACK(n, __VA_ARGS__)))));                         \
    extern char csp_x_loop_##name[CSP_X_LOOP_##n(__VA_ARGS__) ? 2 : 1];                            \
    linkage void csp_x_forked_##name(const csp_x_site *csp_x_site_, void *csp_x_p,                 \
                                     CSP_X_PAR(n, CSP_X_DECL, __VA_ARGS__), csp_x_fork *csp_x_f)
#define CSP_X_FORK_DEFINE_0_csp_x_task(linkage, name)                                              \
    linkage void csp_x_forked_##name(const csp_x_site *csp_x_site_, void *csp_x_p,                 \
                                     csp_x_fork *csp_x_f)                                          \
    {                                                                                              \
        csp_x_fork_begin(csp_x_f, csp_x_site_, csp_x_run_##name, csp_x_p);                         \
    }
#define CSP_X_FORK_DEFINE_csp_x_task(linkage, n, name, ...)                                        \
    linkage void csp_x_forked_##name(const csp_x_site *csp_x_site_, void *csp_x_p,                 \
                                     CSP_X_PAR(n, CSP_X_DECL, __VA_ARGS__), csp_x_fork *csp_x_f)   \
    {                                                                                              \
        struct csp_x_args_##name csp_x_args = {CSP_X_PAR(n, CSP_X_VALUE, __VA_ARGS__)};            \
        *(struct csp_x_args_##name *)csp_x_p = csp_x_args;                                         \
        csp_x_fork_begin(csp_x_f, csp_x_site_, csp_x_run_##name, csp_x_p);                         \
    }
#define CSP_X_FORK_DECLARE_0_csp_x_group_task(...) extern char csp_x_unused_
#define CSP_X_FORK_DECLARE_csp_x_group_task(...) extern char csp_x_unused_
#define CSP_X_FORK_DEFINE_0_csp_x_group_task(...)
#define CSP_X_FORK_DEFINE_csp_x_group_task(...)
/* A task is three functions: `name`, its body; `what_name`, which takes the same arguments and
 * packs them; and `csp_x_run_name`, the goroutine's first function, which unpacks them. */
#define CSP_X_DECLARE_0(what, linkage, name)                                                       \
    linkage CSP_X_RESULT_##what name(void);                                                        \
    linkage uint64_t what##_##name(const csp_x_site *csp_x_site_, const csp_x_how *csp_x_how_);    \
    linkage CSP_X_RESULT_##what csp_x_run_##name(void *csp_x_args);                                \
    CSP_X_FORK_DECLARE_0_##what(linkage, name)
#define CSP_X_DECLARE(what, linkage, n, name, ...)                                                 \
    linkage CSP_X_RESULT_##what name(CSP_X_PAR(n, CSP_X_DECL, __VA_ARGS__));                       \
    linkage uint64_t what##_##name(const csp_x_site *csp_x_site_, const csp_x_how *csp_x_how_,     \
                                   CSP_X_PAR(n, CSP_X_DECL, __VA_ARGS__));                         \
    linkage CSP_X_RESULT_##what csp_x_run_##name(void *csp_x_p);                                   \
    CSP_X_FORK_DECLARE_##what(linkage, n, name, __VA_ARGS__)
#define CSP_X_DEFINE_0(what, linkage, name)                                                        \
    CSP_X_DECLARE_0(what, linkage, name);                                                          \
    linkage CSP_X_RESULT_##what csp_x_run_##name(void *csp_x_args)                                 \
    {                                                                                              \
        (void)csp_x_args;                                                                          \
        CSP_X_RETURN_##what name();                                                                \
    }                                                                                              \
    linkage uint64_t what##_##name(const csp_x_site *csp_x_site_, const csp_x_how *csp_x_how_)     \
    {                                                                                              \
        return CSP_X_START_##what(csp_x_how_, csp_x_site_, csp_x_run_##name, NULL, 0);             \
    }                                                                                              \
    CSP_X_FORK_DEFINE_0_##what(linkage, name) linkage CSP_X_RESULT_##what name(void)
#define CSP_X_DEFINE(what, linkage, n, name, ...)                                                  \
    CSP_X_EACH_##n(CSP_X_NO_ARRAY, CSP_X_NOTHING, __VA_ARGS__)                                     \
        CSP_X_DECLARE(what, linkage, n, name, __VA_ARGS__);                                        \
    struct csp_x_args_##name {                                                                     \
        CSP_X_EACH_##n(CSP_X_DECL, CSP_X_SEMICOLON, __VA_ARGS__);                                  \
    };                                                                                             \
    CSP_X_ASSERT(CSP_X_IS_BYTES(struct csp_x_args_##name),                                         \
                 "a task's values are copied as bytes: one of these types forbids it");            \
    linkage CSP_X_RESULT_##what csp_x_run_##name(void *csp_x_p)                                    \
    {                                                                                              \
        struct csp_x_args_##name *csp_x_args = (struct csp_x_args_##name *)csp_x_p;                \
        CSP_X_RETURN_##what name(CSP_X_PAR(n, CSP_X_LOAD, __VA_ARGS__));                           \
    }                                                                                              \
    linkage uint64_t what##_##name(const csp_x_site *csp_x_site_, const csp_x_how *csp_x_how_,     \
                                   CSP_X_PAR(n, CSP_X_DECL, __VA_ARGS__))                          \
    {                                                                                              \
        struct csp_x_args_##name csp_x_args = {CSP_X_PAR(n, CSP_X_VALUE, __VA_ARGS__)};            \
        return CSP_X_START_##what(csp_x_how_, csp_x_site_, csp_x_run_##name, &csp_x_args,          \
                                  sizeof csp_x_args);                                              \
    }                                                                                              \
    CSP_X_FORK_DEFINE_##what(linkage, n, name, __VA_ARGS__) linkage CSP_X_RESULT_##what name(      \
        CSP_X_PAR(n, CSP_X_DECL, __VA_ARGS__))

/* The function's name stands in parentheses. Without them, csp_go of a name that is no task would
 * be a call of an undeclared function, which C compilers may accept until the program is linked. */
#define csp_go(...) CSP_X_GO(csp_x_task_, NULL, __VA_ARGS__)
#define csp_go_with(opts, ...)                                                                     \
    CSP_X_GO(csp_x_task_, CSP_X_HOW(opts, NULL, NULL, NULL, 0), __VA_ARGS__)
#define CSP_X_GO(what, how, ...)                                                                   \
    CSP_X_CAT(CSP_X_GO_, CSP_X_MORE(__VA_ARGS__))(what, how, __VA_ARGS__)
#define CSP_X_GO_0(what, how, name) CSP_X_STRICT((what##name)(CSP_X_SITE(#name), how))
#define CSP_X_GO_n(what, how, name, ...)                                                           \
    CSP_X_STRICT((what##name)(CSP_X_SITE(#name), how, __VA_ARGS__))
/* n when more than one argument is given, else 0. At most 64; commas in braces count, too. */
#define CSP_X_MORE(...)                                                                            \
    CSP_X_MORE_(__VA_ARGS__, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n,  \
                n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, n,   \
                n, n, n, n, n, n, n, n, n, n, n, n, n, 0, x)
#define CSP_X_MORE_(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z,  \
                    A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T, U, V, W, X, Y, Z,  \
                    aa, bb, cc, dd, ee, ff, gg, hh, ii, jj, kk, ll, more, ...)                     \
    more

/*   csp_fork(name, task, values...);
 *   void csp_join(name)
 * csp_fork declares `name` in this block: the work task(values...), which lies on the caller's
 * stack and is offered to the other processors. csp_join(name) returns when the work is done. If no
 * processor has taken the work, csp_join does it by a plain call; otherwise it waits. Leaving the
 * block in any way joins the work, if csp_join has not. A second join does nothing. The values are
 * evaluated and copied at the fork. The task's body must stand above the fork.
 *   The work runs at any time from the fork to the join. So it may wait for other goroutines, but
 * not for an action of the caller after the join. Work that a processor has taken is a goroutine
 * with its own stack, csp_locals and id; work done at the join has the caller's. A panic and a
 * csp_exit in the work arrive at the join. Idle processors take the oldest fork first, so that a
 * tree of forks is cut near its root.
 *   The fork happens before the work, the work before the join returns. Threads and goroutines. */
#define csp_fork(name, ...) CSP_X_FORK(name, __VA_ARGS__, &name)
#define CSP_X_FORK(name, task, ...)                                                                \
    char csp_x_args_##name[sizeof csp_x_size_##task]                                               \
        __attribute__((aligned(__alignof__(csp_x_size_##task))));                                  \
    void (*const csp_x_work_##name)(void *) __attribute__((unused)) = csp_x_run_##task;            \
    __attribute__((cleanup(csp_x_fork_leave))) csp_x_fork name;                                    \
    name.of = NULL;                                                                                \
    CSP_X_STRICT(csp_x_forked_##task(CSP_X_SITE(#task), csp_x_args_##name, __VA_ARGS__))
#define csp_join(name)                                                                             \
    ((name).of != NULL && csp_x_fork_join(&(name)) ? csp_x_work_##name(csp_x_args_##name) : (void)0)

/*   void csp_for(int64_t from, int64_t to, int64_t grain, task, values...)
 * Calls task(a, b, values...) for parts a..b-1 that together make from..to-1 and do not overlap, on
 * as many processors as are free, and returns when all parts are done. A part has at most `grain`
 * items; with a grain of 0 a part is as long as 5 us take. The task's first parameters are int64_t
 * from, int64_t to. The values are evaluated once and copied. A panic or csp_exit in a part ends
 * the loop early and arrives at the caller. Panics when from > to or grain < 0. The call happens
 * before each part, each part before the return. Threads and goroutines. */
#define csp_for(from, to, grain, ...) CSP_X_FOR(from, to, grain, __VA_ARGS__, NULL)
#define CSP_X_FOR(from, to, grain, task, ...)                                                      \
    do {                                                                                           \
        CSP_X_ASSERT(sizeof csp_x_loop_##task == 2,                                                \
                     "csp_for: a task that begins with int64_t, from, int64_t, to");               \
        const int64_t csp_x_from = (from), csp_x_to = (to);                                        \
        char csp_x_args[sizeof csp_x_size_##task]                                                  \
            __attribute__((aligned(__alignof__(csp_x_size_##task))));                              \
        CSP_X_STRICT(csp_x_forked_##task(NULL, csp_x_args, csp_x_from, csp_x_to, __VA_ARGS__));    \
        csp_x_for(CSP_X_SITE(#task), csp_x_run_##task, csp_x_args, sizeof csp_x_args, csp_x_from,  \
                  csp_x_to, (grain));                                                              \
    } while (0)

/* ==========================================================================
 * [D] CHANNELS
 *
 * The type of a channel of T is a pointer to an array of T. The array's length is the direction (3
 * both, 1 send, 2 receive), so that the compiler checks element type and direction. No code reads
 * through this pointer: behind it is a csp_x_chan. Values are copied as bytes, and so are the
 * arguments of tasks. So in C++ T must be trivially copyable, which a static_assert checks; a
 * pointer to any object is.
 *   In this room `chan` is any of the three types. Where nothing else is said, threads and
 * goroutines may call, and interrupt handlers may not.
 * ======================================================================== */

/*   csp_chan(T), csp_sender(T), csp_receiver(T)
 * The types of a channel of T: with both ends, its sending end, its receiving end. NULL is a
 * channel that is never ready. One type does not turn into another by itself: csp_send_end(c) and
 * csp_recv_end(c) make the ends. Compilers print the types as `T (*)[3]`, `T (*)[1]` and
 * `T (*)[2]`. */
#define csp_chan(T) __typeof__(__typeof__(T)(*)[3])
#define csp_sender(T) __typeof__(__typeof__(T)(*)[1])
#define csp_receiver(T) __typeof__(__typeof__(T)(*)[2])

/*   csp_chan(T) csp_make(T, int64_t capacity)
 * Makes a channel with one reference, which the caller owns; the last csp_unref frees it. At
 * capacity 0 sender and receiver meet. Panics on a negative or overflowing size and when out of
 * memory. */
#define csp_make(T, capacity)                                                                      \
    ((csp_chan(T))csp_x_make(CSP_X_SIZE(T), (int64_t)(capacity)CSP_X_WHERE("make")))

/*   void csp_send(chan c, T value)
 * Sends a copy of the value. Blocks until a receiver takes it or the buffer has room; on NULL it
 * blocks for ever. Panics when c is closed. The send happens before the receive of the value
 * returns; at capacity 0 the receive also happens before the send returns.
 *   bool csp_recv(chan c, T *p)
 * Receives a value into *p. Blocks until there is one; on NULL it blocks for ever. True: *p is a
 * value. False: c is closed and drained, and *p is zeroed. p may be NULL, which drops the value.
 *   csp_status csp_try_send(chan c, T value)
 *   csp_status csp_try_recv(chan c, T *p)
 * The same without blocking and without a panic. CSP_OK: done. CSP_AGAIN: the call would have
 * blocked. CSP_CLOSED: c is closed (and drained, for a receive).
 *   csp_status csp_send_until(chan c, T value, int64_t t)
 *   csp_status csp_recv_until(chan c, T *p, int64_t t)
 * The same, blocking until csp_now() is t at the latest. CSP_OK; CSP_CLOSED; CSP_TIMEOUT: the time
 * came first, nothing was sent or received.
 *   A value may contain commas, as in (point){1, 2}. One with more than seven wants parentheses in
 * csp_send_until. */
CSP_DEF void *csp_x_make(size_t size, int64_t capacity CSP_X_PLACE);
CSP_DEF void *csp_x_send(const void *c, const void *value CSP_X_PLACE); // NULL: c is closed
#ifdef CSP_BARE
CSP_DEF void csp_x_send_closed(void) __attribute__((noreturn, cold));
#else
CSP_DEF void csp_x_send_closed(const char *at) __attribute__((noreturn, cold));
#endif
CSP_DEF void *csp_x_recv(const void *c, void *value CSP_X_PLACE); // NULL: closed, no value
static inline bool csp_x_got(const void *result)
{
    return result != NULL;
}
CSP_DEF csp_status csp_x_try_send(const void *c, const void *value);
CSP_DEF csp_status csp_x_try_recv(const void *c, void *value);
#ifndef CSP_NO_TIMERS
CSP_DEF csp_status csp_x_send_until(const void *c, const void *value, int64_t t CSP_X_PLACE);
CSP_DEF csp_status csp_x_recv_until(const void *c, void *value, int64_t t CSP_X_PLACE);
#endif
CSP_DEF void csp_x_close(const void *c CSP_X_PLACE);
#ifdef CSP_BARE
/* csp copies larger elements with interrupts on, so handlers must not send or receive them. */
#ifndef CSP_ISR_SIZE
#define CSP_ISR_SIZE (4 * sizeof(void *))
#endif
/*   csp_status csp_isr_send(chan c, T value)
 *   csp_status csp_isr_recv(chan c, T *p)
 *   void csp_isr_wake(chan c)
 * Send and receive for interrupt handlers; goroutines may call them, too. They never wait, and mask
 * interrupts for a bounded time. CSP_OK; CSP_AGAIN: the buffer is full, or empty; CSP_CLOSED.
 * csp_isr_wake sends a zero, unless c is full: it uses a channel of elements of up to 8 bytes as a
 * flag. The happens-before promises are those of csp_send and csp_recv. */
CSP_DEF csp_status csp_x_isr_send(const void *c, const void *value);
CSP_DEF csp_status csp_x_isr_recv(const void *c, void *value);
CSP_DEF void csp_x_isr_wake(const void *c);
#define csp_isr_wake(c) csp_x_isr_wake(CSP_X_SENDS(c))
#ifdef CSP_PREEMPT
/*   void csp_isr_yield(void)
 * For interrupt handlers: the running goroutine yields when the last handler has ended, as if it
 * had called csp_yield there. The others of its priority have their turn, and timers that are due
 * fire. Called by a handler that runs every millisecond it gives goroutines time slices of a
 * millisecond, and a goroutine that computes delays no csp_sleep for longer. */
CSP_DEF void csp_isr_yield(void);
#endif
#endif
CSP_DEF int64_t csp_x_len(const void *c);
CSP_DEF int64_t csp_x_cap(const void *c);
CSP_DEF const void *csp_x_ref(const void *c);
CSP_DEF void csp_x_unref(const void *c CSP_X_PLACE);

/*   void csp_close(chan c)
 * Closes c: receivers get the buffered values and then false; waiting senders panic. Panics when c
 * is NULL or closed already. Does not free c. The close happens before a receive that returns
 * false. */
CSP_DEF void csp_close(const void *c);
#define csp_close(c) csp_x_close(CSP_X_SENDS(c) CSP_X_WHERE("close"))
/*   int64_t csp_len(chan c), csp_cap(chan c)
 * The number of values buffered now, and the capacity; 0 for NULL. Interrupt handlers may call
 * them. */
#define csp_len(c) csp_x_len(c)
#define csp_cap(c) csp_x_cap(c)
/*   void csp_unref(chan c)
 * Drops a reference; the last one frees c, which no goroutine may use then. Panics, without freeing
 * c, when a goroutine waits on it. NULL is fine. */
CSP_DEF void csp_unref(const void *c);
#define csp_unref(c) csp_x_unref(c CSP_X_WHERE("unref"))

/*   csp_range(v, c) { body }
 * Receives values into a new variable v of the element type, and runs the body for each, until c is
 * closed and drained. c is evaluated once. v is a name without a type. */
#define csp_range(v, c)                                                                            \
    for (__typeof__(c) csp_x_named_##v = (c), *csp_x_more_##v = &csp_x_named_##v;                  \
         csp_x_more_##v != NULL; csp_x_more_##v = NULL)                                            \
        for (__typeof__((*csp_x_named_##v)[0]) v; csp_recv(csp_x_named_##v, &v);)

/*   CSP_CHAN_STATIC(T, name, capacity);
 * Defines the constant `name`, a csp_chan(T) whose record and buffer are static, outside of
 * functions or within one. csp_unref does not free it. */
typedef struct csp_x_queue {
    void *head, *tail;
} csp_x_queue;
/* A channel: made by csp_make with its buffer behind it, or by CSP_CHAN_STATIC; freed by the last
 * csp_unref. */
typedef struct csp_x_chan {
    // immutable
    uint32_t magic; // poisoned when freed
    uint32_t flags;
    size_t size; // bytes of an element
    size_t cap;  // elements that the buffer holds
    char *buffer;
    // guarded by lock
    uint32_t lock;
    uint32_t special; // 1: closed; 2: watched; 4, immutable: elements are of neither 4 nor 8 bytes
    size_t count;     // elements in the buffer
    size_t head;      // index of the oldest element
    csp_x_queue senders, receivers;
    // atomic
    uint32_t refs;
#ifndef CSP_BARE
    const char *made; // immutable: place of the csp_make, see WHERE
#endif
} csp_x_chan;
#define CSP_X_CHAN_MAGIC 0x63737063u
#define CSP_X_CHAN_STATIC 1u
#define CSP_X_CHAN_SPECIAL(size) ((size) == 4 || (size) == 8 ? 0u : 4u)
// clang-format off
#define CSP_CHAN_STATIC(T, name, capacity)                                                         \
    CSP_X_ASSERT(CSP_X_IS_BYTES(__typeof__(T)), "a channel's values are copied as bytes");         \
    static __typeof__(T) csp_x_buffer_##name[(capacity) > 0 ? (capacity) : 1];                     \
    static csp_x_chan csp_x_static_##name = {                                                      \
        CSP_X_CHAN_MAGIC, CSP_X_CHAN_STATIC, sizeof(T), (size_t)(capacity),                        \
        (char *)csp_x_buffer_##name, 0, CSP_X_CHAN_SPECIAL(sizeof(T)), 0, 0,                       \
        {NULL, NULL}, {NULL, NULL}, 1 CSP_X_WHERE("make")};                                        \
    __attribute__((unused)) static __typeof__(T)(*const name)[3] =                                 \
        (__typeof__(T)(*)[3])(void *)&csp_x_static_##name
// clang-format on

#define CSP_X_T(c) __typeof__((*(c))[0])
/* Checks of directions and types: in C by _Generic and assertions here, in C++ by templates at the
 * end of the interface. */
#ifdef __cplusplus
#define CSP_X_SIZE(T) csp_x::size_of<__typeof__(T)>()
#define CSP_X_SENDS(c) csp_x::sends(c)
#define CSP_X_RECVS(c) csp_x::recvs(c)
#define CSP_X_VALUE_OF(c, ...) csp_x::value_of<CSP_X_T(c)>(__VA_ARGS__)
#define CSP_X_INTO(c, p) csp_x::into<CSP_X_T(c)>(p)
#define CSP_X_CASE(...) (csp_case{__VA_ARGS__})
#define CSP_X_OK(ok) ok
#else
#define CSP_X_SIZE(T) sizeof(T)
#define CSP_X_CASE(...) ((csp_case){__VA_ARGS__})
#define CSP_X_MUST(cond, message)                                                                  \
    ((void)__extension__({                                                                         \
        _Static_assert(cond, message);                                                             \
        0;                                                                                         \
    }))
#define CSP_X_IS(c, d) _Generic((c), CSP_X_T(c)(*)[3] : 1, CSP_X_T(c)(*)[d] : 1, default : 0)
#define CSP_X_SENDS(c)                                                                             \
    __extension__(CSP_X_MUST(CSP_X_IS(c, 1), "cannot send on or close a receive-only channel"), (c))
#define CSP_X_RECVS(c)                                                                             \
    __extension__(CSP_X_MUST(CSP_X_IS(c, 2), "cannot receive from a send-only channel"), (c))
/* An assignment that is never evaluated: where the value has another type, the compiler's error
 * names both types. Without it, a number would be accepted for a struct, as its first member. */
#define CSP_X_SAME(T, v)                                                                           \
    ((void)(__typeof__(CSP_X_STRICT(*(__typeof__((void)0, *(T *)0) *)0 = (v))) *)0)
#define CSP_X_OK(ok) (CSP_X_SAME(bool *, ok), (ok))
#define CSP_X_VALUE_OF(c, ...)                                                                     \
    __extension__(CSP_X_MUST(sizeof #__VA_ARGS__ > 1, "a value is missing"),                       \
                  CSP_X_SAME(CSP_X_T(c), (__VA_ARGS__)),                                           \
                  (const void *)&((CSP_X_T(c)[1]){__VA_ARGS__})[0])
#define CSP_X_INTO(c, p)                                                                           \
    __extension__(CSP_X_MUST(_Generic((p), CSP_X_T(c) * : 1, void * : 1, default : 0),             \
                             "the destination is of another type than the channel's values"),      \
                  (void *)(p))
#endif
/* Evaluates the operands once, from left to right: the channel, then the rest. */
#define CSP_X_ON(n, channel, call)                                                                 \
    __extension__({                                                                                \
        const void *n = channel;                                                                   \
        call;                                                                                      \
    })
#define CSP_X_SEND_BY(n, send, c, ...)                                                             \
    CSP_X_ON(n, CSP_X_SENDS(c), send(n, CSP_X_VALUE_OF(c, __VA_ARGS__)))
#define CSP_X_RECV_BY(n, recv, c, p) CSP_X_ON(n, CSP_X_RECVS(c), recv(n, CSP_X_INTO(c, p)))
#ifdef CSP_BARE
#define CSP_X_SENT(n, value) csp_x_send(n, value) != NULL ? (void)0 : csp_x_send_closed()
#else
#define CSP_X_SENT(n, value)                                                                       \
    csp_x_send(n, value, CSP_X_AT("send")) != NULL ? (void)0 : csp_x_send_closed(CSP_X_AT("send"))
#endif
#define CSP_X_RECEIVED(n, value) csp_x_recv(n, value CSP_X_WHERE("receive"))
#define csp_send(c, ...) CSP_X_SEND_BY(CSP_X_NEW(send), CSP_X_SENT, c, __VA_ARGS__)
#define csp_recv(c, p) csp_x_got(CSP_X_RECV_BY(CSP_X_NEW(recv), CSP_X_RECEIVED, c, p))
#define csp_try_send(c, ...) CSP_X_SEND_BY(CSP_X_NEW(try_send), csp_x_try_send, c, __VA_ARGS__)
#define csp_try_recv(c, p) CSP_X_RECV_BY(CSP_X_NEW(try_recv), csp_x_try_recv, c, p)
#ifdef CSP_BARE
#define CSP_X_ISR(c, call)                                                                         \
    __extension__({                                                                                \
        CSP_X_ASSERT(sizeof(CSP_X_T(c)) <= CSP_ISR_SIZE, "too large for handlers: CSP_ISR_SIZE");  \
        call;                                                                                      \
    })
#define csp_isr_send(c, ...)                                                                       \
    CSP_X_ISR(c, CSP_X_SEND_BY(CSP_X_NEW(isr_send), csp_x_isr_send, c, __VA_ARGS__))
#define csp_isr_recv(c, p) CSP_X_ISR(c, CSP_X_RECV_BY(CSP_X_NEW(isr_recv), csp_x_isr_recv, c, p))
#endif
/* k is set and used in one expression: in C++ the value may be a temporary, which ends with it. */
#define csp_send_until(c, ...)                                                                     \
    CSP_X_CAT(CSP_X_UNTIL_, CSP_X_PIECES(__VA_ARGS__, m, m, m, m, m, m, m, m, m, m, m, m, m, m, m, \
                                         m, m, m, m, m, m, m, m, m, 9, 8, 7, 6, 5, 4, 3, 2, 1, x)) \
    (c, __VA_ARGS__)
/* A value may contain commas, as in braces: the time is the last of the pieces. */
#define CSP_X_PIECES(A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T, U, V, W, X, Y, Z, \
                     a, b, c, d, e, f, g, n, ...)                                                  \
    n
#define CSP_X_UNTIL_1(...) csp_send_until_takes_a_channel_a_value_and_a_time
#define CSP_X_UNTIL_m(...) csp_send_until_takes_such_a_long_value_in_parentheses
#define CSP_X_UNTIL_2(c, u, t) CSP_X_SEND_AT(t, c, u)
#define CSP_X_UNTIL_3(c, u, v, t) CSP_X_SEND_AT(t, c, u, v)
#define CSP_X_UNTIL_4(c, u, v, w, t) CSP_X_SEND_AT(t, c, u, v, w)
#define CSP_X_UNTIL_5(c, u, v, w, x, t) CSP_X_SEND_AT(t, c, u, v, w, x)
#define CSP_X_UNTIL_6(c, u, v, w, x, y, t) CSP_X_SEND_AT(t, c, u, v, w, x, y)
#define CSP_X_UNTIL_7(c, u, v, w, x, y, z, t) CSP_X_SEND_AT(t, c, u, v, w, x, y, z)
#define CSP_X_UNTIL_8(c, u, v, w, x, y, z, i, t) CSP_X_SEND_AT(t, c, u, v, w, x, y, z, i)
#define CSP_X_UNTIL_9(c, u, v, w, x, y, z, i, j, t) CSP_X_SEND_AT(t, c, u, v, w, x, y, z, i, j)
#define CSP_X_SEND_AT(t, c, ...)                                                                   \
    CSP_X_SEND_UNTIL(CSP_X_NEW(send_until), CSP_X_NEW(sent_until), t, c, __VA_ARGS__)
#define CSP_X_SEND_UNTIL(n, k, t, c, ...)                                                          \
    __extension__({                                                                                \
        const void *n = CSP_X_SENDS(c), *k;                                                        \
        k = CSP_X_VALUE_OF(c, __VA_ARGS__), csp_x_send_until(n, k, t CSP_X_WHERE("send"));         \
    })
#define csp_recv_until(c, p, t)                                                                    \
    CSP_X_RECV_UNTIL(CSP_X_NEW(recv_until), CSP_X_NEW(into_until), c, p, t)
#define CSP_X_RECV_UNTIL(n, k, c, p, t)                                                            \
    __extension__({                                                                                \
        const void *n = CSP_X_RECVS(c);                                                            \
        void *k = CSP_X_INTO(c, p);                                                                \
        csp_x_recv_until(n, k, t CSP_X_WHERE("receive"));                                          \
    })
/*   csp_sender(T) csp_send_end(chan c)
 *   csp_receiver(T) csp_recv_end(chan c)
 * One end of c, as a type. It is the same channel, and no reference is added. */
#define csp_send_end(c) ((csp_sender(CSP_X_T(c)))CSP_X_SENDS(c))
#define csp_recv_end(c) ((csp_receiver(CSP_X_T(c)))CSP_X_RECVS(c))
/*   chan csp_ref(chan c)
 * Adds a reference, which the caller owns, and returns c. NULL is fine. */
#define csp_ref(c) ((__typeof__(c))(uintptr_t)csp_x_ref(c))

/* ==========================================================================
 * [E] SELECT
 *
 *   int csp_select(CASE, ...)
 *   int csp_select_first(CASE, ...)
 *   int csp_select_n(csp_case *cases, size_t n)
 * Waits until a case is ready, carries it out, and returns its position, from 0 on. Of several
 * ready cases csp_select and csp_select_n take one at random, csp_select_first the first in order.
 * csp_select_n takes an array, which stays the caller's; n = 0 blocks for ever. A select panics
 * when the case that it takes sends on a closed channel, and when out of memory. What a case does
 * happens before or after other operations as the call of the same name says. Callable by threads
 * and goroutines. The cases:
 *
 *   CSP_RECV(c), CSP_RECV(c, T *p), CSP_RECV(c, T *p, bool *ok)   as csp_recv; *ok is its result
 *   CSP_SEND(c, v), CSP_SEND_PTR(c, T *p)   as csp_send, of v or of *p
 *   CSP_DONE(ctx)                           the context is done
 *   CSP_UNTIL(t), CSP_AFTER(ns)             csp_now() is t, or ns from now
 *   CSP_DEFAULT                             no other case is ready
 *   CSP_FD(fd, CSP_READABLE | CSP_WRITABLE) csp_wait_fd would return; not on bare metal
 *
 * CSP_SEND(c, v) keeps a copy of v until the end of the block that contains the case. In C++ the
 * copy lives until the end of the statement only, so a case in an array needs CSP_SEND_PTR(c, &v).
 * A case whose channel is NULL, and a zeroed case, is never ready. CSP_FD is always ready for a
 * file, as with poll(2). It is also ready for a descriptor that is not open, is closed meanwhile,
 * was interrupted, or whose context is done: the read or write that follows reports which.
 * ======================================================================== */

#ifndef CSP_NO_SELECT
typedef enum csp_x_case_not_channel {
    CSP_X_NOTHING, // of a zeroed case: never ready
    CSP_X_RECV,
    CSP_X_SEND,
    CSP_X_UNTIL,
    CSP_X_DEFAULT,
    CSP_X_FD // `until` holds the descriptor, and in its lower half the events
} csp_x_case_not_channel;
/* One case of a select, in the caller's memory. It is made by the CSP_* macros only; its fields are
 * private. The objects that its pointers name must live until the select returns. */
typedef struct csp_case {
    csp_x_case_not_channel kind;
    const void *chan;
    void *value;
    bool *ok;
    int64_t until;
} csp_case;
CSP_DEF int csp_x_select(csp_case *cases, size_t n, bool in_order CSP_X_PLACE);
#ifdef CSP_BARE
typedef struct csp_x_room { // a select's memory for its wait in one case; not initialized
    __attribute__((may_alias)) uintptr_t words[6 + 16 / sizeof(void *)];
} __attribute__((may_alias)) csp_x_room;
CSP_DEF int csp_x_select_in(csp_x_room *rooms, csp_case *cases, size_t n, bool in_order);
#endif
#ifndef CSP_NO_TIMERS
CSP_DEF csp_case csp_x_case_after(int64_t ns);
#define CSP_UNTIL(t) CSP_X_CASE(CSP_X_UNTIL, NULL, NULL, NULL, (int64_t)(t))
#define CSP_AFTER(ns) csp_x_case_after(ns)
#endif

#define csp_select_n(cases, n) csp_x_select(cases, (size_t)(n), false CSP_X_WHERE("select"))
#define csp_select(...) CSP_X_SELECT(false, __VA_ARGS__)
#define csp_select_first(...) CSP_X_SELECT(true, __VA_ARGS__)
#ifdef __cplusplus
#define CSP_X_SELECT(in_order, ...) csp_x::select({__VA_ARGS__}, in_order CSP_X_WHERE("select"))
#elif defined(CSP_BARE)
#define CSP_X_SELECT(in_order, ...)                                                                \
    __extension__({                                                                                \
        CSP_X_ERRORS;                                                                              \
        csp_case csp_x_cases[] = {__VA_ARGS__};                                                    \
        _Pragma("GCC diagnostic pop");                                                             \
        csp_x_room csp_x_rooms[sizeof csp_x_cases / sizeof csp_x_cases[0]];                        \
        csp_x_select_in(csp_x_rooms, csp_x_cases, sizeof csp_x_cases / sizeof csp_x_cases[0],      \
                        in_order);                                                                 \
    })
#else
#define CSP_X_SELECT(in_order, ...)                                                                \
    __extension__({                                                                                \
        CSP_X_ERRORS;                                                                              \
        csp_case csp_x_cases[] = {__VA_ARGS__};                                                    \
        _Pragma("GCC diagnostic pop");                                                             \
        csp_x_select(csp_x_cases, sizeof csp_x_cases / sizeof csp_x_cases[0],                      \
                     in_order CSP_X_WHERE("select"));                                              \
    })
#endif
#define CSP_DEFAULT CSP_X_CASE(CSP_X_DEFAULT, NULL, NULL, NULL, 0)
#define CSP_RECV(...) CSP_X_RECV_N(__VA_ARGS__, m, m, m, 3, 2, 1, 0)(__VA_ARGS__) // c[, &v[, &ok]]
#define CSP_X_RECV_N(a, b, c, d, e, f, n, ...) CSP_X_CAT_(CSP_X_RECV_, n)
#define CSP_X_RECV_m(...) CSP_RECV_takes_a_channel_a_pointer_and_a_pointer_to_bool
#define CSP_X_RECV_1(c) CSP_X_RECV_3(c, NULL, NULL)
#define CSP_X_RECV_2(c, p) CSP_X_RECV_3(c, p, NULL)
#define CSP_X_RECV_3(c, p, ok)                                                                     \
    CSP_X_CASE(CSP_X_RECV, CSP_X_RECVS(c), CSP_X_INTO(c, p), CSP_X_OK(ok), 0)
#define CSP_SEND(c, ...)                                                                           \
    CSP_X_CASE(CSP_X_SEND, CSP_X_SENDS(c), (void *)(uintptr_t)CSP_X_VALUE_OF(c, __VA_ARGS__),      \
               NULL, 0)
#define CSP_SEND_PTR(c, p) CSP_X_CASE(CSP_X_SEND, CSP_X_SENDS(c), CSP_X_INTO(c, p), NULL, 0)
#ifndef CSP_BARE
#define CSP_FD(fd, what) CSP_X_CASE(CSP_X_FD, NULL, NULL, NULL, csp_x_fd_case(fd, what))
CSP_DEF int64_t csp_x_fd_case(int fd, int what);
CSP_DEF int csp_x_select_fds(csp_case *cases, size_t n, bool in_order CSP_X_PLACE);
#endif
#endif

/* ==========================================================================
 * [F] SYNC AND CONTEXT
 * ======================================================================== */

/* These objects are the caller's memory. They are ready for use when zeroed and need no call at
 * their end. Goroutines and threads may use them; interrupt handlers may not. A call that blocks
 * blocks the calling goroutine alone, or the calling thread. Waiters are first in, first out. The
 * fields are private.
 *   *_until: CSP_OK; CSP_TIMEOUT: csp_now() reached t first, and nothing was taken.
 *   try_*: true when the object was taken; they never block.
 *   An unlock, done, release or signal happens before the return of the lock, wait or acquire that
 * it lets through. */

/* A mutex. Any goroutine or thread may unlock it. The holder that locks it again deadlocks. A
 * goroutine that comes while the mutex is free takes it at once, before the waiters. An unlock
 * hands the mutex to a waiter that has waited for a millisecond. Unlocking a free mutex panics. */
typedef struct csp_mutex {
    uint32_t csp_x_owner, csp_x_state;
    csp_x_queue csp_x_waiters;
#if defined(CSP_BARE) && CSP_PRIORITIES > 1
    void *csp_x_holder;            // the goroutine that holds this mutex
    struct csp_mutex *csp_x_other; // the next mutex that it holds
#elif !defined(CSP_BARE)
    const char *csp_x_seen; // where the mutex was first waited for, or made
#endif
} csp_mutex;
CSP_DEF void csp_mutex_lock(csp_mutex *mu);
CSP_DEF bool csp_mutex_try_lock(csp_mutex *mu);
CSP_DEF csp_status csp_mutex_lock_until(csp_mutex *mu, int64_t t);
CSP_DEF void csp_mutex_unlock(csp_mutex *mu);

/* A lock for many readers or one writer. A waiting writer holds new readers back; these readers go
 * before the next writer. Read locks do not nest: a writer that waits between the two would block
 * the second one for ever. Readers of different processors count in different cache lines and so do
 * not slow each other down, which is why the object is large. */
#ifdef CSP_BARE
#define CSP_X_RW_SLOTS 1
#else
#define CSP_X_RW_SLOTS 4
#endif
typedef struct csp_rwmutex {
    uint32_t csp_x_lock, csp_x_active, csp_x_writing;
    csp_x_queue csp_x_readers, csp_x_writers;
    uint32_t csp_x_slots[(CSP_X_RW_SLOTS - 1) * 16 + 1]; // every 16th is used: a cache line apart
#ifndef CSP_BARE
    const char *csp_x_seen; // where the rwmutex was first waited for, or made
#endif
} csp_rwmutex;
CSP_DEF void csp_rwmutex_lock(csp_rwmutex *rw);
CSP_DEF bool csp_rwmutex_try_lock(csp_rwmutex *rw);
CSP_DEF csp_status csp_rwmutex_lock_until(csp_rwmutex *rw, int64_t t);
CSP_DEF void csp_rwmutex_unlock(csp_rwmutex *rw);
CSP_DEF void csp_rwmutex_rlock(csp_rwmutex *rw);
CSP_DEF bool csp_rwmutex_try_rlock(csp_rwmutex *rw);
CSP_DEF csp_status csp_rwmutex_rlock_until(csp_rwmutex *rw, int64_t t);
CSP_DEF void csp_rwmutex_runlock(csp_rwmutex *rw);

/* A condition that mu protects. A wait unlocks mu, waits for a signal, and locks mu again, after a
 * timeout too. csp_cond_signal wakes the goroutine that has waited longest, csp_cond_broadcast all.
 * No wait ends without a signal, but the condition may have changed before mu was locked again. */
typedef struct csp_cond {
    uint32_t csp_x_lock;
    csp_x_queue csp_x_waiters;
#ifndef CSP_BARE
    const char *csp_x_seen; // where the condition was first waited for, or made
#endif
} csp_cond;
CSP_DEF void csp_cond_wait(csp_cond *cond, csp_mutex *mu);
CSP_DEF csp_status csp_cond_wait_until(csp_cond *cond, csp_mutex *mu, int64_t t);
CSP_DEF void csp_cond_signal(csp_cond *cond);
CSP_DEF void csp_cond_broadcast(csp_cond *cond);

/* The first csp_once_do runs fn(arg); the others wait until it has ended. A panic or csp_exit in fn
 * ends it, too. The end of fn happens before every return of csp_once_do. */
typedef struct csp_once {
    uint32_t csp_x_state;
    csp_x_queue csp_x_waiters;
#ifndef CSP_BARE
    const char *csp_x_seen; // where fn was run
#endif
} csp_once;
CSP_DEF void csp_once_do(csp_once *once, void (*fn)(void *), void *arg);

/* INLINE FAST PATHS. An operation that meets no other goroutine is done inline, without a call: the
 * lock of a free mutex, its unlock without waiters, a once that is done. These are steps of the
 * protocols in SYNC, taken where one step is the whole operation:
 *
 *     lock     owner 0 --> LOCKED (acq <owner>)
 *     unlock   owner LOCKED --> LEAVING --> 0 (rel <owner>), when `state` shows no waiters
 *     once     state is DONE (acq <once>)
 *
 * They are off while csp_x_watched is set. Then each operation counts or needs a fence: in the
 * simulator, with CSP_HOLDERS, before the runtime starts, without membarrier. Each is a function,
 * too, for programs that take its address: &csp_mutex_lock. */
enum { CSP_X_LEAVING = 1, CSP_X_LOCKED = 2, CSP_X_DONE = 8 };
#ifndef CSP_BARE
CSP_DEF uint32_t csp_x_watched;
CSP_DEF void csp_x_mutex_lock(csp_mutex *mu, const char *at);
CSP_DEF csp_status csp_x_mutex_lock_until(csp_mutex *mu, int64_t t, const char *at);
CSP_DEF void csp_x_mutex_unlock(csp_mutex *mu, const char *at);
CSP_DEF void csp_x_rwmutex_lock(csp_rwmutex *rw, const char *at);
CSP_DEF csp_status csp_x_rwmutex_lock_until(csp_rwmutex *rw, int64_t t, const char *at);
CSP_DEF void csp_x_rwmutex_unlock(csp_rwmutex *rw, const char *at);
CSP_DEF void csp_x_rwmutex_rlock(csp_rwmutex *rw, const char *at);
CSP_DEF csp_status csp_x_rwmutex_rlock_until(csp_rwmutex *rw, int64_t t, const char *at);
CSP_DEF void csp_x_rwmutex_runlock(csp_rwmutex *rw, const char *at);
CSP_DEF void csp_x_cond_wait(csp_cond *cond, csp_mutex *mu, const char *at);
CSP_DEF csp_status csp_x_cond_wait_until(csp_cond *cond, csp_mutex *mu, int64_t t, const char *at);
CSP_DEF void csp_x_once_do(csp_once *once, void (*fn)(void *), void *arg, const char *at);
#define csp_mutex_lock_until(...) csp_x_mutex_lock_until(__VA_ARGS__, CSP_X_AT("mutex"))
#define csp_rwmutex_lock(...) csp_x_rwmutex_lock(__VA_ARGS__, CSP_X_AT("rwmutex to write"))
#define csp_rwmutex_lock_until(...)                                                                \
    csp_x_rwmutex_lock_until(__VA_ARGS__, CSP_X_AT("rwmutex to write"))
#define csp_rwmutex_unlock(...) csp_x_rwmutex_unlock(__VA_ARGS__, CSP_X_AT("unlock"))
#define csp_rwmutex_rlock(...) csp_x_rwmutex_rlock(__VA_ARGS__, CSP_X_AT("rwmutex to read"))
#define csp_rwmutex_rlock_until(...)                                                               \
    csp_x_rwmutex_rlock_until(__VA_ARGS__, CSP_X_AT("rwmutex to read"))
#define csp_rwmutex_runlock(...) csp_x_rwmutex_runlock(__VA_ARGS__, CSP_X_AT("unlock"))
#define csp_cond_wait(...) csp_x_cond_wait(__VA_ARGS__, CSP_X_AT("cond"))
#define csp_cond_wait_until(...) csp_x_cond_wait_until(__VA_ARGS__, CSP_X_AT("cond"))
#endif
#if !defined(CSP_BARE) && !CSP_X_TSAN
static inline void csp_x_mutex_lock_fast(csp_mutex *mu, const char *at)
{
    uint32_t is_free = 0;
    if (mu == NULL || __atomic_load_n(&csp_x_watched, __ATOMIC_RELAXED) != 0 ||
        __atomic_load_n(&mu->csp_x_owner, __ATOMIC_RELAXED) != 0 ||
        !__atomic_compare_exchange_n(&mu->csp_x_owner, &is_free, CSP_X_LOCKED, false,
                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        csp_x_mutex_lock(mu, at);
}
static inline void csp_x_mutex_unlock_fast(csp_mutex *mu, const char *at)
{
    if (mu != NULL && __atomic_load_n(&csp_x_watched, __ATOMIC_RELAXED) == 0 &&
        __atomic_load_n(&mu->csp_x_owner, __ATOMIC_RELAXED) == CSP_X_LOCKED) {
        __atomic_store_n(&mu->csp_x_owner, CSP_X_LEAVING, __ATOMIC_RELAXED);
        __asm__ volatile("" ::: "memory");
        if (__atomic_load_n(&mu->csp_x_state, __ATOMIC_RELAXED) == 0) {
            __atomic_store_n(&mu->csp_x_owner, 0, __ATOMIC_RELEASE);
            return;
        }
        __atomic_store_n(&mu->csp_x_owner, CSP_X_LOCKED, __ATOMIC_RELAXED);
    }
    csp_x_mutex_unlock(mu, at);
}
static inline void csp_x_once_do_fast(csp_once *once, void (*fn)(void *), void *arg, const char *at)
{
    if (once == NULL ||
        __builtin_expect(__atomic_load_n(&once->csp_x_state, __ATOMIC_ACQUIRE) != CSP_X_DONE, 0))
        csp_x_once_do(once, fn, arg, at);
}
#define csp_mutex_lock(...) csp_x_mutex_lock_fast(__VA_ARGS__, CSP_X_AT("mutex"))
#define csp_mutex_unlock(...) csp_x_mutex_unlock_fast(__VA_ARGS__, CSP_X_AT("unlock"))
#define csp_once_do(...) csp_x_once_do_fast(__VA_ARGS__, CSP_X_AT("once"))
#elif !defined(CSP_BARE)
#define csp_mutex_lock(...) csp_x_mutex_lock(__VA_ARGS__, CSP_X_AT("mutex"))
#define csp_mutex_unlock(...) csp_x_mutex_unlock(__VA_ARGS__, CSP_X_AT("unlock"))
#define csp_once_do(...) csp_x_once_do(__VA_ARGS__, CSP_X_AT("once"))
#endif

/* A count of the work that is still to be done. add changes it by n, done by -1; a wait returns
 * when it is 0. A negative count panics. */
typedef struct csp_waitgroup {
    uint32_t csp_x_state;
    csp_x_queue csp_x_waiters;
#ifndef CSP_BARE
    const char *csp_x_seen; // where the first add was
#endif
} csp_waitgroup;
CSP_DEF void csp_waitgroup_add(csp_waitgroup *wg, int n);
CSP_DEF void csp_waitgroup_done(csp_waitgroup *wg);
CSP_DEF void csp_waitgroup_wait(csp_waitgroup *wg);
CSP_DEF csp_status csp_waitgroup_wait_until(csp_waitgroup *wg, int64_t t);
/*   uint64_t csp_waitgroup_go(csp_waitgroup *wg, name, values...)
 *   uint64_t csp_waitgroup_spawn(csp_waitgroup *wg, void (*fn)(void *), void *arg)
 * Adds 1 and starts a goroutine, a task with its arguments or fn(arg). The goroutine's end, by a
 * return or by csp_exit, calls done. Returns the goroutine's id. What is copied: see csp_go and
 * csp_spawn. wg must live until a wait has returned. Panics when out of memory. */
#define csp_waitgroup_go(wg, ...)                                                                  \
    CSP_X_GO(csp_x_task_, CSP_X_HOW(NULL, wg, NULL, csp_x_waitgroup_go, 0), __VA_ARGS__)
#define csp_waitgroup_spawn(wg, fn, arg)                                                           \
    CSP_X_STRICT(csp_x_waitgroup_spawn(wg, CSP_X_SITE(#fn), fn, arg))
CSP_DEF uint64_t csp_x_waitgroup_go(const csp_x_how *how, const csp_x_site *site,
                                    void (*run)(void *), const void *args, size_t size);
CSP_DEF uint64_t csp_x_waitgroup_spawn(csp_waitgroup *wg, const csp_x_site *site,
                                       void (*fn)(void *), void *arg);
#ifndef CSP_BARE
CSP_DEF void csp_x_waitgroup_add(csp_waitgroup *wg, int n, const char *at);
CSP_DEF void csp_x_waitgroup_done(csp_waitgroup *wg, const char *at);
CSP_DEF void csp_x_waitgroup_wait(csp_waitgroup *wg, const char *at);
CSP_DEF csp_status csp_x_waitgroup_wait_until(csp_waitgroup *wg, int64_t t, const char *at);
#define csp_waitgroup_add(...) csp_x_waitgroup_add(__VA_ARGS__, CSP_X_AT("add"))
#define csp_waitgroup_done(...) csp_x_waitgroup_done(__VA_ARGS__, CSP_X_AT("done"))
#define csp_waitgroup_wait(...) csp_x_waitgroup_wait(__VA_ARGS__, CSP_X_AT("waitgroup"))
#define csp_waitgroup_wait_until(...) csp_x_waitgroup_wait_until(__VA_ARGS__, CSP_X_AT("waitgroup"))
#endif

/* A semaphore: a number of tokens, 0 at first. A waiter for many tokens is not overtaken by later
 * waiters for few. An acquire of more tokens than csp_sem_init gave waits for ever. A semaphore
 * that is only zeroed has no limit: it accepts the release of tokens that were never acquired, as a
 * counting semaphore does. */
typedef struct csp_sem {
    uint32_t csp_x_lock;
    int64_t csp_x_free, csp_x_size;
    csp_x_queue csp_x_waiters;
#ifndef CSP_BARE
    const char *csp_x_seen; // where the semaphore was first waited for, or made
#endif
} csp_sem;
/* Gives the semaphore n tokens and the limit n: a release above it panics. Not while the semaphore
 * is in use. */
CSP_DEF void csp_sem_init(csp_sem *sem, int64_t n);
CSP_DEF void csp_sem_acquire(csp_sem *sem, int64_t n);
CSP_DEF bool csp_sem_try_acquire(csp_sem *sem, int64_t n);
CSP_DEF csp_status csp_sem_acquire_until(csp_sem *sem, int64_t n, int64_t t);
CSP_DEF void csp_sem_release(csp_sem *sem, int64_t n);
#ifndef CSP_BARE
CSP_DEF void csp_x_sem_init(csp_sem *sem, int64_t n, const char *at);
CSP_DEF void csp_x_sem_acquire(csp_sem *sem, int64_t n, const char *at);
CSP_DEF csp_status csp_x_sem_acquire_until(csp_sem *sem, int64_t n, int64_t t, const char *at);
CSP_DEF void csp_x_sem_release(csp_sem *sem, int64_t n, const char *at);
#define csp_sem_init(...) csp_x_sem_init(__VA_ARGS__, CSP_X_AT("make"))
CSP_DEF bool csp_x_sem_take(csp_sem *sem, int64_t n);
CSP_DEF bool csp_x_sem_give(csp_sem *sem, int64_t n);
static inline void csp_x_sem_acquire_fast(csp_sem *sem, int64_t n, const char *at)
{
    if (!csp_x_sem_take(sem, n)) csp_x_sem_acquire(sem, n, at);
}
static inline void csp_x_sem_release_fast(csp_sem *sem, int64_t n, const char *at)
{
    if (!csp_x_sem_give(sem, n)) csp_x_sem_release(sem, n, at);
}
#define csp_sem_acquire(...) csp_x_sem_acquire_fast(__VA_ARGS__, CSP_X_AT("semaphore"))
#define csp_sem_acquire_until(...) csp_x_sem_acquire_until(__VA_ARGS__, CSP_X_AT("semaphore"))
#define csp_sem_release(...) csp_x_sem_release_fast(__VA_ARGS__, CSP_X_AT("release"))
#endif

#ifndef CSP_NO_CONTEXTS
/* Contexts form a tree. A function that is given a context may ask whether its work is still
 * wanted, wait for the context's end, and derive contexts from it. A context is made with one
 * reference, which the caller owns. It holds a reference to its parent, and the last reference
 * frees it. A cancel, and a deadline's end, happens before any call that sees the context done.
 * Threads and goroutines may call all of this. The makers panic when out of memory and on a NULL
 * parent. */
typedef struct csp_ctx csp_ctx;
CSP_DEF csp_ctx *csp_ctx_background(void); // the root of the tree: never done, never freed
/* A child that is done when the parent is, or when it is cancelled. */
CSP_DEF csp_ctx *csp_ctx_with_cancel(csp_ctx *parent);
#ifndef CSP_NO_TIMERS
/* The same, and done ns from now, or at time t. ns <= 0 or a t that is past: it is done already. */
CSP_DEF csp_ctx *csp_ctx_with_timeout(csp_ctx *parent, int64_t ns);
CSP_DEF csp_ctx *csp_ctx_with_deadline(csp_ctx *parent, int64_t t);
#endif
/* A child that carries a value. key is compared by its address, and must not be NULL. Neither key
 * nor value is copied: they stay the caller's. */
CSP_DEF csp_ctx *csp_ctx_with_value(csp_ctx *parent, const void *key, void *value);
/* A child with the parent's values but without its end: neither a cancel nor a deadline of the
 * parent reaches it. For work that goes on after the request that caused it. */
CSP_DEF csp_ctx *csp_ctx_without_cancel(csp_ctx *parent);
/* Ends ctx and all contexts derived from it; when the call returns, the whole tree is done. The
 * cause is not copied: the text stays the caller's and must live as long as the contexts of the
 * tree. NULL is no cause. A context that is done already keeps its status and its cause. Panics on
 * the background. */
CSP_DEF void csp_ctx_cancel(csp_ctx *ctx);
CSP_DEF void csp_ctx_cancel_cause(csp_ctx *ctx, const char *cause);
/* The cause of the cancel that ended ctx, or the name of its status ("canceled", "timeout") where
 * there was none. NULL while ctx is not done. */
CSP_DEF const char *csp_ctx_cause(csp_ctx *ctx);
CSP_DEF csp_status csp_ctx_status(csp_ctx *ctx); // CSP_OK; once done CSP_CANCELED or CSP_TIMEOUT
/* The value of the nearest context, from ctx up, that has this key; NULL when there is none. */
CSP_DEF void *csp_ctx_value(csp_ctx *ctx, const void *key);
CSP_DEF int64_t csp_ctx_deadline(csp_ctx *ctx); // the earliest up the tree, or CSP_FOREVER
CSP_DEF csp_ctx *csp_ctx_ref(csp_ctx *ctx);     // adds a reference; returns ctx
/* Drops a reference; the last one frees ctx. Panics, without freeing ctx, when a goroutine waits on
 * it. NULL is fine. */
CSP_DEF void csp_ctx_unref(csp_ctx *ctx);
/*   csp_receiver(bool) csp_ctx_done(csp_ctx *ctx)
 * A channel that is closed when ctx is done. It belongs to the context; NULL for the background.
 *   CSP_DONE(csp_ctx *ctx) is the case of a select that waits for this. */
CSP_DEF const void *csp_x_ctx_done(csp_ctx *ctx);
#define csp_ctx_done(ctx) ((csp_receiver(bool))(uintptr_t)csp_x_ctx_done(ctx))
#define CSP_DONE(ctx) CSP_X_CASE(CSP_X_RECV, csp_x_ctx_done(ctx), NULL, NULL, 0)
/*   uint64_t csp_ctx_on_done(csp_ctx *ctx, void (*fn)(void *), void *arg)
 *   bool csp_ctx_on_done_stop(csp_ctx *ctx, uint64_t id)
 * csp_ctx_on_done runs fn(arg) in a new goroutine once ctx is done, at once if it is done already.
 * It holds a reference to ctx until then, and returns an id for the stop. The stop returns true
 * when it prevented the run, false when fn was started before. arg stays the caller's. Panics when
 * out of memory. The cancel happens before fn. */
#define csp_ctx_on_done(ctx, fn, arg) CSP_X_STRICT(csp_x_ctx_on_done(ctx, CSP_X_SITE(#fn), fn, arg))
CSP_DEF uint64_t csp_x_ctx_on_done(csp_ctx *ctx, const csp_x_site *site, void (*fn)(void *),
                                   void *arg);
CSP_DEF bool csp_ctx_on_done_stop(csp_ctx *ctx, uint64_t id);

/* Goroutines that work on one task, errgroup in Go. The first result other than 0 is the group's
 * result and cancels the group's context. A function that ends by csp_exit has the result 0. A
 * group is used for one csp_group_wait. Threads and goroutines may call all of this. */
typedef struct csp_group csp_group;
/* A group whose context is a child of parent; NULL is the background. The caller owns it. Panics
 * when out of memory. */
CSP_DEF csp_group *csp_group_new(csp_ctx *parent);
CSP_DEF csp_ctx *csp_group_ctx(csp_group *group); // belongs to the group
/* Limits the goroutines that run at the same time to n. n < 0: no limit, as at first. 0: none is
 * started; go and spawn wait for ever, the try forms return false, the until forms CSP_TIMEOUT.
 * Panics while one runs. */
CSP_DEF void csp_group_set_limit(csp_group *group, int n);
/*   csp_group_task(name, T1, a1, T2, a2, ...) { ... return result; }
 *   void csp_group_go(csp_group *group, name, values...)
 *   bool csp_group_try_go(csp_group *group, name, values...)
 *   csp_status csp_group_go_until(csp_group *group, int64_t t, name, values...)
 *   void csp_group_spawn(csp_group *group, int (*fn)(void *), void *arg)
 *   bool csp_group_try_spawn(csp_group *group, int (*fn)(void *), void *arg)
 *   csp_status csp_group_spawn_until(csp_group *group, int64_t t, int (*fn)(void *), void *arg)
 * csp_group_task defines a static function as csp_task does, but one that returns int. `go` starts
 * such a task as a goroutine of the group, `spawn` starts fn(arg). While the limit is reached, the
 * caller waits, first come, first served. The try forms return false instead, and the until forms
 * return CSP_TIMEOUT when csp_now() reaches t. What is copied: see csp_go and csp_spawn. They panic
 * when out of memory, and after csp_group_wait has returned. */
#define csp_group_task(...) CSP_X_TASK(CSP_X_DEFINE, csp_x_group_task, CSP_X_STATIC, __VA_ARGS__)
#define CSP_X_GROUP_GO(group, t, ...)                                                              \
    CSP_X_GO(csp_x_group_task_, CSP_X_HOW(NULL, NULL, group, NULL, t), __VA_ARGS__)
#define csp_group_go(group, ...) ((void)CSP_X_GROUP_GO(group, CSP_FOREVER, __VA_ARGS__))
#define csp_group_try_go(group, ...) csp_x_started(CSP_X_GROUP_GO(group, INT64_MIN, __VA_ARGS__))
#define csp_group_go_until(group, t, ...) ((csp_status)CSP_X_GROUP_GO(group, t, __VA_ARGS__))
#define CSP_X_GROUP_SPAWN(group, site, fn, arg, t)                                                 \
    CSP_X_STRICT(csp_x_group_spawn(group, site, fn, arg, t))
#define csp_group_spawn(group, fn, arg)                                                            \
    ((void)CSP_X_GROUP_SPAWN(group, CSP_X_SITE(#fn), fn, arg, CSP_FOREVER))
#define csp_group_try_spawn(group, fn, arg)                                                        \
    csp_x_started(CSP_X_GROUP_SPAWN(group, CSP_X_SITE(#fn), fn, arg, INT64_MIN))
#define csp_group_spawn_until(group, t, fn, arg)                                                   \
    CSP_X_GROUP_SPAWN(group, CSP_X_SITE(#fn), fn, arg, t)
CSP_DEF uint64_t csp_x_group_go(const csp_x_how *how, const csp_x_site *site, int (*run)(void *),
                                const void *args, size_t size);
static inline bool csp_x_started(uint64_t status)
{
    return status == CSP_OK;
}
CSP_DEF csp_status csp_x_group_spawn(csp_group *group, const csp_x_site *site, int (*fn)(void *),
                                     void *arg, int64_t t);
/* Waits for the end of all functions, cancels the context and returns the group's result. A second
 * call panics. Each function happens before the return. */
CSP_DEF int csp_group_wait(csp_group *group);
/* The same until t. CSP_OK: *result is set; result may be NULL. CSP_TIMEOUT: the group is
 * unchanged, and may be waited for again. */
CSP_DEF csp_status csp_group_wait_until(csp_group *group, int *result, int64_t t);
#ifndef CSP_BARE
CSP_DEF int csp_x_group_wait(csp_group *group, const char *at);
CSP_DEF csp_status csp_x_group_wait_until(csp_group *group, int *result, int64_t t, const char *at);
#define csp_group_wait(...) csp_x_group_wait(__VA_ARGS__, CSP_X_AT("group"))
#define csp_group_wait_until(...) csp_x_group_wait_until(__VA_ARGS__, CSP_X_AT("group"))
#endif
/* Cancels the context and frees the group. Panics while a function runs. NULL is fine. */
CSP_DEF void csp_group_free(csp_group *group);
#endif

#ifndef CSP_BARE
/* A pool of items for reuse. Each processor has a cache of items. The put of an item happens before
 * the get that returns it. Threads and goroutines may call get and put at the same time. */
typedef struct csp_pool csp_pool;
/* An empty pool, which the caller owns. make(arg) makes an item when no cache has one; NULL: get
 * returns NULL then. free_item frees an item for which a cache has no room, and those that are left
 * at the end; NULL: they are dropped. Panics when out of memory. */
CSP_DEF csp_pool *csp_pool_new(void *(*make)(void *arg), void (*free_item)(void *), void *arg);
CSP_DEF void *csp_pool_get(csp_pool *pool);            // the item is the caller's until put
CSP_DEF void csp_pool_put(csp_pool *pool, void *item); // the item is the pool's; NULL is ignored
/* Frees the items and the pool, which no other call may use meanwhile. NULL is fine. */
CSP_DEF void csp_pool_free(csp_pool *pool);

/* A hash table that goroutines and threads use at the same time, sync.Map in Go. A load by a
 * goroutine takes no lock. The map copies neither keys nor values. An entry keeps the key that
 * first stored it, which must live until the entry has been deleted. Values stay the caller's.
 *   The map does not know when a value is in use. A reader may still hold a value that another call
 * has replaced or deleted meanwhile. So free a value only when no reader can have it any more:
 * count its references and take one under a lock of your own, or keep all values until the readers
 * have ended. A store happens before a load that sees it. Stores panic when out of memory. */
typedef struct csp_map csp_map;
typedef enum csp_map_keys {
    CSP_MAP_STRINGS, // keys are strings: equal when their bytes are
    CSP_MAP_POINTERS // keys are equal when the pointers are; NULL is a key
} csp_map_keys;
CSP_DEF csp_map *csp_map_new(csp_map_keys keys); // the caller owns it
/* Frees the map, which no other call may use meanwhile. NULL is fine. */
CSP_DEF void csp_map_free(csp_map *map);
/* The calls that return bool return whether there was an entry; compare_and_*: whether there was
 * one with the value `old`. The value found is put into *value, *actual or *previous, NULL where
 * there was none. These pointers may be NULL.
 *   load           the value of the key
 *   store          makes the entry, or replaces its value
 *   load_or_store  the value of the key, or stores this one; *actual is the entry's value after it
 *   load_and_delete, delete    after the return the caller may free the entry's key
 *   swap           as store, and gives the value before
 *   compare_and_swap, compare_and_delete    only where the value is `old`
 *   clear          deletes all entries
 *   len            the number of entries */
CSP_DEF bool csp_map_load(csp_map *map, const void *key, void **value);
CSP_DEF void csp_map_store(csp_map *map, const void *key, void *value);
CSP_DEF bool csp_map_load_or_store(csp_map *map, const void *key, void *value, void **actual);
CSP_DEF bool csp_map_load_and_delete(csp_map *map, const void *key, void **value);
CSP_DEF void csp_map_delete(csp_map *map, const void *key);
CSP_DEF bool csp_map_swap(csp_map *map, const void *key, void *value, void **previous);
CSP_DEF bool csp_map_compare_and_swap(csp_map *map, const void *key, void *old, void *value);
CSP_DEF bool csp_map_compare_and_delete(csp_map *map, const void *key, void *old);
CSP_DEF void csp_map_clear(csp_map *map);
CSP_DEF int64_t csp_map_len(csp_map *map);
/* Calls fn for each entry until fn returns false: at most once for each key, with the value that
 * the key has at that moment. An entry that is stored meanwhile may be passed or not. fn may use
 * the map, and may block. */
CSP_DEF void csp_map_range(csp_map *map, bool (*fn)(const void *key, void *value, void *arg),
                           void *arg);
#endif

/* ==========================================================================
 * [G] TIME
 *
 * A duration is in nanoseconds; a time is a value of csp_now(). Threads and goroutines may call all
 * of this; an interrupt handler may call csp_now() alone.
 * ======================================================================== */

#define CSP_NANOSECOND INT64_C(1)
#define CSP_MICROSECOND INT64_C(1000)
#define CSP_MILLISECOND INT64_C(1000000)
#define CSP_SECOND INT64_C(1000000000)
#define CSP_MINUTE (60 * CSP_SECOND)
#define CSP_HOUR (60 * CSP_MINUTE)
#define CSP_FOREVER INT64_MAX // a time that never comes

#ifndef CSP_NO_TIMERS
CSP_DEF int64_t csp_now(void); // monotonic nanoseconds; in a simulation the virtual time
/* Blocks for ns at least, or until t at the earliest. ns <= 0, or a t that is past: only lets other
 * goroutines run, as csp_yield does. */
CSP_DEF void csp_sleep(int64_t ns);
CSP_DEF void csp_sleep_until(int64_t t);
#ifndef CSP_BARE
CSP_DEF void csp_x_sleep(int64_t ns, const char *at);
CSP_DEF void csp_x_sleep_until(int64_t t, const char *at);
#define csp_sleep(...) csp_x_sleep(__VA_ARGS__, CSP_X_AT("sleep"))
#define csp_sleep_until(...) csp_x_sleep_until(__VA_ARGS__, CSP_X_AT("sleep"))
#endif

/* A timer sends csp_now() into its channel when its time comes; a ticker does so again and again.
 * Both belong to the caller, and their channel belongs to them. They panic when out of memory. A
 * timer or ticker does not hide a deadlock when no goroutine waits on its channel. */
typedef struct csp_timer csp_timer;
typedef struct csp_ticker csp_ticker;
/* Memory for a timer or ticker and its channel, where csp's own memory is not to be used: a static
 * object, or a part of another one. It begins zeroed. csp_timer_new_in and csp_ticker_new_in panic
 * when a timer is in it already; csp_timer_free and csp_ticker_free empty it. A caller of csp_ref
 * does not keep the channel longer than that. */
typedef struct __attribute__((may_alias)) csp_timer_store {
    uint64_t csp_x_timer[sizeof(void *) == 4 ? 8 : 13];
    csp_x_chan csp_x_c;
    int64_t csp_x_value;
} csp_timer_store;
CSP_DEF csp_timer *csp_timer_new(int64_t ns); // a timer that fires once, ns from now
CSP_DEF csp_timer *csp_timer_new_in(csp_timer_store *store, int64_t ns);
/*   csp_receiver(int64_t) csp_timer_chan(csp_timer *t)
 * The timer's channel, which has room for one value; NULL for a timer of csp_after_func. */
CSP_DEF const void *csp_x_timer_chan(csp_timer *t);
#define csp_timer_chan(t) ((csp_receiver(int64_t))(uintptr_t)csp_x_timer_chan(t))
/* Stop it; reset: let it fire ns from now. Both return true when the timer was pending, or when its
 * value had not been received yet. Once they have returned, no stale value is received: timers as
 * in Go 1.23. */
CSP_DEF bool csp_timer_stop(csp_timer *t);
CSP_DEF bool csp_timer_reset(csp_timer *t, int64_t ns);
/* Stops the timer and frees it with its channel. A goroutine of csp_after_func that has started
 * goes on. Panics when a goroutine waits on the channel, as csp_unref does. NULL is fine. */
CSP_DEF void csp_timer_free(csp_timer *t);
/*   csp_timer *csp_after_func(int64_t ns, void (*fn)(void *), void *arg)
 * A timer that runs fn(arg) in a new goroutine, ns from now. csp_timer_stop returns true when it
 * prevented the run. arg stays the caller's; so does the timer, which is freed by csp_timer_free.
 * The call happens before fn. */
#define csp_after_func(ns, fn, arg) CSP_X_STRICT(csp_x_after_func(ns, CSP_X_SITE(#fn), fn, arg))
CSP_DEF csp_timer *csp_x_after_func(int64_t ns, const csp_x_site *site, void (*fn)(void *),
                                    void *arg);
/* A ticker with a period of ns. Ticks that a slow receiver has no room for are dropped. A period
 * <= 0 panics. */
CSP_DEF csp_ticker *csp_ticker_new(int64_t ns);
CSP_DEF csp_ticker *csp_ticker_new_in(csp_timer_store *store, int64_t ns);
/*   csp_receiver(int64_t) csp_ticker_chan(csp_ticker *t)
 * The ticker's channel, which has room for one value. */
CSP_DEF const void *csp_x_ticker_chan(csp_ticker *t);
#define csp_ticker_chan(t) ((csp_receiver(int64_t))(uintptr_t)csp_x_ticker_chan(t))
CSP_DEF void csp_ticker_reset(csp_ticker *t, int64_t ns); // starts anew with a period of ns
CSP_DEF void csp_ticker_stop(csp_ticker *t);              // no tick is received any more
CSP_DEF void csp_ticker_free(csp_ticker *t);              // as csp_timer_free
#endif

/* ==========================================================================
 * [H] DESCRIPTORS AND SIGNALS
 *
 * A result is a count, a descriptor or 0, or else a negative errno: -ETIMEDOUT after a deadline;
 * -ECANCELED when the descriptor was closed with csp_close_fd meanwhile, or interrupted. errno is
 * not used. A call that waits parks the goroutine, never the processor; in a thread it blocks the
 * thread. Threads and goroutines may call all of this. Buffers stay the caller's and are used only
 * during the call.
 *   csp does not change the flags of a descriptor that the program gives it: with O_NONBLOCK set on
 * an inherited stdin or stdout, other processes that share it would fail. A descriptor from
 * csp_listen, csp_accept or csp_dial is the caller's. Close it with csp_close_fd, which also
 * removes the path of a listener.
 *
 * ADDRESS. The forms of an address:
 *     "127.0.0.1:80"                 IPv4: four decimal numbers
 *     "[::1]:80" "[fe80::1%eth0]:80" IPv6, in brackets
 *     "localhost:80"                 a name; a name does not end in a number
 *     ":80"                          all interfaces for csp_listen, this host for csp_dial
 *     "unix:/path" "unix:@abstract"  a unix socket
 *     "udp:..."                      datagrams, before one of the first four forms
 * Port 0 stands for any free port. -EINVAL: the text has no such form. -ENOENT: the name was not
 * found.
 * ======================================================================== */

#ifndef CSP_BARE
enum { CSP_READABLE = 1, CSP_WRITABLE = 2 };
#ifdef _WIN32
struct iovec { // as <sys/uio.h> has it elsewhere
    void *iov_base;
    size_t iov_len;
};
#else
struct iovec;
#endif

/* As read(2) and write(2): they may move fewer bytes than asked; a read of 0 is the end of the
 * stream. A write without a reader at the other end returns -EPIPE and raises no SIGPIPE. The write
 * of a byte happens before its read. The until forms give up at t: -ETIMEDOUT. A regular file is
 * always ready: the call runs as in csp_blocking, and neither a deadline nor a cancel ends it. */
CSP_DEF csp_ssize csp_read(int fd, void *buffer, size_t size);
CSP_DEF csp_ssize csp_write(int fd, const void *buffer, size_t size);
CSP_DEF csp_ssize csp_read_until(int fd, void *buffer, size_t size, int64_t t);
CSP_DEF csp_ssize csp_write_until(int fd, const void *buffer, size_t size, int64_t t);
/* The same for all `size` bytes. Fewer are returned only at the end of the stream; a negative errno
 * after a failure on the way, when part of the bytes may have been moved. */
CSP_DEF csp_ssize csp_read_full(int fd, void *buffer, size_t size);
CSP_DEF csp_ssize csp_write_full(int fd, const void *buffer, size_t size);
CSP_DEF csp_ssize csp_read_full_until(int fd, void *buffer, size_t size, int64_t t);
CSP_DEF csp_ssize csp_write_full_until(int fd, const void *buffer, size_t size, int64_t t);
/* As writev(2): writes n parts (<sys/uio.h>), a header and a body for example, in one call, and to
 * a socket in one piece. It may write less, as csp_write does. -EINVAL: n is negative or above
 * 1024, or the sum of the sizes is too large. */
CSP_DEF csp_ssize csp_writev(int fd, const struct iovec *parts, int n);
CSP_DEF csp_ssize csp_writev_until(int fd, const struct iovec *parts, int n, int64_t t);
/* Writes n bytes of the file `in`, from `offset` on, to `out`. It uses sendfile(2) where `out` does
 * not block (a descriptor from csp_accept or csp_dial), and copies the bytes otherwise. The
 * position of `in` is neither used nor changed. It may write less, as csp_write does; 0: the file
 * ends at `offset`. -ESPIPE: `in` is no file. */
CSP_DEF csp_ssize csp_send_file(int out, int in, int64_t offset, size_t n);
CSP_DEF csp_ssize csp_send_file_until(int out, int in, int64_t offset, size_t n, int64_t t);
/* Waits until fd is ready for an event of `what`, CSP_READABLE, CSP_WRITABLE or both, and returns
 * the events that it is ready for. An error or a hang-up counts as every event asked for. It is for
 * libraries that read and write themselves. In a select: CSP_FD. */
CSP_DEF int csp_wait_fd(int fd, int what);
CSP_DEF int csp_wait_fd_until(int fd, int what, int64_t t);
/* Closes fd. Calls that wait on fd return -ECANCELED. 0; -EBADF: fd is not open. Only the owner may
 * call it, once: after the close the system may give the number to another descriptor. */
CSP_DEF int csp_close_fd(int fd);
/* Cancels calls on fd without closing it. Until the owner closes fd, each call that waits on it or
 * would wait returns -ECANCELED. Bytes that have arrived may still be read, and bytes that there is
 * room for may be written, so a loop of reads comes to their end first. A wait of the kernel
 * itself, for a block of a file for example, is not cut short. 0; -EBADF: fd is not open. */
CSP_DEF int csp_interrupt_fd(int fd);
#ifndef CSP_NO_CONTEXTS
/* Binds fd to ctx: from now on the calls that wait on fd or would wait end when ctx is done, with
 * -ECANCELED, or with -ETIMEDOUT after its deadline. When csp_ctx_cancel returns, they have been
 * woken. A second call replaces the first; NULL unbinds; csp_close_fd ends the binding; an
 * interrupt stays in force. It holds a reference to ctx while fd is bound and ctx is not done. 0;
 * -EBADF; -ENOMEM. */
CSP_DEF int csp_bind_fd(int fd, csp_ctx *ctx);
#endif

/* Each returns a descriptor that the caller owns: a listener at the address (for datagrams, the
 * socket itself); the next connection of a listener; a connection to the address. */
CSP_DEF int csp_listen(const char *address);
CSP_DEF int csp_accept(int fd);
CSP_DEF int csp_accept_until(int fd, int64_t t);
CSP_DEF int csp_dial(const char *address);
CSP_DEF int csp_dial_until(const char *address, int64_t t);
/* Ends the stream of writes: the other side reads the end of the stream. fd may still be read. */
CSP_DEF int csp_close_write(int fd);
/* An endpoint as text, in the form that csp_dial takes; the path of a unix socket fits. */
typedef struct csp_address {
    char text[128];
} csp_address;
/* Receive or send one datagram on a descriptor from csp_listen("udp:...") or csp_dial. `from` and
 * `to` are addresses with "udp:". from may be NULL; on a descriptor from csp_dial to may, too. */
CSP_DEF csp_ssize csp_recv_from(int fd, void *buffer, size_t size, csp_address *from);
CSP_DEF csp_ssize csp_send_to(int fd, const void *buffer, size_t size, const char *to);
CSP_DEF csp_ssize csp_recv_from_until(int fd, void *buffer, size_t size, csp_address *from,
                                      int64_t t);
CSP_DEF csp_ssize csp_send_to_until(int fd, const void *buffer, size_t size, const char *to,
                                    int64_t t);
/* Write the address of this end, or of the other end, to *address. 0 or a negative errno. */
CSP_DEF int csp_local_address(int fd, csp_address *address);
CSP_DEF int csp_peer_address(int fd, csp_address *address);
/* The text of a negative errno that one of these calls returned, as strerror(3); for -ENOENT, which
 * stands for an unknown name, "No such host or file". The text of a number that the system does not
 * know lives until the thread's next call. */
CSP_DEF const char *csp_error_text(csp_ssize error);

CSP_DEF csp_ssize csp_x_read_until(int fd, void *buffer, size_t size, int64_t t, const char *at);
CSP_DEF csp_ssize csp_x_write_until(int fd, const void *buffer, size_t size, int64_t t,
                                    const char *at);
CSP_DEF csp_ssize csp_x_read_full(int fd, void *buffer, size_t size, int64_t t, const char *at);
CSP_DEF csp_ssize csp_x_write_full(int fd, const void *buffer, size_t size, int64_t t,
                                   const char *at);
CSP_DEF csp_ssize csp_x_writev(int fd, const struct iovec *parts, int n, int64_t t, const char *at);
CSP_DEF csp_ssize csp_x_send_file(int out, int in, int64_t offset, size_t n, int64_t t,
                                  const char *at);
CSP_DEF int csp_x_wait_fd(int fd, int what, int64_t t, const char *at);
CSP_DEF int csp_x_close_fd(int fd, const char *at);
CSP_DEF int csp_x_accept_until(int fd, int64_t t, const char *at);
CSP_DEF int csp_x_dial_until(const char *address, int64_t t, const char *at);
CSP_DEF csp_ssize csp_x_recv_from(int fd, void *buffer, size_t size, csp_address *from, int64_t t,
                                  const char *at);
CSP_DEF csp_ssize csp_x_send_to(int fd, const void *buffer, size_t size, const char *to, int64_t t,
                                const char *at);
#define csp_read(...) csp_x_read_until(__VA_ARGS__, CSP_FOREVER, CSP_X_AT("read"))
#define csp_read_until(...) csp_x_read_until(__VA_ARGS__, CSP_X_AT("read"))
#define csp_read_full(...) csp_x_read_full(__VA_ARGS__, CSP_FOREVER, CSP_X_AT("read"))
#define csp_read_full_until(...) csp_x_read_full(__VA_ARGS__, CSP_X_AT("read"))
#define csp_write(...) csp_x_write_until(__VA_ARGS__, CSP_FOREVER, CSP_X_AT("write"))
#define csp_write_until(...) csp_x_write_until(__VA_ARGS__, CSP_X_AT("write"))
#define csp_write_full(...) csp_x_write_full(__VA_ARGS__, CSP_FOREVER, CSP_X_AT("write"))
#define csp_write_full_until(...) csp_x_write_full(__VA_ARGS__, CSP_X_AT("write"))
#define csp_writev(...) csp_x_writev(__VA_ARGS__, CSP_FOREVER, CSP_X_AT("write"))
#define csp_writev_until(...) csp_x_writev(__VA_ARGS__, CSP_X_AT("write"))
#define csp_send_file(...) csp_x_send_file(__VA_ARGS__, CSP_FOREVER, CSP_X_AT("write"))
#define csp_send_file_until(...) csp_x_send_file(__VA_ARGS__, CSP_X_AT("write"))
#define csp_wait_fd(...) csp_x_wait_fd(__VA_ARGS__, CSP_FOREVER, CSP_X_AT("descriptor"))
#define csp_wait_fd_until(...) csp_x_wait_fd(__VA_ARGS__, CSP_X_AT("descriptor"))
#define csp_close_fd(...) csp_x_close_fd(__VA_ARGS__, CSP_X_AT("close"))
#define csp_accept(...) csp_x_accept_until(__VA_ARGS__, CSP_FOREVER, CSP_X_AT("accept"))
#define csp_accept_until(...) csp_x_accept_until(__VA_ARGS__, CSP_X_AT("accept"))
#define csp_dial(...) csp_x_dial_until(__VA_ARGS__, CSP_FOREVER, CSP_X_AT("connect"))
#define csp_dial_until(...) csp_x_dial_until(__VA_ARGS__, CSP_X_AT("connect"))
#define csp_recv_from(...) csp_x_recv_from(__VA_ARGS__, CSP_FOREVER, CSP_X_AT("read"))
#define csp_recv_from_until(...) csp_x_recv_from(__VA_ARGS__, CSP_X_AT("read"))
#define csp_send_to(...) csp_x_send_to(__VA_ARGS__, CSP_FOREVER, CSP_X_AT("write"))
#define csp_send_to_until(...) csp_x_send_to(__VA_ARGS__, CSP_X_AT("write"))

/*   csp_blocking { ... }
 * Marks a block that may block in the kernel for long: its processor is given to another thread, at
 * once when goroutines wait for it, otherwise as soon as one does. The mark ends at the next call
 * into csp, within the block or after it. The block may be left in any way. */
CSP_DEF void csp_x_blocking(void);
#define csp_blocking                                                                               \
    if (csp_x_blocking(), 0) {                                                                     \
    } else

/*   int csp_wake_fd(chan c)
 * A descriptor for a foreign event loop: readable while c has a value to receive or is closed. It
 * stays readable until a receive finds no value, so receive with csp_try_recv until CSP_AGAIN. It
 * belongs to the channel: the program must neither read nor close it. A negative errno on failure;
 * panics on NULL and in a simulation. */
CSP_DEF int csp_x_wake_fd(const void *c);
#define csp_wake_fd(c) csp_x_wake_fd(CSP_X_RECVS(c))

/*   void csp_notify(chan c, int signo, ...)
 *   void csp_notify_stop(chan c)
 * csp_notify sends these signals from now on as values to c, a channel of int. A full channel drops
 * a signal, so give c a buffer. Several channels may get the same signal. csp holds a reference to
 * c until csp_notify_stop, after which c gets no more. A signal that no channel wants any more has
 * its former handler again. csp_notify panics on NULL, on a signal that cannot be caught, and when
 * out of memory or descriptors. */
CSP_DEF void csp_x_notify(const void *c, const int *signals, size_t n);
CSP_DEF void csp_x_notify_stop(const void *c);
CSP_DEF void csp_notify_stop(const void *c);
#define csp_notify_stop(c) csp_x_notify_stop(c)
#ifdef __cplusplus
#define csp_notify(c, ...) csp_x::notify(c, {__VA_ARGS__})
#else
#define csp_notify(c, ...) CSP_X_NOTIFY(CSP_X_NEW(notify), c, __VA_ARGS__)
#define CSP_X_NOTIFY(n, c, ...)                                                                    \
    __extension__({                                                                                \
        CSP_X_MUST(__builtin_types_compatible_p(CSP_X_T(c), int), "signals are values of int");    \
        const void *n = CSP_X_SENDS(c);                                                            \
        const int csp_x_signals[] = {__VA_ARGS__};                                                 \
        csp_x_notify(n, csp_x_signals, sizeof csp_x_signals / sizeof csp_x_signals[0]);            \
    })
#endif

#endif /* !CSP_BARE */

/* ==========================================================================
 * [I] LOOKING INSIDE
 * ======================================================================== */

/* Numbers about the runtime, each since its start unless it is a number of now. */
typedef struct csp_stats {
    int64_t goroutines; // that exist now
#if defined(CSP_BARE) && !defined(CSP_NO_MEMORY)
    size_t memory_size, memory_used, memory_peak; // bytes of csp_init's block
#endif
    int64_t procs, threads;
    uint64_t spawned;     // goroutines started
    uint64_t switches;    // times a goroutine was given a processor
    uint64_t steals;      // times a processor took work from another
    uint64_t handoffs;    // times a processor was taken from a goroutine that kept it too long
    uint64_t stack_bytes; // address space reserved for stacks now
    uint64_t waits;       // turns that ended because the goroutine had to wait
    uint64_t timers;      // sleeps, deadlines and timers whose time came
    uint64_t polls;       // questions to the system for ready descriptors that found some
    int64_t runnable;     // goroutines that wait for a processor now
} csp_stats;
/* Writes the numbers to *stats. Threads and goroutines. They are read one after the other while
 * goroutines run, so they need not fit each other. */
CSP_DEF void csp_get_stats(csp_stats *stats);

/* Writes an entry for each goroutine: its id, its name, the kind and length of its wait, and its
 * start site. Below that stand the line of the wait, the line where the object of the wait was made
 * or first seen, and the chain of calls, as object+offset (examples/tools/lines turns these into
 * lines). Goroutines at the same place share one entry with a count. Threads and goroutines. A
 * breakpoint at csp_x_dies stops gdb when a panic, a deadlock or an overflow ends the program. */
#ifdef CSP_BARE
CSP_DEF void csp_dump(void (*print)(const char *line));
#else
CSP_DEF void csp_dump(FILE *file);

/* Starts a trace of the scheduler, into a file that ui.perfetto.dev and chrome://tracing open. It
 * shows which goroutine runs on which processor and thread, what each then waits for, which one
 * wakes which, steals and hand-offs.
 *   0, or a negative errno. -EBUSY: this process writes a trace already, or another process writes
 * to this file. -ENOMEM: no memory, or no thread for the writing. -ENXIO: the file is a FIFO
 * without a reader. Otherwise the error of open(2). A FIFO's reader that does not read keeps
 * csp_trace_stop waiting.
 *   It costs about 50 ns an event, and 256 KiB for each of the first 128 threads. Events that come
 * faster than they can be written are left out, and the file says so. Needs 16 KiB of stack. */
CSP_DEF int csp_trace_start(const char *path);
/* Ends the trace; when it returns, the file is complete. Without a trace it does nothing. */
CSP_DEF void csp_trace_stop(void);

/* For the end of a test. Waits up to a second for the other goroutines to end, and panics if some
 * are left, after writing them to stderr. It does not wait when all of them are asleep for good. */
CSP_DEF void csp_assert_no_goroutines(void);
#endif

/* ==========================================================================
 * [J] SIMULATOR
 *
 * csp_simulate(&(csp_sim){.runs = 10000}, fn, arg) runs fn(arg) as the main goroutine, again and
 * again, on the calling thread alone. At each call into csp the seed decides which goroutine goes
 * on. Time is virtual: it passes only when no goroutine can run. The simulation ends with the first
 * run that goes wrong. The seed in the report replays that run, step for step.
 *   Each run must start from the same state, so fn sets up everything that a run depends on. The
 * goroutines that a run drops may leave objects that outlive it (globals, static channels) in any
 * state.
 *   A simulation finds errors that appear when goroutines alternate at calls into csp. It does not
 * find races between plain accesses without such a call between them. ThreadSanitizer finds these,
 * in a simulation too.
 * ======================================================================== */

#ifndef CSP_BARE
/* How a run ended. "main" is the main goroutine. */
typedef enum csp_sim_outcome {
    CSP_SIM_OK = 0,   // main has returned, and no goroutine was left waiting
    CSP_SIM_PANIC,    // an uncaught panic
    CSP_SIM_DEADLOCK, // main has not returned, no goroutine can run, and none sleeps
    CSP_SIM_LEAK,     // main has returned, and other goroutines wait for ever
    CSP_SIM_LIVELOCK  // the run did not end within max_steps
} csp_sim_outcome;

/* Settings of a simulation, read during the call; a zero means the default. */
typedef struct csp_sim {
    uint64_t seed;      // of the first run; the next ones have seed + 1, seed + 2, ...
    uint64_t runs;      // 0: one
    uint64_t max_steps; // most steps of a run, LIVELOCK beyond; 0: 1,000,000
    /* 0: the next goroutine is drawn uniformly. d > 0: PCT, which gives goroutines random
     * priorities, runs the ready one of the highest, and changes priorities d - 1 times. PCT finds
     * a bug that takes d orderings, in a run of n goroutines and k steps, with a probability of at
     * least 1 / (n k^(d-1)). Above 16 csp_simulate panics. */
    uint32_t depth;
    uint64_t length;   // PCT: k; 0: drawn for each run from 4, 8, ... 4096
    bool ignore_leaks; // goroutines that wait when main returns are no error
    FILE *file;        // gets the report of a run that goes wrong; NULL: no report
} csp_sim;

/* The result of a simulation, a copy that is the caller's. */
typedef struct csp_sim_report {
    csp_sim_outcome outcome;
    uint64_t seed;                        // of the last run, the one that went wrong
    uint64_t runs;                        // number of runs made
    uint64_t steps;                       // decisions of the last run
    uint64_t trace;                       // hash of these decisions: equal for equal runs
    int64_t time;                         // virtual nanoseconds that the last run took
    char message[CSP_PANIC_MESSAGE_SIZE]; // the error, as text
} csp_sim_report;

/* Runs a simulation and returns its report. Called by a thread while no goroutine exists; otherwise
 * it panics. With CSP_SEED=n in the environment, only the run with seed n is made, and it is
 * reported on stderr whatever its outcome. sim may be NULL: all defaults. */
CSP_DEF csp_sim_report csp_simulate(const csp_sim *sim, void (*fn)(void *), void *arg);

/* A number below n, drawn from the seed, for programs that choose at random or inject failures.
 * Outside a simulation it is always 0. Threads and goroutines. */
CSP_DEF uint32_t csp_sim_choose(uint32_t n);

/* Makes the two ends of a connection that exists in this run only. csp_read, csp_write, their
 * _until and _full forms, csp_wait_fd, csp_close_write and csp_close_fd work on it. Bytes that are
 * written arrive later and in pieces, and reads and writes move fewer bytes than asked, as the seed
 * decides. Bytes are never reordered or lost. In a simulation every other descriptor panics.
 * Returns 0; panics outside a simulation. */
CSP_DEF int csp_sim_pipe(int ends[2]);

CSP_DEF const char *csp_sim_outcome_name(csp_sim_outcome outcome); // "ok", "panic", "deadlock", ...
#endif

#ifdef __cplusplus
}
/* The checks of directions and types for C++. A value's type is checked by the call itself. */
namespace csp_x
{
inline const csp_x_how *how_of(const csp_x_how &how)
{
    return &how; // a temporary, which lives until the call that uses it has returned
}
#if defined(__EXCEPTIONS) && !defined(CSP_BARE)
__attribute__((noreturn)) inline void raise_panic(const csp_panic_info *info)
{
    throw info;
}
struct trying {
    csp_x_try t;
    __attribute__((always_inline)) trying() // inlined: csp_x_try_enter must see the caller's frame
    {
        csp_x_try_enter(&t)->raise = raise_panic;
    }
    ~trying()
    {
        csp_x_try_leave(&t);
    }
    explicit operator bool() const
    {
        return true;
    }
};
#endif
inline csp_x_defer deferred(void (*fn)(void *), void *arg)
{
    return csp_x_defer{NULL, fn, arg};
}
template <class T> struct same {
    typedef T type;
};
template <class R> inline csp_x_defer deferred(R (*)(int), int)
{
    static_assert(sizeof(R *) == 0, CSP_X_DEFER_WHAT);
    return csp_x_defer();
}
template <class R, class T> inline csp_x_defer deferred(R (*fn)(T *), typename same<T *>::type arg)
{
    return csp_x_defer{NULL, reinterpret_cast<void (*)(void *)>(reinterpret_cast<void (*)()>(fn)),
                       const_cast<void *>(static_cast<const volatile void *>(arg))};
}
/* Values are copied as bytes, by the sender or the receiver, without a call of a constructor. So
 * the type must be trivially copyable. */
template <class T> struct bytes {
    static_assert(CSP_X_IS_BYTES(T),
                  "a channel's values are copied as bytes: this type forbids it");
    static const bool yes = true;
};
template <class T> constexpr size_t size_of()
{
    return bytes<T>::yes ? sizeof(T) : 0;
}
template <class T, size_t D> inline const void *sends(T (*c)[D])
{
    static_assert(D & 1, "cannot send on or close a receive-only channel");
    return bytes<T>::yes ? c : NULL;
}
template <class T, size_t D> inline const void *recvs(T (*c)[D])
{
    static_assert(D & 2, "cannot receive from a send-only channel");
    return bytes<T>::yes ? c : NULL;
}
template <class T> inline void *into(T *p)
{
    return p;
}
template <class T> inline const void *value_of(const T &v)
{
    return &v;
}
#ifndef CSP_NO_SELECT
#ifdef CSP_BARE
template <size_t N> inline int select(csp_case const (&cases)[N], bool in_order)
{
    csp_x_room rooms[N];
    return csp_x_select_in(rooms, const_cast<csp_case *>(cases), N, in_order);
}
#else
template <size_t N> inline int select(csp_case const (&cases)[N], bool in_order, const char *at)
{
    return csp_x_select(const_cast<csp_case *>(cases), N, in_order, at);
}
#endif
#endif
#ifndef CSP_BARE
template <size_t D, size_t N> inline void notify(int (*c)[D], int const (&signals)[N])
{
    csp_x_notify(sends(c), signals, N);
}
#endif
} // namespace csp_x
#endif

#ifdef CSP_NO_MEMORY
/* The calls that take memory. Each becomes a name that nothing declares, and so an error of the
 * compiler that shows it. */
#define CSP_X_REFUSED(call) call##_takes_memory_and_there_is_CSP_NO_MEMORY
#undef csp_run
#undef csp_spawn
#undef csp_go
#undef csp_make
#undef csp_waitgroup_go
#undef csp_waitgroup_spawn
#undef csp_after_func
#define csp_run(fn, arg) CSP_X_REFUSED(csp_run)
#define csp_spawn(fn, arg) CSP_X_REFUSED(csp_spawn)
#define csp_go(...) CSP_X_REFUSED(csp_go)
#define csp_make(T, capacity) CSP_X_REFUSED(csp_make)
#define csp_local_get(local) CSP_X_REFUSED(csp_local_get)
#define csp_local_set(local, value) CSP_X_REFUSED(csp_local_set)
#define csp_waitgroup_go(wg, ...) CSP_X_REFUSED(csp_waitgroup_go)
#define csp_waitgroup_spawn(wg, fn, arg) CSP_X_REFUSED(csp_waitgroup_spawn)
#define csp_after_func(ns, fn, arg) CSP_X_REFUSED(csp_after_func)
#define csp_timer_new(ns) CSP_X_REFUSED(csp_timer_new)
#define csp_ticker_new(ns) CSP_X_REFUSED(csp_ticker_new)
#endif

#endif /* CSP_H_INCLUDED */

/* ################################ implementation ################################ */
#ifdef CSP_IMPLEMENTATION
#ifndef CSP_IMPLEMENTED
#define CSP_IMPLEMENTED

/* ########################################### GROUND ########################################### */
/* ==========================================================================
 * [1] PLATFORM - ARM's kinds, sanitizers, configuration, headers
 *
 *   uses   nothing
 *   locks  none
 * ======================================================================== */

#if defined(__arm__) && defined(__ELF__) && __ARM_ARCH >= 5 &&                                     \
    (defined(__ARM_ARCH_ISA_ARM) || defined(__thumb2__))
#define CSP__ARM 1 // A32 and Thumb-2: A-profile, and M-profile from v7-M (mainline) on
#else
#define CSP__ARM 0
#endif
#if defined(__arm__) && defined(__ELF__) && defined(__thumb__) && !CSP__ARM
#define CSP__THUMB1 1 // v6-M and v8-M baseline: Cortex-M0, M0+, M1, M23
#else
#define CSP__THUMB1 0
#endif
#if CSP__THUMB1 || (CSP__ARM && !defined(__ARM_ARCH_ISA_ARM))
#define CSP__ARM_M 1
#else
#define CSP__ARM_M 0
#endif
#if CSP__ARM && (defined(__ARM_FP) || defined(__ARM_FEATURE_MVE))
#define CSP__ARM_FP 1
#else
#define CSP__ARM_FP 0
#endif
#if CSP__ARM && CSP__ARM_M && __ARM_ARCH >= 8
#define CSP__ARM_PSPLIM 1
#else
#define CSP__ARM_PSPLIM 0
#endif

/* The one of seven that is for this processor: numbers and names that differ. */
#if defined(__x86_64__) && !defined(__ILP32__)
#define CSP__BY_CPU(x64, x86, arm, a64, power, z, other) x64
#elif defined(__i386__)
#define CSP__BY_CPU(x64, x86, arm, a64, power, z, other) x86
#elif defined(__arm__)
#define CSP__BY_CPU(x64, x86, arm, a64, power, z, other) arm
#elif defined(__aarch64__) && !defined(__ILP32__)
#define CSP__BY_CPU(x64, x86, arm, a64, power, z, other) a64
#elif defined(__powerpc64__) && defined(_CALL_ELF) && _CALL_ELF == 2
#define CSP__BY_CPU(x64, x86, arm, a64, power, z, other) power
#elif defined(__s390x__)
#define CSP__BY_CPU(x64, x86, arm, a64, power, z, other) z
#else
#define CSP__BY_CPU(x64, x86, arm, a64, power, z, other) other
#endif

#if defined(__SANITIZE_ADDRESS__) || CSP_X_HAS(address_sanitizer)
#define CSP__ASAN 1
#else
#define CSP__ASAN 0
#endif
#define CSP__MSAN CSP_X_HAS(memory_sanitizer)

/* Configuration: the table in the front matter says what each is for. */
#ifdef CSP_BARE
#ifndef CSP_STACK_SIZE
#define CSP_STACK_SIZE (256 * sizeof(void *))
#endif
#ifndef CSP_STACK_MIN
#define CSP_STACK_MIN (48 * sizeof(void *))
#endif
#else
#ifndef CSP_STACK_SIZE
#if UINTPTR_MAX > 0xffffffff
#define CSP_STACK_SIZE (256 * 1024)
#else
#define CSP_STACK_SIZE (64 * 1024) /* there are only so many addresses */
#endif
#endif
#ifndef CSP_STACK_MIN
#define CSP_STACK_MIN 1024
#endif
#if CSP_STACK_SIZE < 16384
#error "CSP_STACK_SIZE: at least 16384 bytes, or give small goroutines csp_opts.stack_size"
#endif
#endif
#ifndef CSP_STACK_GUARD
#define CSP_STACK_GUARD 2
#endif
#ifndef CSP_GUARD_LIMIT
#define CSP_GUARD_LIMIT 16000
#endif
#ifndef CSP_FPENV
#define CSP_FPENV 0
#endif
#ifndef CSP_STACK_PAINT
#define CSP_STACK_PAINT 0
#endif
#ifndef CSP_TORTURE
#define CSP_TORTURE 0
#endif
#ifndef CSP_MAX_PROCS
#define CSP_MAX_PROCS 1024
#endif
#if CSP_MAX_PROCS < 1 || CSP_MAX_PROCS > 32767
#error "CSP_MAX_PROCS is 1 to 32767"
#endif
#ifndef CSP_HOLDERS
#define CSP_HOLDERS CSP_TORTURE
#endif
/* The system. CSP_POSIX takes, on Linux, the block of the others. */
#if defined(__linux__) && !defined(CSP_POSIX)
#define CSP__LINUX 1
#else
#define CSP__LINUX 0
#endif
#ifdef __APPLE__
#define CSP__DARWIN 1
#else
#define CSP__DARWIN 0
#endif
#if defined(__FreeBSD__) || defined(__DragonFly__) || defined(__NetBSD__) || defined(__OpenBSD__)
#define CSP__BSD 1
#else
#define CSP__BSD 0
#endif
#ifdef _WIN32
#define CSP__WINDOWS 1
#else
#define CSP__WINDOWS 0
#endif
#ifndef CSP_POLLER
#if CSP__LINUX
#define CSP_POLLER 1
#elif CSP__DARWIN || defined(__FreeBSD__) || defined(__DragonFly__)
#define CSP_POLLER 2
#else
#define CSP_POLLER 3
#endif
#endif
#ifndef CSP_COUNT
#define CSP_COUNT 0
#endif
#if CSP_STACK_GUARD < 0 || CSP_STACK_GUARD > 2
#error "CSP_STACK_GUARD is 2 (MADV_GUARD_INSTALL, else as 1), 1 (mprotect, else as 0) or 0 (canary)"
#endif

#ifdef CSP_BARE
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
#elif CSP__WINDOWS
#if !defined(_WIN32_WINNT) || _WIN32_WINNT < 0x0601
#error "csp.h: define _WIN32_WINNT as 0x0601 (Windows 7) or more before the first #include"
#endif
#if CSP_POLLER != 3 || CSP_STACK_GUARD != 2 || CSP_STACK_PAINT
#error "csp.h: no CSP_POLLER, CSP_STACK_GUARD and CSP_STACK_PAINT on Windows, which has one way"
#endif
#if CSP_TORTURE
#error "csp.h: no CSP_TORTURE on Windows: it keeps a list in a thread-local, which mingw emulates"
#endif
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <winsock2.h>
#include <ws2tcpip.h>
#include <afunix.h>
#include <windows.h>
#include <errno.h>
#include <malloc.h>
#include <process.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#undef small /* a type of <rpcndr.h>, where the program has included that before */
#elif !defined(__linux__) && !CSP__DARWIN && !CSP__BSD
#error "csp.h: Linux, macOS, the BSDs and Windows are the only systems so far; CSP_BARE needs none"
#else
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#endif
#if CSP__DARWIN
#include <mach/mach.h>
#endif
#ifndef __linux__
#include <dlfcn.h>
#endif
#include <unwind.h>
#if CSP_POLLER == 1
#include <sys/epoll.h>
#include <sys/eventfd.h>
#elif CSP_POLLER == 2
#include <sys/event.h>
#elif CSP_POLLER != 3
#error "CSP_POLLER is 1 (epoll), 2 (kqueue) or 3 (poll)"
#endif
#if !defined(MAP_ANONYMOUS) || !defined(SA_ONSTACK) || !defined(CLOCK_MONOTONIC)
#error "csp.h: define _GNU_SOURCE before the first #include of this file, or compile as -std=gnu11"
#endif
#endif

#define CSP__STACK_MAX ((size_t)1 << (sizeof(size_t) > 4 ? 40 : 30))
#define CSP__NOINLINE __attribute__((noinline))
#define CSP__INLINE inline __attribute__((always_inline))
#define CSP__COLD __attribute__((noinline, cold))
#define CSP__LIKELY(x) __builtin_expect(!!(x), 1)
#define CSP__UNLIKELY(x) __builtin_expect(!!(x), 0)
/* Under ThreadSanitizer the runtime itself is not instrumented (fibers of one thread share its
 * structures without any synchronisation that the tool could see); it is told of each
 * happens-before edge by hand. MemorySanitizer keeps marks for arguments and results, too, which
 * the switch, in assembly, does not: what the runtime returns counts as written, and so does what
 * it stores; copies of the user's values keep their marks. */
#if CSP_X_TSAN && defined(__clang__)
#define CSP__BLIND __attribute__((disable_sanitizer_instrumentation))
#elif CSP_X_TSAN
#define CSP__BLIND __attribute__((no_sanitize_thread))
#elif CSP__MSAN
#define CSP__BLIND __attribute__((no_sanitize("memory")))
#elif defined(CSP_BARE)
#define CSP__BLIND __attribute__((unused)) /* the feature macros leave parts out */
#else
#define CSP__BLIND
#endif
#define CSP__FN static CSP__BLIND
#if CSP__MSAN
extern void *__msan_memcpy(void *to, const void *from, size_t size);
extern void __msan_unpoison(const volatile void *p, size_t size);
#define CSP__MEMCPY __msan_memcpy /* even of a size that compilers make a move of */
#define CSP__WRITTEN(p, size) __msan_unpoison(p, (size_t)(size)) /* by the kernel */
#else
#define CSP__MEMCPY memcpy
#define CSP__WRITTEN(p, size) ((void)0)
#endif
/* The call that a message names. */
#ifdef CSP_NO_NAMES
#define CSP__CALLER "csp_call"
#else
#define CSP__CALLER __func__
#endif
/* Not inlined: nothing to gain, and warnings about the user's code. */
#ifdef CSP_STATIC
#define CSP__API static __attribute__((unused, noinline)) CSP__BLIND
#else
#define CSP__API __attribute__((noinline)) CSP__BLIND
#endif

/* ==========================================================================
 * [2] BASE - atomics, fatal errors, memory, random numbers
 *
 *   uses   PLATFORM
 *   locks  none
 * ======================================================================== */

#define CSP__STRING_(x) #x
#define CSP__STRING(x) CSP__STRING_(x)

/* ThreadSanitizer's view of the runtime: only these edges. */
#if CSP_X_TSAN
extern void *__tsan_get_current_fiber(void);
extern void *__tsan_create_fiber(unsigned flags);
extern void __tsan_destroy_fiber(void *fiber);
extern void __tsan_switch_to_fiber(void *fiber, unsigned flags);
extern void __tsan_acquire(void *p);
extern void __tsan_release(void *p);
extern void AnnotateBenignRaceSized(const char *file, int line, const volatile void *p, size_t size,
                                    const char *why);
#define csp__hb_before(p) __tsan_release((void *)(uintptr_t)(p))
#define csp__hb_after(p) __tsan_acquire((void *)(uintptr_t)(p))
#else
#define csp__hb_before(p) ((void)(p))
#define csp__hb_after(p) ((void)(p))
#endif

/* Memory that becomes a goroutine's stack. The tool sees what memset writes, even from here, and
 * would call it a race with that goroutine. */
#if CSP_X_TSAN
CSP__FN void csp__clear(void *p, size_t size)
{
    for (size_t i = 0; i < size; i++) ((volatile char *)p)[i] = 0;
}
#else
#define csp__clear(p, size) memset(p, 0, size)
#endif

#ifndef CSP_BARE /* BARE has all of this for bare metal */
#define csp__relaxed(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define csp__acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define csp__set(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define csp__release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define csp__swap(p, v) __atomic_exchange_n(p, v, __ATOMIC_ACQ_REL)
#define csp__add(p, v) __atomic_add_fetch(p, v, __ATOMIC_ACQ_REL)
#define csp__cas(p, old, v)                                                                        \
    __atomic_compare_exchange_n(p, old, v, false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE)
#define csp__fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define csp__barrier() __asm__ volatile("" ::: "memory") /* the compiler only */

/* 64 bits in a struct that are read and written in one piece. i386 aligns uint64_t to 4 bytes
 * there, and a member that lies across two cache lines is read and written in two. */
typedef uint64_t csp__u64 __attribute__((aligned(8)));
typedef int64_t csp__i64 __attribute__((aligned(8)));

/* COUNTS. What processors do to each other: each of these takes the longer, the more processors
 * there are, or interrupts them all. With CSP_COUNT=1 the runtime counts them; in other builds
 * nothing is left of it. examples/bench/scale.c prints them for each operation.
 *   BARRIER  membarriers
 *   FUTEX    calls of the system that put a thread to sleep or wake one, the poller's included
 *   SCHED    acquisitions of sched.lock
 *   HEAP     acquisitions of the lock of another P's heap of deadlines
 *   WRITE    writes to the hints in csp__sched, which each P reads at each look for work
 *   LOOK     Ps looked at in loops over all Ps */
#if CSP_COUNT
enum {
    CSP__COUNT_BARRIER,
    CSP__COUNT_FUTEX,
    CSP__COUNT_SCHED,
    CSP__COUNT_HEAP,
    CSP__COUNT_WRITE,
    CSP__COUNT_LOOK,
    CSP__COUNTS
};
static csp__u64 csp__counts[CSP__COUNTS];
#define csp__count_n(what, n)                                                                      \
    ((void)__atomic_fetch_add(&csp__counts[CSP__COUNT_##what], (uint64_t)(n), __ATOMIC_RELAXED))
#else
#define csp__count_n(what, n) ((void)0)
#endif
#define csp__count(what) csp__count_n(what, 1)

/* Only the owner writes: a plain increment that others may read. */
#define csp__bump(p) csp__set(p, csp__relaxed(p) + 1)

CSP__FN inline void csp__pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
#ifdef __riscv
    __asm__ volatile(".4byte 0x0100000f" ::: "memory"); /* pause, older assemblers do not know it */
#endif
#ifdef __powerpc64__
    __asm__ volatile("or 1, 1, 1\n\tor 2, 2, 2" ::: "memory"); /* low priority, and back */
#endif
#if defined(__arm__) || defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
#ifdef __s390x__
    csp__barrier(); /* has no such hint */
#endif
}

/* Is a store seen by all other processors at once? Not on POWER, where one processor may see it
 * before another does; ARM has promised it since version 8. See BARRIERS. */
#if defined(__x86_64__) || defined(__i386__) || defined(__aarch64__) || defined(__riscv)
#define CSP__AT_ONCE 1
#else
#define CSP__AT_ONCE 0
#endif

/* This thread's errno. Goroutines take turns with it, each with its own value in it. */
CSP__FN int *csp__errno(void)
{
#if CSP_X_TSAN
    AnnotateBenignRaceSized(__FILE__, __LINE__, &errno, sizeof errno, "errno");
#endif
    return &errno;
}

/* memcpy, but nothing that ThreadSanitizer sees: between goroutines by way of the runtime. */
CSP__FN void csp__copy(void *to, const void *from, size_t size)
{
#if CSP_X_TSAN
    for (size_t i = 0; i < size; i++) ((volatile char *)to)[i] = ((const char *)from)[i];
#else
    if (size > 0) memcpy(to, from, size);
#endif
}

/* As much of a text as fits, ended by 0. Not strncpy: see csp__os_warm. */
CSP__FN void csp__copy_text(char *to, const char *from, size_t size)
{
    size_t i = 0;
    for (; i + 1 < size && from[i] != 0; i++) to[i] = from[i];
    to[i] = 0;
}

/* The n bytes are decimal digits, and nothing else, of a number up to `most`. Not strtol: it skips
 * spaces, takes signs, and says of a number that is too large that it is the largest, which is
 * another one in 32 bits than in 64. */
CSP__FN bool csp__number(const char *text, size_t n, uint64_t most, uint64_t *number)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (value > most / 10 || digit > most - value * 10) return false;
        value = value * 10 + digit;
    }
    *number = value;
    return n > 0;
}

/* xorshift64*: a small fast generator for choices that need to be fair, not secret. */
CSP__FN inline uint32_t csp__random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return (uint32_t)((x * UINT64_C(2685821657736338717)) >> 32);
}

CSP__FN inline uint32_t csp__random_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)(((uint64_t)csp__random(state) * n) >> 32);
}

/* One more word into a hash. */
CSP__FN inline uint64_t csp__hash(uint64_t h, uint64_t word)
{
    h = (h ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 32;
}
#define csp__throw_memory(size) (csp_panic)("out of memory (%zu bytes)", (size_t)(size))
#define csp__print snprintf
#endif

/* WHERE, in this half: `at` is the string that CSP_X_AT has made, "mutex\0main.c:19". A call
 * without a place hands on CSP__NOWHERE, whose second half is empty. On bare metal there is no such
 * parameter, and what a wait is called stands with the wait: CSP__AT. */
#ifdef CSP_BARE
#define CSP__BY(name) csp_##name
#define CSP__AT(what) what
#define CSP__PASS
#define CSP__NOWHERE(what)
#define CSP__SITE_AT(site)
#define csp__nil_at(call, at) csp__nil(call)
#else
#define CSP__BY(name) csp_x_##name
#define CSP__AT(what) at
#define CSP__PASS , at
#define CSP__NOWHERE(what) , what "\0"
#define CSP__SITE_AT(site) , (site)->at
#define csp__nil_at csp__nil

/* The second half of such a string; NULL where there is none. */
CSP__FN inline const char *csp__place(const char *at)
{
    if (at == NULL) return NULL;
    at += strlen(at) + 1;
    return *at != 0 ? at : NULL;
}
#endif

/* NULL where an object, a function or an array is needed: a panic that names the call, as the user
 * spells it (csp_x_spawn is csp_spawn). */
CSP__FN CSP__COLD __attribute__((noreturn)) void csp__nil(const char *call CSP_X_PLACE)
{
    call += call[4] == 'x' && call[5] == '_' ? 6 : 4;
#ifdef CSP_BARE
    csp_panic("csp_%s: nil pointer", call);
#else
    csp_x_panic(at, "csp_%s: nil pointer", call);
#endif
}
#define csp__need_at(p, at) (CSP__LIKELY((p) != NULL) ? (void)0 : csp__nil_at(CSP__CALLER, at))
#define csp__need(p) csp__need_at(p, NULL)

/* ==========================================================================
 * [3] CONTEXT - one block per architecture: switch, start, mark, jump, make
 *
 * A context is a stack, and the registers that the compiler believes to be unchanged across a
 * call. While a context does not run, these registers lie in a frame on its own stack, at its stack
 * pointer. So one word names a context.
 *
 * The contract of a port
 *   void *csp__switch(void **save, void *load, uint32_t *off, void *value)
 *       1. pushes the frame, 2. stores sp to *save, 3. sets sp from load, 4. stores 0 to *off
 *       with release order (not on bare metal), 5. pops the frame of load and returns value into
 *       it. With step 4 the context left behind belongs to the thread that reads that 0 with
 *       acquire order. Nothing of its stack is touched after step 4: the new owner may be running
 *       on it by then.
 *
 *         thread that leaves a context            thread that is to run it
 *         1 pushes its frame
 *         2 *save = sp
 *         3 sp = load: it is on the other stack   waits while *off is not 0
 *         4 *off = 0 (release)                    reads *off == 0 (acquire)
 *         5 pops the frame of load                switches with load = *save
 *
 *   csp__start      the first code of a new context: calls the entry with value, and traps when
 *                   the entry returns. Its unwind table calls the return address undefined, which
 *                   tells debuggers and profilers that there is no caller.
 *   void csp__walk(void *fn, void *fn2, void *arg, void *frame), where CSP__WALK is 1
 *                   calls fn(fn2, arg): fn is an unwinder, fn2 its callback. The unwind table of
 *                   csp__walk names the context of the given frame as its caller, so the unwinder
 *                   goes on there.
 *   csp_x_mark_set, csp_x_mark_jump
 *                   setjmp and longjmp for one stack, without a libc, for CSP_BARE.
 *   CSP__FRAME_*    words in a frame, and which of them hold the entry and the pc.
 *   CSP__FRAME_FP   which word is the frame pointer, -1 where no chain of them has the callers'
 *                   addresses beside its links.
 *   CSP__START_AT   bytes of the nop at csp__start, which a new context skips: unwinders look
 *                   up the instruction before a return address, and must find csp__start there.
 *   CSP__STACK_EXTRA, 0 unless defined
 *                   bytes that each stack of a size of its own has beyond csp_opts.stack_size,
 *                   where a call takes so much stack that a size tried elsewhere would not do.
 *   csp__frame_init writes the words of a new frame other than the entry and the pc.
 *
 *   arch          | saved                                      | red zone | tested on
 *   --------------+--------------------------------------------+----------+------------------
 *   x86-64 SysV   | rbx rbp r12-r15; FPENV: mxcsr, x87 cw      | 128      | Linux; Mach-O: built
 *   x86-64 Windows| rbx rbp rsi rdi r12-r15 xmm6-15, mxcsr, x87| 0        | wine
 *                 | cw, the stack's bounds in the thread       |          |
 *   i386 SysV     | ebx ebp esi edi; FPENV: mxcsr, x87 cw      | 0        | Linux
 *   AArch64       | x19-x30 d8-d15; FPENV: fpcr                | 0 (*)    | qemu; Mach-O: built
 *    of Windows   | the same and fpcr, the stack's bounds      | 0        | linked
 *   ARM, Thumb-2  | r4-r11 lr, d8-d15 with VFP; FPENV: fpscr;  | 0        | qemu: v7-A, M3, M4F,
 *                 | M-profile: FPCA, v8-M: PSPLIM              |          | M7, M33
 *   Thumb-1 (v6-M)| r4-r11 lr                                  | 0        | qemu: M0
 *   RISC-V        | ra s0-s11 (E: s0 s1), fs0-fs11 as the ABI  | 0        | qemu: RV32, RV64
 *                 | has them; FPENV: fcsr                      |          |
 *   POWER, ELFv2  | r2 r14-r31 cr lr f14-f31 v20-v31;          | 288      | qemu: little-endian
 *                 | FPENV: fpscr                               |          |
 *   s390x         | r6-r14 f8-f15; FPENV: fpc                  | 0        | qemu
 *   (*) Apple's has 128 bytes. Red zones do no harm here: a switch is a call, and at a call a
 *   function has nothing below its stack pointer.
 *
 * Why functions in top-level asm, and not inline asm? gcc's interprocedural passes read a function
 * that contains inline asm. They see no store to the user's static variables there, and keep these
 * variables in registers across the switch, "memory" clobber or not. They cannot read top-level
 * asm.
 *   The symbols are weak and hidden, so several users of CSP_STATIC may meet in one program. They
 * are defined under .ifndef, since link-time optimization assembles everything as one file. The
 * layout of the frame is part of their names: change CSP__CONTEXT_TAG with any frame.
 *
 * The frame holds return addresses unsigned (no paciasp). The first return address of a context was
 * not made by a call, so there is no signature to check. The signed addresses of its callers stay
 * valid, since a context keeps its stack pointer when it moves to another thread. Hardware shadow
 * stacks (CET's, GCS) do not follow a switch: csp__shadow_stack_off turns them off.
 *
 *   uses   PLATFORM BASE
 *   locks  none
 * ======================================================================== */

#ifdef CSP_BARE
#define CSP__CONTEXT_TAG ""
#else
#define CSP__CONTEXT_TAG "_1" CSP__STRING(CSP_FPENV) CSP__STRING(CSP__ARM_FP)
#endif
#define CSP__SYM(name) CSP__STRING(__USER_LABEL_PREFIX__) name CSP__CONTEXT_TAG

// CSP__ASM_MODE: the instruction set and the alignment. CSP__ASM_TABLE: entries for ARM's own
// unwinder, which would take a function without one for a part of the function before it.
#if CSP__ARM && !defined __thumb2__
#define CSP__ASM_MODE ".syntax unified\n.arm\n.balign 4\n"
#elif CSP__ARM || CSP__THUMB1
#define CSP__ASM_MODE ".syntax unified\n.thumb\n.balign 4\n.thumb_func\n"
#elif defined(__riscv)
#define CSP__ASM_MODE ".balign 4\n"
#else
#define CSP__ASM_MODE ".balign 16\n"
#endif
#if CSP__ARM && !CSP__ARM_M
#define CSP__ASM_TABLE(x) x
#else
#define CSP__ASM_TABLE(x) ""
#endif
/* Unwind tables are made only where the compiler makes its own: firmware has no flash to spare. */
#if (defined(__GCC_HAVE_DWARF2_CFI_ASM) || defined(__APPLE__)) && !CSP__WINDOWS
#define CSP__CFI(x) ".cfi_" x "\n"
#else
#define CSP__CFI(x) ""
#endif
extern void *csp__switch(void **save, void *load, uint32_t *off,
                         void *value) __asm__(CSP__SYM("csp__switch")) CSP_X_HIDDEN;
extern void csp__start(void) __asm__(CSP__SYM("csp__start")) CSP_X_HIDDEN;
#if CSP__WINDOWS || (defined(CSP_BARE) && !defined(CSP_NO_PANIC))
#define CSP__ASM_MARK(code) __asm__(code);
#else
#define CSP__ASM_MARK(code) // the libc's setjmp is used
#endif
#if !defined(CSP_BARE) && defined(__GCC_HAVE_DWARF2_CFI_ASM) && !defined(__arm__) && !CSP__WINDOWS
#define CSP__WALK 1
#define CSP__ASM_WALK(code) __asm__(code);
extern void csp__walk(void *fn, void *fn2, void *arg, void *frame) __asm__(CSP__SYM("csp__walk"))
    __attribute__((visibility("hidden")));
#else
#define CSP__WALK 0
#define CSP__ASM_WALK(code)
#endif
#ifdef CSP_BARE
#define CSP__OFF(code) "" // one core: no other thread waits for *off
#else
#define CSP__OFF(code) code
#endif

// clang-format off
#ifdef __ELF__
#define CSP__ASM_BEGIN(name)                                                                       \
    ".ifndef " CSP__SYM(name) "\n.pushsection .text." name ",\"ax\",%progbits\n"                   \
    ".weak " CSP__SYM(name) "\n.hidden " CSP__SYM(name) "\n"                                       \
    ".type " CSP__SYM(name) ",%function\n" CSP__ASM_MODE CSP__SYM(name) ":\n"                      \
    CSP__ASM_TABLE(".fnstart\n") CSP__CFI("startproc")
#define CSP__ASM_END(name)                                                                         \
    CSP__CFI("endproc") CSP__ASM_TABLE(".cantunwind\n.fnend\n")                                    \
    ".size " CSP__SYM(name) ",.-" CSP__SYM(name) "\n.popsection\n.endif\n"
#elif CSP__WINDOWS
#define CSP__ASM_BEGIN(name) CSP__ASM_NAMED(CSP__SYM(name))
#define CSP__ASM_END(name) CSP__ASM_NAMED_END(CSP__SYM(name))
#define CSP__ASM_NAMED(name)                                                                       \
    ".ifndef " name "\n.section .text$" name ",\"xr\"\n.linkonce discard\n"                       \
    ".globl " name "\n.def " name "\n.scl 2\n.type 32\n.endef\n" CSP__ASM_MODE                     \
    ".seh_proc " name "\n" name ":\n"
#define CSP__ASM_NAMED_END(name) ".seh_endproc\n.text\n.endif\n"
#else
#define CSP__ASM_BEGIN(name)                                                                       \
    ".ifndef " CSP__SYM(name) "\n.pushsection __TEXT,__text,regular,pure_instructions\n"           \
    ".globl " CSP__SYM(name) "\n.private_extern " CSP__SYM(name) "\n"                              \
    ".weak_definition " CSP__SYM(name) "\n" CSP__ASM_MODE CSP__SYM(name) ":\n"                     \
    CSP__CFI("startproc")
#define CSP__ASM_END(name) CSP__CFI("endproc") ".popsection\n.endif\n"
#endif

// Code that is needed only where the floating-point environment is part of the frame.
#if CSP__ARM ? CSP__ARM_FP && (CSP_FPENV || CSP__ARM_M)                                            \
             : CSP_FPENV && (!defined(__riscv) || defined(__riscv_flen))
#define CSP__ENV(text) text
#else
#define CSP__ENV(text) ""
#endif

#if CSP__WINDOWS && defined(__x86_64__) /* ---- x86-64, Windows ------------------------------ */

/* Besides what a function keeps, a stack has four words in the thread's environment block: where it
 * begins, down to where it is committed, where its reservation ends, and the bytes that are left
 * for the report of an overflow. By them the kernel grows a stack at its guard page, and the
 * unwinder believes a frame or not. The order: 0-3 these four, 4 mxcsr and x87 cw, 6-25 xmm6-15,
 * 27-34 r15 r14 r13 r12 rdi rsi rbx rbp, 35 rip, 36 a 0 that csp__start returns to, 37 padding. */
enum {
    CSP__FRAME_WORDS = 38,
    CSP__FRAME_ENTRY = 33,
    CSP__FRAME_PC = 35,
    CSP__FRAME_FP = -1,
    CSP__START_AT = 1
};
#define CSP__PUSH(r) "push %" r "\n.seh_pushreg %" r "\n"
#define CSP__POP(r) "pop %" r "\n"
#define CSP__XMM(X) X(6, 48) X(7, 64) X(8, 80) X(9, 96) X(10, 112)                                 \
    X(11, 128) X(12, 144) X(13, 160) X(14, 176) X(15, 192)
#define CSP__XMM_SAVE(n, at) "movaps %xmm" #n ", " #at "(%rsp)\n.seh_savexmm %xmm" #n ", " #at "\n"
#define CSP__XMM_LOAD(n, at) "movaps " #at "(%rsp), %xmm" #n "\n"
#define CSP__XMM_MARK(n, at) "movups %xmm" #n ", 40+" #at "(%rcx)\n"
#define CSP__XMM_JUMP(n, at) "movups 40+" #at "(%rcx), %xmm" #n "\n"

__asm__(CSP__ASM_BEGIN("csp__switch")
        CSP__PUSH("rbp") CSP__PUSH("rbx") CSP__PUSH("rsi") CSP__PUSH("rdi")
        CSP__PUSH("r12") CSP__PUSH("r13") CSP__PUSH("r14") CSP__PUSH("r15")
        "sub $216, %rsp\n.seh_stackalloc 216\n" CSP__XMM(CSP__XMM_SAVE) ".seh_endprologue\n"
        "stmxcsr 32(%rsp)\nfnstcw 36(%rsp)\n"
        "mov %gs:0x30, %r10\n"
        "mov 8(%r10), %rax\nmov %rax, (%rsp)\nmov 16(%r10), %rax\nmov %rax, 8(%rsp)\n"
        "mov 0x1478(%r10), %rax\nmov %rax, 16(%rsp)\n"
        "mov 0x1748(%r10), %eax\nmov %eax, 24(%rsp)\n"
        "mov %rsp, (%rcx)\n"
        "mov %rdx, %rsp\n"
        "mov (%rsp), %rax\nmov %rax, 8(%r10)\nmov 8(%rsp), %rax\nmov %rax, 16(%r10)\n"
        "mov 16(%rsp), %rax\nmov %rax, 0x1478(%r10)\n"
        "mov 24(%rsp), %eax\nmov %eax, 0x1748(%r10)\n"
        "movl $0, (%r8)\n" // a plain store has release order here
        "ldmxcsr 32(%rsp)\nfldcw 36(%rsp)\n" CSP__XMM(CSP__XMM_LOAD)
        "add $216, %rsp\n"
        CSP__POP("r15") CSP__POP("r14") CSP__POP("r13") CSP__POP("r12")
        CSP__POP("rdi") CSP__POP("rsi") CSP__POP("rbx") CSP__POP("rbp")
        "mov %r9, %rax\npop %rcx\njmp *%rcx\n" CSP__ASM_END("csp__switch"));

/* What the first function of a thread does with an exception that nothing has handled: it asks the
 * process's filter (debuggers, crash reporters), and the process ends. Without it the process ends
 * in silence. rcx: the exception's record, r8: its context; 6: it is the unwinding. */
__asm__(CSP__ASM_BEGIN("csp__unhandled")
        "sub $56, %rsp\n.seh_stackalloc 56\n.seh_endprologue\n"
        "mov $1, %eax\ntestl $6, 4(%rcx)\njnz 1f\n" // go on with the search
        "mov %rcx, 32(%rsp)\nmov %r8, 40(%rsp)\nlea 32(%rsp), %rcx\n"
        "call *__imp_UnhandledExceptionFilter(%rip)\n"
        "cmp $1, %eax\nje 2f\nadd $1, %eax\njz 1f\n" // -1: as if nothing had been; 0: continue
        "mov $1, %eax\n"
        "1: add $56, %rsp\nret\n"
        "2: mov 32(%rsp), %rdx\nmov (%rdx), %edx\nmov $-1, %rcx\n"
        "call *__imp_TerminateProcess(%rip)\nud2\n" CSP__ASM_END("csp__unhandled"));

__asm__(CSP__ASM_BEGIN("csp__start") ".seh_handler " CSP__SYM("csp__unhandled") ", @except\n"
        "nop\nsub $32, %rsp\n.seh_stackalloc 32\n.seh_endprologue\n"
        "mov %rax, %rcx\ncall *%rbx\nud2\n" CSP__ASM_END("csp__start"));

/* The interface names these two, so their names have no layout in them. */
__asm__(CSP__ASM_NAMED("csp_x_mark_set") ".seh_endprologue\n"
        "mov (%rsp), %rdx\nlea 8(%rsp), %r8\n"
        "mov %rbx, (%rcx)\nmov %rbp, 8(%rcx)\nmov %r12, 16(%rcx)\nmov %r13, 24(%rcx)\n"
        "mov %r14, 32(%rcx)\nmov %r15, 40(%rcx)\nmov %r8, 48(%rcx)\nmov %rdx, 56(%rcx)\n"
        "mov %rsi, 64(%rcx)\nmov %rdi, 72(%rcx)\nstmxcsr 80(%rcx)\nfnstcw 84(%rcx)\n"
        CSP__XMM(CSP__XMM_MARK)
        "xor %eax, %eax\nret\n" CSP__ASM_NAMED_END("csp_x_mark_set"));

__asm__(CSP__ASM_NAMED("csp_x_mark_jump") ".seh_endprologue\n"
        "mov (%rcx), %rbx\nmov 8(%rcx), %rbp\nmov 16(%rcx), %r12\nmov 24(%rcx), %r13\n"
        "mov 32(%rcx), %r14\nmov 40(%rcx), %r15\nmov 64(%rcx), %rsi\nmov 72(%rcx), %rdi\n"
        "ldmxcsr 80(%rcx)\nfldcw 84(%rcx)\n" CSP__XMM(CSP__XMM_JUMP)
        "mov 48(%rcx), %rsp\nmov $1, %eax\njmp *56(%rcx)\n" CSP__ASM_NAMED_END("csp_x_mark_jump"));

#endif
#if CSP__WINDOWS && defined(__aarch64__) /* ---- AArch64, Windows --------------------------- */

/* As above; x18 is the thread's environment block. 0-3 the bounds of the stack, 4-15 x19-x30, 16-23
 * d8-d15, 24 fpcr, 25 padding. */
enum {
    CSP__FRAME_WORDS = 26,
    CSP__FRAME_ENTRY = 4,
    CSP__FRAME_PC = 15,
    CSP__FRAME_FP = 14,
    CSP__START_AT = 4
};
#define CSP__A64_REGS(X)                                                                           \
    X("regp", "x19", "x20", 0) X("regp", "x21", "x22", 16) X("regp", "x23", "x24", 32)             \
    X("regp", "x25", "x26", 48) X("regp", "x27", "x28", 64) X("fplr", "x29", "x30", 80)            \
    X("fregp", "d8", "d9", 96) X("fregp", "d10", "d11", 112) X("fregp", "d12", "d13", 128)         \
    X("fregp", "d14", "d15", 144)
#define CSP__A64_PUSH(seh, a, b, n) "stp " a ", " b ", [sp, #32+" #n "]\n" CSP__A64_SEH(seh, a, n)
#define CSP__A64_SEH(seh, a, n)                                                                    \
    ".ifc " seh ",fplr\n.seh_save_fplr 32+" #n "\n.else\n"                                         \
    ".seh_save_" seh " " a ", 32+" #n "\n.endif\n"
#define CSP__A64_POP(seh, a, b, n) "ldp " a ", " b ", [sp, #32+" #n "]\n"
#define CSP__A64_MARK(seh, a, b, n) "stp " a ", " b ", [x0, #" #n "]\n"
#define CSP__A64_JUMP(seh, a, b, n) "ldp " a ", " b ", [x0, #" #n "]\n"

__asm__(CSP__ASM_BEGIN("csp__switch")
        "sub sp, sp, #208\n.seh_stackalloc 208\n" CSP__A64_REGS(CSP__A64_PUSH) ".seh_endprologue\n"
        "mrs x9, fpcr\nstr x9, [sp, #192]\n"
        "ldr x9, [x18, #8]\nldr x10, [x18, #16]\nstp x9, x10, [sp]\n"
        "ldr x9, [x18, #0x1478]\nldr w10, [x18, #0x1748]\nstp x9, x10, [sp, #16]\n"
        "mov x9, sp\nstr x9, [x0]\n"
        "mov sp, x1\n"
        "ldp x9, x10, [sp]\nstr x9, [x18, #8]\nstr x10, [x18, #16]\n"
        "ldp x9, x10, [sp, #16]\nstr x9, [x18, #0x1478]\nstr w10, [x18, #0x1748]\n"
        "stlr wzr, [x2]\n"
        "ldr x9, [sp, #192]\nmsr fpcr, x9\n" CSP__A64_REGS(CSP__A64_POP)
        "add sp, sp, #208\nmov x0, x3\nret\n" CSP__ASM_END("csp__switch"));

/* x0: the exception's record, x2: its context. */
__asm__(CSP__ASM_BEGIN("csp__unhandled")
        "stp x29, x30, [sp, #-32]!\n.seh_save_fplr_x 32\n.seh_endprologue\n"
        "mov w9, #1\nldr w8, [x0, #4]\ntst w8, #6\nb.ne 1f\n" // go on with the search
        "stp x0, x2, [sp, #16]\nadd x0, sp, #16\n"
        "adrp x8, __imp_UnhandledExceptionFilter\n"
        "ldr x8, [x8, :lo12:__imp_UnhandledExceptionFilter]\nblr x8\n"
        "cmp w0, #1\nb.eq 2f\ncmn w0, #1\ncset w9, ne\n" // -1: as if nothing had been
        "1: mov w0, w9\nldp x29, x30, [sp], #32\nret\n"
        "2: ldr x8, [sp, #16]\nldr w1, [x8]\nmov x0, #-1\n"
        "adrp x8, __imp_TerminateProcess\nldr x8, [x8, :lo12:__imp_TerminateProcess]\n"
        "blr x8\nbrk #1\n" CSP__ASM_END("csp__unhandled"));

/* The unwinder ends where it reads a return address of 0. */
__asm__(CSP__ASM_BEGIN("csp__start") ".seh_handler " CSP__SYM("csp__unhandled") ", @except\n"
        "nop\n.seh_nop\nstp xzr, xzr, [sp, #-16]!\n.seh_save_fplr_x 16\n.seh_endprologue\n"
        "blr x19\nbrk #1\n" CSP__ASM_END("csp__start"));

__asm__(CSP__ASM_NAMED("csp_x_mark_set") ".seh_endprologue\n"
        "mov x9, sp\nmrs x10, fpcr\n" CSP__A64_REGS(CSP__A64_MARK)
        "stp x9, x10, [x0, #160]\nmov w0, #0\nret\n" CSP__ASM_NAMED_END("csp_x_mark_set"));

__asm__(CSP__ASM_NAMED("csp_x_mark_jump") ".seh_endprologue\n"
        "ldp x9, x10, [x0, #160]\n" CSP__A64_REGS(CSP__A64_JUMP)
        "msr fpcr, x10\nmov sp, x9\nmov w0, #1\nret\n" CSP__ASM_NAMED_END("csp_x_mark_jump"));

/* ---- x86-64, System V ------------------------------------------------------------ */
#endif
#if !CSP__WINDOWS && defined(__x86_64__) && !defined(__ILP32__)

/* Resumes by `pop; jmp` and not by `ret`. The processor predicts a ret from its own list of calls.
 * After a switch that list belongs to the other context, and the wrong prediction costs 10 ns. The
 * resumed pc follows a call and has no landing pad, hence notrack. */
enum {
    CSP__FRAME_WORDS = 7 + CSP_FPENV, // [mxcsr, x87] r15 r14 r13 r12 rbx rbp rip
    CSP__FRAME_ENTRY = 4 + CSP_FPENV,
    CSP__FRAME_PC = 6 + CSP_FPENV,
    CSP__FRAME_FP = 5 + CSP_FPENV,
    CSP__START_AT = 1
};

#if defined(__CET__) && (__CET__ & 1)
#define CSP__PAD "endbr64\n"
#else
#define CSP__PAD ""
#endif
#define CSP__PUSH(r) "push %" r "\n" CSP__CFI("adjust_cfa_offset 8") CSP__CFI("rel_offset %" r ",0")
#define CSP__POP(r) "pop %" r "\n" CSP__CFI("adjust_cfa_offset -8") CSP__CFI("restore %" r)

__asm__(CSP__ASM_BEGIN("csp__switch") CSP__PAD
        CSP__PUSH("rbp") CSP__PUSH("rbx") CSP__PUSH("r12") CSP__PUSH("r13")
        CSP__PUSH("r14") CSP__PUSH("r15")
        CSP__ENV("sub $8, %rsp\nstmxcsr (%rsp)\nfnstcw 4(%rsp)\n" CSP__CFI("adjust_cfa_offset 8"))
        "mov %rsp, (%rdi)\n"
        "mov %rsi, %rsp\n"
        CSP__OFF("movl $0, (%rdx)\n") // a plain store has release order here
        CSP__ENV("ldmxcsr (%rsp)\nfldcw 4(%rsp)\nadd $8, %rsp\n" CSP__CFI("adjust_cfa_offset -8"))
        CSP__POP("r15") CSP__POP("r14") CSP__POP("r13") CSP__POP("r12")
        CSP__POP("rbx") CSP__POP("rbp")
        "mov %rcx, %rax\n"
        "pop %rcx\n" CSP__CFI("adjust_cfa_offset -8") CSP__CFI("register %rip,%rcx")
        "notrack jmp *%rcx\n" CSP__ASM_END("csp__switch"));

__asm__(CSP__ASM_BEGIN("csp__start") CSP__CFI("undefined %rip") CSP__CFI("def_cfa_offset 0")
        "nop\nmov %rax, %rdi\ncall *%rbx\nud2\n" CSP__ASM_END("csp__start"));

CSP__ASM_WALK(CSP__ASM_BEGIN("csp__walk") CSP__PAD
        "push %rbx\n" CSP__CFI("adjust_cfa_offset 8") CSP__CFI("rel_offset %rbx,0")
        "mov %rcx, %rbx\n" CSP__CFI("remember_state")
        CSP__CFI("def_cfa %rbx,56+8*" CSP__STRING(CSP_FPENV))
        CSP__CFI("offset %rip,-8") CSP__CFI("offset %rbp,-16") CSP__CFI("offset %rbx,-24")
        CSP__CFI("offset %r12,-32") CSP__CFI("offset %r13,-40") CSP__CFI("offset %r14,-48")
        CSP__CFI("offset %r15,-56")
        "mov %rdi, %rax\nmov %rsi, %rdi\nmov %rdx, %rsi\ncall *%rax\n" CSP__CFI("restore_state")
        "pop %rbx\n" CSP__CFI("adjust_cfa_offset -8") CSP__CFI("restore %rbx")
        "ret\n" CSP__ASM_END("csp__walk"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_set") CSP__PAD
        "mov (%rsp), %rdx\nlea 8(%rsp), %rcx\n"
        "mov %rbx, (%rdi)\nmov %rbp, 8(%rdi)\nmov %r12, 16(%rdi)\nmov %r13, 24(%rdi)\n"
        "mov %r14, 32(%rdi)\nmov %r15, 40(%rdi)\nmov %rcx, 48(%rdi)\nmov %rdx, 56(%rdi)\n"
        "xor %eax, %eax\nret\n" CSP__ASM_END("csp_x_mark_set"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_jump") CSP__CFI("undefined %rip") CSP__PAD
        "mov (%rdi), %rbx\nmov 8(%rdi), %rbp\nmov 16(%rdi), %r12\nmov 24(%rdi), %r13\n"
        "mov 32(%rdi), %r14\nmov 40(%rdi), %r15\nmov 48(%rdi), %rsp\nmov 56(%rdi), %rdx\n"
        "mov $1, %eax\nnotrack jmp *%rdx\n" CSP__ASM_END("csp_x_mark_jump"))

#endif
#if defined(__i386__) /* ---- i386, System V: arguments on the stack --------------------- */

enum { // [mxcsr, x87 cw] edi esi ebx ebp eip
    CSP__FRAME_WORDS = 5 + 2 * CSP_FPENV,
    CSP__FRAME_ENTRY = 2 + 2 * CSP_FPENV,
    CSP__FRAME_PC = 4 + 2 * CSP_FPENV,
    CSP__FRAME_FP = 3 + 2 * CSP_FPENV,
    CSP__START_AT = 1
};

#if defined(__CET__) && (__CET__ & 1)
#define CSP__PAD "endbr32\n"
#else
#define CSP__PAD ""
#endif
#ifdef __SSE__
#define CSP__SSE(op, otherwise) op " (%esp)\n"
#else
#define CSP__SSE(op, otherwise) otherwise // the processor may have no SSE
#endif
#define CSP__PUSH(r) "push %" r "\n" CSP__CFI("adjust_cfa_offset 4") CSP__CFI("rel_offset %" r ",0")
#define CSP__POP(r) "pop %" r "\n" CSP__CFI("adjust_cfa_offset -4") CSP__CFI("restore %" r)

/* edx: save, esi: load, ecx: off, eax: value. The arguments lie on the stack that is left. So all
 * of them are loaded before *off is cleared: after that another thread may run on that stack. */
__asm__(CSP__ASM_BEGIN("csp__switch") CSP__PAD
        CSP__PUSH("ebp") CSP__PUSH("ebx") CSP__PUSH("esi") CSP__PUSH("edi")
        "mov 20(%esp), %edx\nmov 24(%esp), %esi\n"
        CSP__OFF("mov 28(%esp), %ecx\n") "mov 32(%esp), %eax\n"
        CSP__ENV("sub $8, %esp\n" CSP__SSE("stmxcsr", "movl $0x1f80, (%esp)\n")
                 "fnstcw 4(%esp)\n" CSP__CFI("adjust_cfa_offset 8"))
        "mov %esp, (%edx)\n"
        "mov %esi, %esp\n"
        CSP__OFF("movl $0, (%ecx)\n") // a plain store has release order here
        CSP__ENV(CSP__SSE("ldmxcsr", "") "fldcw 4(%esp)\nadd $8, %esp\n"
                 CSP__CFI("adjust_cfa_offset -8"))
        CSP__POP("edi") CSP__POP("esi") CSP__POP("ebx") CSP__POP("ebp")
        "pop %ecx\n" CSP__CFI("adjust_cfa_offset -4") CSP__CFI("register %eip,%ecx")
        "notrack jmp *%ecx\n" CSP__ASM_END("csp__switch"));

/* At the call the stack pointer is a multiple of 16, as compilers expect it. */
__asm__(CSP__ASM_BEGIN("csp__start") CSP__CFI("undefined %eip") CSP__CFI("def_cfa_offset 0")
        "nop\nsub $12, %esp\npush %eax\ncall *%ebx\nud2\n" CSP__ASM_END("csp__start"));

CSP__ASM_WALK(CSP__ASM_BEGIN("csp__walk") CSP__PAD
        "push %ebx\n" CSP__CFI("adjust_cfa_offset 4") CSP__CFI("rel_offset %ebx,0")
        "mov 8(%esp), %eax\nmov 12(%esp), %ecx\nmov 16(%esp), %edx\nmov 20(%esp), %ebx\n"
        CSP__CFI("remember_state") CSP__CFI("def_cfa %ebx,20+8*" CSP__STRING(CSP_FPENV))
        CSP__CFI("offset %eip,-4") CSP__CFI("offset %ebp,-8") CSP__CFI("offset %ebx,-12")
        CSP__CFI("offset %esi,-16") CSP__CFI("offset %edi,-20")
        "push %edx\npush %ecx\ncall *%eax\nadd $8, %esp\n" CSP__CFI("restore_state")
        "pop %ebx\n" CSP__CFI("adjust_cfa_offset -4") CSP__CFI("restore %ebx")
        "ret\n" CSP__ASM_END("csp__walk"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_set") CSP__PAD
        "mov 4(%esp), %eax\nmov (%esp), %edx\nlea 4(%esp), %ecx\n"
        "mov %ebx, (%eax)\nmov %ebp, 4(%eax)\nmov %esi, 8(%eax)\nmov %edi, 12(%eax)\n"
        "mov %ecx, 16(%eax)\nmov %edx, 20(%eax)\n"
        "xor %eax, %eax\nret\n" CSP__ASM_END("csp_x_mark_set"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_jump") CSP__CFI("undefined %eip") CSP__PAD
        "mov 4(%esp), %edx\nmov (%edx), %ebx\nmov 4(%edx), %ebp\nmov 8(%edx), %esi\n"
        "mov 12(%edx), %edi\nmov 16(%edx), %esp\nmov 20(%edx), %edx\n"
        "mov $1, %eax\nnotrack jmp *%edx\n" CSP__ASM_END("csp_x_mark_jump"))

/* ---- AArch64 ---------------------------------------------------------------------- */
#endif
#if !CSP__WINDOWS && defined(__aarch64__) && !defined(__ILP32__)

enum { // x19-x30, d8-d15, [fpcr, padding]
    CSP__FRAME_WORDS = 20 + 2 * CSP_FPENV,
    CSP__FRAME_ENTRY = 0,
    CSP__FRAME_PC = 11,
    CSP__FRAME_FP = 10,
    CSP__START_AT = 4
};

#ifdef __ARM_FEATURE_BTI_DEFAULT
#define CSP__PAD "hint #34\n" // bti c
#else
#define CSP__PAD ""
#endif
#define CSP__A64_REGS(X)                                                                           \
    X("x19", "x20", 0) X("x21", "x22", 16) X("x23", "x24", 32) X("x25", "x26", 48)                 \
    X("x27", "x28", 64) X("x29", "x30", 80) X("d8", "d9", 96) X("d10", "d11", 112)                 \
    X("d12", "d13", 128) X("d14", "d15", 144)
#define CSP__A64_PUSH(a, b, n)                                                                     \
    "stp " a ", " b ", [sp, #" #n "]\n"                                                            \
    CSP__CFI("rel_offset " a "," #n) CSP__CFI("rel_offset " b "," #n "+8")
#define CSP__A64_POP(a, b, n)                                                                      \
    "ldp " a ", " b ", [sp, #" #n "]\n" CSP__CFI("restore " a) CSP__CFI("restore " b)
#define CSP__A64_MARK(a, b, n) "stp " a ", " b ", [x0, #" #n "]\n"
#define CSP__A64_JUMP(a, b, n) "ldp " a ", " b ", [x0, #" #n "]\n"

__asm__(CSP__ASM_BEGIN("csp__switch") CSP__PAD
        CSP__ENV("mrs x9, fpcr\nstr x9, [sp, #-16]!\n" CSP__CFI("adjust_cfa_offset 16"))
        "sub sp, sp, #160\n" CSP__CFI("adjust_cfa_offset 160") CSP__A64_REGS(CSP__A64_PUSH)
        "mov x9, sp\nstr x9, [x0]\n"
        "mov sp, x1\n" CSP__OFF("stlr wzr, [x2]\n")
        CSP__A64_REGS(CSP__A64_POP) "add sp, sp, #160\n" CSP__CFI("adjust_cfa_offset -160")
        CSP__ENV("ldr x9, [sp], #16\nmsr fpcr, x9\n" CSP__CFI("adjust_cfa_offset -16"))
        "mov x0, x3\nret\n" CSP__ASM_END("csp__switch"));

__asm__(CSP__ASM_BEGIN("csp__start") CSP__CFI("undefined x30")
        "nop\nblr x19\nbrk #1\n" CSP__ASM_END("csp__start"));

#define CSP__A64_CALLER(a, b, n)                                                                   \
    CSP__CFI("offset " a "," #n "-160-16*" CSP__STRING(CSP_FPENV))                                 \
    CSP__CFI("offset " b "," #n "-152-16*" CSP__STRING(CSP_FPENV))
CSP__ASM_WALK(CSP__ASM_BEGIN("csp__walk") CSP__PAD
        "stp x29, x30, [sp, #-32]!\n" CSP__CFI("adjust_cfa_offset 32") CSP__CFI("rel_offset x29,0")
        CSP__CFI("rel_offset x30,8") "str x19, [sp, #16]\n" CSP__CFI("rel_offset x19,16")
        "mov x19, x3\n" CSP__CFI("remember_state")
        CSP__CFI("def_cfa x19,160+16*" CSP__STRING(CSP_FPENV)) CSP__A64_REGS(CSP__A64_CALLER)
        "mov x9, x0\nmov x0, x1\nmov x1, x2\nblr x9\n" CSP__CFI("restore_state")
        "ldr x19, [sp, #16]\nldp x29, x30, [sp], #32\n" CSP__CFI("adjust_cfa_offset -32")
        CSP__CFI("restore x19") CSP__CFI("restore x29") CSP__CFI("restore x30")
        "ret\n" CSP__ASM_END("csp__walk"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_set") CSP__PAD
        "mov x9, sp\n" CSP__A64_REGS(CSP__A64_MARK)
        "str x9, [x0, #160]\nmov w0, #0\nret\n" CSP__ASM_END("csp_x_mark_set"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_jump") CSP__CFI("undefined x30") CSP__PAD
        "ldr x9, [x0, #160]\n" CSP__A64_REGS(CSP__A64_JUMP)
        "mov sp, x9\nmov w0, #1\nret\n" CSP__ASM_END("csp_x_mark_jump"))

#endif
#if CSP__ARM /* ---- ARM: A32, Thumb-2, M-profile from v7-M on ----------------------- */

#ifdef __thumb2__
#define CSP__ARM_NOP 2
#else
#define CSP__ARM_NOP 4
#endif
#define CSP__ARM_VARIES (CSP__ARM_FP || CSP__ARM_PSPLIM)
#ifdef __ARM_FEATURE_BTI_DEFAULT
#define CSP__PAD ".inst.w 0xf3af800f\n" // bti
#else
#define CSP__PAD ""
#endif
#define CSP__ARM_CFI                                                                               \
    CSP__CFI("rel_offset r4,0") CSP__CFI("rel_offset r5,4") CSP__CFI("rel_offset r6,8")            \
    CSP__CFI("rel_offset r7,12") CSP__CFI("rel_offset r8,16") CSP__CFI("rel_offset r9,20")         \
    CSP__CFI("rel_offset r10,24") CSP__CFI("rel_offset r11,28") CSP__CFI("rel_offset lr,32")
#if CSP__ARM_M && CSP__ARM_FP
#define CSP__ARM_FPCA(text) text // code that is needed only with M-profile's FPU
#define CSP__ARM_FP_DO(op, args) "it ne\n" op "ne " args "\n"
#elif CSP__ARM_FP
#define CSP__ARM_FPCA(text) ""
#define CSP__ARM_FP_DO(op, args) op " " args "\n"
#else
#define CSP__ARM_FPCA(text) ""
#define CSP__ARM_FP_DO(op, args) ""
#endif
#if CSP__ARM_PSPLIM
#define CSP__ARM_LIMIT(text) text
#else
#define CSP__ARM_LIMIT(text) ""
#endif
#define CSP__ARM_LIST "{r4" CSP__ARM_FPCA(", r5") CSP__ENV(", r6") CSP__ARM_LIMIT(", r7") "}"
#if CSP__ARM_M || __ARM_ARCH < 6
#define CSP__ARM_RELEASE "" // one core
#elif __ARM_ARCH < 7
#define CSP__ARM_RELEASE "mcr p15, 0, r1, c7, c10, 5\n" // r1 is 0
#else
#define CSP__ARM_RELEASE "dmb ish\n"
#endif

/* M-profile with an FPU: CONTROL.FPCA says whether this context has used the FPU since it started
 * (this needs FPCCR.ASPEN, which is set at reset). FPCA is part of the context. A context that has
 * not used the FPU saves no d8-d15, and an interrupt pushes 32 bytes to its stack and not 104. So
 * instructions that would set FPCA are skipped for such a context, and FPCA is 0 while sp moves.
 * The vpop sets FPCA again and resets FPSCR, so FPSCR is saved here without CSP_FPENV, too.
 *   v8-M: the stack limit is 0 while sp moves. With the limit of either context an interrupt at
 * that moment would fault on the other context's stack.
 *   Such a frame varies in size, so r4 is the CFA: the new context's from the ldm on. */
enum {
    CSP__ARM_EXTRA = CSP__ARM_VARIES + (CSP__ARM_M && CSP__ARM_FP) +
                     (CSP__ARM_FP && (CSP_FPENV || CSP__ARM_M)) + CSP__ARM_PSPLIM, // r4-r7
    CSP__FRAME_ENTRY = CSP__ARM_EXTRA + (CSP__ARM_FP && !CSP__ARM_M ? 16 : 0),
    CSP__FRAME_PC = CSP__FRAME_ENTRY + 8,
    CSP__FRAME_WORDS = CSP__FRAME_ENTRY + 9,
    CSP__FRAME_FP = -1,
    CSP__START_AT = CSP__ARM_NOP
};

__asm__(CSP__ASM_BEGIN("csp__switch") CSP__PAD
        "push {r4-r11, lr}\n" CSP__CFI("adjust_cfa_offset 36") CSP__ARM_CFI
#if CSP__ARM_VARIES
        "mov r4, sp\n" CSP__CFI("def_cfa r4, 36")
        CSP__ARM_FPCA("mrs r5, control\ntst r5, #4\n") CSP__ARM_FP_DO("vpush", "{d8-d15}")
        CSP__ENV(CSP__ARM_FP_DO("vmrs", "r6, fpscr")) CSP__ARM_LIMIT("mrs r7, psplim\n")
        "push " CSP__ARM_LIST "\n"
        "str sp, [r0]\n"
        "ldm r1!, " CSP__ARM_LIST "\n"
        CSP__ARM_FPCA("bic r0, r5, #12\nmsr control, r0\nisb\n")
        CSP__ARM_LIMIT("movs r0, #0\nmsr psplim, r0\n")
        "mov sp, r1\n"
        CSP__ARM_LIMIT("msr psplim, r7\n")
        CSP__ARM_FPCA("tst r5, #4\n") CSP__ARM_FP_DO("vpop", "{d8-d15}")
        CSP__ENV(CSP__ARM_FP_DO("vmsr", "fpscr, r6"))
#else
        "str sp, [r0]\n"
        "mov sp, r1\n"
#endif
        CSP__OFF("movs r1, #0\n" CSP__ARM_RELEASE "str r1, [r2]\n")
        "mov r0, r3\n"
        "pop {r4-r11, pc}\n" CSP__ASM_END("csp__switch"));

__asm__(CSP__ASM_BEGIN("csp__start") CSP__CFI("undefined lr")
        "nop\nblx r4\nudf #255\n" CSP__ASM_END("csp__start"));

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_set") CSP__PAD
        "mov r12, sp\nstm r0!, {r4-r12, lr}\n"
        CSP__ARM_FPCA("mrs r1, control\nstr r1, [r0], #4\ntst r1, #4\n")
        CSP__ARM_FP_DO("vstmia", "r0, {d8-d15}")
        "movs r0, #0\nbx lr\n" CSP__ASM_END("csp_x_mark_set"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_jump") CSP__CFI("undefined lr") CSP__PAD
        "ldm r0!, {r4-r12, lr}\nmov sp, r12\n"
        CSP__ARM_FPCA("ldr r1, [r0], #4\ntst r1, #4\n")
        CSP__ARM_FP_DO("vldmia", "r0, {d8-d15}")
        "movs r0, #1\nbx lr\n" CSP__ASM_END("csp_x_mark_jump"))

#endif
#if CSP__THUMB1 /* ---- ARM v6-M, v8-M baseline: pushes low registers only ---------- */

enum { // r8-r11 r4-r7 pc
    CSP__FRAME_WORDS = 9,
    CSP__FRAME_ENTRY = 4,
    CSP__FRAME_PC = 8,
    CSP__FRAME_FP = -1,
    CSP__START_AT = 2
};

__asm__(CSP__ASM_BEGIN("csp__switch")
        "push {r4-r7, lr}\n" CSP__CFI("adjust_cfa_offset 20") CSP__CFI("rel_offset r4,0")
        CSP__CFI("rel_offset r5,4") CSP__CFI("rel_offset r6,8") CSP__CFI("rel_offset r7,12")
        CSP__CFI("rel_offset lr,16")
        "mov r4, r8\nmov r5, r9\nmov r6, r10\nmov r7, r11\n"
        "push {r4-r7}\n" CSP__CFI("adjust_cfa_offset 16") CSP__CFI("rel_offset r8,0")
        CSP__CFI("rel_offset r9,4") CSP__CFI("rel_offset r10,8") CSP__CFI("rel_offset r11,12")
        "mov r4, sp\nstr r4, [r0]\n"
        "mov sp, r1\n"
        "pop {r4-r7}\n" CSP__CFI("adjust_cfa_offset -16") CSP__CFI("register r8,r4")
        CSP__CFI("register r9,r5") CSP__CFI("register r10,r6") CSP__CFI("register r11,r7")
        "mov r8, r4\nmov r9, r5\nmov r10, r6\nmov r11, r7\n"
        "mov r0, r3\npop {r4-r7, pc}\n" CSP__ASM_END("csp__switch"));

__asm__(CSP__ASM_BEGIN("csp__start") CSP__CFI("undefined lr")
        "nop\nblx r4\nudf #255\n" CSP__ASM_END("csp__start"));

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_set")
        "stm r0!, {r4-r7}\nmov r1, r8\nmov r2, r9\nmov r3, r10\nstm r0!, {r1-r3}\n"
        "mov r1, r11\nmov r2, sp\nmov r3, lr\nstm r0!, {r1-r3}\n"
        "movs r0, #0\nbx lr\n" CSP__ASM_END("csp_x_mark_set"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_jump") CSP__CFI("undefined lr")
        "ldm r0!, {r4-r7}\nldm r0!, {r1-r3}\nmov r8, r1\nmov r9, r2\nmov r10, r3\n"
        "ldm r0!, {r1-r3}\nmov r11, r1\nmov sp, r2\nmov lr, r3\n"
        "movs r0, #1\nbx lr\n" CSP__ASM_END("csp_x_mark_jump"))

#endif
#if defined(__riscv) /* ---- RISC-V, 32 and 64 bits -------------------------------------- */

#if __riscv_xlen == 64
#define CSP__RV_W 8
#define CSP__RV_S "sd "
#define CSP__RV_L "ld "
#else
#define CSP__RV_W 4
#define CSP__RV_S "sw "
#define CSP__RV_L "lw "
#endif
#if defined __riscv_32e || defined __riscv_64e
#define CSP__RV_INTS(X) X("ra", 0) X("s0", 1) X("s1", 2)
#define CSP__RV_FCSR 3
#define CSP__RV_FP_AT (4 * CSP__RV_W)
#else
#define CSP__RV_INTS(X)                                                                            \
    X("ra", 0) X("s0", 1) X("s1", 2) X("s2", 3) X("s3", 4) X("s4", 5) X("s5", 6) X("s6", 7)        \
    X("s7", 8) X("s8", 9) X("s9", 10) X("s10", 11) X("s11", 12)
#define CSP__RV_FCSR 13
#define CSP__RV_FP_AT ((14 * CSP__RV_W + 15) / 16 * 16)
#endif
#if defined __riscv_float_abi_double
#define CSP__RV_FW 8
#define CSP__RV_FS "fsd "
#define CSP__RV_FL "fld "
#else
#define CSP__RV_FW 4
#define CSP__RV_FS "fsw "
#define CSP__RV_FL "flw "
#endif
#if defined __riscv_float_abi_double || defined __riscv_float_abi_single
#define CSP__RV_FP_BYTES (12 * CSP__RV_FW)
#define CSP__RV_FPS(X)                                                                             \
    X("fs0", 0) X("fs1", 1) X("fs2", 2) X("fs3", 3) X("fs4", 4) X("fs5", 5) X("fs6", 6)            \
    X("fs7", 7) X("fs8", 8) X("fs9", 9) X("fs10", 10) X("fs11", 11)
#elif defined __riscv_float_abi_quad
#error "csp.h: the quad float ABI of RISC-V has no context switch; use lp64d"
#else
#define CSP__RV_FP_BYTES 0
#define CSP__RV_FPS(X)
#endif
// The offsets of word n and float n: IN and FN in the frame at sp, IN and MN in the mark at a0.
#define CSP__RV_IN(n) CSP__STRING(n * CSP__RV_W)
#define CSP__RV_FN(n) CSP__STRING(CSP__RV_FP_AT + n * CSP__RV_FW)
#define CSP__RV_MN(n) CSP__STRING(14 * CSP__RV_W + n * CSP__RV_FW)
#define CSP__RV_PUSH(r, n)                                                                         \
    CSP__RV_S r ", " CSP__RV_IN(n) "(sp)\n" CSP__CFI("rel_offset " r "," CSP__RV_IN(n))
#define CSP__RV_POP(r, n) CSP__RV_L r ", " CSP__RV_IN(n) "(sp)\n" CSP__CFI("restore " r)
#define CSP__RV_FPUSH(r, n)                                                                        \
    CSP__RV_FS r ", " CSP__RV_FN(n) "(sp)\n" CSP__CFI("rel_offset " r "," CSP__RV_FN(n))
#define CSP__RV_FPOP(r, n) CSP__RV_FL r ", " CSP__RV_FN(n) "(sp)\n" CSP__CFI("restore " r)
#define CSP__RV_MARK(r, n) CSP__RV_S r ", " CSP__RV_IN(n) "(a0)\n"
#define CSP__RV_JUMP(r, n) CSP__RV_L r ", " CSP__RV_IN(n) "(a0)\n"
#define CSP__RV_FMARK(r, n) CSP__RV_FS r ", " CSP__RV_MN(n) "(a0)\n"
#define CSP__RV_FJUMP(r, n) CSP__RV_FL r ", " CSP__RV_MN(n) "(a0)\n"

/* The float ABI decides what is saved, not the F and D extensions: under lp64 and ilp32 the caller
 * saves every f register. Frame: ra, s0-s11, fcsr, padding to 16 bytes, fs0-fs11. */
enum {
    CSP__FRAME_WORDS = (CSP__RV_FP_AT + CSP__RV_FP_BYTES) / CSP__RV_W,
    CSP__FRAME_ENTRY = 2, // s1, as s0 is the frame pointer and has to be 0
    CSP__FRAME_PC = 0,
    CSP__FRAME_FP = 1, // s0 points above its link: the two words of the chain lie below it
    CSP__START_AT = 4
};
#define CSP__RV_FRAME CSP__STRING(CSP__RV_FP_AT + CSP__RV_FP_BYTES)

__asm__(CSP__ASM_BEGIN("csp__switch")
        "addi sp, sp, -(" CSP__RV_FRAME ")\n" CSP__CFI("adjust_cfa_offset " CSP__RV_FRAME)
        CSP__RV_INTS(CSP__RV_PUSH) CSP__RV_FPS(CSP__RV_FPUSH)
        CSP__ENV("frcsr t0\n" CSP__RV_S "t0, " CSP__RV_IN(CSP__RV_FCSR) "(sp)\n")
        CSP__RV_S "sp, (a0)\n"
        "mv sp, a1\n"
        CSP__OFF("fence rw, w\nsw zero, (a2)\n")
        CSP__ENV(CSP__RV_L "t0, " CSP__RV_IN(CSP__RV_FCSR) "(sp)\nfscsr t0\n")
        CSP__RV_INTS(CSP__RV_POP) CSP__RV_FPS(CSP__RV_FPOP)
        "addi sp, sp, " CSP__RV_FRAME "\n" CSP__CFI("adjust_cfa_offset -(" CSP__RV_FRAME ")")
        "mv a0, a3\nret\n" CSP__ASM_END("csp__switch"));

__asm__(CSP__ASM_BEGIN("csp__start") CSP__CFI("undefined ra")
        ".option push\n.option norvc\nnop\n.option pop\n"
        "jalr s1\nebreak\n" CSP__ASM_END("csp__start"));

/* CSP_PREEMPT, see BARE: the handler of the machine software interrupt. It saves what a call may
 * spoil on the stack of the interrupted goroutine. look, preempted and again are functions; with
 * interrupts on preempted() lets others run, after which MPP is no more what it was. Under an ABI
 * without floats, or of narrower ones, a call may spoil all f registers.
 *   Frame: the integer registers, mepc, fcsr, padding to 16 bytes, the f registers. */
#if defined __riscv_32e || defined __riscv_64e
#define CSP__RV_SPOILED(X)                                                                         \
    X("ra", 0) X("t0", 1) X("t1", 2) X("t2", 3) X("a0", 4) X("a1", 5) X("a2", 6) X("a3", 7)        \
    X("a4", 8) X("a5", 9)
#else
#define CSP__RV_SPOILED(X)                                                                         \
    X("ra", 0) X("t0", 1) X("t1", 2) X("t2", 3) X("a0", 4) X("a1", 5) X("a2", 6) X("a3", 7)        \
    X("a4", 8) X("a5", 9) X("a6", 10) X("a7", 11) X("t3", 12) X("t4", 13) X("t5", 14) X("t6", 15)
#endif
#if !defined __riscv_flen || __riscv_flen == 0
#define CSP__RV_FSPOILED(X)
#define CSP__RV_FSPOILED_BYTES 0
#else
#if __riscv_flen == 64
#define CSP__RV_FMOVE "d "
#else
#define CSP__RV_FMOVE "w "
#endif
#define CSP__RV_FCALLER(X)                                                                         \
    X("ft0", 0) X("ft1", 1) X("ft2", 2) X("ft3", 3) X("ft4", 4) X("ft5", 5) X("ft6", 6)            \
    X("ft7", 7) X("ft8", 8) X("ft9", 9) X("ft10", 10) X("ft11", 11) X("fa0", 12) X("fa1", 13)      \
    X("fa2", 14) X("fa3", 15) X("fa4", 16) X("fa5", 17) X("fa6", 18) X("fa7", 19)
#if (__riscv_flen == 64 && defined __riscv_float_abi_double) ||                                    \
    (__riscv_flen == 32 && defined __riscv_float_abi_single)
#define CSP__RV_FSPOILED(X) CSP__RV_FCALLER(X)
#define CSP__RV_FSPOILED_BYTES (20 * 8)
#else
#define CSP__RV_FSPOILED(X)                                                                        \
    CSP__RV_FCALLER(X) X("fs0", 20) X("fs1", 21) X("fs2", 22) X("fs3", 23) X("fs4", 24)            \
    X("fs5", 25) X("fs6", 26) X("fs7", 27) X("fs8", 28) X("fs9", 29) X("fs10", 30) X("fs11", 31)
#define CSP__RV_FSPOILED_BYTES (32 * 8)
#endif
#endif
#if (defined __riscv_flen && __riscv_flen != 0) || defined __riscv_zfinx
#define CSP__RV_FENV(code) code
#else
#define CSP__RV_FENV(code) ""
#endif
#define CSP__RV_PFRAME CSP__STRING(((18 * CSP__RV_W + 15) / 16 * 16 + CSP__RV_FSPOILED_BYTES))
#define CSP__RV_PFN(n) CSP__STRING(((18 * CSP__RV_W + 15) / 16 * 16 + n * 8))
#define CSP__RV_PSAVE(r, n) CSP__RV_S r ", " CSP__RV_IN(n) "(sp)\n"
#define CSP__RV_PLOAD(r, n) CSP__RV_L r ", " CSP__RV_IN(n) "(sp)\n"
#define CSP__RV_PFSAVE(r, n) "fs" CSP__RV_FMOVE r ", " CSP__RV_PFN(n) "(sp)\n"
#define CSP__RV_PFLOAD(r, n) "fl" CSP__RV_FMOVE r ", " CSP__RV_PFN(n) "(sp)\n"
#define CSP__PREEMPT_ASM(look, preempted, again)                                                   \
    "addi sp, sp, -(" CSP__RV_PFRAME ")\n" CSP__RV_SPOILED(CSP__RV_PSAVE)                          \
    CSP__RV_FSPOILED(CSP__RV_PFSAVE)                                                               \
    CSP__RV_FENV("frcsr t0\n" CSP__RV_PSAVE("t0", 17))                                             \
    "csrr t0, mepc\n" CSP__RV_PSAVE("t0", 16)                                                      \
    "mv a0, sp\ncall " look "\nbeqz a0, 2f\n"                                                      \
    "1:\ncsrsi mstatus, 8\ncall " preempted "\ncsrci mstatus, 8\ncall " again "\nbnez a0, 1b\n"    \
    "li t0, 0x1880\ncsrs mstatus, t0\n" /* MPP: machine mode; MPIE */                              \
    "2:\n" CSP__RV_PLOAD("t0", 16) "csrw mepc, t0\n"                                              \
    CSP__RV_FENV(CSP__RV_PLOAD("t0", 17) "fscsr t0\n")                                             \
    CSP__RV_SPOILED(CSP__RV_PLOAD) CSP__RV_FSPOILED(CSP__RV_PFLOAD)                                \
    "addi sp, sp, " CSP__RV_PFRAME "\nmret\n"

#define CSP__RV_CALLER(r, n) CSP__CFI("offset " r "," CSP__RV_IN(n) "-(" CSP__RV_FRAME ")")
CSP__ASM_WALK(CSP__ASM_BEGIN("csp__walk")
        "addi sp, sp, -32\n" CSP__CFI("adjust_cfa_offset 32")
        CSP__RV_PUSH("ra", 0) CSP__RV_PUSH("s1", 1)
        "mv s1, a3\n" CSP__CFI("remember_state") CSP__CFI("def_cfa s1," CSP__RV_FRAME)
        CSP__RV_INTS(CSP__RV_CALLER)
        "mv a4, a0\nmv a0, a1\nmv a1, a2\njalr a4\n" CSP__CFI("restore_state")
        CSP__RV_POP("ra", 0) CSP__RV_POP("s1", 1)
        "addi sp, sp, 32\n" CSP__CFI("adjust_cfa_offset -32") "ret\n" CSP__ASM_END("csp__walk"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_set")
        CSP__RV_INTS(CSP__RV_MARK) CSP__RV_MARK("sp", CSP__RV_FCSR) CSP__RV_FPS(CSP__RV_FMARK)
        "li a0, 0\nret\n" CSP__ASM_END("csp_x_mark_set"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_jump") CSP__CFI("undefined ra")
        CSP__RV_INTS(CSP__RV_JUMP) CSP__RV_JUMP("sp", CSP__RV_FCSR) CSP__RV_FPS(CSP__RV_FJUMP)
        "li a0, 1\nret\n" CSP__ASM_END("csp_x_mark_jump"))

/* ---- POWER with the ELFv2 ABI: little-endian Linux, and musl ----------------------- */
#endif
#if defined(__powerpc64__) && defined(_CALL_ELF) && _CALL_ELF == 2

/* The frame is one of the ABI: the link to the caller's frame, three words that a leaf does not
 * use, then r14-r31, f14-f31, v20-v31, [fpscr, padding]. CR, LR and r2 lie in the first words of
 * the caller's frame, as the ABI has it, so they count as words of this one: link cr lr r2. In a
 * new context they are the frame of csp__start. Its link of 0 ends the chain. */
enum {
    CSP__FRAME_WORDS = 64 + 2 * CSP_FPENV + 4,
    CSP__FRAME_ENTRY = 4,
    CSP__FRAME_PC = 64 + 2 * CSP_FPENV + 2,
    CSP__FRAME_FP = -1, // a link leads to the frame whose own link leads to that with the address
    CSP__START_AT = 4
};
#if CSP_FPENV
#define CSP__PPC_FRAME "528"
#else
#define CSP__PPC_FRAME "512"
#endif
#define CSP__PPC_INTS(X)                                                                           \
    X(14, 32) X(15, 40) X(16, 48) X(17, 56) X(18, 64) X(19, 72) X(20, 80) X(21, 88) X(22, 96)      \
    X(23, 104) X(24, 112) X(25, 120) X(26, 128) X(27, 136) X(28, 144) X(29, 152) X(30, 160)        \
    X(31, 168)
#define CSP__PPC_FPS(X)                                                                            \
    X(14, 176) X(15, 184) X(16, 192) X(17, 200) X(18, 208) X(19, 216) X(20, 224) X(21, 232)        \
    X(22, 240) X(23, 248) X(24, 256) X(25, 264) X(26, 272) X(27, 280) X(28, 288) X(29, 296)        \
    X(30, 304) X(31, 312)
#define CSP__PPC_VECTORS(X)                                                                        \
    X(20, 52, 320) X(21, 53, 336) X(22, 54, 352) X(23, 55, 368) X(24, 56, 384) X(25, 57, 400)      \
    X(26, 58, 416) X(27, 59, 432) X(28, 60, 448) X(29, 61, 464) X(30, 62, 480) X(31, 63, 496)
#define CSP__PPC_PUSH(r, n) "std " #r ", " #n "(1)\n" CSP__CFI("rel_offset r" #r "," #n)
#define CSP__PPC_POP(r, n) "ld " #r ", " #n "(1)\n" CSP__CFI("restore r" #r)
#define CSP__PPC_FPUSH(r, n) "stfd " #r ", " #n "(1)\n" CSP__CFI("rel_offset f" #r "," #n)
#define CSP__PPC_FPOP(r, n) "lfd " #r ", " #n "(1)\n" CSP__CFI("restore f" #r)
#define CSP__PPC_VPUSH(r, vs, n) "li 0, " #n "\nstvx " #r ", 1, 0\n"
#define CSP__PPC_VPOP(r, vs, n) "li 0, " #n "\nlvx " #r ", 1, 0\n"
#define CSP__PPC_MARK(r, n) "std " #r ", " #n "(3)\n"
#define CSP__PPC_JUMP(r, n) "ld " #r ", " #n "(3)\n"
#define CSP__PPC_FMARK(r, n) "stfd " #r ", " #n "(3)\n"
#define CSP__PPC_FJUMP(r, n) "lfd " #r ", " #n "(3)\n"
#define CSP__PPC_VMARK(r, vs, n) "li 0, " #n "\nstxvd2x " #vs ", 3, 0\n" // 8 bytes align a mark
#define CSP__PPC_VJUMP(r, vs, n) "li 0, " #n "\nlxvd2x " #vs ", 3, 0\n"

/* r2, the table of contents, is the same in each context, as all of them left from one module. It
 * is saved nevertheless: code that addresses relative to the pc lets r2 be anything. */
__asm__(CSP__ASM_BEGIN("csp__switch")
        "mflr 0\nmfcr 11\nstd 2, 24(1)\nstd 0, 16(1)\nstw 11, 8(1)\n" CSP__CFI("rel_offset lr,16")
        "stdu 1, -" CSP__PPC_FRAME "(1)\n" CSP__CFI("adjust_cfa_offset " CSP__PPC_FRAME)
        CSP__PPC_INTS(CSP__PPC_PUSH) CSP__PPC_FPS(CSP__PPC_FPUSH) CSP__PPC_VECTORS(CSP__PPC_VPUSH)
        CSP__ENV("mffs 0\nstfd 0, 512(1)\n")
        "std 1, 0(3)\n"
        "mr 1, 4\n"
        CSP__OFF("li 0, 0\nlwsync\nstw 0, 0(5)\n")
        CSP__ENV("lfd 0, 512(1)\nmtfsf 255, 0\n")
        CSP__PPC_INTS(CSP__PPC_POP) CSP__PPC_FPS(CSP__PPC_FPOP) CSP__PPC_VECTORS(CSP__PPC_VPOP)
        "addi 1, 1, " CSP__PPC_FRAME "\n" CSP__CFI("adjust_cfa_offset -" CSP__PPC_FRAME)
        "ld 0, 16(1)\nlwz 11, 8(1)\nld 2, 24(1)\nmtlr 0\nmtcrf 56, 11\n" CSP__CFI("restore lr")
        "mr 3, 6\nblr\n" CSP__ASM_END("csp__switch"));

/* An entry finds its table of contents by its own address, which is to be in r12. */
__asm__(CSP__ASM_BEGIN("csp__start") CSP__CFI("undefined lr")
        "nop\nmr 12, 14\nmtctr 14\nbctrl\ntrap\n" CSP__ASM_END("csp__start"));

#define CSP__PPC_CALLER(r, n) CSP__CFI("offset r" #r "," #n "-" CSP__PPC_FRAME)
CSP__ASM_WALK(CSP__ASM_BEGIN("csp__walk")
        "mflr 0\nstd 0, 16(1)\nstd 31, -8(1)\nstdu 1, -64(1)\n" CSP__CFI("adjust_cfa_offset 64")
        CSP__CFI("offset lr,16") CSP__CFI("offset r31,-8") "std 2, 24(1)\nmr 31, 6\n"
        CSP__CFI("remember_state") CSP__CFI("def_cfa r31," CSP__PPC_FRAME)
        CSP__PPC_INTS(CSP__PPC_CALLER)
        "mr 12, 3\nmtctr 3\nmr 3, 4\nmr 4, 5\nbctrl\nld 2, 24(1)\n" CSP__CFI("restore_state")
        "addi 1, 1, 64\n" CSP__CFI("adjust_cfa_offset -64") "ld 0, 16(1)\nld 31, -8(1)\nmtlr 0\n"
        CSP__CFI("restore lr") CSP__CFI("restore r31") "blr\n" CSP__ASM_END("csp__walk"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_set")
        "mflr 0\nmfcr 11\nstd 0, 0(3)\nstd 1, 8(3)\nstd 2, 16(3)\nstd 11, 24(3)\n"
        CSP__PPC_INTS(CSP__PPC_MARK) CSP__PPC_FPS(CSP__PPC_FMARK) CSP__PPC_VECTORS(CSP__PPC_VMARK)
        "li 3, 0\nblr\n" CSP__ASM_END("csp_x_mark_set"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_jump") CSP__CFI("undefined lr")
        CSP__PPC_INTS(CSP__PPC_JUMP) CSP__PPC_FPS(CSP__PPC_FJUMP) CSP__PPC_VECTORS(CSP__PPC_VJUMP)
        "ld 0, 0(3)\nld 1, 8(3)\nld 2, 16(3)\nld 11, 24(3)\nmtlr 0\nmtcrf 56, 11\n"
        "li 3, 1\nblr\n" CSP__ASM_END("csp_x_mark_jump"))

#endif
#if defined(__s390x__) /* ---- z/Architecture, 64 bits: big-endian --------------------------- */

/* Each caller leaves 160 bytes for what its callee saves. r6-r14 lie there, so these bytes count
 * as words of the frame; below them are f8-f15, [fpc]. The CFA is 160 bytes above r15, of which
 * unwinders must be told by "val_offset". In a new context the 160 bytes are for the entry. */
enum {
    CSP__FRAME_WORDS = 8 + CSP_FPENV + 20,
    CSP__FRAME_ENTRY = 8 + CSP_FPENV + 6,
    CSP__FRAME_PC = 8 + CSP_FPENV + 14,
    CSP__FRAME_FP = -1, // only -mbackchain makes one
    CSP__START_AT = 2
};
#define CSP__STACK_EXTRA 2048 // twelve calls deep, these 160 bytes each
#if CSP_FPENV
#define CSP__Z_FRAME "72"
#else
#define CSP__Z_FRAME "64"
#endif
#define CSP__Z_INTS(X)                                                                             \
    X("%r6", 48) X("%r7", 56) X("%r8", 64) X("%r9", 72) X("%r10", 80) X("%r11", 88) X("%r12", 96)  \
    X("%r13", 104) X("%r14", 112)
#define CSP__Z_FPS(X)                                                                              \
    X("%f8", 0) X("%f9", 8) X("%f10", 16) X("%f11", 24) X("%f12", 32) X("%f13", 40) X("%f14", 48)  \
    X("%f15", 56)
#define CSP__Z_SAVED(r, n) CSP__CFI("rel_offset " r "," #n)
#define CSP__Z_BACK(r, n) CSP__CFI("restore " r)
#define CSP__Z_CALLER(r, n) CSP__CFI("offset " r "," #n "-160")
#define CSP__Z_FPUSH(r, n) "std " r ", " #n "(%r15)\n" CSP__CFI("rel_offset " r "," #n)
#define CSP__Z_FPOP(r, n) "ld " r ", " #n "(%r15)\n" CSP__CFI("restore " r)
#define CSP__Z_FMARK(r, n) "std " r ", 80+" #n "(%r2)\n"
#define CSP__Z_FJUMP(r, n) "ld " r ", 80+" #n "(%r2)\n"

__asm__(CSP__ASM_BEGIN("csp__switch")
        "stmg %r6, %r14, 48(%r15)\n" CSP__Z_INTS(CSP__Z_SAVED) CSP__CFI("val_offset %r15,-160")
        "aghi %r15, -" CSP__Z_FRAME "\n" CSP__CFI("adjust_cfa_offset " CSP__Z_FRAME)
        CSP__Z_FPS(CSP__Z_FPUSH) CSP__ENV("stfpc 64(%r15)\n")
        "stg %r15, 0(%r2)\n"
        "lgr %r15, %r3\n"
        CSP__OFF("lhi %r0, 0\nst %r0, 0(%r4)\n") // a plain store has release order here
        CSP__ENV("lfpc 64(%r15)\n") CSP__Z_FPS(CSP__Z_FPOP)
        "aghi %r15, " CSP__Z_FRAME "\n" CSP__CFI("adjust_cfa_offset -" CSP__Z_FRAME)
        "lmg %r6, %r14, 48(%r15)\n" CSP__Z_INTS(CSP__Z_BACK) CSP__CFI("restore %r15")
        "lgr %r2, %r5\nbr %r14\n" CSP__ASM_END("csp__switch"));

__asm__(CSP__ASM_BEGIN("csp__start") CSP__CFI("undefined %r14")
        "nopr\nbasr %r14, %r6\nj .+2\n" CSP__ASM_END("csp__start"));

CSP__ASM_WALK(CSP__ASM_BEGIN("csp__walk")
        "stmg %r11, %r14, 88(%r15)\n" CSP__CFI("rel_offset %r11,88") CSP__CFI("rel_offset %r14,112")
        CSP__CFI("val_offset %r15,-160")
        "aghi %r15, -160\n" CSP__CFI("adjust_cfa_offset 160") "lgr %r11, %r5\n"
        CSP__CFI("remember_state") CSP__CFI("def_cfa %r11,160+" CSP__Z_FRAME)
        CSP__Z_INTS(CSP__Z_CALLER)
        "lgr %r1, %r2\nlgr %r2, %r3\nlgr %r3, %r4\nbasr %r14, %r1\n" CSP__CFI("restore_state")
        "aghi %r15, 160\n" CSP__CFI("adjust_cfa_offset -160") "lmg %r11, %r14, 88(%r15)\n"
        CSP__CFI("restore %r11") CSP__CFI("restore %r14") CSP__CFI("restore %r15")
        "br %r14\n" CSP__ASM_END("csp__walk"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_set")
        "stmg %r6, %r15, 0(%r2)\n" CSP__Z_FPS(CSP__Z_FMARK)
        "lghi %r2, 0\nbr %r14\n" CSP__ASM_END("csp_x_mark_set"))

CSP__ASM_MARK(CSP__ASM_BEGIN("csp_x_mark_jump") CSP__CFI("undefined %r14")
        "lmg %r6, %r15, 0(%r2)\n" CSP__Z_FPS(CSP__Z_FJUMP)
        "lghi %r2, 1\nbr %r14\n" CSP__ASM_END("csp_x_mark_jump"))

#endif
#if !defined(__riscv) && CSP__BY_CPU(0, 0, !(CSP__ARM || CSP__THUMB1), 0, 0, 0, 1)
#error "csp.h has no context switch for this processor: see SUPPORT in the front matter"
#endif /* ---- end of the ports ------------------------------------------------------------- */
#ifndef CSP__STACK_EXTRA
#define CSP__STACK_EXTRA 0
#endif
// clang-format on

/* Writes the words of a new frame other than the entry and the pc: the floating-point environment
 * of the creator, and on M-profile CONTROL and the stack limit. */
CSP__FN void csp__frame_init(uintptr_t *frame, void *low)
{
    (void)frame, (void)low;
#if CSP__ARM && CSP__ARM_VARIES
    *frame = (uintptr_t)(frame + CSP__FRAME_ENTRY);
    frame++;
#if CSP__ARM_M && CSP__ARM_FP
    __asm__ volatile("mrs %0, control" : "=r"(*frame));
    *frame &= ~(uintptr_t)12; // FPCA, SFPA; the FPSCR word stays unused: FPSCR starts as FPDSCR
    *frame |= 2;              // SPSEL: on PSP, also where main makes the context on MSP
    frame += 2;
#elif CSP__ARM_FP && CSP_FPENV
    __asm__ volatile("vmrs %0, fpscr" : "=r"(*frame++));
#endif
#if CSP__ARM_PSPLIM
    *frame = ((uintptr_t)low + 7) & ~(uintptr_t)7;
#endif
#elif CSP__WINDOWS
    /* All of it is committed; csp__os_stack_frame says otherwise where it is not. */
    frame[0] = (uintptr_t)(frame + CSP__FRAME_WORDS);
    frame[1] = (uintptr_t)low;
    frame[2] = (uintptr_t)low & ~(uintptr_t)4095;
#ifdef __aarch64__
    __asm__ volatile("mrs %0, fpcr" : "=r"(frame[24]));
#else
    uint32_t env[2] = {0x1f80, 0};
    uint16_t word = 0;
    __asm__ volatile("fnstcw %0" : "=m"(word));
    __asm__ volatile("stmxcsr %0" : "=m"(env[0]));
    env[1] = word;
    memcpy(&frame[4], env, sizeof env);
#endif
#elif CSP_FPENV && (defined(__x86_64__) || defined(__i386__))
    uint32_t env[2] = {0x1f80, 0};
    uint16_t word = 0;
    __asm__ volatile("fnstcw %0" : "=m"(word));
#ifdef __SSE__
    __asm__ volatile("stmxcsr %0" : "=m"(env[0]));
#endif
    env[1] = word;
    memcpy(frame, env, sizeof env);
#elif CSP_FPENV && defined(__aarch64__)
    __asm__ volatile("mrs %0, fpcr" : "=r"(frame[20]));
#elif CSP_FPENV && defined(__riscv_flen)
    __asm__ volatile("frcsr %0" : "=r"(frame[CSP__RV_FCSR]));
#elif CSP_FPENV && defined(__powerpc64__)
    double env;
    __asm__ volatile("mffs %0" : "=f"(env));
    memcpy(&frame[64], &env, sizeof env);
#elif CSP_FPENV && defined(__s390x__)
    __asm__ volatile("stfpc %0" : "=Q"(*(uint32_t *)&frame[8])); // in the first half of the word
#endif
}

/* Makes a context on the stack low..top, with a frame of CSP__FRAME_WORDS words. Returns the load
 * of the first switch to it, which calls entry(value). entry must not return. */
CSP__FN void *csp__context_make(void *low, void *top, void (*entry)(void *value))
{
    uintptr_t *frame = (uintptr_t *)((uintptr_t)top & ~(uintptr_t)15) - CSP__FRAME_WORDS;

    csp__clear(frame, CSP__FRAME_WORDS * sizeof *frame); // a frame pointer of 0 ends its chain
    frame[CSP__FRAME_ENTRY] = (uintptr_t)entry;
    frame[CSP__FRAME_PC] = (uintptr_t)csp__start + CSP__START_AT;
    csp__frame_init(frame, low);
    return frame;
}

/* ==========================================================================
 * [4] TOOLS - sanitizers and Valgrind: what they must be told around a switch
 *
 * AddressSanitizer, ThreadSanitizer and Valgrind follow each thread's stack. A switch looks like an
 * error to them unless it is announced; csp__switch_announced in PARK announces it. Without these
 * tools the room leaves no code behind, but for one test of csp__valgrind_stacks.
 *
 *   uses   PLATFORM BASE
 *   locks  none
 * ======================================================================== */

#ifndef CSP_BARE

/* AddressSanitizer's interface. PARK calls the first two around a switch. */
#if CSP__ASAN
extern void __sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t size);
extern void __sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *size);
extern void __asan_unpoison_memory_region(void const volatile *p, size_t size);
#define csp__unpoison(p, size) __asan_unpoison_memory_region(p, size)
#else
#define csp__unpoison(p, size) ((void)0)
#endif

/* A request to Valgrind: a sequence of instructions that does nothing on a processor. Valgrind must
 * be told of each stack. Else it takes a switch for the push of a huge frame, and the memory in
 * between for uninitialized. */
CSP__FN uintptr_t csp__valgrind(uintptr_t request, const void *low, const void *top)
{
    volatile uintptr_t args[6] = {request, (uintptr_t)low, (uintptr_t)top, 0, 0, 0};
    uintptr_t result = 0;
    (void)args;
#ifdef __i386__
    __asm__ volatile("roll $3, %%edi\n\troll $13, %%edi\n\troll $29, %%edi\n\troll $19, %%edi\n\t"
                     "xchgl %%ebx, %%ebx"
                     : "=d"(result)
                     : "a"(args), "0"(result)
                     : "cc", "memory");
#endif
#if defined(__x86_64__) && !defined(__ILP32__)
    __asm__ volatile("rolq $3, %%rdi\n\trolq $13, %%rdi\n\trolq $61, %%rdi\n\trolq $51, %%rdi\n\t"
                     "xchgq %%rbx, %%rbx"
                     : "=d"(result)
                     : "a"(args), "0"(result)
                     : "cc", "memory");
#endif
#ifdef __aarch64__
    register uintptr_t answer __asm__("x3") = 0;
    register volatile uintptr_t *a __asm__("x4") = args;
    __asm__ volatile("ror x12, x12, #3\n\tror x12, x12, #13\n\tror x12, x12, #51\n\t"
                     "ror x12, x12, #61\n\torr x10, x10, x10"
                     : "+r"(answer)
                     : "r"(a)
                     : "cc", "memory");
    result = answer;
#endif
#if defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
    register uintptr_t answer __asm__("r3") = 0;
    register volatile uintptr_t *a __asm__("r4") = args;
    __asm__ volatile("rotldi 0, 0, 3\n\trotldi 0, 0, 13\n\trotldi 0, 0, 61\n\t"
                     "rotldi 0, 0, 51\n\tor 1, 1, 1"
                     : "+r"(answer)
                     : "r"(a)
                     : "cc", "memory");
    result = answer;
#endif
#ifdef __s390x__
    register uintptr_t answer __asm__("r3") = 0;
    register volatile uintptr_t *a __asm__("r2") = args;
    __asm__ volatile("lr %%r15, %%r15\n\tlr %%r1, %%r1\n\tlr %%r2, %%r2\n\tlr %%r3, %%r3\n\t"
                     "lr %%r2, %%r2"
                     : "+r"(answer)
                     : "r"(a)
                     : "cc", "memory");
    result = answer;
#endif
    return result;
}

/* Registers a stack. Valgrind's ids count up from 0, so the last id plus 1 is the number of stacks.
 * The stop of the runtime takes all ids back. Outside Valgrind the count stays 0. */
static uint32_t csp__valgrind_stacks;
CSP__FN void csp__valgrind_stack(const void *low, const void *top)
{
    if (csp__relaxed(&csp__valgrind_stacks) == 0 && csp__valgrind(0x1001, NULL, NULL) == 0) return;
    csp__set(&csp__valgrind_stacks, (uint32_t)csp__valgrind(0x1501, low, top) + 1);
}

#endif

/* ==========================================================================
 * [5] PROFILE - the words that both kernels share
 *
 * THE CONTRACT OF A PROFILE. There are two kernels: the wing KERNEL for systems with threads, and
 * BARE for one core without a system. Every room below them is written once. Of a kernel it uses
 * only the names that both supply, with one meaning in each:
 *
 *   order       csp__relaxed acquire set release swap add cas fence fence_light fence_heavy pause
 *               barrier_open
 *   locking     csp__lock unlock rank_take rank_drop lock_pause spins rw_lane, CSP__ONE_CORE
 *   channels    csp__chan_lock chan_unlock chan_rest chan_move chan_zero ticket_claim
 *   calls       csp__goroutine_only turn may_wait rest, CSP__OUTLINED
 *   priorities  csp__mutex_held mutex_left mutex_lends mutex_heir
 *   memory      csp__alloc zalloc free throw_memory, csp__seat_take seat_give
 *               seat_spawn CSP__SEAT
 *   goroutines  csp__m g cb cb_of self current enter reenter leave spawn, csp_x_start csp_yield
 *               csp_count
 *   waiting     csp__ready park wait_set wait_reason os_yield CSP__WAITER
 *   time        csp__clock timer timer_set timer_unset timer_again timer_late late timers_run
 *               timer_g CSP__TIMER
 *   errors      csp__fatal die throw throw_at panic_at, csp_panic
 *   tests       csp__torture_delay sim_point random_below
 *
 * On one core a goroutine runs until it calls csp, and inside csp nothing else runs but interrupt
 * handlers, which touch only channels and the queue of runnable goroutines. So csp__lock does
 * nothing there, csp__cas is a comparison and a store, and only csp__chan_lock masks interrupts.
 * CSP__ONE_CORE is the constant that compiles protocols between processors away.
 *
 * On one core a mask has to end soon, whatever the channel holds. Four names see to that:
 *
 *   csp__chan_rest      lets interrupts in between two steps; true: the queue may have changed
 *   csp__chan_move      copies an element, a large one without the mask
 *   csp__chan_zero      clears an element, a large one without the mask
 *   csp__ticket_claim   masks by itself
 *
 * csp__goroutine_only stops a handler that makes a call that only goroutines may make. csp__turn
 * counts the calls that could have waited: see BARE, A TURN. With CSP_PREEMPT, csp__goroutine_only
 * and csp__may_wait are declarations: until the end of their block the goroutine is inside csp, as
 * it is between csp__enter and csp__leave, or csp__park. A CSP__OUTLINED function is a call of
 * its own where speed counts most, so that its caller needs no frame. On one core the compiler
 * decides.
 *
 * Where bare metal has nothing to do (a fence, a torture delay) its name is an empty macro. All
 * other differences stand under #ifdef CSP_BARE in their rooms: the short ways of CHAN, for which a
 * small core has no room, and the parts that need a system.
 *
 *   uses   PLATFORM
 *   locks  none
 * ======================================================================== */

typedef struct csp__g csp__g;
typedef struct csp__m csp__m;
typedef struct csp__p csp__p;

/* One blocked operation on one queue. The waiter of a single operation lies in the control block of
 * its goroutine (CSP_BARE: on its stack). Those of a select lie in the select's frame. */
typedef struct csp__waiter {
    struct csp__waiter *next, *prev; // guarded by the queue's lock
    csp__g *g;
    void *value;      // the element to send, or the room for one; NULL: a received one is dropped
    uint32_t *ticket; // NULL: only this queue can wake g; else the waker must claim it, 0 -> 1
    int index;        // select: the case; its complement once woken without a value
    uint32_t queued;  // atomic: CSP__QUEUED_...; see WAITERS
} csp__waiter;
enum { CSP__QUEUED_OUT, CSP__QUEUED_IN, CSP__QUEUED_OWNER_LEAVES, CSP__QUEUED_OTHER_LEAVES };

/* A call that has not been made yet. */
typedef struct csp__plain {
    void (*fn)(void *);
    void *arg;
} csp__plain;

CSP__FN void csp__plain_run(void *args)
{
    csp__plain plain = *(csp__plain *)args;
    plain.fn(plain.arg);
}

/* Waitgroups and groups put a job of their own before a task's arguments, in one piece of
 * memory. */
#define CSP__JOB_SIZE(job)                                                                         \
    ((sizeof(job) + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1))
/* Up to so many argument bytes the piece lies on the stack, with more on the heap. An array of
 * variable length would have no bound, and could overflow the caller's stack. */
#define CSP__JOB_FEW 64
#define CSP__JOB_ROOM(job) (CSP__JOB_SIZE(job) + CSP__JOB_FEW)
CSP__FN void csp__job_pack(char *both, const void *job, size_t size, const void *args, size_t rest)
{
    size_t at = (size + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
    memcpy(both, job, size);
    if (rest > 0) CSP__MEMCPY(both + at, args, rest);
}

/* Runs the defers down to `until`, the newest first. A fork is joined before the defers that were
 * there when it was forked: its task may use what these defers release. */
CSP__FN void csp__defers_run(csp_x_defer **defers, const csp_x_defer *until, csp_x_forks *forks)
{
    for (;;) {
        csp_x_fork *f = (csp_x_fork *)(void *)forks->top; /* link is its first member */
        if (f != NULL && forks->top != &forks->base && f->defers == *defers) {
            if (csp_x_fork_join(f)) f->run(f->args);
            continue;
        }
        csp_x_defer *d = *defers;
        if (d == until) return;
        *defers = d->prev;
        if (d->fn != NULL) d->fn(d->arg);
    }
}

/* Runs the defers inside the csp_try t, or all where t is NULL. */
CSP__FN void csp__unwind(csp_x_defer **defers, csp_x_try *t, csp_x_forks *forks)
{
    csp__defers_run(defers, t == NULL ? NULL : &t->outside, forks);
    if (t != NULL) *defers = t->outside.prev;
}

/* ########################################### SYSTEM ########################################### */
/* ==========================================================================
 * [6] SYSTEM - the contract of a system, and a block for each
 *
 * THE CONTRACT OF A SYSTEM. This room and the next one, EVENTS, hold all that csp asks of an
 * operating system. No other room names a system call, a function of a thread library, a constant
 * of a system or a type of it. .ci/rooms has the list of these names and searches the other rooms
 * for them. A port to another system is a block here that defines the names below, a back-end in
 * EVENTS, and its headers in PLATFORM. It needs a switch in CONTEXT, too, where its calling
 * convention is another one.
 *
 * What every room may use: C11 and its library; errno values as numbers; and the words of a
 * socket's address, which all systems took from BSD: struct sockaddr, sockaddr_in, sockaddr_in6,
 * sockaddr_un and sockaddr_storage, socklen_t, struct iovec, AF_INET, AF_INET6, AF_UNIX,
 * SOCK_STREAM, SOCK_DGRAM. A descriptor is an int. The block of a system whose handles are of
 * another type converts them.
 *   A function that can fail returns a negative errno value unless its line says otherwise. It may
 * change errno or not: the rooms do not read errno after these calls.
 *   A kernel, a libc or a filter may refuse a call. The block then does the same in another way,
 * and does not try the refused call again. The exception is accept4, whose refusal may be about one
 * connection.
 *
 * The letters: h, hot: on the path of a switch, a message or an idle processor; inline, or one
 * system call. s: runs on the stack of a goroutine, which may be one page, so its frames take 1 KiB
 * at most. a: is called in signal handlers. A name without a meaning on a system is an empty macro
 * there.
 *
 *   time        csp__os_clock()            h s a  ns, monotonic, the same on all CPUs. Stands still
 *                                          while the computer sleeps, if the system has such a
 *                                          clock
 *               csp__os_sleep(ns)          s  this thread; may return early. 0: makes the call
 *                                          ready for small stacks, see csp__os_warm
 *               csp__os_yield()            s  another thread of this CPU may run first
 *   words       csp__os_wait(w, value, ns) h s  sleeps while *w == value, ns at most (CSP_FOREVER:
 *                                          without a limit); may return early. For csp__os_wake,
 *                                          the comparison and the start of the sleep are one step
 *               csp__os_wake(w, n)         h s  ends the sleep of up to n threads that are in
 *                                          csp__os_wait of this word. It does not read *w, as the
 *                                          memory may have been freed. In that case it wakes no
 *                                          thread, or a thread that waits on a new word at that
 *                                          address, whose sleep then ends early
 *   fences      csp__os_barrier_open()     at the start. True: csp__os_barrier works from now on
 *               csp__os_barrier()          when it returns, each running thread of the process has
 *                                          passed a full fence since the call. Never fails. On a
 *                                          system without one, csp__os_barrier_open returns false,
 *                                          and the other side of each handshake in the kernel has a
 *                                          fence of its own, see WAKE
 *   memory      csp__zalloc(n)             zeroed, aligned to 64 bytes; NULL when out of memory
 *               csp__alloc(n) csp__realloc(p, n) csp__free(p)  csp__free takes what csp__alloc,
 *                                          csp__realloc and csp__zalloc gave
 *               csp__os_page()             h  bytes of a page, a power of two
 *               csp__os_pages_get(n)       n bytes of zeroed pages, which take memory only once
 *                                          they are touched; NULL when out of memory
 *               csp__os_stacks_get(n)      the same, for stacks to be cut from. A system that does
 *                                          not commit pages at a touch reserves them here, and
 *                                          csp__os_stack_open commits them
 *               csp__os_pages_put(p, n)    gives back all that one call of these two has returned
 *               csp__os_stack_open(low, top)  a stack will begin between these addresses: does what
 *                                          the system needs before a stack's first use and before
 *                                          the first write there. Without memory for that:
 *                                          csp__fatal
 *               csp__os_stack_frame(frame, base, low)  h  a context has been made on this stack,
 *                                          whose guard is base..low. Writes into the frame what the
 *                                          system keeps in a thread about the stack it runs on
 *               csp__os_stack_reach(base, low, at)  csp will write to a stack on which nothing
 *                                          runs, from `at` up. Without memory for that: csp__fatal
 *               CSP__OS_GUARD_LEAST        the least bytes of guard of a stack that is not packed
 *               csp__os_guard(p, n)        from now on a touch of these pages is a fault. The
 *                                          number of such ranges has no limit. False: not possible
 *                                          on this system
 *               csp__os_guard_few(p, n)    the same, for CSP__OS_GUARDS_FEW ranges at most: the
 *                                          system limits the means that it uses
 *               csp__os_guards(spans, n)   csp__os_guard for n ranges at once. False: not possible,
 *                                          or some ranges are without a guard
 *               csp__os_pages_touch(spans, n)  a hint: these pages will be used soon
 *               csp__os_pages_drop(spans, n)  these pages may lose their contents, and take no
 *                                          memory until they are touched again
 *   threads     csp__tls                   an lvalue of type csp__m *: this thread's word, NULL
 *                                          when the thread starts. Another thread may write to its
 *                                          address (&csp__tls) while this thread lives
 *               csp__self()                h  reads csp__tls anew at each call: a goroutine may
 *                                          change threads between two calls, so a compiler must
 *                                          keep neither the word nor its address
 *               csp__os_thread             the type of a thread that is to be joined
 *               csp__os_thread_start(&t, fn, arg, stack, quiet)  0 or a positive errno value.
 *                                          stack: bytes, 0 for the default. quiet: the thread takes
 *                                          no signals but those of faults; otherwise it has the
 *                                          caller's mask
 *               csp__os_thread_join(t)     0 or a positive errno value
 *               csp__os_thread_begin()     s  once in each thread that runs goroutines, and in the
 *                                          monitor. Its sleeps then end on time, not 50 us later,
 *                                          and the allocator has made its records of the thread,
 *                                          for which a small goroutine has no stack
 *               csp__os_stack_follow()     once in each thread that runs goroutines: turns off a
 *                                          shadow stack, or whatever else does not follow a switch.
 *                                          Empty where a thread keeps the limits of its stack:
 *                                          csp__switch exchanges those
 *               csp__os_thread_stack(&low, &size)  of this thread; false: not known
 *               csp__os_first_stack(at)    does the address lie in the stack of the first thread?
 *               csp__os_tid()              a  a number for this thread, never 0
 *               csp__os_threads()          the threads of this process as the system counts them;
 *                                          -1: not known, and then no deadlock is reported
 *               csp__os_cpus()             CPUs that this process may use, at least 1
 *               csp__os_key csp__os_key_make(&k, fn) csp__os_key_set(k, p) csp__os_key_delete(k)
 *                                          fn(p) runs at the end of each thread that has set p;
 *                                          csp__tls is still valid then. make: 0, or another value
 *                                          for a failure
 *               CSP__OS_UNWINDS            1: <unwind.h> exists, and frames of C++ are left by a
 *                                          forced unwinding. 0: exceptions pass through frames of C
 *               csp__os_cxa_globals()      s  the place where the C++ runtime keeps this thread's
 *                                          caught exceptions; NULL without a C++ runtime
 *               csp__os_cxa_terminate(fn)  from now on std::terminate calls fn. Returns the
 *                                          function that it called before, NULL without a C++
 *                                          runtime
 *               csp__os_cxa_uncaught(text, n)
 *                                          the type of the exception that this thread handles;
 *                                          false without one
 *               csp__os_warm()             calls once each function that the runtime calls on
 *                                          goroutines' stacks: lazy binding takes more stack than
 *                                          they have
 *   process     csp__os_on_fork(fn)        from now on fn runs in the child of each fork. A second
 *                                          call with the same fn changes nothing
 *               csp__os_forked()           called first in such a child: resets what the block
 *                                          itself keeps
 *               csp__os_end()              the runtime has stopped: gives back what the block keeps
 *                                          between calls and no thread uses
 *               csp__os_stay_loaded()      from now on the object with this code is never unloaded
 *               csp__os_env(name)          a variable of the environment; NULL, too, where the
 *                                          program has more rights than the user that started it
 *               csp__os_say(text, n)       s a  writes to stderr, in one piece where possible
 *               csp__os_exit(code)         a  ends the process at once, without the functions given
 *                                          to atexit
 *               csp__os_pid()
 *               csp__os_readable(p)        a  can the 8 bytes at p be read? False also means not
 *                                          known
 *               csp__os_symbol(pc, &s)     a  fills csp__os_symbols: what is at an address of code.
 *                                          False: no code is known there
 *               csp__os_library(path, name)  a function of a library that may be absent; NULL then
 *   signals     csp__os_mask               the type of a set of blocked signals, and
 *               csp__os_mask_get(&m) csp__os_mask_set(&m)  this thread's
 *               csp__os_handler            the record of a handler; its member `state` is
 *                                          CSP__HANDLER_OFF, ON or LEFT
 *               csp__os_info csp__os_on_signal  what a handler is told, and the type of a handler:
 *                                          fn(signo, info, context)
 *               csp__os_handler_set(h, signo, fn, of_fault) csp__os_handler_unset(h, signo, fn)
 *                                          set: false: not possible. The handler runs on the stack
 *                                          of csp__os_alt_set. The block for POSIX says what these
 *                                          do where another handler was set later.
 *                                          csp__os_handlers_left: csp__os_stay_loaded is due
 *               csp__os_handler_pass(h, signo, info, context)  a  calls the handler that h has
 *                                          replaced
 *               csp__os_faults[CSP__OS_FAULTS]  the signals that a process causes itself. The first
 *                                          CSP__OS_MEMORY_FAULTS are those of a touched guard
 *               csp__os_fault_at(info) csp__os_fault_sp(context)  a  the address that was touched;
 *                                          the stack pointer at that moment, or the highest address
 *                                          where it is not known
 *               csp__os_fault_pc(context)  a  the instruction; 0: not known
 *               csp__os_fault_kills(h, info) csp__os_fault_name(signo)  a  will the process die of
 *                                          this fault? It will where the program has no handler
 *                                          behind h and the signal was not sent; the fault's name
 *               csp__os_handler_is(signo, fn)  a  is fn the handler that the system calls?
 *               csp__os_alt csp__os_alt_set(memory, n, &was) csp__os_alt_reset(&was)  the stack of
 *                                          this thread's handlers. was: NULL, or the stack that it
 *                                          had before
 *               csp__os_signal_number(name)  the number of "QUIT" and the like; 0: no such name
 *               csp__os_signal_fixed(n)    true for a signal that cannot be received as a value
 *   files       csp__os_read(fd, p, n) csp__os_write(fd, p, n)  s a  read(2) and write(2): a count
 *                                          or a negative errno. A broken pipe is -EPIPE without a
 *                                          signal; a SIGPIPE that was pending for the program stays
 *                                          pending
 *               csp__os_write_file(fd, p, n)  write(2) for a descriptor that is never a broken pipe
 *               csp__os_write_parts(fd, parts, n)  writev(2), also without the signal
 *               csp__os_read_at(fd, p, n, offset)  pread(2)
 *               csp__os_send_file(out, in, &offset, n)  sendfile(2), without the signal; moves the
 *                                          offset. -EINVAL or -ENOSYS: the caller copies
 *               csp__os_read_now(fd, p, n) read(2) that does not wait; -ENOSYS where this is not
 *                                          possible for the descriptor
 *               csp__os_ready(fd, what)    which of CSP_READABLE and CSP_WRITABLE in `what` hold
 *                                          now; 0: none
 *               csp__os_close(fd)          0 or a negative errno; the number is free in either case
 *               csp__os_open(fd)           is the number a descriptor?
 *               csp__os_look(fd, &file)    fills csp__os_file: the kind, and two numbers that no
 *                                          other open file has. csp__os_look_at(path, &file): the
 *                                          same for a path, without following a link
 *               csp__os_modes(fd)          CSP__OS_READS, _WRITES, _NONBLOCK
 *               csp__os_pipe(fds)          two ends, both non-blocking and closed by exec
 *               csp__os_create(path)       a file or FIFO to write to, emptied. -EBUSY: another
 *                                          process holds it by this call
 *               csp__os_remove(path)
 *   sockets     csp__os_socket(family, type) csp__os_accept(fd)  non-blocking, and closed by exec.
 *                                          accept: -EINTR for a connection that the peer has given
 *                                          up
 *               csp__os_send(fd, p, n, to, length) csp__os_recv(fd, p, n, from, &length)  do not
 *                                          wait, whatever mode the socket is in
 *               csp__os_send_parts(fd, parts, n)  the same for several parts
 *               csp__os_bind csp__os_listen csp__os_connect csp__os_shutdown  like POSIX's;
 *                                          shutdown ends the writing side. connect: -EINPROGRESS
 *                                          while it is under way
 *               csp__os_set_nodelay(fd) set_reuse(fd) set_both(fd)  TCP sends at once; a listener
 *                                          may take an address that ended connections still have; a
 *                                          listener of IPv6 takes IPv4, too
 *               csp__os_socket_type(fd) csp__os_socket_error(fd) csp__os_socket_listens(fd)  or a
 *                                          negative errno
 *               csp__os_local(fd, &any, &length) csp__os_peer(fd, &any, &length)
 *               csp__os_resolve(host, type, add, to)  blocks; calls add(to, address, size) for each
 *                                          address
 *               csp__os_ip_read(family, text, to) csp__os_ip_text(family, from, out, n)
 *               csp__os_port(n)            converts between the machine's byte order and the
 *                                          network's
 *               csp__os_scope_number(name) csp__os_scope_name(number, out)  of an interface; 0 and
 *                                          NULL: no such interface. out: CSP__OS_SCOPE bytes
 *
 * The blocks. What Linux and the other POSIX systems have in common stands once, before their
 * blocks.
 *
 *   block    | words           | fences     | guards              | tested on
 *   ---------+-----------------+------------+---------------------+----------
 *   Linux    | futex           | membarrier | MADV_GUARD_INSTALL, | Linux
 *            |                 |            | a few by mprotect   |
 *   POSIX    | mutex, condition| -          | mprotect            | Linux with CSP_POSIX; linked
 *            |                 |            |                     | for macOS
 *   Windows  | WaitOnAddress,  | -          | what is reserved    | wine
 *            | with a limit:   |            | only                |
 *            | events, timers  |            |                     |
 *
 *   uses   PLATFORM BASE TOOLS PROFILE
 *   locks  none
 * ======================================================================== */

#ifndef CSP_BARE

typedef struct csp__span {
    void *base;
    size_t size;
} csp__span;

enum { CSP__OS_OTHER, CSP__OS_REGULAR, CSP__OS_SOCKET, CSP__OS_FIFO };
enum { CSP__OS_READS = 1, CSP__OS_WRITES = 2, CSP__OS_NONBLOCK = 4 };
typedef struct csp__os_file {
    int kind; // REGULAR: always ready, as files, directories and disks are
    uint64_t dev, ino;
} csp__os_file;

/* What is at an address of code: object+offset, and the function where it is known. */
typedef struct csp__os_symbols {
    const char *object, *function;
    uintptr_t offset, within; // from the object's start, and from the function's
} csp__os_symbols;

/* Reading memory that may change or be unmapped meanwhile. A fault there ends the reading by a jump
 * to mark. One thread at a time reads in this way. */
static struct {
    uint32_t tid; // atomic; 0: none
    csp_x_mark mark;
} csp__probe;

CSP__FN void csp__fatal(const char *text) __attribute__((noreturn)); // circle: blocks use it, too
CSP__FN void csp__os_say(const char *text, size_t n);                // circle: of each block

/* Called before a deadlock, a stack overflow or a panic that nothing catches ends the program. A
 * debugger can stop here: `break csp_x_dies`. */
CSP__API void csp_x_dies(void)
{
    __asm__ volatile("");
}

/* A message on stderr; async-signal-safe. */
CSP__FN CSP__COLD void csp__say(const char *text)
{
    csp__os_say(text, strlen(text));
}

CSP__FN CSP__COLD void csp__fatal(const char *text)
{
    csp__say("fatal: ");
    csp__say(text);
    csp__say("\n");
    abort();
}

/* Checks an internal invariant. The checks are cheap enough to stay on. Without them a defect would
 * corrupt memory in silence. */
#define csp__assert(x)                                                                             \
    (CSP__LIKELY(x) ? (void)0 : csp__fatal("csp.h:" CSP__STRING(__LINE__) ": " #x))

/* An edge for ThreadSanitizer, which knows malloc and free: the runtime allocates on one goroutine,
 * and frees on another when it stops. */
static char csp__heap_sync;

#if !CSP__WINDOWS
#define CSP__OS_UNWINDS 1
/* ---- memory, time, threads: what POSIX says, and Linux, too ---------------------- */

#define csp__alloc malloc
#define csp__free free
#define csp__realloc realloc
#define csp__os_yield sched_yield

CSP__FN void *csp__zalloc(size_t size)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, (size + 63) & ~(size_t)63) != 0) return NULL;
    memset(p, 0, size);
    csp__hb_before(&csp__heap_sync);
    return p;
}

CSP__FN void csp__os_say(const char *text, size_t n)
{
    while (n > 0) {
        ssize_t k = write(2, text, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return;
        text += k;
        n -= (size_t)k;
    }
}

CSP__FN CSP__COLD __attribute__((noreturn)) void csp__os_exit(int code)
{
    _exit(code);
}

CSP__FN int csp__os_pid(void)
{
    return (int)getpid();
}

CSP__FN void csp__os_sleep(int64_t ns)
{
    if (ns > 1000000000 * CSP_SECOND) ns = 1000000000 * CSP_SECOND;
    nanosleep(&(struct timespec){(time_t)(ns / CSP_SECOND), (long)(ns % CSP_SECOND)}, NULL);
}

CSP__FN size_t csp__os_page(void)
{
    static size_t page;
    if (page == 0) page = (size_t)sysconf(_SC_PAGESIZE);
    return page;
}

#define csp__os_stack_open(low, top) ((void)(low), (void)(top)) /* committed as they are touched */
#define csp__os_stack_frame(frame, base, low) ((void)(frame), (void)(base), (void)(low))
#define csp__os_stack_reach(base, low, at) ((void)(base), (void)(low), (void)(at))
#define csp__os_stacks_get csp__os_pages_get
#define CSP__OS_GUARD_LEAST 1

CSP__FN void csp__os_pages_put(void *p, size_t size)
{
    csp__unpoison(p, size); /* frames abandoned here may have left poison */
    munmap(p, size);
}

CSP__FN bool csp__os_guard_few(void *p, size_t size)
{
    return mprotect(p, size, PROT_NONE) == 0;
}

typedef sa_family_t csp__os_family; // of a socket's address
typedef pthread_t csp__os_thread;
typedef pthread_key_t csp__os_key;
typedef sigset_t csp__os_mask;
typedef siginfo_t csp__os_info;
typedef stack_t csp__os_alt;

/* The signals of faults are never masked: while they are blocked, a fault kills the process without
 * a message. */
enum { CSP__OS_MEMORY_FAULTS = 2, CSP__OS_FAULTS = 5 };
static const int csp__os_faults[CSP__OS_FAULTS] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

CSP__FN void csp__os_mask_get(csp__os_mask *mask)
{
    pthread_sigmask(SIG_SETMASK, NULL, mask);
}

CSP__FN void csp__os_mask_set(const csp__os_mask *mask)
{
    pthread_sigmask(SIG_SETMASK, mask, NULL);
}

CSP__FN int csp__os_thread_start(csp__os_thread *thread, void *(*fn)(void *), void *arg,
                                 size_t stack, bool quiet)
{
    pthread_attr_t attr;
    sigset_t all, was;
    sigfillset(&all);
    for (int i = 0; i < CSP__OS_FAULTS; i++) sigdelset(&all, csp__os_faults[i]);
    pthread_attr_init(&attr);
    if (stack != 0) pthread_attr_setstacksize(&attr, stack);
    if (quiet) pthread_sigmask(SIG_SETMASK, &all, &was);
    int error = pthread_create(thread, &attr, fn, arg);
    if (quiet) pthread_sigmask(SIG_SETMASK, &was, NULL);
    pthread_attr_destroy(&attr);
    return error;
}

CSP__FN int csp__os_thread_join(csp__os_thread thread)
{
    return pthread_join(thread, NULL);
}

CSP__FN int csp__os_key_make(csp__os_key *key, void (*fn)(void *))
{
    return pthread_key_create(key, fn);
}

CSP__FN void csp__os_key_set(csp__os_key key, void *value)
{
    pthread_setspecific(key, value);
}

CSP__FN void csp__os_key_delete(csp__os_key key)
{
    pthread_key_delete(key);
}

static void (*csp__os_fork_fn)(void);
CSP__FN void csp__os_watch_forks(void)
{
    /* The libc removes this handler when the object with this code is unloaded. glibc and Bionic
     * link pthread_atfork into each object, and it passes that object's __dso_handle on. musl never
     * unloads. */
    pthread_atfork(NULL, NULL, csp__os_fork_fn);
}

CSP__FN void csp__os_on_fork(void (*fn)(void))
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    csp__os_fork_fn = fn;
    pthread_once(&once, csp__os_watch_forks);
}

/* ---- signals: what POSIX says ---------------------------------------------------- */

/* A signal handler of csp's, and the handler that it has replaced.
 *
 *   csp puts the earlier handler back only while its own is the handler that the system calls.
 * Otherwise another copy of csp, or the program, has set a later handler. That handler calls ours,
 * or will set ours again. Putting the earlier handler back would remove the later one. So ours
 * stays in place (LEFT) and passes each signal on. Its code must stay in the process, see
 * csp__os_stay_loaded. */
enum { CSP__HANDLER_OFF, CSP__HANDLER_ON, CSP__HANDLER_LEFT };
typedef struct csp__os_handler {
    struct sigaction old;
    uint8_t state; // atomic, relaxed: read by the handler
} csp__os_handler;
static bool csp__os_handlers_left; // a handler is LEFT, or was
typedef void csp__os_on_signal(int signo, csp__os_info *info, void *context);

CSP__FN bool csp__os_handler_is(int signo, csp__os_on_signal *fn)
{
    struct sigaction now;
    return sigaction(signo, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) &&
           now.sa_sigaction == fn;
}

/* Sets the handler. `of_fault`: signo is one of csp__os_faults. Such a handler may be interrupted
 * by itself. It is chained: a handler that was set later calls it for faults that are not its own.
 * So a handler that was LEFT is in place already. Set again, it and the later handler would call
 * each other for ever.
 *   Any other handler returns. It runs on the alternate stack, too, but not under Valgrind.
 * Valgrind remembers one stack for all threads, and notices only by the handler's own return that
 * the thread is on its former stack again. */
CSP__FN bool csp__os_handler_set(csp__os_handler *h, int signo, csp__os_on_signal *fn,
                                 bool of_fault)
{
    int plain = SA_RESTART | (csp__valgrind(0x1001, NULL, NULL) == 0 ? SA_ONSTACK : 0);
    struct sigaction sa = {.sa_flags = of_fault ? SA_ONSTACK | SA_NODEFER : plain}, old;
    sa.sa_flags |= SA_SIGINFO;
    sa.sa_sigaction = fn;
    if (!of_fault) sigfillset(&sa.sa_mask);
    if (h->state == CSP__HANDLER_OFF || !of_fault) {
        if (csp__os_handler_is(signo, fn))
            old = h->old;
        else if (sigaction(signo, &sa, &old) != 0)
            return false;
        if (h->state == CSP__HANDLER_OFF) h->old = old;
    }
    csp__set(&h->state, CSP__HANDLER_ON);
    return true;
}

CSP__FN void csp__os_handler_unset(csp__os_handler *h, int signo, csp__os_on_signal *fn)
{
    if (h->state != CSP__HANDLER_ON) return;
    bool ours = csp__os_handler_is(signo, fn);
    csp__set(&h->state, ours ? CSP__HANDLER_OFF : CSP__HANDLER_LEFT);
    if (ours) sigaction(signo, &h->old, NULL);
    if (!ours) csp__os_handlers_left = true;
}

/* Calls the earlier handler as if ours had never been set. */
CSP__FN void csp__os_handler_pass(const csp__os_handler *h, int signo, csp__os_info *info,
                                  void *context)
{
    if (h->old.sa_flags & SA_SIGINFO) {
        h->old.sa_sigaction(signo, info, context);
    } else if (h->old.sa_handler == SIG_DFL) {
        /* The instruction of a fault runs again, and the process dies. A signal that was sent is
         * sent again. */
        signal(signo, SIG_DFL);
        if (info->si_code <= 0 || (signo != SIGSEGV && signo != SIGBUS)) raise(signo);
    } else if (h->old.sa_handler != SIG_IGN) {
        h->old.sa_handler(signo);
    } else if (signo == SIGSEGV || signo == SIGBUS) {
        signal(signo, SIG_DFL); /* a fault cannot be ignored */
    }
}

/* Will the process die of this fault? Not if the signal was sent by a process, and not if the
 * program has a handler of its own, which may let it go on. */
CSP__FN bool csp__os_fault_kills(const csp__os_handler *h, const csp__os_info *info)
{
    return !(h->old.sa_flags & SA_SIGINFO) && h->old.sa_handler == SIG_DFL && info->si_code > 0;
}

CSP__FN const char *csp__os_fault_name(int signo)
{
    return signo == SIGBUS ? "SIGBUS" : "SIGSEGV";
}

CSP__FN char *csp__os_fault_at(const csp__os_info *info)
{
    return (char *)info->si_addr;
}

CSP__FN void csp__os_alt_set(void *memory, size_t size, csp__os_alt *was)
{
    sigaltstack(&(stack_t){.ss_sp = memory, .ss_size = size}, was);
}

CSP__FN void csp__os_alt_reset(const csp__os_alt *was)
{
    static const stack_t none = {.ss_flags = SS_DISABLE};
    sigaltstack(was != NULL ? was : &none, NULL);
}

CSP__FN int csp__os_signal_number(const char *name)
{
    static const struct {
        const char *name;
        int number;
    } known[] = {{"QUIT", SIGQUIT}, {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"HUP", SIGHUP},
                 {"INT", SIGINT},   {"TERM", SIGTERM}, {"ALRM", SIGALRM}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(name, known[i].name) == 0) return known[i].number;
    return 0;
}

CSP__FN bool csp__os_signal_fixed(int signo)
{
    return signo == SIGKILL || signo == SIGSTOP || signo == SIGSEGV || signo == SIGBUS ||
           signo == SIGFPE || signo == SIGILL;
}

#ifdef __ELF__
/* Weak references, under other names: the program may use the same functions strongly in this file.
 * A statically linked program has no such functions, and nothing to unload. */
static int csp__os_dladdr(const void *address, void *info) __attribute__((weakref("dladdr")));
static void *csp__os_dlopen(const char *path, int mode) __attribute__((weakref("dlopen")));
static void *csp__os_dlsym(void *object, const char *name) __attribute__((weakref("dlsym")));
extern char csp__image_start[] __asm__("__executable_start") __attribute__((weak));
extern char csp__image_end[] __asm__("etext") __attribute__((weak));
#endif

/* False: no code is known at pc. A statically linked program is one object, and has no table of its
 * functions at run time. */
CSP__FN bool csp__os_symbol(uintptr_t pc, csp__os_symbols *s)
{
#ifdef __ELF__
    struct {
        const char *path;
        void *base;
        const char *function;
        void *start;
    } info = {NULL, NULL, NULL, NULL};
    if (csp__os_dladdr != NULL && csp__os_dladdr((const void *)pc, &info) != 0 &&
        info.path != NULL) {
        const char *name = strrchr(info.path, '/');
        *s = (csp__os_symbols){name == NULL ? info.path : name + 1, info.function,
                               pc - (uintptr_t)info.base, pc - (uintptr_t)info.start};
        return true;
    }
    if (pc >= (uintptr_t)csp__image_start && pc < (uintptr_t)csp__image_end) {
        *s = (csp__os_symbols){"program", NULL, pc - (uintptr_t)csp__image_start, 0};
        return true;
    }
#elif CSP__DARWIN
    Dl_info info;
    if (dladdr((const void *)pc, &info) != 0 && info.dli_fname != NULL) {
        const char *name = strrchr(info.dli_fname, '/');
        *s = (csp__os_symbols){name == NULL ? info.dli_fname : name + 1, info.dli_sname,
                               pc - (uintptr_t)info.dli_fbase, pc - (uintptr_t)info.dli_saddr};
        return true;
    }
#endif
    (void)pc;
    (void)s;
    return false;
}

/* A function of a library that may be absent; NULL then. */
CSP__FN __attribute__((unused)) void *csp__os_library(const char *path, const char *name)
{
#ifdef __ELF__
    if (csp__os_dlopen == NULL || csp__os_dlsym == NULL) return NULL;
    void *object = csp__os_dlopen(path, 2 /* RTLD_NOW */);
    return object == NULL ? NULL : csp__os_dlsym(object, name);
#elif CSP__DARWIN
    (void)path; /* the system's own library has it */
    return dlsym(RTLD_DEFAULT, name);
#else
    (void)path;
    (void)name;
    return NULL;
#endif
}

/* From now on the object with this code is never unloaded. Needed where another part of the process
 * keeps the address of one of its functions: after unloading it would call into nothing. */
CSP__FN void csp__os_stay_loaded(void)
{
#ifdef __ELF__
    struct {
        const char *path;
        void *base;
        const char *symbol;
        void *at;
    } info = {NULL, NULL, NULL, NULL};
    if (csp__os_dladdr == NULL || csp__os_dlopen == NULL) return;
    if (csp__os_dladdr(&csp__os_faults, &info) == 0 || info.path == NULL) return;
#ifdef __linux__
    csp__os_dlopen(info.path, 1 | 4 | 0x1000 /* RTLD_LAZY, NOLOAD, NODELETE */);
#else
    csp__os_dlopen(info.path, RTLD_LAZY | RTLD_NODELETE);
#endif
#elif CSP__DARWIN
    Dl_info info;
    if (dladdr(&csp__os_faults, &info) != 0 && info.dli_fname != NULL)
        dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
#endif
}

/* ---- descriptors: what POSIX says ------------------------------------------------ */

typedef pthread_mutex_t csp__os_lock;
#define csp__os_lock_make(lock) pthread_mutex_init(lock, NULL)
#define csp__os_lock_take(lock) pthread_mutex_lock(lock)
#define csp__os_lock_drop(lock) pthread_mutex_unlock(lock)

CSP__FN csp_ssize csp__os_read(int fd, void *buffer, size_t size)
{
    csp_ssize n = read(fd, buffer, size);
    return n < 0 ? -errno : n;
}

/* SIGPIPE is blocked during the call. If the call has sent one, it is consumed afterwards. */
typedef struct csp__os_quiet {
    sigset_t broken, old, pending;
} csp__os_quiet;

CSP__FN void csp__os_quiet_begin(csp__os_quiet *q)
{
    sigemptyset(&q->broken);
    sigaddset(&q->broken, SIGPIPE);
    sigemptyset(&q->pending);
    pthread_sigmask(SIG_BLOCK, &q->broken, &q->old);
    if (sigismember(&q->old, SIGPIPE)) sigpending(&q->pending); /* this SIGPIPE is the program's */
}

/* Turns what the call has returned into a count or a negative errno. */
CSP__FN csp_ssize csp__os_quiet_end(csp__os_quiet *q, csp_ssize n)
{
    csp_ssize result = n < 0 ? -errno : n;
    bool sent = result == -EPIPE && !sigismember(&q->pending, SIGPIPE);
#if CSP__LINUX
    struct timespec none = {0, 0};
    while (sent && sigtimedwait(&q->broken, NULL, &none) < 0 && errno == EINTR) continue;
#else
    int signo;
    while (sent && sigpending(&q->pending) == 0 && sigismember(&q->pending, SIGPIPE))
        sigwait(&q->broken, &signo);
#endif
    pthread_sigmask(SIG_SETMASK, &q->old, NULL);
    return result;
}

CSP__FN csp_ssize csp__os_write(int fd, const void *buffer, size_t size)
{
    csp__os_quiet q;
    csp__os_quiet_begin(&q);
    return csp__os_quiet_end(&q, write(fd, buffer, size));
}

CSP__FN csp_ssize csp__os_write_parts(int fd, const struct iovec *parts, int n)
{
    csp__os_quiet q;
    csp__os_quiet_begin(&q);
    return csp__os_quiet_end(&q, writev(fd, parts, n));
}

CSP__FN csp_ssize csp__os_read_at(int fd, void *buffer, size_t size, int64_t offset)
{
    csp_ssize n =
        (off_t)offset == offset ? pread(fd, buffer, size, (off_t)offset) : (errno = EINVAL, -1);
    return n < 0 ? -errno : n;
}

CSP__FN csp_ssize csp__os_write_file(int fd, const void *buffer, size_t size)
{
    csp_ssize n = write(fd, buffer, size);
    return n < 0 ? -errno : n;
}

CSP__FN int csp__os_close(int fd)
{
    return close(fd) == 0 || errno == EINTR ? 0 : -errno;
}

CSP__FN bool csp__os_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

#define csp__os_poll(p, n, ms) poll(p, n, ms)
#define CSP__OS_POLLIN (POLLIN | POLLPRI)
#define CSP__OS_POLLED(fd) (fd)

/* Which of the directions asked for are ready now, by poll(2): CSP_READABLE, CSP_WRITABLE. */
CSP__FN int csp__os_ready(int fd, int what)
{
    struct pollfd p = {fd, 0, 0};
    p.events = (short)((what & CSP_READABLE ? POLLIN : 0) | (what & CSP_WRITABLE ? POLLOUT : 0));
    int n;
    do n = poll(&p, 1, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    if (p.revents & POLLNVAL) /* Darwin's answer for devices, which it cannot poll */
        return CSP__DARWIN && csp__os_open(fd) ? what : -EBADF;
    if (p.revents & (POLLERR | POLLHUP)) return what;
    return (p.revents & POLLIN ? CSP_READABLE : 0) | (p.revents & POLLOUT ? CSP_WRITABLE : 0);
}

/* For a system without MSG_NOSIGNAL: the socket sends no signal for a broken connection. */
CSP__FN void csp__os_no_sigpipe(int fd)
{
#if CSP__DARWIN
    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &(int){1}, sizeof(int));
#else
    (void)fd;
#endif
}
#if CSP__DARWIN
#undef MSG_NOSIGNAL /* newer headers define it, but older systems refuse it */
#define MSG_NOSIGNAL 0
#endif

CSP__FN int csp__os_looked(int failed, const struct stat *is, csp__os_file *file)
{
    *file = (csp__os_file){CSP__OS_OTHER, 0, 0};
    if (failed) return -errno;
    mode_t mode = is->st_mode;
    *file = (csp__os_file){S_ISREG(mode) || S_ISDIR(mode) || S_ISBLK(mode) ? CSP__OS_REGULAR
                           : S_ISSOCK(mode)                                ? CSP__OS_SOCKET
                           : S_ISFIFO(mode)                                ? CSP__OS_FIFO
                                                                           : CSP__OS_OTHER,
                           (uint64_t)is->st_dev, (uint64_t)is->st_ino};
    return 0;
}

CSP__FN int csp__os_look(int fd, csp__os_file *file)
{
    struct stat is;
    int e = csp__os_looked(fstat(fd, &is), &is, file);
    if (e == 0 && file->kind == CSP__OS_SOCKET) csp__os_no_sigpipe(fd);
    return e;
}

CSP__FN int csp__os_look_at(const char *path, csp__os_file *file)
{
    struct stat is;
    return csp__os_looked(lstat(path, &is), &is, file);
}

CSP__FN int csp__os_modes(int fd)
{
    int flags = fcntl(fd, F_GETFL), mode = flags & O_ACCMODE;
    if (flags < 0) return CSP__OS_READS | CSP__OS_WRITES;
    return (mode != O_WRONLY ? CSP__OS_READS : 0) | (mode != O_RDONLY ? CSP__OS_WRITES : 0) |
           (flags & O_NONBLOCK ? CSP__OS_NONBLOCK : 0);
}

CSP__FN int csp__os_remove(const char *path)
{
    return unlink(path) == 0 ? 0 : -errno;
}

/* Without O_TRUNC, since another process may have locked the file: it is emptied only after the
 * lock was taken. The lock belongs to this opening of the file. So it also keeps child processes
 * out, and a program that is executed does not inherit it. O_NONBLOCK: for a FIFO without a reader
 * the call returns -ENXIO. Without the flag it would wait for a reader. */
CSP__FN int csp__os_create(const char *path)
{
    csp__os_file is;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
    if (fd < 0) return -errno;
    int e = csp__os_look(fd, &is);
    if (e == 0 && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) != 0) e = -errno;
    bool file = e == 0 && is.kind == CSP__OS_REGULAR;
    if (e == 0 && (file || is.kind == CSP__OS_FIFO) && flock(fd, LOCK_EX | LOCK_NB) != 0 &&
        errno == EWOULDBLOCK) /* any other error: a file system without locks */
        e = -EBUSY;
    if (e == 0 && file && ftruncate(fd, 0) != 0) e = -errno;
    if (e == 0) return fd;
    close(fd);
    return e;
}

/* ---- sockets: what POSIX says ---------------------------------------------------- */

CSP__FN csp_ssize csp__os_send(int fd, const void *buffer, size_t size, const struct sockaddr *to,
                               socklen_t length)
{
    csp_ssize n = sendto(fd, buffer, size, MSG_DONTWAIT | MSG_NOSIGNAL, to, length);
    return n < 0 ? -errno : n;
}

CSP__FN csp_ssize csp__os_send_parts(int fd, const struct iovec *parts, int n)
{
    struct msghdr all;
    memset(&all, 0, sizeof all);
    all.msg_iov = (struct iovec *)(uintptr_t)parts;
    all.msg_iovlen = (__typeof__(all.msg_iovlen))n;
    csp_ssize sent = sendmsg(fd, &all, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? -errno : sent;
}

CSP__FN csp_ssize csp__os_recv(int fd, void *buffer, size_t size, struct sockaddr *from,
                               socklen_t *length)
{
    csp_ssize n = recvfrom(fd, buffer, size, MSG_DONTWAIT, from, length);
    if (CSP_X_TSAN && n >= 0) n += read(fd, buffer, 0); /* a call that TSan knows: acq <fd> */
    return n < 0 ? -errno : n;
}

CSP__FN int csp__os_bind(int fd, const struct sockaddr *at, socklen_t length)
{
    return bind(fd, at, length) == 0 ? 0 : -errno;
}

CSP__FN int csp__os_listen(int fd, int backlog)
{
    return listen(fd, backlog) == 0 ? 0 : -errno;
}

CSP__FN int csp__os_connect(int fd, const struct sockaddr *at, socklen_t length)
{
    return connect(fd, at, length) == 0 ? 0 : -errno;
}

CSP__FN int csp__os_shutdown(int fd) // of the writing side
{
    return shutdown(fd, SHUT_WR) == 0 ? 0 : -errno;
}

CSP__FN void csp__os_set_nodelay(int fd)
{
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
}

CSP__FN void csp__os_set_reuse(int fd)
{
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
}

CSP__FN void csp__os_set_both(int fd)
{
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){0}, sizeof(int));
}

CSP__FN int csp__os_option(int fd, int option)
{
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -errno;
}

#define csp__os_socket_type(fd) csp__os_option(fd, SO_TYPE)
#define csp__os_socket_error(fd) csp__os_option(fd, SO_ERROR)
#define csp__os_socket_listens(fd) csp__os_option(fd, SO_ACCEPTCONN)

CSP__FN int csp__os_local(int fd, struct sockaddr *at, socklen_t *length)
{
    return getsockname(fd, at, length) == 0 ? 0 : -errno;
}

CSP__FN int csp__os_peer(int fd, struct sockaddr *at, socklen_t *length)
{
    return getpeername(fd, at, length) == 0 ? 0 : -errno;
}

CSP__FN int csp__os_resolve(const char *host, int type,
                            void (*add)(void *to, struct sockaddr *address, size_t size), void *to)
{
    struct addrinfo hints = {.ai_socktype = type}, *list = NULL;
    int e = getaddrinfo(host, NULL, &hints, &list);
    if (e != 0)
        return e == EAI_MEMORY   ? -ENOMEM
               : e == EAI_AGAIN  ? -EAGAIN
               : e == EAI_SYSTEM ? -errno
                                 : -ENOENT;
    for (struct addrinfo *a = list; a != NULL; a = a->ai_next) add(to, a->ai_addr, a->ai_addrlen);
    freeaddrinfo(list);
    return 0;
}

#define csp__os_port(n) htons(n)

CSP__FN bool csp__os_ip_read(int family, const char *text, void *to)
{
    return inet_pton(family, text, to) == 1;
}

CSP__FN void csp__os_ip_text(int family, const void *from, char *out, socklen_t size)
{
    if (inet_ntop(family, from, out, size) == NULL) *out = 0;
}

CSP__FN uint32_t csp__os_scope_number(const char *name)
{
    return if_nametoindex(name);
}

/* out: of CSP__OS_SCOPE bytes. */
enum { CSP__OS_SCOPE = IF_NAMESIZE };
CSP__FN const char *csp__os_scope_name(uint32_t number, char *out)
{
    return if_indextoname(number, out);
}

#ifdef __linux__
/* Reads a small file, as much of it as fits. False when nothing was read. */
CSP__FN bool csp__os_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return n > 0;
}
#endif

#if CSP__LINUX
/* ---- Linux ----------------------------------------------------------------------- */

#define CSP__OS_GUARDS_FEW CSP_GUARD_LIMIT
#define csp__os_forked() ((void)0)
#define csp__os_end() ((void)0)

CSP__FN inline int64_t csp__os_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * CSP_SECOND + t.tv_nsec;
}

/* System calls that some headers lack. An older kernel or a seccomp filter may refuse any of them,
 * with ENOSYS, EPERM or another number that the filter's author has chosen. So a refusal leads to
 * another way, and is never an error of the csp call that needed it.
 *   CSP__NR_X is -1 where the number is not known. On an Android before the version whose libc has
 * a call, that call is not refused: SIGSYS kills the process. So its number is -1 there, too. */
#if defined(__ANDROID__) && __ANDROID_API__ < 30
#define CSP__NR_MEMBARRIER (-1)
#elif defined(SYS_membarrier)
#define CSP__NR_MEMBARRIER SYS_membarrier
#else
#define CSP__NR_MEMBARRIER CSP__BY_CPU(324, 375, 389, 283, 365, 356, 283)
#endif
#if defined(__ANDROID__) && __ANDROID_API__ < 33
#define CSP__NR_PREADV2 (-1)
#elif defined(SYS_preadv2)
#define CSP__NR_PREADV2 SYS_preadv2
#else
#define CSP__NR_PREADV2 CSP__BY_CPU(327, 378, 392, 286, 380, 376, 286)
#endif
#ifdef __ANDROID__
#define CSP__NR_PROCESS_MADVISE (-1)
#define CSP__NR_EPOLL_PWAIT2 (-1)
#else
#define CSP__NR_PROCESS_MADVISE 440 /* from here on the same for all processors */
#define CSP__NR_EPOLL_PWAIT2 441
#endif
#ifdef SYS_futex
#define CSP__NR_FUTEX SYS_futex
#else
#define CSP__NR_FUTEX 422 /* futex_time64: newer 32-bit processors have no other */
#endif

/* Times for the system's own calls. The libc's struct timespec may differ from these where a long
 * has 32 bits: its time_t has 32 or 64, as the libc was built or as _TIME_BITS says. The calls that
 * are as old as the processor take two longs. The others take two numbers of 64 bits. */
typedef struct csp__span64 {
    int64_t s, ns;
} csp__span64;
#ifdef SYS_futex
typedef struct csp__span_old {
    long s, ns;
} csp__span_old;
#else
typedef csp__span64 csp__span_old;
#endif

#define CSP__FUTEX_WAIT 128 /* FUTEX_WAIT | FUTEX_PRIVATE_FLAG; musl has no <linux/futex.h> */
#define CSP__FUTEX_WAKE 129

/* Sleeps while *word == value, at most ns nanoseconds (CSP_FOREVER: without end). May return
 * early. */
CSP__FN void csp__os_wait(uint32_t *word, uint32_t value, int64_t ns)
{
#if CSP_X_TSAN
    /* TSan runs signal handlers when a function that it knows returns. So nanosleep is called here,
     * and the wait is short. */
    if (ns > 50 * CSP_MILLISECOND) ns = 50 * CSP_MILLISECOND;
    nanosleep(&(struct timespec){0, 0}, NULL);
#endif
    csp__count(FUTEX);
    csp__span_old t = {.s = 1000000000, .ns = 0}; /* 31 years, near the limit of 32 bits */
    if (ns < 1000000000 * CSP_SECOND) t.s = (long)(ns / CSP_SECOND), t.ns = (long)(ns % CSP_SECOND);
    syscall(CSP__NR_FUTEX, word, CSP__FUTEX_WAIT, value, ns == CSP_FOREVER ? NULL : &t, NULL, 0);
}

CSP__FN void csp__os_wake(uint32_t *word, int n)
{
    csp__count(FUTEX);
    syscall(CSP__NR_FUTEX, word, CSP__FUTEX_WAKE, n, NULL, NULL, 0);
}

CSP__FN void *csp__os_pages_get(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, size, 15 /* MADV_NOHUGEPAGE: a stack wants one page, not 512 */);
    return p;
}

/* True: csp__os_barrier works from now on. The kernel requires that the process registers first. */
CSP__FN bool csp__os_barrier_open(void)
{
#ifdef CSP_NO_MEMBARRIER
    return false;
#endif
    return CSP__NR_MEMBARRIER > 0 &&
           syscall(CSP__NR_MEMBARRIER, 16 /* REGISTER_PRIVATE_EXPEDITED */, 0, 0) == 0;
}

/* When this returns, each running thread of the process has passed a fence. The kernel may be out
 * of memory for a moment; then it is asked again. A filter that was installed after the start may
 * refuse the call. That ends the program: by then the other side of each handshake has no fence of
 * its own, see WAKE. */
CSP__FN void csp__os_barrier(void)
{
    while (syscall(CSP__NR_MEMBARRIER, 8 /* PRIVATE_EXPEDITED */, 0, 0) != 0) {
        if (errno != ENOMEM)
            csp__fatal("membarrier is refused; install seccomp filters before csp starts");
        sched_yield();
    }
}

/* read(2) that does not wait. Returns a count or a negative errno. -ENOSYS: not possible for this
 * descriptor, or on this system. */
CSP__FN csp_ssize csp__os_read_now(int fd, void *buffer, size_t size)
{
    static bool refused; // atomic
    struct iovec v = {buffer, size};
    if (CSP__NR_PREADV2 < 0 || csp__relaxed(&refused)) return -ENOSYS;
    csp_ssize n = syscall(CSP__NR_PREADV2, fd, &v, 1L, -1L, -1L, 8 /* RWF_NOWAIT */);
    if (n > 0) CSP__WRITTEN(buffer, n);
    if (CSP_X_TSAN && n >= 0) n += read(fd, buffer, 0); /* a call that TSan knows: acq <fd> */
    if (n >= 0) return n;
    if (errno == EAGAIN || errno == EINTR) return -errno;
    /* Three reasons are left: this kind of descriptor refuses the flag, read(2) will return the
     * same error, or the call does not exist. The same call for no descriptor tells them apart:
     * EBADF means that the call exists. */
    if (errno != EOPNOTSUPP && syscall(CSP__NR_PREADV2, -1, &v, 1L, -1L, -1L, 8) < 0 &&
        errno != EBADF)
        csp__set(&refused, true);
    return -ENOSYS;
}

CSP__FN csp_ssize csp__os_send_file(int out, int in, int64_t *offset, size_t n)
{
    csp__os_quiet q;
    off_t at = (off_t)*offset;
    if (at != *offset) return -EINVAL;
    csp__os_quiet_begin(&q);
    csp_ssize moved = csp__os_quiet_end(&q, sendfile(out, in, &at, n));
    if (moved > 0) *offset += moved;
    return moved;
}

CSP__FN long csp__os_number(const char *path, long *second)
{
    char text[64], *end;
    if (!csp__os_text(path, text, sizeof text)) return -1;
    long a = strtol(text, &end, 10);
    if (second != NULL) *second = strtol(end, NULL, 10);
    return end == text ? -1 : a;
}

/* The CPUs in the affinity mask, but at most the cgroup's CPU quota, rounded up. */
CSP__FN int csp__os_cpus(void)
{
    unsigned long mask[128] = {0};
    long period = 0, quota, n = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    int cpus = n > 0 ? 0 : (int)sysconf(_SC_NPROCESSORS_ONLN);
    for (size_t i = 0; n > 0 && i < (size_t)n / sizeof mask[0]; i++)
        cpus += __builtin_popcountl(mask[i]);
    if (cpus < 1) cpus = 1;
    quota = csp__os_number("/sys/fs/cgroup/cpu.max", &period);
    if (quota < 0) {
        quota = csp__os_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", NULL);
        period = csp__os_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us", NULL);
    }
    if (quota > 0 && period > 0 && (quota + period - 1) / period < cpus)
        cpus = (int)((quota + period - 1) / period);
    return cpus;
}

CSP__FN void csp__os_thread_begin(void)
{
    prctl(PR_SET_TIMERSLACK, 1000ul, 0ul, 0ul, 0ul);
    /* In its first malloc a thread makes what the allocator keeps for it (glibc: a cache and an
     * arena). That takes more stack than a small goroutine has. So this call does it here. */
    void *volatile first = malloc(32);
    free(first);
}

CSP__FN int csp__os_tid(void)
{
    return (int)syscall(SYS_gettid);
}

CSP__FN bool csp__os_guard(void *p, size_t size)
{
    static bool refused; // atomic: true on Linux before 6.13
    if (csp__relaxed(&refused)) return false;
    if (madvise(p, size, 102 /* MADV_GUARD_INSTALL */) == 0) return true;
    csp__set(&refused, true);
    return false;
}

/* One advice for n ranges in one system call. False: not possible (Linux before 6.15), or not done
 * for all ranges: a guard must not be missing in silence. */
CSP__FN bool csp__os_advise(const csp__span *spans, int n, int advice)
{
    static bool refused; // atomic
    size_t all = 0;
    if (CSP__NR_PROCESS_MADVISE <= 0) return false;
    if (CSP_STACK_GUARD < 2 || csp__relaxed(&refused)) return false;
    for (int i = 0; i < n; i++) all += spans[i].size;
    long done = syscall(CSP__NR_PROCESS_MADVISE, -10001 /* ourselves */, spans, n, advice, 0);
    if (done > 0) return (size_t)done == all;
    csp__set(&refused, true);
    return false;
}

CSP__FN bool csp__os_guards(const csp__span *spans, int n)
{
    return csp__os_advise(spans, n, 102 /* MADV_GUARD_INSTALL */);
}

CSP__FN void csp__os_pages_touch(const csp__span *spans, int n)
{
    csp__os_advise(spans, n, 23 /* MADV_POPULATE_WRITE */);
}

CSP__FN void csp__os_pages_drop(const csp__span *spans, int n)
{
    if (csp__os_advise(spans, n, MADV_DONTNEED)) return;
    for (int i = 0; i < n; i++) madvise(spans[i].base, spans[i].size, MADV_DONTNEED);
}

/* A pipe whose two ends are non-blocking and closed by exec. Returns 0 or a negative errno. */
CSP__FN int csp__os_pipe(int *fds)
{
    return syscall(SYS_pipe2, fds, O_CLOEXEC | O_NONBLOCK) == 0 ? 0 : -errno;
}

CSP__FN int csp__os_socket(int family, int type)
{
    int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

CSP__FN int csp__os_accept(int fd)
{
    int n = -1;
    bool asked = false;
#ifdef SYS_accept4
    if (!CSP_X_TSAN) { /* TSan knows accept, but not this call */
        n = (int)syscall(SYS_accept4, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        /* ENOSYS, EPERM and EACCES: the kernel or a filter refuses the call itself, and accept
         * follows. EPERM may also be a firewall's answer about this connection; then accept returns
         * it for the next one. */
        asked = n >= 0 || (errno != ENOSYS && errno != EPERM && errno != EACCES);
    }
#endif
    if (!asked) {
        n = accept(fd, NULL, NULL);
        if (n >= 0 && (fcntl(n, F_SETFL, O_NONBLOCK) < 0 || fcntl(n, F_SETFD, FD_CLOEXEC) < 0))
            close(n), n = -1;
    }
    if (n < 0 && (errno == ECONNABORTED || errno == EPROTO)) return -EINTR; /* the peer gave up */
    return n < 0 ? -errno : n;
}

#else
/* ---- POSIX: macOS, the BSDs, and Linux with CSP_POSIX ------------------------------ */

#if CSP__DARWIN || CSP__BSD
#define CSP__OS_GUARDS_FEW INT64_MAX /* these systems do not limit mappings */
#else
#define CSP__OS_GUARDS_FEW CSP_GUARD_LIMIT
#endif
#if CSP__DARWIN
#define CSP__OS_DROP MADV_FREE_REUSABLE /* MADV_DONTNEED gives nothing back there */
#elif CSP__BSD
#define CSP__OS_DROP MADV_FREE
#else
#define CSP__OS_DROP MADV_DONTNEED
#endif
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

CSP__FN inline int64_t csp__os_clock(void)
{
#if CSP__DARWIN
    return (int64_t)clock_gettime_nsec_np(CLOCK_UPTIME_RAW); /* CLOCK_MONOTONIC counts in us */
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * CSP_SECOND + t.tv_nsec;
#endif
}

/* BEDS. Waiting on a word, made of mutexes and conditions. The record of a sleeper lies in its own
 * frame, and is in the list of one bed. The word's address selects the bed.
 *
 *   csp__os_wait                           the waker
 *   1 locks the bed                        1 changes the word
 *   2 *word == value? joins the list       2 locks the bed
 *   3 waits, which unlocks the bed         3 takes the word's sleepers out, and signals each
 *
 * The lock orders the two sides. If the sleeper locks first, step 3 on the right finds it in the
 * list. If the waker locks first, step 2 on the left sees the change.
 *   The waker signals a condition under the lock, and the sleeper needs the lock to leave. So the
 * sleeper's frame exists as long as the waker uses it. After an unlock the signal would come too
 * late: a sleeper whose time is over could have returned, and its frame would be gone. */
#define CSP__OS_BEDS 64
typedef struct csp__os_sleeper {
    struct csp__os_sleeper *next;
    const uint32_t *word;
    pthread_cond_t cond;
    bool woken;
} csp__os_sleeper;
static struct csp__os_bed {
    pthread_mutex_t lock;
    csp__os_sleeper *first; // the sleeper that came first; guarded by lock
} csp__os_beds[CSP__OS_BEDS];

CSP__FN void csp__os_beds_make(void)
{
    for (int i = 0; i < CSP__OS_BEDS; i++) {
        csp__os_beds[i].first = NULL;
        pthread_mutex_init(&csp__os_beds[i].lock, NULL);
    }
}

/* In the child of a fork neither the sleepers nor the threads that held the locks exist: the beds
 * are made anew. */
#define csp__os_forked() csp__os_beds_make()
#define csp__os_end() ((void)0)

CSP__FN struct csp__os_bed *csp__os_bed_of(const uint32_t *word)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, csp__os_beds_make);
    uint64_t hash = (uint64_t)(uintptr_t)word * UINT64_C(0x9E3779B97F4A7C15);
    return &csp__os_beds[hash >> 58];
}

CSP__FN int csp__os_sleep_in(csp__os_sleeper *me, pthread_mutex_t *lock, int64_t ns,
                             const struct timespec *until)
{
    if (ns == CSP_FOREVER) return pthread_cond_wait(&me->cond, lock);
#if CSP__DARWIN
    return pthread_cond_timedwait_relative_np(&me->cond, lock, until);
#else
    return pthread_cond_timedwait(&me->cond, lock, until);
#endif
}

CSP__FN void csp__os_cond_make(pthread_cond_t *cond)
{
#if CSP__DARWIN
    pthread_cond_init(cond, NULL);
#else
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
#endif
}

/* Sleeps while *word == value, at most ns nanoseconds (CSP_FOREVER: without end). May return
 * early. */
CSP__FN void csp__os_wait(uint32_t *word, uint32_t value, int64_t ns)
{
    struct csp__os_bed *bed = csp__os_bed_of(word);
    csp__os_sleeper me = {.word = word}, **at;
#if CSP_X_TSAN
    /* TSan runs signal handlers when a function that it knows returns. So nanosleep is called here,
     * and the wait is short. */
    if (ns > 50 * CSP_MILLISECOND) ns = 50 * CSP_MILLISECOND;
    nanosleep(&(struct timespec){0, 0}, NULL);
#endif
    if (ns > 1000000 * CSP_SECOND && ns != CSP_FOREVER) ns = 1000000 * CSP_SECOND;
    int64_t to = CSP__DARWIN ? ns : ns == CSP_FOREVER ? 0 : csp__os_clock() + ns;
    struct timespec until = {(time_t)(to / CSP_SECOND), (long)(to % CSP_SECOND)};
    if (csp__acquire(word) != value) return;
    csp__count(FUTEX);
    csp__os_cond_make(&me.cond);
    pthread_mutex_lock(&bed->lock);
    if (csp__acquire(word) == value) {
        for (at = &bed->first; *at != NULL;) at = &(*at)->next;
        *at = &me;
        while (!me.woken && csp__os_sleep_in(&me, &bed->lock, ns, &until) == 0) continue;
        if (!me.woken) {
            for (at = &bed->first; *at != &me;) at = &(*at)->next;
            *at = me.next;
        }
    }
    pthread_mutex_unlock(&bed->lock);
    pthread_cond_destroy(&me.cond);
}

CSP__FN void csp__os_wake(uint32_t *word, int n)
{
    struct csp__os_bed *bed = csp__os_bed_of(word);
    csp__count(FUTEX);
    pthread_mutex_lock(&bed->lock);
    for (csp__os_sleeper **at = &bed->first, *s; (s = *at) != NULL && n > 0;) {
        if (s->word != word) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        s->woken = true;
        n--;
        pthread_cond_signal(&s->cond);
    }
    pthread_mutex_unlock(&bed->lock);
}

/* No barrier for all threads here: both sides of each handshake have a fence of their own. */
#define csp__os_barrier_open() false
#define csp__os_barrier() ((void)0)

CSP__FN void *csp__os_pages_get(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

CSP__FN bool csp__os_guard(void *p, size_t size)
{
    (void)p, (void)size;
    return false;
}
#define csp__os_guards(spans, n) ((void)(spans), (void)(n), false)
#define csp__os_pages_touch(spans, n) ((void)(spans), (void)(n))

CSP__FN void csp__os_pages_drop(const csp__span *spans, int n)
{
    for (int i = 0; i < n; i++) madvise(spans[i].base, spans[i].size, CSP__OS_DROP);
}

#define csp__os_thread_begin() ((void)0)

/* Not inlined: a compiler would keep the address of `mine` across a switch, and return the number
 * of another thread. */
CSP__FN CSP__NOINLINE int csp__os_tid(void)
{
#if CSP__DARWIN
    uint64_t tid = 0;
    pthread_threadid_np(NULL, &tid);
    return (int)tid;
#else
    static uint32_t tids; // atomic: the numbers given out so far
    static _Thread_local uint32_t mine;
    if (mine == 0) mine = csp__add(&tids, 1);
    return (int)mine;
#endif
}

CSP__FN int csp__os_cpus(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > INT16_MAX ? INT16_MAX : (int)n;
}

/* Each system's sendfile takes other arguments: the caller copies the file instead. */
#define csp__os_send_file(out, in, offset, n)                                                      \
    ((void)(out), (void)(in), (void)(offset), (void)(n), -ENOSYS)
#define csp__os_read_now(fd, buffer, size) ((void)(fd), (void)(buffer), (void)(size), -ENOSYS)

/* Makes fd non-blocking and closed by exec. Returns 0, or a negative errno after closing fd. A
 * program that forks and executes between the making of fd and this call passes a copy of fd on. */
CSP__FN int csp__os_own(int fd)
{
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0 &&
        fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
        return 0;
    int e = -errno;
    close(fd);
    return e;
}

CSP__FN int csp__os_pipe(int *fds)
{
#if CSP_X_TSAN && defined(__linux__) /* TSan knows pipe, but not how a waker is passed on */
    if (syscall(SYS_pipe2, fds, 0) != 0) return -errno;
#else
    if (pipe(fds) != 0) return -errno;
#endif
    int e = csp__os_own(fds[0]), also = csp__os_own(fds[1]);
    if (e == 0 && also == 0) return 0;
    if (e == 0) close(fds[0]);
    if (also == 0) close(fds[1]);
    return e != 0 ? e : also;
}

CSP__FN int csp__os_socket(int family, int type)
{
    int fd = socket(family, type, 0);
    if (fd < 0) return -errno;
    csp__os_no_sigpipe(fd);
    int e = csp__os_own(fd);
    return e < 0 ? e : fd;
}

CSP__FN int csp__os_accept(int fd)
{
    int n = accept(fd, NULL, NULL);
    if (n < 0 && (errno == ECONNABORTED || errno == EPROTO)) return -EINTR; /* the peer gave up */
    if (n < 0) return -errno;
    csp__os_no_sigpipe(n);
    int e = csp__os_own(n);
    return e < 0 ? e : n;
}
#endif

/* The stack pointer when the signal came. */
CSP__FN char *csp__os_fault_sp(const void *context)
{
#if CSP__DARWIN && defined(__x86_64__)
    return (char *)((const ucontext_t *)context)->uc_mcontext->__ss.__rsp;
#elif CSP__DARWIN && defined(__arm64e__)
    return (char *)((const ucontext_t *)context)->uc_mcontext->__ss.__opaque_sp;
#elif CSP__DARWIN
    return (char *)((const ucontext_t *)context)->uc_mcontext->__ss.__sp;
#elif defined(__linux__) && CSP__BY_CPU(1, 1, 0, 1, 1, 1, 0)
    return (char *)((const ucontext_t *)context)
        ->uc_mcontext.CSP__BY_CPU(gregs[15], gregs[7], arm_sp, sp, gp_regs[1], gregs[15], sp);
#else
    (void)context;
    return (char *)UINTPTR_MAX; // not known
#endif
}

/* The instruction at which the signal came; 0: not known. */
CSP__FN uintptr_t csp__os_fault_pc(const void *context)
{
#if CSP__DARWIN && defined(__x86_64__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext->__ss.__rip;
#elif CSP__DARWIN && !defined(__arm64e__)
    return (uintptr_t)((const ucontext_t *)context)->uc_mcontext->__ss.__pc;
#elif defined(__linux__) && CSP__BY_CPU(1, 1, 0, 1, 1, 1, 0)
    return (uintptr_t)((const ucontext_t *)context)
        ->uc_mcontext.CSP__BY_CPU(gregs[16], gregs[14], arm_pc, pc, gp_regs[32], psw.addr, pc);
#else
    (void)context;
    return 0;
#endif
}

#ifdef __linux__
/* ---- Linux, with CSP_POSIX or without ---------------------------------------------- */

#define CSP__OS_ABSTRACT 1 /* sockets may have names that are no paths */

/* Can the 8 bytes at p be read? The system reads the set of signals at p before it finds that -1 is
 * no way to change a mask: EFAULT means that it could not read. No filter refuses this call, which
 * the libc itself needs. */
CSP__FN bool csp__os_readable(const void *p)
{
    int err = errno;
    bool ok = syscall(SYS_rt_sigprocmask, -1, p, NULL, 8ul) == 0 || errno != EFAULT;
    errno = err;
    return ok;
}

/* A setting from the environment, or NULL where the environment must be ignored. A set-user-ID
 * program, or a program whose file has capabilities, has rights that its user lacks, but the user
 * has chosen the environment. Comparing user IDs would not do, since the program may have changed
 * them. */
CSP__FN const char *csp__os_env(const char *name)
{
    return getauxval(23 /* AT_SECURE */) != 0 ? NULL : getenv(name);
}

/* A thread that runs goroutines must not have a shadow stack (x86's SHSTK, AArch64's GCS, RISC-V's
 * Zicfiss). A shadow stack holds the return addresses of one stack. A switch to another stack does
 * not exchange it, so the first return after the switch would be a fault.
 *   -fcf-protection=full marks objects as ready for shadow stacks, and some compilers use it by
 * default. A libc that was asked to may then have turned shadow stacks on for every thread. */
CSP__FN void csp__os_stack_follow(void)
{
    bool on = false;
#if defined(__x86_64__)
    uintptr_t at = 0; /* rdssp, in bytes for older assemblers; no effect without SHSTK */
    __asm__ volatile(".byte 0xf3, 0x48, 0x0f, 0x1e, 0xc8" : "+a"(at));
    on = at != 0 && syscall(SYS_arch_prctl, 0x5002 /* ARCH_SHSTK_DISABLE */, 1ul) != 0;
#elif defined(__aarch64__) || defined(__riscv)
    unsigned long status = 0;
    on = prctl(74 /* PR_GET_SHADOW_STACK_STATUS */, &status, 0ul, 0ul, 0ul) == 0 && (status & 1) &&
         prctl(75 /* PR_SET_SHADOW_STACK_STATUS */, 0ul, 0ul, 0ul, 0ul) != 0;
#endif
    if (on)
        csp__fatal("csp cannot follow a shadow stack, and this one is locked: leave it off "
                   "(GLIBC_TUNABLES=glibc.cpu.x86_shstk=off), or do not mark the program for it "
                   "(-fcf-protection=branch)");
}

/* The threads of this process as the system counts them; -1: not known. */
CSP__FN int csp__os_threads(void)
{
    char text[1024];
    if (!csp__os_text("/proc/self/stat", text, sizeof text)) return -1;
    char *at = strrchr(text, ')'); /* the name may hold spaces and parentheses */
    for (int field = 2; at != NULL && field < 20; field++) at = strchr(at + 1, ' ');
    return at == NULL ? -1 : atoi(at);
}

/* The kernel writes arguments and AT_RANDOM's bytes to the top of the first thread's stack, and the
 * frames begin just below them. Nothing else lies within 100 MiB below. */
CSP__FN bool csp__os_first_stack(const char *at)
{
    const char *top = (const char *)getauxval(AT_RANDOM);
    return at < top && top - at < 100 * 1048576;
}

#if CSP__ASAN
CSP__FN bool csp__os_thread_stack(const void **low, size_t *size)
{
    pthread_attr_t attr;
    void *at;
    if (pthread_getattr_np(pthread_self(), &attr) != 0) return false;
    pthread_attr_getstack(&attr, &at, size);
    pthread_attr_destroy(&attr);
    *low = at;
    return true;
}

#endif
#else
/* ---- macOS and the BSDs ------------------------------------------------------------ */

#define CSP__OS_ABSTRACT 0
#define csp__os_stack_follow() ((void)0)

CSP__FN const char *csp__os_env(const char *name)
{
    return issetugid() ? NULL : getenv(name);
}

#if CSP__DARWIN
CSP__FN bool csp__os_readable(const void *p)
{
    uint64_t copy;
    vm_size_t n = 0;
    return vm_read_overwrite(mach_task_self(), (vm_address_t)p, sizeof copy, (vm_address_t)&copy,
                             &n) == KERN_SUCCESS;
}

/* Declared here, since some sets of headers lack <libproc.h>. */
extern int proc_pidinfo(int pid, int flavor, uint64_t arg, void *buffer, int size);
CSP__FN int csp__os_threads(void)
{
    struct {
        uint64_t sizes_and_times[6];
        int32_t counts[9], threads, running, priority;
    } info;
    int n = proc_pidinfo(getpid(), 4 /* PROC_PIDTASKINFO */, 0, &info, (int)sizeof info);
    return n == (int)sizeof info ? info.threads : -1;
}

CSP__FN bool csp__os_first_stack(const char *at) // of the caller's frames
{
    (void)at;
    return pthread_main_np() != 0;
}

#if CSP__ASAN
CSP__FN bool csp__os_thread_stack(const void **low, size_t *size)
{
    *size = pthread_get_stacksize_np(pthread_self());
    *low = (const char *)pthread_get_stackaddr_np(pthread_self()) - *size;
    return true;
}
#endif
#else
#define csp__os_readable(p) ((void)(p), false)
#define csp__os_threads() (-1)
#define csp__os_first_stack(at) ((void)(at), false)
#define csp__os_thread_stack(low, size) ((void)(low), (void)(size), false)
#endif
#endif

/* ---- threads and what they have of their own: Linux and POSIX --------------------- */

#if defined(__ELF__) && !defined(CSP_STATIC)
__attribute__((visibility("hidden"))) _Thread_local csp__m *csp__tls;
#else
static _Thread_local csp__m *csp__tls;
#endif

/* The current thread's M, or NULL for a thread that has not used csp yet. It must never be kept
 * across a park. A goroutine may change threads in the middle of a function, but compilers take the
 * address of a thread-local for constant within one. So assembly reads it, or, where there is none,
 * a function that cannot be inlined.
 *   The assembly needs a place in the static TLS block. glibc keeps some room there for objects
 * that dlopen loads. Other libcs keep none and refuse such an object. So code that is compiled for
 * one (-fPIC) uses the function there: 1.0 to 2.6 ns instead of 0.34. */
#if defined(__PIC__) && !defined(__PIE__) && !defined(__GLIBC__)
#define CSP__TLS_DYNAMIC 1
#else
#define CSP__TLS_DYNAMIC 0
#endif
#if defined(__x86_64__) && defined(__ELF__) && !defined(CSP_STATIC) && !CSP_X_TSAN &&              \
    !CSP__ASAN && !CSP__TLS_DYNAMIC
CSP__FN inline csp__m *csp__self(void)
{
    csp__m *m;
    __asm__ volatile("movq csp__tls@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0"
                     : "=r"(m)
                     :
                     : "memory");
    return m;
}
#else
#ifdef __clang__
CSP__FN CSP__NOINLINE csp__m *csp__self(void)
#else
CSP__FN __attribute__((noinline, noipa)) csp__m *csp__self(void)
#endif
{
    __asm__ volatile("" ::: "memory");
    return csp__tls;
}
#endif

#if CSP__DARWIN
CSP__FN void **csp__os_cxa_globals(void)
{
    /* A weak reference would need the library with the function at link time. */
    static void *(*globals)(void);
    if (globals == NULL) *(void **)&globals = dlsym(RTLD_DEFAULT, "__cxa_get_globals");
    return globals == NULL ? NULL : (void **)globals();
}
#else
extern void *__cxa_get_globals(void) __attribute__((weak));
CSP__FN void **csp__os_cxa_globals(void)
{
    return __cxa_get_globals == NULL ? NULL : (void **)__cxa_get_globals();
}
#endif

/* Functions of the C++ runtime, NULL without one. */
typedef void (*csp__os_terminate)(void);
#if CSP__DARWIN
#define CSP__OS_CXX(result, name, symbol, arguments)                                               \
    static result(*csp__os_##name(void)) arguments                                                 \
    {                                                                                              \
        result(*fn) arguments;                                                                     \
        *(void **)&fn = dlsym(RTLD_DEFAULT, symbol);                                               \
        return fn;                                                                                 \
    }
#else
#define CSP__OS_CXX(result, name, symbol, arguments)                                               \
    extern result csp__cxx_##name arguments __asm__(CSP__STRING(__USER_LABEL_PREFIX__) symbol)     \
        __attribute__((weak));                                                                     \
    static result(*csp__os_##name(void)) arguments                                                 \
    {                                                                                              \
        return csp__cxx_##name;                                                                    \
    }
#endif
CSP__OS_CXX(csp__os_terminate, set_terminate, "_ZSt13set_terminatePFvvE", (csp__os_terminate))
CSP__OS_CXX(void *, exception_type, "__cxa_current_exception_type", (void))
CSP__OS_CXX(char *, demangle, "__cxa_demangle", (const char *, char *, size_t *, int *))

CSP__FN csp__os_terminate csp__os_cxa_terminate(csp__os_terminate handler)
{
    if (csp__os_set_terminate() == NULL || handler == NULL) return NULL;
    return csp__os_set_terminate()(handler);
}

CSP__FN bool csp__os_cxa_uncaught(char *text, size_t size)
{
    int status = -1;
    void *type = csp__os_exception_type() == NULL ? NULL : csp__os_exception_type()();
    if (type == NULL) return false;
    const char *name = ((const char *const *)type)[1]; // std::type_info's, behind its vtable
    char *plain = csp__os_demangle() == NULL ? NULL : csp__os_demangle()(name, NULL, NULL, &status);
    csp__copy_text(text, plain != NULL ? plain : name, size);
    free(plain);
    return true;
}

/* The first call of a library function goes through the dynamic linker. That takes up to 3 KiB of
 * stack to save the vector registers, more than a small goroutine has. So each library function
 * that the runtime calls on goroutines' stacks is called once in advance.
 *   Not `cold`: the compiler optimises such a function for size, and writes memset and memcpy out
 * instead of calling them. */
CSP__FN CSP__NOINLINE void csp__os_warm(void)
{
    char *volatile one = (char *)malloc(32), *volatile two = (char *)realloc(one, 64);
    volatile size_t n = 32;
    if (two != NULL) {
        memset(two, 0, n);
        memcpy(two + 32, two, n);
    }
    free(two != NULL ? two : one);
    csp__os_yield();
    csp__os_sleep(0);
    void *page = mmap(NULL, csp__os_page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return;
    madvise(page, csp__os_page(), MADV_DONTNEED);
    mprotect(page, csp__os_page(), PROT_NONE);
    munmap(page, csp__os_page());
}

#else
/* ---- Windows ---------------------------------------------------------------------- */

/* A descriptor is a SOCKET, or the HANDLE of a file or a pipe, as an int: the system keeps both
 * within 32 bits. 0, 1 and 2 are the standard handles. The C library's own file numbers (open,
 * fileno) are not descriptors: a program gives csp (int)_get_osfhandle(number).
 *   A socket that csp is given for the first time becomes non-blocking, as csp's own sockets are.
 * The system can neither be asked for that with each call, nor for the socket's mode. */

CSP__FN void *csp__os_library(const char *path, const char *name)
{
    HMODULE library = LoadLibraryA(path);
    return library == NULL ? NULL : (void *)(uintptr_t)GetProcAddress(library, name);
}

#define csp__alloc(size) _aligned_malloc(size, 16)
#define csp__free _aligned_free
#define csp__realloc(p, size) _aligned_realloc(p, size, 16)
#define csp__os_yield SwitchToThread

CSP__FN void *csp__zalloc(size_t size)
{
    size = (size + 63) & ~(size_t)63;
    void *p = _aligned_malloc(size, 64);
    return p == NULL ? NULL : memset(p, 0, size);
}

typedef ADDRESS_FAMILY csp__os_family; // of a socket's address

CSP__FN HANDLE csp__os_handle(int fd)
{
    static const DWORD names[] = {STD_INPUT_HANDLE, STD_OUTPUT_HANDLE, STD_ERROR_HANDLE};
    return fd >= 0 && fd <= 2 ? GetStdHandle(names[fd]) : (HANDLE)(intptr_t)fd;
}

CSP__FN void csp__os_say(const char *text, size_t n)
{
    DWORD done;
    HANDLE to = csp__os_handle(2);
    for (; n > 0; text += done, n -= done)
        if (!WriteFile(to, text, (DWORD)n, &done, NULL) || done == 0) return;
}

CSP__FN CSP__COLD __attribute__((noreturn)) void csp__os_exit(int code)
{
    for (;;) TerminateProcess(GetCurrentProcess(), (UINT)code);
}

CSP__FN int csp__os_pid(void)
{
    return (int)GetCurrentProcessId();
}

CSP__FN int csp__os_tid(void)
{
    return (int)GetCurrentThreadId();
}

CSP__FN const char *csp__os_env(const char *name)
{
    return getenv(name);
}

CSP__FN inline int64_t csp__os_clock(void)
{
    static int64_t frequency; // atomic; each thread would write the same
    int64_t f = csp__relaxed(&frequency);
    LARGE_INTEGER t;
    if (CSP__UNLIKELY(f == 0)) {
        QueryPerformanceFrequency(&t);
        csp__set(&frequency, f = t.QuadPart);
    }
    QueryPerformanceCounter(&t);
    if (CSP__LIKELY(f == 10000000)) return t.QuadPart * 100; /* the rule since Windows 10 */
    return t.QuadPart / f * CSP_SECOND + t.QuadPart % f * CSP_SECOND / f;
}

/* A thread's word is a slot of its environment block. Not _Thread_local: mingw's is a function that
 * allocates memory and takes a lock, and a compiler that knows the block keeps a thread-local's
 * address across a switch. csp__os_slot is the slot's number plus 1; 0: no slot is taken yet. */
static uint32_t csp__os_slot; // atomic

/* This thread's environment block. */
CSP__FN inline char *csp__os_block(void)
{
    char *block;
#ifdef __x86_64__
    __asm__ volatile("movq %%gs:0x30, %0" : "=r"(block) : : "memory");
#else
    __asm__ volatile("mov %0, x18" : "=r"(block) : : "memory");
#endif
    return block;
}

/* The slow path: the slot is not taken yet, or is none of the first 64. The system allocates a
 * thread's other slots when the thread first sets one. */
CSP__FN CSP__COLD csp__m **csp__os_tls_far(void)
{
    uint32_t slot = csp__acquire(&csp__os_slot);
    if (slot == 0) {
        DWORD made = TlsAlloc();
        if (made == TLS_OUT_OF_INDEXES) csp__fatal("Windows has no slot left for a thread-local");
        if (csp__cas(&csp__os_slot, &slot, (uint32_t)made + 1))
            slot = (uint32_t)made + 1;
        else
            TlsFree(made);
    }
    char *block = csp__os_block();
    if (slot <= 64) return (csp__m **)(void *)(block + 0x1480) + (slot - 1);
    csp__m ***more = (csp__m ***)(void *)(block + 0x1780);
    if (*more == NULL) TlsSetValue(slot - 1, NULL);
    if (*more == NULL) csp__fatal("out of memory for a thread-local");
    return *more + (slot - 65);
}

CSP__FN inline csp__m **csp__os_tls(void)
{
    uint32_t slot = csp__relaxed(&csp__os_slot);
    if (CSP__UNLIKELY(slot - 1 >= 64)) return csp__os_tls_far();
    return (csp__m **)(void *)(csp__os_block() + 0x1480) + (slot - 1);
}
#define csp__tls (*csp__os_tls())

CSP__FN inline csp__m *csp__self(void)
{
    return csp__tls;
}

/* WORDS. A thread that waits without a limit sleeps in WaitOnAddress. That call counts limits in
 * ticks of 15.6 ms. So a thread that waits with a limit sleeps in a bed, until a timer of high
 * resolution or an event ends the sleep.
 *
 *   csp__os_wait, with a limit             csp__os_wake
 *   1 joins the list of the word's bed     1 the caller has changed the word
 *   2 counts itself in the bed; fence      2 fence
 *   3 *word == value? sleeps               3 is the count not 0? signals the word's sleepers
 *
 * One of the two fences is the later one. So either step 3 on the left sees the change, or step 3
 * on the right sees the count, and then finds the sleeper under the bed's lock. A sleeper whose
 * time is over leaves the list under that lock. If the waker was faster, the event is set. The
 * event is set and reset under the lock, so the next user of the pair finds it reset.
 *   A wake of n threads may end n sleeps in beds and n in WaitOnAddress: sleeps may end early. */
typedef struct csp__os_pair {
    struct csp__os_pair *next; // free, or in a bed
    HANDLE event, timer;       // immutable; used for one sleep after the other
    const uint32_t *word;      // NULL: woken
} csp__os_pair;
#define CSP__OS_BEDS 64
static struct csp__os_bed {
    SRWLOCK lock;
    csp__os_pair *first; // the pair that came first; guarded by lock
    uint32_t count;      // atomic, written under lock
} csp__os_beds[CSP__OS_BEDS];
static struct {
    SRWLOCK lock;
    csp__os_pair *free; // guarded by lock; kept for later sleeps, until csp__os_end
} csp__os_pairs;

typedef struct csp__os_word_calls {
    BOOL(WINAPI *wait)(volatile void *, void *, SIZE_T, DWORD);
    void(WINAPI *wake)(void *), (WINAPI * wake_all)(void *);
} csp__os_word_calls;

/* The calls exist since Windows 8. They are looked up, since no import library has them on each
 * version. */
CSP__FN const csp__os_word_calls *csp__os_words(void)
{
    static csp__os_word_calls calls;
    static uint32_t found; // rel/acq <words.found>
    if (CSP__LIKELY(csp__acquire(&found))) return &calls;
    static const char *const library = "api-ms-win-core-synch-l1-2-0.dll";
    void *wait = csp__os_library(library, "WaitOnAddress");
    void *wake = csp__os_library(library, "WakeByAddressSingle");
    void *wake_all = csp__os_library(library, "WakeByAddressAll");
    if (wait == NULL || wake == NULL || wake_all == NULL)
        csp__fatal("csp needs WaitOnAddress, which Windows has from version 8 on");
    /* Another thread may be writing the same values. */
    __atomic_store_n((void **)&calls.wait, wait, __ATOMIC_RELAXED);
    __atomic_store_n((void **)&calls.wake, wake, __ATOMIC_RELAXED);
    __atomic_store_n((void **)&calls.wake_all, wake_all, __ATOMIC_RELAXED);
    csp__release(&found, 1);
    return &calls;
}

CSP__FN csp__os_pair *csp__os_pair_get(void)
{
    AcquireSRWLockExclusive(&csp__os_pairs.lock);
    csp__os_pair *pair = csp__os_pairs.free;
    if (pair != NULL) csp__os_pairs.free = pair->next;
    ReleaseSRWLockExclusive(&csp__os_pairs.lock);
    if (pair != NULL) return pair;
    pair = (csp__os_pair *)csp__zalloc(sizeof *pair);
    if (pair == NULL) return NULL;
    pair->event = CreateEventW(NULL, FALSE, FALSE, NULL);
    /* 2: high resolution, which exists since Windows 10 1803. */
    pair->timer = CreateWaitableTimerExW(NULL, NULL, 2, TIMER_ALL_ACCESS);
    if (pair->timer == NULL) pair->timer = CreateWaitableTimerExW(NULL, NULL, 0, TIMER_ALL_ACCESS);
    if (pair->event != NULL && pair->timer != NULL) return pair;
    if (pair->event != NULL) CloseHandle(pair->event);
    if (pair->timer != NULL) CloseHandle(pair->timer);
    csp__free(pair);
    return NULL;
}

CSP__FN void csp__os_pair_put(csp__os_pair *pair)
{
    AcquireSRWLockExclusive(&csp__os_pairs.lock);
    pair->next = csp__os_pairs.free;
    csp__os_pairs.free = pair;
    ReleaseSRWLockExclusive(&csp__os_pairs.lock);
}

CSP__FN void csp__os_end(void)
{
    AcquireSRWLockExclusive(&csp__os_pairs.lock);
    csp__os_pair *pair = csp__os_pairs.free;
    csp__os_pairs.free = NULL;
    ReleaseSRWLockExclusive(&csp__os_pairs.lock);
    for (csp__os_pair *next; pair != NULL; pair = next) {
        next = pair->next;
        CloseHandle(pair->event);
        CloseHandle(pair->timer);
        csp__free(pair);
    }
}

CSP__FN struct csp__os_bed *csp__os_bed_of(const uint32_t *word)
{
    return &csp__os_beds[(uint64_t)(uintptr_t)word * UINT64_C(0x9E3779B97F4A7C15) >> 58];
}

/* Takes the pair at *at out of the list. The caller holds the bed's lock. */
CSP__FN void csp__os_bed_leave_locked(struct csp__os_bed *bed, csp__os_pair **at)
{
    csp__os_pair *pair = *at;
    *at = pair->next;
    pair->word = NULL;
    csp__set(&bed->count, bed->count - 1);
}

CSP__FN void csp__os_wait_limited(uint32_t *word, uint32_t value, int64_t ns)
{
    csp__os_pair *pair = csp__os_pair_get(), **at;
    if (pair == NULL) { /* out of memory or handles: a coarser limit */
        csp__os_words()->wait(word, &value, sizeof value, ns < CSP_SECOND ? 1 : 1000);
        return;
    }
    struct csp__os_bed *bed = csp__os_bed_of(word);
    HANDLE both[2] = {pair->event, pair->timer};
    LARGE_INTEGER due = {.QuadPart = -(ns < CSP_FOREVER / 2 ? (ns + 99) / 100 : ns / 100)};
    pair->word = word;
    pair->next = NULL;
    AcquireSRWLockExclusive(&bed->lock);
    for (at = &bed->first; *at != NULL;) at = &(*at)->next;
    *at = pair;
    csp__set(&bed->count, bed->count + 1);
    ReleaseSRWLockExclusive(&bed->lock);
    csp__fence();
    if (csp__acquire(word) == value && SetWaitableTimer(pair->timer, &due, 0, NULL, NULL, FALSE))
        WaitForMultipleObjects(2, both, FALSE, INFINITE);
    AcquireSRWLockExclusive(&bed->lock);
    if (pair->word != NULL) {
        for (at = &bed->first; *at != pair;) at = &(*at)->next;
        csp__os_bed_leave_locked(bed, at);
    } else {
        ResetEvent(pair->event); /* the timer and the event may both have fired */
    }
    ReleaseSRWLockExclusive(&bed->lock);
    csp__os_pair_put(pair);
}

CSP__FN void csp__os_wait(uint32_t *word, uint32_t value, int64_t ns)
{
    if (ns == CSP_FOREVER)
        csp__os_words()->wait(word, &value, sizeof value, INFINITE);
    else if (ns > 0 && csp__acquire(word) == value)
        csp__os_wait_limited(word, value, ns);
}

CSP__FN void csp__os_wake(uint32_t *word, int n)
{
    struct csp__os_bed *bed = csp__os_bed_of(word);
    csp__fence();
    if (n == 1)
        csp__os_words()->wake(word);
    else
        csp__os_words()->wake_all(word);
    if (csp__relaxed(&bed->count) == 0) return;
    AcquireSRWLockExclusive(&bed->lock);
    for (csp__os_pair **at = &bed->first, *pair; (pair = *at) != NULL && n > 0;) {
        if (pair->word != word) {
            at = &pair->next;
            continue;
        }
        csp__os_bed_leave_locked(bed, at);
        SetEvent(pair->event);
        n--;
    }
    ReleaseSRWLockExclusive(&bed->lock);
}

CSP__FN void csp__os_sleep(int64_t ns)
{
    uint32_t nobody = 0;
    csp__os_wait(&nobody, 0, ns);
}

/* FlushProcessWriteBuffers is not used as the barrier: what it promises depends on the processor,
 * and under wine it is no fence. Both sides of each handshake have a fence of their own. */
#define csp__os_barrier_open() false
#define csp__os_barrier() ((void)0)

/* STACKS. The kernel grows a stack at its guard page. The touched page becomes a plain page, and
 * the page below it is committed and becomes the guard page. The kernel does this for addresses
 * within the bounds that the thread has for its stack. csp__switch exchanges those bounds. Near the
 * end of the reservation the kernel commits the rest, as much as SetThreadStackGuarantee has asked
 * for, and raises an exception. The exception's handler runs on that rest. So below the usable
 * bytes of a stack, in its guard, lie
 *
 *   low - 32 KiB   the end of the reservation, as the thread is told
 *   + 1 page       never committed
 *   + 16 KiB       for the report
 *   + 3 pages      that the kernel, one version or another, keeps between that and the guard page
 *
 * A small stack has as much guard, too. Of a new stack two pages are committed, one of them the
 * guard page. Both count against the system's limit of committed memory: a million goroutines take
 * 8 GB of it, and half of that as memory. Packed stacks are committed as a whole. */
#define CSP__OS_GUARDS_FEW 0
#define CSP__OS_GUARD_LEAST 32768
#define CSP__OS_PAGE ((size_t)4096)
#define CSP__OS_GUARANTEE 16384

CSP__FN inline size_t csp__os_page(void)
{
    return CSP__OS_PAGE;
}

CSP__FN void *csp__os_pages_get(size_t size)
{
    return VirtualAlloc(NULL, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

CSP__FN void *csp__os_stacks_get(size_t size)
{
    return VirtualAlloc(NULL, size, MEM_RESERVE, PAGE_READWRITE);
}

CSP__FN void csp__os_pages_put(void *p, size_t size)
{
    (void)size;
    VirtualFree(p, 0, MEM_RELEASE);
}

CSP__FN void csp__os_stack_open(char *low, char *top)
{
    size_t size = (size_t)(top - low), page = CSP__OS_PAGE;
    char *from = size < 16384 ? (char *)((uintptr_t)low & ~(page - 1)) : top - 2 * page;
    DWORD was;
    if (VirtualAlloc(from, (size_t)(top - from), MEM_COMMIT, PAGE_READWRITE) == NULL ||
        (size >= 16384 && !VirtualProtect(from, page, PAGE_READWRITE | PAGE_GUARD, &was)))
        csp__fatal("out of memory for a stack: the system's commit limit is reached");
}

/* The address above the guard page: how far a stack with a guard has grown, perhaps under an
 * earlier goroutine. The system is asked, since no code of the goroutine runs when the stack grows.
 */
CSP__FN char *csp__os_stack_limit(const char *low)
{
    MEMORY_BASIC_INFORMATION is;
    if (VirtualQuery(low - CSP__OS_GUARD_LEAST, &is, sizeof is) == 0) return NULL;
    return (char *)is.BaseAddress + is.RegionSize + CSP__OS_PAGE;
}

/* base..low is the stack's guard. A stack without a guard is committed as a whole; csp__frame_init
 * has written its bounds. */
CSP__FN void csp__os_stack_frame(void *at, const char *base, const char *low)
{
    uintptr_t *frame = (uintptr_t *)at;
    frame[3] = CSP__OS_GUARANTEE;
    if (base == low) return;
    frame[1] = (uintptr_t)csp__os_stack_limit(low);
    frame[2] = (uintptr_t)low - CSP__OS_GUARD_LEAST;
}

/* The kernel grows only the stack that a thread runs on. So this commits the pages from `at` up,
 * and moves the guard page below `at`. */
CSP__FN void csp__os_stack_reach(const char *base, const char *low, const char *at)
{
    char *limit = base == low ? NULL : csp__os_stack_limit(low);
    char *guard = (char *)((uintptr_t)at & ~(CSP__OS_PAGE - 1)) - CSP__OS_PAGE;
    size_t size = CSP__OS_PAGE;
    DWORD was;
    if (at >= limit) return;
    if (VirtualAlloc(guard, (size_t)(limit - guard), MEM_COMMIT, PAGE_READWRITE) == NULL ||
        !VirtualProtect(guard + size, (size_t)(limit - guard) - size, PAGE_READWRITE, &was) ||
        !VirtualProtect(guard, size, PAGE_READWRITE | PAGE_GUARD, &was))
        csp__fatal("out of memory for a stack: the system's commit limit is reached");
}

/* Pages that are not committed are guarded already. */
#define csp__os_guard(p, size) ((void)(p), (void)(size), true)
#define csp__os_guard_few(p, size) ((void)(p), (void)(size), false)
#define csp__os_guards(spans, n) ((void)(spans), (void)(n), true)
#define csp__os_pages_touch(spans, n) ((void)(spans), (void)(n))

/* The highest page becomes the guard page again; it stays committed. The pages below it are given
 * back. They begin below `low`, where the stack may have grown to. */
CSP__FN void csp__os_pages_drop(const csp__span *spans, int n)
{
    for (int i = 0; i < n; i++) {
        char *base = (char *)spans[i].base, *keep = base + spans[i].size - CSP__OS_PAGE;
        DWORD was;
        base -= CSP__OS_GUARD_LEAST - CSP__OS_PAGE;
        if (VirtualProtect(keep, CSP__OS_PAGE, PAGE_READWRITE | PAGE_GUARD, &was))
            VirtualFree(base, (size_t)(keep - base), MEM_DECOMMIT);
    }
}

/* ---- threads ---- */

typedef HANDLE csp__os_thread;
typedef DWORD csp__os_key;
typedef int csp__os_mask; /* there are no masks of signals */
#define csp__os_mask_get(mask) ((void)(*(mask) = 0))
#define csp__os_mask_set(mask) ((void)(mask))

typedef struct csp__os_begin {
    void *(*fn)(void *);
    void *arg;
} csp__os_begin;

CSP__FN unsigned __stdcall csp__os_thread_main(void *arg)
{
    csp__os_begin begin = *(csp__os_begin *)arg;
    csp__free(arg);
    begin.fn(begin.arg);
    return 0;
}

CSP__FN int csp__os_thread_start(csp__os_thread *thread, void *(*fn)(void *), void *arg,
                                 size_t stack, bool quiet)
{
    csp__os_begin *begin = (csp__os_begin *)csp__alloc(sizeof *begin);
    (void)quiet; /* signal handlers run in threads of their own */
    if (begin == NULL) return ENOMEM;
    *begin = (csp__os_begin){fn, arg};
    uintptr_t made = _beginthreadex(NULL, (unsigned)stack, csp__os_thread_main, begin,
                                    STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    *thread = (HANDLE)made;
    if (made != 0) return 0;
    csp__free(begin);
    return EAGAIN;
}

CSP__FN int csp__os_thread_join(csp__os_thread thread)
{
    if (WaitForSingleObject(thread, INFINITE) != WAIT_OBJECT_0) return EINVAL;
    CloseHandle(thread);
    return 0;
}

CSP__FN void csp__os_thread_begin(void)
{
    ULONG bytes = CSP__OS_GUARANTEE;
    SetThreadStackGuarantee(&bytes);
}

#define csp__os_stack_follow() ((void)0)            /* csp__switch does this */
#define csp__os_first_stack(at) ((void)(at), false) /* needed after a fork only */
#if CSP__ASAN
#error "csp.h: AddressSanitizer is not supported on Windows"
#endif

/* One key at a time, as csp has only one. FlsFree calls the function for each thread that has a
 * value, so csp__os_key_delete forgets the function first. */
static void (*csp__os_key_fn)(void *); // atomic
CSP__FN void WINAPI csp__os_key_ends(void *value)
{
    void (*fn)(void *) = csp__acquire(&csp__os_key_fn);
    if (fn != NULL && value != NULL) fn(value);
}

CSP__FN int csp__os_key_make(csp__os_key *key, void (*fn)(void *))
{
    *key = FlsAlloc(csp__os_key_ends);
    if (*key == FLS_OUT_OF_INDEXES) return EAGAIN;
    csp__release(&csp__os_key_fn, fn);
    return 0;
}

CSP__FN void csp__os_key_set(csp__os_key key, void *value)
{
    FlsSetValue(key, value);
}

CSP__FN void csp__os_key_delete(csp__os_key key)
{
    csp__release(&csp__os_key_fn, NULL);
    FlsFree(key);
}

/* The threads of this process. Threads that the system has made to load libraries count, too: a
 * thread of the system's pool may be about to wake a goroutine. */
CSP__FN int csp__os_threads(void)
{
    static LONG(WINAPI * next)(HANDLE, HANDLE, ULONG, ULONG, ULONG, HANDLE *); // atomic
    if (csp__relaxed(&next) == NULL) {
        void *found = csp__os_library("ntdll.dll", "NtGetNextThread");
        if (found == NULL) return -1;
        __atomic_store_n((void **)&next, found, __ATOMIC_RELAXED);
    }
    int n = 0;
    HANDLE last = NULL, now;
    while (next(GetCurrentProcess(), last, 0x0800 /* QUERY_LIMITED_INFORMATION */, 0, 0, &now) ==
           0) {
        if (last != NULL) CloseHandle(last);
        /* A thread that has ended stays in the list while there are handles of it. */
        if (WaitForSingleObject(now, 0) != WAIT_OBJECT_0) n++;
        last = now;
    }
    if (last != NULL) CloseHandle(last);
    return n > 0 ? n : -1;
}

/* The CPUs of the process. With one group of up to 64 CPUs these are the CPUs of its mask. With
 * several groups all of their CPUs count. The hard cap of its job, rounded up, limits the number.
 */
CSP__FN int csp__os_cpus(void)
{
    USHORT groups[64], n = 64;
    DWORD_PTR mine = 0, all = 0;
    JOBOBJECT_CPU_RATE_CONTROL_INFORMATION rate;
    int cpus = 0, total = (int)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
    if (GetProcessGroupAffinity(GetCurrentProcess(), &n, groups) && n > 1)
        for (int i = 0; i < n; i++) cpus += (int)GetActiveProcessorCount(groups[i]);
    else if (GetProcessAffinityMask(GetCurrentProcess(), &mine, &all))
        cpus = __builtin_popcountll(mine);
    if (cpus < 1) cpus = total < 1 ? 1 : total;
    if (QueryInformationJobObject(NULL, JobObjectCpuRateControlInformation, &rate, sizeof rate,
                                  NULL) &&
        (rate.ControlFlags & 5) == 5 /* ENABLE, HARD_CAP */) {
        int quota = (int)(((int64_t)rate.CpuRate * total + 9999) / 10000);
        if (quota >= 1 && quota < cpus) cpus = quota;
    }
    return cpus;
}

#ifdef __MINGW32__
extern void *__cxa_get_globals(void) __attribute__((weak));
CSP__FN void **csp__os_cxa_globals(void)
{
    return __cxa_get_globals == NULL ? NULL : (void **)__cxa_get_globals();
}
#else
#define csp__os_cxa_globals() ((void **)NULL)
#endif

/* Exceptions pass through frames of C, since each function has a table for that. So csp_try in C++
 * throws at once. csp_exit leaves frames without running their destructors. */
#define CSP__OS_UNWINDS 0
typedef void (*csp__os_terminate)(void);
CSP__FN csp__os_terminate csp__os_cxa_terminate(csp__os_terminate handler)
{
    (void)handler;
    return NULL;
}
#define csp__os_cxa_uncaught(text, size) ((void)(text), (void)(size), false)
#define CSP__OS_ABSTRACT 0

#define csp__os_warm() ((void)0)         /* nothing is bound lazily */
#define csp__os_on_fork(fn) ((void)(fn)) /* there is no fork */
#define csp__os_forked() ((void)0)

CSP__FN void csp__os_stay_loaded(void)
{
    HMODULE self;
    GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                       (const char *)&csp__os_slot, &self);
}

CSP__FN bool csp__os_readable(const void *p)
{
    MEMORY_BASIC_INFORMATION is;
    return VirtualQuery(p, &is, sizeof is) != 0 && is.State == MEM_COMMIT &&
           !(is.Protect & (PAGE_NOACCESS | PAGE_GUARD)) &&
           (const char *)p + 8 <= (const char *)is.BaseAddress + is.RegionSize;
}

/* Finds the object and the place in it; functions have no names at run time. One caller at a time,
 * since the path is static. */
CSP__FN bool csp__os_symbol(uintptr_t pc, csp__os_symbols *s)
{
    static char path[MAX_PATH];
    HMODULE object;
    if (!GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS |
                                GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                            (const char *)pc, &object))
        return false;
    if (GetModuleFileNameA(object, path, sizeof path) == 0) return false;
    path[sizeof path - 1] = 0;
    const char *name = strrchr(path, '\\');
    *s = (csp__os_symbols){name == NULL ? path : name + 1, NULL, pc - (uintptr_t)object, 0};
    return true;
}

/* ---- signals: faults are exceptions, the others come from the console or raise ---- */

/* SIGSEGV, SIGFPE and SIGILL of a C program are exceptions here. A vectored handler sees each
 * exception before the program's own __try blocks do. It handles csp's own, an overflow or a probe,
 * and lets the search go on for the others. The last filter sees the exceptions that no handler has
 * taken: the process is about to die.
 *   SIGABRT, SIGINT, SIGTERM and SIGBREAK are the C library's signals, which raise() also sends.
 * The console's close button, a logoff and a shutdown are SIGTERM. */
enum { CSP__HANDLER_OFF, CSP__HANDLER_ON, CSP__HANDLER_LEFT };
typedef struct csp__os_info {
    char *at;
    bool unhandled;
} csp__os_info;
typedef void csp__os_on_signal(int signo, csp__os_info *info, void *context);
typedef struct csp__os_handler {
    csp__os_on_signal *old; // the handler of csp's that it has replaced
    void (*old_c)(int);     // the C library's that it has replaced
    uint8_t state;          // atomic, relaxed: read by the handler
} csp__os_handler;
static bool csp__os_handlers_left;

#define CSP__OS_SIGNALS 32
enum { CSP__OS_MEMORY_FAULTS = 1, CSP__OS_FAULTS = 4 };
static const int csp__os_faults[CSP__OS_FAULTS] = {SIGSEGV, SIGFPE, SIGILL, SIGABRT};
static struct {
    csp__os_on_signal *fns[CSP__OS_SIGNALS]; // atomic
    uint32_t set;                            // 1: both handlers of exceptions are set
    LPTOP_LEVEL_EXCEPTION_FILTER last;       // the filter that ours has replaced
} csp__os_signals;

CSP__FN int csp__os_exception_signal(DWORD code)
{
    switch (code) {
    case EXCEPTION_STACK_OVERFLOW:
    case EXCEPTION_ACCESS_VIOLATION:
    case EXCEPTION_IN_PAGE_ERROR: return SIGSEGV;
    case EXCEPTION_ILLEGAL_INSTRUCTION:
    case EXCEPTION_PRIV_INSTRUCTION: return SIGILL;
    case EXCEPTION_INT_DIVIDE_BY_ZERO:
    case EXCEPTION_INT_OVERFLOW:
    case EXCEPTION_FLT_DIVIDE_BY_ZERO:
    case EXCEPTION_FLT_INVALID_OPERATION:
    case EXCEPTION_FLT_OVERFLOW:
    case EXCEPTION_FLT_UNDERFLOW:
    case EXCEPTION_FLT_INEXACT_RESULT: return SIGFPE;
    default: return 0;
    }
}

CSP__FN void csp__os_exception(EXCEPTION_POINTERS *e, bool unhandled)
{
    const EXCEPTION_RECORD *r = e->ExceptionRecord;
    int signo = csp__os_exception_signal(r->ExceptionCode);
    csp__os_on_signal *fn = csp__acquire(&csp__os_signals.fns[signo]);
    if (signo == 0 || fn == NULL) return;
    csp__os_info info = {r->NumberParameters > 1 ? (char *)r->ExceptionInformation[1] : NULL,
                         unhandled};
    /* The kernel raises this exception near the end of the stack's reservation. */
    if (r->ExceptionCode == EXCEPTION_STACK_OVERFLOW)
        info.at = *(char **)(void *)(csp__os_block() + 0x1478);
    fn(signo, &info, e->ContextRecord);
}

CSP__FN LONG WINAPI csp__os_exception_first(EXCEPTION_POINTERS *e)
{
    csp__os_exception(e, false);
    return EXCEPTION_CONTINUE_SEARCH;
}

CSP__FN LONG WINAPI csp__os_exception_last(EXCEPTION_POINTERS *e)
{
    csp__os_exception(e, true);
    return csp__os_signals.last != NULL ? csp__os_signals.last(e) : EXCEPTION_CONTINUE_SEARCH;
}

/* The C library unsets a handler before it calls it, so this sets it again. */
CSP__FN void csp__os_on_c_signal(int signo)
{
    csp__os_info info = {NULL, false};
    csp__os_on_signal *fn = csp__acquire(&csp__os_signals.fns[signo]);
    if (fn == NULL) return;
    signal(signo, csp__os_on_c_signal);
    fn(signo, &info, NULL);
}

/* The process ends when this function returns, or after some seconds. So it does not return, and
 * the program has those seconds. */
CSP__FN BOOL WINAPI csp__os_on_console(DWORD what)
{
    if (what != CTRL_CLOSE_EVENT && what != CTRL_LOGOFF_EVENT && what != CTRL_SHUTDOWN_EVENT)
        return FALSE;
    csp__os_info info = {NULL, false};
    csp__os_on_signal *fn = csp__acquire(&csp__os_signals.fns[SIGTERM]);
    if (fn == NULL) return FALSE;
    fn(SIGTERM, &info, NULL);
    Sleep(INFINITE);
    return TRUE;
}

CSP__FN bool csp__os_handler_is(int signo, csp__os_on_signal *fn)
{
    return csp__relaxed(&csp__os_signals.fns[signo]) == fn;
}

CSP__FN bool csp__os_handler_set(csp__os_handler *h, int signo, csp__os_on_signal *fn,
                                 bool of_fault)
{
    bool exception = of_fault && signo != SIGABRT;
    if (h->state == CSP__HANDLER_OFF) {
        h->old = csp__relaxed(&csp__os_signals.fns[signo]);
        h->old_c = SIG_DFL;
        csp__release(&csp__os_signals.fns[signo], fn);
        if (!exception) h->old_c = signal(signo, csp__os_on_c_signal);
        if (!exception && h->old_c == SIG_ERR) return false;
        if (exception && csp__swap(&csp__os_signals.set, 1) == 0) {
            AddVectoredExceptionHandler(1, csp__os_exception_first);
            csp__os_signals.last = SetUnhandledExceptionFilter(csp__os_exception_last);
            csp__os_handlers_left = true; /* a later filter may keep ours as the one to call */
        }
        if (signo == SIGTERM) SetConsoleCtrlHandler(csp__os_on_console, TRUE);
    }
    csp__set(&h->state, CSP__HANDLER_ON);
    return true;
}

CSP__FN void csp__os_handler_unset(csp__os_handler *h, int signo, csp__os_on_signal *fn)
{
    if (h->state != CSP__HANDLER_ON) return;
    csp__set(&h->state, CSP__HANDLER_OFF);
    if (csp__os_handler_is(signo, fn)) csp__release(&csp__os_signals.fns[signo], h->old);
    if (signo == SIGTERM) SetConsoleCtrlHandler(csp__os_on_console, FALSE);
    if (h->old == NULL && csp__os_exception_signal(EXCEPTION_ACCESS_VIOLATION) != signo &&
        signo != SIGFPE && signo != SIGILL)
        signal(signo, h->old_c);
}

/* Exceptions go on to the next handler without a call. */
CSP__FN void csp__os_handler_pass(const csp__os_handler *h, int signo, csp__os_info *info,
                                  void *context)
{
    if (h->old != NULL) h->old(signo, info, context);
}

CSP__FN bool csp__os_fault_kills(const csp__os_handler *h, const csp__os_info *info)
{
    return h->old == NULL && info->unhandled;
}

CSP__FN const char *csp__os_fault_name(int signo)
{
    return signo == SIGSEGV ? "access violation" : "exception";
}

CSP__FN char *csp__os_fault_at(const csp__os_info *info)
{
    return info->at;
}

CSP__FN char *csp__os_fault_sp(const void *context)
{
#ifdef __x86_64__
    return (char *)((const CONTEXT *)context)->Rsp;
#else
    return (char *)((const CONTEXT *)context)->Sp;
#endif
}

CSP__FN uintptr_t csp__os_fault_pc(const void *context)
{
#ifdef __x86_64__
    return (uintptr_t)((const CONTEXT *)context)->Rip;
#else
    return (uintptr_t)((const CONTEXT *)context)->Pc;
#endif
}

typedef char csp__os_alt; /* a handler runs on the stack that it interrupts, or in another thread */
#define csp__os_alt_set(memory, size, was) ((void)(memory), (void)(size), (void)(was))
#define csp__os_alt_reset(was) ((void)(was))

/* QUIT is Ctrl-Break: on Windows it asks a program for what SIGQUIT asks for elsewhere. */
CSP__FN int csp__os_signal_number(const char *name)
{
    return strcmp(name, "INT") == 0                                  ? SIGINT
           : strcmp(name, "TERM") == 0                               ? SIGTERM
           : strcmp(name, "BREAK") == 0 || strcmp(name, "QUIT") == 0 ? SIGBREAK
                                                                     : 0;
}

CSP__FN bool csp__os_signal_fixed(int signo)
{
    return signo != SIGINT && signo != SIGTERM && signo != SIGBREAK;
}

/* ---- descriptors ---- */

/* Turns an error of the system, or of its sockets, into a negative errno. */
CSP__FN int csp__os_error(DWORD code)
{
    static const struct {
        DWORD code;
        int error;
    } known[] = {
        {WSAEWOULDBLOCK, EAGAIN},
        {WSAEINPROGRESS, EINPROGRESS},
        {WSAEALREADY, EALREADY},
        {WSAENOTSOCK, ENOTSOCK},
        {WSAEMSGSIZE, EMSGSIZE},
        {WSAEPROTOTYPE, EPROTOTYPE},
        {WSAEPROTONOSUPPORT, EPROTONOSUPPORT},
        {WSAEOPNOTSUPP, EOPNOTSUPP},
        {WSAEAFNOSUPPORT, EAFNOSUPPORT},
        {WSAEADDRINUSE, EADDRINUSE},
        {WSAEADDRNOTAVAIL, EADDRNOTAVAIL},
        {WSAENETDOWN, ENETDOWN},
        {WSAENETUNREACH, ENETUNREACH},
        {WSAEHOSTUNREACH, EHOSTUNREACH},
        {WSAECONNABORTED, ECONNABORTED},
        {WSAECONNRESET, ECONNRESET},
        {WSAENETRESET, ECONNRESET},
        {WSAENOBUFS, ENOBUFS},
        {WSAEISCONN, EISCONN},
        {WSAENOTCONN, ENOTCONN},
        {WSAESHUTDOWN, EPIPE},
        {WSAETIMEDOUT, ETIMEDOUT},
        {WSAECONNREFUSED, ECONNREFUSED},
        {WSAEMFILE, EMFILE},
        {WSAEACCES, EACCES},
        {WSAEINTR, EINTR},
        {WSAEINVAL, EINVAL},
        {WSAEFAULT, EFAULT},
        {WSAEBADF, EBADF},
        {ERROR_INVALID_HANDLE, EBADF},
        {ERROR_ACCESS_DENIED, EACCES},
        {ERROR_FILE_NOT_FOUND, ENOENT},
        {ERROR_PATH_NOT_FOUND, ENOENT},
        {ERROR_SHARING_VIOLATION, EBUSY},
        {ERROR_BROKEN_PIPE, EPIPE},
        {ERROR_NO_DATA, EPIPE},
        {ERROR_NOT_ENOUGH_MEMORY, ENOMEM},
        {ERROR_DISK_FULL, ENOSPC},
        {ERROR_TOO_MANY_OPEN_FILES, EMFILE},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].code == code) return -known[i].error;
    return -EIO;
}

CSP__FN int csp__os_socket_failed(void)
{
    return csp__os_error((DWORD)WSAGetLastError());
}

/* Starts the system's socket library, at the first call that needs it. The library is never
 * stopped. */
CSP__FN int csp__os_net(void)
{
    static uint32_t started; // atomic
    WSADATA data;
    if (CSP__LIKELY(csp__acquire(&started))) return 0;
    int e = WSAStartup(MAKEWORD(2, 2), &data);
    if (e != 0) return csp__os_error((DWORD)e);
    csp__release(&started, 1);
    return 0;
}

CSP__FN int csp__os_option(int fd, int option)
{
    int value = 0, size = sizeof value;
    if (fd < 0) return -EBADF;
    int e = csp__os_net();
    if (e < 0) return e;
    return getsockopt((SOCKET)fd, SOL_SOCKET, option, (char *)&value, &size) == 0
               ? value
               : csp__os_socket_failed();
}

#define csp__os_socket_type(fd) csp__os_option(fd, SO_TYPE)
#define csp__os_socket_listens(fd) csp__os_option(fd, SO_ACCEPTCONN)

CSP__FN int csp__os_socket_error(int fd)
{
    int e = csp__os_option(fd, SO_ERROR);
    return e > 0 ? -csp__os_error((DWORD)e) : e;
}

CSP__FN bool csp__os_open(int fd)
{
    DWORD flags;
    return fd >= 0 && GetHandleInformation(csp__os_handle(fd), &flags);
}

CSP__FN csp_ssize csp__os_recv(int fd, void *buffer, size_t size, struct sockaddr *from,
                               socklen_t *length)
{
    int most = size > INT32_MAX ? INT32_MAX : (int)size;
    int n = recvfrom((SOCKET)fd, (char *)buffer, most, 0, from, from == NULL ? NULL : length);
    if (n >= 0) return n;
    if (WSAGetLastError() == WSAEMSGSIZE) return most; /* a datagram's rest is lost, as elsewhere */
    return csp__os_socket_failed();
}

CSP__FN csp_ssize csp__os_send(int fd, const void *buffer, size_t size, const struct sockaddr *to,
                               socklen_t length)
{
    int most = size > INT32_MAX ? INT32_MAX : (int)size;
    int n = sendto((SOCKET)fd, (const char *)buffer, most, 0, to, length);
    return n >= 0 ? n : csp__os_socket_failed();
}

CSP__FN csp_ssize csp__os_read(int fd, void *buffer, size_t size)
{
    DWORD n = 0, most = size > INT32_MAX ? INT32_MAX : (DWORD)size;
    if (fd < 0) return -EBADF;
    if (csp__os_option(fd, SO_TYPE) > 0) return csp__os_recv(fd, buffer, size, NULL, NULL);
    if (ReadFile(csp__os_handle(fd), buffer, most, &n, NULL)) return n;
    DWORD e = GetLastError();
    return e == ERROR_BROKEN_PIPE || e == ERROR_HANDLE_EOF ? 0 : csp__os_error(e);
}

CSP__FN csp_ssize csp__os_write(int fd, const void *buffer, size_t size)
{
    DWORD n = 0, most = size > INT32_MAX ? INT32_MAX : (DWORD)size;
    if (fd < 0) return -EBADF;
    if (csp__os_option(fd, SO_TYPE) > 0) return csp__os_send(fd, buffer, size, NULL, 0);
    if (WriteFile(csp__os_handle(fd), buffer, most, &n, NULL)) return n;
    return csp__os_error(GetLastError());
}
#define csp__os_write_file csp__os_write

CSP__FN csp_ssize csp__os_send_parts(int fd, const struct iovec *parts, int n)
{
    WSABUF few[16], *all = few;
    DWORD sent = 0;
    if (n > 16 && (all = (WSABUF *)csp__alloc((size_t)n * sizeof *all)) == NULL) return -ENOMEM;
    for (int i = 0; i < n; i++) {
        size_t size = parts[i].iov_len;
        all[i].len = size > INT32_MAX ? INT32_MAX : (ULONG)size;
        all[i].buf = (char *)parts[i].iov_base;
        if (size > INT32_MAX) n = i + 1;
    }
    int e = WSASend((SOCKET)fd, all, (DWORD)n, &sent, 0, NULL, NULL);
    if (e != 0) e = csp__os_socket_failed();
    if (all != few) csp__free(all);
    return e < 0 ? e : (csp_ssize)sent;
}

CSP__FN csp_ssize csp__os_write_parts(int fd, const struct iovec *parts, int n)
{
    csp_ssize done = 0;
    if (fd >= 0 && csp__os_option(fd, SO_TYPE) > 0) return csp__os_send_parts(fd, parts, n);
    for (int i = 0; i < n; i++) {
        csp_ssize k = csp__os_write(fd, parts[i].iov_base, parts[i].iov_len);
        if (k < 0) return done > 0 ? done : k;
        done += k;
        if ((size_t)k < parts[i].iov_len) break;
    }
    return done;
}

/* Reads at an offset. The system has no call for this that leaves the file's position alone. So the
 * position moves, and is put back afterwards. */
CSP__FN csp_ssize csp__os_read_at(int fd, void *buffer, size_t size, int64_t offset)
{
    HANDLE h = csp__os_handle(fd);
    OVERLAPPED at = {.Offset = (DWORD)(uint64_t)offset, .OffsetHigh = (DWORD)(offset >> 32)};
    LARGE_INTEGER was, none = {.QuadPart = 0};
    DWORD n = 0, most = size > INT32_MAX ? INT32_MAX : (DWORD)size;
    if (GetFileType(h) != FILE_TYPE_DISK) return -ESPIPE;
    if (!SetFilePointerEx(h, none, &was, FILE_CURRENT)) return csp__os_error(GetLastError());
    bool ok = ReadFile(h, buffer, most, &n, &at) != 0;
    DWORD e = ok ? 0 : GetLastError();
    SetFilePointerEx(h, was, NULL, FILE_BEGIN);
    return ok ? (csp_ssize)n : e == ERROR_HANDLE_EOF ? 0 : csp__os_error(e);
}

#define csp__os_send_file(out, in, offset, n) ((void)(out), (void)(in), (void)(offset), -ENOSYS)
#define csp__os_read_now(fd, buffer, size) ((void)(fd), (void)(buffer), (void)(size), -ENOSYS)

CSP__FN int csp__os_close(int fd)
{
    if (fd < 0) return -EBADF;
    if (csp__os_option(fd, SO_TYPE) > 0)
        return closesocket((SOCKET)fd) == 0 ? 0 : csp__os_socket_failed();
    return CloseHandle(csp__os_handle(fd)) ? 0 : csp__os_error(GetLastError());
}

/* poll(2) for sockets, with a limit in ms. WSAPoll takes no other requests than POLLIN and POLLOUT.
 */
CSP__FN int csp__os_poll(struct pollfd *p, uint32_t n, int ms)
{
    int ready = WSAPoll(p, n, ms);
    return ready >= 0 ? ready : csp__os_socket_failed();
}
#define CSP__OS_POLLIN POLLIN
#define CSP__OS_POLLED(fd) ((SOCKET)(fd))

typedef SRWLOCK csp__os_lock;
#define csp__os_lock_make(lock) InitializeSRWLock(lock)
#define csp__os_lock_take(lock) AcquireSRWLockExclusive(lock)
#define csp__os_lock_drop(lock) ReleaseSRWLockExclusive(lock)

CSP__FN int csp__os_ready(int fd, int what)
{
    struct pollfd p = {(SOCKET)fd, 0, 0};
    DWORD there = 0;
    if (fd < 0) return -EBADF;
    if (csp__os_option(fd, SO_TYPE) <= 0) {
        if (!csp__os_open(fd)) return -EBADF;
        HANDLE h = csp__os_handle(fd);
        if (what & CSP_WRITABLE || GetFileType(h) != FILE_TYPE_PIPE) return what;
        return PeekNamedPipe(h, NULL, 0, NULL, &there, NULL) && there == 0 ? 0 : what;
    }
    p.events = (short)((what & CSP_READABLE ? POLLIN : 0) | (what & CSP_WRITABLE ? POLLOUT : 0));
    int n = csp__os_poll(&p, 1, 0);
    if (n < 0) return n;
    if (p.revents & POLLNVAL) return -EBADF;
    if (p.revents & (POLLERR | POLLHUP)) return what;
    return (p.revents & POLLIN ? CSP_READABLE : 0) | (p.revents & POLLOUT ? CSP_WRITABLE : 0);
}

/* A descriptor that is no socket counts as always ready, as far as can be known: it is read and
 * written within csp_blocking. The descriptor itself is the number that no other open file has. */
CSP__FN int csp__os_look(int fd, csp__os_file *file)
{
    u_long on = 1;
    *file = (csp__os_file){CSP__OS_OTHER, 0, 0};
    if (fd < 0) return -EBADF;
    bool socket = csp__os_option(fd, SO_TYPE) > 0;
    if (!socket && !csp__os_open(fd)) return -EBADF;
    if (socket) ioctlsocket((SOCKET)fd, (long)FIONBIO, &on);
    *file = (csp__os_file){socket ? CSP__OS_SOCKET : CSP__OS_REGULAR, 1, (uint64_t)fd};
    return 0;
}

#define csp__os_look_at(path, file) ((void)(path), (void)(file), -ENOSYS)
#define csp__os_modes(fd) ((void)(fd), CSP__OS_READS | CSP__OS_WRITES)

CSP__FN int csp__os_create(const char *path)
{
    HANDLE h = CreateFileA(path, GENERIC_WRITE, FILE_SHARE_READ, NULL, CREATE_ALWAYS,
                           FILE_ATTRIBUTE_NORMAL, NULL);
    return h == INVALID_HANDLE_VALUE ? csp__os_error(GetLastError()) : (int)(intptr_t)h;
}

CSP__FN int csp__os_remove(const char *path)
{
    return DeleteFileA(path) ? 0 : csp__os_error(GetLastError());
}

/* ---- sockets ---- */

/* AF_UNIX is refused: csp_close_fd would leave the socket's name behind in the file system. */
CSP__FN int csp__os_socket(int family, int type)
{
    u_long on = 1;
    BOOL off = FALSE;
    DWORD done;
    int e = family == AF_UNIX ? -EAFNOSUPPORT : csp__os_net();
    if (e < 0) return e;
    SOCKET s = WSASocketW(family, type, 0, NULL, 0,
                          WSA_FLAG_OVERLAPPED | 0x80 /* WSA_FLAG_NO_HANDLE_INHERIT */);
    if (s == INVALID_SOCKET) return csp__os_socket_failed();
    ioctlsocket(s, (long)FIONBIO, &on);
    if (type == SOCK_DGRAM) /* without this, an absent peer is an error of the next recv */
        WSAIoctl(s, 0x9800000C /* SIO_UDP_CONNRESET */, &off, sizeof off, NULL, 0, &done, NULL,
                 NULL);
    return (int)s;
}

CSP__FN int csp__os_accept(int fd)
{
    u_long on = 1;
    SOCKET s = accept((SOCKET)fd, NULL, NULL);
    if (s != INVALID_SOCKET) {
        ioctlsocket(s, (long)FIONBIO, &on);
        SetHandleInformation((HANDLE)s, HANDLE_FLAG_INHERIT, 0);
        return (int)s;
    }
    int e = csp__os_socket_failed();
    return e == -ECONNRESET || e == -ECONNABORTED ? -EINTR : e; /* the peer gave up */
}

CSP__FN int csp__os_bind(int fd, const struct sockaddr *at, socklen_t length)
{
    if (bind((SOCKET)fd, at, length) == 0) return 0;
    int e = csp__os_socket_failed(); /* WSAEACCES: another socket has exclusive use */
    return e == -EACCES ? -EADDRINUSE : e;
}

CSP__FN int csp__os_listen(int fd, int backlog)
{
    return listen((SOCKET)fd, backlog) == 0 ? 0 : csp__os_socket_failed();
}

CSP__FN int csp__os_connect(int fd, const struct sockaddr *at, socklen_t length)
{
    if (connect((SOCKET)fd, at, length) == 0) return 0;
    int e = csp__os_socket_failed();
    return e == -EAGAIN ? -EINPROGRESS : e;
}

CSP__FN int csp__os_shutdown(int fd) // of the writing side
{
    return shutdown((SOCKET)fd, SD_SEND) == 0 ? 0 : csp__os_socket_failed();
}

CSP__FN void csp__os_set(int fd, int level, int option, int value)
{
    setsockopt((SOCKET)fd, level, option, (const char *)&value, sizeof value);
}
#define csp__os_set_nodelay(fd) csp__os_set(fd, IPPROTO_TCP, TCP_NODELAY, 1)
#define csp__os_set_both(fd) csp__os_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0)
/* Windows lets a listener take an address that ended connections still have. SO_REUSEADDR would
 * also let it take the address of another listener. */
#define csp__os_set_reuse(fd) csp__os_set(fd, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1)

CSP__FN int csp__os_local(int fd, struct sockaddr *at, socklen_t *length)
{
    return getsockname((SOCKET)fd, at, length) == 0 ? 0 : csp__os_socket_failed();
}

CSP__FN int csp__os_peer(int fd, struct sockaddr *at, socklen_t *length)
{
    return getpeername((SOCKET)fd, at, length) == 0 ? 0 : csp__os_socket_failed();
}

/* Two connected sockets, since WSAPoll waits for sockets only, not for pipes. They are datagram
 * sockets, which connect without a listener. */
CSP__FN int csp__os_pipe(int *fds)
{
    struct sockaddr_in at[2];
    int e = 0;
    fds[0] = fds[1] = -1;
    for (int i = 0; i < 2 && e == 0; i++) {
        socklen_t length = sizeof at[i];
        at[i] = (struct sockaddr_in){.sin_family = AF_INET};
        at[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fds[i] = csp__os_socket(AF_INET, SOCK_DGRAM);
        e = fds[i] < 0 ? fds[i] : csp__os_bind(fds[i], (struct sockaddr *)&at[i], length);
        if (e == 0) e = csp__os_local(fds[i], (struct sockaddr *)&at[i], &length);
    }
    for (int i = 0; i < 2 && e == 0; i++)
        e = csp__os_connect(fds[i], (struct sockaddr *)&at[1 - i], sizeof at[i]);
    for (int i = 0; i < 2 && e != 0; i++)
        if (fds[i] >= 0) csp__os_close(fds[i]);
    return e;
}

CSP__FN int csp__os_resolve(const char *host, int type,
                            void (*add)(void *to, struct sockaddr *address, size_t size), void *to)
{
    struct addrinfo hints = {.ai_socktype = type}, *list = NULL;
    int e = csp__os_net();
    if (e < 0) return e;
    e = getaddrinfo(host, NULL, &hints, &list);
    if (e != 0) return e == EAI_MEMORY ? -ENOMEM : e == EAI_AGAIN ? -EAGAIN : -ENOENT;
    for (struct addrinfo *a = list; a != NULL; a = a->ai_next) add(to, a->ai_addr, a->ai_addrlen);
    freeaddrinfo(list);
    return 0;
}

CSP__FN uint16_t csp__os_port(unsigned n)
{
    return htons((uint16_t)n);
}

CSP__FN bool csp__os_ip_read(int family, const char *text, void *to)
{
    return inet_pton(family, text, to) == 1;
}

CSP__FN void csp__os_ip_text(int family, const void *from, char *out, socklen_t size)
{
    if (inet_ntop(family, from, out, (size_t)size) == NULL) *out = 0;
}

/* These two are looked up at run time. Otherwise every program would have to be linked with
 * iphlpapi for them. */
enum { CSP__OS_SCOPE = 256 };
CSP__FN uint32_t csp__os_scope_number(const char *name)
{
    void *found = csp__os_library("iphlpapi.dll", "if_nametoindex");
    ULONG(WINAPI * call)(const char *);
    if (found == NULL) return 0;
    memcpy(&call, &found, sizeof call);
    return call(name);
}

CSP__FN const char *csp__os_scope_name(uint32_t number, char *out)
{
    void *found = csp__os_library("iphlpapi.dll", "if_indextoname");
    char *(WINAPI * call)(ULONG, char *);
    if (found == NULL) return NULL;
    memcpy(&call, &found, sizeof call);
    return call(number, out);
}
#endif

/* ==========================================================================
 * [7] EVENTS - waiting for descriptors: one back-end of three
 *
 *   uses   PLATFORM BASE SYSTEM
 *   locks  none
 * ======================================================================== */

/* ---- waiting for descriptors: one back-end of three ----
 *
 *   open   0 or a negative errno
 *   add    from now on the back-end reports when fd becomes readable or writable, and reports at
 *          once if it already is. A second call begins anew. -EPERM: fd is of a kind that is always
 *          ready, as regular files are
 *   arm    a goroutine has begun to wait for these directions of an added fd
 *   del    the back-end reports nothing more of fd; called before the close
 *   wait   returns up to CSP__EVQ_LOT reports, after ns nanoseconds at most; may return early
 *   wake   ends the wait under way, or the next one; may be called in a signal handler
 *
 * back-end | reports              | arm             | tested on
 * epoll    | once per change      | nothing to do   | Linux
 * poll     | once per arm         | asks the system | Linux, wine
 * kqueue   | once per change      | nothing to do   | compiled only
 */
/* MORE: urgent data, or the end of the stream. A short read may leave them behind. */
enum { CSP__EVQ_IN = 1, CSP__EVQ_OUT = 2, CSP__EVQ_MORE = 4, CSP__EVQ_LOT = 128 };
typedef struct csp__evq_event {
    int fd;       // -1: csp__evq_wake was called
    uint32_t gen; // the one that was given to csp__evq_add
    int dirs;     // CSP__EVQ_IN, _OUT, _MORE
} csp__evq_event;

#define CSP__PORT_SLEEPERS                                                                         \
    (CSP_POLLER == 3 ? 1u : UINT32_MAX) /* threads that may sleep in it at a time */
#if CSP_POLLER != 3
#define csp__evq_arm(fd, gen, dirs) ((void)(fd), (void)(gen), (void)(dirs))
#endif
#if CSP_POLLER != 2
/* ns in milliseconds, rounded up, for system calls that take nothing finer. */
CSP__FN int csp__poll_ms(int64_t ns)
{
    if (ns == CSP_FOREVER) return -1;
    return ns > 1000000 * CSP_SECOND ? 1000000000
                                     : (int)((ns + CSP_MILLISECOND - 1) / CSP_MILLISECOND);
}
#endif

#if CSP_POLLER == 1
static struct {
    int fd, waker;
} csp__evq = {-1, -1};

CSP__FN int csp__evq_open(void)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data = {.u64 = UINT64_MAX}};
    csp__evq.fd = epoll_create1(EPOLL_CLOEXEC);
    csp__evq.waker = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (csp__evq.fd < 0 || csp__evq.waker < 0) return -errno;
    return epoll_ctl(csp__evq.fd, EPOLL_CTL_ADD, csp__evq.waker, &e) == 0 ? 0 : -errno;
}

CSP__FN int csp__evq_add(int fd, uint32_t gen)
{
    struct epoll_event e;
    e.events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET;
    e.data.u64 = (uint64_t)gen << 32 | (uint32_t)fd;
    if (epoll_ctl(csp__evq.fd, EPOLL_CTL_ADD, fd, &e) == 0) return 0;
    if (errno == EEXIST && epoll_ctl(csp__evq.fd, EPOLL_CTL_MOD, fd, &e) == 0) return 0;
    return -errno;
}

CSP__FN void csp__evq_del(int fd)
{
    struct epoll_event none = {.events = 0, .data = {.u64 = 0}};
    epoll_ctl(csp__evq.fd, EPOLL_CTL_DEL, fd, &none);
}

CSP__FN int csp__evq_wait(csp__evq_event *out, int64_t ns)
{
    static bool refused; // atomic: no epoll_pwait2, which Linux has from 5.11 on
    struct epoll_event e[CSP__EVQ_LOT];
    csp__span64 t = {ns / CSP_SECOND, ns % CSP_SECOND};
    bool exact =
        CSP__NR_EPOLL_PWAIT2 > 0 && ns != 0 && ns != CSP_FOREVER && !csp__relaxed(&refused);
    int n = -1;
    if (exact) {
        n = (int)syscall(CSP__NR_EPOLL_PWAIT2, csp__evq.fd, e, CSP__EVQ_LOT, &t, NULL, (size_t)0);
        exact = n >= 0 || errno == EINTR;
        if (!exact) csp__set(&refused, true);
    }
    if (!exact) n = epoll_wait(csp__evq.fd, e, CSP__EVQ_LOT, csp__poll_ms(ns));
    for (int i = 0; i < n; i++) {
        uint32_t was = e[i].events;
        bool over = (was & (EPOLLERR | EPOLLHUP)) != 0;
        out[i].fd = (int)(uint32_t)e[i].data.u64;
        out[i].gen = (uint32_t)(e[i].data.u64 >> 32);
        out[i].dirs = (over || (was & (EPOLLIN | EPOLLPRI | EPOLLRDHUP)) ? CSP__EVQ_IN : 0) |
                      (over || (was & EPOLLOUT) ? CSP__EVQ_OUT : 0) |
                      (over || (was & (EPOLLPRI | EPOLLRDHUP)) ? CSP__EVQ_MORE : 0);
    }
    return n;
}

CSP__FN void csp__evq_wake(void)
{
    csp__hb_after(&csp__evq);
    static const uint64_t one = 1; /* the count is never read: each write is an edge */
    if (write(csp__evq.waker, &one, sizeof one) < 0) return;
}

CSP__FN void csp__evq_close(bool forked)
{
    (void)forked;
    close(csp__evq.fd);
    close(csp__evq.waker);
}
#elif CSP_POLLER == 2
static struct {
    int fd;
} csp__evq = {-1};

CSP__FN int csp__evq_set(uintptr_t id, int filter, unsigned flags, unsigned action, uint32_t gen)
{
    struct kevent e;
    EV_SET(&e, id, (short)filter, (unsigned short)flags, action, 0, (void *)(uintptr_t)gen);
    return kevent(csp__evq.fd, &e, 1, NULL, 0, NULL) == 0 ? 0 : -errno;
}

CSP__FN int csp__evq_open(void)
{
    csp__evq.fd = kqueue();
    if (csp__evq.fd < 0) return -errno;
    fcntl(csp__evq.fd, F_SETFD, FD_CLOEXEC);
    return csp__evq_set(0, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0);
}

CSP__FN int csp__evq_add(int fd, uint32_t gen)
{
    struct stat is;
    if (fstat(fd, &is) != 0) return -errno;
    if (S_ISREG(is.st_mode) || S_ISDIR(is.st_mode)) return -EPERM;
    int in = csp__evq_set((uintptr_t)fd, EVFILT_READ, EV_ADD | EV_CLEAR, 0, gen);
    int out = csp__evq_set((uintptr_t)fd, EVFILT_WRITE, EV_ADD | EV_CLEAR, 0, gen);
    if (in == 0 || out == 0) return 0; /* an end of a pipe has one direction */
    /* Some devices and terminals cannot be registered. They count as always ready. */
    return in == -EINVAL || in == -ENODEV || in == -ENXIO || in == -ENOTSUP ? -EPERM : in;
}

CSP__FN void csp__evq_del(int fd)
{
    csp__evq_set((uintptr_t)fd, EVFILT_READ, EV_DELETE, 0, 0);
    csp__evq_set((uintptr_t)fd, EVFILT_WRITE, EV_DELETE, 0, 0);
}

CSP__FN int csp__evq_wait(csp__evq_event *out, int64_t ns)
{
    struct kevent e[CSP__EVQ_LOT];
    if (ns > 1000000 * CSP_SECOND && ns != CSP_FOREVER) ns = 1000000 * CSP_SECOND;
    struct timespec t = {(time_t)(ns / CSP_SECOND), (long)(ns % CSP_SECOND)};
    int n = kevent(csp__evq.fd, NULL, 0, e, CSP__EVQ_LOT, ns == CSP_FOREVER ? NULL : &t);
    for (int i = 0; i < n; i++) {
        bool over = (e[i].flags & (EV_EOF | EV_ERROR)) != 0;
        out[i].fd = e[i].filter == EVFILT_USER ? -1 : (int)e[i].ident;
        out[i].gen = (uint32_t)(uintptr_t)e[i].udata;
        out[i].dirs = over                         ? CSP__EVQ_IN | CSP__EVQ_OUT | CSP__EVQ_MORE
                      : e[i].filter == EVFILT_READ ? CSP__EVQ_IN
                                                   : CSP__EVQ_OUT;
    }
    return n;
}

CSP__FN void csp__evq_wake(void)
{
    csp__evq_set(0, EVFILT_USER, 0, NOTE_TRIGGER, 0);
}

CSP__FN void csp__evq_close(bool forked)
{
    if (!forked) close(csp__evq.fd); /* the child of a fork does not inherit a kqueue */
}
#else
/* The set of added descriptors. Each entry has the directions that goroutines wait for, maybe none.
 * One thread at a time polls a copy of the entries with a direction. Entry [0] of the copy is the
 * pipe that wakes this thread. A reported direction is cleared from the set until it is armed
 * again.
 *   The set, and the room for the next copy, grow when a descriptor is added. An add may fail, but
 * a wait must not: so a wait needs no memory. */
typedef struct csp__polled {
    struct pollfd p;
    uint32_t gen;
} csp__polled;
static struct {
    int pipe[2];
    uint32_t busy; // atomic: a thread polls
    csp__os_lock lock;
    // guarded by lock
    csp__polled *set;
    uint32_t count, room;
    struct pollfd *spare; // the next copy, larger than this one; NULL: copy is large enough
    // the polling thread only
    struct pollfd *copy;
} csp__evq;

/* Makes room for one more entry; false when out of memory. */
CSP__FN bool csp__evq_grow_locked(void)
{
    if (csp__evq.count < csp__evq.room) return true;
    uint32_t room = csp__evq.room == 0 ? 64 : 2 * csp__evq.room;
    csp__polled *set = (csp__polled *)malloc(room * sizeof *set);
    struct pollfd *spare = (struct pollfd *)malloc((room + 1) * sizeof *spare);
    if (set == NULL || spare == NULL) {
        free(set);
        free(spare);
        return false;
    }
    if (csp__evq.count > 0) memcpy(set, csp__evq.set, csp__evq.count * sizeof *set);
    free(csp__evq.set);
    free(csp__evq.spare);
    csp__evq.set = set;
    csp__evq.spare = spare;
    csp__evq.room = room;
    return true;
}

CSP__FN int csp__evq_open(void)
{
    memset(&csp__evq, 0, sizeof csp__evq);
    csp__evq.pipe[0] = csp__evq.pipe[1] = -1;
    csp__os_lock_make(&csp__evq.lock);
    return csp__evq_grow_locked() ? csp__os_pipe(csp__evq.pipe) : -ENOMEM;
}

CSP__FN csp__polled *csp__evq_find_locked(int fd) // NULL: not in the set
{
    for (uint32_t i = 0; i < csp__evq.count; i++)
        if (csp__evq.set[i].p.fd == CSP__OS_POLLED(fd)) return &csp__evq.set[i];
    return NULL;
}

CSP__FN int csp__evq_add(int fd, uint32_t gen)
{
    csp__os_file is;
    int e = csp__os_look(fd, &is);
    if (e < 0) return e;
    if (is.kind == CSP__OS_REGULAR) return -EPERM;
    csp__os_lock_take(&csp__evq.lock);
    bool there = csp__evq_find_locked(fd) != NULL, room = there || csp__evq_grow_locked();
    if (!there && room)
        csp__evq.set[csp__evq.count++] = (csp__polled){{CSP__OS_POLLED(fd), 0, 0}, gen};
    csp__os_lock_drop(&csp__evq.lock);
    return room ? 0 : -ENOMEM;
}

CSP__FN void csp__evq_wake(void)
{
    csp__os_write_file(csp__evq.pipe[1], "", 1);
}

CSP__FN int csp__poll_bits(int dirs)
{
    return (dirs & CSP__EVQ_IN ? CSP__OS_POLLIN : 0) | (dirs & CSP__EVQ_OUT ? POLLOUT : 0);
}

CSP__FN void csp__evq_arm(int fd, uint32_t gen, int dirs)
{
    csp__os_lock_take(&csp__evq.lock);
    csp__polled *at = csp__evq_find_locked(fd);
    if (at != NULL && at->gen != gen) *at = (csp__polled){{CSP__OS_POLLED(fd), 0, 0}, gen};
    if (at != NULL) at->p.events = (short)(at->p.events | csp__poll_bits(dirs));
    csp__os_lock_drop(&csp__evq.lock);
    if (csp__relaxed(&csp__evq.busy)) csp__evq_wake();
}

CSP__FN void csp__evq_del(int fd)
{
    csp__os_lock_take(&csp__evq.lock);
    csp__polled *at = csp__evq_find_locked(fd);
    if (at != NULL) *at = csp__evq.set[--csp__evq.count];
    csp__os_lock_drop(&csp__evq.lock);
}

/* Copies the entries that goroutines wait for. Returns their number, with the pipe's. */
CSP__FN uint32_t csp__evq_copy(void)
{
    uint32_t n = 1;
    csp__os_lock_take(&csp__evq.lock);
    if (csp__evq.spare != NULL) {
        free(csp__evq.copy);
        csp__evq.copy = csp__evq.spare;
        csp__evq.spare = NULL;
    }
    csp__evq.copy[0] = (struct pollfd){CSP__OS_POLLED(csp__evq.pipe[0]), POLLIN, 0};
    for (uint32_t i = 0; i < csp__evq.count; i++)
        if (csp__evq.set[i].p.events != 0) csp__evq.copy[n++] = csp__evq.set[i].p;
    csp__os_lock_drop(&csp__evq.lock);
    return n;
}

CSP__FN int csp__evq_wait(csp__evq_event *out, int64_t ns)
{
    int n = 0;
    if (csp__swap(&csp__evq.busy, 1) != 0) {
        if (ns != 0) csp__os_yield();
        return 0;
    }
    uint32_t count = csp__evq_copy();
    int ready = csp__os_poll(csp__evq.copy, count, csp__poll_ms(ns));
    if (ready > 0 && csp__evq.copy[0].revents != 0) {
        char drained[256];
        while (csp__os_read(csp__evq.pipe[0], drained, sizeof drained) > 0) continue;
        out[n++] = (csp__evq_event){-1, UINT32_MAX, CSP__EVQ_IN};
    }
    csp__os_lock_take(&csp__evq.lock);
    for (uint32_t i = 1; ready > 0 && i < count && n < CSP__EVQ_LOT; i++) {
        int fd = (int)csp__evq.copy[i].fd, was = csp__evq.copy[i].revents;
        csp__polled *at = was == 0 ? NULL : csp__evq_find_locked(fd);
        if (at == NULL) continue; /* deleted; a new owner of the number is reported next time */
        bool over = (was & (POLLERR | POLLHUP | POLLNVAL)) != 0;
        int dirs = (over || (was & (POLLIN | POLLPRI)) ? CSP__EVQ_IN : 0) |
                   (over || (was & POLLOUT) ? CSP__EVQ_OUT : 0) |
                   (over || (was & POLLPRI) ? CSP__EVQ_MORE : 0);
        out[n++] = (csp__evq_event){fd, at->gen, dirs};
        at->p.events = (short)(at->p.events & ~csp__poll_bits(dirs));
    }
    csp__os_lock_drop(&csp__evq.lock);
    csp__release(&csp__evq.busy, 0);
    return n;
}

CSP__FN void csp__evq_close(bool forked)
{
    csp__os_close(csp__evq.pipe[0]);
    csp__os_close(csp__evq.pipe[1]);
    if (forked) return; /* other threads may have been changing the set */
    free(csp__evq.set);
    free(csp__evq.spare);
    free(csp__evq.copy);
}
#endif

/* ########################################### KERNEL ########################################### */
/* ==========================================================================
 * [8] HEAP - a heap of deadlines
 *
 * A 4-ary heap in an array. The deadlines stand in the array itself, so a search among a hundred
 * thousand of them touches no other memory. A timer can be stopped, so each move of its item writes
 * the timer's index (one cache miss). A sleep cannot be stopped, so its item is the goroutine
 * itself, without a timer. Timers that only fill a channel are counted apart: they wake no
 * goroutine that waits for anything else, so the search for a deadlock does not count on them, see
 * SCHED.
 *
 *   uses   PLATFORM BASE PROFILE SYSTEM
 *   locks  none
 * ======================================================================== */

/* A timer. It lies in the object that it serves. */
typedef struct csp__timer {
    // owner only, before insertion
    int64_t when;
    void (*fire)(struct csp__timer *, int64_t now); // called with the heap's lock held
    // guarded by the heap's lock
    csp__p *p;      // the P in whose heap it is; NULL: in none
    uint32_t index; // of its item
    // immutable
    bool feeds_chan; // it only fills the channel of a csp__chan_timer
} csp__timer;

typedef struct csp__chan_timer { // a timer that fills the channel c
    csp__timer t;
    csp_x_chan *c;
} csp__chan_timer;

typedef struct csp__heap_item {
    int64_t when;
    uintptr_t who; // a goroutine; bit 0 set: a timer; bit 1, too: a timer of a channel
} csp__heap_item;
enum { CSP__HEAP_FEEDS = 3 };
#define csp__item_timer(who) ((csp__timer *)((who) & ~(uintptr_t)CSP__HEAP_FEEDS))

/* The heap of one P, guarded by its heap_lock. */
typedef struct csp__heap {
    void *block;
    csp__heap_item *items;
    uint32_t count, room, feeds_chan; // feeds_chan: how many items fill a channel
} csp__heap;

/* Puts item at place i, and tells its timer. */
CSP__FN inline void csp__heap_put(csp__heap *h, uint32_t i, csp__heap_item item)
{
    h->items[i] = item;
    if (item.who & 1) csp__item_timer(item.who)->index = i;
}

/* Puts item at place i or above, where its deadline belongs. */
CSP__FN void csp__heap_up(csp__heap *h, uint32_t i, csp__heap_item item)
{
    for (; i > 0; i = (i - 1) / 4) {
        csp__heap_item above = h->items[(i - 1) / 4];
        if (above.when <= item.when) break;
        csp__heap_put(h, i, above);
    }
    csp__heap_put(h, i, item);
}

/* Puts item at place i or below. Prefetches the grandchildren while it compares the children. */
CSP__FN void csp__heap_down(csp__heap *h, uint32_t i, csp__heap_item item)
{
    for (;;) {
        uint32_t first = 4 * i + 1, best = first;
        if (first >= h->count) break;
        for (uint32_t k = 0; k < 4; k++) __builtin_prefetch(&h->items[4 * (first + k) + 1]);
        for (uint32_t k = first + 1; k < first + 4 && k < h->count; k++)
            if (h->items[k].when < h->items[best].when) best = k;
        if (h->items[best].when >= item.when) break;
        csp__heap_put(h, i, h->items[best]);
        i = best;
    }
    csp__heap_put(h, i, item);
}

/* A block for `room` items; NULL when out of memory. Three unused items before the first make the
 * four children of an item share a cache line. */
#define csp__heap_block(room) csp__zalloc((size_t)((room) + 4) * sizeof(csp__heap_item))

/* Moves the items to a larger block, and returns the old block. */
CSP__FN void *csp__heap_move(csp__heap *h, void *block, uint32_t room)
{
    void *old = h->block;
    csp__heap_item *items = (csp__heap_item *)block + 3;
    csp__hb_after(h); /* ThreadSanitizer: goroutines allocate and free blocks by turns */
    if (h->count > 0) memcpy(items, h->items, h->count * sizeof *items);
    csp__hb_before(h);
    h->block = block;
    h->items = items;
    h->room = room;
    return old;
}

/* The item of a timer. */
#define csp__timer_item(t)                                                                         \
    ((csp__heap_item){(t)->when, (uintptr_t)(t) | ((t)->feeds_chan ? CSP__HEAP_FEEDS : 1)})
CSP__FN void csp__heap_insert(csp__heap *h, csp__heap_item item)
{
    h->feeds_chan += (item.who & CSP__HEAP_FEEDS) == CSP__HEAP_FEEDS;
    csp__heap_up(h, h->count++, item);
}

/* Inserts t again from within its fire function. The heap has room: t's place has just become
 * free. */
#define csp__timer_again(t) csp__heap_insert(&(t)->p->heap, csp__timer_item(t))

/* Takes out item i. The last item fills the gap. */
CSP__FN void csp__heap_remove(csp__heap *h, uint32_t i)
{
    csp__heap_item last = h->items[--h->count];
    h->feeds_chan -= (h->items[i].who & CSP__HEAP_FEEDS) == CSP__HEAP_FEEDS;
    if (i == h->count) return;
    if (i > 0 && h->items[(i - 1) / 4].when > last.when)
        csp__heap_up(h, i, last);
    else
        csp__heap_down(h, i, last);
}

/* ==========================================================================
 * [9] LOCKS - the internal lock
 *
 * One word: 0 free, 1 held. A lock is held for some ten instructions (see HELD FOR LONG), never
 * across a switch, never while user code runs. Taking it is one exchange, dropping it one plain
 * store. Dropping it by an exchange would tell of sleepers, and cost 9 ns on every channel
 * operation.
 *   A lock that stays held has a holder that the system has preempted. So a waiting thread spins,
 * gives its CPU away after each 31 pauses, and from the 64th time on sleeps for 50 us instead. No
 * waker is needed.
 *
 *   uses   PLATFORM BASE PROFILE SYSTEM
 *   locks  none
 * ======================================================================== */

/* RANKS. Every lock of csp.h, in the order in which a thread may take them: a thread takes only a
 * lock of a higher rank than every lock that it holds. So no two threads wait for each other. All
 * channels have one rank. A select takes several of them, by rising address. A torture build checks
 * each acquisition, and that no lock is held across a switch or at the end of a call.
 *
 *   START     the start, the stop, csp_procs                        see csp__start_locked
 *   OBSERVER  the trace's file, and the thread that writes it       see TRACE
 *   NOTIFY    which channel gets which signals                      see SIGNALS
 *   CTX       one context: its children, its end                    see CTX
 *   TIMER     one stop or reset of a timer at a time                see TIME
 *   HEAP      the timers of a P; they fire under it                 see TIMERS
 *   FD        a descriptor's record                                 see POLLER
 *   POLL      the opening of the poller, new chunks of records      see POLLER
 *   EVQ       where poll(2) stands in for epoll: the set of descriptors. A pthread_mutex_t of a
 *             room above, which is not checked: no other lock is taken under it
 *   CHAN      a channel: its buffer and queues                      see CHAN
 *   WAKEFDS   the list of channels that event loops watch           see WAKEFD
 *   SYNC      the waiters of a mutex, rwmutex, cond, once, waitgroup, sem; an object of one word
 *             has the lock in that word, see csp__word_lock         see SYNC
 *   SHARD     the writers of a part of a map                        see MAP
 *   CACHE     a processor's items in a pool                         see POOL
 *   SCHED     threads, processors and the global queues             see CORE
 *   TAKE      the taking of Ps from their owners, one at a time     see THE HANDSHAKE
 *   FORKERS   the goroutines of a P that have forked                see OFFERS
 *   FORKS     the forks of a goroutine                              see OFFERS
 *   STACKS    arenas and free stacks                                see STACKS
 *   TAPES     the list of tapes                                     see TAPES
 *   BEDS      where POSIX stands in for futexes: the threads that sleep on words. A
 *             pthread_mutex_t of a room above, which is not checked: no other lock is taken under
 *             it
 *
 * csp__poll.busy and csp__evq.busy are no locks in this sense: threads try them, and never wait.
 *
 * HELD FOR LONG. Memory and threads are requested and given back with the lock dropped: a slab of
 * records takes 40 us, a thread 80, an arena 6. See csp__g_refill, csp__arena_new,
 * csp__heap_grow_locked and csp__m_create_locked. These are the holders that take longer than ten
 * instructions, and the reason why each may:
 *
 *   START     Threads are made and joined, and signal handlers set: milliseconds; at a stop up to
 *             two seconds. Only the start, the stop and csp_procs wait for it.
 *   OBSERVER  The trace's file is opened, written and closed: as long as the file system takes.
 *             Only csp_trace_start, csp_trace_stop and the observer's thread wait for it.
 *   NOTIFY    sigaction, 2 us for each signal: the handlers must agree with the list. Only
 *             csp_notify and a thread that passes signals on wait for it.
 *   CTX       A close of `done`, which wakes all its waiters: else a context could be seen done
 *             while its channel is open. Only the users of this context wait for it.
 *   TIMER     A promise of a stack for csp_after_func, which may map an arena: 6 us, once in 256
 *             promises. Only another stop or reset of this timer waits for it.
 *   HEAP      Due items fire, eight at a time, and a timer of a channel sends: a timer that has
 *             been removed under the lock must not fire any more.
 *   FD        epoll_ctl, 0.2 to 0.8 us, once for a descriptor: see csp__fd_register. A futex call
 *             at the end of a close, where another call waits for that end.
 *   POLL      malloc of 256 records, 10 us; the poller's opening, 26 us. Once each.
 *   CHAN      A close wakes all waiters: see csp__close. A watched channel writes or reads one byte
 *             of its pipe, 0.5 us: after the unlock the byte could belong to an older state.
 *   SHARD     A table grows or is thinned: malloc, and its keys one by one, milliseconds for
 *             100,000. Writers of this shard wait, and readers that have no processor.
 *   SCHED     A futex call (0.5 to 3 us) or a byte for the poller (0.5 us) for a thread that is
 *             woken: it must have left the idle list when it wakes. A read of /proc, 40 us, when
 *             all threads are idle, to tell a deadlock.
 *   TAKE      A membarrier, 0.3 to 2.6 us, more with more cores, after up to CSP__BARRIER_PAUSE:
 *             the owner waits for the outcome.
 *   BARRIERS  A membarrier: a thread that wants one meanwhile wants the next one.
 *   TAPES     A mapping of 256 KB, 3 us, once for each traced thread, 128 times at most. The locks
 *             under which an event is noted are held as long. */
#define CSP__RANKS(X)                                                                              \
    X(START, "csp__sched.start_lock")                                                              \
    X(OBSERVER, "csp__observer.lock")                                                              \
    X(NOTIFY, "csp__signals.lock")                                                                 \
    X(CTX, "csp_ctx.lock")                                                                         \
    X(TIMER, "csp_timer.lock")                                                                     \
    X(HEAP, "csp__p.heap_lock")                                                                    \
    X(FD, "csp__fd.lock")                                                                          \
    X(POLL, "csp__poll.lock")                                                                      \
    X(EVQ, "csp__evq.lock")                                                                        \
    X(CHAN, "csp_x_chan.lock")                                                                     \
    X(WAKEFDS, "csp__wakefds.lock")                                                                \
    X(SYNC, "csp_rwmutex.csp_x_lock csp_cond.csp_x_lock csp_sem.csp_x_lock")                       \
    X(SHARD, "csp__shard.lock")                                                                    \
    X(CACHE, "csp__cache.lock")                                                                    \
    X(SCHED, "csp__sched.lock")                                                                    \
    X(TAKE, "csp__sched.take_lock")                                                                \
    X(FORKERS, "csp__p.forks_lock")                                                                \
    X(FORKS, "csp__forks.lock")                                                                    \
    X(BARRIERS, "csp__sched.barrier_lock")                                                         \
    X(STACKS, "csp__stacks.lock")                                                                  \
    X(TAPES, "csp__trace.lock")                                                                    \
    X(BEDS, "csp__os_beds.lock")
#define CSP__RANK_ENUM(name, locks) CSP__RANK_##name,
enum { CSP__RANKS(CSP__RANK_ENUM) CSP__RANKS_ALL };

#if CSP_TORTURE
#define CSP__HELD_MOST 24 /* an object that dlopen brings finds little room for thread-locals */
#define CSP__RANK_NAME(name, locks) #name,
static const char *const csp__rank_names[] = {CSP__RANKS(CSP__RANK_NAME)};

/* The locks that this thread holds, the newest one at the end. */
static _Thread_local struct {
    int n, more; // more: locks of a large select that have no room in `at`
    struct {
        const uint32_t *lock;
        int rank, line;
    } at[CSP__HELD_MOST];
} csp__held;

/* Ends the process: `what` was done while lock i of csp__held was held. */
CSP__FN CSP__COLD __attribute__((noreturn)) void csp__rank_wrong(const char *what, int line, int i)
{
    char text[160];
    snprintf(text, sizeof text, "csp.h:%d: %s while %s is held, since csp.h:%d: see RANKS", line,
             what, csp__rank_names[csp__held.at[i].rank], csp__held.at[i].line);
    csp__fatal(text);
}

/* Checks the rank of a lock that is about to be taken, and notes it. Not inlined, here and below: a
 * goroutine may be on another thread after each switch, and a compiler that inlines would keep the
 * address of the old thread's csp__held across the switch. */
CSP__FN CSP__NOINLINE void csp__rank_take(const uint32_t *lock, int rank, int line)
{
    for (int i = 0; i < csp__held.n; i++) {
        int below = csp__held.at[i].rank;
        bool next = below == CSP__RANK_CHAN && rank == below && csp__held.at[i].lock < lock;
        if (below >= rank && !next) csp__rank_wrong(csp__rank_names[rank], line, i);
    }
    if (csp__held.n == CSP__HELD_MOST) {
        csp__held.more++;
        return;
    }
    int n = csp__held.n++;
    csp__held.at[n].lock = lock;
    csp__held.at[n].rank = rank;
    csp__held.at[n].line = line;
}

/* The lock is about to be dropped. Locks may be dropped in any order. */
CSP__FN CSP__NOINLINE void csp__rank_drop(const uint32_t *lock)
{
    int i = csp__held.n - 1;
    while (i >= 0 && csp__held.at[i].lock != lock) i--;
    if (i < 0 && csp__held.more-- == 0)
        csp__fatal("a lock is dropped that this thread does not hold");
    if (i < 0) return;
    for (csp__held.n--; i < csp__held.n; i++) csp__held.at[i] = csp__held.at[i + 1];
}

/* Called where no lock may be held. */
CSP__FN CSP__NOINLINE void csp__rank_none(int line)
{
    if (csp__held.n > 0) csp__rank_wrong("a switch, or the end of a call,", line, 0);
}
#else
#define csp__rank_take(lock, rank, line) ((void)(lock), (void)(rank), (void)(line))
#define csp__rank_drop(lock) ((void)(lock))
#define csp__rank_none(line) ((void)(line))
#endif

/* The n-th pause of a thread that waits for a lock. */
CSP__FN void csp__lock_pause(uint32_t *n)
{
    if ((++*n & 31) != 0)
        csp__pause();
    else if (*n < 64 * 32)
        csp__os_yield();
    else
        csp__os_sleep(50 * CSP_MICROSECOND);
}

/* Reads before each exchange: an exchange alone would take the cache line from the holder. */
CSP__FN CSP__COLD void csp__lock_slow(uint32_t *lock)
{
    for (uint32_t n = 0;; csp__lock_pause(&n))
        if (csp__relaxed(lock) == 0 && csp__swap(lock, 1) == 0) return;
}

/* Takes a lock; rank is a CSP__RANK_... of RANKS. */
#define csp__lock(lock, rank) csp__lock_at(lock, rank, __LINE__)
CSP__FN inline void csp__lock_at(uint32_t *lock, int rank, int line) // acq <lock>
{
    csp__rank_take(lock, rank, line);
    if (rank == CSP__RANK_SCHED) csp__count(SCHED);
    if (CSP__UNLIKELY(csp__swap(lock, 1) != 0)) csp__lock_slow(lock);
}

CSP__FN inline void csp__unlock(uint32_t *lock) // rel <lock>
{
    csp__rank_drop(lock);
    csp__release(lock, 0);
}

/* KERNEL's side of the names that differ on one core; see THE CONTRACT OF A PROFILE. */
#define CSP__ONE_CORE 0
#define csp__chan_lock(c) csp__lock(&(c)->lock, CSP__RANK_CHAN)
#define csp__chan_unlock(c) csp__unlock(&(c)->lock)
#define csp__chan_rest() false
#define csp__chan_move(to, from, size) CSP__MEMCPY(to, from, size)
#define csp__chan_zero(to, size) memset(to, 0, size)
#define CSP__OUTLINED CSP__NOINLINE
#define csp__goroutine_only() ((void)0)
#define csp__turn(m) ((void)(m))
#define csp__may_wait() ((void)0)
#define csp__mutex_held(mu, g) ((void)(mu), (void)(g))
#define csp__mutex_left(mu) ((void)(mu))
#define csp__mutex_lends(mu, waits) ((void)(mu))
#define csp__mutex_heir(mu) ((csp__waiter *)(mu)->csp_x_waiters.head)
#define csp__rest(a, b) ((a) % (b))

/* Only the waker that has claimed a ticket wakes its owner. */
CSP__FN inline bool csp__ticket_claim(uint32_t *ticket)
{
    uint32_t none = 0;
    return csp__cas(ticket, &none, 1);
}

/* Stores value for a thread that sleeps on word, and wakes it. */
CSP__FN void csp__word_post(uint32_t *word, uint32_t value)
{
    csp__release(word, value);
    csp__os_wake(word, 1);
}

/* ==========================================================================
 * [10] CORE - goroutine, thread, processor; globals
 *
 *            bind                 run                      park
 *   FRESH ----------> RUNNABLE ----------> RUNNING ------------------> WAITING
 *     ^                  ^  ^                |  |                         |
 *     | csp_go           |  +---- yield -----+  | end           ready      |
 *   (free) <-------------|----------------------+                         |
 *                        +------------------------------------------------+
 *
 * The thread that moves a goroutine to RUNNABLE puts it into exactly one queue. The thread that
 * takes it out of the queue runs it. There is no atomic status word; two other things exclude that
 * a goroutine is run twice:
 *   - a waiter is taken from a queue under the queue's lock. Where several wakers could wake it,
 *     the waker must also claim its ticket;
 *   - `busy` says that a thread is still on the goroutine's stack. The switch clears it after the
 *     stack pointer has moved, and no thread runs a goroutine that is busy.
 * So a goroutine may be made ready, and even be taken out of a queue, while it is still on its way
 * to park; and no lock is held across a switch.
 * model: a_parking_goroutine_is_woken_once_and_runs_on_one_thread
 *
 * SUFFIXES. _locked: the caller holds the lock that the room's banner names for it. _fast: the
 * short way, inline, which calls nothing. _slow: the rest of it, outlined. _commit: runs after the
 * goroutine has left its stack.
 *
 *   uses   PLATFORM BASE PROFILE SYSTEM HEAP
 *   locks  none
 * ======================================================================== */

typedef struct csp__cb csp__cb;
#define csp__cb_of(g) ((g)->cb)

enum { CSP__G_FRESH = 1, CSP__G_RUNNABLE, CSP__G_RUNNING, CSP__G_WAITING };
/* FOREIGN: of a thread of the program. MAIN: csp_run's. BOUND: see csp_lock_thread. SYSTEM: not
 * counted as the program's. SLOW: each switch has a canary to check, C++ state to save, or an event
 * to note. NEW: in the state FRESH. */
enum { CSP__G_FOREIGN = 1, CSP__G_MAIN = 2, CSP__G_BOUND = 4, CSP__G_SYSTEM = 8, CSP__G_SLOW = 16 };
enum { CSP__G_FORKED = 64 }; // it may stand in the list of a P, see OFFERS
enum { CSP__G_NEW = 32, CSP__G_NOT_PLAIN = CSP__G_NEW | CSP__G_BOUND | CSP__G_SLOW };
#define CSP__ARGS 32

/* A goroutine: one cache line in a slab that is never unmapped while the runtime runs. Before its
 * first run it has no stack, only its arguments: a million goroutines that are started one after
 * the other share one hot stack. */
struct csp__g {
    csp__g *link;           // queue, or free list
    const csp_x_site *site; // immutable while alive
    csp__u64 id;            // 0: free; atomic for the dump
    uint8_t state, flags;   // state: for the dump only; flags: owner
    uint16_t wakes;         // counted while traced, by wakers
    int32_t err;            // errno while off its thread
    union {
        char args[CSP__ARGS]; // FRESH
        struct {
            csp__cb *cb; // its control block, at the top of its stack
            void *sp;    // while not running; before that any address on its stack
            /* What park returns. Written by the waker alone, before csp__ready: it has taken g's
             * waiter from the queue, under the queue's lock, or has claimed the ticket. */
            void *result;
            union {
                uint32_t busy;   // atomic: 1 while a thread is on its stack; rel/acq <g.busy>
                uint32_t signal; // a foreign thread's: 0 -> 1 woken; 2 sleeps on it
            };
            uint32_t since; // for the dump, in units of 8.4 ms; atomic, relaxed
        };
    };
};

/* What a goroutine has forked and not joined, see OFFERS. */
typedef struct csp__forks {
    csp_x_forks x;
    uint32_t known;  // atomic: 1: those that search look here; cleared by who goes idle
    uint32_t rounds; // atomic: how often an offer was made where none stood; owner
    uint32_t lost;   // those below were taken in a runtime that has ended; owner
    // guarded by lock
    uint32_t lock;
    uint32_t head;    // the oldest that is not taken; atomic for the owner
    csp_x_link *last; // the link of the newest that is taken
    // guarded by the P's forks_lock
    struct csp__forks *next, **at; // the list
    csp__p *in;                    // whose list; NULL: none
    uint32_t seen_rounds;          // what a thief saw, and since when
    int64_t seen_at;
} csp__forks;

/* The control block: the colder half of a goroutine, at the top of its stack (a foreign thread's is
 * in its M). A wait without a deadline touches g, the frames, and only the first cache line of the
 * control block, right above the frames. For a thousand goroutines that pass values on, all of that
 * has to fit into the second-level cache. */
struct csp__cb {
    // while waiting; what and on are for the dump: atomic, relaxed
    csp__waiter wait;
    const char *what;
    const void *on;
    csp__timer timer;
    uint32_t ticket;
    uint8_t kind; // immutable while the stack exists: how it is guarded
    // owner only
    bool exited; // TSan: the fiber still holds the calls that csp_exit has left
    csp__g *g;
    csp__m *bound; // csp_lock_thread
    union {
        struct {
            csp__cb *link;       // free list
            void (*run)(void *); // until it begins
            void *args;
        };
        struct { // begun, and waiting: see SPILT; guarded by a heap's lock
            csp__cb *left, *right, *above;
        };
    };
    uint32_t busy; // atomic: a thread is still on it although its goroutine has ended
    uint32_t nlocals;
    void **locals;
    struct csp__class *home; // immutable: where it goes when free; NULL: of a foreign thread
    csp_x_defer *defers;
    char name[32]; // for the dump
    char small[CSP__ARGS - sizeof(void *)] __attribute__((aligned(16)));
    csp_x_try *tries, *caught;
    uint32_t thread_locks;
    void *eh[2];         // C++ runtime's exception state
    csp__i64 stopped_at; // while profiled: when its wait began, or 0; atomic for the profile's end
    csp__forks forks;
    // immutable while the stack exists
    char *base;  // start of the slot
    char *low;   // lowest usable address
    char *top;   // the first frame goes below this
    void *fiber; // TSan's handle
};
#define CSP__WAITER(w, g) csp__waiter *w = &(g)->cb->wait
CSP_X_ASSERT(offsetof(csp__cb, timer) == (sizeof(void *) == 8 ? 64 : offsetof(csp__cb, timer)),
             "one line while waiting");

#define CSP__RING (CSP_TORTURE ? 8 : 256)
#define CSP__WORTH 16 /* goroutines in a ring: worth stealing at once, see SCHED */
#define CSP__STACKS_KEPT 64

/* Processor: the right to run goroutines. Owner: the thread whose m->p it is. */
struct csp__p {
    // owner only (the thread that has taken the P by WAKE's handshake is the owner)
    csp__g *next;   // runs next; no thief can take it
    int32_t left;   // turns of `next` until the ring's first has its turn, see SLICES
    int32_t lot;    // what `left` begins with: CSP__TURNS; 1: chains are clocked
    uint32_t eager; // atomic: bit 0: nothing goes into `next`, see EAGER; set by thieves and
                    // the monitor; bit 1: see TRACE POINTS
    uint32_t eager_short;
    int64_t eager_at;
    uint64_t rng;
    csp__g *free_g;
    uint64_t ids; // the last one given; taken 64 at a time
    csp__cb *stacks;
    int nstacks, keeps; // keeps: how many stacks it may keep, see csp__stacks_promise
    int credit;         // stacks promised by the arenas and not used
    // see SLICES; times are 0 when unknown
    int64_t measured_at, slow_at, from, slice, cut_at;
    uint64_t measured_tick;
    const csp__g *cut_g; // only to be compared
    uint32_t cuts, others;
    uint32_t looked; // the P whose timers it looks at next, see csp__timers_of_others
    int32_t granted;
    // atomic, written by the owner: for statistics and the monitor
    csp__u64 tick, spawned, ended, steals, yields, timers;
    csp__u64 reads, reading_hash; // what its goroutine looks up in a map, see MAP
    const void *reading;
    // the ring: only the owner moves tail; head moves by CAS; rel/acq <ring>
    uint32_t head __attribute__((aligned(64)));
    uint32_t tail __attribute__((aligned(64)));
    csp__g *ring[CSP__RING];
    // heap, guarded by heap_lock
    uint32_t heap_lock __attribute__((aligned(64)));
    csp__heap heap;
    csp__cb *spilt;         // see SPILT
    struct csp__late *late; // what timers left to be done without the lock
    csp__i64 first;         // atomic: the first deadline
    // goroutines that have forked, guarded by forks_lock; atomic for a look without it
    uint32_t forks_lock;
    csp__forks *forks;
    // guarded by sched.lock
    csp__p *link;
    csp__m *m; // atomic for the monitor
    int id;
    bool starting_spinning; // a thread is being made for it
    // the monitor's notes
    uint64_t seen_epoch, seen_tick;
    int64_t seen_at, held_at;
    uint64_t held_st;
    // thieves, atomic: the ring's head and the owner's epoch as last seen, and since when
    uint32_t watch_head;
    csp__i64 watch_head_at, watch_epoch_at;
    csp__u64 watch_epoch;
};

/* Thread: one that csp has made, or one of the program's (foreign: it has no P, and a goroutine of
 * its own, which never leaves it). */
struct csp__m {
    // the handshake, see WAKE: epoch by the owner, revoke by both
    csp__u64 epoch;
    uint32_t revoke;
    csp__u64 blocking;   // atomic: the epoch of a csp_blocking, see WAKE
    csp__u64 yield_tick; // atomic: its P's, when it was asked to yield
    // owner only
    csp__g *g;
    csp__p *p;        // cleared by the thread that takes the P
    uint32_t rw_slot; // from the last p's number
    void *sp;         // the scheduler's context on the thread's own stack, while a goroutine runs
    int *err;         // this thread's errno
    void **eh;        // this thread's C++ exception state, or NULL
    csp__g *todo;     // to run, from a goroutine to the scheduler's stack
    void *dead_sp;    // where the context of an ended goroutine is saved
    uint64_t rng;
    bool spinning, foreign;
    uint8_t main; // 1: the main goroutine of a child, see FORK; 2: and it has called csp_exit
    uint32_t no_busy;
    // guarded by sched.lock
    csp__m *link;     // idle list
    csp__m *all;      // all threads
    csp__g *bound_g;  // csp_lock_thread: owner
    csp__g *handed;   // bound_g, to be run with wake_p
    csp__p *wake_p;   // handed over with a wake-up
    bool idle, polls; // polls: sleeps in the poller
    int64_t nap;      // how long to nap; owner
    int64_t awake_at; // when it last woke with a P; owner
    bool computes;    // its P was taken for what was in `next`; atomic
    bool leaving;     // was idle for long and ends
    bool joined;      // has left, and has been joined or never began
    bool gone;        // has ended at a shutdown; atomic
    uint32_t word;    // 0 sleep, 1 woken; atomic
    csp__m **tls;     // foreign: its thread's csp__tls
    csp__g self;      // foreign: its goroutine
    csp__cb cb;
    csp__os_thread thread;
    struct csp__tape *tape; // what is traced here; owner
    void *fiber, *alt;
    const void *asan_low;
    size_t asan_size;
};

enum { CSP__RUN_GOES_ON, CSP__RUN_STARTS, CSP__RUN_ENDED };

typedef struct csp__queue {
    csp__g *head, *tail;
    int64_t count;
} csp__queue;

/* What is different in a simulation, see SIMULATOR. */
/* The last three may not switch. JOIN: the waiter `buf` waits, unless the descriptor is ready;
 * NULL: is it? LEAVE: the waiter waits no more. CHANGE: what ends the waits changes, by a
 * csp__change. */
enum {
    CSP__IO_READ,
    CSP__IO_WRITE,
    CSP__IO_WAIT,
    CSP__IO_CLOSE,
    CSP__IO_CLOSE_WRITE,
    CSP__IO_JOIN,
    CSP__IO_LEAVE,
    CSP__IO_CHANGE
};
typedef struct csp__profile {
    csp__m *(*enter)(csp__m *m);                 // instead of csp__enter_slow: may switch
    void (*die)(csp__g *g, const char *message); // an uncaught panic; does not return
    csp_ssize (*io)(int what, int fd, void *buf, size_t n, int64_t until); // a CSP__IO_...
    void (*forked)(void);                                                  // in the child
} csp__profile;

/* A csp_run under way, in its frame. */
typedef struct csp__home {
    struct csp__home *outer; // of a csp_run in the child of a fork
    csp__m *caller;
    bool stays; // its stack outlives a fork, see FORK
    bool ended;
    csp_x_mark mark;
} csp__home;

/* The runtime. */
static struct {
    uint32_t start_lock; // serialises start, shutdown and csp_procs
    // outlive the runtime
    uint32_t local_keys; // atomic: given out so far
    uint32_t starts;     // of runtimes, simulated ones too
    csp__u64 ids;        // atomic: given out so far
    csp__m *foreign_m;   // guarded by lock
    bool key_made;       // csp__foreign_key is one; guarded by start_lock
    bool child_in_run;   // this process was forked within a csp_run, and that has not returned here
    csp__m *child;       // of its first thread; NULL: not forked
    csp__home *home;     // owner: the caller of csp_run
    // until it stops
    uint32_t running; // atomic
    csp_config config;
    uint32_t one_run;           // atomic: csp_run or csp_main is under way
    uint32_t dying;             // atomic: a panic has not been caught
    bool barrier, in_run, hogs; // hogs: CSP_DEBUG=hogs
    bool aborts;                // CSP_DEBUG=abort
    uint8_t tools;              // atomic: 1 the C++ runtime is linked, 2 a trace is on
    const csp__profile *sim;    // NULL: no simulation runs
    uint32_t run_exit; // atomic: of the main goroutine; a deadlock is one only while it runs
    // guarded by lock (SCHED)
    uint32_t lock __attribute__((aligned(64)));
    uint32_t take_lock;        // see csp__revoke_p
    uint32_t barrier_lock;     // see BARRIERS
    uint32_t begun, ended;     // membarriers; atomic, written under barrier_lock: rel/acq <ended>
    csp__i64 barrier_at;       // when the last one ended; the same
    uint32_t wanted;           // atomic: threads that need the next one, see csp__barrier_await
    uint32_t searched;         // atomic: a search has ended since the monitor's last look
    csp__queue global;         // runnable and woken: first in, first out
    csp__queue fresh;          // never run: last in, first out; see csp__global_choose_locked
    csp__queue turning, aged;  // of those that wait for long; aged: first in, first out
    csp__p *idle_p, *starting; // starting: P's for which the monitor shall make threads
    csp__m *idle_m, *all_m;
    int nprocs, nthreads, nidle_m, ngone, looks; // looks: see csp__others_wake_locked
    csp__m *sleeper;                             // sleeps until the first timer
    csp__m *napper;                              // sleeps for a short while, see WORTH STEALING
    bool busied;                                 // a P has been given out since the monitor looked
    int haste;          // bursts for which the watch is handed over at once, see THE WATCH
    int rescues, quick; // see HELD: bursts that begin with quick looks; quick looks to come
    csp__m *left_m;     // threads that have ended, to be joined
    bool stopping;
    csp__g *free_g;
    // atomic hints, read without the lock
    uint32_t nidle_p __attribute__((aligned(64)));
    uint32_t nspinning; // threads that look for work, the napper among them
    uint32_t napping;   // 1: there is a napper
    uint32_t npolling;  // threads that sleep in the poller; written under lock
    uint32_t nposted;   // those of them that were woken and have not returned yet; the same
    uint32_t nforkers;  // lists of offers that Ps have, see KNOWN
    uint32_t nglobal;
    uint32_t nfresh;     // those of nglobal that have never run
    uint32_t fenced;     // 1: submitters fence, 2: all of them do; see BARRIERS
    uint32_t takes;      // not 0: Ps were taken from a csp_blocking lately, see BLOCKING
    uint32_t blocking;   // 1: some thread may be in a csp_blocking with a P
    csp__i64 now_cached; // a recent clock, see csp__now_cached
    csp__i64 sleep_until;
    csp__u64 spawned_foreign, handoffs;
    int nmade; // Ps that exist, running or not; atomic, written under lock: rel/acq <nmade>
    // slabs of goroutines
    struct csp__slab *slabs;
    // the monitor
    uint32_t monitor_word; // 0: asleep, 1: awake, 2: called
    bool monitor_on;
    csp__os_thread monitor;
    int observers; // 1: TRACE has a thread, too
    // see THREADS MISSING; guarded by lock
    int64_t missing_since, missing_next;
    int missing_error;
    bool missing_said;
    csp__os_mask mask;            // of csp's threads: that of the thread which started the runtime
    csp__p *procs[CSP_MAX_PROCS]; // the first nmade; last, so that its untouched pages stay unused
} csp__sched;

#if CSP_COUNT
/* From here on each write to a hint is counted. */
#define csp__count_write(at)                                                                       \
    csp__count_n(WRITE, (uintptr_t)(at) - (uintptr_t)&csp__sched.nidle_p <                         \
                            offsetof(__typeof__(csp__sched), nmade) -                              \
                                offsetof(__typeof__(csp__sched), nidle_p))
#undef csp__set
#undef csp__release
#undef csp__swap
#undef csp__add
#undef csp__cas
#define csp__set(p, v) (csp__count_write(p), __atomic_store_n(p, v, __ATOMIC_RELAXED))
#define csp__release(p, v) (csp__count_write(p), __atomic_store_n(p, v, __ATOMIC_RELEASE))
#define csp__swap(p, v) (csp__count_write(p), __atomic_exchange_n(p, v, __ATOMIC_ACQ_REL))
#define csp__add(p, v) (csp__count_write(p), __atomic_add_fetch(p, v, __ATOMIC_ACQ_REL))
#define csp__cas(p, old, v)                                                                        \
    (csp__count_write(p),                                                                          \
     __atomic_compare_exchange_n(p, old, v, false, __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE))
#endif

static csp__os_key csp__foreign_key;
#ifdef CSP_STATIC
static
#endif
    uint32_t csp_x_watched = 1; // 0 while the runtime runs, with membarrier and nothing that counts
static csp__m csp__starting = {.epoch = 1}; // p->m of a P in sched.starting: never in user code

static int64_t csp__virtual; // the simulator's time, see SIMULATOR; 0: the system's

CSP__FN int64_t csp__clock(void)
{
    return CSP__UNLIKELY(csp__virtual != 0) ? csp__virtual : csp__os_clock();
}

/* What the goroutines that stand in a heap themselves wait on. */
static const char csp__asleep[1];
#define csp__on_shown(on) ((on) == csp__asleep ? NULL : (on))

/* KNOTS: functions that are called by rooms above the one that defines them. Each names that room
 * and the reason. */
CSP__FN void csp__die(csp__g *g, const char *message, const char *place)
    __attribute__((noreturn));                 // PANIC; uncaught: dump, end
CSP__FN csp__m *csp__attach(csp__m *m);        // BOOT; first use by a thread; m: NULL, an orphan
CSP__FN csp__m *csp__enter_slow(csp__m *m);    // SCHED; a call of csp may have to give the P up
CSP__FN void csp__g_main(void *value);         // GO; the first function of a fresh stack
CSP__FN bool csp__deadlock_check_locked(void); // PANIC; from a thread that goes to sleep
// Public functions that are called upwards, too:
//   csp_panic        PANIC; every room above it finds misuse
//   csp_x_panic      PANIC; the same, by a call that knows its place
//   csp_dump         DUMP; shows the goroutines of a process that ends
//   csp_count        SELF; a deadlock's message says whether any goroutine is left
//   csp_x_select_fds FD; a select that has a descriptor among its cases

enum { CSP__LIFE_STARTS, CSP__LIFE_MAIN_ENDED, CSP__LIFE_STOPS, CSP__LIFE_DIES, CSP__LIFE_FORKED };
CSP__FN void csp__lifecycle(int moment); // TRACE; it begins and ends what the environment asks for

/* While the program has threads of its own, sleeping goroutines are no deadlock. Such a thread may
 * end unannounced, so the last sleeping thread of csp wakes to look again: after 1 s, then after
 * twice as long each time. */
#define csp__deadlock_look_later(ns) ((ns) == 0 ? CSP_SECOND : 2 * (ns) % CSP_HOUR)

/* How many Ps exist: procs[i] may be used for each i below. Without the acquire a processor with
 * weak order may load procs[i] first, and get the NULL from before csp_procs made that P.
 * model: a_processor_that_is_counted_is_there */
#define csp__nmade() csp__acquire(&csp__sched.nmade) // acq <nmade>

/* The time for dumps, read from memory. The monitor, and each reading of the clock, keep it within
 * 10 ms. It stands in a line that all Ps read at each turn: so it is written only when it is older
 * than half a millisecond. */
#define csp__now_cached() csp__relaxed(&csp__sched.now_cached)

CSP__FN int64_t csp__now_refresh(void)
{
    int64_t now = csp__clock();
    int64_t since = now - csp__now_cached(); /* below 0: from or to a simulation's time */
    if (since < 0 || since >= CSP_MILLISECOND / 2) csp__set(&csp__sched.now_cached, now);
    return now;
}

/* ==========================================================================
 * [11] TAPES - where each thread notes what it does, while a trace is on
 *
 * A ring of events for each thread: one writer, the thread; one reader, TRACE's own thread. So a
 * note takes no lock and does not wait. A full ring drops events, and says later how many.
 *
 *   uses   PLATFORM BASE SYSTEM LOCKS CORE
 *   locks  trace.lock
 * ======================================================================== */

/* TRACE POINTS. The short ways of park and ready have no test for a trace. Instead a trace makes
 * goroutines bear the SLOW flag, with which they do not park by the short way. Three places set it
 * while a trace is on: sched.tools when a goroutine is bound to its stack, bit 1 of p.eager when it
 * is made ready, and csp__note_run when it is run. So all that is missing in a trace is the first
 * park of the goroutines that ran on other processors when it began. */
enum {
    CSP__EV_NAME,
    CSP__EV_RUN,
    CSP__EV_STOP,
    CSP__EV_WAKE,
    CSP__EV_STEAL,
    CSP__EV_MOVE,
    CSP__EV_SLEPT,
    CSP__EV_GAP
};
/* NAME: of the goroutine whose RUN follows. MOVE: a running one lost its processor, or got one. */
#define CSP__TAPE 8192
#define CSP__TAPES 128

typedef union csp__noted {
    struct {
        int64_t at;
        uint64_t g;       // its id; STOP: what it waits on; SLEPT: since when
        const void *what; // RUN: csp_x_site; STOP, WAKE: a word
        uint32_t n;       // RUN, WAKE: counts wakes, 0: none; STEAL: the victim; GAP: events
        int16_t p;        // RUN, STEAL, MOVE: the processor; -1: none
        uint8_t kind;
    };
    char name[30];
} csp__noted;

typedef struct csp__tape {
    struct csp__tape *link; // immutable once it is in trace.tapes
    uint32_t owned;         // atomic
    int tid;                // of the owner; it and `introduced` change hands with `head`
    bool foreign, introduced;
    csp__i64 taken_at; // atomic: when the owner's P was last taken from it
    // the owner's
    uint32_t head __attribute__((aligned(64))); // atomic; rel/acq <tape>
    uint32_t trace, lost; // atomic: which trace it writes, and how many events that lacks by now
    // the reader's: what it knows of the owner
    uint32_t tail __attribute__((aligned(64))); // atomic; rel/acq <tape>
    csp__noted run;                             // the turn that has begun; g 0: none
    int64_t p_since;                            // on run.p
    char name[sizeof(csp__noted)];
    csp__noted events[CSP__TAPE];
} csp__tape;

static struct {
    uint32_t on; // atomic: the trace's number, or 0
    uint32_t lock, ntapes;
    uint32_t lost;              // atomic: events of threads without a tape
    csp__tape *tapes;           // atomic: rel/acq <trace.tapes>; they stay, for the threads to come
    struct csp__waited *waited; // atomic; not NULL: a profile is made, and no trace; see PROFILE
} csp__trace;
#define csp__tracing() CSP__UNLIKELY(csp__relaxed(&csp__trace.on) != 0)

/* PROFILE. How often and for how long goroutines waited, by what they were started as and where
 * they waited: from the trace points, where a goroutine stops and where it runs again. One table
 * for all threads. An entry belongs to the thread that puts `what` there, and is counted atomically
 * from then on; `site` follows it, so that a reader waits for the moment in between. */
#define CSP__WAITED 4096
typedef struct csp__waited {
    const char *what;       // atomic; NULL: free
    const csp_x_site *site; // atomic; rel/acq <waited.site>
    csp__u64 count, ns;     // atomic
} csp__waited;

CSP__FN void csp__waited_add(csp__waited *all, const char *what, const csp_x_site *site, int64_t ns)
{
    uintptr_t hash = ((uintptr_t)what * 31 + (uintptr_t)site) * (uintptr_t)0x9e3779b1u;
    for (uint32_t i = 0; i < CSP__WAITED; i++) {
        csp__waited *w = &all[((hash >> 7) + i) % CSP__WAITED];
        const char *none = NULL;
        if (csp__relaxed(&w->what) == NULL && csp__cas(&w->what, &none, what))
            csp__release(&w->site, site); // rel <waited.site>
        if (csp__relaxed(&w->what) != what) continue;
        const csp_x_site *other;
        while ((other = csp__acquire(&w->site)) == NULL) csp__pause(); // acq <waited.site>
        if (other != site) continue;
        csp__add(&w->count, 1u);
        csp__add(&w->ns, (uint64_t)ns);
        return;
    } /* more than 4096 places: what comes late is not counted */
}

CSP__FN CSP__COLD csp__tape *csp__tape_get(csp__m *m)
{
    csp__tape *t;
    csp__lock(&csp__trace.lock, CSP__RANK_TAPES);
    for (t = csp__trace.tapes; t != NULL; t = t->link) /* of a thread that has ended */
        if (csp__acquire(&t->owned) == 0 && t->head == csp__acquire(&t->tail)) break;
    if (t == NULL && csp__trace.ntapes < CSP__TAPES &&
        (t = (csp__tape *)csp__os_pages_get(sizeof *t)) != NULL) {
        csp__set(&csp__trace.ntapes, csp__trace.ntapes + 1);
        t->link = csp__trace.tapes;
        csp__release(&csp__trace.tapes, t); // rel <trace.tapes>
    }
    if (t != NULL) {
        t->owned = 1;
        t->tid = csp__os_tid();
        t->foreign = m->foreign;
        t->introduced = false;
        csp__set(&t->taken_at, 0);
        m->tape = t;
    }
    csp__unlock(&csp__trace.lock);
    return t;
}

CSP__FN CSP__NOINLINE void csp__note(csp__m *m, int kind, int64_t at, uint64_t g, const void *what,
                                     uint32_t n, int p)
{
    csp__tape *t = m->tape;
    if (csp__relaxed(&csp__trace.waited) != NULL) return;
    if (t == NULL &&
        (csp__relaxed(&csp__trace.ntapes) >= CSP__TAPES || (t = csp__tape_get(m)) == NULL)) {
        csp__add(&csp__trace.lost, 1);
        return;
    }
    uint32_t head = t->head, trace = csp__relaxed(&csp__trace.on);
    if (trace == 0) return;
    if (t->trace != trace) {
        csp__set(&t->trace, trace);
        csp__set(&t->lost, 0);
    }
    if (CSP__TAPE - (head - csp__acquire(&t->tail)) < 2) { // acq <tape>: they have been read
        csp__set(&t->lost, t->lost + 1);
        return;
    }
    if (t->lost != 0) {
        t->events[head++ % CSP__TAPE] = (csp__noted){{at, 0, NULL, t->lost, -1, CSP__EV_GAP}};
        csp__set(&t->lost, 0);
    }
    csp__noted *e = &t->events[head++ % CSP__TAPE];
    *e = (csp__noted){{at, g, what, n, (int16_t)p, (uint8_t)kind}};
    if (kind == CSP__EV_NAME) csp__copy_text(e->name, (const char *)what, sizeof e->name);
    csp__release(&t->head, head); // rel <tape>
}

#define CSP__TAPE_WOKEN 0x8000u /* in g.wakes: no run since */

CSP__FN CSP__NOINLINE void csp__note_run(csp__m *m, csp__g *g, int64_t at)
{
    const char *name = g->cb->name;
    csp__waited *waited = csp__relaxed(&csp__trace.waited);
    if (waited != NULL) {
        csp__cb *cb = g->cb;
        int64_t since = csp__relaxed(&cb->stopped_at);
        if (since != 0) csp__waited_add(waited, cb->what, g->site, at > since ? at - since : 0);
        csp__set(&cb->stopped_at, 0);
        g->flags |= CSP__G_SLOW;
        return;
    }
    uint32_t n = g->wakes & CSP__TAPE_WOKEN ? g->wakes : 0;
    g->wakes &= (uint16_t)~CSP__TAPE_WOKEN;
    g->flags |= CSP__G_SLOW;
    if (*name != 0) csp__note(m, CSP__EV_NAME, at, 0, name, 0, 0);
    csp__note(m, CSP__EV_RUN, at, g->id, g->site, n, m->p->id);
}

CSP__FN CSP__NOINLINE void csp__note_stop(csp__m *m, csp__g *g, const char *what, int64_t at)
{
    csp__cb *cb = g->cb;
    bool waits = g->state == CSP__G_WAITING;
    if (csp__relaxed(&csp__trace.waited) != NULL) {
        csp__set(&cb->stopped_at, waits ? at : 0);
        return;
    }
    csp__note(m, CSP__EV_STOP, at, waits ? (uintptr_t)csp__on_shown(cb->on) : 0,
              waits ? cb->what : what, 0, -1);
}

/* m's P is about to be taken from it. m notes that when it comes back; this keeps the time. */
CSP__FN inline void csp__note_taken(csp__m *m)
{
    if (csp__tracing() && m->tape != NULL) csp__set(&m->tape->taken_at, csp__clock());
}

/* g is about to be made runnable. The picture of the trace has an arrow for it, unless g does it to
 * itself. */
CSP__FN CSP__NOINLINE void csp__note_wake(csp__g *g)
{
    csp__m *m = csp__self();
    if (m == NULL || m->g == g) return;
    g->wakes = (uint16_t)((g->wakes + 1u) | CSP__TAPE_WOKEN);
    g->flags |= CSP__G_SLOW;
    csp__note(m, CSP__EV_WAKE, csp__clock(), g->id, g->state == CSP__G_FRESH ? "go" : "wake",
              g->wakes, -1);
}

/* ==========================================================================
 * [12] STACKS - arenas, guards, caches
 *
 * Stacks of the default size come from arenas: large reserved mappings cut into slots, committed
 * as they are touched. A slot, from low to high: [guard] usable ... frames | control block, shifted
 * by a colour. Tops of a thousand stacks at one page offset would share a few sets of the cache.
 *
 * SIZES. A stack has at least as many usable bytes as were asked for: the guard, the control block
 * and the colour come on top of them. The guard is CSP__GUARD bytes, in whole pages. A local array
 * that is larger than the guard may jump over it without a fault, and what lies below belongs to
 * another goroutine: with a guard of one page any array of 4 KiB could. Compilers probe each page
 * of a large frame with -fstack-clash-protection, and then one page is enough. Stacks that were
 * asked to be small (CSP__GUARD and below) have one page: 64 KiB below each of a million stacks of
 * 16 KiB would cost 125 MB of page tables. Slots below 16 KiB are packed, several to a page, and
 * have a canary only. Below a million stacks of the default size the 64 KiB cost 133 MB of page
 * tables (634 instead of 501; 4,065 MB of pages), no mapping, and nothing at a switch.
 *   Where guards have run out (mprotect, see CSP_GUARD_LIMIT) or are switched off, the guard's
 * bytes stay reserved below the canary, and are not used. An overflow of up to 64 KiB is then found
 * when the goroutine parks, and has destroyed nothing that belongs to others.
 *
 * A spawn takes a promise (credit) from the arenas, so that it is the spawn that fails when
 * address space runs out; the first run takes the slot. Slots never used are cut from the newest
 * arena.
 *   uses   PLATFORM BASE CONTEXT TOOLS SYSTEM LOCKS CORE
 *   locks  stacks.lock guards all below
 * ======================================================================== */

enum {
    CSP__GUARD_ADVICE,
    CSP__GUARD_MPROTECT,
    CSP__GUARD_CANARY,
    CSP__GUARD_PACKED
}; // from CANARY on: the canary is checked at each switch
#define CSP__CANARY_WORD UINT64_C(0x6373702e63616e61)
#define CSP__ARENA_SLOTS 256
#define CSP__GUARD ((size_t)64 * 1024) /* bytes below a stack that must not be touched */
#define CSP__COLOURS 20
#define CSP__COLOUR 128

typedef struct csp__arena {
    struct csp__arena *link, *more; // link: all arenas; more: of this size, with slots left
    char *base, *cut, *end;         // slots below cut have been used
} csp__arena;

/* Slots of one size. */
typedef struct csp__class {
    csp__arena *arena;       // the newest with slots left
    csp__cb *free, *trimmed; // trimmed: without deep pages
} csp__class;

#define CSP__CLASSES (42 * 16)
static struct {
    uint32_t lock;
    csp__arena *arenas;
    csp__i64 promised, capacity, made, guards; // promised, capacity: of the default size
    bool used;                                 // atomic: there are free stacks to be trimmed
    csp__u64 bytes;                            // atomic
    size_t slot;                               // of the default size, with its guard
    csp__class classes[CSP__CLASSES];          // [0]: of the default size
} csp__stacks;

CSP__FN size_t csp__page_round(size_t n)
{
    return (n + csp__os_page() - 1) & ~(csp__os_page() - 1);
}

/* What a slot holds besides the usable bytes and the guard; a word for a canary. */
#define CSP__SLOT_REST (sizeof(csp__cb) + 64 + sizeof(uint64_t))

/* The bytes of guard in a slot of this size: CSP__GUARD for the default size and for slots that are
 * not small, one page for small ones, none for packed ones. */
CSP__FN size_t csp__guard_size(const csp__class *c, size_t slot)
{
    bool wide = c == csp__stacks.classes || slot > 2 * CSP__GUARD;
    return slot < 16384 ? 0 : csp__page_round(wide ? CSP__GUARD : CSP__OS_GUARD_LEAST);
}

/* The slot of the default size: for that many usable bytes below the lowest of the colours. */
CSP__FN size_t csp__slot_default(size_t size)
{
    return csp__page_round(size + CSP__SLOT_REST + CSP__COLOURS * CSP__COLOUR) +
           csp__page_round(CSP__GUARD);
}

/* An arena that is in no list yet; NULL when out of memory. Never under the lock: mmap and munmap
 * take microseconds, and wait while another thread of the process maps or faults. A thread that
 * finds that another one was faster gives its own arena back. */
CSP__FN csp__arena *csp__arena_new(size_t slot, size_t slots)
{
    csp__arena *a = (csp__arena *)csp__zalloc(sizeof *a);
    char *base = a == NULL ? NULL : (char *)csp__os_stacks_get(slot * slots);
    if (base == NULL) {
        csp__free(a);
        return NULL;
    }
    *a = (csp__arena){NULL, NULL, base, base, base + slot * slots};
    return a;
}

CSP__FN void csp__arena_free(csp__arena *a)
{
    if (a == NULL) return;
    csp__os_pages_put(a->base, (size_t)(a->end - a->base));
    csp__free(a);
}

CSP__FN void csp__arena_add_locked(csp__class *c, csp__arena *a)
{
    a->link = csp__stacks.arenas;
    a->more = c->arena;
    csp__stacks.arenas = c->arena = a;
    csp__set(&csp__stacks.bytes, csp__stacks.bytes + (size_t)(a->end - a->base));
}

CSP__FN uint8_t csp__guard(char *base, size_t size)
{
    if (CSP_STACK_GUARD >= 2 && csp__os_guard(base, size)) return CSP__GUARD_ADVICE;
    if (CSP_STACK_GUARD >= 1 && csp__add(&csp__stacks.guards, 1) <= CSP__OS_GUARDS_FEW &&
        csp__os_guard_few(base, size))
        return CSP__GUARD_MPROTECT;
    return CSP__GUARD_CANARY;
}

/* Writes the control block of the n-th slot; a colour staggers the tops within a page. */
CSP__FN csp__cb *csp__slot_make(csp__class *c, char *base, size_t slot, uint8_t kind, int64_t n)
{
    size_t colour = kind == CSP__GUARD_PACKED ? 0 : (size_t)(n % CSP__COLOURS) * CSP__COLOUR;
    uintptr_t at = ((uintptr_t)base + slot - sizeof(csp__cb) - colour) & ~(uintptr_t)63;
    csp__cb *cb = (csp__cb *)at;
    csp__os_stack_open(base + csp__guard_size(c, slot), base + slot);
    csp__clear(cb, sizeof *cb);
    cb->base = base;
    cb->low = base + csp__guard_size(c, slot);
    cb->top = (char *)cb;
    cb->home = c;
    cb->kind = kind;
    if (kind >= CSP__GUARD_CANARY) *(uint64_t *)(void *)cb->low = CSP__CANARY_WORD;
    csp__valgrind_stack(cb->low, base + slot);
#if CSP_X_TSAN
    cb->fiber = __tsan_create_fiber(0);
#endif
    return cb;
}

/* Promises n slots of the default size: each may then be taken without fail, even when every P
 * keeps a full cache. For that, what a cache may hold is promised too, once the P comes to have a
 * cache. (Promised for all Ps at once, on a machine of 384 CPUs, it would be 8 GB of addresses for
 * a program of one goroutine.) A negative n takes promises back. */
CSP__FN bool csp__stacks_promise(int n)
{
    csp__arena *a = NULL;
    bool ok, tried = false;
    csp__lock(&csp__stacks.lock, CSP__RANK_STACKS);
    while (!(ok = csp__stacks.promised + n <= csp__stacks.capacity)) {
        if (a != NULL) {
            csp__arena_add_locked(csp__stacks.classes, a);
            csp__stacks.capacity += CSP__ARENA_SLOTS;
            a = NULL;
            continue;
        }
        if (tried) break;
        csp__unlock(&csp__stacks.lock);
        a = csp__arena_new(csp__stacks.slot, CSP__ARENA_SLOTS);
        tried = a == NULL;
        csp__lock(&csp__stacks.lock, CSP__RANK_STACKS);
    }
    if (ok) csp__stacks.promised += n;
    csp__unlock(&csp__stacks.lock);
    csp__arena_free(a);
    return ok;
}

#define CSP__BATCH 16 /* the arrays below must fit on a small goroutine's stack */

/* Guards and first pages of n neighbouring slots in two system calls, instead of n calls and n
 * faults: a fault costs twice what the page itself does. */
CSP__FN bool csp__slots_prepare(char *base, size_t slot, size_t guard, int n)
{
    csp__span spans[CSP__BATCH];
    size_t page = csp__os_page();
    for (int i = 0; i < n; i++) spans[i] = (csp__span){base + (size_t)i * slot, guard};
    if (!csp__os_guards(spans, n)) return false;
    for (int i = 0; i < n; i++) spans[i] = (csp__span){base + (size_t)(i + 1) * slot - page, page};
    csp__os_pages_touch(spans, n);
    return true;
}

/* A list of stacks of one size becomes free. */
CSP__FN void csp__stacks_put(csp__cb *list)
{
    csp__class *c = list->home;
    csp__cb *last = list;
    while (last->link != NULL) last = last->link;
    csp__lock(&csp__stacks.lock, CSP__RANK_STACKS);
    last->link = c->free;
    c->free = list;
    csp__set(&csp__stacks.used, true);
    csp__unlock(&csp__stacks.lock);
}

/* n new neighbours, numbered from `first`; returns one, the others become free. */
CSP__FN csp__cb *csp__slots_make(csp__class *c, char *base, size_t slot, int n, int64_t first)
{
    csp__cb *list = NULL;
    size_t guard = csp__guard_size(c, slot);
    bool ready = n > 1 && csp__slots_prepare(base, slot, guard, n);
    for (int i = n; i-- > 0;) {
        char *at = base + (size_t)i * slot;
        uint8_t kind = guard == 0 ? CSP__GUARD_PACKED
                       : ready    ? CSP__GUARD_ADVICE
                                  : csp__guard(at, guard);
        csp__cb *cb = csp__slot_make(c, at, slot, kind, first + i);
        cb->link = list;
        list = cb;
    }
    if (n > 1) csp__stacks_put(list->link);
    return list;
}

/* A stack, NULL when out of memory. New ones of the default size are made one by one at first,
 * later by the batch. */
CSP__FN csp__cb *csp__stack_get(csp__class *c, size_t slot)
{
    csp__arena *fresh = NULL;
    for (;;) {
        csp__lock(&csp__stacks.lock, CSP__RANK_STACKS);
        csp__cb **from = c->free != NULL ? &c->free : &c->trimmed, *cb = *from;
        if (cb != NULL) {
            *from = cb->link;
            csp__unlock(&csp__stacks.lock);
            csp__arena_free(fresh);
            while (csp__acquire(&cb->busy) != 0)
                csp__os_yield(); // acq <cb.busy>: its last user is on the way out
            return cb;
        }
        if (c->arena == NULL && fresh != NULL) {
            csp__arena_add_locked(c, fresh);
            fresh = NULL;
        }
        if (c->arena != NULL) break;
        csp__unlock(&csp__stacks.lock);
        fresh = csp__arena_new(slot, slot < 262144 ? 1048576 / slot : 1);
        if (fresh == NULL) return NULL;
    }
    csp__arena *a = c->arena;
    char *base = a->cut;
    int64_t first = csp__stacks.made, left = (a->end - a->cut) / (int64_t)slot;
    int n = left < CSP__BATCH ? (int)left : CSP__BATCH;
    if (c != csp__stacks.classes || first < 4 * CSP__BATCH) n = 1;
    csp__stacks.made += n;
    a->cut += slot * (size_t)n;
    if (a->cut == a->end) c->arena = a->more;
    csp__unlock(&csp__stacks.lock);
    csp__arena_free(fresh);
    return csp__slots_make(c, base, slot, n, first);
}

/* One of the default size, which has been promised. */
CSP__FN csp__cb *csp__stack_default(void)
{
    return csp__stack_get(csp__stacks.classes, csp__stacks.slot);
}

/* Between a power of two and the next there are sixteen sizes of slots. */
CSP__FN size_t csp__slot_round(size_t n)
{
    size_t step = (size_t)1 << (59 - __builtin_clzll(n));
    return (n + step - 1) & ~(step - 1);
}

/* One of another size. Small ones are packed, with a canary only; a slot above them is a whole
 * number of pages, as its sixteenth part is, or is less than a page. */
CSP__FN csp__cb *csp__stack_sized(size_t size)
{
    size += CSP__STACK_EXTRA;
    size_t slot = csp__slot_round(size + CSP__SLOT_REST);
    if (slot >= 16384) {
        size_t usable = csp__page_round(size + CSP__SLOT_REST + CSP__COLOURS * CSP__COLOUR);
        size_t guard = size > CSP__GUARD ? CSP__GUARD : CSP__OS_GUARD_LEAST;
        slot = csp__slot_round(usable + csp__page_round(guard));
    }
    size_t log = 63 - (size_t)__builtin_clzll(slot), part = slot >> (log - 4) & 15;
    return csp__stack_get(&csp__stacks.classes[log * 16 + part], slot);
}

/* The pages of a free stack but for the first ones; no bytes when there are none. */
CSP__FN csp__span csp__stack_depth(csp__cb *cb)
{
    uintptr_t keep = ((uintptr_t)cb - 4096) & ~(csp__os_page() - 1);
    uintptr_t low = csp__page_round((uintptr_t)cb->low + (cb->kind == CSP__GUARD_CANARY));
    bool busy = csp__acquire(&cb->busy) != 0; /* a preempted thread has yet to leave it */
    return (csp__span){(void *)low,
                       keep > low && !busy && cb->kind != CSP__GUARD_PACKED ? keep - low : 0};
}

/* Gives back the deep pages of the first free stacks of this size. Returns how many stacks it has
 * looked at. */
CSP__FN int csp__stacks_trim_some(csp__class *c)
{
    csp__span deep[CSP__BATCH];
    csp__cb *last = NULL;
    int looked = 0, n = 0;
    if (csp__relaxed(&c->free) == NULL) return 0;
    csp__lock(&csp__stacks.lock, CSP__RANK_STACKS);
    csp__cb *list = c->free;
    for (csp__cb *cb = list; cb != NULL && looked < CSP__BATCH; last = cb, cb = cb->link, looked++)
        if ((deep[n] = csp__stack_depth(cb)).size > 0) n++;
    if (looked > 0) c->free = last->link;
    csp__unlock(&csp__stacks.lock);
    if (looked == 0) return 0;
    if (n > 0) csp__os_pages_drop(deep, n);
    csp__lock(&csp__stacks.lock, CSP__RANK_STACKS);
    last->link = c->trimmed;
    c->trimmed = list;
    csp__unlock(&csp__stacks.lock);
    return looked;
}

/* Gives the deep pages of up to `most` free stacks back to the system. It takes half a microsecond
 * for each, which a goroutine's end should not pay. So the monitor does it from time to time, and
 * before it goes to sleep. */
CSP__FN void csp__stacks_trim(int most)
{
    csp__set(&csp__stacks.used, false);
    for (csp__class *c = csp__stacks.classes; c < csp__stacks.classes + CSP__CLASSES; c++)
        for (int n = 1; n > 0 && most > 0; most -= n) n = csp__stacks_trim_some(c);
    if (most <= 0) csp__set(&csp__stacks.used, true);
}

CSP__FN CSP__COLD __attribute__((noreturn)) void csp__overflow(const csp__cb *cb)
{
    char text[512];
    const csp_x_site *site = cb->g->site;
    snprintf(text, sizeof text,
             "fatal: stack overflow\n\n"
             "goroutine %llu [%s], stack of %zu bytes, started at %s:%d\n\n%s",
             (unsigned long long)cb->g->id, cb->name[0] ? cb->name : site->name,
             (size_t)(cb->top - cb->low), site->file, site->line,
             cb->kind < CSP__GUARD_CANARY
                 ? "An array that is larger than the guard below the stack may jump over it unseen:"
                   " compile with\n-fstack-clash-protection.\n"
                 : "This stack has no guard: what lies below it may have been overwritten.\n");
    csp__say(text);
    csp_x_dies();
    if (csp__sched.aborts) abort();
    csp__os_exit(2);
}

/* Stacks without a guard page: looked at whenever the goroutine parks or ends. */
CSP__FN bool csp__canary_dead(const csp__cb *cb)
{
    return cb->kind >= CSP__GUARD_CANARY && *(uint64_t *)(void *)cb->low != CSP__CANARY_WORD;
}

/* In the child of a fork. The stacks stay, because the program may have pointers to values on them.
 * The list of arenas stays too, for tools that look for leaks. */
CSP__FN void csp__stacks_forked(void)
{
    static csp__arena *left;
    csp__arena **last = &csp__stacks.arenas;
    while (*last != NULL) last = &(*last)->link;
    *last = left;
    left = csp__stacks.arenas;
    csp__barrier();
    memset(&csp__stacks, 0, sizeof csp__stacks);
}

/* All goroutines are gone: everything back to the system. */
CSP__FN void csp__stacks_free(void)
{
    while (csp__valgrind_stacks > 0)
        csp__valgrind(0x1502, (const void *)(uintptr_t)--csp__valgrind_stacks, NULL);
    while (csp__stacks.arenas != NULL) {
        csp__arena *a = csp__stacks.arenas;
        csp__stacks.arenas = a->link;
        csp__os_pages_put(a->base, (size_t)(a->end - a->base));
        csp__free(a);
    }
    memset(&csp__stacks, 0, sizeof csp__stacks);
}

CSP__FN __attribute__((no_sanitize_address)) uint64_t *csp__stack_mark(csp__cb *cb)
{
    uint64_t *at = (uint64_t *)(void *)cb->low + (cb->kind >= CSP__GUARD_CANARY);
    while (at < (uint64_t *)(void *)cb->top && csp__relaxed(at) == 0) at++;
    return at; /* the lowest word that is not zero */
}

/* Wipes a stack before a goroutine's first frame, so that its mark says how deep this goroutine has
 * been. With zeros and not with a pattern: fresh pages are zero already, so pages that have never
 * been touched stay uncommitted. */
CSP__FN __attribute__((no_sanitize_address)) void csp__stack_paint(csp__cb *cb, const char *top)
{
    for (uint64_t *at = csp__stack_mark(cb); (char *)at < top; at++) csp__set(at, 0);
}

/* ==========================================================================
 * [13] LIFE - records of goroutines, and their stacks
 *
 * A goroutine has a record (csp__g, one cache line of a slab) and a stack (with csp__cb at its
 * top), which are allocated and freed apart from each other. A record begins without a stack, and
 * is bound to one when the goroutine first runs. When the goroutine ends, both become free. A P
 * uses the records and stacks that it has freed itself first: they are in its cache.
 *
 *   uses   PLATFORM BASE CONTEXT TOOLS SYSTEM LOCKS CORE STACKS
 *   locks  sched.lock
 * ======================================================================== */

typedef struct csp__slab {
    struct csp__slab *link;
    csp__g g[1023] __attribute__((aligned(64)));
} csp__slab;

/* A slab of records, each linked to the next; NULL when out of memory. */
CSP__FN csp__slab *csp__slab_new(void)
{
    csp__slab *slab = (csp__slab *)csp__os_pages_get(sizeof *slab);
    for (int i = 0; slab != NULL && i < 1022; i++) slab->g[i].link = &slab->g[i + 1];
    return slab;
}

/* Goroutine records: from slabs, by free lists; NULL when out of memory. A P gets all there are, a
 * foreign thread one. The slab is mapped without the lock: mmap and its 16 page faults take 40 us,
 * for which every other thread would wait. Two threads that do so at once both keep theirs. */
CSP__FN CSP__COLD csp__g *csp__g_refill(csp__p *p)
{
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__g *g = csp__sched.free_g;
    if (g == NULL) {
        csp__unlock(&csp__sched.lock);
        csp__slab *slab = csp__slab_new();
        csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
        g = csp__sched.free_g;
        if (slab != NULL) {
            slab->g[1022].link = g;
            slab->link = csp__sched.slabs;
            csp__release(&csp__sched.slabs, slab); // the dump walks them without a lock
            g = &slab->g[0];
        }
    }
    if (g != NULL && p != NULL) p->free_g = g->link;
    if (g != NULL) csp__sched.free_g = p != NULL ? NULL : g->link;
    csp__unlock(&csp__sched.lock);
    return g;
}

CSP__FN csp__g *csp__g_alloc(csp__p *p)
{
    csp__g *g = p != NULL ? p->free_g : NULL;
    if (CSP__UNLIKELY(g == NULL)) return csp__g_refill(p);
    p->free_g = g->link;
    return g;
}

CSP__FN uint64_t csp__new_id(csp__p *p)
{
    if (p == NULL) return csp__add(&csp__sched.ids, 64) - 63;
    if ((p->ids & 63) == 0) p->ids = csp__add(&csp__sched.ids, 64) - 64;
    return ++p->ids;
}

/* The promise of a stack of the default size. */
CSP__FN bool csp__credit_take(csp__p *p)
{
    if (p == NULL) return csp__stacks_promise(1);
    if (p->credit == 0 && csp__stacks_promise(32)) p->credit = 32;
    return p->credit > 0 && p->credit-- > 0;
}

CSP__FN inline uint8_t csp__slow_switch(const csp__cb *cb)
{
    return CSP__UNLIKELY(cb->kind >= CSP__GUARD_CANARY || csp__relaxed(&csp__sched.tools))
               ? CSP__G_SLOW
               : 0;
}

/* Gives a fresh goroutine its stack, and moves its arguments there. They lay where g.sp is; from
 * now on g.sp must be an address on the stack. A goroutine that begins without a switch gets no
 * other value there until it first parks. Another thread may find it in a queue before that, while
 * it is on its way to park, and csp__prefetch_g then touches what g.sp points to. */
CSP__FN inline void csp__bind_args(csp__g *g, csp__cb *cb)
{
    memcpy(&cb->run, g->args, sizeof cb->run);
    memcpy(cb->small, g->args + sizeof cb->run, sizeof cb->small);
    cb->args = cb->small;
    cb->g = g;
    g->sp = cb;
    csp__set(&g->cb, cb);
    __atomic_thread_fence(__ATOMIC_RELEASE); // rel <g.cb>: before it is no longer fresh
    g->flags = (uint8_t)((g->flags & ~CSP__G_NEW) | csp__slow_switch(cb));
}

CSP__FN csp__cb *csp__cb_get(csp__p *p)
{
    csp__cb *cb = p->stacks;
    if (cb != NULL && csp__acquire(&cb->busy) == 0) {
        p->stacks = cb->link;
        p->nstacks--;
        return cb;
    }
    return csp__stack_default();
}

/* Frames that csp_exit or a panic has left here had parts that sanitizers forbid to touch. Allows
 * them again before a new frame is put below the top. Valgrind forbids what lies below a frame that
 * has returned, and the new frame may lie there: 256 bytes are room enough for it. */
CSP__FN void csp__stack_unpoison(const csp__cb *cb, const char *top)
{
    csp__unpoison(cb->low, (size_t)(cb->top - cb->low));
    if (CSP__UNLIKELY(csp__relaxed(&csp__valgrind_stacks) != 0))
        csp__valgrind(0x4D430001, top - 256, (const void *)(cb->top - top + 256)); /* writable */
}

/* g begins at the given top of its stack. */
CSP__FN void csp__g_frame(csp__g *g, csp__cb *cb, char *top)
{
    if (CSP_STACK_PAINT) csp__stack_paint(cb, top);
#if CSP_X_TSAN
    /* A fiber has room for 65,536 calls. Those that csp_exit left never return: after so many
     * goroutines on this stack the tool would write beyond the room. */
    if (cb->exited) {
        __tsan_destroy_fiber(cb->fiber);
        cb->fiber = __tsan_create_fiber(0);
        cb->exited = false;
    }
#endif
    g->sp = csp__context_make(cb->low, top, csp__g_main);
    csp__os_stack_frame(g->sp, cb->base, cb->low);
    g->result = g;
    g->busy = 0;
}

CSP__FN void csp__bind(csp__p *p, csp__g *g)
{
    csp__cb *cb = csp__cb_get(p);
    csp__bind_args(g, cb);
    csp__g_frame(g, cb, cb->top);
}

/* ==========================================================================
 * [14] RUNQ - per-P ring and next slot, global queues
 *
 * Invariant: tail - head <= CSP__RING; only the owner moves tail, everybody moves head by CAS.
 *   uses   PLATFORM BASE TOOLS LOCKS CORE
 *   locks  sched.lock guards the global queues; the ring takes none
 *   ref    Vyukov, "Scalable Go Scheduler Design"
 * The owner's `next` is touched by nobody else: who wants it must take the P.
 * A full ring sheds half: goroutines that have run before to the global queue (first in first
 * out), fresh ones to a stack. Newest first keeps a tree of goroutines depth-first: memory for its
 * depth, not for its width.
 * ======================================================================== */

CSP__FN void csp__queue_push(csp__queue *q, csp__g *g)
{
    g->link = NULL;
    if (q->tail != NULL)
        q->tail->link = g;
    else
        q->head = g;
    q->tail = g;
    q->count++;
}

CSP__FN csp__g *csp__queue_pop(csp__queue *q)
{
    csp__g *g = q->head;
    if (g == NULL) return NULL;
    q->head = g->link;
    if (q->head == NULL) q->tail = NULL;
    q->count--;
    return g;
}

CSP__FN void csp__global_count_locked(void)
{
    uint32_t fresh =
        (uint32_t)(csp__sched.fresh.count + csp__sched.turning.count + csp__sched.aged.count);
    csp__set(&csp__sched.nfresh, fresh);
    csp__set(&csp__sched.nglobal, (uint32_t)csp__sched.global.count + fresh);
}

CSP__FN inline void csp__fresh_push_locked(csp__g *g)
{
    csp__queue *fresh = &csp__sched.fresh;
    g->link = fresh->head;
    fresh->head = g;
    if (fresh->tail == NULL) fresh->tail = g;
    fresh->count++;
}

CSP__FN void csp__global_push_locked(csp__g *g)
{
    if (g->state == CSP__G_FRESH)
        csp__fresh_push_locked(g);
    else
        csp__queue_push(&csp__sched.global, g);
    csp__global_count_locked();
}

/* The owner adds g at the tail of its ring; false when the ring is full. */
CSP__FN inline bool csp__ring_put(csp__p *p, csp__g *g)
{
    uint32_t head = csp__acquire(&p->head), tail = p->tail; // acq <ring>: the slot has been read
    if (CSP__UNLIKELY(tail - head >= CSP__RING)) return false;
    csp__set(&p->ring[tail % CSP__RING], g);
    csp__release(&p->tail, tail + 1); // rel <ring>: g and its slot
    return true;
}

/* Adds g to the owner's ring. If that is full, its older half and g go to the global queues. */
CSP__FN CSP__NOINLINE void csp__ring_push(csp__p *p, csp__g *g)
{
    while (!csp__ring_put(p, g)) {
        uint32_t head = csp__relaxed(&p->head), woken = 0;
        if (p->tail - head < CSP__RING || !csp__cas(&p->head, &head, head + CSP__RING / 2))
            continue; /* a thief has made room */
        /* The half is taken: only the owner writes into the ring, and thieves look above it. */
        csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
        /* Fresh ones in reverse, so that the oldest of the batch comes out first. */
        for (uint32_t i = CSP__RING / 2; i-- > 0;) {
            csp__g *fresh = p->ring[(head + i) % CSP__RING];
            if (fresh->state == CSP__G_FRESH)
                csp__fresh_push_locked(fresh);
            else
                woken++;
        }
        for (uint32_t i = 0; woken > 0; i++) {
            csp__g *old = p->ring[(head + i) % CSP__RING];
            if (old->state == CSP__G_FRESH) continue;
            csp__queue_push(&csp__sched.global, old);
            woken--;
        }
        csp__global_push_locked(g);
        csp__unlock(&csp__sched.lock);
        return;
    }
}

/* The owner takes the first of its ring by a CAS, as thieves do. The tempting other way is plain
 * stores while no thief has announced itself, against thieves that use a barrier: it makes a yield
 * 6.8 ns; with the CAS it is 6.4. */
CSP__FN inline csp__g *csp__ring_pop(csp__p *p)
{
    for (;;) {
        uint32_t head = csp__acquire(&p->head);
        if (head == p->tail) return NULL;
        csp__g *g = p->ring[head % CSP__RING];              /* only the owner writes there */
        if (!csp__cas(&p->head, &head, head + 1)) continue; // rel <ring>
        if (g == NULL) __builtin_unreachable();
        return g;
    }
}

CSP__FN inline uint32_t csp__ring_count(csp__p *p)
{
    return csp__relaxed(&p->tail) - csp__relaxed(&p->head);
}

/* SLICES. Goroutines that wake each other through `next` are a chain. While a chain goes on, the
 * ring waits. So a chain has CSP__TURNS turns; then it goes behind the ring if a goroutine waits
 * there. A quick chain has cost the others some microseconds by then.
 *   The count alone is unfair to quick chains beside slow ones: 16 turns of 0.3 ms would be paid
 * back by 16 of 0.3 us. So where a turn takes CSP__SLOW or more on the average, chains are clocked.
 * A clocked chain has a slice of time: as long as the goroutines in the ring took on the average
 * while a chain waited behind them. Behind a sleeper that ran for 2 us a chain has no more than the
 * turn that it is in. The slice shrinks by a quarter each time. If it did not, two chains that once
 * ran for long would go on to grant each other as much.
 *
 * Reading the clock takes 27 ns, beside turns of 20. While turns are quick, every fourth cut is
 * clocked. The time measured contains the time for which the system took the CPU away. Then quick
 * chains are clocked for a while, every turn at first and every 16th soon, and still get their
 * turns. While they are clocked, a turn of less than CSP__HICCUP counts as quick: the interrupts of
 * a virtual machine take 45 us, one in each ms, and chains that stayed clocked because of them made
 * a sieve take 95 ms instead of 46. */
#define CSP__TURNS 16
#define CSP__SLOW (2 * CSP_MICROSECOND)
#define CSP__SLICE_MOST (10 * CSP_MILLISECOND)
#define CSP__HICCUP (100 * CSP_MICROSECOND)

/* Decides whether chains are clocked, from what a turn took on the average since the last look. */
CSP__FN void csp__slice_measure(csp__p *p, int64_t now)
{
    uint64_t turns = p->tick - p->measured_tick;
    bool known = p->measured_at != 0 && turns != 0;
    int64_t took = now - p->measured_at;
    bool slow = known && took / (int64_t)turns >= CSP__SLOW &&
                took >= (p->lot == 1 ? CSP__HICCUP : CSP__TURNS * CSP__SLOW);
    p->measured_at = now;
    p->measured_tick = p->tick;
    if (!known) return;
    if (slow) {
        if (p->lot != 1) p->from = p->cut_at = p->slice = 0;
        p->lot = 1;
        p->slow_at = now;
    } else if (now - p->slow_at > 2 * CSP__SLICE_MOST) {
        p->lot = CSP__TURNS;
    }
    p->granted = slow ? 1 : p->granted < CSP__TURNS ? 2 * p->granted : CSP__TURNS;
}

/* A chain begins with g. If g is the one that was cut, those in the ring have had their turns. */
CSP__FN void csp__slice_begin(csp__p *p, const csp__g *g, int64_t now)
{
    if (g == p->cut_g && p->cut_at != 0) {
        int64_t took = (now - p->cut_at) / p->others;
        if (took < p->slice) took = p->slice;
        if (took > CSP__SLICE_MOST) took = CSP__SLICE_MOST;
        p->slice = took - took / 4;
        p->cut_at = 0;
    }
    p->from = now;
    p->granted = 1;
}

/* The chain in `next` goes behind the ring, whose first is returned. */
CSP__FN csp__g *csp__slice_cut(csp__p *p)
{
    csp__g *g = p->next;
    csp__set(&p->next, NULL);
    csp__ring_push(p, g);
    p->cuts++;
    return csp__ring_pop(p);
}

/* csp__p_pop where chains are clocked. */
CSP__FN csp__g *csp__slice_clocked(csp__p *p, csp__g *next)
{
    int64_t now = csp__now_refresh();
    uint32_t others = csp__ring_count(p);
    csp__g *g = next;
    csp__slice_measure(p, now);
    if (next == NULL) {
        g = csp__ring_pop(p);
        csp__slice_begin(p, g, now);
    } else if (others != 0 && p->from != 0 && now - p->from >= p->slice) {
        g = csp__slice_cut(p);
        csp__slice_begin(p, g, now);
        if (p->cut_at == 0 || now - p->cut_at > 10 * CSP__SLICE_MOST) { /* or it was stolen */
            p->cut_g = next;
            p->cut_at = now;
            p->others = others;
        }
    } else {
        if (p->from == 0) p->from = now;
        csp__set(&p->next, NULL);
    }
    p->left = p->lot == 1 ? p->granted : CSP__TURNS;
    return g;
}

/* The next goroutine of this P, without looking further than its own queues; NULL when there is
 * none. */
CSP__FN CSP__NOINLINE csp__g *csp__p_pop(csp__p *p)
{
    csp__g *g = p->next;
    if (g != NULL && --p->left > 0) {
        csp__set(&p->next, NULL);
        return g;
    }
    if (p->lot == 1) return csp__slice_clocked(p, g);
    p->left = CSP__TURNS;
    if (g == NULL) return csp__ring_pop(p);
    if (csp__ring_count(p) == 0) {
        csp__set(&p->next, NULL);
        return g;
    }
    if (p->cuts % 4 == 0) csp__slice_measure(p, csp__clock());
    p->left = p->lot;
    return csp__slice_cut(p);
}

/* The next one of this P, without looking further than its own queues; NULL: ask
 * csp__p_pop. */
CSP__FN inline csp__g *csp__p_pop_fast(csp__p *p)
{
    csp__g *g = p->next;
    if (g != NULL) {
        if (CSP__UNLIKELY(--p->left <= 0)) {
            if (p->lot == 1 || csp__ring_count(p) != 0) return NULL;
            p->left = CSP__TURNS;
        }
        csp__set(&p->next, NULL);
        return g;
    }
    if (CSP__UNLIKELY(p->lot == 1)) return NULL;
    p->left = CSP__TURNS;
    return csp__ring_pop(p);
}

/* The thief takes half of the victim's ring into its own empty one; returns one of them to run. */
CSP__FN csp__g *csp__ring_steal(csp__p *p, csp__p *victim)
{
    for (;;) {
        uint32_t head = csp__acquire(&victim->head);
        uint32_t tail = csp__acquire(&victim->tail); // acq <ring>
        uint32_t n = tail - head, mine = p->tail;
        n -= n / 2;
        if (n == 0) return NULL;
        if (n > CSP__RING / 2) continue; /* head and tail were read apart */
        for (uint32_t i = 0; i < n; i++)
            csp__set(&p->ring[(mine + i) % CSP__RING],
                     csp__relaxed(&victim->ring[(head + i) % CSP__RING]));
        if (!csp__cas(&victim->head, &head, head + n)) continue; // rel <ring>
        csp__bump(&p->steals);
        n--;
        csp__g *g = csp__relaxed(&p->ring[(mine + n) % CSP__RING]);
        if (n > 0) csp__release(&p->tail, mine + n);
        return g;
    }
}

/* The aged: those that were fresh when the last such lot had been used up, the oldest first. They
 * stand the other way round in `fresh`, and are turned some at a time: a lot may be a million. */
CSP__FN csp__queue *csp__global_aged_locked(void)
{
    csp__queue *fresh = &csp__sched.fresh, *turning = &csp__sched.turning;
    csp__queue *aged = &csp__sched.aged;
    if (turning->head == NULL && aged->head == NULL) {
        *turning = *fresh;
        *fresh = (csp__queue){NULL, NULL, 0};
    }
    csp__g *g = turning->head, *turned = aged->head;
    int64_t n = 0;
    if (aged->tail == NULL) aged->tail = g;
    for (csp__g *next; n < 128 && g != NULL; n++, g = next) {
        next = g->link;
        g->link = turned;
        turned = g;
    }
    aged->head = turned;
    aged->count += n;
    turning->head = g;
    turning->count -= n;
    if (g == NULL) turning->tail = NULL;
    return g != NULL ? turning : aged;
}

/* Which global queue comes next. The newest fresh goroutines go first, so that a tree of goroutines
 * grows depth-first and needs few stacks. Beside an endless tree the older ones would wait for
 * ever. So 17 of 512 turns are for one of the aged, or 13 where goroutines that have run before
 * wait as well: an aged goroutine waits for 30 (39) turns for each one before it, and at most as
 * long again for the lot before.
 *   Each aged goroutine that runs adds a stack to the tree, so more of these turns cost memory: a
 * skynet needs 30 MB with this share, and 40 with every 24th turn. With the aged in the order of
 * `fresh` it needs 40 with every 128th. */
#define csp__aged_turn(tick) ((tick) % 32 == 0 || (tick) % 512 == 8)
CSP__FN csp__queue *csp__global_choose_locked(csp__p *p, bool fair)
{
    csp__queue *global = &csp__sched.global;
    csp__queue *first = &csp__sched.fresh;
    bool before = fair ? p->tick % 128 != 0 : p->tick % 2 != 0;
    if (fair)
        first = csp__global_aged_locked();
    else if (first->head == NULL)
        first = csp__sched.turning.head != NULL ? &csp__sched.turning : &csp__sched.aged;
    return first->head == NULL || (!before && global->head != NULL) ? global : first;
}

/* Goroutines that have been parked for long come in batches, each with a cold stack, whose misses
 * are made to overlap: by loads (250,000 goroutines woken: 190 ns each), prefetches of all lines
 * gained less (270). */
#if CSP__ASAN || CSP_X_TSAN
#define csp__touch(at) __builtin_prefetch(at)
#else
#define csp__touch(at) ((void)*(const volatile char *)(at))
#endif
CSP__FN inline void csp__prefetch_g(csp__g *g)
{
    if (g->state == CSP__G_FRESH || csp__relaxed(&csp__valgrind_stacks) != 0) return;
    char *sp = (char *)g->sp; /* an older one while g parks, see csp__bind_args */
    csp__touch(sp);
    csp__touch(sp + 64);
    csp__touch(g->cb);
    __builtin_prefetch(sp + 128, 1);
    __builtin_prefetch(sp + 192, 1);
}

/* Takes a batch from the global queues into the owner's ring; returns one of it to run. `fair`:
 * only the one that has waited longest. A batch has at most 32: of more, the first stack would be
 * out of the nearest cache again before it runs (250,000 goroutines woken: 275 ns each, 310 by
 * 128). */
#define CSP__LOT(q) (CSP_TORTURE ? 4 : (q) == &csp__sched.global ? 32 : CSP__RING / 2)
CSP__FN csp__g *csp__global_take(csp__p *p, bool fair)
{
    csp__g *g;
    int64_t n;
    if (csp__relaxed(&csp__sched.nglobal) == 0) return NULL;
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__queue *q = csp__global_choose_locked(p, fair);
    g = csp__queue_pop(q);
    n = fair ? 0 : q->count / csp__sched.nprocs;
    while (n-- > 0 && csp__ring_count(p) < CSP__LOT(q)) {
        csp__g *next = csp__queue_pop(q);
        csp__prefetch_g(next);
        csp__ring_put(p, next);
    }
    csp__global_count_locked();
    csp__unlock(&csp__sched.lock);
    return g;
}

/* ==========================================================================
 * [15] WAKE - entering and leaving csp, idle processors, waking threads
 *
 * THE HANDSHAKE. A goroutine in user code keeps its P, and may lose it at any time; inside csp it
 * may not.
 *
 *   owner                                  taker (monitor, csp_procs), one at a time: take_lock
 *   enter: 1 epoch = odd                   1 revoke = ASKED
 *          2 (compiler barrier)            2 membarrier()
 *          3 if (revoke) slow              3 if (epoch is even) take the P, revoke = TAKEN
 *   leave: 4 epoch = even (release)          else revoke = NONE
 *
 * The barrier makes every running thread of the process pass a full fence between the taker's 1 and
 * 3. If the owner's 3 came before that fence, so did its 1, and the taker sees an odd epoch. If it
 * came after, the owner sees ASKED, and waits until the taker has decided. So at least one side
 * sees the other. Without the barrier the owner could read revoke before the taker's 1 while its
 * own store of epoch became visible after the taker's 3: then two threads would own the P.
 *   On a system without such a barrier both sides fence. With it the owner pays two plain stores
 *   and
 * a load.
 *
 * epoch only grows: the same even number seen twice means that nothing of csp was called in
 * between.
 * model: the_handshake_gives_a_processor_to_one_side
 *
 *   uses   PLATFORM BASE SYSTEM EVENTS LOCKS CORE TAPES RUNQ
 *   locks  sched.lock sched.take_lock sched.barrier_lock
 * ======================================================================== */

/* ORPHAN: the record of a thread of the program that the runtime does not know, or not any more. */
enum {
    CSP__REVOKE_NONE,
    CSP__REVOKE_ASKED,
    CSP__REVOKE_TAKEN,
    CSP__REVOKE_YIELD,
    CSP__REVOKE_BLOCKING, // by the owner itself, see BLOCKING
    CSP__REVOKE_SIMULATED,
    CSP__REVOKE_ORPHAN
};

/* A store before this and a load after it are seen in that order by a thread that passes
 * csp__fence_heavy between its own. */
CSP__FN inline void csp__fence_light(void)
{
    csp__barrier();
    if (CSP__UNLIKELY(!csp__sched.barrier)) csp__fence();
}

/* BARRIERS. A membarrier interrupts each core that runs a thread of the program. If each P that
 * goes idle made one, the Ps that work would be interrupted the more often, the more Ps there are.
 * So the whole program makes one in CSP__BARRIER_PAUSE at most:
 *   - A thread that needs one waits until the pause is over, and shares it: one membarrier serves
 *     all that waited for it.
 *   - The most frequent need, that of a P which goes idle (PARK DANCE), is not to wait. Each
 *     membarrier, whatever it is for, makes the submitters of work fence from then on. While they
 *     do, a search ends with a fence of its own. When no search has ended between two looks of the
 *     monitor, 5 ms apart, the fences of the submitters end. They cost 5 ns for each goroutine that
 *     is put into a ring.
 *
 *   submitter                     search that ends             membarrier, or the monitor: both
 *   1 work into a queue           1 idle, or not searching       with barrier_lock
 *   2 if (fenced != NO) fence     2 fence                      1 if (fenced == NO) fenced = SOON
 *   3 look at 1 of the search     3 while (fenced == SOON) wait  2 membarrier
 *                                 4 if (fenced == NO)          3 fenced = ALL
 *                                     csp__fence_heavy         monitor: no search lately?
 *                                 5 look at 1 of the submitter 1 if the pause is over, fenced = NO
 *
 * Of the submitter and the search at least one sees what the other did in its 1:
 *   - If both fence, that is what fences are for.
 *   - If the submitter read NO, and the search made or shared a membarrier in its 4: the submitter
 *     passed a full fence meanwhile. Either its 3 came after that, and after 1 of the search; or
 *     its 1 came before, and 5 sees the work.
 *   - If the submitter read NO, and the search ALL of a later time: a membarrier lies between this
 *     NO and this ALL, and was begun after SOON was written. So the submitter's load of NO came
 *     before that membarrier, its 1 came before its load, and 5 sees the work.
 *   - If the submitter read NO, and the search ALL of an earlier time: when 3 of the search read
 *     ALL, 1 of the search was in memory, because of 2. The NO came into memory later. The
 *     submitter's 3 comes after its load of that NO (acquire), and sees 1 of the search. This needs
 *     stores that all others see at once: elsewhere the monitor never writes NO (CSP__AT_ONCE).
 * SOON is not enough for a search: a submitter may have read NO, with its work still on the way to
 * memory. If the submitter did not fence at SOON, it could miss a search that read ALL just after.
 *
 *   waits for a membarrier        makes a membarrier, with barrier_lock
 *   1 its own stores              1 begun + 1
 *   2 fence                       2 membarrier
 *   3 n = begun                   3 ended = begun (release)
 *   4 until ended > n (acquire)
 *
 * A membarrier with a number above n was begun after 3 on the left, so after the stores of 1 were
 * in memory, and has ended when 4 sees its number. Without 2 the waiter could read an old `begun`
 * before its own stores are in memory. The one that had begun before 3 is not enough: it may have
 * interrupted a thread already.
 *
 * HOW LONG. A search that ends waits for a membarrier under way, and for its own, 1 to 10 us. NO is
 * written only when the pause is over, and under the lock, so that no membarrier has begun between:
 * without that a search could find NO and a pause before it. Other threads that need a membarrier
 * wait for CSP__BARRIER_PAUSE and two membarriers. No stream of others makes that longer, because
 * they share. What can do without (csp__barrier_open: a thief of an offer, the lists of offers, a
 * mutex's first waiter) does not wait, and leaves the next membarrier to the monitor and csp_procs
 * where these want it (`wanted`): they hold locks for which others wait, so they wait before they
 * take them.
 *   Without membarrier fenced is ALL for good.
 * model: submitters_fence_while_searches_end_without_a_membarrier
 * model: a_membarrier_of_another_thread_serves_all_that_wait */
enum { CSP__FENCED_NO, CSP__FENCED_SOON, CSP__FENCED_ALL };
#define CSP__BARRIER_PAUSE (50 * CSP_MICROSECOND)

CSP__FN bool csp__barrier_due(void)
{
    return csp__clock() - csp__relaxed(&csp__sched.barrier_at) >= CSP__BARRIER_PAUSE;
}

/* Would a membarrier be made at once? For a caller that can do without. */
CSP__FN bool csp__barrier_open(void)
{
    if (!csp__sched.barrier || csp__sched.sim != NULL) return true;
    return csp__relaxed(&csp__sched.wanted) == 0 &&
           csp__relaxed(&csp__sched.begun) == csp__relaxed(&csp__sched.ended) && csp__barrier_due();
}

/* For a caller that is about to take a lock, under which it needs one. */
CSP__FN void csp__barrier_await(void)
{
    if (!csp__sched.barrier || csp__sched.sim != NULL) return;
    csp__add(&csp__sched.wanted, 1);
    for (int i = 0; i < 2 && !csp__barrier_due(); i++) csp__os_sleep(CSP__BARRIER_PAUSE);
    csp__add(&csp__sched.wanted, (uint32_t)-1);
}

/* For a caller that is about to ask another thread to wait: that one shall not wait for the pause,
 * too. */
CSP__FN void csp__barrier_spin(void)
{
    if (!csp__sched.barrier || csp__sched.sim != NULL) return;
    while (!csp__barrier_due()) csp__pause();
}

CSP__FN void csp__barrier_make_locked(void)
{
    bool begins = csp__relaxed(&csp__sched.fenced) == CSP__FENCED_NO;
    uint32_t number = csp__sched.begun + 1;
    if (begins) csp__set(&csp__sched.fenced, CSP__FENCED_SOON);
    csp__set(&csp__sched.begun, number);
    csp__count(BARRIER);
    csp__os_barrier();
    csp__set(&csp__sched.barrier_at, csp__clock());
    if (begins) csp__release(&csp__sched.fenced, CSP__FENCED_ALL);
    csp__release(&csp__sched.ended, number); // rel <ended>
}

CSP__FN void csp__fence_heavy(void)
{
    csp__fence();
    if (!csp__sched.barrier || csp__sched.sim != NULL) return; /* one thread, and not registered */
    uint32_t begun = csp__relaxed(&csp__sched.begun);
    while ((int32_t)(csp__acquire(&csp__sched.ended) - begun) <= 0) { // acq <ended>
        /* No sched_yield while time passes: the caller may hold locks, and on a loaded machine it
         * would come back only after 10 ms and more. */
        if (!csp__barrier_due()) {
            csp__pause();
            continue;
        }
        csp__lock(&csp__sched.barrier_lock, CSP__RANK_BARRIERS);
        if (csp__barrier_due() && (int32_t)(csp__sched.ended - begun) <= 0)
            csp__barrier_make_locked();
        csp__unlock(&csp__sched.barrier_lock);
    }
}

/* PARK DANCE: between a submitter's work and its look at the idle Ps. */
CSP__FN inline void csp__fence_submit(void)
{
    csp__barrier();
    if (CSP__UNLIKELY(csp__acquire(&csp__sched.fenced) != CSP__FENCED_NO)) csp__fence();
}

/* PARK DANCE: between the end of a search and its last look for work. */
CSP__FN void csp__fence_search(void)
{
    uint32_t fenced, n = 0;
    csp__fence();
    if (csp__relaxed(&csp__sched.searched) == 0) csp__set(&csp__sched.searched, 1);
    while ((fenced = csp__acquire(&csp__sched.fenced)) == CSP__FENCED_SOON) csp__lock_pause(&n);
    if (fenced != CSP__FENCED_ALL) csp__fence_heavy();
}

/* The monitor: submitters may do without fences when none of the searches needed them lately. */
CSP__FN void csp__fences_end(void)
{
    if (!CSP__AT_ONCE || !csp__sched.barrier || csp__swap(&csp__sched.searched, 0) != 0) return;
    csp__lock(&csp__sched.barrier_lock, CSP__RANK_BARRIERS);
    if (csp__relaxed(&csp__sched.fenced) == CSP__FENCED_ALL && csp__barrier_due())
        csp__release(&csp__sched.fenced, CSP__FENCED_NO);
    csp__unlock(&csp__sched.barrier_lock);
}

/* A torture build waits between two steps, from time to time or, with NULL, always. If the steps
 * were in the wrong order, another thread would come between them and a test would see it. */
CSP__FN inline void csp__torture_delay(const csp__m *m)
{
    if (!CSP_TORTURE) return;
    uint64_t dice = m == NULL ? 1 : m->epoch * UINT64_C(0x9E3779B97F4A7C15) >> 54;
    if (dice == 0) csp__os_sleep(50 * CSP_MICROSECOND); /* time to hand on a P */
    for (int i = 0; i < 100 && dice < 128; i++) csp__pause();
}

/* Enters csp; false when the caller has to call csp__enter_outlined(m) first. *epoch is what
 * m->epoch has become, because a load of m->epoch would wait for the store. */
CSP__FN inline bool csp__enter_epoch(csp__m *m, uint64_t *epoch)
{
    if (CSP__UNLIKELY(m == NULL)) return false;
    *epoch = m->epoch + 1;
    csp__set(&m->epoch, *epoch);
    csp__fence_light();
    csp__torture_delay(m);
    if (CSP_TORTURE && (m->epoch & 1) == 0) csp__fatal("entered twice");
    return CSP__LIKELY(csp__relaxed(&m->revoke) == 0);
}

/* For functions that call nothing. */
CSP__FN inline bool csp__enter_fast(csp__m *m)
{
    return csp__enter_epoch(m, &(uint64_t){0});
}

CSP__FN csp__m *csp__enter_outlined(csp__m *m)
{
    if (m == NULL && csp__enter_fast(m = csp__attach(NULL))) return m;
    return csp__enter_slow(m);
}

/* Every public call that touches runtime structures begins with enter and ends with leave (or a
 * switch). */
CSP__FN inline csp__m *csp__enter(void)
{
    csp__m *m = csp__self();
    return csp__enter_fast(m) ? m : csp__enter_outlined(m);
}

/* After a park, which may have ended on another thread than m's. */
#define csp__reenter(m) ((void)(m), csp__enter())

/* Checks that a thread inside csp has kept its P: no other thread takes it there. (csp_x_blocking
 * gives its P away itself.) */
CSP__FN void csp__leave_check(csp__m *m)
{
    if ((m->epoch & 1) == 0) csp__fatal("left twice");
    csp__rank_none(__LINE__);
    if (m->p != NULL && csp__relaxed(&m->p->m) != m) csp__fatal("a processor with two owners");
    if (csp__relaxed(&m->revoke) == CSP__REVOKE_TAKEN && m->blocking != m->epoch + 1)
        csp__fatal("a processor taken from inside csp");
}

CSP__FN inline void csp__leave(csp__m *m)
{
    if (CSP_TORTURE) csp__leave_check(m);
    csp__release(&m->epoch, m->epoch + 1);
}

/* Ends a call whose effect others may see before the caller goes on: a simulation lets them, here.
 * Where a call begins, csp__enter does. For calls that do not enter at all, too. */
CSP__FN inline void csp__sim_point(void)
{
    if (CSP__UNLIKELY(csp__sched.sim != NULL)) csp__leave(csp__enter());
}

/* LOOKS WITHOUT A LOCK. What goroutines do with channels and contexts is sequentially consistent,
 * as in Go: of two that each send and then look where the other sends, one finds something. Under
 * locks that is so by itself: were both looks too early, each of the four critical sections would
 * come before another one of them. A look without the lock has to fence before it says no:
 *
 *   one goroutine                    another
 *   1 locks a, a changes, unlocks    1 locks b, b changes, unlocks
 *   2 fence                          2 fence
 *   3 looks at b                     3 looks at a
 *
 * Unlocking is a plain store, so without 2 the change of 1 may reach memory after 3, on x86 as on
 * ARM. With 2 all see the change of 1 before 3 loads. If neither 3 saw the other side's 1, each 3
 * came before the other side's 1, which came before the other side's 3: a circle. The fence is paid
 * by looks that find nothing, 6 ns each; at every unlock it would cost 9 ns to all others.
 * model: of_two_that_send_and_then_look_one_finds_something */

/* Is spinning worth it? Not on one processor, where the other thread cannot be running, and not
 * while this processor has other work. */
CSP__FN inline bool csp__spins(void)
{
    if (CSP_TORTURE || csp__relaxed(&csp__sched.nprocs) < 2 || csp__sched.sim != NULL) return false;
    csp__m *m = csp__self();
    csp__p *p = m == NULL ? NULL : csp__relaxed(&m->p);
    if (p == NULL) return m == NULL || m->foreign; /* a goroutine had better get a P first */
    return csp__relaxed(&p->next) == NULL && csp__ring_count(p) == 0;
}

/* The index of the cache line that the caller shall use, of several. It is a hint: the caller may
 * be on another processor by the time it uses the line. */
CSP__FN inline uint32_t csp__rw_lane(void)
{
    csp__m *m = csp__self();
    return m == NULL ? 0 : m->rw_slot;
}

/* Asks the goroutine that runs on m to yield at its next call. With a tick: only if it still has
 * this turn of the P. */
#define CSP__ANY_TURN UINT64_MAX
CSP__FN void csp__ask_to_yield(csp__m *m, uint64_t tick)
{
    uint32_t none = CSP__REVOKE_NONE;
    csp__set(&m->yield_tick, tick);
    csp__cas(&m->revoke, &none, CSP__REVOKE_YIELD);
}

/* BLOCKING. Where Ps are often taken from a csp_blocking, a membarrier for each would be too often.
 * So once a taker has tried, owners make their own next call a slow one: csp_blocking sets
 * revoke to BLOCKING, and the next call takes that back by a CAS.
 *
 *   owner, in csp_blocking                 taker
 *   1 revoke: NONE to BLOCKING             1 CAS revoke from BLOCKING to ASKED, else no
 *   enter: 2 epoch = odd                   2 if (epoch is even) take the P, revoke = TAKEN
 *          3 if (revoke) slow                else revoke = BLOCKING
 *   slow:  4 CAS revoke from BLOCKING to NONE, else wait
 *
 * 1 on the right and 4 on the left want the same BLOCKING: one of the two fails. The owner that
 * fails waits until the taker has decided, as it does whenever it is asked, and has touched nothing
 * of its P yet: so it does no harm where the taker's 2 still sees the even epoch. The owner's 3
 * cannot read a NONE from before its own 1. So no order of other stores matters, and no fence is
 * needed.
 *   It costs 10 ns for each csp_blocking. So the monitor ends it when no taker has tried for
 * CSP__TAKES of its looks, a second.
 * model: the_end_of_blocking_and_a_taker_decide_by_one_word */
#define CSP__TAKES 200

/* Takes m's P when m is in user code; the P's new owner is the caller. `epoch`: 0, or the only
 * value that will do. */
CSP__FN bool csp__revoke_p(csp__m *m, csp__p *p, uint64_t epoch)
{
    bool taken = false;
    csp__lock(&csp__sched.take_lock, CSP__RANK_TAKE);
    uint32_t before = csp__relaxed(&m->revoke);
    bool blocks = before == CSP__REVOKE_BLOCKING;
    if (!blocks) csp__barrier_spin();
    if (epoch != 0 && csp__acquire(&m->blocking) == epoch) csp__set(&csp__sched.takes, CSP__TAKES);
    if ((before == CSP__REVOKE_NONE || before == CSP__REVOKE_YIELD || blocks) &&
        csp__cas(&m->revoke, &before, CSP__REVOKE_ASKED)) {
        if (!blocks) csp__fence_heavy();
        uint64_t now = csp__acquire(&m->epoch);
        taken = (now & 1) == 0 && (epoch == 0 || epoch == now) && m->p == p;
        if (taken) {
            csp__note_taken(m);
            m->p = NULL;
            csp__set(&p->m, NULL);
        }
        csp__release(&m->revoke, taken ? CSP__REVOKE_TAKEN : before);
    }
    csp__unlock(&csp__sched.take_lock);
    return taken;
}

CSP__FN csp__g *csp__current(void)
{
    csp__m *m = csp__self();
    if (CSP__UNLIKELY(m == NULL)) m = csp__attach(NULL);
    return m->g;
}

/* Ends m's sleep, in the futex or in the poller. There the system wakes any one of those that
 * sleep: it takes over what m was woken for, see csp__poller_awake_locked. */
CSP__FN void csp__m_post_locked(csp__m *m)
{
    if (!m->polls) {
        csp__word_post(&m->word, 1);
    } else if (csp__relaxed(&m->word) == 0) {
        csp__set(&csp__sched.nposted,
                 csp__sched.nposted + 1); /* seen by who is woken: system call */
        csp__release(&m->word, 1);
        csp__count(FUTEX);
        csp__evq_wake();
    }
}

CSP__FN void csp__idle_push_locked(csp__p *p)
{
    csp__set(&p->m, NULL);
    if (p->id >= csp__sched.nprocs) { /* retired by csp_procs: its work is for the others */
        csp__g *g = p->next;
        csp__set(&p->next, NULL);
        for (; g != NULL || (g = csp__ring_pop(p)) != NULL; g = NULL) csp__global_push_locked(g);
        return;
    }
    p->link = csp__sched.idle_p;
    csp__sched.idle_p = p;
    csp__set(&csp__sched.nidle_p, csp__sched.nidle_p + 1);
}

/* Takes a P whose thread is in csp_blocking, if there is one. */
CSP__FN csp__p *csp__blocked_pop_locked(void)
{
    csp__p *found = NULL;
    if (csp__relaxed(&csp__sched.blocking) == 0) return NULL;
    csp__set(&csp__sched.blocking, 0);
    csp__fence(); /* a thread that blocks from here on sets it again */
    for (int i = 0; i < csp__sched.nprocs && found == NULL; i++) {
        csp__p *p = csp__sched.procs[i];
        csp__m *m = csp__acquire(&p->m);
        uint64_t epoch = m == NULL ? 0 : csp__acquire(&m->blocking);
        if (epoch == 0 || csp__acquire(&m->epoch) != epoch) continue;
        csp__set(&csp__sched.blocking, 1);
        if (csp__revoke_p(m, p, epoch)) found = p;
    }
    return found;
}

#define CSP__QUICK_LOOKS 16 /* see HELD */

/* A P for a thread that has something to run. */
CSP__FN csp__p *csp__p_get_locked(void)
{
    csp__p *p = csp__sched.idle_p;
    if (p == NULL) return csp__blocked_pop_locked();
    csp__sched.idle_p = p->link;
    csp__set(&csp__sched.nidle_p, csp__sched.nidle_p - 1);
    csp__sched.busied = true;
    if (csp__sched.rescues > 0 && csp__sched.quick == 0) {
        csp__sched.rescues--;
        csp__sched.quick = CSP__QUICK_LOOKS;
        csp__sched.monitor_on = true;
        csp__word_post(&csp__sched.monitor_word, 2);
    } else if (!csp__sched.monitor_on) {
        csp__sched.monitor_on = true;
        csp__word_post(&csp__sched.monitor_word, 1);
    }
    return p;
}

CSP__FN void csp__sleeper_clear_locked(csp__m *m)
{
    if (csp__sched.sleeper != m) return;
    csp__set(&csp__sched.sleeper, NULL);
    csp__set(&csp__sched.sleep_until, CSP_FOREVER);
}

/* Ends m's nap, if it naps: true then, and the napper's place in nspinning is the caller's, whose
 * search has to end as every search does, see PARK DANCE. */
CSP__FN bool csp__nap_end_locked(csp__m *m)
{
    if (csp__sched.napper != m) return false;
    csp__sched.napper = NULL;
    csp__set(&csp__sched.napping, 0);
    return true;
}

CSP__FN void csp__idle_remove_locked(csp__m *m)
{
    csp__m **at = &csp__sched.idle_m;
    while (*at != m) at = &(*at)->link;
    *at = m->link;
    m->idle = false;
    csp__sched.nidle_m--;
    csp__sleeper_clear_locked(m);
    m->spinning = csp__nap_end_locked(m);
}

/* THREADS MISSING. A thread cannot be made: the system has too many (RLIMIT_NPROC, a cgroup's
 * pids.max), or no memory for its stack. Its P becomes idle, with all that it has in places where
 * others can take it from: `next` is its owner's alone, so it goes to the global queue. Threads
 * that run find the work when they look for some, or, coming back from user code without a P, the
 * P.
 *   Until there is a thread, or nothing is left to do, the monitor does not sleep. It tries again,
 * after 5 ms at first, then less and less often, at last every second; whoever asks for a thread
 * meanwhile does not make it try more often. It looks at the descriptors itself. When no thread
 * runs, and something would have been run for most of a second, that is the end: see
 * csp__missing_look. */
CSP__FN void csp__m_missing_locked(csp__p *p, int error)
{
    csp__g *next = p->next;
    if (csp__sched.missing_since == 0) csp__sched.missing_since = csp__clock();
    csp__sched.missing_error = error;
    if (p->starting_spinning) csp__add(&csp__sched.nspinning, (uint32_t)-1);
    csp__set(&p->next, NULL);
    if (next != NULL) csp__global_push_locked(next);
    csp__idle_push_locked(p);
}

/* A thread for p: an idle one, or a new one by the monitor. */
CSP__FN void csp__m_start_locked(csp__p *p, bool spinning)
{
    csp__m **at = &csp__sched.idle_m, *m;
    while (*at != NULL && (*at == csp__sched.sleeper || (*at)->polls) && (*at)->link != NULL)
        at = &(*at)->link;
    if ((m = *at) != NULL) {
        csp__idle_remove_locked(m);
        m->wake_p = p;
        csp__set(&p->m, m); /* m is on its way: p must not be taken for idle */
        if (m->spinning && spinning) csp__add(&csp__sched.nspinning, (uint32_t)-1);
        m->spinning |= spinning;
        csp__m_post_locked(m);
        return;
    }
    int n = csp__sched.nthreads;
    for (csp__p *s = csp__sched.starting; s != NULL; s = s->link) n++;
    if (n >= csp__sched.config.max_threads) {
        char text[128];
        snprintf(text, sizeof text,
                 "thread limit exceeded: all %d threads are blocked (csp_max_threads)", n);
        csp__unlock(&csp__sched.lock);
        csp__die(NULL, text, NULL);
    }
    p->starting_spinning = spinning;
    if (CSP__UNLIKELY(csp__sched.missing_next != 0 && csp__clock() < csp__sched.missing_next)) {
        csp__m_missing_locked(p, csp__sched.missing_error);
        return;
    }
    csp__set(&p->m, &csp__starting);
    p->link = csp__sched.starting;
    csp__sched.starting = p;
    csp__sched.monitor_on = true;
    csp__word_post(&csp__sched.monitor_word, 2);
}

/* Work has appeared in a ring or a global queue: starts one more processor, unless a thread is
 * searching already. */
CSP__FN CSP__NOINLINE void csp__wake_slow(void)
{
    uint32_t none = 0;
    bool counted = csp__cas(&csp__sched.nspinning, &none, 1);
    if (!counted && csp__relaxed(&csp__sched.napping) == 0) return;
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__m *napper = csp__sched.napper;
    if (!counted && napper != NULL) /* its search goes on at once, in another thread */
        counted = csp__nap_end_locked(napper);
    csp__p *p = !counted || csp__sched.stopping ? NULL : csp__p_get_locked();
    if (p != NULL)
        csp__m_start_locked(p, true);
    else if (counted)
        csp__add(&csp__sched.nspinning, (uint32_t)-1);
    csp__unlock(&csp__sched.lock);
}

/* PARK DANCE, the submitter's part; the others are csp__go_idle's and csp__spin_end's.
 *
 *   submitter                           thread going idle        the last that spins finds work
 *   1 work into a queue                 1 P on the idle list     1 nspinning = 0
 *   2 csp__fence_submit                   (nidle_p), nspinning-- 2 if (nidle_p) fence_search
 *   3 if (nidle_p && !nspinning) wake   2 csp__fence_search      3 look into every queue; wake
 *                                       3 look into every queue
 *
 * Either the submitter wakes a thread, or a search sees the work. Of two threads that pass these
 * fences one sees what the other one did before: see BARRIERS.
 *   - If 3 on the left missed the idle P, 3 in the middle sees the work of 1.
 *   - If it saw a searcher and so woke no thread, its load came before 1 on the right, and the work
 *     is visible to 3 there. If that thread saw no idle P at 2, a thread that goes idle after it
 *     looks as well.
 *   A nap is a search, too. The napper's thread keeps its place in nspinning when it wakes: its
 * search ends on the right when it gets a P and finds work, else in the middle.
 *   The napper is left alone while there is little in p's ring, when p is given.
 * model: work_that_appears_while_a_processor_goes_idle_is_seen
 * model: work_that_appears_while_the_last_search_ends_is_seen
 * model: work_that_appears_while_a_nap_ends_is_seen */
CSP__FN inline void csp__wake_ring(csp__p *p)
{
    csp__fence_submit();
    if ((csp__relaxed(&csp__sched.nidle_p) | csp__relaxed(&csp__sched.blocking)) == 0) return;
    /* acq: with the napper's place comes `napping`, which is set before */
    if (csp__acquire(&csp__sched.nspinning) == 0 ||
        (csp__relaxed(&csp__sched.napping) != 0 && (p == NULL || csp__ring_count(p) >= CSP__WORTH)))
        csp__wake_slow();
}

CSP__FN inline void csp__wake(void)
{
    csp__wake_ring(NULL);
}

/* Makes the sleeper compute its deadline anew, and look for a deadlock. */
CSP__FN void csp__sleeper_poke_locked(void)
{
    csp__m *m = csp__sched.sleeper;
    if (m == NULL) return;
    csp__sleeper_clear_locked(m);
    csp__m_post_locked(m);
}

/* A timer has been set that is due before any thread wakes for one, and the caller may not come
 * back for it soon: the sleeper has to know, or an idle P has to be woken. */
CSP__FN CSP__NOINLINE void csp__timer_poke(void)
{
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    bool sleeps = csp__sched.sleeper != NULL;
    csp__sleeper_poke_locked();
    csp__unlock(&csp__sched.lock);
    if (!sleeps) csp__wake();
}

/* ==========================================================================
 * [16] PARK - ready and park, from goroutines and from foreign threads
 *
 * To block, a goroutine fills in a waiter, publishes it under some lock, drops the lock, and parks.
 * To wake it, the waker takes the waiter out under that lock, stores the result, and makes the
 * goroutine ready. The two may overlap, see CORE: the goroutine may be ready, and even chosen to
 * run, before it has left its stack. `busy` then keeps the thread that has chosen it waiting. If it
 * did not, two threads would be on one stack.
 *   A foreign thread has no stack to leave. It sleeps on a word of its own record, `signal`.
 *
 *   uses   PLATFORM BASE SYSTEM LOCKS CORE TAPES STACKS LIFE RUNQ WAKE
 *   locks  sched.lock
 * ======================================================================== */

CSP__FN void csp__global_ready(csp__g *g)
{
    if (csp__tracing()) csp__note_wake(g);
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__global_push_locked(g);
    csp__unlock(&csp__sched.lock);
    csp__wake();
}

CSP__FN inline void csp__p_ready_ring(csp__p *p, csp__g *g)
{
    if (CSP__UNLIKELY(!csp__ring_put(p, g))) csp__ring_push(p, g);
    csp__wake_ring(p);
}

CSP__FN CSP__NOINLINE void csp__p_ready_eager(csp__p *p, csp__g *g)
{
    if (csp__relaxed(&p->eager) & 2) csp__note_wake(g);
    /* From the scheduler itself it runs at once, and keeps its place before those that compute. */
    if ((csp__relaxed(&p->eager) & 1) == 0 || p->m->g == NULL) {
        if (p->next == NULL) {
            csp__set(&p->next, g);
            return;
        }
    } else {
        int64_t now = csp__clock(); /* eager until 64 in a row came within 1 us */
        p->eager_short = now - p->eager_at < CSP_MICROSECOND ? p->eager_short + 1 : 0;
        p->eager_at = now;
        if (p->eager_short >= 64) __atomic_fetch_and(&p->eager, ~1u, __ATOMIC_RELAXED);
        if (CSP__UNLIKELY(!csp__ring_put(p, g))) csp__ring_push(p, g);
        csp__wake(); /* worth it, and so is the napper's nap */
        return;
    }
    csp__p_ready_ring(p, g);
}

/* Needs no frame: it ends in a call. */
CSP__FN CSP__NOINLINE void csp__p_ready_slow(csp__p *p, csp__g *g)
{
    if (CSP__UNLIKELY(csp__relaxed(&p->eager) != 0))
        csp__p_ready_eager(p, g);
    else
        csp__p_ready_ring(p, g);
}

/* Into `next`, or, when that is taken, into the ring: goroutines run in the order in which they
 * became ready. Another P is woken only for the ring. (The other way round, with the last one in
 * `next` and the one before it in the ring, a sieve of 2000 primes takes 74 ms instead of 53: of a
 * chain's two neighbours that a value wakes, the wrong one runs first.) */
CSP__FN inline void csp__p_ready(csp__p *p, csp__g *g)
{
    if (CSP__LIKELY(p->next == NULL && csp__relaxed(&p->eager) == 0))
        csp__set(&p->next, g);
    else
        csp__p_ready_slow(p, g);
}

CSP__FN CSP__NOINLINE void csp__foreign_ready(csp__g *g)
{
    uint32_t *signal = &g->signal;
    if (csp__swap(signal, 1) == 2) csp__os_wake(signal, 1); // rel <signal>
}

/* Makes g runnable. The caller is inside csp; g may have gone on, and ended, when this returns. */
CSP__FN inline void csp__ready(csp__m *m, csp__g *g)
{
    csp__hb_before(g);
    if (CSP__UNLIKELY(g->flags & CSP__G_FOREIGN)) {
        csp__foreign_ready(g);
        return;
    }
    csp__set(&g->state, CSP__G_RUNNABLE);
    csp__torture_delay(m); /* were the state set last, it could be that of the record's next user */
    bool here = m->p != NULL;
    if (CSP_TORTURE && (csp__random(&m->rng) & 3)) here = false;
    if (CSP__LIKELY(here))
        csp__p_ready(m->p, g);
    else
        csp__global_ready(g);
}

#if CSP__ASAN || CSP_X_TSAN
/* The tools want to know of each switch. `from`: the block of the stack being left, NULL for a
 * thread's own. */
CSP__FN CSP__NOINLINE void *csp__switch_announced(csp__m *m, csp__cb *from, csp__cb *to,
                                                  void **save, void *load, uint32_t *off,
                                                  void *value)
{
#if CSP_X_TSAN
    csp__hb_before(
        &csp__heap_sync); /* all that goroutines do is over when the runtime has stopped */
    __tsan_switch_to_fiber(to == NULL ? m->fiber : to->fiber, 1);
#endif
#if CSP__ASAN
    void *fake = NULL;
    __sanitizer_start_switch_fiber(from != NULL && from->g == NULL ? NULL : &fake,
                                   to == NULL ? m->asan_low : to->low,
                                   to == NULL ? m->asan_size : (size_t)(to->top - to->low));
#endif
    csp__g *me = from == NULL ? NULL : from->g;
    (void)m;
    (void)to;
    value = csp__switch(save, load, off, value);
    if (me != NULL) csp__hb_after(me);
#if CSP__ASAN
    __sanitizer_finish_switch_fiber(fake, NULL, NULL);
#endif
    return value;
}
#else
#define csp__switch_announced(m, from, to, save, load, off, value)                                 \
    csp__switch(save, load, off, value)
#endif

/* Switches from `from` (NULL: our own stack) to g. Ends in a tail call: the goroutine that is
 * resumed returns straight to its caller. epoch: m->epoch. Once it is even the P may be taken:
 * nothing below needs it. */
CSP__FN inline void *csp__run_fast(csp__m *m, csp__p *p, uint64_t epoch, csp__g *g, csp__cb *from,
                                   void **save, uint32_t *off)
{
    csp__cb *to = g->cb;
    csp__bump(&p->tick);
    m->g = g;
    csp__set(&g->state, CSP__G_RUNNING);
    g->busy = 1;
    *m->err = g->err;
    void *result = g->result;
    (void)from;
    (void)to;
    csp__release(&m->epoch, epoch + 1);
    csp__torture_delay(m); /* a thread that takes the P by now keeps off g and this stack: busy */
    return csp__switch_announced(m, from, to, save, g->sp, off, result);
}

/* The same for a g with which care may have to be taken. */
CSP__FN inline void *csp__run(csp__m *m, csp__p *p, uint64_t epoch, csp__g *g, csp__cb *from,
                              void **save, uint32_t *off)
{
    if (CSP__UNLIKELY(g->flags & CSP__G_SLOW) && m->eh != NULL)
        memcpy(m->eh, g->cb->eh, sizeof g->cb->eh);
    return csp__run_fast(m, p, epoch, g, from, save, off);
}

/* True when this turn should look beyond the own queues: the global one every 64th, timers that
 * may be due. */
CSP__FN inline bool csp__turn_is_fair(csp__p *p)
{
    uint64_t tick = p->tick;
    if (CSP_TORTURE && (csp__random(&p->rng) & 3) == 0) return true;
    return (tick & 7) == 0 &&
           ((tick & 63) == 0 || (csp__relaxed(&csp__sched.nfresh) != 0 && csp__aged_turn(tick)) ||
            csp__relaxed(&p->first) <= csp__now_cached() + 20 * CSP_MILLISECOND);
}

/* What the thread keeps for g while it runs goes back to g, which is about to be made runnable by
 * itself. */
CSP__FN void csp__g_save(csp__m *m, csp__g *g)
{
    g->err = *m->err;
    if (m->eh != NULL) memcpy(g->cb->eh, m->eh, sizeof g->cb->eh);
    csp__set(&g->state, CSP__G_RUNNABLE);
}

/* Leaves the goroutine's stack for the thread's own scheduler, see SCHED. */
CSP__FN CSP__NOINLINE void *csp__park_to_loop(csp__m *m, csp__g *g, csp__g *todo)
{
    m->todo = todo;
    csp__rank_none(__LINE__);
    if (csp__tracing()) csp__note_stop(m, g, "runnable", csp__clock());
    csp__hb_before(g);
    return csp__switch_announced(m, g->cb, NULL, &g->sp, m->sp, &g->busy, NULL);
}

/* The main goroutine of a child, which only other goroutines can wake, is about to sleep: for how
 * long at most, until it has to look again. From here on the other threads may find that all are
 * asleep. A main goroutine that has been woken and still sleeps is known by its signal: its waker
 * set that before the waker itself went to sleep. */
CSP__FN CSP__COLD int64_t csp__main_sleeps(csp__m *m)
{
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__set(&csp__sched.run_exit, CSP__RUN_GOES_ON);
    csp__set(&m->g->state, CSP__G_WAITING);
    m->nap = csp__deadlock_check_locked() ? csp__deadlock_look_later(m->nap) : 0;
    csp__unlock(&csp__sched.lock);
    return m->nap == 0 ? CSP_FOREVER : m->nap;
}

CSP__FN CSP__COLD void csp__main_wakes(csp__m *m)
{
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__set(&csp__sched.run_exit, CSP__RUN_STARTS);
    csp__set(&m->g->state, CSP__G_RUNNING);
    m->nap = 0;
    csp__unlock(&csp__sched.lock);
}

/* model: a_thread_that_waits_with_a_deadline_is_woken_or_times_out */
CSP__FN CSP__NOINLINE void *csp__foreign_park(csp__m *m, csp__g *g, int64_t until)
{
    uint32_t *signal = &g->signal;
    bool main = m->main != 0 && until == CSP_FOREVER;
    for (int i = 0; i < 200 && csp__relaxed(signal) == 0; i++) csp__pause();
    csp__leave(m);
    for (;;) {
        uint32_t seen = csp__acquire(signal); // acq <signal>
        if (seen == 1) break;
        int64_t ns = main                   ? csp__main_sleeps(m)
                     : until == CSP_FOREVER ? CSP_FOREVER
                                            : until - csp__clock();
        if (ns <= 0) {
            uint32_t none = 0; /* the first to claim the ticket decides */
            if (csp__cas(&g->cb->ticket, &none, 1)) {
                csp__set(signal, 0);
                return NULL;
            }
            until = CSP_FOREVER;
            continue;
        }
        if (seen == 2 || csp__cas(signal, &seen, 2)) csp__os_wait(signal, 2, ns);
    }
    if (main) csp__main_wakes(m);
    csp__set(signal, 0);
    csp__hb_after(g);
    return g->result;
}

/* Parks g for n, of which nothing is known: it may be NULL, not have run yet, be bound. */
CSP__FN CSP__NOINLINE void *csp__park_for(csp__m *m, csp__g *g, csp__g *n)
{
    if (n != NULL && n->state == CSP__G_FRESH) csp__bind(m->p, n);
    if (n == NULL || (n->flags & CSP__G_BOUND) || csp__acquire(&n->busy) != 0)
        return csp__park_to_loop(m, g, n);
    if (csp__tracing()) {
        int64_t at = csp__clock();
        csp__note_stop(m, g, "runnable", at);
        csp__note_run(m, n, at);
    }
    return csp__run(m, m->p, m->epoch, n, g->cb, &g->sp, &g->busy); // acq <g.busy>
}

/* csp__turn_is_fair's eighth turn comes too late for timers where turns are slow. */
CSP__FN CSP__NOINLINE void *csp__park_next(csp__m *m, csp__g *g)
{
    csp__p *p = m->p;
    if (CSP__UNLIKELY(p->lot == 1) && csp__relaxed(&p->first) <= csp__clock())
        return csp__park_to_loop(m, g, NULL);
    return csp__park_for(m, g, csp__p_pop(p));
}

/* With everything that is rarely needed. */
CSP__FN CSP__NOINLINE void *csp__park_slow(csp__m *m, csp__g *g)
{
    csp__cb *cb = g->cb;
    csp__rank_none(__LINE__);
    if (csp__slow_switch(cb) == 0)
        g->flags &= (uint8_t)~CSP__G_SLOW; /* of a trace that has ended */
    if (m->eh != NULL) memcpy(cb->eh, m->eh, sizeof cb->eh);
    if (CSP__UNLIKELY(csp__canary_dead(cb))) csp__overflow(cb);
    if ((g->flags & CSP__G_BOUND) || csp__turn_is_fair(m->p)) return csp__park_to_loop(m, g, NULL);
    return csp__park_for(m, g, csp__p_pop(m->p));
}

/* Blocks until ready; returns the waker's result, outside csp (epoch is even). The common way
 * through it calls nothing, so that it needs no frame. */
CSP__FN inline void *csp__park(csp__m *m)
{
    csp__g *g = m->g;
    csp__p *p = m->p;
    if (CSP__UNLIKELY(p == NULL)) return csp__foreign_park(m, g, CSP_FOREVER);
    g->err = *m->err;
    csp__set(&g->state, CSP__G_WAITING);
    if (CSP__UNLIKELY(CSP_TORTURE || (g->flags & (CSP__G_BOUND | CSP__G_SLOW)) ||
                      csp__turn_is_fair(p)))
        return csp__park_slow(m, g);
    csp__g *n = csp__p_pop_fast(p);
    if (CSP__UNLIKELY(n == NULL)) return csp__park_next(m, g);
    if (CSP__UNLIKELY((n->flags & CSP__G_NOT_PLAIN) || csp__acquire(&n->busy) != 0))
        return csp__park_for(m, g, n);
    return csp__run_fast(m, p, m->epoch, n, g->cb, &g->sp, &g->busy); // acq <g.busy>
}

/* A moment in 32 bits: differences of up to 200 days are right. */
#define csp__since(ns) ((uint32_t)((uint64_t)(ns) >> 23))

/* For the dump: what this goroutine is about to wait for. */
CSP__FN inline void csp__wait_reason(csp__g *g, const char *what, const void *on)
{
    csp__cb *cb = g->cb;
    csp__set(&cb->what, what);
    csp__set(&cb->on, on);
    csp__set(&g->since, csp__since(csp__now_cached()));
}

/* ==========================================================================
 * [17] GO - how a goroutine begins and ends
 *
 * A goroutine begins in csp__g_main, on a stack that LIFE has bound to it, and ends there, by
 * csp_exit, or in the child of a fork by csp__main_returns. The stack of an ended goroutine is in
 * use until its thread has left it: csp__cb.busy says until when.
 *
 *   uses   PLATFORM BASE TOOLS PROFILE SYSTEM LOCKS CORE TAPES STACKS LIFE RUNQ WAKE PARK
 *   locks  p.forks_lock, then forks.lock. sched.lock
 * ======================================================================== */

/* The goroutine that m runs may go on with another thread. */
CSP__FN void csp__unbind(csp__m *m)
{
    csp__g *g = m->g;
    g->flags &= (uint8_t)~CSP__G_BOUND;
    g->cb->bound = NULL;
    g->cb->thread_locks = 0;
    m->bound_g = NULL;
    csp__hb_before(m);
}

/* OFFERS. What a goroutine has forked and not joined yet is a list of records on its stack, the
 * oldest at depth 0. Thieves take from the oldest on, one at a time under the list's lock: those
 * below `head` are taken. The owner adds and removes the newest, without a lock and without a
 * fence:
 *
 *   owner                                     thief, with the list's lock
 *   fork:  1 f at depth tail, link, tail + 1  1 limit = head + 1
 *            (release)                        2 membarrier()
 *   join:  2 tail = f's depth                 3 if (tail > head) the oldest is taken: head + 1
 *          3 (compiler barrier)                 else limit = head
 *          4 if (limit > depth) slow: the
 *            lock, then whether it is taken
 *
 * Owner and thief do not both take the same f. The barrier makes the owner's processor pass a full
 * fence between the thief's 1 and 3. If the owner's 4 came before that fence, so did its 2, and the
 * thief sees the smaller tail. If it came after, the owner sees the limit, and the lock tells it
 * how the thief has decided. Without the barrier the owner could read limit before the thief's 1
 * while its tail became visible only after the thief's 3.
 *   The record at depth head cannot change while the thief takes it: from that fence on the owner
 * does not pass 4 for it. Another record that the owner puts there before the fence is as good: the
 * thief reads the link after tail (acquire), and has that record then. Without a barrier limit is
 * as high as can be, and each join takes the lock.
 *   The memory: a record is read by thieves only when it is taken, and lives until it is joined.
 * The list itself lies in the control block; the goroutine leaves its P's list before it ends.
 *
 *   done (in a taken record)   thief: work, outcome; if (swap(done, DONE) != NULL) wake that one
 *                              owner: if (cas(done, NULL, itself)) park; read outcome
 * The thief does not touch the record after its swap where it finds NULL: the owner may be gone.
 * model: an_offer_is_done_by_its_owner_or_by_a_thief
 * model: a_join_waits_for_a_thief_whose_last_look_at_the_record_is_its_swap
 *
 * KNOWN. A searching thread has to find the lists. A goroutine that forks puts its list into that
 * of the P it runs on, sets `known`, and wakes a P as for any work. After that a fork costs no look
 * at idle Ps. The last thread that searches takes the lists off again, when it goes idle:
 *
 *   owner                          thread going idle, between 2 and 3 of PARK DANCE
 *   1 fork: tail + 1               1 known = 0 in each list
 *   2 (compiler barrier)           2 membarrier
 *   3 if (!known) known = 1,       3 if (tail > head) known = 1, else off the list. Was there any?
 *     into the list, csp__wake()     Then it does not sleep for long: it naps
 *
 * A thread that may not make a membarrier yet (BARRIERS) leaves the lists as they are, and naps. It
 * must not take lists off either, that another thread's 1 has hidden: only that thread's membarrier
 * says that their offers can be seen.
 *   If the owner's 3 saw the old known, it came before the membarrier, and so did 1: the offer is
 * seen on the right. So no thread sleeps for good beside an offer, and a goroutine that forks all
 * the time causes at most one wake-up for each nap.
 * model: a_fork_while_the_last_search_ends_is_seen_or_wakes
 *
 * WHAT IS WORTH IT. Taking an offer interrupts its owner, and the owner may then have to wait: 2 us
 * and more for both. So an offer has to stand for CSP__OFFER_AGE before it is taken. `rounds` tells
 * a thief whether the list has been empty since it looked. */
#define CSP__OFFER_AGE (3 * CSP_MICROSECOND)
static char csp__fork_done, csp__fork_exits;
#define CSP__FORK_DONE ((void *)&csp__fork_done)
#define CSP__FORK_EXITS ((void *)&csp__fork_exits)

CSP__FN inline uint32_t csp__forks_open(csp__forks *forks) // how many can be taken
{
    uint32_t head = csp__relaxed(&forks->head), tail = csp__acquire(&forks->x.tail);
    return tail > head ? tail - head : 0;
}

/* The owner's list becomes known, in that of a P. */
CSP__FN void csp__forks_show(csp__m *m, csp__forks *forks)
{
    csp__p *p = csp__relaxed(&forks->in);
    if (p == NULL) p = m->p;
    if (p == NULL) p = csp__sched.procs[csp__random_below(&m->rng, (uint32_t)csp__nmade())];
    csp__lock(&p->forks_lock, CSP__RANK_FORKERS);
    if (forks->in == NULL) {
        forks->next = p->forks;
        forks->at = &p->forks;
        if (p->forks != NULL) p->forks->at = &forks->next;
        csp__set(&p->forks, forks);
        csp__set(&forks->in, p);
        csp__add(&csp__sched.nforkers, 1);
        m->g->flags |= CSP__G_FORKED;
    }
    csp__set(&forks->known, 1);
    csp__unlock(&p->forks_lock);
}

CSP__FN void csp__forks_unlink_locked(csp__forks *forks)
{
    csp__add(&csp__sched.nforkers, (uint32_t)-1);
    csp__set(forks->at, forks->next);
    if (forks->next != NULL) forks->next->at = forks->at;
    csp__set(&forks->in, NULL);
}

/* g ends, or its P is no more. */
CSP__FN void csp__forks_leave(csp__g *g)
{
    csp__forks *forks = &g->cb->forks;
    csp__p *p = csp__relaxed(&forks->in);
    g->flags &= (uint8_t)~CSP__G_FORKED;
    if (p != NULL) {
        csp__lock(&p->forks_lock, CSP__RANK_FORKERS);
        if (forks->in == p) csp__forks_unlink_locked(forks);
        csp__unlock(&p->forks_lock);
    }
    csp__set(&forks->known, 0);
}

/* Of a thread whose runtime has stopped, or of the child of a process: there are no lists any more,
 * and what was taken will not be done. */
CSP__FN void csp__forks_forget(csp__cb *cb)
{
    cb->forks.lost = cb->forks.head;
    cb->forks.in = NULL;
    cb->forks.known = 0;
    cb->forks.lock = 0;
    if (cb->g != NULL) cb->g->flags &= (uint8_t)~CSP__G_FORKED;
}

/* KNOWN, on the right: 1. True when there is any list. */
CSP__FN bool csp__forks_hide(void)
{
    bool any = false;
    if (csp__relaxed(&csp__sched.nforkers) == 0) return false;
    csp__count_n(LOOK, csp__nmade());
    for (int i = 0; i < csp__nmade(); i++) {
        csp__p *p = csp__sched.procs[i];
        if (csp__relaxed(&p->forks) == NULL) continue;
        csp__lock(&p->forks_lock, CSP__RANK_FORKERS);
        for (csp__forks *f = p->forks; f != NULL; f = f->next) {
            csp__set(&f->known, 0);
            any = true;
        }
        csp__unlock(&p->forks_lock);
    }
    return any;
}

/* And 3: true when there was any. */
CSP__FN bool csp__forks_look(void)
{
    bool any = false;
    if (csp__relaxed(&csp__sched.nforkers) == 0) return false;
    csp__count_n(LOOK, csp__nmade());
    for (int i = 0; i < csp__nmade(); i++) {
        csp__p *p = csp__sched.procs[i];
        if (csp__relaxed(&p->forks) == NULL) continue;
        csp__lock(&p->forks_lock, CSP__RANK_FORKERS);
        for (csp__forks *f = p->forks, *next; f != NULL; f = next) {
            next = f->next;
            any = true;
            if (csp__forks_open(f) != 0)
                csp__set(&f->known, 1);
            else if (csp__relaxed(&f->known) == 0)
                csp__forks_unlink_locked(f);
        }
        csp__unlock(&p->forks_lock);
    }
    return any;
}

/* Is there an offer that a thief could take, in any list? The caller holds sched.lock. */
CSP__FN bool csp__forks_offered(void)
{
    bool any = false;
    if (csp__relaxed(&csp__sched.nforkers) == 0) return false;
    for (int i = 0; i < csp__nmade(); i++) {
        csp__p *p = csp__sched.procs[i];
        if (csp__relaxed(&p->forks) == NULL) continue;
        csp__lock(&p->forks_lock, CSP__RANK_FORKERS);
        for (csp__forks *f = p->forks; f != NULL && !any; f = f->next)
            any = csp__forks_open(f) != 0;
        csp__unlock(&p->forks_lock);
    }
    return any;
}

/* FORK. The child has one thread. The goroutine that ran on it goes on as the program's main
 * goroutine: on its own stack, with its defers and its csp_try blocks. All else of the runtime is
 * forgotten, as if csp had never run, and is started again by the first call that needs it.
 *
 * For that new runtime the goroutine is a thread of the program: it has no P, blocks as a thread,
 * and may call csp_run. The record of the thread that ran it becomes that of such a thread. The
 * goroutine's own record and control block lie in memory that is left alone, and stay what they
 * are. m->main makes it a main goroutine: it may call csp_exit, and where it waits without a
 * deadline a deadlock may be found (csp__main_sleeps).
 *
 * When its function returns, the csp_run within which it was forked returns. csp_run's caller does
 * not exist in the child, but its frames do, and the mark in csp__home leads there. That cannot be
 * done where those frames lie on the stack of a pthread: glibc gives the stacks of threads that the
 * child does not have to the next threads that it makes, and musl cannot end such a thread. Such a
 * child exits, as a process does when its last thread ends. So does a child that was forked outside
 * any csp_run. */

#ifdef CSP_X_MARK_WORDS
#define csp__longjmp(mark, value) csp_x_mark_jump(mark)
#else
extern void csp__longjmp(jmp_buf mark, int value) // unfortified: it leads to another stack
    __asm__(CSP__STRING(__USER_LABEL_PREFIX__) "longjmp") __attribute__((noreturn));
#endif

/* Takes m off the list of the program's threads; false when it is not there. */
CSP__FN bool csp__foreign_remove_locked(csp__m *m)
{
    csp__m **at = &csp__sched.foreign_m;
    while (*at != NULL && *at != m) at = &(*at)->all;
    if (*at == NULL) return false;
    *at = m->all;
    return true;
}

/* The function of a child's main goroutine has returned. */
CSP__FN CSP__COLD __attribute__((noreturn)) void csp__main_returns(csp__m *m)
{
    csp__home *home = csp__sched.home;
    csp__cb *cb = m->g->cb;
    if (m->epoch & 1) csp__leave(m);
    csp__free(cb->locals);
    cb->locals = NULL;
    if (home == NULL || !home->stays) {
        if (m->sp == NULL) exit(0);
        m->leaving = true; /* the thread ends its scheduler, on its own stack, and exits */
        csp__switch_announced(m, cb, NULL, &m->dead_sp, m->sp, &m->no_busy, NULL);
        __builtin_unreachable();
    }
    csp__m *caller = home->caller; /* this thread from now on; an orphan, see csp__fork_child */
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__foreign_remove_locked(m);
    csp__unlock(&csp__sched.lock);
    csp__sched.child_in_run = home->outer != NULL;
    csp__sched.child = caller;
    caller->err = m->err;
    caller->eh = m->eh;
    caller->alt = m->alt;
    csp__tls = caller;
    csp__free(m);
#if CSP__ASAN
    __sanitizer_start_switch_fiber(NULL, caller->asan_low, caller->asan_size);
#endif
    csp__longjmp(home->mark, 1);
}

CSP__FN CSP__NOINLINE void csp__g_retire_flags(csp__m *m, csp__g *g)
{
    csp__cb *cb = g->cb;
    if (csp__tracing()) csp__note_stop(m, g, "end", csp__clock());
    if (g->flags & CSP__G_FORKED) csp__forks_leave(g);
    if (g->flags & CSP__G_FOREIGN) csp__main_returns(m);
    if (csp__canary_dead(cb)) csp__overflow(cb);
    if (g->flags & CSP__G_BOUND) csp__unbind(m);
    if (g->flags & CSP__G_MAIN) csp__word_post(&csp__sched.run_exit, CSP__RUN_ENDED);
}

CSP__FN inline void csp__credit_give(csp__p *p)
{
    if (++p->credit <= 64) return;
    p->credit -= 32;
    csp__stacks_promise(-32);
}

/* The end of a goroutine, inside csp: its record is free from here on, its stack once it has been
 * left. */
CSP__FN inline csp__cb *csp__g_retire(csp__m *m)
{
    csp__g *g = m->g;
    csp__cb *cb = g->cb;
    csp__p *p = m->p;
    csp__assert(cb->defers == NULL);
    if (CSP__UNLIKELY(cb->locals != NULL)) {
        csp__free(cb->locals);
        cb->locals = NULL;
        cb->nlocals = 0;
    }
    if (CSP__UNLIKELY(g->flags &
                      (CSP__G_BOUND | CSP__G_MAIN | CSP__G_SLOW | CSP__G_FOREIGN | CSP__G_FORKED)))
        csp__g_retire_flags(m, g);
    cb->name[0] = 0;
    cb->what = NULL;
    csp__set(&p->ended, p->ended + 1);
    csp__set(&g->id, 0);
    __atomic_thread_fence(__ATOMIC_RELEASE); // rel <g.id>: before it becomes another, see csp__look
    g->link = p->free_g;
    p->free_g = g;
    cb->g = NULL;
    m->g = NULL;
    if (cb->home == csp__stacks.classes) csp__credit_give(p);
    return cb;
}

/* Puts a stack into the P's cache. It is free as soon as this thread has left it (cb.busy). Of a
 * full cache the colder half goes back to STACKS. */
CSP__FN void csp__cb_put(csp__p *p, csp__cb *cb)
{
    if (cb->home != csp__stacks.classes) {
        cb->link = NULL;
        csp__stacks_put(cb);
        return;
    }
    if (CSP__UNLIKELY(p->keeps == 0)) {
        if (!csp__stacks_promise(CSP__STACKS_KEPT)) {
            cb->link = NULL;
            csp__stacks_put(cb);
            return;
        }
        p->keeps = CSP__STACKS_KEPT;
    }
    if (p->nstacks >= CSP__STACKS_KEPT) {
        csp__cb **at = &p->stacks, *cold;
        for (int i = 0; i < CSP__STACKS_KEPT / 2; i++) at = &(*at)->link;
        cold = *at;
        *at = NULL;
        p->nstacks = CSP__STACKS_KEPT / 2;
        csp__stacks_put(cold);
    }
    cb->link = p->stacks;
    p->stacks = cb;
    p->nstacks++;
}

/* Leaves the stack of an ended goroutine for good: for n, or, if that is NULL, for the next
 * goroutine of this P. */
CSP__FN __attribute__((noreturn)) void csp__g_leave(csp__m *m, csp__cb *cb, csp__g *n)
{
    csp__p *p = m->p;
    cb->busy = 1;
    if (n == NULL && m->bound_g == NULL && !csp__relaxed(&csp__sched.stopping) &&
        !csp__turn_is_fair(p))
        n = csp__p_pop(p);
    if (n != NULL && n->state == CSP__G_FRESH) csp__bind(p, n);
    bool straight = n != NULL && csp__acquire(&n->busy) == 0 && !(n->flags & CSP__G_BOUND);
    csp__hb_before(cb); /* the stack's next goroutine may have another fiber, see csp__g_frame */
    csp__cb_put(p, cb);
    if (straight) {
        if (csp__tracing()) csp__note_run(m, n, csp__clock());
        csp__run(m, p, m->epoch, n, cb, &m->dead_sp, &cb->busy);
    } else {
        m->todo = n;
        csp__switch_announced(m, cb, NULL, &m->dead_sp, m->sp, &cb->busy, NULL);
    }
    __builtin_unreachable();
}

CSP__FN CSP__NOINLINE csp__m *csp__g_enter_slow(csp__m *m)
{
    if (m != NULL && m->foreign) csp__main_returns(m);
    return csp__enter_outlined(m);
}

/* Where every goroutine begins. One that ends runs the next fresh one at once, on the stack that
 * is still warm: a loop, without a switch. */
CSP__FN void csp__g_main(void *value)
{
    csp__g *g = (csp__g *)value;
#if CSP__ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
    csp__hb_after(g);
    csp__hb_after(g->cb);
    for (;;) {
        csp__cb *cb = g->cb;
        /* What csp_exit or a panic left behind below. */
        csp__unpoison(cb->low, (size_t)((char *)__builtin_frame_address(0) - cb->low));
        cb->run(cb->args);
        csp__m *m = csp__self();
        if (CSP__UNLIKELY(!csp__enter_fast(m))) m = csp__g_enter_slow(m);
        cb = csp__g_retire(m);
        csp__p *p = m->p;
        if (CSP__UNLIKELY(CSP_X_TSAN || CSP_TORTURE || CSP_STACK_PAINT ||
                          cb->home != csp__stacks.classes || csp__turn_is_fair(p) ||
                          m->bound_g != NULL))
            csp__g_leave(m, cb, NULL);
        csp__g *n = csp__p_pop_fast(p);
        if (n == NULL || n->state != CSP__G_FRESH) csp__g_leave(m, cb, n);
        csp__bind_args(n, cb);
        n->busy = 1;
        csp__set(&n->state, CSP__G_RUNNING);
        m->g = g = n;
        csp__bump(&p->tick);
        if (CSP__UNLIKELY(n->flags & CSP__G_SLOW) && csp__tracing())
            csp__note_run(m, n, csp__clock());
        *m->err = 0;
        csp__leave(m);
    }
}

CSP__FN CSP__COLD __attribute__((noreturn)) void csp__spawn_fail(csp__m *m, uint8_t flags,
                                                                 size_t size)
{
    if (flags & CSP__G_SYSTEM) csp__die(NULL, "out of memory for a goroutine", NULL);
    csp__leave(m);
    csp__throw_memory(size);
}

CSP__FN void csp__g_free(csp__g *g)
{
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    g->link = csp__sched.free_g;
    csp__sched.free_g = g;
    csp__unlock(&csp__sched.lock);
}

/* The last step of a start: g has all but an id. */
CSP__FN inline uint64_t csp__begin(csp__m *m, csp__p *p, csp__g *g)
{
    uint64_t id = csp__new_id(p);
    csp__release(&g->id, id);
    csp__hb_before(g);
    if (CSP__LIKELY(p != NULL)) {
        csp__set(&p->spawned, p->spawned + 1);
        csp__p_ready(p, g);
    } else {
        csp__add(&csp__sched.spawned_foreign, 1);
        csp__global_ready(g);
    }
    (void)m;
    return id;
}

/* MANY ARGUMENTS. Arguments that the record has no room for wait on the heap until the goroutine
 * runs; then they are copied to its stack. A stack from the start could hold them, but it takes a
 * page while the goroutine waits, and such a goroutine does not count as fresh: a tree of them
 * grows in breadth. (1.1 million goroutines of groups: 590 MB so, 40 MB with the heap.)
 *   A goroutine gets its stack at once where the heap has no memory, and where the stack is so
 * small that the copy would be felt. In a simulation, too, which forgets goroutines without a
 * look. */
typedef struct csp__many {
    void (*run)(void *);
    size_t size; // of the arguments, which follow
} csp__many;
#define CSP__MANY 128

CSP__FN void csp__many_run(void *args)
{
    csp__many *many = *(csp__many **)args;
    char here[CSP__MANY] __attribute__((aligned(64)));
    void (*run)(void *) = many->run;
    csp__copy(here, many + 1, many->size);
    csp__free(many);
    run(here);
}

CSP__FN csp__many *csp__many_new(void (*run)(void *), const void *args, size_t size)
{
    csp__many *many = NULL;
    if (size <= CSP__MANY && csp__sched.config.stack_size >= 64 * CSP__MANY &&
        csp__sched.sim == NULL)
        many = (csp__many *)csp__alloc(sizeof *many + size);
    if (many == NULL) return NULL;
    *many = (csp__many){run, size};
    csp__copy(many + 1, args, size);
    return many;
}

/* The runtime stops, and g has never run. */
CSP__FN void csp__many_drop(const csp__g *g)
{
    void (*run)(void *);
    csp__many *many;
    memcpy(&run, g->args, sizeof run);
    memcpy(&many, g->args + sizeof run, sizeof many);
    if (run == csp__many_run) csp__free(many);
}

/* Starts run(args) and makes it runnable. m is inside csp. Panics when out of memory, with nothing
 * half made. */
CSP__FN uint64_t csp__spawn(csp__m *m, const csp_opts *opts, const csp_x_site *site,
                            void (*run)(void *), const void *args, size_t size, uint8_t flags)
{
    csp__many *many;
    csp__p *p = m->p;
    csp__cb *cb = NULL;
    size_t usual = csp__sched.config.stack_size;
    size_t stack = opts != NULL && opts->stack_size != 0 ? opts->stack_size : usual;
    bool named = opts != NULL && opts->name != NULL;
    if (CSP__UNLIKELY(stack < CSP_STACK_MIN || stack > CSP__STACK_MAX)) {
        csp__leave(m);
        (csp_panic)("stack size of %zu bytes is out of range (at least %d)", stack, CSP_STACK_MIN);
    }
    if (CSP__UNLIKELY(size > stack / 2)) csp__spawn_fail(m, flags, stack);
    csp__g *g = csp__g_alloc(p);
    if (CSP__UNLIKELY(g == NULL)) csp__spawn_fail(m, flags, sizeof(csp__slab));
    bool ok = stack == usual ? csp__credit_take(p) : (cb = csp__stack_sized(stack)) != NULL;
    if (CSP__UNLIKELY(!ok)) {
        csp__g_free(g);
        csp__spawn_fail(m, flags, stack);
    }
    if (cb == NULL && CSP__UNLIKELY(named || size > CSP__ARGS - sizeof run)) {
        many = named ? NULL : csp__many_new(run, args, size);
        if (many == NULL) {
            cb = p != NULL ? csp__cb_get(p) : csp__stack_default();
        } else {
            run = csp__many_run;
            args = &many;
            size = sizeof many;
        }
    }
    g->site = site;
    g->flags = flags;
    g->err = 0;
    if (CSP__LIKELY(cb == NULL)) {
        memcpy(g->args, &run, sizeof run);
        csp__copy(g->args + sizeof run, args, size);
        g->flags |= CSP__G_NEW;
        csp__set(&g->state, CSP__G_FRESH);
    } else {
        char *top = cb->top - ((size + 63) & ~(size_t)63);
        g->cb = cb;
        csp__stack_unpoison(cb, top);
        csp__os_stack_reach(cb->base, cb->low, top - CSP__FRAME_WORDS * sizeof(void *));
        csp__g_frame(g, cb, top);
        csp__copy(top, args, size);
        g->flags |= csp__slow_switch(cb);
        cb->g = g;
        cb->run = run;
        cb->args = top;
        if (named) csp__copy_text(cb->name, opts->name, sizeof cb->name);
        csp__set(&g->state, CSP__G_RUNNABLE);
    }
    return csp__begin(m, p, g);
}

/* SEATS. csp_after_func and csp_ctx_on_done start a goroutine later, when no caller is there who
 * could be told that there is no memory. So they take the goroutine's record and the promise of a
 * stack in advance: a seat. A seat belongs to the runtime that gave it, and is void in a later one.
 * In a simulation there are none, because what a run leaves behind is dropped; there the start may
 * fail after all. */
typedef struct csp__seat {
    csp__g *g; // NULL: none
    uint32_t start;
} csp__seat;

/* For m, which is inside csp. False when out of memory. */
CSP__FN bool csp__seat_take(csp__m *m, csp__seat *seat)
{
    *seat = (csp__seat){NULL, csp__sched.starts};
    if (csp__sched.sim != NULL) return true;
    csp__g *g = csp__g_alloc(m->p);
    if (g == NULL) return false;
    if (!csp__credit_take(m->p)) {
        csp__g_free(g);
        return false;
    }
    seat->g = g;
    return true;
}

CSP__FN csp__g *csp__seat_leave(csp__seat *seat)
{
    csp__g *g = seat->start == csp__sched.starts ? seat->g : NULL;
    seat->g = NULL;
    return g;
}

CSP__FN void csp__seat_give(csp__m *m, csp__seat *seat)
{
    csp__g *g = csp__seat_leave(seat);
    csp__p *p = m->p;
    if (g == NULL) return;
    if (p == NULL) {
        csp__g_free(g);
        csp__stacks_promise(-1);
        return;
    }
    g->link = p->free_g;
    p->free_g = g;
    csp__credit_give(p);
}

CSP__FN void csp__seat_spawn(csp__m *m, csp__seat *seat, const csp_x_site *site, csp__plain plain)
{
    csp__g *g = csp__seat_leave(seat);
    if (g == NULL) {
        csp__spawn(m, NULL, site, csp__plain_run, &plain, sizeof plain, CSP__G_SYSTEM);
        return;
    }
    void (*run)(void *) = csp__plain_run;
    CSP_X_ASSERT(sizeof run + sizeof plain <= CSP__ARGS, "it needs no stack yet");
    g->site = site;
    g->flags = CSP__G_NEW;
    g->err = 0;
    memcpy(g->args, &run, sizeof run);
    csp__copy(g->args + sizeof run, &plain, sizeof plain);
    csp__set(&g->state, CSP__G_FRESH);
    csp__begin(m, m->p, g);
}
#define CSP__SEAT(name) csp__seat name;

CSP__FN bool csp__forks_worth(csp__forks *forks)
{
    uint32_t rounds = csp__relaxed(&forks->rounds);
    if (csp__forks_open(forks) == 0) return false;
    if (CSP_TORTURE) return true;
    int64_t now = csp__clock();
    if (rounds == forks->seen_rounds && forks->seen_at != 0)
        return now - forks->seen_at >= CSP__OFFER_AGE;
    forks->seen_rounds = rounds;
    forks->seen_at = now;
    return false;
}

/* OFFERS, on the right; NULL when the owner was faster. */
CSP__FN csp_x_fork *csp__forks_take(csp__m *m, csp__forks *forks)
{
    csp_x_fork *f = NULL;
    csp__lock(&forks->lock, CSP__RANK_FORKS);
    uint32_t head = forks->head;
    bool fenced = csp__relaxed(&forks->x.limit) == UINT32_MAX;
    if (csp__acquire(&forks->x.tail) > head && (fenced || csp__barrier_open())) {
        if (!fenced) {
            csp__set(&forks->x.limit, head + 1);
            csp__torture_delay(m);
            csp__fence_heavy();
        }
        if (csp__acquire(&forks->x.tail) > head) {
            f = csp__relaxed(&forks->last->next);
            f->taken = 1;
            f->done = NULL;
            forks->last = &f->link;
            csp__set(&forks->head, head + 1);
        } else if (!fenced) {
            csp__set(&forks->x.limit, head);
        }
    }
    csp__unlock(&forks->lock);
    return f;
}

typedef struct csp__taken {
    csp_x_fork *f;
    void *outcome;
} csp__taken;

/* The last thing in a goroutine that did what it has taken: also when it left by csp_exit. */
CSP__FN void csp__taken_ends(void *arg)
{
    csp__taken *taken = (csp__taken *)arg;
    csp_x_fork *f = taken->f;
    csp__m *m = csp__enter();
    f->outcome = taken->outcome;
    csp__hb_before(f);
    csp__torture_delay(m);
    csp__g *owner = (csp__g *)csp__swap(&f->done, CSP__FORK_DONE);
    if (owner != NULL) csp__ready(m, owner);
    csp__leave(m);
}

CSP__FN void csp__taken_run(void *arg)
{
    csp__taken taken = {(csp_x_fork *)arg, CSP__FORK_EXITS};
    void *volatile outcome = NULL;
    csp__hb_after(taken.f);
    csp_defer(csp__taken_ends, &taken);
    csp_try taken.f->run(taken.f->args);
    csp_catch(p)
    {
        char *text = (char *)csp__alloc(sizeof p->message); /* NULL: the join says so */
        if (text != NULL) memcpy(text, p->message, sizeof p->message);
        outcome = text != NULL ? text : (void *)&taken;
    }
    taken.outcome = outcome == (void *)&taken ? CSP__FORK_DONE : outcome;
}

/* Takes an offer from those known at victim, for p, whose queues are empty: NULL, or a goroutine
 * that does it. */
CSP__FN csp__g *csp__offer_steal(csp__m *m, csp__p *victim)
{
    static const csp__plain none = {NULL, NULL};
    csp__seat seat;
    csp_x_fork *f = NULL;
    csp__plain plain = none;
    if (csp__relaxed(&victim->forks) == NULL || !csp__seat_take(m, &seat)) return NULL;
    csp__lock(&victim->forks_lock, CSP__RANK_FORKERS);
    for (csp__forks *forks = victim->forks; forks != NULL && f == NULL; forks = forks->next)
        if (csp__forks_worth(forks)) f = csp__forks_take(m, forks);
    csp__unlock(&victim->forks_lock);
    if (f == NULL) {
        csp__seat_give(m, &seat);
        return NULL;
    }
    plain.fn = csp__taken_run;
    plain.arg = f;
    csp__seat_spawn(m, &seat, f->site, plain);
    return csp__p_pop(m->p);
}

CSP__FN CSP__NOINLINE uint64_t csp__start_slow(csp__m *m, const csp_x_how *how,
                                               const csp_x_site *site, void (*run)(void *),
                                               const void *args, size_t size)
{
    if (m == NULL || csp__relaxed(&m->revoke) != 0) m = csp__enter_outlined(m);
    if (how != NULL && how->start != NULL) {
        csp__leave(m);
        return how->start(how, site, run, args, size);
    }
    uint64_t id = csp__spawn(m, how == NULL ? NULL : how->opts, site, run, args, size, 0);
    csp__leave(m);
    csp__sim_point();
    return id;
}

/* The short way: with a record, an id and the promise of a stack at hand. */
CSP__API uint64_t csp_x_start(const csp_x_how *how, const csp_x_site *site, void (*run)(void *),
                              const void *args, size_t size)
{
    csp__m *m = csp__self();
    csp__p *p;
    csp__g *g;
    if (CSP__UNLIKELY(!csp__enter_fast(m) || (p = m->p) == NULL || (g = p->free_g) == NULL ||
                      p->credit == 0 || how != NULL || (p->ids & 63) == 0 ||
                      size > CSP__ARGS - sizeof run || size % 8 != 0))
        return csp__start_slow(m, how, site, run, args, size);
    uint64_t id = ++p->ids;
    p->free_g = g->link;
    p->credit--;
    g->site = site;
    g->flags = CSP__G_NEW;
    g->err = 0;
    memcpy(g->args, &run, sizeof run);
    for (size_t i = 0; i < size; i += 8)
        memcpy(g->args + sizeof run + i, (const char *)args + i, 8);
    csp__set(&g->state, CSP__G_FRESH);
    csp__release(&g->id, id);
    csp__hb_before(g);
    csp__bump(&p->spawned);
    csp__p_ready(p, g);
    csp__leave(m);
    return id;
}

/* ==========================================================================
 * [18] TIMERS - deadlines in the heaps of the Ps
 *
 * Each P has a heap of deadlines. An item is a timer, or a goroutine that sleeps. A timer fires
 * under its heap's lock: so a thread that has removed a timer under that lock knows that the timer
 * will not fire any more. What firing has to do without the lock is left to csp__late.
 *   uses   PLATFORM BASE SYSTEM HEAP LOCKS CORE RUNQ WAKE PARK
 *   locks  p.heap_lock
 * ======================================================================== */

/* SPILT. A wait must not fail for want of memory. So where a P's heap cannot grow, the goroutine
 * stands in a second heap: a tree through the control blocks, which needs no memory. It is a skew
 * heap: a block's deadline is not later than those of its two children, and each merge swaps the
 * children of the blocks it passes, which keeps the paths short on the average. A goroutine has one
 * wait at a time, so each block is in at most one tree. A sleeper's timer has no function. */
#define CSP__SPILT UINT32_MAX /* the index of a timer there */

CSP__FN csp__cb *csp__spilt_merge(csp__cb *a, csp__cb *b)
{
    csp__cb *root = NULL, *above = NULL, **at = &root;
    while (a != NULL && b != NULL) {
        bool swap = b->timer.when < a->timer.when;
        csp__cb *first = swap ? b : a, *rest = first->right;
        if (swap) b = a;
        first->right = first->left;
        first->above = above;
        *at = above = first;
        at = &first->left;
        a = rest;
    }
    *at = a != NULL ? a : b;
    if (*at != NULL) (*at)->above = above;
    return root;
}

CSP__FN CSP__COLD void csp__spilt_insert_locked(csp__p *p, csp__cb *cb)
{
    cb->left = cb->right = cb->above = NULL;
    p->spilt = csp__spilt_merge(p->spilt, cb);
}

CSP__FN CSP__COLD void csp__spilt_remove_locked(csp__p *p, csp__cb *cb)
{
    csp__cb *below = csp__spilt_merge(cb->left, cb->right), *above = cb->above;
    if (below != NULL) below->above = above;
    if (above == NULL)
        p->spilt = below;
    else if (above->left == cb)
        above->left = below;
    else
        above->right = below;
}

#define csp__timer_cb(t) ((csp__cb *)(void *)((char *)(t)-offsetof(csp__cb, timer)))

/* Publishes the first deadline of both heaps, for threads that look without the lock. */
CSP__FN void csp__heap_first_locked(csp__p *p)
{
    int64_t first = p->heap.count == 0 ? CSP_FOREVER : p->heap.items[0].when;
    if (CSP__UNLIKELY(p->spilt != NULL) && p->spilt->timer.when < first)
        first = p->spilt->timer.when;
    csp__set(&p->first, first);
}

/* Takes out the first item if it is due, and returns it; 0: none is due. */
CSP__FN inline uintptr_t csp__heap_due_locked(csp__p *p, int64_t now)
{
    csp__heap *h = &p->heap;
    csp__cb *cb = p->spilt;
    if (CSP__UNLIKELY(cb != NULL) && cb->timer.when <= now &&
        (h->count == 0 || cb->timer.when <= h->items[0].when)) {
        csp__spilt_remove_locked(p, cb);
        return cb->timer.fire != NULL ? (uintptr_t)&cb->timer | 1 : (uintptr_t)cb->g;
    }
    if (h->count == 0 || h->items[0].when > now) return 0;
    uintptr_t who = h->items[0].who;
    csp__heap_remove(h, 0);
    return who;
}

#if CSP_COUNT
#define csp__count_heap(q) csp__count_n(HEAP, csp__self() != NULL && csp__self()->p != (q))
#else
#define csp__count_heap(q) ((void)0)
#endif

/* The P whose heap takes m's timers; a thread without a P uses the first one's. */
CSP__FN csp__p *csp__timer_p(csp__m *m)
{
    return m->p != NULL ? m->p : csp__sched.procs[0];
}

/* Removes t from whatever heap it is in; false when it was in none (it has fired, or was never
 * set). */
CSP__FN bool csp__timer_unset(csp__timer *t)
{
    bool found = false;
    for (csp__p *p; !found && (p = csp__acquire(&t->p)) != NULL;) {
        csp__count_heap(p);
        csp__lock(&p->heap_lock, CSP__RANK_HEAP);
        found = csp__relaxed(&t->p) == p;
        if (found) {
            if (CSP__UNLIKELY(t->index == CSP__SPILT))
                csp__spilt_remove_locked(p, csp__timer_cb(t));
            else
                csp__heap_remove(&p->heap, t->index);
            csp__set(&t->p, NULL);
            csp__heap_first_locked(p);
        }
        csp__unlock(&p->heap_lock);
    }
    return found;
}

/* Room for one more in p's heap; false when out of memory. The lock is dropped meanwhile: malloc
 * and free may go to the system, and a block of a million items is 16 MB, to be cleared. Under it
 * the items are copied. */
CSP__FN CSP__COLD bool csp__heap_grow_locked(csp__p *p)
{
    csp__heap *h = &p->heap;
    while (h->count == h->room) {
        uint32_t room = h->room == 0 ? 64 : 2 * h->room;
        csp__unlock(&p->heap_lock);
        void *block = csp__heap_block(room), *old = block;
        csp__lock(&p->heap_lock, CSP__RANK_HEAP);
        if (block == NULL) break;
        if (h->room < room) old = csp__heap_move(h, block, room); /* else another was faster */
        csp__unlock(&p->heap_lock);
        csp__free(old);
        csp__lock(&p->heap_lock, CSP__RANK_HEAP);
    }
    return h->count < h->room;
}

/* Puts an item into the heap. False when out of memory. Never false for the wait of a goroutine,
 * which gives its control block: see SPILT. */
CSP__FN bool csp__item_set(csp__m *m, csp__heap_item item, csp__cb *cb)
{
    csp__p *p = csp__timer_p(m);
    csp__lock(&p->heap_lock, CSP__RANK_HEAP);
    bool spills = CSP_TORTURE && cb != NULL && (csp__random(&m->rng) & 7) == 0, first;
    if (CSP__UNLIKELY(spills || (p->heap.count == p->heap.room && !csp__heap_grow_locked(p)))) {
        if (cb == NULL) {
            csp__unlock(&p->heap_lock);
            return false;
        }
        cb->timer.when = item.when;
        if (item.who & 1) {
            cb->timer.index = CSP__SPILT;
            csp__release(&cb->timer.p, p);
        } else {
            cb->timer.fire = NULL;
        }
        csp__spilt_insert_locked(p, cb);
        csp__heap_first_locked(p);
        first = csp__relaxed(&p->first) == item.when;
    } else {
        if (item.who & 1) csp__release(&csp__item_timer(item.who)->p, p);
        csp__heap_insert(&p->heap, item);
        first = p->heap.items[0].who == item.who;
        csp__heap_first_locked(p);
    }
    csp__unlock(&p->heap_lock);
    if (first) {
        csp__fence(); /* either the sleeper sees the timer, or this thread sees the sleeper */
        if (item.when < csp__relaxed(&csp__sched.sleep_until) &&
            (m->p == NULL || csp__relaxed(&csp__sched.sleeper) != NULL))
            csp__timer_poke();
    }
    return true;
}

#define csp__timer_set(m, t) csp__item_set(m, csp__timer_item(t), NULL) /* at t->when */
/* For a goroutine's own timer: never fails. */
#define csp__wait_set(m, t) csp__item_set(m, csp__timer_item(t), csp__timer_cb(t))

/* The timer of a goroutine's wait, and the goroutine that a timer belongs to. */
#define CSP__TIMER(t, owner) csp__timer *t = &(owner)->cb->timer
CSP__FN inline csp__g *csp__timer_g(csp__timer *t)
{
    return csp__timer_cb(t)->g;
}

CSP__FN bool csp__timed(csp__cb *cb)
{
    return csp__relaxed(&cb->timer.p) != NULL || csp__relaxed(&cb->on) == csp__asleep;
}

/* Work that a firing timer leaves to be done after its heap's lock has been dropped. It is done on
 * the scheduler's stack, and needs neither a goroutine nor memory. */
typedef struct csp__late {
    struct csp__late *next;
    void (*run)(csp__m *m, struct csp__late *late);
} csp__late;

CSP__FN void csp__timer_late(csp__m *m, csp__p *p, csp__late *late)
{
    (void)m;
    late->next = p->late;
    p->late = late;
}

/* Fires what is due in p's heap. */
CSP__FN void csp__timers_run(csp__p *p)
{
    if (csp__relaxed(&p->first) == CSP_FOREVER) return;
    int64_t now = csp__now_refresh();
    while (csp__relaxed(&p->first) <= now) {
        uintptr_t due[8]; /* eight at a time, so that their cache misses overlap */
        int n = 0;
        csp__count_heap(p);
        csp__lock(&p->heap_lock, CSP__RANK_HEAP);
        while (n < 8 && (due[n] = csp__heap_due_locked(p, now)) != 0)
            __builtin_prefetch((void *)due[n++], 1);
        csp__set(&p->timers, p->timers + (uint64_t)n); /* under the lock */
        for (int i = 0; i < n; i++)
            if (!(due[i] & 1)) csp__prefetch_g((csp__g *)due[i]);
        for (int i = 0; i < n; i++)
            if (!(due[i] & 1))
                csp__ready(csp__self(), (csp__g *)due[i]);
            else /* clears t->p, and does not touch t after that; or inserts t again */
                csp__item_timer(due[i])->fire(csp__item_timer(due[i]), now);
        csp__late *late = p->late, *next;
        p->late = NULL;
        csp__heap_first_locked(p);
        csp__unlock(&p->heap_lock);
        for (; CSP__UNLIKELY(late != NULL); late = next) {
            next = late->next;
            late->run(csp__self(), late);
        }
    }
}

/* ==========================================================================
 * [19] POLLER - descriptors: their records, and the waits on them
 *
 * Each descriptor has a record (csp__fd), found by its number without a lock. The first wait on a
 * descriptor registers it with the system's poller, once, for both directions, edge-triggered. The
 * poller reports each change once, and the record counts the reports of a direction in `seq`.
 *
 *   the waiter                                 the thread that polls
 *   1 seen = seq                               1 is told of a change
 *   2 tries the call, is told EAGAIN           2 locks, seq++, takes all waiters out, unlocks
 *   3 locks; seq == seen: queues itself,       3 makes those waiters runnable: they try again
 *     and waits; else: tries again
 *
 * A change after 2 on the left is reported after it, and so counted after 1. Then either 3 on the
 * left sees another seq, or 2 on the right finds the waiter. Without the count, a change that is
 * reported between 2 and 3 on the left would find no waiter, and no second report would follow.
 * model: a_change_of_a_descriptor_is_not_lost_to_who_begins_to_wait
 *
 *
 * THE POLLING THREADS. While a P is idle, threads without work sleep in the system's poller,
 * instead of on a word to sleep on, and no other thread polls. They are several: the system wakes
 * one thread for an event, the last that came, and while that thread runs what it has found,
 * another is left in the poller. While no P is idle, or no thread sleeps in the poller, each P
 * polls at every 64th turn, and when it finds nothing to run. Where all Ps compute for long, no P
 * comes to such a turn, and the monitor polls. See THE WATCH.
 *
 *   uses   PLATFORM BASE PROFILE SYSTEM EVENTS LOCKS CORE TAPES RUNQ WAKE PARK
 *   locks  fd.lock poll.lock sched.lock
 *
 * CLOSING. Each call on a descriptor counts as its user in `users`. The closer marks the record,
 * raises `gen` and ends the waits; the last user closes the descriptor. So no call reads from
 * another descriptor that has received the same number. A call that is about to wait looks for the
 * mark under the lock. The closer sets the mark first, and ends the waits under the lock after
 * that: so either the call sees the mark, or the closer finds the call among the waiters.
 *
 *   OPEN --1--> CLOSING --2--> FINISHING --3--> OPEN
 *
 *   OPEN       No mark. Calls enter (+1) and leave (-1).
 *   1          The closer, in one step with +1. Of two closers one succeeds, and the other gets
 *              -EBADF.
 *   CLOSING    The system still has the descriptor open. New calls get -EBADF and are not counted,
 *              so the count only falls, and comes to zero once.
 *   2          The call whose leaving brings the count to zero. It is the finisher.
 *   FINISHING  The record is the finisher's: it resets the record, and gives the number back by
 *              close(2). From somewhere in the middle of close(2) on, the number may belong to its
 *              next owner, which does not know of this close. close(2) itself may take seconds to
 *              return, where a socket lingers. So -EBADF would be the wrong answer to a new call:
 *              the call may be the next owner's. The call asks the system: -EBADF where the number
 *              is not open; else it sleeps until 3. To go on at once would be wrong, too: the call
 *              may be a late one on the descriptor that is being closed, and no event would ever
 *              wake it.
 *   3          The finisher, when close(2) has returned; or, before that, csp__fd_made, which has
 *              the number from the system and knows that it is its own. Both do it under the lock.
 *              csp__fd_made raises `gen`, which tells the finisher that 3 is behind it. Without
 *              this second way, one connection that lingers would keep the next one accepted from
 *              being served.
 *
 * The result of close(2) goes from the finisher to the closer, and is not kept in the record, which
 * may be another closer's by then.
 * model: a_number_is_its_next_owners_before_the_close_has_returned
 *
 * OVER. The waits on an open descriptor may be ended from outside: for good by csp_interrupt_fd, or
 * by the end of a context that csp_bind_fd has bound the descriptor to. `limit.over` is the reason
 * that a wait then returns. It is written under the record's lock, and each write of a reason
 * counts as a change:
 *
 *   the waiter                                 the interrupter, or the canceller of the context
 *   1 seen = seq                               1 locks
 *   2 tries the call, is told EAGAIN           2 over = the reason, seq++
 *   3 locks; seq != seen: tries again          3 takes all waiters out, tells them the reason,
 *     else over: returns it; else: waits         unlocks
 *
 * So a call that has not begun to wait tries once more, and reads what was there before the
 * interrupt. A waiter is told the reason itself: when it runs, another context may be bound
 * already, and `over` be 0 again.
 *
 *              csp_bind_fd(ctx)               ctx is done
 *   UNBOUND ----------------------> BOUND ------------------> ENDED  over: of ctx
 *      ^  ^                        |     |                      |
 *      |  +---csp_bind_fd(NULL)----+     +--csp_bind_fd(other)--+--> BOUND
 *      +----------csp_bind_fd(NULL)-----------------------------+
 *
 *   INTERRUPTED  goes beside each of them: over is -ECANCELED, whatever is bound
 *   CLOSING, and csp__fd_made: back to UNBOUND, not INTERRUPTED; the waits end with -ECANCELED
 *
 * A binding (FD's csp__binding) is in the record and in its context's list, with a reference of
 * each. It enters the record first and the list after that, both under the context's lock. Each way
 * out takes it from one of the two first, under the lock of that one, and so has that reference.
 * The closer and the next csp_bind_fd begin with the record, the canceller begins with the list.
 * After that each looks into the other of the two, and takes the binding out there as well, unless
 * another thread has. The last reference frees it. Locks: the record's may be taken under the
 * context's.
 * model: who_begins_to_wait_when_it_is_interrupted_reads_what_is_there_or_is_sent_off
 * model: a_binding_is_freed_once_by_whoever_lets_go_of_it_last
 * ======================================================================== */

#define CSP__FDS 256         /* records in a chunk */
#define CSP__FD_CHUNKS 16384 /* 4 million descriptors */
/* The marks in csp__fd.users; see CLOSING. */
#define CSP__FD_CLOSING 0x80000000u
#define CSP__FD_FINISHING 0x40000000u
#define CSP__FD_AWAITED 0x20000000u /* a call sleeps until FINISHING is over */

/* What ends the waits on a descriptor; see OVER. */
typedef struct csp__limit {
    int over;         // atomic, written under lock: the reason that a wait returns; 0: none
    bool interrupted; // guarded by lock: by csp_interrupt_fd
    struct csp__binding *bound; // guarded by lock: the binding in force; NULL: none
} csp__limit;

/* The record of a descriptor's number. csp__fd_of makes records, a chunk at a time, and only
 * csp__poll_end frees them: so a record is found without a lock. */
typedef struct csp__fd {
    uint32_t users; // atomic: calls under way, and the marks above; see CLOSING
    uint32_t lock;
    uint32_t seq[2];      // atomic, written under lock: reports, never 0; rel/acq <fd.seq>
    uint32_t dry[2];      // atomic: nothing was there at this seq; 0: not known
    uint32_t gen;         // atomic, written under lock: raised by a close, and for a new owner
    uint32_t blocked;     // atomic: users in a call that may block
    bool made;            // rel <fd.gen>: opened by csp, and closed by csp_close_fd only
    bool stream;          // the same: TCP, where a short read leaves nothing behind
    bool path;            // listens at a path of the file system, which a close removes
    bool more;            // atomic: MORE was reported: a short read may leave something behind
    uint32_t registered;  // atomic: the system's poller knows the descriptor
    csp__u64 ino, dev;    // atomic: of a descriptor that csp has not made, and of `path`
    csp__waiter *waiters; // guarded by lock: the newest first; index: the directions
    csp__g *closer;       // guarded by lock: waits for the finisher; NULL: no closer waits
    csp__limit limit;
} csp__fd;

static csp__fd *csp__fd_chunks[CSP__FD_CHUNKS]; // atomic: rel/acq <fd_chunks>
static struct {
    uint32_t lock;   // held while the poller is opened, or a chunk is made
    int top;         // atomic: chunks from here on are NULL
    uint32_t on;     // atomic: the system's poller is open
    uint32_t looked; // atomic: a thread has polled since the monitor's last look
    void (*signals)(csp__m *m, int what);                // of SIGNALS; set by the first csp_notify
    void (*unbind)(struct csp__binding *b, bool forked); // of FD; set by the first csp_bind_fd
    uint32_t busy __attribute__((aligned(64)));          // atomic: a thread polls without sleeping
    uint32_t waiters __attribute__((aligned(64)));       // atomic: waits that polling may end
    csp__u64 told;                                       // atomic: polls that found something
} csp__poll;

static csp__m csp__monitor_m = {.rng = 1}; // the monitor, where a function wants an M; has no P

/* The record of fd, made if it is the first of its chunk. NULL: not a number that can be open, or
 * out of memory. */
CSP__FN csp__fd *csp__fd_of(int fd)
{
    if (fd < 0 || fd >= CSP__FDS * CSP__FD_CHUNKS) return NULL;
    int at = fd / CSP__FDS;
    csp__fd *chunk = csp__acquire(&csp__fd_chunks[at]); // acq <fd_chunks>
    if (CSP__UNLIKELY(chunk == NULL)) {
        csp__lock(&csp__poll.lock, CSP__RANK_POLL);
        chunk = csp__fd_chunks[at];
        if (chunk == NULL) chunk = (csp__fd *)csp__zalloc(CSP__FDS * sizeof *chunk);
        if (chunk != NULL && csp__fd_chunks[at] == NULL) {
            for (int i = 0; i < CSP__FDS; i++) chunk[i].seq[0] = chunk[i].seq[1] = 1;
            csp__release(&csp__fd_chunks[at], chunk); // rel <fd_chunks>
            if (csp__poll.top <= at) csp__set(&csp__poll.top, at + 1);
        }
        csp__unlock(&csp__poll.lock);
        if (chunk == NULL) return NULL;
    }
    return &chunk[fd % CSP__FDS];
}

/* Counts a change of these directions, and takes their waiters out, the longest waiting first. Each
 * is told `error`; 0: try again. The goroutines in *woken are the caller's to make runnable: their
 * tickets are claimed, and they are in no queue that a thread runs from. */
CSP__FN void csp__fd_fire_locked(csp__fd *d, int dirs, int error, csp__queue *woken)
{
    csp__waiter **at = &d->waiters, *oldest = NULL, *w, *next;
    for (int i = 0; i < 2; i++) // rel <fd.seq>
        if (dirs & (1 << i)) csp__release(&d->seq[i], d->seq[i] + 1 == 0 ? 1 : d->seq[i] + 1);
    while ((w = *at) != NULL) {
        if (!(w->index & dirs)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = oldest;
        oldest = w;
    }
    for (w = oldest; w != NULL; w = next) {
        uint32_t none = 0;
        next = w->next;
        w->queued = CSP__QUEUED_OUT;
        if (w->ticket != NULL && !csp__cas(w->ticket, &none, 1)) continue;
        w->value = (void *)(intptr_t)error;
        w->g->result = w;
        csp__queue_push(woken, w->g);
    }
}

/* A change of what ends the waits on a descriptor; see OVER. In the frame of the thread that makes
 * it. */
typedef struct csp__change {
    bool interrupts, binds; // by csp_interrupt_fd; or `bound` comes into force, maybe NULL
    int over;               // of the context of `bound`, or the reason of a context that has ended
    struct csp__binding *bound; // the new one
    struct csp__binding *only;  // NULL, or: nothing changes unless this one is in force
    struct csp__binding *was;   // out: the binding that was in force; the caller drops it
} csp__change;

/* Applies c, under the lock that guards l. Returns the reason that the present waiters are to be
 * told; 0: they go on waiting. */
CSP__FN int csp__limit_change(csp__limit *l, csp__change *c)
{
    if (c->only != NULL && l->bound != c->only) return 0;
    if (c->interrupts) l->interrupted = true;
    if (c->binds) {
        c->was = l->bound;
        l->bound = c->bound;
        csp__set(&l->over, l->interrupted ? -ECANCELED : c->over);
        return c->over;
    }
    csp__set(&l->over, -ECANCELED);
    return -ECANCELED;
}

/* Makes the goroutines in *woken runnable: in m's P if it has one, else in the global queue. */
CSP__FN void csp__poll_inject(csp__m *m, csp__queue *woken)
{
    csp__p *p = m->p;
    uint32_t n = (uint32_t)woken->count;
    if (n == 0) return;
    if (p == NULL) csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    for (csp__g *g; (g = csp__queue_pop(woken)) != NULL;) {
        csp__hb_before(g);
        if (g->flags & CSP__G_FOREIGN) {
            csp__foreign_ready(g);
            continue;
        }
        if (csp__tracing()) csp__note_wake(g);
        csp__set(&g->state, CSP__G_RUNNABLE);
        if (p == NULL)
            csp__global_push_locked(g);
        else if (p->next == NULL)
            csp__set(&p->next, g);
        else
            csp__ring_push(p, g);
    }
    if (p == NULL) csp__unlock(&csp__sched.lock);
    /* Only now: until they were queued, this count alone kept the deadlock check quiet. */
    csp__add(&csp__poll.waiters, 0u - n);
    if (p == NULL)
        csp__wake();
    else if (n > 1)
        csp__wake_ring(p);
}

/* Polls once, sleeping ns at most, and moves the waiters of what is reported to *woken. True when
 * there may be goroutines to run: those in *woken, or goroutines that a signal has made runnable.
 */
CSP__FN bool csp__poll_collect(csp__m *m, int64_t ns, csp__queue *woken)
{
    csp__evq_event events[CSP__EVQ_LOT];
    csp__hb_after(&csp__evq);
    int n = csp__evq_wait(events, ns);
    if (n > 0) csp__add(&csp__poll.told, 1u);
    bool signals = false;
    csp__set(&csp__poll.looked, 1);
    for (int i = 0; i < n; i++) {
        csp__evq_event *e = &events[i];
        if (e->fd < 0) {
            signals = csp__poll.signals != NULL;
            if (signals) csp__poll.signals(m, 0);
            /* The wake-up was meant for a thread that sleeps in the poller: pass it on. */
            if (ns == 0 && csp__acquire(&csp__sched.nposted) != 0) csp__evq_wake();
            continue;
        }
        csp__fd *d = csp__fd_of(e->fd);
        if (d == NULL) continue;
        csp__lock(&d->lock, CSP__RANK_FD);
        if (d->gen == e->gen) { // else the report is of an earlier descriptor of this number
            if (e->dirs & CSP__EVQ_MORE) csp__set(&d->more, true);
            csp__fd_fire_locked(d, e->dirs, 0, woken);
        }
        csp__unlock(&d->lock);
    }
    return signals || woken->count != 0;
}

/* Polls without sleeping, unless another thread polls. True when it has made something runnable. */
CSP__FN bool csp__poll_now(csp__m *m)
{
    csp__queue woken = {NULL, NULL, 0};
    if (csp__relaxed(&csp__poll.waiters) == 0 || csp__relaxed(&csp__sched.npolling) != 0 ||
        csp__relaxed(&csp__poll.busy) != 0 || csp__swap(&csp__poll.busy, 1) != 0)
        return false;
    bool found = csp__poll_collect(m, 0, &woken);
    csp__release(&csp__poll.busy, 0);
    if (found) csp__poll_inject(m, &woken);
    return found;
}

/* For the monitor, at each of its looks. Where no thread has polled since the last one, it wakes a
 * thread for an idle P, or polls itself. */
CSP__FN void csp__poll_watch(void)
{
    if (csp__relaxed(&csp__poll.waiters) == 0 || csp__relaxed(&csp__sched.npolling) != 0) return;
    if (csp__relaxed(&csp__poll.looked) == 0) {
        if (csp__relaxed(&csp__sched.nidle_p) != 0)
            csp__wake();
        else
            csp__poll_now(&csp__monitor_m);
    }
    csp__set(&csp__poll.looked, 0);
}

/* A thread without a P has begun to wait. It cannot poll itself, so if all other threads sleep, one
 * of them has to sleep in the poller.
 *
 *   this thread                                the thread that goes to sleep
 *   1 poll.waiters++                           1 shows in nidle_p and nspinning that it sleeps
 *   2 fence                                    2 fence, in csp__sleep_locked
 *   3 npolling == 0: csp__wake, which          3 poll.waiters != 0: sleeps in the poller
 *     reads nidle_p and nspinning
 *
 * Without the fences both could read the old values, and no thread would poll.
 * model: a_thread_that_waits_for_a_descriptor_while_the_poller_goes_to_sleep_is_seen */
CSP__FN void csp__poll_need(void)
{
    csp__fence();
    if (csp__relaxed(&csp__sched.npolling) == 0) csp__wake();
}

/* Opens the system's poller, on the first use. 0 or a negative errno. */
CSP__FN int csp__poll_begin(void)
{
    int e = 0;
    if (CSP__UNLIKELY(!csp__acquire(&csp__poll.on))) {
        csp__lock(&csp__poll.lock, CSP__RANK_POLL);
        if (csp__poll.on == 0 && (e = csp__evq_open()) == 0) {
            csp__hb_before(&csp__evq);
            csp__release(&csp__poll.on, 1);
        }
        if (e != 0) csp__evq_close(false);
        csp__unlock(&csp__poll.lock);
    }
    csp__hb_after(&csp__evq);
    return e;
}

/* Frees the records and closes the poller: the runtime has stopped, or this is the child of a fork.
 */
CSP__FN void csp__poll_end(bool forked)
{
    if (csp__poll.signals != NULL) csp__poll.signals(NULL, forked ? 2 : 1);
    if (csp__poll.on) csp__evq_close(forked);
    for (int i = 0; i < csp__poll.top; i++) {
        csp__fd *chunk = csp__fd_chunks[i]; /* NULL where no number of it has been used */
        for (int k = 0; chunk != NULL && csp__poll.unbind != NULL && k < CSP__FDS; k++)
            if (chunk[k].limit.bound != NULL) csp__poll.unbind(chunk[k].limit.bound, forked);
        csp__free(chunk);
        csp__fd_chunks[i] = NULL;
    }
    memset(&csp__poll, 0, sizeof csp__poll);
}

/* How a call tries without blocking; see FD. */
enum {
    CSP__TRY_SOCKET,
    CSP__TRY_ACCEPT,
    CSP__TRY_NONBLOCK, // O_NONBLOCK is set already: read and write
    CSP__TRY_NOWAIT,   // csp__os_read_now, where the system knows it; else ASK
    CSP__TRY_ASK,      // csp__os_ready, and then in csp_blocking
    CSP__TRY_SENDFILE, // in csp_blocking: the file may have to be read from a disk
    CSP__TRY_FILE      // always ready: in csp_blocking
};

/* A call on a descriptor, in the caller's frame. */
typedef struct csp__op {
    csp__fd *d;
    int fd, how, modes; // modes: CSP__OS_READS and so on, for CSP__TRY_ASK
    bool made, regular;
    uint32_t gen;             // of the record when the call entered
    struct sockaddr *address; // of a datagram, or NULL
    socklen_t length;
    int nparts;                // of csp_writev
    const struct iovec *parts; // or NULL
    size_t size;               // of all parts
    int64_t *offset;           // of csp_send_file, in file; or NULL
    int file;
} csp__op;

/* The record describes another descriptor: not registered, not interrupted. */
CSP__FN void csp__fd_reset_locked(csp__fd *d, bool made, bool stream, uint64_t dev, uint64_t ino)
{
    d->made = made;
    d->stream = stream;
    d->path = d->more = false;
    d->registered = d->dry[0] = d->dry[1] = 0;
    d->limit.interrupted = false;
    csp__set(&d->limit.over, 0);
    csp__set(&d->dev, dev);
    csp__set(&d->ino, ino);
}

/* Arrow 3 of CLOSING: the number's next owner may use the record, and the calls that sleep in
 * csp__fd_settle go on. */
CSP__FN void csp__fd_finished_locked(csp__fd *d)
{
    if (csp__swap(&d->users, 0) & CSP__FD_AWAITED) csp__os_wake(&d->users, 0x7fffffff);
}

/* Arrow 2 of CLOSING: the last user closes the descriptor. Returns what close said, and hands it to
 * the closer, unless the closer is `self`. */
CSP__FN int csp__fd_finish(csp__fd *d, int fd, const csp__g *self)
{
    csp__add(&d->users, CSP__FD_FINISHING);
    csp__hb_after(d);
    csp__lock(&d->lock, CSP__RANK_FD);
    bool registered = d->registered != 0;
    uint32_t gen = d->gen;
    csp__g *closer = d->closer;
    d->closer = NULL;
    csp__fd_reset_locked(d, false, false, 0, 0);
    csp__unlock(&d->lock);
    if (registered) csp__evq_del(fd);
    int result = csp__os_close(fd);
    csp__lock(&d->lock, CSP__RANK_FD);
    if (d->gen == gen) csp__fd_finished_locked(d);
    csp__unlock(&d->lock);
    if (closer == NULL || closer == self) return result;
    closer->result = (void *)(intptr_t)(result - 1); // csp_x_close_fd adds the 1
    csp__m *m = csp__enter();
    csp__ready(m, closer);
    csp__leave(m);
    return result;
}

/* Ends a call. The last one on a descriptor that is being closed closes it. */
CSP__FN void csp__fd_leave(csp__op *o)
{
    csp__hb_before(o->d);
    if (csp__add(&o->d->users, 0u - 1) == CSP__FD_CLOSING) csp__fd_finish(o->d, o->fd, NULL);
}

/* The number has become another descriptor's. Calls that still wait for the one that the record
 * described in its generation *gen (NULL: whatever the generation is) get -ECANCELED, and the
 * record describes the new one. False: the generation is another one by now, and nothing was done.
 */
CSP__FN bool csp__fd_anew(csp__fd *d, uint32_t *gen, bool made, bool stream, uint64_t dev,
                          uint64_t ino)
{
    csp__queue woken = {NULL, NULL, 0};
    struct csp__binding *bound = NULL;
    csp__m *m = csp__enter();
    csp__lock(&d->lock, CSP__RANK_FD);
    bool same = gen == NULL || *gen == d->gen;
    if (same) {
        if (csp__acquire(&d->users) & CSP__FD_FINISHING) csp__fd_finished_locked(d);
        csp__fd_fire_locked(d, CSP__EVQ_IN | CSP__EVQ_OUT, -ECANCELED, &woken);
        bound = d->limit.bound;
        d->limit.bound = NULL;
        csp__fd_reset_locked(d, made, stream, dev, ino);
        csp__release(&d->gen, d->gen + 1); // rel <fd.gen>: of what the record says
        if (gen != NULL) *gen = d->gen;
    }
    csp__unlock(&d->lock);
    csp__poll_inject(m, &woken);
    if (bound != NULL) csp__poll.unbind(bound, false);
    csp__leave(m);
    return same;
}

/* Asks the system about a descriptor that csp has not made, and chooses how to try. Another inode
 * than last time means that the number was closed with close(2) and is another descriptor's now. */
CSP__FN int csp__fd_look(csp__op *o)
{
    csp__os_file is;
    csp__fd *d = o->d;
    for (;;) {
        int e = csp__os_look(o->fd, &is);
        if (e < 0) return e;
        bool known = csp__relaxed(&d->ino) == is.ino && csp__relaxed(&d->dev) == is.dev;
        if (known || csp__fd_anew(d, &o->gen, false, false, is.dev, is.ino)) break;
        o->gen = csp__acquire(&d->gen); // acq <fd.gen>
        o->made = d->made;
        if (o->made) return 0; /* the number has just been given to csp__fd_made */
    }
    o->made = false;
    o->regular = is.kind == CSP__OS_REGULAR;
    o->modes = o->regular || is.kind == CSP__OS_SOCKET ? 0 : csp__os_modes(o->fd);
    o->how = is.kind == CSP__OS_SOCKET       ? CSP__TRY_SOCKET
             : o->regular                    ? CSP__TRY_FILE
             : (o->modes & CSP__OS_NONBLOCK) ? CSP__TRY_NONBLOCK
                                             : CSP__TRY_NOWAIT;
    return 0;
}

/* Gives a record to fd, a descriptor that csp has just opened. Returns fd; or a negative errno, and
 * then fd is closed. */
CSP__FN int csp__fd_made(int fd, bool stream)
{
    csp__fd *d = csp__fd_of(fd);
    if (d == NULL) {
        csp__os_close(fd);
        return fd < CSP__FDS * CSP__FD_CHUNKS ? -ENOMEM : -EMFILE;
    }
    csp__fd_anew(d, NULL, true, stream, 0, 0);
    return fd;
}

/* Takes w out of the list, unless a waker has done so. */
CSP__FN void csp__fd_unwait_locked(csp__fd *d, csp__waiter *w)
{
    csp__waiter **at = &d->waiters;
    if (w->queued == CSP__QUEUED_OUT) return;
    while (*at != w) at = &(*at)->next;
    *at = w->next;
}

/* Registers the descriptor with the system's poller. It does so under the lock, and only where the
 * call's generation is still the record's. A call of an earlier generation would register the
 * present descriptor with the earlier one, and its reports would be dropped. */
CSP__FN int csp__fd_register(csp__op *o)
{
    csp__fd *d = o->d;
    csp__m *m = csp__enter();
    csp__lock(&d->lock, CSP__RANK_FD);
    int e = d->gen == o->gen ? csp__evq_add(o->fd, o->gen) : -ECANCELED;
    if (e == 0) csp__release(&d->registered, 1);
    csp__unlock(&d->lock);
    csp__leave(m);
    return e;
}

/* ==========================================================================
 * [20] SCHED - who runs next, and what to do when nobody can
 *
 * A thread with a P runs csp__schedule: it finds a goroutine (its own queues, the global ones,
 * timers, descriptors, the rings of other Ps), runs it, and comes back when that goroutine cannot
 * switch to the next one by itself. A thread that finds nothing gives its P up and sleeps. What it
 * sleeps for (the first timer, the poller, or a wake-up alone) is decided under sched.lock. PARK
 * DANCE (in WAKE) is the argument that no wake-up is lost between the last search and the sleep.
 *
 *   uses   PLATFORM BASE SYSTEM EVENTS HEAP LOCKS CORE TAPES LIFE RUNQ WAKE PARK GO TIMERS POLLER
 *   locks  sched.lock
 * ======================================================================== */

/* Would p have work if its owner let go of it? Timers count while no thread sleeps for them, and
 * descriptors while no thread is in the poller. */
CSP__FN bool csp__p_wanted(csp__p *p)
{
    return csp__relaxed(&p->next) != NULL || csp__ring_count(p) != 0 ||
           csp__relaxed(&csp__sched.nglobal) != 0 ||
           (csp__relaxed(&p->first) != CSP_FOREVER && csp__relaxed(&csp__sched.sleeper) == NULL) ||
           (csp__relaxed(&csp__poll.waiters) != 0 && csp__relaxed(&csp__sched.npolling) == 0);
}

/* p has lost its thread: another one is started for it if there is work, else p is idle. */
CSP__FN void csp__hand_off_locked(csp__p *p)
{
    if (csp__sched.stopping || p->id >= csp__sched.nprocs ||
        (!csp__p_wanted(p) && csp__relaxed(&p->forks) == NULL))
        csp__idle_push_locked(p);
    else
        csp__m_start_locked(p, false);
}

/* p becomes m's. What was measured of p's turns is forgotten: p may have been idle since. */
CSP__FN void csp__p_adopt(csp__m *m, csp__p *p)
{
    if (p == NULL) return;
    m->p = p;
    m->rw_slot = (uint32_t)p->id % CSP_X_RW_SLOTS;
    p->measured_at = p->from = p->cut_at = 0;
    csp__set(&p->m, m);
}

/* WORTH STEALING. Goroutines that run for a microsecond at a time and pass each other values are
 * slower on two processors than on one: the memory that they share has to travel between caches.
 * So a thief takes from a short ring only what the owner is slow to reach: the goroutine that has
 * been first in the ring for 20 us. A long ring (CSP__WORTH) is halved at once.
 *
 * NAPS. Where every ring is short and turns quickly, the thief sleeps and stays counted in
 * nspinning. The count keeps wakers from waking a thread for each goroutine that becomes ready.
 * The thief looks again after 20 us, then after twice as long each time, at last every
 * millisecond. One thread at a time naps (sched.napper).
 *
 *     thief                                      waker, owner of a short ring
 *     finds only rings that are not worth it     puts a goroutine into its ring
 *     naps, counted in nspinning                 sees nspinning != 0: wakes no thread
 *     after the nap: the first is the same,      either runs the goroutine within 20 us,
 *       for 20 us or more: steals it               or loses it to the thief
 *
 * EAGER. An owner that computes between its calls would keep goroutines waiting in `next`, which no
 * thief can take from. So a thief that finds the owner 1 us or more after the owner's last call,
 * while goroutines wait, marks the owner's P eager. An eager P uses no `next`, and its ring is
 * always worth a theft. The owner drops the mark when its calls come close together again. The
 * bound is 1 us because a look falls into the middle of the work: with a bound of 2 us, work that
 * takes 2 us was never seen.
 *
 *     not eager  --thief: same epoch for 1 us, goroutines wait-->  eager
 *     eager      --owner: calls are close together-->              not eager */
CSP__FN bool csp__worth_stealing(csp__p *victim)
{
    csp__m *m = csp__acquire(&victim->m);
    uint32_t head = csp__relaxed(&victim->head), n = csp__ring_count(victim);
    if (n >= (CSP_TORTURE ? 1 : CSP__WORTH)) return true;
    if (m == NULL || (n == 0 && csp__relaxed(&victim->next) == NULL)) return n != 0;
    int64_t now = csp__clock();
    uint64_t epoch = csp__relaxed(&m->epoch);
    if (epoch != csp__relaxed(&victim->watch_epoch)) {
        csp__set(&victim->watch_epoch, epoch);
        csp__set(&victim->watch_epoch_at, now);
    } else if ((epoch & 1) == 0 && now - csp__relaxed(&victim->watch_epoch_at) >= CSP_MICROSECOND) {
        __atomic_fetch_or(&victim->eager, 1, __ATOMIC_RELAXED);
    }
    if (n == 0) return false;
    if (csp__relaxed(&victim->eager) & 1) return true;
    if (head == csp__relaxed(&victim->watch_head))
        return now - csp__relaxed(&victim->watch_head_at) >= 20 * CSP_MICROSECOND;
    csp__set(&victim->watch_head, head);
    csp__set(&victim->watch_head_at, now);
    return false;
}

/* How many other Ps a look takes in that comes again and again: as many on any machine. */
#define CSP__LOOKS 8

/* Steals from other Ps, `most` of them, beginning with a random one. Fires their timers on the way:
 * the owner of a P may compute, and an idle P has no owner. */
CSP__FN csp__g *csp__steal(csp__m *m, csp__p *p, int most)
{
    int n = csp__nmade(), at = (int)csp__random_below(&m->rng, (uint32_t)n);
    for (int i = 0; i < n && i < most; i++) {
        csp__p *victim = csp__sched.procs[(at + i) % n];
        csp__count(LOOK);
        csp__g *offer = csp__offer_steal(m, victim);
        if (offer != NULL) return offer;
        if (victim == p) continue;
        if (csp__worth_stealing(victim)) {
            csp__g *g = csp__ring_steal(p, victim);
            if (g != NULL && csp__tracing())
                csp__note(m, CSP__EV_STEAL, csp__clock(), 0, NULL, (uint32_t)victim->id, p->id);
            if (g != NULL) return g;
        }
        if (csp__relaxed(&victim->first) != CSP_FOREVER) {
            csp__timers_run(victim);
            csp__g *g = csp__p_pop(p);
            if (g != NULL) return g;
        }
    }
    return NULL;
}

/* Fires timers of other Ps that are late by a millisecond: those of an owner that computes, and of
 * a P that csp_procs has retired. Without it they would wait until a thread is idle. Each look
 * takes in the next CSP__LOOKS of the Ps: a look at all of them would make a turn on 64 Ps 15 ns
 * longer than on one. */
CSP__FN void csp__timers_of_others(csp__p *p)
{
    int64_t now = csp__now_cached() - CSP_MILLISECOND;
    uint32_t n = (uint32_t)csp__nmade();
    for (uint32_t i = 0; i < n && i < CSP__LOOKS; i++) {
        csp__p *other = csp__sched.procs[p->looked++ % n];
        csp__count(LOOK);
        if (other != p && csp__relaxed(&other->first) <= now) csp__timers_run(other);
    }
}

/* The next goroutine for m's P, or NULL after a search that found none. Once in 64 turns the
 * poller, the global queue and the timers of others come first: otherwise two goroutines that wake
 * each other would keep them waiting for ever. */
CSP__FN csp__g *csp__find_work(csp__m *m)
{
    csp__p *p = m->p;
    csp__g *g = NULL;
    if ((p->tick & 63) == 0) {
        csp__poll_now(m);
        g = csp__global_take(p, true);
        csp__timers_of_others(p);
    } else if (csp__aged_turn(p->tick) && csp__relaxed(&csp__sched.nfresh) != 0) {
        g = csp__global_take(p, true);
    }
    if (g != NULL) {
        csp__bump(&p->tick); /* not the same turn again, should g be handed on */
        return g;
    }
    csp__timers_run(p);
    if ((g = csp__p_pop(p)) != NULL) return g;
    if ((g = csp__global_take(p, false)) != NULL) return g;
    if (csp__poll_now(m) && (g = csp__p_pop(p)) != NULL) return g;
    uint32_t busy = (uint32_t)csp__sched.nprocs - csp__relaxed(&csp__sched.nidle_p);
    if (busy <= 1 || /* no other P runs that could make work */
        (!m->spinning && 2 * csp__relaxed(&csp__sched.nspinning) >= busy))
        return csp__steal(m, p, INT32_MAX);
    if (!m->spinning) {
        m->spinning = true;
        csp__add(&csp__sched.nspinning, 1);
    }
    for (int round = 0; round < 30; round++) {
        /* The first look and the last one are at all of them. */
        int most = round % 29 == 0 ? INT32_MAX : CSP__LOOKS;
        if ((g = csp__steal(m, p, most)) != NULL) return g;
        if ((g = csp__global_take(p, false)) != NULL) return g;
        if (round == 15 && csp__poll_now(m) && (g = csp__p_pop(p)) != NULL) return g;
        if (csp__relaxed(&csp__sched.stopping)) return NULL;
        for (int i = 0; i < 8; i++) csp__pause();
    }
    return NULL;
}

CSP__FN int64_t csp__first_timer(void)
{
    int64_t first = CSP_FOREVER;
    csp__count_n(LOOK, csp__nmade());
    for (int i = 0; i < csp__nmade(); i++) {
        int64_t t = csp__relaxed(&csp__sched.procs[i]->first);
        if (t < first) first = t;
    }
    return first;
}

/* All goroutines are asleep. Could a timer or a thread of the program wake one? A timer that only
 * fills a channel counts when a receiver waits on that channel. The heaps are read without their
 * locks: no foreign thread uses csp (else the answer is yes already), so nothing changes them now,
 * and no select that has lost is still queued. More than 256 timers are looked at in one of 64
 * calls, because each look reads them all. */
CSP__FN bool csp__others_wake_locked(void)
{
    uint32_t n = 0;
    bool sim = csp__sched.sim != NULL;
    if (!sim && csp__sched.foreign_m != NULL && csp__sched.foreign_m->all != NULL) return true;
    for (int i = 0; i < csp__nmade(); n += csp__sched.procs[i++]->heap.count)
        if (csp__sched.procs[i]->heap.count != csp__sched.procs[i]->heap.feeds_chan ||
            csp__sched.procs[i]->spilt != NULL)
            return true;
    if (n > 256 && !sim && csp__first_timer() < csp__clock() + 100 * CSP_MILLISECOND &&
        (csp__sched.looks = (csp__sched.looks + 1) % 64) != 0)
        return true;
    for (int i = 0; i < csp__nmade(); i++)
        for (uint32_t k = 0; k < csp__sched.procs[i]->heap.count; k++) {
            csp__timer *t = csp__item_timer(csp__sched.procs[i]->heap.items[k].who);
            if (((csp__chan_timer *)t)->c->receivers.head != NULL) return true;
        }
    return false;
}

/* Is there work in a queue that another thread may take from? 2: yes. 1: in short rings only, whose
 * owners may run it soon. 0: no. */
CSP__FN int csp__work_queued(void)
{
    int found = 0;
    if (csp__relaxed(&csp__sched.nglobal) != 0) return 2;
    csp__count_n(LOOK, csp__nmade());
    for (int i = 0; i < csp__nmade(); i++) {
        uint32_t n = csp__ring_count(csp__sched.procs[i]);
        if (n >= (CSP_TORTURE ? 1 : CSP__WORTH)) return 2;
        if (n != 0) found = 1;
    }
    return found;
}

/* The same, goroutines that may offer some of theirs included. */
CSP__FN int csp__work_somewhere(void)
{
    int found = csp__work_queued();
    return found == 0 && csp__relaxed(&csp__sched.nforkers) != 0 ? 1 : found;
}

/* m has found work and searches no more. There may be more work for which no thread was woken,
 * because its submitter saw m searching: so the last searcher looks once more, and wakes another
 * thread. See PARK DANCE. */
CSP__FN void csp__spin_end(csp__m *m)
{
    if (!m->spinning) return;
    m->spinning = false;
    if (csp__add(&csp__sched.nspinning, (uint32_t)-1) != 0) return;
    /* AArch64 without LSE adds by a load and a store, which later loads may overtake. Without the
     * fence this thread may read an old nidle_p while a submitter still reads the old count of
     * searchers: then neither wakes the P that goes idle in between. */
    csp__fence();
    if ((csp__relaxed(&csp__sched.nidle_p) | csp__relaxed(&csp__sched.blocking)) == 0) return;
    if (csp__work_somewhere() == 0) csp__fence_search();
    if (csp__work_somewhere() != 0) csp__wake();
}

/* How long a thread without work stays before it ends. Under ThreadSanitizer it never ends: a
 * thread that has ended and is not joined when the program ends would be reported as a leak. */
#define CSP__THREAD_IDLE                                                                           \
    (CSP_TORTURE ? 50 * CSP_MILLISECOND : CSP_X_TSAN ? 10000 * CSP_HOUR : 5 * CSP_SECOND)

/* THE WATCH. While a P is idle, one thread sleeps until the first timer (sched.sleeper), and at
 * least one sleeps in the poller. A thread on watch that wakes and finds work leaves the watch. As
 * a rule other threads remain in the poller, but the sleeper's place is then empty. Filling it
 * wakes a thread and sets a timer of the system: 10 us of CPU, as much as a short burst of work,
 * after which the sleeper is back. So the watch is handed over at once only where one of the last
 * 16 bursts took CSP__BURST or more (sched.haste). Otherwise the monitor hands it over at its next
 * look; timers that are due after that look lose nothing. */
#define CSP__BURST (100 * CSP_MICROSECOND)
#define CSP__WATCH_SOON (10 * CSP_MILLISECOND)

/* Is there an idle P while no thread sleeps for a timer that is due before `soon`, or no thread
 * sleeps in the poller though descriptors are waited for? */
CSP__FN bool csp__unwatched_locked(int64_t soon)
{
    if (csp__sched.idle_p == NULL || csp__sched.stopping) return false;
    return (csp__sched.sleeper == NULL && csp__first_timer() < soon) ||
           (csp__sched.npolling == 0 && csp__relaxed(&csp__poll.waiters) != 0);
}

/* Puts another thread on watch: a sleeping thread wakes, and decides anew what it sleeps for. If no
 * thread sleeps, a new one is started. */
CSP__FN void csp__watch_hand_over_locked(void)
{
    csp__m *m = csp__sched.idle_m;
    int limit = csp__sched.config.max_threads;
    while (m != NULL && csp__relaxed(&m->word) != 0) m = m->link;
    if (m != NULL) {
        csp__m_post_locked(m);
    } else if (csp__sched.idle_m == NULL && csp__sched.nthreads < limit &&
               csp__sched.starting == NULL) {
        csp__m_start_locked(csp__p_get_locked(), false); /* finds nothing to run, and sleeps */
    }
}

/* m leaves the poller. A wake-up through the event queue may reach another thread than the one that
 * was posted: if m was not posted, it takes over the work of one that was and still sleeps.
 * model: what_one_that_polls_is_woken_for_is_taken_by_whom_the_system_wakes */
CSP__FN void csp__poller_awake_locked(csp__m *m)
{
    m->polls = false;
    csp__set(&csp__sched.npolling, csp__sched.npolling - 1);
    if (csp__sched.nposted == 0) return;
    if (csp__relaxed(&m->word) == 0) {
        csp__m *other = csp__sched.all_m;
        while (!other->polls || csp__relaxed(&other->word) == 0) other = other->all;
        if (!other->idle) { /* it has been given work, and maybe a P: m takes both */
            csp__idle_remove_locked(m);
            if (m->spinning && other->spinning) csp__add(&csp__sched.nspinning, (uint32_t)-1);
            m->spinning |= other->spinning;
            other->spinning = false;
            m->wake_p = other->wake_p;
            other->wake_p = NULL;
            if (m->wake_p != NULL) csp__set(&m->wake_p->m, m);
            other->idle = true;
            other->link = csp__sched.idle_m;
            csp__sched.idle_m = other;
            csp__sched.nidle_m++;
        } else if (other->nap > m->nap) {
            m->nap = other->nap; /* see csp__foreign_ends */
        }
        csp__set(&other->word, 0);
    }
    csp__set(&csp__sched.nposted, csp__sched.nposted - 1);
    if (csp__sched.nposted != 0) csp__evq_wake(); /* one event may stand for two */
}

/* The thread has no P and nothing to do. It sleeps until it is given a P, until a timer is due, or
 * until descriptors are ready; the goroutines that waited for those are put into *woken, and are in
 * no queue yet.
 * model: a_timer_that_is_set_while_a_thread_goes_to_sleep_is_seen */
CSP__FN void csp__sleep_locked(csp__m *m, bool nap, csp__queue *woken)
{
    m->link = csp__sched.idle_m;
    csp__sched.idle_m = m;
    csp__sched.nidle_m++;
    m->idle = true;
    csp__set(&m->word, 0);
    int64_t until = CSP_FOREVER, up = CSP_FOREVER;
    if (nap && csp__sched.napper == NULL && csp__sched.idle_p != NULL) {
        csp__sched.napper = m;
        csp__set(&csp__sched.napping, 1);
        csp__add(&csp__sched.nspinning, 1);
        m->nap = m->nap == 0 ? 20 * CSP_MICROSECOND
                             : (m->nap < CSP_MILLISECOND / 2 ? 2 * m->nap : CSP_MILLISECOND);
        up = csp__clock() + m->nap;
    }
    bool sleeps = csp__sched.idle_p != NULL && csp__sched.sleeper == NULL;
    if (sleeps) csp__set(&csp__sched.sleeper, m); /* sleep_until is CSP_FOREVER until then */
    /* Two pairs meet at this fence; its partners are in csp__item_set and csp__poll_need:
     *   - this thread stores sleeper, then reads the timers; a thread that sets a timer stores it,
     *     then reads sleeper: at least one of them sees the other's store;
     *   - this thread stores npolling and nspinning, then reads poll.waiters; a thread that starts
     *     to wait for a descriptor stores waiters, then reads npolling, nidle_p and nspinning.
     * Neither the lock nor csp__add keeps the loads below behind these stores. */
    csp__fence();
    if (csp__sched.idle_p == NULL) {
        /* All Ps run: their owners look after the timers, the monitor after the owners. */
    } else if (sleeps) {
        until = csp__first_timer();
        csp__set(&csp__sched.sleep_until, until);
    } else if (csp__first_timer() < csp__sched.sleep_until) {
        csp__sleeper_poke_locked();
    }
    if (up == CSP_FOREVER && csp__deadlock_check_locked()) /* a thread may end unannounced */
        up = csp__clock() + (m->nap = csp__deadlock_look_later(m->nap));
    /* Without an idle P the thread does not poll. It would wake for each event and could only pass
     * it to the running threads. While no thread sleeps in the poller they look there themselves,
     * and find many events at a time (echo over 64 connections: 143 against 109 thousand requests
     * a second). */
    bool polls = csp__sched.idle_p != NULL && csp__sched.npolling < CSP__PORT_SLEEPERS &&
                 csp__relaxed(&csp__poll.waiters) != 0;
    bool spare = !polls && up == CSP_FOREVER && csp__sched.sleeper != m;
    m->polls = polls;
    if (polls) csp__set(&csp__sched.npolling, csp__sched.npolling + 1);
    csp__unlock(&csp__sched.lock);
    int64_t from = csp__tracing() ? csp__clock() : 0;
    if (up < until) until = up;
    if (spare) until = csp__clock() + CSP__THREAD_IDLE;
    while (csp__acquire(&m->word) == 0) {
        int64_t ns = until == CSP_FOREVER ? CSP_FOREVER : until - csp__clock();
        if (ns <= 0) break;
        if (polls) csp__count(FUTEX);
        if (!polls)
            csp__os_wait(&m->word, 0, ns);
        else if (csp__poll_collect(m, ns, woken) || csp__acquire(&csp__sched.nposted) != 0)
            break;
    }
    int64_t awake = csp__now_refresh();
    if (from != 0 && csp__tracing())
        csp__note(m, CSP__EV_SLEPT, awake, (uint64_t)from, NULL, 0, -1);
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    if (polls) csp__poller_awake_locked(m);
    m->awake_at = awake;
    if (!m->idle) return;
    csp__idle_remove_locked(m); /* a descriptor is ready, a timer is due, or m was poked */
    m->leaving = spare && csp__relaxed(&m->word) == 0;
}

/* m had no work for CSP__THREAD_IDLE, and ends. Its record waits in left_m for being joined. */
CSP__FN void csp__m_leave_locked(csp__m *m)
{
    csp__m **at = &csp__sched.all_m;
    while (*at != m) at = &(*at)->all;
    *at = m->all;
    csp__sched.nthreads--;
    m->link = csp__sched.left_m;
    csp__sched.left_m = m;
}

/* m goes idle: the middle step of PARK DANCE. Takes m out of the count of searchers, then waits
 * until the stores of every submitter that still saw m searching can be seen, then looks for work:
 * returns what csp__work_somewhere says. The lock is let go meanwhile; m is in no list. */
CSP__FN int csp__search_end_locked(csp__m *m)
{
    if (m->spinning) {
        m->spinning = false;
        csp__add(&csp__sched.nspinning, (uint32_t)-1);
    }
    csp__unlock(&csp__sched.lock);
    bool hidden = csp__barrier_open() && csp__forks_hide();
    if (hidden) csp__fence_heavy();
    csp__fence_search();
    int work = csp__work_somewhere();
    if (hidden && csp__forks_look() && work == 0) work = 1;
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    return work;
}

/* Nothing to run on this P: gives it up and sleeps. Returns with a P, or with none when the
 * runtime stops.
 * model: a_thread_that_goes_to_sleep_is_woken_for_what_it_did_not_see */
CSP__FN void csp__go_idle(csp__m *m)
{
    int work = 0;
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    if (m->p != NULL) {
        if (m->p->id < csp__sched.nprocs && csp__sched.nglobal != 0 && !csp__sched.stopping) {
            csp__unlock(&csp__sched.lock);
            return;
        }
        csp__idle_push_locked(m->p);
        m->p = NULL;
        if (csp__clock() - m->awake_at >= CSP__BURST)
            csp__sched.haste = 16;
        else if (csp__sched.haste > 0)
            csp__sched.haste--;
        work = csp__search_end_locked(m);
        if (work == 2 && !csp__sched.stopping) csp__p_adopt(m, csp__p_get_locked());
    }
    if (work != 1) m->nap = 0;
    while (m->p == NULL && !csp__sched.stopping && !m->leaving) {
        csp__queue woken = {NULL, NULL, 0};
        csp__sleep_locked(m, work == 1, &woken);
        csp__p_adopt(m, m->wake_p);
        m->wake_p = NULL;
        work = csp__work_somewhere();
        if (m->p == NULL && (work || woken.count != 0 || csp__first_timer() <= m->awake_at))
            csp__p_adopt(m, csp__p_get_locked());
        if (m->p == NULL && m->spinning && (work = csp__search_end_locked(m)) != 0)
            csp__p_adopt(m, csp__p_get_locked());
        if (m->p != NULL) m->leaving = false;
        if (woken.count != 0) {
            csp__unlock(&csp__sched.lock);
            csp__poll_inject(m, &woken);
            csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
        }
    }
    if (m->leaving && !csp__sched.stopping) csp__m_leave_locked(m);
    if (m->p != NULL && csp__sched.haste > 0 &&
        csp__unwatched_locked(m->awake_at + CSP__WATCH_SOON))
        csp__watch_hand_over_locked();
    csp__unlock(&csp__sched.lock);
}

/* The goroutine bound to this thread waits. No other goroutine runs on this thread: it sleeps until
 * its own is handed back to it. */
CSP__FN csp__g *csp__bound_wait(csp__m *m)
{
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    if (m->p != NULL) {
        csp__p *p = m->p;
        m->p = NULL;
        csp__hand_off_locked(p);
    }
    csp__sched.nidle_m++;
    while (m->handed == NULL && !csp__sched.stopping) {
        m->nap = csp__deadlock_check_locked() ? csp__deadlock_look_later(m->nap) : 0;
        csp__set(&m->word, 0);
        csp__unlock(&csp__sched.lock);
        csp__os_wait(&m->word, 0, m->nap == 0 ? CSP_FOREVER : m->nap);
        csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    }
    csp__sched.nidle_m--;
    csp__g *g = m->handed;
    m->handed = NULL;
    csp__p_adopt(m, m->wake_p);
    m->wake_p = NULL;
    csp__unlock(&csp__sched.lock);
    return g;
}

/* g is bound to another thread: m's P goes there together with g. */
CSP__FN void csp__hand_to_bound(csp__m *m, csp__g *g)
{
    csp__spin_end(m);
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__m *to = g->cb->bound;
    to->handed = g;
    to->wake_p = m->p;
    csp__set(&m->p->m, to);
    m->p = NULL;
    csp__word_post(&to->word, 1);
    csp__unlock(&csp__sched.lock);
}

/* The scheduler's loop, on the thread's own stack; epoch is odd here. */
CSP__FN void csp__schedule(csp__m *m)
{
    for (;;) {
        csp__g *g = m->todo;
        m->todo = NULL;
        if (csp__relaxed(&csp__sched.stopping) || m->leaving) return;
        if (m->bound_g != NULL && g == NULL && (g = csp__bound_wait(m)) == NULL) return;
        if (g != NULL)
            csp__timers_run(m->p);
        else if (m->p == NULL || m->p->id >= csp__sched.nprocs || (g = csp__find_work(m)) == NULL) {
            csp__go_idle(m);
            continue;
        }
        csp__spin_end(m);
        if (g->state == CSP__G_FRESH) csp__bind(m->p, g);
        while (csp__acquire(&g->busy) != 0) csp__pause(); // acq <g.busy>
        if (g->cb->bound != NULL && g->cb->bound != m) {
            csp__hand_to_bound(m, g);
            continue;
        }
        if (csp__tracing()) csp__note_run(m, g, csp__clock());
        csp__run(m, m->p, m->epoch, g, NULL, &m->sp, &m->no_busy);
        m->g = NULL;
    }
}

/* Puts the running goroutine back into a queue, and returns when it runs again. It is still on its
 * stack when it is queued; g.busy keeps another thread from running it before it has left. */
CSP__FN CSP__NOINLINE void csp__requeue(csp__m *m, bool global)
{
    csp__g *g = m->g;
    csp__g_save(m, g);
    csp__hb_before(g);
    if (global)
        csp__global_ready(g); /* this wakes a thread: every P may have gone idle since the look */
    else
        csp__ring_push(m->p, g);
    csp__park_to_loop(m, g, NULL);
}

/* The slow side of THE HANDSHAKE (in WAKE): the monitor has asked for this thread's P, or has taken
 * it. Returns inside csp, perhaps on another thread. */
CSP__FN CSP__NOINLINE csp__m *csp__enter_slow(csp__m *m)
{
    for (;;) {
        uint32_t asked = csp__acquire(&m->revoke);
        if (asked == CSP__REVOKE_NONE) return m;
        if (asked == CSP__REVOKE_SIMULATED) return csp__sched.sim->enter(m);
        if (asked == CSP__REVOKE_ORPHAN) return csp__attach(m);
        if (asked == CSP__REVOKE_ASKED) {
            csp__release(&m->epoch, m->epoch + 1); /* the P may be gone already */
            for (uint32_t n = 0; csp__acquire(&m->revoke) == CSP__REVOKE_ASKED;)
                csp__lock_pause(&n);
            csp__enter_fast(m);
            continue;
        }
        if (!csp__cas(&m->revoke, &asked, CSP__REVOKE_NONE)) continue;
        if (asked == CSP__REVOKE_BLOCKING) continue;
        if (csp__tracing() && asked == CSP__REVOKE_TAKEN && m->tape != NULL)
            csp__note(m, CSP__EV_MOVE, csp__relaxed(&m->tape->taken_at), 0, NULL, 0, -1);
        if (csp__relaxed(&csp__sched.stopping)) {
            csp__park_to_loop(m, m->g, NULL); /* never comes back */
            __builtin_unreachable();
        }
        if (m->p == NULL) {
            csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
            csp__p *p = csp__p_get_locked();
            csp__p_adopt(m, p);
            csp__unlock(&csp__sched.lock);
            if (p != NULL && csp__relaxed(&m->computes))
                __atomic_fetch_or(&p->eager, 1, __ATOMIC_RELAXED);
            csp__set(&m->computes, false);
            if (p != NULL && csp__tracing())
                csp__note(m, CSP__EV_MOVE, csp__clock(), 0, NULL, 0, p->id);
            if (p != NULL) continue;
        }
        uint64_t turn = csp__relaxed(&m->yield_tick);
        if (m->p != NULL && turn != CSP__ANY_TURN && turn != m->p->tick) {
            /* The monitor asked an earlier turn to yield, and this goroutine has just begun its
             * own. It goes on once the scheduler has looked at the timers. If it went behind all
             * others, it would be late for no gain. */
            csp__g_save(m, m->g);
            csp__park_to_loop(m, m->g, m->g);
        } else {
            csp__requeue(m, true);
        }
        m = csp__self();
        csp__enter_fast(m);
    }
}

/* ==========================================================================
 * [21] MONITOR - the making of threads, and the thread that watches the processors
 *
 * The monitor is one thread without a P. It has two tasks:
 *   - it makes the threads that the other rooms ask for. Making a thread takes more stack than a
 *     goroutine may have, so no goroutine's thread does it;
 *   - while any P runs, it looks every 5 ms for what the owner of a P cannot see: a goroutine that
 *     keeps its P in user code, a goroutine that never parks, timers and descriptors that no thread
 *     watches.
 * While all Ps are idle it sleeps, so that an idle program makes no wake-ups.
 *
 *   uses   PLATFORM BASE SYSTEM LOCKS CORE STACKS RUNQ WAKE POLLER SCHED
 *   locks  sched.lock
 * ======================================================================== */

/* This thread's stack for signal handlers; *was: what it had before. */
CSP__FN void csp__alt_stack(csp__m *m, csp__os_alt *was)
{
    size_t size = 64 * 1024;
    m->alt = csp__alloc(size);
    if (m->alt != NULL) csp__os_alt_set(m->alt, size, was);
}

/* was: what it had before, NULL for none. */
CSP__FN void csp__alt_stack_free(csp__m *m, const csp__os_alt *was)
{
    if (m->alt == NULL) return;
    csp__os_alt_reset(was);
    csp__free(m->alt);
    m->alt = NULL;
}

/* What a thread has of its own, and the tools want to know of it. */
CSP__FN void csp__m_begin(csp__m *m)
{
    m->err = csp__errno();
    m->eh = csp__os_cxa_globals();
#if CSP_X_TSAN
    m->fiber = __tsan_get_current_fiber();
#endif
#if CSP__ASAN
    csp__os_thread_stack(&m->asan_low, &m->asan_size);
#endif
}

CSP__FN void *csp__m_main(void *arg)
{
    csp__m *m = (csp__m *)arg;
    csp__tls = m;
    m->epoch = 1;
    csp__os_stack_follow();
    csp__m_begin(m);
    csp__alt_stack(m, NULL);
    csp__hb_before(m);
    csp__os_mask_set(&csp__sched.mask);
    csp__os_thread_begin();
    m->awake_at = csp__clock();
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__p_adopt(m, m->wake_p);
    m->wake_p = NULL;
    csp__unlock(&csp__sched.lock);
    csp__schedule(m);
    if (m->foreign) exit(0); /* in the child of a fork: see csp__main_returns */
    csp__alt_stack_free(m, NULL);
    csp__tls = NULL;
    if (m->tape != NULL) csp__release(&m->tape->owned, 0);
    if (m->leaving) return NULL;
    csp__hb_before(&csp__heap_sync); /* it may have polled */
    csp__set(&m->gone, true);
    csp__add(&csp__sched.ngone, 1);
    csp__os_wake((uint32_t *)&csp__sched.ngone, 1);
    return NULL;
}

/* A new thread for p; 0 or an errno. Only the monitor makes threads: pthread_create wants more
 * stack than a goroutine may have.
 *   The lock is dropped meanwhile. pthread_create takes 80 us, for which every other thread would
 * wait. pthread_join waits for the destructors of what a thread that has left had in its
 * thread-locals; these are the program's, and may call csp, which wants the lock: under it neither
 * would go on.
 *   The new thread stands in the list before it exists. So it is counted, as one with work to do
 * (wake_p) that is inside csp, and its P is not taken. */
CSP__FN int csp__m_create_locked(csp__p *p)
{
    csp__m *m = csp__sched.left_m;
    if (m != NULL) csp__sched.left_m = m->link;
    csp__unlock(&csp__sched.lock);
    if (m == NULL) {
        m = (csp__m *)csp__zalloc(sizeof *m);
    } else { /* used again, as the monitor may still hold a pointer to one that has left */
        if (!m->joined) csp__os_thread_join(m->thread);
        memset(m, 0, sizeof *m);
    }
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    if (m == NULL) return ENOMEM;
    m->wake_p = p;
    m->spinning = p->starting_spinning;
    m->rng = (uint64_t)(uintptr_t)m * 0x9E3779B97F4A7C15u + 1;
    m->epoch = 1;
    m->joined = true; /* m->thread says nothing yet */
    csp__set(&p->m, m);
    m->all = csp__sched.all_m;
    csp__sched.all_m = m;
    csp__sched.nthreads++;
    csp__unlock(&csp__sched.lock);
    size_t stack = CSP__ASAN || CSP_X_TSAN ? 1024 * 1024 : 256 * 1024;
    int error = csp__os_thread_start(&m->thread, csp__m_main, m, stack, false);
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    if (error == 0)
        m->joined = false;
    else
        csp__m_leave_locked(m); /* not freed, for the same reason */
    return error;
}

/* The monitor's part: makes the threads that were asked for, and those that are missing. */
CSP__FN void csp__m_starts_locked(void)
{
    csp__p *p;
    if (csp__sched.missing_since != 0 && csp__sched.starting == NULL && csp__sched.idle_m == NULL &&
        csp__clock() >= csp__sched.missing_next && (p = csp__p_get_locked()) != NULL) {
        p->starting_spinning = false;
        csp__set(&p->m, &csp__starting);
        p->link = NULL;
        csp__sched.starting = p;
    }
    while ((p = csp__sched.starting) != NULL && !csp__sched.stopping) {
        csp__sched.starting = p->link;
        int error = csp__m_create_locked(p);
        if (error == 0) {
            csp__sched.missing_since = csp__sched.missing_next = 0;
            continue;
        }
        csp__m_missing_locked(p, error);
        int64_t now = csp__clock(), pause = (now - csp__sched.missing_since) / 8;
        if (pause < 5 * CSP_MILLISECOND) pause = 5 * CSP_MILLISECOND;
        csp__sched.missing_next = now + (pause < CSP_SECOND ? pause : CSP_SECOND);
    }
}

/* CSP_DEBUG=hogs: the first of each start site. */
CSP__FN CSP__COLD void csp__hog_report(const csp_x_site *site)
{
    static const csp_x_site *seen[64];
    char text[256];
    size_t i = 0;
    while (i < 64 && seen[i] != NULL && seen[i] != site) i++;
    if (i == 64 || seen[i] == site) return;
    seen[i] = site;
    snprintf(text, sizeof text,
             "csp: hog: %s, started at %s:%d, keeps its processor for 10 ms without a call of csp; "
             "the others go on\n",
             site->name, site->file, site->line);
    csp__say(text);
}

/* HELD. A goroutine in `next` waits until its waker parks, which is soon as a rule. When the waker
 * computes instead, and another P is idle, the monitor takes the waker's P and the goroutine in
 * `next` runs on it. The waker computes on, and gets an idle P at its next call. Two looks that are
 * CSP__HELD apart must find the same epoch: for shorter work the change of threads costs more than
 * it gains.
 *
 * A look costs 15 us of CPU where a timer of the system is dear. So looks come every 5 ms. After a
 * rescue they come every 50 us, until 16 in a row have found nothing; and from the start of each of
 * the next 16 bursts, because the same goroutines compute again. */
#define CSP__HELD (30 * CSP_MICROSECOND)

CSP__FN void csp__monitor_rescue(csp__p *p, bool quick)
{
    csp__m *m = csp__acquire(&p->m);
    uint64_t epoch = m == NULL ? 1 : csp__acquire(&m->epoch);
    if ((epoch & 1) != 0 || csp__relaxed(&p->next) == NULL ||
        csp__relaxed(&csp__sched.nidle_p) == 0)
        return;
    int64_t from = csp__clock(), now = from;
    if (epoch != p->held_st) p->held_at = from;
    p->held_st = epoch;
    do { /* no thief is awake: see WORTH STEALING */
        if (now - from > CSP_MICROSECOND && !(csp__relaxed(&p->eager) & 1))
            __atomic_fetch_or(&p->eager, 1, __ATOMIC_RELAXED);
        if (now - p->held_at >= CSP__HELD || (quick && now - from > CSP_MICROSECOND)) break;
        now = csp__clock();
    } while (csp__relaxed(&m->epoch) == epoch);
    if (now - p->held_at < CSP__HELD) return;
    csp__barrier_await();
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    if (csp__sched.idle_p != NULL && csp__revoke_p(m, p, epoch)) {
        csp__sched.rescues = csp__sched.quick = CSP__QUICK_LOOKS;
        csp__add(&csp__sched.handoffs, 1);
        __atomic_fetch_and(&p->eager, ~1u, __ATOMIC_RELAXED);
        csp__set(&m->computes, true); /* its next P is eager */
        csp__hand_off_locked(p);
        csp__m_starts_locked();
    }
    csp__unlock(&csp__sched.lock);
}

/* The monitor's look at one P. Takes the P from a goroutine that has been in user code for 10 ms.
 * Asks a goroutine to yield that has called csp for 10 ms without parking, and also an owner whose
 * timers are late by a millisecond. */
CSP__FN void csp__monitor_look(csp__p *p, int64_t now)
{
    csp__m *m = csp__acquire(&p->m);
    uint64_t epoch, tick = csp__relaxed(&p->tick);
    if (m == NULL) return;
    epoch = csp__acquire(&m->epoch);
    if (tick != p->seen_tick || now - p->seen_at < 10 * CSP_MILLISECOND) {
        if (csp__relaxed(&p->first) < now - CSP_MILLISECOND) /* the turns on this P are long */
            csp__ask_to_yield(m, tick);
        if (tick != p->seen_tick) p->seen_at = now;
        p->seen_tick = tick;
        p->seen_epoch = epoch;
        return;
    }
    if ((epoch & 1) == 0 && epoch == p->seen_epoch) {
        csp__barrier_await();
        csp__g *g = m->g;
        const csp_x_site *site = g == NULL || csp__acquire(&m->blocking) == epoch ? NULL : g->site;
        csp__lock(&csp__sched.lock, CSP__RANK_SCHED); /* no P is seen that has no owner yet */
        bool taken = csp__revoke_p(m, p, epoch);
        if (taken) {
            csp__add(&csp__sched.handoffs, 1);
            csp__hand_off_locked(p);
            csp__m_starts_locked(); /* the looks at all the others may take 100 us each */
        }
        csp__unlock(&csp__sched.lock);
        if (taken && site != NULL && csp__sched.hogs) csp__hog_report(site);
    } else if (csp__ring_count(p) != 0 || csp__relaxed(&p->next) != NULL ||
               csp__relaxed(&csp__sched.nglobal) != 0 || csp__relaxed(&p->first) <= now) {
        csp__ask_to_yield(m, tick);
    }
    p->seen_epoch = epoch;
}

/* No thread can be made, and no goroutine will ever run without one. */
CSP__FN CSP__COLD __attribute__((noreturn)) void csp__missing_die(int error)
{
    char text[256];
    snprintf(text, sizeof text,
             "fatal: no thread can be made (%s), and there is none that could run goroutines\n\n",
             strerror(error));
    csp__say(text);
    csp_dump(stderr);
    fflush(NULL);
    csp__lifecycle(CSP__LIFE_DIES);
    csp_x_dies();
    if (csp__sched.in_run && !csp__sched.aborts) csp__os_exit(2);
    abort();
}

/* See THREADS MISSING: are threads still missing? A thread in user code may come back or not. As
 * long as there is one, the program goes on, and says once that goroutines wait. When there is
 * none, no goroutine will ever run again: that is fatal. */
CSP__FN void csp__missing_look(int64_t now)
{
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    int error = csp__sched.missing_error;
    int64_t since = csp__sched.missing_since, first = csp__first_timer();
    bool work = csp__work_somewhere() != 0;
    bool unwatched = (csp__sched.sleeper == NULL && first != CSP_FOREVER) ||
                     (csp__sched.npolling == 0 && csp__relaxed(&csp__poll.waiters) != 0);
    bool idle = csp__sched.idle_m != NULL; /* a thread that had nothing to do, or has come since */
    if (csp__sched.idle_p == NULL || idle || !(work || unwatched)) csp__sched.missing_since = 0;
    bool late = since != 0 && csp__sched.missing_since != 0 && !csp__sched.stopping &&
                now - since > 700 * CSP_MILLISECOND && (work || first <= now);
    bool runs = csp__sched.nidle_m != csp__sched.nthreads;
    bool said = csp__sched.missing_said;
    if (late) csp__sched.missing_said = true;
    csp__unlock(&csp__sched.lock);
    if (idle) { /* PARK DANCE: submitters may have seen the missing thread counted as searching */
        csp__fence_search();
        if (csp__work_somewhere() != 0) csp__wake();
    }
    if (!late || (runs && said)) return;
    if (!runs) csp__missing_die(error);
    csp__say("csp: no thread can be made; goroutines wait for one that computes or blocks\n");
}

CSP__FN void *csp__monitor_main(void *arg)
{
    (void)arg;
    csp__os_thread_begin();
    uint32_t looks = 0;
    bool all_idle = false, quick = false;
    int64_t looked_at = 0;
    while (!csp__relaxed(&csp__sched.stopping)) {
        csp__os_wait(&csp__sched.monitor_word, 1,
                     quick      ? CSP__BARRIER_PAUSE
                     : all_idle ? 10 * CSP_MILLISECOND
                                : 5 * CSP_MILLISECOND);
        csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
        csp__set(&csp__sched.monitor_word, 1);
        csp__m_starts_locked();
        quick = csp__sched.quick > 0;
        if (quick) csp__sched.quick--;
        all_idle = csp__sched.nidle_p == (uint32_t)csp__sched.nprocs;
        if (all_idle) csp__sched.quick = 0;
        quick = quick && !all_idle;
        csp__unlock(&csp__sched.lock);
        for (int i = 0; i < csp__nmade(); i++) csp__monitor_rescue(csp__sched.procs[i], quick);
        if (quick && csp__clock() - looked_at < 4 * CSP_MILLISECOND) continue;
        csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
        if (csp__unwatched_locked(csp__clock() + CSP__WATCH_SOON)) csp__watch_hand_over_locked();
        csp__unlock(&csp__sched.lock);
        csp__fences_end();
        uint32_t takes = csp__relaxed(&csp__sched.takes);
        if (takes != 0) csp__set(&csp__sched.takes, takes - 1);
        int64_t now = looked_at = csp__now_refresh();
        for (int i = 0; i < csp__nmade(); i++) csp__monitor_look(csp__sched.procs[i], now);
        if (csp__first_timer() < now - CSP_MILLISECOND) csp__wake();
        csp__poll_watch();
        if (CSP__UNLIKELY(csp__relaxed(&csp__sched.missing_since) != 0)) {
            csp__poll_now(&csp__monitor_m);
            csp__missing_look(now);
        }
        csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
        /* It sleeps only when no P has been busy since its last look: a program that works now and
         * then would have to wake the monitor each time. */
        all_idle = csp__sched.nidle_p == (uint32_t)csp__sched.nprocs && !csp__sched.stopping;
        bool idle = all_idle && !csp__sched.busied && csp__sched.missing_since == 0;
        csp__sched.busied = false;
        bool trim = idle ? csp__relaxed(&csp__stacks.used) : ++looks % 256 == 0;
        bool sleep = idle && !trim;
        if (sleep) {
            csp__sched.monitor_on = false;
            csp__set(&csp__sched.monitor_word, 0);
        }
        csp__unlock(&csp__sched.lock);
        if (trim) csp__stacks_trim(idle ? 4096 : 1024);
        while (sleep && csp__acquire(&csp__sched.monitor_word) == 0)
            csp__os_wait(&csp__sched.monitor_word, 0, CSP_FOREVER);
    }
    return NULL;
}

/* ==========================================================================
 * [22] PANIC - panics and deadlocks
 *
 * A panic runs the defers up to the innermost csp_try, and then goes there by longjmp. It does
 * nothing else for the C frames between. An uncaught panic writes the dump and ends the process. So
 * does a deadlock: all goroutines are asleep for good.
 *
 *     csp__throw_at --csp_try--> csp__cxx_unwind --frames left--> csp__catch --> catch block
 *           |                           |                              ^
 *           |                           +--returns: no C++, no way-----+
 *           |
 *           +-----no csp_try---> csp__unwind: defers --> csp__die: dump, end of the process
 *
 *   uses   PLATFORM BASE PROFILE SYSTEM LOCKS CORE WAKE GO POLLER SCHED
 *   locks  sched.lock
 * ======================================================================== */

/* UNWINDING. In a program with C++ in it, csp_exit and a caught panic leave frames whose objects
 * have destructors. The unwinder of the C++ runtime runs these by a forced unwinding, which no
 * catch block ends; pthread_exit does the same. The unwinder's functions are weak symbols: a
 * program in C may have none, and needs none.
 *
 * The unwinder calls csp__cxx_step at each frame, before it runs the destructors of that frame.
 * csp__cxx_step runs the defers of the frames below, which the unwinder has already left. A C
 * function may have such defers, but it has no landing pad in which they could run. So defers and
 * destructors run in the order of the frames, last in, first out, whatever language each frame is
 * in. The defers of a C++ frame run among its destructors, by the cleanup attribute.
 *
 *     frames, calls go down                unwinding, goes up
 *     A: csp_try                           4 step at A: runs b; then finish, the catch block
 *     B: C, csp_defer(b)                   3 step at B: nothing is left below
 *     C: C++, object x                     2 step at C: runs d; then the destructor of x runs
 *     D: C, csp_defer(d), csp_panic        1 step at D: nothing is left below
 *
 * A panic ends at the frame of its csp_try. A walk over all frames, before the unwinding, finds
 * that frame. In C the goroutine goes on there by longjmp. In C++ an exception is thrown at the
 * end, once the frames below have been left. The compiler's own catch block takes it, after the
 * destructors of the try block and of functions inlined into it. That exception is thrown at once,
 * after all defers, in two cases: the unwinder cannot reach the frame (C without unwind tables, as
 * on 32-bit ARM), or less than 8 KiB of stack are left for its work.
 *
 * The destructors run on the stack below the panic, so the state of the unwinding (csp__cxx) is in
 * the heap. */
#if CSP__OS_UNWINDS
extern __typeof__(_Unwind_ForcedUnwind) _Unwind_ForcedUnwind __attribute__((weak));
extern __typeof__(_Unwind_Backtrace) _Unwind_Backtrace __attribute__((weak));
extern __typeof__(_Unwind_GetCFA) _Unwind_GetCFA __attribute__((weak));

#define CSP__STACK_FAR ((uintptr_t)64 << 20) /* no stack is larger */

/* One unwinding. csp__cxx_unwind makes it; csp__cxx_step frees it at the last frame, or
 * csp__cxx_unwind does when the unwinder gives up. Owner only: the goroutine that unwinds. */
typedef struct csp__cxx {
    struct _Unwind_Exception exception;
    csp__cb *cb;
    csp_x_try *target; // NULL: the unwinding leaves all frames of the goroutine
    uintptr_t frame;   // stack pointer of the target's frame
    bool reached;      // the walk over the frames has found the target's frame
    void (*finish)(csp__cb *cb, csp_x_try *target);
    char message[CSP_PANIC_MESSAGE_SIZE];
} csp__cxx;

/* For _Unwind_Backtrace: finds the frame of the target. Stack pointers rise from frame to frame. So
 * the frame of csp_try is the last one whose stack pointer is not above that of csp_try's call. */
CSP__FN _Unwind_Reason_Code csp__cxx_look(struct _Unwind_Context *context, void *arg)
{
    csp__cxx *u = (csp__cxx *)arg;
    uintptr_t sp = (uintptr_t)_Unwind_GetCFA(context);
    u->reached = sp > (uintptr_t)u->target->sp;
    if (u->reached) return _URC_END_OF_STACK;
    u->frame = sp;
    return _URC_NO_REASON;
}

/* Runs the defers and joins the forks of frames that have been left. Their records are below sp, or
 * CSP__STACK_FAR away from it: AddressSanitizer may have moved the variables of a frame to its fake
 * stack. */
CSP__FN void csp__cxx_left(csp__cb *cb, const csp_x_defer *until, uintptr_t sp)
{
    csp_x_forks *forks = &cb->forks.x;
    for (;;) {
        csp_x_fork *f = (csp_x_fork *)(void *)forks->top; /* link is its first member */
        csp_x_defer *d = cb->defers;
        if (f != NULL && forks->top != &forks->base && f->defers == d) {
            if ((uintptr_t)f - sp < CSP__STACK_FAR) return;
            if (csp_x_fork_join(f)) f->run(f->args);
            continue;
        }
        if (d == until || (uintptr_t)d - sp < CSP__STACK_FAR) return;
        cb->defers = d->prev;
        if (d->fn != NULL) d->fn(d->arg);
    }
}

/* For _Unwind_ForcedUnwind: called at each frame. At the target's frame, or at the end of the
 * stack, it calls finish, which does not return. */
CSP__FN _Unwind_Reason_Code csp__cxx_step(int version, _Unwind_Action actions,
                                          _Unwind_Exception_Class name,
                                          struct _Unwind_Exception *exception,
                                          struct _Unwind_Context *context, void *arg)
{
    csp__cxx *u = (csp__cxx *)arg;
    csp__cb *cb = u->cb;
    csp_x_defer *until = u->target == NULL ? NULL : &u->target->outside;
    uintptr_t sp = (uintptr_t)_Unwind_GetCFA(context);
    (void)version, (void)name, (void)exception;
    csp__cxx_left(cb, until, sp);
    if ((actions & _UA_END_OF_STACK) || (u->target != NULL && sp >= u->frame)) {
        csp_x_try *target = u->target;
        void (*finish)(csp__cb *, csp_x_try *) = u->finish;
        if (target != NULL) memcpy(target->info.message, u->message, sizeof u->message);
        free(u);
        finish(cb, target);
    }
    return _URC_NO_REASON;
}

/* The cleanup of the unwinder's exception object. It is called only when a catch (...) took the
 * exception and did not rethrow it. */
CSP__FN void csp__cxx_caught(_Unwind_Reason_Code code, struct _Unwind_Exception *exception)
{
    (void)code, (void)exception;
    csp__die(csp__current(), "catch (...) has caught csp_exit or a panic and does not throw it on",
             csp__place(NULL));
}

/* Unwinds this goroutine's frames up to the target and calls finish, which does not return. Returns
 * when no C++ code is involved, or when the unwinder cannot do it: no unwinder, too little stack or
 * memory, or frames without unwind tables. Then the caller goes on with the defers alone. */
CSP__FN CSP__COLD void csp__cxx_unwind(csp__cb *cb, csp_x_try *target, const char *message,
                                       void (*finish)(csp__cb *cb, csp_x_try *target))
{
    if (csp__self()->eh == NULL || _Unwind_ForcedUnwind == NULL || _Unwind_Backtrace == NULL ||
        _Unwind_GetCFA == NULL)
        return;
    if (cb->low != NULL && (char *)__builtin_frame_address(0) - cb->low < 8192) return;
    csp__cxx *u = (csp__cxx *)calloc(1, sizeof *u);
    if (u == NULL) return;
    u->exception.exception_cleanup = csp__cxx_caught;
    u->cb = cb;
    u->target = target;
    u->finish = finish;
    csp__copy_text(u->message, message, sizeof u->message);
    if (target != NULL) _Unwind_Backtrace(csp__cxx_look, u);
    if (target == NULL || u->reached) _Unwind_ForcedUnwind(&u->exception, csp__cxx_step, u);
    free(u);
}
#else
#define csp__cxx_unwind(cb, target, message, finish) ((void)(cb))
#endif

/* Ends a panic in its csp_try, whose info holds the message already. In C it runs the remaining
 * defers here. In C++ only defers of csp_try's own frame remain, and these run among the frame's
 * destructors. */
CSP__FN CSP__COLD __attribute__((noreturn)) void csp__catch(csp__cb *cb, csp_x_try *t)
{
    if (t->raise == NULL) csp__unwind(&cb->defers, t, &cb->forks.x);
    cb->tries = t->prev;
    if (t->raise != NULL) t->raise(&t->info);
    cb->caught = t;
#ifdef CSP_X_MARK_WORDS
    csp_x_mark_jump(t->mark);
#else
    longjmp(t->mark, 1);
#endif
}

/* The handler of std::terminate while the runtime runs. An uncaught exception in a goroutine ends
 * the program as a panic does; one in a thread of the program goes to the handler before. */
static void (*csp__terminate_before)(void);

CSP__FN CSP__COLD void csp__terminated(void)
{
    char text[CSP_PANIC_MESSAGE_SIZE] = "uncaught C++ exception of type ";
    size_t n = strlen(text);
    csp__m *m = csp__self();
    if (m == NULL || m->g == NULL || m->foreign) {
        if (csp__terminate_before != NULL) csp__terminate_before();
        abort();
    }
    if (!csp__os_cxa_uncaught(text + n, sizeof text - n))
        csp__die(m->g, "std::terminate was called", csp__place(NULL));
    csp__die(m->g, text, csp__place(NULL));
}

/* Installs the handler when the runtime starts, and removes it when the runtime stops: the object
 * file that contains csp may be unloaded after that. */
CSP__FN void csp__terminate_set(bool on)
{
    void (*was)(void) = csp__os_cxa_terminate(on ? csp__terminated : csp__terminate_before);
    if (on && was != csp__terminated) csp__terminate_before = was;
    if (!on && was != csp__terminated) csp__os_cxa_terminate(was); // the program's, set since
}

/* A panic: unwinds to the innermost csp_try of the calling goroutine, or ends in csp__die. */
CSP__FN CSP__COLD __attribute__((noreturn)) void csp__throw_at(const char *message, const char *at)
{
    csp__g *g = csp__current();
    if (g == NULL) csp__fatal(message);
    csp__cb *cb = g->cb;
    char kept[CSP_PANIC_MESSAGE_SIZE]; /* a copy: a defer may panic, too, and overwrite `message` */
    csp__copy_text(kept, message, sizeof kept);
    if (cb->tries != NULL) csp__cxx_unwind(cb, cb->tries, kept, csp__catch);
    csp_x_try *t = cb->tries;
    if (t == NULL || t->raise != NULL) csp__unwind(&cb->defers, t, &cb->forks.x);
    if (t == NULL) csp__die(g, kept, csp__place(at));
    memcpy(t->info.message, kept, sizeof kept);
    csp__catch(cb, t);
}

CSP__FN CSP__COLD __attribute__((noreturn)) void csp__throw(const char *message)
{
    csp__throw_at(message, NULL);
}
#define csp__panic_at(at, ...) csp_x_panic(at, __VA_ARGS__)

/* Panics in a simulation: it cannot have descriptors of the system, or signals. */
CSP__FN void csp__sim_refuse(const char *what)
{
    if (CSP__UNLIKELY(csp__sched.sim != NULL))
        (csp_panic)("%s cannot be used in a simulation", what);
}

CSP__API void csp_x_panic(const char *at, const char *format, ...)
{
    char text[CSP_PANIC_MESSAGE_SIZE];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    csp__throw_at(text, at);
}

CSP__API void(csp_panic)(const char *format, ...)
{
    char text[CSP_PANIC_MESSAGE_SIZE];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    csp__throw(text);
}

/* Ends the process after an uncaught panic: message, dump, exit status 2 or abort(). `place` is
 * NULL where the place of the panic is not known. */
CSP__FN void csp__die(csp__g *g, const char *message, const char *place)
{
    char text[CSP_PANIC_MESSAGE_SIZE + 512];
    if (csp__sched.sim != NULL) csp__sched.sim->die(g, message);
    while (csp__swap(&csp__sched.dying, 1) != 0) csp__os_sleep(CSP_FOREVER); /* one reports */
    snprintf(text, sizeof text, "panic: %s\n%s%s%s\n", message, place != NULL ? "    at " : "",
             place != NULL ? place : "", place != NULL ? "\n" : "");
    csp__say(text);
    if (g != NULL) {
        snprintf(text, sizeof text, "goroutine %llu [%s], started at %s:%d\n\n",
                 (unsigned long long)g->id, g->cb->name[0] ? g->cb->name : g->site->name,
                 g->site->file, g->site->line);
        csp__say(text);
    }
    csp_dump(stderr);
    fflush(NULL);
    csp__lifecycle(CSP__LIFE_DIES);
    csp_x_dies();
    if ((csp__sched.in_run || csp__sched.child_in_run) && !csp__sched.aborts) csp__os_exit(2);
    abort();
}

/* Are all goroutines of csp_run asleep for good? If so, it writes the dump and does not return.
 * True: all of them sleep, but a thread of the program may still wake one. False: one can run, or a
 * timer, a descriptor or a signal can wake one. Where the system cannot count the threads of the
 * process, the answer is false: no deadlock is reported there. */
CSP__FN bool csp__deadlock_check_locked(void)
{
    if (!csp__sched.in_run && !csp__sched.child_in_run) return false;
    if (csp__relaxed(&csp__sched.run_exit) != CSP__RUN_GOES_ON) return false;
    if (csp__sched.nidle_p != (uint32_t)csp__sched.nprocs || csp__sched.stopping) return false;
    if (csp__sched.nidle_m != csp__sched.nthreads || csp__work_queued() != 0) return false;
    if (csp__forks_offered()) return false;
    if (csp__relaxed(&csp__sched.nspinning) | csp__relaxed(&csp__poll.waiters)) return false;
    for (csp__m *m = csp__sched.all_m; m != NULL; m = m->all)
        if (m->wake_p != NULL || m->handed != NULL) return false;
    csp__m *main = csp__sched.child != NULL && csp__sched.child->main ? csp__sched.child : NULL;
    if (main != NULL && csp__acquire(&main->g->signal) == 1) return false;
    if (csp__others_wake_locked())
        return csp__sched.foreign_m != NULL && csp__sched.foreign_m->all != NULL;
    int threads = csp__os_threads();
    if (threads <= 0) return false;
    if (threads > csp__sched.nthreads + 2 + csp__sched.observers + CSP_X_TSAN) return true;
    csp__unlock(&csp__sched.lock); /* the dump takes it */
    csp__say(csp_count() == 0 && (main == NULL || main->main == 2 || csp__sched.in_run)
                 ? "fatal: no goroutines (main called csp_exit) - deadlock!\n\n"
                 : "fatal: all goroutines are asleep - deadlock!\n\n");
    csp_dump(stderr);
    fflush(NULL);
    csp__lifecycle(CSP__LIFE_DIES);
    csp_x_dies();
    if (csp__sched.aborts) abort();
    csp__os_exit(2);
}

/* ==========================================================================
 * [23] BOOT - starting, stopping, forking
 *
 * The runtime starts with the first call that needs it, and stops with csp_shutdown or csp_run's
 * end. A start that fails leaves nothing behind; a stop leaves nothing in the process that points
 * into this code. The child of a fork starts anew: see FORK in GO.
 *
 *   uses   PLATFORM BASE TOOLS PROFILE SYSTEM HEAP LOCKS CORE TAPES STACKS LIFE RUNQ WAKE GO POLLER
 *          SCHED MONITOR PANIC
 *   locks  sched.lock sched.start_lock
 * ======================================================================== */

CSP__FN void csp__m_free(csp__m *m)
{
    if (csp__sched.child == m) csp__sched.child = NULL;
    csp__alt_stack_free(m, NULL);
    if (m->tape != NULL) csp__release(&m->tape->owned, 0);
    csp__free(m->g->cb->locals);
    csp__free(m);
}

/* Runs at the end of each thread of the program that has used csp: csp forgets the thread. If it
 * was the last such thread, sleeping goroutines may be a deadlock from now on, so the sleeping
 * thread looks again, when this one is gone. */
CSP__FN void csp__foreign_ends(void *arg)
{
    csp__m *m = (csp__m *)arg;
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    bool known = csp__tls == m && csp__foreign_remove_locked(m);
    if (known && csp__sched.sleeper != NULL) csp__sched.sleeper->nap = CSP_MILLISECOND;
    if (known) csp__sleeper_poke_locked();
    csp__unlock(&csp__sched.lock);
    if (!known) return; /* csp_shutdown has freed it, or it is an orphan */
    csp__forks_leave(m->g);
    csp__tls = NULL;
    csp__m_free(m);
}

/* The runtime has stopped. The records of the program's threads are freed although the threads live
 * on: a thread that calls csp again gets a new record. A record that is still in use becomes an
 * orphan: it is kept, and made known to the next runtime that its thread calls. In use are the
 * records of threads inside a csp_try, inside a block with a csp_defer, or inside a call of csp,
 * and the one of a child's main goroutine.
 *   The key is deleted first: this code may be unloaded before those threads end, and must not be
 * called then. */
CSP__FN void csp__foreign_forget(void)
{
    if (!csp__sched.key_made) return;
    csp__sched.key_made = false;
    csp__os_key_delete(csp__foreign_key);
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__m *all = csp__sched.foreign_m, *next;
    csp__sched.foreign_m = NULL;
    for (csp__m *m = all; m != NULL; m = next) {
        csp__cb *cb = m->g->cb;
        next = m->all;
        csp__forks_forget(cb);
        if (m->main != 0 || (m->alt != NULL && m != csp__tls) || (csp__acquire(&m->epoch) & 1) ||
            cb->defers != NULL || cb->tries != NULL || cb->caught != NULL ||
            cb->forks.x.tail != 0 || csp__relaxed(&m->g->signal) != 0) {
            m->all = NULL;
            csp__set(&m->revoke, CSP__REVOKE_ORPHAN);
        } else {
            csp__set(m->tls, NULL);
            csp__m_free(m);
        }
    }
    csp__unlock(&csp__sched.lock);
}

static csp__os_handler csp__fault_handlers[CSP__OS_MEMORY_FAULTS];

/* Is the fault a stack overflow? It is when the address lies in the guard below the stack of the
 * goroutine that this thread runs, or between there and a frame that begins further down. Other
 * faults are the program's. */
CSP__FN void csp__fault_look(const csp__os_info *info, void *context)
{
    uint32_t reader = csp__relaxed(&csp__probe.tid);
    if (reader != 0 && reader == (uint32_t)csp__os_tid()) csp__longjmp(csp__probe.mark, 1);
    csp__m *m = csp__tls;
    csp__hb_after(m); /* the thread's start, which made the stack that this runs on */
    csp__g *g = m == NULL ? NULL : m->g;
    csp__cb *cb = g == NULL || g->cb->home == NULL ? NULL : g->cb; /* a goroutine's */
    if (cb != NULL) {
        char *at = csp__os_fault_at(info), *from = csp__os_fault_sp(context);
        if (from > cb->base) from = cb->base;
        if ((at >= from - 65536 && at < cb->low) || csp__canary_dead(cb)) csp__overflow(cb);
    }
}

/* Names the goroutine in which the process is about to die, and the instruction. */
CSP__FN void csp__fault_say(int signo, const csp__os_info *info, const void *context)
{
    char text[768];
    csp__os_symbols at;
    csp__m *m = csp__tls;
    csp__g *g = m == NULL ? NULL : m->g;
    if (g == NULL || g->cb->home == NULL) return;
    int n = snprintf(text, sizeof text,
                     "fatal: %s at address %p\n\ngoroutine %llu [%s], started at %s:%d\n",
                     csp__os_fault_name(signo), (void *)csp__os_fault_at(info),
                     (unsigned long long)g->id, g->cb->name[0] ? g->cb->name : g->site->name,
                     g->site->file, g->site->line);
    csp__say(n > 0 ? text : "");
    if (!csp__os_symbol(csp__os_fault_pc(context), &at)) return;
    if (at.function != NULL)
        snprintf(text, sizeof text, "    #0 %s+0x%llx (%s+0x%llx)\n", at.function,
                 (unsigned long long)at.within, at.object, (unsigned long long)at.offset);
    else
        snprintf(text, sizeof text, "    #0 %s+0x%llx\n", at.object, (unsigned long long)at.offset);
    csp__say(text);
}

CSP__FN void csp__on_fault(int signo, csp__os_info *info, void *context)
{
    csp__os_handler *h = csp__fault_handlers;
    for (int i = 0; i < CSP__OS_MEMORY_FAULTS; i++)
        if (csp__os_faults[i] == signo) h = &csp__fault_handlers[i];
    if (csp__relaxed(&h->state) == CSP__HANDLER_ON) {
        csp__fault_look(info, context);
        if (csp__os_fault_kills(h, info)) csp__fault_say(signo, info, context);
    }
    csp__os_handler_pass(h, signo, info, context);
}

CSP__FN void csp__faults_set(void)
{
    for (int i = 0; i < CSP__OS_MEMORY_FAULTS; i++)
        csp__os_handler_set(&csp__fault_handlers[i], csp__os_faults[i], csp__on_fault, true);
}

CSP__FN void csp__faults_unset(void)
{
    for (int i = 0; i < CSP__OS_MEMORY_FAULTS; i++)
        csp__os_handler_unset(&csp__fault_handlers[i], csp__os_faults[i], csp__on_fault);
}

/* m becomes the record of the child's only thread, an orphan as long as csp is not called. */
CSP__FN void csp__m_forked(csp__m *m)
{
    csp__g *g = m->g;
    if (g != NULL) csp__forks_forget(g->cb);
    if (m->foreign || g == NULL) {
        m->main = m->main | csp__sched.child_in_run;
    } else {
        g->cb->bound = NULL;
        g->cb->thread_locks = 0;
        g->signal = 0;
        g->flags = CSP__G_FOREIGN;
        m->main = 1;
    }
    m->foreign = true;
    m->tls = &csp__tls;
    m->p = NULL;
    m->tape = NULL;
    m->link = m->all = NULL;
    m->bound_g = NULL;
    m->wake_p = NULL;
    m->handed = m->todo = NULL;
    m->idle = m->leaving = m->spinning = false;
    m->nap = 0;
    m->blocking = 0;
    csp__set(&m->revoke, CSP__REVOKE_ORPHAN);
}

/* Timers and contexts may outlive the runtime: none of them is in a heap any more. */
CSP__FN void csp__stop_timers(void)
{
    for (int i = 0; i < csp__sched.nmade; i++) {
        csp__heap *h = &csp__sched.procs[i]->heap;
        for (uint32_t k = 0; k < h->count; k++)
            if (h->items[k].who & 1) csp__set(&csp__item_timer(h->items[k].who)->p, NULL);
    }
}

/* Sets csp__sched to what it was before the first start, but for what outlives a runtime. The lock
 * is held and kept, because a thread of the program may be ending and takes it. */
CSP__FN void csp__sched_clear(void)
{
    size_t from = offsetof(__typeof__(csp__sched), running);
    size_t lock = offsetof(__typeof__(csp__sched), lock), after = lock + sizeof csp__sched.lock;
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    size_t used = (size_t)csp__sched.nmade * sizeof csp__sched.procs[0];
    memset((char *)&csp__sched + from, 0, lock - from);
    memset((char *)&csp__sched + after, 0, offsetof(__typeof__(csp__sched), procs) - after);
    memset(csp__sched.procs, 0, used);
    csp__unlock(&csp__sched.lock);
    csp__set(&csp_x_watched, 1);
}

/* In the child of a fork: frees the records of the threads that it does not have, and the Ps. The
 * stacks stay, because the child's goroutine may use what lies there. */
CSP__FN void csp__fork_free(csp__m *me)
{
    csp__m *lists[3] = {csp__sched.all_m, csp__sched.left_m, csp__sched.foreign_m}, *next;
    for (int i = 0; i < 3; i++)
        for (csp__m *m = lists[i]; m != NULL; m = next) {
            bool kept = m == me;
            next = i == 1 ? m->link : m->all;
            for (csp__home *h = csp__sched.home; h != NULL; h = h->outer) kept |= h->caller == m;
            if (kept) continue;
            csp__free(m->alt);
            csp__free(m);
        }
    for (int i = 0; i < csp__sched.nmade; i++) {
        csp__p *p = csp__sched.procs[i];
        if (csp__relaxed(&p->heap_lock) != 0) continue; /* half changed: timers may point there */
        csp__free(p->heap.block);
        csp__free(p);
    }
}

CSP__FN void csp__fork_child(void)
{
    csp__os_forked();
    csp__m *m = csp__tls;
    bool goroutine = m != NULL && !m->foreign;
    if (csp__sched.sim != NULL) {
        csp__sched.sim->forked();
        if (goroutine) m->sp = NULL; /* so that the simulation's loop does not go on here */
    }
    csp__sched.child_in_run |= csp__sched.in_run;
    if (!goroutine && (m == NULL || m->main == 0)) csp__faults_unset();
    csp__lifecycle(CSP__LIFE_FORKED);
    csp__poll_end(true);
    csp__stop_timers();
    csp__fork_free(m);
    for (csp__home *h = csp__sched.home; h != NULL; h = h->outer) {
        h->caller->tape = NULL;
        h->caller->all = NULL;
        csp__forks_forget(h->caller->g->cb);
        csp__set(&h->caller->revoke, CSP__REVOKE_ORPHAN);
    }
    csp__sched.start_lock = 0;
    csp__sched.lock = 0;
    csp__sched.foreign_m = NULL;
    csp__sched_clear();
    csp__stacks_forked();
    csp__sched.child = m;
    if (m != NULL) csp__m_forked(m);
}

CSP__FN int csp__env_number(const char *name, int low, int high, int otherwise)
{
    const char *text = csp__os_env(name);
    char line[160];
    uint64_t n;
    if (text == NULL || *text == 0) return otherwise;
    if (csp__number(text, strlen(text), (uint64_t)high, &n) && (int)n >= low) return (int)n;
    snprintf(line, sizeof line, "csp: %s=%.40s is not a number from %d to %d; using %d\n", name,
             text, low, high, otherwise);
    csp__say(line);
    return otherwise;
}

CSP__FN csp__p *csp__p_new(void)
{
    int id = csp__sched.nmade;
    csp__p *p = (csp__p *)csp__zalloc(sizeof *p);
    if (p == NULL) return NULL;
    p->id = id;
    p->rng = (uint64_t)csp__clock() * 2 + 1 + (uint64_t)id * 0x9E3779B97F4A7C16u;
    p->first = CSP_FOREVER;
    p->left = p->lot = CSP__TURNS;
    /* A trace begins before it or after it: see csp__trace_switch. */
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    p->eager = csp__relaxed(&csp__trace.on) ? 2 : 0;
    csp__sched.procs[id] = p;
    csp__release(&csp__sched.nmade, id + 1); // rel <nmade>
    csp__unlock(&csp__sched.lock);
    return p;
}

/* Undoes a start that has failed. It is only called before signal handlers are set, so nothing in
 * the process has changed afterwards. */
CSP__FN csp_status csp__start_undo(void)
{
    for (int i = 0; i < csp__sched.nmade; i++) csp__free(csp__sched.procs[i]);
    csp__sched_clear();
    return CSP_NOMEM;
}

CSP__FN csp_status csp__start_locked(const csp_config *config)
{
    csp_config c = config != NULL ? *config : (csp_config){0, 0, 0};
    csp__os_on_fork(csp__fork_child);
    if (!csp__sched.key_made && csp__os_key_make(&csp__foreign_key, csp__foreign_ends) != 0)
        return CSP_NOMEM;
    csp__sched.key_made = true;
    if (c.procs < 0 || c.procs > CSP_MAX_PROCS || c.max_threads < 0 ||
        (c.stack_size != 0 && c.stack_size < 16384) || c.stack_size > CSP__STACK_MAX)
        return CSP_INVALID;
    if (c.procs == 0) c.procs = csp__env_number("CSP_PROCS", 1, CSP_MAX_PROCS, csp__os_cpus());
    if (c.procs > CSP_MAX_PROCS) c.procs = CSP_MAX_PROCS;
    if (c.max_threads == 0) c.max_threads = 10000;
    if (c.stack_size == 0) c.stack_size = CSP_STACK_SIZE;
    csp__sched.config = c;
    csp__sched.starts++;
    csp__stacks.slot = csp__slot_default(c.stack_size);
    csp__sched.barrier = csp__os_barrier_open();
    csp__sched.fenced = csp__sched.barrier ? CSP__FENCED_NO : CSP__FENCED_ALL;
    csp__sched.barrier_at = INT64_MIN / 2;
    csp__set(&csp_x_watched, CSP_HOLDERS || !csp__sched.barrier);
    csp__sched.tools = csp__os_cxa_globals() != NULL ? 1 : 0;
    csp__sched.haste = 16;
    csp__sched.sleep_until = CSP_FOREVER;
    for (int i = 0; i < c.procs; i++)
        if (csp__p_new() == NULL) return csp__start_undo();
    csp__os_warm();
    csp__sched.nprocs = c.procs;
    for (int i = c.procs - 1; i >= 0; i--) csp__idle_push_locked(csp__sched.procs[i]);
    csp__now_refresh();
    csp__sched.monitor_on = true;
    csp__sched.monitor_word = 1;
    /* The monitor takes no signals but those of faults, which cannot be masked. csp's other threads
     * have the mask of the thread that starts the runtime: so raise(), fork and exec do the same in
     * a goroutine as in the program. */
    csp__os_mask_get(&csp__sched.mask);
    int failed = csp__os_thread_start(&csp__sched.monitor, csp__monitor_main, NULL, 0, true);
    if (failed) return csp__start_undo();
    csp__faults_set();
    csp__terminate_set(true);
    csp__release(&csp__sched.running, 1);
    csp__lifecycle(CSP__LIFE_STARTS);
    return CSP_OK;
}

CSP__FN csp__m *csp__foreign_new(void) // NULL when out of memory
{
    csp__m *m = (csp__m *)csp__zalloc(sizeof *m);
    if (m == NULL) return NULL;
    static const csp_x_site site = {"thread", "(a thread of the program)", 0, "\0"};
    m->foreign = true;
    m->err = csp__errno();
    m->rng = (uint64_t)(uintptr_t)m * 0x9E3779B97F4A7C15u + 1;
    m->g = m->cb.g = &m->self;
    m->self = (csp__g){.flags = CSP__G_FOREIGN, .site = &site, .id = csp__new_id(NULL)};
    m->self.cb = &m->cb;
    m->tls = &csp__tls;
    return m;
}

/* Starts the runtime if it is not running, and makes the calling thread known to it. Without memory
 * for that the process ends with a message. A csp_try could not catch a panic here, because csp_try
 * itself is a call that needs the record. `runs`: for csp_run, where the exit status is 2. */
CSP__FN csp__m *csp__attach_slow(csp__m *m, bool runs)
{
    csp_status status = CSP_OK;
    if (csp__sched.sim != NULL)
        csp__fatal("csp called from another thread while a simulation runs");
    if (csp__acquire(&csp__sched.running) == 0) status = csp_init(NULL);
    if (m == NULL && status != CSP_NOMEM) m = csp__foreign_new();
    if (m == NULL || status == CSP_NOMEM) {
        if (runs) csp__sched.in_run = true;
        csp__die(NULL,
                 status == CSP_NOMEM ? "csp cannot start: out of memory or threads"
                                     : "out of memory for a thread's first call",
                 NULL);
    }
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    m->all = csp__sched.foreign_m;
    csp__sched.foreign_m = m;
    csp__set(&m->revoke, CSP__REVOKE_NONE);
    csp__unlock(&csp__sched.lock);
    csp__tls = m;
    csp__os_key_set(csp__foreign_key, m);
    return m;
}

CSP__FN csp__m *csp__attach(csp__m *m)
{
    return csp__attach_slow(m, false);
}

CSP__API csp_status csp_init(const csp_config *config)
{
    csp_status status = CSP_INVALID;
    csp__lock(&csp__sched.start_lock, CSP__RANK_START);
    if (csp__sched.running == 0) status = csp__start_locked(config);
    csp__unlock(&csp__sched.start_lock);
    return status;
}

/* Waits for csp's threads to end. A thread in user code ends when it next calls csp. A thread that
 * does not come back within two seconds is left behind, with all the memory that it may still use;
 * false then. A thread that is inside csp, or has not begun, comes by itself, as soon as the system
 * gives it a CPU: it is waited for, because it uses what is freed next. It is given 30 seconds more
 * at most: a thread that waits for the caller would hold it up for ever. An old value of `gone`
 * costs another look, 10 ms later. */
CSP__FN bool csp__stop_threads(void)
{
    int64_t limit = csp__clock() + 2 * CSP_SECOND, last = limit + 30 * CSP_SECOND;
    csp__set(&csp__sched.stopping, true);
    for (;;) {
        csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
        int n = csp__sched.nthreads;
        bool inside = false;
        for (csp__m *m = csp__sched.all_m; m != NULL; m = m->all) {
            inside = inside || ((csp__acquire(&m->epoch) & 1) && !csp__relaxed(&m->gone));
            csp__ask_to_yield(m, CSP__ANY_TURN);
            csp__m_post_locked(m);
        }
        csp__unlock(&csp__sched.lock);
        int gone = csp__acquire(&csp__sched.ngone);
        if (gone == n) return true;
        int64_t now = csp__clock();
        if (now > limit && (!inside || now > last)) return false;
        csp__os_wait((uint32_t *)&csp__sched.ngone, (uint32_t)gone, 10 * CSP_MILLISECOND);
    }
}

CSP__FN void csp__stop_locked(void)
{
    bool all = csp__stop_threads();
    csp__word_post(&csp__sched.monitor_word, 2);
    csp__os_thread_join(csp__sched.monitor);
    csp__lifecycle(CSP__LIFE_STOPS);
    csp__terminate_set(false);
    csp__hb_after(&csp__heap_sync);
    while (all && csp__sched.all_m != NULL) csp__m_leave_locked(csp__sched.all_m);
    for (csp__m *m; (m = csp__sched.left_m) != NULL; csp__free(m)) {
        csp__sched.left_m = m->link;
        if (!m->joined) csp__os_thread_join(m->thread);
    }
    csp__poll_end(false);
    csp__faults_unset();
    csp__stop_timers();
    if (all) {
        for (csp__slab *s = csp__sched.slabs, *next; s != NULL; s = next) {
            next = s->link;
            for (int i = 0; i < 1023; i++) {
                const csp__g *g = &s->g[i];
                if (g->id != 0 && g->state == CSP__G_FRESH) csp__many_drop(g);
                if (g->id != 0 && g->state != CSP__G_FRESH) csp__free(g->cb->locals);
            }
            csp__os_pages_put(s, sizeof *s);
        }
        csp__stacks_free();
    } else {
        csp__say("csp: a goroutine is still in user code at shutdown; its thread is left behind\n");
        memset(&csp__stacks, 0, sizeof csp__stacks);
    }
    for (int i = 0; i < csp__sched.nmade; i++) {
        csp__free(csp__sched.procs[i]->heap.block);
        if (all) csp__free(csp__sched.procs[i]);
    }
    csp__sched_clear();
}

CSP__API void csp_shutdown(void)
{
    csp__m *m = csp__self();
    if (m != NULL && !m->foreign) csp__throw("csp_shutdown called from a goroutine");
    if (csp__sched.sim != NULL) csp__fatal("csp_shutdown while a simulation runs");
    csp__lock(&csp__sched.start_lock, CSP__RANK_START);
    if (csp__sched.running != 0) csp__stop_locked();
    csp__faults_unset(); /* a child's main goroutine had them, without a runtime */
    csp__foreign_forget();
    csp__os_end();
    if (csp__os_handlers_left) csp__os_stay_loaded();
    csp__unlock(&csp__sched.start_lock);
}

/* Do the frames of csp_run's caller outlive a fork from another thread? Those on a goroutine's
 * stack and on the program's first thread's do. */
CSP__FN bool csp__home_stays(const csp__m *m, const char *frame)
{
    return m->g->cb->home != NULL || csp__os_first_stack(frame);
}

/* The end of csp_run in its caller's frame. Not when a panic is under way that no csp_try catches:
 * it ends the process as a panic within csp_run, with status 2. */
CSP__FN void csp__run_over(void *arg)
{
    csp__home *home = (csp__home *)arg;
    if (!home->ended && home->caller->g->cb->tries == NULL) return;
    csp__sched.home = home->outer;
    csp__sched.in_run = false;
    csp__release(&csp__sched.one_run, 0);
}

CSP__FN CSP__NOINLINE void csp__run_main(const csp_x_site *site, void (*fn)(void *), void *arg)
{
    csp_opts opts = {NULL, (size_t)8 << 20};
    if (csp__self() == NULL) csp__attach_slow(NULL, true);
    csp__m *m = csp__enter();
    csp__plain plain = {fn, arg};
    csp__home home = {.outer = csp__sched.home, .caller = m};
    bool foreign = m->foreign;
    csp__leave(m);
    if (!foreign) csp__throw("csp_run called from a goroutine");
    if (csp__swap(&csp__sched.one_run, 1) != 0) csp__throw("csp_run while another one runs");
    home.stays = csp__home_stays(m, (const char *)__builtin_frame_address(0));
    csp_defer(csp__run_over, &home); /* also when there is no memory for the goroutine */
#if CSP__ASAN
    csp__m_begin(m);
#endif
    if (CSP_X_SETJMP(home.mark) != 0) { /* in a child, see FORK */
#if CSP__ASAN
        __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
        home.ended = true;
        return;
    }
    csp__sched.home = &home;
    m = csp__enter();
    csp__set(&csp__sched.run_exit, CSP__RUN_STARTS); /* goroutines of before may all be asleep */
    csp__sched.in_run = true;
    csp__spawn(m, &opts, site, csp__plain_run, &plain, sizeof plain, CSP__G_MAIN);
    csp__leave(m);
    uint32_t starts = CSP__RUN_STARTS;
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    if (csp__cas(&csp__sched.run_exit, &starts, CSP__RUN_GOES_ON) && csp__deadlock_check_locked())
        csp__sleeper_poke_locked();
    csp__unlock(&csp__sched.lock);
    while (csp__acquire(&csp__sched.run_exit) != CSP__RUN_ENDED)
        csp__os_wait(&csp__sched.run_exit, CSP__RUN_GOES_ON, CSP_FOREVER);
    home.ended = true;
    csp__lifecycle(CSP__LIFE_MAIN_ENDED);
}

CSP__API void csp_x_run(const csp_x_site *site, void (*fn)(void *), void *arg)
{
    csp__need(fn);
    bool before = csp__acquire(&csp__sched.running) != 0;
    csp__run_main(site, fn, arg);
    if (!before) csp_shutdown();
}

typedef struct csp__program {
    int argc, code;
    char **argv;
    int (*fn)(int, char **);
} csp__program;

CSP__FN void csp__program_run(void *arg)
{
    csp__program *program = (csp__program *)arg;
    program->code = program->fn(program->argc, program->argv);
}

CSP__API int csp_x_main(const csp_x_site *site, int argc, char **argv, int (*fn)(int, char **))
{
    csp__program program = {argc, 0, argv, fn};
    csp__run_main(site, csp__program_run, &program);
    /* The other goroutines end with the process. Threads that have ended are joined, so that tools
     * do not call them leaks. */
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__m *left = csp__sched.left_m, **end = &left;
    csp__sched.left_m = NULL;
    csp__unlock(&csp__sched.lock);
    for (; *end != NULL; end = &(*end)->link) /* not under the lock: see csp__m_create_locked */
        if (!(*end)->joined) (*end)->joined = csp__os_thread_join((*end)->thread) == 0;
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    *end = csp__sched.left_m;
    csp__sched.left_m = left;
    csp__unlock(&csp__sched.lock);
    /* Valgrind calls memory that belongs to a living thread "possibly lost". */
    if (CSP__UNLIKELY(csp__relaxed(&csp__valgrind_stacks) != 0)) csp_shutdown();
    return program.code;
}

/* ==========================================================================
 * [24] SELF - what a goroutine may ask for
 *
 * Calls that concern the calling goroutine, its thread and the processors.
 *
 *   uses   PLATFORM BASE PROFILE SYSTEM LOCKS CORE TAPES RUNQ WAKE PARK GO SCHED PANIC BOOT
 *   locks  sched.lock sched.start_lock
 * ======================================================================== */

CSP__FN CSP__NOINLINE void csp__yield_slow(csp__m *m, bool first)
{
    if (first) m = csp__enter_outlined(m);
    csp__p *p = m->p;
    if (p == NULL) {
        csp__leave(m);
        csp__os_yield();
        return;
    }
    csp__g *g = m->g;
    /* If there are goroutines in the global queue, this one goes behind them: the ring of a P whose
     * goroutines all yield never runs dry, and they would wait for ever. */
    bool behind = csp__relaxed(&csp__sched.nglobal) != 0;
    if (behind || (g->flags & CSP__G_BOUND) || csp__turn_is_fair(p)) {
        csp__requeue(m, behind || CSP_TORTURE);
        return;
    }
    csp__g *n = csp__p_pop(p);
    if (n == NULL) {
        csp__leave(m);
        return;
    }
    csp__g_save(m, g);
    csp__hb_before(g);
    csp__ring_push(p, g); /* g.busy keeps thieves off until this thread has left g's stack */
    csp__park_for(m, g, n);
}

/* The short way: this goroutine goes to the end of the ring, and the ring's first one runs. */
CSP__API void csp_yield(void)
{
    csp__m *m = csp__self();
    uint64_t epoch;
    if (CSP__UNLIKELY(!csp__enter_epoch(m, &epoch))) {
        csp__yield_slow(m, true);
        return;
    }
    csp__p *p = m->p; /* a goroutine that has entered has one */
    csp__g *g = m->g;
    if (CSP__UNLIKELY(CSP_TORTURE || (g->flags & (CSP__G_FOREIGN | CSP__G_BOUND | CSP__G_SLOW)) ||
                      p->next != NULL || csp__turn_is_fair(p) ||
                      csp__relaxed(&csp__sched.nglobal) != 0)) {
        csp__yield_slow(m, false);
        return;
    }
    csp__g *n = csp__ring_pop(p);
    if (n == NULL) {
        csp__leave(m);
        return;
    }
    csp__bump(&p->yields);
    g->err = *m->err;
    csp__set(&g->state, CSP__G_RUNNABLE);
    csp__hb_before(g);
    uint32_t tail = p->tail; /* there is room: one has just been taken out */
    csp__set(&p->ring[tail % CSP__RING], g);
    csp__release(&p->tail, tail + 1);
    if (CSP__UNLIKELY((n->flags & CSP__G_NOT_PLAIN) || csp__acquire(&n->busy) != 0))
        csp__park_for(m, g, n);
    else
        csp__run_fast(m, p, epoch, n, g->cb, &g->sp, &g->busy); // acq <g.busy>
}

/* csp_exit in the main goroutine of a fork's child. Its stack is the thread's own and must stay, so
 * the thread parks for ever. */
CSP__FN CSP__COLD __attribute__((noreturn)) void csp__main_exits(csp__m *m)
{
    m->main = 2;
    csp__sched.child_in_run = true;
    for (;;) {
        csp__foreign_park(m, m->g, CSP_FOREVER);
        csp__enter();
    }
}

CSP__FN __attribute__((noreturn)) void csp__exit(csp__cb *cb, csp_x_try *none)
{
    (void)none;
    csp__unwind(&cb->defers, NULL, &cb->forks.x);
    csp__m *m = csp__enter();
    if (m->foreign) csp__main_exits(m);
    m->g->flags &= (uint8_t)~CSP__G_MAIN; // main has not returned: the others go on
    cb->exited = true;
    csp__g_leave(m, csp__g_retire(m), NULL);
}

CSP__API void csp_exit(void)
{
    csp__m *m = csp__enter();
    bool plain = m->foreign && m->main == 0;
    csp__cb *cb = m->g->cb;
    csp__leave(m);
    if (plain) csp__throw("csp_exit called from a thread that is not a goroutine");
    cb->tries = NULL; /* a defer that panics now ends the process: no csp_try is left */
    csp__cxx_unwind(cb, NULL, "", csp__exit);
    csp__exit(cb, NULL);
}

CSP__API int64_t csp_count(void)
{
    int64_t n = (int64_t)csp__relaxed(&csp__sched.spawned_foreign);
    for (int i = 0; i < csp__nmade(); i++) {
        csp__p *p = csp__sched.procs[i];
        n += (int64_t)(csp__relaxed(&p->spawned) - csp__relaxed(&p->ended));
    }
    return n;
}

CSP__API void csp_set_name(const char *name)
{
    csp__cb *cb = csp__current()->cb;
    csp__copy_text(cb->name, name == NULL ? "" : name, sizeof cb->name);
}

CSP__API int csp_ncpu(void)
{
    return csp__os_cpus();
}

CSP__API int csp_max_threads(int n)
{
    csp__m *m = csp__enter();
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    int before = csp__sched.config.max_threads;
    if (n > 0) csp__sched.config.max_threads = n;
    csp__unlock(&csp__sched.lock);
    csp__leave(m);
    return before;
}

/* Takes the Ps with numbers from n on away from their threads. Where the goroutine is in user code
 * that is done at once; where it is inside csp, its thread is asked, and gives the P up. */
CSP__FN void csp__procs_shrink(int n)
{
    for (int i = n; i < csp__sched.nmade; i++) {
        csp__p *p = csp__sched.procs[i];
        for (int tries = 0;; tries++) {
            csp__m *m = csp__acquire(&p->m);
            if (m == NULL)
                break; /* an idle P is off the list by now; a thread that gives it up retires it */
            csp__barrier_await();
            csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
            bool taken = csp__revoke_p(m, p, 0);
            if (taken) csp__idle_push_locked(p);
            csp__unlock(&csp__sched.lock);
            if (taken) break;
            csp__ask_to_yield(m, CSP__ANY_TURN);
            if (tries > 10) csp__os_yield();
        }
    }
}

CSP__API int csp_procs(int n)
{
    csp__m *m = csp__enter();
    int before = csp__sched.nprocs;
    csp__leave(m);
    if (n > CSP_MAX_PROCS) n = CSP_MAX_PROCS;
    if (n < 1 || n == before || csp__sched.sim != NULL) return before;
    csp__lock(&csp__sched.start_lock, CSP__RANK_START);
    before = csp__sched.nprocs;
    while (csp__sched.nmade < n && csp__p_new() != NULL) continue;
    if (n > csp__sched.nmade) n = csp__sched.nmade;
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    csp__set(&csp__sched.nprocs, n);
    csp__sched.idle_p = NULL; /* made anew: a P without an owner is idle, or has been retired */
    csp__set(&csp__sched.nidle_p, 0);
    for (int i = csp__sched.nmade; i-- > 0;)
        if (csp__sched.procs[i]->m == NULL) csp__idle_push_locked(csp__sched.procs[i]);
    csp__unlock(&csp__sched.lock);
    csp__procs_shrink(n); /* maybe this thread's own P too: it counts as in user code here */
    csp__unlock(&csp__sched.start_lock);
    m = csp__enter();
    csp__wake(); /* a submitter that read nidle_p while it was 0 has woken no thread */
    csp__leave(m);
    return before;
}

CSP__API void csp_lock_thread(void)
{
    csp__m *m = csp__enter();
    if (!m->foreign && m->g->cb->thread_locks++ == 0) {
        m->g->flags |= CSP__G_BOUND;
        m->g->cb->bound = m;
        m->bound_g = m->g;
        /* The thread's thread-locals were written when it began, and by goroutines that were locked
         * to it before. ThreadSanitizer is told of that order here and nowhere else: goroutines
         * that only happen to run on the same thread are not ordered by it. */
        csp__hb_after(m);
    }
    csp__leave(m);
}

CSP__API void csp_unlock_thread(void)
{
    csp__m *m = csp__enter();
    csp__cb *cb = m->g->cb;
    if (!m->foreign && cb->thread_locks > 0 && --cb->thread_locks == 0) csp__unbind(m);
    csp__leave(m);
}

CSP__API void *csp_local_get(csp_local *local)
{
    csp__need(local);
    csp__cb *cb = csp__current()->cb;
    uint32_t key = csp__acquire(&local->key);
    return key == 0 || key > cb->nlocals ? NULL : cb->locals[key - 1];
}

CSP__API void csp_local_set(csp_local *local, void *value)
{
    csp__need(local);
    csp__cb *cb = csp__current()->cb;
    uint32_t key = csp__acquire(&local->key), none = 0;
    if (key == 0) {
        key = csp__add(&csp__sched.local_keys, 1);
        if (!csp__cas(&local->key, &none, key)) key = none;
    }
    if (key > cb->nlocals) {
        uint32_t n = (key + 7) & ~7u;
        void **more = (void **)csp__realloc(cb->locals, n * sizeof *more);
        if (more == NULL) csp__throw_memory(n * sizeof *more);
        memset(more + cb->nlocals, 0, (n - cb->nlocals) * sizeof *more);
        cb->locals = more;
        cb->nlocals = n;
    }
    cb->locals[key - 1] = value;
}

CSP__API void csp_x_blocking(void)
{
    csp__m *m = csp__enter();
    csp__p *p = m->p;
    if (p != NULL && csp__sched.sim == NULL) {
        csp__set(&m->blocking, m->epoch + 1); /* the value of epoch until the next call of csp */
        uint32_t none = CSP__REVOKE_NONE;
        if (csp__relaxed(&csp__sched.takes) != 0) csp__cas(&m->revoke, &none, CSP__REVOKE_BLOCKING);
        if (csp__relaxed(&csp__sched.blocking) == 0) csp__set(&csp__sched.blocking, 1);
        /* A submitter that makes work after this sees the mark. It has no fence, so both sides may
         * miss each other: then the monitor takes the P, 10 ms later. */
        csp__fence();
        if (csp__p_wanted(p)) {
            csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
            if (!csp__sched.stopping) { /* a thread that takes a P holds the lock: none does now */
                csp__note_taken(m);
                m->p = NULL;
                csp__set(&p->m, NULL);
                csp__set(&m->revoke, CSP__REVOKE_TAKEN);
                csp__hand_off_locked(p);
            }
            csp__unlock(&csp__sched.lock);
        }
    }
    csp__leave(m);
}
#endif /* !CSP_BARE */

/* ############################################ BARE ############################################ */
/* ==========================================================================
 * [25] BARE - the other kernel: bare metal, one core without a system
 *
 * One thread of control, and the interrupt handlers above it. A goroutine runs until it waits, ends
 * or gives the core away. It switches to the next goroutine by itself. main runs on the stack that
 * the startup code gave it (m->boot), and the scheduler is a loop on main's stack: it runs while
 * main waits, fires the timers, and lets the core sleep. A goroutine has no state word. Its place
 * is its state:
 *
 *     csp__spawn          csp__next_masked            csp__g_end            csp__bury
 *     ----------> READY  ----------------->  RUNNING  ----------->  DEAD  -----------> freed
 *                  ^ ^                        |   |
 *                  | +---- csp__away (again) -+   | csp__park
 *                  |                              v
 *                  +-- csp__ready: a waker, ---- WAITING
 *                      a handler, a timer
 *
 *   READY     in m->queues; guarded by the mask, since handlers append
 *   RUNNING   m->g; only a running goroutine changes its stack
 *   WAITING   in no queue of m; in those of what it waits for
 *   DEAD      in m->dead, after its last switch; on a stack of the user's it is in no list
 *
 *   uses   PLATFORM BASE CONTEXT PROFILE CORE
 *   locks  none
 * ======================================================================== */

#ifdef CSP_BARE

#define CSP__ONE_CORE 1
#define csp__relaxed(p) (*(p))
#define csp__acquire(p) (*(p))
#define csp__set(p, v) ((void)(*(p) = (v)))
#define csp__release(p, v) ((void)(*(p) = (v)))
#ifndef CSP_PREEMPT
#define csp__add(p, v) (*(p) += (v))
#endif
#define csp__lock(lock, rank) ((void)(lock))
#define csp__unlock(lock) ((void)(lock))
#define csp__os_yield() ((void)0)
#define csp__sim_point() ((void)0)
#define csp__pause() ((void)0)
#define csp__lock_pause(n) ((void)(n))
#define csp__spins() false
#define csp__torture_delay(m) ((void)(m))
#define csp__fence() ((void)0)
#define csp__fence_light() ((void)0)
#define csp__fence_heavy() ((void)0)
#define csp__barrier_open() true
#define csp__rw_lane() 0u

typedef struct csp__g csp__cb; // goroutine and control block are one record here
#define csp__cb_of(g) (g)
#define CSP__WAITER(w, g) csp__waiter w##_here, *w = &w##_here

/* A timer in the list of timers, which is in the order of deadlines. The timer of a wait lies on
 * the stack of the goroutine that waits. Touched by goroutines and the scheduler only, not by
 * handlers. */
typedef struct csp__timer {
    int64_t when;
    void (*fire)(struct csp__timer *, int64_t now);
    struct csp__timer *next;
    csp__p *p;       // NULL: in no list
    bool feeds_chan; // immutable: it only fills a channel
} csp__timer;

enum {
    CSP__G_MAIN = 2,
    CSP__G_SYSTEM = 8,
    CSP__G_PLACED = 16,
    CSP__TURN = 8,       // calls; at 100 us of work each, a timer is less than a millisecond late
    CSP__AGAIN_FIRST = 2 // of csp__away
};
#define CSP__MSP_GAP 256 // the largest frame of a switch, 116 bytes, above an exception's, 108

/* A goroutine. Its record lies above its own stack, where no overflow reaches it, in one piece of
 * memory with the stack: csp__spawn takes it, csp__bury frees it. */
struct csp__g {
#ifndef CSP_NO_NAMES
    const csp_x_site *site;
    const char *name;
#endif
    csp__g *all;  // the next one in the list of all goroutines
    csp__g *link; // the next one in a queue of runnable goroutines, or in the list of the dead
    uint32_t id;
    uint32_t size; // bytes of the stack, a multiple of 32, and CSP__G_... in the low bits
    csp_x_defer *defers;
    csp_x_forks forks;
#ifndef CSP_NO_PANIC
    csp_x_try *tries, *caught;
#endif
    void *locals;
    uint32_t ticket;
    void *sp; // while not running
    union {
        const char *what; // while it waits: what for, shown by csp_dump
        void *result;     // from the waker on: what csp__park returns
    };
#if CSP_PRIORITIES > 1
    uint8_t level, own;       // level: own, the priority of its spawn, or a higher one that is lent
    bool queued;              // READY
    csp_mutex *held, *wanted; // the list of the mutexes that it holds; the one that it waits for
#endif
};

#define csp__size(g) ((g)->size & ~(uint32_t)31)
#define csp__low(g) ((uintptr_t *)(void *)((char *)(g)-csp__size(g)))

/* A block of memory. `next` is there only while the block is free; the list is in the order of
 * addresses. */
#ifndef CSP_NO_MEMORY
typedef struct csp__block {
    size_t size; // of all of it, with this word
    struct csp__block *next;
} csp__block;
#endif

/* The one core: scheduler, timers and memory. */
struct csp__m {
    csp__g *g; // the running goroutine; NULL: the scheduler runs
#if CSP_PRIORITIES > 1
    uint32_t ready; // bit n: queue n is not empty; guarded by the mask, as the queues are
#endif
    csp_x_queue queues[CSP_PRIORITIES]; // runnable goroutines, a queue for each priority
#ifdef CSP_PREEMPT
    uint32_t inside; // calls into csp that the running goroutine is in; see PREEMPTION
    uint32_t *back;  // Cortex-M: of the preempted goroutine that goes on
    bool yields;     // csp_isr_yield has been called
#endif
    uintptr_t irq; // what csp__unmask gives back to the port
    csp__timer *timers;
    bool masked;   // csp__mask is on
    bool running;  // between csp_init and csp_shutdown
    uint32_t turn; // see A TURN
    csp__g *all;
    uint32_t rng, switches, ids, count;
    size_t stack_size;
#ifndef CSP_NO_MEMORY
    csp__g *dead;
    csp__block *free;
    size_t memory, used, peak;
#endif
    csp__g boot;
    char text[CSP_PANIC_MESSAGE_SIZE]; // the message of a fatal error: a stack may be too small
};
static csp__m csp__bare;
#define csp__self() (&csp__bare)
#ifdef CSP_PREEMPT
#define csp__leave(m) csp__bare_leave(m)
#define csp__reenter(m) (csp__inside_set(m, (m)->inside + 1), (m))
#else
#define csp__leave(m) ((void)(m))
#define csp__reenter(m) (m)
#endif

CSP__FN void csp__give_way(csp__m *m); // circle: a call may let another goroutine run

#ifdef CSP_PREEMPT
/* PREEMPTION. The words that goroutines share in csp are not locked: "inside csp nothing else runs
 * but handlers". So a goroutine is preempted outside csp only, and m->inside says whether it is:
 *
 *     the goroutine                            a handler (csp__isr_leave)
 *     1 inside = 1: csp__enter                 1 a goroutine becomes ready
 *     2 its call                               2 inside is 0: asks for csp_preempt
 *     3 inside = 0: csp__leave                   else: does nothing
 *     4 is a higher one ready? Gives way
 *
 * A handler runs as a whole between two instructions of the goroutine. Before 3 it finds inside not
 * 0, and 4 comes after it. After 3 it asks. So no goroutine of higher priority is forgotten. Were 4
 * before 3, one that became ready between them would wait for the next call.
 *   inside counts, since calls are made of calls; it is the running goroutine's, and each switch
 * brings that of the next goroutine (csp__away_inside). csp__park counts as the csp__leave of its
 * call. What a csp_try catches has left csp (csp__vthrow).
 *   csp_preempt runs when all handlers have ended. It makes the interrupted goroutine call
 * csp__preempted before its next instruction, on its own stack, inside csp, with all its registers
 * saved there. That is a call of csp as others are, so the switch is the same.
 *   The scheduler is inside csp; main, which is no goroutine, is not preempted. */
CSP__FN inline void csp__inside_set(csp__m *m, uint32_t n)
{
    __asm__ volatile("" ::: "memory");
    m->inside = n;
    __asm__ volatile("" ::: "memory");
}

/* The end of a call into csp: the goroutine gives way to what a handler or its own call has made
 * ready meanwhile. */
CSP__FN CSP__NOINLINE void csp__bare_leave(csp__m *m)
{
    csp__inside_set(m, m->inside - 1);
    if (m->inside == 0) csp__give_way(m);
}
#endif

/* The mask. It guards the things that interrupt handlers touch: channels, tickets, the queues of
 * runnable goroutines. It lasts for a bounded number of instructions. It does not nest: only
 * csp__ready and csp__ticket_claim, which save the port's state themselves, may be called within
 * it. A handler that the port does not mask finds `masked` set, see csp__isr_check. The barriers
 * keep each change between the two stores to `masked`. Without them the compiler drops the first
 * store where it sees both, and such a handler would tear the queues without a word. */
CSP__FN inline void csp__masked_set(csp__m *m, bool on)
{
    __asm__ volatile("" ::: "memory");
    m->masked = on;
    __asm__ volatile("" ::: "memory");
}

CSP__FN CSP__NOINLINE void csp__mask(void)
{
    uintptr_t was = csp_port_irq_save();
    csp__bare.irq = was;
    csp__masked_set(&csp__bare, true);
}

CSP__FN CSP__NOINLINE void csp__unmask(void)
{
    csp__masked_set(&csp__bare, false);
    csp_port_irq_restore(csp__bare.irq);
}
#define csp__chan_lock(c) ((void)(c), csp__mask())
#define csp__chan_unlock(c) ((void)(c), csp__unmask())

/* Lets pending interrupts in, between two steps that would be too long together. True: it did, and
 * a handler may have changed the queue. */
CSP__FN CSP__NOINLINE bool csp__chan_rest(void)
{
    if (!csp__bare.masked) return false;
    csp__unmask();
    csp__mask();
    return true;
}

#define CSP__OUTLINED

/* Copies a large element within the mask, and drops the mask meanwhile. No handler uses a channel
 * of such elements: csp_isr_send does not compile for it. So only this goroutine touches the
 * channel. */
CSP__FN CSP__NOINLINE void csp__chan_move_large(void *to, const void *from, size_t size)
{
    csp__unmask();
    memcpy(to, from, size);
    csp__mask();
}

/* Copies an element within the mask. By the word: the memcpy of a small libc copies by the byte,
 * and the mask would last longer. */
CSP__FN CSP__NOINLINE void csp__chan_move(void *to, const void *from, size_t size)
{
    typedef uintptr_t __attribute__((may_alias)) word;
    word *t = (word *)to;
    const word *f = (const word *)from;
    if (size > CSP_ISR_SIZE) {
        csp__chan_move_large(to, from, size);
    } else if ((((uintptr_t)to | (uintptr_t)from | size) & (sizeof(word) - 1)) == 0) {
        for (; size != 0; size -= sizeof(word)) *t++ = *f++;
    } else {
        memcpy(to, from, size);
    }
}

/* Clears an element within the mask, a large one without it: see csp__chan_move_large. */
CSP__FN void csp__chan_zero(void *to, size_t size)
{
    if (size > CSP_ISR_SIZE) csp__unmask();
    memset(to, 0, size);
    if (size > CSP_ISR_SIZE) csp__mask();
}

/* A comparison and a store are enough on one core: see THE CONTRACT OF A PROFILE. With CSP_PREEMPT
 * they are masked, since some callers are not inside csp. */
#ifdef CSP_PREEMPT
#define csp__atomic_begin() uintptr_t csp__was = csp_port_irq_save()
#define csp__atomic_end() csp_port_irq_restore(csp__was)

CSP__FN CSP__NOINLINE uint32_t csp__add(uint32_t *p, uint32_t v)
{
    csp__atomic_begin();
    uint32_t sum = *p += v;
    csp__atomic_end();
    return sum;
}
#else
#define csp__atomic_begin() ((void)0)
#define csp__atomic_end() ((void)0)
#endif

CSP__FN inline bool csp__cas(uint32_t *p, uint32_t *old, uint32_t value)
{
    csp__atomic_begin();
    uint32_t seen = *p;
    if (seen == *old) {
        *p = value;
        csp__atomic_end();
        return true;
    }
    csp__atomic_end();
    *old = seen;
    return false;
}

CSP__FN inline uint32_t csp__swap(uint32_t *p, uint32_t value)
{
    uint32_t old = *p;
    *p = value;
    return old;
}

/* Masks by itself, since handlers claim tickets, too. Nests in the mask of a channel. */
CSP__FN CSP__NOINLINE bool csp__ticket_claim(uint32_t *ticket)
{
    csp__m *m = &csp__bare;
    uintptr_t was = csp_port_irq_save();
    bool deep = m->masked;
    csp__masked_set(m, true);
    uint32_t seen = csp__swap(ticket, 1);
    csp__masked_set(m, deep);
    csp_port_irq_restore(was);
    return seen == 0;
}

/* ---- messages: a printf that knows %s %c %d %u %x %p %%, l, ll and z, and nothing else ---- */

/* Prints at most size - 1 bytes and a 0; returns the number of bytes. */
CSP__FN size_t csp__vprint(char *out, size_t size, const char *format, va_list ap)
{
    size_t n = 0;
    for (char c; (c = *format++) != 0;) {
        char digits[24], *s = &digits[23];
        int longs = 0;
        digits[23] = 0;
        if (c == '%') {
            for (; (c = *format++) == 'l' || c == 'z'; longs++) {
                if (c == 'z' && sizeof(size_t) > sizeof(int)) longs = 1;
            }
            if (c == 's') {
                s = va_arg(ap, char *);
            } else if (c == 'd' || c == 'u' || c == 'x' || c == 'p') {
                bool minus = false;
                uint64_t v;
                if (longs > 1 || (longs == 1 && sizeof(long) > sizeof(int)) ||
                    (c == 'p' && sizeof(void *) > sizeof(int)))
                    v = va_arg(ap, uint64_t);
                else if (c == 'd')
                    v = (uint64_t)(int64_t)va_arg(ap, int);
                else
                    v = va_arg(ap, unsigned);
                if (c == 'd' && (int64_t)v < 0) minus = true, v = 0 - v;
                do {
                    unsigned rest = 0, base = c == 'x' || c == 'p' ? 16 : 10;
                    for (int i = 0; i < 64; i++) { // `/` would be a large function of libgcc
                        rest = rest << 1 | (unsigned)(v >> 63);
                        v <<= 1;
                        if (rest >= base) rest -= base, v |= 1;
                    }
                    *--s = "0123456789abcdef"[rest];
                } while (v != 0);
                if (minus) *--s = '-';
            } else {
                *--s = c == 'c' ? (char)va_arg(ap, int) : c;
            }
        } else {
            *--s = c;
        }
        for (; *s != 0 && n + 1 < size; s++) out[n++] = *s;
    }
    out[n] = 0;
    return n;
}

CSP__FN CSP__COLD __attribute__((format(printf, 3, 4))) size_t csp__print(char *out, size_t size,
                                                                          const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    size_t n = csp__vprint(out, size, format, ap);
    va_end(ap);
    return n;
}

/* ---- panics ---- */

/* Each way to csp_port_fatal leads through here. */
CSP__FN CSP__INLINE __attribute__((noreturn)) void csp__fatal(const char *text)
{
    CSP_HOOK_FATAL(text);
    csp_port_fatal(text);
}

/* What the hooks are told of g, NULL being the scheduler. */
CSP__FN inline const char *csp__hook_name(const csp__g *g)
{
#ifndef CSP_NO_NAMES
    if (g != NULL && g->name != NULL) return g->name;
    if (g != NULL && g->site != NULL) return g->site->name;
#endif
    (void)g;
    return "";
}

/* What they are told of a call: csp_x_isr_send without its prefix. */
CSP__FN inline const char *csp__hook_call(const char *call)
{
#ifdef CSP_NO_NAMES
    (void)call;
    return "";
#else
#ifdef CSP_PREEMPT
    return call + (call[4] == 'x' ? 6 : 4); // csp_isr_yield
#else
    return call + 6;
#endif
#endif
}

/* Does a handler call? Cortex-M tells. Elsewhere a stack pointer outside the goroutine's stack
 * tells: handlers that run on the goroutine's own stack are not found. */
CSP__FN bool csp__in_handler(csp__m *m)
{
#if CSP__ARM_M
    uint32_t number;
    (void)m;
    __asm__ volatile("mrs %0, ipsr" : "=r"(number));
    return number != 0;
#else
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    return m->g == NULL || (m->g != &m->boot && here - (uintptr_t)csp__low(m->g) > csp__size(m->g));
#endif
}

/* Appends the name of g and the place of its spawn to the n bytes of the message, and ends. */
CSP__FN CSP__COLD __attribute__((noreturn)) void csp__die(csp__g *g, size_t n)
{
#ifndef CSP_NO_NAMES
    char *text = csp__bare.text;
    if (g != NULL && g->site != NULL)
        csp__print(text + n, sizeof csp__bare.text - n, " [%s %s:%d]",
                   g->name != NULL ? g->name : g->site->name, g->site->file, g->site->line);
#endif
    (void)g;
    (void)n;
    csp__fatal(csp__bare.text);
}

#ifdef CSP_NO_PANIC
#define csp__throw(message) csp__fatal(message)
#define csp__throw_at(message, at) csp__throw(message)
#define csp__panic_at(at, ...) csp_panic(__VA_ARGS__)
#define csp__vthrow(format, ap) csp__fatal(format)
#else
/* Ends in the innermost csp_try, or in csp__die. The message is printed to its last place at once,
 * the csp_try's or m->text: stacks are too small for a copy. */
CSP__FN CSP__COLD __attribute__((noreturn)) void csp__vthrow(const char *format, va_list ap)
{
    csp__m *m = &csp__bare;
    csp__g *g = csp__in_handler(m) ? NULL : m->g;
#ifdef CSP_PREEMPT
    if (g != NULL) csp__inside_set(m, 1), csp__bare_leave(m); // what is thrown has left csp
#endif
    csp_x_try *t = g == NULL ? NULL : g->tries;
    size_t n = 0;
    if (t != NULL) {
        csp__vprint(t->info.message, sizeof t->info.message, format, ap);
    } else {
        n = csp__print(m->text, sizeof m->text, "panic: ");
        n += csp__vprint(m->text + n, sizeof m->text - n, format, ap);
    }
    if (g != NULL) csp__unwind(&g->defers, t, &g->forks);
    if (t == NULL) csp__die(g, n);
    g->tries = t->prev;
    g->caught = t;
    csp_x_mark_jump(t->mark);
}

#define csp__throw(message) (csp_panic)("%s", message)
#define csp__throw_at(message, at) csp__throw(message)
#define csp__panic_at(at, ...) csp_panic(__VA_ARGS__)
#endif

CSP__API void(csp_panic)(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    csp__vthrow(format, ap);
}

CSP__FN CSP__COLD __attribute__((noreturn)) void csp__throw_memory(size_t size)
{
#ifdef CSP_NO_PANIC
    csp__print(csp__bare.text, sizeof csp__bare.text, "out of memory (%zu bytes)", size);
    csp__fatal(csp__bare.text);
#else
    (csp_panic)("out of memory (%zu bytes)", size);
#endif
}

/* `call` is the name of the function that was called wrongly; it is shown under its public name. */
CSP__FN CSP__COLD __attribute__((noreturn)) void csp__bare_misuse(const char *call, const char *why)
{
    call += call[4] == 'x' ? 6 : call[4] == '_' ? 5 : 4; // csp_x_send, csp__run_fast
    csp__print(csp__bare.text, sizeof csp__bare.text, "csp_%s called %s", call, why);
    csp__fatal(csp__bare.text);
}

/* Does not return. It is not declared noreturn: so the caller may call it by a jump. */
CSP__FN CSP__COLD csp__m *csp__bare_refuse(const char *call)
{
    csp__bare_misuse(call, csp__bare.running ? "by an interrupt handler" : "before csp_init");
}

/* Every public call that is not for interrupt handlers begins here. */
CSP__FN CSP__NOINLINE csp__m *csp__bare_enter(const char *call)
{
    csp__m *m = &csp__bare;
    if (CSP__UNLIKELY(!m->running || csp__in_handler(m))) return csp__bare_refuse(call);
#ifdef CSP_PREEMPT
    if (m->inside == 0) csp__give_way(m); // main, which is not preempted
    csp__inside_set(m, m->inside + 1);
#else
    if (CSP_PRIORITIES > 1) csp__give_way(m);
#endif
    return m;
}
#define csp__enter() csp__bare_enter(CSP__CALLER)
#ifdef CSP_PREEMPT
/* The running goroutine, for calls that touch nothing of others. */
CSP__FN CSP__NOINLINE csp__g *csp__bare_current(const char *call)
{
    csp__m *m = csp__bare_enter(call);
    csp__bare_leave(m);
    return m->g;
}
#define csp__current() csp__bare_current(CSP__CALLER)

/* The rest of the caller's block is inside csp. */
CSP__FN inline void csp__stay_end(const uint32_t *was)
{
    csp__inside_set(&csp__bare, *was + 1);
    csp__bare_leave(&csp__bare);
}
#define csp__goroutine_only()                                                                      \
    __attribute__((cleanup(csp__stay_end), unused)) const uint32_t csp__stay =                     \
        csp__bare_enter(CSP__CALLER)->inside - 1
#else
#define csp__current() (csp__enter()->g)
#define csp__goroutine_only() ((void)csp__enter())
#endif

/* Every public call that is for handlers begins here. A handler of a priority that the port's mask
 * does not hold back may have interrupted csp in a change. Its call would work on half of it. */
CSP__FN CSP__NOINLINE csp__m *csp__isr_check(const char *call)
{
    csp__m *m = &csp__bare;
    CSP_HOOK_HANDLER(csp__hook_call(call));
#ifdef CSP_PREEMPT
    if (CSP__LIKELY(!m->masked)) csp__inside_set(m, m->inside + 1);
#endif
    if (CSP__LIKELY(!m->masked)) return m;
    csp__bare_misuse(call, "by a handler above the mask");
}

/* ---- memory ---- */

#define CSP__UNIT (2 * sizeof(void *))

#ifdef CSP_NO_MEMORY
/* Everything is in memory of the user's. What would be taken is refused by the compiler; the rest,
 * as a csp_select_n of many cases, finds none. */
#define csp__mem_take(size) ((void)(size), (void *)NULL)
CSP__FN void csp__free(void *p)
{
    (void)p;
}
#define csp__bury() ((void)0)
#define csp__bury_later(m, g) ((void)(m), (void)(g))

/* Does a living goroutine have its record or stack between low and end? */
CSP__FN bool csp__memory_lived_in(const csp__m *m, const char *low, const char *end)
{
    for (csp__g *g = m->all; g != NULL; g = g->all)
        if ((char *)csp__low(g) < end && low < (char *)(g + 1)) return true;
    return false;
}
#else
#define csp__memory_lived_in(m, low, end) false

/* Makes one block of the free block b and the next free one, if they touch. */
CSP__FN void csp__join(csp__block *b)
{
    if ((char *)b + b->size != (char *)b->next) return;
    b->size += b->next->size;
    b->next = b->next->next;
}

/* Puts a block back into the list, and joins it with its free neighbours. */
CSP__FN void csp__free(void *p)
{
    if (p == NULL) return;
    csp__m *m = csp__reenter(&csp__bare);
    csp__block *b = (csp__block *)(void *)((char *)p - sizeof(size_t)), **at = &csp__bare.free;
    csp__block *before = NULL;
    csp__bare.used -= b->size;
    for (; *at != NULL && *at < b; at = &before->next) before = *at;
    b->next = *at;
    *at = b;
    csp__join(b);
    if (before != NULL) csp__join(before);
    csp__leave(m);
}

/* Frees the dead goroutines. csp__g_end cannot free its own stack: it runs on it until its switch.
 * So this is called by other goroutines and the scheduler, after that switch. */
CSP__FN void csp__bury(void)
{
    for (csp__g *g; (g = csp__bare.dead) != NULL;) {
        csp__bare.dead = g->link;
        csp__free(csp__low(g));
    }
}

CSP__FN inline void csp__bury_later(csp__m *m, csp__g *g)
{
    if (g->size & CSP__G_PLACED) return;
    g->link = m->dead;
    m->dead = g;
}

/* The first free block that is large enough, cut to size. NULL: there is none. */
CSP__FN void *csp__mem_cut(size_t size)
{
    size_t n = (size + sizeof(size_t) + CSP__UNIT - 1) & ~(CSP__UNIT - 1);
    csp__bury();
    if (n < size) return NULL;
    for (csp__block **at = &csp__bare.free, *b; (b = *at) != NULL; at = &b->next) {
        if (b->size < n) continue;
        if (b->size > n) {
            csp__block *rest = (csp__block *)(void *)((char *)b + n);
            rest->size = b->size - n;
            rest->next = b->next;
            *at = rest;
            b->size = n;
        } else {
            *at = b->next;
        }
        csp__bare.used += n;
        if (csp__bare.used > csp__bare.peak) csp__bare.peak = csp__bare.used;
        return (char *)b + sizeof(size_t);
    }
    return NULL;
}

#ifdef CSP_PREEMPT
CSP__FN void *csp__mem_take(size_t size)
{
    csp__m *m = csp__reenter(&csp__bare);
    void *p = csp__mem_cut(size);
    csp__leave(m);
    return p;
}
#else
#define csp__mem_take(size) csp__mem_cut(size)
#endif
#endif

#ifdef CSP_PREEMPT
#define csp__alloc(size) ((void)csp__current(), csp__mem_take(size))
#else
#define csp__alloc(size) (csp__enter(), csp__mem_take(size))
#endif

CSP__FN inline void *csp__zero(void *p, size_t size)
{
    return p == NULL ? NULL : memset(p, 0, size);
}
#define csp__zalloc(size) csp__zero(csp__alloc(size), size)

/* a % b for a >= 0 and b > 0. libgcc's division of 64 bits would take 800 bytes of flash. */
CSP__FN int64_t csp__rest(int64_t a, int64_t b)
{
    int64_t d = b;
    while (d <= a - d) d <<= 1;
    for (; d >= b; d >>= 1)
        if (a >= d) a -= d;
    return a;
}

/* Uniform in 0 .. n - 1, by xorshift. */
CSP__FN CSP__NOINLINE uint32_t csp__random_below(uint32_t *state, uint32_t n)
{
    uint32_t x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    *state = x;
    return (uint32_t)(((uint64_t)x * n) >> 32);
}

/* ---- timers ---- */

#ifdef CSP_NO_TIMERS
#define csp__clock() ((int64_t)0)
#define csp__timers_due(m) ((void)(m), false)
#define csp__timers_run(m) ((void)(m))
#define csp__timer_set(m, t) (csp__fatal("a deadline, and CSP_NO_TIMERS"), true)
#define csp__timer_unset(t) ((void)(t))
#else
#define csp__clock() csp_port_now()

/* Inserts t behind all timers that are due no later. */
CSP__FN void csp__timer_again(csp__timer *t)
{
    csp__timer **at = &csp__bare.timers;
    while (*at != NULL && (*at)->when <= t->when) at = &(*at)->next;
    t->p = (csp__p *)(void *)&csp__bare;
    t->next = *at;
    *at = t;
}
#define csp__timer_set(m, t) (csp__timer_again(t), true)

/* Takes t out. False: it was in no list, and has fired or was never set. */
CSP__FN bool csp__timer_out(csp__timer *t)
{
    csp__timer **at = &csp__bare.timers;
    if (t->p == NULL) return false;
    while (*at != t) at = &(*at)->next;
    *at = t->next;
    t->p = NULL;
    return true;
}

#ifdef CSP_PREEMPT
CSP__FN bool csp__timer_unset(csp__timer *t)
{
    csp__m *m = csp__reenter(&csp__bare);
    bool set = csp__timer_out(t);
    csp__leave(m);
    return set;
}
#else
#define csp__timer_unset csp__timer_out
#endif

CSP__FN inline bool csp__timers_due(const csp__m *m)
{
    return CSP__UNLIKELY(m->timers != NULL) && m->timers->when <= csp_port_now();
}

/* Fires the timers that are due. Called by the scheduler only. */
CSP__FN void csp__timers_run(csp__m *m)
{
    if (m->timers == NULL) return;
    int64_t now = csp_port_now();
    for (csp__timer *t; (t = m->timers) != NULL && t->when <= now;) {
        m->timers = t->next;
        t->fire(t, now); // clears t->p, or inserts t again
    }
}
#endif

#define csp__wait_set(m, t) ((void)csp__timer_set(m, t))

/* Work that a timer's function leaves until locks are dropped. Here there are none: it is done at
 * once. */
typedef struct csp__late {
    void (*run)(csp__m *m, struct csp__late *late);
} csp__late;
#define csp__timer_late(m, p, late) ((void)(p), (late)->run(m, late))

/* ---- the queues ---- */

#if CSP_PRIORITIES > 1
/* csp__higher: is a goroutine of a higher priority than the running one ready? */
#define csp__level(g) ((g)->level)
#define csp__higher(m) ((m)->g != NULL && (m)->ready >> (m)->g->level > 1)
#else
#define csp__level(g) 0
#define csp__higher(m) false
#endif

/* Appends g to the queue of its level. */
CSP__FN inline void csp__queue_masked(csp__m *m, csp__g *g)
{
    csp_x_queue *q = &m->queues[csp__level(g)];
    g->link = NULL;
    if (q->head != NULL)
        ((csp__g *)q->tail)->link = g;
    else
        q->head = g;
    q->tail = g;
#if CSP_PRIORITIES > 1
    g->queued = true;
    m->ready |= (uint32_t)1 << g->level;
#endif
}

#ifdef CSP_PREEMPT
/* again: CSP__AGAIN_FIRST before those of its level, else behind them. */
CSP__FN inline void csp__again_masked(csp__m *m, csp__g *g, int again)
{
    csp_x_queue *q = &m->queues[g->level];
    csp__g *first = (csp__g *)q->head;
    if (again != CSP__AGAIN_FIRST || first == NULL) {
        csp__queue_masked(m, g);
        return;
    }
    g->link = first;
    g->queued = true;
    q->head = g;
}
#else
#define csp__again_masked(m, g, again) csp__queue_masked(m, g)
#endif

/* Takes the first goroutine of the highest level; NULL: none is ready. */
CSP__FN inline csp__g *csp__next_masked(csp__m *m)
{
    csp_x_queue *q = m->queues;
#if CSP_PRIORITIES > 1
    if (m->ready == 0) return NULL;
    for (uint32_t bits = m->ready; bits > 1; bits >>= 1) q++;
#endif
    csp__g *g = (csp__g *)q->head;
    if (g == NULL) return NULL;
    q->head = g->link;
#if CSP_PRIORITIES > 1
    g->queued = false;
    if (q->head == NULL) m->ready &= ~((uint32_t)1 << g->level);
#endif
    return g;
}

/* Is a goroutine ready? */
CSP__FN inline bool csp__runnable(const csp__m *m)
{
#if CSP_PRIORITIES > 1
    return m->ready != 0;
#else
    return m->queues[0].head != NULL;
#endif
}

/* Makes g runnable. May be called with the mask on or off, by goroutines and handlers. */
CSP__FN CSP__NOINLINE void csp__ready(csp__m *m, csp__g *g)
{
    uintptr_t was = csp_port_irq_save();
    bool deep = m->masked;
    csp__masked_set(m, true);
    CSP_HOOK_READY(g->id, csp__hook_name(g));
    csp__queue_masked(m, g);
    csp__masked_set(m, deep);
    csp_port_irq_restore(was);
}

/* Switches from the scheduler, which runs on main's stack, to the goroutine g. Returns when a
 * goroutine switches back: for main's own turn, or for the scheduler's.
 *   Cortex-M has two stack pointers. Handlers use MSP, and common startup code leaves main on MSP,
 * too. Goroutines run on PSP. On MSP each of their stacks would have to hold the frames of all
 * handlers, and MSPLIM would take their stacks for an overflow. So thread mode goes over to PSP
 * here. MSP goes down by CSP__MSP_GAP first. main leaves its frame in that gap, and handlers use
 * main's stack below it:
 *
 *         main's frames
 *         ------------- PSP    the frame of csp__switch, an exception's frame
 *           CSP__MSP_GAP
 *         ------------- MSP    the handlers' frames
 *
 * At each step of the change, an exception's frame on the one stack and a handler's frame on the
 * other do not overlap. */
CSP__FN void csp__boot_switch(csp__m *m, csp__g *g)
{
#if CSP__ARM_M
    uint32_t control, here;
    __asm__ volatile("mrs %0, control" : "=r"(control));
    bool on_msp = !(control & 2);
    if (on_msp)
        __asm__ volatile(
            "mov %0, sp\n\tsub sp, #" CSP__STRING(CSP__MSP_GAP) "\n\tmsr psp, %0\n\t"
                                                                "msr control, %1\n\tisb"
            : "=&r"(here)
            : "r"(control | 2)
            : "memory");
#endif
    csp__switch(&m->boot.sp, g->sp, NULL, g->result);
#if CSP__ARM_M
    if (on_msp) {
        __asm__ volatile("mrs %0, control" : "=r"(control));
        __asm__ volatile("msr control, %0\n\tisb\n\tadd sp, #" CSP__STRING(CSP__MSP_GAP)
                         :
                         : "r"(control & ~(uint32_t)2)
                         : "memory");
    }
#endif
}

/* The scheduler: runs goroutines and timers, and lets the core sleep, until main is ready itself.
 * The last test for runnable goroutines and the sleep are under one mask. So an interrupt between
 * the two stays pending, and ends the sleep at once. Without the mask its handler would run before
 * the sleep, and the goroutine that it makes runnable would wait for the next interrupt. */
CSP__FN void csp__schedule(csp__m *m)
{
    for (;;) {
        m->g = NULL;
        csp__timers_run(m);
        csp__mask();
        csp__g *g = m->g = csp__next_masked(m);
        csp__unmask();
        if (g != NULL) {
            m->switches++;
            CSP_HOOK_SWITCH(g->id, csp__hook_name(g));
            if (g != &m->boot) csp__boot_switch(m, g);
            if (m->g == &m->boot) return; // main is next: taken here, or by a goroutine
            continue;
        }
        csp__bury();
        uintptr_t was = csp_port_irq_save();
        if (!csp__runnable(m)) {
            int64_t until = m->timers != NULL ? m->timers->when : CSP_FOREVER;
            CSP_HOOK_IDLE(until);
            csp_port_idle(until);
        }
        csp_port_irq_restore(was);
    }
}

#define CSP__CANARY_WORD ((uintptr_t)UINT64_C(0x6373702e63616e61))

/* g has overflowed its stack. */
CSP__FN CSP__COLD __attribute__((noreturn)) void csp__overflow(csp__m *m, csp__g *g)
{
    csp__die(g, csp__print(m->text, sizeof m->text, "stack overflow"));
}

/* Has g overflowed its stack? Checked at each switch: the lowest word of the stack must still be
 * the canary. A core with a limit register has checked by itself. */
CSP__FN inline void csp__stack_check(csp__m *m, csp__g *g)
{
    uintptr_t *low = csp__low(g), *here;
#if CSP__ARM_M
    __asm__ volatile("mov %0, sp" : "=r"(here));
#else
    here = (uintptr_t *)__builtin_frame_address(0);
#endif
    if (CSP__ARM_PSPLIM) return;
    if (CSP__UNLIKELY(*low != CSP__CANARY_WORD || here <= low)) csp__overflow(m, g);
}

#ifdef CSP_PREEMPT
#define csp__away_from csp__away_inside
#define csp__inside_keep(m) uint32_t csp__was_inside = (m)->inside
#define csp__inside_back(m) csp__inside_set(m, csp__was_inside)
#else
#define csp__away_from csp__away
#define csp__inside_keep(m) ((void)0)
#define csp__inside_back(m) ((void)0)
#endif

/* Gives the core to the next goroutine, or to the scheduler when no goroutine is ready or a timer
 * is due. again: g stays runnable, behind the others. Else a waker queues g. Returns the waker's
 * result. With CSP_PREEMPT this is csp__away_inside, which returns inside csp. */
CSP__FN CSP__NOINLINE void *csp__away_from(csp__m *m, csp__g *g, int again)
{
    csp__g *n = NULL;
    csp__inside_keep(m);
    if (g == &m->boot) {
        if (again) csp__ready(m, g);
        m->turn = CSP__TURN;
        csp__schedule(m);
        csp__inside_back(m);
        return g->result;
    }
    csp__stack_check(m, g);
    bool due = csp__timers_due(m);
    __asm__("" : "+r"(due));             // else gcc writes the rest twice, for true and false
    uintptr_t was = csp_port_irq_save(); // csp__mask, inlined: each switch pays for it
    csp__masked_set(m, true);
    if (again) csp__again_masked(m, g, again);
    if (!due) n = csp__next_masked(m);
    csp__masked_set(m, false);
    csp_port_irq_restore(was);
    m->turn = CSP__TURN;
    if (n == g) return g->result;
    m->switches++;
    m->g = n;
    if (n == NULL) n = &m->boot;
    CSP_HOOK_SWITCH(n->id, csp__hook_name(n));
#ifdef CSP_PREEMPT
    void *result = csp__switch(&g->sp, n->sp, NULL, n->result);
    csp__inside_back(m);
    return result;
#else
    return csp__switch(&g->sp, n->sp, NULL, n->result);
#endif
}

#ifdef CSP_PREEMPT
/* The same, and the end of the call into csp. */
CSP__FN CSP__NOINLINE void *csp__away(csp__m *m, csp__g *g, int again)
{
    void *result = csp__away_inside(m, g, again);
    csp__bare_leave(m);
    return result;
}
#endif

/* Blocks until a waker calls csp__ready; returns its result. */
#define csp__park(m) csp__away(m, (m)->g, false)

/* A TURN. A goroutine whose channels are always ready would never give the core away. A handler
 * that fills its channel as fast as the goroutine empties it would stop all other goroutines, and
 * the timers. So each call that could have waited counts, and the CSP__TURN-th lets the others
 * run. */
CSP__FN CSP__NOINLINE void csp__turn_over(csp__m *m)
{
    csp__away(csp__reenter(m), m->g, true);
}

#ifdef CSP_PREEMPT
/* Has another goroutine to run before the running one goes on? */
CSP__FN inline bool csp__wanted(const csp__m *m)
{
    return csp__higher(m) || (m->g != NULL && m->yields);
}

/* Inside csp: lets those run for which the running goroutine has to give way. It keeps its place
 * among those of its priority, and what is left of its turn: were it to lose them, goroutines of
 * one priority would run in turn at the pace of interrupts, and share nothing without a lock. After
 * csp_isr_yield it is the others' turn. */
CSP__FN CSP__NOINLINE void csp__way_given(csp__m *m)
{
    while (csp__wanted(m)) {
        uint32_t turn = m->turn;
        bool yields = m->yields;
        m->yields = false;
        csp__away_inside(m, m->g, yields ? true : CSP__AGAIN_FIRST);
        if (!yields) m->turn = turn;
    }
}

/* The same outside csp. */
CSP__FN void csp__give_way(csp__m *m)
{
    while (csp__wanted(m)) {
        csp__inside_set(m, 1);
        csp__way_given(m);
        csp__inside_set(m, 0);
    }
}
#else
/* Lets a goroutine of higher priority run, if one is ready. */
CSP__FN void csp__give_way(csp__m *m)
{
    (void)m;
#if CSP_PRIORITIES > 1
    if (csp__higher(m)) csp__away(m, m->g, true);
#endif
}
#endif

#define csp__turn(m) (CSP__UNLIKELY(--(m)->turn == 0) ? csp__turn_over(m) : (void)0)

/* The beginning of a call that can wait: it counts for the turn. */
#ifdef CSP_PREEMPT
#define csp__may_wait()                                                                            \
    csp__goroutine_only();                                                                         \
    csp__turn(&csp__bare)
#else
CSP__FN CSP__NOINLINE void csp__bare_may_wait(const char *call)
{
    csp__m *m = csp__bare_enter(call);
    csp__turn(m);
}
#define csp__may_wait() csp__bare_may_wait(CSP__CALLER)
#endif

#define csp__wait_reason(g, text, object) ((g)->what = (text), (void)(object))

/* ---- preemption ---- */

#ifdef CSP_PREEMPT
#if CSP__ARM_M
/* Makes PendSV pending: csp_preempt runs when no other handler does. */
CSP__FN inline void csp__preempt_ask(void)
{
    *(volatile uint32_t *)(uintptr_t)0xe000ed04 = (uint32_t)1 << 28; // ICSR.PENDSVSET
    __asm__ volatile("dsb\n\tisb" ::: "memory");
}
#else
#define csp__preempt_ask() csp_port_preempt(true)
#endif

/* May the running goroutine be preempted, and is there a reason? */
CSP__FN inline bool csp__preemptible(const csp__m *m)
{
    return m->inside == 0 && m->g != &m->boot && csp__wanted(m);
}

/* The end of a call by a handler. Goroutines may make these calls, too, and are preempted here. */
CSP__FN void csp__isr_leave(csp__m *m)
{
    csp__inside_set(m, m->inside - 1);
    if (csp__preemptible(m)) csp__preempt_ask();
}

CSP__API void csp_isr_yield(void)
{
    csp__m *m = csp__isr_check(CSP__CALLER);
    m->yields = true;
    csp__isr_leave(m);
}

/* Is there room for `size` bytes below sp, on the stack of the running goroutine? */
CSP__FN void csp__preempt_room(csp__m *m, const void *sp, size_t size)
{
    uintptr_t low = (uintptr_t)csp__low(m->g);
    if ((uintptr_t)sp - low > csp__size(m->g) || (uintptr_t)sp - low <= size)
        csp__overflow(m, m->g);
}

#if CSP__ARM_M
/* A goroutine is interrupted by PendSV with its frame on its stack: r0-r3, r12, lr, pc and xPSR,
 * and s0-s15 and FPSCR where it has used the FPU. To preempt it, another frame is put below that:
 * the exception returns to csp__preempt_resume. When the goroutine goes on, PendSV drops what lies
 * below its own frame, and returns through that one:
 *
 *     the goroutine's frame                 F: the core has pushed it, and pops it
 *     d8-d15, where it has used the FPU     the context below begins without the FPU, and a switch
 *                                           would not save them
 *     the address of F
 *     the EXC_RETURN of F
 *     the frame of csp__preempt_resume      popped at once; then the stack of csp__preempted
 *
 * Why a second PendSV? Code cannot pop a frame: xPSR says how far an interrupted LDM or IT block
 * has got, and only an exception's return writes that.
 *   The vstm makes the core store s0-s15 and FPSCR, for which it has only left room in F. */
enum { CSP__PREEMPT_FPU = CSP__ARM_FP ? 16 : 0, CSP__PREEMPT_FRAME = 8 };

/* On the preempted goroutine's stack, outside the handler: others run. */
__attribute__((used)) CSP__FN uint32_t **csp__preempted(void)
{
    csp__way_given(&csp__bare);
    return &csp__bare.back;
}

/* Then the goroutine goes on: it sets m->back and makes PendSV pending, which is taken at once. In
 * assembly, since PendSV takes r4-r11 as they are here: they have to be the goroutine's. In C they
 * would be the compiler's. */
static __attribute__((naked)) void csp__preempt_resume(void)
{
    __asm__ volatile(".syntax unified\n\tbl %c0\n\tmov r1, sp\n\tstr r1, [r0]\n\t"
                     "movs r0, #0xe0\n\tlsls r0, r0, #24\n\tmovs r1, #0xed\n\tlsls r1, r1, #8\n\t"
                     "adds r0, r0, r1\n\tmovs r1, #1\n\tlsls r1, r1, #28\n"
                     "1:\n\tstr r1, [r0, #4]\n\tdsb\n\tisb\n\tb 1b" ::"i"(csp__preempted));
}

/* The work of csp_preempt: the process stack pointer and, above it, the EXC_RETURN to leave by. */
__attribute__((used)) CSP__FN uint64_t csp__preempt_look(uint32_t *sp, uint32_t exc_return)
{
    csp__m *m = &csp__bare;
    uint32_t *to = m->back;
    if (to != NULL) {
        m->back = NULL;
        exc_return = to[0];
        sp = (uint32_t *)to[1];
#if CSP__ARM_FP
        if (!(exc_return & 16)) __asm__ volatile("vldmia %0, {d8-d15}" ::"r"(to + 2) : "memory");
#endif
        csp__inside_set(m, 0);
        if (csp__preemptible(m)) csp__preempt_ask();             // it is taken before the return
    } else if ((exc_return & 12) == 12 && csp__preemptible(m)) { // from a thread, on PSP
        csp__preempt_room(m, sp, 4 * (CSP__PREEMPT_FPU + 3 + CSP__PREEMPT_FRAME));
        csp__inside_set(m, 1);
        to = (uint32_t *)((uintptr_t)sp & ~(uintptr_t)7) - 2 - CSP__PREEMPT_FPU;
        to[0] = exc_return;
        to[1] = (uint32_t)sp;
#if CSP__ARM_FP
        if (!(exc_return & 16)) __asm__ volatile("vstmia %0, {d8-d15}" ::"r"(to + 2) : "memory");
#endif
        sp = to - CSP__PREEMPT_FRAME;
        sp[6] = (uint32_t)csp__preempt_resume & ~(uint32_t)1;
        sp[7] = (uint32_t)1 << 24; // xPSR: Thumb
        exc_return |= 16;          // without the FPU
    }
    return (uint64_t)exc_return << 32 | (uint32_t)sp;
}

__attribute__((naked, used)) void csp_preempt(void)
{
    __asm__ volatile(
        "mrs r0, psp\n\tmov r1, lr\n\tbl %c0\n\tmsr psp, r0\n\tbx r1" ::"i"(csp__preempt_look));
}

/* PendSV gets the lowest priority: it must not interrupt handlers. */
CSP__FN void csp__preempt_init(void)
{
    const uint32_t *vectors = *(uint32_t *volatile *)(uintptr_t)0xe000ed08; // VTOR; 0 on ARMv6-M
    if (((vectors[14] ^ (uint32_t)csp_preempt) & ~(uint32_t)1) != 0)
        csp__fatal("CSP_PREEMPT: the handler of PendSV is not csp_preempt");
    *(volatile uint32_t *)(uintptr_t)0xe000ed20 |= (uint32_t)255 << 16; // SHPR3
}
#else
/* Others: csp_preempt is called, or calls, on the goroutine's stack. True: the goroutine is to be
 * preempted, and is inside csp. Interrupts are masked. */
__attribute__((used)) CSP__FN bool csp__preempt_look(const void *sp)
{
    csp__m *m = &csp__bare;
    csp_port_preempt(false);
    if (!csp__preemptible(m)) return false;
    csp__preempt_room(m, sp, 0);
    csp__inside_set(m, 1);
    return true;
}

/* Unmasked: others run, and then the goroutine goes on. */
__attribute__((used)) CSP__FN void csp__preempted(void)
{
    csp__way_given(&csp__bare);
}

/* Masked again. True: one more time. */
__attribute__((used)) CSP__FN bool csp__preempt_again(void)
{
    csp__m *m = &csp__bare;
    csp__inside_set(m, 0);
    if (!csp__preemptible(m)) return false;
    csp__inside_set(m, 1);
    return true;
}

#ifdef CSP__PREEMPT_ASM
__attribute__((naked, used)) void csp_preempt(void)
{
    __asm__ volatile(CSP__PREEMPT_ASM("%0", "%1", "%2")::"i"(csp__preempt_look),
                     "i"(csp__preempted), "i"(csp__preempt_again));
}
#else
void csp_preempt(void)
{
    if (!csp__preempt_look(__builtin_frame_address(0))) return;
    do csp__preempted();
    while (csp__preempt_again());
}
#endif
#define csp__preempt_init() csp_port_preempt(false)
#endif
#endif

/* ---- priorities of mutexes ---- */

#if CSP_PRIORITIES > 1
/* Gives g a new level. A goroutine that is READY moves to the queue of that level. */
CSP__FN void csp__level_set(csp__m *m, csp__g *g, uint8_t level)
{
    csp_x_queue *q = &m->queues[g->level];
    if (level == g->level) return;
    csp__mask();
    if (g->queued) {
        csp__g *before = NULL, *at = (csp__g *)q->head;
        while (at != g) before = at, at = at->link;
        if (before != NULL)
            before->link = g->link;
        else
            q->head = g->link;
        if (q->tail == g) q->tail = before;
        if (q->head == NULL) m->ready &= ~((uint32_t)1 << g->level);
        g->level = level;
        csp__queue_masked(m, g);
    }
    g->level = level;
    csp__unmask();
}

/* The highest level of the goroutines that wait for mu; -1: none waits. A waiter whose ticket has
 * been claimed does not count: it gives up. */
CSP__FN int csp__mutex_level(const csp_mutex *mu)
{
    int level = -1;
    for (csp__waiter *w = (csp__waiter *)mu->csp_x_waiters.head; w != NULL; w = w->next)
        if (w->g->level > level && (w->ticket == NULL || *w->ticket == 0)) level = w->g->level;
    return level;
}

/* Gives g the highest level of all goroutines that wait for its mutexes, at least its own. Then the
 * same for the holder of the mutex that g waits for, and so on. It stops where a level stays as it
 * is. A circle of holders is a deadlock: their levels soon stay as they are. */
CSP__FN void csp__level_lend(csp__m *m, csp__g *g)
{
    while (g != NULL) {
        int level = g->own;
        for (const csp_mutex *mu = g->held; mu != NULL; mu = mu->csp_x_other)
            if (csp__mutex_level(mu) > level) level = csp__mutex_level(mu);
        if (level == g->level) return;
        csp__level_set(m, g, (uint8_t)level);
        g = g->wanted == NULL ? NULL : (csp__g *)g->wanted->csp_x_holder;
    }
}

/* g has taken mu. */
CSP__FN void csp__mutex_held(csp_mutex *mu, csp__g *g)
{
    mu->csp_x_holder = g;
    mu->csp_x_other = g->held;
    g->held = mu;
    g->wanted = NULL;
    csp__level_lend(&csp__bare, g);
}

/* The holder has unlocked mu, and returns the level that mu's waiters lent. */
CSP__FN void csp__mutex_left(csp_mutex *mu)
{
    csp__g *g = (csp__g *)mu->csp_x_holder;
    csp_mutex **at = &g->held;
    while (*at != mu) at = &(*at)->csp_x_other;
    *at = mu->csp_x_other;
    mu->csp_x_holder = NULL;
    csp__level_lend(&csp__bare, g);
}

/* The running goroutine begins to wait for mu (waits), or has given up. */
CSP__FN void csp__mutex_lends(csp_mutex *mu, bool waits)
{
    csp__bare.g->wanted = waits ? mu : NULL;
    csp__level_lend(&csp__bare, (csp__g *)mu->csp_x_holder);
}

/* The next holder: of the waiters of the highest level, the one that has waited longest. */
CSP__FN csp__waiter *csp__mutex_heir(csp_mutex *mu)
{
    csp__waiter *w = (csp__waiter *)mu->csp_x_waiters.head;
    for (int level = csp__mutex_level(mu); w != NULL && w->next != NULL && w->g->level != level;)
        w = w->next;
    return w;
}
#else
#define csp__mutex_held(mu, g) ((void)(mu), (void)(g))
#define csp__mutex_left(mu) ((void)(mu))
#define csp__mutex_lends(mu, waits) ((void)(mu))
#define csp__mutex_heir(mu) ((csp__waiter *)(mu)->csp_x_waiters.head)
#endif

/* The timer of a wait, and the goroutine that waits. */
typedef struct csp__deadline {
    csp__timer timer;
    csp__g *g;
} csp__deadline;
#define CSP__TIMER(t, owner)                                                                       \
    csp__deadline t##_here;                                                                        \
    csp__timer *t = (t##_here.g = (owner), &t##_here.timer)
#define csp__timer_g(t) (((csp__deadline *)(void *)(t))->g)

/* ---- goroutines' lives ---- */

/* The end of the running goroutine. The end of csp_run's goroutine makes main runnable. */
CSP__FN __attribute__((noreturn)) void csp__g_end(csp__m *m)
{
    (void)csp__reenter(m);
    csp__g *g = m->g, **at = &m->all;
    while (*at != g) at = &(*at)->all;
    *at = g->all;
    m->count--;
    if (g->size & CSP__G_MAIN) csp__ready(m, &m->boot);
    csp__bury_later(m, g);
    csp__away(m, g, false);
    __builtin_unreachable();
}

/* A new stack holds this record at its top, and the arguments of run behind it. */
typedef struct csp__record {
    void (*run)(void *);
    void *unused;
} csp__record;

/* The entry of a new goroutine. */
CSP__FN void csp__g_main(void *value)
{
    csp__record *r = (csp__record *)value;
#ifdef CSP_PREEMPT
    csp__inside_set(&csp__bare, 1);
    csp__bare_leave(&csp__bare);
#endif
    r->run(r + 1);
    csp__g_end(&csp__bare);
}

/* Starts a goroutine that calls run with a copy of args. Panics when there is no memory, before it
 * has changed anything. */
CSP__FN uint64_t csp__spawn(csp__m *m, const csp_opts *opts, const csp_x_site *site,
                            void (*run)(void *), const void *args, size_t size, uint32_t flags)
{
    size_t stack = opts != NULL && opts->stack_size != 0 ? opts->stack_size : m->stack_size;
    size_t room = sizeof(csp__record) + ((size + CSP__UNIT - 1) & ~(CSP__UNIT - 1));
    char *low = opts == NULL ? NULL : (char *)opts->stack;
    if (low != NULL) {
        size_t up = (0 - (uintptr_t)low) & (CSP__UNIT - 1);
        low += up;
        stack = stack < sizeof(csp__g) + up ? 0 : stack - sizeof(csp__g) - up;
        flags |= CSP__G_PLACED;
    }
    stack &= ~(size_t)31;
    if (stack < CSP_STACK_MIN + room || stack > (size_t)1 << 30)
        csp__throw("stack size out of range");
#if CSP_PRIORITIES > 1
    if (opts != NULL && (opts->priority < 0 || opts->priority >= CSP_PRIORITIES))
        csp__throw("priority out of range");
#endif
    if (low == NULL) low = (char *)csp__mem_take(stack + sizeof(csp__g));
    if (low == NULL) csp__throw_memory(stack + sizeof(csp__g));
    if (csp__memory_lived_in(m, low, low + stack + sizeof(csp__g)))
        csp__throw("a goroutine lives in this memory already");
    csp__g *g = (csp__g *)(void *)(low + stack);
    char *top = (char *)g - room;
    memset(g, 0, sizeof *g);
    for (uintptr_t *word = (uintptr_t *)(void *)low; word < (uintptr_t *)(void *)top;)
        *word++ = CSP__CANARY_WORD;
    ((csp__record *)(void *)top)->run = run;
    if (size > 0) memcpy(top + sizeof(csp__record), args, size);
#ifndef CSP_NO_NAMES
    g->site = site;
    g->name = opts != NULL ? opts->name : NULL;
#endif
    (void)site;
#if CSP_PRIORITIES > 1
    g->level = g->own = opts == NULL ? 0 : (uint8_t)opts->priority;
#endif
    g->size = (uint32_t)stack | flags;
    g->id = ++m->ids;
    g->sp = csp__context_make(low, top, csp__g_main);
    g->result = top;
    g->all = m->all;
    m->all = g;
    m->count++;
    csp__ready(m, g);
    return g->id;
}

/* A seat is memory for a goroutine that is taken in advance. Here memory is scarce, and none is. */
#define CSP__SEAT(name)
#define csp__seat_take(m, seat) true
#define csp__seat_give(m, seat) ((void)(m))
#ifdef CSP_NO_MEMORY /* and no timer starts a goroutine */
#define csp__seat_spawn(m, seat, site, plain) ((void)(m))
#else
#define csp__seat_spawn(m, seat, site, plain) csp__plain_spawn(m, site, plain)
CSP__FN void csp__plain_spawn(csp__m *m, const csp_x_site *site, csp__plain plain)
{
    csp__spawn(m, NULL, site, csp__plain_run, &plain, sizeof plain, 0);
}
#endif

CSP__API uint64_t csp_x_start(const csp_x_how *how, const csp_x_site *site, void (*run)(void *),
                              const void *args, size_t size)
{
    if (how != NULL && how->start != NULL) return how->start(how, site, run, args, size);
#ifdef CSP_PREEMPT
    csp__goroutine_only();
    return csp__spawn(&csp__bare, how == NULL ? NULL : how->opts, site, run, args, size, 0);
#else
    return csp__spawn(csp__enter(), how == NULL ? NULL : how->opts, site, run, args, size, 0);
#endif
}

CSP__API csp_status csp_init(const csp_config *config)
{
    csp__m *m = &csp__bare;
#ifdef CSP_NO_MEMORY
    if (m->running || config == NULL) return CSP_INVALID;
#else
    if (m->running || config == NULL || config->memory == NULL ||
        config->memory_size < 8 * CSP__UNIT ||
        (config->stack_size != 0 && config->stack_size < CSP_STACK_MIN))
        return CSP_INVALID;
    uintptr_t start = (uintptr_t)config->memory + sizeof(size_t);
    start = ((start + CSP__UNIT - 1) & ~(CSP__UNIT - 1)) - sizeof(size_t);
    m->free = (csp__block *)start;
    m->memory = (config->memory_size - (start - (uintptr_t)config->memory)) & ~(CSP__UNIT - 1);
    m->free->size = m->memory;
    m->free->next = NULL;
    m->used = m->peak = 0;
#endif
    m->stack_size = config->stack_size != 0 ? config->stack_size : CSP_STACK_SIZE;
    m->rng = (uint32_t)csp__clock() | 1;
    memset(&m->boot, 0, sizeof m->boot);
    m->g = &m->boot;
    m->turn = CSP__TURN;
#ifdef CSP_PREEMPT
    m->inside = 0;
    m->yields = false;
    csp__preempt_init();
#endif
    m->running = true;
    return CSP_OK;
}

CSP__API void csp_shutdown(void)
{
    csp__m *m = &csp__bare;
    if (!m->running) return;
    if (csp__current() != &m->boot) csp__throw("csp_shutdown called from a goroutine");
    csp__mask();
    m->running = false;
    m->all = NULL;
#ifndef CSP_NO_MEMORY
    m->dead = NULL;
#endif
    memset(m->queues, 0, sizeof m->queues);
#if CSP_PRIORITIES > 1
    m->ready = 0;
#endif
    csp__unmask();
    m->timers = NULL;
    m->count = 0;
}

CSP__FN CSP__INLINE void csp__run(const csp_opts *opts, const csp_x_site *site, void (*fn)(void *),
                                  void *arg)
{
    csp__need(fn);
    csp__m *m = csp__enter();
    csp__plain plain = {fn, arg};
    if (m->g != &m->boot) csp__throw("csp_run called from a goroutine");
    csp__spawn(m, opts, site, csp__plain_run, &plain, sizeof plain, CSP__G_MAIN);
    csp__park(m);
}

CSP__API void csp_x_run_with(const csp_opts *opts, const csp_x_site *site, void (*fn)(void *),
                             void *arg)
{
    csp__run(opts, site, fn, arg);
}

#ifndef CSP_NO_MEMORY
CSP__API void csp_x_run(const csp_x_site *site, void (*fn)(void *), void *arg)
{
    csp__run(NULL, site, fn, arg);
}
#endif

CSP__API void csp_yield(void)
{
    csp__m *m = csp__enter();
    csp__away(m, m->g, true);
}

CSP__API void csp_exit(void)
{
    csp__m *m = csp__enter();
    csp__g *g = m->g;
    if (g == &m->boot) csp__throw("csp_exit called from main, which is not a goroutine");
#ifndef CSP_NO_PANIC
    g->tries =
        NULL; // a panic in a defer finds no csp_try: the frames that hold them are being left
#endif
    csp__leave(m);
    csp__unwind(&g->defers, NULL, &g->forks);
    g->size &= ~(uint32_t)CSP__G_MAIN; // csp_run's function has not returned: the others go on
    csp__g_end(m);
}

CSP__API int64_t csp_count(void)
{
    return csp__bare.count;
}

CSP__API void csp_set_name(const char *name)
{
#ifndef CSP_NO_NAMES
    csp__current()->name = name; // not copied: a record has no room for the text
#endif
    (void)name;
}

#ifndef CSP_NO_MEMORY
/* Goroutine-local storage: a list of pairs. */
typedef struct csp__pair {
    struct csp__pair *next;
    csp_local *local;
    void *value;
} csp__pair;

CSP__FN csp__pair *csp__pair_of(csp__g *g, csp_local *local)
{
    csp__pair *pair = (csp__pair *)g->locals;
    while (pair != NULL && pair->local != local) pair = pair->next;
    return pair;
}

CSP__API void *csp_local_get(csp_local *local)
{
    csp__need(local);
    csp__pair *pair = csp__pair_of(csp__current(), local);
    return pair == NULL ? NULL : pair->value;
}

CSP__API void csp_local_set(csp_local *local, void *value)
{
    csp__need(local);
    csp__g *g = csp__current();
    csp__pair *pair = csp__pair_of(g, local);
    if (pair == NULL) {
        pair = (csp__pair *)csp__alloc(sizeof *pair);
        if (pair == NULL) csp__throw_memory(sizeof *pair);
        *pair = (csp__pair){(csp__pair *)g->locals, local, NULL};
        g->locals = pair;
    }
    pair->value = value;
}
#endif

CSP__API void csp_get_stats(csp_stats *stats)
{
    csp__need(stats);
    csp__m *m = csp__enter();
    csp__bury();
    *stats = (csp_stats){.goroutines = m->count,
#ifndef CSP_NO_MEMORY
                         .memory_size = m->memory,
                         .memory_used = m->used,
                         .memory_peak = m->peak,
#endif
                         .procs = 1,
                         .threads = 1,
                         .spawned = m->ids,
                         .switches = m->switches};
    csp__leave(m);
}

/* Is g in a queue of runnable goroutines? Read without the mask: handlers only append meanwhile. */
CSP__FN bool csp__is_ready(const csp__m *m, const csp__g *g)
{
    const csp__g *at = (const csp__g *)m->queues[csp__level(g)].head;
    while (at != NULL && at != g) at = at->link;
    return at == g;
}

/* Prints a line for each goroutine: its wait, and how much of its stack it has ever used. */
CSP__API void csp_dump(void (*print)(const char *line))
{
    csp__need(print);
    csp__m *m = csp__enter();
    for (csp__g *g = m->all; g != NULL; g = g->all) {
        char line[128]; // m->text is too short for the name
        const char *state = g == m->g ? "running" : csp__is_ready(m, g) ? "ready" : g->what;
        uintptr_t *low = csp__low(g), *word = low;
        while (*word == CSP__CANARY_WORD) word++;
        unsigned size = csp__size(g), used = size - (unsigned)((char *)word - (char *)low);
        size_t n = csp__print(line, sizeof line, "goroutine %u [%s] stack %u of %u",
                              (unsigned)g->id, state, used, size);
#ifndef CSP_NO_NAMES
        csp__print(line + n, sizeof line - n, " %s", g->name != NULL ? g->name : g->site->name);
#endif
        (void)n;
        print(line);
    }
    csp__leave(m);
}

#define csp__rank_take(lock, rank, line) ((void)(line))
#define csp__rank_drop(lock) ((void)(lock))
#endif /* CSP_BARE */

/* ########################################## TALKING ########################################### */
/* ==========================================================================
 * [26] CALLS - what both kernels do in one way: status, spawn, id, defer, try
 *
 * These calls are written once, with names that both kernels supply (see PROFILE). A defer and a
 * csp_try are records on the caller's stack, linked into lists of the goroutine:
 *
 *     cb->defers --> defer 3 --> defer 2 --> outside (a mark) --> defer 1 --> NULL
 *     cb->tries  --> csp_try of the mark --> outer csp_try --> NULL
 *
 * A panic runs the defers above the mark, and then goes on in the csp_try that the mark belongs to.
 *
 *   uses   PLATFORM BASE PROFILE
 *   locks  none
 * ======================================================================== */

CSP__API const char *csp_status_name(csp_status status)
{
    static const char *const names[] = {"ok",       "would block",   "closed",          "timeout",
                                        "canceled", "out of memory", "invalid argument"};
    return (unsigned)status < sizeof names / sizeof names[0] ? names[status] : "unknown status";
}

CSP__API uint64_t csp_x_spawn(const csp_opts *opts, const csp_x_site *site, void (*fn)(void *),
                              void *arg)
{
    csp__plain plain = {fn, arg};
    if (fn == NULL) csp__throw("go of nil func value");
    csp__m *m = csp__enter();
    uint64_t id = csp__spawn(m, opts, site, csp__plain_run, &plain, sizeof plain, 0);
    csp__leave(m);
    csp__sim_point();
    return id;
}

/* A spawn after a step that must be undone if the spawn fails: a count that was raised, a place
 * that was taken. `undo` is a defer for the length of the spawn, so a panic for want of memory runs
 * it. Leaves csp. The call's effect is complete then, hence the csp__sim_point. */
CSP__FN uint64_t csp__spawn_or(csp__m *m, const csp_x_site *site, void (*run)(void *),
                               const void *args, size_t size, csp_x_defer *undo)
{
    csp__cb *cb = csp__cb_of(m->g);
    undo->prev = cb->defers;
    cb->defers = undo;
    uint64_t id = csp__spawn(m, NULL, site, run, args, size, 0);
    cb->defers = undo->prev;
    csp__leave(m);
    csp__sim_point();
    return id;
}

CSP__API uint64_t csp_id(void)
{
    return csp__current()->id;
}

CSP__API csp_x_defer *csp_x_defer_push(csp_x_defer *d)
{
    if (d->fn == NULL) csp__nil_at("csp_defer", NULL);
    csp__cb *cb = csp__cb_of(csp__current());
    d->prev = cb->defers;
    cb->defers = d;
    return d;
}

CSP__API void csp_x_defer_leave(csp_x_defer *d)
{
    csp__cb *cb = csp__cb_of(csp__current());
    if (cb->defers != d) return; /* d has run already: a panic or csp_exit abandons this frame */
    cb->defers = d->prev;
    d->fn(d->arg);
}

#ifndef CSP_NO_PANIC
/* Begins a try block: pushes t, and its mark onto the list of defers. */
CSP__API csp_x_try *csp_x_try_enter(csp_x_try *t)
{
    csp__cb *cb = csp__cb_of(csp__current());
    t->prev = cb->tries;
    t->outside.prev = cb->defers;
    t->outside.fn = NULL;
    t->owner = cb;
#ifndef CSP_BARE
    t->sp = __builtin_dwarf_cfa();
    t->raise = NULL;
#endif
    cb->tries = t;
    cb->defers = &t->outside;
    return t;
}

/* Runs at the end of the block around csp_try (cleanup). t is off the list by then, unless return,
 * break, continue or goto left the try block. */
CSP__API void csp_x_try_leave(csp_x_try *t)
{
    csp__cb *cb = (csp__cb *)t->owner;
    if (cb->tries != t && cb->defers != &t->outside) return; /* the mark stays after a C++ catch */
    if (cb->tries == t) cb->tries = t->prev;
    cb->defers = t->outside.prev;
}

/* The start of csp_catch. NULL: the try block has ended without a panic, and is popped here. */
CSP__API const csp_panic_info *csp_x_try_end(void)
{
    csp__cb *cb = csp__cb_of(csp__current());
    csp_x_try *t = cb->caught;
    if (t == NULL) {
        cb->defers = cb->tries->outside.prev;
        cb->tries = cb->tries->prev;
        return NULL;
    }
    cb->caught = NULL;
    return &t->info;
}
#endif

/* ==========================================================================
 * [27] WAITERS - how a goroutine waits: queues, tickets, deadlines
 *
 * A goroutine that waits stands in a queue with a record (csp__waiter), and parks. The waker takes
 * the record out of the queue, under the queue's lock, and makes the owner ready. Where several may
 * wake the owner (a deadline, or the channels of a select), each first claims its ticket, and one
 * succeeds. Without the ticket the owner would be made ready twice.
 *
 * A WAIT, of which every wait in csp is a form:
 *
 *   1 fill in       csp__wait_init: the record, the ticket (none without a deadline), the reason
 *   2 queue         csp__waiters_add, under the lock of the object
 *   3 drop, park    csp__wait_until; csp__wait_in without a deadline
 *   4 woken: return. The deadline was faster: leave the queue, by one of two rules
 *
 *   The rule of csp__wait_until, for objects that their waiters outlive: mutex, rwmutex, cond,
 *   waitgroup, sem. The lock guards `queued`. The owner takes the lock again, and leaves the queue
 *   if it is still there. Descriptors do the same with their own list (csp__fd_wait).
 *   The rule of csp__waiter_cancel, for channels. A channel may be freed as soon as the ticket of
 *   its last waiter has been claimed, perhaps by another channel's user: so the owner may not just
 *   take its lock. `queued` says who takes the record out, below.
 *
 * STALE RECORDS. A select leaves records in several queues. The claimer takes the one that won out
 * at once: its owner touches no record before it is woken. The others are stale, even those that
 * are queued only afterwards. Each is taken out by the next user of the channel that meets it, by
 * its owner when that runs again, or by the last unref of the channel, which may come first.
 * `queued` decides between them:
 *
 *   OUT --1--> IN --2--> OWNER_LEAVES --3--> (the record is not used any more)
 *               \--4--> OTHER_LEAVES --5--> OUT
 *
 *   1  The owner, under the lock.
 *   2  The owner, by a compare-and-swap, without the lock. Before that it may not touch the
 *      channel; after it the last unref waits for 3.
 *   3  The owner, under the lock.
 *   4  Another, under the lock, by a compare-and-swap, when the ticket is not its own.
 *   5  The same, as its last access to the record. The owner waits for it: the record lies on its
 *      stack. A claimer of the ticket goes from IN to OUT at once: the owner still sleeps.
 *
 * A record without a ticket is taken out by its waker alone, and `queued` is not looked at.
 * model: a_stale_waiter_is_taken_out_once_and_not_looked_at_afterwards
 *
 *   uses   PLATFORM BASE PROFILE PARK
 *   locks  chan.lock, and what its callers name
 * ======================================================================== */

typedef csp_x_chan csp__chan;

/* A macro: csp__enter of bare metal wants to know the caller, and a torture build the line. */
#define csp__enter_lock(lock, rank)                                                                \
    __extension__({                                                                                \
        csp__m *inside = csp__enter();                                                             \
        csp__lock(lock, rank);                                                                     \
        inside;                                                                                    \
    })

CSP__FN inline void csp__unlock_leave(csp__m *m, uint32_t *lock)
{
    csp__unlock(lock);
    csp__leave(m);
}

/* A lock of one bit in a word. The other bits are the holder's, until it drops the lock by storing
 * the next value: so one store drops the lock and shows the effect. */
#define CSP__WORD_HELD 1u

#define csp__word_lock(word) csp__word_lock_at(word, __LINE__)
CSP__FN uint32_t csp__word_lock_at(uint32_t *word, int line) // acq <word>
{
    csp__rank_take(word, CSP__RANK_SYNC, line);
    if (CSP__ONE_CORE) return *word; // nothing else runs until the next value is stored
    for (uint32_t n = 0;; csp__lock_pause(&n)) {
        uint32_t v = csp__relaxed(word);
        if (!(v & CSP__WORD_HELD) && csp__cas(word, &v, v | CSP__WORD_HELD)) return v;
    }
}

CSP__FN inline void csp__word_unlock(uint32_t *word, uint32_t value) // rel <word>
{
    csp__rank_drop(word);
    csp__release(word, value);
}

CSP__FN csp__chan *csp__chan_of(const void *c)
{
    csp__chan *chan = (csp__chan *)(uintptr_t)c;
    if (CSP__UNLIKELY(chan->magic != CSP_X_CHAN_MAGIC)) csp__throw("use of a freed channel");
    return chan;
}

CSP__FN inline void csp__waiters_add(csp_x_queue *q, csp__waiter *w)
{
    csp__waiter *last = (csp__waiter *)q->tail;
    csp__hb_before(w->g);
    w->next = NULL;
    w->prev = last;
    w->queued = CSP__QUEUED_IN;
    if (last != NULL)
        last->next = w;
    else
        csp__set(&q->head, (void *)w);
    q->tail = w;
}

CSP__FN inline void csp__waiters_remove(csp_x_queue *q, csp__waiter *w)
{
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        csp__set(&q->head, (void *)w->next);
    if (w->next != NULL)
        w->next->prev = w->prev;
    else
        q->tail = w->prev;
}

/* Do not touch w after this, unless this call claimed its ticket. */
CSP__FN inline void csp__waiters_drop(csp_x_queue *q, csp__waiter *w)
{
    csp__waiters_remove(q, w);
    csp__release(&w->queued, CSP__QUEUED_OUT); // rel <waiter.queued>
}

/* The longest waiting record whose ticket is free, taken out of the queue and claimed; NULL: none.
 * Stale records before it are taken out, too. */
CSP__FN csp__waiter *csp__waiters_take(csp_x_queue *q)
{
    for (csp__waiter *w = (csp__waiter *)q->head, *next; w != NULL; w = next) {
        next = w->next;
        if (w->ticket == NULL) {
            csp__waiters_remove(q, w);
            csp__hb_after(w->g);
            return w;
        }
        uint32_t in = CSP__QUEUED_IN;
        if (csp__ticket_claim(w->ticket)) {
            csp__waiters_drop(q, w);
            csp__hb_after(w->g);
            return w;
        }
        if (csp__cas(&w->queued, &in, CSP__QUEUED_OTHER_LEAVES)) csp__waiters_drop(q, w);
        if (csp__chan_rest()) next = (csp__waiter *)q->head;
    }
    return NULL;
}

/* For the owner of a ticket that has been claimed: the waiter leaves the queue, if it is still
 * there. */
CSP__FN void csp__waiter_cancel(csp__chan *c, csp_x_queue *q, csp__waiter *w)
{
    uint32_t seen = CSP__QUEUED_IN;
    while (!CSP__ONE_CORE &&
           !csp__cas(&w->queued, &seen, CSP__QUEUED_OWNER_LEAVES)) { // acq <waiter.queued>
        if (seen == CSP__QUEUED_OUT) return;
        csp__os_yield(); /* OTHER_LEAVES */
        seen = CSP__QUEUED_IN;
    }
    csp__chan_lock(c);
    if (!CSP__ONE_CORE || w->queued != CSP__QUEUED_OUT) csp__waiters_remove(q, w);
    csp__chan_unlock(c);
}

/* What park returns in the woken goroutine; w is dead once it has been readied. */
CSP__FN inline void csp__waiter_wake(csp__m *m, csp__waiter *w, bool ok)
{
    csp__g *g = w->g;
    if (!ok) w->index = ~w->index;
    g->result = ok || w->index < 0 ? w : NULL;
    csp__ready(m, g);
}

/* Waits in q, of c, until woken, where only the queue can wake: queues, unlocks c, parks. */
CSP__FN inline void *csp__wait_in(csp__m *m, csp_x_queue *q, void *value, const char *what,
                                  csp__chan *c)
{
    CSP__WAITER(w, m->g);
    w->g = m->g;
    w->value = value;
    w->ticket = NULL;
    w->index = -1;
    csp__waiters_add(q, w);
    csp__wait_reason(m->g, what, c);
    csp__chan_unlock(c);
    return csp__park(m);
}

/* A wait's deadline: claims the ticket, unless a waker was faster. Runs under the heap's lock. It
 * clears t->p before the goroutine may run: t lies on that goroutine's stack. */
CSP__FN void csp__wait_fire(csp__timer *t, int64_t now)
{
    csp__g *g = csp__timer_g(t);
    (void)now;
    bool claimed = csp__ticket_claim(&csp__cb_of(g)->ticket);
    csp__release(&t->p, NULL);
    if (!claimed) return;
    g->result = NULL;
    csp__ready(csp__self(), g);
}

/* Parks until woken, or until t: NULL then. The ticket was reset before the record was queued. */
CSP__FN void *csp__park_until(csp__m *m, int64_t t)
{
#ifndef CSP_BARE
    if (m->p == NULL) return csp__foreign_park(m, m->g, t);
#endif
    if (t == CSP_FOREVER) return csp__park(m);
    CSP__TIMER(timer, m->g);
    timer->when = t;
    timer->fire = csp__wait_fire;
    csp__wait_set(m, timer);
    void *result = csp__park(m);
    if (result != NULL) csp__timer_unset(timer);
    return result;
}

/* The first step of a wait that a deadline may end: its ticket has not been claimed. */
CSP__FN void csp__wait_begin(csp__g *g, const char *what, const void *on)
{
    csp__set(&csp__cb_of(g)->ticket, 0);
    csp__wait_reason(g, what, on);
}

CSP__FN csp__waiter *csp__waiter_fill(csp__g *g, csp__waiter *w, void *value, int index)
{
    w->g = g;
    w->value = value;
    w->ticket = &csp__cb_of(g)->ticket;
    w->index = index;
    return w;
}

/* One core, under the lock: does a goroutine wait there that has not been woken yet, and is not
 * `but`? Those that have been are taken out. */
CSP__FN bool csp__waiters_met(csp_x_queue *q, const csp__g *but)
{
    for (csp__waiter *w = (csp__waiter *)q->head, *next; w != NULL; w = next) {
        next = w->next;
        if (w->ticket == NULL || *w->ticket == 0) {
            if (w->g != but) return true;
            continue;
        }
        csp__waiters_drop(q, w);
        if (csp__chan_rest()) next = (csp__waiter *)q->head;
    }
    return false;
}

/* The same for a wait in one queue, until t: fills w in. */
CSP__FN void csp__wait_init(csp__m *m, csp__waiter *w, void *value, int64_t t, const char *what,
                            const void *on)
{
    csp__wait_begin(m->g, what, on);
    csp__waiter_fill(m->g, w, value, 0);
    if (t == CSP_FOREVER) w->ticket = NULL;
}

/* The owner's deadline has claimed the ticket: w leaves q under its lock, if it is still there. */
CSP__FN void csp__waiter_forget(csp_x_queue *q, csp__waiter *w)
{
    if (w->queued == CSP__QUEUED_IN) csp__waiters_remove(q, w);
}

/* The last step: parks until woken or until t. True: woken; the caller is outside csp. False: t has
 * passed; the caller is inside csp, as *m, w is in no queue, and the lock is held again. `word`:
 * NULL for a lock of csp__lock; for one of csp__word_lock its other bits. */
CSP__FN CSP__INLINE bool csp__wait_over(csp__m **m, csp_x_queue *q, csp__waiter *w, int64_t t,
                                        uint32_t *lock, uint32_t *word)
{
    if (csp__park_until(*m, t) != NULL) return true;
    *m = csp__reenter(*m);
    if (word != NULL)
        *word = csp__word_lock(lock);
    else
        csp__lock(lock, CSP__RANK_SYNC);
    csp__waiter_forget(q, w);
    return false;
}

/* The same for a w that has been queued under the lock, which is dropped first. */
CSP__FN CSP__INLINE bool csp__wait_until(csp__m **m, csp_x_queue *q, csp__waiter *w, int64_t t,
                                         uint32_t *lock, uint32_t *word)
{
    if (word != NULL)
        csp__word_unlock(lock, *word);
    else
        csp__unlock(lock);
    return csp__wait_over(m, q, w, t, lock, word);
}

/* Takes stale waiters out of a queue; true when live ones are left. */
CSP__FN bool csp__waiters_live(csp__chan *c, csp_x_queue *q)
{
    if (CSP__ONE_CORE) {
        csp__chan_lock(c);
        bool met = csp__waiters_met(q, NULL);
        csp__chan_unlock(c);
        return met;
    }
    csp__chan_lock(c);
    for (csp__waiter *w; (w = (csp__waiter *)q->head) != NULL;) {
        uint32_t in = CSP__QUEUED_IN;
        if (w->ticket == NULL || csp__acquire(w->ticket) == 0) break;
        if (csp__cas(&w->queued, &in, CSP__QUEUED_OTHER_LEAVES)) {
            csp__waiters_drop(q, w);
            (void)csp__chan_rest();
        } else { /* its owner is about to */
            csp__chan_unlock(c);
            csp__os_yield();
            csp__chan_lock(c);
        }
    }
    bool live = q->head != NULL;
    csp__chan_unlock(c);
    return live;
}

/* ==========================================================================
 * [28] WAKEFD - a channel that a foreign event loop watches
 *
 * An event loop of another library waits for descriptors only. csp_wake_fd gives a channel a pipe
 * that is readable while there is something to receive.
 *
 *   uses   PLATFORM PROFILE SYSTEM PANIC WAITERS
 *   locks  wakefds.lock chan.lock
 * ======================================================================== */

enum { CSP__CHAN_CLOSED = 1, CSP__CHAN_WATCHED = 2 };
#ifdef CSP_BARE
#define csp__wakefd_ring_locked(c) ((void)(c))
#define csp__wakefd_set_locked(c, rung) ((void)(c))
#define csp__wakefd_free(c) ((void)(c))
#else
/* A channel that an event loop watches has CSP__CHAN_WATCHED set in `special`, which keeps it off
 * the short ways of CHAN: these would not write to the pipe. A byte in the pipe says that there may
 * be something to receive:
 *
 *               a sender, a close, csp_wake_fd: write a byte
 *     empty   ------------------------------------------------->   rung
 *             <-------------------------------------------------
 *               a receiver that finds nothing: reads the byte
 *
 * csp_wake_fd allocates the record, csp__wakefd_free frees it with the channel. */
typedef struct csp__wakefd {
    struct csp__wakefd *next; // guarded by wakefds.lock
    // immutable
    csp__chan *c;
    int pipe[2];
    bool rung; // guarded by c.lock
} csp__wakefd;
static struct {
    uint32_t lock;    // rank WAKEFDS: guards `all` and the records' `next`
    csp__wakefd *all; // one for each watched channel
} csp__wakefds;

/* The pointer to c's record, or the NULL at the end of the list. */
CSP__FN csp__wakefd **csp__wakefd_at_locked(csp__chan *c)
{
    csp__wakefd **at = &csp__wakefds.all;
    while (*at != NULL && (*at)->c != c) at = &(*at)->next;
    return at;
}

/* Rings, or reads the byte. The caller holds c.lock, under which the byte is written or read: see
 * HELD FOR LONG in LOCKS. The record lives as long as c, so it is used after wakefds.lock. */
CSP__FN CSP__NOINLINE void csp__wakefd_set_locked(csp__chan *c, bool rung)
{
    char byte = 0;
    csp_ssize done = 0;
    csp__lock(&csp__wakefds.lock, CSP__RANK_WAKEFDS);
    csp__wakefd *b = *csp__wakefd_at_locked(c);
    csp__unlock(&csp__wakefds.lock);
    if (b == NULL || b->rung == rung) return;
    do done = rung ? csp__os_write_file(b->pipe[1], &byte, 1) : csp__os_read(b->pipe[0], &byte, 1);
    while (done == -EINTR);
    b->rung = rung;
}

/* There is something to receive. */
CSP__FN inline void csp__wakefd_ring_locked(csp__chan *c)
{
    if (CSP__UNLIKELY(c->special & CSP__CHAN_WATCHED)) csp__wakefd_set_locked(c, true);
}

CSP__FN void csp__wakefd_drop(csp__wakefd *b)
{
    csp__os_close(b->pipe[0]);
    csp__os_close(b->pipe[1]);
    csp__free(b);
}

/* The last reference to c is gone. */
CSP__FN CSP__COLD void csp__wakefd_free(csp__chan *c)
{
    csp__lock(&csp__wakefds.lock, CSP__RANK_WAKEFDS);
    csp__wakefd **at = csp__wakefd_at_locked(c), *b = *at;
    if (b != NULL) *at = b->next;
    csp__unlock(&csp__wakefds.lock);
    if (b != NULL) csp__wakefd_drop(b);
}

/* A second call for the same channel finds a record, drops its own and returns the first pipe. */
CSP__API int csp_x_wake_fd(const void *chan)
{
    if (chan == NULL) csp__throw("csp_wake_fd: nil channel");
    csp__sim_refuse("csp_wake_fd");
    csp__chan *c = csp__chan_of(chan);
    csp__wakefd *b = (csp__wakefd *)csp__zalloc(sizeof *b);
    if (b == NULL) return -ENOMEM;
    b->c = c;
    int e = csp__os_pipe(b->pipe);
    if (e < 0) {
        csp__free(b);
        return e;
    }
    csp__m *m = csp__enter_lock(&c->lock, CSP__RANK_CHAN);
    csp__lock(&csp__wakefds.lock, CSP__RANK_WAKEFDS);
    csp__wakefd **at = csp__wakefd_at_locked(c), *old = *at;
    if (old == NULL) *at = b;
    csp__unlock(&csp__wakefds.lock);
    csp__set(&c->special, c->special | CSP__CHAN_WATCHED);
    if (c->count > 0 || c->senders.head != NULL || (c->special & CSP__CHAN_CLOSED))
        csp__wakefd_ring_locked(c);
    csp__unlock_leave(m, &c->lock);
    if (old == NULL) return b->pipe[0];
    csp__wakefd_drop(b);
    return old->pipe[0];
}
#endif

/* ==========================================================================
 * [29] CHAN - channels
 *
 * Two invariants hold whenever c.lock is free: no sender waits while there is room, and no receiver
 * waits while there is a value. Sender and receiver meet directly: the second to come copies, from
 * or to the stack of the first, so a value is copied once.
 *   Nothing of the channel is touched after its unlock: a goroutine that sees the effect may free
 * it. So wake-ups come after the unlock, but for a close, see csp__close.
 * model: the_channels_lock_excludes_and_is_not_looked_at_after_the_last_look
 *
 * Send and receive stand here twice: as short ways for elements of 4 and 8 bytes, which call
 * nothing and need no frame, and whole (csp__chan_slow). The short ones are what the budget of
 * instructions pays for.
 *
 *   uses   PLATFORM BASE PROFILE CORE WAKE BARE WAITERS WAKEFD
 *   locks  chan.lock
 * ======================================================================== */

/* For m, which is inside csp, and leaves before the panic. */
CSP__FN inline csp__chan *csp__chan_in(csp__m *m, const void *chan)
{
    csp__chan *c = (csp__chan *)(uintptr_t)chan;
    if (CSP__LIKELY(c->magic == CSP_X_CHAN_MAGIC)) return c;
    csp__leave(m);
    return csp__chan_of(c);
}

CSP__FN inline void csp__copy_fast(void *to, const void *from, size_t size)
{
    if (size == sizeof(uint64_t))
        CSP__MEMCPY(to, from, sizeof(uint64_t));
    else
        CSP__MEMCPY(to, from, sizeof(uint32_t));
}

CSP__FN inline void csp__chan_copy(csp__chan *c, void *to, const void *from)
{
    size_t size = c->size;
    if (!CSP__ONE_CORE && (size == sizeof(uint64_t) || size == sizeof(uint32_t)))
        csp__copy_fast(to, from, size);
    else if (CSP__ONE_CORE || size != 0)
        csp__chan_move(to, from, size);
}

CSP__FN inline char *csp__chan_slot(csp__chan *c, size_t i)
{
    return c->buffer + (i >= c->cap ? i - c->cap : i) * c->size;
}

/* Sends without waiting. The lock is held; on CSP_OK and CSP_CLOSED it has been dropped, on
 * CSP_AGAIN not. */
CSP__FN csp_status csp__send_locked(csp__m *m, csp__chan *c, const void *value)
{
    if (CSP__UNLIKELY(c->special & CSP__CHAN_CLOSED)) {
        csp__chan_unlock(c);
        return CSP_CLOSED;
    }
    csp__waiter *w = c->receivers.head == NULL ? NULL : csp__waiters_take(&c->receivers);
    if (w == NULL && c->count == c->cap) return CSP_AGAIN;
    if (w != NULL) {
        if (w->value != NULL) csp__chan_copy(c, w->value, value);
    } else {
        csp__hb_after(c);
        csp__chan_copy(c, csp__chan_slot(c, c->head + c->count), value);
        csp__set(&c->count, c->count + 1);
        csp__hb_before(c);
        csp__wakefd_ring_locked(c);
    }
    csp__chan_unlock(c);
    if (w != NULL) csp__waiter_wake(m, w, true);
    return CSP_OK;
}

/* Receives without waiting; the lock as in csp__send_locked. */
CSP__FN csp_status csp__recv_locked(csp__m *m, csp__chan *c, void *value)
{
    csp__waiter *w = c->senders.head == NULL ? NULL : csp__waiters_take(&c->senders);
    if (c->count > 0) {
        csp__hb_after(c);
        if (value != NULL) csp__chan_copy(c, value, csp__chan_slot(c, c->head));
        c->head = c->head + 1 == c->cap ? 0 : c->head + 1;
        if (w != NULL)
            csp__chan_copy(c, csp__chan_slot(c, c->head + c->count - 1), w->value);
        else
            csp__set(&c->count, c->count - 1);
        csp__hb_before(c);
    } else if (w != NULL) {
        if (value != NULL) csp__chan_copy(c, value, w->value);
    } else if (c->special & CSP__CHAN_CLOSED) {
        csp__hb_after(c);
        csp__chan_unlock(c);
        if (value != NULL) memset(value, 0, c->size);
        return CSP_CLOSED;
    } else {
        if (CSP__UNLIKELY(c->special & CSP__CHAN_WATCHED)) csp__wakefd_set_locked(c, false);
        return CSP_AGAIN;
    }
    csp__chan_unlock(c);
    if (w != NULL) csp__waiter_wake(m, w, true);
    return CSP_OK;
}

/* One of them; for a receive `value` is where to put it. */
CSP__FN csp_status csp__move_locked(csp__m *m, csp__chan *c, bool sends, void *value)
{
    return sends ? csp__send_locked(m, c, value) : csp__recv_locked(m, c, value);
}

/* The same for a caller without the lock. It may hold locks of lower ranks. */
CSP__FN csp_status csp__move(csp__m *m, csp__chan *c, bool sends, void *value)
{
    csp__chan_lock(c);
    csp_status status = csp__move_locked(m, c, sends, value);
    if (status == CSP_AGAIN) csp__chan_unlock(c);
    return status;
}

#ifndef CSP_NO_MEMORY
CSP__API void *csp_x_make(size_t size, int64_t capacity CSP_X_PLACE)
{
    if (capacity < 0 || size > (size_t)1 << 31 ||
        (uint64_t)capacity > (SIZE_MAX >> (sizeof(size_t) > 4 ? 17 : 1)) / (size | 1))
        csp__panic_at(at, "csp_make: capacity %lld of %zu bytes each is out of range",
                      (long long)capacity, size);
    /* The buffer stands behind the header; both are cache-line aligned. */
    size_t head = (sizeof(csp__chan) + 15) & ~(size_t)15, all = head + size * (size_t)capacity;
    csp__chan *c = (csp__chan *)csp__alloc(all);
    if (c == NULL) csp__throw_memory(all);
    *c = (csp__chan){.magic = CSP_X_CHAN_MAGIC,
                     .size = size,
                     .cap = (size_t)capacity,
                     .buffer = (char *)c + head,
                     .special = CSP_X_CHAN_SPECIAL(size),
                     .refs = 1};
#ifndef CSP_BARE
    c->made = at;
#endif
    return c;
}
#endif

CSP__FN CSP__OUTLINED void *csp__chan_locked(csp__m *m, csp__chan *c, bool sends,
                                             void *value CSP_X_PLACE)
{
    csp_status status = csp__move_locked(m, c, sends, value);
    if (status != CSP_AGAIN) {
        csp__leave(m);
        return status == CSP_OK ? c : NULL;
    }
    if (!sends) return csp__wait_in(m, &c->receivers, value, CSP__AT("receive"), c);
    csp__wakefd_ring_locked(c);
    return csp__wait_in(m, &c->senders, value, CSP__AT("send"), c);
}

/* The whole of send and receive. Their short ways below call nothing, so that they need no frame:
 * what is rare comes here with a tail call. */
CSP__FN CSP__NOINLINE void *csp__chan_slow(csp__m *m, const void *chan, bool sends,
                                           void *value CSP_X_PLACE)
{
    csp__turn(m);
    if (chan == NULL) { /* a dump says "on a NULL channel" */
        csp__wait_reason(m->g,
                         CSP__AT(sends ? "send on a NULL channel" : "receive from a NULL channel"),
                         NULL);
        csp__park(m);
        __builtin_unreachable();
    }
    csp__chan *c = csp__chan_in(m, chan);
    csp__chan_lock(c);
    return csp__chan_locked(m, c, sends, value CSP__PASS);
}

#ifdef CSP_BARE
CSP__API void *csp_x_send(const void *chan, const void *value)
{
    return csp__chan_slow(csp__enter(), chan, true, (void *)(uintptr_t)value);
}

CSP__API void *csp_x_recv(const void *chan, void *value)
{
    return csp__chan_slow(csp__enter(), chan, false, value);
}
#else
CSP__FN CSP__NOINLINE void *csp__ready_leave(csp__m *m, csp__g *g, void *result)
{
    csp__ready(m, g);
    csp__leave(m);
    return result;
}

CSP__FN CSP__NOINLINE void *csp__chan_enter_slow(csp__m *m, const void *chan, bool sends,
                                                 void *value, const char *at)
{
    void *result = csp__chan_slow(csp__enter_outlined(m), chan, sends, value, at);
    csp__sim_point();
    return result;
}

/* Locks c for a short way, unless the lock is held. Where `special` is not 0, for whatever reason
 * (its size, too), the long way goes on with that lock. */
CSP__FN inline bool csp__lock_fast(csp__chan *c)
{
    if (c == NULL || c->magic != CSP_X_CHAN_MAGIC || csp__swap(&c->lock, 1) != 0) return false;
    csp__rank_take(&c->lock, CSP__RANK_CHAN, __LINE__);
    return true;
}

/* Meets w, the first in its queue, which has no ticket: only this call can wake it. */
CSP__FN inline void *csp__meet_fast(csp__m *m, csp__chan *c, csp_x_queue *q, csp__waiter *w)
{
    csp__waiters_remove(q, w);
    csp__chan_unlock(c);
    csp__g *g = w->g;
    csp__p *p = m->p;
    g->result = w;
    __builtin_prefetch(g->sp, 1); /* most often it runs next, and has waited for long */
    __builtin_prefetch((const void *)((uintptr_t)g->sp + 64), 1);
    if (CSP__UNLIKELY(CSP_TORTURE || (g->flags & CSP__G_FOREIGN) || p == NULL || p->next != NULL ||
                      csp__relaxed(&p->eager) != 0))
        return csp__ready_leave(m, g, c);
    csp__hb_before(g);
    csp__set(&g->state, CSP__G_RUNNABLE);
    csp__set(&p->next, g);
    csp__leave(m);
    return c;
}

/* NULL: the channel was closed. */
CSP__API void *csp_x_send(const void *chan, const void *from, const char *at)
{
    csp__m *m = csp__self();
    csp__chan *c = (csp__chan *)(uintptr_t)chan;
    void *value = (void *)(uintptr_t)from;
    if (CSP__UNLIKELY(!csp__enter_fast(m))) return csp__chan_enter_slow(m, chan, true, value, at);
    if (CSP__UNLIKELY(!csp__lock_fast(c))) return csp__chan_slow(m, chan, true, value, at);
    csp__waiter *w = (csp__waiter *)c->receivers.head;
    if (CSP__UNLIKELY(c->special || (w != NULL && w->ticket != NULL)))
        return csp__chan_locked(m, c, true, value, at);
    if (w != NULL) {
        csp__hb_after(w->g);
        if (w->value != NULL) csp__copy_fast(w->value, value, c->size);
        return csp__meet_fast(m, c, &c->receivers, w);
    }
    if (c->count < c->cap) {
        csp__hb_after(c);
        csp__copy_fast(csp__chan_slot(c, c->head + c->count), value, c->size);
        csp__set(&c->count, c->count + 1);
        csp__hb_before(c);
        csp__unlock_leave(m, &c->lock);
        return c;
    }
    return csp__wait_in(m, &c->senders, value, CSP__AT("send"), c);
}

CSP__API void *csp_x_recv(const void *chan, void *value, const char *at)
{
    csp__m *m = csp__self();
    csp__chan *c = (csp__chan *)(uintptr_t)chan;
    if (CSP__UNLIKELY(!csp__enter_fast(m))) return csp__chan_enter_slow(m, chan, false, value, at);
    if (CSP__UNLIKELY(!csp__lock_fast(c))) return csp__chan_slow(m, chan, false, value, at);
    csp__waiter *w = (csp__waiter *)c->senders.head;
    if (CSP__UNLIKELY(c->special)) return csp__chan_locked(m, c, false, value, at);
    if (w == NULL && c->count > 0) {
        csp__hb_after(c);
        if (value != NULL) csp__copy_fast(value, csp__chan_slot(c, c->head), c->size);
        c->head = c->head + 1 == c->cap ? 0 : c->head + 1;
        csp__set(&c->count, c->count - 1);
        csp__hb_before(c);
        csp__unlock_leave(m, &c->lock);
        return c;
    }
    if (w != NULL && w->ticket == NULL && c->cap == 0) {
        csp__hb_after(w->g);
        if (value != NULL) csp__copy_fast(value, w->value, c->size);
        return csp__meet_fast(m, c, &c->senders, w);
    }
    if (CSP__UNLIKELY(w != NULL)) return csp__chan_locked(m, c, false, value, at);
    return csp__wait_in(m, &c->receivers, value, CSP__AT("receive"), c);
}
#endif

#ifdef CSP_BARE
CSP__API void csp_x_send_closed(void)
#else
CSP__API void csp_x_send_closed(const char *at)
#endif
{
    csp__throw_at("send on closed channel", at);
}

CSP__FN csp_status csp__try(csp__m *m, const void *chan, bool sends, void *value)
{
    csp_status status = CSP_AGAIN;
    if (chan != NULL) status = csp__move(m, csp__chan_in(m, chan), sends, value);
    csp__leave(m);
    csp__sim_point();
    return status;
}

CSP__API csp_status csp_x_try_send(const void *chan, const void *value)
{
    return csp__try(csp__enter(), chan, true, (void *)(uintptr_t)value);
}

CSP__API csp_status csp_x_try_recv(const void *chan, void *value)
{
    return csp__try(csp__enter(), chan, false, value);
}

#ifdef CSP_BARE
#ifdef CSP_PREEMPT
/* Inside csp as long as it lasts: a goroutine that makes the call is not preempted between taking a
 * waiter out and waking it. */
CSP__FN csp_status csp__isr_try(csp__m *m, const void *chan, bool sends, void *value)
{
    csp_status status = CSP_AGAIN;
    if (chan != NULL) status = csp__move(m, csp__chan_of(chan), sends, value);
    csp__isr_leave(m);
    return status;
}
#else
#define csp__isr_try csp__try
#endif

CSP__API csp_status csp_x_isr_send(const void *chan, const void *value)
{
    return csp__isr_try(csp__isr_check(CSP__CALLER), chan, true, (void *)(uintptr_t)value);
}

CSP__API csp_status csp_x_isr_recv(const void *chan, void *value)
{
    return csp__isr_try(csp__isr_check(CSP__CALLER), chan, false, value);
}

CSP__API void csp_x_isr_wake(const void *chan)
{
    static const uint64_t zero;
    if (chan == NULL || csp__chan_of(chan)->size > sizeof zero)
        csp__fatal("csp_isr_wake: not a channel, or of more than 8 bytes an element");
    csp_x_isr_send(chan, &zero);
}
#endif

#ifndef CSP_NO_TIMERS
CSP__FN csp_status csp__until(csp__m *m, const void *chan, bool sends, void *value,
                              int64_t t CSP_X_PLACE)
{
    csp__turn(m);
    csp_status status = csp__try(m, chan, sends, value);
    if (status != CSP_AGAIN) return status;
    if (t <= csp__clock()) return CSP_TIMEOUT;
    if (chan == NULL) {
        CSP__BY(sleep_until)(t CSP__PASS);
        return CSP_TIMEOUT;
    }
    csp__chan *c = csp__chan_of(chan);
    csp_x_queue *q = sends ? &c->senders : &c->receivers;
    m = csp__enter();
    csp__chan_lock(c);
    status = csp__move_locked(m, c, sends, value);
    if (status != CSP_AGAIN) {
        csp__leave(m);
        return status;
    }
    CSP__WAITER(w, m->g);
    csp__wait_init(m, w, value, t, CSP__AT(sends ? "send" : "receive"), c);
    csp__waiters_add(q, w);
    if (sends) csp__wakefd_ring_locked(c);
    csp__chan_unlock(c);
    if (csp__park_until(m, t) != NULL) return w->index >= 0 ? CSP_OK : CSP_CLOSED;
    csp__waiter_cancel(c, q, w);
    return CSP_TIMEOUT;
}

CSP__API csp_status csp_x_send_until(const void *chan, const void *value, int64_t t CSP_X_PLACE)
{
    return csp__until(csp__enter(), chan, true, (void *)(uintptr_t)value, t CSP__PASS);
}

CSP__API csp_status csp_x_recv_until(const void *chan, void *value, int64_t t CSP_X_PLACE)
{
    return csp__until(csp__enter(), chan, false, value, t CSP__PASS);
}
#endif

/* False when c is closed already. All waiters are woken under the lock. One that wants to free c
 * takes the lock first, so it waits for the end of this. (A second walk, after the unlock, along
 * stacks that are cold would cost a fifth of the whole.) */
CSP__FN bool csp__close(csp__m *m, csp__chan *c)
{
    csp__waiter *w;
    csp__chan_lock(c);
    if (c->special & CSP__CHAN_CLOSED) {
        csp__chan_unlock(c);
        return false;
    }
    csp__set(&c->special, c->special | CSP__CHAN_CLOSED);
    csp__wakefd_ring_locked(c);
    csp__hb_before(c);
    for (int sends = 0; sends < 2; sends++)
        while ((w = csp__waiters_take(sends ? &c->senders : &c->receivers)) != NULL) {
            if (!sends && w->value != NULL) csp__chan_zero(w->value, c->size);
            csp__waiter_wake(m, w, false);
            (void)csp__chan_rest();
        }
    csp__chan_unlock(c);
    return true;
}

CSP__API void csp_x_close(const void *chan CSP_X_PLACE)
{
    if (chan == NULL) csp__throw_at("close of nil channel", at);
    csp__chan *c = csp__chan_of(chan);
    csp__m *m = csp__enter();
    bool open = csp__close(m, c);
    csp__leave(m);
    if (!open) csp__throw_at("close of closed channel", at);
    csp__sim_point();
}

CSP__API int64_t csp_x_len(const void *chan)
{
    csp__sim_point();
    csp__fence(); /* see LOOKS WITHOUT A LOCK */
    return chan == NULL ? 0 : (int64_t)csp__relaxed(&csp__chan_of(chan)->count);
}

CSP__API int64_t csp_x_cap(const void *chan)
{
    return chan == NULL ? 0 : (int64_t)csp__chan_of(chan)->cap;
}

CSP__API const void *csp_x_ref(const void *chan)
{
    csp__goroutine_only();
    if (chan != NULL) csp__add(&csp__chan_of(chan)->refs, 1);
    return chan;
}

CSP__FN void csp__chan_unref(const void *chan CSP_X_PLACE)
{
    if (chan == NULL) return;
    csp__chan *c = csp__chan_of(chan);
    csp__hb_before(&c->refs);
    if (csp__add(&c->refs, (uint32_t)-1) != 0 || (c->flags & CSP_X_CHAN_STATIC)) return;
    csp__hb_after(&c->refs);
    if (csp__waiters_live(c, &c->senders) || csp__waiters_live(c, &c->receivers)) {
        csp__add(&c->refs, 1);
        csp__throw_at("unref of the last reference to a channel on which somebody waits", at);
    }
    if (CSP__UNLIKELY(c->special & CSP__CHAN_WATCHED)) csp__wakefd_free(c);
    csp__set(&c->magic, 0xdeadc0deu);
    csp__free(c);
}

CSP__API void csp_x_unref(const void *chan CSP_X_PLACE)
{
    csp__goroutine_only();
    csp__chan_unref(chan CSP__PASS);
}

/* ==========================================================================
 * [30] SELECT - a look at each case, any ready one; else all locks, in the order of addresses
 *
 * The passes of a select:
 *
 *     plan      looks at each case without a lock, and chooses one that seems ready
 *     try       locks the channel of that case alone, and moves the element. Most selects end here.
 *     lock      locks all channels, looks at each case again, and moves the element of a ready one
 *     enqueue   puts a waiter into each channel's queue, and unlocks the channels
 *     park      until a waker claims the ticket, or until the deadline
 *     dequeue   takes the other waiters out
 *
 * All channels are locked by rising address, so that two selects over the same channels never wait
 * for each other. `lock` and `enqueue` are under all locks, so no case can become ready unseen in
 * between: the other side finds the waiter, or the select finds the element.
 * model: two_selects_that_send_and_receive_meet_once
 *
 *   uses   PLATFORM BASE PROFILE WAITERS WAKEFD CHAN
 *   locks  chan.lock of every case, by address
 * ======================================================================== */

#ifndef CSP_NO_SELECT
/* So many cases have their waiters and entries on the stack. More take them from malloc. */
#define CSP__SELECT_SMALL (CSP__ONE_CORE ? 4 : 8)
/* A case that has a channel. It lies in the select's frame. */
typedef struct csp__entry {
    csp__chan *c;
    uint32_t at;          // its position among the cases
    bool receives, tried; // tried: seemed ready under the locks, and was not
} csp__entry;
/* One call of csp_select, in its frame. */
typedef struct csp__select {
    csp_case *cases;
    csp__waiter *waiters;
    csp__entry *entries;  // sorted by address before their channels are locked
    bool in_order, twice; // in_order: the first ready case wins; twice: a channel has several cases
    uint32_t n;           // entries
    int timed, otherwise; // positions of the earliest deadline and of the default; -1: none
    int64_t until;
#ifndef CSP_BARE
    uint32_t fds;   // cases with a descriptor, see DESCRIPTORS IN SELECT
    const char *at; // the place of the call
#endif
} csp__select;
#ifdef CSP_BARE
#define CSP__SELECT_REST
#else
#define CSP__SELECT_REST , 0 CSP__PASS
#endif

/* Could the case go ahead? Read without the lock. False: there was a moment when it could not,
 * perhaps before the last step of this goroutine: see LOOKS WITHOUT A LOCK. `special` is read last.
 * Were it read first, a channel that is closed and then drained in between would look empty, though
 * it was ready all the time. */
CSP__FN inline bool csp__entry_maybe(const csp__entry *e)
{
    csp__chan *c = e->c;
    if (e->receives) {
        if (csp__acquire(&c->count) > 0 || csp__acquire(&c->senders.head) != NULL) return true;
    } else if (csp__acquire(&c->receivers.head) != NULL || csp__acquire(&c->count) < c->cap) {
        return true;
    }
    return (csp__relaxed(&c->special) & (CSP__CHAN_CLOSED | CSP__CHAN_WATCHED)) != 0;
}

/* The queue in which e waits. */
CSP__FN inline csp_x_queue *csp__entry_queue(const csp__entry *e)
{
    return e->receives ? &e->c->receivers : &e->c->senders;
}

/* Does e replace `best`? e is the seen-th ready case. It does with the chance 1 / seen, so that
 * each ready case is chosen with the same chance; with in_order the first one stays. */
CSP__FN inline bool csp__entry_better(csp__m *m, const csp__select *s, const csp__entry *e,
                                      const csp__entry *best, uint32_t seen)
{
    if (seen == 1) return true;
    return s->in_order ? e->at < best->at : csp__random_below(&m->rng, seen) == 0;
}

/* Reports the case at position `at` as taken. ok: an element was moved; else the channel is
 * closed. */
CSP__FN int csp__select_done(csp__select *s, uint32_t at, bool ok)
{
    csp_case *k = &s->cases[at];
    if (k->kind == CSP_X_RECV) {
        if (k->ok != NULL) *k->ok = ok;
    } else if (!ok) {
        csp__throw_at("send on closed channel", s->at);
    }
    return (int)at;
}

#ifdef CSP_BARE /* saves 116 bytes: a send case without a value sends from address 0 */
#define csp__select_need(m, k, at) ((void)(m))
#else
/* A send case has no value. That is a mistake, unless an element has no bytes. */
CSP__FN CSP__COLD void csp__select_nothing(csp__m *m, const csp__chan *c, const char *at)
{
    if (c->size == 0) return;
    csp__leave(m);
    csp__nil("csp_select", at);
}

CSP__FN inline void csp__select_need(csp__m *m, const csp_case *k, const char *at)
{
    if (CSP__UNLIKELY(k->value == NULL && k->kind == CSP_X_SEND))
        csp__select_nothing(m, (const csp__chan *)k->chan, at);
}
#endif

/* plan: makes the entries. Returns a case that seems ready, or NULL. */
CSP__FN CSP__INLINE csp__entry *csp__select_plan(csp__m *m, csp__select *s, uint32_t cases)
{
    csp__entry *e = s->entries, *best = NULL;
    for (uint32_t i = 0, seen = 0; i < cases; i++) {
        csp_case *k = &s->cases[i];
        if (CSP__LIKELY(k->kind <= CSP_X_SEND)) {
            if (k->chan == NULL) continue;
            csp__select_need(m, k, s->at);
            *e = (csp__entry){csp__chan_in(m, k->chan), i, k->kind == CSP_X_RECV, false};
            if (csp__entry_maybe(e) && csp__entry_better(m, s, e, best, ++seen)) best = e;
            e++;
        } else if (k->kind == CSP_X_DEFAULT) {
            s->otherwise = (int)i;
        } else if (k->kind == CSP_X_UNTIL) {
            if (s->timed < 0 || k->until < s->until) s->timed = (int)i, s->until = k->until;
#ifndef CSP_BARE
        } else if (k->kind == CSP_X_FD) {
            s->fds++;
#endif
        }
    }
    s->n = (uint32_t)(e - s->entries);
    return best;
}

/* Sorts the entries by address of their channels, then by position: a shell sort, without
 * recursion. */
CSP__FN inline void csp__select_sort(csp__select *s)
{
    csp__entry *e = s->entries;
    for (uint32_t gap = s->n / 7 + 1; gap > 0; gap = gap == 1 ? 0 : gap / 3 + 1)
        for (uint32_t i = gap; i < s->n; i++) {
            csp__entry x = e[i];
            uint32_t j = i;
            for (; j >= gap && ((uintptr_t)e[j - gap].c > (uintptr_t)x.c ||
                                (e[j - gap].c == x.c && e[j - gap].at > x.at));
                 j -= gap)
                e[j] = e[j - gap];
            if (j != i) e[j] = x;
        }
}

/* Unlocks each channel once, except `but`: csp__move_locked has unlocked that one. */
CSP__FN inline void csp__select_unlock(csp__select *s, const csp__chan *but)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->entries[i].c != but && (i == 0 || s->entries[i].c != s->entries[i - 1].c))
            csp__chan_unlock(s->entries[i].c);
}

/* Moves the element of e; unlocks its channel unless it returns CSP_AGAIN. */
CSP__FN inline csp_status csp__entry_move_locked(csp__m *m, csp__select *s, const csp__entry *e)
{
    return csp__move_locked(m, e->c, !e->receives, s->cases[e->at].value);
}

/* lock: locks all channels and takes a ready case. NULL: none is ready, and all locks are held. */
CSP__FN inline csp__entry *csp__select_lock(csp__m *m, csp__select *s, bool *ok)
{
    csp__select_sort(s);
    for (uint32_t i = 0; i < s->n; i++)
        if (i > 0 && s->entries[i].c == s->entries[i - 1].c)
            s->twice = true;
        else
            csp__chan_lock(s->entries[i].c);
    for (;;) {
        csp__entry *best = NULL;
        uint32_t seen = 0;
        for (csp__entry *e = s->entries; e < s->entries + s->n; e++)
            if (csp__entry_maybe(e) && !e->tried && csp__entry_better(m, s, e, best, ++seen))
                best = e;
        if (best == NULL) return NULL;
        csp_status status = csp__entry_move_locked(m, s, best);
        if (status != CSP_AGAIN) {
            csp__select_unlock(s, best->c);
            *ok = status == CSP_OK;
            return best;
        }
        best->tried = true; /* every waiter there has been woken by another thread */
    }
}

/* Shuffles the cases of each channel. They wait in its queue in this order, and a waker serves the
 * first: unshuffled, the later ones would never be taken. */
CSP__FN inline void csp__select_mix(csp__m *m, csp__select *s)
{
    for (uint32_t i = 1, first = 0; i < s->n; i++) {
        if (s->entries[i].c != s->entries[i - 1].c) first = i;
        uint32_t j = first + csp__random_below(&m->rng, i - first + 1);
        csp__entry x = s->entries[i];
        s->entries[i] = s->entries[j];
        s->entries[j] = x;
    }
}

/* enqueue: puts a waiter into the queue of each case, and unlocks the channels one by one. From the
 * first unlock on a waker may claim the ticket. The waiters that are queued after that are stale
 * from the start, and the thread that is to run the goroutine waits until it has parked. */
CSP__FN inline void csp__select_enqueue(csp__m *m, csp__select *s)
{
    csp__g *g = m->g;
    if (s->twice && !s->in_order) csp__select_mix(m, s);
#ifdef CSP_BARE
    csp__wait_begin(g, "select", NULL);
#else
    csp__wait_begin(g, s->at, s->n > 0 ? s->entries[0].c : NULL);
#endif
    for (uint32_t i = 0; i < s->n; i++) {
        csp__entry *e = &s->entries[i];
        csp__waiter *w = csp__waiter_fill(g, &s->waiters[i], s->cases[e->at].value, (int)e->at);
        csp__waiters_add(csp__entry_queue(e), w);
        if (!e->receives) csp__wakefd_ring_locked(e->c);
        if (i + 1 == s->n || e[1].c != e->c) csp__chan_unlock(e->c);
    }
}

/* Is its only case ready after a fence? See LOOKS WITHOUT A LOCK. */
CSP__FN inline bool csp__select_ripe(const csp__select *s)
{
    csp__fence();
    return s->n == 1 && csp__entry_maybe(&s->entries[0]);
}

/* dequeue: takes all waiters out of their queues. The ticket has been claimed. */
CSP__FN void csp__select_dequeue(csp__select *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        csp__entry *e = &s->entries[i];
        csp__waiter *w = &s->waiters[i];
        if (csp__acquire(&w->queued) != 0) csp__waiter_cancel(e->c, csp__entry_queue(e), w);
    }
}

/* One core, under the lock: is e ready? g may wait in another case of the same channel: a select
 * does not meet itself. */
CSP__FN inline bool csp__entry_met(const csp__entry *e, const csp__g *g)
{
    csp__chan *c = e->c;
    if (csp__waiters_met(e->receives ? &c->senders : &c->receivers, g)) return true;
    return (e->receives ? c->count > 0 : c->count < c->cap) || (c->special & CSP__CHAN_CLOSED) != 0;
}

CSP__FN inline void csp__entries_swap(csp__entry *a, csp__entry *b)
{
    csp__entry x = *a;
    *a = *b;
    *b = x;
}

/* ONE AFTER THE OTHER. On one core only handlers come in between, and the mask must not last for
 * all cases. So each case is looked at and queued under a mask of its own, the case that seemed
 * ready first. Handlers may serve a case that is queued already:
 *
 *     select, for each case                     handler
 *     1 masks                                   1 finds the waiter in a channel's queue
 *     2 ready: claims its own ticket            2 claims the ticket
 *     3 claimed: moves the element              3 claimed: moves the element, csp__ready
 *       not ready: queues a waiter
 *     4 unmasks
 *
 * A select that fails to claim its own ticket has been served by a handler, and park returns at
 * once. Returns the position of the case that is taken; -1: a handler was faster at the case that
 * seemed ready, look again; -2: all cases wait, or a handler has served one. */
CSP__FN inline int csp__select_each(csp__m *m, csp__select *s, csp__entry *ready)
{
    csp__g *g = m->g;
    uint32_t *ticket = &csp__cb_of(g)->ticket;
    csp__set(ticket, 0);
    csp__wait_reason(g, "select", NULL);
    if (ready != NULL) csp__entries_swap(&s->entries[0], ready);
    for (uint32_t i = s->n; i > 1 && ready == NULL && !s->in_order;
         i--) /* shuffled: several cases may be of one channel */
        csp__entries_swap(&s->entries[i - 1], &s->entries[csp__random_below(&m->rng, i)]);
    for (uint32_t i = 0; i < s->n; i++) {
        csp__entry *e = &s->entries[i];
        void *value = s->cases[e->at].value;
        csp_status status = CSP_AGAIN;
        csp__chan_lock(e->c);
        bool met = csp__entry_met(e, g), claimed = met && csp__ticket_claim(ticket);
        if (!met && ready == NULL)
            csp__waiters_add(csp__entry_queue(e),
                             csp__waiter_fill(g, &s->waiters[i], value, (int)e->at));
        if (claimed) status = csp__move_locked(m, e->c, !e->receives, value);
        if (status == CSP_AGAIN) csp__chan_unlock(e->c);
        if (met || ready != NULL) s->n = i;
        if (claimed) csp__select_dequeue(s);
        if (status != CSP_AGAIN) return csp__select_done(s, e->at, status == CSP_OK);
        if (claimed || ready != NULL) return -1;
    }
    return -2;
}

/* park: waits until a waker has taken a case, or until the deadline. All cases are queued. */
CSP__FN inline int csp__select_park(csp__m *m, csp__select *s)
{
    csp__waiter *w = (csp__waiter *)csp__park_until(m, s->until);
    csp__select_dequeue(s);
    if (w == NULL) return s->timed;
    bool ok = w->index >= 0;
    return csp__select_done(s, (uint32_t)(ok ? w->index : ~w->index), ok);
}

/* May it wait? Not with a default, and not when the deadline has passed. */
CSP__FN inline bool csp__select_waits(const csp__select *s)
{
    return s->otherwise < 0 && (s->timed < 0 || s->until > csp__clock());
}

CSP__FN int csp__select_run(csp__select *s, uint32_t cases)
{
    bool ok = false;
    csp__m *m = csp__enter();
    csp__turn(m);
    for (int at = -1; CSP__ONE_CORE;) {
        csp__entry *ready = csp__select_plan(m, s, cases);
        if (ready == NULL && !csp__select_waits(s)) break;
        at = csp__select_each(m, s, ready);
        if (at >= 0) {
            csp__leave(m);
            return at;
        }
        if (at == -2) return csp__select_park(m, s);
    }
    csp__entry *e = CSP__ONE_CORE ? NULL : csp__select_plan(m, s, cases);
#ifndef CSP_BARE
    if (CSP__UNLIKELY(s->fds != 0)) {
        csp__leave(m);
        return csp_x_select_fds(s->cases, cases, s->in_order, s->at);
    }
#endif
    if (e != NULL) {
        csp__chan_lock(e->c);
        csp_status status = csp__entry_move_locked(m, s, e);
        if (status == CSP_AGAIN) {
            csp__chan_unlock(e->c);
            e = NULL;
        }
        ok = status == CSP_OK;
    }
    if (!CSP__ONE_CORE && e == NULL) {
        bool waits = csp__select_waits(s);
        /* A default is right only where no case was ready at one moment. Each of several cases was
         * seen at a moment of its own: an element may have moved from a channel not yet seen to one
         * already seen. So all are locked. A single case is looked at again, after a fence. */
        if (waits || s->n > 1 || csp__select_ripe(s)) {
            e = csp__select_lock(m, s, &ok);
            if (e == NULL && !waits) csp__select_unlock(s, NULL);
        }
        if (e == NULL && waits) {
            csp__select_enqueue(m, s);
            return csp__select_park(m, s);
        }
    }
    csp__leave(m);
    if (e == NULL) return s->otherwise >= 0 ? s->otherwise : s->timed;
    csp__sim_point();
    return csp__select_done(s, e->at, ok);
}

/* A select of more than CSP__SELECT_SMALL cases. */
CSP__FN CSP__NOINLINE int csp__select_slow(csp_case *cases, size_t n, bool in_order CSP_X_PLACE)
{
    size_t each = sizeof(csp__waiter) + sizeof(csp__entry);
    if (n > (size_t)1 << 24) csp__throw_at("csp_select: too many cases", at);
    char *room = (char *)csp__alloc(n * each);
    if (room == NULL) csp__throw_memory(n * each);
    csp__waiter *waiters = (csp__waiter *)(void *)room;
    csp__entry *entries = (csp__entry *)(void *)(waiters + n);
    csp__select s = {cases,    waiters, entries,
                     in_order, false,   0,
                     -1,       -1,      CSP_FOREVER CSP__SELECT_REST};
    csp_defer(csp__free, room);
    return csp__select_run(&s, (uint32_t)n);
}

CSP__API int csp_x_select(csp_case *cases, size_t n, bool in_order CSP_X_PLACE)
{
    if (cases == NULL && n > 0) csp__nil_at("csp_select_n", at);
    if (n > CSP__SELECT_SMALL) return csp__select_slow(cases, n, in_order CSP__PASS);
    csp__waiter waiters[CSP__SELECT_SMALL];
    csp__entry entries[CSP__SELECT_SMALL];
    csp__select s = {cases,    waiters, entries,
                     in_order, false,   0,
                     -1,       -1,      CSP_FOREVER CSP__SELECT_REST};
    return csp__select_run(&s, (uint32_t)n);
}

#ifdef CSP_BARE /* csp_select passes room of the right size, from its caller's frame */
CSP_X_ASSERT(sizeof(csp__waiter) + sizeof(csp__entry) <= sizeof(csp_x_room), "it holds both");
CSP__API int csp_x_select_in(csp_x_room *rooms, csp_case *cases, size_t n, bool in_order)
{
    csp__waiter *waiters = (csp__waiter *)(void *)rooms;
    csp__entry *entries = (csp__entry *)(void *)(waiters + n);
    csp__select s = {cases, waiters, entries, in_order, false, 0, -1, -1, CSP_FOREVER};
    return csp__select_run(&s, (uint32_t)n);
}
#endif
#endif

/* ########################################## SHARING ########################################### */
/* ==========================================================================
 * [31] SYNC - mutex, rwmutex, cond, once, waitgroup, sem
 *
 *   uses   PLATFORM BASE PROFILE CALLS WAITERS
 *   locks  rwmutex.lock cond.lock sem.lock. mutex and waitgroup: a bit in the word that is all
 *          there is to see of them, so that one store drops it and shows the effect
 *
 * The locks guard `queued`, see A WAIT: a goroutine whose deadline has passed takes the lock, and
 * leaves the queue if it is still there. So whatever stands in a queue under the lock may be
 * touched. The last look holds for all objects: the effect is the last store to the object, and
 * wake-ups come after it.
 * ======================================================================== */

/* Where an object was seen first, for dumps: it has not been made by a call that could tell. The
 * caller may use the object, and is about to wait for it or to change it. */
#ifdef CSP_BARE
#define csp__seen(object, at) ((void)0)
#else
#define csp__seen(object, at)                                                                      \
    (csp__relaxed(&(object)->csp_x_seen) == NULL ? csp__set(&(object)->csp_x_seen, at) : (void)0)
#endif

/* Takes a waiter out of q; at the end of a list of those to be woken, unless its deadline was
 * faster: false then. */
CSP__FN bool csp__sync_pick(csp_x_queue *q, csp__waiter *w, csp__waiter ***end)
{
    uint32_t none = 0;
    csp__waiters_remove(q, w);
    w->queued = CSP__QUEUED_OUT;
    if (w->ticket != NULL && !csp__cas(w->ticket, &none, 1)) return false;
    csp__hb_after(w->g);
    w->next = NULL;
    **end = w;
    *end = &w->next;
    return true;
}

CSP__FN bool csp__sync_first(csp_x_queue *q, csp__waiter ***end)
{
    return csp__sync_pick(q, (csp__waiter *)q->head, end);
}

CSP__FN bool csp__sync_take(csp_x_queue *q, csp__waiter ***end)
{
    while (q->head != NULL)
        if (csp__sync_first(q, end)) return true;
    return false;
}

CSP__FN void csp__sync_wake(csp__m *m, csp__waiter *list)
{
    for (csp__waiter *w; (w = list) != NULL;) {
        list = w->next;
        csp__waiter_wake(m, w, true);
    }
}

CSP__FN void csp__sync_wake_all(csp__m *m, csp_x_queue *q)
{
    csp__waiter *woken = NULL, **end = &woken;
    while (csp__sync_take(q, &end)) continue;
    csp__sync_wake(m, woken);
}

/* One core: waits in q, until t at the latest; for a mutex, unless mu is NULL. */
CSP__FN CSP__NOINLINE csp_status csp__sync_wait(csp__m *m, csp_x_queue *q, int64_t t,
                                                const char *what, csp_mutex *mu)
{
    if (t != CSP_FOREVER && t <= csp__clock()) return CSP_TIMEOUT;
    CSP__WAITER(w, m->g);
    csp__wait_init(m, w, NULL, t, what, q);
    csp__waiters_add(q, w);
    if (mu != NULL) csp__mutex_lends(mu, true);
    if (csp__park_until(csp__reenter(m), t) != NULL) return CSP_OK;
    csp__waiter_forget(q, w);
    if (mu != NULL) csp__mutex_lends(mu, false);
    return CSP_TIMEOUT;
}

/* ---- csp_mutex ----
 *
 * On one core it is `owner` and the queue: who finds it locked waits, and an unlock hands it to the
 * one that has waited longest. The rest is for several.
 *
 * `owner` is 0 when the mutex is free for all; LOCKED; or LEAVING, on its way from there to 0.
 * `state` belongs to the waiters. HELD: its lock, see csp__word_lock. WAITED: the queue is not
 * empty. COMING: a waiter has been taken out of it, and is on its way to try again.
 *
 * LEAVING. An unlock without waiters is two plain stores.
 *
 *   the unlocker                         the waiter-to-be
 *   1 owner = LEAVING                    1 state |= HELD
 *   2 barrier                            2 membarrier, when state was 0 before
 *   3 if (state != 0) owner = LOCKED;    3 wait while owner is LEAVING
 *     slow, which takes HELD             4 owner is 0: take it; LOCKED: into the queue,
 *   4 owner = 0                            state = WAITED
 *
 * If 3 on the left missed HELD, it came before the membarrier. Then the LEAVING of 1, or what came
 * after it, is visible to 3 on the right, which waits for the 0.
 *   If it saw HELD, the owner is LOCKED again until the slow way has HELD itself, and that finds
 * the waiter in the queue.
 *   If state was not 0 before 1 on the right, it has not been 0 since the membarrier of the waiter
 * that changed it from 0, and every unlock since then has seen that.
 *   Without membarrier both sides fence. The slow way, too, sets owner to LEAVING before it drops
 * HELD, and its last store is the 0, for which a waiter-to-be waits.
 *
 * No wake-up is lost. An unlock that leaves waiters in the queue wakes one, unless COMING is set:
 * then a waiter is on its way. It takes the mutex; or it gives up; or it finds the mutex LOCKED,
 * and clears COMING in the step in which it queues itself again. That step has HELD. So the unlock
 * of the owner that it found has HELD later, sees WAITED without COMING, and wakes.
 *
 * No waiter starves. One that was woken in vain goes to the front of the queue. When it has waited
 * for a millisecond, it is marked: the unlock hands the mutex over, which stays LOCKED.
 * model: a_mutex_that_is_being_unlocked_is_waited_for_or_its_unlock_wakes
 * model: a_mutex_that_three_want_loses_no_wake_up
 */

enum {
    CSP__MUTEX_LEAVING = CSP_X_LEAVING,
    CSP__MUTEX_LOCKED = CSP_X_LOCKED,
    CSP__MUTEX_WAITED = 4,
    CSP__MUTEX_COMING = 8
};
#define CSP__MUTEX_PATIENCE CSP_MILLISECOND

/* v without WAITED when q is empty. */
CSP__FN uint32_t csp__word_waited(const csp_x_queue *q, uint32_t v)
{
    return q->head == NULL ? v & ~(uint32_t)CSP__MUTEX_WAITED : v;
}

/* With CSP_HOLDERS the owner is known by its number, in the bits above. */
#define csp__mutex_mine() (CSP__MUTEX_LOCKED | (CSP_HOLDERS ? (uint32_t)csp_id() << 2 : 0))

CSP__FN inline bool csp__mutex_try(csp_mutex *mu)
{
    uint32_t is_free = 0;
    bool got = csp__relaxed(&mu->csp_x_owner) == 0 &&
               csp__cas(&mu->csp_x_owner, &is_free, csp__mutex_mine()); // acq <owner>
    if (CSP__ONE_CORE && got) csp__mutex_held(mu, csp__self()->g);
    return got;
}

/* Looks at once, and then for some microseconds less and less often, if that is worth it: a look
 * takes the cache line away from the owner, and one that comes too early makes the two processors
 * take turns with the line instead of working. */
CSP__FN bool csp__mutex_spin(csp_mutex *mu)
{
    for (int n = 0; n <= 64 && (n == 0 || csp__spins()); n = n == 0 ? 8 : 2 * n) {
        for (int i = 0; i < n; i++) csp__pause();
        if (csp__mutex_try(mu)) return true;
    }
    return false;
}

/* Takes HELD, and, if it can be had, the mutex; `woken` is cleared in *state. */
CSP__FN bool csp__mutex_hold(csp_mutex *mu, uint32_t woken, uint32_t *state)
{
    uint32_t v = csp__word_lock(&mu->csp_x_state);
    if (v == 0) csp__fence_heavy(); /* see LEAVING */
    for (uint32_t n = 0; csp__acquire(&mu->csp_x_owner) == CSP__MUTEX_LEAVING;) csp__lock_pause(&n);
    *state = v & ~woken;
    return csp__mutex_try(mu);
}

CSP__FN CSP__NOINLINE csp_status csp__mutex_lock_slow(csp_mutex *mu, int64_t t CSP_X_PLACE)
{
    csp_x_queue *q = &mu->csp_x_waiters;
    int64_t since = 0;
    uint32_t woken = 0, v;
    if (CSP__ONE_CORE) return csp__sync_wait(csp__self(), q, t, "mutex", mu);
    for (;;) {
        if (csp__mutex_spin(mu)) {
            if (woken)
                csp__word_unlock(&mu->csp_x_state, csp__word_lock(&mu->csp_x_state) & ~woken);
            return CSP_OK;
        }
        csp__m *m = csp__enter();
        int64_t now = csp__clock();
        if (since == 0) since = now;
        if (t > now && now - since < CSP__MUTEX_PATIENCE && csp__relaxed(&mu->csp_x_state) == 0 &&
            !csp__barrier_open()) {
            csp__leave(m); /* not with HELD, for which the owner would wait, too: see BARRIERS */
            csp_yield();
            continue;
        }
        bool got = csp__mutex_hold(mu, woken, &v);
        if (got || t <= now) {
            csp__word_unlock(&mu->csp_x_state, v);
            csp__leave(m);
            return got ? CSP_OK : CSP_TIMEOUT;
        }
        CSP__WAITER(w, m->g);
        csp__wait_init(m, w, now - since >= CSP__MUTEX_PATIENCE ? mu : NULL, t, CSP__AT("mutex"),
                       mu);
        csp__seen(mu, at);
        csp__waiters_add(q, w);
        if (woken != 0 && w->prev != NULL) { /* to the front */
            csp__waiters_remove(q, w);
            w->prev = NULL;
            w->next = (csp__waiter *)q->head;
            w->next->prev = w;
            csp__set(&q->head, (void *)w);
        }
        v |= CSP__MUTEX_WAITED;
        if (!csp__wait_until(&m, q, w, t, &mu->csp_x_state, &v)) {
            csp__word_unlock(&mu->csp_x_state, csp__word_waited(q, v));
            csp__leave(m);
            return CSP_TIMEOUT;
        }
        if (w->value != NULL) { /* handed over */
            if (CSP_HOLDERS) csp__set(&mu->csp_x_owner, csp__mutex_mine());
            return CSP_OK;
        }
        woken = CSP__MUTEX_COMING;
    }
}

/* The unlock of a locked mutex by m, which is inside csp. False when m is NULL and a waiter has to
 * be woken. */
CSP__FN bool csp__mutex_unlock(csp__m *m, csp_mutex *mu)
{
    uint32_t *word = &mu->csp_x_state, v = csp__relaxed(word);
    if (CSP__ONE_CORE) {
        csp__waiter *first = NULL, **end = &first;
        csp__mutex_left(mu);
        while (first == NULL && mu->csp_x_waiters.head != NULL)
            csp__sync_pick(&mu->csp_x_waiters, csp__mutex_heir(mu), &end);
        if (first == NULL)
            mu->csp_x_owner = 0;
        else
            csp__mutex_held(mu, first->g);
        csp__sync_wake(csp__self(), first);
        return true;
    }
    csp__hb_before(mu);
    if (v == 0) {
        csp__set(&mu->csp_x_owner, CSP__MUTEX_LEAVING);
        csp__fence_light();
        if ((v = csp__relaxed(word)) == 0) {
            csp__torture_delay(NULL);
            csp__release(&mu->csp_x_owner, 0); // rel <owner>
            return true;
        }
        csp__set(&mu->csp_x_owner, CSP__MUTEX_LOCKED);
    }
    csp__waiter *w = NULL;
    v = csp__word_lock(word);
    if ((v & (CSP__MUTEX_WAITED | CSP__MUTEX_COMING)) == CSP__MUTEX_WAITED) {
        if (m == NULL) {
            csp__word_unlock(word, v);
            return false;
        }
        w = csp__waiters_take(&mu->csp_x_waiters);
        v = mu->csp_x_waiters.head != NULL ? CSP__MUTEX_WAITED : 0;
        if (w != NULL && w->value == NULL) v |= CSP__MUTEX_COMING;
    }
    if (w != NULL && w->value != NULL) {
        csp__word_unlock(word, v); /* it stays LOCKED */
    } else {
        csp__set(&mu->csp_x_owner, CSP__MUTEX_LEAVING);
        csp__word_unlock(word, v);
        csp__torture_delay(NULL);
        csp__release(&mu->csp_x_owner, 0); // rel <owner>
    }
    if (w != NULL) csp__waiter_wake(m, w, true);
    return true;
}

CSP__API void CSP__BY(mutex_lock)(csp_mutex *mu CSP_X_PLACE)
{
    csp__need_at(mu, at);
    csp__may_wait();
    csp__sim_point();
    if (CSP__UNLIKELY(!csp__mutex_try(mu))) csp__mutex_lock_slow(mu, CSP_FOREVER CSP__PASS);
    csp__hb_after(mu);
}

CSP__API bool csp_mutex_try_lock(csp_mutex *mu)
{
    csp__need(mu);
    csp__goroutine_only();
    csp__sim_point();
    bool got = csp__mutex_try(mu);
    if (got) csp__hb_after(mu);
    return got;
}

CSP__API csp_status CSP__BY(mutex_lock_until)(csp_mutex *mu, int64_t t CSP_X_PLACE)
{
    csp__need_at(mu, at);
    csp__may_wait();
    csp__sim_point();
    csp_status status = csp__mutex_try(mu) ? CSP_OK : csp__mutex_lock_slow(mu, t CSP__PASS);
    if (status == CSP_OK) csp__hb_after(mu);
    return status;
}

CSP__API void CSP__BY(mutex_unlock)(csp_mutex *mu CSP_X_PLACE)
{
    csp__need_at(mu, at);
    csp__goroutine_only();
    csp__sim_point();
    if (!(csp__relaxed(&mu->csp_x_owner) & CSP__MUTEX_LOCKED))
        csp__throw_at("sync: unlock of unlocked mutex", at);
    if (!csp__mutex_unlock(NULL, mu)) {
        csp__m *m = csp__enter();
        csp__mutex_unlock(m, mu);
        csp__leave(m);
    }
    csp__sim_point();
}

/* ---- csp_rwmutex ----
 *
 * There are two modes. READERS: the slots count the readers, each in the slot of its processor. (A
 * reader that has changed its processor takes its count from any slot that has one.) WRITERS: all
 * slots have bit 0 set and stand still; `active` and `writing`, under the lock, say what is so.
 *   Every change of a slot is a compare-and-swap that fails on the bit. So a writer that sets one
 * bit after the other learns exactly how many readers there are: none counts itself in behind the
 * writer's back, and a reader that leaves finds its count either in its slot or, by the bit, in
 * `active`. The last reader to leave hands the mutex to the writer.
 *   An unlock leaves the mode as it is: the next reader changes it.
 * model: a_rwmutex_lets_in_readers_or_a_writer
 */

CSP__FN inline uint32_t *csp__rw_slot(csp_rwmutex *rw, uint32_t i)
{
    return &rw->csp_x_slots[i % CSP_X_RW_SLOTS * 16];
}

CSP__FN inline bool csp__rw_writers_locked(csp_rwmutex *rw)
{
    return csp__relaxed(csp__rw_slot(rw, 0)) & 1;
}

/* Changes to WRITERS, unless it is so already. */
CSP__FN void csp__rw_freeze_locked(csp_rwmutex *rw)
{
    if (csp__rw_writers_locked(rw)) return;
    uint32_t active = 0;
    for (uint32_t i = 0; i < CSP_X_RW_SLOTS; i++) {
        uint32_t *slot = csp__rw_slot(rw, i), v = csp__relaxed(slot);
        while (!csp__cas(slot, &v, v | 1)) continue;
        active += v >> 1;
    }
    rw->csp_x_active = active;
}

CSP__FN void csp__rw_thaw_locked(csp_rwmutex *rw)
{
    uint32_t mine = csp__rw_lane();
    for (uint32_t i = 0; i < CSP_X_RW_SLOTS; i++)
        csp__release(csp__rw_slot(rw, i), i == mine ? rw->csp_x_active * 2 : 0);
}

/* In WRITERS, without a writer inside: lets the next ones in. After a writer these are the readers
 * that have waited; else the first writer, once no reader is inside; else, without a writer in the
 * queue, all readers. Drops the lock, wakes. */
CSP__FN void csp__rw_next(csp__m *m, csp_rwmutex *rw, bool after_writer)
{
    csp__waiter *woken = NULL, **end = &woken;
    if (after_writer)
        while (csp__sync_take(&rw->csp_x_readers, &end)) rw->csp_x_active++;
    if (rw->csp_x_active == 0 && csp__sync_take(&rw->csp_x_writers, &end)) {
        rw->csp_x_writing = 1;
    } else if (rw->csp_x_writers.head == NULL) {
        while (csp__sync_take(&rw->csp_x_readers, &end)) rw->csp_x_active++;
        if (rw->csp_x_active != 0) csp__rw_thaw_locked(rw);
    }
    csp__unlock(&rw->csp_x_lock);
    csp__sync_wake(m, woken);
}

CSP__FN csp_status csp__rw_wait(csp__m *m, csp_rwmutex *rw, bool reads, int64_t t CSP_X_PLACE)
{
    csp_x_queue *q = reads ? &rw->csp_x_readers : &rw->csp_x_writers;
    CSP__WAITER(w, m->g);
    csp__wait_init(m, w, NULL, t, CSP__AT(reads ? "rwmutex to read" : "rwmutex to write"), rw);
    csp__seen(rw, at);
    csp__waiters_add(q, w);
    if (csp__wait_until(&m, q, w, t, &rw->csp_x_lock, NULL)) return CSP_OK;
    if (!reads && !rw->csp_x_writing && csp__rw_writers_locked(rw))
        csp__rw_next(m, rw, false); /* readers that waited behind us */
    else
        csp__unlock(&rw->csp_x_lock);
    csp__leave(m);
    return CSP_TIMEOUT;
}

CSP__FN csp_status csp__rw_lock(csp_rwmutex *rw, int64_t t CSP_X_PLACE)
{
    csp__m *m = csp__enter();
    csp__turn(m);
    csp__lock(&rw->csp_x_lock, CSP__RANK_SYNC);
    csp__rw_freeze_locked(rw);
    bool free = !rw->csp_x_writing && rw->csp_x_active == 0 && rw->csp_x_writers.head == NULL;
    if (!free && (t == CSP_FOREVER || t > csp__clock())) {
        csp_status status = csp__rw_wait(m, rw, false, t CSP__PASS);
        if (status == CSP_OK) csp__hb_after(rw);
        return status;
    }
    if (free)
        rw->csp_x_writing = 1;
    else if (!rw->csp_x_writing && rw->csp_x_writers.head == NULL)
        csp__rw_thaw_locked(rw); /* as it was */
    csp__unlock(&rw->csp_x_lock);
    csp__leave(m);
    if (!free) return CSP_TIMEOUT;
    csp__hb_after(rw);
    return CSP_OK;
}

CSP__API void CSP__BY(rwmutex_lock)(csp_rwmutex *rw CSP_X_PLACE)
{
    csp__need_at(rw, at);
    csp__rw_lock(rw, CSP_FOREVER CSP__PASS);
}

CSP__API bool csp_rwmutex_try_lock(csp_rwmutex *rw)
{
    csp__need(rw);
    return csp__rw_lock(rw, INT64_MIN CSP__NOWHERE("rwmutex to write")) == CSP_OK;
}

CSP__API csp_status CSP__BY(rwmutex_lock_until)(csp_rwmutex *rw, int64_t t CSP_X_PLACE)
{
    csp__need_at(rw, at);
    return csp__rw_lock(rw, t CSP__PASS);
}

CSP__API void CSP__BY(rwmutex_unlock)(csp_rwmutex *rw CSP_X_PLACE)
{
    csp__need_at(rw, at);
    csp__m *m = csp__enter();
    csp__hb_before(rw);
    csp__lock(&rw->csp_x_lock, CSP__RANK_SYNC);
    bool locked = rw->csp_x_writing;
    rw->csp_x_writing = 0;
    if (locked)
        csp__rw_next(m, rw, true);
    else
        csp__unlock(&rw->csp_x_lock);
    csp__leave(m);
    if (!locked) csp__throw_at("sync: Unlock of unlocked RWMutex", at);
    csp__sim_point();
}

CSP__FN CSP__NOINLINE csp_status csp__rw_rlock_slow(csp_rwmutex *rw, int64_t t CSP_X_PLACE)
{
    csp_status status = CSP_OK;
    csp__m *m = csp__enter();
    uint32_t *slot = csp__rw_slot(rw, csp__rw_lane()), v = csp__relaxed(slot);
    csp__lock(&rw->csp_x_lock, CSP__RANK_SYNC);
    if (!csp__rw_writers_locked(rw)) {
        while (!csp__cas(slot, &v, v + 2)) continue; /* the mode is ours to change */
    } else if (!rw->csp_x_writing && rw->csp_x_writers.head == NULL) {
        rw->csp_x_active++;
        csp__rw_thaw_locked(rw);
    } else if (t == CSP_FOREVER || t > csp__clock()) {
        status = csp__rw_wait(m, rw, true, t CSP__PASS);
        if (status == CSP_OK) csp__hb_after(rw);
        return status;
    } else {
        status = CSP_TIMEOUT;
    }
    csp__unlock(&rw->csp_x_lock);
    csp__leave(m);
    if (status == CSP_OK) csp__hb_after(rw);
    return status;
}

CSP__FN inline csp_status csp__rw_rlock(csp_rwmutex *rw, int64_t t CSP_X_PLACE)
{
    csp__sim_point();
    uint32_t *slot = csp__rw_slot(rw, csp__rw_lane()), v = csp__relaxed(slot);
    while (!(v & 1))
        if (csp__cas(slot, &v, v + 2)) {
            csp__hb_after(rw);
            return CSP_OK;
        }
    return csp__rw_rlock_slow(rw, t CSP__PASS);
}

CSP__API void CSP__BY(rwmutex_rlock)(csp_rwmutex *rw CSP_X_PLACE)
{
    csp__need_at(rw, at);
    csp__may_wait();
    csp__rw_rlock(rw, CSP_FOREVER CSP__PASS);
}

CSP__API bool csp_rwmutex_try_rlock(csp_rwmutex *rw)
{
    csp__need(rw);
    csp__goroutine_only();
    return csp__rw_rlock(rw, INT64_MIN CSP__NOWHERE("rwmutex to read")) == CSP_OK;
}

CSP__API csp_status CSP__BY(rwmutex_rlock_until)(csp_rwmutex *rw, int64_t t CSP_X_PLACE)
{
    csp__need_at(rw, at);
    csp__may_wait();
    return csp__rw_rlock(rw, t CSP__PASS);
}

CSP__FN inline bool csp__rw_leave(csp_rwmutex *rw, uint32_t lane)
{
    uint32_t *slot = csp__rw_slot(rw, lane), v = csp__relaxed(slot);
    while (!(v & 1) && v != 0)
        if (csp__cas(slot, &v, v - 2)) return true;
    return false;
}

CSP__FN CSP__NOINLINE void csp__rw_runlock_slow(csp_rwmutex *rw CSP_X_PLACE)
{
    for (uint32_t i = 0; i < CSP_X_RW_SLOTS; i++)
        if (csp__rw_leave(rw, i)) return;
    csp__m *m = csp__enter();
    csp__lock(&rw->csp_x_lock, CSP__RANK_SYNC);
    csp__rw_freeze_locked(rw); /* now the count is exact */
    bool locked = rw->csp_x_active != 0;
    if (locked && --rw->csp_x_active == 0)
        csp__rw_next(m, rw, false);
    else
        csp__unlock(&rw->csp_x_lock);
    csp__leave(m);
    if (!locked) csp__throw_at("sync: RUnlock of unlocked RWMutex", at);
}

CSP__API void CSP__BY(rwmutex_runlock)(csp_rwmutex *rw CSP_X_PLACE)
{
    csp__need_at(rw, at);
    csp__goroutine_only();
    csp__hb_before(rw);
    csp__sim_point();
    if (!csp__rw_leave(rw, csp__rw_lane())) csp__rw_runlock_slow(rw CSP__PASS);
    csp__sim_point();
}

/* ---- csp_cond ----
 * model: a_signal_wakes_one_that_waits_and_not_one_whose_deadline_has_passed */

CSP__API csp_status CSP__BY(cond_wait_until)(csp_cond *cond, csp_mutex *mu, int64_t t CSP_X_PLACE)
{
    csp__need_at(cond, at);
    csp__need_at(mu, at);
    csp_x_queue *q = &cond->csp_x_waiters;
    csp__m *m = csp__enter();
    if (!(csp__relaxed(&mu->csp_x_owner) & CSP__MUTEX_LOCKED)) {
        csp__leave(m);
        csp__throw_at("sync: unlock of unlocked mutex", at);
    }
    CSP__WAITER(w, m->g);
    csp__wait_init(m, w, NULL, t, CSP__AT("cond"), cond);
    csp__seen(cond, at);
    csp__lock(&cond->csp_x_lock, CSP__RANK_SYNC);
    csp__waiters_add(q, w);
    csp__unlock(&cond->csp_x_lock);
    csp__torture_delay(m); /* were the mutex unlocked first, a signal would be lost here */
    csp__mutex_unlock(m, mu);
    bool woken = csp__wait_over(&m, q, w, t, &cond->csp_x_lock, NULL);
    if (!woken) csp__unlock_leave(m, &cond->csp_x_lock);
    CSP__BY(mutex_lock)(mu CSP__PASS);
    return woken ? CSP_OK : CSP_TIMEOUT;
}

CSP__API void CSP__BY(cond_wait)(csp_cond *cond, csp_mutex *mu CSP_X_PLACE)
{
    csp__need_at(cond, at);
    csp__need_at(mu, at);
    CSP__BY(cond_wait_until)(cond, mu, CSP_FOREVER CSP__PASS);
}

CSP__FN void csp__cond_wake(csp_cond *cond, bool all)
{
    csp__sim_point();
    if (csp__relaxed(&cond->csp_x_waiters.head) == NULL) return;
    csp__waiter *woken = NULL, **end = &woken;
    csp__m *m = csp__enter();
    csp__lock(&cond->csp_x_lock, CSP__RANK_SYNC);
    while (csp__sync_take(&cond->csp_x_waiters, &end) && all) continue;
    csp__unlock(&cond->csp_x_lock);
    csp__sync_wake(m, woken);
    csp__leave(m);
    csp__sim_point();
}

CSP__API void csp_cond_signal(csp_cond *cond)
{
    csp__need(cond);
    csp__goroutine_only();
    csp__cond_wake(cond, false);
}

CSP__API void csp_cond_broadcast(csp_cond *cond)
{
    csp__need(cond);
    csp__goroutine_only();
    csp__cond_wake(cond, true);
}

/* ---- csp_once ---- */

enum { CSP__ONCE_RUNS = 2, CSP__ONCE_DONE = CSP_X_DONE }; /* and HELD */

CSP__FN void csp__once_end(void *arg)
{
    csp_once *once = (csp_once *)arg;
    csp__waiter *woken = NULL, **end = &woken;
    csp__hb_before(once);
    csp__m *m = csp__enter();
    csp__word_lock(&once->csp_x_state);
    while (csp__sync_take(&once->csp_x_waiters, &end)) continue;
    csp__word_unlock(&once->csp_x_state, CSP__ONCE_DONE); // rel <once>
    csp__sync_wake(m, woken);
    csp__leave(m);
}

CSP__FN CSP__NOINLINE void csp__once_slow(csp_once *once, void (*fn)(void *), void *arg CSP_X_PLACE)
{
    csp__m *m = csp__enter();
    uint32_t v = csp__word_lock(&once->csp_x_state);
    if (v == CSP__ONCE_RUNS) {
        CSP__WAITER(w, m->g);
        csp__wait_init(m, w, NULL, CSP_FOREVER, CSP__AT("once"), once);
        csp__waiters_add(&once->csp_x_waiters, w);
        csp__word_unlock(&once->csp_x_state, v);
        csp__park(m);
        return;
    }
    if (v == 0) csp__seen(once, at);
    csp__word_unlock(&once->csp_x_state, v == 0 ? CSP__ONCE_RUNS : v);
    csp__leave(m);
    if (v != 0) return;
    csp_defer(csp__once_end, once);
    fn(arg);
}

CSP__API void CSP__BY(once_do)(csp_once *once, void (*fn)(void *), void *arg CSP_X_PLACE)
{
    csp__need_at(once, at);
    csp__need_at(fn, at);
    {
        csp__goroutine_only(); /* in a block of its own: fn does not run inside csp */
    }
    csp__sim_point();
    if (csp__acquire(&once->csp_x_state) != CSP__ONCE_DONE) // acq <once>
        csp__once_slow(once, fn, arg CSP__PASS);
    csp__hb_after(once);
}

/* ---- csp_waitgroup ----
 *
 * The word: HELD, WAITED, and the count times 8. The call that takes the last one away first takes
 * the waiters out of the queue, then stores 0 at once: a goroutine that sees 0 may free the
 * waitgroup.
 */

CSP__API void CSP__BY(waitgroup_add)(csp_waitgroup *wg, int n CSP_X_PLACE)
{
    csp__need_at(wg, at);
    csp__goroutine_only();
    uint32_t *word = &wg->csp_x_state;
    csp__sim_point();
    if (n > 0) csp__seen(wg, at);
    csp__hb_before(wg);
    for (uint32_t spins = 0;; csp__lock_pause(&spins)) {
        uint32_t v = csp__relaxed(word);
        int64_t count = (int64_t)(v >> 3) + n;
        if (v & CSP__WORD_HELD) continue;
        if (count < 0) csp__throw_at("sync: negative WaitGroup counter", at);
        if (count >= 1 << 29) csp__throw_at("sync: WaitGroup counter overflow", at);
        if (CSP__ONE_CORE) {
            *word = (uint32_t)count << 3;
            if (count == 0) csp__sync_wake_all(csp__self(), &wg->csp_x_waiters);
            return;
        }
        if (count != 0 || !(v & CSP__MUTEX_WAITED)) {
            if (csp__cas(word, &v, (uint32_t)count << 3 | (v & CSP__MUTEX_WAITED))) break;
            continue;
        }
        csp__waiter *woken = NULL, **end = &woken;
        csp__m *m = csp__enter();
        if (csp__cas(word, &v, v | CSP__WORD_HELD)) {
            csp__rank_take(word, CSP__RANK_SYNC, __LINE__);
            while (csp__sync_take(&wg->csp_x_waiters, &end)) continue;
            csp__word_unlock(word, 0);
            csp__sync_wake(m, woken);
            csp__leave(m);
            break;
        }
        csp__leave(m);
    }
    csp__sim_point();
}

CSP__API void CSP__BY(waitgroup_done)(csp_waitgroup *wg CSP_X_PLACE)
{
    csp__need_at(wg, at);
    CSP__BY(waitgroup_add)(wg, -1 CSP__PASS);
}

CSP__API csp_status CSP__BY(waitgroup_wait_until)(csp_waitgroup *wg, int64_t t CSP_X_PLACE)
{
    csp__need_at(wg, at);
    csp__may_wait();
    csp_x_queue *q = &wg->csp_x_waiters;
    uint32_t *word = &wg->csp_x_state, v;
    csp__sim_point();
    if (csp__acquire(word) >> 3 == 0) { // acq <word>
        csp__hb_after(wg);
        return CSP_OK;
    }
    if (CSP__ONE_CORE) return csp__sync_wait(csp__self(), &wg->csp_x_waiters, t, "waitgroup", NULL);
    if (t <= csp__clock()) return CSP_TIMEOUT;
    csp__m *m = csp__enter();
    CSP__WAITER(w, m->g);
    csp__wait_init(m, w, NULL, t, CSP__AT("waitgroup"), wg);
    v = csp__word_lock(word);
    bool woken = v >> 3 == 0;
    if (woken) {
        csp__word_unlock(word, v);
        csp__leave(m);
    } else {
        csp__waiters_add(q, w);
        v |= CSP__MUTEX_WAITED;
        woken = csp__wait_until(&m, q, w, t, word, &v);
    }
    if (woken) {
        csp__hb_after(wg);
        return CSP_OK;
    }
    csp__word_unlock(word, csp__word_waited(q, v));
    csp__leave(m);
    return CSP_TIMEOUT;
}

CSP__API void CSP__BY(waitgroup_wait)(csp_waitgroup *wg CSP_X_PLACE)
{
    csp__need_at(wg, at);
    CSP__BY(waitgroup_wait_until)(wg, CSP_FOREVER CSP__PASS);
}

typedef struct csp__waitgroup_job {
    csp_waitgroup *wg;
    csp__plain call;
} csp__waitgroup_job;

CSP__FN void csp__waitgroup_end(csp_waitgroup *wg)
{
    CSP__BY(waitgroup_done)(wg CSP__NOWHERE("done"));
}

#ifndef CSP_NO_MEMORY
CSP__FN void csp__waitgroup_run(void *args)
{
    csp__waitgroup_job job = *(csp__waitgroup_job *)args;
    csp_defer(csp__waitgroup_end, job.wg); /* by csp_exit too */
    job.call.fn(job.call.arg);
}

/* Of a task: the job, and behind it the task's arguments. */
CSP__FN void csp__waitgroup_run_task(void *args)
{
    csp__waitgroup_job *job = (csp__waitgroup_job *)args;
    csp_defer(csp__waitgroup_end, job->wg);
    job->call.fn((char *)args + CSP__JOB_SIZE(*job));
}

CSP__FN uint64_t csp__waitgroup_start(csp_waitgroup *wg, const csp_x_site *site,
                                      void (*run)(void *), const void *job, size_t size)
{
    csp_x_defer undo = CSP_X_DEFERRED(csp__waitgroup_end, wg);
    CSP__BY(waitgroup_add)(wg, 1 CSP__SITE_AT(site));
    return csp__spawn_or(csp__enter(), site, run, job, size, &undo);
}

CSP__API uint64_t csp_x_waitgroup_spawn(csp_waitgroup *wg, const csp_x_site *site,
                                        void (*fn)(void *), void *arg)
{
    csp__need(wg);
    csp__need(fn);
    csp__waitgroup_job job = {wg, {fn, arg}};
    return csp__waitgroup_start(wg, site, csp__waitgroup_run, &job, sizeof job);
}

CSP__API uint64_t csp_x_waitgroup_go(const csp_x_how *how, const csp_x_site *site,
                                     void (*run)(void *), const void *args, size_t size)
{
    csp__need(how->wg);
    csp__waitgroup_job job = {how->wg, {run, NULL}};
    char few[CSP__JOB_ROOM(job)], *both = few;
    size_t n = CSP__JOB_SIZE(job) + size;
    if (size <= CSP__JOB_FEW) {
        csp__job_pack(both, &job, sizeof job, args, size);
        return csp__waitgroup_start(how->wg, site, csp__waitgroup_run_task, both, n);
    }
    both = (char *)csp__alloc(n);
    if (both == NULL) csp__throw_memory(n);
    csp_defer(csp__free, both);
    csp__job_pack(both, &job, sizeof job, args, size);
    return csp__waitgroup_start(how->wg, site, csp__waitgroup_run_task, both, n);
}
#endif

/* ---- csp_sem ----
 * model: a_token_of_a_semaphore_is_neither_lost_nor_given_twice */

#ifdef CSP_BARE
#define CSP__SEM_GIVE CSP__FN
#else
#define CSP__SEM_GIVE CSP__API
#endif

/* Serves the requests at the front that can be served; drops the lock, wakes. */
CSP__FN void csp__sem_next(csp__m *m, csp_sem *sem)
{
    csp__waiter *woken = NULL, **end = &woken, *w;
    while ((w = (csp__waiter *)sem->csp_x_waiters.head) != NULL &&
           *(int64_t *)w->value <= sem->csp_x_free) {
        int64_t n = *(int64_t *)w->value;
        if (csp__sync_first(&sem->csp_x_waiters, &end)) sem->csp_x_free -= n;
    }
    csp__unlock(&sem->csp_x_lock);
    csp__sync_wake(m, woken);
}

#define csp__sem_check(n, at) ((n) < 0 ? csp__throw_at("semaphore: negative count", at) : (void)0)

CSP__API void CSP__BY(sem_init)(csp_sem *sem, int64_t n CSP_X_PLACE)
{
    csp__need_at(sem, at);
    csp__sem_check(n, at);
    memset(sem, 0, sizeof *sem);
    csp__seen(sem, at);
    sem->csp_x_free = sem->csp_x_size = n;
}

CSP__API csp_status CSP__BY(sem_acquire_until)(csp_sem *sem, int64_t n, int64_t t CSP_X_PLACE)
{
    csp__need_at(sem, at);
    csp_status status = CSP_OK;
    csp__sem_check(n, at);
    csp__m *m = csp__enter();
    csp__turn(m);
    csp__lock(&sem->csp_x_lock, CSP__RANK_SYNC);
    if (sem->csp_x_waiters.head == NULL && n <= sem->csp_x_free) {
        sem->csp_x_free -= n;
        csp__unlock(&sem->csp_x_lock);
        csp__leave(m);
    } else if (t != CSP_FOREVER && t <= csp__clock()) {
        csp__unlock(&sem->csp_x_lock);
        csp__leave(m);
        return CSP_TIMEOUT;
    } else {
        CSP__WAITER(w, m->g);
        csp_x_queue *q = &sem->csp_x_waiters;
        csp__wait_init(m, w, &n, t, CSP__AT("semaphore"), sem);
        csp__seen(sem, at);
        w->queued = CSP__QUEUED_OUT;
        /* A request for more than there are waits in vain, outside the queue: others go on. */
        if (sem->csp_x_size == 0 || n <= sem->csp_x_size) csp__waiters_add(q, w);
        if (!csp__wait_until(&m, q, w, t, &sem->csp_x_lock, NULL)) {
            csp__sem_next(m, sem); /* those behind us may want less */
            csp__leave(m);
            return CSP_TIMEOUT;
        }
    }
    csp__hb_after(sem);
    return status;
}

CSP__API void CSP__BY(sem_acquire)(csp_sem *sem, int64_t n CSP_X_PLACE)
{
    csp__need_at(sem, at);
    CSP__BY(sem_acquire_until)(sem, n, CSP_FOREVER CSP__PASS);
}

CSP__API bool csp_sem_try_acquire(csp_sem *sem, int64_t n)
{
    csp__need(sem);
    return CSP__BY(sem_acquire_until)(sem, n, INT64_MIN CSP__NOWHERE("semaphore")) == CSP_OK;
}

#ifndef CSP_BARE
/* Without waiting; false where the long way has to wait or panic. */
CSP__API bool csp_x_sem_take(csp_sem *sem, int64_t n)
{
    if (sem == NULL || n < 0) return false;
    csp__m *m = csp__enter_lock(&sem->csp_x_lock, CSP__RANK_SYNC);
    bool fits = sem->csp_x_waiters.head == NULL && n <= sem->csp_x_free;
    if (fits) sem->csp_x_free -= n;
    csp__unlock_leave(m, &sem->csp_x_lock);
    if (fits) csp__hb_after(sem);
    return fits;
}

#endif

/* False: nothing has been released, since it would be more than there is. */
CSP__SEM_GIVE bool csp_x_sem_give(csp_sem *sem, int64_t n)
{
    if (sem == NULL || n < 0) return false;
    csp__hb_before(sem);
    csp__m *m = csp__enter_lock(&sem->csp_x_lock, CSP__RANK_SYNC);
    int64_t most = sem->csp_x_size != 0 ? sem->csp_x_size : INT64_MAX;
    bool fits = n <= most - sem->csp_x_free;
    if (fits) {
        sem->csp_x_free += n;
        csp__sem_next(m, sem);
    } else {
        csp__unlock(&sem->csp_x_lock);
    }
    csp__leave(m);
    if (fits) csp__sim_point();
    return fits;
}

CSP__API void CSP__BY(sem_release)(csp_sem *sem, int64_t n CSP_X_PLACE)
{
    csp__need_at(sem, at);
    csp__sem_check(n, at);
    if (!csp_x_sem_give(sem, n)) csp__throw_at("semaphore: released more than held", at);
}

/* ==========================================================================
 * [32] TIME - sleep, timers, tickers
 *
 * A sleeping goroutine stands in its P's heap itself; a timer has a record there, and fills a
 * channel of one element, or starts a goroutine. Once a stop or reset has returned, no stale value
 * is received: it takes the timer out under the heap's lock, under which timers fire, and then
 * empties the channel.
 *
 *   uses   PLATFORM BASE PROFILE HEAP CORE TIMERS WAITERS WAKEFD CHAN
 *   locks  timer.lock, then chan.lock
 * ======================================================================== */

#ifndef CSP_NO_TIMERS
CSP__API int64_t csp_now(void)
{
    csp__sim_point(); /* a loop that asks for the time until it has passed must get somewhere */
    return csp__clock();
}

/* now + ns, without overflow. */
CSP__FN int64_t csp__from_now(int64_t ns)
{
    int64_t now = csp__clock();
    if (ns <= 0) return now;
    return ns >= CSP_FOREVER - now ? CSP_FOREVER - 1 : now + ns; /* 292 years: still a deadline */
}

#ifndef CSP_NO_SELECT
CSP__API csp_case csp_x_case_after(int64_t ns)
{
    return CSP_UNTIL(csp__from_now(ns));
}
#endif

CSP__API void CSP__BY(sleep_until)(int64_t t CSP_X_PLACE)
{
    if (t <= csp__clock()) {
        csp_yield();
        return;
    }
    csp__m *m = csp__enter();
#ifndef CSP_BARE
    if (m->p != NULL && t != CSP_FOREVER) {
        csp__wait_reason(m->g, at, csp__asleep);
        csp__item_set(m, (csp__heap_item){t, (uintptr_t)m->g}, m->g->cb);
        csp__park(m);
        return;
    }
#endif
    csp__wait_begin(m->g, CSP__AT("sleep"), NULL);
    csp__park_until(m, t);
}

CSP__API void CSP__BY(sleep)(int64_t ns CSP_X_PLACE)
{
    if (ns > 0) CSP__BY(sleep_until)(csp__from_now(ns) CSP__PASS);
}

struct csp_timer {
    csp__timer t;
    csp__chan *c;  // NULL: runs fn
    uint32_t lock; // one stop or reset at a time
    csp__plain call;
    int64_t period;            // ticker
    const csp_x_site *site;    // of fn
    void (*end)(csp_timer *t); // gives its memory back; by a pointer: unused ways are not linked
    CSP__SEAT(seat)            // of fn, while the timer is pending
};
#ifndef CSP_BARE
CSP_X_ASSERT(offsetof(csp_timer, c) == offsetof(csp__chan_timer, c), "it is one");
#endif

CSP__FN void csp__timer_fire(csp__timer *t, int64_t now)
{
    csp_timer *timer = (csp_timer *)t;
    csp__m *m = csp__self();
    if (timer->c != NULL) csp__move(m, timer->c, true, &now);
    if (timer->period > 0) { /* its place in the heap has just become free */
        int64_t late = csp__rest(now - t->when, timer->period);
        t->when = timer->period >= CSP_FOREVER - now ? CSP_FOREVER - 1 : now + timer->period - late;
        csp__timer_again(t);
        return;
    }
    if (timer->c == NULL) {
        csp__hb_after(t);
        csp__torture_delay(m); /* were t->p cleared first, t could be freed here, or set again */
        csp__seat_spawn(m, &timer->seat, timer->site, timer->call);
    }
    csp__release(&t->p, NULL);
}

#ifndef CSP_NO_MEMORY
CSP__FN void csp__timer_end(csp_timer *t)
{
    csp_x_unref(t->c CSP__NOWHERE("unref"));
    csp__set(&t->t.fire, NULL);
    csp__free(t);
}

CSP__FN csp_timer *csp__timer_new(int64_t ns, int64_t period, const csp_x_site *site,
                                  void (*fn)(void *), void *arg)
{
    csp__chan *c =
        fn != NULL ? NULL : (csp__chan *)csp_x_make(sizeof(int64_t), 1 CSP__NOWHERE("make"));
    csp_timer *t = (csp_timer *)csp__alloc(sizeof *t);
    if (t != NULL) {
        *t = (csp_timer){
            .c = c, .call = {fn, arg}, .period = period, .site = site, .end = csp__timer_end};
        t->t.fire = csp__timer_fire;
        t->t.feeds_chan = c != NULL;
        t->t.when = csp__from_now(ns);
        csp__hb_before(t);
        csp__m *m = csp__enter();
        bool ok = fn == NULL || csp__seat_take(m, &t->seat);
        if (ok && !csp__timer_set(m, &t->t)) {
            csp__seat_give(m, &t->seat);
            ok = false;
        }
        csp__leave(m);
        if (ok) return t;
    }
    csp__free(c);
    csp__free(t);
    csp__throw_memory(sizeof *t);
}
#endif

CSP_X_ASSERT(sizeof(csp_timer) <= offsetof(csp_timer_store, csp_x_c), "it has room for a timer");

CSP__FN void csp__timer_end_in(csp_timer *t)
{
    csp__chan *c = t->c;
    if (csp__waiters_live(c, &c->senders) || csp__waiters_live(c, &c->receivers))
        csp__throw("free of a timer on whose channel somebody waits");
    if (CSP__UNLIKELY(c->special & CSP__CHAN_WATCHED)) csp__wakefd_free(c);
    csp__set(&c->magic, 0xdeadc0deu);
    csp__set(&t->t.fire, NULL);
}

/* The same in memory of the caller's. Its channel counts as a static one, since its memory is not
 * to be freed. */
CSP__FN csp_timer *csp__timer_new_in(csp_timer_store *store, int64_t ns, int64_t period)
{
    csp__chan *c = &store->csp_x_c;
    csp_timer *t = (csp_timer *)(void *)store;
    if (csp__relaxed(&t->t.fire) == csp__timer_fire)
        csp__throw("a new timer in memory that holds one already");
    *c = (csp__chan){.magic = CSP_X_CHAN_MAGIC,
                     .flags = CSP_X_CHAN_STATIC,
                     .size = sizeof(int64_t),
                     .cap = 1,
                     .buffer = (char *)&store->csp_x_value,
                     .special = CSP_X_CHAN_SPECIAL(sizeof(int64_t)),
                     .refs = 1};
#ifndef CSP_BARE
    c->made = "make\0";
#endif
    *t = (csp_timer){.c = c, .period = period, .end = csp__timer_end_in};
    t->t.feeds_chan = true;
    t->t.when = csp__from_now(ns);
    csp__set(&t->t.fire, csp__timer_fire);
    csp__hb_before(t);
    csp__m *m = csp__enter();
    bool ok = csp__timer_set(m, &t->t);
    csp__leave(m);
    if (ok) return t;
    csp__set(&t->t.fire, NULL);
    csp__throw_memory(sizeof *t);
}

/* A freed one has no function any more, or what the allocator has put there. */
CSP__FN void csp__timer_check(const csp_timer *t, const char *call)
{
    if (t == NULL) csp__nil_at(call, NULL);
    if (csp__relaxed(&t->t.fire) != csp__timer_fire) csp__throw("use of a freed timer");
}
#define csp__timer_need(t) csp__timer_check((const csp_timer *)(t), CSP__CALLER)

/* Stops t; sets it anew unless `when` is FOREVER, with another period unless that is 0. True: it
 * was pending, or its value had not been received. */
CSP__FN bool csp__timer_change(csp_timer *t, int64_t when, int64_t period)
{
    csp__hb_before(t);
    csp__m *m = csp__enter_lock(&t->lock, CSP__RANK_TIMER);
    bool active = csp__timer_unset(&t->t), failed = false, seated = active;
    if (t->c != NULL) {
        csp__chan_lock(t->c);
        if (t->c->count > 0) active = true;
        csp__set(&t->c->count, 0);
        csp__chan_unlock(t->c);
    }
    if (when != CSP_FOREVER) {
        t->t.when = when;
        if (period != 0) t->period = period;
        seated = t->c != NULL || active || csp__seat_take(m, &t->seat);
        failed = !seated || !csp__timer_set(m, &t->t);
    }
    if (t->c == NULL && seated && (failed || when == CSP_FOREVER)) csp__seat_give(m, &t->seat);
    csp__unlock_leave(m, &t->lock);
    if (failed) csp__throw_memory(sizeof(csp__timer));
    csp__sim_point();
    return active;
}

CSP__API csp_timer *csp_timer_new_in(csp_timer_store *store, int64_t ns)
{
    csp__need(store);
    return csp__timer_new_in(store, ns, 0);
}

#ifndef CSP_NO_MEMORY
CSP__API csp_timer *csp_timer_new(int64_t ns)
{
    return csp__timer_new(ns, 0, NULL, NULL, NULL);
}

CSP__API csp_timer *csp_x_after_func(int64_t ns, const csp_x_site *site, void (*fn)(void *),
                                     void *arg)
{
    if (fn == NULL) csp__throw("go of nil func value");
    return csp__timer_new(ns, 0, site, fn, arg);
}
#endif

CSP__API const void *csp_x_timer_chan(csp_timer *t)
{
    csp__timer_need(t);
    return t->c;
}

CSP__API bool csp_timer_stop(csp_timer *t)
{
    csp__timer_need(t);
    return csp__timer_change(t, CSP_FOREVER, 0);
}

CSP__API bool csp_timer_reset(csp_timer *t, int64_t ns)
{
    csp__timer_need(t);
    return csp__timer_change(t, csp__from_now(ns), 0);
}

CSP__API void csp_timer_free(csp_timer *t)
{
    if (t == NULL) return;
    csp__timer_need(t);
    /* One that is in no heap has fired or been stopped: it is not touched any more. */
    if (t->c != NULL || csp__acquire(&t->t.p) != NULL)
        csp__timer_change(t, CSP_FOREVER, 0);
    else
        csp__hb_after(t);
    t->end(t);
}

struct csp_ticker {
    csp_timer t;
};

CSP__FN int64_t csp__ticker_period(int64_t ns)
{
    if (ns <= 0) csp__throw("non-positive interval for a ticker");
    return ns;
}

#ifndef CSP_NO_MEMORY
CSP__API csp_ticker *csp_ticker_new(int64_t ns)
{
    return (csp_ticker *)csp__timer_new(ns, csp__ticker_period(ns), NULL, NULL, NULL);
}
#endif

CSP__API csp_ticker *csp_ticker_new_in(csp_timer_store *store, int64_t ns)
{
    csp__need(store);
    return (csp_ticker *)csp__timer_new_in(store, ns, csp__ticker_period(ns));
}

CSP__API const void *csp_x_ticker_chan(csp_ticker *t)
{
    csp__timer_need(t);
    return t->t.c;
}

CSP__API void csp_ticker_stop(csp_ticker *t)
{
    csp__timer_need(t);
    csp__timer_change(&t->t, CSP_FOREVER, 0);
}

CSP__API void csp_ticker_reset(csp_ticker *t, int64_t ns)
{
    csp__timer_need(t);
    csp__ticker_period(ns);
    csp__timer_change(&t->t, csp__from_now(ns), ns);
}

CSP__API void csp_ticker_free(csp_ticker *t)
{
    csp_timer_free((csp_timer *)t); /* t is its first member; NULL is fine there */
}
#endif

/* ==========================================================================
 * [33] CTX - contexts
 *
 * Contexts are a tree. A child holds a reference to its parent. A parent has a list of its children
 * without references, only to end them. csp_ctx_cancel returns when the whole tree below is done.
 *
 * LIFE OF A CONTEXT. `status` and the references are independent of each other:
 *
 *     made, refs 1, in the parent's list --cancel, deadline, parent done--> done, off the list
 *              |                                                               |
 *              +-------------------------last reference------------------------+--> freed
 *
 * The list and the last reference race: a cancel may find a child in the list while another thread
 * drops the child's last reference. So a cancel takes a reference from the list only while the
 * count is not 0 (csp__ctx_hold), and a context is freed only when it is off the list:
 *
 *     cancel, under the parent's lock         last csp_ctx_unref
 *     1 takes the list's first child          1 refs = 0
 *     2 refs != 0: refs + 1, uses it          2 at == NULL: nothing refers to the child, frees it
 *       refs == 0: unlinks it, at = NULL        else: takes the parent's lock, unlinks, frees
 *
 * at = NULL is the cancel's last access to such a child.
 *
 *   uses   PLATFORM BASE PROFILE CORE CALLS WAITERS CHAN TIME
 *   locks  ctx.lock
 * ======================================================================== */

#ifndef CSP_NO_CONTEXTS

/* A call to make when a context is done. csp_ctx_on_done allocates it, and the cancel or the stop
 * frees it. A notice with `now` is part of a larger object, csp__binding in FD, which `now` or the
 * end of the binding frees. */
typedef struct csp__notice {
    // guarded by the context's lock
    struct csp__notice *next, *prev;
    // immutable
    uint64_t id;
    const csp_x_site *site;
    csp__plain call;
    void (*now)(csp__m *m,
                struct csp__notice *n); // NULL, or a function that the canceller calls, under
                                        // no lock, instead of starting `call`
    CSP__SEAT(seat)
} csp__notice;

/* A context: made by csp__ctx_make, freed by the last csp__ctx_drop. */
struct csp_ctx {
    // immutable
    uint32_t magic;           // poisoned when freed
    csp_ctx *parent, *values; // parent: NULL of the background; values: the nearest with a value
    const void *key;
    void *value;
    // atomic
    uint32_t refs;
    uint32_t status;   // written under lock; valid once `done`, if it is there, has been closed
    const char *cause; // text of the cancel; written under lock before status, then immutable
    csp__chan *done;   // written under lock; NULL: csp_ctx_done has not been called
    // guarded by lock
    uint32_t lock;
    csp_ctx *first; // child
    csp__notice *notices, *last;
    uint64_t ids;
    // guarded by the parent's lock
    csp_ctx *next,
        **at;         // at: the pointer to this child; NULL: off the list; atomic, cleared last
    csp__timer timer; // when: the earliest deadline; the timer runs only if the parent's is later
    csp__late late;   // work that the timer leaves to be done without the heap's lock
};

#define CSP__CTX_MAGIC 0x63737478u
#define CSP__POISON 0xdeadc0deu
static csp_ctx csp__root = {.magic = CSP__CTX_MAGIC, .refs = 1, .timer = {.when = CSP_FOREVER}};

/* Panics unless `object` is a live context, group, pool or map. Each of them begins with its magic
 * number, which is poisoned when it is freed. */
CSP__FN inline void csp__check(const void *object, uint32_t magic, const char *what)
{
    if (CSP__LIKELY(object != NULL && *(const uint32_t *)object == magic)) return;
    (csp_panic)(object == NULL ? "%s is nil" : "use of a freed %s", what);
}
#define csp__ctx_check(ctx) csp__check(ctx, CSP__CTX_MAGIC, "context")

/* Adds a reference, unless the count is 0: then the thread that dropped the last reference frees
 * ctx. A plain increment would revive a context that is being freed. */
CSP__FN bool csp__ctx_hold(csp_ctx *ctx)
{
    uint32_t n = csp__relaxed(&ctx->refs);
    while (n != 0)
        if (csp__cas(&ctx->refs, &n, n + 1)) return true;
    return false;
}

/* Takes c off its parent's list; the parent's lock is held. */
CSP__FN void csp__ctx_unlink_locked(csp_ctx *c)
{
    if (c->at == NULL) return;
    *c->at = c->next;
    if (c->next != NULL) c->next->at = c->at;
    csp__release(&c->at, NULL); // rel <ctx.at>: c may be freed now, without the parent's lock
}

/* The first live child of ctx, with a reference; NULL when there is none. Unlinks the children
 * before it, which are being freed. */
CSP__FN csp_ctx *csp__ctx_child_locked(csp_ctx *ctx)
{
    csp_ctx *c;
    while ((c = ctx->first) != NULL && !csp__ctx_hold(c)) csp__ctx_unlink_locked(c);
    return c;
}

/* Drops a reference. The last one frees the context and drops the reference to its parent, and so
 * on up the tree, in a loop: a recursion would need a stack as deep as the tree. False when a
 * goroutine waits on the context that would be freed: its count is 1 again, and it stays. */
CSP__FN bool csp__ctx_drop(csp_ctx *ctx)
{
    while (ctx->parent != NULL) {
        csp_ctx *parent = ctx->parent;
        csp__hb_before(&ctx->refs);
        if (csp__add(&ctx->refs, (uint32_t)-1) != 0) return true;
        csp__hb_after(&ctx->refs);
        if (ctx->done != NULL && csp__waiters_live(ctx->done, &ctx->done->receivers)) {
            csp__set(&ctx->refs, 1);
            return false;
        }
        if (csp__acquire(&ctx->at) != NULL) { // acq <ctx.at>
            csp__lock(&parent->lock, CSP__RANK_CTX);
            csp__ctx_unlink_locked(ctx);
            csp__unlock(&parent->lock);
        }
        csp__timer_unset(&ctx->timer);
        csp__chan_unref(ctx->done CSP__NOWHERE("unref"));
        csp__set(&ctx->magic, CSP__POISON);
        csp__free(ctx);
        ctx = parent;
    }
    return true;
}

/* csp_ctx_unref from inside csp: leaves csp before it panics. */
CSP__FN void csp__ctx_put(csp__m *m, csp_ctx *ctx)
{
    bool waited = !csp__ctx_drop(ctx);
    csp__leave(m);
    if (waited) csp__throw("unref of the last reference to a context on which somebody waits");
}

/* Makes n done, if it is not yet. *list gets n's notices, which the caller calls without a lock.
 * Returns a child of n that is still to be made done, with a reference; NULL when there is none. */
CSP__FN csp_ctx *csp__ctx_end(csp__m *m, csp_ctx *n, uint32_t status, const char *cause,
                              csp__notice **list)
{
    csp__lock(&n->lock, CSP__RANK_CTX);
    *list = NULL;
    if (n->status == CSP_OK) {
        *list = n->notices;
        n->notices = n->last = NULL;
        csp__hb_after(&n->notices);
        csp__hb_before(n);
        n->cause = cause;
        csp__release(&n->status, status); // rel <ctx.status>
        csp__timer_unset(&n->timer);
        if (n->done != NULL) csp__close(m, n->done);
    }
    csp_ctx *c = csp__ctx_child_locked(n);
    csp__unlock(&n->lock);
    return c;
}

/* Makes root and all contexts below it done. It walks the tree: down to a first child while there
 * is one, then takes the context off its parent's list and goes to the next child, then up. It
 * holds one lock at a time, and a reference to each context from root to n. Recursion would need a
 * stack as deep as the tree, and a lock over the whole walk would keep all other calls on the tree
 * waiting. */
CSP__FN void csp__ctx_cancel(csp__m *m, csp_ctx *root, uint32_t status, const char *cause)
{
    csp__notice *list, *next;
    csp__add(&root->refs, 1); /* a goroutine that sees root done may drop the caller's reference */
    for (csp_ctx *n = root, *c;; n = c) {
        if (n != root) { /* the parent is done: this thread has taken the parent's lock since */
            status = csp__relaxed(&n->parent->status);
            cause = n->parent->cause;
        }
        c = csp__ctx_end(m, n, status, cause, &list);
        for (; list != NULL; list = next) {
            next = list->next;
            if (list->now != NULL) {
                list->now(m, list);
            } else {
                csp__seat_spawn(m, &list->seat, list->site, list->call);
                csp__free(list);
            }
            csp__ctx_drop(n);
        }
        while (c == NULL) { /* everything below n is done: on to n's next sibling */
            csp_ctx *up = n->parent;
            bool end = n == root;
            if (!end || csp__acquire(&n->at) != NULL) {
                csp__lock(&up->lock, CSP__RANK_CTX);
                csp__ctx_unlink_locked(n);
                if (!end) c = csp__ctx_child_locked(up);
                csp__unlock(&up->lock);
            }
            csp__ctx_drop(n);
            if (end) return;
            n = up;
        }
    }
}

/* The second half of a deadline, without the heap's lock. Drops the reference of csp__ctx_fire. */
CSP__FN void csp__ctx_expire(csp__m *m, csp__late *late)
{
    csp_ctx *ctx = (csp_ctx *)(void *)((char *)late - offsetof(csp_ctx, late));
    csp__ctx_cancel(m, ctx, CSP_TIMEOUT, NULL);
    csp__ctx_drop(ctx); /* never false: it is done, so no goroutine waits on it any more */
}

/* The first half of a deadline, under the heap's lock. It must not wait for ctx.lock there, so it
 * takes a reference and leaves the cancel to csp__ctx_expire. */
CSP__FN void csp__ctx_fire(csp__timer *t, int64_t now)
{
    csp_ctx *ctx = (csp_ctx *)(void *)((char *)t - offsetof(csp_ctx, timer));
    csp__p *p = t->p;
    bool held = csp__ctx_hold(ctx);
    (void)now;
    csp__release(&t->p, NULL); /* from here on ctx may be freed, unless it is held */
    if (held) csp__timer_late(csp__self(), p, &ctx->late);
}

/* A context with the parent's values and one reference, not linked and without a deadline. */
CSP__FN csp_ctx *csp__ctx_make(csp_ctx *parent)
{
    if (parent == NULL) csp__throw("cannot create context from nil parent");
    csp__ctx_check(parent);
    csp_ctx *ctx = (csp_ctx *)csp__alloc(sizeof *ctx);
    if (ctx == NULL) csp__throw_memory(sizeof *ctx);
    *ctx =
        (csp_ctx){.magic = CSP__CTX_MAGIC, .parent = parent, .values = parent->values, .refs = 1};
    ctx->timer.when = CSP_FOREVER;
    ctx->timer.fire = csp__ctx_fire;
    ctx->late.run = csp__ctx_expire;
    return ctx;
}

/* A context in the parent's list, with a timer if its deadline is earlier than the parent's. */
CSP__FN csp_ctx *csp__ctx_new(csp_ctx *parent, int64_t deadline)
{
    csp_ctx *ctx = csp__ctx_make(parent);
    bool timed = deadline < parent->timer.when, ok = true;
    ctx->timer.when = timed ? deadline : parent->timer.when;
    if (timed && deadline <= csp__clock()) ctx->status = CSP_TIMEOUT;
    csp__m *m = csp__enter();
    if (parent->parent != NULL) {
        csp__add(&parent->refs, 1);
        csp__lock(&parent->lock, CSP__RANK_CTX);
        csp__hb_after(parent);
        csp__hb_before(ctx);
        if (parent->status != CSP_OK) {
            ctx->cause = parent->cause;
            ctx->status = parent->status;
        } else if (ctx->status == CSP_OK) {
            ctx->next = parent->first;
            if (ctx->next != NULL) ctx->next->at = &ctx->next;
            ctx->at = &parent->first;
            parent->first = ctx;
        }
        csp__unlock(&parent->lock);
    }
    if (timed) {
        /* ctx.lock orders this and a cancel of the parent. A cancel before it has set the status,
         * so no timer is set; a cancel after it takes the timer out. */
        csp__lock(&ctx->lock, CSP__RANK_CTX);
        ok = ctx->status != CSP_OK || csp__timer_set(m, &ctx->timer);
        csp__unlock(&ctx->lock);
        if (!ok) csp__ctx_drop(ctx);
    }
    csp__leave(m);
    if (!ok) csp__throw_memory(sizeof(csp__timer));
    return ctx;
}

CSP__API csp_ctx *csp_ctx_background(void)
{
    return &csp__root;
}

CSP__API csp_ctx *csp_ctx_with_cancel(csp_ctx *parent)
{
    return csp__ctx_new(parent, CSP_FOREVER);
}

#ifndef CSP_NO_TIMERS
CSP__API csp_ctx *csp_ctx_with_deadline(csp_ctx *parent, int64_t t)
{
    return csp__ctx_new(parent, t);
}

CSP__API csp_ctx *csp_ctx_with_timeout(csp_ctx *parent, int64_t ns)
{
    return csp__ctx_new(parent, csp__from_now(ns));
}
#endif

CSP__API csp_ctx *csp_ctx_with_value(csp_ctx *parent, const void *key, void *value)
{
    if (key == NULL) csp__throw("nil key");
    csp_ctx *ctx = csp_ctx_with_cancel(parent);
    ctx->key = key;
    ctx->value = value;
    ctx->values = ctx;
    return ctx;
}

/* The child is not in its parent's list, so no cancel and no deadline reaches it. It holds a
 * reference to the parent for the values. */
CSP__API csp_ctx *csp_ctx_without_cancel(csp_ctx *parent)
{
    csp_ctx *ctx = csp__ctx_make(parent);
    csp_ctx_ref(parent);
    return ctx;
}

CSP__API void csp_ctx_cancel_cause(csp_ctx *ctx, const char *cause)
{
    csp__ctx_check(ctx);
    if (ctx->parent == NULL) csp__throw("cancel of the background context");
    csp__m *m = csp__enter();
    csp__ctx_cancel(m, ctx, CSP_CANCELED, cause);
    csp__leave(m);
    csp__sim_point();
}

CSP__API void csp_ctx_cancel(csp_ctx *ctx)
{
    csp_ctx_cancel_cause(ctx, NULL);
}

CSP__API csp_status csp_ctx_status(csp_ctx *ctx)
{
    csp__ctx_check(ctx);
    csp__sim_point();
    csp__fence();                                 /* see LOOKS WITHOUT A LOCK */
    uint32_t status = csp__acquire(&ctx->status); // acq <ctx.status>
    csp__chan *done = csp__acquire(&ctx->done);
    if (status == CSP_OK || (done != NULL && !(csp__relaxed(&done->special) & CSP__CHAN_CLOSED)))
        return CSP_OK;
    csp__hb_after(ctx);
    return (csp_status)status;
}

CSP__API const char *csp_ctx_cause(csp_ctx *ctx)
{
    csp_status status = csp_ctx_status(ctx); // acq <ctx.status>: the cause was written before it
    if (status == CSP_OK) return NULL;
    return ctx->cause != NULL ? ctx->cause : csp_status_name(status);
}

CSP__API void *csp_ctx_value(csp_ctx *ctx, const void *key)
{
    csp__ctx_check(ctx);
    for (csp_ctx *n = ctx->values; n != NULL; n = n->parent->values)
        if (n->key == key) return n->value;
    return NULL;
}

CSP__API int64_t csp_ctx_deadline(csp_ctx *ctx)
{
    csp__ctx_check(ctx);
    return ctx->timer.when;
}

CSP__API csp_ctx *csp_ctx_ref(csp_ctx *ctx)
{
    csp__goroutine_only();
    csp__ctx_check(ctx);
    if (ctx->parent != NULL) csp__add(&ctx->refs, 1);
    return ctx;
}

CSP__API void csp_ctx_unref(csp_ctx *ctx)
{
    if (ctx == NULL) return;
    csp__ctx_check(ctx);
    csp__ctx_put(csp__enter(), ctx);
}

CSP__API const void *csp_x_ctx_done(csp_ctx *ctx)
{
    csp__ctx_check(ctx);
    csp__chan *c = csp__acquire(&ctx->done); // acq <ctx.done>
    if (c != NULL || ctx->parent == NULL) return c;
    csp__chan *mine = (csp__chan *)csp_x_make(sizeof(bool), 0 CSP__NOWHERE("make"));
    csp__m *m = csp__enter_lock(&ctx->lock, CSP__RANK_CTX);
    c = ctx->done;
    if (c == NULL) {
        csp__hb_after(ctx);
        if (ctx->status != CSP_OK) csp__close(m, mine);
        csp__release(&ctx->done, mine); // rel <ctx.done>
    }
    csp__unlock_leave(m, &ctx->lock);
    if (c == NULL) return mine;
    csp_x_unref(mine CSP__NOWHERE("unref"));
    return c;
}

/* Appends n to the list of ctx, which is not done. The entry holds a reference to ctx. */
CSP__FN uint64_t csp__notice_add_locked(csp_ctx *ctx, csp__notice *n)
{
    n->next = NULL;
    n->prev = ctx->last;
    csp__hb_before(&ctx->notices);
    *(n->prev != NULL ? &n->prev->next : &ctx->notices) = n;
    ctx->last = n;
    csp__add(&ctx->refs, 1);
    return n->id = ++ctx->ids;
}

CSP__FN void csp__notice_remove_locked(csp_ctx *ctx, csp__notice *n)
{
    *(n->prev != NULL ? &n->prev->next : &ctx->notices) = n->next;
    *(n->next != NULL ? &n->next->prev : &ctx->last) = n->prev;
}

CSP__API uint64_t csp_x_ctx_on_done(csp_ctx *ctx, const csp_x_site *site, void (*fn)(void *),
                                    void *arg)
{
    csp__need(fn);
    csp__plain call = {fn, arg};
    csp__ctx_check(ctx);
    csp__notice *n = (csp__notice *)csp__alloc(sizeof *n);
    if (n == NULL) csp__throw_memory(sizeof *n);
    csp__m *m = csp__enter();
    *n = (csp__notice){.site = site, .call = call};
    if (!csp__seat_take(m, &n->seat)) {
        csp__leave(m);
        csp__free(n);
        csp__throw_memory(CSP_STACK_SIZE);
    }
    csp__lock(&ctx->lock, CSP__RANK_CTX);
    bool now = ctx->status != CSP_OK;
    uint64_t id = now ? ++ctx->ids : csp__notice_add_locked(ctx, n);
    csp__unlock(&ctx->lock);
    if (now) csp__seat_spawn(m, &n->seat, site, call);
    if (now) csp__free(n);
    csp__leave(m);
    return id;
}

CSP__API bool csp_ctx_on_done_stop(csp_ctx *ctx, uint64_t id)
{
    csp__ctx_check(ctx);
    csp__m *m = csp__enter_lock(&ctx->lock, CSP__RANK_CTX);
    /* The search goes from both ends at once: programs stop notices in the order in which they
     * added them, or in the opposite one. */
    csp__notice *a = ctx->notices, *z = ctx->last;
    while (a != NULL && a->id < id && z->id > id) a = a->next, z = z->prev;
    csp__notice *n = a != NULL && a->id == id ? a : z != NULL && z->id == id ? z : NULL;
    if (n != NULL) csp__notice_remove_locked(ctx, n);
    csp__hb_after(&ctx->notices);
    csp__unlock(&ctx->lock);
    if (n != NULL) csp__seat_give(m, &n->seat);
    csp__free(n);
    if (n != NULL) csp__ctx_drop(ctx); /* never the last reference: the caller has one */
    csp__leave(m);
    return n != NULL;
}

/* ==========================================================================
 * [34] GROUP - a waitgroup with a context, a limit and the first error
 *
 * A group is a waitgroup of the functions that run or wait for a place, a semaphore of places where
 * there is a limit, and a context that the first result other than 0 cancels.
 *
 *     enter: running + 1 --> place (if there is a limit) --> goroutine --> fn(arg)
 *                                |                                          |
 *                                | try, timeout                             | return, csp_exit
 *                                v                                          v
 *                            running - 1                    place back, then running - 1
 *
 * running - 1 is the last access to the group: the goroutine in csp_group_wait may free it then.
 *
 *   uses   PLATFORM BASE PROFILE CALLS SYNC CTX
 *   locks  none
 * ======================================================================== */

/* Made by csp_group_new, freed by csp_group_free. */
struct csp_group {
    // immutable while a function runs
    uint32_t magic, waited; // poisoned when freed; atomic: csp_group_wait has been called
    uint32_t result;        // atomic: the first result other than 0
    int limit;              // < 0: none
    csp_ctx *ctx;
    // objects of SYNC, which guard themselves
    csp_sem places;        // used only with a limit
    csp_waitgroup running; // functions that run, and calls that wait for a place
};

/* The arguments of a group's goroutine, copied to its stack. */
typedef struct csp__group_job {
    csp_group *group;
    int (*fn)(void *);
    void *arg; // of a task it is NULL: the task's arguments follow the job
} csp__group_job;

#define CSP__GROUP_MAGIC 0x63737067u
#define csp__group_check(group) csp__check(group, CSP__GROUP_MAGIC, "group")
#define csp__group_running(group) ((int)(csp__acquire(&(group)->running.csp_x_state) >> 3))

CSP__API csp_group *csp_group_new(csp_ctx *parent)
{
    csp_ctx *ctx = csp_ctx_with_cancel(parent != NULL ? parent : &csp__root);
    csp_group *group = (csp_group *)csp__zalloc(sizeof *group);
    if (group == NULL) {
        csp_ctx_unref(ctx);
        csp__throw_memory(sizeof *group);
    }
    *group = (csp_group){.magic = CSP__GROUP_MAGIC, .ctx = ctx, .limit = -1};
    return group;
}

CSP__API csp_ctx *csp_group_ctx(csp_group *group)
{
    csp__group_check(group);
    return group->ctx;
}

/* Panics while a function of the group runs; `what` is the call that must not be made then. */
CSP__FN void csp__group_check_idle(csp_group *group, const char *what)
{
    csp__group_check(group);
    int n = csp__group_running(group);
    if (n != 0) (csp_panic)("%s while %d goroutines in the group are still active", what, n);
}

CSP__API void csp_group_set_limit(csp_group *group, int n)
{
    csp__group_check_idle(group, "modify limit");
    group->limit = n;
    if (n >= 0) CSP__BY(sem_init)(&group->places, n CSP__NOWHERE("make"));
}

/* Ends a function's part in the group: gives the place back, then counts the function out. */
CSP__FN void csp__group_done(void *arg)
{
    csp_group *group = (csp_group *)arg;
    if (group->limit >= 0) CSP__BY(sem_release)(&group->places, 1 CSP__NOWHERE("release"));
    CSP__BY(waitgroup_done)(&group->running CSP__NOWHERE("done")); /* the group may be freed now */
}

/* Runs a function of the group and notes its result. */
CSP__FN void csp__group_call(csp_group *group, int (*fn)(void *), void *arg)
{
    csp_defer(csp__group_done, group); /* a defer: it runs after csp_exit, too */
    uint32_t result = (uint32_t)fn(arg), none = 0;
    if (result != 0 && csp__cas(&group->result, &none, result)) csp_ctx_cancel(group->ctx);
}

CSP__FN void csp__group_run(void *args)
{
    csp__group_job job = *(csp__group_job *)args;
    csp__group_call(job.group, job.fn, job.arg);
}

CSP__FN void csp__group_run_task(void *args)
{
    csp__group_job *job = (csp__group_job *)args;
    csp__group_call(job->group, job->fn, (char *)args + CSP__JOB_SIZE(*job));
}

/* Counts a function in and takes a place for it, waiting until t at the latest; INT64_MIN: without
 * waiting. The count comes first, so that csp_group_wait waits for calls that wait for a place. */
CSP__FN csp_status csp__group_enter(csp_group *group, int64_t t, const char *call CSP_X_PLACE)
{
    csp__group_check(group);
    if (csp__relaxed(&group->waited) && csp__group_running(group) == 0)
        csp__panic_at(at, "%s after csp_group_wait has returned", call);
    CSP__BY(waitgroup_add)(&group->running, 1 CSP__PASS);
    if (group->limit < 0) return CSP_OK;
    csp_status status = CSP_TIMEOUT;
    if (t != INT64_MIN)
        status = CSP__BY(sem_acquire_until)(&group->places, 1, t CSP__PASS);
    else if (csp_sem_try_acquire(&group->places, 1))
        status = CSP_OK;
    if (status != CSP_OK) CSP__BY(waitgroup_done)(&group->running CSP__NOWHERE("done"));
    return status;
}

/* Starts the goroutine of a function that is counted in; a panic of the spawn counts it out. */
CSP__FN void csp__group_start(csp_group *group, const csp_x_site *site, void (*run)(void *),
                              const void *job, size_t size)
{
    csp_x_defer undo = CSP_X_DEFERRED(csp__group_done, group);
    csp__spawn_or(csp__enter(), site, run, job, size, &undo);
}

CSP__API csp_status csp_x_group_spawn(csp_group *group, const csp_x_site *site, int (*fn)(void *),
                                      void *arg, int64_t t)
{
    csp__need(fn);
    csp__group_job job = {group, fn, arg};
    csp_status status = csp__group_enter(group, t, "csp_group_spawn" CSP__SITE_AT(site));
    if (status == CSP_OK) csp__group_start(group, site, csp__group_run, &job, sizeof job);
    return status;
}

CSP__API uint64_t csp_x_group_go(const csp_x_how *how, const csp_x_site *site, int (*run)(void *),
                                 const void *args, size_t size)
{
    csp__group_job job = {how->group, run, NULL};
    csp_status status = csp__group_enter(how->group, how->until, "csp_group_go" CSP__SITE_AT(site));
    if (status != CSP_OK) return (uint64_t)status;
    char few[CSP__JOB_ROOM(job)], *both = few;
    size_t n = CSP__JOB_SIZE(job) + size;
    if (size <= CSP__JOB_FEW) {
        csp__job_pack(both, &job, sizeof job, args, size);
        csp__group_start(how->group, site, csp__group_run_task, both, n);
        return (uint64_t)status;
    }
    both = (char *)csp__alloc(n);
    if (both == NULL) {
        csp__group_done(how->group);
        csp__throw_memory(n);
    }
    csp_defer(csp__free, both);
    csp__job_pack(both, &job, sizeof job, args, size);
    csp__group_start(how->group, site, csp__group_run_task, both, n);
    return (uint64_t)status;
}

CSP__API csp_status CSP__BY(group_wait_until)(csp_group *group, int *result, int64_t t CSP_X_PLACE)
{
    uint32_t no = 0;
    csp__group_check(group);
    if (!csp__cas(&group->waited, &no, 1)) csp__throw_at("csp_group_wait called twice", at);
    if (CSP__BY(waitgroup_wait_until)(&group->running, t CSP__PASS) != CSP_OK) {
        csp__set(&group->waited, 0);
        return CSP_TIMEOUT;
    }
    csp_ctx_cancel(group->ctx);
    if (result != NULL) *result = (int)csp__relaxed(&group->result);
    return CSP_OK;
}

CSP__API int CSP__BY(group_wait)(csp_group *group CSP_X_PLACE)
{
    int result = 0;
    CSP__BY(group_wait_until)(group, &result, CSP_FOREVER CSP__PASS);
    return result;
}

CSP__API void csp_group_free(csp_group *group)
{
    if (group == NULL) return;
    csp__group_check_idle(group, "csp_group_free");
    csp_ctx_cancel(group->ctx);
    csp_ctx_unref(group->ctx);
    csp__set(&group->magic, CSP__POISON);
    csp__free(group);
}
#endif /* CSP_NO_CONTEXTS */

/* ==========================================================================
 * [35] POOL - caches of items, one for each processor
 *
 * Each P has a small cache of free items with a lock of its own, so that goroutines on different Ps
 * do not wait for each other. A get that finds its own P's cache empty looks into the others before
 * it makes an item.
 *
 *   uses   PLATFORM BASE PROFILE CORE TIMERS WAITERS CTX
 *   locks  cache.lock
 * ======================================================================== */

#ifndef CSP_BARE

#define CSP__POOL_ITEMS (CSP_TORTURE ? 6 : 62)
typedef struct csp__cache {
    uint32_t lock __attribute__((aligned(64))), count;
    void *items[CSP__POOL_ITEMS];
} csp__cache;

struct csp_pool {
    // immutable
    uint32_t magic;
    int ncaches;
    void *(*make)(void *);
    void (*free_item)(void *);
    void *arg;
    csp__cache caches[]; // one for each processor that there was
};

#define CSP__POOL_MAGIC 0x6373706fu
#define csp__pool_check(pool) csp__check(pool, CSP__POOL_MAGIC, "pool")

CSP__API csp_pool *csp_pool_new(void *(*make)(void *arg), void (*free_item)(void *), void *arg)
{
    csp__leave(csp__enter()); /* starts the runtime: the number of Ps must be known */
    int n = csp__nmade();
    size_t size = sizeof(csp_pool) + (size_t)n * sizeof(csp__cache);
    csp_pool *pool = (csp_pool *)csp__zalloc(size);
    if (pool == NULL) csp__throw_memory(size);
    *pool = (csp_pool){CSP__POOL_MAGIC, n, make, free_item, arg};
    return pool;
}

/* The index of the caller's cache. */
#define csp__pool_own(m, pool) (csp__timer_p(m)->id % (pool)->ncaches)

CSP__API void *csp_pool_get(csp_pool *pool)
{
    void *item = NULL;
    csp__pool_check(pool);
    csp__m *m = csp__enter();
    int own = csp__pool_own(m, pool), n = pool->ncaches;
    for (int i = own; i < own + n && item == NULL; i++) {
        csp__cache *c = &pool->caches[i < n ? i : i - n];
        if (csp__relaxed(&c->count) == 0) continue;
        csp__lock(&c->lock, CSP__RANK_CACHE);
        uint32_t left = c->count == 0 ? 0 : c->count - 1;
        if (c->count > 0) item = c->items[left];
        csp__set(&c->count, left);
        csp__hb_after(c);
        csp__unlock(&c->lock);
    }
    csp__leave(m);
    return item != NULL || pool->make == NULL ? item : pool->make(pool->arg);
}

CSP__API void csp_pool_put(csp_pool *pool, void *item)
{
    csp__pool_check(pool);
    if (item == NULL) return;
    csp__m *m = csp__enter();
    csp__cache *c = &pool->caches[csp__pool_own(m, pool)];
    csp__lock(&c->lock, CSP__RANK_CACHE);
    bool room = c->count < CSP__POOL_ITEMS;
    if (room) {
        csp__hb_before(c);
        c->items[c->count] = item;
        csp__set(&c->count, c->count + 1);
    }
    csp__unlock_leave(m, &c->lock);
    if (!room && pool->free_item != NULL) pool->free_item(item);
}

CSP__API void csp_pool_free(csp_pool *pool)
{
    if (pool == NULL) return;
    csp__pool_check(pool);
    csp__set(&pool->magic, CSP__POISON);
    for (int i = 0; i < pool->ncaches; i++) {
        csp__cache *c = &pool->caches[i];
        csp__hb_after(c);
        while (c->count > 0 && pool->free_item != NULL) pool->free_item(c->items[--c->count]);
    }
    csp__free(pool);
}

/* ==========================================================================
 * [36] MAP - maps that are read without a lock
 *
 * A map is cut into shards. Look-ups take no lock. Writers take the lock of the shard. A table that
 * is full is replaced by a new one, and the old table is freed when no P reads in it any more.
 *
 *   uses   PLATFORM BASE PROFILE CORE WAITERS CTX
 *   locks  shard.lock
 * ======================================================================== */

/* READERS AND WRITERS. The high bits of the hash name the shard. A shard is an open table with
 * linear probing. A slot gets a key once, and never another one:
 *
 *     hash 0 ------> hash h, value v <------> value GONE
 *     (ends a        (a writer sets the       (deleted; the same key
 *      probe)         value, then the hash)    may come back)
 *
 * A table with too few free slots is replaced by a new one. So a reader needs no lock to find a
 * value. But two things must not be freed while it looks: the table, and the key that it compares
 * with. The reader announces what it reads, and the writer waits before it frees:
 *
 *   reader                                 writer
 *   1 its P's reading, hash, reads = odd   1 table = new one, or value = GONE
 *   2 loads table and value                2 waits while reads is odd, for that shard (table) or
 *   3 compares keys                          for that hash (key), and has not changed
 *   4 reads = even (release)               3 frees, or lets the caller do so
 *
 * 1 and 2 are sequentially consistent on both sides: either the writer's 2 sees the reader, or the
 * reader's 2 finds what the writer's 1 has stored. Without that a reader may hold a table that the
 * writer has just freed.
 *   The wait is short: a reader is inside csp, where its P cannot be taken, and it never waits. A
 * thread without a P has no place to announce itself, and takes the lock. A value may be read from
 * a table that has just been replaced: it was the current table at a moment during the call.
 */

typedef struct csp__slot {
    csp__u64 hash; // atomic; 0: free; rel/acq <slot.hash>
    const void *key;
    void *value; // atomic
} csp__slot;

typedef struct csp__table {
    uint64_t mask;
    csp__slot slots[];
} csp__table;

typedef struct csp__shard {
    csp__table *table __attribute__((aligned(64))); // atomic: readers have a line to themselves
    uint32_t lock __attribute__((aligned(64)));
    csp__u64 live, used; // entries; slots that are not free
} csp__shard;

struct csp_map {
    // immutable
    uint32_t magic;
    bool strings;
    int bits; // 1 << bits shards
    uint64_t seed;
    csp__shard shards[];
};

#define CSP__MAP_MAGIC 0x6373706du
#define csp__map_check(map) csp__check(map, CSP__MAP_MAGIC, "map")
static char csp__gone, csp__keep;
#define CSP__GONE ((void *)&csp__gone)
#define CSP__KEEP ((void *)&csp__keep)
#define csp__seq(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
#define csp__seq_set(p, v) __atomic_store_n(p, v, __ATOMIC_SEQ_CST)

CSP__FN uint64_t csp__map_hash(const csp_map *map, const void *key)
{
    csp__map_check(map);
    uint64_t h = map->seed, w = (uint64_t)(uintptr_t)key;
    if (map->strings) {
        const unsigned char *s = (const unsigned char *)key;
        if (s == NULL) csp__throw("nil key");
        size_t n = strlen((const char *)key);
        for (h += n; n > 8; s += 8, n -= 8) {
            memcpy(&w, s, 8);
            h = csp__hash(h, w);
        }
        uint32_t low = 0, high = 0;
        if (n < 4) { /* its first, middle and last byte */
            w = n == 0 ? 0 : (uint64_t)s[0] << 16 | (uint64_t)s[n / 2] << 8 | s[n - 1];
        } else { /* its first and its last four */
            memcpy(&low, s, 4);
            memcpy(&high, s + n - 4, 4);
            w = (uint64_t)high << 32 | low;
        }
    }
    h = csp__hash(csp__hash(h, w), map->seed);
    return h != 0 ? h : 1;
}

CSP__FN inline csp__shard *csp__map_shard(csp_map *map, uint64_t h)
{
    return &map->shards[h >> (64 - map->bits)];
}

/* The slot of a key and its value, or NULL. The caller holds the shard's lock or has announced
 * itself as a reader. */
CSP__FN inline csp__slot *csp__map_find(csp__shard *shard, uint64_t h, const void *key,
                                        bool strings, void **value)
{
    csp__table *t = csp__seq(&shard->table);
    for (uint64_t i = h; t != NULL; i++) {
        csp__slot *s = &t->slots[i & t->mask];
        uint64_t there = csp__acquire(&s->hash); // acq <slot.hash>: its key
        if (there == 0) break;
        if (there != h) continue;
        void *v = csp__seq(&s->value);
        csp__hb_after(shard);
        if (v == CSP__GONE) continue;
        if (s->key != key && !(strings && strcmp((const char *)s->key, (const char *)key) == 0))
            continue;
        *value = v;
        return s;
    }
    csp__hb_after(shard);
    return NULL;
}

CSP__FN bool csp__map_read(csp__shard *s, uint64_t h, const void *key, bool strings, void **value)
{
    csp__m *m = csp__enter();
    csp__p *p = m->p;
    uint64_t reads = 0;
    if (CSP__LIKELY(p != NULL)) {
        csp__release(&p->reading, s); /* release: after the reads of the look-up before this one */
        csp__release(&p->reading_hash, h);
        reads = p->reads + 1;
        __atomic_exchange_n(&p->reads, reads, __ATOMIC_SEQ_CST);
    } else {
        csp__lock(&s->lock, CSP__RANK_SHARD);
    }
    bool found = csp__map_find(s, h, key, strings, value) != NULL;
    csp__hb_before(&s->table); /* freeing the key comes after this comparison */
    if (CSP__LIKELY(p != NULL))
        csp__release(&p->reads, reads + 1);
    else
        csp__unlock(&s->lock);
    csp__leave(m);
    return found;
}

/* Waits for the readers of a shard that may still see what has been taken away before this call;
 * h != 0: only for readers that look for this hash. */
CSP__FN void csp__map_settle(csp__shard *s, uint64_t h)
{
    for (int i = 0; i < csp__nmade(); i++) {
        csp__p *p = csp__sched.procs[i];
        uint64_t reads = csp__seq(&p->reads);
        if ((reads & 1) == 0 || csp__acquire(&p->reading) != s) continue;
        if (h != 0 && csp__acquire(&p->reading_hash) != h) continue;
        for (uint32_t n = 0; csp__acquire(&p->reads) == reads;) csp__lock_pause(&n);
    }
    csp__hb_after(&s->table);
}

/* Frees a table that s has replaced. */
CSP__FN void csp__table_drop(csp__shard *s, csp__table *t)
{
    if (t == NULL) return;
    csp__map_settle(s, 0);
    csp__free(t);
}

/* The slot that ends the probes for h. */
CSP__FN csp__slot *csp__table_end(csp__table *t, uint64_t h)
{
    while (t->slots[h & t->mask].hash != 0) h++;
    return &t->slots[h & t->mask];
}

/* Room for one more entry; the table that it replaces, if any, goes to *old. False when out of
 * memory. */
CSP__FN bool csp__map_room_locked(csp__shard *s, csp__table **old)
{
    csp__table *t = s->table, *more;
    uint64_t size = CSP_TORTURE ? 2 : 8;
    if (t != NULL && 4 * (s->used + 1) <= 3 * (t->mask + 1)) return true;
    while (size < 2 * (s->live + 1)) size *= 2;
    more = (csp__table *)csp__zalloc(sizeof *more + (size_t)size * sizeof more->slots[0]);
    if (more == NULL) return false;
    more->mask = size - 1;
    for (uint64_t i = 0; t != NULL && i <= t->mask; i++)
        if (t->slots[i].hash != 0 && t->slots[i].value != CSP__GONE)
            *csp__table_end(more, t->slots[i].hash) = t->slots[i];
    s->used = s->live;
    csp__seq_set(&s->table, more);
    *old = t;
    return true;
}

/* Every write to a map. An entry that exists, with the value `expect` (KEEP: with any value), gets
 * the value `there` (KEEP: it stays; GONE: it is deleted). An entry that does not exist is made
 * with the value `missing` (GONE: it is not made). Returns true when the entry existed with the
 * value expected; *before is its value then. */
CSP__FN bool csp__map_write(csp_map *map, const void *key, void *expect, void *there, void *missing,
                            void **before)
{
    uint64_t h = csp__map_hash(map, key);
    csp__shard *s = csp__map_shard(map, h);
    csp__table *old = NULL;
    void *v = NULL;
    csp__m *m = csp__enter_lock(&s->lock, CSP__RANK_SHARD);
    csp__hb_before(s); /* a reader that sees the store comes after what came before it */
    csp__slot *slot = csp__map_find(s, h, key, map->strings, &v);
    bool hit = slot != NULL && (expect == CSP__KEEP || v == expect);
    if (hit && there != CSP__KEEP) {
        csp__seq_set(&slot->value, there);
        if (there == CSP__GONE) csp__set(&s->live, s->live - 1);
    } else if (slot == NULL && missing != CSP__GONE) {
        if (!csp__map_room_locked(s, &old)) {
            csp__unlock_leave(m, &s->lock);
            csp__throw_memory((size_t)(s->live + 1) * 2 * sizeof *slot);
        }
        slot = csp__table_end(s->table, h);
        slot->key = key;
        csp__set(&slot->value, missing);
        csp__release(&slot->hash, h); // rel <slot.hash>
        s->used++;
        csp__set(&s->live, s->live + 1);
    }
    csp__hb_before(&s->table);
    csp__unlock(&s->lock);
    csp__table_drop(s, old);
    if (hit && there == CSP__GONE && map->strings) csp__map_settle(s, h);
    csp__leave(m);
    if (before != NULL) *before = v;
    return hit;
}

CSP__API csp_map *csp_map_new(csp_map_keys keys)
{
    if (keys != CSP_MAP_STRINGS && keys != CSP_MAP_POINTERS)
        csp__throw("csp_map_new: neither CSP_MAP_STRINGS nor CSP_MAP_POINTERS");
    csp__m *m = csp__enter();
    uint64_t seed = csp__hash(csp__random(&m->rng), (uint64_t)csp__clock()) | 1;
    csp__leave(m);
    int bits = 4;
    while (1 << bits < 16 * csp__nmade() && bits < 8) bits++;
    size_t size = sizeof(csp_map) + ((size_t)1 << bits) * sizeof(csp__shard);
    csp_map *map = (csp_map *)csp__zalloc(size);
    if (map == NULL) csp__throw_memory(size);
    *map = (csp_map){CSP__MAP_MAGIC, keys == CSP_MAP_STRINGS, bits, seed};
    return map;
}

CSP__API bool csp_map_load(csp_map *map, const void *key, void **value)
{
    uint64_t h = csp__map_hash(map, key);
    void *v = NULL;
    bool found = csp__map_read(csp__map_shard(map, h), h, key, map->strings, &v);
    if (value != NULL) *value = v;
    return found;
}

CSP__API void csp_map_store(csp_map *map, const void *key, void *value)
{
    csp__map_write(map, key, CSP__KEEP, value, value, NULL);
}

CSP__API bool csp_map_load_or_store(csp_map *map, const void *key, void *value, void **actual)
{
    void *v;
    bool found = csp__map_write(map, key, CSP__KEEP, CSP__KEEP, value, &v);
    if (actual != NULL) *actual = found ? v : value;
    return found;
}

CSP__API bool csp_map_load_and_delete(csp_map *map, const void *key, void **value)
{
    return csp__map_write(map, key, CSP__KEEP, CSP__GONE, CSP__GONE, value);
}

CSP__API void csp_map_delete(csp_map *map, const void *key)
{
    csp__map_write(map, key, CSP__KEEP, CSP__GONE, CSP__GONE, NULL);
}

CSP__API bool csp_map_swap(csp_map *map, const void *key, void *value, void **previous)
{
    return csp__map_write(map, key, CSP__KEEP, value, value, previous);
}

CSP__API bool csp_map_compare_and_swap(csp_map *map, const void *key, void *old, void *value)
{
    return csp__map_write(map, key, old, value, CSP__GONE, NULL);
}

CSP__API bool csp_map_compare_and_delete(csp_map *map, const void *key, void *old)
{
    return csp__map_write(map, key, old, CSP__GONE, CSP__GONE, NULL);
}

CSP__API void csp_map_clear(csp_map *map)
{
    csp__map_check(map);
    csp__m *m = csp__enter();
    for (int i = 0; i < 1 << map->bits; i++) {
        csp__shard *s = &map->shards[i];
        csp__lock(&s->lock, CSP__RANK_SHARD);
        csp__table *old = s->table;
        csp__seq_set(&s->table, NULL);
        s->used = 0;
        csp__set(&s->live, 0);
        csp__hb_before(s);
        csp__unlock(&s->lock);
        csp__table_drop(s, old);
    }
    csp__leave(m);
}

CSP__API void csp_map_free(csp_map *map)
{
    if (map == NULL) return;
    csp_map_clear(map);
    csp__set(&map->magic, CSP__POISON);
    csp__free(map);
}

CSP__API int64_t csp_map_len(csp_map *map)
{
    uint64_t n = 0;
    csp__map_check(map);
    for (int i = 0; i < 1 << map->bits; i++) n += csp__relaxed(&map->shards[i].live);
    return (int64_t)n;
}

/* The keys of a shard now, ended by a hash of 0; NULL when there are none. */
CSP__FN csp__slot *csp__map_keys(csp__shard *s)
{
    csp__m *m = csp__enter_lock(&s->lock, CSP__RANK_SHARD);
    csp__table *t = s->table;
    uint64_t n = 0, live = s->live;
    csp__slot *keys = live == 0 ? NULL : (csp__slot *)csp__alloc((size_t)(live + 1) * sizeof *keys);
    for (uint64_t i = 0; keys != NULL && i <= t->mask; i++)
        if (t->slots[i].hash != 0 && t->slots[i].value != CSP__GONE) keys[n++] = t->slots[i];
    csp__unlock_leave(m, &s->lock);
    if (live > 0 && keys == NULL) csp__throw_memory((size_t)(live + 1) * sizeof *keys);
    if (keys != NULL) keys[n].hash = 0;
    return keys;
}

CSP__API void csp_map_range(csp_map *map, bool (*fn)(const void *key, void *value, void *arg),
                            void *arg)
{
    csp__need(fn);
    csp__map_check(map);
    for (int i = 0; i < 1 << map->bits; i++) {
        csp__shard *s = &map->shards[i];
        csp__slot *keys = csp__map_keys(s);
        csp_defer(free, keys);
        for (csp__slot *k = keys; k != NULL && k->hash != 0; k++) {
            /* Looked up again, by the pointer alone: the key may have been freed since. */
            void *v;
            if (csp__map_read(s, k->hash, k->key, false, &v) && !fn(k->key, v, arg)) return;
        }
    }
}

#endif /* !CSP_BARE */

/* ==========================================================================
 * [37] FORK - work that is offered, joined, and loops made of it
 *
 * The owner's side of OFFERS (see GO): a fork offers a record to thieves, and its join takes the
 * record back or waits for the thief. csp_for forks halves of its range, see LOOPS.
 *
 *     csp_x_fork_offer            thief: csp__forks_take      thief: swap(done)
 *     ----------------> OFFERED  ---------------------> TAKEN ----------------> DONE
 *                          | csp_x_fork_settle                                   |
 *                          v                            csp_x_fork_settle        v
 *                       the owner runs it               the owner reads the outcome
 *
 *   uses   PLATFORM BASE PROFILE CORE WAKE GO
 *   locks  forks.lock
 * ======================================================================== */

#ifdef CSP_BARE

/* On one core there are no thieves. The list tells csp__unwind which forks are to be run. */
CSP__API void csp_x_fork_offer(csp_x_fork *f)
{
    csp__g *g = csp__current();
    csp_x_forks *forks = &g->forks;
    if (forks->top == NULL) forks->top = &forks->base;
    f->of = forks;
    f->prev = forks->top;
    f->defers = g->defers;
    forks->top->next = f;
    forks->top = &f->link;
}

/* True: the caller runs the task. */
CSP__API bool csp_x_fork_settle(csp_x_fork *f)
{
    csp_x_forks *of = f->of;
    f->prev->next = f->link.next;
    if (of->top == &f->link)
        of->top = f->prev;
    else
        f->link.next->prev = f->prev;
    f->of = NULL;
    return true;
}

CSP__API void csp_x_for(const csp_x_site *site, void (*run)(void *), const void *args, size_t size,
                        int64_t from, int64_t to, int64_t grain)
{
    int64_t *range = (int64_t *)(uintptr_t)args; /* begins the arguments, which csp_for has made */
    (void)site;
    (void)size;
    if (from > to) csp_panic("csp_for from a number above that to which it goes");
    if (grain < 0) csp_panic("csp_for with a negative grain");
    while (from < to) {
        int64_t end =
            grain != 0 && (uint64_t)to - (uint64_t)from > (uint64_t)grain ? from + grain : to;
        range[0] = from;
        range[1] = end;
        run(range);
        from = end;
    }
}

#else

CSP__FN inline csp__forks *csp__forks_of(csp_x_forks *x)
{
    return (csp__forks *)(void *)x; /* x is the first member */
}

CSP__FN inline csp_x_fork *csp__fork_of(csp_x_link *link)
{
    return (csp_x_fork *)(void *)link; /* link is the first member */
}

/* OFFERS, owner: 1. `rounds` counts the times the list was empty. */
CSP__FN inline void csp__fork_push(csp__cb *cb, csp_x_fork *f)
{
    csp__forks *forks = &cb->forks;
    csp_x_link *top = forks->x.top;
    uint32_t depth = forks->x.tail;
    f->of = &forks->x;
    f->prev = top;
    f->defers = cb->defers;
    f->depth = depth;
    f->taken = 0;
    csp__set(&top->next, f);
    forks->x.top = &f->link;
    if (csp__relaxed(&forks->head) == depth) csp__set(&forks->rounds, forks->rounds + 1);
    csp__hb_before(f);
    csp__release(&forks->x.tail, depth + 1);
}

/* In a simulation the seed chooses whether a fork is taken, and it is taken at once. A goroutine
 * runs it, at any time from here on. */
CSP__FN void csp__fork_sim(csp__m *m, csp_x_fork *f)
{
    csp__plain plain = {csp__taken_run, f};
    if (csp__random_below(&m->rng, 2) == 0) return;
    f->taken = 2;
    f->done = NULL;
    csp__spawn(m, NULL, f->site, csp__plain_run, &plain, sizeof plain, CSP__G_SYSTEM);
}

/* The goroutine's first fork, a fork in a simulation, or one by a thread that must give its P
 * up. */
CSP__FN CSP__NOINLINE void csp__fork_slow(csp_x_fork *f)
{
    csp__m *m = csp__enter();
    csp__forks *forks = &m->g->cb->forks;
    bool sim = csp__sched.sim != NULL;
    if (forks->x.tail == 0) {
        csp__lock(&forks->lock, CSP__RANK_FORKS);
        forks->x.top = forks->last = &forks->x.base;
        forks->lost = 0;
        csp__set(&forks->head, 0);
        csp__set(&forks->x.limit, sim || !csp__sched.barrier ? UINT32_MAX : 0);
        csp__unlock(&forks->lock);
    }
    csp__fork_push(m->g->cb, f);
    if (sim) {
        csp__fork_sim(m, f);
    } else if (csp__relaxed(&forks->known) == 0) {
        csp__forks_show(m, forks);
        csp__wake();
    }
    csp__leave(m);
    csp__sim_point();
}

/* KNOWN, owner: 3. */
CSP__FN CSP__NOINLINE void csp__fork_known(void)
{
    csp__m *m = csp__enter();
    csp__forks_show(m, &m->g->cb->forks);
    csp__wake();
    csp__leave(m);
}

/* The short way needs no lock: only this goroutine adds to its list. */
CSP__API void csp_x_fork_offer(csp_x_fork *f)
{
    csp__m *m = csp__self();
    csp__cb *cb;
    if (CSP__UNLIKELY(m == NULL || csp__relaxed(&m->revoke) != 0 ||
                      (cb = m->g->cb)->forks.x.top == NULL)) {
        csp__fork_slow(f);
        return;
    }
    csp__fork_push(cb, f);
    csp__fence_light();
    if (CSP__UNLIKELY(csp__relaxed(&cb->forks.known) == 0)) csp__fork_known();
}

/* Takes f out of the list. f may stand anywhere: joins need not be in the order of the forks. Newer
 * records move down by one. */
CSP__FN void csp__fork_remove_locked(csp__forks *forks, csp_x_fork *f)
{
    csp_x_fork *top = csp__fork_of(forks->x.top);
    uint32_t tail = top->depth;
    for (csp_x_fork *newer = top; newer != f; newer = csp__fork_of(newer->prev)) newer->depth--;
    if (f->taken == 1) {
        csp__set(&forks->head, forks->head - 1);
        if (csp__relaxed(&forks->x.limit) != UINT32_MAX) csp__set(&forks->x.limit, forks->head);
        if (forks->last == &f->link) forks->last = f->prev;
    }
    if (f == top) {
        forks->x.top = f->prev;
    } else {
        csp__set(&f->prev->next, f->link.next);
        f->link.next->prev = f->prev;
    }
    csp__release(&forks->x.tail, tail);
}

/* Waits until the thief of f is done: spins for 100 pauses, then parks. Enters csp again after the
 * wait, and returns its m. */
CSP__FN csp__m *csp__fork_wait(csp__m *m, csp_x_fork *f)
{
    void *none = NULL;
    csp__g *g = m->g;
    bool spins = csp__spins();
    for (int i = 0; i < 100 && spins && csp__acquire(&f->done) == NULL; i++) csp__pause();
    if (csp__acquire(&f->done) == NULL) {
        csp__wait_reason(g, "join\0", f);
        csp__torture_delay(m);
        if (csp__cas(&f->done, &none, (void *)g)) {
            csp__park(m);
            m = csp__enter();
        }
    }
    csp__hb_after(f);
    return m;
}

/* The task of the thief ended by a panic or csp_exit. The owner, which joins it, ends the same
 * way. */
CSP__FN CSP__COLD __attribute__((noreturn)) void csp__fork_fails(void *outcome)
{
    char text[CSP_PANIC_MESSAGE_SIZE] = "out of memory for the message of a panic";
    if (outcome == CSP__FORK_EXITS) csp_exit();
    if (outcome != CSP__FORK_DONE) {
        memcpy(text, outcome, sizeof text);
        free(outcome);
    }
    csp__throw(text);
}

/* OFFERS, owner: the slow join, under the lock. True: f was not taken, and the caller runs the
 * task. lost: the runtime was stopped after f was taken, and its thief will never be done. */
CSP__API bool csp_x_fork_settle(csp_x_fork *f)
{
    csp__m *m = csp__enter();
    csp__forks *forks = csp__forks_of(f->of);
    csp__lock(&forks->lock, CSP__RANK_FORKS);
    bool taken = f->taken != 0;
    bool lost = taken && f->depth < forks->lost && csp__acquire(&f->done) == NULL;
    if (taken && !lost) {
        csp__unlock(&forks->lock);
        m = csp__fork_wait(m, f);
        csp__lock(&forks->lock, CSP__RANK_FORKS);
    }
    csp__fork_remove_locked(forks, f);
    csp__unlock(&forks->lock);
    f->of = NULL;
    csp__leave(m);
    csp__sim_point();
    if (lost) csp__throw("csp_join of what another processor had taken when the runtime ended");
    if (taken && f->outcome != NULL) csp__fork_fails(f->outcome);
    return !taken;
}

/* LOOPS. A goroutine does its part of the range piece by piece. Whenever no fork of this goroutine
 * is left for thieves, it forks the upper half of the rest. So a loop without thieves makes one
 * fork for each halving of its range, and a loop with thieves makes one more for each theft. To
 * fork each piece would cost a fork and a join for each. With a grain of 0 a piece grows from one
 * item until it takes CSP__PIECE. */
#define CSP__PIECE (5 * CSP_MICROSECOND)

/* One call of csp_for, in its frame: csp_for returns after all parts. */
typedef struct csp__loop {
    // immutable
    const csp_x_site *site;
    void (*run)(void *);
    const void *args;
    size_t size;
    uint64_t grain;
    // atomic: any part, relaxed, since a part that begins too late does no harm
    uint32_t stop; // a part has panicked or called csp_exit
} csp__loop;

typedef struct csp__part {
    csp__loop *loop;
    int64_t from, to;
} csp__part;

CSP__FN void csp__part_run(csp__loop *loop, int64_t from, int64_t to); // circle: halves of halves

/* A part has been left early, by a panic or csp_exit: no other part begins another piece. A part
 * that ends has set its pointer to NULL. */
CSP__FN void csp__part_left(void *arg)
{
    csp__loop *loop = *(csp__loop **)arg;
    if (loop != NULL) csp__set(&loop->stop, 1);
}

/* The task of a forked half. */
CSP__FN void csp__part_forked(void *arg)
{
    csp__part *part = (csp__part *)arg;
    csp__loop *unwound = part->loop;
    csp_defer(csp__part_left, &unwound);
    csp__part_run(part->loop, part->from, part->to);
    unwound = NULL;
}

/* Forks the upper half, does the lower half, and joins at the end of the block. */
CSP__FN void csp__part_halve(csp__loop *loop, int64_t from, int64_t to)
{
    int64_t middle = from + (int64_t)(((uint64_t)to - (uint64_t)from) / 2);
    csp__part part = {loop, middle, to};
    csp__loop *unwound = loop;
    __attribute__((cleanup(csp_x_fork_leave))) csp_x_fork half;
    half.of = NULL;
    csp_x_fork_begin(&half, loop->site, csp__part_forked, &part);
    csp_defer(csp__part_left, &unwound);
    csp__part_run(loop, from, middle);
    unwound = NULL;
}

/* Is no fork of this goroutine left for thieves? */
CSP__FN bool csp__fork_none_open(void)
{
    const csp__forks *forks = &csp__current()->cb->forks;
    return forks->x.tail <= csp__relaxed(&forks->head);
}

/* The arguments are copied for this part, aligned to 64 bytes: the task reads its range from
 * them. */
CSP__FN void csp__part_run(csp__loop *loop, int64_t from, int64_t to)
{
    char *args = (char *)__builtin_alloca(loop->size + 64);
    args += 64 - ((uintptr_t)args & 63);
    memcpy(args, loop->args, loop->size);
    uint64_t left, piece = loop->grain != 0 ? loop->grain : 1;
    while ((left = (uint64_t)to - (uint64_t)from) != 0 && csp__relaxed(&loop->stop) == 0) {
        if (left > piece && csp__fork_none_open()) {
            csp__part_halve(loop, from, to);
            return;
        }
        int64_t end = left > piece ? from + (int64_t)piece : to;
        int64_t began = loop->grain == 0 ? csp__clock() : 0;
        memcpy(args, &from, sizeof from);
        memcpy(args + sizeof from, &end, sizeof end);
        loop->run(args);
        if (loop->grain == 0 && left > piece) {
            int64_t took = csp__clock() - began;
            if (took < CSP__PIECE)
                piece *= 2;
            else if (took > 4 * CSP__PIECE && piece > 1)
                piece /= 2;
        }
        from = end;
    }
}

CSP__API void csp_x_for(const csp_x_site *site, void (*run)(void *), const void *args, size_t size,
                        int64_t from, int64_t to, int64_t grain)
{
    csp__loop loop = {site, run, args, size, (uint64_t)grain, 0};
    if (from > to) csp_panic("csp_for from %lld to %lld", (long long)from, (long long)to);
    if (grain < 0) csp_panic("csp_for with a grain of %lld", (long long)grain);
    csp__part_run(&loop, from, to);
}

#endif

/* The end of a block joins a fork that the program has not joined. */
CSP__API void csp_x_fork_end(csp_x_fork *f)
{
    if (csp_x_fork_join(f)) f->run(f->args);
}

/* ########################################## OUTSIDE ########################################### */
/* ==========================================================================
 * [38] FD - reading, writing, waiting, closing
 *
 * Each call tries first, and waits when it is told EAGAIN. How it tries without blocking depends on
 * the descriptor:
 *
 *   what it is            how a call tries
 *   a socket              MSG_DONTWAIT with each call
 *   a pipe, a terminal    RWF_NOWAIT where the system knows it, else poll(2) is asked first
 *   with O_NONBLOCK       read(2) and write(2)
 *   a file                it is always ready: in csp_blocking
 *
 * A socket that csp has made is known by its record. Anything else may have been closed with
 * close(2) and opened anew, without the record's knowledge: so each call looks at it again, and
 * each wait registers it again.
 *
 *   uses   PLATFORM BASE PROFILE SYSTEM EVENTS CORE POLLER PANIC SELF WAITERS SELECT CTX
 *   locks  fd.lock
 * ======================================================================== */

#ifndef CSP_BARE

/* Sleeps until FINISHING is over; 0 then. -EBADF: the number is not open any more. */
CSP__FN CSP__COLD int csp__fd_settle(csp__fd *d, int fd)
{
    uint32_t users = csp__acquire(&d->users);
    for (int i = 0; i < 100 && (users & CSP__FD_FINISHING); i++) {
        csp__pause();
        users = csp__acquire(&d->users);
    }
    while (users & CSP__FD_FINISHING) {
        if (!csp__os_open(fd)) return -EBADF;
        uint32_t awaited = users | CSP__FD_AWAITED;
        if (users != awaited && !csp__cas(&d->users, &users, awaited)) continue;
        csp_x_blocking();
        csp__os_wait(&d->users, awaited, CSP_FOREVER);
        users = csp__acquire(&d->users);
    }
    csp__leave(csp__enter()); /* with a P again */
    return 0;
}

/* Counts a call as a user of fd, and sets `mark`. Returns how many users there were before, or a
 * negative errno. The tempting code adds 1, and takes it back where it finds a mark. Then the count
 * could come to zero twice, and the descriptor be closed twice. */
CSP__FN int csp__fd_use(csp__fd *d, int fd, uint32_t mark)
{
    uint32_t users = csp__relaxed(&d->users);
    for (;;) {
        if (CSP__LIKELY((users & CSP__FD_CLOSING) == 0)) {
            if (csp__cas(&d->users, &users, (users + 1) | mark)) return (int)users;
        } else {
            int e = users & CSP__FD_FINISHING ? csp__fd_settle(d, fd) : -EBADF;
            if (e < 0) return e;
            users = csp__relaxed(&d->users);
        }
    }
}

/* Begins a call on fd, and fills in *o. 0; or a negative errno, and then there is nothing to leave.
 */
CSP__FN int csp__fd_enter(csp__op *o, int fd)
{
    csp__sim_refuse("a descriptor that is not from csp_sim_pipe");
    csp__m *m = csp__enter(); /* yields if the monitor has asked for it */
    csp__leave(m);
    csp__fd *d = csp__fd_of(fd);
    *o = (csp__op){.d = d, .fd = fd, .how = CSP__TRY_SOCKET};
    if (d == NULL) return fd < 0 ? -EBADF : fd < CSP__FDS * CSP__FD_CHUNKS ? -ENOMEM : -EMFILE;
    int e = csp__fd_use(d, fd, 0);
    if (e < 0) return e;
    e = csp__poll_begin();
    o->gen = csp__acquire(&d->gen); // acq <fd.gen>
    o->made = d->made;
    if (e == 0 && !o->made) e = csp__fd_look(o);
    if (e < 0) csp__fd_leave(o);
    return e;
}

/* Is there a reason not to wait? 1: more was reported than `seen`, try again. A negative errno:
 * closed, or over. 0: none. `seq` is compared first: what was there before it was over may still be
 * read. */
CSP__FN int csp__fd_now_locked(const csp__op *o, int dirs, const uint32_t *seen)
{
    csp__fd *d = o->d;
    if (d->gen != o->gen || (csp__acquire(&d->users) & CSP__FD_CLOSING) != 0) return -ECANCELED;
    if (((dirs & 1) && d->seq[0] != seen[0]) || ((dirs & 2) && d->seq[1] != seen[1])) return 1;
    return d->limit.over;
}

/* w becomes the first in the list, which is ordered by csp__fd_fire_locked. */
CSP__FN void csp__fd_queue_locked(csp__fd *d, csp__waiter *w)
{
    w->queued = CSP__QUEUED_IN;
    w->next = d->waiters;
    d->waiters = w;
}

/* Waits until more is reported than `seen`; 0 then. Else -ETIMEDOUT, or -ECANCELED, or -EPERM: the
 * system has nothing to report of this kind of descriptor, which is always ready. */
CSP__FN int csp__fd_wait(csp__op *o, int dirs, const uint32_t *seen, int64_t t, const char *what)
{
    csp__fd *d = o->d;
    if (!o->made || csp__acquire(&d->registered) == 0) {
        int e = csp__fd_register(o);
        if (e < 0) return e;
    }
    if (t != CSP_FOREVER && t <= csp__clock()) {
        int over = csp__relaxed(&d->limit.over);
        return over != 0 ? over : -ETIMEDOUT;
    }
    csp__m *m = csp__enter();
    CSP__WAITER(w, m->g);
    csp__lock(&d->lock, CSP__RANK_FD);
    int now = csp__fd_now_locked(o, dirs, seen);
    if (now != 0) {
        csp__unlock_leave(m, &d->lock);
        return now < 0 ? now : 0;
    }
    csp__wait_init(m, w, NULL, t, what, (void *)(intptr_t)o->fd);
    w->index = dirs;
    csp__fd_queue_locked(d, w);
    csp__add(&csp__poll.waiters, 1);
    csp__unlock(&d->lock);
    csp__evq_arm(o->fd, o->gen, dirs);
    if (m->p == NULL) csp__poll_need();
    if (csp__park_until(m, t) != NULL) return (int)(intptr_t)w->value;
    csp__lock(&d->lock, CSP__RANK_FD);
    csp__fd_unwait_locked(d, w);
    csp__unlock(&d->lock);
    csp__add(&csp__poll.waiters, 0u - 1);
    return -ETIMEDOUT;
}

/* Writes at most `size` bytes of one buffer, of several, or of a file. `quiet`: the descriptor may
 * be a broken pipe, and that must not become a signal. */
CSP__FN csp_ssize csp__fd_put(csp__op *o, const void *buffer, size_t size, bool quiet)
{
    struct iovec cut[8];
    int n = 0;
    if (o->offset != NULL) return csp__os_send_file(o->fd, o->file, o->offset, size);
    if (o->parts == NULL)
        return quiet ? csp__os_write(o->fd, buffer, size) : csp__os_write_file(o->fd, buffer, size);
    if (size == o->size) return csp__os_write_parts(o->fd, o->parts, o->nparts);
    for (int i = 0; i < o->nparts && size > 0 && n < 8; i++) {
        if (o->parts[i].iov_len == 0) continue;
        cut[n] = o->parts[i];
        if (cut[n].iov_len > size) cut[n].iov_len = size;
        size -= cut[n++].iov_len;
    }
    return csp__os_write_parts(o->fd, cut, n);
}

/* A try that may block. A closer does not wait for such a call, which may take for ever.
 *
 *   the call                                   the closer (csp_x_close_fd)
 *   1 blocked++                                1 sets the mark
 *   2 fence                                    2 fence
 *   3 the mark is set: -ECANCELED              3 blocked == 0: waits for the other users
 *
 * Either 3 on the left sees the mark, or 3 on the right sees the call. Without the fences a closer
 * could wait for a call that reads from a terminal. */
CSP__FN csp_ssize csp__fd_blocking(csp__op *o, int dir, void *buffer, size_t size)
{
    csp_ssize n = -ECANCELED;
    csp__add(&o->d->blocked, 1);
    csp__fence(); /* see above */
    if ((csp__acquire(&o->d->users) & CSP__FD_CLOSING) == 0) {
        csp_x_blocking();
        n = dir == CSP__EVQ_IN ? csp__os_read(o->fd, buffer, size)
                               : csp__fd_put(o, buffer, size, !o->regular);
    }
    csp__add(&o->d->blocked, 0u - 1);
    return n;
}

/* One try, which does not block if that can be helped. A count or a negative errno. */
CSP__FN csp_ssize csp__fd_try(csp__op *o, int dir, void *buffer, size_t size)
{
    csp_ssize n;
    bool out = dir == CSP__EVQ_OUT;
    switch (o->how) {
    case CSP__TRY_SOCKET:
        if (o->parts != NULL) return csp__os_send_parts(o->fd, o->parts, o->nparts);
        if (out) return csp__os_send(o->fd, buffer, size, o->address, o->length);
        if (size == 0 && o->address == NULL) return 0; /* recv(2) of no bytes waits for data */
        return csp__os_recv(o->fd, buffer, size, o->address, &o->length);
    case CSP__TRY_ACCEPT: /* a listener that csp has not made may block */
        if (!o->made && csp__os_ready(o->fd, CSP_READABLE) == 0) return -EAGAIN;
        return csp__os_accept(o->fd);
    case CSP__TRY_NONBLOCK:
        return out ? csp__fd_put(o, buffer, size, true) : csp__os_read(o->fd, buffer, size);
    case CSP__TRY_NOWAIT:
        if (!out) {
            n = csp__os_read_now(o->fd, buffer, size);
            if (n != -ENOSYS) return n;
        }
        o->how = CSP__TRY_ASK; /* fall through */
    case CSP__TRY_ASK:         /* the wrong end of a pipe would never be ready */
        if (!(o->modes & (out ? CSP__OS_WRITES : CSP__OS_READS))) return -EBADF;
        if (size > 0 && csp__os_ready(o->fd, out ? CSP_WRITABLE : CSP_READABLE) == 0)
            return -EAGAIN;
        /* A writable pipe has room for this much. Another reader or writer may be faster, or a
         * terminal be stopped: then the call blocks all the same, and csp_blocking keeps that from
         * other goroutines. */
        if (out && size > 4096) size = 4096;
        return csp__fd_blocking(o, dir, buffer, size);
    default: return csp__fd_blocking(o, dir, buffer, size);
    }
}

/* Tries, and waits, until a try succeeds or fails. A count or a negative errno. */
CSP__FN csp_ssize csp__fd_do(csp__op *o, int dir, void *buffer, size_t size, int64_t t,
                             const char *what)
{
    csp__fd *d = o->d;
    int i = dir == CSP__EVQ_OUT;
    csp_ssize n;
    if (size > 0x7ffff000) size = 0x7ffff000;
    for (;;) {
        uint32_t seen[2] = {csp__acquire(&d->seq[0]), csp__acquire(&d->seq[1])}; // acq <fd.seq>
        if (csp__relaxed(&d->dry[i]) != seen[i] || csp__relaxed(&d->limit.over) != 0 ||
            (t != CSP_FOREVER && t <= csp__clock())) {
            n = csp__fd_try(o, dir, buffer, size);
            /* A short read of a TCP socket took all there was, so the next call waits without a
             * try, unless something is reported meanwhile. A short sendfile proves nothing: it may
             * have come to the end of the file, and a wait for room that is there already would
             * never end. */
            if (n > 0 && n < (csp_ssize)size && d->stream && o->offset == NULL &&
                !csp__relaxed(&d->more))
                csp__set(&d->dry[i], seen[i]);
            if (n == -ENOTSOCK && o->made && o->how == CSP__TRY_SOCKET && o->address == NULL) {
                n = csp__fd_look(o); /* closed with close(2), and no socket now */
                if (n == 0) continue;
            }
            if (n == -EINTR) continue;
            if (n != -EAGAIN) return n;
        }
        n = csp__fd_wait(o, dir, seen, t, what);
        if (n == -EPERM)
            o->how = CSP__TRY_FILE;
        else if (n < 0)
            return n;
    }
}

/* One read or write, of as much as moves at once. */
CSP__FN csp_ssize csp__fd_move(int fd, int dir, void *buffer, size_t size, int64_t t,
                               const char *at)
{
    csp__op o;
    bool out = dir == CSP__EVQ_OUT;
    if (CSP__UNLIKELY(csp__sched.sim != NULL))
        return csp__sched.sim->io(out ? CSP__IO_WRITE : CSP__IO_READ, fd, buffer, size, t);
    csp_ssize n = csp__fd_enter(&o, fd);
    if (n < 0) return n;
    n = csp__fd_do(&o, dir, buffer, size, t, at);
    csp__fd_leave(&o);
    return n;
}

CSP__API csp_ssize csp_x_read_until(int fd, void *buffer, size_t size, int64_t t, const char *at)
{
    return csp__fd_move(fd, CSP__EVQ_IN, buffer, size, t, at);
}

CSP__API csp_ssize csp_x_write_until(int fd, const void *buffer, size_t size, int64_t t,
                                     const char *at)
{
    return csp__fd_move(fd, CSP__EVQ_OUT, (void *)(uintptr_t)buffer, size, t, at);
}

/* Reads or writes until all of it is done, or the stream ends. */
CSP__FN csp_ssize csp__fd_full(int fd, int dir, char *buffer, size_t size, int64_t t,
                               const char *at)
{
    size_t done = 0;
    do {
        csp_ssize n = csp__fd_move(fd, dir, buffer + done, size - done, t, at);
        if (n < 0) return n;
        if (n == 0) break;
        done += (size_t)n;
    } while (done < size);
    return (csp_ssize)done;
}

CSP__API csp_ssize csp_x_read_full(int fd, void *buffer, size_t size, int64_t t, const char *at)
{
    return csp__fd_full(fd, CSP__EVQ_IN, (char *)buffer, size, t, at);
}

CSP__API csp_ssize csp_x_write_full(int fd, const void *buffer, size_t size, int64_t t,
                                    const char *at)
{
    return csp__fd_full(fd, CSP__EVQ_OUT, (char *)(uintptr_t)buffer, size, t, at);
}

/* csp_writev in a simulation: a write for each part, of which only the first may wait. */
CSP__FN csp_ssize csp__sim_parts(int fd, const struct iovec *parts, int n, int64_t t,
                                 const char *at)
{
    csp_ssize done = 0;
    for (int i = 0; i < n; i++) {
        csp_ssize k = csp__fd_move(fd, CSP__EVQ_OUT, parts[i].iov_base, parts[i].iov_len,
                                   done == 0 ? t : 0, at);
        if (k < 0) return done > 0 ? done : k;
        done += k;
        if ((size_t)k < parts[i].iov_len) break;
    }
    return done;
}

CSP__API csp_ssize csp_x_writev(int fd, const struct iovec *parts, int n, int64_t t, const char *at)
{
    csp__op o;
    size_t size = 0;
    if (parts == NULL && n > 0) csp__nil("csp_writev", at);
    if (n < 0 || n > 1024) return -EINVAL;
    for (int i = 0; i < n; size += parts[i++].iov_len)
        if (parts[i].iov_len > (size_t)PTRDIFF_MAX - size) return -EINVAL;
    if (size == 0) return csp__fd_move(fd, CSP__EVQ_OUT, NULL, 0, t, at);
    if (CSP__UNLIKELY(csp__sched.sim != NULL)) return csp__sim_parts(fd, parts, n, t, at);
    csp_ssize done = csp__fd_enter(&o, fd);
    if (done < 0) return done;
    o.parts = parts;
    o.nparts = n;
    o.size = size;
    done = csp__fd_do(&o, CSP__EVQ_OUT, NULL, size, t, at);
    csp__fd_leave(&o);
    return done;
}

/* May sendfile(2) write to it? Only where it is told EAGAIN instead of blocking, or where the
 * target is a file, which is always ready. */
CSP__FN bool csp__fd_takes_files(const csp__op *o)
{
    if (o->made || o->regular || o->how == CSP__TRY_NONBLOCK) return true;
    return o->how == CSP__TRY_SOCKET && (csp__os_modes(o->fd) & CSP__OS_NONBLOCK) != 0;
}

/* Sends a piece of the file through a buffer, one page at most. */
CSP__FN CSP__NOINLINE csp_ssize csp__file_copy(csp__op *o, csp__op *in, int64_t offset, size_t n,
                                               int64_t t, const char *at)
{
    char bytes[4096];
    csp__add(&in->d->blocked, 1);
    csp_x_blocking();
    csp_ssize got = csp__os_read_at(in->fd, bytes, n < sizeof bytes ? n : sizeof bytes, offset);
    csp__add(&in->d->blocked, 0u - 1);
    return got > 0 ? csp__fd_do(o, CSP__EVQ_OUT, bytes, (size_t)got, t, at) : got;
}

/* Sends by sendfile(2) where the pair of descriptors allows it, else by a copy. */
CSP__FN csp_ssize csp__file_send(csp__op *o, csp__op *in, int64_t offset, size_t n, int64_t t,
                                 const char *at)
{
    if (in->made) return -ESPIPE;
    if (n == 0) return 0;
    if (in->regular && csp__fd_takes_files(o)) {
        csp__op by = *o;
        by.how = CSP__TRY_SENDFILE;
        by.file = in->fd;
        by.offset = &offset;
        csp_ssize moved = csp__fd_do(&by, CSP__EVQ_OUT, NULL, n, t, at);
        /* Not between these two, or not on this system, or a filter refuses the call: copy instead.
         */
        if (moved != -EINVAL && moved != -ENOSYS && moved != -EPERM && moved != -EACCES)
            return moved;
    }
    return csp__file_copy(o, in, offset, n, t, at);
}

CSP__API csp_ssize csp_x_send_file(int out, int file, int64_t offset, size_t n, int64_t t,
                                   const char *at)
{
    csp__op o, in;
    csp__sim_refuse("csp_send_file");
    if (offset < 0) return -EINVAL;
    csp_ssize moved = csp__fd_enter(&o, out);
    if (moved < 0) return moved;
    moved = csp__fd_enter(&in, file);
    if (moved == 0) {
        moved = csp__file_send(&o, &in, offset, n, t, at);
        csp__fd_leave(&in);
    }
    csp__fd_leave(&o);
    return moved;
}

/* Waits until fd is ready for one of `what`. Returns which, or a negative errno. */
CSP__FN int csp__fd_until(csp__op *o, int what, int64_t t, const char *why)
{
    for (;;) {
        uint32_t seen[2] = {csp__acquire(&o->d->seq[0]), csp__acquire(&o->d->seq[1])};
        int n = csp__os_ready(o->fd, what);
        if (n != 0) return n;
        n = csp__fd_wait(o, what, seen, t, why);
        if (n < 0) return n == -EPERM ? what : n;
    }
}

CSP__API int csp_x_wait_fd(int fd, int what, int64_t t, const char *at)
{
    csp__op o;
    if (what < CSP_READABLE || what > (CSP_READABLE | CSP_WRITABLE)) return -EINVAL;
    if (csp__sched.sim != NULL)
        return (int)csp__sched.sim->io(CSP__IO_WAIT, fd, NULL, (size_t)what, t);
    int n = csp__fd_enter(&o, fd);
    if (n < 0) return n;
    n = csp__fd_until(&o, what, t, at);
    csp__fd_leave(&o);
    return n;
}

/* ---- ending the waits from outside: see OVER ---- */

/* A descriptor bound to a context, see OVER. Made by csp_bind_fd, freed with the last reference. */
typedef struct csp__binding {
    csp__notice notice; // first, so that it leads here; in the context's list until that is done
    csp_ctx *ctx;       // immutable; a reference
    csp__fd *d;         // NULL: a simulated one, or in the child of a fork
    int fd;
    uint32_t refs; // atomic: one of the record, one of the list
} csp__binding;

/* The reason that a wait returns when a context has this status; 0: none. */
CSP__FN int csp__over_of(uint32_t status)
{
    return status == CSP_OK ? 0 : status == CSP_TIMEOUT ? -ETIMEDOUT : -ECANCELED;
}

/* Changes what ends the waits on o's descriptor, and ends those that this makes end. -EBADF: it has
 * been closed. m is inside csp. */
CSP__FN int csp__fd_change(csp__m *m, const csp__op *o, csp__change *c)
{
    csp__queue woken = {NULL, NULL, 0};
    csp__fd *d = o->d;
    if (csp__sched.sim != NULL)
        return (int)csp__sched.sim->io(CSP__IO_CHANGE, o->fd, c, 0, CSP_FOREVER);
    csp__lock(&d->lock, CSP__RANK_FD);
    bool gone =
        c->only == NULL && (d->gen != o->gen || (csp__acquire(&d->users) & CSP__FD_CLOSING) != 0);
    int over = gone ? 0 : csp__limit_change(&d->limit, c);
    if (over != 0) csp__fd_fire_locked(d, CSP__EVQ_IN | CSP__EVQ_OUT, over, &woken);
    csp__unlock(&d->lock);
    csp__poll_inject(m, &woken);
    return gone ? -EBADF : 0;
}

/* Drops `refs` references. The last one frees b, and lets go of the context. */
CSP__FN void csp__binding_drop(csp__binding *b, uint32_t refs)
{
    csp_ctx *ctx = b->ctx;
    if (csp__add(&b->refs, 0u - refs) != 0) return;
    csp__free(b);
    csp__ctx_drop(ctx);
}

/* b has been taken out of its record: takes it out of the list as well, if it is still there. */
CSP__FN void csp__binding_end(csp__binding *b)
{
    csp__lock(&b->ctx->lock, CSP__RANK_CTX);
    bool listed = b->ctx->status == CSP_OK;
    if (listed) csp__notice_remove_locked(b->ctx, &b->notice);
    csp__unlock(&b->ctx->lock);
    if (listed) csp__ctx_drop(b->ctx); /* the list's reference, and not the last: b has one */
    csp__binding_drop(b, listed ? 2 : 1);
}

/* The context is done, and b has been taken out of its list: ends the waits, if b is in force. */
CSP__FN void csp__binding_fire(csp__m *m, csp__notice *n)
{
    csp__binding *b = (csp__binding *)(void *)n;
    csp__change c = {.binds = true, .only = b, .over = csp__over_of(csp__relaxed(&b->ctx->status))};
    csp__op o = {.d = b->d, .fd = b->fd};
    if (b->d != NULL || csp__sched.sim != NULL) csp__fd_change(m, &o, &c);
    csp__binding_drop(b, c.was == b ? 2 : 1);
}

/* For POLLER: the number has another owner, or there are no records any more. In the child of a
 * fork the list may be half changed: b stays in it, and does nothing when the context ends but drop
 * the list's reference. The record's is dropped here. It is never the last: a thread that lets go
 * of the list's while b is in the record takes b out of the record first, and drops both. */
CSP__FN void csp__binding_unbind(csp__binding *b, bool forked)
{
    if (!forked) {
        csp__binding_end(b);
        return;
    }
    b->d = NULL;
    csp__binding_drop(b, 1);
}

/* Begins a call that changes what ends the waits; a simulation has no records to enter. */
CSP__FN int csp__change_enter(csp__op *o, int fd)
{
    *o = (csp__op){.fd = fd};
    return csp__sched.sim != NULL ? 0 : csp__fd_enter(o, fd);
}

CSP__FN void csp__change_leave(csp__m *m, csp__op *o)
{
    csp__leave(m);
    if (csp__sched.sim == NULL) csp__fd_leave(o);
    csp__sim_point();
}

CSP__API int csp_interrupt_fd(int fd)
{
    csp__op o;
    csp__change c = {.interrupts = true};
    int e = csp__change_enter(&o, fd);
    if (e < 0) return e;
    csp__m *m = csp__enter();
    e = csp__fd_change(m, &o, &c);
    csp__change_leave(m, &o);
    return e;
}

/* With two references: one for the record, one for the list. NULL: out of memory. */
CSP__FN csp__binding *csp__binding_new(csp_ctx *ctx, int fd)
{
    csp__binding *b = (csp__binding *)csp__alloc(sizeof *b);
    if (b != NULL)
        *b = (csp__binding){.notice = {.now = csp__binding_fire},
                            .ctx = csp_ctx_ref(ctx),
                            .fd = fd,
                            .refs = 2};
    return b;
}

/* b enters the record first and the context's list after that, both under the context's lock. A
 * thread that replaces b meanwhile, or ends the context, waits for that lock before it looks for b
 * in the list. Without it b could enter the list after it has been freed. Where the context is done
 * already, b enters neither, and the waits end at once. */
CSP__FN int csp__binding_start(csp__m *m, const csp__op *o, csp__binding *b, csp__change *c)
{
    csp_ctx *ctx = b->ctx;
    csp__lock(&ctx->lock, CSP__RANK_CTX);
    c->over = csp__over_of(ctx->status);
    c->bound = c->over == 0 ? b : NULL;
    int e = csp__fd_change(m, o, c);
    bool kept = e == 0 && c->over == 0;
    if (kept) csp__notice_add_locked(ctx, &b->notice);
    csp__unlock(&ctx->lock);
    if (!kept) csp__binding_drop(b, 2);
    return e;
}

CSP__API int csp_bind_fd(int fd, csp_ctx *ctx)
{
    csp__op o;
    csp__change c = {.binds = true};
    csp__binding *b = NULL;
    if (ctx != NULL) csp__ctx_check(ctx);
    int e = csp__change_enter(&o, fd);
    if (e < 0) return e;
    if (ctx != NULL && ctx->parent != NULL && (b = csp__binding_new(ctx, fd)) == NULL) e = -ENOMEM;
    csp__m *m = csp__enter();
    csp__set(&csp__poll.unbind, csp__binding_unbind);
    if (b != NULL) b->d = o.d;
    if (e == 0) e = b != NULL ? csp__binding_start(m, &o, b, &c) : csp__fd_change(m, &o, &c);
    if (c.was != NULL) csp__binding_end(c.was);
    csp__change_leave(m, &o);
    return e;
}

/* Removes the path of a listener that is being closed: a path without a listener would be in the
 * way of the next csp_listen. Only the file that this listener has made is removed. The path may
 * lead to another one by now: another program has moved or removed ours, or the path is relative
 * and the directory has changed. The system keeps the inode, and so its number, until the
 * descriptor is closed. */
CSP__FN void csp__path_remove(int fd, const csp__fd *d)
{
    struct sockaddr_un a;
    csp__os_file is;
    socklen_t size = sizeof a;
    memset(&a, 0, sizeof a);
    if (csp__os_local(fd, (struct sockaddr *)&a, &size) < 0) return;
    if (csp__os_look_at(a.sun_path, &is) < 0) return;
    if (is.dev == d->dev && is.ino == d->ino && is.kind == CSP__OS_SOCKET)
        csp__os_remove(a.sun_path);
}

CSP__API int csp_x_close_fd(int fd, const char *at)
{
    csp__change c = {.binds = true};
    csp__queue woken = {NULL, NULL, 0};
    if (csp__sched.sim != NULL) {
        int e = (int)csp__sched.sim->io(CSP__IO_CLOSE, fd, &c, 0, 0);
        if (c.was != NULL) csp__binding_end(c.was);
        return e;
    }
    csp__fd *d = csp__fd_of(fd);
    if (d == NULL) return csp__os_close(fd);
    int others = csp__fd_use(d, fd, CSP__FD_CLOSING);
    if (others < 0) return others;
    if (d->path) csp__path_remove(fd, d);
    csp__m *m = csp__enter_lock(&d->lock, CSP__RANK_FD);
    csp__g *self = m->g;
    csp__set(&d->gen, d->gen + 1);
    csp__limit_change(&d->limit, &c);
    csp__fd_fire_locked(d, CSP__EVQ_IN | CSP__EVQ_OUT, -ECANCELED, &woken);
    csp__fence(); /* see csp__fd_blocking */
    /* Waits until the others have left, unless one of them may take long. */
    bool waits = others > 0 && csp__acquire(&d->blocked) == 0;
    if (waits) d->closer = self;
    csp__wait_reason(self, at, (void *)(intptr_t)fd);
    csp__unlock(&d->lock);
    csp__poll_inject(m, &woken);
    if (c.was != NULL) csp__binding_end(c.was);
    csp__leave(m);
    if (csp__add(&d->users, 0u - 1) == CSP__FD_CLOSING) return csp__fd_finish(d, fd, self);
    if (!waits) return 0;
    m = csp__enter();
    return (int)(intptr_t)csp__park(m) + 1;
}

/* ---- DESCRIPTORS IN SELECT ----
 *
 * A select with CSP_FD asks poll(2) about its descriptors, looks at its channels, and takes one
 * case that is ready. Where none is, it waits in the queues of both, under one ticket:
 *   1 In the channels' queues, as any select: under their locks, and after a second look.
 *   2 In the record of each descriptor, under its lock, unless more has been reported there since
 *     the look.
 *   3 Where more has been reported it does not wait, but has waiters in queues already. So it
 *     claims its own ticket. Has it got the ticket, no waker will make it ready, and it looks
 *     again. Else a waker has the ticket: the select parks, and learns from the waker which case
 *     it is.
 * Without 3 it would look again while a waker makes it runnable, and run on two threads.
 *   Woken by a report it looks again, since another goroutine may have read what was there. Woken
 * with a reason (see OVER) it takes the case: the call that follows returns the reason, too.
 * model: a_select_that_need_not_wait_is_woken_by_those_who_claimed_it_and_no_other */

/* A case with a descriptor. */
typedef struct csp__watch {
    csp__op o;            // a simulated one, or it could not be entered
    uint32_t at, seen[2]; // the case's position; the seq of each direction at the look
    int what;
    bool always; // a wait on it is not possible, and it counts as ready
    bool ready;
    csp__waiter w;
} csp__watch;

/* The cases with descriptors of one select. */
typedef struct csp__watches {
    csp__watch *all;
    uint32_t n;
    bool registered; // this select has registered them with the poller
    int64_t until;   // of the wait; in the simulator at most until the next piece arrives
} csp__watches;

CSP__API int64_t csp_x_fd_case(int fd, int what)
{
    if (what < CSP_READABLE || what > (CSP_READABLE | CSP_WRITABLE))
        csp_panic("CSP_FD: %d is neither CSP_READABLE nor CSP_WRITABLE", what);
    return (int64_t)((uint64_t)(uint32_t)fd << 32 | (uint32_t)what);
}

/* Begins a call on each descriptor. One that cannot be entered is ready: the call that follows gets
 * the error. */
CSP__FN void csp__watches_enter(csp__watches *ws, const csp_case *cases, uint32_t n)
{
    ws->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (cases[i].kind != CSP_X_FD) continue;
        csp__watch *w = &ws->all[ws->n++];
        memset(w, 0, sizeof *w);
        w->at = i;
        w->what = (int)(uint32_t)cases[i].until;
        int fd = (int)(cases[i].until >> 32);
        w->always = csp__change_enter(&w->o, fd) < 0;
        if (w->always) w->o.d = NULL;
    }
}

CSP__FN void csp__watches_leave(csp__watches *ws)
{
    for (uint32_t i = 0; i < ws->n; i++)
        if (ws->all[i].o.d != NULL) csp__fd_leave(&ws->all[i].o);
}

/* Is the case ready? Reads `seen` first: what is reported after that is no reason to wait. */
CSP__FN bool csp__watch_ready(csp__watch *w)
{
    csp__fd *d = w->o.d;
    if (w->always) return true;
    if (d == NULL)
        return csp__sched.sim->io(CSP__IO_JOIN, w->o.fd, NULL, (size_t)w->what, 0) != -EAGAIN;
    for (int i = 0; i < 2; i++) w->seen[i] = csp__acquire(&d->seq[i]); // acq <fd.seq>
    if (csp__acquire(&d->gen) != w->o.gen || csp__relaxed(&d->limit.over) != 0) return true;
    return csp__os_ready(w->o.fd, w->what) != 0;
}

/* One of the cases that were ready, and in *ready how many were. NULL: none. By chance, or the
 * first in order. */
CSP__FN csp__watch *csp__watches_choose(csp__m *m, const csp__select *s, csp__watches *ws,
                                        uint32_t *ready)
{
    csp__watch *best = NULL;
    *ready = 0;
    for (uint32_t i = 0; i < ws->n; i++) {
        if (!ws->all[i].ready) continue;
        ++*ready;
        if (best == NULL || (!s->in_order && csp__random_below(&m->rng, *ready) == 0))
            best = &ws->all[i];
    }
    return best;
}

/* Registers all of them with the poller. False: one cannot be waited for. */
CSP__FN bool csp__watches_register(csp__watches *ws)
{
    bool all = true;
    ws->registered = true;
    for (uint32_t i = 0; i < ws->n; i++) {
        csp__watch *w = &ws->all[i];
        if (w->o.d == NULL || (w->o.made && csp__acquire(&w->o.d->registered) != 0)) continue;
        w->always = csp__fd_register(&w->o) < 0;
        all = all && !w->always;
    }
    return all;
}

/* Queues w in its record. False: there is a reason not to wait. */
CSP__FN bool csp__watch_queue(csp__m *m, csp__watches *ws, csp__watch *w)
{
    csp__fd *d = w->o.d;
    csp__waiter_fill(m->g, &w->w, NULL, w->what);
    w->w.queued = CSP__QUEUED_OUT;
    if (d == NULL) {
        w->w.value = &ws->until;
        return csp__sched.sim->io(CSP__IO_JOIN, w->o.fd, &w->w, (size_t)w->what, 0) == -EAGAIN;
    }
    csp__lock(&d->lock, CSP__RANK_FD);
    bool waits = csp__fd_now_locked(&w->o, w->what, w->seen) == 0;
    if (waits) csp__fd_queue_locked(d, &w->w);
    csp__unlock(&d->lock);
    if (waits) csp__evq_arm(w->o.fd, w->o.gen, w->what);
    return waits;
}

CSP__FN void csp__watch_unqueue(csp__watch *w)
{
    csp__fd *d = w->o.d;
    if (d == NULL) {
        if (!w->always) csp__sched.sim->io(CSP__IO_LEAVE, w->o.fd, &w->w, 0, 0);
        return;
    }
    csp__lock(&d->lock, CSP__RANK_FD);
    csp__fd_unwait_locked(d, &w->w);
    csp__unlock(&d->lock);
}

/* Waits in the channels' queues, which are locked, and in the records. Returns the waiter that was
 * woken, or NULL. *again: the select looks again. */
CSP__FN csp__waiter *csp__select_watch(csp__m *m, csp__select *s, csp__watches *ws, bool *again)
{
    uint32_t none = 0;
    csp__waiter *woken = NULL;
    bool waits = true, real = csp__sched.sim == NULL, by_fd = false;
    ws->until = s->until;
    csp__select_enqueue(m, s);
    if (real) csp__add(&csp__poll.waiters, 1);
    for (uint32_t i = 0; i < ws->n && waits; i++) waits = csp__watch_queue(m, ws, &ws->all[i]);
    *again = !waits && csp__cas(&csp__cb_of(m->g)->ticket, &none, 1);
    if (*again) {
        csp__leave(m);
    } else {
        if (real && m->p == NULL) csp__poll_need();
        woken = (csp__waiter *)csp__park_until(m, ws->until);
        *again = woken == NULL && ws->until < s->until;
    }
    for (uint32_t i = 0; i < s->n; i++)
        if (csp__acquire(&s->waiters[i].queued) != CSP__QUEUED_OUT)
            csp__waiter_cancel(s->entries[i].c, csp__entry_queue(&s->entries[i]), &s->waiters[i]);
    for (uint32_t i = 0; i < ws->n; i++) {
        csp__watch_unqueue(&ws->all[i]);
        by_fd = by_fd || woken == &ws->all[i].w;
    }
    if (real && !by_fd) csp__add(&csp__poll.waiters, 0u - 1);
    return woken;
}

/* Both e and w may be ready: is the channel to be taken? By chance, with equal weight for each case
 * that is ready; or the first in order. */
CSP__FN bool csp__select_leans(csp__m *m, csp__select *s, const csp__entry *e, const csp__watch *w,
                               uint32_t nfds)
{
    uint32_t nchans = 0;
    if (e == NULL || w == NULL) return w == NULL;
    if (s->in_order) {
        for (uint32_t i = 0; i < s->n; i++) s->entries[i].tried = s->entries[i].at > w->at;
        return e->at < w->at;
    }
    for (uint32_t i = 0; i < s->n; i++) nchans += csp__entry_maybe(&s->entries[i]);
    return csp__random_below(&m->rng, nfds + nchans) >= nfds;
}

/* One round of looking, and of waiting where no case is ready. Returns the position, or -1: another
 * round. *ok is false for a channel that is closed. */
CSP__FN int csp__select_round(csp__select *s, uint32_t cases, csp__watches *ws, bool *ok)
{
    uint32_t nfds = 0;
    bool again = false;
    for (uint32_t i = 0; i < ws->n; i++) ws->all[i].ready = csp__watch_ready(&ws->all[i]);
    csp__m *m = csp__enter();
    s->twice = false;
    *ok = true;
    csp__entry *e = csp__select_plan(m, s, cases);
    csp__watch *w = csp__watches_choose(m, s, ws, &nfds);
    bool waits = s->otherwise < 0 && (s->timed < 0 || s->until > csp__clock());
    if (e == NULL && w == NULL && waits && !ws->registered) {
        csp__leave(m);
        if (!csp__watches_register(ws)) return -1;
        m = csp__enter();
    }
    bool leans = csp__select_leans(m, s, e, w, nfds);
    e = leans ? csp__select_lock(m, s, ok) : NULL;
    if (leans && e == NULL && (w != NULL || !waits)) csp__select_unlock(s, NULL);
    if (e != NULL || w != NULL || !waits) {
        csp__leave(m);
        return e != NULL           ? (int)e->at
               : w != NULL         ? (int)w->at
               : s->otherwise >= 0 ? s->otherwise
                                   : s->timed;
    }
    csp__waiter *by = csp__select_watch(m, s, ws, &again);
    if (again) return -1;
    if (by == NULL) return s->timed;
    for (uint32_t i = 0; i < ws->n; i++)
        if (by == &ws->all[i].w)
            return by->value == NULL || by->value == &ws->until ? -1 : (int)ws->all[i].at;
    *ok = by->index >= 0;
    return *ok ? by->index : ~by->index;
}

/* A select with at least one descriptor. Returns the position of the case taken. */
CSP__FN int csp__select_fds(csp__select *s, uint32_t cases, csp__watches *ws)
{
    bool ok = true;
    int at = -1;
    csp__watches_enter(ws, s->cases, cases);
    while (at < 0) at = csp__select_round(s, cases, ws, &ok);
    csp__watches_leave(ws);
    csp__sim_point();
    return s->cases[at].kind <= CSP_X_SEND ? csp__select_done(s, (uint32_t)at, ok) : at;
}

/* For more cases than fit into a frame. The deferred free also runs when the select panics. */
CSP__FN CSP__NOINLINE int csp__select_fds_slow(csp_case *cases, size_t n, bool in_order CSP_X_PLACE)
{
    size_t each = sizeof(csp__waiter) + sizeof(csp__entry) + sizeof(csp__watch);
    char *room = (char *)csp__alloc(n * each);
    if (room == NULL) csp__throw_memory(n * each);
    csp__watches ws = {(csp__watch *)(void *)room, 0, false, 0};
    csp__waiter *waiters = (csp__waiter *)(void *)(ws.all + n);
    csp__entry *entries = (csp__entry *)(void *)(waiters + n);
    csp__select s = {cases,    waiters, entries,
                     in_order, false,   0,
                     -1,       -1,      CSP_FOREVER CSP__SELECT_REST};
    csp_defer(csp__free, room);
    return csp__select_fds(&s, (uint32_t)n, &ws);
}

CSP__API int csp_x_select_fds(csp_case *cases, size_t n, bool in_order CSP_X_PLACE)
{
    if (n > CSP__SELECT_SMALL) return csp__select_fds_slow(cases, n, in_order CSP__PASS);
    csp__waiter waiters[CSP__SELECT_SMALL];
    csp__entry entries[CSP__SELECT_SMALL];
    csp__watch all[CSP__SELECT_SMALL];
    csp__watches ws = {all, 0, false, 0};
    csp__select s = {cases,    waiters, entries,
                     in_order, false,   0,
                     -1,       -1,      CSP_FOREVER CSP__SELECT_REST};
    return csp__select_fds(&s, (uint32_t)n, &ws);
}

/* ==========================================================================
 * [39] ADDRESS - names and numbers of endpoints
 *
 * An address is text, in the forms that the interface lists. Only a name goes to the resolver, in
 * csp_blocking, so that it holds no P. A text that getaddrinfo would read as a number in a way of
 * its own is refused: see csp__is_name.
 *
 *   uses   PLATFORM BASE PROFILE SYSTEM PANIC SELF CHAN
 *   locks  none
 * ======================================================================== */

/* Each kind of address that a socket may have. The port is at the same place in `in` and `in6`. */
typedef union csp__address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
} csp__address;

/* What a text stands for: one address, or those that a name has, eight at most. */
typedef struct csp__endpoints {
    int type;  // SOCK_STREAM or SOCK_DGRAM
    int error; // the resolver's
    int count;
    socklen_t size[8];
    csp__address at[8];
} csp__endpoints;

/* Adds an address. What is too many or too long is dropped. */
CSP__FN void csp__endpoints_add(csp__endpoints *to, const void *address, size_t size)
{
    if (to->count == 8 || size > sizeof to->at[0]) return;
    memcpy(&to->at[to->count], address, size);
    to->size[to->count++] = (socklen_t)size;
}

/* A question to the resolver, in a goroutine of its own. getaddrinfo takes long and needs much
 * stack, and its caller may have a deadline that it does not know. */
typedef struct csp__query {
    char host[256];
    uint16_t port;
    int type;
    void *answer; // a channel of csp__endpoints with room for one; a reference
} csp__query;

CSP__FN void csp__query_add(void *to, struct sockaddr *address, size_t size)
{
    csp__endpoints_add((csp__endpoints *)to, address, size);
}

/* The goroutine of a question. The channel has room, so it ends even when no caller waits any more.
 */
CSP__FN void csp__query_run(void *args)
{
    csp__query *q = (csp__query *)args;
    csp__endpoints to = {.type = q->type};
    csp_x_blocking();
    to.error = csp__os_resolve(q->host, q->type, csp__query_add, &to);
    for (int i = 0; i < to.count; i++) to.at[i].in.sin_port = csp__os_port(q->port);
    if (to.error == 0 && to.count == 0) to.error = -ENOENT;
    csp_x_send(q->answer, &to CSP__NOWHERE("send"));
    csp_x_unref(q->answer CSP__NOWHERE("unref"));
}

/* Asks the resolver for host; 0 or a negative errno. Calls of csp panic when out of memory. A dial
 * returns that as an error like others, so the panic is caught here. */
CSP__FN int csp__resolve(const char *host, uint16_t port, csp__endpoints *to, int64_t t)
{
    static const csp_x_site site = {"csp_dial", __FILE__, __LINE__, "\0"};
    csp__query q = {"", port, to->type, NULL};
    void *volatile answer = NULL;
    volatile csp_status status = CSP_NOMEM;
    volatile bool started = false;
    csp__copy_text(q.host, host, sizeof q.host);
    csp_try
    {
        answer = q.answer = csp_x_make(sizeof *to, 1 CSP__NOWHERE("make"));
        csp_x_ref(q.answer);
        csp_x_start(NULL, &site, csp__query_run, &q, sizeof q);
        started = true;
        status = csp_x_recv_until(answer, to, t CSP__NOWHERE("resolve"));
    }
    csp_catch(p)(void) p;
    if (answer != NULL && !started) csp_x_unref(answer CSP__NOWHERE("unref"));
    if (answer != NULL) csp_x_unref(answer CSP__NOWHERE("unref"));
    return status == CSP_OK ? to->error : status == CSP_TIMEOUT ? -ETIMEDOUT : -ENOMEM;
}

/* Adds host:port, if host is a number of that family. */
CSP__FN bool csp__endpoints_ip(csp__endpoints *to, int family, const char *host, uint16_t port,
                               uint32_t scope)
{
    csp__address a;
    bool six = family == AF_INET6;
    memset(&a, 0, sizeof a);
    a.any.sa_family = (csp__os_family)family;
    a.in.sin_port = csp__os_port(port);
    if (six) a.in6.sin6_scope_id = scope;
    if (!csp__os_ip_read(family, host, six ? (void *)&a.in6.sin6_addr : &a.in.sin_addr))
        return false;
    csp__endpoints_add(to, &a, six ? sizeof a.in6 : sizeof a.in);
    return true;
}

/* Adds a host in numbers. "" is every interface to a listener, else this host. */
CSP__FN int csp__endpoints_numeric(const char *host, uint16_t port, bool listens,
                                   csp__endpoints *to)
{
    if (*host == 0 && listens)
        csp__endpoints_ip(to, AF_INET6, "::", port, 0); /* both, where there is IPv6 */
    if (*host == 0) host = listens ? "0.0.0.0" : "127.0.0.1";
    return csp__endpoints_ip(to, AF_INET, host, port, 0) ? 0 : -ENOENT;
}

/* Adds what stands in brackets: an address of IPv6, and after a % an interface, by name or number.
 */
CSP__FN int csp__endpoints_six(const char *host, uint16_t port, csp__endpoints *to)
{
    char text[INET6_ADDRSTRLEN];
    uint64_t scope = 0;
    const char *name = strchr(host, '%');
    size_t n = name == NULL ? strlen(host) : (size_t)(name++ - host);
    if (n >= sizeof text) return -EINVAL;
    csp__copy_text(text, host, n + 1);
    if (name != NULL && (scope = csp__os_scope_number(name)) == 0 &&
        (!csp__number(name, strlen(name), UINT32_MAX, &scope) || scope == 0))
        return -EINVAL;
    return csp__endpoints_ip(to, AF_INET6, text, port, (uint32_t)scope) ? 0 : -EINVAL;
}

/* May the resolver be asked for host? A name consists of letters, digits, "-._" and what is not
 * ASCII, and its last part is no number. getaddrinfo reads 127.1, 0x7f000001 and 010.0.0.1 as
 * addresses. A program that has checked the text before, to forbid some hosts, may have read
 * another address. Four decimal numbers have been taken before. */
CSP__FN bool csp__is_name(const char *host)
{
    static const char others[] = "-._"; // besides letters, digits, and what is not ASCII
    const char *last = host;
    for (const char *c = host; *c != 0; c++) {
        if ((unsigned char)*c < 0x80 && strchr(others, *c) == NULL &&
            (unsigned char)((*c | 0x20) - 'a') > 'z' - 'a' && (unsigned char)(*c - '0') > 9)
            return false;
        if (*c == '.' && c[1] != 0) last = c + 1;
    }
    size_t n = last[0] == '0' && (last[1] | 0x20) == 'x'
                   ? 2 + strspn(last + 2, "0123456789abcdefABCDEF")
                   : strspn(last, "0123456789");
    return n == 0 || (last[n] != 0 && last[n] != '.');
}

/* Adds a path, or after an @ an abstract name, which begins with a 0 and does not end with one. */
CSP__FN int csp__endpoints_unix(const char *path, csp__endpoints *to)
{
    csp__address a;
    size_t n = strlen(path);
    memset(&a, 0, sizeof a);
    a.un.sun_family = AF_UNIX;
    if (n == 0 || n >= sizeof a.un.sun_path) return -EINVAL;
    if (!CSP__OS_ABSTRACT && *path == '@') return -EINVAL;
    memcpy(a.un.sun_path, path, n);
    if (*path == '@') a.un.sun_path[0] = 0;
    csp__endpoints_add(to, &a, offsetof(struct sockaddr_un, sun_path) + n + (*path != '@'));
    return 0;
}

/* Reads an address; 0 or a negative errno. t: the deadline of the resolver. */
CSP__FN int csp__endpoints_parse(const char *text, bool listens, csp__endpoints *to, int64_t t)
{
    char host[256];
    uint64_t port;
    csp__sim_refuse("an address");
    to->count = 0;
    to->type = SOCK_STREAM;
    if (text == NULL) return -EINVAL;
    if (strncmp(text, "unix:", 5) == 0) return csp__endpoints_unix(text + 5, to);
    if (strncmp(text, "udp:", 4) == 0) {
        to->type = SOCK_DGRAM;
        text += 4;
    }
    const char *colon = strrchr(text, ':');
    if (colon == NULL) return -EINVAL;
    size_t n = (size_t)(colon - text);
    bool six = *text == '[';
    if (six ? n < 3 || colon[-1] != ']' : memchr(text, ':', n) != NULL) return -EINVAL;
    if (!csp__number(colon + 1, strlen(colon + 1), 65535, &port)) return -EINVAL;
    if (n >= sizeof host) return -EINVAL;
    csp__copy_text(host, text + six, six ? n - 1 : n + 1);
    if (six) return csp__endpoints_six(host, (uint16_t)port, to);
    if (csp__endpoints_numeric(host, (uint16_t)port, listens, to) == 0) return 0;
    return csp__is_name(host) ? csp__resolve(host, (uint16_t)port, to, t) : -EINVAL;
}

/* Writes the address as text in the form that csp_dial takes. -EAFNOSUPPORT: there is none, and the
 * text is empty. */
CSP__FN int csp__address_print(const csp__address *a, socklen_t size, int type, char *out)
{
    char host[64] = "", scope[CSP__OS_SCOPE + 12] = "";
    const size_t path = offsetof(struct sockaddr_un, sun_path);
    *out = 0;
    if (a->any.sa_family == AF_UNIX) {
        size_t n = (size_t)size > path ? (size_t)size - path : 0;
        bool abstract = n > 0 && a->un.sun_path[0] == 0;
        if (!abstract) n = strnlen(a->un.sun_path, n);
        if (abstract && memchr(a->un.sun_path + 1, 0, n - 1) != NULL)
            return -EAFNOSUPPORT; // its text would end at the 0, and name another socket
        // "./" before a path that begins with @: else it would be read as abstract.
        const char *before = abstract ? "@" : n > 0 && a->un.sun_path[0] == '@' ? "./" : "";
        snprintf(out, sizeof(csp_address), "unix:%s%.*s", before, (int)(n - abstract),
                 a->un.sun_path + abstract);
        return 0;
    }
    if (a->any.sa_family != AF_INET && a->any.sa_family != AF_INET6) return -EAFNOSUPPORT;
    const unsigned char *ip = a->in6.sin6_addr.s6_addr;
    bool six = a->any.sa_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr);
    if (!six) ip = a->any.sa_family == AF_INET6 ? &ip[12] : (const void *)&a->in.sin_addr;
    csp__os_ip_text(six ? AF_INET6 : AF_INET, ip, host, sizeof host);
    if (six && a->in6.sin6_scope_id != 0) { // by number when it has no name, or none any more
        if (csp__os_scope_name(a->in6.sin6_scope_id, scope + 1) != NULL)
            scope[0] = '%';
        else
            snprintf(scope, sizeof scope, "%%%u", (unsigned)a->in6.sin6_scope_id);
    }
    snprintf(out, sizeof(csp_address), six ? "%s[%s%s]:%u" : "%s%s%s:%u",
             type == SOCK_DGRAM ? "udp:" : "", host, scope, csp__os_port(a->in.sin_port));
    return 0;
}

/* The address that `ask` gets from the system, as text; 0 or a negative errno. */
CSP__FN int csp__address_of(int fd, char *out, int (*ask)(int, struct sockaddr *, socklen_t *))
{
    csp__address a;
    socklen_t size = sizeof a;
    int type = csp__os_socket_type(fd);
    *out = 0;
    if (type < 0) return type;
    memset(&a, 0, sizeof a);
    int e = ask(fd, &a.any, &size);
    return e < 0 ? e : csp__address_print(&a, size, type, out);
}

CSP__API int csp_local_address(int fd, csp_address *address)
{
    csp__need(address);
    return csp__address_of(fd, address->text, csp__os_local);
}

CSP__API int csp_peer_address(int fd, csp_address *address)
{
    csp__need(address);
    return csp__address_of(fd, address->text, csp__os_peer);
}

CSP__API const char *csp_error_text(csp_ssize error)
{
    if (error == -ENOENT) return "No such host or file";
    return strerror(error < 0 && error >= -INT32_MAX ? (int)-error : 0);
}

/* ==========================================================================
 * [40] SOCKET - listen, accept, dial, datagrams
 *
 * Sockets made here do not block, are closed by exec, and are known by their records
 * (csp__fd.made): a call on one need not ask the system what the descriptor is.
 *
 *   uses   PLATFORM PROFILE SYSTEM CORE POLLER FD ADDRESS
 *   locks  none
 * ======================================================================== */

/* Is the i-th address one of TCP? */
CSP__FN bool csp__tcp(const csp__endpoints *at, int i)
{
    return at->type == SOCK_STREAM && at->at[i].any.sa_family != AF_UNIX;
}

CSP__FN int csp__socket(const csp__endpoints *at, int i)
{
    int fd = csp__os_socket(at->at[i].any.sa_family, at->type);
    if (fd >= 0 && csp__tcp(at, i)) csp__os_set_nodelay(fd); /* an accepted socket inherits it */
    return fd;
}

/* Notes which file the listener has made at its path: a close removes no other one. */
CSP__FN void csp__path_note(int fd, const struct sockaddr_un *a)
{
    csp__os_file is;
    csp__fd *d = csp__fd_of(fd);
    if (a->sun_path[0] == 0) return;                   /* an abstract name is no file */
    if (csp__os_look_at(a->sun_path, &is) < 0) return; /* removed already */
    csp__set(&d->dev, is.dev);
    csp__set(&d->ino, is.ino);
    d->path = is.kind == CSP__OS_SOCKET;
}

/* A listener at the i-th address, or a negative errno. */
CSP__FN int csp__listen_at(const csp__endpoints *at, int i)
{
    int fd = csp__socket(at, i);
    if (fd < 0) return fd;
    if (csp__tcp(at, i)) csp__os_set_reuse(fd);
    if (at->at[i].any.sa_family == AF_INET6) csp__os_set_both(fd);
    int e = csp__os_bind(fd, &at->at[i].any, at->size[i]);
    if (e == 0 && at->type == SOCK_STREAM) e = csp__os_listen(fd, 4096);
    if (e < 0) {
        csp__os_close(fd);
        return e;
    }
    fd = csp__fd_made(fd, csp__tcp(at, i));
    if (fd >= 0 && at->at[i].any.sa_family == AF_UNIX) csp__path_note(fd, &at->at[i].un);
    return fd;
}

CSP__API int csp_listen(const char *address)
{
    csp__endpoints at;
    int fd = csp__endpoints_parse(address, true, &at, CSP_FOREVER);
    if (fd < 0) return fd;
    for (int i = 0; i < at.count; i++) {
        fd = csp__listen_at(&at, i);
        if (fd >= 0 || fd == -EADDRINUSE) break; /* else IPv6 may be missing: the next one */
    }
    return fd;
}

CSP__API int csp_x_accept_until(int fd, int64_t t, const char *at)
{
    csp__op o;
    int n = csp__fd_enter(&o, fd);
    if (n < 0) return n;
    int listens = o.made ? 1 : csp__os_socket_listens(fd);
    if (listens < 0) n = listens;
    if (listens == 0) n = -EINVAL; /* a wait on it would never end */
    o.how = CSP__TRY_ACCEPT;
    if (n == 0) n = (int)csp__fd_do(&o, CSP__EVQ_IN, NULL, 0, t, at);
    if (n >= 0) n = csp__fd_made(n, o.d->stream);
    csp__fd_leave(&o);
    return n;
}

/* Connects, and waits until the connection stands or has failed; 0 or a negative errno. */
CSP__FN int csp__connect(csp__op *o, const csp__endpoints *at, int i, int64_t t, const char *why)
{
    for (;;) {
        int e = csp__os_connect(o->fd, &at->at[i].any, at->size[i]);
        if (e == -EAGAIN && at->at[i].any.sa_family == AF_UNIX) { /* the listener's queue is full */
            if (t <= csp__clock()) return -ETIMEDOUT;
            csp_x_sleep(CSP_MILLISECOND, why);
            continue;
        }
        if (e != -EINPROGRESS && e != -EINTR) return e;
        e = csp__fd_until(o, CSP_WRITABLE, t, why);
        if (e < 0) return e;
        e = csp__os_socket_error(o->fd);
        return e > 0 ? -e : e;
    }
}

/* A connection to the i-th address, or a negative errno. */
CSP__FN int csp__dial_at(const csp__endpoints *at, int i, int64_t t, const char *why)
{
    csp__op o;
    int fd = csp__socket(at, i);
    if (fd >= 0) fd = csp__fd_made(fd, csp__tcp(at, i));
    if (fd < 0) return fd;
    int e = csp__fd_enter(&o, fd);
    if (e == 0) {
        e = csp__connect(&o, at, i, t, why);
        csp__fd_leave(&o);
    }
    if (e == 0) return fd;
    csp_x_close_fd(fd, why);
    return e;
}

/* Tries the addresses in the resolver's order. If all fail, the error is that of the first. */
CSP__API int csp_x_dial_until(const char *address, int64_t t, const char *why)
{
    csp__endpoints at;
    int e = csp__endpoints_parse(address, false, &at, t);
    if (e < 0) return e;
    for (int i = 0; i < at.count && e != -ETIMEDOUT; i++) {
        int fd = csp__dial_at(&at, i, t, why);
        if (fd >= 0) return fd;
        if (i == 0) e = fd;
    }
    return e;
}

CSP__API int csp_close_write(int fd)
{
    csp__op o;
    if (csp__sched.sim != NULL) return (int)csp__sched.sim->io(CSP__IO_CLOSE_WRITE, fd, NULL, 0, 0);
    int e = csp__fd_enter(&o, fd);
    if (e < 0) return e;
    e = csp__os_shutdown(fd);
    csp__fd_leave(&o);
    return e;
}

CSP__API csp_ssize csp_x_recv_from(int fd, void *buffer, size_t size, csp_address *from, int64_t t,
                                   const char *at)
{
    csp__op o;
    csp__address a;
    csp_ssize n = csp__fd_enter(&o, fd);
    if (n < 0) return n;
    memset(&a, 0, sizeof a);
    o.how = CSP__TRY_SOCKET;
    o.address = &a.any;
    o.length = sizeof a;
    n = csp__fd_do(&o, CSP__EVQ_IN, buffer, size, t, at);
    if (n >= 0 && from != NULL) csp__address_print(&a, o.length, SOCK_DGRAM, from->text);
    csp__fd_leave(&o);
    return n;
}

/* A socket of IPv6 sends to an IPv4 address in its mapped form, ::ffff:a.b.c.d. */
CSP__FN void csp__endpoints_map(csp__endpoints *at)
{
    csp__address *a = &at->at[0];
    struct sockaddr_in in = a->in;
    if (a->any.sa_family != AF_INET) return;
    a->in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = in.sin_port};
    memset(&a->in6.sin6_addr.s6_addr[10], 0xff, 2);
    memcpy(&a->in6.sin6_addr.s6_addr[12], &in.sin_addr, 4);
    at->size[0] = sizeof a->in6;
}

CSP__API csp_ssize csp_x_send_to(int fd, const void *buffer, size_t size, const char *to, int64_t t,
                                 const char *why)
{
    csp__endpoints at;
    csp__op o;
    csp__address mine;
    socklen_t length = sizeof mine;
    if (to == NULL) return csp_x_write_until(fd, buffer, size, t, why);
    csp_ssize n = csp__endpoints_parse(to, false, &at, t);
    if (n == 0 && at.type != SOCK_DGRAM) n = -EINVAL;
    if (n == 0) n = csp__fd_enter(&o, fd);
    if (n < 0) return n;
    memset(&mine, 0, sizeof mine);
    if (csp__os_local(fd, &mine.any, &length) == 0 && mine.any.sa_family == AF_INET6)
        csp__endpoints_map(&at);
    o.how = CSP__TRY_SOCKET;
    o.address = &at.at[0].any;
    o.length = at.size[0];
    n = csp__fd_do(&o, CSP__EVQ_OUT, (void *)(uintptr_t)buffer, size, t, why);
    csp__fd_leave(&o);
    return n;
}

/* ==========================================================================
 * [41] SIGNALS - signals as values
 *
 * The handler marks the signal and wakes the poller, which is all that a handler may do. The thread
 * that polls sends the signal to the channels. Each channel counts as a wait on a descriptor: so
 * there is always a thread that polls, and a program that waits for a signal is no deadlock.
 *
 *   the handler                                the thread that polls
 *   1 marks the signal in `pending`            1 is woken
 *   2 wakes the poller                         2 locks, swaps `pending` for 0, sends, unlocks
 *
 * A mark after 2 on the right is followed by a wake-up of its own. Signals of one number that come
 * before 2 on the right are one value, as the system itself merges them.
 *
 *   uses   PLATFORM BASE PROFILE SYSTEM EVENTS POLLER PANIC WAITERS CHAN
 *   locks  signals.lock
 * ======================================================================== */

#define CSP__SIGNALS 65 /* numbers from 1 to 64 */
#define csp__signal_bit(signo) (UINT64_C(1) << ((signo)-1))
/* A channel that gets signals. Made by csp_notify, freed by csp_notify_stop or the runtime's stop.
 */
typedef struct csp__listener {
    struct csp__listener *next;
    csp__chan *c; // immutable; a reference
    uint64_t set; // guarded by lock: its signals
} csp__listener;

static struct {
    csp__u64 pending; // atomic: a bit for each signal, set by the handler
    // guarded by lock
    uint32_t lock;
    csp__listener *listeners;
    uint64_t caught; // signals with a handler of csp's
    csp__os_handler handlers[CSP__SIGNALS];
} csp__signals;

/* The handler. One that had to be left in place passes the signal on to the handler of before. */
CSP__FN void csp__on_signal(int signo, csp__os_info *info, void *context)
{
    int kept = errno;
    csp__os_handler *h = &csp__signals.handlers[signo];
    if (csp__relaxed(&h->state) == CSP__HANDLER_LEFT) {
        csp__os_handler_pass(h, signo, info, context);
        return;
    }
    __atomic_fetch_or(&csp__signals.pending, csp__signal_bit(signo), __ATOMIC_SEQ_CST);
    csp__evq_wake();
    errno = kept;
}

/* The pointer to c's listener in the list, or the NULL at its end. */
CSP__FN csp__listener **csp__listener_at_locked(const void *c)
{
    csp__listener **at = &csp__signals.listeners;
    while (*at != NULL && (*at)->c != c) at = &(*at)->next;
    return at;
}

/* Sends what has been marked. A full channel drops the value: a send here must not wait. */
CSP__FN void csp__signals_send_locked(csp__m *m)
{
    for (uint64_t set = csp__swap(&csp__signals.pending, 0); set != 0; set &= set - 1) {
        int signo = __builtin_ctzll(set) + 1;
        for (csp__listener *l = csp__signals.listeners; l != NULL; l = l->next)
            if (l->set & csp__signal_bit(signo)) csp__move(m, l->c, true, &signo);
    }
}

/* Gives each signal that no channel wants any more back to the program. */
CSP__FN void csp__signals_settle_locked(void)
{
    uint64_t wanted = 0;
    for (csp__listener *l = csp__signals.listeners; l != NULL; l = l->next) wanted |= l->set;
    for (int signo = 1; signo < CSP__SIGNALS; signo++)
        if (csp__signals.caught & ~wanted & csp__signal_bit(signo))
            csp__os_handler_unset(&csp__signals.handlers[signo], signo, csp__on_signal);
    csp__signals.caught &= wanted;
}

/* For POLLER. what: 0 the poller was woken; 1 the runtime stops; 2 this is the child of a fork,
 * where the lock's holder may be missing. */
CSP__FN void csp__signals_hook(csp__m *m, int what)
{
    if (what == 0) {
        if (csp__relaxed(&csp__signals.pending) == 0) return;
        csp__lock(&csp__signals.lock, CSP__RANK_NOTIFY);
        csp__signals_send_locked(m);
        csp__unlock(&csp__signals.lock);
        return;
    }
    if (what == 2) csp__signals.lock = 0;
    csp__lock(&csp__signals.lock, CSP__RANK_NOTIFY);
    csp__listener *all = csp__signals.listeners;
    csp__signals.listeners = NULL;
    csp__signals_settle_locked();
    csp__signals.pending = 0;
    csp__unlock(&csp__signals.lock);
    for (csp__listener *l = all, *next; l != NULL; l = next) {
        next = l->next;
        if (what == 1) csp_x_unref(l->c CSP__NOWHERE("unref"));
        csp__free(l);
    }
}

CSP__API void csp_x_notify(const void *chan, const int *signals, size_t n)
{
    if (chan == NULL) csp__throw("csp_notify: nil channel");
    csp__sim_refuse("csp_notify");
    csp__chan *c = csp__chan_of(chan);
    for (size_t i = 0; i < n; i++) {
        int s = signals[i];
        if (s <= 0 || s >= CSP__SIGNALS || csp__os_signal_fixed(s))
            (csp_panic)("csp_notify: signal %d cannot be received", s);
    }
    csp__listener **at, *mine = (csp__listener *)csp__zalloc(sizeof *mine);
    csp__m *m = csp__enter();
    if (mine == NULL || csp__poll_begin() < 0) {
        csp__leave(m);
        csp__free(mine);
        csp__throw("csp_notify: out of memory or descriptors");
    }
    csp__lock(&csp__signals.lock, CSP__RANK_NOTIFY);
    csp__poll.signals = csp__signals_hook;
    at = csp__listener_at_locked(c);
    if (*at == NULL) {
        *at = mine;
        mine = NULL;
        (*at)->c = (csp__chan *)(uintptr_t)csp_x_ref(c);
        csp__add(&csp__poll.waiters, 1);
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t bit = csp__signal_bit(signals[i]);
        (*at)->set |= bit;
        if (!(csp__signals.caught & bit) && csp__os_handler_set(&csp__signals.handlers[signals[i]],
                                                                signals[i], csp__on_signal, false))
            csp__signals.caught |= bit;
    }
    csp__unlock(&csp__signals.lock);
    csp__poll_need();
    csp__leave(m);
    csp__free(mine);
}

CSP__API void csp_x_notify_stop(const void *chan)
{
    csp__m *m = csp__enter_lock(&csp__signals.lock, CSP__RANK_NOTIFY);
    csp__listener **at = csp__listener_at_locked(chan), *l = *at;
    if (l != NULL) {
        /* None is lost: what has come is sent below, and what comes from now on is the program's.
         * So the handlers are given back before the last send, and without c's signals among the
         * wanted ones. */
        uint64_t set = l->set;
        l->set = 0;
        csp__signals_settle_locked();
        l->set = set;
        csp__signals_send_locked(m);
        *at = l->next;
        csp__add(&csp__poll.waiters, 0u - 1);
    }
    csp__unlock_leave(m, &csp__signals.lock);
    if (l == NULL) return;
    csp_x_unref(l->c CSP__NOWHERE("unref"));
    csp__free(l);
}
#endif /* !CSP_BARE */

/* ==========================================================================
 * [42] FORMS - the calls that are macros, as functions
 *
 * For a program that takes the address of such a call, or calls it from another language. A message
 * or a dump then does not know the place of the call.
 *
 *   uses   PLATFORM BASE CHAN GROUP FD SOCKET SIGNALS
 *   locks  none
 * ======================================================================== */

CSP__API void(csp_close)(const void *c)
{
    csp_x_close(c CSP__NOWHERE("close"));
}

CSP__API void(csp_unref)(const void *c)
{
    csp_x_unref(c CSP__NOWHERE("unref"));
}

#ifndef CSP_BARE
CSP__API void(csp_notify_stop)(const void *c)
{
    csp_x_notify_stop(c);
}

CSP__API void(csp_mutex_lock)(csp_mutex *mu)
{
    csp_x_mutex_lock(mu CSP__NOWHERE("mutex"));
}

CSP__API csp_status(csp_mutex_lock_until)(csp_mutex *mu, int64_t t)
{
    return csp_x_mutex_lock_until(mu, t CSP__NOWHERE("mutex"));
}

CSP__API void(csp_mutex_unlock)(csp_mutex *mu)
{
    csp_x_mutex_unlock(mu CSP__NOWHERE("unlock"));
}

CSP__API void(csp_rwmutex_lock)(csp_rwmutex *rw)
{
    csp_x_rwmutex_lock(rw CSP__NOWHERE("rwmutex to write"));
}

CSP__API csp_status(csp_rwmutex_lock_until)(csp_rwmutex *rw, int64_t t)
{
    return csp_x_rwmutex_lock_until(rw, t CSP__NOWHERE("rwmutex to write"));
}

CSP__API void(csp_rwmutex_unlock)(csp_rwmutex *rw)
{
    csp_x_rwmutex_unlock(rw CSP__NOWHERE("unlock"));
}

CSP__API void(csp_rwmutex_rlock)(csp_rwmutex *rw)
{
    csp_x_rwmutex_rlock(rw CSP__NOWHERE("rwmutex to read"));
}

CSP__API csp_status(csp_rwmutex_rlock_until)(csp_rwmutex *rw, int64_t t)
{
    return csp_x_rwmutex_rlock_until(rw, t CSP__NOWHERE("rwmutex to read"));
}

CSP__API void(csp_rwmutex_runlock)(csp_rwmutex *rw)
{
    csp_x_rwmutex_runlock(rw CSP__NOWHERE("unlock"));
}

CSP__API void(csp_cond_wait)(csp_cond *cond, csp_mutex *mu)
{
    csp_x_cond_wait(cond, mu CSP__NOWHERE("cond"));
}

CSP__API csp_status(csp_cond_wait_until)(csp_cond *cond, csp_mutex *mu, int64_t t)
{
    return csp_x_cond_wait_until(cond, mu, t CSP__NOWHERE("cond"));
}

CSP__API void(csp_once_do)(csp_once *once, void (*fn)(void *), void *arg)
{
    csp_x_once_do(once, fn, arg CSP__NOWHERE("once"));
}

CSP__API void(csp_waitgroup_add)(csp_waitgroup *wg, int n)
{
    csp_x_waitgroup_add(wg, n CSP__NOWHERE("add"));
}

CSP__API void(csp_waitgroup_done)(csp_waitgroup *wg)
{
    csp_x_waitgroup_done(wg CSP__NOWHERE("done"));
}

CSP__API void(csp_waitgroup_wait)(csp_waitgroup *wg)
{
    csp_x_waitgroup_wait(wg CSP__NOWHERE("waitgroup"));
}

CSP__API csp_status(csp_waitgroup_wait_until)(csp_waitgroup *wg, int64_t t)
{
    return csp_x_waitgroup_wait_until(wg, t CSP__NOWHERE("waitgroup"));
}

CSP__API void(csp_sem_init)(csp_sem *sem, int64_t n)
{
    csp_x_sem_init(sem, n CSP__NOWHERE("make"));
}

CSP__API void(csp_sem_acquire)(csp_sem *sem, int64_t n)
{
    csp_x_sem_acquire(sem, n CSP__NOWHERE("semaphore"));
}

CSP__API csp_status(csp_sem_acquire_until)(csp_sem *sem, int64_t n, int64_t t)
{
    return csp_x_sem_acquire_until(sem, n, t CSP__NOWHERE("semaphore"));
}

CSP__API void(csp_sem_release)(csp_sem *sem, int64_t n)
{
    csp_x_sem_release(sem, n CSP__NOWHERE("release"));
}

CSP__API int(csp_group_wait)(csp_group *group)
{
    return csp_x_group_wait(group CSP__NOWHERE("group"));
}

CSP__API csp_status(csp_group_wait_until)(csp_group *group, int *result, int64_t t)
{
    return csp_x_group_wait_until(group, result, t CSP__NOWHERE("group"));
}

CSP__API void(csp_sleep)(int64_t ns)
{
    csp_x_sleep(ns CSP__NOWHERE("sleep"));
}

CSP__API void(csp_sleep_until)(int64_t t)
{
    csp_x_sleep_until(t CSP__NOWHERE("sleep"));
}

CSP__API csp_ssize(csp_read)(int fd, void *buffer, size_t size)
{
    return csp_x_read_until(fd, buffer, size, CSP_FOREVER CSP__NOWHERE("read"));
}

CSP__API csp_ssize(csp_read_until)(int fd, void *buffer, size_t size, int64_t t)
{
    return csp_x_read_until(fd, buffer, size, t CSP__NOWHERE("read"));
}

CSP__API csp_ssize(csp_read_full)(int fd, void *buffer, size_t size)
{
    return csp_x_read_full(fd, buffer, size, CSP_FOREVER CSP__NOWHERE("read"));
}

CSP__API csp_ssize(csp_read_full_until)(int fd, void *buffer, size_t size, int64_t t)
{
    return csp_x_read_full(fd, buffer, size, t CSP__NOWHERE("read"));
}

CSP__API csp_ssize(csp_write)(int fd, const void *buffer, size_t size)
{
    return csp_x_write_until(fd, buffer, size, CSP_FOREVER CSP__NOWHERE("write"));
}

CSP__API csp_ssize(csp_write_until)(int fd, const void *buffer, size_t size, int64_t t)
{
    return csp_x_write_until(fd, buffer, size, t CSP__NOWHERE("write"));
}

CSP__API csp_ssize(csp_write_full)(int fd, const void *buffer, size_t size)
{
    return csp_x_write_full(fd, buffer, size, CSP_FOREVER CSP__NOWHERE("write"));
}

CSP__API csp_ssize(csp_write_full_until)(int fd, const void *buffer, size_t size, int64_t t)
{
    return csp_x_write_full(fd, buffer, size, t CSP__NOWHERE("write"));
}

CSP__API csp_ssize(csp_writev)(int fd, const struct iovec *parts, int n)
{
    return csp_x_writev(fd, parts, n, CSP_FOREVER CSP__NOWHERE("write"));
}

CSP__API csp_ssize(csp_writev_until)(int fd, const struct iovec *parts, int n, int64_t t)
{
    return csp_x_writev(fd, parts, n, t CSP__NOWHERE("write"));
}

CSP__API csp_ssize(csp_send_file)(int out, int in, int64_t offset, size_t n)
{
    return csp_x_send_file(out, in, offset, n, CSP_FOREVER CSP__NOWHERE("write"));
}

CSP__API csp_ssize(csp_send_file_until)(int out, int in, int64_t offset, size_t n, int64_t t)
{
    return csp_x_send_file(out, in, offset, n, t CSP__NOWHERE("write"));
}

CSP__API int(csp_wait_fd)(int fd, int what)
{
    return csp_x_wait_fd(fd, what, CSP_FOREVER CSP__NOWHERE("descriptor"));
}

CSP__API int(csp_wait_fd_until)(int fd, int what, int64_t t)
{
    return csp_x_wait_fd(fd, what, t CSP__NOWHERE("descriptor"));
}

CSP__API int(csp_close_fd)(int fd)
{
    return csp_x_close_fd(fd CSP__NOWHERE("close"));
}

CSP__API int(csp_accept)(int fd)
{
    return csp_x_accept_until(fd, CSP_FOREVER CSP__NOWHERE("accept"));
}

CSP__API int(csp_accept_until)(int fd, int64_t t)
{
    return csp_x_accept_until(fd, t CSP__NOWHERE("accept"));
}

CSP__API int(csp_dial)(const char *address)
{
    return csp_x_dial_until(address, CSP_FOREVER CSP__NOWHERE("connect"));
}

CSP__API int(csp_dial_until)(const char *address, int64_t t)
{
    return csp_x_dial_until(address, t CSP__NOWHERE("connect"));
}

CSP__API csp_ssize(csp_recv_from)(int fd, void *buffer, size_t size, csp_address *from)
{
    return csp_x_recv_from(fd, buffer, size, from, CSP_FOREVER CSP__NOWHERE("read"));
}

CSP__API csp_ssize(csp_recv_from_until)(int fd, void *buffer, size_t size, csp_address *from,
                                        int64_t t)
{
    return csp_x_recv_from(fd, buffer, size, from, t CSP__NOWHERE("read"));
}

CSP__API csp_ssize(csp_send_to)(int fd, const void *buffer, size_t size, const char *to)
{
    return csp_x_send_to(fd, buffer, size, to, CSP_FOREVER CSP__NOWHERE("write"));
}

CSP__API csp_ssize(csp_send_to_until)(int fd, const void *buffer, size_t size, const char *to,
                                      int64_t t)
{
    return csp_x_send_to(fd, buffer, size, to, t CSP__NOWHERE("write"));
}
#endif

/* ########################################## LOOKING ########################################### */
/* ==========================================================================
 * [43] STATS - numbers
 *
 * Each number is a sum over the processors. No lock is taken, so the parts of a sum may be of
 * different moments.
 *
 *   uses   PLATFORM BASE PROFILE CORE STACKS RUNQ POLLER
 *   locks  none
 * ======================================================================== */

#ifndef CSP_BARE

CSP__API void csp_get_stats(csp_stats *stats)
{
    csp__need(stats);
    memset(stats, 0, sizeof *stats);
    int64_t waits = 0;
    stats->goroutines = csp_count();
    stats->procs = csp__sched.nprocs;
    stats->threads = csp__relaxed(&csp__sched.nthreads);
    stats->spawned = csp__relaxed(&csp__sched.spawned_foreign);
    stats->handoffs = csp__relaxed(&csp__sched.handoffs);
    stats->stack_bytes = csp__relaxed(&csp__stacks.bytes);
    for (int i = 0; i < csp__nmade(); i++) {
        csp__p *p = csp__sched.procs[i];
        stats->spawned += csp__relaxed(&p->spawned);
        stats->switches += csp__relaxed(&p->tick);
        stats->steals += csp__relaxed(&p->steals);
        stats->timers += csp__relaxed(&p->timers);
        waits -= (int64_t)(csp__relaxed(&p->yields) + csp__relaxed(&p->ended));
        stats->runnable += csp__ring_count(p);
    }
    /* A turn ends by a wait, by a yield or by the goroutine's end. Yields and ends are counted, and
     * waits are the rest. A turn that has not ended counts as a wait. */
    waits += (int64_t)stats->switches;
    stats->waits = waits > 0 ? (uint64_t)waits : 0;
    stats->runnable += csp__relaxed(&csp__sched.nglobal);
    stats->polls = csp__relaxed(&csp__poll.told);
}

/* ==========================================================================
 * [44] FRAMES - the calls that a goroutine is in
 *
 * A goroutine that does not run has a frame of csp__switch on its own stack. The compiler's
 * unwinder reads the frames above it; csp__walk leads it there. A C program is not linked with that
 * unwinder, but most systems have it. So the first dump loads it, unless a signal handler dumps.
 * Without an unwinder the frame pointers lead from frame to frame, if the program was compiled with
 * them. The innermost frame is known in any case.
 *
 * The goroutine may be woken meanwhile, and its stack changes under the reader. What was read then
 * counts for nothing:
 *
 *     reader (csp__frames_of)                         the goroutine, when it is woken
 *     1 reads state, sp, busy == 0 (acquire), id
 *     2 reads the frames; a fault ends that           state, busy, sp or id change before
 *       (csp__probe)                                  its stack does
 *     3 acquire fence
 *     4 reads all four again: one has changed?
 *       no frames
 *
 *   uses   PLATFORM CONTEXT PROFILE SYSTEM CORE PARK PANIC BOOT BARE
 *   locks  none
 * ======================================================================== */

#define CSP__FRAMES 24
/* The calls of one goroutine; on the reader's stack. */
typedef struct csp__frames {
    int n;
    int skip;                   // so many first frames of the unwinder are the reader's own
    uintptr_t pcs[CSP__FRAMES]; // of the calls, the innermost first
} csp__frames;

/* The compiler's unwinder. backtrace is written last: when it is there, all are. */
typedef struct csp__unwinder {
    int (*backtrace)(int (*each)(void *context, void *arg), void *arg);
    uintptr_t (*pc)(void *context);
    uintptr_t (*function)(void *context); // the address of the function's first instruction
} csp__unwinder;
static csp__unwinder csp__unwinding; // rel/acq <unwind.backtrace>
#ifdef __ELF__
static int csp__unwind_backtrace(int (*each)(void *context, void *arg), void *arg)
    __attribute__((weakref("_Unwind_Backtrace")));
static uintptr_t csp__unwind_pc(void *context) __attribute__((weakref("_Unwind_GetIP")));
static uintptr_t csp__unwind_function(void *context)
    __attribute__((weakref("_Unwind_GetRegionStart")));
#endif

/* Finds the unwinder. may_load: loading it allocates, which a signal handler must not. */
CSP__FN bool csp__unwind_find(bool may_load)
{
    csp__unwinder *u = &csp__unwinding;
    if (csp__acquire(&u->backtrace) != NULL) return true; // acq <unwind.backtrace>
#if CSP__WALK && defined(__ELF__)
    if (csp__unwind_backtrace != NULL && csp__unwind_pc != NULL && csp__unwind_function != NULL) {
        u->pc = csp__unwind_pc;
        u->function = csp__unwind_function;
        csp__release(&u->backtrace, csp__unwind_backtrace);
        return true;
    }
    if (!may_load) return false;
    static const char *const library = "libgcc_s.so.1";
    __extension__ uintptr_t (*pc)(void *) =
        (uintptr_t(*)(void *))(uintptr_t)csp__os_library(library, "_Unwind_GetIP");
    if (pc == NULL) return false;
    __extension__ uintptr_t (*function)(void *) =
        (uintptr_t(*)(void *))(uintptr_t)csp__os_library(library, "_Unwind_GetRegionStart");
    __extension__ int (*backtrace)(int (*)(void *, void *), void *) =
        (int (*)(int (*)(void *, void *), void *))(uintptr_t)csp__os_library(library,
                                                                             "_Unwind_Backtrace");
    if (function == NULL || backtrace == NULL) return false;
    u->pc = pc;
    u->function = function;
    csp__release(&u->backtrace, backtrace); // rel <unwind.backtrace>
    return true;
#else
    (void)may_load;
    return false;
#endif
}

/* Is it a function of csp by which a goroutine leaves its stack or dies? Such innermost frames are
 * left out: the reader looks for the call of the program. */
CSP__FN bool csp__frame_parks(uintptr_t function)
{
    const uintptr_t those[] = {
        (uintptr_t)csp__park_to_loop,
        (uintptr_t)csp__park_for,
        (uintptr_t)csp__park_next,
        (uintptr_t)csp__park_slow,
        (uintptr_t)csp__die,
        (uintptr_t)csp__throw_at,
        (uintptr_t)csp__throw,
        (uintptr_t)csp_x_panic,
        (uintptr_t)(csp_panic),
        (uintptr_t)csp_dump,
#if CSP__ASAN || CSP_X_TSAN
        (uintptr_t)csp__switch_announced,
#endif
#if !defined(__OPTIMIZE__) || CSP_TORTURE
        (uintptr_t)csp__park,
        (uintptr_t)csp__run,
        (uintptr_t)csp__run_fast,
#endif
    };
    for (size_t i = 0; i < sizeof those / sizeof those[0]; i++)
        if (those[i] == function) return true;
    return false;
}

/* pc is the return address of a call. It may belong to the next line, and pc - 1 lies in the call.
 * The frames end at csp__start. False: this was the last frame. */
CSP__FN bool csp__frame_add(csp__frames *f, uintptr_t pc, uintptr_t function)
{
    uintptr_t first = (uintptr_t)csp__start;
    if (pc == 0 || f->n == CSP__FRAMES || (pc >= first && pc <= first + 16)) return false;
    if (f->n > 0 || function == 0 || !csp__frame_parks(function)) f->pcs[f->n++] = pc - 1;
    return true;
}

/* The unwinder's callback, for each frame. (Processors without csp__walk have no use for it.) */
CSP__FN __attribute__((unused)) int csp__frame_each(void *context, void *arg)
{
    csp__frames *f = (csp__frames *)arg;
    if (f->skip > 0) {
        f->skip--;
        return 0;
    }
    bool more = csp__frame_add(f, csp__unwinding.pc(context), csp__unwinding.function(context));
    return more ? 0 : 5 /* _URC_END_OF_STACK */;
}

/* Follows the frame pointers, while they lead upwards within the stack and to return addresses
 * inside known code. Without these tests a register that is no frame pointer would lead
 * anywhere. */
#if CSP__ASAN
__attribute__((no_sanitize_address))
#endif
CSP__FN void
csp__frames_chain(csp__frames *f, const uintptr_t *frame, uintptr_t top)
{
    uintptr_t at = CSP__FRAME_FP < 0 ? 0 : frame[CSP__FRAME_FP < 0 ? 0 : CSP__FRAME_FP];
    csp__os_symbols symbol;
    bool more = csp__frame_add(f, frame[CSP__FRAME_PC], 0);
    for (uintptr_t last = (uintptr_t)frame;
         more && at > last && at % sizeof at == 0 && at <= top - 2 * sizeof at;) {
#ifdef __riscv
        const uintptr_t *link = (const uintptr_t *)at - 2;
#else
        const uintptr_t *link = (const uintptr_t *)at;
#endif
        if (!csp__os_symbol(link[1], &symbol)) break;
        more = csp__frame_add(f, link[1], 0);
        last = at;
        at = link[0];
    }
}

/* Reads the calls above a frame of csp__switch, on a stack that ends at top. */
CSP__FN CSP__NOINLINE void csp__frames_read(csp__frames *f, void *frame, uintptr_t top)
{
    f->n = 0;
    f->skip = 1;
#if CSP__WALK
    if (csp__unwind_find(false)) {
        csp__walk((void *)(uintptr_t)csp__unwinding.backtrace, (void *)(uintptr_t)csp__frame_each,
                  f, frame);
        return;
    }
#endif
    csp__frames_chain(f, (const uintptr_t *)frame, top);
}

/* Reads the calls; a fault on the way ends it without frames. The fault handler knows one thread at
 * a time (csp__probe.tid): another reader gets no frames meanwhile. */
CSP__FN CSP__NOINLINE void csp__frames_probe(csp__frames *f, void *frame, uintptr_t top)
{
    uint32_t none = 0;
    f->n = 0;
    if (!csp__cas(&csp__probe.tid, &none, (uint32_t)csp__os_tid())) return;
    if (CSP_X_SETJMP(csp__probe.mark) == 0)
        csp__frames_read(f, frame, top);
    else
        f->n = 0;
    csp__release(&csp__probe.tid, 0);
}

/* The frames of the goroutine `id`, if it does not run. None when it ran meanwhile. */
CSP__FN void csp__frames_of(csp__g *g, uint64_t id, csp__frames *f)
{
    f->n = 0;
    uint8_t state = csp__acquire(&g->state);
    if (state != CSP__G_WAITING && state != CSP__G_RUNNABLE) return;
    csp__cb *cb = csp__relaxed(&g->cb);
    void *sp = csp__relaxed(&g->sp);
    if (csp__acquire(&g->busy) != 0) return; // acq <g.busy>
    if (csp__relaxed(&g->id) != id || cb->home == NULL) return;
    if ((char *)sp < cb->low || (char *)sp >= cb->top - CSP__FRAME_WORDS * sizeof(void *)) return;
    /* Only csp's handler can catch a fault. Where the program has set its own, no frames are read,
     * unless the process is about to die: then no other thread changes the stack. */
    if (!csp__os_handler_is(csp__os_faults[0], csp__on_fault) &&
        csp__relaxed(&csp__sched.dying) == 0)
        return;
    csp__frames_probe(f, sp, (uintptr_t)cb->top);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (csp__relaxed(&g->id) != id || csp__relaxed(&g->state) != state ||
        csp__relaxed(&g->sp) != sp || csp__relaxed(&g->busy) != 0)
        f->n = 0;
}

/* ==========================================================================
 * [45] DUMP - every goroutine, and where it is
 *
 * A dump may be written by a process that is about to die, and by a signal handler. Any lock may be
 * held then. So it allocates only pages of the system, and takes no lock of the scheduler. Other
 * threads change the records meanwhile:
 *
 *     dump (csp__look)                    thread in which a goroutine ends, and another begins
 *     1 reads the id (acquire)            1 changes the id
 *     2 reads the record                  2 release fence
 *     3 acquire fence                     3 writes arguments where the block stood
 *     4 reads the id again: the same?     4 writes the new id (release)
 *       the record counts
 *
 * If 2 of the dump read an argument, its 4 sees the changed id.
 *
 *   uses   PLATFORM BASE CONTEXT PROFILE SYSTEM CORE STACKS LIFE PARK TIMERS FRAMES
 *   locks  none
 * ======================================================================== */

/* Writes text without stdio and without malloc, since signal handlers dump, too. A small printf:
 *
 *   %s  text                          %u  64 bits divided by 1000, with three decimals
 *   %j  text, quoted for JSON         %p  a blank and the pointer; nothing for NULL
 *   %i  an int                        '   becomes "
 *   %d  64 bits
 *
 * The buffer is the caller's. A write that fails sets `failed`, and later text is dropped. */
typedef struct csp__out {
    FILE *file; // NULL: fd
    int fd;
    bool failed;
    size_t n, room;
    char *text;
} csp__out;

CSP__FN void csp__out_flush(csp__out *o)
{
    size_t at = 0;
    while (at < o->n && !o->failed) {
        csp_ssize k = o->file != NULL ? (csp_ssize)fwrite(o->text + at, 1, o->n - at, o->file)
                                      : csp__os_write(o->fd, o->text + at, o->n - at);
        if (k > 0)
            at += (size_t)k;
        else
            o->failed = o->file != NULL || k != -EINTR;
    }
    o->n = 0;
}

CSP__FN inline void csp__out_byte(csp__out *o, char byte)
{
    if (CSP__UNLIKELY(o->n == o->room)) csp__out_flush(o);
    o->text[o->n++] = byte;
}

CSP__FN void csp__out_text(csp__out *o, const char *text, bool json)
{
    for (; *text != 0; text++) {
        unsigned char byte = (unsigned char)*text;
        if (json && (byte == '"' || byte == '\\')) csp__out_byte(o, '\\');
        csp__out_byte(o, json && byte < 32 ? ' ' : (char)byte);
    }
}

CSP__FN void csp__out_number(csp__out *o, uint64_t n, unsigned base, int digits)
{
    char text[24];
    int at = 0;
    do {
        text[at++] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n != 0 || at < digits);
    while (at > 0) csp__out_byte(o, text[--at]);
}

CSP__FN void csp__out_v(csp__out *o, const char *format, va_list ap)
{
    for (; *format != 0; format++) {
        if (*format != '%') {
            csp__out_byte(o, *format == '\'' ? '"' : *format);
        } else if (*++format == 's' || *format == 'j') {
            csp__out_text(o, va_arg(ap, const char *), *format == 'j');
        } else if (*format == 'p') {
            uintptr_t p = (uintptr_t)va_arg(ap, const void *);
            if (p != 0) csp__out_text(o, " 0x", false);
            if (p != 0) csp__out_number(o, p, 16, 1);
        } else {
            int64_t n = *format == 'i' ? va_arg(ap, int) : va_arg(ap, int64_t);
            uint64_t u = n < 0 ? (uint64_t)0 - (uint64_t)n : (uint64_t)n;
            if (n < 0) csp__out_byte(o, '-');
            csp__out_number(o, *format == 'u' ? u / 1000 : u, 10, 1);
            if (*format != 'u') continue;
            csp__out_byte(o, '.');
            csp__out_number(o, u % 1000, 10, 3);
        }
    }
}

CSP__FN void csp__out_f(csp__out *o, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    csp__out_v(o, format, ap);
    va_end(ap);
}

/* Does g sleep without a deadline? Then only another goroutine or thread can wake it.
 * model: a_dump_uses_no_argument_for_a_block */
CSP__FN bool csp__g_stuck(csp__g *g)
{
    uint64_t id = csp__acquire(&g->id);
    if (id == 0 || csp__acquire(&g->state) != CSP__G_WAITING) return false; // acq <g.cb>
    csp__cb *cb = csp__relaxed(&g->cb);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);      // acq <g.id>
    if (csp__relaxed(&g->id) != id) return false; /* cb may be an argument: see csp__look */
    bool timed = csp__timed(cb);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return !timed && csp__relaxed(&g->state) == CSP__G_WAITING && csp__relaxed(&g->id) == id;
}

/* The place where the object was made, or first used, for which a goroutine waits; NULL: not known.
 * A goroutine that waits keeps the object alive. A goroutine that has just been woken does not: the
 * memory may be other data by then, or unmapped. So the pages are tested before they are read, and
 * a channel must have its magic number. */
CSP__FN const char *csp__made(const char *what, const void *on, const char **noun)
{
    static const struct {
        const char *what, *noun;
        size_t at;
    } kinds[] = {{"receive", "channel", offsetof(csp_x_chan, made)},
                 {"send", "channel", offsetof(csp_x_chan, made)},
                 {"select", "the first channel", offsetof(csp_x_chan, made)},
                 {"mutex", "mutex", offsetof(csp_mutex, csp_x_seen)},
                 {"rwmutex to read", "rwmutex", offsetof(csp_rwmutex, csp_x_seen)},
                 {"rwmutex to write", "rwmutex", offsetof(csp_rwmutex, csp_x_seen)},
                 {"cond", "cond", offsetof(csp_cond, csp_x_seen)},
                 {"once", "once", offsetof(csp_once, csp_x_seen)},
                 {"waitgroup", "waitgroup", offsetof(csp_waitgroup, csp_x_seen)},
                 {"semaphore", "semaphore", offsetof(csp_sem, csp_x_seen)}};
    if (what == NULL || on == NULL) return NULL;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(what, kinds[i].what) != 0) continue;
        const char *const *at = (const char *const *)(const void *)((const char *)on + kinds[i].at);
        if (!csp__os_readable(on) || !csp__os_readable(at)) return NULL;
        *noun = kinds[i].noun;
        if (strcmp(kinds[i].noun, "channel") == 0 &&
            csp__relaxed(&((const csp_x_chan *)on)->magic) != CSP_X_CHAN_MAGIC)
            return NULL;
        const char *made = csp__relaxed(at);
        return made != NULL && csp__os_readable(made) ? made : NULL;
    }
    return NULL;
}

/* Writes the lines below a goroutine's first: the place of the wait, and the origin of the
 * object. */
CSP__FN void csp__dump_where(csp__out *o, const char *what, const void *on)
{
    const char *noun = "object", *place = csp__place(what), *made = csp__made(what, on, &noun);
    if (place != NULL) csp__out_f(o, "    waits at %s\n", place);
    if ((place = csp__place(made)) == NULL) return;
    bool seen = made[0] != 0 && strncmp(made, "make", 4) != 0;
    csp__out_f(o, "    %s %s %s\n", noun, seen ? "first seen at" : "made at", place);
}

/* A goroutine's record, as it was at one moment. */
typedef struct csp__looked {
    uint64_t id;
    const csp_x_site *site;
    const char *what; // NULL: it does not wait
    const void *on;
    uint8_t state;
    uint32_t since;
    char name[sizeof((csp__cb *)NULL)->name];
#if CSP_STACK_PAINT
    int64_t used, size;
#endif
    csp__frames frames;
} csp__looked;

/* A dump under way, on the stack of csp__dump_to. */
typedef struct csp__dump_job {
    csp__out *out; // NULL: it only counts
    bool stuck;    // only goroutines that sleep without a deadline
    int64_t n, now;
    const csp__g *self; // the goroutine that dumps, NULL: none; self_sp: its frame of csp__switch
    void *self_sp, *sp;
    uint32_t off; // csp__switch stores its 0 here; no thread waits for it
    struct csp__dump_places *places;
} csp__dump_job;

/* Goroutines with the same state, wait and frames are one entry: the first of them, and their
 * number. */
typedef struct csp__dump_places {
    uint32_t n;
    struct csp__dump_place {
        uint64_t hash, id;
        csp__g *g;
        uint32_t count;
    } at[2048];
    uint16_t slots[4096]; // by hash: 0 empty, else the number of a place plus 1
} csp__dump_places;

/* Reads a record. False: it has no goroutine, or another one by now. */
CSP__FN bool csp__look(const csp__dump_job *d, csp__g *g, csp__looked *l)
{
    uint64_t id = csp__acquire(&g->id);
    l->state = csp__acquire(&g->state); // acq <g.cb>
    l->site = csp__relaxed(&g->site);
    csp__cb *cb = l->state > CSP__G_FRESH ? csp__relaxed(&g->cb) : NULL;
    l->since = csp__relaxed(&g->since);
    /* Arguments of another goroutine may stand where cb was. They do not while the id is the same.
     * A control block stays one, so cb may be read even if another goroutine has it by now. */
    __atomic_thread_fence(__ATOMIC_ACQUIRE); // acq <g.id>
    if (id == 0 || l->site == NULL || csp__relaxed(&g->id) != id) return false;
    l->id = id;
    memset(l->name, 0, sizeof l->name);
    if (cb != NULL) memcpy(l->name, cb->name, sizeof l->name - 1);
    l->what = cb == NULL || l->state != CSP__G_WAITING ? NULL : csp__relaxed(&cb->what);
    l->on = l->what == NULL ? NULL : csp__on_shown(csp__relaxed(&cb->on));
#if CSP_STACK_PAINT
    l->size = cb != NULL && cb->home != NULL ? cb->top - cb->low : 0;
    l->used = l->size == 0 ? 0 : cb->top - (char *)csp__stack_mark(cb);
#endif
    l->frames.n = 0;
    if (g == d->self)
        csp__frames_probe(&l->frames, d->self_sp, (uintptr_t)cb->top);
    else if (cb != NULL)
        csp__frames_of(g, id, &l->frames);
    return true;
}

/* Writes one goroutine: its line, its wait, its frames. */
CSP__FN void csp__dump_g(csp__out *o, const csp__looked *l, int64_t now)
{
    static const char *const states[] = {"new", "new", "runnable", "running", "waiting"};
    const char *what = l->what;
    csp__out_f(o, "goroutine %d [%s", l->id,
               what != NULL ? what : states[l->state <= CSP__G_WAITING ? l->state : 0]);
    if (what != NULL) {
        csp__out_f(o, "%p", l->on);
        if (l->on == NULL && (strcmp(what, "receive") == 0 || strcmp(what, "send") == 0))
            csp__out_f(o, what[0] == 's' ? " on a NULL channel" : " from a NULL channel");
        if (CSP_HOLDERS && strcmp(what, "mutex") == 0 && csp__os_readable(l->on))
            csp__out_f(o, " held by goroutine %i",
                       csp__relaxed(&((const csp_mutex *)l->on)->csp_x_owner) >> 2);
        int64_t ns = (int64_t)(int32_t)(csp__since(now) - l->since) * (1 << 23);
        if (ns >= 0) csp__out_f(o, ", %u s", ns / CSP_MILLISECOND);
    }
    csp__out_f(o, "] %s%s%s, started at %s", l->name, l->name[0] ? " " : "", l->site->name,
               l->site->file);
    if (l->site->line != 0) csp__out_f(o, ":%i", l->site->line);
#if CSP_STACK_PAINT
    if (l->size != 0) csp__out_f(o, ", stack %d of %d bytes used", l->used, l->size);
#endif
    csp__out_byte(o, '\n');
    csp__dump_where(o, what, l->on);
    for (int i = 0; i < l->frames.n; i++) {
        csp__os_symbols at;
        if (!csp__os_symbol(l->frames.pcs[i], &at)) continue;
        csp__out_f(o, "    #%i ", i);
        if (at.function != NULL) {
            csp__out_f(o, "%s+0x", at.function);
            csp__out_number(o, at.within, 16, 1);
            csp__out_f(o, " (");
        }
        csp__out_f(o, "%s+0x", at.object);
        csp__out_number(o, at.offset, 16, 1);
        csp__out_f(o, at.function != NULL ? ")\n" : "\n");
    }
}

/* The place of a goroutine as a number: where it was started, and the line of its wait. Not its
 * frames: the innermost ones are csp's, and how many there are depends on the way that the call has
 * taken. So goroutines that came to one line by several ways are one entry, with the frames of the
 * first. */
CSP__FN uint64_t csp__dump_hash(const csp__looked *l)
{
    /* Sites lie at even distances, and so do the texts of waits. So the one is mixed before the
     * other comes: else two goroutines have one number wherever the distances are the same. */
    uint64_t hash = csp__hash((uint64_t)(uintptr_t)l->site, l->state);
    return csp__hash(hash, (uint64_t)(uintptr_t)l->what);
}

/* Adds l to the entry of its place. False: the table is full, and l is to be written by itself. */
CSP__FN bool csp__dump_count(csp__dump_places *places, csp__g *g, const csp__looked *l)
{
    uint64_t hash = csp__dump_hash(l);
    uint32_t room = sizeof places->slots / sizeof places->slots[0];
    uint32_t i = (uint32_t)hash % room;
    for (; places->slots[i] != 0; i = (i + 1) % room) {
        struct csp__dump_place *at = &places->at[places->slots[i] - 1];
        if (at->hash != hash) continue;
        at->count++;
        return true;
    }
    if (places->n == sizeof places->at / sizeof places->at[0]) return false;
    places->at[places->n] = (struct csp__dump_place){hash, l->id, g, 1};
    places->slots[i] = (uint16_t)++places->n;
    return true;
}

CSP__FN void csp__dump_add(csp__dump_job *d, csp__g *g)
{
    csp__looked l;
    if (!csp__look(d, g, &l)) return;
    if (d->places == NULL || !csp__dump_count(d->places, g, &l)) csp__dump_g(d->out, &l, d->now);
}

/* Counts the goroutines, or only the stuck ones, and writes them if there is an `out`. The main
 * goroutine of a fork's child is in no slab. It is written in a full dump, and not counted. */
CSP__FN void csp__dump(csp__dump_job *d)
{
    csp__looked l;
    d->now = csp__clock();
    const csp__m *main = d->stuck || d->out == NULL ? NULL : csp__sched.child;
    if (main != NULL && main->main != 0) csp__dump_add(d, main->g);
    for (csp__slab *s = csp__acquire(&csp__sched.slabs); s != NULL; s = s->link)
        for (int i = 0; i < 1023; i++) {
            if (d->stuck ? !csp__g_stuck(&s->g[i]) : csp__relaxed(&s->g[i].id) == 0) continue;
            if (d->out != NULL) csp__dump_add(d, &s->g[i]);
            d->n++;
        }
    for (uint32_t i = 0; d->places != NULL && i < d->places->n; i++) {
        struct csp__dump_place *at = &d->places->at[i];
        if (csp__look(d, at->g, &l) && l.id == at->id) csp__dump_g(d->out, &l, d->now);
        if (at->count > 1) csp__out_f(d->out, "    %i more like it\n", (int)at->count - 1);
    }
    if (d->out != NULL) csp__out_flush(d->out);
}

/* Runs the dump on its own stack, and switches back to the goroutine that dumps. */
CSP__FN void csp__dump_entry(void *value)
{
    csp__dump_job *d = (csp__dump_job *)value;
    csp__dump(d);
    csp__switch(&d->sp, d->self_sp, &d->off, NULL);
    __builtin_unreachable();
}

#define CSP__DUMP_STACK ((size_t)96 * 1024)

/* Dumps on a stack of its own: unwinding takes some KiB, and the caller may be a small goroutine. A
 * signal handler dumps on its alternate stack. If it left that stack, the system would take it for
 * free, and the next signal would begin at its top and overwrite the frames there. */
CSP__FN CSP__NOINLINE void csp__dump_to(FILE *file, bool stuck, bool handler)
{
    char text[512];
    csp__out o = {file, 2, false, 0, sizeof text, text};
    csp__dump_job d = {.out = &o, .stuck = stuck};
    size_t size = CSP__DUMP_STACK + sizeof(csp__dump_places);
    char *room = (char *)csp__os_pages_get(size);
    if (room != NULL) d.places = (csp__dump_places *)(void *)(room + CSP__DUMP_STACK);
    if (handler || room == NULL || CSP_X_TSAN || CSP__ASAN) {
        csp__dump(&d);
    } else {
        csp__unwind_find(true);
        csp__m *m = csp__self();
        d.self = m == NULL || m->foreign ? NULL : m->g;
        csp__switch(&d.self_sp, csp__context_make(room, room + CSP__DUMP_STACK, csp__dump_entry),
                    &d.off, &d);
    }
    if (room != NULL) csp__os_pages_put(room, size);
}

/* The number of goroutines that sleep without a deadline. */
CSP__FN int64_t csp__dump_stuck(void)
{
    csp__dump_job d = {.stuck = true};
    csp__dump(&d);
    return d.n;
}

CSP__API void csp_dump(FILE *file)
{
    csp__dump_to(file, false, false);
}

/* Waits for a second, or until all others have been stuck for 20 ms: they will not end. */
CSP__API void csp_assert_no_goroutines(void)
{
    int64_t until = csp__clock() + CSP_SECOND, own = csp__current()->flags & CSP__G_FOREIGN ? 0 : 1;
    for (int stuck = 0; csp_count() > own;) {
        stuck = csp__dump_stuck() == csp_count() - own ? stuck + 1 : 0;
        if (stuck == 20 || csp__clock() > until) {
            csp_dump(stderr);
            (csp_panic)("%lld goroutines have not ended", (long long)(csp_count() - own));
        }
        csp_x_sleep(CSP_MILLISECOND CSP__NOWHERE("sleep"));
    }
}

/* ==========================================================================
 * [46] TRACE - what the environment asks for, and the trace
 *
 * CSP_DEBUG, CSP_DUMP_SIGNAL and CSP_TRACE are read when the runtime starts. One thread (the
 * observer) reads the tapes of all others, sorts nothing, and writes JSON as it goes.
 *
 *   uses   PLATFORM BASE PROFILE SYSTEM CORE TAPES LIFE RUNQ SCHED PANIC WAKEFD DUMP
 *   locks  observer.lock sched.lock
 * ======================================================================== */

static struct {
    int dump_signal;
    csp__os_handler handler; // of that signal
    uint32_t dumping;        // atomic: handlers that walk the goroutines
    uint32_t dumps, lines;   // atomic: written so far, for the tests
    bool leaks;
    char profile[512];   // the file of a profile that is being made; "": none
    csp__waited *waited; // its table, which stays for threads that are still in a note
    int sched_ms;
    int64_t started;
    // the thread that writes traces and lines
    uint32_t observer; // atomic: 0 none, 1 runs, 2 shall end
    uint32_t poked;    // futex: it has something to do
    csp__os_thread thread;
    // guarded by lock: the trace, and the thread's start and end
    uint32_t lock;
    bool trace; // atomic
    int traces;
    int64_t origin, runnable, awake;
    csp__out out;
} csp__observer;

CSP__FN void csp__on_dump_signal(int signo, csp__os_info *info, void *context)
{
    int err = errno;
    if (csp__relaxed(&csp__observer.handler.state) == CSP__HANDLER_LEFT) {
        csp__os_handler_pass(&csp__observer.handler, signo, info, context);
        return;
    }
    csp__add(&csp__observer.dumping, 1);
    if (csp__acquire(&csp__sched.running)) csp__dump_to(NULL, false, true);
    csp__add(&csp__observer.dumps, 1);
    csp__add(&csp__observer.dumping, (uint32_t)-1);
    errno = err;
}

CSP__FN int csp__signal_number(const char *name)
{
    uint64_t n;
    if (csp__number(name, strlen(name), 64, &n)) return (int)n;
    return csp__os_signal_number(strncmp(name, "SIG", 3) == 0 ? name + 3 : name);
}

CSP__FN void csp__sched_line(void)
{
    char text[256];
    csp__out o = {NULL, 2, false, 0, sizeof text, text};
    csp_stats s;
    csp_get_stats(&s);
    csp__out_f(&o, "SCHED %dms: procs=%d idle=%i threads=%d idle=%i spinning=%i goroutines=%d ",
               (csp__clock() - csp__observer.started) / CSP_MILLISECOND, s.procs,
               csp__relaxed(&csp__sched.nidle_p), s.threads, csp__relaxed(&csp__sched.nidle_m),
               csp__relaxed(&csp__sched.nspinning), s.goroutines);
    csp__out_f(&o, "switches=%d steals=%d handoffs=%d queued=%i [", s.switches, s.steals,
               s.handoffs, csp__relaxed(&csp__sched.nglobal));
    for (int i = 0; i < csp__relaxed(&csp__sched.nprocs); i++)
        csp__out_f(&o, i == 0 ? "%i" : " %i", csp__ring_count(csp__sched.procs[i]));
    csp__out_f(&o, "]\n");
    csp__out_flush(&o);
    csp__add(&csp__observer.lines, 1);
}

/* ---- the trace ---- */

enum { CSP__TRACK_P = 1, CSP__TRACK_M }; // the tracks' groups, "processes" to the viewers

/* An entry on a track. A tape's track among the processors' is its P's, else its thread's. */
CSP__FN void csp__trace_put(const char *kind, int group, int track, int64_t at, const char *format,
                            ...)
{
    csp__out *o = &csp__observer.out;
    va_list ap;
    va_start(ap, format);
    csp__out_f(o, "{'ph':'%s','pid':%i,'tid':%i,'ts':%u,", kind, group, track,
               at - csp__observer.origin);
    csp__out_v(o, format, ap);
    csp__out_f(o, "},\n");
    va_end(ap);
}

/* The goroutine's turn, as one track shows it. */
CSP__FN void csp__trace_turn(csp__tape *t, int group, int64_t to, const char *then, uint64_t on)
{
    const csp_x_site *site = (const csp_x_site *)t->run.what;
    int64_t from = group == CSP__TRACK_P ? t->p_since : t->run.at;
    csp__trace_put("X", group, group == CSP__TRACK_P ? t->run.p + 1 : t->tid, from,
                   "'dur':%u,'name':'%j','args':{'g':%d,'go':'%j:%i','then':'%s%p'}",
                   to > from ? to - from : 0, t->name[0] != 0 ? t->name : site->name, t->run.g,
                   site->file, site->line, then, (const void *)(uintptr_t)on);
}

CSP__FN void csp__trace_stopped(csp__tape *t, int64_t at, const char *then, uint64_t on)
{
    if (t->run.g == 0) return;
    if (t->run.p >= 0) csp__trace_turn(t, CSP__TRACK_P, at, then, on);
    csp__trace_turn(t, CSP__TRACK_M, at, then, on);
    t->run.g = 0;
}

CSP__FN void csp__trace_moved(csp__tape *t, int64_t at, int p)
{
    if (t->run.g == 0) return;
    if (t->run.p >= 0) {
        csp__trace_turn(t, CSP__TRACK_P, at, "hand-off", 0);
        csp__trace_put("i", CSP__TRACK_P, t->run.p + 1, at,
                       "'s':'t','name':'hand-off','args':{'from thread':%i}", t->tid);
    }
    t->run.p = (int16_t)p;
    t->p_since = at;
}

/* Events that were left out: of the thread of tape t, or, for NULL, of threads without a tape. */
CSP__FN void csp__trace_lost(csp__tape *t, int64_t at, uint32_t n)
{
    if (n == 0) return;
    if (t != NULL) t->name[0] = 0, t->run.g = 0;
    csp__trace_put("i", CSP__TRACK_M, t != NULL ? t->tid : 0, at,
                   "'s':'t','name':'events left out','args':{'events':%i}", n);
}

/* One end of an arrow, a nanosecond after the start of the slice that it belongs to, or later. */
CSP__FN void csp__trace_arrow(const char *kind, int group, int track, int64_t at,
                              const csp__noted *e)
{
    csp__trace_put(kind, group, track, at, "'cat':'wake','name':'wake','bp':'e','id':%d",
                   e->g << 16 | e->n);
}

CSP__FN void csp__trace_event(csp__tape *t, const csp__noted *e)
{
    switch (e->kind) {
    case CSP__EV_NAME:
        csp__trace_stopped(t, e->at, "unknown", 0);
        memcpy(t->name, e->name, sizeof e->name);
        break;
    case CSP__EV_RUN:
        csp__trace_stopped(t, e->at, "unknown", 0);
        t->run = *e;
        t->p_since = e->at;
        if (e->n != 0) csp__trace_arrow("f", CSP__TRACK_P, e->p + 1, e->at + 1, e);
        break;
    case CSP__EV_STOP:
        csp__trace_stopped(t, e->at, e->what == NULL ? "waiting" : (const char *)e->what, e->g);
        t->name[0] = 0;
        break;
    case CSP__EV_WAKE:
        if (t->run.g != 0 && t->run.p >= 0) {
            csp__trace_arrow("s", CSP__TRACK_P, t->run.p + 1, e->at, e);
            break;
        }
        if (t->run.g == 0) /* a timer, or a thread of the program */
            csp__trace_put("X", CSP__TRACK_M, t->tid, e->at, "'dur':0.002,'name':'%s'", e->what);
        csp__trace_arrow("s", CSP__TRACK_M, t->tid, e->at + 1, e);
        break;
    case CSP__EV_STEAL:
        csp__trace_put("i", CSP__TRACK_P, e->p + 1, e->at,
                       "'s':'t','name':'steal','args':{'from P':%i}", e->n);
        break;
    case CSP__EV_MOVE: csp__trace_moved(t, e->at, e->p); break;
    case CSP__EV_SLEPT:
        csp__trace_put("X", CSP__TRACK_M, t->tid, (int64_t)e->g, "'dur':%u,'name':'asleep'",
                       e->at - (int64_t)e->g);
        break;
    default: csp__trace_lost(t, e->at, e->n);
    }
}

CSP__FN void csp__tape_read(csp__tape *t, bool write)
{
    uint32_t head = csp__acquire(&t->head), tail = t->tail; // acq <tape>
    if (tail != head && write && !t->introduced) {
        csp__trace_put("M", CSP__TRACK_M, t->tid, csp__observer.origin,
                       "'name':'thread_name','args':{'name':'%s%i'}",
                       t->foreign ? "a thread of the program's, " : "M ", t->tid);
        t->introduced = true;
    }
    while (tail != head) {
        if (write) csp__trace_event(t, &t->events[tail % CSP__TAPE]);
        if (++tail % 64 == 0 || tail == head) csp__release(&t->tail, tail); // rel <tape>
    }
}

/* What has changed since the last round: everything on the tapes, and two counters. */
CSP__FN void csp__trace_round_locked(void)
{
    int64_t queued = csp__relaxed(&csp__sched.nglobal), now = csp__clock(), threads;
    for (csp__tape *t = csp__acquire(&csp__trace.tapes); t != NULL; t = t->link)
        csp__tape_read(t, true); // acq <trace.tapes>
    for (int i = 0; i < csp__nmade(); i++)
        queued += (int64_t)csp__ring_count(csp__sched.procs[i]) +
                  (csp__relaxed(&csp__sched.procs[i]->next) != NULL);
    threads = csp__relaxed(&csp__sched.nthreads) - csp__relaxed(&csp__sched.nidle_m);
    if (queued != csp__observer.runnable)
        csp__trace_put("C", CSP__TRACK_P, 0, now, "'name':'runnable','args':{'goroutines':%d}",
                       queued);
    if (threads != csp__observer.awake)
        csp__trace_put("C", CSP__TRACK_M, 0, now, "'name':'threads','args':{'awake':%d}", threads);
    csp__observer.runnable = queued;
    csp__observer.awake = threads;
}

/* The thread that reads the tapes and writes lines; from the first use to the runtime's end. */
CSP__FN void *csp__observer_main(void *arg)
{
    int64_t line = csp__observer.started;
    (void)arg;
    while (csp__acquire(&csp__observer.observer) == 1) {
        uint32_t poked = csp__acquire(&csp__observer.poked);
        int64_t every = csp__observer.sched_ms * CSP_MILLISECOND, now = csp__clock(),
                ns = CSP_FOREVER;
        if (every > 0 && now - line >= every) {
            line += (now - line) / every * every;
            csp__sched_line();
        }
        if (every > 0) ns = line + every - now;
        if (csp__relaxed(&csp__observer.trace)) {
            csp__lock(&csp__observer.lock, CSP__RANK_OBSERVER);
            csp__hb_after(&csp__observer);
            if (csp__observer.trace) csp__trace_round_locked();
            csp__hb_before(&csp__observer);
            csp__unlock(&csp__observer.lock);
            if (ns > CSP_MILLISECOND) ns = CSP_MILLISECOND;
        }
        csp__os_wait(&csp__observer.poked, poked, ns);
    }
    return NULL;
}

CSP__FN void csp__observer_poke(void)
{
    csp__add(&csp__observer.poked, 1);
    csp__os_wake(&csp__observer.poked, 1);
}

CSP__FN bool csp__observer_start_locked(void)
{
    if (csp__observer.observer != 0) return true;
    csp__observer.observer = 1;
    int failed = csp__os_thread_start(&csp__observer.thread, csp__observer_main, NULL, 0, true);
    if (failed) csp__observer.observer = 0;
    csp__set(&csp__sched.observers, failed ? 0 : 1);
    return !failed;
}

CSP__FN void csp__observer_stop(void)
{
    if (csp__observer.observer == 0) return;
    csp__release(&csp__observer.observer, 2);
    csp__observer_poke();
    csp__os_thread_join(csp__observer.thread);
    csp__set(&csp__sched.observers, 0);
    csp__observer.observer = 0;
}

CSP__FN void csp__trace_switch(bool on)
{
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED); /* no P comes into being meanwhile */
    csp__set(&csp__sched.tools, (uint8_t)((csp__sched.tools & 1) | 2 * on));
    csp__release(&csp__trace.on, on ? (uint32_t)csp__observer.traces : 0);
    for (int i = 0; i < csp__nmade(); i++)
        if (on)
            __atomic_fetch_or(&csp__sched.procs[i]->eager, 2, __ATOMIC_RELAXED);
        else
            __atomic_fetch_and(&csp__sched.procs[i]->eager, ~2u, __ATOMIC_RELAXED);
    csp__unlock(&csp__sched.lock);
}

/* own: where the file is another's, one beside it with this process's number is written. */
CSP__FN int csp__trace_start_locked(const char *path, bool own)
{
    csp__out out = {NULL, -1, false, 0, 65536, NULL};
    char text[4096];
    if (csp__observer.trace || csp__trace.waited != NULL) return -EBUSY;
    out.fd = csp__os_create(path);
    if (out.fd == -EBUSY && own) {
        snprintf(text, sizeof text, "%.4000s.%d", path, csp__os_pid());
        out.fd = csp__os_create(text);
    }
    if (out.fd < 0) return out.fd;
    out.text = (char *)csp__alloc(out.room);
    if (out.text == NULL || !csp__observer_start_locked()) {
        csp__free(out.text);
        csp__os_close(out.fd);
        return -ENOMEM;
    }
    for (csp__tape *t = csp__trace.tapes; t != NULL; t = t->link) {
        csp__tape_read(t, false); /* what came after the end of an earlier trace */
        t->run.g = 0;
        t->introduced = false;
    }
    csp__observer.out = out;
    csp__observer.origin = csp__clock();
    csp__observer.runnable = csp__observer.awake = -1;
    csp__out_f(&csp__observer.out, "[\n");
    csp__set(&csp__trace.lost, 0);
    csp__set(&csp__observer.trace, true);
    if (csp__observer.traces++ == 0) atexit(csp_trace_stop);
    csp__trace_switch(true);
    csp__observer_poke();
    return 0;
}

/* CSP_DEBUG=profile=FILE: a profile of the whole run. */
CSP__FN void csp__profile_start(void)
{
    size_t size = CSP__WAITED * sizeof(csp__waited);
    if (csp__observer.profile[0] == 0) return;
    if (csp__observer.waited == NULL) csp__observer.waited = (csp__waited *)csp__os_pages_get(size);
    if (csp__observer.waited == NULL) return;
    memset(csp__observer.waited, 0, size);
    csp__release(&csp__trace.waited, csp__observer.waited);
    if (csp__observer.traces++ == 0) atexit(csp_trace_stop);
    csp__trace_switch(true);
}

/* A line of the folded form of which flame graphs are made: the task, what it waited for, and the
 * place with the number of waits, then the microseconds. */
CSP__FN void csp__profile_line(csp__out *o, const csp__waited *w, uint64_t count, uint64_t ns)
{
    const char *place = csp__place(w->what);
    csp__out_f(o, "%s", w->site->name);
    if (w->site->line != 0) csp__out_f(o, " (%s:%i)", w->site->file, w->site->line);
    csp__out_f(o, ";%s", w->what);
    csp__out_f(o, place != NULL ? ";%s, " : ";", place);
    csp__out_f(o, count == 1 ? "once %d\n" : "%d times %d\n", count == 1 ? ns / 1000 : count,
               ns / 1000);
}

/* Adds the waits that have not ended, as if they ended now. */
CSP__FN void csp__profile_rest(int64_t now)
{
    for (csp__slab *s = csp__acquire(&csp__sched.slabs); s != NULL; s = s->link)
        for (int i = 0; i < 1023; i++) {
            csp__g *g = &s->g[i];
            uint64_t id = csp__acquire(&g->id);
            if (id == 0 || csp__acquire(&g->state) != CSP__G_WAITING) continue; // acq <g.cb>
            csp__cb *cb = csp__relaxed(&g->cb);
            const csp_x_site *site = csp__relaxed(&g->site);
            __atomic_thread_fence(__ATOMIC_ACQUIRE); // acq <g.id>
            if (csp__relaxed(&g->id) != id) continue;
            const char *what = csp__relaxed(&cb->what);
            int64_t since = csp__relaxed(&cb->stopped_at);
            if (since != 0 && what != NULL && now > since)
                csp__waited_add(csp__observer.waited, what, site, now - since);
        }
}

CSP__FN void csp__profile_stop_locked(void)
{
    csp__waited *all = csp__observer.waited;
    char text[4096];
    if (all == NULL) return;
    csp__trace_switch(false);
    csp__set(&csp__trace.waited, NULL);
    csp__profile_rest(csp__clock());
    csp__out o = {NULL, csp__os_create(csp__observer.profile), false, 0, sizeof text, text};
    for (int i = 0; o.fd >= 0 && i < CSP__WAITED; i++) {
        uint64_t count = csp__relaxed(&all[i].count);
        if (count != 0) csp__profile_line(&o, &all[i], count, csp__relaxed(&all[i].ns));
    }
    if (o.fd >= 0) csp__out_flush(&o);
    if (o.fd < 0 || csp__os_close(o.fd) < 0 || o.failed)
        csp__say("csp: the profile could not be written\n");
    csp__observer.profile[0] = 0;
}

CSP__API int csp_trace_start(const char *path)
{
    csp__need(path);
    csp__sim_refuse("csp_trace_start");
    csp__leave(csp__enter()); /* the runtime runs from here on */
    csp__lock(&csp__observer.lock, CSP__RANK_OBSERVER);
    int error = csp__trace_start_locked(path, false);
    csp__hb_before(&csp__observer);
    csp__unlock(&csp__observer.lock);
    csp__m *m = csp__enter();
    if (error == 0 && m->p != NULL) csp__note_run(m, m->g, csp__clock());
    csp__leave(m);
    return error;
}

CSP__API void csp_trace_stop(void)
{
    csp__out *o = &csp__observer.out;
    csp__lock(&csp__observer.lock, CSP__RANK_OBSERVER);
    csp__hb_after(&csp__observer);
    if (csp__observer.profile[0] != 0) csp__profile_stop_locked();
    if (csp__observer.trace) {
        csp__trace_switch(false);
        csp__trace_round_locked();
        int64_t now = csp__clock();
        for (csp__tape *t = csp__trace.tapes; t != NULL; t = t->link) { /* what is still open */
            int64_t taken = csp__relaxed(&t->taken_at);
            if (csp__relaxed(&t->trace) == (uint32_t)csp__observer.traces)
                csp__trace_lost(t, now, csp__relaxed(&t->lost));
            if (taken > t->p_since) csp__trace_moved(t, taken, -1);
            csp__trace_stopped(t, now, "running", 0);
        }
        csp__trace_lost(NULL, now, csp__relaxed(&csp__trace.lost));
        for (int i = 0; i < csp__nmade(); i++)
            csp__trace_put("M", CSP__TRACK_P, i + 1, csp__observer.origin,
                           "'name':'thread_name','args':{'name':'P%i'}", i);
        csp__trace_put("M", CSP__TRACK_M, 0, csp__observer.origin,
                       "'name':'process_name','args':{'name':'threads'}");
        csp__out_f(o, "{'ph':'M','pid':1,'name':'process_name','args':{'name':'processors'}}\n]\n");
        csp__out_flush(o);
        if (csp__os_close(o->fd) < 0 || o->failed)
            csp__say("csp: the trace could not be written\n");
        csp__free(o->text);
        csp__set(&csp__observer.trace, false);
    }
    csp__unlock(&csp__observer.lock);
}

/* CSP_TRACE; a process that starts the runtime again gets another file each time, and so does a
 * child that has the setting from its parent and runs beside it. */
CSP__FN void csp__trace_environment_locked(void)
{
    const char *path = csp__os_env("CSP_TRACE");
    char text[4096];
    if (path == NULL || *path == 0) return;
    if (strlen(path) <= 4000) { // cut, it would be the name of another file
        snprintf(text, sizeof text, csp__observer.traces == 0 ? "%.4000s" : "%.4000s.%d", path,
                 csp__observer.traces + 1);
        if (csp__trace_start_locked(text, true) == 0) return;
    }
    snprintf(text, sizeof text, "csp: CSP_TRACE=%.80s cannot be written\n", path);
    csp__say(text);
}

CSP__FN void csp__read_environment(void)
{
    const char *words = csp__os_env("CSP_DEBUG"), *signame = csp__os_env("CSP_DUMP_SIGNAL");
    char line[160];
    uint64_t ms;
    csp__observer.leaks = csp__sched.hogs = csp__sched.aborts = false;
    csp__observer.profile[0] = 0;
    csp__observer.sched_ms = 0;
    for (const char *w = words == NULL ? "" : words; *w != 0;) {
        int n = (int)strcspn(w, ",");
        if (n == 5 && strncmp(w, "leaks", 5) == 0) {
            csp__observer.leaks = true;
        } else if (n == 5 && strncmp(w, "abort", 5) == 0) {
            csp__sched.aborts = true;
        } else if (n > 8 && n - 8 < (int)sizeof csp__observer.profile &&
                   strncmp(w, "profile=", 8) == 0) {
            csp__copy_text(csp__observer.profile, w + 8, (size_t)n - 7);
        } else if (n == 4 && strncmp(w, "hogs", 4) == 0) {
            csp__sched.hogs = true;
        } else if (n > 6 && strncmp(w, "sched=", 6) == 0 &&
                   csp__number(w + 6, (size_t)n - 6, 9999999, &ms) && ms > 0) {
            csp__observer.sched_ms = (int)ms;
        } else if (n > 0) {
            snprintf(
                line, sizeof line,
                "csp: CSP_DEBUG: \"%.*s\" is not abort, hogs, leaks, profile=FILE or sched=MS\n",
                n < 60 ? n : 60, w);
            csp__say(line);
        }
        w += w[n] == 0 ? n : n + 1;
    }
    if (signame == NULL || *signame == 0) return;
    int signo = csp__signal_number(signame);
    /* One that was left belongs to its signal: the environment may name another by now. */
    bool other =
        csp__observer.handler.state == CSP__HANDLER_LEFT && signo != csp__observer.dump_signal;
    if (signo != 0 && !other &&
        csp__os_handler_set(&csp__observer.handler, signo, csp__on_dump_signal, false)) {
        csp__observer.dump_signal = signo;
        return;
    }
    snprintf(line, sizeof line, "csp: CSP_DUMP_SIGNAL=%.40s is not a signal that can be caught\n",
             signame);
    csp__say(line);
}

/* True when nothing runs, and nothing will before `until`. */
CSP__FN bool csp__settled(int64_t until)
{
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    bool still = csp__sched.nidle_p == (uint32_t)csp__sched.nprocs &&
                 csp__sched.nidle_m == csp__sched.nthreads && csp__sched.starting == NULL &&
                 csp__work_somewhere() == 0;
    for (csp__m *m = csp__sched.all_m; m != NULL; m = m->all)
        if (m->wake_p != NULL || m->handed != NULL) still = false;
    if (still && csp__first_timer() <= until) still = !csp__others_wake_locked();
    csp__unlock(&csp__sched.lock);
    return still;
}

/* The main goroutine has returned. The others get up to a second to come to rest. A goroutine that
 * then waits without a deadline, while no goroutine or thread is left to wake it, has leaked. */
CSP__FN void csp__report_leaks(void)
{
    int64_t until = csp__clock() + CSP_SECOND;
    bool still = false, alone;
    while (!(still = csp__settled(csp__clock() + 100 * CSP_MILLISECOND)) && csp__clock() < until)
        csp__os_sleep(CSP_MILLISECOND);
    int64_t n = csp__dump_stuck();
    if (n == 0) return;
    csp__lock(&csp__sched.lock, CSP__RANK_SCHED);
    alone = still && !csp__others_wake_locked();
    csp__unlock(&csp__sched.lock);
    char text[160];
    snprintf(text, sizeof text, "csp: %lld goroutine%s leaked: asleep when main had returned, %s\n",
             (long long)n, n == 1 ? "" : "s",
             alone ? "with nobody left to wake them" : "unless somebody who is left wakes them");
    csp__say(text);
    csp__dump_to(NULL, true, false);
}

/* All but the handler, which may have been left. */
CSP__FN void csp__observer_forked(void)
{
    int signo = csp__observer.dump_signal;
    csp__os_handler handler = csp__observer.handler;
    memset(&csp__observer, 0, sizeof csp__observer);
    csp__observer.dump_signal = signo;
    csp__observer.handler = handler;
}

CSP__FN void csp__lifecycle(int moment)
{
    switch (moment) {
    case CSP__LIFE_STARTS:
        csp__observer.started = csp__clock();
        csp__read_environment();
        csp__lock(&csp__observer.lock, CSP__RANK_OBSERVER);
        if (csp__observer.sched_ms != 0 && !csp__observer_start_locked())
            csp__say("csp: no thread for CSP_DEBUG=sched\n");
        csp__profile_start();
        csp__trace_environment_locked();
        csp__unlock(&csp__observer.lock);
        break;
    case CSP__LIFE_MAIN_ENDED:
        if (csp__observer.leaks) csp__report_leaks();
        break;
    case CSP__LIFE_STOPS:
        csp__os_handler_unset(&csp__observer.handler, csp__observer.dump_signal,
                              csp__on_dump_signal);
        while (csp__acquire(&csp__observer.dumping) != 0) csp__os_yield();
        /* fallthrough */
    case CSP__LIFE_DIES:
        csp_trace_stop();
        csp__observer_stop();
        break;
    case CSP__LIFE_FORKED:
        if (csp__observer.trace) csp__os_close(csp__observer.out.fd); /* the parent's */
        csp__os_handler_unset(&csp__observer.handler, csp__observer.dump_signal,
                              csp__on_dump_signal);
        csp__observer_forked();
        memset(&csp__trace, 0, sizeof csp__trace);
        memset(&csp__wakefds, 0, sizeof csp__wakefds); /* their pipes are the parent's too */
        break;
    default: break;
    }
}

/* ==========================================================================
 * [47] SIMULATOR - one thread, virtual time, a schedule drawn from a seed
 *
 * A simulation is the runtime with one M and one P and without a monitor, on the calling thread.
 * Channels, select, sync and timers do not know of it. It differs from the usual runtime in three
 * things:
 *   - the clock: csp__virtual stands in for the system's;
 *   - the choice of the next goroutine. It has two occasions. A goroutine that parks comes back to
 *     csp__sim_loop, because the P's tick, a multiple of 64 while a goroutine runs, says that it is
 *     time to look around (PARK). And every call into csp comes to csp__sim_enter, because m.revoke
 *     is never NONE (WAKE): there another goroutine may be chosen to go on;
 *   - what happens when no goroutine can run: time moves on to the first timer, or the run is over.
 *
 * A STEP:
 *     goroutine makes others ready  ->  the P's next and ring, as always
 *     goroutine parks or calls csp  ->  csp__sim_loop, or csp__sim_enter
 *         csp__sim_gather           P's queues  ->  ready[]
 *         csp__sim_decide           the seed draws one of ready[] (uniformly, or by PCT priority)
 *         csp__sim_move_to          the report's tail and hash note it
 *     the chosen goroutine runs
 * The short ways of the hot paths are those of the usual runtime, so they pay nothing for it.
 *
 * A run depends on the seed and the program alone: not on addresses, clocks or other threads. A
 * thread that calls csp during a simulation ends the process with a message.
 *
 *   uses   PLATFORM BASE TOOLS PROFILE SYSTEM HEAP CORE STACKS LIFE RUNQ PARK GO POLLER SCHED
 *          MONITOR PANIC BOOT WAITERS FD DUMP
 *   locks  none
 * ======================================================================== */

/* What is known of goroutine number id, kept until the run ends. */
typedef struct csp__sim_g {
    csp__g *g; // its record, while g->id == id
    const csp_x_site *site;
    int64_t priority; // PCT: the highest runs
    uint64_t ran;     // step at which it last went on
    char name[sizeof(((csp__cb *)0)->name)];
} csp__sim_g;

typedef struct csp__sim_conn csp__sim_conn;

/* One change of goroutines, for the report. */
typedef struct csp__sim_move {
    uint64_t step, from, to; // ids; 0: none
    int64_t now;
    const char *why; // `from` stopped
    const void *on;
} csp__sim_move;

#define CSP__SIM_TAIL 40    /* moves in the report */
#define CSP__SIM_GRACE 1000 /* steps that others may take after main has returned */
#define CSP__SIM_DEPTH 16

static struct csp__simulation {
    csp_sim sim;
    csp_sim_report *report;
    csp__m *m;
    csp__p *p;
    bool verbose;
    csp__g **ready;        // who can run
    csp__sim_g *gs;        // by id
    csp__sim_conn **conns; // by number
    size_t ready_room, gs_room, conns_room;
    // of one run
    bool over, done; // done: main has returned
    uint64_t steps, limit, done_at, rng;
    uint32_t nready, nconns;
    csp__g *last; // who ran last, and its id then
    uint64_t ngs, last_id, moves;
    csp__sim_move tail[CSP__SIM_TAIL];
    uint64_t changes[CSP__SIM_DEPTH], streak; // PCT
    int64_t lowest;
} csp__sim;

CSP__FN uint64_t csp__sim_mix(uint64_t z)
{
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) | 1; /* never zero: a generator's state */
}

CSP__FN void csp__sim_hash(uint64_t x)
{
    uint64_t *h = &csp__sim.report->trace;
    *h = csp__hash(*h, x);
}

/* Room for one more item behind n of a size. */
CSP__FN void *csp__sim_room(void *items, size_t n, size_t *room, size_t size)
{
    if (n < *room) return items;
    *room = 2 * n + 64;
    void *more = csp__zalloc(*room * size);
    if (more == NULL) csp__fatal("out of memory in a simulation");
    csp__copy(more, items, n * size);
    csp__hb_after(&csp__heap_sync);
    csp__free(items);
    csp__hb_before(&csp__heap_sync);
    return more;
}

CSP__FN void csp__sim_add(csp__g *g)
{
    struct csp__simulation *s = &csp__sim;
    s->ready = csp__sim_room(s->ready, s->nready, &s->ready_room, sizeof *s->ready);
    s->ready[s->nready++] = g;
    while (s->ngs <= g->id) { /* a new one: ids are given one after the other */
        s->gs = csp__sim_room(s->gs, (size_t)s->ngs, &s->gs_room, sizeof *s->gs);
        s->gs[s->ngs++] = (csp__sim_g){.g = NULL};
    }
    csp__sim_g *k = &s->gs[g->id];
    if (k->g != NULL) return;
    k->g = g;
    k->site = g->site;
    if (s->sim.depth > 0) k->priority = (INT64_C(1) << 32) + csp__random(&s->rng);
}

/* Moves all goroutines that have been made ready from the P's queues to the set `ready`. */
CSP__FN void csp__sim_gather(void)
{
    csp__p *p = csp__sim.p;
    csp__g *g = p->next;
    p->next = NULL;
    if (g != NULL) csp__sim_add(g);
    while ((g = csp__ring_pop(p)) != NULL) csp__sim_add(g);
    while (CSP__UNLIKELY(csp__sched.nglobal != 0))
        if ((g = csp__global_take(p, true)) != NULL) csp__sim_add(g);
}

/* PCT: the index of the goroutine with the highest priority among those ready and `self`; nready
 * stands for self. */
CSP__FN uint32_t csp__sim_first(csp__g *self)
{
    struct csp__simulation *s = &csp__sim;
    uint32_t best = s->nready;
    int64_t most = self == NULL ? INT64_MIN : s->gs[self->id].priority;
    for (uint32_t i = 0; i < s->nready; i++) {
        int64_t priority = s->gs[s->ready[i]->id].priority;
        if (priority <= most && best + (self == NULL) <= s->nready) continue;
        most = priority;
        best = i;
    }
    return best;
}

/* One decision: an index into ready, or nready for self. self is NULL when the goroutine that ran
 * cannot go on. `yields`: the goroutine that ran and has yielded; it is drawn only when no other
 * one is ready. */
CSP__FN uint32_t csp__sim_decide(csp__g *self, csp__g *yields)
{
    struct csp__simulation *s = &csp__sim;
    uint32_t n = s->nready, at;
    if (n == 0) return 0;
    if (s->sim.depth > 0) {
        csp__g *low = yields != NULL ? yields : self;
        for (uint32_t i = 0; low != NULL && i + 1 < s->sim.depth; i++)
            if (s->changes[i] == s->steps) s->gs[low->id].priority = i + 1;
        /* A goroutine that yields, or polls 200 times, waits for another one to do something: it
         * comes last of all from here on. Otherwise it would keep the highest priority for ever. */
        if (low != NULL && (yields != NULL || ++s->streak > 200))
            s->gs[low->id].priority = --s->lowest, s->streak = 0;
        at = csp__sim_first(self);
        if (at != n) s->streak = 0;
    } else {
        at = csp__random_below(&s->rng, n + (self != NULL));
        if (at < n && s->ready[at] == yields && n > 1) { /* uniformly among the others */
            at = csp__random_below(&s->rng, n - 1);
            if (s->ready[at] == yields) at = n - 1;
        }
    }
    csp__sim_hash(at == n ? self->id : s->ready[at]->id);
    return at;
}

CSP__FN bool csp__sim_step(void)
{
    struct csp__simulation *s = &csp__sim;
    if (++s->steps <= s->limit) return true;
    if (!s->done) s->report->outcome = CSP_SIM_LIVELOCK; /* after main has returned: no fault */
    s->over = true;
    return false;
}

CSP__FN void csp__sim_move_to(uint64_t from, const char *why, const void *on, csp__g *to)
{
    struct csp__simulation *s = &csp__sim;
    csp__sim_g *k = &s->gs[from];
    s->tail[s->moves++ % CSP__SIM_TAIL] =
        (csp__sim_move){s->steps, from, to->id, csp__virtual, why, on};
    s->gs[to->id].ran = s->steps;
    if (from != 0 && k->g->id == from && k->g->state != CSP__G_FRESH && k->g->cb->name[0] != 0)
        csp__copy(k->name, k->g->cb->name, sizeof k->name);
}

CSP__FN csp__g *csp__sim_take(uint32_t at)
{
    struct csp__simulation *s = &csp__sim;
    csp__g *g = s->ready[at];
    s->ready[at] = s->ready[--s->nready];
    return g;
}

/* A call into csp begins or ends: the seed decides which goroutine goes on. */
CSP__FN csp__m *csp__sim_enter(csp__m *m)
{
    csp__g *g = m->g, *next = NULL;
    if (m != csp__sim.m) csp__fatal("csp called from another thread while a simulation runs");
    if (g == NULL) return m;
    csp__sim_gather();
    if (csp__sim_step()) {
        uint32_t at = csp__sim_decide(g, NULL);
        if (at == csp__sim.nready) return m;
        next = csp__sim_take(at);
        csp__sim_add(g);
        csp__sim_move_to(g->id, "interrupted", NULL, next);
    }
    csp__g_save(m, g);
    csp__park_to_loop(m, g, next);
    csp__set(&m->epoch, m->epoch + 1);
    return m;
}

/* A panic that no csp_try has caught ends the run. */
CSP__FN void csp__sim_die(csp__g *g, const char *message)
{
    csp__m *m = csp__sim.m;
    snprintf(csp__sim.report->message, sizeof csp__sim.report->message, "%s", message);
    csp__sim.report->outcome = CSP_SIM_PANIC;
    csp__sim.over = true;
    m->epoch |= 1;
    csp__park_to_loop(m, g, NULL);
}

/* ---- connections ---- */

#define CSP__PIPE 4096            /* bytes on their way, each direction */
#define CSP__PIPE_FIRST (1 << 30) /* the first end's number, which no descriptor has */

/* One direction of a connection. The three counts are of bytes since its beginning: read <= here
 * (arrived) <= sent. */
typedef struct csp__pipe {
    uint64_t read, here, sent;
    int64_t when; // the next piece arrives
    bool shut;    // no more is written
    char bytes[CSP__PIPE];
} csp__pipe;

/* End e reads from pipes[1 - e] and writes to pipes[e]. */
struct csp__sim_conn {
    csp_x_queue waiters; // of both ends and directions; any change wakes all of them
    bool closed[2];
    csp__limit limit[2];
    csp__pipe pipes[2];
};

CSP__FN int64_t csp__sim_delay(void)
{
    return csp__virtual + csp__random_below(&csp__sim.rng, 1000) * CSP_MICROSECOND;
}

CSP__FN void csp__pipe_move(csp__pipe *p, bool reads, char *buf, size_t n)
{
    uint64_t *at = reads ? &p->read : &p->sent;
    if (!reads && p->here == p->sent) p->when = csp__sim_delay();
    for (size_t k; n > 0; *at += k, buf += k, n -= k) {
        char *here = &p->bytes[*at % CSP__PIPE];
        k = CSP__PIPE - *at % CSP__PIPE;
        if (k > n) k = n;
        csp__copy(reads ? buf : here, reads ? here : buf, k);
    }
}

/* One try at a read, a write or a wait; -EAGAIN when it has to wait. */
CSP__FN csp_ssize csp__conn_try(csp__sim_conn *c, int e, int what, char *buf, size_t n)
{
    csp__pipe *in = &c->pipes[1 - e], *out = &c->pipes[e];
    uint64_t *rng = &csp__sim.rng;
    if (in->here != in->sent && csp__virtual >= in->when) { /* a piece arrives, or all of it */
        in->here += 1 + csp__random_below(rng, (uint32_t)(in->sent - in->here));
        in->when = csp__sim_delay();
    }
    uint64_t got = in->here - in->read, room = CSP__PIPE - (out->sent - out->read);
    bool end = in->read == in->sent && (in->shut || c->closed[1 - e]);
    bool broken = out->shut || c->closed[1 - e];
    if (what == CSP__IO_WAIT) {
        int ready = (got > 0 || end ? CSP_READABLE : 0) | (room > 0 || broken ? CSP_WRITABLE : 0);
        return (ready & (int)n) != 0 ? ready & (int)n : -EAGAIN;
    }
    bool reads = what == CSP__IO_READ;
    if (!reads && broken) return -EPIPE;
    if (n == 0 || (reads && end)) return 0;
    if (n > (reads ? got : room)) n = (size_t)(reads ? got : room);
    if (n == 0) return -EAGAIN;
    if (csp__random_below(rng, 4) == 0) n = 1 + csp__random_below(rng, (uint32_t)n);
    csp__pipe_move(reads ? in : out, reads, buf, n);
    return (csp_ssize)n;
}

/* Waits at end e for a change, the next piece, or t; returns what it is told. The caller is inside
 * csp, and is so again after. */
CSP__FN int csp__conn_wait(csp__m *m, csp__sim_conn *c, int e, int64_t t, const char *what)
{
    CSP__WAITER(w, m->g);
    const csp__pipe *in = &c->pipes[1 - e];
    if (in->here != in->sent && in->when < t) t = in->when;
    csp__wait_init(m, w, NULL, t, what, c);
    w->index = e;
    csp__waiters_add(&c->waiters, w);
    if (csp__park_until(m, t) == NULL) csp__waiter_forget(&c->waiters, w);
    csp__enter();
    return (int)(intptr_t)w->value;
}

CSP__FN void csp__conn_wake(csp__m *m, csp__sim_conn *c)
{
    for (csp__waiter *w; (w = csp__waiters_take(&c->waiters)) != NULL;)
        csp__waiter_wake(m, w, true);
}

/* What may not switch; see CSP__IO_JOIN. */
CSP__FN int csp__conn_quick(csp__sim_conn *c, int e, int what, void *arg, size_t n)
{
    csp__waiter *w = (csp__waiter *)arg;
    csp__limit *l = &c->limit[e];
    int64_t *until;
    int over;
    switch (what) {
    case CSP__IO_LEAVE: csp__waiter_forget(&c->waiters, w); return 0;
    case CSP__IO_CHANGE:
        if (c->closed[e]) return -EBADF;
        over = csp__limit_change(l, (csp__change *)arg);
        for (w = (csp__waiter *)c->waiters.head; over != 0 && w != NULL; w = w->next)
            if (w->index == e) w->value = (void *)(intptr_t)over;
        if (over != 0) csp__conn_wake(csp__sim.m, c);
        return 0;
    default: /* JOIN */
        if (c->closed[e] || l->over != 0) return 0;
        if (csp__conn_try(c, e, CSP__IO_WAIT, NULL, n) != -EAGAIN) return 0;
        if (w == NULL) return -EAGAIN;
        until = (int64_t *)w->value;
        if (c->pipes[1 - e].here != c->pipes[1 - e].sent && c->pipes[1 - e].when < *until)
            *until = c->pipes[1 - e].when;
        w->index = e;
        csp__waiters_add(&c->waiters, w);
        return -EAGAIN;
    }
}

CSP__FN csp_ssize csp__sim_io(int what, int fd, void *buf, size_t n, int64_t t)
{
    static const char *const names[] = {"read\0", "write\0", "descriptor\0"};
    int e = fd & 1;
    if (fd < CSP__PIPE_FIRST || fd - CSP__PIPE_FIRST >= 2 * (int)csp__sim.nconns)
        csp__sim_refuse("a descriptor that is not from csp_sim_pipe");
    csp__sim_conn *c = csp__sim.conns[(fd - CSP__PIPE_FIRST) / 2];
    if (what >= CSP__IO_JOIN) return csp__conn_quick(c, e, what, buf, n);
    csp__m *m = csp__enter();
    csp_ssize r = c->closed[e] ? -EBADF : 0;
    csp__hb_after(c);
    if (r == 0 && what == CSP__IO_CLOSE)
        csp__limit_change(&c->limit[e], (csp__change *)buf), c->closed[e] = true;
    else if (r == 0 && what == CSP__IO_CLOSE_WRITE)
        c->pipes[e].shut = true;
    else
        while (r == 0 && (r = csp__conn_try(c, e, what, (char *)buf, n)) == -EAGAIN) {
            r = c->limit[e].over != 0 ? c->limit[e].over : -ETIMEDOUT;
            if (c->limit[e].over != 0 || t <= csp__virtual) break;
            r = csp__conn_wait(m, c, e, t, names[what]);
            csp__hb_after(c);
            if (c->closed[e]) r = -ECANCELED;
        }
    csp__hb_before(c);
    if (r >= 0) csp__conn_wake(m, c);
    csp__leave(m);
    csp__sim_point();
    return r;
}

CSP__API int csp_sim_pipe(int ends[2])
{
    csp__need(ends);
    struct csp__simulation *s = &csp__sim;
    if (csp__sched.sim == NULL) csp__throw("csp_sim_pipe outside a simulation");
    csp__sim_conn *c = (csp__sim_conn *)csp__zalloc(sizeof *c);
    if (c == NULL) csp__throw_memory(sizeof *c);
    s->conns = csp__sim_room(s->conns, s->nconns, &s->conns_room, sizeof c);
    s->conns[s->nconns] = c;
    ends[0] = CSP__PIPE_FIRST + 2 * (int)s->nconns++;
    ends[1] = ends[0] + 1;
    return 0;
}

/* The next goroutine to run, for the scheduler's loop. Moves time on where none can run. NULL: the
 * run is over. */
CSP__FN csp__g *csp__sim_next(void)
{
    struct csp__simulation *s = &csp__sim;
    csp__g *last = s->last, *yields = NULL;
    const char *why = "ends";
    const void *on = NULL;
    csp__sim_gather();
    if (!s->done && csp__sched.run_exit != 0) {
        s->done = true;
        s->done_at = s->steps;
        if (s->limit > s->steps + CSP__SIM_GRACE) s->limit = s->steps + CSP__SIM_GRACE;
    }
    if (last != NULL && last->id == s->last_id) {
        bool waits = last->state == CSP__G_WAITING;
        why = waits ? last->cb->what : "yields";
        on = waits ? csp__on_shown(last->cb->on) : NULL;
        yields = waits ? NULL : last;
    }
    while (s->nready == 0) {
        if (!csp__others_wake_locked()) {
            if (!s->done) s->report->outcome = CSP_SIM_DEADLOCK;
            s->over = true;
            return NULL;
        }
        if (s->p->first > csp__virtual) csp__virtual = s->p->first;
        csp__sim_hash((uint64_t)csp__virtual);
        csp__timers_run(s->p);
        csp__sim_gather();
        if (!csp__sim_step()) return NULL;
    }
    if (!csp__sim_step()) return NULL;
    csp__g *g = csp__sim_take(csp__sim_decide(NULL, yields));
    csp__sim_move_to(s->last_id, why, on, g);
    return g;
}

CSP__FN void csp__sim_loop(void)
{
    csp__m *m = csp__sim.m;
    for (;;) {
        csp__g *g = m->todo;
        m->todo = NULL;
        if (csp__sim.over) return;
        if (g == NULL && (g = csp__sim_next()) == NULL) return;
        if (g->state == CSP__G_FRESH) csp__bind(m->p, g);
        csp__sim.last = g;
        csp__sim.last_id = g->id;
        m->p->tick |= 63; /* csp__run_fast adds one */
        csp__run(m, m->p, m->epoch, g, NULL, &m->sp, &m->no_busy);
        m->g = NULL;
    }
}

/* ---- the report ---- */

CSP__API const char *csp_sim_outcome_name(csp_sim_outcome outcome)
{
    static const char *const names[] = {"ok", "panic", "deadlock", "leak", "livelock"};
    return (unsigned)outcome < sizeof names / sizeof names[0] ? names[outcome] : "unknown outcome";
}

/* "3 worker (pipe.c:17)" */
CSP__FN const char *csp__sim_who(uint64_t id, char *text, size_t size)
{
    const csp__sim_g *k = &csp__sim.gs[id];
    if (id == 0) return "-";
    const char *name = k->name, *file = strrchr(k->site->file, '/');
    if (k->g->id == id && k->g->state != CSP__G_FRESH) name = k->g->cb->name;
    int n = snprintf(text, size, "%llu %s", (unsigned long long)id, *name ? name : k->site->name);
    if (k->site->line != 0)
        snprintf(text + n, size - (size_t)n, " (%s:%d)", file == NULL ? k->site->file : file + 1,
                 k->site->line);
    return text;
}

/* "receive #2": what is waited on has no name, but a number, by its first appearance. */
CSP__FN const char *csp__sim_what(const char *what, const void *on, const void **seen, char *text,
                                  size_t size)
{
    int i = 0;
    if (on == NULL) return what;
    while (i < CSP__SIM_TAIL - 1 && seen[i] != NULL && seen[i] != on) i++;
    seen[i] = on;
    snprintf(text, size, "%s #%d", what, i + 1);
    return text;
}

CSP__FN void csp__sim_print(FILE *file)
{
    struct csp__simulation *s = &csp__sim;
    csp_sim_report *r = s->report;
    const void *seen[CSP__SIM_TAIL] = {NULL};
    char who[160], what[80];
    fprintf(file,
            "csp_simulate: %s%s%s\n  run %llu, CSP_SEED=%llu plays it again; %s schedule, "
            "%llu steps, %lld.%09lld s\n",
            csp_sim_outcome_name(r->outcome), r->message[0] ? ": " : "", r->message,
            (unsigned long long)r->runs, (unsigned long long)r->seed,
            s->sim.depth > 0 ? "PCT" : "random", (unsigned long long)r->steps,
            (long long)(r->time / CSP_SECOND), (long long)(r->time % CSP_SECOND));
    fprintf(file, "  the last changes of goroutine:\n    %8s %16s  %-36s %s\n", "step", "time",
            "who goes on", "until");
    for (uint64_t i = s->moves > CSP__SIM_TAIL ? s->moves - CSP__SIM_TAIL : 0; i < s->moves; i++) {
        csp__sim_move *move = &s->tail[i % CSP__SIM_TAIL],
                      *next = &s->tail[(i + 1) % CSP__SIM_TAIL];
        int64_t t = move->now - CSP_SECOND;
        fprintf(file, "    %8llu %6lld.%09lld  %-36s %s\n", (unsigned long long)move->step,
                (long long)(t / CSP_SECOND), (long long)(t % CSP_SECOND),
                csp__sim_who(move->to, who, sizeof who),
                i + 1 == s->moves ? "the run is over"
                                  : csp__sim_what(next->why, next->on, seen, what, sizeof what));
    }
    fprintf(file, "  goroutines at the end:\n");
    for (uint64_t id = 1; id < s->ngs; id++) {
        csp__g *g = s->gs[id].g;
        if (g == NULL || g->id != id) continue;
        const char *how = "can run";
        if (g->state == CSP__G_WAITING)
            how = csp__sim_what(g->cb->what, csp__on_shown(g->cb->on), seen, what, sizeof what);
        else if (g == s->last)
            how = "running";
        fprintf(file, "    %27s%-36s %s\n", "", csp__sim_who(id, who, sizeof who), how);
    }
}

/* The outcome of a run, where the way it ended does not say it already: leaks, and the message. */
CSP__FN void csp__sim_judge(void)
{
    struct csp__simulation *s = &csp__sim;
    csp_sim_report *r = s->report;
    bool quiet = s->steps <= s->limit; /* no goroutine was left that could run */
    uint64_t stuck = 0, first = 0;
    char who[160];
    csp__hb_after(&csp__heap_sync);
    r->steps = s->steps;
    r->time = csp__virtual - CSP_SECOND;
    for (uint64_t id = 1; id < s->ngs; id++) { /* who waits, and no timer of its own will wake */
        csp__g *g = s->gs[id].g;
        if (g != NULL && g->id == id && csp__g_stuck(g) && (quiet || s->gs[id].ran <= s->done_at) &&
            stuck++ == 0)
            first = id;
    }
    if (r->outcome == CSP_SIM_OK && stuck > 0 && !s->sim.ignore_leaks) r->outcome = CSP_SIM_LEAK;
    if (r->outcome == CSP_SIM_LIVELOCK)
        snprintf(r->message, sizeof r->message, "no end after %llu steps",
                 (unsigned long long)s->limit);
    else if (r->outcome == CSP_SIM_DEADLOCK && first == 0)
        snprintf(r->message, sizeof r->message, "no goroutines (main called csp_exit)");
    else if (r->outcome == CSP_SIM_LEAK || r->outcome == CSP_SIM_DEADLOCK)
        snprintf(r->message, sizeof r->message, "%s: %llu, the first: %s, %s",
                 r->outcome == CSP_SIM_LEAK ? "goroutines left waiting when main had returned"
                                            : "all goroutines are asleep",
                 (unsigned long long)stuck, csp__sim_who(first, who, sizeof who),
                 s->gs[first].g->cb->what);
}

/* ---- a run ---- */

/* Drops a goroutine that has not ended, where it stands: its record and its stack become free. */
CSP__FN void csp__sim_drop(csp__g *g)
{
    csp__p *p = csp__sim.p;
    csp__cb *cb = g->state == CSP__G_FRESH ? NULL : g->cb;
    if (cb != NULL) {
        csp__free(cb->locals);
        *cb = (csp__cb){.kind = cb->kind,
                        .home = cb->home,
                        .base = cb->base,
                        .low = cb->low,
                        .top = cb->top,
                        .fiber = cb->fiber};
        csp__unpoison(cb->low, (size_t)(cb->top - cb->low));
#if CSP_X_TSAN
        __tsan_destroy_fiber(cb->fiber); /* with its calls, which will never return */
        cb->fiber = __tsan_create_fiber(0);
#endif
        csp__cb_put(p, cb);
    }
    if (cb == NULL || cb->home == csp__stacks.classes) p->credit++;
    g->id = 0;
    g->link = p->free_g;
    p->free_g = g;
}

CSP__FN void csp__sim_begin(uint64_t seed)
{
    struct csp__simulation *s = &csp__sim;
    csp__p *p = s->p;
    size_t run = offsetof(struct csp__simulation, over);
    *s->report = (csp_sim_report){.seed = seed, .runs = s->report->runs};
    s->report->trace = UINT64_C(0xcbf29ce484222325);
    memset((char *)s + run, 0, sizeof *s - run);
    s->limit = s->sim.max_steps;
    s->rng = csp__sim_mix(seed);
    s->m->rng = csp__sim_mix(~seed);
    p->rng = csp__sim_mix(~s->rng);
    p->ids = csp__sched.ids = 0;
    p->spawned = p->ended = 0;
    p->eager = 0;
    p->left = p->lot = CSP__TURNS;
    p->measured_at = p->slow_at = p->from = p->slice = p->cut_at = 0;
    p->cuts = 0;
    csp__virtual = CSP_SECOND; /* so that a time before the start is not negative */
    csp__now_refresh();
    csp__sched.run_exit = 0;
    if (s->sim.depth < 2) return;
    uint64_t length = s->sim.length;
    if (length == 0) length = UINT64_C(4) << csp__random_below(&s->rng, 11);
    for (uint32_t i = 0; i + 1 < s->sim.depth; i++)
        s->changes[i] =
            1 + (((uint64_t)csp__random(&s->rng) << 32 | csp__random(&s->rng)) % length);
}

/* The P as it was before the run. */
CSP__FN void csp__sim_clean(void)
{
    struct csp__simulation *s = &csp__sim;
    csp__p *p = s->p;
    csp__hb_after(&csp__heap_sync);
    csp__sim_gather();
    for (uint32_t i = 0; i < p->heap.count; i++)
        if (p->heap.items[i].who & 1) csp__item_timer(p->heap.items[i].who)->p = NULL;
    p->heap.count = p->heap.feeds_chan = 0;
    p->spilt = NULL;
    p->first = CSP_FOREVER;
    for (uint64_t id = 1; id < s->ngs; id++)
        if (s->gs[id].g != NULL && s->gs[id].g->id == id) csp__sim_drop(s->gs[id].g);
    while (s->nconns > 0) {
        csp__sim_conn *c = s->conns[--s->nconns];
        for (int e = 0; e < 2; e++)
            if (c->limit[e].bound != NULL) csp__binding_end(c->limit[e].bound);
        csp__free(c);
    }
    s->m->bound_g = NULL;
    s->m->todo = NULL;
    if (p->credit > 64) {
        csp__stacks_promise(32 - p->credit);
        p->credit = 32;
    }
}

/* ---- the simulation ---- */

CSP__FN void csp__sim_signals_set(bool on); // circle: the handler takes itself away
static csp__os_handler csp__sim_handlers[CSP__OS_FAULTS];

/* The process is about to die of a signal: says the seed first, so that the run can be repeated. */
CSP__FN void csp__sim_on_crash(int signo, csp__os_info *info, void *context)
{
    char text[128];
    int i = 0;
    while (csp__os_faults[i] != signo) i++;
    if (csp__sim_handlers[i].state == CSP__HANDLER_LEFT) {
        csp__os_handler_pass(&csp__sim_handlers[i], signo, info, context);
        return;
    }
    snprintf(text, sizeof text, "csp: signal %d in a simulation, CSP_SEED=%llu, step %llu\n", signo,
             (unsigned long long)csp__sim.report->seed, (unsigned long long)csp__sim.steps);
    csp__say(text);
    csp__sim_signals_set(false);
    if (i >= CSP__OS_MEMORY_FAULTS) return;
    csp__fault_look(info, context);
    csp__os_handler_pass(&csp__sim_handlers[i], signo, info, context);
}

CSP__FN void csp__sim_signals_set(bool on)
{
    for (int i = 0; i < CSP__OS_FAULTS; i++)
        if (on)
            csp__os_handler_set(&csp__sim_handlers[i], csp__os_faults[i], csp__sim_on_crash, true);
        else
            csp__os_handler_unset(&csp__sim_handlers[i], csp__os_faults[i], csp__sim_on_crash);
}

/* In the child of a fork there is no simulation. */
CSP__FN void csp__sim_forked(void)
{
    csp__sim_signals_set(false);
    csp__virtual = 0;
}

/* Opens the runtime with one P, and with this thread as the only one. It was not running. */
CSP__FN void csp__sim_open(csp__m *m, csp__p *p)
{
    static const csp__profile profile = {csp__sim_enter, csp__sim_die, csp__sim_io,
                                         csp__sim_forked};
    csp__sched.config.max_threads = 1;
    csp__sched.starts++;
    csp__sched.config.stack_size = CSP_STACK_SIZE;
    csp__stacks.slot = csp__slot_default(CSP_STACK_SIZE);
    csp__sched.barrier = true; /* one thread alone needs no order */
    csp__sched.tools = csp__os_cxa_globals() != NULL;
    csp__sched.sleep_until = CSP_FOREVER;
    csp__sched.nprocs = 1;
    csp__sched.sim = &profile;
    csp__release(&csp__sched.running, 1);
    m->epoch = 1;
    csp__os_stack_follow();
    m->revoke = CSP__REVOKE_SIMULATED;
    csp__m_begin(m);
    csp__p_adopt(m, p);
    csp__os_warm();
}

CSP__FN void csp__sim_close(csp__m *m, csp__p *p, uint64_t ids)
{
    for (csp__slab *slab = csp__sched.slabs, *next; slab != NULL; slab = next) {
        next = slab->link;
        csp__os_pages_put(slab, sizeof *slab);
    }
    csp__stacks_free();
    csp__free(p->heap.block);
    csp__free(p);
    csp__free(m);
    csp__free(csp__sim.ready);
    csp__free(csp__sim.gs);
    csp__free(csp__sim.conns);
    csp__sched_clear();
    memset(&csp__sim, 0, sizeof csp__sim);
    csp__sched.ids = ids;
    csp__virtual = 0;
}

/* CSP_SEED, if it is there and a number. */
CSP__FN bool csp__sim_env(uint64_t *seed)
{
    const char *text = csp__os_env("CSP_SEED");
    char line[160];
    if (text == NULL || *text == 0) return false;
    if (csp__number(text, strlen(text), UINT64_MAX, seed)) return true;
    snprintf(line, sizeof line, "csp: CSP_SEED=%.40s is not a number; it is ignored\n", text);
    csp__say(line);
    return false;
}

/* All runs, the runtime being ours. */
CSP__FN void csp__sim_runs(void (*fn)(void *), void *arg)
{
    static const csp_x_site site = {"main", "csp_simulate", 0, "\0"};
    struct csp__simulation *s = &csp__sim;
    csp_sim_report *r = s->report;
    csp_opts opts = {NULL, (size_t)8 << 20};
    csp__plain plain = {fn, arg};
    while (r->runs < s->sim.runs && r->outcome == CSP_SIM_OK) {
        csp__sim_begin(s->sim.seed + r->runs++);
        csp__spawn(s->m, &opts, &site, csp__plain_run, &plain, sizeof plain, CSP__G_MAIN);
        csp__sim_loop();
        csp__sim_judge();
        csp__virtual = 0; /* for what a FILE may do */
        if (s->sim.file != NULL && (r->outcome != CSP_SIM_OK || s->verbose))
            csp__sim_print(s->sim.file);
        csp__sim_clean();
    }
}

/* Stops the runtime for a simulation, if it runs without goroutines; returns its settings. */
CSP__FN csp_config csp__sim_stop_runtime(csp__m *me, bool *ran)
{
    csp_config config = csp__sched.config;
    if (csp__sched.sim != NULL) csp__throw("csp_simulate called in a simulation");
    if (me != NULL && !me->foreign) csp__throw("csp_simulate called from a goroutine");
    *ran = csp__acquire(&csp__sched.running) != 0;
    if (!*ran) return config;
    if (csp_count() != 0) csp__throw("csp_simulate called while goroutines exist");
    config.procs = csp__sched.nprocs;
    csp__stop_locked();
    return config;
}

/* The runtime runs again, if it did. */
CSP__FN void csp__sim_ran(bool ran, const csp_config *config)
{
    if (ran && csp__start_locked(config) != CSP_OK)
        csp__die(NULL, "after a simulation csp cannot start again: out of memory or threads", NULL);
}

CSP__API csp_sim_report csp_simulate(const csp_sim *sim, void (*fn)(void *), void *arg)
{
    csp__need(fn);
    struct csp__simulation *s = &csp__sim;
    csp_sim_report report = {.outcome = CSP_SIM_OK};
    csp__m *me = csp__self();
    void *eh[2] = {NULL, NULL};
    csp__os_alt alt; /* the program's own */
    bool ran;
    int err = errno;
    if (sim != NULL && sim->depth > CSP__SIM_DEPTH) csp__throw("csp_simulate: depth above 16");
    csp__os_on_fork(csp__fork_child);
    csp_config config = csp__sim_stop_runtime(me, &ran);
    uint64_t ids = csp__sched.ids;
    csp__m *m = (csp__m *)csp__zalloc(sizeof *m);
    csp__p *p = m == NULL ? NULL : csp__p_new();
    if (p == NULL) {
        csp__free(m);
        csp__sim_ran(ran, &config);
        csp__throw_memory(sizeof *p);
    }
    *s = (struct csp__simulation){.report = &report, .m = m, .p = p};
    if (sim != NULL) s->sim = *sim;
    if (s->sim.runs == 0) s->sim.runs = 1;
    if (s->sim.max_steps == 0) s->sim.max_steps = 1000000;
    if (csp__sim_env(&s->sim.seed)) {
        s->sim.runs = 1;
        s->verbose = true;
        if (s->sim.file == NULL) s->sim.file = stderr;
    }
    csp__sim_open(m, p);
    if (m->eh != NULL) memcpy(eh, m->eh, sizeof eh);
    for (csp__m *f = csp__sched.foreign_m; f != NULL; f = f->all) f->revoke = CSP__REVOKE_SIMULATED;
    csp__sim_signals_set(true);
    csp__alt_stack(m, &alt);
    csp__tls = m;
    csp__sim_runs(fn, arg);
    csp__tls = me;
    csp__alt_stack_free(m, &alt);
    csp__sim_signals_set(false);
    for (csp__m *f = csp__sched.foreign_m; f != NULL; f = f->all) f->revoke = CSP__REVOKE_NONE;
    if (m->eh != NULL) memcpy(m->eh, eh, sizeof eh);
    csp__sim_close(m, p, ids);
    csp__sim_ran(ran, &config);
    errno = err;
    return report;
}

CSP__API uint32_t csp_sim_choose(uint32_t n)
{
    if (csp__sched.sim == NULL || n < 2) return 0;
    uint32_t at = csp__random_below(&csp__sim.rng, n);
    csp__sim_hash(at);
    return at;
}
#endif /* !CSP_BARE */

#endif /* CSP_IMPLEMENTED */
#endif /* CSP_IMPLEMENTATION */

/* ==========================================================================
 * LICENCE - the text of the file LICENSE
 *
 * csp.h and everything that comes with it is available under two licences. Choose
 * whichever you prefer.
 *
 * ------------------------------------------------------------------------------
 * ALTERNATIVE A - MIT License
 *
 * Copyright (c) 2026 the csp.h authors
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of
 * this software and associated documentation files (the "Software"), to deal in
 * the Software without restriction, including without limitation the rights to
 * use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies
 * of the Software, and to permit persons to whom the Software is furnished to do
 * so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all
 * copies or substantial portions of the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
 * IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
 * FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
 * AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
 * LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
 * SOFTWARE.
 *
 * ------------------------------------------------------------------------------
 * ALTERNATIVE B - Public Domain (Unlicense, www.unlicense.org)
 *
 * This is free and unencumbered software released into the public domain.
 *
 * Anyone is free to copy, modify, publish, use, compile, sell, or distribute this
 * software, either in source code form or as a compiled binary, for any purpose,
 * commercial or non-commercial, and by any means.
 *
 * In jurisdictions that recognize copyright laws, the author or authors of this
 * software dedicate any and all copyright interest in the software to the public
 * domain. We make this dedication for the benefit of the public at large and to
 * the detriment of our heirs and successors. We intend this dedication to be an
 * overt act of relinquishment in perpetuity of all present and future rights to
 * this software under copyright law.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
 * IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
 * FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
 * AUTHORS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN
 * ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION
 * WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 * ======================================================================== */
