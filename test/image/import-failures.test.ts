/** Whatever goes wrong while an image is taken in, at whatever call: it is said, nothing is listed, nothing hangs, and the next try works. */
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { findImages, listImageNames } from "../../src/image/image-catalog.ts";
import { importImages } from "../../src/image/import-images.ts";
import { chunked, collectItems, sampleBytes } from "../helpers/bytes.ts";
import { dockerMembers, imageOf, ociMembers, tarOf } from "../helpers/image-archives.ts";
import { interruptedStore } from "../helpers/interrupted-store.ts";
import { eventually, expectReason } from "../helpers/promises.ts";
import { untilAborted } from "../helpers/recording-services.ts";
import { streamOf, TrackedSource } from "../helpers/tracked-source.ts";

/** Small files, and one that is streamed. */
const FIRST = tarOf([
  { path: "bin/large", bytes: sampleBytes(1_200_000), mode: 0o755 },
  { path: "bin/small", bytes: Buffer.from("small") },
]);
const SECOND = tarOf([{ path: "etc/motd", bytes: Buffer.from("welcome") }]);
const IMAGE = imageOf([FIRST, SECOND], { names: ["hello:1"] });
const ARCHIVES = [
  ["a docker-archive", tarOf(dockerMembers([IMAGE]))],
  ["a compressed docker-archive", gzipSync(tarOf(dockerMembers([IMAGE])))],
  ["a layout with compressed layers", tarOf(ociMembers([IMAGE], { compression: "gzip" }))],
] as const;

async function callsOf(archive: Uint8Array): Promise<string[]> {
  const calls: string[] = [];
  await importImages(streamOf(chunked(archive, 65_536)), interruptedStore(new MemoryStore(), (call) => void calls.push(call)));
  return calls;
}

/** That no name is listed, and the store is good for another try. */
async function expectNothing(store: MemoryStore, archive: Uint8Array): Promise<void> {
  expect(await collectItems(listImageNames(store))).toEqual([]);
  const { images } = await importImages(streamOf(chunked(archive, 65_536)), store);
  expect((await findImages(images[0]?.name ?? "", store))?.images.map(({ id }) => id)).toEqual([IMAGE.id]);
}

describe.for(ARCHIVES)("importImages() of %s", ([, archive]) => {
  test("makes every kind of call", async () => {
    expect(new Set(await callsOf(archive))).toEqual(
      new Set(["blobs.findMissing", "blobs.put", "blobs.putMany", "commit", "directories.putClosure", "directorySizeProfile", "documents.put", ...(archive === ARCHIVES[2][1] ? ["documents.get"] : [])]),
    );
  });

  test("rejects with the error of whichever call fails, and lists nothing", async () => {
    const calls = await callsOf(archive);
    for (const [failing, name] of calls.entries()) {
      const failure = new Error(`call ${failing}, ${name}, fails`);
      await using store = new MemoryStore();
      let count = 0;
      const source = new TrackedSource(chunked(archive, 65_536));
      const interrupted = interruptedStore(store, () => {
        if (count++ === failing) throw failure;
      });
      await expectReason(importImages(source, interrupted), failure);
      await eventually(() => source.closed);
      await expectNothing(store, archive);
    }
  });

  test("rejects with the signal's reason while whichever call is stuck, and lists nothing", async () => {
    const calls = await callsOf(archive);
    for (const [stuck, name] of calls.entries()) {
      const reason = new Error(`stopped at call ${stuck}, ${name}`);
      const controller = new AbortController();
      await using store = new MemoryStore();
      let count = 0;
      const source = new TrackedSource(chunked(archive, 65_536));
      const interrupted = interruptedStore(store, async (_call, options) => {
        if (count++ !== stuck) return;
        setTimeout(() => controller.abort(reason), 5);
        await untilAborted(options?.signal === undefined ? { signal: controller.signal } : options);
      });
      await expectReason(importImages(source, interrupted, { signal: controller.signal }), reason);
      await eventually(() => source.closed);
      await expectNothing(store, archive);
    }
  });

  test("rejects with the signal's reason wherever its source is stuck, and lists nothing", async () => {
    for (const pieces of [0, 1, 5, 12, 18]) {
      const reason = new Error("enough");
      const controller = new AbortController();
      await using store = new MemoryStore();
      const source = new TrackedSource(chunked(archive, 65_536).slice(0, pieces), "stuck");
      void source.atEnd.then(() => controller.abort(reason));
      await expectReason(importImages(source, store, { signal: controller.signal }), reason);
      expect(source.closed).toBe(true);
      await expectNothing(store, archive);
    }
  });

  test("rejects with its source's error wherever that is, and lists nothing", async () => {
    for (const pieces of [0, 1, 5, 12, 18]) {
      const failure = new Error("the disk is gone");
      await using store = new MemoryStore();
      const source = new TrackedSource(chunked(archive, 65_536).slice(0, pieces), { fail: failure });
      await expectReason(importImages(source, store), failure);
      await expectNothing(store, archive);
    }
  });

  test("begins nothing when the signal has fired", async () => {
    const reason = new Error("enough");
    const calls: string[] = [];
    const source = new TrackedSource(chunked(archive, 65_536));
    await expectReason(importImages(source, interruptedStore(new MemoryStore(), (call) => void calls.push(call)), { signal: AbortSignal.abort(reason) }), reason);
    expect({ calls, taken: source.taken, closed: source.closed }).toEqual({ calls: [], taken: 0, closed: true });
  });
});
