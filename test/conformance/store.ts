/**
 * What `Store` and `StoreWork` promise beyond the services they are made of.
 */
import { expect, test } from "vitest";
import { toSmallBlob } from "../../src/castore/blob-service.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import type { NarRecord } from "../../src/store/nar-index.ts";
import type { Store, StoreServices, StoreWork } from "../../src/store/store.ts";
import { collect, collectItems, expectBytes, hexes, sampleBytes } from "../helpers/bytes.ts";
import { directoryOf, fileNode, symlinkNode } from "../helpers/castore.ts";
import type { OpenedStore, OpenStore } from "../helpers/open-stores.ts";
import { pathInfoOf, sha256Of, signatureOf } from "../helpers/path-infos.ts";
import { deferred, expectCode, expectReason } from "../helpers/promises.ts";
import { directory, file, referenceNar, symlink } from "../helpers/reference-nar.ts";
import { sourceOf, TrackedSource } from "../helpers/tracked-source.ts";
import type { ConformanceCase } from "./conformance-case.ts";
import { registerCases } from "./conformance-case.ts";

const HELLO = toSmallBlob(new Uint8Array(Buffer.from("Hello World!")));
const LARGE = sampleBytes(1_300_000, 7);
const LARGE_DIGEST = toSmallBlob(LARGE).digest;
const LEAF = directoryOf({ hello: { type: "file", digest: HELLO.digest, size: 12, executable: false } });
const ROOT = directoryOf({ leaf: LEAF, link: symlinkNode("leaf/hello") });
const NAR: NarRecord = { narSha256: sha256Of("nar"), narSize: 136, root: ROOT.node };
const FILE = { fileSha256: sha256Of("file"), fileSize: 77, codec: "zstd" } as const;
const PATH_INFO = pathInfoOf("hello-2.12", { signatures: [signatureOf("key")] });
const DOCUMENT = { name: "log/hello.drv", digest: HELLO.digest, size: 12 };
/** A tree with a file of every kind: none, small, repeated, large. */
const TREE = directory({
  bin: directory({ run: file("#!/bin/sh\n", true), large: file(LARGE) }),
  empty: directory({}),
  share: directory({ a: file("a"), again: file("a"), nothing: file("") }),
  link: symlink("bin/run"),
});

export const STORE_CASES: readonly ConformanceCase<Store>[] = [
  {
    name: "begin() gives a work whose writes are readable when commit() resolves",
    run: async (store) => {
      const work = store.begin();
      await writeThrough(work);
      await work.commit();
      await expectWritten(store);
      await expectWritten({ ...store, ...work });
    },
  },
  {
    name: "commit() covers writes that are not awaited before it",
    run: async (store) => {
      const work = store.begin();
      const writes = [work.blobs.putMany([HELLO]), work.nars.put(NAR, FILE), work.directories.putClosure([LEAF.bytes, ROOT.bytes])];
      await Promise.all(writes);
      await work.commit();
      expectBytes(await store.directories.get(ROOT.digest), ROOT.bytes);
      expect(await store.nars.byFileHash(FILE.fileSha256)).toBeDefined();
    },
  },
  {
    name: "commit() of nothing does nothing, and may be called again after more writes",
    run: async (store) => {
      const work = store.begin();
      await work.commit();
      await work.blobs.putMany([HELLO]);
      await work.commit();
      expect(await store.blobs.findMissing([HELLO.digest])).toEqual([]);
      await work.blobs.put(sourceOf(LARGE));
      await work.commit();
      await work.commit();
      expect(await store.blobs.findMissing([LARGE_DIGEST])).toEqual([]);
    },
  },
  {
    name: "commit() makes durable what another work has written and not committed, when this one wrote it too",
    run: async (store) => {
      const [one, other] = [store.begin(), store.begin()];
      await writeThrough(one);
      await writeThrough(other);
      await other.commit();
      await expectWritten(store);
      await one.commit();
      await expectWritten(store);
    },
  },
  {
    name: "many works at once are all durable when their commits resolve",
    run: async (store) => {
      const blobs = Array.from({ length: 30 }, (_, seed) => toSmallBlob(sampleBytes(3_000, seed)));
      await Promise.all(
        blobs.map(async (blob, index) => {
          const work = store.begin();
          await work.blobs.putMany([blob, HELLO]);
          const own = directoryOf({ own: { type: "file", digest: blob.digest, size: 3_000, executable: false } });
          await work.directories.putClosure([own.bytes]);
          await work.nars.put({ ...NAR, narSha256: sha256Of(`nar ${index}`), root: own.node });
          await work.commit();
          expect(await store.blobs.findMissing([blob.digest, HELLO.digest])).toEqual([]);
          expectBytes(await store.directories.get(own.digest), own.bytes);
          expect(await store.nars.byNarHash(sha256Of(`nar ${index}`))).toBeDefined();
        }),
      );
    },
  },
  {
    name: "a write that fails in a work leaves the work usable",
    run: async (store) => {
      const work = store.begin();
      const failure = new Error("broken");
      await expectReason(work.blobs.put(new TrackedSource([LARGE], { fail: failure })), failure);
      await expectCode(work.directories.putClosure([ROOT.bytes]), "ERR_CASTORE_INVALID");
      await writeThrough(work);
      await work.commit();
      await expectWritten(store);
    },
  },
  {
    name: "commit() rejects with the reason of a signal that has fired",
    run: async (store) => {
      const work = store.begin();
      await work.blobs.putMany([HELLO]);
      const reason = new Error("gone");
      await expectReason(work.commit({ signal: AbortSignal.abort(reason) }), reason);
      await work.commit();
      expect(await store.blobs.findMissing([HELLO.digest])).toEqual([]);
    },
  },
  {
    name: "a work's services refuse with ERR_CLOSED after the store was closed, and so does commit()",
    run: async (store, { close }) => {
      const work = store.begin();
      await work.blobs.putMany([HELLO]);
      await close();
      await expectCode(work.commit(), "ERR_CLOSED");
      await expectCode(work.blobs.putMany([HELLO]), "ERR_CLOSED");
      await expectCode(work.blobs.put(sourceOf(LARGE)), "ERR_CLOSED");
      await expectCode(work.directories.putClosure([LEAF.bytes]), "ERR_CLOSED");
      await expectCode(work.nars.put(NAR), "ERR_CLOSED");
    },
  },
  {
    name: "Symbol.asyncDispose may be called twice, also at once",
    run: async (store) => {
      await store.blobs.putMany([HELLO]);
      await Promise.all([store[Symbol.asyncDispose](), store[Symbol.asyncDispose]()]);
      await store[Symbol.asyncDispose]();
      await expectCode(store.blobs.stat(HELLO.digest), "ERR_CLOSED");
    },
  },
  {
    name: "Symbol.asyncDispose ends writes that are under way one way or the other",
    run: async (store) => {
      const reached = deferred();
      const hold = deferred();
      const source = new TrackedSource([LARGE, LARGE], "end", async (index) => {
        if (index === 0) return;
        reached.resolve();
        await hold.promise;
      });
      const puts = [store.blobs.putMany([HELLO]), store.blobs.put(source), store.pathInfos.put(PATH_INFO), store.documents.put(DOCUMENT)];
      const outcomes = Promise.allSettled(puts);
      await reached.promise;
      const disposed = store[Symbol.asyncDispose]();
      hold.resolve();
      await disposed;
      for (const outcome of await outcomes) {
        if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "ERR_CLOSED" });
      }
      expect((await outcomes)[1]).toMatchObject({ status: "rejected", reason: { code: "ERR_CLOSED" } });
      expect(source.closed).toBe(true);
    },
  },
  {
    name: "importNar() into a work is readable when commit() resolves",
    run: async (store) => {
      const work = store.begin();
      const nar = referenceNar(TREE);
      const { root } = await importNar(sourceOf(nar), work);
      await work.commit();
      if (root.type !== "directory") expect.unreachable();
      const closure = await collectItems((await store.directories.getClosure(root.digest)) as AsyncIterable<unknown>);
      expect(closure).toHaveLength(4);
      expectBytes(await collect((await store.blobs.openRead(LARGE_DIGEST)) as AsyncIterable<Uint8Array>), LARGE);
    },
  },
];

/** Test that a store keeps the contract of `Store`; and, where it can be opened again, that what was promised is there then. */
export function storeConformance(open: OpenStore): void {
  registerCases(STORE_CASES, open);
}

/** The part for stores that outlive their process. */
export function durableStoreConformance(open: OpenStore): void {
  const cases: readonly (readonly [name: string, write: (store: Store) => Promise<unknown>, check: (store: Store) => Promise<void>])[] = [
    ["what was written", writeAll, expectAll],
    [
      "what was committed",
      async (store) => {
        const work = store.begin();
        await writeThrough(work);
        await work.commit();
      },
      expectWritten,
    ],
    [
      "nothing of a blob whose put() failed",
      (store) => store.blobs.put(new TrackedSource([LARGE], { fail: new Error("broken") })).catch(() => undefined),
      async (store) => expect(await store.blobs.stat(LARGE_DIGEST)).toBeUndefined(),
    ],
    [
      "nothing of directories whose putClosure() failed",
      (store) => store.directories.putClosure([LEAF.bytes, ROOT.bytes, LEAF.bytes]).catch(() => undefined),
      async (store) => expect(await store.directories.get(LEAF.digest)).toBeUndefined(),
    ],
    [
      "no path that was deleted, and one that was put after",
      async (store) => {
        await store.pathInfos.put(PATH_INFO);
        await store.pathInfos.put(pathInfoOf("other"));
        await store.pathInfos.delete(PATH_INFO.storePath.digest);
        await store.pathInfos.delete(pathInfoOf("other").storePath.digest);
        await store.pathInfos.put(pathInfoOf("other"));
      },
      async (store) => expect((await collectItems(store.pathInfos.list())).map((info) => info.storePath.name)).toEqual(["other"]),
    ],
  ];
  test.for(cases)("a store that is opened again has %s", async ([, write, check]) => {
    await using opened = await open();
    await write(opened.service);
    await check(await reopen(opened));
    await check(await reopen(opened));
  });

  test("a store that is closed before commit() has all of the work or none of what hangs together", async () => {
    await using opened = await open();
    const work = opened.service.begin();
    await writeThrough(work);
    const store = await reopen(opened);
    if ((await store.directories.get(ROOT.digest)) !== undefined) {
      expectBytes(await store.directories.get(LEAF.digest), LEAF.bytes);
      expect(await store.blobs.findMissing([HELLO.digest])).toEqual([]);
    } else {
      expect(await store.nars.byNarHash(NAR.narSha256)).toBeUndefined();
    }
    expect(hexes([await store.blobs.put(sourceOf(HELLO.bytes))])).toEqual(hexes([HELLO.digest]));
  });
}

async function reopen(opened: OpenedStore): Promise<Store> {
  if (opened.reopen === undefined) throw new TypeError("This store cannot be opened again");
  return await opened.reopen();
}

async function writeThrough(work: StoreWork): Promise<void> {
  await work.blobs.putMany([HELLO]);
  await work.blobs.put(sourceOf(LARGE));
  await work.directories.putClosure([LEAF.bytes, ROOT.bytes]);
  await work.nars.put(NAR, FILE);
}

async function expectWritten(store: Pick<StoreServices, "blobs" | "directories" | "nars">): Promise<void> {
  expect(await store.blobs.findMissing([HELLO.digest, LARGE_DIGEST])).toEqual([]);
  expectBytes(await collect((await store.blobs.openRead(LARGE_DIGEST)) as AsyncIterable<Uint8Array>), LARGE);
  expectBytes((await collectItems(store.blobs.readMany([HELLO])))[0], HELLO.bytes);
  const closure = await collectItems((await store.directories.getClosure(ROOT.digest)) as AsyncIterable<{ readonly digest: Uint8Array }>);
  expect(hexes(closure.map(({ digest }) => digest))).toEqual(hexes([ROOT.digest, LEAF.digest]));
  expect(await store.nars.byNarHash(NAR.narSha256)).toMatchObject({ narSize: 136 });
  expect(await store.nars.byFileHash(FILE.fileSha256)).toMatchObject({ narSize: 136, fileSize: 77, codec: "zstd" });
}

async function writeAll(store: Store): Promise<void> {
  await store.blobs.putMany([HELLO]);
  await store.blobs.put(sourceOf(LARGE));
  await store.directories.putClosure([LEAF.bytes, ROOT.bytes]);
  await store.nars.put(NAR, FILE);
  await store.pathInfos.put(PATH_INFO);
  await store.pathInfos.put({ ...PATH_INFO, signatures: [signatureOf("another", 2)] });
  await store.documents.put({ ...DOCUMENT, size: 99 });
  await store.documents.put(DOCUMENT);
  await store.blobs.putMany([toSmallBlob(new Uint8Array(0)), toSmallBlob(new Uint8Array(Buffer.from(fileNode("x").type)))]);
}

async function expectAll(store: Store): Promise<void> {
  await expectWritten(store);
  expect((await store.pathInfos.get(PATH_INFO.storePath.digest))?.signatures.map(({ keyName }) => keyName)).toEqual(["key", "another"]);
  expect(await store.documents.get(DOCUMENT.name)).toMatchObject({ name: DOCUMENT.name, size: 12 });
  expectBytes((await collectItems(store.blobs.readMany([toSmallBlob(new Uint8Array(0))])))[0], new Uint8Array(0));
}
