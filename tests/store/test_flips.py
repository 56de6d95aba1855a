#!/usr/bin/env python3
"""One bit of a real store's data is flipped: the deep check finds it, and never is a wrong byte returned.

    test_flips.py [COUNT [SEED]]
"""

import os
import random
import re
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from store import OSD, Bench, Folder, arguments, fail, must, run  # noqa: E402

BLOCK = 4096


def used_blocks(store):
    """Numbers of the disk's blocks that objects map, after what the journal holds is in its place."""
    must([OSD, "--fsck", "--repair", "--data", store])
    blocks = []
    for extent in re.findall(r" \d+\+(\d+)@(\d+)", must([OSD, "store", "dump", "--data", store])):
        blocks.extend(range(int(extent[1]), int(extent[1]) + int(extent[0])))
    if not blocks:
        fail("the store holds no data")
    return blocks


def flip(path, at):
    with open(path, "r+b") as block:
        block.seek(at)
        value = block.read(1)[0]
        block.seek(at)
        block.write(bytes([value ^ (1 << random.randrange(8))]))


def one_flip(base, blocks, number):
    store = os.path.join(base, "store")
    copy = os.path.join(base, "copy")
    noted = os.path.join(base, "acknowledged")
    shutil.rmtree(copy, ignore_errors=True)
    must(["cp", "-a", "--sparse=always", "--reflink=auto", store, copy])
    at = random.choice(blocks) * BLOCK + random.randrange(BLOCK)
    flip(os.path.join(copy, "block"), at)
    check = run([OSD, "--fsck", "--deep", "--data", copy])
    bench = Bench(copy, noted + ".copy", "16K", seconds=0.01)
    right = bench.wait_verified()
    bench.process.wait()
    bench.kill()
    shutil.copy(noted, noted + ".copy")
    if check.returncode == 0:
        fail("flip %d of byte %d: the deep check does not find it" % (number, at))
    return right


def main():
    count = arguments() or 5
    with Folder() as base:
        noted = os.path.join(base, "acknowledged")
        bench = Bench(os.path.join(base, "store"), noted, "16K", seconds=3, disk="128M")
        bench.wait_verified()
        bench.process.wait()
        bench.kill()
        shutil.copy(noted, noted + ".copy")
        blocks = used_blocks(os.path.join(base, "store"))
        unread = sum(one_flip(base, blocks, number) for number in range(count))
    print("%d bits flipped: all found by the deep check, %d by reads too" % (count, count - unread))


if __name__ == "__main__":
    main()
