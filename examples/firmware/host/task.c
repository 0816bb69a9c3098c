/* task.c - csp inside one task of an operating system, as it would be in FreeRTOS or Zephyr: the
 * port in terms of a lock and a semaphore. Here the tasks are threads.
 *
 * What to notice: whoever else calls csp_isr_send wakes the task afterwards; the semaphore keeps
 * what comes between csp's last look and the wait.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../board.h"

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static sem_t wake;
static void (*tick)(void);
uint32_t board_tick_ns = 1000000;

static int64_t clock_now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t csp_port_now(void)
{
    return clock_now(CLOCK_MONOTONIC);
}

void csp_port_idle(int64_t until)
{
    int64_t ns = until - csp_port_now(), hour = INT64_C(3600) * 1000000000;
    int64_t end = clock_now(CLOCK_REALTIME) + (ns < hour ? ns : hour);
    struct timespec t = {(time_t)(end / 1000000000), (long)(end % 1000000000)};
    pthread_mutex_unlock(&lock);
    if (ns > 0) sem_timedwait(&wake, &t);
    pthread_mutex_lock(&lock);
}

uintptr_t csp_port_irq_save(void)
{
    pthread_mutex_lock(&lock);
    return 0;
}

void csp_port_irq_restore(uintptr_t was)
{
    (void)was;
    pthread_mutex_unlock(&lock);
}

void csp_port_fatal(const char *message)
{
    board_print("fatal: ");
    board_print(message);
    board_print("\n");
    board_exit(3);
}

static void *other_task(void *arg)
{
    for (;;) {
        usleep(board_tick_ns / 1000);
        tick();
        sem_post(&wake);
    }
    return arg;
}

void board_start_tick(void (*isr)(void))
{
    pthread_t thread;
    tick = isr;
    sem_init(&wake, 0, 0);
    pthread_create(&thread, NULL, other_task, NULL);
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
