"""A cluster of real daemons, made by deploy/dev in a temporary folder, and what tests do with it.

A test file is a program: functions marked with @case run in order, each prints one line, and

    if __name__ == "__main__":
        run()

ends it. LIMPET_BUILD names the build folder (default: build), LIMPET_KEEP=1 keeps the folders of
failed runs. Exit status 1: a case failed.
"""

import errno
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BUILD = os.path.abspath(os.environ.get("LIMPET_BUILD", os.path.join(REPO, "build")))
BIN = os.path.join(BUILD, "bin")
DEV = os.path.join(REPO, "deploy", "dev")
# Instrumented programs need more of everything, emulated processors more time.
SANITIZED = "build-asan" in BUILD or "build-tsan" in BUILD
SLOWNESS = int(os.environ.get("LIMPET_SLOWNESS", 4 if SANITIZED else 1))

_clusters = []
_folders = []
_cases = []
_endings = []


class CaseFailed(Exception):
    """A check did not hold; the text says which."""


def check(condition, text):
    if not condition:
        raise CaseFailed(text)


def case(function):
    _cases.append(function)
    return function


def at_end(function):
    """Called when the cases are over, also after a failure, before clusters and folders go."""
    _endings.append(function)
    return function


# ---- Commands ----


class Result:
    def __init__(self, argv, code, out, err, seconds):
        self.argv = argv
        self.code = code
        self.out = out
        self.err = err.decode(errors="replace")
        self.seconds = seconds

    @property
    def text(self):
        return self.out.decode(errors="replace")

    def __str__(self):
        return "%s\n  exit code %d after %.2f s\n  stdout: %r\n  stderr: %r" % (
            " ".join(self.argv), self.code, self.seconds, self.out[:400], self.err[:1000])


def command(argv, data=b"", env=None, timeout=120, cwd=None, wrap=None):
    """Runs a program to its end. `data` is its stdin. A program that takes longer fails the case."""
    argv = [str(word) for word in (wrap or []) + list(argv)]
    full = dict(os.environ, **(env or {}))
    begun = time.monotonic()
    try:
        done = subprocess.run(argv, input=data, capture_output=True, env=full, cwd=cwd, check=False,
                              timeout=timeout * SLOWNESS)
    except subprocess.TimeoutExpired:
        raise CaseFailed("%s: no end after %d s" % (" ".join(argv), timeout * SLOWNESS)) from None
    return Result(argv, done.returncode, done.stdout, done.stderr, time.monotonic() - begun)


def command_with(library, argv, timeout=300):
    """Runs a Python program with a library of build/crash preloaded, which ends it or lets it fail where it is told:
    (exit code, what it printed). Sanitizers stay preloaded."""
    preload = " ".join(filter(None, [os.environ.get("LD_PRELOAD"), library]))
    result = command([sys.executable, "-B", *argv], env={"LD_PRELOAD": preload}, timeout=timeout)
    return result.code, result.text + result.err


def succeeds(result):
    check(result.code == 0, "should have succeeded: %s" % result)
    return result


def fails(result, error, *words):
    """It failed in the way that users are promised: an errno exit code, and on stderr one clear line
    that has all the words (regular expressions) in it."""
    allowed = error if isinstance(error, (tuple, list)) else (error,)
    check(result.code in allowed, "should have failed with %s: %s"
          % (" or ".join(errno.errorcode[number] for number in allowed), result))
    lines = result.err.strip().splitlines()
    check(len(lines) == 1 and len(lines[0]) > 10, "stderr should be one clear line: %s" % result)
    for word in words:
        check(re.search(str(word), lines[0], re.IGNORECASE),
              "stderr should mention %r: %s" % (word, result))
    return result


# ---- Waiting ----


def wait_until(what, predicate, timeout):
    """Asks again until the predicate is true; returns its value."""
    deadline = time.monotonic() + timeout * SLOWNESS
    while True:
        value = predicate()
        if value:
            return value
        check(time.monotonic() < deadline, "%s: not within %d s" % (what, timeout * SLOWNESS))
        time.sleep(0.02)


# ---- Files ----


def folder():
    path = tempfile.mkdtemp(prefix="limpet-cluster-")
    _folders.append(path)
    return path


def random_bytes(size, seed):
    return random.Random(seed).randbytes(size)


def write_file(path, data):
    with open(path, "wb") as file:
        file.write(data)
    return path


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def digest(data):
    return hashlib.sha256(data).hexdigest()


# ---- Processes ----


def process_rss_mib(pid):
    with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def process_cpu_seconds(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def process_wakeups(pid):
    """How often threads of the process have gone to sleep, and so have been woken, since they began."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        try:
            with open("/proc/%d/task/%s/status" % (pid, task), encoding="ascii", errors="replace") as status:
                total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read(), re.M).group(1))
        except FileNotFoundError:
            pass  # This thread has ended.
    return total


def process_alive(pid):
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def process_ports(pid):
    """TCP ports on which a process listens."""
    sockets = set()
    for name in os.listdir("/proc/%d/fd" % pid):
        try:
            target = os.readlink("/proc/%d/fd/%s" % (pid, name))
        except OSError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[len("socket:["):-1])
    ports = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = file.read().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and fields[9] in sockets:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return sorted(ports)


# ---- The cluster ----


class Cluster:
    def __init__(self, mons=3, osds=3, osd_size="4G", path=None):
        self.path = path or os.path.join(folder(), "c")
        self.mons = mons
        self.osds = osds
        self.osd_size = osd_size
        self.env = {"LIMPET_CONF": os.path.join(self.path, "limpet.conf")}
        _clusters.append(self)

    @property
    def conf(self):
        return self.env["LIMPET_CONF"]

    @property
    def keyring(self):
        return os.path.join(self.path, "keyring")

    # deploy/dev

    def dev(self, verb, *options, timeout=180):
        return command([DEV, verb, "--dir", self.path] + list(options), timeout=timeout,
                       env={"LIMPET_BUILD": BUILD})

    def start(self):
        return succeeds(self.dev("start", "--mons", self.mons, "--osds", self.osds, "--osd-size",
                                 self.osd_size))

    def stop(self):
        return succeeds(self.dev("stop"))

    def destroy(self):
        if os.path.isdir(self.path):
            command([DEV, "destroy", "--dir", self.path], env={"LIMPET_BUILD": BUILD})

    # The command-line program

    def limpet(self, *arguments, data=b"", timeout=120, env=None, cwd=None, wrap=None):
        return command([os.path.join(BIN, "limpet")] + list(arguments), data,
                       dict(self.env, **(env or {})), timeout, cwd, wrap)

    def rados(self, *arguments, **options):
        return self.limpet("rados", *arguments, **options)

    def pool(self, name):
        succeeds(self.limpet("pool", "create", name))
        wait_until("the new pool serves", self.is_clean, 60)
        return name

    def put(self, pool, name, data):
        return succeeds(self.rados("-p", pool, "put", name, "-", data=data))

    def get(self, pool, name):
        return succeeds(self.rados("-p", pool, "get", name, "-")).out

    def status(self):
        return json.loads(succeeds(self.limpet("status", "-f", "json")).text)

    def status_or_none(self):
        result = self.limpet("status", "-f", "json", "--connect-timeout", "2")
        try:
            return json.loads(result.text) if result.code == 0 else None
        except ValueError:
            return None

    def is_clean(self):
        """Every placement group has all its replicas."""
        status = self.status_or_none()
        if not status:
            return False
        pgmap = status["pgmap"]
        clean = sum(state["count"] for state in pgmap["pgs_by_state"]
                    if state["state_name"] == "active+clean")
        return 0 < clean == pgmap["num_pgs"]

    def is_healthy(self):
        """HEALTH_OK, and nothing is missing."""
        status = self.status_or_none()
        if not status or status["health"]["status"] != "HEALTH_OK":
            return False
        osdmap = status["osdmap"]
        return (osdmap["num_up_osds"] == self.osds and osdmap["num_in_osds"] == self.osds
                and len(status["quorum_names"]) == self.mons
                and (status["pgmap"]["num_pgs"] == 0 or self.is_clean()))

    def wait_healthy(self, timeout=60):
        wait_until("HEALTH_OK, everything up and clean", self.is_healthy, timeout)

    # Daemons

    def names(self):
        return ["mon." + "abcdefghi"[i] for i in range(self.mons)] + [
            "osd.%d" % i for i in range(self.osds)]

    def pid(self, name):
        with open(os.path.join(self.path, "run", name + ".pid"), encoding="ascii") as file:
            return int(file.read())

    def pids(self):
        return {name: self.pid(name) for name in self.names()}

    def log(self, name):
        path = os.path.join(self.path, "log", name + ".log")
        return read_file(path).decode(errors="replace") if os.path.exists(path) else ""

    def ports(self, name):
        return process_ports(self.pid(name))

    def kill(self, name, number=signal.SIGKILL):
        pid = self.pid(name)
        program = os.path.basename(os.readlink("/proc/%d/exe" % pid)).split(" ")[0]
        check(program == "limpet-" + name.split(".")[0], "pid file of %s names another" % name)
        os.kill(pid, number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            wait_until("end of %s" % name, lambda: not process_alive(pid), 20)

    def daemon(self, name, *options, conf=None, timeout=60, **rest):
        """Runs a daemon's program with these options, to its end or until it is in the background."""
        kind, ident = name.split(".")
        return command([os.path.join(BIN, "limpet-" + kind), "--id", ident, "--conf",
                        conf or self.conf] + list(options), timeout=timeout, **rest)

    def start_daemon(self, name):
        pid_file = os.path.join(self.path, "run", name + ".pid")
        return succeeds(self.daemon(name, "--daemonize", "--pid-file", pid_file))

    def leader(self):
        """The leading monitor's name, mon.a ..."""
        status = wait_until("a quorum", self.status_or_none, 30)
        return "mon." + status["quorum_leader_name"]

    def check_same_processes(self, before):
        for name, pid in before.items():
            check(self.pid(name) == pid and process_alive(pid), "%s has not survived" % name)


# ---- Running the cases ----


def clean_up(failed):
    for ending in reversed(_endings):
        try:
            ending()
        except Exception as problem:  # pylint: disable=broad-except
            print("clean-up: %s" % problem)
    for cluster in _clusters:
        if failed and os.path.isdir(os.path.join(cluster.path, "log")):
            show_logs(cluster)
        try:
            if failed and os.environ.get("LIMPET_KEEP") == "1":
                command([DEV, "stop", "--dir", cluster.path], env={"LIMPET_BUILD": BUILD})
            else:
                cluster.destroy()
        except CaseFailed as problem:
            print("clean-up: %s" % problem)
    for path in _folders:
        if failed and os.environ.get("LIMPET_KEEP") == "1":
            print("kept: %s" % path)
        else:
            shutil.rmtree(path, ignore_errors=True)


def show_logs(cluster):
    log = os.path.join(cluster.path, "log")
    for name in sorted(os.listdir(log)):
        lines = read_file(os.path.join(log, name)).decode(errors="replace").splitlines()
        if lines:
            print("---- %s" % name)
            print("\n".join(lines[-15:]))


def sanitizer_findings():
    """What instrumented daemons wrote to their start-up or log files before they died."""
    found = []
    for cluster in _clusters:
        log = os.path.join(cluster.path, "log")
        for name in sorted(os.listdir(log)) if os.path.isdir(log) else []:
            text = read_file(os.path.join(log, name)).decode(errors="replace")
            if re.search(r"Sanitizer|runtime error:", text):
                found.append("%s:\n%s" % (name, text[-3000:]))
    return found


def end_of_case(name, begun, problem):
    verdict = "FAIL" if problem else "ok"
    print("%-4s %6.1f s  %s" % (verdict, time.monotonic() - begun, name.replace("_", " ")))
    if problem:
        print("     " + problem.replace("\n", "\n     "))
    sys.stdout.flush()


def run():
    """Runs the cases in order; a failure ends the program, since later ones build on earlier."""
    def interrupted(number, _frame):
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGINT, interrupted)
    failed = True
    wanted = sys.argv[1:]
    try:
        for function in _cases:
            if wanted and function.__name__ not in wanted:
                continue
            begun = time.monotonic()
            try:
                function()
                problem = "\n".join(sanitizer_findings())
            except CaseFailed as failure:
                problem = str(failure) or "failed"
            except Exception:  # pylint: disable=broad-except
                problem = traceback.format_exc()
            end_of_case(function.__name__, begun, problem)
            if problem:
                return
        failed = False
    finally:
        clean_up(failed)
        sys.exit(1 if failed else 0)
