/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * cxx_channels.cc - channels that know when to go, and goroutines from lambdas, in forty lines.
 *
 *     echo '#include "csp.h"' | cc -DCSP_IMPLEMENTATION -c -x c - -o csp.o     (once, as C)
 *     c++ cxx_channels.cc csp.o -o cxx_channels -pthread
 *
 * What to notice: a channel object is one reference; a copy, in a lambda for example, is another,
 * and the last to go frees the channel. Values travel as bytes, so what goes into a channel has to
 * be trivially copyable; an object that owns something is sent as its pointer, and ownership goes
 * with it. Destructors run at the end of a goroutine as anywhere.
 */
#include "csp.h"

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

/* ---- the forty lines ---- */

template <class T> class channel
{
    static_assert(std::is_trivially_copyable<T>::value, "send a pointer to it");
    csp_chan(T) c;

  public:
    explicit channel(int capacity = 0) : c(csp_make(T, capacity)) {}
    channel(const channel &other) : c(csp_ref(other.c)) {}
    channel(channel &&other) noexcept : c(other.c)
    {
        other.c = nullptr;
    }
    channel &operator=(channel other)
    {
        std::swap(c, other.c);
        return *this;
    }
    ~channel()
    {
        csp_unref(c);
    }

    void send(const T &value)
    {
        csp_send(c, value);
    }
    bool recv(T &value)
    {
        return csp_recv(c, &value);
    }
    void close()
    {
        csp_close(c);
    }
    csp_chan(T) get() const
    {
        return c;
    } // for csp_select

    struct iterator { // for (T value : channel)
        channel *from;
        T value;
        bool operator!=(const iterator &end) const
        {
            return from != end.from;
        }
        const T &operator*() const
        {
            return value;
        }
        iterator &operator++()
        {
            if (!from->recv(value)) from = nullptr;
            return *this;
        }
    };
    iterator begin()
    {
        return ++iterator{this, T()};
    }
    iterator end()
    {
        return iterator{nullptr, T()};
    }
};

static void go(std::function<void()> body)
{
    csp_spawn(
        [](void *p) {
            std::unique_ptr<std::function<void()>> f(static_cast<std::function<void()> *>(p));
            (*f)();
        },
        new std::function<void()>(std::move(body)));
}

/* ---- a pipeline ---- */

static channel<int> count(int n)
{
    channel<int> out;
    go([=]() mutable {
        for (int i = 1; i <= n; i++) out.send(i);
        out.close();
    });
    return out;
}

static channel<int> square(channel<int> in)
{
    channel<int> out;
    go([=]() mutable {
        for (int v : in) out.send(v * v);
        out.close();
    });
    return out;
}

/* ---- objects: the pointer travels, and ownership with it ---- */

struct letter {
    std::string text;
    static int alive;
    explicit letter(std::string t) : text(std::move(t))
    {
        __atomic_add_fetch(&alive, 1, __ATOMIC_SEQ_CST);
    }
    ~letter()
    {
        __atomic_sub_fetch(&alive, 1, __ATOMIC_SEQ_CST);
    }
    letter(const letter &) = delete;
    letter &operator=(const letter &) = delete;
};
int letter::alive;

csp_main(argc, argv)
{
    for (int v : square(count(10))) std::printf("%d ", v);
    std::printf("\n");

    channel<letter *> post(2);
    go([=]() mutable {
        for (const char *word : {"letters", "own", "their", "text"})
            post.send(std::unique_ptr<letter>(new letter(word)).release());
        post.close();
    });
    for (letter *l : post) {
        std::unique_ptr<letter> mine(l);
        std::printf("%s ", mine->text.c_str());
    }
    std::printf("- %d left\n", letter::alive);

    channel<int> never, soon(1);
    int v = 0;
    soon.send(7);
    switch (csp_select(CSP_RECV(never.get(), &v), CSP_RECV(soon.get(), &v))) {
    case 0: std::printf("never\n"); break;
    case 1: std::printf("soon: %d\n", v); break;
    }
    return 0;
}
