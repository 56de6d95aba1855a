#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/object/private.h"

int limpet_pool_list(struct limpet_cluster *c, struct limpet_pool_entry **out, size_t *n)
{
    *out = NULL;
    *n = 0;
    int rc = -ENOTCONN;
    cluster_lock(c);
    if (c->client == NULL)
        goto out;
    const struct cluster_map *map = client_map(c->client);
    rc = -ENOMEM;
    *out = calloc(map->n_pools + 1, sizeof **out);
    if (*out == NULL)
        goto out;
    for (uint32_t i = 0; i < map->n_pools; i++) {
        (*out)[i].id = map->pools[i].id;
        snprintf((*out)[i].name, sizeof(*out)[i].name, "%s", map->pools[i].name);
    }
    *n = map->n_pools;
    rc = 0;
out:
    cluster_unlock(c);
    return rc;
}

/* By name, or by id when name is NULL. */
static const struct map_pool *find_pool(struct limpet_cluster *c, const char *name, uint64_t id)
{
    const struct cluster_map *map = client_map(c->client);
    return name != NULL ? map_pool_by_name(map, name) : map_pool(map, id);
}

static int open_pool(struct limpet_cluster *c, const char *name, uint64_t id,
                     struct limpet_pool **out)
{
    if (c->client == NULL)
        return -ENOTCONN;
    const struct map_pool *found = find_pool(c, name, id);
    if (found == NULL) {
        /* Somebody may have created it a moment ago, and our monitor has yet to hear of it. */
        int rc = cluster_latest_map(c);
        if (rc != 0 && rc != -ETIMEDOUT)
            return rc;
        found = find_pool(c, name, id);
    }
    if (found == NULL)
        return -ENOENT;
    struct limpet_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return -ENOMEM;
    pool->cluster = c;
    pool->id = found->id;
    snprintf(pool->name, sizeof pool->name, "%s", found->name);
    *out = pool;
    return 0;
}

void pool_revoke_late(struct limpet_pool *pool)
{
    pool->revoke_late = true;
}

int limpet_pool_open(struct limpet_cluster *c, const char *name, struct limpet_pool **out)
{
    cluster_lock(c);
    int rc = open_pool(c, name, 0, out);
    cluster_unlock(c);
    return rc;
}

int limpet_pool_open_id(struct limpet_cluster *c, uint64_t id, struct limpet_pool **out)
{
    cluster_lock(c);
    int rc = open_pool(c, NULL, id, out);
    cluster_unlock(c);
    return rc;
}

void limpet_pool_close(struct limpet_pool *pool)
{
    if (pool != NULL)
        free(pool->snaps);
    free(pool);
}

uint64_t limpet_pool_id(const struct limpet_pool *pool)
{
    return pool->id;
}

const char *limpet_pool_name(const struct limpet_pool *pool)
{
    return pool->name;
}

int limpet_pool_set_locator(struct limpet_pool *pool, const char *locator)
{
    if (locator == NULL)
        locator = "";
    if (strlen(locator) > LIMPET_OBJECT_LOCATOR_MAX)
        return -ENAMETOOLONG;
    snprintf(pool->locator, sizeof pool->locator, "%s", locator);
    return 0;
}

int limpet_pool_set_namespace(struct limpet_pool *pool, const char *space)
{
    if (strlen(space) > LIMPET_OBJECT_SPACE_MAX)
        return -ENAMETOOLONG;
    snprintf(pool->space, sizeof pool->space, "%s", space);
    return 0;
}

const char *limpet_pool_namespace(const struct limpet_pool *pool)
{
    return pool->space;
}

struct limpet_cluster *limpet_pool_cluster(const struct limpet_pool *pool)
{
    return pool->cluster;
}
