/* Images of a pool: options, creation, clones, copies, removal, lists. */
#include "client/compat/librbd/librbd.h"

#include <limits.h>

enum { FEATURE_MIGRATING = 9 }; /* Its bit. */

/* ---- Options ---- */

EXPORT void rbd_image_options_create(void **options)
{
    if (options != NULL)
        *options = calloc(1, sizeof(struct rbd_options));
}

EXPORT void rbd_image_options_clear(void *options)
{
    struct rbd_options *o = options;
    for (int i = 0; o != NULL && i < RBD_IMAGE_OPTIONS; i++)
        free(o->texts[i]);
    if (o != NULL)
        *o = (struct rbd_options){0};
}

EXPORT void rbd_image_options_destroy(void *options)
{
    rbd_image_options_clear(options);
    free(options);
}

static bool is_text(int option)
{
    return option == RBD_IMAGE_OPTION_DATA_POOL || option == RBD_IMAGE_OPTION_JOURNAL_POOL;
}

static bool is_option(const struct rbd_options *o, int option)
{
    return o != NULL && option >= 0 && option < RBD_IMAGE_OPTIONS;
}

EXPORT int rbd_image_options_set_uint64(void *options, int option, uint64_t value)
{
    struct rbd_options *o = options;
    if (!is_option(o, option) || is_text(option))
        return -EINVAL;
    o->numbers[option] = value;
    o->is_set[option] = true;
    return 0;
}

EXPORT int rbd_image_options_set_string(void *options, int option, const char *value)
{
    struct rbd_options *o = options;
    char *end;
    if (!is_option(o, option) || value == NULL)
        return -EINVAL;
    if (!is_text(option)) {
        uint64_t number = strtoull(value, &end, 0);
        return *value != 0 && *end == 0 ? rbd_image_options_set_uint64(o, option, number) : -EINVAL;
    }
    char *copy = strdup(value);
    if (copy == NULL)
        return -ENOMEM;
    free(o->texts[option]);
    o->texts[option] = copy;
    o->is_set[option] = true;
    return 0;
}

EXPORT int rbd_image_options_get_uint64(void *options, int option, uint64_t *value)
{
    const struct rbd_options *o = options;
    if (!is_option(o, option) || is_text(option) || value == NULL)
        return -EINVAL;
    *value = o->numbers[option];
    return o->is_set[option] ? 0 : -ENOENT;
}

EXPORT int rbd_image_options_get_string(void *options, int option, char *value, size_t len)
{
    const struct rbd_options *o = options;
    if (!is_option(o, option) || !is_text(option))
        return -EINVAL;
    return o->is_set[option] ? rbd_put_text(o->texts[option], value, len) : -ENOENT;
}

EXPORT int rbd_image_options_is_set(void *options, int option, bool *is_set)
{
    const struct rbd_options *o = options;
    if (!is_option(o, option) || is_set == NULL)
        return -EINVAL;
    *is_set = o->is_set[option];
    return 0;
}

EXPORT int rbd_image_options_unset(void *options, int option)
{
    struct rbd_options *o = options;
    if (!is_option(o, option))
        return -EINVAL;
    if (!o->is_set[option])
        return -ENOENT;
    free(o->texts[option]);
    o->texts[option] = NULL;
    o->is_set[option] = false;
    return 0;
}

EXPORT int rbd_image_options_is_empty(void *options)
{
    const struct rbd_options *o = options;
    for (int i = 0; o != NULL && i < RBD_IMAGE_OPTIONS; i++) {
        if (o->is_set[i])
            return 0;
    }
    return 1;
}

static unsigned order_of(uint64_t order)
{
    return order < UINT_MAX ? (unsigned)order : UINT_MAX;
}

/* All bits are features that there are not; here they would be those of the source. */
static uint64_t given_features(uint64_t features)
{
    return features == LIMPET_IMAGE_FEATURES_SOURCE ? features - 1 : features;
}

int rbd_options_read(const struct rbd_options *o, struct limpet_image_options *out)
{
    static const struct rbd_options none;
    o = o != NULL ? o : &none;
    *out = (struct limpet_image_options){.features = LIMPET_IMAGE_FEATURES_DEFAULT};
    /* Images of version 1, which have no features, are nobody's any more. */
    if (o->is_set[RBD_IMAGE_OPTION_FORMAT] && o->numbers[RBD_IMAGE_OPTION_FORMAT] != 2)
        return o->numbers[RBD_IMAGE_OPTION_FORMAT] == 1 ? -EOPNOTSUPP : -EINVAL;
    if (o->is_set[RBD_IMAGE_OPTION_FEATURES])
        out->features = given_features(o->numbers[RBD_IMAGE_OPTION_FEATURES]);
    out->features &= ~o->numbers[RBD_IMAGE_OPTION_FEATURES_CLEAR];
    out->features |= o->numbers[RBD_IMAGE_OPTION_FEATURES_SET];
    out->order = order_of(o->numbers[RBD_IMAGE_OPTION_ORDER]);
    out->stripe_unit = o->numbers[RBD_IMAGE_OPTION_STRIPE_UNIT];
    out->stripe_count = o->numbers[RBD_IMAGE_OPTION_STRIPE_COUNT];
    out->data_pool = o->texts[RBD_IMAGE_OPTION_DATA_POOL];
    out->clone_format = order_of(o->numbers[RBD_IMAGE_OPTION_CLONE_FORMAT]);
    return 0;
}

/* ---- Creation ---- */

/* An order of 0 is told afterwards what it was. */
static int create(void *ioctx, const char *name, uint64_t size, int *order,
                  struct limpet_image_options *options)
{
    struct limpet_pool *pool;
    int rc = name != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    options->order = order != NULL ? (unsigned)*order : 0;
    if (rc == 0)
        rc = limpet_image_create(pool, name, size, options);
    if (rc == 0 && order != NULL && *order == 0)
        *order = LIMPET_IMAGE_ORDER_DEFAULT;
    return rc;
}

EXPORT int rbd_create3(void *ioctx, const char *name, uint64_t size, uint64_t features, int *order,
                       uint64_t stripe_unit, uint64_t stripe_count)
{
    struct limpet_image_options options = {
        .features = features, .stripe_unit = stripe_unit, .stripe_count = stripe_count};
    return create(ioctx, name, size, order, &options);
}

EXPORT int rbd_create2(void *ioctx, const char *name, uint64_t size, uint64_t features, int *order)
{
    return rbd_create3(ioctx, name, size, features, order, 0, 0);
}

EXPORT int rbd_create(void *ioctx, const char *name, uint64_t size, int *order)
{
    return rbd_create3(ioctx, name, size, LIMPET_IMAGE_FEATURES_DEFAULT, order, 0, 0);
}

EXPORT int rbd_create4(void *ioctx, const char *name, uint64_t size, void *options)
{
    struct limpet_image_options o;
    struct limpet_pool *pool;
    int rc = name != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    if (rc == 0)
        rc = rbd_options_read(options, &o);
    return rc == 0 ? limpet_image_create(pool, name, size, &o) : rc;
}

/* The same for what is made from another image: its features, where none are given. */
static int read_options_from(const struct rbd_options *o, struct limpet_image_options *out)
{
    int rc = rbd_options_read(o, out);
    if (o == NULL || !o->is_set[RBD_IMAGE_OPTION_FEATURES])
        out->features = LIMPET_IMAGE_FEATURES_SOURCE;
    return rc;
}

/* ---- Clones ---- */

static int clone_image(void *parent_ioctx, const char *parent, const char *snap, void *ioctx,
                       const char *name, const struct limpet_image_options *options)
{
    struct limpet_pool *from, *to;
    if (parent == NULL || snap == NULL || name == NULL)
        return -EINVAL;
    int rc = rbd_pool_of(parent_ioctx, &from);
    if (rc == 0)
        rc = rbd_pool_of(ioctx, &to);
    return rc == 0 ? limpet_image_clone(from, parent, snap, to, name, options) : rc;
}

EXPORT int rbd_clone2(void *parent_ioctx, const char *parent, const char *snap, void *ioctx,
                      const char *name, uint64_t features, int *order, uint64_t stripe_unit,
                      int stripe_count)
{
    struct limpet_image_options options = {.features = given_features(features),
                                           .stripe_unit = stripe_unit,
                                           .stripe_count =
                                               stripe_count > 0 ? (uint64_t)stripe_count : 0};
    /* 0 is the default, not the parent's. */
    options.order = order != NULL && *order != 0 ? (unsigned)*order : LIMPET_IMAGE_ORDER_DEFAULT;
    return clone_image(parent_ioctx, parent, snap, ioctx, name, &options);
}

EXPORT int rbd_clone(void *parent_ioctx, const char *parent, const char *snap, void *ioctx,
                     const char *name, uint64_t features, int *order)
{
    return rbd_clone2(parent_ioctx, parent, snap, ioctx, name, features, order, 0, 0);
}

EXPORT int rbd_clone3(void *parent_ioctx, const char *parent, const char *snap, void *ioctx,
                      const char *name, void *options)
{
    struct limpet_image_options o;
    int rc = read_options_from(options, &o);
    return rc == 0 ? clone_image(parent_ioctx, parent, snap, ioctx, name, &o) : rc;
}

EXPORT int rbd_flatten_with_progress(void *image, librbd_progress_fn_t progress, void *arg)
{
    struct rbd_handle *h = image;
    return h != NULL ? limpet_image_flatten(h->image, progress, arg) : -EINVAL;
}

EXPORT int rbd_flatten(void *image)
{
    return rbd_flatten_with_progress(image, NULL, NULL);
}

/* ---- Copies ---- */

/* Features that follow from what an image is are not asked for. */
static int read_copy_options(const struct rbd_options *options, struct limpet_image_options *out)
{
    int rc = read_options_from(options, out);
    if (out->features != LIMPET_IMAGE_FEATURES_SOURCE)
        out->features &= ~((uint64_t)LIMPET_IMAGE_OPERATIONS | UINT64_C(1) << FEATURE_MIGRATING);
    return rc;
}

EXPORT int rbd_copy_with_progress3(void *image, void *ioctx, const char *name, void *options,
                                   librbd_progress_fn_t progress, void *arg)
{
    struct rbd_handle *h = image;
    struct limpet_image_options o;
    struct limpet_pool *pool;
    if (h == NULL || name == NULL)
        return -EINVAL;
    int rc = rbd_pool_of(ioctx, &pool);
    if (rc == 0)
        rc = read_copy_options(options, &o);
    return rc == 0 ? limpet_image_copy(h->image, pool, name, &o, progress, arg) : rc;
}

EXPORT int rbd_copy_with_progress4(void *image, void *ioctx, const char *name, void *options,
                                   librbd_progress_fn_t progress, void *arg, size_t sparse_size)
{
    (void)sparse_size;
    return rbd_copy_with_progress3(image, ioctx, name, options, progress, arg);
}

EXPORT int rbd_copy_with_progress(void *image, void *ioctx, const char *name,
                                  librbd_progress_fn_t progress, void *arg)
{
    return rbd_copy_with_progress3(image, ioctx, name, NULL, progress, arg);
}

EXPORT int rbd_copy4(void *image, void *ioctx, const char *name, void *options, size_t sparse_size)
{
    (void)sparse_size;
    return rbd_copy_with_progress3(image, ioctx, name, options, NULL, NULL);
}

EXPORT int rbd_copy3(void *image, void *ioctx, const char *name, void *options)
{
    return rbd_copy_with_progress3(image, ioctx, name, options, NULL, NULL);
}

EXPORT int rbd_copy(void *image, void *ioctx, const char *name)
{
    return rbd_copy_with_progress3(image, ioctx, name, NULL, NULL, NULL);
}

EXPORT int rbd_deep_copy_with_progress(void *image, void *ioctx, const char *name, void *options,
                                       librbd_progress_fn_t progress, void *arg)
{
    struct rbd_handle *h = image;
    const struct rbd_options *given = options;
    struct limpet_image_options o;
    struct limpet_pool *pool;
    if (h == NULL || name == NULL)
        return -EINVAL;
    int rc = rbd_pool_of(ioctx, &pool);
    if (rc == 0)
        rc = read_copy_options(given, &o);
    bool flatten = given != NULL && given->numbers[RBD_IMAGE_OPTION_FLATTEN] != 0;
    return rc == 0 ? limpet_image_deep_copy(h->image, pool, name, &o, flatten, progress, arg) : rc;
}

EXPORT int rbd_deep_copy(void *image, void *ioctx, const char *name, void *options)
{
    return rbd_deep_copy_with_progress(image, ioctx, name, options, NULL, NULL);
}

/* ---- Names ---- */

EXPORT int rbd_remove_with_progress(void *ioctx, const char *name, librbd_progress_fn_t progress,
                                    void *arg)
{
    struct limpet_pool *pool;
    int rc = name != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_image_remove(pool, name, progress, arg) : rc;
}

EXPORT int rbd_remove(void *ioctx, const char *name)
{
    return rbd_remove_with_progress(ioctx, name, NULL, NULL);
}

EXPORT int rbd_rename(void *ioctx, const char *name, const char *to)
{
    struct limpet_pool *pool;
    int rc = name != NULL && to != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    return rc == 0 ? limpet_image_rename(pool, name, to) : rc;
}

EXPORT int rbd_list(void *ioctx, char *names, size_t *size)
{
    struct limpet_pool *pool;
    struct limpet_image_entry *entries;
    size_t n, needed = 0;
    int rc = size != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    if (rc == 0)
        rc = limpet_image_list(pool, &entries, &n);
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

EXPORT int rbd_list2(void *ioctx, rbd_image_spec_t *images, size_t *max)
{
    struct limpet_pool *pool;
    struct limpet_image_entry *entries;
    size_t n;
    int rc = max != NULL ? rbd_pool_of(ioctx, &pool) : -EINVAL;
    if (rc == 0)
        rc = limpet_image_list(pool, &entries, &n);
    if (rc != 0)
        return rc;
    rc = *max >= n && (images != NULL || n == 0) ? 0 : -ERANGE;
    *max = n;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        images[i] =
            (rbd_image_spec_t){.id = strdup(entries[i].id), .name = strdup(entries[i].name)};
        if (images[i].id == NULL || images[i].name == NULL) {
            rbd_image_spec_list_cleanup(images, i + 1);
            rc = -ENOMEM;
        }
    }
    limpet_free(entries);
    return rc;
}

/* ---- Children ---- */

/* A growing list of what was found, all of it or none. */
struct family {
    struct limpet_image_spec *specs;
    size_t n;
};

static int family_add(struct family *f, const struct limpet_image_spec *specs, size_t n)
{
    struct limpet_image_spec *more = realloc(f->specs, (f->n + n) * sizeof *more);
    if (more == NULL && f->n + n > 0)
        return -ENOMEM;
    f->specs = more;
    if (n > 0)
        memcpy(more + f->n, specs, n * sizeof *specs);
    f->n += n;
    return 0;
}

static int add_children(struct limpet_image *image, struct family *f)
{
    struct limpet_image_spec *specs;
    size_t n;
    int rc = limpet_image_children(image, &specs, &n);
    if (rc != 0)
        return rc;
    rc = family_add(f, specs, n);
    limpet_free(specs);
    return rc;
}

/* Those of each that is found, in turn. */
static int add_descendants(struct rbd_handle *h, struct family *f)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < f->n; i++) {
        struct limpet_pool *pool;
        struct limpet_image *child;
        const struct limpet_image_spec spec = f->specs[i];
        rc = limpet_pool_open_id(h->cluster, spec.pool, &pool);
        if (rc != 0)
            break;
        rc = limpet_pool_set_namespace(pool, spec.space);
        if (rc == 0)
            rc = limpet_image_open(pool, spec.id, NULL, LIMPET_IMAGE_BY_ID | LIMPET_IMAGE_READ_ONLY,
                                   &child);
        if (rc == 0) {
            rc = add_children(child, f);
            limpet_image_close(child);
        } else if (rc == -ENOENT) {
            rc = 0; /* It went meanwhile. */
        }
        limpet_pool_close(pool);
    }
    return rc;
}

static int list_family(struct rbd_handle *h, rbd_linked_image_spec_t *images, size_t *max,
                       bool descendants)
{
    struct family f = {0};
    if (h == NULL || max == NULL)
        return -EINVAL;
    int rc = add_children(h->image, &f);
    if (rc == 0 && descendants)
        rc = add_descendants(h, &f);
    if (rc == 0 && (*max < f.n || (images == NULL && f.n > 0)))
        rc = -ERANGE;
    if (rc == 0 || rc == -ERANGE)
        *max = f.n;
    for (size_t i = 0; rc == 0 && i < f.n; i++) {
        rc = rbd_give_spec(h->cluster, &f.specs[i], &images[i]);
        for (size_t j = 0; rc != 0 && j < i; j++)
            rbd_linked_image_spec_cleanup(&images[j]);
    }
    free(f.specs);
    return rc;
}

EXPORT int rbd_list_children3(void *image, rbd_linked_image_spec_t *images, size_t *max)
{
    return list_family(image, images, max, false);
}

EXPORT int rbd_list_descendants(void *image, rbd_linked_image_spec_t *images, size_t *max)
{
    return list_family(image, images, max, true);
}
