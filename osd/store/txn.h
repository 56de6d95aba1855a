/*
 * Reading transactions: what every implementation of the store needs to apply one.
 *
 * The iterator validates each operation as it meets it, so a store may apply operations of any
 * origin; but since a transaction must be all or nothing, those of peers are run through
 * txn_check() before they are submitted.
 */
#ifndef LIMPET_OSD_STORE_TXN_H
#define LIMPET_OSD_STORE_TXN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/codec.h"
#include "common/object.h"
#include "osd/store/txn_layout.h"

/* One operation, decoded. Pointers lead into the encoded operations. */
struct txn_op {
    enum txn_code code;
    struct object_id object; /* The selected object, for operations on objects. */
    struct object_id to;     /* TXN_RENAME, TXN_CLONE */
    struct pg_id pg;         /* TXN_PG_* */
    uint64_t offset;         /* TXN_WRITE, TXN_ZERO; TXN_TRUNCATE: the new size */
    uint64_t len;            /* TXN_WRITE, TXN_ZERO */
    uint64_t data_offset;    /* TXN_WRITE */
    const uint8_t *name;     /* An attribute's, or the (first) key. */
    uint16_t name_len;
    const uint8_t *value; /* Info, attribute, pair; of ranges: the end key. */
    uint32_t value_len;
};

struct txn_iterator {
    struct decoder decoder;
    size_t data_len;
    bool has_object;
    struct object_id object;
};

/* ops stays valid while the iterator is in use; data_len is the length of the data beside it. */
void txn_iterate(struct txn_iterator *it, const void *ops, size_t ops_len, size_t data_len);

/*
 * The next operation other than TXN_OBJECT, which only selects. Returns 1, 0 at the end, -EBADMSG
 * for a malformed operation or one outside the limits of osd/store/store.h.
 */
int txn_next(struct txn_iterator *it, struct txn_op *op) MUST_CHECK;

#endif
