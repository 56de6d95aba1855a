/* Commands about the monitors. */
#include <inttypes.h>

#include "mon/command.h"

static json_t *mon_json(const struct mon *mon, uint32_t rank)
{
    const struct map_mon *info = &mon->identity.mons[rank];
    char address[NET_ADDRESS_TEXT_MAX];

    net_address_format(&info->address, address);
    return json_pack("{s:i, s:s, s:o, s:s, s:s, s:i, s:i, s:s}", "rank", (int)rank, "name",
                     info->name, "public_addrs", addresses_json(&info->address, 0), "addr", address,
                     "public_addr", address, "priority", 0, "weight", 0, "crush_location", "{}");
}

/* The set of monitors is as old as the cluster: it cannot be changed. */
json_t *monmap_json(const struct command_call *call)
{
    const struct mon *mon = call->mon;
    json_t *mons = json_array();
    char fsid[UUID_TEXT_MAX], created[STAMP_TEXT_MAX];

    for (uint32_t i = 0; i < mon->identity.n_mons; i++)
        json_array_append_new(mons, mon_json(mon, i));
    format_stamp(mon->state.map->created_ns, created);
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:b, s:s, s:{s:[], s:[]}, s:o}", "epoch",
                     (json_int_t)1, "fsid", uuid_format(&mon->identity.fsid, fsid), "modified",
                     created, "created", created, "min_mon_release_name", "limpet", "stretch_mode",
                     0, "tiebreaker_mon", "", "features", "persistent", "optional", "mons", mons);
}

json_t *quorum_ranks(const struct command_call *call)
{
    uint64_t mask = leader_quorum(call->leader);
    json_t *ranks = json_array();

    for (uint32_t i = 0; i < call->mon->identity.n_mons; i++) {
        if ((mask >> i) & 1)
            json_array_append_new(ranks, json_integer(i));
    }
    return ranks;
}

json_t *quorum_names(const struct command_call *call)
{
    uint64_t mask = leader_quorum(call->leader);
    json_t *names = json_array();

    for (uint32_t i = 0; i < call->mon->identity.n_mons; i++) {
        if ((mask >> i) & 1)
            json_array_append_new(names, json_string(call->mon->identity.mons[i].name));
    }
    return names;
}

static int run_mon_dump(struct command_call *call)
{
    const struct mon *mon = call->mon;
    char fsid[UUID_TEXT_MAX];
    char address[NET_ADDRESS_TEXT_MAX];

    if (call->json) {
        json_t *value = monmap_json(call);
        json_object_set_new(value, "quorum", quorum_ranks(call));
        json_object_set_new(value, "quorum_names", quorum_names(call));
        return call_json(call, value);
    }
    call_print(call, "epoch 1\nfsid %s\n", uuid_format(&mon->identity.fsid, fsid));
    for (uint32_t i = 0; i < mon->identity.n_mons; i++)
        call_print(call, "%u: %s mon.%s\n", i,
                   net_address_format(&mon->identity.mons[i].address, address),
                   mon->identity.mons[i].name);
    return 0;
}

static json_t *quorum_members(const struct command_call *call)
{
    uint64_t mask = leader_quorum(call->leader);
    json_t *list = json_array();

    for (uint32_t i = 0; i < call->mon->identity.n_mons; i++) {
        if ((mask >> i) & 1)
            json_array_append_new(list, json_pack("{s:i, s:s}", "rank", (int)i, "name",
                                                  call->mon->identity.mons[i].name));
    }
    return list;
}

static int run_mon_stat(struct command_call *call)
{
    const struct mon *mon = call->mon;
    uint64_t mask = leader_quorum(call->leader);
    struct consensus_state state;
    const char *comma = "";

    consensus_state(mon->consensus, &state);
    if (call->json)
        return call_json(call, json_pack("{s:i, s:s, s:I, s:s, s:o, s:I}", "epoch", 1,
                                         "min_mon_release_name", "limpet", "num_mons",
                                         (json_int_t)mon->identity.n_mons, "leader", mon->self.name,
                                         "quorum", quorum_members(call), "election_epoch",
                                         (json_int_t)state.term));
    call_print(call, "e1: %u mons, election epoch %" PRIu64 ", leader %s, quorum ",
               mon->identity.n_mons, state.term, mon->self.name);
    for (uint32_t i = 0; i < mon->identity.n_mons; i++) {
        if ((mask >> i) & 1) {
            call_print(call, "%s%s", comma, mon->identity.mons[i].name);
            comma = ",";
        }
    }
    call_print(call, "\n");
    return 0;
}

static int run_quorum_status(struct command_call *call)
{
    const struct mon *mon = call->mon;
    struct consensus_state state;

    consensus_state(mon->consensus, &state);
    call->pretty = call->pretty || !call->json;
    return call_json(
        call,
        json_pack("{s:I, s:o, s:o, s:s, s:I, s:{s:s, s:[]}, s:I, s:I, s:o}", "election_epoch",
                  (json_int_t)state.term, "quorum", quorum_ranks(call), "quorum_names",
                  quorum_names(call), "quorum_leader_name", mon->self.name, "quorum_age",
                  (json_int_t)((env_now(mon->env) - call->leader->quorum_ns) / SEC_NS), "features",
                  "quorum_con", "0", "quorum_mon", "log_index", (json_int_t)state.last_index,
                  "log_applied", (json_int_t)state.applied, "monmap", monmap_json(call)));
}

const struct command commands_mon[] = {
    {"mon dump", CAP_READ, false, run_mon_dump, "", "the monitors and their addresses"},
    {"mon stat", CAP_READ, false, run_mon_stat, "", "the monitors in one line"},
    {"quorum_status", CAP_READ, false, run_quorum_status, "", "who takes part, who leads"},
    {0},
};
