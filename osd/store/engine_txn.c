/*
 * Transactions: from submission to the journal's open group.
 *
 * They are executed strictly in order, each only when all that it needs is in memory: its onodes,
 * the old content of blocks that it changes in part, room in the journal, free blocks.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "osd/store/engine_txn.h"

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
    ctx->omap_more = false;
    ctx->omap_nid = 0;
    encoder_init(&ctx->omap_last);
    ctx->passes_on = false;
    ctx->in_place = false;
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
    for (uint32_t i = 0; i < ctx->n_onodes; i++) {
        struct onode *o = ctx->onodes[i]->onode;
        if (!o->exists) /* Which the index knows since the group is durable. */
            o->index_change = ++e->index_changes;
        onode_unpin(e, o);
    }
    free_slots(ctx);
    e->ctxs--;
    encoder_fini(&ctx->omap);
    encoder_fini(&ctx->omap_last);
    STAILQ_INSERT_HEAD(&e->ctx_pool, ctx, link);
    txn->done(txn, error);
}

struct onode *ctx_onode(struct txn_ctx *ctx, const struct object_id *id)
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
    if ((ctx->last_onode && id->name == ctx->last_name) || has_onode(ctx, id))
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
    ctx->last_name = id->name;
    ctx->last_onode = o;
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
    struct engine *engine;
    struct store_txn *txn;
    int error;
};

static void refuse_run(struct env_task *task)
{
    struct refused *r = container_of(task, struct refused, task);
    struct store_txn *txn = r->txn;
    int error = r->error;
    struct engine *e = r->engine;
    LIST_REMOVE(r, all);
    free(r);
    txn->done(txn, error);
    engine_check_closed(e);
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
    r->engine = e;
    r->txn = txn;
    r->error = error;
    LIST_INSERT_HEAD(&e->refusals, r, all);
    env_defer(e->env, &r->task);
}

static uint64_t bytes_of(const struct store_txn *txn)
{
    return txn->ops.len + txn->data.len;
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
    txn->damaged = false;
    place_active(e, false);
    e->queued_bytes += bytes_of(txn);
    e->counters.txns++;
    ctx->error = pin_all(ctx); /* Told in its turn, when no load refers to ctx any more. */
    STAILQ_INSERT_TAIL(&e->queue, ctx, link);
    env_defer(e->env, &e->pump_task);
}

void txn_abandon(struct engine *e)
{
    struct refused *r;
    struct direct_write *w;
    need_abandon(e);
    while ((r = LIST_FIRST(&e->refusals)) != NULL) {
        LIST_REMOVE(r, all);
        free(r);
    }
    while ((w = LIST_FIRST(&e->direct_writes)) != NULL) {
        LIST_REMOVE(w, all);
        buf_slice_drop(&w->data);
        free(w);
    }
    for (uint32_t i = 0; i <= JOURNAL_UNDER_WAY; i++)
        STAILQ_CONCAT(&e->queue, &e->journal.groups[i].txns);
    struct txn_ctx *ctx;
    STAILQ_FOREACH(ctx, &e->queue, link)
    {
        encoder_fini(&ctx->omap);
        encoder_fini(&ctx->omap_last);
        free_slots(ctx);
    }
    STAILQ_CONCAT(&e->ctx_pool, &e->queue);
}

/*
 * Whether the disk has room. Growth leaves the reserve alone; recovery takes it but for a last
 * part, which is for what takes no more blocks than it gives back.
 */
static int disk_room(struct engine *e, struct txn_ctx *ctx, const struct txn_need *need)
{
    uint64_t now = e->allocator.n_free, later = now + e->blocks_freed;
    uint64_t wanted = need->blocks;
    if (wanted == 0 || wanted + e->reserve <= now)
        return 0;
    if (planted(PLANTED_STORE_NO_RESERVE) || need->grows == 0 || need->grows <= txn_returns(ctx))
        wanted += 0;
    else if (ctx->txn->uses_reserve)
        wanted += e->reserve / RESERVE_LAST_SHARE;
    else
        wanted += e->reserve;
    if (wanted <= now)
        return 0;
    if (wanted > later)
        return -ENOSPC;
    checkpoint_start_for_blocks(e, wanted - now);
    return -EAGAIN;
}

/* Whether the engine has room for the transaction now; a checkpoint makes some. */
static int room(struct engine *e, struct txn_ctx *ctx, const struct txn_need *need)
{
    if (need->deferred > journal_payload_max(&e->journal) ||
        need->meta > journal_meta_max(&e->journal))
        return -E2BIG;
    int error = disk_room(e, ctx, need);
    if (error < 0)
        return error;
    /* Looked at again at each refusal, since space may have come back without us. */
    if (need->index_grows && !ctx->txn->uses_reserve && e->index_short) {
        e->index_short = e->index->ops->is_short(e->index);
        if (e->index_short)
            return -ENOSPC;
    }
    if ((uint64_t)e->cache.n_dirty * BLOCK_BYTES > e->dirty_limit || place_behind(e))
        return -EAGAIN; /* Groups under way end, and blocks get in place. */
    if (e->onode_memory > 2 * e->onode_limit)
        onode_shrink(e); /* What the last checkpoint has unpinned. */
    if (e->onode_memory > 2 * e->onode_limit && e->unsaved.n > 0) {
        checkpoint_start_for_memory(e);
        return -EAGAIN;
    }
    if (!journal_room(e, need->meta, need->deferred))
        return -EAGAIN;
    return 0;
}

/* Without space for new places, what can be overwritten in place still can be. */
static int room_or_in_place(struct engine *e, struct txn_ctx *ctx, struct txn_need *need)
{
    int error = room(e, ctx, need);
    if (error != -ENOSPC || ctx->in_place || need->blocks == 0)
        return error;
    ctx->in_place = true;
    error = txn_find_needs(ctx, need);
    if (error < 0 || ctx->waiting > 0)
        return error;
    error = ctx->error < 0 ? ctx->error : room(e, ctx, need);
    return error == -E2BIG ? -ENOSPC : error;
}

void engine_pump(struct engine *e)
{
    struct txn_ctx *ctx;
    while ((ctx = STAILQ_FIRST(&e->queue)) != NULL && ctx->waiting == 0 &&
           e->checkpoint.step != CHECKPOINT_SETTLING) {
        struct txn_need need;
        int error = e->failed ? e->failure : ctx->error;
        if (error == 0)
            error = txn_find_needs(ctx, &need);
        if (error == -EAGAIN || (error == 0 && ctx->waiting > 0))
            break;
        if (error == 0)
            error = ctx->error;
        if (error == 0)
            error = room_or_in_place(e, ctx, &need);
        if (error == 0 && ctx->waiting > 0)
            break;
        if (error == -EAGAIN)
            break;
        if (error < 0 && omap_copy_abandon(ctx) < 0) {
            ctx->error = error;
            break;
        }
        STAILQ_REMOVE_HEAD(&e->queue, link);
        e->queued_bytes -= bytes_of(ctx->txn);
        if (error < 0 && ctx->txn->chained && !e->failed)
            engine_fail(e, error, "a transaction failed that others build on");
        if (error < 0)
            txn_finish(ctx, error);
        else
            txn_execute(ctx);
        if (!STAILQ_EMPTY(&e->queue))
            journal_cut(e);
    }
    e->fetched = false;
    journal_kick(e);
    place_kick(e); /* Behind the journal's write, which somebody waits for. */
    cache_shrink(e);
    onode_shrink(e);
    engine_check_closed(e);
}
