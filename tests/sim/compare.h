/*
 * Whether the cluster is as it must be once it is quiet: every placement group clean in the map,
 * its copies equal down to the log, nothing left where nothing belongs.
 */
#ifndef LIMPET_TESTS_SIM_COMPARE_H
#define LIMPET_TESTS_SIM_COMPARE_H

#include "tests/sim/cluster.h"

/* Every OSD is up and in, and every group clean. Otherwise `why` says what is not. */
bool compare_clean(struct cluster *cluster, char why[CLUSTER_WHY_MAX]);

/* Looks at the OSDs' disks, under the newest map. Otherwise `why` names a difference. */
bool compare_copies(struct cluster *cluster, char why[CLUSTER_WHY_MAX]);

#endif
