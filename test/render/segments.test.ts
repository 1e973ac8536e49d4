import { expect, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { bytesOf } from "../../src/bytes/framed-bytes.ts";
import type { BlobService } from "../../src/castore/blob-service.ts";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import type { Segment } from "../../src/castore/recipe.ts";
import { segmentLength } from "../../src/castore/recipe.ts";
import type { RenderPlan } from "../../src/render/segments.ts";
import { renderArchive, renderChunks } from "../../src/render/segments.ts";
import { collect, collectItems, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import { openMemory, openPacks } from "../helpers/open-stores.ts";
import { expectCode, expectReason } from "../helpers/promises.ts";
import { sourceOf } from "../helpers/tracked-source.ts";

const SMALL = Array.from({ length: 1_000 }, (_, index) => toSmallBlob(sampleBytes(100 + index, index)));
const HEADER = sampleBytes(512, 99);

/** A plan that says how often it was walked over, and how far. */
function watchedPlan(segments: readonly Segment[]): { readonly plan: RenderPlan; readonly watch: { walks: number; bytes: number } } {
  const watch = { walks: 0, bytes: 0 };
  function* walk(): Generator<Segment, void, undefined> {
    watch.walks++;
    for (const segment of segments) {
      watch.bytes += segmentLength(segment);
      yield segment;
    }
  }
  return { plan: { size: segments.reduce((sum, segment) => sum + segmentLength(segment), 0), segments: walk }, watch };
}

/** A store that says how often it was asked for small blobs. */
async function watchedBlobs(blobs: BlobService = new MemoryStore().blobs): Promise<{ readonly blobs: BlobService; readonly asked: { calls: number } }> {
  await blobs.putMany(SMALL);
  const asked = { calls: 0 };
  const readMany: BlobService["readMany"] = (...parameters) => {
    asked.calls++;
    return blobs.readMany(...parameters);
  };
  return { blobs: { findMissing: blobs.findMissing.bind(blobs), stat: blobs.stat.bind(blobs), putMany: blobs.putMany.bind(blobs), put: blobs.put.bind(blobs), openRead: blobs.openRead.bind(blobs), readMany }, asked };
}

function contentOf(segments: readonly Segment[]): Buffer {
  return Buffer.concat(segments.map((segment) => (segment instanceof Uint8Array ? segment : (SMALL.find(({ digest }) => digest === segment.digest)?.bytes.subarray(segment.start, segment.end) as Uint8Array))));
}

test("renderArchive() walks over an archive once, and asks for all of its small files together", async () => {
  const { blobs, asked } = await watchedBlobs();
  const segments = SMALL.flatMap((blob) => [HEADER, blob]);
  const { plan, watch } = watchedPlan(segments);
  expectBytes(await collect(renderArchive(plan, { blobs })), contentOf(segments));
  expect([watch.walks, asked.calls]).toEqual([1, 1]);
});

test("renderArchive() looks no further than some MiB ahead for a small file, and asks anew when it gets there", async () => {
  // They ask for hundreds at a time.
  await using opened = await openPacks()();
  const { blobs, asked } = await watchedBlobs(opened.service.blobs);
  const headers = Array.from({ length: 40_000 }, () => HEADER);
  const segments = [...SMALL.slice(0, 2), ...headers, ...SMALL.slice(2), ...headers, ...SMALL.slice(0, 1)];
  const { plan, watch } = watchedPlan(segments);
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const bytes of renderArchive(plan, { blobs })) {
    pieces.push(bytes);
    size += bytes.length;
    expect(watch.bytes - size).toBeLessThan(6 * 1024 * 1024);
  }
  expectBytes(Buffer.concat(pieces), contentOf(segments));
  expect([watch.walks, asked.calls]).toEqual([1, 3]);
});

test("renderArchive() reads parts of a small file that follow each other once, in any range", async () => {
  const { blobs } = await watchedBlobs();
  const [first, second] = SMALL.slice(998) as [(typeof SMALL)[0], (typeof SMALL)[0]];
  const segments = [{ ...first, start: 0, end: 500 }, HEADER, { ...first, start: 700, end: 900 }, second, { ...first, start: 5, end: 6 }, new Uint8Array(0), { ...second, start: 3, end: 3 }, second];
  const { plan } = watchedPlan(segments);
  const whole = contentOf(segments);
  for (const [start, end] of [[0, whole.length], [499, 501], [600, 1_300], [1_212, 1_213], [1_213, 9_999], [whole.length, whole.length]] as const) {
    expectBytes(await collect(renderArchive(plan, { blobs }, { start, end })), whole.subarray(start, end));
  }
});

test("renderArchive() lets others have a turn on the way to a range that is far behind, and stops there when it is aborted", async () => {
  const { blobs } = await watchedBlobs();
  const { plan, watch } = watchedPlan(Array.from({ length: 200_000 }, () => HEADER));
  const controller = new AbortController();
  const reason = new Error("enough");
  setImmediate(() => controller.abort(reason));
  await expectReason(collect(renderArchive(plan, { blobs }, { start: plan.size - 1, signal: controller.signal })), reason);
  expect(watch.bytes).toBeLessThan(plan.size / 2);
});

test("renderArchive() fails when it is given fewer small files than it asked for", async () => {
  const { blobs } = await watchedBlobs();
  const { plan } = watchedPlan(SMALL.slice(0, 20));
  const short: BlobService = {
    ...blobs,
    readMany: async function* (wanted, options) {
      let left = 10;
      for await (const bytes of blobs.readMany(wanted, options)) {
        if (left-- === 0) return;
        yield bytes;
      }
    },
  };
  await expect(collect(renderArchive(plan, { blobs: short }))).rejects.toMatchObject({ code: "ERR_DATA_LOSS" });
});

test("renderArchive() takes an archive of very many tiny pieces, and looks no further ahead in it for a large file than in any other", async () => {
  const { blobs } = await watchedBlobs();
  const large = toSmallBlob(sampleBytes(1_500_000, 1));
  await blobs.put(sourceOf(large.bytes));
  const tiny = Array.from({ length: 400_000 }, (_, index) => HEADER.subarray(index % 500, (index % 500) + 1 + (index % 3)));
  const segments: Segment[] = [SMALL[0] as Segment, ...tiny, large, SMALL[1] as Segment];
  const { plan, watch } = watchedPlan(segments);
  const pieces: Uint8Array[] = [];
  for await (const bytes of renderArchive(plan, { blobs })) {
    if (pieces.length === 0) expect(watch.bytes).toBeLessThan(600_000);
    pieces.push(bytes);
  }
  expectBytes(Buffer.concat(pieces), Buffer.concat([SMALL[0]?.bytes as Uint8Array, ...tiny, large.bytes, SMALL[1]?.bytes as Uint8Array]));
});

test.for([100, 200_000, 1_500_000])("what is rendered is ERR_DATA_LOSS when a blob of %d bytes has more or fewer than is said", async (size) => {
  for (const [, open] of [["memory", openMemory], ["packs", openPacks()]] as const) {
    await using opened = await open();
    const { blobs } = opened.service;
    const digest = await blobs.put(sourceOf(sampleBytes(size)));
    for (const said of [size - 1, size + 1]) {
      const plan: RenderPlan = { size: said + 512, segments: () => [{ digest, size: said }, HEADER] };
      await expectCode(collect(renderArchive(plan, { blobs })), "ERR_DATA_LOSS");
      await expectCode(collectItems(renderChunks(plan, { blobs }, 1)), "ERR_DATA_LOSS");
    }
  }
});

test("renderArchive() reads parts of a large file that follow each other as one stream, in any range, and opens none for each", async () => {
  const { blobs } = await watchedBlobs();
  const [one, other] = [toSmallBlob(sampleBytes(3_000_000, 1)), toSmallBlob(sampleBytes(2_000_000, 2))];
  for (const { bytes } of [one, other]) await blobs.put(sourceOf(bytes));
  const parts = Array.from({ length: 500 }, (_, index) => ({ ...one, start: index * 6_000, end: index * 6_000 + 1 + (index % 4_000) }));
  const segments: Segment[] = [
    ...parts.flatMap((part) => [HEADER, part]),
    // Back to its beginning, on behind a gap that is too long, to the end; another one in between.
    { ...one, start: 5, end: 6 },
    { ...one, start: 2_000_000, end: 3_000_000 },
    { ...other, start: 7, end: 1_000_000 },
    one,
    { ...other, start: 1_000_000, end: 2_000_000 },
  ];
  let opened = 0;
  const counted: BlobService = {
    ...blobs,
    openRead: (...parameters) => {
      opened++;
      return blobs.openRead(...parameters);
    },
  };
  const { plan } = watchedPlan(segments);
  const whole = Buffer.concat(segments.map((segment) => (segment instanceof Uint8Array ? segment : (segment.size === one.size ? one : other).bytes.subarray(segment.start ?? 0, segment.end))));
  expectBytes(await collect(renderArchive(plan, { blobs: counted })), whole);
  expect(opened).toBeLessThan(15);
  for (const [start, end] of [[0, 1], [511, 514], [100_000, 900_000], [whole.length - 3_100_000, whole.length - 2_900_000], [whole.length - 1, whole.length]] as const) {
    expectBytes(await collect(renderArchive(plan, { blobs }, { start, end })), whole.subarray(start, end));
  }
  await using packs = await openPacks()();
  for (const { bytes } of [one, other]) await packs.service.blobs.put(sourceOf(bytes));
  for (const store of [blobs, packs.service.blobs]) expectBytes(Buffer.concat((await collectItems(renderChunks(plan, { blobs: store }, 1))).map(bytesOf)), whole);
});
