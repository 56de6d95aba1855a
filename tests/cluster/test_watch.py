#!/usr/bin/env python3
"""Watches, notifies and leases through liblimpet and the program; also while the primary of the object
is killed, or stopped, and when the watcher is."""

import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import time

from lib.cluster import BUILD, Cluster, case, check, fails, process_alive, run, succeeds, wait_until

cluster = Cluster(mons=1, osds=3)
lib = ctypes.CDLL(os.path.join(BUILD, "lib", "liblimpet.so"))
P, S, U64, U32, N = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_size_t
I = ctypes.c_int

NOTIFIED = ctypes.CFUNCTYPE(None, P, P, U64, U64, P, N)
RECALLED = ctypes.CFUNCTYPE(None, P, P, ctypes.c_uint)
LOST = ctypes.CFUNCTYPE(None, P, P, I)


class Calls(ctypes.Structure):
    _fields_ = [("notified", NOTIFIED), ("recalled", RECALLED), ("lost", LOST)]


class Answer(ctypes.Structure):
    _fields_ = [("watcher", U64), ("cookie", U64), ("missed", ctypes.c_bool), ("data", P), ("len", N)]


class Watcher(ctypes.Structure):
    _fields_ = [("instance", U64), ("cookie", U64), ("timeout_ms", U32), ("mode", ctypes.c_uint),
                ("address", ctypes.c_char * 64)]


ARGUMENTS = {
    "cluster_create": [P, S], "cluster_config_file": [P, S], "cluster_connect": [P],
    "cluster_destroy": [P], "pool_open": [P, S, P], "pool_close": [P], "free": [P],
    "cluster_instance": [P], "write_full": [P, S, S, N], "remove": [P, S],
    "watch": [P, S, U32, P, P, P], "unwatch": [P], "watch_check": [P], "watch_cookie": [P],
    "watch_flush": [P], "notify": [P, S, S, N, U32, P], "answers_next": [P, P], "answers_destroy": [P],
    "notify_ack": [P, U64, U64, S, N], "watchers": [P, S, P, P],
    "block": [P, U64, U32], "lease": [P, S, I, U32, U32, P, P, P], "lease_valid": [P], "lease_change": [P, I, U32],
}
for name, arguments in ARGUMENTS.items():
    getattr(lib, "limpet_" + name).argtypes = arguments
lib.limpet_cluster_instance.restype = lib.limpet_watch_cookie.restype = lib.limpet_lease_valid.restype = U64
lib.limpet_watch_check.restype = ctypes.c_int64
EXCLUSIVE, SHARED = 2, 1


def expect(result, wanted, what):
    check(result == wanted, "%s: %r instead of %r" % (what, result, wanted))


class Client:
    def __init__(self, pool=b"data"):
        self.handle, self.pool = P(), P()
        expect(lib.limpet_cluster_create(ctypes.byref(self.handle), None), 0, "create")
        expect(lib.limpet_cluster_config_file(self.handle, cluster.conf.encode()), 0, "file")
        expect(lib.limpet_cluster_connect(self.handle), 0, "connect")
        expect(lib.limpet_pool_open(self.handle, pool, ctypes.byref(self.pool)), 0, "pool")

    def instance(self):
        return lib.limpet_cluster_instance(self.handle)

    def close(self):
        lib.limpet_pool_close(self.pool)
        lib.limpet_cluster_destroy(self.handle)

    def notify(self, name, data, timeout_ms=0):
        """The result, and lists of (instance, cookie, answer) and (instance, cookie)."""
        answers, answer, got, missed = P(), Answer(), [], []
        rc = lib.limpet_notify(self.pool, name, data, len(data), timeout_ms, ctypes.byref(answers))
        while answers and lib.limpet_answers_next(answers, ctypes.byref(answer)) == 0:
            if answer.missed:
                missed.append((answer.watcher, answer.cookie))
            else:
                got.append((answer.watcher, answer.cookie, ctypes.string_at(answer.data, answer.len)))
        lib.limpet_answers_destroy(answers)
        return rc, sorted(got), sorted(missed)

    def watchers(self, name):
        array, n = ctypes.POINTER(Watcher)(), N()
        rc = lib.limpet_watchers(self.pool, name, ctypes.byref(array), ctypes.byref(n))
        if rc != 0:
            return rc
        found = sorted((array[i].instance, array[i].cookie) for i in range(n.value))
        lib.limpet_free(array)
        return found


class Watch:
    """Notes what it is told, and answers with the same in capitals."""

    def __init__(self, client, name, timeout_ms=0, mode=0, patience_ms=0, answers=True):
        self.client, self.seen, self.recalls, self.errors = client, [], [], []
        self.answers, self.handle = answers, P()
        self.calls = Calls(NOTIFIED(self.on_notified), RECALLED(self.on_recalled), LOST(self.on_lost))
        if mode:
            self.rc = lib.limpet_lease(client.pool, name, mode, timeout_ms, patience_ms, ctypes.byref(self.calls),
                                       None, ctypes.byref(self.handle))
        else:
            self.rc = lib.limpet_watch(client.pool, name, timeout_ms, ctypes.byref(self.calls), None,
                                       ctypes.byref(self.handle))
        self.cookie = lib.limpet_watch_cookie(self.handle) if self.rc == 0 else None

    def on_notified(self, watch, _arg, notifier, ident, data, length):
        text = ctypes.string_at(data, length) if length else b""
        self.seen.append((notifier, ident, text))
        if self.answers:
            lib.limpet_notify_ack(watch, notifier, ident, text.upper(), length)

    def on_recalled(self, _watch, _arg, mode):
        self.recalls.append(mode)

    def on_lost(self, _watch, _arg, error):
        self.errors.append(error)

    def me(self):
        return (self.client.instance(), self.cookie)

    def end(self):
        return lib.limpet_unwatch(self.handle)


def primary():
    """Of the only group of the pool "one": "osd.N"."""
    pools = {pool["pool_name"]: pool["pool"] for pool in json.loads(cluster.limpet("osd", "dump", "-f", "json").out)["pools"]}
    groups = json.loads(succeeds(cluster.limpet("pg", "ls", "-f", "json")).out)
    groups = groups if isinstance(groups, list) else groups["pg_stats"]
    return ["osd.%d" % pg["acting_primary"] for pg in groups if pg["pgid"] == "%d.0" % pools["one"]][0]


@case
def starts():
    cluster.start()
    cluster.pool("data")
    succeeds(cluster.limpet("pool", "create", "one", "1"))
    cluster.wait_healthy()


@case
def watchers_are_told_and_answer():
    a, b = Client(), Client()
    expect(lib.limpet_write_full(a.pool, b"w", b"x", 1), 0, "write")
    expect(Watch(a, b"missing").rc, -errno.ENOENT, "watch of a missing object")
    expect(a.notify(b"missing", b"x")[0], -errno.ENOENT, "notify of a missing object")
    expect(a.notify(b"w", b"nobody"), (0, [], []), "nobody watches")
    one, two, silent = Watch(a, b"w"), Watch(b, b"w"), Watch(b, b"w", answers=False)
    expect([one.rc, two.rc, silent.rc], [0, 0, 0], "watch")
    expect(a.watchers(b"w"), sorted([one.me(), two.me(), silent.me()]), "watchers")
    # Who would answer may need longer, on a busy machine.
    for patience in (300, 3000, 30000):
        rc, got, missed = a.notify(b"w", b"hello", patience)
        expect(rc, -errno.ETIMEDOUT, "one does not answer")
        if len(missed) == 1:
            break
    expect(got, sorted([one.me() + (b"HELLO",), two.me() + (b"HELLO",)]), "answers")
    expect(missed, [silent.me()], "missed")
    expect(silent.end(), 0, "unwatch")
    expect(a.notify(b"w", b"again"), (0, sorted([one.me() + (b"AGAIN",), two.me() + (b"AGAIN",)]), []), "again")
    check(0 <= lib.limpet_watch_check(one.handle) < 30000, "check")
    expect(lib.limpet_remove(a.pool, b"w"), 0, "remove")
    wait_until("both are lost", lambda: one.errors and two.errors, 30)
    check(lib.limpet_watch_check(one.handle) < 0, "check of one that is lost")
    expect([one.end(), two.end()], [0, 0], "end of those that are lost")
    a.close()
    b.close()


@case
def notifies_survive_the_primary():
    """The primary is killed while a notify waits: all watchers answer the next one, and nobody notices."""
    a = Client(b"one")
    name = b"failover"
    expect(lib.limpet_write_full(a.pool, name, b"x", 1), 0, "write")
    others = [Client(b"one") for _ in range(3)]
    watches = [Watch(client, name) for client in others]
    late = Watch(others[0], name, answers=False)
    expect([w.rc for w in watches], [0] * 3, "watch")
    child = subprocess.Popen([sys.executable, "-B", __file__, "notify", cluster.conf, name.decode(), "30000"],
                             stdout=subprocess.PIPE)
    try:
        answered(watches, late, child)
    finally:
        child.kill()
        child.wait()
    expect([w.end() for w in watches + [late]], [0] * 4, "unwatch")
    for osd in ("osd.0", "osd.1", "osd.2"):
        if not process_alive(cluster.pid(osd)):
            cluster.start_daemon(osd)
    cluster.wait_healthy()
    for client in [a] + others:
        client.close()


def answered(watches, late, child):
    wait_until("all were told", lambda: all(w.seen for w in watches) and late.seen, 20)
    cluster.kill(primary())
    wait_until("all were told again", lambda: len(late.seen) >= 2, 30)
    check(late.seen[0] == late.seen[1], "the same notify has two names: %r" % late.seen)
    notifier, ident, _text = late.seen[0]
    lib.limpet_notify_ack(late.handle, notifier, ident, b"at last", 7)
    out, _ = child.communicate(timeout=30)
    expect(child.returncode, 0, "the notifier")
    got = sorted([w.me() + (b"WAIT",) for w in watches] + [late.me() + (b"at last",)])
    expect(eval(out.decode()), (0, got, []), "its answers")
    expect([w.errors for w in watches + [late]], [[]] * 4, "nobody has noticed")


def all_stopped(pid):
    """Every thread of the process."""
    states = []
    for thread in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/stat" % (pid, thread), encoding="utf-8") as file:
            states.append(file.read().rsplit(")", 1)[1].split()[0])
    return set(states) == {"T"}


@case
def the_dead_are_forgotten_in_time():
    """A watcher that is stopped stays in the list for its time-out, and then is not waited for."""
    a = Client()
    expect(lib.limpet_write_full(a.pool, b"dead", b"x", 1), 0, "write")
    child = subprocess.Popen([os.path.join(BUILD, "bin", "limpet"), "--conf", cluster.conf, "rados", "-p", "data", "watch",
                              "dead", "--timeout", "4"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        expect(child.stdout.readline(), b"press enter to exit...\n", "the program")
        expect(len(a.watchers(b"dead")), 1, "watchers")
        begun = time.monotonic()
        child.send_signal(signal.SIGSTOP)
        wait_until("it has stopped", lambda: all_stopped(child.pid), 30)
        rc, got, missed = a.notify(b"dead", b"x", 60000)
        check(time.monotonic() - begun > 4 * 0.7, "it was given up after %.1f s" % (time.monotonic() - begun))
        expect((rc, got, len(missed)), (-errno.ETIMEDOUT, [], 1), "notify")
        expect(a.watchers(b"dead"), [], "watchers afterwards")
        child.send_signal(signal.SIGCONT)
        check(child.stdout.readline().startswith(b"ERROR cookie 1 err (107)"), "it is told that it is lost")
        child.wait(30)
    finally:
        child.kill()
        child.wait()
    a.close()


@case
def the_program_notifies():
    a = Client()
    expect(lib.limpet_write_full(a.pool, b"cli", b"x", 1), 0, "write")
    watch = Watch(a, b"cli")
    listed = succeeds(cluster.rados("-p", "data", "listwatchers", "cli")).text
    check("client.%d cookie=%d" % watch.me() in listed, listed)
    told = succeeds(cluster.rados("-p", "data", "notify", "cli", "hi")).text
    check(told.startswith("reply client.%d cookie %d : 2 bytes" % watch.me()) and "|HI|" in told, told)
    expect([text for _, _, text in watch.seen], [b"hi"], "told")
    fails(cluster.rados("-p", "data", "watch", "missing"), errno.ENOENT)
    expect(watch.end(), 0, "unwatch")
    a.close()


@case
def leases_are_recalled_and_taken_over():
    a, b = Client(), Client()
    expect(lib.limpet_write_full(a.pool, b"lease", b"x", 1), 0, "write")
    shared, also = Watch(a, b"lease", mode=SHARED), Watch(b, b"lease", mode=SHARED)
    expect([shared.rc, also.rc], [0, 0], "two share")
    check(lib.limpet_lease_valid(shared.handle) > 0, "it is valid")
    expect(Watch(b, b"lease", mode=EXCLUSIVE).rc, -errno.EBUSY, "exclusive beside shared")
    expect([shared.end(), also.end()], [0, 0], "given back")
    held = Watch(a, b"lease", mode=EXCLUSIVE, timeout_ms=2000)
    expect(held.rc, 0, "exclusive")
    taken = Watch(b, b"lease", mode=SHARED, timeout_ms=2000, patience_ms=60000)
    expect(taken.rc, 0, "taken over from one who does not answer")
    expect(held.recalls[0], SHARED, "recalled")
    wait_until("it knows", lambda: held.errors == [-errno.ENOTCONN], 30)
    expect(lib.limpet_lease_valid(held.handle), 0, "of the former holder")
    expect(lib.limpet_lease_change(taken.handle, EXCLUSIVE, 0), 0, "more")
    expect(lib.limpet_lease_change(taken.handle, SHARED, 0), 0, "less")
    expect([held.end(), taken.end()], [0, 0], "end")
    a.close()
    b.close()


@case
def blocked_clients_are_fenced():
    a, b = Client(), Client()
    expect(lib.limpet_write_full(a.pool, b"fence", b"x", 1), 0, "write")
    held = Watch(a, b"fence", mode=EXCLUSIVE, timeout_ms=60000)
    expect(held.rc, 0, "exclusive")
    expect(lib.limpet_block(b.handle, a.instance(), 600), 0, "block")
    taken = Watch(b, b"fence", mode=EXCLUSIVE, timeout_ms=60000, patience_ms=30000)
    expect(taken.rc, 0, "taken over at once")
    expect(lib.limpet_write_full(a.pool, b"fence", b"late", 4), -errno.ESHUTDOWN, "write of who is blocked")
    wait_until("it is told", lambda: held.errors == [-errno.ESHUTDOWN], 30)
    check("/%d " % a.instance() in succeeds(cluster.limpet("osd", "blocklist", "ls")).text, "it is listed")
    succeeds(cluster.limpet("osd", "blocklist", "rm", "0.0.0.0:0/%d" % a.instance()))
    expect(json.loads(succeeds(cluster.limpet("osd", "blocklist", "ls", "-f", "json")).out), [], "nobody is listed")
    fails(cluster.limpet("osd", "blocklist", "add", "nonsense"), errno.EINVAL)
    expect(taken.end(), 0, "end")
    held.end()
    b.close()
    a.close()


def child_notify(conf, name, timeout_ms):
    cluster_conf = conf
    type(cluster).conf = property(lambda self: cluster_conf)
    print(repr(Client(b"one").notify(name.encode(), b"wait", int(timeout_ms))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["notify"]:
        child_notify(*sys.argv[2:])
        sys.exit(0)
    run()
