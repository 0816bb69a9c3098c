/* sensor_simulated.c - the instrument of sensor.h on the host: two thousand schedules, none of
 * which needs more time than it takes to compute.
 *
 * What to notice: the interrupts are a goroutine that sleeps in virtual time, so that LATE and
 * ALIVE cost nothing to wait for, and what they bring is drawn from the seed. A run that goes wrong
 * is named by its seed, and CSP_SEED=n plays it again.
 */
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <string.h>

#include "../sensor.h"

static int frames, values, lost;
static char answers[64]; // the first letter of each

static void expect(bool right, const char *what, const char *frame)
{
    if (!right) csp_panic("%s: %s", what, frame);
}

/* The line: looks at what is sent. */
void device_put(const char *frame)
{
    unsigned sum = 0, stated = 0;
    int end = 0, number = 0, value = 0;
    csp_yield(); /* sending takes its time, and others run meanwhile */
    for (const char *s = frame + 1; *s != 0 && *s != '*'; s++) sum ^= (unsigned char)*s;
    expect(sscanf(frame, "$%*[^*]*%2x%n", &stated, &end) == 1 && strcmp(frame + end, "\n") == 0,
           "no frame", frame);
    expect(sum == stated, "wrong sum", frame);
    frames++;
    if (sscanf(frame, "$VALUE,%d,%d", &number, &value) == 2) {
        expect(number == values++, "out of order", frame);
        expect(value >= 0 && value <= 516, "out of range", frame);
    } else if (strncmp(frame, "$ALIVE", 6) != 0) {
        size_t n = strlen(answers);
        if (n + 1 < sizeof answers) memcpy(answers + n, (char[]){frame[1], 0}, 2);
    }
}

typedef struct world {
    csp_chan(int16_t) samples;
    csp_chan(char) input;
} world;

static void millisecond(world *w, int ms)
{
    uint32_t slope = ms % 64 < 32 ? (uint32_t)ms % 64 : 64 - (uint32_t)ms % 64;
    if (csp_try_send(w->samples, (int16_t)(slope * 16 + csp_sim_choose(5))) != CSP_OK) lost++;
    csp_sleep(CSP_MILLISECOND);
}

static void type(world *w, const char *line, int *ms)
{
    for (int late = *ms + 15; *line != 0; line++) { /* not so slowly that it is LATE */
        if (csp_try_send(w->input, *line) != CSP_OK) lost++;
        if (csp_sim_choose(2) == 0 && *ms < late) millisecond(w, (*ms)++); /* or several at once */
    }
}

static void run(void *arg)
{
    static const char *const lines[] = {"every 4\n", "every 100\n",
                                        "stop\n",    "stopp\n",
                                        "\n",        "what is far too long for any command\n",
                                        "every"};
    static const char expected[] = "OEOEEEL";
    world w = {csp_make(int16_t, 8), csp_make(char, 64)};
    char want[64] = "";
    int ms = 0;
    (void)arg;
    frames = values = lost = 0;
    answers[0] = 0;
    start_instrument(csp_recv_end(w.samples), csp_recv_end(w.input));
    for (int i = 0; i < 12; i++) {
        uint32_t which = csp_sim_choose(sizeof lines / sizeof lines[0]);
        type(&w, lines[which], &ms);
        memcpy(want + i, (char[]){expected[which], 0}, 2);
        for (int pause = 40 + (int)csp_sim_choose(80); pause > 0; pause--) millisecond(&w, ms++);
    }
    csp_close(w.samples);
    csp_close(w.input);
    while (csp_count() > 1) csp_sleep(CSP_MILLISECOND);
    expect(strcmp(answers, want) == 0, "answers", answers);
    expect(lost == 0 && frames >= 12, "lost", "");
}

int main(void)
{
    csp_sim sim = {.seed = 1, .runs = 2000, .max_steps = 10000000, .file = stderr};
    csp_sim_report report = csp_simulate(&sim, run, NULL);
    printf("sensor_simulated: %s, %llu runs\n", csp_sim_outcome_name(report.outcome),
           (unsigned long long)report.runs);
    return report.outcome != CSP_SIM_OK;
}
