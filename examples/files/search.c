/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * search.c - looks for a text in all files below some directories, like grep -rn.
 *
 *     build/search [-j N] [-p] TEXT [DIRECTORY...]      -p: a progress line; ^C ends it early
 *
 * What to notice: one goroutine walks, N search, and main prints what was found in the order of the
 * walk, as if one had done all of it. Order costs no waiting: each file is a job with a channel of
 * its own for the answer, jobs go to the workers by one channel and to main by another, and main
 * takes the answers one after the other. The second channel's capacity is how far the workers may
 * be ahead. ^C cancels the context: the walk ends, the workers run dry, and all go home.
 */
#define _GNU_SOURCE // memmem
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { AHEAD = 256, CHUNK = 1 << 16 };

typedef struct buffer {
    char *text;
    size_t size, room;
} buffer;

typedef struct job {
    char *path;
    csp_chan(buffer) answer; // one: the lines found
} job;

typedef struct search {
    const char *text;
    csp_ctx *ctx;
    csp_waitgroup crew;
    csp_chan(job) to_search, to_print;
    atomic_llong files, bytes, found;
} search;

static void append(buffer *b, const char *text, size_t n)
{
    if (b->size + n > b->room) {
        b->room = 2 * (b->size + n) + 1024;
        if ((b->text = realloc(b->text, b->room)) == NULL) csp_panic("out of memory");
    }
    memcpy(b->text + b->size, text, n);
    b->size += n;
}

/* ---- one file ---- */

static void search_lines(search *s, const char *path, buffer file, buffer *out)
{
    size_t length = strlen(s->text);
    int line = 1;
    const char *at = file.text, *end = file.text + file.size, *counted = at, *hit;
    if (memchr(at, 0, file.size < 1024 ? file.size : 1024) != NULL) return; // not a text
    while (at < end && (hit = memmem(at, (size_t)(end - at), s->text, length)) != NULL) {
        const char *from = hit, *to = memchr(hit, '\n', (size_t)(end - hit));
        if (to == NULL) to = end;
        while (from > file.text && from[-1] != '\n') from--;
        for (; counted < from; counted++) line += *counted == '\n';
        char place[32];
        append(out, path, strlen(path));
        append(out, place, (size_t)snprintf(place, sizeof place, ":%d:", line));
        append(out, from, (size_t)(to - from));
        append(out, "\n", 1);
        s->found++;
        at = to;
    }
}

static buffer search_file(search *s, const char *path, buffer *file)
{
    buffer out = {NULL, 0, 0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return out;
    file->size = 0;
    for (ssize_t n = 1; n > 0 && csp_ctx_status(s->ctx) == CSP_OK;) {
        char chunk[CHUNK];
        csp_blocking n = read(fd, chunk, sizeof chunk);
        if (n > 0) append(file, chunk, (size_t)n);
    }
    close(fd);
    if (file->size > 0) search_lines(s, path, *file, &out);
    s->files++;
    s->bytes += (long long)file->size;
    return out;
}

csp_task(worker, search *, s)
{
    buffer file = {NULL, 0, 0};
    csp_range(j, s->to_search) {
        buffer found = search_file(s, j.path, &file);
        free(j.path);
        csp_send(j.answer, found); // has room: goes on to the next at once
    }
    free(file.text);
    csp_waitgroup_done(&s->crew);
}

/* ---- the walk, in order ---- */

static int visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static void walk(search *s, const char *path)
{
    struct dirent **names = NULL;
    struct stat info;
    int n = -1;
    if (csp_ctx_status(s->ctx) != CSP_OK || lstat(path, &info) < 0) return;
    if (S_ISREG(info.st_mode)) {
        job j = {strdup(path), csp_make(buffer, 1)};
        csp_send(s->to_print, j);
        csp_send(s->to_search, j);
    } else if (S_ISDIR(info.st_mode)) {
        csp_blocking n = scandir(path, &names, visible, alphasort);
        for (int i = 0; i < n; i++) {
            char *below = malloc(strlen(path) + strlen(names[i]->d_name) + 2);
            if (below == NULL) csp_panic("out of memory");
            sprintf(below, "%s/%s", path, names[i]->d_name);
            free(names[i]);
            walk(s, below);
            free(below);
        }
        free(names);
    }
}

csp_task(walk_all, search *, s, char **, roots)
{
    for (; *roots != NULL; roots++) walk(s, *roots);
    csp_close(s->to_search);
    csp_close(s->to_print);
}

/* ---- what the user sees ---- */

csp_task(watch_signals, csp_receiver(int), signals, csp_ctx *, ctx)
{
    csp_recv(signals, NULL);
    csp_ctx_cancel(ctx);
}

csp_task(show_progress, search *, s, csp_receiver(bool), done, csp_sender(bool), gone)
{
    csp_ticker *ticker = csp_ticker_new(100 * CSP_MILLISECOND);
    int64_t t0 = csp_now();
    while (csp_select(CSP_RECV(done, NULL), CSP_RECV(csp_ticker_chan(ticker), NULL)) == 1)
        fprintf(stderr, "\r%lld files, %lld MB, %lld found, %.1f s ", s->files, s->bytes >> 20,
                s->found, (double)(csp_now() - t0) / CSP_SECOND);
    fprintf(stderr, "\n");
    csp_ticker_free(ticker);
    csp_send(gone, true);
}

csp_main(argc, argv)
{
    static char *here[] = {".", NULL};
    static csp_chan(int) signals; // kept: the watcher is still there when we leave
    static search s;
    int workers = csp_procs(0);
    bool progress = false;
    while (argc > 1 && argv[1][0] == '-' && argv[1][1] != 0) {
        if (argv[1][1] == 'p') progress = true;
        if (argv[1][1] == 'j' && argc > 2) workers = atoi(argv[2]), argc--, argv++;
        argc--, argv++;
    }
    if (argc < 2 || argv[1][0] == 0 || workers < 1) {
        fprintf(stderr, "search [-j N] [-p] TEXT [DIRECTORY...]\n");
        return 2;
    }
    s.text = argv[1];
    s.ctx = csp_ctx_with_cancel(csp_ctx_background());
    s.to_search = csp_make(job, 0);
    s.to_print = csp_make(job, AHEAD);
    csp_chan(bool) done = csp_make(bool, 0), gone = csp_make(bool, 1);
    signals = csp_make(int, 1);
    csp_notify(signals, SIGINT);
    csp_go(watch_signals, csp_recv_end(signals), s.ctx);
    csp_go(walk_all, &s, argc > 2 ? argv + 2 : here);
    csp_waitgroup_add(&s.crew, workers);
    for (int i = 0; i < workers; i++) csp_go(worker, &s);
    if (progress) csp_go(show_progress, &s, csp_recv_end(done), csp_send_end(gone));

    csp_range(j, s.to_print) {
        buffer found;
        csp_recv(j.answer, &found);
        csp_unref(j.answer);
        if (found.size > 0) fwrite(found.text, 1, found.size, stdout);
        free(found.text);
    }
    csp_close(done);
    if (progress) csp_recv(gone, NULL);
    if (csp_ctx_status(s.ctx) != CSP_OK) fprintf(stderr, "interrupted\n");
    csp_waitgroup_wait(&s.crew); // some may not even have seen that there is no more
    csp_unref(s.to_search);
    csp_unref(s.to_print);
    csp_unref(done);
    csp_unref(gone);
    return csp_ctx_status(s.ctx) != CSP_OK ? 130 : s.found == 0;
}
