/*
 * Groups of the journal that are under way together, on a disk that holds back what would make them
 * durable.
 */
#include "common/env_real.h"
#include "osd/store/engine.h"
#include "tests/lib/test.h"
#include "tests/unit/osd/store_fixture.h"

#include <errno.h>
#include <stdio.h>

enum { TXNS = 128, HELD = 8, TURNS = 50, WORTH = 16 };

/* Passes requests on to another disk, durable writes and flushes when the test says so. */
struct gate {
    struct disk disk;
    struct disk *inner;
    struct disk_io *held[HELD];
    uint32_t n_held; /* All that ever came; those let go are NULL. */
    void (*done[HELD])(struct disk_io *io);
    uint32_t ended;
};

static struct gate gate;

static void gate_submit(struct disk *disk, struct disk_io *io)
{
    (void)disk;
    if (io->op == DISK_READ || io->op == DISK_WRITE) {
        disk_submit(gate.inner, io);
        return;
    }
    assert_true(gate.n_held < HELD);
    gate.held[gate.n_held++] = io;
}

static const struct disk_ops gate_ops = {.submit = gate_submit};

struct test_txn {
    struct store_txn txn;
    char name[8];
    bool done;
    int error;
    uint32_t order; /* Of its answer. */
};

static struct test_txn txns[TXNS];
static uint32_t n_txns, n_done;

static void gate_open(struct store_fixture *f)
{
    struct engine *e = engine_of(f->store);
    gate = (struct gate){.disk = {.ops = &gate_ops, .size = e->disk->size}, .inner = e->disk};
    e->disk = &gate.disk;
    e->journal.group_worth = WORTH;
    n_txns = n_done = 0;
}

static void gate_remove(struct store_fixture *f)
{
    engine_of(f->store)->disk = gate.inner;
    for (uint32_t i = 0; i < n_txns; i++)
        txn_fini(&txns[i].txn);
}

static void turns(struct store_fixture *f)
{
    for (uint32_t i = 0; i < TURNS; i++)
        env_real_turn(f->env, false);
}

static void held_done(struct disk_io *io)
{
    for (uint32_t i = 0; i < gate.n_held; i++)
        if (gate.held[i] == io) {
            gate.held[i] = NULL;
            gate.ended++;
            gate.done[i](io);
            return;
        }
    fail_msg("a request ended that was not held");
}

/* Lets the i-th request go, and waits for its end. */
static void let_go(struct store_fixture *f, uint32_t i)
{
    uint32_t before = gate.ended;
    struct disk_io *io = gate.held[i];
    assert_non_null(io);
    gate.done[i] = io->done;
    io->done = held_done;
    disk_submit(gate.inner, io);
    while (gate.ended == before)
        env_real_turn(f->env, true);
    turns(f);
}

static void let_fail(struct store_fixture *f, uint32_t i)
{
    struct disk_io *io = gate.held[i];
    gate.held[i] = NULL;
    io->error = -EIO;
    io->done(io);
    turns(f);
}

static void txn_done(struct store_txn *txn, int error)
{
    struct test_txn *t = container_of(txn, struct test_txn, txn);
    t->done = true;
    t->error = error;
    t->order = n_done++;
}

/* Transactions of one new object each, of so many bytes. */
static void submit(struct store_fixture *f, uint32_t n, size_t bytes)
{
    uint8_t *data = test_calloc(1, bytes);
    for (uint32_t i = 0; i < n; i++) {
        struct test_txn *t = &txns[n_txns++];
        *t = (struct test_txn){.done = false};
        (void)snprintf(t->name, sizeof t->name, "o%u", n_txns % 1000);
        struct object_id id = object_named(t->name, 1);
        txn_init(&t->txn);
        txn_data(&t->txn, data, bytes);
        txn_object(&t->txn, &id);
        txn_write(&t->txn, 0, bytes, 0);
        t->txn.done = txn_done;
        store_submit(f->store, &t->txn);
    }
    test_free(data);
    turns(f);
}

/* ---- Tests ---- */

static void a_group_behind_another_is_done_after_it(void **state)
{
    struct store_fixture *f = *state;
    gate_open(f);
    submit(f, 2 * WORTH, 100);
    assert_int_equal(gate.n_held, 2);
    let_go(f, 1);
    assert_int_equal(n_done, 0);
    let_go(f, 0);
    assert_int_equal(n_done, 2 * WORTH);
    for (uint32_t i = 0; i < n_txns; i++) {
        assert_int_equal(txns[i].error, 0);
        assert_int_equal(txns[i].order, i);
    }
    gate_remove(f);
}

static void a_small_group_waits_for_those_under_way(void **state)
{
    struct store_fixture *f = *state;
    gate_open(f);
    submit(f, 1, 100); /* Alone, it starts whatever its size. */
    assert_int_equal(gate.n_held, 1);
    submit(f, WORTH - 1, 100);
    assert_int_equal(gate.n_held, 1);
    submit(f, 1, 100);
    assert_int_equal(gate.n_held, 2);
    submit(f, 1, 100);
    assert_int_equal(gate.n_held, 2);
    let_go(f, 0);
    assert_int_equal(n_done, 1);
    assert_int_equal(gate.n_held, 2);
    let_go(f, 1);
    assert_int_equal(n_done, 1 + WORTH);
    assert_int_equal(gate.n_held, 3);
    let_go(f, 2);
    assert_int_equal(n_done, n_txns);
    gate_remove(f);
}

static void only_so_many_are_under_way(void **state)
{
    struct store_fixture *f = *state;
    gate_open(f);
    submit(f, (JOURNAL_UNDER_WAY + 1) * WORTH, 100);
    assert_int_equal(gate.n_held, JOURNAL_UNDER_WAY);
    let_go(f, 0);
    assert_int_equal(gate.n_held, JOURNAL_UNDER_WAY + 1);
    for (uint32_t i = JOURNAL_UNDER_WAY; i > 0; i--)
        let_go(f, i);
    assert_int_equal(n_done, n_txns);
    for (uint32_t i = 0; i < n_txns; i++)
        assert_int_equal(txns[i].order, i);
    gate_remove(f);
}

static void a_group_with_data_writes_goes_alone(void **state)
{
    struct store_fixture *f = *state;
    gate_open(f);
    submit(f, 1, 4 * REDIRECT_BYTES);
    while (gate.n_held == 0)
        env_real_turn(f->env, true); /* Its data are being written. */
    assert_int_equal(gate.held[0]->op, DISK_FLUSH);
    submit(f, WORTH, 100);
    assert_int_equal(gate.n_held, 1);
    let_go(f, 0);
    assert_int_equal(n_done, 1);
    assert_int_equal(gate.n_held, 2);
    submit(f, WORTH, 4 * REDIRECT_BYTES);
    assert_int_equal(gate.n_held, 2); /* Nor does it start beside others. */
    let_go(f, 1);
    while (gate.n_held < 3)
        env_real_turn(f->env, true);
    let_go(f, 2);
    assert_int_equal(n_done, n_txns);
    gate_remove(f);
}

static void what_lies_behind_a_failed_group_fails(void **state)
{
    struct store_fixture *f = *state;
    gate_open(f);
    submit(f, 3 * WORTH, 100);
    assert_int_equal(gate.n_held, 3);
    let_fail(f, 1);
    assert_int_equal(n_done, 0);
    let_go(f, 2);
    assert_int_equal(n_done, 0);
    let_go(f, 0);
    assert_int_equal(n_done, n_txns);
    for (uint32_t i = 0; i < n_txns; i++)
        assert_int_equal(txns[i].error, i < WORTH ? 0 : -EIO);
    assert_true(engine_of(f->store)->failed);
    gate_remove(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_group_behind_another_is_done_after_it, fixture_engine,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_small_group_waits_for_those_under_way, fixture_engine,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(only_so_many_are_under_way, fixture_engine,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_group_with_data_writes_goes_alone, fixture_engine,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(what_lies_behind_a_failed_group_fails, fixture_engine,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
