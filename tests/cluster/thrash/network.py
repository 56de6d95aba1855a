"""Hosts on one machine: network namespaces, joined by a bridge, whose links can be cut.

The whole test runs in namespaces of its own (network, mounts, processes), which enter() makes; so nothing
of it is seen outside, runs do not meet, and all of it is gone when its first process ends, however it
does.

What passes a host's link passes the host's port of the bridge. Filters there drop packets without a word
to the sender, each way alone, to and from everybody or one other host.
"""

import ipaddress
import os
import shutil
import subprocess
import sys

from lib import own_mounts

INSIDE = "LIMPET_THRASH_INSIDE"
SUBNET = "10.77.0."
BRIDGE = "br0"
TOOLS = ("ip", "tc", "unshare", "mount")
# The programs of cBPF: let everything pass is no filter at all; "6 0 0 2" answers TC_ACT_SHOT.
DROP_ALL = "1,6 0 0 2"
# Word at 30 of a frame is the destination of an IPv4 packet. 4294967295 is TC_ACT_UNSPEC: go on.
DROP_TO = "4,32 0 0 30,21 0 1 %d,6 0 0 2,6 0 0 4294967295"


def run(*argv):
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise OSError("%s: %s" % (" ".join(argv), result.stderr.strip() or result.returncode))
    return result.stdout


def unshare_command():
    argv = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        argv += ["--user", "--map-root-user"]
    return argv


def why_impossible():
    """None where namespaces, bridges and filters can be made; else what is missing."""
    for tool in TOOLS:
        if not shutil.which(tool):
            return "no program '%s'" % tool
    script = ("mount -t tmpfs tmpfs /run && ip netns add a && ip link add br0 type bridge"
              " && ip link add p type veth peer name q netns a && tc qdisc add dev p clsact"
              " && tc filter add dev p ingress bpf da bytecode '%s'" % DROP_ALL)
    result = subprocess.run(unshare_command() + ["sh", "-c", script], capture_output=True, text=True,
                            check=False)
    return None if result.returncode == 0 else result.stderr.strip() or "unshare fails"


def enter():
    """Becomes the process that waits for another, which is this program again, inside the namespaces."""
    os.environ[INSIDE] = "1"
    argv = unshare_command() + [sys.executable, "-B", own_mounts.__file__, sys.executable, "-B"] + sys.argv
    os.execvp(argv[0], argv)


class Network:
    def __init__(self, hosts):
        self.hosts = list(hosts)
        self.dropped = {host: set() for host in hosts}  # ("in"|"out", other host or None)
        # Names of network namespaces are files there.
        run("mount", "-t", "tmpfs", "tmpfs", "/run")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "link", "set", BRIDGE, "up")
        for host in hosts:
            self.add_host(host)

    def add_host(self, host):
        run("ip", "netns", "add", host)
        run("ip", "link", "add", self.port(host), "type", "veth", "peer", "name", "eth0", "netns", host)
        run("ip", "link", "set", self.port(host), "master", BRIDGE, "up")
        run("ip", "-n", host, "addr", "add", self.address(host) + "/24", "dev", "eth0")
        run("ip", "-n", host, "link", "set", "lo", "up")
        run("ip", "-n", host, "link", "set", "eth0", "up")
        run("tc", "qdisc", "add", "dev", self.port(host), "clsact")

    def address(self, host):
        return SUBNET + str(10 + self.hosts.index(host))

    @staticmethod
    def port(host):
        return "port-" + host

    @staticmethod
    def inside(host):
        """What to put before a command that is to run on a host."""
        return ["ip", "netns", "exec", host]

    # Faults

    def carrier(self, host, there):
        run("ip", "link", "set", self.port(host), "up" if there else "down")

    def drop(self, host, way, other=None):
        """Loses what the host sends ("out") or is sent ("in"); to one other host only ("out")."""
        self.dropped[host].add((way, other))
        self.apply(host)

    def restore(self, host, way, other=None):
        self.dropped[host].discard((way, other))
        self.apply(host)

    def restore_all(self):
        for host in self.hosts:
            self.dropped[host].clear()
            self.apply(host)
            self.carrier(host, True)

    def apply(self, host):
        port = self.port(host)
        for way, hook in (("out", "ingress"), ("in", "egress")):
            run("tc", "filter", "del", "dev", port, hook)
            for there, other in sorted(self.dropped[host], key=str):
                if there != way:
                    continue
                if other is None:
                    program, protocol = DROP_ALL, "all"
                else:
                    program = DROP_TO % int(ipaddress.IPv4Address(self.address(other)))
                    protocol = "ip"
                run("tc", "filter", "add", "dev", port, hook, "protocol", protocol, "bpf", "da",
                    "bytecode", program)
