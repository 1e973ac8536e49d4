import { compareBytes } from "../bytes/compare-bytes.ts";
import type { Node } from "./node.ts";

/** An entry of a directory. */
export interface Entry {
  /** 1 to 255 bytes; see `isPathComponent`. */
  readonly name: Uint8Array;
  readonly node: Node;
}

/** A directory's entries in the order of their names' bytes, which is the order of a NAR. */
export type Directory = readonly Entry[];

/**
 * How a directory's size is counted. `documented` is n + Σ child.size, as the protocol's text says; Rust tvix and snix have
 * computed 2n + Σ child.size since August 2024, which is `doubled`.
 */
export type DirectorySizeProfile = "documented" | "doubled";

/** What each entry of a directory adds to its size, its children's sizes aside. */
export const SIZE_PER_ENTRY: Readonly<Record<DirectorySizeProfile, number>> = { documented: 1, doubled: 2 };

/** The size of a directory in a profile, from its children's sizes in the same profile. */
export function directorySize(directory: Directory, profile: DirectorySizeProfile): number {
  let size = directory.length * SIZE_PER_ENTRY[profile];
  for (const { node } of directory) if (node.type === "directory") size += node.size;
  return size;
}

/** The entry of that name, by binary search. */
export function findEntry(directory: Directory, name: Uint8Array): Entry | undefined {
  let low = 0;
  let high = directory.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const entry = directory[middle] as Entry;
    const order = compareBytes(entry.name, name);
    if (order === 0) return entry;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return undefined;
}
