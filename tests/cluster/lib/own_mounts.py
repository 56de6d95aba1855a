"""A mount namespace of one's own begins with all that others have mounted, which would stay mounted there when they unmount it. This
takes their file systems of Limpet out of it; as a program it does so and becomes another: own_mounts.py COMMAND..."""

import ctypes
import os
import re
import sys

MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def _mounted():
    """mountinfo writes blanks and such as octal numbers."""
    with open("/proc/self/mountinfo", "rb") as file:
        lines = [line.split() for line in file]
    return [re.sub(rb"\\(\d{3})", lambda number: bytes([int(number[1], 8)]), fields[4])
            for fields in lines if fields[fields.index(b"-") + 1] == b"fuse.limpet"]


def leave():
    """umount(8) would ask the file systems, one of which may not answer."""
    for path in reversed(_mounted()):
        if _libc.umount2(path, MNT_DETACH) != 0:
            raise OSError(ctypes.get_errno(), "umount %r" % path)
    left = _mounted()
    if left:
        raise OSError("still mounted: %r" % left)


if __name__ == "__main__":
    leave()
    os.execvp(sys.argv[1], sys.argv[1:])
