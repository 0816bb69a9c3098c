/* config.h - MPS2 AN386: Cortex-M4 with FPU at 25 MHz. */
#include "mps2.h"
