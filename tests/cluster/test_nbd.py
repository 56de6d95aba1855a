#!/usr/bin/env python3
"""Block images served to NBD clients: nbdinfo, nbdcopy, nbdsh, qemu-img, fio; also while an OSD dies."""

import errno
import os
import select
import signal
import socket
import ssl
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
                                "--iodepth=32", "--size=32m", "--io_size=16m", "--verify=crc32c", "--verify_state_save=0", "--randseed=3",
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


TELL = "\n".join(("def tell(call):", "    try:", "        return call()", "    except nbd.Error as error:", "        return error.errno"))


@case
def each_command_and_flag():
    succeeds(cluster.limpet("rbd", "create", "data/flags", "--size", "16M"))
    server = Server(cluster, "data/flags")
    said = succeeds(server.shell(
        TELL, "print(h.get_size(), h.can_df(), h.can_fua(), h.can_fast_zero(), h.is_rotational(), h.get_block_size(nbd.SIZE_MAXIMUM))",
        "h.pwrite(b'a' * 8192, 4096, nbd.CMD_FLAG_FUA)", "print(h.pread_structured(3, 4095, lambda *_: 0, nbd.CMD_FLAG_DF))",
        "h.zero(4096, 4096, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_FAST_ZERO)", "print(h.pread(4096, 4096) == bytes(4096))",
        "h.zero(100, 8192, nbd.CMD_FLAG_NO_HOLE)", "print(h.pread(101, 8192) == bytes(100) + b'a')",
        "print(tell(lambda: h.zero(512, 0, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO)))",
        "h.trim(4 << 20, 0, nbd.CMD_FLAG_FUA)", "print(h.pread(4, 8292))", "h.flush()", "h.set_strict_mode(0)", "end = h.get_size()",
        "print(tell(lambda: h.pread(1, end)), tell(lambda: h.pwrite(b'x', end)), tell(lambda: h.trim(1, end)),"
        " tell(lambda: h.zero(1, end)), tell(lambda: h.cache(1, 0)))", "print(h.pread(1, 0))")).text
    check(said.splitlines() == ["%d True True True False %d" % (16 * MIB, 32 * MIB), r"bytearray(b'\x00aa')", "True", "True",
                                "ENOTSUP", r"bytearray(b'\x00\x00\x00\x00')", "EINVAL ENOSPC EINVAL ENOSPC EINVAL",
                                r"bytearray(b'\x00')"], said)
    server.end()


def receive(connection, length):
    """All of it: with a time limit, a socket of Python gives what there is."""
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        check(more != b"", "it was closed after %d of %d bytes" % (len(data), length))
        data += more
    return data


def connect(server):
    """As far as the end of the negotiation, the oldest way."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(server.socket)
    connection.settimeout(60)
    check(receive(connection, 18)[:16] == b"NBDMAGICIHAVEOPT", "the greeting")
    connection.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 1, 0))
    check(len(receive(connection, 10)) == 10, "size and flags")
    return connection


def request(command_, offset, length, flags=0, magic=0x25609513):
    return struct.pack(">IHHQQI", magic, flags, command_, 7, offset, length)


def is_closed(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


@case
def hostile_bytes_end_only_their_connection():
    server = Server(cluster, "data/flags")
    kept = connect(server)
    for bytes_ in (request(0, 0, 512, magic=1), request(1, 0, (32 << 20) + 1), os.urandom(4096)):
        connection = connect(server)
        connection.sendall(bytes_)
        check(is_closed(connection), "what follows cannot be understood")
    for bytes_ in (b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I8sII", 3, b"IHAVEOPT", 7, 1 << 30),
                   struct.pack(">I", 3) + struct.pack(">8sII", b"IHAVEOPT", 8, 0) * 1000):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(server.socket)
        connection.settimeout(60)
        connection.sendall(bytes_)
        try:
            while connection.recv(65536):
                pass
        except ConnectionError:
            pass
    # Refused, and what follows is understood all the same: a payload that nobody wants is skipped.
    connection = connect(server)
    connection.sendall(request(1, 1 << 40, 100000) + b"x" * 100000 + request(0, 1 << 63, 4) + request(0, 0, 4))
    errors = [struct.unpack(">II", receive(connection, 16)[:8]) for _ in range(3)]
    check(errors == [(0x67446698, 28), (0x67446698, 22), (0x67446698, 0)], errors)
    # Those who go amid a request, with others under way.
    for _ in range(20):
        leaving = connect(server)
        leaving.sendall(request(0, 0, 1 << 20) * 8 + request(1, 0, 1 << 20) + b"half")
        leaving.close()
    kept.sendall(request(3, 0, 0))
    check(receive(kept, 16)[4:8] == bytes(4), "another connection")
    server.end()


@case
def many_connections_at_once():
    server = Server(cluster, "data/flags")
    connections = [connect(server) for _ in range(200)]
    for number, connection in enumerate(connections):
        connection.sendall(request(1, number * 512, 512) + bytes([number]) * 512)
    for connection in connections:
        check(receive(connection, 16)[4:8] == bytes(4), "a write")
    for number, connection in enumerate(connections):
        connection.sendall(request(0, (199 - number) * 512, 512) + request(2, 0, 0))
    for number, connection in enumerate(connections):
        check(receive(connection, 16 + 512)[16:] == bytes([199 - number]) * 512, "what another one has written")
        check(is_closed(connection), "it was told to end")
    # More than there is room for: those who have said nothing give way.
    silent = []
    for _ in range(600):
        silent.append(socket.socket(socket.AF_UNIX))
        silent[-1].connect(server.socket)
    connect(server).close()
    for connection in silent:
        connection.close()
    server.end()


def openssl(*arguments):
    succeeds(command(["openssl"] + list(arguments)))


def certificates():
    """An authority, a server, a client: for the server, for clients, and for clients without a certificate of their own."""
    made = folder()
    path = lambda name: os.path.join(made, name)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
            "/CN=authority", "-keyout", path("ca-key.pem"), "-out", path("ca-cert.pem"))
    for who in ("server", "client"):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
                "-keyout", path(who + "-key.pem"), "-out", path(who + ".csr"))
        openssl("x509", "-req", "-days", "2", "-in", path(who + ".csr"), "-CA", path("ca-cert.pem"), "-CAkey",
                path("ca-key.pem"), "-CAcreateserial", "-out", path(who + "-cert.pem"))
    without = folder()
    write_file(os.path.join(without, "ca-cert.pem"), read_file(path("ca-cert.pem")))
    return made, without


def secret_shell(uri, *lines):
    """A URI on the command line may not name files."""
    arguments = [argument for line in ("h.set_uri_allow_local_file(True)", "h.connect_uri(%r)" % uri) + lines
                 for argument in ("-c", line)]
    return command(["nbdsh"] + arguments, env={"PATH": "/usr/bin:" + os.environ["PATH"]})


@case
def secrets_are_kept_by_tls():
    made, without = certificates()
    tls = lambda server, folder_: "nbds+unix:///?socket=%s&tls-certificates=%s" % (server.socket, folder_)
    server = Server(cluster, "data/flags", "--tls-certificates", made)
    clear = server.uri
    check(command(["nbdinfo", clear]).code != 0, "in clear")
    said = succeeds(secret_shell(tls(server, without), "print(h.get_tls_negotiated())", "import os; data = os.urandom(5 << 20)",
                                 "h.pwrite(data, 12345)", "print(h.pread(5 << 20, 12345) == data)",
                                 "print(sum(len(h.pread(1 << 20, i << 18)) for i in range(20)) == 20 << 20)")).text
    check(said == "True\nTrue\nTrue\n", said)
    # Bytes behind the wish for TLS would be taken for ones that came through it.
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(server.socket)
    connection.sendall(struct.pack(">I8sII8sII", 3, b"IHAVEOPT", 5, 0, b"IHAVEOPT", 3, 0))
    check(len(receive(connection, 18 + 20)) == 38 and is_closed(connection), "it goes on")
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(server.socket)
    silent.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 5, 0))
    check("True" in succeeds(secret_shell(tls(server, without), "print(h.get_tls_negotiated())")).text, "while another one is silent")
    server.end()
    server = Server(cluster, "data/flags", "--tls-certificates", made, "--tls-verify-peer")
    check(command(["nbdinfo", tls(server, without)]).code != 0, "a client without a certificate")
    succeeds(command(["nbdinfo", tls(server, made)]))
    server.end()
    keys = os.path.join(scratch, "keys")
    write_file(keys, b"alice:" + b"0123456789abcdef" * 4 + b"\n")
    server = Server(cluster, "data/flags", "--tls-psk", keys)
    succeeds(command(["nbdinfo", "nbds+unix://alice@/?socket=%s&tls-psk-file=%s" % (server.socket, keys)]))
    check(command(["nbdinfo", server.uri]).code != 0, "in clear")
    server.end()
    write_file(os.path.join(without, "server-cert.pem"), b"nonsense")
    Server(cluster, "data/flags", "--tls-certificates", without).refuses("server-cert.pem")
    Server(cluster, "data/flags", "--tls-certificates", made, "--tls-psk", keys).refuses("not both")


def is_silent(connection):
    return select.select([connection], [], [], 0.2)[0] == []


@case
def who_asks_and_hears_nothing_ends_nobody():
    """Through TLS, what has come does not show at the socket: all of it was taken at once."""
    name = "a-name-as-long-as-those-that-clouds-give-to-volumes"
    succeeds(cluster.limpet("rbd", "create", "data/" + name, "--size", "8M"))
    made, _ = certificates()
    server = Server(cluster, "data/" + name, "--tls-certificates", made)
    context = ssl.create_default_context(cafile=os.path.join(made, "ca-cert.pem"))
    context.check_hostname = False
    connections = []
    for number in range(2):
        clear = socket.socket(socket.AF_UNIX)
        clear.settimeout(60)
        clear.connect(server.socket)
        clear.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 5, 0))
        check(len(receive(clear, 18 + 20)) == 38, "the wish for TLS")
        connections.append(context.wrap_socket(clear))
    # Export, block size and name: what is to be told is more than what is told at a time.
    info = struct.pack(">8sIIIHH", b"IHAVEOPT", 6, 8, 0, 1, 1)
    server.process.send_signal(signal.SIGSTOP)
    connections[0].sendall(info * 120 + b"x" * 90000)
    server.process.send_signal(signal.SIGCONT)
    connections[1].sendall(info * 120)
    told = len(receive(connections[1], 120 * (32 + 34 + 22 + len(name) + 20)))
    check(told > 16384 and is_silent(connections[1]), "all was answered")
    connections[1].sendall(struct.pack(">8sII", b"IHAVEOPT", 1, 0) + request(0, 0, 512) * 3)
    check(len(receive(connections[1], 10 + 3 * (16 + 512))) == 10 + 3 * 528, "it goes on")
    for connection in connections:
        connection.close()
    server.end()


@case
def it_takes_sockets_that_are_passed():
    """As systemd does."""
    path = os.path.join(folder(), "passed")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(5)
    script = "exec 3<&%d; export LISTEN_FDS=1 LISTEN_PID=$$; exec %s rbd nbd data/flags" % (listener.fileno(), os.path.join(BIN, "limpet"))
    process = subprocess.Popen(["bash", "-c", script], env=dict(os.environ, **cluster.env), pass_fds=[listener.fileno()])
    listener.close()
    check("export-size: %d" % (16 * MIB) in succeeds(command(["nbdinfo", "nbd+unix:///?socket=" + path])).text, "it answers")
    process.terminate()
    check(process.wait(60) == 0, "its end")


if __name__ == "__main__":
    run()
