/*
 * Reads: of objects, of listings, of a placement group's pairs.
 *
 * A block's bytes come from the block cache (always, when they are not durable yet) or from the
 * disk: from the journal's ring if they are not in place yet (engine_ring.c). What the disk
 * returned is compared with the checksum that the onode held when the read began. A mismatch is
 * looked at again when the block has been overwritten, moved or put in place meanwhile, or when the
 * system may have remembered the bytes; otherwise the disk has returned wrong bytes, and the reader
 * gets -EIO instead of them.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/planted.h"
#include "osd/store/engine.h"
#include "osd/store/list.h"

enum {
    READ_RUN_BLOCKS = 1024,        /* Blocks of one disk read. */
    READ_CACHED_BYTES = 64 * 1024, /* Longer reads do not enter the cache. */
    READ_ATTEMPTS = 8,
    READ_FEW_BLOCKS = READ_CACHED_BYTES / BLOCK_BYTES + 1,
};

struct read_run {
    struct disk_io io;
    struct iovec iov;
    struct reader *reader;
    struct read_run *next;
    uint64_t index; /* Block in the object. */
    uint32_t block;
    uint32_t count;
    bool ring; /* It is read from the ring, from `slot` on. */
    uint32_t slot;
    struct ring_read reading;
    uint32_t *crc; /* What each block must have: a part of the reader's. */
};

struct reader {
    LIST_ENTRY(reader) all;
    struct engine *engine;
    struct store_read *read;
    struct onode *onode;
    struct onode *other; /* That it is compared with; NULL. */
    struct waiter waiter;
    struct env_task task; /* Completes; a callback is never made inside the call. */
    struct read_run *runs;
    uint32_t pending;
    uint32_t attempts;
    uint64_t first; /* Block in the object of the buffer's first byte. */
    struct buf_slice buffer;
    uint32_t *crc; /* One for each block of the buffer. */
    uint32_t few[READ_FEW_BLOCKS];
    int error;
};

static void attempt(struct reader *r);

static void drop_buffer(struct reader *r)
{
    buf_slice_drop(&r->buffer);
    if (r->crc != r->few)
        free(r->crc);
    r->crc = NULL;
}

static int take_buffer(struct reader *r, uint64_t blocks)
{
    int error = buf_slice_alloc(blocks * BLOCK_BYTES, &r->buffer);
    if (error < 0)
        return error;
    r->crc = blocks <= READ_FEW_BLOCKS ? r->few : malloc(blocks * sizeof *r->crc);
    if (!r->crc)
        drop_buffer(r);
    return r->crc ? 0 : -ENOMEM;
}

static void complete(struct reader *r)
{
    struct engine *e = r->engine;
    struct store_read *read = r->read;
    read->error = r->error;
    if (r->error < 0)
        buf_slice_drop(&read->data);
    drop_buffer(r);
    if (r->onode)
        onode_unpin(e, r->onode);
    if (r->other)
        onode_unpin(e, r->other);
    LIST_REMOVE(r, all);
    free(r);
    e->busy--;
    read->done(read);
    engine_check_closed(e);
}

static void complete_run(struct env_task *task)
{
    complete(container_of(task, struct reader, task));
}

static void finish(struct reader *r, int error)
{
    r->error = error;
    env_defer(r->engine->env, &r->task);
}

/* ---- Checking what the disk returned ---- */

static bool still_mapped(const struct reader *r, const struct read_run *run, uint32_t i)
{
    const struct onode *o = r->onode;
    uint64_t index = run->index + i;
    uint64_t number = index / CHUNK_BLOCKS;
    const struct chunk *c = number < o->n_chunks ? o->chunks[number] : NULL;
    uint32_t bit = index % CHUNK_BLOCKS;
    return o->exists && c && c->block[bit] == run->block + i && c->crc[bit] == run->crc[i] &&
           !cache_find(r->engine, run->block + i);
}

/* The ring has got the block's content since, or the block is in place now. */
static bool moved(const struct reader *r, const struct read_run *run, uint32_t i)
{
    uint32_t slot = 0;
    bool ring = ring_find(r->engine, run->block + i, &slot);
    return ring != run->ring || (ring && slot != run->slot + i);
}

/* 0; -EAGAIN: something changed, look again; -EIO. */
static int check_run(struct reader *r, const struct read_run *run)
{
    struct engine *e = r->engine;
    const uint8_t *data = run->iov.iov_base;
    bool cache = r->buffer.len <= READ_CACHED_BYTES;
    for (uint32_t i = 0; i < run->count; i++) {
        const uint8_t *bytes = data + (size_t)i * BLOCK_BYTES;
        uint32_t crc = run->io.error        ? ~run->crc[i]
                       : i + 1 < run->count ? block_crc_ahead(bytes)
                                            : block_crc(bytes);
        if (planted(PLANTED_STORE_FORGET_CHECKSUM) ||
            (run->io.remembered && planted(PLANTED_STORE_TRUST_REMEMBERED)))
            crc = run->crc[i];
        if (crc != run->crc[i]) {
            if (!still_mapped(r, run, i) || moved(r, run, i) || run->io.remembered)
                return -EAGAIN;
            e->counters.read_errors += run->io.error != 0;
            e->counters.checksum_errors += run->io.error == 0;
            log_error(e->env, "block unreadable",
                      "block=%u nid=%llu index=%llu journal=%d error=%d crc=%08x want=%08x",
                      run->block + i, (unsigned long long)r->onode->nid,
                      (unsigned long long)(run->index + i), run->ring, run->io.error, crc,
                      run->crc[i]);
            return -EIO;
        }
        if (!cache || !still_mapped(r, run, i))
            continue;
        uint8_t *copy = cache_data_alloc(e);
        if (!copy)
            continue;
        memcpy(copy, bytes, BLOCK_BYTES);
        if (!cache_insert(e, run->block + i, crc, copy, CBLOCK_CLEAN))
            cache_data_free(e, copy);
    }
    return 0;
}

static void all_read(struct reader *r)
{
    int error = 0;
    while (r->runs) {
        struct read_run *run = r->runs;
        int one = check_run(r, run);
        if (one == -EIO || error == 0)
            error = one;
        r->runs = run->next;
        free(run);
    }
    cache_shrink(r->engine);
    if (error == -EAGAIN && ++r->attempts < READ_ATTEMPTS) {
        drop_buffer(r);
        attempt(r);
        return;
    }
    /* At once: the reader's next request should reach the disk while others are still checked. */
    r->error = error == -EAGAIN ? -EIO : error;
    complete(r);
}

static void run_done(struct disk_io *io)
{
    struct read_run *run = container_of(io, struct read_run, io);
    struct reader *r = run->reader;
    if (run->ring)
        ring_read_end(r->engine, &run->reading);
    if (--r->pending == 0)
        all_read(r);
}

/* ---- Collecting the blocks ---- */

/* Whether the block, whose slot it is if the ring has it, can be read together with the run. */
static bool run_continues(const struct read_run *run, uint32_t block, bool ring, uint32_t slot)
{
    return run->count < READ_RUN_BLOCKS && run->block + run->count == block && run->ring == ring &&
           (!ring || run->slot + run->count == slot);
}

static struct read_run *run_start(struct reader *r, uint64_t index, uint32_t block)
{
    struct read_run *run = malloc(sizeof *run);
    if (!run)
        return NULL;
    run->reader = r;
    run->index = index;
    run->block = block;
    run->count = 0;
    run->ring = false;
    run->slot = 0;
    run->crc = r->crc + (index - r->first);
    run->next = r->runs;
    r->runs = run;
    return run;
}

/*
 * Once, since a second attempt asks the disk itself. Copies of long reads would cost more than they
 * are worth.
 */
static bool may_be_remembered(const struct reader *r)
{
    return r->read->may_be_remembered && r->attempts == 0 && r->buffer.len <= READ_CACHED_BYTES;
}

static void submit_runs(struct reader *r)
{
    place_active(r->engine, true);
    for (struct read_run *run = r->runs; run; run = run->next)
        r->pending++;
    for (struct read_run *run = r->runs; run; run = run->next) {
        size_t len = (size_t)run->count * BLOCK_BYTES;
        run->iov = (struct iovec){
            .iov_base = r->buffer.data + (run->index - r->first) * BLOCK_BYTES, .iov_len = len};
        run->io = (struct disk_io){.op = DISK_READ,
                                   .offset = run->ring ? ring_offset(run->slot)
                                                       : (uint64_t)run->block << BLOCK_SHIFT,
                                   .iov = &run->iov,
                                   .n_iov = 1,
                                   .len = len,
                                   .remembered = may_be_remembered(r),
                                   .done = run_done};
        if (run->ring) {
            ring_read_begin(r->engine, &run->reading, run->slot);
            r->engine->counters.ring_reads += run->count;
        }
        disk_submit(r->engine->disk, &run->io);
    }
}

static int collect(struct reader *r, uint64_t end)
{
    struct engine *e = r->engine;
    const struct onode *o = r->onode;
    struct read_run *run = NULL;
    for (uint64_t i = r->first; i < end; i++) {
        uint64_t number = i / CHUNK_BLOCKS;
        const struct chunk *c = number < o->n_chunks ? o->chunks[number] : NULL;
        uint32_t block = c ? c->block[i % CHUNK_BLOCKS] : BLOCK_NONE;
        uint8_t *to = r->buffer.data + (i - r->first) * BLOCK_BYTES;
        struct cblock *cached = block == BLOCK_NONE ? NULL : cache_find(e, block);
        if (cached && cached->damaged) {
            e->counters.checksum_errors++;
            return -EIO;
        }
        if (block == BLOCK_NONE || cached) {
            if (cached)
                memcpy(to, cached->data, BLOCK_BYTES);
            else
                memset(to, 0, BLOCK_BYTES);
            e->counters.cache_hits += cached != NULL;
            run = NULL;
            continue;
        }
        e->counters.cache_misses++;
        uint32_t slot = 0;
        bool ring = ring_find(e, block, &slot) && !planted(PLANTED_STORE_RING_IGNORED);
        if (!run || !run_continues(run, block, ring, slot)) {
            run = run_start(r, i, block);
            if (!run)
                return -ENOMEM;
            run->ring = ring;
            run->slot = slot;
        }
        run->crc[run->count++] = c->crc[i % CHUNK_BLOCKS];
    }
    return 0;
}

static void free_runs(struct reader *r)
{
    while (r->runs) {
        struct read_run *run = r->runs;
        r->runs = run->next;
        free(run);
    }
}

static void add_extent(struct store_read *read, uint64_t from, uint64_t to, uint64_t end)
{
    from = from < read->offset ? read->offset : from;
    to = to > end ? end : to;
    encode_u64(&read->extents, from);
    encode_u64(&read->extents, to - from);
}

static uint32_t block_of(const struct onode *o, uint64_t index)
{
    uint64_t number = index / CHUNK_BLOCKS;
    const struct chunk *c = number < o->n_chunks ? o->chunks[number] : NULL;
    return c ? c->block[index % CHUNK_BLOCKS] : BLOCK_NONE;
}

/*
 * Runs of blocks that are mapped, whatever is in them; or of those that both objects have in one
 * place, or not at all: what lies behind an object's end in its last block is zero.
 */
static int read_extents(struct store_read *read, const struct onode *o, const struct onode *other,
                        uint64_t end)
{
    uint64_t last = (end + BLOCK_BYTES - 1) / BLOCK_BYTES;
    uint64_t from = UINT64_MAX; /* Of the run; none. */
    encoder_reset(&read->extents);
    for (uint64_t i = read->offset / BLOCK_BYTES; i < last; i++) {
        uint32_t block = block_of(o, i);
        bool wanted = other ? block == block_of(other, i) : block != BLOCK_NONE;
        wanted |= other && block == BLOCK_NONE && planted(PLANTED_STORE_SAME_HOLE);
        if (wanted && from == UINT64_MAX)
            from = i * BLOCK_BYTES;
        if (!wanted && from != UINT64_MAX) {
            add_extent(read, from, i * BLOCK_BYTES, end);
            from = UINT64_MAX;
        }
    }
    if (from != UINT64_MAX)
        add_extent(read, from, end, end);
    return read->extents.failed ? -ENOMEM : 0;
}

static void read_data(struct reader *r)
{
    struct store_read *read = r->read;
    uint64_t size = r->onode->size;
    if (r->other && r->other->size < size)
        size = r->other->exists ? r->other->size : 0;
    if (read->len == 0 || read->offset >= size) {
        finish(r, 0);
        return;
    }
    uint64_t len = read->len < size - read->offset ? read->len : size - read->offset;
    if (read->want_extents) {
        finish(r, read_extents(read, r->onode, r->other, read->offset + len));
        return;
    }
    uint64_t end = (read->offset + len + BLOCK_BYTES - 1) / BLOCK_BYTES;
    r->first = read->offset / BLOCK_BYTES;
    int error = take_buffer(r, end - r->first);
    if (error < 0) {
        finish(r, error);
        return;
    }
    buf_slice_drop(&read->data);
    read->data = buf_slice_sub(r->buffer, read->offset - r->first * BLOCK_BYTES, len);
    error = collect(r, end);
    if (error < 0 || !r->runs) {
        free_runs(r);
        finish(r, error);
        return;
    }
    submit_runs(r);
}

static void attempt(struct reader *r)
{
    struct onode *o = r->onode;
    struct store_read *read = r->read;
    if (o->loading || o->writing > 0) {
        onode_wait(o, &r->waiter);
        return;
    }
    if (r->other && r->other->loading) {
        onode_wait(r->other, &r->waiter);
        return;
    }
    if (r->other && r->other->error < 0) {
        finish(r, -EIO);
        return;
    }
    if (o->error < 0 || r->engine->failed) {
        finish(r, o->error < 0 ? -EIO : r->engine->failure);
        return;
    }
    if (!o->exists) {
        finish(r, -ENOENT);
        return;
    }
    read->stat.exists = true;
    read->stat.has_omap = o->flags & OBJECT_HAS_OMAP;
    read->stat.size = o->size;
    read->stat.info_len = o->info_len;
    memcpy(read->stat.info, o->info, o->info_len);
    if (read->want_attrs) {
        encoder_reset(&read->attrs);
        if (o->attrs.len > 0)
            encode_bytes(&read->attrs, o->attrs.data, o->attrs.len);
        if (read->attrs.failed) {
            finish(r, -ENOMEM);
            return;
        }
    }
    read_data(r);
}

static void onode_ready(struct waiter *waiter)
{
    attempt(container_of(waiter, struct reader, waiter));
}

void engine_read(struct store *store, struct store_read *read)
{
    struct engine *e = engine_of(store);
    struct reader *r = calloc(1, sizeof *r);
    encoder_init(&read->attrs);
    encoder_init(&read->extents);
    if (!r) {
        read->error = -ENOMEM;
        read->done(read);
        return;
    }
    e->busy++;
    e->counters.reads++;
    LIST_INSERT_HEAD(&e->readers, r, all);
    r->engine = e;
    r->read = read;
    r->task.run = complete_run;
    r->waiter.ready = onode_ready;
    read->error = 0;
    read->data = BUF_SLICE_EMPTY;
    read->stat = (struct store_stat){0};
    r->onode = e->closing ? NULL : onode_get(e, &read->object);
    if (r->onode && read->same_in) {
        assert(read->want_extents);
        r->other = onode_get(e, read->same_in);
    }
    if (!r->onode || (read->same_in && !r->other))
        finish(r, e->closing ? -ESHUTDOWN : -ENOMEM);
    else
        attempt(r);
}

/* ---- Questions to the index: at once if it has the answer in memory, else on a helper thread ----
 */

struct query {
    LIST_ENTRY(query) all;
    struct engine *engine;
    struct env_work work;
    struct env_task task;
    int (*ask)(struct query *q, bool may_block);
    void (*answer)(struct query *q);
    void *request;
    bool listing;     /* Its answer is corrected by what is in memory. */
    uint64_t until;   /* Of a listing: the last record whose objects it must show. */
    bool helped;      /* By a helper thread. */
    uint64_t changes; /* When that began: the engine's index_changes. */
    int error;
};

static void query_complete(struct env_task *task)
{
    struct query *q = container_of(task, struct query, task);
    struct engine *e = q->engine;
    e->busy--;
    q->answer(q);
    LIST_REMOVE(q, all);
    free(q);
    engine_check_closed(e);
}

static void query_run(struct env_work *work)
{
    struct query *q = container_of(work, struct query, work);
    q->error = q->ask(q, true);
}

static struct query *query_create(struct engine *e, int (*ask)(struct query *, bool),
                                  void (*answer)(struct query *), void *request)
{
    struct query *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->engine = e;
    q->ask = ask;
    q->answer = answer;
    q->request = request;
    e->busy++;
    LIST_INSERT_HEAD(&e->queries, q, all);
    return q;
}

static void query_done(struct env_work *work);

static void query_ask(struct query *q)
{
    struct engine *e = q->engine;
    if (q->error == 0)
        q->error = e->failed ? e->failure : e->closing ? -ESHUTDOWN : q->ask(q, false);
    q->helped = q->error == -EAGAIN;
    if (q->helped) {
        e->counters.index_waits++;
        q->changes = e->index_changes;
        q->work = (struct env_work){.run = query_run, .done = query_done};
        env_work(e->env, &q->work);
    } else {
        q->task.run = query_complete;
        env_defer(e->env, &q->task);
    }
}

/*
 * What the index has learned since a helper thread began, that may have missed it; and the onode
 * that knows it better may have left the memory since.
 */
static void query_done(struct env_work *work)
{
    struct query *q = container_of(work, struct query, work);
    if (q->listing && q->error == 0 && q->engine->forgotten_change > q->changes)
        query_ask(q);
    else
        query_complete(&q->task);
}

static int query_start(struct engine *e, int (*ask)(struct query *, bool),
                       void (*answer)(struct query *), void *request)
{
    struct query *q = query_create(e, ask, answer, request);
    if (!q)
        return -ENOMEM;
    query_ask(q);
    return 0;
}

/* ---- Listings ---- */

static int list_entry(struct store_list *list, const void *key, size_t key_len, const void *value,
                      size_t len)
{
    struct object_id id;
    struct object_layout layout;
    uint8_t strings[OBJECT_STRINGS_MAX];
    if (object_key_parse(key, key_len, &id, strings) < 0 || len < sizeof layout)
        return -EIO;
    memcpy(&layout, value, sizeof layout);
    if (layout.info_len > STORE_INFO_MAX || len < sizeof layout + layout.info_len)
        return -EIO;
    /* With room for any info, since what is in memory may be newer: see list_correct(). */
    uint8_t info[STORE_INFO_MAX] = {0};
    memcpy(info, (const uint8_t *)value + sizeof layout, layout.info_len);
    int error = list_add(list, &id, layout.size, info, sizeof info);
    if (error == 0)
        list->entries[list->n - 1].info_len = layout.info_len;
    return error;
}

static int list_index(struct query *q, bool may_block)
{
    struct store_list *list = q->request;
    struct engine *e = q->engine;
    uint8_t from[ENGINE_KEY_MAX], to[13];
    uint64_t pool = htobe64(list->pool);
    uint32_t first = htobe32(list->first), last = htobe32(list->last);
    size_t from_len = 13;
    from[0] = to[0] = KEY_OBJECT;
    memcpy(from + 1, &pool, 8);
    memcpy(from + 9, &first, 4);
    memcpy(to + 1, &pool, 8);
    memcpy(to + 9, &last, 4);
    /* The end is exclusive: the key after every key with this prefix. */
    for (size_t i = sizeof to; i-- > 0 && ++to[i] == 0;)
        ;
    if (list->after) {
        size_t after_len = object_key(list->after, from);
        from[after_len] = 0;
        from_len = after_len + 1;
    }
    list_fini(list); /* Of the time before, if it is asked again. */
    list_begin(list);
    struct index_iter *iter;
    int error = index_iterate(e->index, from, from_len, to, sizeof to, false, may_block, &iter);
    if (error < 0)
        return error;
    const void *key, *value;
    size_t key_len, len;
    while (list->n < list->max &&
           (error = index_next(e->index, iter, &key, &key_len, &value, &len)) > 0) {
        error = list_entry(list, key, key_len, value, len);
        if (error < 0)
            break;
    }
    list->end = error == 0 && list->n < list->max;
    e->index->ops->iter_free(iter);
    if (error < 0)
        list_fini(list);
    return error < 0 ? error : 0;
}

/*
 * What is in memory may be newer than the index, also of an object that is being removed: the index
 * has a record of it until the removal is durable, and its onode remembers the last info.
 */
static void list_correct(struct query *q)
{
    struct store_list *list = q->request;
    for (uint32_t i = 0; i < list->n; i++) {
        struct store_list_entry *entry = &list->entries[i];
        const struct onode *o = onode_find(q->engine, &entry->id);
        if (!o || o->loading || (!o->exists && o->info_len == 0))
            continue;
        if (o->exists)
            entry->size = o->size;
        entry->info_len = o->info_len;
        memcpy((uint8_t *)(uintptr_t)entry->info, o->info, o->info_len);
    }
}

static int list_ask(struct query *q, bool may_block)
{
    int error = list_index(q, may_block);
    if (error == 0 && !may_block)
        list_correct(q);
    return error;
}

static void list_answer(struct query *q)
{
    struct store_list *list = q->request;
    if (q->error == 0 && q->helped)
        list_correct(q);
    list->error = q->error;
    list->done(list);
}

/* The index is told of new objects first, some in each turn of the loop, and then asked. */
static void list_prepare(struct env_task *task)
{
    struct query *q = container_of(task, struct query, task);
    struct engine *e = q->engine;
    bool more = false;
    bool skip = e->failed || planted(PLANTED_STORE_LIST_OLD);
    int error = skip ? 0 : onode_list(e, q->until, &more);
    if (error < 0)
        engine_index_failed(e, error, "the index refused a batch");
    if (error == 0 && more)
        env_defer(e->env, &q->task);
    else
        query_ask(q);
}

void engine_list(struct store *store, struct store_list *list)
{
    assert(list->max > 0 && list->max <= STORE_LIST_MAX);
    list_begin(list);
    struct query *q = query_create(engine_of(store), list_ask, list_answer, list);
    if (!q) {
        list->error = -ENOMEM;
        list->done(list);
        return;
    }
    q->listing = true;
    q->until = engine_of(store)->applied;
    q->task.run = list_prepare;
    list_prepare(&q->task);
}

/* ---- Pairs of placement groups ---- */

static size_t pg_key(struct pg_id pg, const uint8_t *key, size_t len, uint8_t *out)
{
    uint64_t pool = htobe64(pg.pool);
    uint32_t seed = htobe32(pg.seed);
    out[0] = KEY_PG;
    memcpy(out + 1, &pool, 8);
    memcpy(out + 9, &seed, 4);
    memcpy(out + 13, key, len);
    return 13 + len;
}

static int pg_ask(struct query *q, bool may_block)
{
    struct store_pg_read *read = q->request;
    struct engine *e = q->engine;
    uint8_t from[13 + STORE_PG_KEY_MAX], to[13 + STORE_PG_KEY_MAX];
    size_t from_len = pg_key(read->pg, read->from, read->from_len, from);
    size_t to_len = pg_key(read->pg, read->to, read->to_len, to);
    struct index_iter *iter;
    encoder_reset(&read->pairs);
    read->n = 0;
    int error =
        index_iterate(e->index, from, from_len, to, to_len, read->reverse, may_block, &iter);
    if (error < 0)
        return error;
    const void *key, *value;
    size_t key_len, len;
    while ((read->max == 0 || read->n < read->max) &&
           (error = index_next(e->index, iter, &key, &key_len, &value, &len)) > 0) {
        encode_string16(&read->pairs, (const uint8_t *)key + 13, key_len - 13);
        encode_string32(&read->pairs, value, len);
        read->n++;
    }
    e->index->ops->iter_free(iter);
    if (read->pairs.failed)
        error = -ENOMEM;
    return error < 0 ? error : 0;
}

static void pg_answer(struct query *q)
{
    struct store_pg_read *read = q->request;
    read->error = q->error;
    read->done(read);
}

void engine_pg_read(struct store *store, struct store_pg_read *read)
{
    struct engine *e = engine_of(store);
    bool more;
    encoder_init(&read->pairs);
    int error = e->failed ? 0 : pairs_save(e, UINT64_MAX, true, &more);
    if (error < 0)
        engine_fail(e, error, "the index refused a batch");
    if (query_start(e, pg_ask, pg_answer, read) < 0) {
        read->error = -ENOMEM;
        read->done(read);
    }
}

/* ---- Object maps ---- */

struct omap_reader {
    LIST_ENTRY(omap_reader) all;
    struct waiter waiter; /* For the onode. */
    struct engine *engine;
    struct store_omap_read *read;
    struct onode *onode;
    uint64_t nid;
    int error;
};

/* From a key to the next possible one: the pair of this key, if there is one. */
static bool is_one_key(const struct store_omap_read *read)
{
    const uint8_t *to = read->to;
    return read->from_len > 0 && read->to_len == read->from_len + 1 && to[read->from_len] == 0 &&
           memcmp(read->from, to, read->from_len) == 0 && read->max > 0;
}

/* Unlike an iteration, the index answers this from memory, by a filter if there is no such key. */
static int omap_pair(struct omap_reader *r, bool may_block)
{
    struct store_omap_read *read = r->read;
    struct encoder value;
    uint8_t key[9 + STORE_OMAP_KEY_MAX], end[9];
    omap_range(r->nid, key, end);
    memcpy(key + 9, read->from, read->from_len);
    encoder_init(&value);
    int found = index_get(r->engine->index, key, 9u + read->from_len, &value, may_block);
    if (found > 0) {
        encode_string16(&read->pairs, read->from, read->from_len);
        encode_string32(&read->pairs, value.data, value.len);
        read->n = 1;
    }
    encoder_fini(&value);
    read->end = found >= 0;
    return found < 0 ? found : 0;
}

static int omap_pairs(struct omap_reader *r, bool may_block)
{
    struct store_omap_read *read = r->read;
    struct engine *e = r->engine;
    uint8_t from[9 + STORE_OMAP_KEY_MAX], to[9 + STORE_OMAP_KEY_MAX + 1];
    size_t to_len = 9 + (size_t)read->to_len;
    struct index_iter *iter;
    omap_range(r->nid, from, to);
    if (read->to_len > 0) {
        memcpy(to, from, 9);
        memcpy(to + 9, read->to, read->to_len);
    }
    if (read->from_len > 0)
        memcpy(from + 9, read->from, read->from_len);
    int error =
        index_iterate(e->index, from, 9u + read->from_len, to, to_len, false, may_block, &iter);
    if (error < 0)
        return error;
    const void *key, *value;
    size_t key_len, len;
    while ((error = index_next(e->index, iter, &key, &key_len, &value, &len)) > 0) {
        if (read->n == read->max || (read->max_bytes > 0 && read->pairs.len >= read->max_bytes))
            break;
        encode_string16(&read->pairs, (const uint8_t *)key + 9, key_len - 9);
        encode_string32(&read->pairs, value, len);
        read->n++;
    }
    read->end = error == 0;
    e->index->ops->iter_free(iter);
    return error < 0 ? error : 0;
}

static int omap_ask(struct query *q, bool may_block)
{
    struct omap_reader *r = q->request;
    struct store_omap_read *read = r->read;
    uint8_t key[9], end[9];
    if (r->error < 0)
        return r->error;
    encoder_reset(&read->pairs);
    encoder_reset(&read->header);
    read->n = 0;
    int error = is_one_key(read) ? omap_pair(r, may_block) : omap_pairs(r, may_block);
    if (error == 0 && read->want_header) {
        omap_range(r->nid, key, end);
        key[0] = KEY_OMAP_HEADER;
        error = index_get(r->engine->index, key, sizeof key, &read->header, may_block);
    }
    if (error >= 0 && (read->pairs.failed || read->header.failed))
        error = -ENOMEM;
    return error < 0 ? error : 0;
}

static void omap_answer(struct query *q)
{
    struct omap_reader *r = q->request;
    struct store_omap_read *read = r->read;
    if (r->onode)
        onode_unpin(q->engine, r->onode);
    LIST_REMOVE(r, all);
    free(r);
    read->error = q->error;
    read->done(read);
}

static void omap_ready(struct waiter *waiter)
{
    struct omap_reader *r = container_of(waiter, struct omap_reader, waiter);
    const struct onode *o = r->onode;
    r->error = !o ? -ENOMEM : o->error < 0 ? -EIO : !o->exists ? -ENOENT : 0;
    r->nid = o ? o->nid : 0;
    r->engine->busy--;
    if (query_start(r->engine, omap_ask, omap_answer, r) < 0) {
        struct query q = {.engine = r->engine, .request = r, .error = -ENOMEM};
        omap_answer(&q);
    }
}

void engine_omap_read(struct store *store, struct store_omap_read *read)
{
    struct engine *e = engine_of(store);
    struct omap_reader *r = calloc(1, sizeof *r);
    encoder_init(&read->pairs);
    encoder_init(&read->header);
    read->n = 0;
    read->end = false;
    if (!r) {
        read->error = -ENOMEM;
        read->done(read);
        return;
    }
    r->engine = e;
    r->read = read;
    r->waiter.ready = omap_ready;
    e->busy++;
    LIST_INSERT_HEAD(&e->omap_readers, r, all);
    r->onode = e->closing ? NULL : onode_get(e, &read->object);
    if (r->onode && r->onode->loading)
        onode_wait(r->onode, &r->waiter);
    else
        omap_ready(&r->waiter);
}

/* ---- Crashes ---- */

void reads_abandon(struct engine *e)
{
    struct reader *r;
    struct omap_reader *o;
    struct query *q;
    while ((r = LIST_FIRST(&e->readers)) != NULL) {
        LIST_REMOVE(r, all);
        free_runs(r);
        buf_slice_drop(&r->read->data);
        drop_buffer(r);
        encoder_fini(&r->read->attrs);
        encoder_fini(&r->read->extents);
        free(r);
    }
    while ((o = LIST_FIRST(&e->omap_readers)) != NULL) {
        LIST_REMOVE(o, all);
        encoder_fini(&o->read->pairs);
        encoder_fini(&o->read->header);
        free(o);
    }
    while ((q = LIST_FIRST(&e->queries)) != NULL) {
        LIST_REMOVE(q, all);
        free(q);
    }
}
