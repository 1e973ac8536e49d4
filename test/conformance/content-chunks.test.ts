import { readFile, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { PacksStore } from "../../src/backends/packs/packs-store.ts";
import type { BlobRef, BlobService } from "../../src/castore/blob-service.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import type { WrittenBlock } from "../../src/castore/block-writer.ts";
import { cutBlob, MIN_CHUNK_LENGTH } from "../../src/hash/fastcdc.ts";
import { collectItems, sampleBytes, textBytes } from "../helpers/bytes.ts";
import { openPacks, pick } from "../helpers/open-stores.ts";
import { onlyPack, withStore } from "../helpers/pack-stores.ts";
import { expectCode } from "../helpers/promises.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { sourceOf, streamOf } from "../helpers/tracked-source.ts";
import type { Open } from "./conformance-case.ts";
import type { ChunkService } from "./content-chunks.ts";
import { contentChunksConformance, expectChunks } from "./content-chunks.ts";

describe.for([
  ["packs", openPacks()],
  ["packs of level 3", openPacks({ compression: 3 })],
  ["packs without compression", openPacks({ compression: "none" })],
] as const)("BlobService.readChunks: %s", ([, open]) => contentChunksConformance(pick(open, "blobs") as Open<ChunkService>));

/** Of several chunks, the last of 128 KiB and more. */
const CUT = textBytes(1_200_000, 9);
const CUT_BLOB = toSmallBlob(CUT);

/** Whether each of a blob's chunks came with its frame. */
async function frames(blobs: BlobService, blob: BlobRef, level: number): Promise<readonly boolean[]> {
  const chunks = await collectItems((blobs as ChunkService).readChunks(blob, level));
  return chunks.map(({ frame }) => frame !== undefined);
}

test.for([1, 3, 19] as const)("readChunks() of packs of level %d gives the frames that were stored, at this level and no other", async (level) => {
  await using opened = await pick(openPacks({ compression: level }), "blobs")();
  for (const bytes of [CUT, sampleBytes(1_200_000, 9)]) {
    const digest = await opened.service.put(sourceOf(bytes));
    const blob = { digest, size: bytes.length };
    const chunks = [...cutBlob(bytes)];
    expect(await frames(opened.service, blob, level)).toEqual(chunks.map(({ length }) => length >= MIN_CHUNK_LENGTH));
    expect(await frames(opened.service, blob, 2)).toEqual(chunks.map(() => false));
  }
});

/** A blob in pieces that someone else has cut. */
function blockOf(bytes: Uint8Array, piece?: WrittenBlock["piece"]): WrittenBlock {
  const blob = toSmallBlob(bytes);
  return { chunks: [{ digest: blob.digest, length: blob.size }], content: { codec: "stored", bytes, size: bytes.length }, piece };
}

test("readChunks() of packs cuts anew what a client has cut in other places", async () => {
  await using opened = await pick(openPacks(), "blobs")();
  const blobs = opened.service as ChunkService;
  const pieces = [CUT.subarray(0, 200_000), CUT.subarray(200_000, 900_000), CUT.subarray(900_000)];
  await blobs.blockWriter?.write(streamOf(pieces.map((bytes, index) => blockOf(bytes, index === 2 ? CUT_BLOB.digest : "more"))));
  const chunks = await collectItems(blobs.readChunks(CUT_BLOB, 1));
  await expectChunks(chunks, CUT, 1);
  expect(chunks.some(({ frame }) => frame !== undefined)).toBe(false);
});

test("readChunks() of packs cuts anew a blob that a client has put together from chunks of others", async () => {
  await using opened = await pick(openPacks(), "blobs")();
  const blobs = opened.service as ChunkService;
  // Two blobs of a chunk each, which ends where they do; joined, they are cut elsewhere.
  const parts = [textBytes(140_000, 21), textBytes(150_000, 22)].map((bytes) => toSmallBlob(bytes));
  for (const part of parts) expect([...cutBlob(part.bytes)]).toHaveLength(1);
  const joined = toSmallBlob(Buffer.concat(parts.map(({ bytes }) => bytes)));
  await blobs.putMany(parts);
  for (const part of parts) expect(await frames(blobs, part, 1)).toEqual([true]);
  await blobs.blockWriter?.write(streamOf(parts.map(({ digest, size }, index): WrittenBlock => ({ chunks: [{ digest, length: size }], piece: index === 1 ? joined.digest : "more" }))));
  const chunks = await collectItems(blobs.readChunks(joined, 1));
  await expectChunks(chunks, joined.bytes, 1);
  expect(chunks.length).toBeLessThan(3);
});

test("readChunks() of packs takes no header's word that is not as it was written", async () => {
  await using temporary = await temporaryDirectory();
  await withStore(temporary.path, async (store) => void (await store.blobs.put(sourceOf(textBytes(140_000, 21)))), {});
  const blob = toSmallBlob(textBytes(140_000, 21));
  const pack = await onlyPack(temporary.path);
  const good = await readFile(pack);
  for (const offset of [6, 7]) {
    const bytes = Buffer.from(good);
    const at = bytes.indexOf("NBLK") + offset;
    bytes[at] = (bytes[at] as number) ^ 2;
    await writeFile(pack, bytes);
    await using store = await PacksStore.open(temporary.path);
    await expectCode(frames(store.blobs, blob, 1), "ERR_DATA_LOSS");
  }
});
