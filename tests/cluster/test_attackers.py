#!/usr/bin/env python3
"""Clients with a good key that mean harm: messages that are not theirs to send, requests in another's
name, small ones that want very much, replies that nobody takes in, maps that do not exist. The
daemons stay the same processes with bounded memory, and serve everybody else."""

import os
import subprocess
import time

from lib.cluster import BIN, SANITIZED, Cluster, case, check, command, run, succeeds

MIB = 1024 * 1024
ATTACKER = os.path.join(os.path.dirname(BIN), "attack", "attacker")
# What may wait for clients, be read for them, and come in from them; freed memory lingers.
PEAK_MIB = 1600 if SANITIZED else 800

cluster = Cluster(mons=1, osds=3)
before = {}


def arguments(scenario):
    address = "127.0.0.1:%d" % cluster.ports("mon.a")[0]
    return [ATTACKER, cluster.keyring, "client.admin", address, scenario]


def attack(scenario):
    succeeds(command(arguments(scenario)))


def peak_mib(pid):
    with open("/proc/%d/status" % pid) as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0


def still_serving():
    cluster.check_same_processes(before)
    cluster.put("data", "probe", b"probe")
    check(cluster.get("data", "probe") == b"probe", "the cluster does not serve")
    for name, pid in before.items():
        check(peak_mib(pid) < PEAK_MIB, "%s used up to %.0f MiB" % (name, peak_mib(pid)))


@case
def starts_healthy():
    cluster.start()
    cluster.pool("data")
    before.update(cluster.pids())


@case
def what_only_daemons_may_say():
    attack("impostor")
    still_serving()


@case
def requests_in_the_name_of_another_process():
    attack("forger")
    still_serving()


@case
def sessions_that_are_replaced_in_the_middle():
    succeeds(cluster.rados("-p", "data", "create", "attacked"))
    attack("replacer")
    still_serving()


@case
def requests_that_cannot_be():
    attack("mangler")
    still_serving()


@case
def small_requests_for_much_data():
    attack("greedy")
    still_serving()


@case
def sessions_that_take_nothing_in():
    attack("deaf")
    still_serving()


@case
def maps_that_do_not_exist():
    prophet = subprocess.Popen(arguments("prophet"))
    try:
        time.sleep(3)  # Until what it sends has piled up.
        begun = time.monotonic()
        for number in range(20):
            cluster.put("data", "during %d" % number, b"x" * 4096)
        check(time.monotonic() - begun < 20, "others were kept waiting")
        check(prophet.wait(60) == 0, "the attacker was turned away")
    finally:
        prophet.kill()
    still_serving()
    left = sum(cluster.log("osd.%d" % osd).count("monitor left") for osd in range(3))
    check(left <= 6, "OSDs left their monitor %d times" % left)


if __name__ == "__main__":
    run()
