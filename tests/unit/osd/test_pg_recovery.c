/*
 * In which order, and when not: flags of the map, what clients want, turns; and what is told of it.
 */
#include "tests/unit/osd/pg_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/pg/pg_layout.h"

/* As many objects as may be under way at once, at most. */
enum { OBJECTS = 40, UNDER_WAY = 32 };

static struct world world;

/* OSDs 0 and 1 are members, 2 is wanted and has nothing. */
static int set_up(void **state)
{
    *state = &world;
    world_init(&world, 0, 1, -1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world.watch = NULL;
    world_fini(&world);
    return 0;
}

static void assert_state(int32_t osd, enum pg_state state)
{
    assert_string_equal(pg_state_name(pg_state(world.nodes[osd].pg)), pg_state_name(state));
}

static void assert_waits(const char *why)
{
    Limpet__Wire__PgStat stat;
    pg_stat(world.nodes[0].pg, &stat);
    if (why)
        assert_string_equal(stat.waiting ? stat.waiting : "nothing", why);
    else
        assert_null(stat.waiting);
}

static void write_many(uint32_t n, const char *text)
{
    char name[32];
    for (uint32_t i = 0; i < n; i++) {
        (void)snprintf(name, sizeof name, "object.%u", i);
        assert_int_equal(write_full(&world, 0, name, text), 0);
    }
}

static void set_flags(uint32_t flags)
{
    world_set_flags(&world, flags);
    world_show_all(&world);
    world_settle(&world);
}

/* OSD 2 was a member, missed something, and is back. */
static void come_back(uint32_t flags)
{
    world_settle(&world);
    write_many(5, "data");
    world_set_members(&world, 0, 1, 2);
    world_show_all(&world);
    world_settle(&world);
    world_crash(&world, 2);
    world_set_up(&world, 2, false, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    write_many(5, "later");
    world_set_flags(&world, flags);
    world_show_all(&world);
    memset(world.delivered, 0, sizeof world.delivered);
    world_start(&world, 2);
    world_set_osd_only(&world, 2);
    world_show_all(&world);
    world_settle(&world);
}

static void nobackfill_holds_up_a_comparison(void **state)
{
    (void)state;
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    write_many(5, "data");
    set_flags(MAP_NOBACKFILL);
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    world_ticks(&world, 40);
    assert_waits("nobackfill is set");
    assert_int_equal(world.delivered[MSG_PG_SCAN], 0);
    assert_int_equal(world.delivered[MSG_PG_PUSH], 0);
    assert_int_equal(append(&world, 0, "object.0", "!"), 0);
    set_flags(0);
    assert_state(2, PG_STATE_FILLED);
    assert_equal_disks(&world, 0, 2);
}

static void nobackfill_lets_a_copy_catch_up_by_log(void **state)
{
    (void)state;
    come_back(MAP_NOBACKFILL);
    assert_state(2, PG_STATE_FILLED);
    assert_int_equal(world.delivered[MSG_PG_PUSH], 5);
    assert_equal_disks(&world, 0, 2);
}

static void norecover_holds_up_both(void **state)
{
    (void)state;
    come_back(MAP_NORECOVER);
    world_ticks(&world, 40);
    assert_waits("norecover is set");
    assert_int_equal(world.delivered[MSG_PG_PUSH], 0);
    assert_int_equal(append(&world, 0, "object.0", "!"), 0);
    set_flags(MAP_NOBACKFILL);
    assert_state(2, PG_STATE_FILLED);
    assert_int_equal(world.delivered[MSG_PG_SCAN], 0);
    assert_equal_disks(&world, 0, 2);
}

static void a_filling_that_runs_is_paused(void **state)
{
    (void)state;
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    write_many(OBJECTS, "data");
    world_stop_link(&world, 0, 2, false);
    while (world.delivered[MSG_PG_PUSH] < 3)
        assert_true(world_step(&world));
    set_flags(MAP_NORECOVER);
    uint32_t pushed = world.delivered[MSG_PG_PUSH];
    assert_true(pushed < OBJECTS);
    world_ticks(&world, 40);
    assert_waits("norecover is set");
    assert_int_equal(world.delivered[MSG_PG_PUSH], pushed);
    assert_int_equal(append(&world, 0, "object.7", "!"), 0);
    set_flags(0);
    assert_state(2, PG_STATE_FILLED);
    assert_waits("the monitors are asked to add a copy");
    assert_equal_disks(&world, 0, 2);
}

/* What a group cannot be active without is copied whatever the flags say. */
static void members_are_not_paused(void **state)
{
    (void)state;
    world_settle(&world);
    for (int i = 0; i < 2700; i++)
        assert_int_equal(append(&world, 0, i % 2 ? "a" : "b", "x"), 0);
    set_flags(MAP_NORECOVER | MAP_NOBACKFILL);
    /* OSD 1 loses its disk, and the map does not notice. */
    world_crash(&world, 1);
    store_memory_disk_destroy(world.nodes[1].disk);
    world.nodes[1].disk = store_memory_disk_create(1 << 20);
    world_start(&world, 1);
    world_set_up(&world, 1, true, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    world_ticks(&world, 4);
    assert_state(0, PG_STATE_PRIMARY_ACTIVE);
    assert_state(1, PG_STATE_REPLICA_ACTIVE);
    assert_equal_disks(&world, 0, 1);
}

/* ---- What a client wants ---- */

static char pushed[2 * OBJECTS][32];
static uint32_t n_pushed;
static struct asked wanted;

static void note_push(struct world *w, const struct flight *flight)
{
    if (flight->message->type != MSG_PG_PUSH || n_pushed == 2 * OBJECTS)
        return;
    Limpet__Wire__PgPush *push =
        (Limpet__Wire__PgPush *)message_unpack(flight->message, &limpet__wire__pg_push__descriptor);
    struct object_id id;
    struct decoder d;
    assert_non_null(push);
    decoder_init(&d, push->object->id.data, push->object->id.len);
    decode_object_id(&d, &id);
    (void)snprintf(pushed[n_pushed++], sizeof pushed[0], "%.*s", (int)id.name_len, id.name);
    limpet__wire__pg_push__free_unpacked(push, NULL);
    (void)w;
}

static bool was_pushed(const char *name)
{
    for (uint32_t i = 0; i < n_pushed; i++)
        if (strcmp(pushed[i], name) == 0)
            return true;
    return false;
}

static void what_a_client_wants_goes_first(void **state)
{
    (void)state;
    char name[32] = "";
    const struct step append_step = {.code = WIRE_OP_CODE_APPEND, .data = "!", .len = 1};
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    write_many(OBJECTS, "data");
    n_pushed = 0;
    world.watch = note_push;
    world_stop_link(&world, 0, 2, false);
    while (n_pushed < 2)
        assert_true(world_step(&world));
    /* Any that has not begun. */
    for (uint32_t i = 0; i < OBJECTS && !name[0]; i++) {
        (void)snprintf(name, sizeof name, "object.%u", (i * 7) % OBJECTS);
        if (was_pushed(name))
            name[0] = '\0';
    }
    uint32_t before = n_pushed;
    ask(&world, 0, &wanted, name, &append_step, 1);
    while (!was_pushed(name))
        assert_true(world_step(&world));
    /* One may have been on its way already. */
    assert_true(n_pushed <= before + 2);
    world_settle(&world);
    assert_true(wanted.done);
    ask_fini(&wanted);
    world.watch = NULL;
    assert_state(2, PG_STATE_FILLED);
    assert_equal_disks(&world, 0, 2);
}

/* ---- Turns ---- */

static void turn_goes(struct pg_turn *turn)
{
    (void)turn;
}

static void a_copy_whose_turn_has_not_come_is_not_silent(void **state)
{
    (void)state;
    struct pg_turns *turns = &world.nodes[0].pgs.turns;
    struct pg_turn other = {.go = turn_goes, .bytes = PG_TURNS_BYTES_MAX};
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    write_many(OBJECTS, "data");
    pg_turn_ask(turns, &other, true);
    world_settle(&world);
    assert_true(other.running);
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    uint32_t scans = world.delivered[MSG_PG_SCAN];
    assert_true(scans > 0);
    world_ticks(&world, 100);
    assert_int_equal(world.delivered[MSG_PG_SCAN], scans);
    assert_int_equal(world.delivered[MSG_PG_PUSH], 0);
    pg_turn_end(turns, &other);
    world_settle(&world);
    assert_state(2, PG_STATE_FILLED);
    assert_int_equal(world.delivered[MSG_PG_SCAN], scans);
    assert_equal_disks(&world, 0, 2);
}

/* The copy hangs in the middle of an object: a client's write waits no longer than this. */
static void a_hung_copy_does_not_hold_objects_for_long(void **state)
{
    (void)state;
    size_t len = 9 * 1024 * 1024;
    char *text = malloc(len + 1);
    const struct step append_step = {.code = WIRE_OP_CODE_APPEND, .data = "!", .len = 1};
    assert_non_null(text);
    memset(text, 'h', len);
    text[len] = '\0';
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "large", text), 0);
    world_stop_link(&world, 0, 2, false);
    while (world.delivered[MSG_PG_PUSH] == 0)
        assert_true(world_step(&world));
    world_stop_link(&world, 2, 0, true);
    world_settle(&world);
    ask(&world, 0, &wanted, "large", &append_step, 1);
    world_ticks(&world, 2);
    assert_false(wanted.done);
    world_ticks(&world, 3);
    assert_true(wanted.done);
    ask_fini(&wanted);
    world_stop_link(&world, 2, 0, false);
    world_ticks(&world, 4);
    assert_state(2, PG_STATE_FILLED);
    assert_equal_disks(&world, 0, 2);
    free(text);
}

/* ---- What is told ---- */

static void tells_what_is_left_and_what_was_done(void **state)
{
    (void)state;
    Limpet__Wire__PgStat stat;
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    write_many(OBJECTS, "data");
    pg_stat(world.nodes[0].pg, &stat);
    assert_int_equal(stat.objects_missing, OBJECTS);
    assert_int_equal(stat.bytes_missing, 4 * OBJECTS);
    world_stop_link(&world, 0, 2, false);
    uint64_t left = OBJECTS, least = OBJECTS;
    while (world_step(&world)) {
        pg_stat(world.nodes[0].pg, &stat);
        left = stat.objects_missing;
        /* What was done and what is left are what there was. */
        assert_true(left + stat.objects_recovered <= OBJECTS);
        assert_true(left + stat.objects_recovered + UNDER_WAY >= OBJECTS);
        assert_true(left <= least);
        least = left;
    }
    assert_int_equal(left, 0);
    assert_state(2, PG_STATE_FILLED);
    pg_stat(world.nodes[0].pg, &stat);
    assert_int_equal(stat.objects_recovered, OBJECTS);
    assert_int_equal(stat.bytes_recovered, 4 * OBJECTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nobackfill_holds_up_a_comparison, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nobackfill_lets_a_copy_catch_up_by_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(norecover_holds_up_both, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_filling_that_runs_is_paused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(members_are_not_paused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_a_client_wants_goes_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_copy_whose_turn_has_not_come_is_not_silent, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_hung_copy_does_not_hold_objects_for_long, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(tells_what_is_left_and_what_was_done, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
