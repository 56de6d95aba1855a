/*
 * The engine's inside: what its files share. Others include osd/store/store.h only.
 *
 * See README.md for the invariants (E1 ..) and the life of each kind of write.
 */
#ifndef LIMPET_OSD_STORE_ENGINE_H
#define LIMPET_OSD_STORE_ENGINE_H

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <stdbool.h>
#include <stdint.h>

#include "osd/store/disk.h"
#include "osd/store/engine_layout.h"
#include "osd/store/index.h"
#include "osd/store/store.h"
#include "osd/store/txn.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>
/* After adding to a table: false when there was no memory for it. The item is in no table then. */
#define TABLE_TOOK(item) ((item)->hh.tbl != NULL)
/*
 * After adding to a table: it has at least twice as many buckets as items, since each link of a
 * chain is a cache miss. By itself uthash doubles a table when one chain is long. That must stay
 * rare: while items come and go there is such a chain by chance again and again, and a table never
 * shrinks.
 */
#define TABLE_SPREAD(head)                                                                         \
    do {                                                                                           \
        if ((head) && 2 * (head)->hh.tbl->num_items > (head)->hh.tbl->num_buckets) {               \
            bool no_memory_ = false; /* Then it stays as it is. */                                 \
            HASH_EXPAND_BUCKETS(hh, (head)->hh.tbl, no_memory_);                                   \
            (void)no_memory_;                                                                      \
        }                                                                                          \
    } while (0)

struct engine;

enum {
    ENGINE_KEY_MAX = 2 * OBJECT_STRINGS_MAX + 64,
    /* From this many bytes on, whole blocks are written to new places instead of the journal. */
    REDIRECT_BYTES = 64 * 1024,
    PLACE_RUN_BLOCKS = 64,     /* Blocks of one write when deferred data are put in place. */
    PLACE_UNDER_WAY = 128,     /* Blocks under way at a time: the journal's writes wait behind. */
    PLACE_BATCH_BLOCKS = 2048, /* That are sorted together. */
    GROUP_PAYLOAD_MAX = 2048,  /* Payload blocks of one group. */
    GROUP_META_MAX = 4 * 1024 * 1024,
    ALLOCATOR_PART_BYTES = 16384,
    /* Of the data area that growth may not take: a share, and at least so much, within a limit. */
    RESERVE_SHARE = 64,
    RESERVE_MIN_BLOCKS = 4096,
    RESERVE_LIMIT_SHARE = 8,
    RESERVE_LAST_SHARE = 8, /* Of the reserve: for what frees space, when all else is used. */
};

/* ---- Allocator: a bitmap of used blocks, with free counts of its parts (engine_alloc.c) ---- */

struct extent {
    uint32_t block;
    uint32_t count;
};

struct allocator {
    uint64_t *used; /* A bit a block. */
    uint32_t n_blocks;
    uint32_t n_free;
    uint32_t first;      /* Blocks before it are never free: superblocks and journal. */
    uint16_t *part_free; /* Free blocks of each ALLOC_PART blocks. */
    uint32_t n_parts;
    uint32_t large_at; /* Next fit of large requests. */
    uint32_t small_at; /* Of single blocks. */
};

int allocator_init(struct allocator *a, uint32_t n_blocks, uint32_t first) MUST_CHECK;
void allocator_fini(struct allocator *a);
/*
 * Takes up to want blocks in one run and returns its length; 0 when nothing is free. Runs shorter
 * than want are given only when none of the next runs is longer: not all of a fragmented disk's
 * are looked at.
 */
uint32_t allocator_take(struct allocator *a, uint32_t want, uint32_t *block);
void allocator_release(struct allocator *a, uint32_t block, uint32_t count);
/* At mount: marks blocks used. False when one of them is used already or out of range. */
bool allocator_mark(struct allocator *a, uint32_t block, uint32_t count);
bool allocator_is_used(const struct allocator *a, uint32_t block);
void allocator_recount(struct allocator *a);

/* ---- Shared extents: runs of blocks with more than one reference (engine_shared.c) ---- */

struct shared {
    RB_ENTRY(shared) link;
    uint32_t block;
    uint32_t count;
    uint32_t refs;
};
RB_HEAD(shared_tree, shared);
RB_PROTOTYPE(shared_tree, shared, link, shared_compare)
int shared_compare(const struct shared *a, const struct shared *b);

/* One more reference to each block of the run. Changed records go into the batch. */
int shared_add(struct engine *e, uint32_t block, uint32_t count, struct encoder *batch) MUST_CHECK;
/*
 * One reference less to the first blocks of a run of *count, as many as are in the same case;
 * *count becomes their number. With the last but one they leave the tree, and still belong to the
 * other holder. -ENOENT: they are not in it, so nobody else has them.
 */
int shared_drop(struct engine *e, uint32_t block, uint32_t *count,
                struct encoder *batch) MUST_CHECK;
bool shared_find(const struct engine *e, uint32_t block);
int shared_load(struct engine *e, uint32_t block, const struct shared_layout *value) MUST_CHECK;
void shared_clear(struct engine *e);

/* ---- Block cache: contents of disk blocks (engine_cache.c) ---- */

enum cblock_state {
    CBLOCK_CLEAN,    /* The disk has it too: in its place, or in the journal's ring. */
    CBLOCK_HELD,     /* The same, while it is put in place: it is on no list. */
    CBLOCK_DIRTY,    /* Of a group that is not durable yet: only memory has it. */
    CBLOCK_DETACHED, /* Superseded or freed; lives until its last pin goes. */
};

struct free_data {
    struct free_data *next;
};

/* The data never change: an overwrite makes a new cblock and detaches this one. */
struct cblock {
    UT_hash_handle hh;
    uint32_t block;
    uint32_t crc;
    enum cblock_state state;
    uint32_t pins;
    bool damaged;             /* Some of it is not what was written: nobody may read it. */
    uint8_t *data;            /* BLOCK_BYTES, aligned. */
    TAILQ_ENTRY(cblock) link; /* LRU of clean ones. */
};
TAILQ_HEAD(cblock_list, cblock);

struct block_cache {
    struct cblock *table;
    struct cblock_list clean;
    uint32_t n_clean, n_held, n_dirty, n_detached;
    uint64_t limit_bytes;        /* Of all blocks; clean ones are dropped to stay below. */
    struct free_data *free_data; /* Memory of blocks that nobody uses. */
    uint8_t **slabs;
    uint32_t n_slabs;
};

uint8_t *cache_data_alloc(struct engine *e);
void cache_data_free(struct engine *e, uint8_t *data);
struct cblock *cache_find(struct engine *e, uint32_t block);
/* The same, and it does not count as a use. */
struct cblock *cache_look(const struct engine *e, uint32_t block);
/*
 * Takes over data. Replaces what was known of the block; what the ring has of it is needed no more
 * when this is new content (dirty). NULL when memory is short.
 */
struct cblock *cache_insert(struct engine *e, uint32_t block, uint32_t crc, uint8_t *data,
                            enum cblock_state state);
/* The block is free or was written past the cache: forget its content. */
void cache_forget(struct engine *e, uint32_t block);
void cache_unpin(struct engine *e, struct cblock *c);
/* A dirty block's group is durable. */
void cache_durable(struct engine *e, struct cblock *c);
/* Pins a clean block, out of the way of cache_shrink(); lets it go. */
void cache_hold(struct engine *e, struct cblock *c);
void cache_let_go(struct engine *e, struct cblock *c);
void cache_shrink(struct engine *e);
void cache_fini(struct engine *e);

/* ---- Deferred blocks that the ring holds and that are not in place (engine_ring.c) ---- */

struct ring_slot {
    uint32_t block; /* Whose newest content it is; BLOCK_NONE: it is needed no more. */
    uint32_t crc;
};

/* While it is there, the ring is not written from its position on. */
struct ring_read {
    LIST_ENTRY(ring_read) link;
    uint64_t position;
};

struct ring {
    struct ring_slot *slots; /* One for each block of the ring. */
    uint32_t n_slots;
    uint32_t n; /* Not empty. */
    uint32_t *table;
    uint32_t mask, shift;
    uint64_t end; /* Position up to which groups are done, and their payload has its slots. */
    LIST_HEAD(, ring_read) reads;
};

struct group;

int ring_init(struct engine *e) MUST_CHECK;
void ring_fini(struct engine *e);
/* The payload of a group that is done, as far as no later record has superseded it. */
void ring_take(struct engine *e, const struct group *g);
void ring_forget(struct engine *e, uint32_t block);
/* Whether the block's content is in the ring. */
bool ring_find(const struct engine *e, uint32_t block, uint32_t *slot);
uint32_t ring_slot_at(const struct engine *e, uint64_t position);
static inline uint64_t ring_offset(uint32_t slot)
{
    return JOURNAL_OFFSET + ((uint64_t)slot << BLOCK_SHIFT);
}
/* Around every read of a slot that is not empty. */
void ring_read_begin(struct engine *e, struct ring_read *read, uint32_t slot);
void ring_read_end(struct engine *e, struct ring_read *read);
/* The oldest position that somebody reads. */
uint64_t ring_reads_from(const struct engine *e);

/* ---- Onodes: objects in memory (engine_onode.c) ---- */

struct chunk {
    uint32_t block[CHUNK_BLOCKS]; /* BLOCK_NONE: a hole, which reads as zeroes. */
    uint32_t crc[CHUNK_BLOCKS];
    uint32_t shared; /* A bit a block. */
    bool dirty;      /* Changed by the transaction being executed. */
    bool unsaved;    /* Newer than the index. */
};

/* Chunk numbers first .. end - 1; empty when end is 0. */
struct chunk_range {
    uint32_t first, end;
};

struct waiter {
    void (*ready)(struct waiter *waiter);
    STAILQ_ENTRY(waiter) link;
};
STAILQ_HEAD(waiter_list, waiter);

struct onode {
    UT_hash_handle hh;
    uint8_t *key; /* Index key, KEY_OBJECT included. */
    uint32_t key_len;
    bool loading;
    int error; /* Of the load; it is tried again at the next use. */
    bool exists;
    bool dirty;            /* Changed by the transaction being executed. */
    bool listed;           /* The index has a record of it. */
    bool unlisted;         /* It exists, and the index has none; on e->unlisted, and unsaved. */
    uint64_t created;      /* While it is so: the record that made it. */
    bool unsaved;          /* Its record in the index is old; on e->unsaved, and pinned. */
    uint64_t saved_until;  /* While unsaved: the first record whose changes the index may lack. */
    uint64_t last_record;  /* Newest record that changed it. */
    uint64_t index_change; /* Number of the last change of it that the index has learned of. */
    struct chunk_range dirty_chunks, unsaved_chunks; /* Hold all chunks that are so. */
    TAILQ_ENTRY(onode) unsaved_link;
    TAILQ_ENTRY(onode) unlisted_link;
    uint8_t flags;
    uint64_t pool;
    uint64_t nid;
    uint64_t size;
    uint16_t info_len;
    uint8_t info[STORE_INFO_MAX];
    struct encoder attrs; /* string16 name, string32 value ... */
    uint32_t n_chunks;
    struct chunk **chunks; /* NULL: a hole. */
    uint32_t pins;
    uint32_t writing;           /* Data writes to new places under way: readers wait. */
    uint64_t direct_record;     /* The last record that wrote some of it to new places. */
    bool will_exist;            /* With source. */
    struct onode *source;       /* While a transaction's needs are found out: see engine_txn.c. */
    struct waiter_list waiters; /* For loading or writing to end. */
    uint64_t memory;
    struct engine *engine;
    struct env_work work;
    struct encoder loaded;   /* The helper thread's result. */
    TAILQ_ENTRY(onode) link; /* LRU of unpinned ones. */
};
TAILQ_HEAD(onode_list, onode);

/*
 * Onodes that are newer than the index: a list for each range of reversed hashes, so that a
 * checkpoint gives them to the index nearly in the order of their keys, which is what its memory
 * takes fastest.
 */
enum { UNSAVED_LISTS = 1024 };
struct unsaved_onodes {
    uint32_t n;
    struct onode_list lists[UNSAVED_LISTS]; /* Each by saved_until. */
};

size_t object_key(const struct object_id *id, uint8_t key[ENGINE_KEY_MAX]);
/* The strings go to memory of OBJECT_STRINGS_MAX bytes. */
int object_key_parse(const uint8_t *key, size_t len, struct object_id *out,
                     uint8_t *strings) MUST_CHECK;

/* The pinned onode, perhaps still loading; unpin it. NULL when memory is short. */
struct onode *onode_get(struct engine *e, const struct object_id *id);
/* One that is pinned already. */
struct onode *onode_find(struct engine *e, const struct object_id *id);
void onode_unpin(struct engine *e, struct onode *o);
/* Calls ready once when it is neither loading nor (with writes) being written to. */
void onode_wait(struct onode *o, struct waiter *waiter);
void onode_wake(struct onode *o);
/* The chunk for writing, made if absent. NULL when memory is short. */
struct chunk *onode_chunk(struct engine *e, struct onode *o, uint32_t number);
/*
 * Drops all content and attributes from memory: as an object that does not exist. Its info stays,
 * for listings until the index knows.
 */
void onode_clear(struct engine *e, struct onode *o);
/* Widens the range to hold the chunk. */
void chunk_range_add(struct chunk_range *range, uint32_t number);
/* The onode is newer than the index since this record. */
void onode_mark_unsaved(struct engine *e, struct onode *o, uint64_t record);
/* Puts what the index lacks into the batch. */
void onode_save(struct engine *e, struct onode *o, struct encoder *batch);
/* The index will learn of the object, which this record made, by a checkpoint or a listing. */
void onode_mark_unlisted(struct engine *e, struct onode *o, uint64_t record);
/* The object is gone, or the index knows it now. */
void onode_unmark_unlisted(struct engine *e, struct onode *o);
/*
 * Tells the index of objects that durable records up to this one made, as many as a turn of the
 * loop may take. *more: some are left.
 */
int onode_list(struct engine *e, uint64_t until, bool *more) MUST_CHECK;
void onode_encode(const struct onode *o, struct encoder *value);
void chunk_encode(const struct chunk *c, struct encoder *value);
int chunk_decode(struct decoder *d, uint32_t n_blocks, struct chunk *c) MUST_CHECK;
int object_decode(const void *data, size_t len, uint32_t n_blocks, struct onode *o) MUST_CHECK;
void chunk_key(uint64_t nid, uint32_t number, uint8_t key[13]);
void onode_shrink(struct engine *e);
void onode_fini(struct engine *e);

/* ---- Which objects there may be (engine_names.c) ---- */

struct names {
    uint64_t *words; /* NULL: nobody asks. */
    size_t bytes;    /* A power of two. */
    uint64_t count;  /* Names in it, as far as it can tell new ones. */
    bool complete;   /* It has all names of the index. */
};

int names_init(struct engine *e) MUST_CHECK;
void names_fini(struct engine *e);
void names_add(struct engine *e, const uint8_t *key, size_t len);
/* Whether there is certainly no such object in the index. */
bool names_lack(const struct engine *e, const uint8_t *key, size_t len);
/* At a clean stop, and at the mount behind one. */
int names_save(struct engine *e) MUST_CHECK;
int names_load(struct engine *e) MUST_CHECK;
/* For the check: the stored one, whatever its size, if any. -ELIMPET_CORRUPT: it is damaged. */
int names_load_any(struct engine *e) MUST_CHECK;

/* ---- Pairs that the index does not have yet (engine_pairs.c) ---- */

TAILQ_HEAD(family_list, family);

struct engine_pairs {
    struct family *families; /* A placement group's pairs, or a key of its own. */
    struct family_list unsaved;
    uint64_t memory;
    uint64_t limit; /* Above it there is a checkpoint. */
};

void pairs_init(struct engine *e);
void pairs_fini(struct engine *e);
/* Takes the changes of a durable group that begins with this record. */
int pairs_change(struct engine *e, const struct encoder *batch, uint64_t record) MUST_CHECK;
/*
 * Gives the index what records before this one changed, and perhaps more; all of it, or as much as
 * a turn of the loop may take. *more: some is left.
 */
int pairs_save(struct engine *e, uint64_t before, bool all, bool *more) MUST_CHECK;

/* ---- Transactions (engine_txn.c) ---- */

enum { TXN_ONODES_MAX = 8192, TXN_ONODES_INLINE = 4 };

struct txn_onode {
    struct onode *onode;
    struct waiter waiter;
    struct txn_ctx *ctx;
};

/* What one transaction needs, found out before it is executed. */
struct txn_need {
    uint32_t blocks;   /* New ones. */
    uint32_t grows;    /* Of them, those that do not take the place of others. */
    bool index_grows;  /* The index gets what replaces nothing. */
    uint32_t deferred; /* Payload blocks. */
    size_t meta;       /* Bytes of its record, at most. */
    bool remaps;       /* Some operation so far clones or unmaps blocks. */
};

/* A data write to a new place. */
struct direct_write {
    LIST_ENTRY(direct_write) all;
    struct disk_io io;
    struct iovec iov;
    struct txn_ctx *ctx;
    struct onode *onode;
    struct buf_slice data; /* Reference that keeps the memory. */
    uint32_t layout;       /* Its place in the record's list. */
    bool changed;          /* A later operation of its transaction changed the bytes. */
    STAILQ_ENTRY(direct_write) link;
};

struct txn_ctx {
    struct engine *engine;
    struct store_txn *txn;
    struct group *group; /* Once executed. */
    uint32_t n_onodes;
    uint32_t onode_capacity;
    struct txn_onode **onodes; /* Of some elsewhere: waiters must not move. */
    struct txn_onode inline_onodes[TXN_ONODES_INLINE];
    struct txn_onode *inline_list[TXN_ONODES_INLINE];
    const uint8_t *last_name; /* The object looked up last, by its place in the operations. */
    struct onode *last_onode;
    uint32_t waiting;     /* Loads and reads under way for it. */
    int error;            /* Found before execution. */
    struct encoder omap;  /* Of the object that it clones: pairs, as omap_read gives them. */
    bool omap_loaded;     /* All of it, or the next piece. */
    bool omap_more;       /* A piece that is not the last: it goes to the index by itself. */
    uint64_t omap_nid;    /* Number of the copy whose map is in the index in part; 0: none. */
    struct env_work work; /* Loads it. */
    struct onode *omap_of;
    uint64_t omap_source;     /* Its number. */
    struct encoder omap_last; /* The next piece goes on behind this key. */
    bool passes_on;           /* Renames or clones: its writes may belong to any of its onodes. */
    bool in_place; /* No space to redirect to: large overwrites go through the journal as well. */
    uint64_t record;
    STAILQ_ENTRY(txn_ctx) link;
};
STAILQ_HEAD(txn_queue, txn_ctx);

void engine_submit(struct store *store, struct store_txn *txn);
/* Unpins and completes; from the loop only. */
void txn_finish(struct txn_ctx *ctx, int error);
void omap_range(uint64_t nid, uint8_t from[9], uint8_t to[9]);
/* Frees all requests without callbacks. */
void txn_abandon(struct engine *e);
/* Drops the part of a map that was copied for an object that will not come. */
void omap_copy_drop(uint64_t nid, struct encoder *batch);
/* Executes what is ready, in order, into the open group. */
void engine_pump(struct engine *e);

/* ---- Journal (engine_journal.c) ---- */

/* Blocks that became free with a record: usable again when the journal no longer names them. */
struct freed {
    uint64_t record;
    struct extent extent;
};

enum {
    JOURNAL_IO_IOVS = 512,
    JOURNAL_IOS = GROUP_PAYLOAD_MAX / JOURNAL_IO_IOVS + 3,
    JOURNAL_UNDER_WAY = 4, /* Groups that are made durable at the same time, at most. */
    /* Records that make a group worth a flush beside others; fewer wait for those under way. */
    GROUP_WORTH = 40,
};

enum group_state {
    GROUP_OPEN,     /* Records are added. */
    GROUP_WRITING,  /* It and its data are on the way to the disk. */
    GROUP_FLUSHING, /* All of that is written. */
    GROUP_ENDED,    /* Durable or failed; done when those before it are. */
};

struct journal_io {
    struct disk_io io;
    struct engine *engine;
    struct group *group;
};

struct group {
    enum group_state state;
    struct encoder meta; /* Records. */
    struct cblock **payload;
    uint32_t n_payload;
    struct encoder batch; /* Index changes of all records, */
    struct encoder pairs; /* and those that wait for a checkpoint in memory. */
    struct txn_queue txns;
    uint64_t first_record;
    uint32_t n_records;
    bool has_direct;
    uint32_t directs; /* Data writes under way that its flush must cover. */
    int error;        /* Of a write or of the flush. */

    /* Once it is sealed. */
    uint64_t sequence;
    uint64_t end;   /* Ring position (not reduced) behind it. */
    bool durable;   /* Its write needs no flush behind it. */
    uint8_t *image; /* Header and records, aligned. */
    size_t image_capacity;
    uint8_t *pad;      /* Aligned block: the header before it that skips the ring's end. */
    struct iovec *iov; /* Of all its writes. */
    struct journal_io ios[JOURNAL_IOS];
    uint32_t n_ios; /* Under way. */
    STAILQ_ENTRY(group) link;
};
STAILQ_HEAD(group_queue, group);

struct journal_mark {
    uint64_t end;      /* Ring position (not reduced) after the group. */
    uint64_t sequence; /* Of the next group. */
    uint64_t record;   /* First record after the group. */
    STAILQ_ENTRY(journal_mark) link;
};
STAILQ_HEAD(journal_marks, journal_mark);

struct journal {
    uint64_t bytes;    /* Of the ring. */
    uint64_t head;     /* Positions grow without end; modulo bytes they are places in the ring. */
    uint64_t tail;     /* What is before it may be written again. */
    uint64_t trimmed;  /* The tail of the durable superblock: not before the other one. */
    uint64_t sequence; /* Of the next group. */
    uint64_t flushed;  /* Up to this one all are durable. */
    struct group groups[JOURNAL_UNDER_WAY + 1];
    struct group *open;
    struct group_queue under_way; /* Sealed, oldest first. */
    struct group *newest;         /* The last of them, when there is one. */
    struct group_queue spare;
    uint32_t n_under_way;
    uint32_t group_worth;
    struct journal_marks marks; /* Groups in the ring, oldest first. */
};

static inline bool journal_idle(const struct journal *j)
{
    return j->n_under_way == 0;
}

int journal_init(struct engine *e) MUST_CHECK;
void journal_fini(struct engine *e);
/* Limits of one group, which are also those of one transaction. */
uint32_t journal_payload_max(const struct journal *j);
size_t journal_meta_max(const struct journal *j);
/* Whether the open group and the ring have room for a record of this size. */
bool journal_room(struct engine *e, size_t meta_bytes, uint32_t payload);
/*
 * The index changes of one record. The index gets the first when the group is durable, and what the
 * others say by a checkpoint.
 */
struct changes {
    struct encoder now;
    struct encoder onodes; /* Of onodes in memory. */
    struct encoder pairs;  /* See engine_pairs.c. */
};

/* A record without ctx is the engine's own. */
void journal_append(struct engine *e, struct txn_ctx *ctx, const struct changes *changes,
                    struct cblock **deferred, uint32_t n_deferred,
                    const struct direct_layout *direct, uint32_t n_direct);
/* Starts to make the open group durable, unless it should wait for those that are under way. */
void journal_kick(struct engine *e);
/* The same at once, for who has more to execute: only if the group is worth it. */
void journal_cut(struct engine *e);
void journal_direct_done(struct engine *e, struct txn_ctx *ctx, int error);
/* The ring's space up to the durable tail may be written again, as far as nobody reads it. */
void journal_release(struct engine *e);

/* ---- Putting in place, and checkpoints (engine_place.c) ---- */

/* A block that is put in place. */
struct place_block {
    uint32_t block;
    uint32_t slot;
    const uint8_t *data;   /* In memory, or where it is read to from the ring. */
    struct cblock *cached; /* Pinned; NULL: it is read. */
};

/* A read of some of them from the ring. */
struct place_read {
    struct disk_io io;
    struct iovec iov;
    struct engine *engine;
};

struct place_run {
    struct disk_io io;
    struct iovec iov[PLACE_RUN_BLOCKS];
    uint32_t first, n; /* Of the batch. */
    struct engine *engine;
    TAILQ_ENTRY(place_run) link;
};

/* One batch of blocks is under way at a time: read from the ring, compared, sorted, written. */
struct placing {
    uint64_t at; /* What the ring has before it is in place, needed no more, or in the batch. */
    struct place_block *batch;
    uint32_t n;       /* 0: none is under way. */
    uint32_t checked; /* Of them, in the order of the ring: they are what the ring should have. */
    uint32_t written; /* In the order of the disk: writes of them have begun, at least. */
    bool sorted;
    bool again;      /* The one that comes next is read again. */
    uint32_t unread; /* Blocks that the disk refused to read. */
    uint8_t *window; /* What is read: window_bytes of the ring from window_at on. */
    uint64_t window_bytes;
    uint64_t window_at;
    struct ring_read reading;
    struct place_read *reads;
    uint32_t n_reads;  /* Under way. */
    uint32_t n_writes; /* Runs under way. */
    uint32_t run_capacity;
    struct place_run **run_pool;
    TAILQ_HEAD(, place_run) runs;
    uint64_t active_ns; /* When somebody last wanted something of the disk. */
    uint64_t read_ns;   /* When that was last a read. */
    bool idle;          /* All is put in place since nobody does. */
    struct env_timer timer;
};

enum checkpoint_step {
    CHECKPOINT_NONE,
    CHECKPOINT_PLACING,
    CHECKPOINT_FLUSHING_DATA,
    CHECKPOINT_SAVING,
    CHECKPOINT_SETTLING,
    CHECKPOINT_FLUSHING_INDEX,
    CHECKPOINT_AWAITING_JOURNAL,
    CHECKPOINT_WRITING_SUPER,
    CHECKPOINT_FLUSHING_SUPER,
};

struct checkpoint {
    enum checkpoint_step step;
    struct journal_mark target; /* Where the tail moves to. */
    uint64_t saved;   /* The index gets what records before this one say, which may be more. */
    uint64_t settled; /* First record that had not been executed when all was in place. */
    struct disk_io io;
    struct iovec iov;
    struct env_work work;
    int error;
    bool index_short;           /* Found out with the flush. */
    struct super_layout *super; /* Aligned. */
    uint64_t count;
};

void place_kick(struct engine *e);
/* Whether blocks are under way to their places. */
bool place_busy(const struct engine *e);
/* Whether so much waits to be put in place that writers have to wait, too. */
bool place_behind(const struct engine *e);
/* Somebody wants something of the disk. */
void place_active(struct engine *e, bool reads);
/* A group is in the index: goes on with a checkpoint that waited for it. */
void checkpoint_settled(struct engine *e);
/* Of all that is durable now. */
void checkpoint_start(struct engine *e);
/* For room in the ring, when it gets full, or at once when it must be. */
void checkpoint_start_for_room(struct engine *e, bool must);
/* For so many blocks that were freed, and some more. */
void checkpoint_start_for_blocks(struct engine *e, uint64_t blocks);
/* For room in memory: the index gets all that is durable, and the tail moves to what is in place.
 */
void checkpoint_start_for_memory(struct engine *e);
/* A group has become durable. */
void checkpoint_journal_moved(struct engine *e);
int checkpoint_init(struct engine *e) MUST_CHECK;
void checkpoint_fini(struct engine *e);
void super_seal(struct super_layout *super);

/* ---- The engine ---- */

struct engine_options {
    uint64_t memory_target;
    uint64_t journal_bytes; /* At creation. */
    uint32_t group_worth;   /* 0: GROUP_WORTH. */
    uint64_t cache_bytes;   /* Of block contents; 0: a quarter of the target. */
    uint64_t unsaved_bytes; /* Of onodes, and of pairs; 0: their shares of the target. */
    bool read_only; /* fsck without repair: replays in memory only if nothing is to replay. */
};

struct pool_stat {
    UT_hash_handle hh;
    uint64_t pool;
    struct pool_layout value;
    bool dirty;
};

struct engine_counters {
    uint64_t txns, records, groups, flushes, checkpoints;
    uint64_t deferred_blocks, direct_blocks, placed_blocks;
    uint64_t ring_reads; /* Blocks that were read from the ring. */
    uint64_t reads, cache_hits, cache_misses, index_waits;
    uint64_t checksum_errors, read_errors;
};

struct engine {
    struct store store;
    struct env *env;
    struct disk *disk;
    struct index *index;
    struct engine_options options;
    struct super_layout super; /* As last written. */
    struct allocator allocator;
    struct shared_tree shared;
    uint32_t n_shared;
    struct block_cache cache;
    struct onode *onodes;
    struct onode_list onode_lru;
    struct unsaved_onodes unsaved;
    struct onode_list unlisted; /* By created. */
    struct names names;
    uint64_t onode_memory;
    uint64_t onode_limit;
    uint64_t index_changes;    /* Counts what the index learns of onodes, ... */
    uint64_t forgotten_change; /* ... and the newest of one that has left the memory since. */
    struct engine_pairs pairs;
    struct pool_stat *pools;
    uint64_t next_nid;
    uint64_t record;        /* The next one. */
    uint64_t applied;       /* Last one in the index. */
    struct txn_queue queue; /* Submitted, not executed. */
    uint64_t queued_bytes;
    uint32_t ctxs;
    struct txn_queue ctx_pool;
    struct env_task pump_task;
    struct env_task close_task;
    struct env_task save_task;
    /* Everything that a request under way has allocated, so that a crash can be simulated. */
    LIST_HEAD(, fetch) fetches;
    bool fetched; /* Some have ended, and their transaction has not been looked at since. */
    LIST_HEAD(, refused) refusals;
    LIST_HEAD(, direct_write) direct_writes;
    LIST_HEAD(, reader) readers;
    LIST_HEAD(, query) queries;
    LIST_HEAD(, omap_reader) omap_readers;
    uint64_t replayed_to; /* Position in the ring after mounting. */
    struct journal journal;
    struct ring ring;
    struct placing placing;
    struct checkpoint checkpoint;
    struct freed *freed;
    uint32_t n_freed, freed_at, freed_capacity;
    uint32_t blocks_freed;   /* Waiting in freed. */
    uint32_t reserve;        /* Blocks that growth may not take. */
    bool index_short;        /* The index's disk is nearly full: it should not grow. */
    size_t allocator_loaded; /* Bytes of its stored state, at mount. */
    uint64_t dirty_limit;    /* Deferred bytes, not durable yet, above which writers wait. */
    bool failed;
    int failure;
    bool closing;
    uint32_t busy; /* Reads and helper jobs under way. */
    void (*closed)(void *ctx);
    void *closed_ctx;
    struct engine_counters counters;
    struct encoder scratch_batch;
    struct changes scratch;
};

static inline struct engine *engine_of(struct store *store)
{
    return container_of(store, struct engine, store);
}

/* The store promises nothing any more; every later request fails. */
void engine_fail(struct engine *e, int error, const char *why);
/* The same for the index: for want of space it may refuse a batch or a flush, whichever comes. */
void engine_index_failed(struct engine *e, int error, const char *why);
void engine_free_blocks(struct engine *e, uint64_t record, uint32_t block, uint32_t count);
/* Releases what was freed by records before this one. */
void engine_release_freed(struct engine *e, uint64_t record);
struct pool_stat *engine_pool(struct engine *e, uint64_t pool);
uint32_t block_crc(const void *data);
/* The same; memory that follows the block, and is read next, is fetched meanwhile. */
uint32_t block_crc_ahead(const uint8_t *data);
/* The checksum of a run of blocks, made from theirs: RUN_CRC_FIRST, run_crc_add() for each,
 * run_crc_end(). */
#define RUN_CRC_FIRST UINT32_MAX
uint32_t run_crc_add(uint32_t run, uint32_t block_crc);
static inline uint32_t run_crc_end(uint32_t run)
{
    return ~run;
}
void engine_check_closed(struct engine *e);

/*
 * Makes a new, empty store on a disk and an empty index. -ENOSPC when the disk is too small for the
 * journal.
 */
int engine_format(struct disk *disk, struct index *index, const struct uuid *uuid,
                  uint64_t journal_bytes) MUST_CHECK;
/*
 * For the simulator: frees everything without callbacks, input or output, the disk and the index
 * excepted.
 */
void engine_abandon(struct store *store);
/* Mounts. Takes over disk and index when it succeeds; explains errors in `why`. */
int engine_open(struct env *env, struct disk *disk, struct index *index,
                const struct engine_options *options, struct store **out, char why[256]) MUST_CHECK;

void engine_read(struct store *store, struct store_read *read);
void reads_abandon(struct engine *e);
void engine_list(struct store *store, struct store_list *list);
void engine_omap_read(struct store *store, struct store_omap_read *read);
void engine_pg_read(struct store *store, struct store_pg_read *read);

#endif
