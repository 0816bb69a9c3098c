/* sensor.h - a small instrument, whatever it runs on: filters samples, reports every so many of
 * them, and obeys commands that come over the line.
 *
 *     interrupt -> samples -> filters ---values---> reports -> the line
 *                                ^                     ^
 *     interrupt -> input --> obeys ------answers-------+
 *
 * What to notice: each goroutine is a loop that reads like what it does, with its state in local
 * variables; there is no state machine and no flag that an interrupt sets. It is the same on a
 * board, where the two channels on the left are filled by interrupt handlers (sensor.c), and in the
 * simulator, which tries thousands of schedules (host/sensor_simulated.c). When these are closed,
 * all of it ends.
 *
 *     every N      report each N-th value, 1 to 99; answer OK
 *     stop         report none; answer OK
 *     other text   answer ERROR; a line that is not finished in time: LATE
 */
#define LINE_MAX 16
#define LINE_TIME (20 * CSP_MILLISECOND)
#define ALIVE_TIME (50 * CSP_MILLISECOND)
#define ON_LINE 32 // bytes of a frame, at most

extern void device_put(const char *text); // the line, outwards

typedef struct answer {
    const char *text;
} answer;

/* ---- filters: a low pass, and every N-th value of it ---- */

csp_task(filters, csp_receiver(int16_t), samples, csp_receiver(int), every, csp_sender(int), values)
{
    int32_t level = 0; // times 16
    int seen = 0, n = 8;
    int16_t sample;
    bool ok;
    for (;;) {
        if (csp_select(CSP_RECV(samples, &sample, &ok), CSP_RECV(every, &n)) == 1) continue;
        if (!ok) {
            csp_close(values);
            return;
        }
        level += (sample * 16 - level) / 4;
        if (n != 0 && ++seen >= n) {
            csp_send(values, level / 16);
            seen = 0;
        }
    }
}

/* ---- reports: "$VALUE,7,512*2a"; after the star, the xor of what is between ---- */

static char *append(char *to, const char *text)
{
    while (*text != 0) *to++ = *text++;
    return to;
}

static char *append_number(char *to, int n)
{
    char digits[12], *s = &digits[11];
    *s = 0;
    for (unsigned v = n < 0 ? 0u - (unsigned)n : (unsigned)n; v != 0 || *s == 0; v /= 10)
        *--s = (char)('0' + v % 10);
    if (n < 0) *to++ = '-';
    return append(to, s);
}

static void put_frame(const char *text)
{
    char frame[ON_LINE], *to = append(append(frame, "$"), text);
    unsigned sum = 0;
    for (; *text != 0; text++) sum ^= (unsigned char)*text;
    *to++ = '*';
    *to++ = "0123456789abcdef"[sum >> 4 & 15];
    *to++ = "0123456789abcdef"[sum & 15];
    append(to, "\n")[0] = 0;
    device_put(frame);
}

csp_task(reports, csp_receiver(int), values, csp_receiver(answer), answers)
{
    char text[ON_LINE - 6];
    int number = 0, value;
    answer a;
    bool ok;
    while (values != NULL || answers != NULL) { /* what has been closed is never ready as NULL */
        switch (csp_select(CSP_RECV(values, &value, &ok), CSP_RECV(answers, &a, &ok),
                           CSP_AFTER(ALIVE_TIME))) {
        case 0:
            if (ok) {
                char *to = append_number(append(text, "VALUE,"), number++);
                *append_number(append(to, ","), value) = 0;
                put_frame(text);
            } else {
                values = NULL;
            }
            break;
        case 1:
            if (ok)
                put_frame(a.text);
            else
                answers = NULL;
            break;
        case 2: put_frame("ALIVE"); break;
        }
    }
}

/* ---- obeys: characters to lines to commands ---- */

/* What follows `word` in the line, or NULL. */
static const char *after(const char *line, const char *word)
{
    for (; *word != 0; line++, word++)
        if (*line != *word) return NULL;
    return line;
}

/* N of the command that sets it, or -1. */
static int parse(const char *line)
{
    int n = 0;
    const char *rest = after(line, "stop");
    if (rest != NULL) return *rest == 0 ? 0 : -1;
    rest = after(line, "every ");
    if (rest == NULL) return -1;
    for (; *rest >= '0' && *rest <= '9' && n < 100; rest++) n = n * 10 + (*rest - '0');
    return *rest == 0 && n > 0 && n < 100 ? n : -1;
}

csp_task(obeys, csp_receiver(char), input, csp_sender(int), every, csp_sender(answer), answers)
{
    char line[LINE_MAX + 1], c;
    size_t used = 0;
    int64_t until = CSP_FOREVER; // a line in the making must be finished then
    bool ok;
    for (;;) {
        if (csp_select(CSP_RECV(input, &c, &ok), CSP_UNTIL(until)) == 1) {
            csp_send(answers, (answer){"LATE"});
            used = 0;
            until = CSP_FOREVER;
        } else if (!ok) {
            csp_close(answers);
            return;
        } else if (c != '\n') {
            if (used == 0) until = csp_now() + LINE_TIME;
            if (used < LINE_MAX) line[used++] = c; /* what is too long is no command in any case */
        } else {
            line[used] = 0;
            int n = parse(line);
            if (n >= 0) csp_send(every, n);
            csp_send(answers, (answer){n >= 0 ? "OK" : "ERROR"});
            used = 0;
            until = CSP_FOREVER;
        }
    }
}

/* Starts it: three goroutines and three channels. */
static void start_instrument(csp_receiver(int16_t) samples, csp_receiver(char) input)
{
    csp_chan(int) values = csp_make(int, 2), every = csp_make(int, 0);
    csp_chan(answer) answers = csp_make(answer, 0);
    csp_go(filters, samples, csp_recv_end(every), csp_send_end(values));
    csp_go(reports, csp_recv_end(values), csp_recv_end(answers));
    csp_go(obeys, input, csp_send_end(every), csp_send_end(answers));
}
