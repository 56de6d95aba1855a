#!/usr/bin/env python3
"""Two mounts that move folders under each other's feet, and OSDs that hang meanwhile: no loop, nothing lost, no end of waiting.
LIMPET_SECONDS makes it longer, LIMPET_SEED=N repeats what is drawn."""

import errno
import mmap
import os
import random
import signal
import sys
import threading
import time

from lib.cluster import SLOWNESS, Cluster, case, check, run, wait_until
from lib.mount import Hole, Mounts, getdents, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "races"
SECONDS = int(os.environ.get("LIMPET_SECONDS", "10"))
STOPPED_SECONDS = min(SECONDS, 60)
HANG_SECONDS = 2.5
SEED = int(os.environ.get("LIMPET_SEED") or time.time_ns() % 1000000)
FOLDERS = 12
# What may be the answer when somebody else was faster, or it would be a loop.
EXPECTED = {errno.ENOENT, errno.EINVAL, errno.ENOTEMPTY, errno.EEXIST, errno.ELOOP, errno.EBUSY}
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
both = []


def tree(top):
    """Names of folders -> inode numbers; a loop would not end, so it is walked no deeper than there are folders."""
    found, waiting = {}, [(top, 0)]
    while waiting:
        path, depth = waiting.pop()
        check(depth <= FOLDERS, "deeper than there are folders: %s" % path)
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                check(entry.name not in found, "%s is in two places" % entry.name)
                found[entry.name] = entry.inode()
                waiting.append((entry.path, depth + 1))
    return found


def find(top, name, draw):
    """Some path of a folder, as it was a moment ago."""
    paths = [path for path, dirs, _files in os.walk(top) for each in dirs if each == name for path in [os.path.join(path, each)]]
    return draw.choice(paths) if paths else None


class Mover(threading.Thread):
    def __init__(self, top, seed):
        super().__init__(daemon=True)
        self.top, self.draw = top, random.Random(seed)
        self.moves, self.problem = 0, None
        self.stopping = threading.Event()
        self.start()

    def run(self):
        while not self.stopping.is_set() and not self.problem:
            names = ["d%d" % at for at in self.draw.sample(range(FOLDERS), 2)]
            try:
                old, to = (find(self.top, name, self.draw) for name in names)
                if old and to:
                    os.rename(old, os.path.join(to, names[0]))
                    self.moves += 1
            except OSError as problem:
                if problem.errno not in EXPECTED:
                    self.problem = problem


@case
def starts():
    print("     LIMPET_SEED=%d" % SEED)
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)
    both.extend(mounts.mount(FS) for _ in range(2))


@case
def folders_that_are_moved_into_each_other():
    top = os.path.join(both[0], "moves")
    for at in range(FOLDERS):
        os.makedirs(os.path.join(top, "d%d" % at))
    before = tree(top)
    movers = [Mover(os.path.join(mount, "moves"), SEED + at) for at, mount in enumerate(both + both)]
    movers[0].stopping.wait(SECONDS)
    for mover in movers:
        mover.stopping.set()
    for mover in movers:
        mover.join(60 * SLOWNESS)
        check(not mover.is_alive(), "a move does not end")
        check(mover.problem is None, "%s" % mover.problem)
    moves = [mover.moves for mover in movers]
    print("     moved %s times" % moves)
    check(min(moves) > 0, "somebody had no turn: %r" % moves)
    for mount in both:
        check(tree(os.path.join(mount, "moves")) == before, "%r, before %r" % (tree(os.path.join(mount, "moves")), before))


@case
def an_osd_that_hangs_while_changes_wait():
    """Each OSD in turn; what is written meanwhile waits, or goes on without it, and is there."""
    written = {}
    for osd in range(3):
        top = os.path.join(both[osd % 2], "hangs%d" % osd)
        os.mkdir(top)
        name = "osd.%d" % osd
        pid = cluster.pid(name)

        def write(top=top, osd=osd):
            for at in range(50):
                path = os.path.join(top, "f%d" % at)
                with open(path, "wb") as file:
                    file.write(b"%d" % at * 1000)
                    if at % 10 == 0:
                        os.fsync(file.fileno())
                written[path.replace(both[osd % 2], both[1 - osd % 2])] = b"%d" % at * 1000
        os.kill(pid, signal.SIGSTOP)
        try:
            writer = threading.Thread(target=write, daemon=True)
            writer.start()
            writer.join(STOPPED_SECONDS)
        finally:
            os.kill(pid, signal.SIGCONT)
        writer.join(60 * SLOWNESS)
        check(not writer.is_alive(), "writing does not end after %s hung" % name)
        cluster.wait_healthy(120)
    check(len(written) == 150, "%d files were written" % len(written))
    for path, data in written.items():
        with open(path, "rb") as file:
            check(file.read() == data, "%s differs" % path)


def is_there(name, folder):
    try:
        return os.stat(name, dir_fd=folder) is not None
    except FileNotFoundError:
        return False


@case
def a_listing_that_is_taken_in_late():
    """While getdents(2) still has what the mount has answered, another mount changes that. When the mount is told that it was taken
    in, it has a page of that file to bring, too."""
    here, there = (os.path.join(mount, "late") for mount in both)
    os.mkdir(here)
    for at in range(100):
        os.mknod(os.path.join(here, "f%d" % at))
    names = [entry.name for entry in os.scandir(here) if entry.stat()]
    hole, name = Hole(), names[len(names) // 2]
    with open(os.path.join(here, name), "wb") as file:
        file.write(b"late" * 1024)
    with open(os.path.join(here, name), "rb") as file:
        page = mmap.mmap(file.fileno(), mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)
    folder, server = os.open(here, os.O_RDONLY), mounts.server(both[0])
    skipped = mmap.PAGESIZE - 256  # Of the page that is there: a few entries are taken in at once.
    lister = threading.Thread(target=getdents, args=(folder, hole.address + skipped, hole.size - skipped), daemon=True)
    lister.start()
    try:
        check(hole.is_met(10 * SLOWNESS), "nothing is listed")
        os.rename(os.path.join(there, name), os.path.join(there, "moved"))
        os.kill(server, signal.SIGSTOP)
    finally:
        hole.fill()
    time.sleep(0.3)  # The kernel has told it now, but nobody has heard it.
    reader = os.fork()
    if reader == 0:
        os._exit(0 if page[:4] == b"late" else 1)
    time.sleep(0.3)  # And it has asked for the page.
    os.kill(server, signal.SIGCONT)
    lister.join(10 * SLOWNESS)
    check(not lister.is_alive(), "the listing does not end")
    ended = []
    wait_until("the page that is read", lambda: ended.extend(os.waitpid(reader, os.WNOHANG)) or ended[-2] == reader, 10)
    check(ended[-1] == 0, "the page differs")
    # Not by its path: that would be asked for from its top, and all names below with it.
    wait_until("end of the old name", lambda: not is_there(name, folder), 2)
    check(is_there("moved", folder), "the new name is not seen")
    os.close(folder)


@case
def a_listing_that_goes_on_while_its_files_change():
    place = os.path.join(mounts.paths[0], "changing")
    os.mkdir(place)
    names = ["f%d" % at for at in range(900)]
    for name in names:
        os.close(os.open(os.path.join(place, name), os.O_CREAT | os.O_WRONLY, 0o644))
    with os.scandir(place) as entries:
        next(entries)
        for at, name in enumerate(names):
            path = os.path.join(place, name)
            if at % 3 == 0:
                os.unlink(path)
            elif at % 3 == 1:
                os.chmod(path, 0o600)
            else:
                with open(path, "ab") as file:
                    file.write(b"more")
        told = [entry.name for entry in entries]
    check(len(told) > len(names) // 2, "the listing has come to its end: %d names" % len(told))
    for at, name in enumerate(names):
        try:
            status = os.stat(os.path.join(place, name))
            now = (status.st_mode & 0o777, status.st_size)
        except FileNotFoundError:
            now = None
        want = (None, (0o600, 0), (0o644, 4))[at % 3]
        check(now == want, "%s: %s where %s is right" % (name, now, want))


@case
def osds_that_hang_for_a_moment_cost_nothing():
    """Longer than a wait looks at its lease, and much shorter than that is good: of a new folder of the first one, too."""
    for at in range(60):  # Who makes so many is alone there, and has what it makes to itself.
        folder = os.path.join(both[0], "moment%d" % at)
        os.mkdir(folder)
    pids = [cluster.pid("osd.%d" % osd) for osd in range(3)]
    failed = []

    def write():
        try:
            with open(os.path.join(folder, "file"), "wb") as file:
                file.write(b"moment" * 2000)
                file.flush()
                os.ftruncate(file.fileno(), 6000)
                os.fsync(file.fileno())
        except OSError as problem:
            failed.append(problem)
    writer = threading.Thread(target=write, daemon=True)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        writer.start()
        writer.join(HANG_SECONDS)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    writer.join(60 * SLOWNESS)
    check(not writer.is_alive() and not failed, "fsync after a moment: %r" % failed)
    with open(os.path.join(both[1], "moment59", "file"), "rb") as file:
        check(file.read() == b"moment" * 1000, "it is not there")


@case
def nothing_is_wrong_in_the_end():
    for path in both:
        mounts.umount(path)
    report = mounts.check_clean(FS)
    check(report["damaged"] == 0, "%r" % report)


if __name__ == "__main__":
    run()
