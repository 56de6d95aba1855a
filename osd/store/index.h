/*
 * The engine's index: an ordered set of key-value pairs.
 *
 * Changes come as batches that are atomic and ordered; a flush makes everything applied before it
 * durable, and after a crash the index holds exactly the batches up to some point at or after the
 * last completed flush. Nothing else is promised: the engine's journal does the rest.
 *
 * Implementations: RocksDB with its own log off and one column family, so that a flush is one file
 * and one manifest edit (index_rocksdb.c); an ordered tree for the simulator (index_memory.c).
 */
#ifndef LIMPET_OSD_STORE_INDEX_H
#define LIMPET_OSD_STORE_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "common/codec.h"
#include "common/error.h"

/*
 * The encoding of a batch, also inside journal records: operations one after the other.
 * u8 code, u16 key length, key, then PUT: u32 value length, value; REMOVE_RANGE: u16 length of the
 * end key, end key (exclusive).
 */
enum index_op { INDEX_PUT = 1, INDEX_REMOVE = 2, INDEX_REMOVE_RANGE = 3 };

void index_batch_put(struct encoder *batch, const void *key, size_t key_len, const void *value,
                     size_t len);
void index_batch_remove(struct encoder *batch, const void *key, size_t key_len);
void index_batch_remove_range(struct encoder *batch, const void *from, size_t from_len,
                              const void *to, size_t to_len);

struct index_change {
    enum index_op op;
    const void *key;
    uint16_t key_len;
    const void *value; /* Or the end key. */
    uint32_t len;
};
/* 1: the next change; 0: the end; -EBADMSG. */
int index_batch_next(struct decoder *batch, struct index_change *out) MUST_CHECK;

struct index;
struct index_iter;

struct index_ops {
    /* Appends the value. 1 found, 0 not there, -EAGAIN it would have to wait for a disk. */
    int (*get)(struct index *index, const void *key, size_t key_len, struct encoder *value,
               bool may_block);
    /* Any thread may iterate while the loop applies: an iterator sees what was there before it. */
    int (*iterate)(struct index *index, const void *from, size_t from_len, const void *to,
                   size_t to_len, bool reverse, bool may_block, struct index_iter **out);
    /* 1: at a pair (valid until the next call); 0: the end; or an error, -EAGAIN included. */
    int (*next)(struct index_iter *iter, const void **key, size_t *key_len, const void **value,
                size_t *len);
    void (*iter_free)(struct index_iter *iter);
    /* n batches as one, on the loop. */
    int (*apply)(struct index *index, const struct encoder *batch);
    /* Blocks; on a helper thread. */
    int (*flush)(struct index *index);
    /* Whether its disk is so full that only what frees space should come. NULL: never. */
    bool (*is_short)(struct index *index);
    uint64_t (*memory)(struct index *index);        /* Bytes of memory in use. */
    uint64_t (*bytes_written)(struct index *index); /* To its files. */
    void (*close)(struct index *index);
};

struct index {
    const struct index_ops *ops;
};

static inline int MUST_CHECK index_get(struct index *index, const void *key, size_t key_len,
                                       struct encoder *value, bool may_block)
{
    return index->ops->get(index, key, key_len, value, may_block);
}
static inline int MUST_CHECK index_iterate(struct index *index, const void *from, size_t from_len,
                                           const void *to, size_t to_len, bool reverse,
                                           bool may_block, struct index_iter **out)
{
    return index->ops->iterate(index, from, from_len, to, to_len, reverse, may_block, out);
}
static inline int MUST_CHECK index_apply(struct index *index, const struct encoder *batch)
{
    return index->ops->apply(index, batch);
}
static inline int MUST_CHECK index_next(struct index *index, struct index_iter *iter,
                                        const void **key, size_t *key_len, const void **value,
                                        size_t *len)
{
    return index->ops->next(iter, key, key_len, value, len);
}

/* memory_bytes bounds its caches and write buffers together. */
int index_rocksdb_open(const char *path, bool create, uint64_t memory_bytes, struct index **out,
                       char why[256]) MUST_CHECK;

/* The pairs live in `disk`; closing without a flush loses what is unflushed. */
struct index_memory_disk;
struct index_memory_disk *index_memory_disk_create(void) MUST_CHECK;
void index_memory_disk_destroy(struct index_memory_disk *disk);
/* Another one with the same pairs. */
struct index_memory_disk *index_memory_disk_copy(struct index_memory_disk *disk) MUST_CHECK;
int index_memory_open(struct index_memory_disk *disk, struct index **out) MUST_CHECK;
/* Batches applied since the last flush. */
uint32_t index_memory_unflushed(const struct index *index);
/*
 * A power cut, which also closes: the disk keeps the first `keep` of those batches, as if the index
 * had flushed by itself behind the last of them.
 */
void index_memory_crash(struct index *index, uint32_t keep);

#endif
