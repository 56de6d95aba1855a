#!/usr/bin/env python3
"""Block images served to NBD clients by nbdkit: nbdinfo, nbdcopy, nbdsh, qemu-img, fio; also while an OSD dies."""

import errno
import os
import socket
import struct
import subprocess
import time

from lib.cluster import BIN, SLOWNESS, Cluster, case, check, command, fails, folder, random_bytes, read_file, run, \
    succeeds, wait_until, write_file
from lib.nbd import Server

cluster = Cluster(mons=1, osds=3)
MIB = 1 << 20
SIZE = 64 * MIB
scratch = folder()


@case
def starts():
    cluster.start()
    cluster.pool("data")
    succeeds(cluster.limpet("rbd", "create", "data/disk", "--size", "64M"))


@case
def clients_see_a_disk():
    server = Server(cluster, "data/disk")
    told = server.info()
    for line in ("export-size: %d" % SIZE, "using structured packets", "base:allocation", "is_read_only: false",
                 "can_flush: true", "can_fua: true", "can_multi_conn: true", "can_trim: true", "can_zero: true"):
        check(line in told, "%s: %s" % (line, told))
    check(server.info("--map").split() == ["0", str(SIZE), "3", "hole,zero"], server.info("--map"))
    said = succeeds(server.shell("h.pwrite(b'abc' * 1000, 5 << 20, nbd.CMD_FLAG_FUA)", "h.flush()",
                                 "print(h.pread(7, (5 << 20) - 2))", "h.trim(1 << 20, 5 << 20)",
                                 "print(h.pread(4, 5 << 20))", "h.pwrite(b'x', 0)", "h.zero(4096, 0)",
                                 "print(h.pread(2, 0))")).text
    check(said == r"bytearray(b'\x00\x00abcab')" "\n" r"bytearray(b'\x00\x00\x00\x00')" "\n"
          r"bytearray(b'\x00\x00')" "\n", said)
    server.end()


@case
def status_tells_what_is_there():
    server = Server(cluster, "data/disk")
    succeeds(server.shell("h.pwrite(b'1' * 4096, 40 << 20)"))
    rows = [line.split() for line in server.info("--map").splitlines()]
    check(["41943040", str(4 * MIB), "0", "data"] in rows, "one object of data: %r" % rows)
    check(sum(int(row[1]) for row in rows) == SIZE, "all of it: %r" % rows)
    server.end()


@case
def files_are_copied_in_and_out():
    source, back = os.path.join(scratch, "source"), os.path.join(scratch, "back")
    data = random_bytes(20 * MIB + 512, 7)
    write_file(source, data)
    server = Server(cluster, "data/disk")
    succeeds(command(["nbdcopy", source, server.uri]))
    succeeds(command(["nbdcopy", server.uri, back]))
    got = read_file(back)
    check(len(got) == SIZE and got[:len(data)] == data, "the copy differs")
    compared = command(["qemu-img", "compare", "-f", "raw", "-F", "raw", back, server.uri])
    check(compared.code == 0 and "identical" in compared.text, compared)
    server.end()


@case
def fio_verifies_while_an_osd_dies():
    server = Server(cluster, "data/disk")
    process = subprocess.Popen(["fio", "--name=v", "--ioengine=nbd", "--uri=" + server.uri, "--rw=randwrite", "--bs=4k",
                                "--iodepth=16", "--size=32m", "--io_size=16m", "--verify=crc32c", "--verify_state_save=0", "--randseed=3",
                                "--directory=" + scratch], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    cluster.kill("osd.1")
    said = process.communicate(timeout=300)[0]
    check(process.returncode == 0 and "err= 0" in said, said)
    succeeds(cluster.start_daemon("osd.1"))
    cluster.wait_healthy()
    server.end()


@case
def clients_that_connect_later_see_another_size():
    succeeds(cluster.limpet("rbd", "create", "data/grow", "--size", "8M"))
    succeeds(cluster.limpet("rbd", "snap", "create", "data/grow@then", "--no-progress"))
    servers = [Server(cluster, "data/grow"), Server(cluster, "data/grow", "--read-only")]
    before = Server(cluster, "data/grow@then")
    for size in (24, 4):
        succeeds(cluster.limpet("rbd", "resize", "data/grow", "--size", "%dM" % size, "--allow-shrink", "--no-progress"))
        for server in servers:
            check("export-size: %d" % (size * MIB) in server.info(), server.info())
        said = succeeds(servers[0].shell("h.pwrite(b'end', h.get_size() - 3)", "print(h.pread(3, h.get_size() - 3))")).text
        check("b'end'" in said, said)
        check(succeeds(servers[1].shell("print(h.pread(3, h.get_size() - 3))")).text == said, "the other server")
    check("export-size: %d" % (8 * MIB) in before.info(), before.info())
    for server in servers + [before]:
        server.end()


@case
def who_is_connected_is_refused_what_is_not_there_any_more():
    succeeds(cluster.limpet("rbd", "resize", "data/grow", "--size", "16M", "--no-progress"))
    server = Server(cluster, "data/grow")
    limpet = ["limpet", "rbd", "resize", "data/grow", "--allow-shrink", "--no-progress", "--size"]
    said = succeeds(server.shell("import subprocess, os", "os.environ.update(%r)" % dict(cluster.env, PATH=BIN + ":/usr/bin:/bin"),
                                 "subprocess.check_call(%r + ['8M'])" % limpet, "print(h.get_size() >> 20)",
                                 "\n".join(("for call in (lambda: h.pread(512, 12 << 20), lambda: h.pwrite(b'x', 12 << 20),",
                                            "             lambda: h.pread(512, (8 << 20) - 256)):",
                                            "    try:", "        call()", "    except nbd.Error as error:",
                                            "        print(error.errno)")),
                                 "print(h.pread(4, 0))")).text
    check(said == "16\nEINVAL\nEINVAL\nEIO\nbytearray(b'\\x00\\x00\\x00\\x00')\n", said)
    server.end()


@case
def clients_that_say_nothing_or_do_not_read_keep_nobody_waiting():
    """One has connected and is silent; one has asked for more than it takes; one has left amid a request."""
    server = Server(cluster, "data/disk")
    silent = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for connection in silent:
        connection.connect(server.socket)
    greedy = socket.socket(socket.AF_UNIX)
    greedy.settimeout(60)
    greedy.connect(server.socket)
    answers = greedy.makefile("rb")
    check(answers.read(18)[:16] == b"NBDMAGICIHAVEOPT", "the greeting")
    # Fixed newstyle, no zeroes; the default export, to be used at once.
    greedy.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, 0))
    check(len(answers.read(10)) == 10, "size and flags")
    greedy.sendall(b"".join(struct.pack(">IHHQQI", 0x25609513, 0, 0, number, 0, 1 << 20) for number in range(128)))
    leaving = subprocess.Popen(["nbdsh", "-u", server.uri, "-c", "while True: h.pwrite(b'x' * (1 << 20), 0)"],
                               env=dict(os.environ, PATH="/usr/bin:" + os.environ["PATH"]))
    said = succeeds(server.shell("h.pwrite(b'123', 0)", "h.flush()", "print(h.get_size())")).text
    check(said == "%d\n" % SIZE, said)
    leaving.kill()
    leaving.wait()
    said = succeeds(server.shell("h.pwrite(b'123', 0)", "print(h.pread(3, 0))")).text
    check(said == "bytearray(b'123')\n", said)
    succeeds(cluster.limpet("rbd", "snap", "create", "data/disk@among", "--no-progress"))
    succeeds(cluster.limpet("rbd", "snap", "rm", "data/disk@among", "--no-progress"))
    # It gets all answers once it reads.
    for _ in range(128):
        reply = answers.read(16 + (1 << 20))
        check(reply[:8] == struct.pack(">II", 0x67446698, 0) and len(reply) == 16 + (1 << 20), "an answer")
    for connection in silent + [answers, greedy]:
        connection.close()
    server.end()


@case
def it_ends_though_clients_stay():
    """One is silent from the beginning, one has negotiated and asks for nothing, one does not take its answers."""
    server = Server(cluster, "data/disk")
    succeeds(server.shell("h.pwrite(b'kept', 4096)"))
    clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for connection in clients:
        connection.connect(server.socket)
    for connection in clients[1:]:
        check(connection.recv(18, socket.MSG_WAITALL)[:16] == b"NBDMAGICIHAVEOPT", "the greeting")
        connection.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, 0))
        check(len(connection.recv(10, socket.MSG_WAITALL)) == 10, "size and flags")
    clients[2].sendall(b"".join(struct.pack(">IHHQQI", 0x25609513, 0, 0, number, 0, 1 << 20) for number in range(64)))
    begun = time.monotonic()
    server.end()
    took = time.monotonic() - begun
    check(took < 3 * SLOWNESS, "it took %.1f s" % took)
    for connection in clients:
        connection.close()
    said = succeeds(cluster.limpet("rbd", "status", "data/disk")).text
    check(said == "Watchers: none\n", "it was left open: %s" % said)
    server = Server(cluster, "data/disk")
    check(succeeds(server.shell("print(h.pread(4, 4096))")).text == "bytearray(b'kept')\n", "what was written")
    server.end()


@case
def what_can_only_be_read_is():
    server = Server(cluster, "data/disk", "--read-only")
    check("is_read_only: true" in server.info(), server.info())
    refused = server.shell("h.pwrite(b'x', 0)")
    check(refused.code != 0 and "Operation not permitted" in refused.text + str(refused), refused)
    server.end()


@case
def a_socket_outlives_its_server_and_is_taken_over():
    server = Server(cluster, "data/disk")
    server.info()
    fails(cluster.limpet("rbd", "nbd", "data/disk", "--socket", server.socket), errno.EADDRINUSE, server.socket)
    server.process.kill()
    server.process.wait()
    check(os.path.exists(server.socket), "nothing is in the way")
    server = Server(cluster, "data/disk", socket=server.socket)
    wait_until("it listens again", lambda: command(["nbdinfo", server.uri]).code == 0, 60)
    server.end()
    other = os.path.join(scratch, "file")
    write_file(other, b"contents")
    fails(cluster.limpet("rbd", "nbd", "data/disk", "--socket", other), errno.EEXIST, other)
    check(read_file(other) == b"contents", "it is gone")


@case
def what_cannot_be_is_told():
    for arguments, words in ((("data/none",), "none"), ((), "image"), (("data/disk@none",), "none"),
                             (("data/disk", "--port", "1"), "not both"),
                             (("data/disk", "--tls-certificates", "/nonexistent"), "No such file")):
        Server(cluster, *arguments).refuses(words)


if __name__ == "__main__":
    run()
