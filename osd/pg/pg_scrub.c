/*
 * Scrub, seen by the primary: whether all copies hold the same, and making them so.
 *
 *  S1  Nothing is held while copies are surveyed. Chunk by chunk, in the order of listing, every
 *      member and we ourselves tell what we have. What all tell alike is alike: equal versions mean
 *      equal contents. What differs, or could not be read, is a suspect and no more: it may just
 *      have been written.
 *
 *  S2  A suspect is looked at again by itself while it is held as by a reader: writes before that
 *      are committed on every member, those after it wait. What differs now is inconsistent.
 *
 *  S3  A copy is overwritten only by one that was read whole, with all its checksums, under the
 *      same hold, and that scrub_choose() believes. Where there is none nothing is changed.
 *
 *  S4  Our copy is made good first (pg_repair.c), then those of members, by pushes: a push reads
 *      our copy. At the end the object is surveyed once more, still held, and counts as repaired
 *      only if all copies are alike then.
 *
 *  S5  A hold ends when nothing comes for PG_SCRUB_PATIENCE_TICKS, when the configuration changes,
 *      or a session with a member ends: then the chunk is done again.
 *
 *     TURN --> SURVEY --> (no suspects) --> next chunk, or the end
 *                 |
 *                 v
 *     ENTERING --> CHECKING --alike--> next suspect
 *                 |   ^
 *          differs|   | once more
 *                 v   |
 *              REPAIRING
 *
 * BACKING_OFF: the chunk begins again at the next tick. One scrub runs on an OSD at a time, and
 * each chunk is a turn of its background work.
 */
#include "osd/pg/pg_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"

enum scrub_phase {
    SCRUB_TURN,
    SCRUB_SURVEY,
    SCRUB_ENTERING,
    SCRUB_CHECKING,
    SCRUB_REPAIRING,
    SCRUB_BACKING_OFF,
};

struct scrub_copy {
    int32_t osd;
    bool answered;
    struct scrub_map map;
};

struct pg_scrub {
    struct pg *pg;
    enum scrub_phase phase;
    bool deep;
    bool ordered;
    uint64_t number;
    struct pg_turn turn;
    uint32_t silent_ticks, failures;
    uint64_t objects, found, repaired; /* Counters, for the log. */

    struct object_id *after, *upto; /* The chunk; NULL: from the beginning, to the end. */
    uint64_t tid;                   /* Of what copies are asked now. */
    uint8_t n_copies;               /* Ours is the first. */
    struct scrub_copy copies[PG_SIZE_MAX];
    struct pg_survey *survey;
    struct pg_name_list suspects;

    /* The first suspect. */
    struct object_waiter waiter;
    struct pg_object *locked;
    bool check_deep;
    bool repaired_once;          /* This check tells whether it helped. */
    uint32_t wrong[PG_SIZE_MAX]; /* Errors of the copies that are to be repaired. */
    int good;                    /* The copy to believe. */
    struct repair_waiter repair;
    struct pg_push *push;
    uint64_t push_offset; /* How far it was at the last tick. */
};

#define SCRUB_RETRY_NS (30 * SEC_NS)

static void suspect_next(struct pg_scrub *scrub);
static void repair_next(struct pg_scrub *scrub);

uint32_t pg_scrub_level(const struct pg *pg)
{
    if (!pg->scrub)
        return 0;
    return pg->scrub->deep ? 2 : 1;
}

/* ---- Letting go ---- */

static void unlock(struct pg_scrub *scrub)
{
    struct pg_object *object = scrub->locked;
    scrub->locked = NULL;
    if (object)
        pg_object_release(object, false);
}

static void forget_answers(struct pg_scrub *scrub)
{
    if (scrub->survey)
        pg_survey_cancel(scrub->survey);
    scrub->survey = NULL;
    scrub->tid = 0;
    for (uint8_t i = 0; i < scrub->n_copies; i++) {
        scrub_map_fini(&scrub->copies[i].map);
        scrub->copies[i].answered = false;
    }
}

static void drop_suspect(struct pg_scrub *scrub)
{
    struct pg_name *name = TAILQ_FIRST(&scrub->suspects);
    TAILQ_REMOVE(&scrub->suspects, name, link);
    free(name);
}

/* Everything of the chunk. The push is gone already when the group stops. */
static void chunk_abandon(struct pg_scrub *scrub, bool stopping)
{
    forget_answers(scrub);
    if (scrub->push && !stopping)
        pg_push_cancel(scrub->push);
    scrub->push = NULL;
    pg_object_leave(&scrub->waiter);
    pg_repair_leave(&scrub->repair);
    while (!TAILQ_EMPTY(&scrub->suspects))
        drop_suspect(scrub);
    free(scrub->upto);
    scrub->upto = NULL;
    pg_turn_drop(&scrub->pg->world->turns, &scrub->turn);
    unlock(scrub);
}

static void scrub_free(struct pg_scrub *scrub, bool stopping)
{
    struct pg *pg = scrub->pg;
    chunk_abandon(scrub, stopping);
    free(scrub->after);
    pg->scrub = NULL;
    if (pg->world->scrubbing == pg)
        pg->world->scrubbing = NULL;
    free(scrub);
}

void pg_scrub_stop(struct pg *pg)
{
    struct pg_scrub *scrub = pg->scrub;
    if (scrub && scrub->ordered) {
        pg->scrub_ordered |= !scrub->deep;
        pg->deep_ordered |= scrub->deep;
    }
    if (scrub)
        scrub_free(scrub, true);
    pg_repairs_stop(pg);
    pg_surveys_stop(pg);
    pg->scrub_due_ns = pg->deep_due_ns = 0;
}

static void back_off(struct pg_scrub *scrub, const char *why)
{
    struct pg *pg = scrub->pg;
    log_info(pg->world->env, "scrub begins a chunk again", "pg=%s why=\"%s\"", pg_text(pg), why);
    chunk_abandon(scrub, false);
    scrub->phase = SCRUB_BACKING_OFF;
    scrub->failures++;
}

static void put_off(struct pg_scrub *scrub)
{
    struct pg *pg = scrub->pg;
    log_warn(pg->world->env, "scrub put off", "pg=%s", pg_text(pg));
    pg->scrub_ordered |= scrub->ordered && !scrub->deep;
    pg->deep_ordered |= scrub->ordered && scrub->deep;
    pg->scrub_retry_ns = env_now(pg->world->env) + SCRUB_RETRY_NS;
    scrub_free(scrub, false);
    pg->world->ops->changed(pg->world->ctx, pg);
}

/* ---- Asking all copies ---- */

static void all_answered(struct pg_scrub *scrub);

static void check_answers(struct pg_scrub *scrub)
{
    scrub->silent_ticks = 0;
    for (uint8_t i = 0; i < scrub->n_copies; i++)
        if (!scrub->copies[i].answered)
            return;
    scrub->tid = 0;
    all_answered(scrub);
}

static void own_done(struct pg_survey *survey, int error)
{
    struct pg_scrub *scrub = survey->pg->scrub;
    assert(scrub && scrub->survey == survey);
    scrub->survey = NULL;
    if (error) {
        back_off(scrub, error_text(error));
        return;
    }
    scrub->copies[0].map = survey->map;
    memset(&survey->map, 0, sizeof survey->map);
    scrub->copies[0].answered = true;
    check_answers(scrub);
}

static void send_question(struct pg_scrub *scrub, bool deep, const struct pg_name *only)
{
    struct pg *pg = scrub->pg;
    Limpet__Wire__PgScrub ask = LIMPET__WIRE__PG_SCRUB__INIT;
    uint8_t after[PG_OBJECT_ID_MAX];
    struct encoder e;
    ask.pool = pg->id.pool;
    ask.seed = pg->id.seed;
    ask.config = pg->view.config;
    ask.tid = scrub->tid;
    ask.deep = deep;
    if (only) {
        ask.has_object = true;
        ask.object = (ProtobufCBinaryData){only->len, (uint8_t *)(uintptr_t)only->bytes};
    } else if (scrub->after) {
        pg_encode_id(scrub->after, &e, after);
        ask.has_after = true;
        ask.after = (ProtobufCBinaryData){e.len, after};
    }
    for (uint8_t i = 1; i < scrub->n_copies; i++)
        pg_send_proto(pg, scrub->copies[i].osd, MSG_PG_SCRUB, &ask.base);
}

/* Members first, so that all work at the same time. Our own survey answers later. */
static void ask_all(struct pg_scrub *scrub, bool deep, const struct pg_name *only)
{
    struct pg *pg = scrub->pg;
    forget_answers(scrub);
    struct pg_survey *survey = pg_survey_create(pg, deep);
    if (survey && !only && scrub->after) {
        survey->after = object_id_copy(scrub->after);
        if (!survey->after) {
            pg_survey_discard(survey);
            survey = NULL;
        }
    }
    if (!survey) {
        back_off(scrub, "too much to do");
        return;
    }
    scrub->tid = ++pg->next_tid;
    scrub->silent_ticks = 0;
    scrub->n_copies = 1;
    scrub->copies[0].osd = pg->world->self;
    for (uint8_t i = 0; i < pg->n_peers; i++)
        scrub->copies[scrub->n_copies++].osd = pg->peers[i].osd;
    send_question(scrub, deep, only);
    survey->done = own_done;
    scrub->survey = survey;
    if (!only) {
        pg_survey_range(survey);
    } else if (pg_survey_object(survey, only->bytes, only->len)) {
        scrub->survey = NULL;
        back_off(scrub, "no memory");
    }
}

/* The answer as a map: well-formed, and in order. */
static int take_answer(const struct pg_scrub *scrub, const Limpet__Wire__PgScrubReply *reply,
                       struct scrub_map *map)
{
    const struct pg *pg = scrub->pg;
    const struct object_id *previous = scrub->phase == SCRUB_SURVEY ? scrub->after : NULL;
    const struct pg_name *only =
        scrub->phase == SCRUB_CHECKING ? TAILQ_FIRST(&scrub->suspects) : NULL;
    struct object_id id;
    for (size_t i = 0; i < reply->n_objects; i++) {
        const Limpet__Wire__PgScrubObject *object = reply->objects[i];
        if (pg_decode_id(pg, object->id.data, object->id.len, &id) ||
            (previous && object_compare(previous, &id) >= 0) ||
            (only &&
             (object->id.len != only->len || memcmp(object->id.data, only->bytes, only->len) != 0)))
            return -EBADMSG;
        struct scrub_entry *entry = scrub_map_add(map, object->id.data, object->id.len);
        if (!entry)
            return -EBADMSG;
        entry->version.config = object->version->config;
        entry->version.sequence = object->version->sequence;
        entry->size = object->size;
        entry->meta_digest = object->meta_digest;
        entry->omap_digest = object->omap_digest;
        entry->data_digest = object->data_digest;
        entry->error = object->has_error ? object->error : 0;
        previous = &entry->id;
    }
    if (!reply->has_upto || only)
        return 0;
    struct decoder d;
    decoder_init(&d, reply->upto.data, reply->upto.len);
    decode_object_id(&d, &id);
    if (decoder_end(&d) || id.pool != pg->id.pool ||
        (previous && object_compare(previous, &id) > 0) ||
        (scrub->after && object_compare(scrub->after, &id) >= 0))
        return -EBADMSG;
    map->upto = object_id_copy(&id);
    return map->upto ? 0 : -ENOMEM;
}

void pg_scrub_reply(struct pg *pg, int32_t from, const Limpet__Wire__PgScrubReply *reply)
{
    struct pg_scrub *scrub = pg->scrub;
    if (!scrub || reply->tid != scrub->tid ||
        (scrub->phase != SCRUB_SURVEY && scrub->phase != SCRUB_CHECKING))
        return;
    for (uint8_t i = 1; i < scrub->n_copies; i++) {
        struct scrub_copy *copy = &scrub->copies[i];
        if (copy->osd != from || copy->answered)
            continue;
        int error = reply->result ? reply->result : take_answer(scrub, reply, &copy->map);
        if (error) {
            back_off(scrub, error_text(error));
            return;
        }
        copy->answered = true;
        check_answers(scrub);
        return;
    }
}

/* ---- A chunk ---- */

/* Where the shortest answer ends; -ENOMEM. */
static int find_end(struct pg_scrub *scrub)
{
    const struct object_id *upto = NULL;
    for (uint8_t i = 0; i < scrub->n_copies; i++) {
        const struct object_id *end = scrub->copies[i].map.upto;
        if (end && (!upto || object_compare(end, upto) < 0))
            upto = end;
    }
    scrub->upto = upto ? object_id_copy(upto) : NULL;
    return upto && !scrub->upto ? -ENOMEM : 0;
}

/* The next object that some copy has, and each copy's entry of it; false at the end. */
static bool next_entries(struct pg_scrub *scrub, uint32_t next[PG_SIZE_MAX],
                         const struct scrub_entry *entries[PG_SIZE_MAX])
{
    const struct object_id *id = NULL;
    for (uint8_t i = 0; i < scrub->n_copies; i++) {
        const struct scrub_map *map = &scrub->copies[i].map;
        if (next[i] < map->n && (!id || object_compare(&map->entries[next[i]].id, id) < 0))
            id = &map->entries[next[i]].id;
    }
    if (!id || (scrub->upto && object_compare(id, scrub->upto) > 0))
        return false;
    for (uint8_t i = 0; i < scrub->n_copies; i++) {
        const struct scrub_map *map = &scrub->copies[i].map;
        entries[i] = NULL;
        if (next[i] < map->n && object_compare(&map->entries[next[i]].id, id) == 0)
            entries[i] = &map->entries[next[i]++];
    }
    return true;
}

static bool all_same(const struct scrub_entry *const entries[], uint8_t n)
{
    bool same = !entries[0] || !entries[0]->error;
    for (uint8_t i = 1; i < n; i++)
        same = same && scrub_same(entries[0], entries[i]);
    return same;
}

static int add_suspect(struct pg_scrub *scrub, const struct scrub_entry *entry)
{
    struct pg_name *name = malloc(sizeof *name + entry->len);
    if (!name)
        return -ENOMEM;
    name->len = entry->len;
    memcpy(name->bytes, entry->bytes, entry->len);
    TAILQ_INSERT_TAIL(&scrub->suspects, name, link);
    return 0;
}

static void compare_chunk(struct pg_scrub *scrub)
{
    const struct scrub_entry *entries[PG_SIZE_MAX] = {NULL};
    uint32_t next[PG_SIZE_MAX] = {0};
    int error = find_end(scrub);
    while (!error && next_entries(scrub, next, entries)) {
        scrub->objects++;
        if (all_same(entries, scrub->n_copies))
            continue;
        uint8_t i = 0;
        while (!entries[i])
            i++;
        error = add_suspect(scrub, entries[i]);
    }
    if (error) {
        back_off(scrub, "no memory");
        return;
    }
    suspect_next(scrub);
}

static void turn_came(struct pg_turn *turn)
{
    struct pg_scrub *scrub = container_of(turn, struct pg_scrub, turn);
    assert(scrub->phase == SCRUB_TURN);
    scrub->phase = SCRUB_SURVEY;
    ask_all(scrub, scrub->deep, NULL);
}

static void chunk_begin(struct pg_scrub *scrub)
{
    scrub->phase = SCRUB_TURN;
    scrub->silent_ticks = 0;
    scrub->turn.go = turn_came;
    scrub->turn.bytes = SCRUB_PIECE;
    pg_turn_ask(&scrub->pg->world->turns, &scrub->turn, false);
}

/* ---- The end ---- */

static void tell_stamps(struct pg_scrub *scrub)
{
    struct pg *pg = scrub->pg;
    Limpet__Wire__PgScrub over = LIMPET__WIRE__PG_SCRUB__INIT;
    over.pool = pg->id.pool;
    over.seed = pg->id.seed;
    over.config = pg->view.config;
    over.deep = scrub->deep;
    over.has_scrub_stamp_ns = true;
    over.scrub_stamp_ns = pg->scrub_stamp_ns;
    over.has_deep_stamp_ns = pg->deep_stamp_ns > 0;
    over.deep_stamp_ns = pg->deep_stamp_ns;
    for (uint8_t i = 0; i < pg->n_peers; i++)
        pg_send_proto(pg, pg->peers[i].osd, MSG_PG_SCRUB, &over.base);
}

static void scrub_finish(struct pg_scrub *scrub)
{
    struct pg *pg = scrub->pg;
    struct env *env = pg->world->env;
    log_info(env, "scrub done",
             "pg=%s deep=%d objects=%" PRIu64 " inconsistent=%" PRIu64 " repaired=%" PRIu64,
             pg_text(pg), scrub->deep, scrub->objects, scrub->found, scrub->repaired);
    pg->scrub_stamp_ns = env_wall(env);
    pg->scrub_due_ns = 0;
    if (scrub->deep) {
        pg->deep_stamp_ns = pg->scrub_stamp_ns;
        pg->deep_due_ns = 0;
    }
    pg_scrub_save(pg);
    tell_stamps(scrub);
    pg_inconsistents_expire(pg, scrub->number, scrub->deep);
    scrub_free(scrub, false);
    pg->world->ops->changed(pg->world->ctx, pg);
}

static void chunk_done(struct pg_scrub *scrub)
{
    forget_answers(scrub);
    scrub->failures = 0;
    pg_turn_drop(&scrub->pg->world->turns, &scrub->turn);
    if (!scrub->upto) {
        scrub_finish(scrub);
        return;
    }
    free(scrub->after);
    scrub->after = scrub->upto;
    scrub->upto = NULL;
    chunk_begin(scrub);
}

/* ---- A suspect ---- */

static void suspect_check(struct pg_scrub *scrub)
{
    scrub->phase = SCRUB_CHECKING;
    ask_all(scrub, scrub->check_deep, TAILQ_FIRST(&scrub->suspects));
}

static void object_ready(struct object_waiter *waiter, struct pg_object *object, int error)
{
    struct pg_scrub *scrub = container_of(waiter, struct pg_scrub, waiter);
    if (error) {
        /* What the object is cannot be read here, so nothing can be said or done. */
        pg_is_read_error(scrub->pg, error);
        pg_inconsistent_unreadable(scrub->pg, object);
        drop_suspect(scrub);
        suspect_next(scrub);
        return;
    }
    pg_object_hold(object, false);
    scrub->locked = object;
    suspect_check(scrub);
}

static void suspect_next(struct pg_scrub *scrub)
{
    unlock(scrub);
    struct pg_name *name = TAILQ_FIRST(&scrub->suspects);
    if (!name) {
        chunk_done(scrub);
        return;
    }
    scrub->phase = SCRUB_ENTERING;
    scrub->silent_ticks = 0;
    scrub->check_deep = scrub->deep;
    scrub->repaired_once = false;
    scrub->waiter.writes = false;
    scrub->waiter.ready = object_ready;
    if (pg_object_enter(scrub->pg, name->bytes, name->len, &scrub->waiter))
        back_off(scrub, "no memory");
}

static void suspect_done(struct pg_scrub *scrub)
{
    drop_suspect(scrub);
    suspect_next(scrub);
}

/* ---- Judging it ---- */

/* What the newest entry of the log about the object says. */
static enum scrub_log ask_log(const struct pg *pg, const struct pg_name *name,
                              struct wire_version *version)
{
    uint64_t head = pg_log_head(&pg->log).sequence;
    for (uint64_t sequence = head; sequence > pg->log.base.sequence; sequence--) {
        const struct pg_entry *entry = pg_log_get(&pg->log, sequence);
        if (entry->head.kind == PG_ENTRY_FAILED || entry->head.object_len != name->len ||
            memcmp(&entry->head + 1, name->bytes, name->len) != 0)
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

/* Pushes carry no map of an object yet: a copy would lose it. */
static bool can_repair(const struct scrub_entry *const entries[], int good)
{
    return good >= 0 && (!entries[good] || entries[good]->omap_digest == 0);
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
    if (!can_repair(entries, scrub->good)) {
        suspect_done(scrub);
        return;
    }
    scrub->repaired_once = true;
    scrub->phase = SCRUB_REPAIRING;
    scrub->silent_ticks = 0;
    repair_next(scrub);
}

/* All copies of the suspect, which is held. */
static void compare_suspect(struct pg_scrub *scrub)
{
    const struct scrub_entry *entries[PG_SIZE_MAX] = {NULL};
    bool unknown = false;
    collect(scrub, entries);
    for (uint8_t i = 0; i < scrub->n_copies; i++)
        unknown |= entries[i] && entries[i]->error && entries[i]->error != -EIO;
    if (unknown)
        back_off(scrub, "a copy could not be looked at");
    else if (all_same(entries, scrub->n_copies)) {
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

static void all_answered(struct pg_scrub *scrub)
{
    if (scrub->phase == SCRUB_SURVEY)
        compare_chunk(scrub);
    else
        compare_suspect(scrub);
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
        back_off(scrub, "no memory");
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
        back_off(scrub, error_text(error));
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
        back_off(scrub, "no memory");
        return;
    }
    scrub->wrong[copy] = 0;
    push->repairs = true;
    push->repair_after = pg_log_head(&pg->log).sequence;
    push->done = push_done;
    scrub->push = push;
    if (planted(PLANTED_REPAIR_WITHOUT_HOLD))
        unlock(scrub);
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
            back_off(scrub, "our own copy cannot be repaired now");
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

/* ---- When ---- */

void pg_scrub_order(struct pg *pg, bool deep)
{
    pg->scrub_ordered |= !deep;
    pg->deep_ordered |= deep;
    pg->scrub_retry_ns = 0;
}

/* Spread, so that groups that were created or scrubbed together are not again. */
static uint64_t choose_due(const struct pg *pg, uint64_t last, uint64_t interval)
{
    struct env *env = pg->world->env;
    uint64_t random = env_random_u64(env);
    if (last == 0)
        return env_wall(env) + pg->world->scrub.first_ns + random % interval;
    return last + interval + random % (interval / 2 + 1);
}

static bool is_due(struct pg *pg, uint64_t *due, uint64_t last, uint64_t interval, uint32_t flag)
{
    if (interval == 0 || pg->world->map->flags & flag)
        return false;
    if (*due == 0)
        *due = choose_due(pg, last, interval);
    return env_wall(pg->world->env) >= *due;
}

static void scrub_start(struct pg *pg, bool deep, bool ordered)
{
    struct pg_scrub *scrub = calloc(1, sizeof *scrub);
    if (!scrub)
        return;
    scrub->pg = pg;
    scrub->deep = deep;
    scrub->ordered = ordered;
    scrub->number = ++pg->scrub_number;
    TAILQ_INIT(&scrub->suspects);
    pg->scrub = scrub;
    pg->world->scrubbing = pg;
    pg->world->ops->changed(pg->world->ctx, pg);
    chunk_begin(scrub);
}

static void start_if_due(struct pg *pg)
{
    const struct pg_scrub_options *options = &pg->world->scrub;
    bool deep = is_due(pg, &pg->deep_due_ns, pg->deep_stamp_ns, options->deep_interval_ns,
                       MAP_NODEEP_SCRUB);
    bool light =
        is_due(pg, &pg->scrub_due_ns, pg->scrub_stamp_ns, options->interval_ns, MAP_NOSCRUB);
    if (pg->world->scrubbing || env_now(pg->world->env) < pg->scrub_retry_ns)
        return;
    if (pg->deep_ordered) {
        pg->deep_ordered = pg->scrub_ordered = false;
        scrub_start(pg, true, true);
    } else if (pg->scrub_ordered) {
        pg->scrub_ordered = false;
        scrub_start(pg, false, true);
    } else if ((deep || light) && TAILQ_EMPTY(&pg->fills)) {
        scrub_start(pg, deep, false);
    }
}

/* Whether it waits for something that has a patience of its own, or has come on. */
static bool moves(struct pg_scrub *scrub)
{
    uint64_t before = scrub->push_offset;
    scrub->push_offset = scrub->push ? scrub->push->offset : 0;
    return scrub->phase == SCRUB_TURN || scrub->repair.repair || scrub->push_offset > before;
}

void pg_scrub_tick(struct pg *pg)
{
    struct pg_scrub *scrub = pg->scrub;
    if (pg->state != PG_STATE_PRIMARY_ACTIVE)
        return;
    pg_repair_tick(pg);
    if (!scrub)
        start_if_due(pg);
    else if (scrub->failures > PG_SCRUB_FAILURES)
        put_off(scrub);
    else if (scrub->phase == SCRUB_BACKING_OFF)
        chunk_begin(scrub);
    else if (moves(scrub))
        scrub->silent_ticks = 0;
    else if (++scrub->silent_ticks >= PG_SCRUB_PATIENCE_TICKS)
        back_off(scrub, "no progress");
}

void pg_scrub_peer_reset(struct pg *pg, int32_t osd)
{
    struct pg_scrub *scrub = pg->scrub;
    pg_repair_peer_reset(pg, osd);
    if (!scrub || scrub->phase == SCRUB_TURN || scrub->phase == SCRUB_BACKING_OFF)
        return;
    for (uint8_t i = 1; i < scrub->n_copies; i++) {
        if (scrub->copies[i].osd != osd)
            continue;
        back_off(scrub, "a session ended");
        return;
    }
}
