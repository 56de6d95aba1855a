#!/usr/bin/env python3
"""librados.so.2 of client/compat under Ceph's unmodified Python module (package python3-rados)."""

import os
import subprocess
import sys

from lib.cluster import BUILD, Cluster, case, check, command, run, succeeds
from lib.librados import LIBRARY, environment

cluster = Cluster(mons=1, osds=3)
WAITS = os.path.join(BUILD, "compat-tests", "waits")
PYTHON = "/usr/bin/python3"  # The one that the distribution's modules are for.

# What each program begins with: the module, connected.
BEGIN = """
import errno, rados, sys, threading
def check(condition, message):
    if not condition:
        sys.exit("%s" % (message,))
def fails(error, function, *arguments, **named):
    try:
        function(*arguments, **named)
    except Exception as found:
        check(getattr(found, "errno", None) == error, "%r, not errno %d" % (found, error))
    else:
        sys.exit("%s should fail with errno %d" % (function, error))
cluster = rados.Rados(conffile="", rados_id="admin")
cluster.connect()
"""


def python(program):
    """Runs it with our library in place of Ceph's, and nothing else changed."""
    result = succeeds(command([PYTHON, "-B", "-c", BEGIN + program + "\ncluster.shutdown()\n"],
                              env=environment(cluster)))
    return result.text


@case
def starts():
    cluster.start()
    cluster.pool("data")


@case
def clusters_and_pools():
    python("""
import json
check(str(cluster.version()) == "3.0.0", cluster.version())
check(len(cluster.get_fsid()) == 36, cluster.get_fsid())
check(cluster.get_instance_id() != 0, "instance")
check("data" in cluster.list_pools(), cluster.list_pools())
check(cluster.get_cluster_stats()["kb"] > 0, "stats")
check(cluster.pool_exists("data") and not cluster.pool_exists("none"), "pool_exists")
cluster.create_pool("made")
fails(errno.EEXIST, cluster.create_pool, "made")
number = cluster.pool_lookup("made")
check(cluster.pool_reverse_lookup(number) == "made", "names and numbers")
cluster.delete_pool("made")
fails(errno.ENOENT, cluster.delete_pool, "made")
fails(errno.ENOENT, cluster.open_ioctx, "none")
code, out, status = cluster.mon_command(json.dumps({"prefix": "osd pool ls", "format": "json"}), b"")
check(code == 0 and "data" in json.loads(out), (code, out, status))
code, out, status = cluster.mon_command(json.dumps({"prefix": "no such command"}), b"")
check(code == -errno.EINVAL, (code, out, status))
check(cluster.conf_get("mon_host"), "conf_get")
fails(errno.ENOENT, cluster.conf_set, "no_such_option", "1")
cluster.wait_for_latest_osdmap()
""")


@case
def commands_wait_for_monitors():
    """A stopped monitor: with rados_mon_op_timeout a command ends by then, without it goes on when the monitor does."""
    pid = cluster.pid("mon.a")
    python("""
import json, os, signal, time
ask = json.dumps({"prefix": "osd pool ls", "format": "json"})
hurried = rados.Rados(conffile="", rados_id="admin", conf={"rados_mon_op_timeout": "1"})
hurried.connect()
patient = rados.Rados(conffile="", rados_id="admin", conf={"client_mount_timeout": "1"})
patient.connect()
answers = []
os.kill(%d, signal.SIGSTOP)
try:
    waiter = threading.Thread(target=lambda: answers.append(patient.mon_command(ask, b"")))
    waiter.start()
    code, _, status = hurried.mon_command(ask, b"")
    check(code == -errno.ETIMEDOUT, (code, status))
    waiter.join(2)
    check(waiter.is_alive(), answers)
finally:
    os.kill(%d, signal.SIGCONT)
waiter.join(60)
check(answers and answers[0][0] == 0 and "data" in json.loads(answers[0][1]), answers)
hurried.shutdown()
patient.shutdown()
""" % (pid, pid))


@case
def requests_leave_though_many_others_get_no_answer():
    """A watcher that sleeps holds back the answers to notifies; what is asked for meanwhile is not held back with them."""
    python("""
import os, signal, time
def reads():
    begin = time.monotonic()
    for _ in range(60):
        came = threading.Event()
        begun = io.aio_read("read", 8, 0, lambda completion, data: came.set())
        check(came.wait(20), "a read waits for the answers to notifies")
    return time.monotonic() - begin
io = cluster.open_ioctx("data")
io.write_full("watched", b"w")
io.write_full("read", b"contents")
ready, go = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    other = rados.Rados(conffile="", rados_id="admin")
    other.connect()
    watch = other.open_ioctx("data").watch("watched", lambda *told: True)
    os.write(ready[1], b"1")
    os.read(go[0], 1)
    os._exit(0)
os.read(ready[0], 1)
alone = reads()
os.kill(pid, signal.SIGSTOP)
try:
    told = [io.aio_notify("watched", lambda *answer: None, "x", 20000) for _ in range(40)]
    slow = reads()
    check(slow < 20 * alone + 2, "%.3f s for reads that take %.3f s" % (slow, alone))
    check(not any(one.is_complete() for one in told), "the notifies should wait still")
finally:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
for one in told:
    one.wait_for_complete()
io.close()
""")


@case
def contents():
    python("""
io = cluster.open_ioctx("data")
fails(errno.ENOENT, io.stat, "a")
fails(errno.ENOENT, io.read, "a")
io.write_full("a", b"hello")
check(io.read("a") == b"hello", "read")
io.write("a", b"J", 0)
io.append("a", b" world")
check(io.read("a") == b"Jello world" and io.read("a", 5, 6) == b"world", io.read("a"))
check(io.stat("a")[0] == 11, io.stat("a"))
version = io.get_last_version()
io.trunc("a", 3)
check(io.read("a") == b"Jel", "trunc")
check(io.get_last_version() > version, "versions")
io.write_full("zeroes", b"x" * 10)
io.writesame("zeroes", b"ab", 6, 2)
check(io.read("zeroes") == b"xxabababxx", io.read("zeroes"))
io.cmpext("a", b"Jel", 0)
check(io.cmpext("a", b"Jxl", 0) == -4096, "what differs")
io.remove_object("a")
fails(errno.ENOENT, io.remove_object, "a")
fails(errno.ENAMETOOLONG, io.write_full, "n" * 2049, b"x")
check(io.get_stats()["num_objects"] >= 0, "pool stats")
io.close()
""")


@case
def names():
    python("""
io = cluster.open_ioctx("data")
for name in list(io.list_objects()):
    io.remove_object(name.key)
for space, locator in (("", ""), ("s", ""), ("", "near"), ("s", "near")):
    io.set_namespace(space)
    io.set_locator_key(locator)
    io.write_full("name", (space + "/" + locator).encode())
for space, locator in (("", ""), ("s", ""), ("", "near"), ("s", "near")):
    io.set_namespace(space)
    io.set_locator_key(locator)
    check(io.read("name") == (space + "/" + locator).encode(), (space, locator))
io.set_locator_key("")
io.set_namespace("s")
found = sorted((entry.key, entry.locator_key or "") for entry in io.list_objects())
check(found == [("name", ""), ("name", "near")], found)
io.set_namespace(rados.LIBRADOS_ALL_NSPACES)
check(sorted(entry.nspace for entry in io.list_objects()) == ["", "", "s", "s"], "all namespaces")
io.close()
""")


@case
def attributes_and_locks():
    python("""
io = cluster.open_ioctx("data")
io.write_full("x", b"")
io.set_xattr("x", "k", b"v\\0w")
io.set_xattr("x", "large", b"l" * 65536)
check(io.get_xattr("x", "k") == b"v\\0w", "get_xattr")
check(len(io.get_xattr("x", "large")) == 65536, "large")
check(sorted(io.get_xattrs("x")) == [("k", b"v\\0w"), ("large", b"l" * 65536)], "get_xattrs")
io.rm_xattr("x", "k")
fails(errno.ENODATA, io.get_xattr, "x", "k")
io.lock_exclusive("x", "lock", "cookie", "text")
fails(errno.EEXIST, io.lock_exclusive, "x", "lock", "cookie")
fails(errno.EBUSY, io.lock_exclusive, "x", "lock", "other")
io.unlock("x", "lock", "cookie")
fails(errno.ENOENT, io.unlock, "x", "lock", "cookie")
io.lock_shared("x", "lock", "a", "tag")
io.lock_shared("x", "lock", "b", "tag")
check(io.execute("x", "hello", "say_hello", b"you")[1] == b"Hello, you!", "execute")
fails(errno.EPERM, io.execute, "x", "no", "such", b"")
fails(errno.EOPNOTSUPP, io.execute, "x", "hello", "such", b"")
io.close()
""")


@case
def operations():
    python("""
io = cluster.open_ioctx("data")
with rados.WriteOpCtx() as op:
    op.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
    op.write_full(b"contents")
    op.append(b"!")
    op.set_xattr("k", b"v")
    io.set_omap(op, ("key1", "key2", "key3"), (b"one", b"two", b"th\\0ree"))
    io.operate_write_op(op, "op", mtime=1234567890)
check(io.read("op") == b"contents!", "contents")
check(io.stat("op")[0] == 9, "size")
with rados.WriteOpCtx() as op:
    op.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
    fails(errno.EEXIST, io.operate_write_op, op, "op")
with rados.ReadOpCtx() as op:
    every, _ = io.get_omap_vals(op, "", "", 100)
    after, _ = io.get_omap_vals(op, "key1", "", 1)
    some, _ = io.get_omap_vals_by_keys(op, ("key3", "none"))
    keys, _ = io.get_omap_keys(op, "", 100)
    io.operate_read_op(op, "op")
    check(list(every) == [("key1", b"one"), ("key2", b"two"), ("key3", b"th\\0ree")], "all pairs")
    check(list(after) == [("key2", b"two")], "after a key")
    check(list(some) == [("key3", b"th\\0ree")], "by keys")
    check([key for key, _ in keys] == ["key1", "key2", "key3"], "keys")
with rados.WriteOpCtx() as op:
    io.remove_omap_keys(op, ("key1",))
    io.operate_write_op(op, "op")
with rados.WriteOpCtx() as op:
    io.remove_omap_range2(op, "key2", "key3")
    op.zero(3, 0)  # The module hands length and offset over in the other order.
    op.truncate(5)
    io.operate_write_op(op, "op")
check(io.read("op") == b"\\0\\0\\0te", io.read("op"))
with rados.ReadOpCtx() as op:
    every, _ = io.get_omap_vals(op, "", "", 100)
    io.operate_read_op(op, "op")
    check(list(every) == [("key3", b"th\\0ree")], "what is left")
with rados.WriteOpCtx() as op:
    io.clear_omap(op)
    op.remove()
    io.operate_write_op(op, "op")
fails(errno.ENOENT, io.stat, "op")
with rados.WriteOpCtx() as op:
    io.operate_write_op(op, "op")  # Of no steps: nothing happens, as there.
    op.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
    io.operate_write_op(op, "op")
    fails(errno.EINVAL, io.operate_write_op, op, "op")
io.remove_object("op")
io.close()
""")


@case
def asynchronous_requests():
    python("""
io = cluster.open_ioctx("data")
said = []
def told(completion, *data):
    said.append((completion.get_return_value(), data))
made = [io.aio_write_full("aio.%d" % i, b"%d" % i, oncomplete=told, onsafe=told) for i in range(200)]
io.aio_flush()
for completion in made:
    completion.wait_for_complete_and_cb()
    check(completion.is_complete() and completion.get_return_value() == 0, "write")
check(len(said) == 400 and all(code == 0 for code, _ in said), "callbacks: %d" % len(said))
said.clear()
for i in range(200):
    completion = io.aio_read("aio.%d" % i, 100, 0, told)
    completion.wait_for_complete_and_cb()
check([data[0] for _, data in said] == [b"%d" % i for i in range(200)], "read: %r" % said[:3])
completion = io.aio_append("aio.0", b"+")
completion.wait_for_complete()
check(io.read("aio.0") == b"0+", "append")
sizes = []
completion = io.aio_stat("aio.0", lambda c, size, mtime: sizes.append(size))
completion.wait_for_complete_and_cb()
check(sizes == [2], sizes)
completion = io.aio_remove("none")
completion.wait_for_complete()
check(completion.get_return_value() == -errno.ENOENT, completion.get_return_value())
with rados.WriteOpCtx() as op:
    io.set_omap(op, ("k",), (b"v",))
    completion = io.operate_aio_write_op(op, "aio.0")
    completion.wait_for_complete()
with rados.ReadOpCtx() as op:
    pairs, _ = io.get_omap_vals(op, "", "", 10)
    completion = io.operate_aio_read_op(op, "aio.0")
    completion.wait_for_complete()
    check(list(pairs) == [("k", b"v")], "pairs")
io.close()
""")


@case
def all_ways_to_wait_go_together():
    """Threads that wait, look, flush, call synchronously and have callbacks: nobody is forgotten."""
    said = succeeds(command([WAITS, cluster.conf, "data", 8, 10000], timeout=120, env=environment(cluster)))
    check(int(said.text.split()[0]) > 1000, said.text)


@case
def is_exported_as_programs_import_it():
    """Every function that programs of the distribution import is there, with the version that they want."""
    said = succeeds(command(["nm", "-D", "--defined-only", LIBRARY])).text.split("\n")
    names = {line.split()[2] for line in said if len(line.split()) == 3}
    check("rados_ioctx_pool_stat@@LIBRADOS_14.2.0" in names, "the versioned one")
    others = {name for name in names if not name.startswith("rados_") and not name.startswith("LIBRADOS")}
    check(not others, "what it should hide: %r" % sorted(others)[:10])


if __name__ == "__main__":
    find = "import importlib.util, sys; sys.exit(importlib.util.find_spec('rados') is None)"
    if subprocess.run([PYTHON, "-c", find], check=False).returncode != 0:
        print("skipped: the package python3-rados is not installed")
        sys.exit(0)
    run()
