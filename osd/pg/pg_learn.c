/*
 * A copy that is being filled, seen by itself.
 *
 * FILLING begins by noting durably that the copy is not complete (G6), and with the primary's log
 * in place of our own. Then the primary's batches come: what we have and it has not is removed, and
 * what differs is answered, to be pushed. Versions tell: equal versions mean equal contents, since
 * a version names one entry of one log and entries take effect in order. FILLED: the copy is
 * complete and durably says so; from then on our acknowledgements may count.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"

struct learn_scan {
    struct pg_async async;
    struct store_list list;
    bool cancelled;
    Limpet__Wire__PgScan *scan;
    struct object_id *objects; /* The primary's; point into scan. */
    size_t next;               /* Objects before this one have been compared. */
    bool has_after, has_upto;
    struct object_id upto;
    struct object_id *cursor; /* Ours up to here have been compared; NULL: none. */
    size_t n_missing;
    uint32_t *missing;
};

void pg_learn_stop(struct pg *pg)
{
    if (pg->scan)
        pg->scan->cancelled = true;
    pg->scan = NULL;
}

/* ---- Starting ---- */

void pg_log_remove_all(struct pg *pg, struct store_txn *txn)
{
    uint8_t from[PG_NUMBERED_KEY_LEN], to[PG_NUMBERED_KEY_LEN];
    pg_numbered_key(PG_KEY_RUN, 0, from);
    pg_numbered_key(PG_KEY_LOG, UINT64_MAX, to);
    txn_pg_remove_range(txn, pg->id, from, sizeof from, to, sizeof to);
    const uint8_t first = PG_KEY_CLIENT, end = PG_KEY_CLIENT + 1;
    txn_pg_remove_range(txn, pg->id, &first, sizeof first, &end, sizeof end);
}

static bool may_start(const struct pg *pg)
{
    return pg->state == PG_STATE_LEARNER_WAITING || pg->state == PG_STATE_FILLING ||
           pg->state == PG_STATE_FILLED || pg->state == PG_STATE_REPLICA_WAITING;
}

/* Whether what the primary builds upon is true of our copy. */
static bool stands_on(const struct pg *pg, const Limpet__Wire__Version *from)
{
    struct wire_version ours;
    if (!pg->complete)
        return from->sequence > 0 && from->sequence == pg->fill_from.sequence &&
               from->config == pg->fill_from.config;
    return pg_log_version(&pg->log, from->sequence, &ours) && ours.config == from->config;
}

/* Records that can all be true at the base of the log that comes with them. */
static int check_clients(const Limpet__Wire__PgActivate *activate)
{
    size_t units = 0;
    uint64_t after = 0;
    if (activate->n_clients > PG_CLIENTS_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < activate->n_clients; i++) {
        struct pg_client_layout head;
        const ProtobufCBinaryData *record = &activate->clients[i];
        if (pg_client_parse(record->data, record->len, &head) || head.sequence <= after ||
            head.sequence > activate->cut_after->sequence)
            return -EBADMSG;
        after = head.sequence;
        units += (record->len - sizeof head) / PG_RESULT_UNIT;
    }
    return units <= PG_RESULTS_MAX ? 0 : -EBADMSG;
}

static int check_start(const struct pg *pg, const Limpet__Wire__PgActivate *activate, bool goes_on)
{
    if (!may_start(pg))
        return -EAGAIN;
    if (!activate->cut_after || (!goes_on && activate->totals.len != sizeof(struct pg_totals)))
        return -EBADMSG;
    if (!goes_on && activate->fill_from && !stands_on(pg, activate->fill_from) &&
        !planted(PLANTED_CATCH_UP_UNCOMMON))
        return -EAGAIN;
    if (goes_on && activate->cut_after->sequence != pg_log_head(&pg->log).sequence)
        return -EAGAIN;
    if (check_clients(activate))
        return -EBADMSG;
    return pg_entries_check(pg, activate->n_entries, activate->entries,
                            activate->cut_after->sequence);
}

static void start_done(struct pg_step *step)
{
    struct pg *pg = step->async.pg;
    pg_durable_advance(pg, step->generation, step->sequence);
    if (step->generation == pg->generation && pg->state == PG_STATE_FILLING)
        pg_send_info(pg, step->attempt, 3, 0);
}

void pg_learn_tell(struct pg *pg, const Limpet__Wire__PgActivate *activate)
{
    pg_send_info(pg, activate->attempt, 5, may_start(pg) ? 0 : -EAGAIN);
}

/* Our own log, and the claim to be complete, are given up in the transaction that begins. */
static void begin_filling(struct pg *pg, struct store_txn *txn,
                          const Limpet__Wire__PgActivate *activate)
{
    struct wire_version base = {
        .config = activate->cut_after->config,
        .sequence = activate->cut_after->sequence,
    };
    pg_learn_stop(pg);
    pg_staged_clear(pg, true);
    pg_log_remove_all(pg, txn);
    struct pg_totals totals;
    memcpy(&totals, activate->totals.data, sizeof totals);
    pg_log_reset(&pg->log, base, totals);
    pg_dirty_stop(&pg->dirty);
    pg->generation++;
    pg->durable = base.sequence;
    pg->committed = base.sequence;
    pg->complete = false;
    pg->fill_from = (struct wire_version){0};
    if (activate->fill_from && activate->resumable) {
        pg->fill_from.config = activate->fill_from->config;
        pg->fill_from.sequence = activate->fill_from->sequence;
    }
    pg->by_log = activate->fill_from != NULL;
    pg->upstream_fill = activate->attempt;
    pg->bound = pg->upstream;
    pg_set_state(pg, PG_STATE_FILLING);
}

static int take_clients(struct pg *pg, struct store_txn *txn,
                        const Limpet__Wire__PgActivate *activate)
{
    for (size_t i = 0; i < activate->n_clients; i++) {
        const ProtobufCBinaryData *record = &activate->clients[i];
        int error = pg_clients_load(&pg->log.clients, record->data, record->len);
        if (error)
            return error;
    }
    pg->log.clients.forgotten_ns = activate->has_forgotten_ns ? activate->forgotten_ns : 0;
    const struct pg_client *client;
    TAILQ_FOREACH(client, &pg->log.clients.kept, kept_link)
    {
        pg_client_put(pg, txn, client);
    }
    return 0;
}

void pg_learn_start(struct pg *pg, const Limpet__Wire__PgActivate *activate)
{
    bool goes_on = pg->state == PG_STATE_FILLING && activate->attempt == pg->upstream_fill &&
                   pg->bound == pg->upstream;
    int error = check_start(pg, activate, goes_on);
    struct pg_step *step = error ? NULL : pg_step_create(pg);
    if (!step) {
        pg_send_info(pg, activate->attempt, 3, error ? error : -ENOMEM);
        return;
    }
    /* Learners are filled by a primary that serves; members, before it does. */
    if (!pg_is_member(pg, pg->world->self))
        pg->n_formers = 0;
    bool failed = false;
    if (!goes_on) {
        begin_filling(pg, &step->txn, activate);
        failed = take_clients(pg, &step->txn, activate) != 0;
        pg_put_state(pg, &step->txn);
    }
    for (size_t i = 0; i < activate->n_entries && !failed; i++) {
        const ProtobufCBinaryData *data = &activate->entries[i];
        struct pg_entry *entry = pg_entry_add(pg, data->data, data->len);
        failed = !entry;
        if (entry)
            pg_log_entry_put(pg, &step->txn, entry);
    }
    if (failed || step->txn.ops.failed) {
        txn_fini(&step->txn);
        free(step);
        pg_fatal(pg, -ENOMEM, "no memory to take over a log");
        return;
    }
    step->done = start_done;
    step->attempt = activate->attempt;
    step->sequence = pg_log_head(&pg->log).sequence;
    pg_step_submit(step);
}

/* ---- The end ---- */

static void filled_done(struct pg_step *step)
{
    struct pg *pg = step->async.pg;
    assert(pg->switches > 0);
    pg->switches--;
    pg_durable_advance(pg, step->generation, step->sequence);
    pg_activate_caught_up(pg);
    if (step->generation == pg->generation && pg->state == PG_STATE_FILLED)
        pg_send_info(pg, step->attempt, 4, 0);
}

void pg_learn_filled(struct pg *pg, const Limpet__Wire__PgActivate *activate)
{
    struct wire_version head = pg_log_head(&pg->log);
    bool fits = pg->state == PG_STATE_FILLING && activate->attempt == pg->upstream_fill &&
                pg->bound == pg->upstream && !pg->scan && TAILQ_EMPTY(&pg->staged) &&
                activate->head && activate->head->sequence == head.sequence &&
                activate->head->config == head.config;
    struct pg_step *step = fits ? pg_step_create(pg) : NULL;
    if (!step) {
        pg_send_info(pg, activate->attempt, 4, -EAGAIN);
        return;
    }
    pg->complete = true;
    pg_put_state(pg, &step->txn);
    step->done = filled_done;
    step->attempt = activate->attempt;
    step->sequence = head.sequence;
    pg->switches++;
    pg_set_state(pg, PG_STATE_FILLED);
    pg_step_submit(step);
}

/* ---- Comparing ---- */

static void scan_free(struct learn_scan *work)
{
    list_fini(&work->list);
    if (work->scan)
        limpet__wire__pg_scan__free_unpacked(work->scan, NULL);
    free(work->objects);
    free(work->cursor);
    free(work->missing);
    free(work);
}

static void scan_drop(struct pg_async *async)
{
    scan_free(container_of(async, struct learn_scan, async));
}

static void answer_scan(struct pg *pg, uint64_t tid, int result, size_t n, uint32_t *missing)
{
    Limpet__Wire__PgScanReply reply = LIMPET__WIRE__PG_SCAN_REPLY__INIT;
    reply.pool = pg->id.pool;
    reply.seed = pg->id.seed;
    reply.config = pg->upstream_config;
    reply.tid = tid;
    reply.result = result;
    reply.n_missing = n;
    reply.missing = missing;
    pg_answer_proto(pg, MSG_PG_SCAN_REPLY, &reply.base);
}

static bool within(const struct learn_scan *work, const struct object_id *id)
{
    return !work->has_upto || object_compare(id, &work->upto) <= 0;
}

/* Well-formed, in order, and inside the range. */
static int parse_scan(const struct pg *pg, struct learn_scan *work)
{
    const Limpet__Wire__PgScan *scan = work->scan;
    struct object_id after = {0};
    work->has_after = scan->has_after;
    work->has_upto = scan->has_upto;
    struct decoder d;
    if (work->has_after) {
        decoder_init(&d, scan->after.data, scan->after.len);
        decode_object_id(&d, &after);
        if (decoder_end(&d) || after.pool != pg->id.pool)
            return -EBADMSG;
        work->cursor = object_id_copy(&after);
        if (!work->cursor)
            return -ENOMEM;
    }
    if (work->has_upto) {
        decoder_init(&d, scan->upto.data, scan->upto.len);
        decode_object_id(&d, &work->upto);
        if (decoder_end(&d) || work->upto.pool != pg->id.pool)
            return -EBADMSG;
    }
    work->objects = calloc(scan->n_objects + 1, sizeof *work->objects);
    work->missing = calloc(scan->n_objects + 1, sizeof *work->missing);
    if (!work->objects || !work->missing)
        return -ENOMEM;
    for (size_t i = 0; i < scan->n_objects; i++) {
        const struct object_id *previous =
            i > 0 ? &work->objects[i - 1] : (work->has_after ? &after : NULL);
        const ProtobufCBinaryData *id = &scan->objects[i]->id;
        if (pg_decode_id(pg, id->data, id->len, &work->objects[i]) ||
            (previous && object_compare(previous, &work->objects[i]) >= 0) ||
            !within(work, &work->objects[i]))
            return -EBADMSG;
    }
    return 0;
}

static void miss(struct learn_scan *work)
{
    work->missing[work->n_missing++] = (uint32_t)work->next++;
}

static bool same_version(const struct learn_scan *work, const struct store_list_entry *ours)
{
    const Limpet__Wire__Version *theirs = work->scan->objects[work->next]->version;
    struct object_info_layout info;
    if (object_info_parse(ours->info, ours->info_len, &info))
        return false;
    return info.version.config == theirs->config && info.version.sequence == theirs->sequence;
}

/* One of ours against those of the primary. Returns true when it has to go. */
static bool compare_one(struct learn_scan *work, const struct store_list_entry *ours)
{
    size_t n = work->scan->n_objects;
    while (work->next < n && object_compare(&work->objects[work->next], &ours->id) < 0)
        miss(work);
    if (work->next >= n || object_compare(&work->objects[work->next], &ours->id) != 0)
        return true;
    if (same_version(work, ours))
        work->next++;
    else
        miss(work);
    return false;
}

static void scan_page(struct pg *pg, struct learn_scan *work);

static void scan_end(struct pg *pg, struct learn_scan *work, int error)
{
    pg->scan = NULL;
    while (!error && work->next < work->scan->n_objects)
        miss(work);
    answer_scan(pg, work->scan->tid, error, error ? 0 : work->n_missing, work->missing);
    scan_free(work);
}

/* Compares a page of ours; sets `end` when nothing of ours is left in the range. */
static int compare_page(struct pg *pg, struct learn_scan *work, bool *end)
{
    const struct store_list *list = &work->list;
    struct pg_step *removal = NULL;
    *end = list->end;
    for (uint32_t i = 0; i < list->n; i++) {
        const struct store_list_entry *ours = &list->entries[i];
        if (!within(work, &ours->id)) {
            *end = true;
            break;
        }
        if (!compare_one(work, ours))
            continue;
        if (!removal)
            removal = pg_step_create(pg);
        if (!removal)
            return -ENOMEM;
        txn_object(&removal->txn, &ours->id);
        txn_remove(&removal->txn);
    }
    if (removal)
        pg_step_submit(removal);
    if (!*end && list->n > 0) {
        free(work->cursor);
        work->cursor = object_id_copy(&list->entries[list->n - 1].id);
        if (!work->cursor)
            return -ENOMEM;
    }
    return 0;
}

static void page_done(struct store_list *list)
{
    struct learn_scan *work = container_of(list, struct learn_scan, list);
    struct pg *pg = work->async.pg;
    pg_async_end(&work->async);
    if (work->cancelled) {
        scan_free(work);
        return;
    }
    bool end = true;
    int error = list->error ? list->error : compare_page(pg, work, &end);
    list_fini(list);
    if (error || end)
        scan_end(pg, work, error);
    else
        scan_page(pg, work);
}

static void scan_page(struct pg *pg, struct learn_scan *work)
{
    memset(&work->list, 0, sizeof work->list);
    work->list.pool = pg->id.pool;
    work->list.first = pg->hash_first;
    work->list.last = pg->hash_last;
    work->list.after = work->cursor;
    work->list.max = PG_LEARNER_LIST;
    work->list.done = page_done;
    pg_async_begin(pg, &work->async, scan_drop);
    store_list(pg->world->store, &work->list);
}

void pg_learn_scan(struct pg *pg, const struct pg_incoming *in)
{
    if (pg->state != PG_STATE_FILLING || pg->scan || pg->bound != pg->upstream) {
        answer_scan(pg, in->scan->tid, -EAGAIN, 0, NULL);
        return;
    }
    struct learn_scan *work = calloc(1, sizeof *work);
    int error = work ? 0 : -ENOMEM;
    if (work) {
        /* Of its own, since the message goes when this turn ends. */
        work->scan =
            (Limpet__Wire__PgScan *)message_unpack(in->message, &limpet__wire__pg_scan__descriptor);
        error = work->scan ? parse_scan(pg, work) : -ENOMEM;
    }
    if (error) {
        if (work)
            scan_free(work);
        answer_scan(pg, in->scan->tid, error, 0, NULL);
        return;
    }
    pg->scan = work;
    scan_page(pg, work);
}
