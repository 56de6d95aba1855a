/*
 * Statistics for the monitors, which also say that we live: all of it every few seconds, and groups
 * that changed shortly after they did. And the space that is left.
 */
#include <stdlib.h>

#include "common/version.h"
#include "osd/osd_impl.h"

/* Packs and sends the groups between two indexes. */
static void send_stats(struct osd *osd, Limpet__Wire__PgStat **list, size_t n, bool complete)
{
    Limpet__Wire__OsdStats stats = LIMPET__WIRE__OSD_STATS__INIT;
    struct store_statfs space;
    osd->store->ops->statfs(osd->store, &space);
    stats.id = osd->options.id;
    stats.instance = osd->env->instance;
    stats.epoch = osd->map->epoch;
    stats.bytes_total = space.bytes_total;
    stats.bytes_used = space.bytes_used;
    stats.n_pgs = n;
    stats.pgs = list;
    stats.has_complete = true;
    stats.complete = complete;
    stats.has_write_ops = stats.has_read_ops = true;
    stats.has_write_bytes = stats.has_read_bytes = true;
    stats.write_ops = osd->world.write_ops;
    stats.read_ops = osd->world.read_ops;
    stats.write_bytes = osd->world.write_bytes;
    stats.read_bytes = osd->world.read_bytes;
    stats.has_read_errors = stats.has_repaired = true;
    stats.read_errors = osd->world.read_errors;
    stats.repaired = osd->world.repaired;
    stats.has_results_dropped = stats.has_repeats_refused = true;
    stats.results_dropped = osd->world.results_dropped;
    stats.repeats_refused = osd->world.repeats_refused;
    stats.version = (char *)(uintptr_t)limpet_version_text();
    stats.has_slow_ops = stats.has_slowest_ms = osd->slow.n > 0;
    stats.slow_ops = osd->slow.n;
    stats.slowest_ms = osd->slow.oldest_ns / MSEC_NS;
    stats.slowest_waits = osd->slow.n > 0 ? osd->slow.waits : NULL;
    osd_mon_send(osd, MSG_OSD_STATS, &stats.base);
}

/* How many of the next ones a message can carry: at least one. */
static size_t count_part(Limpet__Wire__PgStat *const *list, size_t n)
{
    size_t bytes = 0, part = 0;
    while (part < n && part < OSD_STATS_PGS_MAX) {
        bytes += limpet__wire__pg_stat__get_packed_size(list[part]) + 8;
        if (bytes > OSD_STATS_BYTES_MAX && part > 0)
            break;
        part++;
    }
    return part;
}

static bool is_due(const struct osd_pg *entry, bool all)
{
    return pg_is_primary(entry->pg) && (all || entry->stat_due || pg_is_busy(entry->pg) ||
                                        pg_head(entry->pg).sequence != entry->told_sequence);
}

static void tell(struct osd *osd, bool all)
{
    size_t count = HASH_COUNT(osd->pgs), n = 0;
    Limpet__Wire__PgStat *stats = calloc(count + 1, sizeof *stats);
    Limpet__Wire__PgStat **list = calloc(count + 1, sizeof *list);
    struct osd_pg *entry, *next;
    if (!stats || !list) {
        free(stats);
        free(list);
        return;
    }
    HASH_ITER(hh, osd->pgs, entry, next)
    {
        if (is_due(entry, all)) {
            pg_stat(entry->pg, &stats[n]);
            entry->told_sequence = pg_head(entry->pg).sequence;
            list[n] = &stats[n];
            n++;
        }
        entry->stat_due = false;
    }
    /* More than a message can carry go in several, none of which is complete by itself. */
    bool complete = all && count_part(list, n) == n;
    for (size_t at = 0; at == 0 || at < n;) {
        size_t part = count_part(list + at, n - at);
        send_stats(osd, list + at, part, complete);
        at += part > 0 ? part : 1;
    }
    free(stats);
    free(list);
}

static bool is_busy(const struct osd *osd)
{
    const struct osd_pg *entry;
    for (entry = osd->pgs; entry; entry = entry->hh.next)
        if (pg_is_primary(entry->pg) && pg_is_busy(entry->pg))
            return true;
    return false;
}

static void arm(struct osd *osd)
{
    uint64_t delay = osd->stats_ns;
    if (is_busy(osd) && delay > OSD_STATS_BUSY_NS)
        delay = OSD_STATS_BUSY_NS;
    osd->stats_soon = false;
    env_timer_after(osd->env, &osd->stats_timer, delay);
}

static void timer_fired(struct env_timer *timer)
{
    struct osd *osd = container_of(timer, struct osd, stats_timer);
    uint64_t now = env_now(osd->env);
    if (osd->closing)
        return;
    osd_space_check(osd);
    osd_slow_look(osd);
    if (osd_is_up(osd) && osd->mon.live && !osd->stopping) {
        bool all = osd->stats_all || now - osd->stats_complete_ns >= osd->stats_ns;
        if (all)
            osd->stats_complete_ns = now;
        osd->stats_all = false;
        osd->stats_told_ns = now;
        osd->stats_writes = osd->world.write_ops;
        tell(osd, all);
    }
    arm(osd);
}

void osd_stats_init(struct osd *osd)
{
    osd->stats_timer.fire = timer_fired;
    arm(osd);
}

static void soon(struct osd *osd)
{
    if (osd->stats_soon || osd->closing)
        return;
    osd->stats_soon = true;
    env_timer_after(osd->env, &osd->stats_timer, OSD_STATS_SOON_NS);
}

void osd_stats_due(struct osd *osd, struct osd_pg *entry)
{
    entry->stat_due = true;
    soon(osd);
}

void osd_stats_complete(struct osd *osd)
{
    osd->stats_all = true;
    soon(osd);
}

void osd_stats_tick(struct osd *osd)
{
    bool written = osd->world.write_ops != osd->stats_writes;
    if (written)
        osd_space_check(osd);
    if (written && env_now(osd->env) - osd->stats_told_ns >= OSD_STATS_BUSY_NS)
        soon(osd);
}

void osd_space_check(struct osd *osd)
{
    struct store_statfs space;
    osd->store->ops->statfs(osd->store, &space);
    bool full = space.bytes_used >= space.bytes_total / 100 * PG_FULL_PERCENT ||
                (osd->map->flags & MAP_FULL);
    if (full && !osd->world.full)
        log_warn(osd->env, "osd full", "osd=%d used=%llu total=%llu", osd->options.id,
                 (unsigned long long)space.bytes_used, (unsigned long long)space.bytes_total);
    osd->world.full = full;
}
