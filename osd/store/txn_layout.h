/*
 * The encoding of a store transaction: what replicas receive and stores apply.
 *
 * A transaction is a sequence of operations. Each is a txn_op_header, then name_len bytes of name,
 * then value_len bytes of value; what the two hold depends on the code. All integers are
 * little-endian; structs are packed and read in place. The data of writes is not part of it: a
 * write names a range of the data that travel beside the operations.
 *
 * Operations on objects speak of the object that the last TXN_OBJECT selected.
 */
#ifndef LIMPET_OSD_STORE_TXN_LAYOUT_H
#define LIMPET_OSD_STORE_TXN_LAYOUT_H

#include <assert.h>
#include <endian.h>
#include <stdint.h>

#define TXN_PACKED __attribute__((packed))

static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "the structs are read in place");

/* Numbers are the wire's: never reuse one. */
enum txn_code {
    TXN_OBJECT = 1,             /* value: encoded object_id */
    TXN_TOUCH = 2,              /* nothing */
    TXN_WRITE = 3,              /* value: txn_write_value */
    TXN_ZERO = 4,               /* value: txn_zero_value */
    TXN_TRUNCATE = 5,           /* value: txn_truncate_value */
    TXN_REMOVE = 6,             /* nothing */
    TXN_SET_INFO = 7,           /* value: the info blob */
    TXN_SET_ATTR = 8,           /* name, value */
    TXN_REMOVE_ATTR = 9,        /* name */
    TXN_RENAME = 10,            /* value: encoded object_id of the new name */
    TXN_PG_SET = 11,            /* name: the key; value: txn_pg_value, then the pair's value */
    TXN_PG_REMOVE_RANGE = 12,   /* name: first key; value: txn_pg_value, then the end key */
    TXN_CLONE = 13,             /* value: encoded object_id of the copy */
    TXN_OMAP_SET = 14,          /* name: the key, value */
    TXN_OMAP_REMOVE_RANGE = 15, /* name: first key; value: the end key, empty: to the end */
    TXN_OMAP_HEADER = 16,       /* value */
};

struct TXN_PACKED txn_op_header {
    uint16_t code;
    uint16_t name_len;
    uint32_t value_len;
};
static_assert(sizeof(struct txn_op_header) == 8, "txn_op_header");

struct TXN_PACKED txn_write_value {
    uint64_t offset; /* In the object. */
    uint64_t len;
    uint64_t data_offset; /* In the data beside the operations. */
};
static_assert(sizeof(struct txn_write_value) == 24, "txn_write_value");

struct TXN_PACKED txn_zero_value {
    uint64_t offset;
    uint64_t len;
};
static_assert(sizeof(struct txn_zero_value) == 16, "txn_zero_value");

struct TXN_PACKED txn_truncate_value {
    uint64_t size;
};
static_assert(sizeof(struct txn_truncate_value) == 8, "txn_truncate_value");

struct TXN_PACKED txn_pg_value {
    uint64_t pool;
    uint32_t seed;
};
static_assert(sizeof(struct txn_pg_value) == 12, "txn_pg_value");

#endif
