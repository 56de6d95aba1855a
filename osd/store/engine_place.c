/*
 * Putting deferred blocks in place, and checkpoints.
 *
 * Blocks wait in the ring (engine_ring.c) and are put in place in its order, one batch after the
 * other: those of which memory has no copy are read from the ring in large pieces, compared with
 * their checksums, sorted, and written, neighbours in one write.
 *
 *  P1  One batch is under way at a time, so two writes of the same block never overtake each other.
 *  P2  Only what is durable and in the index goes (it has a slot then): before that, a crash would
 *      leave new bytes under an old checksum.
 *  P3  A block keeps its slot until its write is done: until then it is read from the ring. It
 *      loses it before when a later record has changed or freed it, and is not written then.
 *  P4  What the ring has lost (its bytes do not match) is told, and is not put in place. Nothing is
 *      served either: the checksum that the onode has is of something that is nowhere. A disk that
 *      cannot be read at all may have everything: then the store stops, and the next mount looks
 *      again, since the tail has passed nothing of that batch.
 *
 * When: writers are many as long as they come in bursts, so placing waits until nobody has wanted
 * anything for a while, or until half of the ring waits to be put in place. From there on a batch
 * goes for each batch that comes, and when the ring has less than a third left writers wait for
 * batches, not for a checkpoint. While somebody reads and nobody writes a batch rests where it is.
 *
 * A checkpoint moves the journal's tail:
 *
 *     PLACING -> FLUSHING_DATA -> SAVING -> SETTLING -> FLUSHING_INDEX -> AWAITING_JOURNAL
 *     -> WRITING_SUPER -> FLUSHING_SUPER
 *
 *  C1  Its target is a group that is durable and in the index. Every deferred block of a record
 *      before the target is in place and flushed, and the index has flushed the record, before the
 *      superblock says so.
 *  C2  Blocks freed by records before the target become usable, and the ring's space reusable, only
 *      when that superblock is durable: until then replay may still put old payload in place.
 *  C3  A block that a later record overwrites or frees is not put in place: its old content is
 *      needed no more once that record is durable. All records that were executed when placing
 *      ended are durable before the superblock is written; until then only the journal has it.
 *
 * A checkpoint for room in the ring takes for its target what is in place already, if that is
 * enough. One for room in memory gives the index all that is durable: the index may know more than
 * is in place, since replay puts payload in place whatever the index knows.
 */
#include <assert.h>
#include <errno.h>
#include <isa-l.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/planted.h"
#include "osd/store/engine.h"

enum {
    PLACE_RUNS = PLACE_UNDER_WAY,
    PLACE_READ_BLOCKS = 256, /* Of one read of the ring. */
    PLACE_READ_GAP = 8,      /* Blocks that are needed no more and are read all the same. */
    WINDOW_SHARE = 60,       /* Of the memory target: what of the ring is read for one batch. */
    WINDOW_MIN_BLOCKS = 16,
    UNREAD_MAX = 64,   /* More in one batch are no bad spot: the disk does not read at all. */
    FREED_MORE = 4096, /* Blocks that come back beside those that somebody waits for. */
    /* Of onodes that are saved in one turn: their chunks are what takes time, and requests wait. */
    SAVE_BYTES = 8 * 1024,
    SAVE_SORTED = 128,
};

/* So long nobody wants anything of the disk before blocks are put in place for that reason. */
#define IDLE_NS (250 * MSEC_NS)

static void step(struct engine *e);
static int put_state(struct engine *e, struct encoder *batch);
static void batch_step(struct engine *e);
static void timer_fired(struct env_timer *timer);

static uint64_t window_bytes(uint64_t memory_target)
{
    uint64_t blocks = memory_target / WINDOW_SHARE / BLOCK_BYTES;
    if (blocks < WINDOW_MIN_BLOCKS)
        blocks = WINDOW_MIN_BLOCKS;
    return (blocks < PLACE_BATCH_BLOCKS ? blocks : PLACE_BATCH_BLOCKS) * BLOCK_BYTES;
}

/* Reads of one batch: each ends at a gap, or is as long as it may be. */
static size_t reads_max(const struct placing *p)
{
    size_t blocks = p->window_bytes / BLOCK_BYTES;
    return blocks / PLACE_READ_GAP + blocks / PLACE_READ_BLOCKS + 2;
}

int checkpoint_init(struct engine *e)
{
    struct checkpoint *c = &e->checkpoint;
    struct placing *p = &e->placing;
    TAILQ_INIT(&p->runs);
    p->timer.fire = timer_fired;
    p->window_bytes = window_bytes(e->options.memory_target);
    c->super = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    p->run_pool = calloc(PLACE_RUNS, sizeof *p->run_pool);
    p->batch = calloc(PLACE_BATCH_BLOCKS, sizeof *p->batch);
    p->reads = calloc(reads_max(p), sizeof *p->reads);
    return c->super && p->run_pool && p->batch && p->reads ? 0 : -ENOMEM;
}

void checkpoint_fini(struct engine *e)
{
    struct placing *p = &e->placing;
    struct place_run *run;
    while ((run = TAILQ_FIRST(&p->runs)) != NULL) {
        TAILQ_REMOVE(&p->runs, run, link);
        free(run);
    }
    for (uint32_t i = 0; p->batch && i < p->n; i++)
        if (p->batch[i].cached)
            cache_let_go(e, p->batch[i].cached);
    for (uint32_t i = 0; p->run_pool && i < p->run_capacity; i++)
        free(p->run_pool[i]);
    free(p->run_pool);
    free(p->batch);
    free(p->reads);
    free(p->window);
    free(e->checkpoint.super);
}

/* ---- A batch: choosing it ---- */

bool place_busy(const struct engine *e)
{
    return e->placing.n > 0;
}

/* Nothing has changed or freed the block since it was chosen. */
static bool still_needed(const struct engine *e, const struct place_block *b)
{
    return e->ring.slots[b->slot].block == b->block;
}

/* Memory's copy, unless it is none of what the journal has. */
static struct cblock *copy_of(const struct engine *e, const struct ring_slot *slot)
{
    struct cblock *c = cache_look(e, slot->block);
    return c && c->crc == slot->crc && !c->damaged ? c : NULL;
}

/* The next blocks of the ring, up to a position. False when there are none. */
static bool choose(struct engine *e, uint64_t until)
{
    struct placing *p = &e->placing;
    const uint64_t bytes = e->journal.bytes;
    bool reads = false;
    assert(p->n == 0 && until <= e->ring.end);
    while (p->at < until && p->n < PLACE_BATCH_BLOCKS) {
        uint32_t number = ring_slot_at(e, p->at);
        const struct ring_slot *slot = &e->ring.slots[number];
        if (slot->block == BLOCK_NONE) {
            p->at += BLOCK_BYTES;
            continue;
        }
        struct cblock *c = copy_of(e, slot);
        const uint8_t *data = c ? c->data : NULL;
        if (!c) {
            if (!reads)
                p->window_at = p->at;
            reads = true;
            uint64_t in_window = p->at - p->window_at;
            if (in_window >= p->window_bytes || p->at % bytes < p->window_at % bytes)
                break; /* The ring's end, or more than fits. */
            data = p->window + in_window;
        } else {
            cache_hold(e, c);
        }
        p->batch[p->n++] =
            (struct place_block){.block = slot->block, .slot = number, .data = data, .cached = c};
        p->at += BLOCK_BYTES;
    }
    return p->n > 0;
}

/* ---- Reading what memory does not have ---- */

static void read_done(struct disk_io *io)
{
    struct place_read *read = container_of(io, struct place_read, io);
    struct engine *e = read->engine;
    if (--e->placing.n_reads > 0)
        return;
    ring_read_end(e, &e->placing.reading);
    batch_step(e);
}

/* From one block of the batch to another one, which is not before it in the ring. */
static void read_ring(struct engine *e, const struct place_block *from,
                      const struct place_block *to)
{
    struct placing *p = &e->placing;
    assert(p->n_reads < reads_max(p) && from->slot <= to->slot);
    if (p->n_reads == 0)
        ring_read_begin(e, &p->reading, from->slot);
    struct place_read *read = &p->reads[p->n_reads++];
    uint64_t len = (uint64_t)(to->slot - from->slot + 1) * BLOCK_BYTES;
    read->engine = e;
    read->iov = (struct iovec){.iov_base = (uint8_t *)(uintptr_t)from->data, .iov_len = len};
    read->io = (struct disk_io){.op = DISK_READ,
                                .offset = ring_offset(from->slot),
                                .iov = &read->iov,
                                .n_iov = 1,
                                .len = len,
                                .done = read_done};
    e->counters.ring_reads += to->slot - from->slot + 1;
    disk_submit(e->disk, &read->io);
}

static void read_batch(struct engine *e)
{
    struct placing *p = &e->placing;
    const struct place_block *from = NULL, *to = NULL;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct place_block *b = &p->batch[i];
        if (b->cached)
            continue;
        if (from &&
            (b->slot - to->slot > PLACE_READ_GAP || b->slot - from->slot >= PLACE_READ_BLOCKS)) {
            read_ring(e, from, to);
            from = NULL;
        }
        from = from ? from : b;
        to = b;
    }
    if (from)
        read_ring(e, from, to);
}

/* The only copy is damaged, or cannot be read: it is told, and the disk keeps what it has (P4). */
static void lost(struct engine *e, const struct place_block *b, const struct disk_io *io,
                 uint32_t crc)
{
    e->counters.read_errors += io->error != 0;
    e->counters.checksum_errors += io->error == 0;
    log_error(e->env, "journal block unreadable", "block=%u place=%u error=%d crc=%08x want=%08x",
              b->block, b->slot, io->error, crc, e->ring.slots[b->slot].crc);
    if (io->error && ++e->placing.unread > UNREAD_MAX)
        engine_fail(e, io->error, "the journal's ring cannot be read");
    else
        ring_forget(e, b->block);
}

/* Compares what was read. What does not match is read again, once, by itself. */
static bool check_batch(struct engine *e)
{
    struct placing *p = &e->placing;
    for (; p->checked < p->n && !e->failed; p->checked++, p->again = false) {
        struct place_block *b = &p->batch[p->checked];
        if (b->cached || !still_needed(e, b))
            continue;
        uint32_t crc = block_crc(b->data);
        if (crc == e->ring.slots[b->slot].crc || planted(PLANTED_STORE_RING_UNCHECKED))
            continue;
        struct cblock *c = copy_of(e, &e->ring.slots[b->slot]);
        if (c) { /* Somebody has read it meanwhile, and that was right. */
            cache_hold(e, c);
            b->cached = c;
            b->data = c->data;
            continue;
        }
        if (p->again) {
            lost(e, b, &p->reads[0].io, crc);
            continue;
        }
        p->again = true;
        read_ring(e, b, b);
        return false;
    }
    return true;
}

/* ---- Writing ---- */

static struct place_run *run_get(struct engine *e)
{
    struct placing *p = &e->placing;
    if (p->run_capacity > 0)
        return p->run_pool[--p->run_capacity];
    struct place_run *run = malloc(sizeof *run);
    if (run)
        run->engine = e;
    return run;
}

static void run_put(struct engine *e, struct place_run *run)
{
    struct placing *p = &e->placing;
    if (p->run_capacity < PLACE_RUNS)
        p->run_pool[p->run_capacity++] = run;
    else
        free(run);
}

static void release(struct engine *e, struct place_block *b)
{
    if (b->cached)
        cache_let_go(e, b->cached);
    b->cached = NULL;
}

static void run_done(struct disk_io *io)
{
    struct place_run *run = container_of(io, struct place_run, io);
    struct engine *e = run->engine;
    struct placing *p = &e->placing;
    for (uint32_t i = run->first; i < run->first + run->n; i++) {
        struct place_block *b = &p->batch[i];
        if (!io->error && still_needed(e, b))
            ring_forget(e, b->block);
        release(e, b);
    }
    if (io->error)
        engine_fail(e, io->error, "deferred data could not be put in place");
    TAILQ_REMOVE(&p->runs, run, link);
    run_put(e, run);
    if (--p->n_writes == 0)
        batch_step(e);
}

static void run_submit(struct engine *e, struct place_run *run)
{
    struct placing *p = &e->placing;
    const struct place_block *first = &p->batch[run->first];
    run->io = (struct disk_io){.op = DISK_WRITE,
                               .offset = (uint64_t)first->block << BLOCK_SHIFT,
                               .iov = run->iov,
                               .n_iov = run->n,
                               .len = (uint64_t)run->n * BLOCK_BYTES,
                               .done = run_done};
    p->n_writes++;
    TAILQ_INSERT_TAIL(&p->runs, run, link);
    e->counters.placed_blocks += run->n;
    if (planted(PLANTED_STORE_RING_PLACED_EARLY))
        for (uint32_t i = 0; i < run->n; i++)
            ring_forget(e, first[i].block);
    disk_submit(e->disk, &run->io);
}

static int by_block(const void *a, const void *b)
{
    const struct place_block *x = a, *y = b;
    return x->block < y->block ? -1 : x->block > y->block;
}

/* Some blocks more, neighbours in one write. */
static void write_some(struct engine *e)
{
    struct placing *p = &e->placing;
    struct place_run *run = NULL;
    uint32_t blocks = 0;
    for (; p->written < p->n && blocks < PLACE_UNDER_WAY; p->written++) {
        struct place_block *b = &p->batch[p->written];
        if (!still_needed(e, b)) {
            release(e, b);
            continue;
        }
        if (run && (run->n == PLACE_RUN_BLOCKS || run->first + run->n != p->written ||
                    b->block != b[-1].block + 1)) {
            run_submit(e, run);
            run = NULL;
        }
        if (!run) {
            run = run_get(e);
            if (!run) {
                engine_fail(e, -ENOMEM, "out of memory for placing");
                break;
            }
            run->n = 0;
            run->first = p->written;
        }
        run->iov[run->n++] =
            (struct iovec){.iov_base = (uint8_t *)(uintptr_t)b->data, .iov_len = BLOCK_BYTES};
        blocks++;
    }
    if (run)
        run_submit(e, run);
}

/* Goes on with the batch as far as it can without waiting. False when it is over. */
static bool advance(struct engine *e)
{
    struct placing *p = &e->placing;
    if (p->n_reads > 0 || p->n_writes > 0)
        return true;
    if (!e->failed && !check_batch(e))
        return true;
    if (!e->failed && !p->sorted) {
        qsort(p->batch, p->n, sizeof p->batch[0], by_block);
        p->sorted = true;
    }
    if (!e->failed)
        write_some(e);
    if (p->n_writes > 0)
        return true;
    for (uint32_t i = 0; i < p->n; i++)
        release(e, &p->batch[i]);
    p->n = 0;
    return false;
}

/* Reads or writes of the batch have ended. */
static void batch_step(struct engine *e)
{
    if (e->checkpoint.step == CHECKPOINT_PLACING && !advance(e))
        step(e);
    env_defer(e->env, &e->pump_task); /* Which goes on with it behind the journal's write. */
    engine_check_closed(e);
}

/* Starts with the oldest blocks of the ring, up to a position. */
static bool place_batch(struct engine *e, uint64_t until)
{
    struct placing *p = &e->placing;
    if (!p->window)
        p->window = aligned_alloc(BLOCK_BYTES, p->window_bytes);
    if (!p->window) {
        engine_fail(e, -ENOMEM, "out of memory for placing");
        return false;
    }
    if (until > e->ring.end)
        until = e->ring.end;
    while (!e->failed && choose(e, until)) {
        p->checked = p->written = p->unread = 0;
        p->sorted = p->again = false;
        read_batch(e);
        if (advance(e))
            return true;
    }
    return false;
}

/* ---- When ---- */

static uint64_t waiting_bytes(const struct engine *e)
{
    return e->journal.head - e->placing.at;
}

bool place_behind(const struct engine *e)
{
    return waiting_bytes(e) > e->journal.bytes / 16 * 11;
}

static bool nobody_active(const struct engine *e)
{
    return e->ctxs == 0 && e->busy == 0 && env_now(e->env) - e->placing.active_ns >= IDLE_NS;
}

/* Who only reads needs no room in the ring: a batch that is under way rests, and no other starts.
 */
static bool only_reads(const struct engine *e)
{
    return e->ctxs == 0 && !e->failed && !e->closing && e->placing.read_ns > 0 &&
           env_now(e->env) - e->placing.read_ns < IDLE_NS;
}

void place_active(struct engine *e, bool reads)
{
    e->placing.active_ns = env_now(e->env);
    e->placing.idle = false;
    if (reads)
        e->placing.read_ns = e->placing.active_ns;
}

static bool worth_idle(const struct engine *e)
{
    return e->journal.head - e->journal.tail > e->journal.bytes / 16;
}

static void timer_fired(struct env_timer *timer)
{
    struct engine *e = container_of(timer, struct engine, placing.timer);
    if (!e->failed && !e->closing && worth_idle(e) && nobody_active(e))
        e->placing.idle = true;
    place_kick(e);
}

static void arm(struct engine *e)
{
    struct placing *p = &e->placing;
    if (p->timer.armed || p->idle || e->closing || e->failed || !(worth_idle(e) || place_busy(e)))
        return;
    uint64_t now = env_now(e->env), at = p->active_ns + IDLE_NS;
    env_timer_after(e->env, &p->timer, at > now + MSEC_NS ? at - now : IDLE_NS);
}

/* Everything is in place: the tail follows, so that the next burst finds an empty ring. */
static void idle_over(struct engine *e)
{
    if (e->checkpoint.step != CHECKPOINT_NONE)
        return;
    e->placing.idle = false;
    checkpoint_start(e);
}

void place_kick(struct engine *e)
{
    struct placing *p = &e->placing;
    bool behind = place_behind(e);
    if (e->checkpoint.step == CHECKPOINT_PLACING)
        return;
    if (only_reads(e)) {
        arm(e);
        return;
    }
    if (place_busy(e) && advance(e))
        return;
    if (e->failed)
        return;
    bool full = waiting_bytes(e) > e->journal.bytes / 2;
    bool started = (full || p->idle) && place_batch(e, UINT64_MAX);
    if (!started && p->idle)
        idle_over(e);
    /* All that waited was superseded: nothing ends that would let writers go on. */
    if (behind && !place_behind(e))
        env_defer(e->env, &e->pump_task);
    arm(e);
}

/* ---- Checkpoints ---- */

void super_seal(struct super_layout *super)
{
    super->crc =
        ~crc32_iscsi((unsigned char *)super, (int)offsetof(struct super_layout, crc), ~UINT32_C(0));
}

static void io_done(struct disk_io *io)
{
    struct checkpoint *c = container_of(io, struct checkpoint, io);
    struct engine *e = container_of(c, struct engine, checkpoint);
    if (io->error && !(io->op == DISK_FLUSH && planted(PLANTED_STORE_IGNORE_FLUSH_ERROR))) {
        engine_fail(e, io->error, "a checkpoint could not be made durable");
        c->step = CHECKPOINT_NONE;
        engine_check_closed(e);
        return;
    }
    step(e);
}

static void flush_index_run(struct env_work *work)
{
    struct checkpoint *c = container_of(work, struct checkpoint, work);
    struct engine *e = container_of(c, struct engine, checkpoint);
    c->error = e->index->ops->flush(e->index);
    c->index_short = e->index->ops->is_short && e->index->ops->is_short(e->index);
}

static void flush_index_done(struct env_work *work)
{
    struct checkpoint *c = container_of(work, struct checkpoint, work);
    struct engine *e = container_of(c, struct engine, checkpoint);
    if (c->error < 0) {
        engine_index_failed(e, c->error, "the index could not be flushed");
        c->step = CHECKPOINT_NONE;
        engine_check_closed(e);
        return;
    }
    e->index_short = c->index_short;
    step(e);
}

static void flush_index(struct engine *e)
{
    struct checkpoint *c = &e->checkpoint;
    int error = e->failed ? e->failure : put_state(e, &e->scratch_batch);
    env_defer(e->env, &e->pump_task); /* It may have waited for us to settle. */
    if (error < 0) {
        engine_index_failed(e, error, "the index refused a batch");
        c->step = CHECKPOINT_NONE;
        engine_check_closed(e);
        return;
    }
    c->step = CHECKPOINT_FLUSHING_INDEX;
    if (planted(PLANTED_STORE_TRIM_EARLY)) {
        step(e);
        return;
    }
    c->work = (struct env_work){.run = flush_index_run, .done = flush_index_done};
    env_work(e->env, &c->work);
}

static void submit_flush(struct engine *e)
{
    struct checkpoint *c = &e->checkpoint;
    c->io = (struct disk_io){.op = DISK_FLUSH, .done = io_done};
    disk_submit(e->disk, &c->io);
}

static void write_super(struct engine *e)
{
    struct checkpoint *c = &e->checkpoint;
    struct super_layout *s = c->super;
    *s = e->super;
    s->generation++;
    s->flags = 0;
    s->tail_offset = c->target.end % e->journal.bytes;
    s->tail_sequence = c->target.sequence;
    s->tail_record = c->target.record;
    super_seal(s);
    c->iov = (struct iovec){.iov_base = s, .iov_len = BLOCK_BYTES};
    c->io = (struct disk_io){.op = DISK_WRITE,
                             .offset = (s->generation % SUPER_COPIES) * BLOCK_BYTES,
                             .iov = &c->iov,
                             .n_iov = 1,
                             .len = BLOCK_BYTES,
                             .done = io_done};
    disk_submit(e->disk, &c->io);
}

static void completed(struct engine *e)
{
    struct checkpoint *c = &e->checkpoint;
    struct journal *j = &e->journal;
    e->super = *c->super;
    while (!STAILQ_EMPTY(&j->marks) && STAILQ_FIRST(&j->marks)->sequence <= c->target.sequence) {
        struct journal_mark *mark = STAILQ_FIRST(&j->marks);
        STAILQ_REMOVE_HEAD(&j->marks, link);
        free(mark);
    }
    j->trimmed = c->target.end;
    journal_release(e);
    engine_release_freed(e, c->target.record);
    c->step = CHECKPOINT_NONE;
    e->counters.checkpoints++;
    checkpoint_start_for_room(e, false);
    place_kick(e);
    env_defer(e->env, &e->pump_task);
    engine_check_closed(e);
}

/* ---- Saving onodes ---- */

static int put_state(struct engine *e, struct encoder *batch)
{
    encoder_reset(batch);
    uint8_t key = KEY_STATE;
    struct state_layout state = {.record = e->checkpoint.saved - 1, .next_nid = e->next_nid};
    index_batch_put(batch, &key, 1, &state, sizeof state);
    return batch->failed ? -ENOMEM : index_apply(e->index, batch);
}

static int by_key(const void *a, const void *b)
{
    const struct onode *x = *(struct onode *const *)a, *y = *(struct onode *const *)b;
    int order = memcmp(x->key, y->key, x->key_len < y->key_len ? x->key_len : y->key_len);
    return order ? order : (x->key_len > y->key_len) - (x->key_len < y->key_len);
}

/* Those of a list that may be saved now, SAVE_SORTED at most; counts those that must wait. */
static size_t save_list(struct engine *e, const struct onode_list *list, struct encoder *batch,
                        uint32_t *waiting)
{
    struct onode *o, *found[SAVE_SORTED];
    size_t n = 0;
    for (o = TAILQ_FIRST(list); o && n < SAVE_SORTED && o->saved_until < e->checkpoint.saved;
         o = TAILQ_NEXT(o, unsaved_link)) {
        if (o->last_record > e->applied)
            (*waiting)++;
        else
            found[n++] = o;
    }
    if (n > 1)
        qsort(found, n, sizeof *found, by_key);
    for (size_t i = 0; i < n; i++)
        onode_save(e, found[i], batch);
    return n;
}

/*
 * Saves onodes that records before the last one changed that is to be saved, some at a time. One
 * that a record changed which is not durable yet must wait: the index may never know more than the
 * journal. Returns how many have to, when there is no more.
 */
static uint32_t save_some(struct engine *e, bool *more)
{
    struct encoder batch;
    uint32_t waiting = 0;
    encoder_init(&batch);
    *more = false;
    for (size_t i = 0; i < UNSAVED_LISTS && !*more; i++)
        *more = save_list(e, &e->unsaved.lists[i], &batch, &waiting) == SAVE_SORTED ||
                batch.len >= SAVE_BYTES;
    int error = batch.failed ? -ENOMEM : batch.len > 0 ? index_apply(e->index, &batch) : 0;
    encoder_fini(&batch);
    if (error < 0)
        engine_index_failed(e, error, "the index refused a batch");
    return waiting;
}

static void save_run(struct env_task *task)
{
    struct engine *e = container_of(task, struct engine, save_task);
    step(e);
}

/* True when the step is over. */
static bool save(struct engine *e)
{
    bool more, more_pairs = false;
    uint32_t waiting = save_some(e, &more);
    int error = e->failed || more ? 0 : pairs_save(e, e->checkpoint.saved, false, &more_pairs);
    if (error < 0)
        engine_fail(e, error, "the index refused a batch");
    if (e->failed)
        return true;
    if (more || more_pairs) {
        e->save_task.run = save_run;
        env_defer(e->env, &e->save_task);
        return false;
    }
    if (waiting == 0)
        return true;
    /* Nothing new is executed until what is under way is durable: one flush. */
    e->checkpoint.step = CHECKPOINT_SETTLING;
    return false;
}

void checkpoint_settled(struct engine *e)
{
    if (e->checkpoint.step == CHECKPOINT_SETTLING &&
        (e->failed || (e->journal.open->n_records == 0 && journal_idle(&e->journal))))
        step(e);
}

/* Takes the next step; called whenever the current one has ended. */
static void step(struct engine *e)
{
    struct checkpoint *c = &e->checkpoint;
    if (e->failed) {
        c->step = CHECKPOINT_NONE;
        engine_check_closed(e);
        return;
    }
    switch (c->step) {
    case CHECKPOINT_PLACING:
        if (!planted(PLANTED_STORE_RING_PASSED) &&
            (place_busy(e) || (e->placing.at < c->target.end && place_batch(e, c->target.end))))
            return;
        c->settled = e->record;
        c->step = CHECKPOINT_FLUSHING_DATA;
        submit_flush(e);
        return;
    case CHECKPOINT_FLUSHING_DATA:
        c->step = CHECKPOINT_SAVING;
        if (!save(e)) /* Comes back here, to one of the next two. */
            return;
        flush_index(e);
        return;
    case CHECKPOINT_SAVING:
    case CHECKPOINT_SETTLING:
        c->step = CHECKPOINT_SAVING;
        if (!save(e))
            return;
        flush_index(e);
        return;
    case CHECKPOINT_FLUSHING_INDEX:
    case CHECKPOINT_AWAITING_JOURNAL:
        c->step = CHECKPOINT_AWAITING_JOURNAL;
        if (e->applied + 1 < c->settled && !planted(PLANTED_STORE_SUPERSEDE_EARLY))
            return;
        c->step = CHECKPOINT_WRITING_SUPER;
        write_super(e);
        return;
    case CHECKPOINT_WRITING_SUPER:
        c->step = CHECKPOINT_FLUSHING_SUPER;
        submit_flush(e);
        return;
    case CHECKPOINT_FLUSHING_SUPER:
        completed(e);
        return;
    case CHECKPOINT_NONE:
        assert(!"a step ended that was never begun");
    }
}

void checkpoint_journal_moved(struct engine *e)
{
    if (e->checkpoint.step == CHECKPOINT_AWAITING_JOURNAL)
        step(e);
}

/* With records before `saved`, which are durable, in the index. */
static void start(struct engine *e, const struct journal_mark *target, uint64_t saved)
{
    struct checkpoint *c = &e->checkpoint;
    assert(saved >= target->record && saved <= e->applied + 1);
    c->target = *target;
    if (saved > c->saved)
        c->saved = saved; /* The index has what an earlier one gave it, and goes on saying so. */
    c->step = CHECKPOINT_PLACING;
    if (!place_busy(e) || !advance(e))
        step(e);
}

static const struct journal_mark *last_mark(const struct engine *e)
{
    return STAILQ_LAST(&e->journal.marks, journal_mark, link);
}

void checkpoint_start(struct engine *e)
{
    const struct journal_mark *last = last_mark(e);
    if (!e->failed && last && e->checkpoint.step == CHECKPOINT_NONE)
        start(e, last, last->record);
}

/* The last group up to a position in the ring; NULL: none. */
static const struct journal_mark *mark_before(const struct engine *e, uint64_t position)
{
    const struct journal_mark *mark, *found = NULL;
    STAILQ_FOREACH(mark, &e->journal.marks, link)
    {
        if (mark->end > position)
            break;
        found = mark;
    }
    return found;
}

/* The first group that ends there or behind, or the last one; NULL: none. */
static const struct journal_mark *mark_behind(const struct engine *e, uint64_t position)
{
    const struct journal_mark *mark;
    STAILQ_FOREACH(mark, &e->journal.marks, link)
    if (mark->end >= position)
        return mark;
    return last_mark(e);
}

/* What is in place, or will be with the batch that is under way. */
static uint64_t in_place(struct engine *e)
{
    struct placing *p = &e->placing;
    uint32_t slot = ring_slot_at(e, p->at);
    while (p->at < e->ring.end && e->ring.slots[slot].block == BLOCK_NONE) {
        p->at += BLOCK_BYTES; /* Nothing is there to be put in place. */
        slot = slot + 1 < e->ring.n_slots ? slot + 1 : 0;
    }
    return planted(PLANTED_STORE_RING_PASSED) ? e->ring.end : p->at;
}

void checkpoint_start_for_room(struct engine *e, bool must)
{
    const struct journal *j = &e->journal;
    const struct journal_mark *target = NULL;
    uint64_t used = j->head - j->tail, some = j->bytes / 4, least = must ? some / 4 : some;
    if (e->failed || e->checkpoint.step != CHECKPOINT_NONE || (!must && used <= 3 * some))
        return;
    if (in_place(e) >= j->trimmed + least)
        target = mark_before(e, in_place(e));
    if (target && target->end < j->trimmed + least)
        target = NULL;
    /* Nearly full: a part of it is put in place for that. */
    if (!target && (must || used > j->bytes / 16 * 15))
        target = mark_behind(e, j->trimmed + some);
    if (target)
        start(e, target, target->record);
}

void checkpoint_start_for_blocks(struct engine *e, uint64_t blocks)
{
    const struct journal_mark *mark;
    uint64_t found = 0, record = 0;
    if (e->failed || e->checkpoint.step != CHECKPOINT_NONE)
        return;
    for (uint32_t i = e->freed_at; i < e->n_freed && found < blocks + FREED_MORE; i++) {
        found += e->freed[i].extent.count;
        record = e->freed[i].record;
    }
    STAILQ_FOREACH(mark, &e->journal.marks, link)
    if (mark->record > record)
        break;
    if (!mark)
        mark = last_mark(e); /* The records that freed the rest are not durable yet. */
    if (mark)
        start(e, mark, mark->record);
}

void checkpoint_start_for_memory(struct engine *e)
{
    const struct journal_mark *last = last_mark(e), *target;
    if (e->failed || !last || e->checkpoint.step != CHECKPOINT_NONE)
        return;
    const struct journal_mark tail = {.end = e->journal.trimmed,
                                      .sequence = e->super.tail_sequence,
                                      .record = e->super.tail_record};
    target = mark_before(e, in_place(e));
    start(e, target ? target : &tail, last->record);
}
