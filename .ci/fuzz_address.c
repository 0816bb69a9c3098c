/* fuzz_address.c - a fuzzer (libFuzzer) for what csp_dial and csp_listen read.
 *
 * What is taken says where it leads, and is printed as a text that leads to the same place. Names
 * are not looked up.
 */
#define _GNU_SOURCE
#include <netdb.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int no_names(const char *host, const char *service, const struct addrinfo *hints,
                    struct addrinfo **list)
{
    (void)service, (void)hints, (void)list;
    for (const char *c = host; *c != 0; c++)
        if (strchr(" \t\n:[]%/@", *c) != NULL) abort();
    return EAI_NONAME;
}
#define getaddrinfo no_names
#define CSP_IMPLEMENTATION
#include "csp.h"

#define MUST(x) ((x) ? (void)0 : (fprintf(stderr, "%s:%d: %s\n", text, __LINE__, #x), abort()))

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char text[512], printed[sizeof(csp_address)];
    static csp__endpoints to, again;
    if (size < 1 || size > sizeof text) return -1;
    memcpy(text, bytes + 1, size - 1);
    text[size - 1] = 0;
    int e = csp__endpoints_parse(text, bytes[0] & 1, &to, CSP_FOREVER);
    MUST(e == 0 || e == -EINVAL || e == -ENOENT);
    MUST(e != 0 || (to.count >= 1 && to.count <= 2));
    for (int i = 0; e == 0 && i < to.count; i++) {
        csp__address *a = &to.at[i];
        MUST(to.size[i] <= sizeof *a);
        if (a->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
            continue; // printed as what it means
        MUST(csp__address_print(a, to.size[i], to.type, printed) == 0);
        MUST(csp__endpoints_parse(printed, false, &again, 0) == 0 && again.count == 1);
        MUST(again.type == to.type && again.size[0] == to.size[i]);
        MUST(memcmp(&again.at[0], a, to.size[i]) == 0);
        if (a->any.sa_family == AF_UNIX) continue;
        MUST(ntohs(a->in.sin_port) == strtoul(strrchr(text, ':') + 1, NULL, 10));
        MUST(strcspn(text, " \t\n+-") == strlen(text));
    }
    return 0;
}
