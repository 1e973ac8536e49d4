/** NARs in the frames in which packs have them: always the NAR, as little as possible between the frames, and never other bytes. */
import { readFile, writeFile } from "node:fs/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { BlockCompression } from "../../../src/castore/block-writer.ts";
import { PacksStore } from "../../../src/backends/packs/packs-store.ts";
import type { Node } from "../../../src/castore/node.ts";
import { decompress } from "../../../src/compression/decompress.ts";
import { isNarborError } from "../../../src/errors.ts";
import { importNar } from "../../../src/ingest/ingest-nar.ts";
import type { FramedNar } from "../../../src/render/framed-nar.ts";
import { planFramedNar, renderFramedNar } from "../../../src/render/framed-nar.ts";
import { loadTree } from "../../../src/render/tree.ts";
import { arbitraryTree } from "../../arbitrary/nar-tree.ts";
import { chunked, collect, expectBytes, sampleBytes, textBytes } from "../../helpers/bytes.ts";
import { checked, onlyPack, withStore } from "../../helpers/pack-stores.ts";
import { expectCode, expectReason, within } from "../../helpers/promises.ts";
import type { Tree } from "../../helpers/reference-nar.ts";
import { directory, file, referenceNar, symlink } from "../../helpers/reference-nar.ts";
import { temporaryDirectory } from "../../helpers/temporary-directory.ts";
import { sourceOf, streamOf } from "../../helpers/tracked-source.ts";

/** Many small files as in packages, some of them alike, and a few that are cut or streamed. */
const PACKAGE = directory({
  "a-large": file(sampleBytes(1_500_000, 1)),
  bin: directory({ tool: file(textBytes(300_000), true), link: symlink("tool") }),
  empty: file(""),
  share: directory(Object.fromEntries(Array.from({ length: 400 }, (_, index) => [`file${index}`, file(textBytes(500 + ((index * 37) % 5000), index))]))),
  "z-medium": file(sampleBytes(200_000, 2)),
});

async function put(store: PacksStore, tree: Tree, pieceBytes = 65_536): Promise<Node> {
  const work = store.begin();
  const { root } = await importNar(streamOf(chunked(referenceNar(tree), pieceBytes)), work);
  await work.commit();
  return root;
}

async function plan(store: PacksStore, root: Node, maxBetween = Infinity): Promise<FramedNar> {
  const framed = await planFramedNar(await loadTree(root, store.directories), store.frames, maxBetween);
  if (framed === undefined) expect.unreachable("too much lies elsewhere");
  return framed;
}

/** Both ways. */
async function narOf(store: PacksStore, framed: FramedNar): Promise<Uint8Array> {
  const nar = await collect(renderFramedNar(framed, "nar", store));
  expectBytes(await collect(decompress(renderFramedNar(framed, "zstd", store), { codec: "zstd" })), nar);
  return nar;
}

function bytesBetween({ parts }: FramedNar): number {
  return parts.reduce((sum, part) => sum + ("segments" in part ? part.rawLength : 0), 0);
}

describe.for([[1], ["none"]] as [BlockCompression][])("with compression %s", ([compression]) => {
  test.for([1000, 65_536, 100_000_000])("a NAR that came in pieces of %i bytes lies in frames", async (pieceBytes) => {
    await using temporary = await temporaryDirectory();
    await using store = await PacksStore.open(temporary.path, { create: true, compression });
    const nar = referenceNar(PACKAGE);
    const framed = await plan(store, await put(store, PACKAGE, pieceBytes));
    expectBytes(await narOf(store, framed), nar);
    expect(bytesBetween(framed) / nar.length).toBeLessThan(0.02);
    expect((await collect(renderFramedNar(framed, "zstd", store))).length).toBe(framed.size);
    expect(await checked(store)).toEqual([]);
  });

  test("any range of the frames, or of the NAR, is that range", async () => {
    await using temporary = await temporaryDirectory();
    await using store = await PacksStore.open(temporary.path, { create: true, compression });
    const framed = await plan(store, await put(store, PACKAGE));
    for (const form of ["zstd", "nar"] as const) {
      const whole = await collect(renderFramedNar(framed, form, store));
      await fc.assert(
        fc.asyncProperty(fc.nat(whole.length), fc.nat(whole.length), async (a, b) => {
          const [start, end] = [Math.min(a, b), Math.max(a, b)];
          expectBytes(await collect(renderFramedNar(framed, form, store, { start, end })), whole.subarray(start, end));
        }),
        { numRuns: 40 },
      );
    }
  });
});

test("NARs of any trees that share what they share come out of their frames as they went in", async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  await fc.assert(
    fc.asyncProperty(arbitraryTree, async (tree) => {
      expectBytes(await narOf(store, await plan(store, await put(store, tree, 1000))), referenceNar(tree));
    }),
    { numRuns: 100 },
  );
});

test("imports that run side by side do not spoil each other's frames", async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  const trees = Array.from({ length: 4 }, (_, seed) => directory(Object.fromEntries(Array.from({ length: 600 }, (_unused, index) => [`file${index}`, file(textBytes(4000, 1000 * seed + index))]))));
  const roots = await Promise.all(trees.map((tree) => put(store, tree)));
  for (const [index, tree] of trees.entries()) {
    const framed = await plan(store, roots[index] as Node);
    expectBytes(await narOf(store, framed), referenceNar(tree));
    expect(bytesBetween(framed)).toBeLessThan(referenceNar(tree).length / 100);
  }
});

test("a NAR whose files came from elsewhere lies in no frames, which is said, and is right all the same", async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  const names = Array.from({ length: 300 }, (_, index) => `file${index}`);
  const files = names.map((name, index) => [name, file(textBytes(2000, index))] as const);
  await put(store, directory(Object.fromEntries(files)));
  const other = directory(Object.fromEntries(files.map(([name, content], index) => [`${(index * 7) % 300}-${name}`, content])));
  const root = await put(store, other);
  const nar = referenceNar(other);
  expect(await planFramedNar(await loadTree(root, store.directories), store.frames, nar.length / 2)).toBeUndefined();
  expectBytes(await narOf(store, await plan(store, root)), nar);
});

test("a NAR of the same files under other names of the same length has its own framing", async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  const named = (name: string): Tree => directory(Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`${name}${String(index).padStart(3, "0")}`, file(textBytes(1000, index))])));
  for (const name of ["a", "b"]) expectBytes(await narOf(store, await plan(store, await put(store, named(name)))), referenceNar(named(name)));
});

test("files that are there already, and large ones between, leave most of a NAR in frames", async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  const known = textBytes(3000, 7);
  await put(store, directory({ known: file(known) }));
  const content = (index: number): Uint8Array => (index % 50 === 49 ? known : index % 50 === 20 ? sampleBytes(150_000, index) : textBytes(4000, index));
  const tree = directory(Object.fromEntries(Array.from({ length: 600 }, (_, index) => [`file${String(index).padStart(3, "0")}`, file(content(index))])));
  const framed = await plan(store, await put(store, tree));
  expectBytes(await narOf(store, framed), referenceNar(tree));
  expect(bytesBetween(framed) / referenceNar(tree).length).toBeLessThan(0.1);
});

test("a NAR that comes back to one block thousands of times is laid out at once", async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  await put(store, directory(Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`f${String(index).padStart(5, "0")}`, file(`${index}`)]))));
  const again = directory(Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`g${String(index).padStart(5, "0")}`, file("0")])));
  const root = await put(store, again);
  expectBytes(await narOf(store, await within(plan(store, root), 5_000)), referenceNar(again));
});

test("a store that is opened again, or whose index is made anew, has the same frames", async () => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  const root = await withStore(path, async (store) => await put(store, PACKAGE));
  const whole = await withStore(path, async (store) => await collect(renderFramedNar(await plan(store, root), "zstd", store)));
  await withStore(path, async (store) => expectBytes(await collect(renderFramedNar(await plan(store, root), "zstd", store)), whole), { rebuildIndex: true });
});

test.for([[1], ["none"]] as [BlockCompression][])("a byte that is flipped anywhere in a pack (compression %s) gives the NAR or ERR_DATA_LOSS", { timeout: 120_000 }, async ([compression]) => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  const tree = directory({ a: file(textBytes(400, 1)), b: symlink("a"), c: file(textBytes(300, 2)), d: directory({ e: file(textBytes(200, 3)) }) });
  const root = await withStore(path, async (store) => await put(store, tree), { compression });
  const pack = await onlyPack(path);
  const good = await readFile(pack);
  let lost = 0;
  for (let at = 0; at < good.length; at++) {
    const bad = Buffer.from(good);
    bad[at] = (bad[at] as number) ^ 0x10;
    await writeFile(pack, bad);
    await withStore(path, async (store) => {
      // Each form by itself: the one must not hide what the other does.
      for (const form of ["nar", "zstd"] as const) {
        try {
          const rendered = renderFramedNar(await plan(store, root), form, store);
          expectBytes(await collect(form === "nar" ? rendered : decompress(rendered, { codec: "zstd" })), referenceNar(tree));
        } catch (error) {
          if (!isNarborError(error, "ERR_DATA_LOSS")) throw error;
          lost++;
        }
      }
    });
  }
  expect(lost).toBeGreaterThan(100);
});

test("a pack that is damaged or cut off after a NAR was planned gives the NAR or ERR_DATA_LOSS", async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  const framed = await plan(store, await put(store, PACKAGE));
  const nar = referenceNar(PACKAGE);
  const pack = await onlyPack(temporary.path);
  const good = await readFile(pack);
  const attempt = async (bytes: Uint8Array): Promise<number> => {
    await writeFile(pack, bytes);
    let lost = 0;
    for (const form of ["nar", "zstd"] as const) {
      try {
        const rendered = renderFramedNar(framed, form, store);
        expectBytes(await collect(form === "nar" ? rendered : decompress(rendered, { codec: "zstd" })), nar);
      } catch (error) {
        if (!isNarborError(error, "ERR_DATA_LOSS")) throw error;
        expect(error.message).toMatch(/^Cannot read the block at byte \d+ of pack "[^"]+": (its bytes are not those that were stored|the file is too short)$|^Cannot render: chunk|^Cannot read chunk/);
        lost++;
      }
    }
    return lost;
  };
  let lost = 0;
  for (let at = 1000; at < good.length; at += 99_991) lost += await attempt(Buffer.concat([good.subarray(0, at), Buffer.of((good[at] as number) ^ 1), good.subarray(at + 1)]));
  expect(lost).toBeGreaterThan(20);
  expect(await attempt(good.subarray(0, good.length / 2))).toBe(2);
  expect(await attempt(good)).toBe(0);
});

test.for([[1], ["none"]] as [BlockCompression][])("blocks that have changed places (compression %s) are never taken for each other", async ([compression]) => {
  await using temporary = await temporaryDirectory();
  const { path } = temporary;
  // Each is a block of its own, as long as the other.
  const tree = directory({ a: file(sampleBytes(200_000, 1)), b: file(sampleBytes(200_000, 2)) });
  const root = await withStore(path, async (store) => {
    const stored = await put(store, tree);
    const framed = await plan(store, stored);
    const name = await onlyPack(path);
    const good = await readFile(name);
    const [start, length] = [good.indexOf("NBLK"), good.indexOf("NBLK", good.indexOf("NBLK") + 1) - good.indexOf("NBLK")];
    expect(good.subarray(start + length, start + length + 4).toString()).toBe("NBLK");
    await writeFile(name, Buffer.concat([good.subarray(0, start), good.subarray(start + length, start + 2 * length), good.subarray(start, start + length), good.subarray(start + 2 * length)]));
    for (const form of ["nar", "zstd"] as const) await expectCode(collect(renderFramedNar(framed, form, store)), "ERR_DATA_LOSS");
    return stored;
  }, { compression });
  await withStore(path, async (store) => {
    const framed = await plan(store, root);
    for (const form of ["nar", "zstd"] as const) await expectCode(collect(renderFramedNar(framed, form, store)), "ERR_DATA_LOSS");
  });
});

test("files that are large, or stored already, leave little of the NAR around them outside of frames", async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  const before = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`old${index}`, file(textBytes(5000, 9000 + index))]));
  await put(store, directory(before));
  const entry = (index: number): Tree => {
    if (index % 97 === 0) return before[`old${index % 50}`] as Tree;
    if (index % 131 === 0) return file(sampleBytes(1_200_000, index));
    return file(textBytes(index % 53 === 0 ? 150_000 : 6000, index));
  };
  const tree = directory(Object.fromEntries(Array.from({ length: 1200 }, (_, index) => [`file${String(index).padStart(4, "0")}`, entry(index)])));
  const framed = await plan(store, await put(store, tree));
  const nar = referenceNar(tree);
  expectBytes(await narOf(store, framed), nar);
  expect(bytesBetween(framed) / nar.length).toBeLessThan(0.02);
});

test("a blob that is not stored is ERR_DATA_LOSS, and the signal's reason comes out", async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  const content = sampleBytes(1000, 9);
  const node: Node = { type: "file", digest: (await store.blobs.put(sourceOf(content))), size: 999, executable: false };
  await expectCode(plan(store, node), "ERR_DATA_LOSS", "1000 bytes");
  await expectCode(plan(store, { ...node, digest: new Uint8Array(32) as typeof node.digest }), "ERR_DATA_LOSS", "not stored");
  const reason = new Error("the client left");
  const framed = await plan(store, { ...node, size: 1000 });
  await expectReason(collect(renderFramedNar(framed, "zstd", store, { signal: AbortSignal.abort(reason) })), reason);
});
