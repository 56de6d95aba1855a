#include "tests/sim/compare.h"

#include <inttypes.h>
#include <isa-l.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "osd/pg/pg_clients.h"
#include "placement/hash.h"

/* ---- The map ---- */

enum { IDS_TEXT_MAX = 8 * PG_SIZE_MAX };

static const char *ids_text(char text[IDS_TEXT_MAX], const int32_t *ids, uint8_t n)
{
    size_t len = 0;
    text[0] = '\0';
    for (uint8_t i = 0; i < n; i++)
        len += (size_t)snprintf(text + len, IDS_TEXT_MAX - len, i ? ",%d" : "%d", ids[i]);
    return text;
}

static bool pg_clean(const struct cluster_map *map, struct pg_id pg, char why[CLUSTER_WHY_MAX])
{
    struct pg_view view;
    char text[PG_ID_TEXT_MAX], members[IDS_TEXT_MAX], wanted[IDS_TEXT_MAX];
    if (map_pg_view(map, pg, &view) == 0 && view.clean)
        return true;
    snprintf(why, CLUSTER_WHY_MAX,
             "pg %s is not clean in map %" PRIu64 ": config=%" PRIu64
             " members=%s up=%u wanted=%s learners=%u primary=%d",
             pg_id_format(pg, text), map->epoch, view.config,
             ids_text(members, view.members, view.n_members), view.n_up,
             ids_text(wanted, view.wanted, view.n_wanted), view.n_learners, view.primary);
    return false;
}

bool compare_clean(struct cluster *cluster, char why[CLUSTER_WHY_MAX])
{
    const struct cluster_map *map = cluster_map_newest(cluster);
    if (!map) {
        snprintf(why, CLUSTER_WHY_MAX, "no monitor is up");
        return false;
    }
    for (uint32_t i = 0; i < cluster->options.n_osds; i++) {
        const struct map_osd *osd = map_osd(map, (int32_t)i);
        if (!osd || !osd->up || osd->weight != MAP_WEIGHT_ONE) {
            snprintf(why, CLUSTER_WHY_MAX, "osd.%u is not up and in in map %" PRIu64, i,
                     map->epoch);
            return false;
        }
    }
    for (uint32_t i = 0; i < map->n_pools; i++) {
        for (uint32_t seed = 0; seed < map->pools[i].pg_num; seed++) {
            struct pg_id pg = {.pool = map->pools[i].id, .seed = seed};
            if (!pg_clean(map, pg, why))
                return false;
        }
    }
    return true;
}

/* ---- Disks ---- */

struct objects {
    struct encoder lines; /* Of each object: everything that must be equal. */
    uint64_t n;
    uint64_t bytes;
    uint64_t clones;
};

struct logs {
    struct encoder entries; /* u64 sequence, u32 crc, of each. */
    struct encoder whole;   /* Of each: u32 length, all of it. */
    struct encoder records; /* What would be remembered of clients if the log ended at its head. */
    struct pg_clients clients;
    uint64_t n;
    struct wire_version base;
    struct wire_version head;
    struct pg_totals totals; /* At the head. */
    bool has_state;
    bool complete;
};

static void visit_object(void *ctx, const struct store_memory_object *object)
{
    struct objects *objects = ctx;
    struct encoder *e = &objects->lines;
    encode_object_id(e, object->id);
    encode_u64(e, object->size);
    encode_u32(e, object->data_crc);
    encode_u32(e, object->attrs_crc);
    encode_u32(e, object->omap_crc);
    encode_string16(e, object->info, object->info_len);
    objects->n++;
    objects->bytes += object->size;
    objects->clones += object->id->snap != OBJECT_HEAD;
}

static void take_entry(struct logs *logs, const void *value, uint32_t len)
{
    struct pg_entry_layout head;
    struct object_id object;
    if (pg_entry_parse(value, len, &head, &object) < 0)
        return;
    encode_u64(&logs->entries, head.version.sequence);
    encode_u32(&logs->entries, crc32_iscsi((unsigned char *)value, (int)len, 0));
    logs->n++;
    logs->head = head.version;
    logs->totals = head.totals;
    encode_string32(&logs->whole, value, len);
}

static void take_run(struct logs *logs, const void *value, uint32_t len)
{
    struct decoder d;
    decoder_init(&d, value, len);
    while (decoder_left(&d) > 0) {
        uint32_t entry_len;
        const void *entry = decode_string32(&d, &entry_len);
        if (d.failed)
            return;
        take_entry(logs, entry, entry_len);
    }
}

static void visit_pair(void *ctx, const uint8_t *key, uint16_t key_len, const uint8_t *value,
                       uint32_t len)
{
    struct logs *logs = ctx;
    uint64_t sequence, client;
    if (pg_numbered_key_parse(PG_KEY_RUN, key, key_len, &sequence) == 0) {
        take_run(logs, value, len);
    } else if (pg_numbered_key_parse(PG_KEY_LOG, key, key_len, &sequence) == 0) {
        take_entry(logs, value, len);
    } else if (pg_numbered_key_parse(PG_KEY_CLIENT, key, key_len, &client) == 0) {
        struct pg_client_layout head;
        if (pg_client_parse(value, len, &head) == 0 && pg_clients_load(&logs->clients, value, len))
            abort();
    } else if (key_len == 1 && key[0] == PG_KEY_STATE) {
        struct pg_state_layout state;
        if (pg_state_parse(value, len, &state) < 0)
            return;
        logs->has_state = true;
        logs->complete = state.complete;
        logs->base = state.base;
        logs->clients.forgotten_ns = state.forgotten_ns;
        if (logs->n == 0) {
            logs->head = state.base;
            logs->totals = state.totals;
        }
    }
}

/*
 * Logs reach back differently far, and records say what is true where they begin. When all entries
 * have left them, records must be the same (D1 in osd/pg/pg_clients.h). The first run may have
 * entries that have left the log.
 */
static void retire_all(struct logs *logs)
{
    const struct pg_client *client;
    struct decoder d;
    decoder_init(&d, logs->whole.data, logs->whole.len);
    while (decoder_left(&d) > 0) {
        union {
            struct pg_entry_layout head;
            uint8_t bytes[PG_ENTRY_MAX];
        } entry;
        uint32_t len;
        const void *value = decode_string32(&d, &len);
        memcpy(entry.bytes, value, len);
        if (entry.head.version.sequence <= logs->base.sequence)
            continue;
        if (pg_clients_add(&logs->clients, &entry.head) ||
            pg_clients_retire(&logs->clients, &entry.head))
            abort();
    }
    TAILQ_FOREACH(client, &logs->clients.kept, kept_link)
    {
        pg_client_encode(client, &logs->records);
    }
    encode_u64(&logs->records, logs->clients.forgotten_ns);
}

struct copy {
    struct objects objects;
    struct logs logs;
};

static void copy_load(struct copy *copy, const struct cluster *cluster, int32_t id,
                      const struct map_pool *pool, struct pg_id pg)
{
    const struct cluster_osd *osd = &cluster->osds[id];
    uint32_t first, last;
    memset(copy, 0, sizeof *copy);
    encoder_init(&copy->objects.lines);
    encoder_init(&copy->logs.entries);
    encoder_init(&copy->logs.whole);
    encoder_init(&copy->logs.records);
    pg_clients_init(&copy->logs.clients);
    if (cluster->options.pg_clients > 0)
        copy->logs.clients.limit = cluster->options.pg_clients;
    pg_hash_range(pg.seed, pool->pg_num, &first, &last);
    store_memory_visit_objects(osd->disk, pg.pool, first, last, visit_object, &copy->objects);
    store_memory_visit_pairs(osd->disk, pg, visit_pair, &copy->logs);
    retire_all(&copy->logs);
}

static void copy_fini(struct copy *copy)
{
    encoder_fini(&copy->objects.lines);
    encoder_fini(&copy->logs.entries);
    encoder_fini(&copy->logs.whole);
    encoder_fini(&copy->logs.records);
    pg_clients_fini(&copy->logs.clients);
}

/* Logs may reach back differently far. */
static bool logs_equal(const struct logs *a, const struct logs *b)
{
    if (a->n < b->n)
        return logs_equal(b, a);
    size_t skip = (size_t)(a->n - b->n) * 12;
    return version_equal(a->head, b->head) &&
           memcmp(&a->totals, &b->totals, sizeof a->totals) == 0 &&
           (b->n == 0 || memcmp(a->entries.data + skip, b->entries.data, b->entries.len) == 0);
}

static bool bytes_equal(const struct encoder *a, const struct encoder *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static bool objects_equal(const struct objects *a, const struct objects *b)
{
    return a->n == b->n && bytes_equal(&a->lines, &b->lines);
}

/* What is wrong with a copy, given the primary's; NULL when nothing is. */
static const char *copy_fault(const struct copy *primary, const struct copy *copy)
{
    const struct logs *logs = &copy->logs;
    if (!logs->has_state && logs->n == 0 && copy->objects.n == 0)
        return primary->objects.n == 0 && primary->logs.n == 0 ? NULL : "is empty";
    if (!logs->complete)
        return "is not complete";
    if (!objects_equal(&primary->objects, &copy->objects))
        return "has other objects than the primary";
    if (!logs_equal(&primary->logs, logs))
        return "has another log than the primary";
    if (!bytes_equal(&primary->logs.records, &logs->records))
        return "remembers of clients what the primary does not, or the other way round";
    if (logs->totals.objects != copy->objects.n || logs->totals.bytes != copy->objects.bytes ||
        logs->totals.clones != copy->objects.clones)
        return "has wrong totals in its log";
    return NULL;
}

static bool compare_pg(struct cluster *cluster, const struct cluster_map *map,
                       const struct map_pool *pool, struct pg_id pg, char why[CLUSTER_WHY_MAX])
{
    struct pg_view view;
    struct copy primary;
    bool equal = true;
    if (map_pg_view(map, pg, &view) < 0 || view.primary < 0)
        return false;
    copy_load(&primary, cluster, view.primary, pool, pg);
    for (uint32_t i = 0; i < cluster->options.n_osds && equal; i++) {
        struct copy copy;
        const char *fault;
        bool member = false;
        for (uint8_t j = 0; j < view.n_members; j++)
            member |= view.members[j] == (int32_t)i;
        copy_load(&copy, cluster, (int32_t)i, pool, pg);
        if (member)
            fault = copy_fault(&primary, &copy);
        else
            fault = copy.objects.n || copy.logs.n || copy.logs.has_state ? "is stray" : NULL;
        if (fault) {
            char text[PG_ID_TEXT_MAX];
            equal = false;
            snprintf(why, CLUSTER_WHY_MAX,
                     "copy of pg %s on osd.%u %s (osd.%d): %" PRIu64 " and %" PRIu64
                     " objects, heads %" PRIu64 ".%" PRIu64 " and %" PRIu64 ".%" PRIu64
                     ", totals %" PRIu64 "/%" PRIu64 " and %" PRIu64 "/%" PRIu64,
                     pg_id_format(pg, text), i, fault, view.primary, copy.objects.n,
                     primary.objects.n, copy.logs.head.config, copy.logs.head.sequence,
                     primary.logs.head.config, primary.logs.head.sequence, copy.logs.totals.objects,
                     copy.logs.totals.bytes, primary.logs.totals.objects,
                     primary.logs.totals.bytes);
        }
        copy_fini(&copy);
    }
    copy_fini(&primary);
    return equal;
}

bool compare_copies(struct cluster *cluster, char why[CLUSTER_WHY_MAX])
{
    const struct cluster_map *map = cluster_map_newest(cluster);
    snprintf(why, CLUSTER_WHY_MAX, "there is no map or no primary");
    if (!map)
        return false;
    for (uint32_t i = 0; i < map->n_pools; i++) {
        for (uint32_t seed = 0; seed < map->pools[i].pg_num; seed++) {
            struct pg_id pg = {.pool = map->pools[i].id, .seed = seed};
            if (!compare_pg(cluster, map, &map->pools[i], pg, why))
                return false;
        }
    }
    return true;
}
