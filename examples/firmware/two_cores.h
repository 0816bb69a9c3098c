/* two_cores.h - what the two cores of two_cores.c share. */
#include "link.h"

enum { MESSAGES = 10000, ROOM = 4 };
extern ring there, back, control; // 0 to 1, 1 to 0, 0 to 1
void second_core(void);
