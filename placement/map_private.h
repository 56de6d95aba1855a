/*
 * What the files of the map share.
 */
#ifndef LIMPET_PLACEMENT_MAP_PRIVATE_H
#define LIMPET_PLACEMENT_MAP_PRIVATE_H

#include "placement/map.h"

struct increment_osd {
    int32_t id;
    struct map_osd osd;
};

struct increment_pool {
    bool removed;
    struct map_pool pool; /* Only its id, when removed. */
};

struct increment_pg {
    bool removed;
    struct map_pg pg; /* Only its pg, when removed. */
};

/* Each array is sorted by what it is about, and holds no such thing twice. */
struct map_increment {
    uint64_t epoch;
    uint64_t modified_ns;
    bool has_fsid;
    bool has_mons;
    bool has_flags;
    bool has_blocked;
    struct uuid fsid;
    uint32_t flags;
    uint32_t n_mons;
    struct map_mon mons[MAP_MONS_MAX];
    struct crush_map *crush; /* NULL: unchanged. */
    uint32_t n_osds, osds_capacity;
    struct increment_osd *osds;
    uint32_t n_pools, pools_capacity;
    struct increment_pool *pools;
    uint32_t n_pgs, pgs_capacity;
    struct increment_pg *pgs;
    uint32_t n_blocked;
    struct map_blocked *blocked;
};

int pg_id_compare(struct pg_id a, struct pg_id b);

/* Frees an array of pools, and lets go of what they refer to. */
void pools_free(struct map_pool *pools, uint32_t n);

/* Index of the first pool whose id is at least this one. */
uint32_t pools_find(const struct map_pool *pools, uint32_t n, uint64_t id);
/* Index of the first entry that is not before pg. */
uint32_t pgs_find(const struct map_pg *pgs, uint32_t n, struct pg_id pg);

/* Grows the arrays that are indexed by OSD; new ones do not exist. -ENOMEM leaves them as is. */
int map_grow_osds(struct cluster_map *map, int32_t max_osd) MUST_CHECK;
/* The value without what does not belong to it: of one that does not exist, only removed_at. */
struct map_osd osd_normal(const struct map_osd *osd);
/* Puts a value into the arrays. */
void map_put_osd(struct cluster_map *map, int32_t id, const struct map_osd *osd);

/* ---- Values that anybody may have sent ---- */

bool mons_valid(const struct map_mon *mons, uint32_t n);
/* Each by itself, and their order. */
bool blocked_valid(const struct map_blocked *blocked, uint32_t n);
bool osd_valid(int32_t id, const struct map_osd *osd);
/* Each pool by itself, their order, and that names are unique. -EBADMSG, -ENOMEM. */
int pools_check(const struct map_pool *pools, uint32_t n, const struct crush_map *crush,
                uint64_t epoch) MUST_CHECK;
bool pg_valid(const struct map_pg *pg, const struct map_pool *pool, int32_t max_osd,
              uint64_t epoch);

#endif
