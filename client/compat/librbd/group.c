/* Groups of images. */
#include "client/compat/librbd/librbd.h"

enum { SNAP_INCOMPLETE = 0, SNAP_COMPLETE = 1 };

EXPORT int rbd_group_create(void *ioctx, const char *name)
{
    struct limpet_pool *pool;
    int rc = name != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_group_create(pool, name) : rc;
}

EXPORT int rbd_group_remove(void *ioctx, const char *name)
{
    struct limpet_pool *pool;
    int rc = name != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    if (rc == 0)
        rc = limpet_group_remove(pool, name);
    return rc == -ENOENT ? 0 : rc;
}

EXPORT int rbd_group_rename(void *ioctx, const char *name, const char *to)
{
    struct limpet_pool *pool;
    int rc = name != NULL && to != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_group_rename(pool, name, to) : rc;
}

EXPORT int rbd_group_list(void *ioctx, char *names, size_t *size)
{
    struct limpet_pool *pool;
    struct limpet_image_entry *entries;
    size_t n, needed = 0;
    int rc = size != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    if (rc == 0)
        rc = limpet_group_list(pool, &entries, &n);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < n; i++)
        needed += strlen(entries[i].name) + 1;
    bool fits = *size >= needed && (names != NULL || needed == 0);
    for (size_t i = 0; fits && names != NULL && i < n; i++)
        names = stpcpy(names, entries[i].name) + 1;
    *size = fits ? *size : needed;
    limpet_free(entries);
    return fits ? (int)needed : -ERANGE;
}

EXPORT int rbd_group_info_cleanup(rbd_group_info_t *info, size_t size)
{
    if (size != sizeof *info)
        return -ERANGE;
    free(info->name);
    *info = (rbd_group_info_t){0};
    return 0;
}

/* An image that is in no group has one without a name, of pool -1. */
EXPORT int rbd_get_group(void *image, rbd_group_info_t *info, size_t size)
{
    struct rbd_handle *h = image;
    struct limpet_image_spec group;
    if (h == NULL || info == NULL)
        return -EINVAL;
    if (size != sizeof *info)
        return -ERANGE;
    int rc = limpet_image_group(h->image, &group);
    if (rc != 0 && rc != -ENOENT)
        return rc;
    *info = (rbd_group_info_t){.name = strdup(rc == 0 ? group.name : ""),
                               .pool = rc == 0 ? (int64_t)group.pool : -1};
    return info->name != NULL ? 0 : -ENOMEM;
}

/* ---- Images of a group ---- */

static int with_image(int (*call)(struct limpet_pool *, const char *, struct limpet_pool *,
                                  const char *),
                      void *ioctx, const char *group, void *image_ioctx, const char *image)
{
    struct limpet_pool *pool, *image_pool;
    if (group == NULL || image == NULL)
        return -EINVAL;
    int rc = rbd_pool_of(ioctx, &pool);
    if (rc == 0)
        rc = rbd_pool_of(image_ioctx, &image_pool);
    if (rc == 0 && strcmp(limpet_pool_namespace(pool), limpet_pool_namespace(image_pool)) != 0)
        rc = -EINVAL;
    return rc == 0 ? call(pool, group, image_pool, image) : rc;
}

EXPORT int rbd_group_image_add(void *ioctx, const char *group, void *image_ioctx, const char *image)
{
    return with_image(limpet_group_add, ioctx, group, image_ioctx, image);
}

EXPORT int rbd_group_image_remove(void *ioctx, const char *group, void *image_ioctx,
                                  const char *image)
{
    return with_image(limpet_group_take_out, ioctx, group, image_ioctx, image);
}

EXPORT int rbd_group_image_remove_by_id(void *ioctx, const char *group, void *image_ioctx,
                                        const char *id)
{
    return with_image(limpet_group_take_out_id, ioctx, group, image_ioctx, id);
}

EXPORT int rbd_group_image_list_cleanup(rbd_group_image_info_t *images, size_t size, size_t n)
{
    if (size != sizeof *images)
        return -ERANGE;
    for (size_t i = 0; i < n; i++) {
        free(images[i].name);
        images[i].name = NULL;
    }
    return 0;
}

/* Of a group that there is not, lists are empty. */
static int no_group(int rc, size_t *n)
{
    if (rc != -ENOENT)
        return rc;
    *n = 0;
    return 0;
}

EXPORT int rbd_group_image_list(void *ioctx, const char *group, rbd_group_image_info_t *out,
                                size_t size, size_t *max)
{
    struct limpet_pool *pool;
    struct limpet_image_spec *specs;
    size_t n;
    if (max == NULL || group == NULL)
        return -EINVAL;
    if (size != sizeof *out)
        return -ERANGE;
    int rc = rbd_pool_of(ioctx, &pool);
    if (rc == 0)
        rc = limpet_group_images(pool, group, &specs, &n);
    if (rc != 0)
        return no_group(rc, max);
    rc = *max >= n && (out != NULL || n == 0) ? 0 : -ERANGE;
    *max = n;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        out[i] =
            (rbd_group_image_info_t){.name = strdup(specs[i].name), .pool = (int64_t)specs[i].pool};
        if (out[i].name == NULL) {
            rbd_group_image_list_cleanup(out, sizeof *out, i);
            rc = -ENOMEM;
        }
    }
    limpet_free(specs);
    return rc == 0 ? (int)n : rc;
}

/* ---- Snapshots of a group ---- */

EXPORT int rbd_group_snap_create2(void *ioctx, const char *group, const char *snap, uint32_t flags)
{
    struct limpet_pool *pool;
    (void)flags;
    int rc = group != NULL && snap != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_group_snap_create(pool, group, snap) : rc;
}

EXPORT int rbd_group_snap_create(void *ioctx, const char *group, const char *snap)
{
    return rbd_group_snap_create2(ioctx, group, snap, 0);
}

EXPORT int rbd_group_snap_remove(void *ioctx, const char *group, const char *snap)
{
    struct limpet_pool *pool;
    int rc = group != NULL && snap != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_group_snap_remove(pool, group, snap) : rc;
}

EXPORT int rbd_group_snap_rename(void *ioctx, const char *group, const char *snap, const char *to)
{
    struct limpet_pool *pool;
    int rc = group != NULL && snap != NULL && to != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_group_snap_rename(pool, group, snap, to) : rc;
}

EXPORT int rbd_group_snap_rollback_with_progress(void *ioctx, const char *group, const char *snap,
                                                 librbd_progress_fn_t progress, void *arg)
{
    struct limpet_pool *pool;
    int rc = group != NULL && snap != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_group_snap_rollback(pool, group, snap, progress, arg) : rc;
}

EXPORT int rbd_group_snap_rollback(void *ioctx, const char *group, const char *snap)
{
    return rbd_group_snap_rollback_with_progress(ioctx, group, snap, NULL, NULL);
}

EXPORT int rbd_group_snap_list_cleanup(rbd_group_snap_info_t *snaps, size_t size, size_t n)
{
    if (size != sizeof *snaps)
        return -ERANGE;
    for (size_t i = 0; i < n; i++) {
        free(snaps[i].name);
        snaps[i].name = NULL;
    }
    return 0;
}

EXPORT int rbd_group_snap_list(void *ioctx, const char *group, rbd_group_snap_info_t *out,
                               size_t size, size_t *max)
{
    struct limpet_pool *pool;
    struct limpet_group_snap *snaps;
    size_t n;
    if (max == NULL || group == NULL)
        return -EINVAL;
    if (size != sizeof *out)
        return -ERANGE;
    int rc = rbd_pool_of(ioctx, &pool);
    if (rc == 0)
        rc = limpet_group_snap_list(pool, group, &snaps, &n);
    if (rc != 0)
        return no_group(rc, max);
    rc = *max >= n && (out != NULL || n == 0) ? 0 : -ERANGE;
    *max = n;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        out[i] =
            (rbd_group_snap_info_t){.name = strdup(snaps[i].name),
                                    .state = snaps[i].complete ? SNAP_COMPLETE : SNAP_INCOMPLETE};
        if (out[i].name == NULL) {
            rbd_group_snap_list_cleanup(out, sizeof *out, i);
            rc = -ENOMEM;
        }
    }
    limpet_free(snaps);
    return rc == 0 ? (int)n : rc;
}
