/**
 * A path on the disk as a NAR, the way `nix-store --dump` writes it: names in the order of their bytes, the executable bit of the owner,
 * nothing else of the metadata.
 */
import type { Stats } from "node:fs";
import { constants } from "node:fs";
import type { FileHandle } from "node:fs/promises";
import { lstat, open, readdir, readlink } from "node:fs/promises";
import { ByteWriter } from "../bytes/byte-writer.ts";
import { compareBytes } from "../bytes/compare-bytes.ts";
import { mapConcurrent } from "../concurrency/map-concurrent.ts";
import { NarborError } from "../errors.ts";
import { MAX_DEPTH } from "../nar/nar-event.ts";
import { encodeDirectoryEnd, encodeDirectoryStart, encodeFileEnd, encodeFileStart, encodeSymlink, NAR_MAGIC } from "../nar/nar-encoder.ts";

/** Small pieces are gathered into arrays of about this many bytes. */
const GATHER_BYTES = 256 * 1024;
const READ_BYTES = 512 * 1024;
/** Entries of a directory that are looked at, and small files read, ahead of their turn. */
const ENTRIES_AHEAD = 16;
/** Files up to this size are read ahead, whole. */
const AHEAD_BYTES = 64 * 1024;

/** Whatever takes a file's place after it was looked at is not followed, and not waited on. */
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

const NO_NAME = new Uint8Array(0);
const OWNER_EXECUTE = 0o100;

type FoundNode =
  | { readonly type: "directory"; readonly path: Buffer; readonly name: Uint8Array }
  | { readonly type: "symlink"; readonly name: Uint8Array; readonly target: Uint8Array }
  | { readonly type: "file"; readonly path: Buffer; readonly name: Uint8Array; readonly size: number; readonly executable: boolean; readonly content: Uint8Array | undefined };

/**
 * The NAR of what is at `path`.
 *
 * @throws NarborError ERR_INVALID for a device, socket or pipe, for a file that changes while it is read, and for a tree that is too deep;
 *   the system's own error for what cannot be read
 */
export async function* dumpFilesystem(path: string): AsyncGenerator<Uint8Array, void, undefined> {
  const gathered = new ByteWriter(2 * GATHER_BYTES);
  gathered.writeBytes(NAR_MAGIC);
  for await (const bytes of dumpNode(await findNode(Buffer.from(path), NO_NAME), 0)) {
    gathered.writeBytes(bytes);
    if (gathered.length < GATHER_BYTES) continue;
    yield gathered.bytes();
    gathered.clear();
  }
  yield gathered.bytes();
}

async function* dumpNode(node: FoundNode, depth: number): AsyncGenerator<Uint8Array, void, undefined> {
  if (depth >= MAX_DEPTH) throw new NarborError("ERR_INVALID", `Cannot dump: directory nesting exceeds the maximum depth of ${MAX_DEPTH}`);
  const isRoot = depth === 0;
  switch (node.type) {
    case "symlink":
      yield encodeSymlink(node.name, node.target);
      return;
    case "file":
      yield encodeFileStart(node.name, node.size, node.executable);
      if (node.content === undefined) yield* readLargeFile(node.path, node.size);
      else yield node.content;
      yield encodeFileEnd(node.size, isRoot);
      return;
    case "directory": {
      yield encodeDirectoryStart(node.name);
      const names = (await readdir(node.path, { encoding: "buffer" })).sort(compareBytes);
      const find = (name: Buffer): Promise<FoundNode> => findNode(Buffer.concat([node.path, Buffer.from("/"), name]), name);
      for await (const child of mapConcurrent(names, ENTRIES_AHEAD, find)) yield* dumpNode(child, depth + 1);
      yield encodeDirectoryEnd(isRoot);
    }
  }
}

async function findNode(path: Buffer, name: Uint8Array): Promise<FoundNode> {
  const stats = await lstat(path);
  if (stats.isDirectory()) return { type: "directory", path, name };
  if (stats.isSymbolicLink()) return { type: "symlink", name, target: await readlink(path, { encoding: "buffer" }) };
  if (!stats.isFile()) throw new NarborError("ERR_INVALID", `Cannot dump ${JSON.stringify(path.toString())}: it is ${kindOf(stats)}, which a NAR cannot hold`);
  const content = stats.size <= AHEAD_BYTES ? await readSmallFile(path, stats.size) : undefined;
  return { type: "file", path, name, size: stats.size, executable: (stats.mode & OWNER_EXECUTE) !== 0, content };
}

async function readSmallFile(path: Buffer, size: number): Promise<Uint8Array> {
  const handle = await open(path, READ_FLAGS);
  try {
    // One byte more than there should be shows a file that has grown.
    const bytes = new Uint8Array(size + 1);
    const { bytesRead } = await handle.read(bytes, 0, size + 1, 0);
    if (bytesRead !== size) throw changed(path);
    return bytes.subarray(0, size);
  } finally {
    await handle.close();
  }
}

async function* readLargeFile(path: Buffer, size: number): AsyncGenerator<Uint8Array, void, undefined> {
  const handle: FileHandle = await open(path, READ_FLAGS);
  try {
    const bytes = new Uint8Array(Math.min(READ_BYTES, size));
    for (let offset = 0; offset < size; ) {
      const { bytesRead } = await handle.read(bytes, 0, Math.min(bytes.length, size - offset), offset);
      if (bytesRead === 0) throw changed(path);
      offset += bytesRead;
      yield bytes.subarray(0, bytesRead);
    }
    const { bytesRead } = await handle.read(new Uint8Array(1), 0, 1, size);
    if (bytesRead !== 0) throw changed(path);
  } finally {
    await handle.close();
  }
}

function changed(path: Buffer): NarborError {
  return new NarborError("ERR_INVALID", `Cannot dump ${JSON.stringify(path.toString())}: it changed while it was read`);
}

function kindOf(stats: Stats): string {
  if (stats.isFIFO()) return "a named pipe";
  if (stats.isSocket()) return "a socket";
  return "a device";
}
