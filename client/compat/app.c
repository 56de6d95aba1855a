/* What pools are used for: applications, with keys and values. */
#include <errno.h>
#include <string.h>

#include "client/compat/compat.h"

/* What a caller's buffer is to get: texts, each with its zero. Counts also what has no room. */
struct list {
    char *buf;
    size_t room, needed;
};

static void add(struct list *list, const char *text)
{
    size_t len = strlen(text) + 1;
    if (list->needed + len <= list->room)
        memcpy(list->buf + list->needed, text, len);
    list->needed += len;
}

static bool has_room(const struct list *list)
{
    return list->needed <= list->room;
}

EXPORT int rados_application_enable(void *ioctx, const char *app, int force)
{
    return limpet_app_enable(((struct compat_ioctx *)ioctx)->pool, app, force != 0);
}

EXPORT int rados_application_list(void *ioctx, char *values, size_t *values_len)
{
    struct compat_ioctx *io = ioctx;
    struct list apps = {values, *values_len, 0};
    struct limpet_app_line *lines;
    size_t n;
    int rc = limpet_app_list(io->pool, &lines, &n);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < n; i++)
        if (lines[i].key[0] == 0)
            add(&apps, lines[i].app);
    limpet_free(lines);
    *values_len = apps.needed;
    return has_room(&apps) ? 0 : -ERANGE;
}

EXPORT int rados_application_metadata_set(void *ioctx, const char *app, const char *key,
                                          const char *value)
{
    return limpet_app_set(((struct compat_ioctx *)ioctx)->pool, app, key, value);
}

EXPORT int rados_application_metadata_remove(void *ioctx, const char *app, const char *key)
{
    return limpet_app_remove(((struct compat_ioctx *)ioctx)->pool, app, key);
}

/* The keys of one application; -ENOENT: there is no such one. */
static int list_keys(struct compat_ioctx *io, const char *app, const char *only, struct list *keys,
                     struct list *values)
{
    struct limpet_app_line *lines;
    size_t n;
    int rc = limpet_app_list(io->pool, &lines, &n);
    if (rc != 0)
        return rc;
    rc = -ENOENT;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(lines[i].app, app) != 0)
            continue;
        rc = 0;
        if (lines[i].key[0] == 0 || (only != NULL && strcmp(lines[i].key, only) != 0))
            continue;
        add(keys, lines[i].key);
        add(values, lines[i].value);
    }
    limpet_free(lines);
    return rc;
}

EXPORT int rados_application_metadata_get(void *ioctx, const char *app, const char *key,
                                          char *value, size_t *value_len)
{
    struct list none = {0}, values = {value, *value_len, 0};
    int rc = list_keys(ioctx, app, key, &none, &values);
    if (rc == 0 && values.needed == 0)
        rc = -ENOENT;
    if (rc != 0)
        return rc;
    *value_len = values.needed;
    return has_room(&values) ? 0 : -ERANGE;
}

EXPORT int rados_application_metadata_list(void *ioctx, const char *app, char *keys,
                                           size_t *keys_len, char *values, size_t *values_len)
{
    struct list of_keys = {keys, *keys_len, 0}, of_values = {values, *values_len, 0};
    int rc = list_keys(ioctx, app, NULL, &of_keys, &of_values);
    if (rc != 0)
        return rc;
    *keys_len = of_keys.needed;
    *values_len = of_values.needed;
    return has_room(&of_keys) && has_room(&of_values) ? 0 : -ERANGE;
}
