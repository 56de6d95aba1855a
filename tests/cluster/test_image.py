#!/usr/bin/env python3
"""Block images: what programs do with them, and what they must not get."""

import errno
import os
import random
import signal
import subprocess
import sys
import threading

from lib.cluster import Cluster, case, check, random_bytes, run, wait_until
from lib.image import (BY_ID, FEATURES, MIB, PLAIN, READ_ONLY, Client, good, lib, refused)

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
    refused(c.try_create("bad", MIB, order=11), errno.EINVAL, "order 11")
    refused(c.try_create("bad", MIB, order=26), errno.EINVAL, "order 26")
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


if __name__ == "__main__":
    run()
