/*
 * A suspect of a scrub: one object, held, looked at by itself, judged, and made good (S2 to S4 in
 * pg_scrub.c).
 */
#include "osd/pg/pg_scrub_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"

static void repair_next(struct pg_scrub *scrub);

void scrub_unlock(struct pg_scrub *scrub)
{
    struct pg_object *object = scrub->locked;
    scrub->locked = NULL;
    if (object)
        pg_object_release(object, false);
}

void scrub_drop_suspect(struct pg_scrub *scrub)
{
    struct pg_name *name = TAILQ_FIRST(&scrub->suspects);
    TAILQ_REMOVE(&scrub->suspects, name, link);
    free(name);
}

/* ---- A suspect ---- */

static void suspect_check(struct pg_scrub *scrub)
{
    scrub->phase = SCRUB_CHECKING;
    scrub_ask_all(scrub, scrub->check_deep, TAILQ_FIRST(&scrub->suspects));
}

static void object_ready(struct object_waiter *waiter, struct pg_object *object, int error)
{
    struct pg_scrub *scrub = container_of(waiter, struct pg_scrub, waiter);
    if (error) {
        /* What the object is cannot be read here, so nothing can be said or done. */
        pg_is_read_error(scrub->pg, error);
        pg_inconsistent_unreadable(scrub->pg, object);
        scrub_drop_suspect(scrub);
        scrub_suspect_next(scrub);
        return;
    }
    pg_object_hold(object, false);
    scrub->locked = object;
    suspect_check(scrub);
}

void scrub_suspect_next(struct pg_scrub *scrub)
{
    scrub_unlock(scrub);
    struct pg_name *name = TAILQ_FIRST(&scrub->suspects);
    if (!name) {
        scrub_chunk_done(scrub);
        return;
    }
    scrub->phase = SCRUB_ENTERING;
    scrub->silent_ticks = 0;
    scrub->check_deep = scrub->deep;
    scrub->repaired_once = false;
    scrub->waiter.writes = false;
    scrub->waiter.ready = object_ready;
    if (pg_object_enter(scrub->pg, name->bytes, name->len, &scrub->waiter))
        scrub_back_off(scrub, "no memory");
}

static void suspect_done(struct pg_scrub *scrub)
{
    scrub_drop_suspect(scrub);
    scrub_suspect_next(scrub);
}

/* ---- Judging it ---- */

/* What the newest entry of the log about the object says. */
static enum scrub_log ask_log(const struct pg *pg, const struct pg_name *name,
                              struct wire_version *version)
{
    uint64_t head = pg_log_head(&pg->log).sequence;
    uint64_t snap = pg_id_snap(name->bytes, name->len);
    bool clone = snap != OBJECT_HEAD;
    uint8_t object[PG_OBJECT_ID_MAX];
    pg_id_with_snap(name->bytes, name->len, OBJECT_HEAD, object);
    for (uint64_t sequence = head; sequence > pg->log.base.sequence; sequence--) {
        const struct pg_entry *entry = pg_log_get(&pg->log, sequence);
        if (entry->head.kind == PG_ENTRY_FAILED || entry->head.object_len != name->len ||
            memcmp(&entry->head + 1, object, name->len) != 0)
            continue;
        /* A clone keeps the version of what it was made from, which entries do not tell. */
        if (clone && entry->head.clone == snap)
            return entry->head.trimmed > 0 ? SCRUB_LOG_REMOVED : SCRUB_LOG_SILENT;
        if (clone)
            continue;
        *version = entry->head.version;
        return entry->head.kind == PG_ENTRY_REMOVE ? SCRUB_LOG_REMOVED : SCRUB_LOG_EXISTS;
    }
    return SCRUB_LOG_SILENT;
}

static void collect(struct pg_scrub *scrub, const struct scrub_entry *entries[PG_SIZE_MAX])
{
    for (uint8_t i = 0; i < scrub->n_copies; i++)
        entries[i] = scrub->copies[i].map.n > 0 ? &scrub->copies[i].map.entries[0] : NULL;
}

static void note_found(struct pg_scrub *scrub, const struct scrub_entry *const entries[])
{
    struct pg *pg = scrub->pg;
    const struct pg_name *name = TAILQ_FIRST(&scrub->suspects);
    struct pg_inconsistent *found = pg_inconsistent_note(pg, name->bytes, name->len);
    const struct scrub_entry *good = scrub->good >= 0 ? entries[scrub->good] : NULL;
    scrub->found++;
    log_error(pg->world->env, "object inconsistent", "pg=%s name=%.*s good=%d", pg_text(pg),
              (int)scrub->locked->id.name_len, (const char *)scrub->locked->id.name,
              scrub->good < 0 ? -1 : scrub->copies[scrub->good].osd);
    if (!found)
        return;
    found->selected = scrub->good < 0 ? -1 : scrub->copies[scrub->good].osd;
    found->n_shards = scrub->n_copies;
    found->version = good ? good->version : scrub->locked->state.version;
    for (uint8_t i = 0; i < scrub->n_copies; i++) {
        const struct scrub_entry *entry = entries[i];
        found->shards[i].osd = scrub->copies[i].osd;
        found->shards[i].errors = scrub->wrong[i];
        found->shard_errors |= scrub->wrong[i];
        if (!entry)
            continue;
        found->shards[i].version = entry->version;
        found->shards[i].size = entry->size;
        found->shards[i].omap_digest = entry->omap_digest;
        found->shards[i].data_digest = entry->data_digest;
    }
    found->errors =
        found->shard_errors & ~(uint32_t)(SCRUB_MISSING | SCRUB_UNEXPECTED | SCRUB_READ);
}

static void note_repaired(struct pg_scrub *scrub)
{
    const struct pg_name *name = TAILQ_FIRST(&scrub->suspects);
    struct pg_inconsistent *found;
    scrub->repaired++;
    TAILQ_FOREACH(found, &scrub->pg->inconsistents, link)
    {
        if (found->len == name->len && memcmp(found->bytes, name->bytes, name->len) == 0)
            found->repaired = true;
    }
    log_info(scrub->pg->world->env, "object is consistent again", "pg=%s name=%.*s",
             pg_text(scrub->pg), (int)scrub->locked->id.name_len,
             (const char *)scrub->locked->id.name);
}

static void judge(struct pg_scrub *scrub, const struct scrub_entry *const entries[])
{
    struct wire_version version = {0};
    enum scrub_log log = ask_log(scrub->pg, TAILQ_FIRST(&scrub->suspects), &version);
    scrub->good = scrub_choose(entries, scrub->n_copies, log, version);
    memset(scrub->wrong, 0, sizeof scrub->wrong);
    for (uint8_t i = 0; i < scrub->n_copies; i++) {
        if (scrub->good >= 0)
            scrub->wrong[i] = scrub_errors(entries[scrub->good], entries[i]);
        else
            scrub->wrong[i] = !entries[i] ? SCRUB_MISSING : entries[i]->error ? SCRUB_READ : 0;
    }
    note_found(scrub, entries);
    if (scrub->good < 0) {
        suspect_done(scrub);
        return;
    }
    scrub->repaired_once = true;
    scrub->phase = SCRUB_REPAIRING;
    scrub->silent_ticks = 0;
    repair_next(scrub);
}

/* All copies of the suspect, which is held. */
void scrub_compare_suspect(struct pg_scrub *scrub)
{
    const struct scrub_entry *entries[PG_SIZE_MAX] = {NULL};
    bool unknown = false;
    collect(scrub, entries);
    for (uint8_t i = 0; i < scrub->n_copies; i++)
        unknown |= entries[i] && entries[i]->error && entries[i]->error != -EIO;
    if (unknown)
        scrub_back_off(scrub, "a copy could not be looked at");
    else if (scrub_all_same(entries, scrub->n_copies)) {
        if (scrub->repaired_once)
            note_repaired(scrub);
        suspect_done(scrub);
    } else if (!scrub->check_deep) {
        /* Whom to believe is decided with all that can be known. */
        scrub->check_deep = true;
        suspect_check(scrub);
    } else if (scrub->repaired_once) {
        log_error(scrub->pg->world->env, "repair did not help", "pg=%s", pg_text(scrub->pg));
        suspect_done(scrub);
    } else {
        judge(scrub, entries);
    }
}

/* ---- Repairing it ---- */

static void own_repaired(struct repair_waiter *waiter, int error)
{
    struct pg_scrub *scrub = container_of(waiter, struct pg_scrub, repair);
    if (error == -ECANCELED)
        return;
    if (error) {
        suspect_done(scrub);
        return;
    }
    scrub->wrong[0] = 0;
    repair_next(scrub);
}

static void own_removed(struct pg_step *step)
{
    struct pg_scrub *scrub = step->async.pg->scrub;
    if (!scrub || scrub->phase != SCRUB_REPAIRING || scrub->tid != step->tid || !scrub->locked)
        return;
    scrub->tid = 0;
    memset(&scrub->locked->state, 0, sizeof scrub->locked->state);
    scrub->wrong[0] = 0;
    repair_next(scrub);
}

/* Our copy is one too many. */
static void remove_own(struct pg_scrub *scrub)
{
    struct pg_step *step = pg_step_create(scrub->pg);
    if (!step) {
        scrub_back_off(scrub, "no memory");
        return;
    }
    txn_object(&step->txn, &scrub->locked->id);
    txn_remove(&step->txn);
    scrub->tid = ++scrub->pg->next_tid;
    step->tid = scrub->tid;
    step->done = own_removed;
    pg_step_submit(step);
}

static void push_done(struct pg_push *push, int error)
{
    struct pg_scrub *scrub = push->pg->scrub;
    assert(scrub && scrub->push == push);
    scrub->push = NULL;
    scrub->silent_ticks = 0;
    if (error) {
        scrub_back_off(scrub, error_text(error));
        return;
    }
    repair_next(scrub);
}

static void push_to(struct pg_scrub *scrub, uint8_t copy)
{
    struct pg *pg = scrub->pg;
    const struct pg_name *name = TAILQ_FIRST(&scrub->suspects);
    struct pg_push *push = pg_push_create(pg, scrub->copies[copy].osd, name->bytes, name->len);
    if (!push) {
        scrub_back_off(scrub, "no memory");
        return;
    }
    scrub->wrong[copy] = 0;
    push->repairs = true;
    push->repair_after = pg_log_head(&pg->log).sequence;
    push->done = push_done;
    scrub->push = push;
    if (planted(PLANTED_REPAIR_WITHOUT_HOLD))
        scrub_unlock(scrub);
    pg_push_start(push, false);
}

static void repair_next(struct pg_scrub *scrub)
{
    bool exists = scrub->copies[scrub->good].map.n > 0;
    if (scrub->wrong[0] && !exists) {
        remove_own(scrub);
        return;
    }
    if (scrub->wrong[0]) {
        scrub->repair.done = own_repaired;
        if (pg_repair_ask(scrub->pg, scrub->locked, scrub->copies[scrub->good].osd, &scrub->repair))
            scrub_back_off(scrub, "our own copy cannot be repaired now");
        return;
    }
    for (uint8_t i = 1; i < scrub->n_copies; i++) {
        if (!scrub->wrong[i])
            continue;
        push_to(scrub, i);
        return;
    }
    if (planted(PLANTED_REPAIR_WITHOUT_HOLD) && !scrub->locked) {
        suspect_done(scrub);
        return;
    }
    suspect_check(scrub);
}
