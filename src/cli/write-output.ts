/** Archives go to standard output, or to a file that appears when it is whole: rendered, hashed, compressed and hashed again in one pass. */
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { rename, unlink } from "node:fs/promises";
import { Option, type Command } from "commander";
import { toHex } from "../bytes/text-encoding.ts";
import type { Codec } from "../compression/codec.ts";
import { compress } from "../compression/compress.ts";
import { errorMessage } from "../errors.ts";
import { Sha256Tap } from "../hash/sha256.ts";
import { formatBytes, startProgress, writeAll } from "./output.ts";

export interface OutputOptions {
  readonly output?: string;
  readonly compression: Codec;
  readonly level?: number;
  readonly json?: boolean;
}

/** An archive on its way out. */
export interface Archive {
  /** What a person calls it. */
  readonly label: string;
  /** Bytes when it is all there; undefined when its parts are compressed, and no one knows. */
  readonly size: number | undefined;
  readonly bytes: AsyncIterable<Uint8Array>;
  /** How it is compressed as a whole. */
  readonly codec: Codec;
  readonly level: number | undefined;
}

/** What was written. */
export interface WrittenArchive {
  /** Bytes before compression as a whole. */
  readonly size: number;
  /** `sha256:…` before compression as a whole: a layer's diffID, when it is one. */
  readonly uncompressedDigest: string;
  readonly writtenBytes: number;
  /** `sha256:…` of what was written. */
  readonly digest: string;
}

const LEVELS = { gzip: [1, 9, 6], zstd: [-7, 19, 3] } as const;

/** `--output`, `--compression`, `--level`, `--json`. */
export function addOutputOptions(command: Command, codecs: readonly Codec[]): Command {
  return command
    .option("-o, --output <file>", "write to this file, which appears when it is whole")
    .addOption(new Option("--compression <codec>", "of the archive as a whole; of the layers in an OCI layout. On all processors").choices(codecs).default("none"))
    .option("--level <number>", "of compression: gzip 1 to 9 (6 unless given), zstd -7 to 19 (3 unless given)", Number)
    .option("--json", "print what was written as JSON: on standard output, or on standard error when the archive goes there");
}

/** The level that was asked for, or a sensible one. */
export function levelOf({ compression, level }: Pick<OutputOptions, "compression" | "level">): number | undefined {
  return level ?? (compression === "gzip" || compression === "zstd" ? LEVELS[compression][2] : undefined);
}

/** Refuse an archive on a terminal, and levels that there are not. */
export function checkOutput(command: Command, { output, compression, level }: OutputOptions): void {
  if (output === "") command.error("error: --output is followed by the name of a file", { exitCode: 2 });
  if (output === undefined && process.stdout.isTTY) command.error("error: an archive is not for a terminal; redirect it or give --output", { exitCode: 2 });
  checkLevel(command, { compression, level });
}

/** Refuse levels that there are not. */
export function checkLevel(command: Command, { compression, level }: Pick<OutputOptions, "compression"> & { readonly level?: number | undefined }): void {
  if (level === undefined) return;
  const [lowest, highest] = compression === "gzip" || compression === "zstd" ? LEVELS[compression] : [0, -1];
  if (lowest > highest) command.error(`error: --level goes with --compression gzip or zstd, not with ${compression}`, { exitCode: 2 });
  if (!Number.isInteger(level) || level < lowest || level > highest) command.error(`error: --level is ${lowest} to ${highest} for ${compression}`, { exitCode: 2 });
}

/** Write an archive to where it is to go, with progress. */
export async function writeArchive({ label, size, bytes, codec, level }: Archive, output: string | undefined, signal: AbortSignal): Promise<WrittenArchive> {
  const progress = startProgress(label, size);
  const archive = new Sha256Tap();
  const written = new Sha256Tap();
  async function* counted(): AsyncGenerator<Uint8Array, void, undefined> {
    for await (const piece of archive.through(bytes)) {
      progress.update(archive.size, codec === "none" ? "" : `${formatBytes(written.size)} written`);
      yield piece;
    }
  }
  const compressed = codec === "none" ? counted() : written.through(compress(counted(), codec, { signal, level }));
  try {
    if (output === undefined) await writeAll(process.stdout, compressed);
    else await writeFileWhole(output, compressed);
  } finally {
    progress.stop();
  }
  const uncompressedDigest = `sha256:${toHex(archive.digest())}`;
  if (codec === "none") return { size: archive.size, uncompressedDigest, writtenBytes: archive.size, digest: uncompressedDigest };
  return { size: archive.size, uncompressedDigest, writtenBytes: written.size, digest: `sha256:${toHex(written.digest())}` };
}

/** Say what was written, where the archive itself is not. */
export function printWritten(result: object, { output, json }: OutputOptions): void {
  if (json === true) (output === undefined ? process.stderr : process.stdout).write(`${JSON.stringify(result)}\n`);
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
