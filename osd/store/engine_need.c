/*
 * What a transaction needs before it can be executed: new blocks, room in the journal, the old
 * content of blocks that it changes in part, and the map of an object that it clones.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/planted.h"
#include "osd/store/engine_txn.h"

enum {
    RECORD_META_BASE = 4096,
    CHUNK_META_MAX = 13 + 8 + 1 + CHUNK_BLOCKS * 11,
    OMAP_PIECE_SHARE = 32, /* Of a group's metadata: one piece of a map that is copied. */
    SHARED_META_MAX = 96,  /* Of one block that leaves a shared extent: it is cut, and joined. */
};

/*
 * Operations are looked at before any is executed, so a name may by then stand for other content:
 * after a rename or a clone earlier in the transaction. `source` is the onode whose content it will
 * be, or NULL for none.
 */
static void sources_reset(struct txn_ctx *ctx)
{
    for (uint32_t i = 0; i < ctx->n_onodes; i++) {
        struct onode *o = ctx->onodes[i]->onode;
        o->source = o;
        o->will_exist = o->exists;
    }
}

static void sources_follow(struct txn_ctx *ctx, const struct txn_op *op, struct onode *o)
{
    bool passes = op->code == TXN_RENAME || op->code == TXN_CLONE;
    struct onode *to = passes ? onode_find(ctx->engine, &op->to) : NULL;
    if (passes && (!o->will_exist || to == o))
        return;
    if (passes) {
        to->source = o->source;
        to->will_exist = true;
    }
    if (op->code == TXN_REMOVE || op->code == TXN_RENAME) {
        o->source = NULL;
        o->will_exist = false;
    } else if (op->code != TXN_REMOVE_ATTR && op->code != TXN_OMAP_REMOVE_RANGE) {
        o->will_exist = true;
    }
}

static const struct chunk *chunk_at(const struct onode *o, uint32_t number)
{
    return o && number < o->n_chunks ? o->chunks[number] : NULL;
}

uint32_t onode_block(const struct onode *o, uint64_t index)
{
    const struct chunk *c = chunk_at(o, (uint32_t)(index / CHUNK_BLOCKS));
    return c ? c->block[index % CHUNK_BLOCKS] : BLOCK_NONE;
}

bool onode_block_shared(const struct engine *e, const struct onode *o, uint64_t index)
{
    const struct chunk *c = chunk_at(o, (uint32_t)(index / CHUNK_BLOCKS));
    uint32_t bit = index % CHUNK_BLOCKS;
    if (planted(PLANTED_STORE_IGNORE_SHARED))
        return false;
    return c && ((c->shared >> bit) & 1) && shared_find(e, c->block[bit]);
}

struct range_cut range_cut(uint64_t offset, uint64_t len)
{
    struct range_cut c = {0};
    uint64_t end = offset + len;
    c.first_whole = (offset + BLOCK_BYTES - 1) / BLOCK_BYTES;
    c.end_whole = end / BLOCK_BYTES;
    c.head = offset % BLOCK_BYTES != 0;
    c.head_index = offset / BLOCK_BYTES;
    c.tail = end % BLOCK_BYTES != 0 && (!c.head || end / BLOCK_BYTES != c.head_index);
    c.tail_index = end / BLOCK_BYTES;
    return c;
}

bool range_redirects(const struct txn_ctx *ctx, const struct range_cut *c)
{
    return !ctx->in_place && c->end_whole > c->first_whole &&
           (c->end_whole - c->first_whole) * BLOCK_BYTES >= REDIRECT_BYTES;
}

struct fetch {
    LIST_ENTRY(fetch) all;
    struct disk_io io;
    struct iovec iov;
    struct txn_ctx *ctx;
    uint32_t block;
    uint32_t crc;
    bool again; /* It failed once. */
    bool ring;  /* It is read from the ring. */
    uint32_t slot;
    struct ring_read reading;
};

/*
 * The old content, or whatever the disk gave in its place: then the block stays unreadable until it
 * is written as a whole (E9).
 */
static void fetch_insert(struct fetch *f, uint32_t crc)
{
    struct txn_ctx *ctx = f->ctx;
    struct engine *e = ctx->engine;
    uint8_t *data = f->iov.iov_base;
    bool damaged = f->io.error || crc != f->crc;
    if (damaged) {
        e->counters.checksum_errors += !f->io.error;
        e->counters.read_errors += f->io.error != 0;
        log_error(e->env, "old content unreadable", "block=%u error=%d crc=%08x want=%08x",
                  f->block, f->io.error, crc, f->crc);
        if (f->io.error)
            memset(data, 0, BLOCK_BYTES);
    }
    struct cblock *c = cache_insert(e, f->block, crc, data, CBLOCK_CLEAN);
    if (c)
        c->damaged = damaged;
    else
        cache_data_free(e, data);
}

static void fetch_done(struct disk_io *io);

/* From where the content is: in the ring, or in its place. */
static void fetch_submit(struct fetch *f)
{
    struct engine *e = f->ctx->engine;
    f->ring = ring_find(e, f->block, &f->slot);
    f->io = (struct disk_io){.op = DISK_READ,
                             .offset =
                                 f->ring ? ring_offset(f->slot) : (uint64_t)f->block << BLOCK_SHIFT,
                             .iov = &f->iov,
                             .n_iov = 1,
                             .len = BLOCK_BYTES,
                             .done = fetch_done};
    if (f->ring) {
        ring_read_begin(e, &f->reading, f->slot);
        e->counters.ring_reads++;
    }
    disk_submit(e->disk, &f->io);
}

/* The block is elsewhere by now. Nothing is executed meanwhile, so it can only be in place. */
static bool fetch_moved(const struct fetch *f)
{
    uint32_t slot;
    return f->ring && !ring_find(f->ctx->engine, f->block, &slot);
}

static void fetch_done(struct disk_io *io)
{
    struct fetch *f = container_of(io, struct fetch, io);
    struct txn_ctx *ctx = f->ctx;
    struct engine *e = ctx->engine;
    uint8_t *data = f->iov.iov_base;
    uint32_t crc = io->error ? 0 : block_crc(data);
    if (f->ring)
        ring_read_end(e, &f->reading);
    struct cblock *known = cache_find(e, f->block);
    if (!known && (io->error || crc != f->crc) && (!f->again || fetch_moved(f))) {
        f->again = true; /* Some errors are of the moment. */
        fetch_submit(f);
        return;
    }
    if (known)
        cache_data_free(e, data); /* Somebody wrote or read it meanwhile. */
    else
        fetch_insert(f, crc);
    e->fetched = true;
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
    uint32_t block = onode_block(o, index);
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
    ctx->waiting++;
    e->busy++;
    LIST_INSERT_HEAD(&e->fetches, f, all);
    fetch_submit(f);
}

/* Blocks of the range [from, to) that may be in the tree of shared extents. */
static uint64_t shared_blocks(const struct onode *o, uint64_t from, uint64_t to)
{
    uint64_t n = 0;
    uint64_t last = (to + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS;
    for (uint64_t number = from / CHUNK_BLOCKS; o && number < last && number < o->n_chunks;
         number++)
        n += o->chunks[number] ? (uint32_t)__builtin_popcount(o->chunks[number]->shared) : 0;
    return n;
}

static void need_write(struct txn_ctx *ctx, struct onode *o, const struct txn_op *op,
                       struct txn_need *need)
{
    struct range_cut c = range_cut(op->offset, op->len);
    bool redirect = op->code == TXN_WRITE && range_redirects(ctx, &c);
    uint64_t from = op->offset / BLOCK_BYTES;
    uint64_t to = (op->offset + op->len + BLOCK_BYTES - 1) / BLOCK_BYTES;
    if (c.head)
        need_old(ctx, o, c.head_index);
    if (c.tail)
        need_old(ctx, o, c.tail_index);
    need->meta += ((to - from) / CHUNK_BLOCKS + 2) * CHUNK_META_MAX;
    need->meta += shared_blocks(o, from, to) * SHARED_META_MAX;
    for (uint64_t i = from; i < to; i++) {
        bool whole = i >= c.first_whole && i < c.end_whole;
        if (whole && op->code == TXN_ZERO)
            continue;
        if (!(redirect && whole)) {
            need->deferred++;
            need->meta += sizeof(struct deferred_layout);
        }
        /* What the transaction clones or unmaps needs a new block by the time it is written to. */
        bool more = need->remaps || onode_block(o, i) == BLOCK_NONE ||
                    onode_block_shared(ctx->engine, o, i);
        need->grows += more;
        need->blocks += more || (redirect && whole);
    }
}

/* Every block that the object maps may leave the tree. */
static size_t drop_meta(const struct onode *o)
{
    return (size_t)shared_blocks(o, 0, UINT32_MAX) * SHARED_META_MAX;
}

/* Whether the index grows by an operation other than what it says of the object itself. */
static bool adds_to_index(const struct txn_op *op, const struct onode *o)
{
    switch (op->code) {
    case TXN_OMAP_SET:
    case TXN_OMAP_HEADER:
    case TXN_SET_ATTR:
    case TXN_CLONE:
        return true;
    case TXN_REMOVE:
    case TXN_REMOVE_ATTR:
    case TXN_OMAP_REMOVE_RANGE:
    case TXN_RENAME:
        return false;
    default:
        return !o->will_exist;
    }
}

static void need_op(struct txn_ctx *ctx, const struct txn_op *op, struct txn_need *need)
{
    need->meta += op->name_len + op->value_len + 64;
    if (op->code == TXN_PG_SET || op->code == TXN_PG_REMOVE_RANGE)
        return;
    struct onode *o = ctx_onode(ctx, &op->object);
    need->index_grows |= adds_to_index(op, o);
    if (op->code == TXN_WRITE || op->code == TXN_ZERO) {
        if (op->len > 0)
            need_write(ctx, o->source, op, need);
        need->remaps |= op->code == TXN_ZERO;
    } else if (op->code == TXN_TRUNCATE) {
        uint64_t last = op->offset / BLOCK_BYTES;
        need->meta += drop_meta(o->source);
        if (op->offset % BLOCK_BYTES != 0) {
            need_old(ctx, o->source, last);
            need->deferred++;
            need->blocks += need->remaps || onode_block_shared(ctx->engine, o->source, last);
        }
        need->remaps = true;
    } else if (op->code == TXN_REMOVE) {
        need->meta += drop_meta(o->source);
    } else if (op->code == TXN_RENAME || op->code == TXN_CLONE) {
        need->meta += drop_meta(onode_find(ctx->engine, &op->to));
        need->remaps |= op->code == TXN_CLONE;
    }
    sources_follow(ctx, op, o);
}

/* Blocks from `first` on that belong to the object alone. */
static uint64_t own_blocks(const struct engine *e, const struct onode *o, uint64_t first,
                           uint64_t end)
{
    uint64_t n = 0;
    uint64_t most = (uint64_t)o->n_chunks * CHUNK_BLOCKS;
    for (uint64_t i = first; i < end && i < most; i++)
        n += onode_block(o, i) != BLOCK_NONE && !onode_block_shared(e, o, i);
    return n;
}

/*
 * Each object counts once, with what the first operation takes of it, as long as none has made it
 * another one: too few is safe.
 */
uint64_t txn_returns(struct txn_ctx *ctx)
{
    struct txn_iterator it;
    struct txn_op op;
    const struct onode *last = NULL;
    uint64_t n = 0;
    txn_iterate(&it, ctx->txn->ops.data, ctx->txn->ops.len, ctx->txn->data.len);
    while (txn_next(&it, &op) > 0) {
        if (op.code == TXN_RENAME || op.code == TXN_CLONE)
            break;
        if (op.code == TXN_PG_SET || op.code == TXN_PG_REMOVE_RANGE)
            continue;
        const struct onode *o = ctx_onode(ctx, &op.object);
        if (!o->exists || o == last)
            continue;
        struct range_cut c = range_cut(op.offset, op.len);
        if (op.code == TXN_REMOVE)
            n += own_blocks(ctx->engine, o, 0, UINT64_MAX);
        else if (op.code == TXN_TRUNCATE)
            n +=
                own_blocks(ctx->engine, o, (op.offset + BLOCK_BYTES - 1) / BLOCK_BYTES, UINT64_MAX);
        else if (op.code == TXN_ZERO)
            n += own_blocks(ctx->engine, o, c.first_whole, c.end_whole);
        else
            continue;
        last = o;
    }
    return n;
}

/* ---- The omap of an object that is cloned ---- */

void omap_range(uint64_t nid, uint8_t from[9], uint8_t to[9])
{
    uint64_t first = htobe64(nid), next = htobe64(nid + 1);
    from[0] = to[0] = KEY_OMAP;
    memcpy(from + 1, &first, 8);
    memcpy(to + 1, &next, 8);
}

/* The key from which the next piece goes on, and how long it is. */
static size_t piece_start(const struct txn_ctx *ctx, uint8_t from[9 + STORE_OMAP_KEY_MAX + 1])
{
    uint8_t to[9];
    omap_range(ctx->omap_of->nid, from, to);
    if (ctx->omap_last.len == 0)
        return 9;
    memcpy(from + 9, ctx->omap_last.data, ctx->omap_last.len);
    from[9 + ctx->omap_last.len] = 0;
    return 9u + ctx->omap_last.len + 1;
}

/* The header follows the empty key, which no pair has. */
static int load_header(struct txn_ctx *ctx)
{
    uint8_t key[9], to[9];
    struct encoder header;
    omap_range(ctx->omap_of->nid, key, to);
    key[0] = KEY_OMAP_HEADER;
    encoder_init(&header);
    int error = index_get(ctx->engine->index, key, sizeof key, &header, true);
    encode_string16(&ctx->omap, "", 0);
    encode_string32(&ctx->omap, header.data, header.len);
    encoder_fini(&header);
    return error < 0 ? error : ctx->omap.failed ? -ENOMEM : 0;
}

static void load_omap_run(struct env_work *work)
{
    struct txn_ctx *ctx = container_of(work, struct txn_ctx, work);
    struct engine *e = ctx->engine;
    uint8_t from[9 + STORE_OMAP_KEY_MAX + 1], first[9], to[9];
    struct index_iter *iter;
    const void *key, *value;
    size_t key_len, len;
    size_t piece = journal_meta_max(&e->journal) / OMAP_PIECE_SHARE;
    size_t from_len = piece_start(ctx, from);
    omap_range(ctx->omap_of->nid, first, to);
    int error = index_iterate(e->index, from, from_len, to, sizeof to, false, true, &iter);
    if (error < 0) {
        ctx->error = error;
        return;
    }
    ctx->omap_more = false;
    while ((error = index_next(e->index, iter, &key, &key_len, &value, &len)) > 0) {
        if (key_len < sizeof first || key_len - sizeof first > STORE_OMAP_KEY_MAX) {
            error = -ELIMPET_CORRUPT;
            break;
        }
        encode_string16(&ctx->omap, (const uint8_t *)key + sizeof first, key_len - sizeof first);
        encode_string32(&ctx->omap, value, len);
        error = ctx->omap.failed ? -ENOMEM : 0;
        if (error < 0 || ctx->omap.len < piece)
            continue;
        ctx->omap_more = true;
        encoder_reset(&ctx->omap_last);
        encode_bytes(&ctx->omap_last, (const uint8_t *)key + sizeof first, key_len - sizeof first);
        error = ctx->omap_last.failed ? -ENOMEM : 0;
        break;
    }
    e->index->ops->iter_free(iter);
    if (error == 0 && !ctx->omap_more)
        error = load_header(ctx);
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

static void copying_key(uint64_t nid, uint8_t key[9])
{
    uint64_t be = htobe64(nid);
    key[0] = KEY_COPYING;
    memcpy(key + 1, &be, sizeof be);
}

void omap_copy(const struct encoder *omap, uint64_t nid, struct encoder *batch)
{
    struct decoder d;
    uint8_t key[9 + STORE_OMAP_KEY_MAX], end[9];
    decoder_init(&d, omap->data, omap->len);
    omap_range(nid, key, end);
    while (decoder_left(&d) > 0) {
        uint16_t key_len;
        uint32_t len;
        const void *name = decode_string16(&d, &key_len);
        const void *value = decode_string32(&d, &len);
        assert(!d.failed && key_len <= STORE_OMAP_KEY_MAX);
        memcpy(key + 9, name, key_len);
        key[0] = key_len > 0 ? KEY_OMAP : KEY_OMAP_HEADER;
        if (key_len > 0 || len > 0)
            index_batch_put(batch, key, 9u + key_len, value, len);
    }
}

void omap_copy_over(uint64_t nid, struct encoder *batch)
{
    uint8_t key[9];
    copying_key(nid, key);
    index_batch_remove(batch, key, sizeof key);
}

void omap_copy_drop(uint64_t nid, struct encoder *batch)
{
    uint8_t from[9], to[9];
    omap_range(nid, from, to);
    index_batch_remove_range(batch, from, sizeof from, to, sizeof to);
    from[0] = KEY_OMAP_HEADER;
    index_batch_remove(batch, from, sizeof from);
    omap_copy_over(nid, batch);
}

/* With the changes in scratch.now. */
static void own_record(struct engine *e)
{
    encoder_reset(&e->scratch.onodes);
    encoder_reset(&e->scratch.pairs);
    e->record++;
    e->counters.records++;
    journal_append(e, NULL, &e->scratch, NULL, 0, NULL, 0);
    if (e->scratch.now.failed)
        engine_fail(e, -ENOMEM, "out of memory while a map is copied");
}

/* A piece of the map goes into a record of its own. Each says that the rest may never come. */
static int copy_piece(struct txn_ctx *ctx)
{
    struct engine *e = ctx->engine;
    struct encoder *batch = &e->scratch.now;
    uint8_t key[9];
    if (!journal_room(e, 2 * ctx->omap.len + RECORD_META_BASE, 0))
        return -EAGAIN;
    if (ctx->omap_nid == 0)
        ctx->omap_nid = e->next_nid++;
    encoder_reset(batch);
    copying_key(ctx->omap_nid, key);
    index_batch_put(batch, key, sizeof key, NULL, 0);
    omap_copy(&ctx->omap, ctx->omap_nid, batch);
    own_record(e);
    encoder_reset(&ctx->omap);
    ctx->omap_loaded = false;
    return 0;
}

int omap_copy_abandon(struct txn_ctx *ctx)
{
    struct engine *e = ctx->engine;
    if (ctx->omap_nid == 0 || e->failed)
        return 0;
    if (!journal_room(e, RECORD_META_BASE, 0))
        return -EAGAIN;
    encoder_reset(&e->scratch.now);
    omap_copy_drop(ctx->omap_nid, &e->scratch.now);
    own_record(e);
    ctx->omap_nid = 0;
    return 0;
}

/*
 * A clone takes a copy of the omap along. It is read from the index, so every earlier record must
 * be in there: -EAGAIN until it is. A large one is copied in pieces before the transaction is
 * executed; nothing else is meanwhile, so the map stays what it is.
 */
static int need_omap(struct txn_ctx *ctx, struct onode *o)
{
    struct engine *e = ctx->engine;
    if (!(o->flags & OBJECT_HAS_OMAP))
        return 0;
    if (ctx->omap_of && ctx->omap_of != o)
        return -E2BIG; /* One clone of an object with an omap in a transaction. */
    if (ctx->omap_loaded && ctx->omap_more && ctx->error == 0) {
        int error = copy_piece(ctx);
        if (error < 0)
            return error;
    }
    if (ctx->omap_loaded)
        return 0;
    if (!ctx->omap_of && e->applied + 1 != e->record)
        return -EAGAIN;
    ctx->omap_of = o;
    ctx->omap_source = o->nid;
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
    struct range_cut c = range_cut(op->offset, op->len);
    return (op->code == TXN_WRITE || op->code == TXN_ZERO) && op->len > 0 && (c.head || c.tail);
}

/*
 * Blocks that were written to new places are compared with their checksum at replay, unless a later
 * group vouches for them. New content must therefore not be put in place by the same group.
 */
static bool in_open_group(const struct engine *e, const struct txn_op *op, const struct onode *o)
{
    const struct group *g = e->journal.open;
    return o && g->n_records > 0 && o->direct_record >= g->first_record &&
           (op->code == TXN_WRITE || op->code == TXN_ZERO || op->code == TXN_TRUNCATE);
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

int txn_find_needs(struct txn_ctx *ctx, struct txn_need *need)
{
    struct txn_iterator it;
    struct txn_op op;
    uint32_t omaps = 0;
    *need = (struct txn_need){.meta = RECORD_META_BASE};
    for (uint32_t i = 0; i < ctx->n_onodes; i++) {
        const struct onode *o = ctx->onodes[i]->onode;
        if (o->error < 0)
            return o->error;
        need->meta +=
            2 * (size_t)o->key_len + o->attrs.len + CHUNK_META_MAX + 256 + (size_t)o->n_chunks * 16;
    }
    sources_reset(ctx);
    txn_iterate(&it, ctx->txn->ops.data, ctx->txn->ops.len, ctx->txn->data.len);
    while (txn_next(&it, &op) > 0) {
        if (op.code != TXN_PG_SET && op.code != TXN_PG_REMOVE_RANGE) {
            struct onode *o = ctx_onode(ctx, &op.object);
            struct onode *source = o->source;
            if (in_open_group(ctx->engine, &op, source))
                return -EAGAIN;
            if (source && must_settle(&op, source) && wait_settled(ctx, source))
                return 0;
            bool clones = source && op.code == TXN_CLONE;
            omaps += clones && (source->flags & OBJECT_HAS_OMAP);
            if (omaps > 1 && ctx->omap_nid != 0)
                return -E2BIG; /* What is copied in pieces is copied once. */
            int error = clones ? need_omap(ctx, source) : 0;
            if (error < 0 || ctx->waiting > 0)
                return error;
            if (source && op.code == TXN_CLONE)
                need->meta += ctx->omap.len * 2 + source->n_chunks * 2 * CHUNK_META_MAX +
                              source->attrs.len +
                              (size_t)source->n_chunks * CHUNK_BLOCKS * SHARED_META_MAX;
        }
        need_op(ctx, &op, need);
    }
    return 0;
}

void need_abandon(struct engine *e)
{
    struct fetch *f;
    while ((f = LIST_FIRST(&e->fetches)) != NULL) {
        LIST_REMOVE(f, all);
        cache_data_free(e, f->iov.iov_base);
        free(f);
    }
}
