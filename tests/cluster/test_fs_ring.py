#!/usr/bin/env python3
"""Requests of a mount by io_uring (client/cli/fs_ring.c), where the kernel can offer it. Where that is switched off, it is
switched on for as long as this runs."""

import errno
import fcntl
import hashlib
import multiprocessing
import os
import signal
import sys
import threading
import time

from lib.cluster import Cluster, at_end, case, check, command, process_alive, process_rss_mib, run, wait_until
from lib.mount import Mounts, missing

PARAMETER = "/sys/module/fuse/parameters/enable_uring"
FS = "ring"
SECONDS = 60
MIB = 1 << 20
ROUNDS = 4
WAITERS = 300    # For a lock: more than a queue has entries at first.


def why_not():
    if missing():
        return missing() + " is missing"
    if not os.path.exists(PARAMETER):
        return "the kernel has no FUSE over io_uring (%s)" % PARAMETER
    return "" if os.access(PARAMETER, os.W_OK) else PARAMETER + " cannot be written"


if why_not():
    print("skipped: " + why_not())
    sys.exit(0)

cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
helpers = []


def parameter(value=None):
    with open(PARAMETER, "r" if value is None else "w", encoding="ascii") as file:
        return file.read().strip() if value is None else file.write(value)


before = parameter()
at_end(lambda: parameter(before))


@at_end
def end_helpers():
    for helper in helpers:
        helper.kill()


def helper_of(function, *arguments):
    process = multiprocessing.Process(target=function, args=arguments, daemon=True)
    process.start()
    helpers.append(process)
    return process


def equal(value, expected):
    check(value == expected, "%r instead of %r" % (value, expected))


def rings(path):
    """Threads of the mount that take requests from a ring, and rings that it has."""
    os.statvfs(path)  # After its first answer a mount is as it stays.
    pid = mounts.server(path)
    names = [open("/proc/%d/task/%s/comm" % (pid, tid), encoding="ascii").read().strip()
             for tid in os.listdir("/proc/%d/task" % pid)]
    links = [os.readlink("/proc/%d/fd/%s" % (pid, fd)) for fd in os.listdir("/proc/%d/fd" % pid)]
    return sum(name.startswith("fuse-ring-") for name in names), sum("[io_uring]" in link for link in links)


def requests_by_device(path, work):
    """How often the thread that reads /dev/fuse has slept, or made way for its caller, meanwhile: it has, for each request that it
    took."""
    status = "/proc/%d/status" % mounts.server(path)

    def switches():
        with open(status, encoding="ascii") as file:
            return sum(int(line.split()[1]) for line in file if "voluntary_ctxt" in line)

    earlier = switches()
    work()
    return switches() - earlier


def piece(seed, length):
    return hashlib.shake_128(b"%d" % seed).digest(length)


def write(path, data, offset=0):
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    os.pwrite(fd, data, offset)
    os.fsync(fd)
    os.close(fd)


def read(path, length, offset=0, flags=0):
    fd = os.open(path, os.O_RDONLY | flags)
    data = b""
    while len(data) < length:
        got = os.pread(fd, length - len(data), offset + len(data))
        if not got:
            break
        data += got
    os.close(fd)
    return data


@case
def starts():
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)
    parameter("Y")


@case
def the_ring_is_used_where_it_is_offered():
    path = mounts.mount(FS)
    queues = os.sysconf("SC_NPROCESSORS_CONF")
    equal(rings(path), (queues, queues))
    slept = requests_by_device(path, lambda: [os.listxattr(path) for _ in range(1000)])
    check(slept < 100, "requests do not come by /dev/fuse: %d of 1,000" % slept)
    mounts.umount(path)


@case
def it_can_be_refused():
    path = mounts.mount(FS, "--no-io-uring")
    equal(rings(path), (0, 0))
    slept = requests_by_device(path, lambda: [os.listxattr(path) for _ in range(1000)])
    check(slept > 500, "requests come by /dev/fuse: %d of 1,000" % slept)
    mounts.umount(path)


@case
def without_an_offer_it_is_as_ever():
    parameter("N")
    path = mounts.mount(FS)
    parameter("Y")
    equal(rings(path), (0, 0))
    write(os.path.join(path, "plain"), b"plain")
    mounts.umount(path)


@case
def contents_and_names_are_whole():
    path, other = mounts.mount(FS), mounts.mount(FS, "--no-io-uring")
    for number, length in enumerate([1, 100, 4095, 4096, 65537, MIB - 1, MIB, MIB + 1, 9 * MIB + 7]):
        name = "f%d" % number
        write(os.path.join(path, name), piece(number, length), number * 1000)
        for where in (path, other):
            check(read(os.path.join(where, name), length, number * 1000) == piece(number, length), "%d bytes" % length)
        check(read(os.path.join(path, name), length, number * 1000) == piece(number, length), "%d bytes again" % length)
    folder = os.path.join(path, "names")
    os.mkdir(folder)
    names = ["%d%s" % (at, "n" * (250 - at % 50)) for at in range(500)]
    for name in names:
        os.symlink("t" * (at_most := 4000 - len(name)), os.path.join(folder, name))
        equal(len(os.readlink(os.path.join(folder, name))), at_most)
    equal(sorted(os.listdir(os.path.join(other, "names"))), sorted(names))
    equal(sorted(entry.name for entry in os.scandir(folder) if entry.stat(follow_symlinks=False)), sorted(names))
    os.rename(os.path.join(folder, names[0]), os.path.join(path, "moved"))
    os.setxattr(os.path.join(path, "f0"), "user.large", b"x" * 60000)
    equal(os.getxattr(os.path.join(other, "f0"), "user.large"), b"x" * 60000)
    fd = os.open(path, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"nameless")
    equal(os.pread(fd, 10, 0), b"nameless")
    os.close(fd)
    os.setxattr(path, "user.top", b"top")
    try:
        os.listdir(os.path.join(path, "none"))
        check(False, "a folder that is not there")
    except FileNotFoundError:
        pass
    mounts.umount(path)
    mounts.umount(other)
    mounts.check_clean(FS)


@case
def listings_that_are_kept():
    """The kernel says by FORGET, which comes this way, when it has taken one in; whoever lists waits for that."""
    path = mounts.mount(FS)
    top = os.path.join(path, "listed")
    os.mkdir(top)
    for at in range(500):
        os.mknod(os.path.join(top, "f%d" % at))
    lister = helper_of(lambda: [entry.stat() for entry in os.scandir(top)])
    lister.join(20)
    equal(lister.exitcode, 0)
    mounts.umount(path)


def write_and_read(path, seed):
    for at in range(40):
        offset = (seed * 977 + at * 7919) % 37 * 100003
        write(path, piece(seed + at, 300000), offset)
        if read(path, 300000, offset, os.O_DIRECT if at % 2 else 0)[:4096] != piece(seed + at, 300000)[:4096]:
            os._exit(1)


@case
def several_callers_at_once():
    path = mounts.mount(FS)
    callers = [helper_of(write_and_read, os.path.join(path, "several%d" % at), at) for at in range(8)]
    for caller in callers:
        caller.join()
    equal([caller.exitcode for caller in callers], [0] * len(callers))
    mounts.umount(path)


def wait_for_lock(path, processor, asked):
    os.sched_setaffinity(0, [processor])
    fd = os.open(path, os.O_RDWR)

    def one():
        asked.release()
        own = os.open(path, os.O_RDWR)
        fcntl.flock(own, fcntl.LOCK_EX)
        os.close(own)

    threads = [threading.Thread(target=one) for _ in range(WAITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(fd)


def work_beside(path, processor):
    os.sched_setaffinity(0, [processor])
    for at in range(50):
        write(os.path.join(path, "beside"), piece(at, 5000))
        os.listxattr(os.path.join(path, "lock"))


@case
def requests_that_wait_leave_room_for_others():
    path = mounts.mount(FS)
    file = os.path.join(path, "lock")
    processor = min(os.sched_getaffinity(0))
    write(file, b"x")
    fd = os.open(file, os.O_RDWR)
    for _ in range(ROUNDS):
        fcntl.flock(fd, fcntl.LOCK_EX)
        asked = multiprocessing.Semaphore(0)
        waiting = helper_of(wait_for_lock, file, processor, asked)
        for _ in range(WAITERS):
            asked.acquire()
        # On their processor, whose queue has as many requests that end only when this one has gone on. Who hangs there cannot be
        # killed, only the mount can.
        beside = helper_of(work_beside, path, processor)
        beside.join(SECONDS)
        if beside.is_alive():
            mounts.kill(path)
        equal(beside.exitcode, 0)
        check(waiting.is_alive(), "they wait")
        fcntl.flock(fd, fcntl.LOCK_UN)
        waiting.join(SECONDS)
        equal(waiting.exitcode, 0)
    os.close(fd)
    mounts.umount(path)


def lock_until_killed(path, ready):
    fd = os.open(path, os.O_RDWR)
    ready.release()
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os._exit(1)


@case
def a_signal_ends_the_wait_for_a_lock():
    path = mounts.mount(FS)
    file = os.path.join(path, "signal")
    write(file, b"x")
    fd = os.open(file, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    ready = multiprocessing.Semaphore(0)
    for _ in range(30):
        waiting = helper_of(lock_until_killed, file, ready)
        ready.acquire()
        os.kill(waiting.pid, signal.SIGKILL)
        waiting.join(SECONDS)
        equal(waiting.exitcode, -signal.SIGKILL)
    os.close(fd)
    fd = os.open(file, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)
    mounts.umount(path)


@case
def memory_of_large_requests_is_given_back():
    path = mounts.mount(FS, "--memory", "64M")
    pid = mounts.server(path)

    def transfer(at):
        name = os.path.join(path, "large%d" % at)
        for turn in range(6):
            write(name, piece(at, 4 * MIB), turn * 4 * MIB)
        read(name, 24 * MIB)

    threads = [threading.Thread(target=transfer, args=(at,)) for at in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Small requests through the same entries.
    for at in range(2000):
        os.listxattr(os.path.join(path, "large%d" % (at % 12)))
    resident = process_rss_mib(pid)
    print("# resident after it: %d MiB" % resident)
    check(resident < 400, "memory is bounded: %d MiB" % resident)
    mounts.umount(path)


@case
def it_ends_by_signals_too():
    for number in (signal.SIGTERM, signal.SIGKILL):
        path = mounts.mount(FS)
        pid = mounts.server(path)
        fd = os.open(os.path.join(path, "open"), os.O_CREAT | os.O_RDWR, 0o644)
        os.write(fd, b"x")
        begun = time.monotonic()
        os.kill(pid, number)
        wait_until("end of the process", lambda at=pid: not process_alive(at), SECONDS)
        for call in (os.fsync, os.close):
            try:
                call(fd)
                check(False, "nobody serves it any more")
            except OSError as error:
                # ECANCELED: by the kernel (since 6.18.y), when it comes while the ring of who has died is being taken down.
                check(error.errno in (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO, errno.ECANCELED), str(error))
        command(["umount", "-l", path])
        mounts.paths.remove(path)
        print("# %s: %.1f s" % (number.name, time.monotonic() - begun))
    mounts.check_clean(FS)


if __name__ == "__main__":
    run()
