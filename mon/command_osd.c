/* Commands about OSDs. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "mon/command.h"
#include "mon/summary.h"

/* ---- Reading ---- */

/* Groups whose set is another than CRUSH says. */
static uint64_t count_remapped(const struct summary *summary)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < summary->n_states; i++)
        n += strstr(summary->states[i].text, "remapped") != NULL ? summary->states[i].count : 0;
    return n;
}

json_t *osd_counts_json(const struct command_call *call, const struct summary *summary)
{
    const struct leader *leader = call->leader;

    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "epoch", (json_int_t)call->map->epoch,
                     "num_osds", (json_int_t)summary->n_osds, "num_up_osds",
                     (json_int_t)summary->n_up, "osd_up_since",
                     (json_int_t)(call_wall(call, leader->up_ns) / SEC_NS), "num_in_osds",
                     (json_int_t)summary->n_in, "osd_in_since",
                     (json_int_t)(call_wall(call, leader->in_ns) / SEC_NS), "num_remapped_pgs",
                     (json_int_t)count_remapped(summary));
}

static int run_stat(struct command_call *call)
{
    struct summary summary;

    summary_make(call->mon, &summary);
    if (call->json)
        return call_json(call, osd_counts_json(call, &summary));
    call_print(call, "%u osds: %u up, %u in; epoch: e%" PRIu64 "\n", summary.n_osds, summary.n_up,
               summary.n_in, call->map->epoch);
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
    {"osd stat", CAP_READ, false, run_stat, "", "the OSDs in one line"},
    {"osd ls", CAP_READ, false, run_ls, "", "numbers of all OSDs"},
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
