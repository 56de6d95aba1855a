/*
 * The end of an OSD: orderly, or at once.
 *
 * Orderly: the monitors are told that we go, so that others take over before we are missed; writes
 * under way get some time; then sessions are closed and the store is, which finishes what was
 * submitted. Only then is anything freed.
 */
#include <stdlib.h>

#include "osd/osd_impl.h"

static void pgs_free(struct osd *osd)
{
    struct osd_pg *entry, *next;
    HASH_ITER(hh, osd->pgs, entry, next)
    {
        HASH_DEL(osd->pgs, entry);
        pg_destroy(entry->pg);
        free(entry);
    }
}

/* Before anything else goes: what they wait for would make them begin something new. */
static void pgs_stop(struct osd *osd)
{
    struct osd_pg *entry, *next;
    osd->closing = true;
    HASH_ITER(hh, osd->pgs, entry, next)
    {
        pg_stop(entry->pg);
    }
}

void osd_free(struct osd *osd)
{
    pgs_stop(osd);
    env_timer_stop(osd->env, &osd->tick);
    env_timer_stop(osd->env, &osd->stats_timer);
    env_timer_stop(osd->env, &osd->reads_timer);
    env_timer_stop(osd->env, &osd->stop_timer);
    env_timer_stop(osd->env, &osd->mon.timer);
    osd_held_drop(osd, NULL);
    osd_guests_close(osd, false);
    osd_peers_fini(osd, false);
    osd_leases_fini(osd);
    pgs_free(osd);
    pg_world_fini(&osd->world);
    struct osd_request *request;
    while ((request = SLIST_FIRST(&osd->free_requests))) {
        SLIST_REMOVE_HEAD(&osd->free_requests, free_link);
        free(request);
    }
    osd_auth_fini(osd);
    map_destroy(osd->map);
    free(osd->load);
    free(osd);
}

void osd_abandon(struct osd *osd)
{
    osd_free(osd);
}

static void store_closed(void *ctx)
{
    struct osd *osd = ctx;
    void (*stopped)(void *) = osd->stopped;
    void *stopped_ctx = osd->stopped_ctx;
    net_handlers_set(osd->env, NULL, NULL);
    osd_free(osd);
    stopped(stopped_ctx);
}

static void close_all(struct osd *osd)
{
    pgs_stop(osd);
    env_timer_stop(osd->env, &osd->tick);
    env_timer_stop(osd->env, &osd->stats_timer);
    env_timer_stop(osd->env, &osd->reads_timer);
    osd_mon_fini(osd);
    osd_held_drop(osd, NULL);
    osd_guests_close(osd, true);
    osd_peers_fini(osd, true);
    osd->store->ops->close(osd->store, store_closed, osd);
}

static bool writes_left(const struct osd *osd)
{
    const struct osd_pg *entry;
    for (entry = osd->pgs; entry; entry = entry->hh.next)
        if (pg_has_writes(entry->pg))
            return true;
    return false;
}

/* The map shows that we are gone, or nobody is there to show it. */
static bool monitors_know(const struct osd *osd, uint64_t waited_ns)
{
    return !osd_is_up(osd) || waited_ns >= OSD_STOP_GONE_NS;
}

static void stop_fired(struct env_timer *timer)
{
    struct osd *osd = container_of(timer, struct osd, stop_timer);
    uint64_t waited = env_now(osd->env) - osd->stop_ns;
    if ((monitors_know(osd, waited) && !writes_left(osd)) || waited >= OSD_STOP_NS || osd->failed) {
        close_all(osd);
        return;
    }
    env_timer_after(osd->env, &osd->stop_timer, OSD_STOP_POLL_NS);
}

void osd_stop(struct osd *osd, void (*stopped)(void *ctx), void *ctx)
{
    assert(!osd->stopping);
    osd->stopping = true;
    osd->stopped = stopped;
    osd->stopped_ctx = ctx;
    /* Whoever takes over may rely on what the monitors are told now. */
    osd->world.retired = true;
    osd->stop_ns = env_now(osd->env);
    osd->stop_timer.fire = stop_fired;
    log_info(osd->env, "osd stops", "osd=%d", osd->options.id);
    if (osd_is_up(osd))
        osd_mon_failure(osd, osd->options.id, osd->env->instance,
                        LIMPET__WIRE__OSD_FAILURE__KIND__GONE, 0);
    env_timer_after(osd->env, &osd->stop_timer, 0);
}
