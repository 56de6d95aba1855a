#include "mon/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has(const int32_t *list, uint8_t n, int32_t osd)
{
    for (uint8_t i = 0; i < n; i++) {
        if (list[i] == osd)
            return true;
    }
    return false;
}

static void note_group(struct plan_groups *groups, struct pg_id pg)
{
    groups->n++;
    if (groups->n_examples < PLAN_EXAMPLES_MAX)
        groups->examples[groups->n_examples++] = pg;
}

struct pg_move {
    struct pg_id pg;
    const struct map_pool *pool; /* After. */
    struct pg_view before;
    struct pg_view after;
    uint64_t bytes;
    uint64_t objects;
};

/* What is wanted somewhere and not in the set has to be copied there. */
static void plan_copies(struct plan *plan, const struct pg_move *move)
{
    bool moves = false;

    for (uint8_t i = 0; i < move->after.n_wanted; i++) {
        int32_t id = move->after.wanted[i];
        if (id < 0 || id >= plan->n_osds || has(move->after.members, move->after.n_members, id))
            continue;
        struct plan_osd *osd = &plan->osds[id];
        if (has(move->before.wanted, move->before.n_wanted, id)) {
            osd->bytes_pending += move->bytes;
            plan->bytes_pending += move->bytes;
            continue;
        }
        moves = true;
        osd->bytes_in += move->bytes;
        osd->pgs_in++;
        plan->bytes += move->bytes;
        plan->objects += move->objects;
    }
    for (uint8_t i = 0; i < move->before.n_wanted; i++) {
        int32_t id = move->before.wanted[i];
        if (id < 0 || id >= plan->n_osds || has(move->after.wanted, move->after.n_wanted, id))
            continue;
        moves = true;
        plan->osds[id].bytes_out += move->bytes;
        plan->osds[id].pgs_out++;
    }
    plan->pgs += moves;
}

static void plan_group(struct plan *plan, const struct pg_move *move)
{
    const struct pg_view *before = &move->before;
    const struct pg_view *after = &move->after;

    plan_copies(plan, move);
    if (after->n_wanted < move->pool->size)
        note_group(&plan->unplaced, move->pg);
    if (after->n_up < before->n_up && after->n_up < move->pool->size)
        note_group(&plan->degraded, move->pg);
    if (before->active && !after->active)
        note_group(&plan->inactive, move->pg);
    bool kept = before->n_members == 0;
    for (uint8_t i = 0; i < before->n_members; i++)
        kept = kept || has(after->members, after->n_members, before->members[i]);
    if (!kept)
        note_group(&plan->lost, move->pg);
}

static void plan_pool(struct plan *plan, const struct mon *mon, const struct cluster_map *before,
                      const struct cluster_map *after, const struct map_pool *pool)
{
    for (uint32_t seed = 0; seed < pool->pg_num; seed++) {
        struct pg_move move = {.pg = {.pool = pool->id, .seed = seed}, .pool = pool};
        const struct pg_stat *stat = stats_pg(mon->stats, move.pg);
        /* A pool that the change makes has nothing to move. */
        if (map_pg_view(before, move.pg, &move.before) != 0 ||
            map_pg_view(after, move.pg, &move.after) != 0)
            continue;
        if (stat != NULL) {
            move.bytes = stat->bytes;
            move.objects = stat->objects;
        } else if (move.before.config != pool->created || move.before.active) {
            plan->sizes_known = false;
        }
        plan_group(plan, &move);
    }
}

/* While data move, they are on both sides. */
static void plan_fullness(struct plan *plan, const struct mon *mon)
{
    for (int32_t id = 0; id < plan->n_osds; id++) {
        const struct plan_osd *osd = &plan->osds[id];
        const struct osd_stat *stat = stats_osd(mon->stats, mon->state.map, id);
        if (osd->bytes_in == 0 || stat == NULL || stat->bytes_total == 0)
            continue;
        double used = (double)(stat->bytes_used + osd->bytes_in + osd->bytes_pending);
        double ratio = used / (double)stat->bytes_total;
        plan->n_full += ratio >= mon->options.full_ratio;
        if (plan->fullest < 0 || ratio > plan->fullest_ratio) {
            plan->fullest = id;
            plan->fullest_ratio = ratio;
        }
    }
}

int plan_make(const struct mon *mon, const struct cluster_map *before,
              const struct cluster_map *after, struct plan *out)
{
    memset(out, 0, sizeof *out);
    out->fullest = -1;
    out->sizes_known = true;
    out->changes = after->epoch != before->epoch;
    out->n_osds = before->max_osd > after->max_osd ? before->max_osd : after->max_osd;
    out->osds = calloc((size_t)out->n_osds + 1, sizeof *out->osds);
    if (out->osds == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < after->n_pools; i++)
        plan_pool(out, mon, before, after, &after->pools[i]);
    plan_fullness(out, mon);
    out->rate_known = stats_recovery_rate(mon->stats, &out->bytes_per_s, &out->objects_per_s);
    return 0;
}

void plan_fini(struct plan *plan)
{
    free(plan->osds);
    plan->osds = NULL;
}

double plan_eta(const struct plan *plan, uint64_t bytes, uint64_t objects)
{
    if (bytes == 0 && objects == 0)
        return 0;
    if (!plan->rate_known)
        return -1;
    return stats_recovery_eta(plan->bytes_per_s, plan->objects_per_s, bytes, objects);
}

bool plan_refuses(const struct plan *plan, char *why, size_t size)
{
    if (plan->n_full == 0)
        return false;
    snprintf(
        why, size,
        "osd.%d would be %.0f%% full while the data move (%d osd(s) beyond the full ratio): add "
        "OSDs or delete data first, or add --force",
        plan->fullest, plan->fullest_ratio * 100, plan->n_full);
    return true;
}
