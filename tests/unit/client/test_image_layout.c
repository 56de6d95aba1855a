#include "tests/lib/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/image/layout.h"

static const struct image_core core = {
    .generation = 7,
    .order = 22,
    .clone_format = 2,
    .size = 10 << 20,
    .extent = 12 << 20,
    .stripe_unit = 65536,
    .stripe_count = 4,
    .features = 191,
    .op_features = 2,
    .flags = 1,
    .has_data_pool = true,
    .data_pool = 9,
    .created_ns = 1000,
    .accessed_ns = 2000,
    .modified_ns = 3000,
    .snap_seq = 17,
    .snap_ordinal = 3,
    .snap_limit = UINT64_MAX,
    .has_parent = true,
    .parent = {.pool = 4, .space = "tenant", .id = "0123456789abcdef"},
    .parent_snap = 12,
    .overlap = 8 << 20,
    .has_group = true,
    .group = {.pool = 5, .id = "fedcba9876543210"},
};

static const struct image_snap snap = {
    .ordinal = 2,
    .kind = LIMPET_IMAGE_SNAP_GROUP,
    .is_protected = true,
    .size = 10 << 20,
    .overlap = 1 << 20,
    .created_ns = 4000,
    .flags = 3,
    .name = "before",
    .original = "after",
    .group = {.pool = 5, .id = "fedcba9876543210"},
    .group_snap = "aa",
};

static void records_have_these_bytes(void **state)
{
    struct encoder e;
    const struct image_owner owner = {.mode = 2, .kept = true};
    const struct image_trash trash = {.name = "disk", .deleted_ns = 5, .deferred_until_ns = 6};
    (void)state;
    encoder_init(&e);
    image_core_encode(&e, &core);
    image_snap_encode(&e, &snap);
    image_owner_encode(&e, &owner);
    image_trash_encode(&e, &trash);
    assert_false(e.failed);
    test_golden("image_records.hex", e.data, e.len);
    encoder_fini(&e);
}

static void records_read_back(void **state)
{
    struct encoder e;
    struct image_core got_core;
    struct image_snap got_snap;
    (void)state;
    encoder_init(&e);
    image_core_encode(&e, &core);
    assert_int_equal(image_core_decode(e.data, e.len, &got_core), 0);
    assert_memory_equal(&got_core.parent, &core.parent, sizeof core.parent);
    assert_int_equal(got_core.overlap, core.overlap);
    assert_string_equal(got_core.group.id, core.group.id);
    assert_int_equal(got_core.snap_limit, core.snap_limit);
    for (size_t len = 0; len < e.len; len++)
        assert_int_equal(image_core_decode(e.data, len, &got_core), -EBADMSG);
    encoder_reset(&e);
    image_snap_encode(&e, &snap);
    assert_int_equal(image_snap_decode(e.data, e.len, &got_snap), 0);
    assert_string_equal(got_snap.name, "before");
    assert_string_equal(got_snap.group_snap, "aa");
    assert_int_equal(got_snap.flags, 3);
    for (size_t len = 0; len < e.len; len++)
        assert_int_equal(image_snap_decode(e.data, len, &got_snap), -EBADMSG);
    encoder_fini(&e);
}

static void newer_versions_are_read_or_refused(void **state)
{
    struct encoder e;
    struct image_trash got;
    const struct image_trash trash = {.name = "disk", .deleted_ns = 5, .deferred_until_ns = 6};
    (void)state;
    encoder_init(&e);
    image_trash_encode(&e, &trash);
    encode_u64(&e, 99);
    e.data[0] = IMAGE_TRASH_VERSION + 1;
    e.data[2] = (uint8_t)(e.len - 6);
    assert_int_equal(image_trash_decode(e.data, e.len, &got), 0);
    assert_int_equal(got.deferred_until_ns, 6);
    e.data[1] = IMAGE_TRASH_VERSION + 1;
    assert_int_equal(image_trash_decode(e.data, e.len, &got), -ENOEXEC);
    encoder_fini(&e);
}

static void refuses_what_makes_no_sense(void **state)
{
    struct encoder e;
    struct image_core bad = core, got;
    (void)state;
    encoder_init(&e);
    bad.stripe_unit = 3 << 16;
    image_core_encode(&e, &bad);
    assert_int_equal(image_core_decode(e.data, e.len, &got), -EBADMSG);
    encoder_reset(&e);
    bad = core;
    bad.extent = bad.size - 1;
    image_core_encode(&e, &bad);
    assert_int_equal(image_core_decode(e.data, e.len, &got), -EBADMSG);
    encoder_reset(&e);
    bad = core;
    bad.order = 25;
    bad.stripe_count = UINT64_C(1) << 39; /* Sets of 2^64 bytes. */
    image_core_encode(&e, &bad);
    assert_int_equal(image_core_decode(e.data, e.len, &got), -EBADMSG);
    encoder_reset(&e);
    bad = core;
    bad.order = 64;
    image_core_encode(&e, &bad);
    assert_int_equal(image_core_decode(e.data, e.len, &got), -EBADMSG);
    encoder_fini(&e);
}

static void names_are_utf8_without_separators(void **state)
{
    char longest[LIMPET_IMAGE_NAME_MAX + 2];
    (void)state;
    assert_int_equal(image_check_name("disk 1"), 0);
    assert_int_equal(image_check_name("\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\x9a"), 0);
    static const char *const bad[] = {
        "",
        "a/b",
        "a@b",
        "\x80",
        "\xc3",
        "\xc0\x80",
        "\xe0\x80\x80",
        "\xed\xa0\x80",
        "\xf4\x90\x80\x80",
        "\xf8\x88\x80\x80\x80",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(image_check_name(bad[i]), -EINVAL);
    memset(longest, 'x', sizeof longest);
    longest[LIMPET_IMAGE_NAME_MAX + 1] = 0;
    assert_int_equal(image_check_name(longest), -ENAMETOOLONG);
    longest[LIMPET_IMAGE_NAME_MAX] = 0;
    assert_int_equal(image_check_name(longest), 0);
}

static void keys_read_back(void **state)
{
    char key[IMAGE_KEY_MAX];
    uint64_t number;
    struct image_owner owner = {0};
    struct image_link link, child = {.pool = 3, .space = "a/b", .id = "0a"};
    (void)state;
    size_t len = image_snap_key(key, IMAGE_KEY_SNAP, 0x123456789abcdef0);
    assert_string_equal(key, "s/123456789abcdef0");
    assert_int_equal(image_snap_key_decode(key, len, &number), 0);
    assert_true(number == UINT64_C(0x123456789abcdef0));
    key[4] = 'X';
    assert_int_equal(image_snap_key_decode(key, len, &number), -EBADMSG);
    len = image_owner_key(key, 11, 12);
    assert_int_equal(image_owner_key_decode(key, len, &owner), 0);
    assert_true(owner.instance == 11 && owner.cookie == 12);
    len = image_child_key(key, 5, &child);
    assert_int_equal(image_child_key_decode(key, len, &number, &link), 0);
    assert_true(number == 5 && link.pool == 3);
    assert_string_equal(link.space, "a/b");
    assert_string_equal(link.id, "0a");
    for (size_t i = 0; i < 36; i++)
        assert_int_equal(image_child_key_decode(key, i, &number, &link), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_have_these_bytes),
        cmocka_unit_test(records_read_back),
        cmocka_unit_test(newer_versions_are_read_or_refused),
        cmocka_unit_test(refuses_what_makes_no_sense),
        cmocka_unit_test(names_are_utf8_without_separators),
        cmocka_unit_test(keys_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
