import { describe, expect, test } from "vitest";
import { escapeBytes, unescapeBytes } from "../../src/bytes/text-encoding.ts";
import { expectBytes } from "../helpers/bytes.ts";

describe("escapeBytes()", () => {
  test.for([
    ["plain", "plain"],
    ["", ""],
    ["caf\u00e9 \u{1f600} \ufffd", "caf\u00e9 \u{1f600} \ufffd"],
    [Buffer.from("caf\xe9", "latin1"), "caf\\xe9"],
    [Buffer.from("\xff\xfe", "latin1"), "\\xff\\xfe"],
    // Half a character, an overlong one, a surrogate, and one beyond the last.
    [Buffer.from("e282", "hex"), "\\xe2\\x82"],
    [Buffer.from("c0af", "hex"), "\\xc0\\xaf"],
    [Buffer.from("eda080", "hex"), "\\xed\\xa0\\x80"],
    [Buffer.from("f4908080", "hex"), "\\xf4\\x90\\x80\\x80"],
    ["dev-disk\\x2dby", "dev-disk\\x2dby"],
    ["caf\\xe9", "caf\\x5cxe9"],
    ["\\x5c", "\\x5cx5c"],
    // As a terminal is shown a line's end: it is read back as one.
    ["a\\x0ab", "a\\x5cx0ab"],
    ["a\nb", "a\nb"],
  ] as const)("writes %j as %j, and unescapeBytes() reads it back", ([name, text]) => {
    const bytes = Buffer.from(name as string);
    expect(escapeBytes(bytes)).toBe(text);
    expectBytes(unescapeBytes(text), bytes);
  });

  test("unescapeBytes() reads control characters that are written as bytes are", () => {
    expectBytes(unescapeBytes("a\\x0ab\\x7f\\xc2\\x85"), Buffer.from("a\nb\u007f\u0085"));
  });

  test("writes no two names alike", () => {
    const parts = ["\\", "x", "5c", "0a", "e9", Buffer.of(0xe9), Buffer.of(0x5c), "\u00e9"].map((part) => Buffer.from(part as string));
    const names = new Map<string, Buffer>();
    for (const a of parts) for (const b of parts) for (const c of parts) for (const d of parts) {
      const name = Buffer.concat([a, b, c, d]);
      names.set(name.toString("hex"), name);
      expectBytes(unescapeBytes(escapeBytes(name)), name);
    }
    expect(new Set([...names.values()].map(escapeBytes)).size).toBe(names.size);
  });
});
