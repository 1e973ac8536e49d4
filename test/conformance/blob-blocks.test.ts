import { describe, expect, test } from "vitest";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import { collectItems, sampleBytes, textBytes } from "../helpers/bytes.ts";
import { openPacks, pick } from "../helpers/open-stores.ts";
import { within } from "../helpers/promises.ts";
import { sourceOf } from "../helpers/tracked-source.ts";
import type { BlockService } from "./blob-blocks.ts";
import { blobBlocksConformance } from "./blob-blocks.ts";
import type { Open } from "./conformance-case.ts";

describe.for([
  ["packs", openPacks()],
  ["packs without compression", openPacks({ compression: "none" })],
] as const)("BlobService.readBlocks: %s", ([, open]) => blobBlocksConformance(pick(open, "blobs") as Open<BlockService>));

test("readBlocks() of packs gives blocks as they were compressed", async () => {
  await using opened = await pick(openPacks(), "blobs")();
  const blobs = Array.from({ length: 100 }, (_, index) => toSmallBlob(textBytes(5_000, index)));
  await opened.service.putMany(blobs);
  const blocks = await collectItems((opened.service as BlockService).readBlocks(blobs));
  expect(blocks.map(({ codec }) => codec)).toEqual(["zstd"]);
  expect(blocks[0]?.bytes.length).toBeLessThan(250_000);
});

test("readBlocks() of packs goes on for others while hundreds do not take what they asked for", async () => {
  await using opened = await pick(openPacks({ compression: "none" }), "blobs")();
  const service = opened.service as BlockService;
  const large = sampleBytes(1_000_000);
  const digest = await service.put(sourceOf(large));
  const unread = Array.from({ length: 300 }, () => service.readBlocks([{ digest, size: large.length }])[Symbol.asyncIterator]());
  for (const reader of unread) await reader.next();
  const blocks = await within(collectItems(service.readBlocks([{ digest, size: undefined }])));
  expect(blocks.reduce((sum, { size }) => sum + size, 0)).toBe(large.length);
  for (const reader of unread) await reader.return?.();
});
