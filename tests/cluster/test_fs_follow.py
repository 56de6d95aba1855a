#!/usr/bin/env python3
"""The thread that takes a mount's requests, and the processor on which it does (client/cli/fs_receive.c): it follows one caller,
stands back for neighbours, and is an ordinary thread otherwise."""

import multiprocessing
import os
import sys
import time

from lib.cluster import Cluster, at_end, case, check, run, wait_until
from lib.mount import Mounts, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "follow"
SECONDS = 30     # Until something that shall happen has happened, on a busy machine.
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
processors = sorted(os.sched_getaffinity(0))
helpers = []


def call_on(path, processor, done, worst):
    """Requests one after the other, which the mount answers from its memory."""
    if processor is not None:
        os.sched_setaffinity(0, [processor])
    while True:
        begun = time.monotonic()
        os.listxattr(path)
        worst.value = max(worst.value, time.monotonic() - begun)
        done.value += 1


def burn(processor):
    os.sched_setaffinity(0, [processor])
    while True:
        pass


class Helper:
    """A process of its own, until end()."""

    def __init__(self, function, *arguments):
        self.process = multiprocessing.Process(target=function, args=arguments, daemon=True)
        self.process.start()
        helpers.append(self)

    def end(self):
        self.process.kill()
        self.process.join()


class Caller(Helper):
    def __init__(self, path, processor=None):
        self.done = multiprocessing.Value("Q", 0, lock=False)
        self.worst = multiprocessing.Value("d", 0, lock=False)
        super().__init__(call_on, path, processor, self.done, self.worst)


@at_end
def end_helpers():
    for helper in helpers:
        helper.end()


class Mount:
    def __init__(self, *options):
        self.path = mounts.mount(FS, *options)
        self.file = os.path.join(self.path, "file")
        with open(self.file, "ab"):
            pass
        self.pid = mounts.server(self.path)

    def followers(self):
        """Its threads that give way to all others, and the processors on which each may run."""
        found = []
        for tid in map(int, os.listdir("/proc/%d/task" % self.pid)):
            try:
                if os.sched_getscheduler(tid) == os.SCHED_IDLE:
                    found.append(os.sched_getaffinity(tid))
            except ProcessLookupError:
                pass  # It has ended.
        return found

    def all_are_ordinary(self):
        tids = map(int, os.listdir("/proc/%d/task" % self.pid))
        return not self.followers() and all(len(os.sched_getaffinity(tid)) == len(processors) for tid in tids)


@case
def starts():
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)


@case
def it_follows_one_caller():
    mount = Mount()
    for processor in processors[:2]:
        caller = Caller(mount.file, processor)
        wait_until("a thread on processor %d" % processor, lambda at=processor: mount.followers() == [{at}], SECONDS)
        caller.end()
        wait_until("an ordinary thread when nobody calls", lambda: not mount.followers(), SECONDS)
    mounts.umount(mount.path)


@case
def it_gives_way_to_a_busy_neighbour():
    mount = Mount()
    processor = processors[-1]
    caller = Caller(mount.file, processor)
    wait_until("a thread beside its caller", lambda: mount.followers() == [{processor}], SECONDS)
    neighbour = Helper(burn, processor)
    wait_until("an ordinary thread", lambda: not mount.followers(), SECONDS)
    # It tries again now and then, for a moment; what counts is that the caller goes on. Under SCHED_IDLE the thread would have 3
    # of 1,027 parts of the processor: a request a second.
    caller.worst.value = 0
    before, begun = caller.done.value, time.monotonic()
    wait_until("requests beside a neighbour", lambda: caller.done.value > before + 300, SECONDS)
    rate = (caller.done.value - before) / (time.monotonic() - begun)
    print("# beside a busy neighbour: %.0f requests/s, the longest %.0f ms" % (rate, caller.worst.value * 1e3))
    neighbour.end()
    wait_until("it follows again", lambda: mount.followers() == [{processor}], SECONDS)
    caller.end()
    mounts.umount(mount.path)


@case
def several_callers_have_an_ordinary_thread():
    mount = Mount()
    first = Caller(mount.file)
    wait_until("a thread beside its caller", mount.followers, SECONDS)
    second = Caller(mount.file)
    wait_until("an ordinary thread for two", lambda: not mount.followers(), SECONDS)
    second.end()
    wait_until("it follows the one that is left", mount.followers, SECONDS)
    first.end()
    mounts.umount(mount.path)


@case
def no_follow_keeps_it_ordinary():
    mount = Mount("--no-follow")
    caller = Caller(mount.file)
    wait_until("many requests", lambda: caller.done.value > 3000, SECONDS)
    check(mount.all_are_ordinary(), "no thread is special: %s" % mount.followers())
    caller.end()
    mounts.umount(mount.path)


if __name__ == "__main__":
    run()
