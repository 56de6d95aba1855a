/*
 * What a run consists of: the size of the cluster, what clients do, what goes wrong, what is
 * checked. Scenarios are small text files (scenarios/), whose syntax README.md describes. Most
 * values are choices: the seed picks one for each run.
 */
#ifndef LIMPET_TESTS_SIM_SCENARIO_H
#define LIMPET_TESTS_SIM_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/sim/env_sim.h"

enum {
    SCENARIO_CHOICES_MAX = 8,
    SCENARIO_WORKLOADS_MAX = 12,
    SCENARIO_FAULTS_MAX = 64,
    SCENARIO_NAME_MAX = 32,
    SCENARIO_WHY_MAX = 256,
    SCENARIO_BYTES_MAX = 64 * 1024,
};

/* From low to high, both included. */
struct scenario_choice {
    uint64_t low, high;
    uint32_t weight;
};

/* Times are in nanoseconds, sizes in bytes, flags 0 or 1. */
struct scenario_value {
    uint32_t n;
    struct scenario_choice choices[SCENARIO_CHOICES_MAX];
};

struct scenario_workload {
    char name[SCENARIO_NAME_MAX];
    struct scenario_value percent; /* Of the runs that have it. */
    struct scenario_value objects;
    struct scenario_value clients; /* That take part; 0: all. */
    struct scenario_value slots;   /* Operations that each has under way. */
    struct scenario_value think;   /* Between an answer and the next operation, on average. */
    struct scenario_value first;   /* Each object is written before the work begins. */
    struct scenario_value first_length;
    struct scenario_value length; /* Of an object that is written as a whole. */
    struct scenario_value piece;  /* Of what is appended or written into one. */
    struct scenario_value grow;   /* An object of this size is not appended to. */
    /* How often each kind of operation, relative to the others. */
    struct scenario_value read, stat, write_full, write_at, append, truncate, remove, create;
    struct scenario_value exchange, exchange_if, look;               /* Of tags: see history.h. */
    struct scenario_value read_snap, rollback, take_snap, drop_snap; /* Of snapshots: likewise. */
    struct scenario_value zero, write_same, write_if, checksum, hint;
    struct scenario_value keys_set, keys_cut, keys_list;    /* Of 64 keys of the map. */
    struct scenario_value lock, unlock, break_lock, holder; /* Of one lock. */
    struct scenario_value greet, say;                       /* Methods. */
    struct scenario_value share, seize, leave, evict, rename, held, team; /* Of another lock. */
};

/* Block images: see images.h. */
struct scenario_images {
    struct scenario_value number, workers, think;
    struct scenario_value read, write, zero, same, compare, flush; /* Weights. */
    struct scenario_value snap, snap_remove, snap_read, rollback, resize, flatten, diff, check;
    struct scenario_value create, remove, clone, rename, trash, group, stream;
    struct scenario_value encrypted; /* Percent of the images. */
    struct scenario_value cached;    /* Percent of the handles: they answer writes early. */
};

/* A file system: see files.h. */
struct scenario_files {
    struct scenario_value workers, think;
    struct scenario_value lookup, getattr, create, mkdir, symlink, unlink, rmdir; /* Weights. */
    struct scenario_value rename, link, list, setattr, truncate, open, release, read, write;
    struct scenario_value sync, sync_all, xattr_get, xattr_set, race, lock;
    struct scenario_value drop;
};

struct scenario {
    char name[SCENARIO_NAME_MAX];
    /* [cluster] */
    struct scenario_value mons, osds, clients, seconds;
    struct scenario_value pools, pg_num, size;
    struct scenario_value op_timeout;
    struct scenario_value store_latency, sync;
    struct scenario_value log_keep, scrub_every, records, held;
    struct scenario_value drift, breaks, ends, late;
    struct scenario_value watched, leased, watch_timeout; /* Objects; see watchers.h. */
    struct scenario_value fenced;                         /* Objects; see fenced.h. */
    struct scenario_value fenced_deaf;                    /* 0: nobody may be blocked. */
    /* [workload NAME], each. */
    uint32_t n_workloads;
    struct scenario_workload workloads[SCENARIO_WORKLOADS_MAX];
    struct scenario_images images; /* [images] */
    struct scenario_files files;   /* [files] */
    /* [faults] */
    struct scenario_value every;
    struct scenario_value emphasis;
    uint32_t faults[SCENARIO_FAULTS_MAX]; /* Weights, by fault_by_name(). */
    /* [check] */
    struct scenario_value answer, settle;
    struct scenario_value linear, versions, listings, copies;
    struct scenario_value scrub; /* Percent of the runs. */
};

/* 0, or -EINVAL and what is wrong, with the number of the line. */
int scenario_parse(struct scenario *scenario, const char *text,
                   char why[SCENARIO_WHY_MAX]) MUST_CHECK;
/* A path, or the name of one of scenarios/. */
int scenario_load(struct scenario *scenario, const char *name,
                  char why[SCENARIO_WHY_MAX]) MUST_CHECK;

/* One of the choices. */
uint64_t scenario_choose(const struct scenario_value *value, struct sim *sim);
/* Nothing but this. */
struct scenario_value scenario_only(uint64_t value);
/* The largest that can be chosen. */
uint64_t scenario_most(const struct scenario_value *value);

/* What can be said in a scenario. */
void scenario_list(FILE *out);

#endif
