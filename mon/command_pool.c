/* Commands about pools. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "mon/command.h"
#include "mon/summary.h"

static const char *rule_name(const struct cluster_map *map, uint32_t id)
{
    const struct crush_rule *rule = crush_rule(map->crush, id);

    return rule != NULL ? rule->name : "?";
}

/* ---- Reading ---- */

static int run_ls(struct command_call *call)
{
    bool detail = call_flag(call, "detail");
    json_t *list = json_array();

    for (uint32_t i = 0; i < call->map->n_pools; i++) {
        const struct map_pool *pool = &call->map->pools[i];
        if (call->json && detail)
            json_array_append_new(list, pool_json(call, pool, "pool_id"));
        else if (call->json)
            json_array_append_new(list, json_string(pool->name));
        else if (detail)
            call_print(call,
                       "pool %" PRIu64
                       " '%s' replicated size %u min_size %u crush_rule %s pg_num %u\n",
                       pool->id, pool->name, pool->size, pool->min_size,
                       rule_name(call->map, pool->crush_rule), pool->pg_num);
        else
            call_print(call, "%s\n", pool->name);
    }
    if (call->json)
        return call_json(call, list);
    json_decref(list);
    return 0;
}

/* osd lspools, with numbers. */
static int run_lspools(struct command_call *call)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < call->map->n_pools; i++) {
        const struct map_pool *pool = &call->map->pools[i];
        if (call->json)
            json_array_append_new(list, json_pack("{s:I, s:s}", "poolnum", (json_int_t)pool->id,
                                                  "poolname", pool->name));
        else
            call_print(call, "%" PRIu64 " %s\n", pool->id, pool->name);
    }
    if (call->json)
        return call_json(call, list);
    json_decref(list);
    return 0;
}

static int print_value(struct command_call *call, const struct map_pool *pool, const char *name,
                       json_t *value)
{
    if (value == NULL)
        return -ENOMEM;
    if (call->json)
        return call_json(call, json_pack("{s:s, s:I, s:o}", "pool", pool->name, "pool_id",
                                         (json_int_t)pool->id, name, value));
    if (json_is_integer(value))
        call_print(call, "%s: %" JSON_INTEGER_FORMAT "\n", name, json_integer_value(value));
    else
        call_print(call, "%s: %s\n", name, json_string_value(value));
    json_decref(value);
    return 0;
}

static int print_all(struct command_call *call, const struct map_pool *pool)
{
    const char *rule = rule_name(call->map, pool->crush_rule);

    if (call->json)
        return call_json(
            call,
            json_pack("{s:s, s:I, s:i, s:i, s:I, s:I, s:s, s:b, s:b, s:b, s:b, s:b, s:i, s:s, s:b}",
                      "pool", pool->name, "pool_id", (json_int_t)pool->id, "size", (int)pool->size,
                      "min_size", (int)pool->min_size, "pg_num", (json_int_t)pool->pg_num,
                      "pgp_num", (json_int_t)pool->pg_num, "crush_rule", rule, "hashpspool", 1,
                      "nodelete", 0, "nosizechange", 0, "noscrub", 0, "nodeep-scrub", 0,
                      "fast_read", 0, "pg_autoscale_mode", "off", "bulk", 0));
    call_print(call, "size: %u\nmin_size: %u\npg_num: %u\npgp_num: %u\ncrush_rule: %s\n",
               pool->size, pool->min_size, pool->pg_num, pool->pg_num, rule);
    return 0;
}

static int run_get(struct command_call *call)
{
    int rc;
    const struct map_pool *pool = call_pool(call, "pool", &rc);
    const char *name = pool != NULL ? call_need(call, "var") : NULL;

    if (pool == NULL)
        return rc;
    if (name == NULL)
        return -EINVAL;
    if (strcmp(name, "all") == 0)
        return print_all(call, pool);
    if (strcmp(name, "size") == 0)
        return print_value(call, pool, name, json_integer(pool->size));
    if (strcmp(name, "min_size") == 0)
        return print_value(call, pool, name, json_integer(pool->min_size));
    if (strcmp(name, "pg_num") == 0 || strcmp(name, "pgp_num") == 0)
        return print_value(call, pool, name, json_integer(pool->pg_num));
    if (strcmp(name, "crush_rule") == 0)
        return print_value(call, pool, name, json_string(rule_name(call->map, pool->crush_rule)));
    return call_say(call, -EINVAL,
                    "unknown variable '%.64s': size, min_size, pg_num, crush_rule or all", name);
}

/* Free bytes that one more byte of a pool's objects could use, all its copies counted. */
static double pool_available(const struct mon *mon, const struct summary *summary,
                             const struct map_pool *pool)
{
    double usable = (double)summary->bytes_total * mon->options.full_ratio;
    double left = usable - (double)summary->bytes_used;

    return left > 0 ? left / pool->size : 0;
}

static json_t *df_pool_json(const struct map_pool *pool, const struct pool_summary *stats,
                            double available, bool detail)
{
    static const char *const zeros[] = {"quota_objects", "quota_bytes", "dirty",
                                        "compress_bytes_used", "compress_under_bytes"};
    double used = (double)stats->bytes * pool->size;
    double percent = used + available > 0 ? used / (used + available * pool->size) : 0;
    json_t *value =
        json_pack("{s:I, s:I, s:I, s:I, s:f, s:I}", "stored", (json_int_t)stats->bytes, "objects",
                  (json_int_t)stats->objects, "kb_used", (json_int_t)(used / 1024), "bytes_used",
                  (json_int_t)used, "percent_used", percent, "max_avail", (json_int_t)available);

    /* There are no quotas, tiers or compression. */
    for (size_t i = 0; detail && i < sizeof zeros / sizeof zeros[0]; i++)
        json_object_set_new(value, zeros[i], json_integer(0));
    const struct {
        const char *key;
        uint64_t value;
    } more[] = {{"clones", stats->clones},         {"copies", stats->objects * pool->size},
                {"degraded", stats->degraded},     {"rd", stats->reads},
                {"rd_bytes", stats->bytes_read},   {"wr", stats->writes},
                {"wr_bytes", stats->bytes_written}};
    for (size_t i = 0; detail && i < sizeof more / sizeof more[0]; i++)
        json_object_set_new(value, more[i].key, json_integer((json_int_t)more[i].value));
    if (detail) {
        json_object_set_new(value, "stored_raw", json_integer((json_int_t)used));
        json_object_set_new(value, "avail_raw", json_integer((json_int_t)(available * pool->size)));
    }
    return json_pack("{s:s, s:I, s:o}", "name", pool->name, "id", (json_int_t)pool->id, "stats",
                     value);
}

static int df_json(struct command_call *call, const struct summary *summary)
{
    json_t *pools = json_array();
    uint64_t avail =
        summary->bytes_total > summary->bytes_used ? summary->bytes_total - summary->bytes_used : 0;

    for (uint32_t i = 0; i < call->map->n_pools; i++) {
        const struct map_pool *pool = &call->map->pools[i];
        struct pool_summary stats;
        summary_pool(call->mon, pool, &stats);
        json_array_append_new(pools,
                              df_pool_json(pool, &stats, pool_available(call->mon, summary, pool),
                                           call_flag(call, "detail")));
    }
    double ratio =
        summary->bytes_total > 0 ? (double)summary->bytes_used / (double)summary->bytes_total : 0;
    return call_json(
        call, json_pack("{s:{s:I, s:I, s:I, s:I, s:f, s:I}, s:{}, s:o}", "stats", "total_bytes",
                        (json_int_t)summary->bytes_total, "total_avail_bytes", (json_int_t)avail,
                        "total_used_bytes", (json_int_t)summary->bytes_used, "total_used_raw_bytes",
                        (json_int_t)summary->bytes_used, "total_used_raw_ratio", ratio, "num_osds",
                        (json_int_t)summary->n_osds, "stats_by_class", "pools", pools));
}

static int run_df(struct command_call *call)
{
    struct summary summary;
    char a[32];
    char b[32];
    char c[32];

    summary_make(call->mon, &summary);
    if (call->json)
        return df_json(call, &summary);
    uint64_t avail =
        summary.bytes_total > summary.bytes_used ? summary.bytes_total - summary.bytes_used : 0;
    call_print(call, "--- RAW STORAGE ---\n%10s  %10s  %10s  %8s\n%10s  %10s  %10s  %8.2f\n\n",
               "SIZE", "AVAIL", "USED", "%RAW USED", format_bytes((double)summary.bytes_total, a),
               format_bytes((double)avail, b), format_bytes((double)summary.bytes_used, c),
               summary.bytes_total > 0
                   ? 100.0 * (double)summary.bytes_used / (double)summary.bytes_total
                   : 0);
    call_print(call, "--- POOLS ---\n%-20s  %4s  %6s  %10s  %10s  %10s  %10s\n", "POOL", "ID",
               "PGS", "STORED", "OBJECTS", "USED", "MAX AVAIL");
    for (uint32_t i = 0; i < call->map->n_pools; i++) {
        const struct map_pool *pool = &call->map->pools[i];
        struct pool_summary stats;
        summary_pool(call->mon, pool, &stats);
        call_print(call, "%-20s  %4" PRIu64 "  %6u  %10s  %10" PRIu64 "  %10s  %10s\n", pool->name,
                   pool->id, pool->pg_num, format_bytes((double)stats.bytes, a), stats.objects,
                   format_bytes((double)stats.bytes * pool->size, b),
                   format_bytes(pool_available(call->mon, &summary, pool), c));
    }
    return 0;
}

/* ---- What goes on in the pools ---- */

struct pool_work {
    uint64_t copies, degraded, misplaced;
    double bytes_per_s; /* That are recovered. */
};

static void work_of(const struct mon *mon, const struct map_pool *pool, struct pool_work *out)
{
    *out = (struct pool_work){0};
    for (uint32_t seed = 0; seed < pool->pg_num; seed++) {
        struct pg_condition pg;
        struct pg_id id = {.pool = pool->id, .seed = seed};
        const struct pg_stat *stat = stats_pg(mon->stats, id);
        summary_pg(mon, pool, seed, &pg);
        out->copies += stat != NULL ? stat->objects * pool->size : 0;
        out->degraded += pg.degraded;
        out->misplaced += pg.misplaced;
        if (pg.stat != NULL && !pg.clean)
            out->bytes_per_s += pg.stat->recovery_rate;
    }
}

static void add_share(json_t *value, const char *what, uint64_t n, uint64_t of)
{
    char name[48];

    if (n == 0)
        return;
    snprintf(name, sizeof name, "%s_objects", what);
    json_object_set_new(value, name, json_integer((json_int_t)n));
    snprintf(name, sizeof name, "%s_total", what);
    json_object_set_new(value, name, json_integer((json_int_t)of));
    snprintf(name, sizeof name, "%s_ratio", what);
    json_object_set_new(value, name, json_real(of > 0 ? (double)n / (double)of : 0));
}

/* Monitors know how much clients do in the cluster, not in which pool: "client_io_rate" is empty.
 */
static json_t *work_json(const struct map_pool *pool, const struct pool_work *work)
{
    json_t *recovery = json_object(), *rate = json_object();

    add_share(recovery, "degraded", work->degraded, work->copies);
    add_share(recovery, "misplaced", work->misplaced, work->copies);
    if (work->bytes_per_s >= 1)
        json_object_set_new(rate, "recovering_bytes_per_sec",
                            json_integer((json_int_t)work->bytes_per_s));
    return json_pack("{s:s, s:I, s:o, s:o, s:{}}", "pool_name", pool->name, "pool_id",
                     (json_int_t)pool->id, "recovery", recovery, "recovery_rate", rate,
                     "client_io_rate");
}

static void work_text(struct command_call *call, const struct map_pool *pool,
                      const struct pool_work *work)
{
    char bytes[32];

    call_print(call, "pool %s id %" PRIu64 "\n", pool->name, pool->id);
    if (work->degraded > 0)
        call_print(call, "  %" PRIu64 "/%" PRIu64 " objects degraded\n", work->degraded,
                   work->copies);
    if (work->misplaced > 0)
        call_print(call, "  %" PRIu64 "/%" PRIu64 " objects misplaced\n", work->misplaced,
                   work->copies);
    if (work->bytes_per_s >= 1)
        call_print(call, "  recovery io %s/s\n", format_bytes(work->bytes_per_s, bytes));
    if (work->degraded + work->misplaced == 0)
        call_print(call, "  nothing is going on\n");
}

static int run_stats(struct command_call *call)
{
    const char *name = call_text(call, "pool_name");
    json_t *list = json_array();
    uint32_t n = 0;

    for (uint32_t i = 0; i < call->map->n_pools; i++) {
        const struct map_pool *pool = &call->map->pools[i];
        struct pool_work work;
        if (name != NULL && strcmp(name, pool->name) != 0)
            continue;
        n++;
        work_of(call->mon, pool, &work);
        if (call->json)
            json_array_append_new(list, work_json(pool, &work));
        else
            work_text(call, pool, &work);
    }
    if (call->json && (name == NULL || n > 0))
        return call_json(call, list);
    json_decref(list);
    if (name != NULL && n == 0)
        return call_say(call, -ENOENT, "unrecognized pool '%.128s': see limpet pool ls", name);
    return 0;
}

/* ---- Changing ---- */

static int number_below(struct command_call *call, const char *name, uint32_t max, uint32_t *out)
{
    uint64_t value;
    int rc = call_number(call, name, &value);

    if (rc == -ENOENT)
        return 0;
    if (rc == 0 && value > max)
        rc = call_say(call, -ERANGE, "argument \"%s\" must be at most %u", name, max);
    if (rc == 0)
        *out = (uint32_t)value;
    return rc;
}

static int run_create(struct command_call *call)
{
    struct machine_pool_create create = {.name = call_need(call, "pool"),
                                         .size = call->mon->options.pool_size,
                                         .min_size = call->mon->options.pool_min_size,
                                         .rule = call_text(call, "rule")};
    const char *type = call_text(call, "pool_type");
    uint32_t size = 0;
    uint32_t min_size = 0;
    char why[MACHINE_WHY_MAX] = "";

    if (create.name == NULL)
        return -EINVAL;
    if (type != NULL && type[0] != '\0' && strcmp(type, "replicated") != 0)
        return call_say(call, -EOPNOTSUPP, "pools of type '%.32s' do not exist yet: replicated",
                        type);
    int rc = number_below(call, "pg_num", MAP_PG_NUM_MAX, &create.pg_num);
    if (rc == 0)
        rc = number_below(call, "size", PG_SIZE_MAX, &size);
    if (rc == 0)
        rc = number_below(call, "min_size", PG_SIZE_MAX, &min_size);
    if (rc != 0)
        return rc;
    if (size != 0) {
        create.size = size;
        create.min_size = 0;
    }
    if (min_size != 0)
        create.min_size = min_size;
    /* A default for larger pools must not make smaller ones impossible. */
    if (create.size != 0 && create.min_size > create.size && min_size == 0)
        create.min_size = create.size;
    rc = machine_pool_create(call->batch->change, &create, why);
    if (rc == -EEXIST)
        return call_say(call, 0, "pool '%s' already exists", create.name);
    if (rc != 0)
        return why[0] != '\0' ? call_say(call, rc, "%s", why) : rc;
    return call_say(call, 0, "pool '%s' created", create.name);
}

static int run_remove(struct command_call *call)
{
    const char *name = call_need(call, "pool");
    const char *again = call_text(call, "pool2");

    if (name == NULL)
        return -EINVAL;
    const struct map_pool *pool = map_pool_by_name(call->map, name);
    if (pool == NULL)
        return call_say(call, 0, "pool '%.128s' does not exist", name);
    if (again == NULL || strcmp(name, again) != 0 ||
        !(call_flag(call, "yes_i_really_really_mean_it") || call_flag(call, "sure")))
        return call_say(call, -EPERM,
                        "this destroys pool '%s' and ALL its data: if that is what you want, give "
                        "its name twice, then --yes-i-really-really-mean-it",
                        name);
    int rc = machine_pool_remove(call->batch->change, pool->id);
    return rc == 0 ? call_say(call, 0, "pool '%s' removed", name) : rc;
}

static int run_rename(struct command_call *call)
{
    const char *from = call_need(call, "srcpool");
    const char *to = from != NULL ? call_need(call, "destpool") : NULL;

    if (to == NULL)
        return -EINVAL;
    const struct map_pool *pool = map_pool_by_name(call->map, from);
    /* A renaming that is repeated, since its answer was lost, has succeeded. */
    if (pool == NULL && map_pool_by_name(call->map, to) != NULL)
        return call_say(call, 0, "pool '%.128s' does not exist, '%.128s' does: renamed before",
                        from, to);
    if (pool == NULL)
        return call_say(call, -ENOENT, "unrecognized pool '%.128s': see limpet pool ls", from);
    int rc = machine_pool_rename(call->batch->change, pool->id, to);
    if (rc == -EEXIST)
        return call_say(call, rc, "pool '%.128s' already exists", to);
    if (rc == -EINVAL)
        return call_say(call, rc, "'%.128s' cannot be the name of a pool", to);
    return rc == 0 ? call_say(call, 0, "pool '%.128s' renamed to '%.128s'", from, to) : rc;
}

static int set_rule(struct command_call *call, const struct map_pool *pool)
{
    const char *name = call_need(call, "val");
    uint64_t id = pool->id;

    if (name == NULL)
        return -EINVAL;
    for (uint32_t i = 0; i < call->map->crush->n_rules; i++) {
        const struct crush_rule *rule = &call->map->crush->rules[i];
        if (strcmp(rule->name, name) != 0)
            continue;
        int rc = machine_pool_rule(call->batch->change, id, rule->id);
        if (rc == -ENOENT)
            return call_say(call, -EINVAL, "rule '%.64s' is not for this type of pool", name);
        return rc == 0 ? call_say(call, 0, "set pool %" PRIu64 " crush_rule to %.64s", id, name)
                       : rc;
    }
    return call_say(call, -ENOENT, "there is no CRUSH rule '%.64s': see limpet osd crush rule ls",
                    name);
}

static int run_set(struct command_call *call)
{
    int rc;
    const struct map_pool *pool = call_pool(call, "pool", &rc);
    const char *name = pool != NULL ? call_need(call, "var") : NULL;
    uint64_t value;

    if (pool == NULL)
        return rc;
    if (name == NULL)
        return -EINVAL;
    if (strcmp(name, "crush_rule") == 0)
        return set_rule(call, pool);
    rc = call_number(call, "val", &value);
    if (rc == -ENOENT)
        return call_say(call, -EINVAL, "argument \"val\" is missing");
    if (rc != 0)
        return rc;
    uint64_t size = pool->size;
    uint64_t min_size = pool->min_size;
    if (strcmp(name, "size") == 0) {
        size = value;
        min_size = min_size < size ? min_size : size;
    } else if (strcmp(name, "min_size") == 0) {
        min_size = value;
    } else {
        return call_say(call, -EINVAL,
                        "variable '%.64s' cannot be set: size, min_size or crush_rule", name);
    }
    if (size == 0 || size > PG_SIZE_MAX || min_size == 0 || min_size > size)
        return call_say(call, -EINVAL, "size must be 1 to %d, and min_size 1 to size (%" PRIu64 ")",
                        PG_SIZE_MAX, size);
    uint64_t id = pool->id;
    rc = machine_pool_resize(call->batch->change, id, (uint8_t)size, (uint8_t)min_size);
    return rc == 0 ? call_say(call, 0, "set pool %" PRIu64 " %s to %" PRIu64, id, name, value) : rc;
}

const struct command commands_pool[] = {
    {"df", CAP_READ, false, run_df, "[detail]", "how full the cluster and its pools are"},
    {"osd lspools", CAP_READ, false, run_lspools, "", "numbers and names of the pools"},
    {"osd pool ls", CAP_READ, false, run_ls, "[detail]", "names of the pools"},
    {"osd pool get", CAP_READ, false, run_get, "pool var", "a setting of a pool"},
    {"osd pool stats", CAP_READ, false, run_stats, "[pool_name]",
     "what recovery does in the pools, or in one"},
    {"osd pool create", CAP_READ | CAP_WRITE, true, run_create,
     "pool [pg_num] [size] [min_size] [rule]", "make a pool"},
    {"osd pool set", CAP_READ | CAP_WRITE, COMMAND_MOVES, run_set, "pool var val",
     "change size, min_size or crush_rule of a pool"},
    {"osd pool rename", CAP_READ | CAP_WRITE, true, run_rename, "srcpool destpool",
     "give a pool another name"},
    {"osd pool rm", CAP_READ | CAP_WRITE, true, run_remove,
     "pool pool2 yes_i_really_really_mean_it", "destroy a pool and all its data"},
    {"osd pool delete", CAP_READ | CAP_WRITE, true, run_remove,
     "pool pool2 yes_i_really_really_mean_it", "the same as osd pool rm"},
    {0},
};
