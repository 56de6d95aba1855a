#!/usr/bin/env python3
"""What an idle cluster costs, and how much memory daemons take after work.

What a daemon does when it has nothing to do is counted in wake-ups: processor time depends on the
machine and on its neighbours, so it is only printed. Limits of memory are loose; the figures
themselves stand in the README.
"""

import time

from lib.cluster import (SANITIZED, Cluster, case, check, process_cpu_seconds, process_rss_mib,
                         process_wakeups, random_bytes, run)

IDLE_SECONDS = 10
# Heartbeats, and little else: a leader sends to two monitors and hears them and three OSDs.
WAKEUPS_MON = 32
WAKEUPS_OSD = 20
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
def idle_daemons_sleep():
    pids = cluster.pids()
    # What boot and the new pool left behind has settled when no daemon has used the processor for a
    # second, or at the latest after ten.
    for _ in range(10):
        used = sum(process_cpu_seconds(pid) for pid in pids.values())
        time.sleep(1)
        if sum(process_cpu_seconds(pid) for pid in pids.values()) - used < 0.02:
            break
    cpu_before = {name: process_cpu_seconds(pid) for name, pid in pids.items()}
    before = {name: process_wakeups(pid) for name, pid in pids.items()}
    began = time.monotonic()
    time.sleep(IDLE_SECONDS)
    passed = time.monotonic() - began
    wakeups = {name: (process_wakeups(pid) - before[name]) / passed for name, pid in pids.items()}
    used = {name: (process_cpu_seconds(pid) - cpu_before[name]) / passed * 100
            for name, pid in pids.items()}
    show("wake-ups a second", wakeups)
    show("percent of a core", used)
    print("     in all: %.1f wake-ups a second, %.2f %% of a core"
          % (sum(wakeups.values()), sum(used.values())))
    for name, rate in wakeups.items():
        limit = WAKEUPS_MON if name.startswith("mon") else WAKEUPS_OSD
        check(rate <= limit, "idle %s wakes up %.1f times a second" % (name, rate))


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
