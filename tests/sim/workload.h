/*
 * What the clients of the simulation do: the workloads of a scenario, each on objects of its own.
 * Every call and every answer is noted.
 */
#ifndef LIMPET_TESTS_SIM_WORKLOAD_H
#define LIMPET_TESTS_SIM_WORKLOAD_H

#include "tests/sim/cluster.h"
#include "tests/sim/history.h"
#include "tests/sim/scenario.h"

enum { WORKLOAD_OBJECTS_MAX = 16384, WORKLOAD_SLOTS_MAX = 16 };

struct workload_options {
    const struct scenario *scenario;
    uint32_t n_pools;
    uint64_t pools[CLUSTER_POOLS_MAX];
    bool no_reads; /* Before the end. */
};

struct workload;
struct snaps;

/* Nothing happens yet. */
struct workload *workload_create(struct cluster *cluster, const struct workload_options *options);
void workload_destroy(struct workload *workload);

/* Writes what must be there first, by the administrator; then workload_quiet(). */
void workload_write_first(struct workload *workload);
/* The clients begin. */
void workload_start(struct workload *workload);
/* No new operations from now on. */
void workload_stop(struct workload *workload);
/* Every operation of a client that lives has been answered. */
bool workload_quiet(const struct workload *workload);
/* Reads every object once, by the administrator; then workload_quiet(). */
void workload_read_all(struct workload *workload);

/* Reads every object that has snapshots at one of them; likewise. */
void workload_read_snap(struct workload *workload, uint64_t snap);
struct snaps *workload_snaps(struct workload *workload);

/* Objects are in this namespace, or in none. */
#define WORKLOAD_SPACE "space"

/* The number of an object; UINT32_MAX when it is none of ours. */
uint32_t workload_find(const struct workload *workload, const struct object_id *id);
/* True: the object exists from workload_start() to the end. The id points to the workload's. */
bool workload_lasting(const struct workload *workload, uint32_t object, struct object_id *id);

/* After workload_read_all(): whether there is this object. */
bool workload_exists(const struct workload *workload, const struct object_id *id);
/* ... and how many objects exist. */
uint32_t workload_n_existing(const struct workload *workload);

const struct history *workload_history(const struct workload *workload);
uint32_t workload_n_objects(const struct workload *workload);
uint32_t workload_n_answered(const struct workload *workload);
/* The longest that an operation took so far. */
uint64_t workload_longest(const struct workload *workload);

#endif
