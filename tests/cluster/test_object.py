#!/usr/bin/env python3
"""Operations of many steps through liblimpet: attributes, maps, guards, methods, locks; also while an
OSD is away and when it is back."""

import ctypes
import errno
import os
import random
import struct
import time

from lib.cluster import BUILD, Cluster, case, check, run, wait_until

cluster = Cluster(mons=1, osds=3)
lib = ctypes.CDLL(os.path.join(BUILD, "lib", "liblimpet.so"))
P, S, U64 = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64
N, I = ctypes.c_size_t, ctypes.c_int


class Pair(ctypes.Structure):
    _fields_ = [("key", P), ("key_len", N), ("value", P), ("value_len", N)]


class Extent(ctypes.Structure):
    _fields_ = [("offset", U64), ("len", U64)]


class Extents(ctypes.Structure):
    _fields_ = [("n", N), ("extents", ctypes.POINTER(Extent)), ("data", P), ("data_len", N)]


class Vector(ctypes.Structure):
    _fields_ = [("base", P), ("len", N)]


class Version(ctypes.Structure):
    _fields_ = [("config", U64), ("sequence", U64)]


ARGUMENTS = {
    "cluster_create": [P, S], "cluster_config_file": [P, S], "cluster_connect": [P],
    "cluster_destroy": [P], "pool_open": [P, S, P], "pool_close": [P], "free": [P],
    "cluster_instance": [P],
    "op_append": [P, S, N], "op_destroy": [P], "operate": [P, S, P, P], "op_allow_failure": [P],
    "op_write_full": [P, S, N], "op_read": [P, P, N, U64, P, P], "op_remove": [P],
    "op_create_object": [P, ctypes.c_bool], "op_assert_version": [P, U64], "op_assert_exists": [P],
    "op_zero": [P, U64, U64], "op_write_same": [P, S, N, U64, U64],
    "op_compare": [P, S, N, U64, P], "op_checksum": [P, I, U64, U64, U64, ctypes.c_uint32, P, P, P],
    "op_extents": [P, U64, U64, P, P], "op_sparse_read": [P, U64, U64, P, P],
    "op_attr_set": [P, S, S, N], "op_attr_remove": [P, S], "op_attr_compare": [P, S, I, S, N, P],
    "op_attr_get": [P, S, P, P, P], "op_attr_list": [P, P, P],
    "op_omap_set": [P, P, N], "op_omap_remove": [P, P, N], "op_omap_remove_range": [P, S, N, S, N],
    "op_omap_clear": [P], "op_omap_compare": [P, P, I, P], "op_omap_set_header": [P, S, N],
    "op_omap_get_header": [P, P, P, P], "op_omap_get": [P, P, N, P, P],
    "op_omap_list": [P, S, N, S, N, U64, P, P, P], "op_call": [P, S, S, N, P, P, P],
    "pairs_next": [P, P], "pairs_destroy": [P],
    "lock": [P, S, S, I, S, S, S, U64, ctypes.c_uint], "unlock": [P, S, S, S],
    "lock_break": [P, S, S, U64, S],
    "writev": [P, S, P, I, U64], "readv": [P, S, P, I, U64],
    "aio_writev": [P, S, P, P, I, U64], "aio_readv": [P, S, P, P, I, U64],
    "op_writev": [P, P, I, U64], "op_readv": [P, P, I, U64, P, P],
    "op_read_buffer": [P, N, U64, P, P], "op_write_buffer": [P, P, U64], "buffer_data": [P],
    "buffer_len": [P], "buffer_destroy": [P],
    "write_full": [P, S, P, N], "aio_read": [P, S, P, P, N, U64], "completion_cancel": [P],
    "completion_create": [P, P, P], "completion_wait": [P], "completion_release": [P],
}
for name, arguments in ARGUMENTS.items():
    getattr(lib, "limpet_" + name).argtypes = arguments
lib.limpet_op_create.restype = P
lib.limpet_buffer_data.restype = P
lib.limpet_buffer_len.restype = N
lib.limpet_readv.restype = lib.limpet_completion_wait.restype = ctypes.c_ssize_t
lib.limpet_cluster_instance.restype = U64


def pairs_of(entries):
    """struct limpet_pair for each key, or key and value. The strings live as long as the list."""
    array = (Pair * max(len(entries), 1))()
    array.keep = []
    for i, entry in enumerate(entries):
        key, value = entry if isinstance(entry, tuple) else (entry, b"")
        strings = (ctypes.create_string_buffer(key, len(key) or 1),
                   ctypes.create_string_buffer(value, len(value) or 1))
        array.keep.append(strings)
        array[i] = Pair(ctypes.addressof(strings[0]), len(key), ctypes.addressof(strings[1]), len(value))
    return array


class Bytes:
    """Where a step puts what it gives."""

    def __init__(self):
        self.data, self.len, self.result = P(), N(), I()

    def places(self):
        return ctypes.byref(self.data), ctypes.byref(self.len), ctypes.byref(self.result)

    def take(self):
        got = ctypes.string_at(self.data, self.len.value) if self.data else None
        lib.limpet_free(self.data)
        return got


class Pairs:
    def __init__(self):
        self.list, self.more, self.result = P(), ctypes.c_bool(), I()

    def take(self):
        found, pair = [], Pair()
        while self.list and lib.limpet_pairs_next(self.list, ctypes.byref(pair)) == 0:
            found.append((ctypes.string_at(pair.key, pair.key_len), ctypes.string_at(pair.value, pair.value_len)))
        lib.limpet_pairs_destroy(self.list)
        return found


class Client:
    def __init__(self):
        self.handle, self.pool, self.version = P(), P(), Version()
        check(lib.limpet_cluster_create(ctypes.byref(self.handle), b"client.admin") == 0, "create")
        check(lib.limpet_cluster_config_file(self.handle, cluster.conf.encode()) == 0, "config")
        check(lib.limpet_cluster_connect(self.handle) == 0, "connect")
        check(lib.limpet_pool_open(self.handle, b"data", ctypes.byref(self.pool)) == 0, "pool")

    def operate(self, name, *steps):
        """Each step is the name of a limpet_op_ function and its arguments."""
        op = lib.limpet_op_create()
        for step, *arguments in steps:
            error = getattr(lib, "limpet_op_" + step)(op, *arguments)
            if error:
                lib.limpet_op_destroy(op)
                return error
        result = lib.limpet_operate(self.pool, name, op, ctypes.byref(self.version))
        lib.limpet_op_destroy(op)
        return result

    def attr(self, name, attr):
        out = Bytes()
        error = self.operate(name, ("attr_get", attr, *out.places()))
        return error if error else out.take()

    def omap(self, name, after=b"", prefix=b"", most=1000):
        out = Pairs()
        error = self.operate(name, ("omap_list", after, len(after), prefix, len(prefix), most,
                                    ctypes.byref(out.list), ctypes.byref(out.more), ctypes.byref(out.result)))
        return error if error else (out.take(), out.more.value)

    def close(self):
        lib.limpet_pool_close(self.pool)
        lib.limpet_cluster_destroy(self.handle)


client = None


def vectors_of(parts):
    """Of strings, or of numbers of bytes to be read into. The memory lives as long as the list."""
    array = (Vector * max(len(parts), 1))()
    array.keep = [ctypes.create_string_buffer(part, len(part) or 1) if isinstance(part, bytes)
                  else ctypes.create_string_buffer(part or 1) for part in parts]
    for i, part in enumerate(parts):
        array[i] = Vector(ctypes.addressof(array.keep[i]), len(part) if isinstance(part, bytes) else part)
    array.take = lambda: [ctypes.string_at(vector.base, vector.len) for vector in array]
    return array


def expect(got, want, what):
    check(got == want, "%s: %r, not %r" % (what, got, want))


@case
def sets_up():
    global client
    cluster.start()
    cluster.pool("data")
    client = Client()


@case
def attributes():
    expect(client.attr(b"a", b"colour"), -errno.ENOENT, "of nothing")
    expect(client.operate(b"a", ("attr_set", b"colour", b"green", 5), ("attr_set", b"empty", b"", 0)), 0, "set")
    expect(client.attr(b"a", b"colour"), b"green", "colour")
    expect(client.attr(b"a", b"empty"), b"", "empty")
    expect(client.attr(b"a", b"none"), -errno.ENODATA, "none")
    out = Pairs()
    expect(client.operate(b"a", ("attr_list", ctypes.byref(out.list), None)), 0, "list")
    expect(out.take(), [(b"colour", b"green"), (b"empty", b"")], "list")
    expect(client.operate(b"a", ("attr_set", b"n" * 255, b"", 0)), -errno.ENAMETOOLONG, "long name")
    expect(client.operate(b"a", ("attr_set", b"n", b"v" * 65537, 65537)), -errno.EFBIG, "large value")
    expect(client.operate(b"a", ("attr_remove", b"colour")), 0, "remove")
    expect(client.attr(b"a", b"colour"), -errno.ENODATA, "removed")


@case
def maps():
    keys = [(b"k%03d" % i, b"v%d" % i) for i in range(200)]
    expect(client.operate(b"m", ("omap_set", pairs_of(keys), 200), ("omap_set_header", b"head", 4)), 0, "set")
    expect(client.omap(b"m"), (keys, False), "all")
    expect(client.omap(b"m", b"k009", b"", 5), (keys[10:15], True), "after a key")
    expect(client.omap(b"m", b"", b"k19"), (keys[190:], False), "with a prefix")
    out = Pairs()
    wanted = pairs_of([b"k007", b"none", b"k100"])
    expect(client.operate(b"m", ("omap_get", wanted, 3, ctypes.byref(out.list), None)), 0, "get")
    expect(out.take(), [keys[7], keys[100]], "get")
    expect(client.operate(b"m", ("omap_remove_range", b"k010", 4, b"k190", 4),
                          ("omap_remove", pairs_of([b"k000", b"none"]), 2)), 0, "remove")
    expect(client.omap(b"m"), (keys[1:10] + keys[190:], False), "rest")
    header = Bytes()
    expect(client.operate(b"m", ("omap_get_header", *header.places())), 0, "header")
    expect(header.take(), b"head", "header")
    expect(client.operate(b"m", ("omap_set", pairs_of([b""]), 1)), -errno.EINVAL, "empty key")
    expect(client.operate(b"m", ("omap_clear",)), 0, "clear")
    expect(client.omap(b"m"), ([], False), "cleared")


@case
def large_maps():
    """Values of a megabyte, and more keys in one request than an OSD would reserve pages for."""
    large = b"v" * (1 << 20)
    expect(client.operate(b"l", ("omap_set", pairs_of([(b"a", large)]), 1)), 0, "largest value")
    expect(client.operate(b"l", ("omap_set_header", large, len(large))), 0, "largest header")
    expect(client.operate(b"l", ("omap_set", pairs_of([(b"a", large + b"v")]), 1)), -errno.EFBIG, "too large")
    expect(client.operate(b"l", ("omap_set_header", large + b"v", len(large) + 1)), -errno.EFBIG, "too large")
    many = [(b"k%05d" % i, b"v%d" % i) for i in range(3000)]
    expect(client.operate(b"l", ("omap_set", pairs_of(many), len(many))), 0, "many")
    wanted = pairs_of([key for key, _ in many])
    out = Pairs()
    expect(client.operate(b"l", ("omap_get", wanted, len(many), ctypes.byref(out.list), None)), 0, "get many")
    expect(out.take(), many, "many")


@case
def vectors_and_buffers():
    parts = vectors_of([b"one", b"", b"two" * 1000, b"3"])
    whole = b"one" + b"two" * 1000 + b"3"
    expect(lib.limpet_writev(client.pool, b"v", parts, 4, 10), 0, "writev")
    into = vectors_of([11, 0, 2, 5000])
    expect(lib.limpet_readv(client.pool, b"v", into, 4, 0), 10 + len(whole), "readv")
    got = b"".join(into.take())
    check(got == (bytes(10) + whole).ljust(5013, b"\0"), "not what was written, or something beyond")
    for call, vectors, want in (("aio_writev", parts, 0), ("aio_readv", vectors_of([4, 4]), 8)):
        completion = P()
        lib.limpet_completion_create(None, None, ctypes.byref(completion))
        expect(getattr(lib, "limpet_" + call)(client.pool, b"v", completion, vectors,
                                              4 if want == 0 else 2, 0), 0, call)
        expect(lib.limpet_completion_wait(completion), want, call)
        lib.limpet_completion_release(completion)
    expect(vectors.take(), [b"onet", b"wotw"], "read asynchronously")
    got, buffer, result, two = N(), P(), I(), vectors_of([2, 2])
    expect(client.operate(b"v", ("writev", vectors_of([b"a", b"b"]), 2, 0),
                          ("readv", two, 2, 0, ctypes.byref(got), None)), 0, "steps of both kinds")
    expect((got.value, two.take()), (4, [b"ab", b"et"]), "what the second has read")
    expect(client.operate(b"v", ("read_buffer", 100000, 0, ctypes.byref(buffer), ctypes.byref(result))), 0,
           "read into a buffer")
    size = lib.limpet_buffer_len(buffer)
    want = b"abe" + whole[3:] + whole[-10:]
    check(ctypes.string_at(lib.limpet_buffer_data(buffer), size) == want, "the buffer has something else")
    expect(client.operate(b"w", ("write_buffer", buffer, 1)), 0, "written as it came")
    expect(client.operate(b"w", ("read_buffer", 1 << 20, 1, ctypes.byref(buffer), None)), 0, "read again")
    check(ctypes.string_at(lib.limpet_buffer_data(buffer), lib.limpet_buffer_len(buffer)) == want, "something else")
    lib.limpet_buffer_destroy(buffer)
    expect(client.operate(b"none", ("read_buffer", 10, 0, ctypes.byref(buffer), None)), -errno.ENOENT, "none")
    check(not buffer, "no buffer of what failed")
    huge = (Vector * 2)(Vector(parts[0].base, 128 << 20), Vector(parts[0].base, 1))
    expect(lib.limpet_writev(client.pool, b"v", huge, 2, 0), -errno.EFBIG, "more than an object has")
    expect(lib.limpet_writev(client.pool, b"v", huge, -1, 0), -errno.EINVAL, "a negative number")
    expect(lib.limpet_readv(client.pool, b"none", into, 4, 0), -errno.ENOENT, "no such object")


@case
def memory_is_the_callers_again_when_a_read_ends():
    """Reads are received in the caller's memory. One that was cancelled while its data came must not go on writing there."""
    size, together = 4 << 20, 4
    content = os.urandom(size)
    for i in range(together):
        expect(lib.limpet_write_full(client.pool, b"big%d" % i, content, size), 0, "write")
    memory = [ctypes.create_string_buffer(size) for _ in range(together)]
    choices = random.Random(5)
    whole = cancelled = 0
    for _ in range(40):
        completions = [P() for _ in range(together)]
        for i, completion in enumerate(completions):
            lib.limpet_completion_create(None, None, ctypes.byref(completion))
            expect(lib.limpet_aio_read(client.pool, b"big%d" % i, completion, memory[i], size, 0), 0, "read")
        time.sleep(choices.random() * 0.008)
        for completion in completions[::2]:
            lib.limpet_completion_cancel(completion)
        for i, completion in enumerate(completions):
            result = lib.limpet_completion_wait(completion)
            if result == size:
                whole += 1
                check(memory[i].raw == content, "a read that was not cancelled gives something else")
            else:
                expect(result, -errno.ECANCELED, "a cancelled read")
                cancelled += 1
            lib.limpet_completion_release(completion)
            ctypes.memset(memory[i], 0x5a, size)
        expect(client.operate(b"big0", ("assert_exists",)), 0, "something that comes through all sessions' traffic")
        for i in range(together):
            check(memory[i].raw.count(b"\x5a") == size, "memory was written to after the end of the read")
    check(whole > 0 and cancelled > 0, "%d whole, %d cancelled" % (whole, cancelled))


@case
def many_steps():
    expect(client.operate(b"s", *[("append", b"%02d" % i, 2) for i in range(64)]), 0, "64 steps")
    data, got = ctypes.create_string_buffer(200), N()
    pieces = [ctypes.create_string_buffer(2) for _ in range(64)]
    expect(client.operate(b"s", ("read", data, 200, 0, ctypes.byref(got), None)), 0, "read")
    expect(data.raw[:got.value], b"".join(b"%02d" % i for i in range(64)), "what they wrote")
    expect(client.operate(b"s", *[("read", pieces[i], 2, 2 * i, None, None) for i in range(64)]), 0, "64 reads")
    expect(b"".join(piece.raw for piece in pieces), data.raw[:128], "what they read")
    expect(client.operate(b"s", *[("append", b"x", 1)] * 65), -errno.E2BIG, "65 steps")


@case
def guards():
    expect(client.operate(b"g", ("write_full", b"abcd", 4), ("attr_set", b"n", b"7", 1)), 0, "make")
    version = client.version.sequence
    expect(client.operate(b"g", ("compare", b"abXd", 4, 0, None), ("remove",)), -4095 - 2, "compare")
    expect(client.operate(b"g", ("attr_compare", b"n", 1, b"8", 1, None), ("remove",)), -errno.ECANCELED, "attribute")
    expect(client.operate(b"g", ("assert_version", version + 1), ("remove",)), -errno.EOVERFLOW, "version")
    expect(client.operate(b"g", ("assert_version", version), ("attr_compare", b"n", 1, b"7", 1, None),
                          ("compare", b"abcd", 4, 0, None), ("write_same", b"xy", 2, 6, 0)), 0, "all hold")
    expect(client.operate(b"g", ("assert_version", version)), -errno.ERANGE, "newer")
    data = ctypes.create_string_buffer(16)
    got, failed = N(), I()
    expect(client.operate(b"g", ("compare", b"no", 2, 0, ctypes.byref(failed)), ("allow_failure",),
                          ("read", data, 16, 0, ctypes.byref(got), None), ("zero", 3, 100)), 0, "read and write")
    expect((data.raw[:got.value], failed.value), (b"xyxyxy", -4095), "what it gave")
    expect(client.operate(b"g", ("read", data, 16, 0, ctypes.byref(got), None)), 0, "read")
    expect(data.raw[:got.value], b"xyx", "cut")
    total = Bytes()
    expect(client.operate(b"g", ("checksum", 2, 0xffffffff, 0, 3, 0, *total.places())), 0, "checksum")
    expect(len(total.take()), 8, "checksum")
    far = 1 << 20
    expect(client.operate(b"g", ("write_same", b"far", 3, 3, far), ("write_same", b"x", 1, 1, far + 9000)), 0, "far")
    blocks = [(0, 4096), (far, 4096), (far + 8192, 809)]
    for code, expected, size in (("extents", blocks, 0),
                                 ("sparse_read", [blocks[0], (far, 9001)], 4096 + 9001)):
        told = ctypes.POINTER(Extents)()
        expect(client.operate(b"g", (code, 0, 0, ctypes.byref(told), None)), 0, code)
        found = told.contents
        expect([(found.extents[i].offset, found.extents[i].len) for i in range(found.n)], expected, code)
        contents = ctypes.string_at(found.data, found.data_len)
        expect((len(contents), contents[:3], contents[4096:4099]),
               (size, b"xyx"[:size], b"far"[:size]), code)
        lib.limpet_free(told)
    expect(client.operate(b"g", ("assert_exists",), ("remove",)), 0, "remove")
    expect(client.operate(b"g", ("assert_exists",), ("create_object", False)), -errno.ENOENT, "gone")


@case
def methods_and_locks():
    other, out = Client(), Bytes()
    expect(client.operate(b"h", ("create_object", False), ("call", b"hello.say_hello", b"you", 3, *out.places())), 0, "call")
    expect(out.take(), b"Hello, you!", "call")
    expect(client.operate(b"h", ("call", b"no.such", b"", 0, None, None, None)), -errno.EPERM, "none")
    expect(client.operate(b"h", ("call", b"hello.record_hello", b"", 0, None, None, None)), -errno.EEXIST, "record")
    lock = [b"lk", b"l", 1, b"c", b"", b"", 0, 0]
    expect(lib.limpet_lock(client.pool, *lock), 0, "lock")
    expect(lib.limpet_lock(client.pool, *lock), -errno.EEXIST, "again")
    expect(lib.limpet_lock(other.pool, *lock), -errno.EBUSY, "other")
    lock[-1] = 1
    expect(lib.limpet_lock(client.pool, *lock), 0, "renew")
    expect(lib.limpet_unlock(other.pool, b"lk", b"l", b"c"), -errno.ENOENT, "unlock other's")
    instance = lib.limpet_cluster_instance(client.handle)
    expect(lib.limpet_lock_break(other.pool, b"lk", b"l", instance, b"c"), 0, "break")
    expect(lib.limpet_unlock(client.pool, b"lk", b"l", b"c"), -errno.ENOENT, "unlock twice")
    for who in client, other:
        expect(lib.limpet_lock(who.pool, b"lk", b"s", 2, b"c", b"tag", b"", 0, 0), 0, "share")
    expect(lib.limpet_lock(client.pool, b"lk", b"s", 2, b"d", b"x", b"", 0, 0), -errno.EBUSY, "other tag")
    other.close()


@case
def survives_the_absence_of_an_osd():
    """Attributes and maps are changed while an OSD is away, and are on it afterwards: then the others go."""
    names = [b"away.%d" % i for i in range(24)]
    for name in names:
        expect(client.operate(name, ("omap_set", pairs_of([(b"old", b"1"), (b"both", b"1")]), 2)), 0, "before")
    cluster.kill("osd.0")
    wait_until("osd.0 down", lambda: cluster.status()["osdmap"]["num_up_osds"] == 2, 30)
    for i, name in enumerate(names):
        value = struct.pack("<I", i)
        expect(client.operate(name, ("omap_remove", pairs_of([b"old"]), 1), ("omap_set", pairs_of([(b"both", value)]), 1),
                              ("attr_set", b"i", value, 4)), 0, "while it is away")
    large = os.urandom(1 << 20)
    for name in names:
        expect(client.operate(b"large" + name, ("omap_set", pairs_of([(b"value", large[:-1])]), 1)), 0, "large value")
        expect(client.operate(b"large" + name, ("omap_set_header", large, len(large)),
                              ("omap_set", pairs_of([(b"a", b"1"), (b"z", b"2")]), 2)), 0, "large header")
    cluster.start_daemon("osd.0")
    cluster.wait_healthy()
    cluster.kill("osd.1")
    wait_until("osd.1 down", lambda: cluster.status()["osdmap"]["num_up_osds"] == 2, 30)
    for i, name in enumerate(names):
        value = struct.pack("<I", i)
        expect(client.omap(name), ([(b"both", value)], False), "map of %r" % name)
        expect(client.attr(name, b"i"), value, "attribute of %r" % name)
        header = Bytes()
        expect(client.operate(b"large" + name, ("omap_get_header", *header.places())), 0, "large header")
        check(header.take() == large, "another header of %r" % name)
        check(client.omap(b"large" + name) == ([(b"a", b"1"), (b"value", large[:-1]), (b"z", b"2")], False),
              "another map of %r" % name)
    cluster.start_daemon("osd.1")
    cluster.wait_healthy()


@case
def ends():
    client.close()


if __name__ == "__main__":
    run()
