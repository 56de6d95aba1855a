/* Metadata of images and pools, and the options among them. */
#include "client/compat/librbd/librbd.h"

#include <stdio.h>

#include "common/image_options.h"

/* What keys in lists begin with, "m/", is no part of their names. */
enum { META_PREFIX = 2 };

/* ---- Values ---- */

static int give_value(int rc, char *found, char *value, size_t *len)
{
    /* Only what was too short is told how long it should be. */
    size_t room = len != NULL ? *len : 0;
    if (rc == 0 && found != NULL)
        rc = rbd_give_text(found, value, len);
    if (rc == 0 && len != NULL)
        *len = room;
    limpet_free(found);
    return rc;
}

EXPORT int rbd_metadata_get(void *image, const char *key, char *value, size_t *len)
{
    struct rbd_handle *h = image;
    char *found = NULL;
    size_t found_len;
    if (h == NULL || key == NULL)
        return -EINVAL;
    int rc = limpet_image_meta_get(h->image, key, &found, &found_len);
    return give_value(rc, found, value, len);
}

EXPORT int rbd_metadata_set(void *image, const char *key, const char *value)
{
    struct rbd_handle *h = image;
    return h != NULL && key != NULL && value != NULL
               ? limpet_image_meta_set(h->image, key, value, strlen(value))
               : -EINVAL;
}

EXPORT int rbd_metadata_remove(void *image, const char *key)
{
    struct rbd_handle *h = image;
    return h != NULL && key != NULL ? limpet_image_meta_remove(h->image, key) : -EINVAL;
}

EXPORT int rbd_pool_metadata_get(void *ioctx, const char *key, char *value, size_t *len)
{
    struct limpet_pool *pool;
    char *found = NULL;
    size_t found_len;
    int rc = key != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    if (rc == 0)
        rc = limpet_pool_meta_get(pool, key, &found, &found_len);
    return give_value(rc, found, value, len);
}

EXPORT int rbd_pool_metadata_set(void *ioctx, const char *key, const char *value)
{
    struct limpet_pool *pool;
    int rc = key != NULL && value != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_pool_meta_set(pool, key, value, strlen(value)) : rc;
}

EXPORT int rbd_pool_metadata_remove(void *ioctx, const char *key)
{
    struct limpet_pool *pool;
    int rc = key != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_pool_meta_remove(pool, key) : rc;
}

/* ---- Lists ---- */

/* Keys in one buffer and values in another, each with a zero after it. */
struct listing {
    struct limpet_image *image; /* NULL: of the pool. */
    struct limpet_pool *pool;
    char *keys, *values;
    size_t keys_room, values_room;
    size_t keys_needed, values_needed;
    char last[LIMPET_IMAGE_META_KEY_MAX + 1];
};

static void put(char *buf, size_t room, size_t *needed, const void *text, size_t len)
{
    if (buf != NULL && *needed + len + 1 <= room) {
        memcpy(buf + *needed, text, len);
        buf[*needed + len] = 0;
    }
    *needed += len + 1;
}

static void put_pair(struct listing *l, const struct limpet_pair *pair)
{
    const char *key = (const char *)pair->key + META_PREFIX;
    size_t len = pair->key_len - META_PREFIX;
    put(l->keys, l->keys_room, &l->keys_needed, key, len);
    put(l->values, l->values_room, &l->values_needed, pair->value, pair->value_len);
    snprintf(l->last, sizeof l->last, "%.*s", (int)len, key);
}

/* One answer holds some of the pairs. */
static int put_pairs(struct listing *l, uint64_t max, uint64_t *n)
{
    struct limpet_pairs *pairs;
    struct limpet_pair pair;
    int rc = l->image != NULL ? limpet_image_meta_list(l->image, l->last, max, &pairs)
                              : limpet_pool_meta_list(l->pool, l->last, max, &pairs);
    if (rc == -ENOENT && l->image == NULL) {
        *n = 0; /* No pair was ever set. */
        return 0;
    }
    if (rc != 0)
        return rc;
    for (*n = 0; limpet_pairs_next(pairs, &pair) == 0; ++*n)
        put_pair(l, &pair);
    limpet_pairs_destroy(pairs);
    return 0;
}

/* max 0: all there are. */
static int list(struct listing *l, const char *start, uint64_t max, size_t *keys_len,
                size_t *values_len)
{
    uint64_t left = max != 0 ? max : UINT64_MAX, n = 1;
    int rc = 0;
    l->keys_room = *keys_len;
    l->values_room = *values_len;
    if (start != NULL && strlen(start) >= sizeof l->last)
        return -ENAMETOOLONG;
    snprintf(l->last, sizeof l->last, "%s", start != NULL ? start : "");
    for (; rc == 0 && n > 0 && left > 0; left -= n)
        rc = put_pairs(l, left, &n);
    if (rc != 0)
        return rc;
    *keys_len = l->keys_needed;
    *values_len = l->values_needed;
    return l->keys_needed <= l->keys_room && l->values_needed <= l->values_room ? 0 : -ERANGE;
}

EXPORT int rbd_metadata_list(void *image, const char *start, uint64_t max, char *keys,
                             size_t *keys_len, char *values, size_t *values_len)
{
    struct rbd_handle *h = image;
    if (h == NULL || keys_len == NULL || values_len == NULL)
        return -EINVAL;
    struct listing l = {.image = h->image, .keys = keys, .values = values};
    return list(&l, start, max, keys_len, values_len);
}

EXPORT int rbd_pool_metadata_list(void *ioctx, const char *start, uint64_t max, char *keys,
                                  size_t *keys_len, char *values, size_t *values_len)
{
    struct listing l = {.keys = keys, .values = values};
    int rc = keys_len != NULL && values_len != NULL ? rbd_pool_of(ioctx, &l.pool) : -EINVAL;
    return rc == 0 ? list(&l, start, max, keys_len, values_len) : rc;
}

/* ---- Options ---- */

enum { SOURCE_CONFIG = 0, SOURCE_POOL = 1, SOURCE_IMAGE = 2 };

static void config_cleanup(rbd_config_option_t *out, int n)
{
    for (int i = 0; i < n; i++) {
        free(out[i].name);
        free(out[i].value);
        out[i] = (rbd_config_option_t){0};
    }
}

/* Takes over the value of what was asked for, if there is one. */
static int take_override(int rc, char *value, int source, rbd_config_option_t *out)
{
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    free(out->value);
    out->value = strdup(value);
    out->source = source;
    limpet_free(value);
    return out->value != NULL ? 0 : -ENOMEM;
}

static int read_option(struct limpet_pool *pool, struct limpet_image *image, int i,
                       rbd_config_option_t *out)
{
    char key[128], *value = NULL;
    size_t len;
    snprintf(key, sizeof key, IMAGE_OPTION_PREFIX "%s", image_options[i].name);
    *out = (rbd_config_option_t){strdup(image_options[i].name), strdup(image_options[i].value),
                                 SOURCE_CONFIG};
    if (out->name == NULL || out->value == NULL)
        return -ENOMEM;
    int rc = limpet_pool_meta_get(pool, key, &value, &len);
    rc = take_override(rc, value, SOURCE_POOL, out);
    if (rc != 0 || image == NULL)
        return rc;
    rc = limpet_image_meta_get(image, key, &value, &len);
    return take_override(rc, value, SOURCE_IMAGE, out);
}

static int list_options(struct limpet_pool *pool, struct limpet_image *image,
                        rbd_config_option_t *out, int *max)
{
    int rc = max == NULL ? -EINVAL : *max < IMAGE_OPTIONS ? -ERANGE : 0;
    if (max != NULL)
        *max = IMAGE_OPTIONS;
    for (int i = 0; rc == 0 && i < IMAGE_OPTIONS; i++) {
        rc = read_option(pool, image, i, &out[i]);
        if (rc != 0)
            config_cleanup(out, i + 1);
    }
    return rc;
}

EXPORT int rbd_config_image_list(void *image, rbd_config_option_t *out, int *max)
{
    struct rbd_handle *h = image;
    return h != NULL ? list_options(h->pool, h->image, out, max) : -EINVAL;
}

EXPORT int rbd_config_pool_list(void *ioctx, rbd_config_option_t *out, int *max)
{
    struct limpet_pool *pool;
    int rc = rbd_pool_of(ioctx, &pool);
    return rc == 0 ? list_options(pool, NULL, out, max) : rc;
}

EXPORT void rbd_config_image_list_cleanup(rbd_config_option_t *out, int n)
{
    config_cleanup(out, n);
}

EXPORT void rbd_config_pool_list_cleanup(rbd_config_option_t *out, int n)
{
    config_cleanup(out, n);
}
