/*
 * Execution of a transaction: changes the onodes, hands the content of small writes to the block
 * cache, starts the writing of large ones to new places, and produces one record: the changes of
 * the index, and the payload. It cannot fail half-way: what could be refused was checked before.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <isa-l.h>
#include <stdlib.h>
#include <string.h>

#include "osd/store/engine_txn.h"

uint32_t block_crc(const void *data)
{
    return ~crc32_iscsi((unsigned char *)(uintptr_t)data, BLOCK_BYTES, ~UINT32_C(0));
}

enum { CACHE_LINE = 64 };

/* Checksums of blocks are so short that the CPU's own prefetcher has no time to begin. */
uint32_t block_crc_ahead(const uint8_t *data)
{
    for (uint32_t at = 0; at < BLOCK_BYTES; at += CACHE_LINE)
        __builtin_prefetch(data + BLOCK_BYTES + at);
    return block_crc(data);
}

uint32_t run_crc_add(uint32_t run, uint32_t crc)
{
    uint8_t bytes[4];
    const uint32_t le = htole32(crc);
    memcpy(bytes, &le, sizeof bytes);
    return crc32_iscsi(bytes, sizeof bytes, run);
}

static uint32_t run_crc(const uint8_t *data, size_t len)
{
    uint32_t run = RUN_CRC_FIRST;
    for (size_t at = 0; at < len; at += BLOCK_BYTES)
        run = run_crc_add(run, block_crc(data + at));
    return run_crc_end(run);
}

struct execution {
    struct engine *e;
    struct txn_ctx *ctx;
    uint64_t record;
    struct encoder *batch; /* The three parts of struct changes. */
    struct encoder *late;
    struct encoder *pairs;
    uint32_t n_deferred, n_direct, direct_capacity;
    struct cblock *deferred[GROUP_PAYLOAD_MAX];
    struct direct_layout *direct;
    STAILQ_HEAD(, direct_write) writes;
    bool short_of_memory;
};

static void chunk_changed(struct onode *o, struct chunk *c, uint32_t number)
{
    c->dirty = true;
    chunk_range_add(&o->dirty_chunks, number);
}

/* Blocks side by side on the disk that an object maps, or has mapped. */
struct block_run {
    uint32_t block, count;
    bool shared; /* Perhaps. */
};

static void drop_run(struct execution *x, const struct onode *o, const struct block_run *run)
{
    struct pool_stat *pool = engine_pool(x->e, o->pool);
    pool->value.blocks -= run->count;
    pool->dirty = true;
    for (uint32_t at = 0, n; at < run->count; at += n) {
        n = run->count - at;
        int rc = run->shared ? shared_drop(x->e, run->block + at, &n, x->batch) : -ENOENT;
        if (rc == -ENOENT)
            engine_free_blocks(x->e, x->record, run->block + at, n);
        else if (rc < 0)
            x->short_of_memory = true;
    }
}

/* Run by run: a change of a shared extent is a change of the index. */
static void unmap_range(struct execution *x, struct onode *o, uint64_t first, uint64_t end)
{
    struct block_run run = {0};
    if (end > (uint64_t)o->n_chunks * CHUNK_BLOCKS)
        end = (uint64_t)o->n_chunks * CHUNK_BLOCKS;
    for (uint64_t index = first; index < end; index++) {
        uint32_t block = onode_block(o, index);
        if (block == BLOCK_NONE)
            continue;
        struct chunk *c = o->chunks[index / CHUNK_BLOCKS];
        uint32_t bit = index % CHUNK_BLOCKS;
        bool shared = (c->shared >> bit) & 1;
        if (run.count > 0 && run.block + run.count == block && run.shared == shared) {
            run.count++;
        } else {
            drop_run(x, o, &run);
            run = (struct block_run){.block = block, .count = 1, .shared = shared};
        }
        c->block[bit] = BLOCK_NONE;
        c->crc[bit] = 0;
        c->shared &= ~(UINT32_C(1) << bit);
        chunk_changed(o, c, (uint32_t)(index / CHUNK_BLOCKS));
    }
    drop_run(x, o, &run);
}

static void unmap(struct execution *x, struct onode *o, uint64_t index)
{
    unmap_range(x, o, index, index + 1);
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
    chunk_changed(o, c, (uint32_t)(index / CHUNK_BLOCKS));
}

/*
 * One block of new content, through the journal: in place, or at a new place if it has none. The
 * onode of one that is damaged gets a checksum that its content does not have.
 */
static void defer_block(struct execution *x, struct onode *o, uint64_t index, uint8_t *data,
                        bool damaged)
{
    uint32_t block = onode_block(o, index);
    uint32_t crc = block_crc(data);
    if ((block == BLOCK_NONE || onode_block_shared(x->e, o, index)) &&
        allocator_take(&x->e->allocator, 1, &block) == 0)
        assert(!"free blocks were counted before");
    map_block(x, o, index, block, damaged ? ~crc : crc);
    x->ctx->txn->damaged |= damaged;
    struct cblock *c = cache_insert(x->e, block, crc, data, CBLOCK_DIRTY);
    if (!c) {
        cache_data_free(x->e, data);
        x->short_of_memory = true;
        return;
    }
    assert(x->n_deferred < GROUP_PAYLOAD_MAX);
    c->damaged = damaged;
    c->pins++;
    x->deferred[x->n_deferred++] = c;
    x->e->counters.deferred_blocks++;
}

/* The transaction's own write of this block to a new place, not yet submitted. */
static struct direct_write *pending_write(struct execution *x, uint32_t block)
{
    struct direct_write *w;
    STAILQ_FOREACH(w, &x->writes, link)
    {
        uint64_t first = w->io.offset >> BLOCK_SHIFT;
        if (block >= first && block - first < w->io.len >> BLOCK_SHIFT)
            return w;
    }
    return NULL;
}

/* Changes bytes of a write that the transaction is about to make, in a copy of them. */
static void change_pending(struct execution *x, struct onode *o, struct direct_write *w,
                           uint64_t offset, size_t len, const uint8_t *data)
{
    uint64_t index = offset / BLOCK_BYTES;
    uint32_t block = onode_block(o, index);
    if (!w->changed) {
        struct buf_slice copy;
        if (buf_slice_alloc(w->data.len, &copy) < 0) {
            x->short_of_memory = true;
            return;
        }
        memcpy(copy.data, w->data.data, w->data.len);
        buf_slice_drop(&w->data);
        w->data = copy;
        w->iov.iov_base = copy.data;
        w->changed = true;
    }
    uint8_t *bytes = w->data.data + ((uint64_t)block << BLOCK_SHIFT) - w->io.offset;
    if (data)
        memcpy(bytes + offset % BLOCK_BYTES, data, len);
    else
        memset(bytes + offset % BLOCK_BYTES, 0, len);
    map_block(x, o, index, block, block_crc(bytes));
}

/* Changes part of a block; data NULL writes zeroes. */
static void change_part(struct execution *x, struct onode *o, uint64_t offset, size_t len,
                        const uint8_t *data)
{
    uint64_t index = offset / BLOCK_BYTES;
    size_t at = offset % BLOCK_BYTES;
    uint32_t old = onode_block(o, index);
    assert(at + len <= BLOCK_BYTES);
    if (old == BLOCK_NONE && !data)
        return;
    struct direct_write *w = old == BLOCK_NONE ? NULL : pending_write(x, old);
    if (w && !onode_block_shared(x->e, o, index)) {
        change_pending(x, o, w, offset, len, data);
        return;
    }
    bool damaged = false;
    uint8_t *bytes = cache_data_alloc(x->e);
    if (!bytes) {
        x->short_of_memory = true;
        return;
    }
    if (old == BLOCK_NONE) {
        if (len < BLOCK_BYTES)
            memset(bytes, 0, BLOCK_BYTES);
    } else if (len < BLOCK_BYTES && w) {
        memcpy(bytes, w->data.data + ((uint64_t)old << BLOCK_SHIFT) - w->io.offset, BLOCK_BYTES);
    } else if (len < BLOCK_BYTES) {
        struct cblock *c = cache_find(x->e, old);
        assert(c);
        damaged = c->damaged;
        memcpy(bytes, c->data, BLOCK_BYTES);
    }
    if (data)
        memcpy(bytes + at, data, len);
    else
        memset(bytes + at, 0, len);
    defer_block(x, o, index, bytes, damaged);
}

static void direct_done(struct disk_io *io)
{
    struct direct_write *w = container_of(io, struct direct_write, io);
    struct onode *o = w->onode;
    struct txn_ctx *ctx = w->ctx;
    int error = io->error;
    /* Before anybody looks at what should be there. */
    if (error)
        engine_fail(ctx->engine, error, "data could not be written");
    buf_slice_drop(&w->data);
    LIST_REMOVE(w, all);
    free(w);
    for (uint32_t i = 0; i < ctx->n_onodes; i++) {
        struct onode *each = ctx->onodes[i]->onode;
        if ((each == o || ctx->passes_on) && --each->writing == 0)
            onode_wake(each);
    }
    journal_direct_done(ctx->engine, ctx, error);
}

static bool add_direct(struct execution *x, uint32_t block, uint32_t count)
{
    if (x->n_direct == x->direct_capacity) {
        uint32_t capacity = x->direct_capacity ? x->direct_capacity * 2 : 16;
        struct direct_layout *grown = realloc(x->direct, capacity * sizeof *grown);
        if (!grown)
            return false;
        x->direct = grown;
        x->direct_capacity = capacity;
    }
    x->direct[x->n_direct++] = (struct direct_layout){.block = block, .count = count};
    return true;
}

/* Writes count whole blocks at `index` to a run of new blocks. The slice is aligned. */
static void write_run(struct execution *x, struct onode *o, uint64_t index, uint32_t block,
                      uint32_t count, struct buf_slice data)
{
    struct direct_write *w = calloc(1, sizeof *w);
    o->direct_record = x->record;
    uint32_t run = RUN_CRC_FIRST;
    if (!w || !add_direct(x, block, count)) {
        free(w);
        x->short_of_memory = true;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *bytes = data.data + (size_t)i * BLOCK_BYTES;
        uint32_t crc = i + 1 < count ? block_crc_ahead(bytes) : block_crc(bytes);
        run = run_crc_add(run, crc);
        cache_forget(x->e, block + i);
        map_block(x, o, index + i, block + i, crc);
    }
    x->direct[x->n_direct - 1].crc = run_crc_end(run);
    w->ctx = x->ctx;
    w->onode = o;
    w->layout = x->n_direct - 1;
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
    unmap_range(x, o, index, index + count);
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
    o->info_len = 0;
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
    struct range_cut c = range_cut(op->offset, op->len);
    uint64_t at = op->offset, end = op->offset + op->len;
    if (op->len > 0 && range_redirects(x->ctx, &c)) {
        struct buf_slice whole = buf_slice_sub(data, c.first_whole * BLOCK_BYTES - op->offset,
                                               (c.end_whole - c.first_whole) * BLOCK_BYTES);
        redirect(x, o, c.first_whole, (uint32_t)(c.end_whole - c.first_whole), whole);
        buf_slice_drop(&whole);
    }
    while (at < end) {
        if (range_redirects(x->ctx, &c) && at == c.first_whole * BLOCK_BYTES) {
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
    struct range_cut c = range_cut(op->offset, op->len);
    uint64_t end = op->offset + op->len;
    if (c.head) {
        uint64_t stop = (c.head_index + 1) * BLOCK_BYTES;
        change_part(x, o, op->offset, (stop < end ? stop : end) - op->offset, NULL);
    }
    unmap_range(x, o, c.first_whole, c.end_whole);
    if (c.tail)
        change_part(x, o, c.tail_index * BLOCK_BYTES, end % BLOCK_BYTES, NULL);
    if (end > o->size)
        set_size(x, o, end);
}

static void execute_truncate(struct execution *x, struct onode *o, uint64_t size)
{
    make_exist(x, o);
    uint64_t keep = (size + BLOCK_BYTES - 1) / BLOCK_BYTES;
    unmap_range(x, o, keep, UINT64_MAX);
    if (size < o->size && size % BLOCK_BYTES != 0)
        change_part(x, o, size, BLOCK_BYTES - size % BLOCK_BYTES, NULL);
    set_size(x, o, size);
}

static void execute_remove(struct execution *x, struct onode *o)
{
    if (!o->exists)
        return;
    unmap_range(x, o, 0, UINT64_MAX);
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

/* Chunks that the index lacks follow their object to another name: it learns of them now. */
static void save_chunks(struct execution *x, struct onode *o)
{
    for (uint32_t n = 1; n < o->n_chunks; n++)
        if (o->chunks[n] && o->chunks[n]->unsaved) {
            struct encoder value;
            uint8_t key[13];
            encoder_init(&value);
            chunk_encode(o->chunks[n], &value);
            chunk_key(o->nid, n, key);
            if (value.len > 1)
                index_batch_put(x->batch, key, sizeof key, value.data, value.len);
            else
                index_batch_remove(x->batch, key, sizeof key);
            x->short_of_memory |= value.failed;
            encoder_fini(&value);
            o->chunks[n]->unsaved = false;
        }
}

/* `to` takes over what `from` is; blocks and chunk records stay where they are. */
static void execute_rename(struct execution *x, struct onode *from, struct onode *to)
{
    if (!from->exists || from == to)
        return;
    execute_remove(x, to);
    x->ctx->passes_on = true;
    to->direct_record = from->direct_record;
    to->exists = true;
    to->dirty = true;
    to->flags = from->flags;
    to->nid = from->nid;
    to->size = from->size;
    to->info_len = from->info_len;
    memcpy(to->info, from->info, from->info_len);
    save_chunks(x, from);
    struct encoder no_attrs = to->attrs;
    to->attrs = from->attrs;
    from->attrs = no_attrs;
    to->chunks = from->chunks;
    to->n_chunks = from->n_chunks;
    uint64_t moved = from->memory - sizeof *from - from->key_len;
    to->memory += moved;
    x->e->onode_memory += moved;
    to->dirty_chunks = from->dirty_chunks;
    from->dirty_chunks = from->unsaved_chunks = (struct chunk_range){0};
    from->chunks = NULL;
    from->n_chunks = 0;
    onode_clear(x->e, from);
    from->dirty = true;
}

/* One reference more to all that it maps. */
static void share_blocks(struct execution *x, const struct onode *o)
{
    struct block_run run = {0};
    struct pool_stat *pool = engine_pool(x->e, o->pool);
    for (uint64_t index = 0; index <= (uint64_t)o->n_chunks * CHUNK_BLOCKS; index++) {
        uint32_t block = onode_block(o, index);
        if (run.count > 0 && run.block + run.count == block) {
            run.count++;
            continue;
        }
        if (run.count > 0 && shared_add(x->e, run.block, run.count, x->batch) < 0)
            x->short_of_memory = true;
        pool->value.blocks += run.count;
        run = (struct block_run){.block = block, .count = block != BLOCK_NONE};
    }
}

static void share_chunk(struct chunk *c, struct chunk *copy)
{
    for (uint32_t i = 0; i < CHUNK_BLOCKS; i++)
        if (c->block[i] != BLOCK_NONE)
            c->shared |= UINT32_C(1) << i;
    *copy = *c;
    c->dirty = copy->dirty = true;
}

static void execute_clone(struct execution *x, struct onode *from, struct onode *to)
{
    if (!from->exists || from == to)
        return;
    execute_remove(x, to);
    x->ctx->passes_on = true;
    to->direct_record = from->direct_record;
    make_exist(x, to);
    if (x->ctx->omap_nid != 0 && x->ctx->omap_source == from->nid)
        to->nid = x->ctx->omap_nid; /* Its map is there already, in part. */
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
        chunk_range_add(&from->dirty_chunks, n);
        chunk_range_add(&to->dirty_chunks, n);
        if (copy) {
            share_chunk(from->chunks[n], copy);
        } else if (from->chunks[n]) {
            x->short_of_memory = true;
            return;
        }
    }
    share_blocks(x, to);
    if (!(from->flags & OBJECT_HAS_OMAP))
        return;
    omap_copy(&x->ctx->omap, to->nid, x->batch);
    if (x->ctx->omap_nid != 0)
        omap_copy_over(to->nid, x->batch);
    x->ctx->omap_nid = 0;
}

/* Whether the range ends with the first key that there can be after the one that it begins with. */
static bool is_one_key(const struct txn_op *op)
{
    return op->value_len == op->name_len + 1u && op->value[op->name_len] == 0 &&
           memcmp(op->value, op->name, op->name_len) == 0;
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
    if (is_one_key(op))
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
        index_batch_put(x->pairs, key, 13u + op->name_len, op->value, op->value_len);
        return;
    }
    if (name_order(op->name, op->name_len, op->value, (uint16_t)op->value_len) >= 0)
        return; /* An empty range. */
    memcpy(to + 13, op->value, op->value_len);
    if (is_one_key(op))
        index_batch_remove(x->pairs, key, 13u + op->name_len);
    else
        index_batch_remove_range(x->pairs, key, 13u + op->name_len, to, 13u + op->value_len);
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

/*
 * Puts the changed records of an onode into the record. The index learns at once that an object is
 * gone; the rest waits for a checkpoint, which saves many changes of an onode at the price of one,
 * and many onodes in the order of their keys. A listing tells it of new ones before.
 */
static void emit(struct execution *x, struct onode *o)
{
    struct encoder value;
    bool changed = o->dirty;
    bool unsaved = false; /* Changed in a way that the index does not learn of at once. */
    encoder_init(&value);
    o->dirty |= o->exists && o->n_chunks > 0 && o->chunks[0] && o->chunks[0]->dirty;
    if (o->dirty && o->exists) {
        onode_encode(o, &value);
        index_batch_put(x->late, o->key, o->key_len, value.data, value.len);
        changed = unsaved = true;
    } else if (o->dirty) {
        /* Of one that it has not heard of, only the journal needs to know. */
        index_batch_remove(o->listed ? x->batch : x->late, o->key, o->key_len);
        o->listed = false;
        onode_unmark_unlisted(x->e, o);
    }
    if (o->n_chunks > 0 && o->chunks[0])
        o->chunks[0]->dirty = false;
    struct chunk_range range = o->dirty_chunks;
    o->dirty_chunks = (struct chunk_range){0};
    for (uint32_t n = range.first; n < range.end; n++) {
        struct chunk *c = n > 0 && n < o->n_chunks ? o->chunks[n] : NULL;
        uint8_t key[13];
        if (!c || !c->dirty)
            continue;
        chunk_range_add(&o->unsaved_chunks, n);
        encoder_reset(&value);
        chunk_encode(c, &value);
        chunk_key(o->nid, n, key);
        if (value.len > 1)
            index_batch_put(x->late, key, sizeof key, value.data, value.len);
        else
            index_batch_remove(x->late, key, sizeof key);
        c->dirty = false;
        c->unsaved = true;
        changed = unsaved = true;
    }
    x->short_of_memory |= value.failed;
    encoder_fini(&value);
    o->dirty = false;
    if (changed)
        o->last_record = x->record;
    if (unsaved)
        onode_mark_unsaved(x->e, o, x->record);
    if (o->exists && !o->listed && changed) {
        names_add(x->e, o->key, o->key_len);
        onode_mark_unlisted(x->e, o, x->record);
    }
}

void txn_execute(struct txn_ctx *ctx)
{
    struct engine *e = ctx->engine;
    static struct execution x; /* Large; one at a time, on the loop. */
    memset(&x, 0, offsetof(struct execution, deferred));
    x.e = e;
    x.ctx = ctx;
    x.record = ctx->record = e->record++;
    x.batch = &e->scratch.now;
    x.late = &e->scratch.onodes;
    x.pairs = &e->scratch.pairs;
    encoder_reset(x.late);
    encoder_reset(x.pairs);
    x.direct = NULL;
    x.short_of_memory = false;
    STAILQ_INIT(&x.writes);
    encoder_reset(x.batch);
    struct txn_iterator it;
    struct txn_op op;
    txn_iterate(&it, ctx->txn->ops.data, ctx->txn->ops.len, ctx->txn->data.len);
    while (txn_next(&it, &op) > 0)
        execute_op(&x, &op);
    if (ctx->omap_nid != 0) /* The clone was none: an object onto itself. */
        omap_copy_drop(ctx->omap_nid, x.batch);
    for (uint32_t i = 0; i < ctx->n_onodes; i++)
        emit(&x, ctx->onodes[i]->onode);
    struct direct_write *changed;
    STAILQ_FOREACH(changed, &x.writes, link)
    if (changed->changed)
        x.direct[changed->layout].crc = run_crc(changed->data.data, changed->data.len);
    journal_append(e, ctx, &e->scratch, x.deferred, x.n_deferred, x.direct, x.n_direct);
    free(x.direct);
    e->counters.records++;
    if (x.short_of_memory || x.batch->failed || x.late->failed || x.pairs->failed)
        engine_fail(e, -ENOMEM, "out of memory while executing a transaction");
    while (!STAILQ_EMPTY(&x.writes)) {
        struct direct_write *w = STAILQ_FIRST(&x.writes);
        STAILQ_REMOVE_HEAD(&x.writes, link);
        for (uint32_t i = 0; i < ctx->n_onodes; i++)
            if (ctx->onodes[i]->onode == w->onode || ctx->passes_on)
                ctx->onodes[i]->onode->writing++;
        ctx->group->directs++;
        LIST_INSERT_HEAD(&e->direct_writes, w, all);
        disk_submit(e->disk, &w->io);
    }
}
