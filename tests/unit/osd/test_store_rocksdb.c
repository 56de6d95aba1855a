/*
 * What is special to the store on RocksDB: its bytes, crashes, damage and failing disks.
 */
#include "tests/lib/test.h"
#include "tests/unit/osd/store_fixture.h"

#include "common/env_real.h"
#include "osd/store/rocksdb_layout.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *store_path(const struct store_fixture *f)
{
    static char path[300];
    (void)snprintf(path, sizeof path, "%s/store", f->path);
    return path;
}

/* ---- Bytes ---- */

static void golden_bytes_of_keys_and_records(void **state)
{
    (void)state;
    struct encoder e;
    uint8_t key[ROCKS_OBJECT_KEY_MAX];
    struct object_id id = {.pool = 0x0102030405060708,
                           .hash = 0x11223344,
                           .space = (const uint8_t *)"s\0",
                           .space_len = 2,
                           .name = (const uint8_t *)"n\377",
                           .name_len = 2,
                           .snap = OBJECT_HEAD};
    const struct rocks_object record = {.version = ROCKS_VERSION,
                                        .flags = ROCKS_OBJECT_ATTRS,
                                        .info_len = 5,
                                        .size = 0x1234567,
                                        .data = 0x89abcdef};
    const struct rocks_format format = {.magic = ROCKS_MAGIC,
                                        .version = ROCKS_VERSION,
                                        .chunk_bytes = ROCKS_CHUNK_BYTES,
                                        .bytes_total = UINT64_C(10) << 30};
    const struct rocks_state counters = {.bytes_used = 77, .next_data = 78};
    encoder_init(&e);
    encode_bytes(&e, key, rocks_object_key(&id, key));
    encode_bytes(&e, key, rocks_object_key_first(7, 0xfedcba98, key));
    encode_bytes(&e, key, rocks_data_key(0x1122334455667788, 0x99aabbcc, key));
    encode_bytes(&e, key, rocks_attr_key(0x1122334455667788, "attr", 4, key));
    encode_bytes(&e, key, rocks_pg_key((struct pg_id){9, 0x31}, "key", 3, key));
    encode_bytes(&e, &record, sizeof record);
    encode_bytes(&e, &format, sizeof format);
    encode_bytes(&e, &counters, sizeof counters);
    test_golden("store_rocksdb.hex", e.data, e.len);
    encoder_fini(&e);
}

static size_t random_text(uint32_t *random, uint8_t *out, size_t max)
{
    static const uint8_t bytes[] = {0, 0, 1, 'a', 254, 255, 255};
    *random = *random * 1664525u + 1013904223u;
    size_t len = (*random >> 16) % (max + 1);
    for (size_t i = 0; i < len; i++) {
        *random = *random * 1664525u + 1013904223u;
        out[i] = bytes[(*random >> 16) % sizeof bytes];
    }
    return len;
}

static struct object_id random_id(uint32_t *random, struct rocks_object_names *names)
{
    struct object_id id = {.space = names->space, .name = names->name};
    id.space_len = (uint16_t)random_text(random, names->space, 3);
    id.name_len = (uint16_t)random_text(random, names->name, 4);
    id.pool = 1 + (*random >> 30);
    id.hash = *random & 3;
    id.snap = (*random >> 4) & 1 ? OBJECT_HEAD : 5;
    return id;
}

static void keys_sort_as_objects_do_and_come_back(void **state)
{
    (void)state;
    uint32_t random = 1;
    for (int i = 0; i < 100000; i++) {
        struct rocks_object_names names_a, names_b, names_c;
        struct object_id a = random_id(&random, &names_a), b = random_id(&random, &names_b), c;
        uint8_t key_a[ROCKS_OBJECT_KEY_MAX], key_b[ROCKS_OBJECT_KEY_MAX];
        size_t len_a = rocks_object_key(&a, key_a), len_b = rocks_object_key(&b, key_b);
        int order = memcmp(key_a, key_b, len_a < len_b ? len_a : len_b);
        order = order ? order : (len_a > len_b) - (len_a < len_b);
        int expected = object_compare(&a, &b);
        assert_int_equal((order > 0) - (order < 0), (expected > 0) - (expected < 0));
        assert_int_equal(rocks_object_key_decode(key_a, len_a, &names_c, &c), 0);
        assert_int_equal(object_compare(&a, &c), 0);
        /* A key that ends early, or goes on, is no key. */
        assert_int_equal(rocks_object_key_decode(key_a, len_a - 1, &names_c, &c), -ELIMPET_CORRUPT);
    }
}

static void longest_names_fit(void **state)
{
    struct store_fixture *f = *state;
    static uint8_t zeroes[OBJECT_NAME_MAX];
    struct object_id id = {.pool = UINT64_MAX,
                           .hash = UINT32_MAX,
                           .space = zeroes,
                           .space_len = OBJECT_NAMESPACE_MAX,
                           .name = zeroes,
                           .name_len = OBJECT_NAME_MAX,
                           .snap = OBJECT_HEAD};
    write_object(f, &id, 0, "x", 1);
    assert_object(f, &id, "x", 1);
    struct store_list list = {.pool = UINT64_MAX, .last = UINT32_MAX, .max = 10};
    run_list(f, &list);
    assert_int_equal(list.n, 1);
    struct object_id *after = object_id_copy(&list.entries[0].id);
    list_fini(&list);
    list = (struct store_list){.pool = UINT64_MAX, .last = UINT32_MAX, .max = 10, .after = after};
    run_list(f, &list);
    assert_int_equal(list.n, 0);
    assert_true(list.end);
    list_fini(&list);
    free(after);
}

/* ---- Opening ---- */

static void refuses_to_open_what_is_not_there_or_in_use(void **state)
{
    struct store_fixture *f = *state;
    struct store *other;
    char path[320];
    (void)snprintf(path, sizeof path, "%s/missing", f->path);
    assert_int_equal(store_rocksdb_open(f->env, path, false, 0, &other), -ENOENT);
    assert_int_equal(store_rocksdb_open(f->env, store_path(f), true, 1, &other), -EEXIST);
    assert_int_equal(store_rocksdb_open(f->env, store_path(f), false, 0, &other), -EBUSY);
    (void)snprintf(path, sizeof path, "%s/no/such/parent", f->path);
    assert_int_equal(store_rocksdb_open(f->env, path, true, 1, &other), -ENOENT);
    fixture_close(f);
    /* A folder with something else in it. */
    assert_int_equal(store_rocksdb_open(f->env, f->path, false, 0, &other), -ENOENT);
}

/* ---- Crashes ---- */

enum { CRASH_ROUNDS = 6, CRASH_IN_FLIGHT = 24, CRASH_BYTES = 20000 };

/* One write of the child: object N holds its number, and so does a pair of the group. */
struct crash_txn {
    struct store_txn txn;
    uint32_t number;
    char name[16];
    struct crash_child *child;
};

struct crash_child {
    struct store *store;
    int report; /* A pipe: the number of each transaction that is done. */
    uint32_t next;
};

static struct object_id crash_object(char name[16], uint32_t number)
{
    (void)snprintf(name, 16, "%08u", number);
    return object_named(name, number % 7);
}

static void crash_submit(struct crash_txn *t);

static void crash_done(struct store_txn *txn, int error)
{
    struct crash_txn *t = container_of(txn, struct crash_txn, txn);
    if (error != 0 || write(t->child->report, &t->number, sizeof t->number) != sizeof t->number)
        _exit(1);
    txn_fini(txn);
    crash_submit(t);
}

static void crash_submit(struct crash_txn *t)
{
    uint8_t data[CRASH_BYTES];
    t->number = t->child->next++;
    memset(data, (int)(t->number % 251), sizeof data);
    struct object_id id = crash_object(t->name, t->number);
    uint32_t key = htobe32(t->number);
    txn_init(&t->txn);
    txn_data(&t->txn, data, sizeof data);
    txn_object(&t->txn, &id);
    txn_write(&t->txn, 0, sizeof data, 0);
    txn_set_info(&t->txn, &t->number, sizeof t->number);
    txn_pg_set(&t->txn, (struct pg_id){1, 0}, &key, sizeof key, &t->number, sizeof t->number);
    t->txn.done = crash_done;
    store_submit(t->child->store, &t->txn);
}

/* The child's whole life: writes until it is killed. */
static void crash_child_run(const char *path, uint32_t first, int report)
{
    const struct env_real_options options = {.mode = NET_MODE_INTEGRITY};
    static struct crash_txn txns[CRASH_IN_FLIGHT];
    struct crash_child child = {.report = report, .next = first};
    struct env *env;
    if (env_real_create(&options, &env) != 0 ||
        store_rocksdb_open(env, path, false, 0, &child.store) != 0)
        _exit(2);
    for (int i = 0; i < CRASH_IN_FLIGHT; i++) {
        txns[i].child = &child;
        crash_submit(&txns[i]);
    }
    for (;;)
        env_real_turn(env, true);
}

/* This program again, as a child: one that was forked has only part of its parent's threads. */
static void crash_child_exec(const char *path, uint32_t first, int report)
{
    char first_text[16], report_text[16];
    (void)snprintf(first_text, sizeof first_text, "%u", first);
    (void)snprintf(report_text, sizeof report_text, "%d", report);
    (void)execl("/proc/self/exe", "test_store_rocksdb", "crash-child", path, first_text,
                report_text, NULL);
    _exit(3);
}

/* Lets a child write until some number was reported, then kills it; returns the last number. */
static uint32_t crash_once(const char *path, uint32_t first, uint32_t kill_at)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(ends[0]);
        crash_child_exec(path, first, ends[1]);
    }
    (void)close(ends[1]);
    uint32_t number, last = first - 1;
    while (read(ends[0], &number, sizeof number) == sizeof number) {
        assert_int_equal(number, last + 1);
        last = number;
        if (number == kill_at)
            assert_int_equal(kill(pid, SIGKILL), 0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    (void)close(ends[0]);
    return last;
}

/* The store holds transactions 0 .. n - 1, each whole, and no more; returns n. */
static uint32_t crash_check(struct store_fixture *f)
{
    struct store_pg_read pairs = {.pg = {1, 0}, .to = {255}, .to_len = 1};
    run_pg_read(f, &pairs);
    uint32_t n = pairs.n;
    struct decoder d;
    decoder_init(&d, pairs.pairs.data, pairs.pairs.len);
    for (uint32_t i = 0; i < n; i++) {
        uint16_t key_len;
        uint32_t len;
        (void)decode_string16(&d, &key_len);
        assert_memory_equal(decode_string32(&d, &len), &i, sizeof i);
        char name[16];
        uint8_t data[CRASH_BYTES];
        memset(data, (int)(i % 251), sizeof data);
        struct object_id id = crash_object(name, i);
        assert_object(f, &id, data, sizeof data);
    }
    encoder_fini(&pairs.pairs);
    struct store_statfs fs;
    f->store->ops->statfs(f->store, &fs);
    assert_int_equal(fs.bytes_used, (uint64_t)n * CRASH_BYTES);
    char name[16];
    struct object_id id = crash_object(name, n);
    assert_no_object(f, &id);
    return n;
}

static void killed_process_leaves_a_prefix(void **state)
{
    struct store_fixture *f = *state;
    uint32_t have = 0;
    for (uint32_t round = 0; round < CRASH_ROUNDS; round++) {
        fixture_close(f);
        uint32_t last = crash_once(store_path(f), have, have + 5 + round * 61);
        assert_int_equal(store_rocksdb_open(f->env, store_path(f), false, 0, &f->store), 0);
        uint32_t n = crash_check(f);
        assert_true(n > last);
        assert_true(n <= last + 1 + CRASH_IN_FLIGHT);
        have = n;
    }
}

/* ---- Failing disks ---- */

struct failing {
    struct store_txn txn;
    bool done;
    int error;
    int told;
};

static void failing_done(struct store_txn *txn, int error)
{
    struct failing *failing = container_of(txn, struct failing, txn);
    failing->done = true;
    failing->error = error;
}

static void failing_told(void *ctx, int error, const char *why)
{
    struct failing *failing = ctx;
    assert_true(error < 0 && why != NULL);
    failing->told++;
}

static int failing_write(struct store_fixture *f, struct failing *failing, uint64_t offset)
{
    static uint8_t data[1 << 20];
    struct object_id id = object_named("big", 1);
    txn_init(&failing->txn);
    txn_data(&failing->txn, data, sizeof data);
    txn_object(&failing->txn, &id);
    txn_write(&failing->txn, offset, sizeof data, 0);
    failing->txn.done = failing_done;
    failing->done = false;
    store_submit(f->store, &failing->txn);
    wait_until(f, &failing->done);
    txn_fini(&failing->txn);
    return failing->error;
}

static void failed_write_stops_the_store(void **state)
{
    struct store_fixture *f = *state;
    struct failing failing = {.told = 0};
    struct rlimit before, small = {3 << 20, 3 << 20};
    f->store->failed = failing_told;
    f->store->failed_ctx = &failing;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int written = 0;
    while (written < 16 && failing_write(f, &failing, (uint64_t)written << 20) == 0)
        written++;
    assert_true(written >= 1 && written < 16);
    env_real_turn(f->env, false);
    assert_int_equal(failing.told, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    /* Nothing is accepted afterwards, although the disk would take it. */
    assert_int_equal(failing_write(f, &failing, 0), -EIO);
    env_real_turn(f->env, false);
    assert_int_equal(failing.told, 1);
    fixture_reopen(f);
    struct store_read read = {0};
    struct object_id id = object_named("big", 1);
    assert_int_equal(read_object(f, &read, &id, 0, 0), 0);
    assert_true(read.stat.size >= (uint64_t)written << 20);
    read_fini(&read);
}

static void malformed_transaction_is_refused(void **state)
{
    struct store_fixture *f = *state;
    struct failing failing = {.told = 0};
    f->store->failed = failing_told;
    f->store->failed_ctx = &failing;
    txn_init(&failing.txn);
    encode_bytes(&failing.txn.ops, "nonsense", 8);
    failing.txn.done = failing_done;
    store_submit(f->store, &failing.txn);
    wait_until(f, &failing.done);
    assert_int_equal(failing.error, -EBADMSG);
    env_real_turn(f->env, false);
    assert_int_equal(failing.told, 1);
    txn_fini(&failing.txn);
}

/* Changes a byte in the middle of every file of contents; returns how many there are. */
static int damage_contents(const char *path)
{
    int n = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        const char *dot = strrchr(entry->d_name, '.');
        if (!dot || strcmp(dot, ".blob") != 0)
            continue;
        char file[600];
        (void)snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        int fd = open(file, O_RDWR);
        uint8_t byte;
        assert_true(fd >= 0);
        assert_int_equal(pread(fd, &byte, 1, 9000), 1);
        byte ^= 0x40;
        assert_int_equal(pwrite(fd, &byte, 1, 9000), 1);
        (void)close(fd);
        n++;
    }
    (void)closedir(dir);
    return n;
}

static void damaged_contents_are_an_error_not_data(void **state)
{
    struct store_fixture *f = *state;
    static uint8_t data[3 * ROCKS_CHUNK_BYTES];
    memset(data, 'd', sizeof data);
    struct object_id id = object_named("victim", 1);
    write_object(f, &id, 0, data, sizeof data);
    fixture_reopen(f); /* Moves the log's contents into their own files. */
    fixture_close(f);
    assert_true(damage_contents(store_path(f)) > 0);
    assert_int_equal(store_rocksdb_open(f->env, store_path(f), false, 0, &f->store), 0);
    struct store_read read = {0};
    assert_int_equal(read_object(f, &read, &id, 0, sizeof data), -EIO);
    assert_int_equal(read.data.len, 0);
    read_fini(&read);
    /* What is not damaged can be read still. */
    read = (struct store_read){0};
    assert_int_equal(read_object(f, &read, &id, ROCKS_CHUNK_BYTES, ROCKS_CHUNK_BYTES), 0);
    assert_memory_equal(read.data.data, data, ROCKS_CHUNK_BYTES);
    read_fini(&read);
}

/* ---- Closing ---- */

struct counted_read {
    struct store_read read;
    uint32_t *n;
};

static void counted_done(struct store_read *read)
{
    struct counted_read *counted = container_of(read, struct counted_read, read);
    assert_int_equal(read->error, 0);
    assert_int_equal(read->data.len, 100000);
    (*counted->n)++;
    read_fini(read);
}

static void count_closed(void *ctx)
{
    /* Every read was answered before. */
    assert_int_equal(*(uint32_t *)ctx, 50);
    *(uint32_t *)ctx = 51;
}

static void close_waits_for_what_was_asked(void **state)
{
    struct store_fixture *f = *state;
    static struct counted_read reads[50];
    static uint8_t data[100000];
    uint32_t n = 0;
    struct object_id id = object_named("a", 1);
    write_object(f, &id, 0, data, sizeof data);
    fixture_reopen(f);
    for (int i = 0; i < 50; i++) {
        reads[i].n = &n;
        reads[i].read = (struct store_read){.object = id, .len = 100000, .done = counted_done};
        store_read(f->store, &reads[i].read);
    }
    f->store->ops->close(f->store, count_closed, &n);
    while (n != 51)
        env_real_turn(f->env, true);
    f->store = NULL;
}

#define ON_ROCKSDB(test) cmocka_unit_test_setup_teardown(test, fixture_rocksdb, fixture_teardown)

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "crash-child") == 0)
        crash_child_run(argv[2], (uint32_t)atoi(argv[3]), atoi(argv[4]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes_of_keys_and_records),
        cmocka_unit_test(keys_sort_as_objects_do_and_come_back),
        ON_ROCKSDB(longest_names_fit),
        ON_ROCKSDB(refuses_to_open_what_is_not_there_or_in_use),
        ON_ROCKSDB(killed_process_leaves_a_prefix),
        ON_ROCKSDB(failed_write_stops_the_store),
        ON_ROCKSDB(malformed_transaction_is_refused),
        ON_ROCKSDB(damaged_contents_are_an_error_not_data),
        ON_ROCKSDB(close_waits_for_what_was_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
