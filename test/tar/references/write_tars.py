"""Archives as Python's tarfile writes them, into the directory that is named: each format, and PAX headers that no other program writes."""

import io
import os
import sys
import tarfile

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "directory/" * 30 + "file"


def member(name, type=tarfile.REGTYPE, size=0, **fields):
    info = tarfile.TarInfo(name)
    info.type = type
    info.size = size
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def add(archive, info):
    archive.addfile(info, io.BytesIO(b"x" * info.size) if info.isreg() else None)


def common(archive):
    add(archive, member("directory", tarfile.DIRTYPE, mode=0o755, mtime=1700000000))
    for size in (0, 1, 511, 512, 513, 100_000):
        add(archive, member(f"directory/{size}", size=size, uid=1000, gid=100, uname="me", gname="us"))
    add(archive, member("old type", tarfile.AREGTYPE, size=3))
    add(archive, member("contiguous", tarfile.CONTTYPE, size=3))
    add(archive, member("hard link", tarfile.LNKTYPE, linkname="directory/1"))
    add(archive, member("symlink", tarfile.SYMTYPE, linkname="../elsewhere"))
    add(archive, member("character device", tarfile.CHRTYPE, devmajor=1, devminor=3))
    add(archive, member("block device", tarfile.BLKTYPE, devmajor=8, devminor=17))
    add(archive, member("fifo", tarfile.FIFOTYPE, mode=0o6644))
    add(archive, member("/absolute/../path", size=2))


def unusual(archive):
    add(archive, member(LONG, size=5))
    add(archive, member("l", tarfile.SYMTYPE, linkname=LONG))
    add(archive, member("\u00fc\U0001f600", size=5, uid=3_000_000, gid=2**31))
    add(archive, member("not \udcff UTF-8", size=5, mtime=-100))


for name, format in FORMATS.items():
    with tarfile.open(os.path.join(sys.argv[1], f"{name}.tar"), "w", format=format, encoding="utf-8") as archive:
        common(archive)
        if name != "ustar":
            unusual(archive)

with tarfile.open(
    os.path.join(sys.argv[1], "pax-records.tar"),
    "w",
    format=tarfile.PAX_FORMAT,
    pax_headers={"comment": "of all", "mtime": "1234567890.5", "uid": "77", "gid": "78", "vendor.key": "value"},
) as archive:
    add(archive, member("global", size=5, mtime=1, uid=1))
    add(archive, member("own", size=5, pax_headers={"mtime": "-12.75", "uid": "2", "atime": "1.5", "ctime": "2.5"}))
    add(archive, member("attributes", size=5, pax_headers={"SCHILY.xattr.user.one": "1", "SCHILY.xattr.user.\u00fc": "\u00fc=\n"}))
    add(archive, member("renamed", size=5, pax_headers={"path": "a name of PAX", "comment": "c" * 100_000}))
    add(archive, member("link", tarfile.SYMTYPE, linkname="t", pax_headers={"linkpath": "a target of PAX"}))
