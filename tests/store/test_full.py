#!/usr/bin/env python3
"""The file system under a store's `block` fills up while the store writes: it stops and says why, and
once there is room again everything that was acknowledged is there.

    test_full.py
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from store import Bench, Folder, fail, fsck, must, run, skipped  # noqa: E402

ENOSPC_WORDS = "No space left on device"


def life(base, disk, seconds):
    """One run of a store that would grow beyond the file system. Returns it, ended."""
    return Bench(os.path.join(disk, "store"), os.path.join(base, "acknowledged"), "4M",
                 seconds=seconds, disk="512M", options=["--sparse"])


def main():
    if os.geteuid() != 0:
        skipped("mounting needs root")
    with Folder() as base:
        disk = os.path.join(base, "disk")
        os.mkdir(disk)
        if run(["mount", "-t", "tmpfs", "-o", "size=160M", "tmpfs", disk]).returncode != 0:
            skipped("no file system can be mounted here")
        try:
            bench = life(base, disk, 600)
            bench.process.wait(120)
            if bench.process.returncode == 0 or ENOSPC_WORDS not in bench.text():
                fail("exit status %d, and no word of the full file system:\n%s"
                     % (bench.process.returncode, bench.text()))
            must(["mount", "-o", "remount,size=900M", disk])
            fsck(os.path.join(disk, "store"))
            bench = life(base, disk, 1)
            if not bench.wait_verified():
                fail("something acknowledged is missing:\n" + bench.text())
            bench.process.wait()
            bench.kill()
        finally:
            # Lazily: the kernel may still be taking the store's last requests apart.
            must(["umount", "--lazy", disk])
    print("the store said so, and lost nothing")


if __name__ == "__main__":
    main()
