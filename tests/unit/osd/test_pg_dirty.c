/* Which blocks a write changes, and what is remembered of them. */
#include "tests/lib/test.h"

#include <stdio.h>
#include <string.h>

#include "osd/pg/pg_dirty.h"
#include "osd/pg/pg_extents.h"

static const struct object_id object = {
    .pool = 7,
    .name_len = 4,
    .name = (const uint8_t *)"name",
    .snap = OBJECT_HEAD,
};

/* ---- Extents of a write ---- */

static void assert_extents(const struct pg_extents *extents, const char *text)
{
    char out[256] = "";
    for (uint8_t i = 0; i < extents->n && extents->n != PG_EXTENTS_WHOLE; i++)
        (void)snprintf(out + strlen(out), sizeof out - strlen(out), "%u-%u ",
                       extents->extents[i].first, extents->extents[i].end);
    assert_string_equal(out, text);
}

static void neighbours_become_one_range(void **state)
{
    (void)state;
    struct pg_extents extents = {0};
    pg_extents_add(&extents, 10, 12);
    pg_extents_add(&extents, 4, 5);
    pg_extents_add(&extents, 12, 13);
    assert_extents(&extents, "4-5 10-13 ");
    pg_extents_add(&extents, 5, 11);
    assert_extents(&extents, "4-13 ");
    pg_extents_add(&extents, 20, 20);
    assert_extents(&extents, "4-13 ");
}

static void too_many_ranges_lose_the_smallest_gap(void **state)
{
    (void)state;
    struct pg_extents extents = {0};
    for (uint32_t i = 0; i < PG_EXTENTS_MAX; i++)
        pg_extents_add(&extents, i * 100, i * 100 + 1);
    pg_extents_add(&extents, 250, 260);
    assert_int_equal(extents.n, PG_EXTENTS_MAX);
    assert_extents(&extents, "0-1 100-101 200-201 250-301 400-401 500-501 600-601 700-701 ");
}

static void extents_of_operations(void **state)
{
    (void)state;
    struct store_txn txn;
    struct pg_extents extents;
    txn_init(&txn);
    txn_object(&txn, &object);
    txn_write(&txn, 4095, 2, 0);
    txn_truncate(&txn, 40960);
    txn_set_attr(&txn, "a", 1, "b", 1);
    pg_extents_of(&txn.ops, 2, true, &extents);
    assert_extents(&extents, "0-2 10-32768 ");
    pg_extents_of(&txn.ops, 2, false, &extents);
    assert_int_equal(extents.n, PG_EXTENTS_WHOLE);
    txn_remove_attr(&txn, "a", 1);
    pg_extents_of(&txn.ops, 2, true, &extents);
    assert_int_equal(extents.n, PG_EXTENTS_WHOLE);
    txn_fini(&txn);
}

/* ---- What is remembered ---- */

static void note(struct pg_dirty *dirty, uint64_t config, uint64_t sequence, const char *name,
                 uint8_t n, uint16_t first, uint16_t end)
{
    uint8_t bytes[sizeof(struct pg_entry_layout) + 64];
    struct pg_entry_layout head = {
        .layout = PG_LAYOUT_VERSION,
        .kind = PG_ENTRY_MODIFY,
        .object_len = (uint16_t)strlen(name),
        .version = {.config = config, .sequence = sequence},
        .n_extents = n,
    };
    struct pg_extent_layout extent = {.first = first, .end = end};
    memcpy(bytes, &head, sizeof head);
    memcpy(bytes + sizeof head, name, head.object_len);
    memcpy(bytes + sizeof head + head.object_len, &extent, sizeof extent);
    pg_dirty_note(dirty, bytes);
}

static const struct pg_dirty_object *find(const struct pg_dirty *dirty, const char *name)
{
    return pg_dirty_find(dirty, name, (uint16_t)strlen(name));
}

static void remembers_blocks_since_the_start(void **state)
{
    (void)state;
    size_t total = 0;
    uint32_t first, end;
    struct pg_dirty dirty;
    pg_dirty_init(&dirty, &total);
    pg_dirty_start(&dirty, (struct wire_version){.config = 3, .sequence = 10});
    note(&dirty, 3, 11, "a", 1, 5, 7);
    note(&dirty, 3, 12, "b", PG_EXTENTS_WHOLE, 0, 0);
    note(&dirty, 4, 13, "a", 1, 100, PG_BLOCKS_MAX);
    note(&dirty, 4, 14, "c", 0, 0, 0);
    assert_true(pg_dirty_next(find(&dirty, "a"), 0, 200, &first, &end));
    assert_true(first == 5 && end == 7);
    assert_true(pg_dirty_next(find(&dirty, "a"), end, 200, &first, &end));
    assert_true(first == 100 && end == 200);
    assert_true(find(&dirty, "b")->whole);
    assert_false(pg_dirty_next(find(&dirty, "c"), 0, 200, &first, &end));
    assert_int_equal(find(&dirty, "a")->last, 13);
    assert_null(find(&dirty, "d"));
    pg_dirty_stop(&dirty);
    assert_int_equal(total, 0);
}

static void knows_versions_of_our_log_only(void **state)
{
    (void)state;
    size_t total = 0;
    struct pg_dirty dirty;
    pg_dirty_init(&dirty, &total);
    pg_dirty_start(&dirty, (struct wire_version){.config = 3, .sequence = 10});
    note(&dirty, 3, 11, "a", 0, 0, 0);
    note(&dirty, 5, 12, "a", 0, 0, 0);
    note(&dirty, 5, 13, "a", 0, 0, 0);
    assert_true(pg_dirty_reaches(&dirty, (struct wire_version){3, 10}));
    assert_true(pg_dirty_reaches(&dirty, (struct wire_version){3, 11}));
    assert_true(pg_dirty_reaches(&dirty, (struct wire_version){5, 13}));
    assert_false(pg_dirty_reaches(&dirty, (struct wire_version){3, 9}));
    assert_false(pg_dirty_reaches(&dirty, (struct wire_version){2, 10}));
    assert_false(pg_dirty_reaches(&dirty, (struct wire_version){3, 12}));
    assert_false(pg_dirty_reaches(&dirty, (struct wire_version){5, 14}));
    pg_dirty_cut(&dirty, 11);
    assert_false(pg_dirty_reaches(&dirty, (struct wire_version){5, 12}));
    note(&dirty, 6, 12, "a", 0, 0, 0);
    assert_true(pg_dirty_reaches(&dirty, (struct wire_version){6, 12}));
    note(&dirty, 6, 14, "a", 0, 0, 0); /* A gap: it cannot say anything any more. */
    assert_false(dirty.tracking);
    pg_dirty_stop(&dirty);
}

static void gives_up_when_it_grows_too_large(void **state)
{
    (void)state;
    size_t total = PG_DIRTY_BYTES_MAX - 100000;
    struct pg_dirty dirty;
    char name[16];
    pg_dirty_init(&dirty, &total);
    pg_dirty_start(&dirty, (struct wire_version){.config = 3, .sequence = 0});
    for (uint64_t i = 1; i < 2000; i++) {
        (void)snprintf(name, sizeof name, "o%lu", i);
        note(&dirty, 3, i, name, 1, 0, 1);
        assert_true(total <= PG_DIRTY_BYTES_MAX);
    }
    assert_false(dirty.tracking);
    assert_int_equal(total, PG_DIRTY_BYTES_MAX - 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_become_one_range),
        cmocka_unit_test(too_many_ranges_lose_the_smallest_gap),
        cmocka_unit_test(extents_of_operations),
        cmocka_unit_test(remembers_blocks_since_the_start),
        cmocka_unit_test(knows_versions_of_our_log_only),
        cmocka_unit_test(gives_up_when_it_grows_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
