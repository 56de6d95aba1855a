#include "tests/sim/snaps.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/pg/pg_layout.h"
#include "osd/store/store_memory.h"

uint16_t snaps_context(const struct snaps *snaps, uint64_t out[SNAPS_ALIVE_MAX])
{
    uint16_t n = 0;
    for (uint64_t snap = snaps->newest; snap > 0 && n < SNAPS_ALIVE_MAX; snap--)
        if (snaps->table.alive[snap])
            out[n++] = snap;
    return n;
}

uint64_t snaps_choose(const struct snaps *snaps, struct sim *sim)
{
    uint64_t alive[SNAPS_ALIVE_MAX];
    uint16_t n = snaps_context(snaps, alive);
    return n > 0 ? alive[sim_below(sim, n)] : 0;
}

/* ---- Commands ---- */

/* The number in {"snapid":7}. */
static uint64_t snap_of(const struct buf_slice *output)
{
    char text[64] = {0};
    memcpy(text, output->data, output->len < sizeof text ? output->len : sizeof text - 1);
    const char *colon = strchr(text, ':');
    return colon ? strtoull(colon + 1, NULL, 10) : 0;
}

static void command_done(struct client_command *wire)
{
    struct snaps_command *command = container_of(wire, struct snaps_command, command);
    struct snaps *snaps = command->snaps;
    if (command->takes) {
        snaps->taking = false;
        uint64_t snap = wire->result == 0 && wire->output.len > 0 ? snap_of(&wire->output) : 0;
        if (snap > snaps->newest && snap < HISTORY_SNAPS_MAX) {
            snaps->newest = snap;
            snaps->table.alive[snap] = true;
            snaps->n_alive++;
        }
    }
    client_command_fini(wire);
    memset(wire, 0, sizeof *wire);
    command->done(command);
}

static void send(struct snaps_command *command, struct client *client)
{
    memset(&command->command, 0, sizeof command->command);
    command->command.json = command->json;
    command->command.done = command_done;
    client_command(client, &command->command);
}

static const char *pool_name(const struct client *client, uint64_t id)
{
    const struct cluster_map *map = client_map(client);
    const struct map_pool *pool = map ? map_pool(map, id) : NULL;
    return pool ? pool->name : NULL;
}

bool snaps_take(struct snaps_command *command, struct client *client)
{
    struct snaps *snaps = command->snaps;
    const char *name = pool_name(client, snaps->pool);
    if (!name || snaps->taking || snaps->n_alive == SNAPS_ALIVE_MAX ||
        snaps->newest + 50 > HISTORY_SNAPS_MAX)
        return false;
    command->takes = snaps->taking = true;
    snprintf(command->json, sizeof command->json,
             "{\"prefix\": \"osd pool selfmanaged-snap create\", \"pool\": \"%s\"}", name);
    send(command, client);
    return true;
}

bool snaps_drop(struct snaps_command *command, struct client *client, uint64_t snap,
                uint64_t now_ns)
{
    struct snaps *snaps = command->snaps;
    const char *name = pool_name(client, snaps->pool);
    if (!name || snap == 0)
        return false;
    command->takes = false;
    snaps->table.alive[snap] = false;
    snaps->table.removed[snap] = now_ns;
    snaps->n_alive--;
    snprintf(command->json, sizeof command->json,
             "{\"prefix\": \"osd pool selfmanaged-snap rm\", \"pool\": \"%s\", \"snapid\": %" PRIu64
             "}",
             name, snap);
    send(command, client);
    return true;
}

/* ---- The end ---- */

struct await {
    struct snaps *snaps;
    struct cluster *cluster;
};

static bool are_trimmed(void *ctx)
{
    const struct await *await = ctx;
    const struct cluster_map *map = cluster_map_newest(await->cluster);
    const struct map_pool *pool = map ? map_pool(map, await->snaps->pool) : NULL;
    return pool && (!pool->snaps || pool->snaps->n_trims == 0);
}

/* Numbers that were given and never told are removed, too; some were removed before. */
bool snaps_remove_all(struct snaps *snaps, struct cluster *cluster, uint64_t deadline)
{
    const struct cluster_map *map = client_map(cluster->clients[0].client);
    const struct map_pool *pool = map_pool(map, snaps->pool);
    struct await await = {snaps, cluster};
    uint64_t last = pool && pool->snaps ? pool->snaps->seq : 0;
    for (uint64_t snap = 1; snap <= last; snap++) {
        char json[256];
        map = client_map(cluster->clients[0].client);
        pool = map_pool(map, snaps->pool);
        if (!pool || snaps_removed(pool->snaps, snap))
            continue;
        snprintf(
            json, sizeof json,
            "{\"prefix\": \"osd pool selfmanaged-snap rm\", \"pool\": \"%s\", \"snapid\": %" PRIu64
            "}",
            pool->name, snap);
        int result;
        if (!cluster_command_try(cluster, 30 * SEC_NS, json, &result))
            return false;
        /* The administrator may not know yet that it was removed. */
        if (result != 0 && result != -ENOENT)
            cluster_fail(cluster, "command %s fails: %d", json, result);
    }
    return cluster_run_until(cluster, are_trimmed, &await, deadline,
                             "removed snapshots are not trimmed");
}

struct rest {
    uint64_t clones, whiteouts, pairs;
};

static void visit_object(void *ctx, const struct store_memory_object *object)
{
    struct rest *rest = ctx;
    struct object_info_layout info;
    rest->clones += object->id->snap != OBJECT_HEAD;
    if (object_info_parse(object->info, object->info_len, &info) == 0)
        rest->whiteouts += (info.flags & OBJECT_INFO_WHITEOUT) != 0;
}

static void visit_pair(void *ctx, const uint8_t *key, uint16_t key_len, const uint8_t *value,
                       uint32_t len)
{
    struct rest *rest = ctx;
    (void)value;
    (void)len;
    rest->pairs += key_len == PG_SNAP_KEY_LEN && key[0] == PG_KEY_SNAP;
}

bool snaps_nothing_left(struct cluster *cluster, char why[CLUSTER_WHY_MAX])
{
    const struct cluster_map *map = cluster_map_newest(cluster);
    for (uint32_t i = 0; map && i < map->n_pools; i++) {
        for (uint32_t k = 0; k < cluster->options.n_osds; k++) {
            struct rest rest = {0};
            store_memory_visit_objects(cluster->osds[k].disk, map->pools[i].id, 0, UINT32_MAX,
                                       visit_object, &rest);
            for (uint32_t seed = 0; seed < map->pools[i].pg_num; seed++)
                store_memory_visit_pairs(cluster->osds[k].disk,
                                         (struct pg_id){map->pools[i].id, seed}, visit_pair, &rest);
            if (rest.clones == 0 && rest.whiteouts == 0 && rest.pairs == 0)
                continue;
            snprintf(why, CLUSTER_WHY_MAX,
                     "trim-leaves-nothing: osd.%u has %" PRIu64 " clones and %" PRIu64
                     " objects for them, %" PRIu64 " pairs, and no snapshot",
                     k, rest.clones, rest.whiteouts, rest.pairs);
            return false;
        }
    }
    return map != NULL;
}
