/*
 * Disks that do not keep what they were given: one copy of an object at a time, so that another one
 * is always good; and what scrub makes of that.
 */
#ifndef LIMPET_TESTS_SIM_DAMAGE_H
#define LIMPET_TESTS_SIM_DAMAGE_H

#include "tests/sim/cluster.h"

/*
 * A part of some object cannot be read any more on one member of its group; of pools that always
 * keep two copies. Nothing happens when chance finds none.
 */
void damage_one(struct cluster *cluster);
/* For a cluster at rest: copies of a few objects change, or vanish, without an error to be seen;
 * of three copies, since two could not tell which of them is right. */
void damage_in_silence(struct cluster *cluster);
/* The same as damage_one(), of a few primaries' copies. */
void damage_primaries(struct cluster *cluster);
/*
 * For a cluster without faults, before it is judged: disks read again what nobody can repair. That
 * is where a disk, and then its group, lost something: a write reached the damaged copy and no
 * other.
 */
void damage_forgive(struct cluster *cluster);
/* Objects of which a copy cannot be read. */
uint32_t damage_count(struct cluster *cluster);

/* Orders a deep scrub of every group, and tells the time by the wall. */
uint64_t damage_order_scrubs(struct cluster *cluster);
/* All groups have been scrubbed since then, and rest; orders what was forgotten. */
bool damage_scrubbed(struct cluster *cluster, uint64_t since_ns, char why[CLUSTER_WHY_MAX]);
/* Objects that the last scrub of each group found. */
uint32_t damage_found(struct cluster *cluster);

#endif
