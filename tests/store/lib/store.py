"""What the tests of a real store share: the programs, and one store under `limpet-osd store bench`."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.environ.get("LIMPET_BUILD", os.path.join(REPO, "build"))
OSD = os.path.join(BUILD, "bin", "limpet-osd")
# Sizes of the writes of one life: in place, at the limit of it, and to new places.
BLOCK_SIZES = ("4K", "20K", "64K", "1M")


def fail(text):
    print("FAIL: " + text, file=sys.stderr)
    sys.exit(1)


def skipped(reason):
    print("SKIPPED: " + reason)
    sys.exit(0)


def run(argv, **options):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **options)


def must(argv):
    result = run(argv)
    if result.returncode != 0:
        fail("%s: %s" % (" ".join(argv), result.stdout))
    return result.stdout


class Bench:
    """`store bench --verify` on a folder: first checks what earlier lives acknowledged. Each size of
    write has a list of its own, and a store of its own life: objects are written whole."""

    def __init__(self, folder, acknowledged, size, memory="64M", seconds=600, disk="256M",
                 options=()):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [OSD, "store", "bench", "--data", folder, "--verify", acknowledged, "--block-size",
             size, "--objects", "64", "--depth", "16", "--seconds", str(seconds), "--size", disk,
             "--memory", memory, *options], stdout=self.log, stderr=subprocess.STDOUT)

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def wait_verified(self, limit=120):
        """True once it has verified and writes; False when it ended before."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if ": 0 wrong" in self.text():
                return True
            try:
                self.process.wait(0.02)
                return ": 0 wrong" in self.text()
            except subprocess.TimeoutExpired:
                pass
        fail("the store does not get ready:\n" + self.text())
        return False

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()


def fsck(folder):
    result = run([OSD, "--fsck", "--deep", "--data", folder])
    if result.returncode != 0:
        fail("fsck of %s: exit status %d\n%s" % (folder, result.returncode, result.stdout))


class Folder:
    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="limpet-store-")
        return self.path

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


def arguments():
    """COUNT [SEED], both optional."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else None
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int.from_bytes(os.urandom(4), "little")
    print("seed %d" % seed)
    random.seed(seed)
    return count
