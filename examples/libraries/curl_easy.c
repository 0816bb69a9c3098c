/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * curl_easy.c - libcurl's easy interface, as it is, in goroutines.
 *
 * curl_easy_perform blocks its thread. Within csp_blocking that costs a thread for each transfer
 * that is under way, and nothing else: the processors go on with other goroutines. A semaphore
 * bounds the number of threads. CURLOPT_NOSIGNAL keeps libcurl from using SIGALRM for its time
 * limits. (curl_multi.c shows how thousands of transfers share a thread.)
 *
 *     curl_easy URL ...
 */
// check: libs libcurl
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <curl/curl.h>

typedef struct result {
    const char *url;
    long status;
    size_t bytes;
    CURLcode code;
} result;

static csp_sem transfers;

static size_t count(char *data, size_t size, size_t n, void *to)
{
    (void)data;
    *(size_t *)to += size * n;
    return size * n;
}

csp_task(get, result *, r)
{
    csp_sem_acquire(&transfers, 1);
    CURL *curl = curl_easy_init();
    curl_easy_setopt(curl, CURLOPT_URL, r->url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 10L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, count);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &r->bytes);
    csp_blocking
    {
        r->code = curl_easy_perform(curl);
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &r->status);
    curl_easy_cleanup(curl);
    csp_sem_release(&transfers, 1);
}

csp_main(argc, argv)
{
    result results[64] = {{0}};
    csp_waitgroup wg = {0};
    curl_global_init(CURL_GLOBAL_DEFAULT);
    csp_sem_init(&transfers, 8);
    if (argc > 64) argc = 64;
    for (int i = 1; i < argc; i++) {
        results[i].url = argv[i];
        csp_waitgroup_go(&wg, get, &results[i]);
    }
    csp_waitgroup_wait(&wg);
    for (int i = 1; i < argc; i++)
        printf("%s: %s, status %ld, %zu bytes\n", results[i].url,
               curl_easy_strerror(results[i].code), results[i].status, results[i].bytes);
    curl_global_cleanup();
    return 0;
}
