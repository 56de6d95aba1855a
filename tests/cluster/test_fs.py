#!/usr/bin/env python3
"""A mounted file system: what POSIX promises, what one mount sees of another, and what happens when things die."""

import errno
import fcntl
import mmap
import os
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading

from lib.cluster import BIN, SLOWNESS, Cluster, case, check, command, fails, folder, process_alive, random_bytes, read_file, run, succeeds, wait_until, write_file
from lib.mount import (FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, RENAME_EXCHANGE, RENAME_NOREPLACE, Mounts,
                       device_of, fallocate, kept, missing, mounted, rename2)

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "home"
UNIT = 65536
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
one, two = None, None  # Two mounts of the same file system.


def refused(error, function, *arguments, **options):
    """The call fails in this way."""
    try:
        function(*arguments, **options)
    except OSError as problem:
        check(problem.errno == error, "%s%r should fail with %s: %s"
              % (function.__name__, arguments, errno.errorcode[error], problem))
        return
    check(False, "%s%r should fail with %s" % (function.__name__, arguments, errno.errorcode[error]))


def room(name):
    """A folder for a case: its path on both mounts."""
    os.mkdir(os.path.join(one, name))
    return os.path.join(one, name), os.path.join(two, name)


# ---- Making and mounting ----


@case
def starts():
    cluster.start()
    cluster.pool("fs")


@case
def made_listed_mounted():
    global one, two  # pylint: disable=global-statement
    check(succeeds(cluster.limpet("fs", "ls")).text == "", "there is none yet")
    mounts.create(FS, "--object-size", "64K")
    fails(cluster.limpet("fs", "create", FS), errno.EEXIST, FS, "already")
    fails(cluster.limpet("fs", "create", "nowhere/x"), errno.ENOENT, "nowhere")
    fails(cluster.limpet("fs", "create", "x", "--object-size", "5K"), errno.EINVAL, "power of two")
    fails(cluster.limpet("fs", "create", os.fsdecode(b"\xff\xfe")), errno.EILSEQ, "UTF-8")
    check("fs/home" in succeeds(cluster.limpet("fs", "ls")).text, "it is listed")
    one, two = mounts.mount(FS), mounts.mount(FS)
    check(os.listdir(one) == [], "it is empty")
    check("2 clients" in succeeds(cluster.limpet("fs", "status", FS)).text, "both are seen")


@case
def what_comes_into_a_new_folder_is_seen():
    # So many that the mount keeps changes to itself, also of a folder that it makes now.
    for at in range(200):
        os.mknod(os.path.join(one, "f%d" % at))
    os.mkdir(os.path.join(one, "new"))
    for name in ("a", "b", "c"):
        write_file(os.path.join(one, "new", name), b"")
        check(name in os.listdir(os.path.join(two, "new")), "%s is seen" % name)
    for at in range(200):
        os.unlink(os.path.join(one, "f%d" % at))
    shutil.rmtree(os.path.join(one, "new"))
    check(os.listdir(two) == [], "%r" % os.listdir(two))


@case
def mounts_that_cannot_be():
    there = folder()
    fails(cluster.limpet("fs", "mount", "nothing", there), errno.ENOENT, "limpet fs ls")
    fails(cluster.limpet("fs", "mount", FS, os.path.join(there, "none")), errno.ENOENT, "none")
    fails(cluster.limpet("fs", "mount", FS, write_file(os.path.join(there, "file"), b"")), errno.ENOTDIR, "file")
    fails(cluster.limpet("fs", "mount", FS, there, "-o", "nonsense=1"), errno.EINVAL, "unknown option", "nonsense=1", "help fs mount")
    for words in ("max_read=4095", "max_read=", "max_read=4096x", "rsize=-1"):
        fails(cluster.limpet("fs", "mount", FS, there, "-o", words), errno.EINVAL, words, "4096 or more")
    fails(cluster.limpet("fs", "umount", there), errno.EINVAL, "nothing is mounted")
    # Over a folder that is not empty, as mount(8) does it.
    path = mounts.mount(FS, "--read-only")
    refused(errno.EROFS, os.mkdir, os.path.join(path, "x"))
    mounts.umount(path)


def line_of(path):
    """What the kernel tells of a mount: source, path, type, options."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return next(line.split()[:4] for line in file if line.split()[1] == path)


@case
def options_of_mounts():
    path = mounts.mount(FS, "-o", "max_read=131072,relatime,acl,noexec,nofail", "-o", "nosuid")
    source, _path, kind, options = line_of(path)
    check((source, kind) == (FS, "fuse.limpet"), "%s %s: named as it was here" % (source, kind))
    check({"max_read=131072", "noexec", "nosuid"} <= set(options.split(",")), options)
    data = random_bytes(3 << 17, 4)
    with open(os.path.join(path, "read"), "wb+") as file:
        file.write(data)
        file.seek(0)
        check(file.read() == data, "what is longer than a read")
    os.unlink(os.path.join(path, "read"))
    mounts.umount(path)
    # As mount(8) calls it for a line of fstab, and for what is mounted already.
    path = folder()
    helper = [os.path.join(BIN, "mount.limpet"), "fs/" + FS, path, "-o"]
    at_cluster = "name=admin,mount_timeout=20,_netdev,strictatime,conf=" + cluster.env["LIMPET_CONF"]
    mounts.paths.append(path)
    succeeds(command(helper + ["rw," + at_cluster], env={"LIMPET_CONF": ""}))
    check(line_of(path)[0] == "fs/" + FS and os.listdir(path) == [], "%r" % line_of(path))
    succeeds(command(helper + ["remount,ro," + at_cluster]))
    refused(errno.EROFS, os.mkdir, os.path.join(path, "x"))
    succeeds(command(helper + ["remount,rw"]))
    os.mkdir(os.path.join(path, "x"))
    os.rmdir(os.path.join(path, "x"))
    mounts.umount(path)
    # Names of file systems that options cannot have as they are.
    name = mounts.create("com,ma\\slash")
    mounts.umount(mounts.mount(name))
    succeeds(cluster.limpet("fs", "rm", name, "--yes-i-really-mean-it"))


# ---- What there can be ----


@case
def attributes_of_what_was_written_are_told_before_they_are_asked_for():
    here, there = room("told")
    paths = [os.path.join(here, "f%d" % at) for at in range(300)]
    for path in paths:
        write_file(path, bytes(4096))
    for path in paths[:20]:
        check(os.stat(path).st_size == 4096, "%s has another size" % path)
    wait_until("attributes", lambda: len([path for path in paths if kept(path) == (4096, 8)]) > 280, 10)
    for path in paths:
        with open(path.replace(here, there), "ab") as file:
            file.write(b"x")
    check({os.stat(path).st_size for path in paths} == {4097}, "what the other mount has written is not seen")


@case
def names_that_are_gone_are_not_told():
    here, _there = room("gone")
    for at in range(300):
        write_file(os.path.join(here, "f%d" % at), bytes(4096))
        if at % 3:
            os.rename(os.path.join(here, "f%d" % at), os.path.join(here, "g%d" % at))
        if at % 3 == 2:
            os.unlink(os.path.join(here, "g%d" % at))
    left = {"fg"[at % 3] + str(at) for at in range(300) if at % 3 != 2}
    for name in sorted(left)[:150]:
        os.stat(os.path.join(here, name))
    check(set(os.listdir(here)) == left, "other names are listed")
    for at in range(300):
        for name in ("f%d" % at, "g%d" % at):
            check(os.path.lexists(os.path.join(here, name)) == (name in left), name)


@case
def all_types_of_files():
    here, there = room("types")
    write_file(os.path.join(here, "file"), b"abc")
    os.mkdir(os.path.join(here, "dir"))
    os.symlink("file", os.path.join(here, "link"))
    os.mkfifo(os.path.join(here, "fifo"))
    os.mknod(os.path.join(here, "null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(os.path.join(here, "block"), stat.S_IFBLK | 0o600, os.makedev(4000, 1000000))
    place = os.getcwd()
    os.chdir(here)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket")
    os.chdir(place)
    kinds = {name: stat.S_IFMT(os.lstat(os.path.join(there, name)).st_mode) for name in os.listdir(there)}
    check(kinds == {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "link": stat.S_IFLNK, "fifo": stat.S_IFIFO,
                    "null": stat.S_IFCHR, "block": stat.S_IFBLK, "socket": stat.S_IFSOCK}, "%r" % kinds)
    check(os.lstat(os.path.join(there, "block")).st_rdev == os.makedev(4000, 1000000), "number of the device")
    check(read_file(os.path.join(there, "link")) == b"abc", "through the link")
    write_file(os.path.join(there, "null"), b"gone")
    os.symlink("x" * 4095, os.path.join(here, "long"))
    check(len(os.readlink(os.path.join(there, "long"))) == 4095, "a long link")


@case
def names_of_any_bytes():
    here, there = room("names")
    for name in (b"n" * 255, b"\xff\xfe", b" ", b"\n", b"-", "größe".encode()):
        write_file(os.path.join(os.fsencode(here), name), name)
        check(read_file(os.path.join(os.fsencode(there), name)) == name, "%r" % name)
    refused(errno.ENAMETOOLONG, os.mkdir, os.path.join(here, "n" * 256))
    refused(errno.ENAMETOOLONG, os.stat, os.path.join(here, "n" * 256))
    refused(errno.ENAMETOOLONG, os.stat, here + "/x" * 2100)
    check(len(os.listdir(there)) == 6, "%r" % os.listdir(there))


@case
def links_and_renames():
    here, there = room("links")
    write_file(os.path.join(here, "a"), b"a")
    os.mkdir(os.path.join(here, "d"))
    os.link(os.path.join(here, "a"), os.path.join(here, "d", "b"))
    check(os.stat(os.path.join(there, "a")).st_nlink == 2, "links")
    check(os.path.samefile(os.path.join(there, "a"), os.path.join(there, "d", "b")), "one file")
    refused(errno.EEXIST, os.link, os.path.join(there, "a"), os.path.join(there, "d", "b"))
    refused(errno.EPERM, os.link, os.path.join(there, "d"), os.path.join(there, "e"))
    write_file(os.path.join(here, "c"), b"c")
    refused(errno.EEXIST, rename2, os.path.join(there, "c"), os.path.join(there, "d", "b"), RENAME_NOREPLACE)
    rename2(os.path.join(there, "c"), os.path.join(there, "d", "b"), RENAME_EXCHANGE)
    check(read_file(os.path.join(here, "c")) == b"a" and read_file(os.path.join(here, "d", "b")) == b"c", "exchanged")
    os.makedirs(os.path.join(here, "d", "below", "deep"))
    refused(errno.EINVAL, os.rename, os.path.join(there, "d"), os.path.join(there, "d", "below", "deep", "x"))
    refused(errno.ENOTEMPTY, os.rename, os.path.join(there, "d", "below"), os.path.join(there, "d"))
    os.rename(os.path.join(there, "d", "below"), os.path.join(there, "up"))
    check(os.path.samefile(os.path.join(here, "up", ".."), here), "the parent of what has moved")
    refused(errno.ENOTEMPTY, os.rmdir, os.path.join(here, "up"))
    refused(errno.ENOTDIR, os.rmdir, os.path.join(here, "a"))
    refused(errno.EISDIR, os.unlink, os.path.join(here, "up"))


@case
def attributes_and_times():
    here, there = room("attributes")
    path, other = write_file(os.path.join(here, "a"), b"a"), os.path.join(there, "a")
    os.utime(path, ns=(-1, 2 ** 62 // 10 ** 9 * 10 ** 9 + 123456789))
    st = os.stat(other)
    check((st.st_atime_ns, st.st_mtime_ns) == (-1, 2 ** 62 // 10 ** 9 * 10 ** 9 + 123456789), "times: %r" % (st,))
    os.chmod(path, 0o4751)
    os.chown(path, 12345, 4000000000)
    check((os.stat(other).st_uid, os.stat(other).st_gid) == (12345, 4000000000), "owner")
    for name, value in (("user.a", b""), ("user.b", b"b" * 65536), ("trusted.c", b"\0"), ("security.d", b"d")):
        os.setxattr(path, name, value)
        check(os.getxattr(other, name) == value, name)
    check(sorted(os.listxattr(other)) == ["security.d", "trusted.c", "user.a", "user.b"], "%r" % os.listxattr(other))
    refused(errno.EEXIST, os.setxattr, other, "user.a", b"", os.XATTR_CREATE)
    refused(errno.ENODATA, os.setxattr, other, "user.x", b"", os.XATTR_REPLACE)
    refused(errno.EOPNOTSUPP, os.setxattr, other, "other.x", b"")
    os.removexattr(other, "user.b")
    refused(errno.ENODATA, os.getxattr, path, "user.b")


NOBODY = 0xffffffff
OWNER, USER, GROUP_OF, GROUP, MASK, OTHERS = 1, 2, 4, 8, 16, 32
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def as_user(uid, function):
    """What a process of this user and group can do: 0, or an error."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            function()
            os._exit(0)
        except OSError as problem:
            os._exit(problem.errno)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@case
def access_control_lists():
    here, there = room("lists")
    os.chmod(one, 0o755)
    path, other = write_file(os.path.join(here, "a"), b"a"), os.path.join(there, "a")
    os.chmod(path, 0o600)
    list_of_one = acl((OWNER, 6, NOBODY), (USER, 4, 1001), (GROUP_OF, 0, NOBODY), (MASK, 4, NOBODY), (OTHERS, 0, NOBODY))
    check(as_user(1001, lambda: read_file(other)) == errno.EACCES, "not yet")
    os.setxattr(path, ACCESS, list_of_one)
    check(os.getxattr(other, ACCESS) == list_of_one and ACCESS in os.listxattr(other), "the list")
    check(stat.S_IMODE(os.stat(other).st_mode) == 0o640, "the mask is in the mode")
    check(as_user(1001, lambda: read_file(other)) == 0 and as_user(1002, lambda: read_file(other)) == errno.EACCES, "who may")
    os.chmod(other, 0o600)
    check(struct.unpack_from("<H", os.getxattr(path, ACCESS), 4 + 3 * 8 + 2)[0] == 0, "the mode is in the mask")
    check(as_user(1001, lambda: read_file(path)) == errno.EACCES, "the mask counts")
    refused(errno.EINVAL, os.setxattr, path, ACCESS, list_of_one[:-8])
    refused(errno.EACCES, os.setxattr, path, DEFAULT, list_of_one)
    os.setxattr(path, ACCESS, acl((OWNER, 6, NOBODY), (GROUP_OF, 4, NOBODY), (OTHERS, 4, NOBODY)))
    check(os.listxattr(other) == [] and stat.S_IMODE(os.stat(other).st_mode) == 0o644, "the mode says it all")


@case
def access_control_lists_are_inherited():
    here, there = room("inherited")
    inherited = acl((OWNER, 7, NOBODY), (USER, 6, 1001), (GROUP_OF, 5, NOBODY), (MASK, 7, NOBODY), (OTHERS, 0, NOBODY))
    mask = os.umask(0o077)
    try:
        os.setxattr(here, DEFAULT, inherited)
        write_file(os.path.join(there, "file"), b"")
        os.makedirs(os.path.join(there, "dir", "below"))
        os.mkfifo(os.path.join(there, "fifo"), 0o660)
        os.symlink("file", os.path.join(there, "link"))
        os.removexattr(here, DEFAULT)
        write_file(os.path.join(there, "plain"), b"")
    finally:
        os.umask(mask)
    modes = {name: stat.S_IMODE(os.lstat(os.path.join(here, name)).st_mode)
             for name in ("file", "dir", "dir/below", "fifo", "link", "plain")}
    check(modes == {"file": 0o660, "dir": 0o770, "dir/below": 0o770, "fifo": 0o660, "link": 0o777, "plain": 0o600},
          "%r" % {name: oct(mode) for name, mode in modes.items()})
    for name in ("dir", "dir/below"):
        check(os.getxattr(os.path.join(here, name), DEFAULT) == inherited, "the default list of %s" % name)
    check(as_user(1001, lambda: write_file(os.path.join(here, "file"), b"x")) == 0, "who may")
    check(os.listxattr(os.path.join(here, "plain")) == [], "nothing is inherited any more")


def name_it(fd, path):
    """A first name. Only with a descriptor of a folder, Python has link(2) follow symbolic links."""
    os.link("/proc/self/fd/%d" % fd, path, src_dir_fd=fd, follow_symlinks=True)


@case
def files_without_names():
    here, there = room("nameless")
    fd = os.open(here, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"kept")
    check(os.listdir(there) == [] and os.fstat(fd).st_nlink == 0, "it has no name")
    os.mkdir(os.path.join(here, "below"))
    for name in ("a", "below/b"):  # Also where its inode does not live.
        name_it(fd, os.path.join(here, name))
        check(read_file(os.path.join(there, name)) == b"kept", "it has got a name: %s" % name)
    os.close(fd)
    check(os.stat(os.path.join(there, "a")).st_nlink == 2, "it stays")
    fd = os.open(there, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    refused(errno.ENOENT, name_it, fd, os.path.join(there, "x"))
    os.pwrite(fd, b"x", UNIT)
    check(os.pread(fd, 1, UNIT) == b"x", "contents")
    os.close(fd)


@case
def sizes_up_to_the_largest():
    here, there = room("sizes")
    largest = 2 ** 63 - 1
    path, other = os.path.join(here, "a"), os.path.join(there, "a")
    with open(path, "wb") as file:
        file.write(b"begin")
        file.flush()
        os.ftruncate(file.fileno(), largest)
        check(os.stat(other).st_size == largest, "size %d" % os.stat(other).st_size)
        check(os.stat(other).st_blocks * 512 <= UNIT, "blocks %d" % os.stat(other).st_blocks)
        os.pwrite(file.fileno(), b"end", 2 ** 62)
        with open(other, "rb") as reader:
            check(os.pread(reader.fileno(), 10, 2 ** 62 - 2) == b"\0\0end\0\0\0\0\0", "far away")
        os.ftruncate(file.fileno(), 5)
    check(read_file(other) == b"begin", "cut")


@case
def holes():
    here, there = room("holes")
    path = os.path.join(here, "a")
    data = random_bytes(5 * UNIT, 1)
    write_file(path, data)
    fd = os.open(os.path.join(there, "a"), os.O_RDWR)
    try:
        fallocate(fd, FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, UNIT - 100, UNIT * 2)
        data = data[:UNIT - 100] + bytes(2 * UNIT) + data[3 * UNIT - 100:]
        check(read_file(path) == data, "a hole")
        check(os.lseek(fd, UNIT, os.SEEK_DATA) >= 2 * UNIT, "SEEK_DATA")
        check(UNIT - 4096 <= os.lseek(fd, 0, os.SEEK_HOLE) <= UNIT, "SEEK_HOLE %d" % os.lseek(fd, 0, os.SEEK_HOLE))
        fallocate(fd, FALLOC_ZERO_RANGE, 4 * UNIT, 2 * UNIT)
        data = data[:4 * UNIT] + bytes(2 * UNIT)
        check(read_file(path) == data, "zeroes, also beyond the end")
        fallocate(fd, FALLOC_KEEP_SIZE, 0, 9 * UNIT)
        check(os.stat(path).st_size == 6 * UNIT, "the size stays")
        fallocate(fd, 0, 0, 9 * UNIT)
        check(os.stat(path).st_size == 9 * UNIT, "the size grows")
        refused(errno.ENXIO, os.lseek, fd, 9 * UNIT, os.SEEK_DATA)
        refused(errno.EOPNOTSUPP, fallocate, fd, FALLOC_PUNCH_HOLE, 0, UNIT)
        target = os.open(os.path.join(there, "b"), os.O_RDWR | os.O_CREAT)
        check(os.copy_file_range(fd, target, UNIT, 100, 200) == UNIT, "copy_file_range")
        check(read_file(os.path.join(here, "b")) == bytes(200) + data[100:100 + UNIT], "the copy")
        os.close(target)
    finally:
        os.close(fd)


@case
def free_space_is_told():
    st = os.statvfs(one)
    check(st.f_namemax == 255 and 0 < st.f_bavail <= st.f_bfree <= st.f_blocks, "%r" % (st,))


@case
def a_directory_lists_while_it_changes():
    here, there = room("listing")
    for at in range(300):
        os.mknod(os.path.join(here, "f%d" % at))
    seen = []
    with os.scandir(there) as entries:
        for entry in entries:
            seen.append(entry.name)
            if len(seen) < 100:
                os.unlink(os.path.join(here, entry.name))
                os.mknod(os.path.join(here, "new%d" % len(seen)))
    old = [name for name in seen if name.startswith("f")]
    check(len(seen) == len(set(seen)) and len(old) == 300, "%d, of them %d once" % (len(seen), len(set(seen))))


# ---- Two mounts ----


@case
def each_change_is_seen_at_once():
    """Every operation by one mount, and every look by the other, in all pairs."""
    here, there = room("pairs")
    a, b, c = (os.path.join(here, name) for name in "abc")
    changes = [
        ("create", lambda: write_file(a, b"12345")),
        ("write", lambda: write_file(a, b"1234567")),
        ("chmod", lambda: os.chmod(a, 0o640)),
        ("chown", lambda: os.chown(a, 5, 6)),
        ("utime", lambda: os.utime(a, ns=(1, 2))),
        ("truncate", lambda: os.truncate(a, 3)),
        ("setxattr", lambda: os.setxattr(a, "user.x", b"y")),
        ("link", lambda: os.link(a, b)),
        ("rename", lambda: os.rename(b, c)),
        ("exchange", lambda: rename2(a, c, RENAME_EXCHANGE)),
        ("removexattr", lambda: os.removexattr(a, "user.x")),
        ("unlink", lambda: os.unlink(c)),
        ("replace", lambda: os.rename(write_file(b, b"new"), a)),
        ("unlink all", lambda: os.unlink(a)),
        ("mkdir", lambda: os.mkdir(a)),
        ("symlink", lambda: os.symlink("a", b)),
        ("rename of a directory", lambda: os.rename(a, c)),
        ("rmdir", lambda: os.rmdir(c)),
    ]
    for what, change in changes:
        look(there)  # So that the other mount has all of it in its caches.
        change()
        check(look(there) == look(here), "after %s:\nchanged by: %r\nother:      %r" % (what, look(here), look(there)))
        look(here)


def look(path):
    """All that can be seen in a folder, also of names that are not there."""
    seen = {"": sorted(os.listdir(path))}
    for name in "abc":
        full = os.path.join(path, name)
        try:
            st = os.lstat(full)
        except FileNotFoundError:
            seen[name] = None
            continue
        seen[name] = [st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size, st.st_ino, st.st_mtime_ns, st.st_ctime_ns,
                      os.listxattr(full, follow_symlinks=False)]
        if stat.S_ISREG(st.st_mode):
            seen[name].append(read_file(full))
    return seen


@case
def contents_are_seen_by_who_has_it_open():
    here, there = room("contents")
    write_file(os.path.join(here, "a"), b"0" * 10000)
    first, second = (os.open(os.path.join(path, "a"), os.O_RDWR) for path in (here, there))
    for at in range(50):
        data = b"%05d" % at
        os.pwrite((first, second)[at % 2], data, at * 7)
        check(os.pread((second, first)[at % 2], 5, at * 7) == data, "write %d" % at)
    os.ftruncate(first, 3)
    check(os.pread(second, 100, 0) == os.pread(first, 100, 0) and os.fstat(second).st_size == 3, "truncated")
    with mmap.mmap(first, 3) as memory:
        memory[:3] = b"map"
        memory.flush()
        check(os.pread(second, 100, 0) == b"map", "mapped")
    os.close(first)
    os.close(second)


@case
def mapped_contents_follow():
    """Also in a folder that both go on changing, where nobody takes a lease, and by who has mapped it before."""
    here, there = room("mapped")
    path = write_file(os.path.join(here, "a"), b"0" * 2 * mmap.PAGESIZE)

    def change_the_folder():
        for top in (here, there):
            os.mknod(os.path.join(top, "n"))
            os.unlink(os.path.join(top, "n"))

    def seen(memory, place, data):
        change_the_folder()
        return memory[place:place + len(data)] == data
    for mode in (os.O_RDWR, os.O_RDONLY):
        fd, writer = os.open(os.path.join(there, "a"), mode), os.open(path, os.O_RDWR)
        with mmap.mmap(fd, 2 * mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
            for at in range(6):
                data, place = b"%05d" % (at + 10 * mode), (at % 2) * mmap.PAGESIZE
                check(not seen(memory, place, data), "nothing was written yet")
                os.pwrite(writer, data, place)
                wait_until("write %d is seen in memory" % at, lambda data=data, place=place: seen(memory, place, data), 10 * SLOWNESS)
        os.close(fd)
        os.close(writer)


@case
def appends_by_two_mounts_do_not_meet():
    here, there = room("append")
    path = os.path.join(here, "log")
    write_file(path, b"")

    def append(where, mark):
        fd = os.open(os.path.join(where, "log"), os.O_WRONLY | os.O_APPEND)
        for at in range(100):
            os.write(fd, b"%s%06d\n" % (mark, at))
        os.close(fd)
    threads = [threading.Thread(target=append, args=(where, mark)) for where, mark in ((here, b"a"), (there, b"b"), (here, b"c"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = read_file(path).splitlines()
    for mark in b"abc":
        mine = [line for line in lines if line[0] == mark]
        check(mine == [b"%c%06d" % (mark, at) for at in range(100)], "lines of %c: %d" % (mark, len(mine)))
    check(len(lines) == 300, "%d lines" % len(lines))


@case
def one_of_two_creates_and_renames_wins():
    here, there = room("races")
    won = {"create": 0, "mkdir": 0, "rename": 0}

    def race(what, function):
        barrier = threading.Barrier(2)

        def attempt(where):
            barrier.wait()
            try:
                function(where)
                won[what] += 1
            except (FileExistsError, FileNotFoundError):
                pass
        threads = [threading.Thread(target=attempt, args=(where,)) for where in (here, there)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for at in range(20):
        race("create", lambda where: os.mknod(os.path.join(where, "f%d" % at)))
        race("mkdir", lambda where: os.mkdir(os.path.join(where, "d%d" % at)))
        race("rename", lambda where: os.rename(os.path.join(where, "f%d" % at), os.path.join(where, "d%d" % at, "f")))
    # A kernel that has found the old name before the other mount's move and the new one after it sees two links to one
    # file: by rename(2) it does nothing, and says that all went well, without asking the file system.
    check(won["create"] == 20 and won["mkdir"] == 20 and 20 <= won["rename"] <= 40, "%r" % won)
    for at in range(20):
        for where in (here, there):
            check(os.listdir(os.path.join(where, "d%d" % at)) == ["f"] and not os.path.exists(os.path.join(where, "f%d" % at)),
                  "f%d has one name" % at)


@case
def what_is_open_outlives_its_name():
    here, there = room("open")
    path = write_file(os.path.join(here, "a"), b"kept" * 1000)
    with open(path, "rb") as file, open(os.path.join(there, "a"), "rb") as other:
        os.unlink(os.path.join(there, "a"))
        refused(errno.ENOENT, os.stat, path)
        check(os.fstat(file.fileno()).st_nlink == 0, "no links")
        other.close()
        check(file.read() == b"kept" * 1000, "contents, by who has it open last")
    os.rename(write_file(os.path.join(here, "b"), b"new"), write_file(os.path.join(here, "c"), b"old"))
    check(os.listdir(there) == ["c"], "%r" % os.listdir(there))


@case
def locks_of_both_mounts():
    """In a process of its own each: a process does not stand in its own way with locks of fcntl."""
    here, there = room("locks")
    path = write_file(os.path.join(here, "a"), b"")
    for first, second in ((here, here), (here, there)):
        with open(os.path.join(first, "a"), "wb") as mine, open(os.path.join(second, "a"), "wb") as theirs:
            fcntl.flock(mine, fcntl.LOCK_EX)
            refused(errno.EAGAIN, fcntl.flock, theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(mine, fcntl.LOCK_UN)
            fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(path, "wb") as mine:
        fcntl.lockf(mine, fcntl.LOCK_EX, 10, 0)
        check(try_lock(there, 5, 10) == errno.EAGAIN and try_lock(there, 10, 10) == 0, "ranges of bytes")
    check(try_lock(there, 5, 10) == 0, "closing gives it back")


def try_lock(where, start, length, name="a"):
    script = "import fcntl, sys; f = open(sys.argv[1], 'r+b')\ntry: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, %d, %d)\n" \
             "except OSError as e: sys.exit(e.errno)" % (length, start)
    return command([sys.executable, "-c", script, os.path.join(where, name)]).code


LOCKER = """import fcntl, os, sys
files = {}
for line in sys.stdin:
    what, path = line.split()
    if path not in files:
        files[path] = open(path, "r+b")
    try:
        fcntl.lockf(files[path], {"lock": fcntl.LOCK_EX, "share": fcntl.LOCK_SH, "unlock": fcntl.LOCK_UN}[what])
        print("ok", flush=True)
    except OSError as problem:
        print(problem.errno, flush=True)
"""


class Locker:
    """A process of its own that locks files when it is told to."""

    def __init__(self, where):
        self.where = where
        self.process = subprocess.Popen([sys.executable, "-c", LOCKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, what, name):
        self.process.stdin.write("%s %s\n" % (what, os.path.join(self.where, name)))
        self.process.stdin.flush()

    def end(self):
        check(select.select([self.process.stdout], [], [], 60)[0], "no answer within 60 s")
        return self.process.stdout.readline().strip()

    def do(self, what, name):
        self.begin(what, name)
        return self.end()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


@case
def locks_that_wait_for_each_other():
    here, there = room("circles")
    for name in "abc":
        write_file(os.path.join(here, name), b"")
    for places in ((here, here), (here, there), (here, there, here)):
        # One that has not finished looking when the circle closes may be refused as well: then once more.
        answers = [close_circle(places) for _ in range(3)]
        expected = [str(errno.EDEADLK)] + ["ok"] * (len(places) - 1)
        check(all(each[0] == expected[0] for each in answers) and expected in answers,
              "the last one of %d, and the others: %r" % (len(places), answers))


def close_circle(places):
    """What the one that closes it is answered, and then the others, when it has gone."""
    lockers = [Locker(place) for place in places]
    for locker, name in zip(lockers, "abc"):
        check(locker.do("lock", name) == "ok", "%s is free" % name)
    # Each waits for the next one's, but the last, which would close the circle.
    for locker, name in list(zip(lockers, "bc"))[:-1 if len(lockers) == 2 else None]:
        locker.begin("lock", name)
    wait_until("all but one wait", lambda: waiting(lockers) == len(lockers) - 1, 20)
    last = lockers[-1]
    answers = [last.do("lock", "a")]
    # Without the circle, they get what they wait for, one after the other.
    for locker in reversed(lockers):
        if locker is not last:
            answers.append(locker.end())
        locker.close()
    return answers


def waiting(lockers):
    """How many have a request for a lock in the kernel that has not been answered: they sleep there."""
    count = 0
    for locker in lockers:
        try:
            with open("/proc/%d/syscall" % locker.process.pid, encoding="ascii") as file:
                count += file.read().split()[0] == "72"  # fcntl
        except (OSError, IndexError):
            pass
    return count


# ---- Programs ----


@case
def programs_work():
    here, there = room("programs")
    repo = os.path.join(here, "repo")
    for words in (["git", "init", "-q", repo], ["git", "-C", repo, "config", "user.email", "a@b"],
                  ["git", "-C", repo, "config", "user.name", "a"]):
        succeeds(command(words))
    for at in range(20):
        write_file(os.path.join(repo, "f%d" % at), random_bytes(3000, at))
    succeeds(command(["git", "-C", repo, "add", "."]))
    succeeds(command(["git", "-C", repo, "commit", "-qm", "all"]))
    succeeds(command(["git", "clone", "-q", os.path.join(there, "repo"), os.path.join(there, "copy")]))
    succeeds(command(["git", "-C", os.path.join(here, "copy"), "fsck", "--strict"]))
    if shutil.which("sqlite3"):
        base = os.path.join(here, "base")
        script = "create table t(a, b); insert into t with recursive n(i) as (select 1 union all select i+1 from n " \
                 "where i < 500) select i, hex(randomblob(50)) from n; pragma integrity_check; select count(*) from t;"
        out = succeeds(command(["sqlite3", base, script])).text.split()
        check(out[-2:] == ["ok", "500"], "%r" % out)


# ---- Things that die, things that are in use ----


@case
def mounts_may_die_and_hang():
    """What one that dies had locked is free; what it had open without a name goes. One that hangs so long that others have to
    do without it goes on as another client afterwards: what was open stays open, its locks are gone, and what it had not yet
    written back is lost, which each file is told."""
    here, there = room("death")
    for name in "abc":
        write_file(os.path.join(here, name), b"")
    dies, hangs = mounts.mount(FS), mounts.mount(FS)
    dying, hanging = Locker(os.path.join(dies, "death")), Locker(os.path.join(hangs, "death"))
    check(dying.do("lock", "a") == dying.do("lock", "b") == hanging.do("lock", "c") == "ok", "all are locked")
    nameless = os.open(os.path.join(dies, "death"), os.O_TMPFILE | os.O_RDWR)
    os.write(nameless, b"x")
    stays = os.open(os.path.join(hangs, "death", "d"), os.O_CREAT | os.O_RDWR)
    os.write(stays, b"before")
    os.fsync(stays)
    locker = Locker(there)
    locker.begin("lock", "a")
    loses = files_alone(os.path.join(hangs, "death", "alone"), 2)
    server = mounts.server(hangs)
    for fd in loses:
        os.fchmod(fd, 0o600)
    os.kill(server, signal.SIGSTOP)
    try:  # No process may be made meanwhile: it would close what is open on the mount that hangs.
        mounts.kill(dies)
        answers = [locker.end(), locker.do("lock", "b"), locker.do("lock", "c")]
        mode = stat.S_IMODE(os.stat(os.path.join(there, "alone", "0")).st_mode)
    finally:
        os.kill(server, signal.SIGCONT)
    check(answers == ["ok"] * 3, "locks of the dead are free: %r" % answers)
    wait_until("the mount goes on", lambda: succeeds_with(os.pwrite, stays, b"after!", 6), 60)
    check(read_file(os.path.join(there, "d")) == b"beforeafter!", "what it writes is seen")
    check(try_lock(os.path.join(hangs, "death"), 0, 0, "c") == errno.EAGAIN, "its lock is another's")
    check(mounts.server(hangs) == server, "it is the same process")
    check(mode == 0o644, "changes were not written back: %o" % mode)
    for fd in loses:
        refused(errno.EIO, os.fsync, fd)
        os.fsync(fd)
        os.close(fd)
    for one_of_them in (locker, hanging):
        one_of_them.close()
    os.close(stays)
    refused(errno.ENOTCONN, os.close, nameless)
    dying.process.kill()
    dying.process.wait()
    succeeds(command(["umount", "-l", dies]))
    mounts.paths.remove(dies)
    mounts.umount(hangs)
    check(len(os.listdir(there)) == 5, "%r" % os.listdir(there))


def files_alone(folder, count):
    """Open files, durable, of a folder whose changes the mount keeps to itself from now on."""
    os.mkdir(folder)
    for at in range(8):
        os.mknod(os.path.join(folder, "n%d" % at))
    fds = [os.open(os.path.join(folder, str(at)), os.O_CREAT | os.O_RDWR, 0o644) for at in range(count)]
    for fd in fds:
        os.fsync(fd)
    return fds


def succeeds_with(function, *arguments):
    try:
        function(*arguments)
    except OSError:
        return False
    return True


@case
def folders_that_were_removed():
    """Whoever is in one, or has it open, finds it empty and without links, also when another mount has removed it."""
    here, there = room("removed")
    for where in (here, there):
        for name in ("cwd", "open"):
            os.mkdir(os.path.join(here, name))
        os.chmod(os.path.join(here, "open"), 0o751)
        fd = os.open(os.path.join(here, "open"), os.O_RDONLY | os.O_DIRECTORY)
        os.fstat(fd)
        before = os.getcwd()
        os.chdir(os.path.join(here, "cwd"))
        try:
            for name in ("cwd", "open"):
                os.rmdir(os.path.join(where, name))
            check(os.stat(".").st_nlink == 0 and os.fstat(fd).st_nlink == 0, "no links: %r %r, removed from %s" % (os.stat("."), os.fstat(fd), where))
            check(stat.S_IMODE(os.fstat(fd).st_mode) == 0o751, "as it was")
            for place in (".", fd):
                try:
                    check(os.listdir(place) == [], "it is empty")
                except FileNotFoundError:
                    pass  # So it is on ext4, by the kernel.
            refused(errno.ENOENT, os.mkdir, "x", dir_fd=fd)
            refused(errno.ENOENT, os.stat, "x")
            refused(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY)
        finally:
            os.chdir(before)
            os.close(fd)


@case
def an_osd_may_die():
    here, there = room("osd")
    cluster.kill("osd.2")
    for at in range(40):
        write_file(os.path.join(here, "f%d" % at), random_bytes(5000, at))
    succeeds(cluster.start_daemon("osd.2"))
    for at in range(40):
        check(read_file(os.path.join(there, "f%d" % at)) == random_bytes(5000, at), "file %d" % at)
    cluster.wait_healthy()


@case
def a_monitor_may_die():
    here, there = room("mon")
    cluster.kill("mon.a")
    write_file(os.path.join(here, "a"), b"a")
    check(read_file(os.path.join(there, "a")) == b"a", "without a monitor")
    succeeds(cluster.start_daemon("mon.a"))


@case
def what_is_in_use_stays():
    with subprocess.Popen(["sleep", "1000"], cwd=two) as sleeper:
        fails(cluster.limpet("fs", "umount", two), errno.EBUSY, "in use", "--lazy")
        sleeper.kill()
    fails(cluster.limpet("fs", "rm", FS), errno.EPERM, "--yes-i-really-mean-it")
    fails(cluster.limpet("fs", "rm", FS, "--yes-i-really-mean-it"), errno.EBUSY, "mounted", "fs status", "--force")
    check(os.listdir(one) != [], "nothing is lost")


@case
def nothing_is_wrong_in_the_end():
    for path in (one, two):
        mounts.umount(path)
    report = mounts.check_clean(FS)
    check(report["damaged"] == 0 and report["files"] > 50, "%r" % report)
    check(report["findings"] == [], "%r" % report["findings"])


@case
def umount_waits_for_what_is_written_back():
    path = mounts.mount(FS)
    server = mounts.server(path)
    for at in range(300):
        os.mkdir(os.path.join(path, "umount%d" % at))
    mounts.umount(path)
    wait_until("end of its process, which has closed everything", lambda: not process_alive(server), 2 * SLOWNESS)


@case
def umount_waits_whatever_the_path_is_called():
    """mountinfo writes blanks and such as numbers."""
    path = os.path.join(folder(), "with blanks,\ttabs\nlines and \\040 back\\slashes")
    os.mkdir(path)
    mounts.mount(FS, path=path)
    server = mounts.server(path)
    check(has_watcher(server), "somebody sees to its end")
    for at in range(100):
        os.mkdir(os.path.join(path, "blank%d" % at))
    os.kill(server, signal.SIGSTOP)
    with umount(path) as waits:
        wait_until("end of the mount", lambda: not mounted(path), 10)
        try:
            waits.wait(1)
            check(False, "umount ended before the process that writes back")
        except subprocess.TimeoutExpired:
            pass
        os.kill(server, signal.SIGCONT)
        ends_well(waits)
    mounts.paths.remove(path)
    check(not process_alive(server), "its process has ended")


@case
def umount_waits_for_the_right_process():
    """The kernel gives the number of a mount's device again, while the process that served it does not know yet that it is over."""
    first = mounts.mount(FS)
    late, device = mounts.server(first), device_of(first)
    os.kill(late, signal.SIGSTOP)
    try:
        succeeds(command(["umount", "-l", first]))
        mounts.paths.remove(first)
        second = mounts.mount(FS)
        check(device_of(second) == device, "the number is given again: %s, %s" % (device, device_of(second)))
        server = mounts.server(second)
        with umount(second) as waits:
            ends_well(waits)
        mounts.paths.remove(second)
        check(not process_alive(server) and process_alive(late), "it waits for that one, and not for the other")
    finally:
        os.kill(late, signal.SIGCONT)
    wait_until("end of the other one", lambda: not process_alive(late), 20)


def umount(path):
    return subprocess.Popen([os.path.join(BIN, "limpet"), "fs", "umount", path], stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "LIMPET_CONF": cluster.conf})


def ends_well(process):
    try:
        process.wait(20 * SLOWNESS)
    except subprocess.TimeoutExpired:
        process.kill()
    check(process.wait() == 0, "%d: %s" % (process.returncode, process.stderr.read()))


def has_watcher(server):
    """The process that sees to the end of a mount whose own process is killed."""
    said = command(["ps", "--ppid", str(server), "-o", "comm="])
    return said.text.split() == ["limpet-fs-abort"]


@case
def umount_tells_what_is_lost():
    """The process that served the mount dies with what it had not written back."""
    path = mounts.mount(FS)
    server = mounts.server(path)
    for at in range(300):
        os.mkdir(os.path.join(path, "lost%d" % at))
    osds = [pid for name, pid in cluster.pids().items() if name.startswith("osd")]
    for pid in osds:
        os.kill(pid, signal.SIGSTOP)
    try:
        with umount(path) as waits:
            wait_until("end of the mount", lambda: not mounted(path), 10)
            os.kill(server, signal.SIGKILL)
            said = waits.communicate(timeout=20 * SLOWNESS)[1]
    finally:
        for pid in osds:
            os.kill(pid, signal.SIGCONT)
    check(waits.returncode == errno.EIO and "died" in said, "%d: %s" % (waits.returncode, said))
    mounts.paths.remove(path)


@case
def umount_does_not_wait_for_containers():
    """Who has begun a mount namespace has a mount of its own, which is served on; who unmounts is told so, and does not wait for it: nor is all durable, so that is no success."""
    path = mounts.mount(FS)
    server = mounts.server(path)
    with subprocess.Popen(["unshare", "-m", "--propagation", "private", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as container:
        container.stdin.write(b"begun")
        container.stdin.flush()
        container.stdout.read(5)
        fails(cluster.limpet("fs", "umount", path), errno.EINPROGRESS, "mount namespace", "durable")
        check(process_alive(server) and not mounted(path), "it is unmounted here, and served there")
        container.stdin.close()
    mounts.paths.remove(path)
    wait_until("end of the mount's process", lambda: not process_alive(server), 20)


@case
def a_removed_file_system_is_gone():
    path = mounts.mount(FS)
    succeeds(cluster.limpet("fs", "rm", FS, "--force"))
    check(succeeds(cluster.limpet("fs", "ls")).text == "", "it is listed no more")
    try:
        os.mkdir(os.path.join(path, "late"))
        check(False, "something was made in a file system that is gone")
    except OSError as problem:
        check(problem.errno in (errno.ENOENT, errno.ESTALE, errno.EIO), "%s" % problem)
    mounts.umount(path)
    left = [line for line in succeeds(cluster.rados("-p", "fs", "--all", "ls")).text.splitlines() if line.startswith("fs.")]
    check(left == [], "left: %r" % left[:5])
    fails(cluster.limpet("fs", "mount", FS, path), errno.ENOENT, "no file system")


@case
def a_mount_ends_without_its_cluster():
    path = mounts.mount(mounts.create("late"))
    server = mounts.server(path)
    for name in cluster.names():
        cluster.kill(name)
    succeeds(command(["umount", "-l", path]))
    mounts.paths.remove(path)
    wait_until("end of the mount's process", lambda: not process_alive(server), 60)


if __name__ == "__main__":
    run()
