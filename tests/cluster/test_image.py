#!/usr/bin/env python3
"""Block images: what programs do with them, and what they must not get."""

import ctypes
import errno
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from lib.cluster import Cluster, case, check, random_bytes, run, wait_until
from lib.image import (BY_ID, FEATURES, MIB, PLAIN, PROGRESS, READ_ONLY, Client, Qos, good, lib, merge_diff, refused)

cluster = Cluster(mons=1, osds=3)
clients = []


def client(fresh=False, space=""):
    """The first one, or another process as far as the cluster can tell."""
    if fresh or not clients:
        clients.append(Client(cluster.conf, space=space))
        return clients[-1]
    return clients[0]


@case
def begins():
    cluster.start()
    cluster.pool("data")


# ---- Images of a pool ----


@case
def creates_opens_lists_removes():
    c = client()
    image = c.create("first", 10 * MIB)
    info = image.info()
    check(info.size == 10 * MIB and info.order == 22 and info.objects == 3, "size %d" % info.size)
    check(info.features == FEATURES and info.name == b"first", "features %d" % info.features)
    check(info.prefix == b"rbd_data." + info.id, "prefix %r" % info.prefix)
    check(image.read(0, 4096) == bytes(4096), "a new image is zeroes")
    refused(c.try_create("first", MIB), errno.EEXIST, "twice the same name")
    refused(c.remove("first"), errno.EBUSY, "remove while it is open")
    check(c.names() == ["first"], "names %r" % c.names())
    image.close()
    good(c.remove("first"), "remove")
    check(c.names() == [], "names after removal %r" % c.names())
    refused(c.try_open("first"), errno.ENOENT, "open after removal")
    refused(c.remove("first"), errno.ENOENT, "remove again")


@case
def refuses_bad_names_and_layouts():
    c = client()
    for name in ("", "a/b", "a@b", b"\xff", b"\xed\xa0\x80"):
        refused(c.try_create(name, MIB), errno.EINVAL, "name %r" % name)
    refused(c.try_create("x" * 256, MIB), errno.ENAMETOOLONG, "a long name")
    refused(c.try_create("bad", MIB, order=11), errno.EDOM, "order 11")
    refused(c.try_create("bad", MIB, order=26), errno.EDOM, "order 26")
    refused(c.try_create("bad", MIB, unit=65536, count=0), errno.EINVAL, "a unit without a count")
    refused(c.try_create("bad", MIB, unit=3 * 65536, count=2), errno.EINVAL, "a unit that does not divide")
    refused(c.try_create("bad", 1 << 63), errno.EFBIG, "2^63 bytes")
    refused(c.try_create("bad", MIB, features=1 | 8), errno.EINVAL, "an object map without lock")
    refused(c.try_create("bad", MIB, features=1 << 40), errno.ENOSYS, "an unknown feature")
    refused(c.try_create("bad", MIB, data_pool="nowhere"), errno.ENOENT, "no such data pool")
    check(c.names() == [], "nothing is left: %r" % c.names())
    good(c.try_create("größe \u65e5\u672c", 0), "a name of UTF-8, no size")
    image = c.open("größe \u65e5\u672c")
    refused(image.try_write(0, b"x"), errno.EINVAL, "write beyond the end")
    image.close()
    good(c.remove("größe \u65e5\u672c"), "remove")


@case
def renames_while_it_is_open():
    c, other = client(), client(fresh=True)
    image = c.create("old", MIB)
    good(c.try_create("taken", MIB), "create")
    refused(other.rename("old", "taken"), errno.EEXIST, "rename to a name that is there")
    refused(other.rename("none", "x"), errno.ENOENT, "rename what is not there")
    good(other.rename("old", "new"), "rename")
    check(image.info().name == b"new", "the open handle knows the new name")
    image.write(0, b"still here")
    check(sorted(c.names()) == ["new", "taken"], "names %r" % c.names())
    image.close()
    good(c.remove("new"), "remove")
    good(c.remove("taken"), "remove")


# ---- Reading and writing ----


def writes_at_random(image, size, seed, count=150, largest=300000):
    """Random requests against a model; returns it."""
    r = random.Random(seed)
    model = bytearray(size)
    for i in range(count):
        offset = r.randrange(size)
        length = min(r.choice((1, 512, 4096, 65536, r.randrange(1, largest))), size - offset)
        kind = r.randrange(10)
        if kind < 5:
            data = r.randbytes(length)
            image.write(offset, data)
            model[offset:offset + length] = data
        elif kind == 5:
            good(image.discard(offset, length), "discard")
            model[offset:offset + length] = bytes(length)
        elif kind == 6:
            pattern = r.randbytes(r.choice((1, 3, 512)))
            length -= length % len(pattern)
            if length == 0:
                continue
            good(image.write_same(offset, pattern, length), "write_same")
            model[offset:offset + length] = pattern * (length // len(pattern))
        else:
            check(image.read(offset, length) == bytes(model[offset:offset + length]),
                  "request %d: read %d+%d differs (seed %d)" % (i, offset, length, seed))
    check(image.read(0, size) == bytes(model), "the whole differs (seed %d)" % seed)
    return model


@case
def keeps_what_is_written():
    c = client()
    layouts = ({}, {"order": 16}, {"order": 18, "unit": 65536, "count": 3}, {"features": PLAIN, "order": 20},
               {"order": 12, "unit": 512, "count": 7, "features": PLAIN})
    for number, layout in enumerate(layouts):
        name = "disk%d" % number
        size = (3 * MIB + 12345) if layout.get("order") != 12 else 300000
        image = c.create(name, size, **layout)
        model = writes_at_random(image, size, number)
        image.close()
        image = c.open(name, flags=READ_ONLY)
        check(image.read(0, size) == bytes(model), "%s differs after opening anew" % name)
        refused(image.try_write(0, b"x"), errno.EROFS, "write to a read-only handle")
        image.close()
        good(c.remove(name), "remove")
    left = [line for line in cluster.rados("-p", "data", "ls").text.splitlines()
            if line.startswith(("rbd_data", "rbd_header", "rbd_object_map"))]
    check(left == [], "objects are left: %r" % left[:5])


@case
def edges_of_requests():
    c = client()
    image = c.create("edges", 5 * MIB)
    refused(image.try_write(5 * MIB, b"x"), errno.EINVAL, "write at the end")
    refused(image.try_read(6 * MIB, 1), errno.EINVAL, "read beyond the end")
    check(image.try_write(5 * MIB - 3, b"abcdef") == 3, "a write is cut at the end")
    check(image.try_read(5 * MIB - 3, 10) == b"abc", "a read is cut at the end")
    check(image.try_write(0, b"") == 0 and image.try_read(0, 0) == b"", "nothing at all")
    image.write(4096, b"A" * 512)
    check(image.compare_and_write(4096, b"A" * 512, b"B" * 512) == (512, 2 ** 64 - 1), "compare and write")
    rc, where = image.compare_and_write(4096, b"B" * 100 + b"C" + b"B" * 411, b"D" * 512)
    check((rc, where) == (-errno.EILSEQ, 100), "mismatch: %d at %d" % (rc, where))
    check(image.read(4096, 512) == b"B" * 512, "after a mismatch")
    refused(image.compare_and_write(4 * MIB - 256, b"x" * 512, b"y" * 512)[0], errno.EINVAL,
            "compare and write over a border")
    image.close()
    good(c.remove("edges"), "remove")


@case
def many_at_a_time_and_flush():
    c = client()
    image = c.create("many", 64 * MIB)
    r = random.Random(7)
    blocks = r.sample(range(64 * MIB // 4096), 3000)
    requests = [image.aio_write(block * 4096, bytes([block % 251]) * 4096) for block in blocks]
    flush = image.aio_flush()
    check(flush.wait() == 0, "flush")
    check(all(request.ended.is_set() and request.result == 4096 for request in requests),
          "a flush ends after the writes before it")
    reads = [image.aio_read(block * 4096, 4096) for block in blocks]
    for block, request in zip(blocks, reads):
        check(request.wait() == 4096 and request.memory.raw == bytes([block % 251]) * 4096,
              "block %d" % block)
    whole = image.aio_read(0, 64 * MIB)
    check(whole.wait() == 64 * MIB, "one large read")
    image.close()
    good(c.remove("many"), "remove")


@case
def who_waits_and_callbacks_and_watchers_mix():
    """Threads that wait make the callbacks of their own requests; nobody may be forgotten when they leave
    the place of who polls to each other, to the library's thread, or to nobody."""
    one = client(fresh=True)
    shown = one.create("mixed", 32 * MIB)
    shown.write(0, b"p" * (8 * MIB))
    shown.snap("base")
    covered = one.clone("mixed", "base", "covered")
    handles, problems, until = [shown, covered], [], time.monotonic() + 3

    def wait_each(number):
        generator, image = random.Random(number), handles[number % 2]
        while time.monotonic() < until and not problems:
            at = (2 * number) * MIB + generator.randrange(200) * 4096
            data = bytes([generator.randrange(256)]) * 4096
            if image.try_write(at, data) != 4096 or image.try_read(at, 4096) != data:
                problems.append("%d at %d" % (number, at))
            if generator.random() < 0.1:
                time.sleep(generator.random() * 0.006)
                image.flush()

    def many_at_once():
        generator, under_way = random.Random(7), []
        while time.monotonic() < until and not problems:
            under_way.append(shown.aio_write((16 * MIB) + generator.randrange(1000) * 4096, b"a" * 4096))
            while len(under_way) >= generator.choice((1, 12, 30)):
                if under_way.pop(0).wait(60) != 4096:
                    problems.append("aio")

    def snapshots():
        for number in range(6):
            if covered.try_snap("s%d" % number) != 0:
                problems.append("snapshot")
            time.sleep(generator_of_pauses.random() * 0.3)

    generator_of_pauses = random.Random(3)
    threads = [threading.Thread(target=wait_each, args=(number,), daemon=True) for number in range(4)]
    threads += [threading.Thread(target=call, daemon=True) for call in (many_at_once, snapshots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    check(not problems and not any(thread.is_alive() for thread in threads), "stuck or wrong: %r" % problems)
    for name in covered.snap_names():
        good(covered.snap_remove(name), "snapshot")
    covered.close()
    good(one.remove("covered"), "remove")
    good(shown.snap_remove("base"), "snapshot")
    shown.close()
    good(one.remove("mixed"), "remove")


@case
def resizes():
    c, other = client(), client(fresh=True)
    for features in (FEATURES, PLAIN):
        image = c.create("elastic", 9 * MIB, features=features)
        image.write(0, b"x" * (9 * MIB))
        refused(image.resize(5 * MIB, shrink=False), errno.EINVAL, "shrink without being asked to")
        good(image.resize(5 * MIB), "shrink")
        refused(image.try_read(5 * MIB, 1), errno.EINVAL, "read beyond the new end")
        good(image.resize(10 * MIB), "grow")
        check(image.read(5 * MIB - 1, 5 * MIB + 1) == b"x" + bytes(5 * MIB),
              "what was cut off does not come back")
        watching = other.open("elastic")
        good(image.resize(12 * MIB), "grow")
        check(watching.info().size == 12 * MIB, "others learn of the size")
        good(watching.resize(1 * MIB), "another one resizes it")
        check(image.info().size == MIB, "and this one learns of it")
        image.write(MIB - 4, b"last")
        check(watching.read(MIB - 4, 4) == b"last", "both see what is written")
        watching.close()
        image.close()
        good(c.remove("elastic"), "remove")


# ---- Snapshots ----


@case
def snapshots_keep_what_was():
    c, other = client(), client(fresh=True)
    for features, order in ((FEATURES, 20), (PLAIN, 20), (FEATURES, 22)):
        image = c.create("snapped", 4 * MIB + 777, features=features, order=order)
        watching = other.open("snapped")
        states = {}
        for number in range(4):
            name = "s%d" % number
            states[name] = bytes(writes_at_random_on(image, 100 * number + order, states))
            image.snap(name)
        refused(image.try_snap("s0"), errno.EEXIST, "twice the same name")
        writes_at_random_on(image, 999, states)
        check(watching.snap_names() == ["s0", "s1", "s2", "s3"], "others learn of snapshots")
        for name, state in states.items():
            if name == "head":
                continue
            at = other.open("snapped", snap=name)
            check(at.read(0, len(state)) == state, "%s differs (order %d)" % (name, order))
            refused(at.try_write(0, b"x"), errno.EROFS, "write at a snapshot")
            at.close()
        good(image.rollback("s2"), "rollback")
        check(image.read(0, len(states["s2"])) == states["s2"], "after the rollback")
        check(watching.read(0, len(states["s2"])) == states["s2"], "for others, too")
        refused(c.remove("snapped"), errno.ENOTEMPTY, "remove with snapshots")
        good(image.protect("s1"), "protect")
        refused(image.protect("s1"), errno.EBUSY, "protect again")
        refused(image.snap_remove("s1"), errno.EBUSY, "remove a protected one")
        good(image.unprotect("s1"), "unprotect")
        refused(image.unprotect("s1"), errno.EINVAL, "unprotect again")
        good(image.snap_rename("s1", "renamed"), "rename")
        refused(image.snap_rename("renamed", "s2"), errno.EEXIST, "rename to what is there")
        at = other.open("snapped", snap="renamed")
        for name in ("s0", "renamed", "s2", "s3"):
            good(image.snap_remove(name), "remove %s" % name)
        refused(image.snap_remove("s0"), errno.ENOENT, "remove again")
        at.close()
        watching.close()
        image.close()
        good(c.remove("snapped"), "remove")


def writes_at_random_on(image, seed, states):
    """As writes_at_random(), of an image that has something."""
    r = random.Random(seed)
    size = image.info().size
    model = bytearray(states.get("head") or bytes(size))
    for _ in range(25):
        offset = r.randrange(size)
        length = min(r.choice((512, 4096, 70000, 1 << 20)), size - offset)
        if r.randrange(4) == 0:
            good(image.discard(offset, length), "discard")
            model[offset:offset + length] = bytes(length)
        else:
            data = r.randbytes(length)
            image.write(offset, data)
            model[offset:offset + length] = data
    states["head"] = model
    check(image.read(0, size) == bytes(model), "the head differs (seed %d)" % seed)
    return model


@case
def snapshots_and_sizes():
    c = client()
    image = c.create("sized", 6 * MIB)
    image.write(0, b"a" * (6 * MIB))
    image.snap("large")
    good(image.resize(2 * MIB + 5), "shrink")
    image.snap("small")
    good(image.resize(8 * MIB), "grow")
    check(image.read(2 * MIB + 5, 5 * MIB) == bytes(5 * MIB), "what was cut off is zeroes")
    good(image.set_snap("large"), "look at the large one")
    check(image.info().size == 6 * MIB and image.read(0, 6 * MIB) == b"a" * (6 * MIB), "the large one")
    good(image.set_snap(None), "look at the head")
    good(image.rollback("large"), "rollback")
    check(image.info().size == 6 * MIB and image.read(0, 6 * MIB) == b"a" * (6 * MIB), "rolled back")
    good(image.rollback("small"), "rollback")
    good(image.resize(6 * MIB), "grow")
    check(image.read(0, 6 * MIB) == b"a" * (2 * MIB + 5) + bytes(4 * MIB - 5), "the small one, grown")
    good(image.resize(2 * MIB), "shrink")
    image.close()
    image = c.open("sized")
    image.write(0, b"a")
    good(image.rollback("large"), "rollback, of objects that the object map in memory did not reach")
    check(image.read(0, 6 * MIB) == b"a" * (6 * MIB), "the large one again")
    limit = lib.limpet_image_snap_set_limit
    refused(limit(image.handle, 1), errno.ERANGE, "a limit below what there is")
    good(limit(image.handle, 2), "limit")
    refused(image.try_snap("third"), errno.EDQUOT, "beyond the limit")
    for name in image.snap_names():
        good(image.snap_remove(name), "remove")
    image.close()
    good(c.remove("sized"), "remove")


@case
def a_snapshot_during_writes_is_one_moment():
    """Each round is written in order, each block after the one before it was acknowledged: a snapshot
    has some blocks of the new round, and then only old ones."""
    c, other = client(), client(fresh=True)
    for features in (FEATURES, PLAIN):
        image = c.create("moment", 8 * MIB, features=features, order=16)
        observer = other.open("moment")
        blocks = 64
        stop = threading.Event()
        failures = []

        def write_rounds():
            number = 0
            while not stop.is_set():
                number += 1
                for block in range(blocks):
                    data = number.to_bytes(8, "little") * 64
                    if image.try_write(block * 131072, data) != 512:
                        failures.append("write")
                        return
        writer = threading.Thread(target=write_rounds)
        writer.start()
        names = ["m%d" % i for i in range(6)]
        for name in names:
            observer.snap(name)
        stop.set()
        writer.join()
        check(not failures, "a write failed")
        for name in names:
            at = other.open("moment", snap=name)
            seen = [int.from_bytes(at.read(block * 131072, 8), "little") for block in range(blocks)]
            again = [int.from_bytes(at.read(block * 131072, 8), "little") for block in range(blocks)]
            at.close()
            check(seen == again, "%s changed" % name)
            check(seen == sorted(seen, reverse=True) and seen[0] - seen[-1] <= 1,
                  "%s is not one moment: %r" % (name, seen))
        for name in names:
            good(image.snap_remove(name), "remove")
        observer.close()
        image.close()
        good(c.remove("moment"), "remove")


# ---- The exclusive lock ----


@case
def the_lock_goes_to_who_writes():
    a, b = client(), client(fresh=True)
    first = a.create("locked", 8 * MIB)
    second = b.open("locked")
    first.write(0, b"1" * 4096)
    check(first.is_owner() and not second.is_owner(), "the first writer has the lock")
    second.write(0, b"2" * 4096)
    check(second.is_owner() and not first.is_owner(), "it goes to the second one")
    check(first.read(0, 4096) == b"2" * 4096, "the first one sees what the second one wrote")
    for number in range(10):
        writer = (first, second)[number % 2]
        writer.write(number * 4096, bytes([number]) * 4096)
    check(second.read(0, 40960) == b"".join(bytes([n]) * 4096 for n in range(10)), "both wrote")
    good(first.lock(), "keep it")
    refused(second.try_write(0, b"x"), errno.EROFS, "write while another one keeps the lock")
    refused(second.lock(), errno.EBUSY, "keep what another one keeps")
    good(first.unlock(), "give it back")
    second.write(0, b"y")
    check(second.is_owner(), "the second one has it again")
    first.close()
    second.close()
    good(a.remove("locked"), "remove")


WRITER = """
import sys
sys.path.insert(0, sys.argv[1])
from lib.cluster import CaseFailed
from lib.image import Client
client = Client(sys.argv[2])
image = client.open(sys.argv[3])
print("open", flush=True)
number = 0
while True:
    number += 1
    results = []
    try:
        requests = [image.aio_write(block * 4096, number.to_bytes(4, "little") * 1024) for block in range(16)]
    except CaseFailed as failure:
        # It may be refused at once.
        results = [-108] if ": -108 " in str(failure) else [str(failure)]
    if not results:
        results = [request.wait(600) for request in requests]
    if results != [4096] * 16:
        print("failed %s" % min(results), flush=True)
        break
    print("wrote %d" % number, flush=True)
"""


def writer(name):
    here = os.path.dirname(os.path.abspath(__file__))
    child = subprocess.Popen([sys.executable, "-B", "-c", WRITER, here, cluster.conf, name],
                             stdout=subprocess.PIPE, text=True)
    check(child.stdout.readline() == "open\n", "the writer has opened it")
    line = child.stdout.readline()
    check(line == "wrote 1\n", "the writer has written: %r" % line)
    return child


@case
def a_dead_owner_is_replaced():
    c = client()
    c.create("widow", 8 * MIB).close()
    child = writer("widow")
    image = c.open("widow")
    child.kill()
    child.wait()
    child.stdout.close()
    image.write(0, b"n" * 65536)
    check(image.read(0, 65536) == b"n" * 65536, "the new owner's data")
    image.close()
    good(c.remove("widow"), "remove")


@case
def a_hung_owner_wakes_up_to_nothing():
    for features in (FEATURES, PLAIN):
        c = client()
        c.create("hung", 8 * MIB, features=features).close()
        child = writer("hung")
        os.kill(child.pid, signal.SIGSTOP)
        image = c.open("hung")
        # Without a lock both may write; what shuts a writer out is then a snapshot that it misses.
        if features == PLAIN:
            image.snap("missed")
        image.write(0, b"n" * 65536)
        os.kill(child.pid, signal.SIGCONT)
        rest = child.stdout.read().splitlines()
        child.wait()
        child.stdout.close()
        check(rest and rest[-1] == "failed -%d" % errno.ESHUTDOWN, "the writer is told: %r" % rest[-1:])
        check(image.read(0, 65536) == b"n" * 65536, "the new owner's data")
        if features == PLAIN:
            good(image.snap_remove("missed"), "remove")
        image.close()
        good(c.remove("hung"), "remove")


# ---- Clones ----


@case
def clones_show_their_parents():
    c = client()
    layouts = (({}, {}), ({"order": 20}, {"order": 18}), ({"order": 18, "unit": 65536, "count": 3}, {"order": 20}),
               ({"features": PLAIN}, {"features": PLAIN}))
    for number, (of_parent, of_child) in enumerate(layouts):
        size = 5 * MIB + 4321
        parent = c.create("parent", size, **of_parent)
        model = bytearray(writes_at_random(parent, size, 50 + number, count=60))
        parent.snap("base")
        parent.write(0, b"later" * 1000)
        child = c.clone("parent", "base", "child", **of_child)
        check(child.parent().name == b"parent" and child.parent().snap_name == b"base", "the parent's name")
        check(child.info().overlap == size and child.read(0, size) == bytes(model), "a new clone")
        states = {"head": model}
        writes_at_random_on(child, 60 + number, states)
        child.snap("mid")
        middle = bytes(states["head"])
        writes_at_random_on(child, 70 + number, states)
        at = c.open("child", snap="mid")
        check(at.read(0, size) == middle, "a clone's snapshot")
        grandchild = c.clone("child", "mid", "grandchild")
        grand = {"head": bytearray(middle)}
        writes_at_random_on(grandchild, 80 + number, grand)
        check([spec.name for spec in parent.children()] == [b"child"], "children of the parent")
        check([spec.name for spec in at.children()] == [b"grandchild"], "children of the child")
        good(child.flatten(), "flatten")
        refused(child.flatten(), errno.EINVAL, "flatten again")
        check(child.parent() == -errno.ENOENT and parent.children() == [], "it has no parent any more")
        check(child.read(0, size) == bytes(states["head"]), "after flattening")
        check(at.read(0, size) == middle, "its snapshot after flattening")
        check(grandchild.read(0, size) == bytes(grand["head"]), "its clone after flattening")
        good(parent.snap_remove("base"), "remove the parent's snapshot")
        parent.close()
        good(c.remove("parent"), "remove the parent")
        at.close()
        at = c.open("child", snap="mid")
        check(at.read(0, size) == middle, "without the parent")
        at.close()
        good(child.snap_remove("mid"), "goes to the trash")
        check([snap.kind for snap in child.snaps()] == [2], "the snapshot waits for its clone")
        check(grandchild.read(0, size) == bytes(grand["head"]), "the clone of what is in the trash")
        grandchild.close()
        good(c.remove("grandchild"), "remove the clone")
        child.refresh()
        check(child.snaps() == [], "and with the clone it is gone")
        child.close()
        good(c.remove("child"), "remove")


def segments_sent():
    """How often this process has sent data by TCP: tcpi_data_segs_out of its sockets."""
    total = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.fromfd(int(name), socket.AF_INET, socket.SOCK_STREAM) as one:
                total += struct.unpack_from("I", one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 156)[0]
        except OSError:
            pass
    return total


@case
def a_read_of_the_parent_costs_one_more_request():
    """One for the child's object, which is not there, and one for the parent's; with the map in memory that one alone."""
    c, reads, more = client(), 300, 60
    parent = c.create_parent(8 * MIB, random_bytes(4 * MIB, 3), order=22)
    for features, name, requests in ((PLAIN, "plain", 2), (FEATURES, "mapped", 1)):
        child = c.clone("parent", "base", name, features=features)
        child.write(4 * MIB, b"the lock is taken, and the map read")
        before = segments_sent()
        for number in range(reads):
            child.read(number * 4096, 4096)
        sent = segments_sent() - before
        check(requests * reads <= sent <= requests * reads + more,
              "%s: %d reads sent %d times, not %d" % (name, reads, sent, requests * reads))
        child.close()
        good(c.remove(name), "remove")
    good(parent.snap_remove("base"), "remove the snapshot")
    parent.close()
    good(c.remove("parent"), "remove")


@case
def clones_and_sizes():
    c = client()
    parent = c.create_parent(6 * MIB, b"p" * (6 * MIB))
    parent.close()
    child = c.clone("parent", "base", "child")
    child.snap("whole")
    good(child.resize(2 * MIB + 100), "shrink")
    good(child.resize(7 * MIB), "grow")
    expected = b"p" * (2 * MIB + 100) + bytes(5 * MIB - 100)
    check(child.read(0, 7 * MIB) == expected, "what was cut off does not come back from the parent")
    good(child.set_snap("whole"), "snapshot")
    check(child.read(0, 6 * MIB) == b"p" * (6 * MIB), "the snapshot still shows all")
    good(child.set_snap(None), "head")
    good(child.flatten(), "flatten")
    check(child.read(0, 7 * MIB) == expected, "after flattening")
    good(child.set_snap("whole"), "snapshot")
    check(child.read(0, 6 * MIB) == b"p" * (6 * MIB), "the snapshot, after flattening")
    good(child.set_snap(None), "head")
    good(child.rollback("whole"), "rollback")
    check(child.read(0, 6 * MIB) == b"p" * (6 * MIB), "after the rollback")
    good(child.snap_remove("whole"), "remove")
    child.close()
    good(c.remove("child"), "remove")
    parent = c.open("parent")
    check(parent.children() == [], "no children: %r" % [spec.name for spec in parent.children()])
    good(parent.snap_remove("base"), "remove")
    parent.close()
    good(c.remove("parent"), "remove")


@case
def snapshots_of_clones_keep_their_parts_of_the_parent():
    """Rolled back to when more of the parent was shown: earlier snapshots that show less of it."""
    c = client()
    unit = 65536
    parent = c.create_parent(6 * unit, b"p" * (6 * unit), order=16)
    parent.close()
    for layout in ({"order": 16}, {"order": 16, "features": PLAIN}):
        child = c.clone("parent", "base", "child", **layout)
        states = {"whole": b"p" * (6 * unit)}
        child.snap("whole")
        good(child.resize(2 * unit + 100), "shrink")
        good(child.resize(7 * unit), "grow")
        child.snap("less")
        states["less"] = b"p" * (2 * unit + 100) + bytes(5 * unit - 100)
        good(child.rollback("whole"), "rollback")
        child.write(2 * unit + 500, b"x")
        child.write(4 * unit, b"y")
        states["again"] = bytearray(states["whole"])
        states["again"][2 * unit + 500:2 * unit + 501] = b"x"
        states["again"][4 * unit:4 * unit + 1] = b"y"
        states["again"] = bytes(states["again"])
        child.snap("again")
        for when in ("after the rollback", "flattened", "flattened again"):
            for name, state in states.items():
                good(child.set_snap(name), "look")
                check(child.read(0, len(state)) == state, "%s %s, %s" % (name, when, layout))
                for since in states:
                    if list(states).index(since) >= list(states).index(name):
                        break
                    for whole in (False, True):
                        check_diff(child.diff(since, whole=whole), states[since], state,
                                   "%s..%s %s" % (since, name, when))
                for whole in (False, True):
                    check_diff(child.diff(None, whole=whole), b"", state, "%s %s" % (name, when))
            good(child.set_snap(None), "head")
            check(child.flatten() in (0, -errno.EINVAL), "flatten")
        for name in states:
            good(child.snap_remove(name), "remove")
        child.close()
        good(c.remove("child"), "remove")
    parent = c.open("parent")
    good(parent.snap_remove("base"), "remove")
    parent.close()
    good(c.remove("parent"), "remove")


@case
def flattening_copies_what_a_rollback_removed():
    """The object map names such an object, and it is not there."""
    c = client()
    unit = 65536
    parent = c.create_parent(6 * unit, b"p" * (6 * unit), order=16)
    parent.close()
    child = c.clone("parent", "base", "child", order=16)
    child.snap("whole")
    good(child.resize(2 * unit), "shrink")
    good(child.resize(7 * unit), "grow")
    child.write(4 * unit, b"y")
    good(child.rollback("whole"), "rollback")
    good(child.flatten(), "flatten")
    check(child.read(0, 6 * unit) == b"p" * (6 * unit), "after flattening")
    good(child.snap_remove("whole"), "remove")
    child.close()
    good(c.remove("child"), "remove")
    parent = c.open("parent")
    good(parent.snap_remove("base"), "remove")
    parent.close()
    good(c.remove("parent"), "remove")


@case
def clones_of_version_1_need_protection():
    c = client()
    parent = c.create("parent", MIB)
    parent.snap("base")
    refused(c.try_clone("parent", "base", "child", clone_format=1), errno.EINVAL, "not protected")
    check(c.names() == ["parent"], "nothing is left of it")
    refused(c.try_clone("parent", "none", "child"), errno.ENOENT, "no such snapshot")
    good(parent.protect("base"), "protect")
    c.clone("parent", "base", "child", clone_format=1).close()
    refused(parent.unprotect("base"), errno.EBUSY, "unprotect with a clone")
    good(c.remove("child"), "remove")
    good(parent.unprotect("base"), "unprotect")
    good(parent.snap_remove("base"), "remove")
    parent.close()
    good(c.remove("parent"), "remove")


@case
def two_writers_of_a_clone_take_turns():
    """Each has every other block of the same objects, so that a lost or late write of an object shows;
    the lock goes to and fro, objects are copied up, somebody takes snapshots."""
    a, b = client(), client(fresh=True)
    size = 4 * MIB
    for features in (FEATURES, PLAIN):
        parent = a.create("parent", size, order=18)
        base = random_bytes(size, 3)
        parent.write(0, base)
        parent.snap("base")
        parent.close()
        image = a.clone("parent", "base", "shared", features=features, order=18)
        second = b.open("shared")
        model = bytearray(base)
        failures = []

        def write(handle, parity, seed):
            r = random.Random(seed)
            try:
                for _ in range(40):
                    requests = []
                    for block in r.sample(range(parity, size // 4096, 2), 8):
                        data = r.randbytes(4096)
                        requests.append(handle.aio_write(block * 4096, data))
                        model[block * 4096:block * 4096 + 4096] = data
                    for request in requests:
                        check(request.wait() == 4096, "a write")
            except Exception as failure:  # Told by the main thread.
                failures.append(failure)
        writers = [threading.Thread(target=write, args=(handle, parity, 77 + parity))
                   for parity, handle in enumerate((image, second))]
        for thread in writers:
            thread.start()
        for number in range(4):
            (image, second)[number % 2].snap("t%d" % number)
        for thread in writers:
            thread.join()
        check(not failures, "a writer failed: %r" % failures)
        check(image.read(0, size) == bytes(model) and second.read(0, size) == bytes(model), "what both wrote")
        good(image.flatten(), "flatten")
        check(second.read(0, size) == bytes(model), "after flattening")
        if features == FEATURES:
            good(lib.limpet_image_check_object_map(image.handle, None, None), "check the map")
        for number in range(4):
            good(image.snap_remove("t%d" % number), "remove")
        second.close()
        image.close()
        good(a.remove("shared"), "remove")
        parent = a.open("parent")
        good(parent.snap_remove("base"), "remove")
        parent.close()
        good(a.remove("parent"), "remove")


# ---- What has changed ----


def check_diff(extents, before, after, what):
    """All that differs is named, and what is said to be zeroes is."""
    differs = bytearray(1 if a != b else 0 for a, b in
                        zip(before.ljust(len(after), b"\0"), after))
    end = -1
    for offset, length, exists in extents:
        check(length > 0 and offset >= end and offset + length <= len(after), "%s: order" % what)
        end = offset + length
        differs[offset:end] = bytes(length)
        if not exists:
            check(not any(after[offset:end]), "%s: %d+%d is not zeroes" % (what, offset, length))
    at = differs.find(1)
    check(at < 0, "%s: a change at %d is not told: %r" % (what, at, extents[:10]))


class Sparse:
    """What few blocks of 4 KiB of a large image are."""

    def __init__(self, size):
        self.size = size
        self.blocks = {}

    def copy(self):
        other = Sparse(self.size)
        other.blocks = dict(self.blocks)
        return other

    def resize(self, size):
        self.size = size
        self.blocks = {at: data for at, data in self.blocks.items() if at < size}

    def check(self, image, what):
        for at in sorted(set(self.blocks) | {at ^ (1 << 12) for at in self.blocks} | {at ^ (1 << 40) for at in self.blocks}):
            if at + 4096 <= self.size:
                check(image.read(at, 4096) == self.blocks.get(at, bytes(4096)), "%s: block at %d" % (what, at))

    def check_diff(self, extents, before, what):
        for at in set(self.blocks) | set(before.blocks):
            after = self.blocks.get(at, bytes(4096))
            told = [exists for offset, length, exists in extents if offset <= at and at + 4096 <= offset + length]
            check(len(told) <= 1 and (told or at >= self.size or after == before.blocks.get(at, bytes(4096))),
                  "%s: a change at %d is not told" % (what, at))
            check(told != [False] or not any(after), "%s: %d is not zeroes" % (what, at))


@case
def of_huge_images_what_exists_is_looked_at():
    """Images of 1 EiB that have little in them: whatever visits objects visits those that there are."""
    c, size, begun = client(), 1 << 60, time.monotonic()
    places = [0, 4096, 1 << 23, (1 << 40) + 4096, 5 << 50, (1 << 59) + (1 << 22), size - 4096]
    for layout in ({"order": 22}, {"order": 21, "unit": 65536, "count": 3, "features": PLAIN}):
        image, none = c.create("huge", size, **layout), Sparse(size)
        head, states = Sparse(size), {}

        def write(at, image=image, head=head):
            head.blocks[at] = random_bytes(4096, at + len(states))
            image.write(at, head.blocks[at])

        def keep(name, image=image, head=head, states=states):
            image.snap(name)
            states[name] = head.copy()

        for at in places[:5]:
            write(at)
        keep("a")
        good(image.discard(1 << 40, 4 * MIB), "discard")
        head.blocks.pop(places[3])
        write(places[5])
        keep("b")
        good(image.resize(1 << 30), "shrink")
        head.resize(1 << 30)
        good(image.resize(size), "grow")
        head.size = size
        write(places[6])
        states[None] = head.copy()
        for to, state in states.items():
            good(image.set_snap(to), "look")
            state.check(image, "%s %s" % (to, layout))
            for since in [None, *states][:1 + list(states).index(to)]:
                for whole in (False, True):
                    state.check_diff(image.diff(since, whole=whole), states[since] if since else none,
                                     "%s..%s %s" % (since, to, layout))
        good(image.set_snap(None), "look")
        check(image.used() <= 4 * (4 << layout["order"]), "%d bytes are used" % image.used())
        good(image.deep_copy("deep", order=layout["order"]), "deep copy")
        good(image.copy("plain"), "copy")
        good(lib.limpet_image_sparsify(image.handle, ctypes.c_uint64(4096), None, None), "sparsify")
        states[None].check(image, "sparsified")
        for name in ("deep", "plain"):
            copy = c.open(name)
            states[None].check(copy, name)
            states[None].check_diff(copy.diff(), none, name)
            for snap in copy.snap_names():
                good(copy.set_snap(snap), "look")
                states[snap].check(copy, "%s@%s" % (name, snap))
                good(copy.set_snap(None), "look")
                good(copy.snap_remove(snap), "remove %s" % snap)
            copy.close()
            good(c.remove(name), "remove")
        good(image.protect("a"), "protect")
        child = c.clone("huge", "a", "child", order=layout["order"], features=layout.get("features", FEATURES))
        states["a"].check_diff(child.diff(), none, "clone")
        child.write(places[1], b"z" * 4096)
        good(child.flatten(), "flatten")
        below = states["a"].copy()
        below.blocks[places[1]] = b"z" * 4096
        below.check(child, "flattened")
        below.check_diff(child.diff(), none, "flattened")
        child.close()
        good(c.remove("child"), "remove")
        good(image.unprotect("a"), "unprotect")
        good(image.rollback("a"), "rollback")
        states["a"].check(image, "rolled back")
        stream = image.export_diff()
        other = c.create("other", MIB, **layout)
        good(other.import_diff(stream), "import")
        states["a"].check(other, "imported")
        other.close()
        good(c.remove("other"), "remove")
        if "features" not in layout:
            refused(lib.limpet_image_rebuild_object_map(image.handle, None, None), errno.EFBIG, "a map of so many objects")
        for snap in image.snap_names():
            good(image.snap_remove(snap), "remove %s" % snap)
        image.close()
        good(c.remove("huge"), "remove")
    left = [name for name in cluster.rados("-p", "data", "ls").text.splitlines() if name.startswith(("rbd_data.", "rbd_header."))]
    check(left == [], "objects are left: %r" % left[:5])
    check(time.monotonic() - begun < 300, "it takes %d s" % (time.monotonic() - begun))


@case
def a_map_that_was_outgrown_is_not_believed():
    """No map is kept of more than 2^25 objects: neither a part of such an image, nor what it was cut to, is what its map says."""
    c, size, data = client(), 1 << 50, b"a" * 4096
    image = c.create("wide", size)
    image.write(8 * MIB, data)
    check(image.info().flags == 3, "the map is not valid")
    told = [exists for offset, length, exists in image.diff(size=1 << 30, whole=True) if offset <= 8 * MIB < offset + length]
    check(told == [True], "a part of it: %r" % told)
    image.snap("s")
    child = c.clone("wide", "s", "child")
    good(child.resize(1 << 40), "shrink")
    good(child.flatten(), "flatten")
    check(child.read(8 * MIB, 4096) == data, "flattened")
    child.close()
    good(c.remove("child"), "remove")
    good(image.snap_remove("s"), "remove the snapshot")
    good(image.resize(1 << 30), "shrink")
    image.close()
    image = c.open("wide")
    image.write(0, b"b")
    check(image.read(8 * MIB, 4096) == data, "what was written before it was cut")
    good(lib.limpet_image_rebuild_object_map(image.handle, None, None), "rebuild")
    check(image.info().flags == 0, "the map is valid again")
    image.write(0, b"c")
    check(image.read(8 * MIB, 4096) == data, "with a map")
    good(image.resize(size), "grow")
    zeroes = b"rbd diff v1\ns" + struct.pack("<Q", size) + b"z" + struct.pack("<QQ", 0, 1 << 30) + b"e"
    good(image.import_diff(zeroes), "import")
    check(image.read(8 * MIB, 4096) == bytes(4096), "zeroes that were imported")
    image.close()
    good(c.remove("wide"), "remove")


@case
def what_a_flattened_parent_has_is_its_clones():
    """The clone was open before: it asks its parent anew what that has, whose own parent is gone."""
    c, data = client(), b"a" * 4096
    for features in (FEATURES, PLAIN):
        grand = c.create("grand", 32 << 30, features=features)
        grand.write(8 * MIB, data)
        grand.snap("s")
        middle = c.clone("grand", "s", "middle", features=features)
        middle.snap("s")
        child = c.clone("middle", "s", "child", features=features)
        # They hear of no changes.
        readers = [c.open("middle", "s", READ_ONLY) for _ in range(4)]
        good(middle.flatten(), "flatten the parent")
        good(grand.snap_remove("s"), "remove the snapshot")
        grand.close()
        good(c.remove("grand"), "remove what the parent was made from")
        for whole, reader in enumerate(readers[:2]):
            told = [exists for at, length, exists in reader.diff(whole=bool(whole)) if at <= 8 * MIB < at + length]
            check(told == [True], "what it has: %r" % told)
        good(readers[2].copy("copy"), "copy")
        copy = c.open("copy")
        check(copy.read(8 * MIB, 4096) == data, "copied")
        check(data in readers[3].export_diff(), "exported")
        copy.close()
        good(c.remove("copy"), "remove")
        for reader in readers:
            reader.close()
        good(child.flatten(), "flatten")
        check(child.read(8 * MIB, 4096) == data, "flattened")
        child.close()
        good(c.remove("child"), "remove")
        good(middle.snap_remove("s"), "remove the snapshot")
        middle.close()
        good(c.remove("middle"), "remove")


@case
def of_a_parent_in_many_pieces_all_are_told():
    """More than a difference has in memory of its parent at a time: client/image/extents.h."""
    c, unit, sets = client(), 512, 40
    period = 8 * MIB
    parent = c.create("pieces", sets * period, order=22, unit=unit, count=2)
    for number in range(sets):
        parent.write((number + 1) * period - 2 * unit, b"e" * unit)
    parent.snap("s")
    child = c.clone("pieces", "s", "child")
    child.write(20 * period + unit, b"o" * unit)
    for offset, whole in ((0, False), (3 * period + unit, True)):
        got = child.diff(offset=offset, whole=whole)
        own = [(at, length) for at, length, exists in got if 20 * period <= at < 21 * period]
        shown = [extent for extent in got if not 20 * period <= extent[0] <= 21 * period]
        expected = [(at, unit, True) for at in range(0, sets * period, 2 * unit)
                    if at >= offset and not 20 * period <= at <= 21 * period]
        wrong = next((i for i, (a, b) in enumerate(zip(shown, expected)) if a != b), len(shown))
        check(shown == expected, "%d extents of %d from %d: %r, not %r" % (len(shown), len(expected), offset,
                                                                         shown[wrong:wrong + 2], expected[wrong:wrong + 2]))
        check(own[0][0] == 20 * period and own[0][1] >= 3 * unit, "what the clone has: %r" % own[:3])

    child.close()
    good(c.remove("child"), "remove")
    # Little is to be copied, but the parent is looked at everywhere.
    child = c.clone("pieces", "s", "child", features=PLAIN)
    for number in range(2, 2 * sets):
        name = b"%s.%016x" % (child.info().prefix, number)
        good(lib.limpet_write(c.pool, name, b"o" * unit, ctypes.c_size_t(unit), ctypes.c_uint64(0)), "an object of its own")

    def flatten():
        good(child.flatten(), "flatten")
        good(parent.snap_remove("s"), "remove the snapshot")
        parent.close()
        good(c.remove("pieces"), "remove")
    reader = c.open("child", flags=READ_ONLY)
    told = reader.diff(at_first=flatten)
    check(isinstance(told, list), "the parent has gone meanwhile: %r" % told)
    ends = [0] + [at + length for at, length, _ in told]
    check(all(at >= end for (at, _, _), end in zip(told, ends)), "the order after the parent has gone")
    expected = [*range(0, period, 2 * unit), (sets - 1) * period]
    shown = [at for at in expected if any(start <= at < start + length for start, length, exists in told[-4:] + told[:9000] if exists)]
    check(shown == expected, "%d of %d are told after the parent has gone" % (len(shown), len(expected)))
    reader.close()
    child.close()
    good(c.remove("child"), "remove")


@case
def differences_are_told():
    c = client()
    for number, layout in enumerate(({"order": 18}, {"order": 18, "features": PLAIN},
                                     {"order": 17, "unit": 16384, "count": 3})):
        size = MIB + 54321
        image = c.create("changing", size, **layout)
        states = {}
        for name in ("a", "b", "c"):
            writes_at_random_on(image, number * 10 + ord(name), states)
            image.snap(name)
            states[name] = bytes(states["head"])
        good(image.resize(size // 2), "shrink")
        good(image.resize(size), "grow")
        states["head"][size // 2:] = bytes(size - size // 2)
        image.write(5, b"only this")
        states["head"][5:14] = b"only this"
        for whole in (False, True):
            for to in ("b", "c", None):
                good(image.set_snap(to), "look")
                for since in (None, "a", "b", "c"):
                    if since and to and since >= to:
                        continue
                    check_diff(image.diff(since, whole=whole), states[since] if since else b"",
                               bytes(states[to or "head"]), "%s..%s %s" % (since, to, layout))
        good(image.set_snap(None), "look")
        full, first = image.export_diff(), None
        good(image.set_snap("a"), "look")
        first = image.export_diff()
        good(image.set_snap("c"), "look")
        second = image.export_diff("a")
        good(image.set_snap(None), "look")
        third = image.export_diff("c")
        copy = c.create("copy", 0, order=20)
        good(copy.import_diff(first), "import a")
        refused(copy.import_diff(first), errno.EEXIST, "import a again")
        refused(copy.import_diff(third), errno.EINVAL, "import what begins at c")
        good(copy.import_diff(second), "import a..c")
        check(copy.read(0, size) == states["c"] and copy.snap_names() == ["a", "c"], "imported to c")
        good(copy.import_diff(third), "import c..head")
        check(copy.read(0, size) == bytes(states["head"]), "imported to the head")
        merged = merge_diff(first, second)
        check(isinstance(merged, bytes), "merge: %r" % merged)
        merged = merge_diff(merged, third)
        other = c.create("merged", 0)
        good(other.import_diff(merged), "import what was merged")
        check(other.read(0, size) == bytes(states["head"]), "merged")
        check(merge_diff(first, third) == -errno.EINVAL, "merge what does not follow")
        good(other.import_diff(full), "import in full")
        check(other.read(0, size) == bytes(states["head"]), "in full")
        refused(other.import_diff(full[:len(full) // 2]), errno.EBADMSG, "a stream that is cut off")
        refused(other.import_diff(b"rbd dix v1\n" + full), errno.EBADMSG, "no stream")
        for name, image_of_it in (("changing", image), ("copy", copy), ("merged", other)):
            for snap in image_of_it.snap_names():
                good(image_of_it.snap_remove(snap), "remove")
            image_of_it.close()
            good(c.remove(name), "remove %s" % name)


@case
def what_was_rolled_back_to_the_parent_is_no_zeroes():
    """The child's object goes, and the parent is seen again, whole objects or not, with an object map or without."""
    c = client()
    unit = 65536
    parent = c.create_parent(3 * unit, b"p" * (3 * unit), order=16)
    parent.close()
    for layout in ({"order": 16}, {"order": 16, "features": PLAIN}):
        child = c.clone("parent", "base", "child", **layout)
        child.snap("a")
        good(child.resize(unit), "shrink")
        good(child.resize(3 * unit), "grow")
        child.write(unit, b"c" * unit)
        child.snap("b")
        good(child.rollback("a"), "rollback")
        child.snap("c")
        after = b"p" * (3 * unit)
        before = after[:unit] + b"c" * unit + bytes(unit)
        good(child.set_snap("c"), "look")
        for whole in (False, True):
            check_diff(child.diff("b", whole=whole), before, after, "whole %s %s" % (whole, layout))
        good(child.set_snap(None), "look")
        for snap in child.snap_names():
            good(child.snap_remove(snap), "remove")
        child.close()
        good(c.remove("child"), "remove")
    parent = c.open("parent")
    good(parent.snap_remove("base"), "remove")
    parent.close()
    good(c.remove("parent"), "remove")


@case
def usage_is_told_by_the_object_map():
    c = client()
    image = c.create("thin", 1 << 40)
    check(image.used() == 0, "a new image uses nothing")
    image.write(0, b"x")
    image.write(1 << 39, b"y" * 4096)
    check(image.used() == 8 * MIB, "two objects: %d" % image.used())
    image.snap("s")
    image.write((1 << 40) - 1, b"z")
    check(image.used("s") == 4 * MIB and image.used() == 12 * MIB, "since the snapshot")
    good(image.discard(0, 4 * MIB), "discard")
    check(image.used() == 8 * MIB, "after a discard: %d" % image.used())
    good(image.snap_remove("s"), "remove")
    image.close()
    good(c.remove("thin"), "remove a large thin image")


@case
def maps_are_made_anew_and_zeroes_given_back():
    c = client()
    image = c.create("late", 8 * MIB, order=20, features=PLAIN)
    image.write(3 * MIB, b"data" * 1000)
    image.write(5 * MIB, bytes(MIB))
    good(lib.limpet_image_set_features(image.handle, ctypes_u64(4 | 8 | 16), True), "enable")
    good(lib.limpet_image_rebuild_object_map(image.handle, None, None), "rebuild")
    check(image.info().flags == 0, "the map is valid")
    check(image.used() == 2 * MIB, "what is used: %d" % image.used())
    good(lib.limpet_image_check_object_map(image.handle, None, None), "check")
    check(image.read(3 * MIB, 4000) == b"data" * 1000, "data are there")
    refused(lib.limpet_image_sparsify(image.handle, ctypes_u64(5000), None, None), errno.EINVAL, "an odd unit")
    good(lib.limpet_image_sparsify(image.handle, ctypes_u64(4096), None, None), "sparsify")
    check(image.used() == MIB, "zeroes were given back: %d" % image.used())
    check(image.read(3 * MIB, 4000) == b"data" * 1000 and image.read(5 * MIB, MIB) == bytes(MIB), "the same")
    image.close()
    good(c.remove("late"), "remove")


@case
def copies():
    c = client()
    size = 3 * MIB + 99
    base = c.create("base", size, order=20)
    model = bytes(writes_at_random(base, size, 5, count=30))
    base.snap("s")
    image = c.clone("base", "s", "source")
    states = {"head": bytearray(model)}
    writes_at_random_on(image, 6, states)
    image.snap("one")
    states["one"] = bytes(states["head"])
    writes_at_random_on(image, 7, states)
    image.snap("two")
    states["two"] = bytes(states["head"])
    good(image.resize(size - MIB), "shrink")
    states["head"] = states["head"][:size - MIB]
    good(image.copy("flat", order=18), "copy")
    flat = c.open("flat")
    check(flat.read(0, size - MIB) == bytes(states["head"]) and flat.snaps() == [], "a copy")
    flat.close()
    refused(image.copy("flat"), errno.EEXIST, "copy to what is there")
    for flatten in (False, True):
        good(image.deep_copy("deep", flatten), "deep copy")
        deep = c.open("deep")
        check((deep.parent() == -errno.ENOENT) == flatten, "its parent")
        check(deep.snap_names() == ["one", "two"], "its snapshots")
        for name in ("one", "two", None):
            good(deep.set_snap(name), "look")
            check(deep.read(0, deep.info().size) == bytes(states[name or "head"]), "deep copy: %s" % name)
        good(deep.set_snap(None), "look")
        for name in ("one", "two"):
            good(deep.snap_remove(name), "remove")
        deep.close()
        good(c.remove("deep"), "remove")
    good(c.remove("flat"), "remove")
    for name in ("one", "two"):
        good(image.snap_remove(name), "remove")
    image.close()
    good(c.remove("source"), "remove")
    good(base.snap_remove("s"), "remove")
    base.close()
    good(c.remove("base"), "remove")


@case
def a_snapshot_that_goes_while_it_is_read_is_told():
    """What is read of it then may be zeroes: that is no difference, no export, and no copy."""
    c, size = client(), 40 * MIB
    for features in (FEATURES, PLAIN):
        for goes, what in (("b", lambda image, go: image.diff(at_first=go)),
                           ("b", lambda image, go: image.diff("a", at_first=go)),
                           ("a", lambda image, go: image.diff("a", at_first=go)),
                           ("b", lambda image, go: image.try_export_diff(progress=go)),
                           ("a", lambda image, go: image.try_export_diff("a", progress=go)),
                           ("b", lambda image, go: image.copy("copy", go))):
            image = c.create("going", size, features=features)
            for snap in ("a", "b", "c"):
                for at in range(0, size, 4 * MIB):
                    image.write(at, snap.encode() * 4096)
                image.snap(snap)
            reader = c.open("going", "b", READ_ONLY)
            rc = what(reader, lambda image=image, goes=goes: good(image.snap_remove(goes), "remove"))
            check(rc == -errno.ENOENT, "%s went while it was read: %.80r" % (goes, rc))
            check("copy" not in c.names(), "half a copy is left")
            reader.close()
            for snap in image.snap_names():
                good(image.snap_remove(snap), "remove")
            image.close()
            good(c.remove("going"), "remove")


@case
def a_snapshot_that_is_made_anew_is_another_one():
    """What has changed since the one that was copied is not what has changed since the one that has its name now."""
    c = client()
    for what in (lambda image, again: image.deep_copy("copy", progress=again), lambda image, again: image.try_export(again)):
        image = c.create("renewed", 8 * MIB)
        image.write(0, b"a" * 4096)
        image.snap("a")
        image.write(0, b"head" * 1024)

        def again(image=image):
            good(image.snap_remove("a"), "remove")
            image.snap("a")
        reader = c.open("renewed", flags=READ_ONLY)
        rc = what(reader, again)
        check(rc == -errno.ENOENT, "it was made anew meanwhile: %.80r" % rc)
        check("copy" not in c.names(), "half a copy is left")
        reader.close()
        good(image.snap_remove("a"), "remove")
        image.close()
        good(c.remove("renewed"), "remove")


@case
def an_image_that_goes_while_it_is_read_is_told():
    """Also when its objects have gone, and its header has not yet."""
    c, size = client(), 40 * MIB
    stop = PROGRESS(lambda _done, _total, _arg: -errno.ECANCELED)
    for half in (False, True):
        for what in (lambda image, go: image.try_export_diff(progress=go), lambda image, go: image.copy("copy", go)):
            image = c.create("going", size)
            for at in range(0, size, 4 * MIB):
                image.write(at, b"head" * 1024)
            image.close()
            reader = c.open("going", flags=READ_ONLY)
            check(not reader.info().snap_lost, "it is there")
            rc = what(reader, lambda half=half: check(c.remove("going", stop if half else None) ==
                                                      (-errno.ECANCELED if half else 0), "remove"))
            check(rc == -errno.ENOENT, "it went while it was read: %.80r" % rc)
            check("copy" not in c.names(), "half a copy is left")
            if half:
                check(reader.info().snap_lost, "the header says so")
                good(c.remove("going"), "remove")
            reader.close()


@case
def groups_have_snapshots_together():
    c = client()
    refused(lib.limpet_group_create(c.pool, b"a/b"), errno.EINVAL, "a bad name")
    good(lib.limpet_group_create(c.pool, b"g"), "create")
    refused(lib.limpet_group_create(c.pool, b"g"), errno.EEXIST, "create again")
    good(lib.limpet_group_create(c.pool, b"h"), "create")
    images = [c.create("g%d" % i, MIB) for i in range(3)]
    for i in range(3):
        good(lib.limpet_group_add(c.pool, b"g", c.pool, b"g%d" % i), "add")
    refused(lib.limpet_group_add(c.pool, b"h", c.pool, b"g0"), errno.EEXIST, "add to another one")
    images[0].close()
    refused(c.remove("g0"), errno.EMLINK, "remove an image of a group")
    images[0] = c.open("g0")
    for i, image in enumerate(images):
        image.write(0, b"%d" % i * 512)
    good(lib.limpet_group_snap_create(c.pool, b"g", b"s"), "snapshot")
    refused(lib.limpet_group_snap_create(c.pool, b"g", b"s"), errno.EEXIST, "snapshot again")
    for image in images:
        image.write(0, b"x" * 512)
        check(len(image.snaps()) == 1 and image.snaps()[0].kind == 1, "each has it")
        refused(image.snap_remove(image.snaps()[0].name), errno.ENOENT, "remove it alone")
    good(lib.limpet_group_snap_rename(c.pool, b"g", b"s", b"t"), "rename")
    good(lib.limpet_group_snap_rollback(c.pool, b"g", b"t", None, None), "rollback")
    for i, image in enumerate(images):
        check(image.read(0, 512) == b"%d" % i * 512, "rolled back")
    good(lib.limpet_group_snap_remove(c.pool, b"g", b"t"), "remove the snapshot")
    good(lib.limpet_group_take_out(c.pool, b"g", c.pool, b"g2"), "take out")
    good(lib.limpet_group_remove(c.pool, b"g"), "remove")
    good(lib.limpet_group_remove(c.pool, b"h"), "remove")
    for i, image in enumerate(images):
        check(image.snaps() == [], "no snapshots are left")
        image.close()
        good(c.remove("g%d" % i), "remove")


@case
def who_died_while_leaving_a_group_does_not_stop_its_snapshots():
    """The image says already that it is in no group, and the group's entry is there still."""
    c = client()
    good(lib.limpet_group_create(c.pool, b"half"), "create")
    for name in ("stays", "leaves", "goes"):
        c.create(name, MIB).close()
        good(lib.limpet_group_add(c.pool, b"half", c.pool, name.encode()), "add")
    group = [line for line in cluster.rados("-p", "data", "ls").text.splitlines() if line.startswith("rbd_group_header.")]
    check(len(group) == 1, "%r" % group)
    entries = cluster.rados("-p", "data", "listomapkeys", group[0]).text.splitlines()
    check(len(entries) == 3, "%r" % entries)
    for name in ("leaves", "goes"):
        good(lib.limpet_group_take_out(c.pool, b"half", c.pool, name.encode()), "take out")
    for entry in entries:
        cluster.rados("-p", "data", "setomapval", group[0], entry, "1")
    good(c.remove("goes"), "remove")
    good(lib.limpet_group_snap_create(c.pool, b"half", b"s"), "snapshot")
    check([image.name.decode() for image in c.group_images("half")] == ["stays"], "who is in it")
    left = [key for key in cluster.rados("-p", "data", "listomapkeys", group[0]).text.splitlines() if key in entries]
    check(len(left) == 2, "what is gone is forgotten: %r" % left)
    image = c.open("leaves")
    check(image.snaps() == [], "no part of it")
    image.close()
    good(lib.limpet_group_take_out(c.pool, b"half", c.pool, b"leaves"), "leave at last")
    # The other way round: its header says that it is in the group, whose entry was taken away by one who took it out just before.
    entry = [key for key in cluster.rados("-p", "data", "listomapkeys", group[0]).text.splitlines() if key in entries]
    cluster.rados("-p", "data", "rmomapkey", group[0], *entry)
    check(c.group_images("half") == [], "it is not listed")
    good(lib.limpet_group_add(c.pool, b"half", c.pool, b"stays"), "add again")
    check([image.name.decode() for image in c.group_images("half")] == ["stays"], "who is in it, after adding again")
    cluster.rados("-p", "data", "rmomapkey", group[0], *entry)
    good(lib.limpet_group_take_out(c.pool, b"half", c.pool, b"stays"), "take out without an entry")
    refused(lib.limpet_group_take_out(c.pool, b"half", c.pool, b"stays"), errno.ENOENT, "take out again")
    good(lib.limpet_group_add(c.pool, b"half", c.pool, b"stays"), "add at last")
    good(lib.limpet_group_snap_remove(c.pool, b"half", b"s"), "remove the snapshot")
    good(lib.limpet_group_remove(c.pool, b"half"), "remove")
    for name in ("stays", "leaves"):
        good(c.remove(name), "remove")


# ---- The trash, namespaces, metadata ----


@case
def the_trash_gives_back():
    c = client()
    image = c.create("thrown", MIB)
    image.write(0, b"kept")
    refused(lib.limpet_image_trash_move(c.pool, b"thrown", ctypes_u64(0)), errno.EBUSY, "while it is open")
    image.close()
    good(lib.limpet_image_trash_move(c.pool, b"thrown", ctypes_u64(3600)), "move")
    check(c.names() == [] and [entry.name for entry in c.trash()] == [b"thrown"], "it is in the trash")
    ident = c.trash()[0].id
    refused(lib.limpet_image_trash_remove(c.pool, ident, False, None, None), errno.EPERM, "before its time")
    good(lib.limpet_image_trash_restore(c.pool, ident, b"back"), "restore")
    image = c.open("back")
    check(image.read(0, 4) == b"kept", "its contents")
    image.close()
    good(lib.limpet_image_trash_move(c.pool, b"back", ctypes_u64(0)), "move")
    good(lib.limpet_image_trash_remove(c.pool, ident, False, None, None), "remove")
    check(c.trash() == [], "the trash is empty")


def ctypes_u64(value):
    return ctypes.c_uint64(value)


@case
def namespaces_stand_apart():
    c, inside = client(), client(fresh=True, space="tenant")
    refused(inside.try_create("disk", MIB), errno.ENOENT, "in a namespace that there is not")
    good(lib.limpet_image_space_create(c.pool, b"tenant"), "create")
    refused(lib.limpet_image_space_create(c.pool, b"tenant"), errno.EEXIST, "create again")
    image = inside.create("disk", MIB)
    image.write(0, b"inside")
    image.snap("s")
    child = inside.clone("disk", "s", "child")
    check(child.read(0, 6) == b"inside", "a clone in a namespace")
    child.close()
    check(c.names() == [] and sorted(inside.names()) == ["child", "disk"], "they stand apart")
    refused(lib.limpet_image_space_remove(c.pool, b"tenant"), errno.EBUSY, "remove with images")
    good(inside.remove("child"), "remove")
    good(image.snap_remove("s"), "remove")
    image.close()
    good(inside.remove("disk"), "remove")
    good(lib.limpet_image_space_remove(c.pool, b"tenant"), "remove")
    refused(lib.limpet_image_space_remove(c.pool, b"tenant"), errno.ENOENT, "remove again")


@case
def metadata_and_features():
    c = client()
    image = c.create("meta", MIB, features=PLAIN)
    good(lib.limpet_image_meta_set(image.handle, b"key", b"value", ctypes.c_size_t(5)), "set")
    value, length = ctypes.c_void_p(), ctypes.c_size_t()
    good(lib.limpet_image_meta_get(image.handle, b"key", ctypes.byref(value), ctypes.byref(length)), "get")
    check(ctypes.string_at(value, length.value) == b"value", "the value")
    lib.limpet_free(value)
    good(lib.limpet_image_meta_remove(image.handle, b"key"), "remove")
    refused(lib.limpet_image_meta_remove(image.handle, b"key"), errno.ENOENT, "remove again")
    features = lib.limpet_image_set_features
    refused(features(image.handle, ctypes_u64(8), True), errno.EINVAL, "a map without a lock")
    good(features(image.handle, ctypes_u64(4 | 8 | 16), True), "enable")
    check(image.info().features == 1 | 4 | 8 | 16 and image.info().flags == 3, "the map is not valid yet")
    image.write(0, b"x")
    check(image.is_owner(), "it has a lock now")
    good(features(image.handle, ctypes_u64(8 | 16), False), "disable")
    check(image.info().flags == 0, "flags")
    image.close()
    good(c.remove("meta"), "remove")


@case
def requests_keep_to_their_limits():
    """However slow the machine is: they are never faster than they may be."""
    c = client()
    image = c.create("limited", 8 * MIB)
    image.write(0, b"x" * MIB)
    for limits, count, size, least in ((Qos(iops=50), 30, 512, (30 - 6) / 50),
                                       (Qos(write_bytes=10 * MIB), 24, 262144, (6 - 1.5) / 10),
                                       (Qos(write_iops=40, iops_burst=10), 30, 512, (30 - 11) / 40)):
        good(lib.limpet_image_set_qos(image.handle, ctypes.byref(limits)), "limits")
        begun = time.monotonic()
        requests = [image.aio_write(i * size, b"y" * size) for i in range(count)]
        flush = image.aio_flush()
        check(flush.wait() == 0, "flush")
        check(all(request.ended.is_set() and request.result == size for request in requests), "all have ended")
        taken = time.monotonic() - begun
        check(taken >= least, "%d requests in %.3f s, at least %.3f" % (count, taken, least))
    for limits, count, size, least in ((Qos(read_iops=40, read_iops_burst=5, iops_burst=30), 25, 512, (25 - 6) / 40),
                                       (Qos(read_bytes=10 * MIB, read_bytes_burst=MIB), 24, 262144, (6 - 1.25) / 10)):
        good(lib.limpet_image_set_qos(image.handle, ctypes.byref(limits)), "limits of reads")
        begun = time.monotonic()
        for i in range(count):
            check(image.read(i * size, size) == b"y" * size, "contents")
        taken = time.monotonic() - begun
        check(taken >= least, "%d reads in %.3f s, at least %.3f" % (count, taken, least))
    good(lib.limpet_image_set_qos(image.handle, ctypes.byref(Qos())), "no limits")
    check(image.read(0, 512) == b"y" * 512, "contents")
    image.close()
    good(c.remove("limited"), "remove")


@case
def nothing_is_left():
    left = [line for line in cluster.rados("-p", "data", "ls", "--all").text.splitlines()
            if "rbd_data" in line or "rbd_header" in line or "rbd_object_map" in line]
    check(left == [], "objects are left: %r" % left[:5])


if __name__ == "__main__":
    run()
