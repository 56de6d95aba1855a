#!/usr/bin/env python3
"""What users get wrong, and what their machine does to them: one clear line and an errno each."""

import errno
import os
import re
import shutil
import signal
import subprocess
import time

from lib.cluster import (BIN, Cluster, case, check, command, fails, folder, random_bytes, read_file, run,
                         succeeds, wait_until, write_file)

MIB = 1024 * 1024

cluster = Cluster(mons=3, osds=3)
scratch = folder()


def edited_conf(name, pattern, replacement):
    """A copy of the cluster's configuration with one line changed."""
    text, count = re.subn(pattern, replacement, read_file(cluster.conf).decode(), flags=re.MULTILINE)
    check(count > 0, "%s is not in limpet.conf" % pattern)
    return write_file(os.path.join(scratch, name), text.encode())


def with_conf(path):
    return {"LIMPET_CONF": path}


@case
def starts_healthy():
    cluster.start()
    cluster.pool("data")
    cluster.put("data", "there", b"something")


@case
def unknown_names():
    fails(cluster.rados("-p", "nowhere", "get", "x", "-"), errno.ENOENT, "nowhere")
    fails(cluster.rados("-p", "nowhere", "ls"), errno.ENOENT, "nowhere")
    fails(cluster.rados("-p", "nowhere", "put", "x", "-", data=b"x"), errno.ENOENT, "nowhere")
    target = os.path.join(scratch, "target")
    fails(cluster.rados("-p", "data", "get", "missing", target), errno.ENOENT, "missing")
    check(not os.path.exists(target), "get of a missing object left a file behind")
    fails(cluster.rados("-p", "data", "stat", "missing"), errno.ENOENT, "missing")
    fails(cluster.rados("-p", "data", "rm", "missing"), errno.ENOENT, "missing")
    fails(cluster.limpet("pool", "rm", "nowhere", "nowhere", "--yes-i-really-really-mean-it"),
          errno.ENOENT, "nowhere")


@case
def help_wherever_it_is_asked_for():
    compat = os.path.join(BIN, "..", "compat", "bin")
    limpet, rados, rbd = (os.path.join(BIN, "limpet"), os.path.join(compat, "rados"), os.path.join(compat, "rbd"))
    for words, usage in (([limpet, "rbd", "help"], "limpet rbd COMMAND"), ([rbd, "help"], "limpet rbd COMMAND"),
                         ([rbd, "help", "create"], "limpet rbd create "), ([limpet, "help", "rbd", "create"], "limpet rbd create "),
                         ([rbd, "snap", "help", "create"], "limpet rbd snap create "), ([rados, "help"], "limpet rados COMMAND"),
                         ([limpet, "osd", "help"], "limpet osd COMMAND")):
        check(succeeds(command(words)).text.startswith("usage: " + usage), words)
    # Where an error sends its reader, there is something to read.
    for words in ([rados, "frobnicate"], [rbd, "frobnicate"], [rbd, "snap"], [rbd, "create", "--frobnicate"], [limpet, "osd"],
                  [limpet, "rados", "put", "--frobnicate"]):
        advice = re.search(r"'(\w+) (help[^']*)'", fails(command(words), errno.EINVAL).err)
        program = {"limpet": limpet, "rados": rados, "rbd": rbd}[advice.group(1)]
        succeeds(command([program] + advice.group(2).split()))
    # An object may have that name.
    cluster.put("data", "help", b"text")
    check(cluster.get("data", "help") == b"text", "an object that is called help")


@case
def unknown_commands_and_options():
    fails(cluster.limpet("frobnicate"), errno.EINVAL, "frobnicate")
    fails(cluster.rados("-p", "data", "frobnicate"), errno.EINVAL, "frobnicate")
    fails(cluster.limpet("osd", "frobnicate"), errno.EINVAL, "frobnicate")
    fails(cluster.limpet("status", "--frobnicate"), errno.EINVAL, "frobnicate")
    fails(cluster.rados("-p", "data", "--frobnicate", "ls"), errno.EINVAL, "frobnicate")
    fails(cluster.rados("-p", "data", "get", "there"), errno.EINVAL)
    fails(cluster.rados("-p", "data", "truncate", "there", "many"), errno.EINVAL, "many")
    fails(cluster.rados("ls"), errno.EINVAL, "pool")
    fails(cluster.limpet("status", "-f", "pigeon"), errno.EINVAL, "pigeon")


@case
def pool_that_exists():
    # As with ceph, to create a pool again is no error; it changes nothing.
    succeeds(cluster.limpet("pool", "create", "data"))
    check(cluster.get("data", "there") == b"something", "the pool was made anew")


@case
def pool_removal_wants_to_be_sure():
    fails(cluster.limpet("pool", "rm", "data"), errno.EPERM, "data")
    check(cluster.get("data", "there") == b"something", "the pool is gone")


@case
def configuration_and_keys():
    absent = os.path.join(scratch, "absent")
    fails(cluster.limpet("status", env=with_conf(absent)), errno.ENOENT, "absent")
    broken = write_file(os.path.join(scratch, "broken.conf"), b"[global\nfsid = 1\n")
    fails(cluster.limpet("status", env=with_conf(broken)), errno.EINVAL, "broken.conf")

    no_keyring = edited_conf("no-keyring.conf", r"^keyring = .*$", "keyring = " + absent)
    fails(cluster.limpet("status", env=with_conf(no_keyring)), errno.ENOENT, "keyring", "absent")

    wrong = os.path.join(scratch, "wrong-keyring")
    succeeds(cluster.limpet("keyring", "create", "--gen-key", "-n", "client.admin", "--cap", "mon",
                            "allow *", "--cap", "osd", "allow *", wrong))
    wrong_keyring = edited_conf("wrong-keyring.conf", r"^keyring = .*$", "keyring = " + wrong)
    fails(cluster.limpet("status", env=with_conf(wrong_keyring)), errno.EACCES, "client.admin")

    fails(cluster.limpet("-n", "client.nobody", "status"), (errno.ENOENT, errno.EACCES),
          "client.nobody")

    other_fsid = edited_conf("fsid.conf", r"^fsid = .*$",
                             "fsid = 01234567-89ab-cdef-0123-456789abcdef")
    fails(cluster.limpet("status", env=with_conf(other_fsid)), errno.EINVAL, "fsid")


@case
def large_objects_are_refused_before_anything_is_written():
    path = os.path.join(scratch, "large")
    with open(path, "wb") as file:
        file.truncate(129 * MIB)
    fails(cluster.rados("-p", "data", "put", "large", path), errno.EFBIG, "128 ?MiB")
    fails(cluster.rados("-p", "data", "stat", "large"), errno.ENOENT)

    zeros = subprocess.Popen(["head", "-c", str(129 * MIB), "/dev/zero"], stdout=subprocess.PIPE)
    done = subprocess.run([os.path.join(BIN, "limpet"), "rados", "-p", "data", "put", "piped", "-"],
                          stdin=zeros.stdout, capture_output=True, check=False, timeout=120,
                          env=dict(os.environ, **cluster.env))
    zeros.stdout.close()
    zeros.wait()
    check(done.returncode == errno.EFBIG, "129 MiB from a pipe: exit code %d, %r"
          % (done.returncode, done.stderr))
    fails(cluster.rados("-p", "data", "stat", "piped"), errno.ENOENT)

    exactly = random_bytes(128 * MIB, "exactly")
    cluster.put("data", "exactly", exactly)
    check(cluster.get("data", "exactly") == exactly, "128 MiB came back different")
    cluster.put("data", "exactly", b"small")
    fails(cluster.rados("-p", "data", "append", "exactly", path), errno.EFBIG)
    check(cluster.get("data", "exactly") == b"small", "a refused append has written something")


@case
def local_files_that_are_not_there():
    absent = os.path.join(scratch, "nothing-here")
    fails(cluster.rados("-p", "data", "put", "x", absent), errno.ENOENT, "nothing-here")
    fails(cluster.rados("-p", "data", "put", "x", scratch), errno.EISDIR, re.escape(scratch))
    fails(cluster.rados("-p", "data", "get", "there", os.path.join(absent, "deep")), errno.ENOENT,
          "nothing-here")
    fails(cluster.rados("-p", "data", "stat", "x"), errno.ENOENT)


@case
def a_file_that_vanishes_during_put():
    """The file shrinks to nothing while it is read: either the put has all of it already, or it
    says so and the object is not a mixture."""
    path = os.path.join(scratch, "vanishing")
    data = random_bytes(100 * MIB, "vanishing")
    write_file(path, data)
    put = subprocess.Popen(
        [os.path.join(BIN, "limpet"), "rados", "-p", "data", "put", "vanishing", path],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, **cluster.env))
    wait_until("the file is open", lambda: put.poll() is not None or any(
        os.path.realpath("/proc/%d/fd/%s" % (put.pid, name)) == path
        for name in safe_list("/proc/%d/fd" % put.pid)), 20)
    os.truncate(path, 0)
    os.unlink(path)
    _, err = put.communicate(timeout=120)
    if put.returncode == 0:
        check(cluster.get("data", "vanishing") == data, "put succeeded with something else")
    else:
        check(len(err.decode().strip().splitlines()) == 1 and "vanishing" in err.decode(),
              "not one clear line: %r" % err)
        fails(cluster.rados("-p", "data", "stat", "vanishing"), errno.ENOENT)


def safe_list(path):
    try:
        return os.listdir(path)
    except OSError:
        return []


@case
def a_full_disk_during_get():
    """Nothing half is left under the name, and a file that was there before is still there."""
    cluster.put("data", "ten", random_bytes(10 * MIB, "ten"))
    mount = os.path.join(scratch, "full")
    os.mkdir(mount)
    script = (
        'mount -t tmpfs -o size=4m tmpfs "$1" && echo before > "$1/old" && shift && '
        '"$@"; code=$?; ls "%s"; cat "%s/old"; exit $code' % (mount, mount))
    target = os.path.join(mount, "old")
    result = cluster.limpet("rados", "-p", "data", "get", "ten", target,
                            wrap=["unshare", "-rm", "/bin/sh", "-c", script, "sh", mount])
    if "unshare" in result.err or "mount:" in result.err:
        print("     not tested: this machine does not let us mount a small file system")
        return
    fails(result, errno.ENOSPC, "old")
    check(result.text == "old\nbefore\n", "the folder is not as it was: %r" % result.text)


@case
def unwritable_target():
    if os.geteuid() == 0:
        target = "/proc/limpet-target"
    else:
        target = "/limpet-target"
    result = cluster.rados("-p", "data", "get", "there", target)
    fails(result, (errno.EACCES, errno.ENOENT, errno.EPERM), "limpet-target")


@case
def a_closed_pipe_ends_quietly():
    script = '"%s/limpet" rados -p data get ten - | head -c 10 >/dev/null; echo ${PIPESTATUS[0]}' % BIN
    result = command(["/bin/bash", "-c", script], env=cluster.env)
    check(result.err.count("\n") <= 1, "get into a closed pipe: %s" % result)


@case
def standard_files_that_are_closed():
    """What is printed must not end up in whatever was opened next."""
    def closed(which, *words):
        line = '"$0" "$@" %s' % which
        return command(["/bin/bash", "-c", line, os.path.join(BIN, "limpet")] + list(words),
                       env=cluster.env)
    fails(closed(">&-", "status"), errno.EBADF, "standard output")
    fails(closed("<&-", "rados", "-p", "data", "put", "unread", "-"), errno.EBADF, "standard input")
    fails(cluster.rados("-p", "data", "stat", "unread"), errno.ENOENT)
    check(closed("2>&-", "rados", "-p", "nowhere", "ls").code == errno.ENOENT, "without stderr")
    target = os.path.join(scratch, "all-closed")
    check(closed("<&- >&- 2>&-", "rados", "-p", "data", "get", "there", target).code == 0,
          "get without standard files")
    check(read_file(target) == b"something", "get without standard files")


@case
def progress_is_for_terminals():
    """A line on standard error while a transfer takes long, when somebody looks; else nothing."""
    path = write_file(os.path.join(scratch, "long"), random_bytes(100 * MIB, "long"))
    put = succeeds(cluster.rados("-p", "data", "put", "long", path))
    check(put.out == b"" and put.err == "", "put into no terminal prints: %s" % put)
    monitor, terminal = os.openpty()
    # A put that cannot proceed takes long on every machine.
    for name in ("osd.0", "osd.1", "osd.2"):
        cluster.kill(name, signal.SIGSTOP)
    try:
        put = subprocess.Popen([os.path.join(BIN, "limpet"), "rados", "-p", "data", "put", "long", path],
                               stdout=terminal, stderr=terminal, env=dict(os.environ, **cluster.env))
        os.set_blocking(monitor, False)
        shown = bytearray()

        def line_is_there():
            try:
                shown.extend(os.read(monitor, 65536))
            except BlockingIOError:
                pass
            return b"long" in shown and b"100 MiB" in shown
        wait_until("a progress line", line_is_there, 30)
    finally:
        for name in ("osd.0", "osd.1", "osd.2"):
            cluster.kill(name, signal.SIGCONT)
    check(put.wait(60) == 0, "put after a pause: %d" % put.returncode)
    os.close(terminal)
    os.close(monitor)
    cluster.wait_healthy()


@case
def some_monitors_down():
    leader = cluster.leader()
    cluster.kill(leader)
    for _ in range(5):
        check(cluster.get("data", "there") == b"something", "get with a monitor down")
    cluster.start_daemon(leader)
    cluster.wait_healthy()


@case
def no_quorum():
    """Two of three monitors down: reads of objects go on, commands that need a quorum time out."""
    others = [name for name in cluster.names() if name.startswith("mon.")][:2]
    for name in others:
        cluster.kill(name)
    result = cluster.limpet("pool", "create", "late", "--connect-timeout", "3")
    fails(result, errno.ETIMEDOUT)
    check(result.seconds < 20, "--connect-timeout 3 took %.1f s" % result.seconds)
    for name in others:
        cluster.start_daemon(name)
    cluster.wait_healthy()


@case
def all_monitors_down():
    hosts = re.search(r"^mon host = (.*)$", read_file(cluster.conf).decode(), re.MULTILINE).group(1)
    addresses = [address.strip() for address in hosts.split(",")]
    monitors = [name for name in cluster.names() if name.startswith("mon.")]
    for name in monitors:
        cluster.kill(name)
    begun = time.monotonic()
    result = cluster.limpet("status", "--connect-timeout", "2")
    fails(result, errno.ETIMEDOUT, *[re.escape(address) for address in addresses])
    check(1.5 < time.monotonic() - begun < 20, "--connect-timeout 2 took %.1f s" % result.seconds)
    for name in monitors:
        cluster.start_daemon(name)
    cluster.wait_healthy()
    check(cluster.get("data", "there") == b"something", "get after all monitors came back")


@case
def an_interrupted_get_leaves_nothing():
    target = os.path.join(scratch, "interrupted")
    get = subprocess.Popen([os.path.join(BIN, "limpet"), "rados", "-p", "data", "get", "ten", target],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=dict(os.environ, **cluster.env))
    get.send_signal(signal.SIGINT)
    get.communicate(timeout=60)
    leftovers = [name for name in os.listdir(scratch) if "interrupted" in name]
    if os.path.exists(target):
        check(read_file(target) == random_bytes(10 * MIB, "ten"), "half a file was left")
        leftovers.remove("interrupted")
    check(not leftovers, "left behind: %s" % leftovers)


@case
def cluster_is_unharmed():
    cluster.wait_healthy()
    check(cluster.get("data", "there") == b"something", "an object changed")
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    run()
