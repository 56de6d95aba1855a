/*
 * Checking a store offline: every invariant of the index, and with `deep` every byte of data.
 */
#ifndef LIMPET_OSD_STORE_ENGINE_FSCK_H
#define LIMPET_OSD_STORE_ENGINE_FSCK_H

#include "osd/store/engine.h"

struct fsck_options {
    bool deep;   /* Reads all data and compares checksums. */
    bool repair; /* Removes orphans, corrects counts and sums. */
    /* One finding, as a line for a person. */
    void (*finding)(void *ctx, const char *line);
    /* Called now and then: work done, of total. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

struct fsck_report {
    uint64_t objects, chunks, blocks, shared_blocks, omap_pairs, pg_pairs;
    uint64_t errors;   /* Findings. */
    uint64_t repaired; /* Of them. */
    uint64_t damaged;  /* Blocks that fail their checksum or cannot be read. */
    uint64_t extents;  /* Runs of mapped blocks, at most a chunk long. */
    uint64_t free_blocks, free_runs, free_longest; /* In blocks. */
};

/*
 * Replays the journal as mounting does, then checks. 0 when the check could be made, whatever it
 * found; a negative errno with `why` when it could not.
 */
int engine_fsck(struct env *env, struct disk *disk, struct index *index,
                const struct fsck_options *options, struct fsck_report *report,
                char why[256]) MUST_CHECK;

#endif
