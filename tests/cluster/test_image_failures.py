#!/usr/bin/env python3
"""Images that are made, cloned, copied and imported while one request after the other fails: nothing is left, or what
`limpet rbd rm` removes. LIMPET_EVERY_STEP=1: at all of their steps, not only some."""

import os
import re

from lib.cluster import BUILD, Cluster, case, check, command_with, run

cluster = Cluster(mons=1, osds=3)
FAILS = os.path.join(BUILD, "crash", "libfail_at_call.so")
KINDS = 7


def at_each_step(mode):
    here = os.path.dirname(os.path.abspath(__file__))
    stride = 1 if os.environ.get("LIMPET_EVERY_STEP") else 6
    code, said = command_with(FAILS, [os.path.join(here, "crash", "fail_at_each_step.py"), here, cluster.conf, mode, stride],
                              timeout=600)
    check(code == 0, said)
    rows = re.findall(r"^(.*): failed at (\d+) of less than (\d+) steps, left something at (\d+)$", said, re.MULTILINE)
    print("     " + said.strip().replace("\n", "\n     "))
    check(len(rows) == KINDS and all(int(row[1]) > 0 for row in rows), said)
    left = [line for line in cluster.rados("-p", "data", "ls").text.splitlines()
            if line.startswith(("rbd_data", "rbd_header", "rbd_object_map"))]
    check(left == [], "objects are left: %r" % left[:5])
    return rows


@case
def begins():
    check(os.path.exists(FAILS), "%s is not built" % FAILS)
    cluster.start()
    cluster.pool("data")


@case
def one_request_is_not_made():
    at_each_step(0)


@case
def one_request_is_made_and_an_error_is_told():
    at_each_step(1)


@case
def none_is_made_from_some_step_on():
    rows = at_each_step(2)
    check(all(int(row[3]) > 0 for row in rows), "nothing could be undone, so something is left: %r" % rows)


if __name__ == "__main__":
    run()
