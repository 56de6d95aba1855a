#!/usr/bin/env python3
"""Contents of files that one mount has to itself: writes are acknowledged early, and what that must not change."""

import errno
import json
import os
import sys
import threading

from lib.cluster import Cluster, case, check, command, random_bytes, read_file, run, wait_until
from lib.mount import Mounts, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "home"
UNIT = 65536
MIB = 1 << 20
MEMORY_MIB = 32
cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)


def alone(path):
    """A folder whose shard this mount has to itself by now."""
    os.mkdir(path)
    for at in range(8):
        os.mknod(os.path.join(path, "made%d" % at))
    return path


@case
def starts():
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS, "--object-size", "64K")


def pool_stats():
    pools = json.loads(cluster.limpet("df", "detail", "-f", "json").text)["pools"]
    return next(pool["stats"] for pool in pools if pool["name"] == "fs")


@case
def writes_that_follow_each_other_go_together():
    """The first case: statistics come late, and tell of nothing else."""
    path = mounts.mount(FS)
    pieces = 32 * UNIT // 4096
    data = random_bytes(32 * UNIT, 9)
    fd = os.open(os.path.join(alone(os.path.join(path, "together")), "file"), os.O_RDWR | os.O_CREAT)
    for at in range(pieces):
        os.write(fd, data[at * 4096:(at + 1) * 4096])
    os.fsync(fd)
    check(os.pread(fd, len(data), 0) == data, "the contents")
    os.close(fd)
    wait_until("statistics of all", lambda: pool_stats()["wr_bytes"] >= len(data), 30)
    made = pool_stats()["wr"]
    print("     %d writes were %d" % (pieces, made))
    check(32 <= made < pieces / 2, "%d writes were %d" % (pieces, made))
    mounts.umount(path)


@case
def what_was_written_is_read_at_any_place_and_size():
    path = os.path.join(alone(os.path.join(mounts.mount(FS), "any")), "file")
    data = bytearray()
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for at in range(400):
        offset = at * 7919 % (5 * UNIT)
        piece = random_bytes(1 + at * 131 % (2 * UNIT if at % 10 == 0 else 5000), at)
        data.extend(bytes(max(0, offset + len(piece) - len(data))))
        data[offset:offset + len(piece)] = piece
        os.pwrite(fd, piece, offset)
        check(os.fstat(fd).st_size == len(data), "size %d" % os.fstat(fd).st_size)
        begin = max(0, offset - 100)
        check(os.pread(fd, len(piece) + 200, begin) == data[begin:begin + len(piece) + 200], "read %d" % at)
        if at % 50 == 49:
            os.ftruncate(fd, len(data) - 3000)
            del data[-3000:]
    os.close(fd)
    check(read_file(path) == data, "by the same mount")
    other = mounts.mount(FS)
    check(read_file(os.path.join(other, "any", "file")) == data, "by another one")
    for mount in list(mounts.paths):
        mounts.umount(mount)


@case
def a_write_that_takes_privileges_away_is_behind_those_on_their_way():
    path = mounts.mount(FS)
    name = os.path.join(alone(os.path.join(path, "privileges")), "file")
    fd = os.open(name, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, bytes(UNIT), 0)
    os.fsync(fd)
    for at in range(1, 6):
        os.fchmod(fd, 0o2755)
        os.pwrite(fd, b"a" * 5000, 100)  # Accepted, and on its way.
        before = os.fstat(fd).st_mtime_ns
        pid = os.fork()
        if pid == 0:
            os.setgid(1000 + at)
            os.setuid(1000 + at)
            os._exit(0 if os.pwrite(fd, b"b" * 5000, 100) == 5000 else 1)
        check(os.waitpid(pid, 0)[1] == 0, "a user writes")
        st = os.fstat(fd)
        check(st.st_mode & 0o7777 == 0o755, "mode %o" % st.st_mode)
        check(st.st_mtime_ns > before, "the time of the later write: %d, before it %d" % (st.st_mtime_ns, before))
        check(os.pread(fd, 5000, 100) == b"b" * 5000, "the later one counts")
    os.close(fd)
    mounts.umount(path)


def write_until_death(path, seed, synced):
    """Appends blocks of a known pattern, and now and then syncs; tells in `synced` how much was."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT)
        for at in range(100000):
            os.write(fd, bytes([1 + (at + seed) % 255]) * 3000)
            if at % 20 == 19:
                os.fsync(fd)
                synced[path] = (at + 1) * 3000
    except OSError:
        pass  # The mount has died.


def expected(seed, size):
    blocks = size // 3000 + 1
    return b"".join(bytes([1 + (at + seed) % 255]) * 3000 for at in range(blocks))[:size]


@case
def after_a_death_sizes_cover_what_is_there_and_no_more():
    for seed in range(2):
        path = mounts.mount(FS)
        top = alone(os.path.join(path, "death%d" % seed))
        synced = {}
        threads = [threading.Thread(target=write_until_death, args=(os.path.join(top, "f%d" % at), at, synced))
                   for at in range(4)]
        for thread in threads:
            thread.start()
        threading.Event().wait(0.7 + seed * 0.4)
        mounts.kill(path)
        for thread in threads:
            thread.join()
        mounts.umount(path, "--lazy")
        survivor = mounts.mount(FS)
        for at in range(4):
            there = os.path.join(survivor, "death%d" % seed, "f%d" % at)
            size = os.stat(there).st_size if os.path.exists(there) else 0
            check(size >= synced.get(os.path.join(top, "f%d" % at), 0), "%s: %d bytes, of %r" % (there, size, synced))
            if size == 0:
                continue
            check(read_file(there) == expected(at, size), "%s has bytes that nobody has written there" % there)
            # What lay beyond the size does not come to light when the file grows.
            os.truncate(there, size + 10 * UNIT)
            check(read_file(there)[size:] == bytes(10 * UNIT), "%s: old bytes beyond %d" % (there, size))
        check(synced, "nothing was synced within the time")
        mounts.umount(survivor)


def copied(source, target, length, at, to):
    done = 0
    while done < length:
        n = os.copy_file_range(source, target, length - done, at + done, to + done)
        if n == 0:
            break
        done += n
    return done


@case
def ranges_are_copied_inside_of_the_cluster():
    one, two = mounts.mount(FS), mounts.mount(FS)
    data = random_bytes(9 * MIB + 12345, 5)
    source = os.open(os.path.join(alone(os.path.join(one, "from")), "file"), os.O_RDWR | os.O_CREAT)
    target = os.open(os.path.join(alone(os.path.join(two, "to")), "file"), os.O_RDWR | os.O_CREAT)
    os.write(source, data)
    os.close(target)
    target = os.open(os.path.join(one, "to", "file"), os.O_RDWR)
    before = os.stat(os.path.join(one, "to", "file")).st_mtime_ns
    server = mounts.server(one)
    moved = moved_bytes(server)
    check(copied(source, target, len(data) + 100, 0, 1000) == len(data), "all there is, to the end of the file")
    # Once from the OSDs; what a program writes comes from the kernel, too.
    check(moved_bytes(server) - moved < len(data) * 1.5, "no byte of it went through this program")
    check(os.pread(target, len(data) + 5000, 0) == bytes(1000) + data, "it is there, after a hole")
    check(read_file(os.path.join(two, "to", "file")) == bytes(1000) + data, "also for another mount")
    check(os.fstat(target).st_mtime_ns > before, "it has been changed")
    # Inside of one file, and at odd places.
    check(copied(target, target, 70000, 5001, 6 * MIB + 3) == 70000, "inside of one file")
    want = bytearray(bytes(1000) + data)
    want[6 * MIB + 3:6 * MIB + 70003] = want[5001:75001]
    check(os.pread(target, len(want) + 1, 0) == want, "at odd places")
    try:
        os.copy_file_range(target, target, 5000, 0, 100)
        check(False, "ranges that overlap")
    except OSError as problem:
        check(problem.errno == errno.EINVAL, "%s" % problem)
    check(os.copy_file_range(source, target, 10, len(data), 0) == 0, "nothing is behind the end")
    os.close(source)
    os.close(target)
    for mount in list(mounts.paths):
        mounts.umount(mount)


def moved_bytes(pid):
    """What a mount has read: of the kernel's requests, and of answers from OSDs."""
    with open("/proc/%d/io" % pid, encoding="utf-8") as file:
        return {line.split(": ")[0]: int(line.split(": ")[1]) for line in file}["rchar"]


def count_objects():
    """Of contents, of all files."""
    return sum("\tf." in line for line in cluster.rados("-p", "fs", "ls", "--all").text.splitlines())


@case
def what_was_removed_goes_also_when_who_removed_it_dies():
    one, two = mounts.mount(FS), mounts.mount(FS)
    before = count_objects()
    path = os.path.join(one, "large")
    with open(path, "wb") as file:
        file.write(bytes(1024 * UNIT))
        file.flush()
        os.fsync(file.fileno())
    check(count_objects() == before + 1024, "it is there")
    os.unlink(path)
    fd = os.open(one, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    mounts.kill(one)
    left = count_objects()
    check(left > before, "its removal takes a while")

    def gone():
        os.listdir(two)
        return count_objects() == before
    wait_until("end of its contents (%d were left)" % (left - before), gone, 60)
    command(["umount", "-l", one])
    mounts.paths.remove(one)
    mounts.umount(two)


@case
def what_was_synced_has_its_time_after_a_death():
    path = mounts.mount(FS)
    name = os.path.join(alone(os.path.join(path, "times")), "file")
    fd = os.open(name, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, bytes(8 * UNIT), 0)
    os.fsync(fd)
    for at in range(8):
        # Its record and its contents are written side by side.
        os.pwrite(fd, b"s" * 4096, at * UNIT)
        os.fsync(fd)
    time_ns = os.fstat(fd).st_mtime_ns
    os.pwrite(fd, b"d" * 4096, 4096)
    os.fdatasync(fd)
    mounts.kill(path)
    try:
        os.close(fd)
    except OSError:
        pass  # The mount has died.
    mounts.umount(path, "--lazy")
    survivor = mounts.mount(FS)
    there = os.path.join(survivor, "times", "file")
    check(os.stat(there).st_mtime_ns >= time_ns, "its time is older than the fsync")
    data = read_file(there)
    check(all(data[at * UNIT:at * UNIT + 4096] == b"s" * 4096 for at in range(8)), "what fsync has acknowledged")
    check(data[4096:8192] == b"d" * 4096, "what fdatasync has acknowledged")
    mounts.umount(survivor)


@case
def room_is_made_for_many_files_at_once():
    path = mounts.mount(FS)
    top = alone(os.path.join(path, "many"))
    names = [os.path.join(top, "f%d" % at) for at in range(300)]
    fds = [os.open(name, os.O_RDWR | os.O_CREAT) for name in names]
    for at, fd in enumerate(fds):
        os.pwrite(fd, b"%d" % at * 1000, 0)
    for name in names[::3]:
        os.unlink(name)
    # The last one does not wait for the others' turn; a look from elsewhere gets all of it.
    os.fsync(fds[-1])
    other = mounts.mount(FS)
    for at, name in enumerate(names):
        there = os.path.join(other, "many", os.path.basename(name))
        check(os.path.exists(there) == (at % 3 != 0), "%s is there, or is not" % there)
        check(at % 3 == 0 or read_file(there) == b"%d" % at * 1000, "%s is not what was written" % there)
    for fd in fds:
        os.close(fd)
    for mount in list(mounts.paths):
        mounts.umount(mount)


@case
def a_file_of_many_pieces_far_apart_is_cut_and_goes():
    mount = mounts.mount(FS)
    before = count_objects()
    path = os.path.join(mount, "sparse")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    for at in range(20):
        os.pwrite(fd, b"piece", at << 57)
    os.fsync(fd)
    check(count_objects() == before + 20, "each has its object")
    for at in range(20):
        check(os.pread(fd, 5, at << 57) == b"piece", "piece %d" % at)
    os.ftruncate(fd, (9 << 57) + 1)
    check(count_objects() == before + 10, "what was cut off is gone")
    os.ftruncate(fd, 20 << 57)
    check(os.pread(fd, 5, 9 << 57) == b"p\0\0\0\0", "and reads as zeroes")
    os.close(fd)
    os.unlink(path)
    wait_until("end of its contents", lambda: count_objects() == before, 30)
    mounts.umount(mount)


@case
def memory_is_bounded():
    path = mounts.mount(FS, "--memory", "%dM" % MEMORY_MIB)
    name = os.path.join(alone(os.path.join(path, "memory")), "file")
    piece = random_bytes(MIB, 5)
    with open(name, "wb", buffering=0) as file:
        for _ in range(100):
            file.write(piece)
    fd = os.open(name, os.O_RDONLY | os.O_DIRECT)
    os.close(fd)
    with open("/proc/%d/status" % mounts.server(path), encoding="ascii") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024
    check(peak < 2 * MEMORY_MIB + 32, "%d MiB of memory" % peak)
    print("     at most %d MiB" % peak)
    check(read_file(name) == piece * 100, "the contents")
    mounts.umount(path)


@case
def nothing_is_wrong_in_the_end():
    report = mounts.check_clean(FS)
    check(report["damaged"] == 0, "%r" % report)


if __name__ == "__main__":
    run()
