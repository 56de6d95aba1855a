/*
 * Clients of the simulation that use a file system: client/fs and what is below it in processes of
 * their own (fibers.h), and a model of POSIX (file_model.h) that says what they may see.
 *
 * Operations that have nothing to do with each other run at the same time, also in one directory;
 * some use the same names at the same time (file_race.c); and there are locks (file_locks.c).
 * Checked are: the result of each; attributes, contents, entries; that what is durable outlives its
 * client, what else it did is a prefix of each shard's changes, and every write is old or new; that
 * a client is told of what it loses; and at the end that limpet_fs_check() finds nothing but what
 * the dead have left, can repair that, and that the tree is the model's.
 */
#ifndef LIMPET_TESTS_SIM_FILES_H
#define LIMPET_TESTS_SIM_FILES_H

#include "tests/sim/cluster.h"
#include "tests/sim/scenario.h"

struct files;

/* Before the clients start: all but the administrator are such clients. NULL: there are none. */
struct files *files_create(struct cluster *cluster, const struct scenario *scenario);
/* The pools are there. */
void files_start(struct files *files);
/* Faults are over: everybody stops, then one checks everything. False: the cluster has failed. */
bool files_finish(struct files *files, uint64_t ns);
void files_destroy(struct files *files);
/* Operations that were answered. */
uint32_t files_count(const struct files *files);

#endif
