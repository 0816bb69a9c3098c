/* echo_uring.c - what io_uring would save an echo server, without csp.h.
 * `echo_uring WAY [WORKERS] [PLACE] [CONNECTIONS]` prints the CPU time and the system calls of the
 * server for each request. The client is a process of its own: one thread, on epoll.
 *
 *   WAY    calls   epoll_wait(2), then recv(2) and send(2) for each that is ready, as csp.h does
 *          batch   epoll_wait(2), then a batch of receives and a batch of sends; none waits
 *          wait    the receives wait in the ring, there is no epoll
 *   PLACE  same    the client has the server's CPU
 *          apart   the client has another CPU
 *          any     wherever the system puts the two (the default)
 *
 * Each worker has a ring of its own: IORING_SETUP_SINGLE_ISSUER and _DEFER_TASKRUN, Linux 6.1. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024, LOT = 128, SIZE = 512 };
enum { CALLS, BATCH, WAIT };

typedef struct ring {
    int fd;
    unsigned *head, *tail, *done, *made, mask, made_mask, next;
    struct io_uring_sqe *sqe;
    struct io_uring_cqe *cqe;
} ring;

typedef struct worker {
    pthread_t thread;
    int id;
    double requests, calls;
} worker;

static int way, workers = 1, connections = 64, fds[MOST];
static char buffers[MOST][SIZE];

static void must(int ok, const char *what)
{
    if (ok) return;
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void pin(size_t cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    must(sched_setaffinity(0, sizeof set, &set) == 0, "sched_setaffinity");
}

static void add(int epoll, int fd, int id)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data = {.fd = id}};
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0, "epoll_ctl");
}

static void ring_open(ring *r)
{
    struct io_uring_params p = {.cq_entries = 2 * MOST};
    p.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE;
    r->fd = (int)syscall(SYS_io_uring_setup, MOST, &p);
    must(r->fd >= 0, "io_uring_setup");
    size_t size = p.cq_off.cqes + p.cq_entries * sizeof *r->cqe;
    size_t with_order = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    char *m = mmap(NULL, with_order > size ? with_order : size, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQ_RING);
    r->sqe = mmap(NULL, p.sq_entries * sizeof *r->sqe, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_POPULATE, r->fd, IORING_OFF_SQES);
    must(m != MAP_FAILED && r->sqe != MAP_FAILED, "mmap");
    r->head = (unsigned *)(void *)(m + p.sq_off.head);
    r->tail = (unsigned *)(void *)(m + p.sq_off.tail);
    r->mask = p.sq_entries - 1;
    r->done = (unsigned *)(void *)(m + p.cq_off.head);
    r->made = (unsigned *)(void *)(m + p.cq_off.tail);
    r->made_mask = p.cq_entries - 1;
    r->cqe = (struct io_uring_cqe *)(void *)(m + p.cq_off.cqes);
    r->next = 0;
    unsigned *order = (unsigned *)(void *)(m + p.sq_off.array);
    for (unsigned i = 0; i < p.sq_entries; i++) order[i] = i;
}

/* An operation on connection i; its completion says which, and whether it was a send. */
static void ring_put(ring *r, int op, int i, unsigned size, unsigned how, int flags)
{
    struct io_uring_sqe *s = &r->sqe[r->next++ & r->mask];
    memset(s, 0, sizeof *s);
    s->opcode = (uint8_t)op;
    s->ioprio = (uint16_t)how;
    s->fd = fds[i];
    s->addr = (uint64_t)(uintptr_t)buffers[i];
    s->len = size;
    s->msg_flags = (uint32_t)(flags | MSG_NOSIGNAL);
    s->user_data = (uint64_t)i * 2 + (op == IORING_OP_SEND);
}

static void ring_enter(worker *w, ring *r, unsigned wait)
{
    unsigned n = r->next - __atomic_load_n(r->head, __ATOMIC_ACQUIRE);
    __atomic_store_n(r->tail, r->next, __ATOMIC_RELEASE);
    must(syscall(SYS_io_uring_enter, r->fd, n, wait, IORING_ENTER_GETEVENTS, NULL, 0) >= 0,
         "enter");
    w->calls++;
}

/* The next completion, or NULL. It stays valid until the next call. */
static const struct io_uring_cqe *ring_take(ring *r)
{
    unsigned at = *r->done;
    if (at == __atomic_load_n(r->made, __ATOMIC_ACQUIRE)) return NULL;
    const struct io_uring_cqe *c = &r->cqe[at & r->made_mask];
    __atomic_store_n(r->done, at + 1, __ATOMIC_RELEASE);
    return c;
}

static void serve_by_calls(worker *w, int epoll, int live)
{
    struct epoll_event e[LOT];
    while (live > 0) {
        int n = epoll_wait(epoll, e, LOT, -1);
        w->calls++;
        for (int i = 0; i < n; i++) {
            int c = e[i].data.fd;
            ssize_t k = recv(fds[c], buffers[c], SIZE, MSG_DONTWAIT);
            w->calls++;
            if (k == 0) {
                close(fds[c]);
                live--;
            } else if (k > 0) {
                must(send(fds[c], buffers[c], (size_t)k, MSG_NOSIGNAL) == k, "send");
                w->calls++;
                w->requests++;
            }
        }
    }
}

static void serve_by_batch(worker *w, ring *r, int epoll, int live)
{
    struct epoll_event e[LOT];
    const struct io_uring_cqe *c;
    while (live > 0) {
        int n = epoll_wait(epoll, e, LOT, -1);
        w->calls++;
        for (int i = 0; i < n; i++)
            ring_put(r, IORING_OP_RECV, e[i].data.fd, SIZE, 0, MSG_DONTWAIT);
        ring_enter(w, r, 0);
        unsigned got = 0;
        while ((c = ring_take(r)) != NULL) {
            int i = (int)(c->user_data / 2);
            if (c->res == 0) {
                close(fds[i]);
                live--;
            } else if (c->res > 0) {
                ring_put(r, IORING_OP_SEND, i, (unsigned)c->res, 0, MSG_DONTWAIT);
                got++;
            }
        }
        if (got > 0) ring_enter(w, r, 0);
        for (; (c = ring_take(r)) != NULL; w->requests++) must(c->res > 0, "send");
    }
}

static void serve_by_wait(worker *w, ring *r, int live)
{
    const struct io_uring_cqe *c;
    while (live > 0) {
        ring_enter(w, r, 1);
        while ((c = ring_take(r)) != NULL) {
            int i = (int)(c->user_data / 2);
            if (c->user_data & 1) {
                must(c->res > 0, "send");
                ring_put(r, IORING_OP_RECV, i, SIZE, IORING_RECVSEND_POLL_FIRST, 0);
                w->requests++;
            } else if (c->res > 0) {
                ring_put(r, IORING_OP_SEND, i, (unsigned)c->res, 0, 0);
            } else {
                close(fds[i]);
                live--;
            }
        }
    }
}

static void *serve(void *arg)
{
    worker *w = arg;
    int epoll = epoll_create1(0), live = 0;
    ring r = {.fd = -1};
    if (way != CALLS) ring_open(&r);
    for (int i = w->id; i < connections; i += workers, live++)
        if (way == WAIT)
            ring_put(&r, IORING_OP_RECV, i, SIZE, IORING_RECVSEND_POLL_FIRST, 0);
        else
            add(epoll, fds[i], i);
    if (way == CALLS) serve_by_calls(w, epoll, live);
    if (way == BATCH) serve_by_batch(w, &r, epoll, live);
    if (way == WAIT) serve_by_wait(w, &r, live);
    return NULL;
}

/* 64 bytes at a time on each connection, for two seconds. */
static void ask(struct sockaddr_in at)
{
    struct epoll_event e[LOT];
    char buffer[64] = "";
    int epoll = epoll_create1(0), one = 1, live = connections;
    for (int i = 0; i < connections; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        must(connect(fds[i], (struct sockaddr *)&at, sizeof at) == 0, "connect");
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        add(epoll, fds[i], i);
    }
    for (int i = 0; i < connections; i++)
        must(send(fds[i], buffer, sizeof buffer, 0) == sizeof buffer, "send");
    double end = now() + 2;
    while (live > 0) {
        int n = epoll_wait(epoll, e, LOT, -1), over = now() >= end;
        for (int i = 0; i < n; i++) {
            int fd = fds[e[i].data.fd];
            must(recv(fd, buffer, sizeof buffer, MSG_WAITALL) == sizeof buffer, "recv");
            if (over) {
                close(fd);
                live--;
            } else {
                must(send(fd, buffer, sizeof buffer, 0) == sizeof buffer, "send");
            }
        }
    }
}

static double cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

int main(int argc, char **argv)
{
    static const char *ways[] = {"calls", "batch", "wait"};
    static worker w[64];
    const char *place = argc > 3 ? argv[3] : "any";
    for (way = 0; way < 3 && (argc < 2 || strcmp(argv[1], ways[way]) != 0);) way++;
    if (argc > 2) workers = atoi(argv[2]);
    if (argc > 4) connections = atoi(argv[4]);
    if (way == 3 || workers < 1 || workers > 64 || connections < 1 || connections > MOST) {
        fprintf(stderr, "echo_uring calls|batch|wait [WORKERS] [same|apart|any] [CONNECTIONS]\n");
        return 1;
    }
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    must(bind(listener, (struct sockaddr *)&at, sizeof at) == 0, "bind");
    must(listen(listener, MOST) == 0, "listen");
    getsockname(listener, (struct sockaddr *)&at, &size);
    pid_t client = fork();
    must(client >= 0, "fork");
    if (strcmp(place, "any") != 0) pin(client == 0 && strcmp(place, "apart") == 0);
    if (client == 0) {
        ask(at);
        _exit(0);
    }
    for (int i = 0; i < connections; i++) {
        fds[i] = accept(listener, NULL, NULL);
        must(fds[i] >= 0, "accept");
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    double start = cpu(), requests = 0, calls = 0;
    for (int i = 0; i < workers; i++) {
        w[i].id = i;
        must(pthread_create(&w[i].thread, NULL, serve, &w[i]) == 0, "pthread_create");
    }
    for (int i = 0; i < workers; i++) {
        pthread_join(w[i].thread, NULL);
        requests += w[i].requests;
        calls += w[i].calls;
    }
    printf("%s_%d_%s %.2f us, %.2f calls\n", argv[1], workers, place, (cpu() - start) / requests,
           calls / requests);
    waitpid(client, NULL, 0);
    return 0;
}
