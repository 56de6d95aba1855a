/* Listings of objects, and cursors: places in them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/compat/compat.h"

struct list {
    struct limpet_list *list;
    struct limpet_pool *pool;
    bool has_entry; /* Since it was opened, or since the last seek. */
    bool ended;
};

/* A place, as liblimpet writes it. */
struct cursor {
    char *text;
};

/* As the header has it. */
struct list_item {
    size_t oid_len;
    char *oid;
    size_t space_len;
    char *space;
    size_t locator_len;
    char *locator;
};

/* ---- Walks ---- */

EXPORT int rados_nobjects_list_open(void *ioctx, void **out)
{
    struct compat_ioctx *io = ioctx;
    struct list *list = calloc(1, sizeof *list);
    if (list == NULL)
        return -ENOMEM;
    int rc = ioctx_error(io);
    if (rc == 0)
        rc = limpet_list_open(io->pool, io->all_namespaces, &list->list);
    if (rc != 0) {
        free(list);
        return rc;
    }
    list->pool = io->pool;
    *out = list;
    return 0;
}

EXPORT int rados_nobjects_list_next2(void *context, const char **name, const char **key,
                                     const char **space, size_t *name_len, size_t *key_len,
                                     size_t *space_len)
{
    struct list *list = context;
    struct limpet_list_entry entry;
    int rc = limpet_list_next(list->list, &entry);
    list->has_entry = rc == 0;
    list->ended = rc == -ENOENT;
    if (rc != 0)
        return rc;
    *name = entry.name;
    if (key != NULL)
        *key = entry.locator_len > 0 ? entry.locator : NULL;
    if (space != NULL)
        *space = entry.space;
    if (name_len != NULL)
        *name_len = entry.name_len;
    if (key_len != NULL)
        *key_len = entry.locator_len;
    if (space_len != NULL)
        *space_len = entry.space_len;
    return 0;
}

EXPORT int rados_nobjects_list_next(void *list, const char **name, const char **key,
                                    const char **space)
{
    return rados_nobjects_list_next2(list, name, key, space, NULL, NULL, NULL);
}

EXPORT void rados_nobjects_list_close(void *context)
{
    struct list *list = context;
    limpet_list_close(list->list);
    free(list);
}

/* ---- Where a walk is ---- */

/* Before the object that was given last, as there. */
static int place_of(struct list *list, char **text)
{
    if (list->ended)
        return limpet_cursor_at(list->pool, LIMPET_LIST_END, text);
    return list->has_entry ? limpet_list_cursor_before(list->list, text)
                           : limpet_list_cursor(list->list, text);
}

/* The number of the group; 0: the end, or it is not known. */
static uint32_t group_of(struct list *list, const char *text)
{
    uint64_t position;
    uint32_t group;
    return limpet_cursor_position(list->pool, text, &position, &group) == 0 ? group : 0;
}

static uint32_t seek(struct list *list, const char *text)
{
    if (limpet_list_seek(list->list, text) == 0)
        list->has_entry = list->ended = false;
    return group_of(list, text);
}

static void *make_cursor(char *text)
{
    struct cursor *cursor = text != NULL ? malloc(sizeof *cursor) : NULL;
    if (cursor == NULL)
        limpet_free(text);
    else
        cursor->text = text;
    return cursor;
}

EXPORT int rados_nobjects_list_get_cursor(void *context, void **out)
{
    char *text = NULL;
    int rc = place_of(context, &text);
    if (rc != 0)
        return rc;
    *out = make_cursor(text);
    return *out != NULL ? 0 : -ENOMEM;
}

EXPORT uint32_t rados_nobjects_list_seek_cursor(void *context, void *cursor)
{
    return seek(context, ((struct cursor *)cursor)->text);
}

EXPORT uint32_t rados_nobjects_list_get_pg_hash_position(void *context)
{
    char *text = NULL;
    uint32_t group = place_of(context, &text) == 0 ? group_of(context, text) : 0;
    limpet_free(text);
    return group;
}

/* Positions of walks are hashes from the other end. */
static uint32_t reverse(uint32_t hash)
{
    uint32_t reversed = 0;
    for (int i = 0; i < 32; i++)
        reversed |= (hash >> i & 1) << (31 - i);
    return reversed;
}

EXPORT uint32_t rados_nobjects_list_seek(void *context, uint32_t hash)
{
    struct list *list = context;
    char *text = NULL;
    if (limpet_cursor_at(list->pool, reverse(hash), &text) == 0)
        seek(list, text);
    limpet_free(text);
    return hash;
}

/* ---- Walks of former times, which Ceph's library has given up, too ---- */

EXPORT int rados_objects_list_open(void *io, void **out)
{
    (void)io;
    (void)out;
    return -EOPNOTSUPP;
}

EXPORT int rados_objects_list_next(void *list, const char **name, const char **key)
{
    (void)list;
    (void)name;
    (void)key;
    return -EOPNOTSUPP;
}

EXPORT uint32_t rados_objects_list_seek(void *list, uint32_t hash)
{
    (void)list;
    (void)hash;
    return (uint32_t)-EOPNOTSUPP;
}

EXPORT uint32_t rados_objects_list_get_pg_hash_position(void *list)
{
    return rados_objects_list_seek(list, 0);
}

EXPORT void rados_objects_list_close(void *list)
{
    (void)list;
}

/* ---- Cursors ---- */

static void *cursor_at(struct compat_ioctx *io, uint64_t position)
{
    char *text = NULL;
    return limpet_cursor_at(io->pool, position, &text) == 0 ? make_cursor(text) : NULL;
}

EXPORT void *rados_object_list_begin(void *io)
{
    return cursor_at(io, 0);
}

EXPORT void *rados_object_list_end(void *io)
{
    return cursor_at(io, LIMPET_LIST_END);
}

EXPORT void rados_object_list_cursor_free(void *io, void *cursor)
{
    (void)io;
    if (cursor != NULL)
        limpet_free(((struct cursor *)cursor)->text);
    free(cursor);
}

/* A cursor of another pool is no sooner and no later. */
static int compare(struct compat_ioctx *io, const char *a, const char *b)
{
    int order;
    if (limpet_cursor_compare(io->pool, a, b, &order) != 0)
        return 0;
    return (order > 0) - (order < 0);
}

EXPORT int rados_object_list_cursor_cmp(void *io, void *left, void *right)
{
    return compare(io, ((struct cursor *)left)->text, ((struct cursor *)right)->text);
}

EXPORT int rados_object_list_is_end(void *io, void *cursor)
{
    (void)io;
    return strcmp(((struct cursor *)cursor)->text, "end") == 0;
}

/* NULL, which is no memory, leaves it as it is. */
static int set_cursor(struct cursor *cursor, char *text)
{
    if (text == NULL)
        return -ENOMEM;
    limpet_free(cursor->text);
    cursor->text = text;
    return 0;
}

/* ---- Slices ---- */

/* Where part n of m of a range begins. */
static char *part_begin(struct compat_ioctx *io, const char *start, const char *finish, size_t n,
                        size_t m)
{
    uint64_t first = 0, last = 0;
    uint32_t group;
    char *text = NULL;
    if (n == 0)
        return strdup(start);
    if (n >= m || m > UINT32_MAX)
        return strdup(finish);
    if (limpet_cursor_position(io->pool, start, &first, &group) != 0 ||
        limpet_cursor_position(io->pool, finish, &last, &group) != 0 || first > last)
        return strdup(finish);
    if (limpet_cursor_at(io->pool, first + (last - first) / m * n + (last - first) % m * n / m,
                         &text) != 0)
        return NULL;
    if (compare(io, text, start) >= 0)
        return text;
    limpet_free(text);
    return strdup(start);
}

EXPORT void rados_object_list_slice(void *io, void *start, void *finish, size_t n, size_t m,
                                    void **part_start, void **part_finish)
{
    const struct cursor *from = start, *to = finish;
    char *first = part_begin(io, from->text, to->text, n, m);
    char *last = part_begin(io, from->text, to->text, n + 1, m);
    /* Without memory the part has nothing; there is no error that could be told. */
    if (first != NULL && last != NULL) {
        set_cursor(*part_start, first);
        set_cursor(*part_finish, last);
    } else {
        limpet_free(first);
        limpet_free(last);
    }
}

/* ---- Listing a range ---- */

static char *copy_of(const char *data, size_t len)
{
    char *copy = malloc(len + 1);
    if (copy != NULL) {
        memcpy(copy, data, len);
        copy[len] = 0;
    }
    return copy;
}

/* What is empty is NULL. */
static int fill_item(struct list_item *item, const struct limpet_list_entry *entry)
{
    item->oid = copy_of(entry->name, entry->name_len);
    item->oid_len = entry->name_len;
    if (entry->space_len > 0)
        item->space = copy_of(entry->space, entry->space_len);
    item->space_len = entry->space_len;
    if (entry->locator_len > 0)
        item->locator = copy_of(entry->locator, entry->locator_len);
    item->locator_len = entry->locator_len;
    bool filled = item->oid != NULL && (item->space != NULL || item->space_len == 0) &&
                  (item->locator != NULL || item->locator_len == 0);
    return filled ? 0 : -ENOMEM;
}

EXPORT void rados_object_list_free(size_t n, void *items)
{
    struct list_item *item = items;
    for (size_t i = 0; i < n; i++) {
        free(item[i].oid);
        free(item[i].space);
        free(item[i].locator);
    }
    memset(items, 0, n * sizeof *item);
}

/* 1: it lies beyond the range. */
static int is_beyond(struct compat_ioctx *io, struct limpet_list *list, const char *finish)
{
    char *text = NULL;
    if (strcmp(finish, "end") == 0)
        return 0;
    int rc = limpet_list_cursor_before(list, &text);
    if (rc == 0)
        rc = compare(io, text, finish) >= 0;
    limpet_free(text);
    return rc;
}

/* How many; *next is where to go on. */
static ssize_t fill(struct compat_ioctx *io, struct limpet_list *list, const char *finish,
                    size_t max, struct list_item *items, char **next)
{
    struct limpet_list_entry entry;
    size_t n = 0;
    while (n < max) {
        int rc = limpet_list_next(list, &entry);
        if (rc == 0)
            rc = is_beyond(io, list, finish);
        if (rc == -ENOENT || rc == 1) {
            *next = strdup(finish);
            return *next != NULL ? (ssize_t)n : -ENOMEM;
        }
        if (rc == 0)
            rc = fill_item(&items[n++], &entry);
        if (rc != 0)
            return rc;
    }
    int rc = limpet_list_cursor(list, next);
    return rc == 0 ? (ssize_t)n : rc;
}

/* Filters are code of Ceph's OSDs: there is none here. */
EXPORT int rados_object_list(void *ioctx, void *start, void *finish, size_t max, const char *filter,
                             size_t filter_len, void *items, void **next)
{
    struct compat_ioctx *io = ioctx;
    const struct cursor *from = start, *to = finish;
    struct limpet_list *list = NULL;
    char *text = NULL;
    (void)filter;
    memset(items, 0, max * sizeof(struct list_item));
    if (max == 0 || filter_len > 0)
        return -EINVAL;
    ssize_t rc = ioctx_error(io);
    if (rc == 0)
        rc = limpet_list_open(io->pool, io->all_namespaces, &list);
    if (rc == 0)
        rc = limpet_list_seek(list, from->text);
    if (rc == 0)
        rc = fill(io, list, to->text, max, items, &text);
    if (rc >= 0 && set_cursor(*next, text) != 0)
        rc = -ENOMEM;
    limpet_list_close(list);
    if (rc < 0)
        rados_object_list_free(max, items);
    return (int)rc;
}
