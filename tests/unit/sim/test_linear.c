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
    uint32_t i = history_call(&history, &op);
    struct history_op *added = &history.ops[i];
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

/* One operation after the other; what they give is filled in by the caller. */
static struct history_op *next_op(enum history_kind kind, uint64_t offset, uint64_t len)
{
    uint64_t called = 10 * history.n;
    struct history_op *op = add(1, kind, called, called + 5);
    op->offset = offset;
    op->len = len;
    return op;
}

static void find_bytes(const uint8_t *data, uint64_t len)
{
    uint64_t called = 10 * history.n;
    read_bytes(2, data, len, called, called + 5);
}

/* "ab" of a serial of two bytes, 50 times from 30 on; then 9 bytes inside. */
static void patterns_repeat(uint8_t *data)
{
    uint8_t pattern[2];
    serial_fill(11, 0, pattern, sizeof pattern);
    struct history_op *op = next_op(HISTORY_WRITE_SAME, 30, 0);
    op->serial = 11;
    op->period = sizeof pattern;
    struct history_op *absent = next_op(HISTORY_READ, 0, 0);
    absent->result = -ENOENT; /* Of no length: there is no object yet. */
    op = next_op(HISTORY_WRITE_SAME, 30, 100);
    op->serial = 11;
    op->period = sizeof pattern;
    for (size_t i = 0; i < 100; i++)
        data[30 + i] = pattern[i % 2];
    find_bytes(data, 130);
    op = next_op(HISTORY_WRITE_AT, 51, 9);
    op->serial = 12;
    serial_fill(12, 0, data + 51, 9);
    find_bytes(data, 130);
}

static void follows_patterns(void **state)
{
    (void)state;
    uint8_t data[130] = {0};
    patterns_repeat(data);
    assert_int_equal(verdict(), LINEAR_OK);
    memset(data, 0, sizeof data);
    patterns_repeat(data);
    data[128] ^= 1;
    find_bytes(data, 130);
    assert_int_equal(verdict(), LINEAR_VIOLATED);
}

/* A guarded write of 10 bytes at 20, which wants those of serial 10 there. */
static void write_guarded(int result)
{
    struct history_op *op = next_op(HISTORY_WRITE_IF, 20, 10);
    op->serial = 12;
    op->expected = 10;
    op->expected_from = 20;
    op->result = result;
}

static void guards_writes(void **state)
{
    (void)state;
    uint8_t ours[10], theirs[10];
    serial_fill(10, 20, ours, sizeof ours);
    serial_fill(12, 0, theirs, sizeof theirs);
    int differs = 0, zeroes = 0;
    while (ours[differs] == theirs[differs])
        differs++;
    while (ours[zeroes] == 0)
        zeroes++;
    for (int wrong = 0; wrong < 4; wrong++) {
        write_guarded(-WIRE_MISMATCH - zeroes - (wrong == 1)); /* Where there is no object. */
        struct history_op *op = next_op(HISTORY_WRITE_FULL, 0, 100);
        op->serial = 10;
        write_guarded(wrong == 2 ? -WIRE_MISMATCH : 0);
        write_guarded(wrong == 3 ? 0 : -WIRE_MISMATCH - differs);
        assert_int_equal(verdict(), wrong == 0 ? LINEAR_OK : LINEAR_VIOLATED);
    }
    /* It makes an object where zeroes are expected, and may be had without an answer. */
    struct history_op *op = next_op(HISTORY_WRITE_IF, 0, 10);
    op->serial = 12;
    op->returned = HISTORY_NEVER;
    find_bytes(theirs, 10);
    assert_int_equal(verdict(), LINEAR_OK);
}

static void sum_is(uint64_t n, uint32_t sum)
{
    struct history_op *op = next_op(HISTORY_CHECKSUM, 0, 0);
    op->size = n;
    op->hash = sum;
}

static void knows_checksums(void **state)
{
    (void)state;
    uint8_t data[100];
    serial_fill(10, 0, data, sizeof data);
    uint32_t right = content_crc32c(data, sizeof data);
    assert_int_equal(content_crc32c("123456789", 9) ^ UINT32_MAX, 0xe3069283);
    for (int wrong = 0; wrong < 3; wrong++) {
        next_op(HISTORY_CHECKSUM, 0, 0)->result = -ENOENT;
        next_op(HISTORY_CREATE, 0, 0);
        sum_is(wrong == 1, 0);
        next_op(HISTORY_WRITE_FULL, 0, sizeof data)->serial = 10;
        sum_is(1, right ^ (wrong == 2));
        assert_int_equal(verdict(), wrong == 0 ? LINEAR_OK : LINEAR_VIOLATED);
    }
}

static void a_hint_makes_an_object(void **state)
{
    (void)state;
    next_op(HISTORY_HINT, 4096, 0);
    next_op(HISTORY_STAT, 0, 0);
    assert_int_equal(verdict(), LINEAR_OK);
    next_op(HISTORY_HINT, 4096, 0);
    next_op(HISTORY_STAT, 0, 0)->result = -ENOENT;
    assert_int_equal(verdict(), LINEAR_VIOLATED);
}

static void list_keys(uint64_t group, uint64_t max, uint64_t found, bool more)
{
    struct history_op *op = next_op(HISTORY_KEYS_LIST, group, max);
    op->hash = found;
    op->size = more;
}

static void knows_sets_of_keys(void **state)
{
    (void)state;
    assert_true(history_keys_range(60, 4) == UINT64_C(0xf) << 60);
    assert_true(history_keys_range(60, UINT64_MAX) == UINT64_C(0xf) << 60);
    assert_true(history_keys_range(0, 64) == UINT64_MAX && history_keys_range(64, 1) == 0);
    assert_true(history_keys_range(9, 0) == 0 && history_keys_group(1) == 0xff00);
    for (int wrong = 0; wrong < 6; wrong++) {
        next_op(HISTORY_KEYS_CUT, 0, 64)->result = -ENOENT;
        next_op(HISTORY_KEYS_SET, 0x8000000000008013, 0);
        list_keys(HISTORY_KEY_GROUPS, 64, wrong == 1 ? 0x8013 : 0x8000000000008013, false);
        list_keys(1, 64, wrong == 2 ? 0x8013 : 0x8000, false);
        list_keys(0, 2, wrong == 3 ? 0x11 : 0x3, true);
        list_keys(0, 3, 0x13, wrong == 4);
        next_op(HISTORY_KEYS_CUT, 1, 15);
        list_keys(0, 64, 0x1 | (wrong == 5 ? 0x10 : 0), false);
        next_op(HISTORY_REMOVE, 0, 0);
        next_op(HISTORY_CREATE, 0, 0);
        list_keys(HISTORY_KEY_GROUPS, 64, 0, false);
        assert_int_equal(verdict(), wrong == 0 ? LINEAR_OK : LINEAR_VIOLATED);
    }
}

static void lock_op(enum history_kind kind, uint64_t instance, int result)
{
    next_op(kind, instance, 0)->result = result;
}

static void a_lock_has_one_holder(void **state)
{
    (void)state;
    for (int wrong = 0; wrong < 6; wrong++) {
        lock_op(HISTORY_UNLOCK, 7, -ENOENT);
        lock_op(HISTORY_LOCK, 7, 0);
        lock_op(HISTORY_LOCK, 8, wrong == 1 ? 0 : -EBUSY);
        lock_op(HISTORY_LOCK, 7, wrong == 2 ? -EBUSY : -EEXIST);
        next_op(HISTORY_HOLDER, 0, 0)->hash = wrong == 3 ? 8 : 7;
        lock_op(HISTORY_UNLOCK, 8, wrong == 4 ? 0 : -ENOENT);
        lock_op(HISTORY_BREAK_LOCK, 7, 0);
        lock_op(HISTORY_BREAK_LOCK, 7, -ENOENT);
        lock_op(HISTORY_LOCK, 8, 0);
        lock_op(HISTORY_UNLOCK, 8, wrong == 5 ? -ENOENT : 0);
        next_op(HISTORY_HOLDER, 0, 0)->hash = 0;
        lock_op(HISTORY_LOCK, 8, 0);
        next_op(HISTORY_REMOVE, 0, 0);
        lock_op(HISTORY_LOCK, 7, 0);
        assert_int_equal(verdict(), wrong == 0 ? LINEAR_OK : LINEAR_VIOLATED);
    }
}

static struct history_op *team_op(enum history_kind kind, uint64_t instance, int result)
{
    struct history_op *op = next_op(kind, instance, 0);
    op->result = result;
    op->period = kind == HISTORY_RENAME || kind == HISTORY_HELD ? HISTORY_TEAM_SHARED : 0;
    return op;
}

static void found_team(uint64_t sum, uint64_t type, uint64_t listed)
{
    struct history_op *op = next_op(HISTORY_TEAM, 0, 0);
    op->hash = sum;
    op->period = type;
    op->size = listed;
}

static void a_lock_has_several_holders(void **state)
{
    (void)state;
    uint64_t seven = history_member_hash(7, 0), eight = history_member_hash(8, 0);
    for (int wrong = 0; wrong < 11; wrong++) {
        team_op(HISTORY_LEAVE, 7, -ENOENT);
        team_op(HISTORY_SHARE, 7, 0);
        team_op(HISTORY_SHARE, 8, wrong == 1 ? -EBUSY : 0);
        found_team(wrong == 2 ? seven : seven + eight, HISTORY_TEAM_SHARED,
                   wrong == 3 ? 0 : HISTORY_TEAM_LISTED);
        team_op(HISTORY_SEIZE, 9, wrong == 4 ? 0 : -EBUSY);
        team_op(HISTORY_SHARE, 9, wrong == 5 ? 0 : -ENOENT)->period = 1;
        team_op(HISTORY_HELD, 7, wrong == 6 ? -EBUSY : 0);
        team_op(HISTORY_RENAME, 7, 0);
        team_op(HISTORY_HELD, 7, wrong == 7 ? 0 : -EBUSY);
        team_op(HISTORY_HELD, 7, 0)->expected = 1;
        team_op(HISTORY_EVICT, 7, 0)->expected = 1;
        team_op(HISTORY_SEIZE, 8, wrong == 8 ? -EBUSY : 0);
        found_team(eight, wrong == 9 ? HISTORY_TEAM_SHARED : HISTORY_TEAM_EXCLUSIVE,
                   HISTORY_TEAM_LISTED);
        team_op(HISTORY_LEAVE, 8, 0);
        found_team(0, 0, wrong == 10 ? HISTORY_TEAM_LISTED : 0);
        assert_int_equal(verdict(), wrong == 0 ? LINEAR_OK : LINEAR_VIOLATED);
    }
}

static void share_for(uint64_t instance, uint64_t len, uint64_t called, uint64_t returned)
{
    struct history_op *op = add(1, HISTORY_SHARE, called, returned);
    op->offset = instance;
    op->len = len;
}

static struct history_op *seize(uint64_t instance, uint64_t called, uint64_t returned, int result)
{
    struct history_op *op = add(2, HISTORY_SEIZE, called, returned);
    op->offset = instance;
    op->result = result;
    return op;
}

/* Taken between 10 and 20 for 100, it is over between 110 and 120. */
static void locks_end_when_their_time_is_over(void **state)
{
    (void)state;
    static const struct {
        uint64_t called, returned;
        int result;
        enum linear_verdict verdict;
    } cases[] = {
        {100, 109, -EBUSY, LINEAR_OK}, {100, 109, 0, LINEAR_VIOLATED},
        {112, 115, -EBUSY, LINEAR_OK}, {112, 115, 0, LINEAR_OK},
        {100, 200, -EBUSY, LINEAR_OK}, {100, 200, 0, LINEAR_OK},
        {120, 130, 0, LINEAR_OK},      {120, 130, -EBUSY, LINEAR_VIOLATED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        share_for(7, 100, 10, 20);
        seize(8, cases[i].called, cases[i].returned, cases[i].result);
        assert_int_equal(verdict(), cases[i].verdict);
    }
    /* Who was replaced while it was perhaps over is not there afterwards. */
    share_for(7, 100, 10, 20);
    seize(8, 112, 113, 0);
    struct history_op *op = add(1, HISTORY_LEAVE, 114, 115);
    op->offset = 7;
    assert_int_equal(verdict(), LINEAR_VIOLATED);
    /* Nobody knows when one without an answer began. */
    share_for(7, 100, 10, HISTORY_NEVER);
    seize(8, 5000, 5001, -EBUSY);
    assert_int_equal(verdict(), LINEAR_OK);
}

static void greets_what_was_not_there(void **state)
{
    (void)state;
    for (int wrong = 0; wrong < 4; wrong++) {
        next_op(HISTORY_SAY, 7, 0)->result = wrong == 1 ? 0 : -ENOENT;
        next_op(HISTORY_GREET, 0, 0);
        next_op(HISTORY_GREET, 0, 0)->result = wrong == 2 ? 0 : -EEXIST;
        next_op(HISTORY_SAY, 7, 0);
        struct history_op *op = next_op(HISTORY_READ, 0, 0);
        op->size = strlen(history_greeting);
        op->hash = content_hash(wrong == 3 ? "Hello, World!" : history_greeting, op->size);
        assert_int_equal(verdict(), wrong == 0 ? LINEAR_OK : LINEAR_VIOLATED);
    }
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
        cmocka_unit_test(follows_patterns),
        cmocka_unit_test(guards_writes),
        cmocka_unit_test(knows_checksums),
        cmocka_unit_test(a_hint_makes_an_object),
        cmocka_unit_test(knows_sets_of_keys),
        cmocka_unit_test(a_lock_has_one_holder),
        cmocka_unit_test(a_lock_has_several_holders),
        cmocka_unit_test(locks_end_when_their_time_is_over),
        cmocka_unit_test(greets_what_was_not_there),
        cmocka_unit_test(tells_absent_from_nearly_empty),
        cmocka_unit_test(decides_long_histories_with_unknown_outcomes),
        cmocka_unit_test(versions_must_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
