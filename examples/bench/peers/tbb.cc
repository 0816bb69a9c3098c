// tbb.cc - rows of specialists.c, and examples/parallel, with oneTBB: `tbb ROW [N]`. CSP_PROCS says
// how many threads.
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/parallel_invoke.h>
#include <tbb/parallel_reduce.h>
#include <tbb/parallel_sort.h>
#include <tbb/task_group.h>

#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

using std::int64_t;

static void must(bool ok, const char *what)
{
    if (ok) return;
    std::fprintf(stderr, "%s: wrong result\n", what);
    std::exit(1);
}

static void timed(const std::string &name, const std::function<void()> &f)
{
    auto start = std::chrono::steady_clock::now();
    f();
    std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    std::printf("%s %.3f ms\n", name.c_str(), took.count());
}

static int64_t fib(int n)
{
    if (n < 2) return n;
    int64_t a, b;
    tbb::task_group g;
    g.run([&a, n] { a = fib(n - 1); });
    b = fib(n - 2);
    g.wait();
    return a + b;
}

// By a loop over the children; and by a task for each.
static int64_t tree(int depth)
{
    if (depth == 0) return 1;
    int64_t results[10], sum = 1;
    tbb::parallel_for(0, 10, [&](int i) { results[i] = tree(depth - 1); });
    for (int64_t r : results) sum += r;
    return sum;
}

static int64_t tree_go(int depth)
{
    if (depth == 0) return 1;
    int64_t results[10], sum = 1;
    tbb::task_group g;
    for (int64_t &r : results) g.run([&r, depth] { r = tree_go(depth - 1); });
    g.wait();
    for (int64_t r : results) sum += r;
    return sum;
}

static void trees(const std::string &name, int n)
{
    int64_t result = 0, expected = 0, nodes = 1;
    for (int i = 0; i <= n; i++, nodes *= 10) expected += nodes;
    timed(name, [&] { result = name == "tree" ? tree(n) : tree_go(n); });
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    std::printf("%s_rss %.1f MB\n", name.c_str(), static_cast<double>(u.ru_maxrss) / 1024);
    must(result == expected, "tree");
}

static void sum(int64_t n)
{
    std::vector<int> v(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; i++) v[i] = static_cast<int>(i % 1000);
    int64_t result = 0;
    timed("sum", [&] {
        result = tbb::parallel_reduce(
            tbb::blocked_range<int64_t>(0, n, 10000), int64_t(0),
            [&v](const tbb::blocked_range<int64_t> &r, int64_t s) {
                for (int64_t i = r.begin(); i != r.end(); i++) s += v[i];
                return s;
            },
            std::plus<int64_t>());
    });
    must(result >= 0, "sum");
}

static void matrix(int64_t n)
{
    std::vector<double> a(n * n), b(n * n), c(n * n);
    for (int64_t i = 0; i < n * n; i++) a[i] = static_cast<double>(i % 7), b[i] = i % 5;
    timed("matrix", [&] {
        tbb::parallel_for(int64_t(0), n, [&](int64_t i) {
            double *row = &c[i * n];
            for (int64_t j = 0; j < n; j++) row[j] = 0;
            for (int64_t k = 0; k < n; k++)
                for (int64_t j = 0; j < n; j++) row[j] += a[i * n + k] * b[k * n + j];
        });
    });
}

// examples/parallel/quicksort.c, line by line.
enum { SMALL = 32, SERIAL = 2000, TOGETHER = 200000 };

static void insertion_sort(int *v, int64_t n)
{
    for (int64_t i = 1; i < n; i++) {
        int x = v[i];
        int64_t k = i;
        for (; k > 0 && v[k - 1] > x; k--) v[k] = v[k - 1];
        v[k] = x;
    }
}

static int middle_of(int a, int b, int c)
{
    if (a > b) return middle_of(b, a, c);
    return c < a ? a : c > b ? b : c;
}

static int64_t partition(int *v, int64_t n, int pivot)
{
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        int x = v[i];
        v[i] = v[at];
        v[at] = x;
        at += x < pivot;
    }
    return at;
}

static int64_t partition_together(int *v, int64_t n, int pivot)
{
    int64_t half = n / 2, left, right;
    tbb::parallel_invoke([&] { left = partition(v, half, pivot); },
                         [&] { right = partition(v + half, n - half, pivot); });
    int64_t wrong = half - left < right ? half - left : right;
    int *a = v + left, *b = v + half + right - wrong;
    tbb::parallel_for(int64_t(0), wrong, [=](int64_t i) { std::swap(a[i], b[i]); });
    return left + right;
}

static void quicksort(int *v, int64_t n)
{
    while (n > SMALL) {
        int pivot = middle_of(v[n / 4], v[n / 2], v[n - n / 4]);
        int64_t below = n >= TOGETHER ? partition_together(v, n, pivot) : partition(v, n, pivot);
        int64_t same = below;
        if (below == 0)
            for (int64_t i = 0; i < n; i++)
                if (v[i] == pivot) {
                    v[i] = v[same];
                    v[same++] = pivot;
                }
        if (below > SERIAL && n - same > SERIAL) {
            tbb::parallel_invoke([=] { quicksort(v, below); },
                                 [=] { quicksort(v + same, n - same); });
            return;
        }
        quicksort(v, below);
        v += same;
        n -= same;
    }
    insertion_sort(v, n);
}

static void quicksorts(int64_t n)
{
    std::vector<int> v(static_cast<size_t>(n));
    uint32_t x = 1;
    for (int &e : v) e = static_cast<int>((x = x * 1664525u + 1013904223u) >> 1);
    timed("quicksort", [&] { quicksort(v.data(), n); });
    for (int64_t i = 1; i < n; i++) must(v[i - 1] <= v[i], "quicksort");
}

// The library's own, which is not stable: those of one age are compared by number, too.
static void sort(int64_t n)
{
    struct person {
        int number, age;
    };
    std::vector<person> v(static_cast<size_t>(n));
    uint32_t x = 1;
    for (int64_t i = 0; i < n; i++)
        v[i] = {static_cast<int>(i),
                static_cast<int>((x = x * 1664525u + 1013904223u) >> 16) % 100};
    auto before = [](const person &a, const person &b) {
        return a.age != b.age ? a.age < b.age : a.number < b.number;
    };
    timed("sort", [&] { tbb::parallel_sort(v.begin(), v.end(), before); });
    for (int64_t i = 1; i < n; i++) must(before(v[i - 1], v[i]), "sort");
}

int main(int argc, char **argv)
{
    const char *procs = std::getenv("CSP_PROCS");
    tbb::global_control threads(tbb::global_control::max_allowed_parallelism,
                                procs != nullptr ? std::atoi(procs) : 2);
    std::string row = argc > 1 ? argv[1] : "";
    int64_t n = argc > 2 ? std::atoll(argv[2]) : 0;
    if (row == "fib")
        timed(row, [n] { must(fib(n > 0 ? n : 30) > 0, "fib"); });
    else if (row == "tree" || row == "tree_go")
        trees(row, n > 0 ? n : 6);
    else if (row == "sum")
        sum(n);
    else if (row == "matrix")
        matrix(n);
    else if (row == "quicksort")
        quicksorts(n);
    else if (row == "sort")
        sort(n);
    else
        return std::fprintf(stderr, "tbb: fib, tree, sum N, matrix N, quicksort N, sort N\n"), 1;
    return 0;
}
