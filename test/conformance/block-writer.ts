/**
 * What `BlobService.blockWriter` promises, where there is one.
 */
import { expect } from "vitest";
import type { BlobService, SmallBlob } from "../../src/castore/blob-service.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import type { BlockContent, WrittenBlock } from "../../src/castore/block-writer.ts";
import { compressZstdSync } from "../../src/compression/zstd.ts";
import { collectItems, expectBytes, sampleBytes, textBytes } from "../helpers/bytes.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import { sourceOf, streamOf, TrackedSource } from "../helpers/tracked-source.ts";
import type { ConformanceCase, Open } from "./conformance-case.ts";
import { registerCases } from "./conformance-case.ts";

/** A service that has it. */
export type WriterService = BlobService & Required<Pick<BlobService, "blockWriter">>;

const SMALL: readonly SmallBlob[] = Array.from({ length: 60 }, (_, index) => toSmallBlob(textBytes(100 + index * 97, index)));
const EMPTY = toSmallBlob(new Uint8Array(0));
/** Of 128 KiB and more, the last less. */
const PIECES: readonly SmallBlob[] = [toSmallBlob(sampleBytes(131_072, 1)), toSmallBlob(textBytes(400_000, 2)), toSmallBlob(sampleBytes(10, 3))];
const CUT = toSmallBlob(Buffer.concat(PIECES.map(({ bytes }) => bytes)));

export const BLOCK_WRITER_CASES: readonly ConformanceCase<WriterService>[] = [
  {
    name: "write() stores what is in blocks, compressed and not, and again what is there already",
    run: async (blobs) => {
      const blocks = [blockOf(SMALL.slice(0, 30)), stored(blockOf(SMALL.slice(30))), blockOf([EMPTY])];
      await blobs.blockWriter.write(streamOf(blocks));
      await blobs.blockWriter.write(streamOf([...blocks, blockOf(SMALL.slice(20, 40))]));
      await expectStored(blobs, [...SMALL, EMPTY]);
    },
  },
  {
    name: "write() stores a block of which some is there, or is there twice",
    run: async (blobs) => {
      await blobs.putMany(SMALL.slice(10, 20));
      await blobs.blockWriter.write(streamOf([blockOf([...SMALL, ...SMALL.slice(40)])]));
      await expectStored(blobs, SMALL);
    },
  },
  {
    name: "write() does not make blobs of what stands between two in an archive",
    run: async (blobs) => {
      const framing = toSmallBlob(Buffer.from("what stands between"));
      const block = blockOf([...SMALL.slice(0, 2), framing, ...SMALL.slice(2, 4)]);
      const chunks = block.chunks.map((chunk, index) => (index === 2 ? { ...chunk, isFraming: true } : chunk));
      await blobs.blockWriter.write(streamOf([{ ...block, chunks }]));
      await expectStored(blobs, SMALL.slice(0, 4));
      expect(await blobs.findMissing([framing.digest])).toEqual([framing.digest]);
    },
  },
  {
    name: "write() joins the pieces of blobs that were cut, also those that are there already",
    run: async (blobs) => {
      const [first, second, third] = PIECES.map((piece) => blockOf([piece])) as [WrittenBlock, WrittenBlock, WrittenBlock];
      await blobs.blockWriter.write(streamOf([blockOf(SMALL), { ...first, piece: "more" }, { ...second, piece: "more" }, { ...third, piece: CUT.digest }]));
      await expectStored(blobs, [...SMALL, CUT]);
      const turned = toSmallBlob(Buffer.concat([...PIECES].slice(0, 2).toReversed().map(({ bytes }) => bytes)));
      await blobs.blockWriter.write(
        streamOf([
          { chunks: second.chunks, piece: "more" },
          { chunks: first.chunks, piece: turned.digest },
          { ...first, piece: (PIECES[0] as SmallBlob).digest },
        ]),
      );
      await expectStored(blobs, [turned, CUT, ...PIECES]);
    },
  },
  {
    name: "write() joins pieces of which one is there as a blob that was cut itself, and takes a blob that is cut in another way",
    run: async (blobs) => {
      const [first, , third] = PIECES.map((piece) => blockOf([piece])) as [WrittenBlock, WrittenBlock, WrittenBlock];
      const inner = toSmallBlob(Buffer.concat([PIECES[0] as SmallBlob, PIECES[2] as SmallBlob].map(({ bytes }) => bytes)));
      const whole = toSmallBlob(Buffer.concat([inner.bytes, inner.bytes]));
      await blobs.blockWriter.write(streamOf([{ ...first, piece: "more" }, { ...third, piece: inner.digest }]));
      const known: WrittenBlock = { chunks: [{ digest: inner.digest, length: inner.size }], piece: "more" };
      await blobs.blockWriter.write(streamOf([known, { ...known, piece: whole.digest }, blockOf([PIECES[2] as SmallBlob])]));
      await blobs.blockWriter.write(streamOf([{ ...first, piece: "more" }, { ...blockOf([toSmallBlob(whole.bytes.subarray(131_072))]), piece: whole.digest }]));
      await expectStored(blobs, [inner, whole]);
    },
  },
  {
    name: "write() rejects what is not what its digest says, and stores nothing of that block",
    run: async (blobs) => {
      const wrong = { digest: (SMALL[3] as SmallBlob).digest, length: (SMALL[2] as SmallBlob).size };
      const block = blockOf(SMALL.slice(0, 3));
      await expectCode(blobs.blockWriter.write(streamOf([{ ...block, chunks: [...block.chunks.slice(0, 2), wrong] }])), "ERR_MISMATCH");
      const digests = SMALL.slice(0, 4).map(({ digest }) => digest);
      expect(await blobs.findMissing(digests)).toEqual(digests);
    },
  },
  {
    name: "write() rejects pieces that are not the blob, and makes no blob of them",
    run: async (blobs) => {
      const blocks = PIECES.map((piece) => blockOf([piece]));
      const written = (digests: readonly ("more" | SmallBlob["digest"])[]): AsyncIterable<WrittenBlock> =>
        streamOf(digests.map((piece, index) => ({ ...(blocks[index] as WrittenBlock), piece })));
      await expectCode(blobs.blockWriter.write(written(["more", CUT.digest])), "ERR_MISMATCH");
      await expectCode(blobs.blockWriter.write(written(["more", "more"])), "ERR_INVALID");
      await expectCode(blobs.blockWriter.write(streamOf([{ ...(blocks[0] as WrittenBlock), piece: "more" }, blockOf(SMALL)])), "ERR_INVALID");
      await expectCode(blobs.blockWriter.write(streamOf([{ ...(blocks[2] as WrittenBlock), piece: "more" }, { ...(blocks[0] as WrittenBlock), piece: CUT.digest }])), "ERR_INVALID");
      await expectCode(blobs.blockWriter.write(streamOf([{ chunks: [{ digest: CUT.digest, length: CUT.size }], piece: CUT.digest }])), "ERR_NOT_FOUND");
      expect(await blobs.findMissing([CUT.digest])).toEqual([CUT.digest]);
    },
  },
  {
    name: "write() rejects a frame that is damaged, cut short, of another size or does not tell it",
    run: async (blobs) => {
      const block = blockOf(SMALL);
      const { bytes, size } = block.content as BlockContent;
      const of = (frame: Uint8Array): AsyncIterable<WrittenBlock> => streamOf([{ ...block, content: { codec: "zstd", bytes: frame, size } }]);
      const damaged = Buffer.from(bytes);
      damaged.fill(0xff, 10, 20);
      await expectCode(blobs.blockWriter.write(of(damaged)), "ERR_COMPRESSION_INVALID");
      await expectCode(blobs.blockWriter.write(of(bytes.subarray(0, bytes.length - 3))), "ERR_INVALID");
      await expectCode(blobs.blockWriter.write(of(Buffer.concat([bytes, Buffer.from("more")]))), "ERR_COMPRESSION_INVALID");
      await expectCode(blobs.blockWriter.write(of(sampleBytes(100))), "ERR_COMPRESSION_INVALID");
      await expectCode(blobs.blockWriter.write(of(compressZstdSync(textBytes(size + 1), 1))), "ERR_MISMATCH");
      await expectCode(blobs.blockWriter.write(of(withoutSize(bytes))), "ERR_INVALID");
      const skipped = Buffer.from("502a4d1804000000deadbeef", "hex");
      for (const more of [Buffer.concat([bytes, skipped]), Buffer.concat([skipped, bytes]), Buffer.concat([bytes, compressZstdSync(new Uint8Array(0), 1)]), withWideWindow(bytes)]) {
        await expectCode(blobs.blockWriter.write(of(more)), "ERR_INVALID");
      }
      const digests = SMALL.map(({ digest }) => digest);
      expect(await blobs.findMissing(digests)).toEqual(digests);
    },
  },
  {
    name: "write() lets the error of its source out, closes it, and rejects with the signal's reason",
    run: async (blobs) => {
      const fail = new Error("the source failed");
      await expectReason(blobs.blockWriter.write(new TrackedSource([blockOf(SMALL)], { fail })), fail);
      const wrong = new TrackedSource([{ ...blockOf(PIECES.slice(0, 1)), piece: CUT.digest }], "stuck");
      await expectCode(blobs.blockWriter.write(wrong), "ERR_MISMATCH");
      expect(wrong.closed).toBe(true);
      const controller = new AbortController();
      const reason = new Error("the writer left");
      const stuck = new TrackedSource([blockOf(SMALL)], "stuck");
      void stuck.atEnd.then(() => controller.abort(reason));
      await expectReason(blobs.blockWriter.write(stuck, { signal: controller.signal }), reason);
      expect(stuck.closed).toBe(true);
    },
  },
  {
    name: "write() refuses with ERR_CLOSED after the service was closed",
    run: async (blobs, { close }) => {
      await close();
      await expectCode(blobs.blockWriter.write(sourceOf(blockOf(SMALL))), "ERR_CLOSED");
    },
  },
];

/** Test that a service keeps the contract of `blockWriter`. */
export function blockWriterConformance(open: Open<WriterService>): void {
  registerCases(BLOCK_WRITER_CASES, open);
}

/** A block of these blobs, compressed where that makes it shorter. */
export function blockOf(blobs: readonly SmallBlob[]): WrittenBlock {
  const raw = Buffer.concat(blobs.map(({ bytes }) => bytes));
  const frame = compressZstdSync(raw, 1);
  const content: BlockContent = frame.length < raw.length ? { codec: "zstd", bytes: frame, size: raw.length } : { codec: "stored", bytes: raw, size: raw.length };
  return { chunks: blobs.map(({ digest, size }) => ({ digest, length: size })), content };
}

function stored(block: WrittenBlock): WrittenBlock {
  const blobs = SMALL.filter(({ digest }) => block.chunks.some((chunk) => Buffer.compare(chunk.digest, digest) === 0));
  const bytes = Buffer.concat(blobs.map((blob) => blob.bytes));
  return { ...block, content: { codec: "stored", bytes, size: bytes.length } };
}

/** The same frame, which leaves it to be found out. */
function withoutSize(frame: Uint8Array): Uint8Array {
  // A size of four bytes behind magic, descriptor and window: see compressZstdSync().
  expect((frame[4] as number) & 0xe0).toBe(0x80);
  const bytes = Buffer.concat([frame.subarray(0, 6), frame.subarray(10)]);
  bytes[4] = (bytes[4] as number) & 0x3f;
  return bytes;
}

/** The same frame, which has its reader look back 128 MiB. */
function withWideWindow(frame: Uint8Array): Uint8Array {
  const bytes = Buffer.from(frame);
  bytes[5] = 17 << 3;
  return bytes;
}

async function expectStored(blobs: BlobService, expected: readonly SmallBlob[]): Promise<void> {
  for (const { digest, bytes } of expected) {
    const content = await blobs.openRead(digest);
    expectBytes(content === undefined ? Buffer.from("not stored") : Buffer.concat(await collectItems(content)), bytes);
  }
}
