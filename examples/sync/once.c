/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * once.c - a table that is loaded at the first request, in three versions.
 *
 * What to notice: with a mutex all is right, and readers wait for each other for ever after. With
 * an rwmutex they look together, and a reader that finds nothing has to let go, lock for writing
 * and look again, because another may have been faster. A csp_once does just this, in one line.
 */
// check: tsan windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { READERS = 100 };

typedef struct icon {
    const char *name, *picture;
} icon;

static const icon loaded[] = {{"spades", "S"}, {"hearts", "H"}, {"diamonds", "D"}, {"clubs", "C"}};

static struct {
    csp_mutex mu;
    csp_rwmutex rw;
    csp_once once;
    const icon *icons; // NULL: not loaded
} table;

static atomic_int loads;

static void load(void)
{
    csp_sleep(CSP_MILLISECOND); // from a slow disk
    table.icons = loaded;
    loads++;
}

static const char *find(const char *name)
{
    for (int i = 0; i < 4; i++)
        if (strcmp(table.icons[i].name, name) == 0) return table.icons[i].picture;
    return "?";
}

static const char *by_mutex(const char *name)
{
    csp_mutex_lock(&table.mu);
    if (table.icons == NULL) load();
    const char *picture = find(name);
    csp_mutex_unlock(&table.mu);
    return picture;
}

static const char *by_rwmutex(const char *name)
{
    const char *picture = NULL;
    csp_rwmutex_rlock(&table.rw);
    if (table.icons != NULL) picture = find(name);
    csp_rwmutex_runlock(&table.rw);
    if (picture != NULL) return picture;

    csp_rwmutex_lock(&table.rw);
    if (table.icons == NULL) load(); // unless another has done so meanwhile
    picture = find(name);
    csp_rwmutex_unlock(&table.rw);
    return picture;
}

static void load_once(void *unused)
{
    (void)unused;
    load();
}

static const char *by_once(const char *name)
{
    csp_once_do(&table.once, load_once, NULL);
    return find(name);
}

csp_task(ask, const char *(*)(const char *), icon_named, int, i, atomic_int *, right,
         csp_waitgroup *, all)
{
    *right += strcmp(icon_named(loaded[i % 4].name), loaded[i % 4].picture) == 0;
    csp_waitgroup_done(all);
}

static void version(const char *how, const char *(*icon_named)(const char *))
{
    csp_waitgroup all = {0};
    atomic_int right = 0;
    table.icons = NULL;
    loads = 0;
    csp_waitgroup_add(&all, READERS);
    for (int i = 0; i < READERS; i++) csp_go(ask, icon_named, i, &right, &all);
    csp_waitgroup_wait(&all);
    printf("%s: %d right answers, loaded %d time\n", how, right, loads);
}

csp_main(argc, argv)
{
    version("mutex", by_mutex);
    version("rwmutex", by_rwmutex);
    version("once", by_once);
    return 0;
}
