/*
 * A whole cluster of the real code in the simulated world: monitors, OSDs with stores in memory,
 * clients. Its parts are started, ended and restarted here; who decides when is faults.h.
 */
#ifndef LIMPET_TESTS_SIM_CLUSTER_H
#define LIMPET_TESTS_SIM_CLUSTER_H

#include "client/core/client.h"
#include "common/auth.h"
#include "mon/mon.h"
#include "osd/osd.h"
#include "osd/store/store_memory.h"
#include "tests/sim/env_sim.h"

enum {
    CLUSTER_MONS_MAX = 5,
    CLUSTER_OSDS_MAX = 8,
    CLUSTER_CLIENTS_MAX = 32,
    CLUSTER_POOLS_MAX = 2,
    CLUSTER_WHY_MAX = 512,
    CLUSTER_EPOCHS_MAX = 65536,
};

#define CLUSTER_DISK_BYTES (UINT64_C(100) << 30)

struct cluster;
struct fibers;

enum member_state { MEMBER_DOWN, MEMBER_UP, MEMBER_STOPPING };

/* What monitors, OSDs and clients have in common. */
struct member {
    struct cluster *cluster;
    struct sim_node *node;
    enum member_state state;
    struct env_timer restart; /* Armed: it starts (again) then. Always armed while it is down. */
    struct env_timer ended;   /* Its orderly stop is over: the process ends. */
    uint64_t agreed_epoch;    /* Latest map of it that was compared with the others'. */
    void (*start)(struct member *member);
    /* Frees what runs, without a chance to say good-bye. */
    void (*abandon)(struct member *member);
    /* Orderly; NULL: not known to this kind. */
    void (*stop)(struct member *member);
    const struct cluster_map *(*map)(struct member *member);
};

struct cluster_mon {
    struct member member;
    struct mon *mon;
    char name[4];
    bool made;
};

struct cluster_osd {
    struct member member;
    struct osd *osd;
    struct store *store;
    struct store_memory_disk *disk;
    int32_t id;
    struct uuid uuid;
    struct auth_secret secret;
    bool was_seen;        /* It has been started before. */
    uint64_t known_epoch; /* The newest map that a process of its disk has known. */
    uint64_t latency_ns;
};

struct cluster_client {
    struct member member;
    struct client *client;
    struct auth_secret secret;
    uint32_t incarnation; /* Counts its processes. */
    bool connected;
    /* Of the workload: called when it is connected, and when it is gone. */
    void (*ready)(struct cluster_client *client);
    void (*gone)(struct cluster_client *client);
    void *user;
    /* Likewise, of the watchers. */
    void (*watch_ready)(struct cluster_client *client);
    void (*watch_gone)(struct cluster_client *client);
    void *watch_user;
    /* Of a process of images.c, which takes its place. */
    void *images_user;
    struct fibers *fibers; /* NULL: it has none. */
};

struct cluster_options {
    uint32_t n_mons;
    uint32_t n_osds;
    uint32_t n_clients;     /* Besides client 0, which is the administrator and never crashes. */
    uint64_t op_timeout_ns; /* Of these; 0: they wait for ever. */
    uint64_t store_latency_ns;
    uint64_t sync_ns;
    uint32_t pg_log_keep; /* Entries in the logs of OSDs; 0: as always. */
    uint32_t pg_clients;  /* Of which a group keeps records. */
    uint32_t held;        /* Messages that wait for a map. */
    uint64_t scrub_ns;    /* Between two scrubs of a group; 0: only when ordered. */
};

struct cluster {
    struct sim *sim;
    struct cluster_options options;
    struct uuid fsid;
    struct keyring keyring;
    struct map_mon mon_list[CLUSTER_MONS_MAX];
    struct cluster_mon mons[CLUSTER_MONS_MAX];
    struct cluster_osd osds[CLUSTER_OSDS_MAX];
    struct cluster_client clients[CLUSTER_CLIENTS_MAX + 1];
    uint64_t agreed_epoch; /* Of the newest map that a majority of monitors agreed on. */
    uint64_t *map_hashes;  /* Of the map of each epoch, 0: not seen yet. */
    struct encoder scratch;
    uint32_t n_commands; /* By the administrator, under way. */
    bool failed;
    char why[CLUSTER_WHY_MAX];
    /* Counters, for the report. */
    uint32_t n_ends[3]; /* By enum sim_end. */
    uint32_t n_starts;
};

/* Nothing runs yet. Ends the process when memory is short. */
struct cluster *cluster_create(struct sim *sim, const struct cluster_options *options);
/* Whatever runs is abandoned. */
void cluster_destroy(struct cluster *cluster);

/* Notes the first failure; the run ends soon. */
void cluster_fail(struct cluster *cluster, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What a client of the library connects with. */
void cluster_client_options(const struct cluster_client *client, struct client_options *options);

void member_start(struct member *member);
void member_start_at(struct member *member, uint64_t at_ns);
/* At once. It is restarted at restart_ns. Nothing happens to a member that is down. */
void member_end(struct member *member, enum sim_end how, uint64_t restart_ns);
/* In order, if it knows how to and is up. HISTORY_NEVER-like UINT64_MAX: it stays down. */
void member_stop(struct member *member, uint64_t restart_ns);

/* All members, in a fixed order; NULL beyond the last. Clients are those of the workload. */
struct member *cluster_member(struct cluster *cluster, uint32_t i);

/* Runs until done() is true, a failure, or the deadline: a failure, too, which names `what`. */
bool cluster_run_until(struct cluster *cluster, bool (*done)(void *ctx), void *ctx,
                       uint64_t deadline_ns, const char *what);
/* Runs until then, or until a failure. */
bool cluster_run(struct cluster *cluster, uint64_t until_ns);

/* A command by the administrator, whose result may be an error. */
bool cluster_command_try(struct cluster *cluster, uint64_t timeout_ns, const char *json,
                         int *result);
/* A command by the administrator. Fails the cluster unless the result is 0. */
bool cluster_command(struct cluster *cluster, uint64_t timeout_ns, const char *json);
/* The same, without waiting, and whatever becomes of it. */
void cluster_command_send(struct cluster *cluster, const char *json);
/* Waits until none of them is under way any more: each ends, by itself or by its time-out. */
bool cluster_commands_end(struct cluster *cluster);

/* The newest map that some monitor has; NULL when none is up. */
const struct cluster_map *cluster_map_newest(struct cluster *cluster);
struct cluster_mon *cluster_leader(struct cluster *cluster);

/* Every two members that know the same epoch must know the same map. */
void cluster_check_agreement(struct cluster *cluster);

#endif
