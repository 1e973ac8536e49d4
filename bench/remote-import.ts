/**
 * Claim: importing into a remote store, and exporting from it, does not take a round trip for every file.
 *
 * The same NAR goes to `narbor serve` through a proxy that adds a round trip time: one Put at a time, 128 Puts at once (one for each file, as the Go
 * importer of tvix did), and as we do. Then back: one Read at a time, 128 at once, and as we do. One at a time is measured on the first
 * files only (all of them with BENCH_FULL=1), since the rest would go on like that. BENCH_FILES is how many files the mixed NAR has.
 */
import type { ChildProcess } from "node:child_process";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { setFlagsFromString } from "node:v8";
import type { LimitFunction } from "p-limit";
import pLimit from "p-limit";
// As built: what users run.
import { parseGrpcAddress } from "../dist/backends/grpc/grpc-address.js";
import { RpcChannel } from "../dist/backends/grpc/rpc-channel.js";
import { frames } from "../dist/bytes/frames.js";
import { toB3Digest } from "../dist/castore/digest.js";
import type { BlobRef, BlobService, Node } from "../dist/index.js";
import { GrpcStore, importNar, planNar, renderArchive } from "../dist/index.js";
import { BlobService as BlobServiceDescriptor } from "../dist/proto/gen/snix/castore/v1/rpc_blobstore_pb.js";
import { median, peakMemory, printRow, timed } from "./figures.ts";
import type { Corpus } from "./nar-corpus.ts";
import { packageFiles, smallFiles } from "./nar-corpus.ts";

// This process is the client, and the command has V8 collect garbage so (docs/decisions/0016).
setFlagsFromString("--heap-growing-percent=100");

const RUNS = Number(process.env["BENCH_RUNS"] ?? 3);
const ROUND_TRIPS = (process.env["BENCH_RTT"] ?? "0,1,10,50").split(",").map(Number);
/** One at a time stops after so many milliseconds, and its rate is that of the files until then. */
const PATIENCE = process.env["BENCH_FULL"] === "1" ? Infinity : 5000;
const MAIN = resolve(import.meta.dirname, "../dist/command/narbor.js");
const PROXY = resolve(import.meta.dirname, "delay-proxy.ts");

type Importer = Pick<BlobService, "putMany" | "put">;
type Exporter = Pick<BlobService, "findMissing" | "openRead" | "readMany">;

interface Way {
  readonly name: string;
  /** Files at once; undefined where they go in batches. */
  readonly atOnce: number | undefined;
}

const WAYS: readonly Way[] = [
  { name: "one at a time", atOnce: 1 },
  { name: "128 at once", atOnce: 128 },
  { name: "as we do", atOnce: undefined },
];

/** Thrown when there has been enough of one at a time. */
class Enough extends Error {}

const { put, read } = BlobServiceDescriptor.method;

/** One Put or Read for each file, with the calls that every castore server has; large ones are streamed in line. */
class SingleCalls {
  readonly #channel: RpcChannel;
  readonly #limit: LimitFunction;
  readonly #deadline: number;
  /** Files done. */
  count = 0;

  constructor(channel: RpcChannel, atOnce: number) {
    this.#channel = channel;
    this.#limit = pLimit(atOnce);
    this.#deadline = atOnce === 1 ? performance.now() + PATIENCE : Infinity;
  }

  importer(): Importer {
    return {
      putMany: async (batch) => {
        await Promise.all(batch.map(({ bytes }) => this.#limit(() => this.#done(this.#channel.clientStream(put, [bytes])))));
      },
      put: async (content) => toB3Digest((await this.#channel.clientStream(put, frames(content))).digest),
    };
  }

  exporter(): Exporter {
    return {
      findMissing: async () => [],
      openRead: async (digest) => this.#channel.serverStream(read, { digest }),
      readMany: (blobs) => this.#readEach(blobs),
    };
  }

  async *#readEach(blobs: Iterable<BlobRef> | AsyncIterable<BlobRef>): AsyncGenerator<Uint8Array, void, undefined> {
    const ahead: Promise<Uint8Array>[] = [];
    for await (const blob of blobs) {
      ahead.push(this.#done(this.#read(blob)));
      if (ahead.length >= this.#limit.concurrency) yield await (ahead.shift() as Promise<Uint8Array>);
    }
    for (const bytes of ahead) yield await bytes;
  }

  async #read({ digest }: BlobRef): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    for await (const bytes of this.#channel.serverStream(read, { digest })) pieces.push(bytes);
    return Buffer.concat(pieces);
  }

  async #done<T>(work: Promise<T>): Promise<T> {
    const result = await work;
    this.count++;
    if (performance.now() > this.#deadline) throw new Enough();
    return result;
  }
}

async function* each(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void, undefined> {
  yield* chunks;
}

/** A program, and the first line it prints. */
async function start(args: readonly string[]): Promise<{ readonly child: ChildProcess; readonly line: string }> {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "ignore"] });
  const [line] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
  return { child, line };
}

/** A server with an empty store, behind a proxy. */
async function withStore<T>(roundTrip: number, work: (store: GrpcStore, channel: RpcChannel, server: ChildProcess) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
  const server = await start([MAIN, "serve", "--store", directory, "--listen", "127.0.0.1:0"]);
  const proxy = await start(["--import", "tsx", PROXY, new URL(server.line.split(" ").at(-1) as string).port, String(roundTrip)]);
  const channel = new RpcChannel(parseGrpcAddress(`grpc://127.0.0.1:${proxy.line}`));
  try {
    await using store = new GrpcStore(`grpc://127.0.0.1:${proxy.line}`);
    await warmUp(store);
    return await work(store, channel, server.child);
  } finally {
    await channel.close();
    proxy.child.kill();
    server.child.kill();
    await once(server.child, "exit");
    await rm(directory, { recursive: true, force: true });
  }
}

/** A server has run for a while when someone comes: it has compiled what it runs, and the connection is there. What this stores is in no corpus. */
async function warmUp({ blobs, directories }: GrpcStore): Promise<void> {
  const services = { blobs, directories };
  for (const seed of [1, 2, 3]) {
    const { root } = await importNar(packageFiles(10_000, seed * 10_000_000).read(), services);
    for await (const bytes of renderArchive(await planNar(root, services), services)) void bytes;
  }
}

/** Files a second, all of them or those that were done when patience ended. */
async function filesPerSecond(files: number, calls: SingleCalls | undefined, work: () => Promise<unknown>): Promise<number> {
  let isWhole = true;
  const { milliseconds } = await timed(() =>
    work().catch((error: unknown) => {
      if (!(error instanceof Enough)) throw error;
      isWhole = false;
    }),
  );
  return ((isWhole ? files : (calls?.count ?? 0)) * 1000) / milliseconds;
}

interface Rates {
  readonly into: number;
  readonly back: number;
  /** Of the server, in MiB. */
  readonly memory: number;
}

async function measureOnce({ atOnce }: Way, corpus: Corpus, nar: readonly Uint8Array[], roundTrip: number): Promise<Rates> {
  return await withStore(roundTrip, async (store, channel, server) => {
    let root: Node | undefined;
    const inCalls = atOnce === undefined ? undefined : new SingleCalls(channel, atOnce);
    const into = await filesPerSecond(corpus.files, inCalls, async () => {
      ({ root } = await importNar(each(nar), { blobs: inCalls?.importer() ?? store.blobs, directories: store.directories }));
    });
    if (root === undefined) ({ root } = await importNar(each(nar), { blobs: store.blobs, directories: store.directories }));
    const outCalls = atOnce === undefined ? undefined : new SingleCalls(channel, atOnce);
    const services = { blobs: outCalls?.exporter() ?? store.blobs, directories: store.directories };
    const back = await filesPerSecond(corpus.files, outCalls, async () => {
      const plan = await planNar(root as Node, services);
      let size = 0;
      for await (const bytes of renderArchive(plan, services)) size += bytes.length;
      if (size !== plan.size) throw new Error("the NAR came back short");
    });
    return { into, back, memory: await peakMemory(server.pid ?? 0) };
  });
}

function printWays(what: string, rates: readonly number[], memory: readonly number[]): void {
  const ours = rates.at(-1) ?? Number.NaN;
  for (const [index, { name }] of WAYS.entries()) {
    const own = rates[index] ?? Number.NaN;
    printRow(`${what}, ${name}`, `${Math.round(own)} files/s`, index === WAYS.length - 1 ? "" : `we: ${(ours / own).toFixed(1)} x`, `server ${memory[index]} MiB`);
  }
}

async function measure(corpus: Corpus, roundTrip: number): Promise<void> {
  const nar: Uint8Array[] = [];
  for await (const chunk of corpus.read()) nar.push(chunk);
  const runs: Rates[][] = WAYS.map(() => []);
  // In turn, so that a slow moment of the machine meets all of them.
  for (let run = 0; run < RUNS; run++) for (const [index, way] of WAYS.entries()) runs[index]?.push(await measureOnce(way, corpus, nar, roundTrip));
  const medianOf = (pick: (rates: Rates) => number): number[] => runs.map((rates) => median(rates.map(pick)));
  const memory = medianOf((rates) => rates.memory);
  console.log(`\n${corpus.name}, round trip ${roundTrip} ms`);
  printWays("import", medianOf((rates) => rates.into), memory);
  printWays("export", medianOf((rates) => rates.back), memory);
}

for (const roundTrip of ROUND_TRIPS) {
  await measure(smallFiles(10_000, 1000), roundTrip);
  await measure(packageFiles(Number(process.env["BENCH_FILES"] ?? 10_000)), roundTrip);
}
console.log(`\nthis process at most ${await peakMemory("self")} MiB`);
