#!/usr/bin/env python3
"""An iSCSI target on an image: tgt with its backing store of type rbd, unmodified. What libiscsi's tests find is compared
with what they find on a plain file."""

import os
import re
import sys

from lib.cluster import Cluster, case, check, command, folder, random_bytes, read_file, run, succeeds, write_file
from lib.librados import FOLDER
from lib.tgt import Tgt, conformance, missing, suites

if missing():
    print("skipped: %s is not installed" % missing())
    sys.exit(0)

MIB = 1 << 20
cluster = Cluster(mons=1, osds=3)
tgt = None
urls = {}
results = {}


def ours(name):
    """bsopts of an image."""
    return ("--bstype", "rbd", "--backing-store", name, "--bsopts", "conf=%s;id=admin" % cluster.conf)


@case
def starts():
    global tgt
    cluster.start()
    cluster.pool("data")
    succeeds(cluster.limpet("rbd", "create", "data/disk", "--size", "32M"))
    tgt = Tgt(cluster)


@case
def an_image_is_a_unit():
    urls["limpet"] = tgt.target("limpet", *ours("data/disk"))
    theirs = {path for path in tgt.libraries() if re.search(r"/lib(rados|rbd)\.", path)}
    check(theirs == {os.path.realpath(os.path.join(FOLDER, name)) for name in ("librados.so.2", "librbd.so.1")},
          "tgtd has loaded %r" % theirs)
    shown = succeeds(tgt.call("--op", "show", "--mode", "target")).text
    check("data/disk" in shown and "34 MB" in shown, shown)


@case
def what_initiators_write_is_in_the_image():
    data = random_bytes(3 * MIB, 1)
    source, exported = write_file(os.path.join(folder(), "source"), data), os.path.join(folder(), "exported")
    succeeds(command(["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, urls["limpet"]]))
    succeeds(cluster.limpet("rbd", "export", "data/disk", exported, "--no-progress"))
    check(read_file(exported)[:len(data)] == data, "the image differs")


@case
def a_plain_file_is_tested():
    path = os.path.join(folder(), "plain")
    with open(path, "wb") as file:
        file.truncate(32 * MIB)
    results["plain"] = conformance(tgt.target("plain", "--backing-store", path), suites())
    check(sum(results["plain"].values()) > 120, "%d tests pass" % sum(results["plain"].values()))


@case
def an_image_passes_what_a_file_passes():
    got = results["limpet"] = conformance(urls["limpet"], suites())
    worse = [key for key, passed in results["plain"].items() if passed and not got.get(key)]
    # Some depend on what initiators were told before, by others.
    worse = [key for key in worse if not all(conformance(urls["limpet"], ["%s.%s" % key]).values())]
    check(not worse, "fail on an image alone: %r" % worse)
    print("     %d of %d pass on the image, %d on the file" % (sum(got.values()), len(got), sum(results["plain"].values())))


@case
def what_is_not_there_is_no_unit():
    for name in ("data/none", "none/disk", "data/disk@none"):
        refused = tgt.call("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "2", *ours(name))
        check(refused.code != 0, name)


if __name__ == "__main__":
    run()
