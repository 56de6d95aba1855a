/*
 * CRUSH against Ceph's: every hierarchy of tests/golden/crush, 10,000 inputs for each case.
 */
#include "placement/hash.h"
#include "placement/map.h"
#include "tests/lib/test.h"
#include "tests/unit/placement/crush_text.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#define FOLDER LIMPET_TESTS_DIR "/golden/crush"

/* All answers are compared by the plain program; one with sanitizers looks for other things. */
#ifdef __SANITIZE_ADDRESS__
#define COMPARED(x) ((x) % 64 == 0)
#else
#define COMPARED(x) true
#endif

enum { INPUTS = 10000, UNPACKED_MAX = 8 << 20, HIERARCHIES_MIN = 20, HOLE = 0xffff };

/* One case's part of a file of answers. */
struct answers {
    const uint8_t *counts, *low, *high;
    size_t len;
};

static struct answers answers_at(const uint8_t *data, size_t left)
{
    assert_true(left >= INPUTS);
    size_t n = 0;
    for (size_t i = 0; i < INPUTS; i++) {
        n += data[i];
    }
    assert_true(left >= INPUTS + 2 * n);
    return (struct answers){data, data + INPUTS, data + INPUTS + n, INPUTS + 2 * n};
}

static uint8_t *unpack(const char *path, size_t *len)
{
    size_t packed_len;
    char *packed = test_file_read(path, &packed_len);
    uint8_t *data = malloc(UNPACKED_MAX);
    assert_non_null(data);
    uLongf unpacked_len = UNPACKED_MAX;
    assert_int_equal(uncompress(data, &unpacked_len, (const Bytef *)packed, packed_len), Z_OK);
    free(packed);
    *len = unpacked_len;
    return data;
}

static bool is_text(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return dot != NULL && strcmp(dot, ".txt") == 0 && strcmp(entry->d_name, "objects.txt") != 0 &&
           strcmp(entry->d_name, "pgs.txt") != 0;
}

static int filter(const struct dirent *entry)
{
    return is_text(entry);
}

/* Calls back for each case of each hierarchy with what the golden file says. */
static void for_each_case(void (*check)(const char *path, const struct crush_text *text,
                                        const struct crush_text_case *c,
                                        const struct answers *golden))
{
    struct dirent **names;
    int n = scandir(FOLDER, &names, filter, alphasort);
    assert_true(n >= HIERARCHIES_MIN);
    for (int i = 0; i < n; i++) {
        char path[512];
        (void)snprintf(path, sizeof path, FOLDER "/%s", names[i]->d_name);
        struct crush_text *text = crush_text_read(path);
        assert_int_equal(crush_check(text->map), 0);
        assert_true(text->n_cases > 0);
        char packed[520];
        (void)snprintf(packed, sizeof packed, "%.*s.z", (int)strlen(path) - 4, path);
        size_t len, at = 0;
        uint8_t *data = unpack(packed, &len);
        for (uint32_t k = 0; k < text->n_cases; k++) {
            struct answers golden = answers_at(data + at, len - at);
            check(path, text, &text->cases[k], &golden);
            at += golden.len;
        }
        assert_int_equal(at, len);
        free(data);
        crush_text_free(text);
        free(names[i]);
    }
    free(names);
}

static void compare_ours(const char *path, const struct crush_text *text,
                         const struct crush_text_case *c, const struct answers *golden)
{
    int32_t scratch[3 * PG_SIZE_MAX], out[PG_SIZE_MAX];
    assert_true(c->size <= PG_SIZE_MAX);
    assert_true(crush_scratch_bytes(text->map, c->size) <= sizeof scratch);
    size_t at = 0;
    for (uint32_t x = 0; x < INPUTS; x++) {
        if (!COMPARED(x)) {
            at += golden->counts[x];
            continue;
        }
        uint32_t n = crush_map_input(text->map, c->rule, x, c->weights,
                                     (uint32_t)text->map->max_devices, out, c->size, scratch);
        bool equal = n == golden->counts[x];
        for (uint32_t i = 0; equal && i < n; i++, at++) {
            uint32_t expected = golden->low[at] | (uint32_t)golden->high[at] << 8;
            equal = out[i] == (expected == HOLE ? CRUSH_ITEM_NONE : (int32_t)expected);
        }
        if (!equal) {
            fail_msg("%s rule %u size %u x %u differs", path, c->rule, c->size, x);
        }
    }
}

static void maps_as_ceph_does(void **state)
{
    (void)state;
    for_each_case(compare_ours);
}

static void compare_crushtool(const char *path, const struct crush_text *text,
                              const struct crush_text_case *c, const struct answers *golden)
{
    (void)text;
    char compiled[] = "/tmp/limpet-crush-XXXXXX", command[4096];
    int fd = mkstemp(compiled);
    assert_true(fd >= 0);
    (void)close(fd);
    (void)snprintf(command, sizeof command,
                   "crushtool -c '%s' -o %s 2>/dev/null && crushtool -i %s --test --show-mappings "
                   "--rule %u --num-rep %u --min-x 0 --max-x %d%s 2>/dev/null",
                   path, compiled, compiled, c->rule, c->size, INPUTS - 1, c->arguments);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    char line[1024];
    size_t at = 0;
    uint32_t x = 0;
    while (fgets(line, sizeof line, out) != NULL) {
        char *list = strchr(line, '[');
        if (strncmp(line, "CRUSH rule", 10) != 0 || list == NULL) {
            continue;
        }
        assert_true(x < INPUTS);
        uint32_t n = 0;
        for (char *number = strtok(list, "[,]\n"); number != NULL;
             number = strtok(NULL, "[,]\n"), n++, at++) {
            long item = strtol(number, NULL, 10);
            assert_true(n < golden->counts[x]);
            assert_int_equal(item == CRUSH_ITEM_NONE ? HOLE : item,
                             golden->low[at] | golden->high[at] << 8);
        }
        assert_int_equal(n, golden->counts[x]);
        x++;
    }
    assert_int_equal(pclose(out), 0);
    assert_int_equal(x, INPUTS);
    (void)unlink(compiled);
}

static void crushtool_still_answers_the_same(void **state)
{
    (void)state;
    if (system("command -v crushtool >/dev/null") != 0) {
        print_message("SKIPPED: no crushtool here (Debian package ceph-base)\n");
        skip();
    }
    for_each_case(compare_crushtool);
}

static uint32_t hex_value(char digit)
{
    return (uint32_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

/* Lines of objects.txt: a name in hexadecimal, and 16 bits of its hash as osdmaptool shows them. */
static void hashes_names_as_ceph_does(void **state)
{
    (void)state;
    FILE *file = fopen(FOLDER "/objects.txt", "r");
    assert_non_null(file);
    char line[8192];
    uint32_t n = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        uint8_t name[OBJECT_NAME_MAX];
        size_t len = 0;
        char *at = line;
        for (; *at != ' '; at += 2) {
            assert_true(len < sizeof name);
            name[len++] = (uint8_t)(hex_value(at[0]) << 4 | hex_value(at[1]));
        }
        uint32_t expected = (uint32_t)strtoul(at, NULL, 16);
        assert_int_equal(stable_mod(hash_string(name, len), 65536), expected);
        const uint8_t *separator = memchr(name, 0x1f, len);
        if (separator != NULL) {
            size_t space_len = (size_t)(separator - name);
            assert_int_equal(
                stable_mod(hash_object(name, space_len, separator + 1, len - space_len - 1), 65536),
                expected);
        }
        n++;
    }
    (void)fclose(file);
    assert_true(n > 200);
}

/* A map with 20 OSDs, all up, on the hierarchy of hosts.txt, and a pool with number 1. */
static struct cluster_map *map_with_pool(uint32_t pg_num)
{
    struct crush_text *text = crush_text_read(FOLDER "/hosts.txt");
    struct cluster_map *map = map_create();
    struct map_increment *inc = map_increment_create(1);
    assert_true(map != NULL && inc != NULL);
    assert_int_equal(map_increment_set_crush(inc, text->map), 0);
    struct map_osd osd = {.exists = true, .up = true, .weight = MAP_WEIGHT_ONE};
    for (int32_t i = 0; i < 20; i++) {
        assert_int_equal(map_increment_set_osd(inc, i, &osd), 0);
    }
    struct map_pool pool = {.id = 1,
                            .name = "rbd",
                            .type = POOL_REPLICATED,
                            .size = 3,
                            .min_size = 2,
                            .pg_num = pg_num,
                            .crush_rule = 0,
                            .created = 1,
                            .config_base = 1};
    assert_int_equal(map_increment_set_pool(inc, &pool), 0);
    assert_int_equal(map_apply(map, inc), 0);
    map_increment_destroy(inc);
    crush_text_free(text);
    return map;
}

static void places_groups_as_ceph_does(void **state)
{
    (void)state;
    FILE *file = fopen(FOLDER "/pgs.txt", "r");
    assert_non_null(file);
    struct cluster_map *map = NULL;
    char line[256];
    uint32_t pg_num, seed, n = 0;
    int osds[3];
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "pg_num %u", &pg_num) == 1) {
            map_destroy(map);
            map = map_with_pool(pg_num);
            continue;
        }
        assert_int_equal(sscanf(line, "%x %d,%d,%d", &seed, &osds[0], &osds[1], &osds[2]), 4);
        int32_t wanted[PG_SIZE_MAX];
        assert_int_equal(map_pg_crush(map, (struct pg_id){1, seed}, wanted), 3);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(wanted[i], osds[i]);
        }
        n++;
    }
    (void)fclose(file);
    map_destroy(map);
    assert_true(n > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_as_ceph_does),
        cmocka_unit_test(crushtool_still_answers_the_same),
        cmocka_unit_test(hashes_names_as_ceph_does),
        cmocka_unit_test(places_groups_as_ceph_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
