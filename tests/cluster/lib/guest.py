"""Guests of qemu-system: Debian's kernel for clouds, a static busybox and an initramfs made here. The kernel is fetched as
a package, and not installed; it stays in the build folder.

A HostGuest runs a program of this machine under a newer kernel, of Debian's backports, with modules which this machine's
may not have: its root is this machine's, read-only, and what it writes is in memory."""

import glob
import gzip
import lzma
import os
import re
import shutil
import subprocess
import sys
import time

from lib import own_mounts
from lib.cluster import BUILD, at_end, check, command, folder, read_file, succeeds, write_file

KERNEL = os.path.join(BUILD, "guest")
NEWER = os.path.join(BUILD, "guest-newer")
NEWER_SUITE = "trixie-backports"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
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


# ---- A guest on this machine's files ----


def missing_newer():
    """What cannot be had for a HostGuest; "" when all is there."""
    if os.geteuid() != 0:
        return "root"
    for program, package in (("qemu-system-x86_64", "qemu-system-x86"), (VIRTIOFSD, "qemu-system-common"),
                             ("busybox", "busybox-static")):
        if shutil.which(program) is None:
            return "the package %s" % package
    return "" if fetch_newer() else "a kernel of Debian's " + NEWER_SUITE


def apt_options():
    """apt's, for NEWER_SUITE from where packages come from here; the machine's own lists stay as they are."""
    rows = [line.split() for line in command(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
                                              "Created-By: Packages"]).text.splitlines()]
    found = [row for row in rows if len(row) == 3 and row[2] == "main" and re.fullmatch("[a-z]+", row[1])]
    if not found:
        return None
    path = folder()
    os.chmod(path, 0o755)
    for name in ("lists/partial", "cache/archives/partial"):
        os.makedirs(os.path.join(path, name))
    write_file(os.path.join(path, "sources.list"),
               ("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n"
                % (found[0][0], NEWER_SUITE)).encode())
    return [word for option in ("Dir::Etc::sourcelist=%s/sources.list", "Dir::Etc::sourceparts=-", "Dir::State::lists=%s/lists",
                                "Dir::Cache=%s/cache", "APT::Sandbox::User=root")
            for word in ("-o", option % path if "%s" in option else option)]


def newer_kernel():
    found = [path for place in ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz") for path in glob.glob(os.path.join(NEWER, place))]
    return found[0] if found else None


def fetch_newer():
    if newer_kernel():
        return True
    options = apt_options()
    if options is None or command(["apt-get", "-q", *options, "update"], timeout=300).code != 0:
        return False
    name = re.search(r"Depends: (linux-image-\S+)", command(["apt-cache", *options, "depends", "linux-image-cloud-amd64"]).text)
    if name is None:
        return False
    # The kernel and its modules are packages of their own.
    text = command(["apt-cache", *options, "depends", name.group(1)]).text
    names = [name.group(1)] + re.findall(r"^  Depends: (linux-(?:binary|modules)-\S+)", text, re.MULTILINE)
    path = folder()
    command(["apt-get", "-q", *options, "download", *names], cwd=path, timeout=300)
    unpacked = os.path.join(path, "unpacked")
    for package in glob.glob(os.path.join(path, "*.deb")):
        if command(["dpkg", "-x", package, unpacked]).code != 0:
            return False
    if os.path.isdir(unpacked) and not os.path.isdir(NEWER):
        shutil.move(unpacked, NEWER)
    return newer_kernel() is not None


# What it ends with is read from its last line.
HOST_INIT = """#!/bin/bash
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev; mount -t tmpfs none /run
mkdir -p /dev/shm /run/tmp; mount -t tmpfs none /dev/shm
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run/tmp %s
ip link set lo up
for module in %s; do busybox insmod $module; done
cd %s; %s
echo "guest ended with $?"
echo o > /proc/sysrq-trigger
sleep 1000
"""


class HostGuest:
    """Runs a command of this machine, as root, and powers itself off; what it prints is printed here, too."""

    def __init__(self, argv, modules=(), environment=(), memory_mib=1536, cpu=None):
        self.path = folder()
        self.memory = "%dM" % memory_mib
        # The emulation of cmpxchg16b in QEMU 7.2 spoils a register of newer kernels.
        self.cpu = cpu or ("host" if accelerator() == "kvm" else "max,-cx16")
        script = HOST_INIT % (" ".join("%s='%s'" % item for item in environment), " ".join(map(self.module, modules)), os.getcwd(),
                              " ".join("'%s'" % word for word in argv))
        write_file(self.file("init"), script.encode())
        os.chmod(self.file("init"), 0o755)
        self.processes = []
        at_end(self.end)

    def file(self, name):
        return os.path.join(self.path, name)

    def module(self, name):
        """Its path, unpacked."""
        found = glob.glob(os.path.join(NEWER, "**/modules/*/kernel/**", name + ".ko*"), recursive=True)
        check(found, "the kernel has no module %s" % name)
        data = read_file(found[0])
        return write_file(self.file(name + ".ko"), lzma.decompress(data) if found[0].endswith(".xz") else data)

    def start(self, argv, **options):
        self.processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, **options))
        return self.processes[-1]

    def run(self, timeout):
        """The exit code of its command; None: it has none, as its kernel has died."""
        socket = self.file("socket")
        with open(self.file("log"), "wb") as log:
            # Not this machine's devices and mounts, which it would hold; and mounts that go meanwhile go there, too.
            self.start(["unshare", "--mount", "--propagation", "slave", sys.executable, "-B", own_mounts.__file__,
                        "sh", "-c", "mount -t tmpfs none /dev && exec \"$@\"", "sh",
                        VIRTIOFSD, "--socket-path=" + socket, "-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always",
                        "--thread-pool-size=1"], stdout=log, stderr=log)
        deadline = time.monotonic() + timeout
        while not os.path.exists(socket):
            check(time.monotonic() < deadline and self.processes[0].poll() is None,
                  "no virtiofsd: %r" % read_file(self.file("log")))
            time.sleep(0.02)
        guest = self.start(
            ["timeout", str(timeout), "qemu-system-x86_64", "-accel", accelerator(), "-cpu", self.cpu, "-m", self.memory,
             "-object", "memory-backend-memfd,id=memory,size=%s,share=on" % self.memory, "-numa", "node,memdev=memory",
             "-chardev", "socket,id=root,path=" + socket, "-device", "vhost-user-fs-pci,chardev=root,tag=root",
             "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel",
             newer_kernel(), "-append", "console=ttyS0 quiet nowatchdog no_timer_check panic=-1 tsc=reliable rootfstype=virtiofs root=root ro "
             "init=" + self.file("init")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        code = None
        for line in guest.stdout:
            ended = re.match(r"guest ended with (\d+)", line)
            if ended:
                code = int(ended.group(1))
                break
            sys.stdout.write("     " + line)
            sys.stdout.flush()
        self.end()
        return code

    def end(self):
        for process in self.processes:
            process.terminate()
            process.wait()
        self.processes = []
