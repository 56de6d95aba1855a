#!/usr/bin/env python3
"""Block images served to NBD clients by nbdkit: nbdinfo, nbdcopy, nbdsh, qemu-img, fio; also while an OSD dies."""

import os
import signal
import subprocess

from lib.cluster import BIN, Cluster, case, check, command, folder, random_bytes, read_file, run, succeeds, wait_until, write_file

cluster = Cluster(mons=1, osds=3)
MIB = 1 << 20
SIZE = 64 * MIB
scratch = folder()


class Server:
    def __init__(self, *arguments):
        self.socket = os.path.join(folder(), "nbd")
        self.uri = "nbd+unix:///?socket=" + self.socket
        argv = [os.path.join(BIN, "limpet"), "rbd", "nbd", "--socket", self.socket]
        self.process = subprocess.Popen(argv + list(arguments), env=dict(os.environ, **cluster.env),
                                        stderr=subprocess.PIPE, text=True)
        wait_until("it listens", lambda: os.path.exists(self.socket) or self.process.poll() is not None, 60)

    def info(self, *options):
        return succeeds(command(["nbdinfo"] + list(options) + [self.uri])).text

    def shell(self, *lines):
        """What an NBD client in Python prints."""
        arguments = [argument for line in lines for argument in ("-c", line)]
        return command(["nbdsh", "-u", self.uri] + arguments, env={"PATH": "/usr/bin:" + os.environ["PATH"]})

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=60)[1]
        check(self.process.returncode == 0, "nbdkit: %d %s" % (self.process.returncode, said))


@case
def starts():
    cluster.start()
    cluster.pool("data")
    succeeds(cluster.limpet("rbd", "create", "data/disk", "--size", "64M"))


@case
def clients_see_a_disk():
    server = Server("data/disk")
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
    server = Server("data/disk")
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
    server = Server("data/disk")
    succeeds(command(["nbdcopy", source, server.uri]))
    succeeds(command(["nbdcopy", server.uri, back]))
    got = read_file(back)
    check(len(got) == SIZE and got[:len(data)] == data, "the copy differs")
    compared = command(["qemu-img", "compare", "-f", "raw", "-F", "raw", back, server.uri])
    check(compared.code == 0 and "identical" in compared.text, compared)
    server.end()


@case
def fio_verifies_while_an_osd_dies():
    server = Server("data/disk")
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
def what_can_only_be_read_is():
    server = Server("data/disk", "--read-only")
    check("is_read_only: true" in server.info(), server.info())
    refused = server.shell("h.pwrite(b'x', 0)")
    check(refused.code != 0 and "Operation not permitted" in refused.text + str(refused), refused)
    server.end()


@case
def what_cannot_be_is_told():
    for arguments, words in ((("data/none",), "none"), ((), "image"), (("data/disk@none",), "none"),
                             (("data/disk", "--port", "1"), "not both"),
                             (("data/disk", "--tls-certificates", "/nonexistent"), "No such file")):
        server = Server(*arguments)
        said = server.process.communicate(timeout=60)[1]
        check(server.process.returncode != 0 and words in said, "%r: %s" % (arguments, said))


if __name__ == "__main__":
    run()
