#!/usr/bin/env python3
"""An OSD is away while small pieces of large objects change: it gets little more than these."""

import json
import re

from lib.cluster import (Cluster, case, check, random_bytes, run, succeeds, wait_until)

BLOCK = 4096
OBJECT = 4 * 1024 * 1024
OBJECTS = 6
WRITES = 240

cluster = Cluster()
contents = {}


def fillings():
    """What the OSDs logged of copies that they filled: how, objects, bytes."""
    found = []
    for osd in range(3):
        text = cluster.log("osd.%d" % osd)
        found += [(m.group(1), int(m.group(2)), int(m.group(3)))
                  for m in re.finditer(r"\bfilled\b.*? by=(\w+) objects=(\d+) bytes=(\d+)", text)]
    return found


def write_at(name, offset, data):
    succeeds(cluster.rados("-p", "data", "put", name, "-", "--offset", str(offset), data=data))
    contents[name][offset:offset + len(data)] = data


@case
def moves_little_more_than_what_changed():
    cluster.start()
    cluster.pool("data")
    for i in range(OBJECTS):
        name = "large.%d" % i
        contents[name] = bytearray(random_bytes(OBJECT, name))
        cluster.put("data", name, bytes(contents[name]))
    cluster.wait_healthy()
    before = len(fillings())
    cluster.kill("osd.2")
    wait_until("writes go on", lambda: cluster.status_or_none() and not cluster.is_healthy(), 30)
    changed = set()
    for i in range(WRITES):
        name = "large.%d" % (i % OBJECTS)
        block = i * 7919 % (OBJECT // BLOCK)
        write_at(name, block * BLOCK, random_bytes(BLOCK, "change %d" % i))
        changed.add((name, block))
    cluster.start_daemon("osd.2")
    cluster.wait_healthy()
    filled = fillings()[before:]
    moved = sum(entry[2] for entry in filled)
    print("     %d bytes changed, %d moved" % (len(changed) * BLOCK, moved))
    check(filled and all(how == "log" for how, objects, _ in filled if objects),
          "not by log: %r" % filled)
    check(moved >= len(changed) * BLOCK, "%d bytes changed, %d moved" %
          (len(changed) * BLOCK, moved))
    check(moved <= 1.2 * len(changed) * BLOCK, "%d bytes changed, %d moved" %
          (len(changed) * BLOCK, moved))


@case
def the_copy_is_whole():
    """The others go away, one after the other: what is read comes from the one that was filled."""
    for name, data in contents.items():
        check(cluster.get("data", name) == bytes(data), "%s differs" % name)
    cluster.kill("osd.0")
    for name, data in contents.items():
        check(cluster.get("data", name) == bytes(data), "%s differs without osd.0" % name)
    cluster.start_daemon("osd.0")
    cluster.wait_healthy()
    cluster.kill("osd.1")
    for name, data in contents.items():
        check(cluster.get("data", name) == bytes(data), "%s differs without osd.1" % name)
    cluster.start_daemon("osd.1")
    cluster.wait_healthy()


def groups():
    text = succeeds(cluster.limpet("pg", "ls", "-f", "json")).text
    return json.loads(text)["pg_stats"]


def reasons():
    status = cluster.status_or_none()
    return {entry["reason"] for entry in status["recovery"]["waiting"]} if status else set()


@case
def norecover_pauses_and_says_so():
    """What is left is told meanwhile; nothing is copied before the flag is gone."""
    before = len(fillings())
    succeeds(cluster.limpet("osd", "set", "norecover"))
    cluster.kill("osd.2")
    wait_until("writes go on", lambda: cluster.status_or_none() and not cluster.is_healthy(), 30)
    for i in range(OBJECTS):
        write_at("large.%d" % i, 0, random_bytes(BLOCK, "paused %d" % i))
        cluster.put("data", "new.%d" % i, random_bytes(OBJECT, "new %d" % i))
    cluster.start_daemon("osd.2")
    wait_until("a reason", lambda: "norecover is set" in reasons(), 30)
    status = wait_until("what is left", lambda: (cluster.status_or_none() or {}).get(
        "recovery", {}).get("bytes_left", 0) >= OBJECTS * OBJECT and cluster.status_or_none(), 30)
    left = status["recovery"]
    check(left["objects_left"] >= OBJECTS, "objects left: %r" % left)
    paused = [group for group in groups() if group.get("waiting") == "norecover is set"]
    check(paused, "no group says that it is paused")
    check(sum(group["bytes_missing"] for group in groups()) >= OBJECTS * OBJECT,
          "too little is missing: %r" % paused)
    check(len(fillings()) == before, "copies were filled in spite of norecover")
    succeeds(cluster.limpet("osd", "unset", "norecover"))
    wait_until("everything is clean", cluster.is_clean, 60)
    check(len(fillings()) > before, "nothing was filled")
    recovery = cluster.status()["recovery"]
    check(recovery["bytes_left"] == 0 and not recovery["waiting"], "left: %r" % recovery)
    check(sum(group["bytes_missing"] for group in groups()) == 0, "something is missing")
    cluster.wait_healthy()
    cluster.destroy()


if __name__ == "__main__":
    run()
