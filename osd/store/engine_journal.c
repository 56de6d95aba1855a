/*
 * The journal: a ring of groups, each made durable by one write and one flush.
 *
 *  J1  A transaction is acknowledged only after the flush that covers its group and its data
 *      writes.
 *
 *  J2  What arrives while a group is under way forms the next. There is no timer. A few groups are
 *      under way at once when each has enough in it to be worth a flush of its own.
 *
 *  J3  The ring is reused only after a durable superblock has moved the tail beyond, and where
 *      nobody reads it (E10).
 *
 *  J4  The index learns nothing of a record before its group is durable.
 *
 *  J5  Groups end in any order and are done in the order of the ring: replay stops at the first one
 *      that is not whole, so what lies behind a hole is lost.
 *
 *  J6  A group with data writes is under way alone. Replay compares them with their checksums
 * unless a later group vouches for them, so each later group must: it may hold newer content of the
 *      same blocks, which is put in place when it is done.
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

/* Large groups go alone, which bounds the memory of all. */
enum { BESIDE_META_MAX = 256 * 1024 };

static void init_encoders(struct group *g)
{
    encoder_init(&g->meta);
    encoder_init(&g->batch);
    encoder_init(&g->pairs);
}

static void fini_encoders(struct group *g)
{
    encoder_fini(&g->meta);
    encoder_fini(&g->batch);
    encoder_fini(&g->pairs);
}

static int group_init(struct group *g)
{
    init_encoders(g);
    STAILQ_INIT(&g->txns);
    g->payload = calloc(GROUP_PAYLOAD_MAX, sizeof *g->payload);
    g->iov = calloc(GROUP_PAYLOAD_MAX + JOURNAL_IOS, sizeof *g->iov);
    g->pad = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    return g->payload && g->iov && g->pad ? 0 : -ENOMEM;
}

static void group_fini(struct engine *e, struct group *g)
{
    for (uint32_t i = 0; i < g->n_payload; i++)
        cache_unpin(e, g->payload[i]);
    fini_encoders(g);
    free(g->payload);
    free(g->iov);
    free(g->image);
    free(g->pad);
}

/* Empties it. Few groups are large; their memory is not kept. */
static void group_reset(struct group *g)
{
    if (g->meta.len > BESIDE_META_MAX) {
        fini_encoders(g);
        init_encoders(g);
        free(g->image);
        g->image = NULL;
        g->image_capacity = 0;
    }
    encoder_reset(&g->meta);
    encoder_reset(&g->batch);
    encoder_reset(&g->pairs);
    g->state = GROUP_OPEN;
    g->n_payload = 0;
    g->n_records = 0;
    g->first_record = 0;
    g->has_direct = false;
    g->error = 0;
}

int journal_init(struct engine *e)
{
    struct journal *j = &e->journal;
    int error = 0;
    STAILQ_INIT(&j->marks);
    STAILQ_INIT(&j->under_way);
    STAILQ_INIT(&j->spare);
    j->open = &j->groups[0];
    j->group_worth = e->options.group_worth ? e->options.group_worth : GROUP_WORTH;
    for (uint32_t i = 0; i <= JOURNAL_UNDER_WAY; i++) {
        if (group_init(&j->groups[i]) < 0)
            error = -ENOMEM;
        if (i > 0)
            STAILQ_INSERT_TAIL(&j->spare, &j->groups[i], link);
    }
    return error;
}

void journal_fini(struct engine *e)
{
    struct journal *j = &e->journal;
    for (uint32_t i = 0; i <= JOURNAL_UNDER_WAY; i++)
        group_fini(e, &j->groups[i]);
    while (!STAILQ_EMPTY(&j->marks)) {
        struct journal_mark *mark = STAILQ_FIRST(&j->marks);
        STAILQ_REMOVE_HEAD(&j->marks, link);
        free(mark);
    }
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

/* What append_state() adds, at most. */
static size_t state_bytes(const struct engine *e)
{
    enum { CHANGE_BYTES = 48 }; /* A key of 9 bytes, a value of 24, and their lengths. */
    return sizeof(struct record_layout) + (HASH_COUNT(e->pools) + 1) * (size_t)CHANGE_BYTES;
}

bool journal_room(struct engine *e, size_t meta_bytes, uint32_t payload)
{
    struct journal *j = &e->journal;
    const struct group *g = j->open;
    meta_bytes += state_bytes(e);
    if (g->n_payload + payload > journal_payload_max(j) ||
        g->meta.len + meta_bytes > journal_meta_max(j))
        return false;
    uint64_t used = j->head - j->tail;
    uint64_t want =
        2 * group_bytes(g, meta_bytes, payload); /* It may have to skip the ring's end. */
    if (used + want <= j->bytes)
        return true;
    checkpoint_start_for_room(e, true);
    return false;
}

void journal_release(struct engine *e)
{
    struct journal *j = &e->journal;
    if (j->tail == j->trimmed)
        return; /* No look at all reads after each of them. */
    uint64_t until = ring_reads_from(e);
    if (until > j->trimmed || planted(PLANTED_STORE_RING_REUSE_READ))
        until = j->trimmed;
    if (until <= j->tail)
        return;
    j->tail = until;
    env_defer(e->env, &e->pump_task);
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

/* A group that has ended, and all before it. */
static void group_done(struct engine *e, struct group *g)
{
    struct journal *j = &e->journal;
    if (g->error < 0) {
        engine_fail(e, g->error, "the journal could not be made durable");
    } else if (!e->failed) {
        j->flushed = g->sequence;
        add_mark(e, g->end, g->sequence + 1, g->first_record + g->n_records);
        int error = g->batch.len > 0 ? index_apply(e->index, &g->batch) : 0;
        if (error == 0)
            error = pairs_change(e, &g->pairs, g->first_record);
        if (error < 0) {
            engine_index_failed(e, error, "the index refused a batch");
        } else {
            e->applied = g->first_record + g->n_records - 1;
            ring_take(e, g);
        }
    }
    unpin_payload(e, g);
    finish_txns(g, e->failed ? e->failure : 0);
    group_reset(g);
    STAILQ_INSERT_TAIL(&j->spare, g, link);
}

static void group_ended(struct engine *e, struct group *ended)
{
    struct journal *j = &e->journal;
    struct group *g;
    ended->state = GROUP_ENDED;
    if (planted(PLANTED_STORE_ACK_BEHIND_HOLE))
        finish_txns(ended, 0);
    while ((g = STAILQ_FIRST(&j->under_way)) != NULL && g->state == GROUP_ENDED) {
        STAILQ_REMOVE_HEAD(&j->under_way, link);
        j->n_under_way--;
        group_done(e, g);
    }
    checkpoint_journal_moved(e);
    checkpoint_settled(e);
    if (!e->failed && e->pairs.memory > e->pairs.limit)
        checkpoint_start_for_memory(e);
    checkpoint_start_for_room(e, false);
    env_defer(e->env, &e->pump_task);
    engine_check_closed(e);
}

static void flush_done(struct disk_io *io)
{
    struct journal_io *jio = container_of(io, struct journal_io, io);
    struct group *g = jio->group;
    assert(g->state == GROUP_FLUSHING);
    if (io->error && !planted(PLANTED_STORE_IGNORE_FLUSH_ERROR))
        g->error = io->error;
    group_ended(jio->engine, g);
}

/* When everything of the group is written: flush, or give up. */
static void written(struct engine *e, struct group *g)
{
    if (g->n_ios > 0 || g->directs > 0)
        return;
    if (g->error < 0 || e->failed) {
        group_ended(e, g);
        return;
    }
    e->counters.flushes++;
    if (g->durable || planted(PLANTED_STORE_SKIP_FLUSH)) {
        group_ended(e, g);
        return;
    }
    g->state = GROUP_FLUSHING;
    g->ios[0].io = (struct disk_io){.op = DISK_FLUSH, .done = flush_done};
    disk_submit(e->disk, &g->ios[0].io);
}

static void write_done(struct disk_io *io)
{
    struct journal_io *jio = container_of(io, struct journal_io, io);
    struct group *g = jio->group;
    if (io->error && !planted(PLANTED_STORE_IGNORE_SHORT_WRITE))
        g->error = io->error;
    g->n_ios--;
    written(jio->engine, g);
}

void journal_direct_done(struct engine *e, struct txn_ctx *ctx, int error)
{
    struct group *g = ctx->group;
    if (error)
        g->error = error;
    assert(g->directs > 0);
    g->directs--;
    if (g->state == GROUP_WRITING)
        written(e, g);
    else if (e->failed || error)
        env_defer(e->env, &e->pump_task);
}

static void submit_write(struct engine *e, struct group *g, enum disk_op op, uint64_t position,
                         struct iovec *iov, uint32_t n)
{
    assert(g->n_ios < JOURNAL_IOS);
    struct journal_io *jio = &g->ios[g->n_ios++];
    uint64_t len = 0;
    for (uint32_t i = 0; i < n; i++)
        len += iov[i].iov_len;
    jio->engine = e;
    jio->group = g;
    jio->io = (struct disk_io){.op = op,
                               .offset = JOURNAL_OFFSET + position % e->journal.bytes,
                               .iov = iov,
                               .n_iov = n,
                               .len = len,
                               .done = write_done};
    disk_submit(e->disk, &jio->io);
}

/* ---- Sealing a group ---- */

static uint64_t seal_header(struct engine *e, struct group_layout *h)
{
    struct journal *j = &e->journal;
    h->magic = GROUP_MAGIC;
    h->sequence = j->sequence;
    h->salt = e->super.salt;
    h->flushed = j->flushed;
    return j->sequence++;
}

/* A group never crosses the ring's end: a header alone tells replay to go on at the start. */
static void pad_to_start(struct engine *e, struct group *g)
{
    struct journal *j = &e->journal;
    struct group_layout *h = (struct group_layout *)g->pad;
    memset(g->pad, 0, BLOCK_BYTES);
    (void)seal_header(e, h);
    h->flags = GROUP_PAD;
    h->meta_bytes = sizeof *h;
    h->first_record = g->first_record;
    h->crc = ~crc32_iscsi(g->pad, sizeof *h, ~UINT32_C(0));
    struct iovec *iov = &g->iov[GROUP_PAYLOAD_MAX + 1];
    *iov = (struct iovec){.iov_base = g->pad, .iov_len = BLOCK_BYTES};
    submit_write(e, g, DISK_WRITE, j->head, iov, 1);
    j->head += j->bytes - j->head % j->bytes;
}

/* Header and records as they go to the disk: g->image. */
static int make_image(struct engine *e, struct group *g)
{
    size_t bytes = sizeof(struct group_layout) + g->meta.len;
    if (aligned(bytes) > g->image_capacity) {
        free(g->image);
        g->image_capacity = aligned(bytes + bytes / 2);
        g->image = aligned_alloc(BLOCK_BYTES, g->image_capacity);
        if (!g->image) {
            g->image_capacity = 0;
            return -ENOMEM;
        }
    }
    struct group_layout *h = (struct group_layout *)g->image;
    memset(h, 0, sizeof *h);
    memcpy(g->image + sizeof *h, g->meta.data, g->meta.len);
    memset(g->image + bytes, 0, aligned(bytes) - bytes);
    g->sequence = seal_header(e, h);
    h->first_record = g->first_record;
    h->n_records = g->n_records;
    h->meta_bytes = (uint32_t)bytes;
    h->n_payload = g->n_payload;
    h->crc = ~crc32_iscsi(g->image, (int)bytes, ~UINT32_C(0));
    return 0;
}

static void write_group(struct engine *e, struct group *g)
{
    uint64_t position = e->journal.head;
    enum disk_op op =
        g->durable && !planted(PLANTED_STORE_SKIP_FLUSH) ? DISK_WRITE_DURABLE : DISK_WRITE;
    g->iov[0] = (struct iovec){.iov_base = g->image,
                               .iov_len = aligned(sizeof(struct group_layout) + g->meta.len)};
    for (uint32_t i = 0; i < g->n_payload; i++)
        g->iov[i + 1] = (struct iovec){.iov_base = g->payload[i]->data, .iov_len = BLOCK_BYTES};
    for (uint32_t at = 0; at < g->n_payload + 1;) {
        uint32_t n = g->n_payload + 1 - at;
        if (n > JOURNAL_IO_IOVS)
            n = JOURNAL_IO_IOVS;
        uint64_t before = position;
        for (uint32_t i = at; i < at + n; i++)
            position += g->iov[i].iov_len;
        submit_write(e, g, op, before, &g->iov[at], n);
        at += n;
    }
}

static bool goes_beside(const struct group *g)
{
    return (!g->has_direct || planted(PLANTED_STORE_DIRECT_BESIDE)) &&
           g->meta.len <= BESIDE_META_MAX;
}

static bool may_start(const struct journal *j)
{
    if (j->open->n_records == 0)
        return false;
    if (journal_idle(j))
        return true;
    return j->n_under_way < JOURNAL_UNDER_WAY && j->open->n_records >= j->group_worth &&
           goes_beside(j->open) && goes_beside(j->newest);
}

/* What waits in the open group of a failed store. */
static void give_up(struct engine *e)
{
    struct group *g = e->journal.open;
    unpin_payload(e, g);
    finish_txns(g, e->failure);
    group_reset(g);
}

void journal_kick(struct engine *e)
{
    struct journal *j = &e->journal;
    if (e->failed && journal_idle(j) && j->open->directs == 0) {
        give_up(e);
        checkpoint_journal_moved(e); /* It may wait for what will not come. */
        checkpoint_settled(e);
    }
    if (e->failed || !may_start(j))
        return;
    append_state(e);
    if (e->failed)
        return;
    struct group *g = j->open;
    j->open = STAILQ_FIRST(&j->spare);
    assert(j->open); /* One more than may be under way. */
    STAILQ_REMOVE_HEAD(&j->spare, link);
    STAILQ_INSERT_TAIL(&j->under_way, g, link);
    j->newest = g;
    j->n_under_way++;
    g->state = GROUP_WRITING;
    g->n_ios = 0;
    uint64_t bytes = group_bytes(g, 0, 0);
    assert(j->head - j->tail + 2 * bytes <= j->bytes);
    assert(j->head + 2 * bytes <= j->bytes || ring_reads_from(e) >= j->head + 2 * bytes - j->bytes);
    bool pads = j->head % j->bytes + bytes > j->bytes;
    /* One write that nothing else must precede can be its own flush. */
    g->durable = !pads && !g->has_direct && g->n_payload < JOURNAL_IO_IOVS;
    if (pads)
        pad_to_start(e, g);
    int error = make_image(e, g);
    if (error < 0) {
        g->error = error;
        written(e, g);
        return;
    }
    write_group(e, g);
    j->head += bytes;
    g->end = j->head;
    if (planted(PLANTED_STORE_APPLY_BEFORE_DURABLE))
        ring_take(e, g);
    e->counters.groups++;
}

void journal_cut(struct engine *e)
{
    struct journal *j = &e->journal;
    if (e->failed || j->open->n_records < j->group_worth || !may_start(j))
        return;
    journal_kick(e);
    disk_push(e->disk);
}
