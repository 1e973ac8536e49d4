/** What `push` and `pull` say: how far they are, what was done for each path, and what came of it all. */
import { InvalidArgumentError } from "commander";
import { errorMessage } from "../errors.ts";
import { formatSriHash, toNixHash } from "../nix/nix-hash.ts";
import { formatStorePath, storePathBaseName } from "../nix/store-path.ts";
import type { ClosurePath, TransferEvent } from "../transfer/transfer-closure.ts";
import { EXIT_OK, exitCodeOf } from "./exit-code.ts";
import type { MultiProgress, PieceProgress } from "./output.ts";
import { formatBytes, printError, startMultiProgress } from "./output.ts";

/** A path that can be told of. */
interface ReportedPath extends ClosurePath {
  readonly narSha256: Uint8Array;
}

export interface TransferReportOptions {
  readonly verb: "push" | "pull";
  /** `pushed`, `pulled`. */
  readonly done: string;
  /** One JSON object for each path, and one that sums up. */
  readonly json: boolean;
}

/** Paths named in one line. */
const NAMED_PATHS = 5;

/** For `--jobs`. */
export const DEFAULT_JOBS = 8;

/** `--jobs`: how many at once. */
export function parseJobs(text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text)) throw new InvalidArgumentError("It is a number from 1 to 999.");
  return Number(text);
}

/** Follows one transfer. Dispose it to be rid of its lines on the terminal. */
export class TransferReport<P extends ReportedPath> implements Disposable {
  readonly #options: TransferReportOptions;
  readonly #progress: MultiProgress;
  readonly #underway = new Map<P, PieceProgress>();
  #planned = 0;
  #present = 0;
  #moved = 0;
  #movedBytes = 0;
  #failed = 0;
  /** Paths with nothing wrong but what they refer to: of one failure there may be thousands. */
  readonly #failedForOthers: string[] = [];

  constructor(options: TransferReportOptions) {
    this.#options = options;
    this.#progress = startMultiProgress();
  }

  /** To be told of everything that happens. */
  readonly onEvent = (event: TransferEvent<P>): void => {
    switch (event.type) {
      case "planned":
        this.#planned = event.missing.length;
        this.#present = event.present.length;
        for (const path of event.present) this.#printJson(path, "present");
        if (event.missing.length > 0) this.#progress.plan(event.missing.reduce((sum, { narSize }) => sum + narSize, 0), event.missing.length);
        break;
      case "started":
        this.#underway.set(event.path, this.#progress.start(storePathBaseName(event.path.storePath).slice(33), event.path.narSize));
        break;
      case "bytes":
        this.#underway.get(event.path)?.update(event.bytes);
        break;
      case "moved":
        this.#end(event.path);
        this.#moved++;
        this.#movedBytes += event.path.narSize;
        this.#printMoved(event.path);
        break;
      case "failed":
        this.#end(event.path);
        this.#failed++;
        this.#printJson(event.path, "failed", { error: errorMessage(event.error) });
        if (process.exitCode === undefined || process.exitCode === EXIT_OK) process.exitCode = exitCodeOf(event.error);
        if (event.failedReference === undefined) this.#printFailure(event.path, event.error);
        else this.#failedForOthers.push(formatStorePath(event.path.storePath));
        break;
    }
  };

  /** The last thing that is said when nothing stopped the transfer. */
  finish(): void {
    this.#progress.stop();
    const { verb, done } = this.#options;
    const named = this.#failedForOthers.slice(0, NAMED_PATHS);
    const others = this.#failedForOthers.length - named.length;
    if (named.length > 0) printError(new Error(`Not ${done}, as they refer to what failed: ${named.join(", ")}${others === 0 ? "" : ` and ${others} more`}`));
    if (this.#printJsonSummary()) return;
    const parts = [
      ...(this.#planned === 0 ? [`nothing to ${verb}`] : [`${paths(this.#moved)} ${done} (${formatBytes(this.#movedBytes)})`]),
      ...(this.#present === 0 ? [] : [`${paths(this.#present)} there already`]),
      ...(this.#failed === 0 ? [] : [`${paths(this.#failed)} failed`]),
    ];
    process.stdout.write(`${parts.join(", ")}\n`);
  }

  /** What is said when something stopped the transfer, if it began: what was done stays, so the next time is shorter. */
  stopped(error: unknown, isInterrupted: boolean): void {
    this.#progress.stop();
    this.#printJsonSummary({ error: errorMessage(error) });
    if (isInterrupted && this.#planned > 0) process.stderr.write(`interrupted: ${this.#moved} of ${paths(this.#planned)} ${this.#options.done}; the same command goes on from there\n`);
  }

  [Symbol.dispose](): void {
    this.#progress.stop();
  }

  #end(path: P): void {
    this.#underway.get(path)?.stop();
    this.#underway.delete(path);
  }

  #printMoved(path: P): void {
    const { done, json } = this.#options;
    if (json) this.#printJson(path, done);
    // To someone who watches, the moving lines say it.
    else if (!(process.stdout.isTTY && process.stderr.isTTY)) process.stdout.write(`${done} ${formatStorePath(path.storePath)} (${formatBytes(path.narSize)})\n`);
  }

  /** @returns whether that is what is printed */
  #printJsonSummary(more: object = {}): boolean {
    const { done, json } = this.#options;
    if (json) process.stdout.write(`${JSON.stringify({ type: "summary", [done]: this.#moved, present: this.#present, failed: this.#failed, narBytes: this.#movedBytes, ...more })}\n`);
    return json;
  }

  #printFailure(path: P, error: Error): void {
    const storePath = formatStorePath(path.storePath);
    const message = errorMessage(error);
    this.#progress.printError(message.includes(storePath) ? error : new Error(`${storePath}: ${message}`, { cause: error }));
  }

  #printJson(path: P, status: string, more: object = {}): void {
    if (!this.#options.json) return;
    const narHash = formatSriHash(toNixHash("sha256", path.narSha256));
    process.stdout.write(`${JSON.stringify({ type: "path", storePath: formatStorePath(path.storePath), status, narSize: path.narSize, narHash, ...more })}\n`);
  }
}

function paths(count: number): string {
  return count === 1 ? "1 path" : `${count} paths`;
}
