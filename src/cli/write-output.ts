/** Archives go to standard output, or to a file that appears when it is whole. */
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { rename, unlink } from "node:fs/promises";
import { InvalidArgumentError, Option, type Command } from "commander";
import { errorMessage } from "../errors.ts";
import type { ExportCodec, ExportOptions, PlannedExport, WrittenArchive } from "../image/plan-export.ts";
import { checkExportOptions } from "../image/plan-export.ts";
import { formatBytes, startProgress, writeAll } from "./output.ts";

/** What `addOutputOptions` adds. */
export interface OutputOptions {
  readonly output?: string;
  readonly compression: ExportCodec;
  readonly level?: number;
  readonly json?: boolean;
}

/** `--output`, `--compression`, `--level`, `--json`. */
export function addOutputOptions(command: Command, codecs: readonly ExportCodec[]): Command {
  return addCompressionOptions(command.option("-o, --output <file>", "write to this file, which appears when it is whole"), codecs).option(
    "--json",
    "print what was written as JSON: on standard output, or on standard error when the archive goes there",
  );
}

/** `--compression`, `--level`. */
export function addCompressionOptions(command: Command, codecs: readonly ExportCodec[]): Command {
  return command
    .addOption(new Option("--compression <codec>", "of the archive as a whole; of the layers in an OCI layout. On all processors").choices(codecs).default("none"))
    .option("--level <number>", "of compression: gzip 1 to 9 (6 unless given), zstd -7 to 19 (3 unless given)", parseNumber);
}

/** Refuse an archive on a terminal, and options that there are not. */
export function checkOutput(command: Command, options: OutputOptions & ExportOptions): void {
  if (options.output === "") command.error("error: --output is followed by the name of a file", { exitCode: 2 });
  if (options.output === undefined && process.stdout.isTTY) command.error("error: an archive is not for a terminal; redirect it or give --output", { exitCode: 2 });
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

/** Write an archive to where it is to go, with progress. */
export async function writeArchive(label: string, plan: PlannedExport, output: string | undefined): Promise<WrittenArchive> {
  const progress = startProgress(label, plan.size);
  let written = 0;
  async function* counted(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const bytes of plan.render((passed) => progress.update(passed, plan.outputSize === undefined ? `${formatBytes(written)} written` : ""))) {
      written += bytes.length;
      yield bytes;
    }
  }
  try {
    if (output === undefined) await writeAll(process.stdout, counted());
    else await writeFileWhole(output, counted());
  } finally {
    progress.stop();
  }
  return plan.written();
}

/** Say what was written, where the archive itself is not. */
export function printWritten(result: object, { output, json }: OutputOptions): void {
  if (json === true) (output === undefined ? process.stderr : process.stdout).write(`${JSON.stringify(result)}\n`);
}

export function parseNumber(text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number)) throw new InvalidArgumentError("It is a whole number.");
  return number;
}

/** The file has its name only when everything is in it. */
async function writeFileWhole(path: string, source: AsyncIterable<Uint8Array>): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  const file = createWriteStream(temporary, { flags: "wx" });
  try {
    await once(file, "open").catch((error: unknown) => {
      throw new Error(`Cannot write ${JSON.stringify(path)}: ${errorMessage(error)}`, { cause: error });
    });
    await writeAll(file, source);
    await new Promise<void>((resolve, reject) => file.end((error?: Error | null) => (error ? reject(error) : resolve())));
    await rename(temporary, path);
  } catch (error) {
    file.destroy();
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
}
