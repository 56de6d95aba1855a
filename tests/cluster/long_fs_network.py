#!/usr/bin/env python3
"""A mount that loses its network, for a moment and for longer than its leases last, and mounts at work while each daemon is killed and
begun again: ./tests/run --long fs."""

import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import threading
import time

from lib.cluster import BIN, Cluster, at_end, case, check, command, folder, read_file, run, succeeds, wait_until, write_file
from lib.mount import Mounts, missing

BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
PROG_LOAD, PROG_ATTACH, PROG_DETACH = 5, 8, 9
CGROUP_SKB, BOTH_WAYS = 8, (0, 1)
DROP = struct.pack("<BBhiBBhi", 0xb7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit
FS = "network"
FILES = 10
MOMENTS = (1, 3, 5)  # Seconds; leases last longer.
libc = ctypes.CDLL(None, use_errno=True)


def bpf(what, attributes):
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = libc.syscall(BPF, what, buffer, len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Group:
    """A control group: sockets that are made by its processes lose all that they send and are sent while it is cut off."""

    def __init__(self):
        self.top = folder()
        succeeds(command(["mount", "-t", "cgroup2", "none", self.top]))
        self.path = os.path.join(self.top, "limpet-%d" % os.getpid())
        os.mkdir(self.path)
        at_end(self.end)
        self.fd = os.open(self.path, os.O_DIRECTORY)
        program, license_name = ctypes.create_string_buffer(DROP, len(DROP)), ctypes.create_string_buffer(b"GPL")
        self.program = bpf(PROG_LOAD, struct.pack("<IIQQIIQII16sII", CGROUP_SKB, len(DROP) // 8, ctypes.addressof(program),
                                                  ctypes.addressof(license_name), 0, 0, 0, 0, 0, b"drop", 0, 0))

    def add(self, pid):
        with open(os.path.join(self.path, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write("%d" % pid)

    def cut(self):
        for way in BOTH_WAYS:
            bpf(PROG_ATTACH, struct.pack("<IIII", self.fd, self.program, way, 0))

    def mend(self):
        for way in BOTH_WAYS:
            bpf(PROG_DETACH, struct.pack("<IIII", self.fd, self.program, way, 0))

    def end(self):
        os.close(self.fd)
        wait_until("end of the group's processes", self.is_removed, 20)
        command(["umount", self.top])

    def is_removed(self):
        try:
            os.rmdir(self.path)
        except OSError:
            return False
        return True


def why_impossible():
    try:
        bpf(PROG_LOAD, bytes(80))
    except OSError as problem:
        # It is no program, and says so where there may be some.
        return "" if problem.errno in (errno.EINVAL, errno.E2BIG) else "bpf(2): %s" % problem
    return ""


if missing() or why_impossible():
    print("skipped: %s is missing" % (missing() or why_impossible()))
    sys.exit(0)

cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
group, one, two = None, None, None


def answer(function, *arguments):
    try:
        return function(*arguments)
    except OSError as problem:
        return errno.errorcode[problem.errno]


def files_alone(name):
    """Open, durable files of a new folder that the mount has for itself."""
    top = os.path.join(one, name)
    os.mkdir(top)
    fds = [os.open(os.path.join(top, "f%d" % at), os.O_CREAT | os.O_RDWR, 0o644) for at in range(FILES)]
    os.fsync(fds[0])
    return fds


@case
def starts():
    global group, one, two  # pylint: disable=global-statement
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)
    group, one = Group(), folder()
    with subprocess.Popen(["sh", "-c", 'read -r go; exec "$@"', "sh", os.path.join(BIN, "limpet"), "fs", "mount", FS, one],
                          env=dict(os.environ, **cluster.env), stdin=subprocess.PIPE) as process:
        group.add(process.pid)
        process.communicate(b"go\n")
    check(process.returncode == 0, "mount: %d" % process.returncode)
    mounts.paths.append(one)
    two = mounts.mount(FS)


@case
def a_moment_costs_nothing():
    """What is written meanwhile is accepted, fsync waits, and nothing is lost or told."""
    for seconds in MOMENTS:
        name = "moment%d" % seconds
        fds, answers = files_alone(name), []
        group.cut()
        for at, fd in enumerate(fds):
            os.pwrite(fd, b"w%d" % at * 1000, 0)
        os.fchmod(fds[1], 0o600)
        waiting = threading.Thread(target=lambda fd=fds[0], answers=answers: answers.append(answer(os.fsync, fd)), daemon=True)
        waiting.start()
        waiting.join(seconds)
        check(waiting.is_alive(), "an fsync ended without a network: %r" % answers)
        group.mend()
        waiting.join(60)
        check(not waiting.is_alive(), "fsync does not end")
        answers += [answer(os.fsync, fd) for fd in fds]
        check(answers == [None] * (FILES + 1), "after %d s: %r" % (seconds, answers))
        for at, fd in enumerate(fds):
            os.close(fd)
            check(read_file(os.path.join(two, name, "f%d" % at)) == b"w%d" % at * 1000, "contents of f%d" % at)
        check(stat.S_IMODE(os.stat(os.path.join(two, name, "f1")).st_mode) == 0o600, "the mode")


@case
def longer_than_its_leases_last():
    """Others go on; what had not been written back is lost, which each file is told, and the mount goes on by itself."""
    server, fds = mounts.server(one), files_alone("long")
    group.cut()
    try:
        for at, fd in enumerate(fds):
            os.pwrite(fd, b"lost%d" % at, 0)
        begun = time.monotonic()
        write_file(os.path.join(two, "long", "f5"), b"another's")
        print("     the other mount waited %.1f s" % (time.monotonic() - begun))
    finally:
        group.mend()
    answers = [answer(os.fsync, fd) for fd in fds]
    wait_until("the mount goes on", lambda: answer(os.pwrite, fds[1], b"again", 0) == 5 and answer(os.fsync, fds[1]) is None, 60)
    check(set(answers) <= {"EIO", None} and answers.count("EIO") >= FILES - 1, "fsync of what is lost: %r" % answers)
    check(mounts.server(one) == server, "it is another process")
    for mount in (one, two):
        seen = [read_file(os.path.join(mount, "long", "f%d" % at)) for at in (1, 2, 5)]
        check(seen == [b"again", b"", b"another's"], "%s: %r" % (mount, seen))
    for fd in fds:
        answer(os.close, fd)  # Who was told by the client that is lost may be told by the next one, too.


class Load(threading.Thread):
    """Writes, renames and syncs by one mount, and reads by the other."""

    def __init__(self, at, mount, other):
        super().__init__(daemon=True)
        self.here, self.there = os.path.join(mount, "load%d" % at), os.path.join(other, "load%d" % at)
        self.stopping, self.problem, self.count = threading.Event(), None, 0
        os.mkdir(self.here)
        self.start()

    def run(self):
        try:
            while not self.stopping.is_set():
                self.step("f%d" % (self.count % 50), b"%d" % self.count * 500)
                self.count += 1
        except Exception as problem:  # pylint: disable=broad-except
            self.problem = problem

    def step(self, name, data):
        fd = os.open(os.path.join(self.here, name), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.write(fd, data)
        if self.count % 5 == 0:
            os.fsync(fd)
        os.close(fd)
        if self.count % 7 == 0:
            check(read_file(os.path.join(self.there, name)) == data, "%s differs" % name)
        if self.count % 3 == 0:
            os.rename(os.path.join(self.here, name), os.path.join(self.here, name + "-old"))


@case
def daemons_that_are_killed_and_begun_again():
    loads = [Load(0, one, two), Load(1, two, one)]
    for name in ("osd.0", "mon.a", "osd.1", "osd.2", "mon.a"):
        before = [load.count for load in loads]
        cluster.kill(name)
        succeeds(cluster.start_daemon(name))
        cluster.wait_healthy(120)
        wait_until("more files", lambda before=before: all(load.problem or load.count > count + 20 for load, count in zip(loads, before)), 60)
    for load in loads:
        load.stopping.set()
    for load in loads:
        load.join(60)
        check(not load.is_alive() and load.problem is None, "%r" % load.problem)
    print("     %r files" % [load.count for load in loads])


@case
def nothing_is_wrong_in_the_end():
    for path in list(mounts.paths):
        mounts.umount(path)
    check(mounts.check_clean(FS)["damaged"] == 0, "it is damaged")


if __name__ == "__main__":
    run()
