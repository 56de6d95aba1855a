/*
 * What the users of a pool say of it: which applications it is for, and for each a few keys with
 * values, as Ceph's pools have them. Nothing in the cluster depends on them.
 *
 * An immutable value with a count of references, part of a map_pool. Sorted lines of three texts:
 * an application is a line without a key, and each of its keys is another one.
 */
#ifndef LIMPET_PLACEMENT_APPS_H
#define LIMPET_PLACEMENT_APPS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

enum {
    APPS_MAX = 4,        /* Of a pool. */
    APPS_KEYS_MAX = 64,  /* Of an application. */
    APPS_TEXT_MAX = 128, /* Bytes of an application, key or value. */
    APPS_LINES_MAX = APPS_MAX * (1 + APPS_KEYS_MAX),
};

struct app_line {
    char app[APPS_TEXT_MAX + 1];
    char key[APPS_TEXT_MAX + 1]; /* Empty: the application itself, and the value is empty, too. */
    char value[APPS_TEXT_MAX + 1];
};

struct map_apps {
    uint32_t references; /* Private. */
    uint32_t n;
    struct app_line lines[];
};

/* Zeroed, for so many lines. NULL when memory is short. */
struct map_apps *apps_create(uint32_t n) MUST_CHECK;
/* NULL is allowed, and stands for a pool without any. */
const struct map_apps *apps_ref(const struct map_apps *apps);
void apps_unref(const struct map_apps *apps);
/* Whether it can stand in a map. */
bool apps_valid(const struct map_apps *apps);

/* key "": the application. NULL: there is none. */
const struct app_line *apps_find(const struct map_apps *apps, const char *app, const char *key);
uint32_t apps_count(const struct map_apps *apps);

/*
 * Each makes another value; *out is NULL when nothing is left. -ENOENT: there is no such
 * application; -EINVAL: a text is empty (but for values) or too long; -E2BIG: too many applications
 * or keys; -ENOMEM. A key "" of apps_set() adds the application, of apps_remove() takes all of it
 * away. Removing what is not there makes the same value.
 */
int apps_set(const struct map_apps *old, const char *app, const char *key, const char *value,
             const struct map_apps **out) MUST_CHECK;
int apps_remove(const struct map_apps *old, const char *app, const char *key,
                const struct map_apps **out) MUST_CHECK;

#endif
