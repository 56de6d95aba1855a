/*
 * Putting deferred blocks in place, and checkpoints.
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
 * enough: while it put the newest blocks in place, the journal's writes would stand in line behind.
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
    PLACE_RUNS = 64,
    /* Of onodes that are saved in one turn: their chunks are what takes time, and requests wait. */
    SAVE_BYTES = 8 * 1024,
    SAVE_SORTED = 128,
};

static void step(struct engine *e);
static int put_state(struct engine *e, struct encoder *batch);

int checkpoint_init(struct engine *e)
{
    struct checkpoint *c = &e->checkpoint;
    c->super = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
    c->run_pool = calloc(PLACE_RUNS, sizeof *c->run_pool);
    return c->super && c->run_pool ? 0 : -ENOMEM;
}

void checkpoint_fini(struct engine *e)
{
    struct checkpoint *c = &e->checkpoint;
    struct place_run *run;
    while ((run = TAILQ_FIRST(&e->runs)) != NULL) {
        TAILQ_REMOVE(&e->runs, run, link);
        for (uint32_t i = 0; i < run->n; i++)
            cache_unpin(e, run->blocks[i]);
        free(run);
    }
    for (uint32_t i = 0; c->run_pool && i < c->run_capacity; i++)
        free(c->run_pool[i]);
    free(c->run_pool);
    free(c->super);
}

/* ---- Placing ---- */

static struct place_run *run_get(struct engine *e)
{
    struct checkpoint *c = &e->checkpoint;
    if (c->run_capacity > 0)
        return c->run_pool[--c->run_capacity];
    struct place_run *run = malloc(sizeof *run);
    if (run)
        run->engine = e;
    return run;
}

static void run_put(struct engine *e, struct place_run *run)
{
    struct checkpoint *c = &e->checkpoint;
    if (c->run_capacity < PLACE_RUNS)
        c->run_pool[c->run_capacity++] = run;
    else
        free(run);
}

static void run_done(struct disk_io *io)
{
    struct place_run *run = container_of(io, struct place_run, io);
    struct engine *e = run->engine;
    int error = io->error;
    for (uint32_t i = 0; i < run->n; i++) {
        if (!error)
            cache_placed(e, run->blocks[i]);
        cache_unpin(e, run->blocks[i]);
    }
    TAILQ_REMOVE(&e->runs, run, link);
    run_put(e, run);
    e->checkpoint.runs--;
    if (error)
        engine_fail(e, error, "deferred data could not be put in place");
    if (e->checkpoint.runs > 0)
        return;
    if (e->checkpoint.step == CHECKPOINT_PLACING)
        step(e);
    else
        place_kick(e);
    env_defer(e->env, &e->pump_task);
    engine_check_closed(e);
}

static void run_submit(struct engine *e, struct place_run *run)
{
    run->io = (struct disk_io){.op = DISK_WRITE,
                               .offset = (uint64_t)run->blocks[0]->block << BLOCK_SHIFT,
                               .iov = run->iov,
                               .n_iov = run->n,
                               .len = (uint64_t)run->n * BLOCK_BYTES,
                               .done = run_done};
    e->checkpoint.runs++;
    TAILQ_INSERT_TAIL(&e->runs, run, link);
    e->counters.placed_blocks += run->n;
    disk_submit(e->disk, &run->io);
}

static int by_block(const void *a, const void *b)
{
    const struct cblock *x = *(struct cblock *const *)a, *y = *(struct cblock *const *)b;
    return x->block < y->block ? -1 : x->block > y->block;
}

/*
 * Starts writing the oldest dirty blocks, sorted, neighbours in one write. Only one batch is under
 * way at a time, so two writes of the same block never overtake each other. Only blocks whose
 * record is in the index may go: before that, their journal group may not be durable, and a crash
 * would leave new bytes under an old checksum.
 */
static bool place_batch(struct engine *e, uint64_t before_record)
{
    static struct cblock *batch[PLACE_BATCH_BLOCKS];
    uint32_t n = 0;
    struct cblock *c = TAILQ_FIRST(&e->cache.dirty);
    assert(e->checkpoint.runs == 0);
    while (c && n < PLACE_BATCH_BLOCKS && c->record < before_record &&
           (c->record <= e->applied || planted(PLANTED_STORE_APPLY_BEFORE_DURABLE))) {
        batch[n++] = c;
        c = TAILQ_NEXT(c, link);
    }
    if (n == 0)
        return false;
    qsort(batch, n, sizeof batch[0], by_block);
    struct place_run *run = NULL;
    for (uint32_t i = 0; i < n; i++) {
        if (run && (run->n == PLACE_RUN_BLOCKS || batch[i]->block != batch[i - 1]->block + 1)) {
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
        }
        TAILQ_REMOVE(&e->cache.dirty, batch[i], link);
        e->cache.n_dirty--;
        batch[i]->state = CBLOCK_PLACING;
        batch[i]->pins++;
        run->blocks[run->n] = batch[i];
        run->iov[run->n++] = (struct iovec){.iov_base = batch[i]->data, .iov_len = BLOCK_BYTES};
    }
    if (run)
        run_submit(e, run);
    return e->checkpoint.runs > 0;
}

void place_kick(struct engine *e)
{
    if (e->failed || e->checkpoint.runs > 0 || e->checkpoint.step == CHECKPOINT_PLACING)
        return;
    if ((uint64_t)e->cache.n_dirty * BLOCK_BYTES > e->dirty_limit / 2)
        (void)place_batch(e, UINT64_MAX);
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
    if (io->error) {
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
    j->tail = c->target.end;
    engine_release_freed(e, c->target.record);
    c->step = CHECKPOINT_NONE;
    e->counters.checkpoints++;
    bool again = c->again;
    c->again = false;
    if (again)
        checkpoint_start(e);
    checkpoint_start_for_room(e);
    place_kick(e);
    env_defer(e->env, &e->pump_task);
    engine_check_closed(e);
}

/* ---- Saving onodes ---- */

static int put_state(struct engine *e, struct encoder *batch)
{
    encoder_reset(batch);
    uint8_t key = KEY_STATE;
    struct state_layout state = {.record = e->checkpoint.target.record - 1,
                                 .next_nid = e->next_nid};
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
    for (o = TAILQ_FIRST(list);
         o && n < SAVE_SORTED && o->saved_until < e->checkpoint.target.record;
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
 * Saves onodes that records before the target changed, some at a time. One that a record changed
 * which is not durable yet must wait: the index may never know more than the journal. Returns how
 * many have to, when there is no more.
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
    int error =
        e->failed || more ? 0 : pairs_save(e, e->checkpoint.target.record, false, &more_pairs);
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
        if (c->runs > 0 || place_batch(e, c->target.record))
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

static void start(struct engine *e, const struct journal_mark *target)
{
    struct checkpoint *c = &e->checkpoint;
    c->target = *target;
    c->again = false;
    c->step = CHECKPOINT_PLACING;
    step(e);
}

void checkpoint_start(struct engine *e)
{
    struct checkpoint *c = &e->checkpoint;
    struct journal_mark *last = STAILQ_LAST(&e->journal.marks, journal_mark, link);
    if (e->failed || !last)
        return;
    if (c->step == CHECKPOINT_NONE)
        start(e, last);
    else
        c->again |= c->target.sequence < last->sequence &&
                    e->journal.head - c->target.end > e->journal.bytes / 4;
}

/* The last group before which all blocks are in place, or are just written there; NULL: none. */
static const struct journal_mark *last_in_place(const struct engine *e)
{
    const struct cblock *oldest = TAILQ_FIRST(&e->cache.dirty);
    const struct journal_mark *mark, *found = NULL;
    STAILQ_FOREACH(mark, &e->journal.marks, link)
    {
        if (oldest && mark->record > oldest->record)
            break;
        found = mark;
    }
    return found;
}

void checkpoint_start_for_room(struct engine *e)
{
    const struct journal *j = &e->journal;
    if (e->failed || e->checkpoint.step != CHECKPOINT_NONE || j->head - j->tail <= j->bytes / 8 * 5)
        return;
    const struct journal_mark *target = last_in_place(e);
    if (target && target->end - j->tail >= j->bytes / 4)
        start(e, target);
    else
        checkpoint_start(e);
}
