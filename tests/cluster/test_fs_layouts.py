#!/usr/bin/env python3
"""Layouts: how the contents of files are cut into objects, as extended attributes."""

import errno
import os
import random
import sys

from lib.cluster import Cluster, case, check, random_bytes, read_file, run, succeeds
from lib.mount import FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, Mounts, fallocate, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "laid"
LAYOUT = "limpet.layout"
UNIT = 4096
OBJECT = 4 * UNIT
STRIPED = "stripe_unit=%d stripe_count=3 object_size=%d" % (UNIT, OBJECT)
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
paths = {}


def layout(path, field=""):
    return os.getxattr(path, LAYOUT + field).decode()


def lay(path, text, field=""):
    os.setxattr(path, LAYOUT + field, text.encode())


def refused(number, call, *args):
    try:
        call(*args)
    except OSError as error:
        check(error.errno == number, "%s: %s instead of %s" % (args, error, errno.errorcode[number]))
        return
    check(False, "%s: it was not refused" % (args,))


def objects(pool):
    """Sizes of the data objects of all files, by their numbers."""
    names = succeeds(cluster.limpet("rados", "-p", pool, "--all", "ls")).text.split("\n")
    found = {}
    for line in names:
        words = line.split("\t")
        if len(words) > 1 and words[1].startswith("f."):
            stat = succeeds(cluster.limpet("rados", "-p", pool, "-N", words[0], "stat", words[1])).text
            found[int(words[1].rsplit(".", 1)[1], 16)] = int(stat.split()[-1])
    return found


@case
def starts():
    cluster.start()
    cluster.pool("fs")
    cluster.pool("contents")
    mounts.create(FS, "--data-pool", "contents")
    paths["one"], paths["two"] = mounts.mount(FS), mounts.mount(FS)


@case
def layouts_are_told():
    path = os.path.join(paths["one"], "plain")
    open(path, "w", encoding="utf-8").close()
    whole = "stripe_unit=4194304 stripe_count=1 object_size=4194304 pool=contents"
    check(layout(path) == whole, layout(path))
    check(layout(paths["one"]) == whole, layout(paths["one"]))
    for field, value in (("stripe_unit", "4194304"), ("stripe_count", "1"), ("object_size", "4194304"), ("pool", "contents")):
        check(layout(path, "." + field) == value, field)
    check(os.listxattr(path) == [], "layouts are listed, and would be copied: %s" % os.listxattr(path))
    os.mkfifo(os.path.join(paths["one"], "pipe"))
    refused(errno.ENODATA, layout, os.path.join(paths["one"], "pipe"))
    refused(errno.ENODATA, layout, path, ".colour")


@case
def contents_are_striped():
    path = os.path.join(paths["one"], "striped")
    open(path, "w", encoding="utf-8").close()
    lay(path, STRIPED)
    data = random_bytes(2 * 3 * OBJECT + UNIT + 100, 1)
    with open(path, "wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    check(layout(os.path.join(paths["two"], "striped")).startswith(STRIPED), "the other mount")
    check(read_file(os.path.join(paths["two"], "striped")) == data, "contents, from the other mount")
    sizes = objects("contents")
    check(sizes == {0: OBJECT, 1: OBJECT, 2: OBJECT, 3: OBJECT, 4: OBJECT, 5: OBJECT, 6: UNIT, 7: 100}, "objects: %s" % sizes)
    os.truncate(path, 3 * OBJECT + 3 * UNIT + 7)
    sizes = objects("contents")
    check(sizes == {0: OBJECT, 1: OBJECT, 2: OBJECT, 3: UNIT + 7, 4: UNIT, 5: UNIT}, "objects after truncation: %s" % sizes)
    os.unlink(path)


@case
def what_was_written_anywhere_is_read():
    draw = random.Random(7)
    for at, text in enumerate((STRIPED, "stripe_unit=%d stripe_count=5" % (2 * UNIT), "object_size=%d" % OBJECT, "stripe_count=2")):
        path = os.path.join(paths["one"], "any%d" % at)
        other = os.path.join(paths["two"], "any%d" % at)
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        lay(path, text)
        data = bytearray()
        for step in range(80):
            offset, length = draw.randrange(12 * OBJECT), draw.randrange(1, 2 * OBJECT)
            what = draw.randrange(10)
            if what < 7:
                piece = random_bytes(length, step)
                data.extend(bytes(max(0, offset + length - len(data))))
                data[offset:offset + length] = piece
                os.pwrite(fd, piece, offset)
            elif what < 8:
                size = draw.randrange(len(data) + OBJECT)
                os.ftruncate(fd, size)
                data = data[:size] + bytes(max(0, size - len(data)))
            else:
                fallocate(fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length)
                end = min(len(data), offset + length)
                if offset < end:
                    data[offset:end] = bytes(end - offset)
            if step % 20 == 19:
                check(read_file(other) == data, "%s, step %d" % (text, step))
        check(os.pread(fd, len(data) + 1, 0) == data, text)
        os.close(fd)
        check(read_file(other) == data, "%s, in the end" % text)


@case
def holes_of_striped_files_are_found():
    path = os.path.join(paths["one"], "holes")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    lay(path, STRIPED)
    os.pwrite(fd, b"x" * UNIT, 5 * UNIT)
    os.pwrite(fd, b"x" * UNIT, 6 * UNIT)
    os.pwrite(fd, b"x" * UNIT, 50 * UNIT)
    os.ftruncate(fd, 60 * UNIT)
    for whence, begin, expected in ((os.SEEK_DATA, 0, 5), (os.SEEK_HOLE, 5, 7), (os.SEEK_DATA, 7, 50), (os.SEEK_HOLE, 50, 51),
                                    (os.SEEK_HOLE, 0, 0)):
        found = os.lseek(fd, begin * UNIT, whence)
        check(found == expected * UNIT, "from %d: %d instead of %d" % (begin, found // UNIT, expected))
    refused(errno.ENXIO, os.lseek, fd, 51 * UNIT, os.SEEK_DATA)
    os.close(fd)


@case
def folders_hand_theirs_on():
    one = os.path.join(paths["one"], "folder")
    os.mkdir(one)
    lay(one, "4", ".stripe_count")
    lay(one, "65536", ".stripe_unit")
    os.mkdir(os.path.join(one, "below"))
    for mount in ("one", "two"):
        path = os.path.join(paths[mount], "folder", "below", mount)
        open(path, "w", encoding="utf-8").close()
        expected = "stripe_unit=65536 stripe_count=4 object_size=4194304 pool=contents"
        check(layout(path) == expected, "%s: %s" % (mount, layout(path)))
    lay(one, "fs", ".pool")
    path = os.path.join(one, "elsewhere")
    data = random_bytes(200000, 3)
    with open(path, "wb") as file:
        file.write(data)
    check(layout(path, ".pool") == "fs", layout(path))
    check(read_file(os.path.join(paths["two"], "folder", "elsewhere")) == data, "contents beside their records")
    os.removexattr(one, LAYOUT)
    path = os.path.join(one, "plain")
    open(path, "w", encoding="utf-8").close()
    check(layout(path, ".stripe_count") == "1" and layout(path, ".pool") == "contents", layout(path))


@case
def parts_of_a_folder_hand_its_on():
    mounts.create("split", "--split", "16")
    path = os.path.join(mounts.mount("split"), "large")
    os.mkdir(path)
    for at in range(100):
        os.mknod(os.path.join(path, "n%d" % at))
    lay(path, "3", ".stripe_count")
    for at in range(20):
        name = os.path.join(path, "after%d" % at)
        open(name, "w", encoding="utf-8").close()
        check(layout(name, ".stripe_count") == "3", "%s: %s" % (name, layout(name)))
    mounts.umount(mounts.paths[-1])
    mounts.check_clean("split")


@case
def what_makes_no_sense_is_refused():
    path = os.path.join(paths["one"], "bad")
    open(path, "w", encoding="utf-8").close()
    before = layout(path)
    for text in ("", "x", "stripe_count", "stripe_count=", "stripe_count=0", "stripe_count=257", "stripe_count=-1",
                 "stripe_count=2 stripe_count=3", "stripe_unit=4097", "stripe_unit=2048", "stripe_unit=8388608", "object_size=5000",
                 "object_size=134217728", "object_size=99999999999999999999999", "object_size=4M", "colour=blue", "=5"):
        refused(errno.EINVAL, lay, path, text)
    refused(errno.EINVAL, lay, path, "5", ".colour")
    refused(errno.ENOENT, lay, path, "nowhere", ".pool")
    refused(errno.EINVAL, os.removexattr, path, LAYOUT)
    check(layout(path) == before, layout(path))
    with open(path, "wb") as file:
        file.write(b"contents")
        file.flush()
        refused(errno.ENOTEMPTY, lay, path, "2", ".stripe_count")
        refused(errno.ENOTEMPTY, lay, os.path.join(paths["two"], "bad"), "2", ".stripe_count")
    check(read_file(os.path.join(paths["two"], "bad")) == b"contents", "contents")
    os.truncate(path, 0)
    lay(path, "2", ".stripe_count")
    check(layout(os.path.join(paths["two"], "bad"), ".stripe_count") == "2", "after truncation")
    os.symlink("bad", os.path.join(paths["one"], "link"))
    refused(errno.EINVAL, lambda name: os.setxattr(name, LAYOUT, b"stripe_count=2", follow_symlinks=False),
            os.path.join(paths["one"], "link"))


@case
def nothing_is_wrong_in_the_end():
    for mount in ("one", "two"):
        mounts.umount(paths[mount])
    mounts.check_clean(FS)


if __name__ == "__main__":
    run()
