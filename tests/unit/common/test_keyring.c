#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auth.h"

#define KEY_ONE "AQAAAAAAAAAAABAAMDEyMzQ1Njc4OWFiY2RlZg=="
#define KEY_TWO "AQAAAAAAAAAAABAAYWJjZGVmMDEyMzQ1Njc4OQ=="

static int parse(struct keyring *keyring, const char *text, char why[256])
{
    return keyring_parse(keyring, text, strlen(text), why);
}

static const struct keyring_entry *find(const struct keyring *keyring, const char *name)
{
    struct entity_name entity;
    assert_int_equal(entity_parse(name, &entity), 0);
    return keyring_find(keyring, &entity);
}

static void reads_cephs_format(void **state)
{
    (void)state;
    struct keyring keyring;
    char why[256];
    keyring_init(&keyring);
    assert_int_equal(parse(&keyring,
                           "# made by ceph-authtool\n"
                           "[mon.]\n\tkey = " KEY_ONE "\n\tcaps mon = \"allow *\"\n"
                           "[client.admin]\n\tkey = " KEY_TWO "\n\tauid = 0\n"
                           "\tcaps mds = \"allow *\"\n\tcaps mon = \"allow r\"\n"
                           "\tcaps osd = \"allow rw pool=x, allow r\"\n"
                           "[mgr.x]\n\tkey = " KEY_TWO "\n",
                           why),
                     0);
    assert_int_equal(keyring.n, 2);
    const struct keyring_entry *admin = find(&keyring, "client.admin");
    assert_non_null(admin);
    assert_memory_equal(admin->secret.bytes, "abcdef0123456789", 16);
    assert_string_equal(admin->mon_caps, "allow r");
    assert_string_equal(admin->osd_caps, "allow rw pool=x, allow r");
    assert_non_null(find(&keyring, "mon."));
    assert_null(find(&keyring, "osd.0"));
    keyring_fini(&keyring);
    assert_int_equal(keyring.n, 0);
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    struct keyring keyring;
    struct keyring again;
    struct keyring_entry entry = {.mon_caps = "allow *", .osd_caps = "odd \"quoted\" \\ text"};
    char why[256];
    keyring_init(&keyring);
    keyring_init(&again);
    for (int i = 0; i < 20; i++) {
        entry.name = entity_osd(i);
        assert_int_equal(auth_secret_generate(&entry.secret), 0);
        assert_int_equal(keyring_set(&keyring, &entry), 0);
    }
    char *text = keyring_format(&keyring);
    assert_non_null(text);
    assert_int_equal(parse(&again, text, why), 0);
    assert_int_equal(again.n, 20);
    for (uint32_t i = 0; i < 20; i++)
        assert_memory_equal(&again.entries[i], &keyring.entries[i], sizeof entry);
    free(text);
    keyring_fini(&again);
    text = keyring_format(&again);
    assert_string_equal(text, "");
    free(text);
    keyring_fini(&keyring);
}

static void setting_replaces(void **state)
{
    (void)state;
    struct keyring keyring;
    struct keyring_entry entry = {.mon_caps = "allow r"};
    keyring_init(&keyring);
    entry.name = entity_osd(1);
    assert_int_equal(auth_secret_generate(&entry.secret), 0);
    assert_int_equal(keyring_set(&keyring, &entry), 0);
    strcpy(entry.mon_caps, "allow *");
    assert_int_equal(keyring_set(&keyring, &entry), 0);
    assert_int_equal(keyring.n, 1);
    assert_string_equal(keyring.entries[0].mon_caps, "allow *");
    keyring_fini(&keyring);
}

static void says_what_is_wrong_and_where(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"key = " KEY_ONE "\n", "line 1: expected [NAME] before the first key"},
        {"[admin]\n", "line 1: [admin] is not the name of an entity (such as client.admin)"},
        {"[osd.0]\nkey = xyz\n", "line 2: the key of osd.0 is damaged"},
        {"[osd.0]\n[osd.1]\nkey = " KEY_ONE "\n", "osd.0 has no key"},
        {"what\n", "line 1: expected NAME = VALUE or [SECTION]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct keyring keyring;
        char why[256];
        keyring_init(&keyring);
        assert_int_equal(parse(&keyring, cases[i][0], why), -EINVAL);
        assert_string_equal(why, cases[i][1]);
        keyring_fini(&keyring);
    }
}

static void is_bounded(void **state)
{
    (void)state;
    struct keyring keyring;
    struct keyring_entry entry = {0};
    char why[256];
    keyring_init(&keyring);
    assert_int_equal(auth_secret_generate(&entry.secret), 0);
    for (int i = 0; i < KEYRING_ENTRIES_MAX; i++) {
        entry.name = entity_osd(i);
        assert_int_equal(keyring_set(&keyring, &entry), 0);
    }
    entry.name = entity_osd(KEYRING_ENTRIES_MAX);
    assert_int_equal(keyring_set(&keyring, &entry), -E2BIG);
    assert_int_equal(parse(&keyring, "[client.x]\nkey = " KEY_ONE "\n", why), -E2BIG);
    char *text = keyring_format(&keyring);
    assert_non_null(text);
    free(text);
    keyring_fini(&keyring);
    char caps[AUTH_CAPS_TEXT_MAX + 100];
    snprintf(caps, sizeof caps, "[osd.0]\nkey = " KEY_ONE "\ncaps mon = %0*d\n", AUTH_CAPS_TEXT_MAX,
             0);
    assert_int_equal(parse(&keyring, caps, why), -EINVAL);
    keyring_fini(&keyring);
}

static void capabilities_are_checked_where_they_matter(void **state)
{
    (void)state;
    struct keyring keyring;
    char why[256];
    keyring_init(&keyring);
    assert_int_equal(parse(&keyring,
                           "[client.x]\nkey = " KEY_ONE "\ncaps mon = \"allow r\"\n"
                           "caps osd = \"allow class-read object_prefix rbd_children\"\n",
                           why),
                     0);
    assert_int_equal(keyring_check_caps(&keyring, why), -EINVAL);
    assert_non_null(strstr(why, "client.x: capabilities not understood"));
    strcpy(keyring.entries[0].osd_caps, "allow rwx");
    assert_int_equal(keyring_check_caps(&keyring, why), 0);
    keyring_fini(&keyring);
}

static void loads_the_first_file_that_exists(void **state)
{
    (void)state;
    struct keyring keyring;
    char why[256];
    const char *folder = test_folder_create();
    char path[300];
    char list[1000];
    snprintf(path, sizeof path, "%s/keyring", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("[client.admin]\nkey = " KEY_ONE "\n", file);
    fclose(file);

    keyring_init(&keyring);
    snprintf(list, sizeof list, "%s/none, %s ,%s/other", folder, path, folder);
    assert_int_equal(keyring_load(&keyring, list, why), 0);
    assert_non_null(find(&keyring, "client.admin"));
    keyring_fini(&keyring);

    snprintf(list, sizeof list, "%s/none,%s/other", folder, folder);
    assert_int_equal(keyring_load(&keyring, list, why), -ENOENT);
    assert_non_null(strstr(why, "no keyring found"));
    assert_int_equal(keyring_load(&keyring, "", why), -ENOENT);

    file = fopen(path, "w");
    assert_non_null(file);
    fputs("garbage", file);
    fclose(file);
    assert_int_equal(keyring_load(&keyring, path, why), -EINVAL);
    assert_non_null(strstr(why, "keyring: line 1:"));
    test_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_cephs_format),
        cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(setting_replaces),
        cmocka_unit_test(says_what_is_wrong_and_where),
        cmocka_unit_test(is_bounded),
        cmocka_unit_test(capabilities_are_checked_where_they_matter),
        cmocka_unit_test(loads_the_first_file_that_exists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
