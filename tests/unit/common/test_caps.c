#include "tests/lib/test.h"

#include <errno.h>

#include "common/entity.h"

static uint8_t allowed(const char *text, const char *pool)
{
    struct caps caps;
    assert_int_equal(caps_parse(text, &caps), 0);
    uint8_t mask = 0;
    for (unsigned bit = CAP_READ; bit <= CAP_EXECUTE; bit <<= 1) {
        if (caps_allow(&caps, (uint8_t)bit, pool))
            mask |= (uint8_t)bit;
    }
    return mask;
}

static void reads_cephs_syntax(void **state)
{
    (void)state;
    assert_int_equal(allowed("", NULL), 0);
    assert_int_equal(allowed("allow *", NULL), CAP_ALL);
    assert_int_equal(allowed("allow r", NULL), CAP_READ);
    assert_int_equal(allowed("allow rw", NULL), CAP_READ | CAP_WRITE);
    assert_int_equal(allowed(" allow\trwx ", NULL), CAP_ALL);
    assert_int_equal(allowed("profile osd", NULL), CAP_ALL);
    assert_int_equal(allowed("allow profile osd", NULL), CAP_ALL);
    assert_int_equal(allowed("allow r, allow w", NULL), CAP_READ | CAP_WRITE);
    assert_int_equal(allowed("allow r; allow x", "any"), CAP_READ | CAP_EXECUTE);
}

static void grants_for_a_pool_hold_for_that_pool(void **state)
{
    (void)state;
    assert_int_equal(allowed("allow rw pool=x", "x"), CAP_READ | CAP_WRITE);
    assert_int_equal(allowed("allow rw pool=x", "xx"), 0);
    assert_int_equal(allowed("allow rw pool=x", ""), 0);
    assert_int_equal(allowed("allow rw pool=x", NULL), 0);
    assert_int_equal(allowed("allow r, allow w pool=x", "x"), CAP_READ | CAP_WRITE);
    assert_int_equal(allowed("allow r, allow w pool=x", "y"), CAP_READ);
    assert_int_equal(allowed("profile rbd pool=x", "x"), CAP_ALL);
    assert_int_equal(allowed("profile rbd pool=x", "y"), 0);
}

static void wanting_several_needs_all_of_them(void **state)
{
    (void)state;
    struct caps caps;
    assert_int_equal(caps_parse("allow r", &caps), 0);
    assert_true(caps_allow(&caps, CAP_READ, NULL));
    assert_false(caps_allow(&caps, CAP_READ | CAP_WRITE, NULL));
}

static void users_of_images_cannot_change_the_cluster(void **state)
{
    (void)state;
    struct caps caps;
    assert_int_equal(caps_parse_at(ENTITY_MON, "profile rbd", &caps), 0);
    assert_true(caps_allow(&caps, CAP_READ, NULL));
    assert_false(caps_allow(&caps, CAP_WRITE, NULL));
    assert_false(caps_allow(&caps, CAP_EXECUTE, NULL));
}

static void osds_cannot_change_the_cluster(void **state)
{
    (void)state;
    struct caps caps;
    assert_int_equal(caps_parse_at(ENTITY_MON, "profile osd", &caps), 0);
    assert_true(caps_allow(&caps, CAP_READ, NULL));
    assert_false(caps_allow(&caps, CAP_WRITE, NULL));
    assert_false(caps_allow(&caps, CAP_EXECUTE, NULL));
}

static void refuses_what_it_does_not_understand(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "allow",
        "deny r",
        "r",
        "allow q",
        "allow rw namespace=x",
        "allow r pool=",
        "allow r,",
        ",",
        "allow r allow w",
        "allow r pool=x namespace=y",
        "profile",
        "profile nothing",
        "allow r pool=0123456789012345678901234567890123456789012345678901234567890123456789",
        "allow r,allow r,allow r,allow r,allow r,allow r,allow r,allow r,allow r",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct caps caps;
        assert_int_equal(caps_parse(bad[i], &caps), -EINVAL);
        assert_int_equal(caps.n_grants, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_cephs_syntax),
        cmocka_unit_test(grants_for_a_pool_hold_for_that_pool),
        cmocka_unit_test(wanting_several_needs_all_of_them),
        cmocka_unit_test(users_of_images_cannot_change_the_cluster),
        cmocka_unit_test(osds_cannot_change_the_cluster),
        cmocka_unit_test(refuses_what_it_does_not_understand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
