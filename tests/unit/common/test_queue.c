#include "tests/lib/test.h"

#include <errno.h>

#include "common/queue.h"

static void gives_back_in_order(void **state)
{
    (void)state;
    struct bounded_queue queue;
    struct queue_item items[3];
    bounded_queue_init(&queue, "test", 3, 100);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(bounded_queue_push(&queue, &items[i], 10), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_ptr_equal(bounded_queue_peek(&queue), &items[i]);
        assert_ptr_equal(bounded_queue_pop(&queue), &items[i]);
    }
    assert_null(bounded_queue_pop(&queue));
    assert_null(bounded_queue_peek(&queue));
    assert_int_equal(queue.bytes, 0);
}

static void refuses_beyond_either_limit(void **state)
{
    (void)state;
    struct bounded_queue queue;
    struct queue_item items[4];
    bounded_queue_init(&queue, "test", 2, 100);
    assert_int_equal(bounded_queue_push(&queue, &items[0], 60), 0);
    assert_int_equal(bounded_queue_push(&queue, &items[1], 41), -ENOBUFS);
    assert_int_equal(bounded_queue_push(&queue, &items[1], SIZE_MAX), -ENOBUFS);
    assert_int_equal(bounded_queue_push(&queue, &items[1], 40), 0);
    assert_int_equal(bounded_queue_push(&queue, &items[2], 0), -ENOBUFS);
    assert_int_equal(queue.refused, 3);
    assert_int_equal(queue.count, 2);
    assert_false(bounded_queue_low(&queue));
    assert_non_null(bounded_queue_pop(&queue));
    assert_true(bounded_queue_low(&queue));
}

static void an_empty_queue_takes_one_item_of_any_size(void **state)
{
    (void)state;
    struct bounded_queue queue;
    struct queue_item items[2];
    bounded_queue_init(&queue, "test", 2, 100);
    assert_int_equal(bounded_queue_push(&queue, &items[0], 1000), 0);
    assert_int_equal(bounded_queue_push(&queue, &items[1], 1), -ENOBUFS);
    assert_ptr_equal(bounded_queue_pop(&queue), &items[0]);
    assert_int_equal(bounded_queue_push(&queue, &items[1], 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_back_in_order),
        cmocka_unit_test(refuses_beyond_either_limit),
        cmocka_unit_test(an_empty_queue_takes_one_item_of_any_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
