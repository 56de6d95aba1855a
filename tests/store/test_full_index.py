#!/usr/bin/env python3
"""The file system under a store's index fills up. Nearly full: overwriting goes on, new objects are refused. Full to the
last byte: the store stops and says why. With room again everything that was acknowledged is there.

    test_full_index.py
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from store import Bench, Folder, fail, fsck, must, run, skipped  # noqa: E402

MIB = 1 << 20


class Hog:
    """A file that leaves so much of a file system."""

    def __init__(self, folder):
        self.folder = folder
        self.path = os.path.join(folder, "hog")

    def leave(self, left):
        space = os.statvfs(self.folder)
        with open(self.path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - left)

    def go(self):
        os.unlink(self.path)


def life(base, seconds, name="acknowledged"):
    return Bench(os.path.join(base, "store"), os.path.join(base, name), "4K", seconds=seconds)


def ended(bench):
    bench.process.wait(120)
    return bench.process.returncode, bench.text()


def runs(base, what):
    code, text = ended(life(base, 1))
    if code != 0 or ": 0 wrong" not in text:
        fail("%s: exit status %d\n%s" % (what, code, text))


def stops(bench, words, what):
    code, text = ended(bench)
    if code == 0 or words not in text:
        fail("%s: exit status %d, and no word of %r:\n%s" % (what, code, words, text))
    return text


def check(base, index):
    store = os.path.join(base, "store")
    hog = Hog(index)
    runs(base, "a new store")
    hog.leave(6 * MIB)
    runs(base, "overwriting while the index is short of space")
    # Another list of objects: none of them is there yet.
    text = stops(Bench(store, os.path.join(base, "others"), "4K", seconds=60,
                       options=["--objects", "100000"]),
                 "No space left on device", "new objects while the index is short of space")
    if "store failed" in text:
        fail("it ran into the end of the file system:\n" + text)
    hog.go()
    bench = life(base, 600)
    if not bench.wait_verified():
        fail("with space again: " + bench.text())
    hog.leave(64 * 1024)
    stops(bench, "the file system of the index is full", "a full index")
    hog.go()
    runs(base, "with space again")
    fsck(store)


def main():
    if os.geteuid() != 0:
        skipped("mounting needs root")
    with Folder() as base:
        index = os.path.join(base, "store", "index")
        os.makedirs(index)
        if run(["mount", "-t", "tmpfs", "-o", "size=96M", "tmpfs", index]).returncode != 0:
            skipped("no file system can be mounted here")
        try:
            check(base, index)
        finally:
            must(["umount", "--lazy", index])
    print("the store said so, and lost nothing")


if __name__ == "__main__":
    main()
