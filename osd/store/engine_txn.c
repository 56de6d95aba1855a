/*
 * Transactions: from submission to the journal's open group.
 *
 * They are executed strictly in order, each only when all that it needs is in memory: its onodes,
 * the old content of blocks that it changes in part, room in the journal, free blocks. Execution
 * changes the onodes, hands the content of small writes to the block cache, starts the writing of
 * large ones to new places, and produces one record: the changes of the index, and the payload. It
 * cannot fail half-way: what could be refused was checked before.
 */
#include <assert.h>
#include <errno.h>
#include <isa-l.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "osd/store/engine.h"

enum { RECORD_META_BASE = 4096, CHUNK_META_MAX = 13 + 8 + 1 + CHUNK_BLOCKS * 11 };

uint32_t block_crc(const void *data)
{
    return ~crc32_iscsi((unsigned char *)(uintptr_t)data, BLOCK_BYTES, ~UINT32_C(0));
}

/* ---- Contexts ---- */

static struct txn_ctx *ctx_get(struct engine *e)
{
    struct txn_ctx *ctx = STAILQ_FIRST(&e->ctx_pool);
    if (ctx)
        STAILQ_REMOVE_HEAD(&e->ctx_pool, link);
    else
        ctx = malloc(sizeof *ctx);
    if (!ctx)
        return NULL;
    ctx->engine = e;
    ctx->group = NULL;
    ctx->n_onodes = 0;
    ctx->onode_capacity = 0;
    ctx->last_onode = NULL;
    ctx->waiting = 0;
    ctx->record = 0;
    ctx->error = 0;
    ctx->omap_loaded = false;
    ctx->omap_of = NULL;
    encoder_init(&ctx->omap);
    e->ctxs++;
    return ctx;
}

/* A further place for an onode. NULL: no memory. */
static struct txn_onode *add_slot(struct txn_ctx *ctx)
{
    if (ctx->n_onodes < TXN_ONODES_INLINE) {
        ctx->inline_list[ctx->n_onodes] = &ctx->inline_onodes[ctx->n_onodes];
        ctx->onodes = ctx->inline_list;
        return ctx->onodes[ctx->n_onodes++];
    }
    if (ctx->n_onodes == TXN_ONODES_INLINE || ctx->n_onodes == ctx->onode_capacity) {
        bool first = ctx->n_onodes == TXN_ONODES_INLINE;
        uint32_t capacity = first ? 64 : ctx->onode_capacity * 2;
        struct txn_onode **grown =
            realloc(first ? NULL : ctx->onodes, capacity * sizeof(struct txn_onode *));
        if (!grown)
            return NULL;
        if (first)
            memcpy(grown, ctx->inline_list, sizeof ctx->inline_list);
        ctx->onodes = grown;
        ctx->onode_capacity = capacity;
    }
    struct txn_onode *slot = malloc(sizeof *slot);
    if (slot)
        ctx->onodes[ctx->n_onodes++] = slot;
    return slot;
}

static void free_slots(struct txn_ctx *ctx)
{
    for (uint32_t i = TXN_ONODES_INLINE; i < ctx->n_onodes; i++)
        free(ctx->onodes[i]);
    if (ctx->onode_capacity > 0)
        free(ctx->onodes);
    ctx->n_onodes = 0;
    ctx->onode_capacity = 0;
}

void txn_finish(struct txn_ctx *ctx, int error)
{
    struct engine *e = ctx->engine;
    struct store_txn *txn = ctx->txn;
    for (uint32_t i = 0; i < ctx->n_onodes; i++)
        onode_unpin(e, ctx->onodes[i]->onode);
    free_slots(ctx);
    e->queued_bytes -= ctx->bytes;
    e->ctxs--;
    encoder_fini(&ctx->omap);
    STAILQ_INSERT_HEAD(&e->ctx_pool, ctx, link);
    txn->done(txn, error);
}

static struct onode *ctx_onode(struct txn_ctx *ctx, const struct object_id *id)
{
    if (id->name != ctx->last_name || !ctx->last_onode) {
        ctx->last_onode = onode_find(ctx->engine, id);
        ctx->last_name = id->name;
    }
    return ctx->last_onode;
}

static bool has_onode(const struct txn_ctx *ctx, const struct object_id *id)
{
    uint8_t key[ENGINE_KEY_MAX];
    size_t len = ctx->n_onodes > 0 ? object_key(id, key) : 0;
    for (uint32_t i = ctx->n_onodes; i-- > 0;) {
        const struct onode *o = ctx->onodes[i]->onode;
        if (o->key_len == len && memcmp(o->key, key, len) == 0)
            return true;
    }
    return false;
}

static void onode_ready(struct waiter *waiter)
{
    struct txn_onode *slot = container_of(waiter, struct txn_onode, waiter);
    slot->ctx->waiting--;
    env_defer(slot->ctx->engine->env, &slot->ctx->engine->pump_task);
}

static int pin(struct txn_ctx *ctx, const struct object_id *id)
{
    if (has_onode(ctx, id))
        return 0;
    if (ctx->n_onodes == TXN_ONODES_MAX)
        return -E2BIG;
    struct onode *o = onode_get(ctx->engine, id);
    if (!o)
        return -ENOMEM;
    struct txn_onode *slot = add_slot(ctx);
    if (!slot) {
        onode_unpin(ctx->engine, o);
        return -ENOMEM;
    }
    *slot = (struct txn_onode){.onode = o, .ctx = ctx, .waiter.ready = onode_ready};
    if (o->loading) {
        ctx->waiting++;
        onode_wait(o, &slot->waiter);
    }
    return 0;
}

static int pin_all(struct txn_ctx *ctx)
{
    struct txn_iterator it;
    struct txn_op op;
    int more, error = 0;
    txn_iterate(&it, ctx->txn->ops.data, ctx->txn->ops.len, ctx->txn->data.len);
    while (error == 0 && (more = txn_next(&it, &op)) != 0) {
        if (more < 0)
            return more;
        if (op.code == TXN_PG_SET || op.code == TXN_PG_REMOVE_RANGE)
            continue;
        error = pin(ctx, &op.object);
        if (error == 0 && (op.code == TXN_RENAME || op.code == TXN_CLONE))
            error = pin(ctx, &op.to);
    }
    return error;
}

struct refused {
    LIST_ENTRY(refused) all;
    struct env_task task;
    struct store_txn *txn;
    int error;
};

static void refuse_run(struct env_task *task)
{
    struct refused *r = container_of(task, struct refused, task);
    struct store_txn *txn = r->txn;
    int error = r->error;
    LIST_REMOVE(r, all);
    free(r);
    txn->done(txn, error);
}

/* The error arrives by callback like every other. */
static void refuse(struct engine *e, struct store_txn *txn, int error)
{
    struct refused *r = calloc(1, sizeof *r);
    if (!r) {
        txn->done(txn, error);
        return;
    }
    r->task.run = refuse_run;
    r->txn = txn;
    r->error = error;
    LIST_INSERT_HEAD(&e->refusals, r, all);
    env_defer(e->env, &r->task);
}

void engine_submit(struct store *store, struct store_txn *txn)
{
    struct engine *e = engine_of(store);
    if (e->failed || e->closing || txn->ops.failed) {
        refuse(e, txn, e->failed ? e->failure : e->closing ? -ESHUTDOWN : -ENOMEM);
        return;
    }
    struct txn_ctx *ctx = ctx_get(e);
    if (!ctx) {
        refuse(e, txn, -ENOMEM);
        return;
    }
    ctx->txn = txn;
    ctx->bytes = txn->ops.len + txn->data.len;
    e->queued_bytes += ctx->bytes;
    e->counters.txns++;
    ctx->error = pin_all(ctx); /* Told in its turn, when no load refers to ctx any more. */
    STAILQ_INSERT_TAIL(&e->queue, ctx, link);
    env_defer(e->env, &e->pump_task);
}

/* ---- What a transaction needs ---- */

static const struct chunk *chunk_at(const struct onode *o, uint32_t number)
{
    return number < o->n_chunks ? o->chunks[number] : NULL;
}

/* The disk block that holds a block of the object, or BLOCK_NONE. */
static uint32_t mapped(const struct onode *o, uint64_t index)
{
    const struct chunk *c = chunk_at(o, (uint32_t)(index / CHUNK_BLOCKS));
    return c ? c->block[index % CHUNK_BLOCKS] : BLOCK_NONE;
}

static bool is_shared(const struct engine *e, const struct onode *o, uint64_t index)
{
    const struct chunk *c = chunk_at(o, (uint32_t)(index / CHUNK_BLOCKS));
    uint32_t bit = index % CHUNK_BLOCKS;
    return c && ((c->shared >> bit) & 1) && shared_find(e, c->block[bit]);
}

/* A range cut into a partial block at each end and whole blocks between. Indexes are of blocks. */
struct cut {
    uint64_t first_whole, end_whole; /* Empty when end <= first. */
    bool head, tail; /* Partial blocks at the ends; one block may be both: head only. */
    uint64_t head_index, tail_index;
};

static struct cut cut_range(uint64_t offset, uint64_t len)
{
    struct cut c = {0};
    uint64_t end = offset + len;
    c.first_whole = (offset + BLOCK_BYTES - 1) / BLOCK_BYTES;
    c.end_whole = end / BLOCK_BYTES;
    c.head = offset % BLOCK_BYTES != 0;
    c.head_index = offset / BLOCK_BYTES;
    c.tail = end % BLOCK_BYTES != 0 && (!c.head || end / BLOCK_BYTES != c.head_index);
    c.tail_index = end / BLOCK_BYTES;
    return c;
}

static bool redirects(const struct cut *c)
{
    return c->end_whole > c->first_whole &&
           (c->end_whole - c->first_whole) * BLOCK_BYTES >= REDIRECT_BYTES;
}

struct fetch {
    LIST_ENTRY(fetch) all;
    struct disk_io io;
    struct iovec iov;
    struct txn_ctx *ctx;
    uint32_t block;
    uint32_t crc;
};

static void fetch_done(struct disk_io *io)
{
    struct fetch *f = container_of(io, struct fetch, io);
    struct txn_ctx *ctx = f->ctx;
    struct engine *e = ctx->engine;
    uint8_t *data = f->iov.iov_base;
    uint32_t crc = io->error ? 0 : block_crc(data);
    struct cblock *known = cache_find(e, f->block);
    if (known) {
        cache_data_free(e, data); /* Somebody wrote or read it meanwhile. */
    } else if (io->error || crc != f->crc) {
        e->counters.checksum_errors += !io->error;
        e->counters.read_errors += io->error != 0;
        log_error(e->env, "old content unreadable", "block=%u error=%d crc=%08x want=%08x",
                  f->block, io->error, crc, f->crc);
        ctx->error = io->error ? -EIO : -ELIMPET_CORRUPT;
        cache_data_free(e, data);
    } else if (!cache_insert(e, f->block, crc, data, CBLOCK_CLEAN, 0)) {
        cache_data_free(e, data);
    }
    ctx->waiting--;
    e->busy--;
    LIST_REMOVE(f, all);
    free(f);
    env_defer(e->env, &e->pump_task);
    engine_check_closed(e);
}

/* Makes sure that the old content of a block that is changed in part is in the cache. */
static void need_old(struct txn_ctx *ctx, struct onode *o, uint64_t index)
{
    struct engine *e = ctx->engine;
    uint32_t block = mapped(o, index);
    if (block == BLOCK_NONE || cache_find(e, block))
        return;
    struct fetch *f = calloc(1, sizeof *f);
    uint8_t *data = f ? cache_data_alloc(e) : NULL;
    if (!data) {
        free(f);
        ctx->error = -ENOMEM;
        return;
    }
    const struct chunk *c = chunk_at(o, (uint32_t)(index / CHUNK_BLOCKS));
    f->ctx = ctx;
    f->block = block;
    f->crc = c->crc[index % CHUNK_BLOCKS];
    f->iov = (struct iovec){.iov_base = data, .iov_len = BLOCK_BYTES};
    f->io = (struct disk_io){.op = DISK_READ,
                             .offset = (uint64_t)block << BLOCK_SHIFT,
                             .iov = &f->iov,
                             .n_iov = 1,
                             .len = BLOCK_BYTES,
                             .done = fetch_done};
    ctx->waiting++;
    e->busy++;
    LIST_INSERT_HEAD(&e->fetches, f, all);
    disk_submit(e->disk, &f->io);
}

static void need_write(struct txn_ctx *ctx, struct onode *o, const struct txn_op *op,
                       struct txn_need *need)
{
    struct cut c = cut_range(op->offset, op->len);
    bool redirect = op->code == TXN_WRITE && redirects(&c);
    uint64_t from = op->offset / BLOCK_BYTES;
    uint64_t to = (op->offset + op->len + BLOCK_BYTES - 1) / BLOCK_BYTES;
    if (c.head)
        need_old(ctx, o, c.head_index);
    if (c.tail)
        need_old(ctx, o, c.tail_index);
    need->meta += ((to - from) / CHUNK_BLOCKS + 2) * CHUNK_META_MAX;
    for (uint64_t i = from; i < to; i++) {
        bool whole = i >= c.first_whole && i < c.end_whole;
        if (whole && op->code == TXN_ZERO)
            continue;
        if (!(redirect && whole)) {
            need->deferred++;
            need->meta += sizeof(struct deferred_layout);
        }
        if ((redirect && whole) || mapped(o, i) == BLOCK_NONE || is_shared(ctx->engine, o, i))
            need->blocks++;
    }
}

static void need_op(struct txn_ctx *ctx, const struct txn_op *op, struct txn_need *need)
{
    need->meta += op->name_len + op->value_len + 64;
    if (op->code == TXN_PG_SET || op->code == TXN_PG_REMOVE_RANGE)
        return;
    struct onode *o = ctx_onode(ctx, &op->object);
    if (op->code == TXN_WRITE || op->code == TXN_ZERO) {
        if (op->len > 0)
            need_write(ctx, o, op, need);
    } else if (op->code == TXN_TRUNCATE && op->offset % BLOCK_BYTES != 0 && op->offset < o->size) {
        need_old(ctx, o, op->offset / BLOCK_BYTES);
        need->deferred++;
        need->blocks++;
    }
}

/* ---- The omap of an object that is cloned ---- */

void omap_range(uint64_t nid, uint8_t from[9], uint8_t to[9])
{
    uint64_t first = htobe64(nid), next = htobe64(nid + 1);
    from[0] = to[0] = KEY_OMAP;
    memcpy(from + 1, &first, 8);
    memcpy(to + 1, &next, 8);
}

static void load_omap_run(struct env_work *work)
{
    struct txn_ctx *ctx = container_of(work, struct txn_ctx, work);
    struct engine *e = ctx->engine;
    uint8_t from[9], to[9];
    struct index_iter *iter;
    const void *key, *value;
    size_t key_len, len;
    omap_range(ctx->omap_of->nid, from, to);
    int error = index_iterate(e->index, from, sizeof from, to, sizeof to, false, true, &iter);
    if (error < 0) {
        ctx->error = error;
        return;
    }
    while ((error = index_next(e->index, iter, &key, &key_len, &value, &len)) > 0) {
        encode_string16(&ctx->omap, (const uint8_t *)key + sizeof from, key_len - sizeof from);
        encode_string32(&ctx->omap, value, len);
        if (ctx->omap.failed || ctx->omap.len > journal_meta_max(&e->journal)) {
            error = ctx->omap.failed ? -ENOMEM : -E2BIG;
            break;
        }
    }
    e->index->ops->iter_free(iter);
    from[0] = KEY_OMAP_HEADER;
    if (error == 0) {
        encode_string16(&ctx->omap, "",
                        0); /* The header follows the empty key, which no pair has. */
        struct encoder header;
        encoder_init(&header);
        error = index_get(e->index, from, sizeof from, &header, true);
        encode_string32(&ctx->omap, header.data, header.len);
        encoder_fini(&header);
    }
    if (error < 0)
        ctx->error = error;
}

static void load_omap_done(struct env_work *work)
{
    struct txn_ctx *ctx = container_of(work, struct txn_ctx, work);
    struct engine *e = ctx->engine;
    ctx->waiting--;
    ctx->omap_loaded = true;
    e->busy--;
    env_defer(e->env, &e->pump_task);
    engine_check_closed(e);
}

/*
 * A clone takes a copy of the omap along. It is read from the index, so every earlier record must
 * be in there: -EAGAIN until it is.
 */
static int need_omap(struct txn_ctx *ctx, struct onode *o)
{
    struct engine *e = ctx->engine;
    if (!(o->flags & OBJECT_HAS_OMAP) || ctx->omap_loaded)
        return 0;
    if (ctx->omap_of && ctx->omap_of != o)
        return -E2BIG; /* One clone of an object with an omap in a transaction. */
    ctx->omap_of = o;
    if (e->applied + 1 != e->record)
        return -EAGAIN;
    ctx->waiting++;
    e->busy++;
    ctx->work = (struct env_work){.run = load_omap_run, .done = load_omap_done};
    env_work(e->env, &ctx->work);
    return 0;
}

/* Something changed under data writes that are still under way must wait for them. */
static bool must_settle(const struct txn_op *op, const struct onode *o)
{
    if (o->writing == 0)
        return false;
    if (op->code == TXN_RENAME || op->code == TXN_CLONE)
        return true;
    if (op->code == TXN_TRUNCATE)
        return op->offset % BLOCK_BYTES != 0;
    struct cut c = cut_range(op->offset, op->len);
    return (op->code == TXN_WRITE || op->code == TXN_ZERO) && op->len > 0 && (c.head || c.tail);
}

static bool wait_settled(struct txn_ctx *ctx, struct onode *o)
{
    for (uint32_t i = 0; i < ctx->n_onodes; i++) {
        struct txn_onode *slot = ctx->onodes[i];
        if (slot->onode != o)
            continue;
        ctx->waiting++;
        onode_wait(o, &slot->waiter);
        return true;
    }
    return false;
}

/* Starts what is missing. Afterwards ctx->waiting tells whether it may be executed. */
static int find_needs(struct txn_ctx *ctx, struct txn_need *need)
{
    struct txn_iterator it;
    struct txn_op op;
    *need = (struct txn_need){.meta = RECORD_META_BASE};
    for (uint32_t i = 0; i < ctx->n_onodes; i++) {
        const struct onode *o = ctx->onodes[i]->onode;
        if (o->error < 0)
            return o->error;
        need->meta +=
            2 * (size_t)o->key_len + o->attrs.len + CHUNK_META_MAX + 256 + (size_t)o->n_chunks * 16;
    }
    txn_iterate(&it, ctx->txn->ops.data, ctx->txn->ops.len, ctx->txn->data.len);
    while (txn_next(&it, &op) > 0) {
        if (op.code != TXN_PG_SET && op.code != TXN_PG_REMOVE_RANGE) {
            struct onode *o = ctx_onode(ctx, &op.object);
            if (must_settle(&op, o) && wait_settled(ctx, o))
                return 0;
            int error = op.code == TXN_CLONE ? need_omap(ctx, o) : 0;
            if (error < 0 || ctx->waiting > 0)
                return error;
            if (op.code == TXN_CLONE)
                need->meta += ctx->omap.len * 2 + o->n_chunks * 2 * CHUNK_META_MAX + o->attrs.len +
                              (size_t)o->n_chunks * CHUNK_BLOCKS * 16;
        }
        need_op(ctx, &op, need);
    }
    return 0;
}

/* ---- Execution ---- */

struct execution {
    struct engine *e;
    struct txn_ctx *ctx;
    uint64_t record;
    struct encoder *batch;
    uint32_t n_deferred, n_direct, direct_capacity;
    struct cblock *deferred[GROUP_PAYLOAD_MAX];
    struct direct_layout *direct;
    STAILQ_HEAD(, direct_write) writes;
    bool short_of_memory;
};

static void drop_block(struct execution *x, struct onode *o, uint32_t block, bool shared)
{
    bool unshared;
    engine_pool(x->e, o->pool)->value.blocks--;
    engine_pool(x->e, o->pool)->dirty = true;
    if (shared && shared_find(x->e, block)) {
        if (shared_drop(x->e, block, x->batch, &unshared) < 0)
            x->short_of_memory = true;
        return;
    }
    engine_free_blocks(x->e, x->record, block, 1);
}

static void unmap(struct execution *x, struct onode *o, uint64_t index)
{
    uint32_t block = mapped(o, index);
    if (block == BLOCK_NONE)
        return;
    struct chunk *c = o->chunks[index / CHUNK_BLOCKS];
    uint32_t bit = index % CHUNK_BLOCKS;
    drop_block(x, o, block, (c->shared >> bit) & 1);
    c->block[bit] = BLOCK_NONE;
    c->crc[bit] = 0;
    c->shared &= ~(UINT32_C(1) << bit);
    c->dirty = true;
}

static void map_block(struct execution *x, struct onode *o, uint64_t index, uint32_t block,
                      uint32_t crc)
{
    struct chunk *c = onode_chunk(x->e, o, (uint32_t)(index / CHUNK_BLOCKS));
    if (!c) {
        x->short_of_memory = true;
        return;
    }
    uint32_t bit = index % CHUNK_BLOCKS;
    if (c->block[bit] != block) {
        unmap(x, o, index);
        c->block[bit] = block;
        engine_pool(x->e, o->pool)->value.blocks++;
        engine_pool(x->e, o->pool)->dirty = true;
    }
    c->crc[bit] = crc;
    c->dirty = true;
}

/* One block of new content, through the journal: in place, or at a new place if it has none. */
static void defer_block(struct execution *x, struct onode *o, uint64_t index, uint8_t *data)
{
    uint32_t block = mapped(o, index);
    uint32_t crc = block_crc(data);
    if ((block == BLOCK_NONE || is_shared(x->e, o, index)) &&
        allocator_take(&x->e->allocator, 1, &block) == 0)
        assert(!"free blocks were counted before");
    map_block(x, o, index, block, crc);
    struct cblock *c = cache_insert(x->e, block, crc, data, CBLOCK_DIRTY, x->record);
    if (!c) {
        cache_data_free(x->e, data);
        x->short_of_memory = true;
        return;
    }
    assert(x->n_deferred < GROUP_PAYLOAD_MAX);
    c->pins++;
    x->deferred[x->n_deferred++] = c;
    x->e->counters.deferred_blocks++;
}

/* Changes part of a block; data NULL writes zeroes. */
static void change_part(struct execution *x, struct onode *o, uint64_t offset, size_t len,
                        const uint8_t *data)
{
    uint64_t index = offset / BLOCK_BYTES;
    size_t at = offset % BLOCK_BYTES;
    uint32_t old = mapped(o, index);
    assert(at + len <= BLOCK_BYTES);
    if (old == BLOCK_NONE && !data)
        return;
    uint8_t *bytes = cache_data_alloc(x->e);
    if (!bytes) {
        x->short_of_memory = true;
        return;
    }
    if (old == BLOCK_NONE) {
        if (len < BLOCK_BYTES)
            memset(bytes, 0, BLOCK_BYTES);
    } else if (len < BLOCK_BYTES) {
        struct cblock *c = cache_find(x->e, old);
        assert(c);
        memcpy(bytes, c->data, BLOCK_BYTES);
    }
    if (data)
        memcpy(bytes + at, data, len);
    else
        memset(bytes + at, 0, len);
    defer_block(x, o, index, bytes);
}

static void direct_done(struct disk_io *io)
{
    struct direct_write *w = container_of(io, struct direct_write, io);
    struct onode *o = w->onode;
    struct txn_ctx *ctx = w->ctx;
    int error = io->error;
    buf_slice_drop(&w->data);
    LIST_REMOVE(w, all);
    free(w);
    if (--o->writing == 0)
        onode_wake(o);
    journal_direct_done(ctx->engine, ctx, error);
}

static bool add_direct(struct execution *x, uint32_t block, uint32_t count, uint32_t crc)
{
    if (x->n_direct == x->direct_capacity) {
        uint32_t capacity = x->direct_capacity ? x->direct_capacity * 2 : 16;
        struct direct_layout *grown = realloc(x->direct, capacity * sizeof *grown);
        if (!grown)
            return false;
        x->direct = grown;
        x->direct_capacity = capacity;
    }
    x->direct[x->n_direct++] = (struct direct_layout){.block = block, .count = count, .crc = crc};
    return true;
}

/* Writes count whole blocks at `index` to a run of new blocks. The slice is aligned. */
static void write_run(struct execution *x, struct onode *o, uint64_t index, uint32_t block,
                      uint32_t count, struct buf_slice data)
{
    struct direct_write *w = calloc(1, sizeof *w);
    uint32_t crc = ~crc32_iscsi(data.data, (int)data.len, ~UINT32_C(0));
    if (!w || !add_direct(x, block, count, crc)) {
        free(w);
        x->short_of_memory = true;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        cache_forget(x->e, block + i);
        map_block(x, o, index + i, block + i, block_crc(data.data + (size_t)i * BLOCK_BYTES));
    }
    w->ctx = x->ctx;
    w->onode = o;
    w->data = buf_slice_ref(data);
    w->iov = (struct iovec){.iov_base = data.data, .iov_len = data.len};
    w->io = (struct disk_io){.op = DISK_WRITE,
                             .offset = (uint64_t)block << BLOCK_SHIFT,
                             .iov = &w->iov,
                             .n_iov = 1,
                             .len = data.len,
                             .done = direct_done};
    STAILQ_INSERT_TAIL(&x->writes, w, link);
    x->e->counters.direct_blocks += count;
}

static void redirect(struct execution *x, struct onode *o, uint64_t index, uint32_t count,
                     struct buf_slice data)
{
    struct buf_slice aligned = BUF_SLICE_EMPTY;
    if ((uintptr_t)data.data % BLOCK_BYTES != 0) {
        if (buf_slice_alloc(data.len, &aligned) < 0) {
            x->short_of_memory = true;
            return;
        }
        memcpy(aligned.data, data.data, data.len);
    } else {
        aligned = buf_slice_ref(data);
    }
    for (uint32_t at = 0; at < count;) {
        uint32_t block;
        uint32_t n = allocator_take(&x->e->allocator, count - at, &block);
        assert(n > 0);
        struct buf_slice part =
            buf_slice_sub(aligned, (size_t)at * BLOCK_BYTES, (size_t)n * BLOCK_BYTES);
        write_run(x, o, index + at, block, n, part);
        buf_slice_drop(&part);
        at += n;
    }
    buf_slice_drop(&aligned);
}

static void make_exist(struct execution *x, struct onode *o)
{
    o->dirty = true;
    if (o->exists)
        return;
    o->exists = true;
    o->nid = x->e->next_nid++;
    o->size = 0;
    engine_pool(x->e, o->pool)->value.objects++;
    engine_pool(x->e, o->pool)->dirty = true;
}

static void set_size(struct execution *x, struct onode *o, uint64_t size)
{
    struct pool_stat *pool = engine_pool(x->e, o->pool);
    pool->value.bytes += size - o->size;
    pool->dirty = true;
    o->size = size;
    o->dirty = true;
}

static void execute_write(struct execution *x, struct onode *o, const struct txn_op *op)
{
    make_exist(x, o);
    struct buf_slice data =
        buf_slice_sub(x->ctx->txn->data, op->data_offset, op->len); /* Dropped below. */
    struct cut c = cut_range(op->offset, op->len);
    uint64_t at = op->offset, end = op->offset + op->len;
    if (op->len > 0 && redirects(&c)) {
        struct buf_slice whole = buf_slice_sub(data, c.first_whole * BLOCK_BYTES - op->offset,
                                               (c.end_whole - c.first_whole) * BLOCK_BYTES);
        redirect(x, o, c.first_whole, (uint32_t)(c.end_whole - c.first_whole), whole);
        buf_slice_drop(&whole);
    }
    while (at < end) {
        if (redirects(&c) && at == c.first_whole * BLOCK_BYTES) {
            at = c.end_whole * BLOCK_BYTES;
            continue;
        }
        size_t n = BLOCK_BYTES - at % BLOCK_BYTES;
        if (n > end - at)
            n = end - at;
        change_part(x, o, at, n, data.data + (at - op->offset));
        at += n;
    }
    buf_slice_drop(&data);
    if (op->len > 0 && end > o->size)
        set_size(x, o, end);
}

static void execute_zero(struct execution *x, struct onode *o, const struct txn_op *op)
{
    make_exist(x, o);
    if (op->len == 0)
        return;
    struct cut c = cut_range(op->offset, op->len);
    uint64_t end = op->offset + op->len;
    if (c.head) {
        uint64_t stop = (c.head_index + 1) * BLOCK_BYTES;
        change_part(x, o, op->offset, (stop < end ? stop : end) - op->offset, NULL);
    }
    for (uint64_t i = c.first_whole; i < c.end_whole && i < (uint64_t)o->n_chunks * CHUNK_BLOCKS;
         i++)
        unmap(x, o, i);
    if (c.tail)
        change_part(x, o, c.tail_index * BLOCK_BYTES, end % BLOCK_BYTES, NULL);
    if (end > o->size)
        set_size(x, o, end);
}

static void execute_truncate(struct execution *x, struct onode *o, uint64_t size)
{
    make_exist(x, o);
    uint64_t keep = (size + BLOCK_BYTES - 1) / BLOCK_BYTES;
    for (uint64_t i = keep; i < (uint64_t)o->n_chunks * CHUNK_BLOCKS; i++)
        unmap(x, o, i);
    if (size < o->size && size % BLOCK_BYTES != 0)
        change_part(x, o, size, BLOCK_BYTES - size % BLOCK_BYTES, NULL);
    set_size(x, o, size);
}

static void execute_remove(struct execution *x, struct onode *o)
{
    if (!o->exists)
        return;
    for (uint64_t i = 0; i < (uint64_t)o->n_chunks * CHUNK_BLOCKS; i++)
        unmap(x, o, i);
    for (uint32_t n = 1; n < o->n_chunks; n++) {
        uint8_t key[13];
        chunk_key(o->nid, n, key);
        if (o->chunks[n])
            index_batch_remove(x->batch, key, sizeof key);
    }
    if (o->flags & OBJECT_HAS_OMAP) {
        uint8_t from[9], to[9];
        omap_range(o->nid, from, to);
        index_batch_remove_range(x->batch, from, sizeof from, to, sizeof to);
        from[0] = KEY_OMAP_HEADER;
        index_batch_remove(x->batch, from, sizeof from);
    }
    struct pool_stat *pool = engine_pool(x->e, o->pool);
    pool->value.objects--;
    pool->value.bytes -= o->size;
    pool->dirty = true;
    onode_clear(x->e, o);
    o->dirty = true;
}

static int name_order(const void *a, uint16_t a_len, const void *b, uint16_t b_len)
{
    int order = memcmp(a, b, a_len < b_len ? a_len : b_len);
    return order ? order : (int)a_len - (int)b_len;
}

/* Rewrites the attributes, which are in order of names, with this one set or left out. */
static void execute_attr(struct execution *x, struct onode *o, const struct txn_op *op)
{
    struct encoder attrs;
    struct decoder d;
    bool placed = op->code == TXN_REMOVE_ATTR;
    if (placed && !o->exists)
        return;
    make_exist(x, o);
    encoder_init(&attrs);
    decoder_init(&d, o->attrs.data, o->attrs.len);
    while (decoder_left(&d) > 0 || !placed) {
        uint16_t name_len = 0;
        uint32_t len = 0;
        bool more = decoder_left(&d) > 0;
        const void *name = more ? decode_string16(&d, &name_len) : NULL;
        const void *value = more ? decode_string32(&d, &len) : NULL;
        assert(!d.failed);
        int order = more ? name_order(name, name_len, op->name, op->name_len) : 1;
        if (order >= 0 && !placed) {
            encode_string16(&attrs, op->name, op->name_len);
            encode_string32(&attrs, op->value, op->value_len);
            placed = true;
        }
        if (more && order != 0) {
            encode_string16(&attrs, name, name_len);
            encode_string32(&attrs, value, len);
        }
    }
    if (attrs.failed) {
        x->short_of_memory = true;
        encoder_fini(&attrs);
        return;
    }
    x->e->onode_memory += attrs.len - o->attrs.len;
    o->memory += attrs.len - o->attrs.len;
    encoder_fini(&o->attrs);
    o->attrs = attrs;
}

/* `to` takes over what `from` is; blocks and chunk records stay where they are. */
static void execute_rename(struct execution *x, struct onode *from, struct onode *to)
{
    if (!from->exists || from == to)
        return;
    execute_remove(x, to);
    to->exists = true;
    to->dirty = true;
    to->flags = from->flags;
    to->nid = from->nid;
    to->size = from->size;
    to->info_len = from->info_len;
    memcpy(to->info, from->info, from->info_len);
    struct encoder no_attrs = to->attrs;
    to->attrs = from->attrs;
    from->attrs = no_attrs;
    to->chunks = from->chunks;
    to->n_chunks = from->n_chunks;
    uint64_t moved = from->memory - sizeof *from - from->key_len;
    to->memory += moved;
    x->e->onode_memory += moved;
    from->chunks = NULL;
    from->n_chunks = 0;
    onode_clear(x->e, from);
    from->dirty = true;
}

static int share_chunk(struct execution *x, struct onode *to, struct chunk *c, struct chunk *copy)
{
    for (uint32_t i = 0; i < CHUNK_BLOCKS;) {
        uint32_t n = 1;
        if (c->block[i] == BLOCK_NONE) {
            i++;
            continue;
        }
        while (i + n < CHUNK_BLOCKS && c->block[i + n] == c->block[i] + n)
            n++;
        if (shared_add(x->e, c->block[i], n, x->batch) < 0)
            return -ENOMEM;
        for (uint32_t b = i; b < i + n; b++)
            c->shared |= UINT32_C(1) << b;
        engine_pool(x->e, to->pool)->value.blocks += n;
        i += n;
    }
    *copy = *c;
    c->dirty = copy->dirty = true;
    return 0;
}

static void copy_omap(struct execution *x, struct onode *to)
{
    struct decoder d;
    uint8_t key[9 + STORE_OMAP_KEY_MAX], end[9];
    decoder_init(&d, x->ctx->omap.data, x->ctx->omap.len);
    omap_range(to->nid, key, end);
    while (decoder_left(&d) > 0) {
        uint16_t key_len;
        uint32_t len;
        const void *name = decode_string16(&d, &key_len);
        const void *value = decode_string32(&d, &len);
        assert(!d.failed && key_len <= STORE_OMAP_KEY_MAX);
        memcpy(key + 9, name, key_len);
        key[0] = key_len > 0 ? KEY_OMAP : KEY_OMAP_HEADER;
        if (key_len > 0 || len > 0)
            index_batch_put(x->batch, key, 9u + key_len, value, len);
    }
}

static void execute_clone(struct execution *x, struct onode *from, struct onode *to)
{
    if (!from->exists || from == to)
        return;
    execute_remove(x, to);
    make_exist(x, to);
    set_size(x, to, from->size);
    to->flags = from->flags;
    to->info_len = from->info_len;
    memcpy(to->info, from->info, from->info_len);
    if (from->attrs.len > 0)
        encode_bytes(&to->attrs, from->attrs.data, from->attrs.len);
    x->short_of_memory |= to->attrs.failed;
    to->memory += from->attrs.len;
    x->e->onode_memory += from->attrs.len;
    for (uint32_t n = 0; n < from->n_chunks; n++) {
        struct chunk *copy = from->chunks[n] ? onode_chunk(x->e, to, n) : NULL;
        if (from->chunks[n] && (!copy || share_chunk(x, to, from->chunks[n], copy) < 0)) {
            x->short_of_memory = true;
            return;
        }
    }
    if (from->flags & OBJECT_HAS_OMAP)
        copy_omap(x, to);
}

static void execute_omap(struct execution *x, struct onode *o, const struct txn_op *op)
{
    uint8_t key[9 + STORE_OMAP_KEY_MAX], end[9 + STORE_OMAP_KEY_MAX + 1];
    if (op->code == TXN_OMAP_REMOVE_RANGE && !o->exists)
        return;
    make_exist(x, o);
    omap_range(o->nid, key, end);
    if (op->code == TXN_OMAP_HEADER) {
        o->flags |= OBJECT_HAS_OMAP;
        key[0] = KEY_OMAP_HEADER;
        index_batch_put(x->batch, key, 9, op->value, op->value_len);
        return;
    }
    memcpy(key + 9, op->name, op->name_len);
    if (op->code == TXN_OMAP_SET) {
        o->flags |= OBJECT_HAS_OMAP;
        index_batch_put(x->batch, key, 9u + op->name_len, op->value, op->value_len);
        return;
    }
    size_t end_len = 9;
    if (op->value_len > 0 &&
        name_order(op->name, op->name_len, op->value, (uint16_t)op->value_len) >= 0)
        return; /* An empty range. */
    if (op->value_len > 0) {
        memcpy(end, key, 9);
        memcpy(end + 9, op->value, op->value_len);
        end_len += op->value_len;
    }
    bool single = op->value_len == op->name_len + 1u && op->value[op->name_len] == 0 &&
                  memcmp(op->value, op->name, op->name_len) == 0;
    if (single)
        index_batch_remove(x->batch, key, 9u + op->name_len);
    else
        index_batch_remove_range(x->batch, key, 9u + op->name_len, end, end_len);
}

static void execute_pg(struct execution *x, const struct txn_op *op)
{
    uint8_t key[13 + STORE_PG_KEY_MAX], to[13 + STORE_PG_KEY_MAX];
    uint64_t pool = htobe64(op->pg.pool);
    uint32_t seed = htobe32(op->pg.seed);
    key[0] = KEY_PG;
    memcpy(key + 1, &pool, 8);
    memcpy(key + 9, &seed, 4);
    memcpy(to, key, 13);
    memcpy(key + 13, op->name, op->name_len);
    if (op->code == TXN_PG_SET) {
        index_batch_put(x->batch, key, 13u + op->name_len, op->value, op->value_len);
        return;
    }
    if (name_order(op->name, op->name_len, op->value, (uint16_t)op->value_len) >= 0)
        return; /* An empty range. */
    memcpy(to + 13, op->value, op->value_len);
    index_batch_remove_range(x->batch, key, 13u + op->name_len, to, 13u + op->value_len);
}

static void execute_op(struct execution *x, const struct txn_op *op)
{
    if (op->code == TXN_PG_SET || op->code == TXN_PG_REMOVE_RANGE) {
        execute_pg(x, op);
        return;
    }
    struct onode *o = ctx_onode(x->ctx, &op->object);
    switch (op->code) {
    case TXN_TOUCH:
        make_exist(x, o);
        break;
    case TXN_WRITE:
        execute_write(x, o, op);
        break;
    case TXN_ZERO:
        execute_zero(x, o, op);
        break;
    case TXN_TRUNCATE:
        execute_truncate(x, o, op->offset);
        break;
    case TXN_REMOVE:
        execute_remove(x, o);
        break;
    case TXN_SET_INFO:
        make_exist(x, o);
        o->info_len = (uint16_t)op->value_len;
        memcpy(o->info, op->value, op->value_len);
        break;
    case TXN_SET_ATTR:
    case TXN_REMOVE_ATTR:
        execute_attr(x, o, op);
        break;
    case TXN_RENAME:
        execute_rename(x, o, ctx_onode(x->ctx, &op->to));
        break;
    case TXN_CLONE:
        execute_clone(x, o, ctx_onode(x->ctx, &op->to));
        break;
    case TXN_OMAP_SET:
    case TXN_OMAP_REMOVE_RANGE:
    case TXN_OMAP_HEADER:
        execute_omap(x, o, op);
        break;
    default:
        assert(!"every operation is handled above");
    }
}

/* Puts the changed records of an onode into the batch. */
static void emit(struct execution *x, struct onode *o)
{
    struct encoder *batch = x->batch;
    struct encoder value;
    encoder_init(&value);
    if (o->exists && o->n_chunks > 0 && o->chunks[0] && o->chunks[0]->dirty) {
        o->dirty = true;
        o->chunks[0]->dirty = false;
    }
    if (o->dirty && o->exists) {
        onode_encode(o, &value);
        index_batch_put(batch, o->key, o->key_len, value.data, value.len);
    } else if (o->dirty) {
        index_batch_remove(batch, o->key, o->key_len);
    }
    for (uint32_t n = 1; n < o->n_chunks; n++) {
        struct chunk *c = o->chunks[n];
        uint8_t key[13];
        if (!c || !c->dirty)
            continue;
        encoder_reset(&value);
        chunk_encode(c, &value);
        chunk_key(o->nid, n, key);
        if (value.len > 1)
            index_batch_put(batch, key, sizeof key, value.data, value.len);
        else
            index_batch_remove(batch, key, sizeof key);
        c->dirty = false;
    }
    x->short_of_memory |= value.failed;
    encoder_fini(&value);
    o->dirty = false;
}

static void execute(struct txn_ctx *ctx)
{
    struct engine *e = ctx->engine;
    static struct execution x; /* Large; one at a time, on the loop. */
    memset(&x, 0, offsetof(struct execution, deferred));
    x.e = e;
    x.ctx = ctx;
    x.record = ctx->record = e->record++;
    x.batch = &e->scratch_batch;
    x.direct = NULL;
    x.short_of_memory = false;
    STAILQ_INIT(&x.writes);
    encoder_reset(x.batch);
    struct txn_iterator it;
    struct txn_op op;
    txn_iterate(&it, ctx->txn->ops.data, ctx->txn->ops.len, ctx->txn->data.len);
    while (txn_next(&it, &op) > 0)
        execute_op(&x, &op);
    for (uint32_t i = 0; i < ctx->n_onodes; i++)
        emit(&x, ctx->onodes[i]->onode);
    journal_append(e, ctx, x.batch, x.deferred, x.n_deferred, x.direct, x.n_direct);
    free(x.direct);
    e->counters.records++;
    if (x.short_of_memory || x.batch->failed)
        engine_fail(e, -ENOMEM, "out of memory while executing a transaction");
    while (!STAILQ_EMPTY(&x.writes)) {
        struct direct_write *w = STAILQ_FIRST(&x.writes);
        STAILQ_REMOVE_HEAD(&x.writes, link);
        w->onode->writing++;
        ctx->group->directs++;
        LIST_INSERT_HEAD(&e->direct_writes, w, all);
        disk_submit(e->disk, &w->io);
    }
}

void txn_abandon(struct engine *e)
{
    struct fetch *f;
    struct refused *r;
    struct direct_write *w;
    while ((f = LIST_FIRST(&e->fetches)) != NULL) {
        LIST_REMOVE(f, all);
        cache_data_free(e, f->iov.iov_base);
        free(f);
    }
    while ((r = LIST_FIRST(&e->refusals)) != NULL) {
        LIST_REMOVE(r, all);
        free(r);
    }
    while ((w = LIST_FIRST(&e->direct_writes)) != NULL) {
        LIST_REMOVE(w, all);
        buf_slice_drop(&w->data);
        free(w);
    }
    for (uint32_t i = 0; i < 2; i++)
        STAILQ_CONCAT(&e->queue, &e->journal.groups[i].txns);
    struct txn_ctx *ctx;
    STAILQ_FOREACH(ctx, &e->queue, link)
    {
        encoder_fini(&ctx->omap);
        free_slots(ctx);
    }
    STAILQ_CONCAT(&e->ctx_pool, &e->queue);
}

/* Whether the engine has room for the transaction now; a checkpoint makes some. */
static int room(struct engine *e, const struct txn_need *need)
{
    if (need->deferred > journal_payload_max(&e->journal) ||
        need->meta > journal_meta_max(&e->journal))
        return -E2BIG;
    if (need->blocks > e->allocator.n_free) {
        if (need->blocks > e->allocator.n_free + e->blocks_freed)
            return -ENOSPC;
        checkpoint_start(e);
        return -EAGAIN;
    }
    if ((uint64_t)e->cache.n_dirty * BLOCK_BYTES > e->dirty_limit) {
        place_kick(e);
        return -EAGAIN;
    }
    if (!journal_room(e, need->meta, need->deferred))
        return -EAGAIN;
    return 0;
}

void engine_pump(struct engine *e)
{
    struct txn_ctx *ctx;
    while ((ctx = STAILQ_FIRST(&e->queue)) != NULL && ctx->waiting == 0) {
        struct txn_need need;
        int error = e->failed ? e->failure : ctx->error;
        if (error == 0)
            error = find_needs(ctx, &need);
        if (error == -EAGAIN || (error == 0 && ctx->waiting > 0))
            break;
        if (error == 0)
            error = ctx->error;
        if (error == 0)
            error = room(e, &need);
        if (error == -EAGAIN)
            break;
        STAILQ_REMOVE_HEAD(&e->queue, link);
        if (error < 0)
            txn_finish(ctx, error);
        else
            execute(ctx);
    }
    journal_kick(e);
    cache_shrink(e);
    onode_shrink(e);
    engine_check_closed(e);
}
