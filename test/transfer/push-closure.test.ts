import { createHash } from "node:crypto";
import { readFile, rm, writeFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { GrpcStore } from "../../src/backends/grpc/grpc-store.ts";
import { MemoryStore } from "../../src/backends/memory/memory-store.ts";
import { PacksStore } from "../../src/backends/packs/packs-store.ts";
import type { NamedDirectory } from "../../src/castore/directory-order.ts";
import { verifyStore } from "../../src/maintenance/verify-store.ts";
import type { NixPathInfo } from "../../src/nix/path-info-json.ts";
import type { Store } from "../../src/store/store.ts";
import { pushClosure } from "../../src/transfer/push-closure.ts";
import { chunked, collectItems, sampleBytes } from "../helpers/bytes.ts";
import { directoryOf, fileNode } from "../helpers/castore.ts";
import { serveGrpc } from "../helpers/grpc-store.ts";
import { packFiles } from "../helpers/pack-stores.ts";
import { storePathOf } from "../helpers/path-infos.ts";
import type { Tree } from "../helpers/reference-nar.ts";
import { directory, file, referenceNar, symlink } from "../helpers/reference-nar.ts";
import { openStockServer } from "../helpers/stock-server.ts";
import { temporaryDirectory } from "../helpers/temporary-directory.ts";
import { streamOf } from "../helpers/tracked-source.ts";

const SMALL = "a small file that is easy to find";
const LARGE = sampleBytes(3_000_000, 4);

const TREES: Readonly<Record<string, Tree>> = {
  nested: directory({
    bin: directory({ tool: file("#!/bin/sh\n", true), link: symlink("tool") }),
    many: directory(Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`file${index}`, file(`contents ${index}`)]))),
  }),
  "one-file": file(SMALL),
  large: directory({ deep: directory({ large: file(LARGE) }) }),
  symlink: symlink("elsewhere"),
};

/** A Nix store of these trees, none of which refers to another. */
class LocalTrees {
  readonly dumped: string[] = [];
  readonly closure: readonly NixPathInfo[] = Object.entries(TREES).map(([name, tree]) => {
    const nar = referenceNar(tree);
    return { storePath: storePathOf(name), narSha256: new Uint8Array(createHash("sha256").update(nar).digest()), narSize: nar.length, references: [], signatures: [] };
  });

  dump({ name }: { readonly name: string }): AsyncIterable<Uint8Array> {
    this.dumped.push(name);
    return streamOf(chunked(referenceNar(TREES[name] as Tree), 100_000));
  }
}

/** Push all of it; the names of the paths that were sent. */
async function push(store: Store): Promise<readonly string[]> {
  const local = new LocalTrees();
  await pushClosure(local.closure, local, store, { jobs: 2, onEvent: (event) => event.type === "failed" && expect.unreachable(event.error.message) });
  return local.dumped.sort();
}

async function hurtPaths(store: Store): Promise<number> {
  const last = (await collectItems(verifyStore(servicesOf(store)))).at(-1);
  return last?.type === "summary" ? last.hurtPaths : expect.unreachable();
}

/** Without what checks the packs themselves: only paths are asked for. */
function servicesOf({ blobs, directories, pathInfos, nars, documents, computed }: Store): Pick<Store, "blobs" | "directories" | "pathInfos" | "nars" | "documents" | "computed"> {
  return { blobs, directories, pathInfos, nars, documents, computed };
}

const ALL = Object.keys(TREES).sort();

describe("pushClosure() to a store that has lost something", () => {
  test("sends again, after the index was made anew, what a pack that is gone held", async () => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    {
      await using store = await PacksStore.open(path, { create: true });
      expect(await push(store)).toEqual(ALL);
      expect(await push(store)).toEqual([]);
    }
    {
      // What is known of the paths goes to another pack than their contents, as it does when they are pushed at another time.
      await using store = await PacksStore.open(path);
      for await (const pathInfo of store.pathInfos.list()) await store.pathInfos.put({ ...pathInfo, references: [pathInfo.storePath] });
      for await (const pathInfo of store.pathInfos.list()) await store.pathInfos.put({ ...pathInfo, references: [] });
    }
    const packs = await packFiles(path);
    expect(packs.length).toBeGreaterThan(1);
    await rm(packs[0] as string);
    await using store = await PacksStore.open(path, { rebuildIndex: true });
    expect(await hurtPaths(store)).toBe(3);
    expect(await push(store)).toEqual(ALL.filter((name) => name !== "symlink"));
    expect(await hurtPaths(store)).toBe(0);
    expect(await push(store)).toEqual([]);
  });

  test.for([
    ["a small file", Buffer.from(SMALL), "one-file"],
    ["a piece of a large one", LARGE.subarray(2_000_000, 2_000_100), "large"],
  ] as const)("sends again, after the index was made anew, %s whose bytes were overwritten", async ([, bytes, name]) => {
    await using temporary = await temporaryDirectory();
    const { path } = temporary;
    {
      await using store = await PacksStore.open(path, { create: true, compression: "none" });
      await push(store);
    }
    const pack = (await packFiles(path))[0] as string;
    const contents = await readFile(pack);
    const at = contents.indexOf(bytes);
    expect(at).toBeGreaterThan(0);
    contents.fill(0xff, at, at + 8);
    await writeFile(pack, contents);
    await using store = await PacksStore.open(path, { rebuildIndex: true });
    expect(await hurtPaths(store)).toBeGreaterThan(0);
    expect(await push(store)).toContain(name);
    expect(await hurtPaths(store)).toBe(0);
    expect(await push(store)).toEqual([]);
  });

  test("asks a Narbor that has everything for the directories of each path once, and for its files once", async () => {
    await using memory = new MemoryStore();
    const calls: string[] = [];
    const watched = <Service extends object>(service: Service): Service =>
      new Proxy(service, {
        get: (target, property) => {
          const value = Reflect.get(target, property) as unknown;
          if (typeof value !== "function") return value;
          calls.push(String(property));
          return value.bind(target) as unknown;
        },
      });
    const store = new Proxy(memory as Store, {
      get: (target, property) => {
        const value = Reflect.get(target, property) as unknown;
        if (property === "blobs" || property === "directories") return watched(value as object);
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      },
    });
    await using server = await serveGrpc(store);
    await using client = new GrpcStore(server.address);
    expect(await push(client)).toEqual(ALL);
    calls.length = 0;
    expect(await push(client)).toEqual([]);
    expect(calls.filter((call) => call === "getClosure")).toHaveLength(2);
    expect(calls.filter((call) => call === "findMissing")).toHaveLength(3);
    expect(calls).toHaveLength(5);
  });

  test("sends again what a stock server has lost below a root that it has, and does not ask it for every file", async () => {
    const side = new MemoryStore();
    await using server = await openStockServer("snix");
    await using store = new GrpcStore(`${server.address}?directory-size=doubled`, { openSideStore: async () => side });
    expect(await push(store)).toEqual(ALL);
    server.stats.length = 0;
    expect(await push(store)).toEqual([]);
    // Of the path that is a file, and of nothing else.
    expect(server.stats).toHaveLength(1);

    const { getClosure } = server.store.directories;
    let lost = 0;
    server.store.directories.getClosure = async (digest, options) => {
      const found = await collectItems((await getClosure.call(server.store.directories, digest, options)) as AsyncIterable<NamedDirectory>);
      if (found.length < 3 || lost++ > 0) return streamOf(found);
      return streamOf(found.slice(0, -1));
    };
    expect(await push(store)).toEqual(["nested"]);
    expect(await push(store)).toEqual([]);
  });

  test("sends again a path that is known only by its NAR, of which the tree is gone", async () => {
    await using store = new MemoryStore();
    const [{ narSha256, narSize }] = new LocalTrees().closure as [NixPathInfo];
    await store.nars.put({ narSha256, narSize, root: directoryOf({ gone: fileNode("gone") }).node });
    expect(await push(store)).toEqual(ALL);
  });
});
