/**
 * Several writers on one store: in one process, in several, and one that is killed.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test, vi } from "vitest";
import { IndexDatabase } from "../../../src/backends/packs/index-database.ts";
import { PacksStore } from "../../../src/backends/packs/packs-store.ts";
import { toSmallBlob } from "../../../src/castore/blob-service.ts";
import type { B3Digest } from "../../../src/castore/digest.ts";
import { collectItems, expectBytes, sampleBytes } from "../../helpers/bytes.ts";
import { checked, expectConsistent, expectImported, importTree, withStore } from "../../helpers/pack-stores.ts";
import { pathInfoOf, signatureOf } from "../../helpers/path-infos.ts";
import { temporaryDirectory } from "../../helpers/temporary-directory.ts";
import { treeOfWork } from "../../helpers/work-trees.ts";

/** Pieces of work that each process does. */
const WORKS = 8;
const WRITER = fileURLToPath(new URL("../../helpers/write-to-store.ts", import.meta.url));

test("two stores on one directory see each other's writes as soon as they are promised", async () => {
  await using temporary = await temporaryDirectory();
  await using one = await PacksStore.open(temporary.path, { create: true });
  await using other = await PacksStore.open(temporary.path);
  for (let number = 0; number < 5; number++) {
    const [writer, reader] = number % 2 === 0 ? [one, other] : [other, one];
    const imported = await importTree(writer, `tree-${number}`, treeOfWork(0, number));
    await expectImported(reader, imported);
  }
  expect(await checked(one)).toEqual([]);
});

test("two stores on one directory write at once, and neither loses anything", async () => {
  await using temporary = await temporaryDirectory();
  await using one = await PacksStore.open(temporary.path, { create: true });
  await using other = await PacksStore.open(temporary.path);
  const imported = await Promise.all(
    Array.from({ length: 12 }, (_, number) => importTree(number % 2 === 0 ? one : other, `tree-${number}`, treeOfWork(number % 2, Math.floor(number / 2)))),
  );
  for (const tree of imported) {
    await expectImported(one, tree);
    await expectImported(other, tree);
  }
  expect(await checked(one)).toEqual([]);
  await withStore(
    temporary.path,
    async (rebuilt) => {
      for (const tree of imported) await expectImported(rebuilt, tree);
    },
    { rebuildIndex: true },
  );
});

test("two stores on one directory that put signatures for one path keep them all", async () => {
  await using temporary = await temporaryDirectory();
  await using one = await PacksStore.open(temporary.path, { create: true });
  await using other = await PacksStore.open(temporary.path);
  await Promise.all(
    Array.from({ length: 20 }, (_, seed) => (seed % 2 === 0 ? one : other).pathInfos.put(pathInfoOf("a", { signatures: [signatureOf(`key-${seed}`, seed)] }))),
  );
  expect((await one.pathInfos.get(pathInfoOf("a").storePath.digest))?.signatures).toHaveLength(20);
});

test("a store that is opened while another writes takes in nothing half-written", async () => {
  await using temporary = await temporaryDirectory();
  await using writer = await PacksStore.open(temporary.path, { create: true });
  const blobs = Array.from({ length: 40 }, (_, seed) => toSmallBlob(sampleBytes(150_000, seed)));
  const writing = Promise.all(blobs.map((blob) => writer.blobs.putMany([blob])));
  for (let times = 0; times < 10; times++) {
    await withStore(temporary.path, async (store) => {
      const missing = new Set((await store.blobs.findMissing(blobs.map(({ digest }) => digest))).map(String));
      for (const blob of blobs.filter(({ digest }) => !missing.has(String(digest)))) {
        expectBytes((await collectItems(store.blobs.readMany([blob])))[0], blob.bytes);
      }
    });
  }
  await writing;
  await withStore(temporary.path, async (store) => expect(await checked(store)).toEqual([]));
});

test("processes write to one store at once, and every one of them reads it all", { timeout: 120_000 }, async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  const writers = [1, 2].map((seed) => startWriter(temporary.path, seed, WORKS));
  const own = await Promise.all(Array.from({ length: WORKS }, (_, number) => importTree(store, `work-3-${number}`, treeOfWork(3, number))));
  for (const { done } of writers) expect(await done).toEqual({ code: 0, promised: Array.from({ length: WORKS }, (_, number) => number) });
  for (const one of own) await expectImported(store, one);
  for (const seed of [1, 2]) for (let number = 0; number < WORKS; number++) await expectWork(store, seed, number);
  expect(await checked(store)).toEqual([]);
});

test("a process that is killed while it writes has kept every promise it made", { timeout: 120_000 }, async () => {
  await using temporary = await temporaryDirectory();
  for (const seed of [1, 2]) {
    const { child, done, promised } = startWriter(temporary.path, seed, 10_000);
    while (promised.length < 3 * seed) await once(child.stdout as NodeJS.ReadableStream, "data");
    child.kill("SIGKILL");
    expect((await done).code).toBeNull();
    await withStore(temporary.path, async (store) => {
      for (const number of promised) await expectWork(store, seed, number);
      // What came after the last promise is there as a whole or not at all.
      const next = promised.length;
      await using elsewhere = await temporaryDirectory();
      const { root } = await withStore(elsewhere.path, (other) => importTree(other, "x", treeOfWork(seed, next)));
      await expectConsistent(store, { name: `work-${seed}-${next}`, tree: treeOfWork(seed, next), root });
      expect((await checked(store)).filter(({ type }) => type === "damage")).toEqual([]);
    });
  }
});

async function expectWork(store: PacksStore, seed: number, number: number): Promise<void> {
  const name = `work-${seed}-${number}`;
  const pathInfo = await store.pathInfos.get(pathInfoOf(name).storePath.digest);
  expect(pathInfo, name).toBeDefined();
  await expectImported(store, { name, tree: treeOfWork(seed, number), root: (pathInfo as NonNullable<typeof pathInfo>).root });
}

interface Writer {
  readonly child: ChildProcess;
  /** Numbers of works that it said are durable. */
  readonly promised: number[];
  readonly done: Promise<{ readonly code: number | null; readonly promised: readonly number[] }>;
}

function startWriter(path: string, seed: number, count: number): Writer {
  const child = spawn(process.execPath, ["--import", "tsx", WRITER, path, String(seed), String(count)], { stdio: ["ignore", "pipe", "inherit"] });
  const promised: number[] = [];
  child.stdout.setEncoding("utf8").on("data", (text: string) => promised.push(...text.trim().split("\n").map(Number)));
  const done = once(child, "close").then(([code]) => ({ code: code as number | null, promised }));
  return { child, promised, done };
}

test("an index that has looked things up takes in what it is given for the same event, though another has written meanwhile, and shows both", async () => {
  await using temporary = await temporaryDirectory();
  await withStore(temporary.path, async () => undefined);
  const file = join(temporary.path, "index.sqlite");
  using one = new IndexDatabase(file);
  using other = new IndexDatabase(file);
  // What was looked at counts for a millisecond, which may pass while the other writes.
  const clock = vi.spyOn(performance, "now").mockReturnValue(0);
  onTestFinished(() => clock.mockRestore());
  const digests = [1, 2].map((seed) => toSmallBlob(sampleBytes(10, seed)).digest);
  const add = (index: IndexDatabase, digest: (typeof digests)[0] | undefined): void => {
    if (digest === undefined) return;
    index.addBlocks([{ pack: index.packId("a.pack"), offset: 16, length: 100, chunks: [{ digest, length: 10 }], records: [] }]);
  };
  for (let look = 0; look < 3; look++) expect(digests.map((digest) => one.hasChunk(digest))).toEqual([false, false]);
  add(other, digests[0]);
  // As it was when it first looked.
  expect(one.hasChunk(digests[0] as B3Digest)).toBe(false);
  add(one, digests[1]);
  expect(digests.map((digest) => one.hasChunk(digest))).toEqual([true, true]);
  // And what others have written is there for the next event.
  const late = toSmallBlob(sampleBytes(10, 3)).digest;
  expect([one.hasChunk(late), one.hasChunk(late)]).toEqual([false, false]);
  add(other, late);
  await new Promise((resolve) => setImmediate(resolve));
  expect(one.hasChunk(late)).toBe(true);
});

test("an index that has looked things up shows what another has written to whoever looks a millisecond later, in the same turn, too", async () => {
  await using temporary = await temporaryDirectory();
  const file = join(temporary.path, "index.sqlite");
  using one = new IndexDatabase(file);
  using other = new IndexDatabase(file);
  const clock = vi.spyOn(performance, "now").mockReturnValue(0);
  onTestFinished(() => clock.mockRestore());
  const { digest } = toSmallBlob(sampleBytes(10, 1));
  expect([one.hasChunk(digest), one.hasChunk(digest)]).toEqual([false, false]);
  other.addBlocks([{ pack: other.packId("a.pack"), offset: 16, length: 100, chunks: [{ digest, length: 10 }], records: [] }]);
  clock.mockReturnValue(1.1);
  expect(one.hasChunk(digest)).toBe(true);
});
