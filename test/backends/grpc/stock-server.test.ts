/** Our client against servers as snix and tvix are. */
import { getEventListeners } from "node:events";
import { describe, expect, onTestFinished, test } from "vitest";
import type { GrpcStoreOptions } from "../../../src/backends/grpc/grpc-store.ts";
import { GrpcStore } from "../../../src/backends/grpc/grpc-store.ts";
import { MemoryStore } from "../../../src/backends/memory/memory-store.ts";
import { toSmallBlob } from "../../../src/castore/blob-service.ts";
import { encodeEntry } from "../../../src/castore/directory-proto.ts";
import type { ImportedNar } from "../../../src/ingest/ingest-nar.ts";
import { importNar } from "../../../src/ingest/ingest-nar.ts";
import { knownNar } from "../../../src/render/known-nar.ts";
import { planNar } from "../../../src/render/render-nar.ts";
import { renderArchive } from "../../../src/render/segments.ts";
import type { Store } from "../../../src/store/store.ts";
import { chunked, collect, collectItems, expectBytes, sampleBytes } from "../../helpers/bytes.ts";
import { directoryOf, fileNode } from "../../helpers/castore.ts";
import { FAMILIES } from "../../helpers/castore-messages.ts";
import { pathInfoOf, sha256Of } from "../../helpers/path-infos.ts";
import { expectCode } from "../../helpers/promises.ts";
import { directory, file, referenceNar, symlink } from "../../helpers/reference-nar.ts";
import type { StockServer } from "../../helpers/stock-server.ts";
import { openStockServer } from "../../helpers/stock-server.ts";
import { streamOf } from "../../helpers/tracked-source.ts";
import { CASTORE_VECTORS, narVector } from "../../helpers/vectors.ts";

/** Nested, with files of every kind: 300 small ones of which 100 are the same as others, and one of more than tonic's 4 MiB. */
const TREE = directory({
  bin: directory({ tool: file("#!/bin/sh\n", true), link: symlink("tool") }),
  empty: directory({}),
  large: file(sampleBytes(6_000_000)),
  many: directory(Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`file${index}`, file(sampleBytes(500, index % 200))]))),
  deep: directory({ er: directory({ and: directory({ deeper: file("bottom") }) }) }),
});
const NAR = referenceNar(TREE);

async function open(family: (typeof FAMILIES)[number], parameters = "?directory-size=doubled", options: GrpcStoreOptions = {}, delay = 0): Promise<{ readonly server: StockServer; readonly store: GrpcStore }> {
  const server = await openStockServer(family, delay);
  const store = new GrpcStore(`${server.address}${parameters}`, options);
  onTestFinished(async () => {
    await store[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  return { server, store };
}

async function importInto(store: Store, nar: Uint8Array): Promise<ImportedNar> {
  const { blobs, directories } = store.begin();
  return await importNar(streamOf(chunked(nar, 100_000)), { blobs, directories, directorySizeProfile: await store.directorySizeProfile() });
}

async function render(store: Pick<Store, "blobs" | "directories">, root: ImportedNar["root"]): Promise<Uint8Array> {
  return await collect(renderArchive(await planNar(root, store), store));
}

describe.for(FAMILIES)("GrpcStore with a stock %s server", (family) => {
  test("imports and renders a tree with ?directory-size=doubled", async () => {
    const { server, store } = await open(family);
    const { root } = await importInto(store, NAR);
    expectBytes(await render(server.store, root), NAR);
    expectBytes(await render(store, root), NAR);
  });

  test("gives the roots that snix gives for the vectors", async () => {
    const { store } = await open(family);
    for (const nar of Object.values(CASTORE_VECTORS.nars)) {
      const { root } = await importInto(store, narVector(nar.file.replace("nar/", "")));
      expect(Buffer.from(encodeEntry(root)).toString("base64url")).toBe(nar.doubled.entryBase64Url);
    }
  });

  test("asks and puts at most 128 at once, no digest twice, and none that is there", async () => {
    const { server, store } = await open(family, undefined, {}, 2);
    await importInto(store, NAR);
    expect(server.maxAtOnce()).toBeLessThanOrEqual(128);
    expect(server.maxAtOnce()).toBeGreaterThan(64);
    expect(server.puts).toHaveLength(new Set(server.puts).size);
    // The first question is which names the server goes by.
    const asked = server.stats.filter((digest) => digest !== "00".repeat(32));
    expect(asked).toHaveLength(new Set(asked).size);
    expect(server.puts).toHaveLength(200 + 3);
    const before = server.puts.length;
    await importInto(store, NAR);
    // Files of 1 MiB and more are streamed without a question.
    expect(server.puts.length - before).toBe(1);
  });

  test("has few calls follow the caller's signal, however many blobs are put", async () => {
    const { server, store } = await open(family, undefined, {}, 1);
    const controller = new AbortController();
    let most = 0;
    const timer = setInterval(() => (most = Math.max(most, getEventListeners(controller.signal, "abort").length)), 1);
    onTestFinished(() => clearInterval(timer));
    const blobs = Array.from({ length: 1000 }, (_, index) => toSmallBlob(Buffer.from(`blob ${index}`)));
    await store.blobs.putMany(blobs, { signal: controller.signal });
    expect(server.puts).toHaveLength(blobs.length);
    expect(most).toBeGreaterThan(0);
    // To find its place, each of those that listen to one signal looks at all others.
    expect(most).toBeLessThanOrEqual(16);
  });

  test("ends all calls with the first that fails, and with the caller's signal", async () => {
    const { server, store } = await open(family, undefined, {}, 50);
    const blobs = Array.from({ length: 300 }, (_, index) => toSmallBlob(Buffer.from(`blob ${index}`)));
    const controller = new AbortController();
    const putting = store.blobs.putMany(blobs, { signal: controller.signal });
    setTimeout(() => controller.abort(new Error("enough")), 75);
    await expect(putting).rejects.toThrow("enough");
    expect(server.puts.length).toBeLessThan(blobs.length);
    await server.store[Symbol.asyncDispose]();
    await expect(store.blobs.putMany(blobs)).rejects.toThrow(/closed/);
  });

  test("reads at most 128 blobs at once, and each only as often as it is asked for", async () => {
    const { store } = await open(family, undefined, {}, 2);
    const { root } = await importInto(store, NAR);
    expectBytes(await render(store, root), NAR);
  });

  test("says what to do when sizes are counted otherwise, and stores no directory", async () => {
    const { server, store } = await open(family, "");
    await expectCode(importInto(store, NAR), "ERR_CASTORE_INVALID", /\?directory-size=doubled in the address \(grpc:.*has wrong size, specified 1, recorded 2/);
    expect(await collectItems(server.store.pathInfos.list())).toEqual([]);
  });

  test("says that a directory is larger than the server takes, of how many entries it is, and what to do", async () => {
    const { server, store } = await open(family);
    const large = directoryOf(Object.fromEntries(Array.from({ length: 90_000 }, (_, index) => [`file ${index}`, fileNode("the same")])), "doubled");
    const expected = new RegExp(`^Cannot store a directory of 90000 entries: ${server.address}\\S* takes none that is so large \\(${large.bytes.length} bytes, it takes 4194304\\); split it, or `);
    await expectCode(store.directories.putClosure([large.bytes]), "ERR_LIMIT", expected);
  });

  test("says what went wrong, and not that, when it is something else", async () => {
    const { store } = await open(family);
    await expectCode(store.directories.putClosure([Buffer.from("0a260a01611220".padEnd(78, "0"), "hex")]), "ERR_CASTORE_INVALID", /./);
  });

  test("keeps path infos there, and cannot delete them", async () => {
    const { server, store } = await open(family);
    const pathInfo = pathInfoOf("hello");
    expect(await store.pathInfos.get(pathInfo.storePath.digest)).toBeUndefined();
    await store.pathInfos.put(pathInfo);
    expect((await server.store.pathInfos.get(pathInfo.storePath.digest))?.storePath.name).toBe("hello");
    expect((await store.pathInfos.get(pathInfo.storePath.digest))?.narSize).toBe(pathInfo.narSize);
    expect(await collectItems(store.pathInfos.list())).toHaveLength(1);
    await expectCode(store.pathInfos.delete(pathInfo.storePath.digest), "ERR_UNSUPPORTED", server.address.slice(0, 20));
  });

  test("has no place for NARs and documents without a side store: they are ERR_UNSUPPORTED", async () => {
    const { store } = await open(family);
    const { root, narSha256, narSize } = await importInto(store, NAR);
    const document = { name: "log/x", digest: (await importInto(store, referenceNar(file("log")))).root, size: 3 };
    await expectCode(store.nars.put({ root, narSha256, narSize }), "ERR_UNSUPPORTED", /not a Narbor/);
    await expectCode(store.nars.byNarHash(narSha256), "ERR_UNSUPPORTED");
    await expectCode(store.nars.byFileHash(narSha256), "ERR_UNSUPPORTED");
    await expectCode(store.nars.byRoot(root), "ERR_UNSUPPORTED");
    await expectCode(store.documents.get("log/x"), "ERR_UNSUPPORTED");
    await expectCode(store.documents.put({ name: document.name, digest: "digest" in document.digest ? document.digest.digest : (undefined as never), size: 3 }), "ERR_UNSUPPORTED");
  });

  test("keeps NARs and documents in the side store, which is opened once, when it is first needed, and closed with it", async () => {
    const side = new MemoryStore();
    let opened = 0;
    const { store } = await open(family, undefined, {
      openSideStore: async () => {
        opened++;
        return side;
      },
    });
    const { root, narSha256, narSize } = await importInto(store, NAR);
    expect(opened).toBe(0);
    const [record] = await Promise.all([knownNar(root, store), store.nars.byNarHash(sha256Of("other")), store.documents.get("log/none")]);
    expect(Buffer.from(record.narSha256)).toEqual(Buffer.from(narSha256));
    expect(record.narSize).toBe(narSize);
    expect(opened).toBe(1);
    expect((await side.nars.byRoot(root))?.narSize).toBe(narSize);
    await store[Symbol.asyncDispose]();
    await expectCode(side.nars.byRoot(root), "ERR_CLOSED");
  });

  test.for([
    ["a directory", TREE],
    ["a file", file("alone")],
  ] as const)("does not believe its side store when the server has lost the tree: %s", async ([, tree]) => {
    const side = new MemoryStore();
    const options = { openSideStore: async () => side };
    const { store } = await open(family, undefined, options);
    const nar = referenceNar(tree);
    const { root, narSha256, narSize } = await importInto(store, nar);
    const file = { fileSha256: sha256Of("file"), fileSize: 7, codec: "xz" } as const;
    await store.nars.put({ root, narSha256, narSize }, file);
    expect((await store.nars.byNarHash(narSha256))?.narSize).toBe(narSize);
    expect((await store.nars.byFileHash(file.fileSha256))?.fileSize).toBe(7);
    const { store: emptied } = await open(family, undefined, options);
    expect(await emptied.nars.byNarHash(narSha256)).toBeUndefined();
    expect(await emptied.nars.byFileHash(file.fileSha256)).toBeUndefined();
    expect((await emptied.nars.byRoot(root))?.narSize).toBe(narSize);
    await importInto(emptied, nar);
    expect((await emptied.nars.byNarHash(narSha256))?.narSize).toBe(narSize);
  });

  test("tries again to open a side store that could not be opened", async () => {
    const side = new MemoryStore();
    let tries = 0;
    const { store } = await open(family, undefined, {
      openSideStore: async () => {
        if (++tries === 1) throw new Error("no disk");
        return side;
      },
    });
    await expect(store.nars.byNarHash(sha256Of("x"))).rejects.toThrow("no disk");
    expect(await store.nars.byNarHash(sha256Of("x"))).toBeUndefined();
    expect(tries).toBe(2);
  });
});
