/**
 * Claim: a 5 GB NAR and a NAR of 300,000 files go in and come out in less than 400 MiB of memory.
 * Runs the command itself, on a store in a temporary directory, and prints the most memory each process had.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Corpus } from "./nar-corpus.ts";
import { mixedFiles, smallFiles } from "./nar-corpus.ts";
import { peakMemory, printRow, rate } from "./figures.ts";

const MAIN = resolve(import.meta.dirname, "../dist/command/narbor.js");
const LIMIT_MIB = 400;

interface Run {
  readonly stdout: Buffer;
  readonly outputBytes: number;
  readonly outputSha256: string;
  readonly peakMib: number;
  readonly milliseconds: number;
}

async function run(args: readonly string[], input: AsyncIterable<Uint8Array> | undefined, keepOutput: boolean): Promise<Run> {
  const start = performance.now();
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["pipe", "pipe", "inherit"] });
  let peakMib = 0;
  const timer = setInterval(() => void peakMemory(child.pid ?? 0).then((mib) => (peakMib = Math.max(peakMib, mib))), 20);
  const stdout: Buffer[] = [];
  const hash = createHash("sha256");
  let outputBytes = 0;
  const reading = (async () => {
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      outputBytes += chunk.length;
      if (keepOutput) stdout.push(chunk);
      else hash.update(chunk);
    }
  })();
  for await (const chunk of input ?? []) if (!child.stdin.write(chunk)) await new Promise((done) => child.stdin.once("drain", done));
  child.stdin.end();
  const code = await new Promise((done) => child.on("close", done));
  await reading;
  clearInterval(timer);
  if (code !== 0) throw new Error(`narbor ${args.join(" ")} ended with ${String(code)}`);
  return { stdout: Buffer.concat(stdout), outputBytes, outputSha256: hash.digest("base64"), peakMib, milliseconds: performance.now() - start };
}

async function measure(corpus: Corpus): Promise<void> {
  const store = await mkdtemp(join(process.env["BENCH_DIR"] ?? tmpdir(), "narbor-bench-"));
  try {
    const imported = await run(["import", "--json", "--store", store, "-"], corpus.read(), true);
    const { entry, narSize, narHash } = JSON.parse(imported.stdout.toString()) as { entry: string; narSize: number; narHash: string };
    const exported = await run(["export", "--store", store, entry], undefined, false);
    if (exported.outputBytes !== narSize || `sha256-${exported.outputSha256}` !== narHash) throw new Error("the NAR came out other than it went in");
    printRow(`import ${corpus.name}`, rate(narSize, imported.milliseconds), `${imported.peakMib} MiB`, imported.peakMib < LIMIT_MIB ? "ok" : `over ${LIMIT_MIB} MiB`);
    printRow(`export ${corpus.name}`, rate(narSize, exported.milliseconds), `${exported.peakMib} MiB`, exported.peakMib < LIMIT_MIB ? "ok" : `over ${LIMIT_MIB} MiB`);
  } finally {
    await rm(store, { recursive: true, force: true });
  }
}

printRow("", "rate", "peak memory", `limit ${LIMIT_MIB} MiB`);
await measure(smallFiles(300_000, 1000));
await measure(smallFiles(300_000, 1000, 300_000));
await measure(mixedFiles(Number(process.env["BENCH_BYTES"] ?? 5e9), 2 ** 30));
