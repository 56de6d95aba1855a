/*
 * The cluster map: an epoch-numbered value that says everything about where data belong.
 *
 * Monitors change it by increments; everybody else applies them. A map is reached only through this
 * header: struct cluster_map is plain data that anyone may read and only map_apply() may change.
 * Nothing here knows about time, messages or disks.
 */
#ifndef LIMPET_PLACEMENT_MAP_H
#define LIMPET_PLACEMENT_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/codec.h"
#include "common/entity.h"
#include "common/object.h"
#include "placement/apps.h"
#include "placement/crush.h"
#include "placement/snaps.h"

enum {
    MAP_OSDS_MAX = 100000,
    MAP_POOLS_MAX = 65536,
    MAP_PG_NUM_MAX = 65536,
    MAP_POOL_NAME_MAX = 127,
    MAP_MONS_MAX = 31,
    MAP_HOST_MAX = 63,
    MAP_BLOCKED_MAX = 1024,
    PG_SIZE_MAX = 16,
    MAP_WEIGHT_ONE = 0x10000,   /* 16.16 fixed point, as in CRUSH. */
    MAP_ENCODED_MAX = 32 << 20, /* Bytes of a full map or an increment. */
};

struct map_mon {
    uint64_t id; /* Raft's, from 1. */
    char name[ENTITY_ID_MAX + 1];
    struct net_address address;
};

struct map_osd {
    bool exists;
    bool up;
    uint32_t weight; /* 0 is out, MAP_WEIGHT_ONE fully in. */
    struct uuid uuid;
    struct net_address address;
    uint64_t instance; /* Of the process that is, or was last, up. */
    uint64_t created;  /* Epoch at which the number was given to this store. */
    uint64_t up_from;  /* Epoch of its last boot. */
    uint64_t down_at;  /* Epoch at which it was last marked down. */
    /*
     * Of a number that exists no more: the epoch at which it was removed; 0 of one that never was.
     * Nothing else is kept of it. Until another store takes the number it tells who asks for it by
     * a map from before from who asks by one from after.
     */
    uint64_t removed_at;
    /*
     * While down: the process is known to have ended (its port refused connections), or to serve
     * nothing any more (it said so). Otherwise it may live, and not know that it is down.
     */
    bool ended;
    bool auto_out; /* It was marked out for being down too long: comes in again by itself. */
    uint64_t bytes_total;
    char host[MAP_HOST_MAX + 1];
};

enum map_pool_type { POOL_REPLICATED = 1, POOL_ERASURE = 3 };

struct map_pool {
    uint64_t id;
    char name[MAP_POOL_NAME_MAX + 1];
    uint8_t type;
    uint8_t size;
    uint8_t min_size;
    uint32_t pg_num;
    uint32_t crush_rule;  /* The rule's number. */
    uint64_t created;     /* Epoch. */
    uint64_t config_base; /* Configuration number of every PG that has no entry. */
    /* NULL: it never had any. Maps and increments hold a reference; other copies borrow it. */
    const struct map_snaps *snaps;
    const struct map_apps *apps; /* NULL: none; held as the snapshots are. */
};

/*
 * A placement group whose in-sync set is not what CRUSH says, or whose configuration number is not
 * its pool's config_base. All other PGs have no entry.
 */
struct map_pg {
    struct pg_id pg;
    uint64_t config;
    uint8_t n;
    int32_t members[PG_SIZE_MAX]; /* The in-sync set; the first live one is the primary. */
};

/*
 * A client's process, by its instance, that must not do anything any more; or, with instance 0, all
 * processes at an address.
 */
struct map_blocked {
    uint64_t instance;
    struct net_address address; /* The port is 0; family 0: not told, of an instance. */
    uint64_t until_ns;          /* Wall clock of monitors: then it is taken out. */
};

struct cluster_map {
    struct uuid fsid;
    uint64_t epoch;       /* 0: no map yet. */
    uint64_t created_ns;  /* Wall clock. */
    uint64_t modified_ns; /* Wall clock. */
    uint32_t n_mons;
    struct map_mon mons[MAP_MONS_MAX];
    int32_t max_osd; /* OSD numbers are 0 .. max_osd - 1. */
    struct map_osd *osds;
    uint32_t *osd_weights;   /* Of each OSD, 0 for those that do not exist: as CRUSH wants them. */
    struct crush_map *crush; /* Never NULL. */
    uint32_t n_pools;
    struct map_pool *pools; /* By id. */
    uint64_t next_pool_id;
    uint32_t n_pgs;
    struct map_pg *pgs; /* Entries by (pool, seed). */
    uint32_t flags;     /* enum map_flags */
    uint64_t features;  /* Bits that every daemon must know. */
    uint32_t n_blocked;
    struct map_blocked *blocked; /* By instance, then address. */
};

enum map_flags {
    MAP_NOOUT = 1,
    MAP_PAUSE = 2,
    MAP_NOUP = 4,
    MAP_NODOWN = 8,
    MAP_FULL = 16,
    MAP_NOIN = 32,
    MAP_NOBACKFILL = 64, /* No copy is filled; those that miss little may still catch up. */
    MAP_NORECOVER = 128, /* No copy is filled or caught up. */
    MAP_NOSCRUB = 256,
    MAP_NODEEP_SCRUB = 512,
};

/*
 * A change from epoch - 1 to epoch: whole new values of what changed. Built with map_increment_*();
 * the monitor leader computes it, everybody applies the same.
 */
struct map_increment;

struct cluster_map *map_create(void) MUST_CHECK; /* Empty, epoch 0. */
void map_destroy(struct cluster_map *map);
struct cluster_map *map_clone(const struct cluster_map *map) MUST_CHECK;

/* ---- Increments ---- */

struct map_increment *map_increment_create(uint64_t epoch) MUST_CHECK;
void map_increment_destroy(struct map_increment *inc);
bool map_increment_empty(const struct map_increment *inc);
uint64_t map_increment_epoch(const struct map_increment *inc);
/* Setters return -ENOMEM only. A later value for the same thing replaces the earlier. */
int map_increment_set_fsid(struct map_increment *inc, const struct uuid *fsid) MUST_CHECK;
int map_increment_set_mons(struct map_increment *inc, const struct map_mon *mons,
                           uint32_t n) MUST_CHECK;
int map_increment_set_osd(struct map_increment *inc, int32_t id, const struct map_osd *osd)
    MUST_CHECK; /* exists false removes it, at removed_at */
int map_increment_set_crush(struct map_increment *inc, const struct crush_map *crush) MUST_CHECK;
int map_increment_set_pool(struct map_increment *inc, const struct map_pool *pool) MUST_CHECK;
int map_increment_remove_pool(struct map_increment *inc, uint64_t id) MUST_CHECK;
int map_increment_set_pg(struct map_increment *inc, const struct map_pg *pg) MUST_CHECK;
int map_increment_remove_pg(struct map_increment *inc, struct pg_id pg) MUST_CHECK;
/* All of them, in order (map_blocked_compare()), at most MAP_BLOCKED_MAX. */
int map_increment_set_blocked(struct map_increment *inc, const struct map_blocked *blocked,
                              uint32_t n) MUST_CHECK;
int map_increment_set_flags(struct map_increment *inc, uint32_t flags) MUST_CHECK;
void map_increment_set_time(struct map_increment *inc, uint64_t wall_ns);

/*
 * Applies an increment for map->epoch + 1 (-ESTALE for another epoch). -EBADMSG when it contradicts
 * the map: a second fsid, a value out of its limits, a pool number that was used before, a
 * smaller pg_num, another type of a pool, a name in use, a rule that does not exist, an entry of an
 * unknown PG. -EBADMSG and -ENOMEM leave the map unchanged. Removing a pool removes its entries;
 * removing an entry that is not there is no error.
 */
int map_apply(struct cluster_map *map, const struct map_increment *inc) MUST_CHECK;

/* ---- Encodings (placement/map.proto); deterministic ---- */

int map_encode(const struct cluster_map *map, struct encoder *e) MUST_CHECK;
int map_decode(const void *data, size_t len, struct cluster_map **out) MUST_CHECK;
int map_increment_encode(const struct map_increment *inc, struct encoder *e) MUST_CHECK;
int map_increment_decode(const void *data, size_t len, struct map_increment **out) MUST_CHECK;

/* ---- Looking things up ---- */

const struct map_pool *map_pool(const struct cluster_map *map, uint64_t id);
const struct map_pool *map_pool_by_name(const struct cluster_map *map, const char *name);
const struct map_osd *map_osd(const struct cluster_map *map, int32_t id); /* NULL: does not exist */
uint64_t map_osd_removed_at(const struct cluster_map *map, int32_t id); /* 0: never, or it exists */
bool map_osd_up(const struct cluster_map *map, int32_t id);
/* Whether a process at this address (NULL: not known) must not do anything any more. */
bool map_blocks(const struct cluster_map *map, uint64_t instance,
                const struct net_address *address);
/* Order; 0: they block the same. */
int map_blocked_compare(const struct map_blocked *a, const struct map_blocked *b);
const struct map_pg *map_pg_entry(const struct cluster_map *map, struct pg_id pg);
struct pg_id map_object_pg(const struct map_pool *pool, uint32_t hash);

/* Everything that follows from the map about one placement group. */
struct pg_view {
    uint64_t config;
    uint8_t n_members;
    int32_t members[PG_SIZE_MAX]; /* The in-sync set, up or down; in order of precedence. */
    uint8_t n_up;                 /* Members that are up. */
    int32_t primary;              /* First member that is up, or -1. */
    /*
     * All conditions of the map for serving are met: a primary, every member of the set is up, and
     * they are at least min_size.
     */
    bool active;
    /*
     * All members are up, but perhaps fewer than min_size: the primary makes them equal and adds
     * learners, and serves nobody until there are enough. Not true of a group that has never been
     * able to serve: it has nothing to recover, and gets its set from CRUSH.
     */
    bool recovers;
    uint8_t n_wanted;
    int32_t wanted[PG_SIZE_MAX]; /* What CRUSH says. */
    uint8_t n_learners;
    int32_t learners[PG_SIZE_MAX]; /* Wanted and up, but not yet in the set. */
    bool clean; /* The set is exactly what CRUSH says, of the pool's size, and all are up. */
};

/* -ENOENT when the pool does not exist or seed is out of its range. */
int map_pg_view(const struct cluster_map *map, struct pg_id pg, struct pg_view *out) MUST_CHECK;

/*
 * What CRUSH says: writes at most size OSD numbers, returns how many. OSDs that are down but not
 * out are among them. Positions of an erasure-coded pool may hold CRUSH_ITEM_NONE. Like all
 * look-ups it allocates nothing and keeps nothing, so any number of threads may ask a map that
 * nobody changes.
 */
uint8_t map_pg_crush(const struct cluster_map *map, struct pg_id pg, int32_t wanted[PG_SIZE_MAX]);

#endif
