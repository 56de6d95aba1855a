#!/usr/bin/env python3
"""Encrypted images: what they read and write against a model, and LUKS images of cryptsetup and qemu-img."""

import ctypes
import errno
import glob
import hashlib
import json
import os
import random
import re
import subprocess

from lib.cluster import Cluster, case, check, command, fails, folder, read_file, run, succeeds, wait_until
from lib.device import Devices, missing, size_of
from lib.librados import environment
from lib.nbd import Server

cluster = Cluster(mons=1, osds=3)
PYTHON = "/usr/bin/python3"  # The one that the distribution's modules are for.
MIB = 1 << 20
PASSPHRASE = "of few words"
folders = []  # Where its files are.
qemu = []  # What makes an image of LUKS 1 meanwhile.
PLAIN = random.Random(3).randbytes(2 * MIB)

BEGIN = """
import errno, os, random, rados, rbd, sys
LUKS1, LUKS2 = rbd.RBD_ENCRYPTION_FORMAT_LUKS1, rbd.RBD_ENCRYPTION_FORMAT_LUKS2
PASSPHRASE = "of few words"
MIB = 1 << 20
def check(condition, message):
    if not condition:
        sys.exit("%s" % (message,))
def fails(error, function, *arguments):
    try:
        function(*arguments)
    except Exception as found:
        check(getattr(found, "errno", None) == error, "%r, not errno %s" % (found, error))
    else:
        sys.exit("%s should fail with errno %s" % (function, error))
cluster = rados.Rados(conffile="", rados_id="admin")
cluster.connect()
io = cluster.open_ioctx("rbd")
"""

# Random requests, aligned and not, beside a model of the contents.
AGAINST_MODEL = """
name, FORMAT, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
draw = random.Random(seed)
def place(size):
    offset = draw.randrange(size)
    if draw.random() < 0.5:
        offset = offset // 512 * 512
    n = min(draw.choice([1, 100, 512, 4096, 5000, 65536, 300000]), size - offset)
    return offset, n
def apply(image, model):
    offset, n = place(len(model))
    kind = draw.randrange(6)
    if kind <= 2:
        data = draw.randbytes(n)
        check(image.write(data, offset) == n, "written")
        model[offset:offset + n] = data
    elif kind == 3:
        image.discard(offset, n)
        model[offset:offset + n] = bytes(n)
    elif kind == 4:
        image.write_zeroes(offset, n)
        model[offset:offset + n] = bytes(n)
    else:
        check(image.read(offset, n) == model[offset:offset + n], "read of %d at %d" % (n, offset))
rbd.RBD().create(io, name, (6 if FORMAT == LUKS1 else 20) * MIB, order=16)
with rbd.Image(io, name) as image:
    fails(errno.EINVAL, image.encryption_load, FORMAT, PASSPHRASE)
    raw = image.size()
    image.encryption_format(FORMAT, PASSPHRASE)
    fails(errno.EEXIST, image.encryption_load, FORMAT, PASSPHRASE)
    model = bytearray(image.size())
    check(raw - len(model) == (2 if FORMAT == LUKS1 else 16) * MIB, "the header's size")
    for i in range(150):
        apply(image, model)
    check(image.read(0, len(model)) == model, "all of it")
    check(len(image.read(len(model) - 10, 20)) == 10, "cut off at the end")
    fails(errno.EINVAL, image.read, len(model), 1)
    image.create_snap("s")
    before = bytes(model)
    for i in range(50):
        apply(image, model)
    extents = []
    image.diff_iterate(0, image.size(), "s", lambda *extent: extents.append(extent))
    changed = bytearray(len(model))
    for offset, n, _ in extents:
        changed[offset:offset + n] = b"x" * n
    for at in range(0, len(model), 4096):
        check(before[at:at + 4096] == model[at:at + 4096] or changed[at], "a change at %d is told" % at)
with rbd.Image(io, name) as image:
    check(image.size() == raw and image.read(0, 4) == b"LUKS", "not decrypted, it is a LUKS image")
    fails(errno.EPERM, image.encryption_load, FORMAT, "another")
    fails(errno.EINVAL, image.encryption_load, 1 - FORMAT, PASSPHRASE)
    image.encryption_load(FORMAT, PASSPHRASE)
    check(image.read(0, len(model)) == model, "all of it, again")
    image.set_snap("s")
    check(image.read(0, len(model)) == before, "the snapshot")
"""

WRITE = """
name, FORMAT, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rbd.RBD().create(io, name, (4 if FORMAT == LUKS1 else 18) * MIB, order=16)
with rbd.Image(io, name) as image:
    image.encryption_format(FORMAT, PASSPHRASE)
    with open(path, "rb") as file:
        image.write(file.read(), 0)
"""

READ = """
name, FORMAT, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with rbd.Image(io, name) as image:
    image.encryption_load(FORMAT, PASSPHRASE)
    with open(path, "rb") as file:
        plain = file.read()
    check(image.read(0, len(plain)) == plain and image.size() >= len(plain), "what was written")
"""


def python(program, *words):
    if not glob.glob("/usr/lib/python3/dist-packages/rbd.*.so"):
        print("skipped: the package python3-rbd is not installed")
        return ""
    result = command([PYTHON, "-B", "-c", BEGIN + program] + [str(word) for word in words],
                     env=environment(cluster))
    check(result.code == 0, result.err)
    return result.text


def file(name, data=None):
    if not folders:
        folders.append(folder())
    path = os.path.join(folders[0], name)
    if data is not None:
        with open(path, "wb") as out:
            out.write(data)
    return path


def sectors(encrypts, key, data, size):
    """AES-XTS as dm-crypt has it, written down once more: numbers of sectors count 512 bytes."""
    crypto = ctypes.CDLL("libcrypto.so.3")
    for name in ("EVP_CIPHER_CTX_new", "EVP_aes_256_xts"):
        getattr(crypto, name).restype = ctypes.c_void_p
    context = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    out, done = bytearray(), ctypes.c_int()
    for at in range(0, len(data), size):
        piece = ctypes.create_string_buffer(size)
        iv = (at // 512).to_bytes(16, "little")
        check(crypto.EVP_CipherInit_ex(context, ctypes.c_void_p(crypto.EVP_aes_256_xts()), None, key, iv,
                                       int(encrypts)) == 1, "a key")
        check(crypto.EVP_CipherUpdate(context, piece, ctypes.byref(done), data[at:at + size], size) == 1,
              "a sector")
        out += piece.raw
    crypto.EVP_CIPHER_CTX_free(context)
    return bytes(out)


def volume_key(path):
    """What cryptsetup finds by the passphrase."""
    key = file("volume.key")
    if os.path.exists(key):
        os.remove(key)
    succeeds(command(["cryptsetup", "luksDump", "--batch-mode", "--dump-volume-key", "--volume-key-file", key,
                      "--key-file", file("passphrase"), path]))
    return read_file(key)


@case
def starts():
    cluster.start()
    cluster.pool("rbd")
    # Passphrases need not take long to try here.
    with open(cluster.conf, "a", encoding="utf-8") as conf:
        conf.write("\n[client]\nrbd encryption iter time = 0\n")
    file("passphrase", PASSPHRASE.encode())
    file("plain", PLAIN)
    # It measures for seconds how fast keys are derived, whatever it is told; now and then it fails to.
    qemu.append(subprocess.Popen(["sh", "-c", "for i in 1 2 3 4 5; do \"$@\" && break; done", "qemu-img", "qemu-img", "convert",
                                  "--object", "secret,id=s,file=" + file("passphrase"), "-O", "luks", "-o",
                                  "key-secret=s,iter-time=10", "-f", "raw", file("plain"), file("theirs1")],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT))


@case
def an_image_of_luks1_reads_what_it_wrote():
    python(AGAINST_MODEL, "model1", 0, 1)


@case
def an_image_of_luks2_reads_what_it_wrote():
    python(AGAINST_MODEL, "model2", 1, 2)


@case
def qemu_reads_an_image_of_luks1():
    python(WRITE, "ours1", 0, file("plain"))
    succeeds(cluster.limpet("rbd", "export", "ours1", file("ours1"), "--no-progress"))
    succeeds(command(["qemu-img", "convert", "--object", "secret,id=s,file=" + file("passphrase"), "--image-opts",
                      "driver=luks,key-secret=s,file.filename=" + file("ours1"), "-O", "raw", file("decrypted")]))
    check(read_file(file("decrypted"))[:len(PLAIN)] == PLAIN, "what was written")


@case
def cryptsetup_opens_an_image_of_luks2():
    python(WRITE, "ours2", 1, file("plain"))
    succeeds(cluster.limpet("rbd", "export", "ours2", file("ours2"), "--no-progress"))
    told = succeeds(command(["cryptsetup", "luksDump", file("ours2")])).text
    for expected in (r"Version:\s+2", r"cipher: aes-xts-plain64", r"sector: 4096", r"offset: 16777216"):
        check(re.search(expected, told), told)
    key = volume_key(file("ours2"))
    raw = read_file(file("ours2"))[16 * MIB:]
    check(sectors(False, key, raw[:len(PLAIN)], 4096) == PLAIN, "what was written")


@case
def an_image_of_qemu_is_decrypted():
    said = qemu.pop().communicate()
    check(os.path.exists(file("theirs1")), "qemu-img: %r" % (said,))
    succeeds(cluster.limpet("rbd", "import", file("theirs1"), "theirs1", "--no-progress"))
    python(READ, "theirs1", 0, file("plain"))


@case
def an_image_of_cryptsetup_is_decrypted():
    path = file("theirs2", bytes(16 * MIB + len(PLAIN)))
    succeeds(command(["cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--sector-size", "4096",
                      "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", file("passphrase"), path]))
    key = volume_key(path)
    with open(path, "r+b") as out:
        out.seek(16 * MIB)
        out.write(sectors(True, key, PLAIN, 4096))
    succeeds(cluster.limpet("rbd", "import", path, "theirs2", "--no-progress"))
    python(READ, "theirs2", 1, file("plain"))


def changed_header(data, change):
    """A LUKS 2 image whose headers, both of them, say something else, with the right sums."""
    data = bytearray(data)
    size = int.from_bytes(data[8:16], "big")
    for at in (0, size):
        area = data[at + 4096:at + size]
        text = json.loads(bytes(area[:area.index(0)]))
        change(text)
        area = json.dumps(text).encode()
        data[at + 4096:at + size] = area + bytes(size - 4096 - len(area))
        data[at + 0x1c0:at + 0x200] = bytes(64)
        data[at + 0x1c0:at + 0x1e0] = hashlib.sha256(data[at:at + size]).digest()
    return bytes(data)


HOSTILE = """
import json
results = []
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        data = file.read()
    rbd.RBD().create(io, "hostile", 18 * MIB, order=22)
    with rbd.Image(io, "hostile") as image:
        image.write(data[:MIB], 0)
        image.write(data[16 * MIB:], 16 * MIB)
        try:
            image.encryption_load(LUKS2, PASSPHRASE)
            results.append([0, image.size(), image.read(0, 64).hex()])
        except rbd.OSError as error:
            results.append([error.errno])
        except OSError as error:
            results.append([error.errno])
        check(len(image.read(0, 512)) == 512, "it is read as it is")
    rbd.RBD().remove(io, "hostile")
print(json.dumps(results))
"""


@case
def headers_that_ask_for_what_is_not_done_are_refused():
    """Not decrypted to something else than what cryptsetup would show."""
    whole = read_file(file("theirs2"))[:16 * MIB + 4096]

    def segment(**keys):
        return lambda text: text["segments"]["0"].update(keys)

    def tags(text):
        text["segments"]["0"]["integrity"] = {"type": "hmac(sha256)", "journal_encryption": "none",
                                              "journal_integrity": "none"}

    def anew(text):
        text["config"]["requirements"] = {"mandatory": ["online-reencrypt"]}

    changes = {
        "as it is": lambda text: None,
        "numbers": segment(iv_tweak="8"),
        "tags": tags,
        "anew": anew,
        "unknown": lambda text: text["config"].update(requirements={"mandatory": ["from-the-future"]}),
        "cipher": segment(encryption="serpent-xts-plain64"),
        "mode": segment(encryption="aes-cbc-essiv:sha256"),
        "sector": segment(sector_size=8192),
        "no sector": segment(sector_size=0),
        "far": segment(offset=str(1 << 60)),
        "later": segment(offset=str(17 << 20)),
        "begin": segment(offset="0"),
        "no segment": lambda text: text.update(segments={}),
        "no key": lambda text: text.update(keyslots={}),
        "key": lambda text: text["keyslots"]["0"].update(key_size=4096),
        "area": lambda text: text["keyslots"]["0"]["area"].update(offset=str(1 << 62)),
    }
    paths = [file("hostile%d" % i, changed_header(whole, change)) for i, change in enumerate(changes.values())]
    draw = random.Random(5)
    for _ in range(16):  # Sums that are right, and bytes of the description that are not.
        def garble(text):
            path, at = [], text
            while isinstance(at, dict) and at:
                # Not how long a key takes, which may be for ever.
                path.append(draw.choice([key for key in sorted(at) if key not in ("iterations", "time", "memory")]))
                at = at[path[-1]]
            for key in path[:-1]:
                text = text[key]
            text[path[-1]] = draw.choice(["", "-1", str(1 << 63), "x" * 300, {}, [], None, -1, 1 << 62])
        try:
            paths.append(file("garbled%d" % len(paths), changed_header(whole, garble)))
        except (KeyError, TypeError, IndexError):
            pass
    results = json.loads(python(HOSTILE, *paths) or "[]")
    if not results:
        return
    told = dict(zip(changes, results))
    check(told["as it is"][2] == PLAIN[:64].hex(), "what the others are changes of: %r" % told["as it is"])
    for name, result in told.items():
        if name in ("numbers", "tags", "anew", "unknown", "cipher", "mode"):
            # cryptsetup's library itself refuses one that is being encrypted anew without a key for it.
            check(result[0] in (errno.EOPNOTSUPP, errno.EINVAL if name == "anew" else 0), "%s: %r" % (name, result))
            check(result[0] != 0, "%s: %r" % (name, result))
        elif name == "later":
            check(result[:2] == [0, MIB], "contents begin later: %r" % result)
        elif name != "as it is":
            check(result[0] != 0, "%s: %r" % (name, result))


@case
def the_command_line_encrypts_and_decrypts():
    option = ("--encryption-format", "luks2", "--encryption-passphrase-file", file("passphrase"))
    succeeds(cluster.limpet("rbd", "create", "cli", "--size", "17M", "--object-size", "64K"))
    fails(cluster.limpet("rbd", "export", "cli", file("none"), "--no-progress", *option), errno.EINVAL,
          "not encrypted in format luks2")
    succeeds(cluster.limpet("rbd", "encryption", "format", "cli", "luks2", file("passphrase")))
    succeeds(cluster.limpet("rbd", "bench", "cli", "--io-type", "write", "--io-size", "64K", "--io-total", "1M",
                            *option))
    succeeds(cluster.limpet("rbd", "export", "cli", file("clear"), "--no-progress", *option))
    check(len(read_file(file("clear"))) == MIB and any(read_file(file("clear"))), "what bench wrote")
    file("wrong", b"another")
    fails(cluster.limpet("rbd", "export", "cli", file("none"), "--no-progress", *option[:3], file("wrong")),
          errno.EPERM, "passphrase .* is wrong")
    fails(cluster.limpet("rbd", "export", "cli", file("none"), "--no-progress", *option[:2]), errno.EINVAL,
          "both or neither")
    fails(cluster.limpet("rbd", "export", "cli", file("none"), "--export-format", "2", *option), errno.EINVAL,
          "holds the image as it is, encrypted")
    file("clear", os.urandom(5 * MIB + 1000))
    for name, source, more in (("sealed", file("clear"), ()), ("piped", "-", ("--object-size", "64K"))):
        succeeds(cluster.limpet("rbd", "import", source, name, "--no-progress", *option, *more,
                                data=read_file(file("clear"))))
        back = succeeds(cluster.limpet("rbd", "export", name, "-", "--no-progress", *option)).out
        check(back == read_file(file("clear")) + bytes(4096 - 1000), "%s: %d bytes came back" % (name, len(back)))
        raw = succeeds(cluster.limpet("rbd", "export", name, "-", "--no-progress")).out
        check(raw[:4] == b"LUKS" and read_file(file("clear"))[:4096] not in raw, "it is not encrypted")
        check(len(raw) == len(back) + (16 << 20), "its header: %d bytes" % (len(raw) - len(back)))
    fails(cluster.limpet("rbd", "import", file("clear"), "none", *option[:2]), errno.EINVAL, "both or neither")
    fails(cluster.limpet("rbd", "import", file("clear"), "none", "--no-progress", "--stripe-unit", "512", "--stripe-count",
                         "2", *option),
          errno.EINVAL, "import failed")
    fails(cluster.limpet("rbd", "info", "none"), errno.ENOENT, "none")
    succeeds(cluster.limpet("rbd", "create", "small", "--size", "1M"))
    fails(cluster.limpet("rbd", "encryption", "format", "small", "luks1", file("passphrase")), errno.ENOSPC,
          "smaller than the header")


@case
def nbd_clients_see_what_is_in_it():
    option = ("--encryption-format", "luks2", "--encryption-passphrase-file", file("passphrase"))
    # Written by the random operations' image: the same bytes by both ways.
    succeeds(cluster.limpet("rbd", "export", "model2", file("plain2"), "--no-progress", *option))
    clear = read_file(file("plain2"))
    server = Server(cluster, "rbd/model2", *option)
    check("export-size: %d" % len(clear) in server.info(), server.info())
    succeeds(command(["nbdcopy", server.uri, file("served")]))
    check(read_file(file("served")) == clear, "what is served")
    succeeds(server.shell("h.pwrite(b'by nbd' * 1000, 12345)", "h.flush()", "h.trim(4096, 65536)"))
    server.end()
    succeeds(cluster.limpet("rbd", "export", "model2", file("after"), "--no-progress", *option))
    expected = clear[:12345] + b"by nbd" * 1000 + clear[18345:65536] + bytes(4096) + clear[69632:]
    check(read_file(file("after")) == expected, "what was written")
    Server(cluster, "rbd/model2", *option[:3], file("wrong")).refuses("the passphrase in", "is wrong")
    Server(cluster, "rbd/model2", *option[:2]).refuses("both or neither")
    Server(cluster, "rbd/model2", *option[:3], file("nowhere")).refuses("nowhere", "No such file")
    Server(cluster, "rbd/model2", option[0], "luks1", *option[2:]).refuses("not encrypted in format luks1")
    Server(cluster, "rbd/model2", *option[:3], file("empty", b"\n")).refuses("it is empty")


@case
def a_device_shows_what_is_in_it():
    if missing():
        print("skipped: %s is missing" % missing())
        return
    devices = Devices(cluster)
    option = ("--encryption-format", "luks1", "--encryption-passphrase-file", file("passphrase"))
    succeeds(cluster.limpet("rbd", "create", "disk", "--size", "34M", "--object-size", "1M"))
    succeeds(cluster.limpet("rbd", "encryption", "format", "disk", "luks1", file("passphrase")))
    device = devices.map("disk", *option)
    check(size_of(device) == 32 * MIB, "size: %d" % size_of(device))
    succeeds(command(["mkfs.ext4", "-q", device]))
    path = devices.mount(device)
    succeeds(command(["cp", file("plain"), path]))
    succeeds(cluster.limpet("rbd", "resize", "disk", "--size", "50M", "--no-progress"))
    wait_until("48 MiB", lambda: size_of(device) == 48 * MIB, 30)
    devices.umount(path)
    devices.unmap("disk")
    device = devices.map("disk", "-o", "ro,encryption-format=luks1,encryption-passphrase-file=" + file("passphrase"))
    path = devices.mount(device, "-o", "ro")
    check(read_file(os.path.join(path, "plain")) == PLAIN, "the file")
    devices.umount(path)
    devices.unmap("disk")
    device = devices.map("disk", "--read-only")
    with open(device, "rb") as raw:
        check(raw.read(4) == b"LUKS", "not decrypted, it is a LUKS image")
    devices.unmap("disk")
    fails(devices.call("device", "map", "disk", *option[:3], file("wrong")), errno.EPERM, "passphrase .* is wrong")
    fails(devices.call("device", "map", "disk", *option[:2]), errno.EINVAL, "both or neither")
    fails(devices.call("device", "map", "disk", *option[:3], file("nowhere")), errno.ENOENT, "nowhere")
    fails(devices.call("device", "map", "disk", "-o", "encryption-format=luks3"), errno.EINVAL, "luks1.luks2")
    check(devices.list() == [] and os.listdir(devices.run) == ["lock"], "%r" % os.listdir(devices.run))


if __name__ == "__main__":
    run()
