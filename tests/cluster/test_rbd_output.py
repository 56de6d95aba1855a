#!/usr/bin/env python3
"""What the program rbd writes, plain and as JSON, is what Ceph's writes: the session of tests/compat/rbd_session.py, recorded there."""

import os
import sys

from lib.cluster import BUILD, REPO, Cluster, case, check, read_file, run

sys.path.insert(0, os.path.join(REPO, "tests/compat"))
import rbd_session  # pylint: disable=wrong-import-position

cluster = Cluster(mons=1, osds=3)

# Commands that write something else here, and why.
DIFFERENT = {
    "rbd snap purge a --no-progress": "status 0 although a snapshot was left; here EBUSY",
    "rbd snap purge deep --no-progress": "the same",
    "rbd image-meta list a --format json": "nothing when there are none; here {}",
    "rbd feature enable a nonsense": "status 1; here EINVAL",
    "rbd resize a --size 12M --no-progress": "EINVAL when it has this size; here that ends an interrupted resize",
}


def recorded():
    """Lines of each command."""
    found = []
    for line in read_file(os.path.join(REPO, "tests/compat/rbd-16.txt")).decode().splitlines():
        if line.startswith("$ "):
            found.append([])
        found[-1].append(line)
    return found


@case
def starts():
    cluster.start()
    cluster.pool("rbd")
    cluster.pool("other")


@case
def a_session_writes_what_it_writes_on_ceph():
    os.environ.update(cluster.env)
    ours = rbd_session.session(os.path.join(BUILD, "compat/bin/rbd"))
    theirs = recorded()
    check([lines[0] for lines in ours] == [lines[0] for lines in theirs], "another session was recorded")
    wrong = ["\n".join(["Ceph:"] + there + ["Limpet:"] + here) for there, here in zip(theirs, ours)
             if there != here and there[0][2:] not in DIFFERENT]
    differ = {there[0][2:] for there, here in zip(theirs, ours) if there != here}
    check(set(DIFFERENT) <= differ, "no longer different: %s" % (set(DIFFERENT) - differ))
    check(not wrong, "%d of %d commands differ:\n%s" % (len(wrong), len(ours), "\n".join(wrong)))


if __name__ == "__main__":
    run()
