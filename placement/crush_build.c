/*
 * Building and changing CRUSH maps.
 *
 *  1. A bucket's weight is the sum of its items' weights.
 *  2. A bucket is in at most one bucket, so the buckets are a forest; devices may be in several.
 *  3. A function that fails has changed nothing.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "placement/crush_private.h"

static const char *const usual_types[] = {"osd", "host", "chassis",    "rack", "row",    "pdu",
                                          "pod", "room", "datacenter", "zone", "region", "root"};

/* The name has been checked: it fits. */
static void set_name(char out[CRUSH_NAME_MAX + 1], const char *name)
{
    memcpy(out, name, strlen(name) + 1);
}

struct crush_map *crush_create(void)
{
    struct crush_map *map = calloc(1, sizeof *map);
    if (map == NULL) {
        return NULL;
    }
    map->n_types = sizeof usual_types / sizeof *usual_types;
    for (uint32_t i = 0; i < map->n_types; i++) {
        map->types[i].id = (uint16_t)i;
        set_name(map->types[i].name, usual_types[i]);
    }
    map->choose_total_tries = 50;
    map->chooseleaf_descend_once = 1;
    map->chooseleaf_vary_r = 1;
    map->chooseleaf_stable = 1;
    return map;
}

void crush_bucket_destroy(struct crush_bucket *bucket)
{
    if (bucket != NULL) {
        free(bucket->items);
        free(bucket->weights);
        free(bucket);
    }
}

void crush_destroy(struct crush_map *map)
{
    if (map == NULL) {
        return;
    }
    for (uint32_t i = 0; i < map->n_buckets; i++) {
        crush_bucket_destroy(map->buckets[i]);
    }
    free(map->buckets);
    free(map->rules);
    free(map);
}

/* Arrays have room for the next power of two, so that they need no capacity of their own. */
static uint32_t capacity_for(uint32_t n)
{
    return n <= 1 ? 1 : 1u << (32 - __builtin_clz(n - 1));
}

struct crush_bucket *crush_bucket_create(uint32_t n)
{
    struct crush_bucket *bucket = calloc(1, sizeof *bucket);
    if (bucket == NULL) {
        return NULL;
    }
    bucket->items = calloc(capacity_for(n), sizeof *bucket->items);
    bucket->weights = calloc(capacity_for(n), sizeof *bucket->weights);
    if (bucket->items == NULL || bucket->weights == NULL) {
        crush_bucket_destroy(bucket);
        return NULL;
    }
    bucket->n_items = n;
    return bucket;
}

struct crush_bucket **crush_bucket_slots_create(uint32_t n)
{
    return calloc(capacity_for(n), sizeof(struct crush_bucket *));
}

struct crush_rule *crush_rules_create(uint32_t n)
{
    return calloc(capacity_for(n), sizeof(struct crush_rule));
}

static struct crush_bucket *bucket_clone(const struct crush_bucket *from)
{
    struct crush_bucket *bucket = crush_bucket_create(from->n_items);
    if (bucket != NULL) {
        bucket->id = from->id;
        bucket->type = from->type;
        bucket->weight = from->weight;
        memcpy(bucket->items, from->items, from->n_items * sizeof *bucket->items);
        memcpy(bucket->weights, from->weights, from->n_items * sizeof *bucket->weights);
        memcpy(bucket->name, from->name, sizeof bucket->name);
    }
    return bucket;
}

struct crush_map *crush_clone(const struct crush_map *from)
{
    struct crush_map *map = malloc(sizeof *map);
    if (map == NULL) {
        return NULL;
    }
    *map = *from;
    map->buckets = crush_bucket_slots_create(from->n_buckets);
    map->rules = crush_rules_create(from->n_rules);
    if (map->buckets == NULL || map->rules == NULL) {
        map->n_buckets = 0;
        crush_destroy(map);
        return NULL;
    }
    for (uint32_t i = 0; i < from->n_buckets; i++) {
        if (from->buckets[i] == NULL) {
            continue;
        }
        map->buckets[i] = bucket_clone(from->buckets[i]);
        if (map->buckets[i] == NULL) {
            crush_destroy(map);
            return NULL;
        }
    }
    if (from->n_rules > 0) {
        memcpy(map->rules, from->rules, from->n_rules * sizeof *map->rules);
    }
    return map;
}

bool crush_name_valid(const char *name)
{
    size_t len = strnlen(name, CRUSH_NAME_MAX + 1);
    return len > 0 && len <= CRUSH_NAME_MAX &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~") ==
               len;
}

const struct crush_bucket *crush_bucket(const struct crush_map *map, int32_t id)
{
    uint32_t index = ~(uint32_t)id; /* -1 - id without overflow. */
    return id < 0 && index < map->n_buckets ? map->buckets[index] : NULL;
}

static struct crush_bucket *mutable_bucket(struct crush_map *map, int32_t id)
{
    uint32_t index = ~(uint32_t)id;
    return id < 0 && index < map->n_buckets ? map->buckets[index] : NULL;
}

const struct crush_bucket *crush_bucket_by_name(const struct crush_map *map, const char *name)
{
    for (uint32_t i = 0; i < map->n_buckets; i++) {
        if (map->buckets[i] != NULL && strcmp(map->buckets[i]->name, name) == 0) {
            return map->buckets[i];
        }
    }
    return NULL;
}

/* The item's index in the bucket, or n_items. */
static uint32_t find_item(const struct crush_bucket *bucket, int32_t item)
{
    uint32_t i = 0;
    while (i < bucket->n_items && bucket->items[i] != item) {
        i++;
    }
    return i;
}

static struct crush_bucket *mutable_parent(const struct crush_map *map, int32_t item)
{
    for (uint32_t i = 0; i < map->n_buckets; i++) {
        struct crush_bucket *bucket = map->buckets[i];
        if (bucket != NULL && find_item(bucket, item) < bucket->n_items) {
            return bucket;
        }
    }
    return NULL;
}

const struct crush_bucket *crush_parent(const struct crush_map *map, int32_t item)
{
    return mutable_parent(map, item);
}

const char *crush_type_name(const struct crush_map *map, uint16_t type)
{
    for (uint32_t i = 0; i < map->n_types; i++) {
        if (map->types[i].id == type) {
            return map->types[i].name;
        }
    }
    return NULL;
}

int crush_type_by_name(const struct crush_map *map, const char *name)
{
    for (uint32_t i = 0; i < map->n_types; i++) {
        if (strcmp(map->types[i].name, name) == 0) {
            return map->types[i].id;
        }
    }
    return -ENOENT;
}

/* ---- Changing the hierarchy ---- */

int crush_add_bucket(struct crush_map *map, uint16_t type, const char *name, int32_t *id)
{
    if (type == 0 || crush_type_name(map, type) == NULL || !crush_name_valid(name)) {
        return -EINVAL;
    }
    if (crush_bucket_by_name(map, name) != NULL) {
        return -EEXIST;
    }
    uint32_t slot = 0;
    while (slot < map->n_buckets && map->buckets[slot] != NULL) {
        slot++;
    }
    if (slot == CRUSH_BUCKETS_MAX) {
        return -ENOSPC;
    }
    struct crush_bucket *bucket = crush_bucket_create(0);
    if (bucket == NULL) {
        return -ENOMEM;
    }
    if (slot == map->n_buckets) {
        struct crush_bucket **grown =
            realloc(map->buckets, capacity_for(slot + 1) * sizeof(struct crush_bucket *));
        if (grown == NULL) {
            crush_bucket_destroy(bucket);
            return -ENOMEM;
        }
        map->buckets = grown;
        map->n_buckets++;
    }
    bucket->id = -1 - (int32_t)slot;
    bucket->type = type;
    set_name(bucket->name, name);
    map->buckets[slot] = bucket;
    *id = bucket->id;
    return 0;
}

/* Whether a bucket and all above can take this much more weight. */
static bool weight_fits(const struct crush_map *map, const struct crush_bucket *bucket,
                        uint64_t more)
{
    for (; bucket != NULL; bucket = crush_parent(map, bucket->id)) {
        if (bucket->weight + more > UINT32_MAX) {
            return false;
        }
    }
    return true;
}

/*
 * Changes the weight of the item at `index` of a bucket, and with it those of the bucket and all
 * above. A bucket's weight in its parent may have been set smaller than its own: it stops at 0.
 */
static void add_weight(struct crush_map *map, struct crush_bucket *bucket, uint32_t index,
                       int64_t difference)
{
    while (bucket != NULL) {
        int64_t own = bucket->weights[index] + difference;
        own = own < 0 ? 0 : own;
        difference = own - bucket->weights[index];
        assert(bucket->weight + difference <= UINT32_MAX);
        bucket->weights[index] = (uint32_t)own;
        bucket->weight = (uint32_t)(bucket->weight + difference);
        struct crush_bucket *parent = mutable_parent(map, bucket->id);
        index = parent != NULL ? find_item(parent, bucket->id) : 0;
        bucket = parent;
    }
}

/* How many buckets lie one above the other, this one included. */
static uint32_t depth_of(const struct crush_map *map, const struct crush_bucket *bucket)
{
    uint32_t depth = 0;
    for (; bucket != NULL && depth <= CRUSH_DEPTH_MAX; depth++) {
        bucket = crush_parent(map, bucket->id);
    }
    return depth;
}

static uint32_t height_of(const struct crush_map *map, const struct crush_bucket *bucket)
{
    uint32_t highest = 0;
    for (uint32_t i = 0; i < bucket->n_items; i++) {
        const struct crush_bucket *child = crush_bucket(map, bucket->items[i]);
        uint32_t height = child != NULL ? height_of(map, child) : 0;
        highest = height > highest ? height : highest;
    }
    return highest + 1;
}

static bool is_above(const struct crush_map *map, int32_t above, const struct crush_bucket *bucket)
{
    while (bucket != NULL && bucket->id != above) {
        bucket = crush_parent(map, bucket->id);
    }
    return bucket != NULL;
}

static int insert_check(const struct crush_map *map, const struct crush_bucket *into, int32_t item,
                        uint32_t weight)
{
    if (find_item(into, item) < into->n_items) {
        return -EEXIST;
    }
    if (into->n_items == CRUSH_BUCKET_ITEMS_MAX || item >= CRUSH_DEVICES_MAX ||
        !weight_fits(map, into, weight)) {
        return -ERANGE;
    }
    if (item >= 0) {
        return 0;
    }
    const struct crush_bucket *child = crush_bucket(map, item);
    if (child == NULL) {
        return -ENOENT;
    }
    if (crush_parent(map, item) != NULL) {
        return -EEXIST;
    }
    return is_above(map, item, into) ||
                   depth_of(map, into) + height_of(map, child) > CRUSH_DEPTH_MAX
               ? -ELOOP
               : 0;
}

int crush_insert(struct crush_map *map, int32_t bucket_id, int32_t item, uint32_t weight)
{
    struct crush_bucket *bucket = mutable_bucket(map, bucket_id);
    if (bucket == NULL) {
        return -ENOENT;
    }
    int error = insert_check(map, bucket, item, weight);
    if (error != 0) {
        return error;
    }
    uint32_t n = bucket->n_items, capacity = capacity_for(n + 1);
    int32_t *items = realloc(bucket->items, capacity * sizeof *items);
    if (items == NULL) {
        return -ENOMEM;
    }
    bucket->items = items;
    uint32_t *weights = realloc(bucket->weights, capacity * sizeof *weights);
    if (weights == NULL) {
        return -ENOMEM;
    }
    bucket->weights = weights;
    items[n] = item;
    weights[n] = 0;
    bucket->n_items++;
    add_weight(map, bucket, n, weight);
    if (item >= map->max_devices) {
        map->max_devices = item + 1;
    }
    return 0;
}

static bool rule_takes(const struct crush_map *map, int32_t item)
{
    for (uint32_t i = 0; i < map->n_rules; i++) {
        for (uint32_t k = 0; k < map->rules[i].n_steps; k++) {
            const struct crush_step *step = &map->rules[i].steps[k];
            if (step->op == CRUSH_TAKE && step->arg1 == item) {
                return true;
            }
        }
    }
    return false;
}

static void remove_at(struct crush_map *map, struct crush_bucket *bucket, uint32_t index)
{
    add_weight(map, bucket, index, -(int64_t)bucket->weights[index]);
    uint32_t after = bucket->n_items - index - 1;
    memmove(bucket->items + index, bucket->items + index + 1, after * sizeof *bucket->items);
    memmove(bucket->weights + index, bucket->weights + index + 1, after * sizeof *bucket->weights);
    bucket->n_items--;
}

int crush_remove(struct crush_map *map, int32_t item)
{
    struct crush_bucket *own = mutable_bucket(map, item);
    if (item < 0 && own == NULL) {
        return -ENOENT;
    }
    if (own != NULL && own->n_items > 0) {
        return -ENOTEMPTY;
    }
    if (rule_takes(map, item)) {
        return -EBUSY;
    }
    bool found = own != NULL;
    for (uint32_t i = 0; i < map->n_buckets; i++) {
        struct crush_bucket *bucket = map->buckets[i];
        uint32_t index = bucket != NULL ? find_item(bucket, item) : 0;
        if (bucket != NULL && index < bucket->n_items) {
            remove_at(map, bucket, index);
            found = true;
        }
    }
    if (own != NULL) {
        map->buckets[~(uint32_t)item] = NULL;
        crush_bucket_destroy(own);
    }
    return found ? 0 : -ENOENT;
}

int crush_detach(struct crush_map *map, int32_t item)
{
    struct crush_bucket *bucket = mutable_parent(map, item);
    if (bucket == NULL) {
        return -ENOENT;
    }
    remove_at(map, bucket, find_item(bucket, item));
    return 0;
}

int crush_reweight(struct crush_map *map, int32_t item, uint32_t weight)
{
    /* All that is added, before any is: the buckets may have the same ones above them. */
    uint64_t more = 0;
    bool found = false;
    for (int pass = 0; pass < 3; pass++) {
        for (uint32_t i = 0; i < map->n_buckets; i++) {
            struct crush_bucket *bucket = map->buckets[i];
            uint32_t index = bucket != NULL ? find_item(bucket, item) : 0;
            if (bucket == NULL || index == bucket->n_items) {
                continue;
            }
            found = true;
            int64_t difference = (int64_t)weight - bucket->weights[index];
            if (pass == 0 && difference > 0) {
                more += (uint64_t)difference;
            } else if (pass == 1 && !weight_fits(map, bucket, more)) {
                return -ERANGE;
            } else if (pass == 2) {
                add_weight(map, bucket, index, difference);
            }
        }
    }
    return found ? 0 : -ENOENT;
}

/* ---- Rules ---- */

const struct crush_rule *crush_rule(const struct crush_map *map, uint32_t id)
{
    if (id < map->n_rules && map->rules[id].id == id) {
        return &map->rules[id];
    }
    for (uint32_t i = 0; i < map->n_rules; i++) {
        if (map->rules[i].id == id) {
            return &map->rules[i];
        }
    }
    return NULL;
}

int crush_remove_rule(struct crush_map *map, uint32_t id)
{
    for (uint32_t i = 0; i < map->n_rules; i++) {
        if (map->rules[i].id == id) {
            memmove(&map->rules[i], &map->rules[i + 1],
                    (map->n_rules - i - 1) * sizeof *map->rules);
            map->n_rules--;
            return 0;
        }
    }
    return -ENOENT;
}

static void add_step(struct crush_rule *rule, uint32_t op, int32_t arg1, int32_t arg2)
{
    assert(rule->n_steps < CRUSH_STEPS_MAX);
    rule->steps[rule->n_steps++] = (struct crush_step){.op = op, .arg1 = arg1, .arg2 = arg2};
}

int crush_add_simple_rule(struct crush_map *map, const char *name, const char *root,
                          const char *type, bool indep, uint32_t *id)
{
    const struct crush_bucket *from = crush_bucket_by_name(map, root);
    int type_id = crush_type_by_name(map, type);
    if (from == NULL || type_id < 0) {
        return -ENOENT;
    }
    if (!crush_name_valid(name)) {
        return -EINVAL;
    }
    /* Rules are in the order of their numbers; the first gap is filled. */
    uint32_t at = 0;
    while (at < map->n_rules && map->rules[at].id == at) {
        at++;
    }
    for (uint32_t i = 0; i < map->n_rules; i++) {
        if (strcmp(map->rules[i].name, name) == 0) {
            return -EEXIST;
        }
    }
    if (map->n_rules == CRUSH_RULES_MAX) {
        return -ENOSPC;
    }
    struct crush_rule *rules =
        realloc(map->rules, capacity_for(map->n_rules + 1) * sizeof *map->rules);
    if (rules == NULL) {
        return -ENOMEM;
    }
    map->rules = rules;
    struct crush_rule *rule = &rules[at];
    memmove(rule + 1, rule, (map->n_rules - at) * sizeof *rule);
    map->n_rules++;
    *rule = (struct crush_rule){.id = at, .type = indep ? 3 : 1};
    set_name(rule->name, name);
    if (indep) {
        add_step(rule, CRUSH_SET_CHOOSELEAF_TRIES, 5, 0);
        add_step(rule, CRUSH_SET_CHOOSE_TRIES, 100, 0);
    }
    add_step(rule, CRUSH_TAKE, from->id, 0);
    uint32_t choose = indep ? CRUSH_CHOOSE_INDEP : CRUSH_CHOOSE_FIRSTN;
    uint32_t leaf = indep ? CRUSH_CHOOSELEAF_INDEP : CRUSH_CHOOSELEAF_FIRSTN;
    add_step(rule, type_id == 0 ? choose : leaf, 0, type_id);
    add_step(rule, CRUSH_EMIT, 0, 0);
    *id = at;
    return 0;
}
