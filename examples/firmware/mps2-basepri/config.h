/* config.h - MPS2 AN386, a Cortex-M4F, with csp masked by BASEPRI instead of PRIMASK: interrupts of
 * the priorities 0x00 to 0x7f are never held back. */
#define MASK_PRIORITY 0x80
#include "mps2.h"
