#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "common/entity.h"

static void reads_and_prints_names(void **state)
{
    (void)state;
    static const char *const good[] = {
        "mon.a", "mon.", "osd.3", "client.admin", "client.host-1@lan_x", "client.a.b"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct entity_name name;
        char text[ENTITY_TEXT_MAX];
        assert_int_equal(entity_parse(good[i], &name), 0);
        assert_true(entity_valid(&name));
        assert_string_equal(entity_format(&name, text), good[i]);
    }
}

static void refuses_what_is_no_name(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "mon",
        "client.",
        "osd.",
        "mds.a",
        ".a",
        "client.a b",
        "client.a]",
        "client.a/../b",
        "client.\"",
        "client.\x01",
        "client.caf\xc3\xa9",
        "monx.a",
        "mo.a",
        "client.a,b",
        "client.012345678901234567890123456789012345678901234567",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct entity_name name;
        assert_int_equal(entity_parse(bad[i], &name), -EINVAL);
    }
}

static void finds_invalid_names_that_came_from_elsewhere(void **state)
{
    (void)state;
    struct entity_name name = {.type = 9, .id = "a"};
    assert_false(entity_valid(&name));
    name.type = ENTITY_CLIENT;
    memset(name.id, 'x', sizeof name.id);
    assert_false(entity_valid(&name));
    char text[ENTITY_TEXT_MAX];
    assert_true(strlen(entity_format(&name, text)) < ENTITY_TEXT_MAX);
}

static void an_osd_has_one_name(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int32_t id;
    } cases[] = {
        {"osd.0", 0},
        {"osd.17", 17},
        {"osd.2147483647", INT32_MAX},
        {"osd.07", -EINVAL},
        {"osd.2147483648", -EINVAL},
        {"osd.99999999999999999999", -EINVAL},
        {"osd.x", -EINVAL},
        {"osd.1x", -EINVAL},
        {"osd.-1", -EINVAL},
        {"osd.+1", -EINVAL},
        {"mon.1", -EINVAL},
        {"client.1", -EINVAL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct entity_name name;
        assert_int_equal(entity_parse(cases[i].text, &name), 0);
        assert_int_equal(entity_osd_id(&name), cases[i].id);
    }
    struct entity_name made = entity_osd(12);
    assert_int_equal(entity_osd_id(&made), 12);
}

static void reads_and_prints_addresses(void **state)
{
    (void)state;
    static const char *const good[][2] = {
        {"1.2.3.4:5", "1.2.3.4:5"},
        {"[::1]:3300", "[::1]:3300"},
        {"v2:10.0.0.1:3300/0", "10.0.0.1:3300"},
        {"0.0.0.0:0", "0.0.0.0:0"},
        {"[fe80:0:0::1]:65535/77", "[fe80::1]:65535"},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct net_address address;
        char text[NET_ADDRESS_TEXT_MAX];
        assert_int_equal(net_address_parse(good[i][0], &address), 0);
        assert_string_equal(net_address_format(&address, text), good[i][1]);
    }
    struct net_address none = {0};
    char text[NET_ADDRESS_TEXT_MAX];
    assert_string_equal(net_address_format(&none, text), "-");
}

static void refuses_what_is_no_address(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        ":",
        "1.2.3.4",
        "1.2.3.4:",
        "1.2.3.4:65536",
        "1.2.3.4:x",
        "1.2.3:4",
        "host:1",
        "[::1]",
        "[::1:5",
        "::1:5",
        "[1.2.3.4]:5",
        "1.2.3.4:5/",
        "1.2.3.4:5/x",
        "v1:1.2.3.4:5",
        "/",
        "v2:",
        "1.2.3.4:99999999999999999999",
        "[]:1",
        "[",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct net_address address;
        assert_int_equal(net_address_parse(bad[i], &address), -EINVAL);
    }
}

static void addresses_differ_by_family_ip_and_port(void **state)
{
    (void)state;
    struct net_address a;
    struct net_address b;
    assert_int_equal(net_address_parse("1.2.3.4:5", &a), 0);
    b = a;
    memset(b.ip + 4, 0xff, 12);
    assert_true(net_address_equal(&a, &b));
    b.port = 6;
    assert_false(net_address_equal(&a, &b));
    assert_int_equal(net_address_parse("[102:304::]:5", &b), 0);
    assert_false(net_address_equal(&a, &b));
}

static void reads_and_prints_uuids(void **state)
{
    (void)state;
    const char *text = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    struct uuid uuid;
    char again[UUID_TEXT_MAX];
    assert_int_equal(uuid_parse(text, &uuid), 0);
    assert_string_equal(uuid_format(&uuid, again), text);
    assert_false(uuid_is_zero(&uuid));
    struct uuid upper;
    assert_int_equal(uuid_parse("6BA7B810-9DAD-11D1-80B4-00C04FD430C8", &upper), 0);
    assert_true(uuid_equal(&uuid, &upper));
    static const char *const bad[] = {"",
                                      "6ba7b810",
                                      "6ba7b810-9dad-11d1-80b4-00c04fd430c",
                                      "6ba7b810-9dad-11d1-80b4-00c04fd430c8a",
                                      "6ba7b8109dad-11d1-80b4-00c04fd430c8-",
                                      "gba7b810-9dad-11d1-80b4-00c04fd430c8"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(uuid_parse(bad[i], &uuid), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_and_prints_names),
        cmocka_unit_test(refuses_what_is_no_name),
        cmocka_unit_test(finds_invalid_names_that_came_from_elsewhere),
        cmocka_unit_test(an_osd_has_one_name),
        cmocka_unit_test(reads_and_prints_addresses),
        cmocka_unit_test(refuses_what_is_no_address),
        cmocka_unit_test(addresses_differ_by_family_ip_and_port),
        cmocka_unit_test(reads_and_prints_uuids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
