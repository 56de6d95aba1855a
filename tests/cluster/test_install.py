#!/usr/bin/env python3
"""What 'cmake --install' puts somewhere is complete: programs, library, headers, pages. A program is built against
it as docs/examples/native.c says, and runs."""

import os
import re

from lib.cluster import BUILD, REPO, Cluster, case, check, command, folder, run, succeeds

cluster = Cluster(mons=1, osds=3)
prefix = os.path.join(folder(), "usr")


def find(name):
    """The folder below the prefix that has the file."""
    for path, _, files in os.walk(prefix):
        if name in files:
            return path
    raise AssertionError("%s was not installed" % name)


@case
def everything_is_installed():
    succeeds(command(["cmake", "--install", BUILD, "--prefix", prefix]))
    for name in ("limpet", "limpet-mon", "limpet-osd", "liblimpet.so.0", "librados.so.2", "librbd.so.1", "limpet.h",
                 "object.h", "image.h", "limpet.1", "limpet-rados.1", "_limpet", "limpet.fish", "mount.limpet", "mount.fuse.limpet", "limpet-fs.1"):
        find(name)
    for name in ("limpet", "limpet-mon", "limpet-osd"):
        said = succeeds(command([os.path.join(prefix, "bin", name), "--version"])).text
        check(re.match(r"limpet\S* (version )?\d", said), said)


@case
def a_program_is_built_and_runs():
    cluster.start()
    cluster.pool("data")
    env = {"PKG_CONFIG_PATH": find("limpet.pc")}
    flags = succeeds(command(["pkg-config", "--cflags", "--libs", "limpet"], env=env)).text.split()
    program = os.path.join(prefix, "bin", "native")
    source = os.path.join(REPO, "docs", "examples", "native.c")
    succeeds(command(["cc", "-std=c17", "-Wall", "-Wextra", "-Werror", source, "-o", program] + flags +
                     ["-Wl,-rpath," + find("liblimpet.so.0")]))
    for times in (1, 2):
        said = succeeds(command([program, "data"], env=cluster.env)).text
        check(said == "".join("%010d hello\n" % (i + 1) for i in range(times)), said)
    listed = succeeds(command([os.path.join(prefix, "bin", "limpet"), "rados", "-p", "data", "ls"], env=cluster.env))
    check(listed.text == "notes\n", listed)
    check(command([program, "none"], env=cluster.env).code == 1, "a pool that is not there")


if __name__ == "__main__":
    run()
