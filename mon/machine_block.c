/*
 * The map state machine: clients that are blocked.
 */
#include <errno.h>
#include <string.h>

#include "mon/machine_private.h"

/* Index of the first that is not before this one. */
static uint32_t place_of(const struct cluster_map *map, const struct map_blocked *blocked)
{
    uint32_t at = 0;

    while (at < map->n_blocked && map_blocked_compare(&map->blocked[at], blocked) < 0)
        at++;
    return at;
}

static bool is_at(const struct cluster_map *map, uint32_t at, const struct map_blocked *blocked)
{
    return at < map->n_blocked && map_blocked_compare(&map->blocked[at], blocked) == 0;
}

int machine_block(struct change *change, const struct map_blocked *blocked)
{
    const struct cluster_map *map = change->map;
    struct map_blocked list[MAP_BLOCKED_MAX];
    uint32_t at = place_of(map, blocked);
    bool known = is_at(map, at, blocked);
    uint32_t n = map->n_blocked + !known;

    if (n > MAP_BLOCKED_MAX)
        return -ENOSPC;
    if (at > 0)
        memcpy(list, map->blocked, at * sizeof list[0]);
    list[at] = *blocked;
    if (known && map->blocked[at].until_ns > blocked->until_ns)
        list[at].until_ns = map->blocked[at].until_ns;
    if (at + known < map->n_blocked)
        memcpy(&list[at + 1], &map->blocked[at + known],
               (map->n_blocked - at - known) * sizeof list[0]);
    int rc = stage_blocked(change, list, n);
    return rc == 0 ? change_flush(change) : rc;
}

int machine_unblock(struct change *change, const struct map_blocked *blocked)
{
    const struct cluster_map *map = change->map;
    struct map_blocked list[MAP_BLOCKED_MAX];
    uint32_t at = place_of(map, blocked);

    if (!is_at(map, at, blocked))
        return -ENOENT;
    memcpy(list, map->blocked, map->n_blocked * sizeof list[0]);
    memmove(&list[at], &list[at + 1], (map->n_blocked - at - 1) * sizeof list[0]);
    int rc = stage_blocked(change, list, map->n_blocked - 1);
    return rc == 0 ? change_flush(change) : rc;
}

int machine_unblock_until(struct change *change, uint64_t wall_ns)
{
    const struct cluster_map *map = change->map;
    struct map_blocked list[MAP_BLOCKED_MAX];
    uint32_t n = 0;

    for (uint32_t i = 0; i < map->n_blocked; i++)
        if (map->blocked[i].until_ns > wall_ns)
            list[n++] = map->blocked[i];
    if (n == map->n_blocked)
        return 0;
    int rc = stage_blocked(change, list, n);
    return rc == 0 ? change_flush(change) : rc;
}
