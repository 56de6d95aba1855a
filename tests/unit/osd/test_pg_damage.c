/*
 * Activation when the primary cannot read its own copy of an object that a member lacks.
 */
#include "tests/unit/osd/pg_world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct world world;
static struct asked lost;

static int set_up(void **state)
{
    *state = &world;
    world_init(&world, 0, 1, 2);
    world_settle(&world);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ask_fini(&lost);
    world_fini(&world);
    return 0;
}

static void damage(int32_t osd, const char *name, enum store_memory_damage how)
{
    struct object_id id = world_object(name);
    assert_true(store_memory_damage(world.nodes[osd].disk, &id, how, 1));
}

static void assert_state(enum pg_state state)
{
    assert_string_equal(pg_state_name(pg_state(world.nodes[0].pg)), pg_state_name(state));
}

static void assert_waits_for(const char *why)
{
    Limpet__Wire__PgStat stat;
    pg_stat(world.nodes[0].pg, &stat);
    assert_non_null(stat.waiting);
    assert_string_equal(stat.waiting, why);
}

/*
 * A write does not arrive at osd.2, nor, unless it is `first`, at osd.1. Then the primary's copy is
 * damaged, and it learns of the gap.
 */
static void miss_a_write(bool first, const struct step *step)
{
    world.links[0][2].lossy = true;
    world.links[0][1].lossy = !first;
    ask(&world, 0, &lost, "a", step, 1);
    world_settle(&world);
    assert_false(lost.done);
    damage(0, "a", STORE_DAMAGE_ROT);
    world.links[0][1].lossy = world.links[0][2].lossy = false;
}

/* The primary finds out, and activates again. */
static void activate(void)
{
    static struct asked next;
    const struct step step = {.code = WIRE_OP_CODE_APPEND, .data = "y", .len = 1};
    ask(&world, 0, &next, "b", &step, 1);
    world_settle(&world);
    world_ticks(&world, 1);
    ask_fini(&next);
}

static const struct step append_step = {.code = WIRE_OP_CODE_APPEND, .data = "x", .len = 1};

static void a_member_that_is_equal_has_it(void **state)
{
    (void)state;
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    miss_a_write(true, &append_step);
    activate();
    assert_state(PG_STATE_PRIMARY_ACTIVE);
    assert_true(lost.done && lost.reply.result == 0);
    assert_int_equal(world.nodes[0].pgs.repaired, 1);
    assert_reads(&world, 0, "a", "oldx");
    for (int32_t osd = 0; osd < 3; osd++)
        assert_on_disk(&world, osd, "a", "oldx");
    assert_equal_disks(&world, 0, 1);
    assert_equal_disks(&world, 0, 2);
}

static void waits_until_a_member_is_equal(void **state)
{
    (void)state;
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    miss_a_write(true, &append_step);
    world_stop_link(&world, 1, 0, true);
    activate();
    assert_state(PG_STATE_PRIMARY_ACTIVATING);
    assert_int_equal(world.nodes[0].pgs.repaired, 0);
    world_stop_link(&world, 1, 0, false);
    world_settle(&world);
    assert_state(PG_STATE_PRIMARY_ACTIVE);
    assert_int_equal(world.nodes[0].pgs.repaired, 1);
    assert_equal_disks(&world, 0, 2);
}

static void large_objects_come_in_pieces(void **state)
{
    (void)state;
    size_t len = 9 * 1024 * 1024 + 17;
    uint8_t *data = calloc(1, len);
    assert_non_null(data);
    data[0] = data[len - 1] = 1;
    const struct step step = {.code = WIRE_OP_CODE_WRITE_FULL, .data = data, .len = len};
    miss_a_write(true, &step);
    activate();
    assert_state(PG_STATE_PRIMARY_ACTIVE);
    assert_int_equal(world.nodes[0].pgs.repaired, 1);
    assert_equal_disks(&world, 0, 1);
    assert_equal_disks(&world, 0, 2);
    free(data);
}

/* Whatever ends while a copy is on its way begins anew, and nothing of it is left. */
static void sessions_that_end_cost_only_time(void **state)
{
    (void)state;
    size_t len = 9 * 1024 * 1024;
    uint8_t *data = calloc(1, len);
    assert_non_null(data);
    memset(data, 7, len);
    const struct step step = {.code = WIRE_OP_CODE_WRITE_FULL, .data = data, .len = len};
    for (int32_t peer = 1; peer <= 2; peer++) {
        uint32_t objects = objects_on_disk(&world, 0);
        miss_a_write(true, &step);
        uint32_t pulls = world.delivered[MSG_PG_PULL];
        static struct asked next;
        ask(&world, 0, &next, "b", &append_step, 1);
        world_settle(&world);
        world.now_ns += 500000000;
        pg_tick(world.nodes[0].pg);
        while (world.delivered[MSG_PG_PULL] < pulls + 2)
            assert_true(world_step(&world));
        world_reset_link(&world, 0, peer);
        world_settle(&world);
        world_ticks(&world, 16);
        assert_state(PG_STATE_PRIMARY_ACTIVE);
        assert_int_equal(objects_on_disk(&world, 0), objects_on_disk(&world, 1));
        assert_true(peer == 2 || objects_on_disk(&world, 0) == objects + 2);
        assert_equal_disks(&world, 0, 1);
        assert_equal_disks(&world, 0, 2);
        ask_fini(&next);
        if (peer == 1)
            ask_fini(&lost);
    }
    free(data);
}

static const char *const unreadable =
    "the primary cannot read an object that a member lacks, and no other has a copy";

static void says_so_when_no_member_has_it(void **state)
{
    (void)state;
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    miss_a_write(false, &append_step);
    activate();
    assert_state(PG_STATE_PRIMARY_ACTIVATING);
    assert_waits_for(unreadable);
    world_ticks(&world, 20);
    assert_waits_for(unreadable);
    /* The disk reads again: it is tried now and then. */
    damage(0, "a", STORE_DAMAGE_NONE);
    world_ticks(&world, 10);
    assert_state(PG_STATE_PRIMARY_ACTIVE);
    assert_reads(&world, 0, "a", "oldx");
    assert_equal_disks(&world, 0, 1);
    assert_equal_disks(&world, 0, 2);
}

static void says_so_when_the_other_copy_is_bad(void **state)
{
    (void)state;
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    miss_a_write(true, &append_step);
    damage(1, "a", STORE_DAMAGE_ROT);
    activate();
    assert_state(PG_STATE_PRIMARY_ACTIVATING);
    assert_waits_for(unreadable);
    /* What was not acknowledged may go: without this OSD the others have what they need. */
    world_crash(&world, 0);
    world_set_up(&world, 0, false, 2, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_reads(&world, 2, "a", "old");
    assert_equal_disks(&world, 1, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_member_that_is_equal_has_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(waits_until_a_member_is_equal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_objects_come_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sessions_that_end_cost_only_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(says_so_when_no_member_has_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(says_so_when_the_other_copy_is_bad, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
