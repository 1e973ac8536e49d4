/**
 * What `BlobService.readChunks` promises, where there is one.
 */
import { expect } from "vitest";
import type { FramedBytes } from "../../src/bytes/framed-bytes.ts";
import type { BlobService } from "../../src/castore/blob-service.ts";
import { SMALL_BLOB_LIMIT, toSmallBlob } from "../../src/castore/blob-service.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import { frameZstd } from "../../src/compression/zstd.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { cutBlob, MAX_CHUNK_LENGTH, MIN_CHUNK_LENGTH } from "../../src/hash/fastcdc.ts";
import { collectItems, expectBytes, sampleBytes, textBytes } from "../helpers/bytes.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import { sourceOf } from "../helpers/tracked-source.ts";
import type { ConformanceCase, Open } from "./conformance-case.ts";
import { registerCases } from "./conformance-case.ts";

/** A service that has it. */
export type ChunkService = BlobService & Required<Pick<BlobService, "readChunks">>;

const UNKNOWN = toB3Digest(blake3(Buffer.from("a blob that no one ever puts")));
const SIZES = [1, 1_000, MIN_CHUNK_LENGTH - 1, MIN_CHUNK_LENGTH, MIN_CHUNK_LENGTH + 1, MAX_CHUNK_LENGTH, 900_000, 3_000_000];
/** What compresses and what does not, and what no cut is found in. */
const CONTENTS = [...SIZES.flatMap((size) => [textBytes(size, size), sampleBytes(size, size)]), new Uint8Array(2 * MAX_CHUNK_LENGTH)];

export const CONTENT_CHUNKS_CASES: readonly ConformanceCase<ChunkService>[] = [
  {
    name: "readChunks() gives every blob as it is cut everywhere, with no frames but those that compressing its chunks makes",
    run: async (blobs) => {
      for (const bytes of CONTENTS) {
        if (bytes.length > SMALL_BLOB_LIMIT) await blobs.put(sourceOf(bytes));
        else await blobs.putMany([toSmallBlob(bytes)]);
        const blob = { digest: toB3Digest(blake3(bytes)), size: bytes.length };
        for (const level of [1, 3]) await expectChunks(await collectItems(blobs.readChunks(blob, level)), bytes, level);
      }
    },
  },
  {
    name: "readChunks() gives nothing of a blob without bytes",
    run: async (blobs) => {
      const empty = toSmallBlob(new Uint8Array(0));
      await blobs.putMany([empty]);
      expect(await collectItems(blobs.readChunks(empty, 1))).toEqual([]);
    },
  },
  {
    name: "readChunks() rejects with ERR_NOT_FOUND when a blob is not stored or is of another size",
    run: async (blobs) => {
      const digest = await blobs.put(sourceOf(sampleBytes(2_000_000)));
      for (const wrong of [{ digest: UNKNOWN, size: 5 }, { digest, size: 1_999_999 }, { digest, size: 0 }]) await expectCode(collectItems(blobs.readChunks(wrong, 1)), "ERR_NOT_FOUND");
    },
  },
  {
    name: "readChunks() rejects with the signal's reason",
    run: async (blobs) => {
      const digest = await blobs.put(sourceOf(sampleBytes(5_000_000)));
      const controller = new AbortController();
      const reason = new Error("the reader left");
      const reading = async (): Promise<void> => {
        for await (const _chunk of blobs.readChunks({ digest, size: 5_000_000 }, 1, { signal: controller.signal })) controller.abort(reason);
      };
      await expectReason(reading(), reason);
    },
  },
  {
    name: "readChunks() refuses with ERR_CLOSED after the service was closed",
    run: async (blobs, { close }) => {
      const digest = await blobs.put(sourceOf(sampleBytes(300_000)));
      await close();
      await expectCode(collectItems(blobs.readChunks({ digest, size: 300_000 }, 1)), "ERR_CLOSED");
    },
  },
];

/** Test that a service keeps the contract of `readChunks`. */
export function contentChunksConformance(open: Open<ChunkService>): void {
  registerCases(CONTENT_CHUNKS_CASES, open);
}

/** That these are a blob's chunks, and their frames those of that level. */
export async function expectChunks(chunks: readonly FramedBytes[], blob: Uint8Array, level: number): Promise<void> {
  const expected = [...cutBlob(blob)];
  expect(chunks.map(({ bytes }) => bytes.length)).toEqual(expected.map(({ length }) => length));
  for (const [index, { bytes, frame }] of chunks.entries()) {
    expectBytes(bytes, expected[index] as Uint8Array);
    if (frame !== undefined) expectBytes(frame, await frameZstd(bytes, level));
  }
}
