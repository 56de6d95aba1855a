#!/usr/bin/env python3
"""A mount that stands still for longer than its leases last, alone or with the whole cluster, and loses what it had not written back: every
file and folder that has lost something says so. LIMPET_SECONDS is for how long all stand still."""

import errno
import os
import signal
import stat
import sys
import time

from lib.cluster import Cluster, case, check, read_file, run, wait_until
from lib.mount import Mounts, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "lost"
SECONDS = float(os.environ.get("LIMPET_SECONDS", "15"))  # Leases, and what is believed of those that say nothing, last 10 s.
SIZES = [3, 5000, 70000, 3 << 20]
BEFORE = b"before" * 1000
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
both = []


def answer(function, *arguments):
    try:
        function(*arguments)
        return None
    except OSError as problem:
        return errno.errorcode[problem.errno]


class Work:
    """Changes in a folder that its mount keeps to itself; afterwards, what is asked about them."""

    def __init__(self, name):
        self.here, self.there = (os.path.join(mount, name) for mount in both)
        os.mkdir(self.here)
        os.mkdir(self.path("sub"))
        self.folders = {each: os.open(self.path(each), os.O_RDONLY | os.O_DIRECTORY) for each in ("", "sub")}
        for at in range(8):  # Who makes so many is alone there, and has what it makes to itself.
            os.mknod(self.path("alone%d" % at))
        self.names = ["%s%d" % (kind, at) for kind in ("open", "closed", "cut", "opencut", "mode", "moved") for at in range(len(SIZES))]
        for name in self.names:
            fd = os.open(self.path(name), os.O_CREAT | os.O_WRONLY, 0o644)
            os.write(fd, BEFORE)
            os.fsync(fd)
            os.close(fd)
        os.fsync(self.folders[""])
        self.open, self.want, self.closed = {}, {}, []

    def path(self, name):
        return os.path.join(self.here, name)

    def write(self, name, size, stays, flags=0):
        fd = os.open(self.path(name), os.O_RDWR | flags, 0o644)
        os.pwrite(fd, b"a" * size, 0)
        self.want[name] = b"a" * size + (BEFORE[size:] if flags == 0 else b"")
        self.leave(name, fd, stays)

    def leave(self, name, fd, stays):
        if stays:
            self.open[name] = fd
        else:
            os.close(fd)
            self.closed.append(name)

    def change(self):
        for at, size in enumerate(SIZES):
            self.write("open%d" % at, size, True)
            self.write("closed%d" % at, size, False)
            self.write("new%d" % at, size, False, os.O_CREAT)
            self.write("sub/new%d" % at, size, at % 2 == 0, os.O_CREAT)
            for name, stays in (("cut%d" % at, False), ("opencut%d" % at, True)):
                fd = os.open(self.path(name), os.O_RDWR)
                os.ftruncate(fd, at)
                self.want[name] = BEFORE[:at]
                self.leave(name, fd, stays)
            os.chmod(self.path("mode%d" % at), 0o600)
            self.closed.append("mode%d" % at)
            os.rename(self.path("moved%d" % at), self.path("away%d" % at))
            self.want["away%d" % at] = BEFORE
        os.mkdir(self.path("made"))

    def look(self):
        """What others see of it: what is not as it shall be, and who has to say so: a file or the folder of a name."""
        wrong = {}
        for name, data in self.want.items():
            try:
                if read_file(os.path.join(self.there, name)) != data:
                    wrong[name] = name
            except FileNotFoundError:
                wrong[name] = os.path.dirname(name)
        for at in range(len(SIZES)):
            name = "mode%d" % at
            if stat.S_IMODE(os.stat(os.path.join(self.there, name)).st_mode) != 0o600:
                wrong[name] = name
        if not os.path.isdir(os.path.join(self.there, "made")):
            wrong["made"] = ""
        return wrong

    def ask(self):
        """Who says that something is lost, and how; "" and "sub" are folders."""
        told = {name: answer(os.fsync, fd) for name, fd in self.open.items()}
        for name in self.closed:
            try:
                fd = os.open(self.path(name), os.O_RDWR)
            except FileNotFoundError:
                told[name] = "ENOENT"
                continue
            told[name] = answer(os.fsync, fd)
            os.close(fd)
        for name, fd in self.folders.items():
            told[name] = answer(os.fsync, fd)
        return {name: said for name, said in told.items() if said is not None}

    def end(self):
        again = [name for name, fd in self.open.items() if answer(os.fsync, fd) is not None]
        for fd in [*self.open.values(), *self.folders.values()]:
            os.close(fd)
        check(not again, "told twice: %r" % again)


def goes_on():
    path = os.path.join(both[0], "goes-on")

    def works():
        with open(path, "wb") as file:
            os.fsync(file.fileno())
    return answer(works) is None


def stands_still(name, stop):
    work = Work(name)
    work.change()
    stop(work)
    wait_until("the mount goes on", goes_on, 60)
    told = work.ask()
    wrong = work.look()
    untold = [name for name, who in wrong.items() if who not in told]
    print("     %d of %d are lost, %d are told: %s" % (len(wrong), len(work.want) + len(SIZES) + 1, len(told), sorted(set(told.values()))))
    check(not untold, "lost, and nobody was told: %r" % untold)
    work.end()
    return wrong


def stop_for(pids, function):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        function()
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


@case
def starts():
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)
    both.extend(mounts.mount(FS) for _ in range(2))


@case
def a_mount_that_others_do_not_wait_for():
    """It stands still until another one has what it had."""
    wrong = stands_still("one", lambda work: stop_for([mounts.server(both[0])], lambda: os.chmod(os.path.join(work.there, "alone0"), 0o600)))
    check(len(wrong) > len(SIZES), "little is lost: %r" % wrong)


@case
def a_mount_that_nobody_misses():
    """Longer than its leases last, and nobody has taken them."""
    stands_still("missed", lambda _: stop_for([mounts.server(both[0])], lambda: time.sleep(SECONDS)))


@case
def all_together():
    pids = [mounts.server(path) for path in both] + list(cluster.pids().values())
    stands_still("all", lambda _: stop_for(pids, lambda: time.sleep(SECONDS)))


@case
def all_together_and_the_cluster_goes_on_first():
    pids = list(cluster.pids().values()) + [mounts.server(path) for path in both]

    def stop(work):
        stop_for(pids[-2:], lambda: stop_for(pids[:-2], lambda: time.sleep(SECONDS)))
        check(os.path.isdir(work.there), "the other mount goes on")
    stands_still("cluster", stop)


@case
def nothing_is_wrong_in_the_end():
    for path in both:
        mounts.umount(path)
    report = mounts.check_clean(FS)
    check(report["damaged"] == 0, "%r" % report)


if __name__ == "__main__":
    run()
