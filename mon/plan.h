/*
 * What a change of the map would move, before it is made: two maps are compared group by group,
 * with what is known of the groups' sizes. Nothing is guessed: what is not known is said to be so.
 */
#ifndef LIMPET_MON_PLAN_H
#define LIMPET_MON_PLAN_H

#include "mon/leader.h"

enum { PLAN_EXAMPLES_MAX = 8 };

struct plan_osd {
    uint64_t bytes_in;      /* To be copied there because of the change. */
    uint64_t bytes_pending; /* To be copied there anyhow: the map says so already. */
    uint64_t bytes_out;     /* No longer wanted there. */
    uint32_t pgs_in;
    uint32_t pgs_out;
};

/* How many groups have a property, and a few of them. */
struct plan_groups {
    uint64_t n;
    uint32_t n_examples;
    struct pg_id examples[PLAN_EXAMPLES_MAX];
};

struct plan {
    bool changes; /* Whether the map would be another one at all. */
    uint64_t bytes;
    uint64_t objects;
    uint64_t pgs;                /* Whose places change. */
    uint64_t bytes_pending;      /* Of earlier changes. */
    bool sizes_known;            /* False: of some group with a set nothing has been reported. */
    struct plan_groups unplaced; /* CRUSH finds fewer places than the pool's size. */
    struct plan_groups degraded; /* Have fewer copies, until others are made. */
    struct plan_groups inactive; /* Cannot serve any more. */
    struct plan_groups lost;     /* No member of the set is left. */
    int32_t n_full;              /* OSDs that would be too full while data move, */
    int32_t fullest;             /* and the worst of them; -1: none. */
    double fullest_ratio;
    bool rate_known;
    double bytes_per_s; /* Of the last recovery. */
    double objects_per_s;
    int32_t n_osds;
    struct plan_osd *osds;
};

/* -ENOMEM. To be freed with plan_fini(), also after an error. */
int plan_make(const struct mon *mon, const struct cluster_map *before,
              const struct cluster_map *after, struct plan *out) MUST_CHECK;
void plan_fini(struct plan *plan);

/* Seconds that moving the bytes takes at the rate of the last recovery; -1: not known. */
double plan_eta(const struct plan *plan, uint64_t bytes, uint64_t objects);

/* The text of a refusal, when OSDs would be too full; false: none would. */
bool plan_refuses(const struct plan *plan, char *why, size_t size);

#endif
