#!/usr/bin/env python3
"""A disk changes data behind an OSD's back: scrubs find and repair it, and no client sees it."""

import errno
import json
import mmap
import os
import shutil
import signal

from lib.cluster import BIN, Cluster, case, check, command, fails, random_bytes, run, succeeds, \
    wait_until

BLOCK = 4096
OBJECT = random_bytes(1024 * 1024, "scrubbed")
EUCLEAN = 117

cluster = Cluster(osd_size="1G")


def data_folder(osd):
    return os.path.join(cluster.path, "osd.%d" % osd)


def group():
    """The placement group that has the object."""
    result = succeeds(cluster.limpet("pg", "ls", "data", "-f", "json"))
    return next((pg for pg in json.loads(result.text)["pg_stats"]
                 if pg["stat_sum"]["num_objects"] > 0), None)


def fsck(osd):
    return command([os.path.join(BIN, "limpet-osd"), "--fsck", "--deep", "--data",
                    data_folder(osd)])


MIDDLE = len(OBJECT) // 2


def corrupt(osd):
    """Changes a byte of a block in the middle of the object while the OSD does not run."""
    name = "osd.%d" % osd
    cluster.kill(name, signal.SIGTERM)
    at = MIDDLE
    with open(os.path.join(data_folder(osd), "store", "block"), "r+b") as file:
        with mmap.mmap(file.fileno(), 0) as disk:
            # Also where it was before it was written anew.
            found = disk.find(OBJECT[at:at + BLOCK])
            check(found >= 0, "%s has no copy of the object" % name)
            while found >= 0:
                disk[found] ^= 0xff
                found = disk.find(OBJECT[at:at + BLOCK], found + 1)
    result = fsck(osd)
    check(result.code == EUCLEAN, "the damage should be seen: %s" % result)
    succeeds(cluster.start_daemon(name))
    cluster.wait_healthy()


def findings(*options):
    """What the primary tells of the group, as rados prints it."""
    result = cluster.limpet("rados", "list-inconsistent-obj", group()["pgid"], *options)
    return json.loads(succeeds(result).text)["inconsistents"]


def check_copy(osd):
    """All data of a stopped OSD are as their checksums say."""
    name = "osd.%d" % osd
    cluster.kill(name, signal.SIGTERM)
    succeeds(fsck(osd))
    succeeds(cluster.start_daemon(name))
    cluster.wait_healthy()


def scrub(verb, stamp):
    """Orders it, waits until it is done, and returns what is then known of the group."""
    before = wait_until("a report of the group", group, 30)
    succeeds(cluster.limpet("pg", verb, before["pgid"]))

    def done():
        now = group()
        return now if now and now[stamp] and now[stamp] != before[stamp] else None
    return wait_until("%s of %s" % (verb, before["pgid"]), done, 60)


@case
def a_scrub_is_told_in_the_group():
    cluster.start()
    cluster.pool("data")
    cluster.put("data", "one", OBJECT)
    pg = wait_until("a report of the object", group, 30)
    check(pg["last_scrub_stamp"] is None, "never scrubbed: %r" % pg)
    check(scrub("scrub", "last_scrub_stamp")["last_deep_scrub_stamp"] is None, "not a deep one")
    pg = scrub("deep-scrub", "last_deep_scrub_stamp")
    check(pg["objects_inconsistent"] == 0, "nothing is wrong: %r" % pg)


@case
def orders_that_cannot_be_are_refused():
    fails(cluster.limpet("pg", "scrub", "7777.0"), 2, "no placement group")
    fails(cluster.limpet("pg", "repair", "nonsense"), 22, "POOL.SEED")


@case
def a_deep_scrub_repairs_a_copy():
    pg = group()
    osd = next(osd for osd in pg["acting"] if osd != pg["acting_primary"])
    corrupt(osd)
    pg = scrub("deep-scrub", "last_deep_scrub_stamp")
    check(pg["objects_inconsistent"] == 0, "it should be repaired: %r" % pg)
    check_copy(osd)
    pg = scrub("repair", "last_deep_scrub_stamp")
    check(pg["objects_inconsistent"] == 0, "nothing is wrong any more: %r" % pg)


@case
def a_client_gets_right_data_of_a_damaged_primary():
    osd = group()["acting_primary"]
    corrupt(osd)
    pg = wait_until("a report of the group", group, 30)
    check(pg["acting_primary"] == osd, "osd.%d should be the primary again: %r" % (osd, pg))
    check(cluster.get("data", "one") == OBJECT, "the object differs")
    scrub("deep-scrub", "last_deep_scrub_stamp")
    check_copy(osd)
    check(cluster.get("data", "one") == OBJECT, "the object differs after the repair")


@case
def a_write_into_damage_ends_no_osd():
    """A part of the damaged block is written: the copy is made good as a whole."""
    pg = group()
    osd = next(osd for osd in pg["acting"] if osd != pg["acting_primary"])
    scrub("scrub", "last_scrub_stamp")
    corrupt(osd)
    part = os.path.join(cluster.path, "part")
    with open(part, "wb") as file:
        file.write(b"a part of a block")
    succeeds(cluster.limpet("rados", "put", "-p", "data", "one", part, "--offset",
                            str(MIDDLE + 100)))
    now = OBJECT[:MIDDLE + 100] + b"a part of a block"
    now += OBJECT[len(now):]
    found = wait_until("the repair", lambda: [one for one in findings("--repaired") if one["repaired"]], 30)
    check(len(found) == 1 and found[0]["repaired"], "one object, repaired: %r" % found)
    bad = [shard["osd"] for shard in found[0]["shards"] if shard["errors"] == ["read_error"]]
    check(bad == [osd], "osd.%d could not read it: %r" % (osd, found))
    check(findings() == [], "nothing is wrong any more")
    check_copy(osd)
    check(cluster.get("data", "one") == now, "the object differs")


@case
def what_cannot_be_repaired_is_listed():
    cluster.put("data", "one", OBJECT)
    succeeds(cluster.limpet("rados", "mksnap", "-p", "data", "before"))
    succeeds(cluster.limpet("rados", "put", "-p", "data", "one", "-", "--offset", "0", data=b"after"))
    pg = group()
    for osd in pg["acting"]:
        corrupt(osd)
    check(scrub("deep-scrub", "last_deep_scrub_stamp")["objects_inconsistent"] == 2, "it, and what is kept of it")
    listed = succeeds(cluster.limpet("rados", "list-inconsistent-pg", "data"))
    check(json.loads(listed.text) == [pg["pgid"]], "the group: %s" % listed)
    found = findings()
    check([one["object"]["name"] for one in found] == ["one", "one"], "the object: %r" % found)
    kept = json.loads(succeeds(cluster.limpet("rados", "listsnaps", "-p", "data", "one", "-f", "json")).text)
    check([one["object"]["snap"] for one in found] == [kept["clones"][0]["id"], "head"], "%r, %r" % (found, kept))
    odd = json.loads(succeeds(cluster.limpet("rados", "list-inconsistent-snapset", pg["pgid"])).text)
    check(odd["inconsistents"] == [], "all copies keep the same: %r" % odd)
    check(found[0]["union_shard_errors"] == ["read_error"], "unreadable: %r" % found)
    check(sorted(shard["osd"] for shard in found[0]["shards"]) == sorted(pg["acting"]) and
          [shard["primary"] for shard in found[0]["shards"]] == [True, False, False],
          "all copies: %r" % found)
    health = succeeds(cluster.limpet("health", "detail"))
    check("PG_INCONSISTENT" in health.text, "health tells it: %s" % health)


@case
def findings_end_with_the_primary():
    pg = group()
    name = "osd.%d" % pg["acting_primary"]
    cluster.kill(name, signal.SIGTERM)
    succeeds(cluster.start_daemon(name))
    cluster.wait_healthy()
    listing = ("rados", "list-inconsistent-obj", pg["pgid"])
    fails(cluster.limpet(*listing), 2, "limpet pg deep-scrub %s" % pg["pgid"])
    cluster.put("data", "one", OBJECT)
    succeeds(cluster.limpet("rados", "rmsnap", "-p", "data", "before"))
    listsnaps = ("rados", "listsnaps", "-p", "data", "one", "-f", "json")
    wait_until("what was kept is gone",
               lambda: len(json.loads(succeeds(cluster.limpet(*listsnaps)).text)["clones"]) == 1, 30)
    scrub("deep-scrub", "last_deep_scrub_stamp")
    check(findings() == [], "it was written anew")
    fails(cluster.limpet("rados", "list-inconsistent-obj", "nonsense"), 22, "limpet pg ls")
    fails(cluster.limpet("rados", "list-inconsistent-obj", "7777.0"), 2, "no pool")
    fails(cluster.limpet("rados", "list-inconsistent-obj", pg["pgid"].split(".")[0] + ".ffff"), 2,
          "does not exist")


@case
def a_journal_that_rots_is_replaced_with_its_osd():
    """What is acknowledged and lost is not passed over: the OSD says so, ends, and is made anew as docs/running.md has it."""
    small = random_bytes(BLOCK, "rests in the journal")
    cluster.put("data", "small", small)
    for number in range(8):  # Groups that say that the one before is durable.
        cluster.put("data", "later.%d" % number, b"later")
    cluster.kill("osd.1")
    with open(os.path.join(data_folder(1), "store", "block"), "r+b") as file:
        with mmap.mmap(file.fileno(), 0) as disk:
            found = disk.find(small)
            check(found >= 0, "the journal does not have it")
            disk[found] ^= 1
    fails(cluster.daemon("osd.1"), errno.EIO, "held acknowledged writes", "limpet osd rm", "--mkfs")
    wait_until("nothing counts on it", lambda: cluster.limpet("osd", "rm", "1").code == 0, 30)
    shutil.rmtree(data_folder(1))
    os.mkdir(data_folder(1))
    succeeds(cluster.daemon("osd.1", "--mkfs"))
    succeeds(cluster.start_daemon("osd.1"))
    cluster.wait_healthy()
    check_copy(1)
    check(cluster.get("data", "small") == small, "the object differs")
    cluster.destroy()


if __name__ == "__main__":
    run()
