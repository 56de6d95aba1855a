/*
 * The map state machine: what each event does to the cluster map. Pure functions over values: no
 * time, no messages, no disk. The leader runs them; everybody applies the increments they give.
 *
 * A change collects the effects of one or more events on top of the committed map, as one increment
 * from epoch E to E + 1. Its invariants, for every placement group:
 *
 *  M1  The configuration number never decreases. It becomes E + 1 when the set, or the liveness of
 *      one of its members (down, boot, another process), changes, or when another min_size lets the
 *      set begin or cease to serve; and never otherwise, except that compaction raises the number
 *      of all groups of a pool at once. A group that has never been able to serve (of its set fewer
 *      than min_size were up, ever since the pool was made) keeps the number of its creation until
 *      it can: by that it is known.
 *  M2  The set never gets smaller than min_size by losing members that are down: it then keeps them
 *      and waits, inactive.
 *      The exceptions are an operator's: an OSD that is removed by force (its data are given up),
 *      and a group that is activated by force (of it, what its members that are down hold).
 *  M3  The set is empty only as long as CRUSH has never given the group an OSD.
 *  M4  Only members leave the set that are down, as far as M2 allows; or, while all members are up
 *      and more than the pool's size, those that CRUSH does not want, the primary last. So a move
 *      adds a copy before it drops one, never more than size + 1 are written, and what has no other
 *      place stays where it is. Only OSDs join that are caught up (the primary says so, naming the
 *      configuration it acts under) or that cannot have missed anything, since the group has never
 *      been able to serve.
 *  M5  A group has an entry in the map if and only if its set is not what CRUSH says or its number
 *      is not its pool's config_base.
 */
#ifndef LIMPET_MON_MACHINE_H
#define LIMPET_MON_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/codec.h"
#include "common/entity.h"
#include "common/error.h"
#include "placement/map.h"

enum {
    MACHINE_POOL_SIZE_DEFAULT = 3,
    MACHINE_PGS_PER_OSD = 64,      /* Of one new pool. */
    MACHINE_PGS_PER_OSD_MAX = 200, /* Of all pools, where the system chooses. */
    MACHINE_PG_NUM_MIN = 16,
    MACHINE_PGS_MAX = 1 << 20,                     /* Of all pools together. */
    MACHINE_OSD_WEIGHT_MIN = MAP_WEIGHT_ONE / 100, /* In CRUSH: 0.01 TiB. */
    MACHINE_WHY_MAX = 192,
};

/* What CRUSH says about all groups, remembered between changes. Belongs to the leader. */
struct machine;

struct machine *machine_create(void) MUST_CHECK;
void machine_destroy(struct machine *machine);
/* Forgets everything: the map is another than what this machine's changes made. */
void machine_forget(struct machine *machine);

struct change;

/* Starts a change of `base`, which must not change before change_end(). */
int change_begin(struct machine *machine, const struct cluster_map *base, uint64_t wall_ns,
                 struct change **out) MUST_CHECK;
/* Frees it. When it was not committed, the machine must forget. */
void change_end(struct change *change);
/* The map with everything so far; its epoch is that of base until something was changed. */
const struct cluster_map *change_map(const struct change *change);
bool change_empty(const struct change *change);
/* The epoch that it leads to. */
uint64_t change_epoch(const struct change *change);
/*
 * Appends the increment's bytes. They have been tried on the base: -EBADMSG means that nobody could
 * apply them, and that there is a mistake in an event.
 */
int change_encode(struct change *change, struct encoder *out) MUST_CHECK;
/*
 * An error (always -ENOMEM or -EBADMSG) in the middle of an event: the change cannot be used any
 * more. Other errors of events leave the change as it was.
 */
bool change_broken(const struct change *change);

/*
 * ---- Events ----
 *
 * All return 0, also when there is nothing to change, or a negative errno. -EINPROGRESS: the event
 * must be the first of its change; commit what is in this one before.
 */

struct machine_initial {
    struct uuid fsid;
    uint32_t n_mons;
    const struct map_mon *mons;
    uint16_t chooseleaf_type; /* CRUSH type over which replicas are spread; 0: osd, 1: host. */
};
int machine_initial(struct change *change, const struct machine_initial *initial) MUST_CHECK;

struct machine_boot {
    int32_t id;
    struct uuid uuid;
    struct net_address address;
    uint64_t instance;
    uint64_t epoch; /* The map that the OSD had when it sent this. */
    uint64_t bytes_total;
    const char *host; /* May be NULL or empty. */
};
/*
 * An OSD is there: up, in, and in CRUSH. -EEXIST: its number belongs to another store. -EAGAIN: the
 * flag noup forbids it for now. A report older than the OSD's last going down is ignored. -ESTALE:
 * the same of its removal. It may come from the store that was removed, and would take the number
 * from the one that is to have it; whoever lives asks again by a newer map.
 */
int machine_osd_boot(struct change *change, const struct machine_boot *boot) MUST_CHECK;

/* R1. `ended`: the process is known to be gone, which may be said of one that is down already. No
 * other effect on an OSD that is not up. -ENOENT */
int machine_osd_down(struct change *change, int32_t id, bool ended) MUST_CHECK;

/* R2. -ENOENT. `automatic`: it comes in again by itself when it boots. */
int machine_osd_out(struct change *change, int32_t id, bool automatic) MUST_CHECK;
int machine_osd_in(struct change *change, int32_t id) MUST_CHECK;
/* weight: 16.16, at most MAP_WEIGHT_ONE. */
int machine_osd_reweight(struct change *change, int32_t id, uint32_t weight) MUST_CHECK;
/*
 * Removes it from the map and from CRUSH. -ENOENT; -EBUSY: it is up; -ENOTEMPTY: some group counts
 * on its data, and `force` is not set.
 */
int machine_osd_remove(struct change *change, int32_t id, bool force) MUST_CHECK;

/*
 * R3. -ESTALE: config is not the group's; -EPERM: `from` is not its primary; -EINVAL: the OSD is
 * not up, another process, not wanted or a member already; -ENOENT: no such group.
 */
struct machine_add_member {
    struct pg_id pg;
    uint64_t config;
    int32_t osd;
    uint64_t osd_instance;
    uint64_t epoch; /* Of the primary's map; 0: it did not say. */
    int32_t from;
};
int machine_pg_add_member(struct change *change, const struct machine_add_member *add) MUST_CHECK;
/*
 * The members of the group that are down are given up, even if fewer than min_size are left.
 * -ENOENT; -EALREADY: none is down; -EHOSTDOWN: all are; -ENODATA: it has never served.
 */
int machine_pg_force_activate(struct change *change, struct pg_id pg) MUST_CHECK;

struct machine_pool_create {
    const char *name;
    uint32_t pg_num; /* 0: the system chooses */
    uint32_t size;   /* 0: default */
    uint32_t min_size;
    const char *rule; /* NULL: the first replicated one */
};
/* -EEXIST: the name is in use. -EINVAL, -ENOENT (rule), -ERANGE, -ENOSPC (of numbers). */
int machine_pool_create(struct change *change, const struct machine_pool_create *create,
                        char why[MACHINE_WHY_MAX]) MUST_CHECK;
int machine_pool_remove(struct change *change, uint64_t pool) MUST_CHECK;
int machine_pool_resize(struct change *change, uint64_t pool, uint8_t size,
                        uint8_t min_size) MUST_CHECK;
/* -EEXIST: the new name is in use. */
int machine_pool_rename(struct change *change, uint64_t pool, const char *name) MUST_CHECK;

/*
 * A snapshot, of the pool when it has a name, else one that clients manage; *snap is its number.
 * Errors as in placement/snaps.h; -ENOENT: no such pool.
 */
int machine_snap_create(struct change *change, uint64_t pool, const char *name, uint64_t stamp_ns,
                        uint64_t *snap) MUST_CHECK;
/* -ENOENT: no such pool or snapshot. */
int machine_snap_remove(struct change *change, uint64_t pool, uint64_t snap) MUST_CHECK;
/* What was removed up to an epoch has left all objects. */
int machine_snaps_purge(struct change *change, uint64_t pool, uint64_t epoch) MUST_CHECK;

/* placement/apps.h has what these mean, and their errors; -ENOENT: also no such pool. */
int machine_app_set(struct change *change, uint64_t pool, const char *app, const char *key,
                    const char *value) MUST_CHECK;
int machine_app_remove(struct change *change, uint64_t pool, const char *app,
                       const char *key) MUST_CHECK;

/* -ENOENT: no such pool, or no such replicated rule. Data move as after any change of CRUSH. */
int machine_pool_rule(struct change *change, uint64_t pool, uint32_t rule) MUST_CHECK;
/* Another hierarchy, or other rules: well-formed, and with the rules that pools use. -EINVAL */
int machine_crush(struct change *change, const struct crush_map *crush) MUST_CHECK;

/*
 * A process of a client, or an address, must not do anything any more, until then, or for as long
 * as it is blocked already: others may rely on that. -ENOSPC: MAP_BLOCKED_MAX are.
 */
int machine_block(struct change *change, const struct map_blocked *blocked) MUST_CHECK;
/* -ENOENT. */
int machine_unblock(struct change *change, const struct map_blocked *blocked) MUST_CHECK;
/* Takes out those whose time is over. */
int machine_unblock_until(struct change *change, uint64_t wall_ns) MUST_CHECK;

int machine_flags(struct change *change, uint32_t set, uint32_t clear) MUST_CHECK;

/* R4: possible when every set of the pool is what CRUSH says, and all members are up. */
bool machine_pool_settled(struct machine *machine, const struct cluster_map *map,
                          const struct map_pool *pool);
int machine_pool_compact(struct change *change, uint64_t pool) MUST_CHECK;

/* Whether a pool may have this name. */
bool machine_pool_name_valid(const char *name);

#endif
