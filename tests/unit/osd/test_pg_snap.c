/* Snapshots of objects in a group: clones, reads, rolling back, trimming, copies that catch up. */
#include "tests/unit/osd/pg_world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "osd/ops/snap.h"
#include "osd/pg/pg_layout.h"

static struct world world;

static int set_up(void **state)
{
    (void)state;
    world_init(&world, 0, 1, 2);
    world_settle(&world);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world_fini(&world);
    return 0;
}

/* ---- What clients do ---- */

static void assert_reads_at(uint64_t snap, const char *name, const char *text)
{
    world.read_snap = snap;
    assert_reads(&world, 0, name, text);
    world.read_snap = 0;
}

static int plain(uint16_t code, uint64_t offset)
{
    return ask_now(&world, 0, "a", &(struct step){.code = code, .offset = offset}, 1);
}

/* How many clones the object has, as it says. */
static uint32_t count_clones(void)
{
    struct asked asked;
    struct step step = {.code = WIRE_OP_CODE_LIST_SNAPS};
    uint32_t n = 0;
    ask(&world, 0, &asked, "a", &step, 1);
    world_settle(&world);
    assert_true(asked.done);
    if (asked.reply.result == 0) {
        struct decoder d;
        decoder_init(&d, asked.data.data, asked.data.len);
        decode_u64(&d);
        decode_u8(&d);
        decode_u64(&d);
        n = decode_u32(&d);
        assert_false(d.failed);
    } else {
        assert_int_equal(asked.reply.result, -ENOENT);
    }
    ask_fini(&asked);
    return n;
}

/* The pool's self-managed snapshots 1 to seq, of which those from `first` to `last` are removed. */
static void show_snaps(uint64_t seq, uint64_t first, uint64_t last)
{
    uint32_t n = first > 0;
    struct map_snaps *snaps = snaps_create(0, n, n);
    assert_non_null(snaps);
    snaps->mode = SNAPS_SELF;
    snaps->seq = seq;
    if (n > 0) {
        snaps->removed[0] = (struct snap_range){first, last};
        snaps->trims[0] = (struct snap_trim){first, last, world.map->epoch + 1};
    }
    world_set_snaps(&world, snaps);
}

/* ---- Clones ---- */

static void first_write_after_a_snapshot_keeps_the_object(void **state)
{
    (void)state;
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    assert_int_equal(count_clones(), 0);
    world.snap = 1;
    assert_int_equal(append(&world, 0, "a", "er"), 0);
    assert_int_equal(append(&world, 0, "a", "!"), 0);
    assert_int_equal(count_clones(), 1);
    assert_reads(&world, 0, "a", "older!");
    assert_reads_at(1, "a", "old");
    /* Nothing has changed since. */
    assert_reads_at(2, "a", "older!");
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++)
        assert_int_equal(objects_on_disk(&world, osd), 2);
    assert_equal_disks(&world, 0, 1);
    assert_equal_disks(&world, 0, 2);
}

static void an_object_that_was_not_there_is_not_seen(void **state)
{
    (void)state;
    world.snap = 2;
    assert_int_equal(write_full(&world, 0, "a", "new"), 0);
    assert_reads_at(1, "a", NULL);
    assert_reads_at(2, "a", NULL);
    assert_reads_at(3, "a", "new");
    assert_int_equal(count_clones(), 0);
}

static void writers_that_know_less_make_no_clone(void **state)
{
    (void)state;
    world.snap = 3;
    assert_int_equal(write_full(&world, 0, "a", "one"), 0);
    world.snap = 2;
    assert_int_equal(write_full(&world, 0, "a", "two"), 0);
    assert_int_equal(count_clones(), 0);
}

static uint32_t count_listed(uint64_t flags)
{
    struct asked asked;
    struct step step = {.code = WIRE_OP_CODE_LIST, .offset = flags};
    struct decoder d;
    ask(&world, 0, &asked, "", &step, 1);
    world_settle(&world);
    assert_int_equal(asked.reply.result, 0);
    decoder_init(&d, asked.data.data, asked.data.len);
    uint32_t n = decode_u32(&d);
    ask_fini(&asked);
    return n;
}

static void what_is_kept_of_a_removed_object_is_listed_on_demand(void **state)
{
    (void)state;
    assert_int_equal(write_full(&world, 0, "a", "text"), 0);
    world.snap = 1;
    assert_int_equal(count_listed(0), 1);
    assert_int_equal(plain(WIRE_OP_CODE_REMOVE, 0), 0);
    assert_int_equal(count_listed(0), 0);
    assert_int_equal(count_listed(WIRE_LIST_KEPT), 1);
}

static void a_removed_object_is_kept_for_its_clones(void **state)
{
    (void)state;
    assert_int_equal(write_full(&world, 0, "a", "text"), 0);
    world.snap = 1;
    assert_int_equal(plain(WIRE_OP_CODE_REMOVE, 0), 0);
    assert_int_equal(plain(WIRE_OP_CODE_REMOVE, 0), -ENOENT);
    assert_reads(&world, 0, "a", NULL);
    assert_reads_at(1, "a", "text");
    assert_int_equal(count_clones(), 1);
    world.snap = 2;
    assert_int_equal(write_full(&world, 0, "a", "again"), 0);
    assert_reads_at(1, "a", "text");
    assert_reads_at(2, "a", NULL);
    assert_reads(&world, 0, "a", "again");
    assert_equal_disks(&world, 0, 1);
}

/* What the clones share with the next one, as text: "clone:offset+length ... ". */
static void assert_overlaps(const char *expected)
{
    struct asked asked;
    struct step step = {.code = WIRE_OP_CODE_LIST_SNAPS};
    char text[256] = "";
    size_t len = 0;
    ask(&world, 0, &asked, "a", &step, 1);
    world_settle(&world);
    assert_true(asked.done);
    assert_int_equal(asked.reply.result, 0);
    struct decoder d;
    decoder_init(&d, asked.data.data, asked.data.len);
    decode_u64(&d);
    decode_u8(&d);
    decode_u64(&d);
    for (uint32_t n = decode_u32(&d); n > 0 && !d.failed; n--) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%u:", (unsigned)decode_u64(&d));
        decode_u64(&d);
        decode_bytes(&d, decode_u32(&d) * sizeof(uint64_t));
        for (uint32_t k = decode_u32(&d); k > 0 && !d.failed; k--) {
            unsigned from = (unsigned)decode_u64(&d);
            len += (size_t)snprintf(text + len, sizeof text - len, "%u+%u ", from,
                                    (unsigned)decode_u64(&d));
        }
    }
    assert_int_equal(decoder_end(&d), 0);
    assert_string_equal(text, expected);
    ask_fini(&asked);
}

static void overlaps_are_what_was_not_changed(void **state)
{
    (void)state;
    char text[9001];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 0;
    assert_int_equal(write_full(&world, 0, "a", text), 0);
    world.snap = 1;
    struct step step = {.code = WIRE_OP_CODE_WRITE_AT, .offset = 5000, .data = "b", .len = 1};
    assert_int_equal(ask_now(&world, 0, "a", &step, 1), 0);
    assert_overlaps("1:0+4096 8192+808 ");
    world.snap = 2;
    assert_int_equal(append(&world, 0, "a", "c"), 0);
    assert_overlaps("1:0+4096 8192+808 2:0+8192 ");
    world.snap = 3;
    assert_int_equal(plain(WIRE_OP_CODE_TRUNCATE, 100), 0);
    assert_overlaps("1:0+4096 8192+808 2:0+8192 3:");
    assert_int_equal(plain(WIRE_OP_CODE_ROLLBACK, 2), 0);
    assert_overlaps("1:0+4096 8192+808 2:0+8192 3:0+8192 ");
    assert_int_equal(plain(WIRE_OP_CODE_REMOVE, 0), 0);
    assert_overlaps("1:0+4096 8192+808 2:0+8192 3:");
}

/* A request that changes nothing that a snapshot shows, in a pool that has snapshots. */
static void watches_make_no_clones(void **state)
{
    (void)state;
    struct wire_watch watch = {.timeout_ms = 30000};
    struct step step = {
        .code = WIRE_OP_CODE_WATCH, .length = 7, .data = &watch, .len = sizeof watch};
    show_snaps(3, 0, 0);
    assert_int_equal(write_full(&world, 0, "a", "text"), 0);
    world.snap = 3;
    assert_int_equal(ask_now(&world, 0, "a", &step, 1), 0);
    assert_int_equal(count_clones(), 0);
    assert_int_equal(write_full(&world, 0, "a", "other"), 0);
    assert_int_equal(count_clones(), 1);
}

static void rolls_back(void **state)
{
    (void)state;
    assert_int_equal(write_full(&world, 0, "a", "one"), 0);
    world.snap = 1;
    assert_int_equal(write_full(&world, 0, "a", "two"), 0);
    world.snap = 2;
    assert_int_equal(plain(WIRE_OP_CODE_ROLLBACK, 1), 0);
    assert_reads(&world, 0, "a", "one");
    assert_reads_at(2, "a", "two");
    assert_reads_at(1, "a", "one");
    /* To what is there: nothing happens. */
    assert_int_equal(plain(WIRE_OP_CODE_ROLLBACK, 3), 0);
    assert_reads(&world, 0, "a", "one");
    assert_int_equal(write_full(&world, 0, "b", "born late"), 0);
    struct step back = {.code = WIRE_OP_CODE_ROLLBACK, .offset = 1};
    assert_int_equal(ask_now(&world, 0, "b", &back, 1), 0);
    assert_reads(&world, 0, "b", NULL);
    assert_equal_disks(&world, 0, 1);
}

static void nothing_follows_a_rollback(void **state)
{
    (void)state;
    struct step steps[] = {{.code = WIRE_OP_CODE_ROLLBACK, .offset = 1},
                           {.code = WIRE_OP_CODE_STAT}};
    assert_int_equal(write_full(&world, 0, "a", "one"), 0);
    assert_int_equal(ask_now(&world, 0, "a", steps, 2), -EINVAL);
    struct step after[] = {{.code = WIRE_OP_CODE_APPEND, .data = "x", .len = 1},
                           {.code = WIRE_OP_CODE_ROLLBACK, .offset = 1}};
    assert_int_equal(ask_now(&world, 0, "a", after, 2), -EINVAL);
}

/* ---- Trimming ---- */

static void trims_what_is_removed(void **state)
{
    (void)state;
    assert_int_equal(write_full(&world, 0, "a", "one"), 0);
    world.snap = 1;
    assert_int_equal(write_full(&world, 0, "a", "two"), 0);
    world.snap = 3;
    assert_int_equal(write_full(&world, 0, "a", "three"), 0);
    assert_int_equal(count_clones(), 2);
    show_snaps(3, 1, 1);
    world_ticks(&world, 6);
    assert_int_equal(count_clones(), 1);
    assert_reads_at(3, "a", "two");
    /* One of two that share a clone: it stays. */
    show_snaps(3, 1, 2);
    world_ticks(&world, 6);
    assert_int_equal(count_clones(), 1);
    assert_reads_at(3, "a", "two");
    show_snaps(3, 1, 3);
    world_ticks(&world, 6);
    assert_int_equal(count_clones(), 0);
    assert_reads(&world, 0, "a", "three");
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++)
        assert_int_equal(objects_on_disk(&world, osd), 1);
    assert_equal_disks(&world, 0, 1);
    Limpet__Wire__PgStat stat;
    pg_stat(world.nodes[0].pg, &stat);
    assert_true(stat.snaps_trimmed >= world.map->epoch);
}

static void the_last_clone_takes_a_removed_object_along(void **state)
{
    (void)state;
    assert_int_equal(write_full(&world, 0, "a", "one"), 0);
    world.snap = 1;
    assert_int_equal(plain(WIRE_OP_CODE_REMOVE, 0), 0);
    assert_int_equal(objects_on_disk(&world, 1), 2);
    show_snaps(1, 1, 1);
    world_ticks(&world, 6);
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++)
        assert_int_equal(objects_on_disk(&world, osd), 0);
}

static void makes_no_clone_for_a_removed_snapshot(void **state)
{
    (void)state;
    assert_int_equal(write_full(&world, 0, "a", "one"), 0);
    show_snaps(1, 1, 1);
    world_ticks(&world, 6);
    world.snap = 1;
    assert_int_equal(write_full(&world, 0, "a", "two"), 0);
    assert_int_equal(count_clones(), 0);
}

/* ---- Other copies ---- */

static void a_member_that_was_away_gets_clones_and_loses_them(void **state)
{
    (void)state;
    assert_int_equal(write_full(&world, 0, "a", "one"), 0);
    assert_int_equal(write_full(&world, 0, "b", "b"), 0);
    world.snap = 1;
    assert_int_equal(write_full(&world, 0, "a", "two"), 0);
    world_set_up(&world, 2, false, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    world.snap = 2;
    assert_int_equal(write_full(&world, 0, "a", "three"), 0);
    assert_int_equal(write_full(&world, 0, "b", "changed"), 0);
    show_snaps(2, 1, 1);
    world_ticks(&world, 6);
    world_set_up(&world, 2, true, 0, 1, -1);
    world_show_all(&world);
    world_ticks(&world, 10);
    world_set_members(&world, 0, 1, 2);
    world_show_all(&world);
    world_settle(&world);
    assert_equal_disks(&world, 0, 2);
    assert_reads_at(2, "a", "two");
    assert_reads_at(2, "b", "b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        CASE(first_write_after_a_snapshot_keeps_the_object),
        CASE(an_object_that_was_not_there_is_not_seen),
        CASE(writers_that_know_less_make_no_clone),
        CASE(what_is_kept_of_a_removed_object_is_listed_on_demand),
        CASE(a_removed_object_is_kept_for_its_clones),
        CASE(overlaps_are_what_was_not_changed),
        CASE(watches_make_no_clones),
        CASE(rolls_back),
        CASE(nothing_follows_a_rollback),
        CASE(trims_what_is_removed),
        CASE(the_last_clone_takes_a_removed_object_along),
        CASE(makes_no_clone_for_a_removed_snapshot),
        CASE(a_member_that_was_away_gets_clones_and_loses_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
