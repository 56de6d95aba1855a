/*
 * The journal: a ring of groups, each made durable by one write and one flush.
 *
 *  J1  A transaction is acknowledged only after the flush that covers its group and its data
 *      writes.
 *
 *  J2  One group is under way at a time; what arrives meanwhile forms the next. There is no timer.
 *
 *  J3  The ring is reused only after a durable superblock has moved the tail beyond.
 *
 *  J4  The index learns nothing of a record before its group is durable.
 */
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <isa-l.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/planted.h"
#include "osd/store/engine.h"

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
}

static int group_init(struct group *g)
{
    encoder_init(&g->meta);
    encoder_init(&g->batch);
    encoder_init(&g->pairs);
    STAILQ_INIT(&g->txns);
    g->payload = calloc(GROUP_PAYLOAD_MAX, sizeof *g->payload);
    return g->payload ? 0 : -ENOMEM;
}

static void group_reset(struct group *g)
{
    encoder_reset(&g->meta);
    encoder_reset(&g->batch);
    encoder_reset(&g->pairs);
    g->n_payload = 0;
    g->n_records = 0;
    g->first_record = 0;
    g->has_direct = false;
}

int journal_init(struct engine *e)
{
    struct journal *j = &e->journal;
    STAILQ_INIT(&j->marks);
    j->open = &j->groups[0];
    j->busy = &j->groups[1];
    j->iov = calloc(GROUP_PAYLOAD_MAX + JOURNAL_IOS, sizeof *j->iov);
    j->pad = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    if (group_init(&j->groups[0]) < 0 || group_init(&j->groups[1]) < 0 || !j->iov || !j->pad)
        return -ENOMEM;
    return 0;
}

void journal_fini(struct engine *e)
{
    struct journal *j = &e->journal;
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t n = 0; n < j->groups[i].n_payload; n++)
            cache_unpin(e, j->groups[i].payload[n]);
        encoder_fini(&j->groups[i].meta);
        encoder_fini(&j->groups[i].batch);
        encoder_fini(&j->groups[i].pairs);
        free(j->groups[i].payload);
    }
    while (!STAILQ_EMPTY(&j->marks)) {
        struct journal_mark *mark = STAILQ_FIRST(&j->marks);
        STAILQ_REMOVE_HEAD(&j->marks, link);
        free(mark);
    }
    free(j->iov);
    free(j->meta);
    free(j->pad);
}

/* Two groups and the space that a group skips at the ring's end always fit. */
uint32_t journal_payload_max(const struct journal *j)
{
    uint64_t most = j->bytes / 8 / BLOCK_BYTES;
    return most < GROUP_PAYLOAD_MAX ? (uint32_t)most : GROUP_PAYLOAD_MAX;
}

size_t journal_meta_max(const struct journal *j)
{
    uint64_t most = j->bytes / 8;
    return most < GROUP_META_MAX ? most : GROUP_META_MAX;
}

static uint64_t group_bytes(const struct group *g, size_t more_meta, uint32_t more_payload)
{
    return aligned(sizeof(struct group_layout) + g->meta.len + more_meta) +
           (uint64_t)(g->n_payload + more_payload) * BLOCK_BYTES;
}

bool journal_room(struct engine *e, size_t meta_bytes, uint32_t payload)
{
    struct journal *j = &e->journal;
    const struct group *g = j->open;
    if (g->n_payload + payload > journal_payload_max(j) ||
        g->meta.len + meta_bytes > journal_meta_max(j))
        return false;
    uint64_t used = j->head - j->tail;
    uint64_t want =
        2 * group_bytes(g, meta_bytes, payload); /* It may have to skip the ring's end. */
    if (used + want <= j->bytes)
        return true;
    checkpoint_start(e);
    return false;
}

static void add_changes(struct encoder *to, const struct encoder *changes)
{
    if (changes->len > 0)
        encode_bytes(to, changes->data, changes->len);
}

void journal_append(struct engine *e, struct txn_ctx *ctx, const struct changes *changes,
                    struct cblock **deferred, uint32_t n_deferred,
                    const struct direct_layout *direct, uint32_t n_direct)
{
    struct group *g = e->journal.open;
    struct record_layout record = {
        .magic = RECORD_MAGIC,
        .n_deferred = n_deferred,
        .n_direct = n_direct,
        .batch_bytes = (uint32_t)(changes->now.len + changes->onodes.len + changes->pairs.len),
        .record = ctx ? ctx->record : e->record - 1};
    if (g->n_records++ == 0)
        g->first_record = record.record;
    encode_bytes(&g->meta, &record, sizeof record);
    for (uint32_t i = 0; i < n_deferred; i++) {
        struct deferred_layout d = {.block = deferred[i]->block, .crc = deferred[i]->crc};
        encode_bytes(&g->meta, &d, sizeof d);
        g->payload[g->n_payload++] = deferred[i];
    }
    g->has_direct |= n_direct > 0;
    if (n_direct > 0)
        encode_bytes(&g->meta, direct, n_direct * sizeof *direct);
    add_changes(&g->meta, &changes->now);
    add_changes(&g->meta, &changes->onodes);
    add_changes(&g->meta, &changes->pairs);
    add_changes(&g->batch, &changes->now);
    add_changes(&g->pairs, &changes->pairs);
    if (ctx) {
        ctx->group = g;
        STAILQ_INSERT_TAIL(&g->txns, ctx, link);
    }
    if (g->meta.failed || g->batch.failed || g->pairs.failed)
        engine_fail(e, -ENOMEM, "out of memory for the journal");
}

/*
 * The last record of every group: the sums of pools, and the state. They change with every
 * transaction, and once a group is enough, since a group is durable whole or not at all. The index
 * gets both at checkpoints only.
 */
static void append_state(struct engine *e)
{
    struct group *g = e->journal.open;
    struct encoder *batch = &e->scratch_batch;
    struct pool_stat *p, *next;
    encoder_reset(batch);
    HASH_ITER(hh, e->pools, p, next)
    {
        if (!p->dirty)
            continue;
        uint8_t key[9] = {KEY_POOL};
        uint64_t id = htobe64(p->pool);
        memcpy(key + 1, &id, 8);
        if (p->value.objects > 0)
            index_batch_put(batch, key, sizeof key, &p->value, sizeof p->value);
        else
            index_batch_remove(batch, key, sizeof key);
        p->dirty = false;
    }
    add_changes(&g->pairs, batch);
    struct record_layout record = {.magic = RECORD_MAGIC, .record = e->record++};
    struct state_layout state = {.record = record.record, .next_nid = e->next_nid};
    uint8_t key = KEY_STATE;
    index_batch_put(batch, &key, 1, &state, sizeof state);
    record.batch_bytes = (uint32_t)batch->len;
    g->n_records++;
    encode_bytes(&g->meta, &record, sizeof record);
    encode_bytes(&g->meta, batch->data, batch->len);
    if (g->meta.failed || g->pairs.failed)
        engine_fail(e, -ENOMEM, "out of memory for the journal");
}

/* ---- Making a group durable ---- */

static void finish_txns(struct group *g, int error)
{
    struct txn_queue done = STAILQ_HEAD_INITIALIZER(done);
    STAILQ_CONCAT(&done, &g->txns);
    while (!STAILQ_EMPTY(&done)) {
        struct txn_ctx *ctx = STAILQ_FIRST(&done);
        STAILQ_REMOVE_HEAD(&done, link);
        txn_finish(ctx, error);
    }
}

static void unpin_payload(struct engine *e, struct group *g)
{
    for (uint32_t i = 0; i < g->n_payload; i++)
        cache_unpin(e, g->payload[i]);
    g->n_payload = 0;
}

static void add_mark(struct engine *e, uint64_t end, uint64_t sequence, uint64_t record)
{
    struct journal_mark *mark = malloc(sizeof *mark);
    if (!mark) {
        engine_fail(e, -ENOMEM, "out of memory for the journal");
        return;
    }
    *mark = (struct journal_mark){.end = end, .sequence = sequence, .record = record};
    STAILQ_INSERT_TAIL(&e->journal.marks, mark, link);
}

static void group_done(struct engine *e)
{
    struct journal *j = &e->journal;
    struct group *g = j->busy;
    j->state = JOURNAL_IDLE;
    if (j->error < 0) {
        engine_fail(e, j->error, "the journal could not be made durable");
    } else if (!e->failed) {
        j->flushed = j->sequence - 1;
        add_mark(e, j->head, j->sequence, g->first_record + g->n_records);
        int error = g->batch.len > 0 ? index_apply(e->index, &g->batch) : 0;
        if (error == 0)
            error = pairs_change(e, &g->pairs, g->first_record);
        if (error < 0)
            engine_index_failed(e, error, "the index refused a batch");
        else
            e->applied = g->first_record + g->n_records - 1;
    }
    unpin_payload(e, g);
    group_reset(g);
    finish_txns(g, e->failed ? e->failure : 0);
    checkpoint_journal_moved(e);
    checkpoint_settled(e);
    if (!e->failed && (j->head - j->tail > j->bytes / 2 || e->pairs.memory > e->pairs.limit))
        checkpoint_start(e);
    env_defer(e->env, &e->pump_task);
    engine_check_closed(e);
}

static void flush_done(struct disk_io *io)
{
    struct journal_io *jio = container_of(io, struct journal_io, io);
    struct journal *j = &jio->engine->journal;
    assert(j->state == JOURNAL_FLUSHING);
    if (io->error && !planted(PLANTED_STORE_IGNORE_FLUSH_ERROR))
        j->error = io->error;
    group_done(jio->engine);
}

/* Everything of the group is written: flush, or give up. */
static void written(struct engine *e)
{
    struct journal *j = &e->journal;
    if (j->n_ios > 0 || j->busy->directs > 0)
        return;
    if (j->error < 0 || e->failed) {
        group_done(e);
        return;
    }
    e->counters.flushes++;
    if (j->durable || planted(PLANTED_STORE_SKIP_FLUSH)) {
        group_done(e);
        return;
    }
    j->state = JOURNAL_FLUSHING;
    j->ios[0].engine = e;
    j->ios[0].io = (struct disk_io){.op = DISK_FLUSH, .done = flush_done};
    disk_submit(e->disk, &j->ios[0].io);
}

static void write_done(struct disk_io *io)
{
    struct journal_io *jio = container_of(io, struct journal_io, io);
    struct journal *j = &jio->engine->journal;
    if (io->error && !planted(PLANTED_STORE_IGNORE_SHORT_WRITE))
        j->error = io->error;
    j->n_ios--;
    written(jio->engine);
}

void journal_direct_done(struct engine *e, struct txn_ctx *ctx, int error)
{
    struct journal *j = &e->journal;
    struct group *g = ctx->group;
    if (error)
        j->error = error;
    assert(g->directs > 0);
    g->directs--;
    if (g == j->busy && j->state == JOURNAL_WRITING)
        written(e);
    else if (e->failed || error)
        env_defer(e->env, &e->pump_task);
}

static void submit_write(struct engine *e, enum disk_op op, uint64_t position, struct iovec *iov,
                         uint32_t n)
{
    struct journal *j = &e->journal;
    assert(j->n_ios < JOURNAL_IOS);
    struct journal_io *jio = &j->ios[j->n_ios++];
    uint64_t len = 0;
    for (uint32_t i = 0; i < n; i++)
        len += iov[i].iov_len;
    jio->engine = e;
    jio->io = (struct disk_io){.op = op,
                               .offset = JOURNAL_OFFSET + position % j->bytes,
                               .iov = iov,
                               .n_iov = n,
                               .len = len,
                               .done = write_done};
    disk_submit(e->disk, &jio->io);
}

static void seal_header(struct engine *e, struct group_layout *h)
{
    struct journal *j = &e->journal;
    h->magic = GROUP_MAGIC;
    h->sequence = j->sequence++;
    h->salt = e->super.salt;
    h->flushed = j->flushed;
}

/* A group never crosses the ring's end: a header alone tells replay to go on at the start. */
static void pad_to_start(struct engine *e)
{
    struct journal *j = &e->journal;
    struct group_layout *h = (struct group_layout *)j->pad;
    memset(j->pad, 0, BLOCK_BYTES);
    seal_header(e, h);
    h->flags = GROUP_PAD;
    h->meta_bytes = sizeof *h;
    h->first_record = j->busy->first_record;
    h->crc = ~crc32_iscsi(j->pad, sizeof *h, ~UINT32_C(0));
    struct iovec *iov = &j->iov[GROUP_PAYLOAD_MAX + 1];
    *iov = (struct iovec){.iov_base = j->pad, .iov_len = BLOCK_BYTES};
    submit_write(e, DISK_WRITE, j->head, iov, 1);
    j->head += j->bytes - j->head % j->bytes;
}

void journal_kick(struct engine *e)
{
    struct journal *j = &e->journal;
    if (e->failed && j->state == JOURNAL_IDLE && j->open->directs == 0) {
        unpin_payload(e, j->open);
        finish_txns(j->open, e->failure);
        group_reset(j->open);
        return;
    }
    if (j->state != JOURNAL_IDLE || j->open->n_records == 0 || e->failed)
        return;
    append_state(e);
    if (e->failed)
        return;
    struct group *g = j->open;
    j->open = j->busy;
    j->busy = g;
    j->state = JOURNAL_WRITING;
    j->error = 0;
    j->n_ios = 0;
    uint64_t bytes = group_bytes(g, 0, 0);
    assert(j->head - j->tail + 2 * bytes <= j->bytes);
    bool pads = j->head % j->bytes + bytes > j->bytes;
    /* One write that nothing else must precede can be its own flush. */
    j->durable = !pads && !g->has_direct && g->n_payload < JOURNAL_IO_IOVS;
    if (pads)
        pad_to_start(e);
    size_t meta_bytes = sizeof(struct group_layout) + g->meta.len;
    if (meta_bytes > j->meta_capacity) {
        free(j->meta);
        j->meta_capacity = aligned(meta_bytes + meta_bytes / 2);
        j->meta = aligned_alloc(BLOCK_BYTES, j->meta_capacity);
        if (!j->meta) {
            j->meta_capacity = 0;
            j->error = -ENOMEM;
            group_done(e);
            return;
        }
    }
    struct group_layout *h = (struct group_layout *)j->meta;
    memset(h, 0, sizeof *h);
    memcpy(j->meta + sizeof *h, g->meta.data, g->meta.len);
    memset(j->meta + meta_bytes, 0, aligned(meta_bytes) - meta_bytes);
    seal_header(e, h);
    h->first_record = g->first_record;
    h->n_records = g->n_records;
    h->meta_bytes = (uint32_t)meta_bytes;
    h->n_payload = g->n_payload;
    h->crc = ~crc32_iscsi(j->meta, (int)meta_bytes, ~UINT32_C(0));
    j->iov[0] = (struct iovec){.iov_base = j->meta, .iov_len = aligned(meta_bytes)};
    for (uint32_t i = 0; i < g->n_payload; i++)
        j->iov[i + 1] = (struct iovec){.iov_base = g->payload[i]->data, .iov_len = BLOCK_BYTES};
    uint64_t position = j->head;
    for (uint32_t at = 0; at < g->n_payload + 1;) {
        uint32_t n = g->n_payload + 1 - at;
        if (n > JOURNAL_IO_IOVS)
            n = JOURNAL_IO_IOVS;
        uint64_t before = position;
        for (uint32_t i = at; i < at + n; i++)
            position += j->iov[i].iov_len;
        submit_write(
            e, j->durable && !planted(PLANTED_STORE_SKIP_FLUSH) ? DISK_WRITE_DURABLE : DISK_WRITE,
            before, &j->iov[at], n);
        at += n;
    }
    j->head += bytes;
    e->counters.groups++;
}
