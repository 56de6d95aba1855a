/*
 * Damaged files of a monitor's log: the input says which bytes of good files are changed, and how.
 * The store refuses to open, or opens with entries that are whole; it never crashes.
 */
#include <assert.h>
#include <stdio.h>

#include "mon/log_store.h"
#include "tests/fuzz/memory_world.h"

enum { FILES = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct memory_world pristine;

static void make_pristine(void)
{
    struct log_store *store;
    char why[LOG_STORE_WHY_MAX];
    uint8_t data[200];

    memory_world_init(&pristine);
    int rc = log_store_mkfs(&pristine.env, 3, "conf", 5);
    assert(rc == 0);
    rc = log_store_open(&pristine.env, &store, why);
    assert(rc == 0);
    for (int i = 0; i < 12; i++) {
        memset(data, i, sizeof data);
        rc = log_store_append(store, 1, 1, data, (size_t)i * 13);
        assert(rc == 0);
        if (i % 3 == 0)
            rc = log_store_flush(store);
        assert(rc == 0);
    }
    struct log_snapshot snapshot = {.index = 5,
                                    .term = 1,
                                    .conf_index = 1,
                                    .conf = "conf",
                                    .conf_len = 5,
                                    .data = "state",
                                    .data_len = 5};
    rc = log_store_put_snapshot(store, &snapshot, 3);
    assert(rc == 0);
    log_store_close(store);
}

static void copy_files(struct memory_world *to)
{
    for (int i = 0; i < MEMORY_FILES; i++) {
        const struct env_file *from = &pristine.files[i];
        struct env_file *file = &to->files[i];
        memcpy(file->name, from->name, sizeof file->name);
        file->size = from->size;
        file->data = malloc(from->size + 1);
        assert(file->data != NULL);
        if (from->size > 0)
            memcpy(file->data, from->data, from->size);
    }
}

/* Each change takes five bytes: which file, where, what. */
static void damage(struct memory_world *world, const uint8_t *data, size_t size)
{
    static const char *const names[FILES] = {"raft.log", "raft.meta", "raft.snapshot"};

    for (size_t i = 0; i + 5 <= size; i += 5) {
        struct env_file *file = memory_find(world, names[data[i] % FILES]);
        uint32_t offset = (uint32_t)data[i + 1] | (uint32_t)data[i + 2] << 8;
        assert(file != NULL);
        if ((data[i] & 0x80) != 0) {
            file->size = offset < file->size ? offset : file->size;
            continue;
        }
        if (offset < file->size)
            file->data[offset] = data[i + 4];
        if (offset + 1 < file->size && (data[i] & 0x40) != 0)
            file->data[offset + 1] = data[i + 3];
    }
}

static void use(struct log_store *store)
{
    struct log_snapshot snapshot;
    void *memory;
    uint64_t last = log_store_last(store);

    for (uint64_t i = log_store_first(store); i <= last; i++) {
        struct log_entry entry;
        int rc = log_store_entry(store, i, &entry);
        assert(rc == 0);
        uint8_t *out = malloc(entry.len + 1);
        assert(out != NULL);
        rc = log_store_read(store, i, out);
        assert(rc == 0);
        free(out);
    }
    int rc = log_store_get_snapshot(store, &snapshot, &memory);
    if (rc == 0)
        free(memory);
    rc = log_store_append(store, 1000, 1, "new", 3);
    assert(rc == 0);
    rc = log_store_flush(store);
    assert(rc == 0 && log_store_last(store) == last + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory_world world;
    struct log_store *store;
    char why[LOG_STORE_WHY_MAX] = "";

    if (pristine.env.ops == NULL)
        make_pristine();
    memory_world_init(&world);
    copy_files(&world);
    damage(&world, data, size);
    if (log_store_open(&world.env, &store, why) == 0) {
        use(store);
        log_store_close(store);
    } else {
        assert(store == NULL && why[0] != '\0');
    }
    memory_world_fini(&world);
    return 0;
}
