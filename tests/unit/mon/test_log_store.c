/* The log store: what is durable when, and what it does about damage. */
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mon/log_layout.h"
#include "mon/log_store.h"
#include "tests/sim/env_sim.h"

enum { TYPE_COMMAND = 1, TYPE_CHANGE = 3 };

static const char conf[] = "the first configuration";

struct fixture {
    struct sim *sim;
    struct sim_node *node;
    struct env *env;
    struct log_store *store;
};

static void start(struct fixture *f)
{
    f->env = sim_process_start(f->node);
    assert_non_null(f->env);
}

static void end(struct fixture *f, enum sim_end how)
{
    sim_process_freeze(f->node);
    log_store_close(f->store);
    f->store = NULL;
    sim_process_end(f->node, how);
}

static void setup(struct fixture *f, uint64_t seed)
{
    struct sim_options options = {.seed = seed};
    struct entity_name name = {.type = ENTITY_MON, .id = "a"};

    memset(f, 0, sizeof *f);
    f->sim = sim_create(&options);
    assert_non_null(f->sim);
    f->node = sim_node_create(f->sim, "mon.a", &name);
    start(f);
    assert_int_equal(log_store_mkfs(f->env, TYPE_CHANGE, conf, sizeof conf), 0);
}

static void teardown(struct fixture *f)
{
    end(f, SIM_EXIT);
    sim_destroy(f->sim);
}

static void open_store(struct fixture *f)
{
    char why[LOG_STORE_WHY_MAX] = "";
    int rc = log_store_open(f->env, &f->store, why);

    if (rc != 0)
        fail_msg("the store does not open: %d %s", rc, why);
}

/* The data of entry i in the tests: its length and bytes follow from its number and term. */
static size_t make_data(uint64_t index, uint64_t term, uint8_t *out)
{
    size_t len = (size_t)((index * 37 + term * 11) % 300);

    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(index + term * 3 + i);
    return len;
}

static void append(struct fixture *f, uint64_t term)
{
    uint8_t data[512];
    size_t len = make_data(log_store_last(f->store) + 1, term, data);

    assert_int_equal(log_store_append(f->store, term, TYPE_COMMAND, data, len), 0);
}

static void check_entry(struct fixture *f, uint64_t index, uint64_t term)
{
    struct log_entry entry;
    uint8_t want[512];
    uint8_t have[512];

    assert_int_equal(log_store_entry(f->store, index, &entry), 0);
    assert_int_equal(entry.term, term);
    assert_int_equal(entry.len, make_data(index, term, want));
    assert_int_equal(log_store_read(f->store, index, have), 0);
    assert_memory_equal(have, want, entry.len);
}

static void put_snapshot(struct fixture *f, uint64_t index, unsigned trailing)
{
    struct log_entry entry;
    struct log_snapshot snapshot = {.index = index,
                                    .conf_index = 1,
                                    .conf = conf,
                                    .conf_len = sizeof conf,
                                    .data = "state",
                                    .data_len = 5};

    if (log_store_entry(f->store, index, &entry) != 0)
        entry.term = 9;
    snapshot.term = entry.term;
    assert_int_equal(log_store_put_snapshot(f->store, &snapshot, trailing), 0);
}

/* ---- Ordinary life ---- */

static void keeps_entries_over_a_restart(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 1);
    open_store(&f);
    assert_int_equal(log_store_term(f.store), 1);
    assert_int_equal(log_store_vote(f.store), 0);
    assert_int_equal(log_store_first(f.store), 1);
    assert_int_equal(log_store_last(f.store), 1);
    for (int i = 0; i < 10; i++)
        append(&f, 1);
    /* They can be read before they are flushed, and after. */
    check_entry(&f, 5, 1);
    assert_int_equal(log_store_flush(f.store), 0);
    for (int i = 0; i < 2000; i++) {
        append(&f, 2);
        if (i % 7 == 0)
            assert_int_equal(log_store_flush(f.store), 0);
    }
    assert_int_equal(log_store_flush(f.store), 0);
    end(&f, SIM_POWER_CUT);
    start(&f);
    open_store(&f);
    assert_int_equal(log_store_last(f.store), 2011);
    for (uint64_t i = 2; i <= 11; i++)
        check_entry(&f, i, 1);
    for (uint64_t i = 12; i <= 2011; i++)
        check_entry(&f, i, 2);
    struct log_entry entry;
    assert_int_equal(log_store_entry(f.store, 2012, &entry), -ENOENT);
    assert_int_equal(log_store_entry(f.store, 0, &entry), -ENOENT);
    teardown(&f);
}

static void one_flush_makes_all_queued_entries_durable(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 2);
    open_store(&f);
    uint64_t before = log_store_flushes(f.store);
    for (int i = 0; i < 50; i++)
        append(&f, 1);
    assert_int_equal(log_store_flushes(f.store), before);
    assert_int_equal(log_store_flush(f.store), 0);
    assert_int_equal(log_store_flushes(f.store), before + 1);
    assert_int_equal(log_store_flush(f.store), 0);
    assert_int_equal(log_store_flushes(f.store), before + 1);
    teardown(&f);
}

static void term_and_vote_are_durable_at_once(void **state)
{
    struct fixture f;

    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        setup(&f, seed);
        open_store(&f);
        for (uint64_t term = 2; term < 8; term++) {
            assert_int_equal(log_store_set_term(f.store, term), 0);
            assert_int_equal(log_store_vote(f.store), 0);
            assert_int_equal(log_store_set_vote(f.store, term % 3 + 1), 0);
            end(&f, SIM_POWER_CUT);
            start(&f);
            open_store(&f);
            assert_int_equal(log_store_term(f.store), term);
            assert_int_equal(log_store_vote(f.store), term % 3 + 1);
        }
        teardown(&f);
    }
}

static void truncation_is_durable(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 4);
    open_store(&f);
    for (int i = 0; i < 20; i++)
        append(&f, 1);
    assert_int_equal(log_store_flush(f.store), 0);
    /* Some that wait for a flush go, too. */
    append(&f, 1);
    assert_int_equal(log_store_truncate(f.store, 15), 0);
    assert_int_equal(log_store_last(f.store), 14);
    end(&f, SIM_POWER_CUT);
    start(&f);
    open_store(&f);
    assert_int_equal(log_store_last(f.store), 14);
    for (int i = 0; i < 3; i++)
        append(&f, 5);
    assert_int_equal(log_store_flush(f.store), 0);
    end(&f, SIM_POWER_CUT);
    start(&f);
    open_store(&f);
    assert_int_equal(log_store_last(f.store), 17);
    check_entry(&f, 14, 1);
    check_entry(&f, 15, 5);
    /* What queues before the cut stays. */
    append(&f, 5);
    append(&f, 5);
    assert_int_equal(log_store_truncate(f.store, 19), 0);
    assert_int_equal(log_store_truncate(f.store, 50), 0);
    end(&f, SIM_POWER_CUT);
    start(&f);
    open_store(&f);
    assert_int_equal(log_store_last(f.store), 18);
    check_entry(&f, 18, 5);
    teardown(&f);
}

static void snapshots_replace_entries(void **state)
{
    struct fixture f;
    struct log_snapshot snapshot;
    void *memory;

    (void)state;
    setup(&f, 5);
    open_store(&f);
    assert_int_equal(log_store_get_snapshot(f.store, &snapshot, &memory), -ENOENT);
    for (int i = 0; i < 99; i++)
        append(&f, 1);
    assert_int_equal(log_store_flush(f.store), 0);
    append(&f, 2);
    put_snapshot(&f, 90, 10);
    end(&f, SIM_POWER_CUT);
    start(&f);
    open_store(&f);
    assert_int_equal(log_store_first(f.store), 81);
    assert_int_equal(log_store_last(f.store), 101);
    check_entry(&f, 81, 1);
    check_entry(&f, 101, 2);
    assert_int_equal(log_store_get_snapshot(f.store, &snapshot, &memory), 0);
    assert_int_equal(snapshot.index, 90);
    assert_int_equal(snapshot.term, 1);
    assert_int_equal(snapshot.conf_len, sizeof conf);
    assert_memory_equal(snapshot.conf, conf, sizeof conf);
    assert_memory_equal(snapshot.data, "state", 5);
    free(memory);
    /* One from the leader replaces everything. */
    put_snapshot(&f, 500, 0);
    assert_int_equal(log_store_first(f.store), 501);
    assert_int_equal(log_store_last(f.store), 500);
    end(&f, SIM_POWER_CUT);
    start(&f);
    open_store(&f);
    assert_int_equal(log_store_first(f.store), 501);
    append(&f, 10);
    assert_int_equal(log_store_flush(f.store), 0);
    teardown(&f);
}

/* ---- Power cuts ---- */

/*
 * Whatever was flushed is there after a power cut; of the rest there is a beginning, or nothing.
 * And what comes afterwards is read back, too: nothing of the torn end survives.
 */
static void torn_ends_are_cut_off(void **state)
{
    struct fixture f;

    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        setup(&f, seed);
        open_store(&f);
        uint64_t durable = 1;
        for (uint64_t round = 1; round <= 4; round++) {
            uint64_t term = round;
            for (uint64_t i = sim_below(f.sim, 12); i > 0; i--)
                append(&f, term);
            if (sim_chance(f.sim, 2)) {
                assert_int_equal(log_store_flush(f.store), 0);
                durable = log_store_last(f.store);
            }
            if (sim_chance(f.sim, 3) && durable > 3) {
                durable = 2 + sim_below(f.sim, durable - 2);
                assert_int_equal(log_store_truncate(f.store, durable + 1), 0);
            }
            end(&f, SIM_POWER_CUT);
            start(&f);
            open_store(&f);
            if (log_store_last(f.store) < durable)
                fail_msg("seed %" PRIu64 ": %" PRIu64 " of %" PRIu64 " entries left", seed,
                         log_store_last(f.store), durable);
            for (uint64_t i = 2; i <= log_store_last(f.store); i++) {
                struct log_entry entry;
                assert_int_equal(log_store_entry(f.store, i, &entry), 0);
                check_entry(&f, i, entry.term);
            }
            durable = log_store_last(f.store);
        }
        teardown(&f);
    }
}

static int fail_sync(struct env *env, struct env_file *file)
{
    (void)env;
    (void)file;
    return -EIO;
}

/* The disk fails in the middle of a flush, then the power: any part may have been written. */
static void unflushed_writes_are_torn(void **state)
{
    struct fixture f;

    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        setup(&f, seed);
        open_store(&f);
        for (int i = 0; i < 5; i++)
            append(&f, 1);
        assert_int_equal(log_store_flush(f.store), 0);
        for (uint64_t i = 1 + sim_below(f.sim, 60); i > 0; i--)
            append(&f, 2);
        const struct env_ops *good = f.env->ops;
        struct env_ops bad = *good;
        bad.file_sync = fail_sync;
        f.env->ops = &bad;
        assert_int_equal(log_store_flush(f.store), -EIO);
        /* Nothing goes any more. */
        f.env->ops = good;
        assert_int_equal(log_store_flush(f.store), -EIO);
        assert_int_equal(log_store_set_term(f.store, 5), -EIO);
        assert_int_equal(log_store_append(f.store, 2, TYPE_COMMAND, "x", 1), -EIO);
        assert_int_equal(log_store_truncate(f.store, 3), -EIO);
        end(&f, SIM_POWER_CUT);
        start(&f);
        open_store(&f);
        uint64_t last = log_store_last(f.store);
        assert_true(last >= 6);
        for (uint64_t i = 2; i <= last; i++)
            check_entry(&f, i, i <= 6 ? 1 : 2);
        /* Another entry takes the place of the torn one, and nothing old follows it. */
        append(&f, 3);
        assert_int_equal(log_store_flush(f.store), 0);
        end(&f, SIM_POWER_CUT);
        start(&f);
        open_store(&f);
        assert_int_equal(log_store_last(f.store), last + 1);
        check_entry(&f, last + 1, 3);
        teardown(&f);
    }
}

/* ---- Damage ---- */

static void flip(struct fixture *f, const char *path, uint64_t offset)
{
    struct env_file *file;
    uint8_t byte;

    assert_int_equal(env_file_open(f->env, path, O_RDWR, &file), 0);
    assert_int_equal(env_file_read(f->env, file, &byte, 1, offset), 1);
    byte ^= 0x10;
    assert_int_equal(env_file_write(f->env, file, &byte, 1, offset), 0);
    assert_int_equal(env_file_sync(f->env, file), 0);
    env_file_close(f->env, file);
}

static uint64_t span(uint64_t index, uint64_t term)
{
    uint8_t data[512];

    return (sizeof(struct log_record) + make_data(index, term, data) + 7) & ~UINT64_C(7);
}

static void damage_in_the_middle_is_refused(void **state)
{
    struct fixture f;
    char why[LOG_STORE_WHY_MAX];
    uint64_t end_of_durable = sizeof(struct log_file_header);

    (void)state;
    setup(&f, 7);
    open_store(&f);
    for (int batch = 0; batch < 3; batch++) {
        append(&f, 1);
        append(&f, 1);
        assert_int_equal(log_store_flush(f.store), 0);
    }
    end_of_durable += (sizeof(struct log_record) + sizeof conf + 7) & ~UINT64_C(7);
    for (uint64_t i = 2; i <= 5; i++)
        end_of_durable += span(i, 1);
    log_store_close(f.store);
    f.store = NULL;
    uint32_t refused = 0;
    for (uint64_t offset = 0; offset < end_of_durable; offset++) {
        flip(&f, "raft.log", offset);
        why[0] = '\0';
        int rc = log_store_open(f.env, &f.store, why);
        if (rc == 0) {
            /* The bytes between two records mean nothing, but all entries must be there. */
            assert_int_equal(log_store_last(f.store), 7);
            log_store_close(f.store);
            f.store = NULL;
        } else {
            assert_int_equal(rc, -ELIMPET_CORRUPT);
            assert_non_null(strstr(why, "--mkfs"));
            refused++;
        }
        flip(&f, "raft.log", offset);
    }
    assert_true(refused > end_of_durable / 10 * 9);
    open_store(&f);
    assert_int_equal(log_store_last(f.store), 7);
    teardown(&f);
}

static void damaged_snapshots_and_votes_are_refused(void **state)
{
    struct fixture f;
    char why[LOG_STORE_WHY_MAX];

    (void)state;
    setup(&f, 8);
    open_store(&f);
    for (int i = 0; i < 10; i++)
        append(&f, 1);
    assert_int_equal(log_store_flush(f.store), 0);
    put_snapshot(&f, 8, 2);
    assert_int_equal(log_store_set_term(f.store, 2), 0);
    log_store_close(f.store);
    f.store = NULL;
    for (uint64_t offset = 0; offset < sizeof(struct log_snapshot_header) + sizeof conf + 5;
         offset++) {
        flip(&f, "raft.snapshot", offset);
        assert_int_equal(log_store_open(f.env, &f.store, why), -ELIMPET_CORRUPT);
        assert_non_null(strstr(why, "--mkfs"));
        flip(&f, "raft.snapshot", offset);
    }
    /* The copy of term and vote that was written last is torn: the one before counts. */
    flip(&f, "raft.meta", LOG_META_SLOT_BYTES + 20);
    open_store(&f);
    assert_int_equal(log_store_term(f.store), 1);
    log_store_close(f.store);
    f.store = NULL;
    flip(&f, "raft.meta", 20);
    assert_int_equal(log_store_open(f.env, &f.store, why), -ELIMPET_CORRUPT);
    assert_non_null(strstr(why, "--mkfs"));
    teardown(&f);
}

static void a_log_without_its_beginning_is_refused(void **state)
{
    struct fixture f;
    char why[LOG_STORE_WHY_MAX];

    (void)state;
    setup(&f, 9);
    open_store(&f);
    for (int i = 0; i < 10; i++)
        append(&f, 1);
    assert_int_equal(log_store_flush(f.store), 0);
    put_snapshot(&f, 8, 2);
    log_store_close(f.store);
    f.store = NULL;
    assert_int_equal(env_file_remove(f.env, "raft.snapshot"), 0);
    assert_int_equal(log_store_open(f.env, &f.store, why), -ELIMPET_CORRUPT);
    teardown(&f);
}

/* A crash between the two renames of a snapshot leaves the old log beside it. */
static void an_old_log_beside_a_new_snapshot_is_dropped(void **state)
{
    struct fixture f;
    struct env_file *file;
    uint8_t *image;

    (void)state;
    setup(&f, 10);
    open_store(&f);
    for (int i = 0; i < 10; i++)
        append(&f, 1);
    assert_int_equal(log_store_flush(f.store), 0);
    assert_int_equal(env_file_open(f.env, "raft.log", O_RDWR, &file), 0);
    int64_t size = env_file_size(f.env, file);
    image = malloc((size_t)size);
    assert_int_equal(env_file_read(f.env, file, image, (size_t)size, 0), size);
    env_file_close(f.env, file);
    put_snapshot(&f, 50, 0);
    log_store_close(f.store);
    f.store = NULL;
    assert_int_equal(env_file_open(f.env, "raft.log", O_RDWR, &file), 0);
    assert_int_equal(env_file_write(f.env, file, image, (size_t)size, 0), 0);
    env_file_close(f.env, file);
    free(image);
    open_store(&f);
    assert_int_equal(log_store_first(f.store), 51);
    assert_int_equal(log_store_last(f.store), 50);
    teardown(&f);
}

/* ---- Golden bytes ---- */

static void fixed_random(struct env *env, void *out, size_t len)
{
    (void)env;
    memset(out, 0x2a, len);
}

static void golden_file(struct fixture *f, const char *path, const char *name, size_t max)
{
    struct env_file *file;
    uint8_t data[1024];

    assert_true(max <= sizeof data);
    assert_int_equal(env_file_open(f->env, path, O_RDONLY, &file), 0);
    ssize_t got = env_file_read(f->env, file, data, max, 0);
    assert_true(got > 0);
    env_file_close(f->env, file);
    test_golden(name, data, (size_t)got);
}

static void files_have_the_documented_bytes(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, 11);
    struct env_ops fixed = *f.env->ops;
    const struct env_ops *real = f.env->ops;
    fixed.random = fixed_random;
    f.env->ops = &fixed;
    assert_int_equal(log_store_mkfs(f.env, TYPE_CHANGE, conf, sizeof conf), 0);
    open_store(&f);
    append(&f, 1);
    append(&f, 1);
    assert_int_equal(log_store_flush(f.store), 0);
    append(&f, 2);
    assert_int_equal(log_store_flush(f.store), 0);
    assert_int_equal(log_store_set_term(f.store, 7), 0);
    assert_int_equal(log_store_set_vote(f.store, 3), 0);
    golden_file(&f, "raft.log", "mon_raft_log.hex", 640);
    golden_file(&f, "raft.meta", "mon_raft_meta.hex", sizeof(struct log_meta_slot));
    put_snapshot(&f, 3, 1);
    golden_file(&f, "raft.snapshot", "mon_raft_snapshot.hex", 1024);
    f.env->ops = real;
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_entries_over_a_restart),
        cmocka_unit_test(one_flush_makes_all_queued_entries_durable),
        cmocka_unit_test(term_and_vote_are_durable_at_once),
        cmocka_unit_test(truncation_is_durable),
        cmocka_unit_test(snapshots_replace_entries),
        cmocka_unit_test(torn_ends_are_cut_off),
        cmocka_unit_test(unflushed_writes_are_torn),
        cmocka_unit_test(damage_in_the_middle_is_refused),
        cmocka_unit_test(damaged_snapshots_and_votes_are_refused),
        cmocka_unit_test(a_log_without_its_beginning_is_refused),
        cmocka_unit_test(an_old_log_beside_a_new_snapshot_is_dropped),
        cmocka_unit_test(files_have_the_documented_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
