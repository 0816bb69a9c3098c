/* The system's headers as they were before the calls that csp.h can do without. */
#include <sys/syscall.h>
#undef SYS_preadv2
#undef SYS_membarrier
#undef SYS_accept4
