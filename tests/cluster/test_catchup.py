#!/usr/bin/env python3
"""An OSD is away while small pieces of large objects change: it gets little more than these."""

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
    cluster.destroy()


if __name__ == "__main__":
    run()
