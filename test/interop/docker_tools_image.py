"""
An image as Nix's dockerTools.streamLayeredImage writes it: a layer for each path, names that begin with a slash, times of 1970, and the manifest
last. Prints the layers' SHA-256.

    docker_tools_image.py ROOT OUTPUT plain|symlinks|hardlinks

ROOT has the paths in nix/store. With links, the layers lie elsewhere, and what the manifest names are links to them. A name that ends with .gz is
compressed.
"""

import gzip
import hashlib
import io
import json
import os
import sys
import tarfile

root, output, kind = sys.argv[1:]


def normalized(info):
    info.mtime = 1
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mode = 0o755 if info.isdir() else info.mode
    return info


def layer(path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w|") as archive:
        for directory in ("/nix", "/nix/store"):
            info = tarfile.TarInfo(directory)
            info.type = tarfile.DIRTYPE
            archive.addfile(normalized(info))
        names = [path]
        if not os.path.islink(path):
            names += [os.path.join(where, name) for where, directories, files in os.walk(path) for name in directories + files]
        for name in sorted(names):
            info = normalized(archive.gettarinfo(name))
            info.name = "/" + os.path.relpath(name, root)
            archive.addfile(info, open(name, "rb") if info.isfile() else None)
    return buffer.getvalue()


def link(name, target, type):
    info = tarfile.TarInfo(name)
    info.type = type
    info.linkname = target
    return info


def add(archive, name, contents):
    info = tarfile.TarInfo(name)
    info.size = len(contents)
    info.mtime = 1
    archive.addfile(info, io.BytesIO(contents))


store = os.path.join(root, "nix", "store")
digests, layers = [], []
opened = gzip.GzipFile(output, "wb", 6, mtime=0) if output.endswith(".gz") else open(output, "wb")
with opened as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
    for number, name in enumerate(sorted(os.listdir(store))):
        contents = layer(os.path.join(store, name))
        digest = hashlib.sha256(contents).hexdigest()
        path = f"{digest}/layer.tar"
        if kind == "plain":
            add(archive, path, contents)
        else:
            lies = f"layers/{number}.tar"
            # A symlink may come before what it leads to.
            if kind == "symlinks" and number % 2 == 0:
                archive.addfile(link(path, f"../{lies}", tarfile.SYMTYPE))
            add(archive, lies, contents)
            if kind == "symlinks" and number % 2 == 1:
                archive.addfile(link(path, f"../{lies}", tarfile.SYMTYPE))
            if kind == "hardlinks":
                archive.addfile(link(path, lies, tarfile.LNKTYPE))
        digests.append(f"sha256:{digest}")
        layers.append(path)
    config = json.dumps(
        {"created": "1970-01-01T00:00:01+00:00", "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]}, "rootfs": {"type": "layers", "diff_ids": digests}},
        indent=4,
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    add(archive, name, config)
    add(archive, "manifest.json", json.dumps([{"Config": name, "RepoTags": ["of-nix:50"], "Layers": layers}], indent=4).encode())

print(json.dumps(digests))
