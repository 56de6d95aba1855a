/*
 * The index on RocksDB: its own log off, one column family, flushed by us.
 *
 * A flush writes the memory table to one file and then edits the manifest, so what is durable is
 * always a prefix of the batches; RocksDB may also flush by itself when the table is full, which is
 * another such prefix.
 */
#include <errno.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "osd/store/index.h"

enum {
    READ_TIER_ALL = 0,
    READ_TIER_MEMORY = 1,
    COMPACTION_ROOM_MAX = 256 << 20,
    SMALL_MEMORY = 64 << 20,
};

struct index_rocksdb {
    struct index index;
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *write_options;
    rocksdb_flushoptions_t *flush_options;
    rocksdb_readoptions_t *read_any;
    rocksdb_readoptions_t *read_memory;
    rocksdb_writebatch_t *batch;
    char *path;
    uint64_t memory_bytes;
};

struct index_iter {
    rocksdb_iterator_t *it;
    rocksdb_readoptions_t *options;
    uint8_t *from, *to;
    size_t from_len;
    bool reverse;
    bool started;
};

static struct index_rocksdb *rocks(struct index *index)
{
    return (struct index_rocksdb *)((char *)index - offsetof(struct index_rocksdb, index));
}

/* RocksDB's errors are texts: "Result incomplete: ..." says that the answer is not in memory. */
static int take_error(char *text)
{
    int error = strstr(text, "ncomplete")              ? -EAGAIN
                : strstr(text, "No space")             ? -ENOSPC
                : strncmp(text, "Corruption", 10) == 0 ? -ELIMPET_CORRUPT
                                                       : -EIO;
    rocksdb_free(text);
    return error;
}

static int rocks_get(struct index *index, const void *key, size_t key_len, struct encoder *value,
                     bool may_block)
{
    struct index_rocksdb *r = rocks(index);
    char *text = NULL;
    size_t len;
    rocksdb_pinnableslice_t *slice =
        rocksdb_get_pinned(r->db, may_block ? r->read_any : r->read_memory, key, key_len, &text);
    if (text)
        return take_error(text);
    if (!slice)
        return 0;
    const char *data = rocksdb_pinnableslice_value(slice, &len);
    encode_bytes(value, data, len);
    rocksdb_pinnableslice_destroy(slice);
    return value->failed ? -ENOMEM : 1;
}

static void rocks_iter_free(struct index_iter *iter)
{
    if (iter->it)
        rocksdb_iter_destroy(iter->it);
    if (iter->options)
        rocksdb_readoptions_destroy(iter->options);
    free(iter->from);
    free(iter);
}

static int rocks_iterate(struct index *index, const void *from, size_t from_len, const void *to,
                         size_t to_len, bool reverse, bool may_block, struct index_iter **out)
{
    struct index_rocksdb *r = rocks(index);
    /*
     * Never from memory alone: RocksDB before 8.5.3 loses a file's "not in memory" when a removed
     * range in another file makes the iterator seek again, and then goes on without the file's
     * keys (its pull request 11786).
     */
    if (!may_block)
        return -EAGAIN;
    struct index_iter *iter = calloc(1, sizeof *iter);
    if (!iter)
        return -ENOMEM;
    iter->from = malloc(from_len + to_len);
    if (!iter->from) {
        free(iter);
        return -ENOMEM;
    }
    iter->to = iter->from + from_len;
    iter->from_len = from_len;
    iter->reverse = reverse;
    memcpy(iter->from, from, from_len);
    memcpy(iter->to, to, to_len);
    iter->options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_iterate_lower_bound(iter->options, (char *)iter->from, from_len);
    rocksdb_readoptions_set_iterate_upper_bound(iter->options, (char *)iter->to, to_len);
    iter->it = rocksdb_create_iterator(r->db, iter->options);
    *out = iter;
    return 0;
}

static int rocks_next(struct index_iter *iter, const void **key, size_t *key_len,
                      const void **value, size_t *len)
{
    char *text = NULL;
    if (!iter->started && iter->reverse)
        rocksdb_iter_seek_to_last(iter->it);
    else if (!iter->started)
        rocksdb_iter_seek(iter->it, (char *)iter->from, iter->from_len);
    else if (iter->reverse)
        rocksdb_iter_prev(iter->it);
    else
        rocksdb_iter_next(iter->it);
    iter->started = true;
    if (!rocksdb_iter_valid(iter->it)) {
        rocksdb_iter_get_error(iter->it, &text);
        return text ? take_error(text) : 0;
    }
    *key = rocksdb_iter_key(iter->it, key_len);
    *value = rocksdb_iter_value(iter->it, len);
    return 1;
}

static int rocks_apply(struct index *index, const struct encoder *batch)
{
    struct index_rocksdb *r = rocks(index);
    struct index_change c;
    struct decoder d;
    char *text = NULL;
    int more;
    decoder_init(&d, batch->data, batch->len);
    rocksdb_writebatch_clear(r->batch);
    while ((more = index_batch_next(&d, &c)) > 0) {
        if (c.op == INDEX_PUT)
            rocksdb_writebatch_put(r->batch, c.key, c.key_len, c.value, c.len);
        else if (c.op == INDEX_REMOVE)
            rocksdb_writebatch_delete(r->batch, c.key, c.key_len);
        else
            rocksdb_writebatch_delete_range(r->batch, c.key, c.key_len, c.value, c.len);
    }
    if (more < 0)
        return more;
    rocksdb_write(r->db, r->write_options, r->batch, &text);
    return text ? take_error(text) : 0;
}

static int rocks_flush(struct index *index)
{
    struct index_rocksdb *r = rocks(index);
    char *text = NULL;
    rocksdb_flush(r->db, r->flush_options, &text);
    return text ? take_error(text) : 0;
}

/*
 * Short: less is left than both write buffers, full, take as files, and a compaction on top, which
 * needs its output beside its input. Deletions need that as well.
 */
static bool rocks_is_short(struct index *index)
{
    const struct index_rocksdb *r = rocks(index);
    uint64_t files = 0;
    struct statvfs fs;
    if (statvfs(r->path, &fs) < 0)
        return false;
    rocksdb_property_int(r->db, "rocksdb.total-sst-files-size", &files);
    uint64_t compaction = files / 4 < COMPACTION_ROOM_MAX ? files / 4 : COMPACTION_ROOM_MAX;
    return (uint64_t)fs.f_bavail * fs.f_frsize < r->memory_bytes + compaction;
}

static uint64_t rocks_memory(struct index *index)
{
    uint64_t tables = 0, readers = 0;
    struct index_rocksdb *r = rocks(index);
    rocksdb_property_int(r->db, "rocksdb.cur-size-all-mem-tables", &tables);
    rocksdb_property_int(r->db, "rocksdb.estimate-table-readers-mem", &readers);
    return tables + readers + rocksdb_cache_get_usage(r->cache);
}

static uint64_t rocks_bytes_written(struct index *index)
{
    uint64_t bytes = 0;
    rocksdb_property_int(rocks(index)->db, "rocksdb.total-sst-files-size", &bytes);
    return bytes;
}

static void rocks_free(struct index_rocksdb *r)
{
    if (r->db)
        rocksdb_close(r->db);
    rocksdb_options_destroy(r->options);
    rocksdb_cache_destroy(r->cache);
    rocksdb_writeoptions_destroy(r->write_options);
    rocksdb_flushoptions_destroy(r->flush_options);
    rocksdb_readoptions_destroy(r->read_any);
    rocksdb_readoptions_destroy(r->read_memory);
    rocksdb_writebatch_destroy(r->batch);
    free(r->path);
    free(r);
}

static void rocks_close(struct index *index)
{
    rocks_free(rocks(index));
}

static const struct index_ops rocks_ops = {
    .get = rocks_get,
    .iterate = rocks_iterate,
    .next = rocks_next,
    .iter_free = rocks_iter_free,
    .apply = rocks_apply,
    .flush = rocks_flush,
    .is_short = rocks_is_short,
    .memory = rocks_memory,
    .bytes_written = rocks_bytes_written,
    .close = rocks_close,
};

/* Of what has no function of its own there is a text; without it things are only slower. */
static rocksdb_options_t *create_options(void)
{
    char *text = NULL;
    rocksdb_options_t *defaults = rocksdb_options_create();
    rocksdb_options_t *options = rocksdb_options_create();
    rocksdb_get_options_from_string(defaults, "memtable_whole_key_filtering=true", options, &text);
    if (text)
        rocksdb_free(text);
    rocksdb_options_destroy(defaults);
    return options;
}

static void set_options(struct index_rocksdb *r, bool create, uint64_t memory_bytes)
{
    rocksdb_options_t *o = r->options;
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_options_set_create_if_missing(o, create);
    rocksdb_options_set_error_if_exists(o, create);
    /*
     * A compaction reads ahead in each of its files, and there may be two dozen: of a small budget
     * that would take all. It is the share of write buffers that gives way.
     */
    bool small = memory_bytes < SMALL_MEMORY;
    rocksdb_options_set_write_buffer_size(o, memory_bytes / (small ? 6 : 4));
    rocksdb_options_compaction_readahead_size(o, small ? 128 * 1024 : 1024 * 1024);
    rocksdb_options_set_max_write_buffer_number(o, 3);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_compression(o, rocksdb_no_compression);
    rocksdb_options_set_max_open_files(o, 256);
    rocksdb_options_set_keep_log_file_num(o, 2);
    rocksdb_options_set_max_log_file_size(o, 1024 * 1024);
    rocksdb_options_set_info_log_level(o, 2);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_target_file_size_base(o, 32 * 1024 * 1024);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    rocksdb_options_set_bytes_per_sync(o, 1024 * 1024);
    /* Most objects that are looked for are new: filters say so, of files and of memory. */
    rocksdb_options_set_memtable_prefix_bloom_size_ratio(o, 0.01);
    /*
     * Each checkpoint makes a small file, and keys come in the order of hashes, so a compaction
     * rewrites all of the next level: rather seldom, with many files.
     */
    rocksdb_options_set_level0_file_num_compaction_trigger(o, 24);
    rocksdb_options_set_level0_slowdown_writes_trigger(o, 48);
    rocksdb_options_set_level0_stop_writes_trigger(o, 64);
    rocksdb_options_set_max_bytes_for_level_base(o, 64 * 1024 * 1024);
    rocksdb_block_based_options_set_block_cache(table, r->cache);
    rocksdb_block_based_options_set_block_size(table, 8192);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_options_set_block_based_table_factory(o, table);
    rocksdb_block_based_options_destroy(table);
}

int index_rocksdb_open(const char *path, bool create, uint64_t memory_bytes, struct index **out,
                       char why[256])
{
    struct index_rocksdb *r = calloc(1, sizeof *r);
    char *text = NULL;
    if (!r)
        return -ENOMEM;
    r->path = strdup(path);
    if (!r->path) {
        free(r);
        return -ENOMEM;
    }
    r->memory_bytes = memory_bytes;
    r->index.ops = &rocks_ops;
    /* Of this thread: it would count each comparison of keys for nobody. */
    rocksdb_set_perf_level(rocksdb_disable);
    r->options = create_options();
    r->cache = rocksdb_cache_create_lru(memory_bytes / 3);
    r->write_options = rocksdb_writeoptions_create();
    r->flush_options = rocksdb_flushoptions_create();
    r->read_any = rocksdb_readoptions_create();
    r->read_memory = rocksdb_readoptions_create();
    r->batch = rocksdb_writebatch_create();
    rocksdb_writeoptions_disable_WAL(r->write_options, 1);
    rocksdb_flushoptions_set_wait(r->flush_options, 1);
    rocksdb_readoptions_set_read_tier(r->read_memory, READ_TIER_MEMORY);
    set_options(r, create, memory_bytes);
    r->db = rocksdb_open(r->options, path, &text);
    if (text) {
        snprintf(why, 256, "index %s: %s", path, text);
        int error =
            strstr(text, "LOCK") || strstr(text, "lock") ? -EBUSY : take_error(strdup(text));
        rocksdb_free(text);
        rocks_free(r);
        return error;
    }
    *out = &r->index;
    return 0;
}
