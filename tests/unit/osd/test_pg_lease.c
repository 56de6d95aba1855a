/* Leases of placement groups: reads need them, and a new primary waits for those of the old one. */
#include "tests/unit/osd/pg_world.h"

#include <errno.h>
#include <string.h>

#define LEASE_NS (1600 * MSEC_NS)
#define SOON_NS  (100 * MSEC_NS) /* For messages and disks, not for leases. */

static struct world world;

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
    world_fini(&world);
    return 0;
}

static void assert_state(int32_t osd, enum pg_state state)
{
    assert_string_equal(pg_state_name(pg_state(world.nodes[osd].pg)), pg_state_name(state));
}

static const struct step read_step = {.code = WIRE_OP_CODE_READ};
static const struct step stat_step = {.code = WIRE_OP_CODE_STAT};
static const struct step list_step = {.code = WIRE_OP_CODE_LIST};
static const struct step write_step = {.code = WIRE_OP_CODE_WRITE_FULL, .data = "new", .len = 3};

static void set_lease(int32_t of, int32_t by, uint64_t until_ns)
{
    world.nodes[of].lease_until_ns[by] = until_ns;
}

/* ---- Reads ---- */

static void everything_that_reads_waits_for_the_lease_of_each_member(void **state)
{
    (void)state;
    const struct step *steps[] = {&read_step, &stat_step, &list_step};
    struct asked asked[3], missing;
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    set_lease(0, 2, world.now_ns + SEC_NS);
    assert_reads(&world, 0, "a", "old");
    world_settle_for(&world, 2 * SEC_NS);
    for (int i = 0; i < 3; i++)
        ask(&world, 0, &asked[i], "a", steps[i], 1);
    ask(&world, 0, &missing, "none", &read_step, 1);
    world_settle_for(&world, SEC_NS);
    for (int i = 0; i < 3; i++)
        assert_false(asked[i].done);
    assert_false(missing.done);
    /* Writes need no lease: each is a round of its own. */
    assert_int_equal(write_full(&world, 0, "b", "text"), 0);
    set_lease(0, 2, world.now_ns + SEC_NS);
    pg_lease_renewed(world.nodes[0].pg);
    world_settle_for(&world, SOON_NS);
    for (int i = 0; i < 3; i++) {
        assert_true(asked[i].done);
        assert_int_equal(asked[i].reply.result, 0);
        ask_fini(&asked[i]);
    }
    assert_int_equal(missing.reply.result, -ENOENT);
    ask_fini(&missing);
}

/* What a process does first when it wakes up, before it has heard of anything. */
static void a_process_that_slept_serves_no_read(void **state)
{
    (void)state;
    struct asked asked;
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    set_lease(0, 1, world.now_ns + LEASE_NS);
    set_lease(0, 2, world.now_ns + LEASE_NS);
    assert_reads(&world, 0, "a", "old");
    world.now_ns += 60 * SEC_NS;
    ask(&world, 0, &asked, "a", &read_step, 1);
    world_settle_for(&world, SOON_NS);
    assert_false(asked.done);
    world_set_members(&world, 1, 2, -1);
    world_show_all(&world);
    assert_true(asked.done);
    assert_int_equal(asked.reply.result, -ELIMPET_NOT_PRIMARY);
    ask_fini(&asked);
}

static void a_read_that_waits_keeps_its_place_before_writes(void **state)
{
    (void)state;
    struct asked read, write;
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    set_lease(0, 1, 0);
    world_set_members(&world, 0, 1, 2);
    world_show_all(&world);
    world_settle(&world);
    ask(&world, 0, &read, "a", &read_step, 1);
    ask(&world, 0, &write, "a", &write_step, 1);
    world_settle_for(&world, SOON_NS);
    assert_false(read.done || write.done);
    /* Through another activation, too. */
    world_set_members(&world, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_false(read.done || write.done);
    set_lease(0, 1, UINT64_MAX);
    pg_lease_renewed(world.nodes[0].pg);
    world_settle(&world);
    assert_true(read.done && write.done);
    assert_int_equal(read.data.len, 3);
    assert_memory_equal(read.data.data, "old", 3);
    ask_fini(&read);
    ask_fini(&write);
}

static void a_client_that_goes_away_lets_go_of_the_object(void **state)
{
    (void)state;
    struct asked read, write;
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    set_lease(0, 1, 0);
    world_set_members(&world, 0, 1, 2);
    world_show_all(&world);
    world_settle(&world);
    ask(&world, 0, &read, "a", &read_step, 1);
    ask(&world, 0, &write, "a", &write_step, 1);
    world_settle_for(&world, SOON_NS);
    pg_request_orphan(&read.request);
    world_settle(&world);
    assert_true(read.dropped && write.done);
    assert_int_equal(world.nodes[0].pgs.n_unleased, 0);
    ask_fini(&write);
}

static void a_set_of_one_needs_no_lease_until_it_asks_for_another(void **state)
{
    (void)state;
    struct asked asked;
    world_set_members(&world, 0, -1, -1);
    world_set_size(&world, 2);
    set_lease(0, 1, 0);
    set_lease(0, 2, 0);
    world_show(&world, 0);
    world_settle(&world);
    assert_state(0, PG_STATE_PRIMARY_ACTIVE);
    assert_int_equal(world.nodes[0].n_adds, 0);
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    assert_reads(&world, 0, "a", "old");
    world_show_all(&world);
    world_ticks(&world, 4);
    /* From here on the monitors may make the other one the primary, without our hearing of it. */
    assert_true(world.nodes[0].n_adds > 0);
    ask(&world, 0, &asked, "a", &read_step, 1);
    world_settle(&world);
    assert_false(asked.done);
    set_lease(0, world.nodes[0].add_osd, UINT64_MAX);
    pg_lease_renewed(world.nodes[0].pg);
    world_settle(&world);
    assert_true(asked.done);
    ask_fini(&asked);
}

static void a_process_that_said_that_it_ends_reads_nothing(void **state)
{
    (void)state;
    struct asked asked;
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    world.nodes[0].pgs.retired = true;
    ask(&world, 0, &asked, "a", &read_step, 1);
    world_settle(&world);
    assert_false(asked.done);
    pg_request_orphan(&asked.request);
}

/* ---- A new primary ---- */

static void depose_0(void)
{
    world.nodes[1].granted_until_ns[0] = world.now_ns + SEC_NS;
    world_set_up(&world, 0, false, 1, 2, -1);
    world_show(&world, 1);
    world_show(&world, 2);
    world_settle_for(&world, SOON_NS);
}

static void waits_for_the_leases_of_a_silent_primary(void **state)
{
    (void)state;
    depose_0();
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    world_settle_for(&world, 800 * MSEC_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    world_settle_for(&world, SOON_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
}

static void does_not_wait_for_one_that_has_ended(void **state)
{
    (void)state;
    depose_0();
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    world_set_ended(&world, 0);
    world_show(&world, 1);
    world_settle_for(&world, SOON_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
}

/* Another store with its number says nothing of the process that was the primary. */
static void a_number_that_was_given_away_proves_no_end(void **state)
{
    (void)state;
    depose_0();
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    world_give_number(&world, 0);
    world_show(&world, 1);
    world_show(&world, 2);
    world_settle_for(&world, SOON_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    world_settle_for(&world, SEC_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
}

/* It was a member for a while, and would have been told; but then it went down. */
static void remembers_one_that_left_before_it_was_told(void **state)
{
    (void)state;
    world.nodes[1].granted_until_ns[0] = world.now_ns + SEC_NS;
    world_stop_link(&world, 1, 0, true);
    world_set_members(&world, 1, 2, 0);
    world_show(&world, 1);
    world_show(&world, 2);
    world_settle_for(&world, SOON_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    world_set_up(&world, 0, false, 1, 2, -1);
    world_show(&world, 1);
    world_show(&world, 2);
    world_settle_for(&world, SOON_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    world_settle_for(&world, SEC_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
}

/* One that lives, and does not answer. */
static void waits_no_longer_than_the_leases_for_an_answer(void **state)
{
    (void)state;
    world.nodes[1].granted_until_ns[0] = world.now_ns + SEC_NS;
    world_stop_link(&world, 1, 0, true);
    world_set_members(&world, 1, 2, -1);
    world_show(&world, 1);
    world_show(&world, 2);
    world_settle_for(&world, SOON_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    world_settle_for(&world, SEC_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
}

/* Maps were skipped in which anybody may have been the primary. */
static void waits_when_it_has_missed_maps(void **state)
{
    (void)state;
    world.nodes[1].pgs.lease_ns = LEASE_NS;
    world_set_members(&world, 2, 1, -1);
    world_set_members(&world, 0, 1, -1);
    world_set_up(&world, 0, false, 1, 2, -1);
    world_show(&world, 1);
    world_show(&world, 2);
    world_settle_for(&world, SOON_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    world_settle_for(&world, LEASE_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
}

/* Nor of those that may have been the primary in maps that were skipped. */
static void nor_when_it_has_missed_maps(void **state)
{
    (void)state;
    world_settle_for(&world, 2 * LEASE_NS);
    world.nodes[1].pgs.lease_ns = LEASE_NS;
    world_set_members(&world, 2, 1, -1);
    world_set_members(&world, 0, 1, -1);
    world_set_up(&world, 0, false, 1, 2, -1);
    world_show(&world, 1);
    world_show(&world, 2);
    world_settle_for(&world, SOON_NS);
    world_give_number(&world, 0);
    world_show(&world, 1);
    world_settle_for(&world, SOON_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    world_settle_for(&world, LEASE_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
}

/* ---- A new process ---- */

static void restart_as_primary(void)
{
    world.lease_ns = LEASE_NS;
    world_crash(&world, 1);
    world_start(&world, 1);
    world_show(&world, 1);
    world_settle_for(&world, SOON_NS);
    world_set_up(&world, 1, true, 1, 2, -1);
    world_show(&world, 1);
    world_show(&world, 2);
    world_settle_for(&world, SOON_NS);
}

/* OSD 0 was the primary, may live, and may hold leases of the process before. */
static void a_new_process_waits_for_what_the_one_before_granted(void **state)
{
    (void)state;
    world_set_up(&world, 0, false, 1, 2, -1);
    restart_as_primary();
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    world_settle_for(&world, LEASE_NS);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
}

static void a_new_process_does_not_wait_when_all_others_are_accounted_for(void **state)
{
    (void)state;
    world_set_up(&world, 0, false, 1, 2, -1);
    world_set_ended(&world, 0);
    restart_as_primary();
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
}

/* The first configuration of a pool has none before it. */
static void a_new_pool_is_served_at_once(void **state)
{
    (void)state;
    struct pg_view view;
    world.lease_ns = LEASE_NS;
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++) {
        world_crash(&world, osd);
        world_start(&world, osd);
    }
    world_begin_anew(&world);
    world_show_all(&world);
    world_settle_for(&world, SOON_NS);
    assert_int_equal(map_pg_view(world.map, world.pg, &view), 0);
    assert_state(view.primary, PG_STATE_PRIMARY_ACTIVE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(everything_that_reads_waits_for_the_lease_of_each_member),
        TEST(a_process_that_slept_serves_no_read),
        TEST(a_read_that_waits_keeps_its_place_before_writes),
        TEST(a_client_that_goes_away_lets_go_of_the_object),
        TEST(a_set_of_one_needs_no_lease_until_it_asks_for_another),
        TEST(a_process_that_said_that_it_ends_reads_nothing),
        TEST(waits_for_the_leases_of_a_silent_primary),
        TEST(does_not_wait_for_one_that_has_ended),
        TEST(a_number_that_was_given_away_proves_no_end),
        TEST(nor_when_it_has_missed_maps),
        TEST(remembers_one_that_left_before_it_was_told),
        TEST(waits_no_longer_than_the_leases_for_an_answer),
        TEST(waits_when_it_has_missed_maps),
        TEST(a_new_process_waits_for_what_the_one_before_granted),
        TEST(a_new_process_does_not_wait_when_all_others_are_accounted_for),
        TEST(a_new_pool_is_served_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
