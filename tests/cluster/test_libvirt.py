#!/usr/bin/env python3
"""A storage pool of libvirt, of type rbd: an unmodified libvirtd with our librados and librbd. Volumes are made, cloned,
resized, wiped and deleted."""

import os
import re
import sys
import xml.etree.ElementTree as xml

from lib.cluster import Cluster, case, check, fails, folder, random_bytes, run, succeeds, write_file
from lib.librados import FOLDER
from lib.libvirt import SECRET, Libvirt, missing

if missing():
    print("skipped: %s missing" % missing())
    sys.exit(0)

MIB = 1 << 20
SECRET_XML = """<secret ephemeral='no' private='no'>
  <uuid>%s</uuid>
  <usage type='ceph'><name>client.admin</name></usage>
</secret>"""
POOL_XML = """<pool type='rbd'>
  <name>limpet</name>
  <source>
    <host name='%s' port='%s'/>
    <name>data</name>
    <auth type='ceph' username='admin'><secret uuid='%s'/></auth>
  </source>
</pool>"""

cluster = Cluster(mons=1, osds=3)
libvirt = Libvirt(cluster)


def volume(name):
    """(type, bytes) of a volume."""
    root = xml.fromstring(libvirt.virsh("vol-dumpxml", "--pool", "limpet", name))
    return root.get("type"), int(root.find("capacity").text)


def volumes():
    return sorted(line.split()[0] for line in libvirt.virsh("vol-list", "limpet").splitlines() if line.strip())


def images():
    return sorted(succeeds(cluster.limpet("rbd", "ls", "data")).text.split())


def export(name):
    path = os.path.join(folder(), "exported")
    succeeds(cluster.limpet("rbd", "export", "data/" + name, path, "--no-progress"))
    with open(path, "rb") as file:
        return file.read()


@case
def starts():
    cluster.start()
    cluster.pool("data")
    succeeds(cluster.limpet("rbd", "create", "data/before", "--size", "8M"))
    libvirt.start()


@case
def a_pool_is_defined_and_started():
    libvirt.give_key(SECRET_XML % SECRET)
    with open(cluster.conf, encoding="utf-8") as file:
        host, port = re.search(r"mon host = ([\d.]+):(\d+)", file.read()).groups()
    libvirt.define("pool-define", POOL_XML % (host, port, SECRET))
    libvirt.virsh("pool-start", "limpet")
    info = libvirt.virsh("pool-info", "limpet")
    check(re.search(r"State:\s+running", info) and re.search(r"Capacity:\s+1\d\.\d+ GiB", info), info)
    check(volumes() == ["before"], "%r" % volumes())
    ours = {os.path.realpath(os.path.join(FOLDER, name)) for name in ("librados.so.2", "librbd.so.1")}
    theirs = {path for path in libvirt.libraries() if re.search(r"/lib(rados|rbd)\.", path)}
    check(theirs == ours, "libvirtd has loaded %r" % theirs)


@case
def volumes_are_made_and_cloned():
    libvirt.virsh("vol-create-as", "limpet", "first", "64M")
    path = write_file(os.path.join(folder(), "xml"), b"<volume><name>second</name><capacity unit='MiB'>32</capacity></volume>")
    libvirt.virsh("vol-create", "limpet", path)
    check(volume("first") == ("network", 64 * MIB) and volume("second") == ("network", 32 * MIB), "%r" % (volume("second"),))
    check(images() == ["before", "first", "second"] == volumes(), "%r" % images())
    data = random_bytes(5 * MIB, 1)
    source = write_file(os.path.join(folder(), "source"), data)
    succeeds(cluster.limpet("rbd", "import", source, "data/filled", "--no-progress"))
    libvirt.virsh("pool-refresh", "limpet")
    libvirt.virsh("vol-clone", "--pool", "limpet", "filled", "clone")
    check(export("clone") == data, "the clone differs")
    check("data/filled@" in succeeds(cluster.limpet("rbd", "info", "data/clone")).text, "it has a parent")


@case
def volumes_are_resized_and_wiped():
    libvirt.virsh("vol-resize", "--pool", "limpet", "first", "128M")
    check(volume("first")[1] == 128 * MIB, "%r" % (volume("first"),))
    libvirt.virsh("vol-wipe", "--pool", "limpet", "clone")
    check(export("clone") == bytes(5 * MIB), "it is not wiped")


@case
def what_libvirt_cannot_do_with_rbd_is_its_own():
    """Its backend for rbd has no upload, whoever's librbd it is."""
    path = write_file(os.path.join(folder(), "source"), b"data")
    refused = libvirt.call("vol-upload", "--pool", "limpet", "first", path)
    check(refused.code != 0 and "doesn't support volume upload" in refused.err, "%s" % refused)


@case
def volumes_are_deleted():
    libvirt.virsh("vol-delete", "--pool", "limpet", "clone")
    kept = libvirt.call("vol-delete", "--pool", "limpet", "filled")
    check(kept.code != 0 and "failed to remove volume" in kept.err and "filled" in images(), "it has a snapshot: %s" % kept)
    libvirt.virsh("vol-delete", "--pool", "limpet", "filled", "--delete-snapshots")
    for name in ("first", "second"):
        libvirt.virsh("vol-delete", "--pool", "limpet", name)
    check(images() == ["before"] == volumes(), "%r, %r" % (images(), volumes()))


@case
def a_wrong_key_opens_nothing():
    libvirt.virsh("pool-destroy", "limpet")
    path = write_file(os.path.join(folder(), "key"), b"AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA==")
    libvirt.virsh("secret-set-value", SECRET, "--file", path)
    refused = libvirt.call("pool-start", "limpet")
    check(refused.code != 0 and "RADOS" in refused.err, "%s" % refused)
    fails(cluster.limpet("rbd", "ls", "data", "--key", "AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA=="), 13, "key")
    fails(cluster.limpet("rbd", "ls", "data", "--key", "nonsense"), 22, "key")
    key = succeeds(cluster.limpet("auth", "get-key", "client.admin")).text.strip()
    check(images() == succeeds(cluster.limpet("rbd", "ls", "data", "--key", key, "--keyring", "/nonexistent")).text.split(), "key")


if __name__ == "__main__":
    run()
