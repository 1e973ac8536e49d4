/**
 * What is left when a process or a machine goes down: stores copied, cut short and bereft of their index at any point.
 */
import { copyFile, cp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { expect, test } from "vitest";
import { PacksStore } from "../../../src/backends/packs/packs-store.ts";
import { toSmallBlob } from "../../../src/castore/blob-service.ts";
import { sampleBytes } from "../../helpers/bytes.ts";
import type { ImportedTree } from "../../helpers/pack-stores.ts";
import { checked, expectConsistent, expectImported, importTree, onlyPack, snapshot, withStore } from "../../helpers/pack-stores.ts";
import { directory, file, symlink } from "../../helpers/reference-nar.ts";
import { temporaryDirectory } from "../../helpers/temporary-directory.ts";
import { sourceOf } from "../../helpers/tracked-source.ts";

const FIRST = directory({ bin: directory({ run: file("#!/bin/sh\n", true) }), link: symlink("bin/run") });
const SECOND = directory({ large: file(sampleBytes(700_000, 1)), doc: directory({ a: file("a"), b: file("b") }) });
/** Shares files and a directory with the others. */
const THIRD = directory({ bin: directory({ run: file("#!/bin/sh\n", true) }), new: directory({ c: file("c"), d: file("dd"), e: file("e") }), z: file("z") });

/** The least with every kind of record. */
const SMALL = directory({ d: directory({ f: file("contents") }) });

test("a store that is copied between two writes has everything that was written before", async () => {
  await using directory_ = await temporaryDirectory();
  const path = join(directory_.path, "store");
  const imported: ImportedTree[] = [];
  await using store = await PacksStore.open(path, { create: true });
  for (const [index, tree] of [FIRST, SECOND, THIRD].entries()) {
    imported.push(await importTree(store, `tree-${index}`, tree));
    const copy = join(directory_.path, `copy-${index}`);
    await snapshot(path, copy);
    await using opened = await PacksStore.open(copy);
    for (const one of imported) await expectImported(opened, one);
    expect(await checked(opened)).toEqual([]);
  }
});

test("a store whose index was lost has everything again when it is opened", async () => {
  await using directory_ = await temporaryDirectory();
  const { path } = directory_;
  const imported = await withStore(path, async (store) => [
    await importTree(store, "first", FIRST),
    await importTree(store, "second", SECOND),
    await importTree(store, "third", THIRD),
  ]);
  const counts = await withStore(path, async (store) => store.counts());
  for (const name of ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"]) await rm(join(path, name), { force: true });
  await withStore(path, async (store) => {
    for (const one of imported) await expectImported(store, one);
    expect(store.counts()).toEqual(counts);
    expect(await checked(store)).toEqual([]);
  });
});

test("a store whose index is as it was before the last writes takes them in from the packs", async () => {
  await using directory_ = await temporaryDirectory();
  const [path, copy] = ["store", "copy"].map((name) => join(directory_.path, name)) as [string, string];
  await using store = await PacksStore.open(path, { create: true });
  const first = await importTree(store, "first", FIRST);
  await snapshot(path, copy);
  const others = [await importTree(store, "second", SECOND), await importTree(store, "third", THIRD)];
  await cp(await onlyPack(path), await onlyPack(copy));
  await withStore(copy, async (opened) => {
    for (const one of [first, ...others]) await expectImported(opened, one);
    expect(await checked(opened)).toEqual([]);
  });
});

test.for([
  ["an index as it was before", 1, []],
  ["no index", 7, ["index.sqlite"]],
] as const)("a pack cut short at any byte of its last import, with %s, leaves the store whole", { timeout: 120_000 }, async ([, step, lost]) => {
  await using directory_ = await temporaryDirectory();
  const [path, before, cut] = ["store", "before", "cut"].map((name) => join(directory_.path, name)) as [string, string, string];
  const imported = await withStore(
    path,
    async (store) => {
      const first = await importTree(store, "first", FIRST);
      await snapshot(path, before);
      return { first, third: await importTree(store, "third", SMALL) };
    },
    { compression: "none" },
  );
  // Closing it leaves one file of the index, which is quick to put back.
  await withStore(before, async () => undefined);
  for (const name of lost) await rm(join(before, name), { force: true });
  const pack = await readFile(await onlyPack(path));
  const committed = (await readFile(await onlyPack(before))).length;
  expect(pack.length - committed).toBeGreaterThan(400);
  await cp(before, cut, { recursive: true });
  const cutPack = await onlyPack(cut);
  const outcomes = new Set<string>();
  for (let end = committed; end <= pack.length; end += step) {
    if (lost.length === 0) await copyFile(join(before, "index.sqlite"), join(cut, "index.sqlite"));
    else await rm(join(cut, "index.sqlite"), { force: true });
    await writeFile(cutPack, pack.subarray(0, end));
    await using store = await PacksStore.open(cut);
    await expectImported(store, imported.first);
    await expectConsistent(store, imported.third);
    const found = await checked(store);
    expect(found.filter(({ type }) => type === "damage")).toEqual([]);
    outcomes.add(found.length > 0 ? "torn" : "at a block's end");
  }
  expect(outcomes).toEqual(new Set(["torn", "at a block's end"]));
});

test("a store whose pack was cut short is written to again, and opened again, without harm", async () => {
  await using directory_ = await temporaryDirectory();
  const { path } = directory_;
  const first = await withStore(path, (store) => importTree(store, "first", FIRST), { compression: "none" });
  const pack = await onlyPack(path);
  const bytes = await readFile(pack);
  await truncate(pack, bytes.length - 10);
  for (const name of ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"]) await rm(join(path, name), { force: true });
  const third = await withStore(path, async (store) => {
    await expectConsistent(store, first);
    return await importTree(store, "third", THIRD);
  });
  const again = await withStore(path, (store) => importTree(store, "first", FIRST));
  await withStore(path, async (store) => {
    for (const one of [third, again]) await expectImported(store, one);
    expect((await checked(store)).map(({ type }) => type)).toEqual(["torn"]);
  });
});

test("bytes of a write that was cut off are never taken for a block, whatever they are", async () => {
  await using directory_ = await temporaryDirectory();
  const { path } = directory_;
  const first = await withStore(path, (store) => importTree(store, "first", FIRST), { compression: "none" });
  const pack = await onlyPack(path);
  const good = await readFile(pack);
  const tails = [
    Buffer.from("NBLK"),
    Buffer.alloc(4_096),
    Buffer.from("NBLK".repeat(1_000)),
    Buffer.concat([good.subarray(16, 100), sampleBytes(50)]),
    // A header that says that half a gigabyte follows.
    Buffer.concat([good.subarray(16, 28), Buffer.from("00000020ffffff1f", "hex"), sampleBytes(60)]),
    sampleBytes(100_000),
  ];
  for (const tail of tails) {
    await writeFile(pack, Buffer.concat([good, tail]));
    await withStore(path, async (store) => {
      await expectImported(store, first);
      expect((await checked(store)).map(({ type }) => type)).toEqual(["torn"]);
    });
    await withStore(path, (store) => expectImported(store, first), { rebuildIndex: true });
  }
});

test("a good block behind a write that was cut off is found when the index is made anew", async () => {
  await using directory_ = await temporaryDirectory();
  const { path } = directory_;
  const small = toSmallBlob(new Uint8Array(Buffer.from("before")));
  const after = toSmallBlob(sampleBytes(5_000, 4));
  await withStore(path, (store) => store.blobs.putMany([small]), { compression: "none" });
  const pack = await onlyPack(path);
  const good = await readFile(pack);
  await using other = await temporaryDirectory();
  await withStore(other.path, (store) => store.blobs.putMany([after]), { compression: "none" });
  const block = (await readFile(await onlyPack(other.path))).subarray(16);
  await writeFile(pack, Buffer.concat([good, Buffer.from("NBLK, but not quite"), block]));
  await withStore(
    path,
    async (store) => {
      expect(await store.blobs.findMissing([small.digest, after.digest])).toEqual([]);
      expect((await checked(store)).map(({ type }) => type)).toEqual(["damage"]);
    },
    { rebuildIndex: true },
  );
});

test("an empty pack and a pack with half a header are no obstacle", async () => {
  await using directory_ = await temporaryDirectory();
  const { path } = directory_;
  const first = await withStore(path, (store) => importTree(store, "first", FIRST));
  const pack = await onlyPack(path);
  await writeFile(pack.replace(basename(pack), "000000000001-000000000000.pack"), "");
  await writeFile(pack.replace(basename(pack), "fffffffffffe-000000000000.pack"), "narbor");
  await withStore(path, (store) => expectImported(store, first));
  await withStore(path, (store) => expectImported(store, first), { rebuildIndex: true });
});

test("a put that was under way when the process went down leaves nothing readable", async () => {
  await using directory_ = await temporaryDirectory();
  const [path, copy] = ["store", "copy"].map((name) => join(directory_.path, name)) as [string, string];
  await using store = await PacksStore.open(path, { create: true, compression: "none" });
  const large = sampleBytes(3_000_000, 9);
  const { digest } = toSmallBlob(large);
  async function* dripping(): AsyncGenerator<Uint8Array, void, undefined> {
    yield large.subarray(0, 2_900_000);
    // Everything so far is made durable with another put's commit.
    await store.blobs.putMany([toSmallBlob(Uint8Array.of(1))]);
    await snapshot(path, copy);
    yield large.subarray(2_900_000);
  }
  await store.blobs.put(dripping());
  await withStore(copy, async (opened) => {
    expect(await opened.blobs.stat(digest)).toBeUndefined();
    expect(await opened.blobs.findMissing([digest])).toHaveLength(1);
    await opened.blobs.put(sourceOf(large));
    expect(await opened.blobs.findMissing([digest])).toEqual([]);
  });
});
