import fc from "fast-check";
import { expect, test } from "vitest";
import { toB3Digest } from "../../src/castore/digest.ts";
import type { B3Digest } from "../../src/castore/digest.ts";
import { DigestTable } from "../../src/castore/digest-table.ts";
import { hexes } from "../helpers/bytes.ts";

/** Few bytes and few of their values, so that digests come again and share beginnings and ends. */
const arbitraryDigest = fc
  .tuple(fc.integer({ min: 0, max: 31 }), fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 31 }), fc.integer({ min: 0, max: 3 }))
  .map(([at, value, otherAt, otherValue]) => {
    const bytes = new Uint8Array(32);
    bytes[at] = value;
    bytes[otherAt] = otherValue;
    return toB3Digest(bytes);
  });

function digestOf(number: number, at: number): B3Digest {
  const bytes = Buffer.alloc(32);
  bytes.writeUInt32LE(number, at);
  return toB3Digest(bytes);
}

test("DigestTable numbers digests as a Map would", () => {
  fc.assert(
    fc.property(fc.array(arbitraryDigest, { maxLength: 500 }), fc.array(arbitraryDigest, { maxLength: 20 }), (added, asked) => {
      const table = new DigestTable();
      const map = new Map<string, number>();
      for (const digest of added) {
        const key = String(digest);
        const isNew = !map.has(key);
        if (isNew) map.set(key, map.size);
        expect(table.add(digest)).toEqual({ index: map.get(key), isNew });
        expect(table.size).toBe(map.size);
      }
      for (const digest of [...added, ...asked]) expect(table.indexOf(digest)).toBe(map.get(String(digest)));
      expect(Array.from(map.values(), (index) => String(table.at(index)))).toEqual([...map.keys()]);
    }),
  );
});

test.for([0, 4, 7, 13, 28])("DigestTable holds many digests that differ in the four bytes from %s on only", (at) => {
  const count = 100_000;
  const table = new DigestTable();
  for (let number = 0; number < count; number++) table.add(digestOf(number, at));
  expect(table.size).toBe(count);
  for (let number = 0; number < count; number += 7) expect(table.indexOf(digestOf(number, at))).toBe(number);
  expect(table.indexOf(digestOf(count, at))).toBeUndefined();
});

test("DigestTable.add() copies the digest, and at() gives it as it was", () => {
  const table = new DigestTable();
  const digest = digestOf(1, 0);
  table.add(digest);
  digest.fill(7);
  expect(hexes([table.at(0)])).toEqual(hexes([digestOf(1, 0)]));
  expect(table.indexOf(digest)).toBeUndefined();
});

test("DigestTable.at() of an index that was not given is a RangeError", () => {
  const table = new DigestTable();
  table.add(digestOf(1, 0));
  for (const index of [-1, 1, 255, 256, Number.NaN]) expect(() => table.at(index)).toThrow(RangeError);
});

test("DigestTable takes less than 64 bytes for each of a million digests", () => {
  const before = process.memoryUsage().arrayBuffers;
  const table = new DigestTable();
  const digest = digestOf(0, 0);
  for (let number = 0; number < 1_000_000; number++) {
    (digest as Uint8Array as Buffer).writeUInt32LE(number, number % 4);
    table.add(digest);
  }
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * table.size);
  expect(table.size).toBeGreaterThan(500_000);
});
