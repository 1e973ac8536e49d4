/** Packs stores on disk, for tests that damage them. */
import { cp, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import type { PacksStoreOptions } from "../../src/backends/packs/packs-store.ts";
import { PacksStore } from "../../src/backends/packs/packs-store.ts";
import type { B3Digest } from "../../src/castore/digest.ts";
import { decodeDirectory } from "../../src/castore/directory-proto.ts";
import type { Node } from "../../src/castore/node.ts";
import { blake3 } from "../../src/hash/blake3.ts";
import { importNar } from "../../src/ingest/ingest-nar.ts";
import type { Store } from "../../src/store/store.ts";
import type { StoreCheck } from "../../src/store/store-check.ts";
import { collect, collectItems, expectBytes, hexes } from "./bytes.ts";
import { pathInfoOf } from "./path-infos.ts";
import type { Tree } from "./reference-nar.ts";
import { referenceNar } from "./reference-nar.ts";
import { sourceOf } from "./tracked-source.ts";

/** Run `use` on the store in a directory and close it. */
export async function withStore<T>(directory: string, use: (store: PacksStore) => Promise<T>, options: PacksStoreOptions = {}): Promise<T> {
  await using store = await PacksStore.open(directory, { create: true, ...options });
  return await use(store);
}

/** The only pack in a store's directory. */
export async function onlyPack(directory: string): Promise<string> {
  const packs = await packFiles(directory);
  expect(packs).toHaveLength(1);
  return packs[0] as string;
}

/** All packs in a store's directory, in the order in which they were begun. */
export async function packFiles(directory: string): Promise<string[]> {
  return (await readdir(join(directory, "packs"))).sort().map((name) => join(directory, "packs", name));
}

/** Copy a store's directory as it is at this moment. */
export async function snapshot(directory: string, to: string): Promise<void> {
  await cp(directory, to, { recursive: true });
}

/** Blocks in all packs, found by their magic; of use for stores without compression and contents that do not hold it. */
export async function countBlocks(directory: string): Promise<number> {
  const packs = await Promise.all((await packFiles(directory)).map((path) => readFile(path)));
  return packs.reduce((sum, bytes) => sum + bytes.toString("latin1").split("NBLK").length - 1, 0);
}

/** A tree that was imported, and all that its import promised. */
export interface ImportedTree {
  readonly name: string;
  readonly tree: Tree;
  readonly root: Node;
}

/** Import a tree as one piece of work and put a path info for it. */
export async function importTree(store: Store, name: string, tree: Tree): Promise<ImportedTree> {
  const work = store.begin();
  const { root, narSha256, narSize } = await importNar(sourceOf(referenceNar(tree)), work);
  await work.nars.put({ root, narSha256, narSize });
  await work.commit();
  await store.pathInfos.put(pathInfoOf(name, { root, narSha256, narSize }));
  return { name, tree, root };
}

/** That an import is there as a whole, its path info too. */
export async function expectImported(store: Store, { name, tree, root }: ImportedTree): Promise<void> {
  expect((await store.pathInfos.get(pathInfoOf(name).storePath.digest))?.storePath.name).toBe(name);
  expectBytes(referenceNar(await treeOf(store, root)), referenceNar(tree));
}

/** That whatever is there of an import is whole: no path info without its NAR, no directory without what it holds. */
export async function expectConsistent(store: Store, { name, tree, root }: ImportedTree): Promise<void> {
  const pathInfo = await store.pathInfos.get(pathInfoOf(name).storePath.digest);
  const nar = referenceNar(tree);
  if (pathInfo !== undefined) {
    expect(await store.nars.byNarHash(pathInfo.narSha256)).toBeDefined();
    expectBytes(referenceNar(await treeOf(store, root)), nar);
  }
  for (const directory of directoriesOf(tree)) {
    const stored = await store.directories.get(blake3(await directory) as B3Digest);
    if (stored !== undefined) for (const { node } of decodeDirectory(stored)) await treeOf(store, node);
  }
}

/** A stored tree, every byte of it read. */
export async function treeOf(store: Pick<Store, "blobs" | "directories">, node: Node): Promise<Tree> {
  if (node.type === "symlink") return { type: "symlink", target: node.target };
  if (node.type === "file") {
    const stream = await store.blobs.openRead(node.digest);
    expect(stream).toBeDefined();
    return { type: "file", bytes: await collect(stream as AsyncIterable<Uint8Array>), executable: node.executable };
  }
  const message = await store.directories.get(node.digest);
  expect(message).toBeDefined();
  const entries: [Uint8Array, Tree][] = [];
  for (const entry of decodeDirectory(message as Uint8Array)) entries.push([entry.name, await treeOf(store, entry.node)]);
  return { type: "directory", entries };
}

/** Messages of all directories in a tree. */
function directoriesOf(tree: Tree): Promise<Uint8Array>[] {
  if (tree.type !== "directory") return [];
  return [...tree.entries.flatMap(([, child]) => directoriesOf(child)), messageOf(tree)];
}

async function messageOf(tree: Tree): Promise<Uint8Array> {
  const messages: Uint8Array[] = [];
  const blobs = {
    putMany: async () => undefined,
    put: async (content: AsyncIterable<Uint8Array>) => blake3(await collect(content)) as B3Digest,
  };
  const directories = {
    putClosure: async (list: AsyncIterable<Uint8Array> | Iterable<Uint8Array>) => {
      for await (const bytes of list) messages.push(bytes);
      return blake3(messages.at(-1) as Uint8Array) as B3Digest;
    },
  };
  await importNar(sourceOf(referenceNar(tree)), { blobs, directories });
  return messages.at(-1) as Uint8Array;
}

/** What a check of the store has to say, its progress left out. */
export async function checked(store: PacksStore): Promise<Exclude<StoreCheck, { readonly type: "progress" }>[]> {
  return (await collectItems(store.check())).filter((item) => item.type !== "progress");
}

/** Digests that a check names. */
export function namedIn(found: readonly StoreCheck[]): string[] {
  return hexes(found.flatMap((item) => (item.type === "damage" && item.digest !== undefined ? [item.digest] : [])));
}
