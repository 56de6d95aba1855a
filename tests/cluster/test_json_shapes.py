#!/usr/bin/env python3
"""Answers of commands in JSON have the keys and types that Ceph's have (tests/compat/json-16.json)."""

import errno
import json
import os
import re

from lib.cluster import REPO, Cluster, case, check, fails, read_file, run, succeeds, wait_until

cluster = Cluster(mons=3, osds=3)
RECORDED = json.loads(read_file(os.path.join(REPO, "tests/compat/json-16.json")))

PEERING = "Ceph's peering and its history: here a set of members has a number instead"
TIERS = "cache tiers and their statistics do not exist"
NOT_KEPT = "the map does not keep it"
LIMITS = "a release of Ceph; programs would conclude what they may ask for"

# Expressions of "command: path" that are not there, or are otherwise, and why.
ABSENT = {
    r"status: mgrmap\.modules\[\]": "there are no managers: the list is empty",
    r"osd dump: flags_set\[\]": "no flag is set; another case sets one",
    r"status: servicemap\.modified": "there are no services that could have changed",
    r"(health|status|health detail): .*checks\..*": "which checks there are differs; compared apart",
    r"df( detail)?: stats\.num_per_pool_(omap_)?osds": "an OSD has one disk for everything",
    r"df( detail)?: stats_by_class\..*": "OSDs have no classes of devices",
    r"df detail: .*\.(stored_data|stored_omap|data_bytes_used|omap_bytes_used)":
        "data and maps of objects are not counted apart",
    r"osd (tree|df): .*\.device_class": "OSDs have no classes of devices",
    r"osd df: .*kb_used_(data|omap|meta)": "data and maps of objects are not counted apart",
    r"osd dump: (crush_version|backfillfull_ratio|require_.*|min_compat_client)": LIMITS,
    r"osd dump: (pg_temp|.*removed_snaps.*|.*purged_snaps|osd_xinfo.*)": PEERING,
    r"osd dump: stretch_mode\.(?!stretch_mode_enabled).*": "there is no stretch mode",
    r"osd dump: osds\[\]\.(last_clean_.*|up_thru|lost_at)": PEERING,
    r"osd (dump|pool ls detail): .*\[\]\.(create_time|last_change|snap_epoch|last_force_op_.*)":
        NOT_KEPT,
    r"osd (dump|pool ls detail): .*\[\]\.(peering_.*|last_pg_merge_meta.*|removed_snaps)": PEERING,
    r"osd (dump|pool ls detail): .*\[\]\.(hit_set_.*|use_gmt_hitset|min_.*_for_promote|cache_t.*"
    r"|cache_min_.*|target_max_.*|grade_table)": TIERS,
    r"osd pool get data all: (nopgchange|write_fadvise_dontneed|use_gmt_hitset)":
        "nothing here is controlled by it",
    r"(mon dump|quorum_status): .*(min_mon_release|election_strategy|disallowed_.*|removed_.*)":
        LIMITS,
    r"(mon dump|quorum_status): .*features\..*\[\]|quorum_status: .*quorum_mon\[\]":
        "the list is empty: these are Ceph's features",
    r"osd (dump|pool ls detail): .*application_metadata\.\*":
        "the program cannot enable one; test_librados_all.py does",
    r"versions: mgr\..*": "there are no managers",
}

MIXED = {"osd tree"}  # Buckets and OSDs, in one list, have different keys.


def kind(value):
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def found(value, path, mixed):
    """All that is at a path: "pools[].name", "blocklist.*". Without `mixed` all entries of lists
    must have it."""
    values = [value]
    for step in re.findall(r"\[\]|[^.\[]+", path):
        if step == "[]":
            values = [entry for each in values for entry in each]
        elif step == "*":
            values = [entry for each in values for entry in each.values()]
        else:
            keys = [{key.replace(".", "_").replace(" ", "_"): entry for key, entry in each.items()}
                    for each in values]
            if not mixed and not all(step in each for each in keys):
                return []
            values = [each[step] for each in keys if step in each]
    return values


def is_absent(command, path):
    line = "%s: %s" % (command, path)
    return any(re.fullmatch(expression, line) for expression in ABSENT)


def ask(command):
    return json.loads(succeeds(cluster.limpet(*command.split(), "-f", "json")).text)


def differences(command, shape):
    answer = ask(command)
    wrong = [] if kind(answer) == shape["top"] else ["%s is no %s" % (command, shape["top"])]
    for name in set(shape) - {"top"}:
        for path in shape[name].split():
            if is_absent(command, path):
                continue
            values = found(answer, path, command in MIXED)
            if not values:
                wrong.append("%s: %s is missing" % (command, path))
            elif any(kind(value) != name for value in values):
                wrong.append("%s: %s is %s, not %s" % (command, path, kind(values[0]), name))
    return wrong


@case
def starts():
    cluster.start()
    cluster.pool("data")
    cluster.put("data", "one", b"something")
    succeeds(cluster.rados("-p", "data", "mksnap", "snap1"))
    succeeds(cluster.limpet("osd", "blocklist", "add", "127.0.0.1:0/4711"))


@case
def keys_and_types():
    wrong = []
    for command, shape in RECORDED.items():
        if not is_absent(command, ""):
            wrong += differences(command.replace("map 1.0", "map %d.0" % pool_number()), shape)
    check(not wrong, "\n".join(wrong))


def pool_number():
    return ask("osd pool ls detail")[0]["pool_id"]


@case
def checks_of_health():
    succeeds(cluster.limpet("osd", "set", "noout"))
    for command in ("health", "health detail"):
        value = ask(command)["checks"]["OSDMAP_FLAGS"]
        check(value["severity"] == "HEALTH_WARN" and value["summary"]["count"] == 1, value)
        check(isinstance(value["summary"]["message"], str) and value["muted"] is False, value)
        check(("detail" in value) == (command == "health detail"), value)
    check(ask("status")["health"]["checks"].keys() == {"OSDMAP_FLAGS"}, "status")
    dump = ask("osd dump")
    check(dump["flags"] == "noout" and dump["flags_set"] == ["noout"], dump["flags"])
    succeeds(cluster.limpet("osd", "unset", "noout"))


@case
def values():
    check(ask("quorum_status")["quorum"] == [0, 1, 2], "quorum")
    leader = ask("mon stat")["leader"]
    check(leader in [each["name"] for each in ask("mon stat")["quorum"]], "the leader")
    pool = ask("osd pool ls detail")[0]
    check(pool["flags_names"] == "hashpspool,pool_snaps" and pool["snap_mode"] == "pool", pool)
    check([each["name"] for each in pool["pool_snaps"]] == ["snap1"], pool)
    check(list(ask("osd dump")["blocklist"]) == ["127.0.0.1:0/4711"], "blocklist")
    use = ask("osd df")
    check([node["pgs"] for node in use["nodes"]] == [pool["pg_num"]] * 3, use["nodes"])
    check(use["summary"]["total_kb"] == sum(node["kb"] for node in use["nodes"]), use["summary"])


@case
def versions_of_daemons():
    """Those that run count, by what they have told themselves."""
    version = "limpet version " + ask("version")["version"]
    wait_until("6 versions", lambda: ask("versions")["overall"] == {version: 6}, 60)
    check(ask("versions") == {"mon": {version: 3}, "mgr": {}, "osd": {version: 3}, "mds": {},
                              "overall": {version: 6}}, ask("versions"))
    cluster.kill("osd.2")
    wait_until("osd.2 counts no more", lambda: ask("osd versions") == {version: 2}, 60)
    follower = next(name for name in "abc" if name != ask("mon stat")["leader"])
    cluster.kill("mon." + follower)
    wait_until("mon.%s counts no more" % follower, lambda: ask("mon versions") == {version: 2}, 60)
    cluster.start()
    wait_until("6 versions again", lambda: ask("versions")["overall"] == {version: 6}, 60)


@case
def where_an_object_is():
    """The hashes are Ceph's: its 16.2.15 says the same of these names."""
    for space, name, digest in (([], "one", "57037cc6"), (["spacey"], "spacey/one", "a645cd8a")):
        command = ["osd", "map", "data", "one"] + space
        where = json.loads(succeeds(cluster.limpet(*command, "-f", "json")).text)
        check(where["raw_pgid"] == "%d.%s" % (where["pool_id"], digest), where)
        check(where["objname"] == name and sorted(where["acting"]) == [0, 1, 2], where)
        check(where["acting_primary"] == where["acting"][0], where)
        group = ask("pg map " + where["pgid"])
        check(group["acting"] == where["acting"] and group["up"] == where["up"], group)
        text = succeeds(cluster.limpet(*command)).text
        check("object '%s' -> pg %s (%s)" % (name, where["raw_pgid"], where["pgid"]) in text, text)
    fails(cluster.limpet("osd", "map", "none", "one"), errno.ENOENT, "none")


@case
def work_in_pools():
    check([each["pool_name"] for each in ask("osd pool stats")] == ["data"], "osd pool stats")
    check(ask("osd pool stats data")[0]["recovery"] == {}, "osd pool stats data")
    fails(cluster.limpet("osd", "pool", "stats", "none"), errno.ENOENT, "none")


if __name__ == "__main__":
    run()
