import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { hash as blake3Wasm } from "blake3-wasm";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { copyBytes } from "../../src/bytes/collect.ts";
import { mapItems } from "../../src/concurrency/map-items.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { cutBlob, cutStream, isCutBefore, MAX_CHUNK_LENGTH, MIN_CHUNK_LENGTH } from "../../src/hash/fastcdc.ts";
import { arbitraryPieceSizes, cutInto } from "../arbitrary/nar-tree.ts";
import { chunked, collectItems, expectBytes, hexes, sampleBytes, withEmptyPieces } from "../helpers/bytes.ts";
import { reusingMemory } from "../helpers/tracked-source.ts";
import { CASTORE_VECTORS } from "../helpers/vectors.ts";

const BLOB_B = Uint8Array.from({ length: 255 * 4096 }, (_, index) => index % 255);
const INPUTS: Readonly<Record<string, () => Uint8Array>> = {
  BLOB_B: () => BLOB_B,
  "2 MiB of zero bytes": () => new Uint8Array(2 * 1024 * 1024),
  'BLAKE3 of the text "fastcdc-vector" extended (XOF) to 4 MiB': () => blake3Wasm("fastcdc-vector", { length: 4 * 1024 * 1024 }) as Uint8Array,
};

function lengths(chunks: Iterable<Uint8Array>): number[] {
  return Array.from(chunks, ({ length }) => length);
}

/** The chunks of a stream whose memory is used again, as theirs is. */
async function cutWhole(pieces: readonly Uint8Array[]): Promise<readonly Uint8Array[]> {
  return await collectItems(mapItems(cutStream(reusingMemory(pieces)), copyBytes));
}

test.for(CASTORE_VECTORS.fastcdc.cuts.map((cut) => [cut.input, cut.chunks] as const))("cutBlob() and cutStream() cut where others do: %s", async ([input, expected]) => {
  const bytes = INPUTS[input]?.() as Uint8Array;
  const chunks = [...cutBlob(bytes)];
  expect(lengths(chunks)).toEqual(expected.map(({ length }) => length));
  expect(hexes(chunks.map(blake3))).toEqual(expected.map((chunk) => chunk.blake3));
  const streamed = await cutWhole(chunked(bytes, 65_536));
  expect(hexes(streamed.map(blake3))).toEqual(expected.map((chunk) => chunk.blake3));
});

test.for([0, 1, MIN_CHUNK_LENGTH - 1, MIN_CHUNK_LENGTH, MIN_CHUNK_LENGTH + 1, MAX_CHUNK_LENGTH - 1, MAX_CHUNK_LENGTH, MAX_CHUNK_LENGTH + 1, 2 * MAX_CHUNK_LENGTH, 2 * MAX_CHUNK_LENGTH + 1])(
  "cutStream() cuts %s bytes as cutBlob() does, however they come",
  async (size) => {
    for (const bytes of [sampleBytes(size), new Uint8Array(size)]) {
      const whole = lengths(cutBlob(bytes));
      expect(whole.reduce((sum, length) => sum + length, 0)).toBe(size);
      for (const pieces of [[bytes], chunked(bytes, 4_097), withEmptyPieces(chunked(bytes, 400_000))]) {
        const streamed = await cutWhole(pieces);
        expect(lengths(streamed)).toEqual(whole);
        expectBytes(Buffer.concat(streamed), bytes);
      }
    }
  },
);

test("cutBlob() gives no chunk but the last below the minimum, and none above the maximum", () => {
  const chunks = lengths(cutBlob(sampleBytes(20_000_000)));
  expect(Math.min(...chunks.slice(0, -1))).toBeGreaterThanOrEqual(MIN_CHUNK_LENGTH);
  expect(Math.max(...chunks)).toBeLessThanOrEqual(MAX_CHUNK_LENGTH);
});

test("isCutBefore() says whether a blob that goes on behind a chunk is cut there", () => {
  let [yes, no] = [0, 0];
  // Of every length that two bytes at a time and two masks make a difference for; small alphabets have cuts next to each other.
  for (const [seed, size] of [[4, 3_000_000], [5, 131_072], [6, 131_073], [7, 131_074], [8, 262_144], [9, 262_145], [10, 524_287], [11, 400_001], [12, 524_289]] as const) {
    for (const bytes of [sampleBytes(size, seed), sampleBytes(size, seed).map((byte) => byte & 1), new Uint8Array(size)]) {
      const chunks = [...cutBlob(bytes)].filter(({ length }) => length >= MIN_CHUNK_LENGTH);
      for (const [index, chunk] of chunks.entries()) {
        const nexts = [...(chunks[index + 1]?.subarray(0, 1) ?? []), 0, 1, 77, 200];
        for (const next of nexts) {
          const joined = Buffer.concat([chunk, Buffer.of(next), sampleBytes(300_000, seed + index)]);
          const isCut = cutBlob(joined).next().value?.length === chunk.length;
          expect([size, index, next, isCutBefore(chunk, next)]).toEqual([size, index, next, isCut]);
          if (isCut) yes++;
          else no++;
        }
      }
    }
  }
  expect(Math.min(yes, no)).toBeGreaterThan(50);
});

test("isCutBefore() looks before the average length with the mask that is used there", () => {
  // Two bytes before it the rolling hash has no bit of the mask that is used behind it; at it, it has none. In zeros, there is no cut.
  const corner = Buffer.from(
    "c5eeedfb7324b616ddb4e32b47c9354bda84f031f9837e5ef01b28383b40d09f7d209f41e2a5b846dbd64c8cbb67cd1e0049b82aa9913c2e9c9bc191147944c794c89f2a3ebb295871903fc841e0bae02a16c8a9e082b07c28238531cb5ec5a66ec324566b72206d2649f61b8ac8a72893f354f93bb928cf5292560df5a15869",
    "hex",
  );
  const bytes = Buffer.alloc(600_000);
  corner.copy(bytes, 262_146 - corner.length);
  expect(cutBlob(bytes).next().value?.length).toBe(262_144);
  expect(isCutBefore(bytes.subarray(0, 262_144), bytes[262_144] as number)).toBe(true);
});

test("isCutBefore() is not so behind what is longer than any chunk, or shorter", () => {
  for (const size of [0, 1, MIN_CHUNK_LENGTH - 1, MAX_CHUNK_LENGTH + 1, 2 * MAX_CHUNK_LENGTH]) expect(isCutBefore(sampleBytes(size), 0)).toBe(false);
});

test("cutStream() agrees with cutBlob() in any cut", async () => {
  const bytes = sampleBytes(3_000_000, 4);
  const whole = lengths(cutBlob(bytes));
  const sizes = arbitraryPieceSizes.filter((list) => list.some((size) => size > 500));
  await fc.assert(
    fc.asyncProperty(sizes, async (list) => {
      expect(lengths(await cutWhole(cutInto(bytes, list)))).toEqual(whole);
    }),
    { numRuns: 20 },
  );
});

test("what cuts is what fastcdc.wat compiles to", () => {
  expect(readFileSync("src/hash/fastcdc-wasm.ts", "utf8")).toBe(execFileSync(process.execPath, ["scripts/compile-wat.mjs"], { encoding: "utf8" }));
});
