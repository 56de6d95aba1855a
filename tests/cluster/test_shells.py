#!/usr/bin/env python3
"""Completions in bash, zsh and fish, as a person gets them by the tab key; and the man pages."""

import glob
import os
import pty
import re
import select
import subprocess
import time

from lib.cluster import BIN, BUILD, Cluster, case, check, command, run, succeeds

cluster = Cluster(mons=1, osds=3)
SHARE = os.path.join(BUILD, "share")
PATH = "%s:%s:%s" % (os.path.join(BUILD, "compat", "bin"), BIN, os.environ["PATH"])
HOME, END = b"\x01", b"\x05"  # Keys of a line editor.


class Terminal:
    """A shell that believes in a person. What it shows is waited for."""

    def __init__(self, argv, setup):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(cluster.env, PATH=PATH, TERM="dumb", HOME=cluster.path)
            os.execvp(argv[0], argv)
        self.shown = b""
        self.type(setup.encode() + b"; echo set''up\n")
        self.wait_for(rb"setup\r?\n")

    def type(self, keys):
        os.write(self.fd, keys)

    def wait_for(self, pattern):
        deadline = time.monotonic() + 60
        while True:
            found = re.search(pattern, self.shown)
            if found:
                self.shown = self.shown[found.end():]
                return found
            check(select.select([self.fd], [], [], deadline - time.monotonic())[0],
                  "%r is not to be seen in %r" % (pattern, self.shown))
            self.shown += os.read(self.fd, 65536)

    def completed(self, line):
        """What the line is after a tab."""
        self.type(line.encode() + b"\t" + HOME + b"echo '<" + END + b">'\n")
        return self.wait_for(rb"\n<([^\r\n]*)>\r").group(1).decode().rstrip()

    def end(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)


LINES = {
    "limpet pool cre": "limpet pool create",
    "limpet rados -p dat": "limpet rados -p data",
    "limpet rados -p data stat not": "limpet rados -p data stat notes",
    "limpet rados listomapk": "limpet rados listomapkeys",
    "limpet osd --for": "limpet osd --format",
    "rados listomapk": "rados listomapkeys",
}


def check_lines(terminal):
    for line, want in LINES.items():
        got = terminal.completed(line)
        check(got == want, "%r became %r, not %r" % (line, got, want))
    terminal.end()


@case
def starts():
    cluster.start()
    cluster.pool("data")
    cluster.put("data", "notes", b"x")


@case
def bash_completes():
    check_lines(Terminal(["bash", "--norc", "--noprofile", "-i"],
                         "PS1=; bind 'set enable-bracketed-paste off'; source %s/completions/limpet.bash" % SHARE))


@case
def zsh_completes():
    check_lines(Terminal(["zsh", "-f", "-i"],
                         "PS1=; unset zle_bracketed_paste; unsetopt prompt_cr prompt_sp; bindkey -e; "
                         "autoload -Uz compinit; compinit -D -u; source %s/completions/_limpet" % SHARE))


@case
def fish_completes():
    env = dict(os.environ, **cluster.env, PATH=PATH, HOME=cluster.path)
    for line, want in LINES.items():
        said = subprocess.run(
            ["fish", "--no-config", "-c",
             "source %s/completions/limpet.fish; complete -C '%s'" % (SHARE, line)],
            env=env, capture_output=True, text=True, check=False)
        offered = [choice.split("\t")[0] for choice in said.stdout.splitlines()]
        check(want.split()[-1] in offered, "%r: %r %s" % (line, offered, said.stderr))


@case
def every_command_has_a_page():
    pages = ""
    for path in sorted(glob.glob(os.path.join(SHARE, "man", "man1", "*.1"))):
        # Pages have no date: builds of the same tree are the same.
        said = command(["mandoc", "-T", "lint", "-W", "warning", path]).text
        wrong = [line for line in said.splitlines() if "missing date" not in line]
        check(not wrong, "\n".join(wrong))
        pages += succeeds(command(["mandoc", "-T", "ascii", "-O", "width=200", path])).text
    pages = re.sub(".\b", "", pages)
    listed = succeeds(cluster.limpet("help")).text
    names = re.findall(r"^  ([a-z0-9_-]+(?: [a-z0-9_-]+)*)  +\S", listed, re.M)
    check(len(names) > 100, "only %d commands" % len(names))
    for name in names:
        usage = "limpet %s" % re.escape(name).replace("rados\\ ", "rados (?:-p POOL )?", 1)
        check(re.search(usage, pages), "no page tells of '%s'" % name)


if __name__ == "__main__":
    run()
