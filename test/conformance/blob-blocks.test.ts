import { describe, expect, test } from "vitest";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import { collectItems, sampleBytes, textBytes } from "../helpers/bytes.ts";
import { openPacks, pick } from "../helpers/open-stores.ts";
import { eventually } from "../helpers/promises.ts";
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

test("readBlocks() of packs holds 64 MiB for all who do not take what they asked for; the others wait", async () => {
  await using opened = await pick(openPacks(), "blobs")();
  const blob = toSmallBlob(sampleBytes(130_000));
  await opened.service.putMany([blob]);
  const readers = Array.from({ length: 800 }, () => (opened.service as BlockService).readBlocks([blob])[Symbol.asyncIterator]());
  let given = 0;
  const reading = readers.map(async (reader) => {
    const result = await reader.next();
    given++;
    return result.done;
  });
  await eventually(() => given > 400);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(given * blob.size).toBeLessThanOrEqual(64 * 1024 * 1024);
  // One that leaves makes room for another.
  await Promise.all(readers.map(async (reader, index) => {
    await reading[index];
    await reader.return?.();
  }));
  expect(given).toBe(800);
});
