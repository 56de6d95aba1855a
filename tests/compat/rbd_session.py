#!/usr/bin/env python3
"""A session with the program rbd: what each command writes, plain and in JSON, with what differs from run to run replaced.

    python3 tests/compat/rbd_session.py [RBD]        writes the session; tests/compat/rbd-16.txt is what Ceph 16.2.15 wrote

It needs empty pools `rbd` and `other`, and the configuration of the cluster in $CEPH_CONF. tests/cluster/test_rbd_output.py
compares Limpet's with it."""

import os
import re
import subprocess
import sys
import tempfile

FOLDER = tempfile.mkdtemp()

# A line each: a command, and `+json` where it is asked for JSON too. `@` is a folder for files.
SESSION = """
ls +json
ls -l +json
create a --size 10M
create b --size 16M --object-size 1M --stripe-unit 64K --stripe-count 4 --image-shared
create other/c --size 8M --data-pool rbd
create a --size 10M
create e
create x@y --size 1M
create f --size 10M --image-feature layering,exclusive-lock
ls +json
ls -l +json
info a +json
info b +json
info other/c +json
info f +json
info none
info a@none
bench a --io-type write --io-size 4K --io-total 64K --io-threads 1
snap ls a +json
snap create a@one --no-progress
snap create a@one --no-progress
snap create a --snap two --no-progress
snap protect a@one
snap protect a@one
snap ls a +json
info a@one +json
ls -l +json
du a +json
du +json
snap unprotect a@two
clone a@one d --rbd-default-clone-format 1
clone a@two d2 --rbd-default-clone-format 1
clone a@two d3 --rbd-default-clone-format 2
info d +json
info d3 +json
children a@one +json
children a@two +json
children a +json
ls -l +json
snap rm a@one --no-progress
snap unprotect a@one
snap purge a --no-progress
snap limit set a --limit 2
snap create a@three --no-progress
snap limit clear a
snap rename a@two a@zwei
snap ls a +json
snap rename a@none a@zwei
flatten d --no-progress
flatten d --no-progress
flatten d3 --no-progress
diff a +json
diff a --whole-object +json
diff a --from-snap one +json
diff a --from-snap none
export a @/a --no-progress
export a @/a --no-progress
import @/a imported --no-progress
import @/a imported --no-progress
import @/none imported2 --no-progress
info imported +json
export-diff a@zwei @/d --no-progress
import-diff @/a imported --no-progress
resize a --size 12M --no-progress
resize a --size 4M --no-progress
resize a --size 12M --no-progress
resize none --size 12M --no-progress
image-meta list a +json
image-meta set a key value
image-meta set a other thing
image-meta list a +json
image-meta get a key
image-meta get a none
image-meta remove a other
image-meta remove a other
image-meta list a +json
feature disable a fast-diff
feature enable a fast-diff
feature enable a nonsense
feature enable a fast-diff
object-map check a --no-progress
object-map rebuild a --no-progress
info a +json
config image list a | grep rbd_qos_iops_limit
config image set a rbd_qos_iops_limit 100
config image get a rbd_qos_iops_limit
config image list a | grep rbd_qos_iops_limit
config image remove a rbd_qos_iops_limit
config image set a nonsense 100
config pool set rbd rbd_qos_iops_limit 200
config pool get rbd rbd_qos_iops_limit
config pool list rbd | grep rbd_qos_iops_limit
config pool remove rbd rbd_qos_iops_limit
lock ls b +json
lock add b mine
lock add b mine
lock ls b +json
lock add b mine --shared tag
lock rm b mine client.0
status a +json
namespace ls +json
namespace create rbd/space
namespace create rbd/space
namespace ls +json
create space/inside --size 4M
create rbd/space/inside --size 4M
ls rbd/space +json
info rbd/space/inside +json
namespace rm rbd/space
rm rbd/space/inside --no-progress
namespace rm rbd/space
namespace rm rbd/space
group ls +json
group create g
group create g
group ls +json
group image add g a
group image add g b
group image add g none
group image ls g +json
info a +json
group snap create g@s
group snap create g@s
group snap ls g +json
group snap rename g@s t
group snap ls g +json
snap ls a +json
snap ls a --all +json
rm b --no-progress
group snap rollback g@t --no-progress
group snap rm g@t
group snap rm g@t
group image rm g a
group image ls g +json
group rename g h
group ls +json
group rm h
group rm h
trash ls +json
trash mv f
trash ls +json
trash ls -l +json
ls +json
trash restore none
trash purge --no-progress
trash ls +json
mv d renamed
mv renamed renamed
mv none new
mv renamed a
cp renamed copy --no-progress
cp renamed copy --no-progress
cp none copy2 --no-progress
deep cp a deep --no-progress
snap ls deep +json
info deep +json
sparsify copy --no-progress
rm a --no-progress
rm none --no-progress
rm copy --no-progress
snap rollback a@zwei --no-progress
snap rollback a@none --no-progress
snap unprotect a@one
snap rm a@one --no-progress
snap rm a@none --no-progress
snap purge a --no-progress
snap purge deep --no-progress
rm deep --no-progress
children a +json
pool stats +json
pool stats rbd +json
device list +json
ls +json
"""

# What differs from run to run, and from cluster to cluster.
REPLACED = (
    (r"rbd_data\.(\d+\.)?[0-9a-f]+", "rbd_data.ID"),
    (r'"id":"[0-9a-f]{10,}"', '"id":"ID"'),
    (r'("(?:image|snapshot|group)_?id)":"?[0-9a-f]+"?', r'\1":"ID"'),
    (r'"(id|snap_id)":\d+', r'"\1":N'),
    (r'(\bid: )[0-9a-f]{10,}', r"\1ID"),
    (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} +\d+ \d\d:\d\d:\d\d \d{4}", "TIME"),
    (r"\.group\.\d+_[0-9a-f]+_[0-9a-f]+", ".group.ID"),
    (r"(?m)^ +\d+( +\S+ +[\d.]+ \w+)", r" N\1"),
    (r"127\.0\.0\.1:\d+(/\d+)?", "ADDRESS"),
    (r"client\.[0-9a-f]+", "client.N"),
    (r"\b[0-9a-f]{12,}\b", "ID"),
    (r"cookie=\d+", "cookie=N"),
    (r'"cookie":\d+', '"cookie":N'),
    (r"\b(elapsed|ops|ops/sec|bytes/sec): *[^ ]+( \wi?B/s)?", r"\1: N"),
    (r"(?m)^ +\d+ +\d+ +[\d.]+ +[\d.]+ \S+$", " BENCH"),
)


def normal(text):
    text = text.replace(FOLDER, "@")
    for expression, by in REPLACED:
        text = re.sub(expression, by, text)
    # The width of a column follows its contents.
    return "\n".join(re.sub(r" {2,}", "  ", line).rstrip() for line in text.splitlines())


def one(program, line):
    command, _, want = line.partition(" | grep ")
    words = [word.replace("@/", FOLDER + "/") if word.startswith("@/") else word for word in command.split()]
    result = subprocess.run([program] + words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, errors="replace", timeout=300, check=False)
    out = "".join(row + "\n" for row in result.stdout.splitlines() if want in row)
    # What went wrong is said in words of one's own.
    lines = ["$ rbd " + line] + normal(out).splitlines() + ["= %d" % result.returncode]
    return [row for row in lines if row]


def session(program):
    """All its lines, by command."""
    found = []
    for line in SESSION.strip().splitlines():
        command = line.removesuffix(" +json")
        found.append(one(program, command))
        if command != line:
            found.append(one(program, command + " --format json"))
    return found


if __name__ == "__main__":
    for each in session(sys.argv[1] if len(sys.argv) > 1 else "rbd"):
        print("\n".join(each))
    subprocess.run(["rm", "-r", FOLDER], check=True)
