/* server.c - the web server that `make tail` asks: a goroutine per connection, which reads a
 * request, computes as many steps as its target says, and answers. `server PORT`, on 127.0.0.1,
 * until it is killed. peers/gobench has the same in Go.
 */
#define _GNU_SOURCE // memmem
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdlib.h>
#include <string.h>

static volatile uint64_t sink;

static void compute(uint64_t steps)
{
    uint64_t x = 1;
    while (steps-- > 0) x = x * 6364136223846793005u + 1442695040888963407u;
    sink = x;
}

csp_task(serve, int, fd)
{
    static const char reply[] = "HTTP/1.1 200 OK\r\nServer: csp.h\r\nContent-Type: text/plain\r\n"
                                "Content-Length: 3\r\nConnection: keep-alive\r\n\r\nok\n";
    char in[4096], *end;
    size_t have = 0;
    for (csp_ssize n; (n = csp_read(fd, in + have, sizeof in - 1 - have)) > 0;) {
        have += (size_t)n;
        in[have] = 0;
        while ((end = memmem(in, have, "\r\n\r\n", 4)) != NULL) {
            if (strncmp(in, "GET /", 5) != 0) goto out;
            compute(strtoull(in + 5, NULL, 10));
            if (csp_write_full(fd, reply, sizeof reply - 1) < 0) goto out;
            have -= (size_t)(end + 4 - in);
            memmove(in, end + 4, have);
        }
    }
out:
    csp_close_fd(fd);
}

csp_main(argc, argv)
{
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%s", argc > 1 ? argv[1] : "7790");
    int listener = csp_listen(address);
    if (listener < 0) csp_panic("cannot listen on %s", address);
    for (int fd; (fd = csp_accept(listener)) >= 0;) csp_go(serve, fd);
    return 1;
}
