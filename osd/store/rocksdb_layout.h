/*
 * What store_rocksdb.c keeps on disk: keys and values of its database.
 *
 * Keys begin with a byte that says what they name, and then hold big-endian numbers and strings, so
 * that RocksDB's bytewise order is the order we list in:
 *
 *   'A' data number, attribute name       an attribute's value
 *   'D' data number, chunk number         a piece of an object's contents
 *   'M' name                              the store itself: format and state
 *   'O' pool, reversed hash, namespace,   an object: struct rocks_object, then its info blob
 *       name, snap
 *   'P' pool, seed, key                   a pair of a placement group
 *
 * Namespace and name of an object's key are escaped: 0 becomes 0 255, and the end is 0 0; so a
 * string sorts before all that it is the beginning of, as in object_compare().
 *
 * Contents and attributes hang on a number that no other object ever had, not on the name: so a
 * rename moves nothing. A chunk that is missing, and what a chunk is too short for, reads as
 * zeroes; no chunk has bytes beyond the object's end.
 */
#ifndef LIMPET_OSD_STORE_ROCKSDB_LAYOUT_H
#define LIMPET_OSD_STORE_ROCKSDB_LAYOUT_H

#include <assert.h>
#include <stdint.h>

#include "osd/store/store.h"

enum {
    ROCKS_KEY_ATTR = 'A',
    ROCKS_KEY_DATA = 'D',
    ROCKS_KEY_META = 'M',
    ROCKS_KEY_OBJECT = 'O',
    ROCKS_KEY_PG = 'P',

    ROCKS_VERSION = 1,
    ROCKS_CHUNK_BYTES = 16384,

    ROCKS_DATA_KEY_BYTES = 1 + 8 + 4,
    ROCKS_ATTR_KEY_MAX = 1 + 8 + STORE_ATTR_NAME_MAX,
    ROCKS_PG_PREFIX_BYTES = 1 + 8 + 4,
    ROCKS_PG_KEY_MAX = ROCKS_PG_PREFIX_BYTES + STORE_PG_KEY_MAX,
    ROCKS_OBJECT_KEY_MAX = 1 + 8 + 4 + 2 * OBJECT_NAMESPACE_MAX + 2 + 2 * OBJECT_NAME_MAX + 2 + 8,
};

#define ROCKS_META_FORMAT "Mformat"
#define ROCKS_META_STATE  "Mstate"
#define ROCKS_MAGIC       "limpet01"

enum rocks_object_flags { ROCKS_OBJECT_ATTRS = 1 }; /* It has, or once had, attributes. */

struct __attribute__((packed)) rocks_object {
    uint8_t version;
    uint8_t flags;
    uint16_t info_len;
    uint32_t zero;
    uint64_t size;
    uint64_t data;
};
static_assert(sizeof(struct rocks_object) == 24, "rocks_object");

/* Written once, at creation. */
struct __attribute__((packed)) rocks_format {
    char magic[8];
    uint32_t version;
    uint32_t chunk_bytes;
    uint64_t bytes_total;
};
static_assert(sizeof(struct rocks_format) == 24, "rocks_format");

/* Written in the batch of every transaction that changes it. */
struct __attribute__((packed)) rocks_state {
    uint64_t bytes_used; /* Sum of the sizes of all objects. */
    uint64_t next_data;  /* The number of the next new object's data. */
};
static_assert(sizeof(struct rocks_state) == 16, "rocks_state");

/* All return the key's length. */
size_t rocks_object_key(const struct object_id *id, uint8_t key[ROCKS_OBJECT_KEY_MAX]);
/* The beginning of all keys of objects of a pool from a reversed hash on. */
size_t rocks_object_key_first(uint64_t pool, uint32_t reversed_hash,
                              uint8_t key[ROCKS_OBJECT_KEY_MAX]);
/* What lies behind all keys of a pool's objects up to a reversed hash. */
size_t rocks_object_key_end(uint64_t pool, uint32_t last, uint8_t key[ROCKS_OBJECT_KEY_MAX]);
size_t rocks_data_key(uint64_t data, uint32_t chunk, uint8_t key[ROCKS_DATA_KEY_BYTES]);
size_t rocks_attr_key(uint64_t data, const void *name, uint16_t name_len,
                      uint8_t key[ROCKS_ATTR_KEY_MAX]);
size_t rocks_pg_key(struct pg_id pg, const void *name, uint16_t name_len,
                    uint8_t key[ROCKS_PG_KEY_MAX]);

/* Where the strings of a decoded key go. */
struct rocks_object_names {
    uint8_t space[OBJECT_NAMESPACE_MAX];
    uint8_t name[OBJECT_NAME_MAX];
};
/* -ELIMPET_CORRUPT for bytes that rocks_object_key() cannot have written. */
int rocks_object_key_decode(const uint8_t *key, size_t len, struct rocks_object_names *names,
                            struct object_id *out) MUST_CHECK;
/* The placement group of a pair's key, of which at least ROCKS_PG_PREFIX_BYTES are there. */
struct pg_id rocks_pg_key_decode(const uint8_t *key);

#endif
