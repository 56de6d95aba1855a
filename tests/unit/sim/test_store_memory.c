/* The store in memory: transactions, reads, listings, closing, crashes. */
#include "tests/lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/store_memory.h"
#include "tests/sim/env_sim.h"

#define LATENCY_NS (200 * 1000)

enum { POOL = 7, TXNS_MAX = 64 };

static const struct pg_id pg = {.pool = POOL, .seed = 3};

struct fixture {
    struct sim *sim;
    struct sim_node *node;
    struct env *env;
    struct store_memory_disk *disk;
    struct store *store;
    bool closed;
};

/* A transaction that remembers its end. */
struct tracked_txn {
    struct store_txn txn;
    uint32_t done;
    int error;
};

static uint32_t done_order;

static struct object_id name_id(const char *name)
{
    return (struct object_id){
        .pool = POOL,
        .hash = 0x80000000u,
        .name = (const uint8_t *)name,
        .name_len = (uint16_t)strlen(name),
        .snap = OBJECT_HEAD,
    };
}

static struct fixture *fixture_create(uint64_t seed)
{
    static const struct entity_name entity = {.type = ENTITY_OSD, .id = "0"};
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->sim = sim_create(&(struct sim_options){.seed = seed});
    f->node = sim_node_create(f->sim, "osd.0", &entity);
    f->env = sim_process_start(f->node);
    f->disk = store_memory_disk_create(UINT64_C(1) << 30);
    assert_non_null(f->disk);
    assert_int_equal(store_memory_open(f->env, f->disk, LATENCY_NS, &f->store), 0);
    done_order = 0;
    return f;
}

static void fixture_crash(struct fixture *f)
{
    sim_process_freeze(f->node);
    store_memory_crash(f->store);
    sim_process_end(f->node, SIM_CRASH);
    f->env = sim_process_start(f->node);
    assert_int_equal(store_memory_open(f->env, f->disk, LATENCY_NS, &f->store), 0);
}

static void note_closed(void *ctx)
{
    ((struct fixture *)ctx)->closed = true;
}

static void run_for(struct fixture *f, uint64_t ns)
{
    sim_run(f->sim, sim_now(f->sim) + ns);
}

static void fixture_destroy(struct fixture *f)
{
    f->store->ops->close(f->store, note_closed, f);
    assert_false(f->closed);
    run_for(f, SEC_NS);
    assert_true(f->closed);
    sim_process_freeze(f->node);
    sim_process_end(f->node, SIM_EXIT);
    sim_destroy(f->sim);
    store_memory_disk_destroy(f->disk);
    free(f);
}

static void note_done(struct store_txn *txn, int error)
{
    struct tracked_txn *tracked = container_of(txn, struct tracked_txn, txn);
    tracked->done = ++done_order;
    tracked->error = error;
}

static void tracked_init(struct tracked_txn *tracked, const char *data)
{
    memset(tracked, 0, sizeof *tracked);
    txn_init(&tracked->txn);
    tracked->txn.done = note_done;
    if (data)
        assert_int_equal(buf_slice_copy(data, strlen(data), &tracked->txn.data), 0);
}

static void commit(struct fixture *f, struct tracked_txn *tracked)
{
    store_submit(f->store, &tracked->txn);
    assert_int_equal(tracked->done, 0);
    run_for(f, SEC_NS);
    assert_true(tracked->done > 0);
    assert_int_equal(tracked->error, 0);
    txn_fini(&tracked->txn);
}

static void put(struct fixture *f, const char *name, uint64_t offset, const char *data)
{
    struct tracked_txn tracked;
    struct object_id id = name_id(name);
    tracked_init(&tracked, data);
    txn_object(&tracked.txn, &id);
    txn_write(&tracked.txn, offset, strlen(data), 0);
    commit(f, &tracked);
}

static void note_read(struct store_read *read)
{
    read->done = NULL;
}

static struct store_read get(struct fixture *f, const char *name, uint64_t offset, uint64_t len)
{
    struct store_read read = {
        .object = name_id(name), .offset = offset, .len = len, .want_attrs = true};
    read.done = note_read;
    store_read(f->store, &read);
    assert_non_null(read.done);
    run_for(f, SEC_NS);
    assert_null(read.done);
    return read;
}

static void drop(struct store_read *read)
{
    buf_slice_drop(&read->data);
    encoder_fini(&read->attrs);
}

static void assert_reads(struct fixture *f, const char *name, const char *want, size_t len)
{
    struct store_read read = get(f, name, 0, UINT64_MAX);
    assert_int_equal(read.error, 0);
    assert_int_equal(read.stat.size, len);
    assert_int_equal(read.data.len, len);
    assert_memory_equal(read.data.data, want, len);
    drop(&read);
}

static void assert_absent(struct fixture *f, const char *name)
{
    struct store_read read = get(f, name, 0, 1);
    assert_int_equal(read.error, -ENOENT);
    assert_false(read.stat.exists);
    drop(&read);
}

/* ---- Objects ---- */

static void reads_what_was_written(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(1);
    put(f, "a", 0, "hello");
    put(f, "a", 8, "world");
    assert_reads(f, "a", "hello\0\0\0world", 13);
    struct store_read read = get(f, "a", 6, 4);
    assert_int_equal(read.data.len, 4);
    assert_memory_equal(read.data.data, "\0\0wo", 4);
    drop(&read);
    read = get(f, "a", 13, 10);
    assert_int_equal(read.error, 0);
    assert_int_equal(read.data.len, 0);
    drop(&read);
    assert_absent(f, "b");
    fixture_destroy(f);
}

static void keeps_holes_and_chunk_borders_right(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(2);
    enum { SIZE = 200000 };
    char *want = calloc(1, SIZE);
    assert_non_null(want);
    put(f, "a", 65530, "0123456789ab");
    memcpy(want + 65530, "0123456789ab", 12);
    put(f, "a", SIZE - 1, "z");
    want[SIZE - 1] = 'z';
    assert_reads(f, "a", want, SIZE);
    struct tracked_txn tracked;
    struct object_id id = name_id("a");
    tracked_init(&tracked, NULL);
    txn_object(&tracked.txn, &id);
    txn_zero(&tracked.txn, 65534, 4);
    txn_truncate(&tracked.txn, 65540);
    txn_truncate(&tracked.txn, SIZE);
    commit(f, &tracked);
    memset(want + 65534, 0, 4);
    memset(want + 65540, 0, SIZE - 65540);
    assert_reads(f, "a", want, SIZE);
    free(want);
    fixture_destroy(f);
}

static void zero_extends_and_empty_write_creates(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(3);
    struct tracked_txn tracked;
    struct object_id a = name_id("a"), b = name_id("b");
    tracked_init(&tracked, NULL);
    txn_object(&tracked.txn, &a);
    txn_zero(&tracked.txn, 2, 2);
    txn_object(&tracked.txn, &b);
    txn_write(&tracked.txn, 100, 0, 0);
    commit(f, &tracked);
    assert_reads(f, "a", "\0\0\0\0", 4);
    assert_reads(f, "b", "", 0);
    fixture_destroy(f);
}

static void removes_and_renames(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(4);
    struct tracked_txn tracked;
    struct object_id a = name_id("a"), b = name_id("b"), c = name_id("c");
    put(f, "a", 0, "from a");
    put(f, "b", 0, "from b");
    tracked_init(&tracked, NULL);
    txn_object(&tracked.txn, &a);
    txn_rename(&tracked.txn, &b);
    txn_object(&tracked.txn, &c);
    txn_remove(&tracked.txn);
    txn_rename(&tracked.txn, &a);
    txn_remove_attr(&tracked.txn, "x", 1);
    commit(f, &tracked);
    assert_absent(f, "a");
    assert_absent(f, "c");
    assert_reads(f, "b", "from a", 6);
    tracked_init(&tracked, NULL);
    txn_object(&tracked.txn, &b);
    txn_rename(&tracked.txn, &b);
    commit(f, &tracked);
    assert_reads(f, "b", "from a", 6);
    tracked_init(&tracked, NULL);
    txn_object(&tracked.txn, &b);
    txn_remove(&tracked.txn);
    commit(f, &tracked);
    assert_absent(f, "b");
    assert_int_equal(store_memory_bytes_used(f->disk), 0);
    fixture_destroy(f);
}

static void keeps_info_and_attributes(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(5);
    struct tracked_txn tracked;
    struct object_id a = name_id("a");
    tracked_init(&tracked, NULL);
    txn_object(&tracked.txn, &a);
    txn_set_info(&tracked.txn, "one", 3);
    txn_set_info(&tracked.txn, "version", 7);
    txn_set_attr(&tracked.txn, "b", 1, "2", 1);
    txn_set_attr(&tracked.txn, "a", 1, "0", 1);
    txn_set_attr(&tracked.txn, "a", 1, "", 0);
    txn_set_attr(&tracked.txn, "gone", 4, "x", 1);
    txn_remove_attr(&tracked.txn, "gone", 4);
    commit(f, &tracked);
    struct store_read read = get(f, "a", 0, 0);
    assert_int_equal(read.stat.info_len, 7);
    assert_memory_equal(read.stat.info, "version", 7);
    static const uint8_t want[] = {1, 0, 'a', 0, 0, 0, 0, 1, 0, 'b', 1, 0, 0, 0, '2'};
    assert_int_equal(read.attrs.len, sizeof want);
    assert_memory_equal(read.attrs.data, want, sizeof want);
    drop(&read);
    fixture_destroy(f);
}

static void refuses_malformed_transactions_whole(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(6);
    struct tracked_txn tracked;
    struct object_id a = name_id("a");
    tracked_init(&tracked, NULL);
    txn_object(&tracked.txn, &a);
    txn_touch(&tracked.txn);
    txn_write(&tracked.txn, 0, 1, 0); /* There is no data. */
    store_submit(f->store, &tracked.txn);
    run_for(f, SEC_NS);
    assert_int_equal(tracked.error, -EBADMSG);
    txn_fini(&tracked.txn);
    assert_absent(f, "a");
    fixture_destroy(f);
}

/* ---- Listing ---- */

static void note_list(struct store_list *list)
{
    list->done = NULL;
}

static void lists_in_hash_order_page_by_page(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(7);
    struct tracked_txn tracked;
    tracked_init(&tracked, NULL);
    enum { N = 100 };
    char names[N][8];
    for (uint32_t i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "o%u", i);
        struct object_id id = name_id(names[i]);
        id.hash = i * UINT32_C(2654435761) & ~1u;
        if (i % 10 == 0)
            id.pool = POOL + 1;
        txn_object(&tracked.txn, &id);
        txn_set_info(&tracked.txn, names[i], 2);
    }
    commit(f, &tracked);
    uint32_t n = 0, pages = 0;
    struct object_id *after = NULL;
    bool end = false;
    while (!end) {
        struct store_list list = {
            .pool = POOL, .last = UINT32_MAX, .after = after, .max = 7, .done = note_list};
        store_list(f->store, &list);
        run_for(f, SEC_NS);
        assert_null(list.done);
        assert_int_equal(list.error, 0);
        for (uint32_t i = 0; i < list.n; i++) {
            const struct store_list_entry *entry = &list.entries[i];
            assert_int_equal(entry->info_len, 2);
            assert_memory_equal(entry->info, entry->id.name, 2);
            if (after)
                assert_true(object_compare(after, &entry->id) < 0);
            free(after);
            after = object_id_copy(&entry->id);
            n++;
        }
        end = list.end;
        assert_true(end || list.n == 7);
        list_fini(&list);
        pages++;
    }
    free(after);
    assert_int_equal(n, 90);
    assert_int_equal(pages, 13);
    struct store_list half = {
        .pool = POOL, .first = 0x80000000u, .last = UINT32_MAX, .max = 1024, .done = note_list};
    store_list(f->store, &half);
    run_for(f, SEC_NS);
    /* Hashes are even, so none has its lowest bit, the first of the order, set. */
    assert_int_equal(half.n, 0);
    assert_true(half.end);
    list_fini(&half);
    fixture_destroy(f);
}

/* ---- Placement groups ---- */

static void note_pg_read(struct store_pg_read *read)
{
    read->done = NULL;
}

static struct store_pg_read pg_get(struct fixture *f, const char *from, const char *to,
                                   uint32_t max, bool reverse)
{
    struct store_pg_read read = {.pg = pg, .max = max, .reverse = reverse, .done = note_pg_read};
    read.from_len = (uint16_t)strlen(from);
    read.to_len = (uint16_t)strlen(to);
    memcpy(read.from, from, read.from_len);
    memcpy(read.to, to, read.to_len);
    store_pg_read(f->store, &read);
    run_for(f, SEC_NS);
    assert_null(read.done);
    assert_int_equal(read.error, 0);
    return read;
}

static void assert_keys(struct fixture *f, const char *from, const char *to, uint32_t max,
                        bool reverse, const char *want)
{
    struct store_pg_read read = pg_get(f, from, to, max, reverse);
    struct decoder d;
    char keys[64] = "";
    decoder_init(&d, read.pairs.data, read.pairs.len);
    while (decoder_left(&d) > 0) {
        uint16_t key_len;
        uint32_t value_len;
        const char *key = decode_string16(&d, &key_len);
        const char *value = decode_string32(&d, &value_len);
        assert_non_null(key);
        assert_non_null(value);
        assert_int_equal(value_len, 1);
        strncat(keys, key, key_len);
    }
    assert_int_equal(decoder_end(&d), 0);
    assert_string_equal(keys, want);
    assert_int_equal(read.n, strlen(want));
    encoder_fini(&read.pairs);
}

static void put_keys(struct fixture *f, const char *keys)
{
    struct tracked_txn tracked;
    tracked_init(&tracked, NULL);
    for (; *keys; keys++)
        txn_pg_set(&tracked.txn, pg, keys, 1, keys, 1);
    commit(f, &tracked);
}

static void count_pg(void *ctx, struct pg_id id)
{
    assert_true(pg_id_equal(id, pg));
    ++*(uint32_t *)ctx;
}

static void keeps_pairs_in_order(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(8);
    struct tracked_txn tracked;
    uint32_t n = 0;
    assert_int_equal(f->store->ops->pgs(f->store, count_pg, &n), 0);
    assert_int_equal(n, 0);
    put_keys(f, "dbface");
    assert_keys(f, "", "z", 0, false, "abcdef");
    assert_keys(f, "b", "e", 0, false, "bcd");
    assert_keys(f, "b", "e", 0, true, "dcb");
    assert_keys(f, "", "z", 2, true, "fe");
    assert_keys(f, "", "z", 2, false, "ab");
    assert_keys(f, "g", "z", 0, true, "");
    assert_keys(f, "", "a", 0, true, "");
    assert_keys(f, "c", "c", 0, false, "");
    assert_int_equal(f->store->ops->pgs(f->store, count_pg, &n), 0);
    assert_int_equal(n, 1);
    tracked_init(&tracked, NULL);
    txn_pg_remove_range(&tracked.txn, pg, "b", 1, "e", 1);
    commit(f, &tracked);
    assert_keys(f, "", "z", 0, false, "aef");
    tracked_init(&tracked, NULL);
    txn_pg_remove_range(&tracked.txn, pg, "", 0, "z", 1);
    commit(f, &tracked);
    n = 0;
    assert_int_equal(f->store->ops->pgs(f->store, count_pg, &n), 0);
    assert_int_equal(n, 0);
    fixture_destroy(f);
}

/* ---- Order and crashes ---- */

static void commits_in_order_of_submission(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(9);
    struct tracked_txn tracked[TXNS_MAX];
    for (uint32_t i = 0; i < TXNS_MAX; i++) {
        tracked_init(&tracked[i], NULL);
        txn_pg_set(&tracked[i].txn, pg, "k", 1, "v", 1);
        store_submit(f->store, &tracked[i].txn);
        if (i % 5 == 0)
            run_for(f, LATENCY_NS / 3);
    }
    run_for(f, SEC_NS);
    for (uint32_t i = 0; i < TXNS_MAX; i++) {
        assert_int_equal(tracked[i].done, i + 1);
        txn_fini(&tracked[i].txn);
    }
    fixture_destroy(f);
}

static void crash_keeps_a_prefix_with_all_that_was_done(void **state)
{
    (void)state;
    uint32_t more_than_done = 0, less_than_all = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct fixture *f = fixture_create(seed);
        struct tracked_txn tracked[26];
        for (uint32_t i = 0; i < 26; i++) {
            char key = (char)('a' + i);
            tracked_init(&tracked[i], NULL);
            txn_pg_set(&tracked[i].txn, pg, &key, 1, "v", 1);
            store_submit(f->store, &tracked[i].txn);
            run_for(f, sim_below(f->sim, LATENCY_NS / 4));
        }
        uint32_t done = done_order;
        fixture_crash(f);
        assert_int_equal(done_order, done);
        struct store_pg_read read = pg_get(f, "", "zz", 0, false);
        assert_true(read.n >= done && read.n <= 26);
        /* Keys are "a".. without a gap, each with its length, and "v" with its. */
        for (uint32_t i = 0; i < read.n; i++)
            assert_int_equal(read.pairs.data[i * 8 + 2], 'a' + i);
        encoder_fini(&read.pairs);
        more_than_done += read.n > done;
        less_than_all += read.n < 26;
        for (uint32_t i = 0; i < 26; i++)
            txn_fini(&tracked[i].txn);
        fixture_destroy(f);
    }
    assert_true(more_than_done > 0);
    assert_true(less_than_all > 0);
}

static void close_waits_for_what_is_under_way(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(10);
    struct tracked_txn tracked;
    struct object_id id = name_id("a");
    tracked_init(&tracked, "x");
    txn_object(&tracked.txn, &id);
    txn_write(&tracked.txn, 0, 1, 0);
    store_submit(f->store, &tracked.txn);
    struct store_read read = {.object = id, .len = 1, .done = note_read};
    store_read(f->store, &read);
    fixture_destroy(f);
    assert_int_equal(tracked.done, 1);
    assert_null(read.done);
    drop(&read);
    txn_fini(&tracked.txn);
}

static void reports_space(void **state)
{
    (void)state;
    struct fixture *f = fixture_create(11);
    struct store_statfs statfs;
    put(f, "a", 100, "0123456789");
    f->store->ops->statfs(f->store, &statfs);
    assert_int_equal(statfs.bytes_used, 110);
    assert_true(statfs.bytes_total == UINT64_C(1) << 30);
    assert_true(statfs.bytes_available == statfs.bytes_total - 110);
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_was_written),
        cmocka_unit_test(keeps_holes_and_chunk_borders_right),
        cmocka_unit_test(zero_extends_and_empty_write_creates),
        cmocka_unit_test(removes_and_renames),
        cmocka_unit_test(keeps_info_and_attributes),
        cmocka_unit_test(refuses_malformed_transactions_whole),
        cmocka_unit_test(lists_in_hash_order_page_by_page),
        cmocka_unit_test(keeps_pairs_in_order),
        cmocka_unit_test(commits_in_order_of_submission),
        cmocka_unit_test(crash_keeps_a_prefix_with_all_that_was_done),
        cmocka_unit_test(close_waits_for_what_is_under_way),
        cmocka_unit_test(reports_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
