/*
 * Parts of the engine by themselves: allocator, shared extents, keys, chunks, batches, and the
 * bytes on disk.
 */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/engine.h"

enum { BLOCKS = 20000, FIRST = 100 };

/* ---- Allocator ---- */

static void allocator_gives_each_block_once(void **state)
{
    struct allocator a;
    uint32_t block, taken = 0, n;
    (void)state;
    assert_int_equal(allocator_init(&a, BLOCKS, FIRST), 0);
    assert_int_equal(a.n_free, BLOCKS - FIRST);
    while ((n = allocator_take(&a, 1 + taken % 300, &block)) > 0) {
        assert_true(block >= FIRST && block + n <= BLOCKS);
        taken += n;
    }
    assert_int_equal(taken, BLOCKS - FIRST);
    assert_int_equal(a.n_free, 0);
    allocator_release(&a, 5000, 70);
    assert_int_equal(allocator_take(&a, 100, &block), 70);
    assert_int_equal(block, 5000);
    allocator_fini(&a);
}

/* Free are 40,000 runs of 8 blocks, one of 12 soon, and one of 64 far away. */
static void allocator_takes_the_longest_of_the_next_runs(void **state)
{
    enum { RUNS = 40000, EVERY = 16, SHORT = 8, SOON = 100, FAR = 30000 };
    struct allocator a;
    uint32_t block;
    (void)state;
    assert_int_equal(allocator_init(&a, FIRST + RUNS * EVERY, FIRST), 0);
    for (uint32_t n = 0; n < RUNS; n++) {
        uint32_t at = FIRST + n * EVERY, free_blocks = n == SOON ? 12 : SHORT;
        if (n < FAR || n >= FAR + 4)
            assert_true(allocator_mark(&a, at + free_blocks, EVERY - free_blocks));
    }
    assert_int_equal(allocator_take(&a, 64, &block), 12);
    assert_int_equal(block, FIRST + SOON * EVERY);
    assert_int_equal(allocator_take(&a, 64, &block), SHORT);
    assert_int_equal(block, FIRST + (SOON + 1) * EVERY);
    /* In the end nothing is left over. */
    uint32_t taken = 0, n;
    while ((n = allocator_take(&a, 64, &block)) > 0)
        taken += n;
    assert_int_equal(taken, RUNS * SHORT + 4 * SHORT + 4 - 12 - SHORT);
    allocator_fini(&a);
}

static void allocator_refuses_to_mark_twice(void **state)
{
    struct allocator a;
    (void)state;
    assert_int_equal(allocator_init(&a, BLOCKS, FIRST), 0);
    assert_true(allocator_mark(&a, 4090, 20));
    assert_false(allocator_mark(&a, 4109, 1));
    assert_false(allocator_mark(&a, FIRST - 1, 1));
    assert_false(allocator_mark(&a, BLOCKS - 1, 2));
    assert_false(allocator_mark(&a, UINT32_MAX, 2));
    assert_true(allocator_is_used(&a, 4090));
    assert_false(allocator_is_used(&a, 4110));
    allocator_fini(&a);
}

/* ---- Shared extents ---- */

static void shared_extents_count_references(void **state)
{
    struct engine e = {0};
    struct encoder batch;
    uint32_t n = 1;
    (void)state;
    encoder_init(&batch);
    RB_INIT(&e.shared);
    assert_int_equal(shared_add(&e, 200, 10, &batch), 0);
    assert_int_equal(shared_add(&e, 205, 10, &batch), 0);
    assert_int_equal(e.n_shared, 3); /* 200 +5: 2, 205 +5: 3, 210 +5: 2 */
    assert_int_equal(shared_drop(&e, 207, &n, &batch), 0);
    assert_true(shared_find(&e, 207));
    assert_int_equal(shared_drop(&e, 207, &n, &batch), 0);
    assert_false(shared_find(&e, 207));
    assert_true(shared_find(&e, 206) && shared_find(&e, 208));
    assert_int_equal(shared_drop(&e, 207, &n, &batch), -ENOENT);
    /* As many of a run as are in the same case. */
    static const struct {
        uint32_t block, n;
        int result;
    } runs[] = {{195, 5, -ENOENT}, {200, 5, 0}, {205, 2, 0},      {207, 1, -ENOENT},
                {208, 2, 0},       {210, 5, 0}, {215, 7, -ENOENT}};
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        n = 222 - runs[i].block;
        assert_int_equal(shared_drop(&e, runs[i].block, &n, &batch), runs[i].result);
        assert_int_equal(n, runs[i].n);
    }
    assert_true(shared_find(&e, 205) && shared_find(&e, 209));
    assert_int_equal(e.n_shared, 2);
    shared_clear(&e);
    encoder_fini(&batch);
}

static void shared_records_outside_the_disk_are_refused(void **state)
{
    struct engine e = {.allocator = {.first = FIRST, .n_blocks = BLOCKS}};
    (void)state;
    RB_INIT(&e.shared);
    assert_int_not_equal(shared_load(&e, FIRST - 1, &(struct shared_layout){.count = 1, .refs = 2}),
                         0);
    assert_int_not_equal(
        shared_load(&e, BLOCKS - 1, &(struct shared_layout){.count = 2, .refs = 2}), 0);
    assert_int_not_equal(
        shared_load(&e, FIRST, &(struct shared_layout){.count = UINT32_MAX, .refs = 2}), 0);
    assert_int_not_equal(shared_load(&e, FIRST, &(struct shared_layout){.count = 1, .refs = 1}), 0);
    assert_int_equal(shared_load(&e, FIRST, &(struct shared_layout){.count = 5, .refs = 2}), 0);
    assert_int_not_equal(shared_load(&e, FIRST + 4, &(struct shared_layout){.count = 1, .refs = 2}),
                         0);
    shared_clear(&e);
}

/* ---- Keys ---- */

static void random_string(uint8_t *out, uint16_t len)
{
    static const uint8_t bytes[] = {0, 1, 2, 0xfe, 0xff, 'a'};
    for (uint16_t i = 0; i < len; i++)
        out[i] = bytes[(size_t)rand() % sizeof bytes];
}

static struct object_id random_id(uint8_t strings[24])
{
    struct object_id id = {.pool = (uint64_t)rand() % 2,
                           .hash = (uint32_t)rand() % 2,
                           .space = strings,
                           .space_len = (uint16_t)(rand() % 3),
                           .locator = strings + 16,
                           .locator_len = (uint16_t)(rand() % 3),
                           .name = strings + 8,
                           .name_len = (uint16_t)(1 + rand() % 4),
                           .snap = rand() % 2 ? OBJECT_HEAD : 7};
    random_string(strings, 24);
    if (object_locator_is_name(&id))
        id.locator_len = 0;
    return id;
}

static int sign(int n)
{
    return n < 0 ? -1 : n > 0;
}

static void keys_have_the_order_of_objects(void **state)
{
    (void)state;
    srand(1);
    for (int i = 0; i < 20000; i++) {
        uint8_t strings[2][24], key[2][ENGINE_KEY_MAX];
        uint8_t parsed[OBJECT_STRINGS_MAX];
        struct object_id a = random_id(strings[0]), b = random_id(strings[1]), c = {0};
        size_t len[2] = {object_key(&a, key[0]), object_key(&b, key[1])};
        int order = memcmp(key[0], key[1], len[0] < len[1] ? len[0] : len[1]);
        if (order == 0)
            order = (int)len[0] - (int)len[1];
        assert_int_equal(sign(order), sign(object_compare(&a, &b)));
        assert_int_equal(object_key_parse(key[0], len[0], &c, parsed), 0);
        assert_int_equal(object_compare(&a, &c), 0);
        for (size_t cut = 0; cut < len[0]; cut++)
            assert_int_not_equal(object_key_parse(key[0], cut, &c, parsed), 0);
    }
}

/* ---- Values, and bytes on disk ---- */

static struct chunk sample_chunk(void)
{
    struct chunk c = {.shared = 0x38};
    for (uint32_t i = 0; i < 6; i++) {
        c.block[i] = 1000 + i;
        c.crc[i] = 0x11111111 * (i + 1);
    }
    c.block[31] = 77;
    c.crc[31] = 0xdeadbeef;
    return c;
}

static void chunks_survive_encoding_and_damage_is_refused(void **state)
{
    struct chunk c = sample_chunk(), back;
    struct encoder value;
    struct decoder d;
    (void)state;
    encoder_init(&value);
    chunk_encode(&c, &value);
    test_golden("engine_chunk.hex", value.data, value.len);
    decoder_init(&d, value.data, value.len);
    assert_int_equal(chunk_decode(&d, BLOCKS, &back), 0);
    assert_int_equal(decoder_end(&d), 0);
    assert_memory_equal(back.block, c.block, sizeof c.block);
    assert_memory_equal(back.crc, c.crc, sizeof c.crc);
    assert_int_equal(back.shared, c.shared);
    decoder_init(&d, value.data, value.len);
    assert_int_not_equal(chunk_decode(&d, 1003, &back), 0);
    for (size_t cut = 0; cut < value.len; cut++) {
        decoder_init(&d, value.data, cut);
        assert_int_not_equal(chunk_decode(&d, BLOCKS, &back), 0);
    }
    encoder_fini(&value);
}

static void batches_are_read_back(void **state)
{
    struct encoder batch;
    struct decoder d;
    struct index_change c;
    (void)state;
    encoder_init(&batch);
    index_batch_put(&batch, "key", 3, "value", 5);
    index_batch_remove(&batch, "gone", 4);
    index_batch_remove_range(&batch, "a", 1, "bb", 2);
    test_golden("engine_batch.hex", batch.data, batch.len);
    decoder_init(&d, batch.data, batch.len);
    assert_int_equal(index_batch_next(&d, &c), 1);
    assert_int_equal(c.op, INDEX_PUT);
    assert_memory_equal(c.value, "value", 5);
    assert_int_equal(index_batch_next(&d, &c), 1);
    assert_int_equal(c.op, INDEX_REMOVE);
    assert_int_equal(index_batch_next(&d, &c), 1);
    assert_int_equal(c.op, INDEX_REMOVE_RANGE);
    assert_int_equal(index_batch_next(&d, &c), 0);
    encoder_fini(&batch);
}

/* A random change of pairs of three groups, or of a key of its own. */
static void random_change(struct encoder *batch, uint32_t step)
{
    uint8_t key[13 + 9] = {KEY_PG}, to[13 + 9];
    uint32_t number = (uint32_t)rand() % 64, end = number + 1 + (uint32_t)rand() % 40;
    if (rand() % 20 == 0) {
        key[0] = KEY_POOL;
        key[8] = (uint8_t)(number % 2);
        index_batch_put(batch, key, 9, &step, sizeof step);
        return;
    }
    key[12] = (uint8_t)(rand() % 3);
    key[13] = rand() % 4 == 0 ? 'r' : 'l';
    memcpy(to, key, sizeof to);
    key[21] = (uint8_t)number;
    to[21] = (uint8_t)end;
    switch (rand() % 8) {
    case 0:
        index_batch_remove(batch, key, sizeof key);
        break;
    case 1:
        index_batch_remove_range(batch, key, sizeof key, to, sizeof to);
        break;
    case 2:
        index_batch_remove_range(batch, key, 13, to, sizeof to);
        break;
    default:
        index_batch_put(batch, key, sizeof key, &step, 1 + step % sizeof step);
    }
}

static void assert_equal_indexes(struct index *a, struct index *b)
{
    const uint8_t from = 0, to = 0xff;
    struct index_iter *i, *j;
    const void *key[2], *value[2];
    size_t key_len[2], len[2];
    int more;
    assert_int_equal(index_iterate(a, &from, 1, &to, 1, false, true, &i), 0);
    assert_int_equal(index_iterate(b, &from, 1, &to, 1, false, true, &j), 0);
    do {
        more = index_next(a, i, &key[0], &key_len[0], &value[0], &len[0]);
        assert_int_equal(index_next(b, j, &key[1], &key_len[1], &value[1], &len[1]), more);
        if (more > 0) {
            assert_int_equal(key_len[0], key_len[1]);
            assert_int_equal(len[0], len[1]);
            assert_memory_equal(key[0], key[1], key_len[0]);
            assert_memory_equal(value[0], value[1], len[0]);
        }
    } while (more > 0);
    assert_int_equal(more, 0);
    a->ops->iter_free(i);
    b->ops->iter_free(j);
}

/* Whether the index learns of changes at once or later, it ends up the same. */
static void pairs_that_wait_make_the_same_index(void **state)
{
    (void)state;
    struct index_memory_disk *disks[2];
    struct index *index[2];
    struct engine e = {0};
    struct encoder batch;
    bool more;
    for (int i = 0; i < 2; i++) {
        disks[i] = index_memory_disk_create();
        assert_non_null(disks[i]);
        assert_int_equal(index_memory_open(disks[i], &index[i]), 0);
    }
    e.index = index[1];
    pairs_init(&e);
    encoder_init(&batch);
    srand(7);
    for (uint32_t step = 1; step < 20000; step++) {
        encoder_reset(&batch);
        for (int n = rand() % 4; n >= 0; n--)
            random_change(&batch, step);
        assert_int_equal(index_apply(index[0], &batch), 0);
        assert_int_equal(pairs_change(&e, &batch, step), 0);
        if (rand() % 100 == 0)
            assert_int_equal(pairs_save(&e, step - (uint32_t)rand() % 50, false, &more), 0);
        if (rand() % 400 == 0) {
            assert_int_equal(pairs_save(&e, UINT64_MAX, true, &more), 0);
            assert_false(more);
            assert_int_equal(e.pairs.memory, 0);
            assert_equal_indexes(index[0], index[1]);
        }
    }
    pairs_fini(&e);
    assert_int_equal(e.pairs.memory, 0);
    encoder_fini(&batch);
    for (int i = 0; i < 2; i++) {
        index[i]->ops->close(index[i]);
        index_memory_disk_destroy(disks[i]);
    }
}

/* ---- What only the ring has ---- */

enum { RING_BLOCKS = 64, RING_PAYLOAD = 3 };

/* Groups go round a small ring; blocks are few, so that each is written and forgotten often. */
static void the_ring_knows_the_newest_place_of_each_block(void **state)
{
    struct engine e = {.journal = {.bytes = RING_BLOCKS * BLOCK_BYTES}};
    uint32_t slot_of[40], crc_of[40]; /* What it should know; UINT32_MAX: nothing. */
    uint64_t head = 0;
    (void)state;
    memset(slot_of, 0xff, sizeof slot_of);
    TAILQ_INIT(&e.cache.clean);
    assert_int_equal(ring_init(&e), 0);
    for (uint32_t step = 0; step < 20000; step++) {
        struct cblock blocks[RING_PAYLOAD] = {0};
        struct cblock *payload[RING_PAYLOAD];
        struct group g = {.payload = payload, .n_payload = RING_PAYLOAD};
        /* What the group will stand on has been put in place. */
        for (uint32_t n = 0; n < RING_PAYLOAD; n++)
            for (uint32_t b = 1; b < 40; b++)
                if (slot_of[b] == (head / BLOCK_BYTES + n) % RING_BLOCKS) {
                    ring_forget(&e, b);
                    slot_of[b] = UINT32_MAX;
                }
        for (uint32_t n = 0; n < RING_PAYLOAD; n++) {
            uint32_t b = 1 + n * 13 + (uint32_t)rand() % 13, crc = (uint32_t)rand();
            bool superseded = rand() % 5 == 0;
            blocks[n] = (struct cblock){
                .block = b, .crc = crc, .state = superseded ? CBLOCK_DETACHED : CBLOCK_DIRTY};
            payload[n] = &blocks[n];
            ring_forget(&e, b);
            e.cache.n_dirty++;
            slot_of[b] = superseded ? UINT32_MAX : (uint32_t)(head / BLOCK_BYTES + n) % RING_BLOCKS;
            crc_of[b] = crc;
        }
        head += (uint64_t)RING_PAYLOAD * BLOCK_BYTES;
        g.end = head;
        ring_take(&e, &g);
        TAILQ_INIT(&e.cache.clean); /* They are on the stack. */
        assert_true(e.ring.end == head);
        uint32_t known = 0;
        for (uint32_t b = 1; b < 40; b++) {
            uint32_t slot;
            bool found = ring_find(&e, b, &slot);
            assert_int_equal(found, slot_of[b] != UINT32_MAX);
            known += found;
            if (found)
                assert_true(slot == slot_of[b] && e.ring.slots[slot].crc == crc_of[b]);
        }
        assert_int_equal(e.ring.n, known);
    }
    ring_fini(&e);
}

static void the_ring_is_not_written_where_somebody_reads(void **state)
{
    struct engine e = {.journal = {.bytes = RING_BLOCKS * BLOCK_BYTES}};
    struct ring_read first, second;
    struct journal *j = &e.journal;
    (void)state;
    assert_int_equal(ring_init(&e), 0);
    j->tail = j->trimmed = (uint64_t)(RING_BLOCKS + 60) * BLOCK_BYTES;
    j->head = j->tail + (uint64_t)20 * BLOCK_BYTES;
    ring_read_begin(&e, &first, 62);
    ring_read_begin(&e, &second, 3); /* Behind the ring's end. */
    assert_true(first.position == (uint64_t)(RING_BLOCKS + 62) * BLOCK_BYTES);
    assert_true(second.position == (uint64_t)(2 * RING_BLOCKS + 3) * BLOCK_BYTES);
    assert_true(ring_reads_from(&e) == first.position);
    LIST_REMOVE(&first, link);
    assert_true(ring_reads_from(&e) == second.position);
    LIST_REMOVE(&second, link);
    assert_true(ring_reads_from(&e) == UINT64_MAX);
    ring_fini(&e);
}

/* ---- Placing ---- */

static const struct env_task *deferred[4];
static unsigned n_deferred;

static uint64_t standing_clock(struct env *env)
{
    (void)env;
    return SEC_NS;
}

static void note_deferred(struct env *env, struct env_task *task)
{
    (void)env;
    assert_true(n_deferred < 4);
    deferred[n_deferred++] = task;
}

static void ignore_timer(struct env *env, struct env_timer *timer, uint64_t deadline_ns)
{
    (void)env, (void)timer, (void)deadline_ns;
}

/* Writers wait for a batch, and no batch is started, since nothing is left of what waited. */
static void writers_go_on_when_all_that_waited_was_superseded(void **state)
{
    const struct env_ops ops = {
        .now_ns = standing_clock, .defer = note_deferred, .timer_arm = ignore_timer};
    struct env env = {.ops = &ops};
    struct engine e = {.env = &env,
                       .options.memory_target = 64 << 20,
                       .journal = {.bytes = RING_BLOCKS * BLOCK_BYTES}};
    (void)state;
    n_deferred = 0;
    assert_int_equal(ring_init(&e), 0);
    assert_int_equal(checkpoint_init(&e), 0);
    e.journal.head = e.ring.end = (uint64_t)(RING_BLOCKS - 4) * BLOCK_BYTES;
    assert_true(place_behind(&e));
    place_kick(&e);
    assert_false(place_busy(&e));
    assert_false(place_behind(&e));
    assert_int_equal(n_deferred, 1);
    assert_ptr_equal(deferred[0], &e.pump_task);
    place_kick(&e); /* Nobody waits any more. */
    assert_int_equal(n_deferred, 1);
    checkpoint_fini(&e);
    ring_fini(&e);
}

/* ---- The block cache ---- */

static void what_is_put_in_place_stays_in_the_cache(void **state)
{
    enum { CACHED = 10, HELD = 4, FIT = 6 };
    struct engine e = {.cache.limit_bytes = FIT * (BLOCK_BYTES + sizeof(struct cblock))};
    struct cblock *c[CACHED];
    (void)state;
    TAILQ_INIT(&e.cache.clean);
    for (uint32_t i = 0; i < CACHED; i++) {
        uint8_t *data = cache_data_alloc(&e);
        assert_non_null(data);
        c[i] = cache_insert(&e, 1 + i, i, data, CBLOCK_CLEAN);
        assert_non_null(c[i]);
    }
    for (uint32_t i = 0; i < HELD; i++) /* The oldest. */
        cache_hold(&e, c[i]);
    cache_shrink(&e);
    assert_int_equal(e.cache.n_held, HELD);
    assert_int_equal(e.cache.n_clean, FIT - HELD);
    for (uint32_t i = 0; i < CACHED; i++)
        assert_true((cache_look(&e, 1 + i) != NULL) == (i < HELD || i >= CACHED - (FIT - HELD)));
    cache_forget(&e, 1); /* Overwritten, while it is put in place. */
    assert_int_equal(e.cache.n_detached, 1);
    for (uint32_t i = 0; i < HELD; i++)
        cache_let_go(&e, c[i]);
    assert_int_equal(e.cache.n_detached + e.cache.n_held, 0);
    e.cache.limit_bytes = FIT / 2 * (BLOCK_BYTES + sizeof(struct cblock));
    cache_shrink(&e);
    assert_int_equal(e.cache.n_clean, FIT / 2);
    assert_non_null(cache_look(&e, CACHED)); /* What was put in place goes first. */
    cache_fini(&e);
}

static void superblocks_keep_their_bytes(void **state)
{
    struct super_layout s = {.magic = SUPER_MAGIC,
                             .version = ENGINE_VERSION,
                             .flags = SUPER_CLEAN,
                             .uuid = {1, 2, 3},
                             .generation = 9,
                             .mount = 3,
                             .size = 1 << 28,
                             .journal_bytes = 4 << 20,
                             .data_offset = 5 << 20,
                             .tail_offset = 8192,
                             .tail_sequence = 5,
                             .tail_record = 6,
                             .salt = 0x0102030405060708};
    (void)state;
    super_seal(&s);
    test_golden("engine_super.hex", &s, sizeof s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocator_gives_each_block_once),
        cmocka_unit_test(allocator_takes_the_longest_of_the_next_runs),
        cmocka_unit_test(allocator_refuses_to_mark_twice),
        cmocka_unit_test(shared_extents_count_references),
        cmocka_unit_test(shared_records_outside_the_disk_are_refused),
        cmocka_unit_test(keys_have_the_order_of_objects),
        cmocka_unit_test(chunks_survive_encoding_and_damage_is_refused),
        cmocka_unit_test(batches_are_read_back),
        cmocka_unit_test(pairs_that_wait_make_the_same_index),
        cmocka_unit_test(the_ring_knows_the_newest_place_of_each_block),
        cmocka_unit_test(the_ring_is_not_written_where_somebody_reads),
        cmocka_unit_test(writers_go_on_when_all_that_waited_was_superseded),
        cmocka_unit_test(what_is_put_in_place_stays_in_the_cache),
        cmocka_unit_test(superblocks_keep_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
