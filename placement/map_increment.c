/*
 * Increments: building them, and applying them to a map.
 *
 *  1. Arrays of an increment are sorted and name each thing once: the last value wins.
 *  2. map_apply() first makes everything that can fail, then puts it into the map: there is no
 *     half-applied increment.
 *  3. The result depends on the map and the increment only.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "placement/map_private.h"

struct map_increment *map_increment_create(uint64_t epoch)
{
    struct map_increment *inc = calloc(1, sizeof *inc);
    if (inc != NULL) {
        inc->epoch = epoch;
    }
    return inc;
}

void map_increment_destroy(struct map_increment *inc)
{
    if (inc != NULL) {
        crush_destroy(inc->crush);
        free(inc->osds);
        for (uint32_t i = 0; i < inc->n_pools; i++) {
            snaps_unref(inc->pools[i].pool.snaps);
            apps_unref(inc->pools[i].pool.apps);
        }
        free(inc->pools);
        free(inc->pgs);
        free(inc->blocked);
        free(inc);
    }
}

bool map_increment_empty(const struct map_increment *inc)
{
    return !inc->has_fsid && !inc->has_mons && !inc->has_flags && !inc->has_blocked &&
           inc->crush == NULL && inc->n_osds == 0 && inc->n_pools == 0 && inc->n_pgs == 0;
}

uint64_t map_increment_epoch(const struct map_increment *inc)
{
    return inc->epoch;
}

void map_increment_set_time(struct map_increment *inc, uint64_t wall_ns)
{
    inc->modified_ns = wall_ns;
}

int map_increment_set_fsid(struct map_increment *inc, const struct uuid *fsid)
{
    inc->fsid = *fsid;
    inc->has_fsid = true;
    return 0;
}

int map_increment_set_mons(struct map_increment *inc, const struct map_mon *mons, uint32_t n)
{
    assert(n > 0 && n <= MAP_MONS_MAX);
    memcpy(inc->mons, mons, n * sizeof *mons);
    inc->n_mons = n;
    inc->has_mons = true;
    return 0;
}

int map_increment_set_flags(struct map_increment *inc, uint32_t flags)
{
    inc->flags = flags;
    inc->has_flags = true;
    return 0;
}

int map_increment_set_blocked(struct map_increment *inc, const struct map_blocked *blocked,
                              uint32_t n)
{
    assert(blocked_valid(blocked, n));
    struct map_blocked *copy = calloc((size_t)n + 1, sizeof *copy);
    if (copy == NULL) {
        return -ENOMEM;
    }
    if (n > 0) {
        memcpy(copy, blocked, n * sizeof *copy);
    }
    free(inc->blocked);
    inc->blocked = copy;
    inc->n_blocked = n;
    inc->has_blocked = true;
    return 0;
}

int map_increment_set_crush(struct map_increment *inc, const struct crush_map *crush)
{
    struct crush_map *copy = crush_clone(crush);
    if (copy == NULL) {
        return -ENOMEM;
    }
    crush_destroy(inc->crush);
    inc->crush = copy;
    return 0;
}

/*
 * Makes room for an element before index `at` of an array of n elements. Returns it, or NULL when
 * memory is short.
 */
static void *array_insert(void **array, uint32_t *n, uint32_t *capacity, size_t size, uint32_t at)
{
    if (*n == *capacity) {
        uint32_t more = *capacity == 0 ? 4 : *capacity * 2;
        void *grown = realloc(*array, more * size);
        if (grown == NULL) {
            return NULL;
        }
        *array = grown;
        *capacity = more;
    }
    char *slot = (char *)*array + at * size;
    memmove(slot + size, slot, (*n - at) * size);
    (*n)++;
    return slot;
}

int map_increment_set_osd(struct map_increment *inc, int32_t id, const struct map_osd *osd)
{
    uint32_t at = inc->n_osds;
    while (at > 0 && inc->osds[at - 1].id >= id) {
        at--;
    }
    if (at == inc->n_osds || inc->osds[at].id != id) {
        void *array = inc->osds;
        void *slot = array_insert(&array, &inc->n_osds, &inc->osds_capacity, sizeof *inc->osds, at);
        inc->osds = array;
        if (slot == NULL) {
            return -ENOMEM;
        }
    }
    inc->osds[at] = (struct increment_osd){.id = id, .osd = osd_normal(osd)};
    return 0;
}

static int put_pool(struct map_increment *inc, const struct increment_pool *value)
{
    uint32_t at = inc->n_pools;
    while (at > 0 && inc->pools[at - 1].pool.id >= value->pool.id) {
        at--;
    }
    if (at == inc->n_pools || inc->pools[at].pool.id != value->pool.id) {
        void *array = inc->pools;
        void *slot =
            array_insert(&array, &inc->n_pools, &inc->pools_capacity, sizeof *inc->pools, at);
        inc->pools = array;
        if (slot == NULL) {
            return -ENOMEM;
        }
    } else {
        snaps_unref(inc->pools[at].pool.snaps);
        apps_unref(inc->pools[at].pool.apps);
    }
    inc->pools[at] = *value;
    (void)snaps_ref(value->pool.snaps);
    (void)apps_ref(value->pool.apps);
    return 0;
}

int map_increment_set_pool(struct map_increment *inc, const struct map_pool *pool)
{
    struct increment_pool value = {.pool = *pool};
    return put_pool(inc, &value);
}

int map_increment_remove_pool(struct map_increment *inc, uint64_t id)
{
    struct increment_pool value = {.removed = true, .pool = {.id = id}};
    return put_pool(inc, &value);
}

static uint32_t increment_pgs_find(const struct map_increment *inc, struct pg_id pg)
{
    uint32_t low = 0, high = inc->n_pgs;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (pg_id_compare(inc->pgs[middle].pg.pg, pg) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int put_pg(struct map_increment *inc, const struct increment_pg *value)
{
    uint32_t at = increment_pgs_find(inc, value->pg.pg);
    if (at == inc->n_pgs || !pg_id_equal(inc->pgs[at].pg.pg, value->pg.pg)) {
        void *array = inc->pgs;
        void *slot = array_insert(&array, &inc->n_pgs, &inc->pgs_capacity, sizeof *inc->pgs, at);
        inc->pgs = array;
        if (slot == NULL) {
            return -ENOMEM;
        }
    }
    inc->pgs[at] = *value;
    return 0;
}

int map_increment_set_pg(struct map_increment *inc, const struct map_pg *pg)
{
    struct increment_pg value = {.pg = *pg};
    return put_pg(inc, &value);
}

int map_increment_remove_pg(struct map_increment *inc, struct pg_id pg)
{
    struct increment_pg value = {.removed = true, .pg = {.pg = pg}};
    return put_pg(inc, &value);
}

/* ---- Applying ---- */

/* The parts of the map after the increment; a NULL part does not change. */
struct prepared {
    struct crush_map *crush;
    struct map_pool *pools;
    uint32_t n_pools;
    uint64_t next_pool_id;
    struct map_pg *pgs;
    uint32_t n_pgs;
    int32_t max_osd;
    struct map_blocked *blocked;
};

static void prepared_fini(struct prepared *next)
{
    crush_destroy(next->crush);
    pools_free(next->pools, next->n_pools);
    free(next->pgs);
    free(next->blocked);
}

static int prepare_osds(const struct cluster_map *map, const struct map_increment *inc,
                        struct prepared *next)
{
    next->max_osd = map->max_osd;
    for (uint32_t i = 0; i < inc->n_osds; i++) {
        const struct increment_osd *change = &inc->osds[i];
        if (!osd_valid(change->id, &change->osd) || change->osd.removed_at > inc->epoch) {
            return -EBADMSG;
        }
        if (change->osd.exists && change->id >= next->max_osd) {
            next->max_osd = change->id + 1;
        }
        if (!change->osd.exists && map_osd(map, change->id) == NULL) {
            return -EBADMSG;
        }
    }
    return 0;
}

static int prepare_crush(const struct map_increment *inc, struct prepared *next)
{
    if (inc->crush == NULL) {
        return 0;
    }
    int error = crush_check(inc->crush);
    if (error != 0) {
        return error;
    }
    next->crush = crush_clone(inc->crush);
    return next->crush != NULL ? 0 : -ENOMEM;
}

/* A pool keeps its type, and its PGs never become fewer: their objects would have nowhere to go. */
static bool pool_change_valid(const struct map_pool *old, const struct increment_pool *change,
                              uint64_t next_pool_id)
{
    if (old == NULL) {
        return !change->removed && change->pool.id >= next_pool_id;
    }
    return change->removed ||
           (change->pool.type == old->type && change->pool.pg_num >= old->pg_num);
}

static void keep_pool(struct prepared *next, const struct map_pool *pool)
{
    next->pools[next->n_pools++] = *pool;
    (void)snaps_ref(pool->snaps);
    (void)apps_ref(pool->apps);
}

static int prepare_pools(const struct cluster_map *map, const struct map_increment *inc,
                         struct prepared *next)
{
    const struct crush_map *crush = next->crush != NULL ? next->crush : map->crush;
    next->next_pool_id = map->next_pool_id;
    if (inc->n_pools == 0) {
        /* The rules that pools name must be in a new CRUSH map, too. */
        return next->crush != NULL ? pools_check(map->pools, map->n_pools, crush, inc->epoch) : 0;
    }
    next->pools = calloc((size_t)map->n_pools + inc->n_pools, sizeof *next->pools);
    if (next->pools == NULL) {
        return -ENOMEM;
    }
    uint32_t old = 0;
    for (uint32_t i = 0; i < inc->n_pools; i++) {
        const struct increment_pool *change = &inc->pools[i];
        while (old < map->n_pools && map->pools[old].id < change->pool.id) {
            keep_pool(next, &map->pools[old++]);
        }
        bool known = old < map->n_pools && map->pools[old].id == change->pool.id;
        if (change->pool.id == UINT64_MAX ||
            !pool_change_valid(known ? &map->pools[old] : NULL, change, map->next_pool_id)) {
            return -EBADMSG;
        }
        old += known;
        if (!change->removed) {
            keep_pool(next, &change->pool);
        }
        if (change->pool.id >= next->next_pool_id) {
            next->next_pool_id = change->pool.id + 1;
        }
    }
    while (old < map->n_pools) {
        keep_pool(next, &map->pools[old++]);
    }
    return pools_check(next->pools, next->n_pools, crush, inc->epoch);
}

static const struct map_pool *prepared_pool(const struct cluster_map *map,
                                            const struct prepared *next, uint64_t id)
{
    if (next->pools == NULL) {
        return map_pool(map, id);
    }
    uint32_t i = pools_find(next->pools, next->n_pools, id);
    return i < next->n_pools && next->pools[i].id == id ? &next->pools[i] : NULL;
}

/* Copies the map's entries before `until` (NULL: all) whose pools remain. */
static void keep_pgs(const struct cluster_map *map, struct prepared *next, uint32_t *old,
                     const struct pg_id *until)
{
    while (*old < map->n_pgs && (until == NULL || pg_id_compare(map->pgs[*old].pg, *until) < 0)) {
        const struct map_pg *entry = &map->pgs[(*old)++];
        if (next->pools == NULL || prepared_pool(map, next, entry->pg.pool) != NULL) {
            next->pgs[next->n_pgs++] = *entry;
        }
    }
}

static bool removes_pools(const struct map_increment *inc)
{
    for (uint32_t i = 0; i < inc->n_pools; i++) {
        if (inc->pools[i].removed) {
            return true;
        }
    }
    return false;
}

static int prepare_pgs(const struct cluster_map *map, const struct map_increment *inc,
                       struct prepared *next)
{
    if (inc->n_pgs == 0 && !removes_pools(inc)) {
        return 0;
    }
    next->pgs = calloc((size_t)map->n_pgs + inc->n_pgs + 1, sizeof *next->pgs);
    if (next->pgs == NULL) {
        return -ENOMEM;
    }
    uint32_t old = 0;
    for (uint32_t i = 0; i < inc->n_pgs; i++) {
        const struct increment_pg *change = &inc->pgs[i];
        keep_pgs(map, next, &old, &change->pg.pg);
        if (old < map->n_pgs && pg_id_equal(map->pgs[old].pg, change->pg.pg)) {
            old++;
        }
        if (change->removed) {
            continue;
        }
        const struct map_pool *pool = prepared_pool(map, next, change->pg.pg.pool);
        if (!pg_valid(&change->pg, pool, next->max_osd, inc->epoch)) {
            return -EBADMSG;
        }
        struct map_pg *entry = &next->pgs[next->n_pgs++];
        entry->pg = change->pg.pg;
        entry->config = change->pg.config;
        entry->n = change->pg.n;
        memcpy(entry->members, change->pg.members, entry->n * sizeof *entry->members);
    }
    keep_pgs(map, next, &old, NULL);
    return 0;
}

static int prepare_blocked(const struct map_increment *inc, struct prepared *next)
{
    if (!inc->has_blocked) {
        return 0;
    }
    if (!blocked_valid(inc->blocked, inc->n_blocked)) {
        return -EBADMSG;
    }
    next->blocked = calloc((size_t)inc->n_blocked + 1, sizeof *next->blocked);
    if (next->blocked == NULL) {
        return -ENOMEM;
    }
    memcpy(next->blocked, inc->blocked, inc->n_blocked * sizeof *next->blocked);
    return 0;
}

static int prepare(const struct cluster_map *map, const struct map_increment *inc,
                   struct prepared *next)
{
    if (inc->has_fsid && !uuid_is_zero(&map->fsid) && !uuid_equal(&map->fsid, &inc->fsid)) {
        return -EBADMSG;
    }
    if (inc->has_mons && !mons_valid(inc->mons, inc->n_mons)) {
        return -EBADMSG;
    }
    int error = prepare_osds(map, inc, next);
    error = error != 0 ? error : prepare_blocked(inc, next);
    error = error != 0 ? error : prepare_crush(inc, next);
    error = error != 0 ? error : prepare_pools(map, inc, next);
    return error != 0 ? error : prepare_pgs(map, inc, next);
}

/* Puts the prepared parts into the map, and takes them over. */
static void commit(struct cluster_map *map, const struct map_increment *inc, struct prepared *next)
{
    for (uint32_t i = 0; i < inc->n_osds; i++) {
        map_put_osd(map, inc->osds[i].id, &inc->osds[i].osd);
    }
    if (next->crush != NULL) {
        crush_destroy(map->crush);
        map->crush = next->crush;
    }
    if (next->pools != NULL) {
        pools_free(map->pools, map->n_pools);
        map->pools = next->pools;
        map->n_pools = next->n_pools;
        map->next_pool_id = next->next_pool_id;
    }
    if (next->pgs != NULL) {
        free(map->pgs);
        map->pgs = next->pgs;
        map->n_pgs = next->n_pgs;
    }
    if (inc->has_blocked) {
        free(map->blocked);
        map->blocked = next->blocked;
        map->n_blocked = inc->n_blocked;
    }
    if (inc->has_fsid) {
        map->fsid = inc->fsid;
    }
    if (inc->has_mons) {
        map->n_mons = inc->n_mons;
        memset(map->mons, 0, sizeof map->mons);
        memcpy(map->mons, inc->mons, inc->n_mons * sizeof *inc->mons);
    }
    if (inc->has_flags) {
        map->flags = inc->flags;
    }
    if (inc->modified_ns != 0) {
        map->modified_ns = inc->modified_ns;
        map->created_ns = map->created_ns != 0 ? map->created_ns : inc->modified_ns;
    }
    map->epoch = inc->epoch;
}

int map_apply(struct cluster_map *map, const struct map_increment *inc)
{
    if (inc->epoch != map->epoch + 1) {
        return -ESTALE;
    }
    struct prepared next = {0};
    int error = prepare(map, inc, &next);
    if (error != 0) {
        prepared_fini(&next);
        return error;
    }
    error = map_grow_osds(map, next.max_osd);
    if (error != 0) {
        prepared_fini(&next);
        return error;
    }
    commit(map, inc, &next);
    return 0;
}
