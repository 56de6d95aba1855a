#!/usr/bin/env python3
"""limpet fs check: every inconsistency is planted through the object interface, found, repaired and gone; and what a
client leaves that dies at any point is no damage."""

import errno
import json
import os
import random
import stat
import struct
import sys
import threading

from lib.cluster import Cluster, case, check, fails, folder, read_file, run, succeeds, wait_until, write_file
from lib.mount import Mounts, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "fs"
LINKS, GENERATION, SIZE, DYING, ATTRIBUTES, PARENT, BUSY = 18, 26, 30, 92, 93, 94, 119  # Offsets in the record of an inode.
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
scratch = folder()
space = ""


# ---- Records of shards ----


def cookie(name):
    value = 0xcbf29ce484222325
    mask = (1 << 64) - 1
    for byte in name:
        value = (value ^ byte) * 0x100000001b3 & mask
    value = (value ^ value >> 33) * 0xff51afd7ed558ccd & mask
    value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53 & mask
    value = (value ^ value >> 33) >> 4
    return value + 3 if value < 3 else value


def entry_key(name):
    return b"e" + struct.pack(">Q", cookie(name)) + name


def index_key(kind, ino):
    return kind + struct.pack(">I", ino & 0xffffff)[1:]


def tx_key(kind, instance, sequence):
    return kind + struct.pack(">QQ", instance, sequence)


def record(fields):
    return struct.pack("<BBI", 1, 1, len(fields)) + fields


def entry_record(ino, mode, moving=(0, 0)):
    return record(struct.pack("<QBQQ", ino, stat.S_IFMT(mode) >> 12, *moving))


def shard_of(ino):
    return "d.%010x" % (ino >> 24)


def data_of(ino, number, generation=0):
    return "f.%016x.%08x.%016x" % (ino, generation, number)


def rados(*arguments, **options):
    return cluster.rados("-p", "fs", "-N", space, *arguments, **options)


def key_file(key):
    return write_file(os.path.join(scratch, "key"), key)


def get(ino, key):
    out = os.path.join(scratch, "value")
    succeeds(rados("getomapval", shard_of(ino), "--omap-key-file", key_file(key), out))
    return read_file(out)


def put(ino, key, value):
    succeeds(rados("setomapval", shard_of(ino), "--omap-key-file", key_file(key),
                   "--input-file", write_file(os.path.join(scratch, "value"), value)))


def remove(ino, key):
    succeeds(rados("rmomapkey", shard_of(ino), "--omap-key-file", key_file(key)))


def patch_inode(ino, offset, form, *values):
    value = bytearray(get(ino, index_key(b"i", ino)))
    struct.pack_into(form, value, offset, *values)
    put(ino, index_key(b"i", ino), bytes(value))


# ---- Checking ----


def look(*options):
    result = mounts.fsck(FS, "-f", "json", *options)
    return result.code, json.loads(result.text)


def found(report):
    return {finding["damage"] for finding in report["findings"]}


def is_repaired(*damages, unfinished=False):
    """Found without --repair, repaired with it, and gone then."""
    code, report = look()
    check(code == (0 if unfinished else 4), "exit status %d: %r" % (code, report))
    check(set(damages) <= found(report), "%r should be found: %r" % (damages, report))
    check((report["damaged"] > 0) != unfinished, "%r" % report)
    code, report = look("--repair")
    check(code == 1 and report["left"] == 0, "not repaired: %d %r" % (code, report))
    check(set(damages) <= found(report), "%r should be repaired: %r" % (damages, report))
    code, report = look()
    check(code == 0 and report["findings"] == [], "not clean afterwards: %d %r" % (code, report))


class Tree:
    """The file system, mounted to be looked at: top/dir/file, top/dir/linked, top/other."""

    def __enter__(self):
        self.path = mounts.mount(FS)
        return self.path

    def __exit__(self, *_):
        mounts.umount(self.path)


def fresh(name):
    """A new small tree; the numbers of its inodes."""
    with Tree() as path:
        top = os.path.join(path, name)
        os.makedirs(os.path.join(top, "dir", "below"))
        os.mkdir(os.path.join(top, "other"))
        write_file(os.path.join(top, "dir", "file"), b"x" * 100000)
        os.link(os.path.join(top, "dir", "file"), os.path.join(top, "other", "linked"))
        os.setxattr(os.path.join(top, "dir", "file"), "user.a", b"value")
        names = ["", "dir", "dir/below", "other", "dir/file"]
        return [os.lstat(os.path.join(top, each)).st_ino for each in names]


def lost():
    with Tree() as path:
        place = os.path.join(path, "lost+found")
        names = os.listdir(place) if os.path.exists(place) else []
        return {int(each[1:], 16): os.lstat(os.path.join(place, each)) for each in names}


def text_of(path):
    with Tree() as top:
        return read_file(os.path.join(top, path))


# ---- Cases ----


@case
def starts():
    global space  # pylint: disable=global-statement
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS, "--object-size", "64K")
    names = succeeds(cluster.rados("-p", "fs", "--all", "ls")).text
    space = [line.split("\t")[0] for line in names.splitlines() if line.endswith("\tsuper")][0]
    code, report = look()
    check(code == 0 and report["directories"] == 1 and report["findings"] == [], "%r" % report)


@case
def wrong_numbers_of_links_are_corrected():
    _top, dirs, _below, _other, file = fresh("links")
    patch_inode(file, LINKS, "<I", 7)
    patch_inode(dirs, LINKS, "<I", 2)
    is_repaired("links")
    with Tree() as path:
        check(os.lstat(os.path.join(path, "links/dir/file")).st_nlink == 2, "links of the file")
        check(os.lstat(os.path.join(path, "links/dir")).st_nlink == 3, "links of the directory")


@case
def entries_without_an_inode_go():
    top, _dir, below, *_rest = fresh("dangling")
    put(top, entry_key(b"ghost"), entry_record(top + 5000, stat.S_IFREG))
    succeeds(rados("rm", shard_of(below)))
    is_repaired("entry-dangling")
    with Tree() as path:
        check(sorted(os.listdir(os.path.join(path, "dangling"))) == ["dir", "other"], "the ghost")
        check(os.listdir(os.path.join(path, "dangling/dir")) == ["file"], "the directory without a shard")


@case
def inodes_without_an_entry_come_to_lost_and_found():
    _top, dirs, below, other, file = fresh("nameless")
    remove(dirs, entry_key(b"file"))
    remove(other, entry_key(b"linked"))
    remove(dirs, entry_key(b"below"))
    put(below, entry_key(b"inside"), entry_record(file, stat.S_IFREG))
    remove(below, entry_key(b"inside"))
    write_in = os.path.join
    with Tree() as path:
        check(os.listdir(write_in(path, "nameless/dir")) == [], "both are gone")
    is_repaired("unreachable", "unnamed")
    there = lost()
    check(there[file].st_nlink == 1 and there[file].st_size == 100000, "the file")
    check(text_of("lost+found/#%016x" % file) == b"x" * 100000, "its contents")
    check(below not in there, "an empty directory is not worth keeping")


@case
def directories_without_an_entry_keep_what_is_in_them():
    top, dirs, _below, _other, _file = fresh("adrift")
    remove(top, entry_key(b"dir"))
    is_repaired("unreachable")
    check(stat.S_ISDIR(lost()[dirs].st_mode) and lost()[dirs].st_nlink == 3, "the directory")
    check(text_of("lost+found/#%016x/file" % dirs) == b"x" * 100000, "the file in it")


@case
def wrong_types_places_and_parents_are_corrected():
    top, dirs, below, _other, file = fresh("wrong")
    put(dirs, entry_key(b"file"), entry_record(file, stat.S_IFIFO))
    put(top, b"e" + struct.pack(">Q", 99) + b"stray", entry_record(file, stat.S_IFREG))
    patch_inode(file, LINKS, "<I", 3)
    patch_inode(below, PARENT, "<Q", 1)
    is_repaired("entry-type", "entry-misplaced", "parent")
    with Tree() as path:
        check(os.lstat(os.path.join(path, "wrong/stray")).st_nlink == 3, "the stray entry is found by its name")
        check(os.path.samefile(os.path.join(path, "wrong/dir/below/.."), os.path.join(path, "wrong/dir")), "the parent")


@case
def second_entries_of_directories_go():
    top, _dirs, below, other, _file = fresh("second")
    put(other, entry_key(b"again"), entry_record(below, stat.S_IFDIR))
    put(top, entry_key(b"early"), entry_record(below, stat.S_IFDIR))
    is_repaired("entry-second")
    with Tree() as path:
        check(os.path.isdir(os.path.join(path, "second/dir/below")), "the one that the directory knows stays")
        check(sorted(os.listdir(os.path.join(path, "second"))) == ["dir", "other"], "the others go")


@case
def loops_are_cut():
    top, dirs, below, _other, _file = fresh("loop")
    remove(top, entry_key(b"dir"))
    put(below, entry_key(b"up"), entry_record(dirs, stat.S_IFDIR))
    patch_inode(dirs, PARENT, "<Q", below)
    patch_inode(below, LINKS, "<I", 3)
    is_repaired("loop")
    there = lost()
    check(dirs in there or below in there, "%r" % there)


@case
def attributes_that_an_inode_does_not_know_of_are_told_to_it():
    *_rest, file = fresh("flag")
    patch_inode(file, ATTRIBUTES, "<B", 0)
    is_repaired("attributes")
    with Tree() as path:
        check(os.getxattr(os.path.join(path, "flag/dir/file"), "user.a") == b"value", "the attribute")


@case
def records_that_cannot_be_read_go():
    _top, dirs, _below, _other, file = fresh("torn")
    put(dirs, entry_key(b"torn"), b"nonsense")
    put(dirs, index_key(b"i", file), b"\1\1\5\0\0\0short")
    put(dirs, b"s", b"")
    is_repaired("bad-record")
    # The file's inode is made again of its data: it has lost all but those.
    with Tree() as path:
        data = read_file(os.path.join(path, "torn/dir/file"))
        check(data == b"x" * 100000, "contents: %d bytes" % len(data))
        check(os.lstat(os.path.join(path, "torn/dir/file")).st_nlink == 2, "its links")


@case
def numbers_are_not_given_twice():
    _top, dirs, _below, _other, file = fresh("numbers")
    put(dirs, b"s", record(struct.pack("<Q", 2)))
    is_repaired("number-reused")
    with Tree() as path:
        write_file(os.path.join(path, "numbers/dir/new"), b"new")
        check(os.lstat(os.path.join(path, "numbers/dir/new")).st_ino != file, "a number was given twice")
        check(read_file(os.path.join(path, "numbers/dir/file")) == b"x" * 100000, "the old one")
    succeeds(rados("setomapval", "super", "next", "--input-file", write_file(os.path.join(scratch, "v"), struct.pack("<Q", 2))))
    is_repaired("no-super")
    with Tree() as path:
        os.mkdir(os.path.join(path, "numbers/another"))


@case
def lists_of_the_nameless_and_attributes_are_corrected():
    _top, dirs, _below, _other, file = fresh("lists")
    put(dirs, index_key(b"o", file), struct.pack("<Q", 0))
    put(dirs, index_key(b"o", dirs + 999), struct.pack("<Q", 0))
    put(dirs, index_key(b"x", dirs + 998) + b"user.b", b"value")
    is_repaired("orphan-wrong", "attribute")
    with Tree() as path:
        check(os.getxattr(os.path.join(path, "lists/dir/file"), "user.a") == b"value", "an attribute that has its inode")


@case
def directories_that_live_can_be_used():
    top, dirs, _below, other, _file = fresh("dying")
    patch_inode(other, DYING, "<B", 1)
    put(top, entry_key(b"dir"), entry_record(dirs, stat.S_IFDIR, (77, 1)))
    is_repaired("dying", "entry-moving")
    with Tree() as path:
        write_file(os.path.join(path, "dying/other/new"), b"new")
        os.rename(os.path.join(path, "dying/dir"), os.path.join(path, "dying/moved"))


@case
def data_of_nobody_are_found():
    _top, dirs, _below, _other, file = fresh("data")
    body = write_file(os.path.join(scratch, "body"), b"lost" * 1000)
    succeeds(rados("put", data_of(file, 9), body))  # Beyond the end.
    succeeds(rados("put", data_of(file, 0, 5), body))  # Of another generation.
    gone = (dirs & ~0xffffff) + 12345
    succeeds(rados("put", data_of(gone, 0), body))
    succeeds(rados("put", data_of(gone, 2), body))
    is_repaired("data-beyond", "data-old", "data-lost")
    check(text_of("lost+found/#%016x" % gone) == b"lost" * 1000 + bytes(2 * 65536 - 4000) + b"lost" * 1000, "the lost file")
    check(text_of("data/dir/file") == b"x" * 100000, "the other file")
    patch_inode(file, SIZE, "<Q", 10 << 16)
    succeeds(rados("put", data_of(file, 9), body))
    is_repaired("data-hidden")
    check(text_of("data/dir/file")[9 << 16:(9 << 16) + 4000] == b"lost" * 1000, "hidden data")


@case
def directories_without_their_own_records_are_made_again():
    _top, dirs, _below, _other, file = fresh("headless")
    remove(dirs, b"s")
    remove(dirs, index_key(b"i", dirs))
    is_repaired("no-shard", "no-directory")
    with Tree() as path:
        check(sorted(os.listdir(os.path.join(path, "headless/dir"))) == ["below", "file"], "its entries")
        write_file(os.path.join(path, "headless/dir/new"), b"new")
        check(os.lstat(os.path.join(path, "headless/dir/new")).st_ino != file, "its numbers")


@case
def what_the_dead_have_left_is_no_damage():
    """Intents, marks, files without names, directories that are not yet or no longer in use."""
    _top, dirs, below, other, file = fresh("dead")
    dead = (0xdead, 1)
    # An unlink of other/linked, whose inode is elsewhere: the entry is gone, the link is still counted.
    remove(other, entry_key(b"linked"))
    put(other, tx_key(b"t", *dead), record(struct.pack("<BBQQQBHH", 1, 8, file, 0, 0, 0, 0, 0)))
    put(dirs, tx_key(b"m", 0xdead, 9), struct.pack("<Q", 0))
    patch_inode(below, DYING, "<B", 1)
    patch_inode(below, BUSY, "<QQ", 0xdead, 3)
    is_repaired("intent", "mark", "busy", unfinished=True)
    with Tree() as path:
        check(os.lstat(os.path.join(path, "dead/dir/file")).st_nlink == 1, "the unlink was completed")
        write_file(os.path.join(path, "dead/dir/below/new"), b"new")


@case
def a_mounted_file_system_is_only_looked_at():
    with Tree() as path:
        code, report = look()
        check(code == 0 and report["clients"] == 1, "%r" % report)
        with open(os.path.join(path, "unlinked"), "wb") as file:
            os.unlink(file.name)
            code, report = look()
            check(code == 0 and report["findings"] == [], "a file that is open: %r" % report)
        fails(mounts.fsck(FS, "--repair"), 8, "mounted", "limpet fs status fs")
    fails(mounts.fsck("nothing"), errno.ENOENT, "no file system")


def churn(path, seed, stop):
    """Operations over one and two directories, until the mount dies."""
    rng = random.Random(seed)
    dirs = [os.path.join(path, "churn%d" % at) for at in range(4)]
    try:
        for each in dirs:
            os.makedirs(each, exist_ok=True)
        while not stop.is_set():
            here, there = rng.choice(dirs), rng.choice(dirs)
            a, b = os.path.join(here, "f%d" % rng.randrange(6)), os.path.join(there, "f%d" % rng.randrange(6))
            try:
                kind = rng.randrange(7)
                if kind == 0:
                    write_file(a, b"y" * rng.randrange(200000))
                elif kind == 1:
                    os.link(a, b)
                elif kind == 2:
                    os.unlink(a)
                elif kind == 3:
                    os.mkdir(a)
                elif kind == 4:
                    os.rmdir(a)
                elif kind == 5:
                    os.truncate(a, rng.randrange(100000))
                else:
                    os.rename(a, b)
            except OSError as error:
                if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                    return
    except OSError:
        return


@case
def a_client_may_die_at_any_point():
    for seed in range(4):
        path = mounts.mount(FS)
        stop = threading.Event()
        threads = [threading.Thread(target=churn, args=(path, seed * 10 + at, stop)) for at in range(3)]
        for thread in threads:
            thread.start()
        stop.wait(0.3 + random.random())
        mounts.kill(path)
        stop.set()
        for thread in threads:
            thread.join()
        mounts.umount(path, "--lazy")
        code, report = look()
        check(code == 0 and report["damaged"] == 0, "damage after a death: %r" % report)
    # Until its watch has timed out, a dead client counts as one that lives.
    wait_until("the end of dead clients", lambda: look()[1]["clients"] == 0, 40)
    code, report = look()
    check(code == 0 and report["damaged"] == 0, "damage after deaths: %r" % report)
    code, report = look("--repair")
    check(report["left"] == 0, "not repaired: %r" % report)
    code, report = look()
    check(code == 0 and report["findings"] == [], "%r" % report)


SYNC_DEATHS = 8


def names_only(top, seed, steps):
    """Operations over one and two directories that leave everything to be written back."""
    rng = random.Random(seed)
    dirs = [os.path.join(top, "d%d" % at) for at in range(4)]
    for each in dirs:
        os.makedirs(each, exist_ok=True)
    for at in range(steps):
        a, b = (os.path.join(rng.choice(dirs), "f%d" % rng.randrange(12)) for _ in range(2))
        try:
            kind = rng.randrange(6)
            if kind == 0:
                os.mknod(a)
            elif kind == 1:
                os.mkdir(a)
            elif kind == 2:
                os.link(a, b)
            elif kind == 3:
                os.rename(a, b)
            elif kind == 4:
                os.unlink(a)
            else:
                os.rmdir(a)
        except OSError as error:
            check(error.errno not in (errno.EIO, errno.ESTALE), "step %d: %s" % (at, error))


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@case
def what_was_synced_outlives_who_dies_while_writing_back():
    with Tree() as path:
        for seed in range(SYNC_DEATHS):
            os.mkdir(os.path.join(path, "top%d" % seed))
    for seed in range(SYNC_DEATHS):
        path = mounts.mount(FS)
        top = os.path.join(path, "top%d" % seed)
        names_only(top, seed, 60)
        for name in ("kept", "d0/kept", "d1/kept"):
            write_file(os.path.join(top, name), b"kept")
            os.link(os.path.join(top, name), os.path.join(top, "d2", name.replace("/", "-")))
        os.rename(os.path.join(top, "d0/kept"), os.path.join(top, "d3/moved"))
        # Of a file that is synced all names are durable, and those of others; contents are its own alone.
        for name in ("kept", "d1/kept", "d3/moved"):
            sync(os.path.join(top, name))
        names_only(top, seed + 100, 150)
        thread = threading.Thread(target=lambda: refused_or_done(sync, top))  # pylint: disable=cell-var-from-loop
        thread.start()
        threading.Event().wait(seed * 0.003)
        mounts.kill(path)
        thread.join()
        mounts.umount(path, "--lazy")
        code, report = look()
        check(code == 0 and report["damaged"] == 0, "damage after death %d: %r" % (seed, report))
    path = mounts.mount(FS)
    for seed in range(SYNC_DEATHS):
        for name in ("kept", "d1/kept", "d3/moved", "d2/kept", "d2/d0-kept", "d2/d1-kept"):
            there = os.path.join(path, "top%d" % seed, name)
            check(os.path.exists(there) and read_file(there) == b"kept", "%s is lost" % there)
        names_only(os.path.join(path, "top%d" % seed), seed + 200, 60)
    mounts.umount(path)
    wait_until("the end of dead clients", lambda: look()[1]["clients"] == 0, 40)
    report = look("--repair")[1]
    check(report["damaged"] == 0 and report["left"] == 0, "%r" % report)


def refused_or_done(function, *arguments):
    try:
        function(*arguments)
    except OSError:
        pass  # Whose mount has died.


if __name__ == "__main__":
    run()
