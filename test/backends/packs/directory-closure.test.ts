/** What the packs store promises of closures beyond the contract: few queries, little memory, and up to a number of directories all at once. */
import { afterEach, expect, test, vi } from "vitest";
import { IndexDatabase } from "../../../src/backends/packs/index-database.ts";
import { PacksStore } from "../../../src/backends/packs/packs-store.ts";
import type { NamedDirectory } from "../../../src/castore/directory-order.ts";
import { collectItems, expectBytes, hexes } from "../../helpers/bytes.ts";
import type { TestDirectory } from "../../helpers/castore.ts";
import { directoryOf, fileNode } from "../../helpers/castore.ts";
import { temporaryDirectory } from "../../helpers/temporary-directory.ts";
import { largeClosure, wideClosure } from "../../helpers/wide-closure.ts";

afterEach(() => void vi.restoreAllMocks());

async function closureOf(store: PacksStore, root: TestDirectory | undefined): Promise<NamedDirectory[]> {
  return await collectItems((await store.directories.getClosure((root as TestDirectory).digest)) as AsyncIterable<NamedDirectory>);
}

test("getClosure() of 10,000 directories asks the index about 80 times", async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  const closure = wideClosure(100);
  await store.directories.putClosure(closure.map(({ bytes }) => bytes));
  const many = vi.spyOn(IndexDatabase.prototype, "directories");
  const one = vi.spyOn(IndexDatabase.prototype, "directory");
  const found = await closureOf(store, closure.at(-1));
  expect(found).toHaveLength(10_101);
  expect(new Set(hexes(found.map(({ digest }) => digest)))).toEqual(new Set(hexes(closure.map(({ digest }) => digest))));
  expect(many.mock.calls.length).toBeLessThanOrEqual(Math.ceil(10_101 / 128) + 2);
  // The root, which is the only one at its level.
  expect(one).toHaveBeenCalledTimes(1);
});

test("getClosure() gives directories of any size, small and large ones beside each other", async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  const leaves = [...largeClosure(3, 15).slice(0, -1), ...largeClosure(3, 17).slice(0, -1), directoryOf({}), directoryOf({ a: fileNode("a") })];
  const root = directoryOf(Object.fromEntries(leaves.map((leaf, index) => [String(index), leaf])));
  await store.directories.putClosure([...leaves, root].map(({ bytes }) => bytes));
  const found = await closureOf(store, root);
  expect(hexes(found.map(({ digest }) => digest))).toEqual(hexes([root, ...leaves].map(({ digest }) => digest)));
  for (const [index, leaf] of [root, ...leaves].entries()) expectBytes(found[index]?.bytes, leaf.bytes);
});

test("putClosure() of 16,000 directories shows them all at once", async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  const closure = wideClosure(126);
  let isDone = false;
  const putting = store.directories.putClosure(closure.map(({ bytes }) => bytes)).finally(() => (isDone = true));
  const first = closure[0] as TestDirectory;
  const root = closure.at(-1) as TestDirectory;
  let looks = 0;
  while (!isDone) {
    const [leaf, whole] = await Promise.all([store.directories.get(first.digest), store.directories.get(root.digest)]);
    expect(leaf === undefined).toBe(whole === undefined);
    looks++;
    await new Promise(setImmediate);
  }
  expect(looks).toBeGreaterThan(5);
  expect(closure.length).toBeGreaterThan(16_000);
  expectBytes(await putting, root.digest);
  expect(await closureOf(store, root)).toHaveLength(closure.length);
});

test("putClosure() of 60,000 directories stores them all, through a work too", { timeout: 60_000 }, async () => {
  await using temporary = await temporaryDirectory();
  await using store = await PacksStore.open(temporary.path, { create: true });
  const closure = wideClosure(245);
  const work = store.begin();
  await work.directories.putClosure(closure.map(({ bytes }) => bytes));
  await work.commit();
  expect(await closureOf(store, closure.at(-1))).toHaveLength(closure.length);
});
