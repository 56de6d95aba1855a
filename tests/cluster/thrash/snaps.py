"""The client that takes, reads and removes snapshots (snapper.c), and what must be left of them: nothing."""

import json
import os
import re
import signal
import subprocess
import time

from lib.cluster import SLOWNESS, check, succeeds, wait_until
from thrash.world import SNAP_POOL, THRASH

PROGRAM = os.path.join(THRASH, "thrash-snapper")
# It has the faults of a host of clients, and is not killed: it alone knows what its objects were.
HOST = "c1"
OBJECTS = 12


class Snapper:
    def __init__(self, world, network, folder, seed):
        self.world, self.network, self.folder, self.seed = world, network, folder, seed
        self.process = None
        self.path = None
        self.rounds = 0
        self.counts = [0, 0, 0]
        os.makedirs(folder)

    def start(self):
        self.path = os.path.join(self.folder, "%04d.out" % self.rounds)
        argv = self.network.inside(HOST) + [
            PROGRAM, "--pool", SNAP_POOL, "--seed", str(self.seed * 100000 + self.rounds)]
        with open(self.path, "wb") as out:
            self.process = subprocess.Popen(argv, env=dict(os.environ, **self.world.env),
                                            stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=subprocess.STDOUT)
        self.rounds += 1

    def words(self):
        with open(self.path, encoding="utf-8", errors="replace") as out:
            return out.read()

    def check_alive(self):
        status = self.process.poll()
        check(status is None, "the client of snapshots ended with %s: %s" % (status, self.words()))

    def finish(self, answer_seconds, trim_seconds):
        """It reads and removes all snapshots; then nothing may be left of them."""
        self.check_alive()
        self.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        while self.process.poll() is None:
            self.world.check_alive()
            check(time.monotonic() - begun < answer_seconds * SLOWNESS,
                  "the client of snapshots does not end: %s" % self.words())
            time.sleep(0.02)
        check(self.process.returncode == 0, "the client of snapshots failed: %s" % self.words())
        numbers = [int(number) for number in re.findall(r"\d+", self.words())]
        self.counts = [a + b for a, b in zip(self.counts, numbers[1:])]
        left = [None]

        def trimmed():
            self.world.check_alive()
            left[0] = self.left(numbers[0])
            return left[0] is None
        try:
            wait_until("the end of trimming", trimmed, trim_seconds)
        except Exception:
            print("           left of removed snapshots: %s" % left[0])
            raise

    def left(self, heads):
        """None when there are the objects alone, else what there is beside them."""
        for number in range(OBJECTS):
            name = "snap.%d" % number
            result = self.world.limpet("rados", "listsnaps", "-p", SNAP_POOL, name, "-f", "json")
            clones = json.loads(result.text)["clones"] if result.code == 0 else []
            if [clone for clone in clones if clone["id"] != "head"]:
                return "clones of %s: %s" % (name, clones)
        text = succeeds(self.world.limpet("rados", "df", "-p", SNAP_POOL, "-f", "json")).text
        count = json.loads(text)["pools"][0]["num_objects"]
        return None if count == heads else "%d objects instead of %d" % (count, heads)

    def summary(self):
        return "%d snapshots during %d writes, %d reads of them" % tuple(self.counts)

    def destroy(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
