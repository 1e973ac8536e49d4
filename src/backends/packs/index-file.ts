import { statSync } from "node:fs";
import { NarborError } from "../../errors.ts";

/** The index as a file: which one it is tells whether another has taken its place. */
export interface IndexFile {
  readonly path: string;
  readonly device: bigint;
  readonly inode: bigint;
}

/** @throws what the filesystem does */
export function indexFileAt(path: string): IndexFile {
  const { dev, ino } = statSync(path, { bigint: true });
  return { path, device: dev, inode: ino };
}

/**
 * Numbers of packs mean nothing in another index: where a store was put in the place of one that is open, its chunks would be said to lie where they do not.
 *
 * @throws NarborError ERR_STORE when there is another file by now, or none
 */
export function checkIndexFile({ path, device, inode }: IndexFile): void {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (found?.dev !== device || found.ino !== inode) {
    throw new NarborError("ERR_STORE", `Cannot write the index: "${path}" is another file than when the store was opened, or is gone`);
  }
}
