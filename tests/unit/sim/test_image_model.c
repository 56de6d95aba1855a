/* What a cell may read as, after what was asked of it. Times are made up. */
#include "tests/lib/test.h"

#include "tests/sim/image_model.h"

static struct cell cell;

static int begin(void **state)
{
    (void)state;
    cell_reset(&cell, 0, 0);
    return 0;
}

static int end(void **state)
{
    (void)state;
    cell_fini(&cell);
    return 0;
}

/* A write by client 1 that was answered. */
static void written(uint64_t value, uint64_t call, uint64_t done)
{
    cell_begin(&cell, value, value, 1, call);
    cell_passed(&cell, value, call);
    cell_done(&cell, value, done);
}

static void an_acknowledged_write_is_there(void **state)
{
    (void)state;
    written(5, 10, 20);
    assert_false(cell_read(&cell, 0, 21, 30));
    assert_true(cell_read(&cell, 5, 21, 30));
    assert_false(cell_read(&cell, 6, 31, 40));
}

static void what_is_under_way_may_be_seen_or_not(void **state)
{
    (void)state;
    cell_begin(&cell, 5, 5, 1, 10);
    assert_true(cell_read(&cell, 0, 11, 12));
    assert_true(cell_read(&cell, 5, 13, 14));
    /* It stays as it was first seen. */
    assert_false(cell_read(&cell, 0, 15, 16));
    assert_false(cell_read(&cell, 5, 1, 9));
}

static void two_writes_at_once_have_one_order(void **state)
{
    (void)state;
    cell_begin(&cell, 5, 5, 1, 10);
    cell_begin(&cell, 6, 6, 2, 10);
    cell_done(&cell, 5, 20);
    cell_done(&cell, 6, 20);
    assert_true(cell_read(&cell, 6, 21, 22));
    assert_false(cell_read(&cell, 5, 23, 24));
}

static void a_cancelled_write_never_was(void **state)
{
    (void)state;
    cell_begin(&cell, 5, 5, 1, 10);
    cell_cancel(&cell, 5);
    assert_false(cell_read(&cell, 5, 11, 12));
    assert_true(cell_read(&cell, 0, 11, 12));
}

static void a_lost_write_may_come_until_another_client_has_taken_over(void **state)
{
    (void)state;
    cell_begin(&cell, 5, 5, 1, 10);
    cell_passed(&cell, 5, 11);
    cell_lost(&cell, 5, 30);
    cell_begin(&cell, 6, 6, 2, 50);
    cell_passed(&cell, 6, 50);
    cell_done(&cell, 6, 60);
    cell_taken_over(&cell, 2, 40, true, 60);
    assert_false(cell_read(&cell, 5, 61, 62));
    assert_true(cell_read(&cell, 6, 61, 62));
}

static void it_may_come_late_to_another_part_only_before_that(void **state)
{
    (void)state;
    cell_begin(&cell, 5, 5, 1, 10);
    cell_passed(&cell, 5, 11);
    cell_taken_over(&cell, 2, 40, false, 60);
    assert_true(cell_read(&cell, 0, 61, 62));
    /* It would have been there by 60. */
    assert_false(cell_read(&cell, 5, 63, 64));
}

static void what_passed_after_the_hand_over_is_not_concerned(void **state)
{
    (void)state;
    cell_begin(&cell, 5, 5, 1, 10);
    cell_passed(&cell, 5, 45);
    cell_taken_over(&cell, 2, 40, true, 60);
    assert_true(cell_read(&cell, 5, 61, 62));
}

static void equal_values_are_not_told_apart(void **state)
{
    (void)state;
    cell_begin(&cell, 5, 5, 1, 10);
    cell_begin(&cell, 6, 0, 1, 10);
    assert_true(cell_read(&cell, 0, 11, 12));
    assert_true(cell_read(&cell, 5, 13, 14));
    assert_true(cell_read(&cell, 0, 15, 16));
}

static void pruning_changes_no_verdict(void **state)
{
    (void)state;
    written(5, 10, 20);
    written(6, 30, 40);
    cell_prune(&cell, 25);
    assert_true(cell_read(&cell, 5, 25, 35));
    cell_prune(&cell, 41);
    assert_int_equal(cell.n, 1);
    assert_false(cell_read(&cell, 5, 41, 42));
    assert_true(cell_read(&cell, 6, 41, 42));
    assert_int_equal(cell_guess(&cell), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_acknowledged_write_is_there, begin, end),
        cmocka_unit_test_setup_teardown(what_is_under_way_may_be_seen_or_not, begin, end),
        cmocka_unit_test_setup_teardown(two_writes_at_once_have_one_order, begin, end),
        cmocka_unit_test_setup_teardown(a_cancelled_write_never_was, begin, end),
        cmocka_unit_test_setup_teardown(a_lost_write_may_come_until_another_client_has_taken_over,
                                        begin, end),
        cmocka_unit_test_setup_teardown(it_may_come_late_to_another_part_only_before_that, begin,
                                        end),
        cmocka_unit_test_setup_teardown(what_passed_after_the_hand_over_is_not_concerned, begin,
                                        end),
        cmocka_unit_test_setup_teardown(equal_values_are_not_told_apart, begin, end),
        cmocka_unit_test_setup_teardown(pruning_changes_no_verdict, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
