/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * event.h - a kqueue over epoll, as kqueue's manual page has it, for tests of the back-end on Linux:
 * its folder's name is given as that of <sys/event.h>.
 *
 * Each filter of each descriptor tells of its own changes: the readers are in one epoll, the writers
 * in another, edge-triggered as EV_CLEAR is, and both are in a third one, whose number the program
 * gets. What a descriptor is registered with is kept where epoll keeps it, so that a closed one is
 * forgotten, and its number's next owner has nothing of it. A child does not inherit a kqueue.
 */
#ifndef KQUEUE_H
#define KQUEUE_H
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct kevent {
    uintptr_t ident;
    short filter;
    unsigned short flags;
    unsigned fflags;
    intptr_t data;
    void *udata;
};
#define EV_SET(k, a, b, c, d, e, f)                                                                \
    do {                                                                                           \
        (k)->ident = (a), (k)->filter = (b), (k)->flags = (c);                                     \
        (k)->fflags = (d), (k)->data = (e), (k)->udata = (f);                                      \
    } while (0)
enum { EVFILT_READ = -1, EVFILT_WRITE = -2, EVFILT_USER = -11 };
enum { EV_ADD = 1, EV_DELETE = 2, EV_CLEAR = 32, EV_ERROR = 0x4000, EV_EOF = 0x8000 };
enum { NOTE_TRIGGER = 0x01000000 };

/* To the thread sanitizer these are the kernel: it does not see how csp.h, which is not
 * instrumented either, shares what it hands over. So the eventfd is used by system calls. */
#if defined(__clang__) && defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KQ_FN static inline __attribute__((disable_sanitizer_instrumentation))
#endif
#elif defined(__SANITIZE_THREAD__)
#define KQ_FN static inline __attribute__((no_sanitize_thread))
#endif
#ifndef KQ_FN
#define KQ_FN static inline
#endif

enum { KQ_READ, KQ_WRITE, KQ_USER, KQ_PARTS };
static struct kq_set {
    int fd, part[KQ_PARTS];
    int on, user; // atomic; user: EVFILT_USER has been added
} kq_sets[8];
static pthread_mutex_t kq_lock = PTHREAD_MUTEX_INITIALIZER;

KQ_FN struct kq_set *kq_of(int fd)
{
    for (int i = 0; i < 8; i++)
        if (__atomic_load_n(&kq_sets[i].on, __ATOMIC_ACQUIRE) && kq_sets[i].fd == fd)
            return &kq_sets[i];
    return NULL;
}

KQ_FN int kq_close(int fd) // close(2), of a kqueue too
{
    struct kq_set *k = fd < 0 ? NULL : kq_of(fd);
    if (k != NULL) {
        __atomic_store_n(&k->on, 0, __ATOMIC_RELEASE);
        for (int i = 0; i < KQ_PARTS; i++) close(k->part[i]);
    }
    return close(fd);
}

KQ_FN void kq_forked(void)
{
    for (int i = 0; i < 8; i++)
        if (kq_sets[i].on) kq_close(kq_sets[i].fd);
}

KQ_FN void kq_watch_forks(void)
{
    pthread_atfork(NULL, NULL, kq_forked);
}

KQ_FN int kqueue(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct kq_set *k = kq_sets;
    pthread_once(&once, kq_watch_forks);
    pthread_mutex_lock(&kq_lock);
    while (k < &kq_sets[8] && __atomic_load_n(&k->on, __ATOMIC_ACQUIRE)) k++;
    if (k == &kq_sets[8]) errno = EMFILE;
    int fd = k == &kq_sets[8] ? -1 : epoll_create1(EPOLL_CLOEXEC);
    if (fd >= 0) {
        k->part[KQ_READ] = epoll_create1(EPOLL_CLOEXEC);
        k->part[KQ_WRITE] = epoll_create1(EPOLL_CLOEXEC);
        k->part[KQ_USER] = (int)syscall(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK);
        int bad = 0;
        for (int i = 0; i < KQ_PARTS; i++) {
            struct epoll_event e = {.events = EPOLLIN, .data = {.u32 = (uint32_t)i}};
            if (k->part[i] < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, k->part[i], &e) != 0) bad = errno;
        }
        if (bad != 0) {
            for (int i = 0; i < KQ_PARTS; i++)
                if (k->part[i] >= 0) close(k->part[i]);
            close(fd);
            pthread_mutex_unlock(&kq_lock);
            errno = bad;
            return -1;
        }
        k->fd = fd;
        __atomic_store_n(&k->user, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&k->on, 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&kq_lock);
    return fd;
}

/* One change; 0 or an errno. udata has 32 bits here. */
KQ_FN int kq_change(struct kq_set *k, const struct kevent *c)
{
    int fd = (int)c->ident, part = k->part[c->filter == EVFILT_READ ? KQ_READ : KQ_WRITE];
    if (c->filter == EVFILT_USER) {
        static const uint64_t one = 1;
        if (c->flags & EV_ADD) __atomic_store_n(&k->user, 1, __ATOMIC_RELAXED);
        if (!__atomic_load_n(&k->user, __ATOMIC_RELAXED)) return ENOENT;
        if (c->fflags & NOTE_TRIGGER && syscall(SYS_write, k->part[KQ_USER], &one, sizeof one) < 0)
            return 0;
        return 0;
    }
    struct epoll_event e = {.events = c->filter == EVFILT_READ ? EPOLLIN | EPOLLRDHUP : EPOLLOUT};
    e.events |= EPOLLET;
    e.data.u64 = (uint64_t)(uintptr_t)c->udata << 32 | (uint32_t)fd;
    if (c->flags & EV_DELETE) return epoll_ctl(part, EPOLL_CTL_DEL, fd, &e) == 0 ? 0 : errno;
    int mode = fcntl(fd, F_GETFL);
    if (mode < 0) return EBADF;
    if ((mode & O_ACCMODE) == (c->filter == EVFILT_READ ? O_WRONLY : O_RDONLY)) return EINVAL;
    if (epoll_ctl(part, EPOLL_CTL_ADD, fd, &e) == 0) return 0;
    if (errno == EEXIST && epoll_ctl(part, EPOLL_CTL_MOD, fd, &e) == 0) return 0;
    return errno;
}

KQ_FN int kq_collect(struct kq_set *k, int filter, struct kevent *out, int room)
{
    struct epoll_event e[64];
    int n = room == 0 ? 0
                      : epoll_wait(k->part[filter == EVFILT_READ ? KQ_READ : KQ_WRITE], e,
                                   room < 64 ? room : 64, 0);
    for (int i = 0; i < n; i++) {
        int fd = (int)(uint32_t)e[i].data.u64, here = 0;
        unsigned over = EPOLLHUP | EPOLLERR | (filter == EVFILT_READ ? (unsigned)EPOLLRDHUP : 0u);
        if (filter == EVFILT_READ) ioctl(fd, FIONREAD, &here);
        out[i] = (struct kevent){(uintptr_t)fd, (short)filter, EV_CLEAR, 0, here, NULL};
        out[i].udata = (void *)(uintptr_t)(e[i].data.u64 >> 32);
        if (e[i].events & over) out[i].flags |= EV_EOF;
    }
    return n < 0 ? 0 : n;
}

KQ_FN int64_t kq_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

KQ_FN int kevent(int kq, const struct kevent *changes, int n, struct kevent *out, int room,
                 const struct timespec *wait)
{
    struct kq_set *k = kq_of(kq);
    uint64_t count;
    int got = 0;
    if (k == NULL) {
        errno = EBADF;
        return -1;
    }
    for (int i = 0; i < n; i++) {
        errno = kq_change(k, &changes[i]);
        if (errno != 0) return -1;
    }
    int64_t end = wait == NULL ? INT64_MAX
                               : kq_ms() + wait->tv_sec * 1000 + (wait->tv_nsec + 999999) / 1000000;
    while (got == 0 && room > 0) {
        struct epoll_event e[KQ_PARTS];
        int64_t left = wait == NULL ? -1 : end - kq_ms();
        if (wait != NULL && left < 0) left = 0;
        int ready = epoll_wait(k->fd, e, KQ_PARTS, left > 1000000 ? 1000000 : (int)left);
        if (ready < 0) return -1;
        if (syscall(SYS_read, k->part[KQ_USER], &count, sizeof count) > 0)
            out[got++] = (struct kevent){0, EVFILT_USER, EV_CLEAR, 0, 0, NULL};
        got += kq_collect(k, EVFILT_READ, out + got, room - got);
        got += kq_collect(k, EVFILT_WRITE, out + got, room - got);
        if (ready == 0 && got == 0 && wait != NULL && left == 0) break;
    }
    return got;
}
#define close(fd) kq_close(fd)
#endif
