#!/usr/bin/env python3
"""Files of all sizes go in and come back identical, also after everything was stopped."""

import concurrent.futures
import os

from lib.cluster import (SANITIZED, Cluster, case, check, digest, folder, random_bytes, read_file, run,
                         succeeds, write_file)

SIZES = {"empty": 0, "one": 1, "page": 4096, "odd": 4 * 1024 * 1024 + 1,
         "large": 100 * 1024 * 1024}
SMALL = 100 if SANITIZED else 500

cluster = Cluster()
files = folder()


def small(number):
    return random_bytes(number * 37 % 5000, "small %d" % number)


@case
def starts_healthy():
    cluster.start()
    cluster.pool("data")


@case
def puts_files_of_all_sizes():
    for name, size in SIZES.items():
        path = write_file(os.path.join(files, name), random_bytes(size, name))
        succeeds(cluster.rados("-p", "data", "put", name, path))


@case
def puts_many_small_files():
    def put(number):
        cluster.put("data", "small-%04d" % number, small(number))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(SMALL)))


def everything_comes_back_identical():
    for name, size in SIZES.items():
        path = os.path.join(files, name + ".back")
        succeeds(cluster.rados("-p", "data", "get", name, path))
        data = read_file(path)
        check(len(data) == size and digest(data) == digest(random_bytes(size, name)),
              "%s differs: %d bytes" % (name, len(data)))
        os.unlink(path)

    def get(number):
        data = cluster.get("data", "small-%04d" % number)
        check(data == small(number), "small-%04d differs: %d bytes" % (number, len(data)))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(get, range(SMALL)))


@case
def gets_everything_back_identical():
    everything_comes_back_identical()


@case
def lists_all_names():
    names = succeeds(cluster.rados("-p", "data", "ls")).text.splitlines()
    wanted = sorted(list(SIZES) + ["small-%04d" % number for number in range(SMALL)])
    check(sorted(names) == wanted, "ls: %d names, not %d" % (len(names), len(wanted)))


@case
def keeps_everything_over_stop_and_start():
    cluster.stop()
    cluster.start()
    cluster.wait_healthy()
    everything_comes_back_identical()


@case
def removes_objects():
    succeeds(cluster.rados("-p", "data", "rm", "odd", "page"))
    names = succeeds(cluster.rados("-p", "data", "ls")).text.splitlines()
    check("odd" not in names and "page" not in names, "removed objects are still listed")


if __name__ == "__main__":
    run()
