#!/usr/bin/env python3
"""OSDs and pools change while files go in and out: nothing is lost, and dry runs tell beforehand."""

import json
import threading
import traceback

from lib.cluster import CaseFailed, Cluster, case, check, random_bytes, run, wait_until

OBJECT = 200000

cluster = Cluster(osds=4)


class Writer:
    """Puts objects in turn and reads each back, until it ends; then all are read once more."""

    def __init__(self):
        self.written = {}
        self.rounds = 0
        self.problem = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.loop)
        self.thread.start()

    def loop(self):
        try:
            while not self.stopping.is_set():
                self.round()
        except CaseFailed as problem:
            self.problem = str(problem)
        except Exception:  # pylint: disable=broad-except
            self.problem = traceback.format_exc()

    def round(self):
        name = "w-%d" % (self.rounds % 30)
        data = random_bytes(OBJECT, "%s %d" % (name, self.rounds))
        cluster.put("data", name, data)
        self.written[name] = data
        check(cluster.get("data", name) == data, "%s: not what was written last" % name)
        self.rounds += 1

    def end(self):
        self.stopping.set()
        self.thread.join()
        check(not self.problem, self.problem)
        for name, data in self.written.items():
            check(cluster.get("data", name) == data, "%s: lost" % name)


def ok(*arguments):
    result = cluster.limpet(*arguments)
    check(result.code == 0, str(result))
    return result


def answer(*arguments):
    return json.loads(ok(*arguments, "-f", "json").text)


def epoch():
    return answer("osd", "stat")["epoch"]


def wait_moved():
    """Every group has its set where CRUSH wants it."""
    wait_until("groups to be where they belong", lambda: not answer("pg", "ls", "unclean")["pg_stats"],
               60)


@case
def starts():
    cluster.start()
    cluster.pool("data")
    cluster.wait_healthy()


writer = Writer.__new__(Writer)


@case
def a_dry_run_tells_and_changes_nothing():
    writer.__init__()
    wait_until("some objects", lambda: writer.problem or writer.rounds >= 30, 60)
    # Statistics come every few seconds.
    wait_until("statistics", lambda: cluster.status()["pgmap"]["num_objects"] >= 30, 30)
    before = epoch()
    plan = answer("osd", "out", "3", "--dry-run")
    check(plan["dry_run"] and plan["changes"] and plan["pgs"] > 0, plan)
    check(plan["bytes"] > 0 and plan["objects"] > 0, plan)
    check([osd for osd in plan["osds"] if osd["osd"] == 3 and osd["bytes_out"] > 0], plan)
    check(plan["eta_seconds"] is None, "an ETA out of thin air: %s" % plan["eta_seconds"])
    text = ok("osd", "out", "3", "--dry-run").text
    check("nothing was changed" in text and "time:      not known" in text, text)
    plan = answer("osd", "reweight", "3", "0.5", "--dry-run")
    check(plan["bytes"] > 0, plan)
    plan = answer("pool", "set", "data", "size", "4", "--dry-run")
    check(plan["pgs"] > 0 and plan["bytes"] > 0, plan)
    check(epoch() == before, "a dry run has changed the map")
    check(cluster.limpet("osd", "set", "noout", "--dry-run").code != 0, "--dry-run of a flag")


@case
def questions_before_stopping():
    check(cluster.limpet("osd", "ok-to-stop", "3").code == 0, "one of four may stop")
    check(cluster.limpet("osd", "ok-to-stop", "1", "2", "3").code != 0, "three of four may not")
    check(cluster.limpet("osd", "safe-to-destroy", "3").code != 0, "osd.3 has data")
    refused = cluster.limpet("osd", "rm", "3")
    check(refused.code != 0 and "is up" in refused.err, str(refused))


@case
def drains_and_fills_again():
    result = ok("osd", "drain", "3", "--wait")
    check("drained" in result.err, str(result))
    check(cluster.limpet("osd", "safe-to-destroy", "3").code == 0, "drained, but not safe to destroy")
    groups = answer("pg", "ls")["pg_stats"]
    check(all(3 not in pg["acting"] for pg in groups), "osd.3 has a part of a group")
    ok("osd", "in", "3")
    wait_moved()
    groups = answer("pg", "ls", "--pool", "data", "clean")["pg_stats"]
    check(groups and any(3 in pg["acting"] for pg in groups), "osd.3 got nothing back")
    check(all("eta_seconds" in pg and "bytes_missing" in pg for pg in groups), groups[0])


@case
def weights_and_sizes_change():
    ok("osd", "reweight", "2", "0.3")
    wait_moved()
    ok("osd", "crush", "reweight", "osd.1", "0.007")
    wait_moved()
    for size, min_size in ((4, 2), (2, 1), (3, 3), (3, 2)):
        ok("pool", "set", "data", "size", size)
        ok("pool", "set", "data", "min_size", min_size)
        if size < 4:
            wait_moved()
    ok("osd", "reweight", "2", "1")
    ok("osd", "crush", "reweight", "osd.1", "0.01")
    wait_moved()


@case
def rules_change():
    ok("osd", "crush", "add-bucket", "r1", "rack", "root=default")
    ok("osd", "crush", "rule", "create-replicated", "by_osd", "default", "osd")
    check("by_osd" in ok("osd", "crush", "rule", "ls").text, "no rule")
    ok("pool", "set", "data", "crush_rule", "by_osd")
    check(answer("pool", "get", "data", "crush_rule")["crush_rule"] == "by_osd", "not set")
    wait_moved()
    used = cluster.limpet("osd", "crush", "rule", "rm", "by_osd")
    check(used.code != 0 and "uses" in used.err, str(used))
    ok("pool", "set", "data", "crush_rule", "replicated_rule")
    ok("osd", "crush", "rule", "rm", "by_osd")
    ok("osd", "crush", "rm", "r1")
    wait_moved()


@case
def an_osd_is_removed():
    ok("osd", "drain", "3", "--wait")
    cluster.kill("osd.3")
    wait_until("osd.3 to be down", lambda: answer("osd", "stat")["num_up_osds"] == 3, 30)
    ok("osd", "rm", "3")
    check("3" not in ok("osd", "ls").text.split(), "still there")
    ok("health", "explain", "PG_DEGRADED")
    check(cluster.limpet("health", "explain", "PIGEON").code != 0, "no such code")
    wait_moved()


@case
def nothing_was_lost():
    writer.end()
    print("     %d rounds" % writer.rounds)


if __name__ == "__main__":
    run()
