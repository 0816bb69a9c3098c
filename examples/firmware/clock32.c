/* clock32.c - time and idling on a free-running 32-bit counter and a one-shot wake-up.
 *
 * The counter wraps (every 71 minutes at 1 MHz, every 3 at 25 MHz), the time may not. A wrap
 * is noticed by reading a smaller value than last time, so the counter has to be read at least
 * once a turn, also when goroutines compute for minutes and nothing idles. So the wake-up is always
 * set, for a sleep's end or else a quarter of a turn ahead, and its handler reads. The boards start
 * their counters shortly before a wrap, so that no program first meets one after an hour.
 */
#include "board.h"

#include "config.h"

#define KEEP (1u << 30) // counts

static uint32_t high, seen, first; // guarded by masking interrupts

int64_t csp_port_now(void)
{
    uintptr_t was = csp_port_irq_save();
    uint32_t low = board_counter();

    if (!first) {
        seen = low, first = low | 1;
        board_wake_in(KEEP);
    }
    if (low < seen) high++;
    seen = low;
    uint64_t count = ((uint64_t)high << 32 | low) - first;
    csp_port_irq_restore(was);
    return (int64_t)count < 0 ? 0 : (int64_t)(count * NS_PER_COUNT);
}

/* Masked, or by the handler of the wake-up. */
void board_clock_kept(void)
{
    csp_port_now();
    board_wake_in(KEEP);
}

/* An interrupt that is pending, though masked, ends the WFI: one that came after the caller
 * looked for work and before the WFI is not slept through. Its handler runs when the caller
 * unmasks. To return early is allowed, the caller looks again. */
void csp_port_idle(int64_t until)
{
    const uint32_t longest = 4000000000u;
    int64_t now = csp_port_now();

    if (until <= now) return;
    uint64_t wait = (uint64_t)until - (uint64_t)now;
    uint32_t ns = wait < longest ? (uint32_t)wait : longest;
    board_wake_in((ns + NS_PER_COUNT - 1) / NS_PER_COUNT);
    board_wait();
    board_clock_kept();
}
