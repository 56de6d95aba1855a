/*
 * Placement groups in a world of three: writes, configurations, failures. Each test is a story that
 * reads from top to bottom; who delivers what is in pg_world.h.
 */
#include "tests/unit/osd/pg_world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/object_page.h"
#include "osd/pg/pg_layout.h"

static struct world world;

static int set_up(void **state)
{
    *state = &world;
    world_init(&world, 0, 1, 2);
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

static const struct step write_step = {.code = WIRE_OP_CODE_WRITE_FULL, .data = "text", .len = 4};
static const struct step append_step = {.code = WIRE_OP_CODE_APPEND, .data = "x", .len = 1};
static const struct step remove_step = {.code = WIRE_OP_CODE_REMOVE};
static const struct step read_step = {.code = WIRE_OP_CODE_READ};

/* ---- Activation and writes ---- */

static void activates_a_new_group(void **state)
{
    (void)state;
    assert_state(0, PG_STATE_PRIMARY_ACTIVATING);
    assert_state(1, PG_STATE_REPLICA_WAITING);
    world_settle(&world);
    assert_state(0, PG_STATE_PRIMARY_ACTIVE);
    assert_state(1, PG_STATE_REPLICA_ACTIVE);
    assert_state(2, PG_STATE_REPLICA_ACTIVE);
}

static void holds_requests_until_it_is_active(void **state)
{
    (void)state;
    struct asked asked;
    ask(&world, 0, &asked, "a", &write_step, 1);
    assert_false(asked.done);
    world_settle(&world);
    assert_true(asked.done);
    assert_int_equal(asked.reply.result, 0);
    assert_int_equal(asked.reply.version.sequence, 1);
    ask_fini(&asked);
}

static void writes_reach_every_member(void **state)
{
    (void)state;
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "one"), 0);
    assert_int_equal(append(&world, 0, "a", " two"), 0);
    assert_int_equal(write_full(&world, 0, "b", "three"), 0);
    assert_int_equal(ask_now(&world, 0, "b", &remove_step, 1), 0);
    for (int32_t osd = 0; osd < 3; osd++) {
        assert_on_disk(&world, osd, "a", "one two");
        assert_on_disk(&world, osd, "b", NULL);
    }
    assert_equal_disks(&world, 0, 1);
    assert_equal_disks(&world, 0, 2);
    assert_reads(&world, 0, "a", "one two");
    assert_reads(&world, 0, "b", NULL);
}

static void acknowledges_when_the_last_member_has_it(void **state)
{
    (void)state;
    struct asked asked;
    world_settle(&world);
    world_stop_link(&world, 0, 2, true);
    ask(&world, 0, &asked, "a", &write_step, 1);
    world_settle(&world);
    assert_false(asked.done);
    assert_int_equal(pg_committed(world.nodes[0].pg), 0);
    assert_on_disk(&world, 1, "a", "text");
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    assert_true(asked.done);
    assert_int_equal(pg_committed(world.nodes[0].pg), 1);
    ask_fini(&asked);
}

static void one_message_to_each_member(void **state)
{
    (void)state;
    world_settle(&world);
    memset(world.delivered, 0, sizeof world.delivered);
    assert_int_equal(write_full(&world, 0, "a", "one"), 0);
    assert_int_equal(world.delivered[MSG_REP_TXN], 2);
    assert_int_equal(world.delivered[MSG_REP_ACK], 2);
}

static void a_read_waits_for_writes_before_it(void **state)
{
    (void)state;
    struct asked write, read, later;
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    world_stop_link(&world, 0, 2, true);
    ask(&world, 0, &write, "a", &write_step, 1);
    ask(&world, 0, &read, "a", &read_step, 1);
    ask(&world, 0, &later, "a", &append_step, 1);
    world_settle(&world);
    assert_false(read.done);
    /* The write behind the read does not run before it. */
    assert_int_equal(pg_head(world.nodes[0].pg).sequence, 2);
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    assert_true(write.done && read.done && later.done);
    assert_int_equal(read.data.len, 4);
    assert_memory_equal(read.data.data, "text", 4);
    assert_reads(&world, 0, "a", "textx");
    ask_fini(&write);
    ask_fini(&read);
    ask_fini(&later);
}

static void writes_of_an_object_do_not_wait_for_each_other(void **state)
{
    (void)state;
    struct asked asked[3];
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    world_stop_link(&world, 0, 2, true);
    for (int i = 0; i < 3; i++)
        ask(&world, 0, &asked[i], "a", &append_step, 1);
    world_settle(&world);
    assert_int_equal(pg_head(world.nodes[0].pg).sequence, 4);
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    for (int i = 0; i < 3; i++) {
        assert_true(asked[i].done);
        ask_fini(&asked[i]);
    }
    assert_reads(&world, 0, "a", "oldxxx");
}

static void a_request_is_whole_or_not_at_all(void **state)
{
    (void)state;
    const struct step steps[] = {append_step, remove_step, remove_step};
    struct asked asked;
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    ask(&world, 0, &asked, "a", steps, 3);
    world_settle(&world);
    assert_int_equal(asked.reply.result, -ENOENT);
    assert_int_equal(asked.steps[0].result, 0);
    assert_int_equal(asked.steps[2].result, -ENOENT);
    ask_fini(&asked);
    assert_reads(&world, 0, "a", "old");
    assert_equal_disks(&world, 0, 1);
}

static struct wire_osd_op_reply leave_alone(uint64_t tid, const char *name, const struct step *step,
                                            int result)
{
    struct asked asked;
    ask_again(&world, 0, &asked, tid, name, step, 1);
    world_settle(&world);
    assert_true(asked.done);
    assert_int_equal(asked.reply.result, 0);
    assert_int_equal(asked.steps[0].result, result);
    ask_fini(&asked);
    return asked.reply;
}

/* All that would change it fails, and may. */
static void an_object_that_nothing_changes_stays_as_it_is(void **state)
{
    (void)state;
    enum { FIRST = 500 };
    const struct step creates = {
        .code = WIRE_OP_CODE_CREATE, .length = 1, .flags = WIRE_STEP_FAIL_OK};
    const struct step removes = {.code = WIRE_OP_CODE_REMOVE, .flags = WIRE_STEP_FAIL_OK};
    struct wire_osd_op_reply reply;
    struct asked write, before, after;
    world_settle(&world);
    ask(&world, 0, &write, "a", &write_step, 1);
    world_settle(&world);
    const struct step stat = {.code = WIRE_OP_CODE_STAT};
    ask(&world, 0, &before, "a", &stat, 1);
    world_settle(&world);
    world.now_ns += SEC_NS;
    for (int copy = 0; copy < 2; copy++) {
        reply = leave_alone(FIRST, "a", &creates, -EEXIST);
        assert_memory_equal(&reply.version, &write.reply.version, sizeof reply.version);
        reply = leave_alone(FIRST + 1, "b", &removes, -ENOENT);
        assert_int_equal(reply.version.sequence, 0);
    }
    /* Each is in the log, so that a copy that comes late is answered, and on all disks. */
    assert_int_equal(pg_head(world.nodes[0].pg).sequence, 3);
    ask(&world, 0, &after, "a", &stat, 1);
    world_settle(&world);
    assert_int_equal(after.data.len, sizeof(struct wire_stat));
    assert_memory_equal(after.data.data, before.data.data, after.data.len);
    assert_memory_equal(&after.reply.version, &before.reply.version, sizeof after.reply.version);
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++) {
        assert_int_equal(objects_on_disk(&world, osd), 1);
        assert_equal_disks(&world, 0, osd);
    }
    ask_fini(&write);
    ask_fini(&before);
    ask_fini(&after);
}

static void reads_what_is_asked(void **state)
{
    (void)state;
    const struct step steps[] = {
        {.code = WIRE_OP_CODE_READ, .offset = 2, .length = 3},
        {.code = WIRE_OP_CODE_STAT},
        {.code = WIRE_OP_CODE_READ, .offset = 5},
        {.code = WIRE_OP_CODE_READ, .offset = 100, .length = 10},
    };
    struct asked asked;
    struct wire_stat stat;
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "0123456789"), 0);
    ask(&world, 0, &asked, "a", steps, 4);
    world_settle(&world);
    assert_int_equal(asked.reply.result, 0);
    assert_int_equal(asked.steps[0].data_len, 3);
    assert_int_equal(asked.steps[1].data_len, sizeof stat);
    assert_int_equal(asked.steps[2].data_len, 5);
    assert_int_equal(asked.steps[3].data_len, 0);
    assert_memory_equal(asked.data.data, "234", 3);
    memcpy(&stat, asked.data.data + 3, sizeof stat);
    assert_int_equal(stat.size, 10);
    assert_memory_equal(asked.data.data + 3 + sizeof stat, "56789", 5);
    ask_fini(&asked);
}

static void a_full_store_refuses_growth_but_not_removal(void **state)
{
    (void)state;
    const struct step truncate = {.code = WIRE_OP_CODE_TRUNCATE, .offset = 1};
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    world.nodes[0].pgs.full = true;
    assert_int_equal(append(&world, 0, "a", "more"), -ENOSPC);
    assert_int_equal(write_full(&world, 0, "b", "new"), -ENOSPC);
    assert_int_equal(write_full(&world, 0, "a", "new"), 0);
    assert_int_equal(ask_now(&world, 0, "a", &truncate, 1), 0);
    assert_int_equal(ask_now(&world, 0, "a", &remove_step, 1), 0);
}

static void a_full_member_refuses_growth_through_the_primary(void **state)
{
    (void)state;
    world_settle(&world);
    world.nodes[1].pgs.full = true;
    assert_int_equal(write_full(&world, 0, "a", "old"), 0); /* Its answer tells. */
    assert_int_equal(append(&world, 0, "a", "more"), -ENOSPC);
    assert_int_equal(write_full(&world, 0, "b", "new"), -ENOSPC);
    assert_int_equal(write_full(&world, 0, "a", "new"), 0);
    world.nodes[1].pgs.full = false;
    assert_int_equal(ask_now(&world, 0, "a", &remove_step, 1), 0);
    assert_int_equal(write_full(&world, 0, "b", "new"), 0);
}

/* So much is used of what the primary's store has, in percent of that. */
static void use_store(uint64_t percent)
{
    struct store_statfs fs;
    struct store *store = world.nodes[0].pgs.store;
    store->ops->statfs(store, &fs);
    store_memory_resize(world.nodes[0].disk, fs.bytes_used * 100 / percent);
}

static int watch_now(uint64_t cookie)
{
    struct wire_watch watch = {.timeout_ms = 30000};
    const struct step step = {
        .code = WIRE_OP_CODE_WATCH, .length = cookie, .data = &watch, .len = sizeof watch};
    return ask_now(&world, 0, "a", &step, 1);
}

static int overwrite(size_t len)
{
    static const uint8_t bytes[128 * 1024];
    const struct step step = {.code = WIRE_OP_CODE_WRITE_AT, .data = bytes, .len = len};
    return ask_now(&world, 0, "a", &step, 1);
}

static void the_reserve_is_for_watchers_and_what_keeps_account(void **state)
{
    (void)state;
    world_settle(&world);
    assert_int_equal(overwrite(128 * 1024), 0);
    use_store(101);
    assert_int_equal(overwrite(100), -ENOSPC);
    assert_int_equal(watch_now(1), 0);
    world.full_try = true;
    assert_int_equal(overwrite(100), 0);
    assert_int_equal(overwrite(OPS_FULL_TRY_MAX + 1), -ENOSPC);
    assert_int_equal(append(&world, 0, "a", "more"), -ENOSPC);
    assert_int_equal(write_full(&world, 0, "b", "new"), -ENOSPC);
    /* The rest of it is not for that. */
    use_store(110);
    assert_int_equal(overwrite(100), -ENOSPC);
    assert_int_equal(watch_now(2), -ENOSPC);
    assert_int_equal(ask_now(&world, 0, "a", &remove_step, 1), 0);
    world.full_try = false;
}

static void refuses_objects_that_are_too_large(void **state)
{
    (void)state;
    const struct step far = {
        .code = WIRE_OP_CODE_WRITE_AT, .offset = OBJECT_SIZE_MAX - 1, .data = "ab", .len = 2};
    const struct step edge = {
        .code = WIRE_OP_CODE_WRITE_AT, .offset = OBJECT_SIZE_MAX - 2, .data = "ab", .len = 2};
    world_settle(&world);
    assert_int_equal(ask_now(&world, 0, "a", &far, 1), -EFBIG);
    assert_int_equal(ask_now(&world, 0, "a", &edge, 1), 0);
    assert_int_equal(append(&world, 0, "a", "x"), -EFBIG);
    assert_int_equal(ask_now(&world, 0, "a", &remove_step, 1), 0);
}

static void lists_objects_in_parts(void **state)
{
    (void)state;
    const struct step list = {.code = WIRE_OP_CODE_LIST, .length = 2};
    struct asked asked;
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "1"), 0);
    assert_int_equal(write_full(&world, 0, "b", "2"), 0);
    assert_int_equal(write_full(&world, 0, "c", "3"), 0);
    ask(&world, 0, &asked, "", &list, 1);
    world_settle(&world);
    assert_int_equal(asked.reply.result, 0);
    struct decoder d;
    struct object_id id;
    decoder_init(&d, asked.data.data, asked.data.len);
    assert_int_equal(decode_u32(&d), 2);
    decode_object_id(&d, &id);
    decode_object_id(&d, &id);
    assert_int_equal(decode_u8(&d), 0);
    struct object_id upto;
    decode_object_id(&d, &upto);
    assert_int_equal(object_compare(&upto, &id), 0);
    assert_int_equal(decoder_end(&d), 0);
    ask_fini(&asked);
}

/* The number of objects of a page that is the last one. */
static uint32_t list_page(const struct object_page_ask *ask_for)
{
    struct encoder e;
    struct asked asked;
    struct object_page page;
    encoder_init(&e);
    object_page_ask_encode(&e, ask_for);
    struct step list = {.code = WIRE_OP_CODE_LIST, .data = e.data, .len = e.len};
    list.offset = ask_for->one_space ? WIRE_LIST_ONE_SPACE : 0;
    ask(&world, 0, &asked, "", &list, 1);
    world_settle(&world);
    encoder_fini(&e);
    assert_int_equal(asked.reply.result, 0);
    assert_int_equal(object_page_decode(asked.data.data, asked.data.len, &page), 0);
    assert_true(page.end);
    uint32_t n = page.n;
    ask_fini(&asked);
    return n;
}

static void lists_objects_of_one_namespace(void **state)
{
    (void)state;
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "1"), 0);
    assert_int_equal(write_full(&world, 0, "b", "2"), 0);
    struct object_page_ask ask_for = {.one_space = true};
    assert_int_equal(list_page(&ask_for), 2);
    ask_for.space = (const uint8_t *)"x";
    ask_for.space_len = 1;
    assert_int_equal(list_page(&ask_for), 0);
}

/* A client that has not heard of a split goes on after an object of another group. */
static void lists_nothing_of_other_groups(void **state)
{
    (void)state;
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "1"), 0);
    struct object_page_ask ask_for = {.has_after = true};
    ask_for.after = (struct object_id){.pool = WORLD_POOL};
    assert_int_equal(list_page(&ask_for), 1);
    ask_for.after.hash = UINT32_MAX;
    ask_for.after.snap = OBJECT_HEAD;
    assert_int_equal(list_page(&ask_for), 0);
}

/* ---- Repeated requests ---- */

static void answers_a_repeated_request_from_the_log(void **state)
{
    (void)state;
    struct asked first, second;
    world_settle(&world);
    ask_again(&world, 0, &first, 1000, "a", &append_step, 1);
    world_settle(&world);
    ask_again(&world, 0, &second, 1000, "a", &append_step, 1);
    world_settle(&world);
    assert_int_equal(second.reply.result, 0);
    assert_int_equal(second.reply.version.sequence, first.reply.version.sequence);
    assert_reads(&world, 0, "a", "x");
    ask_fini(&first);
    ask_fini(&second);
}

static void a_repeated_request_waits_for_the_commit_of_the_first(void **state)
{
    (void)state;
    struct asked first, second;
    world_settle(&world);
    world_stop_link(&world, 0, 1, true);
    ask_again(&world, 0, &first, 1000, "a", &append_step, 1);
    ask_again(&world, 0, &second, 1000, "a", &append_step, 1);
    world_settle(&world);
    assert_false(second.done);
    world_stop_link(&world, 0, 1, false);
    world_settle(&world);
    assert_true(first.done && second.done);
    assert_reads(&world, 0, "a", "x");
    ask_fini(&first);
    ask_fini(&second);
}

static void a_failure_is_remembered_like_a_success(void **state)
{
    (void)state;
    struct asked first, second;
    world_settle(&world);
    ask_again(&world, 0, &first, 1000, "a", &remove_step, 1);
    world_settle(&world);
    assert_int_equal(first.reply.result, -ENOENT);
    assert_int_equal(write_full(&world, 0, "a", "new"), 0);
    ask_again(&world, 0, &second, 1000, "a", &remove_step, 1);
    world_settle(&world);
    assert_int_equal(second.reply.result, -ENOENT);
    assert_reads(&world, 0, "a", "new");
    ask_fini(&first);
    ask_fini(&second);
}

static void the_next_primary_answers_repeated_requests_too(void **state)
{
    (void)state;
    struct asked first, second;
    world_settle(&world);
    ask_again(&world, 0, &first, 1000, "a", &append_step, 1);
    world_settle(&world);
    world_crash(&world, 0);
    world_set_up(&world, 0, false, 1, 2, -1);
    world_show_all(&world);
    ask_again(&world, 1, &second, 1000, "a", &append_step, 1);
    world_settle(&world);
    assert_int_equal(second.reply.result, 0);
    assert_reads(&world, 1, "a", "x");
    ask_fini(&first);
    ask_fini(&second);
}

/* ---- Failures ---- */

static void what_one_member_has_the_next_primary_spreads(void **state)
{
    (void)state;
    struct asked asked;
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    world_stop_link(&world, 0, 2, true);
    ask(&world, 0, &asked, "a", &append_step, 1);
    world_settle(&world);
    assert_false(asked.done);
    world_crash(&world, 0);
    world_set_up(&world, 0, false, 1, 2, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
    assert_reads(&world, 1, "a", "oldx");
    assert_on_disk(&world, 2, "a", "oldx");
    assert_equal_disks(&world, 1, 2);
    ask_fini(&asked);
}

static void what_the_next_primary_lacks_is_taken_back(void **state)
{
    (void)state;
    struct asked changed, made;
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    world_stop_link(&world, 0, 1, true);
    ask(&world, 0, &changed, "a", &append_step, 1);
    ask(&world, 0, &made, "b", &write_step, 1);
    world_settle(&world);
    assert_on_disk(&world, 2, "b", "text");
    world_crash(&world, 0);
    world_set_up(&world, 0, false, 1, 2, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_reads(&world, 1, "a", "old");
    assert_on_disk(&world, 2, "a", "old");
    assert_on_disk(&world, 2, "b", NULL);
    assert_equal_disks(&world, 1, 2);
    assert_int_equal(append(&world, 1, "a", " new"), 0);
    assert_on_disk(&world, 2, "a", "old new");
    ask_fini(&changed);
    ask_fini(&made);
}

static void a_member_that_dies_half_way_through_the_change_is_whole(void **state)
{
    (void)state;
    struct asked asked;
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    world_stop_link(&world, 0, 1, true);
    ask(&world, 0, &asked, "a", &append_step, 1);
    world_settle(&world);
    world_crash(&world, 0);
    world_set_up(&world, 0, false, 1, 2, -1);
    world_show_all(&world);
    /* The object was pushed, but the change-over does not arrive: the old state must stand. */
    world_stop_link(&world, 2, 1, true);
    world_settle(&world);
    assert_on_disk(&world, 2, "a", "oldx");
    world_crash(&world, 2);
    world_start(&world, 2);
    world_set_up(&world, 2, true, 1, 2, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
    assert_on_disk(&world, 2, "a", "old");
    assert_equal_disks(&world, 1, 2);
    assert_int_equal(objects_on_disk(&world, 2), 1);
    ask_fini(&asked);
}

/* Taking back leaves nothing in the log that is not durable: the change itself may still be lost.
 */
static void a_change_over_counts_when_it_is_durable(void **state)
{
    (void)state;
    struct asked asked;
    /* The primary to be has served before: nothing of its own holds it up. */
    world_set_members(&world, 1, 0, 2);
    world_show_all(&world);
    world_settle(&world);
    world_set_members(&world, 0, 1, 2);
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    world_stop_link(&world, 0, 1, true);
    ask(&world, 0, &asked, "a", &append_step, 1);
    world_settle(&world);
    world_crash(&world, 0);
    world_set_members(&world, 1, 2, 0);
    world_show_all(&world);
    while (pg_state(world.nodes[2].pg) != PG_STATE_REPLICA_ACTIVE)
        assert_true(world_step(&world));
    /* Before its store has done it, a map makes the primary begin anew. */
    world_set_up(&world, 0, false, 1, 2, -1);
    world_show_all(&world);
    world_settle_for(&world, 0);
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    assert_state(2, PG_STATE_REPLICA_ACTIVE);
    world_settle(&world);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
    assert_equal_disks(&world, 1, 2);
    ask_fini(&asked);
}

/* The member that takes a write back becomes the primary before its store has done so. */
static void a_primary_waits_for_its_own_change_over(void **state)
{
    (void)state;
    struct asked asked;
    for (int32_t osd = WORLD_OSDS - 1; osd >= 0; osd--) {
        world_set_members(&world, osd, (osd + 1) % WORLD_OSDS, (osd + 2) % WORLD_OSDS);
        world_show_all(&world);
        world_settle(&world);
    }
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    world_stop_link(&world, 0, 1, true);
    ask(&world, 0, &asked, "a", &append_step, 1);
    world_settle(&world);
    assert_on_disk(&world, 2, "a", "oldx");
    world_crash(&world, 0);
    world_set_up(&world, 0, false, 1, 2, -1);
    world_show_all(&world);
    while (pg_state(world.nodes[2].pg) != PG_STATE_REPLICA_ACTIVE)
        assert_true(world_step(&world));
    world_set_members(&world, 2, 1, -1);
    world_show_all(&world);
    while (pg_state(world.nodes[2].pg) != PG_STATE_PRIMARY_ACTIVE)
        assert_true(world_step(&world));
    assert_on_disk(&world, 2, "a", "old");
    assert_reads(&world, 2, "a", "old");
    assert_equal_disks(&world, 1, 2);
    ask_fini(&asked);
}

static void requests_under_way_survive_a_change_of_members(void **state)
{
    (void)state;
    struct asked asked;
    world_settle(&world);
    world_stop_link(&world, 0, 2, true);
    ask(&world, 0, &asked, "a", &write_step, 1);
    world_settle(&world);
    assert_false(asked.done);
    world_crash(&world, 2);
    world_set_up(&world, 2, false, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_true(asked.done);
    assert_int_equal(asked.reply.result, 0);
    assert_equal_disks(&world, 0, 1);
    ask_fini(&asked);
}

static void a_primary_that_is_replaced_sends_its_clients_away(void **state)
{
    (void)state;
    struct asked running, held;
    world_settle(&world);
    world_stop_link(&world, 0, 2, true);
    ask(&world, 0, &running, "a", &write_step, 1);
    ask(&world, 0, &held, "a", &read_step, 1);
    world_settle(&world);
    world_set_members(&world, 1, 0, 2);
    world_show(&world, 0);
    assert_true(running.done && held.done);
    assert_int_equal(running.reply.result, -ELIMPET_NOT_PRIMARY);
    assert_int_equal(held.reply.result, -ELIMPET_NOT_PRIMARY);
    assert_int_equal(running.reply.epoch, world.map->epoch);
    ask_fini(&running);
    ask_fini(&held);
}

static void waits_inactive_below_min_size(void **state)
{
    (void)state;
    struct asked asked;
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    world_crash(&world, 1);
    world_crash(&world, 2);
    world_set_up(&world, 1, false, 0, 2, -1);
    world_show_all(&world);
    world_set_up(&world, 2, false, 0, 2, -1);
    world_show_all(&world);
    ask(&world, 0, &asked, "a", &append_step, 1);
    world_settle(&world);
    assert_state(0, PG_STATE_PRIMARY_INACTIVE);
    assert_false(asked.done);
    world_start(&world, 2);
    world_set_up(&world, 2, true, 0, 2, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_true(asked.done);
    assert_on_disk(&world, 2, "a", "oldx");
    ask_fini(&asked);
}

static void restart_all(void)
{
    for (int32_t osd = 0; osd < 3; osd++)
        world_crash(&world, osd);
    for (int32_t osd = 0; osd < 3; osd++) {
        world_start(&world, osd);
        world_set_up(&world, osd, true, 0, 1, 2);
    }
    world_show_all(&world);
    world_settle(&world);
}

static void a_restart_of_all_finds_everything(void **state)
{
    (void)state;
    struct asked again;
    world_settle(&world);
    assert_int_equal(append(&world, 0, "a", "one"), 0);
    ask_again(&world, 0, &again, 1000, "a", &append_step, 1);
    world_settle(&world);
    ask_fini(&again);
    restart_all();
    assert_state(0, PG_STATE_PRIMARY_ACTIVE);
    assert_reads(&world, 0, "a", "onex");
    ask_again(&world, 0, &again, 1000, "a", &append_step, 1);
    world_settle(&world);
    assert_reads(&world, 0, "a", "onex");
    assert_int_equal(pg_head(world.nodes[0].pg).sequence, 2);
    ask_fini(&again);
}

/* ---- Runs of the log ---- */

struct run_keys {
    uint32_t runs, entries;
    uint8_t oldest[PG_NUMBERED_KEY_LEN]; /* Of the runs. */
};

static void count_key(void *ctx, const uint8_t *key, uint16_t len, const uint8_t *value,
                      uint32_t value_len)
{
    struct run_keys *keys = ctx;
    uint64_t number;
    (void)value, (void)value_len;
    if (pg_numbered_key_parse(PG_KEY_RUN, key, len, &number) == 0 && keys->runs++ == 0)
        memcpy(keys->oldest, key, len);
    keys->entries += pg_numbered_key_parse(PG_KEY_LOG, key, len, &number) == 0;
}

static struct run_keys keys_of(int32_t osd)
{
    struct run_keys keys = {0};
    store_memory_visit_pairs(world.nodes[osd].disk, world.pg, count_key, &keys);
    return keys;
}

/* Logs of all lengths, so that the oldest run begins before, at and after where the log does. */
static void entries_go_into_runs_and_come_back(void **state)
{
    (void)state;
    enum { KEEP = 96, WRITES = 140, RUN = KEEP / 32 };
    struct asked again;
    world_settle(&world);
    world.log_keep = KEEP;
    restart_all();
    for (uint64_t i = 1; i <= WRITES; i++) {
        ask_again(&world, 0, &again, 1000 + i, "a", &append_step, 1);
        world_settle(&world);
        assert_int_equal(again.reply.result, 0);
        ask_fini(&again);
    }
    for (int32_t osd = 0; osd < 3; osd++) {
        assert_in_range(keys_of(osd).runs, KEEP / RUN / 2, (KEEP + KEEP / 4) / RUN + 1);
        assert_in_range(keys_of(osd).entries, 1, 2 * RUN);
    }
    for (uint64_t i = 1; i <= WRITES; i++) {
        if (i % 29 == 1)
            restart_all();
        assert_int_equal(pg_head(world.nodes[0].pg).sequence, WRITES + i / 29);
        ask_again(&world, 0, &again, 1000 + i, "a", &append_step, 1);
        world_settle(&world);
        assert_int_equal(again.reply.result, 0);
        ask_fini(&again);
        if (i % 29 == 28)
            assert_int_equal(append(&world, 0, "b", "x"), 0);
    }
    char text[WRITES + 1] = {0};
    memset(text, 'x', WRITES);
    assert_reads(&world, 0, "a", text);
}

static void changed(struct store_txn *txn, int error)
{
    assert_int_equal(error, 0);
    txn->impl[0] = NULL;
}

/* Value NULL: the run is gone. */
static void a_start_with_this_run_stops(const void *value, uint32_t len, bool oldest)
{
    struct run_keys keys = keys_of(1);
    struct store_txn txn;
    uint8_t key[PG_NUMBERED_KEY_LEN], end[PG_NUMBERED_KEY_LEN];
    uint64_t number;
    assert_int_equal(pg_numbered_key_parse(PG_KEY_RUN, keys.oldest, PG_NUMBERED_KEY_LEN, &number),
                     0);
    /* Runs of two. */
    number += oldest ? 0 : 2;
    pg_numbered_key(PG_KEY_RUN, number, key);
    pg_numbered_key(PG_KEY_RUN, number + 1, end);
    txn_init(&txn);
    txn.done = changed;
    if (value)
        txn_pg_set(&txn, world.pg, key, sizeof key, value, len);
    else
        txn_pg_remove_range(&txn, world.pg, key, sizeof key, end, sizeof end);
    store_submit(world.nodes[1].store, &txn);
    world_settle(&world);
    txn_fini(&txn);
    world_crash(&world, 1);
    world_start(&world, 1);
    world_settle_for(&world, 1000000);
    assert_true(world.nodes[1].fatal);
    world.nodes[1].fatal = false;
}

static void set_up_runs(void)
{
    world_settle(&world);
    world.log_keep = 60;
    restart_all();
    for (int i = 0; i < 40; i++)
        assert_int_equal(append(&world, 0, "a", "x"), 0);
    assert_true(keys_of(1).runs > 10);
}

static void refuses_a_run_that_is_no_run(void **state)
{
    (void)state;
    set_up_runs();
    a_start_with_this_run_stops("no entries", 10, false);
}

static void refuses_an_empty_run(void **state)
{
    (void)state;
    set_up_runs();
    a_start_with_this_run_stops("", 0, false);
}

static void refuses_a_log_without_one_of_its_runs(void **state)
{
    (void)state;
    set_up_runs();
    a_start_with_this_run_stops(NULL, 0, false);
}

static void refuses_a_log_without_its_oldest_run(void **state)
{
    (void)state;
    set_up_runs();
    a_start_with_this_run_stops(NULL, 0, true);
}

static void refuses_to_serve_without_what_was_acknowledged(void **state)
{
    (void)state;
    world_settle(&world);
    for (int i = 0; i < 3; i++)
        assert_int_equal(append(&world, 0, "a", "x"), 0);
    /* OSD 1 loses its disk without the map knowing: it must not become the authority. */
    world_crash(&world, 0);
    world_crash(&world, 1);
    store_memory_disk_destroy(world.nodes[1].disk);
    world.nodes[1].disk = store_memory_disk_create(1 << 20);
    world_start(&world, 1);
    world_set_up(&world, 0, false, 1, 2, -1);
    world_set_up(&world, 1, true, 1, 2, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    Limpet__Wire__PgStat stat;
    pg_stat(world.nodes[1].pg, &stat);
    assert_non_null(strstr(stat.waiting, "lacks"));
    assert_on_disk(&world, 2, "a", "xxx");
}

/* ---- Sessions ---- */

static void sends_again_what_a_lost_session_took_along(void **state)
{
    (void)state;
    struct asked asked[3];
    world_settle(&world);
    world_stop_link(&world, 0, 2, true);
    for (int i = 0; i < 3; i++)
        ask(&world, 0, &asked[i], "a", &append_step, 1);
    world_settle(&world);
    world_reset_link(&world, 0, 2);
    world_stop_link(&world, 0, 2, false);
    world_settle(&world);
    for (int i = 0; i < 3; i++) {
        assert_true(asked[i].done);
        assert_int_equal(asked[i].reply.result, 0);
        ask_fini(&asked[i]);
    }
    assert_equal_disks(&world, 0, 2);
    assert_on_disk(&world, 2, "a", "xxx");
}

static void takes_a_write_once_though_it_is_sent_twice(void **state)
{
    (void)state;
    struct asked asked;
    world_settle(&world);
    world_stop_link(&world, 2, 0, true);
    ask(&world, 0, &asked, "a", &append_step, 1);
    world_settle(&world);
    assert_false(asked.done);
    /* The acknowledgement is lost with the session. */
    world_reset_link(&world, 0, 2);
    world_stop_link(&world, 2, 0, false);
    world_settle(&world);
    assert_true(asked.done);
    assert_on_disk(&world, 2, "a", "x");
    assert_equal_disks(&world, 0, 2);
    ask_fini(&asked);
}

static void a_gap_makes_the_members_equal_again(void **state)
{
    (void)state;
    struct asked lost, next;
    world_settle(&world);
    world.links[0][2].lossy = true;
    ask(&world, 0, &lost, "a", &append_step, 1);
    world_settle(&world);
    world.links[0][2].lossy = false;
    ask(&world, 0, &next, "a", &append_step, 1);
    world_settle(&world);
    assert_false(next.done);
    assert_on_disk(&world, 2, "a", NULL);
    world_ticks(&world, 1);
    assert_true(lost.done && next.done);
    assert_on_disk(&world, 2, "a", "xx");
    assert_equal_disks(&world, 0, 2);
    ask_fini(&lost);
    ask_fini(&next);
}

static void nobody_changes_over_without_what_could_not_be_pushed(void **state)
{
    (void)state;
    struct asked asked[3];
    struct object_id id = world_object("a");
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    world.links[0][1].lossy = world.links[0][2].lossy = true;
    ask(&world, 0, &asked[0], "a", &append_step, 1);
    ask(&world, 0, &asked[1], "b", &write_step, 1);
    world_settle(&world);
    world.links[0][1].lossy = world.links[0][2].lossy = false;
    /* Of two objects that go together, the primary cannot read the first. */
    assert_true(store_memory_damage(world.nodes[0].disk, &id, STORE_DAMAGE_ROT, 1));
    ask(&world, 0, &asked[2], "c", &write_step, 1);
    world_settle(&world);
    world_ticks(&world, 12);
    assert_state(0, PG_STATE_PRIMARY_ACTIVATING);
    assert_false(asked[0].done || asked[1].done || asked[2].done);
    assert_true(store_memory_damage(world.nodes[0].disk, &id, STORE_DAMAGE_NONE, 0));
    world_ticks(&world, 12);
    assert_state(0, PG_STATE_PRIMARY_ACTIVE);
    for (int32_t osd = 0; osd < 3; osd++)
        assert_on_disk(&world, osd, "a", "oldx");
    assert_equal_disks(&world, 0, 1);
    assert_equal_disks(&world, 0, 2);
    for (int i = 0; i < 3; i++) {
        assert_true(asked[i].done);
        ask_fini(&asked[i]);
    }
}

static void activation_is_tried_again_when_nothing_happens(void **state)
{
    (void)state;
    world.links[0][1].lossy = true;
    world_settle(&world);
    assert_state(0, PG_STATE_PRIMARY_ACTIVATING);
    world.links[0][1].lossy = false;
    world_ticks(&world, 10);
    assert_state(0, PG_STATE_PRIMARY_ACTIVE);
}

/* ---- Configurations ---- */

static void a_member_refuses_an_older_configuration(void **state)
{
    (void)state;
    struct asked asked;
    world_settle(&world);
    world_set_members(&world, 1, 0, 2);
    world_show(&world, 1);
    world_show(&world, 2);
    world_settle(&world);
    /* The old primary does not know, and cannot have its write acknowledged. */
    ask(&world, 0, &asked, "a", &write_step, 1);
    world_settle(&world);
    assert_false(asked.done);
    assert_on_disk(&world, 1, "a", NULL);
    assert_on_disk(&world, 2, "a", NULL);
    assert_true(world.nodes[0].wants_epoch == world.map->epoch);
    world_show(&world, 0);
    world_settle(&world);
    assert_int_equal(asked.reply.result, -ELIMPET_NOT_PRIMARY);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
    assert_on_disk(&world, 0, "a", NULL);
    assert_equal_disks(&world, 0, 1);
    ask_fini(&asked);
}

static void a_message_of_the_future_waits_for_its_map(void **state)
{
    (void)state;
    world_settle(&world);
    world_set_members(&world, 0, 2, 1);
    world_show(&world, 0);
    world_settle(&world);
    assert_state(0, PG_STATE_PRIMARY_ACTIVATING);
    assert_int_equal(world.nodes[1].wants_epoch, world.map->epoch);
    world_show(&world, 1);
    world_show(&world, 2);
    world_settle(&world);
    assert_state(0, PG_STATE_PRIMARY_ACTIVE);
}

static void forgetting_the_entry_is_no_change(void **state)
{
    (void)state;
    const struct pg_world *pgs = &world.nodes[0].pgs;
    struct pg_view view;
    struct asked asked;
    assert_int_equal(map_pg_view(pgs->map, world.pg, &view), 0);
    world_set_members(&world, view.wanted[0], view.wanted[1], view.wanted[2]);
    world_show_all(&world);
    world_settle(&world);
    int32_t primary = view.wanted[0], late = view.wanted[1], other = view.wanted[2];
    assert_int_equal(write_full(&world, primary, "a", "old"), 0);
    memset(world.delivered, 0, sizeof world.delivered);
    world_rebase(&world);
    world_show(&world, primary);
    world_show(&world, other);
    /* One member does not know the new number yet; it waits for the map and no more. */
    ask(&world, primary, &asked, "a", &append_step, 1);
    world_settle(&world);
    assert_false(asked.done);
    world_show(&world, late);
    world_settle(&world);
    assert_true(asked.done);
    assert_int_equal(world.delivered[MSG_PG_ACTIVATE], 0);
    assert_on_disk(&world, late, "a", "oldx");
    /* And a primary that does not know it is understood by members that do. */
    world_rebase(&world);
    world_show(&world, late);
    world_show(&world, other);
    assert_int_equal(append(&world, primary, "a", "y"), 0);
    assert_int_equal(world.delivered[MSG_PG_ACTIVATE], 0);
    ask_fini(&asked);
}

/* A write that looked under the former number looks again, before those that came after it. */
static void a_write_that_begins_again_keeps_its_place(void **state)
{
    (void)state;
    enum { LATER = 3 };
    struct pg_view view;
    struct asked first, later[LATER];
    const struct step looks[] = {
        {.code = WIRE_OP_CODE_COMPARE_EXTENT, .data = "old", .len = 3},
        append_step,
    };
    assert_int_equal(map_pg_view(world.nodes[0].pgs.map, world.pg, &view), 0);
    world_set_members(&world, view.wanted[0], view.wanted[1], view.wanted[2]);
    world_show_all(&world);
    world_settle(&world);
    int32_t primary = view.wanted[0];
    assert_int_equal(write_full(&world, primary, "a", "old"), 0);
    ask(&world, primary, &first, "a", looks, 2);
    for (int i = 0; i < LATER; i++) {
        const struct step step = {.code = WIRE_OP_CODE_APPEND, .data = &"123"[i], .len = 1};
        ask(&world, primary, &later[i], "a", &step, 1);
    }
    /* Nothing was read yet, and the primary does not cease to serve. */
    world_rebase(&world);
    world_show_all(&world);
    assert_state(primary, PG_STATE_PRIMARY_ACTIVE);
    assert_false(first.done);
    world_settle(&world);
    assert_true(first.done);
    assert_int_equal(first.reply.result, 0);
    ask_fini(&first);
    for (int i = 0; i < LATER; i++) {
        assert_true(later[i].done && later[i].reply.result == 0);
        ask_fini(&later[i]);
    }
    assert_reads(&world, primary, "a", "oldx123");
}

static void a_former_primary_outside_the_set_is_told_first(void **state)
{
    (void)state;
    world_set_members(&world, 0, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(write_full(&world, 0, "a", "old"), 0);
    world_set_members(&world, 1, 2, -1);
    world_set_members(&world, 1, -1, -1);
    world_set_members(&world, 1, 2, -1);
    /* OSD 0 is in no set any more and has not heard of it: it would still answer reads. */
    world.nodes[1].granted_until_ns[0] = world.now_ns + 100 * SEC_NS;
    world_show(&world, 1);
    world_show(&world, 2);
    world_settle_for(&world, 10 * SEC_NS);
    assert_state(0, PG_STATE_PRIMARY_ACTIVE);
    assert_state(1, PG_STATE_PRIMARY_ACTIVATING);
    world_show(&world, 0);
    world_settle(&world);
    world_ticks(&world, 10);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
}

static void a_former_primary_that_is_down_needs_no_telling(void **state)
{
    (void)state;
    world_settle(&world);
    world_set_up(&world, 0, false, 1, 2, -1);
    world_show(&world, 1);
    world_show(&world, 2);
    world_settle(&world);
    assert_state(1, PG_STATE_PRIMARY_ACTIVE);
}

/* ---- Removal ---- */

static void removes_everything_when_the_pool_is_gone(void **state)
{
    (void)state;
    struct asked asked;
    world_settle(&world);
    for (char name[2] = "a"; name[0] < 'k'; name[0]++)
        assert_int_equal(write_full(&world, 0, name, "data"), 0);
    ask(&world, 0, &asked, "z", &write_step, 1);
    world_remove_pool(&world);
    world_show_all(&world);
    assert_int_equal(asked.reply.result, -ELIMPET_NOT_PRIMARY);
    world_settle(&world);
    for (int32_t osd = 0; osd < 3; osd++) {
        assert_int_equal(objects_on_disk(&world, osd), 0);
        assert_true(pg_is_disposable(world.nodes[osd].pg));
    }
    ask_fini(&asked);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(activates_a_new_group),
        TEST(holds_requests_until_it_is_active),
        TEST(writes_reach_every_member),
        TEST(acknowledges_when_the_last_member_has_it),
        TEST(one_message_to_each_member),
        TEST(a_read_waits_for_writes_before_it),
        TEST(writes_of_an_object_do_not_wait_for_each_other),
        TEST(a_request_is_whole_or_not_at_all),
        TEST(an_object_that_nothing_changes_stays_as_it_is),
        TEST(reads_what_is_asked),
        TEST(a_full_store_refuses_growth_but_not_removal),
        TEST(a_full_member_refuses_growth_through_the_primary),
        TEST(the_reserve_is_for_watchers_and_what_keeps_account),
        TEST(refuses_objects_that_are_too_large),
        TEST(lists_objects_in_parts),
        TEST(lists_objects_of_one_namespace),
        TEST(lists_nothing_of_other_groups),
        TEST(answers_a_repeated_request_from_the_log),
        TEST(a_repeated_request_waits_for_the_commit_of_the_first),
        TEST(a_failure_is_remembered_like_a_success),
        TEST(the_next_primary_answers_repeated_requests_too),
        TEST(what_one_member_has_the_next_primary_spreads),
        TEST(what_the_next_primary_lacks_is_taken_back),
        TEST(a_member_that_dies_half_way_through_the_change_is_whole),
        TEST(a_change_over_counts_when_it_is_durable),
        TEST(a_primary_waits_for_its_own_change_over),
        TEST(requests_under_way_survive_a_change_of_members),
        TEST(a_primary_that_is_replaced_sends_its_clients_away),
        TEST(waits_inactive_below_min_size),
        TEST(a_restart_of_all_finds_everything),
        TEST(entries_go_into_runs_and_come_back),
        TEST(refuses_a_run_that_is_no_run),
        TEST(refuses_an_empty_run),
        TEST(refuses_a_log_without_one_of_its_runs),
        TEST(refuses_a_log_without_its_oldest_run),
        TEST(refuses_to_serve_without_what_was_acknowledged),
        TEST(sends_again_what_a_lost_session_took_along),
        TEST(takes_a_write_once_though_it_is_sent_twice),
        TEST(a_gap_makes_the_members_equal_again),
        TEST(nobody_changes_over_without_what_could_not_be_pushed),
        TEST(activation_is_tried_again_when_nothing_happens),
        TEST(a_member_refuses_an_older_configuration),
        TEST(a_message_of_the_future_waits_for_its_map),
        TEST(forgetting_the_entry_is_no_change),
        TEST(a_write_that_begins_again_keeps_its_place),
        TEST(a_former_primary_outside_the_set_is_told_first),
        TEST(a_former_primary_that_is_down_needs_no_telling),
        TEST(removes_everything_when_the_pool_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
