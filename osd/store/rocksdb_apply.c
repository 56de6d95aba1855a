/*
 * Transactions into a batch of RocksDB.
 *
 *  1. A batch is built from what is committed and from itself: each transaction sees those before
 *     it. Only one batch is built at a time, and after the one before was written.
 *  2. The record of an object is written after the last operation on it, once.
 *  3. No chunk has bytes beyond its object's end, so that growing needs no writing.
 *  4. bytes_used changes exactly with the sizes of objects.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/rocksdb_private.h"

/* The object that operations are about at the moment. */
struct current {
    bool selected;
    bool exists;
    bool dirty; /* The record differs from the one in the batch. */
    struct object_id id;
    size_t key_len;
    uint8_t key[ROCKS_OBJECT_KEY_MAX];
    struct rocks_object record;
    uint8_t info[STORE_INFO_MAX];
};

struct apply {
    struct rocks_store *rs;
    rocksdb_writebatch_wi_t *batch;
    struct rocks_state *state;
    struct current current;
    uint8_t chunk[ROCKS_CHUNK_BYTES];
};

/* ---- The batch ---- */

static void batch_put(struct apply *a, const void *key, size_t key_len, const void *value,
                      size_t len)
{
    rocksdb_writebatch_wi_put(a->batch, key, key_len, value, len);
}

static void batch_delete(struct apply *a, const void *key, size_t key_len)
{
    rocksdb_writebatch_wi_delete(a->batch, key, key_len);
}

/* What the key will have once the batch is written; *value is NULL or to be freed. */
static int batch_get(struct apply *a, const void *key, size_t key_len, char **value, size_t *len)
{
    char *message = NULL;
    *value = rocksdb_writebatch_wi_get_from_batch_and_db(a->batch, a->rs->db, a->rs->read_options,
                                                         key, key_len, len, &message);
    return rocks_error(a->rs, "get", message);
}

static int key_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order ? order : (a_len > b_len) - (a_len < b_len);
}

/* Deletes all keys of [from, to). They are gathered first: a batch must not change under its
 * iterator. */
static int batch_delete_range(struct apply *a, const void *from, size_t from_len, const void *to,
                              size_t to_len)
{
    struct encoder keys;
    encoder_init(&keys);
    rocksdb_readoptions_t *options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_iterate_upper_bound(options, to, to_len);
    rocksdb_iterator_t *it = rocksdb_writebatch_wi_create_iterator_with_base(
        a->batch, rocksdb_create_iterator(a->rs->db, options));
    for (rocksdb_iter_seek(it, from, from_len); rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
        size_t len;
        const char *key = rocksdb_iter_key(it, &len);
        if (key_compare(key, len, to, to_len) >= 0)
            break;
        encode_string16(&keys, key, len);
    }
    char *message = NULL;
    rocksdb_iter_get_error(it, &message);
    rocksdb_iter_destroy(it);
    rocksdb_readoptions_destroy(options);
    int rc = rocks_error(a->rs, "iterate", message);
    if (rc == 0 && keys.failed)
        rc = -ENOMEM;
    struct decoder d;
    decoder_init(&d, keys.data, rc == 0 ? keys.len : 0);
    while (decoder_left(&d) > 0) {
        uint16_t len;
        const void *key = decode_string16(&d, &len);
        assert(key); /* We wrote it just now. */
        batch_delete(a, key, len);
    }
    encoder_fini(&keys);
    return rc;
}

/* ---- The current object ---- */

bool rocks_object_valid(const void *value, size_t len)
{
    struct rocks_object record;
    if (len < sizeof record)
        return false;
    memcpy(&record, value, sizeof record);
    return record.version == ROCKS_VERSION && record.info_len <= STORE_INFO_MAX &&
           len == sizeof record + record.info_len && record.size <= OBJECT_SIZE_MAX;
}

static int current_load(struct apply *a, struct current *c, const struct object_id *id)
{
    c->selected = true;
    c->exists = false;
    c->dirty = false;
    c->id = *id;
    c->key_len = rocks_object_key(id, c->key);
    char *value;
    size_t len;
    int rc = batch_get(a, c->key, c->key_len, &value, &len);
    if (rc < 0 || !value)
        return rc;
    if (rocks_object_valid(value, len)) {
        memcpy(&c->record, value, sizeof c->record);
        memcpy(c->info, value + sizeof c->record, c->record.info_len);
        c->exists = true;
    } else {
        rc = -ELIMPET_CORRUPT;
    }
    free(value);
    return rc;
}

static void current_save(struct apply *a, struct current *c)
{
    if (!c->dirty)
        return;
    uint8_t value[sizeof c->record + STORE_INFO_MAX];
    memcpy(value, &c->record, sizeof c->record);
    memcpy(value + sizeof c->record, c->info, c->record.info_len);
    batch_put(a, c->key, c->key_len, value, sizeof c->record + c->record.info_len);
    c->dirty = false;
}

static int current_select(struct apply *a, const struct object_id *id)
{
    struct current *c = &a->current;
    if (c->selected && object_compare(&c->id, id) == 0)
        return 0;
    if (c->selected)
        current_save(a, c);
    return current_load(a, c, id);
}

static void current_create(struct apply *a)
{
    struct current *c = &a->current;
    if (c->exists)
        return;
    c->record = (struct rocks_object){.version = ROCKS_VERSION, .data = a->state->next_data++};
    c->exists = true;
    c->dirty = true;
}

static void set_size(struct apply *a, struct current *c, uint64_t size)
{
    a->state->bytes_used += size - c->record.size;
    c->dirty = c->dirty || size != c->record.size;
    c->record.size = size;
}

/* ---- Contents ---- */

static uint32_t chunks_of(uint64_t size)
{
    return (uint32_t)((size + ROCKS_CHUNK_BYTES - 1) / ROCKS_CHUNK_BYTES);
}

static void delete_chunks(struct apply *a, const struct current *c, uint32_t first, uint32_t end)
{
    uint8_t key[ROCKS_DATA_KEY_BYTES];
    for (uint32_t i = first; i < end; i++)
        batch_delete(a, key, rocks_data_key(c->record.data, i, key));
}

/* Reads a chunk into a->chunk; *len is how much of it is stored. */
static int load_chunk(struct apply *a, uint32_t chunk, size_t *len)
{
    uint8_t key[ROCKS_DATA_KEY_BYTES];
    char *value;
    *len = 0;
    /* Chunks beyond the end do not exist: most writes ask for those. */
    if (chunk >= chunks_of(a->current.record.size))
        return 0;
    int rc = batch_get(a, key, rocks_data_key(a->current.record.data, chunk, key), &value, len);
    if (rc < 0 || !value) {
        *len = 0;
        return rc;
    }
    if (*len <= ROCKS_CHUNK_BYTES)
        memcpy(a->chunk, value, *len);
    else
        rc = -ELIMPET_CORRUPT;
    free(value);
    return rc;
}

static void store_chunk(struct apply *a, uint32_t chunk, const void *data, size_t len)
{
    uint8_t key[ROCKS_DATA_KEY_BYTES];
    size_t key_len = rocks_data_key(a->current.record.data, chunk, key);
    if (len > 0)
        batch_put(a, key, key_len, data, len);
    else
        batch_delete(a, key, key_len);
}

/* Replaces [at, at + len) of a chunk, of which something else remains. */
static int merge_chunk(struct apply *a, uint32_t chunk, size_t at, const uint8_t *data, size_t len)
{
    size_t stored;
    int rc = load_chunk(a, chunk, &stored);
    if (rc < 0)
        return rc;
    if (at > stored)
        memset(a->chunk + stored, 0, at - stored);
    memcpy(a->chunk + at, data, len);
    store_chunk(a, chunk, a->chunk, at + len > stored ? at + len : stored);
    return 0;
}

static int apply_write(struct apply *a, const struct txn_op *op, const uint8_t *data)
{
    struct current *c = &a->current;
    uint64_t offset = op->offset, end = op->offset + op->len;
    if (op->len == 0)
        return 0;
    data += op->data_offset;
    while (offset < end) {
        uint32_t chunk = (uint32_t)(offset / ROCKS_CHUNK_BYTES);
        size_t at = offset % ROCKS_CHUNK_BYTES, part = ROCKS_CHUNK_BYTES - at;
        if (part > end - offset)
            part = (size_t)(end - offset);
        int rc = 0;
        /* Nothing of the old chunk remains when the new bytes reach its or the object's end. */
        if (at == 0 && (part == ROCKS_CHUNK_BYTES || end >= c->record.size))
            store_chunk(a, chunk, data, part);
        else
            rc = merge_chunk(a, chunk, at, data, part);
        if (rc < 0)
            return rc;
        offset += part;
        data += part;
    }
    if (end > c->record.size)
        set_size(a, c, end);
    return 0;
}

/* Zeroes [at, at + len) of a chunk; zeroes at its end are not stored. */
static int zero_chunk(struct apply *a, uint32_t chunk, size_t at, size_t len)
{
    size_t stored;
    int rc = load_chunk(a, chunk, &stored);
    if (rc < 0 || at >= stored)
        return rc;
    if (at + len >= stored)
        stored = at;
    else
        memset(a->chunk + at, 0, len);
    store_chunk(a, chunk, a->chunk, stored);
    return 0;
}

/* Zeroes what there is of a range; the size stays. */
static int zero_range(struct apply *a, uint64_t offset, uint64_t end)
{
    struct current *c = &a->current;
    if (end > c->record.size)
        end = c->record.size;
    while (offset < end) {
        uint32_t chunk = (uint32_t)(offset / ROCKS_CHUNK_BYTES);
        size_t at = offset % ROCKS_CHUNK_BYTES, part = ROCKS_CHUNK_BYTES - at;
        if (part > end - offset)
            part = (size_t)(end - offset);
        int rc = 0;
        if (at == 0 && (part == ROCKS_CHUNK_BYTES || end == c->record.size))
            delete_chunks(a, c, chunk, chunk + 1);
        else
            rc = zero_chunk(a, chunk, at, part);
        if (rc < 0)
            return rc;
        offset += part;
    }
    return 0;
}

static int apply_zero(struct apply *a, const struct txn_op *op)
{
    struct current *c = &a->current;
    uint64_t end = op->offset + op->len;
    int rc = zero_range(a, op->offset, end);
    if (rc == 0 && op->len > 0 && end > c->record.size)
        set_size(a, c, end);
    return rc;
}

static int apply_truncate(struct apply *a, uint64_t size)
{
    int rc = zero_range(a, size, a->current.record.size);
    if (rc == 0)
        set_size(a, &a->current, size);
    return rc;
}

/* ---- Objects ---- */

static int remove_attrs(struct apply *a, const struct current *c)
{
    uint8_t from[ROCKS_ATTR_KEY_MAX], to[ROCKS_ATTR_KEY_MAX];
    if (!(c->record.flags & ROCKS_OBJECT_ATTRS))
        return 0;
    size_t from_len = rocks_attr_key(c->record.data, NULL, 0, from);
    size_t to_len = rocks_attr_key(c->record.data + 1, NULL, 0, to);
    return batch_delete_range(a, from, from_len, to, to_len);
}

static int remove_object(struct apply *a, struct current *c)
{
    if (!c->exists)
        return 0;
    delete_chunks(a, c, 0, chunks_of(c->record.size));
    set_size(a, c, 0);
    batch_delete(a, c->key, c->key_len);
    c->exists = false;
    c->dirty = false;
    return remove_attrs(a, c);
}

static int apply_rename(struct apply *a, const struct object_id *to)
{
    struct current *c = &a->current;
    if (!c->exists || object_compare(&c->id, to) == 0)
        return 0;
    struct current *target = malloc(sizeof *target);
    if (!target)
        return -ENOMEM;
    int rc = current_load(a, target, to);
    if (rc == 0)
        rc = remove_object(a, target);
    if (rc == 0) {
        target->record = c->record;
        memcpy(target->info, c->info, sizeof target->info);
        target->exists = true;
        target->dirty = true;
        current_save(a, target);
        batch_delete(a, c->key, c->key_len);
        c->exists = false;
        c->dirty = false;
    }
    free(target);
    return rc;
}

static void set_info(struct current *c, const struct txn_op *op)
{
    c->record.info_len = (uint16_t)op->value_len;
    if (op->value_len > 0)
        memcpy(c->info, op->value, op->value_len);
    c->dirty = true;
}

static void set_attr(struct apply *a, const struct txn_op *op)
{
    struct current *c = &a->current;
    uint8_t key[ROCKS_ATTR_KEY_MAX];
    size_t key_len = rocks_attr_key(c->record.data, op->name, op->name_len, key);
    batch_put(a, key, key_len, op->value, op->value_len);
    c->dirty = c->dirty || !(c->record.flags & ROCKS_OBJECT_ATTRS);
    c->record.flags |= ROCKS_OBJECT_ATTRS;
}

static void remove_attr(struct apply *a, const struct txn_op *op)
{
    const struct current *c = &a->current;
    uint8_t key[ROCKS_ATTR_KEY_MAX];
    if (c->exists && (c->record.flags & ROCKS_OBJECT_ATTRS))
        batch_delete(a, key, rocks_attr_key(c->record.data, op->name, op->name_len, key));
}

/* ---- Operations ---- */

static int apply_object_op(struct apply *a, const struct txn_op *op, const uint8_t *data)
{
    switch (op->code) {
    case TXN_REMOVE:
        return remove_object(a, &a->current);
    case TXN_RENAME:
        return apply_rename(a, &op->to);
    case TXN_REMOVE_ATTR:
        remove_attr(a, op);
        return 0;
    default:
        current_create(a);
    }
    switch (op->code) {
    case TXN_WRITE:
        return apply_write(a, op, data);
    case TXN_ZERO:
        return apply_zero(a, op);
    case TXN_TRUNCATE:
        return apply_truncate(a, op->offset);
    case TXN_SET_INFO:
        set_info(&a->current, op);
        return 0;
    case TXN_SET_ATTR:
        set_attr(a, op);
        return 0;
    default:
        assert(op->code == TXN_TOUCH);
        return 0;
    }
}

static int apply_op(struct apply *a, const struct txn_op *op, const uint8_t *data)
{
    uint8_t key[ROCKS_PG_KEY_MAX], to[ROCKS_PG_KEY_MAX];
    size_t key_len;
    int rc;
    switch (op->code) {
    case TXN_PG_SET:
        key_len = rocks_pg_key(op->pg, op->name, op->name_len, key);
        batch_put(a, key, key_len, op->value, op->value_len);
        return 0;
    case TXN_PG_REMOVE_RANGE:
        key_len = rocks_pg_key(op->pg, op->name, op->name_len, key);
        return batch_delete_range(a, key, key_len, to,
                                  rocks_pg_key(op->pg, op->value, (uint16_t)op->value_len, to));
    default:
        rc = current_select(a, &op->object);
        return rc < 0 ? rc : apply_object_op(a, op, data);
    }
}

static int apply_txn(struct apply *a, const struct store_txn *txn)
{
    struct txn_iterator it;
    struct txn_op op;
    int more, rc = 0;
    txn_iterate(&it, txn->ops.data, txn->ops.len, txn->data.len);
    while (rc == 0 && (more = txn_next(&it, &op)) > 0)
        rc = apply_op(a, &op, txn->data.data);
    assert(rc < 0 || more == 0); /* Checked when it was submitted. */
    if (rc == 0 && a->current.selected)
        current_save(a, &a->current);
    a->current.selected = false;
    return rc;
}

int rocks_apply(struct rocks_store *rs, rocksdb_writebatch_wi_t *batch,
                const struct rocks_txns *txns, struct rocks_state *state)
{
    struct apply *a = malloc(sizeof *a);
    if (!a)
        return -ENOMEM;
    a->rs = rs;
    a->batch = batch;
    a->state = state;
    a->current.selected = false;
    struct rocks_state before = *state;
    const struct rocks_txn *waiting;
    int rc = 0;
    STAILQ_FOREACH(waiting, txns, link)
    {
        if (rc == 0 && waiting->error == 0)
            rc = apply_txn(a, waiting->txn);
    }
    if (rc == 0 && memcmp(&before, state, sizeof before) != 0)
        batch_put(a, ROCKS_META_STATE, strlen(ROCKS_META_STATE), state, sizeof *state);
    free(a);
    return rc;
}
