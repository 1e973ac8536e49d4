import fc from "fast-check";
import { expect, test } from "vitest";
import { fromHex, toHex } from "../../src/bytes/text-encoding.ts";
import {
  equalStorePaths,
  formatStorePath,
  makeSourceStorePath,
  parseStorePath,
  parseStorePathBaseName,
  parseStorePathHashPart,
  sortStorePaths,
  storePathBaseName,
  storePathHashPart,
  toStorePath,
} from "../../src/nix/store-path.ts";
import { arbitraryStorePath } from "./arbitrary-nix.ts";

const HASH = "52rlw6hd14irdcsbl6gczjkivmfr948z";

test("parseStorePath() and formatStorePath() are each other's inverse", () => {
  fc.assert(
    fc.property(arbitraryStorePath, (path) => {
      expect(parseStorePath(formatStorePath(path))).toEqual(path);
      expect(parseStorePathBaseName(storePathBaseName(path))).toEqual(path);
      expect(parseStorePathHashPart(storePathHashPart(path.digest))).toEqual(path.digest);
    }),
  );
});

test("parseStorePath() takes a path apart", () => {
  const path = parseStorePath("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432");
  expect(toHex(path.digest)).toBe("8a12321522fd91efbd60ebb2481af88580f61600");
  expect(path.name).toBe("net-tools-1.60_p20170221182432");
});

test.for(["a", "...", ".a", "..a", "a-", "-", "?=+_", "x".repeat(211), "0"] as const)(
  "parseStorePathBaseName() accepts the name %s",
  (name) => {
    expect(parseStorePathBaseName(`${HASH}-${name}`).name).toBe(name);
  },
);

test.for([
  ["no name", `${HASH}-`],
  ["no dash", HASH],
  ["another character for the dash", `${HASH}_a`],
  ["a hash that is too short", `${HASH.slice(1)}-a`],
  ["a hash that is too long", `0${HASH}-a`],
  ["a hash in upper case", `${HASH.toUpperCase()}-a`],
  ["a letter that Nix32 lacks", `e${HASH.slice(1)}-a`],
  ["the name .", `${HASH}-.`],
  ["the name ..", `${HASH}-..`],
  ["a name that begins with .-", `${HASH}-.-a`],
  ["a name that begins with ..-", `${HASH}-..-a`],
  ["a name of 212 characters", `${HASH}-${"x".repeat(212)}`],
  ["a slash", `${HASH}-a/b`],
  ["a space", `${HASH}-a b`],
  ["a newline", `${HASH}-a\n`],
  ["a NUL", `${HASH}-a\0`],
  ["a letter beyond ASCII", `${HASH}-ä`],
  ["nothing", ""],
] as const)("parseStorePathBaseName() and parseStorePath() reject %s", ([, baseName]) => {
  expect(() => parseStorePathBaseName(baseName)).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID" }));
  expect(() => parseStorePath(`/nix/store/${baseName}`)).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID" }));
});

test.for(["/gnu/store/", "nix/store/", "/nix/store//", "/nix/store/../store/", "", "/nix/store"] as const)(
  "parseStorePath() rejects a path in %s",
  (directory) => {
    expect(() => parseStorePath(`${directory}${HASH}-a`)).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID" }));
  },
);

test("parseStorePath() rejects what is below a store path", () => {
  expect(() => parseStorePath(`/nix/store/${HASH}-a/bin`)).toThrow(
    'Cannot read store path: found "a/bin", expected a name of letters, digits and +-._?=',
  );
});

test("toStorePath() rejects a digest of another length", () => {
  expect(() => toStorePath(new Uint8Array(32), "a")).toThrow("Cannot read store path: found a hash of 32 bytes, expected 20");
});

test("equalStorePaths() compares hash and name", () => {
  const path = parseStorePathBaseName(`${HASH}-a`);
  expect(equalStorePaths(path, parseStorePathBaseName(`${HASH}-a`))).toBe(true);
  expect(equalStorePaths(path, parseStorePathBaseName(`${HASH}-b`))).toBe(false);
});

test("sortStorePaths() goes by the text, which is not the order of the digests, and drops doubles", () => {
  const [low, high] = [`1${"0".repeat(31)}-a`, `${"0".repeat(31)}1-a`].map(parseStorePathBaseName) as [never, never];
  expect(sortStorePaths([low, high, low]).map(storePathBaseName)).toEqual([`${"0".repeat(31)}1-a`, `1${"0".repeat(31)}-a`]);
});

// `nix-store --add` of Nix 2.8.0 and the SHA-256 of `nix-store --dump`.
test.for([
  ["hello-b.txt", "1c37d01af40be2e80691de3cc3df44377a699afbb17c68f080964b2fd071fc13", "52rlw6hd14irdcsbl6gczjkivmfr948z"],
  ["fx-tree", "0d6e150348bc889ea442eb6bcda75a07b5fb661828ad418bbfc9337434ae1d0b", "vqv41z4bn29270bcyh9zrh1hv253bag8"],
] as const)("makeSourceStorePath() gives %s the path that nix-store --add gives it", ([name, narSha256, hashPart]) => {
  expect(formatStorePath(makeSourceStorePath(name, fromHex(narSha256) as Uint8Array))).toBe(`/nix/store/${hashPart}-${name}`);
});

test("makeSourceStorePath() rejects a name that is none", () => {
  expect(() => makeSourceStorePath("a b", new Uint8Array(32))).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID" }));
});
