/**
 * Claim 10: whatever comes in and goes out over HTTP, the server's memory stays flat, and its event loop does not stand still.
 *
 * One large NAR, one of very many files, and 32 uploads beside 32 downloads. BENCH_FULL=1 is the claim's own size (20 GB, a million files), which takes a disk
 * and a quarter of an hour; otherwise a tenth of it.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { encodeNix32 } from "../dist/nix/nix32.js";
import { startServer } from "../test/helpers/narbor-process.ts";
import { claim } from "./claims.ts";
import { peakMemory, timed } from "./figures.ts";
import type { Corpus } from "./nar-corpus.ts";
import { mixedFiles, packageFiles, smallFiles } from "./nar-corpus.ts";

const IS_FULL = process.env["BENCH_FULL"] === "1";
const AT_ONCE = 32;
const LIMIT_MIB = 300;
const LIMIT_MILLISECONDS = 50;

interface Nar {
  readonly corpus: Corpus;
  readonly path: string;
  readonly size: number;
}

async function narOf(corpus: Corpus): Promise<Nar> {
  const hash = createHash("sha256");
  let size = 0;
  for await (const bytes of corpus.read()) {
    hash.update(bytes);
    size += bytes.length;
  }
  return { corpus, path: `/nar/${encodeNix32(hash.digest())}.nar`, size };
}

async function upload(url: string, { corpus, path, size }: Nar): Promise<void> {
  const call = request(`${url}${path}`, { method: "PUT", headers: { "content-length": size } });
  const answered = once(call, "response") as Promise<[{ readonly statusCode: number; resume(): void }]>;
  for await (const bytes of corpus.read()) if (!call.write(bytes)) await once(call, "drain");
  call.end();
  const [response] = await answered;
  response.resume();
  if (response.statusCode !== 201) throw new Error(`PUT ${path}: ${response.statusCode}`);
}

async function download(url: string, { path, size }: Nar): Promise<void> {
  let found = 0;
  for await (const bytes of (await fetch(`${url}${path}`)).body ?? []) found += (bytes as Uint8Array).length;
  if (found !== size) throw new Error(`GET ${path}: ${found} bytes, expected ${size}`);
}

/** Do it to a server, and say what that took of it. */
async function measure(what: string, work: (url: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
  try {
    const delays = join(directory, "event-loop.json");
    process.env["EVENT_LOOP_FILE"] = delays;
    process.env["NODE_OPTIONS"] = `--import=${resolve(import.meta.dirname, "watch-event-loop.mjs")}`;
    const server = await startServer(join(directory, "store"));
    delete process.env["NODE_OPTIONS"];
    const { milliseconds } = await timed(async () => await work(server.url));
    const memory = await peakMemory(server.child.pid ?? 0);
    await server.stop("SIGTERM");
    const { max, p99 } = JSON.parse(await readFile(delays, "utf8")) as { max: number; p99: number };
    const seconds = `${(milliseconds / 1000).toFixed(0)} s`;
    claim({ number: 10, what: `${what}: memory`, narbor: `${memory} MiB`, beside: seconds, ratio: "", wanted: `≤ ${LIMIT_MIB} MiB`, isMet: memory <= LIMIT_MIB });
    claim({ number: 10, what: `${what}: event loop`, narbor: `${max.toFixed(0)} ms at most`, beside: `p99 ${p99.toFixed(1)} ms`, ratio: "", wanted: `≤ ${LIMIT_MILLISECONDS} ms`, isMet: max <= LIMIT_MILLISECONDS });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function inAndOut(corpus: Corpus): Promise<void> {
  const nar = await narOf(corpus);
  await measure(corpus.name, async (url) => {
    await upload(url, nar);
    await download(url, nar);
  });
}

await inAndOut(mixedFiles(IS_FULL ? 20e9 : 2e9, 2 ** 30));
await inAndOut(smallFiles(IS_FULL ? 1_000_000 : 100_000, 1000));
const there: Nar[] = [];
const coming: Nar[] = [];
for (let index = 0; index < AT_ONCE; index++) {
  there.push(await narOf(packageFiles(1000, index * 1_000_000)));
  coming.push(await narOf(packageFiles(1000, (AT_ONCE + index) * 1_000_000)));
}
await measure(`${AT_ONCE} uploads and downloads`, async (url) => {
  for (const nar of there) await upload(url, nar);
  await Promise.all([...there.map(async (nar) => await download(url, nar)), ...coming.map(async (nar) => await upload(url, nar))]);
});
