"""What Python's tarfile reads in the archive that is named: one JSON object, bytes in base64."""

import base64
import hashlib
import json
import sys
import tarfile

KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
    tarfile.LNKTYPE: "hardlink",
    tarfile.SYMTYPE: "symlink",
    tarfile.DIRTYPE: "directory",
    tarfile.CHRTYPE: "characterDevice",
    tarfile.BLKTYPE: "blockDevice",
    tarfile.FIFOTYPE: "fifo",
}


def encoded(text):
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()


def listed(archive, member):
    kind = KINDS.get(member.type, "other")
    is_file = kind == "file"
    contents = archive.extractfile(member).read() if is_file else b""
    return {
        # tarfile takes the slash off.
        "path": encoded(member.name),
        "kind": kind,
        "linkTarget": encoded(member.linkname) if kind in ("symlink", "hardlink") else "",
        "mode": member.mode & 0o7777,
        "uid": member.uid,
        "gid": member.gid,
        "mtime": float(member.mtime),
        "device": [member.devmajor, member.devminor] if kind.endswith("Device") else [0, 0],
        "size": member.size if is_file else None,
        "sparse": [list(pair) for pair in member.sparse] if is_file and member.sparse is not None else None,
        "xattrs": {
            key[len("SCHILY.xattr.") :]: encoded(value)
            for key, value in member.pax_headers.items()
            if key.startswith("SCHILY.xattr.")
        },
        "sha256": hashlib.sha256(contents).hexdigest() if is_file else None,
        "dataOffset": member.offset_data,
    }


with tarfile.open(sys.argv[1], "r:", encoding="utf-8", errors="surrogateescape") as archive:
    json.dump([listed(archive, member) for member in archive], sys.stdout)
