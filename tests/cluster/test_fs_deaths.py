#!/usr/bin/env python3
"""Mounts that are killed at random moments, for LIMPET_SECONDS: another one goes on within 5 s, what was synced or is older than 5 s
is there, what was renamed or linked is there under one of its names, and nothing is damaged. LIMPET_SEED=N repeats a sequence. And their ends: nothing of them stays behind, whatever they did."""

import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time

from lib.cluster import SLOWNESS, Cluster, case, check, command, folder, process_alive, run, succeeds, wait_until
from lib.mount import Mounts, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "deaths"
SECONDS = int(os.environ.get("LIMPET_SECONDS", "15"))
SEED = int(os.environ.get("LIMPET_SEED") or time.time_ns() % 1000000)
GO_ON_SECONDS = 5
OLD_SECONDS = 5
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)

# Works in a folder until its mount dies, and tells on stdout what it may rely on. Its files have names that are used once.
WORKER = r"""
import fcntl, os, random, sys, time
os.chdir(sys.argv[1])
draw, at, names = random.Random(int(sys.argv[2])), 0, []
def tell(*words):
    print(time.monotonic(), *words, flush=True)
while True:
    at += 1
    what = draw.randrange(10)
    if what < 4 or not names:
        name, size = "f%d" % at, draw.randrange(1, 30000)
        fd = os.open(name, os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(fd, bytes([at % 251 + 1]) * size)
        if draw.random() < 0.2:
            os.fsync(fd)
            tell("synced", name, size, at % 251 + 1)
        os.close(fd)
        tell("wrote", name, size, at % 251 + 1)
        names.append(name)
    elif what < 6:
        old, new = names.pop(draw.randrange(len(names))), "sub/r%d" % at
        tell("moves", old, new)
        os.rename(old, new)
    elif what < 7:
        old, new = draw.choice(names), "sub/l%d" % at
        os.link(old, new)
    elif what < 8:
        name = names.pop(draw.randrange(len(names)))
        tell("removes", name)
        os.unlink(name)
    elif what < 9:
        os.mkdir("d%d" % at)
        os.rename("d%d" % at, "sub/d%d" % at)
    else:
        with open("lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.utime("lock")
"""


def expectations(lines, died):
    """Of what was told: name -> (size, byte) that must be there; names it may have instead; those that may be gone."""
    sure, moved, gone = {}, {}, set()
    for line in lines:
        when, what, *words = line.split()
        if what == "synced" or (what == "wrote" and died - float(when) > OLD_SECONDS):
            sure[words[0]] = (int(words[1]), int(words[2]))
        elif what == "moves":
            moved[words[0]] = words[1]
        elif what == "removes":
            gone.add(words[0])
    return {name: found for name, found in sure.items() if name not in gone}, moved


def looks_like(path, size, byte):
    with open(path, "rb") as file:
        return file.read() == bytes([byte]) * size


def missing_of(top, sure, moved):
    wrong = []
    for name, (size, byte) in sure.items():
        places = [os.path.join(top, place) for place in (name, moved.get(name)) if place]
        found = [place for place in places if os.path.exists(place)]
        if len(found) != 1:
            wrong.append("%s has %d names" % (name, len(found)))
        elif not looks_like(found[0], size, byte):
            wrong.append("%s has other contents" % name)
    return wrong


def go_on(top):
    """What another mount has to wait for: names, contents, locks. The seconds."""
    begun = time.monotonic()
    os.listdir(top)
    with open(os.path.join(top, "new"), "wb") as file:
        file.write(b"new")
        os.fsync(file.fileno())
    with open(os.path.join(top, "lock"), "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
    os.rename(os.path.join(top, "new"), os.path.join(top, "sub", "new"))
    return time.monotonic() - begun


def one_round(at, draw, other):
    path = mounts.mount(FS)
    name = "d%d" % at
    top, there = os.path.join(path, name), os.path.join(other, name)
    os.makedirs(os.path.join(top, "sub"))
    with subprocess.Popen([sys.executable, "-c", WORKER, top, str(draw.randrange(1000000))], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as worker:
        lines = [worker.stdout.readline()]
        # The moment of the death is what is drawn.
        time.sleep(draw.choice([0.1, 0.5, 2, 8]) * draw.random())
        looks = draw.random() < 0.5 and os.listdir(there)
        server = mounts.server(path)
        died = time.monotonic()
        os.kill(server, signal.SIGKILL)
        waited = go_on(there)
        lines += worker.stdout.read().splitlines()
    mounts.umount(path, "--lazy")
    sure, moved = expectations([line for line in lines if len(line.split()) > 2], died)
    wrong = missing_of(there, sure, moved)
    print("     %2d: %5.2f s, %d told, %d must be there%s" % (at, waited, len(lines), len(sure), ", looked at" if looks else ""), flush=True)
    check(not wrong, "lost: %s" % "; ".join(wrong[:10]))
    return waited


@case
def starts():
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)


@case
def others_go_on_and_miss_nothing():
    print("     LIMPET_SEED=%d repeats this" % SEED)
    other, draw, at = mounts.mount(FS), random.Random(SEED), 0
    end, waited = time.monotonic() + SECONDS, []
    while time.monotonic() < end or at < 3:
        waited.append(one_round(at, draw, other))
        at += 1
    mounts.umount(other)
    check(max(waited) < GO_ON_SECONDS * SLOWNESS, "the longest wait was %.2f s" % max(waited))


@case
def changes_that_go_one_after_the_other_do_not_pile_up():
    """Links into another folder: each is several changes of two folders, which can be written back only in their order."""
    path, other = mounts.mount(FS), mounts.mount(FS)
    for name in ("from", "to"):
        os.mkdir(os.path.join(path, name))
        for at in range(10):
            os.mknod(os.path.join(path, name, "n%d" % at))
    made, end = [], time.monotonic() + OLD_SECONDS + 4
    while time.monotonic() < end:
        os.link(os.path.join(path, "from", "n0"), os.path.join(path, "to", "l%d" % len(made)))
        made.append(time.monotonic())
    died = time.monotonic()
    os.kill(mounts.server(path), signal.SIGKILL)
    there = set(os.listdir(os.path.join(other, "to")))
    old = sum(died - when > OLD_SECONDS for when in made)
    lost = [at for at in range(old) if "l%d" % at not in there]
    print("     %d links, %d of them old, %d are there" % (len(made), old, len(there) - 10))
    check(not lost, "%d of %d changes that are older than %d s are lost" % (len(lost), old, OLD_SECONDS))
    mounts.umount(path, "--lazy")
    mounts.umount(other)


@case
def nothing_is_wrong_in_the_end():
    report = mounts.check_clean(FS)
    check(report["damaged"] == 0, "%r" % report)


@case
def one_that_follows_its_caller_dies_at_once_on_a_busy_processor():
    """Its thread has the policy SCHED_IDLE then, and others' leases wait for its end."""
    path = mounts.mount(FS)
    server = mounts.server(path)
    os.kill(server, signal.SIGSTOP)  # So it stays as it is.
    os.sched_setscheduler(server, os.SCHED_IDLE, os.sched_param(0))
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * os.cpu_count())]
    try:
        died = time.monotonic()
        os.kill(server, signal.SIGKILL)
        wait_until("end of its threads", lambda: not process_alive(server) and threads_of(server) <= 1, 20)
        waited = time.monotonic() - died
    finally:
        for process in busy:
            process.kill()
            process.wait()
    print("     %.2f s" % waited)
    check(waited < 2 * SLOWNESS, "%.2f s" % waited)
    mounts.umount(path, "--lazy")


def threads_of(pid):
    try:
        return len(os.listdir("/proc/%d/task" % pid))
    except OSError:
        return 0


# ---- One that dies while it tells the kernel to drop pages ----

COPIES_OF_ONE = "one"
ROOT = "d.0000000000"


def primary(space, name):
    return json.loads(succeeds(cluster.limpet("osd", "map", COPIES_OF_ONE, name, space, "-f", "json")).text)["acting_primary"]


def file_apart_from_names(top):
    """A file whose contents are on another OSD than the names of the folder; that OSD. Whose names the mount has a lease of by now."""
    listed = [line.split("\t") for line in succeeds(cluster.rados("-p", COPIES_OF_ONE, "ls", "--all")).text.splitlines()]
    space = [space for space, name in listed if name == ROOT][0]
    wait_until("lease of the names", lambda: cluster.rados("-p", COPIES_OF_ONE, "-N", space, "listwatchers", ROOT).text, 10)
    for name in os.listdir(top):
        osd = primary(space, "f.%016x.%08x.%016x" % (os.stat(os.path.join(top, name)).st_ino, 0, 0))
        if osd != primary(space, ROOT):
            return os.path.join(top, name), "osd.%d" % osd
    return None


def stack_has(tid, word):
    try:
        with open("/proc/%s/stack" % tid, encoding="ascii") as file:
            return word in file.read()
    except OSError:
        return False  # It has ended.


def drops_pages(server):
    return any(stack_has(tid, "invalidate_inode_pages") for tid in os.listdir("/proc/%d/task" % server))


def watcher(server):
    """The process beside a mount's."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid, encoding="ascii", errors="replace") as file:
                name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if name == "limpet-fs-abort" and int(rest.split()[1]) == server:
            return int(pid)
    return None


def control_of(path):
    """The kernel's control file of a mount: one that is gone does nothing, and another mount may have its number by then."""
    there = folder()
    succeeds(command(["mount", "-t", "fusectl", "none", there]))
    control = os.open(os.path.join(there, str(os.minor(os.stat(path).st_dev)), "abort"), os.O_WRONLY)
    succeeds(command(["umount", "-l", there]))
    return control


def give_up(control):
    """What the kernel has of a mount: whoever waits for it ends, so that a failure leaves nothing behind."""
    os.write(control, b"1")
    os.close(control)


def dies_while_it_drops_pages(end):
    """A reader waits for an OSD that stands still, another mount wants the lease: end(server, path) is called then."""
    one, two = mounts.mount("%s/%s" % (COPIES_OF_ONE, FS)), mounts.mount("%s/%s" % (COPIES_OF_ONE, FS))
    for at in range(10):
        fd = os.open(os.path.join(one, "f%d" % at), os.O_CREAT | os.O_WRONLY)
        os.write(fd, bytes(256 << 10))
        os.fsync(fd)
        os.close(fd)
    path, osd = file_apart_from_names(one)
    server, control = mounts.server(one), control_of(one)
    os.kill(cluster.pid(osd), signal.SIGSTOP)
    try:
        with contextlib.ExitStack() as stack:
            reader = stack.enter_context(subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            processes = [reader]
            try:
                wait_until("a page is being read", lambda: stack_has(reader.pid, "folio_wait"), 20)
                other = stack.enter_context(subprocess.Popen(["chmod", "600", os.path.join(two, "f0")]))
                processes.append(other)
                wait_until("pages are to be dropped", lambda: drops_pages(server), 20)
                end(server, one)
                wait_until("end of the mount's process", lambda: not os.path.exists("/proc/%d" % server), 10)
                check(reader.wait(10 * SLOWNESS) != 0, "nobody answers the reader")
                check(other.wait(10 * SLOWNESS) == 0, "the other mount goes on")
            finally:
                os.kill(cluster.pid(osd), signal.SIGCONT)
                for process in processes:
                    process.kill()
                give_up(control)
    finally:
        mounts.umount(two)
        command(["umount", "-l", one])
        mounts.paths.clear()
    mounts.check_clean("%s/%s" % (COPIES_OF_ONE, FS))


@case
def one_that_is_killed_while_pages_are_dropped_goes_away():
    succeeds(cluster.limpet("pool", "create", COPIES_OF_ONE, "--size", "1", "--min-size", "1"))
    succeeds(cluster.limpet("osd", "set", "nodown"))
    mounts.create("%s/%s" % (COPIES_OF_ONE, FS))
    dies_while_it_drops_pages(lambda server, _: os.kill(server, signal.SIGKILL))


@case
def so_does_one_that_fails():
    dies_while_it_drops_pages(lambda server, _: os.kill(server, signal.SIGABRT))


@case
def so_does_one_that_is_killed_with_all_its_processes_when_it_is_unmounted():
    def end(server, path):
        beside = watcher(server)
        check(beside is not None, "a process is beside the mount")
        for pid in (beside, server):
            os.kill(pid, signal.SIGKILL)
        wait_until("end of its first thread", lambda: not process_alive(server), 10)
        mounts.umount(path, "--lazy")
    dies_while_it_drops_pages(end)


if __name__ == "__main__":
    run()
