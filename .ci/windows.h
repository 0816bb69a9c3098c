/* windows.h - what csp_test.c takes from POSIX, as far as its tests on Windows want it. Included in place of the
 * headers of POSIX, before csp.h. mingw brings threads, clocks and directories. */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <process.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#undef far // words of 16-bit compilers
#undef near
#undef FAR
#define FAR

#define _SC_PAGESIZE 1
#define _SC_NPROCESSORS_CONF 2
#define _SC_NPROCESSORS_ONLN 2
static inline long sysconf(int what)
{
    return what == _SC_PAGESIZE ? 4096 : (long)GetActiveProcessorCount(ALL_PROCESSOR_GROUPS);
}

#define setsockopt(fd, ...) setsockopt((SOCKET)(fd), __VA_ARGS__)

static inline int pipe(int *fds)
{
    return _pipe(fds, 65536, O_BINARY);
}

static inline int pause(void)
{
    Sleep(INFINITE);
    return -1;
}

/* A thread that ends the process when the time is over; it is there from the first call on. */
static void (*alarm_rings)(int);
static volatile LONG64 alarm_at;
static inline unsigned __stdcall alarm_watch(void *arg)
{
    for (;;) {
        Sleep(100);
        LONG64 at = alarm_at;
        if (at != 0 && (LONG64)GetTickCount64() > at) {
            alarm_at = 0;
            if (alarm_rings != NULL) alarm_rings(0);
            TerminateProcess(GetCurrentProcess(), 142);
        }
    }
    return (unsigned)(uintptr_t)arg;
}

static inline unsigned alarm(unsigned seconds)
{
    static bool on;
    if (!on) { // children end with this process
        JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits;
        HANDLE job = CreateJobObjectW(NULL, NULL);
        memset(&limits, 0, sizeof limits);
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);
        AssignProcessToJobObject(job, GetCurrentProcess());
    }
    alarm_at = seconds == 0 ? 0 : (LONG64)GetTickCount64() + seconds * 1000;
    if (!on) _beginthreadex(NULL, 0, alarm_watch, NULL, 0, NULL);
    on = true;
    return 0;
}

/* A text by way of a file; one at a time. */
static FILE *text_file;
static char **text_of;
static size_t *text_size;
static inline FILE *open_memstream(char **text, size_t *size)
{
    char folder[MAX_PATH], path[MAX_PATH];
    GetTempPathA(sizeof folder, folder);
    GetTempFileNameA(folder, "csp", 0, path);
    text_of = text;
    text_size = size;
    return text_file = fopen(path, "w+bTD"); // T, D: gone with its close
}

static inline int text_close(FILE *f)
{
    if (f == text_file) {
        text_file = NULL;
        *text_size = (size_t)ftell(f);
        *text_of = (char *)calloc(*text_size + 1, 1);
        rewind(f);
        if (fread(*text_of, 1, *text_size, f) != *text_size) abort();
    }
    return fclose(f);
}
#define fclose text_close
