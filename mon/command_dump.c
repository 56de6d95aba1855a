/* The map as it is: pools, OSDs, and where an object is. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "mon/command.h"
#include "placement/hash.h"

/* ---- A pool ---- */

/* Bits of a pool's "flags", as Ceph's tools know them. */
enum { POOL_FLAG_HASHPSPOOL = 1, POOL_FLAG_SELF_SNAPS = 1 << 13, POOL_FLAG_POOL_SNAPS = 1 << 14 };

static void add_flags(json_t *value, const struct map_pool *pool)
{
    uint8_t mode = pool->snaps != NULL ? pool->snaps->mode : SNAPS_NONE;
    int flags = POOL_FLAG_HASHPSPOOL;
    char names[64];

    if (mode == SNAPS_SELF)
        flags |= POOL_FLAG_SELF_SNAPS;
    if (mode == SNAPS_POOL)
        flags |= POOL_FLAG_POOL_SNAPS;
    snprintf(names, sizeof names, "hashpspool%s",
             mode == SNAPS_SELF   ? ",selfmanaged_snaps"
             : mode == SNAPS_POOL ? ",pool_snaps"
                                  : "");
    json_object_set_new(value, "flags", json_integer(flags));
    json_object_set_new(value, "flags_names", json_string(names));
}

static void add_snaps(json_t *value, const struct map_snaps *snaps)
{
    json_t *list = json_array();
    bool pool = snaps != NULL && snaps->mode == SNAPS_POOL;
    char stamp[STAMP_TEXT_MAX];

    for (uint32_t i = 0; snaps != NULL && i < snaps->n_named; i++) {
        const struct snap_named *named = &snaps->named[i];
        json_array_append_new(list,
                              json_pack("{s:I, s:s, s:s}", "snapid", (json_int_t)named->id, "stamp",
                                        format_stamp(named->stamp_ns, stamp), "name", named->name));
    }
    json_object_set_new(value, "snap_mode", json_string(pool ? "pool" : "selfmanaged"));
    json_object_set_new(value, "snap_seq",
                        json_integer(snaps != NULL ? (json_int_t)snaps->seq : 0));
    json_object_set_new(value, "pool_snaps", list);
}

/* What pools here never have: tiers, quotas, erasure codes, other numbers of groups to come. */
static void add_constants(json_t *value, const struct map_pool *pool)
{
    static const char *const groups[] = {"pg_placement_num", "pg_placement_num_target",
                                         "pg_num_target", "pg_num_pending"};
    static const char *const zeros[] = {"auid", "quota_max_bytes", "quota_max_objects",
                                        "stripe_width", "expected_num_objects"};
    static const char *const tiers[] = {"tier_of", "read_tier", "write_tier"};

    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        json_object_set_new(value, groups[i], json_integer(pool->pg_num));
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++)
        json_object_set_new(value, zeros[i], json_integer(0));
    for (size_t i = 0; i < sizeof tiers / sizeof tiers[0]; i++)
        json_object_set_new(value, tiers[i], json_integer(-1));
    json_object_set_new(value, "tiers", json_array());
    json_object_set_new(value, "cache_mode", json_string("none"));
    json_object_set_new(value, "erasure_code_profile", json_string(""));
    json_object_set_new(value, "pg_autoscale_mode", json_string("off"));
    json_object_set_new(value, "fast_read", json_false());
    json_object_set_new(value, "options", json_object());
}

json_t *pool_json(const struct command_call *call, const struct map_pool *pool, const char *number)
{
    enum { HASH_RJENKINS = 2 };
    const struct crush_rule *rule = crush_rule(call->map->crush, pool->crush_rule);
    json_t *value =
        json_pack("{s:I, s:s, s:i, s:i, s:i, s:I, s:s, s:I, s:i, s:I, s:I, s:o}", number,
                  (json_int_t)pool->id, "pool_name", pool->name, "type", (int)pool->type, "size",
                  (int)pool->size, "min_size", (int)pool->min_size, "crush_rule",
                  (json_int_t)pool->crush_rule, "crush_rule_name", rule != NULL ? rule->name : "?",
                  "pg_num", (json_int_t)pool->pg_num, "object_hash", HASH_RJENKINS, "create_epoch",
                  (json_int_t)pool->created, "config_base", (json_int_t)pool->config_base,
                  "application_metadata", command_apps_json(pool->apps));

    add_flags(value, pool);
    add_snaps(value, pool->snaps);
    add_constants(value, pool);
    return value;
}

/* ---- The dump ---- */

/* An OSD has one address, for everything. */
static void add_addresses(json_t *value, const struct map_osd *osd)
{
    static const char *const one[] = {"public_addr", "cluster_addr", "heartbeat_back_addr",
                                      "heartbeat_front_addr"};
    static const char *const several[] = {"public_addrs", "cluster_addrs", "heartbeat_back_addrs",
                                          "heartbeat_front_addrs"};
    char address[NET_ADDRESS_TEXT_MAX];

    net_address_format(&osd->address, address);
    for (size_t i = 0; i < sizeof one / sizeof one[0]; i++) {
        json_object_set_new(value, one[i], json_string(address));
        json_object_set_new(value, several[i], addresses_json(&osd->address, osd->instance));
    }
}

static json_t *osd_json(int32_t id, const struct map_osd *osd)
{
    char uuid[UUID_TEXT_MAX];
    json_t *state = json_pack("[s]", "exists");

    if (osd->up)
        json_array_append_new(state, json_string("up"));
    json_t *value = json_pack(
        "{s:i, s:s, s:i, s:i, s:f, s:f, s:I, s:I, s:s, s:o}", "osd", (int)id, "uuid",
        uuid_format(&osd->uuid, uuid), "up", (int)osd->up, "in", (int)(osd->weight > 0), "weight",
        weight_number(osd->weight), "primary_affinity", 1.0, "up_from", (json_int_t)osd->up_from,
        "down_at", (json_int_t)osd->down_at, "host", osd->host, "state", state);
    add_addresses(value, osd);
    return value;
}

static json_t *pg_entry_json(const struct map_pg *pg)
{
    json_t *members = json_array();
    char id[PG_ID_TEXT_MAX];

    for (uint8_t i = 0; i < pg->n; i++)
        json_array_append_new(members, json_integer(pg->members[i]));
    return json_pack("{s:s, s:I, s:o}", "pgid", pg_id_format(pg->pg, id), "config",
                     (json_int_t)pg->config, "members", members);
}

static void add_map_flags(json_t *value, uint32_t flags)
{
    json_t *set = json_array();
    char text[128] = "";

    for (size_t i = 0; command_flags[i].name != NULL; i++) {
        if ((flags & command_flags[i].flag) == 0)
            continue;
        size_t len = strlen(text);
        snprintf(text + len, sizeof text - len, "%s%s", len > 0 ? "," : "", command_flags[i].name);
        json_array_append_new(set, json_string(command_flags[i].name));
    }
    json_object_set_new(value, "flags", json_string(text));
    json_object_set_new(value, "flags_num", json_integer(flags));
    json_object_set_new(value, "flags_set", set);
}

static void add_stamps(const struct command_call *call, json_t *value)
{
    const struct leader *leader = call->leader;
    char text[STAMP_TEXT_MAX];

    json_object_set_new(value, "created", json_string(format_stamp(call->map->created_ns, text)));
    json_object_set_new(value, "modified", json_string(format_stamp(call->map->modified_ns, text)));
    json_object_set_new(value, "last_up_change",
                        json_string(format_stamp(call_wall(call, leader->up_ns), text)));
    json_object_set_new(value, "last_in_change",
                        json_string(format_stamp(call_wall(call, leader->in_ns), text)));
}

static void add_blocklist(json_t *value, const struct cluster_map *map)
{
    json_t *blocked = json_object();
    char address[BLOCKED_TEXT_MAX], until[STAMP_TEXT_MAX];

    for (uint32_t i = 0; i < map->n_blocked; i++)
        json_object_set_new(blocked, format_blocked(&map->blocked[i], address),
                            json_string(format_stamp(map->blocked[i].until_ns, until)));
    json_object_set_new(value, "blocklist", blocked);
}

/* What there never is here. */
static void add_map_constants(json_t *value)
{
    static const char *const lists[] = {"pg_upmap", "pg_upmap_items", "primary_temp"};
    static const char *const objects[] = {"range_blocklist", "erasure_code_profiles",
                                          "crush_node_flags", "device_class_flags"};

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        json_object_set_new(value, lists[i], json_array());
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++)
        json_object_set_new(value, objects[i], json_object());
    json_object_set_new(value, "cluster_snapshot", json_string(""));
    json_object_set_new(value, "stretch_mode", json_pack("{s:b}", "stretch_mode_enabled", 0));
}

static int dump_json(struct command_call *call)
{
    const struct cluster_map *map = call->map;
    json_t *osds = json_array();
    json_t *pools = json_array();
    json_t *pgs = json_array();
    char fsid[UUID_TEXT_MAX];

    for (int32_t id = 0; id < map->max_osd; id++) {
        const struct map_osd *osd = map_osd(map, id);
        if (osd != NULL)
            json_array_append_new(osds, osd_json(id, osd));
    }
    for (uint32_t i = 0; i < map->n_pools; i++)
        json_array_append_new(pools, pool_json(call, &map->pools[i], "pool"));
    for (uint32_t i = 0; i < map->n_pgs; i++)
        json_array_append_new(pgs, pg_entry_json(&map->pgs[i]));
    json_t *value = json_pack(
        "{s:I, s:s, s:I, s:I, s:f, s:f, s:o, s:o, s:o}", "epoch", (json_int_t)map->epoch, "fsid",
        uuid_format(&map->fsid, fsid), "pool_max", (json_int_t)map->next_pool_id - 1, "max_osd",
        (json_int_t)map->max_osd, "full_ratio", call->mon->options.full_ratio, "nearfull_ratio",
        call->mon->options.nearfull_ratio, "pools", pools, "osds", osds, "pgs", pgs);
    add_stamps(call, value);
    add_map_flags(value, map->flags);
    add_blocklist(value, map);
    add_map_constants(value);
    return call_json(call, value);
}

static int run_dump(struct command_call *call)
{
    const struct cluster_map *map = call->map;
    char text[UUID_TEXT_MAX];
    char address[NET_ADDRESS_TEXT_MAX];

    if (call->json)
        return dump_json(call);
    call_print(call, "epoch %" PRIu64 "\nfsid %s\nflags %#x\nmax_osd %d\n", map->epoch,
               uuid_format(&map->fsid, text), map->flags, map->max_osd);
    for (uint32_t i = 0; i < map->n_pools; i++) {
        const struct map_pool *pool = &map->pools[i];
        call_print(call,
                   "pool %" PRIu64 " '%s' size %u min_size %u crush_rule %u pg_num %u "
                   "config_base %" PRIu64 "\n",
                   pool->id, pool->name, pool->size, pool->min_size, pool->crush_rule, pool->pg_num,
                   pool->config_base);
    }
    for (int32_t id = 0; id < map->max_osd; id++) {
        const struct map_osd *osd = map_osd(map, id);
        if (osd != NULL)
            call_print(call,
                       "osd.%d %-4s %-3s weight %g up_from %" PRIu64 " down_at %" PRIu64 " %s %s\n",
                       id, osd->up ? "up" : "down", osd->weight > 0 ? "in" : "out",
                       weight_number(osd->weight), osd->up_from, osd->down_at,
                       net_address_format(&osd->address, address), uuid_format(&osd->uuid, text));
    }
    call_print(call, "%u pgs with an entry\n", map->n_pgs);
    return 0;
}

/* ---- Where an object is ---- */

static json_t *ids_json(const int32_t *ids, uint8_t n)
{
    json_t *list = json_array();

    for (uint8_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static void print_ids(struct command_call *call, const char *what, const int32_t *ids, uint8_t n,
                      int32_t first)
{
    call_print(call, " %s ([", what);
    for (uint8_t i = 0; i < n; i++)
        call_print(call, "%s%d", i > 0 ? "," : "", ids[i]);
    call_print(call, "], p%d)", first);
}

static int run_map(struct command_call *call)
{
    int rc;
    const struct map_pool *pool = call_pool(call, "pool", &rc);
    const char *object = pool != NULL ? call_need(call, "object") : NULL;
    const char *space = call_text(call, "nspace");
    struct pg_view view = {0};
    char group[PG_ID_TEXT_MAX], raw[PG_ID_TEXT_MAX];
    char name[OBJECT_NAMESPACE_MAX + 1 + OBJECT_NAME_MAX + 1];

    if (pool == NULL)
        return rc;
    if (object == NULL)
        return -EINVAL;
    space = space != NULL ? space : "";
    if (object[0] == '\0' || strlen(object) > OBJECT_NAME_MAX ||
        strlen(space) > OBJECT_NAMESPACE_MAX)
        return call_say(call, -EINVAL,
                        "an object's name has 1 to %d bytes, and a namespace's at most %d",
                        OBJECT_NAME_MAX, OBJECT_NAMESPACE_MAX);
    uint32_t hash = hash_object(space, strlen(space), object, strlen(object));
    struct pg_id pg = map_object_pg(pool, hash);
    rc = map_pg_view(call->map, pg, &view);
    if (rc != 0)
        return rc;
    snprintf(name, sizeof name, "%s%s%s", space, space[0] != '\0' ? "/" : "", object);
    pg_id_format(pg, group);
    pg_id_format((struct pg_id){.pool = pool->id, .seed = hash}, raw);
    int32_t up_primary = view.n_wanted > 0 ? view.wanted[0] : -1;
    if (call->json)
        return call_json(
            call,
            json_pack("{s:I, s:s, s:I, s:s, s:s, s:s, s:o, s:i, s:o, s:i}", "epoch",
                      (json_int_t)call->map->epoch, "pool", pool->name, "pool_id",
                      (json_int_t)pool->id, "objname", name, "raw_pgid", raw, "pgid", group, "up",
                      ids_json(view.wanted, view.n_wanted), "up_primary", (int)up_primary, "acting",
                      ids_json(view.members, view.n_members), "acting_primary", (int)view.primary));
    call_print(call, "osdmap e%" PRIu64 " pool '%s' (%" PRIu64 ") object '%s' -> pg %s (%s) ->",
               call->map->epoch, pool->name, pool->id, name, raw, group);
    print_ids(call, "up", view.wanted, view.n_wanted, up_primary);
    print_ids(call, "acting", view.members, view.n_members, view.primary);
    call_print(call, "\n");
    return 0;
}

const struct command commands_dump[] = {
    {"osd dump", CAP_READ, false, run_dump, "", "the map of the OSDs, pools and exceptions"},
    {"osd map", CAP_READ, false, run_map, "pool object [nspace]",
     "the placement group of an object, there or not, and its OSDs"},
    {0},
};
