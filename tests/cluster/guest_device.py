#!/usr/bin/env python3
"""Inside of a guest: devices of ublk and NBD. See test_device_guest.py, which starts it. The cluster is one monitor and one
OSD, so that an emulated processor is enough."""

import errno
import os
import re
import signal
import subprocess
import threading
import time

from lib.cluster import (BIN, Cluster, case, check, command, fails, folder, process_alive, random_bytes, read_file, run,
                         succeeds, wait_until, write_file)
from lib.device import Devices, has_child, size_of

KIB, MIB = 1 << 10, 1 << 20
cluster = Cluster(mons=1, osds=1)
devices = Devices(cluster)


def create(name, size="64M", *options):
    succeeds(cluster.limpet("rbd", "create", name, "--size", size, *options))


def write_synced(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def dd(device, offset, data):
    return command(["dd", "of=" + device, "bs=64k", "oflag=direct,seek_bytes", "conv=notrunc", "seek=%d" % offset], data=data)


def read_direct(device, offset, size):
    return succeeds(command(["dd", "if=" + device, "bs=64k", "iflag=direct,skip_bytes,count_bytes", "skip=%d" % offset,
                             "count=%d" % size])).out


def queue(device, name):
    return read_file("/sys/block/%s/queue/%s" % (os.path.basename(device), name)).decode().strip()


def log(device):
    return read_file(os.path.join(devices.run, devices.entry(device)[0], "log")).decode()


def ublk_nodes():
    return sorted(name for name in os.listdir("/dev") if re.match(r"ublk[bc]\d", name))


def nothing_is_left():
    check(os.listdir(devices.run) == ["lock"], "folders are left: %r" % os.listdir(devices.run))
    wait_until("devices are left: %r" % ublk_nodes(), lambda: ublk_nodes() == [], 10)


@case
def starts():
    cluster.start()
    cluster.pool("rbd")
    create("disk")
    create("other", "16M")
    flags = set(re.search("flags.*", read_file("/proc/cpuinfo").decode()).group(0).split())
    print("Linux %s; aes %s, avx512f %s" % (os.uname().release, "aes" in flags, "avx512f" in flags))


@case
def both_kinds_in_short():
    """What a short run looks at."""
    for kind, name in (("ublk", "disk"), ("nbd", "other")):
        device, data = devices.map(name, "-t", kind), random_bytes(300 * KIB, 3)
        check(device.startswith("/dev/" + kind), "%s is no %s" % (device, kind))
        succeeds(dd(device, 4 * MIB - 512, data))
        succeeds(command(["blkdiscard", "--zeroout", "--offset", 4 * MIB, "--length", 64 * KIB, device]))
        expected = data[:512] + bytes(64 * KIB) + data[512 + 64 * KIB:]
        check(read_direct(device, 4 * MIB - 512, len(data)) == expected, "what was written differs")
        devices.kill_mapper(device)
        if kind == "ublk":  # Nobody tells the device of it.
            succeeds(cluster.limpet("rbd", "resize", name, "--size", "96M", "--no-progress"))
        with open(device, "rb"):
            again = devices.map(name, "-t", kind)
        check(kind != "ublk" or again == device, "%s goes on as %s" % (device, again))
        check(read_direct(again, 4 * MIB - 512, len(data)) == expected, "after the mapper's death it differs")
        if kind == "ublk":
            wait_until("it has grown, or says why not", lambda: size_of(again) == 96 * MIB or str(96 * MIB) in log(again), 20)
        devices.unmap(name)
    succeeds(cluster.limpet("rbd", "resize", "disk", "--size", "64M", "--allow-shrink", "--no-progress"))
    nothing_is_left()


@case
def objects_come_back():
    data, there, back = random_bytes(3 * MIB + 77, 1), os.path.join(folder(), "there"), os.path.join(folder(), "back")
    write_file(there, data)
    for name in ("one", "two"):
        succeeds(cluster.limpet("rados", "-p", "rbd", "put", name, there))
        succeeds(cluster.limpet("rados", "-p", "rbd", "get", name, back))
        check(read_file(back) == data, "another object came back")
        succeeds(cluster.limpet("rados", "-p", "rbd", "rm", name))


def verify_io(device):
    """Bytes at odd places, many requests at a time, zeroes and discards; what the image has in the end."""
    data = random_bytes(3 * MIB + 512, 2)
    succeeds(command(["dd", "of=" + device, "bs=512", "oflag=direct", "conv=notrunc", "seek=77", "iflag=fullblock"],
                     data=data[:20 * 512]))
    check(read_direct(device, 77 * 512, 20 * 512) == data[:20 * 512], "sectors differ")
    succeeds(dd(device, 5 * MIB - 512, data))
    check(read_direct(device, 5 * MIB - 512, len(data)) == data, "what was written differs")
    fio = ["fio", "--name=x", "--filename=" + device, "--rw=randwrite", "--bs=4k", "--iodepth=16", "--ioengine=libaio",
           "--direct=1", "--verify=crc32c", "--offset=16M", "--size=4M", "--minimal"]
    succeeds(command(fio, timeout=300))
    succeeds(command(["blkdiscard", "--zeroout", "--offset", 6 * MIB, "--length", MIB, device]))
    check(read_direct(device, 6 * MIB, MIB) == bytes(MIB), "zeroes")
    check(read_direct(device, 7 * MIB, MIB) == data[2 * MIB + 512:][:MIB], "what lies behind zeroes")
    succeeds(command(["blkdiscard", "--force", "--offset", 16 * MIB, "--length", 16 * MIB, device]))
    exported = os.path.join(folder(), "exported")
    succeeds(cluster.limpet("rbd", "export", "disk", exported, "--no-progress"))
    image = read_file(exported)
    check(image == read_direct(device, 0, size_of(device)), "the image differs from the device")
    check(image[16 * MIB:32 * MIB] == bytes(16 * MIB), "what was discarded is still there")
    os.unlink(exported)


@case
def the_first_choice_is_ublk():
    fails(devices.call("device", "map", "none"), errno.ENOENT, "none")
    device = devices.map("disk")
    check(device == "/dev/ublkb0" and size_of(device) == 64 * MIB, "%s of %d bytes" % (device, size_of(device)))
    check(devices.list() == [{"id": "0", "pool": "rbd", "namespace": "", "name": "disk", "snap": "-", "device": device}],
          "%r" % devices.list())
    check(succeeds(devices.call("device", "list", "-t", "nbd")).text == "", "it is no NBD")
    check(queue(device, "write_cache") == "write through" and queue(device, "discard_granularity") == "65536", "queue")
    check(succeeds(command(["blockdev", "--getss", "--getro", device])).text.split() == ["512", "0"], "sectors")
    verify_io(device)
    devices.unmap(device)
    nothing_is_left()


class Writer:
    """Writes files and syncs them, until it is told to stop or cannot go on."""

    def __init__(self, path):
        self.path = path
        self.confirmed = 0
        self.stop = False
        self.thread = threading.Thread(target=self.go)
        self.thread.start()

    def go(self):
        try:
            while not self.stop:
                write_synced(os.path.join(self.path, "f%d" % (self.confirmed % 200)), self.contents(self.confirmed))
                self.confirmed += 1
        except OSError:
            pass

    def contents(self, at):
        return b"%d " % at + random_bytes(10007, at)

    def wait(self, more):
        upto = self.confirmed + more
        wait_until("%d files" % upto, lambda: self.confirmed >= upto, 60)

    def end(self):
        self.stop = True
        self.thread.join(100)
        check(not self.thread.is_alive(), "a write hangs")

    def check_files(self, path):
        for at in range(max(0, self.confirmed - 150), self.confirmed):
            check(read_file(os.path.join(path, "f%d" % (at % 200))) == self.contents(at), "file %d differs" % at)


@case
def a_file_system_outlives_its_mapper_and_the_osd():
    device = devices.map("disk")
    succeeds(command(["mkfs.ext4", "-q", "-F", device]))
    path = devices.mount(device, "-o", "errors=remount-ro")
    writer = Writer(path)
    for _ in range(6):
        writer.wait(5)
        devices.kill_mapper(device)
        check([row["device"] for row in devices.list()] == [device], "the device has gone: %r" % devices.list())
        check(devices.map("disk") == device, "it is another device")
        writer.wait(3)
        cluster.kill("osd.0")
        time.sleep(0.3)
        succeeds(cluster.start_daemon("osd.0"))
    writer.wait(3)
    writer.end()
    writer.check_files(path)
    succeeds(command(["fstrim", path]))
    devices.umount(path)
    succeeds(command(["e2fsck", "-f", "-n", device]))
    devices.unmap(device)
    nothing_is_left()
    device = devices.map("disk", "--read-only")
    path = devices.mount(device, "-o", "ro")
    writer.check_files(path)
    devices.umount(path)
    devices.unmap(device)


@case
def what_nobody_takes_over_is_let_go():
    first, second = devices.map("disk"), devices.map("other")
    check(sorted(row["device"] for row in devices.list()) == [first, second], "%r" % devices.list())
    path = devices.mount(first)
    devices.kill_mapper(first)
    devices.kill_mapper(second)
    device = devices.map("other")
    check([row["name"] for row in devices.list()] == ["disk", "other"], "%r" % devices.list())
    devices.unmap(device)
    fails(devices.call("device", "unmap", first), errno.EBUSY, "mounted")
    # In another way: that is another device.
    device = devices.map("disk", "--read-only")
    check(device != first, "it was taken over by a mapper that only reads")
    devices.unmap(device)
    succeeds(devices.call("device", "unmap", "-o", "force", first))
    check(devices.list() == [], "%r" % devices.list())
    devices.umount(path)
    nothing_is_left()


@case
def busy_devices_stay():
    device = devices.map("disk")
    path = devices.mount(device)
    fails(devices.call("device", "unmap", device), errno.EBUSY, "mounted on " + path, "force")
    os.kill(devices.mapper(device), signal.SIGTERM)
    write_synced(os.path.join(path, "still"), b"here")
    devices.umount(path)
    wait_until("end of the mapper", lambda: devices.list() == [], 20)
    nothing_is_left()
    device = devices.map("disk")
    with open(device, "rb"):
        fails(devices.call("device", "unmap", device), errno.EBUSY, "open in process %d" % os.getpid())
    path = devices.mount(device)
    check(read_file(os.path.join(path, "still")) == b"here", "it was written")
    devices.unmap("-o", "force", device)
    try:
        write_synced(os.path.join(path, "lost"), random_bytes(MIB, 2))
        check(False, "a write to a device that was forced away succeeded")
    except OSError:
        pass
    devices.umount(path)
    nothing_is_left()


@case
def what_can_only_be_read_is():
    device = devices.map("other", "-o", "block_size=4096")
    check(queue(device, "logical_block_size") == "4096", "block size")
    succeeds(dd(device, 0, b"1" * 4096))
    succeeds(cluster.limpet("rbd", "snap", "create", "other@then", "--no-progress"))
    succeeds(dd(device, 0, b"2" * 4096))
    snap = devices.map("other@then")
    check(read_direct(snap, 0, 4096) == b"1" * 4096 and read_direct(device, 0, 4096) == b"2" * 4096, "snapshot or head")
    check(dd(snap, 0, bytes(4096)).code != 0, "a write to a snapshot")
    check(succeeds(command(["blockdev", "--getro", snap])).text.strip() == "1", "it is not read-only")
    again = devices.call("map", "other")
    check(again.code == 0 and "already mapped as " + device in again.err, "mapped twice: %s" % again)
    devices.unmap(again.text.strip())
    succeeds(cluster.limpet("rbd", "resize", "other", "--size", "32M", "--no-progress"))
    # From Linux 6.16 on; before, it is told that the device stays as it is.
    wait_until("it has grown, or says why not", lambda: size_of(device) == 32 * MIB or str(32 * MIB) in log(device), 20)
    print("the device has %d MiB; log: %s" % (size_of(device) // MIB, log(device).strip()))
    devices.unmap(snap)
    devices.unmap(device)
    nothing_is_left()


@case
def mapping_that_is_interrupted_leaves_nothing():
    cluster.kill("mon.a", signal.SIGSTOP)
    with subprocess.Popen([os.path.join(BIN, "limpet"), "rbd", "map", "disk"], stdout=subprocess.PIPE,
                          env=dict(os.environ, **cluster.env, **devices.env)) as process:
        wait_until("it has a mapper", lambda: has_child(process.pid), 20)
        process.kill()
        process.wait()
    cluster.kill("mon.a", signal.SIGCONT)
    wait_until("the mapper has ended", lambda: not os.path.exists(os.path.join(devices.run, "0")), 60)
    nothing_is_left()


@case
def without_ublk_nbd_is_next():
    if os.path.exists("/dev/ublk-control"):
        succeeds(command(["busybox", "rmmod", "ublk_drv"]))
    fails(devices.call("device", "map", "disk", "-t", "ublk"), errno.ENODEV, "modprobe ublk_drv")
    device = devices.map("disk")
    check(device == "/dev/nbd0" and size_of(device) == 64 * MIB, "%s of %d bytes" % (device, size_of(device)))
    check([row["device"] for row in devices.list()] == [device], "%r" % devices.list())
    verify_io(device)
    devices.unmap(device)
    nothing_is_left()


@case
def nbd_outlives_its_mapper():
    device = devices.map("disk")
    succeeds(command(["mkfs.ext4", "-q", "-F", device]))
    path = devices.mount(device)
    fails(devices.call("device", "unmap", device), errno.EBUSY, "mounted on " + path, "force")
    writer = Writer(path)
    writer.wait(5)
    cluster.kill("osd.0")
    succeeds(cluster.start_daemon("osd.0"))
    writer.wait(3)
    devices.kill_mapper(device)
    # What was under way may hang until then; the dead one's device is still in use.
    dead, device = device, devices.map("disk")
    check(device != dead, "the device is still in use")
    writer.end()
    devices.umount(path)
    path = devices.mount(device)
    writer.check_files(path)
    devices.umount(path)
    succeeds(command(["e2fsck", "-f", "-n", device]))
    devices.unmap(device)
    nothing_is_left()


@case
def nbd_that_can_only_be_read_is():
    device = devices.map("disk", "--read-only")
    check(dd(device, 0, bytes(4096)).code != 0, "a write to a device that can only be read")
    other = devices.map("other", "-o", "block_size=4096")
    check(other != device and queue(other, "logical_block_size") == "4096", "block size of %s" % other)
    devices.unmap("other")
    path = devices.mount(device, "-o", "ro")
    devices.unmap("-o", "force", device)
    devices.umount(path)
    check(devices.list() == [], "%r" % devices.list())
    nothing_is_left()


if __name__ == "__main__":
    run()
