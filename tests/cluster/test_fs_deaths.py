#!/usr/bin/env python3
"""Mounts that are killed at random moments, for LIMPET_SECONDS: another one goes on within 5 s, what was synced or is older than 5 s
is there, what was renamed or linked is there under one of its names, and nothing is damaged. LIMPET_SEED=N repeats a sequence."""

import fcntl
import os
import random
import signal
import subprocess
import sys
import time

from lib.cluster import SLOWNESS, Cluster, case, check, run
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
def others_go_on_and_miss_nothing():
    print("     LIMPET_SEED=%d repeats this" % SEED)
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)
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


if __name__ == "__main__":
    run()
