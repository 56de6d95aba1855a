"""Block images served to NBD clients by `limpet rbd nbd`."""

import os
import signal
import subprocess

from lib.cluster import BIN, at_end, check, command, folder, succeeds, wait_until


class Server:
    def __init__(self, cluster, *arguments, socket=None):
        self.socket = socket or os.path.join(folder(), "nbd")
        self.uri = "nbd+unix:///?socket=" + self.socket
        argv = [os.path.join(BIN, "limpet"), "rbd", "nbd", "--socket", self.socket]
        self.process = subprocess.Popen(argv + list(arguments), env=dict(os.environ, **cluster.env),
                                        stderr=subprocess.PIPE, text=True)
        at_end(self.process.kill)
        wait_until("it listens", lambda: os.path.exists(self.socket) or self.process.poll() is not None, 60)

    def info(self, *options):
        return succeeds(command(["nbdinfo"] + list(options) + [self.uri])).text

    def shell(self, *lines):
        """What an NBD client in Python prints."""
        arguments = [argument for line in lines for argument in ("-c", line)]
        return command(["nbdsh", "-u", self.uri] + arguments, env={"PATH": "/usr/bin:" + os.environ["PATH"]})

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=60)[1]
        check(self.process.returncode == 0, "the server: %d %s" % (self.process.returncode, said))

    def refuses(self, *words):
        """It did not begin, and said why."""
        said = self.process.communicate(timeout=60)[1]
        check(self.process.returncode != 0 and all(word in said for word in words), "%s, not %r" % (said, words))
