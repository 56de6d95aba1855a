#include "tests/sim/topology.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_MAX = 256, RESTORE_S = 60 };
/* What an OSD of the simulation gets by its size. */
#define CRUSH_WEIGHT ((double)CLUSTER_DISK_BYTES / (double)(UINT64_C(1) << 40))

static uint64_t below(struct topology *t, uint64_t n)
{
    return sim_below(t->cluster->sim, n);
}

void topology_init(struct topology *t, struct cluster *cluster)
{
    const struct cluster_map *map = cluster_map_newest(cluster);
    memset(t, 0, sizeof *t);
    t->cluster = cluster;
    for (uint32_t i = 0; map && i < map->n_pools && i < CLUSTER_POOLS_MAX; i++) {
        const struct map_pool *pool = &map->pools[i];
        struct topology_pool *mine = &t->pools[t->n_pools++];
        mine->id = pool->id;
        mine->size = pool->size;
        mine->min_size = pool->min_size;
        snprintf(mine->name, sizeof mine->name, "%.31s", pool->name);
        for (uint32_t j = 0; j < map->crush->n_rules; j++)
            if (map->crush->rules[j].id == pool->crush_rule)
                snprintf(mine->rule, sizeof mine->rule, "%.31s", map->crush->rules[j].name);
    }
}

static struct topology_pool *choose_pool(struct topology *t)
{
    return t->n_pools > 0 ? &t->pools[below(t, t->n_pools)] : NULL;
}

static void set_json(char json[JSON_MAX], const struct topology_pool *pool, const char *var,
                     uint64_t value)
{
    snprintf(json, JSON_MAX,
             "{\"prefix\": \"osd pool set\", \"pool\": \"%s\", \"var\": \"%s\", \"val\": \"%" PRIu64
             "\", \"force\": true}",
             pool->name, var, value);
}

static void set_pool(struct topology *t, const struct topology_pool *pool, const char *var,
                     uint64_t value)
{
    char json[JSON_MAX];
    set_json(json, pool, var, value);
    cluster_command_send(t->cluster, json);
}

/* While single copies are damaged there must be another one. */
static uint64_t least(const struct topology *t, const struct topology_pool *pool)
{
    return t->keeps_two && pool->min_size >= 2 ? 2 : 1;
}

void topology_resize_pool(struct topology *t)
{
    const struct topology_pool *pool = choose_pool(t);
    if (pool)
        set_pool(t, pool, "size", least(t, pool) + below(t, 6 - least(t, pool)));
}

void topology_change_min_size(struct topology *t)
{
    const struct topology_pool *pool = choose_pool(t);
    if (pool)
        set_pool(t, pool, "min_size", least(t, pool) + below(t, 4 - least(t, pool)));
}

static void rule_json(char json[JSON_MAX], const struct topology_pool *pool, const char *rule)
{
    snprintf(json, JSON_MAX,
             "{\"prefix\": \"osd pool set\", \"pool\": \"%s\", \"var\": \"crush_rule\", \"val\": "
             "\"%s\"}",
             pool->name, rule);
}

void topology_change_rule(struct topology *t)
{
    static const char create[] = "{\"prefix\": \"osd crush rule create-replicated\", \"name\": "
                                 "\"other\", \"root\": \"default\", \"type\": \"osd\"}";
    const struct topology_pool *pool = choose_pool(t);
    char json[JSON_MAX];
    if (!pool)
        return;
    cluster_command_send(t->cluster, create);
    rule_json(json, pool, below(t, 3) == 0 ? pool->rule : "other");
    cluster_command_send(t->cluster, json);
}

static void crush_weight_json(char json[JSON_MAX], uint64_t id, double weight)
{
    snprintf(json, JSON_MAX,
             "{\"prefix\": \"osd crush reweight\", \"name\": \"osd.%" PRIu64
             "\", \"weight\": %.3f, \"force\": true}",
             id, weight);
}

void topology_change_crush_weight(struct topology *t)
{
    char json[JSON_MAX];
    crush_weight_json(json, below(t, t->cluster->options.n_osds),
                      CRUSH_WEIGHT * (double)(50 + below(t, 100)) / 100);
    cluster_command_send(t->cluster, json);
}

void topology_extra_pool(struct topology *t)
{
    char json[JSON_MAX];
    uint64_t number = below(t, 2);
    if (below(t, 2) == 0)
        snprintf(json, sizeof json,
                 "{\"prefix\": \"osd pool create\", \"pool\": \"extra%" PRIu64
                 "\", \"pg_num\": %" PRIu64 "}",
                 number, 1 + below(t, 8));
    else
        snprintf(json, sizeof json,
                 "{\"prefix\": \"osd pool rm\", \"pool\": \"extra%" PRIu64
                 "\", \"pool2\": \"extra%" PRIu64 "\", \"yes_i_really_really_mean_it\": true}",
                 number, number);
    cluster_command_send(t->cluster, json);
}

void topology_remove_osd(struct topology *t)
{
    const struct cluster_map *map = cluster_map_newest(t->cluster);
    uint64_t first = below(t, t->cluster->options.n_osds);
    for (uint64_t i = 0; map && i < t->cluster->options.n_osds; i++) {
        uint64_t id = (first + i) % t->cluster->options.n_osds;
        const struct map_osd *osd = map_osd(map, (int32_t)id);
        char json[JSON_MAX];
        if (!osd || osd->up)
            continue;
        snprintf(json, sizeof json, "{\"prefix\": \"osd rm\", \"ids\": [\"%" PRIu64 "\"]}", id);
        cluster_command_send(t->cluster, json);
        return;
    }
}

void topology_restore_send(struct topology *t)
{
    for (uint32_t i = 0; i < t->n_pools; i++) {
        char json[JSON_MAX];
        rule_json(json, &t->pools[i], t->pools[i].rule);
        cluster_command_send(t->cluster, json);
        set_pool(t, &t->pools[i], "size", t->pools[i].size);
        set_pool(t, &t->pools[i], "min_size", t->pools[i].min_size);
    }
}

static bool osds_up(void *ctx)
{
    const struct topology *t = ctx;
    const struct cluster_map *map = cluster_map_newest(t->cluster);
    for (uint32_t i = 0; map && i < t->cluster->options.n_osds; i++) {
        /* Up: a removal that is still under way is refused from now on. */
        if (!map_osd_up(map, (int32_t)i))
            return false;
    }
    return map != NULL;
}

bool topology_await_osds(struct topology *t)
{
    uint64_t deadline = sim_now(t->cluster->sim) + RESTORE_S * SEC_NS;
    return cluster_run_until(t->cluster, osds_up, t, deadline, "removed OSDs do not come back");
}

bool topology_restore(struct topology *t)
{
    char json[JSON_MAX];
    for (uint32_t i = 0; i < t->n_pools; i++) {
        const struct topology_pool *pool = &t->pools[i];
        set_json(json, pool, "size", pool->size);
        if (!cluster_command(t->cluster, RESTORE_S * SEC_NS, json))
            return false;
        set_json(json, pool, "min_size", pool->min_size);
        if (!cluster_command(t->cluster, RESTORE_S * SEC_NS, json))
            return false;
        rule_json(json, pool, pool->rule);
        if (!cluster_command(t->cluster, RESTORE_S * SEC_NS, json))
            return false;
    }
    /* A disk that was new while it had little room has a weight by which CRUSH hardly finds it. */
    for (uint64_t id = 0; id < t->cluster->options.n_osds; id++) {
        crush_weight_json(json, id, CRUSH_WEIGHT);
        if (!cluster_command(t->cluster, RESTORE_S * SEC_NS, json))
            return false;
    }
    for (uint32_t number = 0; number < 2; number++) {
        snprintf(json, sizeof json,
                 "{\"prefix\": \"osd pool rm\", \"pool\": \"extra%" PRIu32
                 "\", \"pool2\": \"extra%" PRIu32 "\", \"yes_i_really_really_mean_it\": true}",
                 number, number);
        if (!cluster_command(t->cluster, RESTORE_S * SEC_NS, json))
            return false;
    }
    return true;
}
