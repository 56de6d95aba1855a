/* Steps of operations, one by one and together. */
#include "tests/unit/osd/ops_fake.h"

#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "common/env.h"

static struct fake_object object;
static struct fake_request request;
static struct fake_outcome outcome;

static int start(void **state)
{
    (void)state;
    fake_init(&object);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fake_outcome_fini(&outcome);
    memset(&outcome, 0, sizeof outcome);
    fake_fini(&object);
    return 0;
}

static void begin(bool write)
{
    fake_outcome_fini(&outcome);
    fake_request_init(&request, write);
}

static int send(void)
{
    fake_send(&object, &request, &outcome);
    return outcome.result;
}

/* One step alone. */
static int do_step(bool write, uint16_t code, uint64_t offset, uint64_t length, const char *data)
{
    begin(write);
    fake_step_data(&request, code, offset, length, data, strlen(data));
    return send();
}

static void write_text(uint64_t offset, const char *text)
{
    assert_int_equal(do_step(true, WIRE_OP_CODE_WRITE_AT, offset, 0, text), 0);
}

static void holds(const char *text)
{
    assert_int_equal(do_step(false, WIRE_OP_CODE_READ, 0, 0, ""), 0);
    assert_int_equal(outcome.lens[0], strlen(text));
    assert_memory_equal(outcome.data[0], text, strlen(text));
}

static void gave(uint16_t step, const void *data, size_t len)
{
    assert_int_equal(outcome.lens[step], len);
    assert_memory_equal(outcome.data[step], data, len);
}

/* ---- Data ---- */

static void zero_cuts_the_tail_and_never_grows(void **state)
{
    (void)state;
    write_text(0, "abcdefgh");
    assert_int_equal(do_step(true, WIRE_OP_CODE_ZERO, 2, 2, ""), 0);
    assert_int_equal(object.state.size, 8);
    assert_memory_equal(object.data, "ab\0\0efgh", 8);
    assert_int_equal(do_step(true, WIRE_OP_CODE_ZERO, 6, 100, ""), 0);
    assert_int_equal(object.state.size, 6);
    assert_int_equal(do_step(true, WIRE_OP_CODE_ZERO, 6, 1, ""), 0);
    assert_int_equal(object.state.size, 6);
    assert_int_equal(do_step(true, WIRE_OP_CODE_ZERO, OBJECT_SIZE_MAX, 1, ""), -EFBIG);
}

static void zero_makes_no_object(void **state)
{
    (void)state;
    assert_int_equal(do_step(true, WIRE_OP_CODE_ZERO, 0, 5, ""), 0);
    assert_false(object.state.exists);
}

static void writes_outside_the_limit_are_too_big(void **state)
{
    (void)state;
    assert_int_equal(do_step(true, WIRE_OP_CODE_WRITE_AT, OBJECT_SIZE_MAX - 2, 0, "abc"), -EFBIG);
    assert_int_equal(do_step(true, WIRE_OP_CODE_WRITE_AT, UINT64_MAX, 0, "abc"), -EFBIG);
    assert_int_equal(do_step(true, WIRE_OP_CODE_WRITE_AT, OBJECT_SIZE_MAX, 0, ""), -EFBIG);
    assert_int_equal(do_step(true, WIRE_OP_CODE_TRUNCATE, OBJECT_SIZE_MAX, 0, ""), 0);
    assert_false(object.state.exists);
    write_text(0, "a");
    assert_int_equal(do_step(true, WIRE_OP_CODE_TRUNCATE, OBJECT_SIZE_MAX, 0, ""), -EFBIG);
}

static void an_empty_write_extends(void **state)
{
    (void)state;
    write_text(5, "");
    assert_true(object.state.exists);
    assert_int_equal(object.state.size, 5);
    write_text(3, "");
    assert_int_equal(object.state.size, 5);
}

static void write_same_repeats(void **state)
{
    (void)state;
    assert_int_equal(do_step(true, WIRE_OP_CODE_WRITE_SAME, 1, 6, "abc"), 0);
    assert_int_equal(object.state.size, 7);
    assert_memory_equal(object.data, "\0abcabc", 7);
    assert_int_equal(do_step(true, WIRE_OP_CODE_WRITE_SAME, 0, 7, "abc"), -EINVAL);
    assert_int_equal(do_step(true, WIRE_OP_CODE_WRITE_SAME, 0, 7, ""), -EINVAL);
    /* More than fits memory at once. */
    assert_int_equal(do_step(true, WIRE_OP_CODE_WRITE_SAME, 0, 200001, "xyz"), 0);
    assert_int_equal(object.state.size, 200001);
    for (size_t i = 0; i < 200001; i++)
        assert_int_equal(object.data[i], "xyz"[i % 3]);
}

static void compare_extent_tells_where(void **state)
{
    (void)state;
    write_text(0, "abcd");
    assert_int_equal(do_step(false, WIRE_OP_CODE_COMPARE_EXTENT, 1, 0, "bcd"), 0);
    assert_int_equal(do_step(false, WIRE_OP_CODE_COMPARE_EXTENT, 1, 0, "bxd"), -WIRE_MISMATCH - 1);
    begin(false);
    fake_step_data(&request, WIRE_OP_CODE_COMPARE_EXTENT, 3, 0, "d\0", 2);
    assert_int_equal(send(), 0);
    assert_int_equal(do_step(false, WIRE_OP_CODE_COMPARE_EXTENT, 3, 0, "de"), -WIRE_MISMATCH - 1);
}

static void a_guard_that_fails_changes_nothing(void **state)
{
    (void)state;
    write_text(0, "abcd");
    begin(true);
    fake_step_data(&request, WIRE_OP_CODE_WRITE_AT, 0, 0, "X", 1);
    fake_step_data(&request, WIRE_OP_CODE_COMPARE_EXTENT, 0, 0, "abcd", 4);
    assert_int_equal(send(), -WIRE_MISMATCH);
    assert_int_equal(outcome.failed_step, 1);
    holds("abcd");
    begin(true);
    fake_step_data(&request, WIRE_OP_CODE_COMPARE_EXTENT, 0, 0, "abcd", 4);
    fake_step_data(&request, WIRE_OP_CODE_WRITE_AT, 0, 0, "X", 1);
    assert_int_equal(send(), 0);
    holds("Xbcd");
}

static void errors_that_are_allowed_are_told(void **state)
{
    (void)state;
    begin(true);
    fake_step(&request, WIRE_OP_CODE_REMOVE, 0, 0)->flags = WIRE_STEP_FAIL_OK;
    fake_step_data(&request, WIRE_OP_CODE_COMPARE_EXTENT, 0, 0, "abcd", 4)->flags =
        WIRE_STEP_FAIL_OK;
    fake_step(&request, WIRE_OP_CODE_CREATE, 0, 1);
    assert_int_equal(send(), 0);
    assert_int_equal(outcome.results[0], -ENOENT);
    assert_int_equal(outcome.results[1], -WIRE_MISMATCH);
    assert_int_equal(outcome.results[2], 0);
    assert_true(object.state.exists);
}

static void sparse_read_leaves_holes_out(void **state)
{
    (void)state;
    static const uint64_t far = 200000;
    write_text(0, "head");
    write_text(far, "tail");
    assert_int_equal(do_step(false, WIRE_OP_CODE_SPARSE_READ, 0, 0, ""), 0);
    uint32_t n;
    uint64_t extents[4];
    memcpy(&n, outcome.data[0], sizeof n);
    assert_int_equal(n, 2);
    memcpy(extents, outcome.data[0] + 4, sizeof extents);
    assert_int_equal(extents[0], 0);
    assert_int_equal(extents[1], 4096);
    assert_int_equal(extents[2], far / 4096 * 4096);
    assert_int_equal(extents[2] + extents[3], far + 4);
    assert_int_equal(outcome.lens[0], 4 + sizeof extents + extents[1] + extents[3]);
    assert_memory_equal(outcome.data[0] + 4 + sizeof extents, "head", 4);
    assert_memory_equal(outcome.data[0] + outcome.lens[0] - 4, "tail", 4);
}

static void extents_are_told_as_they_are(void **state)
{
    (void)state;
    uint32_t n;
    uint64_t extents[4];
    write_text(0, "head");
    write_text(12000, "tail");
    assert_int_equal(do_step(false, WIRE_OP_CODE_EXTENTS, 1, 0, ""), 0);
    assert_int_equal(outcome.lens[0], 4 + sizeof extents);
    memcpy(&n, outcome.data[0], sizeof n);
    memcpy(extents, outcome.data[0] + 4, sizeof extents);
    assert_int_equal(n, 2);
    assert_int_equal(extents[0], 1);
    assert_int_equal(extents[1], 4095);
    assert_int_equal(extents[2], 8192);
    assert_int_equal(extents[2] + extents[3], 12004);
    assert_int_equal(do_step(false, WIRE_OP_CODE_EXTENTS, 12004, 5, ""), 0);
    gave(0, "\0\0\0", 4);
}

static int checksum(uint32_t type, uint64_t init, uint32_t chunk, uint64_t offset, uint64_t len)
{
    struct wire_checksum wanted = {.type = type, .chunk = chunk, .init = init};
    begin(false);
    fake_step_data(&request, WIRE_OP_CODE_CHECKSUM, offset, len, &wanted, sizeof wanted);
    return send();
}

static uint64_t sum(uint32_t index, size_t size)
{
    uint64_t value = 0;
    memcpy(&value, outcome.data[0] + 4 + index * size, size);
    return value;
}

static void checksums_are_the_known_ones(void **state)
{
    (void)state;
    write_text(0, "123456789");
    assert_int_equal(checksum(WIRE_CHECKSUM_CRC32C, UINT32_MAX, 0, 0, 9), 0);
    assert_int_equal((uint32_t)~sum(0, 4), 0xe3069283);
    assert_int_equal(checksum(WIRE_CHECKSUM_XXHASH32, 0, 0, 0, 9), 0);
    assert_int_equal(sum(0, 4), 0x937bad67);
    assert_int_equal(checksum(WIRE_CHECKSUM_XXHASH64, 0, 0, 0, 0), 0);
    assert_true(sum(0, 8) == UINT64_C(0x8cb841db40e6ae83));
    assert_int_equal(checksum(WIRE_CHECKSUM_XXHASH32, 0, 3, 0, 9), 0);
    uint32_t n;
    memcpy(&n, outcome.data[0], sizeof n);
    assert_int_equal(n, 3);
    assert_int_equal(checksum(WIRE_CHECKSUM_XXHASH32, 0, 4, 0, 9), -EINVAL);
    assert_int_equal(checksum(3, 0, 0, 0, 9), -EINVAL);
    assert_int_equal(checksum(WIRE_CHECKSUM_CRC32C, 0, 0, 0, 10), -EINVAL);
}

/* They are looked at before anything is loaded. */
static void checksums_have_limits(void **state)
{
    (void)state;
    struct wire_checksum whole = {.type = WIRE_CHECKSUM_CRC32C};
    write_text(0, "123456789");
    object.state.size = OBJECT_SIZE_MAX;
    object.loads = 0;
    assert_int_equal(checksum(WIRE_CHECKSUM_CRC32C, 0, 256, 0, 0), -E2BIG);
    assert_int_equal(checksum(WIRE_CHECKSUM_CRC32C, 0, 1, 0, OPS_SUMS_MAX + 1), -E2BIG);
    assert_int_equal(object.loads, 0);
    begin(false);
    fake_step_data(&request, WIRE_OP_CODE_CHECKSUM, 0, 4, &whole, sizeof whole);
    fake_step_data(&request, WIRE_OP_CODE_CHECKSUM, 0, 0, &whole, sizeof whole);
    assert_int_equal(send(), -E2BIG);
    assert_int_equal(outcome.failed_step, 1);
    object.state.size = 9;
    assert_int_equal(checksum(WIRE_CHECKSUM_CRC32C, 0, 1, 0, 9), 0);
    assert_int_equal(outcome.lens[0], 4 + 9 * 4);
}

static void versions_are_asserted(void **state)
{
    (void)state;
    write_text(0, "a");
    object.state.version.sequence = 9;
    assert_int_equal(do_step(false, WIRE_OP_CODE_ASSERT_VERSION, 9, 0, ""), 0);
    assert_int_equal(do_step(false, WIRE_OP_CODE_ASSERT_VERSION, 8, 0, ""), -ERANGE);
    assert_int_equal(do_step(false, WIRE_OP_CODE_ASSERT_VERSION, 10, 0, ""), -EOVERFLOW);
    assert_int_equal(do_step(false, WIRE_OP_CODE_ASSERT_VERSION, 0, 0, ""), -EINVAL);
}

static void existence_is_asserted(void **state)
{
    (void)state;
    begin(true);
    fake_step(&request, WIRE_OP_CODE_ASSERT_EXISTS, 0, 0);
    fake_step_data(&request, WIRE_OP_CODE_WRITE_FULL, 0, 0, "new", 3);
    assert_int_equal(send(), -ENOENT);
    assert_false(object.state.exists);
}

static void a_write_gives_little(void **state)
{
    (void)state;
    char text[OPS_ANSWER_MAX];
    memset(text, 'x', sizeof text);
    begin(true);
    fake_step_data(&request, WIRE_OP_CODE_WRITE_FULL, 0, 0, text, sizeof text);
    fake_step(&request, WIRE_OP_CODE_READ, 0, 100);
    assert_int_equal(send(), 0);
    gave(1, text, 100);
    begin(true);
    fake_step(&request, WIRE_OP_CODE_READ, 0, 0);
    fake_step(&request, WIRE_OP_CODE_REMOVE, 0, 0);
    assert_int_equal(send(), -EOVERFLOW);
    assert_true(object.state.exists);
}

/* ---- Attributes ---- */

static int set_attr(const char *name, const char *value)
{
    begin(true);
    fake_step_data(&request, WIRE_OP_CODE_ATTR_SET, 0, strlen(name), name, strlen(name));
    encode_bytes(&request.payload, value, strlen(value));
    return send();
}

static int compare_attr(unsigned comparison, const char *name, const void *value, size_t len)
{
    begin(false);
    fake_step_data(&request, WIRE_OP_CODE_ATTR_COMPARE, comparison, strlen(name), name,
                   strlen(name));
    if (len > 0)
        encode_bytes(&request.payload, value, len);
    return send();
}

static void attributes_are_set_and_got(void **state)
{
    (void)state;
    assert_int_equal(set_attr("colour", "green"), 0);
    assert_true(object.state.exists);
    assert_int_equal(do_step(false, WIRE_OP_CODE_ATTR_GET, 0, 0, "colour"), 0);
    gave(0, "green", 5);
    assert_int_equal(do_step(false, WIRE_OP_CODE_ATTR_GET, 0, 0, "size"), -ENODATA);
    assert_int_equal(set_attr("", "of no name"), 0);
    assert_int_equal(do_step(false, WIRE_OP_CODE_ATTR_LIST, 0, 0, ""), 0);
    gave(0,
         "\2\0\0\0"
         "\0\0\12\0\0\0of no name"
         "\6\0colour\5\0\0\0green",
         4 + 6 + 10 + 6 + 6 + 5);
    assert_int_equal(do_step(true, WIRE_OP_CODE_ATTR_REMOVE, 0, 0, "colour"), 0);
    assert_int_equal(do_step(true, WIRE_OP_CODE_ATTR_REMOVE, 0, 0, "colour"), 0);
    assert_int_equal(do_step(false, WIRE_OP_CODE_ATTR_GET, 0, 0, "colour"), -ENODATA);
}

static void attributes_of_nothing_are_not_removed(void **state)
{
    (void)state;
    assert_int_equal(do_step(true, WIRE_OP_CODE_ATTR_REMOVE, 0, 0, "colour"), -ENOENT);
}

static void attributes_are_compared(void **state)
{
    (void)state;
    uint64_t number = 41;
    set_attr("n", "42");
    assert_int_equal(compare_attr(WIRE_COMPARE_EQUAL, "n", "42", 2), 0);
    assert_int_equal(compare_attr(WIRE_COMPARE_NOT_EQUAL, "n", "42", 2), -ECANCELED);
    assert_int_equal(compare_attr(WIRE_COMPARE_GREATER, "n", "43", 2), 0);
    assert_int_equal(compare_attr(WIRE_COMPARE_LESS, "n", "43", 2), -ECANCELED);
    assert_int_equal(compare_attr(WIRE_COMPARE_EQUAL, "none", "", 0), 0);
    assert_int_equal(compare_attr(WIRE_COMPARE_LESS | WIRE_COMPARE_NUMBERS, "n", &number, 8), 0);
    assert_int_equal(compare_attr(WIRE_COMPARE_EQUAL | WIRE_COMPARE_NUMBERS, "n", &number, 8),
                     -ECANCELED);
    assert_int_equal(compare_attr(WIRE_COMPARE_EQUAL | WIRE_COMPARE_NUMBERS, "n", &number, 7),
                     -EINVAL);
    assert_int_equal(compare_attr(7, "n", "42", 2), -EINVAL);
    assert_int_equal(compare_attr(0, "n", "42", 2), -EINVAL);
}

static void attributes_have_limits(void **state)
{
    (void)state;
    static uint8_t value[STORE_ATTR_VALUE_MAX + 1];
    char name[STORE_ATTR_NAME_MAX + 1] = {0};
    memset(name, 'n', sizeof name - 1);
    assert_int_equal(set_attr(name, "v"), -ENAMETOOLONG);
    begin(true);
    fake_step_data(&request, WIRE_OP_CODE_ATTR_SET, 0, 1, "n", 1);
    encode_bytes(&request.payload, value, sizeof value);
    assert_int_equal(send(), -EFBIG);
    /* All together; and values that are replaced count once. */
    int error = 0;
    for (int i = 0; i < 40 && !error; i++) {
        char names[2] = {(char)('a' + i / 4), 0};
        begin(true);
        fake_step_data(&request, WIRE_OP_CODE_ATTR_SET, 0, 1, names, 1);
        encode_bytes(&request.payload, value, STORE_ATTR_VALUE_MAX);
        error = send();
    }
    assert_int_equal(error, -E2BIG);
    assert_int_equal(object.attrs.n, 7);
}

/* ---- The map ---- */

static void put_pair(const char *key, const char *value)
{
    encode_string16(&request.payload, key, strlen(key));
    encode_string32(&request.payload, value, strlen(value));
}

static void set_pairs(const char *keys)
{
    begin(true);
    fake_step(&request, WIRE_OP_CODE_OMAP_SET, 0, 0);
    for (; *keys; keys++)
        put_pair((char[2]){*keys, 0}, "value");
    assert_int_equal(send(), 0);
}

static int list_keys(const char *after, const char *prefix, uint64_t max)
{
    begin(false);
    fake_step(&request, WIRE_OP_CODE_OMAP_LIST, WIRE_OMAP_KEYS_ONLY, max);
    encode_string16(&request.payload, after, strlen(after));
    encode_string16(&request.payload, prefix, strlen(prefix));
    return send();
}

static void lists(uint16_t step, bool more, const char *keys)
{
    size_t n = strlen(keys);
    assert_int_equal(outcome.lens[step], 1 + 3 * n);
    assert_int_equal(outcome.data[step][0], more);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(outcome.data[step][1 + 3 * i + 2], keys[i]);
}

static void pairs_are_listed_in_order(void **state)
{
    (void)state;
    set_pairs("dbca");
    assert_int_equal(list_keys("", "", 10), 0);
    lists(0, false, "abcd");
    assert_int_equal(list_keys("b", "", 1), 0);
    lists(0, true, "c");
    assert_int_equal(list_keys("", "c", 10), 0);
    lists(0, false, "c");
    assert_int_equal(list_keys("d", "", 10), 0);
    lists(0, false, "");
    assert_int_equal(list_keys("", "", 0), 0);
    lists(0, true, "");
}

static void keys_are_removed(void **state)
{
    (void)state;
    set_pairs("abcdefg");
    begin(true);
    fake_step(&request, WIRE_OP_CODE_OMAP_REMOVE, 0, 0);
    encode_string16(&request.payload, "b", 1);
    encode_string16(&request.payload, "x", 1);
    fake_step(&request, WIRE_OP_CODE_OMAP_REMOVE_RANGE, 0, 0);
    encode_string16(&request.payload, "d", 1);
    encode_string16(&request.payload, "f", 1);
    fake_step(&request, WIRE_OP_CODE_OMAP_LIST, WIRE_OMAP_KEYS_ONLY, 10);
    encode_string16(&request.payload, "", 0);
    encode_string16(&request.payload, "", 0);
    assert_int_equal(send(), 0);
    lists(2, false, "acfg");
    assert_int_equal(list_keys("", "", 10), 0);
    lists(0, false, "acfg");
    assert_int_equal(do_step(true, WIRE_OP_CODE_OMAP_SET_HEADER, 0, 0, "header"), 0);
    assert_int_equal(do_step(false, WIRE_OP_CODE_OMAP_GET_HEADER, 0, 0, ""), 0);
    gave(0, "header", 6);
    assert_int_equal(do_step(true, WIRE_OP_CODE_OMAP_CLEAR, 0, 0, ""), 0);
    assert_int_equal(object.pairs.n, 0);
    assert_int_equal(do_step(false, WIRE_OP_CODE_OMAP_GET_HEADER, 0, 0, ""), 0);
    assert_int_equal(outcome.lens[0], 0);
}

static void a_map_of_nothing_is_not_changed(void **state)
{
    (void)state;
    assert_int_equal(do_step(true, WIRE_OP_CODE_OMAP_CLEAR, 0, 0, ""), -ENOENT);
    begin(true);
    fake_step(&request, WIRE_OP_CODE_OMAP_REMOVE, 0, 0);
    encode_string16(&request.payload, "b", 1);
    assert_int_equal(send(), -ENOENT);
    begin(true);
    fake_step(&request, WIRE_OP_CODE_OMAP_SET, 0, 0);
    assert_int_equal(send(), 0);
    assert_true(object.state.exists);
}

static int get_pairs(const char *keys)
{
    begin(false);
    fake_step(&request, WIRE_OP_CODE_OMAP_GET, 0, 0);
    for (; *keys; keys++)
        encode_string16(&request.payload, keys, 1);
    return send();
}

static void keys_are_asked_for_at_once(void **state)
{
    (void)state;
    set_pairs("abc");
    assert_int_equal(get_pairs("axc"), 0);
    gave(0, "\1\0a\5\0\0\0value\1\0c\5\0\0\0value", 24);
    assert_int_equal(outcome.runs, 1);
}

static int compare_pair(const char *key, unsigned comparison, const char *value)
{
    begin(true);
    fake_step(&request, WIRE_OP_CODE_OMAP_COMPARE, 0, 0);
    encode_string16(&request.payload, key, strlen(key));
    encode_u8(&request.payload, (uint8_t)comparison);
    encode_string32(&request.payload, value, strlen(value));
    return send();
}

static void pairs_are_compared(void **state)
{
    (void)state;
    assert_int_equal(compare_pair("a", WIRE_COMPARE_EQUAL, "value"), -ENOENT);
    set_pairs("a");
    assert_int_equal(compare_pair("a", WIRE_COMPARE_EQUAL, "value"), 0);
    assert_int_equal(compare_pair("a", WIRE_COMPARE_EQUAL, "other"), -ECANCELED);
    assert_int_equal(compare_pair("a", WIRE_COMPARE_GREATER, "u"), 0);
    assert_int_equal(compare_pair("a", WIRE_COMPARE_LESS, "u"), -ECANCELED);
    assert_int_equal(compare_pair("b", WIRE_COMPARE_EQUAL, ""), 0);
    assert_int_equal(compare_pair("a", WIRE_COMPARE_NOT_EQUAL, "u"), -EINVAL);
}

static void maps_have_limits(void **state)
{
    (void)state;
    static uint8_t bytes[STORE_OMAP_VALUE_MAX + 1];
    begin(true);
    fake_step(&request, WIRE_OP_CODE_OMAP_SET, 0, 0);
    put_pair("", "v");
    assert_int_equal(send(), -EINVAL);
    begin(true);
    fake_step(&request, WIRE_OP_CODE_OMAP_SET, 0, 0);
    encode_string16(&request.payload, bytes, STORE_OMAP_KEY_MAX + 1);
    encode_string32(&request.payload, "", 0);
    assert_int_equal(send(), -ENAMETOOLONG);
    begin(true);
    fake_step(&request, WIRE_OP_CODE_OMAP_SET, 0, 0);
    put_pair("k", "v");
    encode_string16(&request.payload, "l", 1);
    encode_string32(&request.payload, bytes, sizeof bytes);
    assert_int_equal(send(), -EFBIG);
    assert_false(object.state.exists);
    begin(true);
    for (int i = 0; i < 17; i++) {
        fake_step(&request, WIRE_OP_CODE_OMAP_SET, 0, 0);
        encode_string16(&request.payload, "l", 1);
        encode_string32(&request.payload, bytes, STORE_OMAP_VALUE_MAX);
    }
    assert_int_equal(send(), -E2BIG);
    assert_false(object.state.exists);
}

/* ---- Methods ---- */

static int call(bool write, const char *method, const struct encoder *input)
{
    fake_step(&request, WIRE_OP_CODE_CALL, 0, 0);
    encode_string16(&request.payload, method, strlen(method));
    if (input)
        encode_bytes(&request.payload, input->data, input->len);
    request.write = write;
    return send();
}

/* As process `who` at second `when`; a shared lock has a tag. */
static int lock_as(uint64_t who, const char *cookie, const char *tag, uint64_t when,
                   uint64_t seconds, uint8_t flags)
{
    struct encoder e;
    encoder_init(&e);
    encode_string16(&e, "l", 1);
    encode_u8(&e, *tag ? 2 : 1);
    encode_string16(&e, cookie, strlen(cookie));
    encode_string16(&e, tag, strlen(tag));
    encode_string16(&e, "why", 3);
    encode_u64(&e, seconds * SEC_NS);
    encode_u8(&e, flags);
    begin(true);
    request.caller.instance = who;
    request.wall_ns = when * SEC_NS;
    int error = call(true, "lock.lock", &e);
    encoder_fini(&e);
    return error;
}

static int unlock_as(uint64_t who, const char *cookie)
{
    struct encoder e;
    encoder_init(&e);
    encode_string16(&e, "l", 1);
    encode_string16(&e, cookie, strlen(cookie));
    begin(true);
    request.caller.instance = who;
    request.wall_ns = 100 * SEC_NS;
    int error = call(true, "lock.unlock", &e);
    encoder_fini(&e);
    return error;
}

static void exclusive_locks_exclude(void **state)
{
    (void)state;
    assert_int_equal(lock_as(7, "c", "", 100, 0, 0), 0);
    assert_true(object.state.exists);
    assert_int_equal(lock_as(7, "c", "", 100, 0, 0), -EEXIST);
    assert_int_equal(lock_as(7, "c", "", 100, 0, 1), 0);
    assert_int_equal(lock_as(7, "d", "", 100, 0, 0), -EBUSY);
    assert_int_equal(lock_as(8, "c", "", 100, 0, 0), -EBUSY);
    assert_int_equal(lock_as(8, "c", "tag", 100, 0, 0), -EBUSY);
    assert_int_equal(unlock_as(8, "c"), -ENOENT);
    assert_int_equal(unlock_as(7, "c"), 0);
    assert_int_equal(unlock_as(7, "c"), -ENOENT);
    assert_int_equal(object.attrs.n, 0);
    assert_int_equal(lock_as(8, "c", "", 100, 0, 2), -ENOENT);
}

static void shared_locks_share_a_tag(void **state)
{
    (void)state;
    assert_int_equal(lock_as(7, "c", "tag", 100, 0, 0), 0);
    assert_int_equal(lock_as(8, "c", "tag", 100, 0, 0), 0);
    assert_int_equal(lock_as(9, "c", "other", 100, 0, 0), -EBUSY);
    assert_int_equal(lock_as(9, "c", "", 100, 0, 0), -EBUSY);
    assert_int_equal(unlock_as(7, "c"), 0);
    assert_int_equal(unlock_as(8, "c"), 0);
    assert_int_equal(lock_as(9, "c", "", 100, 0, 0), 0);
}

static void locks_end_by_time(void **state)
{
    (void)state;
    assert_int_equal(lock_as(7, "c", "", 100, 10, 0), 0);
    assert_int_equal(lock_as(8, "c", "", 109, 0, 0), -EBUSY);
    assert_int_equal(lock_as(8, "c", "", 110, 0, 0), 0);
    assert_int_equal(lock_as(7, "c", "", 1000, 0, 1), -EBUSY);
}

/* What a full cluster refuses, and what it does not. */
static void what_is_set_grows_and_what_is_removed_does_not(void **state)
{
    (void)state;
    write_text(0, "abc");
    assert_true(outcome.grows);
    write_text(0, "def");
    assert_false(outcome.grows);
    begin(true);
    fake_step_data(&request, WIRE_OP_CODE_ATTR_SET, 0, 1, "av", 2);
    assert_int_equal(send(), 0);
    assert_true(outcome.grows);
    set_pairs("k");
    assert_true(outcome.grows);
    assert_int_equal(do_step(true, WIRE_OP_CODE_OMAP_SET_HEADER, 0, 0, "header"), 0);
    assert_true(outcome.grows);
    assert_int_equal(do_step(true, WIRE_OP_CODE_OMAP_SET_HEADER, 0, 0, ""), 0);
    assert_false(outcome.grows);
    assert_int_equal(do_step(true, WIRE_OP_CODE_ATTR_REMOVE, 0, 0, "a"), 0);
    assert_false(outcome.grows);
    assert_int_equal(do_step(true, WIRE_OP_CODE_OMAP_CLEAR, 0, 0, ""), 0);
    assert_false(outcome.grows);
    assert_int_equal(lock_as(7, "c", "tag", 100, 0, 0), 0);
    assert_true(outcome.grows);
    assert_int_equal(lock_as(8, "c", "tag", 100, 0, 0), 0);
    assert_int_equal(unlock_as(7, "c"), 0);
    assert_false(outcome.grows);
}

static void methods_that_write_need_a_write(void **state)
{
    (void)state;
    begin(true);
    assert_int_equal(call(true, "no.such", NULL), -EPERM);
    begin(true);
    assert_int_equal(call(true, "hello.such", NULL), -EOPNOTSUPP);
    begin(true);
    assert_int_equal(call(true, "hello.record_hello", NULL), 0);
    holds("Hello, world!");
    begin(false);
    assert_int_equal(call(false, "hello.record_hello", NULL), -EOPNOTSUPP);
    begin(false);
    assert_int_equal(call(false, "hello.say_hello", NULL), 0);
    gave(0, "Hello, world!", 13);
    begin(true);
    assert_int_equal(call(true, "lock.lock", NULL), -EINVAL);
}

/* ---- Steps together ---- */

static void removal_hides_everything(void **state)
{
    (void)state;
    write_text(0, "abcd");
    set_attr("colour", "green");
    set_pairs("ab");
    begin(true);
    fake_step(&request, WIRE_OP_CODE_REMOVE, 0, 0);
    fake_step(&request, WIRE_OP_CODE_CREATE, 0, 1);
    fake_step_data(&request, WIRE_OP_CODE_ATTR_GET, 0, 0, "colour", 6)->flags = WIRE_STEP_FAIL_OK;
    fake_step(&request, WIRE_OP_CODE_OMAP_LIST, 0, 10);
    encode_string16(&request.payload, "", 0);
    encode_string16(&request.payload, "", 0);
    fake_step(&request, WIRE_OP_CODE_READ, 0, 0);
    assert_int_equal(send(), 0);
    assert_int_equal(outcome.results[2], -ENODATA);
    assert_int_equal(outcome.lens[3], 1);
    assert_int_equal(outcome.lens[4], 0);
    assert_int_equal(outcome.runs, 0);
}

static void unknown_steps_are_refused(void **state)
{
    (void)state;
    assert_int_equal(do_step(true, 99, 0, 0, ""), -EOPNOTSUPP);
    assert_int_equal(do_step(false, WIRE_OP_CODE_ATTR_SET, 0, 0, ""), -EINVAL);
    assert_int_equal(do_step(true, WIRE_OP_CODE_ATTR_SET, 0, 5, "abc"), -EINVAL);
    assert_int_equal(do_step(true, WIRE_OP_CODE_OMAP_SET, 0, 0, "abc"), -EINVAL);
    assert_int_equal(do_step(true, WIRE_OP_CODE_LIST, 0, 0, ""), -EINVAL);
}

static uint64_t dice_state;

static uint32_t dice(uint32_t n)
{
    dice_state = dice_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(dice_state >> 33) % n;
}

static const char *some_key(void)
{
    static const char keys[][4] = {"a", "aa", "ab", "b", "ba", "c", "cc", "d"};
    return keys[dice(8)];
}

static const char *some_text(void)
{
    static const char texts[][12] = {"", "x", "short", "other", "longer text"};
    return texts[dice(5)];
}

/* A step that can hardly fail, with all that it needs. */
static void add_random_step(struct fake_request *to)
{
    const char *key = some_key(), *text = some_text();
    switch (dice(14)) {
    case 0:
        fake_step_data(to, WIRE_OP_CODE_WRITE_AT, dice(20), 0, text, strlen(text));
        return;
    case 1:
        fake_step_data(to, WIRE_OP_CODE_APPEND, 0, 0, text, strlen(text));
        return;
    case 2:
        fake_step(to, WIRE_OP_CODE_ZERO, dice(20), 1 + dice(20));
        return;
    case 3:
        fake_step(to, WIRE_OP_CODE_TRUNCATE, dice(30), 0);
        return;
    case 4:
        fake_step_data(to, WIRE_OP_CODE_WRITE_SAME, dice(20), 6, "abc", 3);
        return;
    case 5:
        fake_step(to, dice(6) == 0 ? WIRE_OP_CODE_REMOVE : WIRE_OP_CODE_CREATE, 0, 0);
        return;
    case 6:
        fake_step_data(to, WIRE_OP_CODE_ATTR_SET, 0, strlen(key), key, strlen(key));
        encode_bytes(&to->payload, text, strlen(text));
        return;
    case 7:
        fake_step_data(to, WIRE_OP_CODE_ATTR_REMOVE, 0, 0, key, strlen(key));
        return;
    case 8:
        fake_step(to, WIRE_OP_CODE_OMAP_SET, 0, 0);
        encode_string16(&to->payload, key, strlen(key));
        encode_string32(&to->payload, text, strlen(text));
        return;
    case 9:
        fake_step(to, WIRE_OP_CODE_OMAP_REMOVE_RANGE, 0, 0);
        encode_string16(&to->payload, key, strlen(key));
        encode_string16(&to->payload, "c", 1);
        return;
    case 10:
        fake_step(to, WIRE_OP_CODE_READ, dice(10), dice(20));
        return;
    case 11:
        fake_step(to, WIRE_OP_CODE_ATTR_LIST, 0, 0);
        return;
    case 12:
        fake_step(to, WIRE_OP_CODE_OMAP_LIST, 0, dice(5));
        encode_string16(&to->payload, key, dice(2) ? strlen(key) : 0);
        encode_string16(&to->payload, "", 0);
        return;
    default:
        fake_step(to, WIRE_OP_CODE_OMAP_GET, 0, 0);
        encode_string16(&to->payload, key, strlen(key));
    }
}

/* Steps of one operation give and do what the same steps do as operations of their own. */
static void together_as_one_by_one(void **state)
{
    (void)state;
    static struct fake_object other;
    fake_init(&other);
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        struct fake_outcome one;
        uint16_t n;
        begin(true);
        dice_state = seed;
        n = (uint16_t)(1 + dice(12));
        for (uint16_t i = 0; i < n; i++) {
            add_random_step(&request);
            request.steps[i].flags = WIRE_STEP_FAIL_OK;
        }
        int result = send();
        if (result == -EOVERFLOW)
            continue;
        assert_int_equal(result, 0);
        dice_state = seed;
        dice(12);
        for (uint16_t i = 0; i < n; i++) {
            struct fake_request single;
            fake_request_init(&single, true);
            add_random_step(&single);
            single.steps[0].flags = WIRE_STEP_FAIL_OK;
            fake_send(&other, &single, &one);
            assert_int_equal(one.result, 0);
            assert_int_equal(one.results[0], outcome.results[i]);
            assert_int_equal(one.lens[0], outcome.lens[i]);
            assert_memory_equal(one.data[0], outcome.data[i], one.lens[0]);
            fake_outcome_fini(&one);
        }
        assert_true(fake_equal(&object, &other));
    }
    fake_fini(&other);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(zero_cuts_the_tail_and_never_grows),
        T(zero_makes_no_object),
        T(writes_outside_the_limit_are_too_big),
        T(an_empty_write_extends),
        T(write_same_repeats),
        T(compare_extent_tells_where),
        T(a_guard_that_fails_changes_nothing),
        T(errors_that_are_allowed_are_told),
        T(sparse_read_leaves_holes_out),
        T(extents_are_told_as_they_are),
        T(checksums_are_the_known_ones),
        T(checksums_have_limits),
        T(versions_are_asserted),
        T(existence_is_asserted),
        T(a_write_gives_little),
        T(attributes_are_set_and_got),
        T(attributes_of_nothing_are_not_removed),
        T(attributes_are_compared),
        T(attributes_have_limits),
        T(pairs_are_listed_in_order),
        T(keys_are_removed),
        T(a_map_of_nothing_is_not_changed),
        T(keys_are_asked_for_at_once),
        T(pairs_are_compared),
        T(maps_have_limits),
        T(removal_hides_everything),
        T(exclusive_locks_exclude),
        T(shared_locks_share_a_tag),
        T(locks_end_by_time),
        T(what_is_set_grows_and_what_is_removed_does_not),
        T(methods_that_write_need_a_write),
        T(unknown_steps_are_refused),
        T(together_as_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
