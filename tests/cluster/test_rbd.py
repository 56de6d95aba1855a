#!/usr/bin/env python3
"""limpet rbd: the verbs of rbd, their outputs and their errors. What is expected is what Ceph 16 prints."""

import errno
import json
import os
import re
import signal
import subprocess

from lib.cluster import (BUILD, Cluster, case, check, command, folder, random_bytes, read_file, run,
                         succeeds, write_file)

cluster = Cluster(mons=1, osds=3)
WHERE = folder()
RBD = os.path.join(BUILD, "compat", "bin", "rbd")
MIB = 1 << 20


def rbd(*arguments, data=b""):
    return command([RBD, *arguments], data, env=cluster.env)


def says(*arguments):
    """Its standard output, once it has succeeded."""
    return succeeds(rbd(*arguments)).text


def tells(*arguments):
    return json.loads(says(*arguments, "--format", "json"))


def fails(result, error, words=""):
    """After what it says of its progress, one line has these words."""
    line = result.err.splitlines()[-1] if result.err else ""
    check(result.code == error and line.startswith("limpet: ") and words in line,
          "should have failed with %s and %r: %s" % (errno.errorcode[error], words, result))


@case
def starts():
    cluster.start()
    cluster.pool("rbd")
    cluster.pool("other")


@case
def creates_and_lists():
    check(says("ls") == "" and says("ls", "-l") == "", "an empty pool")
    fails(rbd("create", "a"), errno.EINVAL, "must specify --size")
    for image, options in (("a", ("-s", "10M")), ("b", ("-s", "1G", "--image-feature", "layering")),
                           ("st", ("-s", "16M", "--object-size", "1M", "--stripe-unit", "64K",
                                   "--stripe-count", "4")), ("zero", ("-s", "0"))):
        check(says("create", image, *options) == "", image)
    fails(rbd("create", "a", "--size", "1"), errno.EEXIST, "create error: (17) File exists")
    check(says("ls") == "a\nb\nst\nzero\n", says("ls"))
    check(says("ls", "-l").splitlines() == [
        "NAME  SIZE    PARENT  FMT  PROT  LOCK",
        "a     10 MiB            2            ",
        "b      1 GiB            2            ",
        "st    16 MiB            2            ",
        "zero     0 B            2            "], says("ls", "-l"))
    check(tells("ls") == ["a", "b", "st", "zero"], "json")
    entry = tells("ls", "-l")[0]
    check(list(entry) == ["image", "id", "size", "format"] and entry["size"] == 10 * MIB, entry)
    for name in ("a", "b", "st", "zero"):
        succeeds(rbd("rm", "rbd/" + name, "--no-progress"))


@case
def refuses_what_is_no_image():
    for words, error, text in (
            (("create", "-s", "1", "ns/x/y/z"), errno.EINVAL, "invalid spec 'ns/x/y/z'"),
            (("create", "-s", "1", "a/"), errno.EINVAL, "invalid spec"),
            (("create", "-s", "1", "/a"), errno.EINVAL, "invalid spec"),
            (("create", "-s", "1", "x@"), errno.EINVAL, "invalid spec"),
            (("create", "-s", "1", "x@y@z"), errno.EINVAL, "invalid spec"),
            (("create", "-s", "1", ""), errno.EINVAL, "invalid spec"),
            (("create", "-s", "1", "x" * 300), errno.ENAMETOOLONG, "more than 255 bytes"),
            (("create", "-s", "1", "nopool/a"), errno.ENOENT, "error opening pool 'nopool'"),
            (("create", "-s", "1", "rbd/nospace/a"), errno.ENOENT, "namespace 'nospace' does not exist"),
            (("create", "-s", "1", "bad@x"), errno.EINVAL, "snapshot name specified"),
            (("create", "-s", "x1", "c"), errno.EINVAL, "--size"),
            (("create", "-s", "-1", "c"), errno.EINVAL, "--size"),
            (("create", "-s", "10X", "c"), errno.EINVAL, "--size"),
            (("create", "-s", "9999999999T", "c"), errno.EFBIG, "--size"),
            (("create", "-s", "1", "c", "--image-feature", "nonsense"), errno.EINVAL, "no feature"),
            (("create", "-s", "1", "c", "--object-size", "1K"), errno.EDOM, "between 4K and 32M"),
            (("create", "-s", "1", "c", "--object-size", "64M"), errno.EDOM, "between 4K and 32M"),
            (("create", "-s", "1", "c", "--stripe-unit", "64K"), errno.EINVAL, "both"),
            (("create", "-s", "1", "c", "--data-pool", "none"), errno.ENOENT, "data pool"),
            (("info",), errno.EINVAL, "image name was not specified"),
            (("info", "none"), errno.ENOENT, "error opening image none"),
            (("info", "none@s"), errno.ENOENT, "snapshot s"),
            (("snap", "create", "a"), errno.EINVAL, "snapshot name was not specified"),
            (("rm", "none"), errno.ENOENT, "delete error"),
            (("mv", "none", "x"), errno.ENOENT, "rename error"),
            (("mv", "rbd/a", "other/a"), errno.EINVAL, "across pools"),
            (("resize", "none"), errno.EINVAL, "must specify --size"),
            (("bench", "none"), errno.EINVAL, "--io-type"),
            (("frobnicate",), errno.EINVAL, "unknown command"),
            (("snap",), errno.EINVAL, "not complete")):
        fails(rbd(*words), error, text)
    check(says("ls") == "", "nothing is left")


@case
def refuses_sizes_and_names():
    """What happens to the numbers is in rbd_session.py, beside Ceph's: here is what is said of them."""
    check(says("create", "odd", "-s", "513B") == "" and tells("info", "odd")["size"] == 513, "any size will do")
    for words, error, text in (
            (("create", "-s", "100P", "c"), errno.EINVAL, "not compatible with object map"),
            (("create", "-s", "8E", "c", "--image-feature", "layering"), errno.EFBIG, "more than an image can have"),
            (("create", "-s", "4096P", "--object-size", "1M", "c", "--image-shared"), errno.EFBIG, "2^40 objects"),
            (("create", "-s", "16M", "--stripe-unit", "3K", "--stripe-count", "4", "c"), errno.EINVAL, "a multiple of 512"),
            (("create", "-s", "16M", "--stripe-unit", "8M", "--stripe-count", "2", "c"), errno.EINVAL, "a multiple of 512"),
            (("create", "-s", "16M", "--image-feature", "journaling", "c"), errno.ENOSYS, "no journaling"),
            (("create", "-s", "1", "rbd//c"), errno.EINVAL, "invalid spec"),
            (("create", "-s", "1", "rbd/a@b/c"), errno.EINVAL, "invalid spec"),
            (("create", "-s", "1", "--image", "nopool/c"), errno.ENOENT, "'nopool'"),
            (("create", "-s", "1", "--image", "c@s"), errno.EINVAL, "snapshot name specified"),
            (("snap", "create", "--image", "odd", "--snap", "a/b"), errno.EINVAL, "invalid snap name"),
            (("snap", "create", "--image", "odd", "--snap", "a@b"), errno.EINVAL, "invalid snap name"),
            (("mv", "odd", "--dest", "other/odd"), errno.EINVAL, "across pools"),
            (("mv", "odd", "odd@s"), errno.EINVAL, "snapshot name specified"),
            (("resize", "odd", "-s", "977T"), errno.EINVAL, "not compatible with object map"),
            (("resize", "odd", "-s", "-1"), errno.EINVAL, "--size")):
        fails(rbd(*words), error, text)
    for name in (b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf"):
        argv = [RBD, "create", "-s", "1", os.fsdecode(name)]
        fails(command(argv, env=cluster.env), errno.EINVAL, "UTF-8")
    for name in (".", "..", " a", "a:b", "caf\u00e9", "x" * 255):
        succeeds(rbd("create", "-s", "1", name))
        succeeds(rbd("rm", name, "--no-progress"))
    number = tells("info", "odd")["id"]
    check(tells("info", "--image-id", number) == tells("info", "odd"), "info of an id")
    check(says("snap", "ls", "--image-id", number) == "", "snapshots of an id")
    fails(rbd("info", "odd", "--image-id", number), errno.EINVAL, "both name and id")
    fails(rbd("info", "--image-id", "none"), errno.ENOENT, "id none")
    fails(rbd("encryption", "format", "odd", "luks3", "/dev/null"), errno.EOPNOTSUPP, "luks1 and luks2")
    succeeds(rbd("rm", "odd"))
    check(says("ls") == "", "nothing is left")


@case
def shows_an_image():
    succeeds(rbd("create", "a", "-s", "10M"))
    text = re.sub(r": \w+ \w+ .. ..:..:.. \d{4}$", ": TIME", says("info", "a"), flags=re.M)
    number = tells("info", "a")["id"]
    check(text == """rbd image 'a':
\tsize 10 MiB in 3 objects
\torder 22 (4 MiB objects)
\tsnapshot_count: 0
\tid: %s
\tblock_name_prefix: rbd_data.%s
\tformat: 2
\tfeatures: layering, exclusive-lock, object-map, fast-diff, deep-flatten
\top_features: 
\tflags: 
\tcreate_timestamp: TIME
\taccess_timestamp: TIME
\tmodify_timestamp: TIME
""" % (number, number), text)
    check(list(tells("info", "a")) == [
        "name", "id", "size", "objects", "order", "object_size", "snapshot_count", "block_name_prefix",
        "format", "features", "op_features", "flags", "create_timestamp", "access_timestamp",
        "modify_timestamp"], tells("info", "a"))
    check(says("info", "a", "--format", "json", "--pretty-format").startswith('{\n    "name": "a"'), "pretty")
    check(says("status", "a") == "Watchers: none\n" and tells("status", "a") == {"watchers": []}, "status")
    succeeds(rbd("create", "st", "-s", "16M", "--object-size", "1M", "--stripe-unit", "64K",
                 "--stripe-count", "4", "--data-pool", "other"))
    text = says("info", "st")
    check("\tdata_pool: other\n" in text and "\tstripe unit: 64 KiB\n\tstripe count: 4\n" in text, text)
    check(list(tells("info", "st"))[7:9] == ["data_pool", "block_name_prefix"], tells("info", "st"))
    succeeds(rbd("rm", "st"))
    succeeds(rbd("create", "shared", "-s", "1M", "--image-shared"))
    check("\tfeatures: layering, deep-flatten\n" in says("info", "shared"), says("info", "shared"))
    succeeds(rbd("rm", "shared"))


@case
def resizes_and_renames():
    check(rbd("resize", "a", "-s", "20M").err.endswith("\rResizing image: 100% complete...done.\n"),
          "progress")
    check(succeeds(rbd("resize", "a", "-s", "21M", "--no-progress")).err == "", "no progress")
    fails(rbd("resize", "a", "-s", "5M"), errno.EINVAL, "--allow-shrink")
    succeeds(rbd("resize", "a", "-s", "5M", "--allow-shrink"))
    check(tells("info", "a")["size"] == 5 * MIB, "size")
    succeeds(rbd("create", "b", "-s", "1"))
    fails(rbd("mv", "a", "b"), errno.EEXIST, "rename error")
    succeeds(rbd("mv", "a", "aa"))
    succeeds(rbd("rename", "rbd/aa", "rbd/a"))
    check(says("ls") == "a\nb\n", says("ls"))
    succeeds(rbd("rm", "b"))


@case
def snapshots():
    succeeds(rbd("snap", "create", "a@s1"))
    fails(rbd("snap", "create", "a@s1"), errno.EEXIST, "failed to create snapshot")
    succeeds(rbd("snap", "protect", "a@s1"))
    fails(rbd("snap", "protect", "a@s1"), errno.EBUSY, "already protected")
    lines = says("snap", "ls", "a").splitlines()
    check(re.fullmatch(r"SNAPID  NAME  SIZE   PROTECTED  TIMESTAMP {15}", lines[0]) and
          re.fullmatch(r" +\d+  s1    5 MiB  yes        \w+ \w+ .. ..:..:.. \d{4}", lines[1]), lines)
    entry = tells("snap", "ls", "a")[0]
    check(list(entry) == ["id", "name", "size", "protected", "timestamp"] and
          entry["protected"] == "true", entry)
    check("\tprotected: True\n" in says("info", "a@s1") and tells("info", "a@s1")["protected"] == "true" and
          "protected" not in tells("info", "a"), says("info", "a@s1"))
    fails(rbd("snap", "rm", "a@s1"), errno.EBUSY, "protected from removal")
    fails(rbd("snap", "rm", "a@none"), errno.ENOENT, "failed to remove snapshot")
    fails(rbd("rm", "a"), errno.ENOTEMPTY, "rbd snap purge")
    fails(rbd("snap", "purge", "a"), errno.EBUSY, "'s1'")
    succeeds(rbd("snap", "rename", "a@s1", "a@s2"))
    fails(rbd("snap", "rename", "a@none", "a@x"), errno.ENOENT, "renaming snap failed")
    fails(rbd("snap", "rename", "a@s2", "other/a@x"), errno.EINVAL, "pool must be the same")
    fails(rbd("snap", "rename", "a@s2", "b@x"), errno.EINVAL, "image name must be the same")
    succeeds(rbd("snap", "unprotect", "a@s2"))
    fails(rbd("snap", "unprotect", "a@s2"), errno.EINVAL, "already unprotected")
    succeeds(rbd("snap", "limit", "set", "a", "--limit", "1"))
    fails(rbd("snap", "create", "a@s3"), errno.EDQUOT, "rbd snap limit")
    succeeds(rbd("snap", "limit", "clear", "a"))
    check("user" in says("snap", "ls", "a", "--all"), "kinds")
    succeeds(rbd("snap", "rollback", "a@s2"))
    fails(rbd("snap", "rollback", "a@none"), errno.ENOENT, "rollback failed")
    succeeds(rbd("snap", "purge", "a"))
    check(says("snap", "ls", "a") == "" and tells("snap", "ls", "a") == [], "none is left")


@case
def clones():
    succeeds(rbd("snap", "create", "a@s"))
    succeeds(rbd("clone", "a@s", "k1"))
    fails(rbd("clone", "a@none", "k2"), errno.ENOENT, "clone error")
    fails(rbd("clone", "a@s", "k2", "--rbd-default-clone-format", "1"), errno.EINVAL, "protected")
    check("\tparent: rbd/a@s\n\toverlap: 5 MiB\n" in says("info", "k1"), says("info", "k1"))
    check(tells("info", "k1")["parent"]["snapshot"] == "s", "parent")
    check(says("children", "a@s") == "rbd/k1\n" and says("children", "a") == "rbd/k1\n", "children")
    check(tells("children", "a") == [{"pool": "rbd", "pool_namespace": "", "image": "k1"}], "json")
    check("rbd/a@s" in says("ls", "-l"), "ls -l")
    succeeds(rbd("snap", "create", "k1@t"))
    succeeds(rbd("clone", "k1@t", "other/k2"))
    check(says("children", "a", "--descendants") == "rbd/k1\nother/k2\n", "descendants")
    check(tells("info", "other/k2")["op_features"] == ["clone-child"], tells("info", "other/k2"))
    succeeds(rbd("flatten", "other/k2"))
    check(tells("info", "other/k2")["op_features"] == [], "flattened")
    fails(rbd("flatten", "other/k2"), errno.EINVAL, "no parent")
    succeeds(rbd("rm", "other/k2"))
    succeeds(rbd("snap", "purge", "k1"))
    # Removed by force, a snapshot lets its clones go first.
    succeeds(rbd("snap", "create", "a@p"))
    succeeds(rbd("snap", "protect", "a@p"))
    succeeds(rbd("clone", "a@p", "k3", "--rbd-default-clone-format", "1"))
    fails(rbd("snap", "rm", "a@p"), errno.EBUSY, "protected from removal")
    fails(rbd("snap", "unprotect", "a@p"), errno.EBUSY, "rbd flatten")
    succeeds(rbd("snap", "rm", "a@p", "--force", "--no-progress"))
    check("parent" not in tells("info", "k3") and [snap["name"] for snap in tells("snap", "ls", "a")] == ["s"], "forced")
    succeeds(rbd("rm", "k3"))
    succeeds(rbd("snap", "rm", "a@s"))
    check("trash (s)" in says("snap", "ls", "a", "--all"), "it waits for its clone")
    fails(rbd("rm", "a", "--no-progress"), errno.ENOTEMPTY, "'rbd children --all rbd/a' lists them")
    check("snap-trash" in tells("info", "a")["op_features"], tells("info", "a"))
    succeeds(rbd("trash", "mv", "k1"))
    row = tells("trash", "ls", "-l")[0]
    check(row["parent"]["image"] == "a" and "rbd/a@" in says("trash", "ls", "-l"), row)
    succeeds(rbd("trash", "restore", row["id"]))
    succeeds(rbd("rm", "k1"))
    check(says("snap", "ls", "a", "--all") == "", "and goes with it")
    check("snap-trash" not in tells("info", "a")["op_features"], tells("info", "a"))


@case
def exports_and_imports():
    path, back = os.path.join(WHERE, "in"), os.path.join(WHERE, "out")
    data = random_bytes(5 * MIB + 1000, 1) + bytes(6 * MIB) + b"end"
    write_file(path, data)
    succeeds(rbd("import", path, "imp"))
    fails(rbd("import", path, "imp"), errno.EEXIST, "image creation failed")
    fails(rbd("import", "/nowhere", "imp2"), errno.ENOENT, "/nowhere")
    fails(rbd("import", WHERE, "imp2"), errno.EISDIR)
    fails(rbd("import", "-", data=b"x"), errno.EINVAL, "image name")
    succeeds(rbd("export", "imp", back))
    check(read_file(back) == data, "export")
    check(os.stat(back).st_blocks * 512 < len(data) - 5 * MIB, "zeroes are holes")
    fails(rbd("export", "imp", back), errno.EEXIST, back)
    check(succeeds(rbd("export", "imp", "-")).out == data, "to standard output")
    succeeds(rbd("import", "-", "piped", data=data))
    check(succeeds(rbd("export", "piped", "-")).out == data, "from standard input")
    succeeds(rbd("resize", "piped", "--size", "4T"))
    wide = os.path.join(WHERE, "wide")
    succeeds(rbd("export", "piped", wide))
    with open(wide, "rb") as file:
        check(os.fstat(file.fileno()).st_size == 1 << 42 and file.read(len(data) + MIB) == data + bytes(MIB),
              "what is not there is not read")
    os.unlink(wide)
    succeeds(rbd("import", path))
    check("in\n" in says("ls"), "named like the file")
    pieces = (b"x" * 4096 + bytes(60 * 1024)) * 64 + bytes(4 * MIB) + b"y" * 5000
    written = {"4096": 64 * 4096 + 5000, "0": 4 * MIB + 5000}
    for size, used in written.items():
        succeeds(rbd("import", "--sparse-size", size, "--object-size", "64K", "-", "pieces", data=pieces))
        check(succeeds(rbd("export", "pieces", "-")).out == pieces, "--sparse-size %s" % size)
        got = sum(row["length"] for row in tells("diff", "pieces"))
        check(got == used, "--sparse-size %s: %d bytes, not %d" % (size, got, used))
        succeeds(rbd("rm", "pieces"))
    stream = succeeds(rbd("export", "--export-format", "2", "imp", "-", "--no-progress")).out
    for cut in (0, 5, 40, 1000, len(stream) // 2, len(stream) - 1):
        fails(rbd("import", "--export-format", "2", "-", "cut", data=stream[:cut]), errno.EDOM, "cut off")
    for place, by in ((0, b"X"), (13, b"\xff\xff"), (len(stream) - 1, b"Q")):
        damaged = stream[:place] + by + stream[place + len(by):]
        result = rbd("import", "--export-format", "2", "-", "cut", data=damaged)
        check(result.code in (errno.EINVAL, errno.EDOM) and "export it again" in result.err, result)
    fails(rbd("import", "-", "cut", "--stripe-unit", "3K", "--stripe-count", "2", data=b"x"), errno.EINVAL, "512")
    check("cut" not in says("ls"), "no half-made image")
    for name in ("piped", "in"):
        succeeds(rbd("rm", name))


@case
def differences():
    paths = [os.path.join(WHERE, name) for name in ("d1", "d2", "merged", "cut")]
    succeeds(rbd("snap", "create", "imp@1"))
    check(says("bench", "imp", "--io-type", "write", "--io-total", "400K", "--io-pattern", "rand")
          .startswith("bench  type write io_size 4096 io_threads 16 bytes 409600 pattern random\n"
                      "  SEC       OPS   OPS/SEC   BYTES/SEC\n"), "bench")
    succeeds(rbd("snap", "create", "imp@2"))
    lines = says("diff", "imp@2", "--from-snap", "1").splitlines()
    check(lines[0].split() == ["Offset", "Length", "Type"] and lines[1].split()[2] == "data", lines)
    check(list(tells("diff", "imp")[0]) == ["offset", "length", "exists"], tells("diff", "imp"))
    fails(rbd("diff", "imp", "--from-snap", "none"), errno.ENOENT, "no snapshot 'none'")
    succeeds(rbd("export-diff", "imp@1", paths[0]))
    succeeds(rbd("export-diff", "--from-snap", "1", "imp@2", paths[1]))
    fails(rbd("merge-diff", *paths[:2]), errno.EINVAL, "path was not specified")
    succeeds(rbd("merge-diff", *paths[:2], "--path", paths[2]))
    fails(rbd("merge-diff", paths[1], paths[0], paths[3]), errno.EINVAL, "first TO snapshot")
    check(not os.path.exists(paths[3]), "half a file")
    succeeds(rbd("create", "to", "-s", "1"))
    succeeds(rbd("import-diff", paths[2], "to"))
    check(succeeds(rbd("export", "to@2", "-")).out == succeeds(rbd("export", "imp@2", "-")).out, "merged")
    fails(rbd("import-diff", paths[2], "to"), errno.EEXIST, "import-diff failed")
    succeeds(rbd("create", "empty", "-s", "1"))
    fails(rbd("import-diff", paths[1], "empty"), errno.EINVAL, "has not got the snapshot")
    write_file(paths[3], read_file(paths[0])[:1000])
    fails(rbd("import-diff", paths[3], "empty"), errno.EBADMSG, "damaged, cut off")
    fails(rbd("merge-diff", paths[3], paths[1], paths[3] + "2"), errno.EDOM, "damaged, cut off")
    check(not os.path.exists(paths[3] + "2"), "half a file")
    fails(rbd("import-diff", os.path.join(WHERE, "in"), "empty"), errno.EINVAL, "no difference")
    check(says("snap", "ls", "empty") == "", "no snapshot of half a difference")
    succeeds(rbd("snap", "purge", "to"))
    for name in ("to", "empty"):
        succeeds(rbd("rm", name))


@case
def usage_and_copies():
    lines = says("du", "imp").splitlines()
    check(lines[0].split() == ["NAME", "PROVISIONED", "USED"] and lines[1].startswith("imp@1 ") and
          lines[-1].startswith("<TOTAL>"), lines)
    told = tells("du")
    check(list(told) == ["images", "total_provisioned_size", "total_used_size"], told)
    check(list(tells("du", "imp")) == ["images"], tells("du", "imp"))
    fails(rbd("du", "none"), errno.ENOENT, "specified image none is not found")
    def used(*words):
        return [(row["name"], row.get("snapshot"), row["used_size"]) for row in tells("du", *words)["images"]]
    write = ("bench", "used", "--io-type", "write", "--io-size", "4K", "--io-threads", "1", "--io-total")
    succeeds(rbd("create", "used", "--size", "16M"))
    succeeds(rbd(*write, "8K"))
    succeeds(rbd("snap", "create", "used@a"))
    succeeds(rbd(*write, "4K"))
    succeeds(rbd("snap", "create", "used@b"))
    check(used("used") == [("used", "a", 4 * MIB), ("used", "b", 4 * MIB), ("used", None, 0)], used("used"))
    check(used("used", "--exact") == [("used", "a", 8192), ("used", "b", 4096), ("used", None, 0)], used("used", "--exact"))
    check(used("used", "--merge-snapshots") == [("used", None, 8 * MIB)], used("used", "--merge-snapshots"))
    check(used("used", "--from-snap", "a") == [("used", "b", 4 * MIB), ("used", None, 0)], used("used", "--from-snap", "a"))
    fails(rbd("du", "used", "--from-snap", "c"), errno.ENOENT, "has no snapshot 'c'")
    fails(rbd("du", "--from-snap", "a"), errno.EINVAL, "name it")
    succeeds(rbd("snap", "purge", "used"))
    succeeds(rbd("rm", "used"))
    succeeds(rbd("cp", "imp@1", "copy"))
    succeeds(rbd("deep", "cp", "imp", "deep"))
    fails(rbd("cp", "imp", "deep"), errno.EEXIST, "copy failed")
    check(succeeds(rbd("export", "copy", "-")).out == succeeds(rbd("export", "imp@1", "-")).out, "cp")
    check([snap["name"] for snap in tells("snap", "ls", "deep")] == ["1", "2"], "deep cp")
    succeeds(rbd("sparsify", "copy"))
    succeeds(rbd("object-map", "check", "copy"))
    succeeds(rbd("object-map", "rebuild", "copy"))
    succeeds(rbd("snap", "purge", "deep"))
    for name in ("copy", "deep"):
        succeeds(rbd("rm", name))


@case
def locks_and_watchers():
    check(says("lock", "ls", "a") == "" and tells("lock", "ls", "a") == [], "no lock")
    succeeds(rbd("lock", "add", "a", "cook"))
    lines = says("lock", "ls", "a").splitlines()
    check(lines[0] == "There is 1 exclusive lock on this image." and
          lines[1].split() == ["Locker", "ID", "Address"] and lines[2].split()[1] == "cook", lines)
    check("excl" in says("ls", "-l"), "ls -l")
    fails(rbd("lock", "add", "a", "cook"), errno.EBUSY, "already held")
    fails(rbd("lock", "rm", "a", "cook"), errno.EINVAL, "locker was not specified")
    fails(rbd("lock", "rm", "a", "cook", "client.1"), errno.ENOENT, "releasing lock failed")
    fails(rbd("lock", "rm", "a", "cook", "nobody"), errno.EINVAL, "no locker")
    succeeds(rbd("lock", "rm", "a", "cook", lines[2].split()[0]))
    succeeds(rbd("lock", "add", "a", "x", "--shared", "tag"))
    check("Lock tag: tag\n" in says("lock", "ls", "a"), "tag")
    succeeds(rbd("lock", "rm", "a", "x", tells("lock", "ls", "a")[0]["locker"]))
    watch = subprocess.Popen([RBD, "watch", "a"], env=dict(os.environ, **cluster.env),
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        check(watch.stdout.readline() == "press enter to exit...\n", "watch")
        check(says("status", "a").startswith("Watchers:\n\twatcher="), says("status", "a"))
        fails(rbd("rm", "a"), errno.EBUSY, "watchers")
        succeeds(rbd("resize", "a", "-s", "6M"))
        check("received notification" in watch.stdout.readline(), "told of the size")
        watch.stdin.write("\n")
        watch.stdin.close()
        check(watch.wait(60) == 0, "watch ends")
    finally:
        if watch.poll() is None:
            watch.send_signal(signal.SIGKILL)
            watch.wait()
        watch.stdout.close()


@case
def a_lock_keeps_others_from_changing_an_image():
    """With exclusive-lock, as by rbd: it cannot take its lock then. Removing waits there for ever; here it is refused."""
    succeeds(rbd("create", "locked", "-s", "8M"))
    succeeds(rbd("snap", "create", "locked@s"))
    succeeds(rbd("clone", "locked@s", "lclone", "--rbd-default-clone-format", "2"))
    at = folder()
    difference, passphrase = os.path.join(at, "diff"), os.path.join(at, "pass")
    write_file(passphrase, b"secret")
    succeeds(rbd("export-diff", "locked@s", difference))
    for name in ("locked", "lclone"):
        succeeds(rbd("lock", "add", name, "mine"))
    for words in (("resize", "locked", "-s", "16M"), ("snap", "create", "locked@t"), ("snap", "rm", "locked@s"),
                  ("snap", "rm", "locked", "--snap-id", "1"), ("snap", "purge", "locked"), ("snap", "rollback", "locked@s"),
                  ("snap", "limit", "set", "locked", "--limit", "5"), ("mv", "locked", "moved"), ("flatten", "lclone"),
                  ("feature", "disable", "locked", "fast-diff"), ("object-map", "rebuild", "locked"),
                  ("image-meta", "set", "locked", "k", "v"), ("image-meta", "rm", "locked", "k"),
                  ("config", "image", "set", "locked", "rbd_qos_iops_limit", "3"), ("sparsify", "locked"),
                  ("config", "image", "rm", "locked", "rbd_qos_iops_limit"),
                  ("import-diff", difference, "locked"),
                  ("encryption", "format", "locked", "luks2", passphrase),
                  ("bench", "locked", "--io-type", "write", "--io-size", "4K", "--io-total", "4K")):
        fails(rbd(*words), errno.EROFS, "'rbd lock ls' shows which")
    fails(rbd("rm", "locked"), errno.ENOTEMPTY, "has snapshots")
    fails(rbd("trash", "mv", "locked"), errno.EBUSY, "image is locked")
    fails(rbd("rm", "lclone"), errno.EBUSY, "image is locked")
    fails(rbd("rm", "lclone", "--no-progress"), errno.EBUSY, "image is locked")
    # What changes no more than a snapshot's record, and what reads, needs no lock there either.
    succeeds(rbd("snap", "rename", "locked@s", "locked@r"))
    succeeds(rbd("snap", "protect", "locked@r"))
    succeeds(rbd("snap", "unprotect", "locked@r"))
    succeeds(rbd("bench", "locked", "--io-type", "read", "--io-size", "4K", "--io-total", "4K"))
    check(tells("info", "locked")["size"] == 8 << 20 and "locked\n" in says("ls"), "nothing has changed")
    for name in ("lclone", "locked"):
        succeeds(rbd("lock", "rm", name, "mine", tells("lock", "ls", name)[0]["locker"]))
        succeeds(rbd("snap", "purge", name))
        succeeds(rbd("rm", name))
    succeeds(rbd("create", "locked", "-s", "8M", "--image-feature", "layering"))
    succeeds(rbd("lock", "add", "locked", "mine"))
    succeeds(rbd("resize", "locked", "-s", "16M"))
    succeeds(rbd("rm", "locked"))


@case
def features_and_metadata():
    succeeds(rbd("feature", "disable", "a", "fast-diff"))
    check("fast-diff" not in says("info", "a"), "off")
    succeeds(rbd("feature", "enable", "a", "fast-diff"))
    fails(rbd("feature", "disable", "a", "layering"), errno.EINVAL, "failed to update image features")
    fails(rbd("feature", "disable", "a"), errno.EINVAL, "at least one feature")
    fails(rbd("feature", "enable", "a", "journaling"), errno.EINVAL, "there is no journaling")
    refused = rbd("feature", "enable", "a", "migrating")
    fails(refused, errno.EINVAL, "failed to update image features")
    check("journaling" not in refused.err, refused.err)
    check(says("image-meta", "ls", "a") == "There are 0 metadata on this image.\n", "none")
    succeeds(rbd("image-meta", "set", "a", "k", "v"))
    check(says("image-meta", "get", "a", "k") == "v\n", "get")
    check(says("image-meta", "list", "a") ==
          "There is 1 metadatum on this image:\n\nKey  Value\nk    v    \n", says("image-meta", "ls", "a"))
    check(tells("image-meta", "list", "a") == {"k": "v"}, "json")
    succeeds(rbd("image-meta", "rm", "a", "k"))
    fails(rbd("image-meta", "get", "a", "k"), errno.ENOENT, "getting metadata failed")
    fails(rbd("config", "image", "set", "a", "nonsense", "1"), errno.EINVAL, "not rbd option")
    succeeds(rbd("config", "image", "set", "a", "rbd_qos_iops_limit", "100"))
    check(says("config", "image", "get", "a", "rbd_qos_iops_limit") == "100\n", "config")
    succeeds(rbd("config", "pool", "set", "rbd", "rbd_qos_bps_limit", "1M"))
    found = {entry["name"]: entry for entry in tells("config", "image", "ls", "a")}
    check((found["rbd_qos_iops_limit"]["source"], found["rbd_qos_bps_limit"]["source"]) ==
          ("image", "pool"), found)
    succeeds(rbd("config", "image", "rm", "a", "rbd_qos_iops_limit"))
    succeeds(rbd("config", "pool", "rm", "rbd", "rbd_qos_bps_limit"))
    fails(rbd("config", "image", "get", "a", "rbd_qos_iops_limit"), errno.ENOENT, "is not set")


@case
def trash_and_namespaces():
    succeeds(rbd("trash", "mv", "a", "--expires-at", "tomorrow"))
    fails(rbd("trash", "mv", "none"), errno.ENOENT, "deferred delete error")
    number = tells("trash", "ls")[0]["id"]
    check(says("trash", "ls") == "%s a\n" % number, says("trash", "ls"))
    check("protected until" in says("trash", "ls", "-l"), "status")
    fails(rbd("trash", "rm", number), errno.EPERM, "--force")
    fails(rbd("trash", "rm", "none"), errno.ENOENT, "remove error")
    fails(rbd("trash", "restore", "none"), errno.ENOENT, "does not exist in trash")
    succeeds(rbd("trash", "purge"))
    succeeds(rbd("trash", "restore", number, "--image", "a2"))
    check("a2\n" in says("ls"), "restored")
    succeeds(rbd("trash", "mv", "a2"))
    succeeds(rbd("trash", "purge"))
    check(says("trash", "ls") == "", "purged")
    # A clone that goes takes the snapshot with it that waited for it, and so its parent can go; one with a snapshot stays.
    for name in ("parent", "keeper"):
        succeeds(rbd("create", "-s", "1", name))
        succeeds(rbd("snap", "create", name + "@s"))
    succeeds(rbd("clone", "--rbd-default-clone-format", "2", "parent@s", "kid"))
    succeeds(rbd("snap", "rm", "parent@s"))
    for name in ("parent", "keeper", "kid"):
        succeeds(rbd("trash", "mv", name))
    fails(rbd("trash", "purge", "--no-progress"), errno.ENOTEMPTY, "have snapshots, and stay: 'rbd trash restore'")
    check([row["name"] for row in tells("trash", "ls")] == ["keeper"], says("trash", "ls"))
    succeeds(rbd("trash", "restore", tells("trash", "ls")[0]["id"]))
    succeeds(rbd("snap", "purge", "keeper"))
    succeeds(rbd("rm", "keeper"))
    fails(rbd("trash", "purge", "--threshold", "2"), errno.EINVAL, "--threshold")
    fails(rbd("trash", "mv", "imp", "--expires-at", "whenever"), errno.EINVAL, "--expires-at")
    succeeds(rbd("namespace", "create", "rbd/n1"))
    fails(rbd("namespace", "create", "rbd/n1"), errno.EEXIST)
    fails(rbd("namespace", "create", "n1"), errno.EINVAL, "namespace name was not specified")
    check(says("namespace", "ls") == "NAME\nn1  \n" and tells("namespace", "ls") == [{"name": "n1"}], "ls")
    succeeds(rbd("create", "-s", "1", "rbd/n1/im"))
    check(says("ls", "rbd/n1") == "im\n" and says("-p", "rbd", "--namespace", "n1", "ls") == "im\n", "in it")
    fails(rbd("namespace", "rm", "rbd/n1"), errno.EBUSY, "contains images")
    succeeds(rbd("rm", "rbd/n1/im"))
    succeeds(rbd("namespace", "rm", "rbd/n1"))
    check(says("pool", "init", "rbd") == "" and "Total Images: " in says("pool", "stats"), "pool")


@case
def groups():
    succeeds(rbd("create", "-s", "1", "g1"))
    succeeds(rbd("group", "create", "g"))
    fails(rbd("group", "create", "g"), errno.EEXIST)
    succeeds(rbd("group", "image", "add", "g", "g1"))
    succeeds(rbd("group", "image", "add", "g", "g1"))
    succeeds(rbd("group", "create", "g3"))
    fails(rbd("group", "image", "add", "g3", "g1"), errno.EEXIST)
    succeeds(rbd("group", "rm", "g3"))
    check(says("group", "image", "ls", "g") == "rbd/g1\n" and says("group", "ls") == "g\n", "ls")
    check("\tgroup: rbd/g\n" in says("info", "g1"), says("info", "g1"))
    succeeds(rbd("group", "snap", "create", "g@s"))
    row = tells("snap", "ls", "g1", "--all")[-1]
    check(row["namespace"] == {"type": "group", "pool": "rbd", "group": "g", "group snap": "s"}, row)
    check("group (rbd/g@s)" in says("snap", "ls", "g1", "--all"), says("snap", "ls", "g1", "--all"))
    check(says("group", "snap", "ls", "g") == "NAME  STATUS\ns     ok    \n", says("group", "snap", "ls", "g"))
    succeeds(rbd("group", "snap", "rename", "g@s", "t"))
    succeeds(rbd("group", "snap", "rollback", "g@t"))
    fails(rbd("rm", "g1"), errno.ENOTEMPTY, "snapshots")
    succeeds(rbd("group", "snap", "rm", "g@t"))
    fails(rbd("rm", "g1"), errno.EMLINK, "belongs to a group")
    succeeds(rbd("group", "image", "rm", "g", "g1"))
    succeeds(rbd("group", "rename", "g", "h"))
    succeeds(rbd("group", "rm", "h"))
    succeeds(rbd("rm", "g1"))


@case
def groups_by_options():
    """Also of another pool, and images by their numbers."""
    succeeds(rbd("create", "-s", "1", "other/g1"))
    fails(rbd("group", "create"), errno.EINVAL, "group name was not specified")
    succeeds(rbd("group", "create", "--group", "g"))
    add = ("group", "image", "add", "--group-pool", "rbd", "--group", "g", "--image-pool", "other")
    fails(rbd(*add), errno.EINVAL, "image name was not specified")
    succeeds(rbd(*add, "--image", "g1"))
    check(says("group", "image", "ls", "--group", "g") == "other/g1\n", says("group", "image", "ls", "--group", "g"))
    succeeds(rbd("group", "snap", "create", "--group", "g", "--snap", "s"))
    succeeds(rbd("group", "snap", "rename", "--group", "g", "--snap", "s", "--dest-snap", "t"))
    succeeds(rbd("group", "snap", "rename", "--group", "g", "--snap", "t", "u"))
    check([row["snapshot"] for row in tells("group", "snap", "ls", "--group", "g")] == ["u"], "renamed")
    succeeds(rbd("group", "snap", "rollback", "--group", "g", "--snap", "u"))
    succeeds(rbd("group", "snap", "rm", "--group", "g", "--snap", "u"))
    fails(rbd("group", "rename", "--group", "g", "--dest-group", "h", "--dest-pool", "other"), errno.EINVAL, "across pools")
    fails(rbd("group", "rename", "--group", "g"), errno.EINVAL, "destination group name")
    fails(rbd("group", "rename", "--group", "g", "--dest-group", "h", "--dest-namespace", "other"), errno.EINVAL, "across namespaces")
    fails(rbd("group", "rename", "--group", "g", "h", "--dest-group", "h"), errno.EINVAL, "leave one")
    fails(rbd("group", "rm", "rbd/x", "--group", "g"), errno.EINVAL, "leave one")
    fails(rbd("group", "snap", "rollback", "x@s", "--group", "g", "--snap", "s"), errno.EINVAL, "leave one")
    succeeds(rbd("group", "rename", "--group", "g", "--dest-group", "h"))
    number = tells("info", "other/g1")["id"]
    take = ("group", "image", "rm", "h", "--image-pool", "other")
    fails(rbd(*take, "--image-id", "none"), errno.ENOENT, "none")
    fails(rbd(*take, "g1", "--image-id", number), errno.EINVAL, "both name and id")
    # By its id, whatever it is called, and also if nobody knows.
    succeeds(cluster.rados("-p", "other", "rmomapkey", "rbd_directory", "i/" + number))
    succeeds(rbd(*take, "--image-id", number))
    check(says("group", "image", "ls", "h") == "", "taken out")
    fails(rbd(*take, "--image-id", number), errno.ENOENT, number)
    succeeds(cluster.rados("-p", "other", "setomapval", "rbd_directory", "i/" + number, "g1"))
    succeeds(rbd("group", "rm", "--group", "h"))
    succeeds(rbd("rm", "other/g1"))


@case
def images_and_snapshots_by_number():
    succeeds(rbd("create", "-s", "1", "n1"))
    number = tells("info", "n1")["id"]
    for snap in ("a", "b", "c"):
        succeeds(rbd("snap", "create", "n1@" + snap))
        succeeds(rbd("snap", "protect", "n1@" + snap))
    succeeds(rbd("clone", "n1@a", "n2"))
    numbers = {row["name"]: str(row["id"]) for row in tells("snap", "ls", "n1")}
    check(says("children", "n1", "--snap-id", numbers["a"]) == "rbd/n2\n" and says("children", "n1", "--snap-id", numbers["b"]) == "",
          "children of a snapshot")
    fails(rbd("children", "n1", "--snap-id", "999"), errno.ENOENT, "rbd snap ls rbd/n1")
    succeeds(rbd("rm", "n2"))
    fails(rbd("snap", "unprotect", "--image-id", number), errno.EINVAL, "snapshot name was not specified")
    fails(rbd("snap", "unprotect", "n1@a", "--image-id", number), errno.EINVAL, "both name and id")
    succeeds(rbd("snap", "unprotect", "--image-id", number, "--snap", "a"))
    fails(rbd("snap", "rm", "--image-id", "none", "--snap", "a"), errno.ENOENT, "none")
    succeeds(rbd("snap", "rm", "--image-id", number, "--snap", "a"))
    succeeds(rbd("snap", "unprotect", "n1@b"))
    succeeds(rbd("snap", "rm", "--image-id", number, "--snap-id", numbers["b"]))
    fails(rbd("snap", "purge", "--image-id", number), errno.EBUSY)
    succeeds(rbd("snap", "unprotect", "--image-id", number, "--snap", "c"))
    succeeds(rbd("snap", "purge", "--image-id", number))
    check(tells("snap", "ls", "n1") == [], "purged")
    succeeds(rbd("config", "image", "set", "--image", "n1", "rbd_qos_iops_limit", "100"))
    check(says("config", "image", "get", "--image", "n1", "rbd_qos_iops_limit") == "100\n", "config")
    fails(rbd("config", "image", "set", "--image", "n1", "rbd_qos_iops_limit"), errno.EINVAL, "value was not specified")
    succeeds(rbd("config", "image", "rm", "--image", "n1", "rbd_qos_iops_limit"))
    fails(rbd("config", "image", "get", "n1", "rbd_qos_iops_limit"), errno.ENOENT)
    succeeds(rbd("rm", "n1"))


@case
def what_is_not_there_says_so():
    """The numbers are those of Ceph's rbd, where mirroring, journals and schedules are not used."""
    absent = (("journal", "info", "x"), errno.ENOENT), (("mirror", "pool", "status"), errno.EINVAL), \
        (("mirror", "image", "enable", "x", "snapshot"), errno.EINVAL), (("migration", "prepare", "x", "y"), errno.EOPNOTSUPP), \
        (("config", "global", "set", "client", "rbd_cache", "true"), errno.EOPNOTSUPP), \
        (("config", "global", "get", "client", "rbd_cache"), errno.ENOENT), (("trash", "purge", "schedule", "add", "1d"), errno.EOPNOTSUPP), \
        (("trash", "purge", "schedule", "ls", "-R"), errno.ENOENT), (("perf", "image", "iostat", "--iterations", "1"), errno.EOPNOTSUPP), \
        (("device", "attach", "x", "--device", "/dev/nbd0"), errno.EOPNOTSUPP), (("mirror", "pool", "peer", "add", "rbd", "a@b"), errno.EINVAL)
    for words, error in absent:
        fails(rbd(*words), error, "%s: (%d) " % (" ".join(words[:2]), error) if words[0] == "journal" else "(%d) " % error)
    check(says("mirror", "pool", "info") == "Mode: disabled\n" and tells("mirror", "pool", "info") == {"mode": "disabled"}, "pool info")
    check(says("config", "global", "ls", "global") == "" and says("persistent-cache", "flush", "x") == "", "nothing to be done")
    fails(rbd("mirror", "nonsense"), errno.EINVAL, "unknown command 'rbd mirror nonsense'")
    for option in ("--cookie=x", "--show-cookie", "--quiesce", "--quiesce-hook=/bin/true"):
        fails(rbd("device", "map", "x", option), errno.EOPNOTSUPP, "map failed")
    fails(rbd("create", "x", "-s", "1", "--mirror-image-mode", "snapshot"), errno.ENOENT, "there is no mirroring")
    succeeds(rbd("create", "x", "-s", "1", "--journal-pool", "rbd", "--new-format"))
    succeeds(rbd("rm", "x"))


if __name__ == "__main__":
    run()
