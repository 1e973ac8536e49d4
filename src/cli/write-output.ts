/** Archives go to standard output, or to a file that appears when it is whole. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { chmod, realpath, rename, stat, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { InvalidArgumentError, Option, type Command } from "commander";
import { errorMessage } from "../errors.ts";
import type { ExportCodec, ExportOptions, PlannedExport, WrittenArchive } from "../image/plan-export.ts";
import type { WrittenLayout } from "../image/layout-directory.ts";
import { checkExportOptions } from "../image/plan-export.ts";
import { EXIT_READER_GONE } from "./exit-code.ts";
import { formatBytes, startProgress, writeAll } from "./output.ts";

/** Bytes that wait to be written to a file while the next are made: with fewer, an export with zstd takes a seventh more. */
const WRITE_AHEAD_BYTES = 2 * 1024 * 1024;

/** What `addOutputOptions` adds. */
export interface OutputOptions {
  readonly output?: string;
  readonly compression: ExportCodec;
  readonly level?: number;
  readonly json?: boolean;
}

/** `--output`, `--compression`, `--level`, `--json`. */
export function addOutputOptions(command: Command, codecs: readonly ExportCodec[]): Command {
  return addCompressionOptions(command.option("-o, --output <file>", "write to this file, which appears when it is whole; - is standard output. An OCI layout may also go to a directory, which ends in / or is there: layers that it holds are not made again"), codecs).option(
    "--json",
    "print what was written as JSON: on standard output, or on standard error when the archive goes there",
  );
}

/** `--compression`, `--level`. */
export function addCompressionOptions(command: Command, codecs: readonly ExportCodec[]): Command {
  return command
    .addOption(new Option("--compression <codec>", `of the archive as a whole; of the layers in an OCI layout. On all processors${codecs.includes("xz") ? "; xz stores, and makes nothing smaller" : ""}`).choices(codecs).default("none"))
    .option("--level <number>", "of compression: gzip 1 to 9 (6 unless given), zstd -7 to 19 (1 unless given: what is stored at that level is not compressed again)", parseNumber);
}

/** Refuse an archive on a terminal, and options that there are not. */
export function checkOutput(command: Command, options: OutputOptions & ExportOptions): void {
  if (options.output === "") command.error("error: --output is followed by the name of a file", { exitCode: 2 });
  if (isStandardOutput(options.output) && process.stdout.isTTY) command.error("error: an archive is not for a terminal; redirect it or give --output", { exitCode: 2 });
  checkExportUsage(command, options);
}

/** Options that do not go together are a mistake of the command line. */
export function checkExportUsage(command: Command, options: ExportOptions): void {
  try {
    checkExportOptions(options);
  } catch (error) {
    command.error(`error: ${errorMessage(error)}`, { exitCode: 2 });
  }
}

/** Write an archive to where it is to go, with progress. Undefined when its reader has gone (`| head`), of which the exit code tells. */
export async function writeArchive(label: string, plan: PlannedExport, output: string | undefined, signal: AbortSignal): Promise<WrittenArchive | WrittenLayout | undefined> {
  const progress = startProgress(label, plan.size);
  if (plan.writeDirectory !== undefined && !isStandardOutput(output) && (await isDirectory(output))) {
    return await plan.writeDirectory(output, (passed) => progress.update(passed, "")).finally(() => progress.stop());
  }
  let written = 0;
  async function* counted(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const bytes of plan.render((passed) => progress.update(passed, plan.outputSize === undefined ? `${formatBytes(written)} written` : ""))) {
      written += bytes.length;
      yield bytes;
    }
  }
  try {
    if (!(isStandardOutput(output) ? await writeAll(process.stdout, counted(), signal) : await writeFile(output, counted(), signal))) {
      process.exitCode = EXIT_READER_GONE;
      return undefined;
    }
  } finally {
    progress.stop();
  }
  return await plan.written();
}

/** Say what was written, where the archive itself is not. */
export function printWritten(result: object, { output, json }: OutputOptions): void {
  if (json === true) (isStandardOutput(output) ? process.stderr : process.stdout).write(`${JSON.stringify(result)}\n`);
}

async function isDirectory(path: string): Promise<boolean> {
  return path.endsWith("/") || (await stat(path).catch(() => undefined))?.isDirectory() === true;
}

function isStandardOutput(output: string | undefined): output is undefined | "-" {
  return output === undefined || output === "-";
}

/** False when it is a pipe, and its reader has gone. */
async function writeFile(path: string, source: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() === true) throw cannotWrite(path, "it is a directory");
  // What is no file, such as /dev/null or a pipe, stays what it is.
  if (found !== undefined && !found.isFile()) return await writeTo(path, "w", path, source, signal);
  await writeFileWhole(path, found === undefined ? path : await realpath(path), source, signal, found?.mode);
  return true;
}

export function parseNumber(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number)) throw new InvalidArgumentError("It is a whole number.");
  return number;
}

/** The file has its name only when everything is in it. */
async function writeFileWhole(path: string, target: string, source: AsyncIterable<Uint8Array>, signal: AbortSignal, mode?: number): Promise<void> {
  // No one else's, which a failure would remove.
  const temporary = `${target}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    await writeTo(temporary, "wx", path, source, signal);
    // What only its owner could read before is not for others now.
    if (mode !== undefined) await chmod(temporary, mode);
    await rename(temporary, target);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
}

/** @param name what a person calls it */
async function writeTo(path: string, flags: "w" | "wx", name: string, source: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<boolean> {
  const file = createWriteStream(path, { flags, highWaterMark: WRITE_AHEAD_BYTES });
  let failure: NodeJS.ErrnoException | undefined;
  file.on("error", (error) => (failure ??= error));
  try {
    await once(file, "open");
    if (!(await writeAll(file, source, signal))) return false;
    await new Promise<void>((resolve, reject) => file.end((error?: Error | null) => (error ? reject(error) : resolve())));
    return true;
  } catch (error) {
    if (failure === undefined || error !== failure) throw error;
    throw cannotWrite(name, failure.code === "ENOENT" ? `there is no directory ${JSON.stringify(dirname(path))}` : errorMessage(failure), failure);
  } finally {
    file.destroy();
  }
}

/** With the system's code, by which the command ends. */
function cannotWrite(path: string, why: string, cause?: NodeJS.ErrnoException): Error {
  return Object.assign(new Error(`Cannot write ${JSON.stringify(path)}: ${why}`, { cause }), cause?.code !== undefined && { code: cause.code });
}
