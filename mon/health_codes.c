/*
 * What each code of the health report means: its cause, what it does to the users of the cluster,
 * and what to type. The same text is the "next" of the report and `limpet health explain CODE`.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "mon/command.h"
#include "mon/summary.h"

static const struct health_code codes[] = {
    {"MON_DOWN",
     "A monitor does not take part in the quorum: its process does not run, or the other "
     "monitors cannot reach it.",
     "None, as long as more than half of the monitors are left. Below that nothing changes in the "
     "cluster any more: no OSD is marked down or up, and no command works.",
     "start the monitor on its host (limpet-mon --id NAME), or look into its log"},
    {"TOO_FEW_OSDS", "No OSD has ever booted.", "Nothing can be stored.",
     "start OSDs: limpet-osd --mkfs, then limpet-osd"},
    {"OSD_DOWN",
     "An OSD stopped, nobody listens at its address, or it was silent to other OSDs and to the "
     "monitors.",
     "The placement groups that it has a part of go on with fewer copies, or, below min_size, wait "
     "for it. After mon_osd_down_out_interval its data are copied to others.",
     "start it on its host (limpet-osd --id N), or look into its log; if its disk is lost, limpet "
     "osd out N, and limpet osd rm N once the data is copied"},
    {"OSD_FLAPPING",
     "An OSD was marked down again and again although its process lives: its network loses "
     "packets, "
     "its machine is overloaded, or it and others cannot reach each other.",
     "Each time the groups that it has a part of stop for some seconds. To prevent that it is held "
     "down for a while, each time for longer, as if it had failed.",
     "check the network and the load of its host; then restart it, which ends the hold; if it "
     "cannot "
     "be repaired, limpet osd out N"},
    {"OSD_UNREACHABLE",
     "OSDs report others as silent that answer the monitors: a link between them is broken, in one "
     "direction or in both.",
     "The groups that they share stop until one of the two is marked down, after "
     "mon_osd_partial_grace.",
     "check cables, switches and firewalls between the hosts that are named: limpet health detail"},
    {"OSD_FULL", "An OSD is as full as mon_osd_full_ratio allows.",
     "Writes that need space fail with ENOSPC. Reads and deletions work.",
     "delete data, or add OSDs; removals always work"},
    {"OSD_NEARFULL", "An OSD is fuller than mon_osd_nearfull_ratio.",
     "None yet; when it is full, writes to its placement groups fail.",
     "add OSDs, or delete data, before they are full; limpet osd reweight N 0.9 moves some of it"},
    {"BLOCKLIST_FULL",
     "Many clients are blocked: machines with mounts or images died or lost their network again "
     "and again, or somebody has blocked many by hand. Each stays blocked for days.",
     "None yet. When all places are taken, who waits for what a dead client had for itself (a "
     "folder, the lock of an image) goes on waiting.",
     "find out why clients die or are cut off; limpet osd blocklist ls, and limpet osd blocklist "
     "rm "
     "ADDRESS for those whose machines have been restarted since"},
    {"OSDMAP_FLAGS",
     "Somebody has set flags that keep the cluster from doing what it does by itself.",
     "As the flag says: noout, noin, noup and nodown keep OSDs as they are, nobackfill and "
     "norecover "
     "keep copies from being made, noscrub and nodeep-scrub keep them from being compared, pause "
     "stops reads and writes, full refuses what needs space.",
     "limpet osd unset FLAG once it is no longer needed"},
    {"PG_AVAILABILITY",
     "Of some placement groups too few copies are at hand: OSDs are down, are just starting, or "
     "the "
     "set is smaller than min_size.",
     "Reads and writes of their objects wait. Nothing is lost by waiting.",
     "bring back the OSDs that are down: these groups wait for them; limpet pg ls inactive shows "
     "for "
     "which"},
    {"PG_DEGRADED",
     "Some objects have fewer copies than their pool asks for, after an OSD went down or "
     "out, or the pool's size was raised.",
     "Reads and writes go on. Another failure may make objects unavailable.",
     "nothing, when OSDs are up and copies are being made; else bring back the OSDs that are down, "
     "or "
     "add some"},
    {"PG_UNPLACED",
     "CRUSH does not find as many places for some placement groups as their pool asks for: there "
     "are "
     "fewer hosts (or racks: see the pool's rule) with OSDs that are in than the pool has copies.",
     "The groups have fewer copies than asked for, or keep them where they do not belong.",
     "add OSDs on other hosts, limpet osd in N, or limpet osd pool set POOL size N"},
    {"OBJECT_MISPLACED",
     "Data are not where CRUSH wants them, after a change of weights, rules or OSDs.",
     "None: all copies are there. Moving them costs some of the disks' time.",
     "nothing: data is being moved to where it belongs; limpet status shows how far"},
    {"PG_INCONSISTENT",
     "Copies of an object differ, or cannot be read: a disk returned something else than what was "
     "written to it, or lost it.",
     "Reads of these objects are answered from a good copy where there is one; of an object "
     "without one they fail.",
     "limpet pg repair PG writes bad copies anew from good ones; objects that stay have no good "
     "copy: limpet rados list-inconsistent-obj PG names them; restore them from elsewhere, or "
     "remove them. Check the disks of the OSDs"},
    {"SLOW_OPS",
     "Requests of clients have waited in an OSD for longer than osd_op_complaint_time: for a copy "
     "on another OSD whose disk or network is slow or hangs, for an object that somebody else "
     "holds, or for a placement group that does not serve.",
     "The programs that sent them wait: for these requests, and for what follows on the same "
     "objects.",
     "limpet health detail says what the oldest of each OSD waits for. If it is the copy on "
     "another OSD, look at the disk and the network of that one, and restart it if it hangs; "
     "the log of the OSD (\"slow requests\") names the client"},
    {"OSD_TOO_MANY_REPAIRS",
     "An OSD could not read many of its objects, or had to write many of them anew from other "
     "copies, since it started: its disk is failing.",
     "None while other copies are good. Each failing disk makes it likelier that there is none.",
     "look into the disk's own report (smartctl), and replace it: limpet osd out N, and limpet osd "
     "rm N once the data is copied; restarting the OSD begins the count anew"},
    {"POOL_NO_REDUNDANCY", "A pool keeps one copy of each object.",
     "The failure of one disk loses data.",
     "limpet osd pool set POOL size 3, unless its data may be lost"},
};

const struct health_code *health_code_find(const char *code)
{
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (strcasecmp(codes[i].code, code) == 0)
            return &codes[i];
    }
    return NULL;
}

static json_t *code_json(const struct health_code *code)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "code", code->code, "cause", code->cause, "impact",
                     code->impact, "next", code->next);
}

static int explain_all(struct command_call *call)
{
    json_t *list = json_array();

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (call->json)
            json_array_append_new(list, code_json(&codes[i]));
        else
            call_print(call, "%-20s %s\n", codes[i].code, codes[i].cause);
    }
    if (call->json)
        return call_json(call, list);
    json_decref(list);
    return 0;
}

static int run_explain(struct command_call *call)
{
    const char *name = call_text(call, "code");

    if (name == NULL)
        return explain_all(call);
    const struct health_code *code = health_code_find(name);
    if (code == NULL)
        return call_say(call, -ENOENT,
                        "there is no health code '%.64s': limpet health explain lists all", name);
    if (call->json)
        return call_json(call, code_json(code));
    call_print(call, "%s\n\ncause:  %s\nimpact: %s\nnext:   %s\n", code->code, code->cause,
               code->impact, code->next);
    return 0;
}

const struct command commands_health_codes[] = {
    {"health explain", CAP_READ, false, run_explain, "[code]",
     "cause and impact of a health code, and what to do"},
    {0},
};
