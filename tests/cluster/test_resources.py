#!/usr/bin/env python3
"""What an idle cluster costs, and how much memory daemons take after work.

Limits here are loose enough for a busy machine; the figures themselves are printed and stand in the
README.
"""

import time

from lib.cluster import (SANITIZED, Cluster, case, check, process_cpu_seconds, process_rss_mib,
                         random_bytes, run)

IDLE_SECONDS = 10
MIB = 1024 * 1024

cluster = Cluster(mons=3, osds=3)


def memory(kind):
    return {name: process_rss_mib(pid) for name, pid in cluster.pids().items() if name.startswith(kind)}


def show(title, figures):
    print("     %s: %s" % (title, ", ".join("%s %.1f" % item for item in sorted(figures.items()))))


@case
def starts_healthy():
    cluster.start()
    cluster.pool("data")


@case
def idles_below_one_percent_of_a_core():
    pids = cluster.pids()
    # What boot and the new pool left behind has settled when no daemon has used the processor for a
    # second, or at the latest after ten.
    for _ in range(10):
        used = sum(process_cpu_seconds(pid) for pid in pids.values())
        time.sleep(1)
        if sum(process_cpu_seconds(pid) for pid in pids.values()) - used < 0.02:
            break
    before = {name: process_cpu_seconds(pid) for name, pid in pids.items()}
    time.sleep(IDLE_SECONDS)
    used = {name: (process_cpu_seconds(pid) - before[name]) / IDLE_SECONDS * 100
            for name, pid in pids.items()}
    show("percent of a core", used)
    total = sum(used.values())
    print("     in all: %.2f %%" % total)
    check(SANITIZED or total < 1.0, "an idle cluster uses %.2f %% of a core" % total)


@case
def idle_daemons_are_small():
    mons, osds = memory("mon"), memory("osd")
    show("MiB", dict(mons, **osds))
    check(SANITIZED or max(mons.values()) < 20, "a monitor takes %.1f MiB" % max(mons.values()))
    check(SANITIZED or max(osds.values()) < 100, "an OSD takes %.1f MiB" % max(osds.values()))


@case
def memory_stays_bounded_under_work():
    for number in range(6):
        data = random_bytes(100 * MIB, number)
        cluster.put("data", "large-%d" % number, data)
        check(cluster.get("data", "large-%d" % number) == data, "large-%d differs" % number)
    for number in range(200):
        cluster.put("data", "small-%d" % number, random_bytes(4096, number))
    mons, osds = memory("mon"), memory("osd")
    show("MiB after 600 MiB and 200 small objects", dict(mons, **osds))
    check(SANITIZED or max(mons.values()) < 40, "a monitor takes %.1f MiB" % max(mons.values()))
    check(SANITIZED or max(osds.values()) < 700, "an OSD takes %.1f MiB" % max(osds.values()))


if __name__ == "__main__":
    run()
