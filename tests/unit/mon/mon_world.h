/*
 * A few monitors of the real code in the simulated world, and peers made by hand: clients that send
 * commands, OSDs that only say what a test makes them say.
 */
#ifndef LIMPET_TESTS_UNIT_MON_MON_WORLD_H
#define LIMPET_TESTS_UNIT_MON_MON_WORLD_H

#include "common/limpet.pb-c.h"
#include "mon/mon.h"
#include "tests/sim/env_sim.h"

enum { WORLD_MONS_MAX = 5, WORLD_PEERS_MAX = 8, WORLD_OUTPUT_MAX = 65536 };

struct world_mon {
    struct sim_node *node;
    struct mon *mon;
    bool fatal;
    char why[256];
};

struct world_peer {
    struct world *world;
    struct sim_node *node;
    struct env *env;
    struct net_session *session;
    struct entity_name name;
    struct auth_secret secret;
    struct auth_provider auth;
    bool open;
    int closed;      /* Last error of closed(); 1: not yet. */
    uint64_t tid;    /* Of the last command. */
    uint64_t oldest; /* That it says with each; 0: nothing. */
    uint64_t reply_tid;
    bool replied;
    int result;
    uint64_t reply_epoch;
    char status[512];
    size_t output_len;
    char output[WORLD_OUTPUT_MAX];
    struct cluster_map *map; /* What it follows. */
    uint32_t maps;           /* Messages with maps or increments. */
    uint32_t full_maps;
    int notice; /* Result of the last message with tid 0. */
    bool ticketed;
    int ticket_result;
    size_t service_keys;
    uint64_t bytes_used;   /* That an OSD reports; 0: 1 GiB */
    uint32_t inconsistent; /* Objects of each of its groups, as it reports; */
    uint64_t repaired;     /* and objects that it repaired, */
    uint64_t read_errors;  /* and what its disk could not read; */
    uint32_t slow_ops;     /* requests that wait for long. */
    uint32_t scrub_orders;
    bool deep_ordered; /* By the last one. */
};

struct world {
    struct sim *sim;
    uint32_t n_mons;
    struct map_mon list[WORLD_MONS_MAX];
    struct world_mon mons[WORLD_MONS_MAX];
    struct keyring keyring;
    struct uuid fsid;
    struct mon_options options;
    uint32_t n_peers;
    struct world_peer peers[WORLD_PEERS_MAX];
};

/* Monitors a, b, c ... are made and started. */
struct world *world_create(uint64_t seed, uint32_t n_mons, const struct sim_options *options);
void world_destroy(struct world *world);

void world_start(struct world *world, uint32_t i);
void world_end(struct world *world, uint32_t i, enum sim_end how);
/* Lets time go on. */
void world_run_ms(struct world *world, uint64_t ms);
/* Until cond(ctx) holds; false after ms. */
bool world_until(struct world *world, uint64_t ms, bool (*cond)(void *ctx), void *ctx);
/* The monitor that leads, and that all that run follow; -1: none. */
int world_leader(struct world *world);
/* Waits for a leader other than `except` (-1: any) with an epoch of at least 1; fails the test. */
int world_await_leader(struct world *world, int except);
/* Waits until all monitors that run have this epoch. */
void world_await_epoch(struct world *world, uint64_t epoch);

/* A process of entity `name` with a session to monitor i. */
struct world_peer *world_peer(struct world *world, const char *name, uint32_t mon);
void world_peer_connect(struct world_peer *peer, uint32_t mon);
void world_peer_kill(struct world_peer *peer);
/* Starts a new process on the same node. */
void world_peer_restart(struct world_peer *peer, uint32_t mon);
/* Sends a command and waits for the answer: returns its result. */
int world_command(struct world_peer *peer, const char *json);
void world_send_command(struct world_peer *peer, const char *json);
void world_subscribe(struct world_peer *peer, uint64_t have);
void world_send(struct world_peer *peer, uint16_t type, const ProtobufCMessage *body);

/* What OSDs say. */
void world_boot(struct world_peer *osd, int32_t id, const char *host);
void world_boot_as(struct world_peer *osd, int32_t id, uint8_t uuid, const char *host);
void world_fail(struct world_peer *from, int32_t id, uint64_t instance,
                Limpet__Wire__OsdFailure__Kind kind);
void world_fence(struct world_peer *from, uint64_t client);
/* All groups of the map of which it is primary, active. */
void world_report(struct world_peer *osd, int32_t id);

#endif
