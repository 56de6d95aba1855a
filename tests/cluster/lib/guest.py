"""Guests of qemu-system: Debian's kernel for clouds, a static busybox and an initramfs made here. The kernel is fetched as
a package, and not installed; it stays in the build folder."""

import glob
import gzip
import os
import re
import shutil
import subprocess

from lib.cluster import BUILD, at_end, check, command, folder, read_file, succeeds, write_file

KERNEL = os.path.join(BUILD, "guest")
MODULES = ("virtio_pci", "virtio_blk", "ext4")  # The last one is part of the kernel itself.

# The guest runs the script /run on the disk, or, when there is none yet, the one of the initramfs.
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev
for module in %s; do insmod /modules/$module.ko; done
mount -t ext4 /dev/vda /root || { echo "guest: no root"; poweroff -f; }
cp /bin/busybox /root/bin/busybox
mount --move /dev /root/dev; mount --move /proc /root/proc
exec switch_root /root /bin/busybox sh /run
"""


def missing():
    """What cannot be had; "" when all is there."""
    for program, package in (("qemu-system-x86_64", "qemu-system-x86"), ("busybox", "busybox-static"), ("mkfs.ext4", "e2fsprogs")):
        if shutil.which(program) is None:
            return "the package %s is not installed" % package
    return "" if fetch_kernel() else "the package linux-image-cloud-amd64 cannot be fetched"


def kernel_image():
    found = sorted(glob.glob(os.path.join(KERNEL, "boot", "vmlinuz-*")))
    return found[-1] if found else None


def fetch_kernel():
    if kernel_image():
        return True
    depends = command(["apt-cache", "depends", "linux-image-cloud-amd64"]).text
    name = re.search(r"Depends: (linux-image-\S+)", depends)
    if name is None:
        return False
    path = folder()
    os.chmod(path, 0o755)
    command(["apt-get", "download", "-q", name.group(1)], cwd=path, timeout=300)
    packages = glob.glob(os.path.join(path, "*.deb"))
    unpacked = os.path.join(path, "unpacked")
    if not packages or command(["dpkg", "-x", packages[0], unpacked]).code != 0:
        return False
    if not os.path.isdir(KERNEL):
        shutil.move(unpacked, KERNEL)
    return kernel_image() is not None


def accelerator():
    """"kvm" where the processor runs guests itself, else "tcg": other kinds of /dev/kvm do not boot any kernel."""
    if not any(os.path.isdir("/sys/module/" + name) for name in ("kvm_intel", "kvm_amd")):
        return "tcg"
    try:
        with open("/dev/kvm", "r+b", buffering=0):
            return "kvm"
    except OSError:
        return "tcg"


# ---- The initramfs ----


def modules():
    """Paths of the modules, in the order in which they can be loaded."""
    paths = {os.path.basename(path)[:-len(".ko")].replace("-", "_"): path
             for path in glob.glob(os.path.join(KERNEL, "lib", "modules", "*", "kernel", "**", "*.ko"), recursive=True)}
    ordered = []

    def add(name):
        if name not in paths or paths[name] in ordered:
            return
        for words in re.findall(rb"\0depends=([^\0]*)\0", read_file(paths[name])):
            for other in filter(None, words.decode().split(",")):
                add(other.replace("-", "_"))
        ordered.append(paths[name])
    for name in MODULES:
        add(name)
    return ordered


def cpio_entry(name, mode, data=b""):
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def initramfs():
    paths = modules()
    names = [os.path.basename(path)[:-len(".ko")] for path in paths]
    entries = [cpio_entry(name, 0o040755) for name in ("bin", "proc", "sys", "dev", "root", "modules")]
    entries.append(cpio_entry("bin/busybox", 0o100755, read_file(shutil.which("busybox"))))
    entries.append(cpio_entry("init", 0o100755, (INIT % " ".join(names)).encode()))
    entries += [cpio_entry("modules/%s.ko" % name, 0o100644, read_file(path)) for name, path in zip(names, paths)]
    entries.append(cpio_entry("TRAILER!!!", 0))
    return write_file(os.path.join(folder(), "initramfs"), gzip.compress(b"".join(entries), 1))


def root_file_system(script, size_mib=64):
    """A raw ext4 image whose /run is the script of the guest."""
    tree, path = folder(), os.path.join(folder(), "root")
    for name in ("bin", "dev", "proc", "sys", "data"):
        os.mkdir(os.path.join(tree, name))
    write_file(os.path.join(tree, "run"), script.encode())
    with open(path, "wb") as file:
        file.truncate(size_mib << 20)
    succeeds(command(["mkfs.ext4", "-q", "-d", tree, path]))
    return path


# ---- A guest ----


class Guest:
    """Boots from a drive, as -drive has it; what it prints is read by lines."""

    def __init__(self, drive, initrd, env, argument=""):
        argv = ["qemu-system-x86_64", "-accel", accelerator(), "-m", "256", "-nodefaults", "-no-user-config", "-display", "none",
                "-no-reboot", "-serial", "stdio", "-kernel", kernel_image(), "-initrd", initrd, "-append",
                "console=ttyS0 quiet no_timer_check panic=-1 tsc=reliable " + argument, "-drive", drive + ",if=virtio,format=raw"]
        self.said = []
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, errors="replace", env=dict(os.environ, **env))
        at_end(self.kill)

    def read_until(self, words):
        """The line that has these words."""
        for line in self.process.stdout:
            self.said.append(line.rstrip())
            if words in line:
                return line.rstrip()
        check(False, "the guest never said '%s', but: %s" % (words, "\n".join(self.said[-20:])))
        return ""

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """It powers itself off."""
        self.said += self.process.communicate(timeout=200)[0].splitlines()
        check(self.process.returncode == 0, "qemu ended with %d: %s" % (self.process.returncode, "\n".join(self.said[-20:])))
