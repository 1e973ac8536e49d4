import * as fc from "fast-check";
import type { Tree } from "../helpers/reference-nar.ts";

const WORDS = ["a", "b", "bin", "share", "a.b", "a b", "__proto__", "constructor", "...", "~nix~case~hack~1", "ü", "\u{1f600}", "\u{ff5e}"];

/** A valid name: mostly words, so that names share beginnings, and any other bytes, so that they are not all UTF-8. */
export const arbitraryName: fc.Arbitrary<Uint8Array> = fc
  .oneof(
    { weight: 3, arbitrary: fc.constantFrom(...WORDS).map((word) => new Uint8Array(Buffer.from(word))) },
    { weight: 3, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 12 }) },
    { weight: 1, arbitrary: fc.uint8Array({ minLength: 200, maxLength: 255 }) },
  )
  .map((bytes) => bytes.map((byte) => (byte === 0 || byte === 0x2f ? 0xff : byte)))
  .filter((bytes) => !/^\.\.?$/.test(Buffer.from(bytes).toString("latin1")));

const arbitraryTarget: fc.Arbitrary<Uint8Array> = fc
  .oneof({ weight: 9, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 40 }) }, { weight: 1, arbitrary: fc.uint8Array({ minLength: 4000, maxLength: 4095 }) })
  .map((bytes) => bytes.map((byte) => (byte === 0 ? 0x2f : byte)));

const arbitraryContents: fc.Arbitrary<Uint8Array> = fc.oneof(
  { weight: 12, arbitrary: fc.uint8Array({ maxLength: 40 }) },
  { weight: 6, arbitrary: fc.uint8Array({ minLength: 0, maxLength: 2000 }) },
  // Large ones are made of one number, which is all there is to shrink.
  { weight: 1, arbitrary: fc.integer({ min: 60_000, max: 1_500_000 }).map((size) => new Uint8Array(size).fill(size & 0xff)) },
);

const arbitraryLeaf: fc.Arbitrary<Tree> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ type: fc.constant("file" as const), bytes: arbitraryContents, executable: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("symlink" as const), target: arbitraryTarget }) },
);

/** Any tree that a NAR can hold, directories of no entries and several levels of them included. */
export const arbitraryTree: fc.Arbitrary<Tree> = fc.letrec<{ tree: Tree; directory: Tree }>((tie) => ({
  tree: fc.oneof({ depthSize: "small", withCrossShrink: true }, arbitraryLeaf, tie("directory")),
  directory: fc
    .uniqueArray(fc.tuple(arbitraryName, tie("tree")), { maxLength: 6, selector: ([name]) => Buffer.from(name).toString("latin1") })
    .map((entries): Tree => ({ type: "directory", entries: entries.sort(([a], [b]) => Buffer.compare(a, b)) })),
})).tree;

/** Ways to cut bytes: the sizes of pieces, over and over; some may be empty. */
export const arbitraryPieceSizes: fc.Arbitrary<readonly number[]> = fc
  .array(fc.oneof(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1000, max: 100_000 })), { minLength: 1, maxLength: 8 })
  .filter((sizes) => sizes.some((size) => size > 0));

/** `bytes` cut into pieces of these sizes. */
export function cutInto(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let offset = 0, turn = 0; offset < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] as number;
    pieces.push(bytes.subarray(offset, offset + size));
    offset += size;
  }
  return pieces;
}
