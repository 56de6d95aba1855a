#!/usr/bin/env python3
"""Mounted file systems at their limits, and what is no file system: the same answers as ext4 where that can be asked."""

import ctypes
import errno
import json
import os
import subprocess
import sys
import time

from lib.cluster import BIN, Cluster, case, check, command, fails, folder, read_file, run, succeeds, wait_until, write_file
from lib.mount import Ext4, Mounts, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "limits"
LINKS_MAX = 65000
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
ours, theirs = None, None
libc = ctypes.CDLL(None, use_errno=True)


def answer(function, *arguments, **options):
    try:
        function(*arguments, **options)
        return "ok"
    except OSError as problem:
        return errno.errorcode[problem.errno]


def same(what, script):
    """What a function of a folder is answered, on both."""
    got, wanted = script(ours), script(theirs)
    check(got == wanted, "%s: %r, on ext4 %r" % (what, got, wanted))


@case
def starts():
    global ours, theirs  # pylint: disable=global-statement
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)
    ours, theirs = mounts.mount(FS), Ext4().path
    for top in (ours, theirs):
        write_file(os.path.join(top, "file"), b"file")
        os.mkdir(os.path.join(top, "dir"))


def calls_on(top, path):
    file, other = os.path.join(top, "file"), os.path.join(top, "dir")
    return [answer(os.mkdir, path), answer(os.stat, path), answer(os.rmdir, path), answer(write_file, path, b"x"),
            answer(os.unlink, path), answer(os.symlink, "x", path), answer(os.readlink, path), answer(os.unlink, path),
            answer(os.mkfifo, path), answer(os.unlink, path), answer(os.link, file, path), answer(os.unlink, path),
            answer(os.rename, other, path), answer(os.rename, path, other), answer(os.truncate, path, 1),
            answer(os.chmod, path, 0o600), answer(os.setxattr, path, "user.a", b"a"), answer(os.utime, path)]


@case
def names_that_are_long():
    for size in (255, 256, 4095, 5000):
        same("names of %d bytes" % size, lambda top, size=size: calls_on(top, os.path.join(top, "n" * size)))
        same("folders of %d bytes" % size, lambda top, size=size: calls_on(top, os.path.join(top, "n" * size, "x")))
    check(answer(os.mkdir, os.path.join(ours, "n" * 256)) == "ENAMETOOLONG", "256")


@case
def paths_that_are_long():
    def deep(top):
        place, answers = os.getcwd(), []
        os.chdir(top)
        for _ in range(20):  # Longer than any path may be, step by step.
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        answers += [answer(os.stat, "."), answer(os.mkdir, "x"), answer(os.mkdir, "%s/%s" % (top, "/".join(["d" * 250] * 20)))]
        answers += [answer(os.symlink, "l" * 4095, "a"), answer(os.symlink, "l" * 4096, "b"), len(os.readlink("a"))]
        for _ in range(20):
            subprocess.run(["find", ".", "-mindepth", "1", "-delete"], check=True)
            os.chdir("..")
        os.rmdir("d" * 250)
        os.chdir(place)
        return answers
    same("paths over PATH_MAX", deep)


@case
def names_of_all_bytes():
    names = [bytes([byte]) for byte in range(1, 256) if byte not in b"/."] + [b"...", b".\n", bytes(range(1, 47)), bytes(range(48, 256))]
    top = os.path.join(os.fsencode(ours), b"bytes")
    os.mkdir(top)
    for name in names:
        write_file(os.path.join(top, name), name)
    check(sorted(os.listdir(top)) == sorted(names), "%d names of %d" % (len(os.listdir(top)), len(names)))
    for name in names:
        os.rename(os.path.join(top, name), os.path.join(top, name + b"!"))
        os.unlink(os.path.join(top, name + b"!"))
    os.rmdir(top)
    for name in (".", "..", "dir/..", "dir/."):
        same(name, lambda top, name=name: [answer(call, os.path.join(top, name)) for call in (os.mkdir, os.rmdir, os.unlink)])
    for name in ("file/", "file/x", "dir/", "none/", ""):
        same(name, lambda top, name=name: [answer(call, os.path.join(top, name) if name else "")
                                           for call in (os.stat, os.unlink, os.listdir, os.readlink)])


@case
def as_many_links_as_there_may_be():
    if "LIMPET_SECONDS" not in os.environ:
        print("     only by ./tests/run --long fs")
        return
    top = os.path.join(ours, "links")
    os.mkdir(top)
    write_file(os.path.join(top, "file"), b"")
    here = os.open(top, os.O_DIRECTORY)
    for at in range(1, LINKS_MAX):
        os.link("file", "l%d" % at, src_dir_fd=here, dst_dir_fd=here)
    check(os.stat(os.path.join(top, "file")).st_nlink == LINKS_MAX, "%d links" % os.stat(os.path.join(top, "file")).st_nlink)
    check(answer(os.link, os.path.join(top, "file"), os.path.join(top, "more")) == "EMLINK", "one more")
    check(answer(os.link, os.path.join(top, "file"), os.path.join(ours, "elsewhere")) == "EMLINK", "one more, elsewhere")
    os.unlink("l1", dir_fd=here)
    check(answer(os.link, os.path.join(top, "file"), os.path.join(ours, "elsewhere")) == "ok", "one less, one more")
    for at in range(2, LINKS_MAX):
        os.unlink("l%d" % at, dir_fd=here)
    os.close(here)
    check(os.stat(os.path.join(top, "file")).st_nlink == 2, "%d links" % os.stat(os.path.join(top, "file")).st_nlink)


class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("type", ctypes.c_int), ("bytes", ctypes.c_ubyte * 128)]


@case
def handles_of_what_is_gone():
    def by_handle(top):
        path = write_file(os.path.join(top, "handle"), b"x")
        handle, number = Handle(size=128), ctypes.c_int()
        if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(number), 0) != 0:
            return [errno.errorcode[ctypes.get_errno()]]
        mount, answers = os.open(top, os.O_DIRECTORY), []
        for _ in range(2):
            fd = libc.open_by_handle_at(mount, ctypes.byref(handle), os.O_RDONLY)
            answers.append("ok" if fd >= 0 else errno.errorcode[ctypes.get_errno()])
            if fd >= 0:
                os.close(fd)
            if os.path.exists(path):
                os.unlink(path)
        os.close(mount)
        return answers
    same("handles", by_handle)


def handle_of(path):
    handle, number = Handle(size=128), ctypes.c_int()
    check(libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(number), 0) == 0, "no handle")
    return handle


def by_handle_of(top, handle):
    mount = os.open(top, os.O_DIRECTORY)
    fd, problem = libc.open_by_handle_at(mount, ctypes.byref(handle), os.O_RDONLY), ctypes.get_errno()
    os.close(mount)
    if fd < 0:
        return errno.errorcode[problem]
    os.close(fd)
    return "ok"


@case
def handles_of_another_file_system_of_this_name():
    """As after one that was made anew and filled from a backup: the same numbers, other files."""
    numbers, handles = [], []
    for _ in range(2):
        path = mounts.mount(mounts.create("again"))
        for name in ("dir", "dir/file"):
            (os.mkdir if name == "dir" else os.mknod)(os.path.join(path, name))
            numbers.append(os.stat(os.path.join(path, name)).st_ino)
            handles.append(handle_of(os.path.join(path, name)))
        answers = [by_handle_of(path, handle) for handle in handles]
        mounts.umount(path)
        succeeds(cluster.limpet("fs", "rm", "again", "--yes-i-really-mean-it"))
    check(numbers[:2] == numbers[2:], "numbers are not given again: %r" % numbers)
    check(answers == ["ESTALE", "ESTALE", "ok", "ok"], "%r" % answers)


@case
def what_cannot_be_mounted():
    there = folder()
    for name in ("none", "nopool/none", "n" * 300, "a/b/c", ""):
        fails(cluster.limpet("fs", "mount", name, there), (errno.ENOENT, errno.EINVAL, errno.ENAMETOOLONG), "")
    fails(cluster.limpet("fs", "mount", FS, os.path.join(there, "missing")), errno.ENOENT, "missing")
    fails(cluster.limpet("fs", "umount", os.path.join(there, "missing")), (errno.ENOENT, errno.EINVAL), "missing")
    for verb in ("status", "check", "rm"):
        words = ["fs", verb, "none"] + (["--yes-i-really-mean-it"] if verb == "rm" else [])
        fails(cluster.limpet(*words), (errno.ENOENT, 8), "none")
    # Over what is not empty, as mount(8) does: it is hidden meanwhile.
    write_file(os.path.join(there, "hidden"), b"")
    succeeds(cluster.limpet("fs", "mount", FS, there))
    mounts.paths.append(there)
    check("hidden" not in os.listdir(there) and "file" in os.listdir(there), "%r" % os.listdir(there))
    mounts.umount(there)
    check(os.listdir(there) == ["hidden"], "it is there again")


@case
def one_that_is_being_removed():
    name = mounts.create("going")
    path = mounts.mount(name)
    for at in range(400):
        os.mkdir(os.path.join(path, "d%d" % at))
    mounts.umount(path)
    wait_until("the end of the mount", lambda: not json.loads(
        succeeds(cluster.limpet("fs", "status", name, "-f", "json")).text)["clients"], 15)
    # By force: who asks for the status below counts as a client for that moment.
    rm = [os.path.join(BIN, "limpet"), "fs", "rm", name, "--yes-i-really-mean-it", "--force"]
    with subprocess.Popen(rm, env=dict(os.environ, **cluster.env)) as process:
        # As soon as it cannot be mounted any more, and not all of it has gone.
        while process.poll() is None and cluster.limpet("fs", "status", name).code == 0:
            time.sleep(0.001)
        process.kill()
    fails(cluster.limpet("fs", "mount", name, path), errno.ENOENT, name)
    result = cluster.limpet("fs", "rm", name, "--yes-i-really-mean-it")
    check(result.code in (0, errno.ENOENT), "%s" % result)
    check(name not in succeeds(cluster.limpet("fs", "ls")).text, "it is listed")
    left = [line for line in succeeds(cluster.rados("-p", "fs", "--all", "ls")).text.splitlines() if ".d." in line]
    print("     %d objects are left, of the other one" % len(left))
    mounts.mount(mounts.create(name))
    check(os.listdir(mounts.paths[-1]) == [], "a new one is empty")


def objects_of(name):
    """What is there of a file system: its objects in all namespaces but those of others."""
    lines = succeeds(cluster.rados("-p", "fs", "--all", "ls")).text.splitlines()
    return [line for line in lines if line.split("\t")[0] not in known_spaces] if name else lines


known_spaces = set()


@case
def a_removal_that_was_cut_off_is_begun_again():
    """With folders of several shards, and contents."""
    known_spaces.update(line.split("\t")[0] for line in objects_of(None))
    name = mounts.create("cut", "--split", "16", "--object-size", "4K")
    path = mounts.mount(name)
    for at in range(4):
        os.mkdir(os.path.join(path, "d%d" % at))
        for entry in range(40):
            write_file(os.path.join(path, "d%d" % at, "f%d" % entry), bytes(20000))
    mounts.umount(path)
    whole, counts = len(objects_of(name)), []
    check(whole > 800, "%d objects" % whole)
    while cluster.limpet("fs", "ls", "-f", "json").text.find('"%s"' % name) >= 0 and len(counts) < 40:
        rm = [os.path.join(BIN, "limpet"), "fs", "rm", name, "--yes-i-really-mean-it"]
        with subprocess.Popen(rm, env=dict(os.environ, **cluster.env)) as process:
            try:
                process.wait(0.2 + 0.2 * len(counts))
            except subprocess.TimeoutExpired:
                process.kill()
        counts.append(len(objects_of(name)))
    print("     of %d objects were left: %s" % (whole, counts))
    check(len(counts) > 1 and any(0 < count < whole for count in counts), "it was never cut off: %s" % counts)
    check(counts[-1] == 0, "left: %r" % objects_of(name)[:5])
    fails(cluster.limpet("fs", "rm", name, "--yes-i-really-mean-it"), errno.ENOENT, name)


@case
def who_looks_or_has_just_ended_is_no_mount():
    for at in range(3):
        name = mounts.create("brief%d" % at)
        mounts.umount(mounts.mount(name))
        succeeds(cluster.limpet("fs", "rm", name, "--yes-i-really-mean-it"))
    name = mounts.create("looked-at")
    looks = "while %s fs status %s; do :; done" % (os.path.join(BIN, "limpet"), name)
    with subprocess.Popen(["sh", "-c", looks], env=dict(os.environ, **cluster.env), stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as looker:
        check(looker.stdout.readline() != b"", "it was never looked at")
        succeeds(cluster.limpet("fs", "rm", name, "--yes-i-really-mean-it"))
        looker.stdout.read()  # It ends since there is none any more.
    path = mounts.mount(mounts.create("stays"))
    fails(cluster.limpet("fs", "rm", "stays", "--yes-i-really-mean-it"), errno.EBUSY, "mounted", "--force")
    mounts.umount(mounts.mount("stays"))
    os.mkdir(os.path.join(path, "works"))
    mounts.umount(path)


@case
def what_is_mounted_inside_stays():
    one, two = mounts.mount(FS, "--no-names"), mounts.mount(FS)
    inside = os.path.join(one, "above", "inside")
    os.makedirs(inside)
    succeeds(command(["mount", "-t", "tmpfs", "none", inside]))
    try:
        write_file(os.path.join(inside, "there"), b"there")
        for at in range(20):
            write_file(os.path.join(two, "above", "f%d" % at), b"")
            os.rename(os.path.join(two, "above", "f%d" % at), os.path.join(two, "g%d" % at))
            check(len(os.listdir(os.path.join(one, "above"))) == 1, "what the other one did is seen")
            check(read_file(os.path.join(inside, "there")) == b"there", "it came off after %d changes" % at)
        fails(cluster.limpet("fs", "umount", one), errno.EBUSY, "in use")
        check(answer(os.rmdir, inside) == "EBUSY", "a folder that something is mounted on")
    finally:
        command(["umount", inside])
    check(os.listdir(inside) == [], "what is below is there again")
    for path in (one, two):
        mounts.umount(path)


@case
def records_of_many_folders_are_bounded():
    """Of large attributes: 16 MiB are the least that a mount may have, 8 of them for records."""
    folders, files, value = 150, 10, b"x" * 60000
    path = mounts.mount(FS, "--memory", "16M")
    server = mounts.server(path)
    before, most = resident_mib(server), 0
    for at in range(folders):
        os.mkdir(os.path.join(path, "many%d" % at))
        for name in (os.path.join(path, "many%d" % at, "f%d" % file) for file in range(files)):
            os.mknod(name)
            os.setxattr(name, "user.large", value)
        most = max(most, resident_mib(server))
    print("     %d MiB of records; the mount had %d MiB, and %d at most" % (folders * files * len(value) >> 20, before, most))
    check(most - before < 40, "%d MiB more" % (most - before))
    other = mounts.mount(FS)
    for at in range(folders):
        names = os.listdir(os.path.join(other, "many%d" % at))
        check(len(names) == files, "many%d has %d names" % (at, len(names)))
    check(os.getxattr(os.path.join(other, "many0", "f9"), "user.large") == value, "an attribute")
    for top in (path, other):
        mounts.umount(top)


def resident_mib(pid):
    with open("/proc/%d/status" % pid, encoding="utf-8") as file:
        return int(next(line for line in file if line.startswith("VmRSS")).split()[1]) >> 10


@case
def nothing_is_wrong_in_the_end():
    for path in list(mounts.paths):
        mounts.umount(path)
    check(mounts.check_clean(FS)["damaged"] == 0, "it is damaged")


if __name__ == "__main__":
    run()
