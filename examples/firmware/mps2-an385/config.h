/* config.h - MPS2 AN385: Cortex-M3 at 25 MHz. */
#include "mps2.h"
