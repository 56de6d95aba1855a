/*
 * The object map made anew, or compared with what there is; and space that holds zeroes given back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/image.h"

/* ---- What there is ---- */

struct census {
    struct limpet_image *image;
    uint32_t *entries;
    uint32_t value; /* Of objects that are there. */
};

static void counted(struct swept *swept, int result)
{
    const struct census *census = swept->arg;
    census->entries[swept->object] = result == 0 ? census->value : 0;
}

static int start_census(struct swept *swept)
{
    const struct census *census = swept->arg;
    char name[IMAGE_OBJECT_NAME_MAX];
    struct limpet_completion *completion;
    int rc = swept_completion(swept, &completion);
    if (rc != 0)
        return rc;
    struct limpet_stat *stat = malloc(sizeof *stat);
    swept->memory = stat;
    image_data_name(census->image, swept->object, name);
    rc = stat != NULL ? limpet_aio_stat(census->image->data, name, completion, stat) : -ENOMEM;
    return swept_submitted(completion, rc);
}

static int take_census(struct limpet_image *image, uint64_t objects, uint32_t **entries,
                       limpet_image_progress progress, void *arg)
{
    struct census census = {.image = image, .value = (image->header.core.snap_ordinal + 1) << 1};
    struct sweep s = {.end = objects,
                      .start = start_census,
                      .ended = counted,
                      .arg = &census,
                      .progress = progress,
                      .progress_arg = arg};
    struct exist exist = {0};
    if (!map_reaches(objects))
        return -EFBIG;
    census.entries = calloc(objects + 1, sizeof *census.entries);
    if (census.entries == NULL)
        return -ENOMEM;
    int rc = 0;
    if (exist_is_cheaper(image->bare, objects))
        rc = exist_list(image->bare, image->prefix, 0, objects, false, &exist);
    for (size_t i = 0; i < exist.n && rc == 0; i++)
        census.entries[exist.list[i]] = census.value;
    if (rc == 0 && !exist.known)
        rc = sweep(&s);
    exist_fini(&exist);
    if (rc != 0)
        free(census.entries);
    else
        *entries = census.entries;
    return rc;
}

/* ---- The map ---- */

struct map_verdict {
    struct limpet_image *image;
    bool valid;
};

/* It holds only if nobody else has written meanwhile: -ENOTCONN. */
static int set_map_flags(struct header *next, struct limpet_op *op, void *arg)
{
    const struct map_verdict *verdict = arg;
    const uint64_t flags = LIMPET_IMAGE_OBJECT_MAP_INVALID | LIMPET_IMAGE_FAST_DIFF_INVALID;
    int rc = limpet_op_assert_lease(op, verdict->image->watch, LIMPET_LEASE_EXCLUSIVE);
    if (rc != 0)
        return rc;
    next->core.flags = verdict->valid ? next->core.flags & ~flags : next->core.flags | flags;
    return 0;
}

static int rebuild(struct limpet_image *image, limpet_image_progress progress, void *arg)
{
    uint32_t *entries = NULL;
    uint64_t objects = stripe_objects(&image->stripe, image->header.core.extent);
    struct map_verdict verdict = {.image = image, .valid = true};
    int rc = take_census(image, objects, &entries, progress, arg);
    if (rc == 0)
        rc = map_write(image, entries, objects);
    if (rc == 0)
        rc = image_change(image, set_map_flags, &verdict);
    free(entries);
    return rc;
}

/* While nobody writes; the lease is taken anew afterwards, and with it the map is read. */
static int with_still_image(struct limpet_image *image,
                            int (*run)(struct limpet_image *image, limpet_image_progress progress,
                                       void *arg),
                            limpet_image_progress progress, void *arg)
{
    int rc = image_hold(image);
    if (rc != 0)
        return rc;
    image_shut_gate(image);
    do {
        rc = image_breathe(image);
        pthread_mutex_lock(&image->lock);
        struct image_view view = image_view(image);
        bool has_map = (image->header.core.features & LIMPET_IMAGE_OBJECT_MAP) != 0;
        pthread_mutex_unlock(&image->lock);
        if (rc == 0)
            rc = image_held_begin(image, &view);
        if (rc != 0)
            continue;
        rc = has_map ? run(image, progress, arg) : -EINVAL;
        image_held_end(image);
    } while (rc == -EAGAIN || rc == -ENOTCONN);
    image_give_back(image);
    image_open_gate(image);
    return rc;
}

int limpet_image_rebuild_object_map(struct limpet_image *image, limpet_image_progress progress,
                                    void *arg)
{
    return with_still_image(image, rebuild, progress, arg);
}

static bool is_there(uint32_t entry)
{
    return entry != 0 && (entry & MAP_REMOVED) == 0;
}

static int compare(struct limpet_image *image, limpet_image_progress progress, void *arg)
{
    uint32_t *entries = NULL, *map = NULL;
    uint64_t objects = stripe_objects(&image->stripe, image->header.core.extent);
    struct map_verdict verdict = {.image = image, .valid = true};
    int rc = take_census(image, objects, &entries, progress, arg);
    if (rc == 0)
        rc = map_read(image->bare, image->id, 0, 0, objects, &map);
    /* That it names too many is allowed. */
    for (uint64_t i = 0; i < objects && rc == 0 && verdict.valid; i++)
        verdict.valid = !is_there(entries[i]) || is_there(map[i]);
    free(entries);
    free(map);
    if (rc != 0 || verdict.valid)
        return rc;
    rc = image_change(image, set_map_flags, &verdict);
    return rc == 0 ? -EILSEQ : rc;
}

int limpet_image_check_object_map(struct limpet_image *image, limpet_image_progress progress,
                                  void *arg)
{
    return with_still_image(image, compare, progress, arg);
}

/* ---- Zeroes ---- */

/* Runs of units that are zeroes are given back, one request each; returns how it ended. */
static int sparsify_piece(struct limpet_image *image, uint64_t offset, const uint8_t *data,
                          uint64_t len, uint64_t unit)
{
    ssize_t rc = 0;
    uint64_t begin = 0;
    for (uint64_t at = 0; at <= len && rc >= 0; at += unit) {
        uint64_t n = at < len ? (len - at < unit ? len - at : unit) : 0;
        bool zero = n > 0 && data[at] == 0 && memcmp(data + at, data + at + 1, n - 1) == 0;
        if (zero)
            continue;
        if (at > begin) {
            uint64_t end = at < len ? at : len;
            rc = image_discard_zeroes(image, offset + begin, end - begin);
        }
        begin = at + unit;
    }
    if (rc >= 0 && begin < len)
        rc = image_discard_zeroes(image, offset + begin, len - begin);
    return rc < 0 ? (int)rc : 0;
}

struct sparsifying {
    struct limpet_image *image;
    uint64_t unit;
    uint8_t *data; /* As much as an object. */
    limpet_image_progress progress;
    void *arg;
};

/* Extents of whole objects. */
static int sparsify_extent(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    const struct sparsifying *s = arg;
    uint64_t size = UINT64_C(1) << s->image->stripe.order;
    int rc = 0;
    for (uint64_t at = offset, n; exists && at < offset + len && rc == 0; at += n) {
        n = size - at % size;
        n = n < offset + len - at ? n : offset + len - at;
        ssize_t got = limpet_image_read(s->image, s->data, n, at, 0);
        rc = got < 0 ? (int)got : sparsify_piece(s->image, at, s->data, (uint64_t)got, s->unit);
        if (rc == 0 && s->progress != NULL)
            rc = s->progress(at + n, s->image->size, s->arg);
    }
    return rc;
}

int limpet_image_sparsify(struct limpet_image *image, uint64_t unit, limpet_image_progress progress,
                          void *arg)
{
    uint64_t size = UINT64_C(1) << image->stripe.order;
    if (unit < 4096 || (unit & (unit - 1)) != 0 || unit > size)
        return -EINVAL;
    struct sparsifying s = {
        .image = image, .unit = unit, .data = malloc(size), .progress = progress, .arg = arg};
    if (s.data == NULL)
        return -ENOMEM;
    int rc = limpet_image_diff(image, NULL, 0, UINT64_MAX, true, true, sparsify_extent, &s);
    if (rc == 0 && progress != NULL)
        rc = progress(image->size, image->size, arg);
    free(s.data);
    return rc;
}
