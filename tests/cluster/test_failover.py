#!/usr/bin/env python3
"""Monitors and OSDs are killed while files go in and out: no command fails, nothing is lost."""

import os
import re
import signal
import subprocess
import threading
import traceback

from lib.cluster import (BIN, CaseFailed, Cluster, case, check, process_alive, random_bytes, run,
                         succeeds, wait_until)

cluster = Cluster()


class Workload:
    """Puts and gets in a loop, each its own command, until stopped. Remembers the first failure and
    how long the slowest command took."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.written = {}
        self.rounds = 0
        self.slowest = 0.0
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
        name = "%s-%d" % (self.prefix, self.rounds % 40)
        data = random_bytes(1000 + self.rounds * 977 % 100000, "%s %d" % (name, self.rounds))
        took = cluster.put("data", name, data).seconds
        self.written[name] = data
        back = cluster.get("data", name)
        check(back == data, "%s: read %d bytes that are not the last ones written" % (name, len(back)))
        self.slowest = max(self.slowest, took)
        self.rounds += 1

    def proceed(self, rounds):
        """Waits until so many further rounds are done."""
        goal = self.rounds + rounds
        wait_until("%d rounds of put and get" % rounds,
                   lambda: self.problem or self.rounds >= goal, 60)
        check(not self.problem, self.problem)

    def end(self):
        self.stopping.set()
        self.thread.join()
        check(not self.problem, self.problem)
        print("     %d rounds, slowest put %.2f s" % (self.rounds, self.slowest))

    def verify(self):
        for name, data in self.written.items():
            check(cluster.get("data", name) == data, "%s differs" % name)


def under_load(prefix, *actions):
    load = Workload(prefix)
    try:
        load.proceed(5)
        for action in actions:
            action()
            load.proceed(10)
    finally:
        load.end()
    cluster.wait_healthy()
    load.verify()


@case
def starts_healthy():
    cluster.start()
    cluster.pool("data")


@case
def survives_kill_of_a_following_monitor():
    leader = cluster.leader()
    victim = next(name for name in cluster.names() if name.startswith("mon.") and name != leader)
    under_load("follower", lambda: cluster.kill(victim), lambda: cluster.start_daemon(victim))


@case
def survives_kill_of_the_leading_monitor():
    victim = cluster.leader()
    under_load("leader", lambda: cluster.kill(victim), lambda: cluster.start_daemon(victim))


@case
def survives_kill_of_an_osd():
    under_load("osd", lambda: cluster.kill("osd.1"), lambda: cluster.start_daemon("osd.1"))


@case
def survives_kill_of_leader_and_osd_together():
    victim = cluster.leader()

    def kill_both():
        cluster.kill(victim)
        cluster.kill("osd.2")

    def start_both():
        cluster.start_daemon(victim)
        cluster.start_daemon("osd.2")
    under_load("both", kill_both, start_both)


@case
def survives_a_hung_osd():
    pid = cluster.pid("osd.0")
    under_load("hung", lambda: cluster.kill("osd.0", signal.SIGSTOP),
               lambda: cluster.kill("osd.0", signal.SIGCONT))
    check(cluster.pid("osd.0") == pid and process_alive(pid), "osd.0 did not survive being stopped")


@case
def a_hung_osd_fences_itself_when_it_wakes():
    cluster.wait_healthy()
    names = ["fenced-%d" % i for i in range(12)]
    for name in names:
        cluster.put("data", name, b"old")
    cluster.kill("osd.0", signal.SIGSTOP)
    # Of some it is the primary: these wait until it was marked down and its leases have run out.
    slowest = max(cluster.put("data", name, b"new").seconds for name in names)
    cluster.kill("osd.0", signal.SIGCONT)
    for _ in range(5):
        for name in names:
            check(cluster.get("data", name) == b"new", "%s: an old version was read" % name)
    print("     slowest put %.2f s" % slowest)
    cluster.wait_healthy()


def health():
    return succeeds(cluster.limpet("health", "detail")).text


def restart_osds():
    for number in range(3):
        name = "osd.%d" % number
        cluster.kill(name, signal.SIGTERM)
        cluster.start_daemon(name)
    cluster.wait_healthy()


@case
def requests_that_take_too_long_are_in_the_health_report():
    """A copy hangs, and nobody may call it dead: the report names it, the log of the primary the client."""
    with open(cluster.conf, encoding="utf-8") as file:
        before = file.read()
    with open(cluster.conf, "w", encoding="utf-8") as file:
        file.write(before + "\n[osd]\nosd_op_complaint_time = 1s\nosd_stats_interval = 1s\n")
    try:
        restart_osds()
        succeeds(cluster.limpet("osd", "set", "nodown"))
        cluster.kill("osd.2", signal.SIGSTOP)
        puts = [subprocess.Popen([os.path.join(BIN, "limpet"), "rados", "-p", "data", "put", "slow-%d" % number, "/etc/hostname"],
                                 env=dict(os.environ, **cluster.env)) for number in range(8)]
        try:
            told = r"osd\.[01] has \d+ slow requests, the oldest waits for \d+ s, in pg \S+ for the copy on osd\.2\n"
            wait_until("SLOW_OPS by osd.2", lambda: "SLOW_OPS" in health() and re.search(told, health()), 30)
        finally:
            cluster.kill("osd.2", signal.SIGCONT)
            succeeds(cluster.limpet("osd", "unset", "nodown"))
        for put in puts:
            check(put.wait(60) == 0, "a put failed")
        wait_until("SLOW_OPS is over", lambda: "SLOW_OPS" not in health(), 30)
        logs = "".join(cluster.log("osd.%d" % number) for number in range(2))
        check(re.search(r"warn slow requests osd=[01] n=\d+ oldest_s=\d+ client=127\.0\.0\.1:\d+ waits=\"in pg", logs), "the log")
        check("no slow requests any more" in logs, "the log tells the end")
    finally:
        with open(cluster.conf, "w", encoding="utf-8") as file:
            file.write(before)
    restart_osds()


@case
def an_osd_that_was_away_copies_what_it_missed():
    cluster.kill("osd.0")
    wait_until("osd.0 down in the map",
               lambda: (cluster.status_or_none() or {"osdmap": {}})["osdmap"].get("num_up_osds") == 2, 30)
    data = {"away-%d" % number: random_bytes(20000, number) for number in range(50)}
    for name, content in data.items():
        cluster.put("data", name, content)
    cluster.start_daemon("osd.0")
    cluster.wait_healthy()
    # Reads now come from the one that was away wherever it is primary again.
    for name in ("osd.1",):
        cluster.kill(name)
    for name, content in data.items():
        check(cluster.get("data", name) == content, "%s differs" % name)
    cluster.start_daemon("osd.1")
    cluster.wait_healthy()


@case
def everything_can_be_killed_at_once():
    cluster.put("data", "last", b"the last words")
    for name in cluster.names():
        cluster.kill(name)
    cluster.start()
    cluster.wait_healthy()
    check(cluster.get("data", "last") == b"the last words", "an acknowledged object is lost")


if __name__ == "__main__":
    run()
