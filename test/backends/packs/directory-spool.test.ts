import { readdir, readFile, readlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { DirectorySpoolLimits } from "../../../src/backends/packs/directory-spool.ts";
import { DirectorySpool, removeLeftOverSpools } from "../../../src/backends/packs/directory-spool.ts";
import { PacksStore } from "../../../src/backends/packs/packs-store.ts";
import { importNar } from "../../../src/ingest/ingest-nar.ts";
import { chunked, expectBytes, sampleBytes } from "../../helpers/bytes.ts";
import { withStore } from "../../helpers/pack-stores.ts";
import { expectCode, expectReason } from "../../helpers/promises.ts";
import { directory, file, referenceNar } from "../../helpers/reference-nar.ts";
import { fillSmallDisk, skipWithoutMounts } from "../../helpers/small-disk.ts";
import type { TemporaryDirectory } from "../../helpers/temporary-directory.ts";
import { temporaryDirectory } from "../../helpers/temporary-directory.ts";
import { TrackedSource } from "../../helpers/tracked-source.ts";
import { largeClosure } from "../../helpers/wide-closure.ts";

const MIB = 1024 * 1024;
/** More than is kept in memory. */
const LARGE = largeClosure(20, 256);

async function contentsOf(spool: DirectorySpool): Promise<Uint8Array[]> {
  const contents: Uint8Array[] = [];
  for await (const run of spool.runs()) contents.push(...run);
  return contents;
}

/** Files without a name that this process has open and that were made in a directory. */
async function namelessFiles(directory: string): Promise<string[]> {
  const open = await Promise.all((await readdir("/proc/self/fd")).map((fd) => readlink(join("/proc/self/fd", fd)).catch(() => "")));
  return open.filter((target) => target.startsWith(directory) && target.endsWith(" (deleted)"));
}

async function expectNothingLeft(temporary: TemporaryDirectory): Promise<void> {
  expect(await namelessFiles(temporary.path)).toEqual([]);
  expect((await readdir(temporary.path)).filter((name) => name.startsWith(".spool"))).toEqual([]);
}

describe("DirectorySpool", () => {
  test("runs() gives every message in the order in which they came, wherever they are kept", async () => {
    await using temporary = await temporaryDirectory();
    const arbitraryLength = fc.oneof({ weight: 8, arbitrary: fc.nat(300) }, fc.nat(200_000), fc.constantFrom(MIB - 5, MIB - 4, MIB - 3, MIB, 2 * MIB + 1));
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(arbitraryLength, fc.boolean()), { maxLength: 60 }), fc.constantFrom(0, 300_000, 100 * MIB), async (steps, memoryBytes) => {
        await using spool = new DirectorySpool(temporary.path, { memoryBytes });
        const messages = steps.map(([length], seed) => sampleBytes(length, seed));
        for (const [index, [, isFlushed]] of steps.entries()) {
          spool.add(messages[index] as Uint8Array);
          if (isFlushed) await spool.flush();
        }
        const contents = await contentsOf(spool);
        expect(contents.length).toBe(messages.length);
        for (const [index, message] of messages.entries()) expectBytes(contents[index], message);
      }),
      { numRuns: 60 },
    );
    await expectNothingLeft(temporary);
  });

  test("add() copies the message", async () => {
    await using temporary = await temporaryDirectory();
    await using spool = new DirectorySpool(temporary.path);
    const message = Uint8Array.of(1, 2, 3);
    spool.add(message);
    message.fill(9);
    expect((await contentsOf(spool)).map((bytes) => [...bytes])).toEqual([[1, 2, 3]]);
  });

  test("flush() writes nothing while memory suffices, and then to a file without a name that goes when the spool is disposed", async () => {
    await using temporary = await temporaryDirectory();
    const spool = new DirectorySpool(temporary.path);
    for (let count = 0; count < 4; count++) {
      await spool.flush();
      expect(await namelessFiles(temporary.path)).toEqual([]);
      spool.add(sampleBytes(MIB));
    }
    await spool.flush();
    expect(await readdir(temporary.path)).toEqual([]);
    expect(await namelessFiles(temporary.path)).toHaveLength(1);
    expect(spool.writtenBytes).toBeGreaterThan(2 * MIB);
    await spool[Symbol.asyncDispose]();
    await expectNothingLeft(temporary);
  });

  test.for<readonly [what: string, limits: DirectorySpoolLimits, message: string]>([
    ["directories", { maxDirectories: 3 }, "more than 3 of them"],
    ["bytes", { maxBytes: 39 }, "more than 39 bytes of messages"],
    ["bytes of one message", { maxMessageBytes: 9 }, "a message of 10 bytes, more than 9"],
  ])("add() of too many %s is ERR_LIMIT", async ([, limits, message]) => {
    const spool = new DirectorySpool("/nowhere", limits);
    const add = async (): Promise<void> => {
      for (let count = 0; count < 4; count++) spool.add(new Uint8Array(10));
    };
    await expectCode(add(), "ERR_LIMIT", message);
  });

  test("flush() rejects with ERR_STORE when no file can be made", async () => {
    await using spool = new DirectorySpool("/nowhere", { memoryBytes: 0 });
    spool.add(Uint8Array.of(1));
    await expectCode(spool.flush(), "ERR_STORE", "Cannot write directories aside");
  });
});

describe("putClosure() of more than is kept in memory", () => {
  test("stores it and makes nothing readable before its end", async () => {
    await using temporary = await temporaryDirectory();
    await using store = await PacksStore.open(temporary.path, { create: true });
    let wasOpen = 0;
    const source = new TrackedSource(
      LARGE.map(({ bytes }) => bytes),
      "end",
      async () => {
        wasOpen += (await namelessFiles(temporary.path)).length;
        for (const { digest } of LARGE) expect(await store.directories.get(digest)).toBeUndefined();
      },
    );
    expectBytes(await store.directories.putClosure(source), LARGE.at(-1)?.digest as Uint8Array);
    expect(wasOpen).toBeGreaterThan(0);
    for (const { digest, bytes } of LARGE) expectBytes(await store.directories.get(digest), bytes);
    await expectNothingLeft(temporary);
  });

  test.for(["fails", "is stuck when the signal fires", "is not whole", "breaks a rule", "is cut off by closing the store"] as const)("leaves nothing when its stream %s", async (how) => {
    await using temporary = await temporaryDirectory();
    await using store = await PacksStore.open(temporary.path, { create: true });
    const leaves = LARGE.slice(0, -1).map(({ bytes }) => bytes);
    const reason = new Error("the sender broke");
    switch (how) {
      case "fails":
        await expectReason(store.directories.putClosure(new TrackedSource(leaves, { fail: reason })), reason);
        break;
      case "is stuck when the signal fires": {
        const controller = new AbortController();
        const source = new TrackedSource(leaves, "stuck");
        void source.atEnd.then(() => controller.abort(reason));
        await expectReason(store.directories.putClosure(source, { signal: controller.signal }), reason);
        break;
      }
      case "is not whole":
        await expectCode(store.directories.putClosure(leaves), "ERR_CASTORE_INVALID", "found 20 directories that no other one holds");
        break;
      case "breaks a rule":
        await expectCode(store.directories.putClosure([...leaves, Uint8Array.of(255)]), "ERR_CASTORE_INVALID");
        break;
      case "is cut off by closing the store": {
        const source = new TrackedSource(LARGE.map(({ bytes }) => bytes), "end", async (index) => {
          if (index === leaves.length) await store[Symbol.asyncDispose]();
        });
        await expectCode(store.directories.putClosure(source), "ERR_CLOSED");
      }
    }
    await expectNothingLeft(temporary);
    await withStore(temporary.path, async (again) => {
      for (const { digest } of LARGE) expect(await again.directories.get(digest)).toBeUndefined();
    });
  });

  test("is ERR_NO_SPACE on a full disk, gives the space back and stores nothing of it", async ({ skip }) => {
    skipWithoutMounts(skip, "a closure on a full disk");
    await using temporary = await temporaryDirectory();
    const { codes, names, freeBytesBefore, freeBytesAfter, isAnyReadable } = await fillSmallDisk(temporary.path);
    expect(codes).toEqual(["ERR_NO_SPACE", "stored"]);
    expect(names.filter((name) => name.startsWith(".spool"))).toEqual([]);
    expect(freeBytesAfter).toBe(freeBytesBefore);
    expect(isAnyReadable).toBe(false);
  });
});

test("what a crash left of a spool is no one's file, and goes when a store is made or opened there", async () => {
  await using temporary = await temporaryDirectory();
  const left = join(temporary.path, ".spool-0123456789ab");
  for (const create of [true, false]) {
    await writeFile(left, "");
    await using store = await PacksStore.open(temporary.path, { create });
    await expect(readFile(left)).rejects.toMatchObject({ code: "ENOENT" });
    expect(store.directory).toBe(temporary.path);
  }
});

test("a spool's file whose name another process removes first is of use all the same", async () => {
  await using temporary = await temporaryDirectory();
  let isDone = false;
  const removing = (async () => {
    while (!isDone) await removeLeftOverSpools(temporary.path);
  })();
  for (let times = 0; times < 200; times++) {
    await using spool = new DirectorySpool(temporary.path, { memoryBytes: 0 });
    spool.add(sampleBytes(MIB, times));
    spool.add(Uint8Array.of(1));
    await spool.flush();
    expectBytes((await contentsOf(spool))[0], sampleBytes(MIB, times));
  }
  isDone = true;
  await removing;
  await expectNothingLeft(temporary);
});

test("a NAR of very many directories is put aside while it is read, and is gone when its client has gone", async () => {
  const names = Array.from({ length: 1500 }, (_, index) => `${"x".repeat(240)}${index}`);
  const wide = directory(Object.fromEntries(Array.from({ length: 20 }, (_unused, outer) => [`d${outer}`, directory(Object.fromEntries(names.map((name) => [`${name}-${outer}`, file("")])))])));
  const nar = referenceNar(wide);
  await using temporary = await temporaryDirectory();
  await withStore(temporary.path, async (store) => {
    const { blobs, directories } = store.begin();
    const controller = new AbortController();
    // Its end does not come.
    const source = new TrackedSource(chunked(nar.subarray(0, -1000), 64 * 1024), "stuck");
    const importing = importNar(source, { blobs, directories, signal: controller.signal });
    await source.atEnd;
    await expect.poll(async () => await namelessFiles(temporary.path)).toHaveLength(1);
    controller.abort(new Error("the client has gone"));
    await expect(importing).rejects.toThrow("the client has gone");
    await expect.poll(async () => await namelessFiles(temporary.path)).toEqual([]);
    expect(store.counts().directories).toBe(0);
  });
});
