/**
 * Claim: a closure of a million directories goes into packs and comes out again with less than 250 MiB more memory than a small one.
 * The directories are made as they are read: 1,000 of 1,000 leaves each, all distinct, below a chain of 100. Each way runs in a process of its own, which
 * first takes a closure of 20,001, so that what does not grow (threads, SQLite's cache) is there before.
 */
import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
// As built: what users run, and its codec workers are .js.
import { encodeDirectory, PacksStore, toSmallBlob } from "../dist/index.js";
import type { DirectoryNode, Node } from "../dist/index.js";
import { printRow, timed } from "./figures.ts";

const WIDTH = Number(process.env["BENCH_WIDTH"] ?? 1000);
const DEPTH = 100;

interface MadeDirectory {
  readonly bytes: Uint8Array;
  readonly node: DirectoryNode;
}

function directoryOf(children: readonly (readonly [name: string, node: Node])[]): MadeDirectory {
  const bytes = encodeDirectory(children.map(([name, node]) => ({ name: Buffer.from(name), node })));
  const size = children.reduce((sum, [, node]) => sum + 1 + (node.type === "directory" ? node.size : 0), 0);
  return { bytes, node: { type: "directory", digest: toSmallBlob(bytes).digest, size } };
}

function parentOf(nodes: readonly Node[]): MadeDirectory {
  return directoryOf(nodes.map((node, index) => [String(index).padStart(6, "0"), node]));
}

/** Leaves to root; gives the root's node. */
function* closure(outer: number, inner: number): Generator<Uint8Array, DirectoryNode, undefined> {
  const parents: Node[] = [];
  for (let parent = 0; parent < outer; parent++) {
    const leaves: Node[] = [];
    for (let leaf = 0; leaf < inner; leaf++) {
      const { bytes, node } = directoryOf([["link", { type: "symlink", target: Buffer.from(`${inner}: ${parent}/${leaf}`) }]]);
      yield bytes;
      leaves.push(node);
    }
    const { bytes, node } = parentOf(leaves);
    yield bytes;
    parents.push(node);
  }
  let top = parentOf(parents);
  yield top.bytes;
  for (let level = 0; level < DEPTH; level++) {
    top = directoryOf([["down", top.node]]);
    yield top.bytes;
  }
  return top.node;
}

/** How long `work` takes, how much more memory than before is resident at most, and for how long the event loop stands still at most. */
async function watched(what: string, count: number, work: () => Promise<unknown>): Promise<void> {
  const before = process.memoryUsage.rss();
  let [peak, still, last] = [before, 0, performance.now()];
  const timer = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss());
    still = Math.max(still, performance.now() - last);
    last = performance.now();
  }, 5);
  const { milliseconds } = await timed(work);
  clearInterval(timer);
  printRow(what, `${(milliseconds / 1000).toFixed(1)} s`, `${Math.round((count / milliseconds) * 1000)} /s`, `+${Math.round((peak - before) / 2 ** 20)} MiB`, `${Math.round(still)} ms`);
}

async function readAll(store: PacksStore, root: DirectoryNode): Promise<number> {
  let count = 0;
  for await (const { bytes } of (await store.directories.getClosure(root.digest)) ?? []) count += bytes.length > 0 ? 1 : 0;
  return count;
}

/** The root of a closure without its messages. */
function rootOf(outer: number, inner: number): { readonly root: DirectoryNode; readonly count: number } {
  const making = closure(outer, inner);
  let count = 0;
  for (let step = making.next(); ; step = making.next(), count++) if (step.done === true) return { root: step.value, count };
}

async function run(way: string, directory: string): Promise<void> {
  await using store = await PacksStore.open(directory, { create: true });
  const [small, large] = [rootOf(20, 999), rootOf(WIDTH, WIDTH)];
  if (way === "put") {
    await store.directories.putClosure(closure(20, 999));
    await watched(`putClosure() of ${large.count}`, large.count, () => store.directories.putClosure(closure(WIDTH, WIDTH)));
  } else {
    await readAll(store, small.root);
    await watched(`getClosure() of ${large.count}`, large.count, async () => {
      if ((await readAll(store, large.root)) !== large.count) throw new Error("not all came out");
    });
  }
}

const [, file = "", way, given = ""] = process.argv;
if (way !== undefined) await run(way, given);
else {
  const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
  printRow("", "time", "rate", "memory", "loop stands still");
  for (const each of ["put", "get"]) spawnSync(process.execPath, [...process.execArgv, file, each, directory], { stdio: "inherit" });
  await rm(directory, { recursive: true, force: true });
}
