/*
 * Running the steps of a request on the primary: reading requests, and writing ones that look at
 * their object before they change it. What the steps look at is loaded as they ask for it
 * (osd/ops/view.h), and then all of them run again, until nothing is lacking.
 *
 * The object is held as a reader meanwhile, so that nothing changes it. A reader begins when all
 * writes before it are committed. A writer has its turn before that, and when it must load
 * something it waits until the store has what they wrote; and nobody else has his turn until it has
 * written, since a reader would find the object half before the write and half after it.
 *
 * Who reads a snapshot begins with the object's snapset, which tells the clone to read; the run
 * goes on with that in the place of the object (pg_object.c: by it the object is held as well).
 *
 * A small request can ask for much data: each piece waits until the OSD has room for it, and all
 * together never exceed a message.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "common/witness.h"
#include "osd/ops/snap.h"
#include "osd/pg/pg_layout.h"
#include "osd/pg/pg_watch.h"

enum { RUN_META_BYTES = 65536 }; /* What attributes count as, before their size is known. */

struct pg_run {
    struct pg_async async;
    struct store_read read;
    struct store_omap_read omap;
    struct pg_world *world;
    struct pg_request *request; /* NULL: nobody waits. */
    struct pg_object *object;   /* Held as a reader. */
    struct pg_write *write;     /* Of a writing request. */
    uint64_t config;
    bool writes;
    bool waits;    /* In the world's waiting_runs. */
    bool settling; /* Waits for the writes before it. */
    struct object_settler settler;
    bool repaired; /* Our copy turned out to be damaged, once. */
    struct repair_waiter repair;
    struct object_waiter waiter; /* For the clone. */
    TAILQ_ENTRY(pg_run) waiting_link;
    uint32_t need;                   /* Of the view's: what is being loaded. */
    uint64_t reserved;               /* Bytes that may_read() has allowed. */
    struct store_txn no_txn;         /* Of a reading request. */
    struct object_id other;          /* What a clone is compared with. */
    uint8_t clone[PG_OBJECT_ID_MAX]; /* Its id. */
    struct ops_run run;
};

static void run_free(struct pg_run *run)
{
    if (run->write)
        pg_write_abandon(run->world, run->write);
    pg_object_leave(&run->waiter);
    run_fini(&run->run);
    if (run->writes)
        run->object->looked_at = false;
    pg_object_release(run->object, false);
    free(run);
}

static void run_drop(struct pg_async *async)
{
    run_free(container_of(async, struct pg_run, async));
}

static void stop_waiting(struct pg_world *world, struct pg_run *run)
{
    TAILQ_REMOVE(&world->waiting_runs, run, waiting_link);
    run->waits = false;
}

void pg_run_disown(struct pg_request *request)
{
    struct pg_run *run = container_of(request->operation, struct pg_run, async);
    run->request = NULL;
    if (run->waits) {
        stop_waiting(request->pg->world, run);
        run_free(run);
    } else if (run->waiter.queued) {
        run_free(run);
    } else if (run->settling) {
        assert(run->object->settling == &run->settler);
        run->object->settling = NULL;
        run_free(run);
    }
}

bool pg_run_waits(const struct pg_request *request)
{
    return container_of(request->operation, struct pg_run, async)->waiter.queued;
}

const char *pg_run_why(const struct pg_request *request)
{
    const struct pg_run *run = container_of(request->operation, struct pg_run, async);
    return run->waiter.queued ? "for its turn on its object"
           : run->settling    ? "for the writes before it on its object"
           : run->waits       ? "for memory: clients do not take their replies"
                              : "for the disk to be read";
}

/* ---- The end ---- */

/* All parts in one slice; a single part as it is. They fit a message: see run_give(). */
static int join(struct ops_run *run, struct wire_op_result *steps, struct buf_slice *out)
{
    uint16_t n = run->n_steps, filled = 0, last = 0;
    size_t total = 0, at = 0;
    for (uint16_t i = 0; i < n; i++) {
        size_t len = run->results[i].data.len;
        steps[i] = (struct wire_op_result){run->results[i].result, (uint32_t)len};
        total += len;
        if (len > 0) {
            filled++;
            last = i;
        }
    }
    *out = BUF_SLICE_EMPTY;
    if (filled <= 1) {
        *out = run->results[last].data;
        run->results[last].data = BUF_SLICE_EMPTY;
        return 0;
    }
    int error = buf_slice_alloc(total, out);
    for (uint16_t i = 0; i < n && !error; i++) {
        if (steps[i].data_len > 0)
            memcpy(out->data + at, run->results[i].data.data, steps[i].data_len);
        at += steps[i].data_len;
    }
    return error;
}

/*
 * What was loaded is what a write builds upon, and whom a notify waits for: it must be in the same
 * life of the group.
 */
static bool is_of_this_life(const struct pg_run *run)
{
    const struct pg *pg = run->object->pg;
    return pg && pg->serving && pg->view.config == run->config;
}

static void finish_read(struct pg_run *run, int error)
{
    struct pg_request *request = run->request;
    struct pg_world *world = request->pg->world;
    struct wire_op_result steps[WIRE_OPS_MAX];
    struct buf_slice data = BUF_SLICE_EMPTY;
    if (request->ops.watches && !error && !is_of_this_life(run)) {
        pg_request_hold_again(request);
        return;
    }
    if (request->ops.watches)
        error = pg_watch_read(request, run->object, &run->run, error);
    world->read_ops++;
    request->pg->reads++;
    if (error == WATCH_TAKEN)
        return;
    struct ops_result result = {
        .result = error, .failed_step = run->run.step, .version = run->object->state.version};
    if (!error)
        result.result = join(&run->run, steps, &data);
    world->read_bytes += data.len;
    request->pg->bytes_read += data.len;
    pg_request_finish(request, &result, result.result ? NULL : steps, data);
}

/*
 * Snapshots that were removed meanwhile must not get clones: T1 in pg_trim.c. What is about
 * watchers only makes none.
 */
static bool knows_snapshots(const struct pg_run *run)
{
    return !run->request->ops.contents || run->run.context.pool == pg_snaps(run->object->pg);
}

static void go_on(struct pg_run *run);

static void finish(struct pg_run *run, int error)
{
    struct pg_request *request = run->request;
    struct pg_write *write = run->write;
    if (!request) {
        run_free(run);
    } else if (!write) {
        finish_read(run, error);
        run_free(run);
    } else if (is_of_this_life(run) && !knows_snapshots(run)) {
        encoder_reset(&write->txn.ops);
        run_take_snaps(&run->run, pg_snaps(run->object->pg));
        go_on(run);
    } else if (is_of_this_life(run)) {
        run->write = NULL;
        pg_write_ran(request, run->object, write, &run->run, error);
        run_free(run);
    } else {
        pg_request_hold_again(request);
        run_free(run);
    }
}

/* It could not be executed. */
static void fail(struct pg_run *run, int error)
{
    if (run->request && run->write)
        pg_request_fail(run->request, error);
    else if (run->request)
        finish_read(run, error);
    run_free(run);
}

/* ---- Loading ---- */

static void load(struct pg_run *run);

static const struct view_need *current_need(const struct pg_run *run)
{
    assert(run->need < run->run.view.n_needs);
    return &run->run.view.needs[run->need];
}

/* Runs the steps; what they lack is loaded, and run_loaded() goes on. */
static void go_on(struct pg_run *run)
{
    int error = ops_run(&run->run);
    run->need = 0;
    if (error != VIEW_MISS)
        finish(run, error);
    else
        load(run);
}

static void load_next(struct pg_run *run)
{
    if (++run->need < run->run.view.n_needs)
        load(run);
    else
        go_on(run);
}

static void submit(struct pg_run *run);
static void snapset_repaired(struct repair_waiter *waiter, int error);

static void repair_done(struct repair_waiter *waiter, int error)
{
    struct pg_run *run = container_of(waiter, struct pg_run, repair);
    if (error && error != -ECANCELED && run->object->pg)
        pg_inconsistent_unreadable(run->object->pg, run->object);
    if (error == -ECANCELED && run->request) {
        pg_request_hold_again(run->request);
        run_free(run);
    } else if (error || !run->request) {
        fail(run, -EIO);
    } else {
        submit(run);
    }
}

/* Our copy is damaged: it is written anew from a member's, and then read again. */
static bool repair(struct pg_run *run, int error)
{
    struct pg *pg = run->object->pg;
    if (!pg || !run->request || !pg_is_read_error(pg, error) || planted(PLANTED_NO_READ_REPAIR))
        return false;
    if (run->repaired) {
        pg_inconsistent_unreadable(pg, run->object);
        return false;
    }
    run->repaired = true;
    /* Without a request's needs it is the snapset that could not be read. */
    run->repair.done = run->run.view.n_needs > 0 ? repair_done : snapset_repaired;
    return pg_repair_ask(pg, run->object, -1, &run->repair) == 0;
}

/* The store has answered: whether the run goes on. */
static bool take_error(struct pg_run *run, struct pg *pg, int error)
{
    if (!error)
        return true;
    log_error(pg->world->env, "object unreadable", "pg=%s name=%.*s error=\"%s\"", pg_text(pg),
              (int)run->object->id.name_len, (const char *)run->object->id.name, error_text(error));
    if (!repair(run, error))
        fail(run, -EIO);
    return false;
}

static int take_read(struct pg_run *run)
{
    struct store_read *read = &run->read;
    const struct view_need *need = current_need(run);
    struct object_view *view = &run->run.view;
    switch (need->kind) {
    case VIEW_NEEDS_DATA: {
        struct buf_slice data = read->data;
        read->data = BUF_SLICE_EMPTY;
        return view_give_data(view, need->offset, need->len, data);
    }
    case VIEW_NEEDS_EXTENTS:
    case VIEW_NEEDS_SAME:
        return view_give_extents(view, need, &read->extents);
    default:
        return view_give_attrs(view, &read->attrs);
    }
}

static void read_done(struct store_read *read)
{
    struct pg_run *run = container_of(read, struct pg_run, read);
    struct pg *pg = run->async.pg;
    pg_async_end(&run->async);
    int error = read->error;
    bool wanted = !error && run->request;
    if (wanted)
        error = take_read(run);
    buf_slice_drop(&read->data);
    encoder_fini(&read->attrs);
    encoder_fini(&read->extents);
    if (!run->request)
        run_free(run);
    else if (wanted && error)
        fail(run, error);
    else if (take_error(run, pg, error))
        load_next(run);
}

static void omap_done(struct store_omap_read *omap)
{
    struct pg_run *run = container_of(omap, struct pg_run, omap);
    struct pg *pg = run->async.pg;
    pg_async_end(&run->async);
    int error = omap->error;
    bool wanted = !error && run->request;
    if (wanted)
        error = view_give_omap(&run->run.view, current_need(run), &omap->pairs, omap->end,
                               &omap->header);
    encoder_fini(&omap->pairs);
    encoder_fini(&omap->header);
    if (!run->request)
        run_free(run);
    else if (wanted && error)
        fail(run, error);
    else if (take_error(run, pg, error))
        load_next(run);
}

static void submit_read(struct pg_run *run, const struct view_need *need)
{
    memset(&run->read, 0, sizeof run->read);
    run->read.object = run->object->id;
    run->read.offset = need->offset;
    run->read.len = need->len;
    run->read.want_attrs = need->kind == VIEW_NEEDS_ATTRS;
    run->read.want_extents = need->kind == VIEW_NEEDS_EXTENTS || need->kind == VIEW_NEEDS_SAME;
    if (need->kind == VIEW_NEEDS_SAME) {
        run->read.object.snap = need->clone;
        run->other = run->object->id;
        run->other.snap = need->other;
        run->read.same_in = &run->other;
    }
    run->read.may_be_remembered = true;
    run->read.done = read_done;
    store_read(run->request->pg->world->store, &run->read);
}

static void submit_omap(struct pg_run *run, const struct view_need *need)
{
    memset(&run->omap, 0, sizeof run->omap);
    run->omap.object = run->object->id;
    run->omap.from = need->from;
    run->omap.to = need->to;
    run->omap.from_len = need->from_len;
    run->omap.to_len = need->to_len;
    run->omap.max = need->max > 0 ? need->max : 1;
    run->omap.max_bytes = VIEW_OMAP_PAGE_BYTES;
    run->omap.want_header = need->header;
    run->omap.done = omap_done;
    store_omap_read(run->request->pg->world->store, &run->omap);
}

static void submit(struct pg_run *run)
{
    const struct view_need *need = current_need(run);
    pg_async_begin(run->request->pg, &run->async, run_drop);
    if (need->kind == VIEW_NEEDS_OMAP)
        submit_omap(run, need);
    else
        submit_read(run, need);
}

static uint64_t need_bytes(const struct view_need *need)
{
    switch (need->kind) {
    case VIEW_NEEDS_DATA:
        return need->len;
    case VIEW_NEEDS_OMAP:
        return VIEW_OMAP_PAGE_BYTES;
    default:
        return RUN_META_BYTES;
    }
}

/* What was allowed and not needed, since little was there, serves for what is loaded next. */
static bool may_load(struct pg_run *run, uint64_t bytes)
{
    struct pg_world *world = run->request->pg->world;
    if (bytes <= run->reserved || run->request->own)
        return true;
    if (!world->ops->may_read(world->ctx, run->request, bytes - run->reserved))
        return false;
    run->reserved = bytes;
    return true;
}

static void run_settled(struct object_settler *settler);

/* Loads what the steps lack; or waits until that may be read. */
static void load(struct pg_run *run)
{
    struct pg_world *world = run->request->pg->world;
    uint64_t bytes = run->run.view.loaded_bytes + need_bytes(current_need(run));
    if (bytes > MESSAGE_PAYLOAD_MAX) {
        fail(run, -EFBIG);
    } else if (run->write && run->object->writers > 0 && !planted(PLANTED_LOOK_EARLY)) {
        assert(!run->object->settling);
        run->settler.settled = run_settled;
        run->object->settling = &run->settler;
        run->settling = true;
    } else if (!may_load(run, bytes)) {
        TAILQ_INSERT_TAIL(&world->waiting_runs, run, waiting_link);
        run->waits = true;
    } else {
        submit(run);
    }
}

static void run_settled(struct object_settler *settler)
{
    struct pg_run *run = container_of(settler, struct pg_run, settler);
    run->settling = false;
    load(run);
}

void pg_reads_resume(struct pg_world *world)
{
    struct pg_run *run;
    uint32_t n = 0;
    TAILQ_FOREACH(run, &world->waiting_runs, waiting_link)
    n++;
    /* Each once: those that must go on waiting line up again. */
    for (; n > 0 && (run = TAILQ_FIRST(&world->waiting_runs)); n--) {
        stop_waiting(world, run);
        load(run);
    }
}

/* ---- The beginning ---- */

static struct pg_run *start(struct pg_request *request, struct pg_object *object,
                            struct pg_write *write)
{
    struct pg *pg = request->pg;
    struct pg_run *run = malloc(sizeof *run);
    if (!run) {
        if (write)
            pg_write_abandon(pg->world, write);
        pg_request_fail(request, -ENOMEM);
        return NULL;
    }
    /* The results at its end are made ready as far as they are needed. */
    memset(run, 0, offsetof(struct pg_run, clone));
    run->world = pg->world;
    run->request = request;
    run->object = object;
    run->write = write;
    run->writes = write;
    run->config = pg->view.config;
    request->caller.life = pg->watch_life;
    run_init(&run->run, &request->ops, request->message->payload, &object->state,
             write ? &write->txn : &run->no_txn, &request->caller, pg_snaps(pg),
             env_wall(pg->world->env));
    request->operation = &run->async;
    pg_request_place(request, REQUEST_RUNNING);
    pg_object_hold(object, false);
    if (run->writes) {
        assert(object->readers == 1 && !object->looked_at);
        object->looked_at = !planted(PLANTED_LOOK_UNLOCKED);
    }
    return run;
}

/* ---- Reading a snapshot ---- */

static void clone_ready(struct object_waiter *waiter, struct pg_object *clone, int error)
{
    struct pg_run *run = container_of(waiter, struct pg_run, waiter);
    struct pg_object *object = run->object;
    if (error) {
        fail(run, error == -ENOMEM ? error : -EIO);
        return;
    }
    pg_object_hold(clone, false);
    run->object = clone;
    pg_object_release(object, false);
    /* The snapset has named it. */
    if (!clone->state.exists) {
        fail(run, -EIO);
        return;
    }
    run->run.view.base = run->run.view.state = clone->state;
    go_on(run);
}

/* The snapset is there: which clone it is. */
static void enter_clone(struct pg_run *run, const struct encoder *attrs)
{
    struct decoder d;
    struct snap_clone clone;
    struct pg_object *object = run->object;
    uint16_t name_len;
    uint32_t len;
    int error = -ELIMPET_CORRUPT;
    decoder_init(&d, attrs->data, attrs->len);
    while (decoder_left(&d) > 0) {
        const void *name = decode_string16(&d, &name_len);
        const void *value = decode_string32(&d, &len);
        if (d.failed)
            break;
        if (pg_attr_is_ours(name, name_len))
            error = snapset_find(value, len, run->request->ops.head.snap, &clone);
    }
    if (error) {
        fail(run, error == -ENOENT ? error : -EIO);
        return;
    }
    /* The group has ceased to serve meanwhile. */
    if (!object->pg || !object->pg->serving) {
        pg_request_hold_again(run->request);
        run_free(run);
        return;
    }
    pg_id_with_snap(object->bytes, object->len, clone.id, run->clone);
    run->waiter.ready = clone_ready;
    error = pg_object_enter_clone(object, run->clone, object->len, &run->waiter);
    if (error)
        fail(run, error);
}

static void read_snapset(struct pg_run *run);

static void snapset_repaired(struct repair_waiter *waiter, int error)
{
    struct pg_run *run = container_of(waiter, struct pg_run, repair);
    if (error == -ECANCELED && run->request) {
        pg_request_hold_again(run->request);
        run_free(run);
    } else if (error || !run->request) {
        fail(run, -EIO);
    } else {
        read_snapset(run);
    }
}

static void snapset_read(struct store_read *read)
{
    struct pg_run *run = container_of(read, struct pg_run, read);
    struct pg *pg = run->async.pg;
    pg_async_end(&run->async);
    buf_slice_drop(&read->data);
    struct encoder attrs = read->attrs;
    memset(&read->attrs, 0, sizeof read->attrs);
    if (!run->request)
        run_free(run);
    else if (!read->error)
        enter_clone(run, &attrs);
    else
        (void)take_error(run, pg, read->error);
    encoder_fini(&attrs);
}

static void read_snapset(struct pg_run *run)
{
    memset(&run->read, 0, sizeof run->read);
    run->read.object = run->object->id;
    run->read.want_attrs = true;
    run->read.done = snapset_read;
    pg_async_begin(run->request->pg, &run->async, run_drop);
    store_read(run->request->pg->world->store, &run->read);
}

/* Whether what the request looks at is a clone, if anything. */
static bool looks_at_clone(const struct pg_request *request, const struct pg_object *object)
{
    uint64_t snap = request->ops.head.snap;
    return snap > 0 && snap <= object->state.snap_seq && !request->ops.lists_snaps &&
           !planted(PLANTED_SNAP_READS_HEAD);
}

/* Whether there may be something to look at. */
static bool is_there(const struct pg_request *request, const struct pg_object *object)
{
    if (looks_at_clone(request, object))
        return object->state.has_clones;
    return object->state.exists || (request->ops.lists_snaps && object->state.whiteout);
}

void pg_read_start(struct pg_request *request, struct pg_object *object)
{
    if (!pg_lease_holds(request->pg)) {
        pg_lease_wait(request, object);
        return;
    }
    witness_pg(request->pg, PG_MOMENT_READS, &(struct pg_testimony){0});
    if (!is_there(request, object)) {
        pg_request_fail(request, -ENOENT);
        return;
    }
    struct pg_run *run = start(request, object, NULL);
    if (run && looks_at_clone(request, object))
        read_snapset(run);
    else if (run)
        go_on(run);
}

void pg_run_write(struct pg_request *request, struct pg_object *object, struct pg_write *write)
{
    struct pg_run *run = start(request, object, write);
    if (run)
        go_on(run);
}
