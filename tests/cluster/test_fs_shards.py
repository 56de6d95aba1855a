#!/usr/bin/env python3
"""Directories of several shards: they split while several mounts use them, what is done over their shards is as in any
other directory, and what a death at any point leaves is no damage."""

import ctypes
import errno
import os
import random
import shutil
import struct
import sys
import threading
import time

from lib.cluster import Cluster, case, check, command, fails, folder, run, succeeds, wait_until, write_file
from lib.mount import RENAME_EXCHANGE, RENAME_NOREPLACE, Mounts, missing, rename2

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "big"
SPLIT, PARTS = 100, 16
NAMES = int(os.environ.get("LIMPET_TEST_NAMES", "1200"))
INODE_PARTS = 103  # Offset in the record of an inode.
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
places = []
scratch = folder()

_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = _libc.readdir.restype = ctypes.c_void_p
_libc.opendir.argtypes = [ctypes.c_char_p]
_libc.readdir.argtypes = _libc.telldir.argtypes = _libc.closedir.argtypes = [ctypes.c_void_p]
_libc.telldir.restype = ctypes.c_long
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


class Listing:
    """opendir(3) and its kind."""

    def __init__(self, path):
        self.handle = _libc.opendir(os.fsencode(path))
        check(self.handle, "opendir of %s" % path)

    def next(self):
        entry = _libc.readdir(self.handle)
        if not entry:
            return None
        return ctypes.string_at(entry + 19).decode()

    def tell(self):
        return _libc.telldir(self.handle)

    def seek(self, where):
        _libc.seekdir(self.handle, where)

    def rest(self):
        names = []
        while True:
            name = self.next()
            if name is None:
                return names
            if name not in (".", ".."):
                names.append(name)

    def close(self):
        _libc.closedir(self.handle)


def make(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def space():
    return [line.split()[0] for line in succeeds(cluster.rados("-p", "fs", "ls", "--all")).text.splitlines()
            if line.startswith("fs.")][0]


def objects():
    """Shards of all directories."""
    names = succeeds(cluster.rados("-p", "fs", "-N", space(), "ls")).text.split()
    return {name for name in names if name.startswith("d.")}


def is_split(path):
    """By its record: a directory's home is in its number."""
    return inode_parts(os.stat(path).st_ino >> 24) != 0


def record_of(home, key):
    out = os.path.join(scratch, "record")
    key_file = os.path.join(scratch, "key")
    write_file(key_file, key)
    succeeds(cluster.rados("-p", "fs", "-N", space(), "--omap-key-file", key_file, "getomapval", "d.%010x" % home, out))
    with open(out, "rb") as file:
        return file.read()


def set_record(home, key, value):
    key_file, value_file = os.path.join(scratch, "key"), os.path.join(scratch, "value")
    write_file(key_file, key)
    write_file(value_file, value)
    succeeds(cluster.rados("-p", "fs", "-N", space(), "--omap-key-file", key_file, "--input-file", value_file, "setomapval",
                           "d.%010x" % home))


def inode_parts(home):
    return struct.unpack_from("<Q", record_of(home, b"i\0\0\1"), INODE_PARTS)[0]


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def wait_split(path):
    def split():
        sync(path)
        return is_split(path)
    wait_until("split of %s" % path, split, 30)


def big_folder(name, n=2 * SPLIT):
    """A folder that has been split: its path on each mount."""
    paths = [os.path.join(place, name) for place in places]
    os.mkdir(paths[0])
    for at in range(n):
        make(os.path.join(paths[0], "f%d" % at))
    wait_split(paths[0])
    for at in range(n, n + SPLIT):
        make(os.path.join(paths[0], "f%d" % at))
    return paths


# ---- Splitting ----


@case
def starts():
    cluster.start()
    cluster.pool("fs")
    fails(cluster.limpet("fs", "create", FS, "--split", "2000000"), errno.EINVAL, "split")
    mounts.create(FS, "--object-size", "64K", "--split", str(SPLIT))
    places.extend(mounts.mount(FS) for _ in range(4))


@case
def one_mount_alone():
    path = os.path.join(places[0], "alone")
    os.mkdir(path)
    for at in range(10 * SPLIT):
        make(os.path.join(path, "n%d" % at))
    wait_split(path)  # Perhaps only now: these go to the parts in any case.
    for at in range(10 * SPLIT, 20 * SPLIT):
        make(os.path.join(path, "n%d" % at))
    want = {"n%d" % at for at in range(20 * SPLIT)}
    for place in places[:2]:
        names = os.listdir(os.path.join(place, "alone"))
        check(len(names) == len(want) and set(names) == want, "%d of %d names" % (len(set(names)), len(want)))
    check(os.stat(os.path.join(places[1], "alone", "n7")).st_size == 0, "it is there")
    check(not os.path.exists(os.path.join(places[1], "alone", "n-7")), "that is not")


@case
def four_mounts_at_once():
    os.mkdir(os.path.join(places[0], "many"))
    each, problems = NAMES // 4, []

    def maker(number):
        try:
            for at in range(each):
                make(os.path.join(places[number], "many", "m%d.%d" % (number, at)))
        except OSError as problem:
            problems.append(problem)

    threads = [threading.Thread(target=maker, args=(number,)) for number in range(4)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - begun
    check(not problems, "no error: %s" % problems[:1])
    print("# %d names by four mounts: %.0f/s" % (4 * each, 4 * each / seconds))
    check(is_split(os.path.join(places[0], "many")), "it was split")
    for place in places:
        begun = time.monotonic()
        with os.scandir(os.path.join(place, "many")) as entries:
            found = [(entry.name, entry.stat().st_mode) for entry in entries]
        seconds = time.monotonic() - begun
        print("# list with attributes: %.0f/s" % (len(found) / seconds))
        want = {"m%d.%d" % (number, at) for number in range(4) for at in range(each)}
        check(len(found) == len(want) and {name for name, _ in found} == want,
              "all names are there once: %d of %d" % (len(found), len(want)))


def requests_of(place):
    """What the process of a mount has read so far: requests of the kernel, and a bit more."""
    with open("/proc/%d/io" % mounts.server(place), encoding="utf-8") as file:
        return int(next(line for line in file if line.startswith("syscr:")).split()[1])


def modes_in(path):
    with os.scandir(path) as entries:
        return {entry.name: entry.stat().st_mode & 0o777 for entry in entries}


def lists_with_few_requests(place, path, want):
    """Not at once when another mount has just wanted back what a listing takes."""
    before = requests_of(place)
    check(modes_in(path) == want, "all names, with their attributes")
    return requests_of(place) - before < len(want) / 2


@case
def a_listing_tells_attributes_once_and_for_all():
    """Nobody asks again for what a listing has told, also of a folder that four have just filled; and what others
    change afterwards is seen at once."""
    want = modes_in(os.path.join(places[0], "many"))
    for number, place in enumerate(places):
        path = os.path.join(place, "many")
        other = os.path.join(places[(number + 1) % 4], "many")
        opened = os.open(os.path.join(path, "m%d.0" % number), os.O_RDONLY)
        wait_until("a listing that asks for few", lambda: lists_with_few_requests(place, path, want), 30)
        for at in range(0, NAMES // 4, 3):
            name = "m%d.%d" % (number, at)
            mode = 0o600 + number
            os.chmod(os.path.join(other, name), mode)
            want[name] = mode
            check(os.stat(os.path.join(path, name)).st_mode & 0o777 == mode, "a mode that another mount has set: %s" % name)
        check(os.fstat(opened).st_mode & 0o777 == 0o600 + number, "a mode that another mount has set, of an open file")
        os.close(opened)
        check(modes_in(path) == want, "what was changed since")


def wake_ups_of(place):
    """What the process of a mount has read, and how often its threads have slept, which they do after each request that comes alone."""
    slept, tasks = 0, "/proc/%d/task" % mounts.server(place)
    for task in os.listdir(tasks):
        with open(os.path.join(tasks, task, "status"), encoding="utf-8") as file:
            slept += int(next(line for line in file if line.startswith("voluntary_ctxt_switches:")).split()[1])
    return slept + requests_of(place)


def asks_for_nothing(place, names):
    before = wake_ups_of(place)
    for _ in range(20):
        for name in names:
            os.stat(name)
    woken = wake_ups_of(place) - before
    print("# %d looks at attributes that are kept: %d wake-ups of the mount" % (20 * len(names), woken))
    return woken < len(names)


@case
def attributes_that_are_kept_are_not_asked_for():
    """The kernel answers, without the mount: both the one that has the folder for itself, and those that share it."""
    folder = os.path.join(places[0], "kept")
    os.mkdir(folder)
    names = ["f%d" % at for at in range(500)]
    for name in names:
        make(os.path.join(folder, name))
    for place in places[:3]:
        paths = [os.path.join(place, "kept", name) for name in names]
        wait_until("looks that ask for nothing", lambda: asks_for_nothing(place, paths), 30)
    shutil.rmtree(folder)


@case
def the_same_name_by_four():
    """Of four who make one name, one does, also while the directory splits."""
    os.mkdir(os.path.join(places[0], "race"))
    made = [0] * 4

    def maker(number):
        for at in range(4 * SPLIT):
            try:
                make(os.path.join(places[number], "race", "r%d" % at))
                made[number] += 1
            except FileExistsError:
                pass

    threads = [threading.Thread(target=maker, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(sum(made) == 4 * SPLIT, "each was made once: %s" % made)
    check(len(os.listdir(os.path.join(places[0], "race"))) == 4 * SPLIT, "and is there once")


@case
def places_survive_the_split():
    path = os.path.join(places[0], "tell")
    os.mkdir(path)
    old = {"o%d" % at for at in range(SPLIT - 20)}
    for name in old:
        make(os.path.join(path, name))
    listing = Listing(os.path.join(places[1], "tell"))
    first = []
    while len(first) < 60:
        name = listing.next()
        if name not in (".", ".."):
            first.append(name)
    where = listing.tell()
    new = {"p%d" % at for at in range(8 * SPLIT)}
    for name in new:
        make(os.path.join(path, name))
    wait_split(path)
    rest = listing.rest()
    check(len(first + rest) == len(set(first + rest)), "nothing is told twice")
    check(old <= set(first + rest), "what was there all the time is told: %s" % sorted(old - set(first + rest))[:3])
    listing.seek(where)
    again = listing.rest()
    check(old - set(first) <= set(again), "from the place that was told all old ones come")
    check(set(first) & set(again) == set(), "and none of those before it")
    listing.close()
    # A place among the new ones, seen by a mount that has not used the directory before.
    listing = Listing(path)
    names = []
    while len(names) < 5 * SPLIT:
        name = listing.next()
        check(name is not None, "there are more than %d" % len(names))
        if name not in (".", ".."):
            names.append(name)
    where = listing.tell()
    after = listing.rest()
    listing.close()
    check(sorted(names + after) == sorted(old | new), "all are told once: %d and %d of %d"
          % (len(names), len(after), len(old | new)))
    fresh = mounts.mount(FS)
    listing = Listing(os.path.join(fresh, "tell"))
    listing.seek(where)
    check(listing.rest() == after, "the place is good there, too")
    listing.close()
    mounts.umount(fresh)


# ---- Over shards ----


class Model:
    """What a directory should have: names of files (by number) and of folders."""

    def __init__(self, paths, seed):
        self.paths, self.random, self.names, self.next = paths, random.Random(seed), {}, 0
        for name in os.listdir(paths[0]):
            self.names[name] = os.stat(os.path.join(paths[0], name)).st_ino

    def path(self, name):
        return os.path.join(self.random.choice(self.paths), name)

    def some(self):
        return self.random.choice(list(self.names))

    def is_folder(self, name):
        return name.startswith("d")

    def fresh(self, folder_wanted=False):
        self.next += 1
        return ("d%d" if folder_wanted else "x%d") % self.next

    def create(self):
        name = self.fresh()
        make(self.path(name))
        self.names[name] = os.stat(self.path(name)).st_ino

    def mkdir(self):
        name = self.fresh(True)
        os.mkdir(self.path(name))
        self.names[name] = os.stat(self.path(name)).st_ino

    def remove(self):
        name = self.some()
        (os.rmdir if self.is_folder(name) else os.unlink)(self.path(name))
        del self.names[name]

    def link(self):
        name = self.some()
        if not self.is_folder(name):
            new = self.fresh()
            place = self.random.choice(self.paths)
            os.link(os.path.join(place, name), os.path.join(place, new))
            self.names[new] = self.names[name]

    def rename(self):
        name = self.some()
        new = self.fresh(self.is_folder(name))
        place = self.random.choice(self.paths)
        os.rename(os.path.join(place, name), os.path.join(place, new))
        self.names[new] = self.names.pop(name)

    def replace(self):
        a, b = self.some(), self.some()
        place = self.random.choice(self.paths)
        if self.is_folder(a) == self.is_folder(b):
            os.rename(os.path.join(place, a), os.path.join(place, b))
            if self.names[a] != self.names[b]:
                self.names[b] = self.names.pop(a)

    def exchange(self):
        a, b = self.some(), self.some()
        place = self.random.choice(self.paths)
        if self.is_folder(a) == self.is_folder(b) and a != b:
            rename2(os.path.join(place, a), os.path.join(place, b), RENAME_EXCHANGE)
            self.names[a], self.names[b] = self.names[b], self.names[a]

    def refused(self):
        a, b = self.some(), self.some()
        place = self.random.choice(self.paths)
        try:
            rename2(os.path.join(place, a), os.path.join(place, b), RENAME_NOREPLACE)
        except FileExistsError:
            return
        check(False, "%s over %s should be refused" % (a, b))

    def step(self):
        self.random.choice((self.create, self.create, self.mkdir, self.remove, self.link, self.rename, self.replace,
                            self.exchange, self.refused))()

    def compare(self):
        folders = sum(self.is_folder(name) for name in self.names)
        for path in self.paths:
            with os.scandir(path) as entries:
                found = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
            check(set(found) == set(self.names), "names differ: %s" % sorted(set(found) ^ set(self.names))[:5])
            for name, ino in self.names.items():
                check(found[name].st_ino == ino, "%s is another inode" % name)
            wait_until("number of links", lambda path=path: os.stat(path).st_nlink == 2 + folders, 30)


@case
def operations_over_shards():
    model = Model(big_folder("model")[:2], 7)
    for _ in range(60):
        model.step()
    model.compare()
    # Files that have several names, each in another shard.
    links = {}
    for ino in model.names.values():
        links[ino] = links.get(ino, 0) + 1
    for name, ino in model.names.items():
        if not model.is_folder(name):
            check(os.stat(model.path(name)).st_nlink == links[ino], "links of %s" % name)


@case
def a_renamed_directory_has_a_new_time_at_once():
    """Also when its own shard is not this mount's, which has the names around it, and writes them back later."""
    late = []
    for number in range(20):
        top = os.path.join(places[0], "t%d" % number)
        os.mkdir(top)
        os.mkdir(os.path.join(top, "a"))
        os.listdir(os.path.join(places[1], "t%d" % number, "a"))
        inside = os.open(os.path.join(places[1], "t%d" % number, "a"), os.O_RDONLY)
        for at in range(number):
            make(os.path.join(top, "f%d" % at))
        before = os.lstat(os.path.join(top, "a")).st_ctime_ns
        os.rename(os.path.join(top, "a"), os.path.join(top, "b"))
        if os.lstat(os.path.join(top, "b")).st_ctime_ns <= before:
            late.append(number)
        os.close(inside)
        shutil.rmtree(top)
    check(not late, "not in rounds %s" % late)


@case
def to_another_directory_and_back():
    paths = big_folder("from")
    other = big_folder("to")
    os.rename(os.path.join(paths[0], "f3"), os.path.join(other[0], "moved"))
    check(os.path.exists(os.path.join(other[1], "moved")), "it is there")
    check(not os.path.exists(os.path.join(paths[1], "f3")), "and not here")
    os.mkdir(os.path.join(paths[0], "sub"))
    os.rename(os.path.join(paths[0], "sub"), os.path.join(other[0], "sub"))
    make(os.path.join(other[1], "sub", "file"))
    check(os.path.samefile(os.path.join(other[1], "sub", ".."), other[1]), "its parent is the directory")
    try:
        os.rename(other[0], os.path.join(other[0], "sub", "loop"))
        check(False, "a loop")
    except OSError as problem:
        check(problem.errno == errno.EINVAL, "%s" % problem)


@case
def what_a_directory_says_of_itself():
    paths = big_folder("self")
    before = os.stat(paths[0]).st_nlink
    for at in range(40):
        os.mkdir(os.path.join(paths[0], "s%d" % at))
    check(os.stat(paths[0]).st_nlink == before + 40, "folders count")
    os.utime(paths[0], (1000, 2000))
    check(os.stat(paths[0]).st_mtime == 2000, "a time that was set is told")
    make(os.path.join(paths[0], "later"))
    check(os.stat(paths[0]).st_mtime > 1e9, "and a later change")
    os.chown(paths[0], 12, 34)
    os.chmod(paths[0], 0o2775)
    for at in range(40):
        make(os.path.join(paths[1], "g%d" % at))
        os.mkdir(os.path.join(paths[1], "h%d" % at))
        check(os.stat(os.path.join(paths[0], "g%d" % at)).st_gid == 34, "the group is inherited")
        check(os.stat(os.path.join(paths[0], "h%d" % at)).st_mode & 0o2000, "and the bit by folders")
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, perm, ident) for tag, perm, ident in (
        (1, 7, 0xffffffff), (2, 6, 77), (4, 5, 0xffffffff), (16, 7, 0xffffffff), (32, 0, 0xffffffff)))
    os.setxattr(paths[0], "system.posix_acl_default", acl)
    for at in range(40):
        make(os.path.join(paths[1], "a%d" % at))
        check("system.posix_acl_access" in os.listxattr(os.path.join(paths[0], "a%d" % at)), "so is the default list")


@case
def one_that_has_been_emptied_goes():
    before = objects()
    paths = big_folder("gone")
    names = os.listdir(paths[0])
    for name in names[1:]:
        os.unlink(os.path.join(paths[0], name))
    for path in paths[:2]:
        try:
            os.rmdir(path)
            check(False, "it is not empty")
        except OSError as problem:
            check(problem.errno == errno.ENOTEMPTY, "%s" % problem)
    make(os.path.join(paths[1], "again"))
    for name in ("again", names[0]):
        os.unlink(os.path.join(paths[1], name))
    os.rmdir(paths[1])
    check(not os.path.exists(paths[0]), "it is gone")
    sync(places[0])
    sync(places[1])
    wait_until("end of its shards", lambda: objects() <= before, 30)
    # And one that another folder replaces.
    paths = big_folder("over")
    for name in os.listdir(paths[0]):
        os.unlink(os.path.join(paths[0], name))
    os.mkdir(os.path.join(places[0], "instead"))
    os.rename(os.path.join(places[0], "instead"), paths[0])
    check(os.listdir(paths[1]) == [], "it is the other one")


@case
def check_finds_nothing():
    for place in list(places):
        mounts.umount(place)
    mounts.check_clean(FS)


# ---- What is wrong ----


def repaired(word):
    result = mounts.fsck(FS, "--repair", "-f", "json")
    check(word in result.text, "%s is found: %s" % (word, result.text[:500]))
    mounts.check_clean(FS)


@case
def damage_is_found_and_repaired():
    places[0] = mounts.mount(FS)
    path = os.path.join(places[0], "alone")
    home, names = os.stat(path).st_ino >> 24, set(os.listdir(path))
    mounts.umount(places[0])
    parts = inode_parts(home)
    record = record_of(home, b"i\0\0\1")
    set_record(home, b"i\0\0\1", record[:INODE_PARTS] + struct.pack("<Q", 0) + record[INODE_PARTS + 8:])
    repaired("part-unknown")
    check(inode_parts(home) == parts, "it has them again")
    # An entry in the wrong part.
    listed = succeeds(cluster.rados("-p", "fs", "-N", space(), "listomapkeys", "d.%010x" % parts)).out
    check(b"n" in listed, "the first part has names")
    places[0] = mounts.mount(FS)
    check(set(os.listdir(os.path.join(places[0], "alone"))) == names, "all names are there")
    mounts.umount(places[0])
    # A part that is lost takes its names with it, and nothing else.
    succeeds(cluster.rados("-p", "fs", "-N", space(), "rm", "d.%010x" % (parts + 3)))
    repaired("no-part")
    places[0] = mounts.mount(FS)
    left = set(os.listdir(os.path.join(places[0], "alone")))
    check(left < names and len(left) > len(names) // 2, "%d of %d are left" % (len(left), len(names)))
    for at in range(3 * PARTS):
        make(os.path.join(places[0], "alone", "z%d" % at))
    mounts.umount(places[0])
    mounts.check_clean(FS)


# ---- Deaths ----


@case
def deaths_while_it_splits():
    places[:] = [mounts.mount(FS), mounts.mount(FS)]
    for round_number in range(5):
        name = "death%d" % round_number
        path, seen_by = os.path.join(places[0], name), os.path.join(places[1], name)
        os.mkdir(path)
        sync(places[0])
        safe, stop = [], threading.Event()

        def maker():
            try:
                for at in range(40 * SPLIT):
                    make(os.path.join(path, "k%d" % at))
                    if at % 20 == 0:
                        sync(path)
                        safe.append(at)
            except OSError:
                pass
            stop.set()

        thread = threading.Thread(target=maker)
        thread.start()
        # The split comes after some 200 names: the death before, at, and after it.
        wait_until("names", lambda: len(safe) * 20 >= SPLIT - 40 + 20 * round_number or stop.is_set(), 60)
        mounts.kill(places[0])
        command(["umount", "-l", places[0]])
        mounts.paths.remove(places[0])
        thread.join()
        make(os.path.join(seen_by, "after"))
        names = set(os.listdir(seen_by))
        for at in range(safe[-1] + 1 if safe else 0):
            check("k%d" % at in names, "k%d was safe, and is lost" % at)
        for at in range(2 * SPLIT):
            make(os.path.join(seen_by, "l%d" % at))
        check(len(os.listdir(seen_by)) == len(names) + 2 * SPLIT, "the other one goes on")
        places[0] = mounts.mount(FS)
    for place in places:
        mounts.umount(place)
    # The dead are known to be dead after a while; what they have left is no damage.
    wait_until("end of the dead", lambda: mounts.fsck(FS, "--repair").code in (0, 1), 30)
    mounts.check_clean(FS)


run()
