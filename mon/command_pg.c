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
        return call_json(call, json_pack("{s:o}", "pg_stats", list));
    json_decref(list);
    return rc;
}

static int run_map(struct command_call *call)
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
    if (call->json) {
        json_t *value = pg_json(call->mon, pool, (uint32_t)seed);
        json_object_set_new(value, "epoch", json_integer((json_int_t)call->map->epoch));
        return call_json(call, value);
    }
    struct pg_condition pg;
    char wanted[96];
    char members[96];
    summary_pg(call->mon, pool, (uint32_t)seed, &pg);
    call_print(call, "osdmap e%" PRIu64 " pg %s -> up %s acting %s\n", call->map->epoch, text,
               ids_text(pg.view.wanted, pg.view.n_wanted, wanted, sizeof wanted),
               ids_text(pg.view.members, pg.view.n_members, members, sizeof members));
    return 0;
}

static int run_stat(struct command_call *call)
{
    struct summary summary;

    summary_make(call->mon, &summary);
    if (call->json) {
        json_t *states = json_object();
        for (uint32_t i = 0; i < summary.n_states; i++)
            json_object_set_new(states, summary.states[i].text,
                                json_integer((json_int_t)summary.states[i].count));
        return call_json(call, json_pack("{s:I, s:o}", "num_pgs", (json_int_t)summary.n_pgs,
                                         "pgs_by_state", states));
    }
    call_print(call, "%" PRIu64 " pgs:", summary.n_pgs);
    for (uint32_t i = 0; i < summary.n_states; i++)
        call_print(call, "%s %" PRIu64 " %s", i > 0 ? "," : "", summary.states[i].count,
                   summary.states[i].text);
    call_print(call, "\n");
    return 0;
}

const struct command commands_pg[] = {
    {"pg dump", CAP_READ, false, run_ls, "", "all placement groups"},
    {"pg ls", CAP_READ, false, run_ls, "[pool] [states]",
     "placement groups, of one pool and in some states if given"},
    {"pg map", CAP_READ, false, run_map, "pgid", "where a placement group is"},
    {"pg stat", CAP_READ, false, run_stat, "", "the placement groups in one line"},
    {0},
};
