#!/usr/bin/env python3
"""Every function of librados that Ceph's Python module imports is called, on our library, and does what it should."""

import os
import re
import subprocess
import sys

from lib.cluster import Cluster, case, check, command, folder, run, succeeds, wait_until
from lib.librados import environment

cluster = Cluster(mons=1, osds=3)
PYTHON = "/usr/bin/python3"  # The one that the distribution's modules are for.
CALLED = set()

BEGIN = """
import errno, json, os, sys, threading
sys.setdlopenflags(os.RTLD_LAZY)
import rados
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
io = cluster.open_ioctx("data")
"""


def python(program, begin=BEGIN, end="\nio.close()\ncluster.shutdown()\n"):
    """Runs it with our library in place of Ceph's. Python binds all calls of a module when it loads it, unless told otherwise;
    lazily they are bound when they are made first, which the dynamic linker notes: so it is known what was called."""
    notes = os.path.join(folder(), "bindings")
    env = dict(environment(cluster), LD_DEBUG="bindings", LD_DEBUG_OUTPUT=notes)
    result = succeeds(command([PYTHON, "-B", "-c", begin + program + end], env=env))
    for name in os.listdir(os.path.dirname(notes)):
        with open(os.path.join(os.path.dirname(notes), name), encoding="utf-8", errors="replace") as file:
            CALLED.update(re.findall(r"binding file \S*/rados\.\S+ \[0\] to \S*librados\S* .*symbol `(rados_\w+)'",
                                     file.read()))
    return result.text


@case
def starts():
    cluster.start()
    cluster.pool("data")
    cluster.pool("self")


@case
def clusters_pools_and_commands():
    python("""
cluster.version()
check(len(cluster.get_fsid()) == 36, "fsid")
check("data" in cluster.list_pools() and cluster.get_cluster_stats()["kb"] > 0, "pools, stats")
cluster.create_pool("a")
cluster.create_pool("b", crush_rule=0)
cluster.create_pool("c", auid=1)
cluster.create_pool("d", crush_rule=0, auid=1)
fails(errno.ENOENT, cluster.create_pool, "e", crush_rule=99)
check(cluster.pool_reverse_lookup(cluster.pool_lookup("a")) == "a", "lookup")
number = cluster.pool_lookup("a")
check(cluster.get_pool_base_tier(number) == number, "base tier")
other = cluster.open_ioctx2(number)
check(other.get_pool_id() == number and other.get_pool_name() == "a", "ioctx")
other.dup().close()
check(other.alignment() is None, "alignment")
other.close()
for name in "abcd":
    cluster.delete_pool(name)
check(cluster.get_inconsistent_pgs(cluster.pool_lookup("data")) == [], "inconsistent groups")
cluster.wait_for_latest_osdmap()
address = cluster.get_addrs()
check(address.endswith("/%d" % cluster.get_instance_id()), address)
ask = json.dumps({"prefix": "osd ls", "format": "json"})
for code, out, status in (cluster.mon_command(ask, b""), cluster.mon_command(ask, b"", target="a"),
                          cluster.mgr_command(ask, b""), cluster.mgr_command(ask, b"", target="x")):
    check(code == 0 and json.loads(out) == [0, 1, 2], (code, out, status))
check(cluster.mon_command(ask, b"", target="none")[0] == -errno.ENOENT, "no such monitor")
check(cluster.osd_command(0, json.dumps({"prefix": "version"}), b"")[0] == 0, "osd_command")
check(cluster.osd_command(99, json.dumps({"prefix": "version"}), b"")[0] == -errno.ENOENT, "no such OSD")
group = "%d.0" % cluster.pool_lookup("data")
code, out, status = cluster.pg_command(group, json.dumps({"prefix": "query", "format": "json"}), b"")
check(code == 0 and json.loads(out)["pgid"] == group, (code, out, status))
told = json.loads(cluster.ping_monitor("a"))
check("status" in told["health"] and told["mon_status"]["name"] == "a", told)
cluster.service_daemon_register("limpet-test", "a", {"key": "value"})
fails(errno.EEXIST, cluster.service_daemon_register, "limpet-test", "a", {})
cluster.service_daemon_update({"state": "fine"})
fails(errno.EOPNOTSUPP, rados.MonitorLog, cluster, "info", lambda *args: None, None)
fails(errno.EOPNOTSUPP, cluster.monitor_log2, "info", lambda *args: None, None)
check(io.get_stats()["num_objects"] >= 0, "pool's stats")
""")


@case
def configuration():
    python("""
cluster = rados.Rados(conffile="", rados_id="admin", conf={"rados_osd_op_timeout": "90"})
check(cluster.conf_get("rados_osd_op_timeout") == "90", "conf")
check(cluster.conf_get("no_such_option") is None, "conf_get")
check(cluster.conf_parse_argv(["--rados_osd_op_timeout=80", "rest"]) == ["rest"], "conf_parse_argv")
cluster.conf_parse_env("NONE")
cluster.conf_set("rados_osd_op_timeout", "70")
cluster.shutdown()
cluster = rados.Rados(name="client.admin", clustername="ceph", conffile="")
cluster.connect()
check(cluster.state == "connected", cluster.state)
cluster.shutdown()
def with_context():
    import ctypes
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    rados.Rados(context=new(1, None, None))
try:
    with_context()
except Exception:
    pass
else:
    sys.exit("a context should be refused")
""", begin=BEGIN.split("cluster = ", maxsplit=1)[0], end="")


@case
def objects():
    python("""
io.write_full("o", b"hello")
io.write("o", b"J")
io.append("o", b"!")
io.writesame("o", b"ab", 4, 6)
io.trunc("o", 8)
check(io.read("o") == b"Jello!ab" and io.stat("o")[0] == 8, io.read("o"))
check(io.cmpext("o", b"Jello", 0) == 0, "cmpext")
check(io.get_last_version() > 0, "version")
io.set_xattr("o", "k", b"v")
check(io.get_xattr("o", "k") == b"v" and list(io.get_xattrs("o")) == [("k", b"v")], "attributes")
io.rm_xattr("o", "k")
check(io.execute("o", "hello", "say_hello", b"")[0] > 0, "execute")
io.lock_exclusive("o", "l", "c", "text", 60)
io.unlock("o", "l", "c")
io.lock_shared("o", "l", "c", "tag", "text", 60)
io.set_namespace("space")
io.set_locator_key("place")
io.write_full("there", b"")
check([entry.key for entry in io.list_objects()] == ["there"], "listing")
io.remove_object("there")
io.set_locator_key("")
io.set_namespace("")
io.set_osdmap_full_try()
io.unset_osdmap_full_try()
io.remove_object("o")
""")


@case
def operations():
    python("""
with rados.WriteOpCtx() as op:
    op.new(rados.LIBRADOS_CREATE_EXCLUSIVE)
    op.write_full(b"contents")
    op.write(b"C", 0)
    op.append(b"!")
    op.writesame(b"ab", 4, 9)
    op.truncate(11)
    op.zero(1, 10)
    op.set_xattr("k", b"v")
    op.rm_xattr("k")
    op.set_flags(rados.LIBRADOS_OPERATION_NOFLAG)
    io.set_omap(op, ("a", "b", "c"), (b"1", b"2", b"3"))
    io.operate_write_op(op, "op")
with rados.WriteOpCtx() as op:
    op.execute("hello", "record_hello", b"you")
    io.operate_write_op(op, "greeting")
check(io.read("greeting") == b"Hello, you!", io.read("greeting"))
with rados.WriteOpCtx() as op:
    op.set_xattr("k", b"v")
    io.operate_write_op(op, "op")
version = io.get_last_version()
with rados.WriteOpCtx() as op:
    op.assert_version(version)
    op.omap_cmp("a", "1", rados.LIBRADOS_CMPXATTR_OP_EQ)
    io.remove_omap_keys(op, ("a",))
    io.remove_omap_range2(op, "b", "c")
    io.operate_write_op(op, "op")
with rados.ReadOpCtx() as op:
    op.set_flags(rados.LIBRADOS_OPERATION_NOFLAG)
    pairs, _ = io.get_omap_vals(op, "", "", 10)
    keys, _ = io.get_omap_keys(op, "", 10)
    some, _ = io.get_omap_vals_by_keys(op, ("c",))
    io.operate_read_op(op, "op")
    check(list(pairs) == [("c", b"3")] and list(some) == [("c", b"3")], "pairs")
    check([key for key, _ in keys] == ["c"], "keys")
with rados.WriteOpCtx() as op:
    op.cmpext(b"x", 0)
    op.remove()
    try:
        io.operate_write_op(op, "op")
    except rados.Error:
        pass
    else:
        sys.exit("cmpext should differ")
with rados.ReadOpCtx() as op:
    op.cmpext(b"x", 0)
    try:
        io.operate_read_op(op, "op")
    except rados.Error:
        pass
    else:
        sys.exit("cmpext should differ")
with rados.WriteOpCtx() as op:
    io.clear_omap(op)
    op.remove()
    io.operate_write_op(op, "op")
""")


@case
def asynchronous_requests():
    python("""
order = []
def complete(completion, *data):
    order.append(("complete", completion.get_return_value()))
def safe(completion):
    order.append(("safe", completion.get_return_value()))
completion = io.aio_write("a", b"x", 0, complete, safe)
completion.wait_for_complete_and_cb()
check(order == [("complete", 0), ("safe", 0)], order)
def done(completion, code=0):
    completion.wait_for_complete()
    check(completion.is_complete() and completion.get_return_value() == code, completion.get_return_value())
done(io.aio_write_full("a", b"hello"))
done(io.aio_append("a", b"!"))
done(io.aio_writesame("a", b"ab", 4, 6))
done(io.aio_setxattr("a", "k", b"v"))
done(io.aio_rmxattr("a", "k"))
done(io.aio_cmpext("a", b"hello", 0, lambda c: None))
completion = io.aio_read("a", 100, 0, lambda c, data: order.append(data))
completion.wait_for_complete_and_cb()
check(order[-1] == b"hello!abab" and completion.is_safe(), order[-1])
io.aio_stat("a", lambda c, size, mtime: order.append(size)).wait_for_complete_and_cb()
check(order[-1] == 10, order[-1])
io.aio_execute("a", "hello", "say_hello", b"you", 100, lambda c, data: order.append(data)).wait_for_complete_and_cb()
check(order[-1] == b"Hello, you!", order[-1])
with rados.WriteOpCtx() as op:
    io.set_omap(op, ("k",), (b"v",))
    done(io.operate_aio_write_op(op, "a"))
with rados.ReadOpCtx() as op:
    pairs, _ = io.get_omap_vals(op, "", "", 10)
    done(io.operate_aio_read_op(op, "a"))
    check(list(pairs) == [("k", b"v")], "pairs")
io.aio_flush()
done(io.aio_remove("a"))
""")


@case
def snapshots():
    python("""
io.write_full("s", b"old")
io.create_snap("monday")
fails(errno.EEXIST, io.create_snap, "monday")
io.write_full("s", b"new")
snap = io.lookup_snap("monday")
check([found.name for found in io.list_snaps()] == ["monday"] and snap.get_timestamp().year > 2000, "list")
io.set_read(snap.snap_id)
check(io.read("s") == b"old", io.read("s"))
fails(errno.EROFS, io.write_full, "s", b"x")
io.set_read(rados.LIBRADOS_SNAP_HEAD)
io.snap_rollback("s", "monday")
check(io.read("s") == b"old", io.read("s"))
io.remove_snap("monday")
fails(errno.ENOENT, io.remove_snap, "monday")
io.close()
io = cluster.open_ioctx("self")
io.write_full("s", b"one")
first = io.create_self_managed_snap()
io.set_self_managed_snap_write([first])
io.write_full("s", b"two")
io.rollback_self_managed_snap("s", first)
check(io.read("s") == b"one", io.read("s"))
io.set_self_managed_snap_write([])
io.remove_self_managed_snap(first)
""")


@case
def applications():
    python("""
check(io.application_list() == [], io.application_list())
io.application_enable("rbd")
fails(errno.EPERM, io.application_enable, "other")
io.application_enable("other", True)
check(sorted(io.application_list()) == ["other", "rbd"], io.application_list())
io.application_metadata_set("rbd", "key", "value")
io.application_metadata_set("rbd", "second", "")
check(io.application_metadata_get("rbd", "key") == "value", "metadata_get")
check(io.application_metadata_list("rbd") == [("key", "value"), ("second", "")], "metadata_list")
io.application_metadata_remove("rbd", "second")
try:
    io.application_metadata_get("rbd", "second")
except KeyError:
    pass
else:
    sys.exit("a key that was removed is there")
fails(errno.ENOENT, io.application_metadata_set, "none", "key", "value")
""")


@case
def applications_survive_restarts_of_monitors():
    cluster.kill("mon.a")
    cluster.start_daemon("mon.a")
    cluster.wait_healthy()
    python("""
check(sorted(io.application_list()) == ["other", "rbd"], io.application_list())
check(io.application_metadata_list("rbd") == [("key", "value")], io.application_metadata_list("rbd"))
""")


@case
def watches():
    python("""
heard, lost = [], []
io.write_full("w", b"")
def on_notify(notify_id, notifier, watch_id, data):
    heard.append((notify_id, notifier, watch_id, data))
    return b"answer"
watch = io.watch("w", on_notify, lambda *args: lost.append(args), 30)
check(watch.check().total_seconds() >= 0, "check")
check(io.notify("w", "hello"), "notify")
check(len(heard) == 1 and heard[0][2] == watch.get_id(), heard)
answers = []
io.aio_notify("w", lambda *args: answers.append(args), "again").wait_for_complete_and_cb()
check(len(answers) == 1 and answers[0][1] == 0, answers)
check([(notifier, cookie) for notifier, cookie, *_ in answers[0][2]] ==
      [(cluster.get_instance_id(), watch.get_id())] and answers[0][3] == [], answers)
watch.close()
check(io.notify("w", "nobody"), "notify")
check(len(heard) == 2 and not lost, (heard, lost))
""")


@case
def blocked_clients_are_told():
    python("""
import os
other = rados.Rados(conffile="", rados_id="admin")
other.connect()
there = other.open_ioctx("data")
there.write_full("b", b"")
lost = threading.Event()
codes = []
watch = there.watch("b", lambda *args: None, lambda *args: (codes.extend(args), lost.set()), 5)
cluster.blocklist_add(other.get_addrs(), 60)
fails(errno.ESHUTDOWN, there.write_full, "b", b"x")
check(lost.wait(60), "the loss of its watch")
check(-errno.ESHUTDOWN in codes or -errno.ENOTCONN in codes, codes)
io.write_full("b", b"mine")
""", end="\nsys.stdout.flush()\nos._exit(0)\n")


@case
def watches_survive_restarts_of_osds():
    program = BEGIN + """
heard = threading.Event()
lost = []
io.write_full("r", b"")
watch = io.watch("r", lambda *args: heard.set() or b"", lambda *args: lost.append(args), 120)
for line in sys.stdin:
    heard.clear()
    check(io.notify("r", "hello", 60000) and heard.wait(60) and not lost, lost)
    print("heard", flush=True)
watch.close()
check(not lost, lost)
"""
    child = subprocess.Popen([PYTHON, "-B", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             env=dict(os.environ, **environment(cluster)), text=True)
    try:
        for number in range(3):
            child.stdin.write("go\n")
            child.stdin.flush()
            check(child.stdout.readline() == "heard\n", "before osd.%d ends" % number)
            cluster.kill("osd.%d" % number)
            child.stdin.write("go\n")
            child.stdin.flush()
            check(child.stdout.readline() == "heard\n", "while osd.%d is away" % number)
            cluster.start_daemon("osd.%d" % number)
            wait_until("all data on all OSDs", cluster.is_clean, 60)
        child.stdin.close()
        check(child.wait(60) == 0, "its end")
    finally:
        child.kill()
        child.wait()


@case
def survives_fork_where_a_child_connects_anew():
    python("""
import os
io.write_full("f", b"parent")
child = os.fork()
if child == 0:
    mine = rados.Rados(conffile="", rados_id="admin")
    mine.connect()
    there = mine.open_ioctx("data")
    there.write_full("f", b"child")
    os._exit(0 if there.read("f") == b"child" else 1)
check(os.waitpid(child, 0)[1] == 0, "the child")
check(io.read("f") == b"child", io.read("f"))
""")


@case
def nothing_was_left_out():
    module = succeeds(command([PYTHON, "-c", "import rados; print(rados.__file__)"], env=environment(cluster))).text.strip()
    said = succeeds(command(["nm", "-D", "--undefined-only", module])).text
    imported = set(re.findall(r"\bU (rados_\w+)", said))
    check(len(imported) > 140, "the module imports %d functions" % len(imported))
    # Closed over by others, or of a state that the module does not let happen.
    check(imported - CALLED <= NEVER_CALLED, "not called: %s" % sorted(imported - CALLED - NEVER_CALLED))


# Asked only of pools that require an alignment, and ours do not.
NEVER_CALLED = {"rados_ioctx_pool_required_alignment2"}

if __name__ == "__main__":
    find = "import importlib.util, sys; sys.exit(importlib.util.find_spec('rados') is None)"
    if subprocess.run([PYTHON, "-c", find], check=False).returncode != 0:
        print("skipped: the package python3-rados is not installed")
        sys.exit(0)
    run()
