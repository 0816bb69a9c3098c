/* SPDX-License-Identifier: MIT OR Unlicense
 *
 * map_keys.c - keys of a map that are equal by their bytes, or only when they are the same object.
 *
 * What to notice: with CSP_MAP_STRINGS a copy of a name finds the entry; with CSP_MAP_POINTERS an
 * object finds the entry that was stored for it, whatever is in the object. The map keeps the
 * pointer and copies nothing: the key has to live until its entry is deleted. A registry of
 * sessions is the usual case: swap says which session was there before, and compare_and_delete
 * removes a session only as long as it is still the one that its owner registered.
 */
// check: tsan arm64 windows
#define CSP_IMPLEMENTATION
#include "csp.h"

#include <stdio.h>

typedef const char *text;

static text found(csp_map *m, const void *key)
{
    void *value;
    return csp_map_load(m, key, &value) ? value : "nothing";
}

static void copies(text what, csp_map_keys keys)
{
    char name[] = "ann", copy[] = "ann";
    csp_map *m = csp_map_new(keys);
    csp_map_store(m, name, "a value");
    printf("%s: the name finds %s, its copy finds %s\n", what, found(m, name), found(m, copy));
    csp_map_delete(m, name); // from here on name may go
    printf("%s: deleted, %d entries\n", what, (int)csp_map_len(m));
    csp_map_free(m);
}

/* ---- one session for each user; a newer one replaces it ---- */

typedef struct session {
    text from;
} session;

static void log_in(csp_map *sessions, text user, session *s)
{
    void *before;
    if (csp_map_swap(sessions, user, s, &before) && before != NULL)
        printf("%s from %s replaces %s\n", user, s->from, ((session *)before)->from);
    else
        printf("%s from %s\n", user, s->from);
}

static void log_out(csp_map *sessions, text user, session *s)
{
    printf("%s leaves %s: %s\n", user, s->from,
           csp_map_compare_and_delete(sessions, user, s) ? "logged out" : "logged in elsewhere");
}

csp_main(argc, argv)
{
    copies("strings", CSP_MAP_STRINGS);
    copies("pointers", CSP_MAP_POINTERS);

    csp_map *sessions = csp_map_new(CSP_MAP_STRINGS);
    session desk = {"the desk"}, train = {"the train"}, home = {"home"};
    log_in(sessions, "ann", &desk);
    log_in(sessions, "bob", &home);
    log_in(sessions, "ann", &train);
    log_out(sessions, "ann", &desk); // the newer one stays
    log_out(sessions, "ann", &train);
    printf("%d left\n", (int)csp_map_len(sessions));
    csp_map_clear(sessions);
    printf("closed: %d left\n", (int)csp_map_len(sessions));
    csp_map_free(sessions);
    return 0;
}
