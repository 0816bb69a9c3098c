/* openloop.c - asks an HTTP server at a fixed rate, whatever its answers take, and prints how long
 * they took, in plain C on epoll, so that it judges every server from outside:
 *
 *     openloop PORT RATE SECONDS [MIX [PID]]
 *
 * RATE requests per second become due at fixed times, 1/RATE apart; ARRIVALS=poisson in the
 * environment draws the gaps from the exponential distribution instead. A request goes out on the
 * connection, of 64, that has been free for longest; where none is free, the request waits for one.
 * Its latency counts from when it was due, not from when it was sent. A server that stalls 10 ms
 * is charged for every request that was due meanwhile, which a closed loop would not have sent.
 * MIX per cent of the requests, drawn from a fixed seed, ask for 5 ms of computing: `p50` to `max`
 * are of the others, `slow_p50` and `slow_p99` of these. Half a second of load comes before what is
 * measured.
 *
 * PID is the server's process: the CPU time and the voluntary switches per request are those of
 * this process and its children. `late_p50` and `late_p99` say how late the generator itself sent,
 * once a connection was free; with late_p99 near the latencies, the figures are the generator's
 * and not the server's. `load` is its own CPU time in per cent of one core, `others` that of all
 * that are neither server nor generator: beyond some per cent the machine was not quiet. Two
 * threads, one on each of the last two CPUs, share the connections. They run before other threads
 * (SCHED_FIFO) where that is permitted, since with only two CPUs they share them with the server.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 2, CONNECTIONS = 64, EACH = CONNECTIONS / THREADS };
enum { SECOND = 1000000000, WARM = SECOND / 2, SLOW = 5000000, PATIENCE = 5000 /* ms */ };

typedef struct connection {
    int fd;
    int64_t due;       // of the request that is out
    bool slow, counts; // counts: due after the warm-up
    size_t have;       // of the reply
    char reply[4096];
} connection;

typedef struct loader {
    pthread_t thread;
    int k, epoll, timer;
    uint64_t random;
    connection all[EACH], *idle[EACH]; // idle: a queue, from `first` on
    int first, idle_n;
    double next;        // due time of the next request, after `start`, in ns
    int64_t free_since; // since when there has been a free connection
    int64_t set, lead;  // the timer rings at `set`, `lead` before the request is due
    int64_t *quick, *slow, *late;
    size_t quick_n, slow_n, late_n, room;
} loader;

static int port;
static int64_t start,
    end;                // the first request's due time; that of the first one too late to be sent
static double gap, mix; // ns between requests; the part that asks for computing
static bool poisson;
static char ask_slow[128];
static const char ask_quick[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

static void die(const char *what)
{
    fprintf(stderr, "openloop: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void must(bool ok, const char *what)
{
    if (!ok) die(what);
}

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t = {0, 0};
    must(clock_gettime(clock, &t) == 0, "clock_gettime");
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

static int64_t now(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static double draw(loader *l) // uniform in (0, 1): splitmix64
{
    uint64_t x = l->random += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return ((double)((x ^ (x >> 31)) >> 11) + 0.5) * 0x1p-53;
}

/* The steps of the servers' loop that take SLOW: from the quickest of many short tries. */
static uint64_t calibrate(void)
{
    enum { STEPS = 100000, TRIES = 200 };
    int64_t best = INT64_MAX;
    volatile uint64_t sink = 1;
    for (int i = 0; i < TRIES; i++) {
        uint64_t x = sink;
        int64_t t = now();
        for (int k = 0; k < STEPS; k++) x = x * 6364136223846793005u + 1442695040888963407u;
        sink = x;
        t = now() - t;
        if (t < best) best = t;
    }
    return (uint64_t)SLOW * STEPS / (uint64_t)best;
}

/* ---- the server's process ---- */

static int servers[64], servers_n; // the process and its children

static void servers_find(int pid)
{
    char path[64];
    int child;
    servers[servers_n++] = pid;
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    FILE *f = fopen(path, "r");
    if (f == NULL) return;
    while (servers_n < 64 && fscanf(f, "%d", &child) == 1) servers[servers_n++] = child;
    fclose(f);
}

static int64_t servers_cpu(void) // ns, of threads that have ended, too
{
    int64_t sum = 0;
    for (int i = 0; i < servers_n; i++) {
        clockid_t clock;
        errno = clock_getcpuclockid(servers[i], &clock);
        must(errno == 0, "the server's CPU clock");
        sum += clock_ns(clock);
    }
    return sum;
}

static int64_t servers_switches(void) // voluntary ones, of the threads that there are
{
    char path[128], line[256];
    int64_t sum = 0;
    for (int i = 0; i < servers_n; i++) {
        snprintf(path, sizeof path, "/proc/%d/task", servers[i]);
        DIR *tasks = opendir(path);
        for (struct dirent *e; tasks != NULL && (e = readdir(tasks)) != NULL;) {
            long long n;
            snprintf(path, sizeof path, "/proc/%d/task/%.20s/status", servers[i], e->d_name);
            FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
            while (f != NULL && fgets(line, sizeof line, f) != NULL)
                if (sscanf(line, "voluntary_ctxt_switches: %lld", &n) == 1) sum += n;
            if (f != NULL) fclose(f);
        }
        if (tasks != NULL) closedir(tasks);
    }
    return sum;
}

/* Time that the CPUs were not idle, in ns of all of them: what this says beyond the server and
 * ourselves is others' work, and the machine not ours alone. */
static int64_t busy(void)
{
    long long idle = 0, waiting = 0;
    FILE *f = fopen("/proc/stat", "r");
    if (f == NULL || fscanf(f, "cpu %*d %*d %*d %lld %lld", &idle, &waiting) != 2) idle = 0;
    if (f != NULL) fclose(f);
    return now() * sysconf(_SC_NPROCESSORS_ONLN) -
           (idle + waiting) * (SECOND / sysconf(_SC_CLK_TCK));
}

/* ---- the load ---- */

/* Edge-triggered: a timer that has rung, and is not set again, rings once. */
static void watch(int epoll, int fd, void *what)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data = {.ptr = what}};
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) == 0, "epoll_ctl");
}

static int dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd, one = 1;
    for (int tries = 0; tries < 300; tries++) { // the server may still be starting
        must((fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0, "socket");
        if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) {
            must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one) == 0, "TCP_NODELAY");
            return fd;
        }
        must(errno == ECONNREFUSED, "connect");
        close(fd);
        usleep(10000);
    }
    die("connect");
    return -1;
}

static void due_next(loader *l)
{
    l->next += poisson ? -log(draw(l)) * gap * THREADS : gap * THREADS;
}

static int64_t due(const loader *l)
{
    return start + (int64_t)l->next;
}

static void note(const loader *l, int64_t *list, size_t *n, int64_t value)
{
    if (*n < l->room) list[(*n)++] = value;
}

static void send_one(loader *l)
{
    connection *c = l->idle[l->first];
    l->first = (l->first + 1) % EACH;
    l->idle_n--;
    c->due = due(l);
    c->slow = draw(l) < mix;
    c->counts = c->due >= start + WARM;
    c->have = 0;
    const char *ask = c->slow ? ask_slow : ask_quick;
    size_t n = strlen(ask);
    must(send(c->fd, ask, n, MSG_NOSIGNAL) == (ssize_t)n, "send");
    due_next(l);
}

/* Sends what is due; for as long as no connection was free, the server was late, and not we. */
static void send_due(loader *l)
{
    for (int64_t t; l->idle_n > 0 && due(l) < end && due(l) <= (t = now()); send_one(l)) {
        int64_t since = due(l) > l->free_since ? due(l) : l->free_since;
        if (due(l) >= start + WARM) note(l, l->late, &l->late_n, t - since);
    }
}

/* The reply's head and as much as it announces; false: not yet. */
static bool complete(connection *c)
{
    c->reply[c->have] = 0;
    const char *body = strstr(c->reply, "\r\n\r\n"), *length;
    if (body == NULL) return false;
    must(memcmp(c->reply, "HTTP/1.1 200 ", 13) == 0, "an answer other than 200");
    length = strcasestr(c->reply, "\r\ncontent-length:");
    must(length != NULL, "an answer without a length");
    return c->have >= (size_t)(body + 4 - c->reply) + strtoul(length + 17, NULL, 10);
}

static void receive(loader *l, connection *c)
{
    ssize_t n = recv(c->fd, c->reply + c->have, sizeof c->reply - 1 - c->have, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n == 0) errno = ECONNRESET;
    must(n > 0, "recv");
    c->have += (size_t)n;
    if (!complete(c)) return;
    int64_t t = now();
    if (c->counts && c->slow) note(l, l->slow, &l->slow_n, t - c->due);
    if (c->counts && !c->slow) note(l, l->quick, &l->quick_n, t - c->due);
    if (l->idle_n == 0) l->free_since = t;
    l->idle[(l->first + l->idle_n++) % EACH] = c;
}

/* The timer rings before the next request is due by as much as an idle CPU needs to wake up (25 us
 * on a virtual one), which would else be part of every latency. The lead follows the first quartile
 * of how late the timer is, so that `wait_rest` has little left to wait for. */
static void set_timer(loader *l)
{
    int64_t t = due(l) - l->lead;
    if (l->idle_n == 0 || due(l) >= end || t == l->set) return;
    struct itimerspec at = {.it_value = {t / SECOND, t % SECOND}};
    must(timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &at, NULL) == 0, "timerfd_settime");
    l->set = t;
}

static void wait_rest(loader *l)
{
    enum { STEP = 200 };
    if (now() - l->set < l->lead)
        l->lead -= 3 * STEP;
    else if (l->lead < (int64_t)(gap * THREADS) / 8) // else there are requests enough to be awake
        l->lead += STEP;
    while (now() < due(l)) continue;
}

static void *load(void *arg)
{
    loader *l = arg;
    struct epoll_event e[EACH + 1];
    struct sched_param first = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO, &first) != 0 && setpriority(PRIO_PROCESS, 0, -20) != 0 &&
        l->k == 0)
        fprintf(stderr, "openloop: at the priority of others, see late_p99\n");
    while (due(l) < end || l->idle_n < EACH) {
        set_timer(l);
        int n = epoll_wait(l->epoll, e, EACH + 1, PATIENCE);
        if (n == 0) errno = ETIMEDOUT;
        must(n > 0 || errno == EINTR, "waiting for an answer");
        bool rang = false;
        for (int i = 0; i < n; i++)
            if (e[i].data.ptr != NULL)
                receive(l, e[i].data.ptr);
            else
                rang = true;
        if (rang && l->idle_n > 0 && due(l) < end) wait_rest(l);
        send_due(l);
        must(now() < end + 2 * (int64_t)PATIENCE * 1000000, "the server is overloaded");
    }
    return NULL;
}

/* Opens the connections, and asks once on each. */
static void prepare(loader *l, int k, size_t room)
{
    *l = (loader){.k = k, .random = (uint64_t)k + 1, .next = gap * k, .room = room};
    l->quick = malloc(room * sizeof *l->quick);
    l->slow = malloc(room * sizeof *l->slow);
    l->late = malloc(room * sizeof *l->late);
    must(l->quick != NULL && l->slow != NULL && l->late != NULL, "malloc");
    must((l->epoll = epoll_create1(0)) >= 0, "epoll_create1");
    must((l->timer = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0, "timerfd_create");
    watch(l->epoll, l->timer, NULL);
    for (int i = 0; i < EACH; i++) {
        connection *c = &l->all[i];
        *c = (connection){.fd = dial()};
        must(send(c->fd, ask_quick, sizeof ask_quick - 1, MSG_NOSIGNAL) > 0, "send");
        do {
            ssize_t n = recv(c->fd, c->reply + c->have, sizeof c->reply - 1 - c->have, 0);
            must(n > 0, "recv");
            c->have += (size_t)n;
        } while (!complete(c));
        watch(l->epoll, c->fd, c);
        l->idle[l->idle_n++] = c;
    }
}

/* On the last CPUs that we may use, thread k of them on its own. */
static void begin(loader *l)
{
    cpu_set_t all, one;
    pthread_attr_t how;
    must(sched_getaffinity(0, sizeof all, &all) == 0, "sched_getaffinity");
    int n = CPU_COUNT(&all), skip = n >= THREADS ? n - THREADS + l->k : l->k % n;
    CPU_ZERO(&one);
    for (size_t i = 0; CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all) && skip-- == 0) CPU_SET(i, &one);
    pthread_attr_init(&how);
    pthread_attr_setaffinity_np(&how, sizeof one, &one);
    must(pthread_create(&l->thread, &how, load, l) == 0, "pthread_create");
    pthread_attr_destroy(&how);
}

/* ---- what came out ---- */

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void percentile(const char *name, const int64_t *sorted, size_t n, double part)
{
    size_t at = (size_t)(part * (double)n);
    if (n > 0) printf("%s %.1f us\n", name, (double)sorted[at < n ? at : n - 1] / 1e3);
}

static loader loaders[THREADS];

static size_t join_lists(int64_t *to, int which)
{
    size_t n = 0;
    for (int k = 0; k < THREADS; k++) {
        loader *l = &loaders[k];
        size_t m = which == 0 ? l->quick_n : which == 1 ? l->slow_n : l->late_n;
        memcpy(to + n, which == 0 ? l->quick : which == 1 ? l->slow : l->late, m * sizeof *to);
        n += m;
    }
    qsort(to, n, sizeof *to, by_value);
    return n;
}

static void report(int64_t *list, int64_t cpu, int64_t switches, int64_t own, int64_t all,
                   int64_t seconds)
{
    double per_cent = 100.0 / (double)(seconds * SECOND);
    size_t n = join_lists(list, 0), asked = n;
    percentile("p50", list, n, 0.5);
    percentile("p90", list, n, 0.9);
    percentile("p99", list, n, 0.99);
    percentile("p99.9", list, n, 0.999);
    percentile("max", list, n, 1);
    asked += n = join_lists(list, 1);
    percentile("slow_p50", list, n, 0.5);
    percentile("slow_p99", list, n, 0.99);
    n = join_lists(list, 2);
    percentile("late_p50", list, n, 0.5);
    percentile("late_p99", list, n, 0.99);
    if (servers_n > 0) {
        printf("cpu %.2f us\n", (double)cpu / 1e3 / (double)asked);
        printf("switches %.3f each\n", (double)switches / (double)asked);
    }
    printf("load %.1f %%\n", (double)own * per_cent);
    if (servers_n > 0) printf("others %.1f %%\n", (double)(all - own - cpu) * per_cent);
    printf("asked %zu\n", asked);
}

int main(int argc, char **argv)
{
    if (argc < 4 || atof(argv[2]) <= 0 || atoi(argv[3]) <= 0) {
        fprintf(stderr, "openloop PORT RATE SECONDS [MIX [PID]]\n");
        return 2;
    }
    int64_t seconds = atoi(argv[3]), cpu = 0, switches = 0;
    const char *arrivals = getenv("ARRIVALS");
    port = atoi(argv[1]);
    gap = SECOND / atof(argv[2]);
    mix = argc > 4 ? atof(argv[4]) / 100 : 0;
    poisson = arrivals != NULL && strcmp(arrivals, "poisson") == 0;
    snprintf(ask_slow, sizeof ask_slow, "GET /%llu HTTP/1.1\r\nHost: localhost\r\n\r\n",
             (unsigned long long)calibrate());
    size_t room = (size_t)((double)seconds * atof(argv[2]) * 1.2) + 1000;
    int64_t *list = malloc(THREADS * room * sizeof *list);
    must(list != NULL, "malloc");
    for (int k = 0; k < THREADS; k++) prepare(&loaders[k], k, room);
    if (argc > 5) servers_find(atoi(argv[5])); // by now the server has its children

    start = now() + SECOND / 10;
    end = start + WARM + seconds * SECOND;
    for (int k = 0; k < THREADS; k++) begin(&loaders[k]);
    struct timespec warm = {(start + WARM) / SECOND, (start + WARM) % SECOND};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &warm, NULL);
    int64_t own = clock_ns(CLOCK_PROCESS_CPUTIME_ID), all = busy();
    cpu -= servers_cpu();
    switches -= servers_switches();
    for (int k = 0; k < THREADS; k++) pthread_join(loaders[k].thread, NULL);
    cpu += servers_cpu();
    switches += servers_switches();
    report(list, cpu, switches, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own, busy() - all, seconds);
    return 0;
}
