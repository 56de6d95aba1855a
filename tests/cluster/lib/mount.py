"""File systems of a cluster, mounted: what tests do with `limpet fs`, and calls that Python has no names for."""

import ctypes
import fcntl
import json
import mmap
import os
import re
import select
import signal
import struct

from lib.cluster import at_end, check, command, folder, process_alive, succeeds, wait_until

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE = 1, 2, 16
AT_FDCWD = -100
AT_STATX_DONT_SYNC, STATX_BASIC_STATS = 0x4000, 0x7ff
UFFDIO_API, UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
CALLS = {"x86_64": {"getdents64": 217, "userfaultfd": 323}, "aarch64": {"getdents64": 61, "userfaultfd": 282}}[os.uname().machine]

_libc = ctypes.CDLL(None, use_errno=True)


def missing():
    """Why nothing can be mounted here; "" when it can."""
    if os.geteuid() != 0:
        return "root"
    return "" if os.path.exists("/dev/fuse") else "/dev/fuse"


def _must(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def rename2(old, new, flags):
    _must(_libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), ctypes.c_uint(flags)))


def fallocate(fd, mode, offset, length):
    _must(_libc.fallocate64(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def getdents(fd, address, length):
    """getdents64(2), and nothing else."""
    _must(min(_libc.syscall(ctypes.c_long(CALLS["getdents64"]), fd, ctypes.c_void_p(address), ctypes.c_size_t(length)), 0))


def kept(path):
    """What the kernel would say without asking anybody: size, and blocks of 512."""
    buffer = bytearray(256)
    _must(_libc.statx(AT_FDCWD, os.fsencode(path), AT_STATX_DONT_SYNC, STATX_BASIC_STATS, (ctypes.c_char * 256).from_buffer(buffer)))
    return struct.unpack_from("QQ", buffer, 40)


class Hole:
    """Memory of which only the first page is there: who writes to others waits, also inside of a system call, until they are filled."""

    def __init__(self, pages=16):
        self.size = pages * mmap.PAGESIZE
        self.memory = mmap.mmap(-1, self.size)
        self.memory[0] = 1
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.fd = _libc.syscall(ctypes.c_long(CALLS["userfaultfd"]), os.O_CLOEXEC)
        _must(min(self.fd, 0))
        fcntl.ioctl(self.fd, UFFDIO_API, struct.pack("QQQ", 0xAA, 0, 0))
        fcntl.ioctl(self.fd, UFFDIO_REGISTER, struct.pack("QQQQ", self.address + mmap.PAGESIZE, self.size - mmap.PAGESIZE, 1, 0))

    def is_met(self, seconds):
        return bool(select.select([self.fd], [], [], seconds)[0])

    def fill(self):
        os.close(self.fd)


def device_of(path):
    """The number of the device that is mounted there; None: nothing is. mountinfo writes blanks and such as octal numbers."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        found = [line.split()[2:5:2] for line in file]
    at = [device for device, point in found if re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), point) == path]
    return at[-1] if at else None


def mounted(path):
    return device_of(path) is not None


class Mounts:
    """Mounts of one cluster; those that a test leaves behind are taken away at its end."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.paths = []
        at_end(self.end)

    def create(self, name, *options):
        succeeds(self.cluster.limpet("fs", "create", name, *options))
        return name

    def mount(self, name, *options, path=None):
        path = path or folder()
        succeeds(self.cluster.limpet("fs", "mount", name, path, *options))
        self.paths.append(path)
        check(mounted(path), "nothing is mounted over %s" % path)
        return path

    def umount(self, path, *options):
        succeeds(self.cluster.limpet("fs", "umount", path, *options))
        self.paths.remove(path)
        check(not mounted(path), "%s is still mounted" % path)

    def server(self, path):
        """The process that serves a mount."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"limpet") and os.fsencode(path) in words and b"mount" in words:
                return int(pid)
        return None

    def kill(self, path):
        pid = self.server(path)
        check(pid is not None, "nobody serves %s" % path)
        os.kill(pid, signal.SIGKILL)
        wait_until("end of the mount's process", lambda: not process_alive(pid), 20)

    def fsck(self, name, *options):
        return self.cluster.limpet("fs", "check", name, "--no-progress", *options)

    def check_clean(self, name):
        """`limpet fs check` finds nothing; returns what it counted."""
        return json.loads(succeeds(self.fsck(name, "-f", "json")).text)

    def end(self):
        for path in self.paths:
            pid = self.server(path)
            command(["umount", "-l", path])
            if pid is not None and process_alive(pid):
                os.kill(pid, signal.SIGKILL)


class Ext4:
    """An empty ext4, for comparison."""

    def __init__(self, size="512M"):
        self.path = folder()
        image = os.path.join(folder(), "ext4")
        succeeds(command(["truncate", "-s", size, image]))
        succeeds(command(["mkfs.ext4", "-q", image]))
        succeeds(command(["mount", "-o", "loop,acl,user_xattr", image, self.path]))
        at_end(self.end)

    def end(self):
        command(["umount", "-l", self.path])
