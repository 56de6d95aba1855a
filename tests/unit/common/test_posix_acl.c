#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "common/codec.h"
#include "common/posix_acl.h"

enum { OWNER = 1, USER = 2, OWNING_GROUP = 4, GROUP = 8, MASK = 16, OTHERS = 32, NOBODY = -1 };

struct entry {
    uint16_t tag, permissions;
    int id;
};

static uint8_t list[256];

/* Entries up to one without a tag; returns the length of the list. */
static size_t make(const struct entry *entries)
{
    struct encoder e;
    encoder_init(&e);
    encode_u32(&e, 2);
    for (; entries->tag != 0; entries++) {
        encode_u16(&e, entries->tag);
        encode_u16(&e, entries->permissions);
        encode_u32(&e, (uint32_t)entries->id);
    }
    size_t len = e.len;
    assert_true(len <= sizeof list);
    memcpy(list, e.data, len);
    encoder_fini(&e);
    return len;
}

static unsigned permissions_at(size_t i)
{
    return list[4 + 8 * i + 2];
}

static const struct entry plain[] = {
    {OWNER, 7, NOBODY}, {OWNING_GROUP, 5, NOBODY}, {OTHERS, 1, NOBODY}, {0, 0, 0}};
static const struct entry named[] = {{OWNER, 6, NOBODY},        {USER, 7, 10},   {USER, 4, 5},
                                     {OWNING_GROUP, 7, NOBODY}, {GROUP, 6, 100}, {MASK, 5, NOBODY},
                                     {OTHERS, 0, NOBODY},       {0, 0, 0}};

static void takes_lists_that_make_sense(void **state)
{
    (void)state;
    assert_int_equal(posix_acl_check(list, make(plain)), 0);
    assert_int_equal(posix_acl_check(list, make(named)), 0);
    for (size_t len = 0; len < make(named); len++)
        assert_int_equal(posix_acl_check(list, len), -EINVAL);
}

static void refuses_others(void **state)
{
    static const struct entry wrong[][6] = {
        {{OWNER, 7, 0}, {OWNING_GROUP, 5, 0}},                 /* No others. */
        {{OWNER, 7, 0}, {OTHERS, 5, 0}},                       /* No group. */
        {{OWNER, 8, 0}, {OWNING_GROUP, 5, 0}, {OTHERS, 0, 0}}, /* What is 8? */
        {{OWNER, 7, 0}, {OWNER, 7, 0}, {OWNING_GROUP, 5, 0}, {OTHERS, 0, 0}},
        {{OWNING_GROUP, 7, 0}, {OWNER, 5, 0}, {OTHERS, 0, 0}}, /* Order. */
        {{OWNER, 7, 0}, {OWNING_GROUP, 5, 0}, {OTHERS, 0, 0}, {64, 0, 0}},
        {{OWNER, 7, 0}, {3, 1, 0}, {OWNING_GROUP, 5, 0}, {OTHERS, 0, 0}},
        {{OWNER, 7, 0}, {USER, 5, 1}, {OWNING_GROUP, 5, 0}, {OTHERS, 0, 0}}, /* No mask. */
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(posix_acl_check(list, make(wrong[i])), -EINVAL);
    size_t len = make(plain);
    list[0] = 1;
    assert_int_equal(posix_acl_check(list, len), -EINVAL);
}

static void only_a_list_of_three_says_what_a_mode_says(void **state)
{
    (void)state;
    assert_true(posix_acl_is_mode(list, make(plain)));
    assert_false(posix_acl_is_mode(list, make(named)));
}

static void the_mask_stands_for_the_group_in_the_mode(void **state)
{
    (void)state;
    assert_int_equal(posix_acl_to_mode(list, make(plain), 0104000), 0104751);
    size_t len = make(named);
    assert_int_equal(posix_acl_to_mode(list, len, 0777), 0650);
    posix_acl_from_mode(list, len, 0107427);
    assert_int_equal(permissions_at(0), 4);
    assert_int_equal(permissions_at(1), 7);
    assert_int_equal(permissions_at(3), 7); /* The group's own entry stays. */
    assert_int_equal(permissions_at(5), 2);
    assert_int_equal(permissions_at(6), 7);
}

static void what_is_inherited_allows_what_both_allow(void **state)
{
    (void)state;
    size_t len = make(named);
    assert_int_equal(posix_acl_inherit(list, len, 0100666), 0100640);
    assert_int_equal(permissions_at(0), 6);
    assert_int_equal(permissions_at(2), 4);
    assert_int_equal(permissions_at(5), 4);
    assert_int_equal(permissions_at(6), 0);
    len = make(plain);
    assert_int_equal(posix_acl_inherit(list, len, 0040700), 0040700);
    assert_int_equal(permissions_at(1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_lists_that_make_sense),
        cmocka_unit_test(refuses_others),
        cmocka_unit_test(only_a_list_of_three_says_what_a_mode_says),
        cmocka_unit_test(the_mask_stands_for_the_group_in_the_mode),
        cmocka_unit_test(what_is_inherited_allows_what_both_allow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
