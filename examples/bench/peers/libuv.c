/* libuv.c - rows of specialists.c with libuv's timers: `libuv timers [N]`. A handle lies in the
 * program's own memory, and is closed before that may be used again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <uv.h>

static int fired;

static void fires(uv_timer_t *t)
{
    (void)t;
    fired++;
}

static double cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

int main(int argc, char **argv)
{
    int n = argc > 2 ? atoi(argv[2]) : 100000;
    const char *name = argc > 1 ? argv[1] : "timers";
    uv_timer_t *t = malloc((size_t)n * sizeof *t);
    uv_loop_t *loop = uv_default_loop();
    uint32_t x = 1;
    if (t == NULL) return 1;
    double cpu = cpu_us();
    uint64_t start = uv_hrtime();
    uv_update_time(loop);
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        uv_timer_init(loop, &t[i]);
        uv_timer_start(&t[i], fires, 1000 + (x >> 16) % 1000, 0);
    }
    printf("%s_start %.3f ns\n", name, (double)(uv_hrtime() - start) / n);
    uv_run(loop, UV_RUN_DEFAULT);
    for (int i = 0; i < n; i++) uv_close((uv_handle_t *)&t[i], NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    printf("%s_cpu %.3f us\n", name, (cpu_us() - cpu) / n);
    if (fired != n) return 2;
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        uv_timer_init(loop, &t[i]);
        uv_timer_start(&t[i], fires, 3600000 + (x >> 16) % 1000, 0);
    }
    start = uv_hrtime();
    for (int i = 0; i < n; i++) uv_close((uv_handle_t *)&t[i], NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    printf("%s_cancel %.3f ns\n", name, (double)(uv_hrtime() - start) / n);
    uv_loop_close(loop);
    free(t);
    return 0;
}
