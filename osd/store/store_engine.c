/* The engine on real disks: see store_engine.h. */
#include "osd/store/store_engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/env_real.h"
#include "osd/store/engine.h"

enum { PATH_BYTES = 4096 };

static const uint64_t memory_min = UINT64_C(64) << 20;
/* Of the target: the program's text, libraries and stacks. */
static const uint64_t memory_program = UINT64_C(16) << 20;
/*
 * A burst of small writes fits half of the journal, and pays for placing afterwards. More would
 * take longer to replay: all that is in the ring is put in place again after a crash.
 */
static const uint64_t journal_share = 32;
static const uint64_t journal_max = UINT64_C(512) << 20;
static const uint64_t journal_min = UINT64_C(32) << 20;

/* What is divided: a third is the index's, and the engine has the rest. */
static uint64_t memory_of(const struct store_engine_options *options)
{
    uint64_t target = options->memory_target < memory_min ? memory_min : options->memory_target;
    return target - memory_program;
}

static uint64_t journal_size(const struct store_engine_options *options, uint64_t bytes)
{
    if (options->journal_bytes)
        return options->journal_bytes / BLOCK_BYTES * BLOCK_BYTES;
    uint64_t size = bytes / journal_share / (1 << 20) * (1 << 20);
    return size > journal_max ? journal_max : size < journal_min ? journal_min : size;
}

static int paths(const char *dir, char block[PATH_BYTES], char index[PATH_BYTES])
{
    int n = snprintf(block, PATH_BYTES, "%s/block", dir);
    int m = snprintf(index, PATH_BYTES, "%s/index", dir);
    return n < PATH_BYTES && m < PATH_BYTES ? 0 : -ENAMETOOLONG;
}

static int make_block(const char *path, uint64_t bytes, bool allocate, char why[256])
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISBLK(st.st_mode))
        return 0;
    int error = disk_file_create(path, bytes, allocate);
    if (error == -EEXIST)
        snprintf(why, 256, "%.200s exists: this folder holds a store already", path);
    else if (error < 0)
        snprintf(why, 256, "cannot make %.150s of %llu bytes: %s", path, (unsigned long long)bytes,
                 strerror(-error));
    return error;
}

/* The loop must turn for a closed disk to go. */
static void settle(struct env *env)
{
    env_real_turn(env, false);
}

int store_engine_create(struct env *env, const char *dir, uint64_t bytes, const struct uuid *uuid,
                        const struct store_engine_options *options, char why[256])
{
    char block[PATH_BYTES], index_path[PATH_BYTES];
    struct disk *disk;
    struct index *index;
    why[0] = 0;
    int error = paths(dir, block, index_path);
    if (error == 0 && mkdir(dir, 0700) < 0 && errno != EEXIST)
        error = -errno;
    if (error == 0)
        error = make_block(block, bytes, !options->sparse, why);
    if (error == 0)
        error = disk_uring_open(env, block, &disk);
    if (error != 0) {
        if (why[0] == 0)
            snprintf(why, 256, "cannot make the store in %.150s: %s", dir, error_text(error));
        return error;
    }
    error = index_rocksdb_open(index_path, true, memory_of(options) / 3, &index, why);
    if (error == 0) {
        error = engine_format(disk, index, uuid, journal_size(options, disk->size));
        if (error < 0)
            snprintf(why, 256, "cannot format %.150s: %s%s", block, error_text(error),
                     error == -ENOSPC
                         ? ": a store needs 64 MiB, and twice its journal; or the file "
                           "system is full"
                         : "");
        index->ops->close(index);
    }
    disk_close(disk);
    settle(env);
    return error;
}

static int open_parts(struct env *env, const char *dir, uint64_t index_memory,
                      struct store_engine_parts *out, char why[256])
{
    char block[PATH_BYTES], index_path[PATH_BYTES];
    why[0] = 0;
    int error = paths(dir, block, index_path);
    if (error == 0)
        error = disk_uring_open(env, block, &out->disk);
    if (error < 0) {
        snprintf(why, 256, "cannot open %.150s: %s", block, error_text(error));
        return error;
    }
    error = index_rocksdb_open(index_path, false, index_memory, &out->index, why);
    if (error < 0) {
        disk_close(out->disk);
        settle(env);
    }
    return error;
}

int store_engine_parts_open(struct env *env, const char *dir, struct store_engine_parts *out,
                            char why[256])
{
    return open_parts(env, dir, memory_min, out, why);
}

void store_engine_parts_close(struct env *env, struct store_engine_parts *parts)
{
    parts->index->ops->close(parts->index);
    disk_close(parts->disk);
    settle(env);
}

int store_engine_open(struct env *env, const char *dir, const struct store_engine_options *options,
                      struct store **out, char why[256])
{
    struct store_engine_parts parts;
    struct engine_options engine_options = {.memory_target = memory_of(options)};
    int error = open_parts(env, dir, engine_options.memory_target / 3, &parts, why);
    if (error < 0)
        return error;
    error = engine_open(env, parts.disk, parts.index, &engine_options, out, why);
    if (error < 0)
        store_engine_parts_close(env, &parts);
    return error;
}
