/*
 * What has changed: between a snapshot, or nothing, and what the handle looks at.
 *
 * The object map tells which objects are concerned, if there is one that is valid; and that is all
 * that is told when whole objects will do. Otherwise each object's clones say which version shows
 * which snapshot, and what they share.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/crypt.h"

struct extent {
    uint64_t offset, len;
    bool exists;
};

struct extents {
    struct extent *list;
    size_t n, room;
};

struct diff {
    struct limpet_image *image;
    uint64_t from, to; /* Numbers of snapshots; from 0: nothing; to 0: the head. */
    uint32_t from_ordinal;
    uint64_t from_overlap, to_overlap;
    bool include_parent, whole_object;
    uint32_t *entries; /* Of the map at `to`; NULL: nothing is known. */
    uint64_t begin, end;
    struct extents set; /* Of the objects that are filled together, not yet told. */
    struct extent last; /* Not yet told, as the next one may continue it. */
    limpet_image_extent extent;
    void *arg;
};

static int add(struct extents *extents, uint64_t offset, uint64_t len, bool exists)
{
    if (extents->n == extents->room) {
        size_t room = extents->room > 0 ? 2 * extents->room : 16;
        struct extent *more = realloc(extents->list, room * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        extents->list = more;
        extents->room = room;
    }
    extents->list[extents->n++] = (struct extent){offset, len, exists};
    return 0;
}

/* ---- Telling ---- */

static int tell_last(struct diff *d)
{
    struct extent last = d->last;
    d->last.len = 0;
    return last.len > 0 ? d->extent(last.offset, last.len, last.exists, d->arg) : 0;
}

static int tell(struct diff *d, const struct extent *extent)
{
    uint64_t from = extent->offset > d->begin ? extent->offset : d->begin;
    uint64_t to = extent->offset + extent->len;
    to = to < d->end ? to : d->end;
    if (from >= to)
        return 0;
    if (d->last.len > 0 && d->last.exists == extent->exists &&
        d->last.offset + d->last.len == from) {
        d->last.len += to - from;
        return 0;
    }
    int rc = tell_last(d);
    d->last = (struct extent){from, to - from, extent->exists};
    return rc;
}

static int by_offset(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int tell_set(struct diff *d)
{
    int rc = 0;
    if (d->set.n > 1)
        qsort(d->set.list, d->set.n, sizeof *d->set.list, by_offset);
    for (size_t i = 0; i < d->set.n && rc == 0; i++)
        rc = tell(d, &d->set.list[i]);
    d->set.n = 0;
    return rc;
}

/* Bytes of an object, as they lie in the image. */
static int add_piece(struct diff *d, uint64_t object, uint64_t offset, uint64_t len, bool exists)
{
    int rc = 0;
    while (len > 0 && rc == 0) {
        uint64_t run, at = stripe_image_offset(&d->image->stripe, object, offset, &run);
        run = run < len ? run : len;
        rc = add(&d->set, at, run, exists);
        offset += run;
        len -= run;
    }
    return rc;
}

/* ---- The parent's part ---- */

static int add_of_parent(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    struct diff *d = arg;
    return exists ? add(&d->set, offset, len, true) : 0;
}

/* Whether the parent is seen, at `to`, where this object is not there. */
static bool shows_parent(const struct diff *d, uint64_t object)
{
    return stripe_object_bytes(&d->image->stripe, object, d->to_overlap) > 0;
}

/* The object is not there: what the parent shows in its place. */
static int add_parent(struct diff *d, uint64_t object)
{
    uint64_t len = stripe_object_bytes(&d->image->stripe, object, d->to_overlap);
    int rc = 0;
    if (d->from != 0 || !d->include_parent || d->image->parent == NULL)
        return 0;
    for (uint64_t at = 0; at < len && rc == 0;) {
        uint64_t run, offset = stripe_image_offset(&d->image->stripe, object, at, &run);
        run = run < len - at ? run : len - at;
        rc = limpet_image_diff(d->image->parent, NULL, offset, run, true, d->whole_object,
                               add_of_parent, d);
        at += run;
    }
    return rc;
}

/* ---- Versions of an object ---- */

/* The clone that shows a snapshot; their number: the head. */
ptrdiff_t object_version_at(const struct limpet_snapset *set, uint64_t snap)
{
    ptrdiff_t head = set->head_exists ? (ptrdiff_t)set->n_clones : OBJECT_NO_VERSION;
    if (snap == 0 || snap > set->seq)
        return head;
    for (size_t i = 0; i < set->n_clones; i++) {
        const struct limpet_clone *clone = &set->clones[i];
        if (clone->id >= snap)
            return clone->n_snaps > 0 && clone->snaps[0] <= snap ? (ptrdiff_t)i : OBJECT_NO_VERSION;
    }
    return OBJECT_NO_VERSION;
}

static uint64_t version_size(const struct limpet_snapset *set, ptrdiff_t version)
{
    if (version == (ptrdiff_t)set->n_clones)
        return set->head_size;
    assert(version >= 0 && set->clones != NULL);
    return set->clones[version].size;
}

/* What of [from, to) is in none of the extents goes to `out`. */
static int subtract(uint64_t from, uint64_t to, const struct limpet_extent *extents, size_t n,
                    struct extents *out)
{
    int rc = 0;
    for (size_t i = 0; i < n && rc == 0 && from < to; i++) {
        uint64_t begin = extents[i].offset, end = begin + extents[i].len;
        if (end <= from)
            continue;
        if (begin > from)
            rc = add(out, from, (begin < to ? begin : to) - from, true);
        from = end;
    }
    return rc == 0 && from < to ? add(out, from, to - from, true) : rc;
}

/* All that any two neighbours between the versions do not share; pieces may overlap. */
static int changed_between(const struct limpet_snapset *set, ptrdiff_t from, ptrdiff_t to,
                           uint64_t len, struct extents *out)
{
    int rc = 0;
    for (ptrdiff_t i = from; i < to && rc == 0; i++)
        rc = subtract(0, len, set->clones[i].overlap, set->clones[i].n_overlap, out);
    return rc;
}

/* Of what changed in an object, what is beyond the end of its newer version is zeroes. */
static int add_changes(struct diff *d, uint64_t object, struct extents *changes, uint64_t size)
{
    uint64_t done = 0;
    int rc = 0;
    if (changes->n > 1)
        qsort(changes->list, changes->n, sizeof *changes->list, by_offset);
    for (size_t i = 0; i < changes->n && rc == 0; i++) {
        uint64_t from = changes->list[i].offset, to = from + changes->list[i].len;
        from = from > done ? from : done;
        uint64_t middle = to < size ? to : size;
        if (from < middle)
            rc = add_piece(d, object, from, middle - from, true);
        middle = middle > from ? middle : from;
        if (rc == 0 && middle < to)
            rc = add_piece(d, object, middle, to - middle, false);
        done = to > done ? to : done;
    }
    return rc;
}

static int add_versions(struct diff *d, uint64_t object, const struct limpet_snapset *set)
{
    const struct stripe *stripe = &d->image->stripe;
    struct extents changes = {0};
    ptrdiff_t from = d->from != 0 ? object_version_at(set, d->from) : OBJECT_NO_VERSION;
    ptrdiff_t to = object_version_at(set, d->to);
    /* What is not there shows the parent. */
    uint64_t before = from != OBJECT_NO_VERSION ? version_size(set, from)
                      : d->from != 0 ? stripe_object_bytes(stripe, object, d->from_overlap)
                                     : 0;
    uint64_t after = to != OBJECT_NO_VERSION ? version_size(set, to)
                                             : stripe_object_bytes(stripe, object, d->to_overlap);
    uint64_t len = before > after ? before : after;
    if (from == to && from != OBJECT_NO_VERSION)
        return 0;
    if (to == OBJECT_NO_VERSION && from == OBJECT_NO_VERSION) {
        if (d->from == 0)
            return add_parent(d, object);
        if (before > after)
            return add_piece(d, object, after, before - after, false);
        /* It was rolled back to when the parent showed more. */
        return before < after ? add_piece(d, object, before, after - before, true) : 0;
    }
    int rc;
    if (from == OBJECT_NO_VERSION || to == OBJECT_NO_VERSION)
        rc = add(&changes, 0, len, true);
    else
        rc = changed_between(set, from, to, len, &changes);
    if (rc == 0 && d->whole_object && changes.n > 0)
        rc = add_piece(d, object, 0, UINT64_C(1) << stripe->order,
                       to != OBJECT_NO_VERSION || shows_parent(d, object));
    else if (rc == 0)
        rc = add_changes(d, object, &changes, after);
    free(changes.list);
    return rc;
}

/* ---- Objects ---- */

static bool is_unchanged(const struct diff *d, uint32_t entry)
{
    return d->from != 0 && entry >> 1 <= d->from_ordinal;
}

static int add_object(struct diff *d, uint64_t object)
{
    char name[IMAGE_OBJECT_NAME_MAX];
    struct limpet_snapset *set, none = {0};
    uint64_t bytes = UINT64_C(1) << d->image->stripe.order;
    if (d->entries != NULL) {
        uint32_t entry = d->entries[object];
        bool exists = entry != 0 && (entry & MAP_REMOVED) == 0;
        /* Where the parent shows less than it did, or more, something changed that no entry tells.
         */
        if (is_unchanged(d, entry) && d->from_overlap == d->to_overlap)
            return 0;
        if (d->whole_object && exists)
            return add_piece(d, object, 0, bytes, true);
        /* It was removed, by a rollback perhaps, to when the parent was shown. */
        if (d->whole_object && d->from != 0)
            return entry != 0 ? add_piece(d, object, 0, bytes, shows_parent(d, object))
                              : add_versions(d, object, &none);
        if (!exists && d->from == 0)
            return add_parent(d, object);
    }
    image_data_name(d->image, object, name);
    int rc = limpet_list_snaps(d->image->bare, name, &set);
    if (rc == -ENOENT)
        return add_versions(d, object, &none);
    if (rc != 0)
        return rc;
    rc = add_versions(d, object, set);
    limpet_snapset_destroy(set);
    return rc;
}

static int walk(struct diff *d)
{
    const struct stripe *stripe = &d->image->stripe;
    uint64_t period = stripe->count << stripe->order;
    uint64_t first = d->begin / period * stripe->count, end = stripe_objects(stripe, d->end);
    int rc = 0;
    for (uint64_t object = first; object < end && rc == 0; object++) {
        rc = add_object(d, object);
        if (rc == 0 && (object + 1) % stripe->count == 0)
            rc = tell_set(d);
    }
    if (rc == 0)
        rc = tell_set(d);
    return rc == 0 ? tell_last(d) : rc;
}

/* ---- Beginning ---- */

static bool map_is_valid(const struct limpet_image *image)
{
    const struct header *header = &image->header;
    const uint64_t invalid = LIMPET_IMAGE_OBJECT_MAP_INVALID | LIMPET_IMAGE_FAST_DIFF_INVALID;
    size_t at = image->snap != 0 ? header_snap(header, image->snap) : header->n_snaps;
    if (at < header->n_snaps)
        return (header->snaps[at].flags & invalid) == 0;
    return (header->core.features & LIMPET_IMAGE_OBJECT_MAP) != 0 &&
           (header->core.flags & invalid) == 0;
}

static int load_map(struct diff *d, uint64_t objects)
{
    struct limpet_pool *pool;
    int rc = pool_again(d->image->bare, &pool);
    if (rc != 0)
        return rc;
    rc = map_read(pool, d->image->id, d->to, objects, &d->entries);
    limpet_pool_close(pool);
    return rc == -EOPNOTSUPP ? 0 : rc;
}

static int diff_raw(struct limpet_image *image, const char *from, uint64_t offset, uint64_t len,
                    bool include_parent, bool whole_object, limpet_image_extent extent, void *arg)
{
    struct diff d = {.image = image,
                     .include_parent = include_parent,
                     .whole_object = whole_object,
                     .begin = offset,
                     .extent = extent,
                     .arg = arg};
    pthread_mutex_lock(&image->lock);
    size_t at = from != NULL ? header_snap_named(&image->header, from) : image->header.n_snaps;
    int rc = image->snap_lost || (from != NULL && at == image->header.n_snaps) ? -ENOENT : 0;
    if (rc == 0 && from != NULL) {
        d.from = image->header.snaps[at].id;
        d.from_ordinal = image->header.snaps[at].ordinal;
        d.from_overlap = image->header.snaps[at].overlap;
    }
    if (rc == 0 && image->snap != 0 && d.from > image->snap)
        rc = -EINVAL;
    d.to = image->snap;
    d.to_overlap = image->overlap;
    uint64_t size = image->size;
    bool has_map = rc == 0 && map_is_valid(image);
    pthread_mutex_unlock(&image->lock);
    if (rc != 0 || offset >= size || (d.from != 0 && d.from == d.to))
        return rc;
    d.end = len < size - offset ? offset + len : size;
    if (has_map)
        rc = load_map(&d, stripe_objects(&image->stripe, d.end));
    if (rc == 0)
        rc = walk(&d);
    free(d.entries);
    free(d.set.list);
    return rc;
}

/* Of a handle that is decrypted: places in what it shows. */
struct shifted {
    uint64_t by;
    limpet_image_extent extent;
    void *arg;
};

static int tell_shifted(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    const struct shifted *s = arg;
    return s->extent(offset - s->by, len, exists, s->arg);
}

int limpet_image_diff(struct limpet_image *image, const char *from, uint64_t offset, uint64_t len,
                      bool include_parent, bool whole_object, limpet_image_extent extent, void *arg)
{
    struct shifted shifted = {crypt_data_offset(image->crypt), extent, arg};
    early_settle(image);
    if (shifted.by == 0)
        return diff_raw(image, from, offset, len, include_parent, whole_object, extent, arg);
    if (offset > LIMPET_IMAGE_SIZE_MAX)
        return -EINVAL;
    return diff_raw(image, from, offset + shifted.by, len, include_parent, whole_object,
                    tell_shifted, &shifted);
}

static int count(uint64_t offset, uint64_t len, bool exists, void *arg)
{
    uint64_t *bytes = arg;
    (void)offset;
    if (exists)
        *bytes += len;
    return 0;
}

int limpet_image_used(struct limpet_image *image, const char *from, uint64_t *bytes)
{
    *bytes = 0;
    return limpet_image_diff(image, from, 0, UINT64_MAX, false, true, count, bytes);
}
