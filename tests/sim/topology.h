/*
 * What an operator changes while clients work: sizes and rules of pools, places and weights of
 * OSDs, pools and OSDs that come and go. Each function makes one random change by a command whose
 * outcome nobody waits for.
 */
#ifndef LIMPET_TESTS_SIM_TOPOLOGY_H
#define LIMPET_TESTS_SIM_TOPOLOGY_H

#include "tests/sim/cluster.h"

struct topology_pool {
    uint64_t id;
    uint8_t size;
    uint8_t min_size;
    char name[32];
    char rule[32]; /* Of CRUSH. */
};

struct topology {
    struct cluster *cluster;
    bool keeps_two; /* min_size of 2 and more is never less. */
    uint32_t n_pools;
    struct topology_pool pools[CLUSTER_POOLS_MAX];
};

/* After the pools of the workload were made: what is restored is what is there now. */
void topology_init(struct topology *topology, struct cluster *cluster);

void topology_resize_pool(struct topology *topology);
void topology_change_min_size(struct topology *topology);
/* By another CRUSH rule, which is made first, or by the one of before. */
void topology_change_rule(struct topology *topology);
/* Of an OSD, in the hierarchy. */
void topology_change_crush_weight(struct topology *topology);
/* A pool without objects is made or removed. */
void topology_extra_pool(struct topology *topology);
/* An OSD that is down is removed from the cluster, unless its data count. It comes back empty-
 * handed, by the map, with all its data. */
void topology_remove_osd(struct topology *topology);

/* Waits until the map has all OSDs again, up; what is down must have been started. */
bool topology_await_osds(struct topology *topology);
/* As it was at first. False when that fails, which the cluster has been told. */
bool topology_restore(struct topology *topology);
/* The same without waiting, for pools only. */
void topology_restore_send(struct topology *topology);

#endif
