/*
 * What a value must be like to stand in a cluster map.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "placement/map_private.h"

/* Printable and without spaces, so that any command can name it; at most max bytes. */
static bool name_valid(const char *name, size_t max)
{
    size_t len = strnlen(name, max + 1);
    if (len == 0 || len > max) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c <= ' ' || c == 0x7f || c == '"' || c == '\\') {
            return false;
        }
    }
    return true;
}

static bool address_valid(const struct net_address *address)
{
    return address->family == 0 || address->family == 4 || address->family == 6;
}

bool mons_valid(const struct map_mon *mons, uint32_t n)
{
    if (n == 0 || n > MAP_MONS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (mons[i].id == 0 || !name_valid(mons[i].name, ENTITY_ID_MAX) ||
            !address_valid(&mons[i].address)) {
            return false;
        }
        for (uint32_t k = 0; k < i; k++) {
            if (mons[k].id == mons[i].id || strcmp(mons[k].name, mons[i].name) == 0) {
                return false;
            }
        }
    }
    return true;
}

bool blocked_valid(const struct map_blocked *blocked, uint32_t n)
{
    if (n > MAP_BLOCKED_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct map_blocked *one = &blocked[i];
        if (!address_valid(&one->address) || one->address.port != 0 ||
            (one->instance == 0 && one->address.family == 0) ||
            (i > 0 && map_blocked_compare(one - 1, one) >= 0)) {
            return false;
        }
    }
    return true;
}

bool osd_valid(int32_t id, const struct map_osd *osd)
{
    if (id < 0 || id >= MAP_OSDS_MAX) {
        return false;
    }
    if (!osd->exists) {
        return true;
    }
    return osd->weight <= MAP_WEIGHT_ONE && address_valid(&osd->address) &&
           (osd->host[0] == 0 || name_valid(osd->host, MAP_HOST_MAX));
}

static bool pool_valid(const struct map_pool *pool, const struct crush_map *crush, uint64_t epoch)
{
    return pool->id > 0 && name_valid(pool->name, MAP_POOL_NAME_MAX) &&
           (pool->type == POOL_REPLICATED || pool->type == POOL_ERASURE) && pool->size > 0 &&
           pool->size <= PG_SIZE_MAX && pool->min_size > 0 && pool->min_size <= pool->size &&
           pool->pg_num > 0 && pool->pg_num <= MAP_PG_NUM_MAX &&
           crush_rule(crush, pool->crush_rule) != NULL && pool->created <= epoch &&
           pool->config_base <= epoch && snaps_valid(pool->snaps, epoch) && apps_valid(pool->apps);
}

static int compare_names(const void *a, const void *b)
{
    const struct map_pool *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static int check_pool_names(const struct map_pool *pools, uint32_t n)
{
    const struct map_pool **sorted = calloc((size_t)n + 1, sizeof(struct map_pool *));
    if (sorted == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++) {
        sorted[i] = &pools[i];
    }
    qsort(sorted, n, sizeof(struct map_pool *), compare_names);
    int result = 0;
    for (uint32_t i = 1; i < n; i++) {
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0) {
            result = -EBADMSG;
        }
    }
    free(sorted);
    return result;
}

int pools_check(const struct map_pool *pools, uint32_t n, const struct crush_map *crush,
                uint64_t epoch)
{
    if (n > MAP_POOLS_MAX) {
        return -EBADMSG;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!pool_valid(&pools[i], crush, epoch) || (i > 0 && pools[i - 1].id >= pools[i].id)) {
            return -EBADMSG;
        }
    }
    return check_pool_names(pools, n);
}

bool pg_valid(const struct map_pg *pg, const struct map_pool *pool, int32_t max_osd, uint64_t epoch)
{
    if (pool == NULL || pg->pg.seed >= pool->pg_num || pg->n == 0 || pg->n > PG_SIZE_MAX ||
        pg->config > epoch) {
        return false;
    }
    for (uint8_t i = 0; i < pg->n; i++) {
        int32_t member = pg->members[i];
        if (member == CRUSH_ITEM_NONE && pool->type == POOL_ERASURE) {
            continue;
        }
        if (member < 0 || member >= max_osd) {
            return false;
        }
        for (uint8_t k = 0; k < i; k++) {
            if (pg->members[k] == member) {
                return false;
            }
        }
    }
    return true;
}
