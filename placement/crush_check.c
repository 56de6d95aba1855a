/*
 * Whether a CRUSH map may be trusted to end and to stay inside its arrays.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "placement/crush_private.h"

static bool check_types(const struct crush_map *map)
{
    if (map->n_types == 0 || map->n_types > CRUSH_TYPES_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < map->n_types; i++) {
        if (!crush_name_valid(map->types[i].name)) {
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (map->types[k].id >= map->types[i].id ||
                strcmp(map->types[k].name, map->types[i].name) == 0) {
                return false;
            }
        }
    }
    return map->types[0].id == 0;
}

static bool check_bucket(const struct crush_map *map, uint32_t slot)
{
    const struct crush_bucket *bucket = map->buckets[slot];
    if (bucket->id != -1 - (int32_t)slot || bucket->type == 0 ||
        crush_type_name(map, bucket->type) == NULL || !crush_name_valid(bucket->name) ||
        bucket->n_items > CRUSH_BUCKET_ITEMS_MAX) {
        return false;
    }
    uint64_t weight = 0;
    for (uint32_t i = 0; i < bucket->n_items; i++) {
        int32_t item = bucket->items[i];
        if (item >= map->max_devices || (item < 0 && crush_bucket(map, item) == NULL)) {
            return false;
        }
        weight += bucket->weights[i];
    }
    return weight == bucket->weight && weight <= UINT32_MAX;
}

/*
 * Every bucket is in at most one other, and from each the way up ends within the allowed depth: so
 * there is no loop. No bucket holds an item twice.
 */
static int check_tree(const struct crush_map *map)
{
    size_t n_devices = (size_t)map->max_devices;
    int32_t *parents = calloc(map->n_buckets + 1, sizeof *parents);
    int32_t *holders = calloc(n_devices + 1, sizeof *holders);
    int result = parents == NULL || holders == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; result == 0 && i < map->n_buckets; i++) {
        const struct crush_bucket *bucket = map->buckets[i];
        for (uint32_t k = 0; bucket != NULL && k < bucket->n_items; k++) {
            int32_t item = bucket->items[k];
            int32_t *last = item < 0 ? &parents[~item] : &holders[item];
            if (*last != 0 && (item < 0 || *last == bucket->id)) {
                result = -EBADMSG;
                break;
            }
            *last = bucket->id;
        }
    }
    for (uint32_t i = 0; result == 0 && i < map->n_buckets; i++) {
        uint32_t depth = 1;
        for (int32_t up = parents[i]; up != 0 && depth <= CRUSH_DEPTH_MAX; up = parents[~up]) {
            depth++;
        }
        if (depth > CRUSH_DEPTH_MAX) {
            result = -EBADMSG;
        }
    }
    free(parents);
    free(holders);
    return result;
}

static int compare_names(const void *a, const void *b)
{
    const struct crush_bucket *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int check_names(const struct crush_map *map)
{
    const struct crush_bucket **sorted = calloc(map->n_buckets + 1, sizeof(struct crush_bucket *));
    if (sorted == NULL) {
        return -ENOMEM;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < map->n_buckets; i++) {
        if (map->buckets[i] != NULL) {
            sorted[n++] = map->buckets[i];
        }
    }
    qsort(sorted, n, sizeof(struct crush_bucket *), compare_names);
    int result = 0;
    for (uint32_t i = 1; i < n; i++) {
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0) {
            result = -EBADMSG;
        }
    }
    free(sorted);
    return result;
}

static bool check_step(const struct crush_map *map, const struct crush_step *step)
{
    switch (step->op) {
    case CRUSH_TAKE:
        return step->arg1 >= 0 ? step->arg1 < map->max_devices
                               : crush_bucket(map, step->arg1) != NULL;
    case CRUSH_CHOOSE_FIRSTN:
    case CRUSH_CHOOSE_INDEP:
    case CRUSH_CHOOSELEAF_FIRSTN:
    case CRUSH_CHOOSELEAF_INDEP:
        return step->arg1 >= -CRUSH_CHOOSE_MAX && step->arg1 <= CRUSH_CHOOSE_MAX &&
               step->arg2 >= 0 && step->arg2 <= UINT16_MAX &&
               crush_type_name(map, (uint16_t)step->arg2) != NULL;
    case CRUSH_SET_CHOOSE_TRIES:
    case CRUSH_SET_CHOOSELEAF_TRIES:
        return step->arg1 <= CRUSH_TRIES_MAX;
    case CRUSH_SET_CHOOSELEAF_VARY_R:
        return step->arg1 <= CRUSH_VARY_R_MAX;
    case CRUSH_SET_CHOOSELEAF_STABLE:
    case CRUSH_EMIT:
        return true;
    default:
        return false;
    }
}

static bool check_rules(const struct crush_map *map)
{
    if (map->n_rules > CRUSH_RULES_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < map->n_rules; i++) {
        const struct crush_rule *rule = &map->rules[i];
        if (rule->id >= CRUSH_RULES_MAX || rule->n_steps > CRUSH_STEPS_MAX ||
            !crush_name_valid(rule->name) || (i > 0 && map->rules[i - 1].id >= rule->id)) {
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(map->rules[k].name, rule->name) == 0) {
                return false;
            }
        }
        for (uint32_t k = 0; k < rule->n_steps; k++) {
            if (!check_step(map, &rule->steps[k])) {
                return false;
            }
        }
    }
    return true;
}

int crush_check(const struct crush_map *map)
{
    if (map->n_buckets > CRUSH_BUCKETS_MAX || map->max_devices < 0 ||
        map->max_devices > CRUSH_DEVICES_MAX || map->choose_total_tries > CRUSH_TRIES_MAX ||
        map->chooseleaf_vary_r > CRUSH_VARY_R_MAX || !check_types(map)) {
        return -EBADMSG;
    }
    for (uint32_t i = 0; i < map->n_buckets; i++) {
        if (map->buckets[i] != NULL && !check_bucket(map, i)) {
            return -EBADMSG;
        }
    }
    if (!check_rules(map)) {
        return -EBADMSG;
    }
    int error = check_names(map);
    return error != 0 ? error : check_tree(map);
}
