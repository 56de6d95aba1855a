/*
 * The index in memory, for the simulator: what is flushed is in the "disk", which survives a crash.
 *
 * A flush copies. RocksDB without a log also flushes by itself when its table is full, so a crash
 * leaves all batches up to any one at or after the last flush that was asked for: the batches since
 * then are kept, and index_memory_crash() chooses.
 */
#include <assert.h>
#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/index.h"

struct pair {
    RB_ENTRY(pair) link;
    size_t key_len, len;
    uint8_t bytes[]; /* Key, value. */
};
RB_HEAD(pair_tree, pair);

struct index_memory_disk {
    struct pair_tree pairs;
};

/* One that was applied after the last flush. */
struct kept_batch {
    STAILQ_ENTRY(kept_batch) link;
    size_t len;
    uint8_t data[];
};

struct index_memory {
    struct index index;
    struct index_memory_disk *disk;
    struct pair_tree pairs;
    STAILQ_HEAD(, kept_batch) batches;
    uint32_t n_batches;
};

struct index_iter {
    uint8_t *bytes; /* Copies of all pairs in the range: u32 lengths, key, value. */
    size_t len, at;
};

static int compare(const struct pair *a, const struct pair *b)
{
    size_t n = a->key_len < b->key_len ? a->key_len : b->key_len;
    int order = memcmp(a->bytes, b->bytes, n);
    return order ? order : a->key_len < b->key_len ? -1 : a->key_len > b->key_len;
}

RB_GENERATE_INTERNAL(pair_tree, pair, link, compare, static __attribute__((unused)))

static struct pair *pair_create(const void *key, size_t key_len, const void *value, size_t len)
{
    struct pair *p = malloc(sizeof *p + key_len + len);
    if (!p)
        return NULL;
    p->key_len = key_len;
    p->len = len;
    memcpy(p->bytes, key, key_len);
    if (len > 0)
        memcpy(p->bytes + key_len, value, len);
    return p;
}

static void tree_clear(struct pair_tree *tree)
{
    struct pair *p, *next;
    RB_FOREACH_SAFE(p, pair_tree, tree, next)
    {
        RB_REMOVE(pair_tree, tree, p);
        free(p);
    }
}

static int tree_copy(struct pair_tree *to, struct pair_tree *from)
{
    struct pair *p;
    tree_clear(to);
    RB_FOREACH(p, pair_tree, from)
    {
        struct pair *copy = pair_create(p->bytes, p->key_len, p->bytes + p->key_len, p->len);
        if (!copy)
            return -ENOMEM;
        RB_INSERT(pair_tree, to, copy);
    }
    return 0;
}

static struct index_memory *memory(struct index *index)
{
    return (struct index_memory *)((char *)index - offsetof(struct index_memory, index));
}

static int memory_get(struct index *index, const void *key, size_t key_len, struct encoder *value,
                      bool may_block)
{
    struct pair *probe = pair_create(key, key_len, NULL, 0);
    (void)may_block;
    if (!probe)
        return -ENOMEM;
    struct pair *p = RB_FIND(pair_tree, &memory(index)->pairs, probe);
    free(probe);
    if (p)
        encode_bytes(value, p->bytes + p->key_len, p->len);
    return p ? 1 : 0;
}

static int before(const struct pair *p, const void *key, size_t key_len)
{
    size_t n = p->key_len < key_len ? p->key_len : key_len;
    int order = memcmp(p->bytes, key, n);
    return order ? order < 0 : p->key_len < key_len;
}

static void copy_out(struct encoder *e, const struct pair *p)
{
    encode_string32(e, p->bytes, p->key_len);
    encode_string32(e, p->bytes + p->key_len, p->len);
}

static int memory_iterate(struct index *index, const void *from, size_t from_len, const void *to,
                          size_t to_len, bool reverse, bool may_block, struct index_iter **out)
{
    struct pair_tree *tree = &memory(index)->pairs;
    struct pair *probe = pair_create(reverse ? to : from, reverse ? to_len : from_len, NULL, 0);
    struct index_iter *iter = calloc(1, sizeof *iter);
    struct encoder e;
    (void)may_block;
    encoder_init(&e);
    if (!probe || !iter) {
        free(probe);
        free(iter);
        return -ENOMEM;
    }
    struct pair *p = RB_NFIND(pair_tree, tree, probe);
    free(probe);
    if (reverse) {
        p = p ? RB_PREV(pair_tree, tree, p) : RB_MAX(pair_tree, tree);
        for (; p && !before(p, from, from_len); p = RB_PREV(pair_tree, tree, p))
            copy_out(&e, p);
    } else {
        for (; p && before(p, to, to_len); p = RB_NEXT(pair_tree, tree, p))
            copy_out(&e, p);
    }
    iter->bytes = e.data;
    iter->len = e.failed ? 0 : e.len;
    *out = iter;
    return 0;
}

static int memory_next(struct index_iter *iter, const void **key, size_t *key_len,
                       const void **value, size_t *len)
{
    struct decoder d;
    uint32_t n;
    if (iter->at == iter->len)
        return 0;
    decoder_init(&d, iter->bytes + iter->at, iter->len - iter->at);
    *key = decode_string32(&d, &n);
    *key_len = n;
    *value = decode_string32(&d, &n);
    *len = n;
    iter->at += d.at;
    return 1;
}

static void memory_iter_free(struct index_iter *iter)
{
    free(iter->bytes);
    free(iter);
}

static int put(struct pair_tree *tree, const struct index_change *c)
{
    struct pair *p = pair_create(c->key, c->key_len, c->value, c->len);
    if (!p)
        return -ENOMEM;
    struct pair *old = RB_FIND(pair_tree, tree, p);
    if (old) {
        RB_REMOVE(pair_tree, tree, old);
        free(old);
    }
    RB_INSERT(pair_tree, tree, p);
    return 0;
}

static int remove_range(struct pair_tree *tree, const struct index_change *c)
{
    struct pair *probe = pair_create(c->key, c->key_len, NULL, 0);
    if (!probe)
        return -ENOMEM;
    struct pair *p = RB_NFIND(pair_tree, tree, probe);
    free(probe);
    while (p && (c->op == INDEX_REMOVE
                     ? p->key_len == c->key_len && memcmp(p->bytes, c->key, c->key_len) == 0
                     : before(p, c->value, c->len))) {
        struct pair *next = RB_NEXT(pair_tree, tree, p);
        RB_REMOVE(pair_tree, tree, p);
        free(p);
        p = next;
    }
    return 0;
}

static int apply(struct pair_tree *tree, const uint8_t *data, size_t batch_len)
{
    struct index_change c;
    struct decoder d;
    int more;
    decoder_init(&d, data, batch_len);
    while ((more = index_batch_next(&d, &c)) > 0) {
        int error = c.op == INDEX_PUT ? put(tree, &c) : remove_range(tree, &c);
        if (error < 0)
            return error;
    }
    return more;
}

static int memory_apply(struct index *index, const struct encoder *batch)
{
    struct index_memory *m = memory(index);
    struct kept_batch *kept = malloc(sizeof *kept + batch->len);
    if (!kept)
        return -ENOMEM;
    kept->len = batch->len;
    if (batch->len > 0)
        memcpy(kept->data, batch->data, batch->len);
    STAILQ_INSERT_TAIL(&m->batches, kept, link);
    m->n_batches++;
    return apply(&m->pairs, batch->data, batch->len);
}

static void forget_batches(struct index_memory *m)
{
    while (!STAILQ_EMPTY(&m->batches)) {
        struct kept_batch *kept = STAILQ_FIRST(&m->batches);
        STAILQ_REMOVE_HEAD(&m->batches, link);
        free(kept);
    }
    m->n_batches = 0;
}

static int memory_flush(struct index *index)
{
    struct index_memory *m = memory(index);
    forget_batches(m);
    return tree_copy(&m->disk->pairs, &m->pairs);
}

static uint64_t memory_none(struct index *index)
{
    (void)index;
    return 0;
}

static void memory_close(struct index *index)
{
    struct index_memory *m = memory(index);
    forget_batches(m);
    tree_clear(&m->pairs);
    free(m);
}

uint32_t index_memory_unflushed(const struct index *index)
{
    return memory((struct index *)(uintptr_t)index)->n_batches;
}

void index_memory_crash(struct index *index, uint32_t keep)
{
    struct index_memory *m = memory(index);
    const struct kept_batch *kept;
    STAILQ_FOREACH(kept, &m->batches, link)
    {
        if (keep-- == 0)
            break;
        int error = apply(&m->disk->pairs, kept->data, kept->len);
        assert(error == 0);
    }
    memory_close(index);
}

static const struct index_ops memory_ops = {
    .get = memory_get,
    .iterate = memory_iterate,
    .next = memory_next,
    .iter_free = memory_iter_free,
    .apply = memory_apply,
    .flush = memory_flush,
    .memory = memory_none,
    .bytes_written = memory_none,
    .close = memory_close,
};

struct index_memory_disk *index_memory_disk_create(void)
{
    struct index_memory_disk *disk = calloc(1, sizeof *disk);
    if (disk)
        RB_INIT(&disk->pairs);
    return disk;
}

void index_memory_disk_destroy(struct index_memory_disk *disk)
{
    tree_clear(&disk->pairs);
    free(disk);
}

struct index_memory_disk *index_memory_disk_copy(struct index_memory_disk *disk)
{
    struct index_memory_disk *copy = index_memory_disk_create();
    if (copy && tree_copy(&copy->pairs, &disk->pairs) < 0) {
        index_memory_disk_destroy(copy);
        return NULL;
    }
    return copy;
}

int index_memory_open(struct index_memory_disk *disk, struct index **out)
{
    struct index_memory *m = calloc(1, sizeof *m);
    if (!m)
        return -ENOMEM;
    m->index.ops = &memory_ops;
    m->disk = disk;
    RB_INIT(&m->pairs);
    STAILQ_INIT(&m->batches);
    if (tree_copy(&m->pairs, &disk->pairs) < 0) {
        memory_close(&m->index);
        return -ENOMEM;
    }
    *out = &m->index;
    return 0;
}
