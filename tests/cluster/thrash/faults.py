"""Does to a world what a plan says. Every fault has a beginning and an end, neither of which waits."""

import os
import random
import signal
import subprocess
import threading

from lib.cluster import BIN, CaseFailed, check, succeeds
from thrash.plan import MONS, NAMED, OSDS
from thrash.world import ADMIN_HOST, BLOCK

# How long a command may look for a monitor while a fault is on; the end of the round makes up for it.
COMMAND_SECONDS = "5"


class Faults:
    def __init__(self, world, network, writers, watchers, ballast):
        self.world = world
        self.network = network
        self.writers = writers
        self.watchers = watchers
        self.ballast = ballast  # Names of objects that nobody changes.
        self.counts = dict.fromkeys(NAMED, 0)
        self.flipped = {}  # Object -> OSD whose copy has a changed bit.
        self.flipped_before = {}  # The same, of earlier rounds.
        self.threads = []
        self.problems = []
        self.commands = []
        self.leader = None
        self.full = False  # The disks were filled in this round.

    # From the plan to the method

    def begin(self, event):
        self.counts[event.fault] += 1
        getattr(self, "begin_" + event.fault.replace("-", "_"))(event)

    def end(self, event):
        end = getattr(self, "end_" + event.fault.replace("-", "_"), None)
        if end:
            end(event)

    def heal(self, timeout):
        """After the last end: what was only ordered so far is seen through."""
        self.network.restore_all()
        self.join(timeout)
        for process in self.commands:
            process.wait()
        self.commands = []
        # What monitors know of the space may be from a moment when a disk was full.
        for name in OSDS:
            number = name.split(".")[1]
            succeeds(self.world.limpet("osd", "in", number, "--force"))
            succeeds(self.world.limpet("osd", "reweight", number, "1", "--force"))

    def command(self, *words):
        """An operator's command, whatever comes of it."""
        argv = self.network.inside(ADMIN_HOST) + [os.path.join(BIN, "limpet"), *words,
                                               "--connect-timeout", COMMAND_SECONDS]
        env = dict(os.environ, **self.world.env)
        self.commands.append(subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL,
                                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    # Daemons

    def kill(self, names):
        for name in names:
            self.world.signal(name, signal.SIGKILL)

    def start(self, names):
        for name in names:
            self.world.wait_ended(name)
            self.world.launch(name)

    def begin_osd_killed(self, event):
        self.kill(event.targets)

    def end_osd_killed(self, event):
        self.start(event.targets)

    begin_osds_killed = begin_all_osds_killed = begin_mon_killed = begin_all_mons_killed = begin_osd_killed
    end_osds_killed = end_all_osds_killed = end_mon_killed = end_all_mons_killed = end_osd_killed

    def begin_osd_restarted(self, event):
        self.world.signal(event.targets[0], signal.SIGTERM)

    end_osd_restarted = end_osd_killed

    def begin_osd_stopped(self, event):
        self.world.signal(event.targets[0], signal.SIGSTOP)

    def end_osd_stopped(self, event):
        self.world.signal(event.targets[0], signal.SIGCONT)

    begin_mon_stopped = begin_osd_stopped
    end_mon_stopped = end_osd_stopped

    def find_leader(self, event):
        """The leading monitor; where none answers in time, whichever the dice say."""
        status = self.world.status_or_none()
        self.leader = "mon." + status["quorum_leader_name"] if status else MONS[event.dice % len(MONS)]

    def begin_leader_killed(self, event):
        self.find_leader(event)
        self.kill([self.leader])

    def end_leader_killed(self, _event):
        self.start([self.leader])

    def begin_leader_stopped(self, event):
        self.find_leader(event)
        self.world.signal(self.leader, signal.SIGSTOP)

    def end_leader_stopped(self, _event):
        self.world.signal(self.leader, signal.SIGCONT)

    # An operator's orders

    def begin_osd_out(self, event):
        self.command("osd", "out", number_of(event))

    def end_osd_out(self, event):
        self.command("osd", "in", number_of(event))

    def begin_osd_reweighted(self, event):
        self.command("osd", "reweight", number_of(event), "0.%d" % (2 + event.dice % 7))

    def end_osd_reweighted(self, event):
        self.command("osd", "reweight", number_of(event), "1")

    def begin_osd_denied(self, event):
        self.command("osd", "down", number_of(event))

    # Links

    def begin_link_down(self, event):
        self.network.carrier(host_of(event), False)

    def end_link_down(self, event):
        self.network.carrier(host_of(event), True)

    def begin_link_mute(self, event):
        self.network.drop(host_of(event), "out")

    def end_link_mute(self, event):
        self.network.restore(host_of(event), "out")

    def begin_link_deaf(self, event):
        self.network.drop(host_of(event), "in")

    def end_link_deaf(self, event):
        self.network.restore(host_of(event), "in")

    def begin_link_silent(self, event):
        self.begin_link_mute(event)
        self.begin_link_deaf(event)

    def end_link_silent(self, event):
        self.end_link_mute(event)
        self.end_link_deaf(event)

    def begin_pair_one_way(self, event):
        self.network.drop(host_of(event), "out", host_of(event, 1))

    def end_pair_one_way(self, event):
        self.network.restore(host_of(event), "out", host_of(event, 1))

    def begin_pair_cut(self, event):
        self.begin_pair_one_way(event)
        self.network.drop(host_of(event, 1), "out", host_of(event))

    def end_pair_cut(self, event):
        self.end_pair_one_way(event)
        self.network.restore(host_of(event, 1), "out", host_of(event))

    @staticmethod
    def halves(event):
        """The targets are in random order; the first ones, at least one, are cut off from the rest."""
        first = 1 + event.dice % (len(event.targets) // 2)
        hosts = [host_of(event, which) for which in range(len(event.targets))]
        return [(one, other) for one in hosts[:first] for other in hosts[first:]]

    def begin_hosts_split(self, event):
        for one, other in self.halves(event):
            self.network.drop(one, "out", other)
            self.network.drop(other, "out", one)

    def end_hosts_split(self, event):
        for one, other in self.halves(event):
            self.network.restore(one, "out", other)
            self.network.restore(other, "out", one)

    # Clients

    def begin_writer_killed(self, event):
        for clients in (self.writers, self.watchers):
            clients.signal(event.targets[0], signal.SIGKILL)

    def end_writer_killed(self, event):
        for clients in (self.writers, self.watchers):
            clients.start(event.targets[0])

    def begin_writer_stopped(self, event):
        for clients in (self.writers, self.watchers):
            clients.signal(event.targets[0], signal.SIGSTOP)

    def end_writer_stopped(self, event):
        for clients in (self.writers, self.watchers):
            clients.signal(event.targets[0], signal.SIGCONT)

    # Disks

    def begin_disk_full(self, _event):
        self.full = True
        self.writers.start_filling()

    def end_disk_full(self, _event):
        self.writers.start_emptying()

    def begin_bits_flipped(self, event):
        """The store has to be read before it is changed, which takes a while."""
        self.kill(event.targets)
        thread = threading.Thread(target=self.flip, args=(event,))
        thread.start()
        self.threads.append(thread)

    def end_bits_flipped(self, _event):
        self.join(120)

    def join(self, timeout):
        for thread in self.threads:
            thread.join(timeout)
            check(not thread.is_alive(), "a fault does not end")
        self.threads = []
        if self.problems:
            raise CaseFailed(self.problems[0])

    def flip(self, event):
        name = event.targets[0]
        try:
            self.world.wait_ended(name)
            self.flip_stopped(name, random.Random(event.dice))
            self.world.launch(name)
        except CaseFailed as failure:
            self.problems.append(str(failure))

    def flip_stopped(self, name, dice):
        """One copy of an object at a time: the others must suffice to repair it."""
        objects = self.world.objects_of(name)
        candidates = [object_name for object_name in self.ballast
                      if object_name in objects and object_name not in self.flipped]
        if not candidates:
            return
        chosen = dice.choice(candidates)
        blocks = objects[chosen][1]
        disk = blocks[dice.choice(sorted(blocks))]
        at = disk * BLOCK + dice.randrange(BLOCK)
        with open(self.world.block_file(name), "r+b") as file:
            file.seek(at)
            value = file.read(1)[0]
            file.seek(at)
            file.write(bytes([value ^ 1 << dice.randrange(8)]))
            file.flush()
            os.fsync(file.fileno())
        self.flipped[chosen] = name

    # The end of a round

    def settle_flips(self, timeout):
        """The flips are repaired, and nothing else was wrong: the stores that had them say so."""
        unequal, repaired = self.world.names_found()
        strange = (unequal | repaired) - set(self.flipped) - set(self.flipped_before)
        check(not strange, "copies of objects were unequal or damaged that nobody had changed: %s"
              % " ".join(sorted(strange)))
        for name in sorted(set(self.flipped.values())):
            self.world.signal(name, signal.SIGTERM)
            check(self.world.wait_ended(name) == 0, "%s does not end in good order" % name)
            result = self.world.fsck(name, "--deep")
            check(result.code == 0, "a changed bit was not repaired: %s" % result)
            self.world.launch(name)
            self.world.wait_well(timeout)
        count = len(self.flipped)
        self.flipped_before.update(self.flipped)
        self.flipped = {}
        return count


def number_of(event):
    return event.targets[0].split(".")[1]


def host_of(event, which=0):
    return event.targets[which].split(":")[1]
