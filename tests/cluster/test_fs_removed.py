#!/usr/bin/env python3
"""Contents of removed files: they go also when the mount that has removed them dies, and nobody lists their folder."""

import contextlib
import json
import os
import sys
import time

from lib.cluster import SLOWNESS, Cluster, case, check, run, succeeds, wait_until
from lib.mount import Mounts, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

LARGE_FILES, LARGE_BYTES = 4, 24 << 20
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)


@case
def starts():
    cluster.start()
    cluster.pool("removed")
    mounts.create("removed/removed", "--object-size", "16K")


def contents_left():
    """Objects of contents that are there, and bytes that `limpet df` says are used in their pool."""
    names = succeeds(cluster.limpet("rados", "-p", "removed", "--all", "ls")).text.split()
    df = json.loads(succeeds(cluster.limpet("df", "-f", "json")).text)
    stored = next(pool["stats"]["stored"] for pool in df["pools"] if pool["name"] == "removed")
    return sum(name.startswith("f.") for name in names), stored


def remove_and_die(path):
    """Removes large files, durably, and dies before their contents are gone; how many objects were left."""
    folder_fd = os.open(os.path.join(path, "large"), os.O_RDONLY)
    for at in range(LARGE_FILES):
        os.unlink(os.path.join(path, "large", "f%d" % at))
    os.fsync(folder_fd)
    os.close(folder_fd)
    mounts.kill(path)
    mounts.umount(path, "--lazy")
    left = contents_left()[0]
    check(left > 0, "all contents were removed before the mount died")
    return left


def make_large(path):
    os.mkdir(os.path.join(path, "large"))
    for at in range(LARGE_FILES):
        with open(os.path.join(path, "large", "f%d" % at), "wb") as file:
            file.write(bytes([at + 1]) * LARGE_BYTES)
            os.fsync(file.fileno())
    wait_until("df to know of what was written", lambda: contents_left()[1] > LARGE_FILES * LARGE_BYTES * 0.9, 30)


def goes_without_being_listed():
    began = time.monotonic()
    wait_until("contents of removed files to go", lambda: contents_left()[0] == 0, 120 * SLOWNESS)
    print("     gone after %.1f s" % (time.monotonic() - began))
    wait_until("df to know it", lambda: contents_left()[1] < 1 << 20, 30)


@case
def another_mount_goes_on_with_removing():
    path, other = mounts.mount("removed/removed"), mounts.mount("removed/removed")
    make_large(path)
    print("     %d objects were left" % remove_and_die(path))
    goes_without_being_listed()
    mounts.umount(other)


@case
def the_next_mount_goes_on_with_removing():
    path = mounts.mount("removed/removed")
    os.rmdir(os.path.join(path, "large"))
    make_large(path)
    open_fd = os.open(os.path.join(path, "large", "f0"), os.O_RDONLY)
    print("     %d objects were left" % remove_and_die(path))
    with contextlib.suppress(OSError):
        os.close(open_fd)  # Nobody serves it any more.
    path = mounts.mount("removed/removed")
    goes_without_being_listed()
    mounts.umount(path)
    mounts.check_clean("removed/removed")
    wait_until("the list of those who answer for files to be empty",
               lambda: not succeeds(cluster.limpet("rados", "-p", "removed", "-N", space(), "listomapkeys", "orphans")).text, 20)


def space():
    """The namespace of the file system's objects."""
    names = succeeds(cluster.limpet("rados", "-p", "removed", "--all", "ls")).text.split("\n")
    return next(line.split("\t")[0] for line in names if line.endswith("\torphans"))


if __name__ == "__main__":
    run()
