/*
 * A simulated disk: completes requests in any order, and at a power cut keeps any part, down to
 * single sectors, of what was written and not flushed.
 */
#ifndef LIMPET_TESTS_SIM_DISK_SIM_H
#define LIMPET_TESTS_SIM_DISK_SIM_H

#include "osd/store/disk.h"
#include "tests/sim/random.h"

struct disk_image;

struct disk_image *disk_image_create(uint64_t size) MUST_CHECK;
void disk_image_destroy(struct disk_image *image);
/* Another one with the same durable bytes. */
struct disk_image *disk_image_copy(const struct disk_image *image) MUST_CHECK;
/* Damages what is durable, while no disk is open on it. */
void disk_image_flip(struct disk_image *image, uint64_t byte, uint32_t bit);
/* The bytes that are durable, while no disk is open on it. */
uint8_t *disk_image_bytes(struct disk_image *image);

/* Requests take latency_ns on average. */
int disk_sim_open(struct env *env, struct disk_image *image, uint64_t latency_ns,
                  struct disk **out) MUST_CHECK;

/* Ends the disk without callbacks; unflushed sectors survive or not as `random` decides. */
void disk_sim_power_cut(struct disk *disk, struct random_stream *random);

/* Faults, each for one request at random in the next n: 0 stops. */
struct disk_sim_faults {
    uint32_t fail_writes;  /* -EIO, and part of it is written. */
    uint32_t fail_reads;   /* -EIO */
    uint32_t fail_flushes; /* -EIO */
    uint32_t short_writes; /* Half is written, and -EIO as a short transfer. */
    uint32_t slow;         /* A read or write that takes much longer than others. */
    uint32_t sync_left;    /* Synchronous requests that succeed yet, when not 0; then -EIO. */
    uint32_t unsteady; /* A synchronous read with one bit wrong, which the next one has right. */
};
void disk_sim_faults(struct disk *disk, const struct disk_sim_faults *faults);

#endif
