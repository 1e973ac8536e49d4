/** What a command says: results on stdout, everything else on stderr, progress only to a terminal. */
import { createRequire } from "node:module";
import type { Writable } from "node:stream";
import type CliProgress from "cli-progress";
import colors from "picocolors";
import { untilAborted } from "../concurrency/until-aborted.ts";
import { errorMessage } from "../errors.ts";

/** Between two looks at the progress line. */
const PROGRESS_MILLISECONDS = 100;
/** Characters of a bar: what is beside it is to have room on a line, too. */
const BAR_SIZE = 24;
const NARROW_BAR_SIZE = 12;
const NARROW_COLUMNS = 100;
/** Characters of what is worked on. */
const LABEL = 40;
const NARROW_LABEL = 16;

/** What terminals understand. */
const CLEAR_BELOW = "\u001b[J";
const WRAP_ON = "\u001b[?7h";
const WRAP_OFF = "\u001b[?7l";

/** Twenty files, for those who see progress. */
const loadCliProgress = (): typeof CliProgress => createRequire(import.meta.url)("cli-progress") as typeof CliProgress;

/** `error: …` on stderr. @param where what it is about, of several things */
export function printError(error: unknown, where?: string): void {
  process.stderr.write(errorLine(error, where));
}

/** `warning: …` on stderr. */
export function printWarning(message: string): void {
  process.stderr.write(`${colors.createColors(hasColors()).yellow("warning:")} ${message}\n`);
}

function errorLine(error: unknown, where?: string): string {
  return `${colors.createColors(hasColors()).red("error:")} ${where === undefined ? "" : `${where}: `}${describe(error)}\n`;
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

/**
 * Write bytes with backpressure. A reader that has closed its end (`| head`) ends the writing quietly, and then this is false.
 * Rejects with the signal's reason, also while a reader reads nothing.
 */
export async function writeAll(output: Writable, source: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<boolean> {
  let failure: Error | undefined;
  const fail = (error: Error): void => void (failure ??= error);
  output.on("error", fail);
  for await (const bytes of source) {
    if (failure !== undefined || output.destroyed) break;
    if (!output.write(bytes)) await drainedOrClosed(output, signal);
    signal?.throwIfAborted();
  }
  const written = new Promise<void>((resolve) => output.write("", () => resolve()));
  await (signal === undefined ? written : untilAborted(written, signal));
  output.off("error", fail);
  if (failure !== undefined && !("code" in failure && failure.code === "EPIPE")) throw failure;
  return failure === undefined;
}

function drainedOrClosed(output: Writable, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      for (const event of ["drain", "close", "error"]) output.off(event, done);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    for (const event of ["drain", "close", "error"]) output.on(event, done);
    signal?.addEventListener("abort", done);
    if (signal?.aborted === true) done();
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
  const format = totalBytes === undefined ? "{label}  {done}  {rate}  {note}" : "{label} {bar} {percentage}%  {done}  {rate}  {left}  {note}";
  const { SingleBar, Presets } = loadCliProgress();
  const bar = new SingleBar(
    { format, stream: process.stderr, clearOnComplete: true, hideCursor: true, noTTYOutput: false, fps: 10, barsize: barSize() },
    Presets.shades_classic,
  );
  const begun = performance.now();
  let last = -Infinity;
  bar.start(totalBytes ?? 1, 0, { label: shorten(label), done: "", rate: "", left: "", note: "" });
  return {
    update(bytes, note) {
      const now = performance.now();
      if (now - last < PROGRESS_MILLISECONDS) return;
      last = now;
      const bytesPerSecond = bytes / Math.max(0.001, (now - begun) / 1000);
      const left = totalBytes === undefined ? "" : `${formatSeconds((totalBytes - bytes) / bytesPerSecond)} left`;
      bar.update(Math.min(bytes, totalBytes ?? 0), { label: shorten(label), done: formatBytes(bytes), rate: `${formatBytes(bytesPerSecond)}/s`, left, note });
    },
    stop: () => bar.stop(),
  };
}

/** Lines that tell how far several pieces of work are that go on at once, and all of them together. */
export interface MultiProgress {
  /** How much there is to do in all. */
  plan(totalBytes: number, totalPieces: number): void;
  /** One more piece is under way. */
  start(label: string, totalBytes: number): PieceProgress;
  /** `error: …` on stderr, above these lines. */
  printError(error: unknown): void;
  stop(): void;
}

/** A piece of work among others. */
export interface PieceProgress {
  /** Bytes done of this piece. */
  update(bytes: number): void;
  /** This piece has ended; what was left of it counts as done. */
  stop(): void;
}

export function startMultiProgress(): MultiProgress {
  if (!process.stderr.isTTY) return { plan: () => undefined, start: () => ({ update: () => undefined, stop: () => undefined }), printError, stop: () => undefined };
  const { Format, MultiBar, Presets } = loadCliProgress();
  const bars = new MultiBar(
    { format: (options, params, line: ProgressLine) => formatProgressLine(Format.BarFormat, options, params, line), stream: process.stderr, clearOnComplete: true, hideCursor: true, noTTYOutput: false, fps: 1000 / PROGRESS_MILLISECONDS, barsize: barSize(), forceRedraw: true },
    Presets.shades_classic,
  );
  const begun = performance.now();
  const underway = new Set<PieceUnderway>();
  const lines: CliProgress.SingleBar[] = [];
  let whole: CliProgress.SingleBar | undefined;
  let total = { bytes: 0, pieces: 0 };
  let done = { bytes: 0, pieces: 0 };
  // Lines are filled in when they are drawn. Those that no piece needs any more stay, empty: lines that come and go make the rest jump.
  bars.on("update-pre", () => {
    const rate = done.bytes / Math.max(0.001, (performance.now() - begun) / 1000);
    const left = formatSeconds((total.bytes - done.bytes) / rate);
    const note = `${formatBytes(done.bytes)} of ${formatBytes(total.bytes)}  ${formatBytes(rate)}/s  ${done.pieces} of ${total.pieces} paths  ${left} left`;
    whole?.update(done.bytes, { note } satisfies ProgressLine);
    const pieces = [...underway];
    for (const [index, line] of lines.entries()) {
      const piece = pieces[index];
      line.setTotal(piece?.totalBytes ?? 1);
      line.update(piece?.bytes ?? 0, { note: piece === undefined ? "" : `${formatBytes(piece.totalBytes).padStart(8)}  ${piece.label}` } satisfies ProgressLine);
    }
  });
  return {
    plan(totalBytes, totalPieces) {
      total = { bytes: totalBytes, pieces: totalPieces };
      whole = bars.create(totalBytes, 0, { note: "" } satisfies ProgressLine);
    },
    start(pieceLabel, totalBytes) {
      const piece: PieceUnderway = { label: shorten(pieceLabel), totalBytes, bytes: 0 };
      underway.add(piece);
      if (underway.size > lines.length) lines.push(bars.create(totalBytes, 0, { note: "" } satisfies ProgressLine));
      const update = (bytes: number): void => {
        done.bytes += bytes - piece.bytes;
        piece.bytes = bytes;
        // What waits for others only has nothing more to show.
        if (bytes >= totalBytes) underway.delete(piece);
      };
      return {
        update,
        stop() {
          update(totalBytes);
          done.pieces++;
        },
      };
    },
    // Over what is left of the lines, and wrapped, which the lines themselves must not be.
    printError: (error) => bars.log(`${CLEAR_BELOW}${WRAP_ON}${errorLine(error)}${WRAP_OFF}`),
    stop() {
      if (!bars.isActive) return;
      // What was logged last is written with the next picture only.
      bars.update();
      bars.stop();
    },
  };
}

interface PieceUnderway {
  readonly label: string;
  readonly totalBytes: number;
  bytes: number;
}

/** What a line shows beside its bar; one without a note is empty. */
interface ProgressLine {
  readonly note: string;
}

/** The names come last, where a narrow terminal cuts them off, and not what is done. */
function formatProgressLine(formatBar: typeof CliProgress.Format.BarFormat, options: CliProgress.Options, { progress }: CliProgress.Params, { note }: ProgressLine): string {
  if (note === "") return "";
  const bar = formatBar(progress, options);
  return `${bar} ${String(Math.floor(progress * 100)).padStart(3)}%  ${note}`;
}

function barSize(): number {
  return isNarrow() ? NARROW_BAR_SIZE : BAR_SIZE;
}

function isNarrow(): boolean {
  return (process.stderr.columns ?? NARROW_COLUMNS) < NARROW_COLUMNS;
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

/** A time for a person: `7 s`, or `2:07` in minutes. */
function formatSeconds(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  if (!Number.isFinite(whole)) return "?";
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function shorten(label: string): string {
  const most = isNarrow() ? NARROW_LABEL : LABEL;
  return label.length <= most ? label : `…${label.slice(1 - most)}`;
}
