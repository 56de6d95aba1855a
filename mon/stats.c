#include "mon/stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/env.h"

struct pool_stats {
    uint64_t pool;
    uint32_t pg_num;
    struct pg_stat *pgs;
};

enum { WINDOW_BUCKETS = STATS_WINDOW_S + 2, RECOVERY_PAUSE_S = 10 };

struct bucket {
    uint64_t second;
    double values[RATES];
};

struct stats {
    struct bucket buckets[WINDOW_BUCKETS];
    uint64_t window_since_ns; /* First value; 0: none. */
    /* The recovery that is under way, or the last one. */
    uint64_t recovery_began_ns;
    uint64_t recovery_seen_ns;
    double recovered_bytes;
    double recovered_objects;
    int32_t n_osds;
    struct osd_stat *osds;
    uint32_t n_pools;
    struct pool_stats *pools;
};

struct stats *stats_create(void)
{
    return calloc(1, sizeof(struct stats));
}

static void pool_free(struct pool_stats *pool)
{
    for (uint32_t i = 0; i < pool->pg_num; i++)
        free(pool->pgs[i].waiting);
    free(pool->pgs);
}

void stats_clear(struct stats *stats)
{
    for (uint32_t i = 0; i < stats->n_pools; i++)
        pool_free(&stats->pools[i]);
    free(stats->pools);
    free(stats->osds);
    memset(stats, 0, sizeof *stats);
}

void stats_destroy(struct stats *stats)
{
    if (stats == NULL)
        return;
    stats_clear(stats);
    free(stats);
}

static struct osd_stat *osd_make(struct stats *stats, int32_t id)
{
    if (id >= stats->n_osds) {
        struct osd_stat *osds = realloc(stats->osds, ((size_t)id + 1) * sizeof *osds);
        if (osds == NULL)
            return NULL;
        memset(osds + stats->n_osds, 0, (size_t)(id + 1 - stats->n_osds) * sizeof *osds);
        stats->osds = osds;
        stats->n_osds = id + 1;
    }
    return &stats->osds[id];
}

static struct pool_stats *pool_find(const struct stats *stats, uint64_t id)
{
    for (uint32_t i = 0; i < stats->n_pools; i++) {
        if (stats->pools[i].pool == id)
            return &stats->pools[i];
    }
    return NULL;
}

static struct pool_stats *pool_make(struct stats *stats, const struct map_pool *info)
{
    struct pool_stats *pool = pool_find(stats, info->id);

    if (pool == NULL) {
        struct pool_stats *pools =
            realloc(stats->pools, (stats->n_pools + 1) * sizeof *stats->pools);
        if (pools == NULL)
            return NULL;
        stats->pools = pools;
        pool = &pools[stats->n_pools++];
        *pool = (struct pool_stats){.pool = info->id};
    }
    if (pool->pg_num < info->pg_num) {
        struct pg_stat *pgs = realloc(pool->pgs, info->pg_num * sizeof *pgs);
        if (pgs == NULL)
            return NULL;
        for (uint32_t i = pool->pg_num; i < info->pg_num; i++)
            pgs[i] = (struct pg_stat){.osd = -1, .counted_osd = -1};
        pool->pgs = pgs;
        pool->pg_num = info->pg_num;
    }
    return pool;
}

static void count(struct stats *stats, enum stats_rate what, uint64_t n, uint64_t now_ns)
{
    uint64_t second = now_ns / SEC_NS;
    struct bucket *bucket = &stats->buckets[second % WINDOW_BUCKETS];

    if (bucket->second != second)
        *bucket = (struct bucket){.second = second};
    bucket->values[what] += (double)n;
    if (stats->window_since_ns == 0)
        stats->window_since_ns = now_ns;
}

static uint64_t grown(uint64_t now, uint64_t before)
{
    return now >= before ? now - before : 0;
}

static void osd_report(struct stats *stats, struct osd_stat *osd,
                       const Limpet__Wire__OsdStats *report, uint64_t now_ns)
{
    uint64_t counters[4] = {report->write_ops, report->read_ops, report->write_bytes,
                            report->read_bytes};

    for (int i = 0; i < 4 && osd->instance == report->instance; i++)
        count(stats, (enum stats_rate)i, grown(counters[i], osd->counters[i]), now_ns);
    memcpy(osd->counters, counters, sizeof counters);
    osd->instance = report->instance;
    osd->reported_ns = now_ns;
    osd->epoch = report->epoch;
    osd->bytes_total = report->bytes_total;
    osd->bytes_used = report->bytes_used;
    osd->read_errors = report->read_errors;
    osd->repaired = report->repaired;
    osd->slow_ops = report->slow_ops;
    osd->slowest_ms = report->slowest_ms;
    snprintf(osd->slowest_waits, sizeof osd->slowest_waits, "%s",
             report->slowest_waits ? report->slowest_waits : "");
    snprintf(osd->version, sizeof osd->version, "%s", report->version ? report->version : "");
}

static void note_recovery(struct stats *stats, uint64_t bytes, uint64_t objects, uint64_t now_ns)
{
    if (bytes == 0 && objects == 0)
        return;
    if (now_ns - stats->recovery_seen_ns > RECOVERY_PAUSE_S * SEC_NS ||
        stats->recovery_began_ns == 0) {
        stats->recovery_began_ns = now_ns;
        stats->recovered_bytes = 0;
        stats->recovered_objects = 0;
    }
    stats->recovery_seen_ns = now_ns;
    stats->recovered_bytes += (double)bytes;
    stats->recovered_objects += (double)objects;
    count(stats, RATE_BYTES_RECOVERED, bytes, now_ns);
    count(stats, RATE_OBJECTS_RECOVERED, objects, now_ns);
}

/* Counters are those of a process, and begin anew when it becomes primary again. */
static void pg_progress(struct stats *stats, struct pg_stat *pg,
                        const Limpet__Wire__OsdStats *report, const Limpet__Wire__PgStat *in,
                        uint64_t now_ns)
{
    if (pg->counted_osd == report->id && pg->counted_instance == report->instance) {
        uint64_t bytes = in->bytes_recovered >= pg->bytes_recovered
                             ? in->bytes_recovered - pg->bytes_recovered
                             : in->bytes_recovered;
        uint64_t objects = in->objects_recovered >= pg->objects_recovered
                               ? in->objects_recovered - pg->objects_recovered
                               : in->objects_recovered;
        double seconds = (double)(now_ns - pg->counted_ns) / (double)SEC_NS;
        note_recovery(stats, bytes, objects, now_ns);
        if (seconds > 0 && pg->recovery_rate < 1)
            pg->recovery_rate = (double)bytes / seconds;
        else if (seconds > 0)
            pg->recovery_rate = (pg->recovery_rate + (double)bytes / seconds) / 2;
    } else {
        /* Another primary than the one that was counted before has counted from nothing. */
        if (pg->counted_osd >= 0)
            note_recovery(stats, in->bytes_recovered, in->objects_recovered, now_ns);
        pg->recovery_rate = 0;
    }
    pg->counted_osd = report->id;
    pg->counted_instance = report->instance;
    pg->counted_ns = now_ns;
    pg->bytes_recovered = in->bytes_recovered;
    pg->objects_recovered = in->objects_recovered;
}

/* How much of the window has passed since then. */
static double window_seconds(uint64_t since_ns, uint64_t now_ns)
{
    double seconds = (double)(now_ns - since_ns) / (double)SEC_NS;
    return seconds < 1 ? 1 : seconds > STATS_WINDOW_S ? STATS_WINDOW_S : seconds;
}

void stats_rates(const struct stats *stats, uint64_t now_ns, double rates[RATES])
{
    uint64_t second = now_ns / SEC_NS;
    double all = window_seconds(stats->window_since_ns, now_ns);
    /* Time before it began would make it look slow. Its first report is of a second or so. */
    double recovery = window_seconds(
        stats->recovery_began_ns > SEC_NS ? stats->recovery_began_ns - SEC_NS : 0, now_ns);

    memset(rates, 0, RATES * sizeof rates[0]);
    if (stats->window_since_ns == 0)
        return;
    for (int i = 0; i < WINDOW_BUCKETS; i++) {
        const struct bucket *bucket = &stats->buckets[i];
        if (bucket->second + STATS_WINDOW_S <= second)
            continue;
        for (int what = 0; what < RATES; what++)
            rates[what] +=
                bucket->values[what] /
                (what == RATE_OBJECTS_RECOVERED || what == RATE_BYTES_RECOVERED ? recovery : all);
    }
}

bool stats_recovery_rate(const struct stats *stats, double *bytes_per_s, double *objects_per_s)
{
    /* The first report tells what a second or so had done already. */
    double seconds =
        (double)(stats->recovery_seen_ns - stats->recovery_began_ns) / (double)SEC_NS + 1;

    *bytes_per_s = stats->recovered_bytes / seconds;
    *objects_per_s = stats->recovered_objects / seconds;
    return stats->recovery_began_ns != 0;
}

double stats_recovery_eta(double bytes_per_s, double objects_per_s, uint64_t bytes,
                          uint64_t objects)
{
    double by_bytes = bytes_per_s > 0 ? (double)bytes / bytes_per_s : -1;
    double by_objects = objects_per_s > 0 ? (double)objects / objects_per_s : -1;

    return by_bytes > by_objects ? by_bytes : by_objects;
}

static void pg_report(struct pg_stat *pg, const Limpet__Wire__OsdStats *report,
                      const Limpet__Wire__PgStat *in)
{
    /* Only a primary reports; of two, the one under the newer configuration is right. */
    if (pg->osd >= 0 && pg->config > in->config)
        return;
    free(pg->waiting);
    pg->waiting = NULL;
    if (in->waiting != NULL && in->waiting[0] != '\0')
        pg->waiting = strndup(in->waiting, STATS_WAITING_MAX);
    pg->osd = report->id;
    pg->instance = report->instance;
    pg->state = (uint8_t)in->state;
    pg->config = in->config;
    pg->objects = in->objects;
    pg->bytes = in->bytes;
    pg->learners = in->learners;
    pg->objects_missing = in->objects_missing;
    pg->bytes_missing = in->bytes_missing;
    pg->scrubbing = (uint8_t)(in->scrubbing < 2 ? in->scrubbing : 2);
    pg->scrub_stamp_ns = in->scrub_stamp_ns;
    pg->deep_stamp_ns = in->deep_stamp_ns;
    pg->inconsistent = in->inconsistent;
    pg->unrepairable = in->unrepairable;
    pg->snaps_trimmed = in->snaps_trimmed;
    pg->clones = in->clones;
    pg->writes = in->writes;
    pg->bytes_written = in->bytes_written;
    pg->reads = in->reads;
    pg->bytes_read = in->bytes_read;
}

/* A complete report names all groups of which the OSD is primary: it is not of the others. */
static void forget_osd(struct stats *stats, int32_t id)
{
    for (uint32_t i = 0; i < stats->n_pools; i++) {
        for (uint32_t seed = 0; seed < stats->pools[i].pg_num; seed++) {
            struct pg_stat *pg = &stats->pools[i].pgs[seed];
            if (pg->osd != id)
                continue;
            free(pg->waiting);
            struct pg_stat counted = *pg;
            *pg = (struct pg_stat){.osd = -1,
                                   .counted_osd = counted.counted_osd,
                                   .counted_instance = counted.counted_instance,
                                   .counted_ns = counted.counted_ns,
                                   .objects_recovered = counted.objects_recovered,
                                   .bytes_recovered = counted.bytes_recovered,
                                   .recovery_rate = counted.recovery_rate};
        }
    }
}

void stats_report(struct stats *stats, const struct cluster_map *map,
                  const Limpet__Wire__OsdStats *report, uint64_t now_ns)
{
    const struct map_osd *known = map_osd(map, report->id);

    if (known == NULL || known->instance != report->instance)
        return;
    struct osd_stat *osd = osd_make(stats, report->id);
    if (osd == NULL)
        return;
    osd_report(stats, osd, report, now_ns);
    if (report->complete)
        forget_osd(stats, report->id);
    for (size_t i = 0; i < report->n_pgs; i++) {
        const Limpet__Wire__PgStat *in = report->pgs[i];
        const struct map_pool *info = map_pool(map, in->pool);
        if (info == NULL || in->seed >= info->pg_num)
            continue;
        struct pool_stats *pool = pool_make(stats, info);
        if (pool == NULL)
            continue;
        pg_report(&pool->pgs[in->seed], report, in);
        if (pool->pgs[in->seed].osd == report->id)
            pg_progress(stats, &pool->pgs[in->seed], report, in, now_ns);
    }
}

void stats_trim(struct stats *stats, const struct cluster_map *map)
{
    for (uint32_t i = 0; i < stats->n_pools;) {
        if (map_pool(map, stats->pools[i].pool) == NULL) {
            pool_free(&stats->pools[i]);
            stats->pools[i] = stats->pools[--stats->n_pools];
        } else {
            i++;
        }
    }
    for (int32_t id = 0; id < stats->n_osds; id++) {
        if (map_osd(map, id) == NULL)
            memset(&stats->osds[id], 0, sizeof stats->osds[id]);
    }
}

void stats_compacted(struct stats *stats, uint64_t id, uint64_t config)
{
    struct pool_stats *pool = pool_find(stats, id);

    for (uint32_t i = 0; pool != NULL && i < pool->pg_num; i++) {
        if (pool->pgs[i].osd >= 0 && pool->pgs[i].config < config)
            pool->pgs[i].config = config;
    }
}

const struct osd_stat *stats_osd(const struct stats *stats, const struct cluster_map *map,
                                 int32_t id)
{
    const struct map_osd *known = map_osd(map, id);

    if (known == NULL || id >= stats->n_osds || stats->osds[id].instance == 0 ||
        stats->osds[id].instance != known->instance)
        return NULL;
    return &stats->osds[id];
}

const struct pg_stat *stats_pg(const struct stats *stats, struct pg_id pg)
{
    const struct pool_stats *pool = pool_find(stats, pg.pool);

    if (pool == NULL || pg.seed >= pool->pg_num || pool->pgs[pg.seed].osd < 0)
        return NULL;
    return &pool->pgs[pg.seed];
}

static Limpet__Wire__PgStat *pg_replay(uint64_t pool, uint32_t seed, const struct pg_stat *pg)
{
    Limpet__Wire__PgStat *out = malloc(sizeof *out);

    if (out == NULL)
        return NULL;
    limpet__wire__pg_stat__init(out);
    out->pool = pool;
    out->seed = seed;
    out->config = pg->config;
    out->state = (Limpet__Wire__PgState)pg->state;
    out->objects = pg->objects;
    out->bytes = pg->bytes;
    out->has_learners = pg->learners != 0;
    out->learners = pg->learners;
    out->has_objects_missing = pg->objects_missing != 0;
    out->objects_missing = pg->objects_missing;
    out->has_bytes_missing = pg->bytes_missing != 0;
    out->bytes_missing = pg->bytes_missing;
    out->has_scrubbing = pg->scrubbing != 0;
    out->scrubbing = pg->scrubbing;
    out->has_scrub_stamp_ns = pg->scrub_stamp_ns != 0;
    out->scrub_stamp_ns = pg->scrub_stamp_ns;
    out->has_deep_stamp_ns = pg->deep_stamp_ns != 0;
    out->deep_stamp_ns = pg->deep_stamp_ns;
    out->has_inconsistent = out->has_unrepairable = pg->inconsistent != 0;
    out->inconsistent = pg->inconsistent;
    out->unrepairable = pg->unrepairable;
    out->has_snaps_trimmed = pg->snaps_trimmed != 0;
    out->snaps_trimmed = pg->snaps_trimmed;
    out->has_clones = out->has_writes = out->has_bytes_written = true;
    out->has_reads = out->has_bytes_read = true;
    out->clones = pg->clones;
    out->writes = pg->writes;
    out->bytes_written = pg->bytes_written;
    out->reads = pg->reads;
    out->bytes_read = pg->bytes_read;
    out->has_objects_recovered = out->has_bytes_recovered = pg->counted_osd == pg->osd;
    out->objects_recovered = pg->counted_osd == pg->osd ? pg->objects_recovered : 0;
    out->bytes_recovered = pg->counted_osd == pg->osd ? pg->bytes_recovered : 0;
    out->waiting = pg->waiting != NULL ? strdup(pg->waiting) : NULL;
    return out;
}

Limpet__Wire__OsdStats *stats_replay(const struct stats *stats, const struct cluster_map *map,
                                     int32_t id)
{
    const struct osd_stat *osd = stats_osd(stats, map, id);
    size_t n = 0;

    if (osd == NULL)
        return NULL;
    for (uint32_t i = 0; i < stats->n_pools; i++) {
        for (uint32_t seed = 0; seed < stats->pools[i].pg_num; seed++)
            n += stats->pools[i].pgs[seed].osd == id;
    }
    Limpet__Wire__OsdStats *out = malloc(sizeof *out);
    if (out == NULL)
        return NULL;
    limpet__wire__osd_stats__init(out);
    out->pgs = calloc(n + 1, sizeof(Limpet__Wire__PgStat *));
    for (uint32_t i = 0; out->pgs != NULL && i < stats->n_pools; i++) {
        const struct pool_stats *pool = &stats->pools[i];
        for (uint32_t seed = 0; seed < pool->pg_num && out->n_pgs < n; seed++) {
            if (pool->pgs[seed].osd != id)
                continue;
            Limpet__Wire__PgStat *pg = pg_replay(pool->pool, seed, &pool->pgs[seed]);
            if (pg != NULL)
                out->pgs[out->n_pgs++] = pg;
        }
    }
    out->id = id;
    out->instance = osd->instance;
    out->epoch = osd->epoch;
    out->bytes_total = osd->bytes_total;
    out->bytes_used = osd->bytes_used;
    out->has_complete = true;
    out->complete = true;
    out->has_write_ops = out->has_read_ops = out->has_write_bytes = out->has_read_bytes = true;
    out->write_ops = osd->counters[0];
    out->read_ops = osd->counters[1];
    out->write_bytes = osd->counters[2];
    out->read_bytes = osd->counters[3];
    out->has_read_errors = out->has_repaired = true;
    out->read_errors = osd->read_errors;
    out->repaired = osd->repaired;
    out->version = osd->version[0] != '\0' ? strdup(osd->version) : NULL;
    out->has_slow_ops = out->has_slowest_ms = osd->slow_ops > 0;
    out->slow_ops = osd->slow_ops;
    out->slowest_ms = osd->slowest_ms;
    out->slowest_waits = osd->slow_ops > 0 ? strdup(osd->slowest_waits) : NULL;
    return out;
}

void stats_report_free(Limpet__Wire__OsdStats *report)
{
    if (report == NULL)
        return;
    for (size_t i = 0; i < report->n_pgs; i++) {
        free(report->pgs[i]->waiting);
        free(report->pgs[i]);
    }
    free(report->pgs);
    free(report->version);
    free(report->slowest_waits);
    free(report);
}
