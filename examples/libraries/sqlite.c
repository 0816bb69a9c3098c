/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * sqlite.c - a database that many goroutines use.
 *
 * A SQLite connection is not to be used by two at a time, and its calls may wait for the disk. So a
 * few goroutines own a connection each and take work from a channel; csp_blocking says that the
 * call may block, and the processor goes on with others. SQLite's own mutexes are held only
 * within its calls, so nothing is locked when a goroutine parks.
 */
// check: libs sqlite3
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <unistd.h>

enum { WORKERS = 4, ROWS = 1000 };

typedef struct query {
    int key;
    csp_sender(int) answer;
} query;

csp_task(worker, const char *, path, csp_receiver(query), queries)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *find = NULL;
    csp_blocking
    {
        if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
            sqlite3_prepare_v2(db, "select value from t where key = ?", -1, &find, NULL) !=
                SQLITE_OK)
            csp_panic("sqlite: %s", sqlite3_errmsg(db));
    }
    csp_range(q, queries) {
        int value = -1;
        csp_blocking
        {
            sqlite3_bind_int(find, 1, q.key);
            if (sqlite3_step(find) == SQLITE_ROW) value = sqlite3_column_int(find, 0);
            sqlite3_reset(find);
        }
        csp_send(q.answer, value);
    }
    sqlite3_finalize(find);
    sqlite3_close(db);
}

static void fill(const char *path)
{
    sqlite3 *db;
    char sql[100];
    if (sqlite3_open(path, &db) != SQLITE_OK) csp_panic("sqlite: %s", sqlite3_errmsg(db));
    sqlite3_exec(db, "create table t (key integer primary key, value integer); begin", NULL, NULL,
                 NULL);
    for (int i = 0; i < ROWS; i++) {
        snprintf(sql, sizeof sql, "insert into t values (%d, %d)", i, i * i);
        if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
            csp_panic("sqlite: %s", sqlite3_errmsg(db));
    }
    sqlite3_exec(db, "commit", NULL, NULL, NULL);
    sqlite3_close(db);
}

csp_task(ask, int, key, csp_sender(query), queries, csp_sender(long), sums)
{
    csp_chan(int) answer = csp_make(int, 1);
    int value = 0;
    csp_send(queries, (query){key, csp_send_end(answer)});
    csp_recv(answer, &value);
    csp_unref(answer);
    csp_send(sums, value);
}

csp_main(argc, argv)
{
    char path[] = "/tmp/csp-sqlite-XXXXXX";
    int fd = mkstemp(path);
    long sum = 0, one;
    if (fd < 0) return 1;
    close(fd);
    csp_blocking
    {
        fill(path);
    }
    csp_chan(query) queries = csp_make(query, 0);
    csp_chan(long) sums = csp_make(long, 0);
    csp_waitgroup workers = {0};
    for (int i = 0; i < WORKERS; i++)
        csp_waitgroup_go(&workers, worker, path, csp_recv_end(queries));
    for (int i = 0; i < ROWS; i++) csp_go(ask, i, csp_send_end(queries), csp_send_end(sums));
    for (int i = 0; i < ROWS; i++) {
        csp_recv(sums, &one);
        sum += one;
    }
    csp_close(queries);
    csp_waitgroup_wait(&workers);
    csp_unref(queries);
    csp_unref(sums);
    unlink(path);
    printf("%d goroutines asked %d connections, sum %ld\n", ROWS, WORKERS, sum);
    return sum != 332833500;
}
