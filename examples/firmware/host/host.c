/* host.c - a Linux process as a board: main's thread is the core, SIGALRM its interrupt, on a
 * stack of its own. For trying firmware without an emulator, and with a debugger. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "../board.h"

uint32_t board_tick_ns = 1000000;
static void (*tick)(void);

static sigset_t interrupts(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigaddset(&set, SIGUSR1); // of csp_preempt
    return set;
}

int64_t csp_port_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Unmasks while it sleeps: that is when the handler runs. */
void csp_port_idle(int64_t until)
{
    int64_t ns = until - csp_port_now();
    struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    sigset_t none;
    sigemptyset(&none);
    if (ns > 0) ppoll(NULL, 0, until == INT64_MAX ? NULL : &t, &none);
}

uintptr_t csp_port_irq_save(void)
{
    sigset_t set = interrupts(), was;
    sigprocmask(SIG_BLOCK, &set, &was);
    return (uintptr_t)sigismember(&was, SIGALRM);
}

void csp_port_irq_restore(uintptr_t was)
{
    sigset_t set = interrupts();
    if (was == 0) sigprocmask(SIG_UNBLOCK, &set, NULL);
}

#ifdef CSP_PREEMPT
/* SIGUSR1 is the interrupt of csp_preempt. It stays pending while SIGALRM's handler runs. Its own
 * handler runs on the goroutine's stack, where the kernel has saved all registers. */
void csp_preempt(void);

static void on_preempt(int signo)
{
    (void)signo;
    csp_preempt();
}

void csp_port_preempt(bool pending)
{
    static bool installed;
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_preempt;
    action.sa_flags = SA_RESTART;
    action.sa_mask = interrupts();
    if (!installed) sigaction(SIGUSR1, &action, NULL);
    installed = true;
    if (pending) raise(SIGUSR1);
}
#endif

void csp_port_fatal(const char *message)
{
    board_print("fatal: ");
    board_print(message);
    board_print("\n");
    board_exit(3);
}

static void on_alarm(int signo)
{
    (void)signo;
    tick();
}

void board_start_tick(void (*isr)(void))
{
    static char stack[64 * 1024];
    stack_t alternative = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action;
    struct itimerval each = {{0, board_tick_ns / 1000}, {0, board_tick_ns / 1000}};
    tick = isr;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_alarm;
    action.sa_flags = SA_ONSTACK | SA_RESTART;
    action.sa_mask = interrupts();
    sigaltstack(&alternative, NULL);
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &each, NULL);
}

void board_print(const char *text)
{
    ssize_t n = write(1, text, strlen(text));
    (void)n;
}

void board_exit(int code)
{
    _exit(code);
}
