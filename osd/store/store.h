/*
 * The object store as the OSD sees it: a table of functions.
 *
 * Writing is by transactions. They commit in the order in which they were submitted: after a crash
 * the store holds a prefix of them. A transaction is all or nothing. `done` means durable: it
 * survives a power cut. A read submitted after a transaction was submitted may or may not see
 * it; one submitted after `done` does.
 *
 * A write that changes a part of what the disk cannot give back any more goes through all the same:
 * what it leaves there is marked, so that reading it fails like before until it was written anew as
 * a whole, and the transaction is told of it (`damaged`).
 *
 * Everything happens on the loop of the env that the store was created with. Requests are allocated
 * by the caller and belong to the store until their callback, which is never made from inside the
 * call. Buffers given by slice are referenced by the store for as long as it needs them.
 *
 * Besides objects, every placement group has a small ordered set of key-value pairs (its log and
 * its state), changed in the same transactions as the objects.
 *
 * Implementations: store_memory.c (for the simulator), the engine (engine.h; store_engine.h opens
 * it on real disks).
 */
#ifndef LIMPET_OSD_STORE_STORE_H
#define LIMPET_OSD_STORE_STORE_H

#include "common/env.h"
#include "common/object.h"

struct store;

enum {
    STORE_INFO_MAX = 64, /* The OSD's own blob of an object (its version ...). */
    STORE_ATTR_NAME_MAX = 255,
    STORE_ATTR_VALUE_MAX = 65536,
    STORE_PG_KEY_MAX = 64,
    STORE_PG_VALUE_MAX = 65536,
    STORE_OMAP_KEY_MAX = 4096,
    STORE_OMAP_VALUE_MAX = 1024 * 1024,
    STORE_LIST_MAX = 1024, /* Entries of one listing call at most. */
};

/* ---- Transactions ---- */

/*
 * Operations, encoded one after the other (osd/store/txn_layout.h), and the data of all writes in
 * one slice. The encoding is also what replicas receive, so it must be validated: txn_check().
 */
struct store_txn {
    struct encoder ops;
    struct buf_slice data;
    /* May take space of the reserve: recovery, and what others have committed to already. */
    bool uses_reserve;
    void (*done)(struct store_txn *txn, int error);
    /*
     * Those that follow make no sense without this one: if it fails, so does the store, before any
     * of them commits.
     */
    bool chained;
    bool damaged;  /* Result: an object that it changed cannot be read as a whole. */
    void *impl[4]; /* Private to the store. */
};

void txn_init(struct store_txn *txn);
/* Frees the operations and drops the data. */
void txn_fini(struct store_txn *txn);

/* Following operations are about this object. */
void txn_object(struct store_txn *txn, const struct object_id *id);
/* Creates the object, empty, unless it exists. All writing operations below do so too. */
void txn_touch(struct store_txn *txn);
/* Writes len bytes of txn->data from data_offset at offset of the object. */
void txn_write(struct store_txn *txn, uint64_t offset, uint64_t len, uint64_t data_offset);
void txn_zero(struct store_txn *txn, uint64_t offset, uint64_t len);
void txn_truncate(struct store_txn *txn, uint64_t size);
/* Removes the object with all it has; nothing happens if it does not exist. */
void txn_remove(struct store_txn *txn);
/* Replaces the object's info blob. */
void txn_set_info(struct store_txn *txn, const void *info, uint16_t len);
void txn_set_attr(struct store_txn *txn, const void *name, uint16_t name_len, const void *value,
                  uint32_t len);
void txn_remove_attr(struct store_txn *txn, const void *name, uint16_t name_len);
/* The current object takes the place of `to` (of the same pool and hash), which is removed first.
 */
void txn_rename(struct store_txn *txn, const struct object_id *to);
/* `to` (of the same pool and hash) becomes a copy of the current object, with all it has; data are
 * shared, not copied. The omap of the current object must not be changed before in the transaction.
 */
void txn_clone(struct store_txn *txn, const struct object_id *to);
/* The object's ordered map: [from, to), `to` of length 0 for all that follows. */
void txn_omap_set(struct store_txn *txn, const void *key, uint16_t key_len, const void *value,
                  uint32_t len);
void txn_omap_remove_range(struct store_txn *txn, const void *from, uint16_t from_len,
                           const void *to, uint16_t to_len);
void txn_omap_header(struct store_txn *txn, const void *value, uint32_t len);
/* Key-value pairs of a placement group. The range is [from, to). */
void txn_pg_set(struct store_txn *txn, struct pg_id pg, const void *key, uint16_t key_len,
                const void *value, uint32_t len);
void txn_pg_remove_range(struct store_txn *txn, struct pg_id pg, const void *from,
                         uint16_t from_len, const void *to, uint16_t to_len);

/*
 * Checks operations that came from a peer: well-formed, inside limits and inside the data. With
 * `pool` given, only objects and PGs of that pool. -EBADMSG otherwise.
 */
int txn_check(const void *ops, size_t ops_len, size_t data_len, const uint64_t *pool) MUST_CHECK;

/* ---- Reads ---- */

struct store_stat {
    bool exists;
    bool has_omap; /* It may have a map, or a header of one. */
    uint64_t size;
    uint16_t info_len;
    uint8_t info[STORE_INFO_MAX];
};

struct store_read {
    struct object_id object; /* Its strings stay valid until done. */
    uint64_t offset;
    uint64_t len; /* 0: only the stat. Data end at the object's end. */
    bool want_attrs;
    /*
     * A client's read: a copy that the system has kept since an earlier one will do. Others want to
     * know what the disk has.
     */
    bool may_be_remembered;
    /*
     * Instead of data: which parts of the range may hold anything but zeroes. A store may name more
     * than there is, in its own granularity, but never less.
     */
    bool want_extents;
    /*
     * With want_extents, if it is not NULL: instead, which parts of the range are the same in this
     * object, of the same pool and hash, as far as the store knows without reading them: what it
     * keeps for both in one place, and what it keeps for neither. Nothing beyond the end of either.
     * Valid until done.
     */
    const struct object_id *same_in;
    void (*done)(struct store_read *read);
    /* Results. -ENOENT when there is no object; -EIO with details in the log. */
    int error;
    struct store_stat stat;
    struct buf_slice data;  /* The caller drops it. */
    struct encoder attrs;   /* string16 name, string32 value ...; the caller calls encoder_fini. */
    struct encoder extents; /* u64 offset, u64 length ..., ascending and apart; likewise. */
    void *impl[8];
};

struct store_list_entry {
    struct object_id id;
    uint64_t size;
    uint16_t info_len;
    const uint8_t *info;
};

struct store_list {
    uint64_t pool;
    uint32_t first; /* Reversed hashes, inclusive. */
    uint32_t last;
    const struct object_id *after; /* NULL: from the beginning. */
    uint32_t max;                  /* 1 .. STORE_LIST_MAX */
    void (*done)(struct store_list *list);
    /* Results, valid until list_fini(). */
    int error;
    uint32_t n;
    bool end; /* Nothing follows the last entry. */
    struct store_list_entry *entries;
    void *memory;
    void *impl[8];
};
void list_fini(struct store_list *list);

/* Pairs of a placement group with from <= key < to, oldest key first, each once. */
struct store_pg_read {
    struct pg_id pg;
    uint8_t from[STORE_PG_KEY_MAX], to[STORE_PG_KEY_MAX];
    uint16_t from_len, to_len;
    uint32_t max; /* Pairs at most; 0: no limit. */
    bool reverse; /* Newest first. */
    void (*done)(struct store_pg_read *read);
    int error;
    struct encoder pairs; /* string16 key, string32 value ...; the caller calls encoder_fini. */
    uint32_t n;
    void *impl[8];
};

/* Pairs of an object's map, in order of keys, and its header. */
struct store_omap_read {
    struct object_id object; /* Its strings stay valid until done. */
    const uint8_t *from;     /* Inclusive; valid until done. */
    const uint8_t *to;       /* Exclusive; to_len 0: to the end. */
    uint16_t from_len, to_len;
    uint32_t max;       /* Pairs at most. */
    uint32_t max_bytes; /* Stops after this much; 0: no limit. */
    bool want_header;
    void (*done)(struct store_omap_read *read);
    /* Results. -ENOENT when there is no object. */
    int error;
    struct encoder pairs; /* string16 key, string32 value ...; the caller calls encoder_fini. */
    uint32_t n;
    bool end;              /* Nothing follows the last pair. */
    struct encoder header; /* Likewise. */
    void *impl[8];
};

/*
 * Space without the store's reserve: used and available sum up to total, and available is 0 once
 * the reserve is being used. Growth is refused with -ENOSPC when it does not fit in what is
 * available; what a store does with uses_reserve and with transactions that free space is its own.
 */
struct store_statfs {
    uint64_t bytes_total;
    uint64_t bytes_used;
    uint64_t bytes_available;
    uint64_t bytes_reserve; /* What is left of it, */
    uint64_t reserve_whole; /* and what it is when all is there. */
    bool index_short;       /* Nothing should be added to what is known of objects. */
};

/* A placement group that has pairs in the store. */
typedef void (*store_pg_visit)(void *ctx, struct pg_id pg);

struct store_ops {
    void (*submit)(struct store *store, struct store_txn *txn);
    void (*read)(struct store *store, struct store_read *read);
    void (*list)(struct store *store, struct store_list *list);
    void (*pg_read)(struct store *store, struct store_pg_read *read);
    void (*omap_read)(struct store *store, struct store_omap_read *read);
    /* Synchronous; for start-up. */
    int (*pgs)(struct store *store, store_pg_visit visit, void *ctx);
    void (*statfs)(struct store *store, struct store_statfs *out);
    /*
     * Waits for what was submitted, then frees the store. No callback is made after `closed`.
     */
    void (*close)(struct store *store, void (*closed)(void *ctx), void *ctx);
};

struct store {
    const struct store_ops *ops;
    struct env *env;
    /*
     * Called once when the store can no longer promise anything (a failed flush, a damaged index):
     * the OSD must stop. Set by the owner after creation.
     */
    void (*failed)(void *ctx, int error, const char *why);
    void *failed_ctx;
};

static inline void store_submit(struct store *store, struct store_txn *txn)
{
    store->ops->submit(store, txn);
}
static inline void store_read(struct store *store, struct store_read *read)
{
    store->ops->read(store, read);
}
static inline void store_list(struct store *store, struct store_list *list)
{
    store->ops->list(store, list);
}
static inline void store_pg_read(struct store *store, struct store_pg_read *read)
{
    store->ops->pg_read(store, read);
}

static inline void store_omap_read(struct store *store, struct store_omap_read *read)
{
    store->ops->omap_read(store, read);
}

/* ---- Implementations ---- */

/*
 * What survives a simulated crash of a store in memory. A crash is store_memory_crash(), after
 * which the disk can be opened again: it then holds a prefix of the submitted transactions that
 * includes every one whose done() was called.
 */
struct store_memory_disk;
struct store_memory_disk *store_memory_disk_create(uint64_t bytes_total) MUST_CHECK;
void store_memory_disk_destroy(struct store_memory_disk *disk);
/* Commits take latency_ns on average, varied by env's random numbers. */
int store_memory_open(struct env *env, struct store_memory_disk *disk, uint64_t latency_ns,
                      struct store **out) MUST_CHECK;
/* Ends the store at once without callbacks; a random number of unfinished transactions is lost. */
void store_memory_crash(struct store *store);

#endif
