"""Images as block devices: what tests do with `limpet rbd device` and file systems on it."""

import json
import os
import signal

from lib.cluster import at_end, check, command, folder, process_alive, succeeds, wait_until


def missing():
    """Why devices cannot be had here; "" when they can."""
    if os.geteuid() != 0:
        return "root"
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.path.exists(path):
            return path
    return ""


class Devices:
    """Mapped images of one cluster, in a run folder of their own; kind: of devices, as -t has it."""

    def __init__(self, cluster, kind=None):
        self.cluster = cluster
        self.run = os.path.join(folder(), "devices")
        self.env = {"LIMPET_DEVICES": self.run}
        self.kind = ["-t", kind] if kind else []
        self.mounts = []
        at_end(self.end)

    def call(self, *arguments, **options):
        return self.cluster.limpet("rbd", *arguments, env=self.env, **options)

    def map(self, *arguments):
        device = succeeds(self.call("device", "map", *self.kind, *arguments)).text.strip()
        check(device.startswith("/dev/"), "no device: %r" % device)
        return device

    def unmap(self, *arguments):
        return succeeds(self.call("device", "unmap", *arguments))

    def list(self):
        return json.loads(succeeds(self.call("device", "list", "-f", "json")).text)

    def entry(self, device):
        """Of a mapped device: its id and what is kept of it."""
        for row in self.list():
            if row["device"] == device:
                with open(os.path.join(self.run, row["id"], "entry"), encoding="utf-8") as file:
                    return row["id"], json.load(file)
        return None, None

    def mapper(self, device):
        return self.entry(device)[1]["pid"]

    def kill_mapper(self, device):
        pid = self.mapper(device)
        os.kill(pid, signal.SIGKILL)
        wait_until("end of the mapper", lambda: not process_alive(pid), 20)

    def mount(self, device, *options):
        path = folder()
        succeeds(command(["mount"] + list(options) + [device, path]))
        self.mounts.append(path)
        return path

    def umount(self, path):
        succeeds(command(["umount", path]))
        self.mounts.remove(path)

    def end(self):
        for path in self.mounts:
            command(["umount", "-l", path])
        for row in self.list():
            self.call("device", "unmap", "-o", "force", row["device"])


def has_child(pid):
    """A process has begun another one: 'map' its mapper."""
    with open("/proc/%d/task/%d/children" % (pid, pid), encoding="ascii") as file:
        return file.read().strip() != ""


def size_of(device):
    return int(succeeds(command(["blockdev", "--getsize64", device])).text)


def loops_on(path):
    """Loop devices whose files lie in a folder."""
    rows = json.loads(succeeds(command(["losetup", "--json", "--list", "--output", "NAME,BACK-FILE,DIO,RO,LOG-SEC"])).text
                      or '{"loopdevices": []}')["loopdevices"]
    return [row for row in rows if row["back-file"].startswith(path + "/")]


def mounts_in(path):
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return [line.split()[1] for line in file if line.split()[1].startswith(path + "/")]
