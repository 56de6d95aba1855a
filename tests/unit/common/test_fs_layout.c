#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fs_layout.h"

static struct fs_bytes text(const char *chars)
{
    return (struct fs_bytes){(const uint8_t *)chars, (uint16_t)strlen(chars)};
}

static struct fs_inode sample_inode(void)
{
    return (struct fs_inode){
        .mode = S_IFREG | 0644,
        .uid = 1000,
        .gid = 1001,
        .links = 2,
        .rdev = 259,
        .generation = 3,
        .size = 5 << 20,
        .atime_ns = -1,
        .mtime_ns = 2000000001,
        .ctime_ns = 3,
        .btime_ns = 4,
        .change = 9,
        .layout = {22, 16, 3, 7},
        .relaid = 2,
        .attributes = FS_ATTRIBUTES_ANY | FS_ATTRIBUTES_ACCESS,
        .nameless = 1,
        .parent = 1,
        .parts = 18,
        .part = 3,
        .realm = 17,
        .busy = {5, 6},
        .n_ranges = 2,
        .ranges = {{0, 1}, {4, 4}},
        .target = text("where"),
    };
}

static struct fs_request sample_request(void)
{
    return (struct fs_request){
        .flags = FS_EXCLUSIVE | FS_PLUS,
        .set = FS_SET_SIZE | FS_SET_MODE,
        .ino = fs_ino(2, 5),
        .type = 8,
        .expect = 3,
        .expect_to = 4,
        .offset = 10,
        .len = 11,
        .full_mode = S_IFREG | 0666,
        .tx = {12, 13},
        .name = text("name"),
        .to = text("to"),
        .inode = sample_inode(),
        .intent = {.kind = FS_INTENT_SWAP,
                   .type = 4,
                   .ino = fs_ino(3, 1),
                   .to_dir = fs_ino(4, 1),
                   .to_ino = 9,
                   .to_type = 8,
                   .name = text("a"),
                   .to = text("b")},
    };
}

/* ---- Bytes ---- */

static void records_have_these_bytes(void **state)
{
    const struct fs_inode inode = sample_inode();
    const struct fs_entry entry = {.ino = fs_ino(2, 5), .type = 8, .moving = {1, 2}};
    const struct fs_shard shard = {.births = 7};
    const struct fs_super super = {
        .id = 1, .data_pool = 2, .order = 22, .split_at = 4, .created_ns = 3};
    const struct fs_request request = sample_request();
    const struct fs_answer answer = {.flags = FS_HAS_INODE | FS_ORPHANED,
                                     .ino = 1,
                                     .type = 8,
                                     .offset = 2,
                                     .dir_change = 3,
                                     .dir_mtime_ns = 4,
                                     .dir_links = 5,
                                     .inode = sample_inode()};
    const struct fs_listed listed = {.cookie = 5,
                                     .ino = 6,
                                     .type = 8,
                                     .has_inode = true,
                                     .inode = sample_inode(),
                                     .name = text("n")};
    struct encoder e;
    (void)state;
    encoder_init(&e);
    fs_inode_encode(&e, &inode);
    fs_entry_encode(&e, &entry);
    fs_shard_encode(&e, &shard);
    fs_super_encode(&e, &super);
    fs_intent_encode(&e, &request.intent);
    fs_request_encode(&e, &request);
    fs_answer_encode(&e, &answer);
    fs_listed_encode(&e, &listed);
    assert_false(e.failed);
    test_golden("fs_records.hex", e.data, e.len);
    encoder_fini(&e);
}

static void keys_have_these_bytes(void **state)
{
    uint8_t key[FS_KEY_MAX];
    char object[FS_OBJECT_NAME_MAX];
    struct encoder e;
    (void)state;
    encoder_init(&e);
    encode_bytes(&e, key, fs_entry_key(key, "name", 4));
    encode_bytes(&e, key, fs_index_key(key, FS_KEY_INODE, 0x010203));
    encode_bytes(&e, key, fs_index_key(key, FS_KEY_ORPHAN, 2));
    encode_bytes(&e, key, fs_xattr_key(key, 2, "user.a", 6));
    encode_bytes(&e, key, fs_txid_key(key, FS_KEY_INTENT, (struct fs_txid){1, 2}));
    fs_shard_object(0xabc, object);
    encode_bytes(&e, object, strlen(object));
    fs_data_object(0xabc, 1, 2, object);
    encode_bytes(&e, object, strlen(object));
    test_golden("fs_keys.hex", e.data, e.len);
    encoder_fini(&e);
}

/* ---- Reading back ---- */

static void inodes_read_back(void **state)
{
    const struct fs_inode inode = sample_inode();
    struct fs_inode got;
    struct encoder e;
    (void)state;
    encoder_init(&e);
    fs_inode_encode(&e, &inode);
    assert_int_equal(fs_inode_decode(e.data, e.len, &got), 0);
    assert_int_equal(got.mode, inode.mode);
    assert_int_equal(got.size, inode.size);
    assert_int_equal(got.attributes, inode.attributes);
    assert_int_equal(got.nameless, inode.nameless);
    assert_int_equal(got.atime_ns, -1);
    assert_memory_equal(got.ranges, inode.ranges, 2 * sizeof inode.ranges[0]);
    assert_true(fs_txid_equal(got.busy, inode.busy));
    assert_int_equal(got.target.len, 5);
    assert_memory_equal(got.target.data, "where", 5);
    for (size_t len = 0; len < e.len; len++)
        assert_int_equal(fs_inode_decode(e.data, len, &got), -EBADMSG);
    encoder_fini(&e);
}

static void requests_and_answers_read_back(void **state)
{
    const struct fs_request request = sample_request();
    struct fs_request got;
    struct fs_answer answer = {.flags = FS_HAS_INODE, .inode = sample_inode()}, told;
    struct encoder e;
    (void)state;
    encoder_init(&e);
    fs_request_encode(&e, &request);
    assert_int_equal(fs_request_decode(e.data, e.len, &got), 0);
    assert_int_equal(got.intent.to_dir, request.intent.to_dir);
    assert_int_equal(got.inode.layout.order, 22);
    assert_int_equal(got.inode.layout.unit_order, 16);
    assert_int_equal(got.inode.layout.stripes, 3);
    assert_int_equal(got.inode.layout.pool, 7);
    assert_int_equal(got.inode.relaid, 2);
    assert_int_equal(got.full_mode, S_IFREG | 0666);
    assert_int_equal(got.to.len, 2);
    for (size_t len = 0; len < e.len; len++)
        assert_int_equal(fs_request_decode(e.data, len, &got), -EBADMSG);
    encoder_reset(&e);
    answer.inode.ino = fs_ino(2, 5);
    fs_answer_encode(&e, &answer);
    assert_int_equal(fs_answer_decode(e.data, e.len, &told), 0);
    assert_int_equal(told.inode.ino, fs_ino(2, 5));
    for (size_t len = 0; len < e.len; len++)
        assert_int_equal(fs_answer_decode(e.data, len, &told), -EBADMSG);
    encoder_fini(&e);
}

static void listings_end(void **state)
{
    const struct fs_listed first = {.cookie = 5, .ino = 6, .type = 8, .name = text("one")};
    const struct fs_listed nameless = {.cookie = 5, .ino = 6, .type = 8};
    struct fs_listed got;
    struct encoder e;
    struct decoder d;
    (void)state;
    encoder_init(&e);
    fs_listed_encode(&e, &first);
    decoder_init(&d, e.data, e.len);
    assert_int_equal(fs_listed_next(&d, &got), 0);
    assert_memory_equal(got.name.data, "one", 3);
    assert_int_equal(fs_listed_next(&d, &got), -ENOENT);
    encoder_reset(&e);
    fs_listed_encode(&e, &nameless);
    decoder_init(&d, e.data, e.len);
    assert_int_equal(fs_listed_next(&d, &got), -EBADMSG);
    encoder_fini(&e);
}

/* ---- Bad input ---- */

static int encoded_inode(const struct fs_inode *inode)
{
    struct fs_inode got;
    struct encoder e;
    encoder_init(&e);
    fs_inode_encode(&e, inode);
    int rc = fs_inode_decode(e.data, e.len, &got);
    encoder_fini(&e);
    return rc;
}

static void refuses_inodes_that_make_no_sense(void **state)
{
    struct fs_inode inode = sample_inode();
    (void)state;
    assert_int_equal(encoded_inode(&inode), 0);
    inode.layout.order = 11;
    assert_int_equal(encoded_inode(&inode), -EBADMSG);
    inode.layout.order = 27;
    assert_int_equal(encoded_inode(&inode), -EBADMSG);
    inode.layout = (struct fs_layout){.order = 16, .unit_order = 17, .stripes = 2};
    assert_int_equal(encoded_inode(&inode), -EBADMSG);
    inode.layout = (struct fs_layout){.order = 16, .unit_order = 16, .stripes = 0};
    assert_int_equal(encoded_inode(&inode), -EBADMSG);
    inode.layout.stripes = FS_STRIPES_MAX + 1;
    assert_int_equal(encoded_inode(&inode), -EBADMSG);
    inode = sample_inode();
    inode.size = FS_SIZE_MAX + 1;
    assert_int_equal(encoded_inode(&inode), -EBADMSG);
    inode = sample_inode();
    inode.dying = 2;
    assert_int_equal(encoded_inode(&inode), -EBADMSG);
    inode = sample_inode();
    inode.attributes = FS_ATTRIBUTES_END;
    assert_int_equal(encoded_inode(&inode), -EBADMSG);
    inode = sample_inode();
    inode.ranges[1].first = 1; /* They overlap. */
    assert_int_equal(encoded_inode(&inode), -EBADMSG);
    inode.ranges[1] = (struct fs_range){9, 8};
    assert_int_equal(encoded_inode(&inode), -EBADMSG);
    inode.ranges[1] = (struct fs_range){9, (FS_SIZE_MAX >> 22) + 3};
    assert_int_equal(encoded_inode(&inode), -EBADMSG);
}

static void refuses_names_with_zeroes_and_long_ones(void **state)
{
    static const uint8_t zero[] = {'a', 0, 'b'}, many[FS_NAME_BYTES_MAX + 1] = {1};
    struct fs_request request = {.name = {zero, sizeof zero}}, got;
    struct encoder e;
    uint8_t full[FS_NAME_BYTES_MAX];
    (void)state;
    encoder_init(&e);
    fs_request_encode(&e, &request);
    assert_int_equal(fs_request_decode(e.data, e.len, &got), -EBADMSG);
    encoder_reset(&e);
    memset(full, 'x', sizeof full);
    request.name = (struct fs_bytes){full, sizeof full};
    fs_request_encode(&e, &request);
    assert_int_equal(fs_request_decode(e.data, e.len, &got), 0);
    encoder_reset(&e);
    request.name = (struct fs_bytes){many, sizeof many};
    fs_request_encode(&e, &request);
    assert_int_equal(fs_request_decode(e.data, e.len, &got), -EBADMSG);
    encoder_fini(&e);
}

static void refuses_requests_beyond_the_limits(void **state)
{
    const struct fs_request requests[] = {
        {.flags = FS_FLAGS_END},
        {.set = FS_SET_END},
        {.offset = FS_SIZE_MAX + 1},
        {.len = FS_SIZE_MAX + 1},
        {.intent = {.kind = FS_INTENTS_END}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct fs_request got;
        struct encoder e;
        encoder_init(&e);
        fs_request_encode(&e, &requests[i]);
        assert_int_equal(fs_request_decode(e.data, e.len, &got), -EBADMSG);
        encoder_fini(&e);
    }
}

/* u8 version, u8 oldest reader, u32 length */
static void newer_records_are_read_as_far_as_allowed(void **state)
{
    const struct fs_shard shard = {.births = 7};
    struct fs_shard got;
    struct encoder e;
    (void)state;
    encoder_init(&e);
    fs_shard_encode(&e, &shard);
    encode_u32(&e, 99); /* A field more. */
    uint32_t len = (uint32_t)(e.len - 6);
    memcpy(e.data + 2, &len, sizeof len);
    assert_int_equal(fs_shard_decode(e.data, e.len, &got), -EBADMSG);
    e.data[0] = FS_RECORD_VERSION + 1;
    assert_int_equal(fs_shard_decode(e.data, e.len, &got), 0);
    assert_int_equal(got.births, 7);
    e.data[1] = FS_RECORD_VERSION + 1;
    assert_int_equal(fs_shard_decode(e.data, e.len, &got), -ENOEXEC);
    encoder_fini(&e);
}

/* ---- Cookies and ranges ---- */

static void cookies_leave_room_for_dots(void **state)
{
    char name[16];
    (void)state;
    for (int i = 0; i < 10000; i++) {
        int len = snprintf(name, sizeof name, "f%d", i);
        uint64_t cookie = fs_cookie(name, (size_t)len);
        assert_true(cookie >= FS_COOKIE_FIRST && cookie <= INT64_MAX);
    }
}

/* Whatever is added lies in the ranges afterwards, and all that was there before. */
static void ranges_forget_nothing(void **state)
{
    struct fs_inode inode = {.layout = {12, 12, 1, 0}};
    uint64_t x = 88172645463325252u, added[2000];
    (void)state;
    for (int i = 0; i < 2000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        added[i] = x % (i < 1000 ? 100 : 100000);
        (void)fs_ranges_add(&inode, added[i], added[i] + x % 3);
        assert_in_range(inode.n_ranges, 1, FS_RANGES_MAX);
        for (uint16_t r = 1; r < inode.n_ranges; r++)
            assert_true(inode.ranges[r - 1].last + 1 < inode.ranges[r].first);
        for (int k = i > 50 ? i - 50 : 0; k <= i; k++) {
            bool there = false;
            for (uint16_t r = 0; r < inode.n_ranges; r++)
                there |= inode.ranges[r].first <= added[k] && added[k] <= inode.ranges[r].last;
            assert_true(there);
        }
    }
    assert_false(fs_ranges_add(&inode, added[0], added[0]));
}

static void ranges_are_cut(void **state)
{
    struct fs_inode inode = sample_inode();
    (void)state;
    fs_ranges_cut(&inode, 5);
    assert_int_equal(inode.n_ranges, 2);
    fs_ranges_cut(&inode, 4);
    assert_int_equal(inode.n_ranges, 1);
    fs_ranges_cut(&inode, 1);
    assert_int_equal(inode.ranges[0].last, 0);
    fs_ranges_cut(&inode, 0);
    assert_int_equal(inode.n_ranges, 0);
}

/* ---- Layouts ---- */

enum { LAYOUT_UNITS = 40, LAYOUT_OBJECTS = 64 };

/* Units of 4 KiB are dealt out to objects one by one, as a layout is defined. */
static void deal(const struct fs_layout *layout, uint64_t number[], uint64_t offset[])
{
    uint64_t per_object = UINT64_C(1) << (layout->order - layout->unit_order), set = 0, filled = 0;
    uint16_t next = 0;
    for (int unit = 0; unit < LAYOUT_UNITS; unit++) {
        number[unit] = set * layout->stripes + next;
        offset[unit] = filled << layout->unit_order;
        if (++next == layout->stripes) {
            next = 0;
            filled++;
        }
        if (filled == per_object) {
            filled = 0;
            set++;
        }
    }
}

/* Against the first `size` bytes, dealt out. */
static void check_size(const struct fs_layout *layout, const uint64_t number[],
                       const uint64_t offset[], uint64_t size)
{
    uint64_t bytes[LAYOUT_OBJECTS] = {0}, unit_bytes = UINT64_C(1) << layout->unit_order, end = 0;
    for (int unit = 0; unit < LAYOUT_UNITS; unit++) {
        uint64_t from = (uint64_t)unit * unit_bytes;
        uint64_t part = size <= from ? 0 : size - from < unit_bytes ? size - from : unit_bytes;
        if (part > 0)
            bytes[number[unit]] = offset[unit] + part;
        if (part > 0 && number[unit] >= end)
            end = number[unit] + 1;
    }
    for (uint64_t i = 0; i < end; i++)
        assert_int_equal(fs_object_bytes(layout, i, size), bytes[i]);
    assert_int_equal(fs_object_bytes(layout, end + layout->stripes, size), 0);
    assert_int_equal(fs_objects_end(layout, size), end);
}

static void check_objects(const struct fs_layout *layout, const uint64_t number[], int from, int to)
{
    uint64_t unit_bytes = UINT64_C(1) << layout->unit_order, first, last;
    fs_objects_of(layout, (uint64_t)from * unit_bytes + 1,
                  (uint64_t)(to - from) * unit_bytes + unit_bytes - 1, &first, &last);
    for (int unit = from; unit <= to; unit++)
        assert_in_range(number[unit], first, last);
    assert_true(last - first < (uint64_t)(to - from + 1) + 2u * layout->stripes);
}

static void bytes_are_dealt_out_to_objects(void **state)
{
    static const struct fs_layout layouts[] = {
        {12, 12, 1, 0}, {14, 14, 1, 0}, {14, 12, 3, 0},
        {13, 12, 4, 0}, {12, 12, 5, 0}, {15, 13, 2, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        const struct fs_layout *layout = &layouts[i];
        uint64_t number[LAYOUT_UNITS], offset[LAYOUT_UNITS];
        uint64_t unit_bytes = UINT64_C(1) << layout->unit_order;
        deal(layout, number, offset);
        for (int unit = 0; unit < LAYOUT_UNITS; unit++) {
            struct fs_place place = fs_place_of(layout, (uint64_t)unit * unit_bytes + 5);
            assert_int_equal(place.number, number[unit]);
            assert_int_equal(place.offset, offset[unit] + 5);
            assert_true(place.len >= unit_bytes - 5);
            if (offset[unit] == 0)
                assert_int_equal(fs_object_start(layout, number[unit]),
                                 (uint64_t)unit * unit_bytes);
            check_size(layout, number, offset, (uint64_t)unit * unit_bytes);
            check_size(layout, number, offset, (uint64_t)unit * unit_bytes + 1);
            for (int to = unit; to < LAYOUT_UNITS; to++)
                check_objects(layout, number, unit, to);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_have_these_bytes),
        cmocka_unit_test(keys_have_these_bytes),
        cmocka_unit_test(inodes_read_back),
        cmocka_unit_test(requests_and_answers_read_back),
        cmocka_unit_test(listings_end),
        cmocka_unit_test(refuses_inodes_that_make_no_sense),
        cmocka_unit_test(refuses_names_with_zeroes_and_long_ones),
        cmocka_unit_test(refuses_requests_beyond_the_limits),
        cmocka_unit_test(newer_records_are_read_as_far_as_allowed),
        cmocka_unit_test(cookies_leave_room_for_dots),
        cmocka_unit_test(ranges_forget_nothing),
        cmocka_unit_test(ranges_are_cut),
        cmocka_unit_test(bytes_are_dealt_out_to_objects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
