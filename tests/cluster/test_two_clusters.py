#!/usr/bin/env python3
"""Two clusters side by side know nothing of each other."""

import errno

from lib.cluster import Cluster, case, check, fails, run

first = Cluster(mons=3, osds=3)
second = Cluster(mons=1, osds=2)


@case
def both_start():
    first.start()
    second.start()
    first.pool("data")
    second.pool("data")


@case
def objects_stay_apart():
    first.put("data", "object", b"of the first")
    fails(second.rados("-p", "data", "get", "object", "-"), errno.ENOENT)
    second.put("data", "object", b"of the second")
    check(first.get("data", "object") == b"of the first", "the clusters share an object")


@case
def stopping_one_leaves_the_other_alone():
    pids = second.pids()
    first.stop()
    second.check_same_processes(pids)
    check(second.get("data", "object") == b"of the second", "the second cluster does not serve")
    first.start()
    first.wait_healthy()
    check(first.get("data", "object") == b"of the first", "the first cluster lost an object")


@case
def keys_of_one_open_nothing_in_the_other():
    result = second.limpet("--keyring", first.keyring, "status")
    fails(result, errno.EACCES, "client.admin")


@case
def destroying_one_leaves_the_other_alone():
    pids = first.pids()
    second.destroy()
    first.check_same_processes(pids)
    check(first.get("data", "object") == b"of the first", "the first cluster does not serve")


if __name__ == "__main__":
    run()
