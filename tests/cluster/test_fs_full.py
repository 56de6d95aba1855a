#!/usr/bin/env python3
"""A cluster that is filled by mounts: ENOSPC arrives at write, fsync or close, what was synced is there, nothing hangs, and what is
removed makes room."""

import errno
import fcntl
import os
import sys
import threading

from lib.cluster import SLOWNESS, Cluster, case, check, random_bytes, read_file, run, succeeds, wait_until
from lib.mount import Mounts, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "full"
LOCKED = "locks/locked"
MIB = 1 << 20
FILES_MAX = 75  # On OSDs of 192 MiB.
SIZE = 4 * MIB
PATIENCE_SECONDS = 90
cluster = Cluster(mons=1, osds=3, osd_size="192M")
mounts = Mounts(cluster)
one, two, locked = None, None, None
synced = {}


def in_time(what, function):
    """Nothing hangs: the result of what must end."""
    result = []
    thread = threading.Thread(target=lambda: result.append(function()), daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS * SLOWNESS)
    check(not thread.is_alive(), "%s has not ended after %d s" % (what, PATIENCE_SECONDS))
    check(result, "%s failed" % what)
    return result[0]


def write_synced(path, data):
    """Where it was refused: 0 nowhere, or an error and the call that gave it."""
    call = "open"
    try:
        fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    except OSError as problem:
        return problem.errno, call
    try:
        call, done = "write", 0
        while done < len(data):
            done += os.write(fd, data[done:])
        call = "fsync"
        os.fsync(fd)
        call = "close"
    except OSError as problem:
        return problem.errno, call
    finally:
        try:
            os.close(fd)
        except OSError:
            pass
    return 0, ""


def fill(top, prefix):
    for at in range(FILES_MAX):
        path = os.path.join(top, "%s%d" % (prefix, at))
        error, call = write_synced(path, random_bytes(SIZE, at))
        if error != 0:
            check(error == errno.ENOSPC, "%s: %s at %s" % (path, errno.errorcode[error], call))
            return at, call
        synced[path] = at
    check(False, "%d files fit" % FILES_MAX)
    return 0, ""


@case
def starts():
    global one, two, locked  # pylint: disable=global-statement
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)
    one, two = mounts.mount(FS), mounts.mount(FS)
    os.mkdir(os.path.join(one, "dir"))
    os.mkdir(os.path.join(one, "other"))
    open(os.path.join(one, "other", "unsynced"), "wb").close()
    os.mkdir(os.path.join(one, "locks"))
    locked = open(os.path.join(one, LOCKED), "wb")  # pylint: disable=consider-using-with
    fcntl.lockf(locked, fcntl.LOCK_EX)
    os.fsync(locked.fileno())


@case
def enospc_is_told_by_who_syncs():
    count, call = in_time("filling", lambda: fill(os.path.join(one, "dir"), "f"))
    print("     %d files of 4 MiB fit, then ENOSPC at %s" % (count, call))
    check(count > 10, "only %d files fit" % count)


@case
def enospc_is_told_without_a_sync_too():
    """Of writes that nobody syncs: by a later write or by close; never not at all while it is open. Of a file that was there before, since making
    one is refused, too, where a record of its folder was refused (after the last contents that fitted, if they ended just there)."""
    def write_and_close():
        fd = os.open(os.path.join(one, "other", "unsynced"), os.O_WRONLY)
        told = ""
        try:
            for _ in range(100):
                os.write(fd, bytes(range(256)) * 4096)
        except OSError as problem:
            told = "write %s" % errno.errorcode[problem.errno]
        try:
            os.close(fd)
        except OSError as problem:
            told += " close %s" % errno.errorcode[problem.errno]
        return told or "nothing"
    told = in_time("writing and closing", write_and_close)
    check("ENOSPC" in told and "ESTALE" not in told, "told was: %s" % told)
    print("     %s" % told)


@case
def who_only_reads_is_not_told():
    """Neither does it take the error from who wrote."""
    path = os.path.join(one, "other", "unsynced")

    def write_until_closing_fails(fd):
        for _ in range(100):
            try:
                os.write(fd, bytes(range(256)) * 4096)
                os.close(os.dup(fd))
            except OSError as problem:
                check(problem.errno == errno.ENOSPC, "told was: %s" % problem)
                try:
                    os.close(os.dup(fd))  # Who closes one of several copies is told, and leaves it to the others.
                except OSError:
                    return True
        return False

    def look():
        fd = os.open(path, os.O_WRONLY)
        try:
            check(write_until_closing_fails(fd), "ENOSPC is not told twice")
            os.close(os.open(path, os.O_RDONLY))
            try:
                os.fsync(fd)
            except OSError as problem:
                return check(problem.errno == errno.ENOSPC, "told was: %s" % problem) or True
            return False
        finally:
            try:
                os.close(fd)
            except OSError:
                pass
    check(in_time("writing, reading and syncing", look), "fsync told nothing")


@case
def a_lock_given_back_with_a_change_that_is_refused_is_free():
    """The change and the lock's end are one batch: the end is told once more, alone."""

    def refuse():
        call = "setxattr"
        try:
            fcntl.lockf(locked, fcntl.LOCK_UN)
            for at in range(40):
                os.setxattr(locked.fileno(), "user.%d" % at, bytes(1000))
            call = "fsync"
            os.fsync(locked.fileno())
        except OSError as problem:
            check(problem.errno == errno.ENOSPC, "told was: %s" % problem)
            return call
        return "nothing"
    call = in_time("changing", refuse)
    check(call == "fsync", "refused: %s" % call)

    def take():
        with open(os.path.join(two, LOCKED), "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
        return True
    in_time("taking the lock", take)
    locked.close()  # Not before: that gives its locks back, too.


@case
def what_was_synced_is_there_and_the_rest_works():
    def look():
        for path, at in synced.items():
            check(read_file(path.replace(one, two)) == random_bytes(SIZE, at), "%s differs" % path)
        return True
    in_time("reading", look)
    check(in_time("listing", lambda: len(os.listdir(os.path.join(two, "dir")))) >= len(synced), "names are missing")


@case
def a_new_mount_reads_and_removes():
    """Who looks is noted on OSDs, which have room for that when there is none for contents."""
    three = in_time("mounting", lambda: mounts.mount(FS))

    def look():
        for path, at in list(synced.items())[:5]:
            check(read_file(path.replace(one, three)) == random_bytes(SIZE, at), "%s differs" % path)
        return True
    in_time("reading", look)
    path = sorted(synced)[0]
    in_time("removing", lambda: os.unlink(path.replace(one, three)) or True)
    check(not os.path.exists(path.replace(one, two)), "it was removed")
    del synced[path]
    in_time("umount", lambda: mounts.umount(three) or True)


@case
def removing_makes_room():
    def remove():
        for path in synced:
            os.unlink(path)
        for folder in ("dir", "other"):  # What is left of those that were refused.
            for name in os.listdir(os.path.join(one, folder)):
                os.unlink(os.path.join(one, folder, name))
        return True
    in_time("removing", remove)
    synced.clear()
    path = os.path.join(two, "dir", "again")
    wait_until("room", lambda: in_time("writing again", lambda: write_synced(path, random_bytes(8 * MIB, 7)))[0] == 0, PATIENCE_SECONDS)
    check(in_time("reading", lambda: read_file(path.replace(two, one))) == random_bytes(8 * MIB, 7), "the contents")


@case
def nothing_is_wrong_in_the_end():
    for path in (one, two):
        in_time("umount", lambda path=path: mounts.umount(path) or True)
    report = mounts.check_clean(FS)
    check(report["damaged"] == 0, "%r" % report)
    succeeds(cluster.limpet("status"))


if __name__ == "__main__":
    run()
