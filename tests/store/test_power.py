#!/usr/bin/env python3
"""Power cuts of real block devices: two loop devices on files of limpet-lossy-fs, one for `block`,
one with ext4 for the index. At a cut any part of what was not synced is lost, on both.

    test_power.py [COUNT [SEED]]
"""

import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from store import (BLOCK_SIZES, BUILD, Bench, Folder, arguments, fail, fsck, must,  # noqa: E402
                   run, skipped)

LOSSY = os.path.join(BUILD, "bin", "limpet-lossy-fs")


def make_file(path, mib):
    with open(path, "wb") as out:
        out.truncate(mib << 20)


def wait_for(condition, what):
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            fail("no " + what)
        time.sleep(0.02)


class Machine:
    """Two disks; `start` and `cut` may alternate."""

    def __init__(self, base):
        self.base = base
        self.files = [os.path.join(base, "block.disk"), os.path.join(base, "index.disk")]
        self.fuse = os.path.join(base, "fuse")
        self.mount = os.path.join(base, "ext4")
        self.data = os.path.join(base, "data")
        self.loops = []
        self.lossy = None
        make_file(self.files[0], 256)
        make_file(self.files[1], 256)
        for folder in (self.fuse, self.mount, self.data):
            os.mkdir(folder)

    def start(self, first=False):
        self.lossy = subprocess.Popen([LOSSY, str(random.getrandbits(32)), self.fuse] + self.files)
        shown = [os.path.join(self.fuse, os.path.basename(path)) for path in self.files]
        wait_for(lambda: os.path.exists(shown[1]), "file system")
        for path in shown:
            result = run(["losetup", "--find", "--show", path])
            if result.returncode != 0:
                return "losetup: " + result.stdout.strip()
            self.loops.append(result.stdout.strip())
        if first:
            must(["mkfs.ext4", "-q", "-E", "nodiscard", self.loops[1]])
        result = run(["mount", "-t", "ext4", self.loops[1], self.mount])
        if result.returncode != 0:
            return "mount: " + result.stdout.strip()
        for name in ("block", "index"):
            if os.path.islink(os.path.join(self.data, name)):
                os.unlink(os.path.join(self.data, name))
        os.symlink(self.loops[0], os.path.join(self.data, "block"))
        os.symlink(os.path.join(self.mount, "index"), os.path.join(self.data, "index"))
        if first:
            os.mkdir(os.path.join(self.mount, "index"))
        return None

    def cut(self, bench=None):
        """The disks die first, then whoever used them."""
        if self.lossy:
            self.lossy.send_signal(signal.SIGUSR1)
            if bench:
                time.sleep(0.2)
            self.lossy.send_signal(signal.SIGUSR1)
            # The next request finds the power gone; this one is such.
            run(["ls", "-l", self.fuse])
        if bench:
            bench.kill()
        run(["umount", self.mount])
        for loop in self.loops:
            run(["losetup", "-d", loop])
        self.loops = []
        end = time.monotonic() + 30
        while self.lossy and run(["umount", self.fuse]).returncode != 0:
            if time.monotonic() > end:
                fail("the file system is still in use")
            time.sleep(0.05)
        if self.lossy:
            self.lossy.wait()
        self.lossy = None

    def stop(self):
        """In order: everything is synced."""
        must(["umount", self.mount])
        for loop in self.loops:
            must(["losetup", "-d", loop])
        self.loops = []
        wait_for(lambda: run(["umount", self.fuse]).returncode == 0, "end of the file system")
        self.lossy.wait()
        self.lossy = None


def needed():
    if os.geteuid() != 0:
        return "needs root for loop devices"
    if not os.path.exists(LOSSY):
        return "limpet-lossy-fs was not built (libfuse3-dev)"
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(path, os.R_OK | os.W_OK):
            return "no " + path
    return None


def one_cut(machine, acknowledged, size, number, check):
    if check:
        fsck(machine.data)
    bench = Bench(machine.data, acknowledged, size, disk="256M")
    if not bench.wait_verified():
        text = bench.text()
        machine.cut(bench)
        fail("cut %d: the store is not right:\n%s" % (number, text))
    time.sleep(random.random() ** 2 * 2)
    machine.cut(bench)


def main():
    count = arguments() or 2
    reason = needed()
    if reason:
        skipped(reason)
    number = 0
    for size in BLOCK_SIZES[:count]:
        share = (count - number) // (len(BLOCK_SIZES[:count]) - BLOCK_SIZES.index(size))
        with Folder() as base:
            machine = Machine(base)
            acknowledged = os.path.join(base, "acknowledged")
            try:
                reason = machine.start(first=True)
                if reason:
                    skipped(reason)
                run([os.path.join(BUILD, "bin", "limpet-osd"), "store", "bench", "--help"])
                for n in range(share):
                    one_cut(machine, acknowledged, size, number, n > 0 and n % 3 == 0)
                    number += 1
                    reason = machine.start()
                    if reason:
                        fail("cut %d: %s" % (number, reason))
                last = Bench(machine.data, acknowledged, size, seconds=0.1)
                if not last.wait_verified():
                    fail("after the last cut: " + last.text())
                last.process.wait()
                last.kill()
                fsck(machine.data)
            finally:
                machine.cut()
    print("%d power cuts survived" % number)


if __name__ == "__main__":
    main()
