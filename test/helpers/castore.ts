import { toSmallBlob } from "../../src/castore/blob-service.ts";
import type { B3Digest } from "../../src/castore/digest.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import type { Directory, DirectorySizeProfile } from "../../src/castore/directory.ts";
import { directorySize } from "../../src/castore/directory.ts";
import { encodeDirectory } from "../../src/castore/directory-proto.ts";
import type { Node } from "../../src/castore/node.ts";
import { blake3 } from "../../src/hash/blake3.ts";

/** A directory as tests speak of it: its message, and the node that stands for it in a parent. */
export interface TestDirectory {
  readonly bytes: Uint8Array;
  readonly digest: B3Digest;
  readonly node: Node & { readonly type: "directory" };
}

/** A directory of these entries, put in order; a directory among them is given as it is. */
export function directoryOf(entries: Readonly<Record<string, Node | TestDirectory>>, profile: DirectorySizeProfile = "documented"): TestDirectory {
  const directory: Directory = Object.entries(entries)
    .map(([name, entry]) => ({ name: Buffer.from(name), node: "node" in entry ? entry.node : entry }))
    .sort((a, b) => Buffer.compare(a.name, b.name));
  return named(encodeDirectory(directory), directorySize(directory, profile));
}

/** Any bytes as a directory of that size. */
export function named(bytes: Uint8Array, size: number): TestDirectory {
  const digest = toB3Digest(blake3(bytes));
  return { bytes, digest, node: { type: "directory", digest, size } };
}

/** The same directory, as a parent that gives it another size sees it. */
export function withSize(directory: TestDirectory, size: number): TestDirectory {
  return { ...directory, node: { ...directory.node, size } };
}

export function fileNode(contents: string | Uint8Array, executable = false): Node {
  const { digest, bytes } = toSmallBlob(new Uint8Array(Buffer.from(contents as string)));
  return { type: "file", digest, size: bytes.length, executable };
}

export function symlinkNode(target: string): Node {
  return { type: "symlink", target: Buffer.from(target) };
}
