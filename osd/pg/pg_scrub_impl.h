/*
 * A scrub that runs: shared by pg_scrub.c (chunks, and when) and pg_scrub_suspect.c (one object).
 */
#ifndef LIMPET_OSD_PG_PG_SCRUB_IMPL_H
#define LIMPET_OSD_PG_PG_SCRUB_IMPL_H

#include "osd/pg/pg_impl.h"

enum scrub_phase {
    SCRUB_TURN,
    SCRUB_SURVEY,
    SCRUB_ENTERING,
    SCRUB_CHECKING,
    SCRUB_REPAIRING,
    SCRUB_BACKING_OFF,
};

struct scrub_copy {
    int32_t osd;
    bool answered;
    struct scrub_map map;
};

struct pg_scrub {
    struct pg *pg;
    enum scrub_phase phase;
    bool deep;
    bool ordered;
    bool check; /* Of suspects that are known, and of nothing else. */
    uint64_t number;
    struct pg_turn turn;
    uint32_t silent_ticks, failures;
    uint64_t objects, found, repaired; /* Counters, for the log. */

    struct object_id *after, *upto; /* The chunk; NULL: from the beginning, to the end. */
    uint64_t tid;                   /* Of what copies are asked now. */
    uint8_t n_copies;               /* Ours is the first. */
    struct scrub_copy copies[PG_SIZE_MAX];
    struct pg_survey *survey;
    struct pg_name_list suspects;

    /* The first suspect. */
    struct object_waiter waiter;
    struct pg_object *locked;
    bool check_deep;
    bool repaired_once;          /* This check tells whether it helped. */
    uint32_t wrong[PG_SIZE_MAX]; /* Errors of the copies that are to be repaired. */
    int good;                    /* The copy to believe. */
    struct repair_waiter repair;
    struct pg_push *push;
    uint64_t push_offset; /* How far it was at the last tick. */
};

/* ---- pg_scrub.c ---- */

/* The chunk begins again at the next tick. */
void scrub_back_off(struct pg_scrub *scrub, const char *why);
/* Asks every copy what it has of the chunk, or of the one object (NULL: the chunk). */
void scrub_ask_all(struct pg_scrub *scrub, bool deep, const struct pg_name *only);
void scrub_chunk_done(struct pg_scrub *scrub);
bool scrub_all_same(const struct scrub_entry *const entries[], uint8_t n);

/* ---- pg_scrub_suspect.c ---- */

/* Looks at the first suspect; without any, the chunk is done. */
void scrub_suspect_next(struct pg_scrub *scrub);
/* All copies have told what they have of it. */
void scrub_compare_suspect(struct pg_scrub *scrub);
void scrub_drop_suspect(struct pg_scrub *scrub);
void scrub_unlock(struct pg_scrub *scrub);

#endif
