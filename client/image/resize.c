/*
 * Other sizes, and what lies beyond them. The header's `extent` says up to where objects may exist,
 * so that what was cut off does not come back (H3 in README.md).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/image.h"
#include "common/env.h"

/* ---- Objects of an image that goes ---- */

struct removal {
    struct limpet_pool *data;
    const char *prefix;
    const uint32_t *entries; /* NULL: nothing is known. */
};

static int start_removal(struct swept *swept)
{
    const struct removal *removal = swept->arg;
    char name[IMAGE_OBJECT_NAME_MAX];
    struct limpet_completion *completion;
    if (removal->entries != NULL && removal->entries[swept->object] == 0)
        return SWEEP_SKIP;
    object_name(removal->prefix, swept->object, name);
    int rc = swept_completion(swept, &completion);
    if (rc != 0)
        return rc;
    return swept_submitted(completion, limpet_aio_remove(removal->data, name, completion));
}

int image_remove_objects(struct limpet_pool *meta, const char *id, const struct image_core *core,
                         limpet_image_progress progress, void *arg)
{
    struct stripe stripe = {
        .order = core->order, .unit = core->stripe_unit, .count = core->stripe_count};
    uint64_t objects = stripe_objects(&stripe, core->extent);
    struct image_link link = {.pool = core->has_data_pool ? core->data_pool : limpet_pool_id(meta)};
    char prefix[64];
    uint32_t *entries = NULL;
    struct removal removal = {.prefix = prefix};
    memcpy(link.space, limpet_pool_namespace(meta), strlen(limpet_pool_namespace(meta)) + 1);
    image_data_prefix(id, core->has_data_pool, limpet_pool_id(meta), prefix);
    int rc = pool_of_link(limpet_pool_cluster(meta), &link, &removal.data);
    if (rc != 0)
        return rc;
    bool has_map = (core->features & LIMPET_IMAGE_OBJECT_MAP) != 0;
    if (has_map && (core->flags & LIMPET_IMAGE_OBJECT_MAP_INVALID) == 0)
        rc = map_read(removal.data, id, 0, 0, objects, &entries);
    removal.entries = entries;
    struct exist exist = {0};
    if (rc == -EOPNOTSUPP)
        rc = 0;
    if (rc == 0 && entries == NULL && exist_is_cheaper(removal.data, objects))
        rc = exist_list(removal.data, prefix, 0, objects, false, &exist);
    struct sweep s = {.end = exist.known ? exist.n : objects,
                      .list = exist.list,
                      .start = start_removal,
                      .arg = &removal,
                      .progress = progress,
                      .progress_arg = arg};
    if (rc == 0)
        rc = sweep(&s);
    exist_fini(&exist);
    free(entries);
    if (rc == 0 && has_map)
        rc = map_remove(removal.data, id, objects);
    limpet_pool_close(removal.data);
    return rc;
}

/* ---- Objects beyond a size ---- */

struct trimming {
    struct limpet_image *image;
    struct image_view view;
    uint64_t size;
};

/* What is shorter already stays as it is: it has not changed. */
static int make_cut(struct swept *swept, uint64_t left)
{
    const struct trimming *trimming = swept->arg;
    uint64_t object_size = UINT64_C(1) << trimming->image->stripe.order;
    swept->op = limpet_op_create();
    return swept->op != NULL ? limpet_op_zero(swept->op, left, object_size - left) : -ENOMEM;
}

static int cut(struct swept *swept)
{
    const struct trimming *trimming = swept->arg;
    struct limpet_image *image = trimming->image;
    char name[IMAGE_OBJECT_NAME_MAX];
    struct limpet_completion *completion;
    uint64_t left = stripe_object_bytes(&image->stripe, swept->object, trimming->size);
    image_data_name(image, swept->object, name);
    int rc = left > 0 ? make_cut(swept, left) : 0;
    if (rc == 0)
        rc = swept_completion(swept, &completion);
    if (rc != 0)
        return rc;
    return swept_submitted(completion,
                           left > 0 ? limpet_aio_operate(image->data, name, completion, swept->op)
                                    : limpet_aio_remove(image->data, name, completion));
}

static void noted_before(struct map_waiter *waiter, int error)
{
    struct swept *swept = container_of(waiter, struct swept, map);
    if (error == 0)
        error = cut(swept);
    if (error != 0)
        swept_end(swept, error);
}

static int start_trim(struct swept *swept)
{
    const struct trimming *trimming = swept->arg;
    struct limpet_image *image = trimming->image;
    uint64_t left = stripe_object_bytes(&image->stripe, swept->object, trimming->size);
    if (left == UINT64_C(1) << image->stripe.order || map_ask(image, swept->object) == MAP_ABSENT)
        return SWEEP_SKIP;
    /* What goes is noted afterwards; what is changed, before. */
    swept->map.done = noted_before;
    return left > 0 && map_note(image, swept->object, &swept->map) ? 0 : cut(swept);
}

static void noted(struct map_waiter *waiter, int error)
{
    (void)error; /* An entry of an object that is not there is allowed. */
    free(waiter);
}

static void trimmed(struct swept *swept, int result)
{
    const struct trimming *trimming = swept->arg;
    if ((result != 0 && result != -ENOENT) ||
        stripe_object_bytes(&trimming->image->stripe, swept->object, trimming->size) > 0)
        return;
    struct map_waiter *waiter = calloc(1, sizeof *waiter);
    if (waiter == NULL)
        return;
    waiter->done = noted;
    if (!map_note_removed(trimming->image, swept->object, NULL, waiter))
        free(waiter);
}

/* The first object that does not lie before `size` as a whole. */
static uint64_t first_beyond(const struct stripe *stripe, uint64_t size)
{
    return size / (stripe->count << stripe->order) * stripe->count;
}

static int set_extent(struct header *next, struct limpet_op *op, void *arg)
{
    const struct trimming *trimming = arg;
    (void)op;
    /* Somebody else has changed it meanwhile: there may be more, or it is not to be removed. */
    if (next->core.generation != trimming->view.generation)
        return -EAGAIN;
    next->core.extent = trimming->size;
    return 0;
}

/* -EAGAIN: somebody else has changed it meanwhile. */
static int trim_once(struct limpet_image *image, limpet_image_progress progress, void *arg)
{
    struct trimming trimming = {.image = image};
    pthread_mutex_lock(&image->lock);
    uint64_t extent = image->header.core.extent;
    trimming.size = image->header.core.size;
    trimming.view = image_view(image);
    pthread_mutex_unlock(&image->lock);
    if (trimming.size == extent)
        return 0;
    struct sweep s = {.image = image,
                      .view = trimming.view,
                      .breathes = true,
                      .first = first_beyond(&image->stripe, trimming.size),
                      .end = stripe_objects(&image->stripe, extent),
                      .start = start_trim,
                      .ended = trimmed,
                      .arg = &trimming,
                      .progress = progress,
                      .progress_arg = arg};
    struct exist exist = {0};
    int rc = sweep_what_exists(&s, false, &exist);
    if (rc == 0)
        rc = sweep(&s);
    exist_fini(&exist);
    return rc == 0 ? image_change(image, set_extent, &trimming) : rc;
}

/* Removes what lies between size and extent. */
static int trim(struct limpet_image *image, limpet_image_progress progress, void *arg)
{
    int rc;
    do {
        rc = image_breathe(image);
        if (rc == 0)
            rc = trim_once(image, progress, arg);
    } while (rc == -EAGAIN);
    return rc;
}

int image_trim(struct limpet_image *image)
{
    return trim(image, NULL, NULL);
}

/* ---- Copying up at the new end ---- */

/*
 * An object that is cut in the middle, and that snapshots see as the parent's, must exist before:
 * when it is copied up later, only what is left would be copied.
 */
static int copy_up_end(struct limpet_image *image, uint64_t size, struct image_view *view)
{
    pthread_mutex_lock(&image->lock);
    bool needed = image->overlap > size && image->header.n_snaps > 0;
    *view = image_view(image);
    pthread_mutex_unlock(&image->lock);
    if (!needed)
        return 0;
    int rc = image_held_begin(image, view);
    if (rc != 0)
        return rc;
    uint64_t first = first_beyond(&image->stripe, size), object_size = UINT64_C(1)
                                                                       << image->stripe.order;
    for (uint64_t i = 0; i < image->stripe.count && rc == 0; i++) {
        uint64_t left = stripe_object_bytes(&image->stripe, first + i, size);
        if (left > 0 && left < object_size)
            rc = copyup_and_wait(image, first + i);
    }
    image_held_end(image);
    return rc;
}

/* ---- Resizing ---- */

struct resizing {
    uint64_t size;
    struct image_view view; /* For which the new end was copied up. */
    bool allow_shrink;
};

static int set_size(struct header *next, struct limpet_op *op, void *arg)
{
    const struct resizing *r = arg;
    struct image_core *core = &next->core;
    struct stripe stripe = {
        .order = core->order, .unit = core->stripe_unit, .count = core->stripe_count};
    (void)op;
    if (r->size > LIMPET_IMAGE_SIZE_MAX ||
        stripe_objects(&stripe, r->size) > LIMPET_IMAGE_OBJECTS_MAX)
        return -EFBIG;
    if (r->size < core->size && !r->allow_shrink)
        return -EINVAL;
    /* Somebody has changed it meanwhile, or shrunk it, and is not ready. */
    if (core->generation != r->view.generation ||
        (r->size > core->size && core->extent > core->size))
        return -EAGAIN;
    if (r->size == core->size)
        return HEADER_SAME;
    core->size = r->size;
    if (core->extent < r->size)
        core->extent = r->size;
    map_outgrown(core);
    if (core->has_parent && core->overlap > r->size)
        core->overlap = r->size;
    return 0;
}

static int resize(struct limpet_image *image, struct resizing *r, limpet_image_progress progress,
                  void *arg)
{
    int rc;
    do {
        /* What was interrupted is finished first. */
        rc = trim(image, NULL, NULL);
        if (rc == 0)
            rc = copy_up_end(image, r->size, &r->view);
        if (rc == 0)
            rc = image_change(image, set_size, r);
    } while (rc == -EAGAIN);
    return rc == 0 ? trim(image, progress, arg) : rc;
}

int limpet_image_resize(struct limpet_image *image, uint64_t size, bool allow_shrink,
                        limpet_image_progress progress, void *arg)
{
    struct resizing r = {.size = size, .allow_shrink = allow_shrink};
    int rc = image_hold(image);
    if (rc != 0)
        return rc;
    rc = resize(image, &r, progress, arg);
    image_unhold(image);
    return rc;
}
