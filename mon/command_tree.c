/* The OSDs in the CRUSH hierarchy, and how full each is. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "mon/command.h"
#include "mon/summary.h"

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
        json_array_append_new(nodes,
                              json_pack("{s:i, s:s, s:s, s:i, s:f, s:i, s:i, s:s, s:f, s:f, s:{}}",
                                        "id", (int)id, "name", name, "type", "osd", "type_id", 0,
                                        "crush_weight", crush_weight, "depth", (int)depth, "exists",
                                        (int)(osd != NULL), "status", status, "reweight", reweight,
                                        "primary_affinity", 1.0, "pool_weights"));
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
    json_array_append_new(nodes, json_pack("{s:i, s:s, s:s, s:i, s:f, s:i, s:o, s:{}}", "id",
                                           (int)bucket->id, "name", bucket->name, "type",
                                           type != NULL ? type : "", "type_id", (int)bucket->type,
                                           "crush_weight", weight, "depth", (int)depth, "children",
                                           children, "pool_weights"));
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

/* ---- How full each OSD is ---- */

struct osd_use {
    bool exists;
    uint32_t pgs; /* Groups that have it in their set. */
    uint32_t crush_weight;
    unsigned depth;
    double total, used, percent;
};

struct use_sums {
    double total, used;
    double average, least, most, deviation; /* Least and most as parts of the average. */
};

static void count_groups(const struct cluster_map *map, struct osd_use *uses)
{
    for (uint32_t i = 0; i < map->n_pools; i++) {
        for (uint32_t seed = 0; seed < map->pools[i].pg_num; seed++) {
            struct pg_view view;
            struct pg_id pg = {.pool = map->pools[i].id, .seed = seed};
            if (map_pg_view(map, pg, &view) != 0)
                continue;
            for (uint8_t k = 0; k < view.n_members; k++) {
                if (map_osd(map, view.members[k]) != NULL)
                    uses[view.members[k]].pgs++;
            }
        }
    }
}

static void find_place(const struct crush_map *crush, int32_t id, struct osd_use *use)
{
    const struct crush_bucket *parent = crush_parent(crush, id);

    for (uint32_t i = 0; parent != NULL && i < parent->n_items; i++) {
        if (parent->items[i] == id)
            use->crush_weight = parent->weights[i];
    }
    for (; parent != NULL && use->depth < TREE_DEPTH_MAX; use->depth++)
        parent = crush_parent(crush, parent->id);
}

/* Of each number below max_osd; to be freed. NULL: memory is short. */
static struct osd_use *uses_make(const struct command_call *call, struct use_sums *sums)
{
    const struct cluster_map *map = call->map;
    struct osd_use *uses = calloc((size_t)map->max_osd + 1, sizeof *uses);
    double squares = 0;
    uint32_t n = 0;

    *sums = (struct use_sums){0};
    if (uses == NULL)
        return NULL;
    count_groups(map, uses);
    for (int32_t id = 0; id < map->max_osd; id++) {
        const struct map_osd *osd = map_osd(map, id);
        const struct osd_stat *stat = stats_osd(call->mon->stats, map, id);
        struct osd_use *use = &uses[id];
        if (osd == NULL)
            continue;
        use->exists = true;
        find_place(map->crush, id, use);
        use->total = stat != NULL ? (double)stat->bytes_total : (double)osd->bytes_total;
        use->used = stat != NULL ? (double)stat->bytes_used : 0;
        use->percent = use->total > 0 ? 100 * use->used / use->total : 0;
        sums->total += use->total;
        sums->used += use->used;
    }
    sums->average = sums->total > 0 ? 100 * sums->used / sums->total : 0;
    for (int32_t id = 0; id < map->max_osd && sums->average > 0; id++) {
        double part = uses[id].percent / sums->average;
        if (!uses[id].exists)
            continue;
        sums->least = n == 0 || part < sums->least ? part : sums->least;
        sums->most = n == 0 || part > sums->most ? part : sums->most;
        squares += (uses[id].percent - sums->average) * (uses[id].percent - sums->average);
        n++;
    }
    sums->deviation = n > 0 ? sqrt(squares / n) : 0;
    return uses;
}

static json_t *use_json(const struct command_call *call, int32_t id, const struct osd_use *use,
                        const struct use_sums *sums)
{
    const struct map_osd *osd = map_osd(call->map, id);
    char name[32];

    snprintf(name, sizeof name, "osd.%d", id);
    return json_pack("{s:i, s:s, s:s, s:i, s:f, s:i, s:{}, s:f, s:I, s:I, s:I, s:f, s:f, s:I, s:s}",
                     "id", (int)id, "name", name, "type", "osd", "type_id", 0, "crush_weight",
                     weight_number(use->crush_weight), "depth", (int)use->depth, "pool_weights",
                     "reweight", weight_number(osd->weight), "kb", (json_int_t)(use->total / 1024),
                     "kb_used", (json_int_t)(use->used / 1024), "kb_avail",
                     (json_int_t)((use->total - use->used) / 1024), "utilization", use->percent,
                     "var", sums->average > 0 ? use->percent / sums->average : 0.0, "pgs",
                     (json_int_t)use->pgs, "status", osd->up ? "up" : "down");
}

static int df_json(struct command_call *call, const struct osd_use *uses,
                   const struct use_sums *sums)
{
    json_t *nodes = json_array(), *stray = json_array();

    for (int32_t id = 0; id < call->map->max_osd; id++) {
        if (uses[id].exists)
            json_array_append_new(uses[id].depth > 0 ? nodes : stray,
                                  use_json(call, id, &uses[id], sums));
    }
    return call_json(call, json_pack("{s:o, s:o, s:{s:I, s:I, s:I, s:f, s:f, s:f, s:f}}", "nodes",
                                     nodes, "stray", stray, "summary", "total_kb",
                                     (json_int_t)(sums->total / 1024), "total_kb_used",
                                     (json_int_t)(sums->used / 1024), "total_kb_avail",
                                     (json_int_t)((sums->total - sums->used) / 1024),
                                     "average_utilization", sums->average, "min_var", sums->least,
                                     "max_var", sums->most, "dev", sums->deviation));
}

static void df_text(struct command_call *call, const struct osd_use *uses)
{
    char a[32];
    char b[32];
    char c[32];

    call_print(call, "%3s  %8s  %10s  %10s  %10s  %6s  %6s\n", "ID", "REWEIGHT", "SIZE", "USE",
               "AVAIL", "%USE", "STATUS");
    for (int32_t id = 0; id < call->map->max_osd; id++) {
        const struct map_osd *osd = map_osd(call->map, id);
        const struct osd_use *use = &uses[id];
        if (osd != NULL)
            call_print(call, "%3d  %8.5f  %10s  %10s  %10s  %6.2f  %6s\n", id,
                       weight_number(osd->weight), format_bytes(use->total, a),
                       format_bytes(use->used, b), format_bytes(use->total - use->used, c),
                       use->percent, osd->up ? "up" : "down");
    }
}

static int run_df(struct command_call *call)
{
    struct use_sums sums;
    struct osd_use *uses = uses_make(call, &sums);
    int rc = 0;

    if (uses == NULL)
        return -ENOMEM;
    if (call->json)
        rc = df_json(call, uses, &sums);
    else
        df_text(call, uses);
    free(uses);
    return rc;
}

const struct command commands_tree[] = {
    {"osd tree", CAP_READ, false, run_tree, "", "the OSDs in the CRUSH hierarchy"},
    {"osd df", CAP_READ, false, run_df, "", "how full each OSD is"},
    {0},
};
