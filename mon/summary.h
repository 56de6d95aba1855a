/* The cluster in figures, for the reports: status, health, df, pg. */
#ifndef LIMPET_MON_SUMMARY_H
#define LIMPET_MON_SUMMARY_H

#include "mon/leader.h"

enum { SUMMARY_STATES_MAX = 32, SUMMARY_STATE_TEXT_MAX = 64, SUMMARY_REASONS_MAX = 4 };

/* What is true of one placement group, as far as map and reports tell. */
struct pg_condition {
    struct pg_view view;
    const struct pg_stat *stat; /* The primary's report; NULL: none for this configuration. */
    char state[SUMMARY_STATE_TEXT_MAX]; /* "active+clean" */
    bool active;
    bool available_by_map; /* Nothing in the map keeps it from being active. */
    bool clean;
    bool undersized;
    bool unplaced;           /* CRUSH finds fewer OSDs than the pool asks for. */
    uint32_t missing_copies; /* Of each object. */
    uint64_t degraded;       /* Copies of objects that are missing, */
    uint64_t misplaced;      /* or not yet where they belong. */
    uint64_t objects_left;   /* To be copied, as far as the map and the primary know. */
    uint64_t bytes_left;
    double eta_s; /* -1: not known, or nothing is left. */
};

struct summary {
    uint32_t n_osds;
    uint32_t n_up;
    uint32_t n_in;
    uint64_t bytes_total;
    uint64_t bytes_used;
    double rates[RATES];
    uint64_t n_pgs;
    uint64_t n_inactive;
    uint64_t n_down; /* Inactive because of the map. */
    uint64_t n_undersized;
    uint64_t n_unclean;
    uint64_t objects;
    uint64_t bytes; /* Of objects, once. */
    uint64_t copies;
    uint64_t degraded;   /* Copies that are missing, */
    uint64_t misplaced;  /* or not yet where they belong. */
    uint64_t bytes_left; /* To be copied. */
    uint64_t objects_left;
    uint64_t n_unplaced;
    uint64_t n_inconsistent;       /* Groups with objects whose copies differ, */
    uint64_t objects_inconsistent; /* and these. */
    uint64_t objects_unrepairable; /* Of which no copy is known to be good. */
    double eta_s;                  /* -1: not known. */
    uint32_t n_reasons;            /* Why groups wait. */
    struct {
        char text[STATS_WAITING_MAX + 1];
        uint64_t count;
    } reasons[SUMMARY_REASONS_MAX];
    uint32_t n_states;
    struct {
        char text[SUMMARY_STATE_TEXT_MAX];
        uint64_t count;
    } states[SUMMARY_STATES_MAX];
};

void summary_pg(const struct mon *mon, const struct map_pool *pool, uint32_t seed,
                struct pg_condition *out);
void summary_make(const struct mon *mon, struct summary *out);

struct pool_summary {
    uint64_t objects;
    uint64_t bytes;
    uint64_t clones;                                   /* Among the objects. */
    uint64_t degraded;                                 /* Copies that are missing. */
    uint64_t writes, bytes_written, reads, bytes_read; /* Of clients, since the pool was made. */
};
void summary_pool(const struct mon *mon, const struct map_pool *pool, struct pool_summary *out);

/* ---- health.c ---- */

enum { HEALTH_CHECKS_MAX = 32, HEALTH_DETAILS_MAX = 50 };
enum health_severity { HEALTH_OK = 0, HEALTH_WARN = 1, HEALTH_ERR = 2 };

struct health_check {
    const char *code;
    enum health_severity severity;
    char summary[160];
    const char *next; /* What to do. */
    uint64_t count;
    uint32_t n_details;
    char *details[HEALTH_DETAILS_MAX];
};

struct health {
    enum health_severity severity;
    uint32_t n;
    struct health_check checks[HEALTH_CHECKS_MAX];
};

/* What a code means (health_codes.c). */
struct health_code {
    const char *code;
    const char *cause;
    const char *impact;
    const char *next; /* What to do. */
};
const struct health_code *health_code_find(const char *code);

const char *health_text(enum health_severity severity);
/* To be freed with health_free(). NULL: memory is short. */
struct health *health_make(const struct mon *mon, const struct summary *summary);
void health_free(struct health *health);
json_t *health_json(const struct health *health, bool detail);

#endif
