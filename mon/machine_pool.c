/* What happens to pools: the events of machine.h that are about them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mon/machine.h"
#include "mon/machine_private.h"

bool machine_pool_name_valid(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len > MAP_POOL_NAME_MAX || name[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c <= ' ' || c == 0x7f || strchr("/@\"\\", c) != NULL)
            return false;
    }
    return true;
}

static uint32_t osds_in(const struct cluster_map *map)
{
    uint32_t n = 0;

    for (int32_t id = 0; id < map->max_osd; id++) {
        const struct map_osd *osd = map_osd(map, id);
        if (osd != NULL && osd->weight > 0)
            n++;
    }
    return n;
}

/*
 * A power of two that gives each OSD about MACHINE_PGS_PER_OSD groups of this pool, and not more
 * than MACHINE_PGS_PER_OSD_MAX of all pools as long as that can be.
 */
static uint32_t choose_pg_num(const struct cluster_map *map, uint32_t size)
{
    uint64_t osds = osds_in(map);
    uint64_t copies = 0;

    for (uint32_t i = 0; i < map->n_pools; i++)
        copies += (uint64_t)map->pools[i].pg_num * map->pools[i].size;
    uint64_t room = osds * MACHINE_PGS_PER_OSD_MAX;
    room = room > copies ? room - copies : 0;
    uint64_t target = osds * MACHINE_PGS_PER_OSD;
    target = (target < room ? target : room) / size;
    uint32_t pg_num = MACHINE_PG_NUM_MIN;
    while ((uint64_t)pg_num * 2 <= target && pg_num * 2 <= MAP_PG_NUM_MAX)
        pg_num *= 2;
    return pg_num;
}

static const struct crush_rule *find_rule(const struct crush_map *crush, const char *name)
{
    for (uint32_t i = 0; i < crush->n_rules; i++) {
        const struct crush_rule *rule = &crush->rules[i];
        if (name != NULL ? strcmp(rule->name, name) == 0 : rule->type == POOL_REPLICATED)
            return rule;
    }
    return NULL;
}

static int refuse(char why[MACHINE_WHY_MAX], int error, const char *text)
{
    snprintf(why, MACHINE_WHY_MAX, "%s", text);
    return error;
}

static int pool_fill(const struct cluster_map *map, const struct machine_pool_create *create,
                     struct map_pool *pool, char why[MACHINE_WHY_MAX])
{
    uint32_t size = create->size != 0 ? create->size : MACHINE_POOL_SIZE_DEFAULT;
    uint32_t min_size = create->min_size != 0 ? create->min_size : size - size / 2;
    const struct crush_rule *rule = find_rule(map->crush, create->rule);

    if (!machine_pool_name_valid(create->name))
        return refuse(why, -EINVAL,
                      "a pool name has 1 to 127 characters, no spaces, none of / @ \" \\, and "
                      "does not begin with '-'");
    if (size > PG_SIZE_MAX || min_size > size)
        return refuse(why, -EINVAL, "size must be 1 to 16, and min_size not above it");
    if (create->pg_num > MAP_PG_NUM_MAX)
        return refuse(why, -ERANGE, "pg_num must be at most 65536");
    if (rule == NULL)
        return refuse(why, -ENOENT, "there is no such CRUSH rule: see limpet osd crush rule ls");
    if (map->n_pools >= MAP_POOLS_MAX)
        return refuse(why, -ENOSPC, "there are too many pools");
    snprintf(pool->name, sizeof pool->name, "%s", create->name);
    pool->type = POOL_REPLICATED;
    pool->size = (uint8_t)size;
    pool->min_size = (uint8_t)min_size;
    pool->crush_rule = rule->id;
    pool->pg_num = create->pg_num != 0 ? create->pg_num : choose_pg_num(map, size);
    uint64_t total = pool->pg_num;
    for (uint32_t i = 0; i < map->n_pools; i++)
        total += map->pools[i].pg_num;
    if (total > MACHINE_PGS_MAX)
        return refuse(why, -ERANGE, "all pools together would have too many placement groups");
    return 0;
}

int machine_pool_create(struct change *change, const struct machine_pool_create *create,
                        char why[MACHINE_WHY_MAX])
{
    struct map_pool pool = {0};

    if (map_pool_by_name(change->map, create->name) != NULL)
        return -EEXIST;
    int rc = pool_fill(change->map, create, &pool, why);
    if (rc != 0)
        return rc;
    pool.id = change->map->next_pool_id != 0 ? change->map->next_pool_id : 1;
    pool.created = change_epoch(change);
    pool.config_base = pool.created;
    rc = stage_pool(change, &pool);
    if (rc == 0)
        rc = change_flush(change);
    return rc == 0 ? evaluate_pool(change, pool.id, pool.min_size) : rc;
}

int machine_pool_remove(struct change *change, uint64_t id)
{
    if (map_pool(change->map, id) == NULL)
        return -ENOENT;
    if (!change_empty(change))
        return -EINPROGRESS;
    machine_forget_pool(change->machine, id);
    int rc = stage_pool_remove(change, id);
    return rc == 0 ? change_flush(change) : rc;
}

int machine_pool_resize(struct change *change, uint64_t id, uint8_t size, uint8_t min_size)
{
    const struct map_pool *known = map_pool(change->map, id);

    if (known == NULL)
        return -ENOENT;
    if (size == 0 || size > PG_SIZE_MAX || min_size == 0 || min_size > size)
        return -EINVAL;
    if (known->size == size && known->min_size == min_size)
        return 0;
    struct map_pool pool = *known;
    uint8_t min_size_before = known->min_size;
    pool.size = size;
    pool.min_size = min_size;
    if (machine_wanted(change->machine, change->map, known) == NULL)
        return -ENOMEM;
    int rc = stage_pool(change, &pool);
    if (rc == 0)
        rc = change_flush(change);
    return rc == 0 ? evaluate_pool(change, id, min_size_before) : rc;
}

int machine_pool_rule(struct change *change, uint64_t id, uint32_t rule)
{
    const struct map_pool *known = map_pool(change->map, id);
    const struct crush_rule *found = crush_rule(change->map->crush, rule);

    if (known == NULL || found == NULL || found->type != known->type)
        return -ENOENT;
    if (known->crush_rule == rule)
        return 0;
    struct map_pool pool = *known;
    pool.crush_rule = rule;
    if (machine_wanted(change->machine, change->map, known) == NULL)
        return -ENOMEM;
    int rc = stage_pool(change, &pool);
    if (rc == 0)
        rc = change_flush(change);
    return rc == 0 ? evaluate_pool(change, id, pool.min_size) : rc;
}

int machine_pool_rename(struct change *change, uint64_t id, const char *name)
{
    const struct map_pool *known = map_pool(change->map, id);

    if (known == NULL)
        return -ENOENT;
    if (!machine_pool_name_valid(name))
        return -EINVAL;
    if (map_pool_by_name(change->map, name) != NULL)
        return -EEXIST;
    struct map_pool pool = *known;
    snprintf(pool.name, sizeof pool.name, "%s", name);
    int rc = stage_pool(change, &pool);
    return rc == 0 ? change_flush(change) : rc;
}
