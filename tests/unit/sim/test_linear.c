/* The checker of histories: what it accepts, and above all what it does not. */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/history.h"
#include "tests/sim/linear.h"
#include "tests/sim/random.h"

enum { STEPS = 1000000, OBJECT = 3 };

static struct history history;

static struct history_op *add(uint32_t client, enum history_kind kind, uint64_t called,
                              uint64_t returned)
{
    struct history_op op = {.object = OBJECT, .client = client, .kind = kind, .called = called};
    struct history_op *added = &history.ops[history_call(&history, &op)];
    added = &history.ops[history.n - 1];
    added->returned = returned;
    return added;
}

static void write_full(uint32_t client, uint64_t serial, uint64_t len, uint64_t called,
                       uint64_t returned)
{
    struct history_op *op = add(client, HISTORY_WRITE_FULL, called, returned);
    op->serial = serial;
    op->len = len;
}

static void append(uint32_t client, uint64_t serial, uint64_t len, uint64_t called,
                   uint64_t returned)
{
    struct history_op *op = add(client, HISTORY_APPEND, called, returned);
    op->serial = serial;
    op->len = len;
}

static void read_bytes(uint32_t client, const uint8_t *data, uint64_t len, uint64_t called,
                       uint64_t returned)
{
    struct history_op *op = add(client, HISTORY_READ, called, returned);
    op->size = len;
    op->hash = content_hash(data, len);
}

/* A read that finds the data of one serial. */
static void read_serial(uint32_t client, uint64_t serial, uint64_t len, uint64_t called,
                        uint64_t returned)
{
    uint8_t data[256];
    serial_fill(serial, 0, data, len);
    read_bytes(client, data, len, called, returned);
}

static void read_absent(uint32_t client, uint64_t called, uint64_t returned)
{
    add(client, HISTORY_READ, called, returned)->result = -ENOENT;
}

static enum linear_verdict verdict(void)
{
    char *why = NULL;
    enum linear_verdict result = linear_check(&history, OBJECT, STEPS, &why);
    assert_true((result == LINEAR_OK) == (why == NULL));
    free(why);
    history_fini(&history);
    return result;
}

static void accepts_one_after_the_other(void **state)
{
    (void)state;
    read_absent(1, 0, 1);
    write_full(1, 10, 100, 2, 3);
    read_serial(2, 10, 100, 4, 5);
    write_full(2, 11, 50, 6, 7);
    read_serial(1, 11, 50, 8, 9);
    assert_int_equal(verdict(), LINEAR_OK);
}

static void refuses_a_stale_read(void **state)
{
    (void)state;
    write_full(1, 10, 100, 0, 1);
    write_full(1, 11, 100, 2, 3);
    read_serial(2, 10, 100, 4, 5);
    assert_int_equal(verdict(), LINEAR_VIOLATED);
}

static void refuses_a_lost_write(void **state)
{
    (void)state;
    write_full(1, 10, 100, 0, 1);
    read_absent(2, 4, 5);
    assert_int_equal(verdict(), LINEAR_VIOLATED);
}

static void accepts_either_order_of_overlapping_writes(void **state)
{
    (void)state;
    for (uint64_t last = 10; last <= 11; last++) {
        write_full(1, 10, 100, 0, 5);
        write_full(2, 11, 100, 1, 4);
        read_serial(3, last, 100, 6, 7);
        assert_int_equal(verdict(), LINEAR_OK);
    }
}

static void refuses_reads_that_go_back(void **state)
{
    (void)state;
    write_full(1, 10, 100, 0, 1);
    write_full(1, 11, 100, 2, 20);
    read_serial(2, 11, 100, 4, 5);
    read_serial(3, 10, 100, 6, 7);
    assert_int_equal(verdict(), LINEAR_VIOLATED);
}

static void accepts_unknown_outcomes_both_ways(void **state)
{
    (void)state;
    write_full(1, 10, 100, 0, 1);
    write_full(2, 11, 100, 2, HISTORY_NEVER);
    read_serial(3, 10, 100, 4, 5);
    read_serial(3, 11, 100, 6, 7);
    assert_int_equal(verdict(), LINEAR_OK);
    write_full(1, 10, 100, 0, 1);
    write_full(2, 11, 100, 2, HISTORY_NEVER);
    read_serial(3, 10, 100, 4, 5);
    assert_int_equal(verdict(), LINEAR_OK);
    /* But it cannot happen, be undone, and not before it was called. */
    write_full(1, 10, 100, 0, 1);
    write_full(2, 11, 100, 2, HISTORY_NEVER);
    read_serial(3, 11, 100, 4, 5);
    read_serial(3, 10, 100, 6, 7);
    assert_int_equal(verdict(), LINEAR_VIOLATED);
    write_full(1, 10, 100, 0, 1);
    read_serial(3, 11, 100, 1, 2);
    write_full(2, 11, 100, 3, HISTORY_NEVER);
    assert_int_equal(verdict(), LINEAR_VIOLATED);
}

static void a_later_call_does_not_wait_for_an_unknown_one(void **state)
{
    (void)state;
    write_full(1, 10, 100, 0, HISTORY_NEVER);
    write_full(1, 11, 100, 2, 3);
    read_serial(2, 11, 100, 4, 5);
    read_serial(2, 10, 100, 6, 7);
    assert_int_equal(verdict(), LINEAR_OK);
}

static void refuses_an_append_that_happened_twice(void **state)
{
    (void)state;
    uint8_t data[150];
    serial_fill(10, 0, data, 50);
    serial_fill(11, 0, data + 50, 50);
    serial_fill(11, 0, data + 100, 50);
    write_full(1, 10, 50, 0, 1);
    append(1, 11, 50, 2, 3);
    read_bytes(2, data, 100, 4, 5);
    assert_int_equal(verdict(), LINEAR_OK);
    write_full(1, 10, 50, 0, 1);
    append(1, 11, 50, 2, 3);
    read_bytes(2, data, 150, 4, 5);
    assert_int_equal(verdict(), LINEAR_VIOLATED);
}

static void refuses_another_order_than_that_of_a_clients_calls(void **state)
{
    (void)state;
    uint8_t data[100];
    serial_fill(11, 0, data, 50);
    serial_fill(10, 0, data + 50, 50);
    append(1, 10, 50, 0, 10);
    append(1, 11, 50, 1, 10);
    read_bytes(2, data, 100, 12, 13);
    assert_int_equal(verdict(), LINEAR_VIOLATED);
    append(1, 10, 50, 0, 10);
    append(2, 11, 50, 1, 10);
    read_bytes(2, data, 100, 12, 13);
    assert_int_equal(verdict(), LINEAR_OK);
}

static void follows_partial_writes(void **state)
{
    (void)state;
    uint8_t data[200] = {0};
    serial_fill(10, 0, data, 100);
    serial_fill(11, 0, data + 20, 30);
    serial_fill(12, 0, data + 150, 10);
    write_full(1, 10, 100, 0, 1);
    struct history_op *op = add(1, HISTORY_WRITE_AT, 2, 3);
    op->serial = 11;
    op->offset = 20;
    op->len = 30;
    read_bytes(1, data, 100, 4, 5);
    op = add(1, HISTORY_WRITE_AT, 6, 7);
    op->serial = 12;
    op->offset = 150;
    op->len = 10;
    read_bytes(1, data, 160, 8, 9);
    op = add(1, HISTORY_TRUNCATE, 10, 11);
    op->offset = 40;
    read_bytes(1, data, 40, 12, 13);
    op = add(1, HISTORY_TRUNCATE, 14, 15);
    op->offset = 60;
    memset(data + 40, 0, 20);
    read_bytes(1, data, 60, 16, 17);
    add(1, HISTORY_STAT, 18, 19)->size = 60;
    add(1, HISTORY_REMOVE, 20, 21);
    add(1, HISTORY_REMOVE, 22, 23)->result = -ENOENT;
    add(1, HISTORY_TRUNCATE, 24, 25)->offset = 7;
    read_absent(1, 26, 27);
    add(1, HISTORY_CREATE, 28, 29);
    add(1, HISTORY_CREATE, 30, 31)->result = -EEXIST;
    read_bytes(1, data, 0, 32, 33);
    assert_int_equal(verdict(), LINEAR_OK);
}

static void zeroes_never_extend(void **state)
{
    (void)state;
    uint8_t data[100] = {0};
    static const struct {
        uint64_t offset, len, size;
    } zeroes[] = {{20, 30, 100}, {100, 5, 100}, {90, 0, 100}, {60, 40, 60}, {50, 500, 50}};
    add(1, HISTORY_ZERO, 1, 2)->len = 10; /* Makes no object. */
    read_absent(1, 3, 4);
    write_full(1, 10, 100, 5, 6);
    serial_fill(10, 0, data, 100);
    memset(data + 20, 0, 30);
    for (uint64_t i = 0; i < sizeof zeroes / sizeof *zeroes; i++) {
        struct history_op *op = add(1, HISTORY_ZERO, 10 + 4 * i, 11 + 4 * i);
        op->offset = zeroes[i].offset;
        op->len = zeroes[i].len;
        read_bytes(1, data, zeroes[i].size, 12 + 4 * i, 13 + 4 * i);
    }
    assert_int_equal(verdict(), LINEAR_OK);
}

/* An object with one zero in it and no object must not be taken for the same. */
static void tells_absent_from_nearly_empty(void **state)
{
    (void)state;
    write_full(1, 10, 100, 0, 10);
    add(3, HISTORY_REMOVE, 20, 40);
    write_full(2, 11, 0, 21, 40);
    add(3, HISTORY_TRUNCATE, 41, 42)->offset = 1;
    read_absent(1, 43, 44);
    assert_int_equal(verdict(), LINEAR_OK);
}

static void decides_long_histories_with_unknown_outcomes(void **state)
{
    (void)state;
    struct random_stream r;
    random_seed(&r, 1);
    uint64_t now = 0, last = 0;
    for (uint64_t serial = 1; serial <= 600; serial++) {
        now += 10;
        if (random_below(&r, 40) == 0) {
            write_full(100 + (uint32_t)serial, serial, 50, now, HISTORY_NEVER);
        } else if (random_below(&r, 2) == 0) {
            write_full((uint32_t)random_below(&r, 3), serial, 50, now, now + 5);
            last = serial;
        } else if (last > 0) {
            read_serial((uint32_t)random_below(&r, 3), last, 50, now, now + 15);
        }
    }
    assert_int_equal(verdict(), LINEAR_OK);
}

static void versions_must_grow(void **state)
{
    (void)state;
    const struct history_op *a, *b;
    write_full(1, 10, 100, 0, 1);
    write_full(1, 11, 100, 2, 3);
    history.ops[0].version = (struct wire_version){.config = 5, .sequence = 7};
    history.ops[1].version = (struct wire_version){.config = 5, .sequence = 8};
    assert_true(versions_check(&history, OBJECT, &a, &b));
    history.ops[1].version = (struct wire_version){.config = 6, .sequence = 1};
    assert_true(versions_check(&history, OBJECT, &a, &b));
    history.ops[1].version = (struct wire_version){.config = 5, .sequence = 7};
    assert_false(versions_check(&history, OBJECT, &a, &b));
    assert_ptr_equal(a, &history.ops[0]);
    assert_ptr_equal(b, &history.ops[1]);
    history.ops[1].called = 0;
    assert_true(versions_check(&history, OBJECT, &a, &b));
    history_fini(&history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_one_after_the_other),
        cmocka_unit_test(refuses_a_stale_read),
        cmocka_unit_test(refuses_a_lost_write),
        cmocka_unit_test(accepts_either_order_of_overlapping_writes),
        cmocka_unit_test(refuses_reads_that_go_back),
        cmocka_unit_test(accepts_unknown_outcomes_both_ways),
        cmocka_unit_test(a_later_call_does_not_wait_for_an_unknown_one),
        cmocka_unit_test(refuses_an_append_that_happened_twice),
        cmocka_unit_test(refuses_another_order_than_that_of_a_clients_calls),
        cmocka_unit_test(follows_partial_writes),
        cmocka_unit_test(zeroes_never_extend),
        cmocka_unit_test(tells_absent_from_nearly_empty),
        cmocka_unit_test(decides_long_histories_with_unknown_outcomes),
        cmocka_unit_test(versions_must_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
