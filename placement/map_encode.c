/*
 * Encoding maps and increments (placement/map.proto). map_decode.c is the way back.
 *
 * Deterministic: equal maps have equal bytes. Lists are written in the order that the map keeps
 * them in, and what is zero is left out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "placement/map.pb-c.h"
#include "placement/map_private.h"

enum { MAP_FORMAT = 4 };

/* ---- Encoding: messages that point into the map ---- */

/* Memory for the messages of one encoding, freed together. */
struct arena {
    struct block {
        struct block *next;
        max_align_t data[];
    } * blocks;
    bool failed;
};

static void *arena_alloc(struct arena *arena, size_t n, size_t size)
{
    struct block *block = calloc(1, sizeof *block + n * size);
    if (block == NULL) {
        arena->failed = true;
        return NULL;
    }
    block->next = arena->blocks;
    arena->blocks = block;
    return block->data;
}

static void arena_fini(struct arena *arena)
{
    while (arena->blocks != NULL) {
        struct block *block = arena->blocks;
        arena->blocks = block->next;
        free(block);
    }
}

/* The array of pointers to n messages of an array that protobuf-c wants. */
static void *arena_pointers(struct arena *arena, void *messages, size_t n, size_t size)
{
    void **pointers = arena_alloc(arena, n, sizeof(void *));
    for (size_t i = 0; !arena->failed && i < n; i++) {
        pointers[i] = (char *)messages + i * size;
    }
    return pointers;
}

static ProtobufCBinaryData bytes_of(const void *data, size_t len)
{
    return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)data};
}

static char *text_of(const char *text)
{
    return (char *)(uintptr_t)text;
}

static bool write_address(const struct net_address *address, ProtobufCBinaryData *ip,
                          uint32_t *port)
{
    *ip = bytes_of(address->ip, address->family == 6 ? 16 : 4);
    *port = address->port;
    return address->family != 0;
}

static Limpet__Map__Mon **write_mons(struct arena *arena, const struct map_mon *mons, size_t n)
{
    Limpet__Map__Mon *messages = arena_alloc(arena, n, sizeof *messages);
    Limpet__Map__Mon **pointers = arena_pointers(arena, messages, n, sizeof *messages);
    for (size_t i = 0; !arena->failed && i < n; i++) {
        Limpet__Map__Mon *m = &messages[i];
        limpet__map__mon__init(m);
        m->id = mons[i].id;
        m->name = text_of(mons[i].name);
        m->has_ip = m->has_port = write_address(&mons[i].address, &m->ip, &m->port);
    }
    return pointers;
}

static Limpet__Map__Blocked **write_blocked(struct arena *arena, const struct map_blocked *blocked,
                                            size_t n)
{
    Limpet__Map__Blocked *messages = arena_alloc(arena, n, sizeof *messages);
    Limpet__Map__Blocked **pointers = arena_pointers(arena, messages, n, sizeof *messages);
    for (size_t i = 0; !arena->failed && i < n; i++) {
        Limpet__Map__Blocked *m = &messages[i];
        uint32_t port;
        limpet__map__blocked__init(m);
        m->instance = blocked[i].instance;
        m->has_instance = blocked[i].instance != 0;
        m->has_ip = write_address(&blocked[i].address, &m->ip, &port);
        m->until_ns = blocked[i].until_ns;
    }
    return pointers;
}

static void write_osd(Limpet__Map__Osd *m, int32_t id, const struct map_osd *osd)
{
    limpet__map__osd__init(m);
    m->id = (uint32_t)id;
    if (!osd->exists) {
        m->has_removed = m->removed = true;
        m->removed_at = osd->removed_at;
        m->has_removed_at = osd->removed_at != 0;
        return;
    }
    m->has_up = m->up = osd->up;
    m->weight = osd->weight;
    m->has_weight = osd->weight != 0;
    m->uuid = bytes_of(osd->uuid.bytes, sizeof osd->uuid.bytes);
    m->has_uuid = !uuid_is_zero(&osd->uuid);
    m->has_ip = m->has_port = write_address(&osd->address, &m->ip, &m->port);
    m->instance = osd->instance;
    m->has_instance = osd->instance != 0;
    m->up_from = osd->up_from;
    m->has_up_from = osd->up_from != 0;
    m->created = osd->created;
    m->has_created = osd->created != 0;
    m->down_at = osd->down_at;
    m->has_down_at = osd->down_at != 0;
    m->ended = osd->ended;
    m->has_ended = osd->ended;
    m->has_auto_out = m->auto_out = osd->auto_out;
    m->bytes_total = osd->bytes_total;
    m->has_bytes_total = osd->bytes_total != 0;
    m->host = osd->host[0] != 0 ? text_of(osd->host) : NULL;
}

static void write_snaps(struct arena *arena, Limpet__Map__Pool *m, const struct map_snaps *snaps)
{
    Limpet__Map__Snap *named = arena_alloc(arena, snaps->n_named, sizeof *named);
    Limpet__Map__Snap **pointers = arena_pointers(arena, named, snaps->n_named, sizeof *named);
    if (arena->failed) {
        return;
    }
    for (uint32_t i = 0; i < snaps->n_named; i++) {
        limpet__map__snap__init(&named[i]);
        named[i].id = snaps->named[i].id;
        named[i].stamp_ns = snaps->named[i].stamp_ns;
        named[i].name = text_of(snaps->named[i].name);
    }
    m->has_snap_mode = m->has_snap_seq = true;
    m->snap_mode = snaps->mode;
    m->snap_seq = snaps->seq;
    m->n_snaps = snaps->n_named;
    m->snaps = pointers;
    /* Ranges and trims are nothing but numbers, and written as such. */
    m->n_removed_snaps = 2 * (size_t)snaps->n_removed;
    m->removed_snaps = (uint64_t *)(void *)snaps->removed;
    m->n_snap_trims = 3 * (size_t)snaps->n_trims;
    m->snap_trims = (uint64_t *)(void *)snaps->trims;
}

static void write_apps(struct arena *arena, Limpet__Map__Pool *m, const struct map_apps *apps)
{
    char **texts = arena_alloc(arena, 3 * (size_t)apps->n, sizeof *texts);
    if (arena->failed) {
        return;
    }
    for (uint32_t i = 0; i < apps->n; i++) {
        texts[3 * (size_t)i] = text_of(apps->lines[i].app);
        texts[3 * (size_t)i + 1] = text_of(apps->lines[i].key);
        texts[3 * (size_t)i + 2] = text_of(apps->lines[i].value);
    }
    m->n_apps = 3 * (size_t)apps->n;
    m->apps = texts;
}

static void write_pool(struct arena *arena, Limpet__Map__Pool *m, const struct map_pool *pool)
{
    limpet__map__pool__init(m);
    m->id = pool->id;
    m->name = text_of(pool->name);
    m->type = pool->type;
    m->size = pool->size;
    m->min_size = pool->min_size;
    m->pg_num = pool->pg_num;
    m->crush_rule = pool->crush_rule;
    m->created = pool->created;
    m->config_base = pool->config_base;
    if (pool->snaps != NULL) {
        write_snaps(arena, m, pool->snaps);
    }
    if (pool->apps != NULL) {
        write_apps(arena, m, pool->apps);
    }
}

static void write_pg(Limpet__Map__Pg *m, const struct map_pg *pg, bool removed)
{
    limpet__map__pg__init(m);
    m->pool = pg->pg.pool;
    m->seed = pg->pg.seed;
    if (!removed) {
        m->config = pg->config;
        m->has_config = pg->config != 0;
        m->n_members = pg->n;
        /* Members are not negative, so that they look the same unsigned. */
        m->members = (uint32_t *)(uintptr_t)pg->members;
    }
}

static Limpet__Map__CrushBucket **write_buckets(struct arena *arena, const struct crush_map *crush,
                                                size_t *n)
{
    Limpet__Map__CrushBucket *messages = arena_alloc(arena, crush->n_buckets, sizeof *messages);
    Limpet__Map__CrushBucket **pointers =
        arena_pointers(arena, messages, crush->n_buckets, sizeof *messages);
    *n = 0;
    for (uint32_t i = 0; !arena->failed && i < crush->n_buckets; i++) {
        const struct crush_bucket *bucket = crush->buckets[i];
        if (bucket == NULL) {
            continue;
        }
        Limpet__Map__CrushBucket *m = &messages[(*n)++];
        limpet__map__crush_bucket__init(m);
        m->index = i;
        m->type = bucket->type;
        m->name = text_of(bucket->name);
        m->n_items = m->n_weights = bucket->n_items;
        m->items = bucket->items;
        m->weights = bucket->weights;
    }
    return pointers;
}

static Limpet__Map__CrushStep **write_steps(struct arena *arena, const struct crush_rule *rule)
{
    Limpet__Map__CrushStep *messages = arena_alloc(arena, rule->n_steps, sizeof *messages);
    Limpet__Map__CrushStep **pointers =
        arena_pointers(arena, messages, rule->n_steps, sizeof *messages);
    for (uint32_t i = 0; !arena->failed && i < rule->n_steps; i++) {
        const struct crush_step *step = &rule->steps[i];
        Limpet__Map__CrushStep *m = &messages[i];
        limpet__map__crush_step__init(m);
        m->op = step->op;
        m->arg1 = step->arg1;
        m->has_arg1 = step->arg1 != 0;
        m->arg2 = step->arg2;
        m->has_arg2 = step->arg2 != 0;
    }
    return pointers;
}

static Limpet__Map__CrushRule **write_rules(struct arena *arena, const struct crush_map *crush)
{
    Limpet__Map__CrushRule *messages = arena_alloc(arena, crush->n_rules, sizeof *messages);
    Limpet__Map__CrushRule **pointers =
        arena_pointers(arena, messages, crush->n_rules, sizeof *messages);
    for (uint32_t i = 0; !arena->failed && i < crush->n_rules; i++) {
        Limpet__Map__CrushRule *m = &messages[i];
        limpet__map__crush_rule__init(m);
        m->id = crush->rules[i].id;
        m->type = crush->rules[i].type;
        m->name = text_of(crush->rules[i].name);
        m->n_steps = crush->rules[i].n_steps;
        m->steps = write_steps(arena, &crush->rules[i]);
    }
    return pointers;
}

static Limpet__Map__Crush *write_crush(struct arena *arena, const struct crush_map *crush)
{
    Limpet__Map__Crush *m = arena_alloc(arena, 1, sizeof *m);
    Limpet__Map__CrushType *types = arena_alloc(arena, crush->n_types, sizeof *types);
    Limpet__Map__CrushType **type_pointers =
        arena_pointers(arena, types, crush->n_types, sizeof *types);
    if (arena->failed) {
        return NULL;
    }
    limpet__map__crush__init(m);
    m->max_devices = (uint32_t)crush->max_devices;
    for (uint32_t i = 0; i < crush->n_types; i++) {
        limpet__map__crush_type__init(&types[i]);
        types[i].id = crush->types[i].id;
        types[i].name = text_of(crush->types[i].name);
    }
    m->n_types = crush->n_types;
    m->types = type_pointers;
    m->buckets = write_buckets(arena, crush, &m->n_buckets);
    m->n_rules = crush->n_rules;
    m->rules = write_rules(arena, crush);
    m->choose_total_tries = crush->choose_total_tries;
    m->chooseleaf_descend_once = crush->chooseleaf_descend_once;
    m->chooseleaf_vary_r = crush->chooseleaf_vary_r;
    m->chooseleaf_stable = crush->chooseleaf_stable;
    return m;
}

static void write_map_lists(struct arena *arena, const struct cluster_map *map, Limpet__Map__Map *m)
{
    Limpet__Map__Osd *osds = arena_alloc(arena, (size_t)map->max_osd, sizeof *osds);
    Limpet__Map__Osd **osd_pointers =
        arena_pointers(arena, osds, (size_t)map->max_osd, sizeof *osds);
    Limpet__Map__Pool *pools = arena_alloc(arena, map->n_pools, sizeof *pools);
    Limpet__Map__Pool **pool_pointers = arena_pointers(arena, pools, map->n_pools, sizeof *pools);
    Limpet__Map__Pg *pgs = arena_alloc(arena, map->n_pgs, sizeof *pgs);
    Limpet__Map__Pg **pg_pointers = arena_pointers(arena, pgs, map->n_pgs, sizeof *pgs);
    if (arena->failed) {
        return;
    }
    for (int32_t i = 0; i < map->max_osd; i++) {
        if (map->osds[i].exists || map->osds[i].removed_at != 0) {
            write_osd(&osds[m->n_osds++], i, &map->osds[i]);
        }
    }
    m->osds = osd_pointers;
    for (uint32_t i = 0; i < map->n_pools; i++) {
        write_pool(arena, &pools[i], &map->pools[i]);
    }
    m->n_pools = map->n_pools;
    m->pools = pool_pointers;
    for (uint32_t i = 0; i < map->n_pgs; i++) {
        write_pg(&pgs[i], &map->pgs[i], false);
    }
    m->n_pgs = map->n_pgs;
    m->pgs = pg_pointers;
}

/* Packs the message unless memory for it was short. */
static int pack(const struct arena *arena, const ProtobufCMessage *m, struct encoder *e)
{
    if (arena->failed) {
        return -ENOMEM;
    }
    size_t len = protobuf_c_message_get_packed_size(m);
    if (len > MAP_ENCODED_MAX) {
        return -E2BIG;
    }
    uint8_t *out = encode_reserve(e, len);
    if (out == NULL) {
        return -ENOMEM;
    }
    (void)protobuf_c_message_pack(m, out);
    return 0;
}

int map_encode(const struct cluster_map *map, struct encoder *e)
{
    struct arena arena = {0};
    Limpet__Map__Map m = LIMPET__MAP__MAP__INIT;
    m.format = MAP_FORMAT;
    m.epoch = map->epoch;
    m.fsid = bytes_of(map->fsid.bytes, sizeof map->fsid.bytes);
    m.created_ns = map->created_ns;
    m.has_created_ns = map->created_ns != 0;
    m.modified_ns = map->modified_ns;
    m.has_modified_ns = map->modified_ns != 0;
    m.n_mons = map->n_mons;
    m.mons = write_mons(&arena, map->mons, map->n_mons);
    m.max_osd = (uint32_t)map->max_osd;
    m.crush = write_crush(&arena, map->crush);
    m.next_pool_id = map->next_pool_id;
    write_map_lists(&arena, map, &m);
    m.flags = map->flags;
    m.has_flags = map->flags != 0;
    m.features = map->features;
    m.has_features = map->features != 0;
    m.n_blocked = map->n_blocked;
    m.blocked = write_blocked(&arena, map->blocked, map->n_blocked);
    int result = pack(&arena, &m.base, e);
    arena_fini(&arena);
    return result;
}

static void write_increment_lists(struct arena *arena, const struct map_increment *inc,
                                  Limpet__Map__Increment *m)
{
    Limpet__Map__Osd *osds = arena_alloc(arena, inc->n_osds, sizeof *osds);
    Limpet__Map__Osd **osd_pointers = arena_pointers(arena, osds, inc->n_osds, sizeof *osds);
    Limpet__Map__Pool *pools = arena_alloc(arena, inc->n_pools, sizeof *pools);
    Limpet__Map__Pool **pool_pointers = arena_pointers(arena, pools, inc->n_pools, sizeof *pools);
    Limpet__Map__Pg *pgs = arena_alloc(arena, inc->n_pgs, sizeof *pgs);
    Limpet__Map__Pg **pg_pointers = arena_pointers(arena, pgs, inc->n_pgs, sizeof *pgs);
    uint64_t *removed = arena_alloc(arena, inc->n_pools, sizeof *removed);
    if (arena->failed) {
        return;
    }
    for (uint32_t i = 0; i < inc->n_osds; i++) {
        write_osd(&osds[i], inc->osds[i].id, &inc->osds[i].osd);
    }
    m->n_osds = inc->n_osds;
    m->osds = osd_pointers;
    for (uint32_t i = 0; i < inc->n_pools; i++) {
        if (inc->pools[i].removed) {
            removed[m->n_removed_pools++] = inc->pools[i].pool.id;
        } else {
            write_pool(arena, &pools[m->n_pools++], &inc->pools[i].pool);
        }
    }
    m->removed_pools = removed;
    m->pools = pool_pointers;
    for (uint32_t i = 0; i < inc->n_pgs; i++) {
        write_pg(&pgs[i], &inc->pgs[i].pg, inc->pgs[i].removed);
    }
    m->n_pgs = inc->n_pgs;
    m->pgs = pg_pointers;
}

int map_increment_encode(const struct map_increment *inc, struct encoder *e)
{
    struct arena arena = {0};
    Limpet__Map__Increment m = LIMPET__MAP__INCREMENT__INIT;
    m.format = MAP_FORMAT;
    m.epoch = inc->epoch;
    m.fsid = bytes_of(inc->fsid.bytes, sizeof inc->fsid.bytes);
    m.has_fsid = inc->has_fsid;
    m.modified_ns = inc->modified_ns;
    m.has_modified_ns = inc->modified_ns != 0;
    if (inc->has_mons) {
        m.n_mons = inc->n_mons;
        m.mons = write_mons(&arena, inc->mons, inc->n_mons);
    }
    if (inc->crush != NULL) {
        m.crush = write_crush(&arena, inc->crush);
    }
    write_increment_lists(&arena, inc, &m);
    m.flags = inc->flags;
    m.has_flags = inc->has_flags;
    if (inc->has_blocked) {
        m.has_blocked = m.has_has_blocked = true;
        m.n_blocked = inc->n_blocked;
        m.blocked = write_blocked(&arena, inc->blocked, inc->n_blocked);
    }
    int result = pack(&arena, &m.base, e);
    arena_fini(&arena);
    return result;
}
