#include <stdlib.h>

#include "common/timer_heap.h"
#include "tests/lib/test.h"

enum { MANY = 1000 };

static void fires_in_order_of_deadlines(void **state)
{
    (void)state;
    struct timer_heap heap;
    struct env_timer timers[5] = {0};
    static const uint64_t deadlines[] = {30, 10, 50, 20, 40};
    timer_heap_init(&heap);
    for (int i = 0; i < 5; i++)
        timer_heap_arm(&heap, &timers[i], deadlines[i]);
    static const int expected[] = {1, 3, 0, 4, 2};
    for (int i = 0; i < 5; i++)
        assert_ptr_equal(timer_heap_pop(&heap, 100, UINT64_MAX), &timers[expected[i]]);
    assert_null(timer_heap_pop(&heap, 100, UINT64_MAX));
    timer_heap_fini(&heap);
}

static void equal_deadlines_fire_in_the_order_of_arming(void **state)
{
    (void)state;
    struct timer_heap heap;
    static struct env_timer timers[MANY];
    timer_heap_init(&heap);
    for (int i = 0; i < MANY; i++)
        timer_heap_arm(&heap, &timers[i], 7);
    /* Armed again: now the last. */
    timer_heap_arm(&heap, &timers[0], 7);
    for (int i = 1; i < MANY; i++)
        assert_ptr_equal(timer_heap_pop(&heap, 7, UINT64_MAX), &timers[i]);
    assert_ptr_equal(timer_heap_pop(&heap, 7, UINT64_MAX), &timers[0]);
    timer_heap_fini(&heap);
}

static void does_not_fire_before_the_deadline(void **state)
{
    (void)state;
    struct timer_heap heap;
    struct env_timer timer = {0};
    timer_heap_init(&heap);
    timer_heap_arm(&heap, &timer, 10);
    assert_null(timer_heap_pop(&heap, 9, UINT64_MAX));
    assert_true(timer.armed);
    assert_ptr_equal(timer_heap_pop(&heap, 10, UINT64_MAX), &timer);
    assert_false(timer.armed);
    timer_heap_fini(&heap);
}

static void a_timer_armed_in_this_round_waits_for_the_next(void **state)
{
    (void)state;
    struct timer_heap heap;
    struct env_timer timer = {0};
    timer_heap_init(&heap);
    timer_heap_arm(&heap, &timer, 1);
    uint64_t limit = heap.next_order;
    assert_ptr_equal(timer_heap_pop(&heap, 5, limit), &timer);
    timer_heap_arm(&heap, &timer, 2);
    assert_null(timer_heap_pop(&heap, 5, limit));
    assert_ptr_equal(timer_heap_pop(&heap, 5, heap.next_order), &timer);
    timer_heap_fini(&heap);
}

static void stopping_is_harmless_and_final(void **state)
{
    (void)state;
    struct timer_heap heap;
    struct env_timer a = {0}, b = {0};
    timer_heap_init(&heap);
    timer_heap_stop(&heap, &a);
    timer_heap_arm(&heap, &a, 1);
    timer_heap_arm(&heap, &b, 2);
    timer_heap_stop(&heap, &a);
    timer_heap_stop(&heap, &a);
    assert_false(a.armed);
    assert_ptr_equal(timer_heap_first(&heap), &b);
    timer_heap_fini(&heap);
    assert_false(b.armed);
}

/* Arms, moves and stops at random; a sorted list by scanning is the oracle. */
static void agrees_with_a_plain_list(void **state)
{
    (void)state;
    struct timer_heap heap;
    static struct env_timer timers[MANY];
    timer_heap_init(&heap);
    srand(1);
    for (int step = 0; step < 20000; step++) {
        struct env_timer *timer = &timers[rand() % MANY];
        if (rand() % 4 == 0)
            timer_heap_stop(&heap, timer);
        else
            timer_heap_arm(&heap, timer, (uint64_t)(rand() % 500));
        if (step % 50 != 0)
            continue;
        struct env_timer *first = NULL;
        for (int i = 0; i < MANY; i++) {
            struct env_timer *t = &timers[i];
            if (!t->armed)
                continue;
            if (first == NULL || t->deadline_ns < first->deadline_ns ||
                (t->deadline_ns == first->deadline_ns && t->order < first->order))
                first = t;
        }
        assert_ptr_equal(timer_heap_first(&heap), first);
        assert_ptr_equal(timer_heap_pop(&heap, UINT64_MAX, UINT64_MAX), first);
    }
    timer_heap_fini(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fires_in_order_of_deadlines),
        cmocka_unit_test(equal_deadlines_fire_in_the_order_of_arming),
        cmocka_unit_test(does_not_fire_before_the_deadline),
        cmocka_unit_test(a_timer_armed_in_this_round_waits_for_the_next),
        cmocka_unit_test(stopping_is_harmless_and_final),
        cmocka_unit_test(agrees_with_a_plain_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
