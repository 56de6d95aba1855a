/* Snapshots of pools: the events of machine.h that are about them. */
#include <errno.h>

#include "mon/machine.h"
#include "mon/machine_private.h"

/* Takes over the reference. */
static int stage_snaps(struct change *change, const struct map_pool *known,
                       const struct map_snaps *snaps)
{
    struct map_pool pool = *known;

    pool.snaps = snaps;
    int rc = stage_pool(change, &pool);
    snaps_unref(snaps);
    return rc == 0 ? change_flush(change) : rc;
}

int machine_snap_create(struct change *change, uint64_t id, const char *name, uint64_t stamp_ns,
                        uint64_t *snap)
{
    const struct map_pool *pool = map_pool(change->map, id);
    const struct map_snaps *snaps;

    if (pool == NULL)
        return -ENOENT;
    int rc = name != NULL ? snaps_add_named(pool->snaps, name, stamp_ns, &snaps)
                          : snaps_add_self(pool->snaps, &snaps);
    if (rc != 0)
        return rc;
    *snap = snaps->seq;
    return stage_snaps(change, pool, snaps);
}

int machine_snap_remove(struct change *change, uint64_t id, uint64_t snap)
{
    const struct map_pool *pool = map_pool(change->map, id);
    const struct map_snaps *snaps;

    if (pool == NULL)
        return -ENOENT;
    int rc = snaps_remove(pool->snaps, snap, change_epoch(change), &snaps);
    return rc == 0 ? stage_snaps(change, pool, snaps) : rc;
}

int machine_snaps_purge(struct change *change, uint64_t id, uint64_t epoch)
{
    const struct map_pool *pool = map_pool(change->map, id);
    const struct map_snaps *snaps;
    bool some = false;

    for (uint32_t i = 0; pool != NULL && pool->snaps != NULL && i < pool->snaps->n_trims; i++)
        some |= pool->snaps->trims[i].epoch <= epoch;
    if (!some)
        return 0;
    int rc = snaps_purge(pool->snaps, epoch, &snaps);
    return rc == 0 ? stage_snaps(change, pool, snaps) : rc;
}
