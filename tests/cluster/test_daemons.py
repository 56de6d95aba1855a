#!/usr/bin/env python3
"""Daemons that must refuse to start, or to be believed: foreign data, taken ports, wrong keys."""

import errno
import os
import re
import shutil
import socket
import subprocess

from lib.cluster import (BIN, Cluster, case, check, fails, folder, read_file, run, succeeds, wait_until,
                         write_file)

cluster = Cluster(mons=1, osds=3)
other = Cluster(mons=1, osds=1)
scratch = folder()


def edited(name, *changes, base=None):
    text = read_file((base or cluster).conf).decode()
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        check(count > 0, "%s is not in limpet.conf" % pattern)
    # Refused daemons must not touch the logs and pid files of those that run.
    text = re.sub(r"^pid file = .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^log file = .+$", "log file = %s/$name.log" % scratch, text, flags=re.MULTILINE)
    return write_file(os.path.join(scratch, name), text.encode())


def refused(name, error, *words, conf=None, options=()):
    """The daemon ends by itself soon, with one line."""
    result = cluster.daemon(name, *options, conf=conf, timeout=30)
    return fails(result, error, *words)


@case
def two_clusters_start():
    cluster.start()
    other.start()
    cluster.pool("data")
    cluster.put("data", "there", b"something")


@case
def port_in_use():
    host, port = re.search(r"^mon host = ([0-9.]+):(\d+)$", read_file(cluster.conf).decode(),
                           re.MULTILINE).groups()
    cluster.kill("mon.a")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, int(port)))
        taken.listen()
        refused("mon.a", errno.EADDRINUSE, port, conf=edited("port.conf"))
        result = cluster.dev("start")
        check(result.code != 0 and "mon.a" in result.err and port in result.err,
              "deploy/dev does not say which port is taken: %s" % result)
    cluster.start()
    cluster.wait_healthy()


@case
def a_daemon_that_runs_already():
    for name in ("mon.a", "osd.0"):
        refused(name, errno.EBUSY, str(cluster.pid(name)), conf=edited("again.conf"))
    cluster.wait_healthy()


@case
def data_of_another_cluster():
    other.kill("osd.0")
    foreign = edited("foreign.conf", (r"^osd data = .*$", "osd data = %s/osd.0" % other.path))
    refused("osd.0", errno.EXDEV, "osd.0", conf=foreign)
    other.kill("mon.a")
    foreign = edited("foreign-mon.conf", (r"^mon data = .*$", "mon data = %s/mon.a" % other.path))
    refused("mon.a", errno.EXDEV, "mon.a", conf=foreign)
    other.start()


@case
def data_of_another_osd():
    cluster.kill("osd.1")
    wrong = edited("wrong-id.conf", (r"^osd data = .*$", "osd data = %s/osd.1" % cluster.path))
    refused("osd.2", (errno.EINVAL, errno.EEXIST), "osd.1", conf=wrong)
    cluster.start_daemon("osd.1")
    cluster.wait_healthy()


@case
def no_data_at_all():
    empty = os.path.join(scratch, "empty")
    os.mkdir(empty)
    conf = edited("empty.conf", (r"^osd data = .*$", "osd data = " + empty),
                  (r"^mon data = .*$", "mon data = " + empty))
    refused("osd.0", (errno.ENOENT, errno.EINVAL), "mkfs", conf=conf)
    refused("mon.a", (errno.ENOENT, errno.EINVAL), "mkfs", conf=conf)
    absent = edited("absent.conf", (r"^osd data = .*$", "osd data = %s/absent" % scratch),
                    (r"^mon data = .*$", "mon data = %s/absent" % scratch))
    refused("osd.0", errno.ENOENT, "absent", conf=absent)
    refused("mon.a", errno.ENOENT, "absent", conf=absent)


@case
def mkfs_does_not_overwrite():
    for name in ("mon.a", "osd.0"):
        refused(name, errno.EBUSY, name, options=("--mkfs",), conf=edited("mkfs.conf"))
        cluster.kill(name)
        refused(name, errno.EEXIST, name, options=("--mkfs",), conf=edited("mkfs.conf"))
        cluster.start_daemon(name)
    cluster.wait_healthy()
    check(cluster.get("data", "there") == b"something", "data were lost to mkfs")


@case
def unknown_options():
    refused("mon.a", errno.EINVAL, "frobnicate", options=("--frobnicate",))
    refused("osd.0", errno.EINVAL, "frobnicate", options=("--frobnicate",))
    result = cluster.daemon("osd.0", conf=os.path.join(scratch, "no-such.conf"))
    fails(result, errno.ENOENT, "no-such.conf")


@case
def an_osd_with_a_wrong_key():
    """It cannot take part: it says why, and the cluster does not believe it."""
    keyring = os.path.join(scratch, "keyring")
    shutil.copy(cluster.keyring, keyring)
    succeeds(cluster.limpet("keyring", "create", "--gen-key", "-n", "osd.1", "--cap", "mon",
                            "profile osd", "--cap", "osd", "allow *", keyring))
    cluster.kill("osd.1")
    wait_until("osd.1 down", lambda: cluster.status()["osdmap"]["num_up_osds"] == 2, 30)
    conf = edited("wrong-key.conf", (r"^keyring = .*$", "keyring = " + keyring))
    refused("osd.1", errno.EACCES, "osd.1", conf=conf)
    check(cluster.status()["osdmap"]["num_up_osds"] == 2, "an OSD with a wrong key came up")
    no_key = edited("no-key.conf", (r"^keyring = .*$", "keyring = " + os.path.join(scratch, "none")))
    refused("osd.1", errno.ENOENT, "keyring", conf=no_key)
    cluster.start_daemon("osd.1")
    cluster.wait_healthy()


@case
def a_monitor_with_a_wrong_key():
    """A follower whose mon. key is another one cannot take part, and the others go on without it."""
    quorum = Cluster(mons=3, osds=1)
    quorum.start()
    keyring = os.path.join(scratch, "mon-keyring")
    shutil.copy(quorum.keyring, keyring)
    succeeds(quorum.limpet("keyring", "create", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *",
                           keyring))
    leader = quorum.leader()
    victim = next(name for name in ("mon.a", "mon.b") if name != leader)
    quorum.kill(victim)
    shutil.rmtree(os.path.join(quorum.path, victim))
    os.mkdir(os.path.join(quorum.path, victim))
    conf = edited("mon-key.conf", (r"^keyring = .*$", "keyring = " + keyring), base=quorum)
    succeeds(quorum.daemon(victim, "--mkfs", conf=conf))
    impostor = subprocess.Popen(
        [os.path.join(BIN, "limpet-mon"), "--id", victim.split(".")[1], "--conf", conf],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    def two():
        names = quorum.status()["quorum_names"]
        return len(names) == 2 and victim.split(".")[1] not in names
    try:
        quorum.pool("data")
        wait_until("a quorum without the one that was killed", two, 30)
        for number in range(5):
            quorum.put("data", "object-%d" % number, b"x")
        check(two(), "quorum: %r" % quorum.status()["quorum_names"])
    finally:
        impostor.kill()
        said = impostor.communicate()[1].decode()
        said += read_file(os.path.join(scratch, victim + ".log")).decode()
    check("key" in said or "authentic" in said or "denied" in said, "it does not say why: %r" % said)
    quorum.destroy()


@case
def both_clusters_are_unharmed():
    cluster.wait_healthy()
    other.wait_healthy()
    check(cluster.get("data", "there") == b"something", "an object changed")


if __name__ == "__main__":
    run()
