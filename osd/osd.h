/*
 * An OSD: one process that keeps replicas of objects on one store.
 *
 * It follows the cluster map, keeps a struct pg (osd/pg/pg.h) for each placement group that the map
 * or the store gives it, runs client operations, replicates them, and watches its peers. Everything
 * runs on one env, real or simulated.
 */
#ifndef LIMPET_OSD_OSD_H
#define LIMPET_OSD_OSD_H

#include "common/auth.h"
#include "common/env.h"
#include "common/error.h"
#include "osd/store/store.h"
#include "placement/map.h"

struct osd;

struct osd_options {
    int32_t id;
    struct uuid uuid; /* Of the store. */
    struct uuid fsid;
    struct auth_secret secret; /* osd.N's own key. */
    uint32_t n_mons;
    struct net_address mons[MAP_MONS_MAX];
    struct net_address listen; /* Port 0: a free one. */
    char host[MAP_HOST_MAX + 1];
    uint32_t heartbeat_ms;       /* 0: default 500 */
    uint32_t heartbeat_grace_ms; /* 0: default 2000 */
    uint32_t stats_ms;           /* 0: default */
    uint32_t complaint_ms;       /* 0: default 30,000 */
    uint64_t scrub_interval_ns;  /* 0: only when ordered; and deep ones. */
    uint64_t deep_scrub_interval_ns;
    uint64_t scrub_first_ns; /* No scheduled one so soon after a start; 0: default */
    /* Smaller limits, for tests; 0: default */
    uint32_t pg_log_keep; /* Entries of a log. */
    uint32_t pg_clients;  /* Of which a group keeps records. */
    uint32_t held;        /* Messages that wait for a map. */
    /* The OSD cannot go on (its store failed, or the map replaced it): the process must end. */
    void (*fatal)(void *ctx, int error, const char *why);
    void *fatal_ctx;
};

/* Starts: reads what the store holds, follows the monitors, boots. Takes over the store. */
int osd_create(struct env *env, const struct osd_options *options, struct store *store,
               struct osd **out) MUST_CHECK;

/* Orderly stop: tells the monitors, finishes writes, closes the store, frees; then calls stopped.
 */
void osd_stop(struct osd *osd, void (*stopped)(void *ctx), void *ctx);

/* For the simulator: frees memory, touches no peer and not the store. */
void osd_abandon(struct osd *osd);

/* The map this OSD knows (epoch 0 before the first one). Valid until the next event. */
const struct cluster_map *osd_map(const struct osd *osd);

const struct auth_provider *osd_auth(struct osd *osd);

#endif
