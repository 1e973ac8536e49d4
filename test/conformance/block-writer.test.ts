import { describe, expect, test } from "vitest";
import type { PacksStore } from "../../src/backends/packs/packs-store.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import type { WrittenBlock } from "../../src/castore/block-writer.ts";
import { collectItems, sampleBytes, textBytes } from "../helpers/bytes.ts";
import { openPacks, pick } from "../helpers/open-stores.ts";
import { streamOf } from "../helpers/tracked-source.ts";
import type { BlockService } from "./blob-blocks.ts";
import type { WriterService } from "./block-writer.ts";
import { blockOf, blockWriterConformance } from "./block-writer.ts";
import type { Open } from "./conformance-case.ts";

describe.for([
  ["packs", openPacks()],
  ["packs without compression", openPacks({ compression: "none" })],
] as const)("BlobService.blockWriter: %s", ([, open]) => blockWriterConformance(pick(open, "blobs") as Open<WriterService>));

test("packs that hold a blob in two cuts are whole", async () => {
  await using opened = await openPacks()();
  const packs = opened.service as PacksStore;
  const pieces = [sampleBytes(131_072, 1), sampleBytes(131_072, 2), sampleBytes(131_072, 3)].map((bytes) => toSmallBlob(bytes));
  const [first, second, third] = pieces.map((piece) => blockOf([piece])) as [WrittenBlock, WrittenBlock, WrittenBlock];
  const whole = toSmallBlob(Buffer.concat(pieces.map(({ bytes }) => bytes)));
  const rest = blockOf([toSmallBlob(whole.bytes.subarray(131_072))]);
  await packs.blobs.blockWriter.write(
    streamOf<WrittenBlock>([
      { ...first, piece: "more" },
      { ...second, piece: "more" },
      { ...third, piece: whole.digest },
      { ...first, piece: "more" },
      { ...rest, piece: whole.digest },
    ]),
  );
  expect((await collectItems(packs.check())).filter(({ type }) => type !== "progress")).toEqual([]);
});

test("packs store a block as it came, and give it as it came", async () => {
  await using opened = await openPacks({ compression: 19 })();
  const service = opened.service.blobs as WriterService & BlockService;
  const blobs = Array.from({ length: 50 }, (_, index) => toSmallBlob(textBytes(5_000, index)));
  const block = blockOf(blobs);
  await service.blockWriter.write(streamOf([block]));
  expect((await collectItems(service.readBlocks(blobs))).map(({ bytes }) => Buffer.from(bytes))).toEqual([Buffer.from(block.content?.bytes ?? [])]);
  const reopened = (await opened.reopen?.())?.blobs as BlockService;
  expect((await collectItems(reopened.readBlocks(blobs))).map(({ bytes }) => Buffer.from(bytes))).toEqual([Buffer.from(block.content?.bytes ?? [])]);
});
