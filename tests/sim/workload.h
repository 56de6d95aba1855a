/*
 * What the clients of the simulation do: operations of all kinds on a few objects, of which every
 * call and every answer is noted.
 */
#ifndef LIMPET_TESTS_SIM_WORKLOAD_H
#define LIMPET_TESTS_SIM_WORKLOAD_H

#include "tests/sim/cluster.h"
#include "tests/sim/history.h"

enum { WORKLOAD_OBJECTS_MAX = 4096, WORKLOAD_SLOTS = 2 };

struct workload_options {
    uint32_t n_pools;
    uint64_t pools[CLUSTER_POOLS_MAX];
    uint32_t n_objects;  /* That clients are busy with; the first few of them are large. */
    uint32_t n_ballast;  /* Small ones besides, that are changed now and then. */
    uint64_t think_ns;   /* Between an answer and the next operation, on average. */
    bool no_reads;       /* Before the end. */
    uint32_t large_in_n; /* One in so many operations is on a large object; 0: none. */
};

struct workload;

/* Nothing happens yet. */
struct workload *workload_create(struct cluster *cluster, const struct workload_options *options);
void workload_destroy(struct workload *workload);

/* Writes the ballast once, by the administrator; then workload_quiet(). */
void workload_write_ballast(struct workload *workload);
/* The clients begin. */
void workload_start(struct workload *workload);
/* No new operations from now on. */
void workload_stop(struct workload *workload);
/* Every operation of a client that lives has been answered. */
bool workload_quiet(const struct workload *workload);
/* Reads every object once, by the administrator; then workload_quiet(). */
void workload_read_all(struct workload *workload);

/* After workload_read_all(): whether the pool has an object of this name. */
bool workload_exists(const struct workload *workload, uint64_t pool, const void *name, size_t len);
/* ... and how many objects exist. */
uint32_t workload_n_existing(const struct workload *workload);

const struct history *workload_history(const struct workload *workload);
uint32_t workload_n_objects(const struct workload *workload); /* With the ballast. */
uint32_t workload_n_answered(const struct workload *workload);
/* The longest that an operation took so far. */
uint64_t workload_longest(const struct workload *workload);

#endif
