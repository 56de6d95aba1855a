/*
 * How much background work an OSD does beside its clients' operations: feedback from latency.
 *
 * A pure controller: time comes in as an argument, and nothing is measured at start and nothing is
 * configured. While clients are active, background jobs (objects pushed, chunks scrubbed) run in
 * phases with rests between them. The latency of a client's operation counts as "beside jobs" or
 * as "at rest" by whether a job ran during it. From the two follows what the clients lose:
 *
 *     mean latency of all operations / at rest        is their loss of throughput
 *     99th percentile of all operations / at rest     is what their slowest see
 *
 * The larger of these, each as a share of what is allowed, is the pressure. Above 1 the level
 * falls, below it rises. The level is the number of jobs that may be under way on average: below
 * 1, one at a time with rests so long that it is true. It never falls to nothing, so the work
 * always goes on; and when no client was seen for some time there are no rests and no limit but
 * the largest.
 *
 * What other OSDs suffer from our jobs they tell as their own pressure, see pg_throttle_hear().
 */
#ifndef LIMPET_OSD_PG_PG_THROTTLE_H
#define LIMPET_OSD_PG_PG_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PG_LATENCY_BUCKETS = 96, /* Four to an octave, from 8 us. */
    PG_JOBS_MAX = 64,        /* Under way at the same time when no client is active. */
};

struct pg_latencies {
    uint32_t n;
    double sum_us;
    uint32_t buckets[PG_LATENCY_BUCKETS];
};

enum pg_throttle_phase { PG_THROTTLE_IDLE, PG_THROTTLE_WORKING, PG_THROTTLE_RESTING };

struct pg_throttle {
    double level;  /* Jobs under way on average. */
    uint32_t jobs; /* Under way now, with those that other OSDs do here. */
    uint32_t own;  /* Of these, ours. */
    enum pg_throttle_phase phase;
    uint64_t phase_ns;  /* When it began. */
    uint64_t rest_ns;   /* Length of the rest. */
    uint64_t idle_ns;   /* Since when no job of ours runs. */
    uint64_t quiet_ns;  /* Since when no job at all runs. */
    uint64_t client_ns; /* When a client's operation was last seen; 0: never. */
    struct pg_latencies beside, at_rest;
    double rate_beside, rate_at_rest; /* Operations of either kind lately. */
    uint32_t fresh;                   /* Operations since the last step. */
    double heard;                     /* The worst pressure of others since the last step. */
    uint32_t heard_fresh;
};

void pg_throttle_init(struct pg_throttle *throttle);

/* A client's operation begins; another one has ended that began then. */
void pg_throttle_client_begin(struct pg_throttle *throttle, uint64_t now_ns);
void pg_throttle_client_end(struct pg_throttle *throttle, uint64_t begun_ns, uint64_t now_ns);

/*
 * Whether another job of ours may begin. If not, `wait_ns` is when to ask again, or 0: when a job
 * ends.
 */
bool pg_throttle_may_begin(struct pg_throttle *throttle, uint64_t now_ns, uint64_t *wait_ns);
/* own: admitted by pg_throttle_may_begin(); otherwise another OSD's, that we only suffer. */
void pg_throttle_job_begin(struct pg_throttle *throttle, bool own, uint64_t now_ns);
void pg_throttle_job_end(struct pg_throttle *throttle, bool own, uint64_t now_ns);

/* Clients were seen lately: background work should be done in small pieces. */
bool pg_throttle_clients_active(const struct pg_throttle *throttle, uint64_t now_ns);

/* What our clients lose to jobs as a share of what is allowed, in thousandths; 0: no clients. */
uint32_t pg_throttle_pressure(const struct pg_throttle *throttle, uint64_t now_ns);
/* Another OSD, for which we do a job, told its pressure. */
void pg_throttle_hear(struct pg_throttle *throttle, uint32_t pressure, uint64_t now_ns);

#endif
