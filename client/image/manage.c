/*
 * Images of a pool: making, removing, renaming, listing (H3 in README.md).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/manage.h"

/* Of an image's features those that new images are given; the others follow from what it is. */
#define IMAGE_FEATURES_GIVEN                                                                       \
    ((uint64_t)LIMPET_IMAGE_FEATURES_ALL & ~(uint64_t)LIMPET_IMAGE_DATA_POOL)

/* ---- Making ---- */

static int set_stripes(const struct limpet_image_options *options, struct image_core *core)
{
    uint64_t object_size = UINT64_C(1) << core->order;
    core->stripe_unit = options->stripe_unit;
    core->stripe_count = options->stripe_count;
    if (core->stripe_unit == 0 && core->stripe_count == 0) {
        core->stripe_unit = object_size;
        core->stripe_count = 1;
    }
    if (core->stripe_unit == 0 || core->stripe_count == 0 || core->stripe_unit > object_size ||
        object_size % core->stripe_unit != 0 || core->stripe_unit % IMAGE_SECTOR != 0 ||
        core->stripe_count > IMAGE_STRIPES_MAX)
        return -EINVAL;
    core->features &= ~(uint64_t)LIMPET_IMAGE_STRIPING;
    if (core->stripe_unit != object_size || core->stripe_count != 1)
        core->features |= LIMPET_IMAGE_STRIPING;
    return 0;
}

uint64_t image_paired_features(uint64_t features)
{
    const uint64_t pair = LIMPET_IMAGE_OBJECT_MAP | LIMPET_IMAGE_FAST_DIFF;
    return (features & pair) != 0 ? features | pair : features;
}

int image_check_features(uint64_t features)
{
    if ((features & ~(uint64_t)LIMPET_IMAGE_FEATURES_ALL) != 0)
        return -ENOSYS;
    bool lock = (features & LIMPET_IMAGE_EXCLUSIVE_LOCK) != 0;
    bool map = (features & LIMPET_IMAGE_OBJECT_MAP) != 0;
    bool diff = (features & LIMPET_IMAGE_FAST_DIFF) != 0;
    return (map && !lock) || (diff && !map) ? -EINVAL : 0;
}

static int set_data_pool(struct limpet_pool *pool, const char *name, struct image_core *core)
{
    struct limpet_pool *data;
    core->features &= ~(uint64_t)LIMPET_IMAGE_DATA_POOL;
    if (name == NULL || name[0] == 0)
        return 0;
    int rc = limpet_pool_open(limpet_pool_cluster(pool), name, &data);
    if (rc != 0)
        return rc;
    core->data_pool = limpet_pool_id(data);
    limpet_pool_close(data);
    core->has_data_pool = core->data_pool != limpet_pool_id(pool);
    if (core->has_data_pool)
        core->features |= LIMPET_IMAGE_DATA_POOL;
    return 0;
}

static int check_size(const struct image_core *core, uint64_t size)
{
    struct stripe stripe = {
        .order = core->order, .unit = core->stripe_unit, .count = core->stripe_count};
    if (size > LIMPET_IMAGE_SIZE_MAX)
        return -EFBIG;
    return stripe_objects(&stripe, size) > LIMPET_IMAGE_OBJECTS_MAX ? -EFBIG : 0;
}

struct limpet_image_options image_options_from(const struct image_core *core,
                                               const struct limpet_image_options *options)
{
    struct limpet_image_options o = *options;
    if (o.features == LIMPET_IMAGE_FEATURES_SOURCE)
        o.features = core->features & IMAGE_FEATURES_GIVEN;
    if (o.order == 0 && o.stripe_unit == 0 && o.stripe_count == 0) {
        o.stripe_unit = core->stripe_unit;
        o.stripe_count = core->stripe_count;
    }
    if (o.order == 0)
        o.order = core->order;
    return o;
}

int image_new_core(struct limpet_pool *pool, uint64_t size,
                   const struct limpet_image_options *options, struct image_core *core)
{
    memset(core, 0, sizeof *core);
    /* Without a map there are no fast differences. */
    core->features = (options->features & LIMPET_IMAGE_OBJECT_MAP) != 0
                         ? image_paired_features(options->features)
                         : options->features & ~(uint64_t)LIMPET_IMAGE_FAST_DIFF;
    core->order = LIMPET_IMAGE_ORDER_DEFAULT;
    if (options->order != 0) {
        if (options->order < LIMPET_IMAGE_ORDER_MIN || options->order > LIMPET_IMAGE_ORDER_MAX)
            return -EDOM;
        core->order = (uint8_t)options->order;
    }
    core->size = core->extent = size;
    core->snap_limit = UINT64_MAX;
    core->created_ns = core->accessed_ns = core->modified_ns = image_now_ns();
    int rc = image_check_features(core->features);
    if (rc == 0)
        rc = set_stripes(options, core);
    if (rc == 0)
        rc = check_size(core, size);
    if (rc == 0)
        map_outgrown(core);
    return rc == 0 ? set_data_pool(pool, options->data_pool, core) : rc;
}

static int write_header(struct limpet_pool *pool, const char *id, const struct image_core *core)
{
    char object[IMAGE_OBJECT_NAME_MAX];
    struct encoder e;
    struct limpet_op *op = limpet_op_create();
    header_object(id, object);
    encoder_init(&e);
    image_core_encode(&e, core);
    struct limpet_pair pair = {.key = IMAGE_KEY_CORE,
                               .key_len = strlen(IMAGE_KEY_CORE),
                               .value = e.data,
                               .value_len = e.len};
    int rc = op == NULL || e.failed ? -ENOMEM : limpet_op_create_object(op, true);
    if (rc == 0)
        rc = limpet_op_omap_set(op, &pair, 1);
    if (rc == 0)
        rc = limpet_operate(pool, object, op, NULL);
    if (op != NULL)
        limpet_op_destroy(op);
    encoder_fini(&e);
    return rc;
}

int image_check_space(struct limpet_pool *pool)
{
    bool exists = true;
    const char *space = limpet_pool_namespace(pool);
    int rc = space[0] != 0 ? limpet_image_space_exists(pool, space, &exists) : 0;
    return rc == 0 && !exists ? -ENOENT : rc;
}

int image_exists_or(struct limpet_pool *pool, const char *name, int rc)
{
    char id[LIMPET_IMAGE_ID_MAX + 1];
    return rc != 0 && directory_id(pool, IMAGE_DIRECTORY, name, id) == 0 ? -EEXIST : rc;
}

int image_make(struct limpet_pool *pool, const char *name, const char *id,
               const struct image_core *core)
{
    int rc = directory_add(pool, IMAGE_DIRECTORY, name, id);
    if (rc == -EEXIST)
        return rc;
    if (rc == 0)
        rc = write_header(pool, id, core);
    if (rc != 0)
        image_unmake(pool, name, id);
    return rc;
}

/* An error does not say that nothing was done: the name stays until the header is gone. */
void image_unmake(struct limpet_pool *pool, const char *name, const char *id)
{
    if (image_remove_id(pool, id, NULL, NULL) == 0)
        (void)!directory_remove(pool, IMAGE_DIRECTORY, name, id);
}

static int create(struct limpet_pool *pool, const char *name, uint64_t size,
                  const struct limpet_image_options *options, enum image_state state,
                  char id[LIMPET_IMAGE_ID_MAX + 1])
{
    struct image_core core;
    int rc = image_check_name(name);
    if (rc == 0)
        rc = image_check_space(pool);
    if (rc == 0)
        rc = image_exists_or(pool, name, image_new_core(pool, size, options, &core));
    if (rc != 0)
        return rc;
    core.state = (uint8_t)state;
    image_new_id(id);
    return image_make(pool, name, id, &core);
}

int limpet_image_create(struct limpet_pool *pool, const char *name, uint64_t size,
                        const struct limpet_image_options *options)
{
    char id[LIMPET_IMAGE_ID_MAX + 1];
    return create(pool, name, size, options, IMAGE_READY, id);
}

int image_create_unfinished(struct limpet_pool *pool, const char *name, uint64_t size,
                            const struct limpet_image_options *options,
                            char id[LIMPET_IMAGE_ID_MAX + 1])
{
    return create(pool, name, size, options, IMAGE_CREATING, id);
}

static int set_ready(struct header *next, struct limpet_op *op, void *arg)
{
    (void)op;
    (void)arg;
    if (next->core.state == IMAGE_READY)
        return HEADER_SAME;
    next->core.state = IMAGE_READY;
    return 0;
}

/* An error does not say that it is not whole: then it would not be removed with its snapshots. */
int image_finish(struct limpet_pool *pool, const char *id)
{
    int rc = -EIO;
    for (int attempt = 0; attempt < 2 && rc != 0; attempt++) {
        struct header header = {0};
        rc = header_change(pool, id, &header, set_ready, NULL);
        header_fini(&header);
    }
    return rc;
}

/* ---- Listing, renaming ---- */

int limpet_image_list(struct limpet_pool *pool, struct limpet_image_entry **out, size_t *n)
{
    return directory_list(pool, IMAGE_DIRECTORY, out, n);
}

int limpet_image_id_of(struct limpet_pool *pool, const char *name, char *id)
{
    return directory_id(pool, IMAGE_DIRECTORY, name, id);
}

int limpet_image_name_of(struct limpet_pool *pool, const char *id, char *name)
{
    return directory_name(pool, IMAGE_DIRECTORY, id, name);
}

int limpet_image_rename(struct limpet_pool *pool, const char *name, const char *to)
{
    char id[LIMPET_IMAGE_ID_MAX + 1];
    int rc = image_check_name(to);
    if (rc == 0)
        rc = directory_id(pool, IMAGE_DIRECTORY, name, id);
    if (rc == 0 && strcmp(name, to) == 0)
        return -EEXIST;
    if (rc == 0)
        rc = directory_rename(pool, IMAGE_DIRECTORY, name, to, id);
    return rc == 0 ? image_tell(pool, id, to) : rc;
}

/* ---- Removing ---- */

static int mark(struct header *next, struct limpet_op *op, void *arg)
{
    const enum image_state *state = arg;
    (void)op;
    if (*state == IMAGE_REMOVING && next->core.state == IMAGE_READY && next->n_snaps > 0)
        return -ENOTEMPTY;
    if (*state == IMAGE_REMOVING && next->core.has_group)
        return -EMLINK;
    if (next->core.state == *state)
        return HEADER_SAME;
    next->core.state = (uint8_t)*state;
    return 0;
}

/* -EBUSY: somebody has it open. */
int image_check_closed(struct limpet_pool *pool, const char *id)
{
    char object[IMAGE_OBJECT_NAME_MAX];
    struct limpet_watcher *watchers = NULL;
    size_t n = 0;
    header_object(id, object);
    int rc = limpet_watchers(pool, object, &watchers, &n);
    limpet_free(watchers);
    return rc == 0 && n > 0 ? -EBUSY : rc;
}

/* Nobody opens it any more, and nobody has it open. */
static int begin_removal(struct limpet_pool *pool, const char *id, struct header *header)
{
    enum image_state state = IMAGE_REMOVING, before = (enum image_state)header->core.state;
    if (header->core.state == IMAGE_READY && header->n_snaps > 0)
        return -ENOTEMPTY;
    int rc = image_check_closed(pool, id);
    if (rc == 0)
        rc = header_change(pool, id, header, mark, &state);
    if (rc != 0)
        return rc;
    /* Who has opened it meanwhile has not seen the mark. */
    rc = image_check_closed(pool, id);
    if (rc == 0)
        return 0;
    int undone = header_change(pool, id, header, mark, &before);
    return undone == 0 || rc != 0 ? rc : undone;
}

/* Writers that are gone, but may have requests under way, would make objects again. */
static int block_writers(struct limpet_pool *pool, const struct header *header)
{
    struct limpet_cluster *cluster = limpet_pool_cluster(pool);
    int rc = 0;
    for (size_t i = 0; i < header->n_owners && rc == 0; i++) {
        if (header->owners[i].instance != limpet_cluster_instance(cluster))
            rc = image_block(cluster, header->owners[i].instance);
    }
    return rc;
}

/* Those of an image that never was whole, or is half removed: nobody has seen them. */
static int give_snaps_back(struct limpet_pool *pool, const struct header *header)
{
    struct limpet_pool *data;
    struct image_link at = {.pool = header->core.has_data_pool ? header->core.data_pool
                                                               : limpet_pool_id(pool)};
    if (header->n_snaps == 0)
        return 0;
    int rc = pool_of_link(limpet_pool_cluster(pool), &at, &data);
    if (rc != 0)
        return rc == -ENOENT ? 0 : rc;
    for (size_t i = 0; i < header->n_snaps && rc == 0; i++) {
        rc = limpet_self_snap_remove(data, header->snaps[i].id);
        rc = rc == -ENOENT ? 0 : rc;
    }
    limpet_pool_close(data);
    return rc;
}

int image_remove_id(struct limpet_pool *pool, const char *id, limpet_image_progress progress,
                    void *arg)
{
    char object[IMAGE_OBJECT_NAME_MAX];
    struct header header;
    struct image_link me = {.pool = limpet_pool_id(pool)};
    int rc = header_read(pool, id, &header);
    if (rc == -ENOENT)
        return 0;
    if (rc != 0)
        return rc;
    memcpy(me.space, limpet_pool_namespace(pool), strlen(limpet_pool_namespace(pool)) + 1);
    memcpy(me.id, id, strlen(id) + 1);
    rc = begin_removal(pool, id, &header);
    if (rc == 0)
        rc = block_writers(pool, &header);
    if (rc == 0)
        rc = image_remove_objects(pool, id, &header.core, progress, arg);
    if (rc == 0)
        rc = give_snaps_back(pool, &header);
    if (rc == 0)
        rc = image_forget_child(limpet_pool_cluster(pool), &header.core, &me);
    header_object(id, object);
    if (rc == 0)
        rc = limpet_remove(pool, object);
    header_fini(&header);
    return rc == -ENOENT ? 0 : rc;
}

int limpet_image_remove(struct limpet_pool *pool, const char *name, limpet_image_progress progress,
                        void *arg)
{
    char id[LIMPET_IMAGE_ID_MAX + 1];
    int rc = directory_id(pool, IMAGE_DIRECTORY, name, id);
    if (rc == 0)
        rc = image_remove_id(pool, id, progress, arg);
    return rc == 0 ? directory_remove(pool, IMAGE_DIRECTORY, name, id) : rc;
}
