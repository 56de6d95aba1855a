#!/usr/bin/env python3
"""LIMPET_NAMES (1,000,000) names in one folder: made by four mounts at once, listed with their attributes by each of them,
checked, removed by all four at once. Prints how fast."""

import multiprocessing
import os
import sys
import time

from lib.cluster import Cluster, case, check, run
from lib.mount import Mounts, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "names"
MOUNTS = 4
EACH = int(os.environ.get("LIMPET_NAMES", "1000000")) // MOUNTS
WRITERS = int(os.environ.get("LIMPET_WRITERS", "2"))  # Processes on each mount.
FOLDER = "many"
MEMORY_MIB = 256  # What a mount may keep if it is not told.
cluster = Cluster(mons=1, osds=3, osd_size="8G")
mounts = Mounts(cluster)
places = []


def name_of(mount, at):
    return "m%d.%d" % (mount, at)


def make(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640))


def of_each(function, mount, writer, results):
    os.chdir(os.path.join(places[mount], FOLDER))
    problem = ""
    try:
        for at in range(writer, EACH, WRITERS):
            function(name_of(mount, at))
    except OSError as error:
        problem = str(error)
    os.chdir("/")
    results.put(problem)


def by_all(what, function):
    """Calls it for every name, each mount for its own; prints how many a second that were."""
    results = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=of_each, args=(function, mount, writer, results))
               for mount in range(MOUNTS) for writer in range(WRITERS)]
    begun = time.monotonic()
    for worker in workers:
        worker.start()
    problems = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    check(not any(problems), "%s: %s" % (what, max(problems)))
    rate = EACH * MOUNTS / (time.monotonic() - begun)
    print("# %d %s by %d mounts: %.0f/s" % (EACH * MOUNTS, what, MOUNTS, rate), flush=True)


def memory_mib(place):
    with open("/proc/%d/status" % mounts.server(place), encoding="utf-8") as file:
        return int(next(line for line in file if line.startswith("VmRSS:")).split()[1]) // 1024


def is_made(name):
    mount, at = name[1:].split(".")
    return name[0] == "m" and int(mount) < MOUNTS and int(at) < EACH


@case
def starts():
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)
    places.extend(mounts.mount(FS) for _ in range(MOUNTS))
    os.mkdir(os.path.join(places[0], FOLDER))


@case
def four_mounts_make_them():
    by_all("names made", make)


@case
def each_lists_them_with_attributes():
    for place in places:
        names, begun = set(), time.monotonic()
        with os.scandir(os.path.join(place, FOLDER)) as entries:
            for entry in entries:
                check(entry.stat().st_mode & 0o777 == 0o640 and is_made(entry.name), "%s is none of them" % entry.name)
                check(entry.name not in names, "%s is told twice" % entry.name)
                names.add(entry.name)
        print("# %d names listed with attributes: %.0f/s" % (len(names), len(names) / (time.monotonic() - begun)), flush=True)
        check(len(names) == EACH * MOUNTS, "%d of %d names" % (len(names), EACH * MOUNTS))
    memory = [memory_mib(place) for place in places]
    print("# memory of the mounts: %s MiB" % memory, flush=True)
    check(max(memory) < MEMORY_MIB + MEMORY_MIB // 4, "they may keep %d MiB: %s" % (MEMORY_MIB, memory))


@case
def check_finds_nothing():
    for place in list(places):
        mounts.umount(place)
    begun = time.monotonic()
    counted = mounts.check_clean(FS)
    print("# checked in %.0f s: %s" % (time.monotonic() - begun, counted), flush=True)


@case
def four_mounts_remove_them():
    places[:] = [mounts.mount(FS) for _ in range(MOUNTS)]
    by_all("names removed", os.unlink)
    for place in places:
        check(os.listdir(os.path.join(place, FOLDER)) == [], "it is empty")
    os.rmdir(os.path.join(places[1], FOLDER))
    for place in places:
        check(os.listdir(place) == [], "and gone")


@case
def check_finds_nothing_afterwards():
    for place in list(places):
        mounts.umount(place)
    mounts.check_clean(FS)


if __name__ == "__main__":
    run()
