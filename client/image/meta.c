/* Metadata of images and pools, features. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/manage.h"

/* ---- Pairs under "m/" of an object's map ---- */

static int meta_key(const char *key, char **out, size_t *len)
{
    size_t key_len = strnlen(key, LIMPET_IMAGE_META_KEY_MAX + 1);
    if (key_len == 0)
        return -EINVAL;
    if (key_len > LIMPET_IMAGE_META_KEY_MAX)
        return -ENAMETOOLONG;
    *len = 2 + key_len;
    *out = malloc(*len + 1);
    if (*out == NULL)
        return -ENOMEM;
    memcpy(*out, IMAGE_KEY_META, 2);
    memcpy(*out + 2, key, key_len + 1);
    return 0;
}

static int meta_set(struct limpet_pool *pool, const char *object, bool create, const char *key,
                    const void *value, size_t len)
{
    struct limpet_pair pair = {.value = value, .value_len = len};
    char *full = NULL;
    if (len > LIMPET_IMAGE_META_VALUE_MAX)
        return -EFBIG;
    struct limpet_op *op = limpet_op_create();
    int rc = op != NULL ? meta_key(key, &full, &pair.key_len) : -ENOMEM;
    pair.key = full;
    if (rc == 0)
        rc = create ? limpet_op_create_object(op, false) : limpet_op_assert_exists(op);
    if (rc == 0)
        rc = limpet_op_omap_set(op, &pair, 1);
    if (rc == 0)
        rc = limpet_operate(pool, object, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    free(full);
    return rc;
}

static int meta_get(struct limpet_pool *pool, const char *object, const char *key, char **value,
                    size_t *len)
{
    char *full = NULL;
    size_t full_len;
    int rc = meta_key(key, &full, &full_len);
    if (rc == 0)
        rc = omap_get(pool, object, full, value, len);
    free(full);
    return rc;
}

static int meta_remove(struct limpet_pool *pool, const char *object, const char *key)
{
    char *full = NULL, *value = NULL;
    size_t full_len, len;
    int rc = meta_key(key, &full, &full_len);
    if (rc == 0)
        rc = omap_get(pool, object, full, &value, &len);
    if (rc == 0)
        rc = omap_remove(pool, object, full, full_len);
    free(value);
    free(full);
    return rc;
}

/* The keys of what is given begin with "m/". */
static int meta_list(struct limpet_pool *pool, const char *object, const char *after, uint64_t max,
                     struct limpet_pairs **out)
{
    char *full = NULL;
    size_t len = 0;
    struct limpet_op *op = limpet_op_create();
    int rc = op == NULL ? -ENOMEM : 0;
    if (rc == 0 && after != NULL && after[0] != 0)
        rc = meta_key(after, &full, &len);
    if (rc == 0)
        rc = limpet_op_omap_list(op, full, len, IMAGE_KEY_META, 2, max, out, NULL, NULL);
    if (rc == 0)
        rc = limpet_operate(pool, object, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    free(full);
    return rc;
}

/* ---- Of images ---- */

int limpet_image_meta_set(struct limpet_image *image, const char *key, const void *value,
                          size_t len)
{
    int rc = image->read_only || image->snap != 0 ? -EROFS : qos_check_option(key, value, len);
    if (rc == 0)
        rc = meta_set(image->meta, image->header_name, false, key, value, len);
    return rc == 0 ? image_tell(image->meta, image->id, NULL) : rc;
}

int limpet_image_meta_get(struct limpet_image *image, const char *key, char **value, size_t *len)
{
    return meta_get(image->meta, image->header_name, key, value, len);
}

int limpet_image_meta_remove(struct limpet_image *image, const char *key)
{
    int rc = image->read_only || image->snap != 0 ? -EROFS : 0;
    if (rc == 0)
        rc = meta_remove(image->meta, image->header_name, key);
    return rc == 0 ? image_tell(image->meta, image->id, NULL) : rc;
}

int limpet_image_meta_list(struct limpet_image *image, const char *after, uint64_t max,
                           struct limpet_pairs **out)
{
    return meta_list(image->meta, image->header_name, after, max, out);
}

/* ---- Of pools ---- */

int limpet_pool_meta_set(struct limpet_pool *pool, const char *key, const void *value, size_t len)
{
    int rc = qos_check_option(key, value, len);
    return rc == 0 ? meta_set(pool, IMAGE_POOL_INFO, true, key, value, len) : rc;
}

int limpet_pool_meta_get(struct limpet_pool *pool, const char *key, char **value, size_t *len)
{
    return meta_get(pool, IMAGE_POOL_INFO, key, value, len);
}

int limpet_pool_meta_remove(struct limpet_pool *pool, const char *key)
{
    return meta_remove(pool, IMAGE_POOL_INFO, key);
}

int limpet_pool_meta_list(struct limpet_pool *pool, const char *after, uint64_t max,
                          struct limpet_pairs **out)
{
    return meta_list(pool, IMAGE_POOL_INFO, after, max, out);
}

/* ---- Features ---- */

const char *limpet_image_feature_name(unsigned bit)
{
    static const char *const names[] = {
        "layering",   "striping",  "exclusive-lock", "object-map", "fast-diff",   "deep-flatten",
        "journaling", "data-pool", "operations",     "migrating",  "non-primary",
    };
    return bit < sizeof names / sizeof names[0] ? names[bit] : NULL;
}

struct feature_change {
    uint64_t features;
    bool enabled;
};

static int change_features(struct header *next, struct limpet_op *op, void *arg)
{
    const struct feature_change *c = arg;
    uint64_t before = next->core.features;
    (void)op;
    /* All of them change. */
    if ((c->enabled ? c->features & before : c->features & ~before) != 0)
        return -EINVAL;
    uint64_t changed = image_paired_features(c->features);
    next->core.features = c->enabled ? before | changed : before & ~changed;
    int rc = image_check_features(next->core.features);
    if (rc != 0)
        return rc;
    uint64_t maps = LIMPET_IMAGE_OBJECT_MAP | LIMPET_IMAGE_FAST_DIFF;
    /* What was written without a map is in none. */
    if (c->enabled && (changed & LIMPET_IMAGE_OBJECT_MAP & ~before) != 0)
        next->core.flags |= LIMPET_IMAGE_OBJECT_MAP_INVALID | LIMPET_IMAGE_FAST_DIFF_INVALID;
    if ((next->core.features & maps) == 0)
        next->core.flags &=
            ~(uint64_t)(LIMPET_IMAGE_OBJECT_MAP_INVALID | LIMPET_IMAGE_FAST_DIFF_INVALID);
    return 0;
}

int limpet_image_set_features(struct limpet_image *image, uint64_t features, bool enabled)
{
    struct feature_change c = {.features = features, .enabled = enabled};
    if (features == 0 || (features & ~(uint64_t)LIMPET_IMAGE_FEATURES_MUTABLE) != 0)
        return -EINVAL;
    /* What was copied up before is not in earlier snapshots. */
    if (enabled && (features & LIMPET_IMAGE_DEEP_FLATTEN) != 0)
        return -EINVAL;
    /* Nobody writes by the old rules meanwhile. */
    int rc = image_hold(image);
    if (rc != 0)
        return rc;
    image_shut_gate(image);
    rc = image_change(image, change_features, &c);
    image_open_gate(image);
    image_give_back(image);
    return rc;
}
