#!/usr/bin/env python3
"""pjdfstest, a test suite for POSIX file systems: on one mount, while another mount looks on, and with two mounts that make its calls
in turn. PJDFSTEST names a folder with its source; otherwise it is fetched. Words after -- choose tests: parts of their paths."""

import os
import re
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

from lib.cluster import Cluster, at_end, case, check, command, folder, run, succeeds
from lib.mount import Ext4, Mounts, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "posix"
SOURCE = "https://github.com/pjd/pjdfstest"
LONG = 3600
JOBS = 12
MAY_FAIL = "# TO" "DO"  # As such suites mark what nobody expects to pass; in two, since it is no note of ours.
WANTED = sys.argv[sys.argv.index("--") + 1:] if "--" in sys.argv else []
if "--" in sys.argv:
    del sys.argv[sys.argv.index("--"):]

cluster = Cluster(mons=1, osds=3)
mounts = Mounts(cluster)
suite = None


# Stands where the suite's own program does: makes a call where it is asked for, the next one at the same place of the other mount.
IN_TURN = """#!/bin/sh
read -r turn < "$TURN"
echo $((1 - turn)) > "$TURN"
if [ "$turn" = 1 ]; then
    case $PWD in
    {one}*) cd "{two}${{PWD#{one}}}" || exit 1 ;;
    esac
fi
exec {program} "$@"
"""

# The suite's own helpers, without the ten processes that each test takes beside the one that makes its call.
QUICK = """
expect_with_grep() { if echo "$2" | grep -Eq '^'"$1"'$'; then true; else false; fi; }
expect()
{
	e="${1}"
	shift
	r=$(${fstest} $* 2>/dev/null)
	r="${r##*
}"
	case "$e" in
	*[!A-Za-z0-9_,-]*) expect_with_grep "$e" "$r" ;;
	*) [ "$r" = "$e" ] ;;
	esac
	if [ $? -eq 0 ]; then
		echo "ok ${ntest}${todomsg:+ # MAY_FAIL ${todomsg}}"
	else
		[ -n "${todomsg}" ] && echo "not ok ${ntest} # MAY_FAIL ${todomsg}" ||
			echo "not ok ${ntest} - tried '$*', expected ${e}, got ${r}"
	fi
	todomsg=""
	: $(( ntest += 1 ))
}
namegen()
{
	read -r name < /proc/sys/kernel/random/uuid
	echo "pjdfstest_${name}"
}
namegen_len()
{
	name=""
	while [ ${#name} -lt "${1}" ]; do
		read -r part < /proc/sys/kernel/random/uuid
		name="${name}${part}"
	done
	printf "%.${1}s" "${name}"
}
""".replace("# MAY_FAIL", MAY_FAIL)


def scripts():
    found = sorted(os.path.relpath(os.path.join(path, name), suite)
                   for path, _dirs, names in os.walk(os.path.join(suite, "tests")) for name in names if name.endswith(".t"))
    return [name for name in found if not WANTED or any(word in name for word in WANTED)]


def run_script(name, where, source):
    """How many tests it had, and those that failed: lines of its output."""
    place = os.path.join(where, name.replace("/", "."))
    os.mkdir(place)
    turn = os.path.join(folder(), "turn")
    with open(turn, "w", encoding="ascii") as file:
        file.write("0\n")
    text = command(["sh", os.path.join(source, name)], cwd=place, timeout=LONG, env={"TURN": turn}).text
    plan = re.search(r"^1\.\.(\d+)", text, re.M)
    lines = re.findall(r"^(?:not )?ok\b.*", text, re.M)
    failed = [line for line in lines if line.startswith("not ok") and MAY_FAIL not in line]
    count = int(plan.group(1)) if plan else 0
    if len(lines) != count:
        failed.append("%d of %d tests were run" % (len(lines), count))
    return count, failed


def run_all(where, what, source=None):
    """Several at a time, each in a folder of its own: most of them sleep until times are different."""
    total, failures = 0, []
    with ThreadPoolExecutor(JOBS) as pool:
        results = {pool.submit(run_script, name, where, source or suite): name for name in scripts()}
        for result in as_completed(results):
            count, failed = result.result()
            total += count
            print("     %s: %s: %d tests" % (what, results[result], count), flush=True)
            for line in failed:
                print("%s: %s: %s" % (what, results[result], line), flush=True)
            failures += failed
    print("%s: %d tests, %d failed" % (what, total, len(failures)), flush=True)
    return total, failures


class Walker:
    """Looks at all that is below a folder, again and again, until it is told to stop."""

    def __init__(self, path):
        self.path = path
        self.stopping = threading.Event()
        self.rounds = 0
        self.thread = threading.Thread(target=self.walk, daemon=True)
        self.thread.start()

    def walk(self):
        while not self.stopping.is_set():
            for path, dirs, names in os.walk(self.path):
                for name in dirs + names:
                    try:
                        full = os.path.join(path, name)
                        os.lstat(full)
                        os.listxattr(full, follow_symlinks=False)
                    except OSError:
                        pass  # It went meanwhile.
            self.rounds += 1

    def stop(self):
        self.stopping.set()
        self.thread.join()
        return self.rounds


@case
def starts():
    global suite  # pylint: disable=global-statement
    suite = os.path.join(folder(), "pjdfstest")
    if os.environ.get("PJDFSTEST"):
        shutil.copytree(os.environ["PJDFSTEST"], suite)
    elif command(["git", "clone", "-q", "--depth", "1", SOURCE, suite]).code != 0:
        print("skipped: %s cannot be fetched; PJDFSTEST may name a folder with it" % SOURCE)
        sys.exit(0)
    # What it expects of a rename's times, and other things that POSIX leaves open: as on ext4.
    with open(os.path.join(suite, "tests", "conf"), "a", encoding="utf-8") as conf:
        conf.write("fs=EXT4\n")
    with open(os.path.join(suite, "tests", "misc.sh"), "a", encoding="utf-8") as helpers:
        helpers.write(QUICK)
    build = "[ -x configure ] || autoreconf -ifs; [ -x pjdfstest ] || ./configure LDFLAGS=-static; make pjdfstest"
    succeeds(command(["sh", "-euc", build], cwd=suite, timeout=LONG))
    os.umask(0o022)
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)


@case
def ext4_passes():
    if os.environ.get("PJDFSTEST_ONLY_OURS"):
        return
    total, failures = run_all(Ext4().path, "ext4")
    check(total > 0 and not failures, "the suite does not pass on ext4 here")


@case
def one_mount():
    path = mounts.mount(FS)
    room = os.path.join(path, "one")
    os.mkdir(room)
    _total, failures = run_all(room, "one mount")
    check(not failures, "%d failed" % len(failures))


@case
def while_another_mount_looks_on():
    path, other = mounts.mount(FS), mounts.mount(FS)
    room = os.path.join(path, "two")
    os.mkdir(room)
    walker = at_end(Walker(os.path.join(other, "two")).stop).__self__
    _total, failures = run_all(room, "two mounts")
    rounds = walker.stop()
    print("the other one looked %d times" % rounds)
    check(rounds > 1 and not failures, "%d failed" % len(failures))


@case
def two_mounts_make_the_calls_in_turn():
    path, other = mounts.mount(FS), mounts.mount(FS)
    os.mkdir(os.path.join(path, "three"))
    in_turn = os.path.join(folder(), "pjdfstest")
    shutil.copytree(os.path.join(suite, "tests"), os.path.join(in_turn, "tests"))
    wrapper = os.path.join(in_turn, "pjdfstest")
    with open(wrapper, "w", encoding="utf-8") as file:
        file.write(IN_TURN.format(one=path, two=other, program=os.path.join(suite, "pjdfstest")))
    os.chmod(wrapper, 0o755)
    _total, failures = run_all(os.path.join(path, "three"), "two mounts in turn", in_turn)
    check(not failures, "%d failed" % len(failures))


@case
def nothing_is_wrong_in_the_end():
    for path in list(mounts.paths):
        mounts.umount(path)
    report = mounts.check_clean(FS)
    check(report["damaged"] == 0, "%r" % report)


if __name__ == "__main__":
    run()
