/*
 * Reference counts of blocks that several objects map, after a clone.
 *
 * A block that is not in the tree has one holder. Runs are kept as long as possible: neighbours
 * with the same count are one entry, so an untouched clone of a large object costs a few. The tree
 * is in memory whole; each change of an entry is also a change of the index.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/engine.h"

int shared_compare(const struct shared *a, const struct shared *b)
{
    return a->block < b->block ? -1 : a->block > b->block;
}

RB_GENERATE(shared_tree, shared, link, shared_compare)

static void shared_key(uint32_t block, uint8_t key[5])
{
    uint32_t be = htobe32(block);
    key[0] = KEY_SHARED;
    memcpy(key + 1, &be, sizeof be);
}

static void record_put(const struct shared *s, struct encoder *batch)
{
    uint8_t key[5];
    struct shared_layout value = {.count = s->count, .refs = s->refs};
    shared_key(s->block, key);
    index_batch_put(batch, key, sizeof key, &value, sizeof value);
}

static void record_remove(uint32_t block, struct encoder *batch)
{
    uint8_t key[5];
    shared_key(block, key);
    index_batch_remove(batch, key, sizeof key);
}

/* The entry that holds the block, or the first one after it. */
static struct shared *find_at_or_after(const struct engine *e, uint32_t block)
{
    struct shared key = {.block = block};
    struct shared_tree *tree = (struct shared_tree *)&e->shared;
    struct shared *next = RB_NFIND(shared_tree, tree, &key);
    struct shared *before = next ? RB_PREV(shared_tree, tree, next) : RB_MAX(shared_tree, tree);
    if (before && block - before->block < before->count)
        return before;
    return next;
}

bool shared_find(const struct engine *e, uint32_t block)
{
    struct shared *s = find_at_or_after(e, block);
    return s && s->block <= block;
}

static struct shared *insert(struct engine *e, uint32_t block, uint32_t count, uint32_t refs)
{
    struct shared *s = malloc(sizeof *s);
    if (!s)
        return NULL;
    *s = (struct shared){.block = block, .count = count, .refs = refs};
    struct shared *other = RB_INSERT(shared_tree, &e->shared, s);
    assert(!other);
    e->n_shared++;
    return s;
}

/* Cuts the entry so that one begins at block, which lies inside it. */
static int split(struct engine *e, struct shared *s, uint32_t block, struct encoder *batch)
{
    uint32_t left = block - s->block;
    if (left == 0)
        return 0;
    struct shared *right = insert(e, block, s->count - left, s->refs);
    if (!right)
        return -ENOMEM;
    s->count = left;
    record_put(s, batch);
    record_put(right, batch);
    return 0;
}

static void merge_with_previous(struct engine *e, struct shared *s, struct encoder *batch)
{
    struct shared *before = RB_PREV(shared_tree, &e->shared, s);
    if (!before || before->block + before->count != s->block || before->refs != s->refs)
        return;
    before->count += s->count;
    record_remove(s->block, batch);
    record_put(before, batch);
    RB_REMOVE(shared_tree, &e->shared, s);
    e->n_shared--;
    free(s);
}

int shared_add(struct engine *e, uint32_t block, uint32_t count, struct encoder *batch)
{
    uint32_t end = block + count;
    while (block < end) {
        struct shared *s = find_at_or_after(e, block);
        if (!s || s->block > block) {
            uint32_t stop = s && s->block < end ? s->block : end;
            struct shared *new = insert(e, block, stop - block, 2);
            if (!new)
                return -ENOMEM;
            record_put(new, batch);
            merge_with_previous(e, new, batch);
            block = stop;
            continue;
        }
        if (split(e, s, block, batch) < 0)
            return -ENOMEM;
        s = find_at_or_after(e, block);
        assert(s && s->block == block);
        if (s->count > end - block && split(e, s, end, batch) < 0)
            return -ENOMEM;
        s->refs++;
        record_put(s, batch);
        block += s->count;
        merge_with_previous(e, s, batch);
    }
    return 0;
}

int shared_drop(struct engine *e, uint32_t block, uint32_t *count, struct encoder *batch)
{
    struct shared *s = find_at_or_after(e, block);
    if (!s || s->block > block) {
        if (s && s->block - block < *count)
            *count = s->block - block;
        return -ENOENT;
    }
    if (split(e, s, block, batch) < 0)
        return -ENOMEM;
    s = find_at_or_after(e, block);
    assert(s && s->block == block);
    if (s->count > *count && split(e, s, block + *count, batch) < 0)
        return -ENOMEM;
    *count = s->count;
    if (--s->refs >= 2) {
        record_put(s, batch);
        merge_with_previous(e, s, batch);
        return 0;
    }
    record_remove(s->block, batch);
    RB_REMOVE(shared_tree, &e->shared, s);
    e->n_shared--;
    free(s);
    return 0;
}

int shared_load(struct engine *e, uint32_t block, const struct shared_layout *value)
{
    const struct allocator *a = &e->allocator;
    struct shared *s = find_at_or_after(e, block);
    if (block < a->first || block >= a->n_blocks || value->count > a->n_blocks - block)
        return -ELIMPET_CORRUPT;
    if (value->count == 0 || value->refs < 2 || (s && s->block < block + value->count))
        return -ELIMPET_CORRUPT;
    return insert(e, block, value->count, value->refs) ? 0 : -ENOMEM;
}

void shared_clear(struct engine *e)
{
    struct shared *s, *next;
    RB_FOREACH_SAFE(s, shared_tree, &e->shared, next)
    {
        RB_REMOVE(shared_tree, &e->shared, s);
        free(s);
    }
    e->n_shared = 0;
}
