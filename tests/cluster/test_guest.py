#!/usr/bin/env python3
"""A guest of an unmodified qemu-system whose disk is an image, through our librbd: it writes files, is killed, boots again
and finds them; the same while an OSD dies."""

import re
import sys

from lib.cluster import Cluster, case, check, command, run, succeeds
from lib.guest import Guest, accelerator, initramfs, missing, root_file_system
from lib.librados import environment

if missing():
    print("skipped: %s" % missing())
    sys.exit(0)

# The kernel's argument say=N begins after file N. Each file is written, synced, and only then told.
SCRIPT = """
/bin/busybox mount -o remount,rw /dev/vda / 2>/dev/null
PATH=/bin; /bin/busybox --install -s /bin
for file in $(ls /data | sort -n); do
    [ "$(cat /data/$file)" = "$(seq $file $((file + 300)))" ] && echo "found $file" || echo "damaged $file"
done
echo "all found"
case $(cat /proc/cmdline) in *end*) mount -o remount,ro /; poweroff -f;; esac
n=$(ls /data | wc -l)
while true; do
    seq $n $((n + 300)) > /data/$n && sync && echo "wrote $n"
    n=$((n + 1))
done
"""

cluster = Cluster(mons=1, osds=3)
drive = None
initrd = None


def boot(argument=""):
    return Guest(drive, initrd, environment(cluster), argument)


def check_found(guest, n):
    """Files 0 to n-1, which were told to be written, are there, and none is damaged; the one after may be incomplete."""
    guest.read_until("all found")
    text = "\n".join(guest.said)
    found = {int(number) for number in re.findall(r"found (\d+)", text)}
    check(set(range(n)) <= found, "of %d files are missing: %r" % (n, sorted(set(range(n)) - found)))
    damaged = {int(number) for number in re.findall(r"damaged (\d+)", text)}
    check(damaged <= {n, n + 1}, "damaged: %r" % sorted(damaged))


@case
def starts():
    global drive, initrd
    cluster.start()
    cluster.pool("data")
    succeeds(cluster.limpet("rbd", "import", root_file_system(SCRIPT), "data/guest", "--no-progress"))
    drive = "file=rbd:data/guest:id=admin:conf=" + cluster.conf
    initrd = initramfs()
    print("     by %s" % accelerator())


written = 0


def write_until(guest, n):
    """Until it has written file n; how many it has written then."""
    global written
    guest.read_until("wrote %d" % n)
    written = n + 1


@case
def a_guest_boots_and_writes():
    guest = boot()
    write_until(guest, 10)
    maps = open("/proc/%d/maps" % guest.process.pid, encoding="utf-8").read()
    check("lib/compat/librbd.so" in maps, "qemu has loaded another librbd")
    guest.kill()


@case
def a_guest_that_was_killed_finds_its_files():
    guest = boot()
    check_found(guest, written)
    write_until(guest, written + 5)
    cluster.kill("osd.1")
    write_until(guest, written + 15)
    guest.kill()


@case
def so_it_does_when_an_osd_died_meanwhile():
    succeeds(cluster.start_daemon("osd.1"))
    cluster.wait_healthy()
    guest = boot("end")
    check_found(guest, written)
    guest.end()


@case
def what_is_left_is_sound():
    path = "rbd:data/guest:id=admin:conf=" + cluster.conf
    copy = cluster.path + ".raw"
    succeeds(command(["qemu-img", "convert", "-O", "raw", path, copy], env=environment(cluster)))
    succeeds(command(["e2fsck", "-f", "-n", copy]))
    succeeds(command(["rm", copy]))


if __name__ == "__main__":
    run()
