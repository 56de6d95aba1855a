/*
 * What every store must do, run on each of them; and the same random history on both.
 */
#include "common/env_real.h"
#include "tests/lib/test.h"
#include "tests/unit/osd/store_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BIG = 200000 };

static uint8_t *pattern(size_t len, uint32_t seed)
{
    uint8_t *data = malloc(len + 1);
    assert_non_null(data);
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)((i * 31 + seed * 17 + i / 251) | 1);
    return data;
}

/* Bytes, no string. */
static void put_bytes(uint8_t *to, const void *bytes, size_t len)
{
    memcpy(to, bytes, len);
}

/* ---- Contents ---- */

static void writes_are_read_back(void **state)
{
    struct store_fixture *f = *state;
    struct object_id id = object_named("a", 1);
    uint8_t *data = pattern(BIG, 1);
    assert_no_object(f, &id);
    write_object(f, &id, 0, data, BIG);
    assert_object(f, &id, data, BIG);
    /* In the middle, across pieces of any size, and beyond the end. */
    uint8_t *other = pattern(BIG, 2);
    memcpy(data + 16000, other, 70000);
    write_object(f, &id, 16000, other, 70000);
    assert_object(f, &id, data, BIG);
    memcpy(data + 100, other, 1);
    write_object(f, &id, 100, other, 1);
    assert_object(f, &id, data, BIG);
    fixture_reopen(f);
    assert_object(f, &id, data, BIG);
    free(data);
    free(other);
}

static void gaps_read_as_zeroes(void **state)
{
    struct store_fixture *f = *state;
    struct object_id id = object_named("gap", 1);
    uint8_t *data = calloc(1, BIG);
    write_object(f, &id, BIG - 3, "end", 3);
    put_bytes(data + BIG - 3, "end", 3);
    assert_object(f, &id, data, BIG);
    write_object(f, &id, 50000, "middle", 6);
    put_bytes(data + 50000, "middle", 6);
    assert_object(f, &id, data, BIG);
    free(data);
}

static void assert_told(struct store_fixture *f, struct store_read read, const struct object_id *id,
                        uint64_t offset, uint64_t len, uint32_t n, const uint64_t (*expected)[2])
{
    struct decoder d;
    assert_int_equal(read_object(f, &read, id, offset, len), 0);
    assert_int_equal(read.data.len, 0);
    decoder_init(&d, read.extents.data, read.extents.len);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(decode_u64(&d), expected[i][0]);
        assert_int_equal(decode_u64(&d), expected[i][1]);
    }
    assert_false(d.failed);
    assert_int_equal(decoder_left(&d), 0);
    read_fini(&read);
}

static void assert_extents(struct store_fixture *f, const struct object_id *id, uint64_t offset,
                           uint64_t len, uint32_t n, const uint64_t (*expected)[2])
{
    struct store_read read = {.want_extents = true};
    assert_told(f, read, id, offset, len, n, expected);
}

static void assert_same(struct store_fixture *f, const struct object_id *id,
                        const struct object_id *other, uint64_t offset, uint64_t len, uint32_t n,
                        const uint64_t (*expected)[2])
{
    struct store_read read = {.want_extents = true, .same_in = other};
    assert_told(f, read, id, offset, len, n, expected);
}

static void what_clones_share_is_the_same(void **state)
{
    struct store_fixture *f = *state;
    struct object_id id = object_named("head", 1), copy = object_named("copy", 1);
    struct object_id none = object_named("none", 1);
    enum { PIECE = 65536, SIZE = 4 * PIECE - 100 };
    uint8_t *data = pattern(SIZE, 1);
    const uint64_t all[][2] = {{0, SIZE}}, part[][2] = {{5, PIECE}};
    write_object(f, &id, 0, data, PIECE);
    write_object(f, &id, 3 * PIECE, data, SIZE - 3 * PIECE); /* With a hole between. */
    struct store_txn txn;
    txn_init(&txn);
    txn_object(&txn, &id);
    txn_clone(&txn, &copy);
    commit(f, &txn);
    assert_same(f, &id, &copy, 0, UINT64_C(1) << 30, 1, all);
    assert_same(f, &copy, &id, 5, PIECE, 1, part);
    assert_same(f, &id, &none, 0, SIZE, 0, NULL);
    write_object(f, &id, 4096 + 17, "x", 1);
    write_object(f, &id, 2 * PIECE, "y", 1);
    write_object(f, &id, 4 * PIECE - 4096 + 7, "z", 1);
    const uint64_t changed[][2] = {
        {0, 4096}, {2 * 4096, 2 * PIECE - 2 * 4096}, {2 * PIECE + 4096, 2 * PIECE - 2 * 4096}};
    assert_same(f, &id, &copy, 0, SIZE, 3, changed);
    assert_same(f, &copy, &id, 0, SIZE, 3, changed);
    fixture_reopen(f);
    assert_same(f, &id, &copy, 0, SIZE, 3, changed);
    txn_init(&txn);
    txn_object(&txn, &id);
    txn_truncate(&txn, PIECE);
    txn_truncate(&txn, 3 * PIECE);
    commit(f, &txn);
    const uint64_t cut[][2] = {{0, 4096}, {2 * 4096, 3 * PIECE - 2 * 4096}};
    assert_same(f, &copy, &id, 0, SIZE, 2, cut);
    free(data);
}

static void extents_name_all_that_is_not_a_hole(void **state)
{
    struct store_fixture *f = *state;
    struct object_id id = object_named("sparse", 1);
    enum { PIECE = 65536 };
    uint8_t *data = pattern(2 * PIECE, 1);
    const uint64_t all[][2] = {{PIECE, 2 * PIECE}, {6 * PIECE, PIECE}};
    const uint64_t cut[][2] = {{PIECE + 5, 2 * PIECE - 5}, {6 * PIECE, 7}};
    write_object(f, &id, PIECE, data, 2 * PIECE);
    write_object(f, &id, 6 * PIECE, data, PIECE);
    assert_extents(f, &id, 0, UINT64_C(1) << 30, 2, all);
    assert_extents(f, &id, PIECE + 5, 5 * PIECE + 2, 2, cut);
    assert_extents(f, &id, 3 * PIECE, 3 * PIECE, 0, NULL);
    assert_extents(f, &id, 9 * PIECE, 10, 0, NULL);
    fixture_reopen(f);
    assert_extents(f, &id, 0, 7 * PIECE, 2, all);
    free(data);
}

static void reads_end_at_the_objects_end(void **state)
{
    struct store_fixture *f = *state;
    struct object_id id = object_named("a", 1);
    write_object(f, &id, 0, "0123456789", 10);
    const struct {
        uint64_t offset, len;
        const char *expected;
    } cases[] = {{0, 10, "0123456789"}, {3, 4, "3456"}, {8, 100, "89"},
                 {10, 5, ""},           {99, 5, ""},    {4, 0, ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct store_read read = {0};
        assert_int_equal(read_object(f, &read, &id, cases[i].offset, cases[i].len), 0);
        assert_int_equal(read.stat.size, 10);
        assert_int_equal(read.data.len, strlen(cases[i].expected));
        if (read.data.len > 0)
            assert_memory_equal(read.data.data, cases[i].expected, read.data.len);
        read_fini(&read);
    }
}

static void truncating_forgets_what_was_behind(void **state)
{
    struct store_fixture *f = *state;
    struct object_id id = object_named("a", 1);
    uint8_t *data = pattern(BIG, 3);
    write_object(f, &id, 0, data, BIG);
    struct store_txn txn;
    txn_init(&txn);
    txn_object(&txn, &id);
    txn_truncate(&txn, 20001);
    txn_truncate(&txn, BIG);
    commit(f, &txn);
    memset(data + 20001, 0, BIG - 20001);
    assert_object(f, &id, data, BIG);
    txn_init(&txn);
    txn_object(&txn, &id);
    txn_zero(&txn, 10, 33000);
    txn_zero(&txn, BIG, 1000);
    commit(f, &txn);
    data = realloc(data, BIG + 1000);
    memset(data + 10, 0, 33000);
    memset(data + BIG, 0, 1000);
    assert_object(f, &id, data, BIG + 1000);
    txn_init(&txn);
    txn_object(&txn, &id);
    txn_truncate(&txn, 0);
    commit(f, &txn);
    assert_object(f, &id, "", 0);
    free(data);
}

static void empty_operations_create(void **state)
{
    struct store_fixture *f = *state;
    const char *const names[] = {"touch", "write", "zero", "truncate", "info", "attr"};
    struct store_txn txn;
    txn_init(&txn);
    for (uint32_t i = 0; i < 6; i++) {
        struct object_id id = object_named(names[i], i);
        txn_object(&txn, &id);
        switch (i) {
        case 0:
            txn_touch(&txn);
            break;
        case 1:
            txn_write(&txn, 500, 0, 0);
            break;
        case 2:
            txn_zero(&txn, 500, 0);
            break;
        case 3:
            txn_truncate(&txn, 0);
            break;
        case 4:
            txn_set_info(&txn, NULL, 0);
            break;
        default:
            txn_set_attr(&txn, "n", 1, NULL, 0);
        }
    }
    commit(f, &txn);
    for (uint32_t i = 0; i < 6; i++) {
        struct object_id id = object_named(names[i], i);
        assert_object(f, &id, "", 0);
    }
}

static void operations_of_a_transaction_see_each_other(void **state)
{
    struct store_fixture *f = *state;
    struct object_id a = object_named("a", 1), b = object_named("b", 1);
    struct store_txn txn;
    txn_init(&txn);
    txn_data(&txn, "abcdefgh", 8);
    txn_object(&txn, &a);
    txn_write(&txn, 0, 8, 0);
    txn_write(&txn, 2, 2, 6);
    txn_truncate(&txn, 6);
    txn_rename(&txn, &b);
    txn_touch(&txn);
    txn_object(&txn, &b);
    txn_write(&txn, 6, 1, 0);
    txn_object(&txn, &a);
    txn_write(&txn, 1, 1, 1);
    txn_remove(&txn);
    txn_write(&txn, 2, 1, 2);
    commit(f, &txn);
    assert_object(f, &b, "abghefa", 7);
    assert_object(f, &a, "\0\0c", 3);
}

/* ---- Info, attributes, names ---- */

static void info_and_attributes_stay_with_the_object(void **state)
{
    struct store_fixture *f = *state;
    struct object_id a = object_named("a", 1), b = object_named("b", 1);
    struct store_txn txn;
    txn_init(&txn);
    txn_object(&txn, &a);
    txn_set_info(&txn, "first", 5);
    txn_set_attr(&txn, "z", 1, "last", 4);
    txn_set_attr(&txn, "a", 1, "", 0);
    txn_set_attr(&txn, "gone", 4, "x", 1);
    txn_set_info(&txn, "info", 4);
    txn_remove_attr(&txn, "gone", 4);
    txn_rename(&txn, &b);
    commit(f, &txn);
    fixture_reopen(f);
    assert_no_object(f, &a);
    struct store_read read = {.want_attrs = true};
    assert_int_equal(read_object(f, &read, &b, 0, 0), 0);
    assert_int_equal(read.stat.info_len, 4);
    assert_memory_equal(read.stat.info, "info", 4);
    struct decoder d;
    uint16_t name_len;
    uint32_t len;
    decoder_init(&d, read.attrs.data, read.attrs.len);
    assert_memory_equal(decode_string16(&d, &name_len), "a", 1);
    (void)decode_string32(&d, &len);
    assert_int_equal(len, 0);
    assert_memory_equal(decode_string16(&d, &name_len), "z", 1);
    assert_memory_equal(decode_string32(&d, &len), "last", 4);
    assert_int_equal(decoder_end(&d), 0);
    read_fini(&read);
}

static void removed_object_leaves_nothing_to_its_successor(void **state)
{
    struct store_fixture *f = *state;
    struct object_id a = object_named("a", 1);
    uint8_t *data = pattern(BIG, 4);
    struct store_txn txn;
    write_object(f, &a, 0, data, BIG);
    txn_init(&txn);
    txn_object(&txn, &a);
    txn_set_attr(&txn, "n", 1, "v", 1);
    txn_set_info(&txn, "i", 1);
    commit(f, &txn);
    txn_init(&txn);
    txn_object(&txn, &a);
    txn_remove(&txn);
    txn_remove(&txn);
    commit(f, &txn);
    assert_no_object(f, &a);
    write_object(f, &a, 5, "x", 1);
    assert_object(f, &a, "\0\0\0\0\0x", 6);
    struct store_read read = {.want_attrs = true};
    assert_int_equal(read_object(f, &read, &a, 0, 0), 0);
    assert_int_equal(read.stat.info_len, 0);
    assert_int_equal(read.attrs.len, 0);
    read_fini(&read);
    free(data);
}

/* What an object of this size takes: the engine counts blocks. */
static uint64_t space_of(const struct store_fixture *f, uint64_t size)
{
    return f->disk ? size : (size + 4095) / 4096 * 4096;
}

static void rename_replaces_its_target(void **state)
{
    struct store_fixture *f = *state;
    struct object_id a = object_named("a", 1), b = object_named("b", 1), c = object_named("c", 1);
    uint8_t *data = pattern(BIG, 5);
    write_object(f, &a, 0, "short", 5);
    write_object(f, &b, 0, data, BIG);
    struct store_txn txn;
    txn_init(&txn);
    txn_object(&txn, &a);
    txn_rename(&txn, &b);
    txn_object(&txn, &c);
    txn_rename(&txn, &a);
    txn_object(&txn, &b);
    txn_rename(&txn, &b);
    commit(f, &txn);
    assert_no_object(f, &a);
    assert_no_object(f, &c);
    assert_object(f, &b, "short", 5);
    struct store_statfs fs;
    f->store->ops->statfs(f->store, &fs);
    assert_int_equal(fs.bytes_used, space_of(f, 5));
    free(data);
}

static void space_is_the_sum_of_its_objects(void **state)
{
    struct store_fixture *f = *state;
    struct object_id a = object_named("a", 1), b = object_named("b", 2);
    struct store_statfs fs;
    f->store->ops->statfs(f->store, &fs);
    uint64_t total = fs.bytes_total, used = space_of(f, 900) + space_of(f, 3);
    assert_in_range(total, FIXTURE_BYTES_TOTAL / 10 * 9, FIXTURE_BYTES_TOTAL);
    assert_int_equal(fs.bytes_used, 0);
    write_object(f, &a, 1000, "x", 1);
    write_object(f, &b, 0, "xyz", 3);
    struct store_txn txn;
    txn_init(&txn);
    txn_object(&txn, &a);
    txn_truncate(&txn, 900);
    commit(f, &txn);
    f->store->ops->statfs(f->store, &fs);
    assert_int_equal(fs.bytes_used, used);
    assert_int_equal(fs.bytes_available, total - used);
    fixture_reopen(f);
    f->store->ops->statfs(f->store, &fs);
    assert_int_equal(fs.bytes_total, total);
    assert_int_equal(fs.bytes_used, used);
}

/* ---- Listing ---- */

/* Names that only a careful encoding keeps in order, with bytes 0 and 255 in them. */
static const struct {
    const char *text;
    uint16_t len;
} hard_names[] = {{"", 0},         {"\0", 1},    {"\0\0", 2},  {"\0\1", 2}, {"\0\377", 2},
                  {"\1", 1},       {"a", 1},     {"a\0", 2},   {"a\0b", 3}, {"a\0\377", 3},
                  {"a\0\377x", 4}, {"a\1", 2},   {"a\377", 2}, {"ab", 2},   {"\377", 1},
                  {"\377\377", 2}, {"\377\0", 2}};
enum { N_HARD_NAMES = sizeof hard_names / sizeof *hard_names };

static void make_hard_objects(struct store_fixture *f)
{
    const uint32_t hashes[] = {0, 1, 0x80000000u, UINT32_MAX, 0x12345678u};
    struct store_txn txn;
    txn_init(&txn);
    for (uint32_t h = 0; h < 5; h++) {
        for (uint32_t s = 0; s < N_HARD_NAMES; s += 3) {
            for (uint32_t n = 0; n < N_HARD_NAMES; n++) {
                struct object_id id = {
                    .pool = 1 + (h & 1),
                    .hash = hashes[h],
                    .space = (const uint8_t *)hard_names[s].text,
                    .space_len = hard_names[s].len,
                    .name = (const uint8_t *)hard_names[n].text,
                    .name_len = hard_names[n].len,
                    .snap = n % 2 ? OBJECT_HEAD : n,
                };
                txn_object(&txn, &id);
                txn_truncate(&txn, n);
                txn_set_info(&txn, &n, (uint16_t)(n % 4));
            }
        }
    }
    commit(f, &txn);
}

/* Lists all of a pool in pieces and checks their order; returns how many there are. */
static uint32_t count_listed(struct store_fixture *f, uint64_t pool, uint32_t first, uint32_t last,
                             uint32_t max)
{
    uint32_t n = 0;
    struct object_id *after = NULL;
    for (;;) {
        struct store_list list = {
            .pool = pool, .first = first, .last = last, .after = after, .max = max};
        run_list(f, &list);
        for (uint32_t i = 0; i < list.n; i++) {
            const struct store_list_entry *entry = &list.entries[i];
            uint32_t reversed = object_hash_reverse(entry->id.hash);
            assert_int_equal(entry->id.pool, pool);
            assert_true(reversed >= first && reversed <= last);
            assert_true(!after || object_compare(after, &entry->id) < 0);
            assert_int_equal(entry->info_len, entry->size % 4);
            free(after);
            after = object_id_copy(&entry->id);
        }
        n += list.n;
        bool end = list.end;
        assert_true(end || list.n == max);
        list_fini(&list);
        if (end)
            break;
    }
    free(after);
    return n;
}

static void listing_is_in_order_and_complete(void **state)
{
    struct store_fixture *f = *state;
    enum { EACH = 6 * N_HARD_NAMES };
    make_hard_objects(f);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(count_listed(f, 1, 0, UINT32_MAX, 1024), 3 * EACH);
        assert_int_equal(count_listed(f, 1, 0, UINT32_MAX, 1), 3 * EACH);
        assert_int_equal(count_listed(f, 2, 0, UINT32_MAX, 7), 2 * EACH);
        assert_int_equal(count_listed(f, 3, 0, UINT32_MAX, 7), 0);
        /* Hash 1 reversed is the highest bit. */
        assert_int_equal(count_listed(f, 2, 0x80000000u, 0x80000000u, 10), EACH);
        assert_int_equal(count_listed(f, 1, 0, 0, 10), EACH);
        assert_int_equal(count_listed(f, 1, 1, 1, 10), EACH);
        assert_int_equal(count_listed(f, 1, 2, 0x1e6a2c47u, 10), 0);
        fixture_reopen(f);
    }
}

struct outcome {
    struct store_txn txn;
    bool done;
    int error;
};

static void outcome_done(struct store_txn *txn, int error)
{
    struct outcome *o = container_of(txn, struct outcome, txn);
    o->done = true;
    o->error = error;
}

/* While an object is being removed, a listing has it as it was at last, or no more. */
static void a_listing_shows_nothing_older_than_what_was_committed(void **state)
{
    struct store_fixture *f = *state;
    const struct object_id id = object_named("leaves", 1);
    for (char old = 'a'; old < 'k'; old++) {
        struct store_txn txn;
        txn_init(&txn);
        txn_object(&txn, &id);
        txn_set_info(&txn, &old, 1);
        commit(f, &txn);
        fixture_reopen(f); /* Now the index has it so. */
        txn_init(&txn);
        txn_object(&txn, &id);
        txn_set_info(&txn, "new", 3);
        commit(f, &txn);
        struct outcome removal = {0};
        txn_init(&removal.txn);
        removal.txn.done = outcome_done;
        txn_object(&removal.txn, &id);
        txn_remove(&removal.txn);
        store_submit(f->store, &removal.txn);
        while (!removal.done) {
            struct store_list list = {.pool = 1, .last = UINT32_MAX, .max = 1024};
            run_list(f, &list);
            assert_true(list.n <= 1);
            if (list.n > 0) {
                assert_int_equal(list.entries[0].info_len, 3);
                assert_memory_equal(list.entries[0].info, "new", 3);
            }
            list_fini(&list);
        }
        assert_int_equal(removal.error, 0);
        txn_fini(&removal.txn);
    }
}

/* ---- Pairs of placement groups ---- */

static void set_pairs(struct store_fixture *f, struct pg_id pg, uint8_t n)
{
    struct store_txn txn;
    txn_init(&txn);
    for (uint8_t i = 0; i < n; i++) {
        uint8_t key[2] = {'k', i};
        txn_pg_set(&txn, pg, key, 2, key + 1, 1);
    }
    commit(f, &txn);
}

/* Reads pairs between two last bytes of keys. */
static struct store_pg_read pairs_between(struct store_fixture *f, struct pg_id pg, uint8_t from,
                                          uint8_t to, uint32_t max, bool reverse)
{
    struct store_pg_read read = {.pg = pg,
                                 .from = {'k', from},
                                 .from_len = 2,
                                 .to = {'k', to},
                                 .to_len = 2,
                                 .max = max,
                                 .reverse = reverse};
    run_pg_read(f, &read);
    return read;
}

static void assert_pairs(struct store_pg_read *read, uint32_t n, int first, int step)
{
    struct decoder d;
    decoder_init(&d, read->pairs.data, read->pairs.len);
    assert_int_equal(read->n, n);
    for (uint32_t i = 0; i < n; i++) {
        uint16_t key_len;
        uint32_t len;
        const uint8_t *key = decode_string16(&d, &key_len);
        assert_int_equal(key_len, 2);
        assert_int_equal(key[1], first + (int)i * step);
        const uint8_t *value = decode_string32(&d, &len);
        assert_int_equal(len, 1);
        assert_int_equal(value[0], key[1]);
    }
    assert_int_equal(decoder_end(&d), 0);
    encoder_fini(&read->pairs);
}

static void visit_pg(void *ctx, struct pg_id pg)
{
    uint64_t *sum = ctx;
    *sum = *sum * 1000 + pg.pool * 100 + pg.seed;
}

static void pairs_are_ordered_and_ranges_are_removed(void **state)
{
    struct store_fixture *f = *state;
    const struct pg_id pg = {1, 2}, neighbour = {1, 3}, far = {2, 0};
    set_pairs(f, far, 3);
    set_pairs(f, pg, 200);
    set_pairs(f, neighbour, 5);
    struct store_pg_read read = pairs_between(f, pg, 0, 255, 0, false);
    assert_pairs(&read, 200, 0, 1);
    read = pairs_between(f, pg, 10, 20, 0, true);
    assert_pairs(&read, 10, 19, -1);
    read = pairs_between(f, pg, 10, 255, 3, false);
    assert_pairs(&read, 3, 10, 1);
    read = pairs_between(f, pg, 10, 255, 3, true);
    assert_pairs(&read, 3, 199, -1);
    read = pairs_between(f, pg, 20, 20, 0, false);
    assert_pairs(&read, 0, 0, 0);
    read = pairs_between(f, pg, 20, 10, 0, true);
    assert_pairs(&read, 0, 0, 0);

    struct store_txn txn;
    txn_init(&txn);
    txn_pg_set(&txn, pg, "k\302", 2, "\302", 1);
    txn_pg_remove_range(&txn, pg, "", 0, "k\144", 2);
    txn_pg_remove_range(&txn, pg, "k\300", 2, "k\377", 2);
    txn_pg_set(&txn, pg, "k\301", 2, "\301", 1);
    txn_pg_remove_range(&txn, neighbour, "a", 1, "z", 1);
    commit(f, &txn);
    fixture_reopen(f);
    read = pairs_between(f, pg, 0, 190, 0, false);
    assert_pairs(&read, 90, 100, 1);
    read = pairs_between(f, pg, 191, 255, 0, false);
    assert_pairs(&read, 2, 191, 2);
    uint64_t sum = 0;
    assert_int_equal(f->store->ops->pgs(f->store, visit_pg, &sum), 0);
    assert_int_equal(sum, 102200);
}

/* ---- Order and bounds ---- */

struct ordered_txn {
    struct store_txn txn;
    uint32_t number;
    uint32_t *next;
};

static void ordered_done(struct store_txn *txn, int error)
{
    struct ordered_txn *ordered = container_of(txn, struct ordered_txn, txn);
    assert_int_equal(error, 0);
    assert_int_equal(*ordered->next, ordered->number);
    (*ordered->next)++;
}

static void many_transactions_commit_in_order(void **state)
{
    struct store_fixture *f = *state;
    enum { N = 500 };
    static struct ordered_txn txns[N];
    uint32_t next = 0;
    struct object_id id = object_named("counter", 9);
    uint8_t *expected = calloc(1, N);
    for (uint32_t i = 0; i < N; i++) {
        struct ordered_txn *t = &txns[i];
        uint8_t byte = (uint8_t)i;
        txn_init(&t->txn);
        txn_data(&t->txn, &byte, 1);
        txn_object(&t->txn, &id);
        /* Every one also overwrites what the one before wrote. */
        txn_write(&t->txn, i, 1, 0);
        if (i > 0)
            txn_zero(&t->txn, i - 1, 1);
        t->txn.done = ordered_done;
        t->number = i;
        t->next = &next;
        store_submit(f->store, &t->txn);
    }
    bool done = false;
    while (!done) {
        struct store_read read = {0};
        assert_true(read_object(f, &read, &id, 0, 1) <= 0);
        read_fini(&read);
        done = next == N;
    }
    expected[N - 1] = (uint8_t)(N - 1);
    assert_object(f, &id, expected, N);
    for (uint32_t i = 0; i < N; i++)
        txn_fini(&txns[i].txn);
    free(expected);
}

static void largest_object_fits(void **state)
{
    struct store_fixture *f = *state;
    struct object_id id = object_named("huge", 9);
    struct store_txn txn;
    txn_init(&txn);
    txn_data(&txn, "x", 1);
    txn_object(&txn, &id);
    txn_write(&txn, OBJECT_SIZE_MAX - 1, 1, 0);
    commit(f, &txn);
    struct store_read read = {0};
    assert_int_equal(read_object(f, &read, &id, OBJECT_SIZE_MAX - 2, 100), 0);
    assert_int_equal(read.stat.size, OBJECT_SIZE_MAX);
    assert_int_equal(read.data.len, 2);
    assert_memory_equal(read.data.data, "\0x", 2);
    read_fini(&read);
    txn_init(&txn);
    txn_object(&txn, &id);
    txn_remove(&txn);
    commit(f, &txn);
    assert_no_object(f, &id);
}

/* ---- The same random history on both stores ---- */

struct random {
    uint64_t state;
};

static uint32_t next_random(struct random *random, uint32_t n)
{
    random->state = random->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random->state >> 33) % n;
}

enum { RANDOM_NAMES = 12, RANDOM_DATA = 90000 };

static struct object_id random_object(struct random *random)
{
    static const char *const names[RANDOM_NAMES] = {"a", "b", "c", "d", "e", "f",
                                                    "g", "h", "i", "j", "k", "l"};
    uint32_t i = next_random(random, RANDOM_NAMES);
    return object_named(names[i], i / 4);
}

static void random_op(struct random *random, struct store_txn *txn)
{
    static const char *const attrs[] = {"x", "yy", "zzz"};
    struct object_id id = random_object(random), to = random_object(random);
    uint32_t offset =
        next_random(random, 3) ? next_random(random, 60000) : 16384 * next_random(random, 4);
    uint32_t len =
        next_random(random, 3) ? next_random(random, 30000) : 16384 * next_random(random, 2);
    const char *attr = attrs[next_random(random, 3)];
    uint8_t key = (uint8_t)next_random(random, 60), end = (uint8_t)next_random(random, 60);
    const struct pg_id pg = {1, next_random(random, 2)};
    txn_object(txn, &id);
    switch (next_random(random, 14)) {
    case 0:
        txn_remove(txn);
        break;
    case 1:
        txn_truncate(txn, offset);
        break;
    case 2:
    case 3:
        txn_zero(txn, offset, len);
        break;
    case 4:
        txn_set_info(txn, &offset, (uint16_t)next_random(random, 5));
        break;
    case 5:
        txn_set_attr(txn, attr, (uint16_t)strlen(attr), &len, 4);
        break;
    case 6:
        txn_remove_attr(txn, attr, (uint16_t)strlen(attr));
        break;
    case 7:
        to.hash = id.hash;
        txn_rename(txn, &to);
        break;
    case 8:
        txn_pg_set(txn, pg, &key, 1, &offset, 4);
        break;
    case 9:
        txn_pg_remove_range(txn, pg, &key, 1, &end, 1);
        break;
    default:
        txn_write(txn, offset, len, next_random(random, RANDOM_DATA - len));
    }
}

static void append_all(struct store_fixture *f, struct encoder *out)
{
    struct store_list list = {.pool = 1, .last = UINT32_MAX, .max = 1024};
    run_list(f, &list);
    assert_true(list.end);
    for (uint32_t i = 0; i < list.n; i++) {
        const struct store_list_entry *entry = &list.entries[i];
        struct store_read read = {.want_attrs = true};
        assert_int_equal(read_object(f, &read, &entry->id, 0, OBJECT_SIZE_MAX), 0);
        encode_object_id(out, &entry->id);
        encode_u64(out, entry->size);
        encode_string16(out, entry->info, entry->info_len);
        encode_string16(out, read.stat.info, read.stat.info_len);
        encode_string32(out, read.data.data, read.data.len);
        encode_string32(out, read.attrs.data, read.attrs.len);
        read_fini(&read);
    }
    list_fini(&list);
    for (uint32_t seed = 0; seed < 2; seed++) {
        struct store_pg_read read = {
            .pg = {1, seed}, .to = {255}, .to_len = 1, .reverse = seed == 1};
        run_pg_read(f, &read);
        encode_string32(out, read.pairs.data, read.pairs.len);
        encoder_fini(&read.pairs);
    }
}

static void both_stores_agree_on_random_histories(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        void *memory, *engine;
        assert_int_equal(fixture_memory(&memory), 0);
        assert_int_equal(fixture_engine(&engine), 0);
        uint8_t *data = pattern(RANDOM_DATA, (uint32_t)seed);
        for (uint32_t round = 0; round < 40; round++) {
            for (int which = 0; which < 2; which++) {
                struct random random = {seed * 1000 + round};
                struct store_txn txn;
                txn_init(&txn);
                txn_data(&txn, data, RANDOM_DATA);
                for (uint32_t n = next_random(&random, 12); n > 0; n--)
                    random_op(&random, &txn);
                commit(which ? engine : memory, &txn);
            }
            if (round % 15 == 14)
                fixture_reopen(engine);
            struct encoder a, b;
            encoder_init(&a);
            encoder_init(&b);
            append_all(memory, &a);
            append_all(engine, &b);
            if (a.len != b.len || memcmp(a.data, b.data, a.len) != 0)
                fail_msg("the stores differ: seed %d, round %u", (int)seed, round);
            encoder_fini(&a);
            encoder_fini(&b);
        }
        free(data);
        assert_int_equal(fixture_teardown(&memory), 0);
        assert_int_equal(fixture_teardown(&engine), 0);
    }
}

#define ON_BOTH(test)                                                                              \
    {#test " (memory)", test, fixture_memory, fixture_teardown, NULL},                             \
    {                                                                                              \
#test " (engine)", test, fixture_engine, fixture_teardown, NULL                            \
    }

/* ---- Damage ---- */

/* A write under way counts as what waits or as what is used, never as both. */
static void space_of_a_write_under_way_counts_once(void **state)
{
    struct store_fixture *f = *state;
    const struct object_id id = object_named("a", 1);
    uint8_t *data = pattern(BIG, 7);
    struct outcome o = {0};
    txn_init(&o.txn);
    txn_data(&o.txn, data, BIG);
    txn_object(&o.txn, &id);
    txn_write(&o.txn, 0, BIG, 0);
    o.txn.done = outcome_done;
    uint64_t limit = space_of(f, BIG + o.txn.ops.len);
    store_submit(f->store, &o.txn);
    while (!o.done) {
        struct store_statfs fs;
        f->store->ops->statfs(f->store, &fs);
        assert_in_range(fs.bytes_used, 0, limit);
        env_real_turn(f->env, true);
    }
    assert_int_equal(o.error, 0);
    txn_fini(&o.txn);
    free(data);
}

/* Like write_object(); tells whether the store had to say something about it. */
static bool write_damaged(struct store_fixture *f, const struct object_id *id, uint64_t offset,
                          const void *data, size_t len)
{
    struct outcome o = {0};
    txn_init(&o.txn);
    txn_data(&o.txn, data, len);
    txn_object(&o.txn, id);
    txn_write(&o.txn, offset, len, 0);
    o.txn.done = outcome_done;
    store_submit(f->store, &o.txn);
    wait_until(f, &o.done);
    assert_int_equal(o.error, 0);
    bool damaged = o.txn.damaged;
    txn_fini(&o.txn);
    return damaged;
}

static void assert_unreadable(struct store_fixture *f, const struct object_id *id, uint64_t offset)
{
    struct store_read read = {0};
    assert_int_equal(read_object(f, &read, id, offset, 1), -EIO);
    read_fini(&read);
}

static void a_damaged_block_that_is_written_in_part_stays_unreadable(void **state)
{
    struct store_fixture *f = *state;
    const struct object_id id = object_named("damaged", 1), copy = object_named("copy", 1);
    uint8_t *data = malloc(BIG);
    assert_non_null(data);
    struct random random = {.state = 7}; /* No part is like another one. */
    for (size_t i = 0; i < BIG; i++)
        data[i] = (uint8_t)next_random(&random, 256);
    write_object(f, &id, 0, data, BIG);
    fixture_flip(f, data + 4096 + 100, 64);
    assert_true(write_damaged(f, &id, 4096 + 2000, "part", 4));
    put_bytes(data + 4096 + 2000, "part", 4);
    assert_unreadable(f, &id, 4096); /* What is in the cache, */
    fixture_reopen(f);
    assert_unreadable(f, &id, 4096 + 2000); /* and what is on the disk. */
    assert_true(write_damaged(f, &id, 8191, "xy", 2));
    put_bytes(data + 8191, "xy", 2);

    struct store_txn txn;
    txn_init(&txn);
    txn_object(&txn, &id);
    txn_clone(&txn, &copy);
    commit(f, &txn);
    assert_true(write_damaged(f, &copy, 5000, "z", 1));
    assert_unreadable(f, &copy, 5000);

    /* Other blocks are as good as ever, and so is this one when it is written as a whole. */
    struct store_read read = {0};
    assert_int_equal(read_object(f, &read, &id, 8192, 100), 0);
    assert_memory_equal(read.data.data, data + 8192, 100);
    read_fini(&read);
    assert_false(write_damaged(f, &id, 4096, data + 4096, 4096));
    assert_object(f, &id, data, BIG);
    fixture_reopen(f);
    assert_object(f, &id, data, BIG);
    assert_unreadable(f, &copy, 5000);
    free(data);
}

static void nothing_commits_after_a_chained_transaction_failed(void **state)
{
    struct store_fixture *f = *state;
    const struct object_id id = object_named("after", 1);
    struct outcome bad = {0}, after = {0};
    txn_init(&bad.txn);
    bad.txn.done = outcome_done;
    bad.txn.chained = true;
    encode_u64(&bad.txn.ops, UINT64_MAX); /* Nothing that could be executed. */
    txn_init(&after.txn);
    after.txn.done = outcome_done;
    txn_object(&after.txn, &id);
    txn_touch(&after.txn);
    store_submit(f->store, &bad.txn);
    store_submit(f->store, &after.txn);
    wait_until(f, &after.done);
    assert_true(bad.done && bad.error != 0 && after.error != 0);
    txn_fini(&bad.txn);
    txn_fini(&after.txn);
    fixture_reopen(f);
    assert_no_object(f, &id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(writes_are_read_back),
        ON_BOTH(gaps_read_as_zeroes),
        ON_BOTH(extents_name_all_that_is_not_a_hole),
        ON_BOTH(what_clones_share_is_the_same),
        ON_BOTH(reads_end_at_the_objects_end),
        ON_BOTH(truncating_forgets_what_was_behind),
        ON_BOTH(empty_operations_create),
        ON_BOTH(operations_of_a_transaction_see_each_other),
        ON_BOTH(info_and_attributes_stay_with_the_object),
        ON_BOTH(removed_object_leaves_nothing_to_its_successor),
        ON_BOTH(rename_replaces_its_target),
        ON_BOTH(space_is_the_sum_of_its_objects),
        ON_BOTH(space_of_a_write_under_way_counts_once),
        ON_BOTH(listing_is_in_order_and_complete),
        ON_BOTH(a_listing_shows_nothing_older_than_what_was_committed),
        ON_BOTH(pairs_are_ordered_and_ranges_are_removed),
        ON_BOTH(many_transactions_commit_in_order),
        ON_BOTH(largest_object_fits),
        ON_BOTH(nothing_commits_after_a_chained_transaction_failed),
        cmocka_unit_test_setup_teardown(a_damaged_block_that_is_written_in_part_stays_unreadable,
                                        fixture_engine, fixture_teardown),
        cmocka_unit_test(both_stores_agree_on_random_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
