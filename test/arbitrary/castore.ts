import * as fc from "fast-check";
import { toB3Digest } from "../../src/castore/digest.ts";
import type { Directory } from "../../src/castore/directory.ts";
import type { Node } from "../../src/castore/node.ts";
import { arbitraryName } from "./nar-tree.ts";

const arbitraryDigest = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(toB3Digest);

/** Sizes around the lengths of a varint, and any other. */
const arbitrarySize = fc.oneof(fc.constantFrom(0, 1, 127, 128, 16_383, 16_384, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER), fc.maxSafeNat());

export const arbitraryNode: fc.Arbitrary<Node> = fc.oneof(
  fc.record({ type: fc.constant("file" as const), digest: arbitraryDigest, size: arbitrarySize, executable: fc.boolean() }),
  fc.record({ type: fc.constant("directory" as const), digest: arbitraryDigest, size: fc.nat() }),
  fc.record({ type: fc.constant("symlink" as const), target: fc.uint8Array({ minLength: 1, maxLength: 200 }).map((bytes) => bytes.map((byte) => byte || 1)) }),
);

/** A valid directory: names in order, each once. */
export const arbitraryDirectory: fc.Arbitrary<Directory> = fc
  .uniqueArray(fc.record({ name: arbitraryName, node: arbitraryNode }), { maxLength: 20, selector: ({ name }) => Buffer.from(name).toString("latin1") })
  .map((entries) => entries.toSorted((a, b) => Buffer.compare(a.name, b.name)));
