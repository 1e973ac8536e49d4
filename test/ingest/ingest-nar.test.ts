import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import type { B3Digest } from "../../src/castore/digest.ts";
import { toB3Digest } from "../../src/castore/digest.ts";
import { decodeDirectory } from "../../src/castore/directory-proto.ts";
import type { Node } from "../../src/castore/node.ts";
import { Semaphore } from "../../src/concurrency/semaphore.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import type { ImportedNar, ImportNarOptions } from "../../src/ingest/ingest-nar.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { arbitraryPieceSizes, arbitraryTree, cutInto } from "../arbitrary/nar-tree.ts";
import { chunked, collect, collectItems, cuts, expectBytes, hexes, sampleBytes } from "../helpers/bytes.ts";
import { deferred, eventually, expectCode, expectReason, within } from "../helpers/promises.ts";
import type { Hooks } from "../helpers/recording-services.ts";
import { RecordingStore, untilAborted } from "../helpers/recording-services.ts";
import type { Tree } from "../helpers/reference-nar.ts";
import { directory, file, referenceNar, symlink } from "../helpers/reference-nar.ts";
import { streamOf, TrackedSource } from "../helpers/tracked-source.ts";
import { CASTORE_VECTORS, narVector, PROFILES } from "../helpers/vectors.ts";

const MIB = 1024 * 1024;
/** Files of all kinds: small, empty, the same twice, one that is streamed. */
const LARGE = sampleBytes(MIB + 5, 3);
const TREE = directory({
  bin: directory({ large: file(LARGE, true), run: file("#!/bin/sh\n", true) }),
  doc: directory({ a: file("a"), again: file("a"), empty: file("") }),
  link: symlink("bin/run"),
});
const NAR = referenceNar(TREE);

/** What an import needs of a store. */
function servicesOf({ blobs, directories }: Pick<ImportNarOptions, "blobs" | "directories">): Pick<ImportNarOptions, "blobs" | "directories"> {
  return { blobs, directories };
}

function importBytes(nar: Uint8Array, options: ImportNarOptions): Promise<ImportedNar> {
  return within(importNar(streamOf(chunked(nar, 64 * 1024)), options));
}

describe("trees", () => {
  test.for(
    Object.entries(CASTORE_VECTORS.nars).flatMap(([name, vector]) => PROFILES.map((profile) => [name, profile, vector] as const)),
  )("importNar() finds the root of %s.nar in the %s profile, its NarHash and NarSize", async ([name, profile, vector]) => {
    await using store = new MemoryStore(profile);
    const imported = await importBytes(narVector(`${name}.nar`), { ...servicesOf(store), directorySizeProfile: profile });
    expect(imported.narSize).toBe(vector.narSize);
    expect(hexes([imported.narSha256])).toEqual([vector.narSha256]);
    expect(comparable(imported.root)).toEqual(vector[profile].root);
    for (const { digest, encodedBytes } of vector[profile].directories ?? []) {
      expect((await store.directories.get(digestOf(digest)))?.length, digest).toBe(encodedBytes);
    }
  });

  test("importNar() stores a tree that can be walked back to its NAR, however it is cut", async () => {
    for (const [, pieces] of [...cuts(referenceNar(directory({ a: TREE.type === "directory" ? symlink("x") : TREE, b: file("b") }))), ["", chunked(NAR, 4_097)] as const]) {
      await using store = new MemoryStore();
      const { root } = await importNar(streamOf(pieces), servicesOf(store));
      expectBytes(referenceNar(await treeOf(root, store)), Buffer.concat(pieces));
    }
  });

  test("importNar() stores any tree", async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryTree, arbitraryPieceSizes, async (tree, sizes) => {
        await using store = new MemoryStore();
        const nar = referenceNar(tree);
        const { root, narSize, narSha256 } = await importNar(streamOf(cutInto(nar, sizes)), { ...servicesOf(store), smallFileThreshold: 1_000, bufferedBytes: 10_000 });
        expectBytes(referenceNar(await treeOf(root, store)), nar);
        expect(narSize).toBe(nar.length);
        expectBytes(narSha256, createHash("sha256").update(nar).digest());
      }),
      { numRuns: 60 },
    );
  });

  test("importNar() of a file or a symlink stores no directory", async () => {
    const recording = new RecordingStore();
    expect(await importBytes(referenceNar(symlink("x")), recording)).toMatchObject({ root: { type: "symlink" } });
    expect(await importBytes(referenceNar(file("x")), recording)).toMatchObject({ root: { type: "file", size: 1 } });
    expect(recording.log).toEqual(["putMany", "putMany done"]);
  });

  test("importNar() tells of every file, symlink and directory", async () => {
    let nodes = 0;
    await importBytes(NAR, { ...servicesOf(new MemoryStore()), onNode: () => nodes++ });
    expect(nodes).toBe(9);
  });
});

describe("uploads", () => {
  test("importNar() sends small files in batches and streams large ones", async () => {
    const recording = new RecordingStore();
    const files = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`f${index}`, file(`contents ${index}`)]));
    await importBytes(referenceNar(directory({ ...files, large: file(LARGE) })), recording);
    expect(recording.batches.length).toBeLessThanOrEqual(2);
    expect(recording.batched).toHaveLength(500);
    expect(hexes(recording.streamed)).toEqual(hexes([blake3(LARGE)]));
  });

  test("importNar() sends no file twice", async () => {
    const recording = new RecordingStore();
    const files = Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`f${index}`, file(`contents ${index % 7}`)]));
    await importBytes(referenceNar(directory({ a: directory(files), b: directory(files), e: file(""), f: file("") })), recording);
    expect(new Set(hexes(recording.batched)).size).toBe(8);
    expect(recording.batched).toHaveLength(8);
  });

  test("importNar() sends no file twice across batches", async () => {
    const recording = new RecordingStore();
    const files = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`f${index}`, file(sampleBytes(50_000, index % 10))]));
    await importBytes(referenceNar(directory(files)), { ...servicesOf(recording), bufferedBytes: 120_000 });
    expect(recording.batches.length).toBeGreaterThan(4);
    expect(recording.batched).toHaveLength(10);
  });

  test.for([
    [1, "put"],
    [100, "put"],
    [101, "putMany"],
    [undefined, "putMany"],
  ] as const)("importNar() with a threshold of %s bytes sends a file of 100 with %s()", async ([smallFileThreshold, method]) => {
    const recording = new RecordingStore();
    await importBytes(referenceNar(file("x".repeat(100))), { ...servicesOf(recording), ...(smallFileThreshold !== undefined && { smallFileThreshold }) });
    expect(recording.log).toEqual([method, `${method} done`]);
  });

  test.for([
    [MIB - 1, "putMany"],
    [MIB, "put"],
  ] as const)("importNar() sends a file of %s bytes with %s() when nothing else is said, and never a larger one in a batch", async ([size, method]) => {
    for (const options of [{}, { smallFileThreshold: 100 * MIB }]) {
      const recording = new RecordingStore();
      const { root } = await importBytes(referenceNar(file(sampleBytes(size))), { ...servicesOf(recording), ...options });
      expect(recording.log).toEqual([method, `${method} done`]);
      expect(comparable(root)).toMatchObject({ digest: hex(blake3(sampleBytes(size))), size });
    }
  });

  test("importNar() keeps to the limit of uploads under way", async () => {
    const recording = new RecordingStore({ beforePutMany: pause, beforePut: pause });
    const files = Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`f${index}`, file(sampleBytes(10_000, index))]));
    await importBytes(referenceNar(directory({ ...files, large: file(LARGE) })), { ...servicesOf(recording), concurrency: 3, bufferedBytes: 100_000_000, smallFileThreshold: 10_000 });
    // The next file is read while the answer for the last one is waited for.
    expect(recording.maxInFlight).toBeGreaterThan(1);
    expect(recording.maxInFlight).toBeLessThanOrEqual(3);

    const longPause = async (): Promise<void> => await new Promise((resolve) => setTimeout(resolve, 30));
    const batched = new RecordingStore({ beforePutMany: longPause, beforePut: longPause });
    const big = Object.fromEntries(Array.from({ length: 24 }, (_, index) => [`f${index}`, file(sampleBytes(MIB - 1000, index))]));
    await importBytes(referenceNar(directory({ ...big, large: file(LARGE) })), { ...servicesOf(batched), concurrency: 3 });
    expect(batched.batches.length).toBe(12);
    expect(batched.maxInFlight).toBe(3);
  });

  test("importNar() leaves the memory of a batch as it is until the service is done with it", async () => {
    let blobs = 0;
    const wrong: string[] = [];
    const slow: ImportNarOptions["blobs"] = {
      putMany: async (batch) => {
        await new Promise((resolve) => setTimeout(resolve, 10));
        blobs += batch.length;
        wrong.push(...batch.filter(({ digest, bytes }) => !Buffer.from(blake3(bytes)).equals(digest)).map(({ digest }) => hexes([digest]).join()));
      },
      put: () => Promise.reject(new Error("no file is that large")),
    };
    await using store = new MemoryStore();
    const files = Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`f${index}`, file(sampleBytes(60_000, index))]));
    await importBytes(referenceNar(directory(files)), { blobs: slow, directories: store.directories });
    expect(blobs).toBe(300);
    expect(wrong).toEqual([]);
  });

  test("importNar() keeps to the limit of bytes in memory, and reads no further while it is reached", async () => {
    const held: (() => void)[] = [];
    const recording = new RecordingStore({ beforePutMany: () => new Promise<void>((resolve) => held.push(resolve)) });
    const files = Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`f${String(index).padStart(2, "0")}`, file(sampleBytes(30_000, index))]));
    const source = new TrackedSource(chunked(referenceNar(directory(files)), 1_000));
    const importing = importNar(source, { ...servicesOf(recording), bufferedBytes: 100_000 });
    await eventually(() => held.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 20));
    // One batch of three files under way fills the memory; the fourth file waits for it.
    expect(source.taken).toBeLessThan(100);
    const release = setInterval(() => held.shift()?.(), 1);
    await within(importing);
    clearInterval(release);
    expect(recording.maxBytesInFlight).toBeLessThanOrEqual(100_000);
    expect(recording.batched).toHaveLength(40);
  });

  test("imports that share memory keep to its limit together, and give it back however they end", async () => {
    const shared = new Semaphore(4 * MIB);
    const nar = referenceNar(directory(Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`f${String(index).padStart(2, "0")}`, file(sampleBytes(50_000, index))]))));
    const fail = new Error("the client has gone");
    const gone = (bytes: number): TrackedSource => new TrackedSource(chunked(nar.subarray(0, bytes), 10_000), { fail });
    for (const bytes of [100, 70_000, 1_000_000, 2_500_000]) {
      for (let count = 0; count < 5; count++) await expectReason(importNar(gone(bytes), { ...servicesOf(new RecordingStore()), sharedBytes: shared }), fail);
    }
    await expectReason(importBytes(nar, { ...servicesOf(new RecordingStore({ beforePutMany: () => Promise.reject(fail) })), sharedBytes: shared }), fail);
    expect(shared.held).toBe(0);
    let most = 0;
    const watch = async (): Promise<void> => {
      most = Math.max(most, shared.held);
      await pause();
    };
    await within(Promise.all(Array.from({ length: 2 }, () => importBytes(nar, { ...servicesOf(new RecordingStore({ beforePutMany: watch })), sharedBytes: shared }))));
    expect(most).toBeGreaterThan(MIB);
    expect(most).toBeLessThanOrEqual(4 * MIB);
    expect(shared.held).toBe(0);
  });

  test("importNar() takes a file that is larger than its memory limit", async () => {
    const recording = new RecordingStore();
    const { root } = await importBytes(referenceNar(directory({ a: file(sampleBytes(500_000)), b: file("b") })), { ...servicesOf(recording), bufferedBytes: 1_000 });
    expect(recording.batched).toHaveLength(2);
    expectBytes(referenceNar(await treeOf(root, recording.store)), referenceNar(directory({ a: file(sampleBytes(500_000)), b: file("b") })));
  });

  test("importNar() stores directories after every blob, and resolves after both", async () => {
    const recording = new RecordingStore({ beforePutMany: pause, beforePut: pause, beforePutClosure: pause });
    const files = Object.fromEntries(Array.from({ length: 12 }, (_, index) => [`f${index}`, file(sampleBytes(400_000, index))]));
    await importBytes(referenceNar(directory({ ...files, large: file(LARGE) })), recording);
    expect(recording.inFlight).toBe(0);
    expect(recording.log.slice(-2)).toEqual(["putClosure", "putClosure done"]);
    expect(recording.log.filter((entry) => entry === "putClosure")).toHaveLength(1);
  });

  test("importNar() gives every upload a signal that does not fire when all is well", async () => {
    const recording = new RecordingStore();
    await importBytes(NAR, recording);
    expect(recording.signals).toHaveLength(recording.log.length / 2);
    expect(recording.signals.every((signal) => signal?.aborted === false)).toBe(true);
  });

  test("importNar() leaves no listener on a signal that lives on", async () => {
    const controller = new AbortController();
    const counting = countListeners(controller.signal);
    await importBytes(NAR, { ...servicesOf(new MemoryStore()), signal: controller.signal });
    await expectCode(importBytes(NAR.subarray(0, 500), { ...servicesOf(new MemoryStore()), signal: controller.signal }), "ERR_NAR_INVALID");
    expect(counting.count).toBe(0);
  });
});

describe("failures", () => {
  const FAILURE = new Error("the first thing that went wrong");
  const many = Object.fromEntries(Array.from({ length: 400 }, (_, index) => [`f${String(index).padStart(3, "0")}`, file(sampleBytes(20_000, index))]));
  const MANY = referenceNar(directory(many));

  test("importNar() rejects with the first upload's error, aborts the others and stops reading", async () => {
    let calls = 0;
    const recording = new RecordingStore({
      beforePutMany: async (_blobs, options) => {
        if (++calls < 3) return await untilAborted(options);
        throw FAILURE;
      },
    });
    const source = new TrackedSource(chunked(MANY, 10_000), "end", pauseBetweenBatches);
    await expectReason(importNar(source, recording), FAILURE);
    expect(source.taken).toBeLessThan(700);
    expect(source.closed).toBe(true);
    expect(recording.signals.every((signal) => signal?.aborted === true && signal.reason === FAILURE)).toBe(true);
    await eventually(() => recording.inFlight === 0);
    expect(recording.log).not.toContain("putClosure");
  });

  test("importNar() rejects with an upload's error while its source is stuck", async () => {
    const recording = new RecordingStore({ beforePutMany: () => Promise.reject(FAILURE) });
    const source = new TrackedSource(chunked(MANY.subarray(0, 3_000_000), 10_000), "stuck");
    await expectReason(importNar(source, { ...servicesOf(recording), bufferedBytes: 1_000_000 }), FAILURE);
    expect(source.closed).toBe(true);
  });

  test("importNar() rejects with the error of a large file's upload", async () => {
    const before = new RecordingStore({ beforePut: () => Promise.reject(FAILURE) });
    await expectReason(importBytes(NAR, before), FAILURE);
    expect(before.log).not.toContain("putClosure");

    const store = new MemoryStore();
    const halfway = { ...servicesOf(store), blobs: { putMany: store.blobs.putMany.bind(store.blobs), put: (content: AsyncIterable<Uint8Array>) => failAfterOne(content, FAILURE) } };
    const source = new TrackedSource(chunked(NAR, 10_000));
    await expectReason(importNar(source, halfway), FAILURE);
    expect(source.closed).toBe(true);
  });

  test("importNar() rejects with the error of the directories", async () => {
    const source = new TrackedSource(chunked(NAR, 10_000));
    await expectReason(importNar(source, new RecordingStore({ beforePutClosure: () => Promise.reject(FAILURE) })), FAILURE);
    expect(source.closed).toBe(true);
  });

  test("importNar() rejects with its source's error, aborts what is under way and stores no directory", async () => {
    const recording = new RecordingStore({ beforePutMany: (_blobs, options) => untilAborted(options) });
    const source = new TrackedSource(chunked(MANY.subarray(0, 3_000_000), 10_000), { fail: FAILURE });
    await expectReason(importNar(source, { ...servicesOf(recording), bufferedBytes: 10_000_000 }), FAILURE);
    expect(recording.log).toContain("putMany");
    expect(recording.signals.every((signal) => signal?.aborted)).toBe(true);
    expect(recording.log).not.toContain("putClosure");
  });

  test("importNar() rejects a NAR that breaks a rule, closes its source and stores no directory", async () => {
    const recording = new RecordingStore();
    const broken = referenceNar({ type: "directory", entries: [[Buffer.from("b"), TREE], [Buffer.from("a"), TREE]] });
    const source = new TrackedSource([...chunked(broken, 10_000), NAR]);
    await expectCode(importNar(source, recording), "ERR_NAR_INVALID", 'entry "a" follows "b"');
    expect(source).toMatchObject({ returned: true, ended: false });
    expect(recording.log).not.toContain("putClosure");
  });

  test("importNar() rejects with the error that came first, whatever follows it", async () => {
    const recording = new RecordingStore({ beforePutMany: () => Promise.reject(FAILURE) });
    const source = new TrackedSource(chunked(MANY.subarray(0, 3_000_000), 10_000), { fail: new Error("later") }, pause);
    await expectReason(importNar(source, { ...servicesOf(recording), bufferedBytes: 100_000 }), FAILURE);
  });

  test.for([0, 1, 7, 8])("importNar() rejects %s bytes of something else than zeros where the NAR has ended", async (count) => {
    const recording = new RecordingStore();
    const trailing = Uint8Array.from({ length: count + 1 }, (_, index) => (index === count ? 1 : 0));
    for (const pieces of [[Buffer.concat([NAR, trailing])], [NAR, trailing]]) {
      await expectCode(importNar(streamOf(pieces), recording), "ERR_NAR_INVALID", `found data after the end at byte ${NAR.length}`);
    }
    expect(recording.log).not.toContain("putClosure");
  });

  test("importNar() of a NAR cut short at every byte rejects, and leaves no directory readable", async () => {
    const nar = narVector("popdirectories.nar");
    await using store = new MemoryStore();
    const stored = new Set<B3Digest>();
    for (let end = 0; end < nar.length; end++) {
      const source = new TrackedSource(chunked(nar.subarray(0, end), 100));
      await expectCode(importNar(source, servicesOf(store)), "ERR_NAR_INVALID", `input ends at byte ${end}`);
      expect(source.closed).toBe(true);
    }
    for (const { digest } of CASTORE_VECTORS.nars["popdirectories"]?.documented.directories ?? []) {
      if ((await store.directories.get(digestOf(digest))) !== undefined) stored.add(digestOf(digest));
    }
    expect([...stored]).toEqual([]);
    await importBytes(nar, servicesOf(store));
  });

  test("importNar() rejects with ERR_MISMATCH when a service calls a blob by another name", async () => {
    const store = new MemoryStore();
    const wrong = toB3Digest(new Uint8Array(32).fill(7));
    const lying = { putMany: store.blobs.putMany.bind(store.blobs), put: async (content: AsyncIterable<Uint8Array>) => (await collect(content), wrong) };
    await expectCode(importBytes(NAR, { ...servicesOf(store), blobs: lying }), "ERR_MISMATCH", "which is not its digest");
  });

  test("importNar() rejects with ERR_MISMATCH when a service does not read a blob to its end", async () => {
    const store = new MemoryStore();
    const hasty = { putMany: store.blobs.putMany.bind(store.blobs), put: async () => toB3Digest(blake3(LARGE)) };
    await expectCode(importBytes(NAR, { ...servicesOf(store), blobs: hasty }), "ERR_MISMATCH", "stopped reading before its end");
  });

  test("importNar() rejects with ERR_MISMATCH when a service calls the root by another name", async () => {
    const store = new MemoryStore();
    const lying = { putClosure: async () => toB3Digest(new Uint8Array(32)) };
    await expectCode(importBytes(NAR, { ...servicesOf(store), directories: lying }), "ERR_MISMATCH", "calls the root");
  });

  test("importNar() rejects a tree whose directories take too much, with ERR_LIMIT and before its end", async () => {
    const wide = directory(Object.fromEntries(Array.from({ length: 2_000 }, (_, index) => [`f${index}`, file("x")])));
    const nar = referenceNar(wide);
    // Each directory counts for 1 KiB beside its message.
    const size = ((await messageOf(nar)) as Uint8Array).length + 1024;
    await importBytes(nar, { ...servicesOf(new MemoryStore()), maxDirectoryBytes: size });
    const source = new TrackedSource(chunked(nar, 1_000));
    const recording = new RecordingStore();
    await expectCode(importNar(source, { ...servicesOf(recording), maxDirectoryBytes: 10_000 }), "ERR_LIMIT", "more than 10000 bytes");
    expect(source).toMatchObject({ returned: true, ended: false });
    expect(recording.log).not.toContain("putClosure");
    await expectCode(importBytes(nar, { ...servicesOf(new MemoryStore()), maxDirectoryBytes: size - 1 }), "ERR_LIMIT");
    const spread = directory(Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`d${index}`, directory({ [`f${index}`]: file("") })])));
    await expectCode(importBytes(referenceNar(spread), { ...servicesOf(new MemoryStore()), maxDirectoryBytes: 300_000 }), "ERR_LIMIT");
  });

  test.for([Number.NaN, -1])("importNar() refuses a smallFileThreshold of %s", async (smallFileThreshold) => {
    await expect(importBytes(NAR, { ...servicesOf(new MemoryStore()), smallFileThreshold })).rejects.toBeInstanceOf(RangeError);
  });
});

describe("trees of very many directories", () => {
  const reason = { why: "the client left" };
  /** Directory messages of three megabytes. */
  const many = referenceNar(
    directory(Object.fromEntries(Array.from({ length: 20 }, (_, outer) => [`d${outer}`, directory(Object.fromEntries(Array.from({ length: 500 }, (_unused, inner) => [`${"x".repeat(240)}${outer}-${inner}`, file("")])))]))),
  );

  /** Reads what comes as the store does, and says how many have come. */
  function countingClosure(store: MemoryStore): { readonly came: () => number; readonly directories: ImportNarOptions["directories"] } {
    let came = 0;
    async function* counted(source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
      for await (const bytes of source) {
        came++;
        yield bytes;
      }
    }
    return { came: () => came, directories: { putsClosuresAside: true, putClosure: async (source, options) => await store.directories.putClosure(counted(source), options) } };
  }

  test("importNar() sends directories while it reads, and the end of them when all files are stored", async () => {
    await using store = new MemoryStore();
    const { came, directories } = countingClosure(store);
    const reached = deferred();
    const goOn = deferred();
    const isStored = deferred();
    const blobs: ImportNarOptions["blobs"] = {
      put: store.blobs.put.bind(store.blobs),
      putMany: async (items, options) => {
        reached.resolve();
        await goOn.promise;
        await store.blobs.putMany(items, options);
        isStored.resolve();
      },
    };
    const importing = importNar(streamOf(chunked(many, 64 * 1024)), { blobs, directories });
    await reached.promise;
    // Two of the three megabytes went before; what was given last is on its way when the files are.
    await eventually(() => came() >= 13);
    expect(came()).toBeLessThan(21);
    goOn.resolve();
    await isStored.promise;
    const { root } = await importing;
    expect(came()).toBe(21);
    expectBytes(referenceNar(await treeOf(root, store)), many);
  });

  test("importNar() gives them to a service that does not put them aside when it has read all, in an array", async () => {
    await using store = new MemoryStore();
    const source = new TrackedSource(chunked(many, 64 * 1024));
    const given: unknown[] = [];
    const directories: ImportNarOptions["directories"] = {
      putClosure: async (messages, options) => {
        given.push(source.ended, Array.isArray(messages));
        return await store.directories.putClosure(messages, options);
      },
    };
    await importNar(source, { ...servicesOf(store), directories });
    expect(given).toEqual([true, true]);
  });

  test("importNar() reads no further when a service has failed in the middle of the directories", async () => {
    const source = new TrackedSource(chunked(many, 10_000), "end", async (index) => (index % 50 === 0 ? await pause() : undefined));
    const failing: ImportNarOptions["directories"] = {
      putsClosuresAside: true,
      putClosure: async (messages) => {
        for await (const _message of messages) throw new Error("the disk is on fire");
        return toB3Digest(new Uint8Array(32));
      },
    };
    await expect(within(importNar(source, { ...servicesOf(new MemoryStore()), directories: failing }))).rejects.toThrow("the disk is on fire");
    expect(source).toMatchObject({ returned: true, ended: false });
  });

  test("importNar() rejects with ERR_MISMATCH when a service answers before the directories have ended", async () => {
    const hasty = { putsClosuresAside: true, putClosure: async () => toB3Digest(new Uint8Array(32)) };
    await expectCode(importBytes(many, { ...servicesOf(new MemoryStore()), directories: hasty }), "ERR_MISMATCH", "calls the root");
  });

  test("importNar() tells a service that waits for directories when the NAR turns out to be damaged", async () => {
    const store = new MemoryStore();
    const { came, directories } = countingClosure(store);
    let storing: Promise<unknown> | undefined;
    const watched: ImportNarOptions["directories"] = {
      putsClosuresAside: true,
      // One that heeds no signal.
      putClosure: (source) => {
        const stored = directories.putClosure(source);
        storing = stored;
        return stored;
      },
    };
    await expectCode(importBytes(many.subarray(0, -100), { ...servicesOf(store), directories: watched }), "ERR_NAR_INVALID");
    expect(came()).toBeGreaterThan(0);
    await expect(within(storing as Promise<unknown>)).rejects.toMatchObject({ code: "ERR_NAR_INVALID" });
  });

  test("importNar() rejects with the signal's reason while a service takes no more directories", async () => {
    const controller = new AbortController();
    const stuck: ImportNarOptions["directories"] = {
      putsClosuresAside: true,
      putClosure: async (messages) => {
        for await (const _message of messages) {
          controller.abort(reason);
          await new Promise(() => undefined);
        }
        return toB3Digest(new Uint8Array(32));
      },
    };
    await expectReason(importBytes(many, { ...servicesOf(new MemoryStore()), directories: stuck, signal: controller.signal }), reason);
  });
});

describe("cancellation", () => {
  const reason = { why: "the client left" };

  test.for(["putMany", "put", "putClosure"] as const)("importNar() rejects with the signal's reason though %s() heeds no signal and never ends", async (method) => {
    const { blobs, directories } = servicesOf(new MemoryStore());
    const controller = new AbortController();
    const stuck = async (): Promise<never> => {
      controller.abort(reason);
      return await new Promise(() => undefined);
    };
    const services = {
      blobs: { putMany: method === "putMany" ? stuck : blobs.putMany.bind(blobs), put: method === "put" ? stuck : blobs.put.bind(blobs) },
      directories: { putClosure: method === "putClosure" ? stuck : directories.putClosure.bind(directories) },
    };
    const nar = referenceNar(directory({ large: file("x".repeat(5_000)), small: file("y") }));
    await expectReason(importBytes(nar, { ...services, smallFileThreshold: 1_000, signal: controller.signal }), reason);
  });

  test("importNar() rejects with the reason of a signal that has fired, and reads nothing", async () => {
    const source = new TrackedSource([NAR]);
    const recording = new RecordingStore();
    await expectReason(importNar(source, { ...servicesOf(recording), signal: AbortSignal.abort(reason) }), reason);
    expect(source).toMatchObject({ taken: 0, closed: true });
    expect(recording.log).toEqual([]);
  });

  test.for([0, 50, 200, 900, 500_000])("importNar() rejects with the signal's reason while its source is stuck after %s bytes", async (size) => {
    const controller = new AbortController();
    const source = new TrackedSource(chunked(NAR.subarray(0, size), 10_000), "stuck");
    const recording = new RecordingStore();
    const importing = importNar(source, { ...servicesOf(recording), signal: controller.signal });
    void source.atEnd.then(() => controller.abort(reason));
    await expectReason(importing, reason);
    expect(source.closed).toBe(true);
    expect(recording.log).not.toContain("putClosure");
  });

  test.for([
    ["putMany", { beforePutMany: (_blobs, options) => untilAborted(options) }],
    ["put", { beforePut: untilAborted }],
    ["putClosure", { beforePutClosure: untilAborted }],
  ] satisfies [string, Hooks][])("importNar() rejects with the signal's reason while %s() is stuck", async ([method, hooks]) => {
    const controller = new AbortController();
    const recording = new RecordingStore(hooks);
    const source = new TrackedSource(chunked(NAR, 10_000));
    const importing = importNar(source, { ...servicesOf(recording), signal: controller.signal });
    void eventually(() => recording.log.includes(method)).then(() => controller.abort(reason));
    await expectReason(importing, reason);
    expect(source.closed).toBe(true);
    expect(recording.signals.at(-1)?.reason).toBe(reason);
  });

  test("importNar() rejects with the signal's reason while it waits for memory", async () => {
    const controller = new AbortController();
    const recording = new RecordingStore({ beforePutMany: (_blobs, options) => untilAborted(options) });
    const files = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [`f${index}`, file(sampleBytes(60_000, index))]));
    const importing = importNar(streamOf(chunked(referenceNar(directory(files)), 10_000)), { ...servicesOf(recording), bufferedBytes: 100_000, signal: controller.signal });
    void eventually(() => recording.inFlight === 1).then(() => setTimeout(() => controller.abort(reason), 10));
    await expectReason(importing, reason);
  });

  test("importNar() rejects with the signal's reason when it fires between two pieces", async () => {
    const controller = new AbortController();
    const source = new TrackedSource(chunked(NAR, 1_000), "end", (index) => {
      if (index === 100) controller.abort(reason);
    });
    await expectReason(importNar(source, { ...servicesOf(new MemoryStore()), signal: controller.signal }), reason);
    expect(source.taken).toBeLessThan(103);
    expect(source.closed).toBe(true);
  });

  test("an aborted import leaves another one that uses the same services alone", async () => {
    const store = new MemoryStore();
    const controller = new AbortController();
    const reached = deferred();
    const source = new TrackedSource(chunked(NAR.subarray(0, 600_000), 10_000), "stuck");
    void source.atEnd.then(reached.resolve);
    const aborted = importNar(source, { ...servicesOf(store), signal: controller.signal });
    await reached.promise;
    const other = importBytes(NAR, servicesOf(store));
    controller.abort(reason);
    await expectReason(aborted, reason);
    expectBytes(referenceNar(await treeOf((await other).root, store)), NAR);
  });
});

/** Lets what is under way fail before the whole NAR has been read. */
async function pauseBetweenBatches(index: number): Promise<void> {
  if (index % 50 === 0) await pause();
}

async function pause(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 2));
}

async function failAfterOne(content: AsyncIterable<Uint8Array>, failure: Error): Promise<never> {
  for await (const _piece of content) {
    void _piece;
    throw failure;
  }
  return expect.unreachable();
}

/** The root directory's message of a NAR. */
async function messageOf(nar: Uint8Array): Promise<Uint8Array | undefined> {
  await using store = new MemoryStore();
  const { root } = await importBytes(nar, servicesOf(store));
  return root.type === "directory" ? await store.directories.get(root.digest) : undefined;
}

/** A stored tree, read back entry by entry. */
async function treeOf(node: Node, store: MemoryStore): Promise<Tree> {
  if (node.type === "symlink") return { type: "symlink", target: node.target };
  if (node.type === "file") {
    const [bytes] = await collectItems(store.blobs.readMany([node]));
    expect(bytes?.length).toBe(node.size);
    return { type: "file", bytes: bytes as Uint8Array, executable: node.executable };
  }
  const message = await store.directories.get(node.digest);
  const entries: [Uint8Array, Tree][] = [];
  for (const entry of decodeDirectory(message as Uint8Array)) entries.push([entry.name, await treeOf(entry.node, store)]);
  return { type: "directory", entries };
}

function comparable(node: Node): object {
  if (node.type === "symlink") return { type: "symlink", target: Buffer.from(node.target).toString() };
  return { ...node, digest: hex(node.digest) };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

function digestOf(text: string): B3Digest {
  return toB3Digest(new Uint8Array(Buffer.from(text, "hex")));
}

function countListeners(signal: AbortSignal): { readonly count: number } {
  const state = { count: 0 };
  const { add, remove } = { add: signal.addEventListener.bind(signal), remove: signal.removeEventListener.bind(signal) };
  signal.addEventListener = (...parameters: Parameters<typeof add>) => {
    state.count++;
    add(...parameters);
  };
  signal.removeEventListener = (...parameters: Parameters<typeof remove>) => {
    state.count--;
    remove(...parameters);
  };
  return state;
}

