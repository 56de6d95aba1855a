/*
 * Filling another OSD's copy, seen by the primary.
 *
 * A learner takes over the log, then all objects in the order of listing, batch by batch. For each
 * batch we tell what we have; it removes what we have not and answers what differs; that is pushed.
 * Clients write meanwhile, and the learner gets every entry of the log; whether the effect goes
 * with it depends on where the object stands:
 *
 *     equal already                entry and effect
 *     pending in this batch        the entry: the object is pushed later
 *     being pushed                 the write waits
 *     after the batch              the entry: its turn comes
 *
 * Equal already is what lies before the batch, and what in the batch is not pending.
 * While a batch is listed and compared it is not known what differs: what is written then, or was
 * on its way to our store when the listing began, is pending in any case.
 *
 * At the end the learner notes that it is complete, its acknowledgement counts, and when it has
 * everything that was ever acknowledged the monitors are asked to add it (G8). They are asked again
 * until the map shows an answer.
 */
#include "osd/pg/pg_fill.h"

#include <stdlib.h>

struct pg_fill *pg_fill_find(struct pg *pg, int32_t osd)
{
    struct pg_fill *fill;
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        if (fill->osd == osd)
            return fill;
    }
    return NULL;
}

/* ---- Taking turns ---- */

/* What a group needs to be active at all is not paused. */
const char *fill_paused_by(const struct pg_fill *fill, bool by_log)
{
    uint64_t flags = fill->pg->world->map->flags;
    if (fill->member)
        return NULL;
    if (flags & MAP_NORECOVER)
        return "norecover is set";
    return !by_log && flags & MAP_NOBACKFILL ? "nobackfill is set" : NULL;
}

void fill_run(struct pg_fill *fill)
{
    struct pg_world *world = fill->pg->world;
    assert(!fill->running && !fill->queued);
    if (fill_paused_by(fill, !fill->must_compare)) {
        fill->phase = FILL_PAUSED;
        return;
    }
    if (world->n_fills < PG_FILLS_MAX) {
        fill->running = true;
        world->n_fills++;
        fill_begin(fill);
        return;
    }
    fill->phase = FILL_QUEUED;
    fill->queued = true;
    TAILQ_INSERT_TAIL(&world->waiting_fills, fill, world_link);
}

/* Gives the turn to whoever waits. */
void fill_rest(struct pg_fill *fill)
{
    struct pg_world *world = fill->pg->world;
    if (fill->queued)
        TAILQ_REMOVE(&world->waiting_fills, fill, world_link);
    fill->queued = false;
    if (!fill->running)
        return;
    fill->running = false;
    world->n_fills--;
    struct pg_fill *next = TAILQ_FIRST(&world->waiting_fills);
    if (next) {
        TAILQ_REMOVE(&world->waiting_fills, next, world_link);
        next->queued = false;
        fill_run(next);
    }
}

/* ---- Life ---- */

/* Stops whatever runs for it. */
static void fill_halt(struct pg_fill *fill)
{
    fill_forget_listing(fill);
    pg_pushes_cancel(fill->pg, fill->osd);
    fill->pushes = 0;
    fill_clear_batch(fill);
    free(fill->done_upto);
    fill->done_upto = NULL;
    fill->attached = false;
    fill->spoiled = false;
    fill->by_log = false;
    fill->full = false;
    fill->compared = fill->differing = 0;
}

static void fill_destroy(struct pg_fill *fill)
{
    TAILQ_REMOVE(&fill->pg->fills, fill, link);
    fill_halt(fill);
    fill_rest(fill);
    free(fill);
}

void fill_back_off(struct pg_fill *fill, const char *why)
{
    assert(fill->phase != FILL_ADDING);
    log_info(fill->pg->world->env, "filling begins again", "pg=%s osd=%d why=\"%s\"",
             pg_text(fill->pg), fill->osd, why);
    fill->phase = FILL_BACKING_OFF;
    fill->silent_ticks = 0;
    fill_halt(fill);
    fill_rest(fill);
}

void fill_pause(struct pg_fill *fill)
{
    bool must_compare = !fill->by_log;
    log_info(fill->pg->world->env, "filling pauses", "pg=%s osd=%d why=\"%s\"", pg_text(fill->pg),
             fill->osd, fill_paused_by(fill, !must_compare));
    fill_halt(fill);
    fill->must_compare = must_compare;
    fill->phase = FILL_PAUSED;
    fill_rest(fill);
}

/* What has begun is paused, and what was paused begins, as the flags of the map say now. */
static void follow_flags(struct pg_fill *fill)
{
    switch (fill->phase) {
    case FILL_PAUSED:
        if (!fill_paused_by(fill, !fill->must_compare))
            fill_run(fill);
        break;
    case FILL_QUEUED:
    case FILL_ASKING:
    case FILL_BACKING_OFF:
        /* Whether it needs a comparison is not known yet. */
        if (fill_paused_by(fill, true)) {
            fill->by_log = true;
            fill_pause(fill);
        }
        break;
    case FILL_STARTING:
    case FILL_LISTING:
    case FILL_COMPARING:
    case FILL_PUSHING:
        if (fill_paused_by(fill, fill->by_log))
            fill_pause(fill);
        break;
    case FILL_FINISHING:
    case FILL_ADDING:
        break;
    }
}

static struct pg_fill *fill_create(struct pg *pg, int32_t osd, bool member)
{
    const struct map_osd *info = map_osd(pg->world->map, osd);
    struct pg_fill *fill = info ? calloc(1, sizeof *fill) : NULL;
    if (!fill)
        return NULL;
    fill->pg = pg;
    fill->osd = osd;
    fill->member = member;
    fill->instance = info->instance;
    fill->up_from = info->up_from;
    TAILQ_INIT(&fill->to_push);
    TAILQ_INSERT_TAIL(&pg->fills, fill, link);
    fill_run(fill);
    return fill;
}

void pg_fills_stop(struct pg *pg, bool keep_adding)
{
    struct pg_fill *fill, *next;
    /* First those of ours that wait, so that none of them gets the turn of another. */
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        if (fill->queued)
            fill_rest(fill);
    }
    for (fill = TAILQ_FIRST(&pg->fills); fill; fill = next) {
        next = TAILQ_NEXT(fill, link);
        if (!keep_adding || fill->phase != FILL_ADDING)
            fill_destroy(fill);
    }
}

/* Whether the map still wants it filled, and it is the same process since the same boot. */
static bool is_wanted(const struct pg_fill *fill)
{
    const struct pg *pg = fill->pg;
    const struct map_osd *info = map_osd(pg->world->map, fill->osd);
    if (fill->member)
        return true;
    for (uint8_t i = 0; i < pg->view.n_learners; i++)
        if (pg->view.learners[i] == fill->osd)
            return info && info->instance == fill->instance && info->up_from == fill->up_from;
    return false;
}

void pg_fills_follow_map(struct pg *pg)
{
    struct pg_fill *fill, *next;
    for (fill = TAILQ_FIRST(&pg->fills); fill; fill = next) {
        next = TAILQ_NEXT(fill, link);
        if (!is_wanted(fill))
            fill_destroy(fill);
    }
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        follow_flags(fill);
    }
    if (pg->state != PG_STATE_PRIMARY_ACTIVE)
        return;
    for (uint8_t i = 0; i < pg->view.n_learners; i++) {
        if (!pg_fill_find(pg, pg->view.learners[i]) &&
            !fill_create(pg, pg->view.learners[i], false))
            log_warn(pg->world->env, "cannot fill", "pg=%s osd=%d", pg_text(pg),
                     pg->view.learners[i]);
    }
    /* One that is gone may have been what commits waited for. */
    pg_advance(pg);
}

void pg_fill_member(struct pg *pg, struct pg_peer *peer)
{
    assert(!pg_fill_find(pg, peer->osd));
    if (!fill_create(pg, peer->osd, true))
        pg->compare_again = true;
}

/* ---- The end ---- */

void fill_finish(struct pg_fill *fill)
{
    struct pg *pg = fill->pg;
    Limpet__Wire__PgActivate activate;
    Limpet__Wire__Version head = LIMPET__WIRE__VERSION__INIT;
    struct wire_version newest = pg_log_head(&pg->log);
    fill->phase = FILL_FINISHING;
    fill->finish_sequence = newest.sequence;
    head.config = newest.config;
    head.sequence = newest.sequence;
    fill_init_activate(fill, &activate);
    activate.has_filled = true;
    activate.filled = true;
    activate.head = &head;
    pg_send_proto(pg, fill->osd, MSG_PG_ACTIVATE, &activate.base);
}

/* What became of a filling, for those who wonder where the time went. */
static void log_end(const struct pg_fill *fill)
{
    log_info(fill->pg->world->env, "filled",
             "pg=%s osd=%d by=%s objects=%" PRIu64 " bytes=%" PRIu64, pg_text(fill->pg), fill->osd,
             fill->by_log ? "log" : "comparison", fill->sent_objects, fill->sent_bytes);
}

/* It is complete and has noted that. */
static void fill_complete(struct pg_fill *fill)
{
    struct pg *pg = fill->pg;
    log_end(fill);
    if (fill->acked < fill->finish_sequence)
        fill->acked = fill->finish_sequence;
    if (fill->member) {
        struct pg_peer *peer = pg_peer_find(pg, fill->osd);
        fill_destroy(fill);
        if (peer && pg->state == PG_STATE_PRIMARY_ACTIVATING)
            pg_activate_ask(pg, peer);
        return;
    }
    fill->phase = FILL_ADDING;
    fill_rest(fill);
    pg_fill_check_add(pg);
}

/* G8. */
static bool may_ask_to_add(const struct pg_fill *fill)
{
    return fill->phase == FILL_ADDING && !fill->asked && fill->acked >= fill->pg->committed;
}

void pg_fill_check_add(struct pg *pg)
{
    struct pg_fill *fill;
    if (pg->state != PG_STATE_PRIMARY_ACTIVE)
        return;
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        if (!may_ask_to_add(fill))
            continue;
        fill->asked = true;
        pg_lease_forget(pg);
        fill->silent_ticks = 0;
        pg->world->ops->add_member(pg->world->ctx, pg->id, pg->view.config, fill->osd);
    }
}

void pg_fill_info(struct pg *pg, int32_t from, const Limpet__Wire__PgInfo *info)
{
    struct pg_fill *fill = pg_fill_find(pg, from);
    if (!fill || info->attempt != fill->attempt ||
        (fill->phase != FILL_ASKING && fill->phase != FILL_STARTING &&
         fill->phase != FILL_FINISHING))
        return;
    fill->silent_ticks = 0;
    pg->silent_ticks = 0;
    if (info->result) {
        fill_back_off(fill, error_text(info->result));
    } else if (fill->phase == FILL_ASKING && info->answers == 5) {
        fill_told(fill, info);
    } else if (fill->phase == FILL_STARTING && info->answers == 3) {
        if (info->head->sequence < fill->chunk)
            return; /* Of an earlier part. */
        if (fill->attached && fill->by_log)
            fill_push_noted(fill);
        else if (fill->attached)
            fill_list_batch(fill);
        else
            fill_send_log(fill);
    } else if (fill->phase == FILL_FINISHING && info->answers == 4) {
        fill_complete(fill);
    }
}

void pg_fill_ack(struct pg *pg, struct pg_fill *fill, uint64_t sequence, int result)
{
    if (result && fill->phase == FILL_ADDING) {
        fill->refused = true;
    } else if (result) {
        if (fill->attached)
            fill_back_off(fill, error_text(result));
    } else if (fill->attached && sequence > fill->acked &&
               sequence <= pg_log_head(&pg->log).sequence) {
        fill->acked = sequence;
        pg_advance(pg);
    }
}

void pg_fill_peer_reset(struct pg *pg, int32_t osd)
{
    struct pg_fill *fill = pg_fill_find(pg, osd);
    if (!fill)
        return;
    if (fill->phase == FILL_ADDING)
        pg_writes_resend(pg, osd, fill->acked);
    else if (fill->phase != FILL_QUEUED && fill->phase != FILL_BACKING_OFF &&
             fill->phase != FILL_PAUSED)
        fill_back_off(fill, "its session ended");
}

/* One that was asked for, or that missed something, and no answer of the map yet. */
static void tick_adding(struct pg_fill *fill)
{
    struct pg *pg = fill->pg;
    if (fill->refused)
        pg_writes_resend(pg, fill->osd, fill->acked);
    fill->refused = false;
    if (fill->asked && fill->silent_ticks % PG_ADD_REPEAT_TICKS == 0)
        pg->world->ops->add_member(pg->world->ctx, pg->id, pg->view.config, fill->osd);
}

/* All that is left waits for its turn here: the copy has nothing to answer. */
static bool waits_for_turns(const struct pg_fill *fill)
{
    const struct pg_push *push;
    if (fill->phase != FILL_PUSHING)
        return false;
    TAILQ_FOREACH(push, &fill->pg->pushes, link)
    {
        if (push->osd == fill->osd && !push->turn.waiting)
            return false;
    }
    return true;
}

/* Somebody waits for an object that is held until the copy has answered. */
static bool holds_up_clients(const struct pg_fill *fill)
{
    const struct pg_push *push;
    TAILQ_FOREACH(push, &fill->pg->pushes, link)
    {
        if (push->osd == fill->osd && push->locked && !TAILQ_EMPTY(&push->locked->waiters))
            return true;
    }
    return false;
}

/* So many ticks without an answer that the filling is given up. */
static bool is_silent(const struct pg_fill *fill)
{
    if (fill->phase == FILL_QUEUED || fill->phase == FILL_BACKING_OFF || fill->phase == FILL_PAUSED)
        return false;
    return fill->silent_ticks >= PG_FILL_PATIENCE_TICKS ||
           (fill->silent_ticks >= PG_HOLD_PATIENCE_TICKS && holds_up_clients(fill));
}

/* One that had no room is not asked all the time. */
static bool may_run(const struct pg_fill *fill)
{
    return !fill->full || fill->silent_ticks >= PG_FULL_PATIENCE_TICKS;
}

void pg_fill_tick(struct pg *pg)
{
    struct pg_fill *fill, *next;
    for (fill = TAILQ_FIRST(&pg->fills); fill; fill = next) {
        next = TAILQ_NEXT(fill, link);
        fill->silent_ticks = waits_for_turns(fill) ? 0 : fill->silent_ticks + 1;
        if (fill->phase == FILL_ADDING)
            tick_adding(fill);
        else if (fill->phase == FILL_BACKING_OFF && may_run(fill))
            fill_run(fill);
        else if (fill->spoiled)
            fill_back_off(fill, "too many writes");
        else if (is_silent(fill))
            fill_back_off(fill, "no progress");
    }
}
