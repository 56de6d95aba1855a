/*
 * Snapshots of one pool, as clients of the simulation take and remove them, and the check that
 * nothing is left when all were removed.
 */
#ifndef LIMPET_TESTS_SIM_SNAPS_H
#define LIMPET_TESTS_SIM_SNAPS_H

#include "tests/sim/cluster.h"
#include "tests/sim/history.h"

enum { SNAPS_ALIVE_MAX = 8 };

struct snaps {
    uint64_t pool;
    struct history_snaps table;
    uint64_t newest; /* Whose number was told; all before it are known, or to nobody. */
    uint32_t n_alive;
    bool taking; /* One at a time: so the newest is known with all before it. */
};

/* The snapshots that are alive, newest first. Returns how many. */
uint16_t snaps_context(const struct snaps *snaps, uint64_t out[SNAPS_ALIVE_MAX]);
/* One of those that are alive, by a number that is drawn; 0: there are none. */
uint64_t snaps_choose(const struct snaps *snaps, struct sim *sim);

/* A command of a client, which takes or removes one. It may be repeated after its end. */
struct snaps_command {
    struct snaps *snaps;
    struct client_command command;
    char json[256];
    bool takes;
    void (*done)(struct snaps_command *command);
};
/* False: it cannot be now. */
bool snaps_take(struct snaps_command *command, struct client *client);
bool snaps_drop(struct snaps_command *command, struct client *client, uint64_t snap,
                uint64_t now_ns);

/* Removes all that are alive, and waits until they have left the map. */
bool snaps_remove_all(struct snaps *snaps, struct cluster *cluster, uint64_t deadline);
/* No OSD has any clone, nor an object that is kept for clones, nor a pair that leads to one. */
bool snaps_nothing_left(struct cluster *cluster, char why[CLUSTER_WHY_MAX]);

#endif
