/*
 * A durable store on RocksDB.
 *
 *  1. Transactions commit in the order of submission: at most one batch is built and written at a
 *     time, and it takes the oldest of those that wait.
 *  2. A batch is written with its log flushed before any done() of it is called. It is one record
 *     of RocksDB's log, so that a crash keeps all of a batch or nothing, and of batches a prefix.
 *  3. Group commit without a timer: whatever is submitted while a batch is written is the next
 *     batch; a lone transaction starts at the end of the loop's turn.
 *  4. After the first failed write nothing is written any more: RocksDB may have kept part of it in
 *     memory, and the OSD must stop.
 *  5. The loop never touches the disk after opening; helper threads do (env_work).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "osd/store/rocksdb_private.h"

/* Memory: a write buffer being filled, one being flushed under load, and the cache. */
enum {
    WRITE_BUFFER_BYTES = 16 << 20,
    WRITE_BUFFERS_MAX = 3,
    CACHE_BYTES = 32 << 20,
    BLOB_BYTES_MIN = 2048, /* Values from this size on stay out of compactions. */
    BLOB_FILE_BYTES = 64 << 20,
    OPEN_FILES_MAX = 512,
    BLOOM_BITS = 10,
    BACKGROUND_JOBS_MAX = 2,
    SYNC_EVERY_BYTES = 1 << 20,
    INFO_LOG_BYTES = 1 << 20,
    INFO_LOG_FILES = 2,
    INFO_LOG_LEVEL_WARN = 2,
};

/* ---- Errors ---- */

static int error_number(const char *message)
{
    if (strstr(message, "No such file or directory") || strstr(message, "does not exist"))
        return -ENOENT;
    if (strstr(message, "lock hold by current process") || strstr(message, "While lock file"))
        return -EBUSY;
    if (strstr(message, "No space left on device"))
        return -ENOSPC;
    if (strstr(message, "Permission denied"))
        return -EACCES;
    return strncmp(message, "Corruption", 10) == 0 ? -ELIMPET_CORRUPT : -EIO;
}

int rocks_error(struct rocks_store *rs, const char *what, char *message)
{
    if (!message)
        return 0;
    int rc = error_number(message);
    (void)pthread_mutex_lock(&rs->error_lock);
    (void)snprintf(rs->error_text, sizeof rs->error_text, "%s: %s", what, message);
    (void)pthread_mutex_unlock(&rs->error_lock);
    rocksdb_free(message);
    return rc;
}

void rocks_log_error(struct rocks_store *rs)
{
    char text[sizeof rs->error_text];
    (void)pthread_mutex_lock(&rs->error_lock);
    memcpy(text, rs->error_text, sizeof text);
    rs->error_text[0] = 0;
    (void)pthread_mutex_unlock(&rs->error_lock);
    if (text[0] != 0)
        log_error(rs->store.env, "store error", "what=\"%s\"", text);
}

/* ---- Committing ---- */

/* Moves the oldest waiting transactions, as many as a batch takes, to `running`. */
static void take_batch(struct rocks_store *rs)
{
    struct rocks_txn *waiting;
    size_t bytes = 0;
    for (uint32_t n = 0; n < ROCKS_COMMIT_TXNS_MAX && (waiting = STAILQ_FIRST(&rs->pending)); n++) {
        bytes += waiting->txn->ops.len + waiting->txn->data.len;
        if (n > 0 && bytes > ROCKS_COMMIT_BYTES_MAX)
            break;
        STAILQ_REMOVE_HEAD(&rs->pending, link);
        rs->batch_bytes = bytes;
        if (rs->failed && waiting->error == 0)
            waiting->error = -EIO;
        STAILQ_INSERT_TAIL(&rs->running, waiting, link);
    }
}

static void commit_run(struct env_work *work)
{
    struct rocks_store *rs = container_of(work, struct rocks_store, commit);
    rs->commit_error = 0;
    if (rs->failed)
        return;
    rocksdb_writebatch_wi_t *batch = rocksdb_writebatch_wi_create(rs->batch_bytes, 1);
    int rc = rocks_apply(rs, batch, &rs->running, &rs->state);
    if (rc == 0 && rocksdb_writebatch_wi_count(batch) > 0) {
        char *message = NULL;
        rocksdb_write_writebatch_wi(rs->db, rs->write_options, batch, &message);
        rc = rocks_error(rs, "write", message);
    }
    rocksdb_writebatch_wi_destroy(batch);
    rs->commit_error = rc;
}

static void start_commit(struct rocks_store *rs)
{
    if (rs->committing || STAILQ_EMPTY(&rs->pending))
        return;
    take_batch(rs);
    rs->committing = true;
    env_work(rs->store.env, &rs->commit);
}

static void commit_start(struct env_task *task)
{
    struct rocks_store *rs = container_of(task, struct rocks_store, commit_start);
    start_commit(rs);
    rocks_finish_close(rs);
}

/* Calls the owner back, once. */
static void tell_failure(struct rocks_store *rs, const char *why)
{
    if (rs->told_failure)
        return;
    rs->told_failure = true;
    if (rs->store.failed)
        rs->store.failed(rs->store.failed_ctx, rs->failed, why);
}

static void commit_done(struct env_work *work)
{
    struct rocks_store *rs = container_of(work, struct rocks_store, commit);
    struct rocks_txns batch;
    struct rocks_txn *waiting;
    int error = rs->commit_error;
    rocks_log_error(rs);
    if (error == 0)
        rs->bytes_used = rs->state.bytes_used;
    else if (!rs->failed)
        rs->failed = error;
    rs->committing = false;
    STAILQ_INIT(&batch);
    STAILQ_CONCAT(&batch, &rs->running);
    /* The disk works on the next batch while the loop makes this one's answers. */
    start_commit(rs);
    const char *why = "a write to the database failed";
    while ((waiting = STAILQ_FIRST(&batch))) {
        STAILQ_REMOVE_HEAD(&batch, link);
        int result = waiting->error ? waiting->error : error;
        if (waiting->error && !rs->failed) {
            rs->failed = waiting->error;
            why = "a transaction was malformed";
        }
        waiting->txn->done(waiting->txn, result);
    }
    if (rs->failed)
        tell_failure(rs, why);
    rocks_finish_close(rs);
}

static void rocks_submit(struct store *store, struct store_txn *txn)
{
    struct rocks_store *rs = container_of(store, struct rocks_store, store);
    assert(!rs->closing);
    struct rocks_txn *waiting = (struct rocks_txn *)txn->impl;
    waiting->txn = txn;
    waiting->error =
        txn->ops.failed ? -ENOMEM : txn_check(txn->ops.data, txn->ops.len, txn->data.len, NULL);
    STAILQ_INSERT_TAIL(&rs->pending, waiting, link);
    if (!rs->committing)
        env_defer(store->env, &rs->commit_start);
}

static void rocks_statfs(struct store *store, struct store_statfs *out)
{
    const struct rocks_store *rs = container_of(store, struct rocks_store, store);
    uint64_t total = rs->bytes_total, used = rs->bytes_used;
    *out = (struct store_statfs){
        .bytes_total = total,
        .bytes_used = used,
        .bytes_available = used < total ? total - used : 0,
    };
}

/* ---- Closing ---- */

static void rocks_free(struct rocks_store *rs)
{
    if (rs->db)
        rocksdb_close(rs->db);
    if (rs->options)
        rocksdb_options_destroy(rs->options);
    if (rs->cache)
        rocksdb_cache_destroy(rs->cache);
    if (rs->write_options)
        rocksdb_writeoptions_destroy(rs->write_options);
    if (rs->read_options)
        rocksdb_readoptions_destroy(rs->read_options);
    (void)pthread_mutex_destroy(&rs->error_lock);
    free(rs);
}

static void close_run(struct env_work *work)
{
    struct rocks_store *rs = container_of(work, struct rocks_store, close);
    rocksdb_close(rs->db);
    rs->db = NULL;
}

static void close_done(struct env_work *work)
{
    struct rocks_store *rs = container_of(work, struct rocks_store, close);
    void (*closed)(void *ctx) = rs->closed;
    void *ctx = rs->closed_ctx;
    rocks_free(rs);
    closed(ctx);
}

static bool is_idle(const struct rocks_store *rs)
{
    return !rs->committing && STAILQ_EMPTY(&rs->pending) && STAILQ_EMPTY(&rs->running) &&
           rs->n_reading == 0 && STAILQ_EMPTY(&rs->waiting) && STAILQ_EMPTY(&rs->finished) &&
           !rs->commit_start.queued && !rs->deliver.queued;
}

void rocks_finish_close(struct rocks_store *rs)
{
    if (!rs->closing || rs->close.run || !is_idle(rs))
        return;
    rs->close.run = close_run;
    rs->close.done = close_done;
    env_work(rs->store.env, &rs->close);
}

static void rocks_close(struct store *store, void (*closed)(void *ctx), void *ctx)
{
    struct rocks_store *rs = container_of(store, struct rocks_store, store);
    assert(!rs->closing);
    rs->closing = true;
    rs->closed = closed;
    rs->closed_ctx = ctx;
    /* A task of ours, so that a store at rest closes as one at work does. */
    env_defer(store->env, &rs->commit_start);
}

static const struct store_ops rocks_ops = {
    .submit = rocks_submit,
    .read = rocks_read_start,
    .list = rocks_list_start,
    .pg_read = rocks_pg_read_start,
    .pgs = rocks_pgs,
    .statfs = rocks_statfs,
    .close = rocks_close,
};

/* ---- Opening ---- */

static void set_table_options(struct rocks_store *rs)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rs->cache = rocksdb_cache_create_lru(CACHE_BYTES);
    rocksdb_block_based_options_set_block_cache(table, rs->cache);
    /* Indexes and filters are paid for by the cache, too: memory does not grow with the data. */
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom(BLOOM_BITS));
    rocksdb_options_set_block_based_table_factory(rs->options, table);
    rocksdb_block_based_options_destroy(table);
}

static void set_options(struct rocks_store *rs, bool create)
{
    rocksdb_options_t *o = rs->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o, create);
    rocksdb_options_set_error_if_exists(o, create);
    rocksdb_options_set_write_buffer_size(o, WRITE_BUFFER_BYTES);
    rocksdb_options_set_max_write_buffer_number(o, WRITE_BUFFERS_MAX);
    rocksdb_options_set_max_background_jobs(o, BACKGROUND_JOBS_MAX);
    rocksdb_options_set_max_open_files(o, OPEN_FILES_MAX);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    rocksdb_options_set_bytes_per_sync(o, SYNC_EVERY_BYTES);
    rocksdb_options_set_compression(o, rocksdb_no_compression);
    rocksdb_options_set_enable_blob_files(o, 1);
    rocksdb_options_set_min_blob_size(o, BLOB_BYTES_MIN);
    rocksdb_options_set_blob_file_size(o, BLOB_FILE_BYTES);
    rocksdb_options_set_enable_blob_gc(o, 1);
    /* No clock of RocksDB's own wakes an idle OSD. */
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_stats_persist_period_sec(o, 0);
    rocksdb_options_set_info_log_level(o, INFO_LOG_LEVEL_WARN);
    rocksdb_options_set_max_log_file_size(o, INFO_LOG_BYTES);
    rocksdb_options_set_keep_log_file_num(o, INFO_LOG_FILES);
    set_table_options(rs);
    rocksdb_options_set_blob_cache(o, rs->cache);
    rs->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(rs->write_options, 1);
    rs->read_options = rocksdb_readoptions_create();
}

/* Writes what a new store begins with. */
static int write_format(struct rocks_store *rs, uint64_t bytes_total)
{
    struct rocks_format format = {
        .magic = ROCKS_MAGIC,
        .version = ROCKS_VERSION,
        .chunk_bytes = ROCKS_CHUNK_BYTES,
        .bytes_total = bytes_total,
    };
    struct rocks_state state = {.next_data = 1};
    char *message = NULL;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    rocksdb_writebatch_put(batch, ROCKS_META_FORMAT, strlen(ROCKS_META_FORMAT), (char *)&format,
                           sizeof format);
    rocksdb_writebatch_put(batch, ROCKS_META_STATE, strlen(ROCKS_META_STATE), (char *)&state,
                           sizeof state);
    rocksdb_write(rs->db, rs->write_options, batch, &message);
    rocksdb_writebatch_destroy(batch);
    return rocks_error(rs, "write format", message);
}

static int read_meta(struct rocks_store *rs, const char *key, void *out, size_t len)
{
    char *message = NULL;
    size_t found = 0;
    char *value = rocksdb_get(rs->db, rs->read_options, key, strlen(key), &found, &message);
    int rc = rocks_error(rs, "read format", message);
    if (rc == 0 && (!value || found != len))
        rc = -ELIMPET_CORRUPT;
    if (rc == 0)
        memcpy(out, value, len);
    rocksdb_free(value);
    return rc;
}

static int read_format(struct rocks_store *rs)
{
    struct rocks_format format;
    int rc = read_meta(rs, ROCKS_META_FORMAT, &format, sizeof format);
    if (rc == 0)
        rc = read_meta(rs, ROCKS_META_STATE, &rs->state, sizeof rs->state);
    if (rc < 0)
        return rc;
    if (memcmp(format.magic, ROCKS_MAGIC, sizeof format.magic) != 0 ||
        format.version != ROCKS_VERSION || format.chunk_bytes != ROCKS_CHUNK_BYTES) {
        log_error(rs->store.env, "store has another format", "version=%u chunk_bytes=%u",
                  format.version, format.chunk_bytes);
        return -ELIMPET_CORRUPT;
    }
    rs->bytes_total = format.bytes_total;
    rs->bytes_used = rs->state.bytes_used;
    return 0;
}

/* A new folder is durable once its parent was flushed. */
static int make_folder(const char *path)
{
    char parent[4096];
    if (mkdir(path, 0700) != 0)
        return -errno;
    int n = snprintf(parent, sizeof parent, "%s/..", path);
    if (n < 0 || (size_t)n >= sizeof parent)
        return -ENAMETOOLONG;
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fsync(fd) == 0 ? 0 : -errno;
    (void)close(fd);
    return rc;
}

static int open_database(struct rocks_store *rs, const char *path, bool create,
                         uint64_t bytes_total)
{
    struct stat st;
    if (!create && stat(path, &st) != 0)
        return -errno;
    int rc = create ? make_folder(path) : 0;
    if (rc < 0)
        return rc;
    char *message = NULL;
    set_options(rs, create);
    rs->db = rocksdb_open(rs->options, path, &message);
    rc = rocks_error(rs, "open", message);
    if (rc == 0 && create)
        rc = write_format(rs, bytes_total);
    return rc < 0 ? rc : read_format(rs);
}

int store_rocksdb_open(struct env *env, const char *path, bool create, uint64_t bytes_total,
                       struct store **out)
{
    struct rocks_store *rs = calloc(1, sizeof *rs);
    if (!rs)
        return -ENOMEM;
    rs->store.ops = &rocks_ops;
    rs->store.env = env;
    STAILQ_INIT(&rs->pending);
    STAILQ_INIT(&rs->running);
    STAILQ_INIT(&rs->waiting);
    STAILQ_INIT(&rs->finished);
    rs->commit.run = commit_run;
    rs->commit.done = commit_done;
    rs->commit_start.run = commit_start;
    rs->deliver.run = rocks_deliver;
    (void)pthread_mutex_init(&rs->error_lock, NULL);
    int rc = open_database(rs, path, create, bytes_total);
    rocks_log_error(rs);
    if (rc < 0) {
        rocks_free(rs);
        return rc;
    }
    *out = &rs->store;
    return 0;
}
