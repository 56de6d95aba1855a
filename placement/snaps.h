/*
 * The snapshots of a pool, as a value that never changes: part of the cluster map.
 *
 * Snapshots are numbers that only grow. Those of a pool have names and are taken for all its
 * objects; self-managed ones are numbers that clients ask for, and whose meaning only they know. A
 * pool has the one or the other kind, decided by the first that is made.
 *
 * What was removed is kept as ranges, so that a client that does not know yet makes no clones for
 * it. They grow together when what lies between them is removed, so there are no more of them than
 * snapshots that are alive, and one. Those of which there may be clones are kept a second time,
 * with the epoch of their removal, until all placement groups have said that there are none.
 */
#ifndef LIMPET_PLACEMENT_SNAPS_H
#define LIMPET_PLACEMENT_SNAPS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

enum {
    SNAPS_NAMED_MAX = 512,    /* That a pool has at a time. */
    SNAPS_NAME_MAX = 127,     /* Bytes of a name. */
    SNAPS_REMOVED_MAX = 4096, /* Ranges; beyond that the oldest are forgotten. */
    SNAPS_TRIMS_MAX = 4096,   /* Ranges that are removed from objects. */
};

enum snaps_mode { SNAPS_NONE = 0, SNAPS_POOL = 1, SNAPS_SELF = 2 };

struct snap_named {
    uint64_t id;
    uint64_t stamp_ns; /* Wall clock. */
    char name[SNAPS_NAME_MAX + 1];
};

struct snap_range {
    uint64_t first, last; /* Both included. */
};

struct snap_trim {
    uint64_t first, last;
    uint64_t epoch; /* Of the newest removal among them. */
};

struct map_snaps {
    uint32_t references; /* Private. */
    uint8_t mode;        /* enum snaps_mode */
    uint64_t seq;        /* The newest number that was given. */
    uint32_t n_named, n_removed, n_trims;
    struct snap_named *named; /* Ascending, as all of them. */
    struct snap_range *removed;
    struct snap_trim *trims;
};

/* Room for so many of each, zeroed, with the numbers set. NULL when memory is short. */
struct map_snaps *snaps_create(uint32_t n_named, uint32_t n_removed, uint32_t n_trims) MUST_CHECK;
/* NULL is allowed, and stands for a pool without any. */
const struct map_snaps *snaps_ref(const struct map_snaps *snaps);
void snaps_unref(const struct map_snaps *snaps);

/* Whether it can stand in the map of this epoch. */
bool snaps_valid(const struct map_snaps *snaps, uint64_t epoch);
bool snaps_removed(const struct map_snaps *snaps, uint64_t id);
/* NULL: there is none. */
const struct snap_named *snaps_by_name(const struct map_snaps *snaps, const char *name);
const struct snap_named *snaps_by_id(const struct map_snaps *snaps, uint64_t id);

/*
 * Each makes another value. -EINVAL: the pool has snapshots of the other kind; -EEXIST, -ENOENT: by
 * name or number; -EMFILE, -EBUSY: too many are alive, or being trimmed; -ENAMETOOLONG; -ENOMEM.
 */
int snaps_add_named(const struct map_snaps *old, const char *name, uint64_t stamp_ns,
                    const struct map_snaps **out) MUST_CHECK;
int snaps_add_self(const struct map_snaps *old, const struct map_snaps **out) MUST_CHECK;
int snaps_remove(const struct map_snaps *old, uint64_t id, uint64_t epoch,
                 const struct map_snaps **out) MUST_CHECK;
/* What was removed up to this epoch has left all objects. */
int snaps_purge(const struct map_snaps *old, uint64_t epoch,
                const struct map_snaps **out) MUST_CHECK;

#endif
