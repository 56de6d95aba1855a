"""A libvirtd of one's own: its state, configuration and sockets are nobody else's. It takes librados and librbd from
the build. Needs root: its folders are mounted over those of the system, in a mount namespace."""

import os
import shutil
import signal
import subprocess
import sys

from lib import own_mounts
from lib.cluster import at_end, check, command, folder, read_file, succeeds, wait_until, write_file
from lib.librados import environment

SECRET = "5c7b3a52-0c1d-4f0e-8a5e-6d1c0f3b2a11"

# libvirtd knows its folders by name. The user under whom it would run guests comes with a package of system services.
START = """
for folder in /etc/libvirt /var/lib/libvirt /var/cache/libvirt /run/libvirt /var/log/libvirt; do
    mkdir -p $folder && mount -t tmpfs none $folder
done
for file in passwd group; do mount --bind "$1/$file" /etc/$file; done
cp "$1/qemu.conf" /etc/libvirt/qemu.conf
exec libvirtd --config "$1/libvirtd.conf" --pid-file "$1/pid"
"""
LIBVIRTD = 'unix_sock_dir = "%s"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\nlog_outputs = "3:stderr"\n'
QEMU = 'security_driver = "none"\nnamespaces = []\ncgroup_controllers = []\nstdio_handler = "file"\n'


def missing():
    """Why there cannot be one here; "" when there can."""
    if os.geteuid() != 0:
        return "root"
    if shutil.which("libvirtd") is None or shutil.which("virsh") is None:
        return "the packages libvirt-daemon and libvirt-clients"
    backend = "/usr/lib/x86_64-linux-gnu/libvirt/storage-backend/libvirt_storage_backend_rbd.so"
    return "" if os.path.exists(backend) else "the package libvirt-daemon-driver-storage-rbd"


class Libvirt:
    def __init__(self, cluster):
        self.cluster = cluster
        self.path = folder()
        self.log = os.path.join(self.path, "log")
        self.process = None
        self.domains = []
        at_end(self.end)

    def start(self):
        def put(name, text):
            write_file(os.path.join(self.path, name), text.encode())
        put("libvirtd.conf", LIBVIRTD % self.path)
        put("qemu.conf", QEMU)
        put("passwd", read_file("/etc/passwd").decode() + "libvirt-qemu:x:0:0::/:/bin/false\n")
        put("group", read_file("/etc/group").decode() + "libvirt-qemu:x:0:\n")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", sys.executable, "-B", own_mounts.__file__, "sh", "-ec", START, "sh", self.path],
                stdout=log, stderr=log, env=dict(os.environ, **environment(self.cluster)))
        wait_until("libvirtd listens", self.answers, 60)

    def answers(self):
        check(self.process.poll() is None, "libvirtd has ended: %s" % read_file(self.log).decode(errors="replace")[-2000:])
        return self.call("uri").code == 0

    def call(self, *words, **options):
        uri = "qemu+unix:///system?socket=" + os.path.join(self.path, "libvirt-sock")
        return command(["virsh", "--quiet", "--connect", uri] + list(words), **options)

    def virsh(self, *words):
        return succeeds(self.call(*words)).text

    def define(self, verb, xml):
        path = write_file(os.path.join(folder(), "xml"), xml.encode())
        return self.virsh(verb, path)

    def give_key(self, xml):
        """Under the number SECRET, as XML says."""
        self.define("secret-define", xml)
        key = succeeds(self.cluster.limpet("auth", "get-key", "client.admin")).text.strip()
        path = write_file(os.path.join(folder(), "key"), key.encode())
        self.virsh("secret-set-value", SECRET, "--file", path)

    def libraries(self):
        """What the daemon has loaded."""
        with open("/proc/%d/maps" % self.process.pid, encoding="utf-8") as file:
            return {line.split()[5] for line in file if len(line.split()) > 5 and ".so" in line}

    def end(self):
        if self.process is None:
            return
        for name in self.domains:
            self.call("destroy", name)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
