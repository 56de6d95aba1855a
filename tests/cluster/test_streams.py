#!/usr/bin/env python3
"""Streams of images and differences: those that rbd of Ceph 16.2.15 made (tests/compat/streams), and ours."""

import errno
import gzip
import json
import os
import subprocess

from lib.cluster import BIN, REPO, Cluster, case, check, fails, folder, random_bytes, read_file, run, succeeds, wait_until

cluster = Cluster(mons=1, osds=3)
QUIET = "--no-progress"
folders = []


def rbd(*words, data=b""):
    return cluster.limpet("rbd", *words, data=data)


def theirs(name):
    with gzip.open(os.path.join(REPO, "tests", "compat", "streams", name + ".gz")) as file:
        return file.read()


def path_of(name, data=None):
    if not folders:
        folders.append(folder())
    path = os.path.join(folders[0], name)
    if data is not None:
        with open(path, "wb") as file:
            file.write(data)
    return path


def exported(*words):
    """What a verb writes into a new file."""
    path = path_of("out")
    if os.path.exists(path):
        os.remove(path)
    succeeds(rbd(*words, path, QUIET))
    return read_file(path)


def contents(spec):
    return exported("export", spec)


@case
def starts():
    cluster.start()
    cluster.pool("rbd")


@case
def an_image_with_its_snapshots_is_imported():
    succeeds(rbd("import", "--export-format", "2", path_of("v2", theirs("v2")), "all", QUIET))
    told = json.loads(succeeds(rbd("snap", "ls", "all", "-f", "json")).text)
    check([(snap["name"], snap["size"], snap["protected"]) for snap in told] ==
          [("one", 1 << 20, "true"), ("two", 2 << 20, "false")], told)
    info = json.loads(succeeds(rbd("info", "all", "-f", "json")).text)
    check(info["object_size"] == 65536 and info["stripe_unit"] == 16384 and info["stripe_count"] == 2, info)
    check(set(info["features"]) >= {"layering", "striping", "exclusive-lock", "object-map", "fast-diff",
                                    "deep-flatten"}, info)
    check(succeeds(rbd("image-meta", "get", "all", "color")).text.strip() == "blue", "metadata")
    check(contents("all") == theirs("v1"), "the contents")


@case
def differences_are_imported():
    succeeds(rbd("create", "some", "--size", "1M"))
    for name in ("d0", "d1", "d2"):
        succeeds(rbd("import-diff", path_of(name, theirs(name)), "some", QUIET))
    for spec in ("@one", "@two", ""):
        check(contents("some" + spec) == contents("all" + spec), spec)
    check(contents("some") == theirs("v1"), "the contents")


@case
def what_is_exported_is_what_rbd_exports():
    """By random sequences this is not so: it depends on how much of an object a change is said to be."""
    succeeds(rbd("create", "made", "--size", "1M", "--object-size", "64K", "--stripe-unit", "16K",
                 "--stripe-count", "2"))
    succeeds(rbd("image-meta", "set", "made", "color", "blue"))
    succeeds(rbd("image-meta", "set", "made", "conf_rbd_qos_iops_limit", "500"))
    for name in ("d0", "d1", "d2"):
        succeeds(rbd("import-diff", path_of(name), "made", QUIET))
    succeeds(rbd("snap", "protect", "made@one"))
    check(exported("export-diff", "made@one") == theirs("d0"), "from nothing to a snapshot")
    check(exported("export-diff", "--from-snap", "one", "made@two") == theirs("d1"), "between snapshots")
    check(exported("export-diff", "--from-snap", "two", "made") == theirs("d2"), "from a snapshot to the head")
    check(exported("export-diff", "--whole-object", "made") == theirs("w"), "whole objects")
    check(exported("export", "--export-format", "2", "made") == theirs("v2"), "all of it")


@case
def merged_differences_are_as_good_as_both():
    for name, merge in (("theirs", lambda: theirs("m")), ("ours", ours_merged)):
        succeeds(rbd("create", name, "--size", "1M"))
        succeeds(rbd("import-diff", path_of("m-" + name, merge()), name, QUIET))
        check(contents(name + "@two") == contents("all@two"), name)
        succeeds(rbd("import-diff", path_of("d2"), name, QUIET))
        check(contents(name) == theirs("v1"), name)


def ours_merged():
    merged = exported("merge-diff", path_of("d0"), path_of("d1"))
    check(merged == theirs("m"), "what is merged is what rbd merges, byte for byte")
    return merged


@case
def an_export_that_is_cut_off_leaves_no_image():
    whole = theirs("v2")
    for len_ in (0, 5, 40, 170, 190, 5000, len(whole) // 2, len(whole) - 1):
        path = path_of("cut", whole[:len_])
        fails(rbd("import", "--export-format", "2", path, "cut", QUIET), errno.EDOM, "is cut off, or no export")
        check("cut" not in succeeds(rbd("ls")).text.split(), "an image of %d bytes" % len_)
    fails(rbd("import", "--export-format", "2", path_of("v1", theirs("v1")), "cut", QUIET), errno.EINVAL,
          "damaged, or no export")


@case
def an_export_of_a_snapshot_that_was_removed_meanwhile_fails():
    """What it has read since then may be zeroes."""
    succeeds(rbd("import", "-", "going", QUIET, data=random_bytes(40 << 20, 1)))
    for words in (("export", "going@a", "-"), ("export-diff", "going@a", "-"),
                  ("export-diff", "--from-snap", "a", "going", "-")):
        succeeds(rbd("snap", "create", "going@a", QUIET))
        succeeds(rbd("bench", "--io-type", "write", "--io-size", "1M", "--io-total", "40M", "--io-pattern", "seq", "going"))
        exporter = subprocess.Popen([os.path.join(BIN, "limpet"), "rbd", *words, QUIET], env=dict(os.environ, **cluster.env),
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        check(len(exporter.stdout.read(1 << 20)) == 1 << 20, "it begins: %r" % exporter.stderr)
        succeeds(rbd("snap", "rm", "going@a", QUIET))
        _out, err = exporter.communicate(timeout=120)
        check(exporter.returncode == errno.ENOENT and b"'a'" in err,
              "%s: %d, %r" % (words, exporter.returncode, err))
    succeeds(rbd("rm", "going", QUIET))


@case
def an_export_of_an_image_that_was_removed_meanwhile_fails():
    for words in (("export", "going", "-"), ("export-diff", "going", "-"), ("export", "--export-format", "2", "going", "-")):
        succeeds(rbd("import", "-", "going", QUIET, data=random_bytes(40 << 20, 1)))
        exporter = subprocess.Popen([os.path.join(BIN, "limpet"), "rbd", *words, QUIET], env=dict(os.environ, **cluster.env),
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        check(len(exporter.stdout.read(1 << 20)) == 1 << 20, "it begins: %r" % exporter.stderr)
        succeeds(rbd("rm", "going", QUIET))
        _out, err = exporter.communicate(timeout=120)
        check(exporter.returncode == errno.ENOENT and b"the image was removed meanwhile" in err,
              "%s: %d, %r" % (words, exporter.returncode, err))


@case
def an_import_that_was_killed_leaves_what_rm_removes():
    """With snapshots, which nobody can remove: nobody can open it."""
    whole = theirs("v2")
    importer = subprocess.Popen([os.path.join(BIN, "limpet"), "rbd", "import", "--export-format", "2", "-", "half", QUIET],
                                env=dict(os.environ, **cluster.env), stdin=subprocess.PIPE)
    importer.stdin.write(whole[:len(whole) * 3 // 4])
    importer.stdin.flush()
    wait_until("it begins", lambda: "half" in succeeds(rbd("ls")).text.split(), 60)
    fails(rbd("info", "half"), errno.ENOENT, "being made or removed", "rbd rm")
    check("half" not in succeeds(rbd("ls", "-l")).text, "it is not whole")
    importer.kill()
    importer.wait()
    wait_until("it is removed", lambda: rbd("rm", "half", QUIET).code == 0, 120)
    check("half" not in succeeds(rbd("ls")).text.split(), "its name")


if __name__ == "__main__":
    run()
