#!/usr/bin/env python3
"""Namespaces and locators of objects through liblimpet: what is another object, what lies together, and
walks over one namespace, over all, and by several at once."""

import ctypes
import errno
import os

from lib.cluster import BUILD, Cluster, case, check, run

cluster = Cluster(mons=1, osds=3)
lib = ctypes.CDLL(os.path.join(BUILD, "lib", "liblimpet.so"))
P, S, N = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t

for function, arguments in {
        "cluster_create": [P, S], "cluster_config_file": [P, S], "cluster_connect": [P], "cluster_destroy": [P],
        "pool_open": [P, S, P], "pool_close": [P], "pool_set_namespace": [P, S], "pool_set_locator": [P, S],
        "write_full": [P, S, S, N], "append": [P, S, S, N], "read": [P, S, P, N, ctypes.c_uint64], "remove": [P, S],
        "free": [P], "completion_create": [P, P, P], "completion_release": [P], "completion_wait": [P],
        "aio_write_full": [P, S, P, S, N],
        "list_open": [P, ctypes.c_bool, P], "list_next": [P, P], "list_cursor": [P, P], "list_seek": [P, S],
        "list_slice": [P, ctypes.c_uint32, ctypes.c_uint32], "list_close": [P]}.items():
    getattr(lib, "limpet_" + function).argtypes = arguments
lib.limpet_read.restype = lib.limpet_completion_wait.restype = ctypes.c_ssize_t


class Entry(ctypes.Structure):
    _fields_ = [("name", P), ("name_len", N), ("space", P), ("space_len", N), ("locator", P), ("locator_len", N)]


class Client:
    def __init__(self):
        self.handle, self.pool = P(), P()
        check(lib.limpet_cluster_create(ctypes.byref(self.handle), b"client.admin") == 0, "create")
        check(lib.limpet_cluster_config_file(self.handle, cluster.conf.encode()) == 0, "config")
        check(lib.limpet_cluster_connect(self.handle) == 0, "connect")
        check(lib.limpet_pool_open(self.handle, b"data", ctypes.byref(self.pool)) == 0, "pool")

    def at(self, space=b"", locator=b""):
        check(lib.limpet_pool_set_namespace(self.pool, space) == 0, "namespace")
        check(lib.limpet_pool_set_locator(self.pool, locator) == 0, "locator")
        return self

    def write(self, name, data):
        return lib.limpet_write_full(self.pool, name, data, len(data))

    def read(self, name):
        data = ctypes.create_string_buffer(1000)
        got = lib.limpet_read(self.pool, name, data, 1000, 0)
        return got if got < 0 else data.raw[:got]

    def walk(self, every=False, part=None, cursor=None, limit=None):
        """What a walk finds, as (namespace, locator, name), and the place where it ends."""
        walk, entry, found = P(), Entry(), []
        check(lib.limpet_list_open(self.pool, every, ctypes.byref(walk)) == 0, "list")
        if part is not None:
            check(lib.limpet_list_slice(walk, *part) == 0, "slice")
        if cursor is not None:
            check(lib.limpet_list_seek(walk, cursor) == 0, "seek")
        result = 0
        while (limit is None or len(found) < limit) and result == 0:
            result = lib.limpet_list_next(walk, ctypes.byref(entry))
            if result == 0:
                found.append((ctypes.string_at(entry.space, entry.space_len),
                              ctypes.string_at(entry.locator, entry.locator_len),
                              ctypes.string_at(entry.name, entry.name_len)))
        check(result in (0, -errno.ENOENT), "list: %d" % result)
        text = P()
        check(lib.limpet_list_cursor(walk, ctypes.byref(text)) == 0, "cursor")
        place = ctypes.string_at(text)
        lib.limpet_free(text)
        lib.limpet_list_close(walk)
        return found, place


client = None
VARIANTS = [(b"", b""), (b"s", b""), (b"", b"near"), (b"s", b"near"), (b"s", b"far"), (b"other", b"near")]


@case
def sets_up():
    global client
    cluster.start()
    cluster.pool("data")
    client = Client()


@case
def the_same_name_elsewhere_is_another_object():
    for space, locator in VARIANTS:
        check(client.at(space, locator).write(b"name", space + b"/" + locator) == 0, "write")
    for space, locator in VARIANTS:
        check(client.at(space, locator).read(b"name") == space + b"/" + locator, "%r %r" % (space, locator))
    check(client.at(b"s", b"nowhere").read(b"name") == -errno.ENOENT, "another locator")
    check(lib.limpet_remove(client.at(b"s", b"far").pool, b"name") == 0, "remove")
    check(client.read(b"name") == -errno.ENOENT, "removed")
    check(client.at(b"s", b"near").read(b"name") == b"s/near", "its neighbour")


@case
def a_locator_that_is_the_name_is_none():
    check(client.at(b"", b"name").read(b"name") == b"/", "the object without a locator")
    check(client.write(b"name", b"/") == 0 and client.at().read(b"name") == b"/", "written")


@case
def asynchronous_requests_keep_what_was_set():
    completion = P()
    check(lib.limpet_completion_create(None, None, ctypes.byref(completion)) == 0, "completion")
    client.at(b"async", b"l" * 2048)
    check(lib.limpet_aio_write_full(client.pool, b"n" * 2048, completion, b"data", 4) == 0, "write")
    client.at()
    check(lib.limpet_completion_wait(completion) == 0, "written")
    lib.limpet_completion_release(completion)
    check(client.at(b"async", b"l" * 2048).read(b"n" * 2048) == b"data", "where it was to go")


@case
def objects_with_one_locator_lie_together():
    """They have the hash of the locator: so they are next to each other in a walk, the object of that name too."""
    check(client.at().write(b"near", b"x") == 0, "write")
    for i in range(32):
        check(client.at(b"", b"near").write(b"together.%d" % i, b"x") == 0, "write")
        check(client.at().write(b"apart.%d" % i, b"x") == 0, "write")
    slices = [client.at().walk(part=(i, 512))[0] for i in range(512)]
    together = [found for found in slices if any(entry[2].startswith(b"together.") for entry in found)]
    check(len(together) == 1 and (b"", b"", b"near") in together[0], "together: %r" % together)
    check(sum(entry[2].startswith(b"together.") for entry in together[0]) == 32, "all of them")
    check(sum(any(entry[2].startswith(b"apart.") for entry in found) for found in slices) > 8, "the others")


@case
def too_long_names_are_refused():
    check(lib.limpet_pool_set_namespace(client.pool, b"s" * 256) == -errno.ENAMETOOLONG, "namespace")
    check(lib.limpet_pool_set_locator(client.pool, b"l" * 2049) == -errno.ENAMETOOLONG, "locator")
    check(client.at(b"s" * 255, b"l" * 2048).write(b"long", b"x") == 0, "the longest")
    check(client.at(b"s" * 255).walk()[0] == [(b"s" * 255, b"l" * 2048, b"long")], "found again")
    check(client.at().write(b"n" * 2049, b"x") == -errno.ENAMETOOLONG, "name")


@case
def walks_find_each_object_once():
    made = {(b"", b"", b"w%d" % i) for i in range(700)}
    made |= {(b"few", b"", b"w%d" % i) for i in range(5)}
    made |= {(b"few", b"key", b"w%d" % i) for i in range(5)}
    for space, locator, name in made:
        check(client.at(space, locator).write(name, b"x") == 0, "write")
    few = {entry for entry in made if entry[0] == b"few"}
    found, end = client.at(b"few", b"ignored").walk()
    check(len(found) == 10 and set(found) == few, "one namespace: %r" % found)
    check(client.walk(cursor=end)[0] == [], "after its end")
    everything, _ = client.at().walk(every=True)
    check(len(set(everything)) == len(everything) and made <= set(everything), "all namespaces")
    parts, place = [], b"begin"
    while True:
        part, place = client.walk(every=True, cursor=place, limit=61)
        parts += part
        if len(part) < 61:
            break
    check(parts == everything, "a walk in parts")


@case
def slices_are_the_whole():
    everything, _ = client.at().walk(every=True)
    for count in (1, 2, 3, 7, 100):
        slices = [client.walk(every=True, part=(i, count))[0] for i in range(count)]
        check([entry for found in slices for entry in found] == everything, "%d slices" % count)
        check(count < 100 or max(map(len, slices)) < len(everything) // 4, "slices of different sizes")
    first, place = client.walk(every=True, part=(1, 3), limit=20)
    rest, _ = client.walk(every=True, part=(1, 3), cursor=place)
    check(first + rest == client.walk(every=True, part=(1, 3))[0], "a cursor in a slice")
    walk = P()
    check(lib.limpet_list_open(client.pool, True, ctypes.byref(walk)) == 0, "list")
    for wrong in ((0, 0), (3, 3), (5, 2)):
        check(lib.limpet_list_slice(walk, *wrong) == -errno.EINVAL, "slice %r" % (wrong,))
    lib.limpet_list_close(walk)


@case
def names_survive_failover():
    cluster.kill("osd.0")
    for space, locator in VARIANTS[:4]:
        check(client.at(space, locator).read(b"name") == space + b"/" + locator, "%r %r" % (space, locator))
    cluster.start_daemon("osd.0")
    cluster.wait_healthy()
    lib.limpet_pool_close(client.pool)
    lib.limpet_cluster_destroy(client.handle)


if __name__ == "__main__":
    run()
