#include "tests/lib/test.h"

#include <stdlib.h>

#include "client/fs/fs.h"

enum { PAGE = FS_CACHE_PAGE, FILE_BYTES = 64 * PAGE, ROOM = 1 << 20 };

static const uint64_t FILE_A = UINT64_C(7) << FS_INDEX_BITS | 5;
static const uint64_t FILE_B = UINT64_C(8) << FS_INDEX_BITS | 5;

static struct fs_cache *make(uint64_t bytes)
{
    struct fs_cache *cache;
    assert_int_equal(cache_create(bytes, &cache), 0);
    return cache;
}

static void fill(uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)rand();
}

static void gives_what_was_kept_and_nothing_else(void **state)
{
    uint8_t data[2 * PAGE], out[2 * PAGE];
    struct fs_cache *cache = make(ROOM);
    (void)state;
    fill(data, sizeof data);
    assert_false(cache_read(cache, FILE_A, 0, 1, out));
    cache_keep(cache, FILE_A, PAGE, data, sizeof data, false);
    assert_true(cache_read(cache, FILE_A, PAGE + 10, 2 * PAGE - 20, out));
    assert_memory_equal(out, data + 10, 2 * PAGE - 20);
    assert_false(cache_read(cache, FILE_A, PAGE - 1, 2, out));
    assert_false(cache_read(cache, FILE_A, 3 * PAGE - 1, 2, out));
    assert_false(cache_read(cache, FILE_B, PAGE, 1, out));
    cache_destroy(cache);
}

static void the_last_page_of_a_file_may_be_short(void **state)
{
    uint8_t data[PAGE], out[PAGE];
    struct fs_cache *cache = make(ROOM);
    (void)state;
    fill(data, sizeof data);
    cache_keep(cache, FILE_A, 0, data, 100, false);
    assert_false(cache_read(cache, FILE_A, 0, 100, out));
    cache_keep(cache, FILE_A, 0, data, 100, true);
    assert_true(cache_read(cache, FILE_A, 0, 101, out));
    assert_memory_equal(out, data, 100);
    assert_int_equal(out[100], 0);
    cache_destroy(cache);
}

static void what_is_kept_is_newer_than_what_was_read(void **state)
{
    uint8_t old[PAGE] = {1}, new[PAGE] = {2}, out[PAGE];
    struct fs_cache *cache = make(ROOM);
    (void)state;
    cache_write(cache, FILE_A, 0, new, PAGE, PAGE);
    cache_keep(cache, FILE_A, 0, old, PAGE, false);
    assert_true(cache_read(cache, FILE_A, 0, PAGE, out));
    assert_int_equal(out[0], 2);
    cache_destroy(cache);
}

static void a_part_of_a_page_that_is_not_known_is_not_kept(void **state)
{
    uint8_t data[PAGE] = {1}, out[PAGE];
    struct fs_cache *cache = make(ROOM);
    (void)state;
    cache_write(cache, FILE_A, 10, data, 10, PAGE);
    assert_false(cache_read(cache, FILE_A, 10, 10, out));
    cache_write(cache, FILE_A, PAGE + 10, data, 10, PAGE); /* The file ended before. */
    assert_true(cache_read(cache, FILE_A, PAGE, 20, out));
    assert_int_equal(out[0], 0);
    assert_int_equal(out[10], 1);
    cache_destroy(cache);
}

static void leases_are_forgotten_one_by_one(void **state)
{
    uint8_t data[PAGE] = {1}, out[PAGE];
    struct fs_cache *cache = make(ROOM);
    (void)state;
    for (uint64_t number = 0; number < 100; number++) {
        cache_keep(cache, FILE_A, number * PAGE, data, PAGE, false);
        cache_keep(cache, FILE_B, number * PAGE, data, PAGE, false);
    }
    cache_forget_home(cache, fs_home(FILE_A));
    for (uint64_t number = 0; number < 100; number++) {
        assert_false(cache_read(cache, FILE_A, number * PAGE, 1, out));
        assert_true(cache_read(cache, FILE_B, number * PAGE, 1, out));
    }
    cache_destroy(cache);
}

static unsigned count_kept(struct fs_cache *cache, uint64_t pages)
{
    uint8_t out[1];
    unsigned n = 0;
    for (uint64_t number = 0; number < pages; number++)
        n += cache_read(cache, FILE_A, number * PAGE, 1, out);
    return n;
}

static void memory_is_bounded_and_writes_come_first(void **state)
{
    uint8_t data[PAGE] = {1}, out[1];
    struct fs_cache *cache = make(ROOM);
    (void)state;
    for (uint64_t number = 0; number < 1000; number++) {
        cache_keep(cache, FILE_A, number * PAGE, data, PAGE, false);
        /* What is used stays. */
        assert_true(cache_read(cache, FILE_A, 0, 1, out));
    }
    assert_in_range(count_kept(cache, 1000), ROOM / PAGE - 8, ROOM / PAGE);
    cache_reserve(cache, ROOM / 2);
    assert_in_range(count_kept(cache, 1000), ROOM / PAGE / 2 - 8, ROOM / PAGE / 2);
    cache_reserve(cache, ROOM);
    assert_int_equal(count_kept(cache, 1000), 0);
    cache_keep(cache, FILE_A, 0, data, PAGE, false);
    assert_int_equal(count_kept(cache, 1000), 0);
    cache_release(cache, ROOM / 2 + ROOM);
    cache_keep(cache, FILE_A, 0, data, PAGE, false);
    assert_int_equal(count_kept(cache, 1000), 1);
    cache_destroy(cache);
}

/* Beside a file in memory: whatever is kept is as it is there. */
static void agrees_with_a_file_after_any_changes(void **state)
{
    static uint8_t file[FILE_BYTES], out[FILE_BYTES];
    struct fs_cache *cache = make(40 * PAGE);
    uint64_t size = 0;
    unsigned hits = 0;
    (void)state;
    srand(1);
    for (int i = 0; i < 20000; i++) {
        uint64_t offset = (uint64_t)rand() % (FILE_BYTES - 1);
        size_t len = 1 + (size_t)rand() % (rand() % 2 ? 100 : 20000);
        len = len < FILE_BYTES - offset ? len : FILE_BYTES - offset;
        switch (rand() % 4) {
        case 0:
            fill(file + offset, len);
            cache_write(cache, FILE_A, offset, file + offset, len, size);
            size = offset + len > size ? offset + len : size;
            break;
        case 1:
            offset &= ~(uint64_t)(PAGE - 1);
            if (offset < size) {
                len = len < size - offset ? len : (size_t)(size - offset);
                cache_keep(cache, FILE_A, offset, file + offset, len, offset + len == size);
            }
            break;
        case 2:
            if (offset + len <= size && cache_read(cache, FILE_A, offset, len, out)) {
                assert_memory_equal(out, file + offset, len);
                hits++;
            }
            break;
        default:
            if (rand() % 20 == 0) {
                size = offset < size ? offset : size;
                memset(file + size, 0, FILE_BYTES - size);
                cache_forget(cache, FILE_A, size, FS_SIZE_MAX - size);
            }
        }
    }
    assert_true(hits > 300);
    cache_destroy(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_what_was_kept_and_nothing_else),
        cmocka_unit_test(the_last_page_of_a_file_may_be_short),
        cmocka_unit_test(what_is_kept_is_newer_than_what_was_read),
        cmocka_unit_test(a_part_of_a_page_that_is_not_known_is_not_kept),
        cmocka_unit_test(leases_are_forgotten_one_by_one),
        cmocka_unit_test(memory_is_bounded_and_writes_come_first),
        cmocka_unit_test(agrees_with_a_file_after_any_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
