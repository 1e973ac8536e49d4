import * as fc from "fast-check";
import { expect, test } from "vitest";
import { digestKey, formatDigest, toB3Digest } from "../../src/castore/digest.ts";
import { checkPathComponent, checkSymlinkTarget, isPathComponent, isSymlinkTarget } from "../../src/castore/path-component.ts";
import { arbitraryName } from "../arbitrary/nar-tree.ts";
import { expectBytes, sampleBytes } from "../helpers/bytes.ts";

test.for(["a", ".a", "a.", "...", "a b", "\n", "\\", "ü", "\x7f", "-", "__proto__", "n".repeat(255)])("isPathComponent() accepts %j", (name) => {
  expect(isPathComponent(Buffer.from(name))).toBe(true);
  expect(() => checkPathComponent(Buffer.from(name))).not.toThrow();
});

test.for(["", ".", "..", "/", "a/b", "a\0", "\0", "n".repeat(256)])("isPathComponent() refuses %j", (name) => {
  expect(isPathComponent(Buffer.from(name))).toBe(false);
  expect(() => checkPathComponent(Buffer.from(name))).toThrow(expect.objectContaining({ code: "ERR_CASTORE_INVALID" }));
});

test("isPathComponent() accepts names that are not UTF-8", () => {
  fc.assert(
    fc.property(arbitraryName, (name) => {
      expect(isPathComponent(name)).toBe(true);
    }),
  );
});

test.for([
  ["", false],
  ["x", true],
  ["/", true],
  ["..", true],
  ["a\0b", false],
  ["t".repeat(4095), true],
  ["t".repeat(4096), false],
] as const)("isSymlinkTarget() of %j is %s", ([target, expected]) => {
  expect(isSymlinkTarget(Buffer.from(target))).toBe(expected);
  const check = (): void => checkSymlinkTarget(Buffer.from(target));
  if (expected) expect(check).not.toThrow();
  else expect(check).toThrow(`an invalid target of ${target.length} bytes`);
});

test("toB3Digest() takes 32 bytes and nothing else", () => {
  for (const length of [0, 20, 31, 33, 64]) expect(() => toB3Digest(new Uint8Array(length))).toThrow(`found ${length} bytes, expected 32`);
  expect(formatDigest(toB3Digest(new Uint8Array(32).fill(0xab)))).toBe(`b3:${"ab".repeat(32)}`);
});

test("digestKey() has a unit for each byte, also of a digest in the middle of a buffer", () => {
  const digest = sampleBytes(100).subarray(7, 39);
  expectBytes(Buffer.from(digestKey(digest), "latin1"), digest);
  expect(digestKey(digest)).toHaveLength(32);
});
