/* Commands about placement groups. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "mon/command.h"
#include "mon/summary.h"

static json_t *ids_json(const int32_t *ids, uint8_t n)
{
    json_t *list = json_array();

    for (uint8_t i = 0; i < n; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return list;
}

static const char *ids_text(const int32_t *ids, uint8_t n, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "[");

    for (uint8_t i = 0; i < n && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%d", i > 0 ? "," : "", ids[i]);
    if (at < size)
        snprintf(out + at, size - at, "]");
    return out;
}

/* Seconds since 1970; null: never. */
static json_t *stamp_json(uint64_t ns)
{
    return ns > 0 ? json_real((double)ns / (double)SEC_NS) : json_null();
}

static void scrub_json(json_t *value, const struct pg_stat *stat)
{
    const struct pg_stat none = {0};
    const struct pg_stat *told = stat != NULL ? stat : &none;

    json_object_set_new(value, "last_scrub_stamp", stamp_json(told->scrub_stamp_ns));
    json_object_set_new(value, "last_deep_scrub_stamp", stamp_json(told->deep_stamp_ns));
    json_object_set_new(value, "objects_inconsistent", json_integer(told->inconsistent));
    json_object_set_new(value, "objects_unrepairable", json_integer(told->unrepairable));
}

static json_t *pg_json(const struct mon *mon, const struct map_pool *pool, uint32_t seed)
{
    struct pg_condition pg;
    struct pg_id id = {.pool = pool->id, .seed = seed};
    const struct pg_stat *stat = stats_pg(mon->stats, id);
    char text[PG_ID_TEXT_MAX];

    summary_pg(mon, pool, seed, &pg);
    json_t *value = json_pack(
        "{s:s, s:s, s:I, s:o, s:o, s:o, s:i, s:{s:I, s:I}}", "pgid", pg_id_format(id, text),
        "state", pg.state, "config", (json_int_t)pg.view.config, "up",
        ids_json(pg.view.wanted, pg.view.n_wanted), "acting",
        ids_json(pg.view.members, pg.view.n_members), "learners",
        ids_json(pg.view.learners, pg.view.n_learners), "acting_primary", (int)pg.view.primary,
        "stat_sum", "num_objects", (json_int_t)(stat != NULL ? stat->objects : 0), "num_bytes",
        (json_int_t)(stat != NULL ? stat->bytes : 0));
    json_object_set_new(value, "objects_missing", json_integer((json_int_t)pg.objects_left));
    json_object_set_new(value, "bytes_missing", json_integer((json_int_t)pg.bytes_left));
    if (stat != NULL) {
        json_object_set_new(value, "objects_recovered",
                            json_integer((json_int_t)stat->objects_recovered));
        json_object_set_new(value, "bytes_recovered",
                            json_integer((json_int_t)stat->bytes_recovered));
    }
    scrub_json(value, stat);
    json_object_set_new(value, "eta_seconds", pg.eta_s >= 0 ? json_real(pg.eta_s) : json_null());
    if (stat != NULL && stat->waiting != NULL)
        json_object_set_new(value, "waiting", json_string(stat->waiting));
    return value;
}

static void pg_line(struct command_call *call, const struct map_pool *pool, uint32_t seed)
{
    struct pg_condition pg;
    struct pg_id id = {.pool = pool->id, .seed = seed};
    const struct pg_stat *stat = stats_pg(call->mon->stats, id);
    char text[PG_ID_TEXT_MAX];
    char wanted[96];
    char members[96];
    char bytes[32];
    char left[32];
    char eta[16] = "-";

    summary_pg(call->mon, pool, seed, &pg);
    if (pg.eta_s >= 0)
        format_age((uint64_t)(pg.eta_s * (double)SEC_NS), eta);
    call_print(call, "%-10s %-36s %8" PRIu64 " %10s %10s %6s  %-16s %-16s %" PRIu64 "%s%s\n",
               pg_id_format(id, text), pg.state, stat != NULL ? stat->objects : 0,
               format_bytes(stat != NULL ? (double)stat->bytes : 0, bytes),
               format_bytes((double)pg.bytes_left, left), eta,
               ids_text(pg.view.wanted, pg.view.n_wanted, wanted, sizeof wanted),
               ids_text(pg.view.members, pg.view.n_members, members, sizeof members),
               pg.view.config, stat != NULL && stat->waiting != NULL ? "  " : "",
               stat != NULL && stat->waiting != NULL ? stat->waiting : "");
}

/* Words that make up the states of groups. */
static const char *const state_words[] = {
    "active",       "clean",         "undersized", "degraded", "remapped",
    "backfilling",  "backfill_wait", "down",       "peered",   "unknown",
    "stale",        "activating",    "inactive",   "unclean",  "waiting",
    "inconsistent", "scrubbing",     "repair",     "deep",     NULL};

struct pg_filter {
    const struct map_pool *pool; /* NULL: all */
    const json_t *states;        /* Groups with all of them; NULL: any */
};

/* Argument "states": words of states; the name of a pool among them counts as argument "pool". */
static int take_filter(struct command_call *call, json_t *states, struct pg_filter *out)
{
    const json_t *words = json_object_get(call->args, "states");
    int rc = 0;

    *out = (struct pg_filter){.states = states};
    if (call_text(call, "pool") != NULL)
        out->pool = call_pool(call, "pool", &rc);
    if (out->pool != NULL)
        rc = 0;
    for (size_t i = 0; i < json_array_size(words) && rc == 0; i++) {
        const char *word = json_string_value(json_array_get(words, i));
        const char *const *known = state_words;
        while (word != NULL && *known != NULL && strcmp(*known, word) != 0)
            known++;
        if (word != NULL && *known != NULL)
            json_array_append_new(states, json_string(word));
        else if (word != NULL && out->pool == NULL && map_pool_by_name(call->map, word) != NULL)
            out->pool = map_pool_by_name(call->map, word);
        else
            rc = call_say(call, -EINVAL,
                          "'%.64s' is no pool, and no state such as active, clean, degraded, "
                          "inactive, waiting",
                          word != NULL ? word : "");
    }
    return rc;
}

static bool has_state(const struct pg_condition *pg, const char *word)
{
    size_t len = strlen(word);

    if (strcmp(word, "inactive") == 0)
        return !pg->active;
    if (strcmp(word, "unclean") == 0)
        return !pg->clean;
    if (strcmp(word, "waiting") == 0)
        return pg->stat != NULL && pg->stat->waiting != NULL;
    for (const char *at = pg->state; at != NULL; at = strchr(at, '+'), at += at != NULL) {
        if (strncmp(at, word, len) == 0 && (at[len] == '\0' || at[len] == '+'))
            return true;
    }
    return false;
}

static bool is_listed(const struct mon *mon, const struct pg_filter *filter,
                      const struct map_pool *pool, uint32_t seed)
{
    struct pg_condition pg;

    if (json_array_size(filter->states) == 0)
        return true;
    summary_pg(mon, pool, seed, &pg);
    for (size_t i = 0; i < json_array_size(filter->states); i++) {
        if (!has_state(&pg, json_string_value(json_array_get(filter->states, i))))
            return false;
    }
    return true;
}

static void list_pool(struct command_call *call, const struct pg_filter *filter,
                      const struct map_pool *pool, json_t *list)
{
    for (uint32_t seed = 0; seed < pool->pg_num; seed++) {
        if (!is_listed(call->mon, filter, pool, seed))
            continue;
        if (call->json)
            json_array_append_new(list, pg_json(call->mon, pool, seed));
        else
            pg_line(call, pool, seed);
    }
}

static int run_ls(struct command_call *call)
{
    json_t *list = json_array();
    json_t *states = json_array();
    struct pg_filter filter;

    int rc = take_filter(call, states, &filter);
    if (rc == 0 && !call->json)
        call_print(call, "%-10s %-36s %8s %10s %10s %6s  %-16s %-16s %s\n", "PG", "STATE",
                   "OBJECTS", "BYTES", "LEFT", "ETA", "UP", "ACTING", "CONFIG");
    for (uint32_t i = 0; i < call->map->n_pools && rc == 0; i++) {
        const struct map_pool *pool = &call->map->pools[i];
        if (filter.pool == NULL || filter.pool == pool)
            list_pool(call, &filter, pool, list);
    }
    json_decref(states);
    if (rc == 0 && call->json)
        return call_json(call, json_pack("{s:b, s:o}", "pg_ready", 1, "pg_stats", list));
    json_decref(list);
    return rc;
}

/* The group of argument "pgid"; otherwise says what is wrong with it. */
static int need_pg(struct command_call *call, struct pg_id *pg)
{
    const char *text = call_need(call, "pgid");
    char *end = NULL;

    if (text == NULL)
        return -EINVAL;
    uint64_t pool_id = strtoull(text, &end, 10);
    uint64_t seed = 0;
    bool good = end != text && *end == '.';
    if (good) {
        const char *hex = end + 1;
        seed = strtoull(hex, &end, 16);
        good = end != hex && *end == '\0';
    }
    if (!good)
        return call_say(call, -EINVAL, "'%.32s' is no placement group: give POOL.SEED, as in 1.2f",
                        text);
    const struct map_pool *pool = map_pool(call->map, pool_id);
    if (pool == NULL || seed >= pool->pg_num)
        return call_say(call, -ENOENT, "there is no placement group '%.32s'", text);
    *pg = (struct pg_id){.pool = pool_id, .seed = (uint32_t)seed};
    return 0;
}

static int run_map(struct command_call *call)
{
    struct pg_id pg = {0};
    char text[PG_ID_TEXT_MAX];
    int rc = need_pg(call, &pg);

    if (rc != 0)
        return rc;
    const struct map_pool *pool = map_pool(call->map, pg.pool);
    if (call->json) {
        json_t *value = pg_json(call->mon, pool, pg.seed);
        json_object_set_new(value, "epoch", json_integer((json_int_t)call->map->epoch));
        json_object_set_new(value, "raw_pgid", json_string(pg_id_format(pg, text)));
        return call_json(call, value);
    }
    struct pg_condition condition;
    char wanted[96];
    char members[96];
    summary_pg(call->mon, pool, pg.seed, &condition);
    call_print(call, "osdmap e%" PRIu64 " pg %s -> up %s acting %s\n", call->map->epoch,
               pg_id_format(pg, text),
               ids_text(condition.view.wanted, condition.view.n_wanted, wanted, sizeof wanted),
               ids_text(condition.view.members, condition.view.n_members, members, sizeof members));
    return 0;
}

static int run_stat(struct command_call *call)
{
    struct summary summary;

    summary_make(call->mon, &summary);
    if (call->json) {
        json_t *states = json_object(), *list = json_array();
        uint64_t avail =
            summary.bytes_total > summary.bytes_used ? summary.bytes_total - summary.bytes_used : 0;
        for (uint32_t i = 0; i < summary.n_states; i++) {
            json_int_t count = (json_int_t)summary.states[i].count;
            json_object_set_new(states, summary.states[i].text, json_integer(count));
            json_array_append_new(
                list, json_pack("{s:s, s:I}", "name", summary.states[i].text, "num", count));
        }
        /* Also in the shape that Ceph's users expect. */
        return call_json(call, json_pack("{s:I, s:o, s:b, s:{s:o, s:I, s:I, s:I, s:I, s:I, s:I}}",
                                         "num_pgs", (json_int_t)summary.n_pgs, "pgs_by_state",
                                         states, "pg_ready", 1, "pg_summary", "num_pg_by_state",
                                         list, "num_pgs", (json_int_t)summary.n_pgs, "total_bytes",
                                         (json_int_t)summary.bytes_total, "total_avail_bytes",
                                         (json_int_t)avail, "total_used_bytes",
                                         (json_int_t)summary.bytes_used, "total_used_raw_bytes",
                                         (json_int_t)summary.bytes_used, "num_bytes",
                                         (json_int_t)summary.bytes));
    }
    call_print(call, "%" PRIu64 " pgs:", summary.n_pgs);
    for (uint32_t i = 0; i < summary.n_states; i++)
        call_print(call, "%s %" PRIu64 " %s", i > 0 ? "," : "", summary.states[i].count,
                   summary.states[i].text);
    call_print(call, "\n");
    return 0;
}

/* Members of the set, those that are up or those that are down, as "osd.1, osd.4". */
static const char *members_text(const struct command_call *call, const struct pg_view *view,
                                bool up, char *out, size_t size)
{
    size_t at = 0;

    out[0] = '\0';
    for (uint8_t i = 0; i < view->n_members && at < size; i++) {
        if (map_osd_up(call->map, view->members[i]) == up)
            at += (size_t)snprintf(out + at, size - at, "%sosd.%d", at > 0 ? ", " : "",
                                   view->members[i]);
    }
    return out;
}

static int run_force_activate(struct command_call *call)
{
    struct pg_id pg = {0};
    struct pg_view view = {0};
    char text[PG_ID_TEXT_MAX];
    char up[128];
    char down[128];
    int rc = need_pg(call, &pg);

    if (rc == 0)
        rc = map_pg_view(call->map, pg, &view);
    if (rc != 0)
        return rc;
    pg_id_format(pg, text);
    members_text(call, &view, true, up, sizeof up);
    members_text(call, &view, false, down, sizeof down);
    if (view.n_up == view.n_members)
        return call_say(call, -EALREADY, "all members of %s are up: nothing has to be forced",
                        text);
    if (view.n_up == 0)
        return call_say(call, -EHOSTDOWN,
                        "no member of %s is up (%s): start one of them. Only if all of them are "
                        "lost for ever, and with them the data, remove them: limpet osd rm",
                        text, down);
    if (!call_flag(call, "yes_i_really_mean_it") && !call_flag(call, "force"))
        return call_say(call, -EPERM,
                        "%s would go on with %s alone, and give up %s. If what is left is damaged "
                        "or fails before it was copied, acknowledged writes are lost, though those "
                        "that were given up still have them. Start %s if that is possible at all; "
                        "if not, add --yes-i-really-mean-it",
                        text, up, down, down);
    rc = machine_pg_force_activate(call->batch->change, pg);
    if (rc == -ENODATA)
        return call_say(call, rc, "%s has never served: there is nothing to lose, start %s", text,
                        down);
    if (rc != 0)
        return rc;
    return call_say(
        call, 0,
        "%s goes on with %s; it serves when it has min_size copies again: see limpet pg "
        "map %s",
        text, up, text);
}

/* The primary repairs what it finds, with every scrub: a repair is a deep scrub by another name. */
static int order_scrub(struct command_call *call, bool deep, const char *what)
{
    struct pg_id pg = {0};
    struct pg_view view = {0};
    char text[PG_ID_TEXT_MAX];
    int rc = need_pg(call, &pg);

    if (rc == 0)
        rc = map_pg_view(call->map, pg, &view);
    if (rc != 0)
        return rc;
    pg_id_format(pg, text);
    if (!view.active || !map_osd_up(call->map, view.primary))
        return call_say(call, -EHOSTDOWN,
                        "%s has no active primary to %s it: limpet pg map %s shows where it is, "
                        "limpet health detail what it waits for",
                        text, what, text);
    session_order_scrub(call->mon, pg, view.primary, deep);
    return call_say(call, 0, "told osd.%d to %s %s; limpet pg ls -f json shows when it was done",
                    view.primary, what, text);
}

static int run_scrub(struct command_call *call)
{
    return order_scrub(call, false, "scrub");
}

static int run_deep_scrub(struct command_call *call)
{
    return order_scrub(call, true, "deep-scrub");
}

static int run_repair(struct command_call *call)
{
    return order_scrub(call, true, "repair");
}

const struct command commands_pg[] = {
    {"pg dump", CAP_READ, false, run_ls, "", "all placement groups"},
    {"pg ls", CAP_READ, false, run_ls, "[pool] [states]",
     "placement groups, of one pool and in some states if given"},
    {"pg map", CAP_READ, false, run_map, "pgid", "where a placement group is"},
    {"pg force-activate", CAP_READ | CAP_WRITE, true, run_force_activate,
     "pgid [yes_i_really_mean_it]",
     "go on without the members that are down, although too few are left"},
    {"pg scrub", CAP_READ | CAP_WRITE, false, run_scrub, "pgid",
     "compare the copies of a placement group's objects: sizes, attributes, versions"},
    {"pg deep-scrub", CAP_READ | CAP_WRITE, false, run_deep_scrub, "pgid",
     "compare the copies of a placement group's objects with all their data"},
    {"pg repair", CAP_READ | CAP_WRITE, false, run_repair, "pgid",
     "deep-scrub a placement group, and write bad copies anew from good ones"},
    {"pg stat", CAP_READ, false, run_stat, "", "the placement groups in one line"},
    {0},
};
