#!/usr/bin/env python3
"""Images as devices of ublk and of the kernel's NBD client, which few kernels have: in a guest whose kernel has both, with a
cluster in there. guest_device.py has the cases; without LIMPET_LONG=1 few of them run. Its processor is emulated, with AES but
not AVX-512."""

import os
import sys

from lib.cluster import BUILD, SANITIZED, case, check, run
from lib.guest import HostGuest, accelerator, missing_newer

HERE = os.path.dirname(os.path.abspath(__file__))
LONG = os.environ.get("LIMPET_LONG") == "1"
SECONDS = 3000 if LONG else 500

if SANITIZED or missing_newer():
    print("skipped: %s" % ("instrumented programs are too slow in there" if SANITIZED else "there is not " + missing_newer()))
    sys.exit(0)


def run_guest(*cases, cpu=None):
    guest = HostGuest([sys.executable, "-B", os.path.join(HERE, "guest_device.py"), *cases], ["ublk_drv", "nbd"],
                      [("LIMPET_BUILD", BUILD), ("LIMPET_SLOWNESS", "5")], cpu=cpu)
    code = guest.run(SECONDS)
    check(code is not None, "the guest ended without a word, or not within %d s" % SECONDS)
    check(code == 0, "in the guest a case failed")


@case
def devices_of_a_newer_kernel():
    print("     by %s" % accelerator())
    run_guest(*([] if LONG else ["starts", "both_kinds_in_short", "objects_come_back"]))


@case
def clusters_on_older_processors():
    """Encryption and checksums by other code: without AVX, and without AES."""
    for cpu in ("Westmere,-cx16", "qemu64,-cx16") if LONG and accelerator() == "tcg" else ():
        print("     on %s" % cpu)
        run_guest("starts", "objects_come_back", cpu=cpu)


if __name__ == "__main__":
    run()
