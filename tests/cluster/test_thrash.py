#!/usr/bin/env python3
"""Real daemons on hosts of their own, under faults and writers: thrash/README.md. Here a short form, and
that it can fail."""

import os
import re
import sys

from lib.cluster import BUILD, case, check, command, run
from thrash import network, plan

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "thrash", "thrash")
# Its first round has nearly every kind of fault.
SEED = 357
SECONDS = 15
# Requests that are repeated when an OSD dies are executed again: appended twice, or removed twice, so that there
# is nothing any more for the second time. The writer of histories or the one of snapshots may be the first to notice.
PLANTED = "run-duplicate"
PLANTED_SEED = 1
PLANTED_FAULTS = "osd-killed,osds-killed,osd-stopped"
PLANTED_ROUNDS = 8
FOUND = r"not linearizable", r"shows what it was not then", r"removing snap\.\d+: No such file or directory"


def thrash(*options):
    return command([sys.executable, "-B", PROGRAM, *options], timeout=600, env={"LIMPET_BUILD": BUILD})


@case
def a_seed_decides_the_plan():
    for number in range(20):
        events = plan.round_events(SEED, number, 60)
        check(events == plan.round_events(SEED, number, 60), "two plans of one seed differ")
        short = plan.round_events(SEED, number, 30)
        check(events[:len(short)] == short, "a shorter round is no beginning of a longer one")
        check(events != plan.round_events(SEED + 1, number, 60), "two seeds have the same plan")
        check_nothing_is_wanted_twice(events)
    seen = {event.fault for number in range(20) for event in plan.round_events(SEED, number, 60)}
    check(seen == set(plan.NAMED), "these faults never happen: %s" % (set(plan.NAMED) - seen))


def check_nothing_is_wanted_twice(events):
    until = {}
    for event in events:
        for target in event.targets:
            check(until.get(target, -1) < event.at, "%s has two faults at a time" % target)
            until[target] = event.until


@case
def nothing_is_lost_or_stale():
    result = thrash("--seed", SEED, "--rounds", 1, "--round-seconds", SECONDS)
    print("     " + result.text.strip().replace("\n", "\n     "))
    check(result.code == 0, "it failed: %s" % result.err)


@case
def a_planted_bug_is_found():
    result = thrash("--seed", PLANTED_SEED, "--rounds", PLANTED_ROUNDS, "--round-seconds", SECONDS,
                    "--planted", PLANTED, "--faults", PLANTED_FAULTS)
    found = result.code == 1 and any(re.search(text, result.text) for text in FOUND)
    if not found:
        print("     " + result.text.strip().replace("\n", "\n     "))
    check(found, "OSDs with the planted bug %s pass" % PLANTED)


@case
def snapshots_that_keep_nothing_are_found():
    """A write after a snapshot makes no clone."""
    result = thrash("--seed", PLANTED_SEED, "--rounds", 1, "--round-seconds", SECONDS,
                    "--planted", "clone-forgotten", "--faults", PLANTED_FAULTS)
    # By what the objects were when it was taken, or by who looks again meanwhile.
    found = result.code == 1 and ("shows what it was not then" in result.text or "has changed" in result.text)
    check(found, "OSDs that make no clones pass: %s" % result.text)


if __name__ == "__main__":
    problem = network.why_impossible()
    if problem:
        print("skipped: needs root/namespaces (%s)" % problem)
        sys.exit(0)
    run()
