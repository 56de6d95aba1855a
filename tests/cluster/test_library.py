#!/usr/bin/env python3
"""liblimpet as programs use it: threads, callbacks, cancellation, cursors, the end."""

import ctypes
import errno
import os
import random
import subprocess
import sys
import threading
import time

from lib.cluster import BUILD, Cluster, case, check, random_bytes, run, wait_until

LIBRARY = os.path.join(BUILD, "lib", "liblimpet.so")


def begin_with_sanitizer():
    """A library with AddressSanitizer wants its runtime to be the first of the process. Python itself
    frees little at its end, so leaks are not looked for."""
    for line in subprocess.run(["ldd", LIBRARY], stdout=subprocess.PIPE, text=True,
                               check=True).stdout.splitlines():
        words = line.split()
        if "libasan" in line and len(words) > 2 and "LD_PRELOAD" not in os.environ:
            options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
            os.execve(sys.executable, [sys.executable, "-B"] + sys.argv,
                      dict(os.environ, LD_PRELOAD=words[2], ASAN_OPTIONS=options))


begin_with_sanitizer()
cluster = Cluster(mons=1, osds=3)
lib = ctypes.CDLL(LIBRARY, use_errno=True)
CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
POINTER = ctypes.c_void_p


class Entry(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("name_len", ctypes.c_size_t),
                ("space", ctypes.c_char_p), ("space_len", ctypes.c_size_t),
                ("locator", POINTER), ("locator_len", ctypes.c_size_t)]


class Stat(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint64), ("mtime_ns", ctypes.c_uint64)]


class Version(ctypes.Structure):
    _fields_ = [("config", ctypes.c_uint64), ("sequence", ctypes.c_uint64)]


def declare():
    lib.limpet_read.restype = ctypes.c_ssize_t
    lib.limpet_read.argtypes = [POINTER, ctypes.c_char_p, POINTER, ctypes.c_size_t, ctypes.c_uint64]
    lib.limpet_write.argtypes = [POINTER, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t,
                                 ctypes.c_uint64]
    for name in ("limpet_write_full", "limpet_append"):
        getattr(lib, name).argtypes = [POINTER, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
    lib.limpet_stat.argtypes = [POINTER, ctypes.c_char_p, POINTER]
    lib.limpet_remove.argtypes = [POINTER, ctypes.c_char_p]
    lib.limpet_create.argtypes = [POINTER, ctypes.c_char_p, ctypes.c_bool]
    lib.limpet_truncate.argtypes = [POINTER, ctypes.c_char_p, ctypes.c_uint64]
    lib.limpet_completion_wait.restype = ctypes.c_ssize_t
    lib.limpet_completion_result.restype = ctypes.c_ssize_t
    lib.limpet_completion_version.restype = Version
    lib.limpet_completion_is_done.restype = ctypes.c_bool
    for name in ("wait", "result", "version", "is_done", "release", "cancel"):
        getattr(lib, "limpet_completion_" + name).argtypes = [POINTER]
    lib.limpet_completion_create.argtypes = [CALLBACK, POINTER, POINTER]
    lib.limpet_aio_write_full.argtypes = [POINTER, ctypes.c_char_p, POINTER, ctypes.c_char_p,
                                          ctypes.c_size_t]
    lib.limpet_aio_append.argtypes = lib.limpet_aio_write_full.argtypes
    lib.limpet_aio_read.argtypes = [POINTER, ctypes.c_char_p, POINTER, POINTER, ctypes.c_size_t,
                                    ctypes.c_uint64]
    lib.limpet_aio_operate.argtypes = [POINTER, ctypes.c_char_p, POINTER, POINTER]
    lib.limpet_watch.argtypes = [POINTER, ctypes.c_char_p, ctypes.c_uint32, POINTER, POINTER, POINTER]
    lib.limpet_notify.argtypes = [POINTER, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t,
                                  ctypes.c_uint32, POINTER]
    lib.limpet_op_notify.argtypes = [POINTER, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint32, POINTER,
                                     POINTER]
    lib.limpet_cluster_error.restype = ctypes.c_char_p
    lib.limpet_cluster_error.argtypes = [POINTER]
    for name in ("limpet_cluster_destroy", "limpet_pool_close", "limpet_list_close", "limpet_free",
                 "limpet_cluster_connect", "limpet_op_destroy", "limpet_answers_destroy", "limpet_unwatch"):
        getattr(lib, name).argtypes = [POINTER]
    lib.limpet_cluster_config_file.argtypes = [POINTER, ctypes.c_char_p]
    lib.limpet_cluster_config_set.argtypes = [POINTER, ctypes.c_char_p, ctypes.c_char_p]
    lib.limpet_pool_open.argtypes = [POINTER, ctypes.c_char_p, POINTER]
    lib.limpet_list_open.argtypes = [POINTER, ctypes.c_bool, POINTER]
    lib.limpet_list_next.argtypes = [POINTER, POINTER]
    lib.limpet_list_cursor.argtypes = [POINTER, POINTER]
    lib.limpet_list_seek.argtypes = [POINTER, ctypes.c_char_p]
    lib.limpet_op_create.restype = POINTER
    lib.limpet_op_write.argtypes = [POINTER, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
    lib.limpet_op_create_object.argtypes = [POINTER, ctypes.c_bool]
    lib.limpet_op_read.argtypes = [POINTER, POINTER, ctypes.c_size_t, ctypes.c_uint64, POINTER,
                                   POINTER]
    lib.limpet_op_stat.argtypes = [POINTER, POINTER, POINTER]
    lib.limpet_operate.argtypes = [POINTER, ctypes.c_char_p, POINTER, POINTER]


class Client:
    def __init__(self, options=None):
        self.handle = POINTER()
        check(lib.limpet_cluster_create(ctypes.byref(self.handle), b"client.admin") == 0, "create")
        check(lib.limpet_cluster_config_file(self.handle, cluster.conf.encode()) == 0, "config")
        for name, value in (options or {}).items():
            check(lib.limpet_cluster_config_set(self.handle, name.encode(), value.encode()) == 0, name)
        error = lib.limpet_cluster_connect(self.handle)
        check(error == 0, "connect: %d %s" % (error, lib.limpet_cluster_error(self.handle)))
        self.pool = POINTER()
        error = lib.limpet_pool_open(self.handle, b"data", ctypes.byref(self.pool))
        check(error == 0, "pool: %d" % error)

    def write_full(self, name, data):
        return lib.limpet_write_full(self.pool, name, data, len(data))

    def read(self, name, size=1 << 20, offset=0):
        data = ctypes.create_string_buffer(size)
        got = lib.limpet_read(self.pool, name, data, size, offset)
        return got if got < 0 else data.raw[:got]

    def names(self, cursor=None, limit=None):
        walk, entry, found = POINTER(), Entry(), []
        check(lib.limpet_list_open(self.pool, False, ctypes.byref(walk)) == 0, "list")
        if cursor is not None:
            check(lib.limpet_list_seek(walk, cursor) == 0, "seek %r" % cursor)
        result = 0
        while limit is None or len(found) < limit:
            result = lib.limpet_list_next(walk, ctypes.byref(entry))
            if result != 0:
                break
            found.append(ctypes.string_at(entry.name, entry.name_len))
        check(result in (0, -errno.ENOENT), "list: %d" % result)
        text = POINTER()
        check(lib.limpet_list_cursor(walk, ctypes.byref(text)) == 0, "cursor")
        place = ctypes.string_at(text)
        lib.limpet_free(text)
        lib.limpet_list_close(walk)
        return found, place

    def close(self):
        lib.limpet_pool_close(self.pool)
        lib.limpet_cluster_destroy(self.handle)


class Request:
    """An asynchronous request with a callback that counts."""

    def __init__(self, callback=None):
        self.calls = 0
        self.user = callback
        self.callback = CALLBACK(self.called)
        self.handle = POINTER()
        check(lib.limpet_completion_create(self.callback, None, ctypes.byref(self.handle)) == 0, "create")

    def called(self, handle, arg):
        if self.user:
            self.user(self)
        self.calls += 1

    def wait(self):
        return lib.limpet_completion_wait(self.handle)

    def release(self):
        lib.limpet_completion_release(self.handle)


declare()


@case
def starts_healthy():
    cluster.start()
    cluster.pool("data")


@case
def exports_nothing_but_its_own_names():
    symbols = subprocess.run(["nm", "-D", "--defined-only", lib._name], capture_output=True, text=True,
                             check=True).stdout.split("\n")
    names = [line.split()[-1].split("@")[0] for line in symbols if line]
    foreign = [name for name in names if not name.startswith("limpet_") or "__" in name]
    check(len(names) > 60 and not foreign, "exports %r" % foreign)


@case
def calls_do_what_they_say():
    client = Client()
    check(client.write_full(b"calls", b"0123456789") == 0, "write_full")
    check(lib.limpet_write(client.pool, b"calls", b"abc", 3, 12) == 0, "write")
    check(client.read(b"calls") == b"0123456789\0\0abc", "hole")
    check(client.read(b"calls", 4, 9) == b"9\0\0a", "range")
    check(client.read(b"calls", 4, 15) == b"", "behind the end")
    check(lib.limpet_append(client.pool, b"calls", b"!", 1) == 0, "append")
    stat = Stat()
    check(lib.limpet_stat(client.pool, b"calls", ctypes.byref(stat)) == 0 and stat.size == 16, "stat")
    check(abs(stat.mtime_ns / 1e9 - time.time()) < 60, "mtime")
    check(lib.limpet_truncate(client.pool, b"calls", 2) == 0 and client.read(b"calls") == b"01", "truncate")
    check(lib.limpet_create(client.pool, b"calls", True) == -errno.EEXIST, "create exclusive")
    check(lib.limpet_remove(client.pool, b"calls") == 0, "remove")
    check(client.read(b"calls") == -errno.ENOENT, "read of a removed object")
    check(client.write_full(b"", b"x") == -errno.EINVAL, "empty name")
    check(client.write_full(b"n" * 2049, b"x") == -errno.ENAMETOOLONG, "long name")
    check(client.write_full(b"n" * 2048, b"x") == 0, "longest name")
    check(lib.limpet_write(client.pool, b"calls", b"x", 1, 128 << 20) == -errno.EFBIG, "beyond the limit")
    client.close()


@case
def steps_of_an_operation_are_all_or_none():
    client = Client()
    op = lib.limpet_op_create()
    lib.limpet_op_create_object(op, True)
    lib.limpet_op_write(op, b"content", 7, 0)
    check(lib.limpet_operate(client.pool, b"steps", op, None) == 0, "first")
    lib.limpet_op_destroy(op)
    op = lib.limpet_op_create()
    lib.limpet_op_write(op, b"changed", 7, 0)
    lib.limpet_op_create_object(op, True)
    check(lib.limpet_operate(client.pool, b"steps", op, None) == -errno.EEXIST, "second")
    lib.limpet_op_destroy(op)
    op, data, stat, got = lib.limpet_op_create(), ctypes.create_string_buffer(20), Stat(), ctypes.c_size_t()
    lib.limpet_op_read(op, data, 20, 0, ctypes.byref(got), None)
    lib.limpet_op_stat(op, ctypes.byref(stat), None)
    version = Version()
    check(lib.limpet_operate(client.pool, b"steps", op, ctypes.byref(version)) == 0, "reads")
    check(data.raw[:got.value] == b"content" and stat.size == 7, "a failed operation changed something")
    check(version.sequence > 0, "no version")
    lib.limpet_op_destroy(op)
    client.close()


@case
def a_request_may_read_more_than_others_leave():
    """The first step fills what an OSD reads at a time; the second one must not wait for it."""
    client = Client()
    size = 128 << 20
    check(client.write_full(b"large", b"l" * size) == 0, "write")
    op, large, small = lib.limpet_op_create(), ctypes.create_string_buffer(size), ctypes.create_string_buffer(3)
    lib.limpet_op_read(op, large, size, 0, None, None)
    lib.limpet_op_read(op, small, 3, 7, None, None)
    check(lib.limpet_operate(client.pool, b"large", op, None) == 0, "reads")
    check(large.raw == b"l" * size and small.raw == b"lll", "other data")
    lib.limpet_op_destroy(op)
    check(lib.limpet_remove(client.pool, b"large") == 0, "remove")
    client.close()


@case
def many_threads_share_a_connection():
    client = Client()
    problems = []

    def work(number):
        generator = random.Random(number)
        for turn in range(50):
            name = b"thread-%d-%d" % (number, turn % 5)
            data = random_bytes(generator.randrange(20000), generator.random())
            if client.write_full(name, data) != 0 or client.read(name) != data:
                problems.append((number, turn))
    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not problems, "wrong results: %r" % problems)
    client.close()


@case
def callbacks_come_once_in_order_and_may_call_anything():
    client = Client()
    order, nested = [], []

    def callback(request):
        order.append(request.number)
        if request.number % 10 == 0:
            nested.append(client.read(b"appended", 4))
    requests = []
    for number in range(200):
        request = Request(callback)
        request.number = number
        check(lib.limpet_aio_append(client.pool, b"appended", request.handle, b"%03d." % number, 4) == 0,
              "append %d" % number)
        requests.append(request)
    for request in requests:
        check(request.wait() == 0, "result")
    wait_until("callbacks", lambda: all(request.calls == 1 for request in requests), 20)
    check(order == list(range(200)), "callbacks of one object out of order")
    check(client.read(b"appended") == b"".join(b"%03d." % number for number in range(200)),
          "appends out of order")
    check(nested == [b"000."] * 20, "calls from callbacks: %r" % nested)
    for request in requests:
        request.release()
    client.close()


@case
def waiting_and_callbacks_mix_on_many_threads():
    client = Client()
    problems = []

    def work(number):
        for turn in range(30):
            request = Request()
            data = random_bytes(5000, "%d %d" % (number, turn))
            name = b"mixed-%d" % number
            if lib.limpet_aio_write_full(client.pool, name, request.handle, data, len(data)) != 0:
                problems.append("submit")
            if turn % 2 and request.wait() != 0:
                problems.append("wait")
            if client.read(name) != data:
                problems.append("read after write")
            wait_until("callback", lambda: request.calls == 1, 20)
            request.release()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not problems, "%r" % problems)
    client.close()


class Silence:
    """An object with a watcher that does not answer: whoever notifies it waits as long as he said."""

    def __init__(self, client):
        calls = (POINTER * 3)()
        self.client, self.watch, self.ops = client, POINTER(), []
        check(client.write_full(b"silence", b"") == 0, "write")
        check(lib.limpet_watch(client.pool, b"silence", 0, calls, None, ctypes.byref(self.watch)) == 0,
              "watch")

    def notify(self, timeout_ms):
        return lib.limpet_notify(self.client.pool, b"silence", b"", 0, timeout_ms, None)

    def notify_later(self, timeout_ms):
        answers, request, op = POINTER(), Request(), lib.limpet_op_create()
        self.ops.append((op, request, answers))
        check(lib.limpet_op_notify(op, b"", 0, timeout_ms, ctypes.byref(answers), None) == 0 and
              lib.limpet_aio_operate(self.client.pool, b"silence", request.handle, op) == 0, "notify")

    def end(self):
        for op, request, answers in self.ops:
            check(request.wait() == 0, "notify")
            lib.limpet_op_destroy(op)
            lib.limpet_answers_destroy(answers)
            request.release()
        check(lib.limpet_unwatch(self.watch) == 0, "unwatch")


def seconds_of_a_write(client):
    request, begun = Request(), time.monotonic()
    check(lib.limpet_aio_write_full(client.pool, b"prompt", request.handle, b"x", 1) == 0, "submit")
    while not lib.limpet_completion_is_done(request.handle):
        time.sleep(0.0005)
    return request, time.monotonic() - begun


def writes_during_a_callback(callback, beside):
    """How long they take while much is under way of which nothing ends for now."""
    client = Client()
    silence = Silence(client)
    for _ in range(30):
        silence.notify_later(4000)
    running, ended = threading.Event(), threading.Event()

    def run_callback(request):
        running.set()
        callback(silence)
        ended.set()
    first = Request(run_callback)
    check(lib.limpet_aio_write_full(client.pool, b"first", first.handle, b"x", 1) == 0, "submit")
    check(running.wait(60), "no callback")
    thread = threading.Thread(target=beside, args=(silence,))
    thread.start()
    time.sleep(0.2)
    written = [seconds_of_a_write(client) for _ in range(8)]
    times = [seconds for _, seconds in written]
    check(not ended.is_set() or max(times) > 2, "the callback ended early: %r" % times)
    thread.join()
    wait_until("callbacks", lambda: all(request.calls == 1 for request, _ in written), 20)
    silence.end()
    for request in [first] + [request for request, _ in written]:
        request.release()
    client.close()
    return times


@case
def requests_leave_while_a_callback_waits():
    """Whoever is awake sends them: the thread that waits, which may be the one of the callback."""
    for callback, beside in ((lambda silence: silence.notify(3500), lambda silence: None),
                             (lambda silence: time.sleep(3), lambda silence: silence.notify(3500))):
        times = writes_during_a_callback(callback, beside)
        check(sum(seconds > 0.4 for seconds in times) <= 1, "seconds of writes: %r" % times)


@case
def too_much_at_once_makes_the_caller_wait():
    client = Client({"client_max_bytes_in_flight": "1M", "client_max_ops_in_flight": "4"})
    data = random_bytes(600000, "much")
    requests = [Request() for _ in range(30)]
    for number, request in enumerate(requests):
        check(lib.limpet_aio_write_full(client.pool, b"much-%d" % number, request.handle, data,
                                        len(data)) == 0, "submit")
        unfinished = sum(not lib.limpet_completion_is_done(other.handle) for other in requests[:number])
        check(unfinished <= 2, "%d requests of 600 KB within a budget of 1 MB" % unfinished)
    for request in requests:
        check(request.wait() == 0, "write")
        request.release()
    client.close()


@case
def a_request_without_an_end_can_be_cancelled_or_times_out():
    client, impatient = Client(), Client({"rados_osd_op_timeout": "1s"})
    check(client.write_full(b"stuck", b"x") == 0 and impatient.write_full(b"stuck", b"x") == 0, "write")
    for name in ("osd.1", "osd.2"):
        cluster.kill(name)
    begun = time.monotonic()
    check(impatient.write_full(b"stuck", b"y") == -errno.ETIMEDOUT, "time-out")
    check(0.9 < time.monotonic() - begun < 5, "time-out after %.1f s" % (time.monotonic() - begun))
    request = Request()
    check(lib.limpet_aio_write_full(client.pool, b"stuck", request.handle, b"z", 1) == 0, "submit")
    check(not lib.limpet_completion_is_done(request.handle), "written without a quorum of copies")
    lib.limpet_completion_cancel(request.handle)
    check(request.wait() == -errno.ECANCELED, "cancel")
    # A request that waits for OSDs to come back ends well when they do.
    waiting = Request()
    check(lib.limpet_aio_write_full(client.pool, b"stuck", waiting.handle, b"w", 1) == 0, "submit")
    for name in ("osd.1", "osd.2"):
        cluster.start_daemon(name)
    check(waiting.wait() == 0 and client.read(b"stuck") == b"w", "write after the OSDs came back")
    request.release()
    waiting.release()
    impatient.close()
    client.close()
    cluster.wait_healthy()


@case
def destroying_a_cluster_ends_what_is_under_way():
    client = Client()
    requests = [Request() for _ in range(50)]
    for request in requests:
        lib.limpet_aio_write_full(client.pool, b"ended", request.handle, b"x" * 1000, 1000)
    client.close()
    results = {lib.limpet_completion_result(request.handle) for request in requests}
    check(results <= {0, -errno.ECANCELED}, "results %r" % results)
    check(all(request.calls == 1 for request in requests), "not every callback was made once")
    for request in requests:
        request.release()


# Large requests are under way when the program ends, which waits a little after all that its
# libraries do at the end: what was registered first is called last.
ENDING_PROGRAM = """
import ctypes, sys
libc = ctypes.CDLL(None)
libc.__cxa_atexit(ctypes.cast(libc.usleep, ctypes.c_void_p), ctypes.c_void_p(200000), None)
lib = ctypes.CDLL(sys.argv[1])
cluster, pool, request = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
assert lib.limpet_cluster_create(ctypes.byref(cluster), b"client.admin") == 0
assert lib.limpet_cluster_config_file(cluster, sys.argv[2].encode()) == 0
assert lib.limpet_cluster_connect(cluster) == 0
assert lib.limpet_pool_open(cluster, b"data", ctypes.byref(pool)) == 0
data = bytes(1 << 20)
for number in range(40):
    assert lib.limpet_completion_create(None, None, ctypes.byref(request)) == 0
    assert lib.limpet_aio_write_full(pool, b"ending.%d" % number, request, data,
                                     ctypes.c_size_t(len(data))) == 0
libc.exit(0)
"""


@case
def a_program_may_end_while_large_requests_are_under_way():
    for _ in range(8):
        result = subprocess.run([sys.executable, "-c", ENDING_PROGRAM, LIBRARY, cluster.conf],
                                stderr=subprocess.PIPE, text=True, check=False)
        check(result.returncode == 0, "ended with %d %s" % (result.returncode, result.stderr))


@case
def a_walk_goes_on_from_a_cursor():
    client = Client()
    wanted = {b"walk-%d" % number for number in range(300)}
    for name in wanted:
        check(client.write_full(name, b"") == 0, "write")
    everything, end = client.names()
    check(wanted <= set(everything) and len(everything) == len(set(everything)), "a name is missing or doubled")
    found, place = [], b"begin"
    while True:
        part, place = client.names(place, 37)
        found += part
        if len(part) < 37:
            break
    check(found == everything, "a walk in parts differs from one in a piece")
    check(client.names(end)[0] == [], "something follows the last cursor")
    walk = POINTER()
    check(lib.limpet_list_open(client.pool, False, ctypes.byref(walk)) == 0, "list")
    for nonsense in (b"x", b"00", b"begun", b"ff" * 5000):
        check(lib.limpet_list_seek(walk, nonsense) == -errno.EINVAL, "cursor %r" % nonsense[:10])
    lib.limpet_list_close(walk)
    client.close()


@case
def an_idle_connection_lives_on():
    """Nothing is driven while a program that only waits does something else; the next call works."""
    client = Client()
    check(client.write_full(b"idle", b"x") == 0, "write")
    cluster.kill("osd.0")
    wait_until("osd.0 down", lambda: cluster.status()["osdmap"]["num_up_osds"] == 2, 30)
    cluster.start_daemon("osd.0")
    cluster.wait_healthy()
    check(client.read(b"idle") == b"x" and client.write_full(b"idle", b"y") == 0, "after a pause")
    client.close()


if __name__ == "__main__":
    run()
