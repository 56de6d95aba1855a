"""A tgtd of one's own, with a port and a control socket of its own, and our librados and librbd; and libiscsi's tests of
targets."""

import os
import shutil
import socket
import subprocess
import xml.etree.ElementTree as xml

from lib.cluster import at_end, check, command, folder, read_file, succeeds, wait_until
from lib.librados import environment

NAME = "iqn.2026-11.limpet:"


def missing():
    """What is not installed; "" when nothing is."""
    for program, package in (("tgtd", "tgt"), ("iscsi-test-cu", "libiscsi-bin")):
        if shutil.which(program) is None:
            return "the package " + package
    return "" if os.path.exists("/usr/lib/tgt/backing-store/bs_rbd.so") else "the package tgt-rbd"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Tgt:
    def __init__(self, cluster):
        self.port = free_port()
        self.path = folder()
        self.env = {"TGT_IPC_SOCKET": os.path.join(self.path, "socket")}
        self.targets = []
        with open(os.path.join(self.path, "log"), "wb") as log:
            self.process = subprocess.Popen(["tgtd", "-f", "--iscsi", "portal=127.0.0.1:%d" % self.port], stdout=log, stderr=log,
                                            env=dict(os.environ, **environment(cluster), **self.env))
        at_end(self.end)
        wait_until("tgtd answers", self.answers, 60)

    def log(self):
        return read_file(os.path.join(self.path, "log")).decode(errors="replace")

    def answers(self):
        check(self.process.poll() is None, "tgtd has ended: " + self.log())
        return self.call("--op", "show", "--mode", "target").code == 0

    def call(self, *words):
        return command(["tgtadm", "--lld", "iscsi"] + list(words), env=self.env)

    def target(self, name, *store):
        """A target of one unit; its URL."""
        number = str(len(self.targets) + 1)
        succeeds(self.call("--op", "new", "--mode", "target", "--tid", number, "-T", NAME + name))
        self.targets.append(number)
        unit = self.call("--op", "new", "--mode", "logicalunit", "--tid", number, "--lun", "1", *store)
        check(unit.code == 0, "%s\n%s" % (unit, self.log()))
        succeeds(self.call("--op", "bind", "--mode", "target", "--tid", number, "-I", "ALL"))
        return "iscsi://127.0.0.1:%d/%s%s/1" % (self.port, NAME, name)

    def libraries(self):
        """What the daemon has loaded."""
        with open("/proc/%d/maps" % self.process.pid, encoding="utf-8") as file:
            return {line.split()[5] for line in file if len(line.split()) > 5 and ".so" in line}

    def end(self):
        """It does not end by a signal, nor while it has targets."""
        for number in self.targets:
            self.call("--op", "delete", "--force", "--mode", "target", "--tid", number)
        self.call("--op", "delete", "--mode", "system")
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


# tgt makes a durable write of one block for each block that WRITE SAME names, 65,535 of them: minutes.
SLOW = ("WriteSame10", "WriteSame16")


def suites():
    """Those of iscsi-test-cu, without the slow ones."""
    lines = command(["iscsi-test-cu", "--list"]).text.splitlines()
    names = [line.split(".")[1] for line in lines if line.startswith("ALL.") and line.count(".") == 1]
    return [name for name in names if name not in SLOW]


def conformance(url, only):
    """{(suite, test): passed} of what iscsi-test-cu ran of some suites, or of one test of a suite."""
    found = {}
    for name in only:
        path = folder()
        done = command(["iscsi-test-cu", "--dataloss", "--xml", "--test", "ALL." + name, url], cwd=path, timeout=200)
        results = os.path.join(path, "CUnitAutomated-Results.xml")
        check(os.path.exists(results), "no results: %s" % done)
        for record in xml.fromstring(read_file(results)).iter("CUNIT_RUN_SUITE"):
            take_results(record, found)
    return found


def take_results(record, found):
    for suite in record.iter("SUITE_NAME"):
        for way in ("CUNIT_RUN_TEST_SUCCESS", "CUNIT_RUN_TEST_FAILURE"):
            for test in record.iter(way):
                key = suite.text.strip(), next(test.iter("TEST_NAME")).text.strip()
                found[key] = way.endswith("SUCCESS") and found.get(key, True)
