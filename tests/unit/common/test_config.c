#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config.h"
#include "common/options.h"

static char folder[300];
static char path[400];

static int folder_setup(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s", test_folder_create());
    snprintf(path, sizeof path, "%s/limpet.conf", folder);
    return 0;
}

static int folder_teardown(void **state)
{
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static struct config *config_of(const char *name, const char *text)
{
    struct entity_name self;
    char why[256];
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(entity_parse(name, &self), 0);
    struct config *config = config_create(&self);
    assert_non_null(config);
    assert_int_equal(config_load(config, path, why), 0);
    return config;
}

static void the_most_specific_section_wins(void **state)
{
    (void)state;
    const char *text = "mon_data = 0\n[global]\nmon_data = 1\nosd_data = g\nlog_file = g\n"
                       "[mon]\nmon_data = 2\nosd_data = m\n[mon.a]\nmon_data = 3\n"
                       "[mon.b]\nmon_data = 4\n[osd]\nmon_data = 5\n";
    struct config *config = config_of("mon.a", text);
    assert_string_equal(config_get(config, "mon_data"), "3");
    assert_string_equal(config_get(config, "osd_data"), "m");
    assert_string_equal(config_get(config, "log_file"), "g");
    assert_int_equal(config_set(config, "mon-data", "9"), 0);
    assert_string_equal(config_get(config, "mon data"), "9");
    assert_string_equal(config_path(config), path);
    config_destroy(config);
    config = config_of("client.x", text);
    assert_string_equal(config_get(config, "mon_data"), "1");
    config_destroy(config);
}

static void options_have_defaults_and_strangers_have_none(void **state)
{
    (void)state;
    struct config *config = config_of("osd.3", "[osd]\nbluestore something = 5\n");
    assert_string_equal(config_get(config, "osd_pool_default_size"), "3");
    assert_string_equal(config_get(config, "bluestore_something"), "5");
    assert_null(config_get(config, "no_such_option"));
    assert_null(config_get(config, "fsid"));
    assert_null(config_get(config, ""));
    config_destroy(config);
}

static void cephs_names_are_known(void **state)
{
    (void)state;
    struct config *config = config_of("client.x", "client mount timeout = 7\n");
    uint64_t ns;
    char why[256];
    assert_int_equal(config_get_duration(config, "connect_timeout", &ns, why), 0);
    assert_int_equal(ns, UINT64_C(7000000000));
    assert_string_equal(config_get(config, "client_mount_timeout"), "7");
    config_destroy(config);
}

static void variables_are_expanded(void **state)
{
    (void)state;
    struct config *config = config_of("osd.3", "fsid = 6ba7b810-9dad-11d1-80b4-00c04fd430c8\n"
                                               "a = $name $type $id ${id}x $cluster $fsid\n"
                                               "b = $unknown $ $$ ${id $5 100$\nc = $pid\n");
    assert_string_equal(config_get(config, "a"),
                        "osd.3 osd 3 3x limpet 6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    assert_string_equal(config_get(config, "b"), "$unknown $ $$ ${id $5 100$");
    assert_int_equal(strtol(config_get(config, "c"), NULL, 10), getpid());
    const char *host = config_get(config, "host");
    assert_true(host[0] != '\0' && strchr(host, '$') == NULL && strchr(host, '.') == NULL);
    assert_string_equal(config_get(config, "keyring"),
                        "/etc/limpet/limpet.osd.3.keyring,/etc/limpet/keyring");
    config_destroy(config);
}

static void values_stay_valid_until_they_change(void **state)
{
    (void)state;
    struct config *config = config_of("osd.3", "a = $name\n");
    const char *first = config_get(config, "a");
    assert_ptr_equal(config_get(config, "a"), first);
    assert_int_equal(config_set(config, "a", "b"), 0);
    assert_string_equal(config_get(config, "a"), "b");
    config_destroy(config);
}

static void expansion_is_bounded(void **state)
{
    (void)state;
    static char text[6000] = "a = ";
    for (size_t i = 4; i + 6 < sizeof text; i += 5)
        memcpy(text + i, "$fsid", 6);
    struct config *config = config_of("osd.3", text);
    assert_int_equal(config_set(config, "fsid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"), 0);
    assert_null(config_get(config, "a"));
    config_destroy(config);
}

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
        int rc;
    } cases[] = {
        {"64M", 64 << 20, 0},
        {"1g", 1 << 30, 0},
        {"67108864", 67108864, 0},
        {"2 GiB", UINT64_C(2) << 30, 0},
        {"128MB", 128 << 20, 0},
        {"1T", UINT64_C(1) << 40, 0},
        {"63M", 0, -EINVAL},
        {"", 0, -EINVAL},
        {"G", 0, -EINVAL},
        {"-1", 0, -EINVAL},
        {"1.5G", 0, -EINVAL},
        {"100Q", 0, -EINVAL},
        {"100MM", 0, -EINVAL},
        {"16777216T", 0, -EINVAL},
        {"99999999999999999999", 0, -EINVAL},
    };
    struct config *config = config_of("osd.3", "");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t value = 0;
        char why[256];
        assert_int_equal(config_set(config, "osd_memory_target", cases[i].text), 0);
        assert_int_equal(config_get_u64(config, "osd_memory_target", &value, why), cases[i].rc);
        if (cases[i].rc == 0)
            assert_true(value == cases[i].bytes);
        else
            assert_non_null(strstr(why, "osd_memory_target"));
    }
    config_destroy(config);
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ns;
        int rc;
    } cases[] = {
        {"30", UINT64_C(30000000000), 0},
        {"0.5", 500000000, 0},
        {"500ms", 500000000, 0},
        {"1.25 s", 1250000000, 0},
        {"10m", UINT64_C(600000000000), 0},
        {"2h", UINT64_C(7200000000000), 0},
        {"0", 0, 0},
        {"1d", UINT64_C(86400000000000), 0},
        {"", 0, -EINVAL},
        {"x", 0, -EINVAL},
        {".5", 0, -EINVAL},
        {"1.", 0, -EINVAL},
        {"5 weeks", 0, -EINVAL},
        {"-3s", 0, -EINVAL},
        {"1.0000000001", 0, -EINVAL},
        {"999999999d", 0, -EINVAL},
    };
    struct config *config = config_of("client.x", "");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t value = 1;
        char why[256];
        assert_int_equal(config_set(config, "connect_timeout", cases[i].text), 0);
        assert_int_equal(config_get_duration(config, "connect_timeout", &value, why), cases[i].rc);
        if (cases[i].rc == 0)
            assert_true(value == cases[i].ns);
    }
    config_destroy(config);
}

static void ratios_choices_and_uuids(void **state)
{
    (void)state;
    struct config *config = config_of("mon.a", "");
    double ratio;
    struct uuid uuid;
    char why[256];
    assert_int_equal(config_get_ratio(config, "mon_osd_full_ratio", &ratio, why), 0);
    assert_true(ratio > 0.949 && ratio < 0.951);
    static const char *const bad[] = {"1.01", "2", "x", "", "-0.1", "85%"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(config_set(config, "mon_osd_full_ratio", bad[i]), 0);
        assert_int_equal(config_get_ratio(config, "mon_osd_full_ratio", &ratio, why), -EINVAL);
        assert_int_equal(config_check(config, why), -EINVAL);
    }
    assert_int_equal(config_set(config, "mon_osd_full_ratio", "1"), 0);
    assert_int_equal(config_get_ratio(config, "mon_osd_full_ratio", &ratio, why), 0);
    assert_int_equal(config_check(config, why), 0);

    assert_int_equal(config_set(config, "ms_mode", "crc"), 0);
    assert_int_equal(config_check(config, why), -EINVAL);
    assert_string_equal(why, "ms_mode: \"crc\" is not one of integrity|encrypted");
    assert_int_equal(config_set(config, "ms_mode", "encrypted"), 0);
    assert_int_equal(config_check(config, why), 0);

    assert_int_equal(config_get_uuid(config, "fsid", &uuid, why), -ENOENT);
    assert_string_equal(why, "the option fsid is not set");
    assert_int_equal(config_set(config, "fsid", "nonsense"), 0);
    assert_int_equal(config_get_uuid(config, "fsid", &uuid, why), -EINVAL);
    assert_int_equal(config_set(config, "fsid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"), 0);
    assert_int_equal(config_get_uuid(config, "fsid", &uuid, why), 0);
    config_destroy(config);
}

static void numbers_out_of_range_are_explained(void **state)
{
    (void)state;
    struct config *config = config_of("mon.a", "");
    uint64_t value;
    char why[256];
    assert_int_equal(config_set(config, "osd_pool_default_size", "17"), 0);
    assert_int_equal(config_get_u64(config, "osd_pool_default_size", &value, why), -EINVAL);
    assert_string_equal(why, "osd_pool_default_size: 17 is out of range: 1 to 16");
    assert_int_equal(config_set(config, "osd_heartbeat_interval", "1ms"), 0);
    assert_int_equal(config_get_duration(config, "osd_heartbeat_interval", &value, why), -EINVAL);
    assert_string_equal(why, "osd_heartbeat_interval: 1ms is out of range: 50 to 700 ms");
    config_destroy(config);
}

static void files_that_cannot_be_read_are_explained(void **state)
{
    (void)state;
    struct entity_name self = {.type = ENTITY_CLIENT, .id = "x"};
    struct config *config = config_create(&self);
    char why[256];
    char missing[400];
    snprintf(missing, sizeof missing, "%s/none.conf", folder);
    assert_int_equal(config_load(config, missing, why), -ENOENT);
    assert_non_null(strstr(why, "none.conf: No such file or directory"));
    assert_int_equal(config_load(config, folder, why), -EISDIR);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("[global]\nnonsense\n", file);
    fclose(file);
    assert_int_equal(config_load(config, path, why), -EINVAL);
    assert_non_null(strstr(why, "limpet.conf: line 2: expected NAME = VALUE"));
    assert_null(config_path(config));
    config_destroy(config);
}

static void the_environment_names_the_file(void **state)
{
    (void)state;
    struct config *config = config_of("client.x", "a = 1\n");
    config_destroy(config);
    char why[256];
    struct entity_name self = {.type = ENTITY_CLIENT, .id = "x"};
    config = config_create(&self);
    setenv("LIMPET_CONF", path, 1);
    assert_int_equal(config_load(config, NULL, why), 0);
    assert_string_equal(config_path(config), path);
    config_destroy(config);
    config = config_create(&self);
    unsetenv("LIMPET_CONF");
    setenv("CEPH_CONF", path, 1);
    assert_int_equal(config_load(config, NULL, why), 0);
    unsetenv("CEPH_CONF");
    config_destroy(config);
}

/* ---- mon_host ---- */

static void expect_hosts(const char *value, const char *expected)
{
    struct config *config = config_of("client.x", "");
    struct net_address addresses[8];
    uint32_t n;
    char why[256];
    char text[500] = "";
    assert_int_equal(config_set(config, "mon_host", value), 0);
    assert_int_equal(config_mon_host(config, addresses, 8, &n, why), 0);
    for (uint32_t i = 0; i < n; i++) {
        char one[NET_ADDRESS_TEXT_MAX];
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i > 0 ? " " : "",
                 net_address_format(&addresses[i], one));
    }
    assert_string_equal(text, expected);
    config_destroy(config);
}

static void reads_every_form_of_mon_host(void **state)
{
    (void)state;
    expect_hosts("10.0.0.1", "10.0.0.1:3300");
    expect_hosts("10.0.0.1:1, 10.0.0.2:2;10.0.0.3:3", "10.0.0.1:1 10.0.0.2:2 10.0.0.3:3");
    expect_hosts("[::1]:5 [::2], ::3", "[::1]:5 [::2]:3300 [::3]:3300");
    expect_hosts("[v2:10.0.0.1:3301/0,v1:10.0.0.1:6789/0],[v2:10.0.0.2:3302/0,v1:10.0.0.2:6789/0]",
                 "10.0.0.1:3301 10.0.0.2:3302");
    expect_hosts("[v2:[::1]:3301/0,v1:[::1]:6789/0]", "[::1]:3301");
    expect_hosts("v2:10.0.0.1:7,10.0.0.1:7", "10.0.0.1:7");
    expect_hosts("127.0.0.1:1,127.0.0.1:2", "127.0.0.1:1 127.0.0.1:2");
}

static void resolves_names(void **state)
{
    (void)state;
    struct config *config = config_of("client.x", "mon host = localhost:4\n");
    struct net_address addresses[8];
    uint32_t n;
    char why[256];
    assert_int_equal(config_mon_host(config, addresses, 8, &n, why), 0);
    assert_true(n >= 1);
    assert_int_equal(addresses[0].port, 4);
    config_destroy(config);
}

/* ".invalid" is a name that never resolves (RFC 6761). */
static void goes_on_without_a_name_that_does_not_resolve(void **state)
{
    (void)state;
    struct config *config = config_of("client.x", "");
    struct net_address addresses[8];
    uint32_t n;
    char why[256];
    assert_int_equal(config_set(config, "mon_host", "mon.invalid:7, 1.2.3.4:5"), 0);
    assert_int_equal(config_mon_host(config, addresses, 8, &n, why), 0);
    assert_int_equal(n, 1);
    assert_int_equal(addresses[0].port, 5);
    assert_non_null(strstr(why, "mon.invalid"));
    assert_int_equal(config_set(config, "mon_host", "mon.invalid:7"), 0);
    assert_true(config_mon_host(config, addresses, 8, &n, why) < 0);
    assert_non_null(strstr(why, "mon.invalid"));
    config_destroy(config);
}

static void refuses_what_is_no_mon_host(void **state)
{
    (void)state;
    static const char *const bad[] = {"1.2.3.4:x", "1.2.3.4:0", "1.2.3.4:70000", "[::1", "[::1]x",
                                      "1:2:3",     ":5",        "[v2:1.2.3.4:5"};
    struct net_address addresses[2];
    uint32_t n;
    char why[256];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct config *config = config_of("client.x", "");
        assert_int_equal(config_set(config, "mon_host", bad[i]), 0);
        assert_int_equal(config_mon_host(config, addresses, 2, &n, why), -EINVAL);
        assert_non_null(strstr(why, "mon_host"));
        config_destroy(config);
    }
    struct config *config = config_of("client.x", "");
    assert_int_equal(config_mon_host(config, addresses, 2, &n, why), -ENOENT);
    assert_int_equal(config_set(config, "mon_host", "1.1.1.1 2.2.2.2 3.3.3.3"), 0);
    assert_int_equal(config_mon_host(config, addresses, 2, &n, why), -E2BIG);
    config_destroy(config);
}

/* ---- The table ---- */

static void the_table_is_sound(void **state)
{
    (void)state;
    size_t n;
    const struct option_info *options = options_all(&n);
    struct config *config = config_of("osd.0", "");
    char why[256];
    assert_int_equal(config_check(config, why), 0);
    for (size_t i = 0; i < n; i++) {
        assert_ptr_equal(option_find(options[i].name), &options[i]);
        size_t len = strlen(options[i].description);
        assert_true(len > 10 && options[i].description[len - 1] == '.');
        assert_true((options[i].type == OPTION_CHOICE) == (options[i].choices != NULL));
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(options[i].name, options[j].name);
    }
    assert_null(option_find("no_such"));
    assert_ptr_equal(option_find("mon host"), option_find("mon-host"));
    config_destroy(config);
}

static void the_table_prints_a_row_for_each(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    options_print(out);
    fclose(out);
    size_t n;
    size_t rows = 0;
    const struct option_info *options = options_all(&n);
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
        rows++;
    assert_int_equal(rows, n + 2);
    assert_non_null(strstr(text, options[n - 1].name));
    assert_non_null(strstr(text, "| `ms_mode` | choice: `integrity`, `encrypted` | `integrity` |"));
    free(text);
}

static void the_documentation_has_the_table(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    options_print(out);
    fclose(out);
    char *document = test_file_read(LIMPET_TESTS_DIR "/../docs/options.md", &len);
    if (strstr(document, text) == NULL)
        fail_msg("docs/options.md must hold what \"limpet-osd --options\" prints");
    free(document);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_most_specific_section_wins),
        cmocka_unit_test(options_have_defaults_and_strangers_have_none),
        cmocka_unit_test(cephs_names_are_known),
        cmocka_unit_test(variables_are_expanded),
        cmocka_unit_test(values_stay_valid_until_they_change),
        cmocka_unit_test(expansion_is_bounded),
        cmocka_unit_test(sizes),
        cmocka_unit_test(durations),
        cmocka_unit_test(ratios_choices_and_uuids),
        cmocka_unit_test(numbers_out_of_range_are_explained),
        cmocka_unit_test(files_that_cannot_be_read_are_explained),
        cmocka_unit_test(the_environment_names_the_file),
        cmocka_unit_test(reads_every_form_of_mon_host),
        cmocka_unit_test(resolves_names),
        cmocka_unit_test(goes_on_without_a_name_that_does_not_resolve),
        cmocka_unit_test(refuses_what_is_no_mon_host),
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(the_table_prints_a_row_for_each),
        cmocka_unit_test(the_documentation_has_the_table),
    };
    return cmocka_run_group_tests(tests, folder_setup, folder_teardown);
}
