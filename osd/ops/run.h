/*
 * Running a request: its steps, one after the other, against a view of its object.
 *
 * steps.c has the table of all kinds of steps; step_*.c have their functions. A step looks at the
 * object and changes it by functions of view.h, and gives what it returns to run_give(). When it
 * meets something that is not loaded it returns VIEW_MISS, and so does ops_run(): the caller loads
 * what view.needs says, and calls it again.
 */
#ifndef LIMPET_OSD_OPS_RUN_H
#define LIMPET_OSD_OPS_RUN_H

#include "osd/ops/ops.h"
#include "osd/ops/view.h"
#include "placement/snaps.h"

enum {
    /*
     * What a writing request returns, results of steps included: it is kept in the log, so that a
     * repeated request gets the same.
     */
    OPS_ANSWER_MAX = 1024,
    /* Checksums that one step gives. */
    OPS_SUMS_MAX = 256 * 1024,
    /* Encoded changes of one request: they must fit a record of the store's journal. */
    OPS_CHANGES_BYTES_MAX = 2 * 1024 * 1024,
};

struct run_result {
    int32_t result; /* 0, positive as the step says, or an error that was allowed. */
    struct buf_slice data;
};

/* Who asks, for steps that note it. */
struct ops_caller {
    uint64_t instance;              /* Of its process; 0: the primary itself. */
    const char *address;            /* Where that process is, for a person. */
    const struct net_address *peer; /* The same; may be NULL. */
    uint64_t life;                  /* Of the service of the group: pg_watch.h. */
};

/*
 * The snapshots that a writing request knows of: of its own, or of the pool. Nothing is copied. One
 * that is about watchers only has none: it changes nothing that a snapshot shows.
 */
struct snap_context {
    uint64_t seq; /* 0: there are none. */
    bool of_pool;
    uint32_t n;           /* Of its own: */
    const uint8_t *snaps; /* u64, newest first. */
    const struct map_snaps *pool;
};

/* A clone of an object, as its snapset tells of it: snap.h. */
struct snap_clone {
    uint64_t id;
    uint64_t size;
    uint32_t n;           /* Snapshots. */
    const uint8_t *snaps; /* u64, descending, unaligned. */
};

struct ops_run {
    const struct ops_request *request;
    struct object_view view;
    struct ops_caller caller;
    struct snap_context context;
    bool clones; /* The object as it was becomes this clone. */
    struct snap_clone clone;
    uint64_t source; /* The clone that it was rolled back to; 0: none. */
    uint16_t n_steps;
    uint64_t wall_ns;
    uint16_t step;     /* That runs, or that failed. */
    uint64_t data_at;  /* Where its data begin in the payload. */
    uint64_t returned; /* Bytes given by the steps so far. */
    uint64_t summed;   /* Bytes that they made checksums of. */
    bool changed;      /* A step that changes the object has not failed. */
    /* The watchers as the last step that looked at them has left them, if one has. */
    bool saw_watchers;
    bool ended_fenced; /* A fenced lease is not in the list any more. */
    struct view_bytes watchers;
    struct run_result results[WIRE_OPS_MAX]; /* As many as the request has steps. */
};

/*
 * state, txn and what request and caller point to are borrowed until run_fini(); a reference to the
 * snapshots of its pool (may be NULL) is kept.
 */
void run_init(struct ops_run *run, const struct ops_request *request, struct buf_slice payload,
              const struct object_state *state, struct store_txn *txn,
              const struct ops_caller *caller, const struct map_snaps *snaps, uint64_t wall_ns);
void run_fini(struct ops_run *run);
/* The pool's snapshots are others now: what was run before does not count. */
void run_take_snaps(struct ops_run *run, const struct map_snaps *snaps);

/*
 * Runs all steps from the first. 0; VIEW_MISS when something must be loaded; or the error of step
 * `run->step`, with which all fails. After anything but 0, txn has nothing in it.
 */
int ops_run(struct ops_run *run) MUST_CHECK;

/* Set in the u16 of an answer whose request left the object as it was: its version follows. */
enum { RUN_ANSWER_UNCHANGED = 0x8000 };

/*
 * What the steps gave, for the log: u16 n, n times wire_op_result, the data; nothing at all when
 * all steps returned 0 and no data. When all that would have changed the object failed, and was
 * allowed to, it also has the version that the object has: RUN_ANSWER_UNCHANGED.
 */
void run_answer(const struct ops_run *run, struct encoder *out);

/* ---- For steps ---- */

/* The step returns this; taken over. -EFBIG, or -EOVERFLOW for a writing request. */
int run_give(struct ops_run *run, struct buf_slice data) MUST_CHECK;
/* Likewise, a copy of what was encoded; the encoder is finished in any case. */
int run_give_encoded(struct ops_run *run, struct encoder *e) MUST_CHECK;

/* A kind of step. */
struct step_kind {
    const char *name;
    uint8_t flags;
    /* The step itself is well-formed; without looking at the object. Optional. */
    int (*check)(const struct wire_op *step, const uint8_t *data);
    /* `data`: step->data_len bytes of the payload. */
    int (*run)(struct ops_run *run, const struct wire_op *step, const uint8_t *data);
};

enum {
    STEP_READS = 1,  /* May stand in a reading request. */
    STEP_WRITES = 2, /* May only stand in a writing one. Both are not set: only as it is told. */
    STEP_DATA = 4,   /* May have data in the payload. */
    STEP_LOOKS = 8,  /* Looks at more than the object's state. */
    STEP_ONLY_READS = 16, /* May not stand in a writing request. */
    STEP_ALONE = 32,      /* Is the only step of its request. */
};

/* NULL: there is no such kind. */
const struct step_kind *step_kind(uint16_t code);

#define STEP_ARGS struct ops_run *run, const struct wire_op *step, const uint8_t *data
int step_read(STEP_ARGS) MUST_CHECK;
int step_stat(STEP_ARGS) MUST_CHECK;
int step_write(STEP_ARGS) MUST_CHECK;
int step_write_full(STEP_ARGS) MUST_CHECK;
int step_append(STEP_ARGS) MUST_CHECK;
int step_truncate(STEP_ARGS) MUST_CHECK;
int step_remove(STEP_ARGS) MUST_CHECK;
int step_create(STEP_ARGS) MUST_CHECK;
int step_write_same(STEP_ARGS) MUST_CHECK;
int step_zero(STEP_ARGS) MUST_CHECK;
int step_sparse_read(STEP_ARGS) MUST_CHECK;
int step_extents(STEP_ARGS) MUST_CHECK;
int step_checksum(STEP_ARGS) MUST_CHECK;
int step_compare_extent(STEP_ARGS) MUST_CHECK;
int step_assert_exists(STEP_ARGS) MUST_CHECK;
int step_assert_version(STEP_ARGS) MUST_CHECK;
int step_hint(STEP_ARGS) MUST_CHECK;
int step_attr_get(STEP_ARGS) MUST_CHECK;
int step_attr_list(STEP_ARGS) MUST_CHECK;
int step_attr_compare(STEP_ARGS) MUST_CHECK;
int step_attr_set(STEP_ARGS) MUST_CHECK;
int step_attr_remove(STEP_ARGS) MUST_CHECK;
int step_omap_list(STEP_ARGS) MUST_CHECK;
int step_omap_get(STEP_ARGS) MUST_CHECK;
int step_omap_get_header(STEP_ARGS) MUST_CHECK;
int step_omap_compare(STEP_ARGS) MUST_CHECK;
int step_omap_set(STEP_ARGS) MUST_CHECK;
int step_omap_set_header(STEP_ARGS) MUST_CHECK;
int step_omap_remove(STEP_ARGS) MUST_CHECK;
int step_omap_remove_range(STEP_ARGS) MUST_CHECK;
int step_omap_clear(STEP_ARGS) MUST_CHECK;
int step_call(STEP_ARGS) MUST_CHECK;
int step_rollback(STEP_ARGS) MUST_CHECK;
int step_list_snaps(STEP_ARGS) MUST_CHECK;
int step_watch(STEP_ARGS) MUST_CHECK;
int step_unwatch(STEP_ARGS) MUST_CHECK;
int step_watch_evict(STEP_ARGS) MUST_CHECK;
int step_watch_connect(STEP_ARGS) MUST_CHECK;
int step_watch_assert(STEP_ARGS) MUST_CHECK;
int step_watch_list(STEP_ARGS) MUST_CHECK;
int step_notify(STEP_ARGS) MUST_CHECK;
int step_notify_ack(STEP_ARGS) MUST_CHECK;

int check_write_same(const struct wire_op *step, const uint8_t *data) MUST_CHECK;
int check_checksum(const struct wire_op *step, const uint8_t *data) MUST_CHECK;
int check_attr_named(const struct wire_op *step, const uint8_t *data) MUST_CHECK;
int check_omap_list(const struct wire_op *step, const uint8_t *data) MUST_CHECK;
int check_omap_keys(const struct wire_op *step, const uint8_t *data) MUST_CHECK;
int check_omap_pairs(const struct wire_op *step, const uint8_t *data) MUST_CHECK;
int check_omap_compare(const struct wire_op *step, const uint8_t *data) MUST_CHECK;
int check_omap_range(const struct wire_op *step, const uint8_t *data) MUST_CHECK;
int check_call(const struct wire_op *step, const uint8_t *data) MUST_CHECK;
int check_watch(const struct wire_op *step, const uint8_t *data) MUST_CHECK;
int check_notify(const struct wire_op *step, const uint8_t *data) MUST_CHECK;
int check_notify_ack(const struct wire_op *step, const uint8_t *data) MUST_CHECK;

#endif
