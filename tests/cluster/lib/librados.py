"""Programs of a distribution with our librados.so.2 in place of Ceph's, and nothing else changed."""

import os
import subprocess

from .cluster import BUILD

FOLDER = os.path.join(BUILD, "lib", "compat")
LIBRARY = os.path.join(FOLDER, "librados.so.2")


def environment(cluster):
    """What to add to a program's environment. A library with AddressSanitizer wants its runtime to be
    the first of the process; the programs are not ours, so their leaks are not looked for."""
    env = dict(cluster.env, LD_LIBRARY_PATH=FOLDER, CEPH_CONF=cluster.conf)
    linked = subprocess.run(["ldd", LIBRARY], stdout=subprocess.PIPE, text=True, check=True).stdout
    for words in map(str.split, linked.splitlines()):
        if "libasan" in words[0] and len(words) > 2:
            env.update(LD_PRELOAD=words[2],
                       ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0")
    return env
