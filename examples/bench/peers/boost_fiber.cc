// boost_fiber.cc - rows of bench.c with Boost.Fiber: `boost_fiber ROW [-n N]`. CSP_PROCS=2 gives it
// its work-stealing scheduler over two threads.
#include <boost/fiber/all.hpp>
#include <boost/fiber/algo/work_stealing.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace fibers = boost::fibers;

static void must(bool ok, const char *what)
{
    if (ok) return;
    std::fprintf(stderr, "%s\n", what);
    std::exit(1);
}

template <typename F> static fibers::fiber start(F f)
{
    static thread_local fibers::pooled_fixedsize_stack stacks(16384);
    return fibers::fiber(std::allocator_arg, stacks, f);
}

static void ctx_switch(int n)
{
    auto yields = [n] {
        for (int i = 0; i < n / 2; i++) boost::this_fiber::yield();
    };
    fibers::fiber a = start(yields), b = start(yields);
    a.join();
    b.join();
}

static void chan_pingpong(int n)
{
    fibers::unbuffered_channel<int> a, b;
    int v = 0;
    fibers::fiber pong = start([&] {
        for (int x; a.pop(x) == fibers::channel_op_status::success;) b.push(x + 1);
    });
    for (int i = 0; i < n; i++) {
        a.push(v);
        b.pop(v);
    }
    a.close();
    pong.join();
    must(v == n, "pingpong");
}

static void pass(int n, int count)
{
    fibers::buffered_channel<int> c(128);
    std::vector<fibers::fiber> from, to;
    std::atomic<int64_t> sum(0);
    for (int i = 0; i < count; i++)
        to.push_back(start([&] {
            int64_t s = 0;
            for (int v; c.pop(v) == fibers::channel_op_status::success;) s += v;
            sum += s;
        }));
    for (int i = 0; i < count; i++)
        from.push_back(start([&, i] {
            for (int k = i; k < n; k += count) c.push(k);
        }));
    for (auto &f : from) f.join();
    c.close();
    for (auto &f : to) f.join();
    must(sum == int64_t(n) * (n - 1) / 2, "sum");
}

static void chan_buffered(int n)
{
    pass(n, 1);
}

static void chan_mpmc(int n)
{
    pass(n, 4);
}

static void spawn_join(int n)
{
    static char counters[1000];
    for (int b = 0; b < n / 1000; b++) {
        std::vector<fibers::fiber> all;
        for (int i = 0; i < 1000; i++) all.push_back(start([i] { counters[i]++; }));
        for (auto &f : all) f.join();
    }
}

static void mutex_8(int n)
{
    fibers::mutex mu;
    int64_t guarded = 0;
    std::vector<fibers::fiber> all;
    for (int i = 0; i < 8; i++)
        all.push_back(start([&, n] {
            for (int k = 0; k < n / 8; k++) {
                std::lock_guard<fibers::mutex> hold(mu);
                guarded++;
            }
        }));
    for (auto &f : all) f.join();
    must(guarded == n / 8 * 8, "mutex");
}

static const struct {
    const char *name;
    void (*run)(int n);
    int n;
} rows[] = {
    {"ctx_switch", ctx_switch, 2000000},       {"chan_pingpong", chan_pingpong, 500000},
    {"chan_buffered", chan_buffered, 4000000}, {"chan_mpmc", chan_mpmc, 2000000},
    {"spawn_join", spawn_join, 200000},        {"mutex_8", mutex_8, 8000000},
};

int main(int argc, char **argv)
{
    const char *procs = std::getenv("CSP_PROCS");
    if (procs != nullptr && std::atoi(procs) == 2) {
        std::thread([] {
            fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(2);
            fibers::mutex mu;
            std::unique_lock<fibers::mutex> hold(mu);
            fibers::condition_variable never;
            never.wait(hold, [] { return false; });
        }).detach();
        fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(2);
    }
    for (auto &row : rows)
        if (argc > 1 && std::strcmp(argv[1], row.name) == 0) {
            int n = argc == 4 ? std::atoi(argv[3]) : row.n;
            auto t = std::chrono::steady_clock::now();
            row.run(n);
            std::chrono::duration<double, std::nano> d = std::chrono::steady_clock::now() - t;
            std::printf("%s %.3f ns/op\n", argv[1], d.count() / n);
        }
    std::fflush(stdout);
    std::_Exit(0); // the other thread waits for ever
}
