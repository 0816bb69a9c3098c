/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * seccomp ANSWER CALL... -- PROGRAM ARGUMENT... - runs a program whose system calls are refused, as
 * container runtimes and sandboxes do. ANSWER is ENOSYS, EPERM or KILL; a CALL is a name from the
 * table below, or madvise:ADVICE for one advice of it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__i386__)
#define ARCH AUDIT_ARCH_I386
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "which AUDIT_ARCH_*?"
#endif

static const struct {
    const char *name;
    uint32_t number;
} calls[] = {
    {"preadv2", SYS_preadv2},
    {"membarrier", SYS_membarrier},
    {"process_madvise", 440},
    {"epoll_pwait2", 441},
    {"accept4", SYS_accept4},
    {"sched_getaffinity", SYS_sched_getaffinity},
    {"prctl", SYS_prctl},
    {"madvise", SYS_madvise},
};

enum { MOST = 128 };
static struct sock_filter filter[MOST];
static unsigned short length;

static void add(struct sock_filter f)
{
    if (length == MOST) exit(125);
    filter[length++] = f;
}

static void load(size_t offset)
{
    add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

/* Goes on with the next instruction, or `over` after it. */
static void unless(uint32_t value, uint8_t over)
{
    add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, over));
}

static void answer(uint32_t what)
{
    add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what));
}

/* The number is loaded before, and afterwards. */
static void refuse(const char *call, uint32_t what)
{
    size_t n = strcspn(call, ":");
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        if (strlen(calls[i].name) != n || memcmp(calls[i].name, call, n) != 0) continue;
        unless(calls[i].number, call[n] == 0 ? 1 : 4);
        if (call[n] != 0) {
            load(offsetof(struct seccomp_data, args) + 2 * sizeof(uint64_t)); // low half first
            unless((uint32_t)atoi(call + n + 1), 1);
        }
        answer(what);
        if (call[n] != 0) load(offsetof(struct seccomp_data, nr));
        return;
    }
    fprintf(stderr, "seccomp: what is %s?\n", call);
    exit(125);
}

int main(int argc, char **argv)
{
    int at = 2;
    uint32_t what = argc < 4                         ? 0
                    : strcmp(argv[1], "ENOSYS") == 0 ? SECCOMP_RET_ERRNO | ENOSYS
                    : strcmp(argv[1], "EPERM") == 0  ? SECCOMP_RET_ERRNO | EPERM
                    : strcmp(argv[1], "KILL") == 0   ? SECCOMP_RET_KILL_PROCESS
                                                     : 0;
    if (what == 0) return 125;
    load(offsetof(struct seccomp_data, arch));
    unless(ARCH, 1);
    add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0));
    answer(SECCOMP_RET_ALLOW);
    load(offsetof(struct seccomp_data, nr));
    while (at < argc && strcmp(argv[at], "--") != 0) refuse(argv[at++], what);
    answer(SECCOMP_RET_ALLOW);
    if (at + 1 >= argc) return 125;
    struct sock_fprog program = {length, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        perror("seccomp");
        return 125;
    }
    execvp(argv[at + 1], argv + at + 1);
    perror(argv[at + 1]);
    return 127;
}
