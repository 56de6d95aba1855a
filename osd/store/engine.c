/*
 * The engine as a store: making, mounting, closing, and what its parts share.
 */
#include "osd/store/engine.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/planted.h"
#include "osd/store/engine_mount.h"

enum {
    JOURNAL_MIN = 4 * 1024 * 1024,
    DISK_MIN_BLOCKS = 16384, /* 64 MiB */
};

/* Block numbers have 32 bits, and the allocator counts whole parts. */
#define DISK_MAX_BYTES ((UINT64_C(1) << 32) * BLOCK_BYTES - UINT64_C(4096) * BLOCK_BYTES)

/* ---- What the parts share ---- */

void engine_fail(struct engine *e, int error, const char *why)
{
    if (e->failed)
        return;
    e->failed = true;
    e->failure = error;
    log_error(e->env, "store failed", "error=\"%s\" why=\"%s\"", error_text(error), why);
    if (e->store.failed)
        e->store.failed(e->store.failed_ctx, error, why);
    env_defer(e->env, &e->pump_task);
}

void engine_index_failed(struct engine *e, int error, const char *why)
{
    engine_fail(e, error, error == -ENOSPC ? "the file system of the index is full" : why);
}

struct pool_stat *engine_pool(struct engine *e, uint64_t pool)
{
    struct pool_stat *p;
    HASH_FIND(hh, e->pools, &pool, sizeof pool, p);
    if (p)
        return p;
    p = calloc(1, sizeof *p);
    if (p) {
        p->pool = pool;
        HASH_ADD(hh, e->pools, pool, sizeof p->pool, p);
        if (TABLE_TOOK(p))
            return p;
        free(p);
    }
    static struct pool_stat lost; /* Sums are wrong once the engine has failed; nothing else is. */
    engine_fail(e, -ENOMEM, "out of memory for a pool");
    return &lost;
}

void engine_free_blocks(struct engine *e, uint64_t record, uint32_t block, uint32_t count)
{
    struct freed *last = e->n_freed > e->freed_at ? &e->freed[e->n_freed - 1] : NULL;
    for (uint32_t i = 0; i < count; i++)
        cache_forget(e, block + i);
    if (planted(PLANTED_STORE_REUSE_FREED_EARLY)) {
        allocator_release(&e->allocator, block, count);
        return;
    }
    e->blocks_freed += count;
    if (last && last->record == record && last->extent.block + last->extent.count == block) {
        last->extent.count += count;
        return;
    }
    if (e->n_freed == e->freed_capacity) {
        if (e->freed_at > e->freed_capacity / 2) {
            assert(e->freed);
            memmove(e->freed, e->freed + e->freed_at,
                    (e->n_freed - e->freed_at) * sizeof *e->freed);
            e->n_freed -= e->freed_at;
            e->freed_at = 0;
        } else {
            uint32_t capacity = e->freed_capacity ? e->freed_capacity * 2 : 1024;
            struct freed *grown = realloc(e->freed, capacity * sizeof *grown);
            if (!grown) {
                engine_fail(e, -ENOMEM, "out of memory for freed blocks");
                return;
            }
            e->freed = grown;
            e->freed_capacity = capacity;
        }
    }
    assert(e->freed && e->n_freed < e->freed_capacity);
    e->freed[e->n_freed++] =
        (struct freed){.record = record, .extent = {.block = block, .count = count}};
}

void engine_release_freed(struct engine *e, uint64_t record)
{
    while (e->freed_at < e->n_freed && e->freed[e->freed_at].record < record) {
        const struct extent *x = &e->freed[e->freed_at].extent;
        allocator_release(&e->allocator, x->block, x->count);
        e->blocks_freed -= x->count;
        e->freed_at++;
    }
    if (e->freed_at == e->n_freed)
        e->freed_at = e->n_freed = 0;
}

/* ---- Synchronous input and output ---- */

int mount_io_init(struct mount_io *io, struct disk *disk)
{
    io->disk = disk;
    io->data = aligned_alloc(BLOCK_BYTES, (size_t)MOUNT_IO_BLOCKS * BLOCK_BYTES);
    return io->data ? 0 : -ENOMEM;
}

void mount_io_fini(struct mount_io *io)
{
    free(io->data);
}

int mount_read(struct mount_io *io, uint64_t offset, size_t len)
{
    assert(len <= (size_t)MOUNT_IO_BLOCKS * BLOCK_BYTES);
    return io->disk->ops->sync_io(io->disk, DISK_READ, offset, io->data, len);
}

int mount_write(struct mount_io *io, uint64_t offset, const void *data, size_t len)
{
    assert(len <= (size_t)MOUNT_IO_BLOCKS * BLOCK_BYTES);
    if (data != io->data)
        memcpy(io->data, data, len);
    return io->disk->ops->sync_io(io->disk, DISK_WRITE, offset, io->data, len);
}

int mount_flush(struct mount_io *io)
{
    return io->disk->ops->sync_io(io->disk, DISK_FLUSH, 0, NULL, 0);
}

/* ---- Superblocks ---- */

static bool super_valid(const struct super_layout *s, uint64_t disk_size)
{
    struct super_layout copy = *s;
    super_seal(&copy);
    return s->magic == SUPER_MAGIC && s->crc == copy.crc && s->size <= disk_size &&
           s->size % BLOCK_BYTES == 0 && s->size <= DISK_MAX_BYTES &&
           s->journal_bytes <= s->size / 2 && s->journal_bytes >= JOURNAL_MIN &&
           s->journal_bytes % BLOCK_BYTES == 0 &&
           s->data_offset == JOURNAL_OFFSET + s->journal_bytes && s->data_offset < s->size &&
           s->tail_offset < s->journal_bytes && s->tail_offset % BLOCK_BYTES == 0;
}

static int super_read(struct engine *e, struct mount_io *io, char why[256])
{
    bool found = false;
    for (uint64_t i = 0; i < SUPER_COPIES; i++) {
        struct super_layout s;
        if (mount_read(io, i * BLOCK_BYTES, BLOCK_BYTES) < 0)
            continue;
        memcpy(&s, io->data, sizeof s);
        if (!super_valid(&s, e->disk->size) || (found && s.generation < e->super.generation))
            continue;
        e->super = s;
        found = true;
    }
    if (!found) {
        snprintf(why, 256, "no valid superblock: this is no store, or its disk is damaged");
        return -ELIMPET_CORRUPT;
    }
    if (e->super.version != ENGINE_VERSION) {
        snprintf(why, 256, "the store has format %u and this program knows %u", e->super.version,
                 ENGINE_VERSION);
        return -EPROTONOSUPPORT;
    }
    return 0;
}

static int super_write(struct engine *e, struct mount_io *io)
{
    e->super.generation++;
    super_seal(&e->super);
    int error = mount_write(io, (e->super.generation % SUPER_COPIES) * BLOCK_BYTES, &e->super,
                            sizeof e->super);
    return error < 0 ? error : mount_flush(io);
}

static int put_state(struct index *index, uint64_t record, uint64_t next_nid)
{
    struct encoder batch;
    struct state_layout state = {.record = record, .next_nid = next_nid};
    uint8_t key = KEY_STATE;
    encoder_init(&batch);
    index_batch_put(&batch, &key, 1, &state, sizeof state);
    int error = batch.failed ? -ENOMEM : index_apply(index, &batch);
    encoder_fini(&batch);
    return error < 0 ? error : index->ops->flush(index);
}

int engine_format(struct disk *disk, struct index *index, const struct uuid *uuid,
                  uint64_t journal_bytes)
{
    struct mount_io io;
    struct engine e = {.disk = disk};
    uint64_t size = disk->size / BLOCK_BYTES * BLOCK_BYTES;
    if (size > DISK_MAX_BYTES)
        size = DISK_MAX_BYTES;
    if (size / BLOCK_BYTES < DISK_MIN_BLOCKS || journal_bytes < JOURNAL_MIN ||
        JOURNAL_OFFSET + journal_bytes > size / 2)
        return -ENOSPC;
    int error = mount_io_init(&io, disk);
    if (error < 0)
        return error;
    /* The ring is written once, so that commits change no metadata of a file system below. */
    memset(io.data, 0, (size_t)MOUNT_IO_BLOCKS * BLOCK_BYTES);
    uint64_t step = (uint64_t)MOUNT_IO_BLOCKS * BLOCK_BYTES;
    for (uint64_t at = 0; error == 0 && at < JOURNAL_OFFSET + journal_bytes; at += step)
        error = mount_write(&io, at, io.data, step);
    e.super = (struct super_layout){.magic = SUPER_MAGIC,
                                    .version = ENGINE_VERSION,
                                    .size = size,
                                    .mount = 1,
                                    .journal_bytes = journal_bytes,
                                    .data_offset = JOURNAL_OFFSET + journal_bytes,
                                    .tail_sequence = 1,
                                    .tail_record = 1};
    memcpy(e.super.uuid, uuid->bytes, sizeof e.super.uuid);
    if (error == 0)
        error = put_state(index, 0, 1);
    if (error == 0)
        error = super_write(&e, &io);
    mount_io_fini(&io);
    return error;
}

/* ---- What is derived from the index ---- */

static int mark_chunk(struct engine *e, const struct chunk *c)
{
    for (uint32_t i = 0; i < CHUNK_BLOCKS; i++) {
        if (c->block[i] == BLOCK_NONE)
            continue;
        bool shared = ((c->shared >> i) & 1) && shared_find(e, c->block[i]);
        if (shared && allocator_is_used(&e->allocator, c->block[i]))
            continue;
        if (!allocator_mark(&e->allocator, c->block[i], 1))
            return -ELIMPET_CORRUPT;
    }
    return 0;
}

static int mark_object(struct engine *e, const void *value, size_t len)
{
    struct object_layout layout;
    struct chunk chunk;
    struct decoder d;
    decoder_init(&d, value, len);
    const void *raw = decode_bytes(&d, sizeof layout);
    if (!raw)
        return -ELIMPET_CORRUPT;
    memcpy(&layout, raw, sizeof layout);
    (void)decode_bytes(&d, layout.info_len);
    (void)decode_bytes(&d, layout.attrs_len);
    int error = chunk_decode(&d, e->allocator.n_blocks, &chunk);
    return error < 0 ? error : mark_chunk(e, &chunk);
}

static int mark_chunk_value(struct engine *e, const void *value, size_t len)
{
    struct chunk chunk;
    struct decoder d;
    decoder_init(&d, value, len);
    int error = chunk_decode(&d, e->allocator.n_blocks, &chunk);
    return error < 0 ? error : mark_chunk(e, &chunk);
}

static int take_pair(struct engine *e, const uint8_t *key, size_t key_len, const void *value,
                     size_t len)
{
    uint32_t part;
    switch (key[0]) {
    case KEY_OBJECT:
        names_add(e, key, key_len);
        return mark_object(e, value, len);
    case KEY_CHUNK:
        return mark_chunk_value(e, value, len);
    case KEY_SHARED: {
        struct shared_layout shared;
        if (key_len != 5 || len != sizeof shared)
            return -ELIMPET_CORRUPT;
        memcpy(&part, key + 1, 4);
        memcpy(&shared, value, sizeof shared);
        return shared_load(e, be32toh(part), &shared);
    }
    case KEY_POOL: {
        uint64_t pool;
        if (key_len != 9 || len != sizeof(struct pool_layout))
            return -ELIMPET_CORRUPT;
        memcpy(&pool, key + 1, 8);
        memcpy(&engine_pool(e, be64toh(pool))->value, value, len);
        return 0;
    }
    case KEY_ALLOCATOR: {
        size_t bytes = (size_t)e->allocator.n_parts * 512;
        if (key_len != 5)
            return -ELIMPET_CORRUPT;
        memcpy(&part, key + 1, 4);
        size_t at = (size_t)be32toh(part) * ALLOCATOR_PART_BYTES;
        if (at >= bytes ||
            len != (bytes - at < ALLOCATOR_PART_BYTES ? bytes - at : ALLOCATOR_PART_BYTES))
            return -ELIMPET_CORRUPT;
        e->allocator_loaded += len;
        memcpy((uint8_t *)e->allocator.used + at, value, len);
        return 0;
    }
    default:
        return -ELIMPET_CORRUPT;
    }
}

static int load_kind(struct engine *e, enum index_key kind)
{
    uint8_t from = (uint8_t)kind, to = (uint8_t)(kind + 1);
    struct index_iter *iter;
    const void *key, *value;
    size_t key_len, len;
    int error = index_iterate(e->index, &from, 1, &to, 1, false, true, &iter);
    if (error < 0)
        return error;
    while ((error = index_next(e->index, iter, &key, &key_len, &value, &len)) > 0) {
        error = take_pair(e, key, key_len, value, len);
        if (error < 0)
            break;
    }
    e->index->ops->iter_free(iter);
    return error;
}

int engine_load_allocator(struct engine *e)
{
    e->allocator_loaded = 0;
    int error = load_kind(e, KEY_ALLOCATOR);
    if (error == 0 && e->allocator_loaded != (size_t)e->allocator.n_parts * 512)
        error = -ELIMPET_CORRUPT;
    allocator_recount(&e->allocator);
    return error;
}

static int engine_load(struct engine *e, char why[256])
{
    int error = load_kind(e, KEY_SHARED);
    if (error == 0)
        error = load_kind(e, KEY_POOL);
    if (error == 0 && (e->super.flags & SUPER_CLEAN)) {
        error = engine_load_allocator(e);
        if (error == 0)
            error = names_load(e);
    } else if (error == 0) {
        error = load_kind(e, KEY_OBJECT);
        e->names.complete = error == 0 && e->names.words;
        if (error == 0)
            error = load_kind(e, KEY_CHUNK);
    }
    if (error < 0)
        snprintf(why, 256, "the index contradicts itself (%s): run limpet-osd --fsck",
                 error_text(error));
    return error;
}

static int allocator_save(struct engine *e)
{
    size_t bytes = (size_t)e->allocator.n_parts * 512;
    int error = 0;
    struct encoder batch;
    encoder_init(&batch);
    for (size_t at = 0; error == 0 && at < bytes; at += ALLOCATOR_PART_BYTES) {
        uint8_t key[5] = {KEY_ALLOCATOR};
        uint32_t part = htobe32((uint32_t)(at / ALLOCATOR_PART_BYTES));
        size_t n = bytes - at < ALLOCATOR_PART_BYTES ? bytes - at : ALLOCATOR_PART_BYTES;
        memcpy(key + 1, &part, 4);
        encoder_reset(&batch);
        index_batch_put(&batch, key, sizeof key, (uint8_t *)e->allocator.used + at, n);
        error = batch.failed ? -ENOMEM : index_apply(e->index, &batch);
    }
    encoder_fini(&batch);
    return error < 0 ? error : e->index->ops->flush(e->index);
}

/* ---- Opening and closing ---- */

static void statfs_sum(struct store *store, struct store_statfs *out)
{
    const struct engine *e = engine_of(store);
    uint64_t free_blocks = (uint64_t)e->allocator.n_free + e->blocks_freed;
    /* What waits to be executed may need as much as it brings. */
    uint64_t spoken_for = e->reserve + e->queued_bytes / BLOCK_BYTES;
    out->bytes_total =
        (uint64_t)(e->allocator.n_blocks - e->allocator.first - e->reserve) * BLOCK_BYTES;
    out->bytes_available = free_blocks > spoken_for ? (free_blocks - spoken_for) * BLOCK_BYTES : 0;
    out->bytes_used = out->bytes_total - out->bytes_available;
    out->bytes_reserve = (free_blocks < e->reserve ? free_blocks : e->reserve) * BLOCK_BYTES;
    out->reserve_whole = (uint64_t)e->reserve * BLOCK_BYTES;
    out->index_short = e->index_short;
}

static uint32_t reserve_of(const struct allocator *a)
{
    uint32_t blocks = a->n_blocks - a->first, limit = blocks / RESERVE_LIMIT_SHARE;
    uint32_t reserve = blocks / RESERVE_SHARE;
    if (reserve < RESERVE_MIN_BLOCKS)
        reserve = RESERVE_MIN_BLOCKS;
    return reserve < limit ? reserve : limit;
}

static int visit_pgs(struct store *store, store_pg_visit visit, void *ctx)
{
    struct engine *e = engine_of(store);
    uint8_t from[13] = {KEY_PG}, to = KEY_PG + 1;
    size_t from_len = 1;
    bool more;
    int save_error = pairs_save(e, UINT64_MAX, true, &more);
    if (save_error < 0)
        return save_error;
    for (;;) {
        struct index_iter *iter;
        const void *key, *value;
        size_t key_len, len;
        int error = index_iterate(e->index, from, from_len, &to, 1, false, true, &iter);
        if (error < 0)
            return error;
        error = index_next(e->index, iter, &key, &key_len, &value, &len);
        if (error > 0 && key_len >= 13)
            memcpy(from, key, 13);
        e->index->ops->iter_free(iter);
        if (error <= 0)
            return error;
        struct pg_id pg;
        memcpy(&pg.pool, from + 1, 8);
        memcpy(&pg.seed, from + 9, 4);
        pg.pool = be64toh(pg.pool);
        pg.seed = be32toh(pg.seed);
        visit(ctx, pg);
        /* On with the key after every key of this group. */
        from_len = 13;
        for (size_t i = 13; i-- > 1 && ++from[i] == 0;)
            ;
    }
}

static void engine_free(struct engine *e)
{
    journal_fini(e);
    checkpoint_fini(e);
    onode_fini(e);
    names_fini(e);
    pairs_fini(e);
    cache_fini(e);
    ring_fini(e);
    shared_clear(e);
    allocator_fini(&e->allocator);
    struct pool_stat *p, *next;
    HASH_ITER(hh, e->pools, p, next)
    {
        HASH_DEL(e->pools, p);
        free(p);
    }
    while (!STAILQ_EMPTY(&e->ctx_pool)) {
        struct txn_ctx *ctx = STAILQ_FIRST(&e->ctx_pool);
        STAILQ_REMOVE_HEAD(&e->ctx_pool, link);
        free(ctx);
    }
    free(e->freed);
    encoder_fini(&e->scratch_batch);
    encoder_fini(&e->scratch.now);
    encoder_fini(&e->scratch.onodes);
    encoder_fini(&e->scratch.pairs);
    if (e->index)
        e->index->ops->close(e->index);
    if (e->disk)
        disk_close(e->disk);
    free(e);
}

static void close_run(struct env_task *task)
{
    struct engine *e = container_of(task, struct engine, close_task);
    struct mount_io io;
    if (e->pump_task.queued || e->save_task.queued) {
        env_defer(e->env, &e->close_task); /* Nobody may hold a task of freed memory. */
        return;
    }
    if (!e->failed && mount_io_init(&io, e->disk) == 0) {
        int error = names_save(e);
        if (error == 0)
            error = allocator_save(e);
        e->super.flags |= SUPER_CLEAN;
        if (error == 0)
            error = super_write(e, &io);
        if (error < 0)
            log_error(e->env, "store not closed cleanly", "error=\"%s\"", error_text(error));
        mount_io_fini(&io);
    }
    void (*closed)(void *) = e->closed;
    void *ctx = e->closed_ctx;
    engine_free(e);
    closed(ctx);
}

void engine_check_closed(struct engine *e)
{
    struct journal *j = &e->journal;
    if (!e->closing || e->busy > 0 || e->ctxs > 0 || !journal_idle(j) ||
        !LIST_EMPTY(&e->refusals) || e->checkpoint.step != CHECKPOINT_NONE || place_busy(e))
        return;
    env_timer_stop(e->env, &e->placing.timer);
    if (!e->failed && !STAILQ_EMPTY(&j->marks)) {
        checkpoint_start(e);
        return;
    }
    env_defer(e->env, &e->close_task);
}

static void engine_close(struct store *store, void (*closed)(void *ctx), void *ctx)
{
    struct engine *e = engine_of(store);
    assert(!e->closing);
    e->closed = closed;
    e->closed_ctx = ctx;
    e->closing = true;
    env_defer(e->env, &e->pump_task);
}

void engine_abandon(struct store *store)
{
    struct engine *e = engine_of(store);
    env_timer_stop(e->env, &e->placing.timer);
    reads_abandon(e);
    txn_abandon(e);
    e->disk = NULL;
    e->index = NULL;
    engine_free(e);
}

static void pump_run(struct env_task *task)
{
    engine_pump(container_of(task, struct engine, pump_task));
}

static const struct store_ops engine_ops = {
    .submit = engine_submit,
    .read = engine_read,
    .list = engine_list,
    .pg_read = engine_pg_read,
    .omap_read = engine_omap_read,
    .pgs = visit_pgs,
    .statfs = statfs_sum,
    .close = engine_close,
};

static void set_limits(struct engine *e)
{
    uint64_t target = e->options.memory_target;
    e->cache.limit_bytes = e->options.cache_bytes ? e->options.cache_bytes : target / 4;
    e->dirty_limit = target / 16;
    e->onode_limit = e->options.unsaved_bytes ? e->options.unsaved_bytes : target / 8;
    e->pairs.limit = e->options.unsaved_bytes ? e->options.unsaved_bytes : target / 16;
}

/* Maps that were being copied for objects that never came. */
static int drop_copies(struct engine *e)
{
    uint8_t from = KEY_COPYING, to = KEY_COPYING + 1;
    struct index_iter *iter;
    struct encoder batch;
    const void *key, *value;
    size_t key_len, len;
    int error = index_iterate(e->index, &from, 1, &to, 1, false, true, &iter);
    if (error < 0)
        return error;
    encoder_init(&batch);
    while ((error = index_next(e->index, iter, &key, &key_len, &value, &len)) > 0) {
        uint64_t nid = 0;
        if (key_len != 1 + sizeof nid) {
            error = -ELIMPET_CORRUPT;
            break;
        }
        memcpy(&nid, (const uint8_t *)key + 1, sizeof nid);
        omap_copy_drop(be64toh(nid), &batch);
    }
    e->index->ops->iter_free(iter);
    if (error == 0)
        error = batch.failed ? -ENOMEM : batch.len > 0 ? index_apply(e->index, &batch) : 0;
    encoder_fini(&batch);
    return error;
}

/* Reads the superblock and replays the journal. */
int engine_mount_journal(struct engine *e, struct mount_io *io, char why[256])
{
    int error = super_read(e, io, why);
    e->journal.bytes = e->super.journal_bytes;
    if (error == 0)
        error = allocator_init(&e->allocator, (uint32_t)(e->super.size / BLOCK_BYTES),
                               (uint32_t)(e->super.data_offset / BLOCK_BYTES));
    e->reserve = error == 0 ? reserve_of(&e->allocator) : 0;
    if (error == 0)
        error = engine_replay(e, io, why);
    if (error == 0)
        error = drop_copies(e);
    return error;
}

/* What was replayed becomes durable, and the journal begins anew behind it. */
int engine_mount_begin(struct engine *e, struct mount_io *io, bool unclean)
{
    uint32_t clean = unclean ? 0 : e->super.flags & SUPER_CLEAN;
    int error = mount_flush(io);
    if (error == 0)
        error = e->index->ops->flush(e->index);
    if (error < 0)
        return error;
    e->super.flags = clean;
    e->super.mount++;
    e->super.salt = env_random_u64(e->env);
    e->super.tail_offset = e->replayed_to % e->journal.bytes;
    e->super.tail_sequence = e->journal.sequence;
    e->super.tail_record = e->record;
    e->journal.head = e->journal.tail = e->journal.trimmed = e->super.tail_offset;
    e->placing.at = e->journal.head;
    if (ring_init(e) < 0)
        return -ENOMEM;
    /* Both copies: the other one would lead a mount that finds this one damaged past new groups. */
    error = super_write(e, io);
    return error < 0 ? error : super_write(e, io);
}

static int mount(struct engine *e, char why[256])
{
    struct mount_io io;
    int error = mount_io_init(&io, e->disk);
    if (error < 0)
        return error;
    error = engine_mount_journal(e, &io, why);
    if (error == 0)
        error = engine_load(e, why);
    if (error == 0)
        error = engine_mount_begin(e, &io, true);
    mount_io_fini(&io);
    if (error < 0 && why[0] == 0)
        snprintf(why, 256, "the store could not be mounted: %s", error_text(error));
    return error;
}

struct engine *engine_prepare(struct env *env, struct disk *disk, struct index *index,
                              const struct engine_options *options)
{
    struct engine *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->store.ops = &engine_ops;
    e->store.env = env;
    e->env = env;
    e->disk = disk;
    e->index = index;
    e->options = *options;
    e->pump_task.run = pump_run;
    e->close_task.run = close_run;
    RB_INIT(&e->shared);
    TAILQ_INIT(&e->cache.clean);
    TAILQ_INIT(&e->onode_lru);
    for (size_t i = 0; i < UNSAVED_LISTS; i++)
        TAILQ_INIT(&e->unsaved.lists[i]);
    TAILQ_INIT(&e->unlisted);
    STAILQ_INIT(&e->queue);
    STAILQ_INIT(&e->ctx_pool);
    STAILQ_INIT(&e->journal.marks);
    encoder_init(&e->scratch_batch);
    encoder_init(&e->scratch.now);
    encoder_init(&e->scratch.onodes);
    encoder_init(&e->scratch.pairs);
    pairs_init(e);
    set_limits(e);
    if (names_init(e) < 0 || journal_init(e) < 0 || checkpoint_init(e) < 0) {
        engine_abandon(&e->store);
        return NULL;
    }
    return e;
}

int engine_open(struct env *env, struct disk *disk, struct index *index,
                const struct engine_options *options, struct store **out, char why[256])
{
    struct engine *e = engine_prepare(env, disk, index, options);
    why[0] = 0;
    if (!e) {
        snprintf(why, 256, "out of memory");
        return -ENOMEM;
    }
    int error = mount(e, why);
    if (error < 0) {
        engine_abandon(&e->store); /* Disk and index are still the caller's. */
        return error;
    }
    *out = &e->store;
    return 0;
}
