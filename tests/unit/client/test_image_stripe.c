#include "tests/lib/test.h"

#include "client/image/stripe.h"

/* Units of 2 bytes, 2 units an object of 4 bytes... in the smallest form: order 2. */
static const struct stripe small = {.order = 2, .unit = 2, .count = 3};
static const struct stripe plain = {.order = 22, .unit = 1 << 22, .count = 1};

static void units_go_to_objects_in_turn(void **state)
{
    static const uint64_t objects[] = {0, 1, 2, 0, 1, 2, 3, 4, 5, 3};
    static const uint64_t offsets[] = {0, 0, 0, 2, 2, 2, 0, 0, 0, 2};
    (void)state;
    for (uint64_t unit = 0; unit < 10; unit++) {
        struct stripe_piece piece = stripe_first(&small, unit * 2, 100);
        assert_int_equal(piece.object, objects[unit]);
        assert_int_equal(piece.offset, offsets[unit]);
        assert_int_equal(piece.len, 2);
    }
    struct stripe_piece odd = stripe_first(&small, 7, 100);
    assert_int_equal(odd.object, 0);
    assert_int_equal(odd.offset, 3);
    assert_int_equal(odd.len, 1);
}

static void plain_objects_are_pieces_of_the_image(void **state)
{
    (void)state;
    struct stripe_piece piece = stripe_first(&plain, (UINT64_C(5) << 22) + 7, UINT64_C(1) << 40);
    assert_int_equal(piece.object, 5);
    assert_int_equal(piece.offset, 7);
    assert_int_equal(piece.len, (1 << 22) - 7);
}

static void an_object_knows_its_place_in_the_image(void **state)
{
    static const struct stripe stripes[] = {{2, 2, 3}, {4, 4, 1}, {4, 16, 1}, {5, 8, 7}, {3, 8, 2}};
    (void)state;
    for (size_t s = 0; s < sizeof stripes / sizeof stripes[0]; s++) {
        for (uint64_t at = 0; at < 2000; at++) {
            uint64_t run;
            struct stripe_piece piece = stripe_first(&stripes[s], at, 1);
            assert_int_equal(stripe_image_offset(&stripes[s], piece.object, piece.offset, &run),
                             at);
            assert_true(run >= 1);
            /* What follows in the run follows in the image. */
            struct stripe_piece last = stripe_first(&stripes[s], at + run - 1, 1);
            assert_int_equal(last.object, piece.object);
            assert_int_equal(last.offset, piece.offset + run - 1);
        }
    }
}

static void sizes_fill_objects(void **state)
{
    static const struct stripe stripes[] = {{2, 2, 3}, {4, 4, 1}, {4, 16, 1}, {5, 8, 7}, {3, 8, 2}};
    (void)state;
    for (size_t s = 0; s < sizeof stripes / sizeof stripes[0]; s++) {
        uint64_t filled[512] = {0}, objects = 0;
        for (uint64_t size = 0; size < 1000; size++) {
            assert_int_equal(stripe_objects(&stripes[s], size), objects);
            for (uint64_t object = 0; object < 300; object++)
                assert_int_equal(stripe_object_bytes(&stripes[s], object, size), filled[object]);
            struct stripe_piece piece = stripe_first(&stripes[s], size, 1);
            filled[piece.object]++;
            objects = piece.object + 1 > objects ? piece.object + 1 : objects;
        }
    }
}

static void largest_sizes_do_not_overflow(void **state)
{
    uint64_t run;
    (void)state;
    assert_int_equal(stripe_objects(&plain, INT64_MAX), UINT64_C(1) << 41);
    assert_int_equal(stripe_object_bytes(&plain, (UINT64_C(1) << 41) - 1, INT64_MAX),
                     (1 << 22) - 1);
    struct stripe_piece piece = stripe_first(&plain, INT64_MAX - 1, 1);
    assert_int_equal(stripe_image_offset(&plain, piece.object, piece.offset, &run), INT64_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_go_to_objects_in_turn),
        cmocka_unit_test(plain_objects_are_pieces_of_the_image),
        cmocka_unit_test(an_object_knows_its_place_in_the_image),
        cmocka_unit_test(sizes_fill_objects),
        cmocka_unit_test(largest_sizes_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
