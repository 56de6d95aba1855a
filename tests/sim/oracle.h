/*
 * Sees all nodes at once, and checks the invariants I1 to I8 of the replication protocol at every
 * moment that they speak about (common/witness.h): against the newest map that monitors agreed on,
 * the disks of all OSDs, and what other processes take themselves for. What it finds begins with
 * the invariant's number and a name.
 */
#ifndef LIMPET_TESTS_SIM_ORACLE_H
#define LIMPET_TESTS_SIM_ORACLE_H

#include "tests/sim/cluster.h"

struct oracle;

/* The witness from now on. One at a time. */
struct oracle *oracle_create(struct cluster *cluster) MUST_CHECK;
void oracle_destroy(struct oracle *oracle);
/* Moments that were looked at. */
uint64_t oracle_count(const struct oracle *oracle);

#endif
