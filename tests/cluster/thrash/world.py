"""A cluster whose daemons run on the hosts of a network, as children of the test."""

import json
import os
import re
import signal
import subprocess
import time
import uuid

from lib.cluster import BIN, BUILD, SLOWNESS, CaseFailed, Cluster, check, command, read_file, \
    succeeds, wait_until
from thrash.plan import HOST_OF, MONS, OSDS

PORT = 3300
ADMIN_HOST = "admin"
POOL = "thrash"
POOL_PGS = 16
SNAP_POOL = "snaps"
SNAP_POOL_PGS = 8
THRASH = os.path.join(BUILD, "thrash")
WRITER = os.path.join(THRASH, "thrash-writer")
PLANTED_OSD = os.path.join(THRASH, "thrash-osd")
BLOCK = 4096
# They tell of what was, for some time after it is over.
PAST_CODES = ("OSD_TOO_MANY_REPAIRS", "OSD_FLAPPING")
CLEAN_WORDS = {"active", "clean", "scrubbing", "deep"}
# How often a wait for health says what is missing.
TELL_SECONDS = 10

# Timers are shorter than by default, so that what they are for happens within a round.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon initial members = {names}
mon host = {hosts}
keyring = {path}/keyring
log file = {path}/log/$name.log
mon osd down out interval = 12s
mon osd flap window = 60s
mon osd flap hold = 2s

[mon]
mon data = {path}/$name

[osd]
osd data = {path}/$name
osd size = {osd_size}
osd preallocate = false
osd scrub interval = 20s
osd deep scrub interval = 60s

[client]
log file =
"""


class World(Cluster):
    def __init__(self, path, network, osd_size, planted=None):
        super().__init__(mons=len(MONS), osds=len(OSDS), osd_size=osd_size, path=path)
        self.network = network
        self.planted = planted
        self.processes = {}
        self.wanted = set()  # Daemons that are meant to run.
        self.restarts = 0

    # Making it

    def make(self):
        os.makedirs(os.path.join(self.path, "log"))
        hosts = ["%s:%d" % (self.network.address(HOST_OF[name]), PORT) for name in MONS]
        text = CONFIGURATION.format(
            fsid=uuid.uuid4(), names=", ".join(name.split(".")[1] for name in MONS),
            hosts=", ".join(hosts), path=self.path, osd_size=self.osd_size)
        for name in OSDS:
            host = HOST_OF[name]
            text += "\n[%s]\nhost = %s\npublic addr = %s\n" % (name, host, self.network.address(host))
        with open(self.conf, "w", encoding="ascii") as file:
            file.write(text)
        self.make_keyring()
        for name in MONS + OSDS:
            os.mkdir(os.path.join(self.path, name), 0o700)
            succeeds(self.daemon(name, "--mkfs"))

    def make_keyring(self):
        caps = {"mon.": ["mon", "allow *"],
                "client.admin": ["mon", "allow *", "osd", "allow *"]}
        caps.update((name, ["mon", "profile osd", "osd", "allow *"]) for name in OSDS)
        for name, words in caps.items():
            options = []
            for service, what in zip(words[::2], words[1::2]):
                options += ["--cap", service, what]
            succeeds(command([os.path.join(BIN, "limpet"), "keyring", "create", "--gen-key", "-n", name]
                             + options + [self.keyring]))

    def start(self):
        self.make()
        for name in MONS + OSDS:
            self.launch(name)
        wait_until("all daemons in the map", lambda: self.health_problem(pools=False) is None, 60)
        succeeds(self.limpet("pool", "create", POOL, str(POOL_PGS)))
        succeeds(self.limpet("pool", "create", SNAP_POOL, str(SNAP_POOL_PGS)))
        self.wait_well(60)

    def destroy(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    # Daemons

    def program(self, name):
        if name.startswith("mon."):
            return os.path.join(BIN, "limpet-mon")
        return PLANTED_OSD if self.planted else os.path.join(BIN, "limpet-osd")

    def launch(self, name):
        """Starts a daemon; it has ended before."""
        check(name not in self.processes or self.processes[name].poll() is not None,
              "%s runs already" % name)
        env = dict(os.environ)
        if self.planted and name.startswith("osd."):
            env["LIMPET_PLANTED_BUG"] = self.planted
        argv = self.network.inside(HOST_OF[name]) + [
            self.program(name), "--id", name.split(".")[1], "--conf", self.conf]
        with open(os.path.join(self.path, "log", name + ".start"), "ab") as out:
            self.processes[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                                    stderr=subprocess.STDOUT, env=env)
        self.wanted.add(name)
        self.restarts += 1

    def pid(self, name):
        return self.processes[name].pid

    def signal(self, name, number):
        self.check_alive()
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.wanted.discard(name)
        self.processes[name].send_signal(number)

    def wait_ended(self, name, timeout=30):
        try:
            return self.processes[name].wait(timeout * SLOWNESS)
        except subprocess.TimeoutExpired:
            raise CaseFailed("%s does not end" % name) from None

    def check_alive(self):
        """No daemon has ended that nobody told to."""
        for name in sorted(self.wanted):
            status = self.processes[name].poll()
            if status is not None:
                self.wanted.discard(name)
                raise CaseFailed("%s ended by itself with %d:\n%s" % (name, status, self.last_words(name)))

    def last_words(self, name):
        text = ""
        for suffix in (".start", ".log"):
            path = os.path.join(self.path, "log", name + suffix)
            if os.path.exists(path):
                lines = read_file(path).decode(errors="replace").splitlines()[-12:]
                text += "".join("    %s%s: %s\n" % (name, suffix, line) for line in lines)
        return text

    # The command line, from a host that nothing happens to

    def limpet(self, *arguments, **options):
        options.setdefault("wrap", self.network.inside(ADMIN_HOST))
        return super().limpet(*arguments, **options)

    def health_problem(self, pools=True):
        """None when all is well, else what is not, in a few words."""
        status = self.status_or_none()
        if not status:
            return "no monitor answers"
        osdmap, quorum = status["osdmap"], status["quorum_names"]
        if len(quorum) != self.mons:
            return "the quorum is %s" % quorum
        if (osdmap["num_up_osds"], osdmap["num_in_osds"]) != (self.osds, self.osds):
            return "%d OSDs up, %d in" % (osdmap["num_up_osds"], osdmap["num_in_osds"])
        checks = {code: found["summary"]["message"]
                  for code, found in status["health"]["checks"].items() if code not in PAST_CODES}
        if checks:
            return "; ".join("%s: %s" % pair for pair in sorted(checks.items()))
        if pools and not self.is_clean():
            return "not all placement groups are active+clean: %s" % status["pgmap"]["pgs_by_state"]
        return None

    def is_clean(self):
        """Every placement group has all its replicas; some may be being scrubbed."""
        status = self.status_or_none()
        states = status["pgmap"]["pgs_by_state"] if status else []
        clean = sum(state["count"] for state in states
                    if not set(state["state_name"].split("+")) - CLEAN_WORDS)
        return bool(states) and clean == status["pgmap"]["num_pgs"]

    def wait_well(self, timeout):
        """Everything up, in and clean; otherwise says what was still wrong."""
        begun = time.monotonic()
        problem, told = [None], [begun]

        def well():
            self.check_alive()
            problem[0] = self.health_problem()
            if problem[0] and time.monotonic() > told[0] + TELL_SECONDS:
                told[0] = time.monotonic()
                print("           %3.0f s: %s" % (told[0] - begun, problem[0]))
            return problem[0] is None
        try:
            wait_until("health", well, timeout)
        except CaseFailed as failure:
            status = self.limpet("pg", "ls").text
            raise CaseFailed("%s: %s\n%s" % (failure, problem[0], status)) from None
        return time.monotonic() - begun

    # Scrubs

    def groups(self):
        result = succeeds(self.limpet("pg", "ls", "-f", "json"))
        return {pg["pgid"]: pg for pg in json.loads(result.text)["pg_stats"]}

    def deep_scrub(self, timeout):
        """Of every placement group. An order is passed on once, so it is given again until it is done."""
        before = self.groups()
        left = set(before)
        ordered = [0]

        def done():
            self.check_alive()
            now = self.groups()
            for pgid in list(left):
                stamp = now[pgid]["last_deep_scrub_stamp"]
                if stamp and stamp != before[pgid]["last_deep_scrub_stamp"]:
                    left.discard(pgid)
            if left and time.monotonic() > ordered[0] + 10:
                for pgid in sorted(left):
                    succeeds(self.limpet("pg", "deep-scrub", pgid))
                ordered[0] = time.monotonic()
            return not left
        wait_until("deep scrubs of all placement groups", done, timeout)
        bad = [pg for pg in self.groups().values() if pg["objects_inconsistent"]]
        check(not bad, "unequal copies are left after the scrub: %r" % bad)

    def names_found(self):
        """Objects that scrubs found unequal, and those that were repaired, for a scrub or a read, as the
        logs tell."""
        unequal, repaired = set(), set()
        for name in OSDS:
            log = self.log(name)
            unequal.update(re.findall(r" object inconsistent .*?name=(\S+)", log))
            repaired.update(re.findall(r" object repaired .*?name=(\S+)", log))
        return unequal, repaired

    # The stores of OSDs that do not run

    def data(self, name):
        return os.path.join(self.path, name)

    def fsck(self, name, *options):
        return command([os.path.join(BIN, "limpet-osd"), "--fsck", *options, "--data", self.data(name)],
                       timeout=300)

    def objects_of(self, name):
        """Object -> (size, {block of the object: block of the disk}), of a store without a journal to
        replay (fsck --repair sees to that)."""
        succeeds(self.fsck(name, "--repair"))
        dump = succeeds(command([os.path.join(BIN, "limpet-osd"), "store", "dump", "--data",
                                 self.data(name)], timeout=300)).text
        objects, numbers = {}, {}
        for line in dump.splitlines():
            match = re.match(r"object .* name=(\S+) number=(\d+) size=(\d+)", line)
            if match and match.group(1).startswith("thrash."):
                numbers[match.group(2)] = match.group(1)
                objects[match.group(1)] = (int(match.group(3)), blocks_of(line))
        for line in dump.splitlines():
            match = re.match(r"chunk number=(\d+) ", line)
            if match and match.group(1) in numbers:
                objects[numbers[match.group(1)]][1].update(blocks_of(line))
        return objects

    def block_file(self, name):
        return os.path.join(self.data(name), "store", "block")


def blocks_of(line):
    blocks = {}
    for at, count, disk in re.findall(r" (\d+)\+(\d+)@(\d+)", line):
        blocks.update((int(at) + i, int(disk) + i) for i in range(int(count)))
    return blocks
