/* config.h - MPS2 AN500: Cortex-M7 with FPU at 25 MHz. */
#include "mps2.h"
