#!/usr/bin/env python3
"""Two mounts, for LIMPET_SECONDS: what one has done is what the other sees, in new folders and in old ones, whatever leases the
mounts have at that moment."""

import os
import random
import sys
import time

from lib.cluster import Cluster, case, check, run
from lib.mount import Mounts, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "coherent"
FAR = 2 ** 40
SECONDS = int(os.environ.get("LIMPET_SECONDS", "120"))
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
both = []


@case
def starts():
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)
    both.extend(mounts.mount(FS) for _ in range(2))


@case
def files_that_grow_in_new_folders():
    """The writer has just made the folder, the reader looks from the first moment on, and changes something now and then."""
    draw = random.Random(7)
    end, rounds, wrong = time.monotonic() + SECONDS, 0, []
    while time.monotonic() < end:
        rounds += 1
        writer, reader = draw.sample(both, 2)
        mine, theirs = os.path.join(writer, "d%d" % rounds), os.path.join(reader, "d%d" % rounds, "a")
        os.mkdir(mine)
        with open(os.path.join(mine, "a"), "wb") as file:
            file.write(b"begin")
            file.flush()
            os.ftruncate(file.fileno(), FAR)
            for at in range(draw.randrange(4)):
                if os.stat(theirs).st_size != FAR + at:
                    wrong.append("folder %d, write %d: %d, not %d" % (rounds, at, os.stat(theirs).st_size - FAR, at))
                os.pwrite(file.fileno(), b"x", FAR + at)
            if draw.random() < 0.5:
                os.chmod(theirs, 0o600)
            os.pwrite(file.fileno(), b"end", 100)
        if os.stat(theirs).st_size != os.stat(os.path.join(mine, "a")).st_size:
            wrong.append("folder %d, in the end" % rounds)
    check(rounds > 10 and not wrong, "%d of %d rounds: %s" % (len(wrong), rounds, "; ".join(wrong[:10])))


@case
def nothing_is_wrong_in_the_end():
    for path in both:
        mounts.umount(path)
    check(mounts.check_clean(FS)["damaged"] == 0, "it is damaged")


if __name__ == "__main__":
    run()
