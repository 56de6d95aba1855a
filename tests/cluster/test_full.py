#!/usr/bin/env python3
"""A cluster that is filled to the brim: what grows is refused with ENOSPC, the rest works, every OSD stays up, what was
acknowledged is there, and the space comes back."""

import errno

from lib.cluster import Cluster, case, check, fails, random_bytes, run, succeeds, wait_until

MIB = 1024 * 1024
OBJECT = 4 * MIB
# Of an OSD's 192 MiB: more than all objects of one fill.
OBJECTS_MAX = 60

cluster = Cluster(mons=1, osds=3, osd_size="192M")
pids = {}
stored = []


def name(number):
    return "object-%d" % number


def content(number):
    return random_bytes(OBJECT, number)


def fill(first=0):
    """Writes objects, from this one on, until one is refused; returns the number of that one."""
    for number in range(first, OBJECTS_MAX):
        result = cluster.rados("-p", "data", "put", name(number), "-", data=content(number))
        if result.code != 0:
            fails(result, errno.ENOSPC)
            return number
    check(False, "%d objects of %d bytes fit" % (OBJECTS_MAX, OBJECT))
    return 0


def check_same_osds():
    cluster.check_same_processes(pids)


@case
def starts_healthy():
    cluster.start()
    cluster.pool("data")
    pids.update(cluster.pids())


@case
def growth_ends_with_enospc():
    stored.append(fill())
    check(stored[0] > 10, "only %d objects fit" % stored[0])
    print("     %d objects of 4 MiB" % stored[0])
    check_same_osds()


@case
def health_names_the_full_osds():
    wait_until("health OSD_FULL or OSD_NEARFULL",
               lambda: "full" in cluster.limpet("health", "detail").text.lower(), 20)


@case
def what_is_there_is_read_and_overwritten():
    for number in range(stored[0]):
        check(cluster.get("data", name(number)) == content(number), "%s differs" % name(number))
    for number in range(3):
        cluster.put("data", name(number), content(number + 1000))
        check(cluster.get("data", name(number)) == content(number + 1000), "%s differs" % name(number))
    fails(cluster.rados("-p", "data", "put", "another", "-", data=content(1)), errno.ENOSPC)
    check_same_osds()


@case
def copies_catch_up_though_all_are_full():
    cluster.kill("osd.2")
    for number in range(3, 6):
        cluster.put("data", name(number), content(number + 1000))
    cluster.start_daemon("osd.2")
    wait_until("all copies complete", cluster.is_clean, 60)
    pids.update(cluster.pids())
    for number in range(6):
        check(cluster.get("data", name(number)) == content(number + 1000), "%s differs" % name(number))


@case
def removing_works_and_the_same_fits_again():
    for _ in range(2):
        for number in range(stored[-1]):
            succeeds(cluster.rados("-p", "data", "rm", name(number)))
        # What members said of their space counts for a moment longer, in each placement group by itself.
        for number in range(stored[0] - 1):
            wait_until("space for %s again" % name(number), lambda n=number: cluster.rados(
                "-p", "data", "put", name(n), "-", data=content(n)).code == 0, 20)
        stored.append(fill(stored[0] - 1))
        check_same_osds()


if __name__ == "__main__":
    run()
