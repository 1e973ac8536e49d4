import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { BlobSegment, Segment } from "../../src/castore/recipe.ts";
import { RecipeWriter, readRecipe } from "../../src/castore/recipe.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import { expectBytes, sampleBytes } from "../helpers/bytes.ts";

const DIGEST = toB3Digest(blake3(Buffer.from("a blob")));

/** Bytes with runs of zeros of any length in them. */
const arbitraryBytes = fc
  .array(fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.nat({ max: 2000 }).map((length) => new Uint8Array(length))), { maxLength: 8 })
  .map((parts) => Buffer.concat(parts));
const arbitraryBlob: fc.Arbitrary<BlobSegment> = fc.nat({ max: 2 ** 40 }).chain((size) =>
  fc.tuple(fc.nat({ max: size }), fc.nat({ max: size }), fc.boolean()).map(([a, b, whole]) => ({ digest: DIGEST, size, ...(!whole && { start: Math.min(a, b), end: Math.max(a, b) }) })),
);
const arbitraryPieces = fc.array(fc.oneof(arbitraryBytes, arbitraryBlob), { maxLength: 12 });

function recipeOf(pieces: readonly Segment[], cut = Infinity): { readonly recipe: Uint8Array; readonly size: number } {
  const writer = new RecipeWriter(1e9);
  let size = 0;
  for (const piece of pieces) {
    if (piece instanceof Uint8Array) {
      for (let start = 0; start < piece.length; start += cut) writer.addBytes(piece.subarray(start, start + cut));
      size += piece.length;
    } else {
      writer.addBlob(piece);
      size += (piece.end ?? piece.size) - (piece.start ?? 0);
    }
  }
  return { recipe: writer.finish(), size };
}

/** Bytes joined, blobs as texts: what two sequences of pieces that make the same have in common. */
function normalized(pieces: Iterable<Segment>): string[] {
  const result: string[] = [];
  let bytes: Uint8Array[] = [];
  const flush = (): void => {
    const joined = Buffer.concat(bytes).toString("hex");
    if (joined !== "") result.push(joined);
    bytes = [];
  };
  for (const piece of pieces) {
    if (piece instanceof Uint8Array) {
      bytes.push(Uint8Array.from(piece));
      continue;
    }
    const { size, start = 0, end = size } = piece;
    if (start === end) continue;
    flush();
    result.push(`${start}-${end} of ${size}`);
  }
  flush();
  return result;
}

describe("readRecipe()", () => {
  test("gives the pieces that were written", () => {
    fc.assert(
      fc.property(arbitraryPieces, (pieces) => {
        const { recipe, size } = recipeOf(pieces);
        expect(normalized(readRecipe(recipe, size))).toEqual(normalized(pieces));
      }),
    );
  });

  test("refuses a recipe that is cut off anywhere, or makes more or less than it should", () => {
    const { recipe, size } = recipeOf([sampleBytes(300), { digest: DIGEST, size: 5000 }, new Uint8Array(100), { digest: DIGEST, size: 5000, start: 10, end: 300 }]);
    for (let length = 0; length < recipe.length; length++) expect(() => [...readRecipe(recipe.subarray(0, length), size)]).toThrow("Cannot read a recipe");
    for (const wrong of [size - 1, size + 1]) expect(() => [...readRecipe(recipe, wrong)]).toThrow("Cannot read a recipe: it makes");
  });

  test("throws nothing but ERR_DATA_LOSS for bytes that are no recipe, and gives no more than it should", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        let made = 0;
        try {
          for (const piece of readRecipe(Buffer.concat([Buffer.from("narbor-recipe-1\n"), bytes]), 10_000)) {
            made += piece instanceof Uint8Array ? piece.length : (piece.end ?? piece.size) - (piece.start ?? 0);
          }
        } catch (error) {
          expect(error).toMatchObject({ code: "ERR_DATA_LOSS" });
        }
        expect(made).toBeLessThanOrEqual(10_000);
      }),
      { numRuns: 2000 },
    );
  });
});

describe("RecipeWriter", () => {
  test("writes the same recipe in whatever pieces the bytes come", () => {
    fc.assert(
      fc.property(arbitraryPieces, fc.integer({ min: 1, max: 100 }), (pieces, cut) => {
        expectBytes(recipeOf(pieces, cut).recipe, recipeOf(pieces).recipe);
      }),
    );
  });

  test("takes four bytes for 64 KiB of zeros, and little for the headers of small files", () => {
    expect(recipeOf([new Uint8Array(640 * 1024)]).recipe.length).toBeLessThan(60);
    const header = Buffer.concat([Buffer.from("usr/share/doc/hello/README"), Buffer.alloc(74), Buffer.from("0000644\u00000000000\u00000000000\u000000000001750\u000014000000000\u0000011415\u0000 0"), Buffer.alloc(100), Buffer.from("ustar\u000000"), Buffer.alloc(247)]);
    expect(header.length).toBe(512);
    expect(recipeOf([header]).recipe.length).toBeLessThan(150);
  });

  test("refuses more than its limit", () => {
    const writer = new RecipeWriter(100_000);
    expect(() => {
      for (let index = 0; index < 10; index++) writer.addBytes(sampleBytes(60_000, index));
      writer.finish();
    }).toThrow("takes more than 100000 bytes");
  });
});
