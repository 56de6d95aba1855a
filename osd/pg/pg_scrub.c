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
 *
 * Objects of which a copy turned out to be unreadable outside of a scrub (pg_suspect()) are
 * suspects from the start: they are checked alone, before anything that is due.
 */
#include "osd/pg/pg_scrub_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/planted.h"

#define SCRUB_RETRY_NS (30 * SEC_NS)
#define CHECK_RETRY_NS (2 * SEC_NS)

uint32_t pg_scrub_level(const struct pg *pg)
{
    if (!pg->scrub || pg->scrub->check)
        return 0;
    return pg->scrub->deep ? 2 : 1;
}

/* ---- Letting go ---- */

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

/* Everything of the chunk; suspects that were known before stay so. The push is gone already when
 * the group stops. */
static void chunk_abandon(struct pg_scrub *scrub, bool stopping)
{
    forget_answers(scrub);
    if (scrub->push && !stopping)
        pg_push_cancel(scrub->push);
    scrub->push = NULL;
    pg_object_leave(&scrub->waiter);
    pg_repair_leave(&scrub->repair);
    if (scrub->check)
        TAILQ_CONCAT(&scrub->pg->suspects, &scrub->suspects, link);
    while (!TAILQ_EMPTY(&scrub->suspects))
        scrub_drop_suspect(scrub);
    free(scrub->upto);
    scrub->upto = NULL;
    pg_turn_drop(&scrub->pg->world->turns, &scrub->turn);
    scrub_unlock(scrub);
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

void scrub_back_off(struct pg_scrub *scrub, const char *why)
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
    pg->scrub_retry_ns = env_now(pg->world->env) + (scrub->check ? CHECK_RETRY_NS : SCRUB_RETRY_NS);
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
        scrub_back_off(scrub, error_text(error));
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
void scrub_ask_all(struct pg_scrub *scrub, bool deep, const struct pg_name *only)
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
        scrub_back_off(scrub, "too much to do");
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
        scrub_back_off(scrub, "no memory");
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
            scrub_back_off(scrub, error_text(error));
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

bool scrub_all_same(const struct scrub_entry *const entries[], uint8_t n)
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
        if (scrub_all_same(entries, scrub->n_copies))
            continue;
        uint8_t i = 0;
        while (!entries[i])
            i++;
        error = add_suspect(scrub, entries[i]);
    }
    if (error) {
        scrub_back_off(scrub, "no memory");
        return;
    }
    scrub_suspect_next(scrub);
}

static void turn_came(struct pg_turn *turn)
{
    struct pg_scrub *scrub = container_of(turn, struct pg_scrub, turn);
    assert(scrub->phase == SCRUB_TURN);
    scrub->phase = SCRUB_SURVEY;
    scrub_ask_all(scrub, scrub->deep, NULL);
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
    pg->scrub_known = true;
    scrub_free(scrub, false);
    pg->world->ops->changed(pg->world->ctx, pg);
}

void scrub_chunk_done(struct pg_scrub *scrub)
{
    forget_answers(scrub);
    scrub->failures = 0;
    pg_turn_drop(&scrub->pg->world->turns, &scrub->turn);
    if (scrub->check) {
        scrub_free(scrub, false);
        return;
    }
    if (!scrub->upto) {
        scrub_finish(scrub);
        return;
    }
    free(scrub->after);
    scrub->after = scrub->upto;
    scrub->upto = NULL;
    chunk_begin(scrub);
}

static void all_answered(struct pg_scrub *scrub)
{
    if (scrub->phase == SCRUB_SURVEY)
        compare_chunk(scrub);
    else
        scrub_compare_suspect(scrub);
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

static struct pg_scrub *scrub_create(struct pg *pg, bool deep)
{
    struct pg_scrub *scrub = calloc(1, sizeof *scrub);
    if (!scrub)
        return NULL;
    scrub->pg = pg;
    scrub->deep = deep;
    scrub->number = ++pg->scrub_number;
    TAILQ_INIT(&scrub->suspects);
    pg->scrub = scrub;
    pg->world->scrubbing = pg;
    return scrub;
}

static void scrub_start(struct pg *pg, bool deep, bool ordered)
{
    struct pg_scrub *scrub = scrub_create(pg, deep);
    if (!scrub)
        return;
    scrub->ordered = ordered;
    pg->n_unlisted = 0;
    pg->world->ops->changed(pg->world->ctx, pg);
    chunk_begin(scrub);
}

/* Objects of which some copy could not be read: at once, and whatever flags say. */
static void check_start(struct pg *pg)
{
    struct pg_scrub *scrub = scrub_create(pg, true);
    if (!scrub)
        return;
    scrub->check = true;
    TAILQ_CONCAT(&scrub->suspects, &pg->suspects, link);
    scrub_suspect_next(scrub);
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
    if (!TAILQ_EMPTY(&pg->suspects)) {
        check_start(pg);
    } else if (pg->deep_ordered) {
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
    if (pg->state != PG_STATE_PRIMARY_ACTIVE)
        return;
    /* A repair that ends may end the scrub that waits for it. */
    pg_repair_tick(pg);
    struct pg_scrub *scrub = pg->scrub;
    if (!scrub)
        start_if_due(pg);
    else if (scrub->failures > PG_SCRUB_FAILURES)
        put_off(scrub);
    else if (scrub->phase == SCRUB_BACKING_OFF && scrub->check)
        put_off(scrub);
    else if (scrub->phase == SCRUB_BACKING_OFF)
        chunk_begin(scrub);
    else if (moves(scrub))
        scrub->silent_ticks = 0;
    else if (++scrub->silent_ticks >= PG_SCRUB_PATIENCE_TICKS)
        scrub_back_off(scrub, "no progress");
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
        scrub_back_off(scrub, "a session ended");
        return;
    }
}
