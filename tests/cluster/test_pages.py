#!/usr/bin/env python3
"""The pages of docs on images and file systems: what they tell to type is typed, as it stands but for names of folders and ports."""

import os
import re

from lib import device, libvirt, mount, tgt
from lib.cluster import BIN, REPO, Cluster, case, check, command, folder, read_file, run, succeeds, write_file
from lib.librados import FOLDER, environment

cluster = Cluster(mons=1, osds=3)
scratch = folder()


def blocks(page):
    """The indented parts of a page."""
    text = read_file(os.path.join(REPO, "docs", page)).decode()
    found = re.findall(r"(?:^    [^\n]*\n)+", text, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]


def place(block):
    """With this cluster's files for those of an installed one."""
    for there, here in (("/etc/limpet/limpet.conf", cluster.conf), ("/usr/lib/x86_64-linux-gnu/limpet/compat", FOLDER),
                        ("/mnt", scratch), ("port='3300'", "port='%s'" % monitor_port())):
        block = block.replace(there, here)
    return block


def monitor_port():
    return re.search(r"mon host = [\d.]+:(\d+)", read_file(cluster.conf).decode()).group(1)


def type_in(block, env=None):
    env = dict(cluster.env, PATH=BIN + ":" + os.environ["PATH"], **(env or {}))
    return succeeds(command(["sh", "-euc", place(block)], env=env, cwd=scratch)).text


@case
def starts():
    cluster.start()
    cluster.pool("rbd")


@case
def device_md():
    if device.missing():
        print("skipped: %s is missing" % device.missing())
        return
    devices = device.Devices(cluster)
    (script,) = blocks("device.md")
    said = type_in(script, devices.env)
    check("rbd" in said and "/dev/" in said, said)
    path = devices.mount(devices.map("rbd/disk", "--read-only"), "-o", "ro")
    check(read_file(os.path.join(path, "file")) == b"kept\n", "the file")
    devices.umount(path)
    devices.unmap("rbd/disk")
    succeeds(cluster.limpet("rbd", "rm", "rbd/disk", "--no-progress"))


@case
def files_md():
    if mount.missing():
        print("skipped: %s is missing" % mount.missing())
        return
    mounts = mount.Mounts(cluster)
    script, table, layouts = blocks("files.md")
    said = type_in(script)
    check("kept" in said and "clients" not in said.split("kept")[0] and "clean" in said, said)
    name, place_of_it, kind, options = place(table).split()[:4]
    check(kind == "limpet", "as mount(8) calls mount.limpet")
    mounts.paths.append(place_of_it)
    succeeds(command([os.path.join(BIN, "mount." + kind), name, place_of_it, "-o", "rw," + options], env={"LIMPET_CONF": ""}))
    check(read_file(os.path.join(place_of_it, "file")) == b"kept\n", "the file")
    os.mkdir(os.path.join(place_of_it, "folder"))
    write_file(os.path.join(place_of_it, "empty"), b"")
    said = type_in(layouts)
    check("stripe_count=1" in said and "stripe_unit=4194304" in said, said)
    mounts.umount(place_of_it)


def write(offset, byte):
    succeeds(command(["qemu-io", "-f", "raw", "-c", "write -P %d %d 1M" % (byte, offset), "rbd:rbd/disk"],
                     env=environment(cluster)))


@case
def backup_md():
    succeeds(cluster.limpet("rbd", "create", "rbd/disk", "--size", "64M"))
    first, second, back, merge = blocks("backup.md")
    write(5 << 20, 1)
    type_in(first)
    write(20 << 20, 2)
    type_in(second)
    said = type_in(back)
    check("monday" in said and "tuesday" in said, said)
    copies = []
    for name in ("disk@tuesday", "restored"):
        copies.append(os.path.join(scratch, name))
        succeeds(cluster.limpet("rbd", "export", "rbd/" + name, copies[-1], "--no-progress"))
    data = read_file(copies[0])
    check(data[5 << 20] == 1 and data[20 << 20] == 2 and data == read_file(copies[1]), "the copy differs")
    type_in(merge)
    succeeds(cluster.limpet("rbd", "create", "rbd/merged", "--size", "64M"))
    succeeds(cluster.limpet("rbd", "import-diff", os.path.join(scratch, "both.diff"), "rbd/merged", "--no-progress"))
    copies.append(os.path.join(scratch, "merged"))
    succeeds(cluster.limpet("rbd", "export", "rbd/merged", copies[-1], "--no-progress"))
    check(read_file(copies[-1]) == data, "the merged copy differs")


@case
def iscsi_md():
    if tgt.missing():
        print("skipped: %s is not installed" % tgt.missing())
        return
    _start, make, remove = blocks("iscsi.md")
    daemon = tgt.Tgt(cluster)
    said = type_in(make, daemon.env)
    check("Backing store path: rbd/disk" in said, said)
    url = "iscsi://127.0.0.1:%d/iqn.2026-11.example:disk/1" % daemon.port
    check("67108864" in succeeds(command(["qemu-img", "info", "--output=json", url])).text, "size")
    type_in(remove, daemon.env)


@case
def vm_md_qemu():
    export, make, _machine = blocks("vm.md")[:3]
    said = type_in(export + make)
    check("10 GiB" in said, said)


@case
def vm_md_libvirt():
    if libvirt.missing():
        print("skipped: %s missing" % libvirt.missing())
        return
    secret, pool, domain = [place(block) for block in blocks("vm.md") if block.startswith("<")]
    daemon = libvirt.Libvirt(cluster)
    daemon.start()
    daemon.give_key(secret)
    daemon.define("pool-define", pool)
    daemon.virsh("pool-start", "limpet")
    check("rbd/vm" in daemon.virsh("vol-list", "limpet"), "the image is a volume")
    # Not every machine has KVM.
    daemon.define("define", domain.replace("type='kvm'", "type='qemu'"))
    daemon.domains.append("vm")
    daemon.virsh("start", "vm")
    check(daemon.virsh("domblkinfo", "vm", "vda", "--human").count("10.000 GiB") >= 1, daemon.virsh("domblkinfo", "vm", "vda", "--human"))
    daemon.virsh("destroy", "vm")


if __name__ == "__main__":
    run()
