#!/usr/bin/env python3
"""The verbs of `limpet rados` beyond contents: attributes, maps, locks, copies, export and import, bench.
What they print is compared with what Ceph's rados prints."""

import errno
import json
import os
import re
import struct

from lib.cluster import (BUILD, Cluster, case, check, command, fails, folder, random_bytes, read_file, run,
                         succeeds, write_file)

cluster = Cluster(mons=1, osds=3)
scratch = folder()


def rados(*arguments, pool="data", data=b""):
    return cluster.rados("-p", pool, *arguments, data=data)


def text(*arguments, **options):
    return succeeds(rados(*arguments, **options)).text


def refused(result, error, *words):
    fails(result, error, *map(re.escape, words))


def expect(got, want, what):
    check(got == want, "%s: %r, not %r" % (what, got, want))


@case
def starts():
    cluster.start()
    for name in ("data", "copy", "third"):
        cluster.pool(name)


@case
def attributes():
    cluster.put("data", "a", b"hello world")
    succeeds(rados("setxattr", "a", "k", "v1"))
    succeeds(rados("setxattr", "a", "stdin", data=b"from\0stdin"))
    succeeds(rados("setxattr", "a", "file", "--input-file", write_file(os.path.join(scratch, "v"), b"of a file")))
    expect(succeeds(rados("getxattr", "a", "k")).out, b"v1", "value")
    expect(succeeds(rados("getxattr", "a", "stdin")).out, b"from\0stdin", "value of stdin")
    expect(text("listxattr", "a"), "file\nk\nstdin\n", "listxattr")
    expect(json.loads(text("listxattr", "a", "-f", "json")), ["file", "k", "stdin"], "as JSON")
    refused(rados("getxattr", "a", "none"), errno.ENODATA, "error getting xattr data/a/none: (61) No data available")
    refused(rados("getxattr", "none", "k"), errno.ENOENT, "error getting xattr data/none/k")
    succeeds(rados("rmxattr", "a", "k"))
    succeeds(rados("rmxattr", "a", "k"))
    refused(rados("rmxattr", "none", "k"), errno.ENOENT, "error removing xattr data/none/k")
    refused(rados("listxattr", "none"), errno.ENOENT, "error getting xattr set data/none")
    refused(rados("setxattr", "a", "large", data=b"x" * 65537), errno.EFBIG)
    refused(rados("setxattr", "a", "n" * 255, "v"), errno.ENAMETOOLONG)


@case
def maps():
    succeeds(rados("setomapval", "m", "key1", "value1"))
    succeeds(rados("setomapval", "m", "key2", "--input-file", write_file(os.path.join(scratch, "v"), b"va\x01l\n")))
    succeeds(rados("setomapval", "m", "key3", data=b"stdin omap value, longer than sixteen bytes"))
    expect(text("listomapkeys", "m"), "key1\nkey2\nkey3\n", "keys")
    expect(text("listomapvals", "m"), """\
key1
value (6 bytes) :
00000000  76 61 6c 75 65 31                                 |value1|
00000006

key2
value (5 bytes) :
00000000  76 61 01 6c 0a                                    |va.l.|
00000005

key3
value (43 bytes) :
00000000  73 74 64 69 6e 20 6f 6d  61 70 20 76 61 6c 75 65  |stdin omap value|
00000010  2c 20 6c 6f 6e 67 65 72  20 74 68 61 6e 20 73 69  |, longer than si|
00000020  78 74 65 65 6e 20 62 79  74 65 73                 |xteen bytes|
0000002b

""", "values")
    expect(text("getomapval", "m", "key1"), "value (6 bytes) :\n00000000  76 61 6c 75 65 31                    "
           "             |value1|\n00000006\n\n", "a value")
    target = os.path.join(scratch, "out")
    check("Writing to %s" % target in succeeds(rados("getomapval", "m", "key3", target)).err, "says where to")
    expect(read_file(target), b"stdin omap value, longer than sixteen bytes", "into a file")
    result = rados("getomapval", "m", "none")
    refused(result, errno.ENOENT)
    expect(result.text, "No such key: data/m/none\n", "no such key")
    odd = write_file(os.path.join(scratch, "key"), b"odd\0key")
    succeeds(rados("setomapval", "m", "--omap-key-file", odd, "odd value"))
    expect(text("listomapkeys", "m").split("\n")[-2], "odd\0key", "a key of a file")
    succeeds(rados("rmomapkey", "m", "--omap-key-file", odd))
    refused(rados("rmomapkey", "m"), errno.EINVAL, "omap-key-file")
    succeeds(rados("rmomapkey", "m", "key1"))
    succeeds(rados("rmomapkey", "m", "key1"))
    refused(rados("rmomapkey", "none", "key1"), errno.ENOENT, "error removing omap key data/none/key1")
    expect(text("getomapheader", "m"), "header (0 bytes) :\n\n", "no header")
    succeeds(rados("setomapheader", "m", "thehdr"))
    expect(text("getomapheader", "m"), "header (6 bytes) :\n00000000  74 68 65 68 64 72                          "
           "       |thehdr|\n00000006\n\n", "header")
    succeeds(rados("clearomap", "m"))
    expect(text("listomapvals", "m"), "", "cleared")
    refused(rados("clearomap", "none", "m"), errno.ENOENT, "error clearing omap keys data/none")
    refused(rados("listomapkeys", "none"), errno.ENOENT, "error getting omap key set data/none")


@case
def repeated_bytes_are_shown_once():
    succeeds(rados("setomapval", "z", "k", data=b"\0" * 64 + b"end"))
    expect(text("getomapval", "z", "k").splitlines()[1:], [
        "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|", "*",
        "00000040  65 6e 64                                          |end|", "00000043", ""], "zeroes")


@case
def large_maps_are_listed_in_pages():
    path = os.path.join(scratch, "many")
    keys = ["key%05d" % i for i in range(2500)]
    pairs = b"".join(record(5, string16(key.encode()) + string32(b"v" * 20)) for key in keys)
    write_file(path, stream(record(1, struct.pack("<QQ", 0, 1) + string16(b"") * 2 + string16(b"many")) + pairs
                            + record(6, b""), 1))
    text("import", path)
    expect(text("listomapkeys", "many").splitlines(), keys, "all keys")
    expect(text("stat2", "many"), "data/many mtime 1970-01-01T00:00:00.000000+0000, size 0\n", "its time")


@case
def time_and_existence():
    succeeds(rados("touch", "t"))
    succeeds(rados("touch", "t", "1234567890"))
    check(re.fullmatch(r"data/t mtime 2009-02-1\dT\d\d:\d\d:30.000000[+-]\d{4}, size 0\n", text("stat", "t")), "touch")
    refused(rados("touch", "t", "123.5"), errno.EINVAL, "timestamp")
    refused(rados("create", "t"), errno.EEXIST, "error creating data/t: (17) File exists")
    succeeds(rados("create", "t2"))
    succeeds(rados("set-alloc-hint", "t3", "4M", "4K"))
    expect(sorted(text("ls").splitlines()).count("t3"), 1, "a hint makes the object")


@case
def locators():
    succeeds(rados("--object-locator", "loc", "put", "inloc", "-", data=b"x"))
    succeeds(rados("-N", "ns", "--object-locator", "loc", "put", "inboth", "-", data=b"y"))
    refused(rados("stat", "inloc"), errno.ENOENT)
    succeeds(rados("--object-locator", "loc", "stat", "inloc"))
    check("inloc\tloc" in text("ls").splitlines(), "ls: %r" % text("ls"))
    check("ns\tinboth\tloc" in text("ls", "--all").splitlines(), "ls --all: %r" % text("ls", "--all"))
    found = json.loads(text("ls", "--all", "-f", "json"))
    check({"namespace": "ns", "name": "inboth", "locator": "loc"} in found, "as JSON: %r" % found)
    check({"namespace": "", "name": "a"} in found, "one without: %r" % found)


@case
def copies():
    large = random_bytes(9 * 1024 * 1024 + 7, "large")
    cluster.put("data", "large", large)
    succeeds(rados("setxattr", "large", "k", "v"))
    succeeds(rados("setomapval", "large", "key", "value"))
    succeeds(rados("setomapheader", "large", "head"))
    cluster.put("data", "target", b"there before")
    succeeds(rados("setxattr", "target", "old", "v"))
    succeeds(rados("cp", "large", "target"))
    check(cluster.get("data", "target") == large, "contents")
    expect(text("listxattr", "target"), "k\n", "attributes")
    expect(text("listomapkeys", "target"), "key\n", "map")
    expect(text("stat", "target").split("mtime")[1], text("stat", "large").split("mtime")[1], "time")
    succeeds(rados("cp", "large", "--target-pool", "copy", "--target-nspace", "n", "--target-locator", "l"))
    expect(text("ls", "--all", pool="copy"), "n\tlarge\tl\n", "where it is")
    refused(rados("cp", "large"), errno.EINVAL, "cannot copy object into itself")
    refused(rados("cp", "none", "x"), errno.ENOENT, "error copying data/none => data/x: (2) No such file or directory")


# ---- Streams ----

def string16(data):
    return struct.pack("<H", len(data)) + data


def string32(data):
    return struct.pack("<I", len(data)) + data


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def record(kind, data):
    whole = struct.pack("<BI", kind, len(data)) + data
    return whole + struct.pack("<I", crc32c(whole))


def stream(records, objects):
    return b"limpet export 1\n" + records + record(7, struct.pack("<Q", objects))


def state(pool):
    """Everything that can be seen of a pool."""
    found = {}
    for entry in json.loads(text("ls", "--all", "-f", "json", pool=pool)):
        where = ["-N", entry["namespace"], "--object-locator", entry.get("locator", "")]
        name = entry["name"]
        found[entry["namespace"], entry.get("locator"), name] = (
            succeeds(rados(*where, "get", name, "-", pool=pool)).out, text(*where, "listxattr", name, pool=pool),
            text(*where, "listomapvals", name, pool=pool), text(*where, "getomapheader", name, pool=pool),
            text(*where, "stat2", name, pool=pool).split("mtime")[1])
    return found


@case
def pools_are_exported_and_imported():
    path, before = os.path.join(scratch, "exported"), state("data")
    text("export", path)
    text("import", path, pool="third")
    expect(state("third").keys(), before.keys(), "objects")
    check(state("third") == before, "what they hold")
    piped = succeeds(rados("export", "-")).out
    check(piped == read_file(path), "to standard output")
    said = text("import", "-", pool="third", data=piped)
    check("***Overwrite*** ns/inboth@loc\n" in said and said.startswith("Importing pool\n"), "import: %r" % said)
    cluster.put("third", "a", b"changed")
    said = text("import", path, "--no-overwrite", pool="third")
    check("Skipping existing a\n" in said, "import: %r" % said)
    check(cluster.get("third", "a") == b"changed", "--no-overwrite")
    succeeds(rados("rm", "a", pool="third"))
    check("Write a\n" in text("import", path, "--dry-run", pool="third"), "--dry-run")
    refused(rados("get", "a", "-", pool="third"), errno.ENOENT)


@case
def damaged_streams_are_refused():
    whole = stream(record(1, struct.pack("<QQ", 3, 5) + string16(b"") * 2 + string16(b"damaged"))
                   + record(2, struct.pack("<Q", 0) + b"abc") + record(6, b""), 1)
    for at in range(16, len(whole)):
        if at % 7 == 0:
            refused(rados("import", "-", data=whole[:at], pool="third"), errno.EBADMSG)
            broken = bytearray(whole)
            broken[at] ^= 4
            refused(rados("import", "-", data=bytes(broken), pool="third"), errno.EBADMSG)
    refused(rados("import", "-", data=b"something else entirely", pool="third"), errno.EBADMSG, "rados export")
    refused(rados("import", os.path.join(scratch, "none"), pool="third"), errno.ENOENT)
    text("import", "-", data=whole, pool="third")
    expect(cluster.get("third", "damaged"), b"abc", "the good one")


@case
def whole_pools():
    refused(rados("purge", "third"), errno.EPERM, "yes-i-really-really-mean-it")
    expect(text("purge", "third", "--yes-i-really-really-mean-it"), "successfully purged pool third\n", "purge")
    expect(text("ls", "--all", pool="third"), "", "what is left")
    said = text("cppool", "data", "third")
    check("data:inloc(@loc) => third:inloc(@loc)\n" in said and said.endswith("successfully copied pool data\n"),
          "cppool: %r" % said)
    check(state("third") == state("data"), "a copied pool")


@case
def locks():
    succeeds(rados("lock", "get", "a", "l1"))
    refused(rados("lock", "get", "a", "l1"), errno.EBUSY, "ERROR: failed locking: (16) Device or resource busy")
    succeeds(rados("lock", "get", "a", "l2", "--lock-type", "shared", "--lock-tag", "tag", "--lock-cookie", "ck",
                   "--lock-description", "des c", "--lock-duration", "1000"))
    expect(text("lock", "list", "a"), '{"objname":"a","locks":[{"name":"l1"},{"name":"l2"}]}\n', "list")
    info = json.loads(text("lock", "info", "a", "l2"))
    expect((info["name"], info["type"], info["tag"], len(info["lockers"])), ("l2", "shared", "tag", 1), "info")
    holder = info["lockers"][0]
    expect((holder["cookie"], holder["description"]), ("ck", "des c"), "holder")
    check(re.match(r"\d{4}-\d\d-\d\dT", holder["expiration"]), "expiration: %r" % holder)
    expect(text("lock", "info", "a", "none"), '{"name":"none","type":"none","tag":"","lockers":[]}\n', "no lock")
    refused(rados("lock", "break", "a", "l2", "client.999", "--lock-cookie", "ck"), errno.ENOENT,
          "ERROR: failed breaking lock: (2) No such file or directory")
    refused(rados("lock", "break", "a", "l2", "foo"), errno.EINVAL, "ERROR: failed to parse locker name (foo)")
    succeeds(rados("lock", "break", "a", "l2", holder["name"], "--lock-cookie", "ck"))
    expect(json.loads(text("lock", "info", "a", "l2"))["lockers"], [], "broken")
    refused(rados("lock", "list", "none"), errno.ENOENT)


HEAD = "  sec Cur ops   started  finished  avg MB/s  cur MB/s last lat(s)  avg lat(s)"
LABELS = ["Total time run:", "Total writes made:", "Write size:", "Object size:", "Bandwidth (MB/sec):",
          "Stddev Bandwidth:", "Max bandwidth (MB/sec):", "Min bandwidth (MB/sec):", "Average IOPS:", "Stddev IOPS:",
          "Max IOPS:", "Min IOPS:", "Average Latency(s):", "Stddev Latency(s):", "Max latency(s):", "Min latency(s):"]


@case
def bench_measures_as_rados_does():
    lines = text("bench", "1", "write", "-b", "4096", "-t", "4", "--no-cleanup", pool="copy").splitlines()
    expect(lines[:2], ["hints = 1", "Maintaining 4 concurrent writes of 4096 bytes to objects of size 4096 for up "
                       "to 1 seconds or 0 objects"], "what it does")
    check(lines[2].startswith("Object prefix: benchmark_data_"), lines[2])
    expect(lines[3], HEAD, "head")
    expect(lines[4], "    0       4         4         0         0         0           -           0", "first line")
    found = [line[:24].rstrip() for line in lines if line[:24].rstrip() in LABELS]
    expect(found, LABELS, "figures")
    made = int(next(line for line in lines if line.startswith("Total writes made:")).split()[-1])
    names = text("ls", pool="copy").splitlines()
    expect(sum(name.startswith("benchmark_data_") for name in names), made, "objects that were left")
    check("benchmark_last_metadata" in names, "a note of the run")
    lines = text("bench", "1", "seq", "-t", "4", pool="copy").splitlines()
    check("Total reads made:     %d" % made in lines or any("Total reads made:" in line for line in lines), "seq")
    report = json.loads(text("bench", "1", "rand", "-t", "4", "-f", "json", pool="copy"))
    check(int(report["total_reads_made"]) > 0 and report["read_size"] == "4096" and report["datas"], "rand: %r" % report)
    expect(text("cleanup", pool="copy"), "Removed %d objects\n" % made, "cleanup")
    check(not any(name.startswith("bench") for name in text("ls", pool="copy").splitlines()), "something is left")
    expect(text("cleanup", pool="copy"), "", "nothing to clean up")
    refused(rados("bench", "1", "seq", pool="copy"), errno.ENOENT, "Must write data before running a read benchmark!")


@case
def bench_cleans_up():
    lines = text("bench", "60", "write", "-b", "1K", "-O", "4K", "-t", "2", "--max-objects", "10",
                 pool="copy").splitlines()
    check("Total writes made:      40" in lines and "Removed 10 objects" in lines, "%r" % lines)
    expect(text("ls", pool="copy"), "", "what is left")
    text("bench", "60", "write", "-b", "1K", "--max-objects", "7", "--run-name", "mine", "--no-cleanup", pool="copy")
    lines = text("bench", "60", "seq", "--run-name", "mine", pool="copy").splitlines()
    check("Total reads made:     7" in lines, "%r" % lines)
    expect(text("cleanup", "--prefix", "benchmark_data", pool="copy"),
           "Warning: using slow linear search\nRemoved 7 objects\n", "by prefix")
    refused(rados("bench", "0", "write"), errno.EINVAL, "seconds")
    refused(rados("bench", "1", "foo"), errno.EINVAL)
    refused(rados("bench", "1", "write", "-b", "3K", "-O", "4K"), errno.EINVAL, "multiple")


@case
def df_has_the_columns_of_rados():
    head = text("df").splitlines()[0].split()
    expect(" ".join(head), "POOL_NAME USED OBJECTS CLONES COPIES MISSING_ON_PRIMARY UNFOUND DEGRADED RD_OPS RD WR_OPS "
           "WR USED COMPR UNDER COMPR", "df")


@case
def lists_one_group():
    everything = text("ls").split()
    groups = json.loads(succeeds(cluster.limpet("pg", "ls", "data", "-f", "json")).text)
    groups = [group["pgid"] for group in groups["pg_stats"]]
    listed = [succeeds(cluster.rados("--pgid", pgid, "ls")).text.split() for pgid in groups]
    check(sum(map(bool, listed)) > 1, "all objects lie in one group")
    check(sorted(sum(listed, [])) == sorted(everything), "%r, not %r" % (listed, everything))
    number = groups[0].split(".")[0]
    refused(cluster.rados("--pgid", number + ".ffff", "ls"), errno.ENOENT, "pg %s.ffff does not exist" % number)
    refused(cluster.rados("--pgid", "data", "ls"), errno.EINVAL, "'data' is no placement group")


@case
def makes_the_pool_first():
    for _ in range(2):
        succeeds(cluster.rados("-p", "made", "--create", "put", "one", "-", data=b"1"))
    expect(succeeds(cluster.rados("-p", "made", "get", "one", "-")).text, "1",
           "the object")
    refused(cluster.rados("-p", "unmade", "put", "one", "-", data=b"1"), errno.ENOENT, "unmade")


@case
def answers_to_its_link():
    link = os.path.join(BUILD, "compat", "bin", "rados")
    check(succeeds(command([link, "-p", "data", "get", "a", "-"], env=cluster.env)).out == b"hello world", "get")
    offered = succeeds(command([link, "__complete", "--", "lock", ""], env=cluster.env)).text
    expect([line.split("\t")[0] for line in offered.splitlines()], ["get", "list", "info", "break"], "verbs of lock")
    offered = succeeds(command([link, "__complete", "--", "-p", ""], env=cluster.env)).text
    check("data\tpool" in offered.splitlines(), "pools: %r" % offered)
    script = succeeds(cluster.limpet("completion", "bash")).text
    script += "COMP_WORDS=(rados setxa) COMP_CWORD=1; _limpet; echo ${COMPREPLY[0]}; complete -p rados"
    env = dict(cluster.env, PATH=os.path.dirname(link) + ":" + os.environ["PATH"])
    said = succeeds(command(["bash", "-c", script], env=env)).text
    expect(said, "setxattr\ncomplete -F _limpet rados\n", "completion in bash")


if __name__ == "__main__":
    run()
