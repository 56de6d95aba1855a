"""Histories: what the writers' files tell, put together and checked by limpet-linear."""

import errno
import os
import re
import subprocess

from lib.cluster import BIN, CaseFailed, check

STEPS = 20000000
WRITES = ("write_full", "write_at", "append", "truncate", "remove", "create")
# Answers from which nobody knows whether the change was made.
UNKNOWN = (-errno.ETIMEDOUT, -errno.ECANCELED, -errno.ESTALE)


def allowed(kind, result):
    return (result == 0 or result == -errno.EEXIST and kind == "create"
            or result == -errno.ENOENT and kind in ("read", "stat", "remove"))


class Operation:
    __slots__ = ("called", "call", "kind", "object", "returned", "answer")

    def __init__(self, words):
        self.call = words[2:]  # Without "call" and the number.
        self.object = int(words[3])
        self.kind = words[4]
        self.called = int(words[8])
        self.returned = None
        self.answer = None


def read_file(path):
    """The operations of a writer, in the order of their calls. Its last line may have been cut off."""
    operations = []
    with open(path, encoding="ascii") as file:
        for line in file:
            if not line.endswith("\n"):
                break
            words = line.split()
            if words[0] == "call":
                operations.append(Operation(words))
            else:
                operation = operations[int(words[1])]
                operation.answer = words[2:]
                operation.returned = int(words[5])
    return operations


class Counts:
    def __init__(self):
        self.operations = 0
        self.refused = 0
        self.unknown = 0
        self.objects = 0
        self.undecided = 0
        self.longest_ns = 0

    def add(self, other):
        for name, value in vars(other).items():
            setattr(self, name, max(self.longest_ns, value) if name == "longest_ns"
                    else getattr(self, name) + value)


def select(paths, wanted, counts, full_allowed):
    """The operations on the wanted objects, without those that were refused for want of space, which
    must not have happened."""
    kept = []
    for path in paths:
        for operation in read_file(path):
            if operation.object not in wanted:
                continue
            counts.operations += 1
            if operation.answer is None:
                counts.unknown += 1
                kept.append(operation)
                continue
            result = int(operation.answer[0])
            counts.longest_ns = max(counts.longest_ns, operation.returned - operation.called)
            if result == -errno.ENOSPC and operation.kind in WRITES and full_allowed:
                counts.refused += 1
            elif result in UNKNOWN:
                counts.unknown += 1
                operation.answer = None
                kept.append(operation)
            elif allowed(operation.kind, result):
                kept.append(operation)
            else:
                raise CaseFailed("%s: %s of object %d was answered with %d (%s)" % (
                    os.path.basename(path), operation.kind, operation.object, result,
                    os.strerror(-result)))
    return kept


def write_events(path, operations):
    operations.sort(key=lambda operation: operation.called)
    with open(path, "w", encoding="ascii") as file:
        for number, operation in enumerate(operations):
            file.write("call %d %s\n" % (number, " ".join(operation.call)))
        for number, operation in enumerate(operations):
            if operation.answer:
                file.write("return %d %s\n" % (number, " ".join(operation.answer)))


def check_objects(paths, wanted, target, full_allowed):
    """Fails unless the objects' histories are linearizable. Returns counts. The history that was checked
    stays in `target` when it was refused."""
    counts = Counts()
    operations = select(paths, wanted, counts, full_allowed)
    write_events(target, operations)
    argv = [os.path.join(BIN, "limpet-linear"), target, str(STEPS)]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    match = re.search(r"objects=(\d+) violated=(\d+) undecided=(\d+)", result.stdout)
    check(match, "limpet-linear: %s%s" % (result.stdout, result.stderr))
    counts.objects, counts.undecided = int(match.group(1)), int(match.group(3))
    check(int(match.group(2)) == 0 and result.returncode in (0, 3),
          "%s: not linearizable\n%s" % (" ".join(argv), result.stdout))
    os.unlink(target)
    return counts
