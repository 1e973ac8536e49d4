import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterEach, describe, expect, test, vi } from "vitest";
import { PacksStore } from "../../../src/backends/packs/packs-store.ts";
import { toSmallBlob } from "../../../src/castore/blob-service.ts";
import { chunked, collect, collectItems, expectBytes, hexes, sampleBytes } from "../../helpers/bytes.ts";
import { directoryOf } from "../../helpers/castore.ts";
import { checked, countBlocks, expectImported, importTree, packFiles, withStore } from "../../helpers/pack-stores.ts";
import { pathInfoOf, sha256Of, signatureOf } from "../../helpers/path-infos.ts";
import { deferred, expectCode, expectReason, rejection } from "../../helpers/promises.ts";
import { directory, file, symlink } from "../../helpers/reference-nar.ts";
import { temporaryDirectory } from "../../helpers/temporary-directory.ts";
import { sourceOf, streamOf, TrackedSource } from "../../helpers/tracked-source.ts";
import { PROFILES } from "../../helpers/vectors.ts";

const HELLO = toSmallBlob(new Uint8Array(Buffer.from("Hello World!")));
const TREE = directory({ bin: directory({ run: file("#!/bin/sh\n", true), large: file(sampleBytes(700_000)) }), link: symlink("bin/run") });
const LEAF = directoryOf({ hello: { type: "file", digest: HELLO.digest, size: 12, executable: false } });
const ROOT = directoryOf({ leaf: LEAF });

describe("opening", () => {
  test("PacksStore.open() of a directory without a store is ERR_NOT_FOUND, and makes nothing", async () => {
    await using temporary = await temporaryDirectory();
    await expectCode(PacksStore.open(temporary.path), "ERR_NOT_FOUND", "there is none");
    await expectCode(PacksStore.open(join(temporary.path, "no", "such")), "ERR_NOT_FOUND");
    await withStore(join(temporary.path, "no", "such"), async (store) => expect(store.directory).toContain("such"));
  });

  test("PacksStore.open() with a file in the place of its directory says so", async () => {
    await using temporary = await temporaryDirectory();
    const path = join(temporary.path, "file");
    await writeFile(path, "not a directory");
    await expectCode(PacksStore.open(path), "ERR_NOT_FOUND", path);
    await expectCode(PacksStore.open(path, { create: true }), "ERR_STORE", path);
    await expectCode(PacksStore.open(join(path, "below"), { create: true }), "ERR_STORE");
    expect(await readFile(path, "utf8")).toBe("not a directory");
  });

  test("PacksStore.open() with a file in the place of packs/ says so", async () => {
    await using temporary = await temporaryDirectory();
    await withStore(temporary.path, async () => undefined);
    await rm(join(temporary.path, "packs"), { recursive: true });
    await writeFile(join(temporary.path, "packs"), "");
    await expectCode(PacksStore.open(temporary.path), "ERR_STORE", "packs");
  });

  test("PacksStore.open() of a store of version 1 makes it one of version 2, which older programs leave alone", async () => {
    await using temporary = await temporaryDirectory();
    const path = join(temporary.path, "narbor.json");
    await withStore(temporary.path, async () => undefined, { directorySizeProfile: "doubled" });
    const now = await readFile(path, "utf8");
    await writeFile(path, now.replace('"version": 2', '"version": 1'));
    await withStore(temporary.path, async (store) => expect(await store.directorySizeProfile()).toBe("doubled"));
    expect(await readFile(path, "utf8")).toBe(now);
  });

  test("PacksStore.open() of a newer store is ERR_STORE_VERSION and leaves it as it is", async () => {
    await using temporary = await temporaryDirectory();
    const path = join(temporary.path, "narbor.json");
    await withStore(temporary.path, async () => undefined);
    const newer = (await readFile(path, "utf8")).replace('"version": 2', '"version": 3');
    await writeFile(path, newer);
    for (const options of [{}, { create: true }, { rebuildIndex: true }]) {
      await expectCode(PacksStore.open(temporary.path, options), "ERR_STORE_VERSION", "its format is version 3, this narbor reads up to 2; use a newer narbor");
    }
    expect(await readFile(path, "utf8")).toBe(newer);
  });

  test.for([
    "",
    "{",
    "[]",
    "null",
    '{"format":"something-else","version":1,"directorySize":"documented"}',
    '{"format":"narbor-store","version":"1","directorySize":"documented"}',
    '{"format":"narbor-store","version":1,"directorySize":"halved"}',
    '{"format":"narbor-store","version":1}',
  ])("PacksStore.open() of a store whose narbor.json is %j is ERR_STORE", async (text) => {
    await using temporary = await temporaryDirectory();
    await writeFile(join(temporary.path, "narbor.json"), text);
    await expectCode(PacksStore.open(temporary.path, { create: true }), "ERR_STORE", "narbor.json is not one that narbor wrote");
  });

  test("PacksStore.open() of a store whose index is of version 1 finds its NARs, by their hashes and by their roots", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    const nar = { narSha256: sha256Of("nar"), narSize: 1, root: ROOT.node };
    await withStore(path, (store) => store.nars.put(nar));
    const index = new Database(join(path, "index.sqlite"));
    index.exec(`
      CREATE TABLE nars (nar_sha256 BLOB PRIMARY KEY, nar_size INTEGER NOT NULL, root BLOB NOT NULL) WITHOUT ROWID;
      INSERT INTO nars SELECT nar_sha256, nar_size, root FROM trees;
      DROP TABLE trees;
      PRAGMA user_version = 1;
    `);
    index.close();
    for (let opened = 0; opened < 2; opened++) {
      await withStore(path, async (store) => {
        expect((await store.nars.byRoot(ROOT.node))?.narSize).toBe(1);
        expect((await store.nars.byNarHash(nar.narSha256))?.root).toEqual(ROOT.node);
        expect(store.counts().nars).toBe(1);
      });
    }
  });

  test.for(PROFILES)("PacksStore.open() keeps the %s profile that the store was made with", async (profile) => {
    await using temporary = await temporaryDirectory();
    await withStore(temporary.path, async (store) => expect(await store.directorySizeProfile()).toBe(profile), { directorySizeProfile: profile });
    for (const directorySizeProfile of PROFILES) {
      await withStore(temporary.path, async (store) => expect(await store.directorySizeProfile()).toBe(profile), { directorySizeProfile });
    }
  });

  test("PacksStore.open() many times at once on a directory that is not there makes one store", async () => {
    await using temporary = await temporaryDirectory();
    const path = join(temporary.path, "store");
    const stores = await Promise.all(Array.from({ length: 8 }, () => PacksStore.open(path, { create: true })));
    await Promise.all(stores.map((store, index) => store.blobs.putMany([HELLO, toSmallBlob(Uint8Array.of(index))])));
    for (const store of stores) await store[Symbol.asyncDispose]();
    await withStore(path, async (store) => expect(store.counts().chunks).toBe(9));
  });

  test("a store that is opened and closed writes no pack", async () => {
    await using temporary = await temporaryDirectory();
    await withStore(temporary.path, async (store) => await store.blobs.findMissing([HELLO.digest]));
    expect(await packFiles(temporary.path)).toEqual([]);
  });
});

describe("the index", () => {
  test.for([
    ["text", Buffer.from("this is not a database\n".repeat(1_000))],
    ["a few bytes", Buffer.from("SQLite")],
  ] as const)("an index that is %s is ERR_STORE that names what helps, which does", async ([, garbage]) => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    const imported = await withStore(path, (store) => importTree(store, "tree", TREE));
    await writeFile(join(path, "index.sqlite"), garbage);
    await expectCode(PacksStore.open(path), "ERR_STORE", /the index is damaged; "narbor verify --rebuild-index" makes it anew/);
    await withStore(path, (store) => expectImported(store, imported), { rebuildIndex: true });
    await withStore(path, (store) => expectImported(store, imported));
    expectBytes(await readFile(join(path, "index.sqlite.damaged")), garbage);
  });

  test("rebuildIndex makes a good index anew, to the same contents", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    const counts = await withStore(path, async (store) => {
      await importTree(store, "a", TREE);
      await store.pathInfos.put(pathInfoOf("b", { signatures: [signatureOf("one")] }));
      await store.pathInfos.put(pathInfoOf("b", { signatures: [signatureOf("two", 2)] }));
      await store.pathInfos.put(pathInfoOf("c"));
      await store.pathInfos.delete(pathInfoOf("c").storePath.digest);
      await store.documents.put({ name: "log/x", digest: HELLO.digest, size: 1 });
      await store.documents.put({ name: "log/x", digest: HELLO.digest, size: 12 });
      return store.counts();
    });
    await withStore(
      path,
      async (store) => {
        expect(store.counts()).toEqual(counts);
        expect((await collectItems(store.pathInfos.list())).map((info) => info.storePath.name).sort()).toEqual(["a", "b"]);
        expect((await store.pathInfos.get(pathInfoOf("b").storePath.digest))?.signatures.map(({ keyName }) => keyName)).toEqual(["one", "two"]);
        expect(await store.documents.get("log/x")).toMatchObject({ size: 12 });
        expect(await checked(store)).toEqual([]);
      },
      { rebuildIndex: true },
    );
  });

  test("rebuildIndex while another has the store open harms neither", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    // Packs whose numbers will not be the same again.
    for (let index = 0; index < 3; index++) await withStore(path, (store) => store.blobs.putMany([toSmallBlob(sampleBytes(1_000, index))]));
    await rm((await packFiles(path))[0] as string);
    await using store = await PacksStore.open(path);
    const first = await importTree(store, "first", TREE);
    await using rebuilt = await PacksStore.open(path, { rebuildIndex: true });
    await expectImported(rebuilt, first);
    await expectImported(store, first);
    const second = await importTree(store, "second", directory({ x: file("written after the index was made anew") }));
    await expectImported(store, second);
    await expectImported(rebuilt, second);
  });

  test("getClosure() with a directory missing in the index is ERR_DATA_LOSS, in its turn", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    await withStore(path, (store) => store.directories.putClosure([LEAF.bytes, ROOT.bytes]));
    editIndex(path, (database) => database.prepare("DELETE FROM directories WHERE digest = ?").run(LEAF.digest));
    await withStore(path, async (store) => {
      const closure = (await store.directories.getClosure(ROOT.digest)) as AsyncIterable<{ readonly digest: Uint8Array }>;
      const iterator = closure[Symbol.asyncIterator]();
      expect(hexes([(await iterator.next()).value.digest])).toEqual(hexes([ROOT.digest]));
      await expectCode(iterator.next(), "ERR_DATA_LOSS", "it is not stored");
    });
  });

  test("get() of a directory that the index holds wrong is ERR_DATA_LOSS, and check() names it", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    await withStore(path, (store) => store.directories.putClosure([LEAF.bytes, ROOT.bytes]));
    editIndex(path, (database) => database.prepare("UPDATE directories SET message = ? WHERE digest = ?").run(Buffer.from("other"), LEAF.digest));
    await withStore(path, async (store) => {
      await expectCode(store.directories.get(LEAF.digest), "ERR_DATA_LOSS", "the index holds other bytes");
      expect(await checked(store)).toMatchObject([{ type: "damage", digest: LEAF.digest }]);
    });
  });
});

describe("sharing", () => {
  test("the same contents written again take no space", async () => {
    await using temporary = await temporaryDirectory();
    await using store = await PacksStore.open(temporary.path, { create: true, compression: "none" });
    await importTree(store, "a", TREE);
    const bytes = await store.packBytes();
    const large = sampleBytes(700_000);
    await store.blobs.putMany([toSmallBlob(large), HELLO, HELLO]);
    const withHello = await store.packBytes();
    expect(withHello - bytes).toBeLessThan(200);
    await store.blobs.put(sourceOf(large));
    await store.blobs.put(streamOf(chunked(large, 999)));
    await store.blobs.putMany([HELLO]);
    expect(await store.packBytes()).toBe(withHello);
  });

  test("the same blob in puts that are under way at once is written once", async () => {
    await using temporary = await temporaryDirectory();
    await using store = await PacksStore.open(temporary.path, { create: true, compression: "none" });
    const small = toSmallBlob(sampleBytes(100_000));
    await Promise.all(Array.from({ length: 20 }, () => store.blobs.putMany([small])));
    expect(await store.packBytes()).toBeLessThan(101_000);
  });

  test("chunks that two blobs share are stored once", async () => {
    await using temporary = await temporaryDirectory();
    await using store = await PacksStore.open(temporary.path, { create: true, compression: "none" });
    const first = sampleBytes(4_000_000);
    // A byte more in the middle moves everything behind it.
    const second = Buffer.concat([first.subarray(0, 2_000_000), Uint8Array.of(1), first.subarray(2_000_000)]);
    const [a, b] = [await store.blobs.put(sourceOf(first)), await store.blobs.put(sourceOf(second))];
    expect(await store.packBytes()).toBeLessThan(4_000_000 + 1_100_000);
    const chunks = [await store.blobs.stat(a), await store.blobs.stat(b)].map((stat) => hexes(stat?.chunks.map(({ digest }) => digest) ?? []));
    const shared = chunks[0]?.filter((digest) => chunks[1]?.includes(digest)) ?? [];
    expect(shared.length).toBeGreaterThan(5);
    expectBytes(await collect((await store.blobs.openRead(b)) as AsyncIterable<Uint8Array>), second);
  });

  test.for([["none"], [1], [3], [9], [-5]] as const)("blocks written with compression %s are read whatever the store is opened with", async ([compression]) => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    const text = Buffer.from("store nar path hash blob tree chunk ".repeat(20_000));
    const noise = sampleBytes(300_000, 5);
    await withStore(
      path,
      async (store) => {
        await store.blobs.put(sourceOf(text));
        await store.blobs.put(sourceOf(noise));
        if (compression === "none") expect(await store.packBytes()).toBeGreaterThan(text.length + noise.length);
        else expect(await store.packBytes()).toBeLessThan(noise.length + 100_000);
      },
      { compression },
    );
    await withStore(
      path,
      async (store) => {
        expectBytes((await collectItems(store.blobs.readMany([toSmallBlob(text)])))[0], text);
        expectBytes((await collectItems(store.blobs.readMany([toSmallBlob(noise)])))[0], noise);
        expect(await checked(store)).toEqual([]);
      },
      { compression: compression === "none" ? 1 : "none" },
    );
  });

  test("puts that come together share their commits", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    await using store = await PacksStore.open(path, { create: true, compression: "none" });
    await Promise.all(Array.from({ length: 200 }, (_, index) => store.blobs.putMany([toSmallBlob(sampleBytes(20, index))])));
    expect(await countBlocks(path)).toBeLessThan(10);
    for (let index = 200; index < 205; index++) await store.blobs.putMany([toSmallBlob(sampleBytes(20, index))]);
    expect(await countBlocks(path)).toBeGreaterThanOrEqual(5);
  });

  test("a work of many writes is one commit", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    await using store = await PacksStore.open(path, { create: true, compression: "none" });
    const work = store.begin();
    for (let index = 0; index < 100; index++) await work.blobs.putMany([toSmallBlob(sampleBytes(20, index))]);
    await work.directories.putClosure([LEAF.bytes, ROOT.bytes]);
    await work.nars.put({ narSha256: sha256Of("nar"), narSize: 1, root: ROOT.node });
    await work.commit();
    expect(await countBlocks(path)).toBe(2);
  });

  test("a batch of thousands of blobs leaves others their turns, and is there as a whole though they write meanwhile", async () => {
    await using temporary = await temporaryDirectory();
    const blobs = Array.from({ length: 2000 }, (_, seed) => toSmallBlob(sampleBytes(40, seed), Buffer.from(`before ${seed}`)));
    const others = Array.from({ length: 20 }, (_, seed) => toSmallBlob(sampleBytes(50, 5000 + seed)));
    await withStore(temporary.path, async (store) => {
      const work = store.begin();
      let turns = 0;
      let isPut = false;
      const put = work.blobs.putMany(blobs).then(() => void (isPut = true));
      for (const other of others) {
        if (isPut) break;
        await work.blobs.putMany([other]);
        await new Promise((resolve) => setImmediate(resolve));
        turns++;
      }
      await put;
      expect(turns).toBeGreaterThan(4);
      await work.commit();
      const all = [...blobs, ...others.slice(0, turns)];
      const found = await collectItems(store.blobs.readMany(all));
      for (const [index, { bytes }] of all.entries()) expectBytes(found[index], bytes);
    });
  });

  test("more packs than files may be open at once are read all together", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    const blobs = Array.from({ length: 80 }, (_, index) => toSmallBlob(sampleBytes(500, index)));
    for (const blob of blobs) await withStore(path, (store) => store.blobs.putMany([blob]));
    expect(await packFiles(path)).toHaveLength(80);
    await withStore(path, async (store) => {
      const digests = [...blobs, ...blobs].map(({ digest }) => digest);
      const found = await Promise.all(digests.map(async (digest) => await collect((await store.blobs.openRead(digest)) as AsyncIterable<Uint8Array>)));
      for (const [index, bytes] of found.entries()) expectBytes(bytes, blobs[index % 80]?.bytes as Uint8Array);
    });
  });
});

describe("faults while writing", () => {
  test("a write that the disk refuses is an error, and the next one succeeds", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    await using store = await PacksStore.open(path, { create: true });
    const restore = await breakDisk(path);
    await expectCode(store.blobs.putMany([HELLO]), "ERR_STORE", "Cannot write to the store");
    await expectCode(store.pathInfos.put(pathInfoOf("a")), "ERR_STORE");
    await expectCode(store.directories.putClosure([LEAF.bytes]), "ERR_STORE");
    await restore();
    expect(await store.blobs.stat(HELLO.digest)).toBeUndefined();
    expect(await store.directories.get(LEAF.digest)).toBeUndefined();
    const imported = await importTree(store, "tree", TREE);
    await store.blobs.putMany([HELLO]);
    await expectImported(store, imported);
  });

  test("commit() of a work of which a write was lost rejects with that error, and so does everything after", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    await using store = await PacksStore.open(path, { create: true });
    const work = store.begin();
    await work.blobs.putMany([HELLO]);
    const restore = await breakDisk(path);
    const error = await rejection(work.commit());
    expect(error).toMatchObject({ code: "ERR_STORE" });
    await restore();
    await expectReason(work.directories.putClosure([LEAF.bytes, ROOT.bytes]), error);
    await expectReason(work.nars.put({ narSha256: sha256Of("nar"), narSize: 1, root: ROOT.node }), error);
    await expectReason(work.blobs.putMany([HELLO]), error);
    await expectReason(work.commit(), error);
    expect(await store.directories.get(ROOT.digest)).toBeUndefined();
    await store.blobs.putMany([toSmallBlob(Uint8Array.of(1))]);
    expect(await store.directories.get(ROOT.digest)).toBeUndefined();
  });

  test("a large blob of which a chunk was lost on the way is not stored, though the rest could be written", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    await using store = await PacksStore.open(path, { create: true });
    const bytes = sampleBytes(2_000_000, 8);
    const source = new TrackedSource([bytes.subarray(0, 1_200_000), bytes.subarray(1_200_000)], "end", async (index) => {
      if (index !== 1) return;
      const restore = await breakDisk(path);
      // Its commit takes the chunks that have come so far with it.
      await expectCode(store.blobs.putMany([HELLO]), "ERR_STORE");
      await restore();
    });
    await expectCode(store.blobs.put(source), "ERR_STORE");
    await store.blobs.putMany([HELLO]);
    const { digest } = toSmallBlob(bytes);
    expect(await store.blobs.findMissing([digest])).toHaveLength(1);
    expect(await store.blobs.stat(digest)).toBeUndefined();
    expect(await checked(store)).toEqual([]);
  });

  test("directories of a work whose blobs were lost meanwhile are not stored, though they could be written", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    await using store = await PacksStore.open(path, { create: true });
    const work = store.begin();
    await work.blobs.putMany([HELLO]);
    const source = new TrackedSource([LEAF.bytes, ROOT.bytes], "end", async (index) => {
      if (index !== 1) return;
      const restore = await breakDisk(path);
      await expectCode(store.blobs.putMany([toSmallBlob(Uint8Array.of(2))]), "ERR_STORE");
      await restore();
    });
    await expectCode(work.directories.putClosure(source), "ERR_STORE");
    // Someone else's commit must not take them along.
    await store.blobs.putMany([toSmallBlob(Uint8Array.of(1))]);
    expect(await store.directories.get(LEAF.digest)).toBeUndefined();
    expect(await store.directories.get(ROOT.digest)).toBeUndefined();
  });

  test("a write that is lost is lost for everyone who waits for it", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    await using store = await PacksStore.open(path, { create: true });
    const restore = await breakDisk(path);
    const outcomes = await Promise.allSettled(Array.from({ length: 10 }, (_, index) => store.blobs.putMany([HELLO, toSmallBlob(Uint8Array.of(index))])));
    await restore();
    expect(outcomes.every((outcome) => outcome.status === "rejected" && outcome.reason.code === "ERR_STORE")).toBe(true);
    const reached = deferred();
    reached.resolve();
    await reached.promise;
    await store.blobs.putMany([HELLO]);
    expect(await store.blobs.findMissing([HELLO.digest])).toEqual([]);
  });
});

describe("clocks", () => {
  afterEach(() => void vi.useRealTimers());

  test("a path info that is put after the clock was set back replaces what is there", async () => {
    await using temporary = await temporaryDirectory();
    await using store = await PacksStore.open(temporary.path, { create: true });
    vi.useFakeTimers({ toFake: ["Date"], now: 2_000_000_000_000 });
    await store.pathInfos.put(pathInfoOf("a", { narSha256: sha256Of("first") }));
    vi.setSystemTime(1_900_000_000_000);
    const later = await store.pathInfos.put(pathInfoOf("a", { narSha256: sha256Of("second") }));
    expect(hexes([later.narSha256])).toEqual(hexes([sha256Of("second")]));
  });

  test("a path is put and deleted again after the clock was set back", async () => {
    await using temporary = await temporaryDirectory();
    await using store = await PacksStore.open(temporary.path, { create: true });
    vi.useFakeTimers({ toFake: ["Date"], now: 2_000_000_000_000 });
    const info = pathInfoOf("a");
    await store.pathInfos.put(info);
    await store.pathInfos.delete(info.storePath.digest);
    vi.setSystemTime(1_900_000_000_000);
    await store.pathInfos.put(info);
    expect(await store.pathInfos.get(info.storePath.digest)).toBeDefined();
    expect(await store.pathInfos.delete(info.storePath.digest)).toBe(true);
    expect(await store.pathInfos.get(info.storePath.digest)).toBeUndefined();
  });

  test("a document that is put after the clock was set back counts", async () => {
    await using temporary = await temporaryDirectory();
    await using store = await PacksStore.open(temporary.path, { create: true });
    vi.useFakeTimers({ toFake: ["Date"], now: 2_000_000_000_000 });
    await store.documents.put({ name: "log/x", digest: HELLO.digest, size: 1 });
    vi.setSystemTime(1_900_000_000_000);
    await store.documents.put({ name: "log/x", digest: HELLO.digest, size: 12 });
    expect(await store.documents.get("log/x")).toMatchObject({ size: 12 });
  });
});

/** Take the packs' directory away, so that no pack can be begun; what is given back puts it there again. */
async function breakDisk(path: string): Promise<() => Promise<void>> {
  const [packs, away] = [join(path, "packs"), join(path, "packs.away")] as const;
  await rename(packs, away);
  return async () => await rename(away, packs);
}

function editIndex(path: string, edit: (database: Database.Database) => unknown): void {
  const database = new Database(join(path, "index.sqlite"));
  edit(database);
  database.close();
}

