#include "tests/lib/test.h"

#include "placement/hash.h"

#include <string.h>

/* Known from Ceph: the object "foo" is in PG 0x7fc1f406 of a pool with that many. */
static void hashes_a_known_name(void **state)
{
    (void)state;
    assert_int_equal(hash_string("foo", 3), 0x7fc1f406);
    assert_int_equal(hash_object(NULL, 0, "foo", 3), 0x7fc1f406);
}

static void namespace_is_part_of_the_name(void **state)
{
    (void)state;
    char joined[400];
    memset(joined, 's', 200);
    joined[200] = 0x1f;
    memset(joined + 201, 'n', 199);
    for (size_t space = 1; space <= 200; space += 13) {
        for (size_t name = 0; name < 199; name += 7) {
            assert_int_equal(hash_object(joined + 200 - space, space, joined + 201, name),
                             hash_string(joined + 200 - space, space + 1 + name));
        }
    }
}

static void a_locator_places_in_place_of_the_name(void **state)
{
    (void)state;
    struct object_id id = {.name = (const uint8_t *)"foo", .name_len = 3};
    assert_int_equal(hash_object_id(&id), 0x7fc1f406);
    id.name = (const uint8_t *)"bar";
    id.locator = (const uint8_t *)"foo";
    id.locator_len = 3;
    assert_int_equal(hash_object_id(&id), 0x7fc1f406);
    id.space = (const uint8_t *)"s";
    id.space_len = 1;
    assert_int_equal(hash_object_id(&id), hash_object("s", 1, "foo", 3));
}

static void lanes_equal_single_hashes(void **state)
{
    (void)state;
    const int32_t items[HASH32_ITEMS] = {0, -1, 77777, INT32_MIN};
    for (uint32_t x = 0; x < 5000; x++) {
        uint32_t out[HASH32_ITEMS];
        hash32_3_items(x * 2654435761u, items, x % 50, out);
        for (int i = 0; i < HASH32_ITEMS; i++) {
            assert_int_equal(out[i], hash32_3(x * 2654435761u, (uint32_t)items[i], x % 50));
        }
    }
}

/* As Ceph computes them; most are not reached by the vectors of crushtool. */
static void integer_hashes_stay_what_they_are(void **state)
{
    (void)state;
    assert_int_equal(hash32(1), 0xd5082851);
    assert_int_equal(hash32_2(1, 2), 0xb78dee9c);
    assert_int_equal(hash32_3(1, 2, 3), 0x735ad42b);
    assert_int_equal(hash32_4(1, 2, 3, 4), 0x696d1f16);
    assert_int_equal(hash32_5(1, 2, 3, 4, 5), 0x4b42a1a1);
}

static void stable_mod_splits_one_value_at_a_time(void **state)
{
    (void)state;
    for (uint32_t n = 1; n < 300; n++) {
        for (uint32_t x = 0; x < 4096; x += 3) {
            uint32_t before = stable_mod(x, n), after = stable_mod(x, n + 1);
            assert_true(before < n);
            assert_true(after == before || after == n);
        }
    }
}

static void ranges_of_groups_cover_all_hashes_once(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 130; n++) {
        uint64_t total = 0;
        for (uint32_t seed = 0; seed < n; seed++) {
            uint32_t first, last;
            pg_hash_range(seed, n, &first, &last);
            assert_true(first <= last);
            total += (uint64_t)last - first + 1;
            const uint32_t probes[] = {first, last, first + (last - first) / 2};
            for (int i = 0; i < 3; i++) {
                assert_int_equal(stable_mod(object_hash_reverse(probes[i]), n), seed);
            }
        }
        assert_true(total == UINT64_C(1) << 32);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_a_known_name),
        cmocka_unit_test(namespace_is_part_of_the_name),
        cmocka_unit_test(a_locator_places_in_place_of_the_name),
        cmocka_unit_test(lanes_equal_single_hashes),
        cmocka_unit_test(integer_hashes_stay_what_they_are),
        cmocka_unit_test(stable_mod_splits_one_value_at_a_time),
        cmocka_unit_test(ranges_of_groups_cover_all_hashes_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
