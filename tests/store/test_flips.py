#!/usr/bin/env python3
"""One bit of a real store's `block` is flipped: reads and the deep check find it, unless nothing uses
the bit. Never is a wrong byte returned.

    test_flips.py [COUNT [SEED]]
"""

import os
import random
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from store import OSD, Bench, Folder, arguments, fail, must, run  # noqa: E402

BLOCK = 4096


def used_byte(path):
    """A byte that is not zero: of a superblock, the journal, or the data."""
    size = os.path.getsize(path)
    journal = 1 << 20
    first, last = random.choice(((0, 2 * BLOCK), (journal, 33 << 20), (33 << 20, size),
                                 (33 << 20, size)))
    with open(path, "rb") as block:
        for _ in range(5000):
            at = random.randrange(first, last)
            block.seek(at)
            value = block.read(1)
            if value != b"\0":
                return at, value[0]
    return first, 0


def flip(path, at, value):
    with open(path, "r+b") as block:
        block.seek(at)
        block.write(bytes([value]))


def one_flip(base, number):
    store = os.path.join(base, "store")
    copy = os.path.join(base, "copy")
    noted = os.path.join(base, "acknowledged")
    shutil.rmtree(copy, ignore_errors=True)
    must(["cp", "-a", "--sparse=always", "--reflink=auto", store, copy])
    at, value = used_byte(os.path.join(copy, "block"))
    bit = 1 << random.randrange(8)
    flip(os.path.join(copy, "block"), at, value ^ bit)
    check = run([OSD, "--fsck", "--deep", "--data", copy])
    bench = Bench(copy, noted + ".copy", "16K", seconds=0.01)
    right = bench.wait_verified()
    bench.process.wait()
    bench.kill()
    shutil.copy(noted, noted + ".copy")
    if not right and check.returncode == 0:
        fail("flip %d of byte %d: a read finds damage and the deep check does not" % (number, at))
    return check.returncode != 0, right


def main():
    count = arguments() or 5
    with Folder() as base:
        noted = os.path.join(base, "acknowledged")
        bench = Bench(os.path.join(base, "store"), noted, "16K", seconds=3, disk="128M")
        bench.wait_verified()
        bench.process.wait()
        bench.kill()
        shutil.copy(noted, noted + ".copy")
        found = harmless = 0
        for number in range(count):
            detected, right = one_flip(base, number)
            found += detected
            harmless += not detected and right
    print("%d bits flipped: %d found, %d in unused places" % (count, found, harmless))


if __name__ == "__main__":
    main()
