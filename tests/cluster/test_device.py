#!/usr/bin/env python3
"""Images as block devices: limpet rbd device map, list, unmap; file systems on them, while OSDs, monitors and mappers die."""

import errno
import filecmp
import os
import signal
import subprocess
import sys
import threading

from lib.cluster import (BIN, Cluster, case, check, command, fails, folder, process_alive, random_bytes, read_file, run,
                         succeeds, wait_until, write_file)
from lib.device import Devices, has_child, loops_on, missing, mounts_in, size_of

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

MIB = 1 << 20
cluster = Cluster(mons=1, osds=3)
devices = Devices(cluster, "loop")
source = folder()


def create(name, size="512M", *options):
    succeeds(cluster.limpet("rbd", "create", name, "--size", size, *options))


def used(name):
    """MiB, of all objects of an image."""
    succeeds(cluster.limpet("rbd", "du", name))
    rows = succeeds(cluster.limpet("rbd", "diff", "--whole-object", name)).text.splitlines()[1:]
    return sum(int(row.split()[1]) for row in rows if row.split()[2] == "data") // MIB


def write_synced(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_direct(device, offset, size):
    result = succeeds(command(["dd", "if=" + device, "bs=4096", "iflag=direct", "skip=%d" % (offset // 4096),
                               "count=%d" % (size // 4096)]))
    return result.out


def write_direct(device, offset, data):
    return command(["dd", "of=" + device, "bs=4096", "oflag=direct", "conv=notrunc", "seek=%d" % (offset // 4096)], data=data)


def nothing_is_left():
    check(loops_on(devices.run) == [], "loop devices are left: %r" % loops_on(devices.run))
    check(mounts_in(devices.run) == [], "mounts are left: %r" % mounts_in(devices.run))
    check(os.listdir(devices.run) == ["lock"], "folders are left: %r" % os.listdir(devices.run))


@case
def starts():
    cluster.start()
    cluster.pool("rbd")
    cluster.pool("data")
    for at in range(40):
        write_file(os.path.join(source, "file%d" % at), random_bytes(at * 20011, at))


@case
def a_mapped_image_is_a_device():
    create("disk")
    check(devices.call("device", "list").text == "", "nothing is mapped")
    device = devices.map("disk")
    check(size_of(device) == 512 * MIB, "size: %d" % size_of(device))
    row = loops_on(devices.run)[0]
    check(row["name"] == device and row["dio"] and not row["ro"] and row["log-sec"] == 512, "%r" % row)
    check(devices.list() == [{"id": "0", "pool": "rbd", "namespace": "", "name": "disk", "snap": "-", "device": device}],
          "%r" % devices.list())
    lines = [line.split() for line in devices.call("showmapped").text.splitlines()]
    check(lines == [["id", "pool", "namespace", "image", "snap", "device"], ["0", "rbd", "disk", "-", device]], "%r" % lines)
    data = random_bytes(3 * MIB, 1)
    succeeds(write_direct(device, 7 * MIB, data))
    check(read_direct(device, 7 * MIB, len(data)) == data, "what was written differs")
    exported = os.path.join(folder(), "exported")
    succeeds(cluster.limpet("rbd", "export", "disk", exported, "--no-progress"))
    with open(exported, "rb") as file:
        file.seek(7 * MIB)
        check(file.read(len(data)) == data, "the image differs")
    devices.unmap("disk")
    nothing_is_left()


@case
def ext4_outlives_osds_and_monitors():
    device = devices.map("disk")
    succeeds(command(["mkfs.ext4", "-q", device]))
    path = devices.mount(device)
    copier = subprocess.Popen(["cp", "-r", source, os.path.join(path, "copy")])
    cluster.kill("osd.1")
    for at in range(30):
        write_synced(os.path.join(path, "synced%d" % at), random_bytes(10007, at))
        if at == 10:
            cluster.kill("mon.a")
            succeeds(cluster.start_daemon("mon.a"))
    check(copier.wait(120) == 0, "cp failed")
    succeeds(cluster.start_daemon("osd.1"))
    cluster.wait_healthy()
    devices.umount(path)
    devices.unmap(device)
    device = devices.map("disk", "--read-only")
    succeeds(command(["e2fsck", "-f", "-n", device]))
    path = devices.mount(device, "-o", "ro")
    compared = filecmp.cmpfiles(source, os.path.join(path, "copy"), os.listdir(source), shallow=False)
    check(len(compared[0]) == 40, "copies differ: %r" % (compared[1:],))
    for at in range(30):
        check(read_file(os.path.join(path, "synced%d" % at)) == random_bytes(10007, at), "file %d differs" % at)
    devices.umount(path)
    devices.unmap(device)


def kill_amid_writes(device, path):
    """Files are written and synced until the mapper dies; returns how many were confirmed."""
    confirmed = []

    def write():
        try:
            while True:
                write_synced(os.path.join(path, "f%d" % len(confirmed)), random_bytes(20011, len(confirmed)))
                confirmed.append(True)
        except OSError:
            pass
    writer = threading.Thread(target=write)
    writer.start()
    wait_until("some files", lambda: len(confirmed) >= 20, 60)
    devices.kill_mapper(device)
    writer.join(60)
    check(not writer.is_alive(), "writes hang without a mapper")
    return len(confirmed)


def is_bound(device):
    return os.path.exists("/sys/block/%s/loop" % os.path.basename(device))


def crash(name, make, repair, mounted):
    """Kills the mapper under a file system; then all is there that was confirmed. mounted: the dead mapper's device
    is still in use when the image is mapped again."""
    device = devices.map(name)
    succeeds(command(make + [device]))
    path = devices.mount(device)
    n = kill_amid_writes(device, path)
    wait_until("a dead mapper's device is not listed", lambda: devices.list() == [], 20)
    if not mounted:
        devices.umount(path)
    dead, device = device, devices.map(name)
    if mounted:
        check(device != dead, "the device of the dead mapper is still in use")
        devices.umount(path)
    if device != dead:
        wait_until("the dead mapper's device is let go", lambda: not is_bound(dead), 20)
    check(len(loops_on(devices.run)) == 1, "stale loop devices: %r" % loops_on(devices.run))
    check(len(mounts_in(devices.run)) == 1, "stale mounts: %r" % mounts_in(devices.run))
    path = devices.mount(device)
    for at in range(n):
        check(read_file(os.path.join(path, "f%d" % at)) == random_bytes(20011, at), "file %d of %d differs" % (at, n))
    devices.umount(path)
    succeeds(command(repair + [device]))
    devices.unmap(device)
    nothing_is_left()


@case
def ext4_outlives_its_mapper():
    crash("disk", ["mkfs.ext4", "-q", "-F"], ["e2fsck", "-f", "-n"], True)


@case
def xfs_outlives_its_mapper():
    create("data/xfs")
    crash("data/xfs", ["mkfs.xfs", "-q"], ["xfs_repair", "-n"], False)


@case
def busy_devices_stay():
    device = devices.map("disk")
    path = devices.mount(device)
    fails(devices.call("device", "unmap", device), errno.EBUSY, "mounted on " + path, "force")
    fails(devices.call("device", "unmap", "disk"), errno.EBUSY, "mounted")
    write_synced(os.path.join(path, "still"), b"here")
    devices.umount(path)
    with open(device, "rb"):
        fails(devices.call("device", "unmap", device), errno.EBUSY, "open in process %d" % os.getpid())
    path = devices.mount(device)
    devices.unmap("-o", "force", device)
    check(devices.list() == [], "it is unmapped")
    try:
        write_synced(os.path.join(path, "lost"), random_bytes(MIB, 2))
        check(False, "a write to a device that was forced away succeeded")
    except OSError:
        pass
    devices.umount(path)
    nothing_is_left()


@case
def a_file_system_that_hangs_does_not_hold_up_unmap():
    """Who has the device open is looked for among the files of all processes, also those whose server hangs."""
    create("hangs")
    hangs = devices.map("hangs")
    mapper = devices.mapper(hangs)
    device = devices.map("disk")
    with open(os.path.join(devices.run, "0", "image"), "rb"):
        waker = threading.Timer(20, os.kill, (mapper, signal.SIGCONT))
        os.kill(mapper, signal.SIGSTOP)
        waker.start()
        devices.unmap(device)
        check(waker.is_alive(), "it waited for a server that hangs")
        waker.cancel()
        os.kill(mapper, signal.SIGCONT)
    devices.unmap(hangs)
    succeeds(cluster.limpet("rbd", "rm", "hangs", "--no-progress"))
    nothing_is_left()


@case
def discards_reach_the_image():
    create("trim", "512M")
    device = devices.map("trim")
    succeeds(command(["mkfs.ext4", "-q", device]))
    path = devices.mount(device)
    before = used("trim")
    write_synced(os.path.join(path, "large"), random_bytes(100 * MIB, 3))
    check(used("trim") >= before + 90, "100 MiB: from %d to %d" % (before, used("trim")))
    os.unlink(os.path.join(path, "large"))
    os.sync()
    succeeds(command(["fstrim", path]))
    check(used("trim") <= before + 10, "trimmed: from %d to %d" % (before, used("trim")))
    devices.umount(path)
    succeeds(write_direct(device, 64 * MIB, random_bytes(4 * MIB, 4)))
    succeeds(command(["blkdiscard", "--zeroout", "--offset", 65 * MIB, "--length", MIB, device]))
    check(read_direct(device, 65 * MIB, MIB) == bytes(MIB), "zeroes")
    check(read_direct(device, 66 * MIB, 2 * MIB) == random_bytes(4 * MIB, 4)[2 * MIB:], "what lies behind zeroes")
    succeeds(command(["blkdiscard", "--force", device]))
    check(used("trim") == 0, "all discarded: %d MiB" % used("trim"))
    devices.unmap(device)


@case
def a_device_follows_its_image_s_size():
    create("grow", "512M")
    device = devices.map("grow")
    succeeds(command(["mkfs.xfs", "-q", device]))
    path = devices.mount(device)
    write_synced(os.path.join(path, "file"), random_bytes(MIB, 5))
    succeeds(cluster.limpet("rbd", "resize", "grow", "--size", "1G", "--no-progress"))
    wait_until("1 GiB", lambda: size_of(device) == 1024 * MIB, 30)
    succeeds(command(["xfs_growfs", path]))
    check(os.statvfs(path).f_blocks * os.statvfs(path).f_frsize > 900 * MIB, "the file system has grown")
    write_synced(os.path.join(path, "more"), random_bytes(MIB, 6))
    devices.umount(path)
    succeeds(command(["xfs_repair", "-n", device]))
    succeeds(cluster.limpet("rbd", "resize", "grow", "--size", "100M", "--allow-shrink", "--no-progress"))
    wait_until("100 MiB", lambda: size_of(device) == 100 * MIB, 30)
    devices.unmap(device)


@case
def what_can_only_be_read_is():
    succeeds(cluster.limpet("rbd", "namespace", "create", "data/space"))
    create("data/space/old", "16M")
    device = devices.map("data/space/old", "-o", "block_size=4096")
    check(loops_on(devices.run)[0]["log-sec"] == 4096, "%r" % loops_on(devices.run))
    succeeds(write_direct(device, 0, b"1" * 4096))
    succeeds(cluster.limpet("rbd", "snap", "create", "data/space/old@then", "--no-progress"))
    succeeds(write_direct(device, 0, b"2" * 4096))
    snap = devices.map("data/space/old@then")
    head = devices.map("--pool", "data", "--namespace", "space", "--image", "old", "--read-only")
    check(read_direct(snap, 0, 4096) == b"1" * 4096, "at the snapshot")
    check(read_direct(head, 0, 4096) == b"2" * 4096, "at the head")
    check([(row["namespace"], row["snap"]) for row in devices.list()] == [("space", "-"), ("space", "then"), ("space", "-")],
          "%r" % devices.list())
    for one in (snap, head):
        check(write_direct(one, 0, bytes(4096)).code != 0, "a write to %s" % one)
        check(succeeds(command(["blockdev", "--getro", one])).text.strip() == "1", "ro of %s" % one)
    devices.unmap("data/space/old@then")
    devices.unmap("data/space/old")
    devices.unmap(head)
    nothing_is_left()


@case
def locks_are_respected():
    first = devices.map("disk")
    again = devices.call("map", "disk", "-t", "loop")
    check(again.code == 0 and "already mapped as " + first in again.err, "mapped twice: %s" % again)
    devices.unmap(again.text.strip())
    devices.unmap(first)
    first = devices.map("disk", "--exclusive")
    refused = devices.call("device", "map", "disk", "-t", "loop")
    check(refused.code == errno.EROFS and "lock" in refused.err, "%s" % refused)
    devices.unmap(devices.map("disk", "--read-only"))
    devices.unmap(first)
    create("shared", "16M", "--image-shared")
    fails(devices.call("device", "map", "shared", "--exclusive"), errno.EINVAL, "exclusive-lock")
    nothing_is_left()


@case
def a_mapper_that_shall_end_waits_for_its_users():
    device = devices.map("disk")
    path = devices.mount(device)
    pid = devices.mapper(device)
    os.kill(pid, signal.SIGTERM)
    write_synced(os.path.join(path, "afterwards"), b"written")
    check(process_alive(pid), "the mapper has ended under a file system")
    devices.umount(path)
    wait_until("end of the mapper", lambda: not process_alive(pid), 20)
    nothing_is_left()
    device = devices.map("disk")
    path = devices.mount(device)
    check(read_file(os.path.join(path, "afterwards")) == b"written", "it was written")
    devices.umount(path)
    devices.unmap(device)


@case
def mapping_that_is_interrupted_leaves_nothing():
    cluster.kill("mon.a", signal.SIGSTOP)
    process = subprocess.Popen([os.path.join(BIN, "limpet"), "rbd", "map", "disk", "-t", "loop"], stdout=subprocess.PIPE,
                               env=dict(os.environ, **cluster.env, **devices.env))
    wait_until("it has a mapper", lambda: has_child(process.pid), 20)
    process.kill()
    process.wait()
    cluster.kill("mon.a", signal.SIGCONT)
    wait_until("the mapper has ended", lambda: not os.path.exists(os.path.join(devices.run, "0")), 60)
    nothing_is_left()


@case
def what_cannot_be_is_told():
    fails(devices.call("device", "map", "none"), errno.ENOENT, "none")
    fails(devices.call("device", "map", "none/disk"), errno.ENOENT, "pool")
    fails(devices.call("device", "map", "disk@none"), errno.ENOENT, "none")
    fails(devices.call("device", "map"), errno.EINVAL, "image name")
    fails(devices.call("device", "map", "disk", "-o", "block_size=1000"), errno.EINVAL, "block_size=512")
    fails(devices.call("device", "map", "disk", "-o", "noshare"), errno.EINVAL, "noshare")
    fails(devices.call("device", "map", "disk", "-t", "ggate"), errno.EINVAL, "ggate")
    fails(devices.call("device", "unmap", "disk"), errno.EINVAL, "not a mapped image", "list")
    fails(devices.call("device", "unmap", "/dev/null"), errno.EINVAL, "not a mapped device")
    fails(devices.call("device", "unmap", "disk", "-o", "gently"), errno.EINVAL, "force")
    fails(devices.call("device", "map", "disk", wrap=["setpriv", "--reuid=65534", "--clear-groups"]), errno.EPERM, "root")
    if not os.path.exists("/dev/nbd0"):
        fails(devices.call("device", "map", "disk", "-t", "nbd"), errno.ENODEV, "modprobe nbd")
    if not os.path.exists("/dev/ublk-control"):
        fails(devices.call("device", "map", "disk", "-t", "ublk"), errno.ENODEV, "modprobe ublk_drv")
    nothing_is_left()


if __name__ == "__main__":
    run()
