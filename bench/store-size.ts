/**
 * Claim 11: a closure and a second version of it, of which a tenth has changed, take hardly more room than the first one's NARs do under `zstd -3`.
 */
import { createWriteStream } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { importNar, PacksStore } from "../dist/index.js";
import { claim } from "./claims.ts";
import type { Corpus } from "./nar-corpus.ts";
import { closurePaths } from "./nar-corpus.ts";
import { runProcess } from "./run-process.ts";

const LIMIT_RATIO = 1.15;

const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));

async function compressedSize(corpora: readonly Corpus[]): Promise<number> {
  let size = 0;
  for (const corpus of corpora) {
    const path = join(directory, "nar");
    await pipeline(corpus.read(), createWriteStream(path));
    await runProcess(["zstd", "-q", "-f", "-3", path]);
    const { size: added } = await stat(`${path}.zst`);
    size += added;
  }
  return size;
}

async function bytesIn(path: string): Promise<number> {
  const files = await readdir(path, { recursive: true, withFileTypes: true });
  const sizes = await Promise.all(files.filter((file) => file.isFile()).map(async (file) => (await stat(join(file.parentPath, file.name))).size));
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function importAll(store: string, corpora: readonly Corpus[]): Promise<number> {
  {
    await using packs = await PacksStore.open(store, { create: true });
    for (const corpus of corpora) {
      const work = packs.begin();
      await importNar(corpus.read(), { blobs: work.blobs, directories: work.directories });
      await work.commit();
    }
  }
  return await bytesIn(store);
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;

try {
  const store = join(directory, "store");
  const first = closurePaths();
  const theirs = await compressedSize(first);
  const one = await importAll(store, first);
  const both = await importAll(store, closurePaths(0.1));
  claim({ number: 11, what: "store of closure", narbor: megabytes(one), beside: `zstd -3 ${megabytes(theirs)}`, ratio: `${(one / theirs).toFixed(2)} ×`, wanted: "", isMet: true });
  claim({ number: 11, what: "store of closure, and of one with 10 % changed", narbor: megabytes(both), beside: `zstd -3 of the first ${megabytes(theirs)}`, ratio: `${(both / theirs).toFixed(2)} ×`, wanted: `≤ ${LIMIT_RATIO} ×`, isMet: both / theirs <= LIMIT_RATIO });
} finally {
  await rm(directory, { recursive: true, force: true });
}
