#include "tests/lib/test.h"

#include "client/image/extents.h"

#include <errno.h>

/* Extents of `len` bytes, one every `every` bytes up to `dense`, and one at the end. */
struct source {
    uint64_t every, len, dense, size;
    uint64_t calls, asked; /* Times and bytes that it was asked for. */
    size_t fails_at;       /* The call that fails; 0: none. */
};

static int tell(uint64_t offset, uint64_t len, window_take take, void *take_arg, void *arg)
{
    struct source *s = arg;
    uint64_t end = offset + len;
    int rc = 0;
    s->calls++;
    s->asked += len;
    if (s->calls == s->fails_at)
        return -EAGAIN;
    for (uint64_t at = offset / s->every * s->every; at < end && at < s->dense && rc == 0;
         at += s->every) {
        uint64_t from = at > offset ? at : offset, to = at + s->len < end ? at + s->len : end;
        if (from < to)
            rc = take(from, to - from, true, take_arg);
    }
    if (rc == 0 && end == s->size)
        rc = take(s->size - 1, 1, true, take_arg);
    return rc;
}

/* Moves through all of it; the number of extents, all of which are as the source has them. */
static uint64_t go_through(struct source *s, uint64_t least, size_t *room)
{
    struct window w = {.source = tell, .arg = s, .limit = s->size};
    uint64_t n = 0, next = 0;
    while (w.end < w.limit) {
        uint64_t from = w.end;
        int rc = window_move(&w, from, least);
        if (rc == -EAGAIN)
            rc = window_move(&w, from, least);
        assert_int_equal(rc, 0);
        assert_int_equal(w.begin, from);
        assert_true(w.end == w.limit || w.end >= from + least);
        for (size_t i = 0; i < w.extents.n; i++, n++) {
            const struct extent *extent = &w.extents.list[i];
            assert_true(extent->offset >= w.begin && extent->offset + extent->len <= w.end);
            assert_true(extent->offset >= next);
            next = extent->offset + extent->len;
        }
    }
    *room = w.extents.room;
    window_fini(&w);
    return n;
}

static void a_fragmented_source_needs_memory_for_a_window(void **state)
{
    struct source s = {.every = 8192, .len = 4096, .dense = UINT64_C(1) << 35};
    s.size = s.dense + 8192;
    size_t room;
    (void)state;
    /* 16 times as many as a window has. */
    assert_int_equal(go_through(&s, 1, &room), (s.dense / s.every) + 1);
    assert_int_equal(room, WINDOW_EXTENTS_MAX);
    assert_true(s.calls <= 18);
    assert_true(s.asked <= 3 * s.size);
}

static void a_source_of_few_is_asked_once(void **state)
{
    struct source s = {.every = UINT64_C(1) << 40,
                       .len = 5,
                       .dense = UINT64_C(1) << 50,
                       .size = UINT64_C(1) << 60};
    size_t room;
    (void)state;
    assert_int_equal(go_through(&s, 1 << 22, &room), 1025);
    assert_int_equal(s.calls, 1);
}

static void what_is_sparse_after_the_dense_is_passed_in_steps_that_double(void **state)
{
    struct source s = {
        .every = 8192, .len = 4096, .dense = UINT64_C(1) << 33, .size = UINT64_C(1) << 60};
    size_t room;
    (void)state;
    assert_int_equal(go_through(&s, 1, &room), (s.dense / s.every) + 1);
    assert_true(s.calls <= 5 + 30);
}

static void the_least_is_shown_whatever_it_has(void **state)
{
    struct source s = {.every = 2, .len = 1, .dense = 1 << 22, .size = UINT64_C(1) << 23};
    struct window w = {.source = tell, .arg = &s, .limit = s.size};
    (void)state;
    assert_int_equal(window_move(&w, 0, 1 << 21), 0);
    assert_int_equal(w.end, 1 << 21);
    assert_int_equal(w.extents.n, 1 << 20);
    window_fini(&w);
}

static void a_move_that_failed_shows_nothing_and_can_be_made_again(void **state)
{
    struct source s = {
        .every = 8192, .len = 4096, .dense = UINT64_C(1) << 33, .size = UINT64_C(1) << 33};
    size_t room;
    (void)state;
    s.fails_at = 3;
    assert_int_equal(go_through(&s, 1, &room), s.dense / s.every + 1);
}

static void lists_in_order_are_searched(void **state)
{
    struct extents list = {0};
    (void)state;
    for (uint64_t i = 100; i > 0; i--)
        assert_int_equal(extents_add(&list, 10 * (i - 1), 5, true), 0);
    extents_sort(&list);
    assert_int_equal(extents_at(&list, 0), 0);
    assert_int_equal(extents_at(&list, 4), 0);
    assert_int_equal(extents_at(&list, 5), 1);
    assert_int_equal(extents_at(&list, 994), 99);
    assert_int_equal(extents_at(&list, 995), 100);
    extents_fini(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fragmented_source_needs_memory_for_a_window),
        cmocka_unit_test(a_source_of_few_is_asked_once),
        cmocka_unit_test(what_is_sparse_after_the_dense_is_passed_in_steps_that_double),
        cmocka_unit_test(the_least_is_shown_whatever_it_has),
        cmocka_unit_test(a_move_that_failed_shows_nothing_and_can_be_made_again),
        cmocka_unit_test(lists_in_order_are_searched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
