/* Snap contexts as they come from the wire, and snapsets: osd/ops/snap.h. */
#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "osd/ops/snap.h"
#include "placement/hash.h"

/* ---- Contexts ---- */

static struct message *request(uint32_t flags, uint64_t snap, const uint64_t *snaps, uint16_t n)
{
    struct object_id id = {
        .pool = 4,
        .hash = hash_object("", 0, "name", 4),
        .space = (const uint8_t *)"",
        .name_len = 4,
        .name = (const uint8_t *)"name",
        .snap = OBJECT_HEAD,
    };
    struct wire_osd_op head = {
        .client = 1, .tid = 2, .pool = 4, .flags = flags, .n_ops = 1, .n_snaps = n, .snap = snap};
    struct wire_op step = {.code = flags ? WIRE_OP_CODE_REMOVE : WIRE_OP_CODE_STAT};
    struct encoder e;
    encoder_init(&e);
    encode_bytes(&e, &head, sizeof head);
    encode_object_id(&e, &id);
    encode_bytes(&e, &step, sizeof step);
    for (uint16_t i = 0; i < n; i++)
        encode_u64(&e, snaps[i]);
    struct message *message = message_create(MSG_OSD_OP, e.len);
    assert_non_null(message);
    memcpy(message->body, e.data, e.len);
    encoder_fini(&e);
    return message;
}

static int decode(uint32_t flags, uint64_t snap, const uint64_t *snaps, uint16_t n)
{
    struct ops_request decoded;
    struct message *message = request(flags, snap, snaps, n);
    int error = ops_decode(message, &decoded);
    message_unref(message);
    return error;
}

static void contexts_are_in_order(void **state)
{
    (void)state;
    static uint64_t many[WIRE_SNAPS_MAX + 1];
    assert_int_equal(decode(WIRE_OP_WRITE, 0, NULL, 0), 0);
    assert_int_equal(decode(WIRE_OP_WRITE, 9, NULL, 0), 0);
    assert_int_equal(decode(WIRE_OP_WRITE, 9, (uint64_t[]){9, 4, 1}, 3), 0);
    assert_int_equal(decode(WIRE_OP_WRITE, 9, (uint64_t[]){4, 9}, 2), -EINVAL);
    assert_int_equal(decode(WIRE_OP_WRITE, 9, (uint64_t[]){4, 4}, 2), -EINVAL);
    assert_int_equal(decode(WIRE_OP_WRITE, 9, (uint64_t[]){4, 0}, 2), -EINVAL);
    assert_int_equal(decode(WIRE_OP_WRITE, 8, (uint64_t[]){9}, 1), -EINVAL);
    assert_int_equal(decode(WIRE_OP_WRITE, OBJECT_SNAP_MAX + 1, NULL, 0), -EINVAL);
    for (uint16_t i = 0; i <= WIRE_SNAPS_MAX; i++)
        many[i] = 1000 - i;
    assert_int_equal(decode(WIRE_OP_WRITE, 1000, many, WIRE_SNAPS_MAX), 0);
    assert_int_equal(decode(WIRE_OP_WRITE, 1000, many, WIRE_SNAPS_MAX + 1), -EINVAL);
}

static void readers_have_a_snapshot_and_no_context(void **state)
{
    (void)state;
    assert_int_equal(decode(0, 7, NULL, 0), 0);
    assert_int_equal(decode(0, 7, (uint64_t[]){7}, 1), -EINVAL);
    assert_int_equal(decode(0, OBJECT_HEAD, NULL, 0), -EINVAL);
}

static void removed_snapshots_do_not_count(void **state)
{
    (void)state;
    struct ops_request decoded;
    struct map_snaps *pool = snaps_create(0, 1, 0);
    uint32_t at = 0;
    uint64_t snap = 0;
    pool->mode = SNAPS_SELF;
    pool->seq = 9;
    pool->removed[0] = (struct snap_range){4, 9};
    struct message *message = request(WIRE_OP_WRITE, 9, (uint64_t[]){9, 4, 3}, 3);
    assert_int_equal(ops_decode(message, &decoded), 0);
    struct snap_context context = ops_snap_context(&decoded, pool);
    assert_true(snap_context_next(&context, &at, &snap));
    assert_int_equal(snap, 3);
    assert_false(snap_context_next(&context, &at, &snap));
    snaps_unref(pool);
    message_unref(message);
}

static void snapshots_of_the_pool_win(void **state)
{
    (void)state;
    struct ops_request decoded;
    struct map_snaps *pool = snaps_create(2, 0, 0);
    uint32_t at = 0;
    uint64_t snap = 0;
    pool->mode = SNAPS_POOL;
    pool->seq = 6;
    pool->named[0].id = 2;
    pool->named[1].id = 5;
    struct message *message = request(WIRE_OP_WRITE, 9, (uint64_t[]){9}, 1);
    assert_int_equal(ops_decode(message, &decoded), 0);
    struct snap_context context = ops_snap_context(&decoded, pool);
    assert_int_equal(context.seq, 6);
    assert_true(snap_context_next(&context, &at, &snap));
    assert_int_equal(snap, 5);
    assert_true(snap_context_next(&context, &at, &snap));
    assert_int_equal(snap, 2);
    assert_false(snap_context_next(&context, &at, &snap));
    snaps_unref(pool);
    message_unref(message);
}

/* ---- Snapsets ---- */

static struct snap_clone clone_of(uint64_t id, const uint64_t *snaps, uint32_t n)
{
    return (struct snap_clone){.id = id, .size = 10 * id, .n = n, .snaps = (const uint8_t *)snaps};
}

/* Clones 3 (of 3 and 1) and 7 (of 5). */
static struct view_bytes make_set(struct encoder *one, struct encoder *two)
{
    static const uint64_t first[] = {3, 1}, second[] = {5};
    struct snap_clone clone = clone_of(3, first, 2);
    encoder_init(one);
    encoder_init(two);
    assert_int_equal(snapset_add(one, (struct view_bytes){0}, &clone), 0);
    clone = clone_of(7, second, 1);
    assert_int_equal(snapset_add(two, (struct view_bytes){one->data, (uint32_t)one->len}, &clone),
                     0);
    return (struct view_bytes){two->data, (uint32_t)two->len};
}

static void finds_the_clone_of_a_snapshot(void **state)
{
    (void)state;
    static const struct {
        uint64_t snap, clone;
    } cases[] = {{1, 3}, {2, 3}, {3, 3}, {4, 0}, {5, 7}, {6, 0}, {7, 0}, {8, 0}};
    struct encoder one, two;
    struct view_bytes set = make_set(&one, &two);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct snap_clone found;
        int error = snapset_find(set.data, set.len, cases[i].snap, &found);
        assert_int_equal(error, cases[i].clone ? 0 : -ENOENT);
        if (!error)
            assert_int_equal(found.id, cases[i].clone);
    }
    encoder_fini(&one);
    encoder_fini(&two);
}

static void removes_one_snapshot_at_a_time(void **state)
{
    (void)state;
    struct encoder one, two, less, least;
    struct snapset_trim trim;
    struct view_bytes set = make_set(&one, &two);
    encoder_init(&less);
    encoder_init(&least);
    assert_int_equal(snapset_remove(&less, set, 3, &trim), 0);
    assert_true(trim.found && trim.clone == 0 && trim.left == 2);
    set = (struct view_bytes){less.data, (uint32_t)less.len};
    assert_int_equal(snapset_remove(&least, set, 1, &trim), 0);
    assert_true(trim.found && trim.clone == 3 && trim.clone_size == 30 && trim.left == 1);
    encoder_reset(&less);
    set = (struct view_bytes){least.data, (uint32_t)least.len};
    assert_int_equal(snapset_remove(&less, set, 1, &trim), 0);
    assert_true(!trim.found && trim.clone == 0 && trim.left == 1);
    encoder_fini(&one);
    encoder_fini(&two);
    encoder_fini(&less);
    encoder_fini(&least);
}

static void every_truncation_is_corrupt(void **state)
{
    (void)state;
    struct encoder one, two;
    struct view_bytes set = make_set(&one, &two);
    for (uint32_t len = 0; len < set.len; len++) {
        struct snap_clone found;
        /* What ends between two clones is another, good set. */
        int error = snapset_find(set.data, len, 100, &found);
        bool whole = len == 1 || len == one.len;
        assert_int_equal(error, whole ? -ENOENT : -ELIMPET_CORRUPT);
    }
    encoder_fini(&one);
    encoder_fini(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contexts_are_in_order),
        cmocka_unit_test(readers_have_a_snapshot_and_no_context),
        cmocka_unit_test(removed_snapshots_do_not_count),
        cmocka_unit_test(snapshots_of_the_pool_win),
        cmocka_unit_test(finds_the_clone_of_a_snapshot),
        cmocka_unit_test(removes_one_snapshot_at_a_time),
        cmocka_unit_test(every_truncation_is_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
