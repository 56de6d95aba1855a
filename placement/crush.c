/*
 * Mapping an input to devices.
 *
 *  1. The same map, rule, input and weights give the same result everywhere and for ever: every
 *     draw, retry and comparison below is part of the format.
 *  2. A map that crush_check() accepts has no loops and bounded tries, so every rule ends.
 *  3. Nothing is written but the results and the caller's scratch memory.
 */
#include "placement/crush.h"

#include <assert.h>
#include <string.h>

#include "placement/crush_private.h"
#include "placement/hash.h"

/* A position of an indep result that is still being sought. */
#define ITEM_UNDEFINED 0x7ffffffe

/* One crush_map_input() call. Steps of the rule may change the tunables for those that follow. */
struct choice {
    const struct crush_map *map;
    const uint32_t *device_weights;
    uint32_t n_device_weights;
    uint32_t x;
    uint32_t tries;
    uint32_t leaf_tries; /* 0: the rule does not say. */
    uint32_t vary_r;
    bool stable;
};

/* What one choose or chooseleaf step asks of each bucket that it starts from. */
struct request {
    uint32_t n; /* Items wanted in all; also the stride of indep retries. */
    uint16_t type;
    bool leaf;      /* Go on to a device below each item. */
    uint32_t tries; /* Descents for one item. */
    uint32_t leaf_tries;
};

/* What came of one attempt to find one item. */
enum attempt { ATTEMPT_FOUND, ATTEMPT_RETRY, ATTEMPT_IMPOSSIBLE };

/*
 * Straw2: each item draws ln(hash) / weight, the longest straw wins; of equal ones the first. The
 * logarithm is negative, so `deficit` is its distance from 0 and the smallest quotient wins. The
 * division is done only for a new winner: deficit / weight < best if deficit < best * weight.
 */
static int32_t bucket_draw(const struct crush_bucket *bucket, uint32_t x, uint32_t r)
{
    uint64_t best = UINT64_MAX;
    uint32_t winner = 0;
    for (uint32_t at = 0; at < bucket->n_items; at += HASH32_ITEMS) {
        uint32_t n = bucket->n_items - at;
        uint32_t hashes[HASH32_ITEMS];
        if (n >= HASH32_ITEMS) {
            n = HASH32_ITEMS;
            hash32_3_items(x, bucket->items + at, r, hashes);
        } else {
            for (uint32_t i = 0; i < n; i++) {
                hashes[i] = hash32_3(x, (uint32_t)bucket->items[at + i], r);
            }
        }
        for (uint32_t i = 0; i < n; i++) {
            uint32_t weight = bucket->weights[at + i];
            uint64_t deficit = (UINT64_C(1) << 48) - crush_ln(hashes[i] & 0xffff);
            if (weight > 0 && deficit < (unsigned __int128)best * weight) {
                best = deficit / weight;
                winner = at + i;
            }
        }
    }
    return bucket->items[winner];
}

/* A device that is out takes nothing; one with a part of its weight refuses part of the inputs. */
static bool device_refuses(const struct choice *c, int32_t device)
{
    if ((uint32_t)device >= c->n_device_weights) {
        return true;
    }
    uint32_t weight = c->device_weights[device];
    return weight < 0x10000 && (hash32_2(c->x, (uint32_t)device) & 0xffff) >= weight;
}

/* Goes down from a bucket by one number r until it meets an item of the wanted type. */
static enum attempt descend(const struct choice *c, const struct crush_bucket *from, uint32_t r,
                            uint16_t type, int32_t *item)
{
    const struct crush_bucket *bucket = from;
    for (;;) {
        if (bucket->n_items == 0) {
            return ATTEMPT_RETRY;
        }
        *item = bucket_draw(bucket, c->x, r);
        if (*item >= 0) {
            return type == 0 && *item < c->map->max_devices ? ATTEMPT_FOUND : ATTEMPT_IMPOSSIBLE;
        }
        bucket = crush_bucket(c->map, *item);
        if (bucket == NULL) {
            return ATTEMPT_IMPOSSIBLE;
        }
        if (bucket->type == type) {
            return ATTEMPT_FOUND;
        }
    }
}

static bool contains(const int32_t *items, uint32_t n, int32_t item)
{
    for (uint32_t i = 0; i < n; i++) {
        if (items[i] == item) {
            return true;
        }
    }
    return false;
}

/*
 * The device for the item that is about to become number `at` of a firstn result: the first that
 * accepts and is not among the devices chosen before it.
 */
static bool firstn_leaf(const struct choice *c, const struct request *req,
                        const struct crush_bucket *below, uint32_t r, int32_t *leaves, uint32_t at)
{
    uint32_t start = (c->stable ? 0 : at) + (c->vary_r > 0 ? r >> (c->vary_r - 1) : 0);
    for (uint32_t failed = 0; failed < req->leaf_tries; failed++) {
        int32_t device;
        enum attempt attempt = descend(c, below, start + failed, 0, &device);
        if (attempt == ATTEMPT_IMPOSSIBLE) {
            return false;
        }
        if (attempt == ATTEMPT_FOUND && !contains(leaves, at, device) &&
            !device_refuses(c, device)) {
            leaves[at] = device;
            return true;
        }
    }
    return false;
}

static enum attempt firstn_attempt(const struct choice *c, const struct request *req,
                                   const struct crush_bucket *from, uint32_t r, int32_t *out,
                                   int32_t *leaves, uint32_t at)
{
    int32_t item;
    enum attempt attempt = descend(c, from, r, req->type, &item);
    if (attempt != ATTEMPT_FOUND) {
        return attempt;
    }
    if (contains(out, at, item)) {
        return ATTEMPT_RETRY;
    }
    if (req->leaf) {
        if (item >= 0) {
            leaves[at] = item;
        } else if (!firstn_leaf(c, req, crush_bucket(c->map, item), r, leaves, at)) {
            return ATTEMPT_RETRY;
        }
    }
    if (item >= 0 && device_refuses(c, item)) {
        return ATTEMPT_RETRY;
    }
    out[at] = item;
    return ATTEMPT_FOUND;
}

/*
 * Replicas: up to req->n different items, at most room, without holes. When one fails, later ones
 * move up. Returns how many there are.
 */
static uint32_t choose_firstn(const struct choice *c, const struct request *req,
                              const struct crush_bucket *from, int32_t *out, int32_t *leaves,
                              uint32_t room)
{
    uint32_t n = 0;
    for (uint32_t replica = 0; replica < req->n && n < room; replica++) {
        for (uint32_t failed = 0; failed < req->tries; failed++) {
            enum attempt attempt = firstn_attempt(c, req, from, replica + failed, out, leaves, n);
            if (attempt == ATTEMPT_FOUND) {
                n++;
            }
            if (attempt != ATTEMPT_RETRY) {
                break;
            }
        }
    }
    return n;
}

/* The device below an item at one position of an indep result. */
static bool indep_leaf(const struct choice *c, const struct request *req,
                       const struct crush_bucket *below, uint32_t r, uint32_t position,
                       int32_t *leaf)
{
    for (uint32_t round = 0; round < req->leaf_tries; round++) {
        int32_t device;
        enum attempt attempt = descend(c, below, position + r + req->n * round, 0, &device);
        if (attempt == ATTEMPT_IMPOSSIBLE) {
            break;
        }
        if (attempt == ATTEMPT_FOUND && !device_refuses(c, device)) {
            *leaf = device;
            return true;
        }
    }
    *leaf = CRUSH_ITEM_NONE;
    return false;
}

static enum attempt indep_attempt(const struct choice *c, const struct request *req,
                                  const struct crush_bucket *from, uint32_t r, int32_t *out,
                                  int32_t *leaves, uint32_t n, uint32_t position)
{
    int32_t item;
    enum attempt attempt = descend(c, from, r, req->type, &item);
    if (attempt != ATTEMPT_FOUND) {
        return attempt;
    }
    if (contains(out, n, item)) {
        return ATTEMPT_RETRY;
    }
    if (req->leaf) {
        if (item >= 0) {
            leaves[position] = item;
        } else if (!indep_leaf(c, req, crush_bucket(c->map, item), r, position,
                               &leaves[position])) {
            return ATTEMPT_RETRY;
        }
    }
    if (item >= 0 && device_refuses(c, item)) {
        return ATTEMPT_RETRY;
    }
    out[position] = item;
    return ATTEMPT_FOUND;
}

/*
 * Shards: each of n positions gets its own item or a hole, and keeps it whatever happens to the
 * others. So all positions try once, then those without an item again, with other numbers.
 */
static void choose_indep(const struct choice *c, const struct request *req,
                         const struct crush_bucket *from, int32_t *out, int32_t *leaves, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        out[i] = ITEM_UNDEFINED;
        leaves[i] = ITEM_UNDEFINED;
    }
    uint32_t left = n;
    for (uint32_t round = 0; left > 0 && round < req->tries; round++) {
        for (uint32_t i = 0; i < n; i++) {
            if (out[i] != ITEM_UNDEFINED) {
                continue;
            }
            enum attempt attempt =
                indep_attempt(c, req, from, i + req->n * round, out, leaves, n, i);
            if (attempt == ATTEMPT_IMPOSSIBLE) {
                out[i] = CRUSH_ITEM_NONE;
                leaves[i] = CRUSH_ITEM_NONE;
            }
            left -= attempt != ATTEMPT_RETRY;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        if (out[i] == ITEM_UNDEFINED) {
            out[i] = CRUSH_ITEM_NONE;
        }
        if (leaves[i] == ITEM_UNDEFINED) {
            leaves[i] = CRUSH_ITEM_NONE;
        }
    }
}

/* One choose step from each of the items in `from`; returns how many items are in `out`. */
static uint32_t choose_step(const struct choice *c, const struct crush_step *step,
                            const int32_t *from, uint32_t n_from, int32_t *out, int32_t *leaves,
                            uint32_t size)
{
    bool firstn = step->op == CRUSH_CHOOSE_FIRSTN || step->op == CRUSH_CHOOSELEAF_FIRSTN;
    int64_t wanted = step->arg1 > 0 ? step->arg1 : (int64_t)size + step->arg1;
    if (wanted <= 0) {
        return 0;
    }
    struct request req = {
        .n = (uint32_t)wanted,
        .type = (uint16_t)step->arg2,
        .leaf = step->op == CRUSH_CHOOSELEAF_FIRSTN || step->op == CRUSH_CHOOSELEAF_INDEP,
        .tries = c->tries,
        .leaf_tries = c->leaf_tries,
    };
    if (req.leaf_tries == 0) {
        req.leaf_tries = !firstn || c->map->chooseleaf_descend_once ? 1 : c->tries;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_from; i++) {
        /* The hole of an earlier indep step, or a device, has nothing below it. */
        const struct crush_bucket *bucket = crush_bucket(c->map, from[i]);
        if (bucket == NULL) {
            continue;
        }
        if (firstn) {
            n += choose_firstn(c, &req, bucket, out + n, leaves + n, size - n);
        } else {
            uint32_t room = size - n;
            uint32_t count = req.n < room ? req.n : room;
            choose_indep(c, &req, bucket, out + n, leaves + n, count);
            n += count;
        }
    }
    if (req.leaf) {
        memcpy(out, leaves, n * sizeof *out);
    }
    return n;
}

static void set_tunable(struct choice *c, const struct crush_step *step)
{
    switch (step->op) {
    case CRUSH_SET_CHOOSE_TRIES:
        c->tries = step->arg1 > 0 ? (uint32_t)step->arg1 : c->tries;
        break;
    case CRUSH_SET_CHOOSELEAF_TRIES:
        c->leaf_tries = step->arg1 > 0 ? (uint32_t)step->arg1 : c->leaf_tries;
        break;
    case CRUSH_SET_CHOOSELEAF_VARY_R:
        c->vary_r = step->arg1 >= 0 ? (uint32_t)step->arg1 : c->vary_r;
        break;
    case CRUSH_SET_CHOOSELEAF_STABLE:
        c->stable = step->arg1 >= 0 ? step->arg1 > 0 : c->stable;
        break;
    default:
        break;
    }
}

size_t crush_scratch_bytes(const struct crush_map *map, uint32_t size)
{
    (void)map;
    return 3 * (size_t)size * sizeof(int32_t);
}

uint32_t crush_map_input(const struct crush_map *map, uint32_t rule_id, uint32_t x,
                         const uint32_t *weights, uint32_t n_weights, int32_t *out, uint32_t size,
                         void *scratch)
{
    const struct crush_rule *rule = crush_rule(map, rule_id);
    if (rule == NULL) {
        return 0;
    }
    struct choice c = {
        .map = map,
        .device_weights = weights,
        .n_device_weights = n_weights,
        .x = x,
        .tries = map->choose_total_tries + 1, /* The tunable counts retries. */
        .vary_r = map->chooseleaf_vary_r,
        .stable = map->chooseleaf_stable != 0,
    };
    int32_t *items = scratch, *next = items + size, *leaves = next + size;
    uint32_t n_items = 0, n_out = 0;
    for (uint32_t i = 0; i < rule->n_steps; i++) {
        const struct crush_step *step = &rule->steps[i];
        switch (step->op) {
        case CRUSH_TAKE:
            if (size > 0) {
                items[0] = step->arg1;
                n_items = 1;
            }
            break;
        case CRUSH_CHOOSE_FIRSTN:
        case CRUSH_CHOOSE_INDEP:
        case CRUSH_CHOOSELEAF_FIRSTN:
        case CRUSH_CHOOSELEAF_INDEP: {
            n_items = choose_step(&c, step, items, n_items, next, leaves, size);
            int32_t *swap = items;
            items = next;
            next = swap;
            break;
        }
        case CRUSH_EMIT:
            for (uint32_t k = 0; k < n_items && n_out < size; k++) {
                out[n_out++] = items[k];
            }
            n_items = 0;
            break;
        default:
            set_tunable(&c, step);
        }
    }
    assert(n_out <= size);
    return n_out;
}
