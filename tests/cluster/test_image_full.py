#!/usr/bin/env python3
"""Block images on a cluster that is full: what grows is refused with ENOSPC, what is there can be read, overwritten,
discarded and removed, no half-made image is left, and the image is usable when there is space again."""

import errno
import os
import tempfile

from lib.cluster import Cluster, case, check, fails, random_bytes, run, succeeds, wait_until
from lib.image import MIB, Client, good, lib, refused
from lib.nbd import Server

cluster = Cluster(mons=1, osds=3, osd_size="192M")
pids = {}
# Of an image of 1 GiB: how many blocks of 4 MiB were taken.
written = []


def block(number):
    return random_bytes(4 * MIB, number)


def fill(image, first=0):
    """Until one is refused; its number."""
    for number in range(first, 256):
        rc = image.try_write(number * 4 * MIB, block(number))
        if rc != 4 * MIB:
            refused(rc, errno.ENOSPC, "block %d" % number)
            return number
    raise AssertionError("1 GiB fits")


def rbd(*words, data=b""):
    return cluster.limpet("rbd", *words, data=data)


@case
def starts():
    cluster.start()
    cluster.pool("data")
    pids.update(cluster.pids())
    c = Client(cluster.conf)
    kept = c.create("kept", 8 * MIB, order=20)
    kept.write(0, random_bytes(8 * MIB, 77))
    kept.close()
    c.create("big", 1024 * MIB).close()
    c.close()


@case
def writes_end_with_enospc():
    c = Client(cluster.conf)
    image = c.open("big")
    written.append(fill(image))
    check(written[0] > 10, "only %d blocks" % written[0])
    refused(image.try_write(1000 * MIB, b"x" * 4096), errno.ENOSPC, "a write to a new object")
    check(image.read(1000 * MIB, 4096) == bytes(4096), "what was refused is not there")
    # Where it is that is full is seen by each request for itself.
    request = image.aio_write(1001 * MIB, b"x" * MIB)
    refused(request.wait(), errno.ENOSPC, "an asynchronous one")
    good(image.flush(), "flush")
    image.close()
    c.close()


@case
def what_is_there_is_read_and_overwritten():
    c = Client(cluster.conf)
    image = c.open("big")
    for number in range(written[0]):
        check(image.read(number * 4 * MIB, 4 * MIB) == block(number), "block %d" % number)
    image.write(0, b"over" * 1024)
    check(image.read(0, 4096) == b"over" * 1024, "overwritten")
    check(lib.limpet_image_check_object_map(image.handle, None, None) == 0, "the object map")
    image.close()
    c.close()


@case
def what_would_make_an_image_is_refused_and_leaves_none():
    """Or it is small enough to be let through; then it is whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        with open(path, "wb") as file:
            file.write(random_bytes(24 * MIB, 5))
        result = rbd("import", "--no-progress", "-p", "data", path, "imported")
        check(result.code == errno.ENOSPC and "No space left on device" in result.err, str(result))
    fails(rbd("cp", "--no-progress", "data/big", "data/copied"), errno.ENOSPC)
    fails(rbd("deep", "cp", "--no-progress", "data/big", "data/copied"), errno.ENOSPC)
    c = Client(cluster.conf)
    check(sorted(c.names()) == ["big", "kept"], "left: %r" % c.names())
    c.close()


@case
def snapshots_cost_nothing_until_something_is_written():
    c = Client(cluster.conf)
    image = c.open("kept")
    rc = image.try_snap("s")
    check(rc in (0, -errno.ENOSPC), "snapshot: %d" % rc)
    if rc == 0:
        rc = image.try_write(0, b"y" * MIB)
        check(rc in (MIB, -errno.ENOSPC), "a write behind it: %d" % rc)
        good(image.set_snap("s"), "look")
        check(image.read(0, 8 * MIB) == random_bytes(8 * MIB, 77), "the snapshot")
        good(image.set_snap(None), "look")
        good(image.rollback("s"), "rollback")
        good(image.snap_remove("s"), "remove the snapshot")
    check(image.read(0, 8 * MIB) == random_bytes(8 * MIB, 77), "contents")
    image.close()
    c.close()


@case
def nbd_clients_are_told_so():
    server = Server(cluster, "data/big")
    said = succeeds(server.shell("\n".join(("try:", "    h.pwrite(b'x' * (4 << 20), 1008 << 20)", "    print('written')",
                                            "except nbd.Error as error:", "    print(error.errno)")),
                                 "print(h.pread(4, 0))")).text
    check(said == "ENOSPC\nbytearray(b'over')\n", said)
    server.end()


@case
def discards_give_space_back():
    c = Client(cluster.conf)
    image = c.open("big")
    for number in range(written[0] // 2, written[0]):
        check(image.discard(number * 4 * MIB, 4 * MIB) == 4 * MIB, "discard %d" % number)

    def writes_again():
        return image.try_write(1000 * MIB, b"z" * MIB) == MIB
    wait_until("space again", writes_again, 20)
    check(image.read(1000 * MIB, MIB) == b"z" * MIB, "written")
    check(lib.limpet_image_check_object_map(image.handle, None, None) == 0, "the object map")
    image.close()
    c.close()


@case
def removing_works_when_all_is_full():
    c = Client(cluster.conf)
    image = c.open("big")
    fill(image, written[0] // 2)
    image.close()
    good(c.remove("big"), "remove")
    check(c.names() == ["kept"], "left: %r" % c.names())
    left = [line for line in cluster.rados("-p", "data", "ls").text.splitlines() if line.startswith("rbd_data")]
    check(len(left) == 8, "objects: %d" % len(left))
    made = []

    # What members said last of their space counts for a moment.
    def creates_again():
        made.append(c.try_create("again", 64 * MIB))
        check(made[-1] in (0, -errno.ENOSPC), "create: %d" % made[-1])
        return made[-1] == 0
    wait_until("space for another image", creates_again, 20)
    image = c.open("again")

    def writes_again():
        return image.try_write(0, block(1)) == 4 * MIB
    wait_until("space again", writes_again, 20)
    check(image.read(0, 4 * MIB) == block(1), "written")
    image.close()
    good(c.remove("again"), "remove")
    kept = c.open("kept")
    check(kept.read(0, 8 * MIB) == random_bytes(8 * MIB, 77), "what was there before")
    kept.close()
    c.close()
    cluster.check_same_processes(pids)


if __name__ == "__main__":
    run()
