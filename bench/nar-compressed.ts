/**
 * Claim 7: NARs come out compressed without being compressed: many times as fast as by zstd on the way, and for not much more of the processor's time than nginx
 * takes for a file. The bytes that nginx has are those that Narbor gives.
 */
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startServer } from "../test/helpers/narbor-process.ts";
import { atLeast, atMost, claim } from "./claims.ts";
import { startNginx } from "./file-server.ts";
import { median, processorTime } from "./figures.ts";
import type { Corpus } from "./nar-corpus.ts";
import { closurePaths, shareFiles } from "./nar-corpus.ts";
import { uploadNar, writeNar } from "./nar-files.ts";
import { runProcess } from "./run-process.ts";
import { hasProgram, load } from "./wrk.ts";

const RUNS = Number(process.env["BENCH_RUNS"] ?? 3);
const SECONDS = 4;
const LIMIT_SPEED = 5;
const LIMIT_CPU = 2;

const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
const files = join(directory, "files");

interface Served {
  readonly narBytesPerSecond: number;
  readonly millisecondsPerMegabyte: number;
}

/** @param narBytes of the NAR for each byte that is sent */
async function serve(server: { readonly url: string; readonly pid: number }, paths: readonly string[], connections: number, narBytes: number): Promise<Served> {
  const before = await processorTime(server.pid);
  const { bytesPerSecond } = await load(server.url, paths, { connections, seconds: SECONDS });
  return { narBytesPerSecond: bytesPerSecond * narBytes, millisecondsPerMegabyte: ((await processorTime(server.pid)) - before) / ((bytesPerSecond * SECONDS) / 1e6) };
}

async function measure(name: string, corpora: readonly Corpus[]): Promise<void> {
  await mkdir(join(files, "nar"), { recursive: true });
  await using narbor = await startServer(join(directory, "store"));
  const paths: string[] = [];
  let [plainBytes, sentBytes, packedMilliseconds] = [0, 0, 0];
  for (const corpus of corpora) {
    const path = await writeNar(files, corpus);
    await uploadNar(narbor.url, files, path);
    const nar = join(files, path);
    plainBytes += (await stat(nar)).size;
    packedMilliseconds += (await runProcess(["zstd", "-q", "-1", "-T1", "-c", nar], { output: "/dev/null" })).milliseconds;
    const response = await fetch(`${narbor.url}${path}.zst`);
    // One of which little is stored in frames is served as it is, which is not what is measured.
    if (response.status !== 200) continue;
    const bytes = new Uint8Array(await response.arrayBuffer());
    sentBytes += bytes.length;
    await writeFile(`${nar}.zst`, bytes);
    paths.push(`${path}.zst`);
  }
  if (paths.length < corpora.length) process.stdout.write(`${corpora.length - paths.length} of ${corpora.length} NARs are not in frames\n`);
  const packed = plainBytes / (packedMilliseconds / 1000);
  await using nginx = await startNginx(files);
  for (const connections of [1, 16]) {
    const own: Served[] = [];
    const others: Served[] = [];
    for (let run = 0; run < RUNS; run++) {
      own.push(await serve({ url: narbor.url, pid: narbor.child.pid ?? 0 }, paths, connections, plainBytes / sentBytes));
      others.push(await serve(nginx, paths, connections, plainBytes / sentBytes));
    }
    const speed = median(own.map(({ narBytesPerSecond }) => narBytesPerSecond));
    const [ours, theirs] = [own, others].map((list) => median(list.map(({ millisecondsPerMegabyte }) => millisecondsPerMegabyte))) as [number, number];
    const what = `${name}, ${connections} at once`;
    claim({ number: 7, what: `NAR out compressed, ${what}`, narbor: `${(speed / 1e6).toFixed(0)} MB/s of NAR`, beside: `zstd -1 ${(packed / 1e6).toFixed(0)} MB/s`, ...atLeast(speed / packed, LIMIT_SPEED) });
    claim({ number: 7, what: `processor time, ${what}`, narbor: `${ours.toFixed(2)} ms/MB`, beside: `nginx ${theirs.toFixed(2)} ms/MB`, ...atMost(ours / theirs, LIMIT_CPU) });
  }
  await rm(files, { recursive: true });
}

if (!hasProgram("nginx") || !hasProgram("wrk") || spawnSync("zstd", ["--version"]).status !== 0) throw new Error("This bench needs nginx, wrk and zstd: apt-get install nginx-light wrk zstd");
try {
  await measure("share", [shareFiles()]);
  await measure("closure", closurePaths());
} finally {
  await rm(directory, { recursive: true, force: true });
}
