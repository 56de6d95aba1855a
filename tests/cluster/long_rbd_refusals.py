#!/usr/bin/env python3
"""What rbd and librbd refuse is refused with rbd's numbers: the session of tests/compat/rbd_refusals.py, recorded there."""

import os
import sys

from lib.cluster import BUILD, REPO, Cluster, case, check, read_file, run

sys.path.insert(0, os.path.join(REPO, "tests/compat"))
import rbd_refusals  # pylint: disable=wrong-import-position

cluster = Cluster(mons=1, osds=3)

# What lines are there, and here, and why. Words that are no command, option or value are 1 there, and EINVAL here.
LARGE = "more than an image can have is EFBIG"
UTF8 = "names are UTF-8, without '/' and '@', and have 255 bytes at most"
OWNER = "there the client that has the lock is asked to do it"
ORDER = "the same is wrong twice, and the other thing is told"
DIFFERENT = (
    ("create s --size 16E: 1", 27, LARGE),
    ("resize a --size 16E --no-progress: 1", 27, LARGE),
    (r"create s\xff --size 1M: 0", 22, UTF8),
    (r"snap create a@x\xff --no-progress: 0", 22, UTF8),
    (r"snap rm a@x\xff --no-progress: 0", 2, UTF8),
    (r"mv b x\xff: 0", 22, UTF8),
    (r"mv x\xff b: 0", 2, UTF8),
    (r"namespace create rbd/x\xff: 0", 22, UTF8),
    (r"namespace rm rbd/x\xff: 0", 22, UTF8),
    ("+ names  create 'a/b'...: ok", 22, UTF8),
    ("+ names  create 'a@b'...: ok", 22, UTF8),
    ("+ names  create 'xxxxx...: ok", 36, UTF8),
    ("+ names    and remove: ok", 2, UTF8),
    ("+ names    and remove: 36", 2, UTF8),
    ("+ names    and back: 17", 2, UTF8),
    ("+ limits plain  long snapshot: ok", 36, UTF8),
    ("+ limits plain  snapshot without name: ok", 22, UTF8),
    ("+ limits plain    removed: ok", 2, UTF8),
    ("clone a@s a: 22", 17, ORDER),
    ("rm a --no-progress: 16", 39, ORDER),
    ("flatten a --no-progress: 22", 30, ORDER),
    ("encryption format none luks2 @/raw: 2", 27, ORDER),
    ("+ two locked  second flattens: 22", 30, ORDER),
    ("snap purge a --no-progress: 0", 16, "a snapshot is left"),
    ("resize a --size 8M --no-progress: 22", 0, "it has this size; here that ends an interrupted resize"),
    ("trash mv watched: 0", 16, "it is open"),
    ("ls: 0; a b crypt empty held locked plain", "0; a b crypt empty held locked plain watched", "the same"),
    ("ls: 0; b crypt empty held locked plain", "0; b crypt empty held locked plain watched", "the same"),
    ("resize a --size 12M --no-progress: 0", 30, OWNER),
    ("feature disable a object-map,fast-diff,exclusive-lock: 0", 30, OWNER),
    ("+ two locked  second grows: ok", 30, OWNER),
    ("import @/empty i --no-progress: 25", 0, "an empty file is an empty image"),
    ("import @/empty i --export-format 2 --no-progress: 25", 33, "there no file is empty"),
    ("merge-diff @/raw @/d1 @/out --no-progress: 22", 74, "no difference, or a damaged one, is one error"),
    ("snap create plain@x --no-progress: 0", 122, "a limit of 0 snapshots allows none"),
    ("snap rm plain@x --no-progress: 0", 2, "the same"),
    ("group image rm g b: 0", 2, "it is not in the group"),
    ("+ two locked  second flushes: 30", "ok", "there is nothing to flush"),
    ("+ two locked  second writes: 30", 512, "there a handle that has been refused writes no more"),
    ("+ limits plain  resize 7fffffffffffffff: ok", 27, LARGE + "; the image is read-only from 2^40 objects on"),
    ("+ limits plain  resize 8000000000000000: ok", 27, LARGE),
    ("+ limits plain  resize ffffffffffffffff: ok", 27, LARGE),
    ("+ limits plain  size: 18446744073709551615", 0, "the same"),
    ("+ limits plain  read of -1: 1 bytes", 22, "the same"),
    ("+ limits plain  long metadata: ok", 27, "a value of 1 MiB"),
    ("+ limits plain  empty key: ok", 22, "a key without name"),
)


def flat(lines):
    """A line each, those of a call through Python with the call before them."""
    found, call = [], ""
    for line in lines:
        call = line if line.startswith("+ ") else call
        found.append(call + line if line.startswith("  ") else line)
    return [line for line in found if line]


@case
def starts():
    cluster.start()
    cluster.pool("rbd")
    cluster.pool("other")


@case
def what_is_refused_is_refused_with_the_same_numbers():
    os.environ.update(cluster.env, CEPH_CONF=cluster.conf)
    ours = flat(rbd_refusals.session(os.path.join(BUILD, "compat/bin/rbd"), os.path.join(BUILD, "lib/compat")))
    theirs = flat(read_file(os.path.join(REPO, "tests/compat/refusals-16.txt")).decode().splitlines())
    check(len(ours) == len(theirs), "another session was recorded: %d lines, not %d" % (len(ours), len(theirs)))
    known = {(there, "%s: %s" % (there.rsplit(": ", 1)[0] if ": 0; " not in there else there.split(": ")[0], here))
             for there, here, _why in DIFFERENT}
    differ = {(there, here) for there, here in zip(theirs, ours)
              if there != here and not (there.endswith(": 1") and here == there[:-1] + "22")}
    check(not differ - known, "%d lines differ:\n%s" % (len(differ - known), "\n".join("Ceph: %s\nLimpet: %s" % pair
                                                                                       for pair in sorted(differ - known))))
    check(not known - differ, "no longer different: %r" % sorted(known - differ))


if __name__ == "__main__":
    run()
