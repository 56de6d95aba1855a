"""What goes wrong, and when: drawn from a seed, and nothing else.

A round is a list of events, by time. Rounds are independent of each other, and a shorter round is the
beginning of a longer one, so the same seed means the same events however long a run lasts.
"""

import collections
import random

# Hosts: a monitor and an OSD on the first ones, then OSDs, then clients.
MONS = ("mon.a", "mon.b", "mon.c")
OSDS = ("osd.0", "osd.1", "osd.2", "osd.3")
WRITERS = ("writer.0", "writer.1", "writer.2")
HOSTS = ("h0", "h1", "h2", "h3", "c0", "c1")
HOST_OF = {
    "mon.a": "h0", "mon.b": "h1", "mon.c": "h2",
    "osd.0": "h0", "osd.1": "h1", "osd.2": "h2", "osd.3": "h3",
    # The third client shares a machine with an OSD.
    "writer.0": "c0", "writer.1": "c1", "writer.2": "h3",
}

# What a fault takes for as long as it lasts; two faults at a time never want the same thing. A link is a
# host's, "order" the placing of an OSD's data.
POOLS = {
    "osd": OSDS,
    "mon": MONS,
    "writer": WRITERS,
    "link": tuple("link:" + host for host in HOSTS),
    "order": tuple("order:" + osd for osd in OSDS),
    "disk": ("disk",),
}

Fault = collections.namedtuple("Fault", "name takes shortest longest meaning")

FAULTS = (
    Fault("osd-killed", ("osd",), 0, 8, "kill -9 of an OSD, then a new start"),
    Fault("osd-restarted", ("osd",), 0, 4, "an OSD ends in good order and starts again"),
    Fault("osd-stopped", ("osd",), 0.1, 7, "SIGSTOP, then SIGCONT: a hung process that wakes"),
    Fault("osds-killed", ("osd", "osd"), 0, 6, "kill -9 of two OSDs at once"),
    Fault("all-osds-killed", ("osd",) * len(OSDS), 0, 3, "kill -9 of all OSDs at once"),
    Fault("osd-out", ("order",), 2, 12, "an OSD is marked out, later in"),
    Fault("osd-reweighted", ("order",), 2, 12, "an OSD's weight changes, later back"),
    Fault("osd-denied", ("osd",), 0, 0, "the monitors are told that an OSD is down, though it lives"),
    Fault("mon-killed", ("mon",), 0, 8, "kill -9 of a monitor"),
    Fault("mon-stopped", ("mon",), 0.1, 6, "SIGSTOP of a monitor, then SIGCONT"),
    Fault("leader-killed", ("mon",) * len(MONS), 0, 6, "kill -9 of the leading monitor"),
    Fault("leader-stopped", ("mon",) * len(MONS), 0.1, 6, "SIGSTOP of the leading monitor"),
    Fault("all-mons-killed", ("mon",) * len(MONS), 0, 3, "kill -9 of all monitors at once"),
    Fault("link-down", ("link",), 0.1, 7, "a host's link has no carrier"),
    Fault("link-silent", ("link",), 0.1, 7, "nothing comes through a link, either way"),
    Fault("link-mute", ("link",), 0.1, 7, "what a host sends is lost"),
    Fault("link-deaf", ("link",), 0.1, 7, "what is sent to a host is lost"),
    Fault("pair-cut", ("link", "link"), 0.1, 8, "two hosts cannot reach each other, others can"),
    Fault("pair-one-way", ("link", "link"), 0.1, 8, "one host cannot send to another"),
    Fault("hosts-split", ("link",) * len(HOSTS), 0.5, 8, "two halves of the hosts cannot reach each other"),
    Fault("writer-killed", ("writer",), 0, 2, "kill -9 of a writer and its watcher, then others"),
    Fault("writer-stopped", ("writer",), 0.1, 5, "SIGSTOP of a writer and its watcher, then SIGCONT"),
    Fault("disk-full", ("disk",), 5, 15, "the OSDs are filled until writes are refused, then emptied"),
    Fault("bits-flipped", ("osd",), 5, 5, "kill -9, a bit of one copy of an object changes, new start"),
)
NAMED = {fault.name: fault for fault in FAULTS}

# Seconds between the beginnings of faults.
GAP = (0.2, 2.2)
# Kinds that a round has more of.
FAVOURITES = 4

Event = collections.namedtuple("Event", "at fault targets until dice")


def describe(event):
    until = " until %.2f" % event.until if event.until > event.at else ""
    return "%6.2f %s %s%s" % (event.at, event.fault, " ".join(event.targets), until)


class Draw:
    """The faults of one round, taken from a shuffled deck, so that every kind gets its turn."""

    def __init__(self, seed, number, names):
        self.random = random.Random("thrash %d %d" % (seed, number))
        self.names = list(names)
        self.favourites = self.random.sample(self.names, min(FAVOURITES, len(self.names)))
        self.deck = []
        self.busy = {}

    def take(self, fault, at):
        """Targets that nothing else has at this time, or None."""
        targets = []
        for pool in fault.takes:
            free = [name for name in POOLS[pool]
                    if self.busy.get(name, 0) <= at and name not in targets]
            if not free:
                return None
            targets.append(self.random.choice(free))
        return targets

    def event(self, at):
        """The next fault of the deck that can begin now; None when none can."""
        if not self.deck:
            self.deck = self.names + self.favourites
            self.random.shuffle(self.deck)
        for index, name in enumerate(self.deck):
            fault = NAMED[name]
            targets = self.take(fault, at)
            if targets is None:
                continue
            del self.deck[index]
            # Short ones are as likely as long ones: what happens between two time-outs matters.
            share = self.random.random() ** 2
            until = at + fault.shortest + share * (fault.longest - fault.shortest)
            for target in targets:
                self.busy[target] = until + 0.5
            return Event(at, name, tuple(targets), until, self.random.getrandbits(32))
        return None


def round_events(seed, number, seconds, names=tuple(NAMED)):
    """The events of a round, by the time of their beginning."""
    draw = Draw(seed, number, names)
    events = []
    at = draw.random.uniform(1, 2)
    while at < seconds:
        event = draw.event(at)
        if event:
            events.append(event)
        at += draw.random.uniform(*GAP)
    return events
