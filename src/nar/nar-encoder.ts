/**
 * The literal bytes of a NAR between file contents, for writers that walk a tree. A root node has no name (an empty one) and no entry
 * around it.
 */
import { encodeLength, encodeTags, encodeToken, paddingLength } from "./nar-token.ts";

/** The first bytes of every NAR. */
export const NAR_MAGIC = encodeTags("nix-archive-1");

const ENTRY_BEFORE_NAME = encodeTags("entry", "(", "name");
const ENTRY_AFTER_NAME = encodeTags("node");
const FILE = encodeTags("(", "type", "regular", "contents");
const EXECUTABLE_FILE = encodeTags("(", "type", "regular", "executable", "", "contents");
const SYMLINK = encodeTags("(", "type", "symlink", "target");
const DIRECTORY = encodeTags("(", "type", "directory");
const NODE_END = encodeTags(")");
const NODE_AND_ENTRY_END = encodeTags(")", ")");

/** What stands before a directory's entries. */
export function encodeDirectoryStart(name: Uint8Array): Uint8Array {
  return encodeNodeStart(name, DIRECTORY);
}

/** What stands after a directory's entries. */
export function encodeDirectoryEnd(isRoot: boolean): Uint8Array {
  return isRoot ? NODE_END : NODE_AND_ENTRY_END;
}

/** What stands before a file's contents. */
export function encodeFileStart(name: Uint8Array, size: number, executable: boolean): Uint8Array {
  return encodeNodeStart(name, executable ? EXECUTABLE_FILE : FILE, encodeLength(size));
}

/** What stands after a file's contents of `size` bytes. */
export function encodeFileEnd(size: number, isRoot: boolean): Uint8Array {
  const end = isRoot ? NODE_END : NODE_AND_ENTRY_END;
  const padding = paddingLength(size);
  if (padding === 0) return end;
  const bytes = new Uint8Array(padding + end.length);
  bytes.set(end, padding);
  return bytes;
}

/** A whole symbolic link. */
export function encodeSymlink(name: Uint8Array, target: Uint8Array): Uint8Array {
  const end = name.length === 0 ? NODE_END : NODE_AND_ENTRY_END;
  return encodeNodeStart(name, SYMLINK, encodeToken(target), end);
}

function encodeNodeStart(name: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(name.length === 0 ? parts : [ENTRY_BEFORE_NAME, encodeToken(name), ENTRY_AFTER_NAME, ...parts]);
}
