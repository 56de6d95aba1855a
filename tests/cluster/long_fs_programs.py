#!/usr/bin/env python3
"""Programs that people run, on a mounted file system, and then a check: ./tests/run --long fs. LIMPET_GIT names a repository to be
cloned (otherwise this one), LIMPET_TREE what rsync copies (otherwise /usr, which takes a while)."""

import glob
import os
import shutil
import subprocess
import sys

from lib.cluster import REPO, Cluster, case, check, command, run, succeeds, wait_until
from lib.mount import Mounts, missing

if missing():
    print("skipped: %s is missing" % missing())
    sys.exit(0)

FS = "programs"
LONG = 1800
cluster = Cluster(mons=1, osds=3, osd_size="12G")
mounts = Mounts(cluster)
one, two = None, None


def lacks(program):
    if shutil.which(program):
        return False
    print("skipped: %s is not installed" % program)
    return True


def room(name):
    os.mkdir(os.path.join(one, name))
    return os.path.join(one, name), os.path.join(two, name)


def type_in(script, cwd):
    return succeeds(command(["sh", "-euc", script], cwd=cwd, timeout=LONG)).text


@case
def starts():
    global one, two  # pylint: disable=global-statement
    cluster.start()
    cluster.pool("fs")
    mounts.create(FS)
    one, two = mounts.mount(FS), mounts.mount(FS)


@case
def fio_reads_what_it_wrote():
    if lacks("fio"):
        return
    here, _there = room("fio")
    for engine, pattern in (("psync", "randwrite"), ("libaio", "randwrite"), ("mmap", "write")):
        type_in("fio --name=%s --ioengine=%s --rw=%s --bs=4k --size=8M --iodepth=8 --verify=crc32c --do_verify=1 "
                "--verify_fatal=1 --end_fsync=1 --output=/dev/null" % (engine, engine, pattern), here)


@case
def git_clones_and_finds_nothing_wrong():
    here, there = room("git")
    source = os.environ.get("LIMPET_GIT", REPO)
    if command(["git", "-C", source, "rev-parse", "HEAD"]).code != 0:
        print("skipped: %s is not a git repository" % source)
        return
    type_in("git clone -q 'file://%s' clone" % source, here)
    type_in("git -C clone fsck --full --strict && git clone -q clone again && git -C again status --porcelain", there)


@case
def this_project_is_compiled():
    """Made from nothing on one mount, and again on the other one, where nothing is left to do; what was made works."""
    here, there = room("compile")
    copied = ("CMakeLists.txt", "CMakePresets.json", "client", "common", "docs", "mon", "osd", "placement", "tests")
    for name in copied:
        source = os.path.join(REPO, name)
        (shutil.copytree if os.path.isdir(source) else shutil.copy)(source, os.path.join(here, name))
    type_in("cmake --preset release >/dev/null && ninja -C build limpet limpet-osd unit/common_test_buf >/dev/null", here)
    said = type_in("build/unit/common_test_buf 2>&1 && build/bin/limpet version && ninja -C build limpet-osd", there)
    check("PASSED" in said and "no work to do" in said, said)


@case
def rsync_copies_all():
    if lacks("rsync"):
        return
    here, there = room("rsync")
    source = os.environ.get("LIMPET_TREE", "/usr")
    type_in("rsync -aHAX %s/ copy/ 2>/dev/null || rsync -aH %s/ copy/" % (source, source), here)
    said = type_in("rsync -aHn --checksum --itemize-changes %s/ copy/" % source, there)
    check(said == "", "it differs:\n%s" % said[:500])


@case
def sqlite_keeps_its_word():
    if lacks("sqlite3"):
        return
    here, there = room("sqlite")
    for mode in ("delete", "truncate"):
        out = type_in("sqlite3 %s 'pragma journal_mode=%s; create table t(a, b); insert into t with recursive n(i) as (select 1 "
                      "union all select i+1 from n where i < 3000) select i, hex(randomblob(50)) from n; "
                      "delete from t where a %% 3 = 0; vacuum; select count(*) from t;'" % (mode, mode), here)
        check(out.split()[-1] == "2000", out)
        check(type_in("sqlite3 %s 'pragma integrity_check'" % mode, there).strip() == "ok", "integrity")


@case
def postgresql_keeps_its_word_without_an_osd():
    """A bank's accounts under load while an OSD dies: what was committed adds up, also on the other mount."""
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not programs or lacks("pgbench"):
        return
    here, there = room("postgresql")
    shutil.chown(here, "postgres", "postgres")
    as_postgres = ["runuser", "-u", "postgres", "--"]
    base, options = os.path.join(here, "base"), ["-h", here, "-U", "postgres"]

    def server(verb, where, *more):
        return succeeds(command(as_postgres + [os.path.join(programs[-1], "pg_ctl"), verb, "-s", "-w", "-t", "300", "-D", where]
                                + list(more), timeout=LONG, cwd=here))

    def ask(words, where):
        return succeeds(command(as_postgres + ["psql", "-h", where, "-U", "postgres", "-At", "-c", words], cwd=here)).text.strip()
    succeeds(command(as_postgres + [os.path.join(programs[-1], "initdb"), "-A", "trust", "-D", base], timeout=LONG, cwd=here))
    server("start", base, "-l", os.path.join(here, "log"), "-o", "-k %s -c listen_addresses=''" % here)
    succeeds(command(as_postgres + ["pgbench", "-i", "-q", "-s", "2"] + options, timeout=LONG, cwd=here))
    with subprocess.Popen(as_postgres + ["pgbench", "-c", "4", "-T", "20", "-n"] + options, cwd=here, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as load:
        wait_until("transactions", lambda: int(ask("select count(*) from pgbench_history", here)) > 50, 120)
        cluster.kill("osd.1")
        succeeds(cluster.start_daemon("osd.1"))
        check(load.wait() == 0, "pgbench: %d" % load.returncode)
    sums = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)"
    check(ask(sums, here) == "t", "the accounts add up")
    server("stop", base)
    there_base = os.path.join(there, "base")
    server("start", there_base, "-l", os.path.join(there, "log2"), "-o", "-k %s -c listen_addresses=''" % there)
    check(ask(sums, there) == "t", "they do on the other mount")
    server("stop", there_base)


@case
def dbench_ends():
    if lacks("dbench"):
        return
    here, _there = room("dbench")
    print(type_in("dbench -t 20 -D . 4 | grep Throughput", here).strip())


@case
def bonnie_ends():
    if lacks("bonnie++"):
        return
    here, _there = room("bonnie")
    type_in("bonnie++ -q -f -d . -u root -s 256M -r 128M -n 2 -x 1 2>&1", here)


@case
def stressors_end():
    if lacks("stress-ng"):
        return
    here, _there = room("stress")
    known = command(["stress-ng", "--class", "filesystem?"]).text.partition(":")[2].split()
    # Those of the class that work elsewhere, or mount something.
    elsewhere = ("bind-mount", "binderfs", "dup", "eventfd", "ioprio", "procfs")
    failed = []
    for name in [name for name in known if name not in elsewhere] + ["aio", "mmap", "msync", "readahead", "seek", "sendfile"]:
        result = command(["stress-ng", "--temp-path", here, "--" + name, "2", "--timeout", "3s", "--verify", "-q"], timeout=LONG)
        # 3: this stressor cannot run here, 4: it does not exist.
        if result.code not in (0, 3, 4):
            failed.append("%s: %s" % (name, result))
    check(known and not failed, "\n".join(failed) or "there are none")


@case
def nothing_is_wrong_in_the_end():
    for path in (one, two):
        mounts.umount(path)
    report = mounts.check_clean(FS)
    check(report["damaged"] == 0, "%r" % report)


if __name__ == "__main__":
    run()
