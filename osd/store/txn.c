/* Building, checking and reading the encoded operations of store transactions. */
#include "osd/store/txn.h"

#include <errno.h>
#include <string.h>

#include "osd/store/store.h"

/* ---- Building ---- */

void txn_init(struct store_txn *txn)
{
    memset(txn, 0, sizeof *txn);
    encoder_init(&txn->ops);
}

void txn_fini(struct store_txn *txn)
{
    encoder_fini(&txn->ops);
    buf_slice_drop(&txn->data);
}

static void put_header(struct store_txn *txn, enum txn_code code, size_t name_len, size_t value_len)
{
    assert(name_len <= UINT16_MAX);
    assert(value_len <= UINT32_MAX);
    struct txn_op_header header = {
        .code = (uint16_t)code,
        .name_len = (uint16_t)name_len,
        .value_len = (uint32_t)value_len,
    };
    encode_bytes(&txn->ops, &header, sizeof header);
}

/* An id's encoded length is known only afterwards, so the header is completed then. */
static void put_object(struct store_txn *txn, enum txn_code code, const struct object_id *id)
{
    size_t at = txn->ops.len;
    put_header(txn, code, 0, 0);
    encode_object_id(&txn->ops, id);
    if (txn->ops.failed)
        return;
    size_t value_len = txn->ops.len - at - sizeof(struct txn_op_header);
    struct txn_op_header header = {.code = (uint16_t)code, .value_len = (uint32_t)value_len};
    memcpy(txn->ops.data + at, &header, sizeof header);
}

void txn_object(struct store_txn *txn, const struct object_id *id)
{
    put_object(txn, TXN_OBJECT, id);
}

void txn_touch(struct store_txn *txn)
{
    put_header(txn, TXN_TOUCH, 0, 0);
}

void txn_write(struct store_txn *txn, uint64_t offset, uint64_t len, uint64_t data_offset)
{
    assert(len <= OBJECT_SIZE_MAX && offset <= OBJECT_SIZE_MAX - len);
    struct txn_write_value value = {.offset = offset, .len = len, .data_offset = data_offset};
    put_header(txn, TXN_WRITE, 0, sizeof value);
    encode_bytes(&txn->ops, &value, sizeof value);
}

void txn_zero(struct store_txn *txn, uint64_t offset, uint64_t len)
{
    assert(len <= OBJECT_SIZE_MAX && offset <= OBJECT_SIZE_MAX - len);
    struct txn_zero_value value = {.offset = offset, .len = len};
    put_header(txn, TXN_ZERO, 0, sizeof value);
    encode_bytes(&txn->ops, &value, sizeof value);
}

void txn_truncate(struct store_txn *txn, uint64_t size)
{
    assert(size <= OBJECT_SIZE_MAX);
    struct txn_truncate_value value = {.size = size};
    put_header(txn, TXN_TRUNCATE, 0, sizeof value);
    encode_bytes(&txn->ops, &value, sizeof value);
}

void txn_remove(struct store_txn *txn)
{
    put_header(txn, TXN_REMOVE, 0, 0);
}

void txn_set_info(struct store_txn *txn, const void *info, uint16_t len)
{
    assert(len <= STORE_INFO_MAX);
    put_header(txn, TXN_SET_INFO, 0, len);
    encode_bytes(&txn->ops, info, len);
}

void txn_set_attr(struct store_txn *txn, const void *name, uint16_t name_len, const void *value,
                  uint32_t len)
{
    assert(name_len > 0 && name_len <= STORE_ATTR_NAME_MAX);
    assert(len <= STORE_ATTR_VALUE_MAX);
    put_header(txn, TXN_SET_ATTR, name_len, len);
    encode_bytes(&txn->ops, name, name_len);
    encode_bytes(&txn->ops, value, len);
}

void txn_remove_attr(struct store_txn *txn, const void *name, uint16_t name_len)
{
    assert(name_len > 0 && name_len <= STORE_ATTR_NAME_MAX);
    put_header(txn, TXN_REMOVE_ATTR, name_len, 0);
    encode_bytes(&txn->ops, name, name_len);
}

void txn_rename(struct store_txn *txn, const struct object_id *to)
{
    put_object(txn, TXN_RENAME, to);
}

void txn_clone(struct store_txn *txn, const struct object_id *to)
{
    put_object(txn, TXN_CLONE, to);
}

void txn_omap_set(struct store_txn *txn, const void *key, uint16_t key_len, const void *value,
                  uint32_t len)
{
    assert(key_len > 0 && key_len <= STORE_OMAP_KEY_MAX);
    assert(len <= STORE_OMAP_VALUE_MAX);
    put_header(txn, TXN_OMAP_SET, key_len, len);
    encode_bytes(&txn->ops, key, key_len);
    encode_bytes(&txn->ops, value, len);
}

void txn_omap_remove_range(struct store_txn *txn, const void *from, uint16_t from_len,
                           const void *to, uint16_t to_len)
{
    assert(from_len <= STORE_OMAP_KEY_MAX && to_len <= STORE_OMAP_KEY_MAX + 1);
    put_header(txn, TXN_OMAP_REMOVE_RANGE, from_len, to_len);
    encode_bytes(&txn->ops, from, from_len);
    encode_bytes(&txn->ops, to, to_len);
}

void txn_omap_header(struct store_txn *txn, const void *value, uint32_t len)
{
    assert(len <= STORE_OMAP_VALUE_MAX);
    put_header(txn, TXN_OMAP_HEADER, 0, len);
    encode_bytes(&txn->ops, value, len);
}

static void put_pg(struct store_txn *txn, enum txn_code code, struct pg_id pg, const void *name,
                   uint16_t name_len, const void *value, uint32_t len)
{
    struct txn_pg_value where = {.pool = pg.pool, .seed = pg.seed};
    put_header(txn, code, name_len, sizeof where + len);
    encode_bytes(&txn->ops, name, name_len);
    encode_bytes(&txn->ops, &where, sizeof where);
    encode_bytes(&txn->ops, value, len);
}

void txn_pg_set(struct store_txn *txn, struct pg_id pg, const void *key, uint16_t key_len,
                const void *value, uint32_t len)
{
    assert(key_len > 0 && key_len <= STORE_PG_KEY_MAX);
    assert(len <= STORE_PG_VALUE_MAX);
    put_pg(txn, TXN_PG_SET, pg, key, key_len, value, len);
}

void txn_pg_remove_range(struct store_txn *txn, struct pg_id pg, const void *from,
                         uint16_t from_len, const void *to, uint16_t to_len)
{
    assert(from_len <= STORE_PG_KEY_MAX && to_len <= STORE_PG_KEY_MAX);
    put_pg(txn, TXN_PG_REMOVE_RANGE, pg, from, from_len, to, to_len);
}

/* ---- Reading ---- */

void txn_iterate(struct txn_iterator *it, const void *ops, size_t ops_len, size_t data_len)
{
    memset(it, 0, sizeof *it);
    decoder_init(&it->decoder, ops, ops_len);
    it->data_len = data_len;
}

/* The value is exactly one struct of size bytes. */
static bool take_fixed(const struct txn_op *op, void *out, size_t size)
{
    if (op->value_len != size)
        return false;
    memcpy(out, op->value, size);
    return true;
}

static bool take_object(const struct txn_op *op, struct object_id *out)
{
    struct decoder d;
    decoder_init(&d, op->value, op->value_len);
    decode_object_id(&d, out);
    return decoder_end(&d) == 0;
}

static bool extent_fits(uint64_t offset, uint64_t len)
{
    return len <= OBJECT_SIZE_MAX && offset <= OBJECT_SIZE_MAX - len;
}

static bool take_write(const struct txn_iterator *it, struct txn_op *op)
{
    struct txn_write_value value;
    if (!take_fixed(op, &value, sizeof value) || !extent_fits(value.offset, value.len))
        return false;
    if (value.len > it->data_len || value.data_offset > it->data_len - value.len)
        return false;
    op->offset = value.offset;
    op->len = value.len;
    op->data_offset = value.data_offset;
    return true;
}

static bool take_zero(struct txn_op *op)
{
    struct txn_zero_value value;
    if (!take_fixed(op, &value, sizeof value) || !extent_fits(value.offset, value.len))
        return false;
    op->offset = value.offset;
    op->len = value.len;
    return true;
}

static bool take_truncate(struct txn_op *op)
{
    struct txn_truncate_value value;
    if (!take_fixed(op, &value, sizeof value) || value.size > OBJECT_SIZE_MAX)
        return false;
    op->offset = value.size;
    return true;
}

/* A rename stays at its place in the order of listing, but for the name. */
static bool take_rename(struct txn_op *op)
{
    return take_object(op, &op->to) && op->to.pool == op->object.pool &&
           op->to.hash == op->object.hash;
}

/* Splits the placement group off the value; the rest may be up to max bytes. */
static bool take_pg(struct txn_op *op, uint32_t max)
{
    struct txn_pg_value where;
    if (op->name_len > STORE_PG_KEY_MAX || op->value_len < sizeof where)
        return false;
    memcpy(&where, op->value, sizeof where);
    op->pg = (struct pg_id){.pool = where.pool, .seed = where.seed};
    op->value += sizeof where;
    op->value_len -= (uint32_t)sizeof where;
    return op->value_len <= max;
}

static bool name_fits(const struct txn_op *op, uint16_t max)
{
    return op->name_len > 0 && op->name_len <= max;
}

/* Whether the operation, whose object, name and value are set, is valid; fills in the rest. */
static bool take_op(const struct txn_iterator *it, struct txn_op *op)
{
    bool is_pg = op->code == TXN_PG_SET || op->code == TXN_PG_REMOVE_RANGE;
    bool has_name = is_pg || op->code == TXN_SET_ATTR || op->code == TXN_REMOVE_ATTR ||
                    op->code == TXN_OMAP_SET || op->code == TXN_OMAP_REMOVE_RANGE;
    if (!is_pg && !it->has_object)
        return false;
    if (!has_name && op->name_len != 0)
        return false;
    switch (op->code) {
    case TXN_TOUCH:
    case TXN_REMOVE:
        return op->value_len == 0;
    case TXN_WRITE:
        return take_write(it, op);
    case TXN_ZERO:
        return take_zero(op);
    case TXN_TRUNCATE:
        return take_truncate(op);
    case TXN_SET_INFO:
        return op->value_len <= STORE_INFO_MAX;
    case TXN_SET_ATTR:
        return name_fits(op, STORE_ATTR_NAME_MAX) && op->value_len <= STORE_ATTR_VALUE_MAX;
    case TXN_REMOVE_ATTR:
        return name_fits(op, STORE_ATTR_NAME_MAX) && op->value_len == 0;
    case TXN_RENAME:
    case TXN_CLONE:
        return take_rename(op);
    case TXN_OMAP_SET:
        return name_fits(op, STORE_OMAP_KEY_MAX) && op->value_len <= STORE_OMAP_VALUE_MAX;
    case TXN_OMAP_REMOVE_RANGE:
        return op->name_len <= STORE_OMAP_KEY_MAX && op->value_len <= STORE_OMAP_KEY_MAX + 1;
    case TXN_OMAP_HEADER:
        return op->value_len <= STORE_OMAP_VALUE_MAX;
    case TXN_PG_SET:
        return op->name_len > 0 && take_pg(op, STORE_PG_VALUE_MAX);
    case TXN_PG_REMOVE_RANGE:
        return take_pg(op, STORE_PG_KEY_MAX);
    case TXN_OBJECT:
        break;
    }
    return false;
}

int txn_next(struct txn_iterator *it, struct txn_op *op)
{
    struct decoder *d = &it->decoder;
    while (decoder_left(d) > 0) {
        struct txn_op_header header;
        const void *raw = decode_bytes(d, sizeof header);
        if (!raw)
            return -EBADMSG;
        memcpy(&header, raw, sizeof header);
        memset(op, 0, sizeof *op);
        op->code = (enum txn_code)header.code;
        op->name_len = header.name_len;
        op->value_len = header.value_len;
        op->name = decode_bytes(d, header.name_len);
        op->value = decode_bytes(d, header.value_len);
        if (d->failed)
            return -EBADMSG;
        if (op->code == TXN_OBJECT) {
            if (op->name_len != 0 || !take_object(op, &it->object))
                return -EBADMSG;
            it->has_object = true;
            continue;
        }
        if (it->has_object)
            op->object = it->object;
        return take_op(it, op) ? 1 : -EBADMSG;
    }
    return 0;
}

int txn_check(const void *ops, size_t ops_len, size_t data_len, const uint64_t *pool)
{
    struct txn_iterator it;
    struct txn_op op;
    int more;
    txn_iterate(&it, ops, ops_len, data_len);
    while ((more = txn_next(&it, &op)) > 0) {
        bool is_pg = op.code == TXN_PG_SET || op.code == TXN_PG_REMOVE_RANGE;
        if (pool && (is_pg ? op.pg.pool : op.object.pool) != *pool)
            return -EBADMSG;
    }
    return more;
}
