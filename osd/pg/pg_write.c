/*
 * Writes: executed and replicated by the primary, applied by members and learners, committed when
 * all that count have them durable.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"
#include "common/witness.h"
#include "osd/ops/snap.h"
#include "osd/pg/pg_extents.h"
#include "osd/pg/pg_watch.h"

/* ---- Writes and their memory ---- */

static void write_done(struct store_txn *txn, int error);

/* From the pool, with the memory for operations that it had. */
struct pg_write *pg_write_alloc(struct pg_world *world)
{
    struct pg_write *write = SLIST_FIRST(&world->free_writes);
    if (write) {
        SLIST_REMOVE_HEAD(&world->free_writes, free_link);
        world->n_free_writes--;
        return write;
    }
    write = calloc(1, sizeof *write);
    if (!write)
        return NULL;
    txn_init(&write->txn);
    write->txn.done = write_done;
    write->txn.chained = true;
    return write;
}

static void write_free(struct pg_world *world, struct pg_write *write)
{
    assert(!write->listed && !write->request && !write->object);
    buf_slice_drop(&write->txn.data);
    if (world->n_free_writes >= PG_FREE_WRITES || write->txn.ops.failed) {
        txn_fini(&write->txn);
        free(write);
        return;
    }
    encoder_reset(&write->txn.ops);
    struct encoder ops = write->txn.ops;
    memset(write, 0, sizeof *write);
    write->txn.ops = ops;
    write->txn.done = write_done;
    write->txn.chained = true;
    SLIST_INSERT_HEAD(&world->free_writes, write, free_link);
    world->n_free_writes++;
}

void pg_write_drop_pool(struct pg_world *world)
{
    struct pg_write *write;
    while ((write = SLIST_FIRST(&world->free_writes))) {
        SLIST_REMOVE_HEAD(&world->free_writes, free_link);
        txn_fini(&write->txn);
        free(write);
    }
    world->n_free_writes = 0;
}

static void write_drop(struct pg_async *async)
{
    struct pg_write *write = container_of(async, struct pg_write, async);
    write_free(async->pg->world, write);
}

/* ---- The log in the store ---- */

void pg_log_entry_put(struct pg *pg, struct store_txn *txn, const struct pg_entry *entry)
{
    uint8_t key[PG_NUMBERED_KEY_LEN];
    pg_numbered_key(PG_KEY_LOG, entry->head.version.sequence, key);
    txn_pg_set(txn, pg->id, key, sizeof key, &entry->head, entry->len);
    pg_snap_entry_put(pg, txn, &entry->head);
}

/* The record of a client becomes what it is now. */
void pg_client_put(struct pg *pg, struct store_txn *txn, const struct pg_client *client)
{
    /* Up to the key itself: with a zero it is the next key that there can be. */
    uint8_t key[PG_NUMBERED_KEY_LEN + 1] = {0};
    struct encoder record;
    pg_numbered_key(PG_KEY_CLIENT, client->client, key);
    if (!client->kept) {
        txn_pg_remove_range(txn, pg->id, key, PG_NUMBERED_KEY_LEN, key, sizeof key);
        return;
    }
    encoder_init(&record);
    pg_client_encode(client, &record);
    if (record.failed)
        txn->ops.failed = true;
    else
        txn_pg_set(txn, pg->id, key, PG_NUMBERED_KEY_LEN, record.data, (uint32_t)record.len);
    encoder_fini(&record);
}

static void put_clients(struct pg *pg, struct store_txn *txn)
{
    struct pg_client *client;
    while ((client = pg_clients_changed(&pg->log.clients))) {
        pg_client_put(pg, txn, client);
        pg_client_stored(&pg->log.clients, client);
    }
}

static void remove_numbered(struct pg *pg, struct store_txn *txn, char kind, uint64_t first,
                            uint64_t end)
{
    uint8_t from[PG_NUMBERED_KEY_LEN], to[PG_NUMBERED_KEY_LEN];
    pg_numbered_key(kind, first, from);
    pg_numbered_key(kind, end, to);
    txn_pg_remove_range(txn, pg->id, from, sizeof from, to, sizeof to);
}

/* Moves the oldest entries that are not in a run into one, up to `upto` if they fit. */
static void put_run(struct pg *pg, struct store_txn *txn, uint64_t upto)
{
    static_assert(PG_ENTRY_MAX + sizeof(uint32_t) <= STORE_PG_VALUE_MAX, "one fits");
    uint64_t first = pg->log.packed + 1, last = pg->log.packed;
    const struct pg_entry *entry;
    uint8_t key[PG_NUMBERED_KEY_LEN];
    struct encoder run;
    encoder_init(&run);
    while (last < upto && (entry = pg_log_get(&pg->log, last + 1)) != NULL &&
           run.len + sizeof(uint32_t) + entry->len <= STORE_PG_VALUE_MAX) {
        encode_string32(&run, &entry->head, entry->len);
        last++;
    }
    if (run.failed || last < first) {
        txn->ops.failed = true;
    } else {
        pg_numbered_key(PG_KEY_RUN, last, key);
        txn_pg_set(txn, pg->id, key, sizeof key, run.data, (uint32_t)run.len);
        remove_numbered(pg, txn, PG_KEY_LOG, first, last + 1);
        pg->log.packed = last;
    }
    encoder_fini(&run);
}

/*
 * An entry of its own is for the journal; the index, which gets what is left at a checkpoint, has
 * few records of many entries. Only what is committed is packed, since it is never taken back.
 */
static void pack(struct pg *pg, struct store_txn *txn)
{
    enum { RUNS = 32, RUN_MIN = 2 };
    uint32_t length = pg->world->log_keep / RUNS > RUN_MIN ? pg->world->log_keep / RUNS : RUN_MIN;
    while (!txn->ops.failed && pg->committed >= pg->log.packed + length)
        put_run(pg, txn, pg->log.packed + length);
}

static void shorten(struct pg *pg, struct store_txn *txn)
{
    uint32_t keep = pg->world->log_keep;
    if (pg->log.count <= keep + keep / 4)
        return;
    uint64_t upto = pg_log_head(&pg->log).sequence - keep;
    if (upto > pg->committed)
        upto = pg->committed;
    if (upto <= pg->log.base.sequence)
        return;
    uint64_t end = upto + 1 + planted(PLANTED_FORGET_ENTRY_AT_TRIM);
    remove_numbered(pg, txn, PG_KEY_LOG, 0, end);
    remove_numbered(pg, txn, PG_KEY_RUN, 0, end);
    uint64_t dropped = pg->log.clients.dropped;
    if (pg_log_trim(&pg->log, upto))
        txn->ops.failed = true;
    pg->world->results_dropped += pg->log.clients.dropped - dropped;
    put_clients(pg, txn);
    pg_put_state(pg, txn);
}

void pg_log_tidy(struct pg *pg, struct store_txn *txn)
{
    pack(pg, txn);
    shorten(pg, txn);
}

static void send_ack(struct pg *pg, uint64_t sequence, int result, uint64_t damaged)
{
    struct message *message = message_create(MSG_REP_ACK, sizeof(struct wire_rep_ack));
    if (!message)
        return;
    struct wire_rep_ack ack = {
        .pool = pg->id.pool,
        .pg_seed = pg->id.seed,
        .result = result,
        .config = pg->upstream_config,
        .sequence = sequence,
        .epoch = pg_epoch(pg),
        .flags = pg_room_flags(pg->world),
        .damaged = damaged,
    };
    memcpy(message->body, &ack, sizeof ack);
    pg_answer(pg, message);
}

static bool follows_primary(const struct pg *pg)
{
    return pg->state == PG_STATE_REPLICA_ACTIVE || pg->state == PG_STATE_FILLING ||
           pg->state == PG_STATE_FILLED;
}

void pg_durable_advance(struct pg *pg, uint64_t generation, uint64_t sequence)
{
    if (generation != pg->generation || sequence <= pg->durable)
        return;
    pg->durable = sequence;
    if (pg->state == PG_STATE_PRIMARY_ACTIVE)
        pg_advance(pg);
    else
        pg_activate_caught_up(pg);
}

/* What the write left of the object cannot be read here: another copy has to help. */
static void note_damage(struct pg *pg, uint64_t sequence)
{
    pg->world->read_errors++;
    log_error(pg->world->env, "damaged object written in part", "pg=%s sequence=%" PRIu64,
              pg_text(pg), sequence);
    pg_suspect_entry(pg, sequence);
}

static void write_done(struct store_txn *txn, int error)
{
    struct pg_write *write = container_of(txn, struct pg_write, txn);
    struct pg *pg = write->async.pg;
    uint64_t sequence = write->sequence, generation = write->generation;
    bool damaged = write->txn.damaged;
    pg_async_end(&write->async);
    write->durable = true;
    if (!write->listed)
        write_free(pg->world, write);
    if (error) {
        pg_fatal(pg, error, "the store could not commit");
        return;
    }
    if (damaged && generation == pg->generation)
        note_damage(pg, sequence);
    pg_durable_advance(pg, generation, sequence);
    if (follows_primary(pg) && generation == pg->generation)
        send_ack(pg, pg->durable, 0, damaged ? sequence : 0);
}

static void write_submit(struct pg *pg, struct pg_write *write)
{
    write->generation = pg->generation;
    write->txn.uses_reserve = true; /* Whether there is room was asked before: pg_room.c. */
    pg_async_begin(pg, &write->async, write_drop);
    store_submit(pg->world->store, &write->txn);
}

/* ---- The primary ---- */

void pg_write_answer(struct pg_request *request, const struct pg_entry *entry)
{
    assert(entry);
    struct ops_result result = {.result = entry->head.result,
                                .failed_step = entry->head.failed_step,
                                .version = entry->head.version};
    pg_request_answer(request, &result, pg_entry_answer(&entry->head, &entry->head),
                      entry->head.answer_len);
}

static uint64_t log_clock(const struct pg *pg)
{
    return pg->clock_base_ns + env_now(pg->world->env) - pg->clock_from_ns;
}

/*
 * Whether the request was executed before: its answer is in the log, or in what is remembered of
 * its client. Or it is one that the client waits for no more: a copy that comes late.
 */
static bool answer_repeated(struct pg_request *request)
{
    const struct wire_osd_op *head = &request->ops.head;
    const struct pg *pg = request->pg;
    const struct pg_log *log = &pg->log;
    const struct pg_entry *entry = pg_log_find(log, head->client, head->tid);
    if (planted(PLANTED_RUN_DUPLICATE))
        return false;
    if (entry && entry->head.version.sequence > pg->committed) {
        /* It is true of the state after its entry: it is told when that is committed. */
        request->wait_sequence = entry->head.version.sequence;
        pg_request_place(request, REQUEST_WAITING);
        return true;
    }
    if (entry && !planted(PLANTED_ANSWER_FORGOTTEN)) {
        pg_write_answer(request, entry);
        return true;
    }
    if (entry) {
        struct ops_result bare = {.result = entry->head.result, .version = entry->head.version};
        pg_request_answer(request, &bare, NULL, 0);
        return true;
    }
    const struct pg_client *client = pg_clients_find(&log->clients, head->client);
    const struct pg_result *result = client ? pg_client_result(client, head->tid) : NULL;
    if (result) {
        struct ops_result outcome = {.result = result->head.result,
                                     .failed_step = result->head.failed_step,
                                     .version = result->head.version};
        pg_request_answer(request, &outcome, result->answer, result->head.answer_len);
        return true;
    }
    bool late = client && head->tid < client->known;
    bool forgotten = !late && pg_clients_may_lack(&log->clients, log_clock(request->pg),
                                                  head->attempt, head->age_ns);
    if (!late && !forgotten)
        return false;
    request->pg->world->repeats_refused += forgotten;
    log_debug(request->pg->world->env, forgotten ? "old request refused" : "late request refused",
              "pg=%s client=%" PRIx64 " tid=%" PRIu64 " oldest=%" PRIu64, pg_text(request->pg),
              head->client, head->tid, client ? client->known : 0);
    pg_request_fail(request, -ESTALE);
    return true;
}

/* What executing a request came to, or trimming an object. */
struct execution {
    int error;      /* Of a step. Then nothing is changed, but the failure is logged. */
    bool unchanged; /* Because of that, or since all that would have changed it failed. */
    uint16_t failed_step;
    struct object_state before, after;
    uint64_t clone, clone_size; /* Made, or removed by a trimmer: pg_entry_layout. */
    uint64_t trimmed;
    uint64_t source;       /* A clone that it was rolled back to. */
    struct buf_slice data; /* That the transaction writes. */
    struct encoder answer;
    uint8_t answer_memory[PG_ANSWER_MAX];
};

static_assert((int)PG_ANSWER_MAX == (int)OPS_ANSWER_MAX, "one limit");

/* In the store there is something. */
static bool is_kept(const struct object_state *state)
{
    return state->exists || state->whiteout;
}

static struct pg_totals totals_after(const struct pg *pg, const struct pg_request *request,
                                     const struct execution *run)
{
    const struct object_state *before = &run->before, *after = &run->after;
    struct pg_totals totals = pg_log_totals(&pg->log);
    /* A trimmer removes the clone, and anybody else makes it. */
    uint64_t sign = run->clone == 0 ? 0 : run->trimmed ? UINT64_MAX : 1;
    totals.objects += is_kept(after) - is_kept(before) + sign;
    totals.bytes += after->size - before->size + sign * run->clone_size;
    totals.clones += sign;
    totals.writes += request != NULL;
    totals.bytes_written += run->data.len;
    totals.reads += pg->reads;
    totals.bytes_read += pg->bytes_read;
    return totals;
}

/* What an entry says of a request; without one nobody has asked. */
static void name_request(struct pg_entry_layout *head, const struct pg_request *request)
{
    if (!request)
        return;
    head->client = request->ops.head.client;
    head->tid = request->ops.head.tid;
    head->oldest = request->ops.head.oldest;
}

static size_t encode_entry(const struct pg *pg, const struct pg_object *object,
                           const struct pg_request *request, const struct execution *run,
                           const struct encoder *ops, uint8_t out[PG_ENTRY_MAX])
{
    const struct object_state *before = &run->before, *after = &run->after;
    struct pg_entry_layout head = {
        .layout = PG_LAYOUT_VERSION,
        .kind = is_kept(after) ? PG_ENTRY_MODIFY : PG_ENTRY_REMOVE,
        .object_len = object->len,
        .result = run->error,
        .version = {.config = pg->view.config, .sequence = pg_log_head(&pg->log).sequence + 1},
        .committed = pg->committed,
        .stamp_ns = log_clock(pg),
        .failed_step = run->error ? run->failed_step : 0,
        .answer_len = (uint16_t)run->answer.len,
        .clone = run->clone,
        .trimmed = run->trimmed,
    };
    struct pg_extents changed = {0};
    if (run->unchanged)
        head.kind = PG_ENTRY_FAILED;
    else
        pg_extents_of(ops, run->data.len, is_kept(before), &changed);
    name_request(&head, request);
    head.n_extents = changed.n;
    head.totals = totals_after(pg, request, run);
    struct encoder e;
    encoder_init_fixed(&e, out, PG_ENTRY_MAX);
    encode_bytes(&e, &head, sizeof head);
    encode_bytes(&e, object->bytes, object->len);
    if (changed.n != PG_EXTENTS_WHOLE && changed.n > 0)
        encode_bytes(&e, changed.extents, changed.n * sizeof changed.extents[0]);
    if (run->answer.len > 0)
        encode_bytes(&e, run->answer.data, run->answer.len);
    assert(!e.failed);
    return e.len;
}

/* Without data yet, unless the operations are too many for a body: they follow the data then. */
static struct message *replicate_message(struct pg *pg, const struct pg_entry_layout *entry,
                                         size_t entry_len, const struct encoder *ops,
                                         struct buf_slice data, uint32_t flags)
{
    size_t ops_len = ops ? ops->len : 0;
    bool apart = sizeof(struct wire_rep_txn) + entry_len + ops_len > MESSAGE_BODY_MAX;
    struct wire_rep_txn head = {
        .pool = pg->id.pool,
        .pg_seed = pg->id.seed,
        .flags = flags | (apart ? WIRE_REP_OPS_IN_PAYLOAD : 0u),
        .config = pg->view.config,
        .version = entry->version,
        .epoch = pg_epoch(pg),
        .committed = pg->committed,
        .log_len = (uint32_t)entry_len,
        .txn_len = (uint32_t)ops_len,
    };
    struct message *message =
        message_create(MSG_REP_TXN, sizeof head + entry_len + (apart ? 0 : ops_len));
    if (!message)
        return NULL;
    memcpy(message->body, &head, sizeof head);
    memcpy(message->body + sizeof head, entry, entry_len);
    if (!apart) {
        if (ops_len > 0)
            memcpy(message->body + sizeof head + entry_len, ops->data, ops_len);
        message->payload = buf_slice_ref(data);
        return message;
    }
    if (buf_slice_alloc(data.len + ops_len, &message->payload)) {
        message_unref(message);
        return NULL;
    }
    if (data.len > 0)
        memcpy(message->payload.data, data.data, data.len);
    if (ops_len > 0)
        memcpy(message->payload.data + data.len, ops->data, ops_len);
    return message;
}

static void put_info(struct store_txn *txn, const struct object_state *state)
{
    struct object_info_layout info = {
        .layout = PG_LAYOUT_VERSION,
        .version = state->version,
        .mtime_ns = state->mtime_ns,
        .attrs_bytes = state->attrs_bytes,
        .flags = (uint8_t)((state->whiteout ? OBJECT_INFO_WHITEOUT : 0) |
                           (state->has_clones ? OBJECT_INFO_CLONES : 0)),
        .snap_seq = state->snap_seq,
    };
    txn_set_info(txn, &info, sizeof info);
}

/* To a copy that is being filled, in the form that it needs. */
static void send_to_fill(struct pg *pg, struct pg_fill *fill, struct pg_write *write,
                         const struct pg_entry *entry, const struct pg_object *object)
{
    struct message *message = NULL;
    switch (pg_fill_write(fill, object, write)) {
    case FILL_WRITE_NONE:
        return;
    case FILL_WRITE_WHOLE:
        message = write->replicate;
        break;
    case FILL_WRITE_LOG_ONLY:
        if (!write->log_only)
            write->log_only = replicate_message(pg, &entry->head, entry->len, NULL, BUF_SLICE_EMPTY,
                                                WIRE_REP_LOG_ONLY);
        message = write->log_only;
        break;
    }
    /* Without memory it meets a gap, refuses, and is filled again. */
    if (message)
        pg->world->ops->send(pg->world->ctx, fill->osd, message_ref(message));
}

static void replicate(struct pg *pg, struct pg_write *write, const struct pg_entry *entry,
                      const struct pg_object *object)
{
    for (uint8_t i = 0; i < pg->n_peers; i++)
        pg->world->ops->send(pg->world->ctx, pg->peers[i].osd, message_ref(write->replicate));
    struct pg_fill *fill;
    TAILQ_FOREACH(fill, &pg->fills, link)
    send_to_fill(pg, fill, write, entry, object);
}

/* Everything that can fail for want of memory, before anything is changed. */
static int prepare(struct pg_request *request, struct pg_object *object, struct pg_write *write,
                   const struct execution *run, struct pg_entry **entry)
{
    struct pg *pg = object->pg;
    uint8_t bytes[PG_ENTRY_MAX];
    struct pg_entry_layout head;
    if (!run->unchanged && is_kept(&run->after)) {
        /* A write without any effect has not named its object. */
        if (write->txn.ops.len == 0)
            txn_object(&write->txn, &object->id);
        put_info(&write->txn, &run->after);
    }
    if (write->txn.ops.failed)
        return -ENOMEM;
    size_t len = encode_entry(pg, object, request, run, &write->txn.ops, bytes);
    memcpy(&head, bytes, sizeof head);
    write->replicate = replicate_message(pg, (const struct pg_entry_layout *)(void *)bytes, len,
                                         &write->txn.ops, run->data, 0);
    if (!write->replicate)
        return -ENOMEM;
    *entry = pg_entry_add(pg, bytes, len);
    if (!*entry)
        return -ENOMEM;
    pg->reads = pg->bytes_read = 0; /* They are in the entry's totals. */
    return 0;
}

/* The write is part of the log now: to everybody, in one turn of the loop. */
static void commit_begin(struct pg_request *request, struct pg_write *write,
                         struct pg_object *object, const struct pg_entry *entry,
                         const struct execution *run)
{
    struct pg *pg = object->pg;
    struct pg_world *world = pg->world;
    write->sequence = entry->head.version.sequence;
    write->txn.data = buf_slice_ref(run->data);
    write->object = object;
    write->clone = run->clone;
    write->source = run->source;
    if (request) {
        write->window_bytes = request->window_bytes;
        request->window_bytes = 0;
        write->request = request;
        request->operation = write;
        pg_request_place(request, REQUEST_WRITING);
    }
    if (run->clone)
        pg_object_forget_clone(object, run->clone);
    pg_object_hold(object, true);
    TAILQ_INSERT_TAIL(&pg->writes, write, link);
    write->listed = true;
    replicate(pg, write, entry, object);
    pg_log_entry_put(pg, &write->txn, entry);
    pg_log_tidy(pg, &write->txn);
    if (write->txn.ops.failed) {
        pg_fatal(pg, -ENOMEM, "no memory for a transaction");
        return;
    }
    world->write_ops += request != NULL;
    world->write_bytes += run->data.len;
    write_submit(pg, write);
}

void pg_write_abandon(struct pg_world *world, struct pg_write *write)
{
    message_unref(write->replicate);
    write->replicate = NULL;
    write_free(world, write);
}

/* The object as it was has become a clone: the index leads to it. */
static void take_clone(struct pg *pg, const struct ops_run *steps, struct store_txn *txn,
                       struct execution *run)
{
    run->clone = steps->clone.id;
    run->clone_size = steps->clone.size;
    for (uint32_t i = 0; i < steps->clone.n; i++)
        pg_snap_put(pg, txn, snap_at(&steps->clone, i), &steps->request->object);
}

/* What the steps came to: after this, no memory is needed any more but for the entry. */
static int conclude(struct pg *pg, struct ops_run *steps, int error, struct store_txn *txn,
                    struct execution *run)
{
    const struct object_view *view = &steps->view;
    memset(run, 0, offsetof(struct execution, answer_memory));
    run->before = run->after = view->base;
    run->data = BUF_SLICE_EMPTY;
    encoder_init_fixed(&run->answer, run->answer_memory, sizeof run->answer_memory);
    if (!error)
        error = pg_room_check(pg, ops_grows(view), ops_tries_full(steps->request, view), txn,
                              view->payload.len + view->more.len);
    run->error = error;
    run->unchanged = error || !steps->changed;
    run->failed_step = steps->step < steps->n_steps ? steps->step : 0;
    if (error) {
        encoder_reset(&txn->ops);
        return 0;
    }
    run_answer(steps, &run->answer);
    if (run->unchanged) {
        assert(txn->ops.len == 0);
        return 0;
    }
    run->after = view->state;
    run->after.version.config = pg->view.config;
    run->after.version.sequence = pg_log_head(&pg->log).sequence + 1;
    uint64_t wanted_ns = steps->request->head.mtime_ns;
    /* Who watches an object does not change it. */
    if (steps->request->contents)
        run->after.mtime_ns = wanted_ns != 0 ? wanted_ns : steps->wall_ns;
    if (steps->clones && txn->ops.len > 0)
        take_clone(pg, steps, txn, run);
    run->source = steps->source;
    return view_take_data(&steps->view, &run->data);
}

void pg_write_ran(struct pg_request *request, struct pg_object *object, struct pg_write *write,
                  struct ops_run *steps, int error)
{
    struct pg *pg = request->pg;
    struct execution run;
    struct pg_entry *entry = NULL;
    assert(pg->serving && object->pg == pg);
    /* Of the OSD, not of the request: it may succeed when it comes again. */
    if (error != -ENOMEM)
        error = conclude(pg, steps, error, &write->txn, &run);
    if (!error) {
        error = prepare(request, object, write, &run, &entry);
        if (error)
            buf_slice_drop(&run.data);
    }
    if (error) {
        pg_write_abandon(pg->world, write);
        pg_request_fail(request, error);
        return;
    }
    object->state = run.after;
    if (!run.unchanged)
        pg_watch_wrote(request, object, steps);
    commit_begin(request, write, object, entry, &run);
    buf_slice_drop(&run.data);
}

static bool begins_watch(const struct ops_request *ops)
{
    for (uint16_t i = 0; i < ops->head.n_ops; i++)
        if (ops_step(ops, i).code == WIRE_OP_CODE_WATCH)
            return true;
    return false;
}

void pg_write_start(struct pg_request *request, struct pg_object *object)
{
    struct pg *pg = request->pg;
    assert(pg->state == PG_STATE_PRIMARY_ACTIVE && pg->serving && object->loaded);
    if (request->own && !pg_own_request_wanted(request)) {
        pg_request_fail(request, -ECANCELED);
        return;
    }
    if (answer_repeated(request))
        return;
    if (request->ops.watches && pg_watch_is_full(pg->world) && begins_watch(&request->ops)) {
        pg_request_fail(request, -EUSERS);
        return;
    }
    struct pg_write *write = pg_write_alloc(pg->world);
    if (!write) {
        pg_request_fail(request, -ENOMEM);
        return;
    }
    /* What is to be said of its clones may have to be loaded, too. */
    if (request->ops.looks || object->state.has_clones) {
        pg_run_write(request, object, write);
        return;
    }
    struct ops_run run;
    run_init(&run, &request->ops, request->message->payload, &object->state, &write->txn,
             &request->caller, pg_snaps(pg), env_wall(pg->world->env));
    pg_write_ran(request, object, write, &run, ops_run(&run));
    run_fini(&run);
}

int pg_write_trim(struct pg_object *object, struct pg_write *write,
                  const struct pg_trimmed *trimmed)
{
    struct pg *pg = object->pg;
    struct execution run = {
        .before = object->state,
        .after = object->state,
        .clone = trimmed->clone,
        .clone_size = trimmed->clone_size,
        .trimmed = trimmed->snap,
    };
    struct pg_entry *entry = NULL;
    assert(pg && pg->serving && object->looked_at);
    run.after.has_clones = trimmed->left > 0;
    run.after.whiteout = object->state.whiteout && trimmed->left > 0;
    run.after.version.config = pg->view.config;
    run.after.version.sequence = pg_log_head(&pg->log).sequence + 1;
    int error = prepare(NULL, object, write, &run, &entry);
    if (error) {
        pg_write_abandon(pg->world, write);
        return error;
    }
    if (!is_kept(&run.after))
        memset(&run.after, 0, sizeof run.after);
    object->state = run.after;
    commit_begin(NULL, write, object, entry, &run);
    return 0;
}

/* ---- Commit ---- */

/* Of the peers, and of ourselves; only a planted bug asks. */
static uint64_t second_slowest(const struct pg *pg)
{
    uint64_t slowest = pg->durable, second = pg->durable;
    for (uint8_t i = 0; i < pg->n_peers; i++) {
        uint64_t acked = pg->peers[i].acked;
        if (acked < slowest) {
            second = slowest;
            slowest = acked;
        } else if (acked < second) {
            second = acked;
        }
    }
    return second;
}

/* What every member has durable, and every learner that may become one (G3, G8). */
static uint64_t durable_everywhere(const struct pg *pg)
{
    uint64_t sequence = pg->durable;
    if (planted(PLANTED_ACK_BEFORE_MEMBERS))
        return sequence;
    for (uint8_t i = 0; i < pg->n_peers; i++)
        if (pg->peers[i].acked < sequence)
            sequence = pg->peers[i].acked;
    if (planted(PLANTED_ACK_ALL_BUT_ONE) && pg->n_peers > 1)
        sequence = second_slowest(pg);
    const struct pg_fill *fill;
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        bool counts = fill->phase == FILL_ADDING && !planted(PLANTED_ACK_WITHOUT_LEARNER);
        if (counts && fill->acked < sequence)
            sequence = fill->acked;
    }
    return sequence;
}

/* Takes the write out of the primary's hands; its store transaction may still run. */
static void write_release(struct pg *pg, struct pg_write *write)
{
    assert(write->listed);
    TAILQ_REMOVE(&pg->writes, write, link);
    write->listed = false;
    struct pg_object *object = write->object;
    write->object = NULL;
    assert(pg->window_bytes >= write->window_bytes);
    pg->window_bytes -= write->window_bytes;
    message_unref(write->replicate);
    message_unref(write->log_only);
    write->replicate = write->log_only = NULL;
    if (write->durable)
        write_free(pg->world, write);
    pg_object_release(object, true);
}

/*
 * All that is committed is answered before any object is let go: a write that waited for one begins
 * at once, and may cut the log by entries that answer others.
 */
static void answer_committed(struct pg *pg)
{
    struct pg_write *write;
    TAILQ_FOREACH(write, &pg->writes, link)
    {
        if (write->sequence > pg->committed)
            break;
        if (write->request)
            pg_write_answer(write->request, pg_log_get(&pg->log, write->sequence));
        assert(!write->request);
    }
    pg_requests_answer_waiting(pg);
}

void pg_advance(struct pg *pg)
{
    if (pg->state != PG_STATE_PRIMARY_ACTIVE)
        return;
    uint64_t sequence = durable_everywhere(pg);
    if (sequence > pg->committed) {
        pg->committed = sequence;
        answer_committed(pg);
        struct pg_write *write;
        while ((write = TAILQ_FIRST(&pg->writes)) && write->sequence <= pg->committed)
            write_release(pg, write);
        pg_requests_admit(pg);
    }
    pg_trim_advance(pg);
    pg_fill_check_add(pg);
}

void pg_writes_disown(struct pg *pg)
{
    struct pg_write *write;
    while ((write = TAILQ_FIRST(&pg->writes))) {
        assert(!write->request);
        write_release(pg, write);
    }
    assert(pg->window_bytes == 0);
}

void pg_writes_resend(struct pg *pg, int32_t osd, uint64_t acked)
{
    struct pg_write *write;
    TAILQ_FOREACH(write, &pg->writes, link)
    {
        if (write->sequence > acked)
            pg->world->ops->send(pg->world->ctx, osd, message_ref(write->replicate));
    }
}

void pg_rep_ack(struct pg *pg, int32_t from, const struct wire_rep_ack *ack)
{
    struct pg_fill *fill = pg_fill_find(pg, from);
    if (ack->damaged > 0)
        pg_suspect_entry(pg, ack->damaged);
    if (fill) {
        pg_fill_ack(pg, fill, ack->sequence, ack->result);
        return;
    }
    struct pg_peer *peer = pg_peer_find(pg, from);
    if (!peer || pg->state != PG_STATE_PRIMARY_ACTIVE)
        return;
    pg_room_heard(pg, peer, ack->flags);
    if (ack->result) {
        log_info(pg->world->env, "member refused", "pg=%s osd=%d sequence=%" PRIu64 " error=\"%s\"",
                 pg_text(pg), from, ack->sequence, error_text(ack->result));
        pg->compare_again = true;
        return;
    }
    if (ack->sequence > pg_log_head(&pg->log).sequence || ack->sequence <= peer->acked)
        return;
    peer->acked = ack->sequence;
    pg_advance(pg);
}

/* ---- A member ---- */

void pg_rep_refuse(struct pg *pg, const struct wire_rep_txn *rep, int error)
{
    send_ack(pg, rep->version.sequence, error, 0);
}

/* The parts of a MSG_REP_TXN. */
struct rep_parts {
    const uint8_t *entry;
    const uint8_t *ops;
    size_t data_len; /* Of the payload, from its beginning. */
};

static int rep_check(const struct pg *pg, const struct pg_incoming *in, struct rep_parts *parts)
{
    const struct wire_rep_txn *rep = &in->rep;
    struct pg_entry_layout head;
    struct object_id id;
    const struct buf_slice *payload = &in->message->payload;
    uint64_t left = in->message->body_len - sizeof *rep;
    bool apart = rep->flags & WIRE_REP_OPS_IN_PAYLOAD;
    if (rep->log_len > left || (apart ? 0 : rep->txn_len) != left - rep->log_len ||
        (apart && rep->txn_len > payload->len))
        return -EBADMSG;
    parts->entry = in->message->body + sizeof *rep;
    parts->data_len = payload->len - (apart ? rep->txn_len : 0);
    parts->ops =
        apart && rep->txn_len > 0 ? payload->data + parts->data_len : parts->entry + rep->log_len;
    if (pg_entry_parse(parts->entry, rep->log_len, &head, &id) ||
        !version_equal(head.version, rep->version) ||
        pg_decode_id(pg, parts->entry + sizeof head, head.object_len, &id))
        return -EBADMSG;
    if (rep->flags & WIRE_REP_LOG_ONLY && (rep->txn_len > 0 || pg->state != PG_STATE_FILLING))
        return -EBADMSG;
    return txn_check(parts->ops, rep->txn_len, parts->data_len, &pg->id.pool);
}

/* G1: whether it is the next one; or known already (then acknowledged, if durable). */
enum rep_place { REP_NEXT, REP_KNOWN, REP_REFUSED };

static enum rep_place rep_place(const struct pg *pg, const struct wire_rep_txn *rep)
{
    uint64_t head = pg_log_head(&pg->log).sequence;
    struct wire_version ours;
    if (!follows_primary(pg))
        return REP_REFUSED;
    /* While a copy is filled the effect of a write depends on how far that is: on this session. */
    if (pg->state == PG_STATE_FILLING && pg->bound != pg->upstream)
        return REP_REFUSED;
    if (rep->version.sequence == head + 1)
        return REP_NEXT;
    if (rep->version.sequence > head)
        return REP_REFUSED;
    if (rep->version.sequence < pg->log.base.sequence)
        return REP_KNOWN;
    bool known =
        pg_log_version(&pg->log, rep->version.sequence, &ours) && version_equal(ours, rep->version);
    return known ? REP_KNOWN : REP_REFUSED;
}

static void note_committed(struct pg *pg, uint64_t committed)
{
    uint64_t head = pg_log_head(&pg->log).sequence;
    if (committed > head || planted(PLANTED_COMMITTED_TOO_HIGH))
        committed = head;
    if (committed > pg->committed)
        pg->committed = committed;
}

static int rep_apply(struct pg *pg, const struct pg_incoming *in, const struct rep_parts *parts)
{
    struct pg_write *write = pg_write_alloc(pg->world);
    if (!write)
        return -ENOMEM;
    encode_bytes(&write->txn.ops, parts->ops, in->rep.txn_len);
    struct pg_entry *entry =
        write->txn.ops.failed ? NULL : pg_entry_add(pg, parts->entry, in->rep.log_len);
    if (!entry) {
        write_free(pg->world, write);
        return -ENOMEM;
    }
    write->sequence = in->rep.version.sequence;
    if (parts->data_len > 0)
        write->txn.data = buf_slice_sub(in->message->payload, 0, parts->data_len);
    note_committed(pg, in->rep.committed);
    pg_log_entry_put(pg, &write->txn, entry);
    pg_log_tidy(pg, &write->txn);
    if (write->txn.ops.failed) {
        write_free(pg->world, write);
        pg_fatal(pg, -ENOMEM, "no memory for a transaction");
        return 0;
    }
    write_submit(pg, write);
    return 0;
}

void pg_rep_txn(struct pg *pg, const struct pg_incoming *in)
{
    struct rep_parts parts;
    int error;
    switch (rep_place(pg, &in->rep)) {
    case REP_REFUSED:
        if (planted(PLANTED_ACK_GAP) && follows_primary(pg)) {
            send_ack(pg, in->rep.version.sequence, 0, 0);
            return;
        }
        log_debug(pg->world->env, "write out of place",
                  "pg=%s sequence=%" PRIu64 " head=%" PRIu64 " state=%s", pg_text(pg),
                  in->rep.version.sequence, pg_log_head(&pg->log).sequence,
                  pg_state_name(pg->state));
        pg_rep_refuse(pg, &in->rep, -EAGAIN);
        return;
    case REP_KNOWN:
        if (in->rep.version.sequence <= pg->durable)
            send_ack(pg, pg->durable, 0, 0);
        return;
    case REP_NEXT:
        break;
    }
    error = rep_check(pg, in, &parts);
    if (!error)
        error = rep_apply(pg, in, &parts);
    if (error) {
        log_error(pg->world->env, "write refused", "pg=%s sequence=%" PRIu64 " error=\"%s\"",
                  pg_text(pg), in->rep.version.sequence, error_text(error));
        pg_rep_refuse(pg, &in->rep, error);
        return;
    }
    witness_pg(pg, PG_MOMENT_FOLLOWS,
               &(struct pg_testimony){.version = {.config = pg->upstream_config}});
    /* Whoever replicates serves, and made sure of those before it. */
    pg->n_formers = 0;
    if (planted(PLANTED_MEMBER_ACK_EARLY))
        send_ack(pg, in->rep.version.sequence, 0, 0);
}
