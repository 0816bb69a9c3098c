/* sensor.c - the instrument of sensor.h on a board: a timer interrupt samples the sensor, another
 * kind of interrupt brings what comes over the line.
 *
 * What to notice: the handlers are a line each. Between two interrupts the core sleeps. Here the
 * sensor and the sender at the line's other end are played by the tick, so that every board prints
 * the same.
 */
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "board.h"
#include "sensor.h"

static uint64_t memory[1280 * sizeof(void *) / 8]; /* 5 KiB on a 32-bit core, for all of it */
CSP_CHAN_STATIC(int16_t, samples, 8);
CSP_CHAN_STATIC(char, input, 8);
CSP_CHAN_STATIC(char, end, 1);
static volatile uint32_t lost;

void device_put(const char *text)
{
    board_print(text);
}

/* The timer's interrupt: a triangle, with noise. */
static void sample_isr(uint32_t ms)
{
    uint32_t slope = ms % 64 < 32 ? ms % 64 : 64 - ms % 64;
    if (csp_isr_send(samples, (int16_t)(slope * 16 + ms * 7 % 5)) != CSP_OK) lost++;
}

/* The line's interrupt. */
static void input_isr(char c)
{
    if (csp_isr_send(input, c) != CSP_OK) lost++;
}

/* Every half millisecond, one and the other by turns. */
static void tick_isr(void)
{
    static const char says[] = "....................every 16\n" /* a dot: nothing comes */
                               "...............................................hello\n"
                               "..................ever............................"
                               "..................stop\n";
    static uint32_t half;
    uint32_t ms = half / 2;
    if (half++ % 2 == 0)
        sample_isr(ms);
    else if (ms == 300)
        csp_isr_wake(end);
    else if (ms < sizeof says - 1 && says[ms] != '.')
        input_isr(says[ms]);
}

static void firmware(void *arg)
{
    (void)arg;
    start_instrument(csp_recv_end(samples), csp_recv_end(input));
    csp_recv(end, NULL);
    board_print(lost == 0 ? "sensor: ok\n" : "sensor: too slow\n");
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    if (csp_init(&config) != CSP_OK) board_exit(2);
    board_tick_ns = 500000;
    board_start_tick(tick_isr);
    csp_run(firmware, NULL);
    board_exit(0);
}
