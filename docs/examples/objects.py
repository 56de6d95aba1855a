#!/usr/bin/python3
"""Objects through Ceph's Python module (package python3-rados), on a cluster of Limpet or of Ceph:

    LD_LIBRARY_PATH=build/lib/compat CEPH_CONF=/etc/limpet/limpet.conf ./objects.py POOL

Stores a few notes at once, and prints all that there are.
"""

import sys

import rados


def main():
    with rados.Rados(conffile="", rados_id="admin") as cluster, \
            cluster.open_ioctx(sys.argv[1]) as pool:
        pool.set_namespace("notes")
        writes = []
        for name, text in (("one", "Bread"), ("two", "Milk"), ("three", "Tea")):
            writes.append(pool.aio_write_full(name, text.encode()))
        for write in writes:
            write.wait_for_complete()
            if write.get_return_value() != 0:
                sys.exit("objects.py: cannot write: error %d" % -write.get_return_value())
        pool.set_xattr("one", "urgent", b"yes")
        for entry in sorted(pool.list_objects(), key=lambda entry: entry.key):
            size, _ = pool.stat(entry.key)
            urgent = [value for name, value in pool.get_xattrs(entry.key) if name == "urgent"]
            print("%s: %s (%d bytes)%s" % (entry.key, pool.read(entry.key).decode(), size,
                                           ", urgent" if urgent else ""))


if __name__ == "__main__":
    main()
