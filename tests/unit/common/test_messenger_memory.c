/* What received payloads lie in, and what of it is kept for the next ones. */
#include "tests/lib/test.h"

#include "common/messenger_private.h"

enum { PAGE = 4096, LARGE = 4 << 20, N = 8 };

static struct receive_memory *memory;
static struct receive_lane *lane;

static int begin(void **state)
{
    (void)state;
    memory = receive_memory_create(UINT64_C(256) << 20);
    assert_non_null(memory);
    lane = receive_lane_create(memory);
    assert_non_null(lane);
    return 0;
}

static int end(void **state)
{
    (void)state;
    receive_lane_unref(lane);
    receive_memory_unref(memory);
    return 0;
}

static struct buf *receive(size_t len)
{
    struct buf_slice slice;
    assert_int_equal(receive_lane_alloc(lane, len, false, &slice), 0);
    memset(slice.buf->data, 1, len);
    return slice.buf;
}

/* So many at once. */
static void use(unsigned n, size_t len)
{
    struct buf *bufs[N];
    for (unsigned i = 0; i < n; i++)
        bufs[i] = receive(len);
    for (unsigned i = 0; i < n; i++)
        buf_unref(bufs[i]);
}

static void what_was_released_is_used_again(void **state)
{
    (void)state;
    struct buf *first = receive(LARGE);
    uint8_t *data = first->data;
    buf_unref(first);
    assert_int_equal(memory->cached_bytes, LARGE);
    struct buf *second = receive(LARGE);
    assert_ptr_equal(second->data, data);
    assert_int_equal(memory->cached_bytes, 0);
    buf_unref(second);
}

static void large_blocks_go_while_small_ones_are_used(void **state)
{
    (void)state;
    use(N, LARGE);
    assert_int_equal(memory->cached_bytes, N * LARGE);
    receive_memory_trim(memory);
    assert_int_equal(memory->cached_bytes, N * LARGE);
    use(N, PAGE);
    receive_memory_trim(memory);
    assert_int_equal(memory->cached_bytes, N * PAGE);
}

static void as_many_stay_as_were_used_at_once(void **state)
{
    (void)state;
    use(N, LARGE);
    receive_memory_trim(memory);
    use(3, LARGE);
    use(2, LARGE);
    receive_memory_trim(memory);
    assert_int_equal(memory->cached_bytes, 3 * LARGE);
    use(3, LARGE);
    receive_memory_trim(memory);
    assert_int_equal(memory->cached_bytes, 3 * LARGE);
    receive_memory_trim(memory);
    assert_int_equal(memory->cached_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_released_is_used_again, begin, end),
        cmocka_unit_test_setup_teardown(large_blocks_go_while_small_ones_are_used, begin, end),
        cmocka_unit_test_setup_teardown(as_many_stay_as_were_used_at_once, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
