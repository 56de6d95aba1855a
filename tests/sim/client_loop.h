/*
 * The inside of a simulated process's cluster handle, for whoever runs the process.
 */
#ifndef LIMPET_TESTS_SIM_CLIENT_LOOP_H
#define LIMPET_TESTS_SIM_CLIENT_LOOP_H

#include "client/core/client.h"

struct limpet_cluster;

/* In place of limpet_cluster_create() and _connect(), and of configuration files. In a fiber. */
int client_loop_connect(const struct client_options *options,
                        struct limpet_cluster **out) MUST_CHECK;
/* Its process is frozen, and its fibers are there: what it waits for is cancelled. */
void client_loop_abandon(struct limpet_cluster *cluster);
const struct cluster_map *client_loop_map(const struct limpet_cluster *cluster);

#endif
