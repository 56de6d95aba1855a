#!/usr/bin/env python3
"""Random sequences of file operations on a mounted file system and on ext4: the same results, and the same trees.

LIMPET_STEPS=N makes each sequence so long, LIMPET_SEED=N repeats one: python3 tests/cluster/test_fs_differential.py
"""

import errno
import fcntl
import hashlib
import mmap
import os
import random
import stat
import sys
import time

from lib.cluster import CaseFailed, Cluster, case, check, run
from lib.mount import (FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE, RENAME_EXCHANGE, RENAME_NOREPLACE, Ext4,
                       Mounts, fallocate, missing, rename2)

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

STEPS = int(os.environ.get("LIMPET_STEPS", "700"))
# Short runs are the same each time; long ones look for what is new.
SEED = int(os.environ.get("LIMPET_SEED") or (1 if STEPS <= 1000 else time.time_ns() % 1000000))
SLOTS = 8  # Open files.
TREE_EVERY = 250  # Steps between comparisons of whole trees.
LOOK_EVERY = 10  # Steps between looks at what there is to work on.
NAMES = [b"a", b"b", b"c", b"d", b"e", b"f", b"\xff\xfe \n*", b"n" * 255, b"m" * 256]
WEIGHTS = [8, 8, 8, 8, 8, 8, 2, 1, 1]
COARSE_CLOCK = 5  # CLOCK_REALTIME_COARSE, which the module time does not name.
USER = 1001
XATTRS = ["user.a", "user.b", "trusted.t", "user." + "x" * 200, "security.s", "user.", "nonsense"]
MODES = [0o644, 0o600, 0o755, 0o4755, 0o2755, 0o6777, 0o1777, 0o000, 0o777, 0o444]
FLAGS = [os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_EXCL,
         os.O_RDWR | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_APPEND | os.O_CREAT,
         os.O_RDONLY | os.O_NOFOLLOW, os.O_RDONLY | os.O_DIRECTORY, os.O_WRONLY | os.O_TRUNC]
LENGTHS = [0, 1, 100, 4095, 4096, 4097, 65536, 200000]
FAR = [1 << 33, (1 << 33) + 12345]


class Side:
    """One of the two: roots lead to the same tree, by different mounts."""

    def __init__(self, *roots):
        self.roots = [os.fsencode(root) for root in roots]
        self.fds = [None] * SLOTS

    def close(self):
        for fd in self.fds:
            if fd is not None:
                os.close(fd)
        self.fds = [None] * SLOTS


# ---- Operations: each gives what must be the same on both sides ----


def facts(st):
    """Of a file, what does not depend on the file system."""
    size = None if stat.S_ISDIR(st.st_mode) else st.st_size
    return (stat.S_IFMT(st.st_mode), oct(stat.S_IMODE(st.st_mode)), st.st_nlink, st.st_uid, st.st_gid, size, st.st_rdev)


def op_open(side, root, slot, path, flags, mode):
    if side.fds[slot] is not None:
        os.close(side.fds[slot])
        side.fds[slot] = None
    fd = os.open(root + path, flags | os.O_NONBLOCK, mode)
    st = os.fstat(fd)
    if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
        side.fds[slot] = fd
    else:
        os.close(fd)  # Of pipes and devices the kernel tells nobody when they were used.
    return facts(st)


def op_mkdir(_side, root, path, mode):
    os.mkdir(root + path, mode)


def op_rmdir(_side, root, path):
    if path:
        os.rmdir(root + path)


def op_unlink(_side, root, path):
    os.unlink(root + path)


def op_rename(_side, root, old, new, flags):
    if flags == 0:
        os.rename(root + old, root + new)
    else:
        rename2(root + old, root + new, flags)


def op_link(_side, root, old, new):
    os.link(root + old, root + new, follow_symlinks=False)
    return facts(os.lstat(root + new))


def op_symlink(_side, root, target, path):
    os.symlink(target, root + path)


def op_readlink(_side, root, path):
    return os.readlink(root + path)


def op_mknod(_side, root, path, mode, rdev):
    os.mknod(root + path, mode, rdev)
    return facts(os.lstat(root + path))


def op_stat(_side, root, path):
    return facts(os.stat(root + path))


def op_lstat(_side, root, path):
    return facts(os.lstat(root + path))


def op_chmod(_side, root, path, mode):
    os.chmod(root + path, mode)
    return facts(os.stat(root + path))


def op_chown(_side, root, path, uid, gid, follow):
    os.chown(root + path, uid, gid, follow_symlinks=follow)
    return facts(os.stat(root + path, follow_symlinks=follow))


def op_utime(_side, root, path, atime, mtime, follow):
    os.utime(root + path, ns=(atime, mtime), follow_symlinks=follow)
    st = os.stat(root + path, follow_symlinks=follow)
    return st.st_atime_ns, st.st_mtime_ns


def op_truncate(_side, root, path, size):
    os.truncate(root + path, size)


def op_access(_side, root, path, mode):
    return os.access(root + path, mode, effective_ids=True)


def op_setxattr(_side, root, path, name, value, flags):
    os.setxattr(root + path, name, value, flags, follow_symlinks=False)


def op_getxattr(_side, root, path, name):
    return os.getxattr(root + path, name, follow_symlinks=False)


def op_removexattr(_side, root, path, name):
    os.removexattr(root + path, name, follow_symlinks=False)


def op_listxattr(_side, root, path):
    return sorted(os.listxattr(root + path, follow_symlinks=False))


def op_list(_side, root, path):
    with os.scandir(root + path) as entries:
        found = [(e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False), e.is_symlink(), e.inode())
                 for e in entries]
    for name, _dir, _file, _link, ino in found:
        seen = os.lstat(root + path + b"/" + name).st_ino
        check(seen == ino, "%r: inode %d by its folder, %d by itself" % (name, ino, seen))
    return sorted(entry[:4] for entry in found)


def op_pread(side, _root, slot, length, offset):
    return digest(os.pread(side.fds[slot], length, offset))


def op_pwrite(side, _root, slot, seed, length, offset):
    written = os.pwrite(side.fds[slot], bytes_of(seed, length), offset)
    return written, facts(os.fstat(side.fds[slot]))


def op_write(side, _root, slot, seed, length):
    written = os.write(side.fds[slot], bytes_of(seed, length))
    return written, os.lseek(side.fds[slot], 0, os.SEEK_CUR), facts(os.fstat(side.fds[slot]))


def op_read(side, _root, slot, length):
    return digest(os.read(side.fds[slot], length))


def op_seek_end(side, _root, slot):
    return os.lseek(side.fds[slot], 0, os.SEEK_END) if not is_dir(side, slot) else None


def op_ftruncate(side, _root, slot, size):
    os.ftruncate(side.fds[slot], size)
    return facts(os.fstat(side.fds[slot]))


def op_fallocate(side, _root, slot, mode, offset, length):
    fallocate(side.fds[slot], mode, offset, length)
    return facts(os.fstat(side.fds[slot]))


def op_fstat(side, _root, slot):
    return facts(os.fstat(side.fds[slot]))


def op_fsync(side, _root, slot, data_only):
    (os.fdatasync if data_only else os.fsync)(side.fds[slot])


def op_fchmod(side, _root, slot, mode):
    os.fchmod(side.fds[slot], mode)
    return facts(os.fstat(side.fds[slot]))


def op_close(side, _root, slot):
    fd, side.fds[slot] = side.fds[slot], None
    os.close(fd)


def op_copy(side, _root, source, target, length, source_offset, target_offset):
    copied = os.copy_file_range(side.fds[source], side.fds[target], length, source_offset, target_offset)
    return copied, facts(os.fstat(side.fds[target]))


def op_flock(side, _root, slot, how):
    fcntl.flock(side.fds[slot], how | fcntl.LOCK_NB)


def op_mmap(side, _root, slot, seed, length, offset):
    size = os.fstat(side.fds[slot]).st_size
    length = min(length, size - offset)
    if length <= 0 or size > 1 << 24 or is_dir(side, slot):
        return None
    with mmap.mmap(side.fds[slot], size) as memory:
        before = digest(memory[offset:offset + length])
        memory[offset:offset + length] = bytes_of(seed, length)
        memory.flush()
        return before


def op_seek_data(side, _root, slot, offset):
    """Where data are is the file system's choice, but what it says must be true."""
    fd = side.fds[slot]
    size = os.fstat(fd).st_size
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return None
    try:
        found = os.lseek(fd, offset, os.SEEK_DATA)
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError as error:
        if offset >= size or error.errno != errno.ENXIO:
            raise
        found = size
    check(offset <= found <= size, "SEEK_DATA %d of %d: %d" % (offset, size, found))
    if found - offset < 1 << 24 and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY:
        check(not any(os.pread(fd, found - offset, offset)), "SEEK_DATA %d has skipped data before %d" % (offset, found))
    hole = os.lseek(fd, offset, os.SEEK_HOLE)
    os.lseek(fd, 0, os.SEEK_SET)
    check(offset <= hole <= size, "SEEK_HOLE %d of %d: %d" % (offset, size, hole))
    return None


def is_dir(side, slot):
    return stat.S_ISDIR(os.fstat(side.fds[slot]).st_mode)


def digest(data):
    return len(data), hashlib.sha1(data).hexdigest()


def bytes_of(seed, length):
    return random.Random(seed).randbytes(length)


# ---- Sequences ----


class Sequence:
    def __init__(self, seed, ext4, limpet):
        self.random = random.Random(seed)
        self.ext4 = ext4
        self.limpet = limpet
        self.known = [b""]
        self.folders = [b""]
        self.log = []

    # What to do

    def name(self):
        return self.random.choices(NAMES, WEIGHTS)[0]

    def path(self):
        """Of something that is likely to be there, or to be possible there."""
        kind = self.random.random()
        if kind < 0.5:
            return self.random.choice(self.known)
        if kind < 0.95:
            return self.random.choice(self.folders) + b"/" + self.name()
        return self.random.choice(self.known) + b"/" + self.name() + self.random.choice([b"", b"/", b"/..", b"/."])

    def slot(self):
        open_slots = [at for at in range(SLOTS) if self.ext4.fds[at] is not None]
        return self.random.choice(open_slots) if open_slots else None

    def offset(self):
        kind = self.random.random()
        if kind < 0.01:
            return self.random.choice(FAR)
        return self.random.randrange(1 << 20) if kind < 0.5 else self.random.choice(LENGTHS)

    def length(self):
        return self.random.choice(LENGTHS) if self.random.random() < 0.5 else self.random.randrange(100000)

    def path_op(self):
        r = self.random
        makers = [
            (10, lambda: (op_open, r.randrange(SLOTS), self.path(), r.choice(FLAGS), r.choice(MODES))),
            (6, lambda: (op_mkdir, self.path(), r.choice(MODES))),
            (3, lambda: (op_rmdir, self.path())),
            (5, lambda: (op_unlink, self.path())),
            (7, lambda: (op_rename, self.path(), self.path(), r.choice([0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, 3]))),
            (4, lambda: (op_link, self.path(), self.path())),
            (3, lambda: (op_symlink, r.choice([b"a", b"../b", b"a/b", b"t" * r.choice([1000, 4095]), b"", b"x" * 99]),
                         self.path())),
            (1, lambda: (op_readlink, self.path())),
            (2, lambda: (op_mknod, self.path(), r.choice([stat.S_IFIFO, stat.S_IFREG, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
                         | r.choice(MODES), r.choice([os.makedev(1, 3), os.makedev(200, 70000)]))),
            (2, lambda: (op_stat, self.path())),
            (2, lambda: (op_lstat, self.path())),
            (4, lambda: (op_chmod, self.path(), r.choice(MODES))),
            (3, lambda: (op_chown, self.path(), r.choice([0, USER, -1, 7]), r.choice([0, USER, -1, 7]), r.random() < 0.7)),
            (3, lambda: (op_utime, self.path(), r.choice([0, 1, -1, 10 ** 18 + 123456789, 4 * 10 ** 18 + 1]),
                         r.choice([0, 999999999, -1000000001, 10 ** 18 + 7]), r.random() < 0.7)),
            (3, lambda: (op_truncate, self.path(), r.choice([0, -1, self.length(), self.offset()]))),
            (1, lambda: (op_access, self.path(), r.choice([os.R_OK, os.W_OK, os.X_OK, os.F_OK, os.R_OK | os.W_OK]))),
            (3, lambda: (op_setxattr, self.path(), r.choice(XATTRS), bytes_of(r.random(), r.choice([0, 1, 50, 300])),
                         r.choice([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE]))),
            (2, lambda: (op_getxattr, self.path(), r.choice(XATTRS))),
            (1, lambda: (op_removexattr, self.path(), r.choice(XATTRS))),
            (2, lambda: (op_listxattr, self.path())),
            (2, lambda: (op_list, self.path())),
        ]
        return r.choices([maker for _, maker in makers], [weight for weight, _ in makers])[0]()

    def fd_op(self):
        r, slot = self.random, self.slot()
        makers = [
            (6, lambda: (op_pread, slot, self.length(), self.offset())),
            (8, lambda: (op_pwrite, slot, r.random(), self.length(), self.offset())),
            (4, lambda: (op_write, slot, r.random(), self.length())),
            (2, lambda: (op_read, slot, self.length())),
            (1, lambda: (op_seek_end, slot)),
            (4, lambda: (op_ftruncate, slot, r.choice([0, -1, self.length(), self.offset()]))),
            (5, lambda: (op_fallocate, slot,
                         r.choice([0, FALLOC_KEEP_SIZE, FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE, FALLOC_ZERO_RANGE,
                                   FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE]),
                         min(self.offset(), 1 << 20), self.length())),
            (2, lambda: (op_fstat, slot)),
            (1, lambda: (op_fsync, slot, r.random() < 0.5)),
            (1, lambda: (op_fchmod, slot, r.choice(MODES))),
            (4, lambda: (op_close, slot)),
            (2, lambda: (op_copy, slot, self.slot(), self.length(), self.offset(), self.offset())),
            (3, lambda: (op_flock, slot, r.choice([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN]))),
            (2, lambda: (op_mmap, slot, r.random(), self.length(), self.offset())),
            (3, lambda: (op_seek_data, slot, self.offset())),
        ]
        return r.choices([maker for _, maker in makers], [weight for weight, _ in makers])[0]()

    def look(self):
        """What there is, as ext4 has it."""
        root = self.ext4.roots[0]
        self.known, self.folders = [b""], [b""]
        for top, dirs, files in os.walk(root):
            dirs.sort()
            here = top[len(root):]
            self.known += [here + b"/" + name for name in sorted(dirs + files)]
            self.folders += [here + b"/" + name for name in dirs
                             if not os.path.islink(os.path.join(top, name)) and here.count(b"/") < 4]

    # Doing it

    def do(self, side, root, op, user):
        watched = self.watched(side, root, op)
        before = [times(place) for place in watched]
        if user:
            os.setegid(USER)
            os.seteuid(USER)
        try:
            result = op[0](side, root, *op[1:])
        except OSError as error:
            return os.strerror(error.errno), None
        except CaseFailed as failure:
            return str(failure), None
        finally:
            os.seteuid(0)
            os.setegid(0)
        after = [times(place) for place in watched]
        # Whether mtime and ctime have changed, where both can be seen.
        changed = [a and b and (a[0] != b[0], a[1] != b[1]) for a, b in zip(before, after)]
        return result, changed

    def watched(self, side, root, op):
        """Paths and open files whose times an operation might change."""
        places = []
        for argument in op[1:]:
            if isinstance(argument, bytes) and argument.startswith(b"/"):
                places += [root + argument, os.path.dirname(root + argument)]
        if op[0] in FD_OPS and isinstance(op[1], int):
            places.append(side.fds[op[1]])
        return places

    def step(self, number):
        if number % LOOK_EVERY == 0:
            self.look()
        by_fd = self.random.random() < 0.5 and self.slot() is not None
        op = self.fd_op() if by_fd else self.path_op()
        user = self.random.random() < 0.2
        which = self.random.randrange(len(self.limpet.roots))
        wait_for_tick()
        expected = self.do(self.ext4, self.ext4.roots[0], op, user)
        found = self.do(self.limpet, self.limpet.roots[which], op, user)
        self.log.append("%d: %s%s%s: %s" % (number, short(op), " by a user" if user else "", " on mount %d" % which,
                                            short(expected)))
        check(expected == found, "they differ:\n%s\next4:   %r\nlimpet: %r"
              % ("\n".join(self.log[-12:]), expected, found))
        self.close_removed_folders()

    def close_removed_folders(self):
        """One that is open and has been removed answers here with ESTALE."""
        for slot, fd in enumerate(self.ext4.fds):
            if fd is not None and os.fstat(fd).st_nlink == 0 and is_dir(self.ext4, slot):
                for side in (self.ext4, self.limpet):
                    os.close(side.fds[slot])
                    side.fds[slot] = None

    def compare_trees(self, number):
        for root in self.limpet.roots:
            ours, theirs = tree(root), tree(self.ext4.roots[0])
            for path in sorted(set(ours) | set(theirs)):
                check(ours.get(path) == theirs.get(path), "after step %d, %r:\next4:   %r\nlimpet: %r\n%s"
                      % (number, path, theirs.get(path), ours.get(path), "\n".join(self.log[-12:])))

    def run(self, steps):
        try:
            for number in range(steps):
                self.step(number)
                if number % TREE_EVERY == TREE_EVERY - 1:
                    self.compare_trees(number)
            self.compare_trees(steps)
        finally:
            self.ext4.close()
            self.limpet.close()


FD_OPS = (op_pread, op_pwrite, op_write, op_read, op_seek_end, op_ftruncate, op_fallocate, op_fstat, op_fsync, op_fchmod, op_mmap,
          op_flock)


def short(value):
    if isinstance(value, tuple):
        return "(" + ", ".join(getattr(part, "__name__", None) or short(part) for part in value) + ")"
    text = repr(value)
    return text if len(text) < 100 else text[:60] + "... (%d)" % len(value)


def wait_for_tick():
    """What ext4 changes within one tick of the kernel's clock may have one time."""
    now = time.clock_gettime_ns(COARSE_CLOCK)
    while time.clock_gettime_ns(COARSE_CLOCK) == now:
        time.sleep(0.0005)


def times(place):
    try:
        st = os.fstat(place) if isinstance(place, int) else os.lstat(place)
        return st.st_mtime_ns, st.st_ctime_ns
    except (OSError, TypeError, ValueError):
        return None


def content(path, st):
    """Of a regular file; of one that is large, only where data may be."""
    sha = hashlib.sha1()
    with open(path, "rb") as file:
        at = 0
        while at < st.st_size:
            if st.st_size > 1 << 24:
                try:
                    at = os.lseek(file.fileno(), at, os.SEEK_DATA) >> 16 << 16
                except OSError:
                    break
            data = os.pread(file.fileno(), 1 << 16, at)
            if data.strip(b"\0"):
                sha.update(b"%d" % at + data.rstrip(b"\0"))
            at += 1 << 16
    return sha.hexdigest()


def tree(root):
    """path -> all that can be seen of what is there. Links to one file are told by the first of them."""
    found, first = {}, {}
    for top, dirs, files in os.walk(root):
        for path in [os.path.join(top, name) for name in dirs + files] + [top]:
            st = os.lstat(path)
            row = [facts(st), {name: os.getxattr(path, name, follow_symlinks=False)
                               for name in os.listxattr(path, follow_symlinks=False)}]
            if stat.S_ISREG(st.st_mode):
                row.append(content(path, st))
            elif stat.S_ISLNK(st.st_mode):
                row.append(os.readlink(path))
            found[path[len(root):]] = row
            first[st.st_ino] = min(first.get(st.st_ino, path), path)
    for path, row in found.items():
        row.append(first[os.lstat(root + path).st_ino][len(root):])
    return found


# ---- Cases ----

cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
ext4 = Ext4()


def differ(name, n_mounts):
    print("LIMPET_SEED=%d LIMPET_STEPS=%d repeats this" % (SEED, STEPS))
    mounts.create(name, "--object-size", "64K")
    paths = [mounts.mount(name) for _ in range(n_mounts)]
    # In a folder of its own: links that lead out of the top make things beside it.
    theirs = os.path.join(ext4.path, name, "top")
    os.makedirs(theirs)
    os.chmod(os.path.dirname(theirs), stat.S_IMODE(os.stat(paths[0]).st_mode))
    os.mkdir(os.path.join(paths[0], "top"))
    os.chmod(theirs, 0o777)
    os.chmod(os.path.join(paths[0], "top"), 0o777)
    sequence = Sequence(SEED, Side(theirs), Side(*[os.path.join(path, "top") for path in paths]))
    sequence.run(STEPS)
    for path in paths:
        mounts.umount(path)
    report = mounts.check_clean(name)
    check(report["findings"] == [], "the check has found %r" % report["findings"])


@case
def starts():
    os.setgroups([])
    os.umask(0o022)
    cluster.start()
    cluster.pool("fs")


@case
def one_mount_is_as_ext4():
    differ("one", 1)


@case
def two_mounts_alternately_are_as_ext4():
    differ("two", 2)


if __name__ == "__main__":
    run()
