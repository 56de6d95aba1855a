#include "tests/lib/test.h"

#include <errno.h>
#include <string.h>

#include "common/buf.h"
#include "common/message.h"

/* AddressSanitizer would end the program where malloc() says no. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void large_memory_is_aligned_for_disks(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, BUF_ALIGNMENT - 1, BUF_ALIGNMENT, 100000};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct buf *buf = buf_create(lengths[i]);
        assert_non_null(buf);
        assert_non_null(buf->data);
        assert_int_equal(buf->capacity, lengths[i]);
        memset(buf->data, 7, lengths[i]);
        if (lengths[i] >= BUF_ALIGNMENT)
            assert_int_equal((uintptr_t)buf->data % BUF_ALIGNMENT, 0);
        buf_unref(buf);
    }
}

/* Sanitizers must see the end of each block: nothing is kept then. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { KEEPS = 0 };
#else
enum { KEEPS = 1 };
#endif

static void keeps_large_memory_while_it_is_used_again(void **state)
{
    (void)state;
    enum { LEN = 4 << 20 };
    struct buf *bufs[20];
    buf_trim();
    buf_trim();
    assert_int_equal(buf_kept(), 0);
    for (size_t i = 0; i < 20; i++)
        assert_non_null(bufs[i] = buf_create(LEN));
    for (size_t i = 0; i < 20; i++)
        buf_unref(bufs[i]);
    if (!KEEPS) {
        assert_int_equal(buf_kept(), 0);
        return;
    }
    assert_int_equal(buf_kept(), 16 * LEN);
    /* A little less gets a kept block, half of it does not; both get what they ask for at least. */
    struct buf *less = buf_create(LEN - LEN / 8), *half = buf_create(LEN / 2);
    assert_int_equal(buf_kept(), 15 * LEN);
    assert_true(less->capacity == LEN && half->capacity == LEN / 2);
    memset(less->data, 1, LEN - LEN / 8);
    memset(half->data, 1, LEN / 2);
    buf_unref(less);
    buf_unref(half);
    assert_int_equal(buf_kept(), 15 * LEN + LEN / 2);
    buf_trim();
    assert_int_equal(buf_kept(), 15 * LEN + LEN / 2);
    buf_trim();
    assert_int_equal(buf_kept(), 0);
}

static void refuses_more_memory_than_there_is(void **state)
{
    (void)state;
    struct buf_slice slice;
    assert_null(buf_create(SIZE_MAX / 4));
    assert_int_equal(buf_slice_alloc(SIZE_MAX / 4, &slice), -ENOMEM);
}

static int released;

static void count_release(struct buf *buf)
{
    (void)buf;
    released++;
}

static void memory_lives_as_long_as_its_last_slice(void **state)
{
    (void)state;
    uint8_t memory[10] = "0123456789";
    struct buf buf = {.refs = 1, .capacity = 10, .data = memory, .release = count_release};
    struct buf_slice whole = {.buf = &buf, .data = memory, .len = 10};
    struct buf_slice middle = buf_slice_sub(whole, 3, 4);
    struct buf_slice again = buf_slice_ref(middle);
    released = 0;
    buf_slice_drop(&whole);
    buf_slice_drop(&middle);
    assert_int_equal(released, 0);
    assert_memory_equal(again.data, "3456", 4);
    buf_slice_drop(&again);
    assert_int_equal(released, 1);
    buf_slice_drop(&again);
    assert_int_equal(released, 1);
    assert_null(again.buf);
}

static void empty_slices_hold_nothing(void **state)
{
    (void)state;
    struct buf_slice empty = BUF_SLICE_EMPTY;
    struct buf_slice sub = buf_slice_sub(buf_slice_ref(empty), 0, 0);
    assert_null(sub.buf);
    buf_slice_drop(&sub);
}

static void copies_are_independent(void **state)
{
    (void)state;
    char text[] = "hello";
    struct buf_slice slice;
    assert_int_equal(buf_slice_copy(text, 5, &slice), 0);
    text[0] = 'j';
    assert_memory_equal(slice.data, "hello", 5);
    buf_slice_drop(&slice);
    assert_int_equal(buf_slice_copy(NULL, 0, &slice), 0);
    assert_int_equal(slice.len, 0);
    buf_slice_drop(&slice);
}

static void message_bodies_are_bounded_and_zeroed(void **state)
{
    (void)state;
    assert_null(message_create(MSG_PING, MESSAGE_BODY_MAX + 1));
    struct message *m = message_create(MSG_PING, 100);
    assert_non_null(m);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(m->body[i], 0);
    assert_int_equal((uintptr_t)m->body % 16, 0);
    assert_int_equal(buf_slice_copy("x", 1, &m->payload), 0);
    message_unref(message_ref(m));
    message_unref(m);
    message_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_memory_is_aligned_for_disks),
        cmocka_unit_test(keeps_large_memory_while_it_is_used_again),
        cmocka_unit_test(refuses_more_memory_than_there_is),
        cmocka_unit_test(memory_lives_as_long_as_its_last_slice),
        cmocka_unit_test(empty_slices_hold_nothing),
        cmocka_unit_test(copies_are_independent),
        cmocka_unit_test(message_bodies_are_bounded_and_zeroed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
