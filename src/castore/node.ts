import type { B3Digest } from "./digest.ts";

/** A regular file: its blob, that blob's size in bytes, and whether it may be executed. */
export interface FileNode {
  readonly type: "file";
  readonly digest: B3Digest;
  readonly size: number;
  readonly executable: boolean;
}

/** A directory: the digest of its canonical message, and the size that message's profile gives it (see `DirectorySize`). */
export interface DirectoryNode {
  readonly type: "directory";
  readonly digest: B3Digest;
  readonly size: number;
}

/** A symbolic link: 1 to 4095 bytes of target, no NUL. */
export interface SymlinkNode {
  readonly type: "symlink";
  readonly target: Uint8Array;
}

/** A node as seen from its parent, or the root of a whole tree. */
export type Node = FileNode | DirectoryNode | SymlinkNode;
