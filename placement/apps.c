#include "placement/apps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct map_apps *apps_create(uint32_t n)
{
    struct map_apps *apps = calloc(1, sizeof *apps + n * sizeof apps->lines[0]);
    if (apps != NULL) {
        apps->references = 1;
        apps->n = n;
    }
    return apps;
}

/* Maps of different threads may share one. */
const struct map_apps *apps_ref(const struct map_apps *apps)
{
    if (apps != NULL) {
        __atomic_add_fetch(&((struct map_apps *)(uintptr_t)apps)->references, 1, __ATOMIC_RELAXED);
    }
    return apps;
}

void apps_unref(const struct map_apps *apps)
{
    struct map_apps *mine = (struct map_apps *)(uintptr_t)apps;
    if (mine != NULL && __atomic_sub_fetch(&mine->references, 1, __ATOMIC_ACQ_REL) == 0) {
        free(mine);
    }
}

/* ---- Looking ---- */

static int compare_line(const struct app_line *line, const char *app, const char *key)
{
    int order = strcmp(line->app, app);
    return order != 0 ? order : strcmp(line->key, key);
}

bool apps_valid(const struct map_apps *apps)
{
    uint32_t n_apps = 0, n_keys = 0;
    for (uint32_t i = 0; apps != NULL && i < apps->n; i++) {
        const struct app_line *line = &apps->lines[i];
        bool is_key = line->key[0] != 0;
        n_apps += !is_key;
        n_keys = is_key ? n_keys + 1 : 0;
        if (line->app[0] == 0 || n_apps > APPS_MAX || n_keys > APPS_KEYS_MAX ||
            (!is_key && line->value[0] != 0) ||
            (is_key && (i == 0 || strcmp(line->app, apps->lines[i - 1].app) != 0)) ||
            (i > 0 && compare_line(&apps->lines[i - 1], line->app, line->key) >= 0)) {
            return false;
        }
    }
    return apps == NULL || apps->n > 0;
}

/* Where the line is, or would be. */
static uint32_t find_place(const struct map_apps *apps, const char *app, const char *key)
{
    uint32_t at = 0;
    while (apps != NULL && at < apps->n && compare_line(&apps->lines[at], app, key) < 0) {
        at++;
    }
    return at;
}

static bool is_there(const struct map_apps *apps, uint32_t at, const char *app, const char *key)
{
    return apps != NULL && at < apps->n && compare_line(&apps->lines[at], app, key) == 0;
}

const struct app_line *apps_find(const struct map_apps *apps, const char *app, const char *key)
{
    uint32_t at = find_place(apps, app, key);
    return is_there(apps, at, app, key) ? &apps->lines[at] : NULL;
}

uint32_t apps_count(const struct map_apps *apps)
{
    uint32_t n = 0;
    for (uint32_t i = 0; apps != NULL && i < apps->n; i++) {
        n += apps->lines[i].key[0] == 0;
    }
    return n;
}

static uint32_t count_keys(const struct map_apps *apps, const char *app)
{
    uint32_t n = 0;
    for (uint32_t i = 0; apps != NULL && i < apps->n; i++) {
        n += apps->lines[i].key[0] != 0 && strcmp(apps->lines[i].app, app) == 0;
    }
    return n;
}

/* ---- Changing ---- */

/* `removed` lines at `at` give way to `added` new ones. NULL: no memory. */
static struct map_apps *splice(const struct map_apps *old, uint32_t at, uint32_t removed,
                               uint32_t added)
{
    uint32_t n = old != NULL ? old->n : 0;
    struct map_apps *apps = apps_create(n - removed + added);
    if (apps == NULL) {
        return NULL;
    }
    if (old != NULL && at > 0) {
        memcpy(apps->lines, old->lines, at * sizeof old->lines[0]);
    }
    if (old != NULL && n > at + removed) {
        memcpy(&apps->lines[at + added], &old->lines[at + removed],
               (n - at - removed) * sizeof old->lines[0]);
    }
    return apps;
}

int apps_set(const struct map_apps *old, const char *app, const char *key, const char *value,
             const struct map_apps **out)
{
    bool is_key = key[0] != 0;
    if (app[0] == 0 || strlen(app) > APPS_TEXT_MAX || strlen(key) > APPS_TEXT_MAX ||
        strlen(value) > APPS_TEXT_MAX || (!is_key && value[0] != 0)) {
        return -EINVAL;
    }
    if (is_key && apps_find(old, app, "") == NULL) {
        return -ENOENT;
    }
    uint32_t at = find_place(old, app, key);
    bool there = is_there(old, at, app, key);
    if (!there && (is_key ? count_keys(old, app) >= APPS_KEYS_MAX : apps_count(old) >= APPS_MAX)) {
        return -E2BIG;
    }
    struct map_apps *apps = splice(old, at, there, 1);
    if (apps == NULL) {
        return -ENOMEM;
    }
    struct app_line *line = &apps->lines[at];
    memcpy(line->app, app, strlen(app) + 1);
    memcpy(line->key, key, strlen(key) + 1);
    memcpy(line->value, value, strlen(value) + 1);
    *out = apps;
    return 0;
}

int apps_remove(const struct map_apps *old, const char *app, const char *key,
                const struct map_apps **out)
{
    if (apps_find(old, app, "") == NULL) {
        return -ENOENT;
    }
    uint32_t at = find_place(old, app, key);
    uint32_t n = is_there(old, at, app, key) ? 1 : 0;
    if (key[0] == 0) {
        n += count_keys(old, app);
    }
    *out = NULL;
    if (n == old->n) {
        return 0;
    }
    *out = splice(old, at, n, 0);
    return *out != NULL ? 0 : -ENOMEM;
}
