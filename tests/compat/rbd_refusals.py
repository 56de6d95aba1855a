#!/usr/bin/env python3
"""What the program rbd and librbd refuse, and with which error: bad input of every kind.

    python3 tests/compat/rbd_refusals.py [RBD [LIBRARIES]]     writes a line each; refusals-16.txt is what Ceph 16.2.15 gave

It needs empty pools `rbd` and `other`, and the configuration of the cluster in $CEPH_CONF; with MESSAGES=1 it writes what was said,
too. After each command that was refused no image is there that was not there before, or the line says so. Images of EiB are not
in it, with which rbd has work for hours, nor a wrong passphrase, to which it gave no answer in 200 s.
tests/cluster/long_rbd_refusals.py compares Limpet's with it."""

import os
import signal
import subprocess
import sys
import tempfile

FOLDER = tempfile.mkdtemp()

# A line each: arguments of rbd, `\\xff` is a byte, `@/` the folder for files; "!" a command for the shell in that folder; "&" an rbd that
# runs until ".", and has written a line or a second of time; "+" a call through Python's module rbd.
SESSION = r"""
create zero --size 0
rm zero --no-progress
create s
create s --size
create s --size x
create s --size -1
create s --size 1.5G
create s --size 1Q
create s --size 99999999999999999999
create s --size 16E
create s --size 100P
create s --size 1G --object-size 2K
create s --size 1G --object-size 64M
create s --size 1G --object-size 5000
create s --size 1G --order 11
create s --size 1G --order 26
create s --size 1G --stripe-unit 3K --stripe-count 2
create s --size 1G --stripe-unit 64K
create s --size 1G --stripe-count 3
create s --size 1G --stripe-unit 8M --stripe-count 2
create s --size 1G --stripe-unit 64K --stripe-count 0
create s --size 1000B
create s --size 1G --image-feature nonsense
create s --size 1G --image-feature fast-diff
create s --size 1G --data-pool none
create s --size 1G --image-format 1
create s --size 1G --image-format 3
create s --size 1G --nonsense
create s t --size 1G
create none/s --size 1G
create rbd/none/s --size 1G
create a/b/c/d --size 1G
create rbd//s --size 1G
create rbd/ --size 1G
create @s --size 1G
create s@ --size 1G
create s@t --size 1G
create --image a/b --size 1G
create --image a@b --size 1G
create s\xff --size 1M
create a --size 8M
create plain --size 8M --image-feature layering
create a --size 8M
! head -c 3000000 /dev/urandom >raw
import @/raw b --no-progress
snap create a@s --no-progress
snap create a --no-progress
snap create a@ --no-progress
snap create a@s --no-progress
snap create a@x\xff --no-progress
snap rm a@x\xff --no-progress
snap create a@x/y --no-progress
snap rm a@x/y --no-progress
snap create a --snap x@y --no-progress
snap create none@s --no-progress
clone a@s c1 --rbd-default-clone-format 1
clone a@none c2 --rbd-default-clone-format 2
clone a c2
clone a@s a
clone a@s none/c2
clone a@s c2 --rbd-default-clone-format 2 --object-size 1K
clone a@s c2 --rbd-default-clone-format 3
snap protect a@s
snap protect a@s
clone a@s c1 --rbd-default-clone-format 1
snap rm a@s --no-progress
snap unprotect a@s
rm a --no-progress
rm c1 --no-progress
snap purge a --no-progress
snap unprotect a@s
snap unprotect a@s
rm a --no-progress
resize a --no-progress
resize a --size 4M --no-progress
resize a --size 8M --no-progress
resize a --size 0 --no-progress
resize a --size 16E --no-progress
resize none --size 1M --no-progress
resize a@s --size 1M --no-progress
create watched --size 8M
& watch watched
rm watched --no-progress
mv watched b
trash mv watched
.
snap rollback a@none --no-progress
snap rollback a --no-progress
+ hold a
snap rollback a@s --no-progress
resize a --size 12M --no-progress
bench a --io-type write --io-size 4K --io-total 4K --io-threads 1
import-diff @/none a --no-progress
rm a --no-progress
feature disable a object-map,fast-diff,exclusive-lock
flatten a --no-progress
+ release
import @/none i --no-progress
import @/raw none/i --no-progress
import @/raw b --no-progress
import @/raw i --stripe-unit 3K --stripe-count 2 --no-progress
import @/raw i --export-format 3 --no-progress
import @/raw i --export-format 2 --no-progress
! printf '' >empty
import @/empty i --no-progress
import @/empty i --export-format 2 --no-progress
export b @/v2 --export-format 2 --no-progress
! head -c 5 v2 >cut1; head -c 40 v2 >cut2; head -c 100000 v2 >cut3; head -c -1 v2 >cut4
import @/cut1 i --export-format 2 --no-progress
import @/cut2 i --export-format 2 --no-progress
import @/cut3 i --export-format 2 --no-progress
import @/cut4 i --export-format 2 --no-progress
! cp v2 bad1; printf 'x' | dd of=bad1 bs=1 seek=3 conv=notrunc status=none
import @/bad1 i --export-format 2 --no-progress
! cp v2 bad2; printf 'x' | dd of=bad2 bs=1 seek=12 conv=notrunc status=none
import @/bad2 i --export-format 2 --no-progress
import @/v2 b --export-format 2 --no-progress
export none @/out --no-progress
export b @/v2 --no-progress
export b @/none/out --no-progress
export b@none @/out --no-progress
export b @/out --export-format 3 --no-progress
snap create b@one --no-progress
export-diff b@one @/d1 --no-progress
! dd if=/dev/zero of=raw bs=1 count=1 conv=notrunc status=none
snap create b@two --no-progress
export-diff b@two @/d2 --from-snap one --no-progress
export-diff b@two @/out --from-snap none --no-progress
export-diff b@one @/out --from-snap two --no-progress
create empty --size 4M
import-diff @/none empty --no-progress
import-diff @/empty empty --no-progress
import-diff @/raw empty --no-progress
import-diff @/d2 empty --no-progress
! head -c 5 d1 >dcut1; head -c 30 d1 >dcut2; head -c 100000 d1 >dcut3; head -c -1 d1 >dcut4
import-diff @/dcut1 empty --no-progress
import-diff @/dcut2 empty --no-progress
import-diff @/dcut3 empty --no-progress
import-diff @/dcut4 empty --no-progress
snap ls empty
import-diff @/d1 none --no-progress
import-diff @/d1 b --no-progress
merge-diff @/d1 @/none @/out --no-progress
merge-diff @/d2 @/d1 @/out --no-progress
merge-diff @/raw @/d1 @/out --no-progress
merge-diff @/dcut3 @/d2 @/out --no-progress
bench none --io-type write --io-total 4K
bench b --io-type nonsense --io-total 4K
bench b --io-type write --io-size 0
bench b --io-type write --io-size 5G
bench b --io-type write --io-threads 0 --io-total 4K
create held --size 8M
lock add held
lock add held x
lock add held x
lock add held y
lock rm held x
lock rm held x client.1
lock rm held none client.1
resize held --size 16M --no-progress
resize held --size 977T --no-progress
snap create held@x --no-progress
snap purge held --no-progress
mv held x
feature disable held fast-diff
object-map rebuild held --no-progress
image-meta set held k v
config image set held rbd_qos_iops_limit 3
sparsify held --no-progress
mv none x
mv b
mv b plain
mv b b
mv b other/b
mv b x\xff
mv x\xff b
cp none x --no-progress
cp b a --no-progress
cp b none/x --no-progress
deep cp b plain --no-progress
deep cp none x --no-progress
deep cp b x --flatten --stripe-unit 3K --stripe-count 2 --no-progress
info
info none
info b@none
info --image-id none
info b --image-id none
rm none --no-progress
rm --no-progress
rm b@one --no-progress
snap limit set plain --limit 0
snap create plain@x --no-progress
snap rm plain@x --no-progress
snap limit clear plain
snap limit set plain
snap limit set plain --limit x
image-meta get plain none
image-meta rm plain none
image-meta set plain k
feature enable plain nonsense
feature enable plain fast-diff
feature enable plain layering
feature disable plain layering
config image set plain nonsense 1
config image set plain rbd_qos_iops_limit x
config image get plain rbd_qos_iops_limit
config pool set rbd nonsense 1
config pool set none rbd_qos_iops_limit 1
namespace create rbd/x\xff
namespace rm rbd/x\xff
namespace create rbd/a@b
namespace rm rbd/none
namespace create none/x
group create g
group create g
group create g@x
group create rbd/none/g
group image add none b
group image add g none
group image rm g b
group snap create g
group snap create none@s
group snap rm g@none
group rm none
group rename none x
trash rm none --no-progress
trash restore none
trash mv none
trash mv plain --expires-at nonsense
trash purge --threshold 2 --no-progress
trash purge --expired-before nonsense --no-progress
sparsify none --no-progress
sparsify plain --sparse-size 1000 --no-progress
sparsify plain --sparse-size 64M --no-progress
object-map rebuild plain --no-progress
object-map check none --no-progress
diff none
diff b --from-snap none
du none
watch none
status none
children none
device map none
device map a -t nonsense
device unmap /dev/none
device unmap none
device unmap
encryption format plain luks3 @/raw
encryption format none luks2 @/raw
encryption format plain luks2 @/none
! printf 'secret' >pass; printf 'wrong' >wrong
create crypt --size 64M
encryption format crypt luks2 @/pass
+ load crypt secret
+ load plain secret
+ load1 crypt secret
+ format small luks2
+ beyond plain
create locked --size 8M
+ two locked
+ two plain
+ advisory plain
+ names
+ closed plain
+ limits plain
nonsense
snap nonsense
ls none
ls rbd/none
ls
trash ls
trash mv a
ls
"""

API = r"""
import rados, rbd, sys
def cluster():
    c = rados.Rados(conffile=CONF); c.connect(); return c, c.open_ioctx("rbd")
def tried(what, call):
    try:
        got = call()
        print("  %s: %s" % (what, "ok" if got is None or not isinstance(got, (int, bytes)) else got if isinstance(got, int) else "%d bytes" % len(got)))
    except Exception as e:
        print("  %s: %s" % (what, getattr(e, "errno", type(e).__name__)))
words = sys.argv[1:]
c, io = cluster()
name = words[1] if len(words) > 1 else ""
if words[0] == "hold":
    image = rbd.Image(io, name)
    image.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE)
    print("  holds", flush=True)
    sys.stdin.read()
    image.close()
elif words[0] in ("load", "load1"):
    with rbd.Image(io, name) as image:
        tried("load", lambda: image.encryption_load(rbd.RBD_ENCRYPTION_FORMAT_LUKS1 if words[0] == "load1" else rbd.RBD_ENCRYPTION_FORMAT_LUKS2, words[2]))
        tried("write", lambda: image.write(b"x" * 512, 0) if words[2] == "secret" and name == "crypt" and words[0] == "load" else None)
        tried("again", lambda: image.encryption_load(rbd.RBD_ENCRYPTION_FORMAT_LUKS2, words[2]))
elif words[0] == "format":
    rbd.RBD().create(io, name, 1 << 20)
    with rbd.Image(io, name) as image:
        tried("format", lambda: image.encryption_format(rbd.RBD_ENCRYPTION_FORMAT_LUKS2, "x"))
        tried("size", image.size)
    rbd.RBD().remove(io, name)
elif words[0] == "beyond":
    with rbd.Image(io, name) as image:
        size = image.size()
        tried("write across the end", lambda: image.write(b"x" * 1024, size - 512))
        tried("write beyond", lambda: image.write(b"x" * 1024, size))
        tried("write far beyond", lambda: image.write(b"x" * 1024, 1 << 62))
        tried("read across the end", lambda: image.read(size - 512, 1024))
        tried("read beyond", lambda: image.read(size, 1024))
        tried("discard across the end", lambda: image.discard(size - 512, 1024))
        tried("discard beyond", lambda: image.discard(size, 1024))
        tried("discard far beyond", lambda: image.discard(1 << 62, 1024))
        tried("zeroes beyond", lambda: image.write_zeroes(size, 1024))
elif words[0] == "two":
    d, jo = cluster()
    with rbd.Image(io, name) as one, rbd.Image(jo, name) as two:
        tried("first writes", lambda: one.write(b"1" * 512, 0))
        tried("second writes", lambda: two.write(b"2" * 512, 0))
        tried("first writes again", lambda: one.write(b"1" * 512, 512))
        tried("first acquires", lambda: one.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE))
        tried("second writes", lambda: two.write(b"2" * 512, 0))
        tried("second discards", lambda: two.discard(0, 4096))
        tried("second flushes", two.flush)
        tried("second resizes", lambda: two.resize(two.size()))
        tried("second grows", lambda: two.resize(two.size() + (1 << 20)))
        tried("second takes a snapshot", lambda: two.create_snap("by-second"))
        tried("second removes it", lambda: two.remove_snap("by-second"))
        tried("second flattens", two.flatten)
        tried("second acquires", lambda: two.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE))
        tried("second acquires it shared", lambda: two.lock_acquire(rbd.RBD_LOCK_MODE_SHARED))
        tried("second releases", two.lock_release)
        tried("second breaks nobody's", lambda: two.lock_break(rbd.RBD_LOCK_MODE_EXCLUSIVE, "client.1"))
        tried("owners", lambda: len(list(two.lock_get_owners())))
        tried("first releases", one.lock_release)
        tried("second writes", lambda: two.write(b"2" * 512, 0))
    with rbd.Image(io, name, read_only=True) as image:
        tried("a reader writes", lambda: image.write(b"x", 0))
        tried("a reader acquires", lambda: image.lock_acquire(rbd.RBD_LOCK_MODE_EXCLUSIVE))
        tried("a reader resizes", lambda: image.resize(1 << 20))
        tried("a reader takes a snapshot", lambda: image.create_snap("x"))
elif words[0] == "advisory":
    d, jo = cluster()
    with rbd.Image(io, name) as one, rbd.Image(jo, name) as two:
        tried("exclusive", lambda: one.lock_exclusive("c"))
        tried("exclusive again", lambda: one.lock_exclusive("c"))
        tried("another's exclusive", lambda: two.lock_exclusive("d"))
        tried("another's shared", lambda: two.lock_shared("d", "t"))
        tried("another writes", lambda: two.write(b"x" * 512, 0))
        tried("unlocks by another", lambda: two.unlock("c"))
        tried("unlocks", lambda: one.unlock("c"))
        tried("unlocks again", lambda: one.unlock("c"))
elif words[0] == "names":
    r = rbd.RBD()
    for what in ("", "a/b", "a@b", "a:b", "a b", ".", "x" * 300, "x" * 4097):
        tried("create %.6r..." % what, lambda: r.create(io, what, 1 << 20))
        tried("  and remove", lambda: r.remove(io, what))
    tried("open ''", lambda: rbd.Image(io, ""))
    tried("rename to ''", lambda: r.rename(io, "plain", ""))
    tried("  and back", lambda: r.rename(io, "", "plain"))
elif words[0] == "closed":
    image = rbd.Image(io, name); image.close()
    tried("read of a closed one", lambda: image.read(0, 1))
    tried("open at no snapshot", lambda: rbd.Image(io, name, snapshot="none"))
    with rbd.Image(io, name) as image:
        tried("removal while open", lambda: rbd.RBD().remove(io, name))
        tried("set_snap", lambda: image.set_snap("none"))
        tried("lock break", lambda: image.break_lock("client.1", "c"))
        tried("metadata", lambda: image.metadata_get("none"))
        tried("parent", image.parent_info)
        tried("flatten", image.flatten)
elif words[0] == "limits":
    with rbd.Image(io, name) as image:
        size = image.size()
        for what in ((1 << 63) - 1, 1 << 63, (1 << 64) - 1):
            tried("resize %x" % what, lambda: image.resize(what))
        tried("size", lambda: 0 if image.size() == size else image.size())
        tried("read of -1", lambda: image.read(1 << 63, 1))
        tried("long metadata", lambda: image.metadata_set("k", "x" * (1 << 20)))
        tried("empty key", lambda: image.metadata_set("", "x"))
        tried("long snapshot", lambda: image.create_snap("x" * 300))
        tried("  removed", lambda: image.remove_snap("x" * 300))
        tried("snapshot without name", lambda: image.create_snap(""))
        tried("  removed", lambda: image.remove_snap(""))
    for order in (1, 11, 26, 63):
        tried("create of order %d" % order, lambda: rbd.RBD().create(io, "ordered", 1 << 20, order))
"""


def argument(word):
    return (FOLDER + word[1:] if word.startswith("@/") else word).replace(r"\xff", "\udcff")


SCRATCH = (b"s", b"s\xff", b"i", b"x", b"c2")


class Session:
    def __init__(self, program, libraries):
        self.program = program
        self.env = dict(os.environ)
        if libraries:
            self.env["LD_LIBRARY_PATH"] = libraries
        self.behind = None
        self.images = []

    def begin(self, argv, **more):
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.env, **more)

    def end_behind(self):
        self.behind.send_signal(signal.SIGTERM)
        self.behind.communicate()
        self.behind = None

    def listed(self):
        return subprocess.run([self.program, "ls"], capture_output=True, env=self.env, check=False).stdout.splitlines()

    def python(self, words):
        code = "CONF = %r\n%s" % (self.env["CEPH_CONF"], API)
        argv = ["/usr/bin/python3", "-B", "-c", code, *words]
        if words[0] == "hold":
            self.behind = self.begin(argv, stdin=subprocess.PIPE)
            return [self.behind.stdout.readline().decode().rstrip()]
        if words[0] == "release":
            self.end_behind()
            return []
        try:
            done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.env, check=False, timeout=100)
        except subprocess.TimeoutExpired:
            return ["  no answer"]
        return [line for line in done.stdout.decode(errors="replace").splitlines() if line.startswith("  ")] or [
            done.stdout.decode(errors="replace")]

    def one(self, line, message):
        """Lines that it gives."""
        if line.startswith("! "):
            subprocess.run(line[2:], shell=True, cwd=FOLDER, check=True)
            return []
        if line == ".":
            self.end_behind()
            return []
        if line.startswith("& "):
            self.behind = self.begin([self.program, *line[2:].split()], stdin=subprocess.PIPE)
            self.behind.stdout.readline()
            return []
        if line.startswith("+ "):
            return [line] + self.python(line[2:].split())
        try:
            done = subprocess.run([self.program, *map(argument, line.split())], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, env=self.env, timeout=100, check=False)
        except subprocess.TimeoutExpired:
            return [line + ": no answer"]
        new = self.new_images() if line.split()[0] in ("create", "clone", "import", "cp", "deep") else []
        left = "; it leaves %s" % b" ".join(new).decode(errors="replace") if done.returncode != 0 and new else ""
        for name in new:
            if name in SCRATCH:
                subprocess.run([self.program, "rm", name, "--no-progress"], capture_output=True, env=self.env, check=False)
                self.images.remove(name)
        shows = done.stdout.split() if line in ("ls", "snap ls empty") else []
        text = done.stderr.decode(errors="replace").strip().replace("\n", " | ") if message else ""
        return ["%s: %d%s%s%s" % (line, done.returncode, left, "; " + b" ".join(shows).decode(errors="replace") if shows else "",
                                  "    " + text if text else "")]

    def new_images(self):
        before, self.images = self.images, self.listed()
        return sorted(set(self.images) - set(before))


def session(program, libraries=None, message=False):
    """Lines of what is refused."""
    it = Session(program, libraries)
    lines = []
    for line in SESSION.strip().splitlines():
        lines += it.one(line, message)
        if message:
            print(line, file=sys.stderr, flush=True)
    return lines


if __name__ == "__main__":
    TALKS = os.environ.get("MESSAGES") == "1"
    print("\n".join(session(*(sys.argv[1:] or ["rbd"]), message=TALKS)))
    subprocess.run(["rm", "-r", FOLDER], check=True)
