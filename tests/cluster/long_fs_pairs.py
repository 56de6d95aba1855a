#!/usr/bin/env python3
"""Every pair of operations, the first one by one mount and the second one by another: the same answers as on ext4, and the same tree, which
both mounts see alike. What leases they have before that is drawn, one of STATES for each pair (LIMPET_SEED=N repeats it). FIRST/SECOND
among the arguments is one pair, FIRST/ and /SECOND all of one operation, in all states."""

import errno
import fcntl
import mmap
import multiprocessing
import os
import random
import shutil
import stat
import struct
import sys
import time

from lib.cluster import CaseFailed, Cluster, case, check, run
from lib.mount import (FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, RENAME_EXCHANGE, RENAME_NOREPLACE, Ext4, Mounts, fallocate,
                       missing, rename2)

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "pairs"
WORKERS = 6
ATTEMPTS = 20
SIZE = 10000
FAR = 1 << 33
ACL = struct.pack("<I" + 5 * "HHI", 2, 1, 7, 0xffffffff, 2, 6, 5, 4, 5, 0xffffffff, 16, 7, 0xffffffff, 32, 0, 0xffffffff)
# Who made the folder, and thus may have it for itself; whether both have looked at all of it, and may keep that.
STATES = {"made by the first one": (0, False), "made by the second one": (1, False), "seen by both": (0, True)}
SEED = int(os.environ.get("LIMPET_SEED") or time.time_ns() % 1000000)
WANTED = [word.split("/") for word in sys.argv[1:] if "/" in word]
sys.argv[1:] = [word for word in sys.argv[1:] if "/" not in word]
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
both, ext4 = [], None


class View:
    """A folder by one mount, with files of it that were opened before."""

    def __init__(self, top):
        self.top = top
        self.file = os.open(self("a"), os.O_RDWR)
        self.log = os.open(self("a"), os.O_WRONLY | os.O_APPEND)
        self.folder = os.open(self("d"), os.O_DIRECTORY)
        self.empty = os.open(self("e"), os.O_DIRECTORY)

    def __call__(self, name):
        return os.path.join(self.top, name)

    def close(self):
        for fd in (self.file, self.log, self.folder, self.empty):
            os.close(fd)


def make(top):
    os.mkdir(top)
    for name, data in (("a", b"0123456789" * (SIZE // 10)), ("b", b"bb")):
        write(os.path.join(top, name), data)
    os.setxattr(os.path.join(top, "a"), "user.x", b"old")
    os.link(os.path.join(top, "a"), os.path.join(top, "al"))
    os.mkdir(os.path.join(top, "d"))
    os.mkdir(os.path.join(top, "e"))
    write(os.path.join(top, "d", "in"), b"in")
    os.symlink("a", os.path.join(top, "s"))


def write(path, data, flags=os.O_CREAT | os.O_TRUNC):
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    os.write(fd, data)
    os.close(fd)


def facts(st):
    size = None if stat.S_ISDIR(st.st_mode) else st.st_size
    return oct(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, size


def read(path):
    with open(path, "rb") as file:
        return file.read(2 * SIZE)


def unnamed(v):
    fd = os.open(v.top, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"unnamed")
    os.link("/proc/self/fd/%d" % fd, v("new"), follow_symlinks=True)
    os.close(fd)


def map_and_write(v):
    with mmap.mmap(v.file, 0) as memory:
        memory[5:10] = b"MMMMM"
        memory.flush()


def map_and_read(v):
    with mmap.mmap(v.file, 0, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        return memory[:2 * SIZE]


def lock_by_fd(v, how):
    fcntl.fcntl(v.file, 37, struct.pack("hhqqi4x", how, os.SEEK_SET, 10, 20, 0))  # F_OFD_SETLK


def who_locks(v):
    answer = fcntl.fcntl(v.file, 36, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))  # F_OFD_GETLK
    kind, _whence, start, length, _pid = struct.unpack("hhqqi4x", answer)
    return kind if kind == fcntl.F_UNLCK else (kind, start, length)


def seek(v):
    """Where data are is the file system's choice, but what it says must be true."""
    size = os.fstat(v.file).st_size
    try:
        found = os.lseek(v.file, 0, os.SEEK_DATA)
    except OSError as problem:
        if problem.errno != errno.ENXIO:
            raise
        found = size
    os.lseek(v.file, 0, os.SEEK_SET)
    return size, found <= size and not any(os.pread(v.file, min(found, 2 * SIZE), 0))


def listed(where):
    with os.scandir(where) as entries:
        return sorted((entry.name, entry.is_dir(follow_symlinks=False), facts(entry.stat(follow_symlinks=False))) for entry in entries)


def times(v, name, at):
    os.utime(v(name), ns=(at, at + 1), follow_symlinks=False)


def cut(v, size):
    os.ftruncate(v.file, size)
    return os.fstat(v.file).st_size


CHANGES = {
    "create": lambda v: os.close(os.open(v("new"), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)),
    "create-in": lambda v: write(v("d/new"), b"new"),
    "create-in-empty": lambda v: write(v("e/new"), b"new"),
    "create-open": lambda v: os.close(os.open(v("a"), os.O_CREAT | os.O_RDWR)),
    "open-truncate": lambda v: os.close(os.open(v("a"), os.O_WRONLY | os.O_TRUNC)),
    "rewrite": lambda v: write(v("a"), b"rewritten"),
    "unnamed": unnamed,
    "mkfifo": lambda v: os.mkfifo(v("new")),
    "mknod": lambda v: os.mknod(v("new"), stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    "mkdir": lambda v: os.mkdir(v("new")),
    "mkdir-in": lambda v: os.mkdir(v("d/new")),
    "symlink": lambda v: os.symlink("b", v("new")),
    "link": lambda v: os.link(v("a"), v("new")),
    "link-in": lambda v: os.link(v("a"), v("d/new")),
    "unlink": lambda v: os.unlink(v("a")),
    "unlink-link": lambda v: os.unlink(v("al")),
    "unlink-in": lambda v: os.unlink(v("d/in")),
    "unlink-symlink": lambda v: os.unlink(v("s")),
    "rmdir": lambda v: os.rmdir(v("e")),
    "rmdir-full": lambda v: os.rmdir(v("d")),
    "rmtree": lambda v: shutil.rmtree(v("d")),
    "rename": lambda v: os.rename(v("a"), v("new")),
    "rename-over": lambda v: os.rename(v("a"), v("b")),
    "rename-back": lambda v: os.rename(v("b"), v("a")),
    "rename-in": lambda v: os.rename(v("a"), v("d/new")),
    "rename-in-over": lambda v: os.rename(v("a"), v("d/in")),
    "rename-out": lambda v: os.rename(v("d/in"), v("new")),
    "rename-out-over": lambda v: os.rename(v("d/in"), v("a")),
    "rename-noreplace": lambda v: rename2(v("b"), v("new"), RENAME_NOREPLACE),
    "rename-exchange": lambda v: rename2(v("a"), v("b"), RENAME_EXCHANGE),
    "rename-exchange-in": lambda v: rename2(v("a"), v("d/in"), RENAME_EXCHANGE),
    "rename-exchange-dir": lambda v: rename2(v("a"), v("d"), RENAME_EXCHANGE),
    "move-dir": lambda v: os.rename(v("d"), v("e/d")),
    "move-dir-over": lambda v: os.rename(v("d"), v("e")),
    "move-dir-into": lambda v: os.rename(v("e"), v("d/e")),
    "rename-dir": lambda v: os.rename(v("d"), v("new")),
    "chmod": lambda v: os.chmod(v("a"), 0o4711),
    "chmod-fd": lambda v: os.fchmod(v.file, 0o600),
    "chmod-dir": lambda v: os.chmod(v("d"), 0o1777),
    "chown": lambda v: os.chown(v("a"), 5, 6),
    "chown-symlink": lambda v: os.lchown(v("s"), 5, 6),
    "utime": lambda v: times(v, "a", 10 ** 18),
    "utime-dir": lambda v: times(v, "d", 10 ** 18),
    "utime-symlink": lambda v: times(v, "s", 10 ** 18),
    "truncate": lambda v: os.truncate(v("a"), 100),
    "truncate-more": lambda v: cut(v, SIZE * 2),
    "write": lambda v: os.pwrite(v.file, b"WWWWW", 3),
    "write-more": lambda v: os.pwrite(v.file, b"WWWWW", SIZE + 5000),
    "write-far": lambda v: os.pwrite(v.file, b"WWWWW", FAR),
    "append": lambda v: os.write(v.log, b"AAAAA"),
    "map-write": map_and_write,
    "allocate": lambda v: fallocate(v.file, 0, 0, SIZE + 3000),
    "allocate-keep": lambda v: fallocate(v.file, FALLOC_KEEP_SIZE, 0, SIZE + 3000),
    "punch": lambda v: fallocate(v.file, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 100, 5000),
    "punch-all": lambda v: fallocate(v.file, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 0, SIZE),
    "zero": lambda v: fallocate(v.file, FALLOC_ZERO_RANGE, SIZE - 100, 5000),
    "copy": lambda v: os.copy_file_range(v.file, v.file, 50, 10, 5000),
    "setxattr": lambda v: os.setxattr(v("a"), "user.y", b"new"),
    "setxattr-dir": lambda v: os.setxattr(v("d"), "user.y", b"new"),
    "replace-xattr": lambda v: os.setxattr(v("a"), "user.x", b"another", os.XATTR_REPLACE),
    "create-xattr": lambda v: os.setxattr(v("a"), "user.x", b"another", os.XATTR_CREATE),
    "removexattr": lambda v: os.removexattr(v("a"), "user.x"),
    "acl": lambda v: os.setxattr(v("a"), "system.posix_acl_access", ACL),
    "default-acl": lambda v: os.setxattr(v("d"), "system.posix_acl_default", ACL),
    "sync": lambda v: os.fsync(v.file),
    "flock": lambda v: fcntl.flock(v.file, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "flock-shared": lambda v: fcntl.flock(v.file, fcntl.LOCK_SH | fcntl.LOCK_NB),
    "flock-end": lambda v: fcntl.flock(v.file, fcntl.LOCK_UN),
    "lock": lambda v: lock_by_fd(v, fcntl.F_WRLCK),
    "lock-shared": lambda v: lock_by_fd(v, fcntl.F_RDLCK),
    "unlock": lambda v: lock_by_fd(v, fcntl.F_UNLCK),
}
LOOKS = {
    "stat": lambda v: facts(os.stat(v("a"))),
    "stat-new": lambda v: facts(os.lstat(v("new"))),
    "stat-link": lambda v: facts(os.stat(v("al"))),
    "stat-in": lambda v: facts(os.lstat(v("d/in"))),
    "stat-dir": lambda v: facts(os.lstat(v("d"))),
    "stat-empty": lambda v: facts(os.lstat(v("e"))),
    "stat-top": lambda v: facts(os.stat(v.top)),
    "stat-by-symlink": lambda v: facts(os.stat(v("s"))),
    "stat-fd": lambda v: facts(os.fstat(v.file)),
    "stat-by-dir-fd": lambda v: facts(os.stat("in", dir_fd=v.folder)),
    "seek-end": lambda v: os.lseek(v.log, 0, os.SEEK_END),
    "read": lambda v: read(v("a")),
    "read-link": lambda v: read(v("al")),
    "read-in": lambda v: read(v("d/in")),
    "read-new": lambda v: read(v("new")),
    "read-fd": lambda v: os.pread(v.file, 2 * SIZE, 0),
    "read-end": lambda v: os.pread(v.file, 100, SIZE - 50),
    "map-read": map_and_read,
    "seek-data": seek,
    "list": lambda v: listed(v.top),
    "list-names": lambda v: sorted(os.listdir(v.top)),
    "list-dir": lambda v: listed(v("d")),
    "list-by-fd": lambda v: listed(v.folder),
    "list-empty": lambda v: sorted(os.listdir(v("e"))),
    "readlink": lambda v: os.readlink(v("s")),
    "access": lambda v: [os.access(v(name), os.X_OK) for name in ("a", "d", "new")],
    "getxattr": lambda v: os.getxattr(v("a"), "user.x"),
    "getxattr-missing": lambda v: os.getxattr(v("a"), "user.y"),
    "getxattr-fd": lambda v: os.getxattr(v.file, "user.x"),
    "listxattr": lambda v: sorted(os.listxattr(v("a"))),
    "listxattr-dir": lambda v: sorted(os.listxattr(v("d"))),
    "getacl": lambda v: os.getxattr(v("a"), "system.posix_acl_access"),
    "who-locks": who_locks,
}


def answer(operation, view):
    try:
        return patiently(operation, view)
    except OSError as problem:
        return errno.errorcode[problem.errno]
    except ValueError as problem:  # Nothing to be mapped.
        return str(problem)


def patiently(function, *arguments, **options):
    """The kernel finds a folder that another mount has moved only if no other folder is being moved here just then: else ESTALE."""
    for attempt in range(ATTEMPTS):
        try:
            return function(*arguments, **options)
        except OSError as problem:
            if problem.errno != errno.ESTALE or attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.1)
    return None


def everything(top):
    """All that can be seen below a folder; times last, for comparisons of the mounts only."""
    found = {}
    for path, dirs, names in os.walk(top):
        for full in [path] + [os.path.join(path, name) for name in dirs + names]:
            st = patiently(os.lstat, full)
            row = [facts(st), [(name, os.getxattr(full, name, follow_symlinks=False)) for name in sorted(os.listxattr(full, follow_symlinks=False))]]
            if stat.S_ISREG(st.st_mode):
                row += [read(full), os.path.exists(full)]
            found[full[len(top):]] = (row, (st.st_mtime_ns, st.st_ctime_ns, st.st_ino))
    return found


def rows(found):
    return {name: row for name, (row, _rest) in found.items()}


def pair(place, first, second, tops, maker, seen):
    """What both operations answered, the tree, and whether all tops show the same."""
    make(os.path.join(tops[maker], place))
    views = [View(os.path.join(top, place)) for top in tops]
    try:
        if seen:
            for view in views:
                everything(view.top)
                for look in ("stat-new", "read-fd", "list-by-fd", "readlink"):
                    answer(LOOKS[look], view)
        answers = [answer(first, views[0]), answer(second, views[1])]
        trees = [everything(view.top) for view in reversed(views)]
    except OSError as problem:
        raise CaseFailed("%s: %s" % (place, problem)) from None
    finally:
        for view in views:
            view.close()
    return answers, rows(trees[0]), [(name, trees[0].get(name), trees[1].get(name)) for name in sorted(set(trees[0]) | set(trees[1]))
                                     if trees[0].get(name) != trees[1].get(name)]


def short(value):
    text = repr(value)
    return text if len(text) < 300 else text[:200] + "... (%d)" % len(text)


def compare(what, expected, found):
    problems = []
    if expected[0] != found[0]:
        problems.append("answers %s, on ext4 %s" % (short(found[0]), short(expected[0])))
    for name in sorted(set(expected[1]) | set(found[1])):
        if expected[1].get(name) != found[1].get(name):
            problems.append("%r is %s, on ext4 %s" % (name, short(found[1].get(name)), short(expected[1].get(name))))
    problems += ["%r is %s, by the other mount %s" % (name, short(one), short(two)) for name, one, two in found[2]]
    return ["%s: %s" % (what, "; ".join(problems))] if problems else []


@case
def starts():
    global ext4  # pylint: disable=global-statement
    os.umask(0o022)
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)
    both.extend(mounts.mount(FS) for _ in range(2))
    ext4 = Ext4().path
    for at in range(2):
        os.mkdir(os.path.join(both[0], "by%d" % at))
        os.mkdir(os.path.join(ext4, "by%d" % at))


def is_wanted(first, second):
    return not WANTED or any(one in (first, "") and other in (second, "") for one, other in WANTED)


def try_pair(job):
    """In a process of its own, with folders of its own."""
    first, second, state = job
    operations, (maker, seen), here = {**CHANGES, **LOOKS}, STATES[state], "%s %s %s" % job
    expected = pair(os.path.join("by0", here), operations[first], operations[second], [ext4, ext4], 0, False)
    shutil.rmtree(os.path.join(ext4, "by0", here))
    try:
        found = pair(os.path.join("by%d" % maker, here), operations[first], operations[second], both, maker, seen)
    except CaseFailed as problem:
        return [str(problem)]
    return compare("%s/%s, %s" % job, expected, found)


@case
def every_pair_of_operations():
    print("     LIMPET_SEED=%d repeats this" % SEED)
    operations, draw = [*CHANGES, *LOOKS], random.Random(SEED)
    jobs = [(first, second, state) for first in operations for second in operations
            if (first in CHANGES or second in CHANGES) and is_wanted(first, second)
            for state in (STATES if WANTED else [draw.choice(list(STATES))])]
    draw.shuffle(jobs)
    with multiprocessing.Pool(WORKERS) as workers:
        wrong = []
        for at, problems in enumerate(workers.imap_unordered(try_pair, jobs), 1):
            wrong += problems
            for problem in problems:
                print("     %s" % problem, flush=True)
            if at % 500 == 0:
                print("     %d of %d pairs" % (at, len(jobs)), flush=True)
    print("     %d pairs, %d differences" % (len(jobs), len(wrong)))
    check(jobs and not wrong, "%d differences in %d pairs" % (len(wrong), len(jobs)))


@case
def nothing_is_wrong_in_the_end():
    for path in both:
        mounts.umount(path)
    check(mounts.check_clean(FS)["findings"] == [], "the check has found something")


if __name__ == "__main__":
    run()
