/* traced.c - what the core did, as a picture: the hooks note it, semihosting carries it out.
 *
 *     make -C examples/firmware trace
 *
 * What to notice: a hook runs within a switch, so it only notes the moment, and the text is made at
 * the end. The end here is a panic: CSP_HOOK_FATAL writes the trace of what led to it. The picture
 * is drawn by examples/debug/trace_svg.py, and ui.perfetto.dev opens the file as well.
 */
#include <stdint.h>

enum kind { SWITCH, READY, HANDLER, IDLE };
static void note(enum kind kind, uint32_t id, const char *name);
static void write_trace(void);

#define CSP_HOOK_SWITCH(id, name) note(SWITCH, id, name)
#define CSP_HOOK_READY(id, name) note(READY, id, name)
#define CSP_HOOK_HANDLER(call) note(HANDLER, 0, call)
#define CSP_HOOK_IDLE(until) note(IDLE, 0, "asleep")
#define CSP_HOOK_FATAL(message) write_trace()
#define CSP_BARE
#define CSP_IMPLEMENTATION
#include "csp.h"

#include "board.h"

/* ---- notes ---- */

static struct noted {
    uint32_t at; // ns
    uint16_t id;
    uint8_t kind, in_handler;
    const char *name;
} notes[512];
static uint32_t noted;

static void note(enum kind kind, uint32_t id, const char *name)
{
    uintptr_t was = csp_port_irq_save(); // a switch notes with interrupts on
    uint32_t number;
    __asm__ volatile("mrs %0, ipsr" : "=r"(number));
    if (noted < sizeof notes / sizeof notes[0])
        notes[noted++] = (struct noted){(uint32_t)csp_port_now(), (uint16_t)id, (uint8_t)kind,
                                        number != 0, name};
    csp_port_irq_restore(was);
}

/* ---- the file ---- */

static char line[160], *end = line;

static void put(const char *text)
{
    while (*text != 0 && end < line + sizeof line - 1) *end++ = *text++;
}

static void put_number(uint32_t n)
{
    char digits[11], *d = digits + 10;
    *d = 0;
    do *--d = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    put(d);
}

static void put_us(uint32_t ns)
{
    put_number(ns / 1000);
    put(".");
    for (uint32_t unit = 100; unit > 0; unit /= 10) put_number(ns / unit % 10);
}

static void entry(const char *kind, int row, uint32_t at)
{
    put("{\"ph\":\"");
    put(kind);
    put("\",\"pid\":1,\"tid\":");
    put_number((uint32_t)row);
    put(",\"ts\":");
    put_us(at);
}

static void end_line(const char *text)
{
    put(text);
    *end = 0;
    board_host(HOST_WRITE, line);
    end = line;
}

static void box(int row, const struct noted *from, uint32_t to)
{
    entry("X", row, from->at);
    put(",\"dur\":");
    put_us(to - from->at);
    put(",\"name\":\"");
    put(from->name);
    if (from->id != 0) {
        put("\",\"args\":{\"g\":");
        put_number(from->id);
        end_line("}},\n");
    } else {
        end_line("\"},\n");
    }
}

/* One end of an arrow from what made a goroutine runnable to its turn. */
static void arrow(const char *kind, int row, uint32_t at, const struct noted *ready)
{
    entry(kind, row, at);
    put(",\"cat\":\"wake\",\"name\":\"wake\",\"bp\":\"e\",\"id\":");
    put_number((uint32_t)(ready - notes));
    end_line("},\n");
}

static void name_row(int row, const char *name)
{
    entry("M", row, 0);
    put(",\"name\":\"thread_name\",\"args\":{\"name\":\"");
    put(name);
    end_line(row == 2 ? "\"}}]\n" : "\"}},\n");
}

static void write_trace(void)
{
    const struct noted *last = notes + noted, *turn = NULL;
    uint32_t now = (uint32_t)csp_port_now();
    board_host(HOST_WRITE, "[\n");
    for (const struct noted *n = notes; n < last; n++) {
        if (n->kind == HANDLER) box(2, n, n->at + 500);
        if (n->kind == READY) { // to its next turn
            const struct noted *then = n;
            while (then < last && (then->kind != SWITCH || then->id != n->id)) then++;
            if (then == last) continue;
            arrow("s", n->in_handler ? 2 : 1, n->at, n);
            arrow("f", 1, then->at, n);
        }
        if (n->kind != SWITCH && n->kind != IDLE) continue;
        if (turn != NULL && turn->name[0] != 0) box(1, turn, n->at);
        turn = n;
    }
    if (turn != NULL && turn->name[0] != 0) box(1, turn, now);
    name_row(1, "core");
    name_row(2, "handlers");
}

/* ---- the firmware ---- */

CSP_CHAN_STATIC(uint32_t, samples, 4);
static uint64_t memory[1536 * sizeof(void *) / 8];

static void tick_isr(void)
{
    static uint32_t sample;
    csp_isr_send(samples, sample++);
}

csp_task(averages, csp_sender(uint32_t), out)
{
    for (uint32_t sum = 0, n = 1, v; csp_recv(samples, &v); n++) {
        sum += v;
        if (n % 4 == 0) csp_send(out, sum / 4);
        if (n % 4 == 0) sum = 0;
    }
}

csp_task(blinks)
{
    for (;;) csp_sleep(150 * CSP_MICROSECOND);
}

csp_task(shows, csp_receiver(uint32_t), in)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) csp_recv(in, &v);
    csp_panic("the average is %u", (unsigned)v);
}

static void firmware(void *arg)
{
    csp_chan(uint32_t) averaged = csp_make(uint32_t, 0);
    (void)arg;
    csp_go(averages, csp_send_end(averaged));
    csp_go(blinks);
    csp_go(shows, csp_recv_end(averaged));
    board_tick_ns = 50000;
    board_start_tick(tick_isr);
    csp_sleep(CSP_SECOND);
}

int main(void)
{
    csp_config config = {.memory = memory, .memory_size = sizeof memory};
    if (csp_init(&config) == CSP_OK) csp_run(firmware, NULL);
    board_exit(0);
}
