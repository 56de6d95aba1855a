/*
 * The versions of running daemons: OSDs tell theirs with their statistics, monitors each other when
 * they connect. Who runs and has not told yet is "unknown", as Ceph has it.
 */
#include "common/version.h"
#include "mon/command.h"

static void count_version(json_t *counts, const char *version)
{
    char text[LIMPET_VERSION_MAX + 32];

    snprintf(text, sizeof text, "%s%s", version != NULL ? "limpet version " : "",
             version != NULL ? version : "unknown");
    json_int_t before = json_integer_value(json_object_get(counts, text));
    json_object_set_new(counts, text, json_integer(before + 1));
}

/* Of those that take part in the quorum: others may not run. */
static void count_mons(const struct command_call *call, json_t *counts)
{
    const struct mon *mon = call->mon;
    uint64_t mask = leader_quorum(call->leader);

    for (uint32_t i = 0; i < mon->identity.n_mons; i++) {
        uint64_t id = mon->identity.mons[i].id;
        if (((mask >> i) & 1) != 0)
            count_version(counts,
                          id == mon->self.id ? limpet_version_text() : session_version(mon, id));
    }
}

static void count_osds(const struct command_call *call, json_t *counts)
{
    for (int32_t id = 0; id < call->map->max_osd; id++) {
        const struct map_osd *osd = map_osd(call->map, id);
        if (osd == NULL || !osd->up)
            continue;
        const struct osd_stat *stat = stats_osd(call->mon->stats, call->map, id);
        count_version(counts, stat != NULL && stat->version[0] != '\0' ? stat->version : NULL);
    }
}

static int answer(struct command_call *call, json_t *value)
{
    call->pretty = call->pretty || !call->json;
    return call_json(call, value);
}

static int run_versions(struct command_call *call)
{
    json_t *mons = json_object();
    json_t *osds = json_object();
    json_t *overall = json_object();

    count_mons(call, mons);
    count_osds(call, osds);
    count_mons(call, overall);
    count_osds(call, overall);
    return answer(call, json_pack("{s:o, s:{}, s:o, s:{}, s:o}", "mon", mons, "mgr", "osd", osds,
                                  "mds", "overall", overall));
}

static int run_mon_versions(struct command_call *call)
{
    json_t *mons = json_object();

    count_mons(call, mons);
    return answer(call, mons);
}

static int run_osd_versions(struct command_call *call)
{
    json_t *osds = json_object();

    count_osds(call, osds);
    return answer(call, osds);
}

const struct command commands_versions[] = {
    {"versions", CAP_READ, false, run_versions, "", "which versions how many daemons run"},
    {"mon versions", CAP_READ, false, run_mon_versions, "", "the same, of monitors"},
    {"osd versions", CAP_READ, false, run_osd_versions, "", "the same, of OSDs"},
    {0},
};
