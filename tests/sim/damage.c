#include "tests/sim/damage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/osd_impl.h"
#include "osd/pg/pg_impl.h"
#include "placement/hash.h"

enum { SILENT_DAMAGES = 3, PRIMARY_DAMAGES = 3 };

/* ---- Objects ---- */

/* One object at random of those that were visited. */
struct pick {
    struct cluster *cluster;
    uint32_t n;
    struct object_id *id;
    uint32_t crc;
    uint64_t size;     /* Zeros at the end are not in the checksum. */
    uint16_t info_len; /* The version is in there. */
    uint8_t info[STORE_INFO_MAX];
};

static void pick_object(struct pick *pick, const struct store_memory_object *object)
{
    pick->crc = object->data_crc;
    pick->size = object->size;
    pick->info_len = object->info_len;
    memcpy(pick->info, object->info, object->info_len);
}

static void visit_any(void *ctx, const struct store_memory_object *object)
{
    struct pick *pick = ctx;
    if (object->size == 0 || object->rotten || object->id->snap != OBJECT_HEAD)
        return;
    if (sim_below(pick->cluster->sim, ++pick->n) != 0)
        return;
    free(pick->id);
    pick->id = object_id_copy(object->id);
    pick_object(pick, object);
}

struct look {
    const struct pick *pick;
    bool equal;
};

static void visit_one(void *ctx, const struct store_memory_object *object)
{
    struct look *look = ctx;
    const struct pick *pick = look->pick;
    if (object_compare(object->id, pick->id) == 0)
        look->equal = object->data_crc == pick->crc && object->size == pick->size &&
                      !object->rotten && object->info_len == pick->info_len &&
                      memcmp(object->info, pick->info, pick->info_len) == 0;
}

static bool copy_is_equal(struct cluster_osd *o, const struct pick *pick)
{
    struct look look = {.pick = pick};
    uint32_t hash = object_hash_reverse(pick->id->hash);
    store_memory_visit_objects(o->disk, pick->id->pool, hash, hash, visit_one, &look);
    return look.equal;
}

/* The others are good, and no copy anywhere is bad. */
static bool others_are_good(struct cluster *cluster, const struct pg_view *view, int32_t osd,
                            const struct pick *pick)
{
    for (uint32_t i = 0; i < cluster->options.n_osds; i++)
        if (store_memory_is_rotten(cluster->osds[i].disk, pick->id))
            return false;
    for (uint8_t i = 0; i < view->n_members; i++)
        if (view->members[i] != osd && !copy_is_equal(&cluster->osds[view->members[i]], pick))
            return false;
    return true;
}

/* ---- Damage ---- */

static bool random_pg(struct cluster *cluster, struct pg_id *id, struct pg_view *view,
                      struct map_pool *pool)
{
    const struct cluster_map *map = cluster_map_newest(cluster);
    if (!map || map->n_pools == 0)
        return false;
    *pool = map->pools[sim_below(cluster->sim, map->n_pools)];
    *id = (struct pg_id){.pool = pool->id, .seed = (uint32_t)sim_below(cluster->sim, pool->pg_num)};
    return map_pg_view(map, *id, view) == 0 && view->n_members > 0;
}

static void damage_copy(struct cluster *cluster, const struct map_pool *pool, struct pg_id pg,
                        const struct pg_view *view, int32_t osd, enum store_memory_damage how)
{
    static const char *const words[] = {"rots", "has another bit", "is cut", "vanishes"};
    struct pick pick = {.cluster = cluster};
    uint32_t first, last;
    pg_hash_range(pg.seed, pool->pg_num, &first, &last);
    store_memory_visit_objects(cluster->osds[osd].disk, pg.pool, first, last, visit_any, &pick);
    if (pick.id && others_are_good(cluster, view, osd, &pick) &&
        store_memory_damage(cluster->osds[osd].disk, pick.id, how, sim_random(cluster->sim)))
        sim_log(cluster->sim, "damage", "on osd.%d %.*s of pool %" PRIu64 " %s", osd,
                (int)pick.id->name_len, (const char *)pick.id->name, pg.pool, words[how]);
    free(pick.id);
}

void damage_one(struct cluster *cluster)
{
    struct pg_id pg;
    struct pg_view view;
    struct map_pool pool;
    if (!random_pg(cluster, &pg, &view, &pool) || view.n_members < 2 || pool.min_size < 2)
        return;
    int32_t osd = view.members[sim_below(cluster->sim, view.n_members)];
    damage_copy(cluster, &pool, pg, &view, osd, STORE_DAMAGE_ROT);
}

void damage_in_silence(struct cluster *cluster)
{
    struct pg_id pg;
    struct pg_view view;
    struct map_pool pool;
    for (int i = 0; i < SILENT_DAMAGES; i++) {
        if (!random_pg(cluster, &pg, &view, &pool) || view.n_members < 3)
            continue;
        int32_t osd = view.members[sim_below(cluster->sim, view.n_members)];
        damage_copy(cluster, &pool, pg, &view, osd,
                    (enum store_memory_damage)sim_below(cluster->sim, STORE_DAMAGE_LOSE + 1));
    }
}

void damage_primaries(struct cluster *cluster)
{
    struct pg_id pg;
    struct pg_view view;
    struct map_pool pool;
    for (int i = 0; i < PRIMARY_DAMAGES; i++)
        if (random_pg(cluster, &pg, &view, &pool) && view.n_members >= 2)
            damage_copy(cluster, &pool, pg, &view, view.primary, STORE_DAMAGE_ROT);
}

/* A damaged copy that nobody can make good. */
struct hopeless {
    struct cluster *cluster;
    struct pg_view view;
    int32_t osd;
    struct object_id *id;
};

static void visit_hopeless(void *ctx, const struct store_memory_object *object)
{
    struct hopeless *hopeless = ctx;
    struct cluster *cluster = hopeless->cluster;
    struct object_id id = *object->id;
    struct pick pick = {.cluster = cluster, .id = &id};
    bool repairable = false;
    if (!object->rotten || hopeless->id)
        return;
    pick_object(&pick, object);
    for (uint8_t i = 0; i < hopeless->view.n_members; i++) {
        int32_t osd = hopeless->view.members[i];
        repairable |= osd != hopeless->osd && copy_is_equal(&cluster->osds[osd], &pick);
    }
    if (!repairable)
        hopeless->id = object_id_copy(object->id);
}

static void forgive(struct cluster *cluster, const struct map_pool *pool, struct pg_id pg,
                    struct hopeless *hopeless)
{
    struct store_memory_disk *disk = cluster->osds[hopeless->osd].disk;
    uint32_t first, last;
    pg_hash_range(pg.seed, pool->pg_num, &first, &last);
    for (;;) {
        hopeless->id = NULL;
        store_memory_visit_objects(disk, pg.pool, first, last, visit_hopeless, hopeless);
        if (!hopeless->id)
            return;
        sim_log(cluster->sim, "damage", "osd.%d reads %.*s again", hopeless->osd,
                (int)hopeless->id->name_len, (const char *)hopeless->id->name);
        (void)store_memory_damage(disk, hopeless->id, STORE_DAMAGE_NONE, 0);
        free(hopeless->id);
    }
}

void damage_forgive(struct cluster *cluster)
{
    const struct cluster_map *map = cluster_map_newest(cluster);
    for (uint32_t i = 0; map && i < map->n_pools; i++) {
        const struct map_pool *pool = &map->pools[i];
        for (uint32_t seed = 0; seed < pool->pg_num; seed++) {
            struct pg_id pg = {.pool = pool->id, .seed = seed};
            struct hopeless hopeless = {.cluster = cluster};
            if (map_pg_view(map, pg, &hopeless.view) < 0)
                continue;
            for (; hopeless.osd < (int32_t)cluster->options.n_osds; hopeless.osd++)
                forgive(cluster, pool, pg, &hopeless);
        }
    }
}

static void visit_rotten(void *ctx, const struct store_memory_object *object)
{
    *(uint32_t *)ctx += object->rotten;
}

uint32_t damage_count(struct cluster *cluster)
{
    const struct cluster_map *map = cluster_map_newest(cluster);
    uint32_t n = 0;
    for (uint32_t i = 0; map && i < map->n_pools; i++)
        for (uint32_t osd = 0; osd < cluster->options.n_osds; osd++)
            store_memory_visit_objects(cluster->osds[osd].disk, map->pools[i].id, 0, UINT32_MAX,
                                       visit_rotten, &n);
    return n;
}

/* ---- Scrub ---- */

/* The primary's; NULL: nobody serves the group now. */
static struct pg *primary_of(struct cluster *cluster, struct pg_id id)
{
    const struct cluster_map *map = cluster_map_newest(cluster);
    struct pg_view view;
    if (!map || map_pg_view(map, id, &view) < 0 || view.primary < 0)
        return NULL;
    const struct cluster_osd *o = &cluster->osds[view.primary];
    struct osd_pg *entry = o->osd ? osd_pg_find(o->osd, id) : NULL;
    return entry && pg_state(entry->pg) == PG_STATE_PRIMARY_ACTIVE ? entry->pg : NULL;
}

static uint64_t wall(struct cluster *cluster)
{
    return env_wall(sim_process(cluster->clients[0].member.node));
}

static void order(struct cluster *cluster, struct pg_id id)
{
    char json[128];
    snprintf(json, sizeof json,
             "{\"prefix\": \"pg deep-scrub\", \"pgid\": \"%" PRIu64 ".%" PRIx32 "\"}", id.pool,
             id.seed);
    cluster_command_send(cluster, json);
}

/* What is to be done with the group; false ends the walk. */
typedef bool (*pg_visit)(struct cluster *cluster, struct pg_id id, void *ctx);

static bool each_pg(struct cluster *cluster, pg_visit visit, void *ctx)
{
    const struct cluster_map *map = cluster_map_newest(cluster);
    for (uint32_t i = 0; map && i < map->n_pools; i++) {
        for (uint32_t seed = 0; seed < map->pools[i].pg_num; seed++) {
            struct pg_id id = {.pool = map->pools[i].id, .seed = seed};
            if (!visit(cluster, id, ctx))
                return false;
        }
    }
    return map != NULL;
}

static bool visit_order(struct cluster *cluster, struct pg_id id, void *ctx)
{
    (void)ctx;
    order(cluster, id);
    return true;
}

uint64_t damage_order_scrubs(struct cluster *cluster)
{
    (void)each_pg(cluster, visit_order, NULL);
    return wall(cluster);
}

struct waiting {
    uint64_t since_ns;
    bool repeats;
    char *why;
};

static bool visit_scrubbed(struct cluster *cluster, struct pg_id id, void *ctx)
{
    struct waiting *waiting = ctx;
    char text[PG_ID_TEXT_MAX];
    const struct pg *pg = primary_of(cluster, id);
    if (pg && !pg->scrub && !pg->deep_ordered && pg->deep_stamp_ns >= waiting->since_ns)
        return true;
    snprintf(waiting->why, CLUSTER_WHY_MAX, "pg %s is not scrubbed", pg_id_format(id, text));
    if (waiting->repeats && pg && !pg->scrub && !pg->deep_ordered)
        order(cluster, id);
    return false;
}

bool damage_scrubbed(struct cluster *cluster, uint64_t since_ns, char why[CLUSTER_WHY_MAX])
{
    uint64_t waited = wall(cluster) - since_ns;
    struct waiting waiting = {
        .since_ns = since_ns,
        .repeats = waited % (10 * SEC_NS) < SEC_NS,
        .why = why,
    };
    snprintf(why, CLUSTER_WHY_MAX, "orders to scrub are on their way");
    /* A scrub that ran before the order came does not count. */
    return waited >= SEC_NS && each_pg(cluster, visit_scrubbed, &waiting);
}

static bool visit_found(struct cluster *cluster, struct pg_id id, void *ctx)
{
    const struct pg *pg = primary_of(cluster, id);
    const struct pg_inconsistent *found;
    if (!pg)
        return true;
    TAILQ_FOREACH(found, &pg->inconsistents, link)
    {
        *(uint32_t *)ctx += found->scrub >= pg->scrub_number;
    }
    return true;
}

uint32_t damage_found(struct cluster *cluster)
{
    uint32_t n = 0;
    (void)each_pg(cluster, visit_found, &n);
    return n;
}
