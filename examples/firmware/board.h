/* board.h - what a board supplies: to csp.h (the five port functions), to the programs
 * beside this file, and within its own files. */
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* to csp.h */
int64_t csp_port_now(void);        // monotonic, ns since the start
void csp_port_idle(int64_t until); // interrupts are masked: sleep until one is pending
uintptr_t csp_port_irq_save(void); // mask them, say what was
void csp_port_irq_restore(uintptr_t was);
_Noreturn void csp_port_fatal(const char *message);
void csp_port_preempt(bool pending); // with CSP_PREEMPT, and not on Cortex-M

/* from csp.h, for the handler of faults */
_Noreturn void csp_isr_overflow(const void *at);

/* to programs */
void board_start_tick(void (*isr)(void)); // calls isr every board_tick_ns, as an interrupt
extern uint32_t board_tick_ns;            // a millisecond, unless changed before
/* Two more interrupts, raised by software. Both are of lower priority than the tick, and `middle`
 * is of higher priority than `low`. False: no handler interrupts another on this board. */
bool board_nest(void (*middle)(void), void (*low)(void));
void board_pend(bool middle, bool low); // raises them
void board_print(const char *text);
_Noreturn void board_exit(int code); // leaves the emulator; a real board just stops

/* Boards with two cores. The second one calls the function on a stack of its own. A doorbell is an
 * interrupt of the core that it rings. Its handler finds what this core has stored before. */
void board_start_core(void (*runs)(void));
void board_on_doorbell(void (*isr)(void)); // of the core that calls
void board_doorbell(unsigned core);

/* A call of the debugger, or the emulator, by semihosting; Cortex-M. HOST_WRITE: the text. */
enum { HOST_WRITE = 4 };
uint32_t board_host(uint32_t call, const void *arg);

/* Where interrupt handlers have their stack: nothing of theirs lies on a goroutine's, save
 * what the core itself puts there. Set by the linker script. */
extern uint32_t handler_stack_low[], handler_stack_end[];

/* within a board: a 32-bit counter that counts up, and one wake-up (see clock32.c) */
void board_init(void); // timers and the serial line, before main
uint32_t board_counter(void);
void board_wake_in(uint32_t counts); // pends an interrupt then, at once when it is too late
void board_clock_kept(void);         // the wake-up's handler calls it (see clock32.c)
void board_wait(void);               // masked: until an interrupt is pending

#endif
