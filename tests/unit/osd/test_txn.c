/* Store transactions: building, reading, checking, and the bytes. */
#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "osd/store/store.h"
#include "osd/store/txn.h"

static const struct object_id object_a = {
    .pool = 7,
    .hash = 0x12345678,
    .name = (const uint8_t *)"alpha",
    .name_len = 5,
    .space = (const uint8_t *)"s",
    .space_len = 1,
    .snap = OBJECT_HEAD,
};
static const struct object_id object_b = {
    .pool = 7,
    .hash = 0x12345678,
    .name = (const uint8_t *)"beta",
    .name_len = 4,
    .snap = OBJECT_HEAD,
};
static const struct pg_id pg = {.pool = 7, .seed = 3};

/* One of each operation. */
static void build_all(struct store_txn *txn)
{
    txn_init(txn);
    txn_object(txn, &object_a);
    txn_touch(txn);
    txn_write(txn, 4096, 100, 28);
    txn_zero(txn, 10, 20);
    txn_truncate(txn, 8192);
    txn_set_info(txn, "info", 4);
    txn_set_attr(txn, "color", 5, "red", 3);
    txn_remove_attr(txn, "shape", 5);
    txn_rename(txn, &object_b);
    txn_remove(txn);
    txn_pg_set(txn, pg, "k1", 2, "value", 5);
    txn_pg_remove_range(txn, pg, "a", 1, "k", 1);
    assert_false(txn->ops.failed);
}

static int check(const struct store_txn *txn, size_t data_len)
{
    return txn_check(txn->ops.data, txn->ops.len, data_len, NULL);
}

static void reads_what_was_built(void **state)
{
    (void)state;
    struct store_txn txn;
    struct txn_iterator it;
    struct txn_op op;
    build_all(&txn);
    txn_iterate(&it, txn.ops.data, txn.ops.len, 128);
    assert_int_equal(txn_next(&it, &op), 1);
    assert_int_equal(op.code, TXN_TOUCH);
    assert_int_equal(object_compare(&op.object, &object_a), 0);
    assert_int_equal(txn_next(&it, &op), 1);
    assert_int_equal(op.code, TXN_WRITE);
    assert_int_equal(op.offset, 4096);
    assert_int_equal(op.len, 100);
    assert_int_equal(op.data_offset, 28);
    assert_int_equal(txn_next(&it, &op), 1);
    assert_int_equal(op.code, TXN_ZERO);
    assert_int_equal(op.offset, 10);
    assert_int_equal(op.len, 20);
    assert_int_equal(txn_next(&it, &op), 1);
    assert_int_equal(op.code, TXN_TRUNCATE);
    assert_int_equal(op.offset, 8192);
    assert_int_equal(txn_next(&it, &op), 1);
    assert_int_equal(op.code, TXN_SET_INFO);
    assert_int_equal(op.value_len, 4);
    assert_memory_equal(op.value, "info", 4);
    assert_int_equal(txn_next(&it, &op), 1);
    assert_int_equal(op.code, TXN_SET_ATTR);
    assert_int_equal(op.name_len, 5);
    assert_memory_equal(op.name, "color", 5);
    assert_memory_equal(op.value, "red", 3);
    assert_int_equal(txn_next(&it, &op), 1);
    assert_int_equal(op.code, TXN_REMOVE_ATTR);
    assert_memory_equal(op.name, "shape", 5);
    assert_int_equal(txn_next(&it, &op), 1);
    assert_int_equal(op.code, TXN_RENAME);
    assert_int_equal(object_compare(&op.to, &object_b), 0);
    assert_int_equal(txn_next(&it, &op), 1);
    assert_int_equal(op.code, TXN_REMOVE);
    assert_int_equal(txn_next(&it, &op), 1);
    assert_int_equal(op.code, TXN_PG_SET);
    assert_true(pg_id_equal(op.pg, pg));
    assert_memory_equal(op.name, "k1", 2);
    assert_int_equal(op.value_len, 5);
    assert_memory_equal(op.value, "value", 5);
    assert_int_equal(txn_next(&it, &op), 1);
    assert_int_equal(op.code, TXN_PG_REMOVE_RANGE);
    assert_memory_equal(op.name, "a", 1);
    assert_int_equal(op.value_len, 1);
    assert_memory_equal(op.value, "k", 1);
    assert_int_equal(txn_next(&it, &op), 0);
    txn_fini(&txn);
}

static void keeps_its_bytes(void **state)
{
    (void)state;
    struct store_txn txn;
    build_all(&txn);
    test_golden("txn_layout.hex", txn.ops.data, txn.ops.len);
    txn_fini(&txn);
}

static void accepts_an_empty_transaction(void **state)
{
    (void)state;
    assert_int_equal(txn_check(NULL, 0, 0, NULL), 0);
}

static void refuses_every_truncation(void **state)
{
    (void)state;
    struct store_txn txn;
    build_all(&txn);
    /* Where operations end, a shorter transaction is one, too. */
    struct txn_iterator it;
    struct txn_op op;
    bool boundary[1024] = {false};
    assert_true(txn.ops.len < sizeof boundary);
    txn_iterate(&it, txn.ops.data, txn.ops.len, 128);
    boundary[0] = true;
    while (txn_next(&it, &op) > 0)
        boundary[it.decoder.at] = true;
    size_t n_boundaries = 0;
    for (size_t len = 0; len < txn.ops.len; len++) {
        int rc = txn_check(txn.ops.data, len, 128, NULL);
        size_t select_end =
            sizeof(struct txn_op_header) + ((struct txn_op_header *)txn.ops.data)->value_len;
        bool fine = boundary[len] || len == select_end;
        n_boundaries += fine;
        assert_int_equal(rc, fine ? 0 : -EBADMSG);
    }
    assert_int_equal(n_boundaries, 12);
    txn_fini(&txn);
}

static void refuses_data_out_of_range(void **state)
{
    (void)state;
    struct store_txn txn;
    build_all(&txn);
    assert_int_equal(check(&txn, 128), 0);
    assert_int_equal(check(&txn, 127), -EBADMSG);
    assert_int_equal(check(&txn, 0), -EBADMSG);
    txn_fini(&txn);
}

static void refuses_another_pool(void **state)
{
    (void)state;
    struct store_txn txn;
    uint64_t pool = 7;
    build_all(&txn);
    assert_int_equal(txn_check(txn.ops.data, txn.ops.len, 128, &pool), 0);
    pool = 8;
    assert_int_equal(txn_check(txn.ops.data, txn.ops.len, 128, &pool), -EBADMSG);
    txn_fini(&txn);
    txn_init(&txn);
    txn_pg_set(&txn, pg, "k", 1, NULL, 0);
    assert_int_equal(txn_check(txn.ops.data, txn.ops.len, 0, &pool), -EBADMSG);
    txn_fini(&txn);
}

static void refuses_operations_without_an_object(void **state)
{
    (void)state;
    struct store_txn txn;
    txn_init(&txn);
    txn_touch(&txn);
    assert_int_equal(check(&txn, 0), -EBADMSG);
    txn_fini(&txn);
}

static void refuses_a_rename_to_another_place(void **state)
{
    (void)state;
    struct store_txn txn;
    struct object_id elsewhere = object_b;
    elsewhere.hash++;
    txn_init(&txn);
    txn_object(&txn, &object_a);
    txn_rename(&txn, &elsewhere);
    assert_int_equal(check(&txn, 0), -EBADMSG);
    txn_fini(&txn);
}

/* An operation as a peer might forge it. */
static int check_raw(enum txn_code code, const void *name, uint16_t name_len, const void *value,
                     uint32_t value_len)
{
    struct store_txn txn;
    struct txn_op_header header = {
        .code = (uint16_t)code, .name_len = name_len, .value_len = value_len};
    txn_init(&txn);
    txn_object(&txn, &object_a);
    encode_bytes(&txn.ops, &header, sizeof header);
    encode_bytes(&txn.ops, name, name_len);
    encode_bytes(&txn.ops, value, value_len);
    int rc = check(&txn, 1024);
    txn_fini(&txn);
    return rc;
}

static void refuses_what_is_outside_the_limits(void **state)
{
    (void)state;
    static const uint8_t bytes[STORE_PG_VALUE_MAX + 64];
    struct txn_write_value write = {.offset = OBJECT_SIZE_MAX - 10, .len = 10};
    assert_int_equal(check_raw(TXN_WRITE, NULL, 0, &write, sizeof write), 0);
    write.offset++;
    assert_int_equal(check_raw(TXN_WRITE, NULL, 0, &write, sizeof write), -EBADMSG);
    write = (struct txn_write_value){.offset = UINT64_MAX - 5, .len = 10};
    assert_int_equal(check_raw(TXN_WRITE, NULL, 0, &write, sizeof write), -EBADMSG);
    write = (struct txn_write_value){.len = 10, .data_offset = UINT64_MAX - 5};
    assert_int_equal(check_raw(TXN_WRITE, NULL, 0, &write, sizeof write), -EBADMSG);
    struct txn_zero_value zero = {.offset = 1, .len = OBJECT_SIZE_MAX};
    assert_int_equal(check_raw(TXN_ZERO, NULL, 0, &zero, sizeof zero), -EBADMSG);
    struct txn_truncate_value truncate = {.size = OBJECT_SIZE_MAX + 1};
    assert_int_equal(check_raw(TXN_TRUNCATE, NULL, 0, &truncate, sizeof truncate), -EBADMSG);
    assert_int_equal(check_raw(TXN_SET_INFO, NULL, 0, bytes, STORE_INFO_MAX), 0);
    assert_int_equal(check_raw(TXN_SET_INFO, NULL, 0, bytes, STORE_INFO_MAX + 1), -EBADMSG);
    assert_int_equal(check_raw(TXN_SET_ATTR, "n", 1, bytes, STORE_ATTR_VALUE_MAX), 0);
    assert_int_equal(check_raw(TXN_SET_ATTR, "n", 1, bytes, STORE_ATTR_VALUE_MAX + 1), -EBADMSG);
    assert_int_equal(check_raw(TXN_SET_ATTR, "", 0, bytes, 1), -EBADMSG);
    assert_int_equal(check_raw(TXN_SET_ATTR, bytes, STORE_ATTR_NAME_MAX + 1, bytes, 1), -EBADMSG);
    uint32_t place = sizeof(struct txn_pg_value);
    assert_int_equal(check_raw(TXN_PG_SET, "k", 1, bytes, place + STORE_PG_VALUE_MAX), 0);
    assert_int_equal(check_raw(TXN_PG_SET, "k", 1, bytes, place + STORE_PG_VALUE_MAX + 1),
                     -EBADMSG);
    assert_int_equal(check_raw(TXN_PG_SET, "", 0, bytes, place), -EBADMSG);
    assert_int_equal(check_raw(TXN_PG_SET, "k", 1, bytes, place - 1), -EBADMSG);
    assert_int_equal(check_raw(TXN_PG_SET, bytes, STORE_PG_KEY_MAX + 1, bytes, place), -EBADMSG);
    assert_int_equal(check_raw(TXN_PG_REMOVE_RANGE, "", 0, bytes, place + STORE_PG_KEY_MAX + 1),
                     -EBADMSG);
    assert_int_equal(check_raw((enum txn_code)0, NULL, 0, NULL, 0), -EBADMSG);
    assert_int_equal(check_raw((enum txn_code)999, NULL, 0, NULL, 0), -EBADMSG);
    assert_int_equal(check_raw(TXN_TOUCH, "n", 1, NULL, 0), -EBADMSG);
    assert_int_equal(check_raw(TXN_TOUCH, NULL, 0, "v", 1), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_was_built),
        cmocka_unit_test(keeps_its_bytes),
        cmocka_unit_test(accepts_an_empty_transaction),
        cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(refuses_data_out_of_range),
        cmocka_unit_test(refuses_another_pool),
        cmocka_unit_test(refuses_operations_without_an_object),
        cmocka_unit_test(refuses_a_rename_to_another_place),
        cmocka_unit_test(refuses_what_is_outside_the_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
