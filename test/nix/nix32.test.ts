import fc from "fast-check";
import { expect, test } from "vitest";
import { fromHex, toHex } from "../../src/bytes/text-encoding.ts";
import { decodeNix32, encodeNix32, nix32Length } from "../../src/nix/nix32.ts";

// `nix hash to-base32 --type <algorithm> <base16>` of Nix 2.8.0; the one of a single byte is from go-nix.
const GOLDEN = [
  ["", ""],
  ["1f", "0z"],
  ["0839703786356bca59b0f4a32987eb2e6de43ae8", "x0xf8v9fxf3jk8zln1cwlsrmhqvp0f88"],
  ["1c37d01af40be2e80691de3cc3df44377a699afbb17c68f080964b2fd071fc13", "04zwf782yjwnh3q6hz5izfd6jyip8kgw6g6yj43fiqhbyhdd0dqw"],
  ["b1946ac92492d2347c6235b4d2611184", "4425hx5d1mc9y39llj4k4nm55i"],
] as const;

test.for(GOLDEN)("encodeNix32() and decodeNix32() agree with Nix on %s", ([hex, nix32]) => {
  expect(encodeNix32(fromHex(hex) as Uint8Array)).toBe(nix32);
  expect(toHex(decodeNix32(nix32))).toBe(hex);
});

test("decodeNix32() gives back what encodeNix32() was given", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
      const text = encodeNix32(bytes);
      expect(text).toHaveLength(nix32Length(bytes.length));
      expect(decodeNix32(text)).toEqual(bytes);
    }),
  );
});

test("decodeNix32() has one text only for each byte string", () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[0-9abcdfghijklmnpqrsvwxyz]{0,60}$/), (text) => {
      let bytes: Uint8Array;
      try {
        bytes = decodeNix32(text);
      } catch {
        return;
      }
      expect(encodeNix32(bytes)).toBe(text);
    }),
  );
});

test.for([
  ["e", "a letter of base 32 that Nix32 lacks", "00e0", 'Cannot decode Nix32: found "e" at character 3'],
  ["upper case", "", "0A", 'Cannot decode Nix32: found "A" at character 2'],
  ["a character beyond ASCII", "", "0é", 'Cannot decode Nix32: found "é" at character 2'],
  ["one character", "", "0", "Cannot decode Nix32: found 1 characters, which no number of bytes takes"],
  ["six characters", "", "000000", "Cannot decode Nix32: found 6 characters, which no number of bytes takes"],
  ["spare bits", "", "8z", 'Cannot decode Nix32: found "8" at character 1, whose spare bits are not zero'],
] as const)("decodeNix32() rejects %s", ([, , text, message]) => {
  expect(() => decodeNix32(text)).toThrow(expect.objectContaining({ code: "ERR_NIX_INVALID", message }));
});
