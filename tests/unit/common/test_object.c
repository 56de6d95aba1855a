#include "tests/lib/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/object.h"

static struct object_id object(uint64_t pool, uint32_t hash, const char *space, const char *name,
                               uint64_t snap)
{
    return (struct object_id){
        .pool = pool,
        .hash = hash,
        .space = (const uint8_t *)space,
        .space_len = (uint16_t)strlen(space),
        .name = (const uint8_t *)name,
        .name_len = (uint16_t)strlen(name),
        .snap = snap,
    };
}

static struct object_id near(struct object_id id, const char *locator)
{
    id.locator = (const uint8_t *)locator;
    id.locator_len = (uint16_t)strlen(locator);
    return id;
}

static void reverses_hashes(void **state)
{
    (void)state;
    assert_int_equal(object_hash_reverse(0), 0);
    assert_int_equal(object_hash_reverse(1), 0x80000000u);
    assert_int_equal(object_hash_reverse(0x0000ffff), 0xffff0000u);
    assert_int_equal(object_hash_reverse(0x12345678), 0x1e6a2c48);
    assert_int_equal(object_hash_reverse(object_hash_reverse(0xdeadbeef)), 0xdeadbeefu);
}

static void orders_objects_for_listing(void **state)
{
    (void)state;
    const struct object_id sorted[] = {
        object(1, 0, "", "", 0),
        object(1, 0x80000000u, "", "z", OBJECT_HEAD),
        object(1, 1, "", "", 0),
        object(1, 1, "", "a", 3),
        object(1, 1, "", "a", OBJECT_HEAD),
        object(1, 1, "", "aa", 0),
        object(1, 1, "", "b", 0),
        near(object(1, 1, "", "a", 0), "a"),
        near(object(1, 1, "", "b", 0), "a"),
        near(object(1, 1, "", "a", 0), "aa"),
        object(1, 1, "s", "a", 0),
        object(2, 0, "", "a", 0),
    };
    size_t n = sizeof sorted / sizeof sorted[0];
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            int order = object_compare(&sorted[i], &sorted[j]);
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
        }
    }
}

static void survives_encoding(void **state)
{
    (void)state;
    struct object_id id = near(object(7, 0xabcdef01, "space", "", 5), "elsewhere");
    static const uint8_t odd[] = {0, 0xff, '/', '\n'};
    id.name = odd;
    id.name_len = sizeof odd;
    struct encoder e;
    encoder_init(&e);
    encode_object_id(&e, &id);
    struct decoder d;
    struct object_id out;
    decoder_init(&d, e.data, e.len);
    decode_object_id(&d, &out);
    assert_int_equal(decoder_end(&d), 0);
    assert_int_equal(object_compare(&id, &out), 0);
    for (size_t len = 0; len < e.len; len++) {
        decoder_init(&d, e.data, len);
        decode_object_id(&d, &out);
        assert_int_equal(decoder_end(&d), -EBADMSG);
        assert_null(out.name);
        assert_int_equal(out.name_len, 0);
    }
    encoder_fini(&e);
}

static void refuses_names_that_are_too_long(void **state)
{
    (void)state;
    static char text[OBJECT_NAME_MAX + 2];
    memset(text, 'x', OBJECT_NAME_MAX + 1);
    struct encoder e;
    struct decoder d;
    struct object_id out;
    struct object_id id = object(1, 1, "", text, 0);
    encoder_init(&e);
    encode_object_id(&e, &id);
    decoder_init(&d, e.data, e.len);
    decode_object_id(&d, &out);
    assert_int_equal(decoder_end(&d), -EBADMSG);

    id.name_len = OBJECT_NAME_MAX;
    encoder_reset(&e);
    encode_object_id(&e, &id);
    decoder_init(&d, e.data, e.len);
    decode_object_id(&d, &out);
    assert_int_equal(decoder_end(&d), 0);

    text[OBJECT_NAMESPACE_MAX + 1] = '\0';
    id = object(1, 1, text, "x", 0);
    encoder_reset(&e);
    encode_object_id(&e, &id);
    decoder_init(&d, e.data, e.len);
    decode_object_id(&d, &out);
    assert_int_equal(decoder_end(&d), -EBADMSG);

    id = near(object(1, 1, "", "x", 0), text);
    text[OBJECT_NAMESPACE_MAX + 1] = 'x';
    id.locator_len = OBJECT_LOCATOR_MAX;
    encoder_reset(&e);
    encode_object_id(&e, &id);
    decoder_init(&d, e.data, e.len);
    decode_object_id(&d, &out);
    assert_int_equal(decoder_end(&d), 0);
    id.locator_len++;
    encoder_reset(&e);
    encode_object_id(&e, &id);
    decoder_init(&d, e.data, e.len);
    decode_object_id(&d, &out);
    assert_int_equal(decoder_end(&d), -EBADMSG);
    encoder_fini(&e);
}

/* Otherwise an object would have two identities. */
static void refuses_a_locator_that_is_the_name(void **state)
{
    (void)state;
    struct object_id id = near(object(1, 1, "", "same", 0), "same"), out;
    struct encoder e;
    struct decoder d;
    assert_true(object_locator_is_name(&id));
    encoder_init(&e);
    encode_object_id(&e, &id);
    decoder_init(&d, e.data, e.len);
    decode_object_id(&d, &out);
    assert_int_equal(decoder_end(&d), -EBADMSG);
    encoder_fini(&e);
    id.locator_len--;
    assert_false(object_locator_is_name(&id));
    assert_false(object_locator_is_name(&(struct object_id){0}));
}

static void copies_own_their_strings(void **state)
{
    (void)state;
    char space[] = "space";
    char name[] = "name";
    char locator[] = "near";
    struct object_id id = near(object(1, 2, space, name, 3), locator);
    struct object_id *copy = object_id_copy(&id);
    assert_non_null(copy);
    memset(space, 0, sizeof space);
    memset(name, 0, sizeof name);
    memset(locator, 0, sizeof locator);
    assert_memory_equal(copy->space, "space", 5);
    assert_memory_equal(copy->locator, "near", 4);
    assert_memory_equal(copy->name, "name", 4);
    free(copy);
}

static void prints_placement_groups_as_ceph_does(void **state)
{
    (void)state;
    char text[PG_ID_TEXT_MAX];
    assert_string_equal(pg_id_format((struct pg_id){7, 0x1f}, text), "7.1f");
    assert_string_equal(pg_id_format((struct pg_id){UINT64_MAX, UINT32_MAX}, text),
                        "18446744073709551615.ffffffff");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reverses_hashes),
        cmocka_unit_test(orders_objects_for_listing),
        cmocka_unit_test(survives_encoding),
        cmocka_unit_test(refuses_names_that_are_too_long),
        cmocka_unit_test(refuses_a_locator_that_is_the_name),
        cmocka_unit_test(copies_own_their_strings),
        cmocka_unit_test(prints_placement_groups_as_ceph_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
