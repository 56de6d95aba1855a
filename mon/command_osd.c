/* Commands about OSDs. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mon/command.h"

/* ---- Reading ---- */

static double weight_number(uint32_t weight)
{
    return (double)weight / MAP_WEIGHT_ONE;
}

static json_t *pool_json(const struct map_pool *pool)
{
    return json_pack("{s:I, s:s, s:i, s:i, s:i, s:I, s:I, s:I, s:I}", "pool", (json_int_t)pool->id,
                     "pool_name", pool->name, "type", (int)pool->type, "size", (int)pool->size,
                     "min_size", (int)pool->min_size, "pg_num", (json_int_t)pool->pg_num,
                     "crush_rule", (json_int_t)pool->crush_rule, "create_epoch",
                     (json_int_t)pool->created, "config_base", (json_int_t)pool->config_base);
}

static json_t *osd_json(int32_t id, const struct map_osd *osd)
{
    char uuid[UUID_TEXT_MAX];
    char address[NET_ADDRESS_TEXT_MAX];

    return json_pack("{s:i, s:s, s:i, s:i, s:f, s:I, s:I, s:s, s:s}", "osd", (int)id, "uuid",
                     uuid_format(&osd->uuid, uuid), "up", (int)osd->up, "in",
                     (int)(osd->weight > 0), "weight", weight_number(osd->weight), "up_from",
                     (json_int_t)osd->up_from, "down_at", (json_int_t)osd->down_at, "public_addr",
                     net_address_format(&osd->address, address), "host", osd->host);
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
        json_array_append_new(pools, pool_json(&map->pools[i]));
    for (uint32_t i = 0; i < map->n_pgs; i++)
        json_array_append_new(pgs, pg_entry_json(&map->pgs[i]));
    return call_json(call,
                     json_pack("{s:I, s:s, s:I, s:I, s:o, s:o, s:o}", "epoch",
                               (json_int_t)map->epoch, "fsid", uuid_format(&map->fsid, fsid),
                               "flags", (json_int_t)map->flags, "max_osd", (json_int_t)map->max_osd,
                               "pools", pools, "osds", osds, "pgs", pgs));
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

static int run_stat(struct command_call *call)
{
    uint32_t n = 0;
    uint32_t up = 0;
    uint32_t in = 0;

    for (int32_t id = 0; id < call->map->max_osd; id++) {
        const struct map_osd *osd = map_osd(call->map, id);
        n += osd != NULL;
        up += osd != NULL && osd->up;
        in += osd != NULL && osd->weight > 0;
    }
    if (call->json)
        return call_json(call,
                         json_pack("{s:I, s:I, s:I, s:I}", "epoch", (json_int_t)call->map->epoch,
                                   "num_osds", (json_int_t)n, "num_up_osds", (json_int_t)up,
                                   "num_in_osds", (json_int_t)in));
    call_print(call, "%u osds: %u up, %u in; epoch: e%" PRIu64 "\n", n, up, in, call->map->epoch);
    return 0;
}

static int run_ls(struct command_call *call)
{
    json_t *list = json_array();

    for (int32_t id = 0; id < call->map->max_osd; id++) {
        if (map_osd(call->map, id) == NULL)
            continue;
        json_array_append_new(list, json_integer(id));
        if (!call->json)
            call_print(call, "%d\n", id);
    }
    if (call->json)
        return call_json(call, list);
    json_decref(list);
    return 0;
}

static int run_getmap(struct command_call *call)
{
    uint64_t epoch = 0;
    struct buf_slice full;

    int rc = call_number(call, "epoch", &epoch);
    if (rc == -EINVAL)
        return rc;
    if (rc == 0 && epoch != 0 && epoch != call->map->epoch)
        return call_say(call, -ENOENT, "only the present map (epoch %" PRIu64 ") is kept whole",
                        call->map->epoch);
    rc = publish_full(call->mon, &full);
    if (rc != 0)
        return rc;
    encode_bytes(&call->request->output, full.data, full.len);
    buf_slice_drop(&full);
    return call_say(call, 0, "got osdmap epoch %" PRIu64, call->map->epoch);
}

/* ---- The tree ---- */

enum { TREE_DEPTH_MAX = CRUSH_DEPTH_MAX + 1 };

static void tree_osd(struct command_call *call, json_t *nodes, int32_t id, double crush_weight,
                     unsigned depth)
{
    const struct map_osd *osd = map_osd(call->map, id);
    const char *status = osd == NULL ? "DNE" : osd->up ? "up" : "down";
    double reweight = osd != NULL ? weight_number(osd->weight) : 0;
    char name[32];

    snprintf(name, sizeof name, "osd.%d", id);
    if (nodes != NULL) {
        json_array_append_new(nodes, json_pack("{s:i, s:s, s:s, s:i, s:f, s:i, s:i, s:s, s:f}",
                                               "id", (int)id, "name", name, "type", "osd",
                                               "type_id", 0, "crush_weight", crush_weight, "depth",
                                               (int)depth, "exists", (int)(osd != NULL), "status",
                                               status, "reweight", reweight));
        return;
    }
    call_print(call, "%3d  %10.5f  %*s%-*s  %6s  %8.5f\n", id, crush_weight, (int)depth * 4, "",
               24 - (int)depth * 4, name, status, reweight);
}

struct tree_item {
    int32_t id;
    uint32_t weight;
};

/* OSDs by their numbers, then buckets, whose numbers count downwards. */
static int by_number(const void *a, const void *b)
{
    int64_t left = ((const struct tree_item *)a)->id;
    int64_t right = ((const struct tree_item *)b)->id;

    left = left >= 0 ? left : INT32_MAX - left;
    right = right >= 0 ? right : INT32_MAX - right;
    return (left > right) - (left < right);
}

/* A bucket has its items in the order in which they joined; who reads a list looks for a number. */
static struct tree_item *tree_items(const struct crush_bucket *bucket)
{
    struct tree_item *items = calloc(bucket->n_items + 1, sizeof *items);

    for (uint32_t i = 0; items != NULL && i < bucket->n_items; i++)
        items[i] = (struct tree_item){bucket->items[i], bucket->weights[i]};
    if (items != NULL)
        qsort(items, bucket->n_items, sizeof *items, by_number);
    return items;
}

static void tree_bucket_line(struct command_call *call, json_t *nodes,
                             const struct crush_bucket *bucket, const struct tree_item *items,
                             unsigned depth)
{
    const char *type = crush_type_name(call->map->crush, bucket->type);
    double weight = weight_number(bucket->weight);

    if (nodes == NULL) {
        call_print(call, "%3d  %10.5f  %*s%s %s\n", bucket->id, weight, (int)depth * 4, "",
                   type != NULL ? type : "?", bucket->name);
        return;
    }
    json_t *children = json_array();
    for (uint32_t i = 0; i < bucket->n_items; i++)
        json_array_append_new(children, json_integer(items[i].id));
    json_array_append_new(nodes,
                          json_pack("{s:i, s:s, s:s, s:i, s:f, s:i, s:o}", "id", (int)bucket->id,
                                    "name", bucket->name, "type", type != NULL ? type : "",
                                    "type_id", (int)bucket->type, "crush_weight", weight, "depth",
                                    (int)depth, "children", children));
}

static void tree_bucket(struct command_call *call, json_t *nodes, int32_t id, unsigned depth)
{
    const struct crush_bucket *bucket = crush_bucket(call->map->crush, id);
    struct tree_item *items = bucket != NULL && depth < TREE_DEPTH_MAX ? tree_items(bucket) : NULL;

    if (items == NULL)
        return;
    tree_bucket_line(call, nodes, bucket, items, depth);
    for (uint32_t i = 0; i < bucket->n_items; i++) {
        if (items[i].id >= 0)
            tree_osd(call, nodes, items[i].id, weight_number(items[i].weight), depth + 1);
        else
            tree_bucket(call, nodes, items[i].id, depth + 1);
    }
    free(items);
}

static int run_tree(struct command_call *call)
{
    const struct crush_map *crush = call->map->crush;
    json_t *nodes = call->json ? json_array() : NULL;
    json_t *stray = call->json ? json_array() : NULL;

    if (!call->json)
        call_print(call, "%3s  %10s  %-24s  %6s  %8s\n", "ID", "WEIGHT", "TYPE NAME", "STATUS",
                   "REWEIGHT");
    for (uint32_t i = 0; i < crush->n_buckets; i++) {
        const struct crush_bucket *bucket = crush->buckets[i];
        if (bucket != NULL && crush_parent(crush, bucket->id) == NULL)
            tree_bucket(call, nodes, bucket->id, 0);
    }
    for (int32_t id = 0; id < call->map->max_osd; id++) {
        if (map_osd(call->map, id) != NULL && crush_parent(crush, id) == NULL)
            tree_osd(call, call->json ? stray : NULL, id, 0, 0);
    }
    return call->json ? call_json(call, json_pack("{s:o, s:o}", "nodes", nodes, "stray", stray))
                      : 0;
}

static int run_df(struct command_call *call)
{
    json_t *nodes = json_array();
    char a[32];
    char b[32];
    char c[32];

    if (!call->json)
        call_print(call, "%3s  %8s  %10s  %10s  %10s  %6s  %6s\n", "ID", "REWEIGHT", "SIZE", "USE",
                   "AVAIL", "%USE", "STATUS");
    for (int32_t id = 0; id < call->map->max_osd; id++) {
        const struct map_osd *osd = map_osd(call->map, id);
        const struct osd_stat *stat = stats_osd(call->mon->stats, call->map, id);
        if (osd == NULL)
            continue;
        double total = stat != NULL ? (double)stat->bytes_total : (double)osd->bytes_total;
        double used = stat != NULL ? (double)stat->bytes_used : 0;
        double percent = total > 0 ? 100 * used / total : 0;
        if (call->json)
            json_array_append_new(
                nodes, json_pack("{s:i, s:f, s:I, s:I, s:I, s:f, s:s}", "id", (int)id, "reweight",
                                 weight_number(osd->weight), "kb", (json_int_t)(total / 1024),
                                 "kb_used", (json_int_t)(used / 1024), "kb_avail",
                                 (json_int_t)((total - used) / 1024), "utilization", percent,
                                 "status", osd->up ? "up" : "down"));
        else
            call_print(call, "%3d  %8.5f  %10s  %10s  %10s  %6.2f  %6s\n", id,
                       weight_number(osd->weight), format_bytes(total, a), format_bytes(used, b),
                       format_bytes(total - used, c), percent, osd->up ? "up" : "down");
    }
    if (call->json)
        return call_json(call, json_pack("{s:o}", "nodes", nodes));
    json_decref(nodes);
    return 0;
}

/* ---- Changing ---- */

/* Runs `act` for each OSD that argument "ids" (or "id") names. */
static int each_osd(struct command_call *call, int (*act)(struct command_call *call, int32_t id),
                    const char *done)
{
    const json_t *ids = json_object_get(call->args, "ids");
    json_t *list = json_array();
    char named[256] = "";
    int rc = 0;

    if (ids == NULL)
        ids = json_object_get(call->args, "id");
    if (json_is_array(ids))
        json_array_extend(list, (json_t *)(uintptr_t)ids);
    else if (ids != NULL)
        json_array_append(list, (json_t *)(uintptr_t)ids);
    if (json_array_size(list) == 0)
        rc = call_say(call, -EINVAL, "argument \"ids\" is missing: which OSDs?");
    for (size_t i = 0; i < json_array_size(list) && rc == 0; i++) {
        const json_t *value = json_array_get(list, i);
        char text[32];
        int32_t id;
        snprintf(text, sizeof text, "%s", json_string_value(value) ? json_string_value(value) : "");
        if (json_is_integer(value))
            snprintf(text, sizeof text, "%" PRId64, (int64_t)json_integer_value(value));
        rc = call_osd_id(call, text, &id);
        if (rc == 0)
            rc = act(call, id);
        if (rc == -ENOENT)
            call_say(call, rc, "osd.%d does not exist: see limpet osd tree", id);
        size_t len = strlen(named);
        snprintf(named + len, sizeof named - len, "%sosd.%d", len > 0 ? ", " : "", id);
    }
    json_decref(list);
    return rc == 0 ? call_say(call, 0, "%s %s", done, named) : rc;
}

static int act_down(struct command_call *call, int32_t id)
{
    return machine_osd_down(call->batch->change, id, false);
}

static int run_down(struct command_call *call)
{
    return each_osd(call, act_down, "marked down");
}

static int act_out(struct command_call *call, int32_t id)
{
    return machine_osd_out(call->batch->change, id, false);
}

static int run_out(struct command_call *call)
{
    return each_osd(call, act_out, "marked out");
}

static int act_in(struct command_call *call, int32_t id)
{
    return machine_osd_in(call->batch->change, id);
}

static int run_in(struct command_call *call)
{
    return each_osd(call, act_in, "marked in");
}

static bool was_just_up(struct command_call *call, int32_t id)
{
    const struct map_osd *osd = map_osd(call->map, id);
    const struct osd_watch *watch = leader_watch(call->leader, id);
    return osd != NULL && !osd->up && watch != NULL && watch->down_since_ns != 0 &&
           env_now(call->mon->env) - watch->down_since_ns < OSD_FORGET_NS;
}

static int act_remove(struct command_call *call, int32_t id)
{
    bool force = call_flag(call, "yes_i_really_mean_it") || call_flag(call, "force");
    if (force && !call_flag(call, "dry_run") && was_just_up(call, id))
        return call_say(call, -EAGAIN, "osd.%d was up a moment ago: wait two seconds", id);
    int rc = machine_osd_remove(call->batch->change, id, force);

    if (rc == -EBUSY)
        call_say(call, rc, "osd.%d is up: stop it first", id);
    else if (rc == -ENOTEMPTY)
        call_say(
            call, rc,
            "placement groups still count on the data of osd.%d: limpet osd drain %d --wait moves "
            "them, once it runs again; or, if its data are lost, add --yes-i-really-mean-it",
            id, id);
    return rc == -ENOENT ? 0 : rc;
}

static int run_remove(struct command_call *call)
{
    return each_osd(call, act_remove, "removed");
}

static int run_reweight(struct command_call *call)
{
    const json_t *value = json_object_get(call->args, "weight");
    const char *text = json_string_value(value);
    uint64_t id;
    double weight = -1;

    int rc = call_number(call, "id", &id);
    if (rc != 0)
        return call_say(call, -EINVAL, "argument \"id\" must be the number of an OSD");
    if (json_is_number(value)) {
        weight = json_number_value(value);
    } else if (text != NULL) {
        char *end;
        weight = strtod(text, &end);
        if (*end != '\0' || end == text)
            weight = -1;
    }
    if (!(weight >= 0 && weight <= 1) || id >= MAP_OSDS_MAX)
        return call_say(call, -EINVAL, "argument \"weight\" must be a number from 0 to 1");
    uint32_t fixed = (uint32_t)lround(weight * MAP_WEIGHT_ONE);
    rc = machine_osd_reweight(call->batch->change, (int32_t)id, fixed);
    if (rc == -ENOENT)
        return call_say(call, rc, "osd.%d does not exist: see limpet osd tree", (int)id);
    return rc == 0 ? call_say(call, 0, "reweighted osd.%d to %g", (int)id, weight) : rc;
}

const struct command_flag command_flags[] = {{"pause", MAP_PAUSE},
                                             {"noup", MAP_NOUP},
                                             {"nodown", MAP_NODOWN},
                                             {"noout", MAP_NOOUT},
                                             {"noin", MAP_NOIN},
                                             {"nobackfill", MAP_NOBACKFILL},
                                             {"norecover", MAP_NORECOVER},
                                             {"noscrub", MAP_NOSCRUB},
                                             {"nodeep-scrub", MAP_NODEEP_SCRUB},
                                             {"full", MAP_FULL},
                                             {0}};

static uint32_t flag_find(const char *name)
{
    for (size_t i = 0; command_flags[i].name != NULL; i++) {
        if (strcmp(command_flags[i].name, name) == 0)
            return command_flags[i].flag;
    }
    return 0;
}

static int flag_command(struct command_call *call, bool set)
{
    const char *name = call_need(call, "key");
    uint32_t flag = name != NULL ? flag_find(name) : 0;

    if (name == NULL)
        return -EINVAL;
    if (flag == 0)
        return call_say(call, -EINVAL,
                        "unknown flag '%.32s': noout, noin, noup, nodown, nobackfill, norecover, "
                        "noscrub, nodeep-scrub, pause or full",
                        name);
    int rc = machine_flags(call->batch->change, set ? flag : 0, set ? 0 : flag);
    return rc == 0 ? call_say(call, 0, "%s is %s", name, set ? "set" : "unset") : rc;
}

static int run_set(struct command_call *call)
{
    return flag_command(call, true);
}

static int run_unset(struct command_call *call)
{
    return flag_command(call, false);
}

const struct command commands_osd[] = {
    {"osd dump", CAP_READ, false, run_dump, "", "the map of the OSDs, pools and exceptions"},
    {"osd stat", CAP_READ, false, run_stat, "", "the OSDs in one line"},
    {"osd ls", CAP_READ, false, run_ls, "", "numbers of all OSDs"},
    {"osd tree", CAP_READ, false, run_tree, "", "the OSDs in the CRUSH hierarchy"},
    {"osd df", CAP_READ, false, run_df, "", "how full each OSD is"},
    {"osd getmap", CAP_READ, false, run_getmap, "[epoch]", "the encoded map"},
    {"osd down", CAP_READ | CAP_WRITE, true, run_down, "ids", "mark OSDs down"},
    {"osd out", CAP_READ | CAP_WRITE, COMMAND_MOVES, run_out, "ids",
     "move the data of OSDs elsewhere"},
    {"osd drain", CAP_READ | CAP_WRITE, COMMAND_MOVES, run_out, "ids",
     "the same as osd out; osd safe-to-destroy tells when they are empty"},
    {"osd in", CAP_READ | CAP_WRITE, COMMAND_MOVES, run_in, "ids", "give OSDs data again"},
    {"osd reweight", CAP_READ | CAP_WRITE, COMMAND_MOVES, run_reweight, "id weight",
     "give an OSD less than its share: 0 to 1"},
    {"osd rm", CAP_READ | CAP_WRITE, COMMAND_MOVES, run_remove, "ids [yes_i_really_mean_it]",
     "forget OSDs that are down"},
    {"osd purge", CAP_READ | CAP_WRITE, COMMAND_MOVES, run_remove, "id [yes_i_really_mean_it]",
     "the same as osd rm"},
    {"osd set", CAP_READ | CAP_WRITE, true, run_set, "key", "set a flag of the cluster"},
    {"osd unset", CAP_READ | CAP_WRITE, true, run_unset, "key", "unset a flag of the cluster"},
    {0},
};
