/* echo_epoll.c - the echo benchmark without csp.h: a server and a client, one thread each, both on
 * epoll. `echo_epoll [CONNECTIONS]` prints requests per second over two seconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void must(int ok, const char *what)
{
    if (ok) return;
    perror(what);
    exit(1);
}

static void add(int epoll, int fd)
{
    struct epoll_event e = {.events = EPOLLIN, .data = {.fd = fd}};
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0, "epoll_ctl");
}

static void *serve(void *arg)
{
    int listener = *(int *)arg, epoll = epoll_create1(0);
    struct epoll_event e[128];
    char buffer[4096];
    add(epoll, listener);
    for (;;) {
        int n = epoll_wait(epoll, e, 128, -1);
        for (int i = 0; i < n; i++) {
            int fd = e[i].data.fd, one = 1;
            if (fd == listener) {
                fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                add(epoll, fd);
                continue;
            }
            ssize_t k = recv(fd, buffer, sizeof buffer, 0);
            if (k <= 0)
                close(fd);
            else
                must(send(fd, buffer, (size_t)k, MSG_NOSIGNAL) == k, "send");
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int connections = argc > 1 ? atoi(argv[1]) : 64, one = 1, epoll = epoll_create1(0);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof a;
    char buffer[64] = "";
    pthread_t server;
    must(bind(listener, (struct sockaddr *)&a, sizeof a) == 0, "bind");
    must(listen(listener, 4096) == 0, "listen");
    getsockname(listener, (struct sockaddr *)&a, &size);
    pthread_create(&server, NULL, serve, &listener);
    for (int i = 0; i < connections; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        must(connect(fd, (struct sockaddr *)&a, sizeof a) == 0, "connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        add(epoll, fd);
        must(send(fd, buffer, sizeof buffer, 0) == sizeof buffer, "send");
    }
    struct epoll_event e[128];
    int64_t done = 0;
    double start = now(), t;
    while ((t = now()) < start + 2) {
        int n = epoll_wait(epoll, e, 128, -1);
        for (int i = 0; i < n; i++) {
            must(recv(e[i].data.fd, buffer, sizeof buffer, MSG_WAITALL) == sizeof buffer, "recv");
            must(send(e[i].data.fd, buffer, sizeof buffer, 0) == sizeof buffer, "send");
            done++;
        }
    }
    printf("echo %.3f req/s\n", (double)done / (t - start));
    return 0;
}
