/**
 * Claims 1 to 5: importing into the durable embedded store is bounded by hashing and compressing, not by the number of files; what is known costs
 * hardly more than its hash; and over HTTP it is the same.
 *
 * The command itself, as users run it, takes each NAR from a file. In turn with it, in this process: SHA-256 alone over the same file, and zstd alone.
 */
import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
// As built: what users run.
import { compressZstdSync } from "../dist/compression/zstd.js";
import { startServer } from "../test/helpers/narbor-process.ts";
import { atLeast, atMost, claim } from "./claims.ts";
import { median, rate, timed } from "./figures.ts";
import type { Corpus } from "./nar-corpus.ts";
import { largeFile, shareFiles, smallFiles } from "./nar-corpus.ts";
import { NARBOR, runProcess } from "./run-process.ts";

const RUNS = Number(process.env["BENCH_RUNS"] ?? 3);
const LARGE_BYTES = Number(process.env["BENCH_BYTES"] ?? 2e9);
/** What snix needs for `share`, in seconds: peers are measured apart, they are not in npm. */
const SNIX_SECONDS = 31;
const LIMIT_MIB = 300;
const BLOCK_BYTES = 512 * 1024;
const READ_BYTES = 1024 * 1024;

const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
const store = join(directory, "store");

interface NarFile {
  readonly corpus: Corpus;
  readonly path: string;
  readonly size: number;
}

async function writeNar(corpus: Corpus): Promise<NarFile> {
  const path = join(directory, "nar");
  await pipeline(corpus.read(), createWriteStream(path));
  return { corpus, path, size: (await stat(path)).size };
}

/** Milliseconds of SHA-256 alone. */
async function hashAlone({ path }: NarFile): Promise<number> {
  const hash = createHash("sha256");
  return (await timed(async () => {
    for await (const bytes of createReadStream(path, { highWaterMark: READ_BYTES })) hash.update(bytes as Buffer);
    return hash.digest();
  })).milliseconds;
}

/** Milliseconds of zstd alone, on one processor, in blocks as the store has them. */
async function compressAlone({ path }: NarFile): Promise<number> {
  let milliseconds = 0;
  for await (const bytes of createReadStream(path, { highWaterMark: BLOCK_BYTES })) {
    const begun = performance.now();
    compressZstdSync(bytes as Buffer, 1);
    milliseconds += performance.now() - begun;
  }
  return milliseconds;
}

async function importNar({ path }: NarFile, options: { readonly compression?: string; readonly isKnown?: boolean; readonly watch?: boolean } = {}) {
  if (options.isKnown !== true) await rm(store, { recursive: true, force: true });
  const compression = options.compression === undefined ? [] : ["--compression", options.compression];
  return await runProcess([...NARBOR, "import", "--json", "--store", store, ...compression, path], { watch: options.watch ?? false });
}

/** Milliseconds of PUT /nar into an empty store of a server that has begun. */
async function upload({ path }: NarFile): Promise<number> {
  const hash = createHash("sha256");
  for await (const bytes of createReadStream(path, { highWaterMark: READ_BYTES })) hash.update(bytes as Buffer);
  const { encodeNix32 } = await import("../dist/nix/nix32.js");
  await rm(store, { recursive: true, force: true });
  await using server = await startServer(store);
  const ran = await runProcess(["curl", "-sf", "-T", path, `${server.url}/nar/${encodeNix32(hash.digest())}.nar`]);
  return ran.milliseconds;
}

interface Times {
  readonly sha: number;
  readonly zstd: number;
  readonly own: number;
  readonly stored: number;
  readonly again: number;
  readonly put: number;
  readonly mib: number;
}

async function measure(nar: NarFile): Promise<Times> {
  const runs: Times[] = [];
  for (let run = 0; run < RUNS; run++) {
    const sha = await hashAlone(nar);
    const zstd = await compressAlone(nar);
    const stored = (await importNar(nar, { compression: "none" })).milliseconds;
    const own = (await importNar(nar)).milliseconds;
    const again = (await importNar(nar, { isKnown: true })).milliseconds;
    const put = await upload(nar);
    runs.push({ sha, zstd, own, stored, again, put, mib: 0 });
  }
  const { peakMib } = await importNar(nar, { watch: true });
  const middle = (pick: (times: Times) => number): number => median(runs.map(pick));
  return { sha: middle(({ sha }) => sha), zstd: middle(({ zstd }) => zstd), own: middle(({ own }) => own), stored: middle(({ stored }) => stored), again: middle(({ again }) => again), put: middle(({ put }) => put), mib: peakMib };
}

function report({ corpus, size }: NarFile, times: Times): void {
  const { sha, zstd, own, stored, again, put, mib } = times;
  const mbps = size / 1000 / own;
  const shaAlone = `SHA-256 ${rate(size, sha)}`;
  if (corpus.name === "share") {
    claim({ number: 1, what: "import share", narbor: `${rate(size, own)}, ${(own / 1000).toFixed(1)} s`, beside: `snix ${SNIX_SECONDS} s`, ...atLeast((SNIX_SECONDS * 1000) / own, 8) });
    claim({ number: 1, what: "import share, MB/s", narbor: rate(size, own), beside: shaAlone, ratio: "", wanted: "≥ 150 MB/s", isMet: mbps >= 150 });
    claim({ number: 1, what: "import share, --compression none", narbor: rate(size, stored), beside: shaAlone, ...atLeast(sha / stored, 0.4) });
  } else if (corpus.files > 1) {
    const perSecond = (corpus.files * 1000) / own;
    claim({ number: 2, what: `import ${corpus.name}`, narbor: `${Math.round(perSecond)} files/s`, beside: shaAlone, ratio: "", wanted: "≥ 40000 files/s", isMet: perSecond >= 40_000 });
    claim({ number: 2, what: `import ${corpus.name}, memory`, narbor: `${mib} MiB`, beside: "", ratio: "", wanted: `≤ ${LIMIT_MIB} MiB`, isMet: mib <= LIMIT_MIB });
  } else {
    const cores = availableParallelism();
    claim({ number: 3, what: `import ${corpus.name}, --compression none`, narbor: rate(size, stored), beside: shaAlone, ...atLeast(sha / stored, 0.6) });
    claim({ number: 3, what: `import ${corpus.name}`, narbor: rate(size, own), beside: `zstd × ${cores} ${rate(size, zstd / cores)}`, ...atLeast(zstd / cores / own, 0.9) });
  }
  claim({ number: 4, what: `import ${corpus.name} again`, narbor: rate(size, again), beside: shaAlone, ...atLeast(sha / again, 0.8) });
  claim({ number: 5, what: `PUT /nar of ${corpus.name}`, narbor: rate(size, put), beside: `the command ${rate(size, own)}`, ...atMost(put / own, 1.15) });
}

try {
  for (const corpus of [shareFiles(), smallFiles(100_000, 1000), largeFile(LARGE_BYTES)]) {
    const nar = await writeNar(corpus);
    report(nar, await measure(nar));
  }
} finally {
  await rm(directory, { recursive: true, force: true });
}
