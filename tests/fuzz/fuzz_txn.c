/*
 * Store transactions from a peer: txn_check() and txn_next(). The first two bytes give the length
 * of the data beside the operations. What passes the check must lie inside every limit.
 */
#include <stdlib.h>
#include <string.h>

#include "osd/store/store.h"
#include "osd/store/txn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

/* The limits of an operation's name and value, by its code. */
static void check_sizes(const struct txn_op *op)
{
    switch (op->code) {
    case TXN_SET_ATTR:
    case TXN_REMOVE_ATTR:
        must(op->name_len > 0 && op->name_len <= STORE_ATTR_NAME_MAX);
        must(op->value_len <= STORE_ATTR_VALUE_MAX);
        break;
    case TXN_OMAP_SET:
        must(op->name_len > 0 && op->name_len <= STORE_OMAP_KEY_MAX);
        must(op->value_len <= STORE_OMAP_VALUE_MAX);
        break;
    case TXN_OMAP_REMOVE_RANGE:
        must(op->name_len <= STORE_OMAP_KEY_MAX && op->value_len <= STORE_OMAP_KEY_MAX + 1);
        break;
    case TXN_OMAP_HEADER:
        must(op->name_len == 0 && op->value_len <= STORE_OMAP_VALUE_MAX);
        break;
    case TXN_PG_SET:
    case TXN_PG_REMOVE_RANGE:
        must(op->name_len <= STORE_PG_KEY_MAX && op->value_len <= STORE_PG_VALUE_MAX);
        break;
    case TXN_SET_INFO:
        must(op->name_len == 0 && op->value_len <= STORE_INFO_MAX);
        break;
    default:
        must(op->name_len == 0);
        break;
    }
}

static void check_op(const struct txn_op *op, size_t data_len)
{
    check_sizes(op);
    must(op->object.name_len <= OBJECT_NAME_MAX && op->object.space_len <= OBJECT_NAMESPACE_MAX &&
         op->object.locator_len <= OBJECT_LOCATOR_MAX);
    if (op->code == TXN_WRITE || op->code == TXN_ZERO)
        must(op->len <= OBJECT_SIZE_MAX && op->offset <= OBJECT_SIZE_MAX - op->len);
    if (op->code == TXN_WRITE)
        must(op->len <= data_len && op->data_offset <= data_len - op->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint16_t data_len = 0;
    if (size < sizeof data_len)
        return 0;
    memcpy(&data_len, data, sizeof data_len);
    data += sizeof data_len;
    size -= sizeof data_len;
    uint64_t pool = 7;
    int rc = txn_check(data, size, data_len, NULL);
    must(rc == 0 || txn_check(data, size, data_len, &pool) == rc);
    struct txn_iterator it;
    struct txn_op op;
    int more;
    txn_iterate(&it, data, size, data_len);
    while ((more = txn_next(&it, &op)) > 0)
        check_op(&op, data_len);
    must(more == rc);
    return 0;
}
