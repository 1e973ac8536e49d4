import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";

import { compressGzipSync } from "../../src/compression/gzip-encoder.ts";
import { looksRandom } from "../../src/compression/random-bytes.ts";
import { expectBytes, sampleBytes, textBytes } from "../helpers/bytes.ts";

const SPAN = 64 * 1024;

describe("compressGzipSync()", () => {
  test.for([0, 1, SPAN - 1, SPAN, SPAN + 1, 5 * SPAN + 77])("gives back %d bytes, random or not, at the lowest and the highest level", (length) => {
    for (const bytes of [sampleBytes(length, 1), textBytes(length), new Uint8Array(length)]) {
      for (const level of [1, 9]) expectBytes(gunzipSync(compressGzipSync(bytes, level)), bytes);
    }
  });

  test("stores what looks random, and compresses what lies between", () => {
    const random = sampleBytes(4 * SPAN, 1);
    const text = textBytes(4 * SPAN);
    const alone = compressGzipSync(text, 6).length;
    expect(alone).toBeLessThan(text.length / 2);
    expect(compressGzipSync(random, 6).length).toBeGreaterThan(random.length);
    const mixed = Buffer.concat([random, text, random, text]);
    const compressed = compressGzipSync(mixed, 6);
    expectBytes(gunzipSync(compressed), mixed);
    expect(compressed.length).toBeLessThan(2 * random.length + 2 * alone + 1024);
  });

  test("gives the same bytes each time", () => {
    const bytes = Buffer.concat([textBytes(100_000), sampleBytes(200_000, 1)]);
    expectBytes(compressGzipSync(bytes, 6), compressGzipSync(bytes, 6));
  });
});

describe("looksRandom()", () => {
  test.for([1, 2, 3, 4, 5, 6, 7, 8])("says yes of random bytes (%d)", (seed) => {
    expect(looksRandom(sampleBytes(SPAN, seed))).toBe(true);
    expect(looksRandom(sampleBytes(4096, seed))).toBe(true);
  });

  test("says no of text, of zeros, where some values are frequent, and of so few bytes that it cannot know", () => {
    expect(looksRandom(textBytes(SPAN))).toBe(false);
    expect(looksRandom(new Uint8Array(SPAN))).toBe(false);
    // As in machine code: each third byte has one of 16 values.
    expect(looksRandom(sampleBytes(SPAN, 3).map((byte, index) => (index % 3 === 0 ? byte % 16 : byte)))).toBe(false);
    expect(looksRandom(sampleBytes(4095, 1))).toBe(false);
  });
});
