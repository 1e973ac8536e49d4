/**
 * Claim 6: NARs come out uncompressed at a good part of a file server's speed, though they are put together from parts; the first byte comes at once,
 * and slow readers cost no memory. The same NARs are fetched from `narbor serve` and from nginx, in turn, from memory.
 */
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startServer } from "../test/helpers/narbor-process.ts";
import { atLeast, claim } from "./claims.ts";
import { startNginx } from "./file-server.ts";
import { median } from "./figures.ts";
import type { Corpus } from "./nar-corpus.ts";
import { closurePaths, shareFiles } from "./nar-corpus.ts";
import { uploadNar, writeNar } from "./nar-files.ts";
import { runProcess } from "./run-process.ts";
import { hasProgram, load } from "./wrk.ts";

const RUNS = Number(process.env["BENCH_RUNS"] ?? 3);
const SECONDS = 4;
const LIMIT_RATIO = 0.4;
/** Milliseconds. */
const LIMIT_FIRST_BYTE = 5;
const SLOW_READERS = 16;
const SLOW_SECONDS = 8;
/** MiB that the readers may cost together. */
const LIMIT_SLOW_MIB = 64;

const directory = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
const files = join(directory, "files");

async function residentMib(pid: number): Promise<number> {
  const [, kilobytes = "0"] = /VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, "utf8")) ?? [];
  return Math.round(Number(kilobytes) / 1024);
}

async function measure(name: string, corpora: readonly Corpus[]): Promise<void> {
  await mkdir(join(files, "nar"), { recursive: true });
  const paths: string[] = [];
  for (const corpus of corpora) paths.push(await writeNar(files, corpus));
  await using narbor = await startServer(join(directory, "store"));
  for (const path of paths) await uploadNar(narbor.url, files, path);
  await using nginx = await startNginx(files);
  for (const connections of [1, 16]) {
    const own: number[] = [];
    const others: number[] = [];
    for (let run = 0; run < RUNS; run++) {
      own.push((await load(narbor.url, paths, { connections, seconds: SECONDS })).bytesPerSecond);
      others.push((await load(nginx.url, paths, { connections, seconds: SECONDS })).bytesPerSecond);
    }
    const [ours, theirs] = [median(own), median(others)];
    claim({ number: 6, what: `NAR out, ${name}, ${connections} at once`, narbor: `${(ours / 1e6).toFixed(0)} MB/s`, beside: `nginx ${(theirs / 1e6).toFixed(0)} MB/s`, ...atLeast(ours / theirs, LIMIT_RATIO) });
  }
  const [path = ""] = paths;
  const first: number[] = [];
  for (let run = 0; run < 21; run++) {
    const { stdout } = await runProcess(["curl", "-s", "-r", "0-100000", "-o", "/dev/null", "-w", "%{time_starttransfer}", `${narbor.url}${path}`]);
    first.push(Number(stdout) * 1000);
  }
  claim({ number: 6, what: `first byte of ${name}`, narbor: `${median(first).toFixed(1)} ms`, beside: "", ratio: "", wanted: `< ${LIMIT_FIRST_BYTE} ms`, isMet: median(first) < LIMIT_FIRST_BYTE });
  const before = await residentMib(narbor.child.pid ?? 0);
  const readers = Array.from({ length: SLOW_READERS }, () => spawn("curl", ["-s", "--limit-rate", "500k", "-o", "/dev/null", `${narbor.url}${path}`]));
  let most = 0;
  for (let second = 0; second < SLOW_SECONDS; second++) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    most = Math.max(most, await residentMib(narbor.child.pid ?? 0));
  }
  for (const reader of readers) reader.kill();
  claim({ number: 6, what: `${SLOW_READERS} slow readers of ${name}`, narbor: `${before} to ${most} MiB`, beside: "", ratio: "", wanted: `≤ ${LIMIT_SLOW_MIB} MiB more`, isMet: most - before <= LIMIT_SLOW_MIB });
  await rm(files, { recursive: true });
}

if (!hasProgram("nginx") || !hasProgram("wrk")) throw new Error("This bench needs nginx and wrk: apt-get install nginx-light wrk");
try {
  await measure("share", [shareFiles()]);
  await measure("closure", closurePaths());
} finally {
  await rm(directory, { recursive: true, force: true });
}
