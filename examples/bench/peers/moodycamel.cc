// moodycamel.cc - the row chan_mpmc of bench.c with moodycamel::BlockingConcurrentQueue:
// `moodycamel chan_mpmc [N]`. 4 threads put n elements in, 4 others take them out. The queue has no
// bound: its producers never wait. It keeps no order among them.
#if __has_include(<concurrentqueue/blockingconcurrentqueue.h>)
#include <concurrentqueue/blockingconcurrentqueue.h>
#else
#include <blockingconcurrentqueue.h>
#endif

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

int main(int argc, char **argv)
{
    int n = argc > 2 ? std::atoi(argv[2]) : 4000000;
    moodycamel::BlockingConcurrentQueue<int> queue;
    std::atomic<std::int64_t> total{0};
    std::vector<std::thread> threads;
    auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&] { // so many elements each: the queue cannot be closed
            std::int64_t sum = 0;
            moodycamel::ConsumerToken token(queue);
            for (int k = 0, v; k < n / 4; k++) {
                queue.wait_dequeue(token, v);
                sum += v;
            }
            total += sum;
        });
    for (int i = 0; i < 4; i++)
        threads.emplace_back([&, i] {
            moodycamel::ProducerToken token(queue);
            for (int v = i; v < n / 4 * 4; v += 4) queue.enqueue(token, v);
        });
    for (std::thread &t : threads) t.join();
    std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    n = n / 4 * 4;
    std::printf("chan_mpmc %.3f ns/op\n", took.count() / n);
    return total == std::int64_t(n) * (n - 1) / 2 ? 0 : 1;
}
