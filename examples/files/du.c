/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * du.c - how many files, and how many bytes in them, are below some directories.
 *
 *     build/du [-1 | -2 | -3 | -4] [-v] [-s] [DIRECTORY...]       -s: pretend that the disk is slow
 *
 * What to notice: 1 walks in one goroutine and adds up in another. 2 tells with -v how far it is,
 * twice a second; without -v the tick is a NULL channel, which switches its case off. 3 walks each
 * directory in a goroutine of its own: there may be millions of them, but a channel of twenty
 * tokens bounds the directories that are open at once. 4 ends on return: a goroutine that waits
 * for a token, or is about to begin, sees that the context is done. Nothing is left behind.
 */
#define _GNU_SOURCE // openat, fdopendir
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int version = 4;
static bool verbose, slow;

typedef struct walk {
    csp_chan(int64_t) sizes; // of the files; closed when all walkers have ended
    csp_chan(bool) tokens;   // taken by sending
    csp_ctx *ctx;            // done: the rest is not wanted
    csp_waitgroup walkers;
} walk;

csp_task_declare(walk_dir, walk *, w, char *, path);

/* Sends the sizes of the files here, and walks the directories: here, or in goroutines. */
static void visit(walk *w, DIR *dir, const char *path)
{
    struct stat info;
    for (struct dirent *e; csp_ctx_status(w->ctx) == CSP_OK && (e = readdir(dir)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (fstatat(dirfd(dir), e->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0) continue;
        if (!S_ISDIR(info.st_mode)) {
            csp_send(w->sizes, info.st_size);
            continue;
        }
        char *below = malloc(strlen(path) + strlen(e->d_name) + 2);
        if (below == NULL) csp_panic("out of memory");
        sprintf(below, "%s/%s", path, e->d_name);
        csp_waitgroup_add(&w->walkers, 1);
        if (version < 3)
            walk_dir(w, below);
        else
            csp_go(walk_dir, w, below);
    }
}

csp_task(walk_dir, walk *, w, char *, path)
{
    if (version < 3 || csp_select(CSP_SEND(w->tokens, true), CSP_DONE(w->ctx)) == 0) {
        DIR *dir = NULL;
        if (slow) csp_sleep(50 * CSP_MILLISECOND);
        csp_blocking dir = opendir(path);
        if (dir == NULL)
            fprintf(stderr, "du: cannot open %s\n", path);
        else
            visit(w, dir, path), closedir(dir);
        if (version >= 3) csp_recv(w->tokens, NULL);
    }
    free(path);
    csp_waitgroup_done(&w->walkers);
}

csp_task(close_after, walk *, w)
{
    csp_waitgroup_wait(&w->walkers);
    csp_close(w->sizes);
}

csp_task(watch_key, csp_ctx *, ctx)
{
    char c;
    if (csp_read(0, &c, 1) == 1) csp_ctx_cancel(ctx);
}

static void print(const char *how, int64_t files, int64_t bytes)
{
    printf("%s%lld files, %lld bytes\n", how, (long long)files, (long long)bytes);
    fflush(stdout);
}

csp_main(argc, argv)
{
    static char *here[] = {".", NULL};
    for (; argc > 1 && argv[1][0] == '-'; argc--, argv++) {
        if (argv[1][1] >= '1' && argv[1][1] <= '4') version = argv[1][1] - '0';
        if (argv[1][1] == 'v') verbose = true;
        if (argv[1][1] == 's') slow = true;
    }
    static walk w; // kept: the watcher is still there when we leave
    w.sizes = csp_make(int64_t, 0);
    w.tokens = csp_make(bool, 20);
    w.ctx = csp_ctx_with_cancel(csp_ctx_background());
    if (version == 4) csp_go(watch_key, w.ctx);
    for (char **root = argc > 1 ? argv + 1 : here; *root != NULL; root++) {
        csp_waitgroup_add(&w.walkers, 1);
        csp_go(walk_dir, &w, strdup(*root));
    }
    csp_go(close_after, &w);

    csp_ticker *ticker = NULL;
    csp_receiver(int64_t) tick = NULL;
    if (verbose && version > 1) {
        ticker = csp_ticker_new(500 * CSP_MILLISECOND);
        tick = csp_ticker_chan(ticker);
    }
    int64_t files = 0, bytes = 0, size;
    for (bool more = true; more;) {
        switch (csp_select(CSP_RECV(w.sizes, &size, &more), CSP_RECV(tick, NULL))) {
        case 0:
            files += more;
            bytes += size;
            break;
        case 1: print("so far ", files, bytes); break;
        }
    }
    print(csp_ctx_status(w.ctx) == CSP_OK ? "" : "cancelled after ", files, bytes);
    csp_ticker_free(ticker);
    csp_unref(w.sizes);
    csp_unref(w.tokens);
    return 0;
}
