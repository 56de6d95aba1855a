/* What is left to do for copies that are being filled, and why it waits: for the statistics. */
#include "osd/pg/pg_fill.h"

/* What is not compared yet differs like what was: an estimate, and nothing more. */
static uint64_t objects_left(const struct pg_fill *fill, uint64_t objects)
{
    uint64_t pending = HASH_COUNT(fill->pending);
    if (fill->phase == FILL_FINISHING || fill->phase == FILL_ADDING || fill->by_log)
        return pending;
    if (fill->compared == 0)
        return fill->pg->dirty.tracking ? HASH_COUNT(fill->pg->dirty.objects) : objects;
    uint64_t rest = objects > fill->compared ? objects - fill->compared : 0;
    return pending + rest * fill->differing / fill->compared;
}

static uint64_t bytes_left(const struct pg_fill *fill, uint64_t left, uint64_t objects,
                           uint64_t bytes)
{
    uint64_t pending = HASH_COUNT(fill->pending);
    uint64_t others = left > pending ? left - pending : 0;
    return fill->pending_bytes + (objects > 0 ? bytes / objects * others : 0);
}

void pg_fills_stat(const struct pg *pg, Limpet__Wire__PgStat *out)
{
    const struct pg_fill *fill;
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        uint64_t left = objects_left(fill, out->objects);
        out->has_learners = out->has_objects_missing = out->has_bytes_missing = true;
        out->learners++;
        out->objects_missing += left;
        out->bytes_missing += bytes_left(fill, left, out->objects, out->bytes);
    }
    out->has_objects_recovered = out->has_bytes_recovered = pg->recovered_objects > 0;
    out->objects_recovered = pg->recovered_objects;
    out->bytes_recovered = pg->recovered_bytes;
}

static const char *why_fill_waits(const struct pg_fill *fill)
{
    const struct pg_world *world = fill->pg->world;
    if (fill->full)
        return "a copy has no room";
    if (fill->phase == FILL_QUEUED)
        return "other copies are filled first";
    if (fill->phase == FILL_PAUSED)
        return fill_paused_by(fill, !fill->must_compare);
    if (fill->phase == FILL_BACKING_OFF)
        return "filling a copy failed and begins again";
    if (fill->phase == FILL_ADDING)
        return fill->asked ? "the monitors are asked to add a copy" : NULL;
    if (fill->silent_ticks >= PG_PATIENCE_TICKS)
        return "a copy that is filled is silent";
    if (pg_throttle_clients_active(&world->turns.throttle, env_now(world->env)))
        return "slowed down for clients";
    return NULL;
}

const char *pg_fills_waiting(const struct pg *pg)
{
    const struct pg_fill *fill;
    const char *why = NULL;
    TAILQ_FOREACH(fill, &pg->fills, link)
    {
        if (!why)
            why = why_fill_waits(fill);
    }
    return why;
}
