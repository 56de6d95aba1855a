"""The clients of a world: programs that write, the ones that fill its disks, and their histories."""

import os
import signal
import subprocess
import time

from lib.cluster import SLOWNESS, CaseFailed, check
from thrash.plan import HOST_OF, WRITERS
from thrash.world import ADMIN_HOST, POOL, WRITER

# Numbers of objects. What is filled in and the ballast have their own; every round has new ones, since
# the history of an object that is contended for hours takes too long to check.
BALLAST = range(0, 24)
BALLAST_BYTES = 384 * 1024
FILL_BYTES = 4 * 1024 * 1024
ROUND_OBJECTS = 1000
SHARED = 6
PRIVATE = 12
FILL = 400
# A client's threads are numbered from its own number on.
CLIENT_NUMBERS = 16


def round_base(number):
    return (number + 1) * ROUND_OBJECTS


def shared_range(number):
    return range(round_base(number), round_base(number) + SHARED)


def private_range(number, writer):
    first = round_base(number) + 100 * (1 + WRITERS.index(writer))
    return range(first, first + PRIVATE)


def fill_range(number):
    return range(round_base(number) + 500, round_base(number) + 500 + FILL)


def as_option(numbers):
    return "%d-%d" % (numbers.start, numbers.stop)


class Writers:
    def __init__(self, world, network, folder, seed):
        self.world = world
        self.network = network
        self.folder = folder
        self.seed = seed
        self.round = 0
        self.files = []  # Histories, of all rounds.
        self.processes = {}
        self.stopped_files = []
        self.filler = None
        os.makedirs(folder)

    def launch(self, name, host, *options):
        number = len(self.files)
        path = os.path.join(self.folder, "%04d-%s.txt" % (number, name))
        self.files.append(path)
        argv = self.network.inside(host) + [
            WRITER, "--pool", POOL, "--history", path, "--client", str(number * CLIENT_NUMBERS),
            "--seed", str(self.seed * 100000 + number), *options]
        env = dict(os.environ, **self.world.env)
        with open(path + ".out", "wb") as out:
            return subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=out,
                                    stderr=subprocess.STDOUT)

    def words(self, name):
        """What a writer said."""
        for path in reversed(self.files):
            if path.endswith("-%s.txt" % name):
                with open(path + ".out", encoding="utf-8", errors="replace") as out:
                    return out.read()
        return ""

    # Those that write until they are told to stop

    def start(self, name):
        check(name not in self.processes or self.processes[name].poll() is not None,
              "%s runs already" % name)
        self.processes[name] = self.launch(
            name, HOST_OF[name], "--shared", as_option(shared_range(self.round)),
            "--private", as_option(private_range(self.round, name)), "--think-ms", "4")

    def start_round(self, number):
        self.round = number
        for name in WRITERS:
            self.start(name)

    def signal(self, name, number):
        self.check_alive(name)
        self.processes[name].send_signal(number)
        if number == signal.SIGKILL:
            self.processes[name].wait()

    def check_alive(self, name):
        status = self.processes[name].poll()
        check(status is None, "%s ended by itself with %s: %s" % (name, status, self.words(name)))

    def check_all_alive(self):
        for name in WRITERS:
            if self.processes[name].poll() not in (None, -signal.SIGKILL):
                self.check_alive(name)

    def sizes(self):
        latest = {name: path for path in self.files for name in WRITERS if path.endswith(name + ".txt")}
        return {name: os.path.getsize(path) if os.path.exists(path) else 0
                for name, path in latest.items()}

    def finish_round(self, timeout):
        """Lets them finish what they have begun; a request without an answer is a failure."""
        for name in WRITERS:
            self.check_alive(name)
            self.processes[name].send_signal(signal.SIGTERM)
        for name in WRITERS:
            self.wait(self.processes[name], name, timeout)

    def wait(self, process, name, timeout):
        deadline = time.monotonic() + timeout * SLOWNESS
        while process.poll() is None:
            self.world.check_alive()
            if time.monotonic() > deadline:
                raise CaseFailed("%s has requests without an answer %d s after all was well: %s"
                                 % (name, timeout, self.words(name)))
            time.sleep(0.02)
        check(process.returncode == 0, "%s failed with %d: %s" % (name, process.returncode, self.words(name)))

    # Those that do one thing to each object

    def sweep(self, kind, numbers, timeout, length=0):
        name = "sweep-" + kind
        process = self.launch(name, ADMIN_HOST, "--shared", as_option(numbers), "--sweep", kind,
                              "--length", str(length))
        self.wait(process, name, timeout)

    # The one that fills

    def start_filling(self):
        self.filler = self.launch("filler", ADMIN_HOST, "--shared", as_option(fill_range(self.round)),
                                  "--sweep", "write_full", "--length", str(FILL_BYTES))

    def start_emptying(self):
        if self.filler.poll() is None:
            self.filler.kill()
        self.filler.wait()
        self.filler = self.launch("emptier", ADMIN_HOST, "--shared", as_option(fill_range(self.round)),
                                  "--sweep", "remove")

    def finish_filling(self, timeout):
        if self.filler:
            self.wait(self.filler, "emptier", timeout)
        self.filler = None

    def destroy(self):
        for process in list(self.processes.values()) + [self.filler]:
            if process and process.poll() is None:
                process.kill()
                process.wait()
