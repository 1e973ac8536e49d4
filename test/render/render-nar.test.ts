import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { PacksStore } from "../../src/backends/packs/packs-store.ts";
import type { BlobService } from "../../src/castore/blob-service.ts";
import type { ImportedNar } from "../../src/ingest/ingest-nar.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import { narListing } from "../../src/render/nar-listing.ts";
import { planNar } from "../../src/render/render-nar.ts";
import { loadTree } from "../../src/render/tree.ts";
import { renderArchive } from "../../src/render/segments.ts";
import type { Store } from "../../src/store/store.ts";
import { arbitraryTree } from "../arbitrary/nar-tree.ts";
import { collect, expectBytes, sampleBytes } from "../helpers/bytes.ts";
import type { Tree } from "../helpers/reference-nar.ts";
import { referenceNar } from "../helpers/reference-nar.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { sourceOf } from "../helpers/tracked-source.ts";

const name = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

function importInto({ blobs, directories }: Store, nar: Uint8Array): Promise<ImportedNar> {
  return importNar(sourceOf(nar), { blobs, directories });
}

async function openPacks(): Promise<Store> {
  const directory = await temporaryDirectory();
  const store = await PacksStore.open(directory.path, { create: true });
  onTestFinished(async () => {
    await store[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });
  return store;
}

const STORES = [
  ["memory", async () => new MemoryStore()],
  ["packs", openPacks],
] as const;

describe.for(STORES)("on %s", ([, open]) => {
  test("renderArchive() gives back every NAR that importNar() took in, and planNar() its size", async () => {
    const store = await open();
    await fc.assert(
      fc.asyncProperty(arbitraryTree, async (tree) => {
        const nar = referenceNar(tree);
        const { root, narSize } = await importInto(store, nar);
        const plan = await planNar(root, store);
        expect([narSize, plan.size]).toEqual([nar.length, nar.length]);
        expectBytes(await collect(renderArchive(plan, store)), nar);
      }),
      { numRuns: 60 },
    );
  });

  test("renderArchive() gives any range as cut from the whole", async () => {
    const store = await open();
    await fc.assert(
      fc.asyncProperty(arbitraryTree, fc.nat(), fc.nat(), async (tree, a, b) => {
        const nar = referenceNar(tree);
        const plan = await planNar((await importInto(store, nar)).root, store);
        const [start, end] = [a % nar.length, b % (nar.length + 100)].sort((x, y) => x - y) as [number, number];
        expectBytes(await collect(renderArchive(plan, store, { start, end })), nar.subarray(start, end));
      }),
      { numRuns: 60 },
    );
  });

  test("renderArchive() of a range reads no file outside of it", async () => {
    const store = await open();
    const files = Array.from({ length: 50 }, (_, index) => [name(String(index).padStart(2, "0")), { type: "file", bytes: sampleBytes(5000, index) }] as const);
    const nar = referenceNar({ type: "directory", entries: [...files, [name("large"), { type: "file", bytes: sampleBytes(2_000_000) }]] });
    const plan = await planNar((await importInto(store, nar)).root, store);
    let small = 0;
    let large = 0;
    const blobs: Pick<BlobService, "findMissing" | "readMany" | "openRead"> = {
      findMissing: (digests) => store.blobs.findMissing(digests),
      openRead: (digest, options) => {
        large++;
        return store.blobs.openRead(digest, options);
      },
      readMany: (digests) => {
        const asked = [...(digests as Iterable<never>)];
        small += asked.length;
        return store.blobs.readMany(asked);
      },
    };
    expectBytes(await collect(renderArchive(plan, { blobs }, { start: 12_000, end: 20_000 })), nar.subarray(12_000, 20_000));
    expect(small).toBeLessThanOrEqual(3);
    expect(large).toBe(0);
  });

  test("planNar() says that a tree is not there, or not whole", async () => {
    const store = await open();
    const { root } = await importInto(store, referenceNar({ type: "directory", entries: [[name("a"), { type: "file", bytes: name("x") }]] }));
    const other = await open();
    await expect(planNar(root, other)).rejects.toMatchObject({ code: "ERR_NOT_FOUND" });
    await expect(planNar(root, { directories: store.directories, blobs: other.blobs })).rejects.toMatchObject({ code: "ERR_DATA_LOSS" });
  });
});

/** A tree of large files, rendered from a store that says what is open. */
async function watchedLargeFiles(count: number, size: number) {
  const store = new MemoryStore();
  const files = Array.from({ length: count }, (_, index) => [name(String(index).padStart(2, "0")), { type: "file", bytes: sampleBytes(size, index) }] as const);
  const nar = referenceNar({ type: "directory", entries: files });
  const plan = await planNar((await importInto(store, nar)).root, store);
  const watch = { opened: 0, open: 0 };
  const blobs: Pick<BlobService, "findMissing" | "readMany" | "openRead"> = {
    findMissing: store.blobs.findMissing.bind(store.blobs),
    readMany: store.blobs.readMany.bind(store.blobs),
    openRead: async (digest, options) => {
      watch.opened++;
      const content = await store.blobs.openRead(digest, options);
      return content && watched(content);
    },
  };
  async function* watched(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    watch.open++;
    try {
      yield* content;
    } finally {
      watch.open--;
    }
  }
  return { nar, plan, watch, archive: (range?: { readonly start: number; readonly end: number }) => renderArchive(plan, { blobs }, range) };
}

test("renderArchive() asks for a large file before its turn, for one at a time and none that is far away", async () => {
  const { nar, watch, archive } = await watchedLargeFiles(4, 5_000_000);
  let mostOpen = 0;
  let size = 0;
  for await (const bytes of archive()) {
    size += bytes.length;
    mostOpen = Math.max(mostOpen, watch.open);
    // The one that is read, one that waits, and none beyond it.
    expect(watch.opened).toBeLessThanOrEqual(1 + Math.ceil((size + 4 * 1024 * 1024) / 5_000_000));
  }
  expect(size).toBe(nar.length);
  expect([mostOpen, watch.opened, watch.open]).toEqual([2, 4, 0]);
});

test("renderArchive() gives any range of large files, and opens none outside of it", async () => {
  const { nar, watch, archive } = await watchedLargeFiles(4, 1_500_000);
  for (const [start, end] of [[0, 100], [1_400_000, 1_600_000], [1_600_000, 4_600_000], [3_100_000, 3_200_000], [5_900_000, nar.length]] as const) {
    watch.opened = 0;
    expectBytes(await collect(archive({ start, end })), nar.subarray(start, end));
    expect(watch.opened).toBeLessThanOrEqual(1 + Math.ceil((end - start) / 1_500_000));
    expect(watch.open).toBe(0);
  }
});

test("renderArchive() closes the large files it has opened when no one reads on", async () => {
  const { watch, archive } = await watchedLargeFiles(4, 1_500_000);
  for await (const bytes of archive()) if (bytes.length > 0 && watch.open === 2) break;
  expect([watch.opened, watch.open]).toEqual([2, 0]);
});

test("renderArchive() fails, and does not end, when a file is not as long as its directory says", async () => {
  const store = new MemoryStore();
  const { root } = await importInto(store, referenceNar({ type: "directory", entries: [[name("a"), { type: "file", bytes: sampleBytes(1000) }]] }));
  const plan = await planNar(root, store);
  async function* short(): AsyncGenerator<Uint8Array, void, undefined> {
    yield sampleBytes(999);
  }
  const blobs = { findMissing: store.blobs.findMissing.bind(store.blobs), openRead: store.blobs.openRead.bind(store.blobs), readMany: short };
  await expect(collect(renderArchive(plan, { blobs }))).rejects.toMatchObject({ code: "ERR_DATA_LOSS" });
});

test("narListing() says where each file's contents are in the NAR, for any tree", async () => {
  const store = new MemoryStore();
  await fc.assert(
    fc.asyncProperty(arbitraryTree, async (tree) => {
      const nar = referenceNar(tree);
      const loaded = await loadTree((await importInto(store, nar)).root, store.directories);
      const listing = JSON.parse([...narListing(loaded)].join("")) as { version: number; root: Listed };
      expect(listing.version).toBe(1);
      checkListed(listing.root, tree, nar);
    }),
    { numRuns: 60 },
  );
});

interface Listed {
  readonly type: string;
  readonly size?: number;
  readonly executable?: boolean;
  readonly narOffset?: number;
  readonly target?: string;
  readonly entries?: Readonly<Record<string, Listed>>;
}

function checkListed(listed: Listed, tree: Tree, nar: Uint8Array): void {
  switch (tree.type) {
    case "file":
      expect(listed).toEqual({ type: "regular", size: tree.bytes.length, ...(tree.executable === true && { executable: true }), narOffset: listed.narOffset });
      expectBytes(nar.subarray(listed.narOffset, (listed.narOffset ?? 0) + tree.bytes.length), tree.bytes);
      return;
    case "symlink":
      expect(listed).toEqual({ type: "symlink", target: Buffer.from(tree.target).toString() });
      return;
    case "directory":
      expect(listed.type).toBe("directory");
      for (const [entryName, child] of tree.entries) {
        const key = Buffer.from(entryName).toString();
        // JSON has no bytes: two names that are not UTF-8 may become one key.
        const isOnlyOne = tree.entries.filter(([otherName]) => Buffer.from(otherName).toString() === key).length === 1;
        if (isOnlyOne && key !== "__proto__") checkListed(Object.getOwnPropertyDescriptor(listed.entries, key)?.value as Listed, child, nar);
      }
  }
}
