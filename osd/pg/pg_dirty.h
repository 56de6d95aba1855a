/*
 * Which blocks of which objects have changed since a point of the log: what a copy lacks that was
 * whole at that point.
 *
 * Kept by every member while its group is not clean, so that whoever is the primary when the absent
 * OSD returns knows what it missed, however far the log was trimmed meanwhile. It begins at what
 * was committed when the set shrank, hence at or before the head of whoever was lost. Its size
 * follows from the objects written, not from the writes; an OSD's all together are bounded, and one
 * that does not fit is given up: then copies are compared (backfill).
 *
 * It may say too much (entries that were taken back later), never too little.
 */
#ifndef LIMPET_OSD_PG_PG_DIRTY_H
#define LIMPET_OSD_PG_PG_DIRTY_H

#include <uthash.h>

#include "osd/pg/pg_layout.h"

enum {
    PG_DIRTY_BYTES_MAX = 24 * 1024 * 1024, /* Of all groups of an OSD. */
    PG_DIRTY_CONFIGS_MAX = 64,
};

/* An object that has changed. */
struct pg_dirty_object {
    UT_hash_handle hh; /* By its encoded id, in the order of the first change. */
    uint64_t first;    /* Sequence of the oldest noted entry that names it. */
    uint64_t last;     /* Sequence of the newest entry that names it. */
    bool whole;
    uint16_t tail; /* From this block on everything; PG_BLOCKS_MAX: nothing. */
    uint16_t n_words;
    uint64_t *words; /* A bit a block. */
    uint16_t len;
    uint8_t bytes[];
};

struct pg_dirty {
    bool tracking;
    struct wire_version start; /* Entries after this one have been noted. */
    uint64_t upto;             /* And up to this one. */
    /* The configurations of those entries: with the sequence they say whether a version is ours. */
    uint32_t n_configs;
    struct wire_version configs[PG_DIRTY_CONFIGS_MAX]; /* Each with its first sequence. */
    struct pg_dirty_object *objects;
    size_t bytes;
    size_t *total; /* Of the OSD. */
};

void pg_dirty_init(struct pg_dirty *dirty, size_t *total);
void pg_dirty_start(struct pg_dirty *dirty, struct wire_version start);
/* Forgets everything. */
void pg_dirty_stop(struct pg_dirty *dirty);
/* The next entry, which passed pg_entry_parse(). Harmless when nothing is tracked. */
void pg_dirty_note(struct pg_dirty *dirty, const void *entry);
/* Entries after this one were taken back. */
void pg_dirty_cut(struct pg_dirty *dirty, uint64_t sequence);

/* Everything that changed after this entry of our log is known. */
bool pg_dirty_reaches(const struct pg_dirty *dirty, struct wire_version version);
/* NULL: not changed since the start. */
const struct pg_dirty_object *pg_dirty_find(const struct pg_dirty *dirty, const void *id,
                                            uint16_t len);
/* How much of it has changed, at least: a whole one counts nothing. */
uint64_t pg_dirty_bytes(const struct pg_dirty_object *object);
/* The next changed blocks at or after `from`, below `limit`. */
bool pg_dirty_next(const struct pg_dirty_object *object, uint32_t from, uint32_t limit,
                   uint32_t *first, uint32_t *end);

#endif
