#include "tests/unit/osd/store_fixture.h"

#include "common/env_real.h"
#include "osd/store/store_engine.h"
#include "tests/lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MEMORY_LATENCY_NS = 20000 };

static struct store_fixture *fixture_create(void)
{
    const struct env_real_options options = {.mode = NET_MODE_INTEGRITY};
    struct store_fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_int_equal(env_real_create(&options, &f->env), 0);
    return f;
}

int fixture_memory(void **state)
{
    struct store_fixture *f = fixture_create();
    f->disk = store_memory_disk_create(FIXTURE_BYTES_TOTAL);
    assert_non_null(f->disk);
    assert_int_equal(store_memory_open(f->env, f->disk, MEMORY_LATENCY_NS, &f->store), 0);
    *state = f;
    return 0;
}

static void engine_open_at(struct store_fixture *f)
{
    const struct store_engine_options options = {.memory_target = 64 << 20};
    char dir[300], why[256];
    (void)snprintf(dir, sizeof dir, "%s/store", f->path);
    int error = store_engine_open(f->env, dir, &options, &f->store, why);
    if (error)
        fail_msg("%s", why);
}

int fixture_engine(void **state)
{
    struct store_fixture *f = fixture_create();
    (void)snprintf(f->path, sizeof f->path, "%s", test_folder_create());
    char store[300];
    (void)snprintf(store, sizeof store, "%s/store", f->path);
    const struct store_engine_options options = {.memory_target = 64 << 20, .sparse = true};
    const struct uuid uuid = {.bytes = {1}};
    char why[256];
    int error = store_engine_create(f->env, store, FIXTURE_BYTES_TOTAL, &uuid, &options, why);
    if (error)
        fail_msg("%s", why);
    engine_open_at(f);
    *state = f;
    return 0;
}

static void set_flag(void *ctx)
{
    *(bool *)ctx = true;
}

void wait_until(struct store_fixture *f, const bool *done)
{
    while (!*done)
        env_real_turn(f->env, true);
}

void fixture_close(struct store_fixture *f)
{
    bool closed = false;
    f->store->ops->close(f->store, set_flag, &closed);
    wait_until(f, &closed);
    f->store = NULL;
}

void fixture_reopen(struct store_fixture *f)
{
    fixture_close(f);
    env_real_turn(f->env, false); /* The disk's handle goes with the next turn. */
    if (f->disk) {
        assert_int_equal(store_memory_open(f->env, f->disk, MEMORY_LATENCY_NS, &f->store), 0);
        return;
    }
    engine_open_at(f);
}

void fixture_flip(struct store_fixture *f, const void *bytes, size_t len)
{
    char block[300];
    (void)snprintf(block, sizeof block, "%s/store/block", f->path);
    fixture_close(f);
    env_real_turn(f->env, false);
    int fd = open(block, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    uint8_t *disk = mmap(NULL, FIXTURE_BYTES_TOTAL, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(disk != MAP_FAILED);
    uint8_t *found = memmem(disk, FIXTURE_BYTES_TOTAL, bytes, len);
    assert_non_null(found);
    found[0] ^= 1;
    assert_int_equal(munmap(disk, FIXTURE_BYTES_TOTAL), 0);
    (void)close(fd);
    engine_open_at(f);
}

int fixture_teardown(void **state)
{
    struct store_fixture *f = *state;
    if (f->store)
        fixture_close(f);
    store_memory_disk_destroy(f->disk);
    if (f->path[0] != 0)
        test_folder_remove(f->path);
    env_real_destroy(f->env);
    free(f);
    return 0;
}

struct object_id object_named(const char *name, uint32_t hash)
{
    return (struct object_id){
        .pool = 1,
        .hash = hash,
        .name = (const uint8_t *)name,
        .name_len = (uint16_t)strlen(name),
        .snap = OBJECT_HEAD,
    };
}

void txn_data(struct store_txn *txn, const void *data, size_t len)
{
    assert_int_equal(buf_slice_copy(data, len, &txn->data), 0);
}

/* A transaction and whether it is done. */
struct waiting {
    struct store_txn txn;
    bool done;
    int error;
};

static void txn_done(struct store_txn *txn, int error)
{
    struct waiting *w = container_of(txn, struct waiting, txn);
    w->error = error;
    w->done = true;
}

void commit(struct store_fixture *f, struct store_txn *txn)
{
    struct waiting w = {.txn = *txn};
    w.txn.done = txn_done;
    store_submit(f->store, &w.txn);
    assert_false(w.done);
    wait_until(f, &w.done);
    assert_int_equal(w.error, 0);
    txn_fini(&w.txn);
}

void write_object(struct store_fixture *f, const struct object_id *id, uint64_t offset,
                  const void *data, size_t len)
{
    struct store_txn txn;
    txn_init(&txn);
    txn_data(&txn, data, len);
    txn_object(&txn, id);
    txn_write(&txn, offset, len, 0);
    commit(f, &txn);
}

struct waiting_read {
    struct store_read read;
    bool done;
};

static void read_done(struct store_read *read)
{
    container_of(read, struct waiting_read, read)->done = true;
}

int read_object(struct store_fixture *f, struct store_read *read, const struct object_id *id,
                uint64_t offset, uint64_t len)
{
    struct waiting_read w = {.read = *read};
    w.read.object = *id;
    w.read.offset = offset;
    w.read.len = len;
    w.read.done = read_done;
    store_read(f->store, &w.read);
    assert_false(w.done);
    wait_until(f, &w.done);
    *read = w.read;
    return read->error;
}

void read_fini(struct store_read *read)
{
    buf_slice_drop(&read->data);
    encoder_fini(&read->attrs);
    encoder_fini(&read->extents);
}

void assert_object(struct store_fixture *f, const struct object_id *id, const void *data,
                   size_t len)
{
    struct store_read read = {0};
    assert_int_equal(read_object(f, &read, id, 0, OBJECT_SIZE_MAX), 0);
    assert_true(read.stat.exists);
    assert_int_equal(read.stat.size, len);
    assert_int_equal(read.data.len, len);
    if (len > 0)
        assert_memory_equal(read.data.data, data, len);
    read_fini(&read);
}

void assert_no_object(struct store_fixture *f, const struct object_id *id)
{
    struct store_read read = {0};
    assert_int_equal(read_object(f, &read, id, 0, 1), -ENOENT);
    assert_false(read.stat.exists);
    read_fini(&read);
}

struct waiting_list {
    struct store_list list;
    bool done;
};

static void list_done(struct store_list *list)
{
    container_of(list, struct waiting_list, list)->done = true;
}

void run_list(struct store_fixture *f, struct store_list *list)
{
    struct waiting_list w = {.list = *list};
    w.list.done = list_done;
    store_list(f->store, &w.list);
    assert_false(w.done);
    wait_until(f, &w.done);
    *list = w.list;
    assert_int_equal(list->error, 0);
}

struct waiting_pg_read {
    struct store_pg_read read;
    bool done;
};

static void pg_read_done(struct store_pg_read *read)
{
    container_of(read, struct waiting_pg_read, read)->done = true;
}

void run_pg_read(struct store_fixture *f, struct store_pg_read *read)
{
    struct waiting_pg_read w = {.read = *read};
    w.read.done = pg_read_done;
    store_pg_read(f->store, &w.read);
    assert_false(w.done);
    wait_until(f, &w.done);
    *read = w.read;
    assert_int_equal(read->error, 0);
}
