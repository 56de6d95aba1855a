#include "placement/snaps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/object.h"

struct map_snaps *snaps_create(uint32_t n_named, uint32_t n_removed, uint32_t n_trims)
{
    struct map_snaps *snaps =
        calloc(1, sizeof *snaps + n_named * sizeof(struct snap_named) +
                      n_removed * sizeof(struct snap_range) + n_trims * sizeof(struct snap_trim));
    if (snaps == NULL) {
        return NULL;
    }
    snaps->references = 1;
    snaps->n_named = n_named;
    snaps->n_removed = n_removed;
    snaps->n_trims = n_trims;
    snaps->named = (struct snap_named *)(void *)(snaps + 1);
    snaps->removed = (struct snap_range *)(void *)(snaps->named + n_named);
    snaps->trims = (struct snap_trim *)(void *)(snaps->removed + n_removed);
    return snaps;
}

/* Maps of different threads may share one. */
const struct map_snaps *snaps_ref(const struct map_snaps *snaps)
{
    if (snaps != NULL) {
        __atomic_add_fetch(&((struct map_snaps *)(uintptr_t)snaps)->references, 1,
                           __ATOMIC_RELAXED);
    }
    return snaps;
}

void snaps_unref(const struct map_snaps *snaps)
{
    struct map_snaps *mine = (struct map_snaps *)(uintptr_t)snaps;
    if (mine != NULL && __atomic_sub_fetch(&mine->references, 1, __ATOMIC_ACQ_REL) == 0) {
        free(mine);
    }
}

/* ---- Looking ---- */

static bool named_valid(const struct map_snaps *snaps)
{
    uint64_t before = 0;
    for (uint32_t i = 0; i < snaps->n_named; i++) {
        const struct snap_named *snap = &snaps->named[i];
        size_t len = strnlen(snap->name, sizeof snap->name);
        if (snap->id <= before || snap->id > snaps->seq || len == 0 || len > SNAPS_NAME_MAX) {
            return false;
        }
        before = snap->id;
    }
    return snaps->n_named == 0 || snaps->mode == SNAPS_POOL;
}

static bool ranges_valid(const struct map_snaps *snaps, uint64_t epoch)
{
    uint64_t before = 0;
    for (uint32_t i = 0; i < snaps->n_removed; i++) {
        const struct snap_range *range = &snaps->removed[i];
        if (range->first <= before || range->last < range->first || range->last > snaps->seq) {
            return false;
        }
        before = range->last;
    }
    before = 0;
    for (uint32_t i = 0; i < snaps->n_trims; i++) {
        const struct snap_trim *trim = &snaps->trims[i];
        if (trim->first <= before || trim->last < trim->first || trim->last > snaps->seq ||
            trim->epoch > epoch) {
            return false;
        }
        before = trim->last;
    }
    return true;
}

bool snaps_valid(const struct map_snaps *snaps, uint64_t epoch)
{
    return snaps == NULL ||
           (snaps->mode <= SNAPS_SELF && snaps->n_named <= SNAPS_NAMED_MAX &&
            snaps->n_removed <= SNAPS_REMOVED_MAX && snaps->n_trims <= SNAPS_TRIMS_MAX &&
            snaps->seq <= OBJECT_SNAP_MAX && named_valid(snaps) && ranges_valid(snaps, epoch));
}

bool snaps_removed(const struct map_snaps *snaps, uint64_t id)
{
    uint32_t low = 0, high = snaps != NULL ? snaps->n_removed : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (snaps->removed[middle].last < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return snaps != NULL && low < snaps->n_removed && snaps->removed[low].first <= id;
}

const struct snap_named *snaps_by_name(const struct map_snaps *snaps, const char *name)
{
    for (uint32_t i = 0; snaps != NULL && i < snaps->n_named; i++) {
        if (strcmp(snaps->named[i].name, name) == 0) {
            return &snaps->named[i];
        }
    }
    return NULL;
}

const struct snap_named *snaps_by_id(const struct map_snaps *snaps, uint64_t id)
{
    for (uint32_t i = 0; snaps != NULL && i < snaps->n_named; i++) {
        if (snaps->named[i].id == id) {
            return &snaps->named[i];
        }
    }
    return NULL;
}

/* ---- Changing ---- */

static const struct map_snaps none;

/* Everything of the old value, with room for one more of each. */
static struct map_snaps *copy_with_room(const struct map_snaps *old)
{
    struct map_snaps *copy = snaps_create(old->n_named + 1, old->n_removed + 1, old->n_trims + 1);
    if (copy == NULL) {
        return NULL;
    }
    copy->mode = old->mode;
    copy->seq = old->seq;
    copy->n_named = old->n_named;
    copy->n_removed = old->n_removed;
    copy->n_trims = old->n_trims;
    if (old->n_named > 0) {
        memcpy(copy->named, old->named, old->n_named * sizeof *old->named);
    }
    if (old->n_removed > 0) {
        memcpy(copy->removed, old->removed, old->n_removed * sizeof *old->removed);
    }
    if (old->n_trims > 0) {
        memcpy(copy->trims, old->trims, old->n_trims * sizeof *old->trims);
    }
    return copy;
}

int snaps_add_named(const struct map_snaps *old, const char *name, uint64_t stamp_ns,
                    const struct map_snaps **out)
{
    old = old != NULL ? old : &none;
    size_t len = strlen(name);
    if (old->mode == SNAPS_SELF || len == 0) {
        return -EINVAL;
    }
    if (len > SNAPS_NAME_MAX) {
        return -ENAMETOOLONG;
    }
    if (snaps_by_name(old, name) != NULL) {
        return -EEXIST;
    }
    if (old->n_named == SNAPS_NAMED_MAX) {
        return -EMFILE;
    }
    struct map_snaps *new = copy_with_room(old);
    if (new == NULL) {
        return -ENOMEM;
    }
    new->mode = SNAPS_POOL;
    struct snap_named *snap = &new->named[new->n_named++];
    snap->id = ++new->seq;
    snap->stamp_ns = stamp_ns;
    memcpy(snap->name, name, len + 1);
    *out = new;
    return 0;
}

int snaps_add_self(const struct map_snaps *old, const struct map_snaps **out)
{
    old = old != NULL ? old : &none;
    if (old->mode == SNAPS_POOL) {
        return -EINVAL;
    }
    struct map_snaps *new = copy_with_room(old);
    if (new == NULL) {
        return -ENOMEM;
    }
    new->mode = SNAPS_SELF;
    new->seq++;
    *out = new;
    return 0;
}

/* Puts one number into the ranges, where it joins its neighbours. */
static void add_removed(struct map_snaps *snaps, uint64_t id)
{
    struct snap_range *ranges = snaps->removed;
    uint32_t at = 0;
    while (at < snaps->n_removed && ranges[at].last + 1 < id) {
        at++;
    }
    if (at < snaps->n_removed && ranges[at].last + 1 == id) {
        ranges[at].last = id;
        if (at + 1 < snaps->n_removed && ranges[at + 1].first == id + 1) {
            ranges[at].last = ranges[at + 1].last;
            memmove(&ranges[at + 1], &ranges[at + 2],
                    (--snaps->n_removed - (at + 1)) * sizeof *ranges);
        }
    } else if (at < snaps->n_removed && ranges[at].first == id + 1) {
        ranges[at].first = id;
    } else {
        memmove(&ranges[at + 1], &ranges[at], (snaps->n_removed++ - at) * sizeof *ranges);
        ranges[at] = (struct snap_range){id, id};
    }
    if (snaps->n_removed > SNAPS_REMOVED_MAX) {
        memmove(ranges, ranges + 1, --snaps->n_removed * sizeof *ranges);
    }
}

/* The same, and a range is as new as the newest removal in it. */
static void add_trim(struct map_snaps *snaps, uint64_t id, uint64_t epoch)
{
    struct snap_trim *trims = snaps->trims;
    uint32_t at = 0;
    while (at < snaps->n_trims && trims[at].last + 1 < id) {
        at++;
    }
    if (at < snaps->n_trims && trims[at].last + 1 == id) {
        trims[at].last = id;
        trims[at].epoch = epoch;
        if (at + 1 < snaps->n_trims && trims[at + 1].first == id + 1) {
            trims[at].last = trims[at + 1].last;
            memmove(&trims[at + 1], &trims[at + 2], (--snaps->n_trims - (at + 1)) * sizeof *trims);
        }
    } else if (at < snaps->n_trims && trims[at].first == id + 1) {
        trims[at].first = id;
        trims[at].epoch = epoch;
    } else {
        memmove(&trims[at + 1], &trims[at], (snaps->n_trims++ - at) * sizeof *trims);
        trims[at] = (struct snap_trim){id, id, epoch};
    }
}

int snaps_remove(const struct map_snaps *old, uint64_t id, uint64_t epoch,
                 const struct map_snaps **out)
{
    old = old != NULL ? old : &none;
    const struct snap_named *named = snaps_by_id(old, id);
    if (id == 0 || id > old->seq || snaps_removed(old, id) ||
        (old->mode == SNAPS_POOL && named == NULL)) {
        return -ENOENT;
    }
    if (old->n_trims == SNAPS_TRIMS_MAX) {
        return -EBUSY;
    }
    struct map_snaps *new = copy_with_room(old);
    if (new == NULL) {
        return -ENOMEM;
    }
    if (named != NULL) {
        uint32_t at = (uint32_t)(named - old->named);
        memmove(&new->named[at], &new->named[at + 1], (--new->n_named - at) * sizeof *new->named);
    }
    add_removed(new, id);
    add_trim(new, id, epoch);
    *out = new;
    return 0;
}

int snaps_purge(const struct map_snaps *old, uint64_t epoch, const struct map_snaps **out)
{
    old = old != NULL ? old : &none;
    struct map_snaps *new = copy_with_room(old);
    if (new == NULL) {
        return -ENOMEM;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < new->n_trims; i++) {
        if (new->trims[i].epoch > epoch) {
            new->trims[kept++] = new->trims[i];
        }
    }
    new->n_trims = kept;
    *out = new;
    return 0;
}
