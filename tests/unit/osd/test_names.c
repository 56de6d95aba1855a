/*
 * The filter of names by itself, across clean stops: with the same size and another, damaged, and
 * when most of its names are gone. And the bytes that a clean stop stores.
 */
#include "tests/lib/test.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/engine.h"

enum { OBJECTS = 3000, STRANGERS = 20000, SMALL = 1 << 20, LARGE = 8 << 20 };

struct life {
    struct engine e;
};

static size_t key_of(uint32_t n, uint8_t key[ENGINE_KEY_MAX])
{
    uint32_t number = htole32(n);
    struct object_id id = {.pool = 1,
                           .hash = n * UINT32_C(2654435761),
                           .name = (const uint8_t *)&number,
                           .name_len = sizeof number,
                           .snap = OBJECT_HEAD};
    return object_key(&id, key);
}

/* Begins as a mount behind a clean stop does. */
static void begin(struct life *life, struct index *index, uint64_t memory_target)
{
    memset(life, 0, sizeof *life);
    life->e.index = index;
    life->e.options.memory_target = memory_target;
    assert_int_equal(names_init(&life->e), 0);
    assert_int_equal(names_load(&life->e), 0);
    assert_true(life->e.names.complete);
}

static void end(struct life *life, uint64_t objects)
{
    struct pool_stat *pool = engine_pool(&life->e, 1);
    pool->value.objects = objects;
    assert_int_equal(names_save(&life->e), 0);
    names_fini(&life->e);
    HASH_DEL(life->e.pools, pool);
    free(pool);
}

static struct index *index_create(struct index_memory_disk **disk)
{
    struct index *index;
    *disk = index_memory_disk_create();
    assert_non_null(*disk);
    assert_int_equal(index_memory_open(*disk, &index), 0);
    return index;
}

static void index_destroy(struct index *index, struct index_memory_disk *disk)
{
    index->ops->close(index);
    index_memory_disk_destroy(disk);
}

/* Objects from .. to - 1: the filter learns of them, and then the index. */
static void create(struct life *life, uint32_t from, uint32_t to)
{
    struct encoder batch;
    uint8_t key[ENGINE_KEY_MAX];
    encoder_init(&batch);
    for (uint32_t n = from; n < to; n++) {
        size_t len = key_of(n, key);
        names_add(&life->e, key, len);
        index_batch_put(&batch, key, len, "", 0);
    }
    assert_int_equal(index_apply(life->e.index, &batch), 0);
    encoder_fini(&batch);
}

static void assert_has(const struct life *life, uint32_t from, uint32_t to)
{
    uint8_t key[ENGINE_KEY_MAX];
    for (uint32_t n = from; n < to; n++)
        assert_false(names_lack(&life->e, key, key_of(n, key)));
}

/* Of names that nobody has, how many it says "maybe" to. */
static uint32_t count_doubts(const struct life *life)
{
    uint8_t key[ENGINE_KEY_MAX];
    uint32_t doubts = 0;
    for (uint32_t n = 0; n < STRANGERS; n++)
        doubts += !names_lack(&life->e, key, key_of(UINT32_MAX - n, key));
    return doubts;
}

static bool is_stored(struct index *index)
{
    const uint8_t key = KEY_NAMES;
    struct encoder value;
    encoder_init(&value);
    int found = index_get(index, &key, 1, &value, true);
    encoder_fini(&value);
    assert_true(found >= 0);
    return found > 0;
}

/* It comes from what was stored, then, and not from the objects. */
static void forget_objects(struct index *index)
{
    const uint8_t from = KEY_OBJECT, to = KEY_OBJECT + 1;
    struct encoder batch;
    encoder_init(&batch);
    index_batch_remove_range(&batch, &from, 1, &to, 1);
    assert_int_equal(index_apply(index, &batch), 0);
    encoder_fini(&batch);
}

static void names_survive_a_clean_stop(void **state)
{
    struct index_memory_disk *disk;
    struct index *index = index_create(&disk);
    struct life life;
    (void)state;
    begin(&life, index, LARGE);
    assert_int_equal(count_doubts(&life), 0);
    create(&life, 0, OBJECTS);
    assert_has(&life, 0, OBJECTS);
    uint64_t count = life.e.names.count;
    assert_true(count <= OBJECTS && count > OBJECTS - OBJECTS / 50);
    end(&life, OBJECTS);
    forget_objects(index);
    begin(&life, index, LARGE);
    assert_has(&life, 0, OBJECTS);
    assert_int_equal(life.e.names.count, count);
    assert_true(count_doubts(&life) < STRANGERS / 50);
    end(&life, OBJECTS);
    index_destroy(index, disk);
}

static void another_size_is_made_anew(void **state)
{
    static const uint64_t targets[] = {SMALL, LARGE, SMALL, SMALL, LARGE};
    struct index_memory_disk *disk;
    struct index *index = index_create(&disk);
    struct life life;
    (void)state;
    for (uint32_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        begin(&life, index, targets[i]);
        assert_has(&life, 0, i * 500);
        assert_true(count_doubts(&life) < STRANGERS / 50);
        create(&life, i * 500, (i + 1) * 500);
        end(&life, (i + 1) * 500);
    }
    index_destroy(index, disk);
}

/* Changes the stored filter in the n-th of some ways. False: there are no more. */
static bool damage(struct index *index, uint32_t n)
{
    struct names_layout layout = {.bytes = LARGE / 64, .count = OBJECTS, .parts = 1};
    uint8_t key[6] = {KEY_NAMES}, part[ALLOCATOR_PART_BYTES] = {0}, to = KEY_NAMES + 1;
    struct encoder batch;
    encoder_init(&batch);
    switch (n) {
    case 0: /* No header. */
        index_batch_remove(&batch, key, 1);
        break;
    case 1: /* Only a header. */
        index_batch_put(&batch, key, 1, &layout, sizeof layout);
        index_batch_remove_range(&batch, key, 5, &to, 1);
        break;
    case 2: /* Fewer parts than it says, */
        layout.parts = UINT32_MAX;
        index_batch_put(&batch, key, 1, &layout, sizeof layout);
        break;
    case 3: /* or more. */
        index_batch_put(&batch, key, 1, &layout, sizeof layout);
        break;
    case 4:
        layout.bytes = UINT64_MAX;
        index_batch_put(&batch, key, 1, &layout, sizeof layout);
        break;
    case 5: /* A longer header. */
        index_batch_put(&batch, key, 1, part, sizeof layout + 1);
        break;
    case 6: /* A part that is too short, */
        index_batch_put(&batch, key, 5, part, sizeof part - 1);
        break;
    case 7: /* behind the end, */
        key[4] = LARGE / 64 / ALLOCATOR_PART_BYTES;
        index_batch_put(&batch, key, 5, part, sizeof part);
        break;
    case 8: /* or with a longer name. */
        index_batch_put(&batch, key, 6, part, sizeof part);
        break;
    default:
        encoder_fini(&batch);
        return false;
    }
    assert_int_equal(index_apply(index, &batch), 0);
    encoder_fini(&batch);
    return true;
}

static void a_damaged_one_is_made_anew(void **state)
{
    struct index_memory_disk *disk;
    struct index *index = index_create(&disk);
    struct life life;
    (void)state;
    begin(&life, index, LARGE);
    create(&life, 0, OBJECTS);
    end(&life, OBJECTS);
    for (uint32_t n = 0; damage(index, n); n++) {
        struct engine check = {.index = index};
        int error = names_load_any(&check);
        names_fini(&check);
        assert_int_equal(error, n == 0 ? 0 : -ELIMPET_CORRUPT);
        begin(&life, index, LARGE);
        assert_has(&life, 0, OBJECTS);
        assert_true(life.e.names.count <= OBJECTS);
        end(&life, OBJECTS);
    }
    index_destroy(index, disk);
}

static void one_whose_names_are_gone_is_not_stored(void **state)
{
    struct index_memory_disk *disk;
    struct index *index = index_create(&disk);
    struct life life;
    uint32_t many = SMALL / 64 * 8 / 3; /* Three bits a name. */
    (void)state;
    begin(&life, index, SMALL);
    create(&life, 0, many);
    assert_true(count_doubts(&life) > STRANGERS / 10);
    end(&life, many); /* All are there: made anew it would be the same. */
    assert_true(is_stored(index));
    begin(&life, index, SMALL);
    assert_true(count_doubts(&life) > STRANGERS / 10);
    forget_objects(index);
    create(&life, many, many + 100);
    end(&life, 100);
    assert_false(is_stored(index));
    begin(&life, index, SMALL);
    assert_has(&life, many, many + 100);
    assert_true(count_doubts(&life) < STRANGERS / 50);
    end(&life, 100);
    assert_true(is_stored(index));
    index_destroy(index, disk);
}

/* A store without a budget has no filter, and asks the index. */
static void without_memory_it_answers_nothing(void **state)
{
    struct index_memory_disk *disk;
    struct index *index = index_create(&disk);
    struct engine e = {.index = index};
    uint8_t key[ENGINE_KEY_MAX];
    size_t len = key_of(1, key);
    (void)state;
    assert_int_equal(names_init(&e), 0);
    assert_int_equal(names_load(&e), 0);
    names_add(&e, key, len);
    assert_false(names_lack(&e, key, len));
    assert_int_equal(names_save(&e), 0);
    names_fini(&e);
    index_destroy(index, disk);
}

/* Where the bits of names lie is as durable as the header. */
static void stored_filters_keep_their_bytes(void **state)
{
    struct index_memory_disk *disk;
    struct index *index = index_create(&disk);
    const uint8_t from = KEY_NAMES, to = KEY_NAMES + 1;
    struct index_iter *iter;
    struct encoder bytes;
    const void *key, *value;
    size_t key_len, len;
    struct life life;
    (void)state;
    begin(&life, index, SMALL);
    create(&life, 0, 3);
    end(&life, 3);
    encoder_init(&bytes);
    assert_int_equal(index_iterate(index, &from, 1, &to, 1, false, true, &iter), 0);
    while (index_next(index, iter, &key, &key_len, &value, &len) > 0) {
        encode_bytes(&bytes, key, key_len);
        for (size_t at = 0; len < ALLOCATOR_PART_BYTES && at < len; at++)
            encode_u8(&bytes, ((const uint8_t *)value)[at]);
        for (size_t at = 0; len == ALLOCATOR_PART_BYTES && at < len; at += 8) {
            uint64_t word;
            memcpy(&word, (const uint8_t *)value + at, 8);
            if (word == 0)
                continue;
            encode_u32(&bytes, (uint32_t)at);
            encode_u64(&bytes, word);
        }
    }
    index->ops->iter_free(iter);
    test_golden("engine_names.hex", bytes.data, bytes.len);
    encoder_fini(&bytes);
    index_destroy(index, disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_survive_a_clean_stop),
        cmocka_unit_test(another_size_is_made_anew),
        cmocka_unit_test(a_damaged_one_is_made_anew),
        cmocka_unit_test(one_whose_names_are_gone_is_not_stored),
        cmocka_unit_test(without_memory_it_answers_nothing),
        cmocka_unit_test(stored_filters_keep_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
