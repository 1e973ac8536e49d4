/**
 * Stores whose bytes were changed where they lie: a reader gets what was stored or ERR_DATA_LOSS, and a check says what is damaged.
 */
import { readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { encodeBlockHeader, PACK_HEADER } from "../../../src/backends/packs/pack-format.ts";
import { PacksStore } from "../../../src/backends/packs/packs-store.ts";
import type { BlobBlock, BlockPart } from "../../../src/castore/blob-block.ts";
import { toSmallBlob } from "../../../src/castore/blob-service.ts";
import type { B3Digest } from "../../../src/castore/digest.ts";
import { compressZstdSync, decompressZstdSync } from "../../../src/compression/zstd.ts";
import { isNarborError } from "../../../src/errors.ts";
import { collect, collectItems, expectBytes, hexes, sampleBytes } from "../../helpers/bytes.ts";
import { directoryOf } from "../../helpers/castore.ts";
import { checked, namedIn, onlyPack, packFiles, withStore } from "../../helpers/pack-stores.ts";
import { expectCode, expectReason } from "../../helpers/promises.ts";
import { temporaryDirectory } from "../../helpers/temporary-directory.ts";
import { sourceOf } from "../../helpers/tracked-source.ts";

const HELLO = toSmallBlob(new Uint8Array(Buffer.from("Hello World!")));
const OTHER = toSmallBlob(new Uint8Array(Buffer.from("another blob in the same block, which can be compressed, can be compressed")));
const LEAF = directoryOf({ hello: { type: "file", digest: HELLO.digest, size: 12, executable: false } });
const LARGE = sampleBytes(1_500_000, 3);

/** A store of a block of two blobs and a block of a directory. */
async function makeStore(path: string, compression: 1 | "none"): Promise<void> {
  await withStore(
    path,
    async (store) => {
      await store.blobs.putMany([HELLO, OTHER]);
      await store.directories.putClosure([LEAF.bytes]);
    },
    { compression },
  );
}

/** What it gives of a blob as it is stored. */
async function contentOf(store: PacksStore, digest: B3Digest, size: number): Promise<Uint8Array> {
  const [block] = await collectItems(store.blobs.readBlocks?.([{ digest, size }]) ?? []);
  const { codec, bytes, size: blockSize, parts } = block as BlobBlock;
  const [{ offset, length }] = parts as [BlockPart];
  return (codec === "zstd" ? decompressZstdSync(bytes, blockSize) : bytes).subarray(offset, offset + length);
}

async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] as number) ^ 0x10;
  await writeFile(path, bytes);
}

test.for([["none"], [1]] as const)("a byte flipped anywhere in a pack (compression %s) never gives other bytes, and check() finds it", { timeout: 120_000 }, async ([compression]) => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  await makeStore(path, compression);
  const pack = await onlyPack(path);
  const good = await readFile(pack);
  const lost = new Set<string>();
  for (let at = 0; at < good.length; at++) {
    await flip(pack, at);
    await using store = await PacksStore.open(path);
    for (const { digest, size, bytes } of [HELLO, OTHER]) {
      for (const read of [
        async () => await collect((await store.blobs.openRead(digest)) as AsyncIterable<Uint8Array>),
        async () => (await collectItems(store.blobs.readMany([{ digest, size }])))[0],
        async () => await contentOf(store, digest, size),
      ]) {
        const found = await read().catch((error: unknown) => (isNarborError(error, "ERR_DATA_LOSS") ? "lost" : Promise.reject(error)));
        if (found === "lost") lost.add(`${at} ${hexes([digest])[0]}`);
        else expectBytes(found, bytes);
      }
    }
    expectBytes(await store.directories.get(LEAF.digest), LEAF.bytes);
    const damage = (await checked(store)).filter(({ type }) => type === "damage");
    expect(damage.length, `byte ${at} of ${good.length} is not found`).toBeGreaterThan(0);
    const unreadable = [HELLO, OTHER].map(({ digest }) => hexes([digest])[0] as string).filter((digest) => lost.has(`${at} ${digest}`));
    expect(namedIn(damage)).toEqual(expect.arrayContaining(unreadable));
    await writeFile(pack, good);
  }
  expect(lost.size).toBeGreaterThan(20);
});

test("check() of a good store finds nothing and tells how far it is", async () => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  await withStore(path, (store) => store.blobs.put(sourceOf(LARGE)));
  await makeStore(path, 1);
  await withStore(path, async (store) => {
    const all = await collectItems(store.check());
    const totalBytes = await store.packBytes();
    expect(all.every((item) => item.type === "progress" && item.totalBytes === totalBytes)).toBe(true);
    const bytes = all.map((item) => (item.type === "progress" ? item.bytes : 0));
    expect(bytes).toEqual([...bytes].sort((a, b) => a - b));
    expect(bytes.at(-1)).toBe(totalBytes);
  });
});

test("check() reads the disk and not what was read before", async () => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  await makeStore(path, "none");
  await using store = await PacksStore.open(path);
  await collectItems(store.blobs.readMany([HELLO]));
  const pack = await onlyPack(path);
  await flip(pack, (await readFile(pack)).indexOf("Hello World!"));
  expect(namedIn(await checked(store))).toEqual(expect.arrayContaining(hexes([HELLO.digest])));
});

test("check() stops with the signal's reason", async () => {
  await using temporary = await temporaryDirectory();
  await makeStore(temporary.path, 1);
  await withStore(temporary.path, async (store) => {
    const reason = new Error("enough");
    await expectReason(collectItems(store.check(AbortSignal.abort(reason))), reason);
  });
});

test("a damaged chunk of a large blob is ERR_DATA_LOSS in its turn, and ranges beside it are read", async () => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  const { digest, chunks } = await withStore(
    path,
    async (store) => {
      const put = await store.blobs.put(sourceOf(LARGE));
      return { digest: put, chunks: (await store.blobs.stat(put))?.chunks ?? [] };
    },
    { compression: "none" },
  );
  const [first, second] = chunks.map(({ size }) => size) as [number, number];
  const pack = await onlyPack(path);
  await flip(pack, (await readFile(pack)).indexOf(LARGE.subarray(first + 1_000, first + 1_100)));
  await withStore(path, async (store) => {
    const taken: Uint8Array[] = [];
    const reading = async (): Promise<void> => {
      for await (const bytes of (await store.blobs.openRead(digest)) as AsyncIterable<Uint8Array>) taken.push(bytes);
    };
    await expectCode(reading(), "ERR_DATA_LOSS");
    // What was given before it is what was stored; a reader may be given less than all that is good.
    const before = Buffer.concat(taken);
    expect(before.length).toBeLessThanOrEqual(first);
    expectBytes(before, LARGE.subarray(0, before.length));
    await expectCode(collectItems(store.blobs.readMany([{ digest, size: LARGE.length }])), "ERR_DATA_LOSS");
    const range = async (start: number, end: number): Promise<Uint8Array> => await collect((await store.blobs.openRead(digest, { start, end })) as AsyncIterable<Uint8Array>);
    expectBytes(await range(0, first), LARGE.subarray(0, first));
    expectBytes(await range(first + second, LARGE.length), LARGE.subarray(first + second));
    await expectCode(range(first - 1, first + 1), "ERR_DATA_LOSS");
    expect(namedIn(await checked(store))).toEqual(hexes([chunks[1]?.digest as Uint8Array]));
  });
});

test("a blob that was lost is whole again when it is put again after the index was made anew", async () => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  await makeStore(path, "none");
  const pack = await onlyPack(path);
  await flip(pack, (await readFile(pack)).indexOf("Hello World!"));
  await withStore(
    path,
    async (store) => {
      expect(await store.blobs.findMissing([HELLO.digest])).toHaveLength(1);
      await store.blobs.putMany([HELLO]);
      expectBytes((await collectItems(store.blobs.readMany([HELLO])))[0], HELLO.bytes);
      expectBytes(await store.directories.get(LEAF.digest), LEAF.bytes);
    },
    { rebuildIndex: true },
  );
});

test("a pack that is shorter than the index says is damage, not an unfinished write", async () => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  await makeStore(path, "none");
  const pack = await onlyPack(path);
  const good = await readFile(pack);
  for (const length of [good.length - 1, 100, 16, 0]) {
    await truncate(pack, length);
    await withStore(path, async (store) => {
      const found = await checked(store);
      expect(found.map(({ type }) => type)).toContain("damage");
      if (length <= 100) expect(namedIn(found)).toEqual(expect.arrayContaining(hexes([HELLO.digest, OTHER.digest])));
    });
    await writeFile(pack, good);
  }
});

test("a pack that is gone is ERR_DATA_LOSS for what it held, and check() names it", async () => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  await makeStore(path, "none");
  const kept = toSmallBlob(sampleBytes(100, 9));
  await rm(await onlyPack(path));
  await withStore(path, async (store) => {
    await store.blobs.putMany([kept]);
    await expectCode(collectItems(store.blobs.readMany([HELLO])), "ERR_DATA_LOSS", "it is not there");
    expectBytes((await collectItems(store.blobs.readMany([kept])))[0], kept.bytes);
    expect(namedIn(await checked(store))).toEqual(expect.arrayContaining(hexes([HELLO.digest, OTHER.digest])));
  });
  expect(await packFiles(path)).toHaveLength(1);
});

test("a damaged page of the index is ERR_STORE that names what helps, wherever it is met", async () => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  await makeStore(path, "none");
  const index = join(path, "index.sqlite");
  const bytes = await readFile(index);
  // The first page says where the others are; all of them are destroyed.
  await writeFile(index, Buffer.concat([bytes.subarray(0, 4_096), Buffer.alloc(bytes.length - 4_096, 0xee)]));
  const use = async (): Promise<void> => {
    await using store = await PacksStore.open(path);
    await store.blobs.findMissing([HELLO.digest]);
  };
  await expectCode(use(), "ERR_STORE", /verify --rebuild-index/);
  await withStore(path, async (store) => expect(await store.blobs.findMissing([HELLO.digest])).toEqual([]), { rebuildIndex: true });
});

test("a damaged page that only reads of blobs meet is ERR_STORE too", async () => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  await withStore(path, (store) => store.blobs.putMany(Array.from({ length: 2_000 }, (_, index) => toSmallBlob(sampleBytes(10, index)))));
  const index = join(path, "index.sqlite");
  const bytes = await readFile(index);
  // Everything behind the tables' first pages: rows of chunks.
  const keep = 4_096 * 20;
  await writeFile(index, Buffer.concat([bytes.subarray(0, keep), Buffer.alloc(bytes.length - keep, 0xee)]));
  await withStore(path, async (store) => {
    const digests = Array.from({ length: 2_000 }, (_, seed) => toSmallBlob(sampleBytes(10, seed)).digest);
    await expectCode(store.blobs.findMissing(digests), "ERR_STORE", /verify --rebuild-index/);
  });
});

test("a block whose chunks are not all of it is damage, whatever it says: what is said to be a chunk's frame would hold more than the chunk", async () => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  await makeStore(path, 1);
  const pack = await onlyPack(path);
  const content = Buffer.concat([HELLO.bytes, Buffer.from(", and more")]);
  const frame = compressZstdSync(content, 1);
  for (const more of [0, 10]) {
    const header = encodeBlockHeader({ kind: "chunks", codec: "zstd", count: 1, cut: { level: 1 }, rawLength: HELLO.size + more }, [{ digest: HELLO.digest, length: HELLO.size }], frame);
    await writeFile(pack, Buffer.concat([PACK_HEADER, header, frame]));
    await using store = await PacksStore.open(path, { rebuildIndex: true });
    expect((await checked(store)).length).toBeGreaterThan(0);
    if (more > 0) expect(hexes(await store.blobs.findMissing([HELLO.digest]))).toEqual(hexes([HELLO.digest]));
  }
});
