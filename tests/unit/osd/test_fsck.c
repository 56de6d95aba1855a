/*
 * The offline check against stores that were damaged on purpose: each invariant is violated once,
 * by changing the index or the disk of a closed store. The check must name it; a repair must mend
 * what can be mended, and never at the price of data that are good.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/env_real.h"
#include "osd/store/engine_fsck.h"
#include "osd/store/store_engine.h"
#include "tests/unit/osd/store_fixture.h"

enum { BYTES = 200 * 1024, STRANGER = 999 };

struct patient {
    struct store_fixture *f;
    struct store_engine_parts parts;
    struct encoder batch; /* Changes of the index. */
    uint8_t *data[4];     /* Of the objects a, b, c. */
    char findings[4096];
    struct fsck_report report;
};

static const char *const names[] = {"a", "b", "c", "copy", "map"};

static struct object_id id_of(int n)
{
    return object_named(names[n], 7);
}

/* ---- Opening a closed store ---- */

static void open_parts(struct patient *p)
{
    char dir[300], why[256];
    fixture_close(p->f);
    env_real_turn(p->f->env, false);
    snprintf(dir, sizeof dir, "%s/store", p->f->path);
    assert_int_equal(store_engine_parts_open(p->f->env, dir, &p->parts, why), 0);
}

static void open_again(struct patient *p)
{
    const struct store_engine_options options = {.memory_target = 64 << 20};
    char dir[300], why[256];
    store_engine_parts_close(p->f->env, &p->parts);
    snprintf(dir, sizeof dir, "%s/store", p->f->path);
    if (store_engine_open(p->f->env, dir, &options, &p->f->store, why) < 0)
        fail_msg("%s", why);
}

static void on_finding(void *ctx, const char *line)
{
    struct patient *p = ctx;
    size_t used = strlen(p->findings);
    snprintf(p->findings + used, sizeof p->findings - used, "%s\n", line);
}

static void check(struct patient *p, bool deep, bool repair)
{
    const struct fsck_options options = {
        .deep = deep, .repair = repair, .finding = on_finding, .ctx = p};
    char why[256];
    p->findings[0] = 0;
    if (engine_fsck(p->f->env, p->parts.disk, p->parts.index, &options, &p->report, why) < 0)
        fail_msg("%s", why);
}

static void apply(struct patient *p)
{
    assert_int_equal(index_apply(p->parts.index, &p->batch), 0);
    assert_int_equal(p->parts.index->ops->flush(p->parts.index), 0);
    encoder_reset(&p->batch);
}

/* ---- Records ---- */

static struct onode get_object(struct patient *p, int n)
{
    uint8_t key[ENGINE_KEY_MAX];
    struct object_id id = id_of(n);
    struct encoder value;
    struct onode o = {0};
    encoder_init(&value);
    encoder_init(&o.attrs);
    assert_int_equal(index_get(p->parts.index, key, object_key(&id, key), &value, true), 1);
    assert_int_equal(object_decode(value.data, value.len, UINT32_MAX, &o), 0);
    encoder_fini(&value);
    return o;
}

static void object_free(struct onode *o)
{
    for (uint32_t i = 0; i < o->n_chunks; i++)
        free(o->chunks[i]);
    free(o->chunks);
    encoder_fini(&o->attrs);
}

static void put_object(struct patient *p, int n, struct onode *o)
{
    uint8_t key[ENGINE_KEY_MAX];
    struct object_id id = id_of(n);
    struct encoder value;
    encoder_init(&value);
    onode_encode(o, &value);
    index_batch_put(&p->batch, key, object_key(&id, key), value.data, value.len);
    encoder_fini(&value);
    object_free(o);
    apply(p);
}

/* The first record of a kind. */
static size_t first_of(struct patient *p, enum index_key kind, uint8_t key[64],
                       struct encoder *value)
{
    uint8_t from = (uint8_t)kind, to = (uint8_t)(kind + 1);
    const void *found, *data;
    size_t found_len, len;
    struct index_iter *iter;
    assert_int_equal(index_iterate(p->parts.index, &from, 1, &to, 1, false, true, &iter), 0);
    assert_int_equal(index_next(p->parts.index, iter, &found, &found_len, &data, &len), 1);
    assert_true(found_len <= 64);
    memcpy(key, found, found_len);
    encode_bytes(value, data, len);
    p->parts.index->ops->iter_free(iter);
    return found_len;
}

/* ---- Damage ---- */

static void map_a_block_of_another(struct patient *p)
{
    struct onode a = get_object(p, 0), b = get_object(p, 1);
    b.chunks[0]->block[3] = a.chunks[0]->block[3];
    object_free(&a);
    put_object(p, 1, &b);
}

static void map_the_journal(struct patient *p)
{
    struct onode b = get_object(p, 1);
    b.chunks[0]->block[3] = 300;
    put_object(p, 1, &b);
}

static void map_beyond_the_size(struct patient *p)
{
    struct onode b = get_object(p, 1);
    b.size = 3 * BLOCK_BYTES;
    put_object(p, 1, &b);
}

static void use_a_number_twice(struct patient *p)
{
    struct onode a = get_object(p, 0), b = get_object(p, 1);
    b.nid = a.nid;
    object_free(&a);
    put_object(p, 1, &b);
}

static void forget_that_there_is_a_map(struct patient *p)
{
    struct onode o = get_object(p, 4);
    o.flags = 0;
    put_object(p, 4, &o);
}

static void leak_a_block(struct patient *p)
{
    uint8_t key[64];
    struct encoder value;
    encoder_init(&value);
    size_t len = first_of(p, KEY_ALLOCATOR, key, &value);
    value.data[value.len / 2] |= 1;
    index_batch_put(&p->batch, key, len, value.data, value.len);
    encoder_fini(&value);
    apply(p);
}

static void count_a_reference_too_many(struct patient *p)
{
    uint8_t key[64];
    struct encoder value;
    struct shared_layout shared;
    encoder_init(&value);
    size_t len = first_of(p, KEY_SHARED, key, &value);
    memcpy(&shared, value.data, sizeof shared);
    shared.refs++;
    index_batch_put(&p->batch, key, len, &shared, sizeof shared);
    encoder_fini(&value);
    apply(p);
}

static void forget_references(struct patient *p)
{
    const uint8_t from = KEY_SHARED, to = KEY_SHARED + 1;
    index_batch_remove_range(&p->batch, &from, 1, &to, 1);
    apply(p);
}

static void leave_a_chunk(struct patient *p)
{
    const uint8_t hole = 0;
    uint8_t key[13];
    chunk_key(STRANGER, 1, key);
    index_batch_put(&p->batch, key, sizeof key, &hole, 1);
    apply(p);
}

static void leave_a_map_entry(struct patient *p)
{
    uint8_t key[10], to[9];
    omap_range(STRANGER, key, to);
    key[9] = 'k';
    index_batch_put(&p->batch, key, sizeof key, "v", 1);
    apply(p);
}

static void miscount_a_pool(struct patient *p)
{
    uint8_t key[64];
    struct encoder value;
    encoder_init(&value);
    size_t len = first_of(p, KEY_POOL, key, &value);
    value.data[0]++;
    index_batch_put(&p->batch, key, len, value.data, value.len);
    encoder_fini(&value);
    apply(p);
}

static void forget_numbers(struct patient *p)
{
    uint8_t key[64];
    struct encoder value;
    struct state_layout state;
    encoder_init(&value);
    size_t len = first_of(p, KEY_STATE, key, &value);
    memcpy(&state, value.data, sizeof state);
    state.next_nid = 2;
    index_batch_put(&p->batch, key, len, &state, sizeof state);
    encoder_fini(&value);
    apply(p);
}

static void forget_names(struct patient *p)
{
    uint8_t from[5] = {KEY_NAMES}, to = KEY_NAMES + 1, header = KEY_NAMES;
    struct names_layout layout;
    struct encoder value;
    encoder_init(&value);
    assert_int_equal(index_get(p->parts.index, &header, 1, &value, true), 1);
    assert_int_equal(value.len, sizeof layout);
    memcpy(&layout, value.data, sizeof layout);
    uint8_t *part = calloc(1, ALLOCATOR_PART_BYTES);
    assert_non_null(part);
    layout.parts = 1;
    index_batch_remove_range(&p->batch, from, sizeof from, &to, 1);
    index_batch_put(&p->batch, &header, 1, &layout, sizeof layout);
    index_batch_put(&p->batch, from, sizeof from, part, ALLOCATOR_PART_BYTES);
    free(part);
    encoder_fini(&value);
    apply(p);
}

static void damage_the_names(struct patient *p)
{
    const struct names_layout layout = {.bytes = ALLOCATOR_PART_BYTES + 1};
    const uint8_t key = KEY_NAMES;
    index_batch_put(&p->batch, &key, 1, &layout, sizeof layout);
    apply(p);
}

static void damage_an_object_record(struct patient *p)
{
    uint8_t key[ENGINE_KEY_MAX];
    struct object_id id = id_of(1);
    index_batch_put(&p->batch, key, object_key(&id, key), "rubbish", 7);
    apply(p);
}

static void flip_a_bit(struct patient *p)
{
    struct onode b = get_object(p, 1);
    uint8_t *bytes = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    uint64_t at = (uint64_t)b.chunks[0]->block[3] * BLOCK_BYTES;
    struct disk *disk = p->parts.disk;
    assert_int_equal(disk->ops->sync_io(disk, DISK_READ, at, bytes, BLOCK_BYTES), 0);
    bytes[1000] ^= 4;
    assert_int_equal(disk->ops->sync_io(disk, DISK_WRITE, at, bytes, BLOCK_BYTES), 0);
    free(bytes);
    object_free(&b);
}

static const struct damage {
    void (*inflict)(struct patient *p);
    const char *finding;
    bool mended;
    bool b_lost; /* Object b is not what it was. */
} damages[] = {
    {map_a_block_of_another, "is mapped twice and not shared", true, true},
    {map_the_journal, "which belongs to the journal", false, true},
    {map_beyond_the_size, "beyond its size", false, true},
    {use_a_number_twice, "is used twice", false, true},
    {forget_that_there_is_a_map, "has map entries and does not know", true, false},
    {leak_a_block, "the stored allocator says otherwise", true, false},
    {count_a_reference_too_many, "is said to have 3 references and has 2", true, false},
    {forget_references, "is not recorded as shared", true, false},
    {leave_a_chunk, "a chunk of object number 999, which does not exist", true, false},
    {leave_a_map_entry, "a map entry of object number 999, which does not exist", true, false},
    {miscount_a_pool, "pool 1 is said to hold", true, false},
    {forget_numbers, "was never given", true, false},
    {forget_names, "the stored filter of names lacks an object", true, false},
    {damage_the_names, "the stored filter of names is damaged", true, false},
    {damage_an_object_record, "an object record of 7 bytes is damaged", false, true},
    {flip_a_bit, "checksum of disk block", false, true},
};

/* ---- The test ---- */

static void fill(struct patient *p)
{
    for (int n = 0; n < 3; n++) {
        struct object_id id = id_of(n);
        p->data[n] = malloc(BYTES);
        assert_non_null(p->data[n]);
        for (size_t i = 0; i < BYTES; i++)
            p->data[n][i] = (uint8_t)(i * 7 + i / 4096 + (size_t)n * 31);
        write_object(p->f, &id, 0, p->data[n], BYTES);
    }
    struct object_id c = id_of(2), copy = id_of(3), map = id_of(4);
    struct store_txn txn;
    txn_init(&txn);
    txn_object(&txn, &c);
    txn_clone(&txn, &copy);
    txn_object(&txn, &map);
    txn_omap_set(&txn, "key", 3, "value", 5);
    commit(p->f, &txn);
}

/* What was not damaged is whole, and stays so when what shares its blocks is overwritten. */
static void assert_good_data(struct patient *p, const struct damage *d)
{
    struct object_id a = id_of(0), b = id_of(1), c = id_of(2), copy = id_of(3);
    uint8_t other[3 * BLOCK_BYTES];
    memset(other, 0xee, sizeof other);
    assert_object(p->f, &a, p->data[0], BYTES);
    if (!d->b_lost)
        assert_object(p->f, &b, p->data[1], BYTES);
    write_object(p->f, &c, 5 * BLOCK_BYTES, other, sizeof other);
    assert_object(p->f, &copy, p->data[2], BYTES);
    if (d->inflict != map_a_block_of_another)
        return;
    write_object(p->f, &b, 2 * BLOCK_BYTES, other, sizeof other);
    assert_object(p->f, &a, p->data[0], BYTES);
}

static void test_damage(const struct damage *d)
{
    struct patient p = {0};
    void *fixture;
    encoder_init(&p.batch);
    assert_int_equal(fixture_engine(&fixture), 0);
    p.f = fixture;
    fill(&p);
    open_parts(&p);
    check(&p, true, false);
    assert_string_equal(p.findings, "");
    open_again(&p); /* For a clean stop, which stores the allocator. */
    open_parts(&p);
    d->inflict(&p);
    check(&p, true, true);
    if (!strstr(p.findings, d->finding))
        fail_msg("\"%s\" is not among the findings:\n%s", d->finding, p.findings);
    if (d->mended && p.report.repaired < p.report.errors - p.report.damaged)
        fail_msg("not mended:\n%s", p.findings);
    check(&p, false, false);
    if (d->mended)
        assert_string_equal(p.findings, "");
    if (d->inflict == damage_an_object_record && !strstr(p.findings, "a chunk of object number"))
        fail_msg("the chunks of an object whose record is damaged are gone");
    if (d->mended || d->inflict == flip_a_bit) {
        open_again(&p);
        assert_good_data(&p, d);
    } else {
        store_engine_parts_close(p.f->env, &p.parts);
    }
    assert_int_equal(fixture_teardown(&fixture), 0);
    for (int n = 0; n < 3; n++)
        free(p.data[n]);
    encoder_fini(&p.batch);
}

static void each_violated_invariant_is_named_and_mended_if_it_can_be(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        print_message("  %s\n", damages[i].finding);
        test_damage(&damages[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_violated_invariant_is_named_and_mended_if_it_can_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
