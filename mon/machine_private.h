/* Between machine.c, machine_osd.c and machine_pool.c. */
#ifndef LIMPET_MON_MACHINE_PRIVATE_H
#define LIMPET_MON_MACHINE_PRIVATE_H

#include "mon/machine.h"

/* What CRUSH says about one group. */
struct wanted {
    uint8_t n;
    int32_t osds[PG_SIZE_MAX];
};

struct change {
    struct machine *machine;
    const struct cluster_map *base;
    struct cluster_map *map; /* base with all events so far. */
    uint64_t base_epoch;
    struct map_increment *all;  /* Of all events. */
    struct map_increment *part; /* Staged, and not yet in `map`. */
    int broken;
};

/* Each records a new value for what comes next in change_flush(). */
int stage_osd(struct change *change, int32_t id, const struct map_osd *osd) MUST_CHECK;
int stage_crush(struct change *change, const struct crush_map *crush) MUST_CHECK;
int stage_pool(struct change *change, const struct map_pool *pool) MUST_CHECK;
int stage_pool_remove(struct change *change, uint64_t id) MUST_CHECK;
int stage_blocked(struct change *change, const struct map_blocked *blocked, uint32_t n) MUST_CHECK;
int stage_flags(struct change *change, uint32_t flags) MUST_CHECK;
/* Makes what was staged visible in change->map. */
int change_flush(struct change *change) MUST_CHECK;
/* Notes an error that leaves the change unusable; returns it. */
int change_break(struct change *change, int error);

/* What CRUSH says, from memory; valid until the machine remaps or forgets. NULL: no memory. */
const struct wanted *machine_wanted(struct machine *machine, const struct cluster_map *map,
                                    const struct map_pool *pool) MUST_CHECK;
/* The epoch since which that has been so, as far as known; UINT64_MAX before the first time. */
uint64_t machine_wanted_since(const struct machine *machine, const struct map_pool *pool);
/* Drops what is known about one pool. */
void machine_forget_pool(struct machine *machine, uint64_t pool);

/*
 * After a change of liveness of an OSD that leaves CRUSH's results as they are: R1. was_up: before.
 */
int evaluate_osd(struct change *change, int32_t osd, bool was_up) MUST_CHECK;
/*
 * After a change that may alter CRUSH's results (and the liveness of `osd`, unless it is -1): R1
 * and R2 for all groups.
 */
int evaluate_all(struct change *change, int32_t osd, bool was_up) MUST_CHECK;
/* The same after an OSD was removed together with all its data: it leaves every set. */
int evaluate_removed(struct change *change, int32_t osd) MUST_CHECK;
/* The same for one pool, whose min_size was min_size_before. */
int evaluate_pool(struct change *change, uint64_t pool, uint8_t min_size_before) MUST_CHECK;
/* R3 */
int evaluate_add(struct change *change, const struct map_pool *pool, uint32_t seed,
                 int32_t osd) MUST_CHECK;

#endif
