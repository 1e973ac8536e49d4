import fc from "fast-check";
import { expect, test } from "vitest";
import { formatContentAddress, makeContentAddressedPath, parseContentAddress } from "../../src/nix/content-address.ts";
import { parseStorePath, parseStorePathBaseName, storePathBaseName } from "../../src/nix/store-path.ts";
import { arbitraryContentAddress } from "./arbitrary-nix.ts";

// Path and content address by Nix 2.8.0: `nix-store --add-fixed [--recursive] <algorithm>` and `builtins.toFile`, then
// `nix path-info --json`.
const GOLDEN = [
  ["52rlw6hd14irdcsbl6gczjkivmfr948z-hello-b.txt", "fixed:r:sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw"],
  ["xl96cwiwf6xlwmyr32wir8cxzdiwbq3z-fx-tree", "fixed:r:sha1:r6jm389iajflj7z9va7sc2xxq8gmjrkz"],
  ["wz1g1j7vlafjfnc4bby8a2kq14n5k8lg-fx-tree", "fixed:r:md5:2xllihv43c6xlqa234ij47krgm"],
  [
    "qlfjxlxary4y2j8g1pm9frq7rnyd9jrd-fx-tree",
    "fixed:r:sha512:3sq292n786q3chc70a1ix6wmhkd5x2h84kdqlmq46fz1cfdpbwhcikbh5i51smqiii0xvnc37lbxjkw0cxcfs48p9aknxclq21w74li",
  ],
  ["vbgcxz9lfqrxfn94d4sqfa6f1a26zybf-hello-b.txt", "fixed:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq"],
  ["85hj696xh7j03xdi8laxrihxv8jpmcin-hello-b.txt", "fixed:sha1:iwjz551fyw0cxcjgf4l6c879zabd6wpm"],
  ["3nl8628wj5rlfnh4ld7jkxywcr4yp56z-hello-b.txt", "fixed:md5:4425hx5d1mc9y39llj4k4nm55i"],
  [
    "psnrmjw516jqi0grl6q35wcgjvhr0mlg-hello-b.txt",
    "fixed:sha512:0lrc0dwnvipqviibf7qfm1y492qvjwb1zhkcyi05cndmva1mr5gjcgrnz1x36djmk0sfg8djd2n0qv68vib2jg590mwznar9jcjphp7",
  ],
  ["xbw4gpmfwmi5x4j85rb8nl3czw1z55cd-world.txt", "text:sha256:05xk3q8897awg6ngssx7y69bxz709r4w9xq76rsn6k59zm4d4n72"],
] as const;

test.for(GOLDEN)("parseContentAddress() reads what Nix wrote for %s, and formatContentAddress() writes it", ([, text]) => {
  expect(formatContentAddress(parseContentAddress(text))).toBe(text);
});

test.for(GOLDEN)("makeContentAddressedPath() gives the path %s", ([baseName, text]) => {
  expect(storePathBaseName(makeContentAddressedPath(baseName.slice(33), parseContentAddress(text)))).toBe(baseName);
});

test("makeContentAddressedPath() counts the references of a text in, in any order", () => {
  const references = ["xbw4gpmfwmi5x4j85rb8nl3czw1z55cd-world.txt", "nrs09vbfps6cg6z0x1ki8abjx69gj0ih-again.txt"].map(parseStorePathBaseName);
  const ca = parseContentAddress("text:sha256:0ir490lcknfbaiwbilpkbl2wiiyng66pn57b2smi4169b1qcjjij");
  expect(storePathBaseName(makeContentAddressedPath("greeting.txt", ca, { references }))).toBe("vg7gi9dj667a95gjfqdras9nl2spr3w1-greeting.txt");
});

test("makeContentAddressedPath() tells a reference to itself from one to another path", () => {
  const ca = parseContentAddress(GOLDEN[0][1]);
  const references = [parseStorePath(`/nix/store/${GOLDEN[1][0]}`)];
  const paths = [{}, { references }, { selfReference: true }, { references, selfReference: true }].map((options) =>
    storePathBaseName(makeContentAddressedPath("a", ca, options)),
  );
  expect(new Set(paths).size).toBe(4);
});

test.for([
  ["a flat file", GOLDEN[4][1], { references: [parseStorePathBaseName(GOLDEN[0][0])] }],
  ["a NAR by SHA-1", GOLDEN[1][1], { references: [parseStorePathBaseName(GOLDEN[0][0])] }],
  ["a flat file that refers to itself", GOLDEN[4][1], { selfReference: true }],
  ["a text that refers to itself", GOLDEN[8][1], { selfReference: true }],
] as const)("makeContentAddressedPath() rejects references of %s", ([, text, options]) => {
  expect(() => makeContentAddressedPath("a", parseContentAddress(text), options)).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID" }));
});

test("parseContentAddress() gives back what was formatted", () => {
  fc.assert(
    fc.property(arbitraryContentAddress, (ca) => {
      expect(parseContentAddress(formatContentAddress(ca))).toEqual(ca);
    }),
  );
});

test("parseContentAddress() reads base16 and base64 too", () => {
  const nix32 = parseContentAddress("fixed:md5:4425hx5d1mc9y39llj4k4nm55i");
  expect(parseContentAddress("fixed:md5:b1946ac92492d2347c6235b4d2611184")).toEqual(nix32);
  expect(parseContentAddress("fixed:md5:sZRqySSS0jR8YjW00mERhA==")).toEqual(nix32);
});

test.for([
  ["nothing", ""],
  ["an unknown method", "recursive:sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw"],
  ["a hash alone", "sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw"],
  ["a text by another algorithm", "text:md5:4425hx5d1mc9y39llj4k4nm55i"],
  ["a recursive text", "text:r:sha256:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw"],
  ["an SRI hash", "fixed:sha256-HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM="],
  ["another algorithm's digest", "fixed:sha1:04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw"],
  ["no digest", "fixed:r:sha256"],
] as const)("parseContentAddress() rejects %s", ([, text]) => {
  expect(() => parseContentAddress(text)).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID" }));
});

test("parseContentAddress() says that Git tree hashes are not supported", () => {
  expect(() => parseContentAddress("fixed:git:sha1:iwjz551fyw0cxcjgf4l6c879zabd6wpm")).toThrow(
    'Cannot parse content address: found "fixed:git:sha1:iwjz551fyw0cxcjgf4l6c879zabd6wpm", paths addressed by a Git tree hash are an experiment of Nix that is not supported',
  );
});
