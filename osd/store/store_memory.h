/*
 * What only the simulator asks of a store in memory: faults, and looking at a disk from outside.
 */
#ifndef LIMPET_OSD_STORE_STORE_MEMORY_H
#define LIMPET_OSD_STORE_STORE_MEMORY_H

#include "osd/store/store.h"

/* From now on commits and reads take this long on average: a disk that becomes slow, or recovers.
 */
void store_memory_set_latency(struct store *store, uint64_t latency_ns);

/*
 * What disks do that keep no promise. Rot: a part of the object fails to be read, until it is
 * written anew as a whole. The others happen in silence: a bit is another one, the end is missing,
 * the object is. False when there is no such object, or nothing of it to damage.
 */
enum store_memory_damage {
    STORE_DAMAGE_ROT,
    STORE_DAMAGE_FLIP,
    STORE_DAMAGE_TRUNCATE,
    STORE_DAMAGE_LOSE,
    STORE_DAMAGE_NONE, /* What was rotten can be read again. */
};
bool store_memory_damage(struct store_memory_disk *disk, const struct object_id *id,
                         enum store_memory_damage how, uint64_t random);

/* Whether a part of the object fails to be read. */
bool store_memory_is_rotten(struct store_memory_disk *disk, const struct object_id *id);
/* From now on the disk is of this size, whatever is on it. */
void store_memory_resize(struct store_memory_disk *disk, uint64_t bytes_total);

/* Everything below sees what is durable, and works on an open disk as on a closed one. */

struct store_memory_object {
    const struct object_id *id;
    uint64_t size;
    uint16_t info_len;
    const uint8_t *info;
    uint32_t data_crc;  /* crc32c of the contents. */
    bool rotten;        /* Some of the contents cannot be read. */
    uint32_t attrs_crc; /* crc32c over names and values of the attributes, in order. */
    uint32_t omap_crc;  /* Likewise of the map, and its header. */
};
typedef void (*store_memory_object_visit)(void *ctx, const struct store_memory_object *object);
typedef void (*store_memory_pair_visit)(void *ctx, const uint8_t *key, uint16_t key_len,
                                        const uint8_t *value, uint32_t len);

/* The objects of a pool whose reversed hash lies in first .. last, in the order of listing. */
void store_memory_visit_objects(struct store_memory_disk *disk, uint64_t pool, uint32_t first,
                                uint32_t last, store_memory_object_visit visit, void *ctx);
/* The pairs of a placement group, by key. */
void store_memory_visit_pairs(struct store_memory_disk *disk, struct pg_id pg,
                              store_memory_pair_visit visit, void *ctx);
/* The first pair of a placement group whose key is not below this one; false when none is. */
bool store_memory_pair(struct store_memory_disk *disk, struct pg_id pg, const uint8_t *key,
                       uint16_t key_len, const uint8_t **found, uint16_t *found_len,
                       const uint8_t **value, uint32_t *value_len);
void store_memory_visit_pgs(struct store_memory_disk *disk, store_pg_visit visit, void *ctx);
uint64_t store_memory_bytes_used(const struct store_memory_disk *disk);

#endif
