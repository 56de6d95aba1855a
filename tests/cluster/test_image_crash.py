#!/usr/bin/env python3
"""Block images when clients and OSDs die: at each message of what a client does, and amid writes."""

import ctypes
import errno
import os
import random
import sys

from lib.cluster import BUILD, Cluster, case, check, command_with, run, wait_until
from lib.image import FEATURES, MIB, Client, good, lib, refused

cluster = Cluster(mons=1, osds=3)
DIES = os.path.join(BUILD, "crash", "libdie_at_send.so")
STEPS_MAX = 60
SIZE = 3 * MIB

# Loads what it needs, then does one thing, and dies at the n-th message of it.
CHILD = """
import ctypes
import sys
sys.path.insert(0, sys.argv[1])
from lib.image import MIB, Client, lib
client = Client(sys.argv[2])
die = ctypes.CDLL(None).die_after
what, name, steps = sys.argv[3], sys.argv[4], ctypes.c_long(int(sys.argv[5]))
image = client.open(name) if what in ("shrink", "grow", "snap", "snap_remove", "flatten", "rollback") else None
source = client.open("source") if what in ("copy", "deep_copy", "import") else None
stream = source.export() if what == "import" else None
thrown = [entry.id for entry in client.trash() if entry.name == name.encode()]
group, pool = name.encode(), client.pool
die(steps)
if what == "create":
    rc = client.try_create(name, 3 * MIB)
elif what == "remove":
    rc = client.remove(name)
elif what == "rename":
    rc = client.rename(name, name + ".new")
elif what == "clone":
    rc = client.try_clone("parent", "base", name)
elif what == "trash":
    rc = lib.limpet_image_trash_move(client.pool, name.encode(), ctypes.c_uint64(0))
elif what == "shrink":
    rc = image.resize(MIB)
elif what == "grow":
    rc = image.resize(4 * MIB)
elif what == "snap":
    rc = image.try_snap("s")
elif what == "snap_remove":
    rc = image.snap_remove("s")
elif what == "rollback":
    rc = image.rollback("s")
elif what == "flatten":
    rc = image.flatten()
elif what == "copy":
    rc = source.copy(name)
elif what == "deep_copy":
    rc = source.deep_copy(name)
elif what == "import":
    rc = client.import_image(name, stream)
elif what == "restore":
    rc = lib.limpet_image_trash_restore(pool, thrown[0], None)
elif what == "trash_remove":
    rc = lib.limpet_image_trash_remove(pool, thrown[0], ctypes.c_bool(True), None, None)
elif what == "group":
    rc = lib.limpet_group_create(pool, group)
elif what == "group_remove":
    rc = lib.limpet_group_remove(pool, group)
elif what == "join":
    rc = lib.limpet_group_add(pool, group, pool, group + b".a")
elif what == "leave":
    rc = lib.limpet_group_take_out(pool, group, pool, group + b".a")
elif what == "group_snap":
    rc = lib.limpet_group_snap_create(pool, group, b"s")
elif what == "group_snap_remove":
    rc = lib.limpet_group_snap_remove(pool, group, b"s")
elif what == "group_rollback":
    rc = lib.limpet_group_snap_rollback(pool, group, b"s", None, None)
die(ctypes.c_long(-1))
if rc != 0:
    print("failed: %d" % rc)
    sys.exit(1)
sys.stdout.flush()
import os
os._exit(0)
"""


def dies(what, name, steps):
    """Whether it came to its end."""
    here = os.path.dirname(os.path.abspath(__file__))
    code, said = command_with(DIES, ["-c", CHILD, here, cluster.conf, what, name, steps])
    check(code in (0, 77), "%s after %d: %d %s" % (what, steps, code, said))
    return code == 0


def at_each_step(what, prepare, name="v%d", stride=1):
    """Does it on an image of its own for each step at which it can die, or some of them; their names."""
    names = []
    for steps in range(1, stride * STEPS_MAX, stride):
        names.append(name % steps)
        prepare(names[-1])
        if dies(what, names[-1], steps):
            check(len(names) > 1, "%s sends nothing" % what)
            return names
    raise AssertionError("%s does not end" % what)


def nothing_is_left(c):
    left = [line for line in cluster.rados("-p", "data", "ls").text.splitlines()
            if line.startswith(("rbd_data", "rbd_header", "rbd_object_map"))]
    check(left == [] and c.names() == [], "left: %r %r" % (left[:5], c.names()))


@case
def begins():
    check(os.path.exists(DIES), "%s is not built" % DIES)
    cluster.start()
    cluster.pool("data")


def remove(client, name):
    """Who died still counts as one that has it open, until its watch has timed out."""
    def removed():
        rc = client.remove(name)
        check(rc in (0, -errno.EBUSY), "remove %s: %d" % (name, rc))
        return rc == 0
    wait_until("the end of %s" % name, removed, 60)


@case
def dying_while_creating_leaves_what_can_be_removed():
    c = Client(cluster.conf)
    for name in at_each_step("create", lambda name: None):
        if name in c.names():
            opened = c.try_open(name)
            if not isinstance(opened, int):
                check(opened.info().size == SIZE, "a whole image")
                opened.close()
            remove(c, name)
        c.create(name, SIZE).close()
        good(c.remove(name), "remove again")
    nothing_is_left(c)
    c.close()


@case
def dying_while_removing_is_gone_on_with():
    c = Client(cluster.conf)

    def prepare(name):
        image = c.create(name, SIZE, order=20)
        image.write(0, b"x" * SIZE)
        image.close()
    for name in at_each_step("remove", prepare):
        if name not in c.names():
            continue
        opened = c.try_open(name)
        if not isinstance(opened, int):
            check(opened.read(0, SIZE) == b"x" * SIZE, "what can be opened is whole")
            opened.close()
        remove(c, name)
    nothing_is_left(c)
    c.close()


@case
def dying_while_renaming_leaves_one_name():
    c = Client(cluster.conf)
    for name in at_each_step("rename", lambda name: c.create(name, SIZE).close()):
        names = [n for n in c.names() if n in (name, name + ".new")]
        check(len(names) == 1, "one name: %r" % names)
        c.open(names[0]).close()
        good(c.remove(names[0]), "remove")
    nothing_is_left(c)
    c.close()


@case
def dying_while_throwing_away_loses_nothing():
    c = Client(cluster.conf)
    for name in at_each_step("trash", lambda name: c.create(name, SIZE).close()):
        for entry in c.trash():
            good(lib.limpet_image_trash_restore(c.pool, entry.id, None), "restore %s" % name)
        c.open(name).close()
        good(c.remove(name), "remove")
    check(c.trash() == [], "the trash is empty")
    nothing_is_left(c)
    c.close()


@case
def dying_while_cloning_leaves_what_can_be_removed():
    c = Client(cluster.conf)
    parent = c.create_parent(SIZE, b"p" * SIZE)
    for name in at_each_step("clone", lambda name: None):
        if name in c.names():
            opened = c.try_open(name)
            if not isinstance(opened, int):
                check(opened.read(0, SIZE) == b"p" * SIZE, "a whole clone")
                opened.close()
            remove(c, name)
    check(parent.children() == [], "no child is left")
    good(parent.snap_remove("base"), "remove the snapshot")
    parent.close()
    good(c.remove("parent"), "remove")
    nothing_is_left(c)
    c.close()


@case
def dying_while_resizing_and_flattening_loses_nothing():
    """The lock of who died is free when its time is over: all die first, then all is looked at."""
    c = Client(cluster.conf)
    parent = c.create_parent(SIZE, b"x" * SIZE)

    def prepare(name):
        image = c.create(name, SIZE, order=20)
        image.write(0, b"x" * SIZE)
        image.close()

    def prepare_snap(name):
        image = c.create(name, SIZE, order=20)
        image.write(0, b"x" * SIZE)
        image.snap("s")
        image.write(MIB - 10, b"y" * 20)
        image.close()
    shrunk = at_each_step("shrink", prepare, "shrink%d")
    grown = at_each_step("grow", prepare, "grow%d")
    snapped = at_each_step("snap", prepare, "snap%d")
    dropped = at_each_step("snap_remove", prepare_snap, "drop%d")
    back = at_each_step("rollback", prepare_snap, "back%d")
    flat = at_each_step("flatten", lambda name: c.clone("parent", "base", name).close(), "flat%d")
    for name in shrunk + grown:
        image = c.open(name)
        size = image.info().size
        check(size in (MIB, SIZE, 4 * MIB), "%s: size %d" % (name, size))
        kept = min(size, SIZE)
        check(image.read(0, kept) == b"x" * kept, "%s: contents" % name)
        good(image.resize(5 * MIB), "grow")
        check(image.read(0, 5 * MIB) == b"x" * kept + bytes(5 * MIB - kept), "%s: what was cut off" % name)
        image.close()
    for name in snapped + dropped:
        image = c.open(name)
        names = image.snap_names()
        check(names in ([], ["s"]), "%s: %r" % (name, names))
        image.write(0, b"z" * SIZE)
        for snap in names:
            good(image.set_snap("s"), "look")
            check(image.read(0, MIB) == b"x" * MIB, "%s: the snapshot" % name)
            good(image.set_snap(None), "look")
            good(image.snap_remove(snap), "remove")
        image.close()
    for name in back:
        image = c.open(name)
        good(image.rollback("s"), "rollback")
        check(image.read(0, SIZE) == b"x" * SIZE, "%s: rolled back" % name)
        good(image.snap_remove("s"), "remove")
        image.close()
    for name in flat:
        image = c.open(name)
        check(image.read(0, SIZE) == b"x" * SIZE, "%s: contents" % name)
        if image.info().has_parent:
            good(image.flatten(), "flatten")
        image.close()
    for name in shrunk + grown + snapped + dropped + back + flat:
        remove(c, name)
    check(parent.children() == [], "no child is left")
    good(parent.snap_remove("base"), "remove")
    parent.close()
    good(c.remove("parent"), "remove")
    nothing_is_left(c)
    c.close()


@case
def a_snapshot_of_what_was_half_shrunk_does_not_bring_it_back():
    c = Client(cluster.conf)

    def prepare(name):
        image = c.create(name, SIZE, order=22)
        image.write(0, b"x" * SIZE)
        image.close()
    for name in at_each_step("shrink", prepare, "half%d"):
        image = c.open(name)
        size = image.info().size
        image.snap("s")
        good(image.resize(size), "what was interrupted is gone on with")
        good(image.rollback("s"), "rollback")
        good(image.resize(SIZE), "grow")
        check(image.read(0, SIZE) == b"x" * size + bytes(SIZE - size), "%s: what was cut off" % name)
        good(image.snap_remove("s"), "remove")
        image.close()
        remove(c, name)
    nothing_is_left(c)
    c.close()


@case
def dying_while_copying_leaves_what_can_be_removed():
    """Whole copies are whole; others cannot be opened."""
    c = Client(cluster.conf)
    source = c.create("source", SIZE, order=20)
    source.write(0, b"1" * SIZE)
    source.snap("s")
    source.write(MIB, b"2" * MIB)
    after = b"1" * MIB + b"2" * MIB + b"1" * MIB
    for what, stride in (("copy", 3), ("deep_copy", 5), ("import", 7)):
        for name in at_each_step(what, lambda name: None, what + "%d", stride):
            if name not in c.names():
                continue
            opened = c.try_open(name)
            if not isinstance(opened, int):
                check(opened.read(0, SIZE) == after, "%s: contents" % name)
                check(opened.snap_names() == ([] if what == "copy" else ["s"]), "%s: snapshots" % name)
                for snap in opened.snap_names():
                    good(opened.snap_remove(snap), "remove")
                opened.close()
            remove(c, name)
    good(source.snap_remove("s"), "remove")
    source.close()
    good(c.remove("source"), "remove")
    nothing_is_left(c)
    c.close()


@case
def dying_at_the_trash_loses_nothing():
    c = Client(cluster.conf)

    def prepare(name):
        image = c.create(name, SIZE, order=20)
        image.write(0, b"x" * SIZE)
        image.close()
        good(lib.limpet_image_trash_move(c.pool, name.encode(), ctypes.c_uint64(0)), "throw away")
    for name in at_each_step("restore", prepare):
        for entry in c.trash():
            good(lib.limpet_image_trash_restore(c.pool, entry.id, None), "restore %s" % name)
        image = c.open(name)
        check(image.read(0, SIZE) == b"x" * SIZE, "%s: contents" % name)
        image.close()
        remove(c, name)
    at_each_step("trash_remove", prepare)
    for entry in c.trash():
        good(lib.limpet_image_trash_remove(c.pool, entry.id, ctypes.c_bool(True), None, None), "remove")
    check(c.trash() == [], "the trash is empty")
    nothing_is_left(c)
    c.close()


def make_group(c, name, joined=True, snap=False):
    good(lib.limpet_group_create(c.pool, name.encode()), "create a group")
    for image in (name + ".a", name + ".b"):
        opened = c.create(image, MIB, order=20)
        opened.write(0, b"x" * MIB)
        opened.close()
        if joined:
            good(lib.limpet_group_add(c.pool, name.encode(), c.pool, image.encode()), "add")
    if snap:
        good(lib.limpet_group_snap_create(c.pool, name.encode(), b"s"), "snapshot")


def end_group(c, name, rolls_back=False):
    """Its snapshots are whole, or can be removed; so can be the group, and then nothing holds its images."""
    group = name.encode()
    for snap in c.group_snaps(name):
        for image in (name + ".a", name + ".b"):
            opened = c.open(image)
            check(not snap.complete or len(opened.snaps()) == 1, "%s: a whole snapshot" % name)
            opened.close()
        if not snap.complete:
            refused(lib.limpet_group_snap_rollback(c.pool, group, snap.name, None, None), errno.EINVAL, "roll back to a part")
        elif rolls_back:
            good(lib.limpet_group_snap_rollback(c.pool, group, snap.name, None, None), "roll back")
        good(lib.limpet_group_snap_remove(c.pool, group, snap.name), "%s: remove the snapshot" % name)
    for image in (name + ".a", name + ".b"):
        opened = c.open(image)
        check(opened.snaps() == [], "%s: no snapshot is left" % image)
        check(opened.read(0, MIB) == b"x" * MIB, "%s: contents" % image)
        opened.close()
    good(lib.limpet_group_snap_create(c.pool, group, b"again"), "%s: another snapshot" % name)
    good(lib.limpet_group_remove(c.pool, group), "%s: remove the group" % name)
    for image in (name + ".a", name + ".b"):
        remove(c, image)


@case
def dying_at_a_group_leaves_what_can_be_removed():
    c = Client(cluster.conf)
    for name in at_each_step("group", lambda name: None, "new%d"):
        if lib.limpet_group_remove(c.pool, name.encode()) == -errno.ENOENT:
            good(lib.limpet_group_create(c.pool, name.encode()), "create again")
            good(lib.limpet_group_remove(c.pool, name.encode()), "remove")
    for name in at_each_step("join", lambda name: make_group(c, name, joined=False), "join%d"):
        for image in (name + ".a", name + ".b"):
            rc = lib.limpet_group_add(c.pool, name.encode(), c.pool, image.encode())
            check(rc in (0, -errno.EEXIST), "add %s: %d" % (image, rc))
        check(len(c.group_images(name)) == 2, "both are in it")
        end_group(c, name)
    for name in at_each_step("leave", lambda name: make_group(c, name), "leave%d"):
        rc = lib.limpet_group_take_out(c.pool, name.encode(), c.pool, (name + ".a").encode())
        check(rc in (0, -errno.ENOENT), "take out %s: %d" % (name, rc))
        end_group(c, name)
    for name in at_each_step("group_remove", lambda name: make_group(c, name, snap=True), "gone%d", 3):
        rc = lib.limpet_group_remove(c.pool, name.encode())
        check(rc in (0, -errno.ENOENT), "remove %s: %d" % (name, rc))
        for image in (name + ".a", name + ".b"):
            remove(c, image)
    nothing_is_left(c)
    c.close()


@case
def dying_at_a_group_s_snapshot_leaves_what_can_be_removed():
    c = Client(cluster.conf)
    snapped = at_each_step("group_snap", lambda name: make_group(c, name), "snap%d", 3)
    dropped = at_each_step("group_snap_remove", lambda name: make_group(c, name, snap=True), "drop%d", 3)
    back = at_each_step("group_rollback", lambda name: make_group(c, name, snap=True), "back%d", 7)
    for name in snapped + dropped + back:
        end_group(c, name, name in back)
    nothing_is_left(c)
    c.close()


@case
def osds_die_amid_writes():
    c = Client(cluster.conf)
    r = random.Random(11)
    image = c.create("stormy", 32 * MIB, order=20)
    model = bytearray(32 * MIB)
    for number in range(6):
        requests = []
        blocks = r.sample(range(32 * MIB // 8192), 400)
        for i, block in enumerate(blocks):
            if i == 100:
                cluster.kill("osd.%d" % (number % 3))
            data = r.randbytes(8192)
            requests.append(image.aio_write(block * 8192, data))
            model[block * 8192:block * 8192 + 8192] = data
        if number == 3:
            image.snap("amid")
        check(all(request.wait(300) == 8192 for request in requests), "every write ends well")
        if number == 3:
            good(image.snap_remove("amid"), "remove")
        cluster.start_daemon("osd.%d" % (number % 3))
        cluster.wait_healthy(120)
    check(image.read(0, 32 * MIB) == bytes(model), "everything that was written is there")
    image.close()
    image = c.open("stormy")
    check(image.read(0, 32 * MIB) == bytes(model), "after opening anew")
    check(image.info().features == FEATURES, "features")
    image.close()
    good(c.remove("stormy"), "remove")
    nothing_is_left(c)
    c.close()


if __name__ == "__main__":
    run()
