#include "mon/summary.h"

#include <stdio.h>
#include <string.h>

enum { STALE_REPORT_S = 30 };

/* The report of a group's present primary about its present configuration. */
static const struct pg_stat *current_stat(const struct mon *mon, struct pg_id pg,
                                          const struct pg_view *view)
{
    const struct pg_stat *stat = stats_pg(mon->stats, pg);
    const struct map_osd *osd = map_osd(mon->state.map, view->primary);

    if (stat == NULL || osd == NULL || stat->osd != view->primary ||
        stat->instance != osd->instance || stat->config != view->config)
        return NULL;
    return stat;
}

static void add_word(struct pg_condition *pg, const char *word)
{
    size_t len = strlen(pg->state);

    snprintf(pg->state + len, sizeof pg->state - len, "%s%s", len > 0 ? "+" : "", word);
}

static void describe_scrub(struct pg_condition *pg)
{
    if (pg->stat->scrubbing > 0)
        add_word(pg, "scrubbing");
    if (pg->stat->scrubbing > 1)
        add_word(pg, "deep");
    if (pg->stat->inconsistent > 0)
        add_word(pg, "inconsistent");
}

static void describe_copies(struct pg_condition *pg, const struct map_pool *pool)
{
    bool filling = pg->stat->learners > 0;

    add_word(pg, "active");
    pg->active = true;
    pg->clean = pg->view.clean && pg->stat->objects_missing == 0;
    if (pg->clean) {
        add_word(pg, "clean");
        return;
    }
    if (pg->view.n_members < pool->size) {
        add_word(pg, "undersized");
        add_word(pg, "degraded");
        pg->undersized = true;
        pg->missing_copies = (uint32_t)(pool->size - pg->view.n_members);
    } else {
        add_word(pg, "remapped");
    }
    if (filling)
        add_word(pg, "backfilling");
    else if (pg->view.n_learners > 0)
        add_word(pg, "backfill_wait");
}

static void describe_active(struct pg_condition *pg, const struct map_pool *pool)
{
    describe_copies(pg, pool);
    describe_scrub(pg);
}

static void describe_inactive(struct pg_condition *pg, const struct map_pool *pool)
{
    if (pg->view.n_members == 0) {
        add_word(pg, "unknown");
    } else if (pg->view.n_up < pg->view.n_members) {
        add_word(pg, "down");
        pg->missing_copies = (uint32_t)(pool->size - pg->view.n_up);
    } else {
        add_word(pg, "undersized");
        add_word(pg, "peered");
        pg->undersized = true;
        pg->missing_copies = (uint32_t)(pool->size - pg->view.n_members);
    }
}

static void describe(const struct mon *mon, const struct map_pool *pool, uint32_t seed,
                     struct pg_condition *out)
{
    struct pg_id pg = {.pool = pool->id, .seed = seed};

    if (map_pg_view(mon->state.map, pg, &out->view) != 0)
        return;
    out->stat = current_stat(mon, pg, &out->view);
    out->available_by_map = out->view.active || out->view.n_members == 0;
    if (!out->view.active) {
        describe_inactive(out, pool);
        return;
    }
    const struct osd_stat *osd = stats_osd(mon->stats, mon->state.map, out->view.primary);
    if (osd != NULL && env_now(mon->env) - osd->reported_ns > STALE_REPORT_S * SEC_NS)
        add_word(out, "stale");
    if (out->stat == NULL && stats_pg(mon->stats, pg) == NULL)
        add_word(out, "unknown");
    else if (out->stat == NULL || out->stat->state != LIMPET__WIRE__PG_STATE__PG_ACTIVE)
        add_word(out, "activating");
    else
        describe_active(out, pool);
}

/* What is left to be copied: to those being filled, as they are known to lack it; to others, all.
 */
static void count_left(struct pg_condition *pg, const struct map_pool *pool,
                       const struct pg_stat *stat)
{
    uint64_t filling = pg->stat != NULL ? pg->stat->learners : 0;
    uint64_t learners = pg->view.n_learners;

    filling = filling < learners ? filling : learners;
    pg->objects_left = stat->objects * (learners - filling);
    pg->bytes_left = stat->bytes * (learners - filling);
    if (filling > 0) {
        pg->objects_left += pg->stat->objects_missing;
        pg->bytes_left += pg->stat->bytes_missing;
    }
    uint64_t copies = stat->objects * pg->missing_copies;
    uint64_t nowhere = pg->missing_copies > learners ? pg->missing_copies - learners : 0;
    pg->degraded = pg->objects_left + stat->objects * nowhere;
    pg->degraded = pg->degraded < copies ? pg->degraded : copies;
    if (pg->missing_copies == 0 && pg->view.n_members >= pool->size)
        pg->misplaced = pg->objects_left;
    if (pg->bytes_left > 0 && stat->recovery_rate >= 1)
        pg->eta_s = (double)pg->bytes_left / stat->recovery_rate;
}

void summary_pg(const struct mon *mon, const struct map_pool *pool, uint32_t seed,
                struct pg_condition *out)
{
    /* The last report tells how much there is, also when it is of an older configuration. */
    const struct pg_stat *stat = stats_pg(mon->stats, (struct pg_id){pool->id, seed});

    memset(out, 0, sizeof *out);
    out->eta_s = -1;
    describe(mon, pool, seed, out);
    out->unplaced = out->view.n_wanted < pool->size;
    if (stat != NULL)
        count_left(out, pool, stat);
}

static void count_state(struct summary *summary, const char *text)
{
    for (uint32_t i = 0; i < summary->n_states; i++) {
        if (strcmp(summary->states[i].text, text) == 0) {
            summary->states[i].count++;
            return;
        }
    }
    if (summary->n_states < SUMMARY_STATES_MAX) {
        snprintf(summary->states[summary->n_states].text, SUMMARY_STATE_TEXT_MAX, "%s", text);
        summary->states[summary->n_states++].count = 1;
    }
}

static void count_reason(struct summary *summary, const char *text)
{
    for (uint32_t i = 0; i < summary->n_reasons; i++) {
        if (strcmp(summary->reasons[i].text, text) == 0) {
            summary->reasons[i].count++;
            return;
        }
    }
    if (summary->n_reasons < SUMMARY_REASONS_MAX) {
        snprintf(summary->reasons[summary->n_reasons].text, STATS_WAITING_MAX + 1, "%s", text);
        summary->reasons[summary->n_reasons++].count = 1;
    }
}

static void count_pg(const struct mon *mon, const struct map_pool *pool, uint32_t seed,
                     struct summary *out)
{
    struct pg_condition pg;

    summary_pg(mon, pool, seed, &pg);
    count_state(out, pg.state);
    out->n_pgs++;
    out->n_inactive += !pg.active;
    out->n_down += !pg.available_by_map;
    out->n_undersized += pg.undersized;
    out->n_unclean += !pg.clean;
    out->n_unplaced += pg.unplaced;
    if (pg.stat != NULL && pg.stat->inconsistent > 0) {
        out->n_inconsistent++;
        out->objects_inconsistent += pg.stat->inconsistent;
        out->objects_unrepairable += pg.stat->unrepairable;
    }
    struct pg_id id = {.pool = pool->id, .seed = seed};
    const struct pg_stat *stat = stats_pg(mon->stats, id);
    if (stat == NULL)
        return;
    if (!pg.clean && pg.stat != NULL && pg.stat->waiting != NULL)
        count_reason(out, pg.stat->waiting);
    out->objects += stat->objects;
    out->bytes += stat->bytes;
    out->copies += stat->objects * pool->size;
    out->degraded += pg.degraded;
    out->misplaced += pg.misplaced;
    out->bytes_left += pg.bytes_left;
    out->objects_left += pg.objects_left;
}

static void sort_states(struct summary *out)
{
    for (uint32_t i = 1; i < out->n_states; i++) {
        for (uint32_t k = i; k > 0 && out->states[k].count > out->states[k - 1].count; k--) {
            __typeof__(out->states[0]) swap = out->states[k];
            out->states[k] = out->states[k - 1];
            out->states[k - 1] = swap;
        }
    }
}

void summary_make(const struct mon *mon, struct summary *out)
{
    const struct cluster_map *map = mon->state.map;

    memset(out, 0, sizeof *out);
    for (int32_t id = 0; id < map->max_osd; id++) {
        const struct map_osd *osd = map_osd(map, id);
        if (osd == NULL)
            continue;
        out->n_osds++;
        out->n_up += osd->up;
        out->n_in += osd->weight > 0;
        const struct osd_stat *stat = stats_osd(mon->stats, map, id);
        if (stat == NULL || !osd->up)
            continue;
        out->bytes_total += stat->bytes_total;
        out->bytes_used += stat->bytes_used;
    }
    for (uint32_t i = 0; i < map->n_pools; i++) {
        for (uint32_t seed = 0; seed < map->pools[i].pg_num; seed++)
            count_pg(mon, &map->pools[i], seed, out);
    }
    sort_states(out);
    stats_rates(mon->stats, env_now(mon->env), out->rates);
    out->eta_s = -1;
    if (out->bytes_left + out->objects_left > 0)
        out->eta_s =
            stats_recovery_eta(out->rates[RATE_BYTES_RECOVERED], out->rates[RATE_OBJECTS_RECOVERED],
                               out->bytes_left, out->objects_left);
}

void summary_pool(const struct mon *mon, const struct map_pool *pool, struct pool_summary *out)
{
    *out = (struct pool_summary){0};
    for (uint32_t seed = 0; seed < pool->pg_num; seed++) {
        struct pg_id id = {.pool = pool->id, .seed = seed};
        const struct pg_stat *stat = stats_pg(mon->stats, id);
        struct pg_condition pg;
        if (stat == NULL)
            continue;
        summary_pg(mon, pool, seed, &pg);
        out->objects += stat->objects;
        out->bytes += stat->bytes;
        out->clones += stat->clones;
        out->degraded += pg.degraded;
        out->writes += stat->writes;
        out->bytes_written += stat->bytes_written;
        out->reads += stat->reads;
        out->bytes_read += stat->bytes_read;
    }
}
