/*
 * An object as the steps of one request see it: what the store holds of it, loaded as it is asked
 * for, under what the steps have changed so far.
 *
 * Nothing here waits. A function that would need something that has not been loaded notes that in
 * `needs` and returns VIEW_MISS; whoever runs the request then loads it (osd/pg/pg_run.c), gives it
 * to view_give_...(), and runs the request again from its first step. So steps and methods are
 * plain functions from a view to a transaction, and their results do not depend on when what was
 * loaded.
 *
 * What was loaded stays true as long as no other write of the object runs: the caller sees to that.
 */
#ifndef LIMPET_OSD_OPS_VIEW_H
#define LIMPET_OSD_OPS_VIEW_H

#include <errno.h>
#include <stdbool.h>

#include "common/buf.h"
#include "common/codec.h"
#include "common/error.h"
#include "common/wire_layout.h"
#include "osd/store/store.h"

/* Not an error: something must be loaded first. Steps pass it on as it is. */
#define VIEW_MISS (-EINPROGRESS)

enum {
    /* Of all attributes of an object, names included: they travel and are stored together. */
    OBJECT_ATTRS_BYTES_MAX = 512 * 1024,
    VIEW_NEEDS_MAX = 8192,              /* Pieces that one request may load. */
    VIEW_CHANGES_MAX = 65536,           /* Changes of one request to attributes and map. */
    VIEW_OMAP_PAGE_BYTES = 1024 * 1024, /* Loaded at a time, beyond the first pair. */
    VIEW_SAME_BYTES = 2048 * 16,        /* Of one answer about what is the same: 2,048 extents. */
    /* A pattern is repeated in memory up to this size, and beyond that in the transaction. */
    VIEW_PATTERN_BYTES = 32 * 1024,
    /* More than this must not be looked at again by later steps of the same request: -E2BIG. */
    VIEW_CHANGES_SEEN_MAX = 4096,
};

/* What is known of an object without reading more of it than its record. */
struct object_state {
    bool exists;
    bool whiteout; /* It does not exist for clients, and is kept since it has clones. */
    bool has_clones;
    uint64_t snap_seq; /* The newest snapshot that a writer of it knew of. */
    uint64_t size;
    uint64_t mtime_ns;
    uint32_t attrs_bytes; /* Its attributes have no more than this. */
    struct wire_version version;
};

enum view_need_kind {
    VIEW_NEEDS_DATA,
    VIEW_NEEDS_EXTENTS,
    VIEW_NEEDS_SAME, /* What a clone has in common with another one, or with the object. */
    VIEW_NEEDS_ATTRS,
    VIEW_NEEDS_OMAP,
};

/* What is to be loaded. Keys point to the request, or to memory of the view. */
struct view_need {
    enum view_need_kind kind;
    uint64_t offset, len;     /* Data, extents. */
    uint64_t clone, other;    /* Numbers of clones; OBJECT_HEAD. */
    const uint8_t *from, *to; /* Map; to_len 0: to the end. */
    uint16_t from_len, to_len;
    uint32_t max; /* Pairs. */
    bool header;  /* Of the map, too. */
};

struct view_piece; /* Loaded data or extents. */
struct view_attr;  /* A loaded attribute. */
struct view_pairs; /* A loaded range of the map. */
struct view_change;
struct view_block; /* Memory that lives as long as one run. */

struct object_view {
    struct object_state base;  /* In the store. */
    struct object_state state; /* After the steps so far. */

    /* Loaded; kept from run to run. */
    struct view_piece *pieces;
    bool has_attrs, has_header;
    struct encoder attrs; /* string16 name, string32 value ... */
    uint32_t n_attrs;
    struct view_attr *attrs_index; /* By name; points into attrs. */
    struct encoder header;
    uint32_t n_pairs, pairs_capacity;
    struct view_pairs *pairs; /* By their first key. */
    uint64_t loaded_bytes;

    /* What the last run lacked. */
    uint32_t n_needs, needs_capacity;
    struct view_need *needs;

    /* Changed by the steps of this run. */
    struct store_txn *txn;
    struct buf_slice payload; /* Of the request: what its steps write. Borrowed. */
    struct encoder more;      /* Bytes to write that are not in the payload; they follow it. */
    bool writes_data;         /* The transaction refers to payload or more. */
    bool records;             /* Some step may look at what others changed. */
    bool renewed;             /* It was removed: nothing of the store shines through. */
    bool data_changed;
    bool grows; /* Attributes, pairs or the header were set. */
    uint32_t n_changes, changes_capacity;
    struct view_change *changes;
    struct view_block *blocks;
    size_t blocks_bytes;
    int failed; /* -ENOMEM, -E2BIG: the run cannot succeed. */
};

/* `payload` is borrowed until view_fini(). */
void view_init(struct object_view *view, const struct object_state *state, struct store_txn *txn,
               struct buf_slice payload);
void view_fini(struct object_view *view);
/* To the first step again: changes are forgotten, and what was loaded is kept. */
void view_restart(struct object_view *view);

/* ---- Giving what was loaded ---- */

/* Takes the data over. */
int view_give_data(struct object_view *view, uint64_t offset, uint64_t len,
                   struct buf_slice data) MUST_CHECK;
/* Take the encoders over, in the store's form. */
int view_give_extents(struct object_view *view, const struct view_need *need,
                      struct encoder *extents) MUST_CHECK;
int view_give_attrs(struct object_view *view, struct encoder *attrs) MUST_CHECK;
int view_give_omap(struct object_view *view, const struct view_need *need, struct encoder *pairs,
                   bool end, struct encoder *header) MUST_CHECK;

/* ---- Looking ---- */

/*
 * All return VIEW_MISS, -ENOMEM, -E2BIG (VIEW_CHANGES_SEEN_MAX), or what is said. Bytes that are
 * found live until the end of the run.
 */
struct view_bytes {
    const uint8_t *data;
    uint32_t len;
};

/* Bytes of the range that lie inside the object; the caller drops the slice. */
int view_read(struct object_view *view, uint64_t offset, uint64_t len,
              struct buf_slice *out) MUST_CHECK;
/* Where in the range there may be anything but zeroes: pairs of u64 offset and length. */
int view_extents(struct object_view *view, uint64_t offset, uint64_t len,
                 struct encoder *out) MUST_CHECK;
/* Which of its first bytes a clone shares with another one: likewise. */
int view_same(struct object_view *view, uint64_t clone, uint64_t other, uint64_t len,
              struct view_bytes *out) MUST_CHECK;
/* -ENODATA: there is no such attribute. Names as the store has them. */
int view_attr(struct object_view *view, const void *name, uint16_t name_len,
              struct view_bytes *out) MUST_CHECK;
/* As the store has it, whatever the steps have changed, and also of a whiteout. */
int view_base_attr(struct object_view *view, const void *name, uint16_t name_len,
                   struct view_bytes *out) MUST_CHECK;
/* The first attribute whose name is greater; an empty name for the first of all. -ENODATA. */
int view_attr_next(struct object_view *view, struct view_bytes after, struct view_bytes *name,
                   struct view_bytes *value) MUST_CHECK;
int view_omap_header(struct object_view *view, struct view_bytes *out) MUST_CHECK;
/* -ENODATA: there is no such key. */
int view_omap(struct object_view *view, const void *key, uint16_t key_len,
              struct view_bytes *out) MUST_CHECK;
/* The first pair whose key is not less than `from`; -ENODATA. `max` pairs are loaded at a time. */
int view_omap_next(struct object_view *view, const void *from, uint16_t from_len, uint32_t max,
                   struct view_bytes *key, struct view_bytes *value) MUST_CHECK;

/* ---- Changing ---- */

/*
 * Each writes to the transaction and to what later steps see. They cannot fail by themselves: the
 * view is `failed` then, which its owner looks at after the run. Sizes and names are checked by the
 * steps. Everything that is given is borrowed until the end of the run.
 */
void view_touch(struct object_view *view);
/* Bytes of the payload, from data_offset. */
void view_write(struct object_view *view, uint64_t offset, uint64_t len, uint64_t data_offset);
/* Other bytes: `len` of them, `pattern_len` of `pattern` again and again. They are copied. */
void view_write_same(struct object_view *view, uint64_t offset, uint64_t len, const void *pattern,
                     uint64_t pattern_len);
void view_zero(struct object_view *view, uint64_t offset, uint64_t len);
void view_truncate(struct object_view *view, uint64_t size);
void view_remove(struct object_view *view);
/* The object becomes a copy of another one. Nothing looks at it any more in this run. */
void view_copy(struct object_view *view, const struct object_id *from, const struct object_id *to,
               uint64_t size);
void view_attr_set(struct object_view *view, const void *name, uint16_t name_len, const void *value,
                   uint32_t len);
void view_attr_remove(struct object_view *view, const void *name, uint16_t name_len);
void view_omap_set(struct object_view *view, const void *key, uint16_t key_len, const void *value,
                   uint32_t len);
/* Keys from `from` up to, not including, `to`; to_len 0: to the end. */
void view_omap_remove(struct object_view *view, const void *from, uint16_t from_len, const void *to,
                      uint16_t to_len);
void view_omap_set_header(struct object_view *view, const void *value, uint32_t len);

/* 0 when an attribute of this size may be set: -E2BIG beyond OBJECT_ATTRS_BYTES_MAX. */
int view_attr_room(struct object_view *view, const void *name, uint16_t name_len,
                   uint32_t len) MUST_CHECK;
/* The data that the transaction refers to; the caller drops the slice. */
int view_take_data(struct object_view *view, struct buf_slice *out) MUST_CHECK;

/* Memory until the end of the run; NULL (and failed) when it is short. */
void *view_alloc(struct object_view *view, size_t len) MUST_CHECK;

/* Bytewise, then by length: the order of the store. */
int view_compare(const void *a, size_t a_len, const void *b, size_t b_len);

#endif
