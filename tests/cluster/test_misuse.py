#!/usr/bin/env python3
"""Wrong calls of librados, and such at a limit, give what they gave on Ceph 16.2.15 (tests/compat/misuse-16.txt);
so do functions that no program of the distribution imports (functions-16.txt)."""

import os
import re
import sys

from lib.cluster import BUILD, REPO, Cluster, case, check, command, read_file, run, succeeds
from lib.librados import LIBRARY, environment

PROGRAM = os.path.join(BUILD, "compat-tests", "misuse")
RECORDED = os.path.join(REPO, "tests", "compat", "misuse-16.txt")
FUNCTIONS = os.path.join(BUILD, "compat-tests", "functions")
FUNCTIONS_RECORDED = os.path.join(REPO, "tests", "compat", "functions-16.txt")

cluster = Cluster(mons=1, osds=3)

# What is done: what it gives here instead, and why.
DIFFERENT = {
    "create2 client.": (-22, "a name needs an id"),
    "conf_set of no number": (0, "values are looked at when it connects"),
    "mon_command_target a fsid": (0, "each monitor answers every command"),
    "mon_command_target 0 fsid": (0, "the same"),
    "mgr_command_target x pg stat": (0, "monitors do what managers would"),
    "pg_command 1.0 query": (0, "a group needs not be named twice"),
    "a namespace of 256 bytes: write_full": (-36, "at most 255"),
    "write of 91 MiB": (0, "an operation may be as large as an object"),
    "write of a byte more than 90 MiB": (0, "the same"),
    "setxattr of 64 KiB and a byte": (-27, "at most 64 KiB"),
    "of the step of exec of no class": (-1, "a step that failed says so"),
    "of the step of a step that may fail, and one that cannot": (0, "nothing of it counts"),
    "operate omap_set of 1 MiB and a byte": (-27, "at most 1 MiB"),
    "operate omap_set with a key of 5,000 bytes": (-36, "at most 4 KiB"),
    "lock_exclusive, no such flags": (-22, "there are none"),
    "snap_create without a name": (-22, "it needs one"),
    "snap_list": (2, "so there is one less"),
    "snap_rollback at a snapshot": (-30, "it is a change, as others"),
    "notify2 at a snapshot": (-22, "what is kept has no watchers"),
    "read at no snapshot": (3, "it was not rolled back before"),
    "unwatch2 of an object that is gone": (0, "it is no watcher any more"),
    "set_write_ctx with snapshot 0": (-22, "there is no such one"),
    "selfmanaged_snap_remove again": (-2, "it is gone"),
}


@case
def starts():
    cluster.start()
    cluster.pool("misuse")
    cluster.pool("misuse-self")
    cluster.pool("functions")
    cluster.pool("functions-self")


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


@case
def each_function_of_the_header_is_there():
    with open("/usr/include/rados/librados.h", encoding="utf-8") as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
    declared = set(re.findall(r"^CEPH_RADOS_API[^(;]*?\b(rados_\w+)\s*\(", text, re.MULTILINE))
    check(len(declared) > 200, "only %d are found in the header" % len(declared))
    lines = succeeds(command(["nm", "-D", "--defined-only", LIBRARY])).text.splitlines()
    there = {line.split()[-1].partition("@")[0] for line in lines}
    check(not declared - there, "missing: %s" % " ".join(sorted(declared - there)))


@case
def functions_that_no_program_imports_give_what_ceph_gave():
    said = succeeds(command([FUNCTIONS, cluster.conf, "functions"], env=environment(cluster))).text.splitlines()
    recorded = read_file(FUNCTIONS_RECORDED).decode().splitlines()
    wrong = ["line %d\nCeph:   %s\nLimpet: %s" % (number, theirs, ours)
             for number, (ours, theirs) in enumerate(zip(said, recorded), 1) if ours != theirs]
    check(not wrong, "\n".join(wrong))
    check(len(said) == len(recorded), "%d lines, not %d" % (len(said), len(recorded)))


if __name__ == "__main__":
    if not os.path.exists(PROGRAM):
        print("skipped: %s was not built: the package librados-dev is not installed" % PROGRAM)
        sys.exit(0)
    run()
