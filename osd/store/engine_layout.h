/*
 * Every durable struct of the engine: superblock, journal group and record, index keys and values.
 *
 * Little-endian, packed, sized by static assertions, covered by golden-bytes tests. Keys are
 * big-endian where order matters.
 *
 *     block:  | super 0 | super 1 | pad to 1 MiB | journal ring | data ....................... |
 *     group:  | header, records (metadata), zeroes to 4 KiB | payload block | payload block ... |
 */
#ifndef LIMPET_OSD_STORE_ENGINE_LAYOUT_H
#define LIMPET_OSD_STORE_ENGINE_LAYOUT_H

#include <assert.h>
#include <stdint.h>

#define ENGINE_PACKED __attribute__((packed))

enum {
    BLOCK_BYTES = 4096,
    BLOCK_SHIFT = 12,
    CHUNK_BLOCKS = 32, /* Blocks that one chunk record maps: 128 KiB of an object. */
    CHUNK_BYTES = CHUNK_BLOCKS * BLOCK_BYTES,
    SUPER_COPIES = 2,
    ENGINE_VERSION = 6,
};

#define SUPER_MAGIC    UINT64_C(0x314f545354504d4c) /* "LMPTSTO1" */
#define GROUP_MAGIC    UINT32_C(0x4a504d4c)         /* "LMPJ" */
#define RECORD_MAGIC   UINT32_C(0x52504d4c)         /* "LMPR" */
#define JOURNAL_OFFSET (UINT64_C(1) << 20)
#define BLOCK_NONE     UINT32_C(0) /* Block 0 holds a superblock, so it maps nothing. */

/* Copy i stands at block i. The valid one with the highest generation counts. */
struct ENGINE_PACKED super_layout {
    uint64_t magic;
    uint32_t version;
    uint32_t flags; /* enum super_flags */
    uint8_t uuid[16];
    uint64_t generation; /* Grows with every write of a superblock. */
    uint64_t mount;      /* Grows with every mount. */
    uint64_t size;       /* Bytes of the whole file or device. */
    uint64_t journal_bytes;
    uint64_t data_offset;
    uint64_t tail_offset;   /* In the ring: where replay starts. */
    uint64_t tail_sequence; /* Of the first group there. */
    uint64_t tail_record;   /* Records before this one are in the index and in place. */
    uint64_t salt;          /* Random, of this mount: groups with another one are stale. */
    uint8_t reserved[3984];
    uint32_t unused;
    uint32_t crc; /* crc32c of all before it. */
};
static_assert(sizeof(struct super_layout) == BLOCK_BYTES, "super_layout");

enum super_flags { SUPER_CLEAN = 1 /* The index holds the allocator's state. */ };

/*
 * A group is what one write and one flush made durable. Its payload has checksums in the records.
 * Its header holds a secret, so that no payload can pass for a group, nor cost a mount the time to
 * find that it is none. It never wraps around the end of the ring: a header with n_records 0 and
 * PAD set fills the rest.
 */
struct ENGINE_PACKED group_layout {
    uint32_t magic;
    uint32_t flags; /* enum group_flags */
    uint64_t sequence;
    uint64_t salt; /* Of the mount that wrote it. */
    uint64_t first_record;
    uint64_t flushed; /* Groups up to this one were durable when this one was written. */
    uint32_t n_records;
    uint32_t meta_bytes; /* Header and records, unpadded. */
    uint32_t n_payload;  /* Blocks that follow the metadata. */
    uint32_t crc;        /* crc32c of header (crc zero) and records. */
};
static_assert(sizeof(struct group_layout) == 56, "group_layout");

enum group_flags { GROUP_PAD = 1 };

/*
 * One transaction. Followed by n_deferred deferred_layout (payload blocks in the group's order),
 * n_direct direct_layout, and batch_bytes of index changes. It needs no interpretation at replay:
 * the batch is applied as it is, the payload is put in place, and that is all.
 */
struct ENGINE_PACKED record_layout {
    uint32_t magic;
    uint32_t n_deferred;
    uint32_t n_direct;
    uint32_t batch_bytes;
    uint64_t record;
};
static_assert(sizeof(struct record_layout) == 24, "record_layout");

struct ENGINE_PACKED deferred_layout {
    uint32_t block;
    uint32_t crc;
};
static_assert(sizeof(struct deferred_layout) == 8, "deferred_layout");

/* Blocks that were written in place already; verified when the group may not have been flushed. */
struct ENGINE_PACKED direct_layout {
    uint32_t block;
    uint32_t count;
    uint32_t crc; /* crc32c of the crc32c (le32) of each of its blocks. */
};
static_assert(sizeof(struct direct_layout) == 12, "direct_layout");

/* First bytes of index keys. */
enum index_key {
    KEY_ALLOCATOR = 'A',   /* be32 part -> bitmap, after a clean stop only */
    KEY_COPYING = 'C',     /* be64 nid: its map is being copied, for an object yet to come */
    KEY_OMAP_HEADER = 'H', /* be64 nid */
    KEY_OMAP = 'M',        /* be64 nid, key */
    KEY_NAMES = 'N',       /* names_layout; be32 part -> bits; after a clean stop only */
    KEY_OBJECT = 'O',      /* order-preserving object id -> object_layout ... */
    KEY_PG = 'P',          /* be64 pool, be32 seed, key */
    KEY_SHARED = 'R',      /* be32 first block -> shared_layout */
    KEY_STATE = 'S',       /* state_layout */
    KEY_POOL = 'T',        /* be64 pool -> pool_layout */
    KEY_CHUNK = 'X',       /* be64 nid, be32 chunk number -> extents and crcs */
};

/* Goes into every batch. */
struct ENGINE_PACKED state_layout {
    uint64_t record;   /* The last one applied. */
    uint64_t next_nid; /* Object numbers are never reused. */
};
static_assert(sizeof(struct state_layout) == 16, "state_layout");

/* The filter of names: parts that are all zero are left out. */
struct ENGINE_PACKED names_layout {
    uint64_t bytes; /* Of the whole filter. */
    uint64_t count; /* Names that it has. */
    uint32_t parts; /* How many are stored. */
    uint32_t unused;
};
static_assert(sizeof(struct names_layout) == 24, "names_layout");

struct ENGINE_PACKED pool_layout {
    uint64_t objects;
    uint64_t bytes;  /* Sum of sizes. */
    uint64_t blocks; /* Mapped; shared ones count once for each object. */
};
static_assert(sizeof(struct pool_layout) == 24, "pool_layout");

/* Followed by info, attributes (string16 name, string32 value ...) and chunk 0. */
struct ENGINE_PACKED object_layout {
    uint8_t version;
    uint8_t flags; /* enum object_flags */
    uint16_t info_len;
    uint32_t attrs_len;
    uint64_t nid;
    uint64_t size;
};
static_assert(sizeof(struct object_layout) == 24, "object_layout");

enum object_flags { OBJECT_HAS_OMAP = 1 };

/* A chunk: u8 number of extents, the extents, then a crc32c for each mapped block in order. */
struct ENGINE_PACKED extent_layout {
    uint32_t block; /* First on the disk. */
    uint8_t first;  /* Block in the chunk. */
    uint8_t count;
    uint8_t flags; /* enum extent_flags */
};
static_assert(sizeof(struct extent_layout) == 7, "extent_layout");

enum extent_flags { EXTENT_SHARED = 1 };

/* Blocks that more than one object maps. */
struct ENGINE_PACKED shared_layout {
    uint32_t count;
    uint32_t refs; /* At least 2. */
};
static_assert(sizeof(struct shared_layout) == 8, "shared_layout");

#endif
