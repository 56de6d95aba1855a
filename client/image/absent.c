/*
 * What of limpet/image.h is not there yet: each function says -EOPNOTSUPP. The definitions are
 * weak, so that one in another file takes its place; it should be removed from here then.
 */
#include <errno.h>

#include "client/limpet/image.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

#define ABSENT __attribute__((weak))

/* ---- What is used, and what has changed ---- */

ABSENT int limpet_image_diff(struct limpet_image *image, const char *from, uint64_t offset,
                             uint64_t len, bool include_parent, bool whole_object,
                             limpet_image_extent extent, void *arg)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_image_used(struct limpet_image *image, const char *from, uint64_t *bytes)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_image_rebuild_object_map(struct limpet_image *image,
                                           limpet_image_progress progress, void *arg)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_image_check_object_map(struct limpet_image *image, limpet_image_progress progress,
                                         void *arg)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_image_sparsify(struct limpet_image *image, uint64_t unit,
                                 limpet_image_progress progress, void *arg)
{
    return -EOPNOTSUPP;
}

/* ---- Copies ---- */

ABSENT int limpet_image_copy(struct limpet_image *image, struct limpet_pool *pool, const char *name,
                             const struct limpet_image_options *options,
                             limpet_image_progress progress, void *arg)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_image_deep_copy(struct limpet_image *image, struct limpet_pool *pool,
                                  const char *name, const struct limpet_image_options *options,
                                  bool flatten, limpet_image_progress progress, void *arg)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_image_export_diff(struct limpet_image *image, const char *from, bool whole_object,
                                    const struct limpet_image_sink *sink,
                                    limpet_image_progress progress, void *arg)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_image_import_diff(struct limpet_image *image,
                                    const struct limpet_image_source *source,
                                    limpet_image_progress progress, void *arg)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_image_merge_diff(const struct limpet_image_source *first,
                                   const struct limpet_image_source *second,
                                   const struct limpet_image_sink *sink)
{
    return -EOPNOTSUPP;
}

/* ---- Encryption ---- */

ABSENT int limpet_image_encrypt(struct limpet_image *image, enum limpet_image_encryption format,
                                const void *passphrase, size_t len)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_image_decrypt(struct limpet_image *image, enum limpet_image_encryption format,
                                const void *passphrase, size_t len)
{
    return -EOPNOTSUPP;
}

/* ---- Groups ---- */

ABSENT int limpet_group_create(struct limpet_pool *pool, const char *name)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_group_remove(struct limpet_pool *pool, const char *name)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_group_rename(struct limpet_pool *pool, const char *name, const char *to)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_group_list(struct limpet_pool *pool, struct limpet_image_entry **out, size_t *n)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_group_add(struct limpet_pool *pool, const char *group,
                            struct limpet_pool *image_pool, const char *image)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_group_take_out(struct limpet_pool *pool, const char *group,
                                 struct limpet_pool *image_pool, const char *image)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_group_images(struct limpet_pool *pool, const char *group,
                               struct limpet_image_spec **out, size_t *n)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_image_group(struct limpet_image *image, struct limpet_image_spec *out)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_group_snap_create(struct limpet_pool *pool, const char *group, const char *snap)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_group_snap_remove(struct limpet_pool *pool, const char *group, const char *snap)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_group_snap_rename(struct limpet_pool *pool, const char *group, const char *snap,
                                    const char *to)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_group_snap_rollback(struct limpet_pool *pool, const char *group, const char *snap,
                                      limpet_image_progress progress, void *arg)
{
    return -EOPNOTSUPP;
}

ABSENT int limpet_group_snap_list(struct limpet_pool *pool, const char *group,
                                  struct limpet_group_snap **out, size_t *n)
{
    return -EOPNOTSUPP;
}
