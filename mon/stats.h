/*
 * What OSDs report about themselves and their placement groups. Soft: it is rebuilt from reports,
 * which OSDs repeat. Every monitor keeps it for the OSDs that report to it, and the leader for all,
 * so that after a change of leader each monitor can tell the new one what it knows.
 */
#ifndef LIMPET_MON_STATS_H
#define LIMPET_MON_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/limpet.pb-c.h"
#include "common/version.h"
#include "placement/map.h"

enum { STATS_WAITING_MAX = 120, STATS_PGS_MAX = 1 << 20 };

struct pg_stat {
    int32_t osd;   /* Who reported it; -1: nobody. */
    uint8_t state; /* Limpet__Wire__PgState */
    uint64_t instance;
    uint64_t config;
    uint64_t objects;
    uint64_t bytes;
    uint32_t learners;
    uint64_t objects_missing;
    uint64_t bytes_missing;
    char *waiting;           /* NULL or a line for a person. */
    uint8_t scrubbing;       /* 1: light, 2: deep */
    uint64_t scrub_stamp_ns; /* Wall clock; 0: never. */
    uint64_t deep_stamp_ns;
    uint32_t inconsistent;  /* Objects whose copies differ and that were not repaired. */
    uint32_t unrepairable;  /* Of these: no good copy is known. */
    uint64_t snaps_trimmed; /* All that the map of this epoch had removed. */
    uint64_t clones;        /* Among the objects. */
    uint64_t writes;        /* Of clients, since the group was made, as what follows. */
    uint64_t bytes_written;
    uint64_t reads;
    uint64_t bytes_read;
    /* What the primary has sent to learners, as it counts; it outlives complete reports. */
    int32_t counted_osd;
    uint64_t counted_instance;
    uint64_t counted_ns;
    uint64_t objects_recovered;
    uint64_t bytes_recovered;
    double recovery_rate; /* Bytes a second, smoothed. */
};

/* What happens in a second: of all OSDs, over the last seconds. */
enum stats_rate {
    RATE_WRITE_OPS,
    RATE_READ_OPS,
    RATE_WRITE_BYTES,
    RATE_READ_BYTES,
    RATE_OBJECTS_RECOVERED,
    RATE_BYTES_RECOVERED,
    RATES,
};
enum { STATS_WINDOW_S = 10, STATS_WAITS_MAX = 160 };

struct osd_stat {
    uint64_t instance; /* 0: no report. */
    uint64_t reported_ns;
    uint64_t epoch;
    uint64_t bytes_total;
    uint64_t bytes_used;
    uint64_t counters[4];                /* write ops, read ops, write bytes, read bytes */
    uint64_t read_errors;                /* Of its disk, since it started. */
    uint64_t repaired;                   /* Objects of its own written anew, likewise. */
    uint32_t slow_ops;                   /* Requests that have waited for too long, */
    uint64_t slowest_ms;                 /* the oldest of them for so long, */
    char slowest_waits[STATS_WAITS_MAX]; /* for this. */
    char version[LIMPET_VERSION_MAX];    /* Of its program; empty: it did not say. */
};

struct stats;

struct stats *stats_create(void) MUST_CHECK;
void stats_destroy(struct stats *stats);
void stats_clear(struct stats *stats);

/* Takes a report in. Reports of another than the map's process of that OSD are ignored. */
void stats_report(struct stats *stats, const struct cluster_map *map,
                  const Limpet__Wire__OsdStats *report, uint64_t now_ns);
/* Forgets pools and OSDs that the map no longer has. */
void stats_trim(struct stats *stats, const struct cluster_map *map);
/* A pool's configuration numbers were all raised to `config`, with no other change. */
void stats_compacted(struct stats *stats, uint64_t pool, uint64_t config);

/* Over the window that ends now. */
void stats_rates(const struct stats *stats, uint64_t now_ns, double rates[RATES]);
/* Of the recovery that is under way, or of the last one. False: there was none since we lead. */
bool stats_recovery_rate(const struct stats *stats, double *bytes_per_s, double *objects_per_s);
/* Seconds that so much takes at these rates; -1: they do not tell. */
double stats_recovery_eta(double bytes_per_s, double objects_per_s, uint64_t bytes,
                          uint64_t objects);

/* NULL: nothing is known of the running process. */
const struct osd_stat *stats_osd(const struct stats *stats, const struct cluster_map *map,
                                 int32_t id);
/* NULL: nothing is known. */
const struct pg_stat *stats_pg(const struct stats *stats, struct pg_id pg);

/*
 * All that an OSD's reports said, as one complete report, to be freed with stats_report_free().
 * NULL: nothing is known, or memory is short.
 */
Limpet__Wire__OsdStats *stats_replay(const struct stats *stats, const struct cluster_map *map,
                                     int32_t id);
void stats_report_free(Limpet__Wire__OsdStats *report);

#endif
