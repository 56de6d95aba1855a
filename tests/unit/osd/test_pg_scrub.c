/*
 * Scrub and repair: what damaged copies do to clients, and what becomes of them.
 */
#include "tests/unit/osd/pg_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/pg/pg_layout.h"
#include "osd/pg/pg_scrub.h"

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
    world.watch = NULL;
    world_fini(&world);
    return 0;
}

static void damage(int32_t osd, const char *name, enum store_memory_damage how)
{
    struct object_id id = world_object(name);
    assert_true(store_memory_damage(world.nodes[osd].disk, &id, how, 1));
}

/* A scrub begins; the test makes it go on. */
static void begin(bool deep)
{
    pg_scrub_order(world.nodes[0].pg, deep);
    pg_tick(world.nodes[0].pg);
}

/* Until a scrub of this kind is over. */
static void scrub(bool deep)
{
    pg_scrub_order(world.nodes[0].pg, deep);
    world_ticks(&world, 4);
    world_settle(&world);
}

/* What the primary tells of what it found. */
static void assert_found(uint32_t inconsistent, uint32_t unrepairable, size_t told)
{
    Limpet__Wire__PgStat stat;
    pg_stat(world.nodes[0].pg, &stat);
    assert_int_equal(stat.has_inconsistent ? stat.inconsistent : 0, inconsistent);
    assert_int_equal(stat.has_unrepairable ? stat.unrepairable : 0, unrepairable);
    assert_false(stat.has_scrubbing);
    int error;
    Limpet__Wire__PgInconsistentList *list =
        pg_inconsistent_list(world.nodes[0].pg, NULL, 1000, &error);
    assert_int_equal(list ? list->n_inconsistents : 0, told);
    assert_true(list || error == -ENODATA);
    if (list)
        limpet__wire__pg_inconsistent_list__free_unpacked(list, NULL);
}

static void assert_shard_error(int32_t osd, uint32_t errors)
{
    int error;
    Limpet__Wire__PgInconsistentList *list =
        pg_inconsistent_list(world.nodes[0].pg, NULL, 1000, &error);
    assert_non_null(list);
    assert_int_equal(list->n_inconsistents, 1);
    const Limpet__Wire__PgInconsistent *found = list->inconsistents[0];
    assert_int_equal(found->n_shards, 3);
    for (size_t i = 0; i < found->n_shards; i++)
        assert_int_equal(found->shards[i]->errors, found->shards[i]->osd == osd ? errors : 0);
    limpet__wire__pg_inconsistent_list__free_unpacked(list, NULL);
}

static void write_many(uint32_t n)
{
    char name[32];
    for (uint32_t i = 0; i < n; i++) {
        (void)snprintf(name, sizeof name, "object.%u", i);
        assert_int_equal(write_full(&world, 0, name, "contents"), 0);
    }
}

static void finds_nothing_in_equal_copies(void **state)
{
    (void)state;
    write_many(200);
    scrub(true);
    assert_found(0, 0, 0);
    assert_true(world.delivered[MSG_PG_SCRUB] >= 8);
    assert_int_equal(world.delivered[MSG_PG_PUSH] + world.delivered[MSG_PG_PULL], 0);
    Limpet__Wire__PgStat stat;
    pg_stat(world.nodes[0].pg, &stat);
    assert_true(stat.has_deep_stamp_ns && stat.has_scrub_stamp_ns);
}

static void repairs_a_member(void **state)
{
    (void)state;
    static const struct {
        enum store_memory_damage how;
        uint32_t errors;
    } cases[] = {
        {STORE_DAMAGE_ROT, SCRUB_READ},
        {STORE_DAMAGE_FLIP, SCRUB_DATA},
        {STORE_DAMAGE_TRUNCATE, SCRUB_SIZE | SCRUB_DATA},
        {STORE_DAMAGE_LOSE, SCRUB_MISSING},
    };
    write_many(100);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        damage(1, "object.7", cases[i].how);
        scrub(true);
        assert_found(0, 0, 1);
        assert_shard_error(1, cases[i].errors);
        assert_on_disk(&world, 1, "object.7", "contents");
        assert_equal_disks(&world, 0, 1);
        scrub(true);
        assert_found(0, 0, 0);
    }
    assert_int_equal(world.nodes[1].pgs.repaired, 4);
}

static void repairs_the_primary(void **state)
{
    (void)state;
    static const enum store_memory_damage cases[] = {STORE_DAMAGE_ROT, STORE_DAMAGE_FLIP,
                                                     STORE_DAMAGE_TRUNCATE, STORE_DAMAGE_LOSE};
    write_many(100);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        damage(0, "object.7", cases[i]);
        scrub(true);
        assert_found(0, 0, 1);
        assert_on_disk(&world, 0, "object.7", "contents");
        assert_equal_disks(&world, 0, 1);
        assert_equal_disks(&world, 0, 2);
    }
    assert_int_equal(world.nodes[0].pgs.repaired, 4);
    assert_reads(&world, 0, "object.7", "contents");
}

static void repairs_all_bad_copies_from_the_one_good(void **state)
{
    (void)state;
    write_many(3);
    damage(0, "object.1", STORE_DAMAGE_ROT);
    damage(1, "object.1", STORE_DAMAGE_ROT);
    scrub(true);
    assert_found(0, 0, 1);
    assert_on_disk(&world, 0, "object.1", "contents");
    assert_equal_disks(&world, 0, 1);
    assert_equal_disks(&world, 0, 2);
}

static void repairs_large_objects_in_pieces(void **state)
{
    (void)state;
    size_t len = 9 * 1024 * 1024 + 17;
    uint8_t *data = calloc(1, len);
    assert_non_null(data);
    data[len - 1] = 1;
    const struct step step = {.code = WIRE_OP_CODE_WRITE_FULL, .data = data, .len = len};
    assert_int_equal(ask_now(&world, 0, "large", &step, 1), 0);
    damage(0, "large", STORE_DAMAGE_ROT);
    damage(2, "large", STORE_DAMAGE_FLIP);
    scrub(true);
    world_ticks(&world, 4);
    assert_found(0, 0, 1);
    assert_equal_disks(&world, 0, 1);
    assert_equal_disks(&world, 0, 2);
    free(data);
}

static const struct beside besides[] = {
    {.n_attrs = 2, .len = 10},
    {.n_pairs = 3, .len = 10},
    {.n_attrs = 1, .n_pairs = 1, .len = 0},
    {.header = 100, .len = 100},
    {.n_attrs = 7, .n_pairs = 7, .len = 60000, .header = 60000, .fill = 1},
    {.n_pairs = 2000, .len = 300, .header = 1, .fill = 2},
    {.n_pairs = 3, .len = 131072, .header = 131072, .fill = 3},
};

static void attributes_and_maps_are_repaired(void **state)
{
    (void)state;
    write_many(3);
    for (size_t i = 0; i < sizeof besides / sizeof besides[0]; i++) {
        /* Of an empty object, too. */
        const char *name = i % 2 ? "object.1" : "object.2";
        assert_int_equal(write_full(&world, 0, name, i % 3 ? "contents" : ""), 0);
        for (int32_t osd = 0; osd < 3; osd++)
            put_beside(&world, osd, name, &besides[i]);
        damage(1, name, STORE_DAMAGE_LOSE);
        scrub(false);
        assert_found(0, 0, 1);
        assert_equal_disks(&world, 0, 1);
        damage(0, name, STORE_DAMAGE_LOSE);
        scrub(false);
        assert_found(0, 0, 1);
        assert_equal_disks(&world, 0, 1);
        assert_equal_disks(&world, 0, 2);
        assert_reads(&world, 0, name, i % 3 ? "contents" : "");
    }
    scrub(true);
    assert_found(0, 0, 0);
}

static void a_light_scrub_compares_attributes_and_maps(void **state)
{
    (void)state;
    const struct beside same = {.n_attrs = 3, .n_pairs = 600, .len = 40, .header = 9};
    const struct beside other = {.n_pairs = 1, .len = 40, .fill = 7};
    const struct beside header = {.header = 9, .len = 9, .fill = 7};
    const struct beside attribute = {.n_attrs = 1, .len = 40, .fill = 7};
    const struct {
        const struct beside *beside;
        uint32_t error;
    } cases[] = {{&other, SCRUB_OMAP}, {&header, SCRUB_OMAP}, {&attribute, SCRUB_META}};
    write_many(3);
    for (int32_t osd = 0; osd < 3; osd++)
        put_beside(&world, osd, "object.1", &same);
    scrub(false);
    assert_found(0, 0, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_beside(&world, 2, "object.1", cases[i].beside);
        scrub(false);
        assert_found(0, 0, 1);
        assert_shard_error(2, cases[i].error);
        assert_equal_disks(&world, 0, 2);
    }
}

static void a_light_scrub_reads_no_data(void **state)
{
    (void)state;
    write_many(5);
    damage(1, "object.2", STORE_DAMAGE_FLIP);
    scrub(false);
    assert_found(0, 0, 0);
    damage(1, "object.3", STORE_DAMAGE_TRUNCATE);
    scrub(false);
    assert_found(0, 0, 1);
    assert_on_disk(&world, 1, "object.3", "contents");
}

static void removes_what_should_not_be_there(void **state)
{
    (void)state;
    const struct step remove_step = {.code = WIRE_OP_CODE_REMOVE};
    write_many(3);
    world_crash(&world, 2);
    world_set_up(&world, 2, false, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(ask_now(&world, 0, "object.1", &remove_step, 1), 0);
    damage(1, "object.2", STORE_DAMAGE_LOSE);
    damage(0, "object.2", STORE_DAMAGE_LOSE);
    assert_int_equal(objects_on_disk(&world, 0), 1);
    scrub(true);
    /* Neither has it, although the log knows it: nothing is invented. */
    assert_int_equal(objects_on_disk(&world, 1), 1);
}

static void reports_what_it_cannot_repair(void **state)
{
    (void)state;
    write_many(3);
    for (int32_t osd = 0; osd < 3; osd++)
        damage(osd, "object.1", STORE_DAMAGE_ROT);
    scrub(true);
    assert_found(1, 1, 1);
    scrub(false);
    assert_found(1, 1, 1);
    assert_int_equal(write_full(&world, 0, "object.1", "anew"), 0);
    scrub(true);
    assert_found(0, 0, 0);
    assert_reads(&world, 0, "object.1", "anew");
}

static void a_read_is_answered_from_a_good_copy(void **state)
{
    (void)state;
    write_many(3);
    damage(0, "object.1", STORE_DAMAGE_ROT);
    damage(1, "object.1", STORE_DAMAGE_ROT);
    assert_reads(&world, 0, "object.1", "contents");
    assert_int_equal(world.nodes[0].pgs.read_errors, 1);
    assert_int_equal(world.nodes[0].pgs.repaired, 1);
    assert_on_disk(&world, 0, "object.1", "contents");
    assert_int_equal(append(&world, 0, "object.1", "!"), 0);
    scrub(true);
    assert_equal_disks(&world, 0, 1);
}

/* Copies that cannot be read are found by a write that changes a part of them. */
static void a_write_into_damage_ends_no_osd_and_is_made_good(void **state)
{
    (void)state;
    const struct step step = {.code = WIRE_OP_CODE_WRITE_AT, .offset = 3, .data = "XY", .len = 2};
    write_many(3);
    for (int32_t osd = 0; osd < 3; osd++) {
        damage(osd, "object.1", STORE_DAMAGE_ROT);
        assert_int_equal(ask_now(&world, 0, "object.1", &step, 1), 0);
        assert_int_equal(world.nodes[osd].pgs.read_errors, 1);
        assert_int_equal(append(&world, 0, "object.2", "!"), 0);
        world_ticks(&world, 4);
        for (int32_t i = 0; i < 3; i++) {
            assert_false(world.nodes[i].fatal);
            assert_on_disk(&world, i, "object.1", "conXYnts");
        }
        assert_equal_disks(&world, 0, 1);
        assert_equal_disks(&world, 0, 2);
    }
    assert_reads(&world, 0, "object.1", "conXYnts");
    assert_int_equal(
        world.nodes[0].pgs.repaired + world.nodes[1].pgs.repaired + world.nodes[2].pgs.repaired, 3);
}

/* A client's read is answered by the first good copy; the bad one in between is not forgotten. */
static void a_copy_that_could_not_help_is_made_good(void **state)
{
    (void)state;
    write_many(3);
    damage(0, "object.1", STORE_DAMAGE_ROT);
    damage(1, "object.1", STORE_DAMAGE_ROT);
    assert_reads(&world, 0, "object.1", "contents");
    world_ticks(&world, 4);
    assert_on_disk(&world, 1, "object.1", "contents");
    assert_equal_disks(&world, 0, 1);
    assert_found(0, 0, 1);
}

static void many_reads_wait_for_one_repair(void **state)
{
    (void)state;
    static struct asked asked[8];
    const struct step step = {.code = WIRE_OP_CODE_READ};
    write_many(1);
    damage(0, "object.0", STORE_DAMAGE_ROT);
    for (size_t i = 0; i < 8; i++)
        ask(&world, 0, &asked[i], "object.0", &step, 1);
    world_settle(&world);
    for (size_t i = 0; i < 8; i++) {
        assert_true(asked[i].done);
        assert_int_equal(asked[i].reply.result, 0);
        ask_fini(&asked[i]);
    }
    assert_int_equal(world.nodes[0].pgs.repaired, 1);
}

static void a_read_fails_when_no_copy_is_good(void **state)
{
    (void)state;
    const struct step step = {.code = WIRE_OP_CODE_READ};
    write_many(1);
    for (int32_t osd = 0; osd < 3; osd++)
        damage(osd, "object.0", STORE_DAMAGE_ROT);
    assert_int_equal(ask_now(&world, 0, "object.0", &step, 1), -EIO);
    assert_found(1, 1, 1);
}

static void a_silent_member_does_not_hold_a_read(void **state)
{
    (void)state;
    struct asked asked;
    const struct step step = {.code = WIRE_OP_CODE_READ};
    write_many(1);
    damage(0, "object.0", STORE_DAMAGE_ROT);
    world_stop_link(&world, 0, 1, true);
    ask(&world, 0, &asked, "object.0", &step, 1);
    world_settle(&world);
    assert_false(asked.done);
    world_ticks(&world, 8);
    assert_true(asked.done);
    assert_int_equal(asked.reply.result, 0);
    ask_fini(&asked);
    world_stop_link(&world, 0, 1, false);
    world_settle(&world);
}

static void writes_go_on_while_a_repair_waits(void **state)
{
    (void)state;
    struct asked other, same;
    const struct step step = {.code = WIRE_OP_CODE_APPEND, .data = "!", .len = 1};
    write_many(4);
    damage(0, "object.0", STORE_DAMAGE_FLIP);
    begin(true);
    while (world.delivered[MSG_PG_PULL] == 0)
        assert_true(world_step(&world));
    ask(&world, 0, &same, "object.0", &step, 1);
    ask(&world, 0, &other, "object.1", &step, 1);
    world_settle(&world);
    world_ticks(&world, 2);
    assert_true(other.done && same.done);
    assert_int_equal(other.reply.result, 0);
    assert_int_equal(same.reply.result, 0);
    ask_fini(&other);
    ask_fini(&same);
    assert_on_disk(&world, 0, "object.0", "contents!");
    assert_equal_disks(&world, 0, 1);
    assert_equal_disks(&world, 0, 2);
}

static void a_new_configuration_ends_it(void **state)
{
    (void)state;
    write_many(4);
    damage(0, "object.0", STORE_DAMAGE_ROT);
    begin(true);
    while (world.delivered[MSG_PG_PULL] == 0)
        assert_true(world_step(&world));
    world_set_members(&world, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    /* It was ordered: it begins again. */
    world_ticks(&world, 4);
    assert_equal_disks(&world, 0, 1);
    assert_reads(&world, 0, "object.0", "contents");
}

static void a_session_that_ends_costs_only_time(void **state)
{
    (void)state;
    write_many(4);
    damage(1, "object.0", STORE_DAMAGE_FLIP);
    begin(true);
    struct flight *flight;
    while (!(flight = TAILQ_FIRST(&world.flights)) || flight->message->type != MSG_PG_PUSH)
        assert_true(world_step(&world));
    world_reset_link(&world, 0, 1);
    world_settle(&world);
    world_ticks(&world, 6);
    assert_found(0, 0, 1);
    assert_equal_disks(&world, 0, 1);
}

/* Where the push stands among the messages on their way; it is taken out. */
static struct flight *take_push(void)
{
    struct flight *flight;
    TAILQ_FOREACH(flight, &world.flights, link)
    {
        if (flight->message->type != MSG_PG_PUSH)
            continue;
        TAILQ_REMOVE(&world.flights, flight, link);
        return flight;
    }
    return NULL;
}

/* Of a session that has ended: the object was written since. */
static void a_late_repair_is_refused(void **state)
{
    (void)state;
    struct flight *push = NULL;
    write_many(2);
    damage(1, "object.0", STORE_DAMAGE_FLIP);
    begin(true);
    while (!(push = take_push()))
        assert_true(world_step(&world));
    world_reset_link(&world, 0, 1);
    world_settle(&world);
    assert_int_equal(append(&world, 0, "object.0", "!"), 0);
    struct pg_incoming in;
    assert_int_equal(pg_incoming_decode(push->message, &in), 0);
    assert_int_equal(pg_receive(world.nodes[1].pg, &world.links[0][1].session, 0, &in), PG_TAKEN);
    pg_incoming_fini(&in);
    message_unref(push->message);
    free(push);
    world_settle(&world);
    world_ticks(&world, 6);
    assert_on_disk(&world, 1, "object.0", "contents!");
    assert_equal_disks(&world, 0, 1);
}

static void scrubs_by_itself(void **state)
{
    (void)state;
    write_many(3);
    damage(2, "object.0", STORE_DAMAGE_FLIP);
    world.nodes[0].pgs.scrub.interval_ns = 10 * SEC_NS;
    world.nodes[0].pgs.scrub.deep_interval_ns = 20 * SEC_NS;
    world_ticks(&world, 100);
    assert_equal_disks(&world, 0, 2);
    Limpet__Wire__PgStat stat;
    pg_stat(world.nodes[0].pg, &stat);
    assert_true(stat.scrub_stamp_ns >= stat.deep_stamp_ns && stat.deep_stamp_ns > 0);
}

static void turn_came(struct pg_turn *turn)
{
    (void)turn;
}

/* As long as other background work has all that there is. */
static void each_chunk_waits_for_its_turn(void **state)
{
    (void)state;
    struct pg_turns *turns = &world.nodes[0].pgs.turns;
    struct pg_turn other = {.go = turn_came, .bytes = PG_TURNS_BYTES_MAX};
    write_many(200);
    pg_turn_ask(turns, &other, false);
    world_settle(&world);
    assert_true(other.running);
    pg_scrub_order(world.nodes[0].pg, true);
    world_ticks(&world, 60);
    assert_int_equal(world.delivered[MSG_PG_SCRUB], 0);
    pg_turn_drop(turns, &other);
    while (world.delivered[MSG_PG_SCRUB] == 0)
        assert_true(world_step(&world));
    /* The next chunk asks again. */
    other.bytes = PG_TURNS_BYTES_MAX;
    pg_turn_ask(turns, &other, true);
    world_settle(&world);
    world_ticks(&world, 4);
    assert_true(other.running);
    uint32_t asked = world.delivered[MSG_PG_SCRUB];
    assert_in_range(asked, 1, 6);
    world_ticks(&world, 60);
    assert_int_equal(world.delivered[MSG_PG_SCRUB], asked);
    pg_turn_drop(turns, &other);
    world_ticks(&world, 4);
    assert_found(0, 0, 0);
    assert_true(world.delivered[MSG_PG_SCRUB] >= 8);
}

static void flags_of_the_map_hold_it_back(void **state)
{
    (void)state;
    write_many(3);
    world.nodes[0].pgs.scrub.interval_ns = 10 * SEC_NS;
    world.nodes[0].pgs.scrub.deep_interval_ns = 20 * SEC_NS;
    world.map->flags |= MAP_NOSCRUB | MAP_NODEEP_SCRUB;
    world_show_all(&world);
    world_settle(&world);
    world_ticks(&world, 100);
    assert_int_equal(world.delivered[MSG_PG_SCRUB], 0);
    scrub(true);
    assert_true(world.delivered[MSG_PG_SCRUB] > 0);
}

/* The process that was a member knows when it was. */
static void stamps_survive_on_every_member(void **state)
{
    (void)state;
    write_many(1);
    scrub(true);
    Limpet__Wire__PgStat before, after;
    pg_stat(world.nodes[0].pg, &before);
    world_crash(&world, 1);
    world_start(&world, 1);
    pg_stat(world.nodes[1].pg, &after);
    assert_true(before.deep_stamp_ns > 0);
    assert_int_equal(after.deep_stamp_ns, before.deep_stamp_ns);
}

/* ---- What was found, for those who ask ---- */

/* Asks the primary as a client does, and returns the result; *list is freed by the caller. */
static int ask_inconsistent(int32_t osd, const struct object_id *after, uint64_t max,
                            Limpet__Wire__PgInconsistentList **list)
{
    struct asked asked;
    struct encoder e;
    encoder_init(&e);
    if (after)
        encode_object_id(&e, after);
    const struct step step = {
        .code = WIRE_OP_CODE_INCONSISTENT, .length = max, .data = e.data, .len = e.len};
    ask(&world, osd, &asked, "any", &step, 1);
    world_settle(&world);
    assert_true(asked.done);
    int result = asked.reply.result;
    *list = result
                ? NULL
                : limpet__wire__pg_inconsistent_list__unpack(NULL, asked.data.len, asked.data.data);
    assert_true(result || *list);
    ask_fini(&asked);
    encoder_fini(&e);
    return result;
}

static void inconsistent_objects_are_told_page_by_page(void **state)
{
    (void)state;
    enum { BAD = 20, PAGE = 7 };
    char name[32];
    Limpet__Wire__PgInconsistentList *list;
    write_many(30);
    assert_int_equal(ask_inconsistent(0, NULL, 0, &list), -ENODATA);
    scrub(false);
    assert_int_equal(ask_inconsistent(0, NULL, 0, &list), 0);
    assert_true(list && list->end && list->n_inconsistents == 0);
    limpet__wire__pg_inconsistent_list__free_unpacked(list, NULL);
    for (uint32_t i = 0; i < BAD; i++) {
        (void)snprintf(name, sizeof name, "object.%u", i);
        for (int32_t osd = 0; osd < 3; osd++)
            damage(osd, name, STORE_DAMAGE_ROT);
    }
    scrub(true);
    assert_found(BAD, BAD, BAD);
    uint32_t n = 0;
    bool end = false;
    struct object_id after = {0}, next;
    uint8_t last[PG_OBJECT_ID_MAX];
    while (!end) {
        assert_int_equal(ask_inconsistent(0, n > 0 ? &after : NULL, PAGE, &list), 0);
        assert_non_null(list);
        assert_in_range(list->n_inconsistents, 1, PAGE);
        for (size_t i = 0; i < list->n_inconsistents; i++, n++) {
            const Limpet__Wire__PgInconsistent *found = list->inconsistents[i];
            struct decoder d;
            decoder_init(&d, found->id.data, found->id.len);
            decode_object_id(&d, &next);
            assert_true(n == 0 || object_compare(&after, &next) < 0);
            memcpy(last, found->id.data, found->id.len);
            decoder_init(&d, last, found->id.len);
            decode_object_id(&d, &after);
            assert_int_equal(found->n_shards, 3);
            assert_int_equal(found->shard_errors, SCRUB_READ);
        }
        end = list->end;
        limpet__wire__pg_inconsistent_list__free_unpacked(list, NULL);
    }
    assert_int_equal(n, BAD);

    /* Another primary does not know it, and says so until it has scrubbed. */
    world_set_members(&world, 1, 0, 2);
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(ask_inconsistent(1, NULL, 0, &list), -ENODATA);
    pg_scrub_order(world.nodes[1].pg, true);
    world_ticks(&world, 4);
    assert_int_equal(ask_inconsistent(1, NULL, 0, &list), 0);
    assert_non_null(list);
    assert_int_equal(list->n_inconsistents, BAD);
    limpet__wire__pg_inconsistent_list__free_unpacked(list, NULL);
    world_set_members(&world, 0, 1, 2);
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(ask_inconsistent(0, NULL, 0, &list), -ENODATA);
}

/* ---- Whom to believe ---- */

static struct scrub_entry copy_of(uint64_t sequence, uint32_t data, int error)
{
    return (struct scrub_entry){
        .version = {1, sequence}, .size = 10, .data_digest = data, .error = error};
}

static void believes_the_log_then_the_most_then_the_newer(void **state)
{
    (void)state;
    struct scrub_entry old = copy_of(5, 1, 0), new = copy_of(6, 2, 0), other = copy_of(6, 3, 0);
    struct scrub_entry bad = copy_of(6, 0, -EIO);
    struct wire_version v5 = {1, 5}, v6 = {1, 6}, none = {0, 0};
    const struct scrub_entry *two_old[] = {&old, &old, &new};
    assert_int_equal(scrub_choose(two_old, 3, SCRUB_LOG_EXISTS, v6), 2);
    assert_int_equal(scrub_choose(two_old, 3, SCRUB_LOG_EXISTS, v5), 0);
    assert_int_equal(scrub_choose(two_old, 3, SCRUB_LOG_SILENT, none), 0);
    assert_int_equal(scrub_choose(two_old, 3, SCRUB_LOG_REMOVED, none), -1);
    const struct scrub_entry *pair[] = {&old, &new};
    assert_int_equal(scrub_choose(pair, 2, SCRUB_LOG_SILENT, none), 1);
    const struct scrub_entry *tie[] = {&new, &other};
    assert_int_equal(scrub_choose(tie, 2, SCRUB_LOG_EXISTS, v6), 0);
    const struct scrub_entry *bad_first[] = {&bad, &new};
    assert_int_equal(scrub_choose(bad_first, 2, SCRUB_LOG_EXISTS, v6), 1);
    const struct scrub_entry *lost[] = {NULL, &new};
    assert_int_equal(scrub_choose(lost, 2, SCRUB_LOG_SILENT, none), 1);
    const struct scrub_entry *most_lost[] = {NULL, NULL, &new};
    assert_int_equal(scrub_choose(most_lost, 3, SCRUB_LOG_SILENT, none), 0);
    assert_int_equal(scrub_choose(most_lost, 3, SCRUB_LOG_EXISTS, v6), 2);
    const struct scrub_entry *unreadable[] = {&bad, NULL};
    assert_int_equal(scrub_choose(unreadable, 2, SCRUB_LOG_SILENT, none), -1);
    const struct scrub_entry *all_bad[] = {&bad, &bad};
    assert_int_equal(scrub_choose(all_bad, 2, SCRUB_LOG_EXISTS, v6), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finds_nothing_in_equal_copies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(repairs_a_member, set_up, tear_down),
        cmocka_unit_test_setup_teardown(repairs_the_primary, set_up, tear_down),
        cmocka_unit_test_setup_teardown(repairs_all_bad_copies_from_the_one_good, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(repairs_large_objects_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(attributes_and_maps_are_repaired, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_light_scrub_compares_attributes_and_maps, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_light_scrub_reads_no_data, set_up, tear_down),
        cmocka_unit_test_setup_teardown(removes_what_should_not_be_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reports_what_it_cannot_repair, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_read_is_answered_from_a_good_copy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_write_into_damage_ends_no_osd_and_is_made_good, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_copy_that_could_not_help_is_made_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_reads_wait_for_one_repair, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_read_fails_when_no_copy_is_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_silent_member_does_not_hold_a_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(writes_go_on_while_a_repair_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_configuration_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_session_that_ends_costs_only_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_late_repair_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(scrubs_by_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(each_chunk_waits_for_its_turn, set_up, tear_down),
        cmocka_unit_test_setup_teardown(flags_of_the_map_hold_it_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(inconsistent_objects_are_told_page_by_page, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(stamps_survive_on_every_member, set_up, tear_down),
        cmocka_unit_test(believes_the_log_then_the_most_then_the_newer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
