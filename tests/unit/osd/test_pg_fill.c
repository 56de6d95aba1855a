/*
 * Filling copies: learners, what clients write meanwhile, and becoming a member.
 */
#include "tests/unit/osd/pg_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/pg/pg_impl.h"

static struct world world;

/* OSDs 0 and 1 are members, 2 is wanted. */
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

static void write_many(uint32_t n, const char *text)
{
    char name[32];
    for (uint32_t i = 0; i < n; i++) {
        (void)snprintf(name, sizeof name, "object.%u", i);
        assert_int_equal(write_full(&world, 0, name, text), 0);
    }
}

/* The monitors grant what was asked. */
static void grant(void)
{
    assert_int_equal(world.nodes[0].add_osd, 2);
    assert_int_equal(world.nodes[0].add_config, world.map->epoch);
    world_set_members(&world, 0, 1, 2);
    world_show_all(&world);
    world_settle(&world);
}

/* OSD 2 is away while something is written, and comes back. */
static void send_away(void)
{
    world_crash(&world, 2);
    world_set_down_only(&world, 2);
    world_show_all(&world);
    world_settle(&world);
}

static void call_back(void)
{
    world_start(&world, 2);
    world_set_osd_only(&world, 2);
    world_show_all(&world);
    world_settle(&world);
}

static const struct step append_step = {.code = WIRE_OP_CODE_APPEND, .data = "x", .len = 1};

static void fills_a_copy_and_asks_to_add_it(void **state)
{
    (void)state;
    world_settle(&world);
    write_many(20, "data");
    world_show_all(&world);
    world_settle(&world);
    assert_state(2, PG_STATE_FILLED);
    assert_true(pg_complete(world.nodes[2].pg));
    assert_int_equal(world.nodes[0].n_adds, 1);
    assert_equal_disks(&world, 0, 2);
    grant();
    assert_state(0, PG_STATE_PRIMARY_ACTIVE);
    assert_state(2, PG_STATE_REPLICA_ACTIVE);
    assert_int_equal(append(&world, 0, "object.0", "!"), 0);
    assert_on_disk(&world, 2, "object.0", "data!");
}

static void more_objects_than_fit_one_comparison(void **state)
{
    (void)state;
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    write_many(700, "data");
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    assert_state(2, PG_STATE_FILLED);
    assert_equal_disks(&world, 0, 2);
    assert_int_equal(objects_on_disk(&world, 2), 700);
    assert_true(world.delivered[MSG_PG_SCAN] >= 3);
}

static void copies_only_what_differs(void **state)
{
    (void)state;
    world_settle(&world);
    write_many(20, "data");
    grant();
    world_crash(&world, 2);
    world_set_up(&world, 2, false, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    const struct step remove_step = {.code = WIRE_OP_CODE_REMOVE};
    assert_int_equal(append(&world, 0, "object.3", "!"), 0);
    assert_int_equal(write_full(&world, 0, "new", "data"), 0);
    assert_int_equal(ask_now(&world, 0, "object.5", &remove_step, 1), 0);
    memset(world.delivered, 0, sizeof world.delivered);
    world_start(&world, 2);
    world_set_up(&world, 2, true, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    /* One of them says that an object is gone. The log tells: nothing is compared. */
    assert_int_equal(world.delivered[MSG_PG_PUSH], 3);
    assert_int_equal(world.delivered[MSG_PG_SCAN], 0);
    assert_equal_disks(&world, 0, 2);
    assert_on_disk(&world, 2, "object.5", NULL);
}

/* What objects have beside their contents comes along, also where only changes would be sent. */
static void attributes_and_maps_come_along(void **state)
{
    (void)state;
    static const struct beside besides[] = {
        {.n_attrs = 2, .len = 10},
        {.n_pairs = 1000, .len = 200, .header = 200},
        {.n_attrs = 6, .n_pairs = 5, .len = 65536, .header = 65536, .fill = 4},
    };
    static const char *const names[] = {"attributes", "map", "both"};
    world_crash(&world, 2);
    world_set_up(&world, 2, false, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(write_full(&world, 0, names[i], "contents"), 0);
        for (int32_t osd = 0; osd < 2; osd++)
            put_beside(&world, osd, names[i], &besides[i]);
    }
    world_start(&world, 2);
    world_set_up(&world, 2, true, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    world_ticks(&world, 20);
    assert_equal_disks(&world, 0, 2);
    world_set_members(&world, 0, 1, 2);
    world_show_all(&world);
    world_settle(&world);
    world_crash(&world, 2);
    world_set_up(&world, 2, false, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(append(&world, 0, names[i], "!"), 0);
        for (int32_t osd = 0; osd < 2; osd++)
            put_beside(&world, osd, names[i], &besides[(i + 1) % 3]);
    }
    world_start(&world, 2);
    world_set_up(&world, 2, true, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    world_ticks(&world, 4);
    assert_equal_disks(&world, 0, 2);
    assert_on_disk(&world, 2, "both", "contents!");
}

static uint64_t pushed_bytes;

static void count_pushed(struct world *w, const struct flight *flight)
{
    (void)w;
    if (flight->message->type == MSG_PG_PUSH)
        pushed_bytes += flight->message->payload.len;
}

static void changed_blocks_come_alone(void **state)
{
    (void)state;
    size_t len = 3 * 1024 * 1024;
    char *text = malloc(len + 1);
    assert_non_null(text);
    memset(text, 'q', len);
    text[len] = '\0';
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "large", text), 0);
    grant();
    world_crash(&world, 2);
    world_set_up(&world, 2, false, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    const struct step change = {
        .code = WIRE_OP_CODE_WRITE_AT, .offset = 1000000, .data = "changed", .len = 7};
    assert_int_equal(ask_now(&world, 0, "large", &change, 1), 0);
    memcpy(text + 1000000, "changed", 7);
    pushed_bytes = 0;
    world.watch = count_pushed;
    world_start(&world, 2);
    world_set_up(&world, 2, true, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(pushed_bytes, PG_BLOCK);
    assert_on_disk(&world, 2, "large", text);
    assert_equal_disks(&world, 0, 2);
    free(text);
}

static void zeros_do_not_travel(void **state)
{
    (void)state;
    const struct step far = {
        .code = WIRE_OP_CODE_WRITE_AT, .offset = 2000000, .data = "end", .len = 3};
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    assert_int_equal(ask_now(&world, 0, "sparse", &far, 1), 0);
    pushed_bytes = 0;
    world.watch = count_pushed;
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    assert_true(pushed_bytes <= 2 * PG_BLOCK);
    assert_equal_disks(&world, 0, 2);
}

static void large_objects_come_in_pieces(void **state)
{
    (void)state;
    size_t len = 9 * 1024 * 1024 + 5;
    char *text = malloc(len + 1);
    assert_non_null(text);
    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + i % 23);
    text[len] = '\0';
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "large", text), 0);
    world_ticks(&world, 2); /* No client is active any more. */
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    assert_state(2, PG_STATE_FILLED);
    assert_int_equal(world.delivered[MSG_PG_PUSH], 3);
    assert_on_disk(&world, 2, "large", text);
    assert_equal_disks(&world, 0, 2);
    free(text);
}

static void leaves_nothing_of_half_a_large_object(void **state)
{
    (void)state;
    size_t len = 9 * 1024 * 1024;
    char *text = malloc(len + 1);
    assert_non_null(text);
    memset(text, 'z', len);
    text[len] = '\0';
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "large", text), 0);
    world_stop_link(&world, 0, 2, false);
    /* The first piece arrives, and its answer does not. */
    world_stop_link(&world, 2, 0, false);
    while (world.delivered[MSG_PG_PUSH] == 0) {
        struct flight *flight = TAILQ_FIRST(&world.flights);
        if (flight && flight->message->type == MSG_PG_PUSH)
            world_stop_link(&world, 2, 0, true);
        world_step(&world);
    }
    world_settle(&world);
    assert_int_equal(objects_on_disk(&world, 2), 1);
    world_crash(&world, 2);
    world_start(&world, 2);
    world_settle(&world);
    assert_int_equal(objects_on_disk(&world, 2), 0);
    world_set_up(&world, 2, true, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_equal_disks(&world, 0, 2);
    free(text);
}

/* Whenever a message goes between OSD 0 and 2, another write begins. */
static struct asked meanwhile[400];
static uint32_t n_meanwhile;
static bool in_watch;

static void write_meanwhile(struct world *w, const struct flight *flight)
{
    static const uint16_t codes[] = {WIRE_OP_CODE_APPEND, WIRE_OP_CODE_WRITE_FULL,
                                     WIRE_OP_CODE_APPEND, WIRE_OP_CODE_REMOVE, WIRE_OP_CODE_CREATE};
    bool concerns =
        (flight->from == 0 && flight->to == 2) || (flight->from == 2 && flight->to == 0);
    bool about_writes =
        flight->message->type == MSG_REP_TXN || flight->message->type == MSG_REP_ACK;
    if (!concerns || in_watch || n_meanwhile == 400 || (about_writes && n_meanwhile % 3))
        return;
    in_watch = true;
    char name[32];
    uint32_t i = n_meanwhile++;
    (void)snprintf(name, sizeof name, "object.%u", (i * 37) % 60);
    struct step step = {.code = codes[i % 5]};
    if (step.code == WIRE_OP_CODE_APPEND || step.code == WIRE_OP_CODE_WRITE_FULL) {
        step.data = "meanwhile";
        step.len = 9;
    }
    ask(w, 0, &meanwhile[i], name, &step, 1);
    in_watch = false;
}

static void clients_write_meanwhile(void **state)
{
    (void)state;
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    write_many(50, "data");
    n_meanwhile = 0;
    world.watch = write_meanwhile;
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    world.watch = NULL;
    assert_true(n_meanwhile > 20);
    for (uint32_t i = 0; i < n_meanwhile; i++) {
        assert_true(meanwhile[i].done);
        ask_fini(&meanwhile[i]);
    }
    assert_state(2, PG_STATE_FILLED);
    assert_equal_disks(&world, 0, 1);
    assert_equal_disks(&world, 0, 2);
    grant();
    assert_state(0, PG_STATE_PRIMARY_ACTIVE);
    assert_equal_disks(&world, 0, 2);
}

/* A copy loses its room just when an object arrives; the next write of it is right behind. */
static void refuse_for_room(struct world *w, const struct flight *flight)
{
    if (flight->message->type != MSG_PG_PUSH || flight->to != 2 || n_meanwhile > 0)
        return;
    w->nodes[2].pgs.full = true;
    struct step step = {.code = WIRE_OP_CODE_APPEND, .data = " and more", .len = 9};
    ask(w, 0, &meanwhile[n_meanwhile++], "a", &step, 1);
}

static void no_write_is_taken_after_an_object_that_was_refused(void **state)
{
    (void)state;
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "data"), 0);
    n_meanwhile = 0;
    world.watch = refuse_for_room;
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    world.watch = NULL;
    assert_int_equal(n_meanwhile, 1);
    assert_true(meanwhile[0].done);
    assert_int_equal(meanwhile[0].reply.result, 0);
    ask_fini(&meanwhile[0]);
    /* Half of it would pass for the whole, having its version. */
    assert_on_disk(&world, 2, "a", NULL);
    world.nodes[2].pgs.full = false;
    world_ticks(&world, 2 * PG_FULL_PATIENCE_TICKS);
    assert_state(2, PG_STATE_FILLED);
    assert_on_disk(&world, 2, "a", "data and more");
    assert_equal_disks(&world, 0, 2);
}

static void its_commit_is_needed_once_it_was_proposed(void **state)
{
    (void)state;
    struct asked asked;
    world_settle(&world);
    assert_state(2, PG_STATE_FILLED);
    assert_int_equal(world.nodes[0].n_adds, 1);
    world_stop_link(&world, 0, 2, true);
    ask(&world, 0, &asked, "a", &append_step, 1);
    world_settle(&world);
    assert_false(asked.done);
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    assert_true(asked.done);
    assert_on_disk(&world, 2, "a", "x");
    ask_fini(&asked);
}

static void is_not_waited_for_when_the_map_says_it_is_down(void **state)
{
    (void)state;
    struct asked asked;
    world_settle(&world);
    assert_int_equal(world.nodes[0].n_adds, 1);
    world_crash(&world, 2);
    ask(&world, 0, &asked, "a", &append_step, 1);
    world_settle(&world);
    assert_false(asked.done);
    uint64_t config = world.map->epoch;
    world_set_down_only(&world, 2);
    world_show_all(&world);
    world_settle(&world);
    assert_true(asked.done);
    assert_int_equal(asked.reply.version.config, config);
    ask_fini(&asked);
}

static void is_proposed_again_until_there_is_an_answer(void **state)
{
    (void)state;
    world_settle(&world);
    assert_int_equal(world.nodes[0].n_adds, 1);
    world_ticks(&world, 8);
    assert_true(world.nodes[0].n_adds >= 3);
    grant();
    uint32_t n = world.nodes[0].n_adds;
    world_ticks(&world, 8);
    assert_int_equal(world.nodes[0].n_adds, n);
}

static void sends_again_to_a_proposed_learner(void **state)
{
    (void)state;
    struct asked asked;
    world_settle(&world);
    assert_state(2, PG_STATE_FILLED);
    world_stop_link(&world, 0, 2, true);
    ask(&world, 0, &asked, "a", &append_step, 1);
    world_settle(&world);
    world_reset_link(&world, 0, 2);
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    assert_true(asked.done);
    assert_state(2, PG_STATE_FILLED);
    assert_equal_disks(&world, 0, 2);
    ask_fini(&asked);
}

static struct message *caught;

static void catch_push(struct world *w, const struct flight *flight)
{
    (void)w;
    if (flight->message->type == MSG_PG_PUSH && !caught)
        caught = message_ref(flight->message);
}

static void refuses_what_comes_late_on_an_earlier_session(void **state)
{
    (void)state;
    world_settle(&world);
    send_away();
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    caught = NULL;
    world.watch = catch_push;
    call_back();
    world.watch = NULL;
    assert_non_null(caught);
    /* The learner is filled again, and has a newer object by then. */
    struct link_state earlier = world.links[0][2];
    earlier.lossy = true; /* Nobody waits for answers there. */
    world_crash(&world, 2);
    world_set_down_only(&world, 2);
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "newer"), 0);
    world_start(&world, 2);
    world_set_osd_only(&world, 2);
    world_show_all(&world);
    while (world.delivered[MSG_PG_SCAN] < 3 && pg_state(world.nodes[2].pg) != PG_STATE_FILLED)
        world_step(&world);
    struct pg_incoming in;
    assert_int_equal(pg_incoming_decode(caught, &in), 0);
    earlier.session.peer.instance = world.nodes[0].env.instance;
    assert_int_equal(pg_receive(world.nodes[2].pg, &earlier.session, 0, &in), PG_TAKEN);
    pg_session_closed(world.nodes[2].pg, &earlier.session);
    pg_incoming_fini(&in);
    message_unref(caught);
    world_settle(&world);
    world_ticks(&world, 30);
    assert_state(2, PG_STATE_FILLED);
    assert_on_disk(&world, 2, "a", "newer");
    assert_equal_disks(&world, 0, 2);
}

static void begins_again_after_a_lost_session(void **state)
{
    (void)state;
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    write_many(20, "data");
    world_reset_link(&world, 0, 2);
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    world_ticks(&world, 2);
    assert_state(2, PG_STATE_FILLED);
    assert_equal_disks(&world, 0, 2);
}

static void begins_again_when_the_learner_restarts(void **state)
{
    (void)state;
    world_settle(&world);
    write_many(20, "data");
    world_crash(&world, 2);
    assert_int_equal(append(&world, 1, "object.1", "?"), -ELIMPET_NOT_PRIMARY);
    world_start(&world, 2);
    world_set_osd_only(&world, 2);
    world_show_all(&world);
    world_settle(&world);
    assert_state(2, PG_STATE_FILLED);
    assert_equal_disks(&world, 0, 2);
}

static void begins_again_under_the_next_primary(void **state)
{
    (void)state;
    world_stop_link(&world, 0, 2, true);
    world_settle(&world);
    write_many(20, "data");
    world_stop_link(&world, 0, 2, false);
    while (world.delivered[MSG_PG_PUSH] < 3)
        world_step(&world);
    assert_state(2, PG_STATE_FILLING);
    world_set_members(&world, 1, 0, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
    assert_state(2, PG_STATE_FILLED);
    assert_equal_disks(&world, 1, 2);
    assert_int_equal(world.nodes[1].add_osd, 2);
}

static void a_filled_copy_answers_repeated_requests_as_primary(void **state)
{
    (void)state;
    struct asked first, second;
    world_settle(&world);
    send_away();
    ask_again(&world, 0, &first, 500, "a", &append_step, 1);
    world_settle(&world);
    call_back();
    world_set_members(&world, 2, 1, 0);
    world_show_all(&world);
    world_settle(&world);
    assert_state(2, PG_STATE_PRIMARY_ACTIVE);
    ask_again(&world, 2, &second, 500, "a", &append_step, 1);
    world_settle(&world);
    assert_int_equal(second.reply.result, 0);
    assert_reads(&world, 2, "a", "x");
    ask_fini(&first);
    ask_fini(&second);
}

static void a_long_log_is_taken_over_in_parts(void **state)
{
    (void)state;
    world_settle(&world);
    send_away();
    char name[1200];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    for (int i = 0; i < 300; i++)
        assert_int_equal(append(&world, 0, name, "x"), 0);
    memset(world.delivered, 0, sizeof world.delivered);
    call_back();
    assert_true(world.delivered[MSG_PG_ACTIVATE] >= 3);
    assert_equal_disks(&world, 0, 2);
    assert_int_equal(pg_head(world.nodes[2].pg).sequence, 300);
}

static void the_log_is_trimmed_alike_everywhere(void **state)
{
    (void)state;
    world_settle(&world);
    for (int i = 0; i < 2700; i++)
        assert_int_equal(append(&world, 0, "a", ""), 0);
    assert_equal_disks(&world, 0, 1);
    world_crash(&world, 1);
    world_start(&world, 1);
    assert_int_equal(pg_head(world.nodes[1].pg).sequence, 2700);
}

/* The log that it takes over may be cut back to nothing later, and these are all that is left. */
static void totals_at_the_base_of_a_log_come_along(void **state)
{
    (void)state;
    world_settle(&world);
    send_away();
    world.nodes[0].pgs.log_keep = 1;
    write_many(6, "four");
    call_back();
    const struct pg_log *ours = &world.nodes[0].pg->log, *theirs = &world.nodes[2].pg->log;
    assert_true(theirs->base.sequence >= 4);
    assert_int_equal(theirs->base.sequence, ours->base.sequence);
    assert_int_equal(theirs->base_totals.objects, theirs->base.sequence);
    assert_int_equal(theirs->base_totals.bytes, theirs->base.sequence * 4);
}

static void a_member_with_nothing_in_common_is_filled_first(void **state)
{
    (void)state;
    world_settle(&world);
    for (int i = 0; i < 2700; i++)
        assert_int_equal(append(&world, 0, i % 2 ? "a" : "b", "x"), 0);
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

static void removes_a_stray_copy_when_the_group_is_clean_without_it(void **state)
{
    (void)state;
    world_settle(&world);
    write_many(100, "data");
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(objects_on_disk(&world, 2), 100);
    /* CRUSH does not want it any more, but the set is not clean yet: the copy stays. */
    world_set_size(&world, 2);
    struct pg_view view;
    assert_int_equal(map_pg_view(world.map, world.pg, &view), 0);
    assert_int_equal(view.n_wanted, 2);
    int32_t stray = 3 - view.wanted[0] - view.wanted[1];
    world_set_members(&world, view.wanted[0], stray, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_true(objects_on_disk(&world, stray) == 100);
    world_set_members(&world, view.wanted[0], view.wanted[1], -1);
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(objects_on_disk(&world, stray), 0);
    assert_true(pg_is_disposable(world.nodes[stray].pg));
    assert_int_equal(objects_on_disk(&world, view.wanted[1]), 100);
}

static void show_old(const struct cluster_map *old, int32_t osd)
{
    struct cluster_map *newest = world.map;
    world.map = map_clone(old);
    assert_non_null(world.map);
    world_show(&world, osd);
    map_destroy(world.map);
    world.map = newest;
}

/* While it was cut off from the monitors, it ceased to be wanted, was wanted and filled again. */
static void an_old_map_removes_nothing_that_a_newer_one_has_filled(void **state)
{
    (void)state;
    world_settle(&world);
    world_set_size(&world, 2);
    struct pg_view view;
    assert_int_equal(map_pg_view(world.map, world.pg, &view), 0);
    int32_t a = view.wanted[0], b = view.wanted[1], late = 3 - a - b;
    world_set_size(&world, 3);
    world_set_members(&world, a, b, -1);
    world_show_all(&world);
    world_settle(&world);
    for (int i = 0; i < 20; i++)
        assert_int_equal(append(&world, a, "a", "x"), 0);
    assert_state(late, PG_STATE_FILLED);

    world_set_size(&world, 2);
    struct cluster_map *without = map_clone(world.map);
    assert_non_null(without);
    world_show(&world, a);
    world_show(&world, b);
    world_settle(&world);
    world_set_size(&world, 3);
    world_show(&world, a);
    world_show(&world, b);
    world_settle(&world);
    assert_int_equal(world.nodes[a].add_osd, late);
    world_set_members(&world, a, b, late);
    show_old(without, late);
    world_settle(&world);
    assert_state(late, PG_STATE_STRAY);
    assert_int_equal(objects_on_disk(&world, late), 1);
    world_show_all(&world);
    world_settle(&world);
    assert_state(late, PG_STATE_REPLICA_ACTIVE);
    assert_equal_disks(&world, a, late);
    map_destroy(without);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(fills_a_copy_and_asks_to_add_it),
        TEST(more_objects_than_fit_one_comparison),
        TEST(copies_only_what_differs),
        TEST(changed_blocks_come_alone),
        TEST(attributes_and_maps_come_along),
        TEST(zeros_do_not_travel),
        TEST(large_objects_come_in_pieces),
        TEST(leaves_nothing_of_half_a_large_object),
        TEST(clients_write_meanwhile),
        TEST(no_write_is_taken_after_an_object_that_was_refused),
        TEST(its_commit_is_needed_once_it_was_proposed),
        TEST(is_not_waited_for_when_the_map_says_it_is_down),
        TEST(is_proposed_again_until_there_is_an_answer),
        TEST(sends_again_to_a_proposed_learner),
        TEST(refuses_what_comes_late_on_an_earlier_session),
        TEST(begins_again_after_a_lost_session),
        TEST(begins_again_when_the_learner_restarts),
        TEST(begins_again_under_the_next_primary),
        TEST(a_filled_copy_answers_repeated_requests_as_primary),
        TEST(a_long_log_is_taken_over_in_parts),
        TEST(the_log_is_trimmed_alike_everywhere),
        TEST(totals_at_the_base_of_a_log_come_along),
        TEST(a_member_with_nothing_in_common_is_filled_first),
        TEST(removes_a_stray_copy_when_the_group_is_clean_without_it),
        TEST(an_old_map_removes_nothing_that_a_newer_one_has_filled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
