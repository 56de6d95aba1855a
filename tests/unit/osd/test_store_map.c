/*
 * Maps of objects (omap) that are larger than what one record of the journal may hold.
 */
#include "tests/lib/test.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/osd/store_fixture.h"

struct waiting_omap {
    struct store_omap_read read;
    bool done;
};

static void omap_read_done(struct store_omap_read *read)
{
    container_of(read, struct waiting_omap, read)->done = true;
}

static void run_omap_read(struct store_fixture *f, struct waiting_omap *w)
{
    w->read.done = omap_read_done;
    store_omap_read(f->store, &w->read);
    wait_until(f, &w->done);
}

enum { MAP_KEYS = 50000, MAP_KEYS_A_TXN = 5000 };

/* Reads the whole map and compares it: value N of key N is its number, padded. */
static void assert_large_map(struct store_fixture *f, const struct object_id *id)
{
    struct waiting_omap w = {.read = {.object = *id, .max = MAP_KEYS + 1, .want_header = true}};
    struct decoder d;
    run_omap_read(f, &w);
    assert_int_equal(w.read.error, 0);
    assert_int_equal(w.read.n, MAP_KEYS);
    assert_int_equal(w.read.header.len, 6);
    decoder_init(&d, w.read.pairs.data, w.read.pairs.len);
    for (uint32_t n = 0; n < MAP_KEYS; n++) {
        char key[16];
        uint16_t key_len;
        uint32_t len;
        snprintf(key, sizeof key, "key-%08u", n);
        assert_memory_equal(decode_string16(&d, &key_len), key, 12);
        const void *value = decode_string32(&d, &len);
        assert_int_equal(len, 100);
        assert_memory_equal(value, &n, sizeof n);
    }
    encoder_fini(&w.read.pairs);
    encoder_fini(&w.read.header);
}

static void a_map_of_any_size_is_cloned(void **state)
{
    struct store_fixture *f = *state;
    const struct object_id from = object_named("map", 7), to = object_named("copy", 7);
    struct store_txn txn;
    uint8_t value[100] = {0};
    for (uint32_t first = 0; first < MAP_KEYS; first += MAP_KEYS_A_TXN) {
        txn_init(&txn);
        txn_object(&txn, &from);
        txn_omap_header(&txn, "header", 6);
        for (uint32_t n = first; n < first + MAP_KEYS_A_TXN; n++) {
            char key[16];
            snprintf(key, sizeof key, "key-%08u", n);
            memcpy(value, &n, sizeof n);
            txn_omap_set(&txn, key, 12, value, sizeof value);
        }
        commit(f, &txn);
    }
    txn_init(&txn);
    txn_object(&txn, &from);
    txn_clone(&txn, &to);
    commit(f, &txn);
    assert_large_map(f, &to);
    txn_init(&txn);
    txn_object(&txn, &from);
    txn_clone(&txn, &from);
    txn_remove(&txn);
    commit(f, &txn);
    fixture_reopen(f);
    assert_no_object(f, &from);
    assert_large_map(f, &to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_map_of_any_size_is_cloned, fixture_memory,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_map_of_any_size_is_cloned, fixture_engine,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
