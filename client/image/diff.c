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
#include "client/image/extents.h"

enum { DISCARD_WHOLE = 64 }; /* Objects that are discarded whether or not they are there. */

struct diff {
    struct limpet_image *image;
    uint64_t from, to; /* Numbers of snapshots; from 0: nothing; to 0: the head. */
    uint32_t from_ordinal;
    uint64_t from_overlap, to_overlap;
    bool include_parent, whole_object;
    uint64_t first;      /* The first object that is looked at; */
    uint32_t *entries;   /* of the map at `to`, from that one on; NULL: nothing is known. */
    struct exist exist;  /* Where there is no map; unless they are few. */
    struct window above; /* What the parent has that may be told. */
    uint64_t begin, end;
    struct extents set; /* Of the objects that are filled together, not yet told. */
    struct extent last; /* Not yet told, as the next one may continue it. */
    uint64_t told;      /* Up to where all is. */
    bool parent_failed; /* It could not be asked. */
    limpet_image_extent extent;
    void *arg;
};

/* ---- Telling ---- */

static int tell_last(struct diff *d)
{
    struct extent last = d->last;
    d->last.len = 0;
    if (last.len == 0)
        return 0;
    d->told = last.offset + last.len;
    return d->extent(last.offset, last.len, last.exists, d->arg);
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

static int tell_set(struct diff *d)
{
    int rc = 0;
    extents_sort(&d->set);
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
        rc = extents_add(&d->set, at, run, exists);
        offset += run;
        len -= run;
    }
    return rc;
}

/* ---- The parent's part ---- */

int image_diff_parent(struct limpet_image *image, uint64_t offset, uint64_t len, bool whole_object,
                      limpet_image_extent extent, void *arg)
{
    /* Handles that only read hear of no changes: it may have been flattened. */
    int rc = image_refresh(image->parent);
    return rc == 0 ? limpet_image_diff(image->parent, NULL, offset, len, true, whole_object, extent,
                                       arg)
                   : rc;
}

static int parent_source(uint64_t offset, uint64_t len, window_take take, void *take_arg, void *arg)
{
    struct diff *d = arg;
    return image_diff_parent(d->image, offset, len, d->whole_object, take, take_arg);
}

static void begin_above(struct diff *d)
{
    uint64_t end = d->end < d->to_overlap ? d->end : d->to_overlap;
    bool seen = d->from == 0 && d->include_parent && d->image->parent != NULL && d->begin < end;
    d->above = (struct window){.source = parent_source,
                               .arg = d,
                               .limit = seen ? end : d->begin,
                               .begin = d->begin,
                               .end = d->begin};
}

/* Looks at what the parent has in the place of objects that are filled together. */
static int show_above(struct diff *d, uint64_t set)
{
    struct window *w = &d->above;
    uint64_t period = d->image->stripe.count << d->image->stripe.order;
    uint64_t from = set * period, to = from + period;
    from = from > d->begin ? from : d->begin;
    to = to < w->limit ? to : w->limit;
    if (from >= to || (w->begin <= from && to <= w->end))
        return 0;
    int rc = window_move(w, from, to - from);
    d->parent_failed = rc < 0;
    return rc;
}

static int add_above(struct diff *d, uint64_t offset, uint64_t len)
{
    int rc = 0;
    const struct extents *above = &d->above.extents;
    for (size_t i = extents_at(above, offset); i < above->n && rc == 0; i++) {
        const struct extent *extent = &above->list[i];
        if (extent->offset >= offset + len)
            break;
        uint64_t from = extent->offset > offset ? extent->offset : offset;
        uint64_t to = extent->offset + extent->len;
        to = to < offset + len ? to : offset + len;
        rc = extents_add(&d->set, from, to - from, extent->exists);
    }
    return rc;
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
    for (uint64_t at = 0; at < len && d->above.extents.n > 0 && rc == 0;) {
        uint64_t run, offset = stripe_image_offset(&d->image->stripe, object, at, &run);
        run = run < len - at ? run : len - at;
        rc = add_above(d, offset, run);
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
            rc = extents_add(out, from, (begin < to ? begin : to) - from, true);
        from = end;
    }
    return rc == 0 && from < to ? extents_add(out, from, to - from, true) : rc;
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
    extents_sort(changes);
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
        rc = extents_add(&changes, 0, len, true);
    else
        rc = changed_between(set, from, to, len, &changes);
    if (rc == 0 && d->whole_object && changes.n > 0)
        rc = add_piece(d, object, 0, UINT64_C(1) << stripe->order,
                       to != OBJECT_NO_VERSION || shows_parent(d, object));
    else if (rc == 0)
        rc = add_changes(d, object, &changes, after);
    extents_fini(&changes);
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
        uint32_t entry = d->entries[object - d->first];
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
    if (d->exist.known && !exist_has(&d->exist, object))
        return add_versions(d, object, &none);
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

/* The first object from there on of which something may be told that is its own. */
static uint64_t next_object(const struct diff *d, uint64_t object, uint64_t end)
{
    if (d->entries == NULL && !d->exist.known)
        return object;
    if (d->entries == NULL) {
        size_t at = exist_at(&d->exist, object);
        return at < d->exist.n && d->exist.list[at] < end ? d->exist.list[at] : end;
    }
    bool all = d->from == 0 || d->from_overlap != d->to_overlap;
    while (object < end && (d->entries[object - d->first] == 0 ||
                            (!all && is_unchanged(d, d->entries[object - d->first]))))
        object++;
    return object;
}

/* The same of objects that are filled together, and with what the parent has, which is looked at.
 */
static int next_set(struct diff *d, uint64_t set, uint64_t end, uint64_t *next)
{
    const struct stripe *stripe = &d->image->stripe;
    const struct window *w = &d->above;
    uint64_t period = stripe->count << stripe->order;
    int rc = 0;
    *next = next_object(d, set * stripe->count, end) / stripe->count;
    while (rc == 0 && set < *next) {
        rc = show_above(d, set);
        size_t at = extents_at(&w->extents, set * period);
        if (rc == 0 && at < w->extents.n) {
            uint64_t above = w->extents.list[at].offset / period;
            set = above > set ? above : set;
            break;
        }
        /* Nothing up to there. */
        set = w->end < w->limit ? w->end / period : *next;
    }
    *next = set < *next ? set : *next;
    return rc == 0 ? show_above(d, *next) : rc;
}

/* Objects between that were not there, and are not: where another part of the parent is seen. */
static int tell_between(struct diff *d, uint64_t set, uint64_t next)
{
    uint64_t period = d->image->stripe.count << d->image->stripe.order;
    bool more = d->from_overlap < d->to_overlap;
    uint64_t from = more ? d->from_overlap : d->to_overlap;
    uint64_t to = more ? d->to_overlap : d->from_overlap;
    from = from > set * period ? from : set * period;
    to = to / period < next ? to : next * period;
    struct extent extent = {.offset = from, .len = to - from, .exists = more};
    return d->from != 0 && from < to ? tell(d, &extent) : 0;
}

static int walk(struct diff *d)
{
    const struct stripe *stripe = &d->image->stripe;
    uint64_t count = stripe->count, end = stripe_objects(stripe, d->end);
    uint64_t set = d->first / count, end_set = (end + count - 1) / count;
    int rc = 0;
    while (set < end_set && rc == 0) {
        uint64_t next;
        rc = next_set(d, set, end, &next);
        next = next < end_set ? next : end_set;
        if (rc == 0)
            rc = tell_between(d, set, next);
        for (uint64_t object = next * count; object < (next + 1) * count && object < end && rc == 0;
             object++)
            rc = add_object(d, object);
        if (rc == 0)
            rc = tell_set(d);
        set = next + 1;
    }
    return rc == 0 ? tell_last(d) : rc;
}

/* ---- Beginning ---- */

static bool map_is_valid(const struct limpet_image *image)
{
    const struct header *header = &image->header;
    const uint64_t invalid = LIMPET_IMAGE_OBJECT_MAP_INVALID | LIMPET_IMAGE_FAST_DIFF_INVALID;
    size_t at = image->snap != 0 ? header_snap(header, image->snap) : header->n_snaps;
    bool is_snap = at < header->n_snaps;
    /* None is kept of what is too large, whichever part of it is looked at. */
    uint64_t size = is_snap ? header->snaps[at].size : header->core.extent;
    if (!map_reaches(stripe_objects(&image->stripe, size)))
        return false;
    if (is_snap)
        return (header->snaps[at].flags & invalid) == 0;
    return (header->core.features & LIMPET_IMAGE_OBJECT_MAP) != 0 &&
           (header->core.flags & invalid) == 0;
}

static int load_map(struct diff *d, uint64_t end)
{
    struct limpet_pool *pool;
    int rc = pool_again(d->image->bare, &pool);
    if (rc != 0)
        return rc;
    rc = map_read(pool, d->image->id, d->to, d->first, end, &d->entries);
    limpet_pool_close(pool);
    return rc == -EOPNOTSUPP ? 0 : rc;
}

/* What there is, before one is asked after the other. */
static int look(struct diff *d, bool has_map)
{
    const struct stripe *stripe = &d->image->stripe;
    uint64_t end = stripe_objects(stripe, d->end);
    d->first = d->begin / (stripe->count << stripe->order) * stripe->count;
    int rc = has_map ? load_map(d, end) : 0;
    if (rc == 0 && d->entries == NULL && exist_is_cheaper(d->image->bare, end - d->first))
        rc = exist_list(d->image->bare, d->image->prefix, d->first, end, true, &d->exist);
    begin_above(d);
    return rc;
}

/*
 * What the handle looks at now, and what the difference begins with: by name at first, by number
 * when it is looked at again.
 */
static int take_view(struct diff *d, const char *from, uint64_t *size, bool *has_map)
{
    struct limpet_image *image = d->image;
    const struct header *header = &image->header;
    int rc = 0;
    pthread_mutex_lock(&image->lock);
    size_t at = from == NULL   ? header->n_snaps
                : d->from != 0 ? header_snap(header, d->from)
                               : header_snap_named(header, from);
    if (image->snap_lost || (from != NULL && at == header->n_snaps))
        rc = -ENOENT;
    if (rc == 0 && from != NULL) {
        d->from = header->snaps[at].id;
        d->from_ordinal = header->snaps[at].ordinal;
        d->from_overlap = header->snaps[at].overlap;
    }
    if (rc == 0 && image->snap != 0 && d->from > image->snap)
        rc = -EINVAL;
    d->to = image->snap;
    d->to_overlap = image->overlap;
    *size = image->size;
    *has_map = rc == 0 && map_is_valid(image);
    pthread_mutex_unlock(&image->lock);
    return rc;
}

/* Tells what was not told yet, up to `end`. */
static int tell_rest(struct diff *d, const char *from, uint64_t end)
{
    uint64_t size;
    bool has_map;
    d->begin = d->told;
    d->parent_failed = false;
    d->last.len = 0;
    int rc = take_view(d, from, &size, &has_map);
    if (rc != 0 || d->begin >= size || (d->from != 0 && d->from == d->to))
        return rc;
    d->end = end < size ? end : size;
    rc = look(d, has_map);
    if (rc == 0)
        rc = walk(d);
    free(d->entries);
    d->entries = NULL;
    exist_fini(&d->exist);
    window_fini(&d->above);
    extents_fini(&d->set);
    return rc;
}

bool image_was_flattened(struct limpet_image *image, uint64_t overlap)
{
    int rc = image_refresh(image);
    pthread_mutex_lock(&image->lock);
    bool fell = rc == 0 && image->overlap < overlap;
    pthread_mutex_unlock(&image->lock);
    return fell;
}

int image_check_same(struct limpet_image *image, const struct image_snap *snap)
{
    const struct header *header = &image->header;
    pthread_mutex_lock(&image->lock);
    size_t at = header_snap_named(header, snap->name);
    bool same = at < header->n_snaps && header->snaps[at].id == snap->id;
    pthread_mutex_unlock(&image->lock);
    return same ? 0 : -ENOENT;
}

int image_check_shown(struct limpet_image *image, uint64_t snap)
{
    int rc = image_refresh(image);
    pthread_mutex_lock(&image->lock);
    bool lost = image->snap_lost || image->header.core.state == IMAGE_REMOVING ||
                (snap != 0 && header_snap(&image->header, snap) == image->header.n_snaps);
    pthread_mutex_unlock(&image->lock);
    return rc == 0 && lost ? -ENOENT : rc;
}

static int diff_raw(struct limpet_image *image, const char *from, uint64_t offset, uint64_t len,
                    bool include_parent, bool whole_object, limpet_image_extent extent, void *arg)
{
    struct diff d = {.image = image,
                     .include_parent = include_parent,
                     .whole_object = whole_object,
                     .told = offset,
                     .extent = extent,
                     .arg = arg};
    uint64_t end = len < UINT64_MAX - offset ? offset + len : UINT64_MAX;
    int rc;
    /* The parent may go when it has been flattened: then all is in its own objects. */
    do {
        rc = tell_rest(&d, from, end);
    } while (rc < 0 && d.parent_failed && image_was_flattened(image, d.to_overlap));
    /* Objects do not tell what a snapshot that was removed has shown. */
    if (rc < 0 || (d.to == 0 && d.from == 0))
        return rc;
    int shown = image_check_shown(image, d.from);
    return shown != 0 ? shown : rc;
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

int image_discard_extents(struct limpet_image *image, uint64_t offset, uint64_t len,
                          limpet_image_extent extent, void *arg)
{
    if (len == 0)
        return 0;
    if (len >> image->stripe.order <= DISCARD_WHOLE)
        return extent(offset, len, true, arg);
    return limpet_image_diff(image, NULL, offset, len, true, true, extent, arg);
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
