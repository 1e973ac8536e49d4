/** Timing and printing for the benches: every figure beside what it is measured against, from the same run. */
import { readFile } from "node:fs/promises";

export interface Timed<T> {
  readonly milliseconds: number;
  readonly result: T;
}

export async function timed<T>(work: () => Promise<T>): Promise<Timed<T>> {
  const start = performance.now();
  const result = await work();
  return { milliseconds: performance.now() - start, result };
}

/** The middle of an odd number of runs. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

export function rate(bytes: number, milliseconds: number): string {
  return `${(bytes / 1000 / milliseconds).toFixed(0)} MB/s`;
}

export function printRow(what: string, ...figures: readonly string[]): void {
  console.log(`${what.padEnd(44)} ${figures.map((figure) => figure.padStart(18)).join(" ")}`);
}

/** A tick of the kernel's clock, in milliseconds. */
const TICK = 10;

/** Processor time of a process so far, in milliseconds. Linux only. */
export async function processorTime(pid: number): Promise<number> {
  const [, text = ""] = (await readFile(`/proc/${pid}/stat`, "utf8")).split(") ");
  const fields = text.split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK;
}

/** The most memory a process has had resident so far, in MiB. Linux only. */
export async function peakMemory(pid: number | "self"): Promise<number> {
  const [, kilobytes = "0"] = /VmHWM:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, "utf8").catch(() => "")) ?? [];
  return Math.round(Number(kilobytes) / 1024);
}
