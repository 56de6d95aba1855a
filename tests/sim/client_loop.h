/*
 * The inside of a simulated process's cluster handle, for whoever runs the process.
 */
#ifndef LIMPET_TESTS_SIM_CLIENT_LOOP_H
#define LIMPET_TESTS_SIM_CLIENT_LOOP_H

#include "client/core/client.h"

struct limpet_cluster;
struct limpet_watch;

/* In place of limpet_cluster_create() and _connect(), and of configuration files. In a fiber. */
int client_loop_connect(const struct client_options *options,
                        struct limpet_cluster **out) MUST_CHECK;
/* Its process is frozen, and its fibers are there: what it waits for is cancelled. */
void client_loop_abandon(struct limpet_cluster *cluster);
/* env_clock() until when the lease is its owner's, as that one knows; 0: it is not. */
uint64_t client_loop_lease_until(const struct limpet_watch *lease);
const struct cluster_map *client_loop_map(const struct limpet_cluster *cluster);

#endif
