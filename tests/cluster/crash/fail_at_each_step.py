"""Makes images, clones, copies and imports of them while one request after the other fails; run by test_image_failures.py.

    LD_PRELOAD=libfail_at_call.so python3 fail_at_each_step.py FOLDER CONF MODE STRIDE

takes, of what has many steps, one in STRIDE, and prints a line for each kind: how many steps it has, at how many of them it failed, and how often something was left that had to be
removed. Whatever is wrong ends it with exit status 1."""

import ctypes
import errno
import sys
import time

sys.path.insert(0, sys.argv[1])
from lib.image import (FEATURES, MIB, READ_ONLY, SINK, Client, Options, P, Stream, good, lib, source_of, text)  # noqa: E402

ONCE, TOLD, ALL = range(3)  # As in fail_at_call.c.
MANY = 1 << 40
SIZE = 3 * MIB
mode, stride = int(sys.argv[3]), int(sys.argv[4])
here = ctypes.CDLL(None)
here.steps_left.restype = here.requests_made.restype = ctypes.c_long
client = Client(sys.argv[2])


def fail_at(n):
    here.fail_at(ctypes.c_long(n), ctypes.c_int(mode))


def check(condition, message):
    if not condition:
        print("FAIL %s" % message, flush=True)
        sys.exit(1)


def make_sources():
    """An image with snapshots, one protected; a clone of it with one of its own; a stream of the first."""
    image = client.create("source", SIZE, order=20)
    image.write(0, b"1" * SIZE)
    image.snap("one")
    image.protect("one")
    image.write(MIB, b"2" * 1000)
    good(image.resize(2 * MIB), "shrink")
    image.snap("two")
    image.write(0, b"3" * 1000)
    good(lib.limpet_image_meta_set(image.handle, b"key", b"value", ctypes.c_size_t(5)), "metadata")
    kid = client.clone("source", "one", "kid")
    kid.write(MIB + 7, b"k" * 1000)
    kid.snap("own")
    out = bytearray()

    def write(_arg, data, length):
        out.extend(ctypes.string_at(data, length))
        return 0
    call = SINK(write)
    sink = Stream(ctypes.cast(call, P), None)
    good(lib.limpet_image_export(image.handle, ctypes.byref(sink), None, None), "export")
    return image, kid, bytes(out)


source, kid, stream = make_sources()
SOURCE_STATES = {"one": b"1" * SIZE, "two": b"1" * MIB + b"2" * 1000 + b"1" * (MIB - 1000),
                 None: b"3" * 1000 + b"1" * (MIB - 1000) + b"2" * 1000 + b"1" * (MIB - 1000)}
KID = b"1" * (MIB + 7) + b"k" * 1000 + b"1" * (2 * MIB - 1007)
KID_STATES = {"own": KID, None: KID}


def import_all(name):
    given = Options(FEATURES, 0, 0, 0, None, 0)
    data, _keep = source_of(stream)
    return lib.limpet_image_import(client.pool, text(name), ctypes.byref(given), ctypes.byref(data), None, None)


# What is done, and what there is then.
KINDS = {
    "create": (lambda name: client.try_create(name, SIZE), {None: bytes(SIZE)}),
    "clone": (lambda name: client.try_clone("source", "one", name), {None: SOURCE_STATES["one"]}),
    "copy": (lambda name: source.copy(name), {None: SOURCE_STATES[None]}),
    "deep copy": (lambda name: source.deep_copy(name), SOURCE_STATES),
    "deep copy of a clone": (lambda name: kid.deep_copy(name), KID_STATES),
    "flat deep copy of a clone": (lambda name: kid.deep_copy(name, flatten=True), KID_STATES),
    "import": (import_all, SOURCE_STATES),
}


def remove(name, what):
    """As `limpet rbd rm` does; a watch that was not ended lives a moment."""
    until = time.monotonic() + 60
    while True:
        rc = client.remove(name)
        if rc != -errno.EBUSY or time.monotonic() > until:
            break
        time.sleep(0.1)
    check(rc == 0, "%s: what is left is not removed: %d" % (what, rc))


def check_whole(name, states, what):
    image = client.open(name)
    check(sorted(image.snap_names()) == sorted(snap for snap in states if snap), "%s: %r" % (what, image.snap_names()))
    for snap, expected in states.items():
        good(image.set_snap(snap), "look")
        check(image.read(0, image.info().size) == expected, "%s: contents of %s" % (what, snap))
    good(image.set_snap(None), "look")
    for snap in image.snaps():
        if snap.is_protected:
            good(lib.limpet_image_snap_unprotect(image.handle, snap.name), "unprotect")
        good(lib.limpet_image_snap_remove(image.handle, snap.name, None, None), "remove a snapshot")
    image.close()
    remove(name, what)


def run(kind):
    act, states = KINDS[kind]
    failed = left = 0
    for n in range(1 + mode, 2000, stride) if len(states) > 1 else range(1, 2000):
        name, what = "made%d" % n, "%s, step %d" % (kind, n)
        fail_at(n)
        rc = act(name)
        reached = here.steps_left() <= 0
        fail_at(-1)
        check(rc <= 0, what)
        if rc == 0:
            check_whole(name, states, what)
        else:
            failed += 1
            if name in client.names():
                left += 1
                remove(name, what)
        check(name not in client.names(), "%s: its name" % what)
        if not reached:
            check(rc == 0, "%s: failed with %d, without a reason" % (what, rc))
            return "%s: failed at %d of less than %d steps, left something at %d" % (kind, failed, n, left)
    check(False, "%s does not end" % kind)


def count_round_trips():
    """Of opening: its id, the watch, its header with its options, its pool's options."""
    for flags, expected in ((0, 4), (READ_ONLY, 3)):
        before = here.requests_made()
        opened = client.open("source", flags=flags)
        n = here.requests_made() - before
        opened.close()
        check(n == expected, "opening takes %d round trips, not %d" % (n, expected))


count_round_trips()
for kind in KINDS:
    print(run(kind), flush=True)
check(sorted(client.names()) == ["kid", "source"], "names: %r" % client.names())
check(len(source.children()) == 1, "children: %d" % len(source.children()))
good(kid.snap_remove("own"), "remove")
kid.close()
remove("kid", "the clone")
for snap in ("one", "two"):
    if snap == "one":
        good(source.unprotect(snap), "unprotect")
    good(source.snap_remove(snap), "remove")
source.close()
remove("source", "the source")
