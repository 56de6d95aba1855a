/*
 * A monitor: one of a few processes that agree on the cluster map.
 *
 * The map state machine (mon/machine.h) is pure; consensus is libraft behind mon/consensus.h;
 * this is the process around them: sessions, subscriptions, commands, forwarding to the leader.
 * Everything runs on one env, real or simulated.
 */
#ifndef LIMPET_MON_MON_H
#define LIMPET_MON_MON_H

#include "common/auth.h"
#include "common/env.h"
#include "common/error.h"
#include "placement/map.h"

struct mon;

struct mon_mkfs_options {
    struct uuid fsid;
    const char *name; /* "a" */
    uint32_t n_mons;  /* All initial monitors, the same on each: they are the first quorum. */
    const struct map_mon *mons;
    const struct keyring *keyring; /* Entities of the new cluster; must hold "mon.". */
};

struct mon_options {
    const char *name;
    struct uuid fsid;                  /* What the data directory must belong to; zero: anything. */
    uint32_t election_timeout_ms;      /* 0: default */
    uint32_t heartbeat_ms;             /* 0: default */
    uint32_t osd_down_out_seconds;     /* A down OSD is marked out after this; 0: never. */
    uint32_t osd_beacon_grace_seconds; /* No beacon for this long: down; 0: default. */
    uint32_t probe_timeout_ms; /* A reported OSD answers us within this, or is silent; 0: default */
    uint32_t partial_grace_ms; /* OSDs that cannot talk to each other block for this long. */
    uint32_t flap_count;       /* So often, within the window, an OSD may be marked down wrongly; */
    uint32_t flap_window_ms;
    uint32_t flap_hold_ms; /* then it is held down for this long, later for longer. 0: defaults */
    uint32_t snapshot_entries; /* Raft entries between snapshots; 0: default. */
    /* CRUSH type over which a new cluster spreads replicas: 0 osd, 1 host. */
    uint16_t crush_chooseleaf_type;
    uint8_t pool_size;     /* Of new pools; 0: default. */
    uint8_t pool_min_size; /* 0: from the size. */
    double nearfull_ratio; /* Used share of an OSD that is warned about; 0: default 0.85. */
    double full_ratio;     /* 0: default 0.95 */
    /* The monitor cannot go on (its log failed): the process must end. May be NULL. */
    void (*fatal)(void *ctx, int error, const char *why);
    void *fatal_ctx;
};

/*
 * Makes a new monitor's files in the env's data directory. -EEXIST when a monitor is there already;
 * -EINVAL when the options contradict each other. Errors are explained in `why` (256 bytes).
 */
int mon_mkfs(struct env *env, const struct mon_mkfs_options *options, char why[256]) MUST_CHECK;

/*
 * Loads the data directory and joins its quorum: listens on this monitor's address of the map.
 * Errors are explained in `why`; -EXDEV: the data belong to another cluster.
 */
int mon_create(struct env *env, const struct mon_options *options, struct mon **out,
               char why[256]) MUST_CHECK;

/* Orderly stop: `stopped` is called when nothing is under way any more and the mon is freed. */
void mon_stop(struct mon *mon, void (*stopped)(void *ctx), void *ctx);

/* For the simulator, which drops a whole process at once: frees memory, touches no peer, no disk.
 */
void mon_abandon(struct mon *mon);

/* The latest committed map that this monitor has applied. Valid until the next event. */
const struct cluster_map *mon_map(const struct mon *mon);
bool mon_is_leader(const struct mon *mon);

/*
 * How the world authenticates this monitor's peers: the monitors' shared key, and the database.
 * Valid after mon_create() and as long as the monitor.
 */
const struct auth_provider *mon_auth(struct mon *mon);

#endif
