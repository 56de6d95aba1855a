/* Removed snapshots leave the map when all placement groups of their pool have trimmed them. */
#include "mon/leader.h"

static uint64_t config_of(const struct cluster_map *map, const struct map_pool *pool,
                          struct pg_id pg)
{
    const struct map_pg *entry = map_pg_entry(map, pg);

    return entry != NULL ? entry->config : pool->config_base;
}

/*
 * The epoch up to which all groups of the pool say so, under their present configuration. What an
 * earlier primary has said is true of its successors, but its reports may be of a time before the
 * removal, which the epoch tells; and of groups that are not heard of nothing is known.
 */
static uint64_t trimmed_epoch(const struct leader *leader, const struct cluster_map *map,
                              const struct map_pool *pool)
{
    uint64_t least = UINT64_MAX;

    for (uint32_t seed = 0; seed < pool->pg_num && least > 0; seed++) {
        struct pg_id pg = {.pool = pool->id, .seed = seed};
        const struct pg_stat *stat = stats_pg(leader->mon->stats, pg);
        bool known = stat != NULL && stat->osd >= 0 && stat->config == config_of(map, pool, pg);
        uint64_t trimmed = known ? stat->snaps_trimmed : 0;
        least = trimmed < least ? trimmed : least;
    }
    return least;
}

int leader_stage_purge(struct leader *leader, struct batch *batch, uint64_t id)
{
    const struct cluster_map *map = change_map(batch->change);
    const struct map_pool *pool = map_pool(map, id);

    return pool == NULL ? 0
                        : machine_snaps_purge(batch->change, id, trimmed_epoch(leader, map, pool));
}

void leader_watch_snaps(struct leader *leader)
{
    const struct cluster_map *map = leader->mon->state.map;

    for (uint32_t i = 0; i < map->n_pools; i++) {
        const struct map_pool *pool = &map->pools[i];
        uint32_t n = pool->snaps != NULL ? pool->snaps->n_trims : 0;
        uint64_t epoch = n > 0 ? trimmed_epoch(leader, map, pool) : 0;
        for (uint32_t k = 0; k < n; k++) {
            if (pool->snaps->trims[k].epoch <= epoch) {
                leader_request(leader, REQUEST_PURGE, 0, 0, pool->id);
                break;
            }
        }
    }
}
