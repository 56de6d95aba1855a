/*
 * Decoding maps and increments (placement/map.proto).
 *
 *  1. What is decoded has been checked like what was built here: nothing in it is out of its
 *     limits, whatever the bytes were.
 *  2. It takes memory in proportion to the input, but for the arrays indexed by OSD or bucket,
 *     which MAP_OSDS_MAX and CRUSH_BUCKETS_MAX bound.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "placement/crush_private.h"
#include "placement/map.pb-c.h"
#include "placement/map_private.h"

enum { MAP_FORMAT = 4 };

/* Copies a string that fits, with zeroes up to the end; false when it is too long. */
static bool read_text(char *out, size_t size, const char *text)
{
    size_t len = strlen(text);
    if (len >= size) {
        return false;
    }
    memcpy(out, text, len + 1);
    memset(out + len, 0, size - len);
    return true;
}

static bool read_uuid(struct uuid *out, ProtobufCBinaryData bytes)
{
    if (bytes.len != sizeof out->bytes) {
        return false;
    }
    memcpy(out->bytes, bytes.data, sizeof out->bytes);
    return true;
}

static bool read_address(struct net_address *out, ProtobufCBinaryData ip, uint32_t port)
{
    if ((ip.len != 4 && ip.len != 16) || port > UINT16_MAX) {
        return false;
    }
    out->family = ip.len == 4 ? 4 : 6;
    memcpy(out->ip, ip.data, ip.len);
    out->port = (uint16_t)port;
    return true;
}

static int read_mons(Limpet__Map__Mon *const *messages, size_t n, struct map_mon *out)
{
    if (n > MAP_MONS_MAX) {
        return -EBADMSG;
    }
    for (size_t i = 0; i < n; i++) {
        const Limpet__Map__Mon *m = messages[i];
        out[i].id = m->id;
        if (!read_text(out[i].name, sizeof out[i].name, m->name) ||
            (m->has_ip && !read_address(&out[i].address, m->ip, m->port))) {
            return -EBADMSG;
        }
    }
    return n == 0 || mons_valid(out, (uint32_t)n) ? 0 : -EBADMSG;
}

static int read_blocked(Limpet__Map__Blocked *const *messages, size_t n, struct map_blocked **out)
{
    if (n > MAP_BLOCKED_MAX) {
        return -EBADMSG;
    }
    *out = calloc(n + 1, sizeof **out);
    if (*out == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        const Limpet__Map__Blocked *m = messages[i];
        (*out)[i].instance = m->instance;
        (*out)[i].until_ns = m->until_ns;
        if (m->has_ip && !read_address(&(*out)[i].address, m->ip, 0)) {
            return -EBADMSG;
        }
    }
    return blocked_valid(*out, (uint32_t)n) ? 0 : -EBADMSG;
}

static int read_osd(const Limpet__Map__Osd *m, int32_t *id, struct map_osd *out)
{
    *out = (struct map_osd){0};
    if (m->id >= MAP_OSDS_MAX) {
        return -EBADMSG;
    }
    *id = (int32_t)m->id;
    if (m->removed) {
        out->removed_at = m->removed_at;
        return 0;
    }
    out->exists = true;
    out->up = m->up;
    out->weight = m->weight;
    out->instance = m->instance;
    out->up_from = m->up_from;
    out->created = m->created;
    out->down_at = m->down_at;
    out->ended = m->ended;
    out->auto_out = m->auto_out;
    out->bytes_total = m->bytes_total;
    if ((m->has_uuid && !read_uuid(&out->uuid, m->uuid)) ||
        (m->has_ip && !read_address(&out->address, m->ip, m->port)) ||
        (m->host != NULL && !read_text(out->host, sizeof out->host, m->host))) {
        return -EBADMSG;
    }
    return osd_valid(*id, out) ? 0 : -EBADMSG;
}

/* The caller lets go of it. */
static int read_snaps(const Limpet__Map__Pool *m, const struct map_snaps **out)
{
    *out = NULL;
    if (!m->has_snap_mode && !m->has_snap_seq && m->n_snaps == 0 && m->n_removed_snaps == 0 &&
        m->n_snap_trims == 0) {
        return 0;
    }
    if (m->snap_mode > SNAPS_SELF || m->n_snaps > SNAPS_NAMED_MAX || m->n_removed_snaps % 2 != 0 ||
        m->n_removed_snaps / 2 > SNAPS_REMOVED_MAX || m->n_snap_trims % 3 != 0 ||
        m->n_snap_trims / 3 > SNAPS_TRIMS_MAX) {
        return -EBADMSG;
    }
    struct map_snaps *snaps = snaps_create((uint32_t)m->n_snaps, (uint32_t)m->n_removed_snaps / 2,
                                           (uint32_t)m->n_snap_trims / 3);
    if (snaps == NULL) {
        return -ENOMEM;
    }
    snaps->mode = (uint8_t)m->snap_mode;
    snaps->seq = m->snap_seq;
    if (m->n_removed_snaps > 0) {
        memcpy(snaps->removed, m->removed_snaps, m->n_removed_snaps * sizeof(uint64_t));
    }
    if (m->n_snap_trims > 0) {
        memcpy(snaps->trims, m->snap_trims, m->n_snap_trims * sizeof(uint64_t));
    }
    for (uint32_t i = 0; i < snaps->n_named; i++) {
        snaps->named[i].id = m->snaps[i]->id;
        snaps->named[i].stamp_ns = m->snaps[i]->stamp_ns;
        if (!read_text(snaps->named[i].name, sizeof snaps->named[i].name, m->snaps[i]->name)) {
            snaps_unref(snaps);
            return -EBADMSG;
        }
    }
    *out = snaps;
    return 0;
}

/* The caller lets go of it. */
static int read_apps(const Limpet__Map__Pool *m, const struct map_apps **out)
{
    *out = NULL;
    if (m->n_apps == 0) {
        return 0;
    }
    if (m->n_apps % 3 != 0 || m->n_apps / 3 > APPS_LINES_MAX) {
        return -EBADMSG;
    }
    struct map_apps *apps = apps_create((uint32_t)(m->n_apps / 3));
    if (apps == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < apps->n; i++) {
        struct app_line *line = &apps->lines[i];
        char **texts = &m->apps[3 * (size_t)i];
        if (!read_text(line->app, sizeof line->app, texts[0]) ||
            !read_text(line->key, sizeof line->key, texts[1]) ||
            !read_text(line->value, sizeof line->value, texts[2])) {
            apps_unref(apps);
            return -EBADMSG;
        }
    }
    *out = apps;
    return 0;
}

/* The caller lets go of its snapshots and applications. */
static int read_pool(const Limpet__Map__Pool *m, struct map_pool *out)
{
    *out = (struct map_pool){0};
    if (m->type > UINT8_MAX || m->size > UINT8_MAX || m->min_size > UINT8_MAX) {
        return -EBADMSG;
    }
    *out = (struct map_pool){
        .id = m->id,
        .type = (uint8_t)m->type,
        .size = (uint8_t)m->size,
        .min_size = (uint8_t)m->min_size,
        .pg_num = m->pg_num,
        .crush_rule = m->crush_rule,
        .created = m->created,
        .config_base = m->config_base,
    };
    if (!read_text(out->name, sizeof out->name, m->name)) {
        return -EBADMSG;
    }
    int rc = read_snaps(m, &out->snaps);
    return rc == 0 ? read_apps(m, &out->apps) : rc;
}

static int read_pg(const Limpet__Map__Pg *m, struct map_pg *out)
{
    if (m->n_members > PG_SIZE_MAX) {
        return -EBADMSG;
    }
    *out = (struct map_pg){
        .pg = {.pool = m->pool, .seed = m->seed},
        .config = m->config,
        .n = (uint8_t)m->n_members,
    };
    for (size_t i = 0; i < m->n_members; i++) {
        if (m->members[i] > INT32_MAX) {
            return -EBADMSG;
        }
        out->members[i] = (int32_t)m->members[i];
    }
    return 0;
}

/* ---- CRUSH ---- */

static int read_types(const Limpet__Map__Crush *m, struct crush_map *out)
{
    if (m->n_types > CRUSH_TYPES_MAX) {
        return -EBADMSG;
    }
    out->n_types = (uint32_t)m->n_types;
    for (size_t i = 0; i < m->n_types; i++) {
        struct crush_type *type = &out->types[i];
        if (m->types[i]->id > UINT16_MAX ||
            !read_text(type->name, sizeof type->name, m->types[i]->name)) {
            return -EBADMSG;
        }
        type->id = (uint16_t)m->types[i]->id;
    }
    return 0;
}

static int read_bucket(const Limpet__Map__CrushBucket *m, struct crush_map *out)
{
    if (m->index >= out->n_buckets || out->buckets[m->index] != NULL || m->type > UINT16_MAX ||
        m->n_items != m->n_weights || m->n_items > CRUSH_BUCKET_ITEMS_MAX) {
        return -EBADMSG;
    }
    struct crush_bucket *bucket = crush_bucket_create((uint32_t)m->n_items);
    if (bucket == NULL) {
        return -ENOMEM;
    }
    out->buckets[m->index] = bucket;
    bucket->id = -1 - (int32_t)m->index;
    bucket->type = (uint16_t)m->type;
    uint64_t weight = 0;
    for (size_t i = 0; i < m->n_items; i++) {
        bucket->items[i] = m->items[i];
        bucket->weights[i] = m->weights[i];
        weight += m->weights[i];
    }
    bucket->weight = (uint32_t)weight;
    bool fits = weight <= UINT32_MAX && read_text(bucket->name, sizeof bucket->name, m->name);
    return fits ? 0 : -EBADMSG;
}

static int read_buckets(const Limpet__Map__Crush *m, struct crush_map *out)
{
    uint32_t n = 0;
    for (size_t i = 0; i < m->n_buckets; i++) {
        if (m->buckets[i]->index >= CRUSH_BUCKETS_MAX) {
            return -EBADMSG;
        }
        n = m->buckets[i]->index >= n ? m->buckets[i]->index + 1 : n;
    }
    out->buckets = crush_bucket_slots_create(n);
    if (out->buckets == NULL) {
        return -ENOMEM;
    }
    out->n_buckets = n;
    for (size_t i = 0; i < m->n_buckets; i++) {
        int error = read_bucket(m->buckets[i], out);
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

static int read_rules(const Limpet__Map__Crush *m, struct crush_map *out)
{
    if (m->n_rules > CRUSH_RULES_MAX) {
        return -EBADMSG;
    }
    out->rules = crush_rules_create((uint32_t)m->n_rules);
    if (out->rules == NULL) {
        return -ENOMEM;
    }
    out->n_rules = (uint32_t)m->n_rules;
    for (size_t i = 0; i < m->n_rules; i++) {
        const Limpet__Map__CrushRule *from = m->rules[i];
        struct crush_rule *rule = &out->rules[i];
        if (from->type > UINT8_MAX || from->n_steps > CRUSH_STEPS_MAX ||
            !read_text(rule->name, sizeof rule->name, from->name)) {
            return -EBADMSG;
        }
        rule->id = from->id;
        rule->type = (uint8_t)from->type;
        rule->n_steps = (uint32_t)from->n_steps;
        for (size_t k = 0; k < from->n_steps; k++) {
            const Limpet__Map__CrushStep *step = from->steps[k];
            rule->steps[k] =
                (struct crush_step){.op = step->op, .arg1 = step->arg1, .arg2 = step->arg2};
        }
    }
    return 0;
}

static int read_crush(const Limpet__Map__Crush *m, struct crush_map **result)
{
    if (m->max_devices > CRUSH_DEVICES_MAX || m->chooseleaf_descend_once > 1 ||
        m->chooseleaf_vary_r > CRUSH_VARY_R_MAX || m->chooseleaf_stable > 1) {
        return -EBADMSG;
    }
    struct crush_map *out = calloc(1, sizeof *out);
    if (out == NULL) {
        return -ENOMEM;
    }
    out->max_devices = (int32_t)m->max_devices;
    out->choose_total_tries = m->choose_total_tries;
    out->chooseleaf_descend_once = (uint8_t)m->chooseleaf_descend_once;
    out->chooseleaf_vary_r = (uint8_t)m->chooseleaf_vary_r;
    out->chooseleaf_stable = (uint8_t)m->chooseleaf_stable;
    int error = read_types(m, out);
    error = error != 0 ? error : read_buckets(m, out);
    error = error != 0 ? error : read_rules(m, out);
    error = error != 0 ? error : crush_check(out);
    if (error != 0) {
        crush_destroy(out);
        return error;
    }
    *result = out;
    return 0;
}

/* ---- The full map ---- */

static int read_map_osds(const Limpet__Map__Map *m, struct cluster_map *map)
{
    if (m->max_osd > MAP_OSDS_MAX) {
        return -EBADMSG;
    }
    int error = map_grow_osds(map, (int32_t)m->max_osd);
    int32_t last = -1;
    for (size_t i = 0; error == 0 && i < m->n_osds; i++) {
        int32_t id;
        struct map_osd osd;
        error = read_osd(m->osds[i], &id, &osd);
        bool known = osd.exists || osd.removed_at != 0;
        if (error == 0 &&
            (!known || osd.removed_at > map->epoch || id <= last || id >= map->max_osd)) {
            error = -EBADMSG;
        }
        if (error == 0) {
            map_put_osd(map, id, &osd);
            last = id;
        }
    }
    return error;
}

static int read_map_pools(const Limpet__Map__Map *m, struct cluster_map *map)
{
    if (m->n_pools > MAP_POOLS_MAX) {
        return -EBADMSG;
    }
    map->pools = calloc(m->n_pools + 1, sizeof *map->pools);
    if (map->pools == NULL) {
        return -ENOMEM;
    }
    map->n_pools = (uint32_t)m->n_pools;
    for (size_t i = 0; i < m->n_pools; i++) {
        int error = read_pool(m->pools[i], &map->pools[i]);
        if (error != 0) {
            return error;
        }
        if (map->pools[i].id >= m->next_pool_id) {
            return -EBADMSG;
        }
    }
    map->next_pool_id = m->next_pool_id;
    return pools_check(map->pools, map->n_pools, map->crush, map->epoch);
}

static int read_map_pgs(const Limpet__Map__Map *m, struct cluster_map *map)
{
    if (m->n_pgs > UINT32_MAX / 2) {
        return -EBADMSG;
    }
    map->pgs = calloc(m->n_pgs + 1, sizeof *map->pgs);
    if (map->pgs == NULL) {
        return -ENOMEM;
    }
    map->n_pgs = (uint32_t)m->n_pgs;
    for (size_t i = 0; i < m->n_pgs; i++) {
        struct map_pg *pg = &map->pgs[i];
        int error = read_pg(m->pgs[i], pg);
        if (error != 0) {
            return error;
        }
        if (!pg_valid(pg, map_pool(map, pg->pg.pool), map->max_osd, map->epoch) ||
            (i > 0 && pg_id_compare(map->pgs[i - 1].pg, pg->pg) >= 0)) {
            return -EBADMSG;
        }
    }
    return 0;
}

static int read_map(const Limpet__Map__Map *m, struct cluster_map *map)
{
    if (m->format != MAP_FORMAT || !read_uuid(&map->fsid, m->fsid) || m->next_pool_id == 0) {
        return -EBADMSG;
    }
    map->epoch = m->epoch;
    map->created_ns = m->created_ns;
    map->modified_ns = m->modified_ns;
    map->flags = m->flags;
    map->features = m->features;
    int error = read_mons(m->mons, m->n_mons, map->mons);
    map->n_mons = error == 0 ? (uint32_t)m->n_mons : 0;
    error = error != 0 ? error : read_map_osds(m, map);
    error = error != 0 ? error : read_crush(m->crush, &map->crush);
    error = error != 0 ? error : read_map_pools(m, map);
    error = error != 0 ? error : read_blocked(m->blocked, m->n_blocked, &map->blocked);
    map->n_blocked = error == 0 ? (uint32_t)m->n_blocked : 0;
    return error != 0 ? error : read_map_pgs(m, map);
}

int map_decode(const void *data, size_t len, struct cluster_map **out)
{
    if (len > MAP_ENCODED_MAX) {
        return -EBADMSG;
    }
    struct cluster_map *map = calloc(1, sizeof *map);
    if (map == NULL) {
        return -ENOMEM;
    }
    Limpet__Map__Map *m = limpet__map__map__unpack(NULL, len, data);
    int error = m != NULL ? read_map(m, map) : -EBADMSG;
    if (m != NULL) {
        limpet__map__map__free_unpacked(m, NULL);
    }
    if (error != 0) {
        map_destroy(map);
        return error;
    }
    *out = map;
    return 0;
}

/* ---- Increments ---- */

/* Takes the next of both lists, whichever is first. */
static int read_increment_pools(const Limpet__Map__Increment *m, struct map_increment *inc)
{
    if (m->n_pools > MAP_POOLS_MAX || m->n_removed_pools > MAP_POOLS_MAX) {
        return -EBADMSG;
    }
    size_t i = 0, k = 0;
    while (i < m->n_pools || k < m->n_removed_pools) {
        bool removed =
            i == m->n_pools || (k < m->n_removed_pools && m->removed_pools[k] < m->pools[i]->id);
        uint64_t id = removed ? m->removed_pools[k] : m->pools[i]->id;
        if (inc->n_pools > 0 && inc->pools[inc->n_pools - 1].pool.id >= id) {
            return -EBADMSG;
        }
        struct map_pool pool = {0};
        int error = removed ? 0 : read_pool(m->pools[i], &pool);
        if (error == 0) {
            error =
                removed ? map_increment_remove_pool(inc, id) : map_increment_set_pool(inc, &pool);
        }
        snaps_unref(pool.snaps);
        apps_unref(pool.apps);
        if (error != 0) {
            return error;
        }
        i += !removed;
        k += removed;
    }
    return 0;
}

/*
 * OSDs, pools and PGs must arrive in their order: what is out of it was not written by us, and
 * sorting it in would take quadratic time.
 */
static int read_increment_lists(const Limpet__Map__Increment *m, struct map_increment *inc)
{
    for (size_t i = 0; i < m->n_osds; i++) {
        int32_t id;
        struct map_osd osd;
        int error = read_osd(m->osds[i], &id, &osd);
        if (error == 0 && inc->n_osds > 0 && inc->osds[inc->n_osds - 1].id >= id) {
            error = -EBADMSG;
        }
        error = error != 0 ? error : map_increment_set_osd(inc, id, &osd);
        if (error != 0) {
            return error;
        }
    }
    for (size_t i = 0; i < m->n_pgs; i++) {
        struct map_pg pg;
        int error = read_pg(m->pgs[i], &pg);
        if (error == 0 && inc->n_pgs > 0 &&
            pg_id_compare(inc->pgs[inc->n_pgs - 1].pg.pg, pg.pg) >= 0) {
            error = -EBADMSG;
        }
        if (error == 0) {
            error = pg.n > 0 ? map_increment_set_pg(inc, &pg) : map_increment_remove_pg(inc, pg.pg);
        }
        if (error != 0) {
            return error;
        }
    }
    return read_increment_pools(m, inc);
}

static int read_increment(const Limpet__Map__Increment *m, struct map_increment *inc)
{
    if (m->format != MAP_FORMAT || (m->has_fsid && !read_uuid(&inc->fsid, m->fsid))) {
        return -EBADMSG;
    }
    inc->epoch = m->epoch;
    inc->has_fsid = m->has_fsid;
    inc->modified_ns = m->modified_ns;
    inc->has_flags = m->has_flags;
    inc->flags = m->flags;
    int error = read_mons(m->mons, m->n_mons, inc->mons);
    if (error == 0 && m->n_mons > 0) {
        inc->n_mons = (uint32_t)m->n_mons;
        inc->has_mons = true;
    }
    if (error == 0 && m->crush != NULL) {
        error = read_crush(m->crush, &inc->crush);
    }
    if (error == 0 && (m->has_has_blocked || m->n_blocked > 0)) {
        error = m->has_has_blocked && m->has_blocked
                    ? read_blocked(m->blocked, m->n_blocked, &inc->blocked)
                    : -EBADMSG;
        inc->n_blocked = (uint32_t)m->n_blocked;
        inc->has_blocked = true;
    }
    return error != 0 ? error : read_increment_lists(m, inc);
}

int map_increment_decode(const void *data, size_t len, struct map_increment **out)
{
    if (len > MAP_ENCODED_MAX) {
        return -EBADMSG;
    }
    struct map_increment *inc = map_increment_create(0);
    if (inc == NULL) {
        return -ENOMEM;
    }
    Limpet__Map__Increment *m = limpet__map__increment__unpack(NULL, len, data);
    int error = m != NULL ? read_increment(m, inc) : -EBADMSG;
    if (m != NULL) {
        limpet__map__increment__free_unpacked(m, NULL);
    }
    if (error != 0) {
        map_increment_destroy(inc);
        return error;
    }
    *out = inc;
    return 0;
}
