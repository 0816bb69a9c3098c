/* clock_test.c - does the clock survive a program that neither idles nor looks at it for more than
 * a turn of the hardware's counter? Built for `make clock`: under -icount shift=10 each instruction
 * takes a microsecond of the board's time, so that three minutes pass soon.
 */
#include "board.h"

int main(void)
{
    int64_t start = csp_port_now();

    for (volatile uint32_t i = 0; i < 36000000; i++) continue; // six instructions each
    int64_t passed = csp_port_now() - start;
    if (passed < 180 * INT64_C(1000000000)) csp_port_fatal("clock: a turn was lost");
    board_print("clock: ok\n");
    return 0;
}
