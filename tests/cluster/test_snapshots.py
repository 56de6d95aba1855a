#!/usr/bin/env python3
"""Snapshots of a pool with real processes: taken, read, rolled back to, removed and trimmed."""

import errno
import json

from lib.cluster import Cluster, case, check, fails, run, succeeds, wait_until

cluster = Cluster(mons=1, osds=3)


def rados(*words, **more):
    return cluster.rados("-p", "data", *words, **more)


def content(name, *options):
    return succeeds(rados(*options, "get", name, "-")).out


def kept(name):
    told = json.loads(succeeds(rados("listsnaps", name, "-f", "json")).text)
    return [clone["id"] for clone in told["clones"]]


@case
def starts_healthy():
    cluster.start()
    cluster.pool("data")


@case
def a_snapshot_shows_what_was():
    succeeds(rados("put", "name", "-", data=b"monday"))
    check(succeeds(rados("mksnap", "one")).text == "created pool data snap one\n", "mksnap")
    fails(rados("mksnap", "one"), errno.EEXIST)
    succeeds(rados("put", "name", "-", data=b"tuesday"))
    succeeds(rados("put", "late", "-", data=b"late"))
    check(content("name") == b"tuesday", "the object")
    check(content("name", "-s", "one") == b"monday", "-s")
    check(content("name", "--snap", "one") == b"monday", "--snap")
    fails(rados("-s", "one", "get", "late", "-"), errno.ENOENT)
    fails(rados("-s", "none", "get", "name", "-"), errno.ENOENT)


@case
def nothing_is_written_to_a_snapshot():
    fails(rados("-s", "one", "put", "name", "-", data=b"x"), errno.EROFS)
    fails(rados("-s", "one", "rm", "name"), errno.EROFS)


@case
def they_are_listed():
    lines = succeeds(rados("lssnap")).text.splitlines()
    check(lines[0].startswith("1\tone\t") and lines[1] == "1 snaps", "lssnap: %r" % lines)
    lines = succeeds(rados("listsnaps", "name")).text.splitlines()
    check(lines[:2] == ["name:", "cloneid\tsnaps\tsize\toverlap"], "listsnaps: %r" % lines)
    check(lines[2].split("\t")[:3] == ["1", "1", "6"] and lines[3] == "head\t-\t7",
          "listsnaps: %r" % lines)
    told = json.loads(succeeds(rados("listsnaps", "name", "-f", "json")).text)
    check(told["clones"][0]["snapshots"] == [1], "listsnaps -f json: %r" % told)


@case
def clones_tell_what_they_share():
    succeeds(rados("put", "shared", "-", data=b"x" * 300000))
    succeeds(rados("mksnap", "before"))
    succeeds(rados("put", "shared", "-", "--offset", "100000", data=b"y" * 5000))
    told = json.loads(succeeds(rados("listsnaps", "shared", "-f", "json")).text)
    # Blocks of 4 KiB: those from 98304 to 106496 were changed.
    check(told["clones"][0]["overlaps"] == [{"start": 0, "length": 98304},
                                            {"start": 106496, "length": 193504}],
          "overlaps: %r" % told)
    succeeds(rados("rmsnap", "before"))


@case
def a_removed_object_comes_back():
    succeeds(rados("rm", "name"))
    fails(rados("get", "name", "-"), errno.ENOENT)
    check("name" not in succeeds(rados("ls")).text.split(), "it is listed")
    check(content("name", "-s", "one") == b"monday", "it cannot be read at its snapshot")
    check(succeeds(rados("rollback", "name", "one")).text ==
          "rolled back pool data to snapshot one\n", "rollback")
    check(content("name") == b"monday", "what it was rolled back to")
    succeeds(rados("rollback", "late", "one"))
    fails(rados("get", "late", "-"), errno.ENOENT)


@case
def what_is_removed_leaves_nothing():
    check(succeeds(rados("rmsnap", "one")).text == "removed pool data snap one\n", "rmsnap")
    fails(rados("rmsnap", "one"), errno.ENOENT)
    fails(rados("-s", "one", "get", "name", "-"), errno.ENOENT)
    wait_until("only the object is left", lambda: kept("name") == ["head"], 60)
    check(content("name") == b"monday", "the object")


@case
def a_pool_has_one_kind():
    result = cluster.limpet("command",
                            '{"prefix": "osd pool selfmanaged-snap create", "pool": "data"}')
    fails(result, errno.EINVAL)


if __name__ == "__main__":
    run()
