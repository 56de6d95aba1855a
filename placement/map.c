/*
 * The cluster map as a value, and what follows from it.
 */
#include "placement/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "placement/hash.h"
#include "placement/map_private.h"

struct cluster_map *map_create(void)
{
    struct cluster_map *map = calloc(1, sizeof *map);
    if (map == NULL) {
        return NULL;
    }
    map->next_pool_id = 1;
    map->crush = crush_create();
    if (map->crush == NULL) {
        free(map);
        return NULL;
    }
    return map;
}

void pools_free(struct map_pool *pools, uint32_t n)
{
    for (uint32_t i = 0; pools != NULL && i < n; i++) {
        /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): all n of them are there. */
        snaps_unref(pools[i].snaps);
        apps_unref(pools[i].apps);
    }
    free(pools);
}

void map_destroy(struct cluster_map *map)
{
    if (map != NULL) {
        crush_destroy(map->crush);
        free(map->osds);
        free(map->osd_weights);
        pools_free(map->pools, map->n_pools);
        free(map->pgs);
        free(map->blocked);
        free(map);
    }
}

/* A copy of n elements that is not NULL even when there are none. */
static void *copy_array(const void *from, size_t n, size_t size)
{
    void *copy = malloc(n * size + 1);
    if (copy != NULL && n > 0) {
        memcpy(copy, from, n * size);
    }
    return copy;
}

struct cluster_map *map_clone(const struct cluster_map *from)
{
    struct cluster_map *map = malloc(sizeof *map);
    if (map == NULL) {
        return NULL;
    }
    *map = *from;
    size_t n_osds = (size_t)from->max_osd;
    map->crush = crush_clone(from->crush);
    map->osds = copy_array(from->osds, n_osds, sizeof *map->osds);
    map->osd_weights = copy_array(from->osd_weights, n_osds, sizeof *map->osd_weights);
    map->pools = copy_array(from->pools, from->n_pools, sizeof *map->pools);
    map->pgs = copy_array(from->pgs, from->n_pgs, sizeof *map->pgs);
    map->blocked = copy_array(from->blocked, from->n_blocked, sizeof *map->blocked);
    for (uint32_t i = 0; map->pools != NULL && i < map->n_pools; i++) {
        /* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): all n of them are there. */
        (void)snaps_ref(map->pools[i].snaps);
        (void)apps_ref(map->pools[i].apps);
    }
    if (map->blocked == NULL || map->crush == NULL || map->osds == NULL ||
        map->osd_weights == NULL || map->pools == NULL || map->pgs == NULL) {
        map_destroy(map);
        return NULL;
    }
    return map;
}

int map_grow_osds(struct cluster_map *map, int32_t max_osd)
{
    if (max_osd <= map->max_osd) {
        return 0;
    }
    size_t n = (size_t)max_osd, old = (size_t)map->max_osd;
    struct map_osd *osds = realloc(map->osds, n * sizeof *osds);
    if (osds == NULL) {
        return -ENOMEM;
    }
    map->osds = osds;
    uint32_t *weights = realloc(map->osd_weights, n * sizeof *weights);
    if (weights == NULL) {
        return -ENOMEM;
    }
    map->osd_weights = weights;
    memset(osds + old, 0, (n - old) * sizeof *osds);
    memset(weights + old, 0, (n - old) * sizeof *weights);
    map->max_osd = max_osd;
    return 0;
}

struct map_osd osd_normal(const struct map_osd *osd)
{
    struct map_osd normal = {.removed_at = osd->removed_at};
    if (osd->exists) {
        normal = *osd;
        normal.removed_at = 0;
    }
    return normal;
}

void map_put_osd(struct cluster_map *map, int32_t id, const struct map_osd *osd)
{
    map->osds[id] = osd_normal(osd);
    map->osd_weights[id] = osd->exists ? osd->weight : 0;
}

/* ---- Looking things up ---- */

int pg_id_compare(struct pg_id a, struct pg_id b)
{
    if (a.pool != b.pool) {
        return a.pool < b.pool ? -1 : 1;
    }
    return a.seed == b.seed ? 0 : a.seed < b.seed ? -1 : 1;
}

uint32_t pools_find(const struct map_pool *pools, uint32_t n, uint64_t id)
{
    uint32_t low = 0;
    while (low < n) {
        uint32_t middle = low + (n - low) / 2;
        if (pools[middle].id < id) {
            low = middle + 1;
        } else {
            n = middle;
        }
    }
    return low;
}

uint32_t pgs_find(const struct map_pg *pgs, uint32_t n, struct pg_id pg)
{
    uint32_t low = 0;
    while (low < n) {
        uint32_t middle = low + (n - low) / 2;
        if (pg_id_compare(pgs[middle].pg, pg) < 0) {
            low = middle + 1;
        } else {
            n = middle;
        }
    }
    return low;
}

const struct map_pool *map_pool(const struct cluster_map *map, uint64_t id)
{
    uint32_t i = pools_find(map->pools, map->n_pools, id);
    return i < map->n_pools && map->pools[i].id == id ? &map->pools[i] : NULL;
}

const struct map_pool *map_pool_by_name(const struct cluster_map *map, const char *name)
{
    for (uint32_t i = 0; i < map->n_pools; i++) {
        if (strcmp(map->pools[i].name, name) == 0) {
            return &map->pools[i];
        }
    }
    return NULL;
}

const struct map_osd *map_osd(const struct cluster_map *map, int32_t id)
{
    return id >= 0 && id < map->max_osd && map->osds[id].exists ? &map->osds[id] : NULL;
}

uint64_t map_osd_removed_at(const struct cluster_map *map, int32_t id)
{
    return id >= 0 && id < map->max_osd ? map->osds[id].removed_at : 0;
}

bool map_osd_up(const struct cluster_map *map, int32_t id)
{
    const struct map_osd *osd = map_osd(map, id);
    return osd != NULL && osd->up;
}

/* By its bytes, since memory beside them is not part of it. */
static int compare_ip(const struct net_address *a, const struct net_address *b)
{
    if (a->family != b->family) {
        return a->family < b->family ? -1 : 1;
    }
    return memcmp(a->ip, b->ip, a->family == 6 ? 16 : a->family == 4 ? 4 : 0);
}

int map_blocked_compare(const struct map_blocked *a, const struct map_blocked *b)
{
    if (a->instance != b->instance) {
        return a->instance < b->instance ? -1 : 1;
    }
    /* The address of a process is only for people. */
    return a->instance != 0 ? 0 : compare_ip(&a->address, &b->address);
}

bool map_blocks(const struct cluster_map *map, uint64_t instance, const struct net_address *address)
{
    uint32_t low = 0, high = map->n_blocked;
    for (uint32_t i = 0; i < map->n_blocked && map->blocked[i].instance == 0; i++) {
        if (address != NULL && compare_ip(&map->blocked[i].address, address) == 0) {
            return true;
        }
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (map->blocked[middle].instance < instance) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return instance != 0 && low < map->n_blocked && map->blocked[low].instance == instance;
}

const struct map_pg *map_pg_entry(const struct cluster_map *map, struct pg_id pg)
{
    uint32_t i = pgs_find(map->pgs, map->n_pgs, pg);
    return i < map->n_pgs && pg_id_equal(map->pgs[i].pg, pg) ? &map->pgs[i] : NULL;
}

struct pg_id map_object_pg(const struct map_pool *pool, uint32_t hash)
{
    return (struct pg_id){.pool = pool->id, .seed = stable_mod(hash, pool->pg_num)};
}

/* ---- Placement groups ---- */

static bool has_member(const int32_t *members, uint8_t n, int32_t osd)
{
    for (uint8_t i = 0; i < n; i++) {
        if (members[i] == osd) {
            return true;
        }
    }
    return false;
}

/*
 * The input mixes the pool's number in, so that PGs with the same seed of different pools lie on
 * different OSDs. In a replicated pool there are no holes, and an OSD that a rule with several
 * takes found twice counts once; in an erasure-coded one each position keeps its meaning.
 */
static uint8_t pool_pg_crush(const struct cluster_map *map, const struct map_pool *pool,
                             uint32_t seed, int32_t wanted[PG_SIZE_MAX])
{
    int32_t raw[PG_SIZE_MAX];
    int32_t scratch[3 * PG_SIZE_MAX];
    uint32_t x = hash32_2(seed, (uint32_t)pool->id);
    uint32_t n_raw = crush_map_input(map->crush, pool->crush_rule, x, map->osd_weights,
                                     (uint32_t)map->max_osd, raw, pool->size, scratch);
    uint8_t n = 0;
    for (uint32_t i = 0; i < n_raw; i++) {
        bool is_osd = map_osd(map, raw[i]) != NULL;
        if (pool->type == POOL_ERASURE) {
            wanted[n++] = is_osd ? raw[i] : CRUSH_ITEM_NONE;
        } else if (is_osd && !has_member(wanted, n, raw[i])) {
            wanted[n++] = raw[i];
        }
    }
    return n;
}

uint8_t map_pg_crush(const struct cluster_map *map, struct pg_id pg, int32_t wanted[PG_SIZE_MAX])
{
    const struct map_pool *pool = map_pool(map, pg.pool);
    return pool != NULL && pg.seed < pool->pg_num ? pool_pg_crush(map, pool, pg.seed, wanted) : 0;
}

int map_pg_view(const struct cluster_map *map, struct pg_id pg, struct pg_view *out)
{
    const struct map_pool *pool = map_pool(map, pg.pool);
    if (pool == NULL || pg.seed >= pool->pg_num) {
        return -ENOENT;
    }
    struct pg_view view = {.primary = -1};
    view.n_wanted = pool_pg_crush(map, pool, pg.seed, view.wanted);
    const struct map_pg *entry = map_pg_entry(map, pg);
    view.config = entry != NULL ? entry->config : pool->config_base;
    view.n_members = entry != NULL ? entry->n : view.n_wanted;
    memcpy(view.members, entry != NULL ? entry->members : view.wanted, sizeof view.members);
    for (uint8_t i = 0; i < view.n_members; i++) {
        if (map_osd_up(map, view.members[i])) {
            view.n_up++;
            view.primary = view.primary < 0 ? view.members[i] : view.primary;
        }
    }
    for (uint8_t i = 0; i < view.n_wanted; i++) {
        if (map_osd_up(map, view.wanted[i]) &&
            !has_member(view.members, view.n_members, view.wanted[i])) {
            view.learners[view.n_learners++] = view.wanted[i];
        }
    }
    bool all_up = view.n_up > 0 && view.n_up == view.n_members;
    view.active = all_up && view.n_members >= pool->min_size;
    view.recovers = view.active || (all_up && view.config != pool->created);
    view.clean = all_up && view.n_members == pool->size && view.n_wanted == pool->size &&
                 memcmp(view.members, view.wanted, view.n_wanted * sizeof *view.wanted) == 0;
    *out = view;
    return 0;
}
