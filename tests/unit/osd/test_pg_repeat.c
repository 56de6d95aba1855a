/* Requests that are repeated when their entries have left the log. */
#include "tests/unit/osd/pg_world.h"

#include "osd/pg/pg_clients.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct world world;

enum { FIRST = 1000, LOG_KEEP = 4 };

static const struct step append_step = {.code = WIRE_OP_CODE_APPEND, .data = "x", .len = 1};
static const struct step remove_step = {.code = WIRE_OP_CODE_REMOVE};

/* OSDs 0 and 1 are members, 2 is wanted; logs are short, and the client waits for FIRST. */
static int set_up(void **state)
{
    (void)state;
    world_init(&world, 0, 1, -1);
    world.log_keep = LOG_KEEP;
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++)
        world.nodes[osd].pgs.log_keep = LOG_KEEP;
    world.next_tid = FIRST;
    world.oldest = FIRST;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    world_fini(&world);
    return 0;
}

static struct wire_osd_op_reply repeat(int32_t osd, uint64_t tid, const struct step *step)
{
    struct asked asked;
    ask_again(&world, osd, &asked, tid, "a", step, 1);
    world_settle(&world);
    assert_true(asked.done);
    ask_fini(&asked);
    return asked.reply;
}

/* So many that nothing before is left in the log. */
static void write_others(int32_t osd)
{
    for (int i = 0; i < 3 * LOG_KEEP; i++)
        assert_int_equal(write_full(&world, osd, "other", "text"), 0);
}

static void crash_and_start_all(void)
{
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++)
        world_crash(&world, osd);
    for (int32_t osd = 0; osd < WORLD_OSDS; osd++) {
        world_start(&world, osd);
        world_set_up(&world, osd, true, 0, 1, -1);
    }
    world_show_all(&world);
    world_settle(&world);
}

static void answers_after_the_log_was_cut(void **state)
{
    (void)state;
    world_settle(&world);
    struct wire_osd_op_reply first = repeat(0, FIRST, &append_step);
    assert_int_equal(first.result, 0);
    write_others(0);
    struct wire_osd_op_reply second = repeat(0, FIRST, &append_step);
    assert_int_equal(second.result, 0);
    assert_int_equal(second.version.sequence, first.version.sequence);
    assert_reads(&world, 0, "a", "x");
}

/* A write that begins when these are committed cuts the log by what answers them. */
static void answers_before_the_log_is_cut(void **state)
{
    (void)state;
    enum { WRITES = 3 * LOG_KEEP };
    const struct step read_step = {.code = WIRE_OP_CODE_READ};
    struct asked writes[WRITES], copies[WRITES], read, last;
    world_settle(&world);
    world_stop_link(&world, 1, 0, true);
    for (uint64_t i = 0; i < WRITES; i++)
        ask_again(&world, 0, &writes[i], FIRST + i, "a", &remove_step, 1);
    for (uint64_t i = 0; i < WRITES; i++)
        ask_again(&world, 0, &copies[i], FIRST + i, "a", &remove_step, 1);
    ask_again(&world, 0, &read, FIRST + WRITES, "a", &read_step, 1);
    ask_again(&world, 0, &last, FIRST + WRITES + 1, "a", &append_step, 1);
    world_settle(&world);
    assert_false(writes[0].done || copies[0].done || read.done || last.done);
    /* What the member has said is lost; what it says then is true of all. */
    world_stop_link(&world, 1, 0, false);
    world_reset_link(&world, 0, 1);
    world_settle(&world);
    for (uint64_t i = 0; i < WRITES; i++) {
        assert_true(writes[i].done && writes[i].reply.result == -ENOENT);
        assert_true(copies[i].done && copies[i].reply.result == -ENOENT);
        assert_int_equal(copies[i].reply.version.sequence, writes[i].reply.version.sequence);
        ask_fini(&writes[i]);
        ask_fini(&copies[i]);
    }
    assert_true(read.done && last.done);
    assert_reads(&world, 0, "a", "x");
    ask_fini(&read);
    ask_fini(&last);
}

static void a_failure_stays_one(void **state)
{
    (void)state;
    world_settle(&world);
    assert_int_equal(repeat(0, FIRST, &remove_step).result, -ENOENT);
    assert_int_equal(write_full(&world, 0, "a", "new"), 0);
    write_others(0);
    assert_int_equal(repeat(0, FIRST, &remove_step).result, -ENOENT);
    assert_reads(&world, 0, "a", "new");
}

static void a_restart_remembers(void **state)
{
    (void)state;
    world_settle(&world);
    assert_int_equal(repeat(0, FIRST, &append_step).result, 0);
    write_others(0);
    crash_and_start_all();
    assert_int_equal(repeat(0, FIRST, &append_step).result, 0);
    assert_reads(&world, 0, "a", "x");
}

static void a_late_copy_is_refused(void **state)
{
    (void)state;
    world_settle(&world);
    assert_int_equal(repeat(0, FIRST, &append_step).result, 0);
    world.oldest = FIRST + 1; /* The client has the answer. */
    write_others(0);
    world.oldest = FIRST; /* As the copy says. */
    assert_int_equal(repeat(0, FIRST, &append_step).result, -ESTALE);
    /* One that was never executed is refused, too. */
    world.oldest = FIRST - 1;
    assert_int_equal(repeat(0, FIRST - 1, &append_step).result, -ESTALE);
    crash_and_start_all();
    world.oldest = FIRST;
    assert_int_equal(repeat(0, FIRST, &append_step).result, -ESTALE);
    assert_reads(&world, 0, "a", "x");
}

static void a_copy_that_was_filled_answers(void **state)
{
    (void)state;
    world_settle(&world);
    assert_int_equal(repeat(0, FIRST, &append_step).result, 0);
    write_others(0);
    world_ticks(&world, 20);
    assert_int_equal(world.nodes[0].add_osd, 2);
    world_set_members(&world, 0, 1, 2);
    world_show_all(&world);
    world_settle(&world);
    assert_equal_disks(&world, 0, 2);
    world_crash(&world, 0);
    world_set_up(&world, 0, false, 2, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(repeat(2, FIRST, &append_step).result, 0);
    assert_reads(&world, 2, "a", "x");
}

/* More clients than are remembered write, in a minute of the group's life. */
static void write_as_many_clients(int32_t osd)
{
    for (uint64_t client = 1000; client <= 1000 + PG_CLIENTS_MAX + 2 * LOG_KEEP; client++) {
        world.client = client;
        assert_int_equal(write_full(&world, osd, "other", "text"), 0);
    }
    world.client = 0;
    world_ticks(&world, 120);
}

static void a_forgotten_client_is_refused_not_answered_twice(void **state)
{
    (void)state;
    world_settle(&world);
    world_ticks(&world, 20);
    assert_int_equal(repeat(0, FIRST, &append_step).result, 0);
    write_as_many_clients(0);
    assert_true(world.nodes[0].pgs.results_dropped > 0);
    world.age_ns = UINT64_C(70) * 1000000000;
    assert_int_equal(repeat(0, FIRST, &append_step).result, -ESTALE);
    assert_int_equal(world.nodes[0].pgs.repeats_refused, 1);
    assert_reads(&world, 0, "a", "x");

    /* A restart knows it, and so does a copy that was filled. */
    crash_and_start_all();
    world_ticks(&world, 20);
    assert_int_equal(repeat(0, FIRST, &append_step).result, -ESTALE);
    world_set_members(&world, 0, 1, 2);
    world_show_all(&world);
    world_settle(&world);
    assert_equal_disks(&world, 0, 2);
    world_crash(&world, 0);
    world_set_up(&world, 0, false, 2, 1, -1);
    world_show_all(&world);
    world_settle(&world);
    assert_int_equal(repeat(2, FIRST, &append_step).result, -ESTALE);

    /* What was asked for the first time since then is executed, however often it was sent. */
    world_ticks(&world, 60);
    world.age_ns = UINT64_C(10) * 1000000000;
    world.client = 5;
    world.oldest = 1;
    assert_int_equal(repeat(2, 1, &append_step).result, 0);
    assert_reads(&world, 2, "a", "xx");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_after_the_log_was_cut),
        TEST(answers_before_the_log_is_cut),
        TEST(a_failure_stays_one),
        TEST(a_restart_remembers),
        TEST(a_late_copy_is_refused),
        TEST(a_copy_that_was_filled_answers),
        TEST(a_forgotten_client_is_refused_not_answered_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
