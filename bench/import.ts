/**
 * Claim: importing is bounded by hashing and compressing, not by the number of files.
 * Each NAR is hashed (SHA-256, which no import can do without) and imported, in turn, in one process; the ratio is of the medians.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
// As built: what users run, and its codec workers are .js.
import { importNar, MemoryStore, PacksStore } from "../dist/index.js";
import type { Store } from "../dist/index.js";
import { createHash } from "node:crypto";
import { median, printRow, rate, timed } from "./figures.ts";
import type { Corpus } from "./nar-corpus.ts";
import { mixedFiles, smallFiles } from "./nar-corpus.ts";

const RUNS = Number(process.env["BENCH_RUNS"] ?? 3);

interface Way {
  readonly name: string;
  readonly open: (directory: string) => Promise<Store>;
}

const WAYS: readonly Way[] = [
  { name: "memory", open: async () => new MemoryStore() },
  { name: "packs, zstd 1", open: (directory) => PacksStore.open(directory, { create: true }) },
  { name: "packs, stored", open: (directory) => PacksStore.open(directory, { create: true, compression: "none" }) },
];

async function importInto(way: Way, nar: readonly Uint8Array[]): Promise<number> {
  const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
  try {
    await using store = await way.open(directory);
    const { milliseconds } = await timed(async () => {
      const work = store.begin();
      await importNar(each(nar), { blobs: work.blobs, directories: work.directories });
      await work.commit();
    });
    return milliseconds;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function* each(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array, void, undefined> {
  yield* chunks;
}

async function measure(corpus: Corpus): Promise<void> {
  const nar: Uint8Array[] = [];
  for await (const chunk of corpus.read()) nar.push(chunk);
  const bytes = nar.reduce((sum, { length }) => sum + length, 0);
  for (const way of WAYS) {
    const hashed: number[] = [];
    const imported: number[] = [];
    for (let run = 0; run < RUNS; run++) {
      hashed.push((await timed(async () => nar.reduce((hash, chunk) => hash.update(chunk), createHash("sha256")).digest())).milliseconds);
      imported.push(await importInto(way, nar));
    }
    const [sha, own] = [median(hashed), median(imported)];
    printRow(`${corpus.name} → ${way.name}`, rate(bytes, own), `${Math.round((corpus.files * 1000) / own)} files/s`, `SHA-256 ${rate(bytes, sha)}`, `${(own / sha).toFixed(1)} × SHA-256`);
  }
}

await measure(smallFiles(100_000, 1000));
await measure(mixedFiles(4e8, 2 ** 24));
