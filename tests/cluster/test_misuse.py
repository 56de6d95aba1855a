#!/usr/bin/env python3
"""Wrong calls of librados, and such at a limit, give what they gave on Ceph 16.2.15 (tests/compat/misuse-16.txt)."""

import os
import sys

from lib.cluster import BUILD, REPO, Cluster, case, check, command, read_file, run, succeeds
from lib.librados import environment

PROGRAM = os.path.join(BUILD, "compat-tests", "misuse")
RECORDED = os.path.join(REPO, "tests", "compat", "misuse-16.txt")

cluster = Cluster(mons=1, osds=3)

# What is done: what it gives here instead, and why.
DIFFERENT = {
}


@case
def starts():
    cluster.start()
    cluster.pool("misuse")
    cluster.pool("misuse-self")


@case
def gives_what_ceph_gave():
    said = succeeds(command([PROGRAM, cluster.conf, "misuse"], env=environment(cluster))).text.splitlines()
    if os.environ.get("MISUSE_OUT"):
        with open(os.environ["MISUSE_OUT"], "w", encoding="utf-8") as file:
            file.write("\n".join(said) + "\n")
    recorded = read_file(RECORDED).decode().splitlines()
    wrong = []
    for ours, theirs in zip(said, recorded):
        what = theirs.rpartition(" -> ")[0]
        if what in DIFFERENT:
            theirs = "%s -> %d" % (what, DIFFERENT[what][0])
        if ours != theirs:
            wrong.append("Ceph:   %s\nLimpet: %s" % (theirs, ours))
    check(not wrong, "\n".join(wrong))
    check(len(said) == len(recorded), "%d lines, not %d; the last one: %s"
          % (len(said), len(recorded), said[-1] if said else "none"))


if __name__ == "__main__":
    if not os.path.exists(PROGRAM):
        print("skipped: %s was not built: the package librados-dev is not installed" % PROGRAM)
        sys.exit(0)
    run()
