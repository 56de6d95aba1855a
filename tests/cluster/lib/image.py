"""Block images through liblimpet's C interface."""

import ctypes
import errno
import os
import subprocess
import sys
import threading

from lib.cluster import BUILD, SANITIZED, check

LIBRARY = os.path.join(BUILD, "lib", "liblimpet.so")
NAME_MAX = 255
MIB = 1 << 20
FEATURES = 61
PLAIN = 1  # Layering alone: no lock, no object map.
READ_ONLY, BY_ID = 1, 2

P = ctypes.c_void_p
C = ctypes.c_char_p
U = ctypes.c_uint64
SIZE = ctypes.c_size_t
DONE = ctypes.CFUNCTYPE(None, ctypes.c_ssize_t, P)
PROGRESS = ctypes.CFUNCTYPE(ctypes.c_int, U, U, P)
EXTENT = ctypes.CFUNCTYPE(ctypes.c_int, U, U, ctypes.c_bool, P)
CHANGED = ctypes.CFUNCTYPE(None, P)
SINK = ctypes.CFUNCTYPE(ctypes.c_int, P, P, SIZE)
SOURCE = ctypes.CFUNCTYPE(ctypes.c_ssize_t, P, P, SIZE)


class Options(ctypes.Structure):
    _fields_ = [("features", U), ("order", ctypes.c_uint), ("stripe_unit", U), ("stripe_count", U),
                ("data_pool", C), ("clone_format", ctypes.c_uint)]


class Entry(ctypes.Structure):
    _fields_ = [("id", ctypes.c_char * 33), ("name", ctypes.c_char * 256)]


class Info(ctypes.Structure):
    _fields_ = [("size", U), ("order", ctypes.c_uint), ("object_size", U), ("objects", U),
                ("stripe_unit", U), ("stripe_count", U), ("features", U), ("op_features", U),
                ("flags", U), ("snaps", U), ("snap", U), ("pool", U), ("data_pool", U),
                ("created_ns", U), ("accessed_ns", U), ("modified_ns", U), ("overlap", U),
                ("has_parent", ctypes.c_bool), ("snap_lost", ctypes.c_bool),
                ("read_only", ctypes.c_bool), ("id", ctypes.c_char * 33),
                ("name", ctypes.c_char * 256), ("prefix", ctypes.c_char * 64)]


class Snap(ctypes.Structure):
    _fields_ = [("id", U), ("size", U), ("created_ns", U), ("kind", ctypes.c_int),
                ("is_protected", ctypes.c_bool), ("name", ctypes.c_char * 256),
                ("original", ctypes.c_char * 256)]


class Spec(ctypes.Structure):
    _fields_ = [("pool", U), ("space", ctypes.c_char * 256), ("id", ctypes.c_char * 33),
                ("name", ctypes.c_char * 256), ("snap", U), ("snap_name", ctypes.c_char * 256),
                ("trash", ctypes.c_bool)]


class Trash(ctypes.Structure):
    _fields_ = [("id", ctypes.c_char * 33), ("name", ctypes.c_char * 256), ("deleted_ns", U),
                ("deferred_until_ns", U)]


class GroupSnap(ctypes.Structure):
    _fields_ = [("id", ctypes.c_char * 33), ("name", ctypes.c_char * 256),
                ("complete", ctypes.c_bool)]


class Qos(ctypes.Structure):
    _fields_ = [(name, U) for name in ("iops", "read_iops", "write_iops", "bytes", "read_bytes",
                                       "write_bytes", "iops_burst", "read_iops_burst", "write_iops_burst",
                                       "bytes_burst", "read_bytes_burst", "write_bytes_burst")]


class Stream(ctypes.Structure):
    _fields_ = [("call", P), ("arg", P)]


def begin_with_sanitizer():
    """See test_library.py."""
    if not SANITIZED:
        return
    for line in subprocess.run(["ldd", LIBRARY], stdout=subprocess.PIPE, text=True,
                               check=True).stdout.splitlines():
        words = line.split()
        if "libasan" in line and len(words) > 2 and "LD_PRELOAD" not in os.environ:
            options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
            os.execve(sys.executable, [sys.executable, "-B"] + sys.argv,
                      dict(os.environ, LD_PRELOAD=words[2], ASAN_OPTIONS=options))


begin_with_sanitizer()
lib = ctypes.CDLL(LIBRARY)
lib.limpet_error_text.restype = C
for name in ("read", "write", "discard", "write_zeroes", "write_same", "compare_and_write"):
    getattr(lib, "limpet_image_" + name).restype = ctypes.c_ssize_t
lib.limpet_cluster_instance.restype = U
lib.limpet_cluster_instance.argtypes = [P]
lib.limpet_free.argtypes = [P]
lib.limpet_pool_close.argtypes = [P]
lib.limpet_cluster_destroy.argtypes = [P]


def text(value):
    return value.encode() if isinstance(value, str) else value


def good(result, what):
    check(result >= 0, "%s: %d (%s)" % (what, result, os.strerror(-result)))
    return result


def refused(result, error, what):
    check(result == -error, "%s: %d, not -%s" % (what, result, errno.errorcode[error]))


def items(kind, call):
    """The array that a function has allocated."""
    out, n = P(), SIZE()
    good(call(ctypes.byref(out), ctypes.byref(n)), "list")
    if not n.value:
        return []
    copy = (kind * n.value).from_buffer_copy(ctypes.string_at(out, n.value * ctypes.sizeof(kind)))
    lib.limpet_free(out)
    return list(copy)


class Client:
    def __init__(self, conf, pool="data", space=""):
        self.handle, self.pool = P(), P()
        good(lib.limpet_cluster_create(ctypes.byref(self.handle), b"client.admin"), "cluster")
        good(lib.limpet_cluster_config_file(self.handle, text(conf)), "configuration")
        good(lib.limpet_cluster_connect(self.handle), "connection")
        good(lib.limpet_pool_open(self.handle, text(pool), ctypes.byref(self.pool)), "pool")
        good(lib.limpet_pool_set_namespace(self.pool, text(space)), "namespace")

    def close(self):
        lib.limpet_pool_close(self.pool)
        lib.limpet_cluster_destroy(self.handle)

    def instance(self):
        return lib.limpet_cluster_instance(self.handle)

    def try_create(self, name, size, features=FEATURES, order=0, unit=0, count=0, data_pool=None):
        options = Options(features, order, unit, count, text(data_pool), 0)
        return lib.limpet_image_create(self.pool, text(name), U(size), ctypes.byref(options))

    def create(self, name, size, **options):
        good(self.try_create(name, size, **options), "create %r" % name)
        return self.open(name)

    def create_parent(self, size, data, order=20):
        """What is to be cloned: an image "parent" that begins with these data, and its snapshot "base"."""
        parent = self.create("parent", size, order=order)
        parent.write(0, data)
        parent.snap("base")
        return parent

    def try_open(self, name, snap=None, flags=0):
        out = P()
        rc = lib.limpet_image_open(self.pool, text(name), text(snap), flags, ctypes.byref(out))
        return Image(self, out) if rc == 0 else rc

    def open(self, name, snap=None, flags=0):
        image = self.try_open(name, snap, flags)
        check(isinstance(image, Image), "open %r: %r" % (name, image))
        return image

    def remove(self, name, progress=None):
        return lib.limpet_image_remove(self.pool, text(name), progress, None)

    def rename(self, name, to):
        return lib.limpet_image_rename(self.pool, text(name), text(to))

    def names(self):
        return [entry.name.decode() for entry in
                items(Entry, lambda out, n: lib.limpet_image_list(self.pool, out, n))]

    def try_clone(self, parent, snap, name, features=FEATURES, order=0, clone_format=2):
        options = Options(features, order, 0, 0, None, clone_format)
        return lib.limpet_image_clone(self.pool, text(parent), text(snap), self.pool, text(name),
                                      ctypes.byref(options))

    def clone(self, parent, snap, name, **options):
        good(self.try_clone(parent, snap, name, **options), "clone %r" % name)
        return self.open(name)

    def import_image(self, name, data):
        source, _keep = source_of(data)
        options = Options(FEATURES, 0, 0, 0, None, 0)
        return lib.limpet_image_import(self.pool, text(name), ctypes.byref(options), ctypes.byref(source),
                                       None, None)

    def group_snaps(self, group):
        return items(GroupSnap, lambda out, n: lib.limpet_group_snap_list(self.pool, text(group), out, n))

    def group_images(self, group):
        return items(Spec, lambda out, n: lib.limpet_group_images(self.pool, text(group), out, n))

    def trash(self):
        return items(Trash, lambda out, n: lib.limpet_image_trash_list(self.pool, out, n))


class Request:
    """One that is under way."""

    def __init__(self, memory=None):
        self.memory = memory
        self.ended = threading.Event()
        self.result = None
        self.callback = DONE(self._done)

    def _done(self, result, _arg):
        self.result = result
        self.ended.set()

    def wait(self, timeout=120):
        check(self.ended.wait(timeout), "a request does not end")
        return self.result


class Image:
    def __init__(self, client, handle):
        self.client = client
        self.handle = handle

    def close(self):
        good(lib.limpet_image_close(self.handle), "close")
        self.handle = None

    def info(self):
        info = Info()
        good(lib.limpet_image_info(self.handle, ctypes.byref(info)), "info")
        return info

    def try_read(self, offset, size):
        data = ctypes.create_string_buffer(b"\xee" * max(size, 1), max(size, 1))
        got = lib.limpet_image_read(self.handle, data, SIZE(size), U(offset), 0)
        return data.raw[:got] if got >= 0 else got

    def read(self, offset, size):
        data = self.try_read(offset, size)
        check(isinstance(data, bytes), "read %d+%d: %r" % (offset, size, data))
        return data

    def try_write(self, offset, data):
        return lib.limpet_image_write(self.handle, data, SIZE(len(data)), U(offset), 0)

    def write(self, offset, data):
        check(good(self.try_write(offset, data), "write") == len(data), "written in part")

    def discard(self, offset, size):
        return lib.limpet_image_discard(self.handle, U(size), U(offset))

    def write_same(self, offset, data, total):
        return lib.limpet_image_write_same(self.handle, data, SIZE(len(data)), U(total), U(offset), 0)

    def compare_and_write(self, offset, expected, data):
        where = U(~0)
        rc = lib.limpet_image_compare_and_write(self.handle, expected, data, SIZE(len(data)),
                                                U(offset), ctypes.byref(where))
        return rc, where.value

    def flush(self):
        return lib.limpet_image_flush(self.handle)

    def aio_write(self, offset, data):
        request = Request()
        good(lib.limpet_image_aio_write(self.handle, data, SIZE(len(data)), U(offset), 0,
                                        request.callback, None), "aio_write")
        return request

    def aio_read(self, offset, size):
        request = Request(ctypes.create_string_buffer(size))
        good(lib.limpet_image_aio_read(self.handle, request.memory, SIZE(size), U(offset), 0,
                                       request.callback, None), "aio_read")
        return request

    def aio_flush(self):
        request = Request()
        good(lib.limpet_image_aio_flush(self.handle, request.callback, None), "aio_flush")
        return request

    def resize(self, size, shrink=True):
        return lib.limpet_image_resize(self.handle, U(size), ctypes.c_bool(shrink), None, None)

    def refresh(self):
        good(lib.limpet_image_refresh(self.handle), "refresh")

    def snap(self, name):
        good(self.try_snap(name), "snapshot %r" % name)

    def try_snap(self, name):
        return lib.limpet_image_snap_create(self.handle, text(name))

    def snap_remove(self, name):
        return lib.limpet_image_snap_remove(self.handle, text(name), None, None)

    def snap_rename(self, name, to):
        return lib.limpet_image_snap_rename(self.handle, text(name), text(to))

    def protect(self, name):
        return lib.limpet_image_snap_protect(self.handle, text(name))

    def unprotect(self, name):
        return lib.limpet_image_snap_unprotect(self.handle, text(name))

    def rollback(self, name):
        return lib.limpet_image_snap_rollback(self.handle, text(name), None, None)

    def set_snap(self, name):
        return lib.limpet_image_set_snap(self.handle, text(name))

    def snaps(self):
        return items(Snap, lambda out, n: lib.limpet_image_snap_list(self.handle, out, n))

    def snap_names(self):
        return [snap.name.decode() for snap in self.snaps()]

    def flatten(self):
        return lib.limpet_image_flatten(self.handle, None, None)

    def children(self):
        return items(Spec, lambda out, n: lib.limpet_image_children(self.handle, out, n))

    def parent(self):
        spec = Spec()
        rc = lib.limpet_image_parent(self.handle, ctypes.byref(spec))
        return spec if rc == 0 else rc

    def lock(self):
        return lib.limpet_image_lock_acquire(self.handle)

    def unlock(self):
        return lib.limpet_image_lock_release(self.handle)

    def is_owner(self):
        owner = ctypes.c_bool()
        good(lib.limpet_image_lock_is_owner(self.handle, ctypes.byref(owner)), "owner")
        return owner.value

    def diff(self, since=None, offset=0, size=None, parent=True, whole=False, at_first=None):
        """at_first() is called when the first extent was told."""
        found = []

        def extent(at, length, exists, _arg):
            found.append((at, length, exists))
            if at_first and len(found) == 1:
                at_first()
            return 0
        call = EXTENT(extent)
        rc = lib.limpet_image_diff(self.handle, text(since), U(offset),
                                   U(self.info().size if size is None else size),
                                   ctypes.c_bool(parent), ctypes.c_bool(whole), call, None)
        if rc != 0 and at_first:
            return rc
        good(rc, "diff")
        return found

    def used(self, since=None):
        used = U()
        good(lib.limpet_image_used(self.handle, text(since), ctypes.byref(used)), "used")
        return used.value

    def try_export(self, ended=None):
        sink, out, _keep = sink_to_memory(ended)
        rc = lib.limpet_image_export(self.handle, ctypes.byref(sink), None, None)
        return bytes(out) if rc == 0 else rc

    def export(self):
        stream = self.try_export()
        check(isinstance(stream, bytes), "export: %r" % stream)
        return stream

    def try_export_diff(self, since=None, whole=False, progress=None):
        sink, out, _keep = sink_to_memory()
        rc = lib.limpet_image_export_diff(self.handle, text(since), ctypes.c_bool(whole), ctypes.byref(sink),
                                          once(progress), None)
        return bytes(out) if rc == 0 else rc

    def export_diff(self, since=None, whole=False):
        stream = self.try_export_diff(since, whole)
        check(isinstance(stream, bytes), "export: %r" % stream)
        return stream

    def import_diff(self, data):
        source, _keep = source_of(data)
        return lib.limpet_image_import_diff(self.handle, ctypes.byref(source), None, None)

    def copy(self, name, progress=None, **options):
        given = Options(options.get("features", FEATURES), options.get("order", 0), 0, 0, None, 0)
        return lib.limpet_image_copy(self.handle, self.client.pool, text(name), ctypes.byref(given),
                                     once(progress), None)

    def deep_copy(self, name, flatten=False, progress=None, **options):
        given = Options(options.get("features", FEATURES), options.get("order", 0), 0, 0, None, 0)
        return lib.limpet_image_deep_copy(self.handle, self.client.pool, text(name),
                                          ctypes.byref(given), ctypes.c_bool(flatten), once(progress), None)


def once(call):
    """A progress that calls it the first time."""
    calls = [call] if call else []

    def progress(_done, _total, _arg):
        if calls:
            calls.pop()()
        return 0
    return PROGRESS(progress)


def source_of(data):
    """A stream to be read, and what must live as long."""
    place = [0]

    def read(_arg, memory, length):
        piece = data[place[0]:place[0] + min(length, 100000)]
        ctypes.memmove(memory, piece, len(piece))
        place[0] += len(piece)
        return len(piece)
    call = SOURCE(read)
    return Stream(ctypes.cast(call, P), None), call


def sink_to_memory(ended=None):
    """A stream to be written, what was written, and what must live as long. It is called when the first difference has ended."""
    out = bytearray()
    calls = [ended] if ended else []

    def write(_arg, data, length):
        out.extend(ctypes.string_at(data, length))
        if calls and ctypes.string_at(data, length) == b"e":
            calls.pop()()
        return 0
    call = SINK(write)
    return Stream(ctypes.cast(call, P), None), out, call


def merge_diff(first, second):
    sink, out, _kept = sink_to_memory()
    one, _keep = source_of(first)
    two, _too = source_of(second)
    rc = lib.limpet_image_merge_diff(ctypes.byref(one), ctypes.byref(two), ctypes.byref(sink))
    return bytes(out) if rc == 0 else rc
