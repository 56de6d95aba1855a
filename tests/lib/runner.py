"""Builds, runs the tests in parallel, keeps their logs, and reports.

A test is a command with a name, a time limit and a weight: how many of the machine's slots it takes
while it runs. Cluster tests wait for disks and clocks most of the time; so one of them at a time (two when nothing
else is left) runs beside what takes the slots, which gives way to it. Builds come first; a test whose build failed counts as failed. The
last line printed is always "N passed, N failed", and the exit status is 1 when something failed.
"""

import argparse
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LOGS = os.path.join(REPO, "build", "test-logs")
SIM_SEEDS = 100
SIM_SEEDS_A_TEST = 10
SIM_SEEDS_A_SCENARIO = 20
SIM_FRESH_SEEDS = 300
SIM_FRESH_BASE = 1000
SIM_LONG_SEEDS = 50000
SIM_LONG_IMAGES = 2000
FUZZ_SECONDS = 3
THRASH_SECONDS = 3600
FS_LONG_STEPS = 100000
FS_LONG_SECONDS = 600
TAIL_LINES = 40
CLEAN_UP_SECONDS = 40
# What takes the slots, behind cluster tests: a quarter of a processor that both want.
NICE = 5

SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=99",
}


class Test:
    """One command. `needs` names the build that must have worked. One that `waits` most of the time runs beside
    what takes the slots, and takes some itself only when nothing else may run; none runs beside one that is `apart`."""

    def __init__(self, name, argv, timeout=300, weight=1, needs=None, env=None, waits=False, apart=False):
        self.name = name
        self.argv = argv
        self.timeout = timeout
        self.weight = weight
        self.needs = needs
        self.env = env or {}
        self.waits = waits
        self.apart = apart
        self.passed = None
        self.why = ""
        self.seconds = 0.0
        self.process = None

    @property
    def log(self):
        return os.path.join(LOGS, self.name.replace("/", "-") + ".log")

    def run(self):
        """Runs the command in a process group of its own, so that nothing of it survives."""
        begun = time.monotonic()
        env = dict(os.environ, **self.env)
        with open(self.log, "wb") as log:
            log.write(("$ " + " ".join(self.argv) + "\n").encode())
            log.flush()
            try:
                self.process = subprocess.Popen(
                    self.argv, cwd=REPO, env=env, stdin=subprocess.DEVNULL, stdout=log,
                    stderr=subprocess.STDOUT, start_new_session=True)
            except OSError as error:
                self.passed, self.why = False, str(error)
                return
            if not self.waits:
                give_way(self.process.pid)
            try:
                status = self.process.wait(self.timeout)
                self.why = "" if status == 0 else describe_status(status)
            except subprocess.TimeoutExpired:
                self.why = "took longer than %d s" % self.timeout
            self.end()
        self.seconds = time.monotonic() - begun
        self.passed = self.why == ""

    def end(self):
        """Lets the test clean up when it still runs (a cluster's daemons are in other groups), then
        kills what is left of its group."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(CLEAN_UP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def give_way(leader):
    """Lowers the priority of a session, also among other sessions: Linux shares processors among them first."""
    nice = min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE)
    try:
        os.setpriority(os.PRIO_PGRP, leader, nice)
        with open("/proc/%d/autogroup" % leader, "w", encoding="ascii") as autogroup:
            autogroup.write(str(nice))
    except OSError:
        pass  # It has ended, or the kernel does not group sessions.


def describe_status(status):
    if status < 0:
        return "killed by " + signal.Signals(-status).name
    return "exit status %d" % status


# ---- Builds ----


# What of a build the tests need that run by default: folders.
FUZZ_PARTS = ("tests/fuzz",)
ASAN_PARTS = ("mon", "osd", "client", "tests/unit", "tests/sim")


def build_steps(preset, jobs, parts=()):
    """Configures when needed and builds these folders of a preset, or everything. CMake's cache may be of a tree
    that has moved, so a failing configuration is tried once more from nothing."""
    folder = "build" if preset == "release" else "build-" + preset
    script = (
        "cmake --preset {p} || {{ rm -rf {f}/CMakeCache.txt {f}/CMakeFiles && cmake --preset {p}; }}"
        " && ninja -C {f} -j {j} {t}"
    ).format(p=preset, f=folder, j=jobs, t=" ".join(part + "/all" for part in parts))
    return Test("build/" + preset, ["/bin/sh", "-ec", script], timeout=1800, weight=jobs)


def folder_of(preset):
    return os.path.join(REPO, "build" if preset == "release" else "build-" + preset)


# ---- What there is to run ----


def sources(pattern):
    return sorted(glob.glob(os.path.join(REPO, pattern), recursive=True))


def unit_tests(preset, prefix=""):
    """From the sources, so that a program that was not built counts as failed, not as absent."""
    tests = []
    env = SANITIZER_ENV if preset != "release" else {}
    for path in sources("tests/unit/*/test_*.c"):
        module = os.path.basename(os.path.dirname(path))
        name = os.path.basename(path)[:-2]
        program = os.path.join(folder_of(preset), "unit", module + "_" + name)
        tests.append(Test("%sunit/%s/%s" % (prefix, module, name), [program], timeout=600,
                          needs=preset, env=env))
    return tests


def sim_tests(preset, seeds, prefix="", first=1, each=SIM_SEEDS_A_TEST, scenario="mixed"):
    """Each test runs some seeds one after the other; a failing one says how to repeat it."""
    program = os.path.join(folder_of(preset), "bin", "limpet-sim")
    env = SANITIZER_ENV if preset != "release" else {}
    tests = []
    for start in range(first, first + seeds, each):
        last = min(start + each, first + seeds) - 1
        name = "%ssim/%s-%d-%d" % (prefix, scenario, start, last)
        tests.append(Test(name, [program, "--scenario", scenario, "--seeds",
                                 "%d-%d" % (start, last), "--keep-going", "--brief"],
                          timeout=1200, needs=preset, env=env))
    return tests


def fresh_base():
    return SIM_FRESH_BASE * int(time.strftime("%Y%m%d", time.gmtime()))


def fresh_sim_tests(preset):
    """Other seeds every day: what the fixed ones miss."""
    return sim_tests(preset, SIM_FRESH_SEEDS, "fresh/", fresh_base(), 50)


def scenario_tests(preset):
    """A few seeds of every scenario but the mixed one."""
    names = [os.path.basename(path)[:-len(".txt")] for path in sources("tests/sim/scenarios/*.txt")]
    tests = []
    for name in names:
        if name == "fs":
            tests += sim_tests(preset, 10, scenario=name, each=5)
        elif name.startswith("fs-"):
            tests += sim_tests(preset, 4, scenario=name, each=4)  # Slow ones.
        elif name != "mixed":
            tests += sim_tests(preset, SIM_SEEDS_A_SCENARIO, scenario=name,
                               each=SIM_SEEDS_A_SCENARIO)
    return tests


# Planted bug -> within how many seeds the simulator must find it, and options; the table of
# tests/sim/README.md.
PLANTED = {
    "ack-before-members": (30, ()),
    "accept-old-config": (100, ("--scenario", "isolate", "--no-reads")),
    "skip-reconcile": (200, ()),
    "add-unfilled": (20, ()),
    "forget-extent": (30, ()),
    "forget-zero": (150, ("--scenario", "large")),
    "catch-up-uncommon": (40, ()),
    "run-duplicate": (30, ()),
    "dup-forgotten-at-trim": (30, ("--scenario", "repeat")),
    "dup-not-filled": (400, ("--scenario", "repeat")),
    "dup-forgotten-client": (80, ("--scenario", "records")),
    "ack-gap": (80, ("--scenario", "held")),
    "equal-too-early": (100, ("--scenario", "anew")),
    "page-skips": (200, ()),
    "held-again-last": (400, ("--scenario", "line", "--seeds", "1601-2000")),
    "orphans-overtake": (60, ("--scenario", "line")),
    "look-unlocked": (200, ("--scenario", "tags")),
    "look-early": (100, ("--scenario", "tags")),
    "answer-forgotten": (400, ("--scenario", "tags")),
    "push-without-map": (100, ("--scenario", "tags")),
    "lock-outlives": (30, ("--scenario", "tags")),
    "lock-of-two": (30, ("--scenario", "tags")),
    "clone-forgotten": (30, ("--scenario", "snaps")),
    "clone-not-sent": (30, ("--scenario", "snaps")),
    "trim-alive": (30, ("--scenario", "snaps")),
    "snap-reads-head": (30, ("--scenario", "snaps")),
    "notify-not-repeated": (200, ("--scenario", "watch")),
    "watch-evicted-early": (30, ("--scenario", "watch")),
    "watch-unfenced": (200, ("--scenario", "fence")),
    "watch-ends-early": (900, ("--scenario", "fence")),
    "watch-deaf-time": (400, ("--scenario", "fence-fair")),
    "watch-failover-forgets": (60, ("--scenario", "watch")),
    "watch-never-lost": (30, ("--scenario", "lease")),
    "watch-cut-ignored": (400, ("--scenario", "cut")),
    "watch-ignores-life": (400, ("--scenario", "watch")),
    "member-ack-early": (300, ()),
    "vote-not-durable": (50, ()),
    "append-not-durable": (20, ()),
    "client-no-resend": (100, ()),
    "ack-all-but-one": (40, ()),
    "ack-without-learner": (200, ("--scenario", "isolate")),
    "committed-too-high": (200, ()),
    "serve-before-equal": (20, ()),
    "push-unlocked": (200, ()),
    "remove-early": (60, ()),
    "skip-increment": (20, ()),
    "config-not-raised": (30, ()),
    "command-twice": (2000, ("--scenario", "leaders")),
    "snapshot-not-durable": (40, ()),
    "read-without-lease": (60, ("--scenario", "isolate")),
    "lease-wait-skipped": (200, ("--scenario", "isolate")),
    "lease-of-newer-map": (30, ("--scenario", "relief")),
    "lease-without-learner": (30, ("--scenario", "relief")),
    "lease-not-inherited": (2000, ("--scenario", "isolate")),
    "delete-strays-early": (30, ()),
    "forget-entry-at-trim": (30, ("--scenario", "repeat")),
    "repair-from-bad": (30, ("--scenario", "scrub")),
    "scrub-ignore-data": (30, ("--scenario", "scrub")),
    "scrub-ignore-missing": (60, ("--scenario", "scrub")),
    "no-read-repair": (30, ("--scenario", "scrub")),
    "lose-clone": (600, ("--scenario", "scrub")),
    "image-not-blocked": (100, ("--scenario", "image-hung")),
    "image-lease-ignored": (60, ("--scenario", "image-hung")),
    "image-untold": (40, ("--scenario", "image")),
    "image-map-late": (400, ("--scenario", "image")),
    "image-snap-given-back": (400, ("--scenario", "image")),
    "image-flush-early": (100, ("--scenario", "image-cache")),
    "fs-out-of-order": (30, ("--scenario", "fs")),
    "fs-room-late": (30, ("--scenario", "fs")),
    "fs-cut-lost": (30, ("--scenario", "fs")),
    "fs-size-early": (30, ("--scenario", "fs")),
    "fs-intent-dropped": (80, ("--scenario", "fs-deaths")),
    "fs-changes-late": (10, ("--scenario", "fs-drops")),
    "fs-lease-over": (400, ("--scenario", "fs-drops")),
}


def planted_tests(preset):
    program = os.path.join(folder_of(preset), "bin", "limpet-sim")
    return [Test("sim/planted-" + name,
                 [program, "--planted", name, "--seeds", "1-%d" % seeds, *options], timeout=1200,
                 needs=preset)
            for name, (seeds, options) in PLANTED.items()]


# Planted bug of the store's engine -> which seeds of limpet-store-sim find it (or the first so many), and options.
PLANTED_STORE = {
    "skip-flush": (10, ()),
    "ack-behind-hole": (10, ()),
    "apply-before-durable": ("161-300", ()),
    "trim-early": (10, ()),
    "supersede-early": ("61-200", ()),
    "forget-checksum": (10, ("--flips", "5")),
    "ignore-short-write": ("61-120", ()),
    "ignore-flush-error": (20, ()),
    "reuse-freed-early": (40, ()),
    "skip-replay-place": (10, ()),
    "trust-direct": ("51-200", ()),
    "trust-remembered": (10, ()),
    "trust-second-read": (100, ("--flips", "5")),
    "direct-beside": (60, ("--covering",)),
    "ignore-shared": (10, ()),
    "no-reserve": (30, ()),
    "forget-pairs": (30, ()),
    "forget-name": (10, ()),
    "list-old": (60, ()),
    "same-hole": (10, ()),
    "ring-passed": (10, ()),
    "ring-reuse-read": ("41-150", ()),
    "ring-placed-early": (10, ()),
    "ring-unchecked": (10, ("--rot",)),
    "ring-ignored": (10, ()),
}


def seeds_of(seeds):
    return seeds if isinstance(seeds, str) else "1-%d" % seeds


def planted_store_tests(prefix=""):
    program = os.path.join(folder_of("release"), "bin", "limpet-store-sim")
    return [Test(prefix + "store/planted-" + name,
                 [program, "--planted", "store-" + name, "--seeds", seeds_of(seeds), *options],
                 timeout=1200, needs="release")
            for name, (seeds, options) in PLANTED_STORE.items()]


def fuzz_tests(seconds):
    tests = []
    for path in sources("tests/fuzz/fuzz_*.c"):
        name = os.path.basename(path)[:-2]
        program = os.path.join(folder_of("fuzz"), "fuzz", name)
        corpus = os.path.join(REPO, "tests/fuzz/corpus", name[len("fuzz_"):])
        found = os.path.join(folder_of("fuzz"), "found", name)
        script = (
            'mkdir -p "{found}"; seeds="{corpus}"; [ -d "$seeds" ] || seeds=; '
            'exec "{program}" -max_total_time={seconds} -timeout=10 -rss_limit_mb=2048 '
            '-print_final_stats=1 -artifact_prefix="{found}/" "{found}/corpus" $seeds'
        ).format(found=found, corpus=corpus, program=program, seconds=seconds)
        script = 'mkdir -p "%s/corpus"; ' % found + script
        tests.append(Test("fuzz/" + name[len("fuzz_"):], ["/bin/sh", "-c", script],
                          timeout=seconds + 300, needs="fuzz", env=SANITIZER_ENV))
    return tests


def lint_tests(jobs, long=False):
    tests = []
    checks = (("format", 600, 1), ("includes", 600, 1), ("words", 600, 1), ("links", 600, 1),
              ("shell", 600, 1), ("python", 600, 1), ("clang", 600, jobs),
              ("cppcheck", 900, jobs), ("tidy", 3600, jobs))
    for check, timeout, weight in (("deep", 7200, jobs),) if long else checks:
        argv = [sys.executable, "-B", os.path.join(REPO, "tests/lint"), check, "-j", str(jobs)]
        needs = "release" if check in ("clang", "cppcheck", "tidy", "deep") else None
        tests.append(Test("lint/" + check, argv, timeout, weight, needs))
    return tests


# Cluster tests of how the processors are shared, which run when nothing else does.
ALONE = ("fs_follow", "fs_ring")
# Those that mount, or make mount namespaces, are not run beside one another: numbers of devices that become free
# go to others then, and a namespace keeps what was mounted when it was made.
APART = re.compile("fs|files|libvirt|thrash|errors|device|guest|encryption|programs|pages|dev$")


def cluster_tests(preset, jobs, prefix="", only=None):
    env = {"LIMPET_BUILD": folder_of(preset)}
    if preset != "release":
        env.update(SANITIZER_ENV)
    tests = []
    for path in sources("tests/cluster/test_*.py"):
        name = os.path.basename(path)[len("test_"):-len(".py")]
        if only and name not in only:
            continue
        tests.append(Test("%scluster/%s" % (prefix, name), [sys.executable, "-B", path], timeout=600,
                          weight=jobs if name in ALONE else 0, needs=preset, env=env, waits=True,
                          apart=bool(APART.match(name))))
    # At the end little has to come to its end first.
    return sorted(tests, key=lambda test: test.weight)


# Test -> what one short run, and a campaign, does: kills, cuts, flips.
STORE_TESTS = {"kill": (10, 200), "power": (2, 50), "flips": (3, 1000), "full": (1, 1),
               "full_index": (1, 1)}


def store_tests(prefix="", long=False):
    """The store alone: its simulator, and real processes on real disks."""
    program = os.path.join(folder_of("release"), "bin", "limpet-store-sim")
    seeds, flips = ("1001-3000", "5001-5100") if long else ("1-40", "1-5")
    jobs = "2" if long else "1"
    tests = [
        Test(prefix + "store/sim", [program, "--seeds", seeds, "--jobs", jobs], 7200, int(jobs),
             "release"),
        Test(prefix + "store/sim-flips", [program, "--seeds", flips, "--flips", "10", "--jobs", jobs],
             3600, int(jobs), "release"),
        Test(prefix + "store/sim-rot",
             [program, "--seeds", "9001-9300" if long else "1-10", "--rot", "--jobs", jobs], 3600,
             int(jobs), "release"),
        Test(prefix + "store/sim-covering",
             [program, "--seeds", "8001-8500" if long else "1-20", "--covering", "--jobs", jobs], 3600,
             int(jobs), "release"),
    ]
    for name, counts in STORE_TESTS.items():
        path = os.path.join(REPO, "tests/store/test_%s.py" % name)
        tests.append(Test(prefix + "store/" + name,
                          [sys.executable, "-B", path, str(counts[1 if long else 0])],
                          7200 if long else 600, 1, "release",
                          {"LIMPET_BUILD": folder_of("release")}))
    return tests


def thrash_tests(seconds):
    """Real daemons in network namespaces under faults, for so long; the seed is any."""
    program = os.path.join(REPO, "tests/cluster/thrash/thrash")
    return [Test("long/cluster/thrash", [sys.executable, "-B", program, "--seconds", str(seconds), "--keep"],
                 seconds + 1800, 2, "release", {"LIMPET_BUILD": folder_of("release")})]


def differential_tests(operations, of_images, jobs):
    """The first two say that they are skipped where no Ceph is named."""
    program = os.path.join(REPO, "tests/compat/differential")
    refusals = os.path.join(REPO, "tests/cluster/long_rbd_refusals.py")
    return [Test("long/compat/differential",
                 [sys.executable, "-B", program, "--operations", str(operations)], 7200, jobs,
                 "release"),
            Test("long/compat/images",
                 [sys.executable, "-B", program, "--images", "--pool", "differential-images",
                  "--operations", str(of_images)], 7200, jobs, "release"),
            Test("long/cluster/rbd_refusals", [sys.executable, "-B", refusals], 1800, 1, "release",
                 {"LIMPET_BUILD": folder_of("release")})]


def failure_tests():
    """Images that are made while one request after the other fails, at every step."""
    program = os.path.join(REPO, "tests/cluster/test_image_failures.py")
    return [Test("long/cluster/image_failures", [sys.executable, "-B", program], 3600, 1, "release",
                 {"LIMPET_BUILD": folder_of("release"), "LIMPET_EVERY_STEP": "1"})]


def fs_tests():
    """Mounted file systems beside ext4, for long, with any seed; and programs on them."""
    env = {"LIMPET_BUILD": folder_of("release"), "LIMPET_STEPS": str(FS_LONG_STEPS),
           "LIMPET_SECONDS": str(FS_LONG_SECONDS)}
    return [Test("long/cluster/" + name, [sys.executable, "-B", os.path.join(REPO, "tests/cluster", path)], 4 * 3600, 2,
                 "release", env)
            for name, path in (("fs_differential", "test_fs_differential.py"), ("fs_programs", "long_fs_programs.py"),
                               ("fs_pjdfstest", "long_fs_pjdfstest.py"), ("fs_coherence", "long_fs_coherence.py"),
                               ("fs_deaths", "test_fs_deaths.py"), ("fs_limits", "test_fs_limits.py"),
                               ("fs_races", "test_fs_races.py"), ("fs_pairs", "long_fs_pairs.py"),
                               ("fs_network", "long_fs_network.py"))]


def names_tests():
    """A folder with a million names."""
    program = os.path.join(REPO, "tests/cluster/long_fs_names.py")
    return [Test("long/cluster/fs_names", [sys.executable, "-B", program], 4 * 3600, 2, "release",
                 {"LIMPET_BUILD": folder_of("release")})]


def device_tests():
    """Mapped devices in a guest, with more deaths than in a short run, on several processors."""
    program = os.path.join(REPO, "tests/cluster/test_device_guest.py")
    return [Test("long/cluster/device_guest", [sys.executable, "-B", program], 2 * 3600, 1, "release",
                 {"LIMPET_BUILD": folder_of("release"), "LIMPET_LONG": "1"})]


def model_tests(prefix="", long=False):
    """The configuration protocol under a model checker."""
    path = os.path.join(REPO, "tests/model/run")
    return [Test(prefix + "model/config", [sys.executable, "-B", path] + ["--long"] * long,
                 7200 if long else 1200)]


def default_plan(jobs):
    builds = [build_steps("release", jobs), build_steps("fuzz", jobs, FUZZ_PARTS),
              build_steps("asan", jobs, ASAN_PARTS)]
    # The model checker is one long thread: what has many parts goes on beside it.
    tests = unit_tests("release") + lint_tests(jobs) + model_tests() + sim_tests("release", SIM_SEEDS)
    tests += scenario_tests("release") + fresh_sim_tests("release")
    tests += planted_tests("release") + fuzz_tests(FUZZ_SECONDS)
    tests += unit_tests("asan", "asan/") + sim_tests("asan", 20, "asan/")
    tests += store_tests() + planted_store_tests()
    tests += cluster_tests("asan", jobs, "asan/", ["files"]) + cluster_tests("release", jobs)
    return builds, tests


def sanitizer_plan(preset, jobs):
    tests = unit_tests(preset) + sim_tests(preset, SIM_SEEDS) + cluster_tests(preset, jobs)
    return [build_steps(preset, jobs)], tests


CAMPAIGNS = {
    "sim": ("50,000 further seeds of the simulator, and 2,000 of each scenario with images",
            lambda jobs: ([build_steps("release", jobs)],
                          sim_tests("release", SIM_LONG_SEEDS, "long/", first=1001, each=500) +
                          [test for name in ("image", "image-hung", "image-cache", "image-more")
                           for test in sim_tests("release", SIM_LONG_IMAGES, "long/", first=1001,
                                                 each=500, scenario=name)])),
    "store": ("10,000 simulated power cuts, 1,000 bit flips, 200 kills, 50 real power cuts",
              lambda jobs: ([build_steps("release", jobs)],
                            store_tests("long/", long=True) + planted_store_tests("long/"))),
    "model": ("the model of the configuration protocol with larger bounds",
              lambda jobs: ([], model_tests("long/", long=True))),
    "lint": ("clang-tidy with its analyzer's own limits",
             lambda jobs: ([build_steps("release", jobs)], lint_tests(jobs, long=True))),
    "fuzz": ("every fuzz target for 10 minutes",
             lambda jobs: ([build_steps("fuzz", jobs, FUZZ_PARTS)], fuzz_tests(600))),
    "asan": ("the whole suite under ASan and UBSan", lambda jobs: sanitizer_plan("asan", jobs)),
    "failures": ("images that are made while one request after the other fails",
                 lambda jobs: ([build_steps("release", jobs)], failure_tests())),
    "thrash": ("an hour of faults on real daemons in network namespaces",
               lambda jobs: ([build_steps("release", jobs)], thrash_tests(THRASH_SECONDS))),
    "compat": ("100,000 random operations, and 5,000 on images, beside a real Ceph, that of $CEPH_PEER_CONF; bad input for rbd",
               lambda jobs: ([build_steps("release", jobs)], differential_tests(100000, 5000, jobs))),
    "fs": ("100,000 random operations on mounted file systems beside ext4, by one mount and by two; programs on them; pjdfstest",
           lambda jobs: ([build_steps("release", jobs)], fs_tests())),
    "devices": ("devices of ublk and NBD in a guest, with more deaths; the cluster on several processors",
                lambda jobs: ([build_steps("release", jobs)], device_tests())),
    "names": ("1,000,000 names in one folder, made, listed and removed by four mounts at once",
              lambda jobs: ([build_steps("release", jobs)], names_tests())),
    "tsan": ("unit tests and cluster tests under TSan",
             lambda jobs: ([build_steps("tsan", jobs)],
                           unit_tests("tsan", "tsan/") + cluster_tests("tsan", jobs, "tsan/"))),
}


# ---- Running ----


class Board:
    """Prints a line for each finished test and, on a terminal, what runs at the moment."""

    def __init__(self, total, tells_left):
        self.total = total
        self.tells_left = tells_left
        self.begun = time.monotonic()
        self.done = 0
        self.running = []
        self.terminal = sys.stdout.isatty()

    def left(self):
        """How long the rest takes, where tests are many of a kind."""
        if not self.tells_left or self.done == self.total:
            return ""
        seconds = (time.monotonic() - self.begun) / self.done * (self.total - self.done)
        return "  about %d min left" % round(seconds / 60)

    def clear(self):
        if self.terminal:
            sys.stdout.write("\r\033[K")

    def show(self):
        if self.terminal and self.running:
            names = ", ".join(test.name for test in self.running)
            line = "[%d/%d] %s" % (self.done, self.total, names)
            sys.stdout.write(line[:shutil.get_terminal_size().columns - 1])
        sys.stdout.flush()

    def started(self, test):
        self.running.append(test)
        self.clear()
        self.show()

    def finished(self, test):
        if test in self.running:
            self.running.remove(test)
        self.done += 1
        self.clear()
        verdict = "ok  " if test.passed else "FAIL"
        why = "" if test.passed else "  (%s)" % test.why
        print("%s %7.1f s  [%d/%d] %s%s%s"
              % (verdict, test.seconds, self.done, self.total, test.name, why, self.left()))
        if not test.passed and os.path.exists(test.log) and not test.why.startswith("not run"):
            self.tail(test)
        self.show()

    @staticmethod
    def tail(test):
        with open(test.log, "rb") as log:
            lines = log.read().decode(errors="replace").splitlines()
        for line in lines[-TAIL_LINES:]:
            print("    | " + line)
        print("    | (all of it: %s)" % os.path.relpath(test.log, REPO))


class Runner:
    def __init__(self, tests, slots, tells_left=False):
        self.waiting = list(tests)
        self.slots = slots
        self.free = slots
        self.board = Board(len(tests), tells_left)
        self.changed = threading.Condition()
        self.finished = []
        self.failed_builds = set()
        self.stopping = False

    def next_test(self):
        """One that waits, when no more than may do, or the first of the others; its build is settled. One that needs
        more slots than are free blocks those behind it, so that it gets its turn."""
        ready = [test for test in self.waiting if not test.needs or self.build_settled(test.needs)]
        beside = [test for test in ready if test.waits]
        if not self.may_wait(beside[:1]):
            beside = []
        others = [test for test in ready if not test.waits]
        for test in beside[:1] + others[:1]:
            if self.taken_by(test) <= self.free:
                return test
            if test.waits:
                return None
        return None

    def may_wait(self, more):
        """One that waits at a time; two when nothing else is left, if neither needs slots or is apart."""
        waiting = [test for test in self.board.running if test.waits]
        pair = (self.slots > 1 and not any(test.weight or test.apart for test in waiting + more)
                and all(test.waits for test in self.waiting + self.board.running))
        return len(waiting) < (2 if pair else 1)

    def taken_by(self, test):
        """With one slot nothing runs beside anything."""
        return min(test.weight, self.slots) if self.slots > 1 else 1

    def build_settled(self, preset):
        return not any(test.name == "build/" + preset
                       for test in self.waiting + self.board.running)

    def take(self, test):
        self.waiting.remove(test)
        if test.needs in self.failed_builds:
            test.passed, test.why = False, "not run: build/%s failed" % test.needs
            self.finish(test)
            return
        self.free -= self.taken_by(test)
        self.board.started(test)
        threading.Thread(target=self.work, args=(test,), daemon=True).start()

    def work(self, test):
        test.run()
        with self.changed:
            self.free += self.taken_by(test)
            self.finish(test)
            self.changed.notify()

    def finish(self, test):
        if not test.passed and test.name.startswith("build/"):
            self.failed_builds.add(test.name[len("build/"):])
        self.finished.append(test)
        self.board.finished(test)

    def run(self):
        with self.changed:
            while self.waiting or self.board.running:
                test = self.next_test()
                if test:
                    self.take(test)
                else:
                    self.changed.wait()

    def interrupt(self):
        for test in list(self.board.running):
            if test.process:
                test.end()


def parse(argv):
    campaigns = "\n".join("  %-6s %s" % (name, CAMPAIGNS[name][0]) for name in sorted(CAMPAIGNS))
    parser = argparse.ArgumentParser(
        prog="./tests/run", description="Builds Limpet and runs its tests.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="campaigns of --long (all of them without a name):\n" + campaigns)
    parser.add_argument("--filter", metavar="REGEX", help="only tests whose name matches")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--asan", action="store_true",
                        help="unit, simulator and cluster tests, all under ASan and UBSan")
    parser.add_argument("--long", metavar="NAME", nargs="?", const="all",
                        choices=sorted(CAMPAIGNS) + ["all"], help="a campaign, see below")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1,
                        help="tests at a time (default: the number of processors)")
    return parser.parse_args(argv)


def make_plan(options):
    if options.asan:
        builds, tests = sanitizer_plan("asan", options.jobs)
    elif options.long:
        builds, tests = [], []
        names = sorted(CAMPAIGNS) if options.long == "all" else [options.long]
        for name in names:
            more_builds, more_tests = CAMPAIGNS[name][1](options.jobs)
            builds += [build for build in more_builds
                       if build.name not in {other.name for other in builds}]
            tests += more_tests
    else:
        builds, tests = default_plan(options.jobs)
    if options.filter:
        wanted = re.compile(options.filter)
        tests = [test for test in tests if wanted.search(test.name)]
        needed = {"build/" + test.needs for test in tests if test.needs}
        builds = [test for test in builds if test.name in needed or wanted.search(test.name)]
    return builds + tests


def main(argv):
    options = parse(argv)
    options.jobs = max(1, options.jobs)
    plan = make_plan(options)
    if options.list:
        for test in plan:
            print(test.name)
        return 0
    if not plan:
        print("no test matches %s" % options.filter, file=sys.stderr)
        return 1
    shutil.rmtree(LOGS, ignore_errors=True)
    os.makedirs(LOGS)
    runner = Runner(plan, options.jobs, bool(options.long))

    def stop(number, _frame):
        runner.interrupt()
        sys.exit(128 + number)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)

    if any(test.name.startswith("fresh/") for test in plan):
        print("fresh seeds of the simulator begin with %d" % fresh_base())
    begun = time.monotonic()
    runner.run()
    failed = [test for test in runner.finished if not test.passed]
    passed = len(runner.finished) - len(failed)
    print("\n%d tests in %.0f s; logs in %s" % (len(runner.finished), time.monotonic() - begun,
                                                 os.path.relpath(LOGS, REPO)))
    for test in failed:
        print("FAIL %s  (%s)" % (test.name, test.why))
    print("%d passed, %d failed" % (passed, len(failed)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
