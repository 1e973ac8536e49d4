/** What a command says: results on stdout, everything else on stderr, progress only to a terminal. */
import type { Writable } from "node:stream";
import cliProgress from "cli-progress";
import colors from "picocolors";
import { errorMessage } from "../errors.ts";

/** Between two looks at the progress line. */
const PROGRESS_MILLISECONDS = 100;

/** `error: …` on stderr. */
export function printError(error: unknown): void {
  process.stderr.write(`${colors.createColors(hasColors()).red("error:")} ${describe(error)}\n`);
}

/** `warning: …` on stderr. */
export function printWarning(message: string): void {
  process.stderr.write(`${colors.createColors(hasColors()).yellow("warning:")} ${message}\n`);
}

/** Colours are for a terminal. picocolors alone would also colour what CI collects. */
function hasColors(): boolean {
  return process.stderr.isTTY ? colors.isColorSupported : false;
}

/** The system's errors begin with their code, which says little to a person. */
function describe(error: unknown): string {
  const message = errorMessage(error);
  const [, path] = /^ENOENT: no such file or directory, \w+ '(.*)'$/s.exec(message) ?? [];
  return path === undefined ? message : `there is no ${JSON.stringify(path)}`;
}

/** Write bytes with backpressure. A reader that has closed its end (`| head`) ends the writing quietly. */
export async function writeAll(output: Writable, source: AsyncIterable<Uint8Array>): Promise<void> {
  let failure: Error | undefined;
  const fail = (error: Error): void => void (failure = error);
  output.on("error", fail);
  for await (const bytes of source) {
    if (failure !== undefined || output.destroyed) break;
    if (!output.write(bytes)) await drainedOrClosed(output);
  }
  await new Promise<void>((resolve) => output.write("", () => resolve()));
  output.off("error", fail);
  if (failure !== undefined && !("code" in failure && failure.code === "EPIPE")) throw failure;
}

function drainedOrClosed(output: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      for (const event of ["drain", "close", "error"]) output.off(event, done);
      resolve();
    };
    for (const event of ["drain", "close", "error"]) output.on(event, done);
  });
}

/** A line that tells how far a long piece of work is. */
export interface Progress {
  /** Bytes done, and a few words. */
  update(bytes: number, note: string): void;
  stop(): void;
}

/** @param totalBytes when it is known how much there is to do */
export function startProgress(label: string, totalBytes: number | undefined): Progress {
  if (!process.stderr.isTTY) return { update: () => undefined, stop: () => undefined };
  const format = totalBytes === undefined ? "{label}  {done}  {rate}  {note}" : "{label} {bar} {percentage}%  {done}  {rate}  {note}";
  const bar = new cliProgress.SingleBar({ format, stream: process.stderr, clearOnComplete: true, hideCursor: true, noTTYOutput: false, fps: 10 }, cliProgress.Presets.shades_classic);
  const begun = performance.now();
  let last = -Infinity;
  bar.start(totalBytes ?? 1, 0, { label: shorten(label), done: "", rate: "", note: "" });
  return {
    update(bytes, note) {
      const now = performance.now();
      if (now - last < PROGRESS_MILLISECONDS) return;
      last = now;
      const rate = `${formatBytes(bytes / Math.max(0.001, (now - begun) / 1000))}/s`;
      bar.update(Math.min(bytes, totalBytes ?? 0), { label: shorten(label), done: formatBytes(bytes), rate, note });
    },
    stop: () => bar.stop(),
  };
}

/** A size for a person: `1.2 GB`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

function shorten(label: string): string {
  return label.length <= 40 ? label : `…${label.slice(-39)}`;
}
