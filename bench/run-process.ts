/** Programs that are measured: how long they take, how much memory they have, and what they write. Linux only. */
import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { open, readdir, readFile, readlink } from "node:fs/promises";
import { resolve } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { peakMemory } from "./figures.ts";

export const NARBOR = [process.execPath, resolve(import.meta.dirname, "../dist/command/narbor.js")] as const;

/** Between two looks at a process. */
const LOOK_MILLISECONDS = 20;

export interface Ran {
  readonly milliseconds: number;
  /** Of all processors, its own processes' too: what it takes even while others take turns with it. */
  readonly cpuMilliseconds: number;
  readonly peakMib: number;
  /** Bytes of all its writes, to files, pipes and itself, up to the last look. */
  readonly writtenBytes: number;
  /** Files without a name that it had open at some look. */
  readonly namelessFiles: ReadonlySet<string>;
  readonly stdout: string;
}

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  /** Standard output goes to this file. */
  readonly output?: string;
  /** Look at it while it runs: looking takes time, too. @default false */
  readonly watch?: boolean;
}

/** Run a program to its end, which must be a good one. */
export async function runProcess([program, ...args]: readonly string[], { env, output, watch = false }: RunOptions = {}): Promise<Ran> {
  await using file = output === undefined ? undefined : await open(output, "w");
  const cpuBefore = await childrenCpu();
  const begun = performance.now();
  const child = spawn(program ?? "", args, { stdio: ["ignore", file?.fd ?? "pipe", "inherit"], env: { ...process.env, ...env } });
  const looks = { peakMib: 0, writtenBytes: 0, namelessFiles: new Set<string>() };
  const timer = watch ? setInterval(() => void look(child.pid ?? 0, looks), LOOK_MILLISECONDS) : undefined;
  let stdout = "";
  child.stdout?.on("data", (data: Buffer) => (stdout += data.toString()));
  const code = await new Promise((done, failed) => child.on("close", done).on("error", failed));
  clearInterval(timer);
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${String(code)}`);
  const milliseconds = performance.now() - begun;
  return { milliseconds, cpuMilliseconds: (await childrenCpu()) - cpuBefore, ...looks, stdout };
}

/** What children that have ended took; ticks are hundredths of a second. */
async function childrenCpu(): Promise<number> {
  const fields = (await readFile("/proc/self/stat", "utf8")).replace(/^.*\) /, "").split(" ");
  return (Number(fields[13]) + Number(fields[14])) * 10;
}

async function look(pid: number, looks: { peakMib: number; writtenBytes: number; readonly namelessFiles: Set<string> }): Promise<void> {
  looks.peakMib = Math.max(looks.peakMib, await peakMemory(pid));
  const [, written = "0"] = /wchar: (\d+)/.exec(await readFile(`/proc/${pid}/io`, "utf8").catch(() => "")) ?? [];
  looks.writtenBytes = Math.max(looks.writtenBytes, Number(written));
  for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => "");
    if (target.startsWith("/") && target.endsWith(" (deleted)")) looks.namelessFiles.add(target);
  }
}

/** Write bytes through a program, such as `gzip -6`, to a file. */
export async function writeThrough([program, ...args]: readonly string[], source: Iterable<Uint8Array>, file: string): Promise<void> {
  const child = spawn(program ?? "", args, { stdio: ["pipe", "pipe", "inherit"] });
  await Promise.all([pipeline(Readable.from(source), child.stdin), pipeline(child.stdout, createWriteStream(file))]);
}
