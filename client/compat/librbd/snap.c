/* Snapshots. */
#include "client/compat/librbd/librbd.h"

enum { RBD_SNAP_REMOVE_UNPROTECT = 1, RBD_SNAP_REMOVE_FLATTEN = 2 };

EXPORT int rbd_snap_create(void *image, const char *name)
{
    struct rbd_handle *h = image;
    return h != NULL && name != NULL ? limpet_image_snap_create(h->image, name) : -EINVAL;
}

/* Nobody is asked to be quiet: a snapshot has what was acknowledged before it. */
EXPORT int rbd_snap_create2(void *image, const char *name, uint32_t flags,
                            librbd_progress_fn_t progress, void *arg)
{
    (void)flags;
    int rc = rbd_snap_create(image, name);
    if (rc == 0 && progress != NULL)
        progress(1, 1, arg);
    return rc;
}

/* ---- Finding ---- */

/* One snapshot of an image: by its name, of those that users made, or (NULL) by its number. */
static int find(struct rbd_handle *h, const char *name, uint64_t id, struct limpet_image_snap *out)
{
    struct limpet_image_snap *snaps;
    size_t n;
    if (h == NULL)
        return -EINVAL;
    int rc = limpet_image_snap_list(h->image, &snaps, &n);
    if (rc != 0)
        return rc;
    rc = -ENOENT;
    for (size_t i = 0; rc != 0 && i < n; i++) {
        bool is = name == NULL
                      ? snaps[i].id == id
                      : snaps[i].kind == LIMPET_IMAGE_SNAP_USER && strcmp(snaps[i].name, name) == 0;
        if (is) {
            *out = snaps[i];
            rc = 0;
        }
    }
    limpet_free(snaps);
    return rc;
}

EXPORT int rbd_snap_list(void *image, rbd_snap_info_t *out, int *max)
{
    struct rbd_handle *h = image;
    struct limpet_image_snap *snaps;
    size_t n;
    if (h == NULL || max == NULL)
        return -EINVAL;
    int rc = limpet_image_snap_list(h->image, &snaps, &n);
    if (rc != 0)
        return rc;
    /* One more tells where the list ends. */
    if (out == NULL || *max < 0 || (size_t)*max < n + 1) {
        *max = (int)n + 1;
        limpet_free(snaps);
        return -ERANGE;
    }
    memset(out, 0, (n + 1) * sizeof *out);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        out[i] = (rbd_snap_info_t){snaps[i].id, snaps[i].size, strdup(snaps[i].name)};
        rc = out[i].name != NULL ? 0 : -ENOMEM;
    }
    for (size_t i = 0; rc != 0 && i < n; i++)
        free((char *)out[i].name);
    limpet_free(snaps);
    return rc == 0 ? (int)n : rc;
}

EXPORT void rbd_snap_list_end(rbd_snap_info_t *snaps)
{
    for (; snaps != NULL && snaps->name != NULL; snaps++) {
        free((char *)snaps->name);
        snaps->name = NULL;
    }
}

EXPORT int rbd_snap_exists(void *image, const char *name, bool *exists)
{
    struct limpet_image_snap snap;
    int rc = name != NULL && exists != NULL ? find(image, name, 0, &snap) : -EINVAL;
    if (rc != 0 && rc != -ENOENT)
        return rc;
    *exists = rc == 0;
    return 0;
}

EXPORT int rbd_snap_get_name(void *image, uint64_t id, char *name, size_t *len)
{
    struct limpet_image_snap snap;
    int rc = find(image, NULL, id, &snap);
    return rc == 0 ? rbd_give_text(snap.name, name, len) : rc;
}

EXPORT int rbd_snap_get_id(void *image, const char *name, uint64_t *id)
{
    struct limpet_image_snap snap;
    int rc = name != NULL && id != NULL ? find(image, name, 0, &snap) : -EINVAL;
    if (rc == 0)
        *id = snap.id;
    return rc;
}

EXPORT int rbd_snap_get_timestamp(void *image, uint64_t id, struct timespec *out)
{
    struct limpet_image_snap snap;
    int rc = out != NULL ? find(image, NULL, id, &snap) : -EINVAL;
    if (rc == 0)
        *out = (struct timespec){(time_t)(snap.created_ns / 1000000000),
                                 (long)(snap.created_ns % 1000000000)};
    return rc;
}

EXPORT int rbd_snap_get_namespace_type(void *image, uint64_t id, int *type)
{
    struct limpet_image_snap snap;
    int rc = type != NULL ? find(image, NULL, id, &snap) : -EINVAL;
    if (rc == 0)
        *type = (int)snap.kind;
    return rc;
}

EXPORT int rbd_snap_get_trash_namespace(void *image, uint64_t id, char *name, size_t len)
{
    struct limpet_image_snap snap;
    int rc = find(image, NULL, id, &snap);
    if (rc == 0 && snap.kind != LIMPET_IMAGE_SNAP_TRASH)
        rc = -EINVAL;
    return rc == 0 ? rbd_put_text(snap.original, name, len) : rc;
}

/* ---- Protection, removal, names ---- */

EXPORT int rbd_snap_protect(void *image, const char *name)
{
    struct rbd_handle *h = image;
    return h != NULL && name != NULL ? limpet_image_snap_protect(h->image, name) : -EINVAL;
}

EXPORT int rbd_snap_unprotect(void *image, const char *name)
{
    struct rbd_handle *h = image;
    return h != NULL && name != NULL ? limpet_image_snap_unprotect(h->image, name) : -EINVAL;
}

EXPORT int rbd_snap_is_protected(void *image, const char *name, int *is_protected)
{
    struct limpet_image_snap snap;
    int rc = name != NULL && is_protected != NULL ? find(image, name, 0, &snap) : -EINVAL;
    if (rc == 0)
        *is_protected = snap.is_protected;
    return rc;
}

static int flatten_child(struct rbd_handle *h, const struct limpet_image_spec *spec,
                         librbd_progress_fn_t progress, void *arg)
{
    struct limpet_pool *pool;
    struct limpet_image *child;
    int rc = limpet_pool_open_id(h->cluster, spec->pool, &pool);
    if (rc != 0)
        return rc;
    rc = limpet_pool_set_namespace(pool, spec->space);
    if (rc == 0)
        rc = limpet_image_open(pool, spec->id, NULL, LIMPET_IMAGE_BY_ID, &child);
    if (rc == 0) {
        rc = limpet_image_flatten(child, progress, arg);
        limpet_image_close(child);
    }
    limpet_pool_close(pool);
    /* It went meanwhile, or has no parent any more. */
    return rc == -ENOENT || rc == -EINVAL ? 0 : rc;
}

/* Through a handle of its own, which looks at the snapshot. */
static int flatten_children(struct rbd_handle *h, const char *name, librbd_progress_fn_t progress,
                            void *arg)
{
    struct limpet_image_info info;
    struct limpet_image *at;
    struct limpet_image_spec *specs;
    size_t n;
    int rc = limpet_image_info(h->image, &info);
    if (rc == 0)
        rc = limpet_image_open(h->pool, info.id, name, LIMPET_IMAGE_BY_ID | LIMPET_IMAGE_READ_ONLY,
                               &at);
    if (rc != 0)
        return rc;
    rc = limpet_image_children(at, &specs, &n);
    limpet_image_close(at);
    if (rc != 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = flatten_child(h, &specs[i], progress, arg);
    limpet_free(specs);
    return rc;
}

EXPORT int rbd_snap_remove2(void *image, const char *name, uint32_t flags,
                            librbd_progress_fn_t progress, void *arg)
{
    struct rbd_handle *h = image;
    struct limpet_image_snap snap;
    int rc = name != NULL ? find(h, name, 0, &snap) : -EINVAL;
    if (rc == 0 && flags & RBD_SNAP_REMOVE_FLATTEN)
        rc = flatten_children(h, name, progress, arg);
    if (rc == 0 && flags & RBD_SNAP_REMOVE_UNPROTECT && snap.is_protected)
        rc = limpet_image_snap_unprotect(h->image, name);
    return rc == 0 ? limpet_image_snap_remove(h->image, name, progress, arg) : rc;
}

EXPORT int rbd_snap_remove(void *image, const char *name)
{
    struct rbd_handle *h = image;
    return h != NULL && name != NULL ? limpet_image_snap_remove(h->image, name, NULL, NULL)
                                     : -EINVAL;
}

EXPORT int rbd_snap_remove_by_id(void *image, uint64_t id)
{
    struct rbd_handle *h = image;
    return h != NULL ? limpet_image_snap_remove_id(h->image, id) : -EINVAL;
}

EXPORT int rbd_snap_rename(void *image, const char *name, const char *to)
{
    struct rbd_handle *h = image;
    return h != NULL && name != NULL && to != NULL ? limpet_image_snap_rename(h->image, name, to)
                                                   : -EINVAL;
}

EXPORT int rbd_snap_rollback_with_progress(void *image, const char *name,
                                           librbd_progress_fn_t progress, void *arg)
{
    struct rbd_handle *h = image;
    return h != NULL && name != NULL ? limpet_image_snap_rollback(h->image, name, progress, arg)
                                     : -EINVAL;
}

EXPORT int rbd_snap_rollback(void *image, const char *name)
{
    return rbd_snap_rollback_with_progress(image, name, NULL, NULL);
}

EXPORT int rbd_snap_get_limit(void *image, uint64_t *limit)
{
    struct rbd_handle *h = image;
    return h != NULL && limit != NULL ? limpet_image_snap_limit(h->image, limit) : -EINVAL;
}

EXPORT int rbd_snap_set_limit(void *image, uint64_t limit)
{
    struct rbd_handle *h = image;
    return h != NULL ? limpet_image_snap_set_limit(h->image, limit) : -EINVAL;
}

/* ---- What the handle looks at ---- */

EXPORT int rbd_snap_set(void *image, const char *name)
{
    struct rbd_handle *h = image;
    return h != NULL ? limpet_image_set_snap(h->image, rbd_snap_or_head(name)) : -EINVAL;
}

/* UINT64_MAX - 1 is the head, in Ceph's numbers. */
EXPORT int rbd_snap_set_by_id(void *image, uint64_t id)
{
    struct rbd_handle *h = image;
    if (h == NULL)
        return -EINVAL;
    return id == UINT64_MAX - 1 ? limpet_image_set_snap(h->image, NULL)
                                : limpet_image_set_snap_id(h->image, id);
}

/* ---- Those of groups ---- */

EXPORT int rbd_snap_group_namespace_cleanup(rbd_snap_group_namespace_t *snap, size_t size)
{
    if (size != sizeof *snap)
        return -ERANGE;
    free(snap->group_name);
    free(snap->group_snap_name);
    *snap = (rbd_snap_group_namespace_t){0};
    return 0;
}

/* The group's snapshot whose number is in the name of the image's. */
static char *group_snap_name(struct limpet_pool *pool, const char *group,
                             const struct limpet_image_snap *snap)
{
    struct limpet_group_snap *snaps;
    size_t n;
    char *name = NULL;
    if (limpet_group_snap_list(pool, group, &snaps, &n) != 0)
        return NULL;
    for (size_t i = 0; name == NULL && i < n; i++) {
        if (strstr(snap->name, snaps[i].id) != NULL || strcmp(snap->original, snaps[i].name) == 0)
            name = strdup(snaps[i].name);
    }
    limpet_free(snaps);
    return name;
}

EXPORT int rbd_snap_get_group_namespace(void *image, uint64_t id, rbd_snap_group_namespace_t *out,
                                        size_t size)
{
    struct rbd_handle *h = image;
    struct limpet_image_snap snap;
    struct limpet_image_spec group;
    struct limpet_pool *pool;
    if (out == NULL || size != sizeof *out)
        return -ERANGE;
    int rc = find(h, NULL, id, &snap);
    if (rc == 0 && snap.kind != LIMPET_IMAGE_SNAP_GROUP)
        rc = -EINVAL;
    if (rc == 0)
        rc = limpet_image_group(h->image, &group);
    if (rc == 0)
        rc = limpet_pool_open_id(h->cluster, group.pool, &pool);
    if (rc != 0)
        return rc;
    rc = limpet_pool_set_namespace(pool, group.space);
    *out = (rbd_snap_group_namespace_t){.group_pool = (int64_t)group.pool,
                                        .group_name = strdup(group.name)};
    if (rc == 0)
        out->group_snap_name = group_snap_name(pool, group.name, &snap);
    if (rc == 0 && (out->group_name == NULL || out->group_snap_name == NULL))
        rc = -ENOENT;
    if (rc != 0)
        rbd_snap_group_namespace_cleanup(out, sizeof *out);
    limpet_pool_close(pool);
    return rc;
}
