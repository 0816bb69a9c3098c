/* libevent.c - rows of specialists.c with libevent's timers: `libevent timers [N]`. */
#include <event2/event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static int fired;

static void fires(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    fired++;
}

static double cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static struct event *start(struct event_base *base, uint32_t ms)
{
    struct timeval after = {ms / 1000, ms % 1000 * 1000};
    struct event *t = evtimer_new(base, fires, NULL);
    if (t == NULL || evtimer_add(t, &after) != 0) exit(1);
    return t;
}

int main(int argc, char **argv)
{
    int n = argc > 2 ? atoi(argv[2]) : 100000;
    const char *name = argc > 1 ? argv[1] : "timers";
    struct event **t = malloc((size_t)n * sizeof *t);
    struct event_base *base = event_base_new();
    uint32_t x = 1;
    if (t == NULL || base == NULL) return 1;
    double cpu = cpu_us(), began = now();
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        t[i] = start(base, 1000 + (x >> 16) % 1000);
    }
    printf("%s_start %.3f ns\n", name, (now() - began) / n);
    event_base_dispatch(base);
    for (int i = 0; i < n; i++) event_free(t[i]);
    printf("%s_cpu %.3f us\n", name, (cpu_us() - cpu) / n);
    if (fired != n) return 2;
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        t[i] = start(base, 3600000 + (x >> 16) % 1000);
    }
    began = now();
    for (int i = 0; i < n; i++) event_free(t[i]); /* stops it, too */
    printf("%s_cancel %.3f ns\n", name, (now() - began) / n);
    event_base_free(base);
    free(t);
    return 0;
}
