#!/usr/bin/env python3
"""`limpet rados` takes the options of `rados` in all their forms, and prints what it prints."""

import errno
import json
import os
import re

from lib.cluster import (BIN, Cluster, case, check, command, fails, folder, random_bytes, read_file, run,
                         succeeds, wait_until,
                         write_file)

cluster = Cluster(mons=1, osds=3)
scratch = folder()


@case
def starts_healthy():
    cluster.start()
    cluster.pool("data")
    cluster.pool("other")


@case
def pool_option_in_every_form():
    cluster.put("data", "name", b"content")
    for option in (["-p", "data"], ["-pdata"], ["--pool", "data"], ["--pool=data"]):
        check(succeeds(cluster.rados(*option, "get", "name", "-")).out == b"content", "%s" % option)
        check(succeeds(cluster.rados("get", "name", "-", *option)).out == b"content",
              "%s at the end" % option)
    result = cluster.rados("-p", "other", "get", "name", "-")
    fails(result, errno.ENOENT)


@case
def pools_are_listed():
    names = succeeds(cluster.rados("lspools")).text.splitlines()
    check(sorted(names) == ["data", "other"], "lspools: %r" % names)
    names = succeeds(cluster.limpet("pool", "ls")).text.splitlines()
    check(sorted(names) == ["data", "other"], "pool ls: %r" % names)
    names = json.loads(succeeds(cluster.limpet("osd", "pool", "ls", "-f", "json")).text)
    check(sorted(names) == ["data", "other"], "osd pool ls -f json: %r" % names)


@case
def namespaces():
    for option in (["-N", "space"], ["-Nspace"], ["--namespace", "space"], ["--namespace=space"]):
        content = " ".join(option).encode()
        succeeds(cluster.rados("-p", "data", *option, "put", "spaced", "-", data=content))
        check(succeeds(cluster.rados("-p", "data", *option, "get", "spaced", "-")).out == content,
              "%s" % option)
    fails(cluster.rados("-p", "data", "get", "spaced", "-"), errno.ENOENT)
    check(succeeds(cluster.rados("-p", "data", "-N", "space", "ls")).text == "spaced\n",
          "ls of a namespace")
    check("spaced" not in succeeds(cluster.rados("-p", "data", "ls")).text, "ls of no namespace")
    lines = succeeds(cluster.rados("-p", "data", "ls", "--all")).text.splitlines()
    check("space\tspaced" in lines and "\tname" in lines, "ls --all: %r" % lines)
    check("spaced" not in succeeds(cluster.rados("-p", "data", "ls", "--all", "--default")).text,
          "ls --all --default")


@case
def options_of_other_verbs_are_refused():
    """An option that would change nothing is a mistake, wherever it stands."""
    fails(cluster.rados("-p", "data", "get", "name", "-", "--offset", "3"), errno.EINVAL, "rados get",
          "offset")
    fails(cluster.rados("--offset", "3", "-p", "data", "stat", "name"), errno.EINVAL, "rados stat",
          "offset")
    fails(cluster.rados("-p", "data", "stat", "name", "--all"), errno.EINVAL, "rados stat", "all")


@case
def stat_says_size_and_time():
    line = succeeds(cluster.rados("-p", "data", "stat", "name")).text
    check(re.fullmatch(r"data/name mtime \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d{4}, size 7\n", line),
          "stat: %r" % line)


@case
def append_and_truncate():
    path = write_file(os.path.join(scratch, "more"), b" and more")
    cluster.put("data", "grow", b"some")
    succeeds(cluster.rados("-p", "data", "append", "grow", path))
    check(cluster.get("data", "grow") == b"some and more", "append of a file")
    succeeds(cluster.rados("-p", "data", "append", "grow", "-", data=b"!"))
    check(cluster.get("data", "grow") == b"some and more!", "append of stdin")
    succeeds(cluster.rados("-p", "data", "truncate", "grow", "4"))
    check(cluster.get("data", "grow") == b"some", "truncate to less")
    succeeds(cluster.rados("-p", "data", "truncate", "grow", "8"))
    check(cluster.get("data", "grow") == b"some\0\0\0\0", "truncate to more")
    succeeds(cluster.rados("-p", "data", "truncate", "no-such-object", "4"))
    fails(cluster.rados("-p", "data", "stat", "no-such-object"), errno.ENOENT)


@case
def put_replaces_the_whole_object():
    cluster.put("data", "replaced", random_bytes(100000, "first"))
    cluster.put("data", "replaced", b"short")
    check(cluster.get("data", "replaced") == b"short", "put left something of the longer object")


@case
def put_at_an_offset():
    cluster.put("data", "offset", b"0123456789")
    succeeds(cluster.rados("-p", "data", "put", "offset", "-", "--offset", "3", data=b"abc"))
    check(cluster.get("data", "offset") == b"012abc6789", "put --offset")


@case
def names_of_all_kinds():
    names = ["-", "--", "with space", "ünïcödé", "a/b/c", "x" * 200, "new\tline", "%s%n"]
    for number, name in enumerate(names):
        content = b"content %d" % number
        succeeds(cluster.rados("-p", "other", "put", "--", name, "-", data=content))
        check(succeeds(cluster.rados("-p", "other", "get", "--", name, "-")).out == content, name)
    listed = succeeds(cluster.rados("-p", "other", "ls")).text.split("\n")[:-1]
    check(sorted(listed) == sorted(names), "ls: %r" % listed)
    too_long = "y" * 5000
    result = cluster.rados("-p", "other", "put", too_long, "-", data=b"x")
    fails(result, (errno.ENAMETOOLONG, errno.EINVAL))


@case
def df_counts_objects():
    text = succeeds(cluster.rados("df")).text
    check(re.search(r"^POOL_NAME +USED +OBJECTS", text, re.MULTILINE), "df has no header: %r" % text)
    check(re.search(r"^data +", text, re.MULTILINE), "df does not know the pool: %r" % text)
    for word in ("total_objects", "total_used", "total_avail", "total_space"):
        check(re.search(r"^%s +" % word, text, re.MULTILINE), "df lacks %s: %r" % (word, text))
    report = json.loads(succeeds(cluster.rados("df", "-f", "json")).text)
    check({pool["name"] for pool in report["pools"]} == {"data", "other"}, "df -f json: %r" % report)
    report = json.loads(succeeds(cluster.rados("-p", "data", "df", "-f", "json")).text)
    check([pool["name"] for pool in report["pools"]] == ["data"], "df of one pool: %r" % report)
    fails(cluster.rados("-p", "nowhere", "df"), errno.ENOENT, "nowhere")


def pool_figures(pool):
    return json.loads(succeeds(cluster.rados("-p", pool, "df", "-f", "json")).text)["pools"][0]


def until_figures(**wanted):
    """Monitors learn of what happened within some seconds."""
    wait_until("these figures of the pool: %s" % wanted,
               lambda: {key: pool_figures("counted")[key] for key in wanted} == wanted, 30)


@case
def df_counts_what_clients_do():
    """Reads, writes and clones of a pool; what was counted outlives the OSDs' processes."""
    cluster.pool("counted")
    for number in range(10):
        cluster.put("counted", "object.%d" % number, bytes(5000))
    for number in range(10):
        cluster.get("counted", "object.%d" % number)
    succeeds(cluster.rados("-p", "counted", "mksnap", "before"))
    cluster.put("counted", "object.0", bytes(3000))
    figures = {"num_objects": 11, "num_object_clones": 1, "num_object_copies": 33,
               "num_objects_degraded": 0, "write_ops": 11, "write_bytes": 53000, "read_ops": 10}
    until_figures(**figures)
    # What a reader is told of the size counts, too.
    check(50000 <= pool_figures("counted")["read_bytes"] < 51000, pool_figures("counted"))
    row = [line.split() for line in succeeds(cluster.rados("df")).text.splitlines()
           if line.startswith("counted ")]
    check(len(row) == 1 and "KiB" in row[0], row)
    succeeds(cluster.rados("-p", "counted", "rm", "object.1"))
    for name in ("osd.0", "osd.1", "osd.2"):
        cluster.kill(name)
    for name in ("osd.0", "osd.1", "osd.2"):
        cluster.start_daemon(name)
    cluster.wait_healthy()
    figures.pop("read_ops")
    # The removed one is kept for the snapshot, and a note that it was removed.
    figures.update(write_ops=12, num_objects=12, num_object_clones=2, num_object_copies=36)
    until_figures(**figures)
    succeeds(cluster.rados("-p", "counted", "rmsnap", "before"))
    # Whoever trims is no client.
    figures.update(num_objects=9, num_object_clones=0, num_object_copies=27)
    until_figures(**figures)
    succeeds(cluster.limpet("pool", "rm", "counted", "counted", "--yes-i-really-really-mean-it"))


@case
def remove_takes_several():
    for name in ("r1", "r2", "r3"):
        cluster.put("data", name, b"x")
    succeeds(cluster.rados("-p", "data", "rm", "r1", "r2", "r3", "--force-full"))
    listed = succeeds(cluster.rados("-p", "data", "ls")).text.splitlines()
    check(not {"r1", "r2", "r3"} & set(listed), "still there: %r" % listed)


@case
def get_makes_an_ordinary_file():
    target = os.path.join(scratch, "got")
    os.umask(0o022)
    succeeds(cluster.rados("-p", "data", "get", "name", target))
    check(read_file(target) == b"content", "content")
    check(os.stat(target).st_mode & 0o777 == 0o644, "mode %o" % (os.stat(target).st_mode & 0o777))
    write_file(target, b"much longer than what follows")
    succeeds(cluster.rados("-p", "data", "get", "name", target))
    check(read_file(target) == b"content", "an existing file is replaced whole")
    check(os.listdir(scratch).count("got") == 1 and len(os.listdir(scratch)) == 2, "left-overs: %r"
          % os.listdir(scratch))


@case
def answers_to_the_name_rados():
    link = os.path.join(scratch, "rados")
    os.symlink(os.path.join(BIN, "limpet"), link)
    check(succeeds(command([link, "-p", "data", "get", "name", "-"], env=cluster.env)).out == b"content",
          "as rados")
    link = os.path.join(scratch, "ceph")
    os.symlink(os.path.join(BIN, "limpet"), link)
    status = json.loads(succeeds(command([link, "-s", "-f", "json"], env=cluster.env)).text)
    check(status["health"]["status"] == "HEALTH_OK", "as ceph")


@case
def osd_tree_shows_all():
    text = succeeds(cluster.limpet("osd", "tree")).text
    for name in ("osd.0", "osd.1", "osd.2"):
        check(re.search(r"\b%s\b.*\bup\b" % re.escape(name), text), "%s in %r" % (name, text))
    tree = json.loads(succeeds(cluster.limpet("osd", "tree", "-f", "json")).text)
    osds = [node for node in tree["nodes"] if node["type"] == "osd"]
    check(len(osds) == 3 and all(node["status"] == "up" for node in osds), "%r" % tree)


@case
def status_has_what_scripts_need():
    status = cluster.status()
    check(status["health"]["status"] == "HEALTH_OK", "health")
    check(status["quorum_names"] == ["a"] and status["quorum_leader_name"] == "a", "quorum")
    for key in ("epoch", "num_osds", "num_up_osds", "num_in_osds"):
        check(isinstance(status["osdmap"][key], int), "osdmap.%s" % key)
    for key in ("num_pgs", "bytes_used", "bytes_total"):
        check(isinstance(status["pgmap"][key], int), "pgmap.%s" % key)
    check(sum(state["count"] for state in status["pgmap"]["pgs_by_state"]) == status["pgmap"]["num_pgs"],
          "pgs_by_state")
    text = succeeds(cluster.limpet("status")).text
    for section in ("cluster:", "services:", "data:"):
        check(section in text, "%s in %r" % (section, text))


@case
def bench_reports_percentiles():
    result = succeeds(cluster.limpet("bench", "object", "--pool", "data", "--op", "write", "--size", "4096",
                                     "--depth", "4", "--seconds", "1", "-f", "json"))
    report = json.loads(result.text)
    check(report["ops"] > 0 and report["latency_us"]["p50"] <= report["latency_us"]["p99"],
          "bench: %r" % report)


@case
def pool_is_removed_with_its_objects():
    succeeds(cluster.limpet("pool", "rm", "other", "other", "--yes-i-really-really-mean-it"))
    check(succeeds(cluster.limpet("pool", "ls")).text == "data\n", "pool ls")
    fails(cluster.rados("-p", "other", "ls"), errno.ENOENT, "other")


if __name__ == "__main__":
    run()
