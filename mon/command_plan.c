/*
 * What a change would move: --dry-run of every command that moves data, the check for room before
 * it is made, and the questions whether OSDs may be stopped or destroyed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "mon/command.h"
#include "mon/plan.h"

/* ---- A change that is not made ---- */

/*
 * Runs the command on a copy of the map and compares. The command's words are left in the
 * request's status. Its error, when it would be refused.
 */
static int try_command(struct command_call *call, struct plan *plan)
{
    struct mon *mon = call->mon;
    struct machine *machine = machine_create();
    struct command_call trial = *call;
    struct batch batch = {0};

    memset(plan, 0, sizeof *plan);
    if (machine == NULL)
        return -ENOMEM;
    int rc = change_begin(machine, mon->state.map, 0, &batch.change);
    if (rc != 0) {
        machine_destroy(machine);
        return rc;
    }
    mon_entry_init(&batch.entry);
    trial.batch = &batch;
    trial.map = change_map(batch.change);
    rc = call->request->command->run(&trial);
    if (rc == -EINPROGRESS)
        rc = call_say(call, -EINVAL, "one at a time, with --dry-run");
    if (rc == 0 && change_broken(batch.change))
        rc = -ENOMEM;
    if (rc == 0)
        rc = plan_make(mon, mon->state.map, change_map(batch.change), plan);
    change_end(batch.change);
    mon_entry_fini(&batch.entry);
    machine_destroy(machine);
    return rc;
}

int command_check_room(struct command_call *call)
{
    struct plan plan;
    char why[MON_STATUS_MAX];

    if (call_flag(call, "force") || call_flag(call, "yes_i_really_mean_it"))
        return 0;
    int rc = try_command(call, &plan);
    bool refused = rc == 0 && plan_refuses(&plan, why, sizeof why);
    plan_fini(&plan);
    call->request->status[0] = '\0';
    /* The command's own error comes when it is really run. */
    return refused ? call_say(call, -ENOSPC, "%s", why) : 0;
}

/* ---- Its description ---- */

static json_t *groups_json(const struct plan_groups *groups)
{
    json_t *examples = json_array();

    for (uint32_t i = 0; i < groups->n_examples; i++) {
        char text[PG_ID_TEXT_MAX];
        json_array_append_new(examples, json_string(pg_id_format(groups->examples[i], text)));
    }
    return json_pack("{s:I, s:o}", "pgs", (json_int_t)groups->n, "examples", examples);
}

static double used_ratio(const struct osd_stat *stat, uint64_t more)
{
    return stat != NULL && stat->bytes_total > 0
               ? (double)(stat->bytes_used + more) / (double)stat->bytes_total
               : 0;
}

static json_t *osds_json(const struct command_call *call, const struct plan *plan)
{
    json_t *list = json_array();

    for (int32_t id = 0; id < plan->n_osds; id++) {
        const struct plan_osd *osd = &plan->osds[id];
        const struct osd_stat *stat = stats_osd(call->mon->stats, call->mon->state.map, id);
        if (osd->pgs_in + osd->pgs_out == 0)
            continue;
        json_array_append_new(
            list,
            json_pack("{s:i, s:I, s:I, s:I, s:i, s:i, s:f, s:f}", "osd", (int)id, "bytes_in",
                      (json_int_t)osd->bytes_in, "bytes_out", (json_int_t)osd->bytes_out,
                      "bytes_pending", (json_int_t)osd->bytes_pending, "pgs_in", (int)osd->pgs_in,
                      "pgs_out", (int)osd->pgs_out, "used_ratio", used_ratio(stat, 0),
                      "peak_used_ratio", used_ratio(stat, osd->bytes_in + osd->bytes_pending)));
    }
    return list;
}

/* Each a line for a person; none: an empty list. */
static json_t *risks(const struct command_call *call, const struct plan *plan)
{
    static const char *const format[] = {
        "%" PRIu64 " pgs lose their only copies: their data are gone",
        "%" PRIu64 " pgs cannot be read or written until OSDs come back or copies are made",
        "%" PRIu64 " pgs have fewer copies than asked for until others are made",
        "%" PRIu64 " pgs find fewer places than their pool asks for: what has no other place stays "
        "where it is",
    };
    const struct plan_groups *groups[] = {&plan->lost, &plan->inactive, &plan->degraded,
                                          &plan->unplaced};
    json_t *list = json_array();
    char text[MON_STATUS_MAX];

    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        if (groups[i]->n == 0)
            continue;
        snprintf(text, sizeof text, format[i], groups[i]->n);
        json_array_append_new(list, json_string(text));
    }
    if (plan_refuses(plan, text, sizeof text))
        json_array_append_new(list, json_string(text));
    else if (plan->fullest >= 0 && plan->fullest_ratio >= call->mon->options.nearfull_ratio) {
        snprintf(text, sizeof text, "osd.%d would be %.0f%% full while the data move",
                 plan->fullest, plan->fullest_ratio * 100);
        json_array_append_new(list, json_string(text));
    }
    if (!plan->sizes_known)
        json_array_append_new(list, json_string("the sizes of some pgs are not known yet: more may "
                                                "have to be moved"));
    return list;
}

static int plan_json(struct command_call *call, const struct plan *plan, json_t *dangers)
{
    double eta_s = plan_eta(plan, plan->bytes, plan->objects);
    json_t *eta = eta_s >= 0 ? json_real(eta_s) : json_null();
    json_t *rate = plan->rate_known ? json_real(plan->bytes_per_s) : json_null();

    return call_json(
        call,
        json_pack("{s:b, s:s, s:b, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O}",
                  "dry_run", 1, "would_be", call->request->status, "changes", (int)plan->changes,
                  "bytes", (json_int_t)plan->bytes, "objects", (json_int_t)plan->objects, "pgs",
                  (json_int_t)plan->pgs, "bytes_pending", (json_int_t)plan->bytes_pending,
                  "eta_seconds", eta, "rate_bytes_per_sec", rate, "osds", osds_json(call, plan),
                  "lost", groups_json(&plan->lost), "inactive", groups_json(&plan->inactive),
                  "degraded", groups_json(&plan->degraded), "unplaced",
                  groups_json(&plan->unplaced), "risks", dangers));
}

static void plan_time(struct command_call *call, const struct plan *plan)
{
    double eta_s = plan_eta(plan, plan->bytes, plan->objects);
    char rate[32];
    char age[16];

    if (plan->bytes == 0 && plan->objects == 0)
        return;
    if (eta_s >= 0)
        call_print(call, "  time:      about %s, at %s/s as in the last recovery\n",
                   format_age((uint64_t)(eta_s * (double)SEC_NS), age),
                   format_bytes(plan->bytes_per_s, rate));
    else
        call_print(call,
                   "  time:      not known: nothing was recovered since this monitor leads\n");
}

static void plan_osds(struct command_call *call, const struct plan *plan)
{
    for (int32_t id = 0; id < plan->n_osds; id++) {
        const struct plan_osd *osd = &plan->osds[id];
        const struct osd_stat *stat = stats_osd(call->mon->stats, call->mon->state.map, id);
        char in[32];
        char out[32];
        if (osd->pgs_in + osd->pgs_out == 0)
            continue;
        call_print(
            call,
            "  osd.%-6d gets %s (%u pgs), gives %s (%u pgs), is %.1f%% full, %.1f%% meanwhile\n",
            id, format_bytes((double)osd->bytes_in, in), osd->pgs_in,
            format_bytes((double)osd->bytes_out, out), osd->pgs_out, used_ratio(stat, 0) * 100,
            used_ratio(stat, osd->bytes_in + osd->bytes_pending) * 100);
    }
}

static void plan_print(struct command_call *call, const struct plan *plan, const json_t *dangers)
{
    char bytes[32];

    call_print(call, "dry run: nothing was changed. Would be: %s\n",
               call->request->status[0] != '\0' ? call->request->status : "done");
    if (!plan->changes)
        call_print(call, "  nothing would change\n");
    call_print(call, "  to move:   %s in %" PRIu64 " objects, %" PRIu64 " pgs change places\n",
               format_bytes((double)plan->bytes, bytes), plan->objects, plan->pgs);
    if (plan->bytes_pending > 0)
        call_print(call, "  besides:   %s of earlier changes are still to be moved\n",
                   format_bytes((double)plan->bytes_pending, bytes));
    plan_time(call, plan);
    plan_osds(call, plan);
    for (size_t i = 0; i < json_array_size(dangers); i++)
        call_print(call, "  risk:      %s\n", json_string_value(json_array_get(dangers, i)));
    if (json_array_size(dangers) == 0)
        call_print(call, "  risk:      none known\n");
}

int command_dry_run(struct command_call *call)
{
    struct plan plan;

    int rc = try_command(call, &plan);
    if (rc == 0) {
        json_t *dangers = risks(call, &plan);
        if (call->json)
            rc = plan_json(call, &plan, dangers);
        else
            plan_print(call, &plan, dangers);
        json_decref(dangers);
        call->request->status[0] = '\0';
    }
    plan_fini(&plan);
    return rc;
}

/* ---- Stopping and destroying ---- */

enum { IDS_MAX = 256 };

struct asked {
    uint32_t n;
    int32_t ids[IDS_MAX];
};

static int take_ids(struct command_call *call, struct asked *out)
{
    const json_t *list = json_object_get(call->args, "ids");

    out->n = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *value = json_array_get(list, i);
        char text[32];
        snprintf(text, sizeof text, "%s", json_string_value(value) ? json_string_value(value) : "");
        if (json_is_integer(value))
            snprintf(text, sizeof text, "%" PRId64, (int64_t)json_integer_value(value));
        if (out->n == IDS_MAX)
            return call_say(call, -E2BIG, "at most %d OSDs at a time", IDS_MAX);
        int rc = call_osd_id(call, text, &out->ids[out->n]);
        if (rc != 0)
            return rc;
        if (map_osd(call->map, out->ids[out->n]) == NULL)
            return call_say(call, -ENOENT, "osd.%d does not exist: see limpet osd tree",
                            out->ids[out->n]);
        out->n++;
    }
    return out->n > 0 ? 0 : call_say(call, -EINVAL, "argument \"ids\" is missing: which OSDs?");
}

static bool is_asked(const struct asked *asked, int32_t id)
{
    for (uint32_t i = 0; i < asked->n; i++) {
        if (asked->ids[i] == id)
            return true;
    }
    return false;
}

static json_t *ids_json(const struct asked *asked)
{
    json_t *list = json_array();

    for (uint32_t i = 0; i < asked->n; i++)
        json_array_append_new(list, json_integer(asked->ids[i]));
    return list;
}

/* Calls `look` for every group. */
static void each_group(struct command_call *call, const struct asked *asked,
                       void (*look)(struct command_call *call, const struct asked *asked,
                                    const struct map_pool *pool, const struct pg_id *pg,
                                    const struct pg_view *view, void *ctx),
                       void *ctx)
{
    for (uint32_t i = 0; i < call->map->n_pools; i++) {
        const struct map_pool *pool = &call->map->pools[i];
        for (uint32_t seed = 0; seed < pool->pg_num; seed++) {
            struct pg_id pg = {.pool = pool->id, .seed = seed};
            struct pg_view view;
            if (map_pg_view(call->map, pg, &view) == 0)
                look(call, asked, pool, &pg, &view, ctx);
        }
    }
}

struct stop_answer {
    uint64_t n_touched;
    struct plan_groups bad;
};

static void look_at_stop(struct command_call *call, const struct asked *asked,
                         const struct map_pool *pool, const struct pg_id *pg,
                         const struct pg_view *view, void *ctx)
{
    struct stop_answer *answer = ctx;
    uint8_t left = 0;
    bool touched = false;

    for (uint8_t i = 0; i < view->n_members; i++) {
        if (is_asked(asked, view->members[i]))
            touched = true;
        else if (map_osd_up(call->map, view->members[i]))
            left++;
    }
    answer->n_touched += touched;
    if (!touched || left >= pool->min_size)
        return;
    answer->bad.n++;
    if (answer->bad.n_examples < PLAN_EXAMPLES_MAX)
        answer->bad.examples[answer->bad.n_examples++] = *pg;
}

static int run_ok_to_stop(struct command_call *call)
{
    struct asked asked;
    struct stop_answer answer = {0};

    int rc = take_ids(call, &asked);
    if (rc != 0)
        return rc;
    each_group(call, &asked, look_at_stop, &answer);
    bool good = answer.bad.n == 0;
    if (call->json) {
        json_t *bad = groups_json(&answer.bad);
        rc = call_json(call, json_pack("{s:b, s:o, s:I, s:I, s:O}", "ok_to_stop", (int)good, "osds",
                                       ids_json(&asked), "num_ok_pgs",
                                       (json_int_t)(answer.n_touched - answer.bad.n),
                                       "num_not_ok_pgs", (json_int_t)answer.bad.n,
                                       "bad_become_inactive", json_object_get(bad, "examples")));
        json_decref(bad);
        if (rc != 0)
            return rc;
    }
    if (!good)
        return call_say(call, -EBUSY,
                        "unsafe to stop: %" PRIu64 " of %" PRIu64
                        " pgs would have fewer copies than min_size, and stop",
                        answer.bad.n, answer.n_touched);
    return call_say(call, 0, "safe to stop: %" PRIu64 " pgs go on with fewer copies",
                    answer.n_touched);
}

struct left_on {
    uint64_t pgs; /* Of whose set one of them is a member. */
    uint64_t bytes;
    uint64_t objects;
    uint64_t alone; /* These have no other member that is up. */
};

static void look_at_left(struct command_call *call, const struct asked *asked,
                         const struct map_pool *pool, const struct pg_id *pg,
                         const struct pg_view *view, void *ctx)
{
    struct left_on *left = ctx;
    const struct pg_stat *stat = stats_pg(call->mon->stats, *pg);
    bool others = false;

    (void)pool;
    for (uint8_t i = 0; i < view->n_members; i++)
        others = others ||
                 (!is_asked(asked, view->members[i]) && map_osd_up(call->map, view->members[i]));
    for (uint8_t i = 0; i < view->n_members; i++) {
        if (!is_asked(asked, view->members[i]))
            continue;
        left->pgs++;
        left->alone += !others;
        left->bytes += stat != NULL ? stat->bytes : 0;
        left->objects += stat != NULL ? stat->objects : 0;
    }
}

static int run_safe_to_destroy(struct command_call *call)
{
    struct asked asked;
    struct left_on left = {0};
    double bytes_per_s = 0;
    double objects_per_s = 0;

    int rc = take_ids(call, &asked);
    if (rc != 0)
        return rc;
    each_group(call, &asked, look_at_left, &left);
    bool known = stats_recovery_rate(call->mon->stats, &bytes_per_s, &objects_per_s);
    double eta_s =
        known ? stats_recovery_eta(bytes_per_s, objects_per_s, left.bytes, left.objects) : -1;
    if (call->json) {
        json_t *ids = ids_json(&asked);
        json_t *none = json_array();
        json_t *eta = left.pgs == 0 ? json_integer(0) : eta_s >= 0 ? json_real(eta_s) : json_null();
        rc = call_json(call,
                       json_pack("{s:O, s:O, s:I, s:I, s:I, s:I, s:o}", "safe_to_destroy",
                                 left.pgs == 0 ? ids : none, "active", left.pgs == 0 ? none : ids,
                                 "pgs_left", (json_int_t)left.pgs, "pgs_alone",
                                 (json_int_t)left.alone, "bytes_left", (json_int_t)left.bytes,
                                 "objects_left", (json_int_t)left.objects, "eta_seconds", eta));
        json_decref(ids);
        json_decref(none);
        /* A drained OSD and one that is not are both an answer to who asks for the figures. */
        if (rc != 0 || call_flag(call, "report"))
            return rc;
    }
    char bytes[32];
    if (left.pgs > 0)
        return call_say(call, -EBUSY,
                        "not safe to destroy: %" PRIu64 " pgs (%s) still count on it, %" PRIu64
                        " of them on nothing else: limpet osd drain",
                        left.pgs, format_bytes((double)left.bytes, bytes), left.alone);
    return call_say(call, 0, "safe to destroy: no pg counts on it");
}

const struct command commands_plan[] = {
    {"osd ok-to-stop", CAP_READ, COMMAND_READS, run_ok_to_stop, "ids",
     "whether all groups go on without these OSDs"},
    {"osd safe-to-destroy", CAP_READ, COMMAND_READS, run_safe_to_destroy, "ids",
     "whether no group counts on these OSDs' data"},
    {0},
};
