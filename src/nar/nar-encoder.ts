/**
 * The literal bytes of a NAR between file contents, for writers that walk a tree: what stands before a node's own data and what after it.
 */
import { concatBytes } from "../bytes/collect.ts";
import { encodeLength, encodeTags, encodeToken, paddingLength } from "./nar-token.ts";

/** The first bytes of every NAR. */
export const NAR_MAGIC = encodeTags("nix-archive-1");

const ENTRY_BEFORE_NAME = encodeTags("entry", "(", "name");
const ENTRY_AFTER_NAME = encodeTags("node");
const ENTRY_END = encodeTags(")");
const FILE = encodeTags("(", "type", "regular", "contents");
const EXECUTABLE_FILE = encodeTags("(", "type", "regular", "executable", "", "contents");
const SYMLINK = encodeTags("(", "type", "symlink", "target");
const NODE_END = encodeTags(")");
const ZEROS = new Uint8Array(8);

/** Before an entry's node. */
export function encodeEntryStart(name: Uint8Array): Uint8Array {
  return concatBytes([ENTRY_BEFORE_NAME, encodeToken(name), ENTRY_AFTER_NAME]);
}
/** After an entry's node. */
export { ENTRY_END as NAR_ENTRY_END };

/** Before a directory's entries. */
export const NAR_DIRECTORY_START = encodeTags("(", "type", "directory");
/** After a directory's entries. */
export { NODE_END as NAR_DIRECTORY_END };

/** Before a file's contents. */
export function encodeFileStart(size: number, executable: boolean): Uint8Array {
  return concatBytes([executable ? EXECUTABLE_FILE : FILE, encodeLength(size)]);
}

/** After a file's contents: padding and the closing bracket. */
export function encodeFileEnd(size: number): Uint8Array {
  return concatBytes([ZEROS.subarray(0, paddingLength(size)), NODE_END]);
}

/** A whole symbolic link. */
export function encodeSymlink(target: Uint8Array): Uint8Array {
  return concatBytes([SYMLINK, encodeToken(target), NODE_END]);
}
