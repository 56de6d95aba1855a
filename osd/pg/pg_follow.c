/*
 * Activation, seen by a member: becoming equal to the primary in one step.
 *
 * Objects that the primary pushes before the change-over are kept aside as temporary objects, each
 * with a pair that lets a restart find and remove it. The change-over is one transaction: the
 * temporary objects take their places, entries that the primary does not have leave the log, those
 * that we lack enter it. So our objects are at every instant what our log says (G2), whoever
 * becomes primary next.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"

/* ---- What was received and waits ---- */

struct pg_staged *pg_staged_find(struct pg *pg, const struct object_id *id)
{
    struct pg_staged *staged;
    TAILQ_FOREACH(staged, &pg->staged, link)
    {
        if (object_compare(staged->id, id) == 0)
            return staged;
    }
    return NULL;
}

struct pg_staged *pg_staged_add(struct pg *pg, const struct object_id *id)
{
    if (pg->n_staged >= PG_STAGED_MAX)
        return NULL;
    struct pg_staged *staged = calloc(1, sizeof *staged);
    if (!staged)
        return NULL;
    staged->id = object_id_copy(id);
    if (!staged->id) {
        free(staged);
        return NULL;
    }
    staged->number = ++pg->temporary_next;
    TAILQ_INSERT_TAIL(&pg->staged, staged, link);
    pg->n_staged++;
    return staged;
}

void pg_staged_free(struct pg *pg, struct pg_staged *staged)
{
    TAILQ_REMOVE(&pg->staged, staged, link);
    pg->n_staged--;
    free(staged->id);
    free(staged);
}

static void put_pair_removal(struct pg *pg, struct store_txn *txn, uint64_t number)
{
    uint8_t from[PG_NUMBERED_KEY_LEN], to[PG_NUMBERED_KEY_LEN];
    pg_numbered_key(PG_KEY_TEMPORARY, number, from);
    pg_numbered_key(PG_KEY_TEMPORARY, number + 1, to);
    txn_pg_remove_range(txn, pg->id, from, sizeof from, to, sizeof to);
}

void pg_staged_put(struct pg *pg, struct store_txn *txn, const struct pg_staged *staged)
{
    if (staged->remove) {
        txn_object(txn, staged->id);
        txn_remove(txn);
        return;
    }
    struct object_id temporary = pg_temporary_of(staged->id);
    txn_object(txn, &temporary);
    txn_rename(txn, staged->id);
    put_pair_removal(pg, txn, staged->number);
}

void pg_staged_discard(struct pg *pg, struct store_txn *txn, struct pg_staged *staged)
{
    if (!staged->remove) {
        struct object_id temporary = pg_temporary_of(staged->id);
        txn_object(txn, &temporary);
        txn_remove(txn);
        put_pair_removal(pg, txn, staged->number);
    }
    pg_staged_free(pg, staged);
}

void pg_staged_clear(struct pg *pg, bool discard)
{
    struct pg_step *step = discard && pg->n_staged > 0 ? pg_step_create(pg) : NULL;
    struct pg_staged *staged;
    while ((staged = TAILQ_FIRST(&pg->staged))) {
        if (step)
            pg_staged_discard(pg, &step->txn, staged);
        else
            pg_staged_free(pg, staged);
    }
    assert(pg->n_staged == 0);
    if (step)
        pg_step_submit(step);
}

/* ---- Telling our log ---- */

/*
 * Entries from the newest that we know to be committed: the primary has that one, so it finds
 * where we part. The window of uncommitted entries is bounded; a longer one is cut short, and the
 * primary then finds nothing in common.
 */
static size_t list_entries(struct pg *pg, ProtobufCBinaryData **out)
{
    uint64_t head = pg_log_head(&pg->log).sequence;
    uint64_t first =
        pg->committed > pg->log.base.sequence ? pg->committed : pg->log.base.sequence + 1;
    size_t bytes = 0, n = 0;
    *out = NULL;
    if (head < first)
        return 0;
    for (uint64_t sequence = head; sequence >= first && n < PG_ENTRIES_MAX; sequence--) {
        bytes += pg_log_get(&pg->log, sequence)->len + 8;
        if (bytes > PG_ENTRIES_BYTES)
            break;
        n++;
    }
    ProtobufCBinaryData *list = calloc(n, sizeof *list);
    if (!list)
        return 0;
    for (size_t i = 0; i < n; i++) {
        struct pg_entry *entry = pg_log_get(&pg->log, head - n + 1 + i);
        list[i] = (ProtobufCBinaryData){entry->len, (uint8_t *)&entry->head};
    }
    *out = list;
    return n;
}

void pg_send_info(struct pg *pg, uint64_t attempt, uint32_t answers, int result)
{
    Limpet__Wire__PgInfo info = LIMPET__WIRE__PG_INFO__INIT;
    Limpet__Wire__Version head = LIMPET__WIRE__VERSION__INIT;
    Limpet__Wire__Version tail = LIMPET__WIRE__VERSION__INIT;
    struct wire_version newest = pg_log_head(&pg->log);
    head.config = newest.config;
    head.sequence = newest.sequence;
    tail.config = pg->log.base.config;
    tail.sequence = pg->log.base.sequence;
    info.pool = pg->id.pool;
    info.seed = pg->id.seed;
    info.config = pg->upstream_config;
    info.epoch = pg_epoch(pg);
    info.result = result;
    info.head = &head;
    info.tail = &tail;
    info.complete = pg->complete;
    info.has_answers = true;
    info.answers = answers;
    info.has_attempt = true;
    info.attempt = attempt;
    info.has_committed = true;
    info.committed = pg->committed;
    Limpet__Wire__Version fill_from = LIMPET__WIRE__VERSION__INIT;
    if (!pg->complete) {
        fill_from.config = pg->fill_from.config;
        fill_from.sequence = pg->fill_from.sequence;
        info.fill_from = &fill_from;
    }
    if (answers == 1 || answers == 5)
        info.n_entries = list_entries(pg, &info.entries);
    pg_answer_proto(pg, MSG_PG_INFO, &info.base);
    free(info.entries);
}

/* ---- Changing over ---- */

int pg_entries_check(const struct pg *pg, size_t n, const ProtobufCBinaryData *entries,
                     uint64_t after)
{
    for (size_t i = 0; i < n; i++) {
        struct pg_entry_layout head;
        struct object_id id;
        if (pg_entry_parse(entries[i].data, entries[i].len, &head, &id) ||
            head.version.sequence != after + 1 + i ||
            pg_decode_id(pg, entries[i].data + sizeof head, head.object_len, &id))
            return -EBADMSG;
    }
    return 0;
}

static int check_switch(const struct pg *pg, const Limpet__Wire__PgActivate *activate)
{
    struct wire_version ours;
    if (pg->state != PG_STATE_REPLICA_WAITING || activate->attempt != pg->upstream_attempt ||
        pg->bound != pg->upstream)
        return -EAGAIN;
    if (!activate->cut_after || !activate->head)
        return -EBADMSG;
    uint64_t cut = activate->cut_after->sequence;
    if (!pg->complete || !pg_log_version(&pg->log, cut, &ours) ||
        ours.config != activate->cut_after->config || cut < pg->committed)
        return -EAGAIN;
    if (activate->head->sequence != cut + activate->n_entries)
        return -EBADMSG;
    const struct pg_staged *staged;
    TAILQ_FOREACH(staged, &pg->staged, link)
    {
        if (!staged->remove && !staged->whole)
            return -EAGAIN;
    }
    return pg_entries_check(pg, activate->n_entries, activate->entries, cut);
}

/*
 * Nothing differs, and all is durable: an earlier change-over as well, which may have done nothing
 * but take entries back.
 */
static bool is_equal_already(const struct pg *pg, const Limpet__Wire__PgActivate *activate)
{
    uint64_t head = pg_log_head(&pg->log).sequence;
    return pg->persisted && activate->n_entries == 0 && TAILQ_EMPTY(&pg->staged) &&
           activate->cut_after->sequence == head && pg->durable == head &&
           (pg->switches == 0 || planted(PLANTED_EQUAL_TOO_EARLY));
}

static void switch_done(struct pg_step *step)
{
    struct pg *pg = step->async.pg;
    assert(pg->switches > 0);
    pg->switches--;
    pg_durable_advance(pg, step->generation, step->sequence);
    pg_activate_caught_up(pg);
    if (step->generation == pg->generation && pg->state == PG_STATE_REPLICA_ACTIVE &&
        step->attempt == pg->upstream_attempt)
        pg_send_info(pg, step->attempt, 2, 0);
}

/* Takes back entries above `cut`. What of them is still on its way to the store counts no more. */
static void cut_log(struct pg *pg, struct store_txn *txn, uint64_t cut)
{
    uint8_t from[PG_NUMBERED_KEY_LEN], to[PG_NUMBERED_KEY_LEN];
    if (cut == pg_log_head(&pg->log).sequence)
        return;
    assert(cut >= pg->committed);
    pg_numbered_key(PG_KEY_LOG, cut + 1, from);
    pg_numbered_key(PG_KEY_LOG, UINT64_MAX, to);
    txn_pg_remove_range(txn, pg->id, from, sizeof from, to, sizeof to);
    pg_log_cut(&pg->log, cut);
    pg_dirty_cut(&pg->dirty, cut);
    pg->generation++;
    if (pg->durable > cut)
        pg->durable = cut;
}

static void switch_over(struct pg *pg, const Limpet__Wire__PgActivate *activate)
{
    struct pg_step *step = pg_step_create(pg);
    if (!step) {
        pg_send_info(pg, activate->attempt, 2, -ENOMEM);
        return;
    }
    bool failed = false;
    struct pg_staged *staged;
    while ((staged = TAILQ_FIRST(&pg->staged))) {
        pg_staged_put(pg, &step->txn, staged);
        pg_staged_free(pg, staged);
    }
    cut_log(pg, &step->txn, activate->cut_after->sequence);
    for (size_t i = 0; i < activate->n_entries && !failed; i++) {
        const ProtobufCBinaryData *data = &activate->entries[i];
        struct pg_entry *entry = pg_entry_add(pg, data->data, data->len);
        failed = !entry;
        if (entry)
            pg_log_entry_put(pg, &step->txn, entry);
    }
    pg_log_tidy(pg, &step->txn);
    pg_put_state(pg, &step->txn);
    if (failed || step->txn.ops.failed) {
        txn_fini(&step->txn);
        free(step);
        pg_fatal(pg, -ENOMEM, "no memory to become equal to the primary");
        return;
    }
    step->done = switch_done;
    step->attempt = activate->attempt;
    step->sequence = pg_log_head(&pg->log).sequence;
    pg->switches++;
    pg_set_state(pg, PG_STATE_REPLICA_ACTIVE);
    pg_step_submit(step);
}

/* Second step: all members are, or are becoming, equal. */
static void receive_switch(struct pg *pg, const Limpet__Wire__PgActivate *activate)
{
    int error = check_switch(pg, activate);
    if (error) {
        log_info(pg->world->env, "change-over refused", "pg=%s attempt=%" PRIu64 " error=\"%s\"",
                 pg_text(pg), activate->attempt, error_text(error));
        pg_send_info(pg, activate->attempt, 2, error);
    } else if (is_equal_already(pg, activate)) {
        pg_set_state(pg, PG_STATE_REPLICA_ACTIVE);
        pg_send_info(pg, activate->attempt, 2, 0);
    } else {
        switch_over(pg, activate);
    }
}

void pg_activated_by(struct pg *pg, const Limpet__Wire__PgActivate *activate)
{
    if (activate->tell) {
        pg_learn_tell(pg, activate);
        return;
    }
    if (activate->start_fill) {
        pg_learn_start(pg, activate);
        return;
    }
    if (activate->filled) {
        pg_learn_filled(pg, activate);
        return;
    }
    if (!pg_is_member(pg, pg->world->self)) {
        pg_send_info(pg, activate->attempt, 0, -EAGAIN);
        return;
    }
    if (activate->activated) {
        receive_switch(pg, activate);
        return;
    }
    /* First step: whatever an earlier attempt prepared is void. */
    pg_staged_clear(pg, true);
    pg_learn_stop(pg);
    pg->upstream_attempt = activate->attempt;
    pg->bound = pg->upstream;
    pg_set_state(pg, PG_STATE_REPLICA_WAITING);
    pg_send_info(pg, activate->attempt, 1, 0);
}
