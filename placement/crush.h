/*
 * CRUSH: pseudo-random, hierarchical, weighted placement.
 *
 * Source: S. A. Weil et al., "CRUSH: Controlled, Scalable, Decentralized Placement of Replicated
 * Data" (SC 2006), with straw2 buckets and the tunables that Ceph calls "jewel". Equal bit for bit
 * to Ceph's, as the golden vectors of crushtool show. A pure function over a const map.
 */
#ifndef LIMPET_PLACEMENT_CRUSH_H
#define LIMPET_PLACEMENT_CRUSH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/codec.h"
#include "common/error.h"

enum {
    CRUSH_NAME_MAX = 63,
    CRUSH_BUCKETS_MAX = 65536,
    CRUSH_BUCKET_ITEMS_MAX = 65536,
    CRUSH_RULES_MAX = 256,
    CRUSH_STEPS_MAX = 32,
    CRUSH_TYPES_MAX = 32,
    CRUSH_DEPTH_MAX = 16,
    CRUSH_DEVICES_MAX = 1 << 20,
    CRUSH_TRIES_MAX = 1000,  /* Of the tunable and of rules. */
    CRUSH_CHOOSE_MAX = 1024, /* Items that one step may ask for. */
    CRUSH_VARY_R_MAX = 31,
    CRUSH_ITEM_NONE = 0x7fffffff, /* A hole in the result of an indep rule. */
};

/* A bucket's id is negative: -1 - its index. Devices (OSDs) are the numbers from 0. */
struct crush_bucket {
    int32_t id;
    uint16_t type;
    uint32_t weight; /* Sum of its items', 16.16. */
    uint32_t n_items;
    int32_t *items;
    uint32_t *weights;
    char name[CRUSH_NAME_MAX + 1];
};

enum crush_step_op {
    CRUSH_TAKE = 1,
    CRUSH_CHOOSE_FIRSTN = 2,
    CRUSH_CHOOSE_INDEP = 3,
    CRUSH_EMIT = 4,
    CRUSH_CHOOSELEAF_FIRSTN = 6,
    CRUSH_CHOOSELEAF_INDEP = 7,
    CRUSH_SET_CHOOSE_TRIES = 8,
    CRUSH_SET_CHOOSELEAF_TRIES = 9,
    CRUSH_SET_CHOOSELEAF_VARY_R = 12,
    CRUSH_SET_CHOOSELEAF_STABLE = 13,
};

struct crush_step {
    uint32_t op;
    int32_t arg1;
    int32_t arg2;
};

struct crush_rule {
    uint32_t id;
    uint8_t type; /* 1 replicated, 3 erasure */
    uint32_t n_steps;
    struct crush_step steps[CRUSH_STEPS_MAX];
    char name[CRUSH_NAME_MAX + 1];
};

struct crush_type {
    uint16_t id; /* 0 is osd. */
    char name[CRUSH_NAME_MAX + 1];
};

struct crush_map {
    uint32_t n_buckets; /* Slots; a slot may be NULL. buckets[i]->id == -1 - i */
    struct crush_bucket **buckets;
    uint32_t n_rules;
    struct crush_rule *rules;
    uint32_t n_types;
    struct crush_type types[CRUSH_TYPES_MAX];
    int32_t max_devices;
    /* Tunables; crush_create() sets the current ones: 50, 1, 1, 1 (local tries 0, 0). */
    uint32_t choose_total_tries;
    uint8_t chooseleaf_descend_once;
    uint8_t chooseleaf_vary_r;
    uint8_t chooseleaf_stable;
};

/* An empty map with the usual types (osd, host, chassis, rack, row, ... root). */
struct crush_map *crush_create(void) MUST_CHECK;
void crush_destroy(struct crush_map *map);
struct crush_map *crush_clone(const struct crush_map *map) MUST_CHECK;

/* Adds an empty bucket; `id` gets its number. -EEXIST for a name in use, -EINVAL, -ENOMEM. */
int crush_add_bucket(struct crush_map *map, uint16_t type, const char *name,
                     int32_t *id) MUST_CHECK;
/*
 * Puts an item (device or bucket) into a bucket, and adds its weight to all buckets above. A bucket
 * that is not empty is inserted with its own weight, as a rule. A device may be in several buckets,
 * a bucket in one. -ENOENT: no such bucket; -EEXIST: it is in there already, or has a parent;
 * -ELOOP: the bucket would be below itself or too deep; -ERANGE: too many, too heavy; -ENOMEM.
 */
int crush_insert(struct crush_map *map, int32_t bucket, int32_t item, uint32_t weight) MUST_CHECK;
/*
 * Takes an item out of all buckets it is in; a bucket must be empty and is then gone. -ENOENT when
 * it is nowhere, -ENOTEMPTY, -EBUSY when a rule takes it.
 */
int crush_remove(struct crush_map *map, int32_t item) MUST_CHECK;
/*
 * Takes an item out of its bucket and leaves it as it is, to be inserted elsewhere. -ENOENT when it
 * is in none.
 */
int crush_detach(struct crush_map *map, int32_t item) MUST_CHECK;
/* A new weight for an item wherever it is; buckets above change by the difference. -ENOENT, -ERANGE
 */
int crush_reweight(struct crush_map *map, int32_t item, uint32_t weight) MUST_CHECK;
const struct crush_bucket *crush_bucket(const struct crush_map *map, int32_t id);
const struct crush_bucket *crush_bucket_by_name(const struct crush_map *map, const char *name);
/* The bucket that directly holds the item, or NULL. */
const struct crush_bucket *crush_parent(const struct crush_map *map, int32_t item);
const char *crush_type_name(const struct crush_map *map, uint16_t type);
int crush_type_by_name(const struct crush_map *map, const char *name) MUST_CHECK;

/*
 * take ROOT, chooseleaf firstn|indep 0 type TYPE (choose when TYPE is osd), emit; for indep with
 * more tries (5 for the leaf, 100 in all), since its failures leave holes. -ENOENT for an unknown
 * root or type, -EEXIST, -EINVAL for a name, -ENOSPC, -ENOMEM.
 */
int crush_add_simple_rule(struct crush_map *map, const char *name, const char *root,
                          const char *type, bool indep, uint32_t *id) MUST_CHECK;
/* -ENOENT. No pool may use it. */
int crush_remove_rule(struct crush_map *map, uint32_t id) MUST_CHECK;
const struct crush_rule *crush_rule(const struct crush_map *map, uint32_t id);

/*
 * Checks that a map is well-formed: no loops, known items, sums of weights, bounded rules and
 * tunables, names valid and unique. -EBADMSG otherwise; -ENOMEM.
 */
int crush_check(const struct crush_map *map) MUST_CHECK;

/* Memory that crush_map_input() needs for `size` results; take it once and reuse it. */
size_t crush_scratch_bytes(const struct crush_map *map, uint32_t size);

/*
 * Maps input x to at most `size` items by a rule. weights: 16.16 for each device (0: out),
 * n_weights of them. Returns the number written to out; holes of indep rules are CRUSH_ITEM_NONE.
 */
uint32_t crush_map_input(const struct crush_map *map, uint32_t rule, uint32_t x,
                         const uint32_t *weights, uint32_t n_weights, int32_t *out, uint32_t size,
                         void *scratch);

#endif
