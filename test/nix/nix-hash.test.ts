import fc from "fast-check";
import { expect, test } from "vitest";
import { fromHex, toBase64, toHex } from "../../src/bytes/text-encoding.ts";
import {
  formatBase16Hash,
  formatNixHash,
  formatSriHash,
  type HashAlgorithm,
  parseNixHash,
  parseSha256,
  toNixHash,
} from "../../src/nix/nix-hash.ts";
import { arbitraryHash } from "./arbitrary-nix.ts";

const SHA256_HEX = "1c37d01af40be2e80691de3cc3df44377a699afbb17c68f080964b2fd071fc13";
const SHA256_NIX32 = "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw";
const SHA256_BASE64 = "HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM=";

// All three spellings by Nix 2.8.0 (`nix hash to-base16`, `to-base32`, `to-sri`).
const GOLDEN = [
  ["md5", "b1946ac92492d2347c6235b4d2611184", "4425hx5d1mc9y39llj4k4nm55i", "sZRqySSS0jR8YjW00mERhA=="],
  ["sha1", "0839703786356bca59b0f4a32987eb2e6de43ae8", "x0xf8v9fxf3jk8zln1cwlsrmhqvp0f88", "CDlwN4Y1a8pZsPSjKYfrLm3kOug="],
  ["sha256", SHA256_HEX, SHA256_NIX32, SHA256_BASE64],
  [
    "sha512",
    "e7c22b994c59d9cf2b48e549b1e24666636045930d3da7c1acb299d1c3b7f931f94aae41edda2c2b207a36e10f8bcb8d45223e54878f5b316e7ce3b6bc019629",
    "0lrc0dwnvipqviibf7qfm1y492qvjwb1zhkcyi05cndmva1mr5gjcgrnz1x36djmk0sfg8djd2n0qv68vib2jg590mwznar9jcjphp7",
    "58IrmUxZ2c8rSOVJseJGZmNgRZMNPafBrLKZ0cO3+TH5Sq5B7dosKyB6NuEPi8uNRSI+VIePWzFufOO2vAGWKQ==",
  ],
] as const satisfies readonly (readonly [HashAlgorithm, string, string, string])[];

test.for(GOLDEN)("parseNixHash() reads every spelling of a %s", ([algorithm, hex, nix32, base64]) => {
  const expected = { algorithm, digest: fromHex(hex) };
  expect(parseNixHash(`${algorithm}:${hex}`)).toEqual(expected);
  expect(parseNixHash(`${algorithm}:${hex.toUpperCase()}`)).toEqual(expected);
  expect(parseNixHash(`${algorithm}:${nix32}`)).toEqual(expected);
  expect(parseNixHash(`${algorithm}:${base64}`)).toEqual(expected);
  expect(parseNixHash(`${algorithm}-${base64}`)).toEqual(expected);
});

test.for(GOLDEN)("formatNixHash(), formatSriHash() and formatBase16Hash() write a %s as Nix does", ([algorithm, hex, nix32, base64]) => {
  const hash = toNixHash(algorithm, fromHex(hex) as Uint8Array);
  expect(formatNixHash(hash)).toBe(`${algorithm}:${nix32}`);
  expect(formatSriHash(hash)).toBe(`${algorithm}-${base64}`);
  expect(formatBase16Hash(hash)).toBe(`${algorithm}:${hex}`);
});

test("parseNixHash() gives back what was formatted", () => {
  fc.assert(
    fc.property(arbitraryHash, fc.constantFrom(formatNixHash, formatSriHash, formatBase16Hash), (hash, format) => {
      expect(parseNixHash(format(hash))).toEqual(hash);
    }),
  );
});

test.for([
  ["nothing", ""],
  ["a digest without an algorithm", SHA256_NIX32],
  ["an unknown algorithm", `blake3:${SHA256_NIX32}`],
  ["the name of a property of every object", `constructor:${SHA256_NIX32}`],
  ["an algorithm in upper case", `SHA256:${SHA256_NIX32}`],
  ["a digest that is too short", `sha256:${SHA256_NIX32.slice(1)}`],
  ["a digest that is too long", `sha256:${SHA256_HEX}00`],
  ["another algorithm's digest", `sha1:${SHA256_NIX32}`],
  ["base16 with another letter", `sha256:${SHA256_HEX.slice(1)}g`],
  ["Nix32 with another letter", `sha256:${SHA256_NIX32.slice(1)}e`],
  ["Nix32 with spare bits", `sha256:z${SHA256_NIX32.slice(1)}`],
  ["base64 without padding", `sha256:${SHA256_BASE64.slice(0, -1)}`],
  ["base64 of a byte less", `sha256:${toBase64(new Uint8Array(31))}`],
  ["SRI with Nix32", `sha256-${SHA256_NIX32}`],
  ["SRI with base16", `sha256-${SHA256_HEX}`],
  ["SRI without a digest", "sha256-"],
  ["a space before it", ` sha256:${SHA256_NIX32}`],
  ["a newline after it", `sha256:${SHA256_NIX32}\n`],
] as const)("parseNixHash() rejects %s", ([, text]) => {
  expect(() => parseNixHash(text)).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID" }));
});

test("parseNixHash() shows no more of a long text than fits a line", () => {
  expect(() => parseNixHash(`sha256:${"a".repeat(1_000_000)}`)).toThrow(expect.objectContaining({ message: expect.stringMatching(/^.{1,300}$/) }));
});

test("parseSha256() gives the 32 bytes and takes no other algorithm", () => {
  expect(toHex(parseSha256(`sha256:${SHA256_NIX32}`))).toBe(SHA256_HEX);
  expect(() => parseSha256("md5:4425hx5d1mc9y39llj4k4nm55i")).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID" }));
});

test("toNixHash() rejects a digest of another length", () => {
  expect(() => toNixHash("sha1", new Uint8Array(32))).toThrow("Cannot read hash: found 32 bytes, expected 20 for sha1");
});
