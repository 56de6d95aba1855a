/* The index on RocksDB: what an iterator leaves out, it says. */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/index.h"
#include "tests/sim/random.h"

enum {
    N_KEYS = 4000,
    KEY_BYTES = 5,
    KEY_ROOM = 16,
    VALUE_BYTES = 200,
    MEMORY = 64 * 1024 * 1024,
    /* Below the number of files from which RocksDB would merge them. */
    N_FILES = 3,
    RANGES_A_FILE = 4,
    ROUNDS = 10,
    STARTS = 200,
    RANGE = 100,
};

static struct index *open_index(const char *path, bool create)
{
    struct index *index;
    char why[256];
    assert_int_equal(index_rocksdb_open(path, create, MEMORY, &index, why), 0);
    return index;
}

static void key_of(int number, char key[KEY_ROOM])
{
    snprintf(key, KEY_ROOM, "%0*d", KEY_BYTES, number);
}

/* Some files, each with keys of its own and older keys removed by ranges. */
static void fill(const char *path, uint64_t *random)
{
    struct index *index = open_index(path, true);
    struct encoder batch;
    char from[KEY_ROOM], to[KEY_ROOM], value[VALUE_BYTES] = {0};
    encoder_init(&batch);
    for (int file = 0; file < N_FILES; file++) {
        for (int i = 0; i < RANGES_A_FILE && file > 0; i++) {
            int first = (int)(random_split(random) % N_KEYS);
            key_of(first, from);
            key_of(first + (int)(random_split(random) % 200), to);
            index_batch_remove_range(&batch, from, KEY_BYTES, to, KEY_BYTES);
        }
        for (int i = 0; i < N_KEYS; i++) {
            key_of(i, from);
            if (random_split(random) % N_FILES == 0)
                index_batch_put(&batch, from, KEY_BYTES, value, sizeof value);
        }
        assert_int_equal(index_apply(index, &batch), 0);
        encoder_reset(&batch);
        assert_int_equal(index->ops->flush(index), 0);
    }
    encoder_fini(&batch);
    index->ops->close(index);
}

/* The pairs of RANGE keys, or the error that ended it. */
static int count_from(struct index *index, int number, bool may_block)
{
    char from[KEY_ROOM], to[KEY_ROOM];
    struct index_iter *iter;
    const void *key, *value;
    size_t key_len, len;
    key_of(number, from);
    key_of(number + RANGE, to);
    int error = index_iterate(index, from, KEY_BYTES, to, KEY_BYTES, false, may_block, &iter);
    if (error < 0)
        return error;
    int n = 0;
    while ((error = index_next(index, iter, &key, &key_len, &value, &len)) > 0)
        n++;
    index->ops->iter_free(iter);
    return error < 0 ? error : n;
}

/* Brings some blocks of the files into memory. */
static void warm(struct index *index, uint64_t *random)
{
    struct encoder value;
    char key[KEY_ROOM];
    encoder_init(&value);
    for (int i = 0; i < 10; i++) {
        key_of((int)(random_split(random) % N_KEYS), key);
        assert_in_range(index_get(index, key, KEY_BYTES, &value, true), 0, 1);
        encoder_reset(&value);
    }
    encoder_fini(&value);
}

/*
 * An iterator over what is in memory once left parts of files out without a word, when a range that
 * had been removed made it seek again.
 */
static void an_iterator_that_may_not_wait_says_so_or_finds_all(void **state)
{
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint64_t random = round;
        char path[256];
        snprintf(path, sizeof path, "%s/index%d", (const char *)*state, (int)round);
        fill(path, &random);
        struct index *index = open_index(path, false);
        int from[STARTS], found[STARTS];
        for (int i = 0; i < STARTS; i++) {
            from[i] = (int)(random_split(&random) % N_KEYS);
            if (i % 10 == 0)
                warm(index, &random);
            found[i] = count_from(index, from[i], false);
        }
        for (int i = 0; i < STARTS; i++) {
            if (found[i] != -EAGAIN)
                assert_int_equal(found[i], count_from(index, from[i], true));
        }
        index->ops->close(index);
    }
}

static int new_folder(void **state)
{
    *state = strdup(test_folder_create());
    return *state ? 0 : -1;
}

static int remove_folder(void **state)
{
    test_folder_remove(*state);
    free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_iterator_that_may_not_wait_says_so_or_finds_all,
                                        new_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
