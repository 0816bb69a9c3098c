/* windows.h - what csp_test.c takes from POSIX, as far as its tests on Windows want it.
 * Included in place of the headers of POSIX, before csp.h. mingw brings threads and clocks. */
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

/* A process that dies of a fault does so at once: no debugger, no window. Children inherit it. */
__attribute__((constructor)) static void no_debugger(void)
{
    SetErrorMode(SEM_NOGPFAULTERRORBOX | SEM_FAILCRITICALERRORS);
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

/* A text by way of a file. */
static struct {
    FILE *file;
    char **text;
    size_t *size;
} texts[16];
static pthread_mutex_t texts_lock = PTHREAD_MUTEX_INITIALIZER;

static inline FILE *open_memstream(char **text, size_t *size)
{
    char folder[MAX_PATH], path[MAX_PATH];
    int i = 0;
    GetTempPathA(sizeof folder, folder);
    GetTempFileNameA(folder, "csp", 0, path);
    FILE *f = fopen(path, "w+bTD"); // T, D: gone with its close
    pthread_mutex_lock(&texts_lock);
    while (i < 15 && texts[i].file != NULL) i++;
    texts[i].file = f;
    texts[i].text = text;
    texts[i].size = size;
    pthread_mutex_unlock(&texts_lock);
    return f;
}

static inline int text_close(FILE *f)
{
    int i = 0;
    pthread_mutex_lock(&texts_lock);
    while (i < 16 && texts[i].file != f) i++;
    if (i < 16) {
        size_t size = (size_t)ftell(f);
        char *text = (char *)calloc(size + 1, 1);
        rewind(f);
        if (text == NULL || fread(text, 1, size, f) != size) abort();
        *texts[i].text = text;
        *texts[i].size = size;
        texts[i].file = NULL;
    }
    pthread_mutex_unlock(&texts_lock);
    return fclose(f);
}
#define fclose text_close
