#!/usr/bin/env python3
"""Strangers on every port: garbage, truncated and oversized input, floods of connections. The daemons
go on serving, in the same processes, and their memory stays where it was."""

import os
import random
import socket
import subprocess
import time

from lib.cluster import (BIN, SANITIZED, Cluster, case, check, process_rss_mib, random_bytes, run,
                         wait_until)

MIB = 1024 * 1024
GROWTH_MIB = 300 if SANITIZED else 40

cluster = Cluster(mons=3, osds=3)
before = {}
rss = {}
ports = {}
files = {}
hello = b""


def every_port():
    return [(name, port) for name in cluster.names() for port in ports[name]]


def connect(port):
    stranger = socket.create_connection(("127.0.0.1", port), timeout=10)
    stranger.settimeout(10)
    return stranger


def send(stranger, data):
    """A daemon may hang up at any point of what it is sent."""
    try:
        stranger.sendall(data)
        return True
    except OSError:
        return False


def drain(stranger):
    """Reads until the daemon hangs up or has nothing more to say for a moment."""
    stranger.settimeout(0.2)
    try:
        while stranger.recv(65536):
            pass
    except OSError:
        pass


def talk(port, data):
    with connect(port) as stranger:
        if send(stranger, data):
            drain(stranger)


def still_serving():
    cluster.check_same_processes(before)
    cluster.put("data", "probe", b"probe")
    check(cluster.get("data", "probe") == b"probe", "the cluster does not serve")
    for name, pid in before.items():
        now = process_rss_mib(pid)
        check(now < rss[name] + GROWTH_MIB, "%s grew from %.0f to %.0f MiB" % (name, rss[name], now))


@case
def starts_healthy():
    cluster.start()
    cluster.pool("data")
    cluster.put("data", "warm", random_bytes(4 * MIB, "warm"))
    for name, pid in cluster.pids().items():
        before[name] = pid
        files[name] = descriptors(name)
        rss[name] = process_rss_mib(pid)
        ports[name] = cluster.ports(name)
        check(ports[name], "%s listens on no port" % name)


@case
def records_how_a_real_client_begins():
    global hello
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(20)
        address = "127.0.0.1:%d" % listener.getsockname()[1]
        client = subprocess.Popen(
            [BIN + "/limpet", "--conf", cluster.conf, "--mon-host", address, "--connect-timeout", "3",
             "status"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(5)
            hello = peer.recv(65536)
        client.wait(60)
    check(len(hello) >= 16, "the client sent %d bytes" % len(hello))
    check(client.returncode != 0, "a client was content with a stranger as its monitor")


@case
def garbage():
    for name, port in every_port():
        for number in range(20):
            talk(port, random_bytes(1 + number * number * 97, "%s %d" % (name, number)))
    still_serving()


@case
def connections_that_say_nothing():
    held = [connect(port) for _, port in every_port() for _ in range(50)]
    still_serving()
    for stranger in held:
        stranger.close()
    still_serving()


@case
def truncated_beginnings():
    for _, port in every_port():
        for size in range(0, len(hello), max(1, len(hello) // 40)):
            with connect(port) as stranger:
                send(stranger, hello[:size])
    still_serving()


@case
def altered_beginnings():
    generator = random.Random(1)
    for _, port in every_port():
        for _ in range(60):
            altered = bytearray(hello)
            for _ in range(generator.randint(1, 4)):
                altered[generator.randrange(len(altered))] = generator.randrange(256)
            with connect(port) as stranger:
                send(stranger, bytes(altered) + generator.randbytes(200))
    still_serving()


@case
def lengths_of_four_gigabytes():
    """Wherever a length may stand in what a stranger sends, it says the most it can."""
    for _, port in every_port():
        for offset in range(0, min(len(hello), 64) - 4, 2):
            altered = bytearray(hello)
            altered[offset:offset + 4] = b"\xff\xff\xff\xff"
            with connect(port) as stranger:
                send(stranger, bytes(altered) + b"\xff" * 4096)
    still_serving()


@case
def endless_streams():
    block = b"\0" * MIB
    for _, port in every_port():
        for start in (b"", hello):
            with connect(port) as stranger:
                send(stranger, start)
                for _ in range(64):
                    if not send(stranger, block):
                        break
    still_serving()


@case
def replayed_beginnings_prove_nothing():
    """A recorded beginning, sent again, gets at most the answer that a stranger gets: after it, the
    daemon takes nothing that is not proven."""
    for name, port in every_port():
        with connect(port) as stranger:
            send(stranger, hello)
            drain(stranger)
            send(stranger, random_bytes(100000, "replay"))
            stranger.settimeout(15)
            try:
                while stranger.recv(65536):
                    pass
            except socket.timeout:
                check(False, "%s keeps a connection that proved nothing" % name)
            except OSError:
                pass
    still_serving()


@case
def strangers_are_sent_away():
    """Silent connections do not stay for ever."""
    held = [(name, connect(port)) for name, port in every_port()]
    deadline = time.monotonic() + 60
    for name, stranger in held:
        stranger.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            while stranger.recv(4096):
                pass
        except socket.timeout:
            check(False, "%s keeps a silent stranger for a minute" % name)
        except OSError:
            pass
        stranger.close()


@case
def nothing_is_left_behind():
    cluster.wait_healthy()
    still_serving()
    # The probe's own connections may still be closing.
    wait_until("strangers' connections are closed", lambda: all(
        descriptors(name) <= files[name] for name in cluster.names()), 30)


def descriptors(name):
    return len(os.listdir("/proc/%d/fd" % cluster.pid(name)))


if __name__ == "__main__":
    run()
