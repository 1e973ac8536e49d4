/**
 * What `BlobService` promises, sentence by sentence. A service that passes may be put in the place of any other.
 */
import { expect } from "vitest";
import type { BlobRef, BlobService, SmallBlob } from "../../src/castore/blob-service.ts";
import { SMALL_BLOB_LIMIT, toSmallBlob } from "../../src/castore/blob-service.ts";
import type { CallOptions } from "../../src/castore/call-options.ts";
import type { B3Digest } from "../../src/castore/digest.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { chunked, collect, collectItems, expectBytes, hexes, sampleBytes, withEmptyPieces } from "../helpers/bytes.ts";
import { expectCode, expectReason, within } from "../helpers/promises.ts";
import { reusingMemory, sourceOf, TrackedSource } from "../helpers/tracked-source.ts";
import type { ConformanceCase, Open } from "./conformance-case.ts";
import { registerCases } from "./conformance-case.ts";

const KIB = 1024;
const MIB = 1024 * KIB;

const EMPTY = toSmallBlob(new Uint8Array(0));
const ONE_BYTE = toSmallBlob(Uint8Array.of(0x61));
const HELLO = toSmallBlob(new Uint8Array(Buffer.from("Hello World!")));
/** Larger than the longest chunk. */
const LARGE = sampleBytes(1_300_000, 7);
const UNKNOWN = toB3Digest(blake3(Buffer.from("a blob that no one ever puts")));

/** Around every length at which a service may take another way. */
const SIZES = [0, 1, 128 * KIB - 1, 128 * KIB, 128 * KIB + 1, 512 * KIB, MIB - 1, MIB, MIB + 1, 5 * MIB + 3];

/** A call of every method, for what they all must do. `readMany` counts by its first item. */
const EVERY_METHOD: readonly (readonly [name: string, call: (blobs: BlobService, options: CallOptions) => Promise<unknown>])[] = [
  ["findMissing", (blobs, options) => blobs.findMissing([HELLO.digest, UNKNOWN], options)],
  ["stat", (blobs, options) => blobs.stat(HELLO.digest, options)],
  ["putMany", (blobs, options) => blobs.putMany([HELLO, ONE_BYTE], options)],
  ["put", (blobs, options) => blobs.put(sourceOf(LARGE), options)],
  ["openRead", (blobs, options) => blobs.openRead(HELLO.digest, options)],
  ["readMany", (blobs, options) => collectItems(blobs.readMany([HELLO], options))],
];

export const BLOB_SERVICE_CASES: readonly ConformanceCase<BlobService>[] = [
  ...SIZES.map((size) => ({
    name: `put() stores a blob of ${size} bytes that reads back as it was`,
    run: async (blobs: BlobService) => {
      const bytes = sampleBytes(size);
      const digest = await blobs.put(sourceOf(...chunked(bytes, 64 * KIB)));
      expect(hexes([digest])).toEqual(hexes([blake3(bytes)]));
      await expectStored(blobs, digest, bytes);
    },
  })),
  ...SIZES.filter((size) => size <= SMALL_BLOB_LIMIT).map((size) => ({
    name: `putMany() stores a blob of ${size} bytes that reads back as it was`,
    run: async (blobs: BlobService) => {
      const blob = toSmallBlob(sampleBytes(size, 2));
      await blobs.putMany([blob]);
      await expectStored(blobs, blob.digest, blob.bytes);
    },
  })),
  ...CUTS().map(([how, pieces, bytes]) => ({
    name: `put() gives the same digest when the content comes ${how}`,
    run: async (blobs: BlobService) => {
      const digest = await blobs.put(sourceOf(...pieces));
      expect(hexes([digest])).toEqual(hexes([blake3(bytes)]));
      expectBytes(await read(blobs, digest), bytes);
    },
  })),
  {
    name: "put() takes content that comes in memory which is used again for the next piece",
    run: async (blobs) => {
      for (const length of [1000, 100 * KIB, 700 * KIB]) await expectStored(blobs, await blobs.put(reusingMemory(chunked(LARGE, length))), LARGE);
    },
  },
  {
    name: "put() believes a digest that its caller has computed",
    run: async (blobs) => {
      const digest = toB3Digest(blake3(LARGE));
      expect(hexes([await blobs.put(sourceOf(...chunked(LARGE, 99_999)), { digest: () => digest })])).toEqual(hexes([digest]));
      await expectStored(blobs, digest, LARGE);
    },
  },
  {
    name: "putMany() is done with the blobs' memory when it resolves",
    run: async (blobs) => {
      const originals = [10, 200 * KIB, MIB].map((size) => sampleBytes(size, 5));
      const memories = originals.map((bytes) => bytes.slice());
      await blobs.putMany(memories.map((bytes) => toSmallBlob(bytes)));
      for (const memory of memories) memory.fill(0xaa);
      for (const bytes of originals) await expectStored(blobs, toB3Digest(blake3(bytes)), bytes);
    },
  },
  {
    name: "put() reads its content once and to its end",
    run: async (blobs) => {
      const source = new TrackedSource(chunked(LARGE, 100_000));
      await blobs.put(source);
      expect(source).toMatchObject({ opened: 1, taken: 13, ended: true });
    },
  },
  {
    name: "put() of a blob that is stored gives the same digest again",
    run: async (blobs) => {
      const first = await blobs.put(sourceOf(LARGE));
      const second = await blobs.put(sourceOf(...chunked(LARGE, 9_999)));
      expect(hexes([second])).toEqual(hexes([first]));
      await expectStored(blobs, first, LARGE);
    },
  },
  {
    name: "put() of one blob many times at once stores it",
    run: async (blobs) => {
      const digests = await Promise.all(Array.from({ length: 8 }, () => blobs.put(sourceOf(...chunked(LARGE, 200_000)))));
      expect(new Set(hexes(digests))).toEqual(new Set(hexes([blake3(LARGE)])));
      await expectStored(blobs, digests[0] as B3Digest, LARGE);
    },
  },
  {
    name: "put() and putMany() of the same small blob at once store it",
    run: async (blobs) => {
      const others = Array.from({ length: 20 }, (_, seed) => toSmallBlob(sampleBytes(1000, seed)));
      await Promise.all(others.flatMap((blob) => [blobs.putMany([HELLO, blob]), blobs.put(sourceOf(blob.bytes)), blobs.put(sourceOf(HELLO.bytes))]));
      for (const blob of [HELLO, ...others]) expectBytes(await read(blobs, blob.digest), blob.bytes);
    },
  },
  {
    name: "putMany() stores every one of many blobs",
    run: async (blobs) => {
      const many = Array.from({ length: 3_000 }, (_, index) => toSmallBlob(sampleBytes(index % 97, index)));
      await blobs.putMany(many);
      expect(await blobs.findMissing(many.map(({ digest }) => digest))).toEqual([]);
      await expectReadMany(blobs, many);
    },
  },
  {
    name: "putMany() stores the first, the last and the empty blob of a list",
    run: async (blobs) => {
      const list = [HELLO, EMPTY, toSmallBlob(sampleBytes(300 * KIB)), ONE_BYTE];
      await blobs.putMany(list);
      for (const { digest, bytes } of list) await expectStored(blobs, digest, bytes);
    },
  },
  {
    name: "putMany() stores a blob that is in its list twice, and one that is stored already",
    run: async (blobs) => {
      await blobs.putMany([HELLO, ONE_BYTE, HELLO]);
      await blobs.putMany([ONE_BYTE, ONE_BYTE]);
      await expectReadMany(blobs, [HELLO, ONE_BYTE]);
    },
  },
  {
    name: "putMany() of nothing does nothing",
    run: async (blobs) => {
      await blobs.putMany([]);
      expect(await blobs.stat(EMPTY.digest)).toBeUndefined();
    },
  },

  ...[0, 1, 300 * KIB, 3 * MIB].flatMap((size) => [
    {
      name: `put() rejects with its content's own error after ${size} bytes, and none of it becomes readable`,
      run: async (blobs: BlobService) => {
        const part = sampleBytes(size, 3);
        const failure = new Error("the disk it came from broke");
        const source = new TrackedSource(chunked(part, 128 * KIB), { fail: failure });
        await expectReason(blobs.put(source), failure);
        expect(source).toMatchObject({ opened: 1, closed: true });
        await expectNotStored(blobs, toB3Digest(blake3(part)), part.length);
        await blobs.put(sourceOf(part));
        expectBytes(await read(blobs, toB3Digest(blake3(part))), part);
      },
    },
    {
      name: `put() rejects with the signal's reason after ${size} bytes, also while its content is stuck`,
      run: async (blobs: BlobService) => {
        const part = sampleBytes(size, 4);
        const source = new TrackedSource(chunked(part, 128 * KIB), "stuck");
        const controller = new AbortController();
        const put = blobs.put(source, { signal: controller.signal });
        const reason = new Error("the client left");
        void source.atEnd.then(() => controller.abort(reason));
        await expectReason(put, reason);
        expect(source.closed).toBe(true);
        await expectNotStored(blobs, toB3Digest(blake3(part)), part.length);
      },
    },
  ]),
  {
    name: "put() stops reading its content when the signal fires between two pieces",
    run: async (blobs) => {
      const controller = new AbortController();
      const reason = { not: "even an error" };
      const source = new TrackedSource(chunked(LARGE, 10_000), "end", (index) => {
        if (index === 50) controller.abort(reason);
      });
      await expectReason(blobs.put(source, { signal: controller.signal }), reason);
      expect(source.taken).toBeLessThan(60);
      expect(source.closed).toBe(true);
      await expectNotStored(blobs, toB3Digest(blake3(LARGE)), LARGE.length);
    },
  },
  {
    name: "put() does not read its content when the signal has fired before",
    run: async (blobs) => {
      const source = new TrackedSource([LARGE]);
      const reason = new Error("too late");
      await expectReason(blobs.put(source, { signal: AbortSignal.abort(reason) }), reason);
      expect(source).toMatchObject({ taken: 0, closed: true });
      await expectNotStored(blobs, toB3Digest(blake3(LARGE)), LARGE.length);
    },
  },
  {
    name: "a failed put() leaves other puts alone",
    run: async (blobs) => {
      const failing = new TrackedSource(chunked(LARGE, 100_000), { fail: new Error("broken") });
      const good = sampleBytes(700_000, 8);
      const outcomes = await Promise.allSettled([blobs.put(failing), blobs.put(sourceOf(...chunked(good, 5_000))), blobs.putMany([HELLO])]);
      expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "fulfilled", "fulfilled"]);
      expectBytes(await read(blobs, toB3Digest(blake3(good))), good);
      expectBytes(await read(blobs, HELLO.digest), HELLO.bytes);
    },
  },

  {
    name: "findMissing() gives those that are not stored, in the order asked",
    run: async (blobs) => {
      const asked = Array.from({ length: 40 }, (_, seed) => toSmallBlob(sampleBytes(64, seed)));
      const stored = asked.filter((_, index) => index % 3 === 0);
      await blobs.putMany(stored);
      await blobs.put(sourceOf(LARGE));
      const missing = await blobs.findMissing([toB3Digest(blake3(LARGE)), ...asked.map(({ digest }) => digest)]);
      expect(hexes(missing)).toEqual(hexes(asked.filter((blob) => !stored.includes(blob)).map(({ digest }) => digest)));
    },
  },
  {
    name: "findMissing() gives each digest once, where it was first asked for",
    run: async (blobs) => {
      await blobs.putMany([HELLO]);
      const copy = UNKNOWN.slice() as B3Digest;
      const missing = await blobs.findMissing([UNKNOWN, HELLO.digest, ONE_BYTE.digest, copy, HELLO.digest, ONE_BYTE.digest]);
      expect(hexes(missing)).toEqual(hexes([UNKNOWN, ONE_BYTE.digest]));
    },
  },
  {
    name: "findMissing() of nothing is nothing",
    run: async (blobs) => expect(await blobs.findMissing([])).toEqual([]),
  },
  {
    name: "findMissing() takes many digests",
    run: async (blobs) => {
      await blobs.putMany([HELLO]);
      const digests = Array.from({ length: 5_000 }, (_, seed) => toB3Digest(sampleBytes(32, seed)));
      const missing = await blobs.findMissing([...digests.slice(0, 2_500), HELLO.digest, ...digests.slice(2_500)]);
      expect(hexes(missing)).toEqual(hexes(digests));
    },
  },
  {
    name: "stat() and openRead() of an unknown digest are undefined",
    run: async (blobs) => {
      await blobs.putMany([HELLO]);
      await expectNotStored(blobs, UNKNOWN);
      await expectNotStored(blobs, EMPTY.digest, 0);
    },
  },
  {
    name: "stat() gives chunks that are blobs themselves and together are the blob",
    run: async (blobs) => {
      const digest = await blobs.put(sourceOf(LARGE));
      const stat = await blobs.stat(digest);
      expect(stat).toBeDefined();
      const chunks = stat?.chunks ?? [];
      if (chunks.length === 0) return;
      const pieces = await Promise.all(chunks.map((chunk) => read(blobs, chunk.digest)));
      expect(pieces.map(({ length }) => length)).toEqual(chunks.map(({ size }) => size));
      expectBytes(Buffer.concat(pieces), LARGE);
    },
  },
  {
    name: "stat() gives no chunks for a blob below the shortest chunk",
    run: async (blobs) => {
      await blobs.putMany([HELLO, EMPTY]);
      expect(await blobs.stat(HELLO.digest)).toEqual({ chunks: [] });
      expect(await blobs.stat(EMPTY.digest)).toEqual({ chunks: [] });
    },
  },

  {
    name: "openRead() gives any range of a large blob",
    run: async (blobs) => {
      const digest = await blobs.put(sourceOf(LARGE));
      const edges = await chunkEdges(blobs, digest);
      const ranges = [
        [0, 1],
        [0, LARGE.length],
        [1, LARGE.length - 1],
        [LARGE.length - 1, LARGE.length],
        [600_000, 600_100],
        [100_000, 1_200_000],
        ...edges.flatMap((edge) => [
          [edge - 1, edge],
          [edge, edge + 1],
          [edge - 1, edge + 1],
          [edge - 1000, edge + 300_000],
        ]),
      ] as const;
      for (const [start = 0, end = 0] of ranges) expectBytes(await read(blobs, digest, { start, end }), LARGE.subarray(start, end));
    },
  },
  {
    name: "openRead() gives the rest of a blob from a start, and its beginning up to an end",
    run: async (blobs) => {
      const digest = await blobs.put(sourceOf(LARGE));
      await blobs.putMany([HELLO]);
      expectBytes(await read(blobs, digest, { start: 900_001 }), LARGE.subarray(900_001));
      expectBytes(await read(blobs, digest, { end: 900_001 }), LARGE.subarray(0, 900_001));
      expectBytes(await read(blobs, HELLO.digest, { start: 6 }), HELLO.bytes.subarray(6));
      expectBytes(await read(blobs, HELLO.digest, { end: 5 }), HELLO.bytes.subarray(0, 5));
      expectBytes(await read(blobs, HELLO.digest, { start: 6, end: 7 }), HELLO.bytes.subarray(6, 7));
    },
  },
  {
    name: "openRead() takes an end beyond the blob's end for its end",
    run: async (blobs) => {
      const digest = await blobs.put(sourceOf(LARGE));
      await blobs.putMany([HELLO]);
      expectBytes(await read(blobs, digest, { start: 1_000_000, end: LARGE.length + 1 }), LARGE.subarray(1_000_000));
      expectBytes(await read(blobs, HELLO.digest, { end: 2 ** 50 }), HELLO.bytes);
    },
  },
  {
    name: "openRead() of an empty range is empty",
    run: async (blobs) => {
      const digest = await blobs.put(sourceOf(LARGE));
      await blobs.putMany([EMPTY]);
      const ranges = [
        { start: 0, end: 0 },
        { start: 700_000, end: 700_000 },
        { start: LARGE.length },
        { start: LARGE.length, end: LARGE.length + 10 },
        { start: LARGE.length + 10 },
      ];
      for (const range of ranges) expectBytes(await read(blobs, digest, range), new Uint8Array(0));
      expectBytes(await read(blobs, EMPTY.digest, { start: 0, end: 10 }), new Uint8Array(0));
    },
  },
  {
    name: "openRead() may be stopped early, again and again",
    run: async (blobs) => {
      const bytes = sampleBytes(5 * MIB, 5);
      const digest = await blobs.put(sourceOf(...chunked(bytes, MIB)));
      for (let times = 0; times < 20; times++) {
        const stream = await blobs.openRead(digest);
        for await (const piece of stream as AsyncIterable<Uint8Array>) {
          expectBytes(piece, bytes.subarray(0, piece.length));
          break;
        }
      }
      expectBytes(await read(blobs, digest), bytes);
    },
  },
  {
    name: "openRead() of one blob many times at once gives each reader all of it",
    run: async (blobs) => {
      const digest = await blobs.put(sourceOf(LARGE));
      for (const bytes of await Promise.all(Array.from({ length: 12 }, () => read(blobs, digest)))) expectBytes(bytes, LARGE);
    },
  },
  {
    name: "openRead()'s stream rejects with the signal's reason when it fires before the first byte",
    run: async (blobs) => {
      const digest = await blobs.put(sourceOf(LARGE));
      const controller = new AbortController();
      const stream = (await blobs.openRead(digest, { signal: controller.signal })) as AsyncIterable<Uint8Array>;
      const reason = new Error("the reader left");
      controller.abort(reason);
      await expectReason(collect(stream), reason);
    },
  },
  {
    name: "openRead()'s stream gives no more than is at hand when the signal fires",
    run: async (blobs) => {
      const bytes = sampleBytes(6 * MIB, 6);
      const digest = await blobs.put(sourceOf(bytes));
      const controller = new AbortController();
      const reason = new Error("the reader left");
      let taken = 0;
      const reading = async (): Promise<void> => {
        for await (const piece of (await blobs.openRead(digest, { signal: controller.signal })) as AsyncIterable<Uint8Array>) {
          taken += piece.length;
          controller.abort(reason);
        }
      };
      const outcome = await within(reading().catch((error: unknown) => error));
      // A service may have given the whole blob in one piece, and has nothing left to refuse then.
      if (taken < bytes.length) expect(outcome).toBe(reason);
      else expect([undefined, reason]).toContain(outcome);
    },
  },

  {
    name: "readMany() gives whole blobs in the order asked, as often as asked",
    run: async (blobs) => {
      const list = Array.from({ length: 200 }, (_, index) => toSmallBlob(sampleBytes((index * 37) % 2_000, index)));
      const mixed = [...list.slice(100), HELLO, EMPTY, toSmallBlob(LARGE.subarray(0, MIB)), HELLO, ...list.slice(0, 100), EMPTY, HELLO];
      await blobs.putMany(mixed);
      await expectReadMany(blobs, mixed);
      await expectReadMany(blobs, [...mixed].reverse());
    },
  },
  {
    name: "readMany() takes what to read from a stream",
    run: async (blobs) => {
      const list = [HELLO, ONE_BYTE, EMPTY, HELLO];
      await blobs.putMany(list);
      const asked = new TrackedSource(list.map(({ digest, size }) => ({ digest, size })));
      const found = await collectItems(blobs.readMany(asked));
      expect(found.map((bytes) => Buffer.from(bytes).toString())).toEqual(["Hello World!", "a", "", "Hello World!"]);
      expect(asked).toMatchObject({ opened: 1, closed: true });
    },
  },
  {
    name: "readMany() of nothing gives nothing",
    run: async (blobs) => {
      expect(await collectItems(blobs.readMany([]))).toEqual([]);
      expect(await collectItems(blobs.readMany(sourceOf<BlobRef>()))).toEqual([]);
    },
  },
  {
    name: "readMany() gives what stands before a missing blob, then rejects with ERR_NOT_FOUND",
    run: async (blobs) => {
      await blobs.putMany([HELLO, ONE_BYTE]);
      const found: string[] = [];
      const reading = async (): Promise<void> => {
        for await (const bytes of blobs.readMany([HELLO, ONE_BYTE, { digest: UNKNOWN, size: 5 }, HELLO])) found.push(Buffer.from(bytes).toString());
      };
      await expectCode(reading(), "ERR_NOT_FOUND");
      expect(found).toEqual(["Hello World!", "a"]);
    },
  },
  {
    name: "readMany() rejects with ERR_NOT_FOUND for a blob of another size than was asked for, in its turn",
    run: async (blobs) => {
      const cut = LARGE.subarray(0, MIB);
      await blobs.putMany([HELLO, EMPTY]);
      const stored: readonly BlobRef[] = [HELLO, EMPTY, { digest: await blobs.put(sourceOf(cut)), size: cut.length }];
      for (const { digest, size } of stored) {
        for (const wrong of [size - 1, size + 1, 0, MIB].filter((other) => other >= 0 && other !== size)) {
          let taken = 0;
          const reading = async (): Promise<void> => {
            for await (const bytes of blobs.readMany([HELLO, { digest, size: wrong }, HELLO])) {
              expectBytes(bytes, HELLO.bytes);
              taken++;
            }
          };
          await expectCode(reading(), "ERR_NOT_FOUND");
          expect(taken).toBe(1);
        }
      }
    },
  },
  {
    name: "readMany() closes the stream of what to read when it is stopped early or a blob is missing",
    run: async (blobs) => {
      await blobs.putMany([HELLO]);
      const stopped = new TrackedSource(Array.from({ length: 1_000 }, () => HELLO));
      for await (const bytes of blobs.readMany(stopped)) {
        expectBytes(bytes, HELLO.bytes);
        break;
      }
      expect(stopped).toMatchObject({ opened: 1, closed: true });
      const missing = new TrackedSource<BlobRef>([{ digest: UNKNOWN, size: 5 }, ...Array.from({ length: 1_000 }, () => HELLO)]);
      await expectCode(collectItems(blobs.readMany(missing)), "ERR_NOT_FOUND");
      expect(missing.closed).toBe(true);
    },
  },
  {
    name: "readMany() rejects with the error of a stream of what to read that fails",
    run: async (blobs) => {
      await blobs.putMany([HELLO]);
      const failure = new Error("no more to read");
      await expectReason(collectItems(blobs.readMany(new TrackedSource([HELLO], { fail: failure }))), failure);
    },
  },
  {
    name: "readMany() rejects with the signal's reason, also while the stream of what to read is stuck",
    run: async (blobs) => {
      await blobs.putMany([HELLO]);
      const controller = new AbortController();
      const asked = new TrackedSource([HELLO], "stuck");
      const reason = new Error("the reader left");
      void asked.atEnd.then(() => controller.abort(reason));
      await expectReason(collectItems(blobs.readMany(asked, { signal: controller.signal })), reason);
      expect(asked.closed).toBe(true);
    },
  },
  {
    name: "readMany() stops when the signal fires between two blobs",
    run: async (blobs) => {
      await blobs.putMany([HELLO]);
      const controller = new AbortController();
      const reason = new Error("the reader left");
      let taken = 0;
      const reading = async (): Promise<void> => {
        for await (const _bytes of blobs.readMany(Array.from({ length: 500 }, () => HELLO), { signal: controller.signal })) {
          void _bytes;
          if (++taken === 3) controller.abort(reason);
        }
      };
      await expectReason(reading(), reason);
      expect(taken).toBe(3);
    },
  },

  ...EVERY_METHOD.flatMap(([name, call]) => [
    {
      name: `${name}() rejects with the reason of a signal that has fired`,
      run: async (blobs: BlobService) => {
        await blobs.putMany([HELLO]);
        const reason = new Error("gone before it began");
        await expectReason(call(blobs, { signal: AbortSignal.abort(reason) }), reason);
      },
    },
    {
      name: `${name}() rejects with ERR_CLOSED after the service was closed`,
      run: async (blobs: BlobService, { close }: { readonly close: () => Promise<void> }) => {
        await blobs.putMany([HELLO]);
        await close();
        await expectCode(call(blobs, {}), "ERR_CLOSED");
      },
    },
  ]),
  {
    name: "openRead()'s stream rejects with ERR_CLOSED when the service is closed before its first byte",
    run: async (blobs, { close }) => {
      await blobs.putMany([HELLO]);
      const small = (await blobs.openRead(HELLO.digest)) as AsyncIterable<Uint8Array>;
      const large = (await blobs.openRead(await blobs.put(sourceOf(LARGE)))) as AsyncIterable<Uint8Array>;
      await close();
      await expectCode(collect(small), "ERR_CLOSED");
      await expectCode(collect(large), "ERR_CLOSED");
    },
  },
  {
    name: "put() rejects with ERR_CLOSED and closes its content when the service is closed meanwhile",
    run: async (blobs, { close }) => {
      const source = new TrackedSource(chunked(LARGE, 100_000), "end", async (index) => {
        if (index === 5) await close();
      });
      await expectCode(blobs.put(source), "ERR_CLOSED");
      expect(source.closed).toBe(true);
    },
  },
];

/** Test that a service keeps the contract of `BlobService`. */
export function blobServiceConformance(open: Open<BlobService>): void {
  registerCases(BLOB_SERVICE_CASES, open);
}

function CUTS(): (readonly [how: string, pieces: readonly Uint8Array[], bytes: Uint8Array])[] {
  const bytes = sampleBytes(700_001, 9);
  const small = bytes.subarray(0, 5_000);
  return [
    ["whole", [bytes], bytes],
    ["in halves", chunked(bytes, 350_001), bytes],
    ["in odd sizes", chunked(bytes, 4_097), bytes],
    ["with empty pieces between", withEmptyPieces(chunked(bytes, 65_537)), bytes],
    ["one byte at a time", chunked(small, 1), small],
    ["as nothing but empty pieces", [new Uint8Array(0), new Uint8Array(0)], new Uint8Array(0)],
  ];
}

async function read(blobs: BlobService, digest: B3Digest, range: { readonly start?: number; readonly end?: number } = {}): Promise<Uint8Array> {
  const stream = await blobs.openRead(digest, range);
  expect(stream).toBeDefined();
  return await collect(stream as AsyncIterable<Uint8Array>);
}

async function expectStored(blobs: BlobService, digest: B3Digest, bytes: Uint8Array): Promise<void> {
  expect(await blobs.findMissing([digest])).toEqual([]);
  expect(await blobs.stat(digest)).toBeDefined();
  expectBytes(await read(blobs, digest), bytes);
  const [whole] = await collectItems(blobs.readMany([{ digest, size: bytes.length }]));
  expectBytes(whole, bytes);
}

async function expectNotStored(blobs: BlobService, digest: B3Digest, size = 5): Promise<void> {
  expect(hexes(await blobs.findMissing([digest]))).toEqual(hexes([digest]));
  expect(await blobs.stat(digest)).toBeUndefined();
  expect(await blobs.openRead(digest)).toBeUndefined();
  // The empty blob is one that anyone may know.
  if (size > 0) await expectCode(collectItems(blobs.readMany([{ digest, size }])), "ERR_NOT_FOUND");
}

async function expectReadMany(blobs: BlobService, list: readonly SmallBlob[]): Promise<void> {
  let index = 0;
  for await (const bytes of blobs.readMany(list)) expectBytes(bytes, (list[index++] as SmallBlob).bytes);
  expect(index).toBe(list.length);
}

/** Where one chunk ends and another begins, or some place in the middle where a service does not cut. */
async function chunkEdges(blobs: BlobService, digest: B3Digest): Promise<readonly number[]> {
  const { chunks } = (await blobs.stat(digest)) ?? { chunks: [] };
  let offset = 0;
  const edges = chunks.slice(0, -1).map(({ size }) => (offset += size));
  return edges.length === 0 ? [524_288] : edges;
}
