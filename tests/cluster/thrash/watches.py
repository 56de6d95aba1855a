"""Clients that watch and notify, and the check of what they wrote down: watcher.c."""

import os
import signal
import subprocess
import time

from lib.cluster import SLOWNESS, check, succeeds, wait_until
from thrash.plan import HOST_OF, WRITERS
from thrash.world import POOL, THRASH

PROGRAM = os.path.join(THRASH, "thrash-watcher")
OBJECTS = 3
MISSED = "missed"
HUNG_UP_NS = 2000000000  # So long a watch outlives its process (WIRE_WATCH_HUNG_UP_MS).


class Watch:
    def __init__(self, words):
        self.object, self.instance, self.cookie, timeout_ms, self.begun = (int(word) for word in words)
        self.timeout = timeout_ms * 1000000
        self.sure = self.begun  # It existed from its beginning to this time for certain.
        self.over = False
        self.ended = None  # When it was ended, not lost.

    def exists_until(self):
        """Its time-out begins when it was last heard of; its process may have been killed right then."""
        until = self.heard() + min(self.timeout, HUNG_UP_NS)
        return until if self.ended is None else min(until, self.ended)

    def heard(self):
        """When it was certain to exist; not while limpet_watch() was waiting."""
        return self.sure if self.sure > self.begun else self.begun - self.timeout


class Notify:
    def __init__(self, words):
        self.serial, self.object, self.kind, self.called = (
            int(words[0]), int(words[1]), words[2], int(words[3]))
        self.returned = None
        self.answers = {}  # (instance, cookie) -> serial that was answered, or MISSED.


class History:
    """What one process wrote. The last line of one that was killed may have been cut off."""

    def __init__(self, path):
        self.watches, self.notifies, self.told, self.marks = {}, {}, {}, set()
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                for line in file:
                    if line.endswith("\n"):
                        self.take(*line.split())

    def take(self, kind, *words):
        if kind == "watch":
            watch = Watch(words)
            self.watches[watch.cookie] = watch
        elif kind == "sure":
            watch = self.watches[int(words[0])]
            if not watch.over:
                watch.sure = max(watch.sure, int(words[1]))
        elif kind in ("end", "lost"):
            # It may be lost before its beginning was noted.
            if int(words[0]) in self.watches:
                watch = self.watches[int(words[0])]
                if kind == "end" and not watch.over:
                    watch.ended = int(words[1])
                watch.over = True
        elif kind == "told":
            cookie, notifier, number, serial = (int(word) for word in words[:4])
            self.told.setdefault((cookie, serial), set()).add((notifier, number))
        elif kind == "notify":
            notify = Notify(words)
            self.notifies[notify.serial] = notify
        elif kind == "answer":
            self.notifies[int(words[0])].answers[int(words[1]), int(words[2])] = (
                words[3] if words[3] == MISSED else int(words[3]))
        elif kind == "answered":
            self.notifies[int(words[0])].returned = int(words[2])
        else:
            self.marks.add(kind)

    def settled(self, since):
        """A watch of every object exists, and has since a time."""
        return {watch.object for watch in self.watches.values()
                if not watch.over and watch.sure >= since} == set(range(OBJECTS))


class Watchers:
    """One beside each writer, whose faults it shares."""

    def __init__(self, world, network, folder):
        self.world, self.network, self.folder = world, network, folder
        self.processes, self.paths = {}, {}
        self.files = []
        self.round_files = []
        self.notifies = 0
        self.answers = 0
        self.missed = 0
        os.makedirs(folder)

    def make_objects(self):
        for number in range(OBJECTS):
            succeeds(self.world.limpet("rados", "create", "-p", POOL, "watch.%d" % number))

    def start(self, name):
        number = len(self.files)
        path = os.path.join(self.folder, "%04d-%s.txt" % (number, name))
        self.files.append(path)
        self.round_files.append(path)
        self.paths[name] = path
        argv = self.network.inside(HOST_OF[name]) + [
            PROGRAM, "--pool", POOL, "--history", path, "--seed", str(number + 1),
            "--objects", str(OBJECTS)]
        with open(path + ".out", "wb") as out:
            self.processes[name] = subprocess.Popen(
                argv, env=dict(os.environ, **self.world.env), stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT)

    def start_round(self):
        self.round_files = []
        for name in WRITERS:
            self.start(name)

    def words(self, name):
        with open(self.paths[name] + ".out", encoding="utf-8", errors="replace") as out:
            return out.read()

    def signal(self, name, number):
        self.check_alive(name)
        self.processes[name].send_signal(number)
        if number == signal.SIGKILL:
            self.processes[name].wait()

    def check_alive(self, name):
        status = self.processes[name].poll()
        check(status is None, "the watcher beside %s ended by itself with %s: %s"
              % (name, status, self.words(name)))

    def check_all_alive(self):
        for name in WRITERS:
            if self.processes[name].poll() not in (None, -signal.SIGKILL):
                self.check_alive(name)

    def wait_all(self, what, done, timeout):
        def all_done():
            self.world.check_alive()
            for name in WRITERS:
                self.check_alive(name)
            return all(done(History(self.paths[name])) for name in WRITERS)
        wait_until(what, all_done, timeout)

    def finish_round(self, timeout):
        """All is well: every notify ends, all watch again, and all answer once more."""
        for name in WRITERS:
            self.signal(name, signal.SIGTERM)
        self.wait_all("the answers to all notifies", lambda history: "quiet" in history.marks, timeout)
        now = time.monotonic_ns()
        self.wait_all("watches of all objects", lambda history: history.settled(now), timeout)
        for name in WRITERS:
            self.signal(name, signal.SIGUSR1)
        self.wait_all("the answers to the last notifies", lambda history: "done" in history.marks, timeout)
        now = time.monotonic_ns()
        self.wait_all("watches after the last notifies", lambda history: history.settled(now), timeout)
        for name in WRITERS:
            self.processes[name].send_signal(signal.SIGTERM)
        for name in WRITERS:
            status = self.processes[name].wait(timeout * SLOWNESS)
            check(status == 0, "the watcher beside %s failed with %d: %s"
                  % (name, status, self.words(name)))
        self.check_round()

    # The check

    def check_round(self):
        histories = [History(path) for path in self.round_files]
        watches = {(watch.instance, watch.cookie): (watch, history)
                   for history in histories for watch in history.watches.values()}
        for history in histories:
            for (cookie, serial), names in history.told.items():
                check(len(names) == 1, "watch %d was told of notify %d by several names: %s"
                      % (cookie, serial, names))
            for notify in history.notifies.values():
                if notify.returned:
                    self.check_notify(notify, watches)

    def check_notify(self, notify, watches):
        what = "%s notify %d of object %d" % (notify.kind, notify.serial, notify.object)
        for key, answer in notify.answers.items():
            if answer == MISSED or key not in watches:
                continue
            check(answer == notify.serial, "%s was answered with %d" % (what, answer))
            check((key[1], notify.serial) in watches[key][1].told,
                  "%s was answered by watch %d:%d, which was not told" % (what, *key))
        for key, (watch, _history) in watches.items():
            if (watch.object != notify.object or watch.begun >= notify.called
                    or watch.exists_until() <= notify.returned):
                continue
            check(key in notify.answers, "the answers to %s do not name watch %d:%d" % (what, *key))
            # The time-outs of the others are longer than all faults.
            check(notify.kind == "short" or notify.answers[key] != MISSED or watch.sure <= notify.returned,
                  "%s is missed by watch %d:%d, which was alive" % (what, *key))
        self.notifies += 1
        self.answers += len(notify.answers)
        self.missed += sum(answer == MISSED for answer in notify.answers.values())

    def summary(self):
        return "%d notifies with %d answers and %d missed" % (
            self.notifies, self.answers - self.missed, self.missed)

    def destroy(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
