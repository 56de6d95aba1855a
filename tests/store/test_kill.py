#!/usr/bin/env python3
"""kill -9 of a store that writes, at random moments; then all that it acknowledged must be there.

    test_kill.py [COUNT [SEED]]
"""

import os
import random
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from store import BLOCK_SIZES, Bench, Folder, arguments, fail, fsck  # noqa: E402


def main():
    count = arguments() or 10
    with Folder() as base:
        for n in range(count):
            size = BLOCK_SIZES[n * len(BLOCK_SIZES) // count]
            folder = os.path.join(base, size)
            bench = Bench(folder, os.path.join(base, size + ".acknowledged"), size)
            if not bench.wait_verified():
                fail("kill %d: the store is not right:\n%s" % (n, bench.text()))
            # Moments are what is random here: nothing marks them.
            time.sleep(random.random() ** 2 * 1.5)
            bench.kill()
            if n % 10 == 9 or n == count - 1:
                fsck(folder)
            if n + 1 < count and BLOCK_SIZES[(n + 1) * len(BLOCK_SIZES) // count] == size:
                continue
            last = Bench(folder, os.path.join(base, size + ".acknowledged"), size, seconds=0.1)
            if not last.wait_verified():
                fail("after the last kill: %s" % last.text())
            last.process.wait()
            last.kill()
            fsck(folder)
    print("%d kills survived" % count)


if __name__ == "__main__":
    main()
