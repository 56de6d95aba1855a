#!/usr/bin/env python3
"""Unmodified programs of the distribution that use Ceph's libraries, on ours: fio, qemu-img,
nfs-ganesha's and ctdb's helpers. deploy/setup installs them; a case says so when its program is not there."""

import errno
import glob
import json
import os
import shutil
import signal
import subprocess

from lib.cluster import (BUILD, REPO, SLOWNESS, Cluster, case, check, command, folder,
                         random_bytes, read_file, run, succeeds, write_file)
from lib.librados import FOLDER, environment

CTDB_HELPER = "/usr/libexec/ctdb/ctdb_mutex_ceph_rados_helper"

cluster = Cluster(mons=1, osds=3)


def installed(program, package):
    found = shutil.which(program) is not None
    if not found:
        print("skipped: the package %s is not installed" % package)
    return found


@case
def starts():
    cluster.start()
    cluster.pool("data")


def fio(*options):
    """(exit status, its job's results): two objects of 2 MiB, 16 requests at a time."""
    result = command(
        ["fio", "--name=job", "--ioengine=rados", "--clientname=admin", "--pool=data",
         "--conf=" + cluster.conf, "--bs=4k", "--size=4m", "--nrfiles=2", "--iodepth=16",
         "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--thread", "--output-format=json", *options],
        env=environment(cluster), cwd=folder())
    return result, json.loads(result.text[result.text.index("{"):])["jobs"][0]


@case
def fio_writes_and_verifies():
    if not installed("fio", "fio"):
        return
    result, job = fio("--rw=randwrite", "--do_verify=1")
    succeeds(result)
    check(job["error"] == 0, "error %d" % job["error"])
    for way in ("write", "read"):
        check(job[way]["total_ios"] == 1024, "%s: %d" % (way, job[way]["total_ios"]))
    names = sorted(entry["name"] for entry in
                   json.loads(succeeds(cluster.rados("-p", "data", "ls", "-f", "json")).text))
    check(names == ["job.0.0", "job.0.1"], names)
    result, job = fio("--rw=randread")
    succeeds(result)
    check(job["read"]["total_ios"] == 1024, "read in another process: %d" % job["read"]["total_ios"])
    data = bytearray(cluster.get("data", names[1]))
    check(len(data) == 2 << 20, len(data))
    data[1000000] ^= 1
    cluster.put("data", names[1], bytes(data))
    result, job = fio("--rw=randread")
    check(result.code != 0 and job["error"] == errno.EILSEQ, "a wrong byte is not found: %s" % result)


def fio_rbd(*options):
    """(what fio ended with, its job's results): an image of 16 MiB, 16 requests at a time."""
    result = command(["fio", "--name=job", "--ioengine=rbd", "--clientname=admin", "--pool=data",
                      "--rbdname=fio", "--bs=4k", "--size=16m", "--iodepth=16",
                      "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--thread", "--output-format=json",
                      *options],
                     env=environment(cluster), cwd=folder())
    text = result.text
    return result, json.loads(text[text.index("{"):])["jobs"][0] if "{" in text else None


@case
def fio_writes_and_verifies_an_image():
    if not installed("fio", "fio"):
        return
    result, _ = fio_rbd("--rw=write")
    check(result.code != 0 and "rbd_open failed" in result.text + result.err, result)
    succeeds(cluster.limpet("rbd", "create", "data/fio", "--size", "16M"))
    for way in ("--rw=randwrite", "--rw=write"):
        result, job = fio_rbd(way, "--do_verify=1")
        succeeds(result)
        check(job["error"] == 0, "error %d" % job["error"])
        for what in ("write", "read"):
            check(job[what]["total_ios"] == 4096, "%s: %d" % (what, job[what]["total_ios"]))
    result, job = fio_rbd("--rw=randread")
    succeeds(result)
    check(job["read"]["total_ios"] == 4096, "another process reads %d" % job["read"]["total_ios"])
    result, job = fio_rbd("--rw=randtrim", "--verify=0")
    succeeds(result)
    check(job["error"] == 0 and job["trim"]["total_ios"] == 4096, "trims: %s" % result)
    result, job = fio_rbd("--rw=randread")
    check(result.code != 0 and job["error"] == errno.EILSEQ, "what was trimmed away is zeroes")


def qemu_img(*arguments):
    return command(["qemu-img", *arguments], env=environment(cluster), cwd=folder())


@case
def qemu_img_makes_converts_compares_and_maps():
    if not installed("qemu-img", "qemu-utils") or not glob.glob("/usr/lib/*/qemu/block-rbd.so"):
        return
    image, raw = "rbd:data/qemu", os.path.join(folder(), "raw")
    data = random_bytes(3 << 20, 1) + bytes(5 << 20) + random_bytes(1 << 20, 2)
    write_file(raw, data)
    check("No such file" in qemu_img("info", image).err, "there is none yet")
    check("nowhere" in qemu_img("info", "rbd:nowhere/x").err, "there is no such pool")
    succeeds(qemu_img("create", "-f", "raw", image, "64M"))
    check(qemu_img("create", "-f", "raw", image, "64M").code != 0, "there is one now")
    told = json.loads(succeeds(qemu_img("info", "--output=json", image)).text)
    check(told["virtual-size"] == 64 << 20 and told["cluster-size"] == 4 << 20, told)
    succeeds(qemu_img("convert", "-f", "raw", "-O", "raw", "-n", raw, image))
    check("identical" in succeeds(qemu_img("compare", "-f", "raw", "-F", "raw", raw, image)).text,
          "compare")
    extents = json.loads(succeeds(qemu_img("map", "-f", "raw", "--output=json", image)).text)
    check(extents[-1]["start"] + extents[-1]["length"] == 64 << 20 and not extents[-1]["data"], extents)
    succeeds(qemu_img("snapshot", "-c", "first", image))
    check(" first " in succeeds(qemu_img("snapshot", "-l", image)).text, "list of snapshots")
    succeeds(qemu_img("bench", "-f", "raw", "-w", "-c", "500", "-d", "16", "-s", "4096", image))
    check(qemu_img("compare", "-f", "raw", "-F", "raw", raw, image).code == 1, "it differs now")
    succeeds(qemu_img("snapshot", "-a", "first", image))
    back = os.path.join(folder(), "back")
    succeeds(qemu_img("convert", "-f", "raw", "-O", "raw", image, back))
    check(read_file(back) == data + bytes((64 << 20) - len(data)), "the snapshot's contents")
    succeeds(qemu_img("snapshot", "-d", "first", image))
    succeeds(qemu_img("resize", "-f", "raw", image, "128M"))
    check(qemu_img("resize", "-f", "raw", image, "8M").code != 0, "not smaller without being told to")
    succeeds(qemu_img("resize", "-f", "raw", "--shrink", image, "8M"))


@case
def qemu_img_keeps_qcow2_in_an_image():
    if not installed("qemu-img", "qemu-utils") or not glob.glob("/usr/lib/*/qemu/block-rbd.so"):
        return
    image = "rbd:data/qcow2"
    succeeds(qemu_img("create", "-f", "qcow2", image, "32M"))
    succeeds(qemu_img("bench", "-f", "qcow2", "-w", "-c", "200", "-s", "4096", image))
    checked = json.loads(succeeds(qemu_img("check", "-f", "qcow2", "--output=json", image)).text)
    check(checked["check-errors"] == 0, checked)


def symbols(which, path):
    lines = succeeds(command(["nm", "-D", which, path])).text.splitlines()
    return {line.split()[-1] for line in lines}


@case
def programs_find_all_their_functions():
    """What is imported of librados and librbd by what is installed of Ceph's users."""
    ours = symbols("--defined-only", os.path.join(FOLDER, "librados.so.2"))
    ours |= symbols("--defined-only", os.path.join(FOLDER, "librbd.so.1"))
    ours = {name.split("@")[0] for name in ours}
    modules = [path for name in ("rados", "rbd")
               for path in glob.glob("/usr/lib/python3/dist-packages/%s.*.so" % name)]
    programs = [shutil.which(name) for name in ("fio", "ganesha-rados-grace", CTDB_HELPER)]
    programs += glob.glob("/usr/lib/*/qemu/block-rbd.so")
    for path in modules + [path for path in programs if path is not None]:
        wanted = {name.split("@")[0] for name in symbols("--undefined-only", path)}
        missing = {name for name in wanted if name.startswith(("rados_", "rbd_"))} - ours
        check(not missing, "%s wants %r" % (path, sorted(missing)))


def grace(*arguments):
    return command(["ganesha-rados-grace", "--pool", "data", "--ns", "ganesha", *arguments],
                   env=environment(cluster))


def grace_dump():
    """(epoch, epoch to recover from, {host: flags})"""
    lines = succeeds(grace("dump")).text.splitlines()
    epochs = dict(word.split("=") for word in lines[0].split())
    hosts = dict(line.split("\t") for line in lines[2:])
    return int(epochs["cur"]), int(epochs["rec"]), {host: flags.strip() for host, flags in hosts.items()}


@case
def ganesha_keeps_its_grace_periods():
    """The life of a cluster of NFS servers. What is expected is what the program says on Ceph 16."""
    if not installed("ganesha-rados-grace", "nfs-ganesha-rados-grace"):
        return
    check(grace("dump").code == 1, "there is no database yet")
    succeeds(grace("add", "a", "b", "c"))
    check(grace_dump() == (1, 0, {"a": "E", "b": "E", "c": "E"}), grace_dump())
    succeeds(grace("start", "a"))
    succeeds(grace("join", "b"))
    check(grace_dump() == (2, 1, {"a": "NE", "b": "NE", "c": "E"}), grace_dump())
    succeeds(grace("lift", "a"))
    check(grace_dump() == (2, 1, {"a": "E", "b": "NE", "c": "E"}), grace_dump())
    succeeds(grace("lift", "b"))
    check(grace_dump() == (2, 0, {"a": "E", "b": "E", "c": "E"}), grace_dump())
    succeeds(grace("noenforce", "a", "b", "c"))
    check(grace_dump() == (2, 0, {"a": "", "b": "", "c": ""}), grace_dump())
    succeeds(grace("member", "a", "b", "c"))
    check(grace("member", "d").code == 1, "d is none")
    succeeds(grace("remove", "c"))
    check(grace_dump() == (2, 0, {"a": "", "b": ""}), grace_dump())


def ctdb_helper():
    """Its process, and what it says: 0, it holds the lock until it is ended; 1, another does."""
    process = subprocess.Popen([CTDB_HELPER, "ceph", "client.admin", "data", "ctdb"],
                               env=dict(os.environ, **environment(cluster)),
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return process, process.stdout.read(1)


def end(process, expected):
    process.send_signal(signal.SIGTERM)
    code = process.wait(30 * SLOWNESS)
    process.stdout.close()
    check(code == expected, "ctdb's helper ended with %d" % code)


@case
def ctdb_holds_its_mutex():
    if not installed(CTDB_HELPER, "ctdb"):
        return
    holder, said = ctdb_helper()
    try:
        check(said == b"0", "the first one gets the lock: %r" % said)
        other, said = ctdb_helper()
        other.wait(30 * SLOWNESS)
        other.stdout.close()
        check(said == b"1", "the second one does not: %r" % said)
    finally:
        end(holder, 0)
    holder, said = ctdb_helper()
    check(said == b"0", "when the first has gone, the next one gets it: %r" % said)
    end(holder, 0)


EXAMPLES = os.path.join(REPO, "docs", "examples")


@case
def the_example_in_c_counts_its_runs():
    if not os.path.exists("/usr/include/rados/librados.h"):
        print("skipped: the package librados-dev is not installed")
        return
    program = os.path.join(folder(), "objects")
    succeeds(command(["cc", "-Wall", "-Wextra", "-Werror", os.path.join(EXAMPLES, "objects.c"),
                      "-o", program, "-L", FOLDER, "-l:librados.so.2", "-Wl,--allow-shlib-undefined"]))
    for run_number in (1, 2):
        said = succeeds(command([program, "data"], env=environment(cluster))).text
        check(said == "run %d\n" % run_number, said)


OLD_PROGRAM = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>
int rados_create(void **, const char *), rados_conf_read_file(void *, const char *), rados_connect(void *);
int rados_ioctx_create(void *, const char *, void **), rados_ioctx_pool_stat(void *, uint64_t *);
int main(void)
{
    void *cluster, *io;
    uint64_t stat[16];
    memset(stat, 0x5a, sizeof stat);
    if (rados_create(&cluster, NULL) || rados_conf_read_file(cluster, NULL) || rados_connect(cluster) ||
        rados_ioctx_create(cluster, "data", &io) || rados_ioctx_pool_stat(io, stat))
        return 1;
    printf("%d %d\\n", stat[11] < 1000000, stat[12] == 0x5a5a5a5a5a5a5a5a);
    return 0;
}
"""


@case
def programs_from_before_14_2_get_what_fits():
    """They want the function without a version, and have memory for 12 numbers only."""
    path = folder()
    stub, library = os.path.join(path, "stub.c"), os.path.join(path, "librados.so.2")
    source, program = os.path.join(path, "old.c"), os.path.join(path, "old")
    write_file(source, OLD_PROGRAM.encode())
    names = ("create", "conf_read_file", "connect", "ioctx_create", "ioctx_pool_stat")
    write_file(stub, "".join("void rados_%s(void) {}\n" % name for name in names).encode())
    succeeds(command(["cc", "-shared", "-fPIC", "-Wl,-soname,librados.so.2", stub, "-o", library]))
    succeeds(command(["cc", source, library, "-o", program]))
    check(succeeds(command([program], env=environment(cluster))).text == "1 1\n", "what it was given")


@case
def the_example_in_python_keeps_notes():
    if not glob.glob("/usr/lib/python3/dist-packages/rados.*.so"):
        print("skipped: the package python3-rados is not installed")
        return
    said = succeeds(command(["/usr/bin/python3", "-B", os.path.join(EXAMPLES, "objects.py"), "data"],
                            env=environment(cluster))).text
    check(said == "one: Bread (5 bytes), urgent\nthree: Tea (3 bytes)\ntwo: Milk (4 bytes)\n", said)


def compare_with_recorded(program, recorded, *words):
    """The beginning of what tests/compat/differential compares, recorded on Ceph 16.2.15."""
    path = os.path.join(BUILD, "compat-tests", program)
    if not os.path.exists(path):
        print("skipped: the packages librados-dev and librbd-dev are not installed")
        return
    cluster.pool(program)
    theirs = read_file(os.path.join(REPO, "tests", "compat", recorded)).decode().splitlines()
    ours = succeeds(command([path, cluster.conf, program, *words],
                            env=environment(cluster))).text.splitlines()
    check(len(ours) == len(theirs), "%d lines" % len(ours))
    for line, expected in zip(ours, theirs):
        check(line == expected, "Ceph:   %s\nLimpet: %s" % (expected, line))


@case
def random_operations_give_what_ceph_gave():
    compare_with_recorded("sequence", "ceph-16.txt", "1", "0", "2", "200")


@case
def random_operations_on_images_give_what_ceph_gave():
    compare_with_recorded("images", "images-16.txt", "5", "0", "2", "100")


if __name__ == "__main__":
    run()
