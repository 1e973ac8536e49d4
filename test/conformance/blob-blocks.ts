/**
 * What `BlobService.readBlocks` promises, where there is one.
 */
import { expect } from "vitest";
import type { BlobBlock, WantedBlob } from "../../src/castore/blob-block.ts";
import { MAX_BLOCK_BYTES } from "../../src/castore/blob-block.ts";
import type { BlobService, SmallBlob } from "../../src/castore/blob-service.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import { decompressZstdSync } from "../../src/compression/zstd.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { collectItems, expectBytes, sampleBytes, textBytes } from "../helpers/bytes.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import { sourceOf } from "../helpers/tracked-source.ts";
import type { ConformanceCase, Open } from "./conformance-case.ts";
import { registerCases } from "./conformance-case.ts";

/** A service that has it. */
export type BlockService = BlobService & Required<Pick<BlobService, "readBlocks">>;

const UNKNOWN = toB3Digest(blake3(Buffer.from("a blob that no one ever puts")));
const SMALL: readonly SmallBlob[] = Array.from({ length: 60 }, (_, index) => toSmallBlob(textBytes(100 + index * 97, index)));
/** Whole in a block, cut in several, and what no one can compress. */
const LARGER: readonly SmallBlob[] = [toSmallBlob(textBytes(200_000, 1)), toSmallBlob(textBytes(900_000, 2)), toSmallBlob(sampleBytes(300_000, 3))];
const EMPTY = toSmallBlob(new Uint8Array(0));

export const BLOB_BLOCKS_CASES: readonly ConformanceCase<BlockService>[] = [
  {
    name: "readBlocks() gives every blob whole, many of them in a block",
    run: async (blobs) => {
      const all = [...SMALL.slice(0, 30), ...LARGER, EMPTY, ...SMALL.slice(30)];
      await blobs.putMany(all);
      const blocks = await collectItems(blobs.readBlocks(all));
      expectContents(blocks, all);
      expect(blocks.length).toBeLessThan(20);
    },
  },
  {
    name: "readBlocks() gives what is asked for in any order and of any selection, and never more bytes than that has",
    run: async (blobs) => {
      const all = [...SMALL, ...LARGER];
      await blobs.putMany(all);
      for (const selection of [all.toReversed(), all.filter((_, index) => index % 7 === 3), SMALL.slice(5, 6), [...LARGER.slice(1), ...SMALL.slice(0, 3)]]) {
        const blocks = await collectItems(blobs.readBlocks(selection));
        expectContents(blocks, selection);
        expect(blocks.reduce((sum, { bytes }) => sum + bytes.length, 0)).toBeLessThanOrEqual(selection.reduce((sum, { size }) => sum + size, 0));
      }
    },
  },
  {
    name: "readBlocks() gives a blob of any size, which need not be known, with its pieces in order",
    run: async (blobs) => {
      for (const size of [0, 1, 5_000, 131_072, 3_000_000]) {
        const bytes = sampleBytes(size, 8);
        const digest = await blobs.put(sourceOf(bytes));
        const blocks = await collectItems(blobs.readBlocks([{ digest, size: undefined }]));
        expectContents(blocks, [toSmallBlob(bytes)]);
      }
    },
  },
  {
    name: "readBlocks() rejects with ERR_NOT_FOUND when a blob is not stored or is of another size",
    run: async (blobs) => {
      await blobs.putMany([...SMALL, ...LARGER]);
      for (const wrong of [{ digest: UNKNOWN, size: 5 }, { digest: UNKNOWN, size: undefined }, ...[SMALL[0], LARGER[1]].map((blob) => ({ digest: (blob as SmallBlob).digest, size: 7 }))]) {
        await expectCode(collectItems(blobs.readBlocks([...SMALL.slice(1, 9), wrong])), "ERR_NOT_FOUND");
      }
    },
  },
  {
    name: "readBlocks() rejects with the signal's reason",
    run: async (blobs) => {
      const digest = await blobs.put(sourceOf(sampleBytes(5_000_000)));
      const controller = new AbortController();
      const reason = new Error("the reader left");
      const reading = async (): Promise<void> => {
        for await (const _block of blobs.readBlocks([{ digest, size: undefined }], { signal: controller.signal })) controller.abort(reason);
      };
      await expectReason(reading(), reason);
    },
  },
  {
    name: "readBlocks() refuses with ERR_CLOSED after the service was closed",
    run: async (blobs, { close }) => {
      await close();
      await expectCode(collectItems(blobs.readBlocks(SMALL)), "ERR_CLOSED");
    },
  },
];

/** Test that a service keeps the contract of `readBlocks`. */
export function blobBlocksConformance(open: Open<BlockService>): void {
  registerCases(BLOB_BLOCKS_CASES, open);
}

/** That the blocks have these blobs, and each once. */
function expectContents(blocks: readonly BlobBlock[], blobs: readonly (WantedBlob & { readonly bytes: Uint8Array })[]): void {
  const found = blobs.map((): Uint8Array[] => []);
  for (const { codec, bytes, size, parts } of blocks) {
    expect(size).toBeLessThanOrEqual(MAX_BLOCK_BYTES);
    expect(parts).not.toEqual([]);
    const content = codec === "zstd" ? decompressZstdSync(bytes, size) : bytes;
    expect(content.length).toBe(size);
    for (const { blob, blobOffset, offset, length } of parts) {
      const pieces = found[blob] as Uint8Array[];
      expect(blobOffset).toBe(pieces.reduce((sum, piece) => sum + piece.length, 0));
      pieces.push(content.subarray(offset, offset + length));
    }
  }
  for (const [index, { bytes }] of blobs.entries()) {
    expect(found[index]?.length).toBeGreaterThan(0);
    expectBytes(Buffer.concat(found[index] as Uint8Array[]), bytes);
  }
}
