/* Images: opening, closing, what they are. */
#include "client/compat/librbd/librbd.h"

#include <stdio.h>

/* librbd 1.16.0 is that of Ceph 16. */
enum { VERSION_MAJOR = 1, VERSION_MINOR = 16, VERSION_EXTRA = 0 };

EXPORT void rbd_version(int *major, int *minor, int *extra)
{
    if (major != NULL)
        *major = VERSION_MAJOR;
    if (minor != NULL)
        *minor = VERSION_MINOR;
    if (extra != NULL)
        *extra = VERSION_EXTRA;
}

/* ---- Handles ---- */

int rbd_pool_of(void *ioctx, struct limpet_pool **pool)
{
    struct compat_ioctx *io = ioctx;
    if (io == NULL)
        return -EINVAL;
    *pool = io->pool;
    return io->space_error;
}

int rbd_pool_like(const struct limpet_pool *pool, struct limpet_pool **out)
{
    int rc = limpet_pool_open_id(limpet_pool_cluster(pool), limpet_pool_id(pool), out);
    if (rc != 0)
        return rc;
    rc = limpet_pool_set_namespace(*out, limpet_pool_namespace(pool));
    if (rc != 0)
        limpet_pool_close(*out);
    return rc;
}

int rbd_handle_create(void *ioctx, struct rbd_handle **out)
{
    struct limpet_pool *pool;
    int rc = rbd_pool_of(ioctx, &pool);
    if (rc != 0)
        return rc;
    struct rbd_handle *h = calloc(1, sizeof *h);
    if (h == NULL)
        return -ENOMEM;
    h->cluster = limpet_pool_cluster(pool);
    rc = rbd_pool_like(pool, &h->pool);
    if (rc != 0) {
        free(h);
        return rc;
    }
    *out = h;
    return 0;
}

void rbd_handle_destroy(struct rbd_handle *h)
{
    rbd_events_destroy(h->events);
    limpet_pool_close(h->pool);
    free(h);
}

int rbd_header_name(struct rbd_handle *h, char name[64])
{
    struct limpet_image_info info;
    int rc = limpet_image_info(h->image, &info);
    snprintf(name, 64, "rbd_header.%s", rc == 0 ? info.id : "");
    return rc;
}

static int open_image(void *ioctx, const char *name, void **image, const char *snap, unsigned flags)
{
    struct rbd_handle *h;
    if (name == NULL || image == NULL)
        return -EINVAL;
    int rc = rbd_handle_create(ioctx, &h);
    if (rc != 0)
        return rc;
    rc = limpet_image_open(h->pool, name, rbd_snap_or_head(snap), flags | LIMPET_IMAGE_WRITE_BACK,
                           &h->image);
    if (rc != 0)
        rbd_handle_destroy(h);
    else
        *image = h;
    return rc;
}

EXPORT int rbd_open(void *ioctx, const char *name, void **image, const char *snap)
{
    return open_image(ioctx, name, image, snap, 0);
}

EXPORT int rbd_open_read_only(void *ioctx, const char *name, void **image, const char *snap)
{
    return open_image(ioctx, name, image, snap, LIMPET_IMAGE_READ_ONLY);
}

EXPORT int rbd_open_by_id(void *ioctx, const char *id, void **image, const char *snap)
{
    return open_image(ioctx, id, image, snap, LIMPET_IMAGE_BY_ID);
}

EXPORT int rbd_open_by_id_read_only(void *ioctx, const char *id, void **image, const char *snap)
{
    return open_image(ioctx, id, image, snap, LIMPET_IMAGE_BY_ID | LIMPET_IMAGE_READ_ONLY);
}

static int aio_open(void *ioctx, const char *name, void **image, const char *snap,
                    struct rbd_completion *c, unsigned flags)
{
    struct rbd_handle *h;
    if (name == NULL || image == NULL || c == NULL)
        return -EINVAL;
    int rc = rbd_handle_create(ioctx, &h);
    if (rc != 0)
        return rc;
    rc = rbd_completion_begin(c, h, false);
    if (rc != 0) {
        rbd_handle_destroy(h);
        return rc;
    }
    rbd_completion_opens(c, h, image);
    rc = limpet_image_aio_open(h->pool, name, rbd_snap_or_head(snap),
                               flags | LIMPET_IMAGE_WRITE_BACK, &h->image, rbd_completion_ended, c);
    if (rc != 0)
        rbd_handle_destroy(h);
    return rbd_completion_submitted(c, rc);
}

EXPORT int rbd_aio_open(void *ioctx, const char *name, void **image, const char *snap, void *c)
{
    return aio_open(ioctx, name, image, snap, c, 0);
}

EXPORT int rbd_aio_open_read_only(void *ioctx, const char *name, void **image, const char *snap,
                                  void *c)
{
    return aio_open(ioctx, name, image, snap, c, LIMPET_IMAGE_READ_ONLY);
}

EXPORT int rbd_aio_open_by_id(void *ioctx, const char *id, void **image, const char *snap, void *c)
{
    return aio_open(ioctx, id, image, snap, c, LIMPET_IMAGE_BY_ID);
}

EXPORT int rbd_aio_open_by_id_read_only(void *ioctx, const char *id, void **image, const char *snap,
                                        void *c)
{
    return aio_open(ioctx, id, image, snap, c, LIMPET_IMAGE_BY_ID | LIMPET_IMAGE_READ_ONLY);
}

EXPORT int rbd_close(void *image)
{
    struct rbd_handle *h = image;
    if (h == NULL)
        return -EINVAL;
    int rc = limpet_image_close(h->image);
    /* In a callback: it stays open. */
    if (rc != -EDEADLK)
        rbd_handle_destroy(h);
    return rc;
}

EXPORT int rbd_aio_close(void *image, void *completion)
{
    struct rbd_handle *h = image;
    if (h == NULL || completion == NULL)
        return -EINVAL;
    struct limpet_image *inner = h->image;
    int rc = rbd_completion_begin(completion, h, false);
    if (rc != 0)
        return rc;
    rbd_completion_opens(completion, h, NULL);
    rc = limpet_image_aio_close(inner, rbd_completion_ended, completion);
    return rbd_completion_submitted(completion, rc);
}

/* ---- Answers ---- */

int rbd_give_text(const char *text, char *buf, size_t *len)
{
    size_t needed = strlen(text) + 1;
    if (len == NULL)
        return -EINVAL;
    size_t room = *len;
    *len = needed;
    if (room < needed || buf == NULL)
        return -ERANGE;
    memcpy(buf, text, needed);
    return 0;
}

int rbd_put_text(const char *text, char *buf, size_t len)
{
    return rbd_give_text(text, buf, &len);
}

char *rbd_pool_name(struct limpet_cluster *cluster, uint64_t id)
{
    struct limpet_pool *pool;
    if (limpet_pool_open_id(cluster, id, &pool) != 0)
        return NULL;
    char *name = strdup(limpet_pool_name(pool));
    limpet_pool_close(pool);
    return name;
}

int rbd_give_spec(struct limpet_cluster *cluster, const struct limpet_image_spec *spec,
                  rbd_linked_image_spec_t *out)
{
    *out = (rbd_linked_image_spec_t){.pool_id = (int64_t)spec->pool,
                                     .pool_name = rbd_pool_name(cluster, spec->pool),
                                     .pool_namespace = strdup(spec->space),
                                     .image_id = strdup(spec->id),
                                     .image_name = strdup(spec->name),
                                     .trash = spec->trash};
    if (out->pool_name == NULL)
        out->pool_name = strdup("");
    if (out->pool_name != NULL && out->pool_namespace != NULL && out->image_id != NULL &&
        out->image_name != NULL)
        return 0;
    rbd_linked_image_spec_cleanup(out);
    return -ENOMEM;
}

EXPORT void rbd_linked_image_spec_cleanup(rbd_linked_image_spec_t *s)
{
    free(s->pool_name);
    free(s->pool_namespace);
    free(s->image_id);
    free(s->image_name);
    *s = (rbd_linked_image_spec_t){0};
}

EXPORT void rbd_linked_image_spec_list_cleanup(rbd_linked_image_spec_t *specs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        rbd_linked_image_spec_cleanup(&specs[i]);
}

EXPORT void rbd_snap_spec_cleanup(rbd_snap_spec_t *snap)
{
    free(snap->name);
    *snap = (rbd_snap_spec_t){0};
}

EXPORT void rbd_image_spec_cleanup(rbd_image_spec_t *spec)
{
    free(spec->id);
    free(spec->name);
    *spec = (rbd_image_spec_t){0};
}

EXPORT void rbd_image_spec_list_cleanup(rbd_image_spec_t *specs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        rbd_image_spec_cleanup(&specs[i]);
}

/* ---- What an image is ---- */

static int look(void *image, struct limpet_image_info *info)
{
    struct rbd_handle *h = image;
    return h != NULL ? limpet_image_info(h->image, info) : -EINVAL;
}

EXPORT int rbd_stat(void *image, rbd_image_info_t *out, size_t size)
{
    struct limpet_image_info info;
    int rc = look(image, &info);
    if (rc != 0 || out == NULL)
        return rc != 0 ? rc : -EINVAL;
    rbd_image_info_t stat = {.size = info.size,
                             .obj_size = info.object_size,
                             .num_objs = info.objects,
                             .order = (int)info.order,
                             .parent_pool = -1};
    /* Longer here than in the days of this structure; rbd_get_block_name_prefix() has all of it. */
    snprintf(stat.block_name_prefix, sizeof stat.block_name_prefix, "%.23s", info.prefix);
    memcpy(out, &stat, size < sizeof stat ? size : sizeof stat);
    return 0;
}

#define GETTER(name, type, value)                                                                  \
    EXPORT int name(void *image, typeof(type) *out)                                                \
    {                                                                                              \
        struct limpet_image_info info;                                                             \
        int rc = out != NULL ? look(image, &info) : -EINVAL;                                       \
        if (rc == 0)                                                                               \
            *out = value;                                                                          \
        return rc;                                                                                 \
    }

static struct timespec time_of(uint64_t ns)
{
    return (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

GETTER(rbd_get_old_format, uint8_t, 0)
GETTER(rbd_get_size, uint64_t, info.size)
GETTER(rbd_get_features, uint64_t, info.features)
GETTER(rbd_get_op_features, uint64_t, info.op_features)
GETTER(rbd_get_flags, uint64_t, info.flags)
GETTER(rbd_get_stripe_unit, uint64_t, info.stripe_unit)
GETTER(rbd_get_stripe_count, uint64_t, info.stripe_count)
GETTER(rbd_get_overlap, uint64_t, info.has_parent ? info.overlap : 0)
GETTER(rbd_get_create_timestamp, struct timespec, time_of(info.created_ns))
GETTER(rbd_get_access_timestamp, struct timespec, time_of(info.accessed_ns))
GETTER(rbd_get_modify_timestamp, struct timespec, time_of(info.modified_ns))

EXPORT int rbd_get_name(void *image, char *name, size_t *len)
{
    struct limpet_image_info info;
    int rc = look(image, &info);
    return rc == 0 ? rbd_give_text(info.name, name, len) : rc;
}

EXPORT int rbd_get_id(void *image, char *id, size_t len)
{
    struct limpet_image_info info;
    int rc = look(image, &info);
    return rc == 0 ? rbd_put_text(info.id, id, len) : rc;
}

EXPORT int rbd_get_block_name_prefix(void *image, char *prefix, size_t len)
{
    struct limpet_image_info info;
    int rc = look(image, &info);
    return rc == 0 ? rbd_put_text(info.prefix, prefix, len) : rc;
}

EXPORT int64_t rbd_get_data_pool_id(void *image)
{
    struct limpet_image_info info;
    int rc = look(image, &info);
    return rc == 0 ? (int64_t)info.data_pool : rc;
}

/* ---- Its parent ---- */

static int look_parent(void *image, struct limpet_image_spec *spec)
{
    struct rbd_handle *h = image;
    return h != NULL ? limpet_image_parent(h->image, spec) : -EINVAL;
}

EXPORT int rbd_get_parent(void *image, rbd_linked_image_spec_t *parent, rbd_snap_spec_t *snap)
{
    struct limpet_image_spec spec;
    int rc = look_parent(image, &spec);
    if (rc == 0 && parent != NULL)
        rc = rbd_give_spec(((struct rbd_handle *)image)->cluster, &spec, parent);
    if (rc != 0 || snap == NULL)
        return rc;
    *snap = (rbd_snap_spec_t){.id = spec.snap, .name = strdup(spec.snap_name)};
    if (snap->name != NULL)
        return 0;
    if (parent != NULL)
        rbd_linked_image_spec_cleanup(parent);
    return -ENOMEM;
}

EXPORT int rbd_get_parent_info2(void *image, char *pool, size_t pool_len, char *name,
                                size_t name_len, char *id, size_t id_len, char *snap,
                                size_t snap_len)
{
    struct limpet_image_spec spec;
    int rc = look_parent(image, &spec);
    if (rc != 0)
        return rc;
    char *pool_name = rbd_pool_name(((struct rbd_handle *)image)->cluster, spec.pool);
    if (pool != NULL)
        rc = rbd_put_text(pool_name != NULL ? pool_name : "", pool, pool_len);
    free(pool_name);
    if (rc == 0 && name != NULL)
        rc = rbd_put_text(spec.name, name, name_len);
    if (rc == 0 && id != NULL)
        rc = rbd_put_text(spec.id, id, id_len);
    if (rc == 0 && snap != NULL)
        rc = rbd_put_text(spec.snap_name, snap, snap_len);
    return rc;
}

EXPORT int rbd_get_parent_info(void *image, char *pool, size_t pool_len, char *name,
                               size_t name_len, char *snap, size_t snap_len)
{
    return rbd_get_parent_info2(image, pool, pool_len, name, name_len, NULL, 0, snap, snap_len);
}

/* ---- Features ---- */

static const char *const feature_names[] = {
    "layering",   "striping",  "exclusive-lock", "object-map", "fast-diff",   "deep-flatten",
    "journaling", "data-pool", "operations",     "migrating",  "non-primary",
};
enum { FEATURE_NAMES = sizeof feature_names / sizeof feature_names[0] };

EXPORT int rbd_features_to_string(uint64_t features, char *text, size_t *len)
{
    char names[256] = "";
    if (features >> FEATURE_NAMES != 0)
        return -EINVAL;
    for (unsigned i = 0; i < FEATURE_NAMES; i++) {
        size_t at = strlen(names);
        if (features >> i & 1)
            snprintf(names + at, sizeof names - at, "%s%s", at > 0 ? "," : "", feature_names[i]);
    }
    return rbd_give_text(names, text, len);
}

EXPORT int rbd_features_from_string(const char *text, uint64_t *features)
{
    char *end;
    if (text == NULL || features == NULL)
        return -EINVAL;
    *features = strtoull(text, &end, 0);
    if (*end == 0)
        return *features >> FEATURE_NAMES == 0 ? 0 : -EINVAL;
    *features = 0;
    for (const char *at = text; at != NULL; at = strchr(at, ','), at += at != NULL) {
        size_t len = strcspn(at, ",");
        unsigned i = 0;
        while (i < FEATURE_NAMES &&
               (strlen(feature_names[i]) != len || strncmp(feature_names[i], at, len) != 0))
            i++;
        if (i == FEATURE_NAMES)
            return -EINVAL;
        *features |= UINT64_C(1) << i;
    }
    return 0;
}

EXPORT int rbd_update_features(void *image, uint64_t features, uint8_t enabled)
{
    struct rbd_handle *h = image;
    return h != NULL ? limpet_image_set_features(h->image, features, enabled != 0) : -EINVAL;
}

/* ---- Size, object map, space, encryption ---- */

enum { ALGORITHM_AES128 = 0, ALGORITHM_AES256 = 1 };

EXPORT int rbd_resize2(void *image, uint64_t size, bool allow_shrink, librbd_progress_fn_t progress,
                       void *arg)
{
    struct rbd_handle *h = image;
    return h != NULL ? limpet_image_resize(h->image, size, allow_shrink, progress, arg) : -EINVAL;
}

EXPORT int rbd_resize_with_progress(void *image, uint64_t size, librbd_progress_fn_t progress,
                                    void *arg)
{
    return rbd_resize2(image, size, true, progress, arg);
}

EXPORT int rbd_resize(void *image, uint64_t size)
{
    return rbd_resize2(image, size, true, NULL, NULL);
}

EXPORT int rbd_rebuild_object_map(void *image, librbd_progress_fn_t progress, void *arg)
{
    struct rbd_handle *h = image;
    return h != NULL ? limpet_image_rebuild_object_map(h->image, progress, arg) : -EINVAL;
}

EXPORT int rbd_sparsify_with_progress(void *image, size_t unit, librbd_progress_fn_t progress,
                                      void *arg)
{
    struct rbd_handle *h = image;
    return h != NULL ? limpet_image_sparsify(h->image, unit, progress, arg) : -EINVAL;
}

EXPORT int rbd_sparsify(void *image, size_t unit)
{
    return rbd_sparsify_with_progress(image, unit, NULL, NULL);
}

EXPORT int rbd_encryption_format(void *image, int format,
                                 const rbd_encryption_luks_format_options_t *options, size_t size)
{
    struct rbd_handle *h = image;
    if (h == NULL || options == NULL || size != sizeof *options)
        return -EINVAL;
    if (options->alg != ALGORITHM_AES128 && options->alg != ALGORITHM_AES256)
        return -EINVAL;
    return limpet_image_encrypt(h->image, (enum limpet_image_encryption)format,
                                options->alg == ALGORITHM_AES128 ? 128 : 256, options->passphrase,
                                options->passphrase_size);
}

EXPORT int rbd_encryption_load(void *image, int format,
                               const rbd_encryption_luks_format_options_t *options, size_t size)
{
    struct rbd_handle *h = image;
    if (h == NULL || options == NULL || size != sizeof *options)
        return -EINVAL;
    return limpet_image_decrypt(h->image, (enum limpet_image_encryption)format, options->passphrase,
                                options->passphrase_size);
}
