#include "tests/lib/test.h"
#include "tests/unit/placement/made_map.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_HOST = 1, TYPE_RACK = 3, TYPE_ROOT = 11, ONE = 0x10000 };

static uint32_t weight_in(const struct crush_map *map, const char *bucket, int32_t item)
{
    const struct crush_bucket *b = crush_bucket_by_name(map, bucket);
    for (uint32_t i = 0; i < b->n_items; i++) {
        if (b->items[i] == item) {
            return b->weights[i];
        }
    }
    fail_msg("item %d is not in %s", item, bucket);
    return 0;
}

static void weights_add_up_to_the_root(void **state)
{
    (void)state;
    struct crush_map *map = made_crush(4, 3);
    int32_t host1 = crush_bucket_by_name(map, "host1")->id;
    assert_int_equal(crush_bucket_by_name(map, "default")->weight, 12 * ONE);
    assert_int_equal(crush_insert(map, host1, 12, 2 * ONE), 0);
    assert_int_equal(map->max_devices, 13);
    assert_int_equal(weight_in(map, "default", host1), 5 * ONE);
    assert_int_equal(crush_bucket_by_name(map, "default")->weight, 14 * ONE);
    assert_int_equal(crush_reweight(map, 12, ONE / 2), 0);
    assert_int_equal(crush_bucket_by_name(map, "default")->weight, 12 * ONE + ONE / 2);
    assert_int_equal(crush_remove(map, 12), 0);
    assert_int_equal(crush_bucket_by_name(map, "default")->weight, 12 * ONE);
    assert_null(crush_parent(map, 12));
    assert_int_equal(crush_check(map), 0);
    crush_destroy(map);
}

static void bucket_weight_below_its_items_stops_at_zero(void **state)
{
    (void)state;
    struct crush_map *map = made_crush(2, 3);
    int32_t host1 = crush_bucket_by_name(map, "host1")->id;
    assert_int_equal(crush_reweight(map, host1, ONE), 0);
    assert_int_equal(crush_remove(map, 3), 0);
    assert_int_equal(crush_remove(map, 4), 0);
    assert_int_equal(weight_in(map, "default", host1), 0);
    assert_int_equal(crush_bucket_by_name(map, "default")->weight, 3 * ONE);
    assert_int_equal(crush_check(map), 0);
    crush_destroy(map);
}

static void refuses_loops_and_second_parents(void **state)
{
    (void)state;
    struct crush_map *map = made_crush(2, 1);
    int32_t root = crush_bucket_by_name(map, "default")->id;
    int32_t host0 = crush_bucket_by_name(map, "host0")->id;
    int32_t rack;
    assert_int_equal(crush_insert(map, host0, root, 0), -ELOOP);
    assert_int_equal(crush_insert(map, root, root, 0), -ELOOP);
    assert_int_equal(crush_add_bucket(map, TYPE_RACK, "rack", &rack), 0);
    assert_int_equal(crush_insert(map, rack, host0, ONE), -EEXIST);
    assert_int_equal(crush_insert(map, host0, 0, ONE), -EEXIST);
    assert_int_equal(crush_insert(map, root, -77, ONE), -ENOENT);
    assert_int_equal(crush_insert(map, -77, 5, ONE), -ENOENT);
    assert_int_equal(crush_insert(map, root, CRUSH_DEVICES_MAX, ONE), -ERANGE);
    assert_int_equal(crush_insert(map, rack, 5, UINT32_MAX), 0);
    assert_int_equal(crush_insert(map, rack, 6, 1), -ERANGE);
    assert_int_equal(crush_insert(map, root, rack, ONE), 0);
    assert_int_equal(crush_reweight(map, 0, UINT32_MAX), -ERANGE);
    assert_int_equal(crush_check(map), 0);
    crush_destroy(map);
}

static void refuses_a_hierarchy_that_is_too_deep(void **state)
{
    (void)state;
    struct crush_map *map = crush_create();
    int32_t above = 0, id;
    char name[32];
    for (int i = 0; i < CRUSH_DEPTH_MAX; i++) {
        (void)snprintf(name, sizeof name, "level%d", i);
        assert_int_equal(crush_add_bucket(map, TYPE_RACK, name, &id), 0);
        if (i > 0) {
            assert_int_equal(crush_insert(map, above, id, 0), 0);
        }
        above = id;
    }
    assert_int_equal(crush_check(map), 0);
    assert_int_equal(crush_add_bucket(map, TYPE_RACK, "one-more", &id), 0);
    assert_int_equal(crush_insert(map, above, id, 0), -ELOOP);
    assert_int_equal(crush_insert(map, id, -1, 0), -ELOOP);
    crush_destroy(map);
}

static void names_are_valid_and_unique(void **state)
{
    (void)state;
    struct crush_map *map = made_crush(1, 1);
    int32_t id;
    char long_name[CRUSH_NAME_MAX + 2];
    memset(long_name, 'a', sizeof long_name);
    long_name[CRUSH_NAME_MAX + 1] = 0;
    assert_int_equal(crush_add_bucket(map, TYPE_HOST, "host0", &id), -EEXIST);
    assert_int_equal(crush_add_bucket(map, TYPE_HOST, "", &id), -EINVAL);
    assert_int_equal(crush_add_bucket(map, TYPE_HOST, "a b", &id), -EINVAL);
    assert_int_equal(crush_add_bucket(map, TYPE_HOST, long_name, &id), -EINVAL);
    assert_int_equal(crush_add_bucket(map, 0, "x", &id), -EINVAL);
    assert_int_equal(crush_add_bucket(map, 99, "x", &id), -EINVAL);
    long_name[CRUSH_NAME_MAX] = 0;
    assert_int_equal(crush_add_bucket(map, TYPE_HOST, long_name, &id), 0);
    crush_destroy(map);
}

static void removed_bucket_gives_its_number_to_the_next(void **state)
{
    (void)state;
    struct crush_map *map = made_crush(3, 1);
    int32_t host1 = crush_bucket_by_name(map, "host1")->id, id;
    assert_int_equal(crush_remove(map, host1), -ENOTEMPTY);
    assert_int_equal(crush_remove(map, 1), 0);
    assert_int_equal(crush_remove(map, 1), -ENOENT);
    assert_int_equal(crush_remove(map, host1), 0);
    assert_null(crush_bucket(map, host1));
    assert_int_equal(crush_check(map), 0);
    assert_int_equal(crush_add_bucket(map, TYPE_HOST, "fresh", &id), 0);
    assert_int_equal(id, host1);
    crush_destroy(map);
}

static void keeps_what_a_rule_takes(void **state)
{
    (void)state;
    struct crush_map *map = made_crush(0, 0);
    int32_t root = crush_bucket_by_name(map, "default")->id;
    uint32_t rule;
    assert_int_equal(crush_remove(map, root), -EBUSY);
    assert_int_equal(crush_add_simple_rule(map, "replicated", "default", "host", false, &rule),
                     -EEXIST);
    assert_int_equal(crush_add_simple_rule(map, "r", "nowhere", "host", false, &rule), -ENOENT);
    assert_int_equal(crush_add_simple_rule(map, "r", "default", "planet", false, &rule), -ENOENT);
    assert_int_equal(crush_add_simple_rule(map, "e", "default", "osd", true, &rule), 0);
    assert_int_equal(rule, 1);
    assert_int_equal(crush_rule(map, 1)->type, 3);
    assert_null(crush_rule(map, 2));
    assert_int_equal(crush_check(map), 0);
    crush_destroy(map);
}

static void clone_is_independent(void **state)
{
    (void)state;
    struct crush_map *map = made_crush(3, 2), *clone = crush_clone(map);
    assert_non_null(clone);
    assert_int_equal(crush_remove(map, 0), 0);
    assert_non_null(crush_parent(clone, 0));
    assert_int_equal(crush_insert(clone, -1, 99, ONE), 0);
    assert_int_equal(crush_check(clone), 0);
    crush_destroy(map);
    crush_destroy(clone);
}

/* Damages a map in one way; undone by taking a new one. */
typedef void (*damage)(struct crush_map *map);

static void weight_sum(struct crush_map *map)
{
    map->buckets[1]->weight++;
}
static void unknown_item(struct crush_map *map)
{
    map->buckets[1]->items[0] = -99;
}
static void unknown_device(struct crush_map *map)
{
    map->buckets[1]->items[0] = map->max_devices;
}
static void loop(struct crush_map *map)
{
    map->buckets[1]->items[0] = -1;
}
static void self(struct crush_map *map)
{
    map->buckets[2]->items[0] = -3;
}
static void second_parent(struct crush_map *map)
{
    map->buckets[1]->items[0] = -3;
}
static void twice(struct crush_map *map)
{
    map->buckets[1]->items[0] = map->buckets[1]->items[1];
}
static void same_name(struct crush_map *map)
{
    strcpy(map->buckets[1]->name, map->buckets[2]->name);
}
static void unknown_type(struct crush_map *map)
{
    map->buckets[1]->type = 77;
}
static void unknown_op(struct crush_map *map)
{
    map->rules[0].steps[1].op = 5;
}
static void unknown_take(struct crush_map *map)
{
    map->rules[0].steps[0].arg1 = -50;
}
static void endless_tries(struct crush_map *map)
{
    map->choose_total_tries = UINT32_MAX;
}
static void huge_choice(struct crush_map *map)
{
    map->rules[0].steps[1].arg1 = INT32_MAX;
}

static void check_finds_damage(void **state)
{
    (void)state;
    const damage damages[] = {
        weight_sum, unknown_item, unknown_device, loop,         self,          second_parent, twice,
        same_name,  unknown_type, unknown_op,     unknown_take, endless_tries, huge_choice};
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        struct crush_map *map = made_crush(3, 2);
        assert_int_equal(crush_check(map), 0);
        damages[i](map);
        if (crush_check(map) != -EBADMSG) {
            fail_msg("damage %zu was not found", i);
        }
        crush_destroy(map);
    }
}

static void unknown_rule_maps_to_nothing(void **state)
{
    (void)state;
    struct crush_map *map = made_crush(3, 2);
    int32_t out[3], scratch[9];
    uint32_t weights[6] = {ONE, ONE, ONE, ONE, ONE, ONE};
    assert_int_equal(crush_map_input(map, 9, 1, weights, 6, out, 3, scratch), 0);
    assert_int_equal(crush_map_input(map, 0, 1, weights, 6, out, 0, scratch), 0);
    assert_int_equal(crush_map_input(map, 0, 1, weights, 0, out, 3, scratch), 0);
    assert_int_equal(crush_map_input(map, 0, 1, weights, 6, out, 3, scratch), 3);
    crush_destroy(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_add_up_to_the_root),
        cmocka_unit_test(bucket_weight_below_its_items_stops_at_zero),
        cmocka_unit_test(refuses_loops_and_second_parents),
        cmocka_unit_test(refuses_a_hierarchy_that_is_too_deep),
        cmocka_unit_test(names_are_valid_and_unique),
        cmocka_unit_test(removed_bucket_gives_its_number_to_the_next),
        cmocka_unit_test(keeps_what_a_rule_takes),
        cmocka_unit_test(clone_is_independent),
        cmocka_unit_test(check_finds_damage),
        cmocka_unit_test(unknown_rule_maps_to_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
