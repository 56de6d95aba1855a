/*
 * Snapshots of an object: which clones it has, when one is made, and which one a reader of a
 * snapshot sees. README.md tells the model.
 *
 * The clones of an object are told by its snapset, an attribute of the head: for each, ascending,
 * the number under which it is kept, its size, and the snapshots that it is the state of. A clone
 * never changes, so nobody but a trimmer changes what is said of it.
 */
#ifndef LIMPET_OSD_OPS_SNAP_H
#define LIMPET_OSD_OPS_SNAP_H

#include <string.h>

#include "osd/ops/run.h"

#define SNAPSET_ATTR "snapset" /* As the store has it: no name of a client's is like that. */

enum { SNAPSET_ATTR_LEN = sizeof SNAPSET_ATTR - 1, SNAPSET_VERSION = 1 };

static inline uint64_t snap_at(const struct snap_clone *clone, uint32_t i)
{
    uint64_t snap;
    memcpy(&snap, clone->snaps + i * sizeof snap, sizeof snap);
    return le64toh(snap);
}

/* ---- Snap contexts ---- */

/* What is in force for a writing request: the pool's snapshots if it has any, or the request's. */
struct snap_context ops_snap_context(const struct ops_request *request,
                                     const struct map_snaps *pool);
/* The next snapshot, newest first, that is not removed; *at is 0 before the first. */
bool snap_context_next(const struct snap_context *context, uint32_t *at, uint64_t *snap);

/* ---- Snapsets ---- */

/* Walks the clones of an encoded snapset. snapset_next() returns 1, 0 at the end, -ELIMPET_CORRUPT.
 */
int snapset_begin(struct decoder *d, const void *data, size_t len) MUST_CHECK;
int snapset_next(struct decoder *d, struct snap_clone *out) MUST_CHECK;
/*
 * The clone that shows a snapshot which is not newer than the head's snap_seq. -ENOENT: the object
 * did not exist then; -ELIMPET_CORRUPT.
 */
int snapset_find(const void *data, size_t len, uint64_t snap, struct snap_clone *out) MUST_CHECK;
/* With one more clone, after all others; `old` may be empty. */
int snapset_add(struct encoder *out, struct view_bytes old,
                const struct snap_clone *clone) MUST_CHECK;

/* What becomes of a snapset when a snapshot is gone. */
struct snapset_trim {
    bool found;     /* It named the snapshot. */
    uint64_t clone; /* That has no snapshots left, and is not in it any more; 0: none. */
    uint64_t clone_size;
    uint32_t left; /* Clones. */
};
int snapset_remove(struct encoder *out, struct view_bytes old, uint64_t snap,
                   struct snapset_trim *trim) MUST_CHECK;

/* ---- Of a run ---- */

/* Before the steps: the object as it is becomes a clone, if the context says so. */
void snap_before_steps(struct ops_run *run);
/* After them, if they changed something: the snapset. 0, VIEW_MISS, -E2BIG (too many clones). */
int snap_after_steps(struct ops_run *run) MUST_CHECK;

#endif
