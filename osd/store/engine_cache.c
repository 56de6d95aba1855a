/*
 * The block cache: contents of disk blocks.
 *
 * A block's content never changes in memory. An overwrite puts a new cblock in the table and
 * detaches the old one, which lives until whoever uses its bytes (a journal write, a placing write)
 * has let go. Blocks are dirty until their group is durable, and stay so long; writers wait when
 * there are too many. All others the disk has too, in the journal's ring or in their place: they
 * are dropped, oldest first, to keep within the limit.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "osd/store/engine.h"

/*
 * Memory of blocks comes in slabs that fit huge pages: the kernel looks pages up for every request,
 * and finds a few large ones sooner. Slabs are kept until the end; the limits of the cache bound
 * them.
 */
enum { SLAB_BYTES = 2 * 1024 * 1024 };

static bool add_slab(struct block_cache *cache)
{
    uint8_t **grown = realloc(cache->slabs, (cache->n_slabs + 1) * sizeof(uint8_t *));
    if (!grown)
        return false;
    cache->slabs = grown;
    uint8_t *slab = aligned_alloc(SLAB_BYTES, SLAB_BYTES);
    if (!slab)
        return false;
    (void)madvise(slab, SLAB_BYTES, MADV_HUGEPAGE); /* Only faster with it. */
    cache->slabs[cache->n_slabs++] = slab;
    for (size_t at = 0; at < SLAB_BYTES; at += BLOCK_BYTES) {
        struct free_data *data = (struct free_data *)(slab + at);
        data->next = cache->free_data;
        cache->free_data = data;
    }
    return true;
}

uint8_t *cache_data_alloc(struct engine *e)
{
    struct block_cache *cache = &e->cache;
    if (!cache->free_data && !add_slab(cache))
        return NULL;
    struct free_data *data = cache->free_data;
    assert(data); /* A new slab is all free. */
    cache->free_data = data->next;
    return (uint8_t *)data;
}

void cache_data_free(struct engine *e, uint8_t *data)
{
    struct free_data *f = (struct free_data *)data;
    f->next = e->cache.free_data;
    e->cache.free_data = f;
}

static void destroy(struct engine *e, struct cblock *c)
{
    cache_data_free(e, c->data);
    free(c);
}

struct cblock *cache_look(const struct engine *e, uint32_t block)
{
    struct cblock *c;
    HASH_FIND(hh, e->cache.table, &block, sizeof block, c);
    return c;
}

struct cblock *cache_find(struct engine *e, uint32_t block)
{
    struct cblock *c = cache_look(e, block);
    if (c && c->state == CBLOCK_CLEAN) {
        TAILQ_REMOVE(&e->cache.clean, c, link);
        TAILQ_INSERT_TAIL(&e->cache.clean, c, link);
    }
    return c;
}

/* Takes it out of the table and its list; frees it unless somebody uses its bytes. */
static void detach(struct engine *e, struct cblock *c)
{
    struct block_cache *cache = &e->cache;
    assert(cache->table);
    HASH_DEL(cache->table, c);
    if (c->state == CBLOCK_CLEAN) {
        TAILQ_REMOVE(&cache->clean, c, link);
        cache->n_clean--;
    } else if (c->state == CBLOCK_HELD) {
        cache->n_held--;
    } else if (c->state == CBLOCK_DIRTY) {
        cache->n_dirty--;
    }
    c->state = CBLOCK_DETACHED;
    if (c->pins == 0)
        destroy(e, c);
    else
        cache->n_detached++;
}

void cache_forget(struct engine *e, uint32_t block)
{
    struct cblock *c = cache_look(e, block);
    if (c)
        detach(e, c);
    ring_forget(e, block);
}

struct cblock *cache_insert(struct engine *e, uint32_t block, uint32_t crc, uint8_t *data,
                            enum cblock_state state)
{
    assert(state == CBLOCK_CLEAN || state == CBLOCK_DIRTY);
    struct block_cache *cache = &e->cache;
    struct cblock *c = calloc(1, sizeof *c), *old;
    if (!c)
        return NULL;
    HASH_FIND(hh, cache->table, &block, sizeof block, old);
    c->block = block;
    c->crc = crc;
    c->state = state;
    c->data = data;
    HASH_ADD(hh, cache->table, block, sizeof c->block, c);
    if (!TABLE_TOOK(c)) {
        free(c);
        return NULL;
    }
    if (old)
        detach(e, old);
    TABLE_SPREAD(cache->table);
    if (state == CBLOCK_CLEAN) {
        TAILQ_INSERT_TAIL(&cache->clean, c, link);
        cache->n_clean++;
    } else {
        cache->n_dirty++;
        ring_forget(e, block);
    }
    return c;
}

void cache_unpin(struct engine *e, struct cblock *c)
{
    assert(c->pins > 0);
    if (--c->pins > 0 || c->state != CBLOCK_DETACHED)
        return;
    e->cache.n_detached--;
    destroy(e, c);
}

void cache_durable(struct engine *e, struct cblock *c)
{
    assert(c->state == CBLOCK_DIRTY);
    c->state = CBLOCK_CLEAN;
    e->cache.n_dirty--;
    TAILQ_INSERT_TAIL(&e->cache.clean, c, link);
    e->cache.n_clean++;
}

/* A batch of what is put in place is all of the oldest, and each shrinking would walk past it. */
void cache_hold(struct engine *e, struct cblock *c)
{
    assert(c->state == CBLOCK_CLEAN);
    TAILQ_REMOVE(&e->cache.clean, c, link);
    c->state = CBLOCK_HELD;
    c->pins++;
    e->cache.n_clean--;
    e->cache.n_held++;
}

void cache_let_go(struct engine *e, struct cblock *c)
{
    if (c->state == CBLOCK_HELD) {
        c->state = CBLOCK_CLEAN;
        TAILQ_INSERT_HEAD(&e->cache.clean, c, link);
        e->cache.n_held--;
        e->cache.n_clean++;
    }
    cache_unpin(e, c);
}

void cache_shrink(struct engine *e)
{
    struct block_cache *cache = &e->cache;
    if (!LIST_EMPTY(&e->fetches) || e->fetched)
        return; /* Old content that a transaction has got must be there until it has all. */
    uint64_t limit = cache->limit_bytes / (BLOCK_BYTES + sizeof(struct cblock));
    struct cblock *c = TAILQ_FIRST(&cache->clean);
    while (c &&
           (uint64_t)cache->n_clean + cache->n_held + cache->n_dirty + cache->n_detached > limit) {
        struct cblock *next = TAILQ_NEXT(c, link);
        if (c->pins == 0)
            detach(e, c);
        c = next;
    }
}

void cache_fini(struct engine *e)
{
    struct block_cache *cache = &e->cache;
    struct cblock *c, *next;
    HASH_ITER(hh, cache->table, c, next)
    {
        HASH_DEL(cache->table, c);
        free(c);
    }
    for (uint32_t i = 0; i < cache->n_slabs; i++)
        free(cache->slabs[i]);
    free(cache->slabs);
}
