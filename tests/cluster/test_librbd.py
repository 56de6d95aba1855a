#!/usr/bin/env python3
"""librbd.so.1 of client/compat under Ceph's unmodified Python module (package python3-rbd)."""

import errno
import glob
import itertools
import os
import re
import subprocess

from lib.cluster import Cluster, case, check, command, folder, read_file, run
from lib.librados import FOLDER, environment

cluster = Cluster(mons=1, osds=3)
HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON = "/usr/bin/python3"  # The one that the distribution's modules are for.
MODULES = glob.glob("/usr/lib/python3/dist-packages/rbd.*.so")
numbers = itertools.count()
tested = set()  # Functions of the C library that some case drives: which it says.
called = set()  # Those that were called.

# What each program begins with: the modules, connected, a pool of its own, and an image of 8 MiB.
# Functions are bound when they are called first, not when the module is loaded.
BEGIN = """
import sys
sys.setdlopenflags(1)
import datetime, errno, rados, rbd, sys, threading
MIB = 1 << 20
def check(condition, message):
    if not condition:
        sys.exit("%s" % (message,))
def fails(error, function, *arguments, **named):
    try:
        function(*arguments, **named)
    except Exception as found:
        check(getattr(found, "errno", None) == error, "%r, not errno %s" % (found, error))
    else:
        sys.exit("%s should fail with errno %s" % (function, error))
cluster = rados.Rados(conffile="", rados_id="admin")
cluster.connect()
POOL = sys.argv[1]
io = cluster.open_ioctx(POOL)
r = rbd.RBD()
r.create(io, "disk", 8 * MIB)
"""


def installed():
    if not MODULES:
        print("skipped: the package python3-rbd is not installed")
    return bool(MODULES)


def python(program):
    """Runs it with our library in place of Ceph's, and nothing else changed. The dynamic linker notes
    which functions the module calls."""
    pool = "pool%d" % next(numbers)
    cluster.pool(pool)
    notes = os.path.join(folder(), "bindings")
    env = dict(environment(cluster), LD_DEBUG="bindings", LD_DEBUG_OUTPUT=notes)
    result = command([PYTHON, "-B", "-c", BEGIN + program + "\nio.close()\ncluster.shutdown()\n", pool],
                     env=env)
    for path in glob.glob(notes + ".*"):
        called.update(re.findall(r"binding file \S*/rbd\.\S+ .* symbol `(rbd_\w+)'",
                                 read_file(path).decode(errors="replace")))
    return result


def passes(program):
    if not installed():
        return
    result = python(program)
    check(result.code == 0, result.err + result.text)


def drives(functions, program):
    """functions: those of the C interface that it calls, without "rbd_"."""
    if not installed():
        return
    names = {"rbd_" + name for name in functions.split()}
    tested.update(names)
    result = python(program)
    if "[errno 95]" in result.err:
        print("skipped: liblimpet has not got all of it yet: %s" % result.err.splitlines()[-1])
        called.update(names)
        return
    check(result.code == 0, result.err)
    check(names <= called, "not called: %s" % " ".join(sorted(names - called)))


@case
def starts():
    cluster.start()
    cluster.pool("other")


@case
def images_of_a_pool():
    drives("""version create create4 list list2 image_spec_list_cleanup remove_with_progress rename
           image_options_create image_options_destroy image_options_set_uint64 image_options_set_string
           pool_init features_to_string features_from_string""", """
check(r.version() == (1, 16, 0), r.version())
r.pool_init(io, False)
check(r.list(io) == ["disk"], r.list(io))
fails(errno.EEXIST, r.create, io, "disk", MIB)
fails(errno.EINVAL, r.create, io, "a/b", MIB)
fails(errno.EINVAL, r.create, io, "", MIB)
r.create(io, "old", MIB, old_format=True)
r.create(io, "second", 16 * MIB, order=20, old_format=False, features=1 + 4, stripe_unit=65536,
         stripe_count=4, data_pool="other")
fails(errno.ENOENT, r.create, io, "third", MIB, data_pool="none")
check(sorted(r.list(io)) == ["disk", "old", "second"], r.list(io))
both = sorted(((entry["name"], entry["id"]) for entry in r.list2(io)))
check([name for name, _ in both] == ["disk", "old", "second"], both)
r.rename(io, "second", "moved")
fails(errno.ENOENT, r.rename, io, "second", "moved")
fails(errno.EEXIST, r.rename, io, "moved", "disk")
check(("moved", dict(both)["second"]) in [(e["name"], e["id"]) for e in r.list2(io)], "the id stays")
steps = []
r.remove(io, "moved", on_progress=lambda done, total: steps.append((done, total)) and 0)
check(all(0 <= done <= total for done, total in steps), steps)
r.remove(io, "old")
fails(errno.ENOENT, r.remove, io, "moved")
with rbd.Image(io, "disk"):
    fails(errno.EBUSY, r.remove, io, "disk")
check(r.features_to_string(61) == "layering,exclusive-lock,object-map,fast-diff,deep-flatten",
      r.features_to_string(61))
check(r.features_from_string("layering,object-map") == 9, "features")
for text in ("layering,nonsense", "layering,", "-1"):
    fails(errno.EINVAL, r.features_from_string, text)
for i in range(100):
    r.create(io, "image with a rather long name, number %d" % i, MIB)
check(len(r.list(io)) == 101 and len(list(r.list2(io))) == 101, "more than a first guess has room for")
""")


@case
def what_an_image_is():
    drives("""open close stat get_size get_id get_name get_features get_flags get_op_features
           get_old_format get_stripe_unit get_stripe_count get_overlap get_block_name_prefix
           get_data_pool_id get_create_timestamp get_access_timestamp get_modify_timestamp
           update_features open_by_id open_read_only open_by_id_read_only resize2""", """
r.create(io, "wide", 10 * MIB, order=20, stripe_unit=65536, stripe_count=4, data_pool="other")
image = rbd.Image(io, "wide")
stat = image.stat()
check((stat["size"], stat["obj_size"], stat["order"]) == (10 * MIB, MIB, 20), stat)
check(stat["num_objs"] == 12 and stat["parent_pool"] in (-1, 2 ** 64 - 1) and stat["parent_name"] == b"", stat)
check(image.size() == 10 * MIB and image.get_name() == "wide", "size, name")
check(image.block_name_prefix().startswith("rbd_data.") and image.block_name_prefix().endswith(image.id()),
      image.block_name_prefix())
check(stat["block_name_prefix"] == image.block_name_prefix()[:23], stat["block_name_prefix"])
check((image.stripe_unit(), image.stripe_count()) == (65536, 4), "striping")
check(image.features() & 2 and image.features() & 128, image.features())
check(image.data_pool_id() == cluster.pool_lookup("other"), "data pool")
check(not image.old_format() and image.flags() == 0 and image.overlap() == 0, "old, flags, overlap")
check(image.op_features() == 0, image.op_features())
for moment in (image.create_timestamp(), image.access_timestamp(), image.modify_timestamp()):
    check(abs((datetime.datetime.utcnow() - moment).total_seconds()) < 86400, moment)
number = image.id()
image.update_features(rbd.RBD_FEATURE_FAST_DIFF, False)
check(not image.features() & rbd.RBD_FEATURE_FAST_DIFF, "feature off")
image.update_features(rbd.RBD_FEATURE_FAST_DIFF, True)
fails(errno.EINVAL, image.update_features, rbd.RBD_FEATURE_LAYERING, False)
image.resize(12 * MIB)
check(image.size() == 12 * MIB, "resized")
fails(None, image.resize, MIB, False)
image.resize(MIB, True)
image.close()
fails(None, image.size)
for options in ({"name": "wide"}, {"image_id": number}, {"name": "wide", "read_only": True},
                {"image_id": number, "read_only": True}):
    with rbd.Image(io, **options) as image:
        check(image.size() == MIB and image.id() == number, options)
        if options.get("read_only"):
            fails(errno.EROFS, image.write, b"x", 0)
fails(errno.ENOENT, rbd.Image, io, "none")
fails(errno.ENOENT, rbd.Image, io, image_id="none")
fails(errno.ENOENT, rbd.Image, io, "wide", "no such snapshot")
""")


@case
def images_are_closed_at_once():
    drives("open close metadata_set", """
import time
def close_after_change(at):
    begun = time.monotonic()
    mine = rados.Rados(conffile="", rados_id="admin")
    mine.connect()
    with rbd.Image(mine.open_ioctx(POOL), "disk") as image:
        image.metadata_set("key", str(at))
    mine.shutdown()
    return time.monotonic() - begun
took = sorted(close_after_change(at) for at in range(20))
check(took[10] < 0.5, "half of them were not: %s" % took)
""")


@case
def reads_and_writes():
    drives("read2 write2 discard write_zeroes flush invalidate_cache", """
with rbd.Image(io, "disk") as image:
    check(image.read(0, 8 * MIB) == bytes(8 * MIB), "a new image is zeroes")
    check(image.write(b"hello", MIB - 2) == 5, "write")
    check(image.write(b"there", 0, rados.LIBRADOS_OP_FLAG_FADVISE_NOCACHE) == 5, "write with flags")
    check(image.read(MIB - 3, 7) == b"\\0hello\\0", image.read(MIB - 3, 7))
    check(image.read(0, 5, rados.LIBRADOS_OP_FLAG_FADVISE_RANDOM) == b"there", "read with flags")
    image.discard(MIB, 2)
    check(image.read(MIB - 2, 5) == b"he\\0\\0o", image.read(MIB - 2, 5))
    image.write(b"x" * 8192, 4 * MIB - 4096)
    image.write_zeroes(4 * MIB - 100, 200)
    image.write_zeroes(0, 3, zero_flags=rbd.RBD_WRITE_ZEROES_FLAG_THICK_PROVISION)
    fails(errno.EINVAL, image.write_zeroes, 0, 3, zero_flags=6)
    check(image.read(4 * MIB - 101, 202) == b"x" + bytes(200) + b"x", "zeroes")
    check(image.read(0, 5) == b"\\0\\0\\0re", "zeroes that are written")
    image.flush()
    image.invalidate_cache()
    check(image.read(8 * MIB - 5, 5) == bytes(5), "the end")
    fails(errno.EINVAL, image.read, 9 * MIB, 1)
    fails(errno.EINVAL, image.write, b"x", 9 * MIB)
    fails(errno.EINVAL, image.discard, 0, 1 << 31)
""")


@case
def asynchronously():
    drives("""aio_create_completion aio_release aio_is_complete aio_wait_for_complete
           aio_get_return_value aio_read2 aio_write2 aio_discard aio_write_zeroes aio_flush aio_open
           aio_open_read_only aio_open_by_id aio_open_by_id_read_only aio_close""", """
ended = []
def done(completion, data=None):
    ended.append((completion, data))
with rbd.Image(io, "disk") as image:
    number = image.id()
    requests = [image.aio_write(bytes([i]) * 4096, i * 4096, done) for i in range(200)]
    flush = image.aio_flush(done)
    flush.wait_for_complete_and_cb()
    for request in requests:
        request.wait_for_complete_and_cb()
        check(request.is_complete() and request.get_return_value() == 0, request.get_return_value())
    check(len(ended) == 201, "%d callbacks" % len(ended))
    reads = [image.aio_read(i * 4096, 4096, done) for i in range(200)]
    for request in reads:
        request.wait_for_complete_and_cb()
    datas = {id(completion): data for completion, data in ended}
    for i, request in enumerate(reads):
        check(datas[id(request)] == bytes([i]) * 4096, "block %d" % i)
        check(request.get_return_value() == 4096, request.get_return_value())
    for request in (image.aio_discard(0, 4096, done), image.aio_write_zeroes(4096, 4096, done)):
        request.wait_for_complete_and_cb()
        check(request.get_return_value() == 0, request.get_return_value())
    check(image.read(0, 8192) == bytes(8192), "discard and zeroes")
opened = []
for options in ({"name": "disk"}, {"name": "disk", "read_only": True}, {"image_id": number},
                {"image_id": number, "read_only": True}):
    request = r.aio_open_image(lambda completion, image: opened.append(image), io, **options)
    request.wait_for_complete_and_cb()
    check(request.get_return_value() == 0 and opened[-1].id() == number, options)
request = r.aio_open_image(done, io, name="none")
request.wait_for_complete_and_cb()
check(request.get_return_value() == -errno.ENOENT, request.get_return_value())
for image in opened:
    image.aio_close(done).wait_for_complete_and_cb()
r.remove(io, "disk")
""")


@case
def snapshots():
    drives("""snap_create2 snap_list snap_list_end snap_exists snap_get_id snap_get_name
           snap_get_namespace_type snap_get_timestamp snap_remove snap_remove2 snap_remove_by_id
           snap_rename snap_rollback snap_protect snap_unprotect snap_is_protected snap_get_limit
           snap_set_limit snap_set snap_set_by_id""", """
image = rbd.Image(io, "disk")
image.write(b"before", 0)
image.create_snap("one")
fails(errno.EEXIST, image.create_snap, "one")
image.write(b"after!", 0)
image.create_snap("two")
names = [snap["name"] for snap in image.list_snaps()]
check(names == ["one", "two"], names)
first = next(iter(image.list_snaps()))
check(first["size"] == 8 * MIB and first["namespace"] == rbd.RBD_SNAP_NAMESPACE_TYPE_USER, first)
number = image.snap_get_id("one")
check(number == first["id"] and image.snap_get_name(number) == "one", "ids")
check(image.snap_get_namespace_type(number) == rbd.RBD_SNAP_NAMESPACE_TYPE_USER, "type")
check(image.snap_exists("one") and not image.snap_exists("none"), "exists")
check(abs((datetime.datetime.utcnow() - image.get_snap_timestamp(number)).total_seconds()) < 86400,
      image.get_snap_timestamp(number))
fails(errno.ENOENT, image.snap_get_name, 12345678)
fails(errno.ENOENT, image.snap_get_id, "none")
with rbd.Image(io, "disk", "one") as at:
    check(at.read(0, 6) == b"before", at.read(0, 6))
    fails(errno.EROFS, at.write, b"x", 0)
image.set_snap("one")
check(image.read(0, 6) == b"before", "set_snap")
image.set_snap(None)
check(image.read(0, 6) == b"after!", "the head again")
image.set_snap_by_id(number)
check(image.read(0, 6) == b"before", "set_snap_by_id")
image.set_snap_by_id(None)
image.rename_snap("two", "deux")
fails(errno.ENOENT, image.rename_snap, "two", "x")
fails(errno.EEXIST, image.rename_snap, "deux", "one")
image.protect_snap("one")
check(image.is_protected_snap("one"), "protected")
fails(errno.EBUSY, image.protect_snap, "one")
fails(errno.EBUSY, image.remove_snap, "one")
image.unprotect_snap("one")
fails(errno.EINVAL, image.unprotect_snap, "one")
image.rollback_to_snap("one")
check(image.read(0, 6) == b"before", "rollback")
image.set_snap_limit(2)
check(image.get_snap_limit() == 2, "limit")
fails(errno.EDQUOT, image.create_snap, "three")
image.remove_snap_limit()
image.remove_snap("deux")
fails(errno.ENOENT, image.remove_snap, "deux")
image.protect_snap("one")
image.remove_snap2("one", rbd.RBD_SNAP_REMOVE_UNPROTECT)
image.create_snap("three")
image.remove_snap_by_id(image.snap_get_id("three"))
check(list(image.list_snaps()) == [], list(image.list_snaps()))
image.close()
""")


@case
def clones():
    drives("""clone3 get_parent linked_image_spec_cleanup snap_spec_cleanup list_children3
           linked_image_spec_list_cleanup list_descendants flatten_with_progress
           snap_get_trash_namespace""", """
image = rbd.Image(io, "disk")
image.write(b"parent", 0)
image.create_snap("s")
image.protect_snap("s")
r.clone(io, "disk", "s", io, "child", 1)
fails(errno.EEXIST, r.clone, io, "disk", "s", io, "child", 1)
fails(errno.ENOENT, r.clone, io, "disk", "none", io, "another", 1)
child = rbd.Image(io, "child")
check(child.read(0, 6) == b"parent" and child.overlap() == 8 * MIB, "child reads")
check(tuple(child.parent_info()) == (POOL, "disk", "s"), child.parent_info())
check(child.parent_id() == image.id(), "parent's id")
spec = child.get_parent_image_spec()
check((spec["image_name"], spec["snap_name"]) == ("disk", "s"), spec)
fails(errno.ENOENT, image.parent_info)
child.create_snap("t")
child.protect_snap("t")
r.clone(io, "child", "t", io, "grandchild", 1)
image.set_snap("s")
check(list(image.list_children()) == [(POOL, "child")], list(image.list_children()))
check([c["image"] for c in image.list_children2()] == ["child"], list(image.list_children2()))
image.set_snap(None)
below = sorted(entry["image"] for entry in image.list_descendants())
check(below == ["child", "grandchild"], below)
with rbd.Image(io, "grandchild") as grandchild:
    check(grandchild.read(0, 6) == b"parent", "through two")
    grandchild.write(b"G", 0)
    steps = []
    grandchild.flatten(on_progress=lambda done, total: steps.append((done, total)) and 0)
    check(grandchild.overlap() == 0 and grandchild.read(0, 6) == b"Garent", "flattened")
    fails(errno.EINVAL, grandchild.flatten)
r.remove(io, "grandchild")
child.unprotect_snap("t")
child.remove_snap("t")
image.remove_snap2("s", rbd.RBD_SNAP_REMOVE_UNPROTECT | rbd.RBD_SNAP_REMOVE_FLATTEN)
fails(errno.ENOENT, child.parent_info)
image.create_snap("v2")
r.clone(io, "disk", "v2", io, "newer", 1)
image.remove_snap("v2")
left = list(image.list_snaps())
check(len(left) == 1 and left[0]["namespace"] == rbd.RBD_SNAP_NAMESPACE_TYPE_TRASH, left)
check(left[0]["trash"]["original_name"] == "v2", left)
check(image.snap_get_trash_namespace(left[0]["id"])["original_name"] == "v2", "original name")
r.remove(io, "newer")
check(list(image.list_snaps()) == [], "with its last clone it goes")
child.close()
image.close()
""")


@case
def copies_and_differences():
    drives("copy3 deep_copy diff_iterate2", """
image = rbd.Image(io, "disk")
image.write(b"A" * MIB, 0)
image.create_snap("s")
image.write(b"B" * 4096, 5 * MIB)
found = []
image.diff_iterate(0, 8 * MIB, "s", lambda *extent: found.append(extent))
check(found and found[0][0] <= 5 * MIB < sum(found[0][:2]) and found[0][2], found)
found = []
image.diff_iterate(0, 8 * MIB, None, lambda *extent: found.append(extent), whole_object=True)
check(sum(e[1] for e in found if e[2]) == 8 * MIB, found)
fails(errno.ENOENT, image.diff_iterate, 0, MIB, "none", lambda *extent: None)
image.copy(io, "copy")
image.deep_copy(io, "deep")
for name, snaps in (("copy", []), ("deep", ["s"])):
    with rbd.Image(io, name) as other:
        check(other.read(0, 8 * MIB) == image.read(0, 8 * MIB), name)
        check([snap["name"] for snap in other.list_snaps()] == snaps, name)
        for snap in snaps:
            other.remove_snap(snap)
fails(errno.EEXIST, image.copy, io, "deep")
image.remove_snap("s")
image.close()
""")


@case
def locks():
    drives("""is_exclusive_lock_owner lock_acquire lock_release lock_get_owners
           lock_get_owners_cleanup lock_break lock_exclusive lock_shared unlock break_lock
           list_lockers watchers_list watchers_list_cleanup""", """
other = rados.Rados(conffile="", rados_id="admin")
other.connect()
other_io = other.open_ioctx(POOL)
image, second = rbd.Image(io, "disk"), rbd.Image(other_io, "disk")
check(not image.is_exclusive_lock_owner() and list(image.lock_get_owners()) == [], "nobody has it")
image.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
check(image.is_exclusive_lock_owner() and not second.is_exclusive_lock_owner(), "owner")
owners = list(second.lock_get_owners())
check(len(owners) == 1 and owners[0]["mode"] == rbd.RBD_LOCK_MODE_EXCLUSIVE, owners)
lockers = second.list_lockers()
check(lockers["exclusive"] and lockers["lockers"][0][1].startswith("auto "), lockers)
fails(errno.EROFS, second.write, b"x", 0)
fails(errno.EROFS, second.lock_acquire, rbd.RBD_LOCK_MODE_EXCLUSIVE)
fails(errno.EINVAL, second.lock_release)
reader = rbd.Image(other_io, "disk", read_only=True)
fails(errno.EINVAL, reader.lock_acquire, rbd.RBD_LOCK_MODE_EXCLUSIVE)
reader.close()
fails(errno.EBUSY, second.lock_break, rbd.RBD_LOCK_MODE_EXCLUSIVE, "elsewhere")
image.lock_release()
check(not image.is_exclusive_lock_owner(), "given back")
second.write(b"second", 0)
check(image.read(0, 6) == b"second", "handed over")
fails(errno.EOPNOTSUPP, image.lock_acquire, rbd.RBD_LOCK_MODE_SHARED)
watchers = list(image.watchers_list())
check(len(watchers) == 2 and {w["id"] % 2 ** 64 for w in watchers} ==
      {cluster.get_instance_id(), other.get_instance_id()}, watchers)
second.close()
r.create(io, "plain", MIB, features=1)
image2, second = rbd.Image(io, "plain"), rbd.Image(other_io, "plain")
check(image2.list_lockers() == [], image2.list_lockers())
fails(errno.EINVAL, lambda: list(image2.lock_get_owners()))
fails(errno.EINVAL, image2.lock_break, rbd.RBD_LOCK_MODE_EXCLUSIVE, "elsewhere")
image2.lock_exclusive("cookie")
fails(errno.EEXIST, image2.lock_exclusive, "cookie")
fails(errno.EBUSY, second.lock_exclusive, "cookie")
lockers = second.list_lockers()
check(lockers["exclusive"] and lockers["lockers"][0][:2] ==
      ("client.%d" % cluster.get_instance_id(), "cookie"), lockers)
fails(errno.ENOENT, second.unlock, "cookie")
fails(errno.EINVAL, second.break_lock, "nobody", "cookie")
second.break_lock(lockers["lockers"][0][0], "cookie")
fails(errno.ENOENT, image2.unlock, "cookie")
image2.lock_shared("a", "tag")
second.lock_shared("b", "tag")
fails(errno.EBUSY, image2.lock_shared, "c", "another tag")
lockers = image2.list_lockers()
check(not lockers["exclusive"] and lockers["tag"] == "tag" and len(lockers["lockers"]) == 2, lockers)
image2.unlock("a")
second.unlock("b")
image2.close()
image.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
broken = rbd.Image(other_io, "disk")
owner = list(broken.lock_get_owners())[0]["owner"]
broken.lock_break(rbd.RBD_LOCK_MODE_EXCLUSIVE, owner)
fails(errno.ESHUTDOWN, image.write, b"late", 0)
while True:  # Until its watch is seen to be gone.
    try:
        broken.write(b"mine", 0)
        break
    except rbd.ReadOnlyImage:
        pass
broken.close()
second.close()
other_io.close()
other.shutdown()
try:
    image.close()
except rbd.Error:
    pass
""")


@case
def metadata():
    drives("""metadata_get metadata_set metadata_remove metadata_list pool_metadata_get
           pool_metadata_set pool_metadata_remove pool_metadata_list config_image_list
           config_image_list_cleanup config_pool_list config_pool_list_cleanup""", """
def missing(function, *arguments):
    try:
        function(*arguments)
    except KeyError:
        return True
    return False
image = rbd.Image(io, "disk")
check(missing(image.metadata_get, "key"), "no key yet")
image.metadata_set("key", "value")
image.metadata_set("long", "v" * 10000)
check(image.metadata_get("key") == "value" and len(image.metadata_get("long")) == 10000, "values")
check(dict(image.metadata_list()) == {"key": "value", "long": "v" * 10000}, list(image.metadata_list()))
image.metadata_remove("key")
check(missing(image.metadata_remove, "key"), "no key any more")
fails(errno.EINVAL, image.metadata_set, "", "value")
for i in range(200):
    image.metadata_set("k%d" % i, "v" * (i + 1))
check(len(list(image.metadata_list())) == 201, "many")
r.pool_metadata_set(io, "key", "value")
check(r.pool_metadata_get(io, "key") == "value", "of the pool")
check(("key", "value") in list(r.pool_metadata_list(io)), "list of the pool")
r.pool_metadata_remove(io, "key")
check(missing(r.pool_metadata_get, io, "key"), "no key any more")
r.config_set(io, "rbd_qos_iops_limit", "1000")
image.config_set("rbd_qos_bps_limit", "2000")
def options(entries):
    return {entry["name"]: (entry["value"], entry["source"]) for entry in entries}
found = options(image.config_list())
check(found["rbd_qos_iops_limit"] == ("1000", rbd.RBD_CONFIG_SOURCE_POOL), found)
check(found["rbd_qos_bps_limit"] == ("2000", rbd.RBD_CONFIG_SOURCE_IMAGE), found)
check(options(r.config_list(io))["rbd_qos_bps_limit"] == ("0", rbd.RBD_CONFIG_SOURCE_CONFIG), "pool")
r.config_remove(io, "rbd_qos_iops_limit")
image.config_remove("rbd_qos_bps_limit")
image.close()
""")


@case
def trash_and_namespaces():
    drives("""trash_move trash_get trash_get_cleanup trash_list trash_list_cleanup trash_purge
           trash_remove_with_progress trash_restore namespace_create namespace_remove namespace_list
           namespace_exists pool_stats_create pool_stats_destroy pool_stats_get
           pool_stats_option_add_uint64""", """
stats = r.pool_stats_get(io)
check((stats["image_count"], stats["image_provisioned_bytes"]) == (1, 8 * MIB), stats)
r.trash_move(io, "disk", 3600)
check(r.list(io) == [], "in the trash")
entries = list(r.trash_list(io))
check(len(entries) == 1 and entries[0]["name"] == "disk" and entries[0]["source"] == "USER", entries)
number = entries[0]["id"]
info = r.trash_get(io, number)
check((info["deferment_end_time"] - info["deletion_time"]).total_seconds() == 3600, info)
check(r.pool_stats_get(io)["trash_count"] == 1, r.pool_stats_get(io))
fails(errno.EPERM, r.trash_remove, io, number)
fails(errno.ENOENT, r.trash_get, io, "none")
r.trash_restore(io, number, "again")
check(r.list(io) == ["again"], r.list(io))
r.trash_move(io, "again")
r.trash_remove(io, number)
r.create(io, "third", MIB)
r.trash_move(io, "third")
r.trash_purge(io)
check(list(r.trash_list(io)) == [], list(r.trash_list(io)))
r.namespace_create(io, "space")
fails(errno.EEXIST, r.namespace_create, io, "space")
check(r.namespace_exists(io, "space") and not r.namespace_exists(io, "none"), "exists")
check(r.namespace_list(io) == ["space"], r.namespace_list(io))
inside = cluster.open_ioctx(POOL)
inside.set_namespace("space")
r.create(inside, "disk", MIB)
check(r.list(inside) == ["disk"] and r.list(io) == [], "apart")
fails(errno.EBUSY, r.namespace_remove, io, "space")
r.remove(inside, "disk")
r.namespace_remove(io, "space")
fails(errno.ENOENT, r.namespace_remove, io, "space")
inside.close()
""")


@case
def object_maps_and_space():
    drives("rebuild_object_map sparsify", """
with rbd.Image(io, "disk") as image:
    image.write(bytes(4 * MIB), 0)
    image.sparsify(65536)
    fails(errno.EINVAL, image.sparsify, 1)
    image.rebuild_object_map()
    check(image.flags() == 0, image.flags())
""")


@case
def groups():
    drives("""group_create group_remove group_rename group_list group_info_cleanup get_group
           group_image_add group_image_remove group_image_list group_image_list_cleanup
           group_snap_create2 group_snap_remove group_snap_rename group_snap_list
           group_snap_list_cleanup group_snap_rollback snap_get_group_namespace
           snap_group_namespace_cleanup""", """
r.group_create(io, "g")
fails(errno.EEXIST, r.group_create, io, "g")
r.group_rename(io, "g", "group")
check(r.group_list(io) == ["group"], r.group_list(io))
group = rbd.Group(io, "group")
group.add_image(io, "disk")
fails(errno.ENOENT, group.add_image, io, "none")
check([image["name"] for image in group.list_images()] == ["disk"], list(group.list_images()))
image = rbd.Image(io, "disk")
check(image.group()["name"] == "group", image.group())
image.write(b"before", 0)
group.create_snap("s")
fails(errno.EEXIST, group.create_snap, "s")
image.write(b"after!", 0)
group.rename_snap("s", "t")
check([(s["name"], s["state"]) for s in group.list_snaps()] ==
      [("t", rbd.RBD_GROUP_SNAP_STATE_COMPLETE)], list(group.list_snaps()))
snap = list(image.list_snaps())[0]
check(snap["namespace"] == rbd.RBD_SNAP_NAMESPACE_TYPE_GROUP, snap)
where = image.snap_get_group_namespace(snap["id"])
check("group" in where.values() and "t" in where.values(), where)
image.close()
group.rollback_to_snap("t")
with rbd.Image(io, "disk") as image:
    check(image.read(0, 6) == b"before", "rolled back")
group.remove_snap("t")
group.remove_image(io, "disk")
r.group_remove(io, "group")
check(r.group_list(io) == [], r.group_list(io))
""")


@case
def encryption():
    drives("encryption_format encryption_load", """
with rbd.Image(io, "disk") as image:
    image.resize(64 * MIB)
    image.encryption_format(rbd.RBD_ENCRYPTION_FORMAT_LUKS1, "secret")
with rbd.Image(io, "disk") as image:
    # As long as cryptsetup has it, unless it is told otherwise: the first key slot's iterations.
    iterations = int.from_bytes(image.read(212, 4), "big")
    check(iterations >= 100000, "easy to guess: %d" % iterations)
    cluster.conf_set("rbd_encryption_iter_time", "0")
    image.encryption_format(rbd.RBD_ENCRYPTION_FORMAT_LUKS2, "secret")
    size = image.size()
    image.write(b"plain text", 0)
    check(image.read(0, 10) == b"plain text", "reads what it wrote")
with rbd.Image(io, "disk") as image:
    check(image.read(0, 4) == b"LUKS", "a LUKS header")
    fails(errno.EPERM, image.encryption_load, rbd.RBD_ENCRYPTION_FORMAT_LUKS2, "wrong")
    image.encryption_load(rbd.RBD_ENCRYPTION_FORMAT_LUKS2, "secret")
    check(image.size() == size and image.read(0, 10) == b"plain text", "and reads it again")
""")


@case
def options_limit_requests():
    """What has ended is counted: never more than the rate allows in the time that has passed."""
    drives("metadata_set pool_metadata_set", """
import time
def writes(image, n):
    ended = []
    begun = time.monotonic()
    requests = [image.aio_write(b"x" * 512, 512 * i, lambda c: ended.append(time.monotonic() - begun))
                for i in range(n)]
    return ended, requests
def within(ended, rate):
    ended.sort()
    for i, elapsed in enumerate(ended):
        check(i + 1 <= rate * elapsed + rate / 10 + 2, "%d writes after %.3f s, at %d a second, of %r" % (i + 1, elapsed, rate, ended[:20]))
def wait(requests):
    for request in requests:
        request.wait_for_complete_and_cb()
rbd.RBD().pool_metadata_set(io, "conf_rbd_qos_write_iops_limit", "200")
with rbd.Image(io, "disk") as image:
    ended, requests = writes(image, 60)
    wait(requests)
    within(ended, 200)
    image.metadata_set("conf_rbd_qos_write_iops_limit", "50")
with rbd.Image(io, "disk") as image:
    ended, requests = writes(image, 30)
    wait(requests)
    within(ended, 50)
    # Of those that wait already, too.
    ended, requests = writes(image, 1000)
    with rbd.Image(io, "disk") as other:
        other.metadata_set("conf_rbd_qos_write_iops_limit", "0")
    begun = time.monotonic()
    wait(requests)
    check(len(ended) == 1000, "all of them")
    check(time.monotonic() - begun < 15, "not as fast as 50 a second: that would take 20 s")
    image.metadata_set("conf_rbd_qos_write_bps_limit", "25K")
with rbd.Image(io, "disk") as image:
    ended, requests = writes(image, 30)
    wait(requests)
    within(ended, 25 * 1024 / 512)
""")


@case
def the_cache_answers_writes_early_and_flushes_make_them_durable():
    """Random requests that overlap, against a model; who flushes nothing has no cache."""
    passes("""
import random, time
def cached(**options):
    c = rados.Rados(conffile="", rados_id="admin", conf=dict({"rbd_cache": "true"}, **options))
    c.connect()
    return c, c.open_ioctx(POOL)
def seconds(image, n):
    begun = time.monotonic()
    for i in range(n):
        image.write(b"w" * 4096, 4096 * i)
    return time.monotonic() - begun
def model(image, seed):
    draw, expected, size = random.Random(seed), bytearray(image.size()), image.size()
    def place():
        at = draw.randrange(0, 1 << 18)
        return at, draw.choice((1, 511, 512, 4096, 70000))
    for step in range(400):
        at, n = place()
        kind = draw.randrange(12)
        if kind < 6:
            data = bytes([draw.randrange(1, 256)]) * n
            image.write(data, at)
            expected[at:at + n] = data
        elif kind == 6:
            image.discard(at, n)
            expected[at:at + n] = bytes(n)
        elif kind == 7:
            image.flush()
        elif kind == 8:
            image.write(b"fua" * 100, at, rados.LIBRADOS_OP_FLAG_FADVISE_FUA if hasattr(rados, "LIBRADOS_OP_FLAG_FADVISE_FUA") else 0x80)
            expected[at:at + 300] = b"fua" * 100
        else:
            check(image.read(at, n) == bytes(expected[at:at + n]), "step %d: read %d at %d" % (step, n, at))
    image.create_snap("now")
    return bytes(expected)
for layout in ({}, {"order": 14, "stripe_unit": 4096, "stripe_count": 3}):
    c, cio = cached()
    r.create(cio, "cached", 8 * MIB, old_format=False, **layout)
    with rbd.Image(cio, "cached") as image:
        image.flush()
        expected = model(image, 7)
        # A snapshot has all that was answered before it, though nothing was flushed.
        with rbd.Image(io, "cached", snapshot="now", read_only=True) as then:
            check(then.read(0, 8 * MIB) == expected, "the snapshot")
        image.set_snap("now")
        check(image.read(0, 8 * MIB) == expected, "the same handle's view of it")
        image.set_snap(None)
        image.write(b"last", 5)
        # Who wants the lock gets it when all that was answered is there.
        with rbd.Image(io, "cached") as other:
            other.write(b"other", 4096)
            check(other.read(0, 16) == expected[:5] + b"last" + expected[9:16], "handed over")
        # One of a callback is answered at once, but not inside of that.
        within, found, second = [False], [], []
        def first_ended(_completion):
            within[0] = True
            second.append(image.aio_write(b"2", 1 << 20, lambda _: found.append(within[0])))
            within[0] = False
        image.aio_write(b"1", 0, first_ended).wait_for_complete_and_cb()
        second[0].wait_for_complete_and_cb()
        check(found == [False], "called back inside of its call")
        image.write(b"after", 8000)
    with rbd.Image(io, "cached", read_only=True) as image:
        check(image.read(8000, 5) == b"after", "closing flushes")
        image.set_snap("now")
    with rbd.Image(io, "cached") as image:
        image.remove_snap("now")
    r.remove(io, "cached")
    cio.close()
    c.shutdown()
""")


@case
def what_was_answered_early_and_failed_is_told_by_the_flush():
    """While no OSD runs: as many as may be are answered; they fail after a second."""
    pids = [cluster.pid("osd.%d" % i) for i in range(cluster.osds)]
    passes("""
import os, signal
c = rados.Rados(conffile="", rados_id="admin", conf={
    "rbd_cache": "true", "rados_osd_op_timeout": "1s", "rbd_cache_max_dirty": "40K"})
c.connect()
cio = c.open_ioctx(POOL)
image = rbd.Image(cio, "disk")
image.write(b"first", 0)
image.flush()
# Its object is known to be there: nothing has to be noted before.
image.write(b"second", 0)
image.flush()
def all_osds(number):
    for pid in %r:
        os.kill(pid, number)
all_osds(signal.SIGSTOP)
try:
    ended = []
    early = [image.aio_write(b"early", 4096 * i, lambda c: ended.append(i)) for i in range(8)]
    for completion in early:
        completion.wait_for_complete_and_cb()
    check(len(ended) == 8, "answered while no OSD runs")
    late = image.aio_write(bytes(40 << 10), 64 << 10, lambda c: None)
    late.wait_for_complete_and_cb()
    check(late.get_return_value() == -errno.ETIMEDOUT, "more than may be dirty: told at its end, %%d" %% late.get_return_value())
finally:
    all_osds(signal.SIGCONT)
fails(errno.ETIMEDOUT, image.flush)
image.flush()
image.write(b"again", 0)
image.flush()
image.close()
cio.close()
c.shutdown()
with rbd.Image(io, "disk") as image:
    check(image.read(0, 5) == b"again", image.read(0, 5))
""" % pids)


# The C interface itself: what Python's module never passes.
BARE = """
import ctypes
from ctypes import byref, c_char_p, c_int, c_size_t, c_ssize_t, c_uint64, c_void_p
rados_c, rbd_c = ctypes.CDLL("librados.so.2"), ctypes.CDLL("librbd.so.1")
rbd_c.rbd_read.restype = rbd_c.rbd_write.restype = rbd_c.rbd_aio_get_return_value.restype = c_ssize_t
rbd_c.rbd_writesame.restype = rbd_c.rbd_compare_and_write.restype = rbd_c.rbd_list_lockers.restype = c_ssize_t
bare, bare_io, image = c_void_p(), c_void_p(), c_void_p()
check(rados_c.rados_create(byref(bare), b"admin") == 0, "create")
check(rados_c.rados_conf_read_file(bare, None) == 0 and rados_c.rados_connect(bare) == 0, "connect")
check(rados_c.rados_ioctx_create(bare, POOL.encode(), byref(bare_io)) == 0, "pool")
check(rbd_c.rbd_open(bare_io, b"disk", byref(image), None) == 0, "open")
CALLBACK = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)
def finish():
    check(rbd_c.rbd_close(image) == 0, "close")
    rados_c.rados_ioctx_destroy(bare_io)
    rados_c.rados_shutdown(bare)
"""


@case
def pointers_that_are_null_are_refused():
    passes(BARE + """
EINVAL, ERANGE, n = -errno.EINVAL, -errno.ERANGE, c_size_t
OFFSET, LEN = c_uint64(0), n(512)
room = ctypes.create_string_buffer(4096)
image_snaps = rbd.Image(io, "disk")
image_snaps.create_snap("s")
image_snaps.close()
calls = [
    ("rbd_read", (image, OFFSET, LEN, None), EINVAL), ("rbd_write", (image, OFFSET, LEN, None), EINVAL),
    ("rbd_writesame", (image, OFFSET, LEN, None, n(512), 0), EINVAL),
    ("rbd_writesame", (image, OFFSET, LEN, room, n(0), 0), EINVAL),
    ("rbd_writesame", (image, OFFSET, LEN, room, n(100), 0), EINVAL),
    ("rbd_compare_and_write", (image, OFFSET, LEN, None, room, None, 0), EINVAL),
    ("rbd_compare_and_write", (image, OFFSET, LEN, room, None, None, 0), EINVAL),
    ("rbd_list2", (bare_io, None, byref(n(9))), ERANGE), ("rbd_list", (bare_io, None, byref(n(99))), ERANGE),
    ("rbd_snap_list", (image, None, byref(c_int(9))), ERANGE), ("rbd_watchers_list", (image, None, byref(n(9))), ERANGE),
    ("rbd_get_size", (image, None), EINVAL), ("rbd_get_features", (image, None), EINVAL),
    ("rbd_get_flags", (image, None), EINVAL), ("rbd_get_overlap", (image, None), EINVAL),
    ("rbd_stat", (image, None, n(8)), EINVAL), ("rbd_open", (bare_io, None, byref(c_void_p()), None), EINVAL),
    ("rbd_open", (bare_io, b"disk", None, None), EINVAL), ("rbd_open", (None, b"disk", byref(c_void_p()), None), EINVAL),
    ("rbd_image_options_get_uint64", (None, 0, None), EINVAL), ("rbd_close", (None,), EINVAL),
    ("rbd_encryption_load", (image, 1, None, n(24)), EINVAL), ("rbd_metadata_set", (image, b"k", None), EINVAL),
    ("rbd_snap_create", (image, None), EINVAL), ("rbd_aio_create_completion", (None, None, None), EINVAL),
    ("rbd_write", (image, c_uint64(2 ** 64 - 1), LEN, room), EINVAL),
    ("rbd_read", (image, c_uint64(8 * MIB), LEN, room), EINVAL),
]
for name, arguments, wanted in calls:
    got = getattr(rbd_c, name)(*arguments)
    check(got == wanted, "%s%r: %d, not %d" % (name, arguments, got, wanted))
check(rbd_c.rbd_write(image, c_uint64(8 * MIB - 2), LEN, room) == 2, "up to the end")
options = c_void_p()
rbd_c.rbd_image_options_create(None)
rbd_c.rbd_image_options_create(byref(options))
check(rbd_c.rbd_image_options_get_uint64(options, 2, None) == EINVAL, "an option to nowhere")
check(rbd_c.rbd_image_options_is_set(options, 2, None) == EINVAL, "the same")
check(rbd_c.rbd_image_options_set_uint64(options, 1, c_uint64(2 ** 64 - 1)) == 0, "all features")
check(rbd_c.rbd_clone3(bare_io, b"disk", b"s", bare_io, b"c", options) == -errno.ENOSYS, "features that there are not")
check(rbd_c.rbd_image_options_unset(options, 1) == 0, "unset")
check(rbd_c.rbd_image_options_set_uint64(options, 12, c_uint64(2 ** 32 + 2)) == 0, "a version")
check(rbd_c.rbd_clone3(bare_io, b"disk", b"s", bare_io, b"c", options) == EINVAL, "a version that there is not")
rbd_c.rbd_image_options_destroy(options)
class Vector(ctypes.Structure):
    _fields_ = [("base", c_void_p), ("len", c_size_t)]
completion = c_void_p()
rbd_c.rbd_aio_create_completion(None, None, byref(completion))
holes = (Vector * 2)(Vector(ctypes.addressof(room), 512), Vector(None, 512))
for function in (rbd_c.rbd_aio_writev, rbd_c.rbd_aio_readv):
    check(function(image, holes, 2, OFFSET, completion) == EINVAL, "a vector to nowhere")
    check(function(image, None, 2, OFFSET, completion) == EINVAL and
          function(image, holes, -1, OFFSET, completion) == EINVAL, "no vectors")
for function in (rbd_c.rbd_aio_read, rbd_c.rbd_aio_write):
    check(function(image, OFFSET, LEN, None, completion) == EINVAL, "no memory")
# What was refused has not used it up.
check(rbd_c.rbd_aio_read(image, OFFSET, LEN, room, completion) == 0, "read")
check(rbd_c.rbd_aio_read(image, OFFSET, LEN, room, completion) == EINVAL, "a completion serves one request")
rbd_c.rbd_aio_wait_for_complete(completion)
check(rbd_c.rbd_aio_get_return_value(completion) == 512, "read")
rbd_c.rbd_aio_release(completion)
finish()
""")


@case
def callbacks_that_wait_are_refused_and_those_that_do_not_work():
    """What would hang the library for ever is -EDEADLK; requests and closing without waiting go on."""
    passes(BARE + """
told, ended, room = {}, threading.Event(), ctypes.create_string_buffer(512)
other, opened = c_void_p(), c_void_p()
check(rbd_c.rbd_open(bare_io, b"disk", byref(other), None) == 0, "open")
@CALLBACK
def closed(completion, argument):
    ended.set()
@CALLBACK
def called(completion, argument):
    told["close"] = rbd_c.rbd_close(other)
    told["read"] = rbd_c.rbd_read(other, c_uint64(0), c_size_t(512), room)
    told["snap"] = rbd_c.rbd_snap_create(other, b"in-callback")
    told["resize"] = rbd_c.rbd_resize(other, c_uint64(4 * MIB))
    told["open"] = rbd_c.rbd_open(bare_io, b"disk", byref(opened), None)
    told["begin"] = rbd_c.rbd_aio_close(other, closing)
completion, closing = c_void_p(), c_void_p()
rbd_c.rbd_aio_create_completion(None, closed, byref(closing))
rbd_c.rbd_aio_create_completion(None, called, byref(completion))
check(rbd_c.rbd_aio_write(other, c_uint64(0), c_size_t(512), room, completion) == 0, "write")
rbd_c.rbd_aio_wait_for_complete(completion)
check(told == dict.fromkeys(("close", "read", "snap", "resize", "open"), -errno.EDEADLK) | {"begin": 0}, told)
check(ended.wait(60), "it was closed in a callback")
rbd_c.rbd_aio_release(completion)
rbd_c.rbd_aio_wait_for_complete(closing)
check(rbd_c.rbd_aio_get_return_value(closing) == 0, "closed")
rbd_c.rbd_aio_release(closing)
check(rbd_c.rbd_resize(image, c_uint64(4 * MIB)) == 0, "all goes on")
finish()
""")


@case
def a_name_that_is_too_long_is_not_another_ones():
    passes(BARE + """
name = b"n" * 255
r.create(io, name.decode(), MIB)
opened, completion = c_void_p(), c_void_p()
for wrong in (name + b"n", name + b"n" * 5000):
    rbd_c.rbd_aio_create_completion(None, None, byref(completion))
    rc = rbd_c.rbd_aio_open(bare_io, wrong, byref(opened), None, completion)
    if rc == 0:
        rbd_c.rbd_aio_wait_for_complete(completion)
        rc = rbd_c.rbd_aio_get_return_value(completion)
    check(rc == rbd_c.rbd_open(bare_io, wrong, byref(opened), None) and rc < 0, "%d" % rc)
    rbd_c.rbd_aio_release(completion)
    for function in (rbd_c.rbd_remove, rbd_c.rbd_trash_move):
        check(function(bare_io, wrong, c_uint64(0)) == -errno.ENOENT, function)
    check(rbd_c.rbd_rename(bare_io, wrong, b"another") == -errno.ENOENT, "rename")
check(name.decode() in r.list(io), "it is still there")
r.trash_move(io, name.decode(), 0)
where = list(r.trash_list(io))[0]["id"].encode()
check(rbd_c.rbd_trash_remove(bare_io, where + b"0" * 40, False) == -errno.ENOENT, "an id that is too long")
check(rbd_c.rbd_group_create(bare_io, name) == 0, "a group")
check(rbd_c.rbd_group_remove(bare_io, name + b"n") == 0 and len(r.group_list(io)) == 1, "it is still there, too")
check(rbd_c.rbd_group_rename(bare_io, name + b"n", b"g") == -errno.ENOENT, "rename of a group")
finish()
""")


@case
def a_watcher_that_was_taken_off_is_called_no_more():
    """Also when it is being called: its memory may go when rbd_update_unwatch() returns."""
    passes(BARE + """
import time
WATCHER = ctypes.CFUNCTYPE(None, c_void_p)
begun, left, handle = threading.Event(), threading.Event(), c_uint64()
@WATCHER
def changed(argument):
    begun.set()
    time.sleep(0.5)
    left.set()
check(rbd_c.rbd_update_watch(image, byref(handle), changed, None) == 0, "watch")
threading.Thread(target=lambda: rbd.Image(io, "disk").create_snap("s")).start()
check(begun.wait(60), "it is called")
check(rbd_c.rbd_update_unwatch(image, handle) == 0, "unwatch")
check(left.is_set(), "it is still being called")
@WATCHER
def ends_itself(argument):
    check(rbd_c.rbd_update_unwatch(image, handle) == 0, "unwatch in the callback")
    left.set()
left.clear()
check(rbd_c.rbd_update_watch(image, byref(handle), ends_itself, None) == 0, "watch")
check(rbd_c.rbd_snap_create(image, b"t") == 0, "change")
check(left.wait(60), "it ended itself")
finish()
""")


@case
def a_rollback_is_refused_while_another_client_writes():
    passes("""
with rbd.Image(io, "disk") as image:
    image.create_snap("s")
    other = rbd.Image(io, "disk")
    other.write(b"theirs", 0)
    fails(errno.ENOENT, image.rollback_to_snap, "none")
    fails(errno.EROFS, image.rollback_to_snap, "s")
    check(image.read(0, 6) == b"theirs", "nothing was rolled back")
    other.close()
    image.rollback_to_snap("s")
    check(image.read(0, 6) == bytes(6), "rolled back")
""")


@case
def options_that_are_no_numbers_are_refused():
    passes(BARE + """
for value in (b"", b"v", b"-1", b"1" * 40):
    check(rbd_c.rbd_metadata_set(image, b"conf_rbd_qos_iops_limit", value) == -errno.EINVAL, value)
    check(rbd_c.rbd_pool_metadata_set(bare_io, b"conf_rbd_qos_bps_limit", value) == -errno.EINVAL, value)
for key, value in ((b"conf_rbd_qos_iops_limit", b"100"), (b"conf_of_somebody_else", b"v"), (b"k", b"")):
    check(rbd_c.rbd_metadata_set(image, key, value) == 0, key)
finish()
""")


@case
def zeroes_that_shall_take_space_do_whatever_their_length():
    passes(BARE + """
check(rbd_c.rbd_snap_create(image, b"s") == 0, "snap")
TOLD = ctypes.CFUNCTYPE(c_int, c_uint64, c_size_t, c_int, c_void_p)
told = []
@TOLD
def take(offset, length, exists, argument):
    told.append((offset, length, exists))
    return 0
def changes():
    told.clear()
    check(rbd_c.rbd_diff_iterate2(image, b"s", c_uint64(0), c_uint64(8 * MIB), 0, 0, take, None) == 0, "diff")
    return list(told)
zeroes = ctypes.create_string_buffer(4096)
check(rbd_c.rbd_writesame(image, c_uint64(1 << 20), c_size_t(8192), zeroes, c_size_t(4096), 0) == 8192, "same")
check(changes() == [], "zeroes that are written again and again take no space: %r" % told)
check(rbd_c.rbd_write_zeroes(image, c_uint64(15872), c_size_t(3111), 1, 0) == 3111, "thick")
check(changes() and told[0][2] == 1 and told[0][0] + told[0][1] >= 15872 + 3111, told)
finish()
""")


@case
def shrinking_does_not_change_what_is_shorter_already():
    passes("""
with rbd.Image(io, "disk") as image:
    image.write(b"x" * 4096, 0)
    image.create_snap("s")
    image.resize(MIB)
    told = []
    image.diff_iterate(0, MIB, "s", lambda *extent: told.append(extent))
    check(told == [], told)
""")


@case
def a_program_that_forks_goes_on_and_its_child_connects_anew():
    """As daemons do, and programs that start others; a child that ends does not take the parent's image with it."""
    passes("""
import os, subprocess
image = rbd.Image(io, "disk")
image.write(b"before", 0)
pending = [image.aio_write(b"pending", 4096 * (1 + i), lambda c: None) for i in range(64)]
child = os.fork()
if child == 0:
    own = rados.Rados(conffile="", rados_id="admin")
    own.connect()
    own_io = own.open_ioctx(POOL)
    code = 1
    with rbd.Image(own_io, "disk") as theirs:
        if theirs.read(0, 6) == b"before":
            theirs.write(b"child", 4096 * 100)
            code = 7
    own_io.close()
    own.shutdown()
    os._exit(code)
for completion in pending:
    completion.wait_for_complete_and_cb()
check(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7, "the child")
check(subprocess.run(["true"]).returncode == 0, "another program")
image.write(b"after", 0)
image.flush()
check(image.read(4096 * 100, 5) == b"child" and image.read(4096 * 64, 7) == b"pending", "both wrote")
check(image.read(0, 6) == b"aftere", "and the parent afterwards")
image.close()
""")


@case
def mirroring_and_migration_are_refused():
    if not installed():
        return
    program = """
image = rbd.Image(io, "disk")
for function, *arguments in (
        (r.mirror_mode_get, io), (r.mirror_mode_set, io, 1), (r.mirror_uuid_get, io),
        (image.mirror_image_enable,), (image.mirror_image_get_info,),
        (r.migration_prepare, io, "disk", io, "moved"), (r.migration_status, io, "disk"),
        (r.migration_execute, io, "disk"), (r.migration_commit, io, "disk")):
    fails(errno.EOPNOTSUPP, function, *arguments)
image.close()
"""
    result = python(program)
    check(result.code == 0, result.err)


@case
def all_functions_that_programs_import_are_there():
    """Those that fio, libvirt, QEMU, tgt, tcmu-runner and Python's module import, whether these are
    installed or not: without a version, as they ask for them. What there is not says so."""
    path = os.path.join(FOLDER, "librbd.so.1")
    lines = subprocess.run(["nm", "-D", "--defined-only", path], stdout=subprocess.PIPE, text=True,
                           check=True).stdout.splitlines()
    there = {line.split()[-1] for line in lines}
    names = read_file(os.path.join(HERE, "../compat/librbd-functions.txt")).decode().split()
    check(len(names) == 217, "%d names" % len(names))
    missing = set(names) - there
    check(not missing, "missing, or with a version: %s" % " ".join(sorted(missing)))
    absent = [name for name in names if re.search("mirror|migration", name)]
    listed = read_file(os.path.join(HERE, "../../client/compat/README.md")).decode()
    program = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
none = [ctypes.c_void_p()] * 8
for name in sys.argv[2:]:
    print(name, getattr(library, name)(*none))
"""
    result = command([PYTHON, "-c", program, path, *absent], env=environment(cluster))
    check(result.code == 0, result.err)
    told = dict(line.split() for line in result.text.splitlines())
    for name in absent:
        check(told[name] == str(-errno.EOPNOTSUPP) or name.endswith("_cleanup"), "%s: %s" % (name, told[name]))
        check("`%s`" % name in listed, "client/compat/README.md does not list %s" % name)


@case
def no_function_is_left_out():
    """Each that the module imports is driven by a case of this file, or is of mirroring and migration."""
    if not installed():
        return
    lines = subprocess.run(["nm", "-D", "--undefined-only", MODULES[0]], stdout=subprocess.PIPE,
                           text=True, check=True).stdout.splitlines()
    imported = {line.split()[-1].split("@")[0] for line in lines}
    imported = {name for name in imported
                if name.startswith("rbd_") and not re.search("mirror|migration", name)}
    missing = imported - tested
    check(not missing, "not driven: %s" % " ".join(sorted(missing)))
    unknown = tested - imported
    check(not unknown, "not imported: %s" % " ".join(sorted(unknown)))


if __name__ == "__main__":
    run()
