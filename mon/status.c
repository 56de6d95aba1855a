/* The status report: the cluster at a glance, in the layout of `ceph -s`. */
#include <errno.h>
#include <inttypes.h>

#include "mon/command.h"
#include "mon/summary.h"

static json_t *pgmap_json(const struct summary *summary, uint32_t n_pools)
{
    json_t *states = json_array();

    for (uint32_t i = 0; i < summary->n_states; i++)
        json_array_append_new(states, json_pack("{s:s, s:I}", "state_name", summary->states[i].text,
                                                "count", (json_int_t)summary->states[i].count));
    uint64_t avail =
        summary->bytes_total > summary->bytes_used ? summary->bytes_total - summary->bytes_used : 0;
    json_t *pgmap =
        json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "pgs_by_state", states, "num_pgs",
                  (json_int_t)summary->n_pgs, "num_pools", (json_int_t)n_pools, "num_objects",
                  (json_int_t)summary->objects, "data_bytes", (json_int_t)summary->bytes,
                  "bytes_used", (json_int_t)summary->bytes_used, "bytes_avail", (json_int_t)avail,
                  "bytes_total", (json_int_t)summary->bytes_total);
    json_object_set_new(pgmap, "write_op_per_sec",
                        json_integer((json_int_t)summary->rates[RATE_WRITE_OPS]));
    json_object_set_new(pgmap, "read_op_per_sec",
                        json_integer((json_int_t)summary->rates[RATE_READ_OPS]));
    json_object_set_new(pgmap, "write_bytes_sec",
                        json_integer((json_int_t)summary->rates[RATE_WRITE_BYTES]));
    json_object_set_new(pgmap, "read_bytes_sec",
                        json_integer((json_int_t)summary->rates[RATE_READ_BYTES]));
    if (summary->degraded > 0) {
        json_object_set_new(pgmap, "degraded_objects", json_integer((json_int_t)summary->degraded));
        json_object_set_new(pgmap, "degraded_total", json_integer((json_int_t)summary->copies));
        json_object_set_new(pgmap, "degraded_ratio",
                            json_real((double)summary->degraded / (double)summary->copies));
    }
    if (summary->misplaced > 0) {
        json_object_set_new(pgmap, "misplaced_objects",
                            json_integer((json_int_t)summary->misplaced));
        json_object_set_new(pgmap, "misplaced_total", json_integer((json_int_t)summary->copies));
        json_object_set_new(pgmap, "misplaced_ratio",
                            json_real((double)summary->misplaced / (double)summary->copies));
    }
    json_object_set_new(pgmap, "recovering_objects_per_sec",
                        json_integer((json_int_t)summary->rates[RATE_OBJECTS_RECOVERED]));
    json_object_set_new(pgmap, "recovering_bytes_per_sec",
                        json_integer((json_int_t)summary->rates[RATE_BYTES_RECOVERED]));
    return pgmap;
}

static json_t *recovery_json(const struct summary *summary)
{
    json_t *waiting = json_array();

    for (uint32_t i = 0; i < summary->n_reasons; i++)
        json_array_append_new(waiting, json_pack("{s:s, s:I}", "reason", summary->reasons[i].text,
                                                 "pgs", (json_int_t)summary->reasons[i].count));
    json_t *eta = summary->eta_s >= 0 ? json_real(summary->eta_s) : json_null();
    return json_pack("{s:I, s:I, s:o, s:o}", "bytes_left", (json_int_t)summary->bytes_left,
                     "objects_left", (json_int_t)summary->objects_left, "eta_seconds", eta,
                     "waiting", waiting);
}

/* There are no managers, metadata servers or other services, and nothing that they would do. */
static void add_absent(json_t *root)
{
    json_object_set_new(root, "fsmap",
                        json_pack("{s:i, s:[], s:i}", "epoch", 1, "by_rank", "up:standby", 0));
    json_object_set_new(root, "mgrmap",
                        json_pack("{s:b, s:i, s:[], s:{}}", "available", 0, "num_standbys", 0,
                                  "modules", "services"));
    json_object_set_new(root, "servicemap", json_pack("{s:i, s:{}}", "epoch", 1, "services"));
    json_object_set_new(root, "progress_events", json_object());
}

static int status_json(struct command_call *call, const struct summary *summary,
                       const struct health *health)
{
    const struct mon *mon = call->mon;
    struct consensus_state state;
    char fsid[UUID_TEXT_MAX];

    consensus_state(mon->consensus, &state);
    uint64_t age = (env_now(mon->env) - call->leader->quorum_ns) / SEC_NS;
    json_t *root = json_pack("{s:s, s:o, s:I, s:o, s:o, s:s, s:I}", "fsid",
                             uuid_format(&mon->identity.fsid, fsid), "health",
                             health_json(health, false), "election_epoch", (json_int_t)state.term,
                             "quorum", quorum_ranks(call), "quorum_names", quorum_names(call),
                             "quorum_leader_name", mon->self.name, "quorum_age", (json_int_t)age);
    json_object_set_new(root, "monmap",
                        json_pack("{s:I, s:I, s:s}", "epoch", (json_int_t)1, "num_mons",
                                  (json_int_t)mon->identity.n_mons, "min_mon_release_name",
                                  "limpet"));
    json_object_set_new(root, "osdmap", osd_counts_json(call, summary));
    json_object_set_new(root, "pgmap", pgmap_json(summary, mon->state.map->n_pools));
    json_object_set_new(root, "recovery", recovery_json(summary));
    add_absent(root);
    return call_json(call, root);
}

static void status_services(struct command_call *call, const struct summary *summary)
{
    const struct mon *mon = call->mon;
    uint64_t mask = leader_quorum(call->leader);
    uint64_t now_ns = env_now(mon->env);
    char age[16];
    const char *comma = "";

    call_print(call, "  services:\n    mon: %u daemon%s, quorum ", mon->identity.n_mons,
               mon->identity.n_mons == 1 ? "" : "s");
    for (uint32_t i = 0; i < mon->identity.n_mons; i++) {
        if ((mask >> i) & 1) {
            call_print(call, "%s%s", comma, mon->identity.mons[i].name);
            comma = ",";
        }
    }
    call_print(call, " (age %s)", format_age(now_ns - call->leader->quorum_ns, age));
    comma = ", out of quorum: ";
    for (uint32_t i = 0; i < mon->identity.n_mons; i++) {
        if (((mask >> i) & 1) == 0) {
            call_print(call, "%s%s", comma, mon->identity.mons[i].name);
            comma = ", ";
        }
    }
    call_print(call, "\n    osd: %u osds: %u up", summary->n_osds, summary->n_up);
    if (summary->n_up > 0)
        call_print(call, " (since %s)", format_age(now_ns - call->leader->up_ns, age));
    call_print(call, ", %u in", summary->n_in);
    if (summary->n_in > 0)
        call_print(call, " (since %s)", format_age(now_ns - call->leader->in_ns, age));
    call_print(call, "\n\n");
}

static void status_io(struct command_call *call, const struct summary *summary)
{
    const double *rates = summary->rates;
    bool clients = rates[RATE_WRITE_OPS] + rates[RATE_READ_OPS] >= 0.5;
    bool recovery = rates[RATE_BYTES_RECOVERED] + rates[RATE_OBJECTS_RECOVERED] >= 0.05;
    char a[32];
    char b[32];

    if (clients || recovery)
        call_print(call, "\n  io:\n");
    if (clients)
        call_print(call, "    client:   %s/s rd, %s/s wr, %.0f op/s rd, %.0f op/s wr\n",
                   format_bytes(rates[RATE_READ_BYTES], a),
                   format_bytes(rates[RATE_WRITE_BYTES], b), rates[RATE_READ_OPS],
                   rates[RATE_WRITE_OPS]);
    if (recovery)
        call_print(call, "    recovery: %s/s, %.1f objects/s\n",
                   format_bytes(rates[RATE_BYTES_RECOVERED], a), rates[RATE_OBJECTS_RECOVERED]);
}

/* How much is left, until when, and why something waits. */
static void status_progress(struct command_call *call, const struct summary *summary)
{
    char bytes[32];
    char age[16];

    if (summary->objects_left + summary->bytes_left == 0 && summary->n_reasons == 0)
        return;
    call_print(call, "\n  progress:\n");
    if (summary->objects_left + summary->bytes_left > 0) {
        call_print(call, "    recovery: %s in %" PRIu64 " objects left",
                   format_bytes((double)summary->bytes_left, bytes), summary->objects_left);
        if (summary->eta_s >= 0)
            call_print(call, ", about %s\n",
                       format_age((uint64_t)(summary->eta_s * (double)SEC_NS), age));
        else
            call_print(call, ", time not known: nothing has been copied of late\n");
    }
    for (uint32_t i = 0; i < summary->n_reasons; i++)
        call_print(call, "    waiting:  %" PRIu64 " pgs: %s\n", summary->reasons[i].count,
                   summary->reasons[i].text);
}

static void status_data(struct command_call *call, const struct summary *summary)
{
    char a[32];
    char b[32];
    char c[32];
    uint64_t avail =
        summary->bytes_total > summary->bytes_used ? summary->bytes_total - summary->bytes_used : 0;

    call_print(call, "  data:\n    pools:   %u pools, %" PRIu64 " pgs\n",
               call->mon->state.map->n_pools, summary->n_pgs);
    call_print(call, "    objects: %" PRIu64 " objects, %s\n", summary->objects,
               format_bytes((double)summary->bytes, a));
    call_print(call, "    usage:   %s used, %s / %s avail\n",
               format_bytes((double)summary->bytes_used, a), format_bytes((double)avail, b),
               format_bytes((double)summary->bytes_total, c));
    call_print(call, "    pgs:     ");
    if (summary->n_inactive > 0)
        call_print(call, "%.3f%% pgs not active\n             ",
                   100.0 * (double)summary->n_inactive / (double)summary->n_pgs);
    if (summary->degraded > 0)
        call_print(call, "%" PRIu64 "/%" PRIu64 " objects degraded (%.3f%%)\n             ",
                   summary->degraded, summary->copies,
                   100.0 * (double)summary->degraded / (double)summary->copies);
    if (summary->misplaced > 0)
        call_print(call, "%" PRIu64 "/%" PRIu64 " objects misplaced (%.3f%%)\n             ",
                   summary->misplaced, summary->copies,
                   100.0 * (double)summary->misplaced / (double)summary->copies);
    for (uint32_t i = 0; i < summary->n_states; i++)
        call_print(call, "%s%" PRIu64 " %s", i > 0 ? "\n             " : "",
                   summary->states[i].count, summary->states[i].text);
    call_print(call, "\n");
    status_io(call, summary);
    status_progress(call, summary);
    call_print(call, "\n");
}

static int run_status(struct command_call *call)
{
    struct summary summary;
    char fsid[UUID_TEXT_MAX];

    summary_make(call->mon, &summary);
    struct health *health = health_make(call->mon, &summary);
    if (health == NULL)
        return -ENOMEM;
    int rc = 0;
    if (call->json) {
        rc = status_json(call, &summary, health);
    } else {
        call_print(call, "  cluster:\n    id:     %s\n    health: %s\n",
                   uuid_format(&call->mon->identity.fsid, fsid), health_text(health->severity));
        for (uint32_t i = 0; i < health->n; i++)
            call_print(call, "            %s\n", health->checks[i].summary);
        call_print(call, "\n");
        status_services(call, &summary);
        status_data(call, &summary);
    }
    health_free(health);
    return rc;
}

const struct command commands_status[] = {
    {"status", CAP_READ, false, run_status, "", "the cluster at a glance"},
    {0},
};
